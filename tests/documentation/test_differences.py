"""What docs/differences.md declares and no other test shows: on a private connection, then on a multiplexed one."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from psycopg import sql

import rdsproxy_lib
from tests.differential.runner import DECLARED

ROOT = Path(__file__).resolve().parents[2]

_numbers = itertools.count(1)


@contextmanager
def sessions(url: str, count: int = 2, **options: Any) -> Iterator[list[Any]]:
    """Sessions under autocommit, over one database connection unless the options say otherwise."""
    with rdsproxy_lib.Proxy(url, **{"max_connections": 1, **options}) as proxy:
        opened = [proxy.connect(autocommit=True) for _ in range(count)]
        try:
            yield opened
        finally:
            for conn in opened:
                conn.close()


def value(conn: Any, text: str, parameters: Any = None) -> Any:
    """The one value that a statement returns."""
    with conn.cursor() as cursor:
        cursor.execute(text, parameters)
        return cursor.fetchone()[0]


@pytest.fixture
def private(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the driver."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn


@pytest.fixture
def role(server: Any) -> Iterator[str]:
    """A role that the user `app` may take."""
    name = f"difference_{next(_numbers)}"
    with server.admin() as admin:
        admin.execute(f"create role {name}")
        admin.execute(f"grant {name} to app")
        yield name
        admin.execute(f"drop role if exists {name}")


def test_what_the_differential_runner_lets_pass_is_told():
    """Each difference that it knows of stands under a heading of docs/differences.md."""
    headings = re.findall(r"^## (.*)$", (ROOT / "docs/differences.md").read_text(), re.MULTILINE)
    assert {each.where for each in DECLARED} <= set(headings)


# Opening and closing ----------------------------------------------------------------------------------------------


def test_closing_leaves_the_database_connection_open(url, server):
    """It is lent to the next session, and closed with the proxy."""
    with rdsproxy_lib.Proxy(url, max_connections=1) as proxy, server.admin() as admin:
        with proxy.connect() as conn:
            conn.execute("select 1")
            backend = conn.rdsproxy.backend_id
        assert admin.execute("select true from pg_stat_activity where pid = %s", [backend]).fetchone()
        with proxy.connect() as conn:
            conn.execute("select 1")
            assert conn.rdsproxy.backend_id == backend


def test_a_changed_password_is_asked_for_by_newer_connections(server, database, role):
    """Those that are open stay so; the next login is refused."""
    with server.admin() as admin:
        admin.execute(f"alter role {role} login password 'first'")
        with sessions(server.url(user=role, password="first", dbname=database), 1) as (conn,):
            conn.execute("select 1")
            admin.execute(f"alter role {role} password 'second'")
            conn.execute("select 1")
            admin.execute("select pg_terminate_backend(%s, 5000)", [conn.rdsproxy.backend_id])
            with pytest.raises(psycopg.OperationalError, match="password"):
                conn.execute("select 1")


def test_parameters_are_told_as_at_the_first_login_or_as_set(url, private, server, database):
    """While nothing is borrowed, what the server reports to newer database connections is not known."""
    with sessions(url, 1) as (conn,), server.admin(database) as admin:
        usual = private.info.parameter_status("TimeZone")
        admin.execute(f"alter database {database} set timezone to 'Asia/Tokyo'")
        with conn.transaction():
            assert value(conn, "show timezone") == "Asia/Tokyo"
            assert conn.info.parameter_status("TimeZone") == "Asia/Tokyo"
        assert conn.info.parameter_status("TimeZone") == usual
        conn.execute("set timezone to 'Asia/Tokyo'")
        assert conn.info.parameter_status("TimeZone") == "Asia/Tokyo"


def test_a_thread_amid_a_stream_is_told_at_once(url):
    """What would wait for itself for ever on a private connection raises here."""
    with sessions(url, 1) as (conn,):
        rows = conn.cursor().stream("select generate_series(1, 3)")
        assert next(rows) == (1,)
        with pytest.raises(psycopg.ProgrammingError, match="in the middle of a stream"):
            conn.execute("select 1")
        assert list(rows) == [(2,), (3,)]


# PostgreSQL: settings ---------------------------------------------------------------------------------------------


def test_a_custom_setting_that_another_session_had_is_empty(url, private):
    """It reads '' where a private connection has NULL or 42704: the server does not forget the name."""
    assert value(private, "select current_setting('app.word', true)") is None
    with sessions(url) as (one, other):
        one.execute("set app.word to 'mine'")
        assert value(other, "select current_setting('app.word', true)") == ""
        assert value(other, "select current_setting('app.word')") == ""
        assert value(one, "select current_setting('app.word')") == "mine"


def test_a_default_that_was_changed_arrives_with_a_newer_connection(url, private, server, database):
    """ALTER DATABASE … SET is for sessions to come; a session gets it once its database connection is a newer one."""
    with sessions(url, 1) as (conn,), server.admin(database) as admin:
        before = value(conn, "show work_mem")
        admin.execute(f"alter database {database} set work_mem to '9MB'")
        assert value(conn, "show work_mem") == before
        admin.execute("select pg_terminate_backend(%s, 5000)", [conn.rdsproxy.backend_id])
        assert value(conn, "show work_mem") == "9MB"
        assert value(private, "show work_mem") == before


def test_what_the_session_has_set_stays_where_defaults_change(url, server, database):
    """Its own values are not touched by it, whatever database connection it comes to."""
    with sessions(url, 1) as (conn,), server.admin(database) as admin:
        conn.execute("set work_mem to '7MB'")
        admin.execute(f"alter database {database} set work_mem to '9MB'")
        admin.execute("select pg_terminate_backend(%s, 5000)", [conn.rdsproxy.backend_id])
        assert value(conn, "show work_mem") == "7MB"
        conn.execute("reset work_mem")
        assert value(conn, "show work_mem") == "9MB"


def test_a_role_that_was_dropped_ends_its_sessions(url, private, server, role):
    """A private connection keeps the number of a role that is gone; a session that has to take it again cannot."""
    private.execute(f"set role {role}")
    with sessions(url) as (conn, other):
        conn.execute(f"set role {role}")
        other.execute("select 1")
        with server.admin() as admin:
            admin.execute(f"drop role {role}")
        with pytest.raises(rdsproxy_lib.SessionLost, match="cannot be made again") as caught:
            conn.execute("select 1")
        assert isinstance(caught.value.__cause__, psycopg.Error)
        assert conn.closed
        assert private.execute("select 1").fetchone() == (1,)
        assert other.execute("select 1").fetchone() == (1,)


def test_a_right_that_was_revoked_ends_the_sessions_that_used_it(url, private, server):
    """What a session was allowed to set it has to be allowed still when it comes to another database connection."""
    with server.admin() as admin:
        admin.execute("grant set on parameter log_parser_stats to app")
        try:
            private.execute("set log_parser_stats to on")
            with sessions(url) as (conn, other):
                conn.execute("set log_parser_stats to on")
                other.execute("select 1")
                admin.execute("revoke set on parameter log_parser_stats from app")
                with pytest.raises(rdsproxy_lib.SessionLost, match="cannot be made again"):
                    conn.execute("select 1")
                assert value(private, "show log_parser_stats") == "on"
        finally:
            admin.execute("revoke set on parameter log_parser_stats from app")


def test_temp_buffers_cannot_be_set_where_others_had_temporary_tables(url, private):
    """Its size is fixed by the first temporary table on a database connection, whoever made it."""
    private.execute("set temp_buffers to '16MB'")
    with sessions(url) as (conn, other):
        with other.transaction():
            other.execute("create temp table short_lived on commit drop as select 1")
        assert not other.rdsproxy.pinned
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="temporary tables"):
            conn.execute("set temp_buffers to '16MB'")


@pytest.mark.parametrize("encoding", ["BIG5", "GB18030", "GBK", "JOHAB", "SJIS", "SHIFT_JIS_2004", "UHC"])
def test_encodings_in_which_a_quote_may_hide_pin(url, encoding):
    """Bytes of their characters may look like a quote or a backslash; other encodings are taken along."""
    with sessions(url) as (conn, other):
        conn.execute("set client_encoding to 'EUC_JP'")
        assert not conn.rdsproxy.pinned
        other.execute("select 1")
        conn.execute(f"set client_encoding to '{encoding}'")
        assert [(pin.reason.name, pin.what) for pin in conn.rdsproxy.pins] == [
            ("SETTING", f"client_encoding {encoding}")
        ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("set standard_conforming_strings to off", "SETTING"),
        ("set search_path to pg_temp, public", "TEMP_TABLE"),
        ("select set_config('app.' || 'word', '1', false)", "SETTING"),
        ("update pg_settings set setting = '5MB' where name = 'work_mem'", "SETTING"),
    ],
)
def test_settings_that_cannot_be_taken_along_pin(url, text, reason):
    """What changes how texts are read, what makes tables temporary, and names that no text shows."""
    with sessions(url, 1) as (conn,):
        conn.execute(text)
        assert reason in [each.name for each in conn.rdsproxy.pin_reasons]


def test_what_a_view_sets_is_not_seen(url):
    """It stays on the database connection for whoever comes next, and its own session loses it."""
    with sessions(url, max_connections=2) as (conn, other):
        conn.execute("create view sets as select set_config('app.word', 'left', false)")
        conn.execute("begin; select * from sets")
        backend = conn.rdsproxy.backend_id
        other.execute("begin")
        conn.execute("commit")
        conn.execute("begin")
        assert conn.rdsproxy.backend_id == backend
        other.execute("commit")
        assert not conn.rdsproxy.pinned
        assert value(other, "select current_setting('app.word', true)") is None
        conn.execute("commit")
        assert value(other, "select current_setting('app.word', true)") == "left"


def test_without_the_right_to_set_config_settings_cannot_be_made_again(url, database, server):
    """Where EXECUTE on it was taken from everybody, SET works, and its session ends when it has to move."""
    with server.admin(dbname=database) as admin:
        admin.execute("revoke execute on function pg_catalog.set_config(text, text, boolean) from public")
    with sessions(url) as (conn, other):
        conn.execute("set work_mem to '5MB'")
        assert value(conn, "show work_mem") == "5MB"
        assert value(other, "show work_mem") != "5MB"
        with pytest.raises(rdsproxy_lib.SessionLost, match="permission denied"):
            conn.execute("select 1")


def test_a_function_that_lies_about_a_local_setting_answers_for_another_session(url, private):
    """IMMUTABLE promises one answer for ever: a plan keeps it, also on a private connection that serves several."""
    private.execute(
        "create function lied() returns text immutable language sql as $$ select current_setting('app.word') $$"
    )
    private.execute("create function asks() returns text language plpgsql as $$ begin return lied(); end $$")

    def read(conn: Any, word: str) -> str:
        with conn.transaction():
            conn.execute("select set_config('app.word', %s, true)", (word,))
            found: str = value(conn, "select asks()")
        return found

    with sessions(url) as (conn, other):
        assert [read(conn, "mine"), read(other, "theirs")] == ["mine", "mine"]
    assert [read(private, "mine"), read(private, "theirs")] == ["mine", "mine"]


# PostgreSQL: reading and writing under settings -------------------------------------------------------------------


def test_a_prepared_statement_reads_its_constants_anew_after_set(url, private):
    """A private connection goes on with the constants of the plan that it has."""
    text = "select '02/03/2024'::date::text, %s::int"

    def read(conn: Any) -> list[str]:
        conn.execute("set datestyle to 'ISO, MDY'")
        first = conn.execute(text, (1,), prepare=True).fetchone()[0]
        conn.execute("set datestyle to 'ISO, DMY'")
        return [first, conn.execute(text, (1,), prepare=True).fetchone()[0]]

    assert read(private) == ["2024-02-03", "2024-02-03"]
    with sessions(url, 1) as (conn,):
        assert read(conn) == ["2024-02-03", "2024-03-02"]


def further_result(conn: Any, setting: str) -> str:
    """The second result of a text, come to after something else was set."""
    conn.execute("set timezone to 'UTC'")
    cursor = conn.execute("select 1; select timestamptz '2024-07-01 12:00+00'")
    conn.execute(setting)
    assert cursor.nextset()
    return str(cursor.fetchone()[0])


def test_further_results_load_in_the_time_zone_of_their_statement(url, private):
    """A private connection looks at the time zone when it comes to the result, and so may have another one by then."""
    setting = "set timezone to 'Asia/Tokyo'"
    assert further_result(private, setting) == "2024-07-01 21:00:00+09:00"
    with sessions(url, 1) as (conn,):
        assert further_result(conn, setting) == "2024-07-01 12:00:00+00:00"


def test_further_results_load_in_the_style_of_their_statement(url, private):
    """The same with DateStyle, of which the driver cannot read every one."""
    setting = "set datestyle to 'German'"
    with pytest.raises(NotImplementedError, match="DateStyle 'German"):
        further_result(private, setting)
    with sessions(url, 1) as (conn,):
        assert further_result(conn, setting) == "2024-07-01 12:00:00+00:00"


def test_text_composed_by_hand_is_in_the_encoding_of_the_login(url, private):
    """as_bytes() knows the session's own encoding only while a database connection is held; execute() always does."""
    word = sql.SQL("select {}").format("é")

    def composed(conn: Any) -> bytes:
        return word.as_bytes(conn)

    private.execute("set client_encoding to 'LATIN1'")
    assert composed(private) == "select 'é'".encode("latin1")
    with sessions(url, 1) as (conn,):
        conn.execute("set client_encoding to 'LATIN1'")
        assert composed(conn) == "select 'é'".encode()
        assert conn.info.encoding == "iso8859-1"
        assert conn.execute(word).fetchone() == ("é",)
        with conn.transaction():
            conn.execute("select 1")
            assert composed(conn) == "select 'é'".encode("latin1")


