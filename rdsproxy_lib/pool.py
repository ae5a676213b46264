"""The database connections of one target, lent one transaction at a time.

One budget covers every (user, database) that logs in to the target. One method decides who gets what
(`_decide_locked`); it runs on every change and returns what to close, so that nothing is opened or closed under
the lock. There is no thread: whoever waits for a connection also opens it.
"""

from __future__ import annotations

import gc
import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from . import errors
from .backend import HERE, Backend, Opener, OpenFailed, Refusal, Way
from .settings import CLEAN, Settings
from .stats import BorrowLatency, Counters

logger = logging.getLogger(__name__)

SURPLUS_IDLE_SECONDS = 300.0
"""How long a database connection over `max_idle_connections_percent` may stay idle: RDS Proxy's five minutes."""
MAX_DIALS = 3
"""Connections being opened at the same time; more would be a login storm after an outage."""
DIAL_SECONDS = 10.0
"""The longest one attempt to connect may take; the borrow timeout covers all attempts."""
FIRST_RETRY, LAST_RETRY = 0.05, 1.0
"""Seconds between attempts to connect, doubled after each failure."""
OVERTAKING_GRACE = 0.05
"""Seconds for which a waiter may be passed by a later one whose kind of connection came free."""
RECLAIM_SECONDS = 1.0
"""How often a waiter looks for client connections that `idle_client_timeout` has ended."""
STUCK_AFTER = 0.5
"""Seconds of waiting after which, once, garbage is collected and a deadlock is looked for: a session that moves from
thread to thread looks like one for a moment."""
WARN_AFTER = 5.0
"""Seconds of waiting after which the log names the longest holders."""
FRESH = 0.00005
"""Seconds since it was given back for which a backend is not looked at: its server answered a round trip ago."""
SILENT = 0.2
"""A look at an idle backend that took longer found no answer, and not a farewell, which is seen at once. Seconds."""
LIFETIME_JITTER = 0.1
"""Each connection's lifetime is shortened by up to this share, so that they do not all end together."""

_SERIALS = itertools.count(1)
"""Of the backends of all pools: a session that uses several takes none for another one."""


class HostGone(Exception):
    """Raised by `borrow` where the opener says GONE: the pool is of one host, and there may be others."""


