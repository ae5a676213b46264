"""Transactions: implicit, in blocks, in SQL text and in two phases."""

# ruff: noqa: PT012 - a block that is left by an error is what these tests are about

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel, Rollback, errors
from psycopg.pq import TransactionStatus
from psycopg.transaction import OutOfOrderTransactionNesting

IDLE, INTRANS, INERROR = TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR


def put(conn: Any, number: int, name: str) -> None:
    conn.execute("insert into feature_items values (%s, %s)", [number, name])


def status(conn: Any) -> TransactionStatus:
    return conn.info.transaction_status


# -- the driver's own transaction


def test_the_first_statement_opens_a_transaction(connect, names):
    """Without autocommit a statement opens a transaction, commit ends it and nobody saw it before."""
    conn = connect()
    assert status(conn) == IDLE
    put(conn, 1, "a")
    assert status(conn) == INTRANS
    assert names() == []
    conn.commit()
    assert status(conn) == IDLE
    assert names() == ["a"]


def test_rollback_undoes(connect, names):
    """rollback() takes back everything since the transaction began."""
    conn = connect()
    put(conn, 1, "a")
    conn.rollback()
    assert status(conn) == IDLE
    put(conn, 2, "b")
    conn.commit()
    assert names() == ["b"]


def test_commit_and_rollback_with_nothing_open_do_nothing(connect):
    """commit() and rollback() may be called at any time, any number of times."""
    conn = connect()
    for end in (conn.commit, conn.rollback, conn.commit):
        end()
    assert conn.execute("select 1").fetchone() == (1,)


def test_close_rolls_back(connect, names):
    """Closing with a transaction open undoes it, and gives its locks back."""
    conn = connect()
    put(conn, 1, "a")
    conn.close()
    other = connect(autocommit=True)
    put(other, 1, "b")
    assert names() == ["b"]


def test_a_failed_transaction_waits_for_rollback(connect, names):
    """After an error each statement raises InFailedSqlTransaction, until rollback()."""
    conn = connect()
    put(conn, 1, "a")
    with pytest.raises(errors.DivisionByZero):
        conn.execute("select 1/0")
    assert status(conn) == INERROR
    for _ in range(2):
        with pytest.raises(errors.InFailedSqlTransaction):
            conn.execute("select 1")
    conn.rollback()
    assert status(conn) == IDLE
    assert conn.execute("select 1").fetchone() == (1,)
    assert names() == []


def test_commit_of_a_failed_transaction_rolls_back(connect, names):
    """commit() after an error ends the transaction without keeping anything."""
    conn = connect()
    put(conn, 1, "a")
    with pytest.raises(errors.DivisionByZero):
        conn.execute("select 1/0")
    conn.commit()
    assert status(conn) == IDLE
    assert names() == []


def test_a_commit_that_fails_ends_the_transaction(connect, names):
    """A deferred constraint is checked at commit: the error comes from there, and nothing stays open."""
    conn = connect()
    put(conn, 1, "a")
    conn.execute("insert into feature_children values (2)")
    with pytest.raises(errors.ForeignKeyViolation):
        conn.commit()
    assert status(conn) == IDLE
    assert names() == []


def test_a_transaction_sees_one_snapshot(connect):
    """Under repeatable read a session does not see what others commit meanwhile."""
    reader, writer = connect(), connect(autocommit=True)
    reader.isolation_level = IsolationLevel.REPEATABLE_READ
    count = "select count(*) from feature_items"
    assert reader.execute(count).fetchone() == (0,)
    put(writer, 1, "a")
    assert reader.execute(count).fetchone() == (0,)
    reader.commit()
    assert reader.execute(count).fetchone() == (1,)


def test_serialization_failures_arrive(connect):
    """Two sessions that update one row under repeatable read conflict as on private connections."""
    first, second = connect(), connect()
    put(first, 1, "a")
    first.commit()
    for conn in (first, second):
        conn.isolation_level = IsolationLevel.REPEATABLE_READ
        conn.execute("select * from feature_items")
    first.execute("update feature_items set name = 'b'")
    first.commit()
    with pytest.raises(errors.SerializationFailure):
        second.execute("update feature_items set name = 'c'")


