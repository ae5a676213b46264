"""Cursors, values and results, on private and on multiplexed connections."""

from __future__ import annotations

import datetime
import decimal
import gc
import json
import warnings

import pymysql
import pytest
from pymysql.constants import CLIENT, FIELD_TYPE
from pymysql.cursors import Cursor, DictCursor, DictCursorMixin, SSCursor, SSDictCursor

from tests.features_mysql.conftest import outcome_of

KINDS = [Cursor, DictCursor, SSCursor, SSDictCursor]
BUFFERED = [Cursor, DictCursor]
UNBUFFERED = [SSCursor, SSDictCursor]
MULTI = CLIENT.MULTI_STATEMENTS


def all_of(cursor):
    """Everything the last execute brought, result by result."""
    found = []
    while True:
        found.append((list(cursor.fetchall()), cursor.description, cursor.rowcount, cursor.lastrowid))
        if not cursor.nextset():
            return found


# Values -----------------------------------------------------------------------------------------------------------

LITERALS = {
    "integers": "select 1, -1, 0, 9223372036854775807, 18446744073709551615, cast(3 as unsigned)",
    "decimals": "select 1.5, -0.001, cast('12345678901234567890.123456789' as decimal(40, 9)), 0.0",
    "floats": "select 1e0, -2.5e100, 1e-300, cast(1.5 as double), pi()",
    "texts": "select '', 'a', 'it''s', 'back\\\\slash', 'percent %', 'quote \"'",
    "unicode": "select 'ä', '漢字', '😀', 'e\u0301', '\u200b', 'Ω' as `Ω`",
    "binary": "select _binary 'abc', X'00ff80', b'101', unhex('deadbeef')",
    "nulls": "select null, null + 1, nullif(1, 1)",
    "dates": "select date '2024-02-29', date '1000-01-01', date '9999-12-31'",
    "times": "select time '00:00:00', time '-838:59:59', time '12:34:56.789012', time '838:59:59'",
    "timestamps": "select timestamp '2024-02-29 12:34:56', timestamp '2024-02-29 12:34:56.123456'",
    "zero dates": "select cast('0000-00-00' as char), year(now()) > 2000",
    "booleans": "select true, false, 1 = 1, 1 is null",
    "json": "select json_object('a', 1, 'b', json_array(1, 2, null)), json_extract('{\"a\": 5}', '$.a')",
    "names": "select 1 as a, 2 as a, 3 as `with space`, 4 as ``, 5 as 'text'",
    "expressions": "select 1+1, concat('a', 'b'), now() is not null, (select 7)",
    "no rows": "select 1 from dual where false",
    "sets": "select interval(5, 1, 10), find_in_set('b', 'a,b'), bit_count(7)",
    "geometry": "select st_astext(st_geomfromtext('point(1 2)')), st_geomfromtext('point(1 2)')",
}


@pytest.mark.parametrize("name", LITERALS)
def test_values_of_literals(same, name):
    """What a literal comes back as, with the description of its column, from each kind of cursor."""

    def story(conn):
        found = []
        for kind in KINDS:
            with conn.cursor(kind) as cursor:
                cursor.execute(LITERALS[name])
                found.append(all_of(cursor))
        return found

    same(story)


PARAMETERS = [
    None,
    True,
    0,
    -5,
    2**63,
    1.5,
    1e300,
    decimal.Decimal("1.50"),
    "",
    "a'b\"c\\d\0e\nf\rg\x1ah%s",
    "😀",
    b"",
    b"\x00\xff'\\",
    bytearray(b"abc"),
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 12, 34, 56),
    datetime.datetime(2024, 2, 29, 12, 34, 56, 123456),
    datetime.time(1, 2, 3),
    datetime.time(1, 2, 3, 456),
    datetime.timedelta(hours=30, seconds=5),
    datetime.timedelta(hours=-1, microseconds=7),
]


def test_parameters(same):
    """A parameter goes to the server and comes back as it does on a private connection."""

    def story(conn):
        found = {}
        for value in PARAMETERS:
            with conn.cursor() as cursor:
                cursor.execute("select %s, %s = %s", (value, value, value))
                found[repr(value)] = all_of(cursor), cursor._executed
        return found

    same(story)


WAYS = [("a", "b"), ["a", "b"], {"x": 1}, (), [], {}, (1,), (1, 2, 3), "text", 7, None, {"y": 1}, object, ([1, 2], {3})]


