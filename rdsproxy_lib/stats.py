"""What a Proxy counts, under the names of RDS Proxy's CloudWatch metrics in snake_case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class BorrowLatency:
    """How long borrows waited, in buckets that double from 1 microsecond. Written under the pool's lock or by one
    waiter at a time often enough: a lost increment under contention costs accuracy, never correctness."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * 40
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.total += seconds
        self.buckets[min(39, int(seconds * 1e6).bit_length())] += 1

    def quantile(self, share: float, immediate: int) -> float:
        """Seconds within which `share` (0 to 1) of the borrows were served, `immediate` of them without a wait."""
        waited = sum(self.buckets)
        rank = share * (waited + immediate)
        seen = float(immediate)
        if seen >= rank:
            return 0.0
        for bits, count in enumerate(self.buckets):
            seen += count
            if seen >= rank:
                return (1 << bits) / 1e6
        return 0.0


class Counters:
    """Totals since the Proxy was made."""

    __slots__ = (
        "borrow_timeouts",
        "borrows",
        "borrows_failed",
        "closed",
        "pins",
        "relabel_failures",
        "relabels",
        "reset_failures",
        "resets",
        "setups_failed",
        "setups_succeeded",
        "statements",
    )

    def __init__(self) -> None:
        self.borrows = self.borrows_failed = self.borrow_timeouts = 0
        self.setups_succeeded = self.setups_failed = self.closed = 0
        self.resets = self.reset_failures = self.relabels = self.relabel_failures = self.statements = 0
        self.pins: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class PinnedSession:
    """Why a session is pinned now. One that is pinned for several reasons has an entry for each."""

    reason: str
    """The name of the reason, as in docs/pinning.md."""
    what: str
    """What in the statement gave it: ``CREATE TEMP TABLE``."""
    statement: str
    """The statement, literals taken out; empty where it was none."""
    call_site: str
    """Where the application ran it: ``/app/shop.py:12 in checkout``; empty where that is not known."""
    seconds: float
    """For how long."""
    backend_id: int
    """The server's process id of the database connection."""


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of one Proxy. Counts are totals since it was made unless they say `currently` or name a state.

    Names are those of https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.monitoring.html where RDS
    Proxy has the metric; latencies are in seconds.
    """

    client_connections: int
    """Client connections open now."""
    client_connections_received: int
    client_connections_closed: int
    database_connections: int
    """Database connections open now."""
    database_connections_currently_borrowed: int
    database_connections_currently_session_pinned: int
    database_connections_currently_in_transaction: int
    database_connections_currently_idle: int
    database_connections_with_tls: int
    database_connections_setup_succeeded: int
    database_connections_setup_failed: int
    database_connections_closed: int
    database_connections_borrow_requests: int
    database_connections_borrow_timeouts: int
    database_connections_borrow_latency: float
    """Mean wait per borrow."""
    database_connections_borrow_latency_p50: float
    database_connections_borrow_latency_p99: float
    max_database_connections_allowed: int
    borrows_waiting: int
    query_requests: int
    """Statements run, a text with several counted once."""
    resets: int
    """Backends whose session state was reset before they were lent again."""
    reset_failures: int
    """Resets that failed; the backend was closed instead."""
    probe_connections: int = 0
    """Connections open now by which the monitor asks hosts: outside of the budget, at most one for each host."""
    probes: int = 0
    """Questions to hosts that kept a statement waiting."""
    probes_failed: int = 0
    """Those that had no answer."""
    hosts_lost: int = 0
    """How often a host was given up: statements that waited for it were cut."""
    relabels: int = 0
    """Backends that got the settings of their borrower, in place of those they had."""
    relabel_failures: int = 0
    """Backends that could not be given them, and were closed: the session went on with another one."""
    pins: Mapping[str, int] = field(default_factory=dict)
    """How often a session was pinned, by reason."""
    pinned_sessions: tuple[PinnedSession, ...] = ()
    """Those that are pinned now, and why: the one that is pinned for longest first."""