class Waiter:
    """A thread that waits. It is given a backend, or leave to open one, under the pool's lock, and then woken.

    A gift that arrives as the wait times out is seen by the look the waiter takes under the lock before it gives
    up, so no backend can be lost between the two.
    """

    __slots__ = (
        "__weakref__",
        "gate",
        "gift",
        "has_no_host",
        "is_patient",
        "login",
        "may_dial",
        "since",
        "stuck",
        "thread",
        "until",
        "wanted",
        "warned",
    )

    def __init__(self, login: object, wanted: Settings, since: float, until: float, *, is_patient: bool) -> None:
        self.is_patient = is_patient
        """It waits until the time is over, and not only for the first attempt to connect."""
        self.login = login
        self.wanted = wanted
        self.since = since
        self.until = until
        self.thread = HERE.thread
        self.gate = threading.Lock()
        self.gate.acquire()
        self.gift: Backend | None = None
        self.may_dial = False
        self.has_no_host = False
        self.stuck = False
        self.warned = False

    def wake(self) -> None:
        """Let the waiter look around. Takes no lock, so a finaliser may call it."""
        with suppress(RuntimeError):  # it is awake already
            self.gate.release()


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How many connections the pool has, by what they are doing."""

    open: int
    borrowed: int
    pinned: int
    idle: int
    dialing: int
    waiting: int
    limit: int
    is_paused: bool

    def __str__(self) -> str:
        return (
            f"{self.borrowed} borrowed ({self.pinned} pinned), {self.idle} idle, {self.dialing} being opened, "
            f"{self.waiting} waiting, max_connections={self.limit}" + (", paused" if self.is_paused else "")
        )


class Pool:
    """Lends backends. Safe for use from many threads; starts none."""

    def __init__(
        self,
        opener: Opener,
        *,
        limit: int,
        idle_percent: int = 50,
        pinned_percent: int = 100,
        lifetime: float = 86400.0,
        way: Way | None = None,
    ) -> None:
        """`way` opens backends in the opener's place, where it takes more than a login to find the host."""
        self._opener = opener
        self._way = way or opener
        self._idle_percent = idle_percent
        self._set_limit(limit)
        self._pinned_percent = pinned_percent
        self._lifetime = lifetime
        self._serial = 0
        self._retired = 0
        """How often all backends were retired: one that was being opened meanwhile is as old."""
        self._closed = False
        self.epoch = 0
        """Goes up in a forked child: what was lent before is another process's."""
        self.opened: Callable[[Backend], None] | None = None
        """Called for each backend that was opened, by whoever opened it."""
        self.lost: Callable[[Backend], None] | None = None
        """Called with a backend that said nothing when it was asked before it was lent."""
        self.reclaim: Callable[[], None] | None = None
        """Called by whoever has to wait, to take back what idle client connections hold."""
        self._forget()

    def _set_limit(self, limit: int) -> None:
        self.limit = limit
        """The budget: how many backends may be open at once."""
        self._max_idle = limit * self._idle_percent // 100

    def _forget(self) -> None:
        """Start with nothing: at construction, and in a forked child."""
        # Re-entrant for one case only: see is_inside.
        self._lock = threading.RLock()
        # What is not to be lent, and since when: the backends on an endpoint, or under None all. A forked child has
        # nobody who would end it.
        self._withheld: dict[Any, float] = {}
        self._returned = threading.Condition(self._lock)
        # Every live backend and dialling waiter. Weak: one that an interrupted thread dropped on the floor is
        # closed by its own end and stops counting, whatever line the interrupt hit.
        self._all: WeakSet[Backend] = WeakSet()
        self._dialers: WeakSet[Waiter] = WeakSet()
        self._idle: list[Backend] = []  # the last one is lent next
        self._waiters: deque[Waiter] = deque()
        self._dropped: deque[Backend] = deque()  # filled by finalisers, which may take no lock
        self._is_over_limit = False
        self._retry_at = 0.0
        self._retry_delay = FIRST_RETRY
        self._later: dict[object, float] = {}
        """Logins that cannot be tried for a while, and until when (monotonic seconds)."""
        self._connect_error: BaseException | None = None
        self._is_away = False
        self.counters = Counters()
        self.latency = BorrowLatency()

    # -- borrowing

    def borrow(
        self, login: object, timeout: float, owner: Callable[[], Any] | None = None, wanted: Settings = CLEAN
    ) -> Backend:
        """A backend logged in as `login`, for the calling thread.

        One with the settings that are `wanted`, else one without any, else a new one, else any, in whose place the
        borrower puts his own; else wait. `timeout` is in seconds; 0 takes an idle one or fails, without opening any.
        Raises BorrowTimeout (as the driver's class), ProxyClosed, or the driver's own error where the server refused
        for good; HostGone in a pool of one host among several.
        """
        lock = self._lock
        if lock._is_owned():  # type: ignore[attr-defined]  # is_inside(), in the way of each statement
            raise self._opener.error(errors.BorrowTimeout, "a finaliser that runs amid a pool operation cannot borrow")
        now = time.time()
        backend: Backend | None = None
        with lock:
            idle = self._idle
            if idle and not (self._waiters or self._dropped or self._closed):
                backend = idle[-1]
                if backend.label is wanted and backend.login is login and now < backend.expires_at:  # as most find it
                    idle.pop()
                else:
                    backend = self._find_locked(login, wanted, now)
                if backend is not None:
                    self.counters.borrows += 1
        if backend is None or not (0.0 <= now - backend.idle_since < FRESH or self._is_fit(backend)):
            if backend is not None:
                self.discard(backend)
            backend = self._borrow(login, wanted, timeout)
            now = time.time()
        backend.owner = owner
        backend.borrowed_at = now
        return backend

    def borrow_at_once(self, login: object, timeout: float) -> Backend:
        """As `borrow`, but raises BorrowTimeout as soon as an attempt to connect fails or the pool is paused."""
        backend = self._borrow(login, CLEAN, timeout, is_patient=False)
        backend.borrowed_at = time.time()
        return backend

    def _borrow(self, login: object, wanted: Settings, timeout: float, *, is_patient: bool = True) -> Backend:
        started = time.monotonic()
        while True:
            closing: list[Backend] = []
            backend = None
            with self._lock:
                self._check_open_locked()
                if self._dropped:
                    closing = self._decide_locked()
                if not self._waiters:
                    backend = self._pick_locked(login, wanted, closing, may_open=timeout > 0)
            if closing:
                self._close_all(closing)
            if backend is None:
                backend = self._wait(Waiter(login, wanted, started, started + timeout, is_patient=is_patient))
            if self._is_fit(backend):
                return backend
            self.discard(backend)

    def _find_locked(self, login: object, wanted: Settings, now: float) -> Backend | None:
        """The idle backend used last, of those that have the wanted settings."""
        for backend in reversed(self._idle):
            if backend.label is wanted and backend.login is login and now < backend.expires_at:
                self._idle.remove(backend)
                return backend
        return None

    def _is_fit(self, backend: Backend) -> bool:
        """The look before the first byte."""
        now = time.time()
        idle_for = abs(now - backend.idle_since)
        if idle_for < FRESH or not backend.idle_since or self._opener.is_alive(backend, idle_for):
            return True
        if abs(time.time() - now) > SILENT:
            self._give_up_on(backend)
        return False

    def _give_up_on(self, silent: Backend) -> None:
        """An idle backend was asked and did not answer: to ask the others of its host would take as long each."""
        place = silent.endpoint, silent.address
        self.retire_those(lambda backend: backend is not silent and (backend.endpoint, backend.address) == place)
        if self.lost is not None:
            self.lost(silent)

    def borrow_that(self, login: object, serial: int, owner: Callable[[], Any] | None = None) -> Backend | None:
        """The backend with that serial number if it is idle, else None."""
        with self._lock:
            self._check_open_locked()
            backend = next((idle for idle in self._idle if idle.serial == serial and idle.login is login), None)
            if backend is None:
                return None
            self._idle.remove(backend)
            self.counters.borrows += 1
        if not self._is_fit(backend):
            self.discard(backend)
            return None
        backend.owner = owner
        backend.borrowed_at = time.time()
        return backend

    def _pick_locked(
        self, login: object, wanted: Settings, closing: list[Backend], *, may_open: bool = True
    ) -> Backend | None:
        """The idle backend of this login that suits best, of equal ones that used last. Expired ones go to `closing`.

        The order is Vitess': the wanted settings, none, and others only where no new one may be opened.
        """
        now, clean, other = time.time(), None, None
        for backend in reversed(self._idle.copy()):
            if backend.login is login:
                if now >= backend.expires_at:
                    self._idle.remove(backend)
                    self._all.discard(backend)
                    closing.append(backend)
                elif backend.label is wanted:
                    break
                elif not backend.label.values:
                    clean = clean or backend
                else:
                    other = other or backend
        else:
            if clean is not None:
                backend = clean
            elif other is not None and not (may_open and self._may_open_locked(login)):
                backend = other
            else:
                return None
        self._idle.remove(backend)
        self.counters.borrows += 1
        return backend

    def _wait(self, waiter: Waiter) -> Backend:
        started = waiter.since
        if self.reclaim is not None:
            self.reclaim()
        try:
            with self._lock:
                self._check_open_locked()
                if None in self._withheld and not waiter.is_patient:
                    raise self._timeout_locked(started)
                if waiter.until <= started:
                    if len(self._all) or len(self._dialers) or None in self._withheld:
                        raise self._timeout_locked(started, "connection_borrow_timeout is 0 and none is idle")
                    waiter.until = started + DIAL_SECONDS  # without any, nothing could ever become idle
                self._waiters.append(waiter)
                closing = self._decide_locked()
            self._close_all(closing)
            while True:
                if waiter.gift is not None:
                    break
                if waiter.has_no_host:
                    raise HostGone
                if waiter.may_dial:
                    if (opened := self._dial(waiter)) is not None:
                        waiter.gift = opened
                        break
                    continue
                waiter.gate.acquire(timeout=max(0.0, self._next_look(waiter) - time.monotonic()))
                if waiter.gift is None and not (waiter.may_dial or waiter.has_no_host):
                    if self.reclaim is not None:
                        self.reclaim()
                    self._look_around(waiter)
        except BaseException:
            self._withdraw(waiter)
            raise
        backend = waiter.gift
        self.latency.add(time.monotonic() - started)
        return backend

    def _next_look(self, waiter: Waiter) -> float:
        until = waiter.until
        if not waiter.stuck:
            until = min(until, waiter.since + STUCK_AFTER)
        elif not waiter.warned:
            until = min(until, waiter.since + WARN_AFTER)
        now = time.monotonic()
        if self._retry_at > now:
            until = min(until, self._retry_at)
        if (later := self._later.get(waiter.login, 0.0)) > now:
            until = min(until, later)
        if self._idle and waiter.since + OVERTAKING_GRACE > now:  # one of another login makes way after the grace
            until = min(until, waiter.since + OVERTAKING_GRACE)
        if self.reclaim is not None:
            until = min(until, now + RECLAIM_SECONDS)
        return until

    def _look_around(self, waiter: Waiter) -> None:
        """What a waiter does when it wakes with nothing in hand: decide again, warn once, or give up."""
        now = time.monotonic()
        holders = ""
        is_stuck = not waiter.stuck and now >= waiter.since + STUCK_AFTER
        if is_stuck:
            waiter.stuck = True
            gc.collect()  # connections dropped in reference cycles hold backends, and a program that waits frees none
        timeout = None
        with self._lock:
            self._check_open_locked()
            closing = self._decide_locked()
            if waiter.gift is None and not waiter.may_dial:
                if now >= waiter.until:
                    timeout = self._timeout_locked(waiter.since)
                elif is_stuck and self._is_deadlock_locked(now):
                    timeout = self._timeout_locked(
                        waiter.since,
                        "every thread that holds a database connection waits for another one, so none can ever become"
                        " free; end a transaction before starting one on another"
                        " connection, or raise max_connections",
                    )
                elif not waiter.warned and now >= waiter.since + WARN_AFTER:
                    waiter.warned = True
                    holders = f"{self._occupancy_locked()}; {self._holders_locked()}"
        self._close_all(closing)
        if timeout is not None:
            raise timeout
        if holders:
            logger.warning("waiting for a database connection for %.0f s: %s", now - waiter.since, holders)

    def _dial(self, waiter: Waiter) -> Backend | None:
        """Open a connection for this waiter; None puts it back at the head of the queue."""
        remaining = waiter.until - time.monotonic()
        retired = self._retired
        try:
            backend = self._way.open(waiter.login, max(0.001, min(DIAL_SECONDS, remaining)))
        except OpenFailed as failed:
            now = time.monotonic()
            closing: list[Backend] = []
            with self._lock:
                self._dialers.discard(waiter)
                waiter.may_dial = False
                self.counters.setups_failed += 1
                self._connect_error = failed.error
                self._is_away = failed.refusal is Refusal.TRANSIENT
                is_later = failed.refusal is Refusal.LATER
                if (self._is_away or is_later) and not waiter.is_patient:
                    waiter.until = now
                wait = self._is_away or is_later or (failed.refusal is Refusal.FULL and len(self._all))
                if is_later:
                    self._later = {login: until for login, until in self._later.items() if until > now}
                    self._later[waiter.login] = now + failed.retry_after
                    self._waiters.appendleft(waiter)
                    closing = self._decide_locked()  # others may have their turn meanwhile
                elif wait:
                    if failed.refusal is Refusal.FULL:  # one with other settings will have to do
                        waiter.gift = self._pick_locked(waiter.login, waiter.wanted, closing, may_open=False)
                    if waiter.gift is None:
                        self._waiters.appendleft(waiter)
                    if failed.refusal is Refusal.FULL and self._idle and waiter.gift is None:  # of another login
                        closing.append(self._idle.pop(0))
                        self._all.discard(closing[-1])
                    elif not isinstance(failed.error, errors.NoWriterAvailable):  # which took its time
                        self._retry_at = now + self._retry_delay
                        self._retry_delay = min(LAST_RETRY, self._retry_delay * 2)
                elif failed.refusal is Refusal.GONE:
                    closing = self._turn_away_locked()
                else:
                    closing = self._decide_locked()
            self._close_all(closing)
            if failed.refusal is Refusal.GONE:
                raise HostGone from failed.error
            if not wait:
                raise failed.error from failed.error.__cause__
            logger.info("could not open a database connection, trying again: %s", type(failed.error).__name__)
            if closing or isinstance(failed.error, errors.NoWriterAvailable):
                self._look_around(waiter)
            return None
        backend.expires_at = time.time() + self._lifetime * (1 - LIFETIME_JITTER * random.random())
        closing = []
        with self._lock:
            self._dialers.discard(waiter)
            waiter.may_dial = False
            self._retry_at, self._retry_delay, self._connect_error, self._is_away = 0.0, FIRST_RETRY, None, False
            self.counters.setups_succeeded += 1
            is_withheld = backend.endpoint in self._withheld or None in self._withheld
            if is_withheld:  # since it was begun
                closing.append(backend)
                self._waiters.appendleft(waiter)
                self._retry_at = time.monotonic() + FIRST_RETRY
                if not waiter.is_patient:
                    waiter.until = 0.0
            else:
                backend.serial = self._serial = next(_SERIALS)
                if self._retired != retired:
                    backend.expires_at = 0.0  # closed when it is given back
                self._all.add(backend)
                self.counters.borrows += 1
            closing += self._decide_locked()  # the next in line may dial now
        self._close_all(closing)
        if is_withheld:
            return None
        if self.opened is not None:
            self.opened(backend)
        return backend

    def _withdraw(self, waiter: Waiter) -> None:
        """The waiter leaves, by timeout or interrupt: whatever it was given goes to the next."""
        with self._lock:
            with suppress(ValueError):
                self._waiters.remove(waiter)
            self._dialers.discard(waiter)
            waiter.may_dial = False
            gift, waiter.gift = waiter.gift, None
            self.counters.borrows_failed += 1
            closing = []
            if self._later or self._retry_at > time.monotonic():  # it may have been the only one who knew until when
                for other in self._waiters:
                    other.wake()
            if gift is not None:
                if self._closed or time.time() >= gift.expires_at:
                    self._all.discard(gift)
                    closing.append(gift)
                else:
                    gift.idle_since = gift.idle_since or time.time()
                    self._idle.append(gift)
            closing += self._decide_locked()
        self._close_all(closing)

    # -- giving back

    def is_inside(self) -> bool:
        """Whether this very thread is inside a pool operation.

        The collector runs the clean-up of dropped generators anywhere, and that may end a transaction. Nothing may be
        moved then: the backend is left to the end of the operation that was cut in upon.
        """
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _leave(self, backend: Backend) -> None:
        self._opener.hang_up(backend)
        self.drop(backend)

    def give_back(self, backend: Backend) -> None:
        """Take back a backend that is clean: to whoever waits for one, else idle."""
        lock = self._lock
        if lock._is_owned():  # type: ignore[attr-defined]  # is_inside(), in the way of each statement
            self._leave(backend)
            return
        backend.owner = None
        backend.pinned = False
        backend.idle_since = now = time.time()
        with lock:
            idle = self._idle
            if self._closed or self._is_over_limit or now >= backend.expires_at:
                self._all.discard(backend)
                self._is_over_limit = len(self._all) > self.limit
                closing = [backend, *self._decide_locked()]
            else:
                idle.append(backend)
                is_surplus = len(idle) > self._max_idle and self._is_surplus(idle[0])
                if not (self._waiters or self._dropped or is_surplus):
                    return
                closing = self._decide_locked()
        self._close_all(closing)

    def discard(self, backend: Backend) -> None:
        """Take back a backend that must not be lent again, and close it."""
        if self.is_inside():
            self._leave(backend)
            return
        with self._lock:
            backend.owner = None
            self._all.discard(backend)
            closing = self._decide_locked()
        self._close_all([backend, *closing])

    def forget(self, backend: Backend) -> None:
        """Take a backend out of the count without closing it: it has lost its wire already."""
        with self._lock:
            backend.owner = None
            self._all.discard(backend)
            self.counters.closed += 1
            closing = self._decide_locked()
        self._close_all(closing)

    def drop(self, backend: Backend) -> None:
        """Leave a backend to the next pool operation. For finalisers: takes no lock, does no I/O."""
        self._dropped.append(backend)
        with suppress(IndexError):
            self._waiters[0].wake()

    def pin(self, backend: Backend, *, anyway: bool = False) -> bool:
        """Mark a lent backend as pinned; False where `max_pinned_percent` is reached (never below one)."""
        with self._lock:
            pinned = sum(1 for other in self._all if other.pinned and other is not backend)
            if not anyway and pinned + 1 > max(1, self.limit * self._pinned_percent // 100):
                return False
            backend.pinned = True
            return True

    # -- deciding

    def _decide_locked(self) -> list[Backend]:
        """Hand idle backends, or leave to open one, to those who wait; return what is to be closed.

        First come, first served, but within OVERTAKING_GRACE a backend of another login goes to the first waiter
        who can use it as it is; after that it makes way for the one at the head.
        """
        closing: list[Backend] = []
        now = time.monotonic()
        while True:
            while self._dropped:
                closing.append(self._dropped.popleft())
                self._all.discard(closing[-1])
            self._serve_locked(now, closing)
            if not self._dropped:  # a finaliser may have run just now
                break
        while len(self._idle) > self._max_idle and self._is_surplus(self._idle[0]):
            closing.append(self._idle.pop(0))
            self._all.discard(closing[-1])
        if self._withheld:
            self._returned.notify_all()
        return closing

    @staticmethod
    def _is_surplus(backend: Backend) -> bool:
        return time.time() - backend.idle_since >= SURPLUS_IDLE_SECONDS

    def _serve_locked(self, now: float, closing: list[Backend]) -> None:
        if None in self._withheld:
            return
        for waiter in tuple(self._waiters):
            waiter.gift = self._pick_locked(waiter.login, waiter.wanted, closing)
            if waiter.gift is None:
                if now >= waiter.until or self._is_later_locked(waiter):
                    continue  # it is about to give up, or waits for its password
                if self._may_dial_locked(now) and self._make_room_locked(waiter, now, closing):
                    waiter.may_dial = True
                    self._later.pop(waiter.login, None)
                    self._dialers.add(waiter)
                elif self._idle:
                    continue
                else:
                    break  # nothing left to hand out
            self._waiters.remove(waiter)
            waiter.wake()

    def _may_dial_locked(self, now: float) -> bool:
        return len(self._dialers) < MAX_DIALS and now >= self._retry_at and not self._closed

    def _may_open_locked(self, login: object) -> bool:
        now = time.monotonic()
        return self._has_room_locked() and self._may_dial_locked(now) and now >= self._later.get(login, 0.0)

    def _is_later_locked(self, waiter: Waiter) -> bool:
        """Whether its login is not to be tried just now."""
        return time.monotonic() < self._later.get(waiter.login, 0.0)

    def _has_room_locked(self) -> bool:
        return len(self._all) + len(self._dialers) < self.limit

    def _make_room_locked(self, waiter: Waiter, now: float, closing: list[Backend]) -> bool:
        """Whether one more may be opened, closing the longest idle one of another login where the cap is reached."""
        if self._has_room_locked():
            return True
        if not self._idle:
            return False
        if now - waiter.since < OVERTAKING_GRACE:
            wanted = {other.login for other in self._waiters}
            at = next((at for at, idle in enumerate(self._idle) if idle.login not in wanted), -1)
            if at < 0:
                return False
        else:
            at = 0
        closing.append(self._idle.pop(at))
        self._all.discard(closing[-1])
        return True

    def _check_open_locked(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> Exception:
        return self._opener.error(errors.ProxyClosed, "the proxy is closed; nothing was sent")

    def _is_deadlock_locked(self, now: float) -> bool:
        """Whether every holder waits in this very queue, so that none of them can ever be served."""
        is_dialing = self._dialers or now < self._retry_at or any(map(self._is_later_locked, self._waiters))
        if is_dialing or self._idle or not self._waiters or self.reclaim is not None:
            return False
        waiting = {waiter.thread for waiter in self._waiters}
        holders = [backend for backend in self._all if backend.owner is not None]
        return len(holders) >= self.limit and all(backend.user in waiting for backend in holders)

    def _timeout_locked(self, since: float, why: str = "") -> Exception:
        self.counters.borrow_timeouts += 1
        waited = time.monotonic() - since
        has_no_writer = isinstance(self._connect_error, errors.NoWriterAvailable)
        if (paused_at := self._withheld.get(None)) is not None:
            has_no_writer = False
            paused = f"the proxy was paused {time.monotonic() - paused_at:.1f} s ago, until resume() is called"
            why = f"{paused}; {why}" if why else paused
        elif not why:
            why = "all are in use or none could be opened"
        error = self._opener.error(
            errors.NoWriterAvailable if has_no_writer else errors.BorrowTimeout,
            f"timed out waiting to acquire a database connection after {waited:.1f} s: {why}; "
            f"{self._occupancy_locked()}; {self._holders_locked()}. Nothing was sent to the database"
            + (f"; the last attempt to connect failed: {self._connect_error}" if self._connect_error else ""),
        )
        error.__cause__ = self._connect_error
        return error

    def _holders_locked(self, endpoint: Any = None) -> str:
        now = time.time()
        held = sorted(
            (b for b in self._all if b.owner is not None and (endpoint is None or b.endpoint == endpoint)),
            key=lambda b: b.borrowed_at,
        )[:5]
        return ("longest holders: " if held else "no holders") + ", ".join(
            f"thread {b.user.name if b.user else '?'} for {now - b.borrowed_at:.1f} s"
            + (f" (pinned by {b.pinned_by})" if b.pinned else "")
            for b in held
        )

    # -- the rest of its life

    def resize(self, limit: int) -> None:
        """Change the cap; backends over it are closed as they come back."""
        with self._lock:
            self._set_limit(limit)
            self._is_over_limit = len(self._all) > limit
            closing = self._decide_locked()
        self._close_all(closing)

    def retire(self) -> None:
        """Lend none of the present backends again: idle ones are closed now, the others as they come back."""
        with self._lock:
            closing = self._retire_locked()
        self._close_all(closing)

    def _turn_away_locked(self) -> list[Backend]:
        """The host is gone: nobody waits for it, and what is idle is to be closed."""
        closing, self._idle = self._idle, []
        for backend in closing:
            self._all.discard(backend)
        for waiter in self._waiters:
            waiter.has_no_host = True
            waiter.wake()
        self._waiters.clear()
        return closing + self._decide_locked()

    def retire_those(self, is_meant: Callable[[Backend], bool]) -> None:
        """The same for those of which `is_meant` is true, and not for any that is being opened."""
        with self._lock:
            closing = []
            for backend in [each for each in self._all if is_meant(each)]:
                backend.expires_at = 0.0
                if backend in self._idle:
                    self._idle.remove(backend)
                    self._all.discard(backend)
                    closing.append(backend)
            closing += self._decide_locked()
        self._close_all(closing)

    def backends(self) -> list[tuple[Backend, bool]]:
        """Every backend that is open, and whether it is idle."""
        with self._lock:
            idle = set(self._idle)
            return [(backend, backend in idle) for backend in self._all]

    def _retire_locked(self, endpoint: Any = None) -> list[Backend]:
        self._retired += 1
        for backend in self._all:
            if endpoint is None or backend.endpoint == endpoint:
                backend.expires_at = 0.0
        closing = [backend for backend in self._idle if not backend.expires_at]
        for backend in closing:
            self._idle.remove(backend)
            self._all.discard(backend)
        return closing + self._decide_locked()

    def withhold(self, endpoint: Any = None, since: float | None = None) -> bool:
        """Lend none on this endpoint, or none at all, until `allow`. False where that was so already.

        Idle backends are closed now, the others as they come back; who waits goes on waiting. `since` is when this was
        asked for, in monotonic seconds, by default now. Raises ProxyClosed.
        """
        with self._lock:
            self._check_open_locked()
            if endpoint in self._withheld:
                return False
            self._withheld[endpoint] = time.monotonic() if since is None else since
            closing = self._retire_locked(endpoint)
            if endpoint is None:
                for waiter in self._waiters:
                    if not waiter.is_patient:
                        waiter.until = 0.0
                        waiter.wake()
        self._close_all(closing)
        return True

    def withheld_since(self, endpoint: Any = None) -> float | None:
        """When that was asked for which is withheld there; None where nothing is."""
        return self._withheld.get(endpoint)

    def allow(self, endpoint: Any = None) -> None:
        """End `withhold`: who waits is served in order, with new backends."""
        with self._lock:
            self._returned.notify_all()
            self._withheld.pop(endpoint, None)
            closing = self._decide_locked()
        self._close_all(closing)

    def wait_until_returned(self, endpoint: Any, deadline: float) -> str:
        """Wait until none is left of what is withheld. Returns ``""``, or who has some at `deadline` (monotonic).

        Raises ProxyClosed.
        """
        seconds = STUCK_AFTER
        while True:
            if self.reclaim is not None:
                self.reclaim()
            closing: list[Backend] = []
            with self._lock:
                if self._dropped:  # by finalisers, since the last operation
                    closing = self._decide_locked()
            self._close_all(closing)
            with self._lock:  # not the condition: an interrupt in its `with`, which is Python, would leave it held
                self._check_open_locked()
                if endpoint not in self._withheld:
                    return "resume() was called meanwhile"
                # Nothing here may hold a backend meanwhile: one that was dropped on the floor ends by itself.
                are_left = any(endpoint is None or backend.endpoint == endpoint for backend in self._all)
                if not are_left and not (endpoint is None and len(self._dialers)):
                    return ""
                now = time.monotonic()
                if now >= deadline:
                    return f"{self._occupancy_locked()}; {self._holders_locked(endpoint)}"
                self._returned.wait(min(seconds, deadline - now))
            if seconds == STUCK_AFTER:
                gc.collect()  # as for one who waits for a backend
                seconds = RECLAIM_SECONDS

    @property
    def serial(self) -> int:
        """That of the backend that was opened last."""
        return self._serial

    def begin_like(self, other: Pool) -> None:
        """A pool made later than another one of the same proxy: of the same process, withholding as much, as closed."""
        self.epoch = other.epoch
        with other._lock:
            self._withheld.update(other._withheld)
            self._closed = other._closed

    @property
    def is_paused(self) -> bool:
        """Whether nothing is lent at all."""
        return None in self._withheld

    @property
    def is_away(self) -> bool:
        """Whether the last attempt to connect found nobody who lets anybody in: an outage."""
        return self._is_away

    def lent(self) -> list[Backend]:
        """Every backend that a client connection holds now."""
        with self._lock:
            return [backend for backend in self._all if backend.owner is not None]

    def count(self, is_counted: Callable[[Any], bool]) -> int:
        """How many of the open backends answer yes."""
        return sum(1 for backend, _ in self.backends() if is_counted(backend))

    def statements(self) -> int:
        """How many statements were run, on open and closed backends."""
        with self._lock:
            return self.counters.statements + sum(backend.statements for backend in self._all)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def occupancy(self) -> Occupancy:
        with self._lock:
            return self._occupancy_locked()

    def _occupancy_locked(self) -> Occupancy:
        return Occupancy(
            open=len(self._all),
            borrowed=len(self._all) - len(self._idle),
            pinned=sum(1 for backend in self._all if backend.pinned),
            idle=len(self._idle),
            dialing=len(self._dialers),
            waiting=len(self._waiters),
            limit=self.limit,
            is_paused=None in self._withheld,
        )

    @property
    def connect_error(self) -> BaseException | None:
        """Why the last attempt to connect failed; None once one succeeded."""
        return self._connect_error

    def close(self) -> None:
        """Close what is idle, wake who waits (they raise ProxyClosed); what is lent is closed when it comes back."""
        with self._lock:
            self._closed = True
            closing = self._idle + list(self._dropped)
            self._idle = []
            self._dropped.clear()
            for backend in closing:
                self._all.discard(backend)
            for waiter in self._waiters:
                waiter.wake()
            self._returned.notify_all()
        self._close_all(closing)

    def after_fork(self) -> list[Backend]:
        """In a forked child: the sockets are the parent's. Leave them without a farewell, start empty, return them."""
        inherited = list(self._all)
        self.epoch += 1
        self._forget()
        for backend in inherited:
            self._opener.abandon(backend)
        return inherited

    def _close_all(self, closing: Iterable[Backend]) -> None:
        for backend in closing:
            with self._lock:
                self.counters.closed += 1
                self.counters.statements += backend.statements
            self._opener.close(backend)