@pytest.mark.parametrize("text", ["select %s, %s", "select %(x)s", "select 'plain'", "select '%%'", "select '%'"])
def test_ways_of_giving_parameters(same, text):
    """Tuples, lists, dicts, single values, and those that do not fit, with the driver's own errors and warnings."""

    def story(conn):
        def one(arguments):
            with conn.cursor() as cursor:
                cursor.execute(text, arguments)
                return all_of(cursor), cursor._executed

        return [outcome_of(one, arguments) for arguments in WAYS]

    same(story)


def test_kinds_of_text(same):
    """A statement as bytes, as a bytearray, as text, and empty ones."""

    def story(conn):
        def one(text):
            with conn.cursor() as cursor:
                cursor.execute(text)
                return all_of(cursor)

        texts = [b"select 'bytes'", bytearray(b"select 'array'"), "select 'text'", "", " ", b"", ";", "-- c", 5]
        return [outcome_of(one, text) for text in texts]

    same(story)


COLUMNS = """
    create temporary table feature_types (
        a tinyint, b smallint unsigned, c mediumint, d int, e bigint unsigned, f float, g double, h decimal(20, 5),
        i bit(9), j date, k datetime(3), l timestamp(6) null, m time(2), n year, o char(5), p varchar(300),
        q binary(4), r varbinary(300), s tinyblob, t text, u mediumtext, v longblob, w enum('x', 'y'),
        x set('p', 'q'), y json
    )
"""
VALUES = (
    *(-128, 65535, -8388608, -2147483648, 18446744073709551615, 1.25, 1e308, decimal.Decimal("123456789012345.12345")),
    *(b"\x01\xff", datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2, 3, 4, 5, 678000)),
    *(datetime.datetime(2024, 1, 2, 3, 4, 5, 678901), datetime.timedelta(hours=5, milliseconds=120), 2024),
    *("äöü", "x" * 300, b"\0\1\2\3", b"\xff" * 300, b"\0", "t", "u", b"v" * 1000, "y", "p,q", '{"a": [1, 2]}'),
)


@pytest.mark.parametrize("use_unicode", [True, False])
def test_all_column_types(same, rows, use_unicode):
    """Every type of column, full and NULL, with use_unicode on and off."""
    same.may_pin("TEMP_TABLE")

    def story(conn):
        rows(conn, COLUMNS)
        places = ", ".join(["%s"] * 25)
        rows(conn, f"insert into feature_types values ({places})", VALUES)
        rows(conn, f"insert into feature_types values ({places})", [None] * 25)

        def one(kind):
            with conn.cursor(kind) as cursor:
                cursor.execute("select * from feature_types")
                return all_of(cursor)

        return [outcome_of(one, kind) for kind in KINDS]

    conv = dict(pymysql.converters.conversions)
    if not use_unicode:  # the driver's decimals want text
        del conv[FIELD_TYPE.DECIMAL], conv[FIELD_TYPE.NEWDECIMAL]
    outcome, _ = same(story, use_unicode=use_unicode, conv=conv)
    assert len(outcome[0][0][0]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_of_columns(connect, kind):
    """Columns whose lengths lie around those where the protocol changes its form."""
    conn = connect()
    for size in (0, 1, 249, 250, 251, 252, 254, 255, 256, 65534, 65535, 65536, 70000):
        with conn.cursor(kind) as cursor:
            cursor.execute("select repeat('x', %s) as a, %s as b, repeat(char(254), %s) as c", (size, "y" * size, size))
            (row,) = cursor.fetchall()
            row = tuple(row.values()) if isinstance(row, dict) else row
            assert row[:2] == ("x" * size, "y" * size)
            assert row[2] in (b"\xfe" * size, "")


def test_a_row_that_looks_like_an_end(same, rows):
    """Rows that begin with the bytes by which the protocol marks an end, an error, NULL."""

    def story(conn):
        return rows(
            conn,
            "select %s union all select %s union all select %s union all select null",
            (
                b"\xfe" * 3,
                b"\xff\x15\x04#HY000no error",
                b"\xfb",
            ),
        )

    same(story)


@pytest.mark.parametrize("kind", KINDS)
def test_many_columns(connect, kind):
    """A thousand columns in one row."""
    conn = connect()
    with conn.cursor(kind) as cursor:
        cursor.execute("select " + ", ".join(f"{number} as c{number}" for number in range(1000)))
        (row,) = cursor.fetchall()
    assert list(row.values() if isinstance(row, dict) else row) == list(range(1000))


@pytest.mark.parametrize("kind", [Cursor, SSCursor])
def test_more_than_a_packet(connect, rows, kind):
    """A value over 16 MB goes out and comes in, in several packets."""
    connect.may_pin()
    conn = connect(autocommit=True)
    size = 2**24 + 100
    value = b"\xfe" * size
    with conn.cursor(kind) as cursor:
        cursor.execute("select length(%s), repeat(char(254), %s)", (b"ab", 5))
        assert cursor.fetchall()[0][0] == 2
        ((allowed,),) = rows(conn, "select @@max_allowed_packet")
        if allowed > 2 * size:
            cursor.execute("select _binary %s", (value,))
            assert cursor.fetchall()[0][0] == value
        else:
            cursor.execute("select repeat(_binary 'x', 8000000), repeat(_binary 'y', 9000000)")
            ((one, two),) = cursor.fetchall()
            assert (len(one), len(two)) == (8000000, 9000000)
            assert (set(one), set(two)) == ({ord("x")}, {ord("y")})
    assert rows(conn, "select 1") == ((1,),)


def test_too_large_a_packet(connect, rows):
    """A statement over max_allowed_packet fails; the next one works on ours, as the connection is replaced."""
    conn = connect(autocommit=True)
    ((allowed,),) = rows(conn, "select @@max_allowed_packet")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, b"select '" + b"x" * (allowed + 10) + b"'")
    assert caught.value.args[0] in (1153, 2006, 2013)
    if not connect.is_private:
        assert rows(conn, "select 1") == ((1,),)


