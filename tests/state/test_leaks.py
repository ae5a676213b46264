"""Sessions that do all that sessions can do, in any order over few backends, never see anything of each other."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import pytest

from .conftest import rows, seed, value
from .oracle import Engine, Private, Run, Step, check, program, programs, smallest
from .oracle_mysql import MySQLOracle
from .oracle_postgresql import PostgresOracle

SECONDS = float(os.environ.get("STATE_SECONDS", "15"))
LONG_SECONDS = 600.0
LENGTH = 40
"""Steps of a program; about half of them have a meaning when their turn comes."""


def explore(
    kind: type[Run], engine: Engine, seconds: float, record_property: Callable[[str, object], None], *, least: int = 10
) -> dict[str, int]:
    """Run one program after the other for so many seconds, and at least a few; all that happened, counted."""
    first = seed()
    record_property("seed", f"{engine.world.name}, leak oracle, {kind.__name__.lower()}: STATE_SEED={first}")
    deadline = time.monotonic() + seconds
    counts: dict[str, int] = {"programs": 0}
    for number, sessions, limit in programs(first):
        steps = program(engine, number, LENGTH, sessions)

        def run(steps: list[Step], number: int = number, sessions: int = sessions, limit: int = limit) -> Counter[str]:
            return check(kind, engine, number, steps, sessions, limit)

        try:
            happened = run(steps)
        except Exception as error:
            text = "\n".join(map(str, smallest(run, steps, error)))
            raise AssertionError(
                f"STATE_SEED={number}, {sessions} sessions over {limit} backends: {error}\n"
                f"these steps are enough:\n{text}"
            ) from error
        counts["programs"] += 1
        for name, count in happened.items():
            counts[name] = counts.get(name, 0) + count
        if counts["programs"] >= least and time.monotonic() > deadline:
            break
    return counts


@pytest.mark.slow
def test_nothing_of_a_session_is_seen_by_another_on_postgresql(postgres, record_property):
    """Settings, roles, tables, cursors, locks: each session sees its own, and only while it has them it is pinned."""
    engine = PostgresOracle(postgres)
    counts = explore(Run, engine, SECONDS, record_property)
    check_counts(counts)


@pytest.mark.slow
def test_nothing_of_a_session_is_seen_by_another_on_mysql(mysql, record_property):
    """The same with variables, schemas and modes of MySQL and MariaDB."""
    engine = MySQLOracle(mysql)
    counts = explore(Run, engine, SECONDS, record_property)
    check_counts(counts)


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS + 300)
def test_nothing_of_a_session_is_seen_for_long_on_postgresql(postgres, record_property):
    """The same for ten minutes."""
    check_counts(explore(Run, PostgresOracle(postgres), LONG_SECONDS, record_property))


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS + 300)
def test_nothing_of_a_session_is_seen_for_long_on_mysql(mysql, record_property):
    """The same for ten minutes."""
    check_counts(explore(Run, MySQLOracle(mysql), LONG_SECONDS, record_property))


def test_threads_keep_to_their_own_settings(world, record_property):
    """Six threads set, read, roll back and leave over two backends: each reads what it set, whoever comes between."""
    proxy = world.proxy(max_connections=2, audit=False)
    deadline = time.monotonic() + 2
    first = seed()
    record_property("seed", f"{world.name}, threads: STATE_SEED={first}")
    wrong: list[object] = []

    def live(number: int) -> None:
        dice = random.Random(first + number)
        while time.monotonic() < deadline and not wrong:
            with closing(proxy.connect(autocommit=True)) as conn:
                have: dict[str, object] = {setting.name: setting.usual for setting in world.settings}
                for _ in range(dice.randrange(2, 12)):
                    before = dict(have)
                    is_open = dice.random() < 0.4
                    if is_open:
                        rows(conn, "begin")
                    for setting in dice.sample(world.settings, dice.randrange(3)):
                        new = f"{number}{dice.randrange(101, 1000, 2)}"  # odd, so that it is shown in kB
                        rows(conn, setting.set.replace("1001", new).replace("mine", new))
                        shown = str(setting.mine).replace("1001", new).replace("mine", new)
                        have[setting.name] = int(shown) if isinstance(setting.mine, int) else shown
                    if is_open:
                        end = dice.choice(("commit", "rollback"))
                        rows(conn, end)
                        if end == "rollback" and world.engine == "postgresql":
                            have = before
                    seen = {setting.name: value(conn, setting.show) for setting in world.settings}
                    if seen != have:
                        wrong.append(("sees", seen, "has", have))
                        return

    threads = [threading.Thread(target=live, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    stats = proxy.stats()
    assert stats.relabels > 20
    assert (dict(stats.pins), stats.reset_failures, stats.database_connections) == ({}, 0, 2)


def check_counts(counts: dict[str, int]) -> None:
    """Sessions moved, settings were put in the place of others, and pins came and went: it was no idle exercise."""
    for name in ("looks", "moved", "relabels", "pins", "resets"):
        assert counts.get(name, 0) > 0, counts
    assert counts["looks"] > 10 * counts["programs"] > 0, counts


def test_private_connections_see_what_the_oracle_expects_on_postgresql(postgres, record_property):
    """The expectations are those of the server: private connections meet them."""
    explore(Private, PostgresOracle(postgres), 0, record_property, least=20)


def test_private_connections_see_what_the_oracle_expects_on_mysql(mysql, record_property):
    """The expectations are those of the server: private connections meet them."""
    explore(Private, MySQLOracle(mysql), 0, record_property, least=20)
