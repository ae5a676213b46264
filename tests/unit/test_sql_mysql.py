"""MySQL and MariaDB: what is left of a text without its literals, and what the text does to the session."""

from __future__ import annotations

import json
import sys
from dataclasses import fields

import pytest

from rdsproxy_lib.sql import CACHED_LENGTH, Cause, Dialect, Part, Reason, Routine, Statement, classify_filled
from rdsproxy_lib.sql_mysql_builtins import FUNCTIONS, GRAMMAR, LOCKS, MARIADB_FUNCTIONS, MYSQL_FUNCTIONS
from rdsproxy_lib.sql_mysql_lexer import shape_of, statements
from rdsproxy_lib.sql_mysql_literals import lock_names, prepared_text

DIALECTS = [
    Dialect.mysql(mode)
    for mode in ("", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "STRICT_TRANS_TABLES,ANSI_QUOTES,NO_BACKSLASH_ESCAPES")
]
MARIADB = Dialect.mysql("", "mariadb")
MYSQL = Dialect.mysql("", "mysql")


def shape(text: str, dialect: Dialect = Dialect.MYSQL) -> str:
    return shape_of(text, dialect.backslash, dialect.ansi_quotes)


def causes(text: str, dialect: Dialect = Dialect.MYSQL) -> str:
    """What the text pins for, as "REASON what in the text", and then what it sets, as "takes this that"."""
    statement = classify_filled(text, dialect)
    found = [f"{cause.reason.value} {cause.what}" for cause in statement.causes]
    if statement.settings:
        found.append(" ".join(["takes", *(setting.name for setting in statement.settings)]))
    return ", ".join(found)


# Shapes -------------------------------------------------------------------------------------------------------

SHAPES = [
    # strings
    ("SELECT 'a'", "SELECT ?"),
    ("SELECT 'a''b', 'c'", "SELECT ?"),
    (r"SELECT 'a\'b' FROM t", "SELECT ? FROM t"),
    (r"SELECT 'a\\' FROM t WHERE b = 'c'", "SELECT ? FROM t WHERE b = ?"),
    ("SELECT 'a' 'b'\n'c'", "SELECT ?"),
    ('SELECT "a""b", \'c\' FROM t', "SELECT ? FROM t"),
    ("SELECT '`', 'a`b' FROM `t`", "SELECT ? FROM `t`"),
    ("SELECT N'a', _utf8mb4'b', X'41', b'1', x'42' FROM t", "SELECT N? FROM t"),
    ("SELECT _latin1 'a' FROM t", "SELECT _latin1 ? FROM t"),
    ("INSERT INTO t VALUES (_binary'\\0\\'x', 1)", "INSERT INTO t VALUES (_binary?)"),
    ("SELECT DATE'2020-01-01'", "SELECT DATE?"),
    ("SELECT 'é', 'ß' AS ü", "SELECT ? AS ü"),
    # numbers
    ("SELECT 1, 2.5, .5, 5., 1e10, 1.5E-3, 0x1F, 0b01 FROM t", "SELECT ? FROM t"),
    ("SELECT -1", "SELECT -?"),
    ("WHERE a=1and b=2", "WHERE a=1and b=?"),
    ("SELECT t1.c2, md5(x), utf8mb4, x$1, 2fa, a.2fa, _1, é5 FROM t1", None),
    ("SELECT 0X41, 0xZZ, 0b2, 1x, 1e", None),
    ("SELECT 1e5x, 1.5x", "SELECT ?x, ?x"),
    ("SELECT .5into @x", "SELECT .?into @x"),
    ("SELECT t.5into", None),
    ("SELECT 5--1, 5--2", "SELECT ?--?--?"),
    # lists
    ("SELECT 1 FROM t WHERE a IN (1,2,3)", "SELECT ? FROM t WHERE a IN (?)"),
    ("SELECT 1 FROM t WHERE a IN ('a' , 'b',\n'c')", "SELECT ? FROM t WHERE a IN (?)"),
    ("SELECT 1 FROM t WHERE (a, b) IN ((1, 2), (3, 4))", "SELECT ? FROM t WHERE (a, b) IN ((?))"),
    ("INSERT INTO t VALUES (1,'a',NULL),(2,'b',DEFAULT) , ( -3, true, 0x1 )", "INSERT INTO t VALUES (? )"),
    ("INSERT INTO t VALUES (1, now()), (2, now())", "INSERT INTO t VALUES (?, now()), (?, now())"),
    ("SELECT f(1), 2, a, 3", "SELECT f(?), ?, a, ?"),
    ("VALUES (1, nullable, NULLIF(1, 2))", "VALUES (?, nullable, NULLIF(?))"),
    ("LIMIT 5, 10", "LIMIT ?"),
    # comments
    ("SELECT 1 # it's\n+ 2", "SELECT ?  \n+ ?"),
    ("SELECT 1 -- it's\n+ 2", "SELECT ?  \n+ ?"),
    ("SELECT 1 --", "SELECT ?  "),
    ("SELECT 1 --\t'", "SELECT ?  "),
    ("SELECT a --b", None),
    ("SELECT 1 /* ' \" ` # -- */ + 2", "SELECT ?   + ?"),
    ("SELECT 1 /* /* */ + 2", "SELECT ?   + ?"),
    ("SELECT 1 /*/ */ + 2", "SELECT ?   + ?"),
    ("SELECT '/*', 1 /* ' */, '*/'", "SELECT ?  , ?"),
    ("SELECT 5-/**/-1", "SELECT ?- -?"),
    ("SELECT /*+ MAX_EXECUTION_TIME(1000) */ a", "SELECT   a"),
    ("SELECT 'http://x/#a--b' FROM `t`", "SELECT ? FROM `t`"),
    ("SELECT /*!50003 1 + */ 2", "SELECT /*!50003 ? + */ ?"),
    ("SELECT /*M!100100 a */ /*! b */", None),
    # what is kept
    ("SELECT `it's`, `1 ``2`, `#`, `/*` FROM `t-1`", None),
    ("SELECT @x, @`y z`, @@session.z, @a := b", None),
    ("SELECT @'x y', @\"z\"", "SELECT @?, @?"),
    ("COMMIT", None),
    ("", None),
    (" \n", None),
    # two readings
    ("SELECT 'abc", "SELECT ?\0"),
    ('SELECT "abc', "SELECT ?\0"),
    ("SELECT `abc", "SELECT \0\0"),
    ("SELECT 1 /* abc", "SELECT ? \0\0"),
    (r"SELECT 'abc\'", "SELECT ?\0"),
    ("SELECT 'abc\\", "SELECT ?\0"),
    ("SELECT $$ ' $$", "SELECT \0\0"),
    ("SELECT '$$', a$b$c", "SELECT ?, a$b$c"),
    ("SELECT /*! 'a' */ 1", "SELECT  \0  ?"),
    ("SELECT /*! a; b */ 1", "SELECT  \0  ?"),
    ("SELECT /*!5 a */ 1", "SELECT  \0  ?"),
    ("SELECT /*+ SET_VAR(x='*/') */ 1", "SELECT  \0 ?\0"),
    ("SELECT 1 --\xa0x", "SELECT ?  \0"),
    ("SELECT 1 # a\0 b", "SELECT ?  \0 b"),
]


@pytest.mark.parametrize(("text", "expected"), SHAPES, ids=[json.dumps(row[0])[:60] for row in SHAPES])
def test_shape(text: str, expected: str | None) -> None:
    """Literals are out, names are whole; None is a text that stays as it is."""
    assert shape(text) == (text if expected is None else expected)


@pytest.mark.parametrize("text", ["COMMIT", "SELECT a FROM t1 WHERE b = c", "SELECT `a` FROM `t1`"])
def test_a_text_without_literals_is_its_own_shape(text: str) -> None:
    """Not a copy of it."""
    assert shape(text) is text


def test_shapes_with_ansi_quotes() -> None:
    """Names in double quotes stay, and are not mistaken for strings nor for names in backquotes."""
    ansi = Dialect.mysql("ANSI_QUOTES")
    assert shape('SELECT "a 1", \'b\', "it\'s", "x""y" FROM "t"', ansi) == 'SELECT "a 1", ?, "it\'s", "x""y" FROM "t"'
    assert shape('SELECT \'"\', "\'" FROM `"`', ansi) == 'SELECT ?, "\'" FROM `"`'
    assert shape("SELECT \"a\\\", 'b' FROM t", ansi) == 'SELECT "a\\", ? FROM t'
    assert shape('SELECT "abc', ansi) == "SELECT \0\0"


def test_shapes_without_backslash_escapes() -> None:
    """A backslash is a character like any other."""
    plain = Dialect.mysql("NO_BACKSLASH_ESCAPES")
    assert shape("SELECT 'a\\', b, 'c'", plain) == "SELECT ?, b, ?"
    assert shape("SELECT 'a\\', b, 'c'") == "SELECT ?c?\0"


@pytest.mark.parametrize("rows", [1, 2, 100, 5000])
@pytest.mark.parametrize(
    "row", ["({0}, 'a''b{0}', NULL)", "('x', DEFAULT, -{0}.5), (NULL, {0}, TRUE)", "(_binary'{0}')"]
)
def test_shapes_of_long_lists(row: str, rows: int) -> None:
    """Any number of rows has the shape of two."""
    few = shape("INSERT INTO `t` VALUES " + ", ".join(row.format(number) for number in range(2)))
    assert shape("INSERT INTO `t` VALUES " + ", ".join(row.format(number) for number in range(rows))) in (
        few,
        few.replace("(?)", "(_binary?)"),
    )


def test_long_lists_of_rows_with_calls() -> None:
    """In a long text equal rows become one, whatever is in them."""
    text = "INSERT INTO t VALUES " + ",".join(f"({number}, 'x', now())" for number in range(1000))
    assert shape(text) == "INSERT INTO t VALUES (?, now())"
    text = "SELECT 1 FROM t WHERE a IN (" + ", ".join(map(str, range(10_000))) + ")"
    assert shape(text) == "SELECT ? FROM t WHERE a IN (?)"


