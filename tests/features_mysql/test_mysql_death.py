"""What a session notices of the death of its database connection, and of the limits of the proxy."""

from __future__ import annotations

import gc
import os
import threading
import time

import pymysql
import pytest
from pymysql.cursors import SSCursor

from rdsproxy_lib import errors
from tests.mysql_servers import ConnectionSampler, connection_count


def code(caught):
    assert isinstance(caught.value, pymysql.err.OperationalError)
    return caught.value.args[0]


# Idle -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False])
def test_death_while_parked_is_not_noticed(shared, rows, kill, names, autocommit):
    """KILL of the backend that a session used last, while nothing is open: the next statement runs on another."""
    conn = shared(autocommit=autocommit)
    for number in range(3):
        rows(conn, "insert into feature_items values (%s, 'a')", (number,))
        conn.commit()
        kill(conn.rdsproxy.backend_id)
        assert conn.open
    assert names() == ["a"] * 3


def test_death_of_all_backends(shared, rows, kill):
    """All idle backends killed at once: every session goes on."""
    conns = [shared() for _ in range(6)]
    for conn in conns:
        rows(conn, "select * from feature_items")
        conn.commit()
    for backend in list(shared.proxy.pool._idle):
        kill(backend.identity)
    for conn in conns:
        assert rows(conn, "select 1") == ((1,),)


@pytest.mark.parametrize("act", ["commit", "rollback", "ping", "begin", "close", "autocommit", "show_warnings"])
def test_methods_after_a_death_while_parked(shared, rows, kill, act):
    """Each method works after the backend died unnoticed."""
    conn = shared()
    rows(conn, "select 1")
    kill(conn.rdsproxy.backend_id)
    getattr(conn, act)(*([True] if act == "autocommit" else []))
    if act != "close":
        assert rows(conn, "select 1") == ((1,),)


# In a transaction -------------------------------------------------------------------------------------------------


def test_death_in_a_transaction(shared, rows, kill, names):
    """TransactionLost, code 1213, from each statement until rollback(); then the session goes on."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    kill(conn.rdsproxy.backend_id)
    for _ in range(3):
        with pytest.raises(errors.TransactionLost) as caught:
            rows(conn, "insert into feature_items values (2, 'b')")
        assert code(caught) == 1213
        assert conn.rdsproxy.in_transaction
        assert conn.open
    assert conn.rollback() is None
    assert not conn.rdsproxy.in_transaction
    assert names() == []
    rows(conn, "insert into feature_items values (3, 'c')")
    conn.commit()
    assert names() == ["c"]


@pytest.mark.parametrize(
    "act",
    [
        "execute",
        "select",
        "commit",
        "begin",
        "ping",
        "autocommit",
        "select_db",
        "show_warnings",
        "callproc",
        "executemany",
        "set_character_set",
        "savepoint",
        "commit text",
        "ddl",
        "set autocommit",
    ],
)
def test_each_method_in_a_lost_transaction(shared, rows, kill, names, act):
    """In a lost transaction every method but rollback() and close() raises, and nothing of it happens."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    kill(conn.rdsproxy.backend_id)
    with pytest.raises(errors.TransactionLost):
        rows(conn, "select * from feature_items")
    acts = {
        "execute": lambda: rows(conn, "insert into feature_items values (2, 'b')"),
        "select": lambda: rows(conn, "select 1"),
        "autocommit": lambda: conn.autocommit(True),
        "select_db": lambda: conn.select_db("test_features_other"),
        "callproc": lambda: conn.cursor().callproc("feature_rows"),
        "executemany": lambda: conn.cursor().executemany("insert into feature_items values (%s, %s)", [(5, "a")]),
        "set_character_set": lambda: conn.set_character_set("latin1"),
        "savepoint": lambda: rows(conn, "savepoint s"),
        "commit text": lambda: rows(conn, "commit"),
        "ddl": lambda: rows(conn, "create table feature_never (a int)"),
        "set autocommit": lambda: rows(conn, "set autocommit = 1"),
    }
    with pytest.raises(errors.TransactionLost) as caught:
        acts.get(act, lambda: getattr(conn, act)())()
    assert code(caught) == 1213
    assert names() == []
    conn.rollback()
    assert rows(conn, "select 1") == ((1,),)
    assert conn.get_autocommit() is False


