"""Statements, and what each leaves on the session that ran it. A new pin is a new row here."""

from __future__ import annotations

from dataclasses import dataclass

from tests.unit.pglast_statements import STATEMENTS


@dataclass(frozen=True, slots=True)
class Row:
    """One text, run by a superuser in a database with the tables `items` and `others`."""

    text: str
    reasons: tuple[str, ...] = ()
    """Names of `rdsproxy_lib.sql.Reason` in the order of the text; none for what does not pin."""
    virtual: bool = False
    """Whether it leaves settings, which the session takes along to its next backend."""
    objects: tuple[str, ...] = ()
    """What has to exist, made by somebody else."""
    before: tuple[str, ...] = ()
    """What the same session ran before."""
    fails: str = ""
    """The SQLSTATE the server answers, with autocommit on."""
    leaves_if_failed: bool = False
    """Whether a part of it stays although it fails."""
    unseen: str = ""
    """Why the server shows nothing although the row pins, or is said to set something."""
    ended: str = ""
    """Names of reasons that have come to an end with the text."""
    proven: bool = False
    """Whether the catalogue shows that the routines of the text leave no more than settings, and so do not pin."""

    def __str__(self) -> str:
        return " ".join(self.text.split())[:70]


def pins(reasons: str, *texts: str, **more: object) -> tuple[Row, ...]:
    return tuple(Row(text, tuple(reasons.split()), **more) for text in texts)  # type: ignore[arg-type]


def harmless(*texts: str, **more: object) -> tuple[Row, ...]:
    return tuple(Row(text, **more) for text in texts)  # type: ignore[arg-type]


def virtual(*texts: str, **more: object) -> tuple[Row, ...]:
    return tuple(Row(text, virtual=True, **more) for text in texts)  # type: ignore[arg-type]


# A routine that does nothing and one that sets something -----------------------------------------------------

SETS = "create function sets() returns int language plpgsql as $$ begin set app.tenant = '7'; return 1; end $$"
TOTAL = "create function total(int) returns int language sql immutable as 'select $1'"
NOTE = "create function note() returns trigger language plpgsql as $$ begin return new; end $$"
WATCH = "create function note() returns event_trigger language plpgsql as $$ begin end $$"
MOOD = "create type mood as enum ('sad', 'happy')"
LIST = "create view list as select 1 as id"
WRAPPER = "create foreign data wrapper files"
REMOTE = "create server remote foreign data wrapper files options (host 'db1')"
NEWS = "create publication news"
COPY_OF = "create subscription copy_of connection 'dbname=app' publication news with (connect = false)"
IN_PLACE = ("create tablespace slow location ''", "create tablespace fast location ''")
WORDS = "create text search dictionary words (template = simple)"
POINT = (
    "create type point3d",
    "create function point3d_in(cstring) returns point3d language internal immutable strict as 'int4in'",
    "create function point3d_out(point3d) returns cstring language internal immutable strict as 'int4out'",
    "create type point3d (input = point3d_in, output = point3d_out, storage = extended, internallength = variable)",
)
NEEDS_TRANSACTION = "25P01"
NOTHING_HAPPENS = "it takes something away, or nothing: there is nothing more to show afterwards"
ENDED = "the text itself ends it: the server is asked, and the pin is over"
NOT_EVALUATED = "the expression is stored or only planned, not evaluated"
SAME_NAME = "a name of something else, taken for a call on purpose"
NESTED = "the server itself takes settings back at the end of this statement"

# One for every node class of the parser that is a statement --------------------------------------------------


def classes(name: str, *objects: str, text: str = "", **more: object) -> Row:
    """The statement that stands for a node class in the unit tests, or `text` where the server wants another."""
    return Row(text or STATEMENTS[name], objects=objects, **more)  # type: ignore[arg-type]


