"""COPY in every shape, and reading a result while it arrives."""

# ruff: noqa: PT012 - a block that is left by an error is what these tests are about

from __future__ import annotations

from io import BytesIO
from typing import Any

import psycopg
import pytest
from psycopg import errors, rows, sql
from psycopg.copy import FileWriter, LibpqWriter, QueuedLibpqWriter
from psycopg.pq import TransactionStatus

TO_TABLE = "copy feature_items from stdin"
FROM_SERIES = "copy (select n, 'n' || n from generate_series(1, 3) as n) to stdout"
SERIES = "select n from generate_series(1, 1000) as n"

autocommit = pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])


def is_idle(conn: Any) -> bool:
    return conn.info.transaction_status == TransactionStatus.IDLE


# -- copy in


@autocommit
@pytest.mark.parametrize("data", ["1\ta\n2\tb\n", b"1\ta\n2\tb\n"], ids=["str", "bytes"])
def test_copy_in_of_text(connect, names, autocommit, data):
    """`copy.write()` takes text and bytes, in any portions."""
    conn = connect(autocommit=autocommit)
    cur = conn.cursor()
    with cur.copy(TO_TABLE) as copy:
        copy.write(data[:3])
        copy.write(data[3:])
    assert (cur.statusmessage, cur.rowcount, is_idle(conn)) == ("COPY 2", 2, autocommit)
    conn.commit()
    assert names() == ["a", "b"]


@pytest.mark.parametrize("binary", [False, True])
def test_copy_in_of_rows(connect, names, binary):
    """`copy.write_row()` adapts Python values, in text and in binary."""
    conn = connect()
    query = sql.SQL("copy {} from stdin").format(sql.Identifier("feature_items"))
    if binary:
        query += sql.SQL(" (format binary)")
    with conn.cursor().copy(query) as copy:
        copy.set_types(["int4", "text"])
        for row in [(1, "tab\tbed"), (2, None), (3, "ö")]:
            copy.write_row(row)
    conn.commit()
    assert names() == ["tab\tbed", None, "ö"]


def test_copy_in_of_much_data(connect):
    """A copy larger than any buffer arrives whole."""
    conn = connect(autocommit=True)
    with conn.cursor().copy(TO_TABLE) as copy:
        for number in range(20_000):
            copy.write_row((number, "x" * 50))
    assert conn.execute("select count(*), sum(length(name)) from feature_items").fetchone() == (
        20_000,
        1_000_000,
    )


@autocommit
def test_copy_in_cancelled_by_an_exception(connect, names, autocommit):
    """An exception in the block cancels the copy, comes through, and leaves nothing."""
    conn = connect(autocommit=autocommit)
    with pytest.raises(ZeroDivisionError), conn.cursor().copy(TO_TABLE) as copy:
        copy.write_row((1, "a"))
        raise ZeroDivisionError
    assert conn.info.transaction_status == (TransactionStatus.IDLE if autocommit else TransactionStatus.INERROR)
    conn.rollback()
    assert conn.execute("select 1").fetchone() == (1,)
    assert names() == []


@autocommit
@pytest.mark.parametrize("data", ["one\ta\n", "1\ta\n1\tb\n", "1\n"], ids=["type", "unique", "columns"])
def test_copy_in_refused_by_the_server(same, autocommit, data):
    """Bad data raises the server's error with its class and words, at the end of the block."""

    def story(conn):
        with conn.cursor().copy(TO_TABLE) as copy:
            copy.write(data)

    assert issubclass(same(story, autocommit=autocommit)[0], psycopg.DatabaseError)


@pytest.mark.parametrize("writer", [LibpqWriter, QueuedLibpqWriter])
def test_copy_in_with_a_writer_made_by_hand(connect, names, writer):
    """A libpq writer made before the copy, by the user, writes to the right backend."""
    conn = connect(autocommit=True)
    cur = conn.cursor()
    with cur.copy(TO_TABLE, writer=writer(cur)) as copy:
        copy.write_row((1, "a"))
        copy.write_row((2, "b"))
    assert names() == ["a", "b"]


def test_copy_to_a_file_needs_no_statement(same):
    """A Copy with a FileWriter formats rows without a server."""

    def story(conn):
        file = BytesIO()
        with psycopg.Copy(conn.cursor(), writer=FileWriter(file), binary=False) as copy:
            copy.write_row((1, "a", None))
        return file.getvalue(), is_idle(conn)

    assert same(story) == (b"1\ta\t\\N\n", True)


# -- copy out


@autocommit
def test_copy_out_of_blocks(connect, autocommit):
    """Iterating a copy yields blocks; read() yields them until an empty one."""
    conn = connect(autocommit=autocommit)
    cur = conn.cursor()
    with cur.copy(FROM_SERIES) as copy:
        assert b"".join(bytes(block) for block in copy) == b"1\tn1\n2\tn2\n3\tn3\n"
    with cur.copy(FROM_SERIES) as copy:
        assert bytes(copy.read()) == b"1\tn1\n"
        while copy.read():
            pass
    assert (cur.rowcount, is_idle(conn)) == (3, autocommit)


@pytest.mark.parametrize("binary", [False, True])
def test_copy_out_of_rows(connect, binary):
    """rows() and read_row() parse records with the types that were set."""
    cur = connect(autocommit=True).cursor()
    query = FROM_SERIES + " (format binary)" * binary
    with cur.copy(query) as copy:
        copy.set_types(["int4", "text"])
        assert list(copy.rows()) == [(1, "n1"), (2, "n2"), (3, "n3")]
    with cur.copy(query) as copy:
        copy.set_types(["int4", "text"])
        assert copy.read_row() == (1, "n1")
        assert len(list(copy.rows())) == 2
        assert copy.read_row() is None


