"""What a session sets goes with it to whatever backend it has next, and nobody else meets it there."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib.engines.mysql_settings import HARMLESS, OF_THE_SCHEMA, is_staying
from rdsproxy_lib.engines.mysql_wire import Wire
from tests.features_mysql.conftest import CHANGING
from tests.mysql_servers import ROOT_PASSWORD, ROOT_USER, MySQLServer

# fmt: off
CANDIDATES = (
    "0", "1", "2", "100000", "''", "'a'", "'ON'", "'OFF'", "'+05:00'", "'ANSI'", "'latin1'", "'latin1_bin'", "'de_DE'",
    "'SERIALIZABLE'", "'MyISAM'", "'ROW'", "'STATEMENT'", "'FULL'", "'MINIMAL'", "'EVENTUAL'", "'BEFORE'", "'CHAIN'",
    "'TRADITIONAL'", "'JSON'", "'aes-256-cbc'", "'index_merge=off'", "'default_role'", "'2020-01-01'", "'/tmp'", "NULL",
)
# fmt: on
"""Values to try, until a variable takes one that is another than it has."""


def variables(rows, conn):
    """All session variables that a test may look at, with their values."""
    found = {str(name).lower(): value for name, value in rows(conn, "show session variables")}
    return {name: value for name, value in found.items() if name not in CHANGING and not is_staying(name)}


def difference(found, expected):
    return {name: (value, expected.get(name)) for name, value in found.items() if value != expected.get(name)}


def candidates(value):
    if value in ("ON", "OFF"):
        return ("OFF" if value == "ON" else "ON",)
    if re.fullmatch(r"-?\d+", value):
        return (str(int(value) + 1), str(int(value) - 1), str(int(value) * 2), str(int(value) + 1024), *CANDIDATES)
    return CANDIDATES


class World:
    """Two sessions of an administrator, who may set everything, over one backend."""

    def __init__(self, features: Any) -> None:
        parameters = {"user": ROOT_USER, "password": ROOT_PASSWORD}
        self.proxy = rdsproxy_lib.Proxy(features.url(**parameters), max_connections=1)
        self.other = self.proxy.connect(autocommit=True)

    def connect(self) -> Any:
        return self.proxy.connect(autocommit=True)


@pytest.fixture
def world(features):
    world = World(features)
    yield world
    world.proxy.close()


NOT_TRIED = {
    "collation_connection",  # with the next test
    "max_session_mem_used",  # MariaDB takes the larger half of its values for negative, and stops working
}


def settable(rows, world, name, value):
    """A session that has set the variable to another value; None where nothing was accepted, or it pins."""
    for candidate in candidates(value):
        conn = world.connect()
        try:
            rows(conn, f"set session {name} = {candidate}")
        except pymysql.err.MySQLError as error:
            conn.close()
            if error.args[0] in (1193, 1229, 1238):  # not there, or not the session's
                return None
        else:
            if conn.rdsproxy.pinned:
                assert is_staying(name) or name in OF_THE_SCHEMA or name in HARMLESS, (name, conn.rdsproxy.pins)
                conn.close()
                return None
            if variables(rows, conn)[name] != value:
                return conn
            conn.close()
    return None


def test_each_variable_goes_with_its_session(world, rows, features):
    """Every session variable of the server: another session has all as at login, and the one that set it all it had."""
    fresh = variables(rows, world.other)
    moved = []
    for name, value in fresh.items():
        if name in NOT_TRIED or (conn := settable(rows, world, name, value)) is None:
            continue
        mine = variables(rows, conn)
        assert difference(variables(rows, world.other), fresh) == {}, name
        assert difference(variables(rows, conn), mine) == {}, name
        assert not conn.rdsproxy.pinned, name
        moved.append(name)
        conn.close()
    assert len(moved) > (150 if features.is_mariadb else 110)
    assert world.proxy.stats().database_connections_closed == 0
    assert world.proxy.stats().reset_failures == 0


def test_all_variables_go_with_their_session(world, rows, features):
    """The same with all of them set in one session: no order of setting them is wrong."""
    fresh = variables(rows, world.other)
    conn = world.connect()
    for name, value in fresh.items():
        if name in {*NOT_TRIED, *OF_THE_SCHEMA, *HARMLESS, "sql_log_bin", "debug"} or is_staying(name):
            continue
        for candidate in candidates(value):
            with suppress(pymysql.err.MySQLError):
                rows(conn, f"set session {name} = {candidate}")
                break
        if conn._rdsproxy.wanted.values.get("character_set_results") not in (None, "NULL"):
            rows(conn, "set character_set_results = utf8mb4")
    mine = variables(rows, conn)
    assert len(difference(mine, fresh)) > (130 if features.is_mariadb else 90)
    for _ in range(2):
        assert difference(variables(rows, world.other), fresh) == {}
        assert difference(variables(rows, conn), mine) == {}
    assert not conn.rdsproxy.pinned


# User variables ---------------------------------------------------------------------------------------------------

USER_VARIABLES = {
    "integer": "5",
    "negative": "-5",
    "big": "18446744073709551615",
    "small unsigned": "cast(5 as unsigned)",
    "text": "'it''s \\\\ ä'",
    "empty": "''",
    "another character set": "_latin1 x'e4' collate latin1_german1_ci",
    "wide": "_utf16 x'00610062' collate utf16_bin",
    "compared by bytes": "_utf8mb4'a' collate utf8mb4_bin",
    "date": "date'2020-01-02'",
    "json": "json_object('a', 1)",
    "the longest": "repeat('x', 16384)",
    "true": "true",
    "null": "null",
    "number that is null": "cast(null as signed)",
    "text that is null": "cast(null as char)",
    "decimal that is null": "cast(null as decimal)",
}
ODD = {
    "fraction": "1.5",
    "float": "1e0",
    "bytes": "x'00ff'",
    "longer": "repeat('x', 16385)",
}


def looked_at(conn, name="@a"):
    """The value, and all that the server says of it."""
    with conn.cursor() as cursor:
        cursor.execute(
            f"select {name}, charset({name}), collation({name}), coercibility({name}), length({name}), {name}+0"
        )
        return cursor.fetchall(), cursor.description


@pytest.mark.parametrize("kind", USER_VARIABLES)
def test_user_variables_of_a_kind(same, rows, kind):
    """A value, its type, character set and collation are what they are on a private connection."""

    def story(conn):
        rows(conn, f"set @a = {USER_VARIABLES[kind]}")
        found = [looked_at(conn) for _ in range(3)]
        return found, looked_at(conn, "@never_set")

    same(story, autocommit=True)


@pytest.mark.parametrize("kind", ["integer", "text", "date", "another character set"])
def test_user_variables_set_to_null(same, rows, kind):
    """NULL keeps the type that the variable had."""

    def story(conn):
        rows(conn, f"set @a = {USER_VARIABLES[kind]}")
        rows(conn, "set @a = null")
        return [looked_at(conn) for _ in range(2)]

    same(story, autocommit=True)


@pytest.mark.parametrize("kind", ODD)
def test_user_variables_that_stay(connect, rows, kind):
    """What cannot be taken along for certain pins its session, until the variable has something else."""
    connect.may_pin("USER_VARIABLE")
    conn, other = connect(autocommit=True), connect(autocommit=True)
    rows(conn, "set @b = 7")
    rows(conn, f"set @a = {ODD[kind]}")
    assert connect.is_private or [reason.name for reason in conn.rdsproxy.pin_reasons] == ["USER_VARIABLE"]
    assert rows(conn, f"select @a = {ODD[kind]}, @b") == ((1, 7),)
    assert rows(other, "select @a, @b") == ((None, None),)
    rows(conn, "set @a = 5")
    assert connect.is_private or not conn.rdsproxy.pinned
    assert rows(conn, "select @a, @b") == ((5, 7),)
    assert rows(other, "select @a, @b") == ((None, None),)


@pytest.mark.parametrize(
    "text",
    [
        "select @a := 5",
        "select 5 into @a",
        "set @a := 5, @unused = 1",
        "update feature_items set name = (@a := 5) where id = 1",
        "do @a := 5",
    ],
)
def test_ways_to_set_a_user_variable(connect, rows, rival, text):
    """However a statement names it, it is found, and taken along."""
    conn, other = connect(autocommit=True), connect(autocommit=True)
    rows(conn, "insert into feature_items values (1, 'a')")
    rows(conn, text)
    for _ in range(3):
        rival(conn)
        assert rows(conn, "select @a") == ((5,),)
        assert rows(other, "select @a") == ((None,),)


def test_user_variables_of_transactions(connect, rows, rival):
    """MySQL takes nothing back with a transaction: what was set in one that was rolled back stays set."""
    conn, other = connect(), connect()
    rows(conn, "insert into feature_items values (1, 'a')")
    rows(conn, "set @a = 1, time_zone = '+05:00'")
    conn.rollback()
    for _ in range(3):
        rival(conn)
        assert rows(conn, "select @a, @@time_zone") == ((1, "+05:00"),)
        assert rows(other, "select @a, @@time_zone") == ((None, "SYSTEM"),)
        conn.rollback()
        other.rollback()


# Databases and roles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["text", "select_db"])
def test_another_database(connect, rows, rival, way):
    """USE and select_db() hold for the session, wherever it runs; names of routines are looked up there."""
    conn, other = connect(autocommit=True), connect(autocommit=True)
    if way == "text":
        rows(conn, "use test_features_other")
    else:
        conn.select_db("test_features_other")
    for _ in range(3):
        rival(conn)
        assert rows(conn, "select database()") == (("test_features_other",),)
        assert rows(other, "select database()") == (("test_features",),)
    conn.select_db("test_features")
    assert rows(conn, "select count(*) from feature_items") == ((0,),)


def test_a_session_without_a_database(features, clean, rows):
    """What a session of a login without a database uses is no database of another one."""
    with rdsproxy_lib.Proxy(features.url(database=None), max_connections=1) as proxy:
        one, two = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        rows(one, "use test_features")
        for _ in range(2):
            assert rows(one, "select database()") == (("test_features",),)
            assert rows(two, "select database()") == ((None,),)
        assert not one.rdsproxy.pinned


def test_a_database_that_is_dropped(features, clean, root, rows):
    """A session whose database is dropped has none: it stays where that is so."""
    root("create database test_features_gone")
    with rdsproxy_lib.Proxy(features.url(), max_connections=2) as proxy:
        conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        rows(conn, "use test_features_gone")
        rows(conn, "drop database test_features_gone")
        assert rows(conn, "select database()") == ((None,),)
        assert [reason.name for reason in conn.rdsproxy.pin_reasons] == ["SETTING"]
        assert rows(other, "select database()") == (("test_features",),)


@pytest.fixture
def roles(root, features):
    """Two roles that the application's account may take."""
    for name in ("test_helper", "test_other"):
        root(f"drop role if exists {name}")
        root(f"create role {name}")
        root(f"grant select on {features.parameters()['database']}.* to {name}")
        root(f"grant {name} to {features.parameters()['user']}")
    yield "test_helper", "test_other"
    for name in ("test_helper", "test_other"):
        root(f"drop role {name}")


