"""The connection's own methods and attributes, on private and on multiplexed connections."""

from __future__ import annotations

import datetime
import decimal
import inspect
import threading
import time

import pymysql
import pytest
from pymysql.constants import CLIENT, CR, FIELD_TYPE, SERVER_STATUS
from pymysql.cursors import Cursor, DictCursor, SSCursor

from tests.features_mysql.conftest import outcome_of

NO_BACKSLASH = SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES


# What it is -------------------------------------------------------------------------------------------------------


def test_class_and_attributes(connect):
    """It is an instance of the driver's class, and has each public name of it."""
    conn = connect()
    assert isinstance(conn, pymysql.connections.Connection)
    for name in dir(pymysql.connections.Connection):
        if not name.startswith("_"):
            assert hasattr(conn, name), name


def test_public_names_are_the_drivers(features, clean, shared):
    """dir() and vars() of ours have the public names of a private connection, and `rdsproxy` more."""
    private = pymysql.connect(**features.parameters())
    try:
        ours = shared()
        names = {name for name in dir(private) if not name.startswith("_")}
        missing = {name for name in names if not hasattr(ours, name)}
        assert missing == set()
        assert {name for name in dir(ours) if not name.startswith("_")} - names <= {"rdsproxy"}
    finally:
        private.close()


ATTRIBUTES = """
    host port db charset collation encoding use_unicode autocommit_mode sql_mode init_command max_allowed_packet
    unix_socket bind_address connect_timeout protocol_version server_version server_charset server_language open
    cursorclass host_info    _closed _read_timeout _write_timeout _local_infile user ssl server_public_key _secure
"""


def test_attributes_have_the_drivers_values(same):
    """What the driver knows of its connection right after connect()."""
    same(lambda conn: {name: getattr(conn, name) for name in ATTRIBUTES.split()})


@pytest.mark.parametrize("when", ["at once", "in a transaction", "after it"])
def test_information(same, rows, when):
    """get_server_info() and its like, before, in and after a transaction."""

    def story(conn):
        if when != "at once":
            rows(conn, "select * from feature_items")
        if when == "after it":
            conn.commit()
        return (
            conn.get_server_info(),
            conn.server_version,
            conn.get_proto_info(),
            conn.get_host_info(),
            conn.character_set_name(),
            conn.charset,
            conn.encoding,
            conn.get_autocommit(),
            conn.open,
        )

    same(story)


def test_signatures_are_the_drivers():
    """Methods take what the driver's take."""
    from rdsproxy_lib.faces.pymysql import Connection

    for name, method in inspect.getmembers(pymysql.connections.Connection, inspect.isfunction):
        if not name.startswith("_"):
            ours = inspect.signature(getattr(Connection, name))
            assert list(ours.parameters) == list(inspect.signature(method).parameters), name


def test_thread_id(connect, rows):
    """thread_id() in a transaction is the connection's number at the server."""
    conn = connect()
    rows(conn, "select * from feature_items")
    assert conn.thread_id() == rows(conn, "select connection_id()")[0][0]
    assert isinstance(conn.thread_id(), int)
    conn.rollback()
    assert isinstance(conn.thread_id(), int)


def test_thread_id_before_any_statement(connect):
    """thread_id() of a new session is a number."""
    assert isinstance(connect().thread_id(), int)


def test_errors_are_attributes(connect):
    """conn.Error and its like are the driver's exceptions."""
    conn = connect()
    for name in (
        "Warning",
        "Error",
        "InterfaceError",
        "DatabaseError",
        "DataError",
        "OperationalError",
        "IntegrityError",
        "InternalError",
        "ProgrammingError",
        "NotSupportedError",
    ):
        assert getattr(conn, name) is getattr(pymysql.err, name)


# Escaping ---------------------------------------------------------------------------------------------------------

VALUES = [
    "it's",
    "back\\slash",
    'quote"',
    "nul\0",
    "\n\r\x1a",
    b"bytes\xff'",
    bytearray(b"x"),
    1,
    -1.5,
    None,
    True,
    decimal.Decimal("1.10"),
    datetime.date(2024, 1, 2),
    datetime.timedelta(seconds=3661),
    (1, "a", None),
    [b"x"],
    {5},
    frozenset(["ä"]),
    {"k": 1},
    float("inf"),
    float("nan"),
    2 + 3j,
    object,
]


