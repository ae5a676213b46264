"""Statements of MySQL and MariaDB, and what each leaves on the session that ran it. A new pin is a new row here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One text, run by root in the database `test_stage` with the tables `items` and `others`."""

    text: str
    reasons: tuple[str, ...] = ()
    """Names of `rdsproxy_lib.sql.Reason`; none for what is harmless."""
    only: str = ""
    """``"mysql"`` or ``"mariadb"``, the one server that knows the statement; empty: both do."""
    objects: tuple[str, ...] = ()
    """What has to exist, made by somebody else."""
    before: tuple[str, ...] = ()
    """What the same session ran before."""
    fails: tuple[int, ...] = ()
    """The errors a server may answer, when it has nothing to do the statement with."""
    unseen: str = ""
    """Why the server shows nothing although the row pins, or sets something."""
    takes: tuple[str, ...] = ()
    """What the session takes along to other backends: names as in `rdsproxy_lib.sql.Setting`."""
    awaits_question: bool = False
    """The next statement may ask about it."""

    def __str__(self) -> str:
        return " ".join(self.text.split())[:70]


def pins(reasons: str, *texts: str, **more: object) -> tuple[Row, ...]:
    return tuple(Row(text, tuple(reasons.split()), **more) for text in texts)  # type: ignore[arg-type]


def harmless(*texts: str, **more: object) -> tuple[Row, ...]:
    return tuple(Row(text, **more) for text in texts)  # type: ignore[arg-type]


def takes(settings: str, *texts: str, **more: object) -> tuple[Row, ...]:
    return tuple(Row(text, takes=tuple(settings.split()), **more) for text in texts)  # type: ignore[arg-type]


CHARSET = "character_set_client character_set_results character_set_connection collation_connection"
KEEPS = "create function keeps() returns int deterministic begin set @kept = 1; return 1; end"
TOTAL = "create function total(x int) returns int deterministic return x + 1"
NIGHTLY = "create procedure nightly(inout x int) set x = 5"
NOTE = "create trigger note before insert on items for each row set new.name = 'n'"
LIST = "create view list as select 1 as id"
DAILY = "create event daily on schedule every 1 day disable do select 1"
NO_REPLICA = (1200, 1201, 1198, 1593, 3523, 1794, 1235, 4031, 3030, 1617)
NOTHING_HAPPENS = "it takes something away, or does nothing: there is nothing to show afterwards"
BY_CAUTION = "nobody knows what is in it"
NO_COMMIT = "the session is gone"

# Queries -----------------------------------------------------------------------------------------------------

