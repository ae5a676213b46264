"""The fault matrix's own instruments: what they are there to find, they find."""

from __future__ import annotations

import dataclasses

import pytest

from tests.cluster import matrix
from tests.cluster.faults import FAULTS
from tests.cluster.history import History
from tests.cluster.test_failover import complaints

KILL, LOSE_READER, LOSE_READER_IN_USE = (
    next(each for each in FAULTS if each.name == name) for name in ("kill", "lose_reader", "lose_reader_in_use")
)


def told():
    """One row of each kind."""
    history = History(unknown=[3, 4], undone=[5])
    history.acknowledge(1, 2)
    return history


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ([1, 2], {}),
        ([1, 2, 4], {}),
        ([1], {"lost": 1}),
        ([1, 2, 2, 4, 4], {"doubled": 2}),
        ([1, 2, 5], {"wrong": 1}),
        ([1, 2, 6], {"wrong": 1}),
    ],
)
def test_the_oracle_finds_what_is_not_as_it_was_told(present, found):
    """Lost, doubled, and wrongly reported rows are counted, and are complaints; what is unknown may be there or not."""
    history = told()
    outcome = history.outcome(present)
    assert {name: getattr(outcome, name) for name in ("lost", "doubled", "wrong") if getattr(outcome, name)} == found
    assert bool(complaints(KILL, "postgresql-15", history, outcome)) == bool(found)


def test_where_nothing_may_be_noticed_an_unknown_outcome_is_a_complaint():
    """The same history passes where the writer died, and not where only a reader was lost."""
    history = told()
    outcome = history.outcome([1, 2])
    assert complaints(KILL, "postgresql-15", history, outcome) == []
    assert complaints(LOSE_READER, "postgresql-15", history, outcome)


@pytest.mark.parametrize(
    ("cuts", "complains"), [([], False), (["read", "stream"], False), (["pinned"], True), (["read"] * 7, True)]
)
def test_where_a_reader_is_lost_only_those_that_read_there_may_notice_once_each(cuts, complains):
    """Six of the threads only read."""
    history = History(cuts=cuts)
    history.acknowledge(1)
    assert bool(complaints(LOSE_READER_IN_USE, "postgresql-15", history, history.outcome([1]))) == complains


def test_an_error_where_there_must_be_none_is_a_complaint():
    """Whatever the rows say."""
    history = told()
    history.errors.append(("write", ValueError("why")))
    (complaint,) = complaints(KILL, "postgresql-15", history, history.outcome([1, 2]))
    assert "ValueError" in complaint


def test_a_row_is_recorded_for_these_sources(tmp_path, monkeypatch):
    """A second run finds it, also one that failed; other sources do not; and without a directory there is no record."""
    row = {"id": "one", "complaints": ["lost: 1"]}
    monkeypatch.delenv(matrix.PLACE, raising=False)
    matrix.Record().add(row)
    assert matrix.Record().find("one") is None
    monkeypatch.setenv(matrix.PLACE, str(tmp_path / "record"))
    assert matrix.Record().find("one") is None
    matrix.Record().add(row)
    assert matrix.Record().find("one") == row
    monkeypatch.setattr(matrix, "of_these_sources", lambda: "others")
    assert matrix.Record().find("one") is None


def test_the_table_takes_repeats_together():
    """Counts are added up, and of the gaps the longest is shown."""
    outcome = dataclasses.asdict(told().outcome([1, 2]))
    rows = [
        {"fault": "kill", "engine": "postgresql-15", "monitor": True, **outcome, "gap": gap, "wait": 1}
        for gap in (0.1, 0.25)
    ]
    header, line = matrix.table(rows)
    assert " ".join(line.split()) == "kill postgresql-15 on 2 4 4 2 0 0 0 0 0 250 ms 1000 ms"
    assert header.split() == ["fault", "engine", "monitor", "runs", *matrix.COUNTS, *matrix.TIMES]
    assert matrix.table([]) == []