CLASSES = (
    classes("AlterCollationStmt", 'create collation german from "C"'),
    classes("AlterDatabaseRefreshCollStmt", "create database shop"),
    classes("AlterDatabaseSetStmt", "create database shop"),
    classes("AlterDatabaseStmt", "create database shop"),
    classes("AlterDefaultPrivilegesStmt"),
    classes("AlterDomainStmt", "create domain positive as int"),
    classes("AlterEnumStmt", MOOD),
    classes("AlterEventTrigStmt", WATCH, "create event trigger watch on ddl_command_end execute function note()"),
    classes("AlterExtensionContentsStmt", "create extension hstore"),
    classes("AlterExtensionStmt", "create extension hstore version '1.7'"),
    classes("AlterFdwStmt", WRAPPER),
    classes("AlterForeignServerStmt", WRAPPER, REMOTE),
    classes("AlterFunctionStmt", TOTAL),
    classes("AlterObjectDependsStmt", TOTAL, "create extension hstore"),
    classes("AlterObjectSchemaStmt", "create schema archive"),
    classes("AlterOpFamilyStmt", "create operator family numbers using btree"),
    classes("AlterOperatorStmt", "create operator === (leftarg = int, rightarg = int, function = int4eq)"),
    classes("AlterOwnerStmt", TOTAL),
    classes("AlterPolicyStmt", "create policy own on items"),
    classes("AlterPublicationStmt", NEWS),
    classes("AlterRoleSetStmt", "create database shop", text="ALTER ROLE reader IN DATABASE shop SET work_mem = '8MB'"),
    classes("AlterRoleStmt", text="ALTER ROLE reader PASSWORD 'secret'"),
    classes("AlterSeqStmt", "create sequence ids"),
    classes("AlterStatsStmt", "create statistics pairs on id, name from items"),
    classes("AlterSubscriptionStmt", NEWS, COPY_OF),
    classes("AlterSystemStmt"),
    classes(
        "AlterTSConfigurationStmt",
        "create text search configuration plain (parser = default)",
        text="ALTER TEXT SEARCH CONFIGURATION plain ADD MAPPING FOR word WITH simple",
    ),
    classes("AlterTSDictionaryStmt", WORDS),
    classes("AlterTableMoveAllStmt", *IN_PLACE),
    classes("AlterTableSpaceOptionsStmt", *IN_PLACE),
    classes("AlterTableStmt", text="ALTER TABLE items ADD COLUMN cost numeric(10, 2) DEFAULT 0, ADD UNIQUE (name)"),
    classes("AlterTypeStmt", *POINT, text="ALTER TYPE point3d SET (STORAGE = external)"),
    classes(
        "AlterUserMappingStmt", WRAPPER, REMOTE, "create user mapping for app server remote options (password 'x')"
    ),
    classes(
        "CallStmt",
        "create procedure nightly(int) language plpgsql as $$ begin set app.tenant = '7'; end $$",
        reasons=("UNKNOWN_ROUTINE",),
        proven=True,
        virtual=True,
    ),
    classes("CheckPointStmt"),
    classes("ClosePortalStmt"),
    classes("ClusterStmt"),
    classes("CommentStmt", TOTAL),
    classes("CompositeTypeStmt"),
    classes("ConstraintsSetStmt"),
    classes("CopyStmt"),
    classes("CreateAmStmt"),
    classes("CreateCastStmt", MOOD, "create function mood_number(mood) returns int language sql as 'select 1'"),
    classes("CreateConversionStmt"),
    classes("CreateDomainStmt", "create function is_positive(int) returns bool language sql as 'select true'"),
    classes("CreateEnumStmt"),
    classes("CreateEventTrigStmt", WATCH),
    classes("CreateExtensionStmt"),
    classes("CreateFdwStmt"),
    classes("CreateForeignServerStmt", WRAPPER),
    classes("CreateForeignTableStmt", WRAPPER, REMOTE),
    classes(
        "CreateFunctionStmt",
        "create function next_one() returns int language sql as 'select 1'",
        "create function set_up(int) returns int language sql as 'select 1'",
    ),
    classes("CreateOpClassStmt"),
    classes("CreateOpFamilyStmt"),
    classes("CreatePLangStmt", text="CREATE TRUSTED PROCEDURAL LANGUAGE plx HANDLER plpgsql_call_handler"),
    classes("CreatePolicyStmt", "create function owner_of(int) returns name language sql as $$ select 'a'::name $$"),
    classes("CreatePublicationStmt"),
    classes("CreateRangeStmt"),
    classes("CreateRoleStmt", text="CREATE ROLE clerk LOGIN PASSWORD 'secret'"),
    classes("CreateSchemaStmt", "create function public.next_one() returns int language sql as 'select 1'"),
    classes("CreateSeqStmt"),
    classes("CreateStatsStmt", text="CREATE STATISTICS pairs (ndistinct) ON (lower(b)), a FROM others"),
    classes(
        "CreateStmt",
        "create function next_one() returns int language sql as 'select 1'",
        text="CREATE TABLE parts (id int PRIMARY KEY DEFAULT next_one(), at time(3)) PARTITION BY RANGE (id)",
    ),
    classes(
        "CreateSubscriptionStmt",
        text="CREATE SUBSCRIPTION copy_of CONNECTION 'dbname=app' PUBLICATION news WITH (connect = false)",
    ),
    classes("CreateTableAsStmt"),
    classes("CreateTableSpaceStmt", text="CREATE TABLESPACE fast LOCATION ''"),
    classes(
        "CreateTransformStmt",
        text="CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal))",
    ),
    classes("CreateTrigStmt", NOTE),
    classes("CreateUserMappingStmt", WRAPPER, REMOTE),
    classes("CreatedbStmt"),
    classes("DeallocateStmt"),
    classes("DeclareCursorStmt", fails=NEEDS_TRANSACTION),
    classes("DefineStmt", text="CREATE AGGREGATE mean(float8) (SFUNC = float8pl, STYPE = float8)"),
    classes("DeleteStmt"),
    classes("DiscardStmt"),
    Row("DO $$ BEGIN SET app.tenant = '7'; END $$", virtual=True),
    classes("DropOwnedStmt", text="DROP OWNED BY reader"),
    classes("DropRoleStmt", "create role clerk", text="DROP ROLE IF EXISTS clerk"),
    classes("DropStmt", TOTAL),
    classes("DropSubscriptionStmt", NEWS, COPY_OF, "alter subscription copy_of set (slot_name = none)"),
    classes("DropTableSpaceStmt", *IN_PLACE),
    classes("DropUserMappingStmt", WRAPPER, REMOTE, "create user mapping for app server remote"),
    classes("DropdbStmt", "create database shop"),
    classes(
        "ExecuteStmt", before=("prepare find_item (int, text) as select id from items where id = $1 and name = $2",)
    ),
    classes("ExplainStmt"),
    classes("FetchStmt", before=("begin", "declare list cursor for select id from items")),
    classes("GrantRoleStmt", text="GRANT reader TO writer WITH ADMIN OPTION"),
    classes("GrantStmt"),
    classes(
        "ImportForeignSchemaStmt",
        WRAPPER,
        REMOTE,
        "create schema archive",
        fails="55000",  # a wrapper that can would need a second server, and libpq inside this one
    ),
    classes("IndexStmt"),
    classes("InsertStmt"),
    classes("ListenStmt", reasons=("LISTEN",)),
    classes("LoadStmt", reasons=("UNRESETTABLE",)),
    classes("LockStmt", fails=NEEDS_TRANSACTION),
    classes("MergeStmt"),
    classes("NotifyStmt"),
    classes("PrepareStmt", reasons=("PREPARED_STATEMENT",)),
    classes("RawStmt"),
    classes("ReassignOwnedStmt", text="REASSIGN OWNED BY reader TO writer"),
    classes(
        "RefreshMatViewStmt",
        "create materialized view totals as select id from items",
        "create unique index on totals (id)",
    ),
    classes("ReindexStmt"),
    classes("RenameStmt"),
    classes("ReplicaIdentityStmt"),
    classes("ReturnStmt", "create function number_of(int) returns int language sql as 'select 1'"),
    classes(
        "RuleStmt", "create table log (n int)", "create function note_of(int) returns int language sql as 'select 1'"
    ),
    classes("SelectStmt"),
    classes("TransactionStmt"),
    classes("TruncateStmt"),
    classes("UnlistenStmt", before=("listen news",)),
    classes("UpdateStmt"),
    classes("VacuumStmt"),
    classes("VariableSetStmt", virtual=True),
    classes("VariableShowStmt"),
    classes("ViewStmt", "create function total_of(int) returns int language sql as 'select 1'"),
)

NOT_RUN = {
    "SecLabelStmt": "needs a label provider, which only SELinux's library and PostgreSQL's own test suite have",
}
"""Classes that no row here can run; with the reason."""

# Settings ----------------------------------------------------------------------------------------------------

