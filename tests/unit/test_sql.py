"""What pins, what does not, and what else a statement's text tells. Each row is one case."""

from __future__ import annotations

import json

import pytest

from rdsproxy_lib.sql import CACHED_LENGTH, Dialect, Reason, classify

# What the text pins for, as "REASON what in the text".
FREE = ""
ROWS: list[tuple[str, str, str]] = [
    # nothing at all
    ("", "", FREE),
    (" ; ;\n-- SET x = 1\n/* SET /* y */ = 2 */", "", FREE),
    # queries
    ("select 1", "SELECT", FREE),
    ("(SELECT 1) UNION (SELECT 2) ORDER BY 1", "SELECT", FREE),
    ("VALUES (1, 'a'), (2, lower('B'))", "VALUES", FREE),
    ("TABLE items", "TABLE", FREE),
    ("SHOW search_path", "SHOW", FREE),
    ("SELECT id FROM items WHERE id = %s AND name = %(name)s AND flag = %b AND n %% 2 = $1", "SELECT", FREE),
    ("WITH x (a, b) AS (SELECT 1, 2), y (c) AS NOT MATERIALIZED (SELECT 3) SELECT * FROM x, y", "SELECT", FREE),
    ("WITH x AS (SELECT 1) INSERT INTO t (a) SELECT * FROM x", "INSERT", FREE),
    ("WITH x AS (SELECT 1) (SELECT * FROM x)", "SELECT", FREE),
    ("WITH x AS (SELECT 1) DELETE FROM t USING x", "DELETE", FREE),
    ("SELECT x::numeric(10, 2), cast(y AS public.geometry(Point, 4326)), '1'::bit varying(3) FROM t", "SELECT", FREE),
    ("SELECT interval '1' second(3), time(3) '10:00', now() AT TIME ZONE (SELECT 'UTC')", "SELECT", FREE),
    ("SELECT a FROM t WHERE name ILIKE ('x') AND b NOT ILIKE ('y') AND c LIKE ('z')", "SELECT", FREE),
    ("SELECT * FROM data JOIN (SELECT 1) q (a) ON true", "SELECT", FREE),
    ("SELECT * FROM t GROUP BY DISTINCT CUBE (a), lower(b), ROLLUP (c)", "SELECT", FREE),
    ("INSERT INTO public.items (id) VALUES (%s)", "INSERT", FREE),
    ("INSERT INTO temp (id) SELECT 1", "INSERT", FREE),
    ("INSERT INTO t SELECT 1 FROM a JOIN b ON a.x = b.x ON CONFLICT (lower(x)) DO NOTHING", "INSERT", FREE),
    ("INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE b DO NOTHING", "INSERT", FREE),
    ("COPY t FROM STDIN (FORMAT binary)", "COPY", FREE),
    ("COPY t TO STDOUT (FORMAT csv)", "COPY", FREE),
    ("EXPLAIN SELECT 1", "EXPLAIN", FREE),
    # transactions and what ends with them
    ("BEGIN", "BEGIN", FREE),
    ("start transaction read only", "START TRANSACTION", FREE),
    ("COMMIT AND CHAIN", "COMMIT", FREE),
    ("END", "END", FREE),
    ("ABORT", "ABORT", FREE),
    ("ROLLBACK WORK", "ROLLBACK", FREE),
    ("ROLLBACK TRANSACTION TO SAVEPOINT a", "ROLLBACK TO", FREE),
    ("ROLLBACK TO a", "ROLLBACK TO", FREE),
    ("SAVEPOINT a", "SAVEPOINT", FREE),
    ("RELEASE SAVEPOINT a", "RELEASE", FREE),
    ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION", FREE),
    ("COMMIT PREPARED 'x'", "COMMIT PREPARED", FREE),
    ("ROLLBACK PREPARED 'x'", "ROLLBACK PREPARED", FREE),
    ("LOCK TABLE items IN EXCLUSIVE MODE", "LOCK TABLE", FREE),
    ("SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1, 2)", "SELECT", FREE),
    ("SELECT pg_advisory_unlock_all(), pg_advisory_unlock(1)", "SELECT", FREE),
    ("DECLARE cursor CURSOR FOR SELECT 1", "DECLARE", FREE),
    ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", "DECLARE", FREE),
    ("FETCH ALL FROM c", "FETCH", FREE),
    ("MOVE 3 IN c", "MOVE", FREE),
    ("CLOSE c", "CLOSE", FREE),
    ("NOTIFY a", "NOTIFY", FREE),
    ("UNLISTEN *", "UNLISTEN", FREE),
    ("EXECUTE p (1)", "EXECUTE", FREE),
    ("EXPLAIN ANALYZE EXECUTE p (1)", "EXPLAIN", FREE),
    ("DEALLOCATE p", "DEALLOCATE", FREE),
    # settings: those that are taken along stand in SETTINGS
    ("SET x = 1", "SET", FREE),
    ("set\n/* LOCAL */ search_path to a", "SET", FREE),
    ("RESET ALL", "RESET", FREE),
    ("SET LOCAL x = 1", "SET LOCAL", FREE),
    ("SET LOCAL ROLE app", "SET LOCAL", FREE),
    ('SET LOCAL "a.b" = 1', "SET LOCAL", FREE),
    ("SET LOCAL SESSION AUTHORIZATION app", "SET LOCAL", FREE),
    ("SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET LOCAL", FREE),
    ("SET LOCAL TRANSACTION READ ONLY", "SET LOCAL", FREE),
    ("SET LOCAL LOCAL = 1", "SET LOCAL", FREE),
    ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION", FREE),
    ("SET SESSION TRANSACTION SNAPSHOT 'a'", "SET TRANSACTION", FREE),
    ("SET CONSTRAINTS ALL DEFERRED", "SET CONSTRAINTS", FREE),
    ("DISCARD ALL", "DISCARD ALL", FREE),
    ("DISCARD TEMP", "DISCARD TEMP", FREE),
    ("DISCARD TEMPORARY", "DISCARD TEMP", FREE),
    ("DISCARD PLANS", "DISCARD PLANS", FREE),
    ("DISCARD SEQUENCES", "DISCARD SEQUENCES", FREE),
    ("DISCARD NOTHING", "DISCARD", "UNKNOWN_STATEMENT DISCARD NOTHING"),
    ("DISCARD 'secret'", "DISCARD", "UNKNOWN_STATEMENT DISCARD ?"),
    ("SELECT set_config('a', 'b', true)", "SELECT", FREE),
    ("SELECT pg_catalog . \"set_config\" ('a', 'b', false)", "SELECT", FREE),
    # settings that are not
    (
        "SET standard_conforming_strings = off",
        "SET",
        "SETTING SET standard_conforming_strings, UNRESETTABLE SET standard_conforming_strings",
    ),
    ("SET standard_conforming_strings = on", "SET", FREE),
    ("SET LOCAL standard_conforming_strings = on", "SET LOCAL", FREE),
    ("SET standard_conforming_strings TO 'True'", "SET", FREE),
    (
        "SET SESSION standard_conforming_strings = on, off",
        "SET",
        "SETTING SET standard_conforming_strings, UNRESETTABLE SET standard_conforming_strings",
    ),
    (
        "SET standard_conforming_strings = 1",
        "SET",
        "SETTING SET standard_conforming_strings, UNRESETTABLE SET standard_conforming_strings",
    ),
    (
        "SET standard_conforming_strings = %s",
        "SET",
        "SETTING SET standard_conforming_strings, UNRESETTABLE SET standard_conforming_strings",
    ),
    (
        "SET standard_conforming_strings TO DEFAULT",
        "SET",
        "SETTING SET standard_conforming_strings, UNRESETTABLE SET standard_conforming_strings",
    ),
    ("DO $$ BEGIN SET standard_conforming_strings = on; END $$", "DO", "UNKNOWN_ROUTINE DO"),
    (
        "SET LOCAL Standard_Conforming_Strings = off",
        "SET LOCAL",
        "SETTING SET LOCAL standard_conforming_strings, UNRESETTABLE SET LOCAL standard_conforming_strings",
    ),
    (
        "RESET standard_conforming_strings",
        "RESET",
        "SETTING RESET standard_conforming_strings, UNRESETTABLE RESET standard_conforming_strings",
    ),
    (
        "SELECT set_config('standard_conforming_strings', 'off', true)",
        "SELECT",
        "SETTING set_config('standard_conforming_strings', …),"
        " UNRESETTABLE set_config('standard_conforming_strings', …)",
    ),
    ("SET seed = 0.5", "SET", "UNRESETTABLE SET seed"),
    ("SET LOCAL seed = 0.5", "SET LOCAL", "UNRESETTABLE SET LOCAL seed"),
    ("RESET seed", "RESET", "UNRESETTABLE RESET seed"),
    ("SELECT set_config('Seed', %s, true)", "SELECT", "UNRESETTABLE set_config('seed', …)"),
    ('SET "a""b" = 1', "SET", "SETTING SET"),
    ("SET app.Kelvin = 1", "SET", "SETTING SET"),
    ("SET app.%s = 1", "SET", "SETTING SET"),
    (f"SET app.{'x' * 64} = 1", "SET", "SETTING SET"),
    ("SET x", "SET", "SETTING SET"),
    ("SET", "SET", "SETTING SET"),
    ("SET CATALOG 'a'", "SET", "SETTING SET"),
    ("SET SESSION CONSTRAINTS ALL DEFERRED", "SET", "SETTING SET"),
    ("RESET", "RESET", "SETTING RESET"),
    *(
        (
            f"SELECT set_config({arguments})",
            "SELECT",
            "SETTING set_config(), UNRESETTABLE set_config() of a name that is no constant",
        )
        for arguments in (
            "VARIADIC x",
            "",
            "'a'",
            "'a', 'b'",
            "'a', 'b', true, 1",
            "a, 'b', true",
            "'a' || 'b', 'b', true",
            "E'a', 'b', true",
            "'a' 'b', 'b', true",
            "'a'::name, 'b', true",
            "%s || 'b', 'b', true",
            "(%s), 'b', true",
            "$0, 'b', true",
            "$99999999, 'b', true",
            "setting_name => 'a', new_value => 'b', is_local => true",
        )
    ),
    # paths that may make tables temporary
    ("SET search_path TO pg_temp, public", "SET", "TEMP_TABLE SET search_path"),
    ("SET SESSION search_path = 'a', \"pg_temp\"", "SET", "TEMP_TABLE SET search_path"),
    ("SET search_path = 'public, PG_TEMP'", "SET", "TEMP_TABLE SET search_path"),
    ("SET search_path = public, E'pg_tem\\160'", "SET", "TEMP_TABLE SET search_path"),
    ("SET search_path TO %s", "SET", "TEMP_TABLE SET search_path"),
    ("SET SCHEMA 'pg_temp'", "SET", "TEMP_TABLE SET search_path"),
    ("SET LOCAL SCHEMA $$pg_temp$$", "SET LOCAL", "TEMP_TABLE SET LOCAL search_path"),
    ('SET search_path = "$user", \'public\', "a b"', "SET", FREE),
    ("SET search_path TO DEFAULT", "SET", FREE),
    *(
        (f"SELECT set_config('search_path', {value}, {local})", "SELECT", "TEMP_TABLE set_config('search_path', …)")
        for value in ("'pg_temp'", "'pg_' || 'temp'", "%s || 'a'", "E'a'", "lower('a')", "a")
        for local in ("true", "false", "%s")
    ),
    *(
        (f"SELECT set_config('search_path', {value}, {local})", "SELECT", FREE)
        for value in ("'a, b'", "'a'::text", "%s", "%(path)s::text", "$1", "NULL", "''")
        for local in ("true", "false", "%s")
    ),
    ("SELECT set_config(%s, 'pg_temp', false)", "SELECT", "TEMP_TABLE set_config('search_path', …)"),
    ("SELECT set_config(%s, a || 'b', true)", "SELECT", "TEMP_TABLE set_config('search_path', …)"),
    ("SELECT set_config(%s, 'a', false), set_config(%s, %s, true)", "SELECT", FREE),
    ("ALTER ROLE app SET work_mem = 1", "ALTER ROLE", FREE),
    ("ALTER DATABASE shop SET work_mem = 1", "ALTER DATABASE", FREE),
    ("ALTER SYSTEM RESET ALL", "ALTER SYSTEM", FREE),
    # temporary objects
    ("CREATE TEMP TABLE t (a int)", "CREATE TABLE", "TEMP_TABLE CREATE TEMP TABLE"),
    ("CREATE LOCAL TEMPORARY TABLE t AS SELECT 1", "CREATE TABLE AS", "TEMP_TABLE CREATE TEMP TABLE"),
    ("CREATE GLOBAL TEMP TABLE t (a int) ON COMMIT DELETE ROWS", "CREATE TABLE", "TEMP_TABLE CREATE TEMP TABLE"),
    ("CREATE TEMP TABLE t (a int) ON COMMIT DROP", "CREATE TABLE", FREE),
    ("CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1", "CREATE TABLE AS", FREE),
    ("CREATE TEMP TABLE t (a int) -- ON COMMIT DROP", "CREATE TABLE", "TEMP_TABLE CREATE TEMP TABLE"),
    ("CREATE TEMP TABLE t AS SELECT 'ON COMMIT DROP'", "CREATE TABLE AS", "TEMP_TABLE CREATE TEMP TABLE"),
    ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", "CREATE VIEW", "TEMP_TABLE CREATE TEMP VIEW"),
    ("CREATE TEMP RECURSIVE VIEW v (a) AS SELECT 1", "CREATE VIEW", "TEMP_TABLE CREATE TEMP VIEW"),
    ("CREATE TEMPORARY SEQUENCE s", "CREATE SEQUENCE", "TEMP_TABLE CREATE TEMP SEQUENCE"),
    (
        "CREATE SCHEMA s CREATE TEMP TABLE t (a int)",
        "CREATE SCHEMA",
        "TEMP_TABLE CREATE SCHEMA with a temporary element",
    ),
    ("CREATE TABLE temp (a int)", "CREATE TABLE", FREE),
    ("SELECT 1 INTO TEMP t", "SELECT", "TEMP_TABLE SELECT INTO TEMP"),
    ("SELECT 1 INTO LOCAL TEMPORARY TABLE t FROM x", "SELECT", "TEMP_TABLE SELECT INTO TEMP"),
    ("SELECT 1 INTO t", "SELECT", FREE),
    ("WITH temp AS (SELECT 1) SELECT 1 INTO t FROM temp", "SELECT", FREE),
    ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", "EXPLAIN", "TEMP_TABLE CREATE TEMP TABLE"),
    ("CREATE TABLE pg_temp.t (a int)", "CREATE TABLE", "TEMP_TABLE pg_temp"),
    ("CREATE FUNCTION \"pg_temp\".f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE FUNCTION", "TEMP_TABLE pg_temp"),
    ("SELECT * FROM PG_TEMP_3.t", "SELECT", "TEMP_TABLE pg_temp"),
    ("SELECT 'pg_temp', pg_my_temp_schema()", "SELECT", FREE),
    ('CREATE TABLE U&"pg\\005ftemp".t ()', "CREATE TABLE", 'UNKNOWN_STATEMENT U&"…" identifier'),
    # the rest of the pin table
    ("PREPARE p AS SELECT 1", "PREPARE", "PREPARED_STATEMENT PREPARE"),
    ("PREPARE transaction AS SELECT 1", "PREPARE", "PREPARED_STATEMENT PREPARE"),
    ("PREPARE p AS SELECT set_config('a', 'b', false)", "PREPARE", "PREPARED_STATEMENT PREPARE"),
    ("PREPARE p AS SELECT set_config('a', 'b', true)", "PREPARE", "PREPARED_STATEMENT PREPARE"),
    (
        "PREPARE p AS SELECT set_config('search_path', $1, true)",
        "PREPARE",
        "PREPARED_STATEMENT PREPARE, SETTING set_config(), TEMP_TABLE set_config('search_path', …)",
    ),
    (
        "PREPARE p AS SELECT set_config($1, $2, true)",
        "PREPARE",
        "PREPARED_STATEMENT PREPARE, SETTING set_config(), TEMP_TABLE set_config('search_path', …), "
        "UNRESETTABLE set_config() of a name that is no constant",
    ),
    ("PREPARE p (int) AS SELECT setseed($1)", "PREPARE", "PREPARED_STATEMENT PREPARE, UNRESETTABLE setseed()"),
    (
        "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT f(1)",
        "DECLARE",
        "HOLD_CURSOR DECLARE WITH HOLD, UNKNOWN_ROUTINE f()",
    ),
    ("DECLARE c CURSOR /* */ WITH\nhold FOR SELECT 1", "DECLARE", "HOLD_CURSOR DECLARE WITH HOLD"),
    ("SELECT pg_advisory_lock(1)", "SELECT", "ADVISORY_LOCK pg_advisory_lock()"),
    ("SELECT 1 WHERE pg_try_advisory_lock_shared(1, 2)", "SELECT", "ADVISORY_LOCK pg_try_advisory_lock_shared()"),
    ("LISTEN a", "LISTEN", "LISTEN LISTEN"),
    ("LOAD 'auto_explain'", "LOAD", "UNRESETTABLE LOAD"),
    ("SELECT setseed(0.5)", "SELECT", "UNRESETTABLE setseed()"),
    (
        "SELECT pg_create_logical_replication_slot('a', 'b', true)",
        "SELECT",
        "UNRESETTABLE pg_create_logical_replication_slot()",
    ),
    # routines
    ("SELECT f(1)", "SELECT", "UNKNOWN_ROUTINE f()"),
    ("SELECT public.lower('A')", "SELECT", "UNKNOWN_ROUTINE public.lower()"),
    ("SELECT pg_catalog.lower('A'), \"lower\"('A')", "SELECT", FREE),
    ('SELECT "LOWER"(1), "coalesce"(1)', "SELECT", 'UNKNOWN_ROUTINE "LOWER"(), UNKNOWN_ROUTINE "coalesce"()'),
    ("SELECT query_to_xml('SELECT 1', true, true, '')", "SELECT", "UNKNOWN_ROUTINE query_to_xml()"),
    ("SELECT ts_stat('SELECT 1')", "SELECT", "UNKNOWN_ROUTINE ts_stat()"),
    ("SELECT (x).f(1), $1.g(2)", "SELECT", "UNKNOWN_ROUTINE f(), UNKNOWN_ROUTINE g()"),
    ("SELECT x %s(1)", "SELECT", "UNKNOWN_ROUTINE %s()"),
    ("SELECT x % s(1)", "SELECT", "UNKNOWN_ROUTINE s()"),
    ('SELECT U&"f"(1)', "SELECT", 'UNKNOWN_ROUTINE ""(), UNKNOWN_STATEMENT U&"…" identifier'),
    (
        "SELECT cube(1), join(2), \u212aelvin(3)",
        "SELECT",
        "UNKNOWN_ROUTINE cube(), UNKNOWN_ROUTINE join(), UNKNOWN_ROUTINE \u212aelvin()",
    ),
    ("INSERT INTO t SELECT 1 FROM a JOIN b ON conflict(x) WHERE y", "INSERT", "UNKNOWN_ROUTINE conflict()"),
    ("COPY (SELECT * FROM stdin(1)) TO STDOUT", "COPY", "UNKNOWN_ROUTINE stdin()"),
    ("DO $$ BEGIN EXECUTE a; END $$", "DO", "UNKNOWN_ROUTINE DO"),
    ("DO $$ BEGIN PERFORM f(1); END $$", "DO", "UNKNOWN_ROUTINE f()"),
    ("DO $a$ BEGIN PERFORM '$$'; END $a$", "DO", FREE),
    (
        "CALL s.p(set_config('a', 'b', false))",
        "CALL",
        "UNKNOWN_ROUTINE CALL, UNKNOWN_ROUTINE s.p()",
    ),
    ("CREATE TABLE t (a int DEFAULT f(1))", "CREATE TABLE", FREE),
    ("CREATE VIEW v AS SELECT f(1)", "CREATE VIEW", FREE),
    ("CREATE INDEX ON t (f(a))", "CREATE INDEX", "UNKNOWN_ROUTINE f()"),
    ("CREATE TABLE p PARTITION OF t FOR VALUES FROM (f(1)) TO (2)", "CREATE TABLE", "UNKNOWN_ROUTINE f()"),
    (
        "CREATE TABLE p PARTITION OF t FOR VALUES IN (1) PARTITION BY RANGE (a)",
        "CREATE TABLE",
        FREE,
    ),
    ("ALTER TABLE t ADD COLUMN location geometry(Point), ADD name public.citext(3)", "ALTER TABLE", FREE),
    ("SELECT a::interval day to second(3) FROM t", "SELECT", FREE),
    ("SELECT 1 FROM a WHERE b SIMILAR TO second(3)", "SELECT", "UNKNOWN_ROUTINE second()"),
    ("SELECT OPERATOR(pg_catalog.-) 1, a FROM t ORDER BY a USING OPERATOR(s.<)", "SELECT", FREE),
    ("SELECT a OPERATOR(pg_catalog.*) operator(1, 2)", "SELECT", "UNKNOWN_ROUTINE operator()"),
    ("SELECT 1) f(1)", "SELECT", "UNKNOWN_ROUTINE f()"),
    ("MERGE INTO temp USING temporary ON true WHEN MATCHED THEN DELETE", "MERGE", FREE),
    # what is not known
    ("FROBNICATE x", "FROBNICATE", "UNKNOWN_STATEMENT FROBNICATE"),
    ("CREATE FLUX x", "CREATE", "UNKNOWN_STATEMENT CREATE FLUX"),
    ("'SET x'", "?", "UNKNOWN_STATEMENT ?"),
    ("\ufeffSELECT 1", "?", "UNKNOWN_STATEMENT ?"),
    ("(DELETE FROM t)", "", "UNKNOWN_STATEMENT ("),
    # two readings of one text
    ("SELECT %sFROM t", "SELECT", "UNKNOWN_STATEMENT a % that may or may not be a placeholder"),
    ("CREATE TEMP TABLE t (a int) \0 ON COMMIT DROP", "CREATE TABLE", "UNKNOWN_STATEMENT a NUL character"),
]


