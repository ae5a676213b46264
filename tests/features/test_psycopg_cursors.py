"""Cursors: their classes, rows, results and types."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor, Cursor, RawCursor, RawServerCursor, ServerCursor, errors, rows, sql
from psycopg.adapt import Dumper, Loader
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads

SERIES = "select n, n * n from generate_series(1, 5) as n"


@dataclass
class Item:
    """A row as an object."""

    id: int
    name: str


class Counting(Cursor[Any]):
    """A user's own cursor class: counts statements and keeps a state of its own."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.statements: list[str] = []

    def execute(self, query: Any, *args: Any, **keywords: Any) -> Any:
        self.statements.append(query)
        return super().execute(query, *args, **keywords)


class Polite(ClientCursor[Any]):
    """A user's own client-side cursor class: changes what is fetched."""

    def fetchone(self) -> Any:
        row = super().fetchone()
        return row and ("please", *row)


# -- classes


@pytest.mark.parametrize("cls", [Cursor, ClientCursor, RawCursor, Counting, Polite])
def test_connect_takes_any_cursor_class(connect, cls):
    """`cursor_factory=` makes every cursor of the connection, and the cursor is exactly of that class."""
    conn = connect(cursor_factory=cls, autocommit=True)
    mark = "$1" if issubclass(cls, RawCursor) else "%s"
    with conn.cursor() as cur:
        assert type(cur) is cls
        cur.execute(f"select {mark}::int + 1", [41])
        assert cur.fetchall() == [(42,)]


def test_a_users_cursor_class_sees_its_own_calls(connect):
    """A subclass with overridden methods and state of its own is called as on a private connection."""
    conn = connect(autocommit=True)
    conn.cursor_factory = Counting
    cur = conn.execute("select 1")
    cur.execute("select 2")
    assert cur.statements == ["select 1", "select 2"]
    conn.cursor_factory = Polite
    assert conn.execute("select %s", ["tea"]).fetchone() == ("please", "tea")


@pytest.mark.parametrize("cls", [ServerCursor, RawServerCursor])
def test_named_cursor_reads_in_portions(connect, cls):
    """A server-side cursor fetches from the server as it goes."""
    conn = connect()
    conn.server_cursor_factory = cls
    mark = "$1" if cls is RawServerCursor else "%s"
    with conn.cursor("portions") as cur:
        assert type(cur) is cls
        cur.execute(f"select n from generate_series(1, {mark}::int) as n", [10])
        assert cur.fetchone() == (1,)
        assert cur.fetchmany(3) == [(2,), (3,), (4,)]
        assert cur.fetchall() == [(n,) for n in range(5, 11)]
        assert (cur.name, cur.scrollable, cur.withhold) == ("portions", None, False)


def test_named_cursor_is_iterated_in_batches(connect):
    """Iterating a server-side cursor yields every row, whatever the batch size."""
    with connect().cursor("batches") as cur:
        cur.itersize = 3
        cur.execute("select n from generate_series(1, 8) as n")
        assert [n for (n,) in cur] == list(range(1, 9))


def test_named_cursor_scrolls_both_ways(connect):
    """A scrollable server-side cursor moves absolutely, forward and back."""
    with connect().cursor("scrolling", scrollable=True) as cur:
        cur.execute("select n from generate_series(1, 10) as n")
        cur.scroll(4)
        assert cur.fetchone() == (5,)
        cur.scroll(-2)
        assert cur.fetchone() == (4,)
        cur.scroll(9, mode="absolute")
        assert cur.fetchall() == [(10,)]


def test_named_cursor_that_may_not_scroll_says_so(same):
    """Going back on a cursor declared without scrolling is the server's error."""

    def story(conn):
        with conn.cursor("forward", scrollable=False) as cur:
            cur.execute(SERIES)
            cur.fetchall()
            cur.scroll(-1)

    assert same(story)[0] is errors.ObjectNotInPrerequisiteState


def test_named_cursor_ends_with_its_transaction(same):
    """After the commit a server-side cursor without hold is gone."""

    def story(conn):
        with conn.cursor("brief") as cur:
            cur.execute(SERIES)
            conn.commit()
            cur.fetchone()

    assert same(story)[0] is errors.InvalidCursorName