def test_roles(connect, rows, rival, roles):
    """SET ROLE holds for the session, wherever it runs, and for nobody else; also under ANSI_QUOTES."""
    conn, other = connect(autocommit=True), connect(autocommit=True)
    nobody = rows(other, "select current_role()")
    for role in (*roles, "none"):
        for mode in ("", "ANSI_QUOTES"):
            rows(conn, f"set sql_mode = '{mode}'")
            rows(conn, f"set role {role}")
            for _ in range(2):
                rival(conn)
                ((found,),) = rows(conn, "select current_role()")
                assert role in (found or "none").lower()
                assert rows(other, "select current_role()") == nobody


def test_a_role_of_a_pinned_session(shared, rows, roles):
    """A reset brings back the role too, which the server keeps over it."""
    shared.may_pin("NAMED_LOCK")
    conn, other = shared(autocommit=True), shared(autocommit=True)
    nobody = rows(other, "select current_role()")
    rows(conn, "select get_lock('role', 1)")
    rows(conn, f"set role {roles[0]}")
    rows(conn, "select release_lock('role')")
    assert not conn.rdsproxy.pinned
    assert roles[0] in rows(conn, "select current_role()")[0][0]
    for _ in range(3):
        assert rows(shared(autocommit=True), "select current_role()") == nobody


