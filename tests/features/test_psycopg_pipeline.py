"""Pipeline mode: many statements on the way at once."""

# ruff: noqa: PT012 - a block that is left by an error is what these tests are about

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import PipelineStatus, TransactionStatus

IDLE, INTRANS = TransactionStatus.IDLE, TransactionStatus.INTRANS

autocommit = pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])


def put(conn: Any, number: int, name: str) -> Any:
    return conn.execute("insert into feature_items values (%s, %s) returning name", [number, name])


@autocommit
def test_results_arrive_in_order(connect, names, autocommit):
    """Statements sent in a pipeline answer in order, each to its own cursor."""
    conn = connect(autocommit=autocommit)
    with conn.pipeline():
        cursors = [put(conn, number, f"n{number}") for number in range(5)]
        assert cursors[3].fetchone() == ("n3",)
    assert [cur.fetchall() for cur in cursors] == [[("n0",)], [("n1",)], [("n2",)], [], [("n4",)]]
    assert conn.info.transaction_status == (IDLE if autocommit else INTRANS)
    conn.commit()
    assert len(names()) == 5


def test_sync_ends_an_implicit_transaction(connect, names):
    """Under autocommit what was sent before a sync stays, when something after it fails."""
    conn = connect(autocommit=True)
    with pytest.raises(errors.UniqueViolation), conn.pipeline() as pipeline:
        put(conn, 1, "a")
        pipeline.sync()
        put(conn, 2, "b")
        put(conn, 1, "again")
    assert names() == ["a"]
    assert conn.execute("select 1").fetchone() == (1,)


@autocommit
def test_an_error_aborts_the_rest_until_sync(connect, autocommit):
    """After an error the statements behind it raise PipelineAborted, until a sync."""
    conn = connect(autocommit=autocommit)
    with conn.pipeline() as pipeline:
        first = conn.execute("select 1/0")
        with pytest.raises(errors.DivisionByZero):
            first.fetchone()
        with pytest.raises(errors.PipelineAborted):
            conn.execute("select 'late'").fetchone()
        pipeline.sync()
        conn.rollback()
        assert conn.execute("select 'next'").fetchone() == ("next",)


def test_pipelines_nest(connect, names):
    """A pipeline within a pipeline is the same one; leaving the inner one syncs."""
    conn = connect(autocommit=True)
    with conn.pipeline() as outer:
        put(conn, 1, "a")
        with conn.pipeline() as inner:
            put(conn, 2, "b")
        assert inner is outer
        assert names() == ["a", "b"]
        assert conn.info.pipeline_status == PipelineStatus.ON
        put(conn, 3, "c")
    assert conn.info.pipeline_status == PipelineStatus.OFF
    assert names() == ["a", "b", "c"]


@autocommit
def test_transaction_blocks_in_a_pipeline(connect, names, autocommit):
    """A transaction() block in a pipeline commits or rolls back what is in it."""
    conn = connect(autocommit=autocommit)
    with conn.pipeline():
        with conn.transaction():
            put(conn, 1, "a")
        with pytest.raises(errors.DivisionByZero), conn.transaction():
            put(conn, 2, "b")
            conn.execute("select 1/0")
        with conn.transaction(force_rollback=True):
            put(conn, 3, "c")
        with conn.transaction():
            put(conn, 4, "d")
    assert names() == ["a", "d"]


def test_a_pipeline_in_a_transaction_block(connect, names):
    """A pipeline inside a transaction() block commits with the block."""
    conn = connect()
    with conn.transaction(), conn.pipeline():
        put(conn, 1, "a")
        put(conn, 2, "b")
    assert (conn.info.transaction_status, names()) == (IDLE, ["a", "b"])


def test_commit_and_rollback_in_a_pipeline(connect, names):
    """commit() and rollback() inside a pipeline end the transaction there."""
    conn = connect()
    with conn.pipeline():
        put(conn, 1, "a")
        conn.commit()
        put(conn, 2, "b")
        conn.rollback()
        put(conn, 3, "c")
        conn.commit()
    assert names() == ["a", "c"]


@pytest.mark.parametrize("returning", [False, True])
def test_executemany_in_a_pipeline(connect, names, returning):
    """executemany joins the pipeline, with results or without."""
    conn = connect(autocommit=True)
    with conn.pipeline():
        cur = conn.cursor()
        insert = "insert into feature_items values (%s, %s) returning name"
        cur.executemany(insert, [(1, "a"), (2, "b")], returning=returning)
        if returning:
            assert [one.fetchone() for one in cur.results()] == [("a",), ("b",)]
    assert names() == ["a", "b"]


def test_prepared_statements_in_a_pipeline(connect):
    """Statements are prepared within a pipeline, and used after it."""
    conn = connect(autocommit=True, prepare_threshold=1)
    with conn.pipeline():
        cursors = [conn.execute("select 'kept', %s", [number]) for number in range(9)]
    assert [cur.fetchone()[1] for cur in cursors] == list(range(9))
    assert conn.execute("select 'kept', %s", [9]).fetchone() == ("kept", 9)


def test_a_pipeline_left_by_an_exception(connect, names):
    """An exception in the block comes through; what was synced by the exit stays, as in the driver."""
    conn = connect(autocommit=True)
    with pytest.raises(ZeroDivisionError), conn.pipeline():
        put(conn, 1, "a")
        raise ZeroDivisionError
    assert names() == ["a"]
    assert conn.info.pipeline_status == PipelineStatus.OFF


@pytest.mark.parametrize(
    "story",
    [
        lambda conn: list(conn.cursor().stream("select 1")),
        lambda conn: conn.cursor().copy("copy feature_items to stdout").__enter__(),
        lambda conn: conn.execute("select 1; select 2").fetchone(),
        lambda conn: conn.execute("select 1/0").fetchone(),
        lambda conn: setattr(conn, "autocommit", True),
    ],
    ids=["stream", "copy", "several", "error", "autocommit"],
)
def test_what_a_pipeline_cannot_do(same, story):
    """What does not go in pipeline mode raises the driver's own error."""

    def piped(conn):
        conn.execute("select 1")
        with conn.pipeline():
            story(conn)

    assert issubclass(same(piped)[0], psycopg.Error)


def test_named_cursors_do_not_go_in_a_pipeline(same):
    """A server-side cursor in a pipeline is the driver's NotSupportedError."""

    def story(conn):
        with conn.pipeline(), conn.cursor("piped") as cur:
            cur.execute("select 1")

    assert same(story)[0] is psycopg.NotSupportedError


def test_a_session_closed_inside_its_pipeline_harms_nobody(connect):
    """Closing inside the block leaves no pipeline to the next session."""
    conn = connect(autocommit=True)
    with pytest.raises(psycopg.OperationalError, match="the connection is closed"), conn.pipeline():
        conn.execute("select 1")
        conn.close()
    assert conn.closed
    assert connect(autocommit=True).execute("select 1").fetchone() == (1,)


def test_a_pipeline_shows_its_state(same):
    """The pipeline's repr tells whether it is on, and whether its connection is closed."""

    def story(conn):
        with conn.pipeline() as pipeline:
            told = [repr(pipeline)]
        told.append(repr(pipeline))
        conn.close()
        told.append(repr(pipeline))
        return [text.split(" at 0x")[0] for text in told]

    assert "[IDLE, pipeline=ON]" in same(story, autocommit=True)[0]
