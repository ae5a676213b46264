"""The leaks that users of other poolers reported, each with its product and number; all sessions share one backend.

Found by reading: the numbers are issues and pull requests on GitHub.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import psycopg
import pymysql
import pytest

from rdsproxy_lib import PinRefused, SessionLost, SessionPinned

from .conftest import eventually, rows, value

# -- PostgreSQL: settings


def test_read_only_of_one_service_is_not_anothers(postgres):
    """pgbouncer #1567 and #224, teachanything #450: SET default_transaction_read_only refuses no write of others."""
    reader, writer = postgres.sessions()
    rows(writer, "create table items (id int)")
    for text in ("set default_transaction_read_only = on", "set session characteristics as transaction read only"):
        rows(reader, text)
        rows(writer, "insert into items values (1)")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            rows(reader, "insert into items values (2)")
        rows(reader, "reset all")
    assert rows(writer, "select id from items") == [(1,), (1,)]


def test_read_only_of_the_driver_is_not_anothers(postgres):
    """pgjdbc #848: a connection whose attribute says read only leaves other sessions writing."""
    proxy = postgres.proxy()
    reader, writer = postgres.connect(proxy, autocommit=False), postgres.connect(proxy, autocommit=False)
    rows(writer, "create table items (id int)")
    writer.commit()
    reader.read_only = True
    value(reader, "select count(*) from items")
    reader.commit()
    rows(writer, "insert into items values (1)")
    writer.commit()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        rows(reader, "insert into items values (2)")
    reader.rollback()