def pins(text: str, dialect: Dialect = Dialect.POSTGRESQL) -> str:
    return ", ".join(f"{cause.reason.value} {cause.what}" for cause in classify(text, dialect).causes)


@pytest.mark.parametrize(("text", "verb", "expected"), ROWS, ids=[json.dumps(row[0])[:80] for row in ROWS])
def test_statement(text: str, verb: str, expected: str) -> None:
    """The verb, and everything that pins."""
    statement = classify(text)
    assert [part.verb for part in statement.parts] == [verb]
    assert pins(text) == expected
    assert statement.causes == statement.parts[0].causes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("SELECT 1; SET x = 1;", ["SELECT", "SET"]),
        ("SELECT ';', \";\", $$;$$, $a$;$$;$a$, E'\\';' /* ; /* ; */ ; */ -- ;\n; BEGIN", ["SELECT", "BEGIN"]),
        ("SELECT E'a'\n -- c\n 'b\\'; SET x = 1 --'", ["SELECT"]),
        ("SELECT E'a' 'b\\'; SET x = 1 --'", ["SELECT", "SET"]),
        ("SELECT a$b$; SET x = 1; SELECT $b$;$b$", ["SELECT", "SET", "SELECT"]),
        ("SELECT (1; SET x = 1", ["SELECT", "SET"]),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2); SET x = 1", ["CREATE RULE", "SET"]),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; SET x = 1",
            ["CREATE FUNCTION", "SET"],
        ),
        # CASE and END as labels: better a statement too many than one swallowed
        ("CREATE PROCEDURE f() BEGIN ATOMIC SELECT 1 case; END; SET x = 1", ["CREATE PROCEDURE", "SET"]),
        ("CREATE FUNCTION f() BEGIN ATOMIC SELECT 1 AS end; SELECT a.case; END; SET x = 1", ["CREATE FUNCTION", "SET"]),
        ("BEGIN ATOMIC; SET x = 1", ["BEGIN", "SET"]),
    ],
)
def test_statements_of_a_text(text: str, parts: list[str]) -> None:
    """A semicolon ends a statement where the server says so, and nowhere hides one."""
    assert [part.verb for part in classify(text).parts] == parts