SECRET = "fk7Qz2Lw9x"
PLANTED = [
    f"SELECT '{SECRET}'",
    f"SELECT 'a''{SECRET}'",
    f"SELECT '\\'{SECRET}'",
    f"SELECT 'a' '{SECRET}'",
    f"SELECT N'{SECRET}', _utf8mb4'{SECRET}', _binary '{SECRET}'",
    f"SELECT x'{SECRET}', b'{SECRET}'",
    f"SELECT 1 /* {SECRET} */",
    f"SELECT 1 # {SECRET}",
    f"SELECT 1 -- {SECRET}",
    f"SELECT '{SECRET}",
    f"SELECT 'a', `b`, '{SECRET}",
    f"SELECT '\\{SECRET}",
    f"SELECT 1 /* {SECRET}",
    f"SELECT /*+ {SECRET} */ 1",
    f"SELECT /*! '{SECRET}' */ 1",
    f"SELECT /*! '{SECRET}",
    f"SELECT $${SECRET}$$",
    f"SELECT $a$ {SECRET}",
    f"SELECT @'{SECRET}'",
    f"INSERT INTO t VALUES (1, '{SECRET}'), (2, '{SECRET}')",
    f"SELECT '{SECRET}' AS '{SECRET}'",
    "SELECT 7070707",
    "SELECT 0x7070707",
    "SELECT -70.70707e5, .7070707, 7070707e7",
    "SELECT a FROM t WHERE b=7070707",
    f"SET PASSWORD = '{SECRET}'",
    f"CREATE USER u IDENTIFIED BY '{SECRET}'",
]


@pytest.mark.parametrize("text", PLANTED)
@pytest.mark.parametrize("tail", ["", " FROM `t` # it's", "; SELECT 'x' /* y */"])
def test_no_value_survives(text: str, tail: str) -> None:
    """In no dialect, whether it ends or not."""
    for dialect in DIALECTS:
        if "\\" in text and not dialect.backslash:
            continue
        for found in (shape(text + tail, dialect), classify_filled(text + tail, dialect).digest):
            assert SECRET not in found
            assert "70707" not in found


@pytest.mark.parametrize("text", [f'SELECT "{SECRET}"', f'SELECT "a""{SECRET}', f'SELECT "\\"{SECRET}"'])
def test_no_value_in_double_quotes_survives(text: str) -> None:
    """Where double quotes make strings."""
    assert SECRET not in shape(text)


# Verdicts -----------------------------------------------------------------------------------------------------

