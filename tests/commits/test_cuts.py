"""COMMITs cut at random bytes: each outcome that was told is the true one."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import rdsproxy_lib
from tests.cluster.history import run

SHORT, LONG = 60, 500
"""How many COMMITs are cut on each engine."""
BEHIND = 0.4
"""How often the connection that asks about a COMMIT is cut too."""


def by_method(conn: Any, write: Callable[[], None], before: Callable[[], None]) -> None:
    """conn.commit()"""
    write()
    before()
    conn.commit()


def by_text(conn: Any, write: Callable[[], None], before: Callable[[], None]) -> None:
    """The text COMMIT."""
    write()
    before()
    run(conn, "commit")


def by_block(conn: Any, write: Callable[[], None], before: Callable[[], None]) -> None:
    """The end of psycopg's transaction block."""
    with conn.transaction():
        write()
        before()


class Cuts:
    """Cuts a COMMIT after a random byte, in either direction; and maybe, right behind it, who asks about it."""

    def __init__(self, place: Any, dice: random.Random) -> None:
        self._relay = place.relay
        self._dice = dice

    def arm(self, sizes: dict[Any, int]) -> None:
        direction = self._dice.choice(("to_server", "to_client"))
        self._relay.cut_after(self._dice.randint(0, sizes[direction]), direction)
        if self._dice.random() < BEHIND:
            behind = self._dice.choice(("to_server", "to_client"))
            follow = threading.Thread(target=self._follow, args=(direction, behind, self._dice.randint(0, 1500)))
            follow.start()
            self._following = follow

    def _follow(self, first: Any, behind: Any, size: int) -> None:
        while self._relay._cut[first] is not None:
            self._over.wait(0.0005)
            if self._over.is_set():
                return
        self._relay.cut_after(size, behind)

    def __enter__(self) -> Cuts:
        self._over = threading.Event()
        self._following: threading.Thread | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._following is not None:
            self._following.join()
        for direction in ("to_server", "to_client"):
            self._relay.cut_after(None, direction)


def sizes_of(place: Any, conn: Any, way: Callable[..., None]) -> dict[Any, int]:
    """How many bytes a COMMIT takes in each direction."""
    before: list[Any] = []
    way(conn, lambda: run(conn, "insert into work values (-1)"), lambda: before.append(place.relay.traffic()))
    spent = place.relay.traffic() - before[0]
    return {"to_server": spent.bytes_to_server, "to_client": spent.bytes_to_client}


def cut(place: Any, count: int, seed: int) -> Counter[tuple[str, str]]:
    """Cut so many COMMITs; what was told and what was so, how often."""
    dice = random.Random(seed)
    ways = [by_method, by_text, by_block] if place.is_postgresql else [by_method, by_text]
    told: dict[int, tuple[str, str]] = {}
    with place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        sizes = {way: sizes_of(place, conn, way) for way in ways}
        for number in range(count):
            way = dice.choice(ways)
            with Cuts(place, dice) as cuts:
                try:
                    way(
                        conn,
                        lambda number=number: run(conn, "insert into work values (%s)", (number,)),
                        lambda cuts=cuts, way=way: cuts.arm(sizes[way]),
                    )
                except rdsproxy_lib.TransactionLost:
                    told[number] = way.__name__, "not committed"
                except rdsproxy_lib.OutcomeUnknown:
                    told[number] = way.__name__, "unknown"
                else:
                    told[number] = way.__name__, "committed"
            conn.rollback()
        conn.close()
    # At the end, when nothing is on its way any more.
    present = [number for (number,) in place.ask("select number from work where number >= 0")]
    assert max(Counter(present).values()) == 1, "none was written twice"
    outcomes: Counter[tuple[str, str]] = Counter()
    for number, (name, said) in told.items():
        truth = "committed" if number in set(present) else "not committed"
        outcomes[f"{name}: {said}", truth] += 1
        assert said == truth, f"{number}, {name}: was told {said}, is {truth}; seed {seed}"
    return outcomes


@pytest.mark.timeout(300)
def test_what_is_told_of_commits_that_were_cut_is_true(place, record_property):
    """At any byte of request or answer, and who asks about it may be cut as well."""
    seed = random.randrange(10**6)
    record_property("seed", f"commits cut on {place.kind}: seed {seed}")
    outcomes = cut(place, SHORT, seed)
    assert {truth for _, truth in outcomes} == {"committed", "not committed"}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_what_is_told_of_500_commits_that_were_cut_is_true(place, record_property):
    """The same, more often; the table of outcomes is printed in the summary."""
    seed = random.randrange(10**6)
    outcomes = cut(place, LONG, seed)
    assert outcomes.total() == LONG
    lines = (f"{said} | {truth} | {count}" for (said, truth), count in sorted(outcomes.items()))
    record_property("seed", f"commits cut on {place.kind}, seed {seed}: {'; '.join(lines)}")