def test_the_list_of_prepared_statements_is_that_of_the_database_connection(url):
    """pg_prepared_statements shows what the driver prepared there for other sessions."""
    with sessions(url) as (conn, other):
        other.execute("select %s::int", [1], prepare=True)
        rows = conn.execute("select statement, from_sql from pg_prepared_statements", prepare=False).fetchall()
        assert rows == [("select $1::int", False)]


def test_questions_of_the_library_are_seen_by_the_server(url, server):
    """pg_stat_activity shows the last text of a database connection, which may be one of the library's own."""
    with sessions(url, 1) as (conn,), server.admin() as admin:
        conn.execute("set work_mem to '5MB'")
        (text,) = admin.execute(
            "select query from pg_stat_activity where pid = %s", [conn.rdsproxy.backend_id]
        ).fetchone()
        assert "work_mem" in text
        assert text.startswith("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_catalog.")


# MySQL and MariaDB ------------------------------------------------------------------------------------------------


@pytest.fixture
def mysql_private(mysql_parameters: Any) -> Iterator[Any]:
    """A connection of the driver."""
    conn = pymysql.connect(**mysql_parameters, autocommit=True)
    yield conn
    conn.close()


def run(conn: Any, text: str) -> None:
    """Run a statement whose answer is of no interest."""
    with conn.cursor() as cursor:
        cursor.execute(text)