SETTINGS = (
    *virtual(
        "SET work_mem = '5MB'",
        "sEt work_mem TO 5000",
        "SET SESSION work_mem = 5000",
        "SET\n\"work_mem\"\t= '5MB'",
        "/* SET LOCAL */ SET /* LOCAL */ work_mem -- LOCAL\n = 5000",
        "SET search_path TO public, pg_catalog",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
        "SET NAMES 'UTF8'",
        "SET SCHEMA 'public'",
        "SET XML OPTION DOCUMENT",
        "SET app.tenant = '7'",
        "SET \"app.tenant\" TO '7'",
        "SET statement_timeout = 60000",
        "SET ROLE reader",
        "SET SESSION ROLE reader",
        "SET SESSION AUTHORIZATION reader",
        "SET SESSION AUTHORIZATION 'reader'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET default_transaction_deferrable = on",
        "SELECT 1; SET work_mem = 5000",
        "SET work_mem = 5000; SELECT 1",
        "; ; SET work_mem = 5000;",
        "BEGIN; SET work_mem = 5000; COMMIT",
        "SET LOCAL work_mem = 5000; SET app.tenant = '7'",
        "SELECT 'it''s'; SET work_mem = 5000 --'",
        "SELECT E'\\''; SET work_mem = 5000 --'",
        "SELECT '\\'; SET work_mem = 5000 --'",
        "SELECT $a$ $b$ $a$; SET work_mem = 5000 --$b$",
        "SELECT 1 /* /* */ */; SET work_mem = 5000",
        'SELECT 1 AS "a""; --"; SET work_mem = 5000',
        "SELECT U&'\\0041'; SET work_mem = 5000",
        "SELECT $$ $$; SET work_mem = 5000 -- $$",
        'SET "App"."Tenant" = \'7\'',
        'SET search_path = \'public\', "$user", "a b"',
        "SET search_path FROM CURRENT",
        "SET standard_conforming_strings = on",
        "SET SESSION NAMES 'LATIN1'",
        "SET role = reader",
        "SET session_authorization = 'reader'",
        "SET ROLE reader; SET work_mem = 5000",
        "SET SESSION AUTHORIZATION reader; SET ROLE NONE",
        "BEGIN; SET work_mem = 5000; SAVEPOINT a; SET app.tenant = '7'; ROLLBACK TO a; COMMIT",
        "BEGIN; SET LOCAL work_mem = 6000; SET work_mem = 5000; COMMIT",
        "SET work_mem = 6000; RESET ALL; SET work_mem = 5000",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY, DEFERRABLE",
    ),
    *harmless(
        "SET work_mem = 5000; RESET work_mem",
        "SET ROLE reader; RESET ROLE",
        "SET SESSION AUTHORIZATION reader; RESET SESSION AUTHORIZATION",
        "SET app.tenant = '7'; SET work_mem = 5000; RESET ALL",
        "BEGIN; SET work_mem = 5000; ROLLBACK",
        "BEGIN; SET ROLE reader; SAVEPOINT a; SET app.tenant = '7'; ROLLBACK",
        "BEGIN; SET transaction_read_only = on; COMMIT",
        "BEGIN; SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE; COMMIT",
        "BEGIN; SELECT set_config('transaction_read_only', 'on', false); COMMIT",
    ),
    *harmless("SET no_such_setting = 1", "SELECT set_config('no_such_setting', '1', false)", fails="42704"),
    *harmless("SET work_mem = 'much'", fails="22023"),
    *pins(
        "SETTING UNRESETTABLE",
        "SET standard_conforming_strings = off",
        "SELECT set_config('standard_conforming_strings', 'off', false)",
    ),
    *pins("SETTING UNRESETTABLE", "RESET standard_conforming_strings", unseen=NOTHING_HAPPENS),
    *pins(
        "SETTING UNRESETTABLE",
        "BEGIN; SET LOCAL standard_conforming_strings = off; COMMIT",
        unseen="it ends with the transaction",
    ),
    *pins(
        "SETTING",
        "UPDATE pg_settings SET setting = '5000' WHERE name = 'work_mem'",
        "update pg_catalog . \"pg_settings\" as s set setting = '5000' where s.name = 'work_mem'",
    ),
    *harmless(
        "RESET work_mem",
        "reset all",
        "RESET ROLE",
        "RESET SESSION AUTHORIZATION",
        "RESET TIME ZONE",
        "DISCARD ALL",
        "DISCARD PLANS",
        "DISCARD SEQUENCES",
        "DISCARD TEMP",
        "discard temporary",
        "RESET app.tenant",
        "RESET search_path",
        "SET LOCAL work_mem = 5000",
        "BEGIN; SET LOCAL work_mem = 5000; COMMIT",
        "BEGIN; set/**/local\napp.tenant TO '7'; COMMIT",
        "BEGIN; SET LOCAL ROLE reader; COMMIT",
        "BEGIN; SET LOCAL SESSION AUTHORIZATION reader; COMMIT",
        "BEGIN; SET LOCAL TIME ZONE 'Asia/Tokyo'; COMMIT",
        "BEGIN; SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; COMMIT",
        "BEGIN; SET LOCAL search_path TO public; CREATE TABLE new_one (a int); COMMIT",
        "BEGIN; SET LOCAL work_mem = 5000; ROLLBACK",
        "BEGIN; SAVEPOINT a; SET LOCAL work_mem = 5000; RELEASE a; COMMIT",
        "BEGIN; SELECT set_config('work_mem', '5000', true); COMMIT",
        "BEGIN; SELECT set_config('app.tenant', concat('7', '8'), true); COMMIT",
        "BEGIN; SELECT set_config('search_path', 'public', true); CREATE TABLE new_one (a int); COMMIT",
        "SELECT name, setting FROM pg_settings",
        "BEGIN; SELECT pg_catalog.set_config('app.tenant', '7', 'on'::bool); COMMIT",
        "BEGIN; SELECT \"set_config\"('role', 'reader', 't'); COMMIT",
        "BEGIN; SET TRANSACTION READ ONLY; COMMIT",
        "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE, DEFERRABLE; COMMIT",
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "SHOW ALL",
        "SHOW work_mem",
        "SELECT current_setting('work_mem'), current_setting('app.tenant', true)",
        "ALTER ROLE reader SET work_mem = '5MB'",
        "ALTER SYSTEM SET work_mem = '5MB'",
        "ALTER SYSTEM RESET ALL",
        "SELECT pg_reload_conf()",
        'SELECT \'SET work_mem = 1\', $$; SET work_mem = 1; $$, "set" FROM (VALUES (1)) AS "SET" ("set")',
        "SELECT 1 -- ; SET work_mem = 1",
        "SELECT 1 /* ; SET work_mem = 1; /* SELECT set_config('work_mem', '1', false) */ */",
        'SELECT \'set_config(\', "reset" FROM (SELECT 1 AS "reset") AS set_config',
        'CREATE TABLE reset ("SET" int, discard text)',
        "COMMENT ON TABLE items IS 'SET work_mem = 1'",
        "CREATE VIEW setter AS SELECT set_config('app.tenant', '7', false)",
        "CREATE TABLE setter (a text DEFAULT set_config('app.tenant', '7', false))",
        "CREATE RULE setter AS ON INSERT TO items DO ALSO SELECT set_config('app.tenant', '7', false)",
        "CREATE FUNCTION setter() RETURNS int LANGUAGE sql SET work_mem = '5MB' AS 'SELECT 1'",
        "CREATE FUNCTION setter() RETURNS text BEGIN ATOMIC SELECT set_config('app.tenant', '7', false); END",
        "ALTER TABLE items SET (fillfactor = 70)",
        "UPDATE items SET name = 'SET'",
    ),
    *pins(
        "SETTING UNRESETTABLE",
        "SELECT * FROM (VALUES (1, 2)) AS set_config (a, b)",
        "INSERT INTO set_config (a) VALUES (1)",
        objects=("create table set_config (a int)",),
        unseen=SAME_NAME,
    ),
)

# Calls of set_config(), in all places where PostgreSQL evaluates an expression ---------------------------------