# How texts are read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", ""])
@pytest.mark.parametrize("way", ["set sql_mode", "set @@sql_mode", "set session sql_mode"])
def test_a_mode_goes_with_its_session(connect, rows, rival, mode, way):
    """Texts are escaped and read as the session's own mode has it, in transactions and between them, on any backend."""
    conn, other = connect(), connect()
    value = "it's a \\ \"quoted\" \\' text; drop"
    for is_inside in (False, True):
        if is_inside:
            conn.begin()
        rows(conn, f"{way} = '{mode}'")
        for _ in range(3):
            assert rows(conn, "select %s", (value,)) == ((value,),)
            assert rows(conn, 'select "x" from (select 1 as x) t') == ((1 if "ANSI" in mode else "x",),)
            conn.commit()
            rival(conn)
            assert rows(other, "select %s", (value,)) == ((value,),)
            other.rollback()


@pytest.mark.parametrize("charset", ["latin1", "gbk", "sjis", "cp1251", "utf8mb3"])
def test_character_sets_go_with_their_session(connect, rows, rival, charset):
    """set_character_set() holds for the session: for what is sent, what is compared and what comes back."""
    conn, other = connect(autocommit=True), connect(autocommit=True)
    text = {"latin1": "äß", "gbk": "漢字", "sjis": "表ソ", "cp1251": "Привет", "utf8mb3": "äß漢"}[charset]
    conn.set_character_set(charset)
    for _ in range(3):
        rival(conn)
        assert rows(conn, "select %s, length(%s)", (text, text)) == ((text, len(text.encode(conn.encoding))),)
        assert rows(conn, "select @@character_set_client, @@character_set_results")[0][0] == charset
        assert rows(other, "select %s, @@character_set_client", (text,)) == ((text, "utf8mb4"),)
    conn.set_character_set("utf8mb4")
    assert rows(conn, "select %s, @@character_set_client", (text,)) == ((text, "utf8mb4"),)


