"""What clients were told about their work, compared with what the surviving database has.

Each writes rows with numbers of their own, in and outside of transactions, and notes the answer. Afterwards:
acknowledged and missing is *lost*, reported as not done and present is *wrong*, twice is *doubled*. A result of many
rows is the whole of it, or an error.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pymysql

import rdsproxy_lib
from tests.cluster.nodes import until

TABLE = "create table history (number bigint not null)"
KNOWN = 1_000
"""Rows in the table that is only read: each a number from 1 on, and fifty letters."""
KNOWN_TABLES = (
    "create table known (number int not null, filling char(50) not null)",
    "insert into known with recursive counted (number) as (select 1 union all select number + 1 from counted where"
    f" number < {KNOWN}) select number, repeat('x', 50) from counted",
)
HANG_SECONDS = 60.0


def run(conn: Any, text: str, parameters: Any = None) -> list[Any]:
    """Rows, on either engine."""
    with conn.cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


@dataclass(frozen=True)
class Outcome:
    """One history in numbers."""

    acknowledged: int
    unknown: int
    undone: int
    cut: int
    """Reads, and pinned sessions, that got an error."""
    lost: int
    doubled: int
    wrong: int
    """Reported as not done, and there; or there, and nobody was told."""
    errors: int
    """Of work that has to go on without one."""
    gap: float
    """The longest time between two writes that were acknowledged, in seconds."""
    wait: float
    """The longest time that one piece of work of one client took."""


@dataclass
class History:
    """What was told, by number. Lists and counters are only added to, each under its own interpreter instruction."""

    acknowledged: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    """When each was."""
    unknown: list[int] = field(default_factory=list)
    undone: list[int] = field(default_factory=list)
    """Reported as not having happened."""
    cuts: list[str] = field(default_factory=list)
    """Work that ended in an error without having written anything, or with the end of a pinned session, by its kind."""
    cut_alone: list[str] = field(default_factory=list)
    """Work outside of transactions that got an error, or whose outcome is unknown, by its kind."""
    commits: list[int] = field(default_factory=list)
    """Transactions of which the COMMIT was cut, by their first number."""
    errors: list[tuple[str, BaseException]] = field(default_factory=list)
    """Of work that has to go on without one, by its kind."""
    waits: list[tuple[float, str]] = field(default_factory=list)
    """The longest time that each client needed for one piece of work, by its kind."""

    @property
    def cut(self) -> int:
        """How many."""
        return len(self.cuts)

    def acknowledge(self, *numbers: int) -> None:
        """They are there, the server said."""
        self.at.append(time.monotonic())
        self.acknowledged += numbers

    def outcome(self, present: Iterable[int]) -> Outcome:
        """Compare it with the numbers that are in the table."""
        counts = Counter(present)
        told = {*self.acknowledged, *self.unknown, *self.undone}
        at = sorted(self.at)
        return Outcome(
            acknowledged=len(self.acknowledged),
            unknown=len(self.unknown),
            undone=len(self.undone),
            cut=self.cut,
            lost=sum(number not in counts for number in self.acknowledged),
            doubled=sum(count > 1 for count in counts.values()),
            wrong=sum(number in counts for number in self.undone) + len(counts.keys() - told),
            errors=len(self.errors),
            gap=max((later - earlier for earlier, later in itertools.pairwise(at)), default=0.0),
            wait=max(self.waits, default=(0.0, ""))[0],
        )

    def check(self, present: Iterable[int]) -> None:
        """Nothing is lost, doubled or wrongly reported."""
        outcome = self.outcome(present)
        assert (outcome.lost, outcome.doubled, outcome.wrong) == (0, 0, 0), outcome


class Clients:
    """Threads that work until they are told to stop: `with Clients(proxy) as clients:`. Eight make one of each kind.

    And four sessions that are parked, of which two are woken by `wake()`, in a thread each. `takes_readers`: those
    that only read have their connections from the readers' endpoint.
    """

    def __init__(
        self, proxy: rdsproxy_lib.Proxy, threads: int = 16, seed: int = 1, takes_readers: bool = False
    ) -> None:
        self.history = History()
        self._proxy = proxy
        self._takes_readers = takes_readers
        self._is_mysql = proxy.engine.name == "mysql"
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._awake = threading.Event()
        self._committing = threading.Event()
        kinds: tuple[Callable[[Any, random.Random], Any], ...] = (
            self._write, self._transact, self._read, self._use_pinned, self._read_all, self._stream, self._write,
            self._transact,
        )  # fmt: skip
        works = [kinds[at % len(kinds)] for at in range(threads)]
        self._turns = [0] * threads
        self._threads = [
            threading.Thread(target=self._work, args=(at, work, random.Random(f"{seed}/{at}")), name=f"client-{at}")
            for at, work in enumerate(works)
        ]
        self._threads += [
            threading.Thread(target=self._sleep, args=(number,), name=f"woken-{number}") for number in range(2)
        ]

    def __enter__(self) -> Clients:
        self.parked = [self._proxy.connect(autocommit=number % 2 == 0) for number in range(4)]
        for text in KNOWN_TABLES:
            run(self.parked[0], text)
        for number, conn in enumerate(self.parked):
            run(conn, self._setting(number))
            conn.commit()
        if self._takes_readers:
            self._wait_for_readers()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._awake.set()
        deadline = time.monotonic() + HANG_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hung = [thread.name for thread in self._threads if thread.is_alive()]
        assert not hung, f"these hang: {hung}"

    def _wait_for_readers(self) -> None:
        there = "select count(*) from information_schema.tables where table_name = 'known'"
        rows = "select count(*) from known"
        for target in self._proxy.targets():
            if target.role == "READ_ONLY":
                endpoint = self._proxy.endpoint("READ_ONLY", hosts=[target.host])
                with endpoint.connect(autocommit=True) as conn:
                    until(lambda conn=conn: run(conn, there) == [(1,)], "the table is there")
                    until(lambda conn=conn: run(conn, rows) == [(KNOWN,)], "its rows are there")

    def count(self) -> int:
        """How many writes were acknowledged so far."""
        return len(self.history.acknowledged)

    def turns(self) -> list[int]:
        """How often each thread has done its work, or was told why not."""
        return self._turns.copy()

    def have_gone_on_since(self, turns: list[int]) -> bool:
        """Whether each thread has been through something that it began after it had had that many turns."""
        return all(now >= then + 2 for now, then in zip(self._turns, turns, strict=True))

    def wait_for_a_commit(self) -> None:
        """Until one of them is about to be sent."""
        self._committing.clear()
        self._committing.wait(0.1)

    def wake(self) -> None:
        """Two of the parked sessions write, now, and have to be told that it is done."""
        self._awake.set()

    def check_parked(self) -> None:
        """Sessions that were parked go on without an error, with their settings."""
        for number, conn in enumerate(self.parked):
            question = "select @@time_zone" if self._is_mysql else "show timezone"
            ((value,),) = run(conn, question)
            assert value == self._setting(number).split("'")[1]
            conn.commit()
            conn.close()

    def _setting(self, number: int) -> str:
        if self._is_mysql:
            return f"set time_zone = '+0{number}:00'"
        return f"set timezone to 'Etc/GMT+{number}'"

    # -- the kinds of work

    def _work(self, at: int, work: Callable[[Any, random.Random], Any], dice: random.Random) -> None:
        only_reads = work in (self._read, self._read_all, self._stream)
        way = self._proxy.endpoint("READ_ONLY") if self._takes_readers and only_reads else self._proxy
        conn = way.connect(autocommit=work != self._transact)
        longest = 0.0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                conn = work(conn, dice) or conn
            except Exception as error:
                self.history.errors.append((work.__name__, error))
                conn = way.connect(autocommit=work != self._transact)
            longest = max(longest, time.monotonic() - started)
            self._turns[at] += 1
            time.sleep(dice.random() * 0.01)
        self.history.waits.append((longest, work.__name__))
        conn.close()

    def _sleep(self, number: int) -> None:
        self._awake.wait()
        if not self._stop.is_set():
            self._insert(self.parked[number], "woken")

    def _insert(self, conn: Any, kind: str) -> None:
        number = next(self._numbers)
        try:
            run(conn, "insert into history values (%s)", (number,))
            conn.commit()
        except rdsproxy_lib.OutcomeUnknown as error:
            self.history.unknown.append(number)
            self.history.cut_alone.append(kind)
            if kind == "woken":
                self.history.errors.append((kind, error))
        except Exception as error:
            self.history.undone.append(number)
            self.history.errors.append((kind, error))
        else:
            self.history.acknowledge(number)

    def _write(self, conn: Any, dice: random.Random) -> None:
        self._insert(conn, "write")

    def _noting_a_cut(self, kind: str, rows: Callable[[], list[Any]]) -> list[Any] | None:
        """The rows; None where the connection was cut, which is told with the driver's own error."""
        try:
            return rows()
        except (psycopg.OperationalError, pymysql.err.OperationalError) as error:
            if isinstance(error, rdsproxy_lib.Error):
                self.history.errors.append((kind, error))
            self.history.cuts.append(kind)
            self.history.cut_alone.append(kind)
            return None

    def _read(self, conn: Any, dice: random.Random) -> None:
        self._noting_a_cut("read", lambda: run(conn, "select count(*) from history"))

    def _read_all(self, conn: Any, dice: random.Random) -> None:
        self._check_known(self._noting_a_cut("result", lambda: run(conn, "select number, filling from known")))

    def _stream(self, conn: Any, dice: random.Random) -> None:
        text = "select number, filling from known"

        def rows() -> Iterator[Any]:
            if not self._is_mysql:
                yield from conn.cursor().stream(text)
                return
            with conn.cursor(pymysql.cursors.SSCursor) as cursor:
                cursor.execute(text)
                yield from cursor

        self._check_known(self._noting_a_cut("stream", lambda: list(rows())))

    def _check_known(self, rows: list[Any] | None) -> None:
        if rows is not None and [number for number, _ in rows] != list(range(1, KNOWN + 1)):
            self.history.errors.append(("result", AssertionError(f"{len(rows)} rows of {KNOWN}")))

    def _use_pinned(self, conn: Any, dice: random.Random) -> Any:
        """A session with a lock of its own writes a few times; it may be lost, and then another one is opened."""
        name = next(self._numbers)
        lock = f"select get_lock('lock {name}', 1)" if self._is_mysql else f"select pg_advisory_lock({name})"
        number = None
        with closing(conn):
            try:
                run(conn, lock)
                assert conn.rdsproxy.pinned, "a lock pins"
                for _ in range(dice.randrange(1, 4)):
                    number = next(self._numbers)
                    run(conn, "insert into history values (%s)", (number,))
                    self.history.acknowledge(number)
                    number = None
                    time.sleep(0.005)
            except rdsproxy_lib.SessionLost:
                self.history.cuts.append("pinned")
                if number is not None:
                    self.history.unknown.append(number)
            except Exception as error:
                if number is not None:
                    self.history.undone.append(number)
                if number is None or not self._proxy.engine.says_read_only(error):  # it stays where its lock is
                    self.history.errors.append(("pinned", error))
        return self._proxy.connect(autocommit=True)

    def _transact(self, conn: Any, dice: random.Random) -> None:
        numbers = [next(self._numbers) for _ in range(dice.randrange(1, 4))]
        is_committing = False
        try:
            for number in numbers:
                run(conn, "insert into history values (%s)", (number,))
                if dice.random() < 0.3:
                    time.sleep(0.005)
            is_committing = True
            self._committing.set()
            conn.commit()
        except rdsproxy_lib.OutcomeUnknown as error:
            self.history.unknown += numbers
            self.history.commits.append(numbers[0])
            if not is_committing:
                self.history.errors.append(("transaction", error))
            self._roll_back(conn)
        except rdsproxy_lib.TransactionLost:
            self.history.undone += numbers
            self._roll_back(conn)
        except Exception as error:
            self.history.undone += numbers
            if not self._proxy.engine.says_read_only(error):  # which a transaction that was open has to be told
                self.history.errors.append(("transaction", error))
            self._roll_back(conn)
        else:
            self.history.acknowledge(*numbers)

    def _roll_back(self, conn: Any) -> None:
        try:
            conn.rollback()
        except Exception as error:
            self.history.errors.append(("rollback", error))