# Fetching ---------------------------------------------------------------------------------------------------------

SEVEN = " union ".join(f"select {number} as seq" for number in range(1, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_fetching(same, kind):
    """fetchone, fetchmany, fetchall, iteration, rownumber and arraysize."""

    def story(conn):
        found = []
        with conn.cursor(kind) as cursor:
            found.append((cursor.description, cursor.rowcount, cursor.rownumber, cursor.arraysize))
            cursor.execute(SEVEN)
            found.append((cursor.description, cursor.rowcount, cursor.rownumber))
            found.append(cursor.fetchone())
            found.append(cursor.rownumber)
            found.append(cursor.fetchmany())
            cursor.arraysize = 2
            found.append(list(cursor.fetchmany()))
            found.append(cursor.fetchmany(1))
            found.append(next(cursor))
            found.append(list(cursor))
            found.append(cursor.fetchone())
            found.append(cursor.fetchmany(5))
            found.append(cursor.fetchall())
            found.append((cursor.rowcount, cursor.rownumber, cursor.warning_count, cursor.lastrowid))
        return found

    same(story)


@pytest.mark.parametrize("kind", KINDS)
def test_scrolling(same, kind):
    """scroll() forwards, backwards, absolutely, too far and wrongly."""

    def story(conn):
        def one(*move):
            with conn.cursor(kind) as cursor:
                cursor.execute(SEVEN)
                cursor.fetchone()
                try:
                    cursor.scroll(*move)
                    return cursor.fetchone(), cursor.rownumber
                finally:
                    cursor.fetchall()

        moves = [(2,), (-1,), (3, "absolute"), (0, "absolute"), (99,), (1, "sideways")]
        return [outcome_of(one, *move) for move in moves]

    same(story)


@pytest.mark.parametrize("kind", KINDS)
def test_fetching_without_executing(same, kind):
    """Fetching before execute(), after close(), and after a statement without rows."""

    def story(conn):
        said = []
        cursor = conn.cursor(kind)
        for prepare in (lambda: None, lambda: cursor.execute("do 0"), cursor.close):
            prepare()
            for method in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
                said.append(outcome_of(method))
        return said

    same(story)


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_cursor(same, kind):
    """A closed cursor refuses to execute, and may be closed again."""

    def story(conn):
        cursor = conn.cursor(kind)
        cursor.close()
        cursor.close()
        cursor.execute("select 1")

    same(story)


@pytest.mark.parametrize("kind", KINDS)
def test_cursorclass(connect, kind):
    """cursorclass= of connect() is what cursor() makes."""
    conn = connect(cursorclass=kind)
    with conn.cursor() as cursor:
        assert type(cursor) is kind
        cursor.execute("select 1 as a")
        (row,) = cursor.fetchall()
        assert row == ({"a": 1} if issubclass(kind, DictCursorMixin) else (1,))


def test_a_class_of_the_users(connect):
    """A cursor class of the user's own, with its own dict type, works as with the driver."""

    class Bag(dict):
        def __getattr__(self, name):
            return self[name]

    class BagCursor(DictCursorMixin, Cursor):
        dict_type = Bag

        def _query(self, q):
            self.asked = [*getattr(self, "asked", []), q]
            return super()._query(q)

    conn = connect()
    with conn.cursor(BagCursor) as cursor:
        cursor.execute("select 1 as a, 2 as b")
        assert cursor.fetchone().b == 2
        assert cursor.asked == ["select 1 as a, 2 as b"]
    conn.cursorclass = BagCursor
    assert type(conn.cursor()) is BagCursor


def test_dict_keys_of_equal_names(same, rows):
    """Two columns of one name get the table's name before the second."""

    def story(conn):
        with conn.cursor(DictCursor) as cursor:
            cursor.execute("insert into feature_items values (1, 'a')")
            cursor.execute("select i.id, j.id, j.name from feature_items i join feature_items j using (id)")
            return cursor.fetchall()

    assert same(story)[0] == [{"id": 1, "j.id": 1, "name": "a"}]


def test_descriptions_follow_the_table(same, rows, root):
    """After a column was added, renamed or changed, results describe what is there now."""

    def story(conn):
        found = []
        for text in (
            "create table feature_changing (a int)",
            "insert into feature_changing values (1)",
            "alter table feature_changing add b varchar(20) default 'x'",
            "alter table feature_changing change a c varchar(5)",
            "alter table feature_changing change b b varbinary(20)",
            "alter table feature_changing modify c bigint",
        ):
            rows(conn, text)
            if "create" not in text:
                for kind in (DictCursor, Cursor, SSCursor):
                    with conn.cursor(kind) as cursor:
                        cursor.execute("select * from feature_changing")
                        found.append(all_of(cursor))
        rows(conn, "drop table feature_changing")
        return found

    same(story)


def test_fields_are_each_connections_own(connect, rows):
    """A converter that one session adds to its own decoders changes no other session's results."""
    one, two = connect(), connect()
    assert rows(one, "select id from feature_items union select 5") == ((5,),)
    one.decoders = {
        **one.decoders,
        FIELD_TYPE.LONGLONG: lambda value: f"<{value}>",
        FIELD_TYPE.LONG: lambda v: f"<{v}>",
    }
    assert rows(one, "select id from feature_items union select 5") == (("<5>",),)
    assert rows(two, "select id from feature_items union select 5") == ((5,),)


def test_changing_decoders_in_place(connect, rows):
    """conn.decoders[…] = … holds from the next statement on, as with the driver, and for this session alone."""
    one, two = connect(), connect()
    rows(one, "insert into feature_items values (1, 'a')")
    one.commit()
    assert rows(one, "select id from feature_items") == ((1,),)
    one.decoders[FIELD_TYPE.LONG] = lambda value: f"<{value}>"
    assert rows(one, "select id from feature_items") == (("<1>",),)
    assert rows(two, "select id from feature_items") == ((1,),)
    del one.decoders[FIELD_TYPE.LONG]
    assert rows(one, "select id from feature_items") == (("1",),)


def test_changing_encoders_in_place(connect):
    """conn.encoders[…] = … holds for this session alone."""

    class Colour:
        pass

    one, two = connect(), connect()
    one.encoders[Colour] = lambda value, mapping=None: "'red'"
    assert one.cursor().mogrify("select %s", (Colour(),)) == "select 'red'"
    assert "Colour object" in two.cursor().mogrify("select %s", (Colour(),))
    assert Colour not in pymysql.converters.encoders
    assert Colour not in connect().encoders


# executemany ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "insert into feature_items values (%s, %s)",
        "insert into feature_items (id, name) values (%s, %s) on duplicate key update name = values(name)",
        "REPLACE INTO feature_items VALUES (%s, %s);",
        "insert ignore into feature_items values (%s, concat(%s, ')'))",
        "update feature_items set name = %s where id = %s",
        "select %s, %s",
    ],
)
def test_executemany(same, rows, text):
    """executemany() as one bulk statement and as many, with its counts, of each kind of cursor."""

    def story(conn):
        found = []
        for kind in KINDS:
            with conn.cursor(kind) as cursor:
                said = cursor.executemany(text, [(1, "a"), (2, "b%s"), (3, "c'")])
                found.append((said, cursor.rowcount, cursor._executed, cursor.lastrowid))
            found.append(rows(conn, "select * from feature_items order by id"))
            conn.rollback()
        return found

    same(story)


