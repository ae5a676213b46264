"""What a statement costs through the library, against the driver alone: `python -m tests.bench [--check] [--engine E]`.

How it measures, and why:

* Client and server run on one CPU. Unbound, the same pair takes 18 or 100 µs per statement, depending on the core
  on which the server process wakes. On one CPU a round trip is as short as it gets, so the ratios are near the worst.
* Both sides run in turns, 101 rounds of 400 operations each, and take turns at going first. What counts is the
  median of the rounds' ratios: a disturbance hits one round, or both sides of it.
* A measurement is repeated where the rounds disagree, since something else used the machine then, whether its
  result is good or bad; the steadiest one counts. It is never repeated, nor chosen, for its result: that would let a
  bound pass which really fails.
* Garbage collection is off while the clock runs. CPU is the time of this process alone, without the server's.

Exit status 1 where a bound fails. `--check` measures only what has a bound.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import statistics
import sys
import time
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import psycopg
import pymysql

from rdsproxy_lib import Proxy
from tests.mysql_servers import MySQLServer
from tests.servers import PostgresServer, ServerMissing

ROUNDS, OPERATIONS = 101, 400
STEADY, TRIES = 0.1, 5
"""How far apart the quartiles of the ratios may be, relative to the median, and how often to try for that."""
PATIENCE = 15.0
"""Seconds after which a case is not tried again."""
IDLE_SESSIONS = 2_000
IDLE_SESSION_BYTES = 5_000
"""The most that one of them may take."""

Operation = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """The same operation on a private connection and on ours; `bound` is the largest ratio allowed."""

    name: str
    raw: Operation
    ours: Operation
    bound: float | None = None
    operations: int = OPERATIONS


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds per operation, and the ratios of ours to raw: median, and the middle half of the rounds."""

    raw: float
    ours: float
    ratio: float
    low: float
    high: float
    cpu_ratio: float

    @property
    def spread(self) -> float:
        """How far apart the quartiles are, relative to the median."""
        return (self.high - self.low) / self.ratio


def measure(case: Case) -> Result:
    """The first steady measurement, or else the steadiest one."""
    results = [_measure(case)]
    until = time.monotonic() + PATIENCE
    while len(results) < TRIES and results[-1].spread > STEADY and time.monotonic() < until:
        results.append(_measure(case))
    return min(results, key=lambda result: result.spread)


def _measure(case: Case) -> Result:
    """Run both sides in turns and compare round by round."""
    for operation in (case.raw, case.ours):
        _timed(operation, case.operations)  # warm: statements prepared, caches filled
    walls: list[tuple[float, float]] = []
    cpus: list[tuple[float, float]] = []
    gc.collect()
    gc.disable()
    try:
        for number in range(ROUNDS):
            if number % 2:
                ours, raw = _timed(case.ours, case.operations), _timed(case.raw, case.operations)
            else:
                raw, ours = _timed(case.raw, case.operations), _timed(case.ours, case.operations)
            walls.append((raw[0], ours[0]))
            cpus.append((raw[1], ours[1]))
    finally:
        gc.enable()
    ratios = [ours / raw for raw, ours in walls]
    low, median, high = statistics.quantiles(ratios, n=4)
    return Result(
        raw=statistics.median(raw for raw, _ in walls),
        ours=statistics.median(ours for _, ours in walls),
        ratio=median,
        low=low,
        high=high,
        cpu_ratio=statistics.median(ours / raw for raw, ours in cpus),
    )


def _timed(operation: Operation, times: int) -> tuple[float, float]:
    """Wall and CPU seconds per operation."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(times):
        operation()
    return (time.perf_counter() - wall) / times, (time.process_time() - cpu) / times


# -- the engines


class Engine(ABC):
    """A server with its driver: what the cases need of it."""

    new_cursor_bound: float
    driver: str
    profiles: tuple[str, str, str]
    """What three kinds of sessions set first, each its own."""

    def __init__(self, server: Any) -> None:
        self.server = server

    @abstractmethod
    def connect(self, **keywords: Any) -> Any:
        """A private connection of the driver's."""

    @abstractmethod
    def pid(self) -> int:
        """The server's process."""

    def proxy(self, **options: Any) -> Proxy:
        """A Proxy with the options as they come, unless given."""
        return Proxy(self.server.url(), **options)

    @contextmanager
    def pair(self, **keywords: Any) -> Iterator[tuple[Any, Any]]:
        """A private connection, and one of ours from a Proxy of its own.

        Closed before the next case: an open transaction makes the updates of others slow.
        """
        with (
            closing(self.connect(**keywords)) as raw,
            self.proxy() as proxy,
            closing(proxy.connect(**keywords)) as ours,
        ):
            yield raw, ours

    def more_cases(self) -> Iterator[Case]:
        """What is worth knowing of this one alone."""
        return iter(())


