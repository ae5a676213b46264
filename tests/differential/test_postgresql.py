"""A multiplexed session of PostgreSQL cannot be told from a dedicated one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.differential import generated, postgresql_generated
from tests.differential.postgresql import PostgresBench
from tests.differential.postgresql_programs import STORIES, WAYS, Way, programs
from tests.differential.program import Program
from tests.differential.runner import Difference, tallied

THEMES = {
    "settings": (postgresql_generated.SETTINGS, 1100),
    "statements": (postgresql_generated.STATEMENTS, 450),
    "pins": (postgresql_generated.PINS, 450),
}
"""What generated programs are made of, and how many there are; on the second server a quarter of it."""


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_each_way_to_set_something_with_each_ending(bench: PostgresBench, way: Way) -> None:
    """However something is set and whatever happens then, no session can tell."""
    differences = []
    for program in programs(way):
        try:
            bench.check(program)
        except Difference as difference:
            differences.append(str(difference))
    assert not differences, f"{len(differences)} differences\n" + "\n\n".join(differences)


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_stories(bench: PostgresBench, story: Program) -> None:
    """What people do with sessions comes out as on private connections."""
    bench.check(story)


def test_most_statements_of_those_moved(bench: PostgresBench, report: Callable[[str], None]) -> None:
    """In the tests above, statements ran on another backend than the one before whenever another was idle."""
    if not bench.tally.programs:
        pytest.skip("the tests above were not run")
    report(f"{bench.title}, written by hand: {bench.tally}")
    bench.tally.check_moved()


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("theme", THEMES)
def test_generated_programs(bench: PostgresBench, theme: str, report: Callable[[str], None]) -> None:
    """Programs made by chance come out as on private connections, and their sessions move."""
    ingredients, examples = THEMES[theme]
    is_first = bench.title == "PostgreSQL 15"
    with tallied(bench) as tally:
        strategy: Any = generated.programs(ingredients, postgresql_generated.LOGINS)
        generated.check_programs(bench, strategy, examples if is_first else examples // 4)
    report(f"{bench.title}, {theme}: {tally}")
    if theme != "pins":
        tally.check_moved()