def test_executemany_with_dicts(same, rows):
    """executemany() with mappings."""

    def story(conn):
        with conn.cursor() as cursor:
            cursor.executemany(
                "insert into feature_items (id, name) values (%(id)s, %(name)s)",
                [{"id": number, "name": str(number)} for number in range(5)],
            )
            return cursor.rowcount, cursor._executed, rows(conn, "select * from feature_items order by id")

    same(story)


def test_executemany_with_odd_arguments(same):
    """executemany() with nothing, and with what does not fit."""

    def story(conn):
        def one(arguments):
            with conn.cursor() as cursor:
                return cursor.executemany("insert into feature_items values (%s, %s)", arguments)

        return [outcome_of(one, arguments) for arguments in ([], (), None, [(1,)], [(1, 2, 3)], [None])]

    same(story)


@pytest.mark.parametrize("autocommit", [True, False])
def test_executemany_over_max_stmt_length(connect, rows, names, autocommit):
    """A bulk insert longer than max_stmt_length is cut into several statements, and all rows arrive."""
    conn = connect(autocommit=autocommit)
    with conn.cursor() as cursor:
        cursor.max_stmt_length = 2000
        said = cursor.executemany("insert into feature_items values (%s, %s)", [(n, "n" * 90) for n in range(200)])
        assert said == cursor.rowcount == 200
    conn.commit()
    assert len(names()) == 200