QUERIES = (
    *harmless(
        "SELECT 1",
        "SELECT id, name FROM items WHERE id IN (1, 2) AND name = 'it''s' LIMIT 5",
        "(SELECT 1) UNION (SELECT 2)",
        "SELECT @nothing, @@autocommit, @@session.sql_mode",
        "SELECT SLEEP(0), UUID(), RAND(), NOW(6), CONNECTION_ID(), IS_FREE_LOCK('a'), IS_USED_LOCK('a')",
        "SELECT RELEASE_LOCK('a'), RELEASE_ALL_LOCKS()",
        "SELECT LAST_INSERT_ID(), ROW_COUNT(), FOUND_ROWS(), @@warning_count, @@error_count, @@identity",
        "SELECT id FROM items FOR UPDATE",
        "SELECT id FROM items LOCK IN SHARE MODE",
        "SELECT COUNT(*), MAX(id), GROUP_CONCAT(name ORDER BY id SEPARATOR ',') FROM items",
        "SELECT CAST(id AS DECIMAL(10,2)), CONVERT(name USING utf8mb4), CONVERT(id, CHAR(10)) FROM items",
        "SELECT ROW_NUMBER() OVER (PARTITION BY name ORDER BY id) FROM items",
        "SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a VARCHAR(10) PATH '$')) j",
        "WITH x (a) AS (SELECT 1), y (b) AS (SELECT 2) SELECT * FROM x, y",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n",
        "SELECT 1 /*!50003 + 1 */ /* ' */ -- ;",
        "SELECT CONCAT ('a', 'b'), ABS (1)",
        "SELECT * FROM information_schema.tables LIMIT 1",
        "INSERT INTO items (id, name) VALUES (10, 'x'), (11, NULL)",
        "INSERT INTO items (id) VALUES (1) ON DUPLICATE KEY UPDATE name = VALUES(name)",
        "INSERT INTO items (id) SELECT id + 100 FROM items",
        "INSERT INTO numbered (name) VALUES ('x')",
        "UPDATE numbered SET id = LAST_INSERT_ID(id + 1)",
        "REPLACE INTO items (id) VALUES (1)",
        "REPLACE INTO items (id) SELECT 1",
        "UPDATE items SET name = 'y' WHERE id = 1",
        "UPDATE items, others SET items.name = 'y' WHERE items.id = others.id",
        "DELETE FROM items WHERE id = 1",
        "DELETE items FROM items JOIN others ON items.id = others.id",
        "DO SLEEP(0)",
        "TRUNCATE TABLE items",
        "EXPLAIN SELECT * FROM items",
        "DESCRIBE items",
        "HELP 'select'",
        "/* nothing */",
        "SELECT 1; SELECT 2",
    ),
    *harmless(
        "SELECT ANY_VALUE(name), REGEXP_LIKE('a', 'b'), BIN_TO_UUID(UUID_TO_BIN(UUID())) FROM items",
        "SELECT 1 MEMBER OF('[1]')",
        "TABLE items",
        "VALUES ROW(1, 2), ROW(3, 4)",
        "INSERT INTO items (id) VALUES (1) AS new(m) ON DUPLICATE KEY UPDATE name = new.m",
        "EXPLAIN ANALYZE SELECT * FROM items",
        "SELECT a.id FROM items a, LATERAL (SELECT 1) b",
        only="mysql",
    ),
    *harmless(
        "VALUES (1, 2), (3, 4)",
        "INSERT INTO items (id) VALUES (10) RETURNING (id)",
        "ANALYZE FORMAT=JSON SELECT * FROM items",
        "SELECT NVL(1, 2), JSON_DETAILED('{}'), MD5('a'), CHR(65)",
        "SET STATEMENT max_statement_time=5 FOR SELECT 1",
        "SET STATEMENT sql_mode='ANSI', time_zone='+05:00' FOR INSERT INTO items (id) VALUES (10)",
        only="mariadb",
    ),
    *harmless("SELECT NEXTVAL(numbers), NEXT VALUE FOR numbers", objects=("create sequence numbers",), only="mariadb"),
    *harmless(
        "LOAD DATA INFILE '/nonexistent' INTO TABLE items (id, name)",
        "SELECT 1 INTO OUTFILE '/nonexistent/x'",
        fails=(13, 29, 1, 1290, 1085),
    ),
    *harmless("", fails=(1065,)),
    *harmless("EXPLAIN FOR CONNECTION 1", fails=(1094, 3012, 1933, 1064, 1235)),
    *harmless("KILL QUERY 1000000", fails=(1094,)),
    *harmless("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'x'", fails=(1644,)),
    *harmless("RESIGNAL", fails=(1645,)),
)

# Settings, variables and the rest of the pin table --------------------------------------------------------------

