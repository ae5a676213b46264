# ruff: noqa: PT012  # where in a block the loss is met is what is tested
"""A database connection of MySQL or MariaDB dies: what each session hears, and what becomes of it."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor

import rdsproxy_lib
from rdsproxy_lib import BorrowTimeout, OutcomeUnknown, SessionLost, TransactionLost
from tests.pool.conftest import Call

from .conftest import ask, lives


def is_the_drivers(error: BaseException, code: int) -> None:
    """The error is one of PyMySQL's, with this code, by which frameworks know what to do."""
    assert isinstance(error, pymysql.err.OperationalError)
    assert error.args[0] == code


@pytest.mark.parametrize("autocommit", [True, False])
def test_parked_sessions_notice_nothing(proxy, kill, ids, autocommit):
    """A backend that dies while no session holds it is nobody's trouble, not even an INSERT's."""
    conn = proxy.connect(autocommit=autocommit)
    ask(conn, "select 1")
    conn.commit()
    kill(conn)
    ask(conn, "insert into items values (1)")
    conn.commit()
    assert ids() == [1]
    conn.close()


@pytest.mark.parametrize("first", ["commit", "rollback", "begin", "ping", "select_db", "autocommit", "show_warnings"])
def test_parked_sessions_notice_nothing_whatever_comes_first(proxy, kill, mysql_database, first):
    """Each method that talks to the server may be the first after the death of an idle backend."""
    conn = proxy.connect(autocommit=first != "autocommit")
    ask(conn, "select 1")
    conn.commit()
    kill(conn)
    arguments = {"select_db": (mysql_database,), "autocommit": (True,)}.get(first, ())
    getattr(conn, first)(*arguments)
    assert ask(conn, "select 2") == (2,)
    conn.rollback()
    conn.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_many_dead_backends_are_nobodys_trouble(proxy, kill, ids, autocommit):
    """All idle backends may have died: each is thrown away before a byte goes out."""
    conns = [proxy.connect(autocommit=autocommit) for _ in range(2)]
    for conn in conns:
        conn.begin()
        ask(conn, "select 1")
    for conn in conns:
        conn.rollback()
    for conn in conns:
        kill(conn)
    for number, conn in enumerate(conns):
        ask(conn, "insert into items values (%s)", number)
        conn.commit()
        conn.close()
    assert ids() == [0, 1]


def test_a_backend_that_dies_as_autocommit_is_switched(proxy, kill, ids, monkeypatch):
    """Nothing of the user's was sent yet when the session's own preparations meet the death: another one is taken."""
    first, second = proxy.connect(autocommit=False), proxy.connect(autocommit=True)
    ask(second, "select 1")
    monkeypatch.setattr("rdsproxy_lib.pool.FRESH", 0.0)
    engine = type(proxy.engine)
    alive = engine.is_alive
    killed: list[int] = []

    def kill_after_the_look(self: Any, backend: Any, idle_for: float) -> bool:
        answer = alive(self, backend, idle_for)
        if answer and not killed:
            killed.append(backend.identity)
            kill(backend.identity)
        return answer

    monkeypatch.setattr(engine, "is_alive", kill_after_the_look)
    ask(first, "insert into items values (1)")
    first.commit()
    assert killed
    assert ids() == [1]
    for conn in (first, second):
        conn.close()


def test_a_backend_that_dies_as_the_insert_id_is_carried_along(proxy, kill, ids, admin, monkeypatch):
    """The same where LAST_INSERT_ID() is set on the backend before an INSERT goes out."""
    ask(admin, "create table numbered (id int primary key auto_increment)")
    first, second = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    ask(first, "select last_insert_id()")
    ask(second, "insert into numbered values ()")
    monkeypatch.setattr("rdsproxy_lib.pool.FRESH", 0.0)
    engine = type(proxy.engine)
    alive = engine.is_alive
    killed: list[int] = []

    def kill_after_the_look(self: Any, backend: Any, idle_for: float) -> bool:
        answer = alive(self, backend, idle_for)
        if answer and not killed:
            killed.append(backend.identity)
            kill(backend.identity)
        return answer

    monkeypatch.setattr(engine, "is_alive", kill_after_the_look)
    ask(first, "insert into numbered values ()")
    assert killed
    assert ask(admin, "select count(*) from numbered") == (2,)
    lives(first, ids)
    for conn in (first, second):
        conn.close()


def test_the_insert_id_in_a_lost_transaction(proxy, kill, ids, admin):
    """In a transaction the death that is met while LAST_INSERT_ID() is set is the loss of the transaction."""
    ask(admin, "create table numbered (id int primary key auto_increment)")
    first, second = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    ask(first, "select last_insert_id()")
    ask(second, "insert into numbered values ()")
    first.begin()
    kill(first)
    with pytest.raises(TransactionLost) as caught:
        ask(first, "insert into numbered values ()")
    is_the_drivers(caught.value, 1213)
    first.rollback()
    lives(first, ids)
    for conn in (first, second):
        conn.close()