_TEXT = "set_config('app.tenant', '7', false)"
_INT = f"length({_TEXT})"
_BOOL = f"({_TEXT} = '7')"
CALLS = (
    *virtual(
        f"SELECT {_TEXT}",
        "SELECT SET_CONFIG('app.tenant', '7', FALSE)",
        "SELECT pg_catalog.set_config('app.tenant', '7', false)",
        "SELECT pg_catalog/**/. -- set\n\"set_config\" ( 'app.tenant', '7', false )",
        "SELECT \"pg_catalog\".\"set_config\"('app.tenant', '7', false)",
        "SELECT set_config('app.tenant', '7', NOT true)",
        "SELECT set_config('app.tenant', '7', id < 0) FROM items",
        f"SELECT 1; SELECT {_TEXT}; SELECT 2",
        f"SELECT * FROM {_TEXT}",
        f"SELECT * FROM items, LATERAL {_TEXT} AS x",
        f"SELECT * FROM items CROSS JOIN {_TEXT} x",
        f"SELECT * FROM items JOIN others ON {_BOOL}",
        f"SELECT * FROM ROWS FROM ({_TEXT}, generate_series(1, 2)) AS x (a, b)",
        f"SELECT * FROM {_TEXT} WITH ORDINALITY AS x (a, b)",
        f"SELECT * FROM (SELECT {_TEXT}) AS x (a)",
        f"SELECT 1 WHERE {_BOOL}",
        f"SELECT 1 FROM items GROUP BY {_TEXT}",
        f"SELECT count(*) FROM items HAVING {_BOOL}",
        f"SELECT 1 FROM items ORDER BY {_TEXT}",
        f"SELECT count(*) FILTER (WHERE {_BOOL}) FROM items",
        f"SELECT count(*) OVER (PARTITION BY {_TEXT}) FROM items",
        f"SELECT count(*) OVER w FROM items WINDOW w AS (ORDER BY id ROWS {_INT} PRECEDING)",
        f"SELECT 1 LIMIT {_INT}",
        f"SELECT 1 FROM items OFFSET {_INT} ROWS FETCH FIRST ({_INT}) ROWS ONLY",
        f"SELECT * FROM items TABLESAMPLE bernoulli ({_INT})",
        f"SELECT * FROM items TABLESAMPLE system (50) REPEATABLE ({_INT})",
        f"SELECT DISTINCT ON ({_TEXT}) 1 FROM items",
        f"SELECT CASE WHEN {_BOOL} THEN 1 ELSE 2 END",
        f"SELECT CASE {_TEXT} WHEN '7' THEN 1 END",
        f"SELECT coalesce(NULL, {_TEXT}), ARRAY[{_TEXT}], ROW ({_TEXT}), ({_TEXT})::text, CAST({_TEXT} AS text)",
        f"SELECT 1 IN ({_INT}), 1 BETWEEN {_INT} AND 2, 'a' LIKE {_TEXT}, NOT {_BOOL}, -{_INT}, {_TEXT} IS NULL",
        f"SELECT 1 OPERATOR(pg_catalog.+) {_INT}, now() AT TIME ZONE ('UTC' || left({_TEXT}, 0))",
        f"SELECT EXISTS (SELECT 1 WHERE {_BOOL})",
        f"SELECT ARRAY(SELECT {_TEXT}), (SELECT {_TEXT} LIMIT 1)",
        f"SELECT upper(lower(concat('a', {_TEXT})))",
        f"(SELECT 1) UNION ALL (SELECT {_INT})",
        f"VALUES (1, {_TEXT})",
        f"WITH x AS (SELECT {_TEXT}) SELECT * FROM x",
        f"WITH x (a) AS MATERIALIZED (SELECT {_TEXT}) SELECT 1 FROM x, x AS y",
        f"WITH RECURSIVE x (a) AS (SELECT 1 UNION ALL SELECT a + {_INT} FROM x WHERE a < 2) SELECT * FROM x",
        f"INSERT INTO items (id, name) VALUES (7, {_TEXT})",
        f"INSERT INTO items (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = {_TEXT}",
        f"INSERT INTO items (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x' WHERE {_BOOL}",
        f"INSERT INTO items (id) VALUES (7) RETURNING {_TEXT}",
        f"UPDATE items SET name = {_TEXT}",
        f"UPDATE items SET (name, price) = ROW ({_TEXT}, 1) FROM others o",
        f"DELETE FROM items USING others WHERE {_BOOL}",
        f"WITH d AS (DELETE FROM items RETURNING {_TEXT}) SELECT * FROM d",
        f"MERGE INTO items i USING others o ON i.id = o.id WHEN MATCHED AND {_BOOL} THEN DELETE",
        f"MERGE INTO items i USING others o ON i.id = o.id WHEN MATCHED THEN UPDATE SET name = {_TEXT}",
        f"CREATE TABLE made AS SELECT {_TEXT}",
        f"SELECT {_TEXT} INTO made",
        f"COPY (SELECT {_TEXT}) TO STDOUT",
        f"COPY (DELETE FROM items RETURNING {_TEXT}) TO STDOUT",
        f"EXPLAIN ANALYZE SELECT {_TEXT}",
        f"EXPLAIN (ANALYZE, COSTS off) SELECT {_TEXT}",
        f"EXPLAIN ANALYZE VERBOSE CREATE TABLE made AS SELECT {_TEXT}",
        f"EXPLAIN (ANALYZE) INSERT INTO items VALUES ({_INT} + 7)",
        f"ALTER TABLE items ADD COLUMN tenant text DEFAULT {_TEXT}",
        f"ALTER TABLE items ALTER COLUMN name TYPE text USING {_TEXT}",
        f"ALTER TABLE items ADD CHECK {_BOOL}",
        f"CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM ({_INT}) TO (9)",
        f"ALTER TABLE parts ATTACH PARTITION part FOR VALUES FROM ({_INT}) TO (9)",
        f"BEGIN; DECLARE list CURSOR FOR SELECT {_TEXT}; FETCH list; COMMIT",
        f"SELECT (json_build_object('a', {_TEXT}))->>'a'",
        f"SELECT * FROM unnest(ARRAY[{_TEXT}]) AS x (a)",
        objects=(
            "create table parts (a int) partition by range (a)",
            "create table part (a int)",
        ),
    ),
    *virtual(
        f"EXPLAIN SELECT {_TEXT}",
        f"EXPLAIN (ANALYZE off) SELECT {_TEXT}",
        f"ALTER TABLE items ALTER COLUMN name SET DEFAULT {_TEXT}",
        f"CREATE MATERIALIZED VIEW made AS SELECT {_TEXT} WITH NO DATA",
        f"SELECT EXISTS (SELECT {_TEXT})",
        unseen=NOT_EVALUATED,
    ),
    *virtual(
        f"CREATE MATERIALIZED VIEW made AS SELECT {_TEXT}",
        unseen=NESTED,
    ),
    *pins("PREPARED_STATEMENT", f"PREPARE setter AS SELECT {_TEXT}; EXECUTE setter", virtual=True),
    *pins(
        "PREPARED_STATEMENT SETTING TEMP_TABLE",
        "PREPARE setter AS SELECT set_config('search_path', $1, false); EXECUTE setter ('pg_temp');"
        " CREATE TABLE t (a int)",
        virtual=True,
    ),
    *virtual(
        f"PREPARE setter AS SELECT {_TEXT}; EXECUTE setter; DEALLOCATE setter",
        reasons=("PREPARED_STATEMENT",),
        ended="PREPARED_STATEMENT",
    ),
    *virtual(f"EXECUTE asks ({_TEXT})", before=("prepare asks (text) as select $1",)),
    *harmless(
        "EXECUTE setter",
        "EXPLAIN ANALYZE EXECUTE setter",
        "CREATE TABLE made AS EXECUTE setter",
        before=("prepare setter as select set_config('app.tenant', '7', false)", "execute setter"),
    ),
)

# Names of settings that no text tells for certain: all of them are `seed`
UNKNOWN_NAMES = (
    "'se' || 'ed'",
    "E'seed'",
    "$$seed$$",
    "U&'seed'",
    "'se'\n'ed'",
    "('seed')",
    "lower('SEED')",
    "text 'seed'",
    "(SELECT 'seed')",
)

# The seed: no command takes it back, and no transaction either -------------------------------------------------

