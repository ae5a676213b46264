"""How often the server is spoken to, counted on the wire: what docs/round-trips.md says is what happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.servers import TcpRelay

from .conftest import World, rows
from .oracle import DRIVER_ERRORS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "round-trips.md"


class Counted:
    """Sessions over one backend behind a relay, and a private connection behind the same."""

    def __init__(self, world: World, relay: TcpRelay) -> None:
        self.world, self.relay = world, relay
        self.proxy = world.proxy(port=relay.port, audit=False)
        self.private = world.private(port=relay.port)
        self.ours = self.connect()
        self.other = self.connect()
        for conn in (self.private, self.ours, self.other):
            rows(conn, "select 1")

    def connect(self, **keywords: Any) -> Any:
        return self.world.connect(self.proxy, **keywords)

    def count(self, act: Callable[[], object]) -> int:
        """The round trips while something is done."""
        before = self.relay.traffic()
        act()
        return (self.relay.traffic() - before).round_trips

    def extra(self, *texts: str) -> int:
        """How many round trips more these statements take on our session than on the private connection."""

        def run(conn: Any) -> None:
            for text in texts:
                if text.startswith("!"):
                    with suppress(*DRIVER_ERRORS):
                        rows(conn, text[1:])
                else:
                    rows(conn, text)

        return self.count(lambda: run(self.ours)) - self.count(lambda: run(self.private))

    def set(self, conn: Any, number: int = 0) -> None:
        """Give a session a setting of its own."""
        rows(conn, self.world.settings[number].set)


def after_the_same(counted: Counted) -> int:
    rows(counted.other, "select 1")
    return counted.extra("select 1")


def after_the_same_settings(counted: Counted) -> int:
    counted.set(counted.other)
    counted.set(counted.ours)
    rows(counted.other, "select 1")
    return counted.extra("select 1")


def after_others_settings(counted: Counted) -> int:
    counted.set(counted.ours, 1)
    counted.set(counted.other)
    rows(counted.other, "select 1")
    return counted.extra("select 1")


def clean_after_settings(counted: Counted) -> int:
    counted.set(counted.other)
    return counted.extra("select 1")


def settings_after_clean(counted: Counted) -> int:
    counted.set(counted.ours)
    rows(counted.other, "select 1")
    return counted.extra("select 1")


def transaction_after_others_settings(counted: Counted) -> int:
    counted.set(counted.ours, 1)
    counted.set(counted.other)
    return counted.extra("begin", "select 1", "select 2", "commit")


def set_(counted: Counted) -> int:
    return counted.extra(counted.world.settings[0].set)


def set_own(counted: Counted) -> int:
    return counted.extra(counted.world.settings[1].set)


def set_twice(counted: Counted) -> int:
    counted.set(counted.ours)
    return counted.extra(counted.world.settings[1].set)


def set_in_transaction(counted: Counted) -> int:
    return counted.extra("begin", *(setting.set for setting in counted.world.settings), "commit")


def transaction(counted: Counted) -> int:
    return counted.extra("begin", "select 1", "commit")


def local(counted: Counted) -> int:
    if counted.world.engine == "mysql":
        return counted.extra("set transaction read only", "begin", "select 1", "commit")
    return counted.extra("begin", "set local work_mem = '1001kB'", "select 1", "commit")


def error(counted: Counted) -> int:
    return counted.extra("!select * from nothing_of_this_name")


def error_in_transaction(counted: Counted) -> int:
    return counted.extra("begin", "!select * from nothing_of_this_name", "rollback")


def connect(counted: Counted) -> int:
    return counted.count(counted.connect)


def close(counted: Counted) -> int:
    return counted.count(counted.ours.close)


def close_with_settings(counted: Counted) -> int:
    counted.set(counted.ours)
    return counted.count(counted.ours.close)


def close_pinned(counted: Counted) -> int:
    rows(counted.ours, "create temporary table scratch (n int)")
    return counted.count(counted.ours.close)


def pin(counted: Counted) -> int:
    return counted.extra("create temporary table scratch (n int)")


def pinned(counted: Counted) -> int:
    for conn in (counted.ours, counted.private):
        rows(conn, "create temporary table scratch (n int)")
    return counted.extra("insert into scratch values (1)", "select * from scratch")


def pin_ends(counted: Counted) -> int:
    for conn in (counted.ours, counted.private):
        rows(conn, "create temporary table scratch (n int)")
    return counted.extra("drop table scratch")


CASES: dict[str, Callable[[Counted], int]] = {
    "a statement after one of another session, neither with settings": after_the_same,
    "… both with the same settings": after_the_same_settings,
    "… each with settings of its own": after_others_settings,
    "… the other one with settings": clean_after_settings,
    "… this one with settings": settings_after_clean,
    "a transaction after a session with other settings": transaction_after_others_settings,
    "a transaction": transaction,
    "a transaction with settings of its own (SET LOCAL; SET TRANSACTION)": local,
    "SET of a parameter or system variable": set_,
    "SET of a custom parameter or user variable": set_own,
    "… in a session that has settings": set_twice,
    "a transaction with two SET": set_in_transaction,
    "a statement that fails": error,
    "a transaction with a statement that fails": error_in_transaction,
    "connect(), but for the first of a login": connect,
    "close()": close,
    "close() of a session with settings": close_with_settings,
    "close() of a pinned session": close_pinned,
    "a statement that pins (CREATE TEMPORARY TABLE)": pin,
    "statements of a pinned session": pinned,
    "the statement that ends the pin (DROP TABLE)": pin_ends,
}

MOST = {
    after_the_same: 0,
    after_the_same_settings: 0,
    after_others_settings: 1,
    clean_after_settings: 1,
    settings_after_clean: 1,
    transaction_after_others_settings: 1,
    transaction: 0,
    local: 2,
    set_: 1,
    set_own: 1,
    set_twice: 1,
    set_in_transaction: 1,
    error: 1,
    close: 0,
    close_with_settings: 0,
    connect: 0,
    pinned: 0,
}
"""What is promised, whatever the page says."""


def documented(column: int) -> dict[str, int]:
    """The table of the page: what it says of each case."""
    lines = [line.strip().strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return {cells[0].replace("`", "").strip(): int(cells[column]) for cells in lines[2:]}


@pytest.fixture
def relay(world: World) -> Iterator[TcpRelay]:
    """A relay in front of the server."""
    with world.relay() as relay:
        yield relay


def test_the_page_lists_the_cases_that_are_measured():
    """round-trips.md has a row for every case, and no other."""
    assert list(documented(1)) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_round_trips_are_as_documented(world, relay, name):
    """Each case takes as many round trips more than a private connection as the page says, and as was promised."""
    counted = Counted(world, relay)
    extra = CASES[name](counted)
    assert extra <= MOST.get(CASES[name], extra)
    if world.engine == "postgresql" and CASES[name] in (error, error_in_transaction, local):
        assert extra == 0
    assert extra == documented(1 if world.engine == "postgresql" else 2)[name]