def test_executemany_error_in_the_middle(same, rows, names):
    """executemany() that meets a duplicate in its second statement keeps the first one's rows in the transaction."""

    def story(conn):
        with conn.cursor() as cursor:
            cursor.max_stmt_length = 100
            try:
                cursor.executemany("insert into feature_items values (%s, %s)", [(n % 7, "n" * 40) for n in range(10)])
            except pymysql.err.IntegrityError as error:
                said = error.args
        found = rows(conn, "select id from feature_items order by id")
        conn.rollback()
        return said, found, names()

    same(story)


def test_executemany_with_a_generator(same, rows):
    """executemany() takes a generator for a bulk insert."""
    same(
        lambda conn: (
            conn.cursor().executemany("insert into feature_items values (%s, %s)", ((n, "x") for n in range(3))),
            rows(conn, "select count(*) from feature_items"),
        )
    )


# Several results --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "select 1; select 2; select 3",
        "select 1; do 0; select 2",
        "insert into feature_items values (1, 'a'); select * from feature_items; delete from feature_items",
        "do 0; do 0",
        "select 1;",
        "select 1; ; select 2",
        "select 1; select from; select 2",
        "select 1; insert into feature_items values (1, 'a'); insert into feature_items values (1, 'b'); select 2",
        "nonsense; select 1",
    ],
)
def test_multi_statements(same, text):
    """A text of several statements: each result in turn, and the error where it stands, of each kind of cursor."""

    def story(conn):
        found = []
        for kind in KINDS:
            with conn.cursor(kind) as cursor:
                try:
                    cursor.execute(text)
                    while True:
                        found.append((list(cursor.fetchall()), cursor.rowcount, cursor.lastrowid))
                        if not cursor.nextset():
                            break
                except pymysql.err.Error as error:
                    found.append((type(error), error.args))
            conn.rollback()
            with conn.cursor(kind) as cursor:
                cursor.execute("select 'after'")
                found.append(list(cursor.fetchall()))
        return found

    if "nonsense" in text:
        same.may_pin("UNKNOWN_STATEMENT")
    same(story, client_flag=MULTI)
    same(story, client_flag=MULTI, autocommit=True)


def test_multi_statements_need_the_flag(same, rows):
    """Without the client flag a text of several statements is a syntax error."""
    outcome, _ = same(lambda conn: rows(conn, "select 1; select 2"))
    assert outcome[1][0] == "1064"


@pytest.mark.parametrize("kind", KINDS)
def test_results_left_unread(same, kind, rows):
    """What nextset() did not fetch is read away by the next execute() of the same or another cursor."""

    def story(conn):
        cursor = conn.cursor(kind)
        cursor.execute("select 1 union select 2; select 3; select 4")
        first = cursor.fetchone()
        other = conn.cursor()
        other.execute("select 'other'")
        found = first, other.fetchall()
        cursor.execute("select 5; select 6")
        cursor.execute("select 7")
        return found, cursor.fetchall(), cursor.nextset()

    same(story, client_flag=MULTI)
    same(story, client_flag=MULTI, autocommit=True)


def test_unread_results_hold_the_backend(shared, rows):
    """While results are to come the backend is held; the last one lets go of it."""
    conn, other = shared(autocommit=True, client_flag=MULTI), shared(autocommit=True, client_flag=MULTI)
    cursor = conn.cursor()
    cursor.execute("select 1; select 2")
    assert conn.rdsproxy.backend is not None
    assert rows(other, "select 'other'") == (("other",),)
    assert cursor.nextset() is True
    assert cursor.fetchall() == ((2,),)
    assert cursor.nextset() is None
    assert conn.rdsproxy.backend is None


def test_closing_with_unread_results(shared, rows):
    """A session that closes amid several results leaves none of them to the next."""
    conn = shared(autocommit=True, client_flag=MULTI)
    cursor = conn.cursor()
    cursor.execute("select 1; select 2; select 3")
    conn.close()
    for _ in range(3):
        other = shared(autocommit=True, client_flag=MULTI)
        assert rows(other, "select 'other'") == (("other",),)


