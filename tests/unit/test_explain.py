"""explain(): the verdict in words, as a dictionary, and on the command line."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest

from rdsproxy_lib.cli import explain as command
from rdsproxy_lib.explanation import _MYSQL, _POSTGRESQL, Explanation, explain
from rdsproxy_lib.sql import Reason


def test_a_free_statement() -> None:
    """Nothing to say but that it is free."""
    explanation = explain("SELECT 1")
    assert not explanation.pins
    assert str(explanation) == "free  SELECT ?"


def test_a_pinning_statement_has_reason_and_advice() -> None:
    """What pins, and what to write instead."""
    (statement,) = explain("SELECT pg_advisory_lock(42)").statements
    assert statement.effect == "pins"
    assert statement.reasons == ("ADVISORY_LOCK: pg_advisory_lock()",)
    assert "pg_advisory_xact_lock()" in statement.advice[0]


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SET x = 1", "SET LOCAL"),
        ("SELECT set_config('a', 'b', false)", "third argument"),
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


def test_every_reason_has_advice() -> None:
    """A new reason needs a way around it, or a word why there is none."""
    assert _POSTGRESQL.keys() == _MYSQL.keys() == set(Reason)


@pytest.mark.parametrize(
    ("sql", "advice"),
    [
        ("SET sql_mode = 'ANSI'", "init_command"),
        ("SET NAMES utf8mb4", "charset="),
        ("SET SESSION TRANSACTION READ ONLY", "leave out SESSION"),
        ("SET ROLE admin", "DEFAULT ROLE"),
        ("SET profiling = 1", "EXPLAIN ANALYZE"),
        ("USE shop", "database="),
        ("SET @a = 1", "application"),
        ("SELECT @n := @n + 1", "ROW_NUMBER()"),
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
    assert [line.split()[0] for line in text.splitlines()] == ["free", "pins", "because", "instead"]
    assert str(explain("SELECT f(%s)", engine="mysql")).splitlines()[1] == "      because  UNKNOWN_ROUTINE: f()"


def test_text_for_people() -> None:
    """One paragraph for each statement; constants are not repeated."""
    text = str(explain("SELECT 'secret'; SET x = 'secret'; LISTEN a"))
    assert "secret" not in text
    assert [line.split()[0] for line in text.splitlines()] == [
        "free",
        "pins",
        "because",
        "instead",
        "pins",
        "because",
        "instead",
    ]
    assert str(explain("")) == "free  (nothing)"


def test_dictionary_is_json() -> None:
    """as_dict() survives JSON."""
    as_dict = explain("SET x = 1").as_dict()
    assert json.loads(json.dumps(as_dict)) == as_dict
    assert as_dict["pins"] is True


def test_unknown_engine() -> None:
    """The message names what is allowed."""
    with pytest.raises(ValueError, match="engine must be 'postgresql' or 'mysql'"):
        explain("SELECT 1", engine="oracle")


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return command.run(parser.parse_args(["explain", *arguments]))


def test_command_with_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0 when everything is free, 1 when something pins."""
    assert run("SELECT 1") == 0
    assert capsys.readouterr().out == "free  SELECT ?\n"
    assert run("SET x = 1") == 1


def test_command_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints what as_dict() says."""
    assert run("--engine", "mysql", "SET @a = 1") == 1
    assert run("--engine", "mysql", "LISTEN a") == 1
    capsys.readouterr()
    assert run("--json", "LISTEN a") == 1
    assert json.loads(capsys.readouterr().out) == explain("LISTEN a").as_dict()


def test_command_with_file(tmp_path: Path) -> None:
    """--file reads the text from a file; one that cannot be read is status 2."""
    file = tmp_path / "a.sql"
    file.write_text("SELECT 1;\nDISCARD ALL", encoding="utf-8")
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
