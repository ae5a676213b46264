"""Servers for the tests of `resolve_commits`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commits.places import KINDS, Place


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of `place` runs on each server, one of `postgresql` or `mysql` on those that are meant."""
    if "_started" in metafunc.fixturenames:
        kinds = [
            kind
            for kind in KINDS
            if ("mysql" not in metafunc.fixturenames or not kind.startswith("postgresql"))
            and ("postgresql" not in metafunc.fixturenames or kind.startswith("postgresql"))
        ]
        servers = [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in kinds]
        metafunc.parametrize("_started", servers, indirect=True, scope="package")


@pytest.fixture(scope="package")
def _started(request: pytest.FixtureRequest) -> Iterator[Place]:
    with Place(request.param) as place:
        yield place


@pytest.fixture
def place(_started: Place) -> Place:
    """Each server in turn, behind a relay, with nothing in its tables."""
    _started.heal()
    return _started


@pytest.fixture
def postgresql(place: Place) -> Place:
    """For what only PostgreSQL has."""
    return place


@pytest.fixture
def mysql(place: Place) -> Place:
    """For what only MySQL and MariaDB have."""
    return place