def test_backslashes_escape_only_where_the_server_says() -> None:
    """With standard_conforming_strings off a quote after a backslash is part of the constant."""
    text = "SELECT 'a\\'; SET x = 1 --'"
    assert [part.verb for part in classify(text).parts] == ["SELECT", "SET"]
    assert [part.verb for part in classify(text, Dialect.POSTGRESQL_BACKSLASH).parts] == ["SELECT"]
    text = "SET standard_conforming_strings = on"
    assert (
        pins(text, Dialect.POSTGRESQL_BACKSLASH)
        == "SETTING SET standard_conforming_strings, UNRESETTABLE SET standard_conforming_strings"
    )
    text = "SELECT 'a\\\\'; SET x = 1"
    assert [part.verb for part in classify(text, Dialect.POSTGRESQL_BACKSLASH).parts] == ["SELECT", "SET"]


CHARACTERISTICS = "default_transaction_isolation default_transaction_read_only default_transaction_deferrable"
NOTHING = ""
# What is taken along: names, and parameters that hold one.
SETTINGS: list[tuple[str, str]] = [
    ("SET x = 1", "x"),
    ("SET x TO 1, 'a', b", "x"),
    ("SET SESSION Work_Mem = 1", "work_mem"),
    ("set\n/* LOCAL */ search_path to a", "search_path"),
    ("SET x TO DEFAULT", "x"),
    ("SET x FROM CURRENT", "x"),
    ("SET app.tenant_id = '7'", "app.tenant_id"),
    ('SET "App" . "Tenant Id" = 1', "app.tenant id"),
    ('SET "App.X" = 1', "app.x"),
    ("SET a.b.c$1 = 1", "a.b.c$1"),
    ("SET sort_mem = 1", "work_mem"),
    ("SELECT set_config('Vacuum_Mem', '1', false)", "maintenance_work_mem"),
    ("RESET x", "x"),
    ('RESET "App".x', "app.x"),
    ("RESET ALL", "*"),
    ('RESET "all"', "all"),
    ("SET TIME ZONE 'UTC'", "timezone"),
    ("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "timezone"),
    ("SET SESSION TIME ZONE LOCAL", "timezone"),
    ("RESET TIME ZONE", "timezone"),
    ("SET NAMES", "client_encoding"),
    ("SET NAMES 'UTF8'", "client_encoding"),
    ("SET SCHEMA 'a'", "search_path"),
    ("SET XML OPTION DOCUMENT", "xmloption"),
    ("SET ROLE app", "role"),
    ("SET ROLE NONE", "role"),
    ("SET ROLE %s", "role"),
    ("SET SESSION ROLE = app", "role"),
    ("RESET ROLE", "role"),
    ("SET SESSION AUTHORIZATION app", "session_authorization role"),
    ("SET SESSION SESSION AUTHORIZATION DEFAULT", "session_authorization role"),
    ("SET session_authorization = 'app'", "session_authorization role"),
    ("RESET SESSION AUTHORIZATION", "session_authorization role"),
    ("RESET session_authorization", "session_authorization role"),
    ("SELECT set_config('session_authorization', 'app', false)", "session_authorization role"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "default_transaction_read_only"),
    ("SET SESSION SESSION CHARACTERISTICS AS TRANSACTION NOT DEFERRABLE", "default_transaction_deferrable"),
    (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE",
        "default_transaction_isolation default_transaction_read_only",
    ),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION %s", CHARACTERISTICS),
    ("DISCARD ALL", "* role session_authorization"),
    # words that are names of settings here
    ("SET local.x = 1", "local.x"),
    ("SET LOCAL = 1", "local"),
    ("SET local TO 1", "local"),
    ("SET session.x = 1", "session.x"),
    ("SET session FROM CURRENT", "session"),
    ("SET SESSION session.x = 1", "session.x"),
    ("SET SESSION local = 1", "local"),
    ("SET SESSION characteristics = 1", "characteristics"),
    ("SET SESSION characteristics.x = 1", "characteristics.x"),
    ("SET transaction.x TO 1", "transaction.x"),
    ("SET constraints.x = 1", "constraints.x"),
    ("SET constraints TO 1", "constraints"),
    ("SET time = 1", "time"),
    ("SET names = 1", "names"),
    ("SET role.x = 1", "role.x"),
    ("RESET names", "names"),
    ("RESET time", "time"),
    ("RESET session.x", "session.x"),
    # what ends with the transaction
    ("SET standard_conforming_strings = on", "standard_conforming_strings"),
    ("SET LOCAL standard_conforming_strings = on", NOTHING),
    ("SET LOCAL x = 1", NOTHING),
    ("SET LOCAL SESSION AUTHORIZATION app", NOTHING),
    ("SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", NOTHING),
    ("SET LOCAL session.x = 1", NOTHING),
    ("SET TRANSACTION READ ONLY", NOTHING),
    ("SET SESSION TRANSACTION NOT DEFERRABLE", NOTHING),
    ("SET CONSTRAINTS ALL DEFERRED", NOTHING),
    ("SET transaction_isolation = 'serializable'", NOTHING),
    ("SET SESSION transaction_read_only = on", NOTHING),
    ("RESET transaction_deferrable", NOTHING),
    ("RESET TRANSACTION ISOLATION LEVEL", NOTHING),
    ("SELECT set_config('transaction_isolation', 'serializable', false)", NOTHING),
    ("DISCARD PLANS", NOTHING),
    ("DISCARD TEMP", NOTHING),
    ("SHOW x", NOTHING),
    ("ALTER ROLE app SET x = 1", NOTHING),
    ("ALTER DATABASE shop RESET ALL", NOTHING),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET x = 1 AS 'SELECT 1'", NOTHING),
    ("UPDATE t SET x = 1", NOTHING),
    # set_config()
    ("SELECT set_config('a', 'b', false)", "a"),
    ("SELECT set_config('App.Tenant'::text, coalesce(%s, 'c'), 'Off'::bool)", "app.tenant"),
    ("SELECT set_config('a', (ARRAY['x', 'y'])[1], false)", "a"),
    ("SELECT set_config('a', x[1, 2], false)", "a"),
    ("SELECT 1 FROM t WHERE set_config('a', 'b', false) = 'c' ORDER BY set_config('d', 'e', false)", "a d"),
    ("EXPLAIN ANALYZE SELECT set_config('a', 'b', false)", "a"),
    ("INSERT INTO t VALUES (set_config('a', 'b', false))", "a"),
    ("EXECUTE p (set_config('a', 'b', false))", "a"),
    ("PREPARE p AS SELECT set_config('a', 'b', false)", "a"),
    ("PREPARE p AS SELECT set_config($1, $2, false), set_config('a', $2, false)", "a"),
    ("SELECT set_config('a', 'b', NULL)", "a"),
    *((f"SELECT set_config('a', 'b', {local})", NOTHING) for local in ("true", "'On'::bool", "'1'", "'TRUE'::boolean")),
    *(
        (f"SELECT set_config('a', 'b', {local})", "a")
        for local in ("%s", "true AND false", "'fal' 'se'", "not true", "E'true'", "true::text", "x", "'o'")
    ),
    ("SELECT set_config(%s, %s, false)", "<0>"),
    ("SELECT set_config(%s::text, %s, true)", "local <0>"),
    ("SELECT %s, set_config(%b, %t, %s)", "<1>"),
    ("SELECT set_config(%(name)s, %(value)s, false), set_config(%(name)s, 'b', false)", "<name>"),
    ("SELECT set_config(%(a b.c-d)s::text, 'b', false)", "<a b.c-d>"),
    ("SELECT set_config($2, $1, false), set_config($12, $1, true)", "<1> local <11>"),
    ("SELECT %s; SELECT a %% 2, set_config(%s, %s, false); SELECT set_config(%s, '', false)", "<1> <3>"),
    # the driver counts what stands in constants and comments
    ("SELECT '%s%%s', /* %s %%(a)s */ set_config(%s, 'b', false) -- %s", "<2>"),
    ("SELECT set_config('search_path', %s, true)", "local search_path"),
    ("SELECT set_config('search_path', %s::text, false)", "search_path"),
    ("SELECT set_config('search_path', 'a', true)", NOTHING),
    # code blocks
    ("DO $$ BEGIN SET x = 1; PERFORM set_config('App.y', a, false), f(1); RESET z; END $$", "x app.y z"),
    ("DO 'BEGIN IF a THEN SET ROLE app; ELSE RESET ALL; END IF; END'", "role *"),
    ("DO $$ BEGIN SET x = 1; SET LOCAL y = 1; END $$", NOTHING),
]


@pytest.mark.parametrize(("text", "settings"), SETTINGS)
def test_settings_are_taken_along(text: str, settings: str) -> None:
    """By name, or by the parameter that holds it, in the order of the text; local ones only to be looked at."""
    statement = classify(text)
    found = [setting.name or f"<{setting.parameter}>" for setting in statement.settings]
    found += [f"local {setting.name or f'<{setting.parameter}>'}" for setting in statement.local_settings]
    assert " ".join(found) == settings
    if settings:
        assert classify(text).changes_plans
        assert not classify(text).is_plain


@pytest.mark.parametrize(
    ("text", "is_local"),
    [
        ("SET LOCAL x = 1", True),
        ("SET LOCAL TIME ZONE 'UTC'", True),
        ("SET x = 1", False),
        ("SET TRANSACTION READ ONLY", False),
        ("SET transaction_isolation = 'serializable'", True),
        ("RESET transaction_read_only", True),
        ("SELECT set_config('transaction_deferrable', 'on', false)", True),
        ("SELECT set_config('a', 'b', true)", True),
        ("SELECT set_config('a', 'b', true), set_config('c', 'd', false)", True),
        ("SELECT set_config('a', 'b', %s)", True),
        ("SELECT set_config('a', 'b', false)", False),
        ("SELECT set_config(%s, 'b', 'f')", False),
        ("SELECT set_config(%s, 'b', true)", True),
        ("SELECT set_config(a, 'b', false)", True),
    ],
)
def test_settings_until_the_end_of_the_transaction(text: str, is_local: bool) -> None:
    """Whether a statement may set something that ends with its transaction."""
    (part,) = classify(text).parts
    assert part.sets_local is is_local


def test_a_code_block_that_does_more_pins() -> None:
    """Settings are taken along from a DO block only if nothing else in it speaks against that."""
    for rest in ("EXECUTE a", "SET LOCAL y = 1", "PERFORM lastval()", "PERFORM set_config(a, b, false)", "LISTEN a"):
        assert pins(f"DO $$ BEGIN SET x = 1; {rest}; END $$") == "UNKNOWN_ROUTINE DO"
        assert not classify(f"DO $$ BEGIN SET x = 1; {rest}; END $$").settings
    assert pins("DO $$ BEGIN SET x = 1; PERFORM f(1); END $$") == "UNKNOWN_ROUTINE f()"


ALL_ASKED = "TEMP_TABLE PREPARED_STATEMENT HOLD_CURSOR ADVISORY_LOCK LISTEN"


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("DROP TABLE t", "TEMP_TABLE"),
        ("DROP SCHEMA s CASCADE", "TEMP_TABLE"),
        ("DISCARD TEMP", "TEMP_TABLE"),
        ("DISCARD TEMPORARY", "TEMP_TABLE"),
        ("SET search_path = a", "TEMP_TABLE"),
        ("RESET search_path", "TEMP_TABLE"),
        ("SET search_path = pg_temp", NOTHING),
        ("SET LOCAL search_path = pg_temp", "TEMP_TABLE"),
        ("DEALLOCATE ALL", "PREPARED_STATEMENT"),
        ("CLOSE c", "HOLD_CURSOR"),
        ("UNLISTEN *", "LISTEN"),
        ("SELECT pg_advisory_unlock(1)", "ADVISORY_LOCK"),
        ("SELECT 1 WHERE pg_advisory_unlock_shared(1, 2)", "ADVISORY_LOCK"),
        ("SELECT pg_advisory_unlock_all()", "ADVISORY_LOCK"),
        ("RESET ALL", "SETTING"),
        ("DISCARD ALL", f"{ALL_ASKED} SETTING UNKNOWN_ROUTINE UNKNOWN_STATEMENT"),
        ("DISCARD PLANS", NOTHING),
        ("DISCARD SEQUENCES", NOTHING),
        ("CLOSE c; UNLISTEN a", "HOLD_CURSOR LISTEN"),
        # what pins may have come to nothing
        ("CREATE TEMP TABLE t (a int)", "TEMP_TABLE"),
        ("PREPARE p AS SELECT 1", "PREPARED_STATEMENT"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "HOLD_CURSOR"),
        ("SELECT pg_try_advisory_lock(1)", "ADVISORY_LOCK"),
        ("LISTEN a", "LISTEN"),
        ("LOAD 'a'", NOTHING),
        ("SELECT f(1)", NOTHING),
        ("DO $$ BEGIN DROP TABLE t; PERFORM pg_advisory_unlock(1); END $$", "TEMP_TABLE ADVISORY_LOCK"),
        ("SELECT 1", NOTHING),
        ("CREATE TABLE t (a int)", NOTHING),
        ("COMMIT", NOTHING),
        ("ROLLBACK TO a", NOTHING),
    ],
)
def test_what_may_end_a_pin(text: str, reasons: str) -> None:
    """The reasons a statement may end; the server is asked whether it did."""
    statement = classify(text)
    assert statement.frees == {Reason[reason] for reason in reasons.split()}
    assert {name for part in statement.parts for _, name in part.frees} <= {"*"}
    assert not (statement.is_plain and reasons)