def test_named_cursor_with_hold_outlives_its_transaction(connect):
    """A cursor WITH HOLD is still readable after the commit, until it is closed."""
    connect.may_pin("HOLD_CURSOR")
    conn = connect()
    with conn.cursor("lasting", withhold=True) as cur:
        cur.execute(SERIES)
        conn.commit()
        assert cur.fetchmany(2) == [(1, 1), (2, 4)]
        conn.commit()
        assert len(cur.fetchall()) == 3
    conn.commit()


def test_named_cursor_wants_a_transaction(same):
    """Under autocommit a cursor without hold cannot be declared outside a transaction."""

    def story(conn):
        with conn.cursor("lonely") as cur:
            cur.execute("select 1")

    assert same(story, autocommit=True)[0] is errors.NoActiveSqlTransaction


def test_named_cursor_works_in_an_autocommit_transaction_block(connect):
    """Under autocommit a server-side cursor lives as long as the transaction() block."""
    conn = connect(autocommit=True)
    with conn.transaction(), conn.cursor("inside") as cur:
        cur.execute(SERIES)
        assert cur.fetchone() == (1, 1)
    assert conn.execute("select count(*) from pg_cursors").fetchone() == (0,)


# -- cursors that outsiders build


@pytest.mark.parametrize("cls", [Cursor, ClientCursor, RawCursor, Counting])
def test_a_cursor_made_by_hand_works(connect, cls):
    """`Cursor(conn)` is as good as `conn.cursor()`."""
    conn = connect(autocommit=True)
    cur = cls(conn)
    assert cur.connection is conn
    assert cur.execute("select 1").fetchone() == (1,)
    assert cls(conn, row_factory=rows.dict_row).execute("select 1 as one").fetchone() == {"one": 1}


@pytest.mark.parametrize("cls", [ServerCursor, RawServerCursor])
def test_a_server_cursor_made_by_hand_works(connect, cls):
    """`ServerCursor(conn, name)` reads from the server as `conn.cursor(name)` does."""
    conn = connect()
    with cls(conn, "by_hand") as cur:
        assert cur.connection is conn
        cur.execute(SERIES)
        assert cur.fetchmany(2) == [(1, 1), (2, 4)]


def test_mogrify_needs_no_server(same):
    """`ClientCursor(conn).mogrify()` returns the statement with the arguments in it."""
    story = lambda conn: ClientCursor(conn).mogrify("select %s, %s, %s", ["it's \\ ö", 1, None])  # noqa: E731
    assert same(story) == r"select  E'it''s \\ ö', 1, NULL"


# -- rows

TWO_COLUMNS = "select 1 as id, 'cup' as name"
FACTORIES = {
    "tuple": (rows.tuple_row, (1, "cup")),
    "dict": (rows.dict_row, {"id": 1, "name": "cup"}),
    "namedtuple": (rows.namedtuple_row, namedtuple("Row", "id name")(1, "cup")),
    "class": (rows.class_row(Item), Item(1, "cup")),
    "scalar": (rows.scalar_row, 1),
    "args": (rows.args_row(lambda id, name: f"{id}-{name}"), "1-cup"),
    "kwargs": (rows.kwargs_row(lambda name, id: f"{name}-{id}"), "cup-1"),
    "own": (lambda cursor: lambda values: [c.name for c in cursor.description or ()], ["id", "name"]),
}


@pytest.mark.parametrize("kind", FACTORIES)
def test_row_factory_shapes_rows(connect, kind):
    """A row factory works on the connection, assigned later, on the cursor, and on a server-side cursor."""
    factory, row = FACTORIES[kind]
    conn = connect(row_factory=factory)
    assert conn.execute(TWO_COLUMNS).fetchone() == row
    assert list(conn.execute(TWO_COLUMNS)) == [row]
    with conn.cursor("rows") as cur:
        assert cur.execute(TWO_COLUMNS).fetchall() == [row]
    conn.row_factory = rows.tuple_row
    assert conn.execute(TWO_COLUMNS).fetchone() == (1, "cup")
    cur = conn.cursor(row_factory=factory)
    assert cur.execute(TWO_COLUMNS).fetchmany() == [row]
    cur.row_factory = rows.tuple_row
    assert cur.execute(TWO_COLUMNS).fetchall() == [(1, "cup")]


