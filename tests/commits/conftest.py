"""Servers for the tests of `resolve_commits`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commits.places import KINDS, Place


@pytest.fixture(scope="package", params=[pytest.param(kind, marks=pytest.mark.server(kind)) for kind in KINDS])
def _started(request: pytest.FixtureRequest) -> Iterator[Place]:
    with Place(request.param) as place:
        yield place


@pytest.fixture
def place(_started: Place) -> Iterator[Place]:
    """Each server in turn, behind a relay, with nothing in its tables."""
    _started.heal()
    yield _started


@pytest.fixture
def postgresql(place: Place) -> Place:
    """For what only PostgreSQL has."""
    if not place.is_postgresql:
        pytest.skip("only PostgreSQL has that")
    return place


@pytest.fixture
def mysql(place: Place) -> Place:
    """For what only MySQL and MariaDB have."""
    if place.is_postgresql:
        pytest.skip("only MySQL and MariaDB have that")
    return place
