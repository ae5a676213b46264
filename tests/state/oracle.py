"""Random programs of several sessions, and what each of them has to see: its own, and nothing of the others.

A program is a list of steps that are made without looking at anything. A step that has no meaning when its turn comes
is left out, so that any part of a program is a program: a failure is made small by leaving steps out.

What a session should see is a model of one private connection: a value for each kind of state, marks to come back to
for transactions and savepoints. `Private` runs the same programs on private connections, which proves the model.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

import psycopg
import pymysql

from .conftest import World, eventually, rows

DRIVER_ERRORS = (psycopg.Error, pymysql.MySQLError)


@dataclass(frozen=True)
class Way:
    """A statement that sets, with `{v}` for the value."""

    text: str
    parameters: tuple[str, ...] = ()

    def run(self, conn: Any, value: Any) -> None:
        rows(conn, self.text.format(v=value), tuple(each.format(v=value) for each in self.parameters) or None)


@dataclass(frozen=True)
class Kind:
    """Something of its own that a session may have."""

    name: str
    ways: tuple[Way, ...]
    clear: str
    shown: Callable[[Any], Any]
    """What a look shows where a session has this value; None: where it has none."""
    value: Callable[[int, int], Any] = lambda session, number: 1001 + 2 * number
    """The value that session number so-and-so sets in step number so-and-so, unlike those of other sessions."""
    local: Way | None = None
    """Sets it for the transaction."""
    pins: bool = False
    once: bool = False
    """It has to be cleared before it is set again."""
    reverts: bool = True
    """ROLLBACK takes it back."""
    is_cleared_for_good: bool = False
    """ROLLBACK does not bring back what was cleared."""
    outside: bool = False
    """It is set and cleared outside of transactions."""
    survives_reset: bool = False
    """RESET ALL leaves it."""


@dataclass(frozen=True)
class Step:
    """What one session does."""

    number: int
    session: int
    action: str
    kind: str = ""
    way: int = 0

    def __str__(self) -> str:
        return f"session {self.session}: {self.action} {self.kind} {self.way or ''}".rstrip()


@dataclass
class Mine:
    """What a session has."""

    values: dict[str, Any] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    marks: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    """The transaction, if there is one, and its savepoints."""
    is_failed: bool = False
    written: list[int] = field(default_factory=list)
    """Rows that are not committed yet."""
    written_at: list[int] = field(default_factory=list)
    """How many there were at each mark."""
    is_autocommit: bool = True
    touched: set[str] = field(default_factory=set)
    """The kinds that it ever set or cleared."""

    @property
    def in_transaction(self) -> bool:
        return bool(self.marks)

    def visible(self, kind: str) -> Any:
        return self.local.get(kind, self.values.get(kind))

    def mark(self) -> None:
        self.marks.append((dict(self.values), dict(self.local)))
        self.written_at.append(len(self.written))

    def back_to(self, index: int, kinds: Mapping[str, Kind]) -> None:
        """Everything that reverts is as it was at that mark."""
        values, local = self.marks[index]
        stays = {name: value for name, value in self.values.items() if not kinds[name].reverts}
        returns = {
            name: value
            for name, value in values.items()
            if kinds[name].reverts and (not kinds[name].is_cleared_for_good or self.values.get(name) == value)
        }
        self.values = returns | stays
        self.local = dict(local)
        del self.marks[index + 1 :], self.written_at[index + 1 :]
        del self.written[self.written_at[index] :]
        self.is_failed = False

    def end(self) -> None:
        self.marks, self.written_at, self.local, self.written, self.is_failed = [], [], {}, [], False


class Engine:
    """How one kind of server does it all."""

    kinds: Mapping[str, Kind]
    actions: ClassVar[Mapping[str, int]]
    """What sessions do, and how often."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.prepare()

    def prepare(self) -> None:
        """Make the tables and schemas that the sessions use."""
        raise NotImplementedError

    def plan(self, seed: int) -> tuple[list[str], dict[str, Any]]:
        """The kinds that a program uses, and the arguments its sessions connect with."""
        return list(self.kinds), {}

    def is_audited(self, seed: int) -> bool:
        """Whether a program runs with audit=True."""
        return True

    def look(self, conn: Any) -> dict[str, Any]:
        """What a session sees of each kind, by one or two statements that leave nothing."""
        raise NotImplementedError

    def clearing(self, kind: Kind, mine: Mine) -> str:
        """The statement that clears it."""
        return kind.clear

    def is_allowed(self, kind: Kind, mine: Mine) -> bool:
        """Whether a session that has lived so may set and clear that."""
        return True

    def fail(self, conn: Any) -> None:
        """Run a statement that fails."""
        raise NotImplementedError

    def reset(self, conn: Any) -> None:
        """RESET ALL, or the like."""
        raise NotImplementedError

    def discard(self, conn: Any) -> None:
        """DISCARD ALL, or the like."""
        raise NotImplementedError

    def left_over(self) -> list[Any]:
        """What sessions that are closed have left on the server for all to see: locks, transactions."""
        raise NotImplementedError

    def expected(self, mine: Mine) -> dict[str, Any]:
        return {name: kind.shown(mine.visible(name)) for name, kind in self.kinds.items()}


