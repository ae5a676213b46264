"""Transactions, on private and on multiplexed connections."""

from __future__ import annotations

import contextlib
import threading

import pymysql
import pytest

from rdsproxy_lib import errors

ACTIVE = 1
"""The bit of the status word for an open transaction."""


def backend_of(conn):
    return conn.rdsproxy.backend_id


def is_parked(connect, *conns):
    """Whether none of these holds a backend; of a private one it is not asked."""
    return connect.is_private or all(
        conn.rdsproxy._lock is not None and conn.rdsproxy.backend is None for conn in conns
    )


def is_held(connect, conn):
    return connect.is_private or conn.rdsproxy.backend is not None


# Autocommit -------------------------------------------------------------------------------------------------------


def test_autocommit_off_is_the_default(connect, rows, names, rival):
    """What is written becomes visible to others at commit and not before."""
    conn = connect()
    assert conn.get_autocommit() is False
    for number in range(3):
        rows(conn, "insert into feature_items values (%s, 'a')", (number,))
        assert len(names()) == number
        conn.commit()
        rival(conn)
    assert names() == ["a", "a", "a"]


def test_autocommit_on_commits_each_statement(connect, rows, names, rival):
    """With autocommit each statement is visible at once, and no backend stays with the session."""
    conn = connect(autocommit=True)
    for number in range(3):
        rows(conn, "insert into feature_items values (%s, 'a')", (number,))
        assert len(names()) == number + 1
        assert is_parked(connect, conn)
        rival(conn)


def test_autocommit_none_is_the_servers(connect, rows):
    """autocommit=None leaves the server's default, which is on."""
    conn = connect(autocommit=None)
    assert conn.get_autocommit() is True
    assert rows(conn, "select @@autocommit") == ((1,),)


