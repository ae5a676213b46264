"""The runner finds what is different: with a fault planted in the library, programs that came out the same do not."""

from __future__ import annotations

from typing import Any

import pytest

from rdsproxy_lib.engines.postgresql import PostgresEngine
from rdsproxy_lib.settings import CLEAN
from tests.differential.postgresql import AUTOCOMMIT, PostgresBench, run
from tests.differential.program import Action, Program, Step
from tests.differential.runner import Difference, Tally

SETS = run("set timezone to 'Asia/Tokyo'", touches="timezone")
ASKS = run("select timestamptz '2024-07-01 12:00+00'")
SETTINGS = Program((Step(0, SETS), Step(1, ASKS), Step(0, ASKS)), (AUTOCOMMIT, AUTOCOMMIT), "settings")


@pytest.fixture(autouse=True)
def _nothing_is_left(bench: PostgresBench) -> Any:
    """The next test begins with proxies of its own."""
    yield
    bench.begin_again()


def program(*actions: Action) -> Program:
    """A program of one session."""
    return Program(tuple(Step(0, action) for action in actions), (AUTOCOMMIT,), "planted")


def test_without_a_fault_there_is_no_difference(bench: PostgresBench) -> None:
    """What the other tests are compared with."""
    bench.check(SETTINGS)


def test_settings_that_are_not_made_again(bench: PostgresBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relabel that only says so is found, by a value that the client sees."""

    def says_so(self: Any, backend: Any, wanted: Any) -> bool:
        backend.label = wanted
        return True

    monkeypatch.setattr(PostgresEngine, "apply", says_so)
    with pytest.raises(Difference, match="differs from private connections"):
        bench.check(SETTINGS)


def test_settings_that_are_not_learnt(bench: PostgresBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the session that has lost its own nor the one that finds another's goes unnoticed."""
    monkeypatch.setattr(PostgresEngine, "learn", lambda self, client, backend, names: CLEAN)
    with pytest.raises(Difference, match="differs from private connections"):
        bench.check(SETTINGS)


def test_pins_that_no_table_has(bench: PostgresBench) -> None:
    """A program may pin for the reasons of its actions only."""
    makes = "create temp table scratch (id int)"
    bench.check(program(run(makes, pins="TEMP_TABLE"), run("drop table scratch", pins="TEMP_TABLE")))
    with pytest.raises(Difference, match="pins that the table does not have"):
        bench.check(program(run(makes), run("drop table scratch")))


def test_statements_that_never_move() -> None:
    """Programs that only come out the same since their sessions stay where they are do not count."""
    Tally(moved=95, stayed=5).check_moved()
    with pytest.raises(AssertionError, match=r"94\.0%"):
        Tally(moved=94, stayed=6).check_moved()
    with pytest.raises(AssertionError, match="no statement could have moved"):
        Tally().check_moved()
