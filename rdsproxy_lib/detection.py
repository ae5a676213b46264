"""When a host is asked whether it is there, and when it counts as lost: what waits for it, and what it answered. Pure.

A host that keeps a statement waiting for longer than `time` seconds is asked every `interval` seconds, for as long as
that lasts. It is lost when it gave no sign of life for `count` such intervals. A sign of life is an answer of any kind,
a refusal too; a login that succeeded; and an answer to any other statement. So a statement that is slow is cut only
where its host says nothing to anybody.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Keepalive:
    """What the operating system is told, so that it finds a silent host by itself: whole seconds, and milliseconds.

    Linux counts what was sent and not acknowledged against the user timeout. A connection that only waits is asked
    after `idle` seconds, then each `interval`; where the user timeout is set it ends the same, and `count` is not
    looked at (tcp(7), and tcp_keepalive_timer() of the kernel).
    """

    idle: int
    interval: int
    count: int
    user_timeout: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The three options of failure detection: seconds, seconds, and a number."""

    time: float
    interval: float
    count: int

    @property
    def silence(self) -> float:
        """Seconds of being asked without an answer after which a host is lost."""
        return self.interval * self.count

    @property
    def total(self) -> float:
        """Seconds from the last sign of life to the end."""
        return self.time + self.silence

    @property
    def keepalive(self) -> Keepalive:
        """The same for the operating system, which counts in seconds: not less than one."""
        return Keepalive(max(1, ceil(self.time)), max(1, ceil(self.interval)), self.count, ceil(self.total * 1000))


@dataclass(frozen=True, slots=True)
class Sight:
    """An open database connection as it was found."""

    backend: Hashable
    host: Hashable
    statements: int
    """How many statements were begun on it."""
    is_waiting: bool
    """Whether anybody waits for it to say something."""
    is_patient: bool = False
    """Whether that may take as long as it likes: no answer is due."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done."""

    suspects: frozenset[Hashable]
    """Hosts to be asked."""
    lost: tuple[Hashable, ...]
    """Hosts that are lost since the last look."""
    cut: tuple[Hashable, ...]
    """Backends whose statement waits for a host that is lost."""


class _Host:
    """One that was asked, and has not answered yet."""

    __slots__ = ("is_asked", "is_lost", "silent_since")

    def __init__(self, now: float) -> None:
        self.is_asked = True
        """A question is under way."""
        self.silent_since = now
        """When the first question began, or the last sign of life behind that."""
        self.is_lost = False


class Detector:
    """Remembers what was seen and answered. All times are monotonic seconds, and arguments."""

    def __init__(self, limits: Limits, tick: float) -> None:
        """`tick` is how often, in seconds, `look` is meant to be called."""
        self._limits = limits
        self._tick = tick
        self._looked_at: float | None = None
        self._exchanges: dict[Hashable, tuple[int, float]] = {}
        """What waits: how many statements its backend had begun then, and since when."""
        self._hosts: dict[Hashable, _Host] = {}
        self._suspects: frozenset[Hashable] = frozenset()

    def look(self, sights: Iterable[Sight], now: float, unheard: Collection[Hashable] = ()) -> Verdict:
        """What follows from all open backends as they are now. Hosts in `unheard` are asked in any case."""
        sights = list(sights)
        before = self._looked_at if self._looked_at is not None else now
        self._looked_at = now
        if now - before > 2 * self._tick:  # this process stood still, and may have answers that nobody has read yet
            self._forgive(now - before - self._tick)
        waiting: dict[Hashable, tuple[int, float]] = {}
        for sight in sights:
            known = self._exchanges.get(sight.backend)
            if known is not None and known[0] != sight.statements:
                self.alive(sight.host, before)  # what had waited was answered, else there would be no further one
                known = None
            if sight.is_waiting and not sight.is_patient:
                waiting[sight.backend] = known or (sight.statements, now)
        self._exchanges = waiting
        there = {sight.host for sight in sights}
        late = {
            sight.host
            for sight in sights
            if sight.backend in waiting and now - waiting[sight.backend][1] >= self._limits.time
        }
        self._suspects = frozenset(late | (there & {*self._hosts, *unheard}))
        lost = tuple(host for host, state in self._hosts.items() if host in there and self._is_lost_now(state, now))
        cut = tuple(
            sight.backend
            for sight in sights
            if sight.is_waiting and (state := self._hosts.get(sight.host)) is not None and state.is_lost
        )
        return Verdict(self._suspects, lost, cut)

    def _is_lost_now(self, state: _Host, now: float) -> bool:
        if state.is_lost or now - state.silent_since < self._limits.silence:
            return False
        state.is_lost = True
        return True

    def _forgive(self, seconds: float) -> None:
        for state in self._hosts.values():
            state.silent_since += seconds
        self._exchanges = {key: (number, since + seconds) for key, (number, since) in self._exchanges.items()}

    def is_suspect(self, host: Hashable) -> bool:
        """Whether it is to be asked (again)."""
        return host in self._suspects

    def asked(self, host: Hashable, now: float) -> None:
        """A question to this host begins."""
        self._hosts.setdefault(host, _Host(now)).is_asked = True

    def answered(self, host: Hashable) -> None:
        """It was answered."""
        self._hosts.pop(host, None)

    def unanswered(self, host: Hashable) -> None:
        """It came to an end without an answer."""
        if (state := self._hosts.get(host)) is not None:
            state.is_asked = False

    def alive(self, host: Hashable, at: float) -> None:
        """The host answered something else at that time. A question that is under way counts from there on."""
        state = self._hosts.get(host)
        if state is None or at <= state.silent_since:
            return
        if state.is_asked:
            state.silent_since, state.is_lost = at, False
        else:
            del self._hosts[host]