FREE = ""
CHARSET = "takes character_set_client character_set_results character_set_connection collation_connection"
ROWS: list[tuple[str, str, str]] = [
    # nothing at all
    ("", "", FREE),
    (" ; ;\n-- SET x = 1\n/* SET y = 2 */ # SET z = 3", "", FREE),
    # queries
    ("select 1", "SELECT", FREE),
    ("(SELECT 1) UNION (SELECT 2) ORDER BY 1", "SELECT", FREE),
    ("((SELECT 1))", "SELECT", FREE),
    ("SELECT a FROM t WHERE b = 'x' AND c IN (1, 2) LIMIT 5, 10", "SELECT", FREE),
    ("SELECT @a, @@autocommit, @@session.sql_mode", "SELECT", FREE),
    ("SELECT * FROM t INTO OUTFILE '/x'", "SELECT", FREE),
    ("VALUES ROW(1, 2), ROW(3, 4)", "VALUES", FREE),
    ("TABLE t ORDER BY a LIMIT 1", "TABLE", FREE),
    ("WITH x (a, b) AS (SELECT 1, 2), y (c) AS (SELECT 3) SELECT * FROM x, y", "SELECT", FREE),
    ("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n", "SELECT", FREE),
    ("WITH x AS (SELECT 1) UPDATE t, x SET a = 1", "UPDATE", FREE),
    ("WITH x AS (SELECT 1) DELETE FROM t", "DELETE", FREE),
    ("SELECT 1 FROM (SELECT 1) q (a), (SELECT 2) AS `r` (b), LATERAL (SELECT 3) l", "SELECT", FREE),
    ("SELECT a FROM t PARTITION (p0, p1) USE INDEX (i) IGNORE INDEX FOR JOIN (j) JOIN u USING (id)", "SELECT", FREE),
    ("SELECT a FROM t WHERE MATCH (a, b) AGAINST ('x' IN BOOLEAN MODE)", "SELECT", FREE),
    ("SELECT a MEMBER OF('[1]'), b MEMBER OF (c) FROM t", "SELECT", FREE),
    (
        "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b), LAG(a) OVER w FROM t WINDOW w AS (ORDER BY a)",
        "SELECT",
        FREE,
    ),
    (
        "SELECT * FROM JSON_TABLE(d, '$[*]' COLUMNS (a VARCHAR(10) PATH '$.a', NESTED PATH '$.b'"
        " COLUMNS (c INT PATH '$'))) j",
        "SELECT",
        FREE,
    ),
    (
        "SELECT CAST(x AS DECIMAL(10,2)), CAST(x AS CHAR(5)), CONVERT(x USING utf8mb4), CONVERT(x, CHAR(10))",
        "SELECT",
        FREE,
    ),
    (
        "SELECT EXTRACT(YEAR FROM d), DATE_ADD(d, INTERVAL 1 DAY), d + INTERVAL (1) MONTH, {d '2020-01-01'}",
        "SELECT",
        FREE,
    ),
    (
        "SELECT TRIM(BOTH 'x' FROM a), SUBSTRING(a FROM 1 FOR 2), POSITION('a' IN b), CHAR(65 USING utf8mb4)",
        "SELECT",
        FREE,
    ),
    ("SELECT GROUP_CONCAT(DISTINCT a ORDER BY b SEPARATOR ','), COUNT(DISTINCT a), COUNT(*) FROM t", "SELECT", FREE),
    (
        "SELECT a FROM t WHERE b = ANY (SELECT 1) OR EXISTS (SELECT 1) OR NOT (a) OR b BETWEEN (1) AND (2)",
        "SELECT",
        FREE,
    ),
    (
        "SELECT IF(a, 1, 2), LEFT(a, 1), REPLACE(a, 'b', 'c'), INSERT(a, 1, 2, 'x'), MOD(a, 2), VALUES(a)",
        "SELECT",
        FREE,
    ),
    ("SELECT SLEEP(1), BENCHMARK(1, 2), UUID(), RAND(), CONNECTION_ID(), IS_FREE_LOCK('a')", "SELECT", FREE),
    ("SELECT JSON_EXTRACT(a, '$'), a->'$.b', a->>'$.c' FROM t", "SELECT", FREE),
    ("SELECT SQL_NO_CACHE (1)", "SELECT", FREE),
    ("INSERT INTO t (a, b) VALUES (1, 'x') ON DUPLICATE KEY UPDATE a = VALUES(a)", "INSERT", FREE),
    ("INSERT INTO `app`.`t` (`a`) VALUES (1) AS new(m) ON DUPLICATE KEY UPDATE a = new.m", "INSERT", FREE),
    ("INSERT IGNORE t (a) SELECT 1", "INSERT", FREE),
    ("INSERT INTO t PARTITION (p0) (a) VALUES (1) RETURNING (a), b", "INSERT", FREE),
    ("REPLACE LOW_PRIORITY INTO t (a) VALUES (1)", "REPLACE", FREE),
    ("UPDATE t SET a = a + 1 WHERE b IN (SELECT b FROM u) ORDER BY c LIMIT 1", "UPDATE", FREE),
    ("DELETE t FROM t JOIN u USING (id)", "DELETE", FREE),
    (
        "LOAD DATA LOCAL INFILE '/x' INTO TABLE t CHARACTER SET utf8mb4 LINES TERMINATED BY ',' (a, b)",
        "LOAD DATA",
        FREE,
    ),
    ("LOAD XML INFILE '/x' INTO TABLE t", "LOAD DATA", FREE),
    ("DO SLEEP(1)", "DO", FREE),
    ("DO RELEASE_LOCK('a'), RELEASE_ALL_LOCKS()", "DO", FREE),
    ("EXPLAIN SELECT 1", "EXPLAIN", FREE),
    ("EXPLAIN FORMAT=TREE ANALYZE SELECT 1", "EXPLAIN", FREE),
    ("EXPLAIN FOR CONNECTION 5", "EXPLAIN", FREE),
    ("EXPLAIN FOR SCHEMA app SELECT 1", "EXPLAIN", FREE),
    ("DESC t", "EXPLAIN", FREE),
    ("DESCRIBE t 'a%'", "EXPLAIN", FREE),
    ("ANALYZE FORMAT=JSON SELECT 1", "EXPLAIN", FREE),
    ("ANALYZE UPDATE t SET a = 1", "EXPLAIN", FREE),
    ("SHOW TABLES LIKE 'a%'", "SHOW", FREE),
    ("SHOW CREATE TABLE t", "SHOW", FREE),
    ("SHOW FULL COLUMNS FROM t WHERE Field = 'a'", "SHOW", FREE),
    ("HELP 'x'", "HELP", FREE),
    # transactions
    ("BEGIN", "BEGIN", FREE),
    ("BEGIN WORK", "BEGIN", FREE),
    ("START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT", "START TRANSACTION", FREE),
    ("COMMIT AND CHAIN NO RELEASE", "COMMIT", FREE),
    ("COMMIT WORK", "COMMIT", FREE),
    ("ROLLBACK AND NO CHAIN", "ROLLBACK", FREE),
    ("ROLLBACK WORK TO SAVEPOINT a", "ROLLBACK TO", FREE),
    ("ROLLBACK TO a", "ROLLBACK TO", FREE),
    ("SAVEPOINT a", "SAVEPOINT", FREE),
    ("RELEASE SAVEPOINT a", "RELEASE SAVEPOINT", FREE),
    ("XA START 'x', 'y', 1", "XA START", FREE),
    ("XA BEGIN 'x'", "XA BEGIN", FREE),
    ("XA END 'x'", "XA END", FREE),
    ("XA COMMIT 'x' ONE PHASE", "XA COMMIT", FREE),
    ("XA ROLLBACK 'x'", "XA ROLLBACK", FREE),
    ("XA RECOVER CONVERT XID", "XA RECOVER", FREE),
    ("XA PREPARE 'x'", "XA PREPARE", "UNRESETTABLE XA PREPARE"),
    ("XA FORGET 'x'", "XA FORGET", "UNKNOWN_STATEMENT XA FORGET"),
    ("COMMIT RELEASE", "COMMIT", "UNRESETTABLE COMMIT RELEASE"),
    ("ROLLBACK AND NO CHAIN RELEASE", "ROLLBACK", "UNRESETTABLE ROLLBACK RELEASE"),
    ("COMMIT LATER", "COMMIT", "UNKNOWN_STATEMENT COMMIT"),
    ("SET autocommit = 0", "SET", FREE),
    ("SET SESSION autocommit=1", "SET", FREE),
    ("SET @@session.autocommit := 1, @@LOCAL.AutoCommit = 0, `autocommit` = 1", "SET", FREE),
    ("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY", "SET TRANSACTION", FREE),
    ("SET GLOBAL TRANSACTION READ ONLY", "SET", FREE),
    ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET", "takes transaction_isolation"),
    ("SET LOCAL TRANSACTION READ ONLY", "SET", "takes transaction_read_only"),
    (
        "SET SESSION TRANSACTION READ WRITE, ISOLATION LEVEL READ COMMITTED",
        "SET",
        "takes transaction_isolation transaction_read_only",
    ),
    ("SET @@transaction_isolation = 'SERIALIZABLE', @@tx_read_only = 1", "SET", FREE),
    ("SET transaction_isolation = 'SERIALIZABLE'", "SET", "takes transaction_isolation"),
    ("SET @@session.tx_read_only = 1", "SET", "takes tx_read_only"),
    # settings
    ("SET sql_mode = ''", "SET", "takes sql_mode"),
    ("SET SESSION time_zone = '+00:00'", "SET", "takes time_zone"),
    ("SET @@sql_mode = '', @@session.time_zone = 'x', LOCAL a = 1", "SET", "takes sql_mode time_zone a"),
    ("SET autocommit = 1, sql_mode = ''", "SET", "takes sql_mode"),
    ("SET x = (SELECT 1, 2), autocommit = 1", "SET", "takes x"),
    ("SET GLOBAL a = 1, @@GLOBAL.b = 2, PERSIST c = 3, @@persist_only.d = 4", "SET", FREE),
    ("SET GLOBAL a = 1, b = 2, @c = 3, d = 4", "SET", "takes @c"),
    ("SET GLOBAL a = 1, SESSION b = 2, c = 3, GLOBAL d = 4, e = 5, LOCAL f = 6", "SET", "takes b c f"),
    ("SET GLOBAL a = 1, @@b = 2, @@session.c = 3, d = 4, NAMES x", "SET", f"takes b c {CHARSET[6:]}"),
    ("SET @@global.a = 1, b = 2", "SET", "takes b"),
    ("SET GLOBAL = 1, x = 2", "SET", "takes global x"),
    ("SET NAMES utf8mb4 COLLATE utf8mb4_bin", "SET", CHARSET),
    ("SET CHARACTER SET utf8mb4", "SET", CHARSET),
    ("SET CHARSET utf8mb4", "SET", CHARSET),
    ("SET CHAR SET DEFAULT, time_zone = 'x'", "SET", f"{CHARSET} time_zone"),
    ("SET collation_connection = x", "SET", "takes character_set_connection collation_connection"),
    ("SET @@session.character_set_connection = x", "SET", "takes character_set_connection collation_connection"),
    ("SET collation_database = x", "SET", "takes character_set_database collation_database"),
    ("SET character_set_server = x", "SET", "takes character_set_server collation_server"),
    ("SET character_set_results = NULL", "SET", "takes character_set_results"),
    (
        "SET `Sql_Mode` = '', @@`time_zone` = 'x', @@session.`wait_timeout` := 1",
        "SET",
        "takes sql_mode time_zone wait_timeout",
    ),
    ("SET x = CONCAT(@@x, ',y')", "SET", "takes x"),
    ("SET x = f(1), y = (SELECT @a := 2)", "SET", "UNKNOWN_ROUTINE f(), takes @a x y"),
    ("SET x", "SET", "SETTING SET"),
    ("SET `x-y` = 1", "SET", "SETTING SET"),
    ("SET hot.key_buffer_size = 1", "SET", "SETTING SET"),
    ("SET @@hot.key_buffer_size = 1", "SET", "SETTING SET"),
    ("SET SESSION validate_password.length = 1", "SET", "SETTING SET"),
    ("SET timestamp = 5", "SET", "SETTING SET timestamp"),
    ("SET @@session.Identity = 5, insert_id = 6", "SET", "SETTING SET identity, SETTING SET insert_id"),
    ("SET `last_insert_id` = 5, rand_seed1 = 6", "SET", "SETTING SET last_insert_id, SETTING SET rand_seed1"),
    ("SET pseudo_thread_id = 5, gtid_next = 'x'", "SET", "SETTING SET pseudo_thread_id, SETTING SET gtid_next"),
    ("SET server_id = 5, debug_sync = 'x'", "SET", "SETTING SET server_id, SETTING SET debug_sync"),
    ("SET session_track_gtids = OFF", "SET", "SETTING SET session_track_gtids"),
    ("SET resultset_metadata = NONE", "SET", "SETTING SET resultset_metadata"),
    ("SET sql_slave_skip_counter = 1", "SET", "SETTING SET sql_slave_skip_counter"),
    ("SET GLOBAL sql_slave_skip_counter = 1", "SET", FREE),
    ("SET optimizer_trace = 'enabled=on'", "SET", "SETTING SET optimizer_trace"),
    (
        "SET profiling_history_size = 5",
        "SET",
        "SETTING SET profiling_history_size, UNRESETTABLE SET profiling_history_size",
    ),
    ("SET GLOBAL timestamp = 5, @@global.server_id = 6", "SET", FREE),
    ("SET ROLE admin", "SET", "takes role"),
    ("SET ROLE ALL EXCEPT 'a'@'%'", "SET", "takes role"),
    ("SET role = 1", "SET", "takes role"),
    ("SET DEFAULT ROLE admin TO app", "SET", FREE),
    ("SET PASSWORD FOR 'app'@'%' = 'x'", "SET", FREE),
    ("SET PASSWORD = PASSWORD('x')", "SET", FREE),
    ("SET RESOURCE GROUP batch", "SET", "UNRESETTABLE SET RESOURCE GROUP"),
    ("SET RESOURCE GROUP batch FOR 5", "SET", FREE),
    (
        "SET SESSION AUTHORIZATION app",
        "SET",
        "SETTING SET SESSION AUTHORIZATION, UNRESETTABLE SET SESSION AUTHORIZATION",
    ),
    ("SET profiling = 1", "SET", "SETTING SET profiling, UNRESETTABLE SET profiling"),
    ("SET STATEMENT max_statement_time=5 FOR SELECT 1", "SELECT", FREE),
    ("SET STATEMENT a=(1), b=2 FOR SET c = 3", "SET", "takes c"),
    ("SET STATEMENT a=f(1) FOR SELECT g(2)", "SELECT", "UNKNOWN_ROUTINE f(), UNKNOWN_ROUTINE g()"),
    ("SET STATEMENT rand_seed1=5 FOR SELECT 1", "SELECT", "SETTING SET STATEMENT"),
    ("SET STATEMENT a=1 FOR SET STATEMENT b=2 FOR SELECT 1", "SET", "UNKNOWN_STATEMENT SET STATEMENT"),
    ("SET STATEMENT a=1", "?", "UNKNOWN_STATEMENT ?"),
    ("SET", "SET", "SETTING SET"),
    ("USE app", "USE", "takes schema"),
    # user variables
    ("SET @a = 1", "SET", "takes @a"),
    ("SET @A$.b = 1, @`C` = 2, @_ = 3", "SET", "takes @a$.b @c @_"),
    ("SET @`a b` = 1, @é = 2", "SET", "USER_VARIABLE SET @"),
    ("SET @'a' = 1", "SET", "USER_VARIABLE SET @"),
    ("SET @1 = 1", "SET", "USER_VARIABLE SET @"),
    ("SET @a.5 = 1", "SET", "USER_VARIABLE SET @"),
    ("SET @a.5.b = 1", "SET", "USER_VARIABLE SET @"),
    ("SET @a + 1", "SET", "USER_VARIABLE SET @"),
    ("SELECT @a.5 := 1", "SELECT", "USER_VARIABLE :="),
    ("SELECT @1.b := 2, @a.1e5.c := 3", "SELECT", "USER_VARIABLE :="),
    ("UPDATE t SET a = @b, c := 1, d := @e", "UPDATE", FREE),
    ("SELECT 1, 2 INTO @a.5, @b", "SELECT", "USER_VARIABLE INTO @"),
    ("SET @a = 1, @b := 2, sql_mode = ''", "SET", "takes @b @a sql_mode"),
    ("SET autocommit = (@a := 1)", "SET", "takes @a"),
    ("SELECT @a := 1, @`b` := 2, @'c' := 3", "SELECT", "USER_VARIABLE :=, takes @a @b"),
    ("UPDATE t SET a = (@n := @n + 1)", "UPDATE", "takes @n"),
    ("UPDATE t SET a := 1", "UPDATE", FREE),
    ("SELECT 1, 2 INTO @a, @b", "SELECT", "takes @a @b"),
    ("SELECT 1, 2 INTO a, @b", "SELECT", "takes @b"),
    ("SELECT 1e5INTO @a", "SELECT", "takes @a"),
    ("TABLE t INTO @a", "TABLE", "takes @a"),
    ("EXPLAIN FORMAT=JSON INTO @a SELECT 1", "EXPLAIN", "takes @a"),
    ("LOAD DATA INFILE '/x' INTO TABLE t (a, @b) SET c = @b", "LOAD DATA", "takes @b"),
    ("GET DIAGNOSTICS @a = NUMBER", "GET DIAGNOSTICS", "takes @a"),
    ("GET STACKED DIAGNOSTICS CONDITION 1 a = MESSAGE_TEXT", "GET DIAGNOSTICS", FREE),
    ("ALTER TABLE t ADD a INT DEFAULT (@a := 1)", "ALTER TABLE", "takes @a"),
    # locks
    ("SELECT GET_LOCK('a', 1)", "SELECT", "NAMED_LOCK get_lock()"),
    ("DO get_lock ('a', 1)", "DO", "NAMED_LOCK get_lock()"),
    ("SELECT service_get_write_locks('a', 'b', 1)", "SELECT", "NAMED_LOCK service_get_write_locks()"),
    ("SELECT `get_lock`('a', 1)", "SELECT", "UNKNOWN_ROUTINE get_lock(), NAMED_LOCK get_lock()"),
    ("LOCK TABLES t READ, u WRITE", "LOCK TABLES", "TABLE_LOCK LOCK TABLES"),
    ("LOCK INSTANCE FOR BACKUP", "LOCK INSTANCE", "TABLE_LOCK LOCK INSTANCE"),
    ("LOCK BINLOG FOR BACKUP", "LOCK BINLOG", "TABLE_LOCK LOCK BINLOG"),
    ("UNLOCK TABLES", "UNLOCK", FREE),
    ("UNLOCK INSTANCE", "UNLOCK", FREE),
    ("FLUSH TABLES", "FLUSH", FREE),
    ("FLUSH LOCAL TABLES t WITH READ LOCK", "FLUSH", "TABLE_LOCK FLUSH TABLES WITH READ LOCK"),
    ("FLUSH TABLES t FOR EXPORT", "FLUSH", "TABLE_LOCK FLUSH TABLES FOR EXPORT"),
    ("BACKUP STAGE START", "BACKUP STAGE", "TABLE_LOCK BACKUP STAGE"),
    ("BACKUP STAGE END", "BACKUP STAGE", FREE),
    ("BACKUP LOCK t", "BACKUP LOCK", "TABLE_LOCK BACKUP LOCK"),
    ("BACKUP UNLOCK", "BACKUP UNLOCK", FREE),
    ("BACKUP SERVER", "BACKUP SERVER", "UNKNOWN_STATEMENT BACKUP SERVER"),
    # the rest of the pin table
    ("CREATE TEMPORARY TABLE t (a VARCHAR(10))", "CREATE TABLE", "TEMP_TABLE CREATE TEMPORARY TABLE"),
    ("CREATE OR REPLACE TEMPORARY TABLE t AS SELECT 1", "CREATE TABLE", "TEMP_TABLE CREATE TEMPORARY TABLE"),
    ("CREATE TEMPORARY SEQUENCE s", "CREATE SEQUENCE", "TEMP_TABLE CREATE TEMPORARY SEQUENCE"),
    ("CREATE TABLE temporary (a INT)", "CREATE TABLE", FREE),
    ("DROP TEMPORARY TABLE t", "DROP TABLE", FREE),
    ("PREPARE s FROM 'SELECT 1'", "PREPARE", "PREPARED_STATEMENT PREPARE"),
    ("EXECUTE s USING @a, @`b c`", "EXECUTE", "PREPARED_STATEMENT EXECUTE, USER_VARIABLE EXECUTE … (@), takes @a"),
    (
        "EXECUTE IMMEDIATE 'SELECT 1'",
        "EXECUTE IMMEDIATE",
        "UNKNOWN_ROUTINE EXECUTE IMMEDIATE, PREPARED_STATEMENT EXECUTE IMMEDIATE",
    ),
    ("DEALLOCATE PREPARE s", "DEALLOCATE PREPARE", FREE),
    ("DROP PREPARE s", "DEALLOCATE PREPARE", FREE),
    ("HANDLER t OPEN", "HANDLER", "HOLD_CURSOR HANDLER"),
    ("HANDLER t READ FIRST WHERE f(1)", "HANDLER", "HOLD_CURSOR HANDLER, UNKNOWN_ROUTINE f()"),
    ("HANDLER t CLOSE", "HANDLER", FREE),
    ("SELECT SQL_CALC_FOUND_ROWS a FROM t LIMIT 1", "SELECT", FREE),
    # routines
    ("CALL p(1)", "CALL", "UNKNOWN_ROUTINE CALL p"),
    ("CALL `app`.`p`", "CALL", "UNKNOWN_ROUTINE CALL app.p"),
    ("CALL p(@a, f(1))", "CALL", "UNKNOWN_ROUTINE CALL p, UNKNOWN_ROUTINE f(), takes @a"),
    ("SELECT f(1), app.g(2), `h`(3)", "SELECT", "UNKNOWN_ROUTINE f(), UNKNOWN_ROUTINE app.g(), UNKNOWN_ROUTINE h()"),
    (
        "SELECT COUNT (*), NOW (), RANK (1)",
        "SELECT",
        "UNKNOWN_ROUTINE count(), UNKNOWN_ROUTINE now(), UNKNOWN_ROUTINE rank()",
    ),
    ("SELECT CONCAT ('a', 'b'), ABS (1)", "SELECT", FREE),
    ("SELECT COUNT/**/(1)", "SELECT", "UNKNOWN_ROUTINE count()"),
    ("SELECT `lower`(a), sys.lower(b)", "SELECT", "UNKNOWN_ROUTINE lower(), UNKNOWN_ROUTINE sys.lower()"),
    ("SELECT {fn f(1)}", "SELECT", "UNKNOWN_ROUTINE f()"),
    ("SELECT t.1e5f(1), t.5(1)", "SELECT", "UNKNOWN_ROUTINE f(), UNKNOWN_STATEMENT ?("),
    ("SELECT 1f(1), $f(1), é(1)", "SELECT", "UNKNOWN_ROUTINE 1f(), UNKNOWN_ROUTINE $f(), UNKNOWN_ROUTINE é()"),
    ("SELECT 'x'(1)", "SELECT", "UNKNOWN_STATEMENT ?("),
    ("SELECT 1 + json_table(1), lateral(2)", "SELECT", "UNKNOWN_ROUTINE json_table(), UNKNOWN_ROUTINE lateral()"),
    ("SELECT a FROM t WHERE b LIKE BINARY f(1) ESCAPE g(2)", "SELECT", "UNKNOWN_ROUTINE f(), UNKNOWN_ROUTINE g()"),
    ("SELECT 1 FROM t FOR SYSTEM_TIME AS OF f(1)", "SELECT", "UNKNOWN_ROUTINE f()"),
    ("INSERT INTO t (a) VALUES (f(1))", "INSERT", "UNKNOWN_ROUTINE f()"),
    ("EXPLAIN SELECT f(1)", "EXPLAIN", "UNKNOWN_ROUTINE f()"),
    ("SHOW TABLES WHERE f(1)", "SHOW", "UNKNOWN_ROUTINE f()"),
    ("KILL f(1)", "KILL", "UNKNOWN_ROUTINE f()"),
    ("PURGE BINARY LOGS BEFORE f(1)", "PURGE BINARY LOGS", "UNKNOWN_ROUTINE f()"),
    ("LOAD DATA INFILE '/x' INTO TABLE t SET a = f(1)", "LOAD DATA", "UNKNOWN_ROUTINE f()"),
    ("SET GLOBAL a = f(1)", "SET", "UNKNOWN_ROUTINE f()"),
    ("BEGIN NOT ATOMIC SELECT 1", "BEGIN", "UNKNOWN_ROUTINE BEGIN …"),
    ("BEGIN SELECT 1", "BEGIN", "UNKNOWN_ROUTINE BEGIN …"),
    # definitions
    (
        "CREATE TABLE IF NOT EXISTS `t` (`id` BIGINT AUTO_INCREMENT, `a` VARCHAR(10) DEFAULT (f(1)), b DECIMAL(10, 2),"
        " PRIMARY KEY (`id`), UNIQUE KEY `u` (`a`), INDEX i (b), CONSTRAINT c FOREIGN KEY (a) REFERENCES u (b),"
        " CHECK (b > 1))"
        " PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
        "CREATE TABLE",
        FREE,
    ),
    ("CREATE TABLE t AS SELECT f(1)", "CREATE TABLE", "UNKNOWN_ROUTINE f()"),
    ("CREATE TABLE t (SELECT GET_LOCK('a', 1) AS b)", "CREATE TABLE", "NAMED_LOCK get_lock()"),
    ("CREATE TABLE t AS WITH x (a) AS (SELECT f(1)) SELECT a FROM x", "CREATE TABLE", "UNKNOWN_ROUTINE f()"),
    ("CREATE TABLE t AS VALUES ROW(f(1))", "CREATE TABLE", "UNKNOWN_ROUTINE f()"),
    ("CREATE TABLE t (a INT DEFAULT (@a := 1))", "CREATE TABLE", "takes @a"),
    ("CREATE TABLE t LIKE u", "CREATE TABLE", FREE),
    ("ALTER TABLE t ADD COLUMN a VARCHAR(5), ADD INDEX i (a), DROP PRIMARY KEY", "ALTER TABLE", FREE),
    ("CREATE UNIQUE INDEX i ON t (a(10), (lower(b)))", "CREATE INDEX", FREE),
    (
        "CREATE ALGORITHM = MERGE DEFINER = app@localhost SQL SECURITY INVOKER VIEW v AS SELECT f(1)",
        "CREATE VIEW",
        FREE,
    ),
    ("CREATE DEFINER = CURRENT_USER() PROCEDURE p() SET @a = 1", "CREATE PROCEDURE", FREE),
    ("CREATE DEFINER='root'@'%' TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @a = f(1)", "CREATE TRIGGER", FREE),
    ("CREATE AGGREGATE FUNCTION f RETURNS STRING SONAME 'x'", "CREATE AGGREGATE FUNCTION", FREE),
    ("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO CALL p()", "CREATE EVENT", FREE),
    ("CREATE EVENT e ON SCHEDULE AT f(1) DO SET @a = 1", "CREATE EVENT", "UNKNOWN_ROUTINE f()"),
    ("ALTER EVENT e ON SCHEDULE EVERY f(1) HOUR", "ALTER EVENT", "UNKNOWN_ROUTINE f()"),
    ("ALTER EVENT e DISABLE", "ALTER EVENT", FREE),
    ("DROP TABLE IF EXISTS t, u", "DROP TABLE", FREE),
    ("CREATE DATABASE x CHARACTER SET utf8mb4", "CREATE DATABASE", FREE),
    ("CREATE SPATIAL REFERENCE SYSTEM 5 NAME 'x' DEFINITION 'y'", "CREATE SPATIAL REFERENCE SYSTEM", FREE),
    ("ALTER INSTANCE ROTATE INNODB MASTER KEY", "ALTER INSTANCE", FREE),
    ("CREATE UNDO TABLESPACE x ADD DATAFILE 'y'", "CREATE UNDO TABLESPACE", FREE),
    ("CREATE FLUX x", "CREATE", "UNKNOWN_STATEMENT CREATE FLUX"),
    # administration
    ("GRANT SELECT (a, b), INSERT (a) ON t TO 'app'@'%'", "GRANT", FREE),
    ("REVOKE ALL PRIVILEGES ON t FROM app", "REVOKE", FREE),
    ("CREATE USER 'u'@'%' IDENTIFIED BY 'x'", "CREATE USER", FREE),
    ("RENAME TABLE a TO b", "RENAME", FREE),
    ("TRUNCATE t", "TRUNCATE TABLE", FREE),
    ("ANALYZE TABLE t", "ANALYZE TABLE", FREE),
    ("ANALYZE NO_WRITE_TO_BINLOG TABLE t PERSISTENT FOR COLUMNS (a) INDEXES (i)", "ANALYZE TABLE", FREE),
    ("OPTIMIZE TABLE t", "OPTIMIZE TABLE", FREE),
    ("KILL QUERY 5", "KILL", FREE),
    ("FLUSH PRIVILEGES", "FLUSH", FREE),
    ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'x'", "SIGNAL", FREE),
    ("LOAD INDEX INTO CACHE t", "LOAD INDEX", FREE),
    ("START REPLICA", "START REPLICA", FREE),
    ("STOP SLAVE", "STOP", FREE),
    ("CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'x'", "CHANGE", FREE),
    ("INSTALL PLUGIN x SONAME 'y'", "INSTALL", FREE),
    ("BINLOG 'x'", "BINLOG", "UNKNOWN_STATEMENT BINLOG"),
    # what is not known
    ("FROBNICATE x", "FROBNICATE", "UNKNOWN_STATEMENT FROBNICATE"),
    ("START ENGINES", "START ENGINES", "UNKNOWN_STATEMENT START ENGINES"),
    ("LOAD TABLE x", "LOAD TABLE", "UNKNOWN_STATEMENT LOAD TABLE"),
    ("GET x", "GET", "UNKNOWN_STATEMENT GET"),
    ("'SET x'", "?", "UNKNOWN_STATEMENT ?"),
    ("(DELETE FROM t)", "(", "UNKNOWN_STATEMENT ("),
    ("IF 1 THEN SELECT 2", "IF", "UNKNOWN_STATEMENT IF"),
    # two readings of one text
    ("SELECT 'a", "SELECT", "UNKNOWN_STATEMENT a text that can be read in two ways"),
    ("SELECT 1 /* a", "SELECT", "UNKNOWN_STATEMENT a text that can be read in two ways"),
    ("SELECT 1 \0", "SELECT", "UNKNOWN_STATEMENT a text that can be read in two ways"),
    ("SELECT \\N", "SELECT", "UNKNOWN_STATEMENT an unexpected character"),
    ("SELECT 1 INTO\xa0@a", "SELECT", "UNKNOWN_STATEMENT a character that may be a blank"),
    ("\ufeffSELECT 1", "?", "UNKNOWN_STATEMENT ?, UNKNOWN_STATEMENT a character that may be a blank"),
    # executable comments: run, and not run
    ("SELECT 1 /*!50003 + 1 */", "SELECT", FREE),
    ("SELECT /*! SQL_CALC_FOUND_ROWS */ 1", "SELECT", FREE),
    ("SELECT 1 INTO /*!99999 OUTFILE */ @a", "SELECT", "takes @a"),
    ("/*!40101 SET NAMES utf8 */", "SET", CHARSET),
    ("/*M!100100 SET @a = 1 */", "SET", "takes @a"),
    ("/*!50003 COMMIT */", "COMMIT", "UNKNOWN_STATEMENT an executable comment"),
    ("/*!50003 SELECT */ SET @a = 1", "SELECT", "UNKNOWN_STATEMENT an executable comment, takes @a"),
    ("SELECT COUNT/*!50003 */(1)", "SELECT", "UNKNOWN_ROUTINE count()"),
    ("SELECT /*!50003 1 */ /*!80000 + 2 */", "SELECT", "UNKNOWN_STATEMENT executable comments of several versions"),
    ("SELECT /*!50003 1 + */ 2 /*!50003 + 3 */", "SELECT", FREE),
    ("SELECT 2 */ 1", "SELECT", FREE),
    ("SELECT /*! 1 + */ 2 */ 1", "SELECT", FREE),
    ("SELECT /*! 'a' */ 1", "SELECT", "UNKNOWN_STATEMENT a text that can be read in two ways"),
]


