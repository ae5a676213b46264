"""The features once more, with rivals that seize each backend as soon as the session lets go of it."""

# ruff: noqa: PT012 - a block that is left by an error is what these tests are about

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from enum import Enum
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor, Cursor, RawCursor, ServerCursor, errors, rows
from psycopg.pq import TransactionStatus
from psycopg.types.enum import EnumInfo, register_enum

IDLE, INTRANS = TransactionStatus.IDLE, TransactionStatus.INTRANS
PID = "select pg_backend_pid()"
ZONED = "select '2024-01-31 12:00+00'::timestamptz"


pytestmark = pytest.mark.parametrize("connect", ["private", "multiplexed"], indirect=True)


def put(conn: Any, number: int, name: str) -> None:
    conn.execute("insert into feature_items values (%s, %s)", [number, name])


def test_a_session_moves_between_backends(connect, rival):
    """Under autocommit each statement may run on another backend; `backend_id` names the last one."""
    conn = connect(autocommit=True)
    seen = set()
    for _ in range(6):
        (pid,) = conn.execute(PID).fetchone()
        seen.add(pid)
        if connect.proxy:
            assert conn.rdsproxy.backend_id == pid
        rival(conn)
    assert len(seen) >= 2 if connect.proxy else len(seen) == 1


def test_a_transaction_stays_on_its_backend(connect, rival):
    """From its first statement to its end a transaction keeps one backend, the next one may have another."""
    conn = connect()
    seen = []
    for _ in range(3):
        pids = set()
        for _ in range(3):
            pids.update(conn.execute(PID).fetchone())
            rival()
        assert len(pids) == 1
        seen += pids
        conn.commit()
        rival(conn)
    assert len(set(seen)) >= (2 if connect.proxy else 1)


@pytest.mark.parametrize("cls", [Cursor, ClientCursor, RawCursor])
def test_a_kept_cursor_moves_along(connect, rival, cls):
    """One cursor object, made by hand and used again and again, works on whichever backend there is."""
    conn = connect(autocommit=True)
    cur = cls(conn)
    mark = "$1" if cls is RawCursor else "%s"
    for number in range(6):
        assert cur.execute(f"select {mark}::int", [number]).fetchone() == (number,)
        rival(conn)


def test_rows_read_late_are_the_sessions(connect, rival):
    """Rows that wait in a cursor are not disturbed by what the backend does next."""
    conn = connect(autocommit=True, options="-c TimeZone=Asia/Tokyo")
    cur = conn.execute(f"{ZONED}, n from generate_series(1, 3) as n")
    for number in (1, 2, 3):
        rival()
        moment, n = cur.fetchone()
        assert (moment.tzinfo.key, n) == ("Asia/Tokyo", number)


def test_result_sets_read_late_are_the_sessions(connect, rival):
    """nextset() loads values in the session's own time zone, whatever others set meanwhile."""
    conn, other = connect(autocommit=True), connect(autocommit=True)
    conn.execute("set timezone to 'Asia/Tokyo'")
    cur = conn.execute(f"{ZONED}; {ZONED}; {ZONED}")
    other.execute("set timezone to 'America/New_York'")
    rival()
    zones = []
    for one in cur.results():
        zones.append(one.fetchone()[0].tzinfo.key)
        rival()
        assert other.execute(ZONED).fetchone()[0].tzinfo.key == "America/New_York"
    assert zones == ["Asia/Tokyo"] * 3


def test_prepared_statements_follow_the_session(connect, rival):
    """Statements that the driver prepares work on every backend, under names that others used too."""
    conn = connect(autocommit=True, prepare_threshold=1)
    for number in range(12):
        assert conn.execute("select %s + 1", [number]).fetchone() == (number + 1,)
        assert conn.execute("select 'a' || %s", [str(number)]).fetchone() == (f"a{number}",)
        rival(conn)


def test_two_sessions_prepare_without_confusion(connect, rival):
    """Sessions with different thresholds and the same texts never get each other's results."""
    first = connect(autocommit=True, prepare_threshold=0)
    second = connect(autocommit=True, prepare_threshold=None)
    for number in range(8):
        for conn, column in ((first, "a"), (second, "b")):
            assert conn.execute(f"select '{column}', %s", [number]).fetchone() == (column, number)
        rival(first, second)
    assert (first.prepare_threshold, second.prepare_threshold) == (0, None)


