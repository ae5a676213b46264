"""Texts are escaped, sent and read by what is in force in the session, whatever changed it."""

from __future__ import annotations

import contextlib

import pymysql
import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor

HOSTILE = ("\\", ", 'x' -- ")
"""Escaped for the wrong sql_mode, the second of these ends the string that it stands in."""


@pytest.fixture
def routine(root):
    """Makes a procedure, and drops it at the end."""
    names = []

    def make(name, body):
        root(f"drop procedure if exists {name}")
        root(f"create procedure {name}() begin {body}; end")
        names.append(name)

    yield make
    for name in names:
        root(f"drop procedure {name}")


def is_well(conn):
    """What is hostile comes back as it is, and the session escapes as the server reads."""
    with conn.cursor() as cursor:
        cursor.execute("select %s, %s", HOSTILE)
        return cursor.fetchall() == (HOSTILE,)


MODE = "sql_mode = 'NO_BACKSLASH_ESCAPES'"


def test_a_mode_for_one_statement(shared, rows, features):
    """SET STATEMENT of MariaDB: the status word of its answer tells of a mode that is over."""
    if not features.is_mariadb:
        pytest.skip("MySQL has no SET STATEMENT")
    shared.may_pin("NAMED_LOCK")
    one, other = shared(autocommit=True), shared(autocommit=True)
    rows(one, f"set statement {MODE} for select 1")
    assert is_well(one)
    assert is_well(other)
    one.begin()
    rows(one, f"set statement {MODE} for select 1")
    rows(one, r"select '\'', get_lock(0x79, 0) -- '")  # it takes the lock, and it pins
    one.rollback()
    assert one.rdsproxy.pinned
    one.close()
    assert rows(other, "select is_used_lock('y')") == ((None,),)


@pytest.mark.parametrize("options", [{"routine_policy": "trust"}, {"routine_policy": "reset"}, {}], ids=str)
def test_a_mode_that_a_procedure_sets(shared, rows, routine, options):
    """The server takes it back at the procedure's end, and says nothing of that."""
    routine("feature_mode", f"set {MODE}")
    proxy = shared.make_proxy(**options)
    one, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    rows(one, "call feature_mode()")
    assert is_well(one)
    assert is_well(other)
    with contextlib.suppress(pymysql.err.MySQLError):
        rows(one, r"select '\'', get_lock(0x79, 0) -- '")
    one.close()
    assert rows(other, "select is_used_lock('y')") == ((None,),)
    other.close()


def test_a_mode_that_a_filter_lets_go(shared, rows):
    """EXCLUDE_VARIABLE_SETS: what cannot be taken along is lost, and with it how texts are escaped."""
    proxy = shared.make_proxy(session_pinning_filters=("EXCLUDE_VARIABLE_SETS",))
    conn = proxy.connect(autocommit=True)
    rows(conn, f"set @d = 1.5, {MODE}")
    assert is_well(conn)
    conn.close()


@pytest.mark.parametrize(
    "text",
    [
        r"set sql_mode = 'NO_BACKSLASH_ESCAPES'; select '\', get_lock(0x78, 0) -- '",
        r'''set sql_mode = 'ANSI_QUOTES'; select 1 as "\", get_lock(0x78, 0) -- "''',
    ],
)
def test_a_mode_set_in_front_of_another_statement(shared, rows, text):
    """The second statement is read in the mode of the first: it pins, whatever it does."""
    shared.may_pin("UNKNOWN_STATEMENT", "NAMED_LOCK")
    one, other = shared(autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS), shared(autocommit=True)
    with contextlib.suppress(pymysql.err.MySQLError):
        rows(one, text)
    assert one.rdsproxy.pinned
    one.close()
    assert rows(other, "select is_used_lock('x')") == ((None,),)


def test_a_default_of_the_login_is_not_taken_for_unset(shared, rows):
    """After an error what was set in front of it is compared with what sessions of this login begin with."""
    keywords = {"init_command": "set time_zone = '+05:00'", "client_flag": CLIENT.MULTI_STATEMENTS}
    one, other = (shared(autocommit=True, **keywords) for _ in range(2))
    with pytest.raises(pymysql.err.MySQLError):
        rows(one, "set time_zone = 'SYSTEM'; select bad")
    assert rows(other, "select @@time_zone") == (("+05:00",),)
    assert rows(one, "select @@time_zone") == (("SYSTEM",),)


def test_a_character_set_of_the_driver_survives_a_new_session(same, rows):
    """connect() after close() goes on in the character set that the driver writes."""

    def story(conn):
        conn.set_character_set("gbk")
        conn.close()
        conn.connect()
        return rows(conn, "select hex('中'), @@character_set_client")

    same(story, autocommit=True)


@pytest.mark.parametrize("collation", ["utf16_general_ci", "ucs2_general_ci", "utf32_general_ci"])
def test_user_variables_under_wide_character_sets(shared, rows, collation):
    """Each character of an answer takes several bytes there, digits too."""
    one, other = shared(autocommit=True), shared(autocommit=True)
    rows(one, f"set collation_connection = {collation}")
    rows(other, "do 0")
    rows(one, "set @x = 5")
    rows(other, "do 0")
    assert rows(one, "select @x") == ((5,),)


def test_a_variable_set_in_a_stream(shared, rows):
    """What it is, is asked for when the rows have been read."""
    conn = shared(autocommit=True)
    with conn.cursor(SSCursor) as cursor:
        cursor.execute("select @z := n from (select 1 as n union select 2 union select 3) as numbers")
        assert cursor.fetchall() == [(1,), (2,), (3,)]
    assert rows(conn, "select @z") == ((3,),)


def test_what_is_heard_at_the_end_of_results_left_unread(shared, rows, routine, root):
    """A procedure of another database: its end is read by the next statement, and is not that one's doing."""
    shared.may_pin("UNKNOWN_ROUTINE")
    routine("feature_results", "select 1; select 2")
    (database,) = root("select database()")[0]
    root("create database if not exists test_elsewhere")
    root("create table if not exists test_elsewhere.items (a int)")
    try:
        conn = shared(autocommit=True)
        rows(conn, "use test_elsewhere")
        with conn.cursor() as cursor:
            cursor.execute(f"call {database}.feature_results()")
            cursor.connection.query("insert into items values (1)")
        assert {reason.name for reason in conn.rdsproxy.pin_reasons} <= {"UNKNOWN_ROUTINE"}
        assert rows(conn, "select * from items") == ((1,),)
        conn.close()
    finally:
        root("drop database test_elsewhere")


def test_a_temporary_table_that_was_renamed(shared, rows, root):
    """Dropping the table of the same name that it hid does not end the pin."""
    shared.may_pin("TEMP_TABLE")
    root("drop table if exists feature_hidden")
    root("create table feature_hidden (a int)")
    conn = shared(autocommit=True)
    for text in (
        "create temporary table feature_hidden (a int)",
        "insert into feature_hidden values (1)",
        "alter table feature_hidden rename feature_renamed",
        "drop table feature_hidden",
    ):
        rows(conn, text)
    assert rows(conn, "select * from feature_renamed") == ((1,),)
    assert {reason.name for reason in conn.rdsproxy.pin_reasons} == {"TEMP_TABLE"}
