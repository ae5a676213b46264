"""The lexer agrees with PostgreSQL's own parser and scanner, as pglast wraps them."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast import ast, parse_sql, visitors
from pglast.enums import VariableSetKind
from pglast.parser import ParseError, scan

from rdsproxy_lib.sql import Reason, classify
from rdsproxy_lib.sql_lexer import statements
from tests.unit.pglast_statements import NOT_FROM_TEXT, STATEMENTS

CLASSES = sorted(
    name for name, value in vars(ast).items() if inspect.isclass(value) and name.endswith("Stmt") and name != "Stmt"
)

# Where the verb is not what the statement's text begins with.
VERBS = {
    "CreateConversionStmt": "CREATE CONVERSION",
    "CreateFunctionStmt": "CREATE FUNCTION",
    "CreatePLangStmt": "CREATE LANGUAGE",
    "CreateTableAsStmt": "CREATE TABLE AS",
    "CreateTrigStmt": "CREATE TRIGGER",
    "IndexStmt": "CREATE INDEX",
    "SelectStmt": "SELECT",
    "TruncateStmt": "TRUNCATE TABLE",
    "ViewStmt": "CREATE VIEW",
}
PINS = {
    "CallStmt": [(Reason.UNKNOWN_ROUTINE, "CALL"), (Reason.UNKNOWN_ROUTINE, "nightly()")],
    "ListenStmt": [(Reason.LISTEN, "LISTEN")],
    "LoadStmt": [(Reason.UNRESETTABLE, "LOAD")],
    "PrepareStmt": [(Reason.PREPARED_STATEMENT, "PREPARE")],
}


class _Names(visitors.Visitor):  # type: ignore[misc]
    """The class names of all nodes, and the names of all functions called."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: set[str] = set()
        self.functions: set[str] = set()

    def visit(self, ancestors: object, node: ast.Node) -> None:
        self.nodes.add(type(node).__name__)
        if isinstance(node, ast.FuncCall):
            self.functions.add(node.funcname[-1].sval)


def names_in(text: str) -> _Names:
    names = _Names()
    for raw in parse_sql(text):
        names.nodes.add(type(raw).__name__)
        names(raw)
    return names


def test_every_class_of_statement_has_a_row() -> None:
    """A statement that a newer PostgreSQL parser knows fails here until it has been judged."""
    assert sorted(STATEMENTS.keys() | NOT_FROM_TEXT.keys()) == CLASSES


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_parser_finds_the_class_and_the_lexer_the_verb(name: str) -> None:
    """Each row is one statement of its class, has the verb it begins with, and pins only if it is listed."""
    text = STATEMENTS[name]
    assert len(parse_sql(text)) == 1
    assert name in names_in(text).nodes
    (part,) = classify(text).parts
    assert part.verb == VERBS[name] if name in VERBS else f"{text} ".startswith(f"{part.verb} ")
    assert [(cause.reason, cause.what) for cause in part.causes] == PINS.get(name, [])


# Every form of VariableSetStmt, with what may stand for SET alone, SET SESSION and SET LOCAL.
SET_FORMS = (
    "{} x = 1",
    "{} x TO 'a', b, -1.5, true, on",
    '{} "X" . y TO "a"',
    "{} x = DEFAULT",
    "{} x TO DEFAULT",
    "{} x FROM CURRENT",
    "{} names = 1",
    "{} time TO 1",
    "{} role = a",
    "{} schema.x = 1",
    "{} xml = 1",
    "{} catalog = 1",
    "{} session = 1",
    "{} session.x = 1",
    "{} local TO 1",
    "{} local.x FROM CURRENT",
    "{} transaction = 1",
    "{} transaction.x = 1",
    "{} constraints TO 1",
    "{} constraints.x = 1",
    "{} characteristics = 1",
    "{} transaction_isolation = 'serializable'",
    "{} transaction_read_only TO on",
    "{} transaction_deferrable FROM CURRENT",
    "{} seed = 0.5",
    "{} standard_conforming_strings = off",
    "{} search_path = pg_temp, public",
    "{} TIME ZONE 'UTC'",
    "{} TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
    "{} TIME ZONE LOCAL",
    "{} NAMES",
    "{} NAMES 'UTF8'",
    "{} NAMES DEFAULT",
    "{} SCHEMA 'a'",
    "{} ROLE a",
    "{} ROLE 'a'",
    "{} ROLE NONE",
    "{} SESSION AUTHORIZATION a",
    "{} SESSION AUTHORIZATION DEFAULT",
    "{} XML OPTION CONTENT",
    "{} TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE",
    "{} TRANSACTION DEFERRABLE",
    "{} TRANSACTION SNAPSHOT 'a'",
    "{} SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "{} SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, DEFERRABLE",
)
RESETS = (
    "RESET x",
    'RESET "X" . y',
    'RESET "all"',
    "RESET names",
    "RESET time",
    "RESET session",
    "RESET session.x",
    "RESET transaction",
    "RESET seed",
    "RESET standard_conforming_strings",
    "RESET ALL",
    "RESET ROLE",
    "RESET TIME ZONE",
    "RESET SESSION AUTHORIZATION",
    "RESET TRANSACTION ISOLATION LEVEL",
    "RESET transaction_deferrable",
)
PINNED_NAMES = {
    "seed": {Reason.UNRESETTABLE},
    "standard_conforming_strings": {Reason.SETTING, Reason.UNRESETTABLE},
}
OF_TRANSACTION = {"transaction_isolation", "transaction_read_only", "transaction_deferrable"}