def test_prepared_statements_survive_a_changed_table(connect, admin, rival):
    """After a column was added a statement prepared on several backends works as on a private connection."""
    conn = connect(autocommit=True, prepare_threshold=0)
    query = "select count(id) from feature_changing where id > %s"
    admin.execute("create table if not exists feature_changing (id int)")
    try:
        for _ in range(4):
            assert conn.execute(query, [0]).fetchone() == (0,)
            rival(conn)
        admin.execute("alter table feature_changing add name text, alter id type bigint")
        for _ in range(4):
            assert conn.execute(query, [0]).fetchone() == (0,)
            rival(conn)
    finally:
        admin.execute("drop table feature_changing")


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
def test_plans_of_other_sessions_are_not_felt(connect, admin, rival, autocommit):
    """A session that meets a changed table for the first time is not hit by what others prepared before."""
    first = connect(autocommit=True, prepare_threshold=0)
    query = "select * from feature_changing where id > %s"
    admin.execute("create table if not exists feature_changing (id int)")
    try:
        for _ in range(4):
            assert len(first.execute(query, [0]).description) == 1
            rival(first)
        admin.execute("alter table feature_changing add name text")
        second = connect(autocommit=autocommit)
        for _ in range(4):
            assert len(second.execute(query, [0]).description) == 2
            second.commit()
            rival(second)
    finally:
        admin.execute("drop table feature_changing")


def test_failed_transactions_stay_with_their_session(connect, rival, names):
    """While one session waits for its rollback others work, and its next transaction is whole again."""
    conn, other = connect(), connect(autocommit=True)
    for number in range(4):
        put(conn, 1, "a")
        with pytest.raises(errors.DivisionByZero):
            conn.execute("select 1/0")
        rival()
        put(other, 10 + number, "b")
        with pytest.raises(errors.InFailedSqlTransaction):
            conn.execute("select 1")
        conn.rollback()
        rival(conn)
    assert names() == ["b"] * 4


def test_literal_transactions_follow_the_session(connect, rival, names):
    """BEGIN and COMMIT in SQL text keep the backend between them and give it back after."""
    conn = connect(autocommit=True)
    for number in range(4):
        conn.execute("BEGIN")
        rival()
        put(conn, number, "a")
        rival()
        conn.execute("COMMIT" if number % 2 else "ROLLBACK")
        rival(conn)
    assert names() == ["a", "a"]


def test_transaction_blocks_follow_the_session(connect, rival, names):
    """Nested transaction() blocks begin on one backend and end there."""
    conn = connect(autocommit=True)
    for number in range(4):
        with conn.transaction():
            put(conn, number, "outer")
            rival()
            with conn.transaction(force_rollback=True):
                put(conn, 100 + number, "inner")
                rival()
        rival(conn)
    assert names() == ["outer"] * 4


def test_characteristics_follow_the_session(connect, rival):
    """Isolation level and read-only are the session's on every backend, and nobody else's."""
    strict, plain = connect(), connect()
    strict.isolation_level, strict.read_only = psycopg.IsolationLevel.SERIALIZABLE, True
    show = "select current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    for _ in range(4):
        assert strict.execute(show).fetchone() == ("serializable", "on")
        strict.commit()
        assert plain.execute(show).fetchone() == ("read committed", "off")
        plain.commit()
        rival(strict)


def test_server_side_cursors_keep_their_backend(connect, rival):
    """A named cursor reads on while rivals work, and its name is free in the next transaction."""
    conn = connect()
    for _ in range(4):
        with ServerCursor(conn, "shared") as cur:
            cur.itersize = 2
            cur.execute("select n from generate_series(1, 6) as n")
            for expected, (n,) in enumerate(cur, 1):
                assert n == expected
                rival()
        conn.commit()
        rival(conn)


def test_streams_keep_their_backend(connect, rival):
    """A stream reads on while rivals work, and the next one may come from another backend."""
    conn = connect(autocommit=True)
    for _ in range(4):
        for expected, (n,) in enumerate(conn.cursor().stream("select n from generate_series(1, 5) as n"), 1):
            assert n == expected
            rival()
        rival(conn)