def program(engine: Engine, seed: int, length: int, sessions: int) -> list[Step]:
    """A list of steps for so many sessions."""
    dice = random.Random(seed)
    actions, weights = zip(*engine.actions.items(), strict=True)
    kinds, _ = engine.plan(seed)
    steps = []
    for number in range(length):
        (action,) = dice.choices(actions, weights)
        kind = dice.choice(kinds) if action in ("set", "clear", "set local") else ""
        steps.append(Step(number, dice.randrange(sessions), action, kind, dice.randrange(4)))
    return steps


class Run:
    """One program on its way. Raises AssertionError where a session sees what it should not, or lacks its own."""

    def __init__(self, engine: Engine, seed: int, sessions: int, limit: int) -> None:
        self.engine = engine
        self.dice = random.Random(seed)
        self.limit = limit
        _, self.keywords = engine.plan(seed)
        self.counts: Counter[str] = Counter()
        self.open(engine.is_audited(seed))
        self.model = [self.fresh(index) for index in range(sessions)]
        self.conns = [self.connect(index) for index in range(sessions)]
        self.committed: Counter[int] = Counter()
        self.last: dict[int, int] = {}

    # -- how it differs on private connections

    def open(self, is_audited: bool) -> None:
        self.proxy = self.engine.world.proxy(max_connections=self.limit, audit=is_audited)

    def connect(self, index: int) -> Any:
        return self.engine.world.connect(self.proxy, autocommit=self.model[index].is_autocommit, **self.keywords)

    def can_run(self, index: int) -> bool:
        """Whether there is a backend for this session."""
        conn = self.conns[index]
        if conn.rdsproxy.pinned or conn.rdsproxy.in_transaction:
            return True
        return self.proxy.stats().database_connections_currently_borrowed < self.limit

    def check_pin(self, index: int) -> None:
        mine, client = self.model[index], self.conns[index].rdsproxy
        self.counts["moved"] += self.last.get(index, client.backend_id) != client.backend_id
        self.last[index] = client.backend_id
        if mine.in_transaction:
            return
        wanted = {name for name in mine.values if self.engine.kinds[name].pins}
        assert client.pinned == bool(wanted), f"session {index} has {sorted(wanted)}, and is pinned for {client.pins}"
        self.counts["pinned"] += client.pinned

    def check_events(self) -> None:
        leaks = [event for event in self.engine.world.events if type(event).__name__ == "StateLeaked"]
        assert not leaks, leaks

    def finish(self) -> None:
        for conn in self.conns:
            conn.close()
        stats = self.proxy.stats()
        assert stats.database_connections_currently_borrowed == 0, stats
        assert stats.pinned_sessions == (), stats
        self.check_events()
        eventually(lambda: not self.engine.left_over())  # of connections that were closed the server hears later
        self.counts.update(relabels=stats.relabels, resets=stats.resets, pins=sum(stats.pins.values()))
        self.proxy.close()
        assert stats.reset_failures == 0, stats
        there = dict(self.engine.world.admin("select session, count(*) from written group by session"))
        committed = {index: count for index, count in self.committed.items() if count}
        assert there == committed, f"rows in the table, by session: {there}; committed: {committed}"
        self.engine.world.admin("delete from written")

    # -- steps

    def fresh(self, index: int) -> Mine:
        """What a session has at its start: every third one is not under autocommit."""
        return Mine(is_autocommit=index % 3 != 2)

    def run(self, steps: list[Step]) -> None:
        for step in steps:
            if not self.can_run(step.session) or not self.step(step):
                continue
            self.counts["steps"] += 1
            self.look(step.session)
            others = [index for index in range(len(self.conns)) if index != step.session]
            for index in self.dice.sample(others, min(2, len(others))):
                if self.can_run(index):
                    self.look(index)
            self.check_events()
        for index in range(len(self.conns)):
            if self.can_run(index):
                self.look(index)
        for index, mine in enumerate(self.model):
            if mine.in_transaction:
                self.do_commit(index, mine)

    def step(self, step: Step) -> bool:
        """Do it if it has a meaning now; whether it had."""
        mine = self.model[step.session]
        if mine.is_failed and step.action not in ("rollback", "rollback to", "commit", "close"):
            return False
        if step.action in ("set", "set local", "clear"):
            return self.change(step, mine)
        action: Callable[[int, Mine], bool] = getattr(self, "do_" + step.action.replace(" ", "_"))
        return action(step.session, mine)

    def begin_as_driver(self, mine: Mine) -> None:
        """A statement that is not under autocommit begins a transaction."""
        if not mine.is_autocommit and not mine.in_transaction:
            mine.mark()

    def change(self, step: Step, mine: Mine) -> bool:
        kind, conn = self.engine.kinds[step.kind], self.conns[step.session]
        has = step.kind in mine.values
        if not self.engine.is_allowed(kind, mine):
            return False
        mine.touched.add(step.kind)
        if kind.outside and (mine.in_transaction or not mine.is_autocommit):
            return False
        if step.action == "set local":
            if kind.local is None or not mine.in_transaction:
                return False
            new = kind.value(step.session, step.number)
            kind.local.run(conn, new)
            mine.local[step.kind] = new
        elif step.action == "set":
            if kind.once and has:
                return False
            self.begin_as_driver(mine)
            new = kind.value(step.session, step.number)
            kind.ways[step.way % len(kind.ways)].run(conn, new)
            mine.values[step.kind] = new
            mine.local.pop(step.kind, None)
        else:
            if kind.once and not has:
                return False
            self.begin_as_driver(mine)
            rows(conn, self.engine.clearing(kind, mine).format(v=mine.values.get(step.kind)))
            mine.values.pop(step.kind, None)
            mine.local.pop(step.kind, None)
        return True

    def do_begin(self, index: int, mine: Mine) -> bool:
        if mine.in_transaction:
            return False
        rows(self.conns[index], "begin")
        mine.mark()
        return True

    def do_commit(self, index: int, mine: Mine) -> bool:
        if not mine.in_transaction:
            return False
        self.end_transaction(index, mine, is_commit=True)
        if mine.is_failed:
            mine.back_to(0, self.engine.kinds)
        else:
            self.committed[index] += len(mine.written)
        mine.end()
        return True

    def do_rollback(self, index: int, mine: Mine) -> bool:
        if not mine.in_transaction:
            return False
        self.end_transaction(index, mine, is_commit=False)
        mine.back_to(0, self.engine.kinds)
        mine.end()
        return True

    def end_transaction(self, index: int, mine: Mine, *, is_commit: bool) -> None:
        conn = self.conns[index]
        if mine.is_autocommit:
            rows(conn, "commit" if is_commit else "rollback")
        elif is_commit:
            conn.commit()
        else:
            conn.rollback()

    def do_savepoint(self, index: int, mine: Mine) -> bool:
        if not mine.in_transaction:
            return False
        rows(self.conns[index], f"savepoint s{len(mine.marks)}")
        mine.mark()
        return True

    def do_rollback_to(self, index: int, mine: Mine) -> bool:
        if len(mine.marks) < 2:
            return False
        at = self.dice.randrange(1, len(mine.marks))
        rows(self.conns[index], f"rollback to savepoint s{at}")
        mine.back_to(at, self.engine.kinds)
        return True

    def do_release(self, index: int, mine: Mine) -> bool:
        if len(mine.marks) < 2:
            return False
        at = self.dice.randrange(1, len(mine.marks))
        rows(self.conns[index], f"release savepoint s{at}")
        del mine.marks[at:], mine.written_at[at:]
        return True

    def do_block(self, index: int, mine: Mine) -> bool:
        """A block of psycopg's with a setting and a row in it, left well or by an exception."""
        was_open, is_undone = mine.in_transaction, self.dice.random() < 0.5
        mine.mark()
        with suppress(ZeroDivisionError), self.conns[index].transaction():
            self.set_some(index, mine)
            self.do_write(index, mine)
            if is_undone:
                raise ZeroDivisionError
        if is_undone:
            mine.back_to(len(mine.marks) - 1, self.engine.kinds)
        mine.marks.pop()
        mine.written_at.pop()
        if not was_open:
            self.committed[index] += len(mine.written)
            mine.end()
        return True

    def do_pipeline(self, index: int, mine: Mine) -> bool:
        """Settings and a row in a pipeline of psycopg's."""
        self.begin_as_driver(mine)
        with self.conns[index].pipeline():
            self.set_some(index, mine)
            self.do_write(index, mine)
            self.set_some(index, mine)
        return True

    def set_some(self, index: int, mine: Mine) -> None:
        """Set something that does not pin."""
        kind = self.engine.kinds[self.dice.choice(("work_mem", "app.tenant", "search_path", "timezone", "role"))]
        new = kind.value(index, self.dice.randrange(1000, 9000))
        self.dice.choice(kind.ways).run(self.conns[index], new)
        mine.values[kind.name] = new
        mine.local.pop(kind.name, None)

    def do_write(self, index: int, mine: Mine) -> bool:
        self.begin_as_driver(mine)
        rows(self.conns[index], "insert into written values (%s)", (index,))
        if mine.in_transaction:
            mine.written.append(index)
        else:
            self.committed[index] += 1
        return True

    def do_fail(self, index: int, mine: Mine) -> bool:
        self.begin_as_driver(mine)
        try:
            self.engine.fail(self.conns[index])
        except DRIVER_ERRORS:
            mine.is_failed = mine.in_transaction and self.engine.world.engine == "postgresql"
            return True
        raise AssertionError("the statement did not fail")

    def do_reset(self, index: int, mine: Mine) -> bool:
        self.begin_as_driver(mine)
        self.engine.reset(self.conns[index])
        mine.values = {name: v for name, v in mine.values.items() if self.engine.kinds[name].survives_reset}
        mine.local = {name: v for name, v in mine.local.items() if self.engine.kinds[name].survives_reset}
        return True

    def do_discard(self, index: int, mine: Mine) -> bool:
        if mine.in_transaction or not mine.is_autocommit:
            return False
        self.engine.discard(self.conns[index])
        mine.values = {}
        return True

    def do_close(self, index: int, mine: Mine) -> bool:
        """Leave, in the middle of whatever it was, and be followed by a new session."""
        self.conns[index].close()
        self.last.pop(index, None)
        self.model[index] = self.fresh(index)
        self.conns[index] = self.connect(index)
        return True

    # -- looking

    def look(self, index: int) -> None:
        """The session sees what it has, and nothing else."""
        mine, conn = self.model[index], self.conns[index]
        if mine.is_failed:
            return
        seen, expected = self.engine.look(conn), self.engine.expected(mine)
        wrong = {name: (seen[name], expected[name]) for name in expected if seen[name] != expected[name]}
        assert not wrong, f"session {index} sees (what it should see): {wrong}"
        if not mine.is_autocommit and not mine.in_transaction:
            conn.rollback()
        self.counts["looks"] += 1
        self.check_pin(index)