def test_two_sessions_of_different_modes(connect, rows, names, rival):
    """Sessions with autocommit on and off that share backends each have their own mode."""
    on, off = connect(autocommit=True), connect(autocommit=False)
    for number in range(0, 8, 2):
        rows(off, "insert into feature_items values (%s, 'off')", (number,))
        rows(on, "insert into feature_items values (%s, 'on')", (number + 1,))
        assert names() == ["on"] * (number // 2 + 1)
        off.rollback()
        assert rows(on, "select @@autocommit") == ((1,),)
        assert rows(off, "select @@autocommit") == ((0,),)
        off.commit()
        rival(on, off)
    assert names() == ["on"] * 4


def test_autocommit_method_switches(connect, rows, names, rival):
    """conn.autocommit() switches to and fro, and get_autocommit() and the server agree."""
    conn = connect()
    for number, value in enumerate([True, False, True, False, 1, 0]):
        conn.autocommit(value)
        assert conn.get_autocommit() is bool(value)
        assert rows(conn, "select @@autocommit") == ((int(value),),)
        rows(conn, "insert into feature_items values (%s, 'a')", (number,))
        if not value:
            conn.rollback()
        rival(conn)
    assert len(names()) == 3


def test_switching_autocommit_on_commits(connect, rows, names):
    """Switching autocommit on while a transaction is open commits it."""
    conn = connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    conn.autocommit(True)
    assert names() == ["a"]
    assert is_parked(connect, conn)


def test_autocommit_to_the_same_value_does_nothing(connect, rows, names):
    """conn.autocommit(False) amid a transaction leaves it open."""
    conn = connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    conn.autocommit(False)
    assert names() == []
    conn.rollback()
    assert names() == []


@pytest.mark.parametrize("text", ["set autocommit = {}", "set @@autocommit = {}", "set session autocommit = {}"])
def test_autocommit_by_statement(connect, rows, names, rival, text):
    """SET autocommit is followed without a pin, and stays with its session."""
    conn, other = connect(), connect()
    rows(conn, text.format(1))
    assert conn.get_autocommit() is True
    for number in range(2):
        rows(conn, "insert into feature_items values (%s, 'a')", (number,))
        assert is_parked(connect, conn)
        rival(conn)
    assert names() == ["a", "a"]
    rows(other, "insert into feature_items values (9, 'b')")
    assert names() == ["a", "a"]
    other.rollback()
    rows(conn, text.format(0))
    rows(conn, "insert into feature_items values (2, 'a')")
    assert is_held(connect, conn)
    conn.rollback()
    assert names() == ["a", "a"]


def test_set_autocommit_on_commits(connect, rows, names):
    """SET autocommit = 1 commits what is open."""
    conn = connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    rows(conn, "set autocommit = 1")
    assert names() == ["a"]


def test_select_under_autocommit_off_keeps_its_snapshot(connect, rows):
    """A SELECT opens a transaction: the same question has the same answer until commit."""
    conn, writer = connect(), connect(autocommit=True)
    assert rows(conn, "select count(*) from feature_items") == ((0,),)
    assert is_held(connect, conn)
    rows(writer, "insert into feature_items values (1, 'a')")
    assert rows(conn, "select count(*) from feature_items") == ((0,),)
    conn.commit()
    assert is_parked(connect, conn)
    assert rows(conn, "select count(*) from feature_items") == ((1,),)
    conn.rollback()


def test_the_drivers_own_status_would_not_tell(features, rows, clean):
    """After a SELECT under autocommit=0 the driver's own server_status does not say that a transaction is open."""
    private = pymysql.connect(**features.parameters())
    shared_pool = pymysql.connect(**features.parameters(autocommit=True))
    try:
        before = private.server_status
        rows(private, "select count(*) from feature_items")
        assert not private.server_status & ACTIVE
        assert private.server_status == before
        rows(shared_pool, "insert into feature_items values (1, 'a')")
        assert rows(private, "select count(*) from feature_items") == ((0,),)  # and yet there is one
    finally:
        private.close()
        shared_pool.close()


def test_the_multiplexed_status_tells(shared, rows):
    """Ours reads the status word behind the rows, and holds the backend."""
    conn = shared()
    rows(conn, "select count(*) from feature_items")
    assert conn.rdsproxy.in_transaction
    assert shared.proxy.stats().database_connections_currently_in_transaction == 1
    conn.commit()
    assert not conn.rdsproxy.in_transaction


def test_a_select_without_tables_opens_nothing(shared, rows):
    """SELECT 1 opens no transaction, so that the backend goes back."""
    conn = shared()
    rows(conn, "select 1")
    assert is_parked(shared, conn)
    assert not conn.rdsproxy.in_transaction


def test_a_transaction_stays_on_its_backend(shared, rows):
    """Within a transaction connection_id() stays; over several it does not."""
    conn, others = shared(), [shared() for _ in range(3)]
    seen = set()
    for _ in range(6):
        rows(conn, "select * from feature_items")
        ((first,),) = rows(conn, "select connection_id()")
        ((second,),) = rows(conn, "select connection_id()")
        assert first == second == backend_of(conn) == conn.thread_id()
        seen.add(first)
        conn.commit()
        for other in others:
            rows(other, "select * from feature_items")
            other.commit()
    assert shared.kind == "multiplexed" or len(seen) >= 2


def test_many_sessions_on_two_backends(shared, rows, names):
    """Twenty sessions take turns on two backends, and each commits its own."""
    conns = [shared() for _ in range(20)]
    for number, conn in enumerate(conns):
        rows(conn, "insert into feature_items values (%s, %s)", (number, f"n{number}"))
        if number % 2:
            conn.rollback()
        else:
            conn.commit()
    assert names() == [f"n{number}" for number in range(0, 20, 2)]
    assert shared.proxy.stats().database_connections <= 3


# BEGIN, COMMIT, ROLLBACK ------------------------------------------------------------------------------------------


def test_begin_opens_under_autocommit(connect, rows, names, rival):
    """conn.begin() opens a transaction under autocommit, and commit() ends it."""
    conn = connect(autocommit=True)
    for number in range(3):
        conn.begin()
        assert is_held(connect, conn)
        rows(conn, "insert into feature_items values (%s, 'a')", (number,))
        assert len(names()) == number
        conn.commit()
        assert is_parked(connect, conn)
        rival(conn)


def test_begin_implies_a_commit(connect, rows, names):
    """conn.begin() commits the transaction that is open."""
    conn = connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    conn.begin()
    assert names() == ["a"]
    conn.rollback()


@pytest.mark.parametrize(
    "text",
    [
        "begin",
        "BEGIN WORK",
        "start transaction",
        "START TRANSACTION READ WRITE",
        "start transaction with consistent snapshot",
        "/* a comment */ begin",
        "-- a comment\nbegin",
        "start /* */ transaction",
    ],
)
def test_transactions_by_statement(same, rows, text, names):
    """Transactions opened and ended by SQL, in each spelling."""

    def story(conn):
        found = []
        for number, end in enumerate(
            ["commit", "rollback", "COMMIT WORK", "commit and no chain", "rollback no release"]
        ):
            rows(conn, text)
            rows(conn, "insert into feature_items values (%s, 'a')", (number,))
            before = names()
            rows(conn, end)
            found.append((before, names(), conn.server_status & 3))
        return found

    same(story, autocommit=True)


def test_start_transaction_read_only(connect, rows):
    """A read-only transaction refuses to write with 1792, and only it."""
    conn = connect(autocommit=True)
    rows(conn, "start transaction read only")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "insert into feature_items values (1, 'a')")
    assert caught.value.args[0] == 1792
    rows(conn, "commit")
    rows(conn, "insert into feature_items values (1, 'a')")