@pytest.mark.parametrize("left", ["read", "abandoned"])
def test_copies_keep_their_backend(connect, rival, left):
    """COPY in and out go on while rivals work; one that an exception left harms nobody."""
    conn = connect(autocommit=True)
    cur = conn.cursor()
    for number in range(4):
        expected = pytest.raises(ZeroDivisionError) if left == "abandoned" else nullcontext()
        with expected, cur.copy("copy feature_items from stdin") as copy:
            copy.write_row((number, "a"))
            rival()
            copy.write_row((100 + number, 1 / 0 if left == "abandoned" else "b"))
        rival(conn)
        with expected, cur.copy("copy feature_items to stdout") as copy:
            for _row in copy.rows():
                rival()
            assert left == "read" or 1 / 0
        rival(conn)
    (count,) = conn.execute("select count(*) from feature_items").fetchone()
    assert count == (8 if left == "read" else 0)


def test_pipelines_keep_their_backend(connect, rival, names):
    """A pipeline's statements stay together; after it the backend serves others."""
    conn = connect(autocommit=True)
    for number in range(4):
        with conn.pipeline() as pipeline:
            first = conn.execute(PID)
            rival()
            put(conn, number, "a")
            pipeline.sync()
            rival()
            assert conn.execute(PID).fetchone() == first.fetchone()
        rival(conn)
    assert names() == ["a"] * 4


def test_a_failed_pipeline_harms_nobody(connect, rival):
    """After a pipeline that failed the backend is as good as before."""
    conn = connect(autocommit=True, prepare_threshold=None)
    for _ in range(4):
        with pytest.raises(errors.DivisionByZero), conn.pipeline():
            conn.execute("select 1/0")
            conn.execute("select 1")
        rival(conn)
        assert conn.execute("select 1").fetchone() == (1,)
        rival(conn)


@pytest.mark.parametrize("caught", ["outside", "inside"])
def test_what_a_failed_pipeline_did_not_prepare_is_nobodys(connect, rival, caught):
    """A statement whose preparing was aborted with its pipeline works in every other session."""
    failing, other = connect(autocommit=True, prepare_threshold=1), connect(autocommit=True)
    query = "select 'aborted', %s"
    failing.execute(query, [1])
    with suppress(psycopg.Error) if caught == "outside" else nullcontext(), failing.pipeline() as pipeline:
        with suppress(psycopg.Error) if caught == "inside" else nullcontext():
            failing.execute("select 1/0")
            failing.execute(query, [1])
            pipeline.sync()
        with suppress(psycopg.Error):
            pipeline.sync()
    for _ in range(4):
        assert other.execute(query, [1]).fetchone() == ("aborted", 1)
        rival(other)


def test_adapters_and_row_factories_follow_the_session(connect, rival):
    """Registered types and row shapes hold on each backend, for their session alone."""
    mood = Enum("Mood", {"glad": "glad", "sad": "sad"})
    first, second = connect(autocommit=True, row_factory=rows.dict_row), connect(autocommit=True)
    register_enum(EnumInfo.fetch(first, "feature_mood"), first, mood)
    for _ in range(4):
        assert first.execute("select %s::feature_mood as mood", [mood.sad]).fetchone() == {"mood": mood.sad}
        assert second.execute("select 'sad'::feature_mood").fetchone() == ("sad",)
        rival(first, second)


def test_notices_follow_the_session(connect, rival):
    """A notice reaches the handlers of the session whose statement caused it, on each backend."""
    conn = connect(autocommit=True)
    heard = []
    conn.add_notice_handler(lambda diag: heard.append(diag.message_primary))
    for number in range(4):
        conn.execute(f"drop table if exists feature_absent_{number}")
        rival(conn)
    assert heard == [f'table "feature_absent_{number}" does not exist, skipping' for number in range(4)]