# -- autocommit and characteristics


def turn_on_property(conn: Any) -> None:
    conn.autocommit = True


def turn_on_method(conn: Any) -> None:
    conn.set_autocommit(True)


@pytest.mark.parametrize("turn_on", [turn_on_property, turn_on_method])
def test_autocommit_is_turned_on_and_off(connect, names, turn_on):
    """Autocommit is set by attribute and by method; each statement then stands alone."""
    conn = connect()
    assert conn.autocommit is False
    turn_on(conn)
    assert conn.autocommit is True
    put(conn, 1, "a")
    assert (status(conn), names()) == (IDLE, ["a"])
    conn.autocommit = False
    put(conn, 2, "b")
    assert (status(conn), names()) == (INTRANS, ["a"])
    conn.rollback()
    assert conn.autocommit is False


@pytest.mark.parametrize("value", [True, 1, "yes"])
def test_connect_takes_autocommit(connect, names, value):
    """`connect(autocommit=)` takes anything true."""
    conn = connect(autocommit=value)
    assert conn.autocommit is True
    put(conn, 1, "a")
    assert (status(conn), names()) == (IDLE, ["a"])


CHARACTERISTICS = {
    "autocommit": True,
    "isolation_level": IsolationLevel.SERIALIZABLE,
    "read_only": True,
    "deferrable": True,
}


@pytest.mark.parametrize("attribute", CHARACTERISTICS)
@pytest.mark.parametrize("state", ["transaction", "failed", "block"])
def test_characteristics_cannot_change_inside_a_transaction(same, attribute, state):
    """Changing autocommit and the like with a transaction open is the driver's ProgrammingError."""

    def story(conn):
        if state == "block":
            with conn.transaction():
                setattr(conn, attribute, CHARACTERISTICS[attribute])
        with pytest.raises(errors.DivisionByZero) if state == "failed" else conn.cursor():
            conn.execute("select 1/0" if state == "failed" else "select 1")
        getattr(conn, f"set_{attribute}")(CHARACTERISTICS[attribute])

    assert same(story)[0] is psycopg.ProgrammingError


@pytest.mark.parametrize("level", list(IsolationLevel))
def test_isolation_level_is_the_transactions(connect, level):
    """isolation_level holds for each transaction that begins afterwards, and None is the server's default."""
    conn = connect()
    assert conn.isolation_level is None
    conn.isolation_level = level
    for _ in range(2):
        (told,) = conn.execute("show transaction_isolation").fetchone()
        assert told == level.name.lower().replace("_", " ")
        conn.rollback()
    conn.set_isolation_level(int(level))
    assert conn.isolation_level is level
    conn.isolation_level = None
    assert conn.execute("show transaction_isolation").fetchone() == ("read committed",)


@pytest.mark.parametrize("value", [True, False, None])
@pytest.mark.parametrize("attribute", ["read_only", "deferrable"])
def test_read_only_and_deferrable_are_the_transactions(same, attribute, value):
    """read_only and deferrable hold for transactions that begin afterwards, in blocks too."""

    def story(conn):
        told = [getattr(conn, attribute)]
        setattr(conn, attribute, value)
        show = "show transaction_" + attribute
        told += [getattr(conn, attribute), conn.execute(show).fetchone()]
        conn.rollback()
        with conn.transaction():
            told.append(conn.execute(show).fetchone())
        getattr(conn, f"set_{attribute}")(None)
        return [*told, conn.execute(show).fetchone()]

    assert same(story)[2] == ("on" if value else "off",)


def test_read_only_refuses_writing(connect):
    """A write in a read-only session fails, and the next session on that backend may write."""
    conn = connect()
    conn.read_only = True
    with pytest.raises(errors.ReadOnlySqlTransaction):
        put(conn, 1, "a")
    conn.rollback()
    put(connect(), 1, "a")


def test_characteristics_do_nothing_under_autocommit(connect):
    """Under autocommit only transaction() blocks take the characteristics, as in the driver."""
    conn = connect(autocommit=True)
    conn.isolation_level = IsolationLevel.SERIALIZABLE
    show = "show transaction_isolation"
    assert conn.execute(show).fetchone() == ("read committed",)
    with conn.transaction():
        assert conn.execute(show).fetchone() == ("serializable",)