@pytest.mark.parametrize(
    ("product", "texts"),
    [
        ("hatchet #3898", ["begin; set statement_timeout = 30000; commit"]),
        ("dagster #33416", ["set statement_timeout = '60s'"]),
        ("hasura #10852", ["set statement_timeout = '1s'; create table if not exists migrated (id int)"]),
        (
            "cumora #12",
            [
                "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set lock_timeout = '5s'",
                "select set_config('statement_timeout', '7s', false), set_config('lock_timeout', '7s', false)",
            ],
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_timeouts_of_one_session_are_not_anothers(postgres, product, texts):
    """hatchet #3898, dagster #33416, hasura #10852, cumora #12: the timeouts of a job or a migration stay its own."""
    proxy = postgres.proxy(init_query="set statement_timeout = '60s'; set idle_in_transaction_session_timeout = '30s'")
    migration, application = postgres.connect(proxy), postgres.connect(proxy)
    question = (
        "select current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout'),"
        " current_setting('lock_timeout')"
    )
    assert rows(application, question) == [("1min", "30s", "0")]
    for text in texts:
        rows(migration, text)
        assert rows(application, question) == [("1min", "30s", "0")]
    assert rows(migration, question) != rows(application, question) or product == "dagster #33416"
    migration.close()
    assert rows(application, question) == [("1min", "30s", "0")]


@pytest.mark.parametrize(
    "text",
    [
        "select pg_catalog.set_config('search_path', '', false)",
        "set statement_timeout = 0; set lock_timeout = 0; set client_encoding = 'UTF8';"
        " set standard_conforming_strings = on; select pg_catalog.set_config('search_path', '', false);"
        " set check_function_bodies = false; set xmloption = content; set client_min_messages = warning;"
        " set row_security = off; set default_tablespace = ''; set default_table_access_method = heap",
    ],
    ids=["the line", "the whole header"],
)
@pytest.mark.parametrize("end", ["go on", "close"])
def test_a_dump_does_not_poison_the_search_path(postgres, text, end):
    """pgbouncer #452, #246, #396, #976: what pg_dump and its dumps set leaves others finding their tables."""
    dump, application = postgres.sessions(2, max_connections=2)
    rows(application, "create table items (id int)")
    rows(dump, text)
    with pytest.raises(psycopg.errors.UndefinedTable):
        rows(dump, "select * from items")
    if end == "close":
        dump.close()
    assert rows(application, "select * from items") == []
    fresh = postgres.connect(postgres.proxies[0])
    assert rows(fresh, "select * from items") == []


def test_what_a_foreign_data_wrapper_sets_stays_its_own(postgres):
    """pgbouncer #1313: the settings that postgres_fdw begins its sessions with are not found by others."""
    wrapper, application = postgres.sessions()
    rows(application, "create table items (id int)")
    for text in (
        "set search_path = pg_catalog",
        "set timezone = 'GMT'",
        "set datestyle = iso",
        "set intervalstyle = postgres",
        "set extra_float_digits = 3",
        "start transaction isolation level repeatable read",
        "commit transaction",
    ):
        rows(wrapper, text)
        if text != "start transaction isolation level repeatable read":
            assert rows(application, "select * from items") == []


@pytest.mark.parametrize("how", ["set", "set_config", "bound", "role", "prepared"])
def test_tenants_read_their_own_schema(postgres, how):
    """apartment #470, django-tenants #1112 and #1213, pgbouncer #246 and #299: search_path is no other tenant's."""
    for tenant in range(3):
        postgres.admin(f"create schema tenant_{tenant}; create table tenant_{tenant}.secrets as select {tenant} as id")
        postgres.admin(f"grant usage on schema tenant_{tenant} to public")
        postgres.admin(f"grant select on tenant_{tenant}.secrets to public")
        postgres.admin(f"create schema if not exists state_role_{tenant}")
        postgres.admin(f"create table state_role_{tenant}.secrets as select {tenant} as id")
        postgres.admin(f"grant all on schema state_role_{tenant} to state_role_{tenant}")
        postgres.admin(f"grant all on state_role_{tenant}.secrets to state_role_{tenant}")
    sessions = postgres.sessions(3)
    for tenant, conn in enumerate(sessions):
        if how == "role":  # "$user" of the default path
            rows(conn, f"set role state_role_{tenant}")
        elif how == "bound":
            rows(conn, "select set_config('search_path', %s, false)", [f"tenant_{tenant}"])
        elif how == "set_config":
            rows(conn, f"select set_config('search_path', 'tenant_{tenant}', false)")
        else:
            rows(conn, f"set search_path to tenant_{tenant}")
    for number in range(12):
        for tenant in (0, 2, 1) if number % 2 else (1, 0, 2):
            prepare = True if how == "prepared" else None
            assert sessions[tenant].execute("select id from secrets", prepare=prepare).fetchone() == (tenant,)


@pytest.mark.parametrize("how", ["set", "set_config", "bound", "in a transaction"])
def test_row_security_shows_tenants_their_own_rows(postgres, how):
    """amfs #363, areev #192, spiralclass #59, pgdog #1055: the tenant of a row-level policy is no other session's."""
    postgres.admin(
        "create table secrets (tenant int, word text);"
        "insert into secrets values (0, 'zero'), (1, 'one'), (2, 'two');"
        "alter table secrets enable row level security; grant all on secrets to public;"
        "create policy own on secrets using (tenant = nullif(current_setting('app.tenant_id', true), '')::int)"
    )
    sessions = postgres.sessions(4)
    nobody = sessions[3]
    for tenant, conn in enumerate(sessions[:3]):
        if how == "bound":
            rows(conn, "select set_config('app.tenant_id', %s, false)", [str(tenant)])
        elif how == "set_config":
            rows(conn, f"select set_config('app.tenant_id', '{tenant}', false)")
        elif how == "set":
            rows(conn, f"set app.tenant_id = {tenant}")
        else:
            with conn.transaction():
                value(conn, "select 1")
                rows(conn, f"set app.tenant_id = {tenant}")
        assert rows(nobody, "select word from secrets") == []
    for _ in range(7):  # the driver prepares it meanwhile
        for tenant, word in ((2, "two"), (0, "zero"), (1, "one")):
            assert rows(sessions[tenant], "select word from secrets") == [(word,)]
            assert rows(nobody, "select word from secrets") == []


@pytest.mark.parametrize("end", ["commit", "rollback", "error"])
def test_settings_of_a_transaction_end_with_it(postgres, end):
    """pgdog #686, #801 and #1298, multigres #1134 and #1138: SET LOCAL, SET TRANSACTION, SET that was rolled back."""
    conn, other = postgres.sessions()
    question = "select current_setting('work_mem'), current_setting('app.x', true), current_setting(%s)"
    parameters = ["transaction_isolation"]
    clean = [("4MB", None, "read committed")], [("4MB", "", "read committed")]
    rows(conn, "begin")
    rows(conn, "set transaction isolation level serializable")
    rows(conn, "set local work_mem = '99kB'")
    rows(conn, "select set_config('app.x', 'local', true)")
    if end != "commit":
        rows(conn, "set work_mem = '98kB'")
    assert value(conn, "show transaction_isolation") == "serializable"
    if end == "error":
        with pytest.raises(psycopg.errors.DivisionByZero):
            rows(conn, "select 1 / 0")
        rows(conn, "commit")
    else:
        rows(conn, end)
    assert rows(other, question, parameters) in clean
    assert rows(conn, question, parameters) in clean


def test_a_setting_amid_a_transaction_is_the_sessions_own(postgres):
    """pgdog #1298: BEGIN; SELECT 1; SET app.x; COMMIT reaches the session's next transaction, and no other session."""
    conn, other = postgres.sessions()
    rows(conn, "begin; select 1; set app.x = 'v'; commit")
    assert not value(other, "select current_setting('app.x', true)")
    assert value(conn, "select current_setting('app.x')") == "v"


def test_a_search_path_does_not_grow_quotes(postgres):
    """odyssey #809: a list is replayed as the list it is, however often."""
    conn, other = postgres.sessions()
    path = '"$user", public, "a, b", "Mixed"'
    rows(conn, f"set search_path to {path}")
    rows(other, "set search_path to 'x, y', z")
    for _ in range(6):
        assert value(conn, "show search_path") == path
        assert value(other, "show search_path") == '"x, y", z'
    assert rows(conn, "select current_schemas(false)") == [(["public"],)]


# -- PostgreSQL: roles


@pytest.mark.parametrize("how", ["set role state_role_1", "select set_config('role', 'state_role_1', false)"])
@pytest.mark.parametrize("end", ["go on", "close", "close amid a transaction", "close pinned"])
def test_a_role_is_not_anothers(postgres, how, end):
    """pgdog #1341, multigres #729, pgbouncer #1567: SET ROLE of one client is not seen by another."""
    conn, other = postgres.sessions()
    if end == "close pinned":  # as in the report
        rows(conn, "select pg_advisory_lock(1)")
    rows(conn, how)
    assert rows(conn, "select current_user, session_user") == [("state_role_1", "app")]
    if end == "close amid a transaction":
        rows(conn, "begin")
        rows(conn, "set role state_role_2")
    if end != "go on":
        conn.close()
    assert rows(other, "select current_user, session_user") == [("app", "app")]


def test_a_session_authorization_is_not_anothers(postgres):
    """pgdog #1444, pgbouncer #1567: SET SESSION AUTHORIZATION of one client is not seen by another."""
    proxy = postgres.proxy()
    login = {"user": "postgres", "password": "postgres-secret"}
    conn, other = postgres.connect(proxy, **login), postgres.connect(proxy, **login)
    rows(conn, "set session authorization state_role_1")
    for _ in range(3):
        assert rows(conn, "select current_user, session_user") == [("state_role_1", "state_role_1")]
        assert rows(other, "select current_user, session_user") == [("postgres", "postgres")]
    rows(conn, "reset session authorization")
    assert rows(conn, "select current_user, session_user") == [("postgres", "postgres")]
    assert not conn.rdsproxy.pinned


def test_a_role_that_was_dropped_is_an_error_of_its_own_session(postgres):
    """multigres #729: a session whose role is gone is told so; others go on, also with the backend it was on."""
    postgres.admin("create role short_lived; grant short_lived to app")
    conn, other = postgres.sessions()
    rows(conn, "set role short_lived")
    assert value(other, "select current_user") == "app"
    postgres.admin("drop role short_lived")
    with pytest.raises(psycopg.Error):
        value(conn, "select current_user")
    assert value(other, "select current_user") == "app"
    assert postgres.proxies[0].stats().database_connections_currently_borrowed == 0


# -- PostgreSQL: objects and locks


def test_a_prepared_statement_is_not_anothers(postgres):
    """yugabyte-db #33914, pgbouncer #1567: SQL PREPARE of a client that left amid a transaction is gone."""
    conn, other = postgres.sessions()
    rows(conn, "begin")
    rows(conn, "prepare mine as select 'mine'")
    conn.close()
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        rows(other, "execute mine")
    rows(other, "prepare mine as select 'others'")
    assert rows(other, "execute mine") == [("others",)]


@pytest.mark.parametrize("end", ["close", "lost", "dropped"])
def test_an_advisory_lock_ends_with_its_client(postgres, end):
    """pgdog #1407 and #609, pgbouncer #102: a lock whose client is gone without a word is free for the next one."""
    with postgres.relay() as relay:
        proxy = postgres.proxy(port=relay.port)
        conn = postgres.connect(proxy)
        assert value(conn, "select pg_try_advisory_lock(999125, 0)") is True
        outside = postgres.private()
        assert value(outside, "select pg_try_advisory_lock(999125, 0)") is False
        if end == "close":
            conn.close()
        elif end == "lost":
            relay.reset_all()
            with pytest.raises(SessionLost):
                value(conn, "select 1")
        else:
            postgres.opened.remove(conn)
            with pytest.warns(ResourceWarning):
                del conn
        rows(outside, "set lock_timeout = '10s'")
        rows(outside, "select pg_advisory_lock(999125, 0)")  # waits for the server to notice
        assert value(postgres.connect(proxy), "select 1") == 1


def test_an_advisory_lock_is_released_on_its_own_backend(postgres):
    """pgdog #1408: pg_advisory_unlock() reaches the connection that holds the lock, between others' statements."""
    proxy = postgres.proxy(max_connections=2)
    conn, other = postgres.connect(proxy), postgres.connect(proxy)
    for _ in range(3):
        rows(conn, "select pg_advisory_lock(5)")
        rows(other, "select 1")
        assert value(conn, "select pg_advisory_unlock(5)") is True
        rows(other, "select 1")
    assert rows(postgres.private(), "select 1 from pg_locks where locktype = 'advisory'") == []


@pytest.mark.parametrize("begin", ["begin read only", "begin; select 1"])
def test_a_backend_with_an_open_transaction_is_not_lent(postgres, begin):
    """supavisor #1172, pgbouncer #1358: a session that vanishes with its transaction open leaves nothing open."""
    conn, other = postgres.sessions()
    rows(conn, begin)
    assert conn.rdsproxy.in_transaction
    conn.close()
    assert value(other, "select 1") == 1
    assert not other.rdsproxy.in_transaction
    look = "select state from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    assert {state for (state,) in postgres.admin(look)} == {"idle"}


def test_a_begin_whose_answer_was_lost_leaves_no_transaction(postgres):
    """supavisor #1172: the reply to BEGIN gets lost; the session hears of it, and no backend stays in a transaction."""
    with postgres.relay() as relay:
        proxy = postgres.proxy(port=relay.port)
        conn, other = postgres.connect(proxy), postgres.connect(proxy)
        value(conn, "select 1")
        relay.cut_after(0, "to_client")
        try:
            rows(conn, "begin read only")
        except psycopg.Error:
            conn.rollback()
        else:
            rows(conn, "rollback")
        assert value(other, "select 1") == 1
        look = "select 1 from pg_stat_activity where datname = current_database() and state like 'idle in%'"
        eventually(lambda: postgres.admin(look) == [])  # the server learns of the cut when it reads next


def test_session_state_can_be_refused(postgres):
    """pgbouncer #976, supavisor #1113: who wants no session state gets an error instead, before anything is sent."""
    proxy = postgres.proxy(pin_policy={"PREPARED_STATEMENT": "error", "LISTEN": "error"})
    conn = postgres.connect(proxy)
    for text in ("prepare mine as select 1", "listen channel"):
        with pytest.raises(PinRefused):
            rows(conn, text)
    assert rows(conn, "select name from pg_prepared_statements where from_sql") == []
    assert rows(conn, "select pg_listening_channels()") == []
    assert not conn.rdsproxy.pinned


def test_no_state_survives_from_client_to_client(postgres):
    """pgagroal #941 and #949, hasura #10852, neon #12681: all of it at once, and the next client finds nothing."""
    conn, other = postgres.sessions()
    for text in (
        "set work_mem = '99kB'",
        "set app.x = 'mine'",
        "set role state_role_1",
        "create temp table scratch (id int)",
        "prepare mine as select 1",
        "declare mine cursor with hold for select 1",
        "select pg_advisory_lock(1)",
        "listen mine",
        "begin",
        "set statement_timeout = 77",
    ):
        rows(conn, text)
    conn.close()
    look = """
        select current_setting('work_mem'), coalesce(current_setting('app.x', true), ''), current_user::text,
            current_setting('statement_timeout'),
            (select count(*) from pg_class where relnamespace = pg_my_temp_schema()),
            (select count(*) from pg_prepared_statements where from_sql),
            (select count(*) from pg_cursors where name <> ''),
            (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
            (select count(*) from pg_listening_channels())
    """
    assert rows(other, look) == [("4MB", "", "app", "0", 0, 0, 0, 0, 0)]


def test_clean_sessions_cost_no_reset(postgres):
    """mcp-context-forge #2669, Chaptarr #164: DISCARD ALL is not sent after each transaction; here never."""
    conn, other = postgres.sessions()
    for _ in range(20):
        for each in (conn, other):
            with each.transaction():
                value(each, "select 1")
    assert postgres.proxies[0].stats().resets == 0


# -- MySQL and MariaDB


def test_foreign_key_checks_of_one_session_are_not_anothers(mysql):
    """RustCFML #275, proxysql #835: SET foreign_key_checks = 0 and unique_checks = 0 stay with their session."""
    mysql.admin("create table parents (id int primary key) engine=innodb")
    mysql.admin("create table children (id int, foreign key (id) references parents (id)) engine=innodb")
    loader, application = mysql.sessions()
    rows(loader, "set foreign_key_checks = 0, unique_checks = 0")
    rows(loader, "insert into children values (1)")
    for _ in range(3):
        with pytest.raises(pymysql.IntegrityError):
            rows(application, "insert into children values (2)")
        assert rows(application, "select @@foreign_key_checks, @@unique_checks") == [(1, 1)]
        rows(loader, "insert into children values (3)")


@pytest.mark.parametrize("name", ["foreign_key_checks", "unique_checks"])
def test_default_is_what_the_server_has(mysql, name):
    """vitess #21167 (MySQL bug 121262): other sessions get the global value back, not its opposite."""
    conn, other = mysql.sessions()
    rows(conn, f"set {name} = 0")
    assert value(other, f"select @@{name}") == 1
    assert value(conn, f"select @@{name}") == 0
    conn.close()
    assert value(other, f"select @@{name}") == 1


def test_sql_mode_of_one_session_is_not_anothers(mysql):
    """RustCFML #275: what one session's sql_mode lets pass, another's refuses; quoting is each session's own."""
    lenient, strict = mysql.sessions()
    usual = value(strict, "select @@sql_mode")
    rows(lenient, "set sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
    for _ in range(3):
        assert value(lenient, "select %s", ("a\\'b",)) == "a\\'b"
        assert value(strict, "select %s", ("a\\'b",)) == "a\\'b"
        assert value(strict, "select @@sql_mode") == usual
        assert value(lenient, "select @@sql_mode") == "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("caller", ["closes", "goes on"])
def test_what_a_procedure_sets_is_not_found_by_others(mysql, in_transaction, caller):
    """vitess #21046, #21063 and #21062: settings, SET NAMES and temporary tables of a CALL stay with the caller."""
    mysql.admin(
        "create procedure leave_things() begin set session transaction isolation level read uncommitted;"
        " set net_read_timeout = 77; set names latin1; set @left = 1; create temporary table scratch (id int); end"
    )
    isolation = "tx_isolation" if mysql.is_mariadb else "transaction_isolation"
    question = f"select @@{isolation}, @@net_read_timeout, @@character_set_client, @left"
    private = mysql.private()
    conn, other = mysql.sessions()
    usual = rows(other, question)
    for each in (private, conn):
        if in_transaction:
            rows(each, "begin")
        rows(each, "call leave_things()")
        if in_transaction:
            rows(each, "commit")
    assert rows(conn, question) == rows(private, question) != usual
    if caller == "closes":
        conn.close()
    else:
        rows(conn, "drop temporary table scratch")
        conn.rdsproxy.unpin()
        if conn.rdsproxy.pinned:
            conn.close()
    assert rows(other, question) == usual
    with pytest.raises(pymysql.ProgrammingError):
        rows(other, "select * from scratch")


def test_what_a_procedure_sets_is_kept_for_its_caller(mysql):
    """vitess #21046: a procedure that only sets variables does so for the session that called it, on any backend."""
    mysql.admin("create procedure set_things() begin set net_read_timeout = 77; set @left = 1; end")
    conn, other = mysql.sessions()
    rows(conn, "call set_things()")
    if not conn.rdsproxy.pinned:
        assert rows(other, "select @@net_read_timeout, @left") == [(30, None)]
    assert rows(conn, "select @@net_read_timeout, @left") == [(77, 1)]


def test_init_connect_holds_after_every_reset(mysql):
    """vitess #21066, proxysql #4998: a connection that was relabelled or reset is as one that just logged in."""
    admin = mysql.admin
    before = admin("select @@global.init_connect")[0][0]
    admin("set global init_connect = \"set time_zone = '+05:00', net_write_timeout = 99\"")
    try:
        question = "select @@time_zone, @@net_write_timeout, @@character_set_client"
        conn, other = mysql.sessions()
        usual = rows(mysql.private(), question)
        assert usual[0][:2] == ("+05:00", 99)
        assert rows(other, question) == usual
        rows(conn, "set time_zone = '+01:00', net_write_timeout = 11")
        assert rows(other, question) == usual  # relabelled
        assert rows(conn, question)[0][:2] == ("+01:00", 11)
        rows(conn, "set time_zone = default, net_write_timeout = default")
        assert rows(conn, question) == [("SYSTEM", 60, usual[0][2])]
        assert rows(other, question) == usual
        rows(conn, "create temporary table scratch (id int)")
        conn.close()
        assert rows(other, question) == usual  # reset
        assert mysql.proxies[0].stats().reset_failures == 0
    finally:
        admin("set global init_connect = %s", (before,))


def test_a_relabel_works(mysql):
    """vitess #21026: the statement that takes settings back is accepted by the server, and is no hidden reconnect."""
    conn, other = mysql.sessions()
    names = {
        "sql_safe_updates": 1,
        "sql_select_limit": 7,
        "wait_timeout": 777,
        "character_set_results": "'latin1'",
        "collation_connection": "'utf8mb4_bin'",
        "sql_mode": "''",
        "time_zone": "'+03:00'",
        "lc_time_names": "'de_DE'",
        "max_sort_length": 64,
        "foreign_key_checks": 0,
        "autocommit": 0,
    }
    question = "select " + ", ".join(f"@@session.{name}" for name in names)
    usual = rows(other, question)
    for name, new in names.items():
        rows(conn, f"set {name} = {new}")
    mine = rows(conn, question)
    conn.commit()
    for _ in range(3):
        assert rows(other, question) == usual
        assert rows(conn, question) == mine
        conn.commit()
    stats = mysql.proxies[0].stats()
    assert (stats.reset_failures, stats.database_connections_closed) == (0, 0)
    assert stats.database_connections_setup_succeeded <= 2  # the first one may have become the ghost
    assert stats.relabels >= 6


def test_an_error_in_a_transaction_keeps_the_backend(mysql):
    """proxysql #1038, #4264 and #3058: after a failed INSERT the transaction and its locks are still the session's."""
    mysql.admin("create table items (id int primary key) engine=innodb")
    proxy = mysql.proxy(max_connections=2)
    conn, other = mysql.connect(proxy, autocommit=False), mysql.connect(proxy)
    rows(conn, "insert into items values (1)")
    with pytest.raises(pymysql.IntegrityError):
        rows(conn, "insert into items values (1)")
    assert conn.rdsproxy.in_transaction
    assert rows(other, "select * from items") == []
    rows(conn, "insert into items values (2)")
    conn.rollback()
    assert not conn.rdsproxy.in_transaction
    assert rows(other, "select * from items") == []
    rows(other, "alter table items add column word varchar(10)")  # no metadata lock is left
    assert proxy.stats().database_connections_currently_borrowed == 0


@pytest.mark.parametrize(
    "text",
    [
        "insert into items values (1, 2, 3)",
        "select nonsense from items",
        "select * from items where nonsense",
        "update items set id = nonsense",
        "show create table items",
        "describe items",
        "describe missing",
        "show full columns from missing",
        "select * from missing",
    ],
)
@pytest.mark.parametrize("end", ["rollback", "commit", "close"])
def test_a_failed_statement_keeps_no_lock(mysql, text, end):
    """proxysql #1038: without autocommit, a first statement that fails leaves no metadata lock after its end."""
    mysql.admin("create table items (id int primary key) engine=innodb")
    conn, other = mysql.sessions(2, max_connections=2)
    conn.autocommit(False)
    with contextlib.suppress(pymysql.MySQLError):
        rows(conn, text)
    getattr(conn, end)()
    with mysql.server.admin(database=mysql.database) as admin:
        rows(admin, "set lock_wait_timeout = 1")
        rows(admin, "alter table items add column word varchar(10)")
        rows(admin, "create table missing (id int)")
    assert rows(other, "select * from items") == []
    assert mysql.admin("select trx_state from information_schema.innodb_trx") == []


def test_an_error_under_autocommit_gives_the_backend_back(mysql):
    """proxysql #3058: a statement that fails outside of a transaction holds nothing."""
    conn, other = mysql.sessions()
    for text in ("select * from nothing", "nonsense", "insert into nothing values (1)"):
        with pytest.raises(pymysql.MySQLError):
            rows(conn, text)
        assert mysql.proxies[0].stats().database_connections_currently_borrowed == 0
        assert value(other, "select 1") == 1


@pytest.mark.parametrize("how", ["begin", "autocommit"])
def test_rollback_rolls_back(mysql, how):
    """proxysql #1223 and #2728: ROLLBACK reaches the connection that has the transaction, amid others' statements."""
    mysql.admin("create table items (id int primary key) engine=innodb")
    proxy = mysql.proxy(max_connections=3)
    conn = mysql.connect(proxy, autocommit=how == "begin")
    busy = mysql.connect(proxy)
    stop = threading.Event()

    def bustle() -> None:
        while not stop.is_set():
            value(busy, "select 1")

    thread = threading.Thread(target=bustle)
    thread.start()
    try:
        for number in range(20):
            if how == "begin":
                conn.begin()
            value(conn, "select count(*) from items")
            rows(conn, "insert into items values (%s)", (number,))
            conn.rollback()
    finally:
        stop.set()
        thread.join()
    assert mysql.admin("select * from items") == []


def test_savepoints_work(mysql):
    """proxysql #948 (MySQL bug 107875): SAVEPOINT as the first statement under autocommit = 0 keeps its backend."""
    mysql.admin("create table items (id int primary key) engine=innodb")
    proxy = mysql.proxy(max_connections=2)
    conn, other = mysql.connect(proxy, autocommit=False), mysql.connect(proxy)
    rows(conn, "savepoint first")
    rows(other, "insert into items values (7)")
    rows(conn, "insert into items values (1)")
    rows(other, "select 1")
    rows(conn, "rollback to savepoint first")
    rows(conn, "insert into items values (2)")
    conn.commit()
    assert rows(other, "select id from items order by id") == [(2,), (7,)]


def test_a_temporary_table_is_not_lost(mysql):
    """proxysql #939, #1014, #917 and #2848: a temporary table is found by its own session, and by no other."""
    mysql.admin("create procedure make() begin create temporary table made (id int); end")
    proxy = mysql.proxy(max_connections=3)
    conn, caller, other = (mysql.connect(proxy) for _ in range(3))
    rows(conn, "create temporary table scratch (id int) engine=memory")
    rows(caller, "call make()")
    for _ in range(3):
        for table, owner in (("scratch", conn), ("made", caller)):
            rows(owner, f"insert into {table} values (1)")
            for each in (conn, caller, other):
                if each is not owner:
                    with pytest.raises(pymysql.ProgrammingError):
                        rows(each, f"select * from {table}")
    assert {event.reason for event in mysql.told(SessionPinned)} <= {"TEMP_TABLE", "UNKNOWN_ROUTINE", "SETTING"}


def test_isolation_for_one_transaction_is_not_anothers(mysql):
    """proxysql #4197, MySqlConnector #1614: SET TRANSACTION is for the session's next transaction, not for another."""
    mysql.admin("create table items (id int)")
    conn, other = mysql.sessions()
    rows(conn, "set transaction isolation level serializable, read only")
    rows(other, "begin")
    rows(other, "insert into items values (1)")
    rows(other, "commit")
    rows(conn, "begin")
    with pytest.raises(pymysql.MySQLError):
        rows(conn, "insert into items values (2)")
    rows(conn, "rollback")
    rows(conn, "begin")
    rows(conn, "insert into items values (3)")
    rows(conn, "commit")
    assert rows(other, "select id from items order by id") == [(1,), (3,)]


def test_user_variables_are_not_anothers(mysql):
    """proxysql #2522 and #4896: user variables are each session's own, without errors and without pins."""
    sessions = mysql.sessions(3)
    for number, conn in enumerate(sessions):
        assert value(conn, "select @mine") is None
        rows(conn, "set @mine = %s, @word = %s", (number, f"word {number}"))
    for _ in range(3):
        for number, conn in enumerate(sessions):
            assert rows(conn, "select @mine, @word") == [(number, f"word {number}")]
    assert mysql.told(SessionPinned) == []


def test_a_named_lock_ends_with_its_client(mysql):
    """vitess #10130, pgdog #1407: GET_LOCK of a client that left is free at once."""
    conn, other = mysql.sessions()
    assert value(conn, "select get_lock('state lock', 0)") == 1
    outside = mysql.private()
    assert value(outside, "select get_lock('state lock', 0)") == 0
    conn.close()
    assert value(outside, "select get_lock('state lock', 0)") == 1
    assert value(other, "select is_used_lock('state lock') = connection_id()") == 0


def test_clean_sessions_of_mysql_cost_no_reset(mysql):
    """node-mysql2 #4148, mcp-context-forge #2669: no reset after each transaction; here never."""
    sessions: tuple[Any, ...] = mysql.sessions(2)
    for _ in range(20):
        for each in sessions:
            rows(each, "begin")
            value(each, "select 1")
            rows(each, "commit")
    assert mysql.proxies[0].stats().resets == 0