PINS = (
    *takes("sql_mode", "SET sql_mode = ''", "SET autocommit = 1, sql_mode = ''"),
    *takes("time_zone", "SET SESSION time_zone = '+05:00'", "SET @@time_zone = '+05:00'"),
    *takes("sort_buffer_size", "SET @@session.sort_buffer_size = 300000"),
    *takes("wait_timeout", "SET LOCAL wait_timeout = 1000", "SET `wait_timeout` = (SELECT 1000)"),
    *takes(
        CHARSET,
        "SET NAMES latin1",
        "SET CHARACTER SET latin1",
        "SET CHARSET latin1",
        "/*!40101 SET NAMES latin1 */",
    ),
    *takes(f"{CHARSET} time_zone", "SET NAMES latin1, time_zone = '+05:00'"),
    *takes("character_set_connection collation_connection", "SET collation_connection = latin1_bin"),
    *takes("character_set_server collation_server", "SET collation_server = latin1_bin"),
    *takes(
        "transaction_isolation",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET transaction_isolation = 'SERIALIZABLE'",
        only="mysql",
    ),
    *takes(
        "tx_isolation",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET tx_isolation = 'SERIALIZABLE'",
        only="mariadb",
    ),
    *takes("transaction_read_only", "SET @@session.transaction_read_only = 1", only="mysql"),
    *takes("tx_read_only", "SET SESSION TRANSACTION READ ONLY", only="mariadb"),
    *takes("schema", "USE test_other"),
    *takes("sql_mode", "SET sql_mode = @@sql_mode", unseen=NOTHING_HAPPENS),
    *takes("role", "SET ROLE helper", objects=("create role helper", "grant helper to root@'127.0.0.1'")),
    *pins("SETTING", "SET timestamp = 5"),
    *pins("SETTING", "SET optimizer_trace = 'enabled=on'"),
    *pins("SETTING", "SET insert_id = 5, last_insert_id = 6, rand_seed1 = 7", unseen="they change by themselves, too"),
    *pins("SETTING UNRESETTABLE", "SET profiling = 1"),
    *harmless("SET GLOBAL max_connections = 100, max_connections = 100"),
    *harmless("SET @@transaction_isolation = 'SERIALIZABLE'", only="mysql"),
    *harmless("SET @@tx_isolation = 'SERIALIZABLE'", only="mariadb"),
    *pins(
        "UNRESETTABLE", "SET RESOURCE GROUP batch", objects=("create resource group batch type = user",), only="mysql"
    ),
    *harmless(
        "SET autocommit = 0",
        "SET SESSION autocommit = 1",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET GLOBAL max_connections = 100",
        "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    ),
    *harmless("SET PERSIST max_connections = 100", "RESET PERSIST", only="mysql"),
    *harmless("SET PASSWORD FOR visitor = 'Xx-12345678'", objects=("create user visitor",), only="mysql"),
    *harmless("SET PASSWORD FOR visitor = PASSWORD('x')", objects=("create user visitor",), only="mariadb"),
    *harmless(
        "SET DEFAULT ROLE helper TO visitor",
        objects=("create user visitor", "create role helper", "grant helper to visitor"),
        only="mysql",
    ),
    *takes(
        "@kept",
        "SET @kept = 1",
        "SELECT @kept := 1",
        "SELECT 1e0INTO @kept",
        "UPDATE items SET name = (@kept := 'x')",
        "INSERT INTO items (id) VALUES (@kept := 10)",
        "DO @kept := 1",
        "SHOW TABLES WHERE @kept := 1",
        "SET autocommit = (SELECT @kept := 1)",
        "GET DIAGNOSTICS @kept = NUMBER",
        "CREATE TABLE made AS SELECT @kept := 1 AS a",
        "/*!50003 SET @kept = 1 */",
    ),
    *takes("@kept @two", "SELECT 1, 2 INTO @kept, @two", "SET @kept = 1, @two = @kept"),
    *pins("USER_VARIABLE", "SET @`a b` := 2, @'c' = 3", "SET @1 = 2", "SET @a.5 = 2", "SELECT @a.5.b := 2"),
    *takes("@kept", "EXPLAIN FORMAT=JSON INTO @kept SELECT 1", only="mysql"),
    *takes("@kept @b @c", "TABLE items LIMIT 1 INTO @kept, @b, @c", only="mysql"),
    *takes("@kept", "ALTER TABLE items ADD extra INT DEFAULT (@kept := 5)", only="mariadb"),
    *takes(
        "@kept",
        "LOAD DATA INFILE '/nonexistent' INTO TABLE items (id, @kept)",
        fails=(13, 29, 1290),
        unseen="the file is not there",
    ),
    *harmless("GET DIAGNOSTICS x = NUMBER", fails=(1327, 1064)),
    *harmless("SELECT SQL_CALC_FOUND_ROWS id FROM items LIMIT 1", awaits_question=True),
    *pins("TEMP_TABLE", "CREATE TEMPORARY TABLE scratch (a INT)", "CREATE TEMPORARY TABLE scratch AS SELECT 1 AS a"),
    *pins(
        "TEMP_TABLE",
        "CREATE OR REPLACE TEMPORARY TABLE scratch (a INT)",
        "CREATE TEMPORARY SEQUENCE scratch",
        only="mariadb",
    ),
    *harmless("DROP TEMPORARY TABLE IF EXISTS scratch"),
    *pins("PREPARED_STATEMENT", "PREPARE kept FROM 'SELECT 1'"),
    *pins("PREPARED_STATEMENT", "EXECUTE kept", before=("prepare kept from 'select 1'",), unseen=NOTHING_HAPPENS),
    *pins("PREPARED_STATEMENT", "EXECUTE kept", before=("prepare kept from 'set @kept = 1'",)),
    *pins(
        "PREPARED_STATEMENT",
        "EXECUTE kept USING @kept",
        objects=(NIGHTLY,),
        before=("set @kept = 1", "prepare kept from 'call nightly(?)'"),
        takes=("@kept",),
    ),
    *pins("PREPARED_STATEMENT UNKNOWN_ROUTINE", "EXECUTE IMMEDIATE 'SET @kept = 1'", only="mariadb"),
    *harmless("DEALLOCATE PREPARE kept", "DROP PREPARE kept", before=("prepare kept from 'select 1'",)),
    *pins(
        "NAMED_LOCK",
        "SELECT GET_LOCK('kept', 0)",
        "DO GET_LOCK('kept', 0)",
        "SET GLOBAL max_connections = 99 + GET_LOCK('kept', 0)",
    ),
    *pins("NAMED_LOCK", "CREATE EVENT e ON SCHEDULE AT NOW() + INTERVAL GET_LOCK('kept', 0) HOUR DO SELECT 1"),
    *pins("NAMED_LOCK", "PURGE BINARY LOGS BEFORE DATE_SUB(NOW(), INTERVAL GET_LOCK('kept', 0) DAY)"),
    *pins("NAMED_LOCK", "KILL QUERY GET_LOCK('kept', 0) + 1000000", fails=(1094,)),
    *pins("NAMED_LOCK", "EXPLAIN SELECT * FROM (SELECT GET_LOCK('kept', 0)) x"),
    *pins("NAMED_LOCK", "EXPLAIN SELECT GET_LOCK('kept', 0)", unseen="only planned"),
    *pins(
        "TABLE_LOCK",
        "LOCK TABLES items READ, others WRITE",
        "LOCK TABLE items WRITE",
        "FLUSH TABLES WITH READ LOCK",
        "FLUSH TABLES items WITH READ LOCK",
        "FLUSH TABLES items FOR EXPORT",
    ),
    *pins("TABLE_LOCK", "LOCK INSTANCE FOR BACKUP", only="mysql"),
    *pins("TABLE_LOCK", "BACKUP STAGE START", "BACKUP LOCK items", only="mariadb"),
    *harmless("BACKUP UNLOCK", only="mariadb"),
    *harmless("BACKUP STAGE END", before=("backup stage start",), only="mariadb"),
    *harmless("UNLOCK TABLES", before=("lock tables items read",)),
    *harmless("UNLOCK INSTANCE", only="mysql"),
    *pins("HOLD_CURSOR", "HANDLER items OPEN"),
    *pins("HOLD_CURSOR", "HANDLER items READ FIRST", before=("handler items open",), unseen=NOTHING_HAPPENS),
    *harmless("HANDLER items CLOSE", before=("handler items open",)),
    *pins(
        "UNKNOWN_ROUTINE", "SELECT keeps()", "DO keeps()", "SET GLOBAL max_connections = 99 + keeps()", objects=(KEEPS,)
    ),
    *pins(
        "UNKNOWN_ROUTINE", "INSERT INTO items (id) VALUES (10 + keeps())", "SHOW TABLES WHERE keeps()", objects=(KEEPS,)
    ),
    *pins(
        "UNKNOWN_ROUTINE",
        "CREATE TABLE made AS SELECT keeps() AS a",
        "SELECT `keeps`(), {fn keeps()}",
        objects=(KEEPS,),
    ),
    *pins("UNKNOWN_ROUTINE", "SELECT total(1), test_stage.total(2)", objects=(TOTAL,), unseen=NOTHING_HAPPENS),
    *pins(
        "UNKNOWN_ROUTINE",
        "SELECT COUNT (1), `upper`(2)",
        objects=(KEEPS.replace("keeps()", "`count`(x int)"), KEEPS.replace("keeps()", "`upper`(x int)")),
        fails=(1305, 1630),
    ),
    *pins("UNKNOWN_ROUTINE", "CALL nightly(@kept)", objects=(NIGHTLY,), takes=("@kept",)),
    *pins("UNKNOWN_ROUTINE", "CALL nothing", objects=("create procedure nothing() select 1",), unseen=NOTHING_HAPPENS),
    *pins("UNKNOWN_ROUTINE", "BEGIN NOT ATOMIC SET @kept = 1", only="mariadb", fails=(1064,), unseen="it has no END"),
    *pins(
        "UNKNOWN_ROUTINE UNKNOWN_STATEMENT",
        "BEGIN NOT ATOMIC SELECT 1; SET @kept = 1; END",
        only="mariadb",
        takes=("@kept",),
    ),
    *pins("UNKNOWN_STATEMENT", "IF 1 THEN SET @kept = 1; END IF", only="mariadb", fails=()),
    *pins("UNKNOWN_STATEMENT", "BINLOG 'AAAA'", fails=(1609, 1149, 1064, 1105), unseen=BY_CAUTION),
    *pins("UNKNOWN_STATEMENT", "FROBNICATE", "SELECT 'a", "SELECT 1 /* a", fails=(1064,), unseen=BY_CAUTION),
    *pins("UNRESETTABLE", "COMMIT RELEASE", "ROLLBACK RELEASE", unseen=NO_COMMIT),
)

# Transactions ------------------------------------------------------------------------------------------------------

XA = ("xa start 'x1'", "insert into items (id) values (50)")
TRANSACTIONS = (
    *harmless(
        "BEGIN", "START TRANSACTION", "START TRANSACTION WITH CONSISTENT SNAPSHOT", "COMMIT", "ROLLBACK", "SAVEPOINT a"
    ),
    *harmless("ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a", "COMMIT AND CHAIN", before=("begin", "savepoint a")),
    *harmless("XA START 'x1'", "XA RECOVER"),
    *harmless("XA END 'x1'", before=XA),
    *harmless("XA COMMIT 'x1' ONE PHASE", "XA ROLLBACK 'x1'", before=(*XA, "xa end 'x1'")),
    *harmless("XA COMMIT 'x1'", before=(*XA, "xa end 'x1'", "xa prepare 'x1'"), fails=(1397, 1399)),
    *pins(
        "UNRESETTABLE",
        "XA PREPARE 'x1'",
        before=(*XA, "xa end 'x1'"),
        unseen="a transaction, which is no state of ours",
    ),
)

# Definitions and administration --------------------------------------------------------------------------------------

DEFINITIONS = (
    *harmless(
        "CREATE TABLE made (a VARCHAR(10) DEFAULT 'x', b DECIMAL(10,2), INDEX i (a), KEY j (b), CHECK (b > 1))",
        "CREATE TABLE made AS SELECT id FROM items",
        "CREATE TABLE made LIKE items",
        "ALTER TABLE items ADD COLUMN extra VARCHAR(5), ADD INDEX i (extra)",
        "CREATE UNIQUE INDEX i ON items (id, name(10))",
        "RENAME TABLE items TO things",
        "DROP TABLE items",
        "CREATE DATABASE test_made",
        "ALTER DATABASE test_stage CHARACTER SET utf8mb4",
        "CREATE VIEW v AS SELECT id FROM items",
        "CREATE ALGORITHM = MERGE DEFINER = root@localhost SQL SECURITY INVOKER VIEW v AS SELECT 1 AS a",
        "CREATE PROCEDURE p() BEGIN SET @kept = 1; SELECT CASE WHEN 1 THEN 2 END; IF 1 THEN SET @b = 1; END IF; END",
        "CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1",
        "CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW BEGIN SET @kept = 1; END",
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SET @kept = 1",
        "CREATE USER visitor IDENTIFIED BY 'Xx-12345678'",
        "CREATE ROLE helper",
        "CREATE SERVER remote FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h', DATABASE 'd', USER 'u')",
        "CHECKSUM TABLE items",
        "CHECK TABLE items",
        "ANALYZE TABLE items",
        "OPTIMIZE TABLE items",
        "REPAIR TABLE items",
        "FLUSH TABLES",
        "FLUSH PRIVILEGES",
        "FLUSH STATUS",
        "LOAD INDEX INTO CACHE items",
    ),
    *harmless("DROP INDEX name ON items", objects=("create index name on items (name)",)),
    *harmless("DROP DATABASE test_made", objects=("create database test_made",)),
    *harmless("DROP VIEW list", "ALTER VIEW list AS SELECT 2 AS id", objects=(LIST,)),
    *harmless(
        "DROP PROCEDURE nightly",
        "ALTER PROCEDURE nightly COMMENT 'x'",
        "SHOW CREATE PROCEDURE nightly",
        objects=(NIGHTLY,),
    ),
    *harmless(
        "DROP FUNCTION total", "ALTER FUNCTION total COMMENT 'x'", "SHOW CREATE FUNCTION total", objects=(TOTAL,)
    ),
    *harmless("DROP TRIGGER note", "SHOW CREATE TRIGGER note", objects=(NOTE,)),
    *harmless(
        "DROP EVENT daily", "ALTER EVENT daily ON SCHEDULE EVERY 2 DAY", "SHOW CREATE EVENT daily", objects=(DAILY,)
    ),
    *harmless(
        "DROP USER visitor",
        "RENAME USER visitor TO guest",
        "ALTER USER visitor IDENTIFIED BY 'Xx-12345678'",
        "SHOW CREATE USER visitor",
        "GRANT SELECT (id), INSERT (id) ON test_stage.items TO visitor",
        "SHOW GRANTS FOR visitor",
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM visitor",
        objects=("create user visitor",),
    ),
    *harmless(
        "REVOKE SELECT ON test_stage.* FROM visitor",
        objects=("create user visitor", "grant select on test_stage.* to visitor"),
    ),
    *harmless("DROP ROLE helper", "GRANT helper TO visitor", objects=("create user visitor", "create role helper")),
    *harmless(
        "REVOKE helper FROM visitor", objects=("create user visitor", "create role helper", "grant helper to visitor")
    ),
    *harmless(
        "ALTER SERVER remote OPTIONS (USER 'v')",
        "DROP SERVER remote",
        objects=("create server remote foreign data wrapper mysql options (host 'h', database 'd', user 'u')",),
    ),
    *harmless("CREATE FUNCTION strange RETURNS STRING SONAME 'nothing.so'", fails=(1126, 1125, 1127)),
    *harmless("INSTALL PLUGIN strange SONAME 'nothing.so'", "UNINSTALL PLUGIN strange", fails=(1126, 1305)),
    *harmless("CACHE INDEX old IN nothing", objects=("create table old (a int) engine = myisam",), fails=(1284,)),
    *harmless("PURGE BINARY LOGS TO 'x'", "PURGE BINARY LOGS BEFORE '2000-01-01'", fails=(1373, 1612)),
    *harmless("STOP REPLICA", "START REPLICA", fails=NO_REPLICA),
    *harmless(
        "ALTER INSTANCE RELOAD TLS",
        "CREATE RESOURCE GROUP batch TYPE = USER",
        "CREATE SPATIAL REFERENCE SYSTEM 990001 NAME 'x' DEFINITION"
        ' \'GEOGCS["x",DATUM["x",SPHEROID["x",6378137,298.25]],PRIMEM["x",0],UNIT["x",0.017],'
        'AXIS["Lat",NORTH],AXIS["Lon",EAST]]\'',
        "DROP SPATIAL REFERENCE SYSTEM IF EXISTS 990001",
        "CREATE UNDO TABLESPACE rest ADD DATAFILE 'rest.ibu'",
        "RESET BINARY LOGS AND GTIDS",
        only="mysql",
        fails=(1381, 3186, 3888),
    ),
    *harmless(
        "ALTER RESOURCE GROUP batch THREAD_PRIORITY = 1",
        "DROP RESOURCE GROUP batch",
        "SET RESOURCE GROUP batch FOR 1000000",
        objects=("create resource group batch type = user",),
        only="mysql",
        fails=(1094, 3650, 3653, 3656, 3659, 3660, 1235, 1524),
    ),
    *harmless(
        "INSTALL COMPONENT 'file://nothing'",
        "UNINSTALL COMPONENT 'file://nothing'",
        "IMPORT TABLE FROM '/nonexistent.sdi'",
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'h'",
        "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (test_stage)",
        "START GROUP_REPLICATION",
        "STOP GROUP_REPLICATION",
        "CREATE LIBRARY code LANGUAGE JAVASCRIPT AS 'export function f() {}'",
        "ALTER LIBRARY code COMMENT 'x'",
        "DROP LIBRARY IF EXISTS code",
        "SHOW CREATE LIBRARY code",
        "SHOW LIBRARY STATUS",
        "CREATE MASKING POLICY hidden(a) CASE WHEN CURRENT_USER_IN('x') THEN a ELSE SHA2(a, 256) END",
        "DROP MASKING POLICY IF EXISTS hidden",
        "SHOW CREATE MASKING POLICY hidden",
        "ALTER USER visitor DEFAULT ROLE NONE",
        only="mysql",
        objects=("create user visitor",),
        fails=(13, 1064, 1126, 1235, 1290, 1794, 3092, 3527, 3529, 3535, 3537, 3608, 6561, 1305, 1525, 6000, 3680),
    ),
    *harmless(
        "CREATE SEQUENCE numbers",
        "ALTER TABLE items ENGINE = InnoDB",
        "CREATE OR REPLACE TABLE made (a INT)",
        "ANALYZE TABLE items PERSISTENT FOR COLUMNS (name) INDEXES ()",
        "RESET QUERY CACHE",
        only="mariadb",
    ),
    *harmless(
        "ALTER SEQUENCE numbers RESTART 5",
        "DROP SEQUENCE numbers",
        objects=("create sequence numbers",),
        only="mariadb",
    ),
)

SHOWS = (
    *harmless(
        "SHOW DATABASES",
        "SHOW TABLES LIKE 'a%'",
        "SHOW FULL COLUMNS FROM items",
        "SHOW INDEX FROM items",
        "SHOW VARIABLES LIKE 'sql_mode'",
        "SHOW SESSION STATUS LIKE 'Handler%'",
        "SHOW ENGINE INNODB STATUS",
        "SHOW ENGINE INNODB MUTEX",
        "SHOW ENGINE INNODB LOGS",
        "SHOW PROCESSLIST",
        "SHOW GRANTS",
        "SHOW CREATE TABLE items",
        "SHOW CHARACTER SET",
        "SHOW COLLATION",
        "SHOW CREATE DATABASE test_stage",
        "SHOW TABLE STATUS",
        "SHOW TRIGGERS",
        "SHOW OPEN TABLES",
        "SHOW WARNINGS",
        "SHOW ERRORS",
        "SHOW COUNT(*) WARNINGS",
        "SHOW ENGINES",
        "SHOW PRIVILEGES",
        "SHOW PROCEDURE STATUS",
        "SHOW FUNCTION STATUS",
        "SHOW PLUGINS",
        "SHOW EVENTS",
        "SHOW PROFILE",
        "SHOW PROFILES",
        "SHOW BINARY LOGS",
        "SHOW BINLOG EVENTS",
        "SHOW RELAYLOG EVENTS",
        "SHOW REPLICA STATUS",
        fails=(1381, 1235, 1220, 1094, 1064, 1204),
    ),
    *harmless(
        "SHOW BINARY LOG STATUS",
        "SHOW REPLICAS",
        "SHOW PARSE_TREE SELECT 1",
        only="mysql",
        fails=(1381, 1235, 1289, 1064, 1290),
    ),
    *harmless("SHOW PROCEDURE CODE nightly", objects=(NIGHTLY,), fails=(1289,)),
    *harmless("SHOW FUNCTION CODE total", objects=(TOTAL,), fails=(1289,)),
)

ROWS = (*QUERIES, *PINS, *TRANSACTIONS, *DEFINITIONS, *SHOWS)

NOT_RUN = {
    "restart": "it ends the server",
    "show_parse_tree": "only debug builds know it",
    "shutdown": "it ends the server",
}
"""Kinds of statements, as performance_schema of MySQL calls them, that no row runs."""
