"""Nothing of one session is visible in another, by effect."""

from __future__ import annotations

import gc
import threading

import pymysql
import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor

LEFTOVERS = {
    "user variable": ("set @leaked = 'x'", "select @leaked", ((None,),)),
    "user variable in a select": ("select @leaked := 5", "select @leaked", ((None,),)),
    "user variable by into": ("select 5 into @leaked", "select @leaked", ((None,),)),
    "sql_mode": ("set sql_mode = 'ANSI'", "select @@sql_mode = @@global.sql_mode", ((1,),)),
    "time_zone": ("set time_zone = '+05:00'", "select @@time_zone", (("SYSTEM",),)),
    "autocommit": ("set autocommit = 1", "select @@autocommit", ((0,),)),
    "isolation": (
        "set session transaction isolation level serializable",
        "show variables where variable_name regexp '^(tx|transaction)_isolation$' and value <> 'REPEATABLE-READ'",
        (),
    ),
    "read only": ("set session transaction read only", "insert into feature_items values (1, 'a')", ()),
    "next read only": ("set transaction read only", "insert into feature_items values (1, 'a')", ()),
    "database": ("use test_features_other", "select database()", (("test_features",),)),
    "temporary table": (
        "create temporary table leaked (a int)",
        "select count(*) from information_schema.tables where table_name = 'leaked'",
        ((0,),),
    ),
    "shadowing table": ("create temporary table feature_items (leaked int)", "select id from feature_items", ()),
    "named lock": ("select get_lock('leaked', 1)", "select is_free_lock('leaked')", ((1,),)),
    "prepared": ("prepare leaked from 'select 1'", "execute leaked", pymysql.err.OperationalError),
    "table lock": ("lock tables feature_items write", "select count(*) from feature_numbered where false", ((0,),)),
    "read lock": ("flush tables feature_items with read lock", "insert into feature_items values (1, 'a')", ()),
    "handler": ("handler feature_items open", "handler feature_items read first", pymysql.err.MySQLError),
    "names": ("set names latin1", "select hex('ä')", (("C3A4",),)),
    "results": ("set character_set_results = 'latin1'", "select @@character_set_results", (("utf8mb4",),)),
    "select limit": ("set sql_select_limit = 1", "select 1 union select 2", ((1,), (2,))),
    "foreign keys": (
        "set foreign_key_checks = 0, unique_checks = 0",
        "select @@foreign_key_checks, @@unique_checks",
        ((1, 1),),
    ),
    "group_concat": (
        "set group_concat_max_len = 4",
        "select group_concat(a) from (select 11 a union select 22) t",
        (("11,22",),),
    ),
    "timestamp": ("set timestamp = 1", "select now() > '2001-01-01'", ((1,),)),
    "insert id": ("set insert_id = 999", "insert into feature_numbered (name) values ('a')", ()),
    "last insert id": ("select last_insert_id(555)", "select 1", ((1,),)),
    "lc_time_names": ("set lc_time_names = 'de_DE'", "select monthname('2024-01-01')", (("January",),)),
    "safe updates": ("set sql_safe_updates = 1", "delete from feature_items", ()),
    "lock wait": (
        "set innodb_lock_wait_timeout = 1, lock_wait_timeout = 1",
        "select @@lock_wait_timeout > 1, @@innodb_lock_wait_timeout > 1",
        ((1, 1),),
    ),
    "open transaction": ("insert into feature_items values (1, 'leaked')", "select * from feature_items", ()),
    "savepoint": ("savepoint leaked", "rollback to leaked", pymysql.err.OperationalError),
    "xa": ("xa start 'leaked'", "insert into feature_items values (1, 'a')", ()),
    "big tables": ("set max_heap_table_size = 16384, tmp_table_size = 1024", "select @@tmp_table_size > 1024", ((1,),)),
    "div precision": ("set div_precision_increment = 0", "select cast(1 / 3 as char)", (("0.3333",),)),
    "week": ("set default_week_format = 3", "select week('2024-01-01')", ((0,),)),
    "chain": ("set completion_type = 1", "commit", ()),
    "sort buffer": ("set sort_buffer_size = 40000", "select @@sort_buffer_size > 40000", ((1,),)),
    "auto_increment": (
        "set auto_increment_increment = 10, auto_increment_offset = 5",
        "select @@auto_increment_increment, @@auto_increment_offset",
        ((1, 1),),
    ),
    "default engine": ("set default_storage_engine = 'MyISAM'", "select @@default_storage_engine", (("InnoDB",),)),
    "collation": ("set collation_connection = 'utf8mb4_bin'", "select 'a' = 'A'", ((1,),)),
    "storage": (
        "set sql_big_selects = 0, max_join_size = 1",
        "select count(*) from feature_items a, feature_items b",
        ((0,),),
    ),
    "quotes": ("set sql_quote_show_create = 0", "select @@sql_quote_show_create", ((1,),)),
    "big strings": ("set max_sort_length = 8", "select @@max_sort_length > 8", ((1,),)),
    "optimizer": (
        "set optimizer_switch = 'index_merge=off'",
        "select @@optimizer_switch = @@global.optimizer_switch",
        ((1,),),
    ),
}