# -- transaction() blocks


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_transaction_block_commits(connect, names, autocommit):
    """The end of the block commits."""
    conn = connect(autocommit=autocommit)
    with conn.transaction() as tx:
        assert tx.connection is conn
        put(conn, 1, "a")
        assert status(conn) == INTRANS
        assert names() == []
    assert (status(conn), names()) == (IDLE, ["a"])
    assert "committed" in repr(tx)


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_transaction_block_rolls_back_on_error(connect, names, autocommit):
    """An exception leaves the block, and nothing of it is kept."""
    conn = connect(autocommit=autocommit)
    with pytest.raises(ZeroDivisionError), conn.transaction() as tx:
        put(conn, 1, "a")
        raise ZeroDivisionError
    assert (status(conn), names()) == (IDLE, [])
    assert "rolled_back_with_error" in repr(tx)


def test_a_transaction_block_survives_a_failed_statement(connect, names):
    """A statement's error rolls the inner block back; the outer one goes on."""
    conn = connect()
    with conn.transaction():
        put(conn, 1, "a")
        with pytest.raises(errors.UniqueViolation), conn.transaction():
            put(conn, 2, "b")
            put(conn, 1, "again")
        put(conn, 3, "c")
    assert names() == ["a", "c"]


def test_transaction_blocks_nest(connect, names):
    """Blocks within blocks are savepoints, numbered as the driver does."""
    conn = connect()
    with conn.transaction() as first:
        put(conn, 1, "a")
        with conn.transaction() as second:
            put(conn, 2, "b")
            with conn.transaction() as third:
                put(conn, 3, "c")
                told = [tx.savepoint_name for tx in (first, second, third)]
        assert names() == []
    assert told == ["", "_pg3_2", "_pg3_3"]
    assert names() == ["a", "b", "c"]


def test_a_block_within_an_open_transaction_is_a_savepoint(connect, names):
    """Where a statement already opened a transaction, the block does not commit."""
    conn = connect()
    put(conn, 1, "a")
    with conn.transaction() as tx:
        put(conn, 2, "b")
    assert tx.savepoint_name == "_pg3_1"
    assert (status(conn), names()) == (INTRANS, [])
    conn.rollback()
    assert names() == []


def test_force_rollback_keeps_nothing(connect, names):
    """`force_rollback=True` undoes a block that went well, inside another block too."""
    conn = connect()
    with conn.transaction(force_rollback=True):
        put(conn, 1, "a")
    assert names() == []
    with conn.transaction():
        put(conn, 2, "b")
        with conn.transaction(force_rollback=True):
            put(conn, 3, "c")
    assert names() == ["b"]


def test_rollback_exception_leaves_a_block(connect, names):
    """`raise Rollback` ends the innermost block, `Rollback(tx)` the one it names, quietly."""
    conn = connect()
    with conn.transaction():
        put(conn, 1, "a")
        with conn.transaction():
            put(conn, 2, "b")
            raise Rollback
        put(conn, 3, "c")
    assert names() == ["a", "c"]
    with conn.transaction(), conn.transaction() as outer:
        put(conn, 4, "d")
        with conn.transaction():
            raise Rollback(outer)
    assert (status(conn), names()) == (IDLE, ["a", "c"])


def test_savepoints_have_the_names_that_were_given(connect, names):
    """A block's savepoint name reaches the server and can be used from SQL."""
    conn = connect(autocommit=True)
    with conn.transaction("outer") as tx:
        assert tx.savepoint_name == "outer"
        put(conn, 1, "a")
        with conn.transaction('od"d'):
            put(conn, 2, "b")
            conn.execute('rollback to savepoint "od""d"')
        put(conn, 3, "c")
        with pytest.raises(errors.InvalidSavepointSpecification), conn.transaction():
            conn.execute("release savepoint nowhere")
    assert names() == ["a", "c"]


