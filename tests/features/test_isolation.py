"""Sessions that follow each other on one database connection see nothing of each other, and none writes twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.adapt import Dumper
from psycopg.pq import TransactionStatus

import rdsproxy_lib
import rdsproxy_lib.psycopg as drop_in

SECONDS = 10.0
"""How long a test waits for something that has to happen; never how long it takes."""

Connect = Callable[..., "psycopg.Connection[Any]"]


@pytest.fixture
def proxy(url: str) -> Iterator[rdsproxy_lib.Proxy]:
    """A proxy with one database connection, which all its sessions have to share."""
    proxy = rdsproxy_lib.Proxy(url, max_connections=1, connection_borrow_timeout=5)
    yield proxy
    proxy.close()


@pytest.fixture
def shared(proxy: rdsproxy_lib.Proxy) -> Iterator[Connect]:
    """Opens sessions that share one database connection."""
    opened: list[psycopg.Connection[Any]] = []

    def connect(**keywords: Any) -> psycopg.Connection[Any]:
        opened.append(proxy.connect(**keywords))
        return opened[-1]

    yield connect
    for conn in opened:
        conn.close()


@pytest.fixture(params=["private", "shared"])
def either(request: pytest.FixtureRequest, shared: Connect, dsn: str) -> Iterator[Connect]:
    """Opens private connections, then sessions that share one database connection."""
    opened: list[psycopg.Connection[Any]] = []

    def connect(**keywords: Any) -> psycopg.Connection[Any]:
        conn = shared(**keywords) if request.param == "shared" else psycopg.connect(dsn, **keywords)
        opened.append(conn)
        return conn

    yield connect
    for conn in opened:
        conn.close()


@pytest.fixture
def outside(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A private autocommit connection of the tables' owner."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn


@pytest.fixture
def kill(server: Any) -> Callable[[int], None]:
    """Ends a server process and waits until it is gone."""

    def end(pid: int) -> None:
        with server.admin() as admin:
            admin.execute("select pg_terminate_backend(%s, 5000)", [pid])

    return end


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Runs a function in a thread of its own; what it returned or raised is in the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def rows(conn: Any, query: str) -> list[Any]:
    return conn.execute(query).fetchall()


# -- plans that went stale


def test_a_commit_before_a_stale_plan_is_written_once(either, outside):
    """A text that writes, commits and then meets a stale plan of SQL's PREPARE fails, and has written once."""
    outside.execute("create table written (n int); create table changing (n int)")
    conn = either(autocommit=True)
    conn.execute("prepare mine as select * from changing")
    conn.execute("execute mine")
    outside.execute("alter table changing add column m int")
    with pytest.raises(errors.FeatureNotSupported, match="cached plan"):
        conn.execute("insert into written values (1); commit; execute mine")
    assert rows(outside, "select * from written") == [(1,)]


def test_a_stale_plan_of_ones_own_prepare_is_reported(either, outside):
    """EXECUTE of a plan that does not fit any more fails as it does in the driver, and the session goes on."""
    outside.execute("create table changing (n int)")
    conn = either(autocommit=True)
    conn.execute("prepare mine as select * from changing")
    outside.execute("alter table changing add column m int")
    for _ in range(2):
        with pytest.raises(errors.FeatureNotSupported, match="cached plan"):
            conn.execute("execute mine")
    assert rows(conn, "select 1") == [(1,)]


def test_a_stale_plan_inside_a_routine_is_reported_once(either, outside):
    """A routine that writes, commits and meets a stale plan is not called again."""
    outside.execute("create table written (n int); create table changing (n int)")
    outside.execute(
        "create procedure act() language plpgsql as $$ begin"
        " insert into written values (1); commit; execute 'execute mine'; end $$"
    )
    conn = either(autocommit=True)
    conn.execute("prepare mine as select * from changing")
    outside.execute("alter table changing add column m int")
    with pytest.raises(psycopg.Error):
        conn.execute("call act()")
    assert rows(outside, "select * from written") == [(1,)]