def test_a_global_variable_that_was_changed_arrives_at_once_or_later(mysql_url, mysql_private, mysql_server):
    """SET GLOBAL is for sessions to come; an open one gets it with a newer database connection, or one set back."""
    ask = "select @@group_concat_max_len"
    with sessions(mysql_url) as (conn, other), mysql_server.admin() as admin:
        before = value(conn, ask)
        try:
            run(admin, "set global group_concat_max_len = 2222")
            assert value(conn, ask) == before
            run(other, "set group_concat_max_len = 3333")
            assert value(conn, ask) == 2222
            assert value(other, ask) == 3333
            assert value(mysql_private, ask) == before
        finally:
            run(admin, "set global group_concat_max_len = default")


@pytest.mark.parametrize("what", ["role", "database"])
def test_a_role_or_database_that_was_dropped_ends_its_sessions(mysql_url, mysql_private, mysql_server, what):
    """A private connection keeps the name of what is gone; a session that has to choose it again cannot."""
    name = f"test_difference_{next(_numbers)}"
    use, ask = {
        "role": (f"set role {name}", "select current_role()"),
        "database": (f"use {name}", "select database()"),
    }[what]
    with mysql_server.admin() as admin:
        run(admin, f"create {what} {name}")
        if what == "role":
            run(admin, f"grant {name} to app")
        with sessions(mysql_url) as (conn, other):
            for each in (conn, mysql_private):
                run(each, use)
            assert name in value(conn, ask)
            assert not conn.rdsproxy.pinned
            run(other, "select 1")
            run(admin, f"drop {what} {name}")
            with pytest.raises(rdsproxy_lib.SessionLost, match="cannot be made again"):
                value(conn, ask)
            assert not conn.open
            assert name in value(mysql_private, ask)
            assert value(other, "select 1") == 1