def test_ping_reconnects_in_a_lost_transaction(shared, rows, kill):
    """ping(reconnect=True) in a lost transaction begins a new session, as the driver does after any failed ping."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    kill(conn.rdsproxy.backend_id)
    with pytest.warns(DeprecationWarning, match="reconnect"):
        conn.ping(True)
    assert not conn.rdsproxy.in_transaction
    assert rows(conn, "select * from feature_items") == ()
    conn.rollback()


@pytest.mark.parametrize("text", ["rollback", "ROLLBACK WORK", "/* x */ rollback", "rollback and no chain"])
def test_rollback_by_statement_ends_a_lost_transaction(shared, rows, kill, text):
    """ROLLBACK as a statement acknowledges a lost transaction too."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    kill(conn.rdsproxy.backend_id)
    with pytest.raises(errors.TransactionLost):
        rows(conn, "select * from feature_items")
    rows(conn, text)
    assert rows(conn, "select * from feature_items") == ()
    conn.rollback()


@pytest.mark.parametrize("how", ["method", "text"])
def test_rollback_as_the_first_to_notice(shared, rows, kill, names, how):
    """rollback() of a transaction whose backend died unnoticed is quiet: what was to be undone is undone."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    kill(conn.rdsproxy.backend_id)
    if how == "method":
        conn.rollback()
    else:
        rows(conn, "rollback")
    assert not conn.rdsproxy.in_transaction
    rows(conn, "insert into feature_items values (2, 'b')")
    conn.commit()
    assert names() == ["b"]


@pytest.mark.parametrize("how", ["method", "text", "and chain", "autocommit", "ddl", "begin"])
def test_commit_as_the_first_to_notice(shared, rows, kill, names, how):
    """commit() of a transaction whose backend died: OutcomeUnknown, 2013, for the server may have committed."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    kill(conn.rdsproxy.backend_id)
    acts = {
        "method": conn.commit,
        "text": lambda: rows(conn, "commit"),
        "and chain": lambda: rows(conn, "commit and chain"),
        "autocommit": lambda: conn.autocommit(True),
        "ddl": lambda: rows(conn, "drop table if exists feature_never"),
        "begin": conn.begin,
    }
    with pytest.raises((errors.OutcomeUnknown, errors.TransactionLost)) as caught:
        acts[how]()
    assert code(caught) in (2013, 1213)
    if how in ("method", "text"):
        assert isinstance(caught.value, errors.OutcomeUnknown)
    conn.rollback()
    assert names() == []
    assert rows(conn, "select 1") == ((1,),)


def test_death_after_a_select_only(shared, rows, kill):
    """A transaction that only read is lost too: its snapshot is gone."""
    conn = shared()
    rows(conn, "select * from feature_items")
    kill(conn.rdsproxy.backend_id)
    with pytest.raises(errors.TransactionLost):
        rows(conn, "select * from feature_items")
    conn.rollback()


def test_death_after_a_savepoint_only(shared, rows, kill):
    """A transaction that only has a savepoint is lost too."""
    conn = shared()
    rows(conn, "savepoint s1")
    kill(conn.rdsproxy.backend_id)
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "rollback to s1")
    assert code(caught) == 1213
    conn.rollback()


def test_death_in_the_middle_of_a_statement(shared, rows, root, running, names):
    """KILL while a statement of a transaction runs: TransactionLost."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    seen = in_thread(lambda: rows(conn, "select sleep(10) as in_the_middle"))
    root(f"kill {running('in_the_middle')}")
    error = seen()
    assert isinstance(error, errors.TransactionLost)
    assert error.args[0] == 1213
    conn.rollback()
    assert names() == []


def in_thread(work):
    seen = []

    def run():
        try:
            seen.append(work())
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait():
        thread.join(10)
        assert not thread.is_alive()
        return seen[0]

    return wait


# Under autocommit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("insert into feature_items select 1, sleep(10)", errors.OutcomeUnknown),
        ("update feature_items set name = sleep(10)", errors.OutcomeUnknown),
        ("do sleep(10)", (errors.OutcomeUnknown, pymysql.err.OperationalError)),
        ("select sleep(10)", pymysql.err.OperationalError),
    ],
)
def test_death_of_a_write_in_flight(shared, rows, root, running, text, kind):
    """An autocommitted write in flight may have happened: OutcomeUnknown, 2013. A read has the driver's error."""
    root("insert into feature_items values (7, 'a')")
    conn = shared(autocommit=True)
    seen = in_thread(lambda: rows(conn, text))
    root(f"kill {running('sleep(10)')}")
    error = seen()
    assert isinstance(error, kind)
    assert error.args[0] in (2013, 1317, 1927, 3169) if text.startswith(("select", "do")) else error.args[0] == 2013
    assert not conn.rdsproxy.in_transaction
    assert rows(conn, "select 1") == ((1,),)