def test_a_stale_plan_of_another_session_is_not_met(shared, outside):
    """A statement that another session prepared before its table changed is run anew, once."""
    outside.execute("create table changing (n int); insert into changing values (1)")
    first, second = shared(autocommit=True), shared(autocommit=True)
    query = "select * from changing"
    first.execute(query, prepare=True)
    outside.execute("alter table changing add column m int")
    assert rows(second, query) == [(1, None)]
    assert rows(first, query) == [(1, None)]
    assert first.rdsproxy.pin_reasons == second.rdsproxy.pin_reasons == ()


def test_a_stale_plan_whose_statement_fails_too_leaves_nothing_behind(shared, outside):
    """After a statement that was replanned and failed, another session's prepared statements work."""
    outside.execute("create table changing (n int)")
    first, second = shared(autocommit=True), shared()
    query = "select n / 0, changing.* from changing"
    first.execute(query, prepare=True)
    outside.execute("insert into changing values (1); alter table changing add column m int")
    with pytest.raises(errors.DivisionByZero):
        first.execute(query)
    second.execute("select 'x'", prepare=True)
    assert rows(second, "select 'x'") == [("x",)]
    assert second.info.transaction_status == TransactionStatus.INTRANS


def test_changing_a_table_in_a_pipeline_leaves_nothing_behind(either):
    """After a pipeline that changed a table, another session's prepared statements work."""
    first, second = either(autocommit=True), either(autocommit=True)
    first.execute("create table changing (n int)")
    first.execute("select 1", prepare=True)
    with first.pipeline():
        first.execute("alter table changing add column m int")
    first.close()
    with second.transaction():
        for _ in range(3):
            assert second.execute("select 'x'", prepare=True).fetchone() == ("x",)


def test_a_session_keeps_its_own_prepare_when_another_plan_is_dropped(shared, outside):
    """Dropping one stale plan of the driver's leaves the PREPARE of the session alone."""
    outside.execute("create table changing (n int)")
    conn = shared(autocommit=True)
    conn.execute("prepare mine as select 'mine'")
    query = "select * from changing"
    conn.execute(query, prepare=True)
    outside.execute("alter table changing add column m int")
    with suppress(errors.FeatureNotSupported):  # a private connection says this
        conn.execute(query)
    assert rows(conn, "execute mine") == [("mine",)]


# -- plans made under other settings


@pytest.mark.parametrize("setting", ["set local timezone = '{}'", "select set_config('timezone', '{}', true)"])
@pytest.mark.parametrize("repeated", [False, True])
def test_a_plan_made_under_local_settings_answers_no_other_session(either, setting, repeated):
    """What the server folds into a plan under SET LOCAL is not told to the next session."""
    first, second = either(), either(autocommit=True)
    for conn in (first, second):
        conn.execute("select 1")
        conn.commit()
    query = "select extract(epoch from '2020-01-01 00:00'::timestamptz)::int"
    (before,) = second.execute(query, prepare=False).fetchone()
    first.execute(setting.format("Asia/Tokyo"))
    for _ in range(8 if repeated else 1):
        (tokyo,) = first.execute(query, prepare=None if repeated else True).fetchone()
    first.commit()
    assert tokyo != before
    for prepare in (None, True):
        assert second.execute(query, prepare=prepare).fetchone() == (before,)
    if hasattr(first, "rdsproxy"):
        assert first.rdsproxy.pin_reasons == ()


def test_a_plan_made_under_local_settings_writes_nothing_wrong(either):
    """A date that was prepared under another session's SET LOCAL datestyle is stored as this session reads it."""
    first, second = either(), either(autocommit=True)
    first.execute("create table days (day date)")
    first.commit()
    text = "insert into days values ('02/01/2020') returning to_char(day, 'YYYY-MM-DD')"
    first.execute("set local datestyle = 'dmy'")
    assert first.execute(text, prepare=True).fetchone() == ("2020-01-02",)
    first.commit()
    assert second.execute(text).fetchone() == ("2020-02-01",)


