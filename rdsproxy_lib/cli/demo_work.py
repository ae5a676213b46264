"""What the demo does and how it watches: the same work on any kind of connection, and a look at the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .demo_server import DemoServer

COUNTERS = 64
SAMPLE_SECONDS = 0.02
TICK_SECONDS = 0.1
FAREWELL_SECONDS = 1.0
"""How long the server may still show a connection that was closed."""

TABLES = (
    "drop table if exists counters, ledger",
    "create table counters (id int primary key, value bigint not null default 0)",
    "create table ledger (session int not null, amount int not null)",
)


@dataclass(eq=False, slots=True)
class Session:
    """One client connection with its part of the work."""

    number: int
    connection: Any
    done: int = 0
    backends: set[int] = field(default_factory=set)
    """Numbers of the database connections that ran its transactions, as the server says."""


class Work:
    """`sessions` connections, used from `threads` threads, with `transactions` short transactions each.

    A transaction adds an amount to a counter, writes it into a ledger, and commits. A session is in the hands of one
    thread at a time and goes to the end of the line after each transaction, so that all are in use all the time.
    """

    STATEMENTS = 2
    """Per transaction, without BEGIN and COMMIT."""

    def __init__(
        self, connect: Callable[[], Any], connection_id: str, *, sessions: int, threads: int, transactions: int
    ) -> None:
        """`connection_id` is SQL, for the number of the database connection that runs it."""
        self.sessions: list[Session] = []
        self.errors: list[Exception] = []
        self.seconds = 0.0
        """From before the first connect to after the last commit."""
        self.total = sessions * transactions
        self._connect = connect
        self._ledger = f"insert into ledger values (%s, %s) returning {connection_id}"
        self._threads, self._transactions = threads, transactions
        self._numbers: SimpleQueue[int] = SimpleQueue()
        for number in range(sessions):
            self._numbers.put(number)
        self._line: SimpleQueue[Session] = SimpleQueue()
        self._stopped = threading.Event()

    @property
    def done(self) -> int:
        """Transactions committed so far."""
        return sum(session.done for session in self.sessions)

    def run(self, tick: Callable[[], None]) -> None:
        """Open the connections, do the work, and call `tick` ten times a second. The connections stay open."""
        started = time.monotonic()
        for task in (self._open, self._drain):
            self._all_together(task, tick)
        self.seconds = time.monotonic() - started
        tick()

    def _all_together(self, task: Callable[[], None], tick: Callable[[], None]) -> None:
        """Run it in all threads, to the end; to the end of what is under way where this is interrupted."""
        # Threads, no executor: an interrupt amid `concurrent.futures.wait` can leave the lock of a future taken.
        crew = [threading.Thread(target=task, name=f"rdsproxy-demo-{number}") for number in range(self._threads)]
        try:
            for each in crew:
                each.start()
            for each in crew:
                each.join(TICK_SECONDS)
                while each.is_alive():
                    tick()
                    each.join(TICK_SECONDS)
        except BaseException:
            self._stopped.set()
            raise
        finally:
            for each in crew:
                if each.ident is not None:
                    each.join()

    def close(self) -> None:
        """Close the connections."""
        for session in self.sessions:
            session.connection.close()

    def _open(self) -> None:
        while not self._stopped.is_set():
            try:
                number = self._numbers.get_nowait()
            except Empty:
                return
            try:
                session = Session(number, self._connect())
            except Exception as error:
                self.errors.append(error)
            else:
                self.sessions.append(session)
                self._line.put(session)

    def _drain(self) -> None:
        while not self._stopped.is_set():
            try:
                session = self._line.get_nowait()
            except Empty:
                return
            try:
                self._run_one(session)
            except Exception as error:
                self.errors.append(error)
                return
            if session.done < self._transactions:
                self._line.put(session)

    def _run_one(self, session: Session) -> None:
        amount = session.done + 1
        counter = (session.number + session.done) % COUNTERS
        with session.connection.cursor() as cursor:
            cursor.execute("update counters set value = value + %s where id = %s", (amount, counter))
            cursor.execute(self._ledger, (session.number, amount))
            (backend,) = cursor.fetchone()
        session.connection.commit()
        session.backends.add(backend)
        session.done = amount


def create_tables(admin: Any) -> None:
    """Make the tables anew, each counter at zero."""
    with admin.cursor() as cursor:
        for text in TABLES:
            cursor.execute(text)
        cursor.executemany("insert into counters (id) values (%s)", [(number,) for number in range(COUNTERS)])


def is_exact(admin: Any, *, sessions: int, transactions: int) -> bool:
    """Whether counters and ledger hold every transaction of every session exactly once."""
    expected = sessions * transactions * (transactions + 1) // 2
    with admin.cursor() as cursor:
        cursor.execute(
            """
            select (select sum(value) from counters) = %(sum)s, (select sum(amount) from ledger) = %(sum)s,
                   (select count(*) from ledger) = %(rows)s,
                   (select count(*) from (select distinct session, amount from ledger) as entries) = %(rows)s
            """,
            {"sum": expected, "rows": sessions * transactions},
        )
        return all(cursor.fetchone())


@dataclass(frozen=True, slots=True)
class Sample:
    """The database connections of one user at one moment, in monotonic seconds."""

    at: float
    backends: frozenset[int]


def most(samples: Iterable[Sample]) -> int:
    """The most database connections that one sample shows."""
    return max(len(sample.backends) for sample in samples)


def most_living(samples: Iterable[Sample]) -> int:
    """The same, without those that were gone FAREWELL_SECONDS later: their connection was closed already."""
    samples = tuple(samples)
    last_seen: Mapping[int, float] = {pid: sample.at for sample in samples for pid in sample.backends}
    end = samples[-1].at
    return max(
        sum(1 for pid in sample.backends if last_seen[pid] == end or last_seen[pid] >= sample.at + FAREWELL_SECONDS)
        for sample in samples
    )


class Sampler:
    """Asks the server fifty times a second who is connected: `with Sampler(server, user) as sampler:`.

    Only connections of `user` count; the sampler itself logs in as somebody else. An error of its thread is raised
    at the end of the block.
    """

    def __init__(self, server: DemoServer, user: str) -> None:
        self.samples: list[Sample] = []
        self._server = server
        self._user = user
        self._lock = threading.Lock()
        self._finish = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rdsproxy-demo-sampler")

    def __enter__(self) -> Sampler:
        self._connection = self._server.connect(self._server.ADMIN, autocommit=True)
        self.take()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._finish.set()
        self._thread.join()
        self._connection.close()
        if self._error is not None and kind is None:
            raise self._error

    def take(self) -> None:
        """Look once."""
        with self._lock, self._connection.cursor() as cursor:
            cursor.execute(self._server.CONNECTIONS, (self._user,))
            self.samples.append(Sample(time.monotonic(), frozenset(number for (number,) in cursor)))

    def _run(self) -> None:
        try:
            while not self._finish.wait(SAMPLE_SECONDS):
                self.take()
            self.take()
        except Exception as error:
            self._error = error