@pytest.mark.parametrize("mode", [None, "NO_BACKSLASH_ESCAPES"])
def test_escaping(same, mode):
    """escape(), literal() and mogrify(), with and without NO_BACKSLASH_ESCAPES, before any statement and after one."""

    def story(conn):
        found = []
        for _ in range(2):
            for value in VALUES:
                found.append(outcome_of(conn.escape, value))
                found.append(outcome_of(conn.literal, value))
                found.append(outcome_of(conn.cursor().mogrify, "x %s y", (value,)))
                found.append(conn._escape_string(value) if isinstance(value, str) else None)
            conn.cursor().execute("select 1")
        return found

    same(story, sql_mode=mode)


def test_escape_with_a_mapping(same):
    """escape() with a mapping of the caller's."""
    same(
        lambda conn: (
            conn.escape(5, {int: lambda value, mapping=None: "five"}),
            conn.escape([5], {int: lambda v, m=None: "f"}),
        )
    )


def test_backslashes_follow_sql_mode(connect, rows):
    """After SET sql_mode the session escapes as the server reads, and no other session does."""
    connect.may_pin("SETTING")
    conn, other = connect(), connect()
    text = "a\\'b"
    for mode in ("NO_BACKSLASH_ESCAPES", "", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES", "ANSI"):
        rows(conn, "set sql_mode = %s", (mode,))
        assert bool(conn.server_status & NO_BACKSLASH) == ("BACKSLASH" in mode)
        assert rows(conn, "select %s", (text,)) == ((text,),)
        assert rows(other, "select %s", (text,)) == ((text,),)
        assert not other.server_status & NO_BACKSLASH


def test_sql_mode_argument(connect, rows):
    """sql_mode= of connect() holds for this session over several transactions, and for no other."""
    conn, other = connect(sql_mode="NO_BACKSLASH_ESCAPES"), connect()
    for _ in range(3):
        assert conn.cursor().mogrify("%s", ("a\\b",)) == "'a\\b'"
        assert rows(conn, "select @@sql_mode, %s", ("a\\b",)) == (("NO_BACKSLASH_ESCAPES", "a\\b"),)
        rows(conn, "select * from feature_items")
        conn.commit()
        assert "NO_BACKSLASH_ESCAPES" not in rows(other, "select @@sql_mode")[0][0]
        assert rows(other, "select %s", ("a\\b",)) == (("a\\b",),)


def test_a_pinned_mode_does_not_reach_the_next(shared, rows):
    """A session that set NO_BACKSLASH_ESCAPES and closed leaves no next one that escapes wrongly."""
    for _ in range(3):
        conn = shared(autocommit=True)
        rows(conn, "set sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
        conn.close()
        other = shared(autocommit=True)
        assert rows(other, 'select %s, "text"', ("x\\' or 1=1 -- ",)) == (("x\\' or 1=1 -- ", "text"),)


# Characters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1", "utf8mb3", "utf8", "ascii", "cp1250", "gbk", "sjis", "koi8r"])
def test_charsets(same, rows, charset):
    """charset= of connect(): what the driver encodes, and what the server says."""

    def story(conn):
        found = [conn.charset, conn.encoding, conn.character_set_name()]
        found.append(rows(conn, "select @@character_set_client, @@character_set_results, @@collation_connection"))
        found.append(rows(conn, "select %s, length(%s), 'plain'", ("abc", "abc")))
        return found

    same(story, charset=charset)


@pytest.mark.parametrize(
    ("charset", "text"),
    [("latin1", "äöüß"), ("utf8mb4", "😀漢"), ("cp1251", "Привет"), ("sjis", "表ソ"), ("gbk", "漢字'\\")],
)
def test_text_in_a_charset(connect, rows, charset, text):
    """Text of one charset goes through connections of another unharmed."""
    conn, other = connect(charset=charset), connect(charset="utf8mb4")
    rows(conn, "insert into feature_items values (1, %s)", (text,))
    conn.commit()
    assert rows(other, "select name, hex(name) from feature_items") == ((text, text.encode().hex().upper()),)
    assert rows(conn, "select name from feature_items") == ((text,),)


def test_text_that_does_not_fit(same, rows):
    """What the charset cannot encode is the driver's UnicodeEncodeError, and nothing is sent."""

    def story(conn):
        try:
            rows(conn, "select %s", ("漢字",))
        except UnicodeEncodeError as error:
            return error.encoding, rows(conn, "select 1")

    same(story, charset="latin1")


@pytest.mark.parametrize("collation", ["utf8mb4_bin", "utf8mb4_unicode_ci", "utf8mb4_general_ci"])
def test_collation(connect, rows, collation):
    """collation= of connect() holds over several transactions and for no other session."""
    conn, other = connect(charset="utf8mb4", collation=collation), connect()
    for _ in range(3):
        assert rows(conn, "select @@collation_connection, 'a' = 'A'") == (
            (collation, int(not collation.endswith("bin"))),
        )
        rows(conn, "select * from feature_items")
        conn.rollback()
        assert rows(other, "select 'a' = 'A'") == ((1,),)


@pytest.mark.parametrize(
    "arguments", [("latin1",), ("utf8mb4", "utf8mb4_bin"), ("utf8mb4",), ("nonsense",), ("utf8mb4", "nonsense")]
)
def test_set_character_set(same, rows, arguments):
    """set_character_set() changes how the session writes and reads."""
    same.may_pin("SETTING")

    def story(conn):
        said = None
        try:
            conn.set_character_set(*arguments)
        except (pymysql.err.Error, KeyError, AttributeError) as error:
            said = type(error), error.args
        asked = rows(conn, "select @@character_set_client, @@collation_connection, %s, length(%s)", ("ä", "ä"))
        return said, conn.charset, conn.encoding, conn.collation, conn.character_set_name(), asked

    same(story)


def test_set_charset_is_deprecated(same):
    """set_charset() warns as the driver's does."""
    same.may_pin("SETTING")
    _outcome, said = same(lambda conn: conn.set_charset("latin1"))
    assert [category for category, _ in said] == [DeprecationWarning]


def test_set_character_set_after_a_text_has_set_another(same, rows):
    """The driver does not see SET NAMES in texts: what it takes for known is not in force."""

    def story(conn):
        found = []
        for _ in range(2):
            conn.set_character_set("utf8mb4", "utf8mb4_german2_ci")
            found.append(rows(conn, "select @@collation_connection"))
            rows(conn, "set names utf8mb4")
            found.append(rows(conn, "select @@collation_connection"))
        return found

    same(story, autocommit=True)


def test_set_character_set_to_the_same_does_not_pin(shared, rows):
    """set_character_set() of what the session has already sends nothing and pins nothing."""
    conn = shared()
    conn.set_character_set("utf8mb4")
    assert not conn.rdsproxy.pinned
    rows(conn, "select 1")
    conn.set_character_set(conn.charset)
    assert not conn.rdsproxy.pinned


def test_a_charset_stays_with_its_session(shared, rows):
    """SET NAMES of a session that closed does not reach the next."""
    conn = shared(autocommit=True)
    conn.set_character_set("latin1", "latin1_bin")
    rows(conn, "set character_set_results = null")
    conn.close()
    for _ in range(3):
        other = shared(autocommit=True)
        assert rows(other, "select %s, hex(%s), @@character_set_results", ("ä", "ä")) == (("ä", "C3A4", "utf8mb4"),)


@pytest.mark.parametrize("use_unicode", [True, False])
def test_use_unicode(same, rows, use_unicode):
    """use_unicode=False gives bytes."""
    same(lambda conn: rows(conn, "select 'ä', 1, null, x'00'"), use_unicode=use_unicode)


# Converters -------------------------------------------------------------------------------------------------------


def test_conv(connect, rows):
    """conv= of connect() is this session's alone, for both directions."""
    conv = {
        **pymysql.converters.conversions,
        FIELD_TYPE.LONGLONG: str,
        FIELD_TYPE.LONG: str,
        float: lambda value, m=None: "'yes'",
    }
    conn, other = connect(conv=conv), connect()
    for _ in range(2):
        assert rows(conn, "select 5, %s", (1.5,)) == (("5", "yes"),)
        assert rows(other, "select 5, %s", (1.5,)) == ((5, 1.5),)
    assert conn.encoders[float] is conv[float]
    assert conn.decoders[FIELD_TYPE.LONG] is str


def test_orig_conv_values(same, rows):
    """A converter for dates, one for JSON and one that gives None."""
    conv = {
        **pymysql.converters.conversions,
        FIELD_TYPE.DATE: lambda text: text.split("-"),
        FIELD_TYPE.NEWDECIMAL: lambda text: None,
    }
    same(lambda conn: rows(conn, "select date '2024-01-02', 1.5, null"), conv=conv)


# ping, open, close ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), (False,), (True,)])
def test_ping(same, rows, arguments):
    """ping() in each form, with nothing open, in a transaction and after it."""

    def story(conn):
        found = [conn.ping(*arguments)]
        rows(conn, "insert into feature_items values (1, 'a')")
        found.append(conn.ping(*arguments))
        found.append(rows(conn, "select * from feature_items"))
        conn.rollback()
        found.append(conn.ping(*arguments))
        return found, conn.open

    same(story)


@pytest.mark.parametrize("arguments", [(), (False,), (True,)])
def test_ping_after_close(same, rows, arguments):
    """ping() of a closed connection raises Error("Already closed"), and connects anew with reconnect=True."""

    def story(conn):
        conn.close()
        found = conn.ping(*arguments)
        return found, conn.open, rows(conn, "select 1"), conn.get_autocommit()

    same(story)
    same(story, autocommit=True)


def test_close_twice(same):
    """close() of a closed connection raises the driver's Error("Already closed")."""

    def story(conn):
        before = conn.open, conn.close(), conn.open
        try:
            conn.close()
        except pymysql.err.Error as error:
            return before, type(error), error.args

    assert same(story)[0] == ((True, None, False), pymysql.err.Error, ("Already closed",))


AFTER = {
    "query": lambda conn: conn.query("select 1"),
    "execute": lambda conn: conn.cursor().execute("select 1"),
    "executemany": lambda conn: conn.cursor().executemany("insert into feature_items values (%s, %s)", [(1, "a")]),
    "callproc": lambda conn: conn.cursor().callproc("feature_rows"),
    "commit": lambda conn: conn.commit(),
    "rollback": lambda conn: conn.rollback(),
    "begin": lambda conn: conn.begin(),
    "autocommit same": lambda conn: conn.autocommit(False),
    "autocommit other": lambda conn: conn.autocommit(True),
    "get_autocommit": lambda conn: conn.get_autocommit(),
    "select_db": lambda conn: conn.select_db("test_features"),
    "show_warnings": lambda conn: conn.show_warnings(),
    "set_character_set": lambda conn: conn.set_character_set("utf8mb4"),
    "kill": lambda conn: conn.kill(1),
    "ping": lambda conn: conn.ping(),
    "escape": lambda conn: conn.escape("a'b"),
    "mogrify": lambda conn: conn.cursor().mogrify("%s", (1,)),
    "cursor": lambda conn: conn.cursor().fetchall(),
    "insert_id": lambda conn: conn.insert_id(),
    "affected_rows": lambda conn: conn.affected_rows(),
    "open": lambda conn: conn.open,
    "info": lambda conn: (
        conn.get_server_info(),
        conn.get_host_info(),
        conn.get_proto_info(),
        conn.character_set_name(),
    ),
    "with": lambda conn: conn.__enter__() is conn,
    "thread_id": lambda conn: isinstance(conn.thread_id(), int),
}


@pytest.mark.parametrize("used", [False, True])
def test_use_after_close(same, rows, used):
    """Each method of a closed connection raises what the driver's raises, or answers the same."""

    def story(conn):
        if used:
            rows(conn, "insert into feature_items values (1, 'a')")
        conn.close()
        return {what: outcome_of(act, conn) for what, act in AFTER.items()}

    same(story)


@pytest.mark.parametrize("kind", [Cursor, SSCursor, DictCursor])
def test_cursor_after_close(same, kind):
    """A cursor whose connection was closed: its rows are still there, and execute() raises."""

    def story(conn):
        cursor = conn.cursor(kind)
        cursor.execute("select 1 union select 2")
        if kind is SSCursor:
            cursor.fetchall()
        conn.close()
        found = [cursor.fetchall()]
        try:
            cursor.execute("select 1")
        except pymysql.err.Error as error:
            found.append((type(error), error.args))
        cursor.close()
        return found

    same(story)


def test_closing_a_cursor_after_the_connection(same):
    """A cursor may be closed after its connection, also with several results unread."""

    def story(conn):
        cursor = conn.cursor()
        cursor.execute("select 1")
        conn.close()
        return cursor.close()

    same(story)


# connect() --------------------------------------------------------------------------------------------------------


def test_defer_connect(same, rows):
    """defer_connect=True: closed until connect() is called, with the driver's errors till then."""

    def story(conn):
        found = [conn.open]
        for what in (lambda: rows(conn, "select 1"), conn.ping, conn.commit, conn.rollback, conn.begin):
            try:
                found.append(what())
            except pymysql.err.Error as error:
                found.append((type(error), error.args))
        found.append(conn.connect())
        found.append((conn.open, rows(conn, "select 1"), conn.get_autocommit()))
        return found

    same(story, defer_connect=True)


def test_deferred_and_closed(same):
    """A deferred connection can be closed without ever connecting."""

    def story(conn):
        return conn.close(), conn.open

    same(story, defer_connect=True)


def test_deferred_and_collected(connect):
    """A deferred connection that is dropped makes no noise."""
    connect(defer_connect=True)
    connect.opened.clear()


def test_connect_again(same, rows, names):
    """connect() of an open connection begins anew: what was open is undone, the rest is as the arguments say."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        conn.connect()
        return conn.open, conn.get_autocommit(), rows(conn, "select 'new'")

    same(story)
    assert names() == []


def test_connect_after_close(same, rows):
    """connect() of a closed connection opens it again."""

    def story(conn):
        conn.close()
        conn.connect()
        found = conn.open, rows(conn, "select 1"), conn.get_autocommit()
        conn.close()
        return found, conn.open

    same(story)


def test_connect_again_forgets_the_session(shared, rows):
    """connect() of a pinned connection leaves its settings behind."""
    conn = shared()
    rows(conn, "set @a = 5")
    rows(conn, "set time_zone = '+05:00'")
    conn.connect()
    assert rows(conn, "select @a, @@time_zone") == ((None, "SYSTEM"),)
    assert not conn.rdsproxy.pinned


def test_autocommit_survives_connect(same, rows):
    """The mode that autocommit() chose is kept by connect(), as it is the driver's argument from then on."""

    def story(conn):
        conn.autocommit(True)
        conn.connect()
        found = [conn.get_autocommit(), rows(conn, "select @@autocommit")]
        conn.close()
        conn.connect()
        return found, conn.get_autocommit(), rows(conn, "select @@autocommit")

    same(story)


@pytest.mark.parametrize(
    "arguments",
    [
        {"port": "x"},
        {"connect_timeout": 0},
        {"read_timeout": 0},
        {"write_timeout": -1},
        {"compress": True},
        {"named_pipe": True},
        {"charset": "nonsense"},
        {"nonsense": 1},
        {"user": "nobody", "password": "wrong"},
        {"password": "wrong"},
        {"database": "missing"},
        {"collation": "nonsense"},
        {"sql_mode": "NONSENSE"},
        {"init_command": "nonsense"},
        {"init_command": "select * from feature_missing"},
        {"client_flag": "x"},
        {"conv": 5},
    ],
    ids=repr,
)
def test_wrong_arguments(features, clean, arguments):
    """What connect() raises for wrong arguments is what the driver raises."""
    import rdsproxy_lib

    if features.is_mariadb and "named_pipe" in arguments:
        pytest.skip("once is enough")
    private = outcome_of(lambda: pymysql.connect(**{**features.parameters(), **arguments}).close())
    with rdsproxy_lib.Proxy(features.url(), max_connections=2, connection_borrow_timeout=5) as proxy:
        ours = outcome_of(lambda: proxy.connect(**arguments).close())
        if "port" in arguments or "nonsense" in arguments:
            assert ours[0] is private[0]
        else:
            assert ours == private


def test_compress_is_refused(features, clean):
    """compress=True is NotImplementedError, as with the driver."""
    import rdsproxy_lib

    with rdsproxy_lib.Proxy(features.url()) as proxy, pytest.raises(NotImplementedError):
        proxy.connect(compress=True)


# Databases --------------------------------------------------------------------------------------------------------


def test_select_db(connect, rows):
    """select_db() pins; the session is in the other database, the next ones are not."""
    connect.may_pin("SETTING")
    conn, other = connect(), connect()
    conn.select_db("test_features_other")
    rows(conn, "create table if not exists only_there (a int)")
    for _ in range(2):
        assert rows(conn, "select database()") == (("test_features_other",),)
        rows(conn, "select * from only_there")
        conn.commit()
        assert rows(other, "select database()") == (("test_features",),)
    conn.close()
    assert rows(connect(), "select database()") == (("test_features",),)


@pytest.mark.parametrize(
    "db", ["test_features", b"test_features", "missing", "test_features_other", "", "`x`", "mysql"]
)
def test_select_db_values(same, rows, db):
    """select_db() of the same, of another, of a missing and of a forbidden database."""
    same.may_pin("SETTING")

    def story(conn):
        said = None
        try:
            conn.select_db(db)
        except pymysql.err.Error as error:
            said = type(error), error.args
        return said, rows(conn, "select database()")

    same(story)


def test_select_db_of_the_same_does_not_pin(shared, rows):
    """select_db() of the database that the session is in does not pin."""
    conn = shared()
    conn.select_db("test_features")
    assert not conn.rdsproxy.pinned


def test_use(connect, rows):
    """USE pins, like select_db()."""
    connect.may_pin("SETTING")
    conn = connect()
    rows(conn, "use test_features_other")
    assert rows(conn, "select database()") == (("test_features_other",),)
    conn.select_db("test_features")
    assert rows(conn, "select database()") == (("test_features",),)


def test_databases_of_their_own(shared, rows):
    """Sessions of two databases never meet in one."""
    here, there = shared(), shared(database="test_features_other")
    for _ in range(4):
        assert rows(here, "select database()") == (("test_features",),)
        assert rows(there, "select database()") == (("test_features_other",),)


def test_without_a_database(features, clean):
    """A session without a database has none, also after another session without one chose one."""
    import rdsproxy_lib

    with rdsproxy_lib.Proxy(features.server.url(database=None, ssl_disabled=True), max_connections=1) as proxy:
        for _ in range(2):
            conn = proxy.connect(autocommit=True)
            cursor = conn.cursor()
            cursor.execute("select database()")
            assert cursor.fetchall() == ((None,),)
            conn.select_db("test_features")
            cursor.execute("select database()")
            assert cursor.fetchall() == (("test_features",),)
            conn.close()


# init_command and client flags ------------------------------------------------------------------------------------


def test_init_command(connect, rows):
    """init_command= holds for the session on each of its backends, and for no other session."""
    conn, other = connect(init_command="set time_zone = '+03:00'"), connect()
    for _ in range(4):
        assert rows(conn, "select @@time_zone") == (("+03:00",),)
        rows(conn, "select * from feature_items")
        conn.commit()
        assert rows(other, "select @@time_zone") == (("SYSTEM",),)
    assert connect.is_private or not conn.rdsproxy.pinned


def test_init_command_after_a_reset(shared, rows):
    """After a pinned session of the same arguments closed, init_command, charset and sql_mode are there again."""
    arguments = {
        "init_command": "set time_zone = '+03:00', @mine = 7",
        "charset": "latin1",
        "sql_mode": "ANSI_QUOTES",
        "collation": "latin1_bin",
    }
    for _ in range(3):
        conn = shared(autocommit=True, **arguments)
        found = rows(
            conn, "select @@time_zone, @mine, @@character_set_client, @@collation_connection, @@sql_mode, database()"
        )
        assert found == (("+03:00", 7, "latin1", "latin1_bin", "ANSI_QUOTES", "test_features"),)
        rows(conn, "set time_zone = '+04:00', @mine = 8, sql_mode = '', names utf8mb4")
        rows(conn, "use test_features_other")
        conn.close()
    for name in ("init_command", "sql_mode"):
        arguments.pop(name)


def test_init_command_with_rows(same, rows):
    """An init_command that gives rows, and one that writes."""
    same(lambda conn: rows(conn, "select 1"), init_command="select 5 union select 6")


def test_init_command_under_autocommit_off(connect, rows, names):
    """What an init_command writes belongs to the transaction of nobody: under the server's default it is committed."""
    conn = connect(init_command="replace into feature_items values (1, 'init')")
    rows(conn, "select 1")
    conn.rollback()
    assert names() == ["init"]


def test_interactive_flag(connect, rows):
    """client_flag=INTERACTIVE chooses interactive_timeout, for this session alone."""
    conn, other = connect(client_flag=CLIENT.INTERACTIVE), connect()
    ((one,),) = rows(conn, "select @@wait_timeout = @@interactive_timeout")
    assert one == 1
    assert rows(other, "select 1") == ((1,),)


# LOAD DATA LOCAL --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False])
def test_load_data_local(connect, rows, names, tmp_path, autocommit, rival):
    """LOAD DATA LOCAL reads a file, several times over several transactions."""
    conn = connect(local_infile=True, autocommit=autocommit)
    for number in range(2):
        path = tmp_path / f"{number}.csv"
        path.write_text("".join(f"{number * 1000 + line}\tn{line}\n" for line in range(500)))
        with conn.cursor() as cursor:
            assert cursor.execute("load data local infile %s into table feature_items", (str(path),)) == 500
        conn.commit()
        rival(conn)
    assert len(names()) == 1000


def test_load_data_local_large(connect, rows, names, tmp_path):
    """A file of several packets."""
    conn = connect(local_infile=True, max_allowed_packet=16 * 1024)
    path = tmp_path / "large.csv"
    path.write_text("".join(f"{line}\t{'x' * 90}\n" for line in range(3000)))
    with conn.cursor() as cursor:
        assert cursor.execute(f"load data local infile '{path}' into table feature_items") == 3000
    conn.rollback()
    assert names() == []


def test_load_data_local_missing_file(same, rows):
    """A missing file is the driver's error, and the connection goes on."""

    def story(conn):
        rows(conn, "insert into feature_items values (1, 'a')")
        try:
            rows(conn, "load data local infile '/nonexistent/file' into table feature_items")
            said = None
        except pymysql.err.Error as error:
            said = type(error), error.args
        return said, rows(conn, "select * from feature_items")

    same(story, local_infile=True)
    same(story, local_infile=True, autocommit=True)


def test_load_data_local_warnings(same, rows, tmp_path):
    """LOAD DATA LOCAL of bad lines counts warnings, and SHOW WARNINGS tells them."""
    path = tmp_path / "bad.csv"
    path.write_text("1\ta\nx\tb\n1\tc\n")

    def story(conn):
        with conn.cursor() as cursor:
            cursor.execute(f"load data local infile '{path}' into table feature_items")
            return cursor.rowcount, cursor.warning_count, conn.show_warnings()

    same(story, local_infile=True)
    same(story, local_infile=True, autocommit=True)


def test_load_data_local_is_off_by_default(features, clean, rows, tmp_path, connect):
    """Without local_infile=True the server may not ask for a file."""
    conn = connect()
    path = tmp_path / "x.csv"
    path.write_text("1\ta\n")
    with pytest.raises((pymysql.err.MySQLError, RuntimeError)):
        rows(conn, f"load data local infile '{path}' into table feature_items")


def test_local_infile_does_not_mix(shared, rows, tmp_path, names):
    """Sessions with local_infile never lend it to those without."""
    path = tmp_path / "x.csv"
    path.write_text("1\ta\n")
    allowed = shared(local_infile=True, autocommit=True)
    rows(allowed, f"load data local infile '{path}' into table feature_items")
    for _ in range(3):
        plain = shared(autocommit=True)
        with pytest.raises((pymysql.err.MySQLError, RuntimeError)):
            rows(plain, f"load data local infile '{path}' into table feature_items")


# Time limits ------------------------------------------------------------------------------------------------------


def test_read_timeout(connect, rows):
    """read_timeout ends a long statement with 2013; of others it is not the limit."""
    conn, other = connect(read_timeout=0.2, autocommit=True), connect(autocommit=True)
    started = time.monotonic()
    with pytest.raises(pymysql.err.OperationalError) as caught:
        rows(conn, "select sleep(5)")
    assert caught.value.args[0] == CR.CR_SERVER_LOST
    assert time.monotonic() - started < 3
    assert rows(other, "select sleep(0.3)") == ((0,),)
    if not connect.is_private:
        assert rows(conn, "select 1") == ((1,),)


def test_read_timeout_of_others_on_the_same_backend(shared, rows):
    """A session without a limit that gets the backend of one with a limit waits as long as it takes."""
    short, patient = shared(read_timeout=0.15, autocommit=True), shared(autocommit=True)
    for _ in range(2):
        rows(short, "select 1")
        assert rows(patient, "select sleep(0.2)") == ((0,),)


# kill -------------------------------------------------------------------------------------------------------------


def test_kill(connect, rows, features, eventually, root):
    """kill() ends another connection of the server; wrong numbers are the server's error, wrong types TypeError."""
    conn = connect()
    victim = pymysql.connect(**features.parameters())
    try:
        number = victim.thread_id()
        conn.kill(number)
        eventually(lambda: not root("select 1 from information_schema.processlist where id = %s", (number,)))
    finally:
        victim._force_close()
    with pytest.raises(TypeError):
        conn.kill("1")
    with pytest.raises(pymysql.err.OperationalError) as caught:
        conn.kill(4294967294)
    assert caught.value.args[0] == 1094


def test_kill_query_reaches_its_session(shared, rows, running, root):
    """KILL QUERY of a session's statement ends that statement alone; the next borrower sees nothing of it."""
    conn = shared(autocommit=True)
    seen = []

    def sleep():
        try:
            seen.append(rows(conn, "select sleep(10) as killed_here"))
        except pymysql.err.Error as error:
            seen.append(error.args)

    thread = threading.Thread(target=sleep)
    thread.start()
    number = running("killed_here")
    root(f"kill query {number}")
    thread.join()
    assert seen in ([((1,),)], [(1317, "Query execution was interrupted")])
    for _ in range(3):
        assert rows(shared(autocommit=True), "select 'well'") == (("well",),)


# Threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(5)
def test_overlapping_use_raises_at_once(shared, rows, running):
    """A second thread that uses a connection amid the first one's statement gets ProgrammingError at once."""
    conn = shared()
    rows(conn, "insert into feature_items values (1, 'a')")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(rows(conn, "select sleep(0.5), 'overlapped'")))
    thread.start()
    running("overlapped")
    started = time.monotonic()
    cursor = conn.cursor()
    for act in (
        lambda: cursor.execute("select 1"),
        lambda: conn.query("select 1"),
        lambda: cursor.callproc("feature_rows"),
        lambda: conn.autocommit(True),
        lambda: conn.select_db("test_features_other"),
        lambda: conn.set_character_set("latin1"),
        conn.commit,
        conn.rollback,
        conn.ping,
        conn.begin,
        conn.show_warnings,
        conn.next_result,
        conn.rdsproxy.pin,
    ):
        with pytest.raises(pymysql.err.ProgrammingError):
            act()
    assert time.monotonic() - started < 0.4
    thread.join()
    assert seen == [((0, "overlapped"),)]
    assert rows(conn, "select * from feature_items") == ((1, "a"),)
    assert not conn.rdsproxy.pinned
    conn.rollback()


@pytest.mark.timeout(5)
@pytest.mark.parametrize("what", ["fetchone", "fetchall", "nextset", "execute", "close"])
def test_overlapping_fetches_raise_at_once(shared, running, what):
    """A second thread that fetches amid the first one's fetch gets ProgrammingError; the first one gets its rows."""
    conn = shared(autocommit=True)
    cursor = conn.cursor(SSCursor)
    cursor.execute("select 1, repeat('x', 100000) union all select 2, sleep(0.5) union all select 3, 'overlapped'")
    cursor.fetchone()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(cursor.fetchone()))
    thread.start()
    try:
        running("overlapped")
        time.sleep(0.05)
        acts = {"nextset": conn.next_result, "execute": lambda: conn.cursor().execute("select 1")}
        with pytest.raises(pymysql.err.ProgrammingError):
            acts.get(what, lambda: getattr(cursor, what)())()
    finally:
        thread.join(2)
    assert seen == [(2, "0")]
    assert cursor.fetchall() == [(3, "overlapped")]