def test_blocks_left_out_of_order_are_an_error(same):
    """Leaving the outer block first raises OutOfOrderTransactionNesting, as in the driver."""

    def story(conn):
        outer, inner = conn.transaction(), conn.transaction()
        outer.__enter__()
        inner.__enter__()
        try:
            outer.__exit__(None, None, None)
        finally:
            with pytest.raises(OutOfOrderTransactionNesting):
                inner.__exit__(None, None, None)

    assert same(story)[0] is OutOfOrderTransactionNesting


def test_a_block_is_used_once(same):
    """Entering a Transaction twice is the driver's TypeError."""

    def story(conn):
        block = psycopg.Transaction(conn)
        with block:
            conn.execute("select 1")
        with block:
            pass

    assert same(story)[0] is TypeError


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_block_refuses_commit_and_rollback(same, end):
    """commit() and rollback() inside a block are the driver's ProgrammingError."""

    def story(conn):
        with conn.transaction():
            getattr(conn, end)()

    assert same(story)[0] is psycopg.ProgrammingError


def test_an_empty_block_leaves_nothing_open(connect):
    """A block without statements begins and ends."""
    conn = connect(autocommit=True)
    with conn.transaction():
        assert status(conn) == INTRANS
    assert status(conn) == IDLE


# -- transactions in SQL text


def test_literal_begin_and_commit(connect, names):
    """Under autocommit a literal BEGIN opens a transaction that a literal COMMIT keeps."""
    conn = connect(autocommit=True)
    cur = conn.execute("BEGIN")
    assert (cur.statusmessage, status(conn)) == ("BEGIN", INTRANS)
    put(conn, 1, "a")
    assert names() == []
    assert conn.execute("COMMIT").statusmessage == "COMMIT"
    assert (status(conn), names()) == (IDLE, ["a"])


def test_literal_rollback(connect, names):
    """A literal ROLLBACK undoes, after an error too."""
    conn = connect(autocommit=True)
    for fail in (False, True):
        conn.execute("start transaction")
        put(conn, 1, "a")
        if fail:
            with pytest.raises(errors.DivisionByZero):
                conn.execute("select 1/0")
            assert status(conn) == INERROR
        assert conn.execute("rollback").statusmessage == "ROLLBACK"
        assert (status(conn), names()) == (IDLE, [])


def test_literal_begin_ended_by_the_driver(connect, names):
    """commit() and rollback() end a transaction that SQL text began."""
    conn = connect(autocommit=True)
    conn.execute("/* hidden */ begin isolation level serializable")
    put(conn, 1, "a")
    conn.commit()
    conn.execute("begin")
    put(conn, 2, "b")
    conn.rollback()
    assert (status(conn), names()) == (IDLE, ["a"])


def test_literal_savepoints(connect, names):
    """SAVEPOINT, ROLLBACK TO and RELEASE work in SQL text, as peewee sends them."""
    conn = connect(autocommit=True)
    conn.execute("BEGIN")
    put(conn, 1, "a")
    conn.execute("SAVEPOINT s1;")
    put(conn, 2, "b")
    with pytest.raises(errors.UniqueViolation):
        put(conn, 1, "again")
    conn.execute("ROLLBACK TO SAVEPOINT s1;")
    assert status(conn) == INTRANS
    conn.execute("SAVEPOINT s2;")
    put(conn, 3, "c")
    conn.execute("RELEASE SAVEPOINT s2;")
    conn.execute("COMMIT")
    assert (status(conn), names()) == (IDLE, ["a", "c"])


def test_literal_commit_inside_the_drivers_transaction(connect, names):
    """Without autocommit a literal COMMIT ends the transaction and the next statement opens another."""
    conn = connect()
    put(conn, 1, "a")
    conn.execute("commit")
    assert (status(conn), names()) == (IDLE, ["a"])
    put(conn, 2, "b")
    conn.rollback()
    assert names() == ["a"]