def test_no_write_is_repeated(shared, numbered, rows, root, running):
    """After OutcomeUnknown the statement was run at most once: MySQL goes on after the sleep that KILL cut short."""
    conn = shared(autocommit=True)
    for number in range(3):
        seen = in_thread(lambda: rows(conn, "insert into feature_numbered (name) select concat('x', sleep(10))"))
        root(f"kill {running('sleep(10)')}")
        assert isinstance(seen(), errors.OutcomeUnknown)
        assert root("select count(*) from feature_numbered")[0][0] <= number + 1


# Pinned -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False])
def test_death_of_a_pinned_session(shared, rows, kill, autocommit):
    """SessionLost, 2013, finally: also rollback() raises; open is False; close() works."""
    shared.may_pin("USER_VARIABLE")
    conn = shared(autocommit=autocommit)
    rows(conn, "set @a = 1.5")
    kill(conn.rdsproxy.backend_id)
    for _ in range(2):
        with pytest.raises(errors.SessionLost) as caught:
            rows(conn, "select @a")
        assert code(caught) == 2013
        assert not conn.open
    with pytest.raises(errors.SessionLost):
        conn.rollback()
    with pytest.raises(errors.SessionLost):
        conn.ping()
    conn.close()
    assert shared.proxy.stats().database_connections_currently_session_pinned == 0


def test_ping_reconnects_a_lost_session(shared, rows, kill):
    """ping(reconnect=True) of a lost session begins a new one, without what pinned it."""
    conn = shared(autocommit=True)
    rows(conn, "set @a = 1.5")
    kill(conn.rdsproxy.backend_id)
    with pytest.raises(errors.SessionLost):
        rows(conn, "select @a")
    with pytest.warns(DeprecationWarning, match="reconnect"):
        conn.ping(reconnect=True)
    assert conn.open
    assert not conn.rdsproxy.pinned
    assert rows(conn, "select @a") == ((None,),)


def test_ping_reconnects_an_unnoticed_loss(shared, rows, kill):
    """ping(reconnect=True) that meets the death of a pinned session itself begins a new one."""
    conn = shared(autocommit=True)
    rows(conn, "set @a = 1.5")
    kill(conn.rdsproxy.backend_id)
    with pytest.warns(DeprecationWarning, match="reconnect"):
        conn.ping(reconnect=True)
    assert rows(conn, "select @a") == ((None,),)


def test_connect_after_a_loss(shared, rows, kill):
    """connect() of a lost session begins a new one."""
    conn = shared(autocommit=True)
    rows(conn, "set @a = 1.5")
    kill(conn.rdsproxy.backend_id)
    with pytest.raises(errors.SessionLost):
        rows(conn, "select @a")
    conn.connect()
    assert rows(conn, "select @a") == ((None,),)


def test_a_user_kills_itself(connect, rows):
    """KILL CONNECTION_ID() ends a private connection; of ours only the database connection."""
    conn = connect(autocommit=True)

    def kill_and_look():
        rows(conn, "kill connection_id()")
        rows(conn, "select 1")

    with pytest.raises(pymysql.err.OperationalError):
        kill_and_look()
    if not connect.is_private:
        assert rows(conn, "select 1") == ((1,),)


# Streams ----------------------------------------------------------------------------------------------------------

BIG = (
    "select repeat('x', 60000) from information_schema.collations a, information_schema.collations b,"
    " information_schema.collations c limit 2000"
)


@pytest.mark.parametrize("autocommit", [True, False])
def test_death_amid_a_stream(shared, rows, kill, autocommit):
    """KILL amid a stream: the fetch that meets it raises, and the next statement is not disturbed by what was left."""
    conn = shared(autocommit=autocommit)
    cursor = conn.cursor(SSCursor)
    cursor.execute(BIG)
    cursor.fetchone()
    kill(conn.rdsproxy.backend_id)
    with pytest.raises(pymysql.err.OperationalError) as caught:
        cursor.fetchall()
    assert code(caught) in (2013, 1213)
    conn.rollback()
    assert rows(conn, "select 'next'") == (("next",),)
    cursor.close()
    del cursor
    gc.collect()
    assert rows(conn, "select 'next'") == (("next",),)
    conn.rollback()