SEEDS = (
    *pins(
        "UNRESETTABLE",
        "SELECT setseed(0.5)",
        'select pg_catalog . "setseed"(0.5)',
        "SELECT * FROM setseed(0.5)",
        "WITH x AS (SELECT setseed(0.5)) SELECT * FROM x",
        "EXPLAIN ANALYZE SELECT setseed(0.5)",
        "SELECT 1; SELECT setseed(0.5)",
        "BEGIN; SELECT setseed(0.5); ROLLBACK",
        "BEGIN; SET LOCAL seed = 0.5; COMMIT",
        'BEGIN; SET LOCAL "SEED" TO 0.5; ROLLBACK',
        "SELECT set_config('seed'::text, '0.5', true)",
        "BEGIN; SELECT set_config('seed', '0.5', true); COMMIT",
        "BEGIN; SELECT set_config('Seed', '0.5', true); ROLLBACK",
    ),
    *pins(
        "SETTING UNRESETTABLE",
        *(f"SELECT set_config({name}, '0.5', {is_local})" for name in UNKNOWN_NAMES for is_local in ("true", "false")),
    ),
    *pins(
        "UNRESETTABLE",
        "SET seed = 0.5",
        'SET SESSION "seed" TO 0.5',
        "SELECT set_config('seed', '0.5', false)",
    ),
)

# Temporary objects -------------------------------------------------------------------------------------------

TEMPORARY = (
    *pins(
        "TEMP_TABLE",
        "CREATE TEMP TABLE t (a int)",
        "create temporary table if not exists t (a int)",
        'CREATE/**/LOCAL -- \n TEMP TABLE "T" (a int)',
        "CREATE GLOBAL TEMPORARY TABLE t (a int)",
        "CREATE TEMP TABLE t (a int) ON COMMIT DELETE ROWS",
        "CREATE TEMP TABLE t (a int) ON COMMIT PRESERVE ROWS",
        'CREATE TEMP TABLE t ("on" int, "commit" int, "drop" int)',
        "CREATE TEMP TABLE t (LIKE items INCLUDING ALL)",
        "CREATE TEMP TABLE t AS SELECT 1 AS a",
        "CREATE TEMP TABLE t AS TABLE items WITH NO DATA",
        "CREATE TEMP TABLE t (a) AS VALUES (1)",
        "CREATE TEMP VIEW t AS SELECT 1 AS a",
        "CREATE OR REPLACE TEMPORARY VIEW t AS SELECT 1 AS a",
        "CREATE TEMP RECURSIVE VIEW t (a) AS VALUES (1)",
        "CREATE TEMP SEQUENCE t",
        "SELECT 1 AS a INTO TEMP t",
        "SELECT 1 AS a INTO TEMPORARY TABLE t",
        "SELECT id INTO LOCAL TEMP t FROM items",
        "WITH x AS (SELECT 1 AS a) SELECT * INTO TEMP t FROM x",
        "CREATE TABLE pg_temp.t (a int)",
        'CREATE TABLE "pg_temp" . t AS SELECT 1 AS a',
        "SELECT 1 AS a INTO pg_temp.t",
        "CREATE VIEW pg_temp.t AS SELECT 1 AS a",
        "CREATE SEQUENCE pg_temp.t",
        "CREATE FUNCTION pg_temp.t() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE pg_temp.t AS ENUM ('a')",
        "CREATE TYPE pg_temp.t AS (a int)",
        "CREATE DOMAIN pg_temp.t AS int",
        'CREATE COLLATION pg_temp.t FROM "C"',
        "CREATE AGGREGATE pg_temp.t(float8) (SFUNC = float8_accum, STYPE = float8[], INITCOND = '{0,0,0}')",
        "CREATE OPERATOR pg_temp.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
        "CREATE TEXT SEARCH CONFIGURATION pg_temp.t (PARSER = default)",
        "CREATE STATISTICS pg_temp.t ON id, name FROM items",
        "EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1 AS a",
        "SELECT 1; CREATE TEMP TABLE t (a int)",
        "BEGIN; CREATE TEMP TABLE t (a int); COMMIT",
        "BEGIN; SET LOCAL search_path = pg_temp; CREATE TABLE t (a int); COMMIT",
        'BEGIN; SET LOCAL search_path TO "pg_temp", public; CREATE TABLE t (a int); COMMIT',
        "BEGIN; SET LOCAL search_path = 'pg_temp'; CREATE TABLE t (a int); COMMIT",
        "BEGIN; SET LOCAL search_path TO 'pg_temp', public; CREATE TABLE t (a int); COMMIT",
        "BEGIN; SELECT set_config('search_path', 'pg_temp', true); CREATE TABLE t (a int); COMMIT",
        "BEGIN; SELECT set_config('search_path', '\"pg_temp\" , public', true); CREATE TABLE t (a int); COMMIT",
        "BEGIN; SELECT set_config('search_path', 'pg_' || 'temp', true); CREATE TABLE t (a int); COMMIT",
        "BEGIN; SELECT set_config('search_path', E'pg\\x5ftemp', true); CREATE TABLE t (a int); COMMIT",
        "BEGIN; SELECT set_config('search_path', concat('pg', '_temp'), true); CREATE TABLE t (a int); COMMIT",
        "BEGIN; SET LOCAL \"Search_Path\" = 'pg_temp'; CREATE TABLE t (a int); COMMIT",
        "BEGIN; SET LOCAL SCHEMA 'pg_temp'; CREATE TABLE t (a int); COMMIT",
        "BEGIN; SET LOCAL search_path = $$pg_temp$$; CREATE TABLE t (a int); COMMIT",
        "BEGIN; SET LOCAL search_path = E'pg\\x5ftemp'; CREATE TABLE t (a int); COMMIT",
        "BEGIN; SET LOCAL search_path TO U&'pg\\005ftemp'; CREATE TABLE t (a int); COMMIT",
    ),
    *pins(
        "TEMP_TABLE",
        "SET search_path = pg_temp, public; CREATE TABLE t (a int)",
        "SET SCHEMA 'pg_temp'; CREATE TABLE t (a int)",
        "SELECT set_config('search_path', 'pg_temp', false); CREATE TABLE t (a int)",
        "BEGIN; SET search_path = pg_temp; CREATE TABLE t (a int); SET search_path = public; COMMIT",
        virtual=True,
    ),
    *pins(
        "TEMP_TABLE",
        "CREATE TEMP TABLE t (a int); DROP TABLE t",
        "CREATE TEMP TABLE t (a int); DISCARD TEMP",
        unseen=ENDED,
    ),
    *pins(
        "TEMP_TABLE",
        "EXPLAIN CREATE TEMP TABLE t AS SELECT 1 AS a",
        unseen=NOT_EVALUATED,
    ),
    *pins(
        "TEMP_TABLE",
        "CREATE SCHEMA archive CREATE TEMP TABLE t (a int)",
        fails="42P16",
        unseen="the server refuses it",
    ),
    *pins("TEMP_TABLE", "CREATE TEMP TABLE t AS EXECUTE asks", before=("prepare asks as select 1 as a",)),
    *harmless(
        "CREATE VIEW v AS SELECT * FROM t; DROP TABLE t CASCADE",
        before=("create temp table t (a int)",),
    ),
    *harmless(
        "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; INSERT INTO t VALUES (1); COMMIT",
        "BEGIN; CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1 AS a; CREATE INDEX ON t (a); COMMIT",
        "BEGIN; CREATE TEMP TABLE t (a serial) WITH (fillfactor = 70) on/**/commit\ndrop; COMMIT",
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; CREATE VIEW v AS SELECT * FROM t; COMMIT",
        "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP; ROLLBACK",
        "CREATE TABLE temp (a int)",
        "CREATE UNLOGGED TABLE temporary (a int)",
        "CREATE TABLE t (temp int, \"temporary\" text DEFAULT 'TEMP')",
        "INSERT INTO others (a) SELECT 1 AS temp",
        "SELECT 1 AS temp, 'CREATE TEMP TABLE t ()' AS local",
        "SELECT 'pg_temp', $$pg_temp.t$$, pg_my_temp_schema() -- pg_temp.t",
        "SELECT 1 AS a INTO made",
        "CREATE TABLE made AS SELECT 'INTO TEMP t' AS temp",
    ),
)