def test_a_plan_made_by_others_answers_no_session_with_local_settings(either):
    """A session that has SET LOCAL is not answered from a plan that was made without."""
    first, second = either(autocommit=True), either()
    second.execute("select 1")
    second.commit()
    query = "select extract(epoch from '2020-01-01 00:00'::timestamptz)::int"
    (before,) = first.execute(query, prepare=True).fetchone()
    second.execute("set local timezone = 'Asia/Tokyo'")
    for _ in range(2):
        assert second.execute(query).fetchone() != (before,)
    second.commit()
    assert first.execute(query).fetchone() == (before,)


def test_local_settings_in_one_text_with_begin_leave_no_plan(shared):
    """SET LOCAL in one text with other statements counts as well."""
    first, second = shared(autocommit=True), shared(autocommit=True)
    query = "select extract(epoch from '2020-01-01 00:00'::timestamptz)::int"
    (before,) = second.execute(query, prepare=False).fetchone()
    first.execute("begin; select 1; set local timezone = 'Asia/Tokyo'")
    assert first.execute(query, prepare=True).fetchone() != (before,)
    first.execute("commit")
    assert second.execute(query).fetchone() == (before,)


def test_local_settings_in_a_pipeline_leave_no_plan(either):
    """SET LOCAL in a pipeline, with the statements that it governs, leaves no plan for others."""
    first, second = either(), either(autocommit=True)
    query = "select extract(epoch from '2020-01-01 00:00'::timestamptz)::int"
    (before,) = second.execute(query, prepare=False).fetchone()
    with first.pipeline():
        first.execute("set local timezone = 'Asia/Tokyo'")
        cursor = first.execute(query, prepare=True)
    assert cursor.fetchone() != (before,)
    first.commit()
    assert second.execute(query).fetchone() == (before,)


@pytest.mark.parametrize("ending", ["rollback to savepoint s", "release savepoint s"])
def test_local_settings_in_a_savepoint_leave_no_plan(either, ending):
    """SET LOCAL inside a savepoint, however that ends, leaves no plan for others."""
    first, second = either(), either(autocommit=True)
    query = "select extract(epoch from '2020-01-01 00:00'::timestamptz)::int"
    (before,) = second.execute(query, prepare=False).fetchone()
    first.execute("savepoint s")
    first.execute("set local timezone = 'Asia/Tokyo'")
    assert first.execute(query, prepare=True).fetchone() != (before,)
    first.execute(ending)
    first.execute(query, prepare=True)
    first.commit()
    assert second.execute(query).fetchone() == (before,)


# -- connections that are closed while they work


def test_a_statement_that_waited_is_not_sent_after_close(shared, proxy, outside):
    """A statement that waits for a database connection while another thread closes its session is never sent."""
    outside.execute("create table written (n int)")
    waiting, holding = shared(autocommit=True), shared()
    holding.execute("select 1")
    thread, outcome = in_thread(lambda: waiting.execute("insert into written values (1)"))
    while proxy.pool.occupancy().waiting == 0 and thread.is_alive():
        threading.Event().wait(0.005)
    waiting.close()
    holding.commit()
    thread.join(SECONDS)
    assert isinstance(outcome[0], psycopg.OperationalError)
    assert "closed" in str(outcome[0])
    assert rows(outside, "select * from written") == []
    assert rows(holding, "select 1") == [(1,)]


class Word:
    """A parameter whose dumper calls back."""


@pytest.mark.parametrize("act", ["execute", "transaction", "executemany", "copy"])
def test_closing_amid_an_exchange_of_the_same_thread_sends_nothing_to_others(shared, proxy, outside, act):
    """A session that closes itself while its statement is being built fails; others see nothing and work on."""
    outside.execute("create table written (n text)")
    closing, other = shared(autocommit=True), shared()
    closing.execute("select 1")

    class Closing(Dumper):
        oid = 25

        def dump(self, obj: object) -> bytes:
            closing.close()
            return b"x"

    closing.adapters.register_dumper(Word, Closing)

    def run() -> None:
        if act == "execute":
            closing.execute("insert into written values (%s)", [Word()])
        elif act == "transaction":
            with closing.transaction():
                closing.execute("insert into written values (%s)", [Word()])
        elif act == "executemany":
            closing.cursor().executemany("insert into written values (%s)", [[Word()], [Word()]])
        else:
            with closing.cursor().copy("copy written from stdin") as copy:
                copy.write_row([Word()])

    thread, outcome = in_thread(run)
    thread.join(SECONDS)
    assert not thread.is_alive(), "it hangs"
    assert isinstance(outcome[0], psycopg.Error)
    assert closing.closed
    assert other.info.transaction_status == TransactionStatus.IDLE
    assert rows(other, "select * from written") == []
    assert other.info.transaction_status == TransactionStatus.INTRANS
    other.rollback()
    assert other.info.transaction_status == TransactionStatus.IDLE
    assert proxy.stats().database_connections_currently_borrowed == 0