@pytest.mark.filterwarnings("ignore:Previous unbuffered")
@pytest.mark.parametrize("autocommit", [True, False])
def test_death_amid_a_stream_met_by_another_statement(shared, rows, kill, autocommit):
    """KILL amid a stream that nobody reads on: the next statement raises once at most, and then the session goes on."""
    conn = shared(autocommit=autocommit)
    cursor = conn.cursor(SSCursor)
    cursor.execute(BIG)
    cursor.fetchone()
    kill(conn.rdsproxy.backend_id)
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "select 'other'")
    assert code(caught) in (2013, 1213, 2006)
    conn.rollback()
    assert rows(conn, "select 'next'") == (("next",),)
    conn.rollback()
    cursor.close()


def test_death_amid_several_results(shared, rows, kill, root, running):
    """KILL between the results of one text."""
    conn = shared(autocommit=True, client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS)
    cursor = conn.cursor()
    cursor.execute("select 1; select sleep(10) as second_one; select 3")
    root(f"kill {running('second_one')}")
    with pytest.raises(pymysql.err.OperationalError):
        cursor.nextset()
    assert rows(conn, "select 'next'") == (("next",),)


# The server as a whole --------------------------------------------------------------------------------------------


def test_read_timeout_in_a_transaction(shared, rows, names):
    """read_timeout in a transaction: TransactionLost, until rollback()."""
    conn = shared(read_timeout=0.2)
    rows(conn, "insert into feature_items values (1, 'a')")
    with pytest.raises(errors.TransactionLost):
        rows(conn, "select sleep(0.4)")
    conn.rollback()
    rows(conn, "insert into feature_items values (2, 'b')")
    conn.commit()
    assert names() == ["b"]


def test_wait_timeout_of_the_server(shared, rows, root, eventually):
    """A backend that the server closed for being idle is replaced unseen; a transaction that it held is lost."""
    parked, busy = (shared(init_command="set wait_timeout = 1") for _ in range(2))
    rows(busy, "insert into feature_items values (1, 'a')")
    rows(parked, "select 1")
    numbers = parked.rdsproxy.backend_id, busy.rdsproxy.backend_id
    assert numbers[0] != numbers[1]
    eventually(lambda: not root("select 1 from information_schema.processlist where id in %s", (numbers,)))
    assert rows(parked, "select 2") == ((2,),)
    assert parked.rdsproxy.backend_id not in numbers
    with pytest.raises(errors.TransactionLost):
        rows(busy, "select 2")
    busy.rollback()
    assert rows(busy, "select 2") == ((2,),)


# Limits -----------------------------------------------------------------------------------------------------------


def test_never_more_than_the_limit(features, clean, shared, rows):
    """Forty sessions in ten threads never have more database connections at the server than max_connections."""
    limit = 2 if shared.kind == "multiplexed" else 3
    failures = []

    def work():
        try:
            conns = [shared.proxy.connect() for _ in range(4)]
            for _ in range(3):
                for conn in conns:
                    rows(conn, "select * from feature_items")
                    conn.commit()
            for conn in conns:
                conn.close()
        except BaseException as error:
            failures.append(error)

    with ConnectionSampler(features.server, database="test_features") as sampler:
        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert sampler.most <= limit


def test_borrow_timeout(shared, rows):
    """With all backends in transactions, one more statement waits and gives up with 9501; then it works."""
    proxy = shared.make_proxy(max_connections=1, connection_borrow_timeout=0.2)
    holder, conn = proxy.connect(), proxy.connect()
    rows(holder, "select * from feature_items")
    started = time.monotonic()
    with pytest.raises(errors.BorrowTimeout) as caught:
        rows(conn, "select 1")
    assert code(caught) == 9501
    assert time.monotonic() - started < 2
    holder.rollback()
    assert rows(conn, "select 1") == ((1,),)
    holder.close()
    conn.close()


def test_pin_refused(shared, rows):
    """Over max_pinned_percent a pin is refused before anything is sent."""
    proxy = shared.make_proxy(max_connections=2, max_pinned_percent=50)
    one, two = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    rows(one, "create temporary table refused (a int)")
    with pytest.raises(errors.PinRefused) as caught:
        rows(two, "create temporary table refused (b int)")
    assert code(caught) == 1105
    one.close()
    rows(two, "create temporary table refused (b int)")
    two.close()