def test_row_factory_of_one_session_leaves_others_alone(connect):
    """Two sessions with different row factories each get their own rows."""
    first, second = connect(row_factory=rows.dict_row, autocommit=True), connect(autocommit=True)
    assert first.execute("select 1 as one").fetchone() == {"one": 1}
    assert second.execute("select 1 as one").fetchone() == (1,)
    assert first.execute("select 2 as one").fetchone() == {"one": 2}


# -- adapters and types


class Loud(Loader):
    """Loads text in capitals."""

    def load(self, data: Any) -> str:
        return bytes(data).decode().upper()


class ItemDumper(Dumper):
    """Sends an Item as its name."""

    oid = psycopg.adapters.types["text"].oid

    def dump(self, obj: Item) -> bytes:
        return obj.name.encode()


def test_adapters_belong_to_one_connection(connect):
    """A loader and a dumper registered on one connection are unknown to the next."""
    first, second = connect(autocommit=True), connect(autocommit=True)
    first.adapters.register_loader("text", Loud)
    first.adapters.register_dumper(Item, ItemDumper)
    assert first.execute("select 'tea'::text, %s", [Item(1, "cup")]).fetchone() == ("TEA", "CUP")
    assert second.execute("select 'tea'::text").fetchone() == ("tea",)
    with pytest.raises(psycopg.ProgrammingError, match="cannot adapt type 'Item'"):
        second.execute("select %s", [Item(1, "cup")])


def test_adapters_of_a_cursor_stay_on_the_cursor(connect):
    """A loader registered on a cursor changes that cursor only."""
    conn = connect(autocommit=True)
    cur = conn.cursor()
    cur.adapters.register_loader("text", Loud)
    assert cur.execute("select 'tea'::text").fetchone() == ("TEA",)
    assert conn.execute("select 'tea'::text").fetchone() == ("tea",)


def test_context_hands_adapters_to_a_new_connection(connect):
    """`connect(context=)` starts with the adapters of another connection."""
    first = connect()
    first.adapters.register_loader("text", Loud)
    assert connect(context=first).execute("select 'tea'::text").fetchone() == ("TEA",)


def test_json_functions_belong_to_the_context(connect):
    """`set_json_dumps` and `set_json_loads` on one connection leave others alone."""
    first, second = connect(autocommit=True), connect(autocommit=True)
    set_json_dumps(lambda value: json.dumps({"wrapped": value}), first)
    set_json_loads(lambda data: ("loaded", json.loads(data)), first)
    ask = "select %s::jsonb"
    assert first.execute(ask, [Jsonb([1])]).fetchone() == (("loaded", {"wrapped": [1]}),)
    assert second.execute(ask, [Jsonb([1])]).fetchone() == ([1],)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_moments_load_in_the_time_zone_of_the_connection(connect, zone):
    """A timestamptz comes back aware, in the session's zone."""
    conn = connect(options=f"-c TimeZone={zone}")
    (moment,) = conn.execute("select '2024-01-31 12:00+00'::timestamptz").fetchone()
    assert moment == datetime(2024, 1, 31, 12, tzinfo=timezone.utc)
    assert moment.tzinfo.key == conn.info.timezone.key == zone


def test_moments_follow_a_time_zone_that_was_set(connect):
    """`SET TIME ZONE` changes how moments load in that session and in no other."""
    first, second = (connect(autocommit=True, options="-c TimeZone=Europe/Rome") for _ in range(2))
    first.execute("set time zone 'Asia/Tokyo'")
    ask = "select '2024-01-31 12:00+00'::timestamptz"
    assert [conn.execute(ask).fetchone()[0].tzinfo.key for conn in (first, second, first)] == [
        "Asia/Tokyo",
        "Europe/Rome",
        "Asia/Tokyo",
    ]