@pytest.mark.parametrize(("text", "verb", "expected"), ROWS, ids=[json.dumps(row[0])[:80] for row in ROWS])
def test_statement(text: str, verb: str, expected: str) -> None:
    """The verb, and everything that pins."""
    statement = classify_filled(text)
    assert [part.verb for part in statement.parts] == [verb]
    assert causes(text) == expected
    assert not (statement.causes and statement.reads_only)


# What the three usual generators write: nothing of it pins.
EVERYDAY = [
    # Django
    "SELECT `app_item`.`id`, `app_item`.`name` FROM `app_item` WHERE `app_item`.`id` = 1 LIMIT 21",
    "SELECT COUNT(*) AS `__count` FROM `app_item`",
    "SELECT COUNT(*) FROM (SELECT DISTINCT `app_item`.`id` AS `col1` FROM `app_item`) subquery",
    "SELECT (1) AS `a` FROM `app_item` WHERE `app_item`.`id` IN (1, 2, 3) LIMIT 1",
    "SELECT 1 AS `a` FROM `auth_user` WHERE NOT (`auth_user`.`id` = 3 AND `auth_user`.`name` LIKE BINARY '%x%')",
    "INSERT INTO `app_item` (`name`, `price`, `created`) VALUES ('it''s', '1.50', '2024-01-01'), ('b', NULL, NULL)",
    "INSERT INTO `app_item` (`name`) VALUES ('a') RETURNING `app_item`.`id`",
    "INSERT IGNORE INTO `app_item_tags` (`item_id`, `tag_id`) VALUES (1, 2), (1, 3)",
    "INSERT INTO `t` (`a`, `b`) VALUES (1, 2) AS new ON DUPLICATE KEY UPDATE `b` = new.`b`",
    "INSERT INTO `t` (`a`, `b`) VALUES (1, 2) ON DUPLICATE KEY UPDATE `b` = VALUES(`b`)",
    "UPDATE `app_item` SET `name` = 'x', `count` = (`app_item`.`count` + 1) WHERE `app_item`.`id` = 1",
    "UPDATE `t` SET `a` = CASE WHEN (`t`.`id` = 1) THEN CAST('x' AS char(10)) ELSE NULL END WHERE `t`.`id` IN (1)",
    "DELETE FROM `django_session` WHERE `django_session`.`session_key` IN ('abc')",
    "SELECT DATE_FORMAT(CONVERT_TZ(`t`.`d`, 'UTC', 'Europe/Berlin'), '%Y-%m-01'), EXTRACT(YEAR FROM `t`.`d`) FROM `t`",
    "SELECT CAST(DATE_FORMAT(`t`.`d`, '%Y-01-01') AS DATE) AS `year`, SUM(`t`.`a`) FROM `t` GROUP BY 1 ORDER BY NULL",
    "SELECT JSON_UNQUOTE(JSON_EXTRACT(`t`.`j`, '$.\"a\"')) FROM `t` WHERE JSON_CONTAINS(`t`.`j`, '1', '$.b')",
    "SELECT `t`.`a`, ROW_NUMBER() OVER (PARTITION BY `t`.`b` ORDER BY `t`.`c` DESC) AS `n` FROM `t`",
    "SELECT `t`.`id` FROM `t` WHERE `t`.`d` < (NOW() - INTERVAL '1 00:00:00' DAY_SECOND) FOR UPDATE SKIP LOCKED",
    "SELECT CONCAT_WS('', `t`.`a`, COALESCE(`t`.`b`, '')), GREATEST(`t`.`x`, 1), SUBSTRING(`t`.`a`, 1, 3) FROM `t`",
    "SELECT `t`.`id` FROM `t` WHERE EXISTS(SELECT 1 AS `a` FROM `u` U0 WHERE U0.`t_id` = (`t`.`id`) LIMIT 1)",
    "(SELECT `a`.`id` AS `col1` FROM `a`) UNION ALL (SELECT `b`.`id` AS `col1` FROM `b`) LIMIT 10",
    "SELECT VERSION(), @@sql_mode, @@default_storage_engine, @@sql_auto_is_null, @@lower_case_table_names,"
    " CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL",
    "SAVEPOINT `s140_x1`",
    "RELEASE SAVEPOINT `s140_x1`",
    "ROLLBACK TO SAVEPOINT `s140_x1`",
    "SELECT engine FROM information_schema.tables WHERE table_name = 'x' AND table_schema = DATABASE()",
    "CREATE TABLE `app_item` (`id` bigint AUTO_INCREMENT NOT NULL PRIMARY KEY, `name` varchar(100) NOT NULL UNIQUE,"
    " `price` numeric(10, 2) NOT NULL CHECK (`price` >= 0), `d` datetime(6) NOT NULL, `j` json NOT NULL)",
    "ALTER TABLE `a` ADD CONSTRAINT `fk` FOREIGN KEY (`b_id`) REFERENCES `b` (`id`)",
    "CREATE INDEX `i` ON `app_item` (`name`, `price` DESC)",
    "SHOW FULL TABLES",
    # SQLAlchemy
    "SELECT items.id AS items_id, items.name AS items_name FROM items WHERE items.id = 1",
    "SELECT items.id, items.name \nFROM items \nWHERE items.id IN (1, 2, 3) ORDER BY items.name \n LIMIT 0, 5",
    "SELECT count(*) AS count_1 \nFROM (SELECT items.id AS items_id \nFROM items) AS anon_1",
    "SELECT count(items.id) AS count_1, max(items.price) AS max_1 FROM items GROUP BY items.name HAVING count(*) > 1",
    "SELECT a.id FROM a LEFT OUTER JOIN b AS b_1 ON a.id = b_1.a_id INNER JOIN c ON (c.id = a.c_id) FOR UPDATE",
    "SELECT lower(a.x), concat(a.x, '-', a.y), coalesce(a.z, 0), now(), CAST(a.d AS DATE), a.j->>'$.k' FROM a",
    "INSERT INTO items (name, price) VALUES ('a', 1.5)",
    "INSERT INTO items (name) VALUES ('a') ON DUPLICATE KEY UPDATE name = VALUES(name), price = (items.price + 1)",
    "UPDATE items SET price=(items.price * 2) WHERE items.id = 1",
    "DELETE FROM items WHERE items.id = 1",
    "WITH anon (id, parent) AS (SELECT x.id AS id, x.parent AS parent FROM x UNION ALL SELECT 1, 2)"
    " SELECT anon.id FROM anon",
    "WITH RECURSIVE tree(id) AS \n(SELECT 1 UNION ALL SELECT t.id FROM t JOIN tree ON t.parent = tree.id)\n "
    "SELECT tree.id FROM tree",
    "SELECT DATABASE()",
    "SELECT @@tx_isolation",
    "SELECT @@transaction_isolation",
    "SHOW VARIABLES LIKE 'sql_mode'",
    "select now(), current_timestamp(6), utc_timestamp(), curdate()",
    "DESCRIBE `app`.`items`",
    "SHOW CREATE TABLE `items`",
    "CREATE TABLE items (\n\tid INTEGER NOT NULL AUTO_INCREMENT, \n\tname VARCHAR(50), \n\tPRIMARY KEY (id), "
    "\n\tUNIQUE (name)\n)\n\n",
    "SELECT substring(a, 1, 2), extract(year FROM d) AS y, if(a = 1, 'x', 'y'), group_concat(a SEPARATOR ',') FROM t",
    "ROLLBACK",
    "COMMIT",
    "/* SQLAlchemy:x */ SELECT 1 -- traceparent='00-x'",
    # peewee
    "SELECT `t1`.`id`, `t1`.`name` FROM `item` AS `t1` WHERE (`t1`.`name` = 'x') LIMIT 1 OFFSET 0",
    "SELECT COUNT(1) FROM (SELECT 1 FROM `item` AS `t1`) AS `_wrapped`",
    "SELECT `t1`.`id` FROM `item` AS `t1` WHERE ((`t1`.`id` IN (1, 2)) AND (`t1`.`name` LIKE '%a%'))",
    "INSERT INTO `item` (`name`, `price`) VALUES ('a', 1), ('b', 2)",
    "INSERT IGNORE INTO `item` (`id`) VALUES (1)",
    "REPLACE INTO `item` (`id`, `name`) VALUES (1, 'x')",
    "UPDATE `item` SET `n` = (`item`.`n` + 1) WHERE (`item`.`id` = 1)",
    "DELETE FROM `item` WHERE (`item`.`id` = 1)",
    "SELECT fn.a FROM (SELECT SUM(`t1`.`x`) AS a FROM `t` AS `t1` GROUP BY `t1`.`y`) AS fn",
    "CREATE TABLE IF NOT EXISTS `item` (`id` INTEGER AUTO_INCREMENT NOT NULL PRIMARY KEY, `name` VARCHAR(255))",
    "CREATE UNIQUE INDEX `item_name` ON `item` (`name`)",
    "SELECT `t1`.`id` FROM `t` AS `t1` INNER JOIN `u` AS `t2` ON (`t1`.`id` = `t2`.`t_id`) ORDER BY RAND()",
    # by hand
    "select `order`, `key`, `values`, `group` from `select` where `from`='x'",
    "INSERT INTO audit VALUES (1, UUID(), NOW(6), 'x'), (2, UUID(), NOW(6), 'y')",
    "SELECT name, date, type, status FROM events WHERE date >= '2020-01-01' AND type IN ('a') ORDER BY date DESC",
    "SELECT end, begin FROM events WHERE end > 5",
    "UPDATE events SET end = 5, language = 'de', value = 3 WHERE id = 1",
]


