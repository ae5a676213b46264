"""explain(): the verdict in words, as a dictionary, and on the command line."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest

from rdsproxy_lib.cli import explain as command
from rdsproxy_lib.explanation import (
    _MYSQL,
    _MYSQL_UNTIL,
    _POSTGRESQL,
    _POSTGRESQL_UNTIL,
    Explanation,
    explain,
)
from rdsproxy_lib.sql import Reason


def test_a_free_statement() -> None:
    """Nothing to say but that it is free."""
    explanation = explain("SELECT 1")
    assert not explanation.pins
    assert str(explanation) == "free        SELECT ?"


def test_a_pinning_statement_has_reason_and_advice() -> None:
    """What pins, and what to write instead."""
    (statement,) = explain("SELECT pg_advisory_lock(42)").statements
    assert statement.effect == "pins"
    assert statement.reasons == ("ADVISORY_LOCK: pg_advisory_lock()",)
    assert "pg_advisory_xact_lock()" in statement.advice[0]


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SET seed = 0.5", "compute the numbers"),
        ("SELECT setseed(0.5)", "compute the numbers"),
        ("SELECT set_config('seed', '1', false)", "compute the numbers"),
        ("SET standard_conforming_strings = off", "E'…'"),
        ("SELECT set_config(a, 'b', false)", "as a constant or as a parameter"),
        ('SET "a""b" = 1', "plainly"),
        ("UPDATE pg_settings SET setting = 'b' WHERE name = 'a'", "set_config(name, value, false)"),
        ("SET search_path TO pg_temp, public", "without pg_temp"),
        ("SELECT set_config('search_path', a, true)", "without pg_temp"),
        ("SELECT 1 FROM pg_temp.t", "without its schema"),
        ("SELECT seed_of(1)", "trusted_routines"),
        ("DO 'x'", "one by one"),
        ("CREATE TEMP TABLE t (a int)", "ON COMMIT DROP"),
        ("SELECT 1 INTO TEMP t", "ON COMMIT DROP"),
        ("SELECT currval('s')", "RETURNING"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "leave out WITH HOLD"),
        ("PREPARE p AS SELECT 1", "prepare=True"),
        ("LOAD 'auto_explain'", "session_preload_libraries"),
    ],
)
def test_advice_fits_the_cause(sql: str, advice: str) -> None:
    """Each pin comes with the way around it."""
    (statement,) = explain(sql).statements
    assert advice in " ".join(statement.advice)


def test_every_reason_has_advice_and_an_end() -> None:
    """A new reason needs a way around it, or a word why there is none, and when it ends."""
    assert _POSTGRESQL.keys() == _MYSQL.keys() == set(Reason)
    assert _POSTGRESQL_UNTIL.keys() == _MYSQL_UNTIL.keys() == set(Reason)


@pytest.mark.parametrize(
    ("sql", "engine", "settings"),
    [
        ("SET search_path = a", "postgresql", ("setting search_path",)),
        ("SET ROLE app", "postgresql", ("role",)),
        ("SET SESSION AUTHORIZATION app", "postgresql", ("session authorization", "role")),
        ("DISCARD ALL", "postgresql", ("all settings", "role", "session authorization")),
        ("RESET ALL", "postgresql", ("all settings",)),
        ("SELECT set_config('app.tenant_id', %s, false)", "postgresql", ("setting app.tenant_id",)),
        ("SELECT set_config(%s, %s, false)", "postgresql", ("the parameter named by %s",)),
        ("SELECT set_config(%(name)s, 'a', false)", "postgresql", ("the parameter named by %(name)s",)),
        ("SET @a = 1", "mysql", ("user variable @a",)),
        ("USE shop", "mysql", ("the database in use",)),
        ("SET ROLE app", "mysql", ("role",)),
        ("SET sql_mode = 'ANSI'", "mysql", ("setting sql_mode",)),
    ],
)
def test_what_is_virtualised(sql: str, engine: str, settings: tuple[str, ...]) -> None:
    """What the session takes along to other backends, in words."""
    explanation = explain(sql, engine=engine)
    (statement,) = explanation.statements
    assert not explanation.pins
    assert statement.effect == "virtualised"
    assert statement.settings == settings
    assert str(explanation).splitlines()[:2] == [
        f"virtualised {statement.text}",
        f"            as       {', '.join(settings)}",
    ]


@pytest.mark.parametrize(
    ("sql", "engine", "until"),
    [
        ("CREATE TEMP TABLE t (a int)", "postgresql", "TEMP_TABLE: the last one is dropped, or DISCARD TEMP"),
        ("SET search_path TO pg_temp", "postgresql", "TEMP_TABLE: search_path is set without pg_temp"),
        ("SELECT pg_advisory_lock(1)", "postgresql", "ADVISORY_LOCK: the last one is unlocked"),
        ("LOAD 'a'", "postgresql", "UNRESETTABLE: the session is closed"),
        ("SELECT f(1)", "postgresql", "UNKNOWN_ROUTINE: DISCARD ALL or conn.rdsproxy.unpin()"),
        ("SELECT GET_LOCK('a', 1)", "mysql", "NAMED_LOCK: the last one is released"),
        ("SET timestamp = 1", "mysql", "SETTING: the session is closed"),
    ],
)
def test_when_a_pin_ends(sql: str, engine: str, until: str) -> None:
    """Each reason to pin comes with its end."""
    (statement,) = explain(sql, engine=engine).statements
    assert statement.effect == "pins"
    assert len(statement.until) == len(statement.reasons) == 1
    assert statement.until[0].startswith(until)


@pytest.mark.parametrize(
    ("sql", "engine", "effect", "note"),
    [
        ("SELECT SQL_CALC_FOUND_ROWS 1", "mysql", "free", "held for the next statement"),
        ("SET @a = 1", "mysql", "virtualised", "no integer, NULL or plain string"),
        ("SELECT set_config(%s, 'a', false)", "postgresql", "virtualised", "standard_conforming_strings"),
        ("SELECT set_config(%s, 'a', true)", "postgresql", "free", "standard_conforming_strings"),
        ("SELECT f(1)", "postgresql", "pins", "body is looked at"),
    ],
)
def test_notes(sql: str, engine: str, effect: str, note: str) -> None:
    """What the effect alone does not tell."""
    explanation = explain(sql, engine=engine)
    (statement,) = explanation.statements
    assert statement.effect == effect
    assert len(statement.notes) == 1
    assert note in statement.notes[0]
    assert f"            note     {statement.notes[0]}" in str(explanation).splitlines()


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SET timestamp = 1", "init_command"),
        ("SET profiling = 1", "EXPLAIN ANALYZE"),
        ("SET @`a b` = 1", "application"),
        ("CREATE TEMPORARY TABLE t (a int)", "derived table"),
        ("PREPARE s FROM 'SELECT 1'", "parameters"),
        ("EXECUTE IMMEDIATE 'SELECT 1'", "parameters"),
        ("HANDLER t OPEN", "page by page"),
        ("SELECT GET_LOCK('a', 1)", "FOR UPDATE"),
        ("LOCK TABLES t READ", "FOR UPDATE"),
        ("SELECT SQL_CALC_FOUND_ROWS 1", "COUNT(*)"),
        ("SELECT f(1)", "unpin()"),
        ("CALL p()", "unpin()"),
        ("SELECT COUNT (*) FROM t", "right behind the name"),
        ("SELECT `count`(1)", "right behind the name"),
        ("BEGIN NOT ATOMIC SELECT 1", "one by one"),
        ("COMMIT RELEASE", "close the connection"),
        ("FROBNICATE", "plainer form"),
        ("SELECT LAST_INSERT_ID()", "cursor.lastrowid"),
        ("SELECT ROW_COUNT()", "cursor.rowcount"),
    ],
)
def test_advice_for_mysql(sql: str, advice: str) -> None:
    """Each pin of MySQL and MariaDB comes with a way around it that these servers know."""
    (statement,) = explain(sql, engine="mysql").statements
    text = " ".join(statement.advice)
    assert advice in text
    assert not any(word in text for word in ("pg_", "SET LOCAL", "ON COMMIT DROP", "prepare=True"))


def test_mysql_text_for_people() -> None:
    """Constants are not repeated; placeholders may be in the text."""
    text = str(explain("SELECT 'secret' FROM `t` WHERE a = %s AND b IN (%(b)s); SET @a = 'secret'", engine="mysql"))
    assert "secret" not in text
    assert [line.split()[0] for line in text.splitlines()] == ["free", "virtualised", "as", "note"]
    assert str(explain("SELECT f(%s)", engine="mysql")).splitlines()[1] == "            because  UNKNOWN_ROUTINE: f()"


def test_text_for_people() -> None:
    """One paragraph for each statement; constants are not repeated."""
    text = str(explain("SELECT 'secret'; SET x = 'secret'; LISTEN a; SELECT setseed(1)"))
    assert "secret" not in text
    assert [line.split()[0] for line in text.splitlines()] == [
        "free",
        "virtualised",
        "as",
        "pins",
        "because",
        "until",
        "instead",
        "pins",
        "because",
        "until",
        "instead",
    ]
    assert str(explain("")) == "free        (nothing)"


def test_dictionary_is_json() -> None:
    """as_dict() survives JSON."""
    as_dict = explain("SET x = 1; SELECT set_config(%s, 'a', false), pg_advisory_lock(1)").as_dict()
    assert json.loads(json.dumps(as_dict)) == as_dict
    assert as_dict["pins"] is True
    assert as_dict["statements"] == [
        {
            "verb": "SET",
            "text": "SET x = ?",
            "effect": "virtualised",
            "settings": ["setting x"],
            "reasons": [],
            "until": [],
            "notes": [],
            "advice": [],
        },
        {
            "verb": "SELECT",
            "text": "SELECT set_config(%s, ?, false), pg_advisory_lock(?)",
            "effect": "pins",
            "settings": ["the parameter named by %s"],
            "reasons": ["ADVISORY_LOCK: pg_advisory_lock()"],
            "until": ["ADVISORY_LOCK: the last one is unlocked, or DISCARD ALL"],
            "notes": [],
            "advice": ["use pg_advisory_xact_lock(): it ends with the transaction"],
        },
    ]


def test_unknown_engine() -> None:
    """The message names what is allowed."""
    with pytest.raises(ValueError, match="engine must be 'postgresql' or 'mysql'"):
        explain("SELECT 1", engine="oracle")


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["explain", *arguments]))


def test_command_with_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0 when everything is free or virtualised, 1 when something pins."""
    assert run("SELECT 1") == 0
    assert capsys.readouterr().out == "free        SELECT ?\n"
    assert run("SET x = 1") == 0
    assert run("SET seed = 1") == 1