@pytest.mark.parametrize("literal", ["1.5", "1e0", "x'00ff'", "repeat('x', 20000)"])
def test_user_variables_of_other_types_pin_while_they_are_so(mysql_url, literal):
    """A decimal, a floating-point number, bytes and what is long; an integer, a string and NULL do not."""
    with sessions(mysql_url) as (conn, other):
        for plain in ("42", "'forty-two'", "null"):
            run(conn, f"set @word = {literal}")
            assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ["USER_VARIABLE"]
            run(conn, f"set @word = {plain}")
            assert not conn.rdsproxy.pinned
            assert value(other, "select @word") is None


@pytest.mark.parametrize("name", ["timestamp = 1", "insert_id = 7", "rand_seed1 = 1", "session_track_schema = 0"])
def test_variables_that_mean_something_only_there_pin(mysql_url, name):
    """They are about the next statement on that very database connection, or hide what changes on it."""
    with sessions(mysql_url, 1) as (conn,):
        run(conn, f"set {name}")
        assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ["SETTING"]


def test_keep_diagnostics_answers_what_is_refused_without(mysql_url):
    """After a writing statement the database connection stays for one more, which may ask about it."""
    with sessions(mysql_url, max_connections=2, keep_diagnostics=True) as (conn, other):
        run(conn, "create table numbered (id int auto_increment primary key)")
        for each, rows in ((conn, "(null)"), (other, "(null), (null)")):
            run(each, f"insert into numbered values {rows}")
        assert value(conn, "select row_count()") == 1
        assert value(other, "select row_count()") == 2
        assert not conn.rdsproxy.pinned
    with sessions(mysql_url) as (conn, other):
        run(conn, "insert into numbered values (null)")
        run(other, "insert into numbered values (null), (null)")
        with pytest.raises(rdsproxy_lib.DiagnosticsLost):
            value(conn, "select row_count()")


