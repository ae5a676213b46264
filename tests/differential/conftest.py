"""Benches to run programs on, and what the programs of this run came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.differential.generated import SEED
from tests.differential.mysql import MySQLBench
from tests.differential.postgresql import PostgresBench


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


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes a line for the end of the test run, where it stands with the seed that makes generated programs again."""
    return lambda line: record_property("seed", f"differential: {line}; DIFFERENTIAL_SEED={SEED}")