def test_consistent_snapshot_is_taken_at_once(connect, rows):
    """WITH CONSISTENT SNAPSHOT sees the tables as they were at its start."""
    conn, writer = connect(), connect(autocommit=True)
    rows(conn, "start transaction with consistent snapshot")
    rows(writer, "insert into feature_items values (1, 'a')")
    assert rows(conn, "select * from feature_items") == ()
    conn.commit()
    assert rows(conn, "select * from feature_items") == ((1, "a"),)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("autocommit", [True, False])
def test_and_chain(connect, rows, names, end, autocommit):
    """COMMIT AND CHAIN opens the next transaction at once, with the same characteristics."""
    conn = connect(autocommit=autocommit)
    rows(conn, "begin")
    rows(conn, "insert into feature_items values (1, 'a')")
    rows(conn, f"{end} and chain")
    assert names() == (["a"] if end == "commit" else [])
    assert is_held(connect, conn)
    rows(conn, "insert into feature_items values (2, 'b')")
    assert "b" not in names()
    rows(conn, end)
    assert ("b" in names()) == (end == "commit")
    assert is_parked(connect, conn)


def test_chain_keeps_read_only(connect, rows):
    """After COMMIT AND CHAIN of a read-only transaction the next is read-only too."""
    conn = connect(autocommit=True)
    rows(conn, "start transaction read only")
    rows(conn, "commit and chain")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "insert into feature_items values (1, 'a')")
    assert caught.value.args[0] == 1792
    rows(conn, "rollback")
    rows(conn, "insert into feature_items values (1, 'a')")


@pytest.mark.parametrize("end", ["commit release", "rollback release", "COMMIT AND NO CHAIN RELEASE"])
def test_release_ends_the_connection(connect, rows, names, end):
    """COMMIT RELEASE ends the transaction and then the connection: what follows raises 2013 or 2006."""
    connect.may_pin("UNRESETTABLE")
    conn = connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    rows(conn, end)
    assert names() == (["a"] if end.lower().startswith("commit") else [])
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "select 1")
    assert caught.value.args[0] in (2006, 2013)
    fresh = connect()
    assert rows(fresh, "select 1") == ((1,),)


def test_completion_type(same, rows):
    """With completion_type=CHAIN a plain COMMIT opens the next transaction."""
    same.may_pin("SETTING")

    def story(conn):
        rows(conn, "set completion_type = 1")
        conn.begin()
        conn.commit()
        first = conn.server_status & ACTIVE
        rows(conn, "set completion_type = 0")
        conn.rollback()
        return first, conn.server_status & ACTIVE

    assert same(story, autocommit=True)[0] == (1, 0)


def test_commit_and_rollback_with_nothing_open(connect):
    """commit() and rollback() of a session where nothing is open do nothing, also before its first statement."""
    for autocommit in (True, False):
        conn = connect(autocommit=autocommit)
        assert conn.commit() is None
        assert conn.rollback() is None
        assert conn.commit() is None


def test_commit_by_statement_with_nothing_open(same, rows):
    """COMMIT and ROLLBACK as statements, where nothing is open."""
    same(lambda conn: [rows(conn, text) for text in ("commit", "rollback", "commit", "rollback")])


def test_close_rolls_back(connect, rows, names):
    """close() with an open transaction undoes it."""
    conn = connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    conn.close()
    bystander = connect()
    assert rows(bystander, "select count(*) from feature_items for update") == ((0,),)
    bystander.rollback()


def test_with_conn_closes(connect, rows, names):
    """`with conn` closes at its end and commits nothing: the driver's, unlike others."""
    with connect() as conn:
        rows(conn, "insert into feature_items values (1, 'a')")
    assert not conn.open
    assert names() == []


