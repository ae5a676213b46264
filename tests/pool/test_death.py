# ruff: noqa: PT012  # where in a block the loss is met, and how the block is left, is what is tested
"""A database connection dies: what each session hears, and what becomes of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import rdsproxy_lib
from rdsproxy_lib import OutcomeUnknown, SessionLost, TransactionLost

from .conftest import Call

KILL = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where pid = %s"
SUICIDE = "select pg_terminate_backend(pg_backend_pid())"


@pytest.fixture
def proxy(url: str) -> Iterator[rdsproxy_lib.Proxy]:
    """A proxy with two backends at most."""
    with rdsproxy_lib.Proxy(url, max_connections=2, connection_borrow_timeout=10) as proxy:
        yield proxy


@pytest.fixture
def admin(server: Any, database: str) -> Iterator[psycopg.Connection[Any]]:
    """A superuser who looks from outside."""
    with server.admin(database) as admin:
        admin.execute("create table items (id int primary key deferrable initially deferred)")
        admin.execute("alter table items owner to app")
        yield admin


@pytest.fixture
def kill(admin: psycopg.Connection[Any]) -> Callable[[Any], None]:
    """Ends the backend that a session used last, and waits for its end."""

    def kill(conn: Any) -> None:
        assert admin.execute(KILL, [conn.rdsproxy.backend_id]).fetchone() == (True,)

    return kill


@pytest.fixture
def ids(admin: psycopg.Connection[Any]) -> Callable[[], list[int]]:
    """What is committed in `items`, seen from outside."""
    return lambda: [id for (id,) in admin.execute("select id from items order by id")]


def lives(conn: Any, ids: Callable[[], list[int]]) -> None:
    """The session goes on: it is not closed, not broken, and its next transaction commits."""
    assert not conn.closed
    assert not conn.broken
    assert not conn.rdsproxy.in_transaction
    with conn.transaction():
        conn.execute("insert into items values (99)")
    conn.commit()
    assert 99 in ids()


@pytest.mark.parametrize("autocommit", [True, False])
def test_parked_sessions_notice_nothing(proxy, kill, ids, autocommit):
    """A backend that dies while no session holds it is nobody's trouble, not even an INSERT's."""
    conn = proxy.connect(autocommit=autocommit)
    conn.execute("select 1")
    conn.commit()
    kill(conn)
    conn.execute("insert into items values (1)")
    conn.commit()
    assert ids() == [1]
    conn.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_parked_sessions_of_many_dead_backends_notice_nothing(proxy, kill, ids, autocommit):
    """All idle backends may have died: each is thrown away before a byte goes out."""
    conns = [proxy.connect(autocommit=autocommit) for _ in range(2)]
    for conn in conns:
        conn.execute("begin" if autocommit else "select 1")
    for conn in conns:
        conn.rollback()
    for conn in conns:
        kill(conn)
    for number, conn in enumerate(conns):
        with conn.transaction():
            conn.execute("insert into items values (%s)", [number])
        conn.close()
    assert ids() == [0, 1]


def test_a_write_that_was_cut_is_of_unknown_outcome(proxy, ids):
    """Autocommit: the server died before it answered a write. It may have happened; the connection lives on."""
    conn = proxy.connect(autocommit=True)
    with pytest.raises(OutcomeUnknown) as caught:
        conn.execute(
            "with dead as (select pg_terminate_backend(pg_backend_pid())) insert into items select 1 from dead"
        )
    assert caught.value.sqlstate == "08007"
    assert isinstance(caught.value, psycopg.OperationalError)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert not caught.value.retry_safe
    assert ids() == []
    lives(conn, ids)
    conn.close()


def test_a_read_that_was_cut_is_the_drivers_error(proxy, ids, admin, eventually):
    """Autocommit: a read changes nothing, so the driver's own error says enough; the connection lives on."""
    conn = proxy.connect(autocommit=True)
    reading = Call(conn.execute, "select 1, 'a long read' from pg_sleep(30)")
    look = "select pid from pg_stat_activity where query like '%a long read%' and pid <> pg_backend_pid()"
    (pid,) = eventually(lambda: admin.execute(look).fetchone())
    admin.execute(KILL, [pid])
    error = reading.error()
    assert isinstance(error, psycopg.OperationalError)
    lives(conn, ids)
    conn.close()