@pytest.mark.parametrize("binary", [False, True])
def test_binary_results(connect, binary):
    """Results come in the format that was asked for, and mean the same."""
    conn = connect()
    ask = "select 1::int4, 'ö'::text, 1.50::numeric, '2024-01-31'::date, '{1,2}'::int[], '\\x00ff'::bytea"
    for cur in (conn.cursor(binary=binary).execute(ask), conn.execute(ask, binary=binary)):
        assert cur.pgresult.fformat(0) == cur.format == int(binary)
        assert [str(value) for value in cur.fetchone()] == [
            "1", "ö", "1.50", "2024-01-31", "[1, 2]", r"b'\x00\xff'",
        ]  # fmt: skip
    with conn.cursor("binary", binary=binary) as cur:
        assert cur.execute("select 7").fetchone() == (7,)


def test_values_make_the_round_trip(same):
    """Values of many types come back from the server as they went."""
    values = [None, True, 7, 2**40, 1.5, "it's", b"\x00\xff", datetime(2024, 1, 31), [1, 2], Jsonb({"a": 1})]
    story = lambda conn: conn.execute("select " + ", ".join(["%s"] * len(values)), values).fetchone()  # noqa: E731
    assert same(story) == (*values[:-1], {"a": 1})


# -- statements


def test_connection_execute_returns_its_cursor(connect):
    """`conn.execute()` takes lists and mappings and returns a cursor of that connection."""
    conn = connect()
    cur = conn.execute("select %s, %s", ["a", 1])
    assert cur.connection is conn
    assert cur.fetchone() == ("a", 1)
    assert conn.execute("select %(x)s || %(x)s", {"x": "ho"}).fetchone() == ("hoho",)


def test_composed_statements_run(connect):
    """`sql.SQL`, `Identifier`, `Literal` and `Placeholder` compose a statement that executes."""
    conn = connect()
    query = sql.SQL("select {}, {} as {} from feature_items").format(
        sql.Literal("it's"), sql.Placeholder("n"), sql.Identifier('odd "name"')
    )
    cur = conn.execute(query, {"n": 1})
    assert [column.name for column in cur.description] == ["?column?", 'odd "name"']
    conn.cursor().executemany(
        sql.SQL("insert into {} values (%s, %s)").format(sql.Identifier("feature_items")),
        [(1, "a"), (2, "b")],
    )
    assert conn.execute(sql.SQL("select count(*) from feature_items")).fetchone() == (2,)


@pytest.mark.parametrize(
    "part",
    [
        sql.Identifier("public", 'od"d'),
        sql.Literal("it's \\ ö"),
        sql.Literal(datetime(2024, 1, 31, tzinfo=timezone.utc)),
        sql.SQL("select {}").format(sql.Literal([1, None])),
    ],
    ids=["identifier", "text", "moment", "composed"],
)
def test_composed_statements_as_text(same, part):
    """`as_string()` and `as_bytes()` give the same text for the connection and for its cursor."""
    texts = same(lambda conn: (part.as_string(conn), part.as_string(conn.cursor()), part.as_bytes(conn).decode("utf8")))
    assert len(set(texts)) == 1


def test_executemany_counts_rows(connect, names):
    """`executemany` runs the statement once per row and adds up rowcount."""
    conn = connect()
    cur = conn.cursor()
    cur.executemany("insert into feature_items values (%s, %s)", [(1, "a"), (2, "b"), (3, "c")])
    assert cur.rowcount == 3
    conn.commit()
    assert names() == ["a", "b", "c"]


def test_executemany_returns_a_result_per_row(connect):
    """With `returning=True` each row's result is one more set."""
    conn = connect(autocommit=True)
    cur = conn.cursor()
    cur.executemany(
        "insert into feature_items values (%s, %s) returning name",
        [(1, "a"), (2, "b"), (3, "c")],
        returning=True,
    )
    assert [one.fetchone() for one in cur.results()] == [("a",), ("b",), ("c",)]
    assert cur.set_result(0).fetchone() == ("a",)
    assert cur.nextset()
    assert cur.fetchall() == [("b",)]