def test_dropping_a_connection_rolls_back(connect, rows, names, eventually):
    """A connection that nobody refers to any more leaves nothing open."""
    conn = connect()
    connect.opened.clear()
    rows(conn, "insert into feature_items values (1, 'a')")
    if connect.is_private:
        conn._force_close()
    del conn
    fresh = connect()
    rows(fresh, "set innodb_lock_wait_timeout = 5") if connect.is_private else None
    rows(fresh, "insert into feature_items values (1, 'b')")
    fresh.commit()
    assert names() == ["b"]


# Implicit commits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "create table feature_made (a int)",
        "drop table if exists feature_made",
        "create table if not exists feature_made2 as select 1 as a",
        "alter table feature_items comment = 'x'",
        "truncate table feature_numbered",
        "create index feature_index on feature_items (name)",
        "drop index feature_index on feature_items",
        "create or replace view feature_view as select 1 as a",
        "drop view feature_view",
        "rename table feature_made2 to feature_made3",
        "drop table feature_made3",
        "analyze table feature_items",
        "flush tables",
        "begin",
    ],
)
def test_ddl_commits(same, rows, names, text, root):
    """DDL commits what is open, and leaves nothing open."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        with conn.cursor() as cursor:
            cursor.execute(text)
            said = cursor.rowcount, cursor.description
        conn.rollback()
        return names(), said, conn.server_status & 3

    def prepared(conn):
        for undo in (
            "drop table if exists feature_made, feature_made2, feature_made3",
            "drop view if exists feature_view",
        ):
            root(undo)
        with_suppress(root, "drop index feature_index on feature_items")
        if "feature_made2 to" in text:
            root("create table feature_made2 (a int)")
        if text.startswith("drop table feature_made3"):
            root("create table feature_made3 (a int)")
        if text.startswith("drop index"):
            root("create index feature_index on feature_items (name)")
        if text.startswith("drop view"):
            root("create or replace definer = app@'%' view feature_view as select 1 as a")
        return story(conn)

    outcome, _ = same(prepared)
    assert outcome[0] == ["a"], outcome
    root("drop table if exists feature_made, feature_made2, feature_made3")
    root("drop view if exists feature_view")
    with_suppress(root, "drop index feature_index on feature_items")


def with_suppress(root, text):
    with contextlib.suppress(pymysql.err.MySQLError):
        root(text)


def test_ddl_gives_the_backend_back(shared, rows):
    """After DDL nothing is open, so that nothing is held."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    rows(conn, "create table feature_ddl (a int)")
    assert is_parked(shared, conn)
    rows(conn, "drop table feature_ddl")
    assert is_parked(shared, conn)


def test_failed_ddl_commits_too(same, rows, names):
    """DDL that fails has committed what was open before it."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        with pytest.raises(pymysql.err.OperationalError):
            rows(conn, "create table feature_items (a int)")
        before = names()
        conn.rollback()
        return before, names(), conn.server_status & 3

    same(story)


def test_dml_error_keeps_the_transaction(same, rows, names):
    """A statement that fails leaves the transaction open, with what was done before."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        with pytest.raises(pymysql.err.IntegrityError) as caught:
            rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "insert into feature_items values (2, 'b')")
        before = names()
        conn.commit()
        return before, names(), caught.value.args

    (before, after, _), _ = same(story)
    assert (before, after) == ([], ["a", "b"])