def test_a_whole_transaction_in_one_text(connect, names):
    """BEGIN, work and COMMIT in one text leave nothing open; without the COMMIT it stays open."""
    conn = connect(autocommit=True)
    conn.execute("begin; insert into feature_items values (1, 'a'); commit")
    assert (status(conn), names()) == (IDLE, ["a"])
    conn.execute("begin; insert into feature_items values (2, 'b')")
    assert (status(conn), names()) == (INTRANS, ["a"])
    conn.execute("insert into feature_items values (3, 'c'); commit; begin; select 1")
    assert (status(conn), names()) == (INTRANS, ["a", "b", "c"])


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_and_chain_stays_in_a_transaction(connect, names, end):
    """COMMIT AND CHAIN ends one transaction and opens the next with the same characteristics."""
    conn = connect(autocommit=True)
    conn.execute("begin isolation level serializable")
    put(conn, 1, "a")
    conn.execute(f"{end} and chain")
    kept = ["a"] if end == "commit" else []
    assert (status(conn), names()) == (INTRANS, kept)
    assert conn.execute("show transaction_isolation").fetchone() == ("serializable",)
    put(conn, 2, "b")
    conn.execute("rollback")
    assert (status(conn), names()) == (IDLE, kept)


@pytest.mark.parametrize("text", ["", ";", "  ", "-- nothing", "/* nothing */ ;"])
@pytest.mark.parametrize("autocommit", [True, False])
def test_the_empty_statement(same, text, autocommit):
    """An empty statement is sent and answered, as a ping is."""

    def story(conn):
        cur = conn.execute(text)
        return cur.statusmessage, cur.rowcount, cur.description, cur.pgresult.status, status(conn)

    assert same(story, autocommit=autocommit)[-1] == (IDLE if autocommit else INTRANS)


@pytest.mark.parametrize("text", ["begin", "commit", "rollback", "savepoint s", "release s", "rollback to s"])
@pytest.mark.parametrize("autocommit", [True, False])
def test_transaction_statements_out_of_place(same, text, autocommit):
    """BEGIN twice, COMMIT with nothing open and the like warn or fail as on a private connection."""

    def story(conn):
        told = []
        conn.add_notice_handler(lambda diag: told.append((diag.severity, diag.message_primary)))
        for _ in range(2):
            try:
                told.append(conn.execute(text).statusmessage)
            except psycopg.Error as error:
                told.append(error.sqlstate)
            told.append(status(conn))
        return told

    assert same(story, autocommit=autocommit)


def test_set_local_ends_with_the_transaction(connect):
    """SET LOCAL holds to the end of the transaction and pins nothing."""
    conn = connect()
    conn.execute("set local work_mem = '77MB'")
    assert conn.execute("show work_mem").fetchone() == ("77MB",)
    conn.commit()
    assert conn.execute("show work_mem").fetchone() != ("77MB",)


# -- with


def test_with_commits_and_closes(connect, names):
    """A with-block that ends well commits and closes."""
    with connect() as conn:
        put(conn, 1, "a")
    assert (conn.closed, conn.broken, names()) == (True, False, ["a"])


def test_with_rolls_back_on_an_exception_and_closes(connect, names):
    """A with-block left by an exception rolls back and closes, and the exception comes through."""
    with pytest.raises(ZeroDivisionError), connect() as conn:
        put(conn, 1, "a")
        raise ZeroDivisionError
    assert (conn.closed, names()) == (True, [])


def test_with_allows_an_early_close(connect, names):
    """Closing inside the with-block rolls back, and leaving it then does nothing."""
    with connect() as conn:
        put(conn, 1, "a")
        conn.close()
    assert names() == []


# -- two phases


@pytest.fixture
def two_phases(admin):
    """Skips where the server allows no prepared transactions; ends those that a test left."""
    if admin.execute("show max_prepared_transactions").fetchone() == ("0",):
        pytest.skip("max_prepared_transactions is 0 on this server")
    yield
    for (gid,) in admin.execute("select gid from pg_prepared_xacts").fetchall():
        admin.execute(psycopg.sql.SQL("rollback prepared {}").format(gid))


def test_two_phase_commit(connect, names, two_phases):
    """begin, prepare and commit keep the work; between the phases nobody sees it."""
    conn = connect()
    conn.tpc_begin(conn.xid(1, "global", "branch"))
    put(conn, 1, "a")
    assert status(conn) == INTRANS
    conn.tpc_prepare()
    assert (status(conn), names()) == (IDLE, [])
    conn.tpc_commit()
    assert (status(conn), names()) == (IDLE, ["a"])
    put(conn, 2, "b")
    conn.commit()
    assert names() == ["a", "b"]