def check(rows, conn, question, answer):
    if isinstance(answer, tuple):
        assert tuple(rows(conn, question)) == answer
    else:
        with pytest.raises(answer):
            rows(conn, question)


@pytest.mark.parametrize("name", LEFTOVERS)
def test_what_a_session_leaves(shared, rows, name):
    """What one session has set up is not met by others: after close(), dropped, after connect(), while it lives."""
    shared.may_pin(
        "USER_VARIABLE", "SETTING", "TEMP_TABLE", "NAMED_LOCK", "PREPARED_STATEMENT", "TABLE_LOCK", "HOLD_CURSOR"
    )
    act, question, answer = LEFTOVERS[name]
    for end in ("closed", "dropped", "reconnected", "alive"):
        if end == "alive" and name in ("named lock", "table lock", "read lock", "xa", "shadowing table"):
            return  # others have to notice
        conn = shared()
        rows(conn, act)
        if end == "closed":
            conn.close()
        elif end == "reconnected":
            conn.connect()
            check(rows, conn, question, answer)
            conn.rollback()
        elif end == "dropped":
            shared.opened.remove(conn)
            del conn
        for _ in range(3):
            other = shared()
            check(rows, other, question, answer)
            other.rollback()
            other.close()


def test_a_session_with_many_settings(shared, rows):
    """A session that set, locked, prepared and created much leaves nothing when it closes."""
    shared.may_pin(
        "USER_VARIABLE", "SETTING", "TEMP_TABLE", "NAMED_LOCK", "PREPARED_STATEMENT", "TABLE_LOCK", "HOLD_CURSOR"
    )
    for _ in range(2):
        conn = shared()
        for name, (act, _, _) in LEFTOVERS.items():
            if name not in (
                "xa",
                "table lock",
                "read lock",
                "handler",
                "read only",
                "next read only",
                "open transaction",
                "insert id",
                "isolation",
                "shadowing table",
                "database",
            ):
                rows(conn, act)
        conn.close()
        other = shared()
        for name, (_, question, answer) in LEFTOVERS.items():
            if name not in ("read only", "next read only", "read lock", "xa", "insert id"):
                check(rows, other, question, answer)
        other.rollback()


PINNING = {
    "chain": "SETTING",
    "temporary table": "TEMP_TABLE",
    "shadowing table": "TEMP_TABLE",
    "named lock": "NAMED_LOCK",
    "prepared": "PREPARED_STATEMENT",
    "table lock": "TABLE_LOCK",
    "read lock": "TABLE_LOCK",
    "handler": "HOLD_CURSOR",
    "timestamp": "SETTING",
    "insert id": "SETTING",
}


@pytest.mark.parametrize("name", LEFTOVERS)
def test_what_pins_is_what_cannot_be_taken_along(shared, rows, name):
    """Locks, tables, cursors and what means something on one backend alone pin; all other settings do not."""
    shared.may_pin(*PINNING.values())
    conn = shared()
    rows(conn, LEFTOVERS[name][0])
    assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ([PINNING[name]] if name in PINNING else [])
    conn.close()


def test_temporary_tables_of_two_sessions(connect, rows):
    """Two sessions have temporary tables of the same name, each its own."""
    connect.may_pin("TEMP_TABLE")
    one, two = connect(), connect()
    rows(one, "create temporary table mine (a int)")
    rows(two, "create temporary table mine (b varchar(5))")
    rows(one, "insert into mine values (1)")
    rows(two, "insert into mine values ('x')")
    one.commit()
    two.commit()
    assert rows(one, "select * from mine") == ((1,),)
    assert rows(two, "select * from mine") == (("x",),)


def test_user_variables_of_two_sessions(connect, rows):
    """Two sessions have user variables of the same name, each its own."""
    connect.may_pin("USER_VARIABLE")
    one, two = connect(), connect()
    rows(one, "set @a = 1")
    rows(two, "set @a = 2")
    one.commit()
    two.commit()
    assert (rows(one, "select @a"), rows(two, "select @a")) == (((1,),), ((2,),))


def test_a_failed_set_leaves_nothing(shared, rows):
    """A SET of several variables whose second fails does not leave the first to others."""
    shared.may_pin("SETTING")
    conn = shared(autocommit=True)
    with pytest.raises(pymysql.err.MySQLError):
        rows(conn, "set time_zone = '+05:00', feature_missing = 1")
    with pytest.raises(pymysql.err.MySQLError):
        rows(conn, "set time_zone = '+05:00', sql_mode = 'NONSENSE'")
    mine = rows(conn, "select @@time_zone")
    for _ in range(3):
        assert rows(shared(autocommit=True), "select @@time_zone") == (("SYSTEM",),)
    assert rows(conn, "select @@time_zone") == mine