@pytest.mark.parametrize("text", EVERYDAY)
def test_everyday_sql_does_not_pin(text: str) -> None:
    """Neither with the server known nor without."""
    for dialect in (Dialect.MYSQL, MYSQL, MARIADB):
        assert causes(text, dialect) == ""


# Several statements -------------------------------------------------------------------------------------------

TEXTS = [
    ("SELECT 1; SET x = 1;", ["SELECT", "SET"], "takes x"),
    ("SELECT ';', \";\", `;` /* ; */ -- ;\n; BEGIN", ["SELECT", "BEGIN"], FREE),
    ("SELECT (1; SET @a = 1", ["SELECT", "SET"], "takes @a"),
    ("SELECT 1; ; /*! SET @a = 1 */; SELECT 2", ["SELECT", "SET", "SELECT"], "takes @a"),
    # bodies: stored, not run
    (
        "CREATE PROCEDURE p() COMMENT 'x' BEGIN DECLARE EXIT HANDLER FOR NOT FOUND BEGIN END; SET @a = 1;"
        " IF x THEN SELECT 1; END IF; l: LOOP LEAVE l; END LOOP l; WHILE y DO BEGIN SELECT 1; END; END WHILE;"
        " CASE z WHEN 1 THEN SELECT 2; END CASE; SELECT CASE WHEN 1 THEN 2 END; END; SELECT 1",
        ["CREATE PROCEDURE", "SELECT"],
        FREE,
    ),
    ("CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW BEGIN SET NEW.a = 1; END", ["CREATE TRIGGER"], FREE),
    ("CREATE FUNCTION f() RETURNS INT RETURN 1; SET @a = 1", ["CREATE FUNCTION", "SET"], "takes @a"),
    ("ALTER EVENT e DO BEGIN SET @a = 1; END", ["ALTER EVENT"], FREE),
    (
        "CREATE PROCEDURE p() BEGIN END; SET @a = 1; SELECT end",
        ["CREATE PROCEDURE", "SET", "SELECT"],
        "takes @a",
    ),
    # a body that can be misread pins
    (
        "CREATE PROCEDURE p() BEGIN SELECT begin FROM t; END; SET @a = 1; SELECT end FROM t",
        ["CREATE PROCEDURE"],
        "UNKNOWN_STATEMENT a routine's body whose end is not clear",
    ),
    (
        "CREATE PROCEDURE p() BEGIN SELECT end FROM t; SET @a = 1; END",
        ["CREATE PROCEDURE", "SET", "END"],
        "UNKNOWN_STATEMENT a routine's body whose end is not clear, UNKNOWN_STATEMENT END, takes @a",
    ),
    (
        "CREATE PROCEDURE p() BEGIN SELECT 1; SET @a = 1",
        ["CREATE PROCEDURE"],
        "UNKNOWN_STATEMENT a routine's body whose end is not clear",
    ),
    # no body, whatever it looks like
    ("CREATE TABLE event (begin INT); SET @a = 1", ["CREATE TABLE", "SET"], "takes @a"),
    ("DROP PROCEDURE begin; SET @a = 1", ["DROP PROCEDURE", "SET"], "takes @a"),
    ("BEGIN; SET @a = 1; END", ["BEGIN", "SET", "END"], "UNKNOWN_STATEMENT END, takes @a"),
    (
        "BEGIN NOT ATOMIC SET @a = 1; SET @b = 2; END",
        ["BEGIN", "SET", "END"],
        "UNKNOWN_ROUTINE BEGIN …, UNKNOWN_STATEMENT END, takes @b",
    ),
]