# Prepared statements, cursors, locks, channels -----------------------------------------------------------------

KEPT_BY_NAME = (
    *pins(
        "PREPARED_STATEMENT",
        "PREPARE p AS SELECT 1",
        'prepare "P q" (int, text) as select $1, $2',
        "PREPARE/* TRANSACTION */p AS VALUES (1)",
        "PREPARE transaction AS SELECT 1",
        "PREPARE p AS INSERT INTO items (id) VALUES (7)",
        "SELECT 1; PREPARE p AS SELECT 1",
        "BEGIN; PREPARE p AS SELECT 1; ROLLBACK",
    ),
    *harmless(
        "EXECUTE p",
        "EXPLAIN EXECUTE p",
        "DEALLOCATE p",
        "DEALLOCATE PREPARE ALL",
        before=("prepare p as select 1",),
    ),
    *harmless("SELECT 'PREPARE p AS SELECT 1' AS prepare -- ; PREPARE p AS SELECT 1"),
    *pins(
        "HOLD_CURSOR",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        'declare "C d" binary insensitive no scroll cursor with/**/hold for select 1',
        "DECLARE hold CURSOR WITH HOLD FOR SELECT 1",
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT id FROM items; COMMIT",
    ),
    *harmless(
        "BEGIN; DECLARE c CURSOR FOR SELECT 1; COMMIT",
        "BEGIN; DECLARE c SCROLL CURSOR WITHOUT HOLD FOR SELECT 1; FETCH ALL FROM c; MOVE FIRST IN c; CLOSE c; END",
        "BEGIN; DECLARE \"with hold\" CURSOR FOR SELECT 'WITH HOLD' AS hold; COMMIT",
        "BEGIN; DECLARE hold CURSOR FOR WITH hold AS (SELECT 1) SELECT * FROM hold; COMMIT",
    ),
    *harmless("FETCH c", "MOVE c", "CLOSE c", "CLOSE ALL", before=("declare c cursor with hold for select 1",)),
    *pins("LISTEN", "LISTEN a", 'listen "A b"', "SELECT 1; LISTEN a", "BEGIN; LISTEN a; COMMIT"),
    *pins("LISTEN", "BEGIN; LISTEN a; ROLLBACK", "LISTEN a; UNLISTEN a", unseen=ENDED),
    *pins("PREPARED_STATEMENT", "PREPARE p AS SELECT 1; DEALLOCATE p", unseen=ENDED),
    *pins("HOLD_CURSOR", "DECLARE c CURSOR WITH HOLD FOR SELECT 1; CLOSE c", unseen=ENDED),
    *harmless("UNLISTEN a", "UNLISTEN *", before=("listen a",)),
    *harmless(
        "NOTIFY a",
        "NOTIFY a, 'LISTEN a'",
        "SELECT pg_notify('a', 'listen a')",
        "SELECT 1 AS listen",
        "SELECT pg_listening_channels()",
    ),
)

LOCKS = (
    *pins(
        "ADVISORY_LOCK",
        "SELECT pg_advisory_lock(1), pg_advisory_unlock(1)",
        "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock_all()",
        unseen=ENDED,
    ),
    *pins(
        "ADVISORY_LOCK",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_lock(1, 2)",
        "SELECT PG_Advisory_Lock_Shared(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1, 2)",
        "SELECT pg_catalog.pg_advisory_lock(1)",
        'SELECT "pg_advisory_lock"/* xact */(1)',
        "SELECT * FROM pg_advisory_lock(1)",
        "SELECT id FROM items WHERE pg_try_advisory_lock(id) LIMIT 1",
        "SELECT pg_advisory_xact_lock(1), pg_advisory_lock(2)",
        "SELECT pg_advisory_lock(1), pg_advisory_unlock(1), pg_advisory_lock_shared(2)",
        "WITH x AS MATERIALIZED (SELECT pg_try_advisory_lock(id) FROM items) SELECT * FROM x",
        "INSERT INTO others (a) SELECT 1 WHERE pg_try_advisory_lock(1)",
        "UPDATE items SET price = 1 WHERE pg_try_advisory_lock(id)",
        "DELETE FROM items WHERE pg_try_advisory_lock(id)",
        "CREATE TABLE made AS SELECT pg_try_advisory_lock(1)",
        "REFRESH MATERIALIZED VIEW items_locked; SELECT pg_advisory_lock(1)",
        "CREATE MATERIALIZED VIEW made AS SELECT pg_try_advisory_lock(1)",
        "COPY (SELECT pg_advisory_lock(id) FROM items) TO STDOUT",
        "EXPLAIN (ANALYZE) SELECT pg_advisory_lock(1)",
        "SELECT 1; SELECT pg_advisory_lock(1); SELECT 2",
        "BEGIN; SELECT pg_advisory_lock(1); COMMIT",
        "BEGIN; SELECT pg_advisory_lock(1); ROLLBACK",
        objects=("create materialized view items_locked as select 1",),
    ),
    *pins(
        "ADVISORY_LOCK",
        "SELECT * FROM (VALUES (1)) AS pg_advisory_lock (a)",
        "CREATE TABLE pg_advisory_lock (a int); INSERT INTO pg_advisory_lock (a) VALUES (1)",
        unseen=SAME_NAME,
    ),
    *pins(
        "ADVISORY_LOCK", "SELECT pg_advisory_lock(1), 1 / (id - id) FROM items", fails="22012", leaves_if_failed=True
    ),
    *harmless(
        "SELECT pg_advisory_unlock(1)",
        "SELECT pg_advisory_unlock_shared(1), pg_advisory_unlock_all()",
        before=("select pg_advisory_lock(1)",),
    ),
    *harmless(
        "SELECT pg_advisory_xact_lock(1), pg_advisory_xact_lock_shared(1, 2), pg_try_advisory_xact_lock(3)",
        "BEGIN; SELECT pg_advisory_xact_lock(1); LOCK TABLE items; SELECT * FROM items FOR UPDATE; COMMIT",
        "SELECT 'pg_advisory_lock(1)', $$ pg_advisory_lock(1) $$ AS pg_advisory_lock -- pg_advisory_lock(1)",
        "BEGIN; LOCK items IN EXCLUSIVE MODE NOWAIT; COMMIT",
    ),
)

# Routines ----------------------------------------------------------------------------------------------------