def test_executemany_follows_the_session(connect, rival):
    """executemany with returning runs whole on one backend each time."""
    conn = connect(autocommit=True)
    cur = conn.cursor()
    for number in range(4):
        cur.executemany(
            "insert into feature_items values (%s, 'x') returning pg_backend_pid(), id",
            [(number * 10 + step,) for step in range(3)],
            returning=True,
        )
        rival(conn)
        told = [one.fetchone() for one in cur.results()]
        assert len({pid for pid, _ in told}) == 1
        assert [id for _, id in told] == [number * 10 + step for step in range(3)]


def test_cancel_finds_the_session_wherever_it_runs(connect, rival, running):
    """A cancel reaches the statement in flight on the backend of the moment."""
    conn = connect(autocommit=True)
    for turn in range(3):
        text = f"/* {id(conn)} {turn} */"
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(conn.execute, f"select pg_sleep(60) {text}")
            running(text)
            conn.cancel_safe()
            with pytest.raises(errors.QueryCanceled):
                future.result(15)
        rival(conn)


def test_a_temporary_table_stays_with_its_session(connect, rival):
    """A session with a temporary table keeps its backend, and nobody else sees the table."""
    connect.may_pin("TEMP_TABLE")
    conn, other = connect(autocommit=True), connect(autocommit=True)
    conn.execute("create temporary table feature_private (id int)")
    for number in range(3):
        conn.execute("insert into feature_private values (%s)", [number])
        rival()
        with pytest.raises(errors.UndefinedTable):
            other.execute("select * from feature_private")
    assert conn.execute("select count(*) from feature_private").fetchone() == (3,)
    conn.close()
    rival()
    with pytest.raises(errors.UndefinedTable):
        other.execute("select * from feature_private")


def test_a_setting_stays_with_its_session(connect, rival):
    """What one session SETs no other session reads, also after that session closed."""
    conn, other = connect(autocommit=True), connect(autocommit=True)
    default = other.execute("show work_mem").fetchone()
    conn.execute("set work_mem = '77MB'")
    for _ in range(3):
        rival()
        assert conn.execute("show work_mem").fetchone() == ("77MB",)
        assert other.execute("show work_mem").fetchone() == default
    conn.close()
    for _ in range(3):
        rival()
        assert other.execute("show work_mem").fetchone() == default


def test_an_advisory_lock_stays_with_its_session(connect, rival, eventually):
    """A session-level lock holds against others until it is released or its session closes."""
    connect.may_pin("ADVISORY_LOCK")
    conn, other = connect(autocommit=True), connect(autocommit=True)
    take = "select pg_try_advisory_lock(7001)"
    assert conn.execute(take).fetchone() == (True,)
    rival()
    assert other.execute(take).fetchone() == (False,)
    assert conn.execute("select pg_advisory_unlock(7001)").fetchone() == (True,)
    rival()
    assert other.execute(take).fetchone() == (True,)
    other.close()
    assert eventually(lambda: conn.execute(take).fetchone() == (True,))


def test_a_transactions_advisory_lock_pins_nothing(connect, rival):
    """A lock that ends with its transaction lets the backend go with it."""
    conn = connect()
    for _ in range(4):
        assert conn.execute("select pg_try_advisory_xact_lock(7002)").fetchone() == (True,)
        conn.commit()
        rival(conn)


def test_sql_prepare_stays_with_its_session(connect, rival):
    """PREPARE in SQL text holds the backend until DEALLOCATE."""
    connect.may_pin("PREPARED_STATEMENT")
    conn = connect(autocommit=True)
    conn.execute("prepare feature_plan as select $1 + 1")
    for number in range(3):
        rival()
        assert conn.execute(f"execute feature_plan({number})").fetchone() == (number + 1,)
    conn.execute("deallocate feature_plan")


def test_more_sessions_than_backends(connect, rival):
    """Many idle sessions need few backends; inside a transaction the property says so."""
    sessions = [connect() for _ in range(20)]
    for turn in range(2):
        for number, conn in enumerate(sessions):
            assert conn.execute("select %s", [number]).fetchone() == (number,)
            if connect.proxy:
                assert conn.rdsproxy.in_transaction
            conn.commit()
            if connect.proxy:
                assert not conn.rdsproxy.in_transaction
        rival(*sessions[turn:turn])
    if connect.proxy:
        stats = connect.proxy.stats()
        assert stats.client_connections >= 20
        assert stats.database_connections <= 4
