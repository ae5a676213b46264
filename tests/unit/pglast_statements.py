"""One statement for every node class of PostgreSQL's parser that is a statement: class name to SQL text.

Names are made up and the statements independent of each other; on a server many need what they name.
"""

from __future__ import annotations

STATEMENTS: dict[str, str] = {
    "AlterCollationStmt": "ALTER COLLATION german REFRESH VERSION",
    "AlterDatabaseRefreshCollStmt": "ALTER DATABASE shop REFRESH COLLATION VERSION",
    "AlterDatabaseSetStmt": "ALTER DATABASE shop SET work_mem = '8MB'",
    "AlterDatabaseStmt": "ALTER DATABASE shop CONNECTION LIMIT 10",
    "AlterDefaultPrivilegesStmt": "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader",
    "AlterDomainStmt": "ALTER DOMAIN positive ADD CHECK (abs(value) > 0)",
    "AlterEnumStmt": "ALTER TYPE mood ADD VALUE 'fine' AFTER 'sad'",
    "AlterEventTrigStmt": "ALTER EVENT TRIGGER watch DISABLE",
    "AlterExtensionContentsStmt": "ALTER EXTENSION hstore ADD TABLE items",
    "AlterExtensionStmt": "ALTER EXTENSION hstore UPDATE TO '1.8'",
    "AlterFdwStmt": "ALTER FOREIGN DATA WRAPPER files OPTIONS (ADD debug 'true')",
    "AlterForeignServerStmt": "ALTER SERVER remote OPTIONS (SET host 'db2')",
    "AlterFunctionStmt": "ALTER FUNCTION total(int) SET search_path = public",
    "AlterObjectDependsStmt": "ALTER FUNCTION total(int) DEPENDS ON EXTENSION hstore",
    "AlterObjectSchemaStmt": "ALTER TABLE items SET SCHEMA archive",
    "AlterOpFamilyStmt": "ALTER OPERATOR FAMILY numbers USING btree ADD OPERATOR 1 < (int4, int2)",
    "AlterOperatorStmt": "ALTER OPERATOR === (int, int) SET (RESTRICT = eqsel)",
    "AlterOwnerStmt": "ALTER FUNCTION total(int) OWNER TO app",
    "AlterPolicyStmt": "ALTER POLICY own ON items USING (owner = current_user)",
    "AlterPublicationStmt": "ALTER PUBLICATION news ADD TABLE items (id, name)",
    "AlterRoleSetStmt": "ALTER ROLE app IN DATABASE shop SET work_mem = '8MB'",
    "AlterRoleStmt": "ALTER ROLE app PASSWORD 'secret'",
    "AlterSeqStmt": "ALTER SEQUENCE ids RESTART WITH 100",
    "AlterStatsStmt": "ALTER STATISTICS pairs SET STATISTICS 100",
    "AlterSubscriptionStmt": "ALTER SUBSCRIPTION copy_of DISABLE",
    "AlterSystemStmt": "ALTER SYSTEM SET work_mem = '8MB'",
    "AlterTSConfigurationStmt": "ALTER TEXT SEARCH CONFIGURATION german ADD MAPPING FOR word WITH simple",
    "AlterTSDictionaryStmt": "ALTER TEXT SEARCH DICTIONARY words (StopWords = 'german')",
    "AlterTableMoveAllStmt": "ALTER TABLE ALL IN TABLESPACE slow SET TABLESPACE fast",
    "AlterTableSpaceOptionsStmt": "ALTER TABLESPACE fast SET (random_page_cost = 1.1)",
    "AlterTableStmt": "ALTER TABLE items ADD COLUMN price numeric(10, 2) DEFAULT 0, ADD UNIQUE (name)",
    "AlterTypeStmt": "ALTER TYPE point3d SET (STORAGE = plain)",
    "AlterUserMappingStmt": "ALTER USER MAPPING FOR app SERVER remote OPTIONS (SET password 'secret')",
    "CallStmt": "CALL nightly(1)",
    "CheckPointStmt": "CHECKPOINT",
    "ClosePortalStmt": "CLOSE ALL",
    "ClusterStmt": "CLUSTER items USING items_pkey",
    "CommentStmt": "COMMENT ON FUNCTION total(int) IS 'sum'",
    "CompositeTypeStmt": "CREATE TYPE pair AS (a int, b varchar(10))",
    "ConstraintsSetStmt": "SET CONSTRAINTS ALL DEFERRED",
    "CopyStmt": "COPY items (id, name) FROM STDIN (FORMAT csv)",
    "CreateAmStmt": "CREATE ACCESS METHOD rows TYPE TABLE HANDLER heap_tableam_handler",
    "CreateCastStmt": "CREATE CAST (mood AS int) WITH FUNCTION mood_number(mood)",
    "CreateConversionStmt": "CREATE DEFAULT CONVERSION mine FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
    "CreateDomainStmt": "CREATE DOMAIN positive AS int CHECK (is_positive(value))",
    "CreateEnumStmt": "CREATE TYPE mood AS ENUM ('sad', 'happy')",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER watch ON ddl_command_start EXECUTE FUNCTION note()",
    "CreateExtensionStmt": "CREATE EXTENSION IF NOT EXISTS hstore",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER files OPTIONS (debug 'true')",
    "CreateForeignServerStmt": "CREATE SERVER remote FOREIGN DATA WRAPPER files OPTIONS (host 'db1')",
    "CreateForeignTableStmt": "CREATE FOREIGN TABLE lines (line text) SERVER remote OPTIONS (filename '/f')",
    "CreateFunctionStmt": (
        "CREATE OR REPLACE FUNCTION total(n int DEFAULT next_one()) RETURNS int LANGUAGE sql "
        "BEGIN ATOMIC UPDATE items SET id = CASE WHEN id > n THEN 1 ELSE 2 END; SELECT set_up(n); END"
    ),
    "CreateOpClassStmt": "CREATE OPERATOR CLASS ints FOR TYPE int4 USING btree AS FUNCTION 1 btint4cmp(int4, int4)",
    "CreateOpFamilyStmt": "CREATE OPERATOR FAMILY numbers USING btree",
    "CreatePLangStmt": "CREATE TRUSTED PROCEDURAL LANGUAGE plx HANDLER plx_call",
    "CreatePolicyStmt": "CREATE POLICY own ON items USING (owner_of(id) = current_user)",
    "CreatePublicationStmt": "CREATE PUBLICATION news FOR TABLE items (id) WHERE (id > 0)",
    "CreateRangeStmt": "CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = float8mi)",
    "CreateRoleStmt": "CREATE ROLE app LOGIN PASSWORD 'secret'",
    "CreateSchemaStmt": "CREATE SCHEMA archive CREATE TABLE items (id int DEFAULT next_one())",
    "CreateSeqStmt": "CREATE SEQUENCE ids OWNED BY items.id",
    "CreateStatsStmt": "CREATE STATISTICS pairs (ndistinct) ON (lower(a)), b FROM items",
    "CreateStmt": "CREATE TABLE items (id int PRIMARY KEY DEFAULT next_one(), at time(3)) PARTITION BY RANGE (id)",
    "CreateSubscriptionStmt": "CREATE SUBSCRIPTION copy_of CONNECTION 'host=db1' PUBLICATION news",
    "CreateTableAsStmt": "CREATE TABLE recent (id, name) AS SELECT id, upper(name) FROM items",
    "CreateTableSpaceStmt": "CREATE TABLESPACE fast LOCATION '/ssd'",
    "CreateTransformStmt": "CREATE TRANSFORM FOR hstore LANGUAGE plx (FROM SQL WITH FUNCTION to_plx(internal))",
    "CreateTrigStmt": "CREATE CONSTRAINT TRIGGER note AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note()",
    "CreateUserMappingStmt": "CREATE USER MAPPING FOR app SERVER remote OPTIONS (password 'secret')",
    "CreatedbStmt": "CREATE DATABASE shop OWNER app",
    "DeallocateStmt": "DEALLOCATE ALL",
    "DeclareCursorStmt": "DECLARE list SCROLL CURSOR WITHOUT HOLD FOR SELECT id FROM items",
    "DefineStmt": "CREATE AGGREGATE mean(float8) (SFUNC = float8_accum, STYPE = float8[], FINALFUNC = float8_avg)",
    "DeleteStmt": "DELETE FROM items USING others o WHERE items.id = o.id RETURNING items.id",
    "DiscardStmt": "DISCARD ALL",
    "DoStmt": "DO $$ BEGIN PERFORM 1; END $$",
    "DropOwnedStmt": "DROP OWNED BY app",
    "DropRoleStmt": "DROP ROLE IF EXISTS app",
    "DropStmt": "DROP FUNCTION IF EXISTS total(int), mean(float8)",
    "DropSubscriptionStmt": "DROP SUBSCRIPTION copy_of",
    "DropTableSpaceStmt": "DROP TABLESPACE fast",
    "DropUserMappingStmt": "DROP USER MAPPING FOR app SERVER remote",
    "DropdbStmt": "DROP DATABASE IF EXISTS shop WITH (FORCE)",
    "ExecuteStmt": "EXECUTE find_item (1, 'a')",
    "ExplainStmt": "EXPLAIN (ANALYZE, FORMAT json) SELECT id FROM items",
    "FetchStmt": "FETCH FORWARD 10 FROM list",
    "GrantRoleStmt": "GRANT reader TO app WITH ADMIN OPTION",
    "GrantStmt": "GRANT SELECT (id, name), UPDATE (name) ON items TO app",
    "ImportForeignSchemaStmt": "IMPORT FOREIGN SCHEMA public LIMIT TO (items) FROM SERVER remote INTO archive",
    "IndexStmt": (
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS items_name ON items USING btree "
        "(lower(name) text_pattern_ops, id) INCLUDE (price) WITH (fillfactor = 70) WHERE (id > 0)"
    ),
    "InsertStmt": (
        "INSERT INTO items AS i (id, name) VALUES (1, lower('A')) "
        "ON CONFLICT (id) DO UPDATE SET (id, name) = (1, 'b') RETURNING id"
    ),
    "ListenStmt": "LISTEN news",
    "LoadStmt": "LOAD 'auto_explain'",
    "LockStmt": "LOCK TABLE items IN SHARE MODE",
    "MergeStmt": (
        "MERGE INTO items i USING (VALUES (1, 'a')) AS v (id, name) ON i.id = v.id "
        "WHEN MATCHED THEN UPDATE SET name = v.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, v.name)"
    ),
    "NotifyStmt": "NOTIFY news, 'text'",
    "PrepareStmt": "PREPARE find_item (int, text) AS SELECT id FROM items WHERE id = $1",
    "RawStmt": "SELECT",
    "ReassignOwnedStmt": "REASSIGN OWNED BY app TO admin",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW CONCURRENTLY totals",
    "ReindexStmt": "REINDEX (VERBOSE) TABLE items",
    "RenameStmt": "ALTER TABLE items RENAME COLUMN name TO title",
    "ReplicaIdentityStmt": "ALTER TABLE items REPLICA IDENTITY FULL",
    "ReturnStmt": "CREATE FUNCTION one() RETURNS int LANGUAGE sql RETURN number_of(1)",
    "RuleStmt": "CREATE RULE note AS ON INSERT TO items DO ALSO (INSERT INTO log VALUES (note_of(1)); SELECT 1)",
    "SecLabelStmt": "SECURITY LABEL FOR selinux ON TABLE items IS 'secret'",
    "SelectStmt": (
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) "
        "SELECT DISTINCT ON (i) i, count(*) FILTER (WHERE i > 1) OVER (PARTITION BY i ORDER BY i) "
        "FROM n JOIN LATERAL (SELECT 1) AS q (a) ON true WHERE i IN (1, 2) AND EXISTS (SELECT 1) "
        "GROUP BY GROUPING SETS ((i), ROLLUP (i), CUBE (i)) HAVING coalesce(max(i), 0) > 0"
    ),
    "TransactionStmt": "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "TruncateStmt": "TRUNCATE items, others RESTART IDENTITY CASCADE",
    "UnlistenStmt": "UNLISTEN *",
    "UpdateStmt": "UPDATE ONLY items i SET (name, price) = (SELECT 'a', 1) FROM others o WHERE o.id = i.id",
    "VacuumStmt": "VACUUM (ANALYZE) items (id, name)",
    "VariableSetStmt": "SET SESSION search_path TO public, archive",
    "VariableShowStmt": "SHOW search_path",
    "ViewStmt": "CREATE OR REPLACE VIEW totals (a, b) AS SELECT id, total_of(id) FROM items",
}

# Classes no text parses to.
NOT_FROM_TEXT: dict[str, str] = {
    "PLAssignStmt": "an assignment in the parser's PL/pgSQL mode",
    "SetOperationStmt": "made by the analysis of a UNION; the parser gives a SelectStmt",
}