@pytest.mark.parametrize("charset", ["utf16", "utf32", "null", "binary"])
def test_results_in_any_character_set(features, clean, rows, charset):
    """What is asked of our own is understood whatever the session wants its results in."""
    proxy = rdsproxy_lib.Proxy(features.url(), max_connections=1)
    conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    rows(conn, f"set character_set_results = {charset}")
    rows(conn, "set long_query_time = 0.25, wait_timeout = 99, @a = 5, time_zone = '+05:00'")
    for _ in range(2):
        assert not conn.rdsproxy.pinned
        assert rows(other, "select @a, @@wait_timeout > 99") == ((None, 1),)
        rows(conn, "set character_set_results = utf8mb4")
        found = rows(conn, "select @@long_query_time, @@wait_timeout, @a, @@time_zone")
        assert found == ((0.25, 99, 5, "+05:00"),)
        rows(conn, f"set character_set_results = {charset}")
    proxy.close()


# What fails, and what costs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "set nothing_of_this_name = 1",
        "set max_connections = 5",
        "set time_zone = 'nowhere'",
        "set wait_timeout = 5, nothing_of_this_name = 1",
        "set sql_log_bin = 0",
        "set max_error_count = 1, sql_log_bin = 0",
        "use nothing_of_this_name",
        "set role nobody_of_this_name",
        "set names nothing",
        "set @a = nothing_of_this_name",
        "select feature_items.id, nothing into @a from feature_items",
    ],
)
def test_a_setting_that_is_refused(connect, rows, rival, text):
    """The statement fails; the session goes on with what it had, is not pinned, and is as clean as it was."""
    conn, other = connect(autocommit=True), connect(autocommit=True)
    for before in ("do 0", "set @a = 3, wait_timeout = 77"):
        rows(conn, before)
        mine = rows(conn, "select @a, @@wait_timeout")
        with pytest.raises(pymysql.err.MySQLError):
            rows(conn, text)
        for _ in range(2):
            rival(conn)
            assert rows(conn, "select @a, @@wait_timeout") == mine
            assert rows(other, "select @a, @@wait_timeout") == ((None, 28800),)
        if before == "do 0" and not connect.is_private:
            assert conn._rdsproxy.wanted.values == {}