def test_threads_may_take_turns(connect, rows):
    """A connection may be used by one thread after another."""
    conn = connect()
    seen = []
    for number in range(5):
        thread = threading.Thread(target=lambda number=number: seen.append(rows(conn, "select %s", (number,))))
        thread.start()
        thread.join()
    assert seen == [((number,),) for number in range(5)]


def test_close_from_another_thread(shared, rows, running):
    """close() while another thread's statement runs ends it; the other thread gets an error of the driver's."""
    conn = shared(autocommit=True)
    seen = []

    def work():
        try:
            seen.append(rows(conn, "select sleep(5), 'closing'"))
        except pymysql.err.Error as error:
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    running("closing")
    conn.close()
    thread.join(timeout=4)
    assert not thread.is_alive()
    assert isinstance(seen[0], pymysql.err.Error)
    assert not conn.open


# More of connect() ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [None, True, False])
@pytest.mark.parametrize("value", [0, 1])
def test_autocommit_in_init_command(same, rows, autocommit, value):
    """SET autocommit in an init_command holds where autocommit=None, as the driver's own comes after it."""

    def story(conn):
        found = [conn.get_autocommit(), rows(conn, "select @@autocommit")]
        rows(conn, "insert into feature_items values (1, 'a')")
        conn.rollback()
        return found, rows(conn, "select * from feature_items"), conn.get_autocommit()

    same(story, autocommit=autocommit, init_command=f"set autocommit = {value}")


