"""What a statement costs through the library, against the driver alone: `python -m tests.bench [--check]`.

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
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import psycopg

from rdsproxy_lib import Proxy
from tests.servers import PostgresServer

ROUNDS, OPERATIONS = 101, 400
STEADY, TRIES = 0.1, 5
"""How far apart the quartiles of the ratios may be, relative to the median, and how often to try for that."""
IDLE_SESSIONS = 2_000

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
    results: list[Result] = []
    while len(results) < TRIES and not (results and results[-1].spread <= STEADY):
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


# -- the cases


def bounded_cases(server: PostgresServer, stack: ExitStack) -> Iterator[Case]:
    """Line 5 of what the library has to hold: `select 1`, warm, one thread."""
    raw, ours = _pair(server, stack, autocommit=True)
    raw_cursor, our_cursor = raw.cursor(), ours.cursor()
    yield Case(
        "autocommit, reused cursor",
        lambda: raw_cursor.execute("select 1"),
        lambda: our_cursor.execute("select 1"),
        bound=1.35,
    )
    yield Case(
        "autocommit, new cursor",
        lambda: raw.cursor().execute("select 1"),
        lambda: ours.cursor().execute("select 1"),
        bound=1.5,
    )
    raw_open, ours_open = _pair(server, stack)
    raw_open_cursor, our_open_cursor = raw_open.cursor(), ours_open.cursor()
    yield Case(
        "in a transaction, reused cursor",
        lambda: raw_open_cursor.execute("select 1"),
        lambda: our_open_cursor.execute("select 1"),
        bound=1.15,
    )


def other_cases(server: PostgresServer, stack: ExitStack) -> Iterator[Case]:
    """What is worth knowing and has no bound."""
    raw, ours = _pair(server, stack)
    ours.execute("create table bench (id int)")
    ours.commit()

    def transaction(conn: psycopg.Connection[Any]) -> Operation:
        def run() -> None:
            conn.execute("insert into bench values (%s)", (1,))
            conn.commit()

        return run

    yield Case("transaction: begin, insert, commit", transaction(raw), transaction(ours))

    autocommitting, _ = _pair(server, stack, autocommit=True)
    yield Case(
        "autocommit, over 3 backends in turn",
        lambda: autocommitting.execute("select 1"),
        _rotating(server, stack),
    )

    proxy = stack.enter_context(Proxy(server.url()))
    dsn = server.dsn()
    yield Case(
        "connect, select 1, close",
        lambda: _select_and_close(psycopg.connect(dsn)),
        lambda: _select_and_close(proxy.connect()),
        operations=5,
    )

    if find_spec("psycopg_pool") is not None:
        pool_class = import_module("psycopg_pool").ConnectionPool
        pool = stack.enter_context(pool_class(dsn, min_size=1, max_size=1, kwargs={"autocommit": True}))
        pool.wait()

        def checked_out() -> None:
            with pool.connection() as conn:
                conn.execute("select 1")

        multiplexed = _pair(server, stack, autocommit=True)[1]
        yield Case("psycopg_pool: check out, select 1", checked_out, lambda: multiplexed.execute("select 1"))


def _pair(server: PostgresServer, stack: ExitStack, **keywords: Any) -> tuple[psycopg.Connection[Any], ...]:
    """A private connection, and one of ours from a Proxy of its own with the options as they come."""
    raw = stack.enter_context(psycopg.connect(server.dsn(), **keywords))
    proxy = stack.enter_context(Proxy(server.url()))
    return raw, stack.enter_context(proxy.connect(**keywords))


def _rotating(server: PostgresServer, stack: ExitStack) -> Operation:
    """A `select 1` that finds another backend than the last one did: three sessions' turns, of which one is timed.

    An idle backend is lent last in, first out; taking the longest idle one to its end makes every session move.
    """
    proxy = stack.enter_context(Proxy(server.url()))
    sessions = [stack.enter_context(proxy.connect(autocommit=True)) for _ in range(3)]
    for session in sessions:  # all three backends open
        session.execute("begin")
    for session in sessions:
        session.execute("commit")
    session, idle = sessions[0], proxy.pool._idle

    def run() -> None:
        idle.append(idle.pop(0))
        session.execute("select 1")

    run()
    seen = set()
    for _ in range(6):
        run()
        seen.add(session.rdsproxy.backend_id)
    assert len(seen) == 3, "the session does not move between backends"
    return run


def _select_and_close(conn: psycopg.Connection[Any]) -> None:
    conn.execute("select 1")
    conn.close()


def memory_per_idle_session(server: PostgresServer) -> float:
    """Bytes of Python memory for a session that ran one statement and holds no cursor."""
    with Proxy(server.url(), max_connections=1) as proxy:
        with proxy.connect(autocommit=True) as first:
            first.execute("select 1")
        sessions = []
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(IDLE_SESSIONS):
                session = proxy.connect(autocommit=True)
                session.execute("select 1")
                sessions.append(session)
            gc.collect()
            used = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        for session in sessions:
            session.close()
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


def main() -> int:
    """Measure, print the table, return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only the cases that have a bound")
    check_only = parser.parse_args().check
    with on_one_cpu() as cpu, PostgresServer("18") as server, ExitStack() as stack:
        print(f"Python {sys.version.split()[0]}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), PostgreSQL 18")
        print(f"client and server on CPU {cpu}, {ROUNDS} rounds of {OPERATIONS}, medians\n")
        print(LINE.format("", "raw µs", "ours µs", "more", "ratio", "middle half", "CPU", "bound"))
        all_hold = True
        for case in bounded_cases(server, stack):
            all_hold &= report(case)
        if not check_only:
            for case in other_cases(server, stack):
                report(case)
            print(f"\nmemory per idle session: {memory_per_idle_session(server):,.0f} bytes of Python's")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
