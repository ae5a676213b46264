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
    # settings
    ("SET x = 1", "SET", "SETTING SET"),
    ("set\n/* LOCAL */ search_path to a", "SET", "SETTING SET"),
    ("SET SESSION work_mem = 1", "SET", "SETTING SET"),
    ("SET ROLE app", "SET", "SETTING SET"),
    ("SET SESSION AUTHORIZATION DEFAULT", "SET", "SETTING SET"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET", "SETTING SET"),
    ("SET TIME ZONE 'UTC'", "SET", "SETTING SET"),
    ("RESET ALL", "RESET", "SETTING RESET"),
    ("DISCARD PLANS", "DISCARD", "SETTING DISCARD"),
    ("SET LOCAL x = 1", "SET LOCAL", FREE),
    ("SET LOCAL ROLE app", "SET LOCAL", FREE),
    ('SET LOCAL "a.b" = 1', "SET LOCAL", FREE),
    ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION", FREE),
    ("SET CONSTRAINTS ALL DEFERRED", "SET CONSTRAINTS", FREE),
    ("SET local.x = 1", "SET", "SETTING SET"),
    ("SET LOCAL = 1", "SET", "SETTING SET"),
    ("SET transaction.x TO 1", "SET", "SETTING SET"),
    ("SET constraints.x = 1", "SET", "SETTING SET"),
    ("SELECT set_config('a', 'b', false)", "SELECT", "SETTING set_config()"),
    ("SELECT set_config('a', %s, %s)", "SELECT", "SETTING set_config()"),
    ("SELECT set_config('a', 'b', true)", "SELECT", FREE),
    ("SELECT set_config('a', coalesce('b', 'c'), 'On'::bool)", "SELECT", FREE),
    ("SELECT set_config('a', 'b', true AND false)", "SELECT", "SETTING set_config()"),
    ("SELECT set_config('a', 'b', 'fal' 'se')", "SELECT", "SETTING set_config()"),
    ("SELECT set_config('a', 'b', not true)", "SELECT", "SETTING set_config()"),
    ("SELECT set_config('a', 'b', E'true')", "SELECT", "SETTING set_config()"),
    (
        "SELECT set_config(VARIADIC x)",
        "SELECT",
        "SETTING set_config(), UNRESETTABLE set_config() of a name that is no constant",
    ),
    ("SELECT pg_catalog . \"set_config\" ('a', 'b', false)", "SELECT", "SETTING set_config()"),
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
        "UNKNOWN_ROUTINE CALL, UNKNOWN_ROUTINE s.p(), SETTING set_config()",
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
    text = "SELECT 'a\\\\'; SET x = 1"
    assert pins(text, Dialect.POSTGRESQL_BACKSLASH) == "SETTING SET"


READS_ONLY = [
    "SELECT 1",
    "VALUES (1)",
    "TABLE t",
    "SHOW x",
    "WITH x AS (SELECT 1) SELECT random(), now(), gen_random_uuid() FROM x",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT 1; SELECT 2",
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
    "SELECT set_config('a', 'b', true)",
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
    assert pins("SELECT f(1), f(2), g(3); SET x = 1; SELECT f(4)") == (
        "UNKNOWN_ROUTINE f(), UNKNOWN_ROUTINE g(), SETTING SET, UNKNOWN_ROUTINE f()"
    )


def test_short_texts_are_judged_once() -> None:
    """The same text gives the same object; a long one is not kept."""
    assert classify("SELECT 1 AS cached") is classify("SELECT 1 AS cached")
    long = "SELECT " + "a" * CACHED_LENGTH
    assert classify(long) is not classify(long)
    assert classify(long) == classify(long)


def test_every_reason_says_its_name() -> None:
    """Logs and statistics use the names."""
    assert all(reason.value == reason.name for reason in Reason)