# -- what lies below the driver


@pytest.mark.parametrize("parked", [False, True])
def test_a_notice_handler_set_below_the_driver_is_for_one_session(either, parked):
    """`pgconn.notice_handler = …` hears the notices of this session alone, and takes none from others."""
    first, second = either(), either(autocommit=True)
    mine: list[Any] = []
    others: list[Any] = []
    second.add_notice_handler(lambda notice: others.append(notice.message_primary))
    first.execute("select 1")
    if parked:
        first.rollback()
    first.pgconn.notice_handler = lambda result: mine.append(result)
    if hasattr(first, "rdsproxy"):
        assert [reason.name for reason in first.rdsproxy.pin_reasons] == ["RAW_ACCESS"]
    first.execute("drop table if exists missing")
    assert len(mine) == 1
    first.rollback()
    first.close()
    second.execute("drop table if exists missing")
    assert len(mine) == 1
    assert len(others) == 1


def test_a_kept_method_from_below_the_driver_reaches_no_other_session(either):
    """A bound method of `pgconn` that outlives its session does not run in another one's transaction."""
    first, second = either(autocommit=True), either()
    execute = first.pgconn.exec_
    first.close()
    second.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="closed"):
        execute(b"set application_name = 'seized'")
    assert second.execute("select current_setting('application_name') = 'seized'").fetchone() == (False,)


def test_a_kept_info_tells_of_its_own_session(either):
    """`conn.info` that is kept over a transaction tells nothing of the session that follows."""
    first, second = either(), either()
    first.execute("select 1")
    info = first.info
    first.commit()
    second.execute("set local application_name = 'second'")
    with pytest.raises(errors.DivisionByZero):
        second.execute("select 1 / 0")
    assert info.transaction_status == first.info.transaction_status == TransactionStatus.IDLE
    assert info.parameter_status("application_name") != "second"
    assert "division" not in info.error_message


def test_kept_cursors_of_a_pipeline_show_no_other_session(either):
    """Every cursor that worked in a pipeline is its own session's again when that is over."""
    first, second = either(autocommit=True), either(autocommit=True)
    cursors = [first.cursor() for _ in range(3)]
    with first.pipeline():
        for number, cursor in enumerate(cursors):
            cursor.execute("select %s::int", [number])
    with second.pipeline():
        second.execute("select 1")
        for number, cursor in enumerate(cursors):
            assert "ACTIVE" not in repr(cursor)
            assert "pipeline" not in repr(cursor)
            assert cursor.fetchall() == [(number,)]
    for cursor in cursors:
        assert list(cursor.stream("select 1")) == [(1,)]


REACHES: dict[str, Callable[[Any], Any]] = {
    "fileno": lambda conn: conn.fileno(),
    "pgconn": lambda conn: conn.pgconn.socket,
    "info": lambda conn: conn.info.backend_pid,
}


@pytest.mark.parametrize("ask", list(REACHES))
def test_a_refused_reach_below_the_driver_keeps_no_connection(url, ask):
    """Where pinning is refused, a session that asked for it holds nothing afterwards."""
    proxy = rdsproxy_lib.Proxy(url, max_connections=2, max_pinned_percent=0)
    with proxy.connect(autocommit=True) as pinned, proxy.connect(autocommit=True) as refused:
        refused.execute("select 1")
        with suppress(psycopg.Error):
            pinned.rdsproxy.pin()
        held = proxy.stats().database_connections_currently_borrowed
        with pytest.raises(rdsproxy_lib.PinRefused):
            REACHES[ask](refused)
        assert proxy.stats().database_connections_currently_borrowed == held
        assert refused.rdsproxy.backend is None
    proxy.close()