# MySQL and MariaDB: what the library does not see, or does not tell -----------------------------------------------


@pytest.mark.parametrize("mysql_server", ["mysql-9.7"], indirect=True)
def test_a_number_in_a_user_variable_forgets_the_collation_it_was_set_under(mysql_url, mysql_private):
    """MySQL keeps that of the connection, and gives it to a text that is made of the number."""
    asked = "select collation(concat(@number))"

    def story(conn: Any) -> None:
        run(conn, "set @number = 1")
        run(conn, "set collation_connection = 'latin1_general_cs'")

    story(mysql_private)
    assert value(mysql_private, asked) == "utf8mb4_0900_ai_ci"
    with sessions(mysql_url, 2) as (conn, other):
        story(conn)
        run(other, "set @other = 'x'")
        assert value(conn, asked) == "latin1_general_cs"


@pytest.mark.parametrize("mysql_server", ["mariadb-10.11"], indirect=True)
def test_the_last_value_of_a_sequence_is_refused(mysql_url, mysql_private):
    """MariaDB keeps it per database connection; NEXTVAL() tells it."""
    run(mysql_private, "create sequence numbers")
    assert value(mysql_private, "select nextval(numbers)") == value(mysql_private, "select lastval(numbers)")
    with sessions(mysql_url, 1) as (conn,):
        value(conn, "select nextval(numbers)")
        for text in ("select lastval(numbers)", "select previous value for numbers"):
            with pytest.raises(rdsproxy_lib.DiagnosticsLost):
                value(conn, text)