def cut_in_transaction(conn: Any, kill: Callable[[Any], None]) -> Any:
    conn.execute("insert into items values (1)")
    kill(conn)
    with pytest.raises(TransactionLost) as caught:
        conn.execute("insert into items values (2)")
    return caught.value


@pytest.mark.parametrize("begin", [None, "begin"])
def test_a_transaction_that_was_cut_is_lost(proxy, kill, ids, begin):
    """SQLSTATE 40001, until rollback(): the server undid it, and the connection lives on."""
    conn = proxy.connect(autocommit=begin is not None)
    if begin:
        conn.execute(begin)
    error = cut_in_transaction(conn, kill)
    assert error.sqlstate == "40001"
    assert isinstance(error, psycopg.errors.SerializationFailure)
    assert error.retry_safe
    assert (conn.closed, conn.broken, conn.rdsproxy.in_transaction) == (False, False, True)
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    for attempt in (
        lambda: conn.execute("select 1"),
        conn.commit,
        lambda: conn.cursor().executemany("select %s", [[1]]),
    ):
        with pytest.raises(TransactionLost):
            attempt()
    conn.rollback()
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert ids() == []
    lives(conn, ids)
    conn.close()


def test_a_lost_transaction_ends_by_the_text_rollback(proxy, kill, ids):
    """Those who send ROLLBACK themselves acknowledge the loss by it."""
    conn = proxy.connect(autocommit=True)
    conn.execute("begin")
    cut_in_transaction(conn, kill)
    conn.execute("rollback")
    lives(conn, ids)
    conn.close()


def test_a_lost_transaction_ends_with_the_connection(proxy, kill, ids):
    """`with connection:` around a loss rolls back and closes, and the error passes."""
    with pytest.raises(TransactionLost), proxy.connect() as conn:
        conn.execute("insert into items values (1)")
        kill(conn)
        conn.execute("insert into items values (2)")
    assert conn.closed
    assert ids() == []
    assert proxy.stats().database_connections_currently_borrowed == 0


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_retry_loops_around_blocks_work(proxy, kill, ids, autocommit, depth):
    """A block whose backend died raises 40001 and leaves the session ready: the next block runs."""
    conn = proxy.connect(autocommit=autocommit)
    attempts = []

    def nested(depth: int) -> None:
        with conn.transaction():
            if depth > 1:
                nested(depth - 1)
                return
            conn.execute("insert into items values (1)")
            attempts.append(conn.rdsproxy.backend_id)
            if len(attempts) < 3:
                kill(conn)
            conn.execute("insert into items values (2)")

    for _ in range(3):
        try:
            nested(depth)
            break
        except psycopg.errors.SerializationFailure:
            assert not conn.rdsproxy.in_transaction
    assert len(attempts) == 3
    assert ids() == [1, 2]
    lives(conn, ids)
    conn.close()