def test_a_write_that_was_cut_is_of_unknown_outcome(proxy, kill, ids, running):
    """Autocommit: the connection died before the server answered a write. It may have happened; the session lives."""
    conn = proxy.connect(autocommit=True)
    writing = Call(ask, conn, "insert into items select 1 from (select sleep(20)) as nap")
    kill(running("as nap"))
    error = writing.error()
    assert isinstance(error, OutcomeUnknown)
    is_the_drivers(error, 2013)
    assert isinstance(error.__cause__, pymysql.err.OperationalError)
    assert not error.retry_safe
    assert ids() == []
    lives(conn, ids)
    conn.close()


def test_a_read_that_was_cut_is_the_drivers_error(proxy, kill, ids, running):
    """Autocommit: a read changes nothing, so the driver's own error says enough; the session lives on."""
    conn = proxy.connect(autocommit=True)
    reading = Call(ask, conn, "select 'a long read', sleep(20)")
    kill(running("a long read"))
    error = reading.error()
    assert isinstance(error, pymysql.err.OperationalError)
    assert not isinstance(error, rdsproxy_lib.Error)
    lives(conn, ids)
    conn.close()


def test_a_query_that_was_killed_is_the_servers_error(proxy, admin, ids, running):
    """KILL QUERY ends the statement, not the session: an open transaction goes on."""
    conn = proxy.connect(autocommit=False)
    ask(conn, "insert into items values (1)")
    writing = Call(ask, conn, "insert into items select 2 from (select sleep(20)) as nap where 1 = 2 or sleep(20) = 0")
    number = running("as nap")
    ask(admin, f"kill query {number}")
    with contextlib.suppress(AssertionError):  # the server may end sleep() with a warning, not the statement
        is_the_drivers(writing.error(), 1317)
    assert conn.rdsproxy.in_transaction
    assert conn.rdsproxy.backend_id == number
    conn.commit()
    assert 1 in ids()
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("begin", ["autocommit off", "begin()", "START TRANSACTION"])
def test_a_transaction_that_was_cut_is_lost(proxy, kill, ids, begin):
    """Code 1213, until rollback(): the server undid it, and the session lives on."""
    conn = proxy.connect(autocommit=begin != "autocommit off")
    if begin == "begin()":
        conn.begin()
    elif begin != "autocommit off":
        ask(conn, begin)
    ask(conn, "insert into items values (1)")
    kill(conn)
    with pytest.raises(TransactionLost) as caught:
        ask(conn, "insert into items values (2)")
    is_the_drivers(caught.value, 1213)
    assert caught.value.retry_safe
    assert conn.open
    assert conn.rdsproxy.in_transaction
    for attempt in (
        lambda: ask(conn, "select 1"),
        conn.commit,
        conn.begin,
        conn.ping,
        lambda: conn.cursor().executemany("insert into items values (%s)", [(1,), (2,)]),
    ):
        with pytest.raises(TransactionLost):
            attempt()
    conn.rollback()
    assert ids() == []
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("text", ["rollback", "ROLLBACK WORK", "/* so be it */ rollback"])
def test_a_lost_transaction_ends_by_the_text_rollback(proxy, kill, ids, text):
    """Those who send ROLLBACK themselves acknowledge the loss by it."""
    conn = proxy.connect(autocommit=True)
    conn.begin()
    ask(conn, "insert into items values (1)")
    kill(conn)
    with pytest.raises(TransactionLost):
        ask(conn, "select 1")
    ask(conn, text)
    lives(conn, ids)
    conn.close()


def test_a_lost_savepoint_is_lost_with_its_transaction(proxy, kill, ids):
    """ROLLBACK TO SAVEPOINT is no acknowledgement: the savepoint is gone."""
    conn = proxy.connect(autocommit=True)
    conn.begin()
    ask(conn, "savepoint a")
    kill(conn)
    for _ in range(2):
        with pytest.raises(TransactionLost):
            ask(conn, "rollback to savepoint a")
    conn.rollback()
    lives(conn, ids)
    conn.close()


def test_a_savepoint_alone_that_no_status_shows(proxy, kill, ids):
    """With autocommit off a savepoint holds the backend, and its loss is told."""
    conn = proxy.connect(autocommit=False)
    ask(conn, "savepoint a")
    assert conn.rdsproxy.backend is not None
    kill(conn)
    with pytest.raises(TransactionLost):
        ask(conn, "insert into items values (1)")
    conn.rollback()
    lives(conn, ids)
    conn.close()


