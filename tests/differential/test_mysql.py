"""A multiplexed session of MySQL or MariaDB cannot be told from a dedicated one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.differential import generated, mysql_generated
from tests.differential.mysql import MySQLBench
from tests.differential.mysql_programs import STORIES, WAYS, Way, programs
from tests.differential.program import Program
from tests.differential.runner import Difference, tallied

THEMES = {
    "settings": (mysql_generated.SETTINGS, 1100),
    "statements": (mysql_generated.STATEMENTS, 450),
    "pins": (mysql_generated.PINS, 450),
}
"""What generated programs are made of, and how many there are."""


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_each_way_to_set_something_with_each_ending(mysql_bench: MySQLBench, way: Way) -> None:
    """However something is set and whatever happens then, no session can tell."""
    if way.server and (way.server == "mariadb") != mysql_bench.is_mariadb:
        pytest.skip(f"{way.server} has it, {mysql_bench.title} has not")
    differences = []
    for program in programs(way):
        try:
            mysql_bench.check(program)
        except Difference as difference:
            differences.append(str(difference))
    assert not differences, f"{len(differences)} differences\n" + "\n\n".join(differences)


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_stories(mysql_bench: MySQLBench, story: Program) -> None:
    """What people do with sessions comes out as on private connections."""
    mysql_bench.check(story)


def test_most_statements_of_those_moved(mysql_bench: MySQLBench, report: Callable[[str], None]) -> None:
    """In the tests above, statements ran on another backend than the one before whenever another was idle."""
    if not mysql_bench.tally.programs:
        pytest.skip("the tests above were not run")
    report(f"{mysql_bench.title}, written by hand: {mysql_bench.tally}")
    mysql_bench.tally.check_moved()


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("theme", THEMES)
def test_generated_programs(mysql_bench: MySQLBench, theme: str, report: Callable[[str], None]) -> None:
    """Programs made by chance come out as on private connections, and their sessions move."""
    ingredients, examples = THEMES[theme]
    with tallied(mysql_bench) as tally:
        strategy: Any = generated.programs(ingredients, mysql_generated.LOGINS)
        generated.check_programs(mysql_bench, strategy, examples)
    report(f"{mysql_bench.title}, {theme}: {tally}")
    if theme != "pins":
        tally.check_moved()