def test_warnings_and_counts_at_once_are_refused_on_mariadb(mysql_url, mysql_server):
    """One after the other they are told."""
    with sessions(mysql_url, 1) as (conn,):
        run(conn, "create table words (word varchar(10))")
        run(conn, "insert into words values ('one'), ('two')")
        text = "select @@warning_count + row_count()"
        if mysql_server.is_mariadb:
            with pytest.raises(rdsproxy_lib.DiagnosticsLost):
                value(conn, text)
        else:
            assert value(conn, text) == 2


def test_status_counts_what_all_sessions_did(mysql_url, mysql_private):
    """SHOW SESSION STATUS is about the database connection."""
    ask = "show session status like 'Com_do'"

    def count(conn: Any) -> int:
        with conn.cursor() as cursor:
            cursor.execute(ask)
            return int(cursor.fetchone()[1])

    assert count(mysql_private) == 0
    with sessions(mysql_url) as (conn, other):
        run(other, "do 1")
        assert count(conn) > 0


def test_a_view_may_ask_for_what_is_anothers(mysql_url):
    """The text of a statement does not show that a view of it asks LAST_INSERT_ID()."""
    with sessions(mysql_url) as (conn, other):
        run(conn, "create table numbered (id int auto_increment primary key)")
        run(conn, "create view last as select last_insert_id() as id")
        run(other, "insert into numbered values (41)")
        run(other, "insert into numbered values (null)")
        assert value(conn, "select id from last") == 42


def test_rows_without_transactions_outlive_a_lost_transaction(mysql_url, mysql_server, mysql_database):
    """MyISAM knows no transactions, so that nothing is undone."""
    with sessions(mysql_url, 1) as (conn,), mysql_server.admin(database=mysql_database) as admin:
        run(conn, "create table kept (id int) engine = myisam")
        run(conn, "begin")
        run(conn, "insert into kept values (1)")
        run(admin, f"kill {conn.rdsproxy.backend_id}")
        while value(admin, "select count(*) from information_schema.processlist where db = database()") > 1:
            pass
        with pytest.raises(rdsproxy_lib.TransactionLost):
            run(conn, "select 1")
        conn.rollback()
        assert value(conn, "select count(*) from kept") == 1


def test_a_lock_that_a_trigger_takes_stays(mysql_url, mysql_server, mysql_database):
    """The server does not report it, so that the session is not pinned and its lock is anybody's."""
    name = f"{mysql_database}.lock"
    with sessions(mysql_url) as (conn, other), mysql_server.admin(database=mysql_database) as admin:
        run(conn, "create table words (word varchar(10))")
        run(admin, f"create trigger locks before insert on words for each row do get_lock('{name}', 0)")
        run(conn, "insert into words values ('one')")
        assert not conn.rdsproxy.pinned
        assert value(other, "select is_used_lock(%s) = connection_id()", [name]) == 1


def test_a_socket_that_is_brought_along_is_refused(mysql_url):
    """connect(sock) would make a database connection that nobody else may have."""
    with sessions(mysql_url, 1) as (conn,), socket.socket() as own:
        with pytest.raises(pymysql.err.NotSupportedError):
            conn.connect(own)
        assert value(conn, "select 1") == 1
