"""MySQL's lexer under texts nobody would write: it answers all of them, in time, and nothing hides from it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdsproxy_lib.sql import Dialect, Reason, Statement, classify_filled
from rdsproxy_lib.sql_mysql_lexer import shape_of, statements
from rdsproxy_lib.sql_mysql_literals import lock_names, prepared_text

MODES = ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"]
ALL_DIALECTS = [Dialect.mysql(mode) for mode in MODES]
DIALECTS = st.sampled_from(ALL_DIALECTS)
QUOTES = (
    "' '' \" \"\" ` `` \\ \\' N' _utf8mb4' x' # -- --\t /* */ /*! /*!50003 /*M! /*+ @ @@ := ( ) [ ] { } ; , . $ $$ "
    "1 1e5 .5 1. 0x1 1a ? % \0 \x7f \xa0 \ud800 é"
)
WORDS = (
    "select from with as into create table procedure function trigger event begin case end if loop values in set "
    "autocommit session global names use call do explain analyze statement for commit rollback to release savepoint xa "
    "prepare execute immediate get diagnostics load data index lock flush backup stage handler insert temporary "
    "definer count f get_lock schedule drop rename alter deallocate unlock table open close role names read @a @b.5"
)
FRAGMENTS = [*QUOTES.split(" "), *WORDS.split(), " ", "\t", "\n"]


def judged(text: str, dialect: Dialect = Dialect.MYSQL) -> Statement:
    """The verdict, after checking what holds for all of them."""
    statement = classify_filled(text, dialect)
    assert statement.parts
    assert statement.causes == tuple(cause for part in statement.parts for cause in part.causes)
    assert not (statement.reads_only and statement.causes)
    for part in statement.parts:
        assert len(part.text) <= 500
        assert part.text.isprintable()
        assert part.causes or part.verb or not part.text
        assert all(cause.what.isprintable() for cause in part.causes)
        assert all(_SETTING(setting.name) for setting in part.settings)
        assert not any("?" in name for _, name in part.frees)
    return statement


_SETTING = re.compile(r"@?[a-z0-9_$.]+").fullmatch


def marks(statement: Statement) -> set[Reason | str]:
    """Everything the statement is special for: why it pins, what it sets, and what it frees."""
    found: set[Reason | str] = {cause.reason for cause in statement.causes}
    found.update(setting.name for setting in statement.settings)
    found.update(f"frees {reason.name}" for reason in statement.frees)
    return found | ({"awaits a question"} if statement.awaits_question else set())


@given(st.text(), DIALECTS)
def test_any_text_is_judged(text: str, dialect: Dialect) -> None:
    """No text at all raises."""
    judged(text, dialect)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join), DIALECTS)
def test_any_heap_of_sql_is_judged(text: str, dialect: Dialect) -> None:
    """Nor does anything made of the pieces the rules look at; the same words spaced out neither."""
    judged(text, dialect)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(" ".join), DIALECTS)
def test_any_heap_of_words_is_judged(text: str, dialect: Dialect) -> None:
    """Here more of the grammar is reached."""
    judged(text, dialect)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join), DIALECTS)
def test_a_shape_holds_no_quote_of_a_string(text: str, dialect: Dialect) -> None:
    """Outside names no string is left, and tokens agree with the shape on where names end."""
    shape = shape_of(text, dialect.backslash, dialect.ansi_quotes)
    for tokens in statements(shape):
        if not tokens.odd:
            assert not any(token[0] in "'#\\" for token in tokens.tokens)


# A value's content is nothing to the verdict ------------------------------------------------------------------

TEMPLATES = [
    "SELECT {}",
    "SELECT {} FROM `t` WHERE a = {}",
    'SELECT {} AS "x" FROM t',
    "SELECT * FROM t WHERE a IN ({}, {}) /* it's */",
    "SELECT * FROM t WHERE a = {} # it's",
    "SELECT * FROM t WHERE a = {} -- it's",
    "INSERT INTO `it's` VALUES (1, {}), ({}, NULL)",
    "UPDATE t SET a={}WHERE b = {}",
    "SET @a = {}",
    "SET autocommit = 1; SELECT {}",
    "SELECT f({}), `g`({})",
    "SELECT {} INTO @x",
    "SELECT N{}, _utf8mb4{}, _binary {}",
    "SELECT 1 /*! + 2 */ + {}",
    "CREATE PROCEDURE p() BEGIN SELECT {}; END",
    "CALL p({})",
    "SELECT 1 FROM t WHERE a->{} = 1",
]
NASTY = [
    "'; SET @a=1; --",
    "'; SET @a=1; -- ",
    "\\'; SET @a=1; #",
    "*/ SET @a = 1 /*",
    "/*! SET @a = 1 */",
    "`",
    "``",
    '"',
    "\\",
    "'",
    "''",
    "--",
    "#",
    "$$",
    "\0",
    "\n",
    "?",
    ");(",
    "GET_LOCK('a', 1)",
    "x" * 5000,
]
VALUES = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=20), st.lists(st.sampled_from(NASTY), max_size=4).map("".join)
)


def literal(value: str, dialect: Dialect) -> str:
    """As the driver writes it."""
    if dialect.backslash:
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0").replace("\n", "\\n") + "'"
    return "'" + value.replace("'", "''") + "'"


@given(st.sampled_from(TEMPLATES), VALUES, DIALECTS)
def test_a_value_changes_nothing(template: str, value: str, dialect: Dialect) -> None:
    """Whatever the string holds, the verdict is that on an empty one, and so is the text for the log."""
    filled = template.replace("{}", literal(value, dialect))
    assert judged(filled, dialect) == judged(template.replace("{}", "'x'"), dialect)


@given(st.sampled_from(TEMPLATES[:10]), st.integers(0, 10**30) | st.floats(0, allow_nan=False, allow_infinity=False))
def test_a_number_changes_nothing(template: str, number: float) -> None:
    """Nor does a number, as the driver writes it."""
    filled = template.replace("{}", f"{number!r} ")
    assert judged(filled).causes == judged(template.replace("{}", "1 ")).causes
    assert len(repr(number)) < 3 or repr(number) not in judged(filled).digest


SECRET = "fk7Qz2Lw9x"


@given(st.sampled_from(TEMPLATES), VALUES, VALUES, st.sampled_from(["", "'"]), DIALECTS)
def test_no_value_survives(template: str, before: str, after: str, end: str, dialect: Dialect) -> None:
    """Neither in the shape nor in the text for the log; also when the text ends in the middle of it."""
    whole = literal(before + SECRET + after, dialect)
    filled = template.replace("{}", whole)
    for text in (filled, filled[: filled.index(SECRET) + len(SECRET)] + end):
        assert SECRET not in shape_of(text, dialect.backslash, dialect.ansi_quotes)
        assert SECRET not in judged(text, dialect).digest


# Nothing hides ------------------------------------------------------------------------------------------------

PLANTS = [
    ("SET sql_mode = 1", "sql_mode"),
    ("SET timestamp = 1", Reason.SETTING),
    ("SET NAMES x", "collation_connection"),
    ("SET ROLE x", "role"),
    ("USE x", "schema"),
    ("SET @x = 1", "@x"),
    ("SET @1.x = 1", Reason.USER_VARIABLE),
    ("SELECT 1 INTO @x", "@x"),
    ("SELECT @x := 1", "@x"),
    ("SELECT @1.x := 1", Reason.USER_VARIABLE),
    ("EXECUTE x USING @x", "@x"),
    ("PREPARE x FROM @y", Reason.PREPARED_STATEMENT),
    ("CREATE TEMPORARY TABLE x (a int)", Reason.TEMP_TABLE),
    ("LOCK TABLES x READ", Reason.TABLE_LOCK),
    ("HANDLER x OPEN", Reason.HOLD_CURSOR),
    ("DO get_lock(1,1)", Reason.NAMED_LOCK),
    ("SELECT evil(1)", Reason.UNKNOWN_ROUTINE),
    ("CALL x", Reason.UNKNOWN_ROUTINE),
    ("SELECT SQL_CALC_FOUND_ROWS 1", "awaits a question"),
    ("XA PREPARE 1", Reason.UNRESETTABLE),
]
GAPS = st.lists(
    st.sampled_from([" ", "\n", "\t", "/* ' */", '/* /* ; " ` */', "-- ' ` \"\n", "#;\n", "/**/ ", "/*+ a */", "\r\n"]),
    min_size=1,
    max_size=3,
).map(lambda gaps: " " + "".join(gaps))
DECOYS = st.sampled_from(
    [
        "SELECT 1",
        "SELECT 'it''s; --', '/*', '#', '`', '\"'",
        "SELECT `a``b--`, `/*`, `'`, `#`, `\"` FROM t",
        "SELECT 1 -- '",
        "SELECT 1 # `",
        "SELECT /* ' /* \" ` */ 1",
        "INSERT INTO t (a) VALUES (1, 'a', NULL), (2, 'b', DEFAULT)",
        "SELECT _utf8mb4'a' N'b' x'41' 0x41",
        "SELECT a$b$c, 1e5, .5 FROM t$1",
        "CREATE PROCEDURE p() BEGIN SELECT CASE WHEN 1 THEN 2 END; IF 1 THEN SELECT 2; END IF; END",
        "SELECT 1 /*!50003 + 1 */",
        "",
    ]
)


@st.composite
def odd_case(draw: st.DrawFn, text: str) -> str:
    """`text` with its words in any case and anything blank between them."""
    words = []
    for word in text.split(" "):
        flips = draw(st.lists(st.booleans(), min_size=len(word), max_size=len(word)))
        words.append("".join(char.upper() if flip else char.lower() for char, flip in zip(word, flips, strict=True)))
    return draw(GAPS).join(words)


@given(st.data())
def test_a_planted_statement_is_seen(data: st.DataObject) -> None:
    """Between any other statements, with comments for spaces and in any case, it does what it does alone."""
    plant, mark = data.draw(st.sampled_from(PLANTS))
    before = data.draw(st.lists(DECOYS, max_size=3))
    after = data.draw(st.lists(DECOYS, max_size=3))
    text = "\n;".join([*before, data.draw(odd_case(plant)), *after])
    assert mark in marks(judged(text))


@given(st.data())
def test_a_planted_statement_in_an_executable_comment_is_seen(data: st.DataObject) -> None:
    """So it is where only some servers run it."""
    plant, mark = data.draw(st.sampled_from(PLANTS))
    opener = data.draw(st.sampled_from(["/*!", "/*!50003", "/*!999999", "/*M!", "/*M!100100"]))
    before = data.draw(DECOYS)
    text = f"{before}\n; {opener} {plant} */; SELECT 1"
    assert mark in marks(judged(text))


ENDS = ["DROP TABLE x", "DEALLOCATE PREPARE x", "HANDLER x CLOSE", "UNLOCK TABLES", "BACKUP UNLOCK"]


@given(st.data())
def test_only_what_certainly_runs_frees(data: st.DataObject) -> None:
    """What ends a pin is seen like all else, and is nothing where only some servers run it."""
    plant = data.draw(st.sampled_from(ENDS))
    text = data.draw(odd_case(plant))
    before = data.draw(st.lists(DECOYS, max_size=3))
    assert judged("\n;".join([*before, text])).frees
    assert not judged("\n;".join([*before, f"/*! {plant} */"])).frees
    assert not judged("\n;".join([*before, f"{text} '"])).frees


WRAPPERS = [
    "SELECT '{}'",
    "SELECT 'it''s {}'",
    "SELECT '\\'{}'",
    'SELECT "{}"',
    "SELECT `{}` FROM t",
    "SELECT 1 /* {} */",
    "SELECT 1 -- {}",
    "SELECT 1 # {}",
    "-- {}\nSELECT 1",
    "SELECT /*+ {} */ 1",
]


@given(st.sampled_from(WRAPPERS), st.sampled_from([plant for plant, _ in PLANTS]))
def test_a_statement_in_a_constant_or_comment_is_not_counted(wrapper: str, plant: str) -> None:
    """What the server does not run does nothing."""
    statement = judged(wrapper.replace("{}", f"; {plant};"))
    assert [part.verb for part in statement.parts] == ["SELECT"]
    assert not marks(statement)


# Literals that count ------------------------------------------------------------------------------------------


@given(st.text(), DIALECTS)
def test_any_text_is_searched_for_literals(text: str, dialect: Dialect) -> None:
    """Nothing raises."""
    for each in (text, f"GET_LOCK {text}", f"PREPARE s FROM {text}"):
        lock_names(each, dialect.backslash, dialect.ansi_quotes)
        prepared_text(each, dialect.backslash, dialect.ansi_quotes)


@given(VALUES, VALUES, DIALECTS)
def test_literals_are_read_as_they_were_written(one: str, other: str, dialect: Dialect) -> None:
    """What the driver quotes comes out again, whatever else is in the text."""
    modes = dialect.backslash, dialect.ansi_quotes
    one_written, other_written = literal(one, dialect), literal(other, dialect)
    text = f"SELECT {other_written}, GET_LOCK({one_written}, 1), `a'` # '\n, get_lock ( {other_written} , 1)"
    assert lock_names(text, *modes) == {one, other}
    assert prepared_text(f"PREPARE s FROM {one_written}", *modes) == ("s", one)


@given(st.lists(st.sampled_from([*FRAGMENTS, "get_lock('a',", "get_lock('a', 1)"]), max_size=40).map("".join), DIALECTS)
def test_a_lock_is_named_or_in_doubt(text: str, dialect: Dialect) -> None:
    """Where the rules see GET_LOCK, the names are not empty: none, or some."""
    if any(cause.what == "get_lock()" for cause in judged(text, dialect).causes):
        assert lock_names(text, dialect.backslash, dialect.ansi_quotes) != frozenset()


# Time ---------------------------------------------------------------------------------------------------------

HOSTILE = {
    "quote": "'",
    "double quote": '"',
    "backquote": "`",
    "mixed quotes": "'`\"",
    "doubled quotes": "''",
    "strings": "'a' ",
    "string list": "'a',",
    "backslash": "\\",
    "escaped quotes": "\\'",
    "string of escapes": "'\\",
    "prefixes": "_utf8",
    "introducers": "_a ",
    "hexadecimal": "x'",
    "line comments": "--\n",
    "dashes": "--",
    "hashes": "#",
    "comment openers": "/*",
    "comments": "/**/",
    "executable openers": "/*!",
    "executable comments": "/*!*/",
    "executable numbers": "/*!1*/",
    "dollars": "$",
    "dollar tags": "$a",
    "opening": "(",
    "closing": ")",
    "empty calls": "a()",
    "rows": "(1),",
    "unequal rows": "(a(),",
    "row edges": "),(",
    "semicolons": ";",
    "calls": "f(",
    "names": "a.",
    "numbers": "1e",
    "points": "1.",
    "digits": "1",
    "numbered words": "1a",
    "list": "1,",
    "list of nulls": "NULL,",
    "blank list": "1 ,",
    "variables": "@",
    "assignments": "@a:=",
    "into": "into @a,",
    "queries": "with a as (select 1), ",
    "nested queries": "with a as (",
    "reserved": "select ",
    "explains": "explain ",
    "statements": "set statement a=1 for ",
    "bodies": "create procedure p begin case ",
    "ends": "create procedure p begin end;",
    "settings": "set a=1,",
    "events": "create event e on schedule do ",
    "qualifiers": "create definer=a ",
    "assignments of numbers": "@a.5:=",
    "dropped tables": "drop table a,",
    "renamed tables": "alter table a rename ",
    "locks": "get_lock('a',",
    "spaces": " ",
    "NUL": "\0",
    "surrogates": "\ud800",
}


@pytest.mark.parametrize("prefix", ["", "SELECT ", "SELECT '", "SELECT 1,", "SET ", "CREATE PROCEDURE p() BEGIN "])
@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_time_is_linear(unit: str, prefix: str) -> None:
    """Eight times the text takes about eight times as long: the bound catches a square, not a slow machine."""
    size = 10_000
    short, long = (prefix + unit * (n // len(unit)) for n in (size, 8 * size))
    once = min(_seconds(short) for _ in range(3))
    assert _seconds(long) < 8 * 4 * once + 0.1 or min(_seconds(long) for _ in range(3)) < 8 * 4 * once + 0.1


def _seconds(text: str) -> float:
    begin = time.process_time()
    classify_filled(text)
    lock_names(f"GET_LOCK {text}", True, False)
    prepared_text(f"PREPARE s FROM {text}", True, False)
    return time.process_time() - begin


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_a_megabyte_has_its_shape_in_a_second(unit: str) -> None:
    """In every mode."""
    text = "SELECT 1 " + unit * (1_000_000 // len(unit))
    for dialect in ALL_DIALECTS:
        begin = time.process_time()
        shape_of(text, dialect.backslash, dialect.ansi_quotes)
        assert time.process_time() - begin < 1


def test_a_megabyte_of_rows_is_quick() -> None:
    """As an application would send them: the best of three takes 20 ms, the bound is for slow machines."""
    text = "INSERT INTO `t` (a, b) VALUES " + ", ".join(f"({n}, 'name {n}', NULL, 1.5)" for n in range(35_000))
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        assert shape_of(text, True, False) == "INSERT INTO `t` (a, b) VALUES (?)"
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.2
