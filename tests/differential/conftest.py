"""Benches to run programs on, and what the programs of this run came to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.differential.generated import SEED
from tests.differential.mysql import MySQLBench
from tests.differential.postgresql import PostgresBench

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

TALLIES: list[str] = []


@pytest.fixture(scope="module")
def bench(server: Any) -> Iterator[PostgresBench]:
    """Runs programs on a PostgreSQL server."""
    bench = PostgresBench(server)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def mysql_bench(mysql_server: Any) -> Iterator[MySQLBench]:
    """Runs programs on a MySQL or MariaDB server."""
    bench = MySQLBench(mysql_server)
    yield bench
    bench.close()


@pytest.fixture(scope="session")
def report() -> Any:
    """Takes a line for the end of the test run."""
    return TALLIES.append


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter) -> Iterator[None]:
    """Say which programs were run, and the seed that makes the generated ones again."""
    yield
    for line in TALLIES:
        terminalreporter.write_line(f"differential: {line}")
    if TALLIES:
        terminalreporter.write_line(f"differential: generated with DIFFERENTIAL_SEED={SEED}")