def test_closed_proxy(shared, rows):
    """A session of a closed proxy: an open transaction may end; then ProxyClosed, 2006."""
    proxy = shared.make_proxy()
    conn, busy = proxy.connect(), proxy.connect()
    rows(busy, "insert into feature_items values (1, 'a')")
    proxy.close()
    with pytest.raises(errors.ProxyClosed) as caught:
        rows(conn, "select 1")
    assert code(caught) == 2006
    with pytest.raises(errors.ProxyClosed):
        proxy.connect()
    rows(busy, "select 1")
    busy.commit()
    with pytest.raises(errors.ProxyClosed):
        rows(busy, "select 1")
    conn.close()
    busy.close()


def test_proxy_close_ends_the_connections(features, clean, rows, eventually):
    """close() of the proxy closes what is idle at the server."""
    import rdsproxy_lib

    with features.server.admin() as admin, admin.cursor() as cursor:
        cursor.execute("create database if not exists test_features_closing")
    proxy = rdsproxy_lib.Proxy(features.url(database="test_features_closing"), max_connections=3)
    conns = [proxy.connect() for _ in range(3)]
    for conn in conns:
        conn.begin()
    for conn in conns:
        conn.rollback()
    assert connection_count(features.server, database="test_features_closing") == 3
    proxy.close()
    eventually(lambda: connection_count(features.server, database="test_features_closing") == 0)


def test_idle_client_timeout(shared, rows, names):
    """A session idle for too long in a transaction is closed when another one needs its backend."""
    proxy = shared.make_proxy(max_connections=1, idle_client_timeout=0.2, connection_borrow_timeout=8)
    idle, conn = proxy.connect(), proxy.connect()
    rows(idle, "insert into feature_items values (1, 'a')")
    threading.Event().wait(0.25)
    conn = proxy.connect()
    assert rows(conn, "select * from feature_items") == ()
    conn.close()
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(idle, "select 1")
    assert code(caught) == 4031  # the server's own, of a connection it closed for being idle
    assert not idle.open


def test_connection_max_lifetime(shared, rows):
    """After connection_max_lifetime a backend is replaced, between transactions."""
    proxy = shared.make_proxy(max_connections=1, connection_max_lifetime=0.2)
    conn = proxy.connect(autocommit=True)
    rows(conn, "select 1")
    first = conn.rdsproxy.backend_id
    threading.Event().wait(0.25)
    rows(conn, "select 1")
    assert conn.rdsproxy.backend_id != first
    conn.close()


def test_fork(features, clean, rows):
    """In a forked child a parent's session raises SessionLost and a new one works; the parent is not disturbed."""
    import rdsproxy_lib

    with rdsproxy_lib.Proxy(features.url(), max_connections=2) as proxy:
        conn, idle = proxy.connect(), proxy.connect()
        rows(conn, "insert into feature_items values (1, 'a')")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for parents in (conn, idle):
                    for act in (lambda c=parents: rows(c, "select 1"), parents.commit):
                        try:
                            act()
                            os._exit(2)
                        except errors.SessionLost:
                            pass
                own = proxy.connect()
                if rows(own, "select count(*) from feature_items") != ((0,),):
                    os._exit(3)
                own.close()
                conn.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert rows(conn, "select name from feature_items") == (("a",),)
        conn.commit()
        assert rows(idle, "select 1") == ((1,),)
        conn.close()
        idle.close()


def test_stats(shared, rows):
    """stats() counts sessions, statements, borrows, pins and resets."""
    conn, other = shared(), shared()
    rows(conn, "select * from feature_items")
    stats = shared.proxy.stats()
    assert stats.client_connections == 2
    assert stats.database_connections_currently_borrowed == 1
    assert stats.database_connections_currently_in_transaction == 1
    conn.rollback()
    rows(other, "set @a = 1.5")
    stats = shared.proxy.stats()
    assert stats.database_connections_currently_session_pinned == 1
    assert dict(stats.pins) == {"USER_VARIABLE": 1}
    other.close()
    stats = shared.proxy.stats()
    assert stats.resets == 1
    assert stats.client_connections == 1
    assert stats.query_requests >= 3