def test_a_failed_multi_statement_leaves_nothing(shared, rows):
    """A text of several statements that fails after a SET keeps its setting, for itself alone."""
    shared.may_pin("SETTING", "USER_VARIABLE")
    conn = shared(autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS)
    cursor = conn.cursor()
    cursor.execute("set time_zone = '+05:00'; set @leaked = 1; select * from feature_missing")
    cursor.nextset()
    with pytest.raises(pymysql.err.MySQLError):
        cursor.nextset()
    assert rows(conn, "select @@time_zone, @leaked") == (("+05:00", 1),)
    for _ in range(3):
        other = shared(autocommit=True, client_flag=CLIENT.MULTI_STATEMENTS)
        assert rows(other, "select @@time_zone, @leaked") == (("SYSTEM", None),)


def test_a_failed_create_as_leaves_nothing(shared, rows):
    """CREATE TEMPORARY TABLE … SELECT that fails in the middle leaves no table to others."""
    shared.may_pin("TEMP_TABLE")
    conn = shared(autocommit=True)
    with pytest.raises(pymysql.err.MySQLError):
        rows(conn, "create temporary table leaked (a int primary key) select 1 as a union all select 1")
    for other in (conn, shared(autocommit=True), shared(autocommit=True)):
        with pytest.raises(pymysql.err.ProgrammingError):
            rows(other, "select * from leaked")


def test_a_lock_of_a_failed_statement(shared, rows):
    """A lock that a failing statement took is kept by its session, as on a private connection, and ends with it."""
    shared.may_pin("NAMED_LOCK")
    conn = shared(autocommit=True)
    with pytest.raises(pymysql.err.MySQLError):
        rows(
            conn, "select get_lock('leaked', 1) union select 1 from feature_items where id = (select 1 union select 2)"
        )
    conn.close()
    for _ in range(3):
        assert rows(shared(autocommit=True), "select is_free_lock('leaked')") == ((1,),)


def test_executable_comments(shared, rows):
    """What stands in an executable comment is seen."""
    shared.may_pin("USER_VARIABLE", "SETTING", "UNKNOWN_STATEMENT")
    conn = shared(autocommit=True)
    rows(conn, "/*!50000 set @leaked = 5 */")
    rows(conn, "select 1 /*! , @leaked2 := 6 */")
    rows(conn, "set /*!40101 time_zone */ = '+05:00'")
    conn.close()
    for _ in range(3):
        assert rows(shared(autocommit=True), "select @leaked, @leaked2, @@time_zone") == ((None, None, "SYSTEM"),)


@pytest.mark.parametrize("depth", ["function", "procedure", "trigger"])
def test_what_routines_leave(shared, rows, root, depth):
    """User variables and settings that stored code sets stay with its session where a text shows the call."""
    shared.may_pin("UNKNOWN_ROUTINE", "USER_VARIABLE", "SETTING")
    root("drop function if exists feature_leaks")
    root(
        "create function feature_leaks() returns int deterministic begin set @leaked = 1; set time_zone = '+05:00';"
        " return 1; end"
    )
    root("drop procedure if exists feature_leaks_too")
    root("create procedure feature_leaks_too() begin set @leaked = 1; set time_zone = '+05:00'; end")
    root("drop trigger if exists feature_trigger")
    root("create trigger feature_trigger before insert on feature_numbered for each row set @leaked = 1")
    try:
        conn = shared(autocommit=True)
        with conn.cursor() as cursor:
            if depth == "function":
                cursor.execute("select feature_leaks()")
            elif depth == "procedure":
                cursor.callproc("feature_leaks_too")
            else:
                cursor.execute("insert into feature_numbered (name) values ('a')")
                if not conn.rdsproxy.pinned:
                    pytest.xfail("no text shows what a trigger leaves: a declared difference")
        conn.close()
        for _ in range(3):
            assert rows(shared(autocommit=True), "select @leaked, @@time_zone") == ((None, "SYSTEM"),)
    finally:
        root("drop trigger feature_trigger")
        if depth == "trigger":
            for proxy in shared._proxies:
                proxy.close()


def test_unread_rows_meet_nobody(shared, rows):
    """A stream that its session left half-way, closed or dropped gives no row to the next."""
    for how in range(3):
        conn = shared(autocommit=True)
        cursor = conn.cursor(SSCursor)
        cursor.execute("select 'secret' union select 'secret2' union select 'secret3'")
        cursor.fetchone()
        if how == 0:
            conn.close()
            cursor._result.unbuffered_active = False
        elif how == 1:
            shared.opened.remove(conn)
            del conn
            del cursor
            gc.collect()
        else:
            cursor.close()
        for _ in range(3):
            other = shared(autocommit=True)
            assert rows(other, "select 'own'") == (("own",),)