class Postgres(Engine):
    """PostgreSQL through psycopg."""

    new_cursor_bound = 1.5
    driver = f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__})"
    profiles = (
        "set search_path to pg_catalog",
        "set timezone to 'Asia/Tokyo'",
        "select set_config('app.tenant', '1', false), set_config('statement_timeout', '1min', false)",
    )

    def connect(self, **keywords: Any) -> Any:
        return psycopg.connect(self.server.dsn(), **keywords)

    def pid(self) -> int:
        with self.server.admin() as admin:
            ((text,),) = admin.execute("select pg_read_file('postmaster.pid')")
        return int(text.split()[0])

    def more_cases(self) -> Iterator[Case]:
        if find_spec("psycopg_pool") is None:
            return
        pool_class = import_module("psycopg_pool").ConnectionPool
        with (
            pool_class(self.server.dsn(), min_size=1, max_size=1, kwargs={"autocommit": True}) as pool,
            self.pair(autocommit=True) as (_, ours),
        ):
            pool.wait()

            def checked_out() -> None:
                with pool.connection() as conn:
                    conn.execute("select 1")

            yield Case("psycopg_pool: check out, select 1", checked_out, lambda: ours.execute("select 1"))


class MySQL(Engine):
    """MySQL or MariaDB through PyMySQL."""

    new_cursor_bound = 1.35
    driver = f"PyMySQL {pymysql.VERSION_STRING}"
    profiles = (
        "set sql_mode = 'ANSI_QUOTES'",
        "set time_zone = '+09:00'",
        "set @tenant = 1, net_read_timeout = 60",
    )

    def connect(self, **keywords: Any) -> Any:
        return pymysql.connect(**self.server.parameters(), **keywords)

    def pid(self) -> int:
        return int(self.server.pid)


ENGINES: dict[str, tuple[str, Callable[[], Any], type[Engine]]] = {
    "postgresql": ("PostgreSQL 18", lambda: PostgresServer("18"), Postgres),
    "mariadb": ("MariaDB 10.11", lambda: MySQLServer("mariadb-10.11"), MySQL),
    "mysql": ("MySQL 9.7", lambda: MySQLServer("mysql-9.7"), MySQL),
}


# -- the cases


def bounded_cases(engine: Engine) -> Iterator[Case]:
    """What the library has to hold: `select 1`, warm, one thread; a session, then three kinds of them over one pool."""
    with engine.pair(autocommit=True) as (raw, ours):
        yield _reused("autocommit, reused cursor", raw, ours, "select 1", bound=1.35)
        yield Case(
            "autocommit, new cursor",
            lambda: raw.cursor().execute("select 1"),
            lambda: ours.cursor().execute("select 1"),
            bound=engine.new_cursor_bound,
        )
    with engine.pair() as (raw, ours):
        for conn in (raw, ours):
            conn.cursor().execute("begin")
        yield _reused("in a transaction, reused cursor", raw, ours, "select 1", bound=1.15)
    with engine.proxy(max_connections=3) as proxy, ExitStack() as stack:
        raws, sessions = [], []
        for text in engine.profiles:
            raws.append(stack.enter_context(closing(engine.connect(autocommit=True))))
            sessions.append(stack.enter_context(closing(proxy.connect(autocommit=True))))
            for conn in (raws[-1], sessions[-1]):
                conn.cursor().execute(text)
        yield Case("autocommit, three profiles in turn", _in_turn(raws), _in_turn(sessions), bound=1.6)
        relabels = proxy.stats().relabels
        assert relabels < 10, f"the sessions do not find their own settings: {relabels} relabels"


def other_cases(engine: Engine) -> Iterator[Case]:
    """What is worth knowing and has no bound."""
    with engine.pair(autocommit=True) as (raw, ours):
        for text in (
            "create table bench (id int)",
            "create table words (id int primary key, word varchar(20) not null)",
            "insert into words values (1, 'one'), (2, 'two')",
        ):
            ours.cursor().execute(text)
        yield _reused("autocommit, one row by its key", raw, ours, "select id, word from words where id = %s", (1,))
        yield _reused(
            "autocommit, update of one row", raw, ours, "update words set word = %s where id = %s", ("one", 1)
        )
        with engine.proxy() as proxy:
            rotating = _rotating(proxy)
            yield Case("autocommit, over 3 backends in turn", lambda: raw.cursor().execute("select 1"), rotating)

    def transaction(conn: Any) -> Operation:
        def run() -> None:
            conn.cursor().execute("insert into bench values (%s)", (1,))
            conn.commit()

        return run

    with engine.pair() as pair:
        yield Case("transaction: begin, insert, commit", *map(transaction, pair))
    with engine.proxy() as proxy:
        yield Case(
            "connect, select 1, close",
            lambda: _select_and_close(engine.connect()),
            lambda: _select_and_close(proxy.connect()),
            operations=5,
        )
    yield from engine.more_cases()