@pytest.mark.parametrize("prepare", [True, False])
def test_two_phase_rollback(connect, names, two_phases, prepare):
    """tpc_rollback undoes, before the prepare and after it."""
    conn = connect()
    conn.tpc_begin("plain-name")
    put(conn, 1, "a")
    if prepare:
        conn.tpc_prepare()
    conn.tpc_rollback()
    assert (status(conn), names(), conn.tpc_recover()) == (IDLE, [], [])


def test_two_phase_commit_in_one_phase(connect, names, two_phases):
    """tpc_commit without a prepare is an ordinary commit."""
    conn = connect()
    conn.tpc_begin("one-phase")
    put(conn, 1, "a")
    conn.tpc_commit()
    assert names() == ["a"]


@pytest.mark.parametrize("end", ["tpc_commit", "tpc_rollback"])
def test_another_session_ends_a_prepared_transaction(connect, names, two_phases, end):
    """A prepared transaction outlives its session, is recovered and ended by another."""
    first = connect()
    first.tpc_begin(first.xid(7, "left", "behind"))
    put(first, 1, "a")
    first.tpc_prepare()
    first.close()
    second = connect()
    (xid,) = second.tpc_recover()
    assert (xid.format_id, xid.gtrid, xid.bqual, xid.database) == (7, "left", "behind", second.info.dbname)
    assert (xid.owner, xid.prepared is not None) == (second.info.user, True)
    getattr(second, end)(xid)
    assert second.tpc_recover() == []
    assert names() == (["a"] if end == "tpc_commit" else [])


def test_xid_is_the_drivers(same):
    """xid() makes the driver's Xid with its parts, and tpc_begin reads plain text too."""
    assert same(lambda conn: (conn.xid(1, "a", "b"), str(conn.xid(1, "a", "b")))) == (
        psycopg.Xid.from_parts(1, "a", "b"),
        "1_YQ==_Yg==",
    )


def begin_begin(conn: Any) -> None:
    conn.tpc_begin("one")
    try:
        conn.tpc_begin("two")
    finally:
        conn.tpc_rollback()


def commit_within(conn: Any) -> None:
    conn.tpc_begin("one")
    try:
        conn.commit()
    finally:
        conn.tpc_rollback()


def cancel_prepared(conn: Any) -> None:
    conn.tpc_begin("one")
    conn.tpc_prepare()
    try:
        conn.cancel()
    finally:
        conn.tpc_rollback()


def begin_in_transaction(conn: Any) -> None:
    conn.execute("select 1")
    conn.tpc_begin("one")


def prepare_with_too_long_a_name(conn: Any) -> None:
    conn.tpc_begin("x" * 300)
    conn.tpc_prepare()


def begin_under_autocommit(conn: Any) -> None:
    conn.autocommit = True
    conn.tpc_begin("one")


@pytest.mark.parametrize(
    "story",
    [
        begin_begin,
        commit_within,
        cancel_prepared,
        begin_in_transaction,
        begin_under_autocommit,
        lambda conn: conn.tpc_prepare(),
        lambda conn: conn.tpc_commit(),
        lambda conn: conn.tpc_rollback(),
        lambda conn: conn.tpc_commit("unheard-of"),
        prepare_with_too_long_a_name,
    ],
)
def test_two_phase_misuse(same, two_phases, story):
    """Calls in the wrong order raise what the driver or the server raises."""
    assert issubclass(same(story)[0], (psycopg.Error, ValueError))


def test_a_prepare_that_fails_leaves_the_session_usable(connect, two_phases):
    """PREPARE TRANSACTION after an error rolls back, as the server says."""
    conn = connect()
    conn.tpc_begin("failing")
    put(conn, 1, "a")
    with pytest.raises(errors.DivisionByZero):
        conn.execute("select 1/0")
    conn.tpc_rollback()
    assert conn.execute("select count(*) from feature_items").fetchone() == (0,)