def test_first_statement_fails_under_autocommit_off(same, rows, names):
    """A failed first statement of a transaction leaves locks or nothing; a private connection and ours agree."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        conn.commit()
        with pytest.raises(pymysql.err.IntegrityError):
            rows(conn, "insert into feature_items values (1, 'b')")
        rows(conn, "update feature_items set name = 'c' where id = 1")
        conn.rollback()
        return names()

    same(story)


def test_lock_of_a_failed_first_statement_is_kept(connect, rows):
    """After a duplicate key under autocommit=0 the row is locked: the transaction is open although it failed."""
    conn, other = connect(), connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    conn.commit()
    with pytest.raises(pymysql.err.IntegrityError):
        rows(conn, "insert into feature_items values (1, 'b')")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(other, "select * from feature_items where id = 1 for update nowait")
    assert caught.value.args[0] in (1205, 3572)
    conn.rollback()
    other.rollback()
    assert rows(other, "select * from feature_items where id = 1 for update nowait") == ((1, "a"),)


# Savepoints -------------------------------------------------------------------------------------------------------


def test_savepoints(connect, rows, names, rival):
    """ROLLBACK TO undoes what came after the savepoint; the transaction goes on."""
    conn = connect()
    for _ in range(2):
        rows(conn, "delete from feature_items")
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "savepoint s1")
        rows(conn, "insert into feature_items values (2, 'b')")
        rows(conn, "rollback to savepoint s1")
        rows(conn, "insert into feature_items values (3, 'c')")
        rows(conn, "release savepoint s1")
        assert is_held(connect, conn)
        conn.commit()
        rival(conn)
    assert names() == ["a", "c"]


def test_a_savepoint_ends_where_autocommit_is_switched_on(shared, rows):
    """Switching it on commits: the backend is given back, and nothing of the savepoint is left."""
    conn = shared(autocommit=False)
    for switch in (lambda: conn.autocommit(True), lambda: rows(conn, "set autocommit = 1")):
        rows(conn, "savepoint s1")
        assert conn.rdsproxy.backend is not None
        switch()
        assert conn.rdsproxy.backend is None
        with pytest.raises(pymysql.err.OperationalError, match="SAVEPOINT s1 does not exist"):
            rows(conn, "rollback to savepoint s1")
        conn.autocommit(False)


def test_savepoint_before_any_table_access(connect, rows, names, rival):
    """SAVEPOINT as the first statement under autocommit=0 can be rolled back to (no status bit tells: bug 107875)."""
    conn = connect()
    for _ in range(3):
        rows(conn, "savepoint s1")
        assert is_held(connect, conn)
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "rollback to savepoint s1")
        rows(conn, "insert into feature_items values (2, 'b')")
        rows(conn, "rollback")
        assert is_parked(connect, conn)
        rival(conn)
    assert names() == []


@pytest.mark.parametrize("between", ["select 1", "set @@autocommit = 0", "do 0", "show warnings", "savepoint s2"])
def test_savepoint_then_something_small(same, rows, names, between):
    """A savepoint survives statements that open nothing."""

    def story(conn):
        rows(conn, "savepoint s1")
        rows(conn, between)
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "rollback to s1")
        rows(conn, "release savepoint s1")
        conn.commit()
        return names()

    assert same(story)[0] == []


@pytest.mark.parametrize("text", ["rollback to s1", "release savepoint s1"])
def test_a_savepoint_ends_with_its_transaction(same, rows, text):
    """A savepoint of the transaction before is unknown: 1305."""

    def story(conn):
        rows(conn, "savepoint s1")
        conn.commit()
        rows(conn, text)

    assert same(story)[0][1][0] == "1305"


def test_savepoint_under_autocommit(same, rows):
    """Under autocommit a savepoint outside of a transaction is forgotten at once."""

    def story(conn):
        rows(conn, "savepoint s1")
        rows(conn, "rollback to s1")

    same(story, autocommit=True)


def test_savepoint_released_at_once(connect, rows):
    """SAVEPOINT and RELEASE with nothing between can be committed."""
    conn = connect()
    rows(conn, "savepoint s1")
    rows(conn, "release savepoint s1")
    conn.commit()
    assert is_parked(connect, conn)


def test_savepoint_in_a_multi_statement(same, rows, names):
    """A savepoint set in the middle of a text of several statements is kept too."""

    def story(conn):
        with conn.cursor() as cursor:
            cursor.execute("select 1; savepoint s1; select 2")
            while cursor.nextset():
                pass
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "rollback to s1")
        conn.commit()
        return names()

    assert same(story, client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS)[0] == []


# One-shots --------------------------------------------------------------------------------------------------------


def test_set_transaction_is_for_the_next_only(connect, rows, rival):
    """SET TRANSACTION READ ONLY holds for the next transaction of this session, and for no other."""
    conn, other = connect(), connect()
    for _ in range(3):
        rows(conn, "set transaction read only")
        rows(other, "insert into feature_items values (1, 'a')")
        other.rollback()
        with pytest.raises(pymysql.err.OperationalError) as caught:
            rows(conn, "insert into feature_items values (1, 'a')")
        assert caught.value.args[0] == 1792
        conn.rollback()
        rows(conn, "insert into feature_items values (1, 'a')")
        conn.rollback()
        rival(conn)


@pytest.mark.parametrize("between", ["select 1", "do 0", "show warnings", "select @@version"])
def test_set_transaction_survives_what_opens_nothing(same, rows, between):
    """Whether a statement without tables uses SET TRANSACTION up is the server's to say."""

    def story(conn):
        rows(conn, "set transaction read only")
        rows(conn, between)
        conn.begin()
        rows(conn, "insert into feature_items values (1, 'a')")

    same(story)
    same(story, autocommit=True)