def test_a_savepoint_block_inside_a_lost_transaction(proxy, kill, ids):
    """With the transaction gone its savepoint blocks are left in order; the outer transaction waits for rollback()."""
    conn = proxy.connect()
    conn.execute("insert into items values (1)")
    with pytest.raises(TransactionLost), conn.transaction():
        kill(conn)
        conn.execute("insert into items values (2)")
    assert conn.rdsproxy.in_transaction
    with pytest.raises(TransactionLost):
        conn.execute("select 1")
    conn.rollback()
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_an_error_swallowed_inside_a_block_does_not_hide_the_loss(proxy, kill, ids, autocommit):
    """A block that ends well on a transaction that was lost raises: nothing of it was committed."""
    conn = proxy.connect(autocommit=autocommit)
    with pytest.raises(TransactionLost), conn.transaction():
        conn.execute("insert into items values (1)")
        kill(conn)
        with contextlib.suppress(psycopg.Error):
            conn.execute("insert into items values (2)")
    assert ids() == []
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("force_rollback", [True, False])
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_block_that_rolls_back_does_not_care(proxy, kill, ids, autocommit, force_rollback):
    """A block that was to be rolled back anyway ends without an error, though its backend died."""
    conn = proxy.connect(autocommit=autocommit)
    with conn.transaction(force_rollback=force_rollback):
        conn.execute("insert into items values (1)")
        kill(conn)
        if not force_rollback:
            raise psycopg.Rollback()
    assert ids() == []
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("how", ["commit()", "COMMIT", "block"])
def test_a_commit_that_was_cut_is_of_unknown_outcome(proxy, kill, ids, how):
    """Nobody can tell whether a COMMIT that got no answer happened; nothing is open afterwards."""
    conn = proxy.connect(autocommit=how != "commit()")
    with pytest.raises(OutcomeUnknown) as caught:
        if how == "block":
            with conn.transaction():
                conn.execute("insert into items values (1)")
                kill(conn)
        elif how == "COMMIT":
            conn.execute("begin")
            conn.execute("insert into items values (1)")
            kill(conn)
            conn.execute("commit")
        else:
            conn.execute("insert into items values (1)")
            kill(conn)
            conn.commit()
    assert caught.value.sqlstate == "08007"
    assert not caught.value.retry_safe
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("how", ["rollback()", "ROLLBACK"])
def test_a_rollback_that_was_cut_leaves_nothing_open(proxy, kill, ids, how):
    """The server undid the transaction either way."""
    conn = proxy.connect()
    conn.execute("insert into items values (1)")
    kill(conn)
    try:
        conn.rollback() if how == "rollback()" else conn.execute("rollback")
    except TransactionLost:
        conn.rollback()
    assert ids() == []
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_pinned_session_that_died_is_lost(proxy, kill, ids, autocommit):
    """Its temporary table is gone, and a silent new start would hide that: SQLSTATE 08006, closed and broken."""
    conn = proxy.connect(autocommit=autocommit)
    conn.execute("create temp table mine (id int)")
    conn.commit()
    assert conn.rdsproxy.pinned
    kill(conn)
    with pytest.raises(SessionLost) as caught:
        conn.execute("select * from mine")
    assert caught.value.sqlstate == "08006"
    assert "TEMP_TABLE" in str(caught.value)
    assert (conn.closed, conn.broken) == (True, True)
    for use in (lambda: conn.execute("select 1"), conn.rollback, conn.commit, conn.cursor):
        with pytest.raises(psycopg.OperationalError):
            use()
    conn.close()
    assert proxy.stats().database_connections_currently_session_pinned == 0


def test_a_pinned_session_that_died_in_a_block_is_lost(proxy, kill, ids):
    """The block passes the loss on, and the session stays lost."""
    conn = proxy.connect()
    with pytest.raises(SessionLost), conn.transaction():
        conn.execute("create temp table mine (id int)")
        kill(conn)
        conn.execute("insert into mine values (1)")
    assert (conn.closed, conn.broken) == (True, True)
    conn.close()


def test_a_pipeline_that_was_cut_is_of_unknown_outcome(proxy, kill, ids):
    """In a pipeline nobody can tell which statements had happened; the session lives on after it."""
    conn = proxy.connect(autocommit=True)
    with pytest.raises(psycopg.OperationalError) as caught, conn.pipeline() as pipeline:
        conn.execute("insert into items values (1)")
        pipeline.sync()
        kill(conn)
        conn.execute("insert into items values (2)")
        pipeline.sync()
    assert isinstance(caught.value, rdsproxy_lib.OutcomeUnknown)
    assert ids() == [1]
    lives(conn, ids)
    conn.close()


def test_a_pipeline_in_a_transaction_that_was_cut(proxy, kill, ids):
    """After the loss the session waits for rollback(), or is ready; it is never stuck, and nothing is committed."""
    conn = proxy.connect()
    with pytest.raises((TransactionLost, OutcomeUnknown)), conn.pipeline() as pipeline:
        conn.execute("insert into items values (1)")
        pipeline.sync()
        kill(conn)
        conn.execute("insert into items values (2)")
        pipeline.sync()
    assert not conn.closed
    conn.rollback()
    assert ids() == []
    lives(conn, ids)
    conn.close()