class Private(Run):
    """The same on private connections."""

    def open(self, is_audited: bool) -> None:
        pass

    def connect(self, index: int) -> Any:
        return self.engine.world.private(autocommit=self.model[index].is_autocommit, **self.keywords)

    def can_run(self, index: int) -> bool:
        return True

    def check_pin(self, index: int) -> None:
        pass

    def finish(self) -> None:
        for conn in self.conns:
            conn.close()
        self.engine.world.admin("delete from written")


def check(kind: type[Run], engine: Engine, seed: int, steps: list[Step], sessions: int, limit: int) -> Counter[str]:
    """Run a program; what happened, counted."""
    run = kind(engine, seed, sessions, limit)
    try:
        run.run(steps)
        run.finish()
    except BaseException:
        engine.world.events.clear()
        for conn in run.conns:
            with suppress(*DRIVER_ERRORS):
                conn.close()
        if kind is Run:
            run.proxy.close()
        engine.world.admin("delete from written")
        raise
    finally:
        engine.world.opened.clear()
        engine.world.proxies.clear()
    return run.counts


def _outline(error: BaseException) -> str:
    """The error without what differs from run to run."""
    return type(error).__name__ + re.sub(r"\d+", "", str(error))[:60]


def smallest(
    run: Callable[[list[Step]], object], steps: list[Step], error: BaseException, tries: int = 100
) -> list[Step]:
    """As few of the steps as still fail with such an error."""

    def fails(fewer: list[Step]) -> bool:
        try:
            run(fewer)
        except Exception as other:
            return _outline(other) == _outline(error)
        return False

    size = len(steps) // 2
    while size and tries > 0:
        for start in range(0, len(steps), size):
            fewer = steps[:start] + steps[start + size :]
            tries -= 1
            if fails(fewer):
                steps = fewer
                break
        else:
            size //= 2
    return steps


def programs(seed: int) -> Iterator[tuple[int, int, int]]:
    """The seeds of programs without end, with the number of their sessions and of their backends."""
    while True:
        yield seed, 3 + seed % 4, 1 + seed // 4 % 3
        seed += 1