def test_copy_out_with_parameters(connect):
    """Parameters go into the copied query."""
    cur = connect(cursor_factory=psycopg.ClientCursor, autocommit=True).cursor()
    with cur.copy("copy (select %s::int, %s) to stdout", [1, "it's"]) as copy:
        assert list(copy.rows()) == [("1", "it's")]


@autocommit
def test_copy_out_abandoned(connect, autocommit):
    """Leaving a COPY TO half-way, quietly, makes this connection unusable, as in the driver, and no other."""
    conn = connect(autocommit=autocommit)
    with conn.cursor().copy(FROM_SERIES) as copy:
        assert copy.read()
    with pytest.raises(psycopg.OperationalError):
        conn.execute("select 1")
    conn.close()
    assert connect().execute("select 1").fetchone() == (1,)


@autocommit
def test_copy_out_left_by_an_exception(connect, autocommit):
    """An exception in the block of a COPY TO comes through and ends the copy."""
    conn = connect(autocommit=autocommit)
    with pytest.raises(ZeroDivisionError), conn.cursor().copy(FROM_SERIES) as copy:
        copy.read()
        raise ZeroDivisionError
    conn.rollback()
    assert conn.execute("select 1").fetchone() == (1,)


def test_copy_from_one_session_to_another(connect):
    """Two copies run at once on two sessions, the one feeding the other."""
    source, target = connect(autocommit=True), connect(autocommit=True)
    with (
        source.cursor().copy(FROM_SERIES + " (format binary)") as out,
        target.cursor().copy(TO_TABLE + " (format binary)") as into,
    ):
        for block in out:
            into.write(block)
    assert target.execute("select id, name from feature_items order by id").fetchall() == [
        (1, "n1"),
        (2, "n2"),
        (3, "n3"),
    ]


@pytest.mark.parametrize(
    "statement",
    ["select 1", "copy nowhere from stdin", "copy feature_items to stdout; select 1", "reset work_mem"],
)
def test_copy_of_something_else(same, statement):
    """copy() with another statement does or raises what the driver does."""

    def story(conn):
        with conn.cursor().copy(statement):
            pass

    same(story, autocommit=True)


@pytest.mark.parametrize("statement", [TO_TABLE, FROM_SERIES])
def test_copy_must_go_through_copy(same, statement):
    """COPY given to execute() is the driver's error, and other sessions do not notice."""
    assert same(lambda conn: conn.execute(statement))[0] is psycopg.ProgrammingError


# -- stream


@autocommit
@pytest.mark.parametrize("size", [1, 10])
def test_stream_yields_every_row(connect, autocommit, size):
    """stream() yields rows while they arrive, singly or in chunks."""
    conn = connect(autocommit=autocommit)
    if size > 1 and not psycopg.capabilities.has_stream_chunked():
        pytest.skip("this libpq has no chunked rows")
    assert [n for (n,) in conn.cursor().stream(SERIES, size=size)] == list(range(1, 1001))
    assert is_idle(conn) is autocommit
    assert conn.execute("select 1").fetchone() == (1,)


def test_stream_takes_parameters_factories_and_formats(connect):
    """stream() honours parameters, the row factory and binary results."""
    cur = connect(autocommit=True).cursor(row_factory=rows.dict_row)
    stream = cur.stream("select n, %s::text as word from generate_series(1, 2) as n", ["tea"], binary=True)
    assert list(stream) == [{"n": 1, "word": "tea"}, {"n": 2, "word": "tea"}]
    assert cur.pgresult is None or cur.pgresult.fformat(0) == 1


@autocommit
def test_stream_abandoned_half_way(connect, autocommit):
    """A stream that is closed half-way is cancelled, and the session goes on in the same transaction."""
    conn = connect(autocommit=autocommit)
    stream = conn.cursor().stream("select n from generate_series(1, 1000000) as n")
    assert next(stream) == (1,)
    stream.close()
    conn.rollback()
    assert conn.execute("select 1").fetchone() == (1,)
    assert is_idle(conn) is autocommit


def test_stream_left_by_break(connect):
    """A loop left by break ends the stream once its generator is gone."""
    conn = connect(autocommit=True)
    cur = conn.cursor()
    for (n,) in cur.stream("select n from generate_series(1, 1000000) as n"):
        if n == 3:
            break
    assert cur.execute("select 'next'").fetchone() == ("next",)


def test_stream_of_a_writing_statement(connect, names):
    """Rows that INSERT … RETURNING streams are committed under autocommit."""
    conn = connect(autocommit=True)
    insert = "insert into feature_items select n, 'n' || n from generate_series(1, 3) as n returning name"
    assert [name for (name,) in conn.cursor().stream(insert)] == ["n1", "n2", "n3"]
    assert names() == ["n1", "n2", "n3"]


@autocommit
def test_stream_that_fails_half_way(connect, autocommit):
    """An error after some rows comes through after those rows."""
    conn = connect(autocommit=autocommit)
    seen = []
    with pytest.raises(errors.DivisionByZero):
        for row in conn.cursor().stream("select 10 / (3 - n) from generate_series(1, 5) as n"):
            seen.append(row)
    assert seen == [(5,), (10,)]
    conn.rollback()
    assert conn.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("statement", ["select 1/0", "copy feature_items to stdout", "select 1; select 2"])
def test_stream_of_something_else(same, statement):
    """stream() with a statement that fails or cannot be streamed raises what the driver raises."""
    assert issubclass(same(lambda conn: list(conn.cursor().stream(statement)), autocommit=True)[0], psycopg.Error)


def test_two_streams_run_side_by_side(connect):
    """Two sessions stream at once, each its own rows."""
    first, second = (connect(autocommit=True).cursor().stream(SERIES) for _ in range(2))
    assert all(a == b for a, b in zip(first, second, strict=True))