def test_nextset_with_nothing(same):
    """nextset() before and after everything gives None."""

    def story(conn):
        cursor = conn.cursor()
        found = [cursor.nextset()]
        cursor.execute("select 1")
        found += [cursor.nextset(), cursor.nextset(), cursor.fetchall()]
        return found

    same(story)


# Stored procedures ------------------------------------------------------------------------------------------------


@pytest.fixture
def procedures(root):
    """Procedures of the shared database."""
    root("drop procedure if exists feature_rows")
    root("create procedure feature_rows() begin select 1 as a; select 2 as b, 3 as c; end")
    root("drop procedure if exists feature_out")
    root("create procedure feature_out(in a int, out b int, inout c int) begin set b = a + 1; set c = c * 2; end")
    root("drop procedure if exists feature_fails")
    root("create procedure feature_fails() begin select 1; signal sqlstate '45000' set message_text = 'mine'; end")
    root("drop procedure if exists feature_writes")
    root("create procedure feature_writes() begin insert into feature_items values (1, 'a'); end")


@pytest.mark.parametrize("kind", KINDS)
def test_callproc_results(same, procedures, kind):
    """callproc() of a procedure with two result sets."""
    same.may_pin("UNKNOWN_ROUTINE")

    def story(conn):
        with conn.cursor(kind) as cursor:
            said = cursor.callproc("feature_rows")
            return said, all_of(cursor)

    same(story)


def test_callproc_out_parameters(same, procedures, rows):
    """OUT parameters are read from the user variables that callproc() sets."""
    same.may_pin("UNKNOWN_ROUTINE", "USER_VARIABLE")

    def story(conn):
        with conn.cursor() as cursor:
            said = cursor.callproc("feature_out", (5, 0, 4))
            cursor.execute("select @_feature_out_0, @_feature_out_1, @_feature_out_2")
            return said, cursor.fetchall()

    assert same(story)[0][1] == ((5, 6, 8),)


@pytest.mark.parametrize("name", ["feature_missing", "fea`ture", "", "feature_out", "feature_fails"])
def test_callproc_errors(same, procedures, rows, name):
    """callproc() of what is missing, named oddly, called with too little, and of one that fails after a result."""
    same.may_pin("UNKNOWN_ROUTINE")

    def story(conn):
        found = []
        cursor = conn.cursor()
        try:
            cursor.callproc(name)
            found.append(all_of(cursor))
        except pymysql.err.Error as error:
            found.append((type(error), error.args))
        conn.rollback()
        return found, rows(conn, "select 'after'")

    same(story)


def test_a_procedure_that_writes(connect, procedures, rows, names):
    """What a procedure writes belongs to the transaction."""
    connect.may_pin("UNKNOWN_ROUTINE")
    conn = connect()
    conn.cursor().callproc("feature_writes")
    assert names() == []
    conn.rollback()
    assert names() == []
    conn.cursor().callproc("feature_writes")
    conn.commit()
    assert names() == ["a"]


# Unbuffered cursors -----------------------------------------------------------------------------------------------

MANY = " union all ".join(f"select {number} as n" for number in range(12))


@pytest.mark.parametrize("kind", UNBUFFERED)
@pytest.mark.parametrize("autocommit", [True, False])
def test_unbuffered(connect, kind, autocommit, rival):
    """Rows come one by one; the backend is held until the last, and then given back."""
    conn = connect(autocommit=autocommit)
    for _ in range(3):
        with conn.cursor(kind) as cursor:
            assert cursor.execute(MANY) == 18446744073709551615
            count = 0
            for _ in cursor.fetchall_unbuffered():
                count += 1
                assert connect.is_private or conn.rdsproxy.backend is not None or count == 12
            assert count == 12
        conn.commit()
        rival(conn)