def test_tls(features, clean, rows):
    """Where the server offers TLS it is used, as by the driver."""
    import rdsproxy_lib

    parameters = {**features.parameters(), "ssl_disabled": None}
    private = pymysql.connect(**parameters)
    expected = rows(private, "show status like 'ssl_version'")
    private.close()
    with rdsproxy_lib.Proxy(features.server.url(database="test_features"), max_connections=1) as proxy:
        conn = proxy.connect(autocommit=True)
        assert rows(conn, "show status like 'ssl_version'") == expected
        rows(conn, "set @a = 1")
        conn.close()
        conn = proxy.connect(autocommit=True)
        assert rows(conn, "select @a") == ((None,),)
        assert proxy.stats().database_connections_with_tls == (1 if expected[0][1] else 0)
        conn.close()


@pytest.mark.parametrize("kind", [Cursor, SSCursor])
def test_program_name_and_attributes(connect, rows, kind):
    """program_name= of connect() is seen by the server, and is this session's alone."""
    conn, other = connect(program_name="features", cursorclass=kind), connect()
    look = (
        "select attr_value from performance_schema.session_connect_attrs"
        " where processlist_id = connection_id() and attr_name = 'program_name'"
    )
    for _ in range(2):
        assert list(rows(conn, look)) == [("features",)]
        conn.rollback()
        assert list(rows(other, look)) == []
        other.rollback()
