"""Every program in examples/ runs as it stands, on each server it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
POSTGRESQL = {
    "plain": "50 connections, 1 of them to the database",
    "drop_in": "refused: visits_pkey",
    "sqlalchemy_creator": "pins: none",
    "lambda_handler": "101 connections, 1 to the database",
    "connection_manager": "500 points",
    "row_level_security": "20 sessions, 2 connections, 0 pins",
}
MYSQL = {
    "mysql_plain": "50 connections, 1 of them to the database",
    "mysql_drop_in": "refused: 1062 Duplicate entry",
    "mysql_as_mysqldb": "20 connections, 1 of them to the database",
    "mysql_lambda_handler": "101 connections, 1 to the database",
    "sqlalchemy_creator": "pins: none",
}
"""By program: a part of what it prints when all went well."""
ELSEWHERE = {"iam", "secrets_manager"}
"""Those that need AWS as well: tests/login/test_examples.py runs them."""


def test_no_example_is_left_out():
    """Each program in examples/ has its line in the tables above, or is run elsewhere."""
    assert {place.stem for place in (ROOT / "examples").glob("*.py")} == {*POSTGRESQL, *MYSQL, *ELSEWHERE}


@pytest.mark.parametrize("name", POSTGRESQL)
def test_example_runs(url, name):
    """The program ends well with every warning an error, prints what it should, and can be run again."""
    _run_twice(name, url, POSTGRESQL[name])


@pytest.mark.parametrize("name", MYSQL)
def test_mysql_example_runs(mysql_url, name):
    """The same on MariaDB and MySQL."""
    _run_twice(name, mysql_url, MYSQL[name])


def _run_twice(name, url, says):
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", f"examples/{name}.py"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert says in done.stdout