@pytest.mark.parametrize(
    "end",
    [
        "close",
        "drop",
        "execute",
        "other",
        "commit",
        "rollback",
        "ping",
        "conn.close",
        "begin",
        "autocommit",
        "select_db",
        "character_set",
        "warnings",
    ],
)
def test_half_read(same, rows, end):
    """A stream that is left half-way, by each way of leaving it: same warnings, and the next statement works."""
    if end == "select_db":
        same.may_pin("SETTING")

    def story(conn):
        autocommit = conn.get_autocommit()
        cursor = conn.cursor()
        cursor.execute(MANY)
        found = [cursor.fetchone(), cursor.fetchmany(2)]
        if end == "close":
            cursor.close()
        elif end == "drop":
            del cursor
            gc.collect()
        elif end == "execute":
            cursor.execute("select 7")
            found.append(cursor.fetchall())
        elif end == "other":
            found.append(rows(conn, "select 8"))
            found.append(cursor.fetchall())
        elif end == "conn.close":
            conn.close()
            cursor._result.unbuffered_active = False  # the driver complains of it in a finaliser
            return found
        elif end == "autocommit":
            conn.autocommit(not autocommit)
        elif end == "select_db":
            conn.select_db("test_features")
        elif end == "character_set":
            conn.set_character_set("utf8mb4")
        elif end == "warnings":
            found.append(conn.show_warnings())
        else:
            found.append(getattr(conn, end)())
        return found, rows(conn, "select 9")

    for kind in UNBUFFERED:
        same(story, cursorclass=kind)
        same(story, cursorclass=kind, autocommit=True)


@pytest.mark.parametrize("kind", UNBUFFERED)
def test_streams_of_two_sessions(connect, kind):
    """Two sessions read their streams in turns."""
    one, two = connect(autocommit=True), connect(autocommit=True)
    first, second = one.cursor(kind), two.cursor(kind)
    first.execute(MANY)
    second.execute(MANY)
    while (row := first.fetchone()) is not None:
        assert second.fetchone() == row
    assert second.fetchone() is None


@pytest.mark.parametrize("kind", UNBUFFERED)
def test_a_dropped_stream_leaves_no_rows(shared, rows, kind):
    """A connection dropped amid a stream takes its backend along; no rows of it meet others."""
    conn = shared(autocommit=True)
    cursor = conn.cursor(kind)
    cursor.execute(MANY)
    cursor.fetchone()
    shared.opened.clear()
    del conn, cursor
    gc.collect()
    for _ in range(3):
        other = shared(autocommit=True)
        assert rows(other, "select 'other'") == (("other",),)


def test_errors_amid_a_stream(same, rows):
    """An error after the first rows of a stream is raised by the fetch that meets it."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a'), (2, 'b'), (3, 'c')")
        conn.commit()
        cursor = conn.cursor(SSCursor)
        cursor.execute(
            "select id, (select 1 union select id from feature_items x where x.id < i.id) from feature_items i"
        )
        return cursor.fetchall()

    same(story)
    outcome, _ = same(story, autocommit=True)
    assert outcome[1][0] == "1242"


def test_stream_without_rows(same):
    """A statement without rows on an unbuffered cursor."""

    def story(conn):
        with conn.cursor(SSCursor) as cursor:
            return cursor.execute("insert into feature_items values (1, 'a')"), cursor.rowcount, cursor.description

    same(story)


# Row counts and ids -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False])
def test_lastrowid_and_counts(same, numbered, rows, autocommit):
    """lastrowid, insert_id(), affected_rows() and rowcount after each kind of write."""

    def story(conn):
        found = []
        with conn.cursor() as cursor:
            for text in (
                "insert into feature_numbered (name) values ('a')",
                "insert into feature_numbered (name) values ('b'), ('c')",
                "insert into feature_numbered values (50, 'd')",
                "insert ignore into feature_numbered values (50, 'e')",
                "update feature_numbered set name = 'f' where id = 50",
                "update feature_numbered set name = 'f' where id = 50",
                "insert into feature_numbered values (50, 'g') on duplicate key update name = 'g'",
                "update feature_numbered set id = last_insert_id(id + 100) where id = 50",
                "replace into feature_numbered values (150, 'h')",
                "select * from feature_numbered",
                "delete from feature_numbered",
                "do 0",
            ):
                cursor.execute(text)
                found.append((text, cursor.lastrowid, conn.insert_id(), conn.affected_rows(), cursor.rowcount))
        conn.commit()
        return found

    same(story, autocommit=autocommit)


@pytest.mark.parametrize("flag", [0, CLIENT.FOUND_ROWS])
def test_found_rows_flag(same, rows, flag):
    """With the client flag FOUND_ROWS an UPDATE counts the rows it met, not those it changed."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        with conn.cursor() as cursor:
            return cursor.execute("update feature_items set name = 'a'"), cursor.execute(
                "update feature_items set name = 'b'"
            )

    assert same(story, client_flag=flag)[0] == ((1, 1) if flag else (0, 1))


def test_flags_do_not_mix(shared, rows):
    """Sessions with and without FOUND_ROWS never share a backend."""
    plain, flagged = shared(autocommit=True), shared(autocommit=True, client_flag=CLIENT.FOUND_ROWS)
    rows(plain, "insert into feature_items values (1, 'a')")
    for _ in range(3):
        assert plain.cursor().execute("update feature_items set name = 'a'") == 0
        assert flagged.cursor().execute("update feature_items set name = 'a'") == 1


