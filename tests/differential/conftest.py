"""Benches to run programs on, and what the programs of this run came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.differential.generated import SEED
from tests.differential.mysql import MySQLBench
from tests.differential.postgresql import PostgresBench
from tests.differential.runner import Bench

ENOUGH = 200
"""Statements that could have moved, for their share to mean something."""


@pytest.fixture(scope="module")
def bench(server: Any) -> Iterator[PostgresBench]:
    """Runs programs on a PostgreSQL server."""
    bench = PostgresBench(server)
    yield bench
    bench.close()
    check_moved(bench)


@pytest.fixture(scope="module")
def mysql_bench(mysql_server: Any) -> Iterator[MySQLBench]:
    """Runs programs on a MySQL or MariaDB server."""
    bench = MySQLBench(mysql_server)
    yield bench
    bench.close()
    check_moved(bench)


def check_moved(bench: Bench) -> None:
    """Of several workers each has seen a part of the programs: it looks at the end at all of its own."""
    if bench.tally.moved + bench.tally.stayed >= ENOUGH:
        bench.tally.check_moved()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes a line for the end of the test run, where it stands with the seed that makes generated programs again."""
    return lambda line: record_property("seed", f"differential: {line}; DIFFERENTIAL_SEED={SEED}")