def _expected_settings(node: ast.VariableSetStmt) -> list[str]:
    """What the parser says is set for longer than the transaction."""
    if node.name is None:
        return ["*"]
    if node.name == "SESSION CHARACTERISTICS":
        return [mode.defname.replace("transaction", "default_transaction") for mode in node.args]
    name = node.name.lower()
    if node.is_local or name.startswith("transaction ") or name in {"transaction", *OF_TRANSACTION, *PINNED_NAMES}:
        return ["transaction"] if node.kind != VariableSetKind.VAR_SET_MULTI and name == "transaction" else []
    return [name, "role"] if name == "session_authorization" else [name]


@pytest.mark.parametrize(
    "text", [*(form.format(verb) for form in SET_FORMS for verb in ("SET", "SET SESSION", "SET LOCAL")), *RESETS]
)
def test_settings_are_those_the_parser_names(text: str) -> None:
    """Each form of SET and RESET is taken along, or ends with the transaction, or pins for what it sets."""
    (node,) = (raw.stmt for raw in parse_sql(text))
    statement = classify(text)
    assert isinstance(node, ast.VariableSetStmt)
    if node.is_local:
        assert not statement.settings
    else:
        assert {setting.name for setting in statement.settings} == set(_expected_settings(node))
    pinned = PINNED_NAMES.get(node.name, set())
    if node.name == "search_path" and "pg_temp" in text:
        pinned = {Reason.TEMP_TABLE}
    assert {cause.reason for cause in statement.causes} == pinned
    is_local = node.is_local or node.name in OF_TRANSACTION
    assert any(part.sets_local for part in statement.parts) is is_local


@given(
    st.lists(
        st.sampled_from([*STATEMENTS.values(), "", "/* ; */", "-- ;\n", "SELECT $$;$$", "SELECT ';', E'\\';', \";\""]),
        max_size=8,
    ),
    st.sampled_from([";", " ;\n", "/* ; */;", ";;", "--;\n;"]),
)
def test_scripts_have_as_many_statements_as_the_parser_says(rows: list[str], separator: str) -> None:
    """However statements are put together, both count the same."""
    script = separator.join(rows)
    assert len(statements(script)) == len(parse_sql(script))


FRAGMENTS = (
    "' '' \" $$ $a$ $a E' e' U&' b' n' X' -- /* */ \\ \\' ( ) ; a _b1 é 1 1.5 .5 1e5 1e 0x1f 1_0 $1 :: % + - / * "
    "@ , [ ] . = < > select case end"
)


@given(st.lists(st.sampled_from([*FRAGMENTS.split(), "\n", " ", "\t", "\r", "\f"]), max_size=14).map("".join))
def test_tokens_are_cut_where_the_server_cuts_them(text: str) -> None:
    """Whatever the scanner accepts, quotes and comments begin and end at the same places."""
    if re.search(r"%[sbt(]|\.\.", text):
        return  # a placeholder, or PL/pgSQL's range
    try:
        expected = [(token.name, text[token.start : token.end + 1]) for token in scan(text)]
    except ParseError:
        return
    theirs = [piece for name, shown in expected for piece in _as_ours(name, shown)]
    ours = [_kind(token) for statement in statements(text) for token in statement.tokens]
    assert _joined(ours) == _joined(theirs)