def test_set_transaction_isolation_level(connect, rows):
    """SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED shows the next transaction what is not committed."""
    conn, writer = connect(), connect()
    rows(writer, "insert into feature_items values (1, 'a')")
    rows(conn, "set transaction isolation level read uncommitted")
    assert rows(conn, "select count(*) from feature_items") == ((1,),)
    conn.commit()
    assert rows(conn, "select count(*) from feature_items") == ((0,),)
    conn.commit()
    writer.rollback()


def test_set_transaction_and_commit_with_nothing_open(same, rows):
    """commit() uses SET TRANSACTION up, or not, as the server does."""

    def story(conn):
        rows(conn, "set transaction read only")
        conn.commit()
        rows(conn, "insert into feature_items values (1, 'a')")

    same(story)


def test_set_transaction_and_rollback_with_nothing_open(same, rows):
    """rollback() uses SET TRANSACTION up, or not, as the server does."""

    def story(conn):
        rows(conn, "set transaction read only")
        conn.rollback()
        rows(conn, "insert into feature_items values (1, 'a')")

    same(story)


def test_set_transaction_inside_one_is_refused(same, rows):
    """SET TRANSACTION in an open transaction is error 1568."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "set transaction read only")

    assert same(story)[0][1][0] == "1568"


def test_set_transaction_meets_nobody_else(shared, rows):
    """A session that sets its next transaction read-only and closes leaves that to nobody."""
    conn = shared()
    rows(conn, "set transaction read only, isolation level serializable")
    conn.close()
    for other in [shared() for _ in range(4)]:
        rows(other, "insert into feature_items values (1, 'a')")
        other.rollback()


def test_set_session_transaction(connect, rows):
    """SET SESSION TRANSACTION is a setting: it holds for all transactions of this session, wherever they run."""
    conn, other = connect(), connect()
    rows(conn, "set session transaction read only")
    for _ in range(2):
        with pytest.raises(pymysql.err.OperationalError) as caught:
            rows(conn, "insert into feature_items values (1, 'a')")
        assert caught.value.args[0] == 1792
        conn.rollback()
    rows(other, "insert into feature_items values (1, 'a')")
    other.rollback()


# Locks ------------------------------------------------------------------------------------------------------------


def test_deadlock(connect, rows, names):
    """Two sessions that lock each other's row: one gets 1213 and is rolled back, the other goes on."""
    one, two = connect(), connect()
    rows(one, "insert into feature_items values (1, 'a'), (2, 'b')")
    one.commit()
    rows(one, "update feature_items set name = 'one' where id = 1")
    rows(two, "update feature_items set name = 'two' where id = 2")
    errors_seen = []

    def cross():
        try:
            rows(one, "update feature_items set name = 'one' where id = 2")
        except pymysql.err.OperationalError as error:
            errors_seen.append((one, error))

    thread = threading.Thread(target=cross)
    thread.start()
    try:
        rows(two, "update feature_items set name = 'two' where id = 1")
    except pymysql.err.OperationalError as error:
        errors_seen.append((two, error))
    thread.join()
    ((loser, error),) = errors_seen
    assert error.args[0] == 1213
    assert not isinstance(error, errors.Error)
    winner = two if loser is one else one
    winner.commit()
    loser.rollback()
    assert names() == (["one", "one"] if winner is one else ["two", "two"])
    rows(loser, "update feature_items set name = 'again' where id = 1")
    loser.commit()
    assert names()[0] == "again"


def test_after_a_deadlock_the_transaction_is_over(connect, rows, running):
    """The server has rolled the loser back: without rollback() its next statement begins a new transaction."""
    one, two = connect(), connect()
    rows(one, "insert into feature_items values (1, 'a'), (2, 'b'), (3, 'c')")
    one.commit()
    rows(one, "update feature_items set name = 'one' where id = 1")
    rows(two, "update feature_items set name = 'two' where id in (2, 3)")
    thread = threading.Thread(target=lambda: rows(two, "update feature_items set name = 'two' where id = 1"))
    thread.start()
    running("where id = 1")
    with pytest.raises(pymysql.err.OperationalError) as caught:  # the one that has written less is the victim
        rows(one, "update feature_items set name = 'one' where id = 2")
    assert caught.value.args[0] == 1213
    assert not one.server_status & ACTIVE or connect.is_private
    assert is_parked(connect, one)
    thread.join()
    two.commit()
    assert rows(one, "select name from feature_items where id = 1") == (("two",),)
    one.commit()