def test_executemany_that_fails_leaves_nothing(connect, names):
    """One bad row undoes the whole `executemany` under autocommit, as it runs in one transaction."""
    conn = connect(autocommit=True)
    with pytest.raises(errors.UniqueViolation):
        conn.cursor().executemany("insert into feature_items values (%s, 'x')", [(1,), (2,), (1,)])
    assert names() == []
    assert conn.execute("select 1").fetchone() == (1,)


def test_several_statements_give_several_results(connect):
    """A text with several statements is read with nextset(), results() and set_result()."""
    conn = connect(autocommit=True)
    cur = conn.execute("select 1 as a; select 2 as b, 3; insert into feature_items values (9, 'x'); select 4")
    assert cur.fetchall() == [(1,)]
    assert cur.nextset() is True
    assert [column.name for column in cur.description] == ["b", "?column?"]
    assert cur.fetchone() == (2, 3)
    assert cur.nextset() is True
    assert (cur.statusmessage, cur.rowcount, cur.description) == ("INSERT 0 1", 1, None)
    assert cur.nextset() is True
    assert cur.nextset() is None
    assert cur.set_result(-1).fetchone() == (4,)
    cur.set_result(0)
    assert [one.statusmessage for one in cur.results()] == ["SELECT 1", "SELECT 1", "INSERT 0 1", "SELECT 1"]
    with pytest.raises(IndexError):
        cur.set_result(4)


@pytest.mark.parametrize("binary", [False, True])
def test_description_tells_all_about_columns(same, binary):
    """Every field of `description` is the driver's."""

    def story(conn):
        cur = conn.execute(
            "select 1::int2 as a, 2.5::numeric(6,3) as b, 'x'::varchar(9) as c, now(), id from feature_items",
            binary=binary,
        )
        return [(tuple(column), repr(column), column.type_display) for column in cur.description]

    assert [column[2] for column in same(story)][:3] == ["int2", "numeric(6,3)", "varchar(9)"]


def test_counters_follow_the_reading(same):
    """rowcount, rownumber and statusmessage tell how far the reading is."""

    def story(conn):
        cur = conn.cursor()
        told = [(cur.rowcount, cur.rownumber, cur.statusmessage, cur.description)]
        cur.execute("select n from generate_series(1, 5) as n")
        told.append((cur.rowcount, cur.rownumber, cur.statusmessage))
        told.append((cur.fetchone(), cur.rownumber))
        told.append((cur.fetchmany(2), cur.rownumber))
        told.append((cur.fetchall(), cur.rownumber, cur.fetchone()))
        cur.execute("create table if not exists feature_items (id int)")
        told.append((cur.rowcount, cur.rownumber, cur.statusmessage, cur.description))
        return told

    assert same(story)[1] == (5, 0, "SELECT 5")


def test_fetching_in_all_ways(connect):
    """fetchone, fetchmany, fetchall, iteration, arraysize and scroll read the same buffered rows."""
    cur = connect(autocommit=True).cursor()
    cur.execute(SERIES)
    cur.arraysize = 2
    assert cur.fetchmany() == [(1, 1), (2, 4)]
    assert next(iter(cur)) == (3, 9)
    cur.scroll(-3)
    assert cur.fetchone() == (1, 1)
    cur.scroll(3, mode="absolute")
    assert cur.fetchall() == [(4, 16), (5, 25)]
    assert cur.fetchmany(1) == []
    with pytest.raises(IndexError):
        cur.scroll(9)


@pytest.mark.parametrize("read", ["fetchone", "fetchmany", "fetchall", "__next__"])
@pytest.mark.parametrize("before", [None, "create table if not exists feature_items ()"])
def test_fetching_without_a_result_is_an_error(same, read, before):
    """Reading before a statement, or after one without rows, raises the driver's error."""

    def story(conn):
        cur = conn.cursor()
        if before:
            cur.execute(before)
        getattr(cur, read)()

    same(story)


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("select %s", None),
        ("select %s", []),
        ("select %s", [1, 2]),
        ("select %(a)s", {"b": 1}),
        ("select %s", "text"),
        ("select %x", [1]),
        ("select %s; select %s", [1, 2]),
        ("select %s", [object]),
    ],
)
def test_wrong_arguments_raise_the_drivers_errors(same, query, arguments):
    """Arguments that do not fit the statement are refused with the same class and words."""
    assert issubclass(same(lambda conn: conn.execute(query, arguments))[0], (psycopg.Error, TypeError, ValueError))