def test_info_message(same, rows):
    """The server's message about a statement, as in conn._result.message."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a'), (2, 'b')")
        message = conn._result.message
        rows(conn, "update feature_items set name = 'c'")
        return message.lstrip(b"&("), conn._result.message.lstrip(b"&(")  # the driver takes the length for a part of it

    same(story)


def test_warning_count(same):
    """cursor.warning_count after statements with and without warnings."""

    def story(conn):
        with conn.cursor() as cursor:
            found = []
            for text in ("select cast('x' as signed)", "select 1", "drop table if exists feature_none", "do 0"):
                cursor.execute(text)
                found.append(cursor.warning_count)
            return found

    same(story)
    same(story, autocommit=True)


# Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "select",
        "select * from feature_missing",
        "select missing from feature_items",
        "insert into feature_items values (1)",
        "insert into feature_items values (1, 'a'), (1, 'b')",
        "insert into feature_items values (null, 'a')",
        "insert into feature_items values ('x', 'a')",
        "insert into feature_items values (99999999999, 'a')",
        f"insert into feature_items values (1, '{'x' * 200}')",
        "select 1 / 0",
        "select feature_missing()",
        "create table feature_items (a int)",
        "drop table feature_missing",
        "use feature_missing",
        "signal sqlstate '45000' set message_text = 'ä'",
        "set feature_missing = 1",
        "kill 4294967295",
        "select * from mysql.user",
        "rollback to feature_missing",
        "execute feature_missing",
        "select * from feature_items for update of feature_missing",
    ],
)
def test_errors_are_the_servers(same, rows, text):
    """Errors have the driver's class, the server's number and its words; the next statement works."""
    same.may_pin("UNKNOWN_ROUTINE", "SETTING", "PREPARED_STATEMENT")

    def story(conn):
        said = None
        try:
            rows(conn, text)
        except pymysql.err.Error as error:
            said = type(error), error.args
        with conn.cursor() as cursor:
            cursor.execute("select 'after'")
            after = cursor.fetchall(), cursor.warning_count
        conn.rollback()
        return said, after

    same(story)
    same(story, autocommit=True)


@pytest.mark.parametrize(
    "text",
    [
        "use feature_missing",
        "set feature_missing = 1",
        "select feature_missing()",
        "execute feature_missing",
        "create temporary table feature_items.x (a int)",
        "lock tables feature_missing write",
        "call feature_missing()",
    ],
)
def test_what_failed_does_not_pin(shared, rows, text):
    """A statement that would pin and fails leaves the session multiplexed, but for routines, which may have run."""
    shared.may_pin("UNKNOWN_ROUTINE")
    conn = shared(autocommit=True)
    with pytest.raises(pymysql.err.MySQLError):
        rows(conn, text)
    assert not conn.rdsproxy.pinned or "()" in text


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_a_converter(same, kind):
    """A converter that raises: its error passes, and the connection goes on in step."""

    def bad(value):
        raise ValueError(f"bad {value}")

    conv = {**pymysql.converters.conversions, FIELD_TYPE.LONGLONG: bad, FIELD_TYPE.LONG: bad}

    def story(conn):
        cursor = conn.cursor(kind)
        said = []
        try:
            cursor.execute("select 'a', 1 union all select 'b', 2")
            cursor.fetchall()
        except ValueError as error:
            said.append(error.args)
        return said

    assert same(story, conv=conv)[0] == [("bad 1",)]


def test_after_an_error_of_a_converter(shared, rows):
    """After a converter raised amid rows, this session and others get their own answers."""

    def bad(value):
        raise ValueError("bad")

    conv = {**pymysql.converters.conversions, FIELD_TYPE.LONGLONG: bad, FIELD_TYPE.LONG: bad}
    conn = shared(autocommit=True, conv=conv)
    for _ in range(3):
        with pytest.raises(ValueError, match="bad"):
            rows(conn, "select 'a', 1 union all select 'b', 2")
        assert rows(conn, "select 'mine'") == (("mine",),)
        assert rows(shared(autocommit=True), "select 'others'") == (("others",),)


def test_json_columns(same, rows):
    """JSON goes in as text and comes out as text."""
    value = {"a": [1, 2.5, None, "ä😀"], "b": {"c": True}}

    def story(conn):
        ((text,),) = rows(conn, "select json_extract(%s, '$')", (json.dumps(value),))
        return json.loads(text)

    assert same(story)[0] == value


def test_warnings_are_no_python_warnings(connect, rows):
    """A warning of the server is no warning of Python."""
    conn = connect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows(conn, "select cast('x' as signed)")