@pytest.mark.parametrize("connect", ["private", "rivals"], indirect=True)
def test_lock_timeout_keeps_the_transaction(connect, rows, names):
    """1205 undoes the statement alone; the transaction stays open, as on a private connection."""
    connect.may_pin("SETTING")
    holder, conn = connect(), connect()
    rows(holder, "insert into feature_items values (1, 'a')")
    rows(conn, "set innodb_lock_wait_timeout = 1")
    rows(conn, "insert into feature_items values (2, 'b')")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "insert into feature_items values (1, 'c')")
    assert caught.value.args[0] == 1205
    holder.rollback()
    conn.commit()
    assert names() == ["b"]


def test_nowait_and_skip_locked(connect, rows):
    """FOR UPDATE NOWAIT raises at once and SKIP LOCKED skips: a lock of another session is seen as such."""
    holder, conn = connect(), connect()
    rows(holder, "insert into feature_items values (1, 'a'), (2, 'b')")
    holder.commit()
    rows(holder, "select * from feature_items where id = 1 for update")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "select * from feature_items where id = 1 for update nowait")
    assert caught.value.args[0] in (1205, 3572)
    conn.rollback()
    assert rows(conn, "select id from feature_items for update skip locked") == ((2,),)
    conn.rollback()
    holder.rollback()


def test_for_update_is_held_until_commit(connect, rows):
    """SELECT … FOR UPDATE under autocommit=0 keeps its lock over further statements."""
    conn, other = connect(), connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    conn.commit()
    rows(conn, "select * from feature_items for update")
    rows(conn, "select 1")
    assert rows(other, "select id from feature_items for update skip locked") == ()
    other.rollback()
    conn.commit()
    assert rows(other, "select id from feature_items for update skip locked") == ((1,),)
    other.rollback()


def test_lock_tables(connect, rows, names):
    """LOCK TABLES pins; other tables are refused with 1100; after UNLOCK TABLES and close nothing is locked."""
    connect.may_pin("TABLE_LOCK")
    conn, other = connect(), connect(autocommit=True)
    rows(conn, "lock tables feature_items write")
    rows(conn, "insert into feature_items values (1, 'a')")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "select * from feature_numbered")
    assert caught.value.args[0] == 1100
    conn.commit()
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "select * from feature_numbered")
    assert caught.value.args[0] == 1100
    assert connect.is_private or [reason.name for reason in conn.rdsproxy.pin_reasons] == ["TABLE_LOCK"]
    rows(conn, "unlock tables")
    rows(other, "insert into feature_items values (2, 'b')")
    assert names() == ["a", "b"]


def test_lock_tables_commits(same, rows, names):
    """LOCK TABLES commits what is open."""
    same.may_pin("TABLE_LOCK")

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "lock tables feature_items read")
        conn.rollback()
        rows(conn, "unlock tables")
        return names()

    assert same(story)[0] == ["a"]


def test_lock_tables_end_with_the_session(connect, rows, eventually):
    """A session that closes without UNLOCK TABLES leaves no lock."""
    connect.may_pin("TABLE_LOCK")
    conn = connect()
    rows(conn, "lock tables feature_items write")
    conn.close()
    other = connect(autocommit=True)
    rows(other, "insert into feature_items values (1, 'a')")


def test_named_locks(connect, rows):
    """GET_LOCK pins and is this session's alone; it ends with it."""
    connect.may_pin("NAMED_LOCK")
    conn, other = connect(), connect()
    assert rows(conn, "select get_lock('feature', 5)") == ((1,),)
    assert rows(other, "select is_free_lock('feature')") == ((0,),)
    assert rows(other, "select get_lock('feature', 0)") == ((0,),)
    other.close()
    conn.close()
    fresh = connect()
    assert rows(fresh, "select is_free_lock('feature')") == ((1,),)


# XA ---------------------------------------------------------------------------------------------------------------