def test_characteristics_of_the_next_transaction_are_not_lost_silently(proxy, kill, ids):
    """SET TRANSACTION READ ONLY holds for the next transaction: its backend's death before that is told."""
    conn = proxy.connect(autocommit=True)
    ask(conn, "set transaction read only")
    assert conn.rdsproxy.backend is not None
    kill(conn)
    with pytest.raises(pymysql.err.OperationalError):
        ask(conn, "insert into items values (1)")
    assert ids() == []
    conn.rollback()
    conn.close()


@pytest.mark.parametrize("how", ["commit()", "COMMIT", "DDL", "BEGIN"])
def test_a_commit_that_was_cut_is_of_unknown_outcome(proxy, kill, ids, how):
    """Nobody can tell whether a COMMIT that got no answer happened; also where it is implicit."""
    conn = proxy.connect(autocommit=True)
    conn.begin()
    ask(conn, "insert into items values (1)")
    kill(conn)
    with pytest.raises(OutcomeUnknown) as caught:
        if how == "commit()":
            conn.commit()
        elif how == "BEGIN":
            conn.begin()
        else:
            ask(conn, {"COMMIT": "commit", "DDL": "create table other (id int)"}[how])
    is_the_drivers(caught.value, 2013)
    assert not caught.value.retry_safe
    if how == "BEGIN":
        conn.rollback()
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
@pytest.mark.parametrize("size", [0, 2, 6])
def test_a_commit_in_the_middle_of_whose_packets_the_network_ends(
    make_proxy, mysql_server, mysql_database, mysql_relay, ids, direction, size
):
    """Whether the server committed or never heard of it, the session is told that nobody knows, and lives on."""
    proxy = make_proxy(mysql_server.url(database=mysql_database, port=mysql_relay.port))
    conn = proxy.connect(autocommit=False)
    ask(conn, "insert into items values (1)")
    mysql_relay.cut_after(size, direction)
    with pytest.raises(OutcomeUnknown):
        conn.commit()
    time.sleep(0.05)
    assert ids() == ([1] if direction == "to_client" else [])
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("how", ["rollback()", "ROLLBACK"])
def test_a_rollback_that_was_cut_leaves_nothing_open(proxy, kill, ids, how):
    """The server undid the transaction either way."""
    conn = proxy.connect(autocommit=False)
    ask(conn, "insert into items values (1)")
    kill(conn)
    try:
        conn.rollback() if how == "rollback()" else ask(conn, "rollback")
    except pymysql.err.OperationalError:
        conn.rollback()
    assert ids() == []
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize(
    "pin",
    ["create temporary table mine (id int)", "set @mine = 1.5", "select get_lock('mine', 0)", "set timestamp = 1000"],
)
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_pinned_session_that_died_is_lost(proxy, kill, ids, autocommit, pin):
    """Its state is gone, and a silent new start would hide that: code 2013, and the session is closed."""
    conn = proxy.connect(autocommit=autocommit)
    ask(conn, pin)
    conn.commit()
    assert conn.rdsproxy.pinned
    reason = conn.rdsproxy.pin_reasons[0].name
    kill(conn)
    with pytest.raises(SessionLost) as caught:
        ask(conn, "select 1")
    is_the_drivers(caught.value, 2013)
    assert reason in str(caught.value)
    assert not conn.open
    for use in (lambda: ask(conn, "select 1"), conn.rollback, conn.commit, conn.begin, conn.ping):
        with pytest.raises(pymysql.err.Error):
            use()
    conn.close()
    occupancy = proxy.pool.occupancy()
    assert (occupancy.borrowed, occupancy.pinned) == (0, 0)


def test_a_lost_session_begins_anew(proxy, kill, ids):
    """connect() gives a lost session a new start, as it does for a connection of the driver."""
    conn = proxy.connect(autocommit=True)
    ask(conn, "set @mine = 1.5")
    kill(conn)
    with pytest.raises(SessionLost):
        ask(conn, "select 1")
    conn.connect()
    assert ask(conn, "select @mine") == (None,)
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("then", ["read on", "close", "another"])
def test_a_stream_that_was_cut(proxy, kill, ids, autocommit, then):
    """A stream whose backend died raises where it is read on, and the session lives on."""
    conn = proxy.connect(autocommit=autocommit)
    cursor = conn.cursor(SSCursor)
    cursor.execute("select a.column_name, repeat('x', 20000) from information_schema.columns a")
    assert cursor.fetchone()
    kill(conn)
    with pytest.raises(pymysql.err.OperationalError) as caught:
        if then == "read on":
            list(cursor)
        elif then == "close":
            cursor.close()
        else:
            with pytest.warns(UserWarning, match="unbuffered"):
                ask(conn, "select 1")
    if not autocommit:
        assert isinstance(caught.value, TransactionLost)
    conn.rollback()
    lives(conn, ids)
    conn.close()