def test_warnings_of_a_setting(same, rows):
    """What the server has to say to a SET is told when it is asked for, though it was asked for more since."""

    def story(conn):
        rows(conn, "set sort_buffer_size = 1")
        first = conn.show_warnings()
        rows(conn, "set max_sort_length = 1, wait_timeout = 3")
        return first, conn.show_warnings(), rows(conn, "select @@max_sort_length, @@wait_timeout")

    assert same(story)[0][0] != ()


def test_a_setting_and_a_question_about_it(shared, rows):
    """ROW_COUNT() after a SET would be that of our question: it is refused, and never wrong."""
    conn = shared(autocommit=True)
    rows(conn, "set @a = 1")
    with pytest.raises(rdsproxy_lib.DiagnosticsLost):
        rows(conn, "select row_count()")
    assert rows(conn, "select @a") == ((1,),)


def test_settings_that_are_the_same_are_one(shared, rows):
    """Sessions that came to the same settings in different ways change nothing on each other's backends."""
    proxy = shared.make_proxy(max_connections=1)
    one, two = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    rows(one, "set time_zone = '+05:00', @a = 1")
    rows(two, "set @A := 1")
    rows(two, "set session time_zone = '+05:00'")
    relabels = proxy.stats().relabels
    assert one._rdsproxy.wanted is two._rdsproxy.wanted
    if shared.kind == "multiplexed":
        for conn in (one, two) * 3:
            assert rows(conn, "select @a, @@time_zone") == ((1, "+05:00"),)
        assert proxy.stats().relabels == relabels


@pytest.fixture
def tls_server(mysql_server):
    """A server of this kind that speaks TLS."""
    if mysql_server.tls:
        yield mysql_server
    else:
        with MySQLServer(mysql_server.kind, tls=True) as server:
            yield server


@pytest.mark.slow
def test_several_orders_go_out_at_once(tls_server, rows):
    """Settings, role and database change in one round trip, in the clear and under TLS."""
    with tls_server.admin() as admin:
        for text in ("create database test_orders", "create role test_orders", "grant test_orders to app"):
            rows(admin, text)
    try:
        for is_encrypted in (False, True):
            url = tls_server.url(**({} if is_encrypted else {"ssl_disabled": True}))
            tls = rdsproxy_lib.TLS("verify-identity", ca_file=str(tls_server.ca_file)) if is_encrypted else None
            with rdsproxy_lib.Proxy(url, tls=tls, max_connections=1) as proxy:
                conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
                rows(conn, "set time_zone = '+05:00', @a = 5")
                rows(conn, "set role test_orders")
                rows(conn, "use test_orders")
                for _ in range(3):
                    assert rows(conn, "select @@time_zone, @a, database()") == (("+05:00", 5, "test_orders"),)
                    assert rows(other, "select @@time_zone, @a, database()") == (("SYSTEM", None, "app"),)
                assert bool(rows(other, "show session status like 'ssl_cipher'")[0][1]) == is_encrypted
                assert proxy.engine._pipelines
                assert proxy.stats().database_connections_setup_succeeded == 1
    finally:
        with tls_server.admin() as admin:
            rows(admin, "drop database test_orders")
            rows(admin, "drop role test_orders")


def test_a_server_that_takes_one_order_at_a_time(features, clean, rows, monkeypatch):
    """Where only the first of several commands is answered, that is found out once, and costs no session."""
    real = Wire._rdsproxy_run_all

    def first_only(wire, commands, *, at_once):
        if not at_once:
            return real(wire, commands, at_once=False)
        real(wire, commands[:1], at_once=False)
        try:
            raise TimeoutError("timed out")
        except OSError as error:
            wire._rdsproxy_lose(f" ({error})")

    monkeypatch.setattr(Wire, "_rdsproxy_run_all", first_only)
    with rdsproxy_lib.Proxy(features.url(), max_connections=1) as proxy:
        conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        rows(conn, "use test_features_other")
        rows(conn, "set time_zone = '+05:00', @a = 5")
        for _ in range(3):
            assert rows(other, "select @@time_zone, @a, database()") == (("SYSTEM", None, "test_features"),)
            assert rows(conn, "select @@time_zone, @a, database()") == (("+05:00", 5, "test_features_other"),)
        assert not proxy.engine._pipelines
        assert proxy.stats().database_connections_setup_succeeded == 2