@pytest.mark.parametrize(("text", "verbs", "expected"), TEXTS, ids=[json.dumps(row[0])[:60] for row in TEXTS])
def test_statements_of_a_text(text: str, verbs: list[str], expected: str) -> None:
    """A semicolon ends a statement where the server says so, and nowhere hides one."""
    assert [part.verb for part in classify_filled(text).parts] == verbs
    assert causes(text) == expected


def test_quotes_mean_what_the_mode_says() -> None:
    """What is a string in one mode is a name, or the end of a string, in another."""
    text = "SELECT 'a\\'; SET @a = 1; -- '"
    assert causes(text) == ""
    assert causes(text, Dialect.mysql("NO_BACKSLASH_ESCAPES")) == "takes @a"
    text = "SELECT \"f\"(1), 'x'"
    assert causes(text, Dialect.mysql("ansi_quotes")) == "UNKNOWN_ROUTINE f()"
    assert causes(text) == "UNKNOWN_STATEMENT ?("


# The other answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH x AS (SELECT 1) SELECT now(), rand(), uuid(), sleep(1) FROM x",
        "VALUES ROW(1)",
        "TABLE t",
        "SHOW TABLES",
        "SHOW CREATE PROCEDURE p",
        "DESC t",
        "EXPLAIN SELECT 1",
        "ANALYZE SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT @a, @@sql_mode",
        "SELECT @a := 1",
        "SELECT SQL_CALC_FOUND_ROWS 1",
        "/*!50003 SELECT 1 */",
        "USE app",
        "SET sql_mode = '', @a = 1",
        "SET @a = @a + 1",
        "SET NAMES latin1",
        "SET ROLE admin",
        "SET SESSION TRANSACTION READ ONLY",
        "/*!40101 SET NAMES latin1 */",
    ],
)
def test_only_reads(text: str) -> None:
    """May be sent twice, or to a replica."""
    assert classify_filled(text).reads_only


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (1)",
        "SELECT 1; DELETE FROM t",
        "SELECT 1 FROM t FOR UPDATE",
        "SELECT 1 FROM t FOR SHARE",
        "SELECT 1 FROM t LOCK IN SHARE MODE",
        "SELECT 1 INTO OUTFILE '/x'",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "SELECT 1 FROM t PROCEDURE ANALYSE()",
        "SELECT LAST_INSERT_ID()",
        "SELECT LAST_INSERT_ID(5)",
        "SELECT RELEASE_LOCK('a')",
        "SELECT GET_LOCK('a', 1)",
        "SELECT ROW_COUNT()",
        "SELECT NEXT VALUE FOR s",
        "SELECT @@identity",
        "SHOW WARNINGS",
        "SELECT f(1)",
        "BEGIN",
        "SET autocommit = 1",
        "SET sql_mode = '', autocommit = 1",
        "SET STATEMENT a=1 FOR SELECT 1",
        "SET GLOBAL a = 1",
        "SET a = 1, @@global.b = 2",
        "SET TRANSACTION READ ONLY",
        "SET @@transaction_isolation = 'SERIALIZABLE'",
        "SET PASSWORD = 'x'",
        "SET DEFAULT ROLE a TO b",
        "SET RESOURCE GROUP batch FOR 5",
        "SET @a = (SELECT 1 FROM t FOR UPDATE)",
        "SET @a = NEXT VALUE FOR s",
        "SET @a = @@identity",
        "SET timestamp = 5",
        "SELECT 1 INTO @a",
        "DROP TABLE t",
        "DEALLOCATE PREPARE s",
        "SELECT /*! 1 INTO OUTFILE */ 2",
        "FROBNICATE",
    ],
)
def test_may_change_something(text: str) -> None:
    """May not: it writes, locks, or its answer depends on where it runs."""
    assert not classify_filled(text).reads_only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT LAST_INSERT_ID(), @@identity", False),
        ("SELECT ROW_COUNT(), FOUND_ROWS()", True),
        ("SHOW WARNINGS LIMIT 1", True),
        ("SHOW ERRORS", True),
        ("SHOW COUNT(*) WARNINGS", True),
        ("GET CURRENT DIAGNOSTICS a = NUMBER", True),
        ("SELECT @@last_gtid", True),
        ("SELECT @@`warning_count`, 1", True),
        ("SELECT @@error_count", True),
        ("SELECT PREVIOUS VALUE FOR s", True),
        ("SELECT NEXT VALUE FOR s", False),
        ("SELECT LASTVAL(s)", True),
        ("SELECT NEXTVAL(s)", False),
        ("SELECT s.currval", True),
        ("SET STATEMENT a=1 FOR SELECT ROW_COUNT()", True),
        ("SELECT /*! ROW_COUNT() + */ 1", True),
        ("SELECT 1", False),
        ("SHOW TABLES", False),
        ("SELECT @identity, identity", False),
    ],
)
def test_questions_about_the_statement_before(text: str, expected: bool) -> None:
    """Their answer lies with the connection that ran it."""
    statement = classify_filled(text, MARIADB)
    assert statement.reads_diagnostics is expected
    assert not (expected and (statement.reads_only or statement.is_plain))


@pytest.mark.parametrize(
    ("text", "reads", "moves"),
    [
        ("SELECT LAST_INSERT_ID()", True, False),
        ("SELECT @@identity", True, False),
        ("SELECT @@SESSION.`last_insert_id`", True, False),
        ("SELECT @identity, identity", False, False),
        ("INSERT INTO t VALUES (LAST_INSERT_ID())", True, True),
        ("UPDATE t SET id = LAST_INSERT_ID(id + 1)", False, True),
        ("REPLACE INTO t VALUES (1)", False, True),
        ("LOAD DATA INFILE '/x' INTO TABLE t", False, True),
        ("CALL p()", False, True),
        ("UPDATE t SET a = 1", False, False),
        ("SELECT 1", False, False),
        ("SELECT /*! LAST_INSERT_ID() + LAST_INSERT_ID(5) + */ 1", True, True),
    ],
)
def test_insert_ids(text: str, reads: bool, moves: bool) -> None:
    """Which statements ask for the last one, and which may make another."""
    statement = classify_filled(text)
    assert (statement.reads_sequence, statement.moves_sequence) == (reads, moves)
    assert not (statement.reads_only and (reads or moves))