def _reused(name: str, raw: Any, ours: Any, text: str, parameters: Any = None, bound: float | None = None) -> Case:
    """The same text again and again on one cursor of each side."""
    raw_cursor, our_cursor = raw.cursor(), ours.cursor()
    return Case(
        name,
        lambda: raw_cursor.execute(text, parameters),
        lambda: our_cursor.execute(text, parameters),
        bound=bound,
    )


def _in_turn(conns: list[Any]) -> Operation:
    """A `select 1` on a connection after the other, each with a cursor of its own."""
    cursors = itertools.cycle([conn.cursor() for conn in conns])
    return lambda: next(cursors).execute("select 1")


def _rotating(proxy: Proxy) -> Operation:
    """A `select 1` that finds another backend than the last one did: three sessions' turns, of which one is timed.

    An idle backend is lent last in, first out; taking the longest idle one to its end makes every session move.
    """
    sessions = [proxy.connect(autocommit=True) for _ in range(3)]
    for text in ("begin", "commit"):  # all three backends open
        for session in sessions:
            session.cursor().execute(text)
    session, idle = sessions[0], proxy.pool._idle

    def run() -> None:
        idle.append(idle.pop(0))
        session.cursor().execute("select 1")

    run()
    seen = set()
    for _ in range(6):
        run()
        seen.add(session.rdsproxy.backend_id)
    assert len(seen) == 3, "the session does not move between backends"
    return run


def _select_and_close(conn: Any) -> None:
    conn.cursor().execute("select 1")
    conn.close()


def memory_per_idle_session(engine: Engine) -> float:
    """Bytes of Python memory for a session that ran one statement and holds no cursor."""
    with engine.proxy(max_connections=1) as proxy:
        with closing(proxy.connect(autocommit=True)) as first:
            first.cursor().execute("select 1")
        sessions = []
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(IDLE_SESSIONS):
                session = proxy.connect(autocommit=True)
                session.cursor().execute("select 1")
                sessions.append(session)
            del session
            gc.collect()
            used = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        for each in sessions:
            each.close()
    return used / IDLE_SESSIONS


# -- the command


@contextmanager
def on_one_cpu() -> Iterator[int]:
    """Bind this process, and what it starts meanwhile, to one CPU; ahead of others there, where that is allowed."""
    allowed = os.sched_getaffinity(0)
    cpu = max(allowed)
    os.sched_setaffinity(0, {cpu})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)


LINE = "{:<36} {:>8} {:>8} {:>7} {:>7} {:>13} {:>7} {:>7}"


def report(case: Case) -> bool:
    """Measure one case and print its line; whether its bound holds."""
    result = measure(case)
    holds = case.bound is None or result.ratio <= case.bound
    print(
        LINE.format(
            case.name,
            f"{result.raw * 1e6:.1f}",
            f"{result.ours * 1e6:.1f}",
            f"{(result.ours - result.raw) * 1e6:+.1f}",
            f"{result.ratio:.2f}",
            f"{result.low:.2f} - {result.high:.2f}",
            f"{result.cpu_ratio:.2f}",
            "" if case.bound is None else f"{case.bound:.2f}",
        ),
        "" if holds else "FAILED",
        flush=True,
    )
    return holds


def check_server(pid: int, cpu: int) -> None:
    """See that all threads of the server are bound to the CPU: they inherit it from who started the server."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(ProcessLookupError):  # it ended just now
            assert os.sched_getaffinity(int(thread)) == {cpu}, f"thread {thread} of the server may run elsewhere"


def run(name: str, cpu: int, *, check_only: bool) -> bool:
    """All cases on one server; whether every bound holds."""
    title, start, kind = ENGINES[name]
    with start() as server:
        engine = kind(server)
        print(f"\n{title}, {engine.driver}\n")
        print(LINE.format("", "raw µs", "ours µs", "more", "ratio", "middle half", "CPU", "bound"))
        all_hold = True
        for case in bounded_cases(engine):
            check_server(engine.pid(), cpu)
            all_hold &= report(case)
        if not check_only:
            for case in other_cases(engine):
                report(case)
        memory = memory_per_idle_session(engine)
        holds = memory <= IDLE_SESSION_BYTES
        verdict = "" if holds else "FAILED"
        print(f"\nmemory per idle session: {memory:,.0f} bytes of Python's, at most {IDLE_SESSION_BYTES:,} {verdict}")
    return all_hold and holds


def main() -> int:
    """Measure, print the tables, return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only what has a bound")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this one (may be given again)")
    arguments = parser.parse_args()
    with on_one_cpu() as cpu:
        print(f"Python {sys.version.split()[0]}, client and server on CPU {cpu}")
        print(f"medians of {ROUNDS} rounds of {OPERATIONS} operations")
        all_hold = True
        for name in arguments.engine or ENGINES:
            try:
                all_hold &= run(name, cpu, check_only=arguments.check)
            except ServerMissing as error:
                print(f"\n{name} is absent: {error}")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
