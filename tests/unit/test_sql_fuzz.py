"""The lexer under texts nobody would write: it answers all of them, in time, and nothing hides from it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from rdsproxy_lib.sql import Dialect, Reason, Statement, classify

DIALECTS = st.sampled_from([Dialect.POSTGRESQL, Dialect.POSTGRESQL_BACKSLASH])
QUOTES = "'' ' \" $$ $a$ E' U&' U&\" B' -- /* */ \\ ( ) [ ] ; , . :: % %s %(a)s %(' $1 = * \0 \ud800 é"
WORDS = (
    "select from with as into temp create table index on for values set local function begin atomic end case insert "
    "conflict do group by cube rollup prepare declare cursor hold explain analyze copy stdin f 1 1e5"
)
FRAGMENTS = [*QUOTES.split(" "), *WORDS.split(), " ", "\t", "\n"]


def judged(text: str, dialect: Dialect = Dialect.POSTGRESQL) -> Statement:
    """The verdict, after checking what holds for all of them."""
    statement = classify(text, dialect)
    assert statement.parts
    assert statement.causes == tuple(cause for part in statement.parts for cause in part.causes)
    assert not (statement.reads_only and statement.causes)
    assert not (statement.is_plain and (statement.causes or statement.settings or statement.frees))
    for setting in statement.settings:
        assert (setting.parameter is None) is bool(setting.name)
    for part in statement.parts:
        assert len(part.text) <= 500
        assert part.text.isprintable()
        assert part.causes or part.verb or not part.text
    return statement


@given(st.text(), DIALECTS)
def test_any_text_is_judged(text: str, dialect: Dialect) -> None:
    """No text at all raises."""
    judged(text, dialect)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join), DIALECTS)
def test_any_heap_of_sql_is_judged(text: str, dialect: Dialect) -> None:
    """Nor does anything made of the pieces the rules look at."""
    judged(text, dialect)


# Pinning statements, and what has to be found. None of them contains a decoy's delimiter.
PLANTS = [
    ("SET standard_conforming_strings = off", Reason.SETTING),
    ("SET LOCAL seed = 1", Reason.UNRESETTABLE),
    ("LISTEN x", Reason.LISTEN),
    ("PREPARE x AS SELECT 1", Reason.PREPARED_STATEMENT),
    ("CREATE TEMP TABLE x (a int)", Reason.TEMP_TABLE),
    ("SELECT 1 INTO TEMP x", Reason.TEMP_TABLE),
    ("DECLARE x CURSOR WITH HOLD FOR SELECT 1", Reason.HOLD_CURSOR),
    ("SELECT pg_advisory_lock(1)", Reason.ADVISORY_LOCK),
    ("SELECT setseed(1)", Reason.UNRESETTABLE),
    ("SELECT evil(1)", Reason.UNKNOWN_ROUTINE),
    ("DO $x$ y $x$", Reason.UNKNOWN_ROUTINE),
    ("LOAD 'x'", Reason.UNRESETTABLE),
]
# The same for what is taken along, and for what may end a pin.
SETTINGS = [
    ("SET x = 1", "x"),
    ("SET SESSION x.y TO a", "x.y"),
    ("SET TIME ZONE 'UTC'", "timezone"),
    ("SET SESSION AUTHORIZATION x", "session_authorization"),
    ("RESET ROLE", "role"),
    ("RESET ALL", "*"),
    ("DISCARD ALL", "*"),
    ("SELECT set_config( 'x' , 'y' , false )", "x"),
    ("SELECT set_config( 'x' , %s , %s )", "x"),
    ("DO $x$ BEGIN SET x = 1; END $x$", "x"),
]
FREEING = [
    ("DROP TABLE x", Reason.TEMP_TABLE),
    ("DISCARD TEMP", Reason.TEMP_TABLE),
    ("DEALLOCATE x", Reason.PREPARED_STATEMENT),
    ("CLOSE x", Reason.HOLD_CURSOR),
    ("UNLISTEN *", Reason.LISTEN),
    ("SELECT pg_advisory_unlock ( 1 )", Reason.ADVISORY_LOCK),
]
GAPS = st.lists(
    st.sampled_from([" ", "\n", "\t", "/* ' */", '/* /* ; */ " */', "-- $$ '\n", "--\r", "/**/"]),
    min_size=1,
    max_size=3,
).map("".join)
DECOYS = st.sampled_from(
    [
        "SELECT 1",
        "SELECT 'it''s; --', E'\\'/*', $$ ' $$, $a$ $$ $a$",
        'SELECT "a""b--", "/*" FROM t',
        "SELECT 1 -- '",
        "SELECT /* ' /* \" */ $$ */ 1",
        "INSERT INTO t (a) VALUES (%s, %(b)s, '%s')",
        "SELECT U&'\\', B'1' 'x'",
        "SELECT a$b$c FROM t$1",
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN 1 THEN 2 END; END",
        "",
    ]
)


@st.composite
def odd_case(draw: st.DrawFn, text: str) -> str:
    """`text` with its words in any case and anything blank between them; constants stay."""
    words = []
    for word in text.split(" "):
        flips = draw(st.lists(st.booleans(), min_size=len(word), max_size=len(word)))
        mixed = "".join(char.upper() if flip else char.lower() for char, flip in zip(word, flips, strict=True))
        words.append(word if word[:1] in "$'%" else mixed)
    return draw(GAPS).join(words)


@given(st.data())
def test_a_planted_statement_is_seen(data: st.DataObject) -> None:
    """Between any other statements, with comments for spaces and in any case, it pins for its reason."""
    plant, reason = data.draw(st.sampled_from(PLANTS))
    before = data.draw(st.lists(DECOYS, max_size=3))
    after = data.draw(st.lists(DECOYS, max_size=3))
    text = "\n;".join([*before, data.draw(odd_case(plant)), *after])
    assert reason in {cause.reason for cause in judged(text).causes}


@given(st.data())
def test_a_planted_setting_is_seen(data: st.DataObject) -> None:
    """In the same places, what it sets is known by name."""
    plant, name = data.draw(st.sampled_from(SETTINGS))
    before = data.draw(st.lists(DECOYS, max_size=3))
    after = data.draw(st.lists(DECOYS, max_size=3))
    text = "\n;".join([*before, data.draw(odd_case(plant)), *after])
    assert name in {setting.name for setting in judged(text).settings}


@given(st.data())
def test_a_planted_end_is_seen(data: st.DataObject) -> None:
    """And so is what may end a pin."""
    plant, reason = data.draw(st.sampled_from(FREEING))
    text = "\n;".join([*data.draw(st.lists(DECOYS, max_size=3)), data.draw(odd_case(plant)), *["SELECT 1"]])
    assert reason in judged(text).frees


PSYCOPG = st.sampled_from(["%s", "%b", "%t", "%%", "'%s'", "/* %s */ ", "-- %t\n", "$$%s$$", '"%s"', "1", "%%s", "a"])


@given(st.lists(PSYCOPG, max_size=8), st.sampled_from(["%s", "%b", "%t"]))
def test_a_parameter_has_the_place_the_driver_gives_it(before: list[str], placeholder: str) -> None:
    """psycopg counts what stands in constants, names and comments too."""
    text = f"SELECT {''.join(f'{each}, ' for each in before)}set_config({placeholder}, 'a', false)"
    (setting,) = judged(text).settings
    counted = PostgresQuery(Transformer())
    counted.convert(text, ["x"] * (setting.parameter + 1))  # raises when there are more or fewer
    assert text.count(placeholder, text.index("set_config")) == 1


WRAPPERS = [
    "SELECT '{}'",
    "SELECT 'it''s {}'",
    "SELECT E'\\'{}'",
    "SELECT E'a'\n'{}\\''",
    "SELECT U&'{}'",
    'SELECT "{}"',
    "SELECT $${}$$",
    "SELECT $a$ $$ {} $b$ $a$",
    "SELECT 1 /* {} */",
    "/* /* */ {} */ SELECT 1",
    "SELECT 1 -- {}",
    "-- {}\rSELECT 1",
]


@given(st.sampled_from(WRAPPERS), st.sampled_from([plant for plant, _ in (*PLANTS, *SETTINGS) if "'" not in plant]))
def test_a_statement_in_a_constant_or_comment_is_not_counted(wrapper: str, plant: str) -> None:
    """What the server does not run does not pin."""
    statement = judged(wrapper.replace("{}", f"; {plant};"))
    assert [part.verb for part in statement.parts] == ["SELECT"]
    assert statement.causes == ()
    assert statement.is_plain


HOSTILE = {
    "quote": "'",
    "double quote": '"',
    "doubled quotes": "'' ",
    "dollar": "$",
    "dollar tags": "$a$ ",
    "escape string": "E'\\",
    "escaped quotes": "\\'",
    "continued strings": "E'a'\n",
    "line comments": "--\n",
    "comment openers": "/*",
    "comments": "/**/",
    "opening": "(",
    "closing": ")",
    "semicolons": ";",
    "placeholders": "%(",
    "unfinished placeholders": "%(a",
    "calls": "f(",
    "names": "a.",
    "grouping": "cube(a),",
    "nested grouping": "cube(",
    "queries": "with a as (select 1), ",
    "nested queries": "with a as (",
    "reserved queries": "with as (1), ",
    "conflicts": "on conflict(a) ",
    "settings": "set_config(a, b, ",
    "settings of parameters": "set_config(%s, %s, true), ",
    "dotted settings": "set a.a.a",
    "into": "into temp ",
    "explains": "explain ",
    "bodies": "create function f() begin atomic case ",
    "rules": "create rule (;",
    "spaces": " ",
    "numbers": "1e",
    "NUL": "\0",
    "surrogates": "\ud800",
    "rows": "(%s, 'a', 1), ",
}


@pytest.mark.parametrize("prefix", ["", "SELECT ", "SELECT E'", "CREATE TABLE t AS ", "SELECT 1 GROUP BY "])
@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_time_is_linear(unit: str, prefix: str) -> None:
    """Eight times the text takes about eight times as long: the bound catches a square, not a slow machine."""
    size = 10_000
    short, long = (prefix + unit * (n // len(unit)) for n in (size, 8 * size))
    once = min(_seconds(short) for _ in range(3))
    assert _seconds(long) < 8 * 4 * once + 0.1 or min(_seconds(long) for _ in range(3)) < 8 * 4 * once + 0.1


def _seconds(text: str) -> float:
    begin = time.process_time()
    classify(text)
    return time.process_time() - begin