@pytest.mark.parametrize(
    ("text", "ends", "lingers"),
    [
        ("COMMIT", True, False),
        ("commit and chain", True, False),
        ("ROLLBACK WORK", True, False),
        ("ROLLBACK TO a", False, False),
        ("XA COMMIT 'x'", True, False),
        ("XA ROLLBACK 'x'", True, False),
        ("XA START 'x'", False, True),
        ("XA END 'x'", False, True),
        ("XA PREPARE 'x'", False, True),
        ("XA RECOVER", False, False),
        ("SAVEPOINT a", False, True),
        ("RELEASE SAVEPOINT a", False, False),
        ("SELECT 1; COMMIT; SELECT 2", True, False),
        ("EXPLAIN SELECT 1", False, False),
        ("BEGIN", False, False),
    ],
)
def test_transactions(text: str, ends: bool, lingers: bool) -> None:
    """What ends one, and what no status bit shows to be open."""
    statement = classify_filled(text)
    assert (statement.ends_transaction, statement.lingers) == (ends, lingers)


NOT_COMMITTING = [
    "SELECT f(1)",
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET a = 1",
    "DELETE FROM t",
    "REPLACE INTO t VALUES (1)",
    "WITH x AS (SELECT 1) SELECT 1",
    "VALUES ROW(1)",
    "TABLE t",
    "SHOW TABLES",
    "DESC t",
    "EXPLAIN UPDATE t SET a = 1",
    "DO 1",
    "HANDLER t READ FIRST",
    "SET @a = 1",
    "SET sql_mode = ''",
    "SET TRANSACTION READ ONLY",
    "SAVEPOINT a",
    "RELEASE SAVEPOINT a",
    "ROLLBACK",
    "ROLLBACK TO a",
    "XA ROLLBACK 'x'",
    "LOAD DATA INFILE '/x' INTO TABLE t",
    "HELP 'x'",
    "USE app",
    "KILL 5",
    "SIGNAL SQLSTATE '45000'",
    "GET DIAGNOSTICS @a = NUMBER",
    "",
]
COMMITTING = [
    "COMMIT",
    "BEGIN",
    "START TRANSACTION",
    "XA COMMIT 'x'",
    "XA PREPARE 'x'",
    "SET autocommit = 1",
    "SET SESSION sql_mode = '', autocommit = 1",
    "SET PASSWORD = 'x'",
    "SET DEFAULT ROLE a TO b",
    "CREATE TABLE t (a INT)",
    "ALTER TABLE t ADD a INT",
    "DROP TABLE t",
    "RENAME TABLE a TO b",
    "TRUNCATE t",
    "GRANT ALL ON *.* TO a",
    "CREATE USER a",
    "LOCK TABLES t READ",
    "UNLOCK TABLES",
    "ANALYZE TABLE t",
    "OPTIMIZE TABLE t",
    "FLUSH PRIVILEGES",
    "LOAD INDEX INTO CACHE t",
    "CACHE INDEX t IN c",
    "START REPLICA",
    "CALL p()",
    "EXECUTE s",
    "EXECUTE IMMEDIATE 'x'",
    "FROBNICATE",
    "SELECT 1; COMMIT",
    "SELECT 'a",
    "/*! COMMIT */",
    "SELECT /*! 1; COMMIT */",
    "BEGIN NOT ATOMIC SELECT 1",
]


@pytest.mark.parametrize("text", NOT_COMMITTING)
def test_makes_nothing_permanent(text: str) -> None:
    """What was done before can still be rolled back."""
    assert not classify_filled(text).commits


@pytest.mark.parametrize("text", COMMITTING)
def test_may_make_earlier_work_permanent(text: str) -> None:
    """Commits, commits first, or is not known not to."""
    assert classify_filled(text).commits


HOLDS = [
    ("CREATE TEMPORARY TABLE t (a INT)", "TEMP_TABLE t", ""),
    ("CREATE OR REPLACE TEMPORARY TABLE `My``t` LIKE u", "TEMP_TABLE My`t", ""),
    ("CREATE TEMPORARY TABLE IF NOT EXISTS App.`T` AS SELECT 1", "TEMP_TABLE App.T", ""),
    ("CREATE TEMPORARY SEQUENCE s", "TEMP_TABLE s", ""),
    ("CREATE TEMPORARY TABLE a.b.c (a INT)", "TEMP_TABLE ?", ""),
    ("CREATE TEMPORARY TABLE `a.b` (a INT)", "TEMP_TABLE ?", ""),
    ("CREATE TEMPORARY TABLE `a.b`.c (a INT)", "TEMP_TABLE ?", ""),
    ("CREATE TEMPORARY TABLE 1e5x (a INT)", "TEMP_TABLE ?", ""),
    ("CREATE TEMPORARY TABLE a.5 (a INT)", "TEMP_TABLE ?", ""),
    ("CREATE TEMPORARY TABLE `*` (a INT)", "TEMP_TABLE ?", ""),
    ("CREATE TABLE t (a INT)", "", ""),
    ("CREATE /*! TEMPORARY */ TABLE t (a INT)", "TEMP_TABLE t", ""),
    ("DROP TABLE t", "", "TEMP_TABLE t"),
    ("DROP TEMPORARY TABLE IF EXISTS T, `u`, app.t RESTRICT", "", "TEMP_TABLE T, TEMP_TABLE u, TEMP_TABLE app.t"),
    ("DROP TABLES t, `a.b`, u CASCADE", "", "TEMP_TABLE t, TEMP_TABLE u"),
    ("DROP TABLE t WAIT 5", "", "TEMP_TABLE t"),
    ("DROP TABLE t x", "", ""),
    ("DROP TABLE t,", "", "TEMP_TABLE t"),
    ("DROP SEQUENCE IF EXISTS s", "", "TEMP_TABLE s"),
    ("DROP TABLE `*`, `?`, a.b.c", "", ""),
    ("DROP /*! TEMPORARY */ TABLE t /*! , u */", "", "TEMP_TABLE t"),
    ("/*! DROP TABLE t */", "", ""),
    ("DROP TABLE t\0", "", ""),
    ("DROP VIEW v", "", ""),
    ("ALTER TABLE t RENAME TO u", "TEMP_TABLE ?", ""),
    ("ALTER TABLE t RENAME COLUMN a TO b, RENAME INDEX i TO j, RENAME KEY k TO l", "", ""),
    ("ALTER TABLE t RENAME COLUMN a TO b, RENAME AS u", "TEMP_TABLE ?", ""),
    ("ALTER TABLE t ADD a INT", "", ""),
    ("RENAME TABLE t TO u", "TEMP_TABLE ?", ""),
    ("RENAME TABLES t TO u", "TEMP_TABLE ?", ""),
    ("RENAME USER a TO b", "", ""),
    ("PREPARE S FROM @a", "PREPARED_STATEMENT s", ""),
    ("PREPARE `S 1` FROM 'SELECT 1'", "PREPARED_STATEMENT s 1", ""),
    ("PREPARE 1e5s FROM 'SELECT 1'", "PREPARED_STATEMENT ?", ""),
    ("EXECUTE s", "", ""),
    ("DEALLOCATE PREPARE S", "", "PREPARED_STATEMENT s"),
    ("DROP PREPARE `S 1`", "", "PREPARED_STATEMENT s 1"),
    ("DEALLOCATE PREPARE 1e5s", "", ""),
    ("HANDLER T OPEN", "HOLD_CURSOR t", ""),
    ("HANDLER app.t OPEN", "HOLD_CURSOR t", ""),
    ("HANDLER app.t OPEN AS `H`", "HOLD_CURSOR h", ""),
    ("HANDLER t OPEN h", "HOLD_CURSOR h", ""),
    ("HANDLER h READ NEXT", "HOLD_CURSOR h", ""),
    ("HANDLER H CLOSE", "", "HOLD_CURSOR h"),
    ("LOCK TABLES t READ", "TABLE_LOCK tables", ""),
    ("LOCK TABLE t WRITE", "TABLE_LOCK tables", ""),
    ("FLUSH TABLES WITH READ LOCK", "TABLE_LOCK tables", ""),
    ("FLUSH TABLES t FOR EXPORT", "TABLE_LOCK tables", ""),
    ("FLUSH TABLES", "", ""),
    ("UNLOCK TABLES", "", "TABLE_LOCK tables"),
    ("UNLOCK TABLE", "", "TABLE_LOCK tables"),
    ("LOCK INSTANCE FOR BACKUP", "TABLE_LOCK instance", ""),
    ("UNLOCK INSTANCE", "", "TABLE_LOCK instance"),
    ("LOCK ALL", "TABLE_LOCK ?", ""),
    ("UNLOCK ALL", "", ""),
    ("BACKUP STAGE BLOCK_DDL", "TABLE_LOCK backup stage", ""),
    ("BACKUP STAGE END", "", "TABLE_LOCK backup stage"),
    ("BACKUP LOCK t", "TABLE_LOCK backup lock", ""),
    ("BACKUP LOCK end", "TABLE_LOCK backup lock", ""),
    ("BACKUP UNLOCK", "", "TABLE_LOCK backup lock"),
    ("SELECT GET_LOCK('a', 1)", "NAMED_LOCK ?", ""),
    ("SELECT `get_lock`('a', 1)", "NAMED_LOCK ?", ""),
    ("SELECT RELEASE_LOCK('a')", "", "NAMED_LOCK *"),
    ("DO RELEASE_ALL_LOCKS()", "", "NAMED_LOCK *"),
    ("SELECT IS_USED_LOCK('a'), IS_FREE_LOCK('a')", "", ""),
]


@pytest.mark.parametrize(("text", "holds", "frees"), HOLDS, ids=[json.dumps(row[0])[:80] for row in HOLDS])
def test_what_is_held_and_freed(text: str, holds: str, frees: str) -> None:
    """By name, where it can be read: what is held as ``?`` nothing frees, and what may not run frees nothing."""
    (part,) = classify_filled(text).parts
    assert ", ".join(f"{reason.name} {name}" for reason, name in part.holds) == holds
    assert ", ".join(f"{reason.name} {name}" for reason, name in part.frees) == frees
    assert classify_filled(text).frees == {reason for reason, _ in part.frees}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT SQL_CALC_FOUND_ROWS 1", True),
        ("(SELECT SQL_CALC_FOUND_ROWS 1) UNION (SELECT 2)", True),
        ("SELECT /*! SQL_CALC_FOUND_ROWS */ 1", True),
        ("SELECT 1 /*! + 1 */ FROM (SELECT SQL_CALC_FOUND_ROWS 1) x", True),
        ("SELECT `sql_calc_found_rows`", False),
        ("SELECT FOUND_ROWS()", False),
    ],
)
def test_questions_that_may_follow(text: str, expected: bool) -> None:
    """How many rows there were without LIMIT is asked with the next statement, on the same connection."""
    assert classify_filled(text).awaits_question is expected
    assert not (expected and classify_filled(text).is_plain)