def test_interrupted_amid_rows(shared, rows):
    """A converter that raises KeyboardInterrupt amid rows leaves nothing half-read to anybody."""

    def interrupt(value):
        raise KeyboardInterrupt

    conv = {**pymysql.converters.conversions, 3: interrupt, 8: interrupt}
    for _ in range(3):
        conn = shared(autocommit=True, conv=conv)
        with pytest.raises(KeyboardInterrupt):
            rows(conn, "select 'secret', 1 union all select 'secret', 2")
        assert rows(shared(autocommit=True), "select 'own'") == (("own",),)
        assert rows(conn, "select 'mine'") == (("mine",),)
        conn.close()


def test_init_connect_after_another_session(features, clean, root, rows):
    """What init_connect sets for each login is there for the next session on a backend where another set its own."""
    import rdsproxy_lib

    root("set global init_connect = 'set @greeting = 7, time_zone = ''+02:00'''")
    try:
        with rdsproxy_lib.Proxy(features.url(), max_connections=1) as proxy:
            for _ in range(3):
                conn = proxy.connect(autocommit=True)
                assert rows(conn, "select @greeting, @@time_zone") == ((7, "+02:00"),)
                rows(conn, "set @greeting = 8, time_zone = '+03:00'")
                assert rows(conn, "select @greeting, @@time_zone") == ((8, "+03:00"),)
                assert not conn.rdsproxy.pinned
                conn.close()
            assert proxy.stats().database_connections == 1
    finally:
        root("set global init_connect = ''")


def test_init_query_after_a_reset(features, clean, rows):
    """What the option init_query sets is there again after a pinned session closed."""
    import rdsproxy_lib

    with rdsproxy_lib.Proxy(
        features.url(), max_connections=1, init_query="set @mine = 7; set time_zone = '+02:00'"
    ) as proxy:
        for _ in range(3):
            conn = proxy.connect(autocommit=True)
            assert not conn.rdsproxy.pinned
            assert rows(conn, "select @mine, @@time_zone") == ((7, "+02:00"),)
            rows(conn, "set @mine = 8, time_zone = '+03:00'")
            conn.close()


def test_unpin(shared, rows):
    """unpin() after a manual pin makes the session multiplexed again, with nothing left on the backend."""
    conn = shared(autocommit=True)
    conn.rdsproxy.pin("for a test")
    assert conn.rdsproxy.pinned
    ((number,),) = rows(conn, "select connection_id()")
    for _ in range(3):
        assert rows(shared(autocommit=True), "select connection_id()") != ((number,),)
        assert rows(conn, "select connection_id()") == ((number,),)
    conn.rdsproxy.unpin()
    assert not conn.rdsproxy.pinned
    assert shared.proxy.stats().database_connections_currently_borrowed == 0


def test_roles(shared, rows, root, features):
    """SET ROLE of one session does not reach another."""
    shared.may_pin("SETTING", "UNRESETTABLE")
    root("drop role if exists feature_role")
    root("create role feature_role")
    root("grant feature_role to app@'%'")
    try:
        conn = shared(autocommit=True)
        rows(conn, "set role feature_role")
        conn.close()
        for _ in range(3):
            assert "feature_role" not in str(rows(shared(autocommit=True), "select current_role()"))
    finally:
        root("drop role feature_role")


def test_passwords_and_users_do_not_mix(features, clean, root, rows):
    """Sessions of two users over one proxy are each its own user on each statement."""
    import rdsproxy_lib

    root("drop user if exists feature_user@'%'")
    root("create user feature_user@'%' identified by 'secret'")
    root("grant all on test_features.* to feature_user@'%'")
    if not features.is_mariadb:
        with features.server.admin(user="feature_user", password="secret"):
            pass
    try:
        with rdsproxy_lib.Proxy(features.url(), max_connections=2) as proxy:
            one, two = proxy.connect(autocommit=True), proxy.connect("feature_user", password="secret", autocommit=True)
            for _ in range(4):
                assert rows(one, "select current_user()") == (("app@%",),)
                assert rows(two, "select current_user()") == (("feature_user@%",),)
    finally:
        root("drop user feature_user@'%'")


def test_many_threads_with_secrets(shared, rows):
    """Ten threads write, read and roll back; each sees its own rows alone."""
    failures = []

    def work(number):
        try:
            conn = shared.proxy.connect()
            for turn in range(6):
                rows(conn, "insert into feature_items values (%s, %s)", (number * 100 + turn, f"secret{number}"))
                found = rows(conn, "select name from feature_items")
                assert found == ((f"secret{number}",),)
                conn.rollback()
            conn.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