def test_xa_one_phase(connect, rows, names, rival):
    """XA START … END … COMMIT ONE PHASE on one backend."""
    conn = connect(autocommit=True)
    for number in range(3):
        rows(conn, "xa start 'feature'")
        rows(conn, "insert into feature_items values (%s, 'a')", (number,))
        rows(conn, "xa end 'feature'")
        assert is_held(connect, conn)
        rows(conn, "xa commit 'feature' one phase")
        assert is_parked(connect, conn)
        rival(conn)
    assert names() == ["a"] * 3


@pytest.mark.parametrize("autocommit", [True, False])
def test_xa_two_phases(connect, rows, names, autocommit):
    """XA PREPARE and COMMIT in one session."""
    connect.may_pin("UNRESETTABLE")
    conn = connect(autocommit=autocommit)
    rows(conn, "xa start 'feature2'")
    rows(conn, "insert into feature_items values (1, 'a')")
    rows(conn, "xa end 'feature2'")
    rows(conn, "xa prepare 'feature2'")
    assert names() == []
    rows(conn, "xa commit 'feature2'")
    assert names() == ["a"]


def test_xa_start_before_any_table(same, rows, names):
    """A branch that has touched nothing is still there after statements that open nothing."""

    def story(conn):
        rows(conn, "xa start 'feature3'")
        rows(conn, "select 1")
        rows(conn, "select 2")
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "xa end 'feature3'")
        rows(conn, "xa rollback 'feature3'")
        return names(), conn.server_status & 3

    same(story)
    same(story, autocommit=True)


@pytest.mark.parametrize(
    "text", ["commit", "begin", "rollback", "create table feature_xa (a int)", "set autocommit = 1"]
)
def test_xa_refuses_other_ends(same, rows, names, text):
    """Inside a branch COMMIT and its like are refused with 1399, and the branch goes on."""

    def story(conn):
        rows(conn, "xa start 'feature4'")
        try:
            rows(conn, text)
            said = None
        except pymysql.err.MySQLError as error:
            said = error.args
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "xa end 'feature4'")
        rows(conn, "xa rollback 'feature4'")
        return said, names()

    same(story)


def test_xa_by_methods(same, rows, names):
    """conn.commit() and conn.rollback() inside a branch are refused, and the branch goes on."""

    def story(conn):
        said = []
        rows(conn, "xa start 'feature5'")
        for method in (conn.commit, conn.rollback, conn.begin):
            try:
                method()
            except pymysql.err.MySQLError as error:
                said.append(error.args)
        rows(conn, "insert into feature_items values (1, 'a')")
        rows(conn, "xa end 'feature5'")
        rows(conn, "xa commit 'feature5' one phase")
        return said, names()

    same(story)


def test_xa_close_in_the_middle(connect, rows, names):
    """A session that closes inside a branch leaves nothing of it."""
    conn = connect()
    rows(conn, "xa start 'feature6'")
    rows(conn, "insert into feature_items values (1, 'a')")
    conn.close()
    for _ in range(3):
        other = connect()
        rows(other, "xa start 'feature6'")
        rows(other, "insert into feature_items values (1, 'b')")
        rows(other, "xa end 'feature6'")
        rows(other, "xa rollback 'feature6'")
        other.close()
    assert names() == []


# Several at once --------------------------------------------------------------------------------------------------


def test_interleaved_transactions(connect, rows, names):
    """Two sessions with open transactions do not see each other's rows."""
    one, two = connect(), connect()
    rows(one, "insert into feature_items values (1, 'one')")
    rows(two, "insert into feature_items values (2, 'two')")
    assert rows(one, "select name from feature_items") == (("one",),)
    assert rows(two, "select name from feature_items") == (("two",),)
    one.rollback()
    two.commit()
    assert names() == ["two"]


def test_open_transaction_is_nobody_elses(shared, rows, names):
    """What a session left open is not committed by others' commits."""
    one = shared()
    rows(one, "insert into feature_items values (1, 'one')")
    for _ in range(5):
        other = shared()
        rows(other, "select 1")
        other.commit()
        rows(other, "commit")
        other.close()
    assert names() == []
    one.rollback()
    assert names() == []


def test_threads_increment_a_counter(shared, rows, root):
    """Eight threads with a session each, over two or three backends, lose no update."""
    root("insert into feature_items values (1, '0')")
    failures = []

    def work():
        try:
            conn = shared.proxy.connect()
            for _ in range(10):
                rows(conn, "select name from feature_items where id = 1 for update")
                rows(conn, "update feature_items set name = name + 1 where id = 1")
                conn.commit()
            conn.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert root("select name from feature_items") == (("80",),)