def _as_ours(name: str, shown: str) -> list[str]:
    if name in ("SQL_COMMENT", "C_COMMENT") or shown == ";" or (name == "NCHAR" and shown in "nN"):
        return []
    if name in ("SCONST", "USCONST", "BCONST", "XCONST"):
        return ["'"]
    if name in ("ICONST", "FCONST"):
        return ["0"]
    if name == "PARAM":
        return ["%s"]
    if shown[0] == '"':
        return ['"']
    if shown == "::" or re.match(r"[A-Za-z_\x80-\U0010ffff]", shown):
        return [shown.lower()]
    return list(shown)


def _kind(token: str) -> str:
    return token[0] if token[0] in "'\"" else token


def _joined(tokens: list[str]) -> list[str]:
    """String constants that follow each other made one: a line break between them is none for the server."""
    flat = [piece for token in tokens for piece in ("%%" if token == "%%" else [token]) if piece != ";"]
    return [token for index, token in enumerate(flat) if token != "'" or not index or flat[index - 1] != "'"]


CALL_PLACES = (
    "SELECT {}",
    "SELECT DISTINCT {}",
    "SELECT DISTINCT ON (a) {} FROM t",
    "SELECT ALL {} AS x",
    "SELECT a OPERATOR(pg_catalog.+) {} FROM t",
    "SELECT a, b AS c, {} d FROM t",
    "SELECT (({}))",
    "SELECT x.a FROM {} AS x (a)",
    "SELECT 1 FROM t, {} x",
    "SELECT 1 FROM t x (a, b), LATERAL {} WITH ORDINALITY AS y (a, b)",
    "SELECT 1 FROM ROWS FROM (lower('a'), {}) AS z",
    "SELECT 1 FROM a JOIN b ON {}",
    "SELECT 1 FROM a JOIN {} x USING (a)",
    "SELECT 1 FROM t WHERE NOT {} AND a IN (1, {})",
    "SELECT 1 FROM t GROUP BY {}, ROLLUP ({})",
    "SELECT 1 FROM t GROUP BY a HAVING {}",
    "SELECT 1 FROM t ORDER BY a, {} USING <",
    "SELECT 1 FROM t LIMIT {} OFFSET {}",
    "SELECT 1 FROM t FETCH FIRST ({}) ROWS ONLY",
    "SELECT count(*) FILTER (WHERE {}) OVER (PARTITION BY {} ORDER BY {} ROWS {} PRECEDING) FROM t",
    "SELECT sum(a) OVER w FROM t WINDOW w AS (RANGE BETWEEN {} PRECEDING AND {} FOLLOWING)",
    "SELECT percentile_cont({}) WITHIN GROUP (ORDER BY {}) FROM t",
    "SELECT CASE {} WHEN {} THEN {} ELSE {} END",
    "SELECT ARRAY[1, {}], (ARRAY[1])[{}], ROW({}, 1)",
    "SELECT CAST({} AS varchar(10)), {}::numeric(10, 2), a::text = {} FROM t",
    "SELECT EXTRACT(year FROM {}), SUBSTRING({} FROM {}), TRIM(LEADING {} FROM {})",
    "SELECT now() AT TIME ZONE {}",
    "SELECT a LIKE {} ESCAPE {} , a BETWEEN {} AND {} , a IS DISTINCT FROM {} , a SIMILAR TO {} FROM t",
    'SELECT a = ANY ({}), a COLLATE "C" = {} FROM t',
    "SELECT XMLELEMENT(NAME a, XMLATTRIBUTES({} AS b), {}), XMLPARSE(DOCUMENT {}), XMLROOT({}, VERSION {})",
    "SELECT JSON_OBJECT('a' : {}), JSON_ARRAY({}), JSON_VALUE({}, '$' DEFAULT {} ON ERROR)",
    "SELECT * FROM XMLTABLE('/r' PASSING {} COLUMNS a int PATH {} DEFAULT {}) AS x",
    "SELECT * FROM JSON_TABLE({}, '$' PASSING {} AS v COLUMNS (a int PATH '$')) AS x",
    "SELECT * FROM t TABLESAMPLE system ({}) REPEATABLE ({})",
    "SELECT lower({}) UNION SELECT {} EXCEPT VALUES ({})",
    "WITH x (a) AS (SELECT {}), y (b) AS MATERIALIZED (SELECT {}) SELECT * FROM x, y",
    "WITH x (a) AS (SELECT 1) SEARCH DEPTH FIRST BY a SET o SELECT {}",
    "INSERT INTO t (a, b) VALUES (1, {}) ON CONFLICT (lower(a), ({})) WHERE {} DO UPDATE SET a = {} WHERE {}",
    "INSERT INTO t SELECT 1 FROM a JOIN b ON {} ON CONFLICT DO NOTHING",
    "INSERT INTO t (a) VALUES (1) RETURNING {}",
    "INSERT INTO t (a) VALUES (1) RETURNING WITH (OLD AS o) {}",
    "UPDATE t SET a = {}, (b, c) = ROW({}, 1) FROM {} x WHERE {} RETURNING {}",
    "DELETE FROM t USING {} x WHERE {}",
    "MERGE INTO t USING {} x ON {} WHEN MATCHED AND {} THEN UPDATE SET a = {} "
    "WHEN NOT MATCHED THEN INSERT (a, b) VALUES (1, {})",
    "COPY (SELECT {}) TO STDOUT (FORMAT csv)",
    "COPY t (a) FROM STDIN WHERE {}",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT {}",
    "EXPLAIN ANALYZE VERBOSE SELECT {}",
    "EXPLAIN (SELECT {})",
    "DECLARE c CURSOR FOR SELECT {}",
    "PREPARE p (int) AS SELECT {}",
    "EXECUTE p (1, {})",
    "CALL p(1, {})",
    "CREATE TABLE t (a, b) WITH (fillfactor = 70) AS SELECT {}",
    "CREATE TABLE t AS EXECUTE p ({})",
    "CREATE MATERIALIZED VIEW v (a) AS SELECT {}",
    "CREATE TABLE p PARTITION OF t FOR VALUES FROM ({}) TO ({})",
    "CREATE INDEX ON t ({})",
    "CREATE INDEX i ON s.t USING gist (a my_ops (siglen = 3), ({})) INCLUDE (b) WHERE {}",
    "ALTER TABLE t ADD COLUMN a int DEFAULT {}, ALTER b TYPE varchar(10) USING {}, ADD CHECK ({})",
    "ALTER TABLE t ADD COLUMN location varchar(3) GENERATED ALWAYS AS ({}) STORED",
    "ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING gist (a WITH =, {} WITH &&) WHERE ({})",
    "ALTER DOMAIN d ADD CHECK ({})",
    "(SELECT {}) ORDER BY 1",
    "VALUES (1, {}), ({}, 2)",
)
CALLS = ("evil(1)", "Evil ()", "evil\n/* ( */ (1)", '"evil"(1)', "s.evil(1)", '"S" . "evil" ( 1 )', "evil(DISTINCT 1)")


@pytest.mark.parametrize("place", CALL_PLACES)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_seen_wherever_the_grammar_takes_one(place: str, call: str) -> None:
    """Every place for an expression or a table function, one at a time, with the call written in many ways."""
    holes = place.count("{}")
    for hole in range(holes):
        text = place.format(*(call if index == hole else "lower(1)" for index in range(holes)))
        try:
            assert "evil" in names_in(text).functions
        except ParseError:
            continue  # the grammar wants another form there
        found = {cause.what for cause in classify(text).causes if cause.reason is Reason.UNKNOWN_ROUTINE}
        assert any("evil" in what for what in found), text


@pytest.mark.parametrize("place", CALL_PLACES)
def test_the_same_places_without_the_call_are_free_of_unknown_routines(place: str) -> None:
    """Aliases, column lists, types and grammar words around the calls are no calls."""
    text = place.format(*["lower('a')"] * place.count("{}"))
    causes = [cause for cause in classify(text).causes if cause.reason is Reason.UNKNOWN_ROUTINE]
    if text.startswith("CALL"):
        assert [cause.what for cause in causes] == ["CALL", "p()"]
    else:
        assert causes == []