def test_settings_have_the_names_of_their_server() -> None:
    """SET SESSION TRANSACTION sets variables that MariaDB calls otherwise."""
    text = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY"
    assert causes(text, MYSQL) == "takes transaction_isolation transaction_read_only"
    assert causes(text, MARIADB) == "takes tx_isolation tx_read_only"


@pytest.mark.parametrize(
    ("text", "routines"),
    [
        ("SELECT f(1)", [("f()", "", "f")]),
        ("SELECT F(1), `F`(2)", [("f()", "", "f"), ("F()", "", "F")]),
        ("SELECT app.f(1), `my app`.`it's`(2)", [("app.f()", "app", "f"), ("my app.it's()", "my app", "it's")]),
        ("SELECT a.b.c(1)", []),
        ("SELECT .f(1), t.1e5f(2), @@f(3)", []),
        ("SELECT COUNT (1)", [("count()", "", "count")]),
        ("CALL p", [("CALL p", "", "p")]),
        ("CALL `App`.p(f(1))", [("CALL App.p", "App", "p"), ("f()", "", "f")]),
        ("CALL a.b.c()", []),
        ("EXECUTE IMMEDIATE 'x'", []),
        ("BEGIN NOT ATOMIC SELECT 1", []),
    ],
)
def test_routines_for_the_catalogue(text: str, routines: list[tuple[str, str, str]]) -> None:
    """Named so that the server can be asked about them; a name that may be misread is not."""
    found = [(cause.what, cause.routine) for cause in classify_filled(text).causes if cause.routine]
    assert found == [(what, Routine(schema, name)) for what, schema, name in routines]


def test_functions_of_one_server() -> None:
    """Built in only where the server is known to be the one that has them."""
    for dialect, free, pinning in (
        (Dialect.MYSQL, [], ["REGEXP_LIKE(a, 'b')", "ANY_VALUE(a)", "NVL(a, 1)", "NEXTVAL(s)"]),
        (MYSQL, ["REGEXP_LIKE(a, 'b')", "ANY_VALUE(a)", "GROUPING(a)"], ["NVL(a, 1)", "NEXTVAL(s)"]),
        (MARIADB, ["NVL(a, 1)", "NEXTVAL(s)", "MEDIAN(a) OVER ()"], ["REGEXP_LIKE(a, 'b')", "ANY_VALUE(a)"]),
    ):
        assert all(causes(f"SELECT {call} FROM t", dialect) == "" for call in free)
        assert all("UNKNOWN_ROUTINE" in causes(f"SELECT {call} FROM t", dialect) for call in pinning)


def test_the_lists_are_apart() -> None:
    """No name is in two lists, and none of those that pin is in one of the others."""
    lists = [FUNCTIONS, MYSQL_FUNCTIONS, MARIADB_FUNCTIONS, GRAMMAR, LOCKS]
    assert sum(map(len, lists)) == len(frozenset().union(*lists))


# Literals that count ------------------------------------------------------------------------------------------

LOCK_NAMES: list[tuple[str, set[str] | None]] = [
    ("SELECT GET_LOCK('a', 1)", {"a"}),
    ("DO get_lock ( /* x */ \"B\" ,1), Get_Lock('a''\"b', -1) -- GET_LOCK(", {"B", "a'\"b"}),
    (r"SELECT GET_LOCK('\0\'\"\b\n\r\t\Z\\\%\_\q', 1)", {"\0'\"\b\n\r\t\x1a\\\\%\\_q"}),
    ("SELECT 'GET_LOCK(1, 1)', `GET_LOCK`, get_lock, RELEASE_LOCK('a') # GET_LOCK(", set()),
    ("SELECT 'get_lock', GET_LOCK('é', 1) FROM `t\"'`", {"é"}),
    ("SELECT GET_LOCK(`a`, 1)", None),
    ("SELECT GET_LOCK(@a, 1), GET_LOCK('a', 1)", None),
    ("SELECT GET_LOCK('a' 'b', 1)", None),
    ("SELECT GET_LOCK(N'a', 1)", None),
    ("SELECT GET_LOCK(_utf8mb4'a', 1)", None),
    ("SELECT GET_LOCK(5, 1)", None),
    ("SELECT GET_LOCK('a')", None),
    ("SELECT GET_LOCK(", None),
    ("SELECT GET_LOCK('a", None),
    ("SELECT GET_LOCK('a', 1) /* x", None),
    ("SELECT GET_LOCK('a', 1) /*! + GET_LOCK('b', 1) */", None),
    ("SELECT /*+ x('*/') */ GET_LOCK('a', 1)", None),
    ("SELECT $$ GET_LOCK('a', 1) $$", None),
    ("SELECT GET_LOCK('a', 1) --\xa0GET_LOCK(@a, 1)", None),
    ("SELECT\xa0GET_LOCK('a', 1)", None),
    ("SELECT GET_LOCK('a', 1) \0", None),
    ("SELECT `get_lock`('a', 1)", None),
    ("SELECT app.GET_LOCK('a', 1)", None),
    ("SELECT GET_LOCK('a', 1), service_get_read_locks('a', 'b', 1)", None),
    ("SELECT 1", set()),
]


@pytest.mark.parametrize(("text", "names"), LOCK_NAMES, ids=[json.dumps(row[0])[:60] for row in LOCK_NAMES])
def test_names_of_locks(text: str, names: set[str] | None) -> None:
    """All of them, as they are written, or none."""
    assert lock_names(text, True, False) == names


def test_names_of_locks_in_other_modes() -> None:
    """A backslash and double quotes are what the mode says."""
    assert lock_names(r"SELECT GET_LOCK('a\', 1)", False, False) == {"a\\"}
    assert lock_names('SELECT GET_LOCK("a", 1)', False, False) == {"a"}
    assert lock_names('SELECT GET_LOCK("a", 1)', True, True) is None
    assert lock_names("SELECT \"'\", GET_LOCK('a', 1)", True, True) == {"a"}
    assert lock_names("SELECT \"get_lock\"('a', 1)", True, True) is None


PREPARED = [
    ("PREPARE s FROM 'SELECT 1'", ("s", "SELECT 1")),
    (' /* x */ prepare `S 1` from "a \'b\' \\"c\\"""" # x\n;;', ("s 1", 'a \'b\' "c""')),
    ("PREPARE s FROM ''", ("s", "")),
    ("PREPARE s FROM @a", None),
    ("PREPARE s FROM 'a' 'b'", None),
    ("PREPARE s FROM N'a'", None),
    ("PREPARE s FROM 'a'; SELECT 1", None),
    ("PREPARE 1s FROM 'a'", None),
    ("PREPARE `a.b` FROM 'a'", None),
    ("PREPARE 's' FROM 'a'", None),
    ("PREPARE s FROM 'a", None),
    ("PREPARE s AS 'a'", None),
    ("/*! PREPARE s FROM 'a' */", None),
    ("DEALLOCATE PREPARE s", None),
    ("SELECT 1", None),
]


@pytest.mark.parametrize(("text", "expected"), PREPARED, ids=[json.dumps(row[0])[:60] for row in PREPARED])
def test_prepared_texts(text: str, expected: tuple[str, str] | None) -> None:
    """The name as it is held, and what the server is given to prepare."""
    assert prepared_text(text, True, False) == expected
    if expected:
        assert classify_filled(text).parts[0].holds == ((Reason.PREPARED_STATEMENT, expected[0]),)


# Logs and the cache -------------------------------------------------------------------------------------------


def test_digest() -> None:
    """White space is folded, literals and comments are gone, the length has an end, everything can be printed."""
    assert classify_filled("SELECT  'x'\n,\t2 /* y */ FROM `t` ;\nCOMMIT").digest == "SELECT ? FROM `t`; COMMIT"
    long = classify_filled("SELECT " + ", ".join(f"column_{number}" for number in range(1000))).digest
    assert len(long) == 500
    assert classify_filled("SELECT a\x07\0\u202e FROM t").digest.isprintable()


def test_statements_with_other_values_are_one_entry_of_the_cache() -> None:
    """So are lists of other lengths."""
    first = classify_filled("SELECT a FROM t WHERE b IN (1, 2) AND c = 'x'")
    assert classify_filled("SELECT a FROM t WHERE b IN (3) AND c = 'y''z'") is first


def test_long_shapes_are_not_kept() -> None:
    """They would push out many others."""
    text = "SELECT " + ", ".join(f"column_{number}" for number in range(CACHED_LENGTH // 8))
    assert classify_filled(text) is not classify_filled(text)
    assert classify_filled(text) == classify_filled(text)


def test_dialects_are_constants() -> None:
    """The same mode gives the same object, which is what the cache compares."""
    assert Dialect.mysql("") is Dialect.MYSQL
    assert Dialect.mysql("STRICT_ALL_TABLES,ansi_quotes") is Dialect.mysql("ANSI_QUOTES")
    assert len({Dialect.mysql("", server) for server in ("", "mysql", "mariadb")}) == 3


def test_tokens_of_a_shape() -> None:
    """Statements of a shape, with the reading without executable comments beside."""
    first, second = statements('SELECT `a``b`, "c", @`d e`, @@x FROM é /*! + 1 */; COMMIT')
    assert first.tokens[:8] == ["select", '"a`b', ",", '"c', ",", "@d e", ",", "@@"]
    assert first.without is not None
    assert "+" in first.tokens
    assert "+" not in first.without.tokens
    assert second.tokens == ["commit"]
    assert second.without is None
    assert [tokens.odd for tokens in statements("SELECT 1 /*! 2")] == ["an executable comment without end"]


def test_values_are_plain_data() -> None:
    """Everything that may be logged is text made of the shape."""
    statement = classify_filled("SELECT f(1)")
    assert isinstance(statement, Statement)
    assert {field.name for field in fields(Part)} >= {"commits", "lingers", "reads_diagnostics"}
    assert statement.causes == (Cause(Reason.UNKNOWN_ROUTINE, "f()", Routine("", "f")),)


def test_a_statement_is_not_deep() -> None:
    """Nesting costs no recursion."""
    depth = sys.getrecursionlimit() * 2
    assert causes("SELECT " + "(" * depth + "1" + ")" * depth) == ""