_ROUTINES = (
    SETS,
    "create function \"Sets\"() returns int language sql as 'select sets()'",
    "create schema archive",
    "create function archive.sets() returns int language sql as 'select public.sets()'",
    "create procedure does(n int default 1) language plpgsql as $$ begin set app.tenant = '7'; end $$",
    "create function harmless(int default 1) returns int language sql as 'select 1'",
    "create aggregate sum_of(int) (sfunc = int4pl, stype = int)",
)
ROUTINES = (
    *pins(
        "UNKNOWN_ROUTINE",
        "SELECT sets()",
        "SELECT public/**/. sets ()",
        'SELECT "Sets"()',
        "SELECT archive.sets()",
        "SELECT * FROM sets()",
        "SELECT id FROM items ORDER BY sets()",
        "WITH x AS (SELECT sets()) SELECT * FROM x",
        "INSERT INTO items (id) VALUES (sets() + 7)",
        "UPDATE items SET price = sets()",
        "COPY (SELECT sets()) TO STDOUT",
        "EXPLAIN ANALYZE SELECT sets()",
        "CREATE TABLE made AS SELECT sets()",
        "ALTER TABLE items ADD COLUMN extra int DEFAULT sets()",
        "CALL does()",
        'call public."does"(n => 1)',
        f"CALL does({_INT})",
        "BEGIN; CALL does(); COMMIT",
        "DO $$ BEGIN SET work_mem = 5000; PERFORM sets(); END $$",
        objects=_ROUTINES,
        virtual=True,
        proven=True,
    ),
    *virtual(
        "DO $$ BEGIN SET app.tenant = '7'; END $$",
        "do language plpgsql 'begin set work_mem = 5000; end'",
        "SELECT 1; DO $$ BEGIN SET app.tenant = '7'; SET ROLE reader; END $$",
        "DO $$ BEGIN SET work_mem = 5000; BEGIN SET app.tenant = '7'; PERFORM 1 / 0;"
        " EXCEPTION WHEN OTHERS THEN END; END $$",
    ),
    *pins(
        "UNKNOWN_ROUTINE",
        "DO $$ BEGIN CREATE TEMP TABLE t (a int); END $$",
        "DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$",
        "DO $$ BEGIN LISTEN a; END $$",
        "do language plpgsql 'begin perform set_config(''app.tenant'', ''7'', false); end'",
        "DO $$ BEGIN SET app.tenant = '7'; EXECUTE 'SET work_mem = 5000'; END $$",
        "DO $$ BEGIN PERFORM set_config('app.' || 'tenant', '7', false); END $$",
        "SELECT sets_any('app.tenant')",
        objects=(
            *_ROUTINES,
            "create function sets_any(n text) returns text language sql as $$ select set_config(n, '7', false) $$",
        ),
    ),
    *pins(
        "UNKNOWN_ROUTINE",
        "SELECT ts_stat('select to_tsvector(set_config(''app.tenant'', ''7'', false))')",
        "SELECT ts_rewrite('a', 'select to_tsquery(''a''), to_tsquery(set_config(''app.tenant'', ''7'', false))')",
    ),
    *pins(
        "UNKNOWN_ROUTINE",
        "SELECT harmless()",
        "SELECT * FROM public.harmless(1) a, harmless(2) b",
        "DO $$ BEGIN PERFORM harmless(); END $$",
        "CALL adds(7)",
        "EXPLAIN SELECT sets()",
        objects=(*_ROUTINES, "create procedure adds(n int) language sql as 'insert into items (id) values (n)'"),
        unseen="these routines leave nothing",
        proven=True,
    ),
    *pins(
        "UNKNOWN_ROUTINE",
        "SELECT sum_of(id) FROM items",
        "DO $$ BEGIN EXECUTE 'SELECT 1'; END $$",
        "DO $$ BEGIN PERFORM '%s'; END $$",
        objects=_ROUTINES,
        unseen="it leaves nothing, which its text and the catalogue do not tell",
    ),
    *harmless("DO $$ BEGIN SET app.tenant = '7'; PERFORM 1 / 0; END $$", fails="22012"),
    *pins(
        "UNKNOWN_ROUTINE",
        "DO $$ BEGIN PERFORM pg_advisory_lock(1); PERFORM 1 / 0; END $$",
        fails="22012",
        leaves_if_failed=True,
    ),
    *pins("UNKNOWN_ROUTINE UNKNOWN_STATEMENT", 'SELECT U&"\\0073ets"()', objects=_ROUTINES),
    *pins("UNKNOWN_STATEMENT", "SELECT 5 %sum(id) FROM items", unseen="what it leaves is not what makes it unknown"),
    *pins("UNKNOWN_STATEMENT", "FROBNICATE items", fails="42601", unseen="the server does not know it either"),
    *harmless(
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT sets()'",
        "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN SET app.tenant = '7'; END $$",
        "DROP FUNCTION sets()",
        'SELECT \'sets()\', $$ CALL does() $$ AS sets, "sets".a FROM (VALUES (1)) AS "sets" (a)',
        "SELECT lower(upper('a')), now(), count(*), jsonb_build_object('a', 1), coalesce(max(id), 0) FROM items",
        "SELECT nextval('ids'), currval('ids'), lastval(), setval('ids', 7)",
        "DO $$ BEGIN END $$",
        "DO $body$ DECLARE n int := 0; BEGIN UPDATE items SET id = id + n; RAISE NOTICE '% $$', n; END $body$",
        objects=(*_ROUTINES, "create sequence ids"),
    ),
)

# What no command takes back ------------------------------------------------------------------------------------

UNRESETTABLE = (
    *pins("UNRESETTABLE", "load 'auto_explain'", "SELECT 1; LOAD /* it */ '$libdir/auto_explain'"),
    *pins(
        "UNRESETTABLE",
        "SELECT pg_create_physical_replication_slot('s', true, true)",
        "SELECT * FROM pg_catalog.\"pg_create_physical_replication_slot\"('s', false, true)",
        "SELECT pg_create_logical_replication_slot('s', 'test_decoding', true)",
        "SELECT pg_copy_physical_replication_slot('kept', 's', true)",
        "SELECT pg_copy_logical_replication_slot('kept_too', 's', true)",
        objects=(
            "select pg_create_physical_replication_slot('kept', true)",
            "select pg_create_logical_replication_slot('kept_too', 'test_decoding')",
        ),
    ),
    *pins(
        "UNRESETTABLE",
        "SELECT pg_replication_origin_session_setup('o')",
        objects=("select pg_replication_origin_create('o')",),
    ),
    *pins(
        "UNRESETTABLE",
        "SELECT pg_backup_start('b', true)",
        unseen="no function tells whether a backup of this session is under way since exclusive ones are gone",
    ),
    *pins(
        "UNRESETTABLE",
        "SELECT count(*) FROM pg_logical_slot_get_changes('kept_too', NULL, NULL)",
        "SELECT count(*) FROM pg_logical_slot_peek_changes('kept_too', NULL, NULL)",
        objects=("select pg_create_logical_replication_slot('kept_too', 'test_decoding')",),
        unseen="what the slot's plugin keeps is its own affair",
    ),
    *harmless(
        "SELECT pg_create_restore_point('p'), pg_switch_wal() IS NULL",
        "SELECT pg_drop_replication_slot('kept')",
        "SELECT 'LOAD', 'setseed(0.5)' AS load",
        "SELECT lo_create(7), lo_unlink(7)",
        "BEGIN; SELECT lo_open(lo_creat(-1), 131072); SELECT pg_export_snapshot(); COMMIT",
        objects=("select pg_create_physical_replication_slot('kept', true)",),
    ),
)