READS_ONLY = [
    "SELECT 1",
    "VALUES (1)",
    "TABLE t",
    "SHOW x",
    "WITH x AS (SELECT 1) SELECT random(), now(), gen_random_uuid() FROM x",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT 1; SELECT 2",
    "SET x = 1",
    "SET ROLE app",
    "SET LOCAL x = 1",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "RESET x",
    "RESET ALL",
    "SELECT set_config('a', 'b', true)",
    "SELECT set_config('a', %s, false), set_config(%s, %s, false)",
]
CHANGES = [
    "INSERT INTO t VALUES (1)",
    "SELECT 1; DELETE FROM t",
    "SELECT 1 FROM t FOR UPDATE",
    "SELECT 1 FROM t FOR NO KEY UPDATE",
    "SELECT 1 FROM t FOR KEY SHARE",
    "SELECT 1 INTO t",
    "WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x",
    "EXPLAIN ANALYZE DELETE FROM t",
    "SELECT nextval('s')",
    "SELECT currval('s')",
    "SELECT lo_unlink(1), pg_notify('a', 'b')",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT txid_current()",
    "SELECT f(1)",
    "SELECT set_config('a', 'b', true) FROM t FOR UPDATE",
    "SELECT set_config('a', nextval('s')::text, true)",
    "SELECT set_config(a, 'b', true)",
    "SET seed = 1",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "DISCARD ALL",
    "DISCARD PLANS",
    "FETCH 1 FROM c",
    "COPY t TO STDOUT",
    "BEGIN",
    "EXECUTE p",
]