# -- state that no command takes back


@pytest.mark.parametrize("how", ["select act()", "do $$ begin perform setseed(0.5); end $$"])
def test_random_numbers_are_not_foretold_by_another_session(shared, outside, how):
    """setseed() inside a routine does not decide which random numbers the next session draws."""
    outside.execute(
        "create function act() returns void language plpgsql as $$ begin perform setseed(0.5); end $$",
    )
    outside.execute("select setseed(0.5)")
    (foretold,) = outside.execute("select random()").fetchone()
    drawn = set()
    for _ in range(2):
        first, second = shared(autocommit=True), shared(autocommit=True)
        first.execute(how)
        first.close()
        drawn.add(second.execute("select random()").fetchone()[0])
    assert len(drawn) == 2
    assert foretold not in drawn


def test_a_text_that_is_read_otherwise_is_not_taken_for_harmless(shared, outside):
    """With standard_conforming_strings off locally, what a text does is still seen: no lock stays behind."""
    first, second = shared(), shared()
    first.execute("set local standard_conforming_strings = off")
    first.execute(r"select 'a\'', pg_advisory_lock(7) -- '")
    first.commit()
    assert first.rdsproxy.pin_reasons
    first.close()
    second.execute("select 1")
    locks = "select count(*) from pg_locks where locktype = 'advisory' and database ="
    locks += " (select oid from pg_database where datname = current_database())"
    assert outside.execute(locks).fetchone() == (0,)


# -- what is said of a connection that dies


def test_executemany_cut_inside_a_transaction_may_be_repeated(shared, kill):
    """Nothing was committed where executemany() is cut inside an open transaction: it may safely be tried again."""
    conn = shared()
    (pid,) = conn.execute("select pg_backend_pid()").fetchone()
    with pytest.raises(rdsproxy_lib.TransactionLost) as raised:
        conn.cursor().executemany("select pg_terminate_backend(%s)", [[pid], [pid]])
    assert raised.value.retry_safe
    assert raised.value.sqlstate == "40001"
    conn.rollback()
    assert rows(conn, "select 1") == [(1,)]


@pytest.mark.parametrize("how", ["rollback()", "text", "tpc"])
def test_rolling_back_a_transaction_whose_connection_died_is_quiet(shared, server, kill, how):
    """What was to be undone is gone with the connection: rollback raises nothing, and the session goes on."""
    conn = shared()
    if how == "tpc":
        conn.tpc_begin(conn.xid(1, "global", "branch"))
    (pid,) = conn.execute("select pg_backend_pid()").fetchone()
    kill(pid)
    if how == "rollback()":
        conn.rollback()
    elif how == "text":
        conn.execute("rollback")
    else:
        with suppress(rdsproxy_lib.TransactionLost):
            conn.tpc_rollback()
        conn.rollback()
    assert conn.info.transaction_status == TransactionStatus.IDLE
    assert rows(conn, "select 1") == [(1,)]


def test_the_error_of_the_application_is_the_one_that_is_seen(shared, kill):
    """`except …: conn.rollback(); raise` hands on the application's error, though the connection died."""
    conn = shared()
    (pid,) = conn.execute("select pg_backend_pid()").fetchone()
    kill(pid)

    def work() -> None:
        try:
            raise LookupError
        except LookupError:
            conn.rollback()
            raise

    with pytest.raises(LookupError):
        work()
    assert rows(conn, "select 1") == [(1,)]


# -- annotations


@pytest.mark.parametrize("name", ["Connection", "AsyncConnection", "Cursor"])
def test_the_drop_in_classes_take_row_types(name):
    """Annotations such as `psycopg.Connection[tuple]` may be evaluated, as with the driver's own classes."""
    assert getattr(drop_in, name)[tuple[Any, ...]] is not None
    assert getattr(psycopg, name)[tuple[Any, ...]] is not None