def test_a_transaction_block_in_a_pipeline_that_was_cut(proxy, kill, ids):
    """Blocks and pipelines are left in order, and the session lives on."""
    conn = proxy.connect(autocommit=True)
    with pytest.raises((TransactionLost, OutcomeUnknown)), conn.pipeline() as pipeline, conn.transaction():
        conn.execute("insert into items values (1)")
        pipeline.sync()
        kill(conn)
        conn.execute("insert into items values (2)")
        pipeline.sync()
    if conn.rdsproxy.in_transaction:
        conn.rollback()
    assert ids() == []
    lives(conn, ids)
    conn.close()


def test_executemany_that_was_cut_is_of_unknown_outcome(proxy, ids):
    """Autocommit executemany may have done a part."""
    conn = proxy.connect(autocommit=True)
    with pytest.raises(OutcomeUnknown):
        conn.cursor().executemany(
            "insert into items select %s where case when %s then pg_terminate_backend(pg_backend_pid()) else true end",
            [(1, False), (2, True), (3, False)],
        )
    lives(conn, ids)
    conn.close()


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_stream_that_was_cut(proxy, kill, ids, autocommit):
    """A server-side stream that died raises, and the session lives on."""
    conn = proxy.connect(autocommit=autocommit)
    with pytest.raises(psycopg.OperationalError):
        for row in conn.cursor().stream("select generate_series(1, 1000000)"):
            if row == (10,):
                kill(conn)
    if conn.rdsproxy.in_transaction:
        conn.rollback()
    lives(conn, ids)
    conn.close()


def test_a_stream_outside_of_a_transaction_that_was_cut(proxy, kill, ids):
    """It has the driver's own error, and there is nothing to roll back; inside of one the transaction is lost."""
    conn = proxy.connect(autocommit=True)
    for is_open in (False, True):
        if is_open:
            conn.execute("begin")
        with pytest.raises(psycopg.OperationalError) as caught:
            for row in conn.cursor().stream("select generate_series(1, 1000000)"):
                if row == (10,):
                    kill(conn)
        assert isinstance(caught.value, TransactionLost) == is_open
        if is_open:
            conn.execute("rollback")
        assert not conn.rdsproxy.in_transaction
        assert conn.execute("select 1").fetchone() == (1,)
    lives(conn, ids)
    conn.close()


def test_a_copy_by_itself_whose_end_was_cut(server, database, relay, ids):
    """The server has committed it, and nobody heard: the outcome is unknown, not that of a lost transaction."""
    with (
        rdsproxy_lib.Proxy(server.url(dbname=database, port=relay.port)) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        with pytest.raises(OutcomeUnknown), conn.cursor() as cursor, cursor.copy("copy items from stdin") as copy:
            copy.write_row([1])
            relay.cut_after(0, "to_client")
        deadline = time.monotonic() + 5
        while not ids():
            assert time.monotonic() < deadline
        assert conn.execute("select id from items").fetchall() == [(1,)]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_copy_that_was_cut(proxy, kill, ids, autocommit):
    """A COPY into a table that died raises, and the session lives on."""
    conn = proxy.connect(autocommit=autocommit)
    with pytest.raises(psycopg.OperationalError), conn.cursor() as cursor, cursor.copy("copy items from stdin") as copy:
        copy.write_row([1])
        kill(conn)
        for number in range(2, 200_000):
            copy.write_row([number])
    if conn.rdsproxy.in_transaction:
        conn.rollback()
    assert ids() == []
    lives(conn, ids)
    conn.close()


def test_two_phase_commit_whose_backend_died(proxy, kill, ids, admin):
    """A prepared transaction survives its backend; the answer to PREPARE that was cut is unknown."""
    conn = proxy.connect()
    conn.tpc_begin("one")
    conn.execute("insert into items values (1)")
    kill(conn)
    with pytest.raises((TransactionLost, OutcomeUnknown)):
        conn.tpc_prepare()
    if conn.rdsproxy.in_transaction:
        conn.rollback()
    lives(conn, ids)
    conn.close()


def test_the_dead_are_replaced(proxy, kill, ids):
    """After any number of deaths the pool has its whole budget."""
    for _ in range(5):
        conn = proxy.connect()
        cut_in_transaction(conn, kill)
        conn.close()
    conns = [proxy.connect() for _ in range(2)]
    for conn in conns:
        conn.execute("select 1")
    assert proxy.stats().database_connections == 2
    for conn in conns:
        conn.close()