def test_several_results_that_were_cut(make_proxy, kill, ids, running):
    """A text of several statements that died in the middle is of unknown outcome."""
    proxy = make_proxy()
    conn = proxy.connect(autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS)

    def several() -> None:
        with conn.cursor() as cursor:
            cursor.execute("insert into items values (1); select sleep(20); insert into items values (2)")
            while cursor.nextset():
                pass

    call = Call(several)
    kill(running("sleep(20)"))
    assert isinstance(call.error(), OutcomeUnknown)
    assert ids() == [1]
    lives(conn, ids)
    conn.close()


def test_executemany_that_was_cut_is_of_unknown_outcome(proxy, kill, ids, running):
    """Autocommit executemany may have done a part."""
    conn = proxy.connect(autocommit=True)
    call = Call(
        lambda: conn.cursor().executemany(
            "insert into items select %s from (select sleep(%s)) as nap", [(1, 0), (2, 20)]
        )
    )
    kill(running("sleep(20)"))
    assert isinstance(call.error(), OutcomeUnknown)
    assert ids() == [1]
    lives(conn, ids)
    conn.close()


def test_the_dead_are_replaced(proxy, kill, ids):
    """After any number of deaths the pool has its whole budget."""
    for _ in range(5):
        conn = proxy.connect(autocommit=False)
        ask(conn, "select * from items")
        kill(conn)
        with pytest.raises(TransactionLost):
            ask(conn, "select * from items")
        conn.close()
    conns = [proxy.connect(autocommit=False) for _ in range(2)]
    for conn in conns:
        ask(conn, "select * from items")
    assert proxy.stats().database_connections == 2
    for conn in conns:
        conn.close()
    assert proxy.stats().database_connections_currently_borrowed == 0


# -- the server as a whole


@pytest.mark.slow
def test_a_server_that_goes_and_comes_back(private_mysql_server):
    """Outage: connect() works, statements time out with the cause; restart: parked sessions notice nothing."""
    server = private_mysql_server
    with rdsproxy_lib.Proxy(server.url(), max_connections=2, connection_borrow_timeout=20) as proxy:
        parked, busy, pinned = (proxy.connect(autocommit=True) for _ in range(3))
        ask(parked, "create table kept (id int primary key)")
        busy.begin()
        ask(busy, "insert into kept values (1)")
        ask(pinned, "set @mine = 1.5")
        server.stop()
        quick = rdsproxy_lib.Proxy(server.url(), connection_borrow_timeout=0.3)
        begun = time.monotonic()
        late = quick.connect(autocommit=True)
        assert time.monotonic() - begun < 1
        begun = time.monotonic()
        with pytest.raises(BorrowTimeout) as caught:
            ask(late, "select 1")
        is_the_drivers(caught.value, 9501)
        assert caught.value.__cause__ is not None
        assert time.monotonic() - begun < 2
        server.start()
        assert ask(late, "select 1") == (1,)
        assert late.get_server_info()
        late.close()
        quick.close()
        with pytest.raises(TransactionLost):
            ask(busy, "insert into kept values (2)")
        with pytest.raises(SessionLost):
            ask(pinned, "select @mine")
        ask(parked, "insert into kept values (3)")
        busy.rollback()
        assert ask(busy, "select group_concat(id) from kept") == ("3",)
        for conn in (parked, busy, pinned):
            conn.close()


@pytest.mark.slow
def test_a_server_that_is_killed_and_frozen(private_mysql_server):
    """A crash is told as the loss it is; a frozen server costs no more than read_timeout and the borrow timeout."""
    server = private_mysql_server
    with rdsproxy_lib.Proxy(server.url(), max_connections=1, connection_borrow_timeout=1) as proxy:
        conn = proxy.connect(autocommit=True, read_timeout=0.4)
        ask(conn, "create table kept (id int primary key)")
        conn.begin()
        ask(conn, "insert into kept values (1)")
        server.kill()
        with pytest.raises(OutcomeUnknown):
            conn.commit()
        server.start()
        assert ask(conn, "select count(*) from kept") == (0,)
        server.freeze()
        try:
            begun = time.monotonic()
            with pytest.raises(OutcomeUnknown):
                ask(conn, "insert into kept values (2)")
            assert time.monotonic() - begun < 3
            begun = time.monotonic()
            with pytest.raises(BorrowTimeout) as caught:
                ask(conn, "select 1")
            is_the_drivers(caught.value, 9501)
            assert time.monotonic() - begun < 4
        finally:
            server.resume()
        assert ask(conn, "select 1") == (1,)
        conn.close()
        assert proxy.stats().database_connections <= 1