def test_command_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints what as_dict() says."""
    assert run("--engine", "mysql", "SET @a = 1") == 0
    assert run("--engine", "mysql", "LISTEN a") == 1
    capsys.readouterr()
    assert run("--json", "LISTEN a") == 1
    assert json.loads(capsys.readouterr().out) == explain("LISTEN a").as_dict()


def test_command_with_file(tmp_path: Path) -> None:
    """--file reads the text from a file; one that cannot be read is status 2."""
    file = tmp_path / "a.sql"
    file.write_text("SELECT 1;\nLISTEN a", encoding="utf-8")
    assert run("--file", str(file)) == 1
    assert run("--file", str(tmp_path / "missing.sql")) == 2


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_command_with_standard_input(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a text, or with -, it is read from standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 1; LISTEN a"))
    assert run(*arguments) == 1


def test_command_with_unknown_engine(capsys: pytest.CaptureFixture[str]) -> None:
    """A question that cannot be answered is status 2, with the reason."""
    assert run("--engine", "oracle", "SELECT 1") == 2
    assert "engine must be" in capsys.readouterr().err


def test_explanations_compare() -> None:
    """They are values."""
    assert explain("SELECT 1") == explain("SELECT 2")
    assert isinstance(explain("SELECT 1"), Explanation)