def test_a_closed_cursor_refuses_work(same):
    """After close() a cursor raises InterfaceError, and the connection goes on."""

    def story(conn):
        with conn.cursor() as cur:
            cur.execute("select 1")
        assert cur.closed
        cur.close()
        assert conn.execute("select 1").fetchone() == (1,)
        cur.execute("select 1")

    assert same(story)[0] is psycopg.InterfaceError


def test_buffered_rows_outlive_the_transaction(connect):
    """Rows that are already here can be read after commit, and after other statements."""
    conn = connect()
    cur = conn.execute(SERIES)
    conn.commit()
    conn.execute("select 'other'")
    conn.rollback()
    assert cur.fetchall() == [(1, 1), (2, 4), (3, 9), (4, 16), (5, 25)]


def test_cursor_shows_its_state(connect):
    """A cursor's repr tells its status; its connection is the object that made it."""
    conn = connect(autocommit=True)
    cur = conn.cursor()
    assert cur.connection is conn
    assert repr(cur).startswith("<psycopg.Cursor [no result] [IDLE]")
    cur.execute("select 1")
    assert repr(cur).startswith("<psycopg.Cursor [TUPLES_OK] [IDLE]")
    cur.close()
    assert repr(cur).startswith("<psycopg.Cursor [closed] [IDLE]")


def test_dbapi_sizes_do_nothing(connect):
    """setinputsizes and setoutputsize exist, as the DB-API asks."""
    cur = connect().cursor()
    assert cur.setinputsizes([1]) is None
    assert cur.setoutputsize(1) is None


# -- prepared statements

COUNT = "select count(*) from pg_prepared_statements where statement like 'select ''kept''%'"


def prepared(conn: Any) -> int:
    return conn.execute(COUNT, prepare=False).fetchone()[0]


@pytest.mark.parametrize("threshold", [0, 1, 2, 5, None])
def test_statements_are_prepared_after_the_threshold(same, threshold):
    """`prepare_threshold` tells how often a statement runs before it is prepared."""

    def story(conn):
        told = [conn.prepare_threshold]
        for number in range(7):
            assert conn.execute("select 'kept', %s", [number]).fetchone() == ("kept", number)
            told.append(prepared(conn))
        return told

    assert same(story, prepare_threshold=threshold)[-1] == (0 if threshold is None else 1)


def test_prepare_true_prepares_at_once(connect):
    """`prepare=True` prepares now, `prepare=False` never."""
    conn = connect()
    for number in range(7):
        conn.execute("select 'kept', %s", [number], prepare=False)
    assert prepared(conn) == 0
    conn.execute("select 'kept', %s", [1], prepare=True)
    assert prepared(conn) == 1


def test_prepare_knobs_can_be_turned(same):
    """prepare_threshold and prepared_max are read and written as the driver's."""

    def story(conn):
        told = [conn.prepare_threshold, conn.prepared_max]
        conn.prepare_threshold, conn.prepared_max = 1, 2
        for column in "abcd":
            conn.execute(f"select 'kept' as {column}, %s", [1])
            conn.execute(f"select 'kept' as {column}, %s", [1])
        told += [conn.prepare_threshold, conn.prepared_max, prepared(conn)]
        conn.prepared_max = None
        conn.prepare_threshold = None
        return [*told, conn.prepare_threshold, conn.prepared_max]

    assert same(story)[:4] == [5, 100, 1, 2]


def test_prepared_statements_survive_deallocate(connect):
    """After DEALLOCATE ALL a statement that was prepared is prepared again."""
    conn = connect(prepare_threshold=0, autocommit=True)
    for _ in range(3):
        assert conn.execute("select 'kept', %s", [1]).fetchone() == ("kept", 1)
        conn.execute("deallocate all")