@pytest.mark.parametrize("text", READS_ONLY)
def test_only_reads(text: str) -> None:
    """May be sent twice, or to a replica."""
    assert classify(text).reads_only


@pytest.mark.parametrize("text", CHANGES)
def test_may_change_something(text: str) -> None:
    """May not: it writes, locks, or its answer depends on where it runs."""
    assert not classify(text).reads_only


@pytest.mark.parametrize(
    ("text", "reads", "moves"),
    [
        ("SELECT 1", False, False),
        ("SELECT currval('s')", True, False),
        ("SELECT 1; SELECT LASTVAL()", True, False),
        ("SELECT nextval('s')", False, True),
        ("SELECT pg_catalog.setval('s', 1)", False, True),
        ("INSERT INTO t DEFAULT VALUES", False, True),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING 1) SELECT * FROM x", False, True),
        ("MERGE INTO t USING s ON true WHEN NOT MATCHED THEN INSERT DEFAULT VALUES", False, True),
        ("UPDATE t SET a = DEFAULT", False, True),
        ("UPDATE t SET a = 1", False, False),
        ("COPY t FROM STDIN", False, True),
        ("COPY t TO STDOUT", False, False),
        ("SELECT f(1)", False, True),
        ("DO 'x'", False, True),
        ("CALL p()", False, True),
        ("EXECUTE p", False, True),
        ("ALTER TABLE t ADD COLUMN id serial", False, True),
        ("DISCARD SEQUENCES", False, True),
        ("DISCARD ALL", False, True),
        ("DISCARD PLANS", False, False),
    ],
)
def test_sequences(text: str, reads: bool, moves: bool) -> None:
    """Which statements ask what a sequence gave this backend, and which may change the answer."""
    statement = classify(text)
    assert (statement.reads_sequence, statement.moves_sequence) == (reads, moves)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("COMMIT", True),
        ("commit work", True),
        ("END", True),
        ("ROLLBACK", True),
        ("ABORT AND CHAIN", True),
        ("PREPARE TRANSACTION 'x'", True),
        ("SELECT 1; COMMIT; SELECT 2", True),
        ("ROLLBACK TO a", False),
        ("ROLLBACK WORK TO SAVEPOINT a", False),
        ("COMMIT PREPARED 'x'", False),
        ("BEGIN", False),
        ("SELECT 'COMMIT'", False),
    ],
)
def test_end_of_transaction(text: str, ends: bool) -> None:
    """Which texts may end the transaction they run in."""
    assert classify(text).ends_transaction is ends


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("  select\t1,\n'it''s' -- c\n, /* d */ $$secret$$ , E'\\'x' from\f t ;", "select ?, ? , ? , ? from t"),
        ("SELECT 'a';;SELECT 0x1F, 1.5e3, .5, U&'x', b'1', N'y'", "SELECT ?; SELECT ?, ?, ?, ?, ?, ?"),
        ("SELECT %s, %(name)s, $1", "SELECT %s, %(name)s, $1"),
        ("ALTER ROLE app PASSWORD 'secret", "ALTER ROLE app PASSWORD ?"),
        ("ALTER ROLE app PASSWORD $x$secret", "ALTER ROLE app PASSWORD ?"),
        ("SELECT %(')s' || 'secret'", "SELECT …"),
        ('SELECT "a\nb\u202e"', 'SELECT "a b\N{REPLACEMENT CHARACTER}"'),
        ("", ""),
    ],
)
def test_digest(text: str, digest: str) -> None:
    """What goes to logs: no constant, no comment, one line."""
    assert classify(text).digest == digest