# Nothing, and transactions in one text ---------------------------------------------------------------------------

TEXTS = harmless(
    "",
    ";",
    " ; ;; ",
    "-- nothing",
    "/* SET work_mem = 1; */",
    "SELECT",
    "SELECT 1; SELECT 2",
    "BEGIN",
    "BEGIN; SELECT 1; COMMIT",
    "begin;commit;",
    "BEGIN; SELECT 1",
    "SELECT 1; BEGIN",
    "SELECT 1; COMMIT",
    "BEGIN; COMMIT; BEGIN",
    "BEGIN; ROLLBACK; SELECT 1",
    "BEGIN; SAVEPOINT a; ROLLBACK TO a; COMMIT AND CHAIN",
    "INSERT INTO others (a) VALUES (7); COMMIT; SELECT 1",
    "START TRANSACTION READ ONLY; SELECT 1; END",
    "COMMIT",
    "ROLLBACK",
)

ROWS = (
    *CLASSES,
    *SETTINGS,
    *CALLS,
    *SEEDS,
    *TEMPORARY,
    *KEPT_BY_NAME,
    *LOCKS,
    *ROUTINES,
    *UNRESETTABLE,
    *TEXTS,
)


# Transactions, statement by statement ---------------------------------------------------------------------------

FAIL = "SELECT 1 / 0"
SCRIPTS: tuple[tuple[str, ...], ...] = (
    ("BEGIN", "SELECT 1", "COMMIT"),
    ("begin work", "SELECT 1", "commit work"),
    ("BEGIN TRANSACTION", "END TRANSACTION"),
    ("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", "SELECT 1", "END"),
    ("START TRANSACTION", "SELECT 1", "END WORK"),
    ("start transaction isolation level serializable read only deferrable", "ABORT"),
    ("/* COMMIT */ BEGIN -- COMMIT", "SELECT 'COMMIT'", "/* BEGIN */ COMMIT"),
    ("BEGIN", "BEGIN", "COMMIT", "COMMIT"),
    ("COMMIT", "ROLLBACK", "END", "ABORT", "SELECT 1"),
    ("BEGIN", "SELECT 1", "ROLLBACK"),
    ("BEGIN", "ABORT WORK"),
    ("BEGIN", "ROLLBACK TRANSACTION"),
    ("BEGIN", "COMMIT AND CHAIN", "SELECT 1", "COMMIT AND NO CHAIN"),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE", "ROLLBACK AND CHAIN", "SHOW transaction_isolation", "ROLLBACK AND NO CHAIN"),
    ("BEGIN", "end transaction and chain", "abort and chain", "END"),
    ("COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SELECT 1"),
    ("BEGIN", FAIL, "SELECT 1", "ROLLBACK"),
    ("BEGIN", FAIL, "COMMIT"),
    ("BEGIN", FAIL, "COMMIT AND CHAIN", "SELECT 1", "COMMIT"),
    ("BEGIN", FAIL, "ROLLBACK AND CHAIN", "SELECT 1", "COMMIT"),
    ("BEGIN", FAIL, "BEGIN", "SAVEPOINT a", "END"),
    (FAIL, "SELECT 1"),
    ("BEGIN", "SAVEPOINT a", "SELECT 1", "RELEASE SAVEPOINT a", "COMMIT"),
    ("BEGIN", "SAVEPOINT a", FAIL, "ROLLBACK TO SAVEPOINT a", "SELECT 1", "RELEASE a", "COMMIT"),
    ("BEGIN", 'savepoint "A b"', FAIL, 'rollback work to "A b"', "COMMIT"),
    ("BEGIN", "SAVEPOINT a", "SAVEPOINT a", FAIL, "ROLLBACK TRANSACTION TO SAVEPOINT a", "ROLLBACK TO a", "ROLLBACK"),
    ("BEGIN", "ROLLBACK TO nowhere", "SELECT 1", "ROLLBACK"),
    ("SAVEPOINT a", "RELEASE a", "ROLLBACK TO a", "SELECT 1"),
    ("BEGIN", "SAVEPOINT a", "COMMIT"),
    ("BEGIN", "INSERT INTO others (a) VALUES (7)", "PREPARE TRANSACTION 'one'", "SELECT 1", "COMMIT PREPARED 'one'"),
    ("BEGIN", "INSERT INTO others (a) VALUES (7)", "prepare transaction 'two'", "rollback prepared 'two'"),
    ("BEGIN", FAIL, "PREPARE TRANSACTION 'three'", "SELECT 1"),
    ("PREPARE TRANSACTION 'none'", "COMMIT PREPARED 'none'", "BEGIN", "ROLLBACK PREPARED 'none'", "ROLLBACK"),
    ("BEGIN", "PREPARE TRANSACTION $$four$$", "ROLLBACK PREPARED 'four'"),
    ("BEGIN; SELECT 1", "SELECT 1", "SELECT 1; COMMIT"),
    ("SELECT 1; BEGIN; SELECT 2", "COMMIT; SELECT 1"),
    ("BEGIN; SELECT 1; COMMIT; SELECT 1", "SELECT 1"),
    ("COMMIT; BEGIN", "ROLLBACK; BEGIN", "COMMIT AND CHAIN; COMMIT"),
    ("BEGIN; SELECT 1 / 0; COMMIT", "SELECT 1", "ROLLBACK"),
    ("BEGIN; COMMIT; SELECT 1 / 0", "SELECT 1"),
    ("SELECT 1; SELECT 1 / 0; BEGIN", "SELECT 1"),
    ("INSERT INTO others (a) VALUES (7); COMMIT; BEGIN; SAVEPOINT a; SELECT 1 / 0", "ROLLBACK TO a", "COMMIT"),
    ("BEGIN; SELECT FROM FROM", "SELECT 1"),
    ("BEGIN", "SELECT 1; SELECT FROM FROM", ";", "ROLLBACK"),
    ("BEGIN", "", ";", "-- nothing", "/* COMMIT */", "COMMIT"),
    ("", ";", "; ;", " ", "-- COMMIT", "/* BEGIN */"),
    ("BEGIN", FAIL, "", ";", "-- nothing", "ROLLBACK"),
    ("BEGIN", "SET TRANSACTION READ ONLY", "INSERT INTO others (a) VALUES (7)", "ROLLBACK"),
    ("BEGIN", "SET CONSTRAINTS ALL IMMEDIATE", "LOCK TABLE items", "COMMIT"),
    ("BEGIN READ ONLY", "SELECT 1", "BEGIN READ WRITE", "COMMIT"),
    ("CREATE PROCEDURE commits() BEGIN ATOMIC SELECT 1; END", "BEGIN", "DROP PROCEDURE commits()", "END"),
    ("VACUUM items", "BEGIN", "VACUUM items", "ROLLBACK"),
    ("BEGIN", "DECLARE c CURSOR FOR SELECT 1", "FETCH c", "CLOSE c", "COMMIT"),
    ("EXPLAIN ANALYZE SELECT 1", "BEGIN", "EXPLAIN SELECT 1", "COMMIT"),
)
"""Texts that one session runs in turn; none pins."""