def test_digest_is_cut() -> None:
    """A long text stays short in logs, whatever it is made of."""
    for text in ("SELECT " + "a, " * 1000, "SELECT '" + "x" * 9999 + "'", "SELECT" + " " * 5000 + "1", '"' * 5000):
        (part,) = classify(text).parts
        assert len(part.text) <= 500


def test_a_cause_is_named_once() -> None:
    """The same call twice is one cause; the causes of all parts stand in order."""
    assert pins("SELECT f(1), f(2), g(3); LISTEN a; SELECT f(4)") == (
        "UNKNOWN_ROUTINE f(), UNKNOWN_ROUTINE g(), LISTEN LISTEN, UNKNOWN_ROUTINE f()"
    )


def test_short_texts_are_judged_once() -> None:
    """The same text gives the same object; a long one is not kept."""
    assert classify("SELECT 1 AS cached") is classify("SELECT 1 AS cached")
    long = "SELECT " + "a" * CACHED_LENGTH
    assert classify(long) is not classify(long)
    assert classify(long) == classify(long)


@pytest.mark.parametrize("text", ["SELECT 1", "DELETE FROM t", "BEGIN", "ROLLBACK", "CREATE TABLE t (a int)"])
def test_most_statements_are_plain(text: str) -> None:
    """Nothing is set, freed or asked: the short way through the proxy."""
    assert classify(text).is_plain


@pytest.mark.parametrize(
    "text", ["COMMIT", "end work", "INSERT INTO t VALUES (1); COMMIT", "NOTIFY a", "SELECT pg_notify('a', 'b')"]
)
def test_a_commit_is_not_plain(text: str) -> None:
    """It is looked at more closely, as a token may have to go with it; so is what it sends."""
    assert not classify(text).is_plain


def test_every_reason_says_its_name() -> None:
    """Logs and statistics use the names."""
    assert all(reason.value == reason.name for reason in Reason)
