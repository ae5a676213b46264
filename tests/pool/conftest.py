"""A pool over backends that exist in memory only, so that races can be arranged instead of hoped for."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from rdsproxy_lib import errors
from rdsproxy_lib.backend import HERE, Backend, OpenFailed, Refusal
from rdsproxy_lib.engines.postgresql import TWINS
from rdsproxy_lib.pool import Pool

SECONDS = 20.0
"""How long a test waits for something that has to happen; never how long it takes."""


class FakeServer:
    """An Opener that keeps count. Nothing here may be called with the pool's lock held."""

    def __init__(self) -> None:
        self.pool: Pool | None = None
        self.opened: list[Backend] = []
        self.closed: list[Backend] = []
        self.abandoned: list[Backend] = []
        self.dead: set[Backend] = set()
        self.refusals: list[Exception] = []
        """What the next attempts to open raise."""
        self.dialing = 0
        self.most_dialing = 0
        self.dials = 0
        self.dialed = threading.Semaphore(0)
        """Released when an attempt to open begins."""
        self.gate: threading.Semaphore | None = None
        """Each attempt to open takes one, if there is a gate."""
        self._count = threading.Lock()

    @property
    def alive(self) -> set[Backend]:
        return set(self.opened) - set(self.closed)

    def refuse(self, refusal: Refusal, message: str = "connection refused", times: int = 1) -> None:
        self.refusals += [OpenFailed(psycopg.OperationalError(message), refusal) for _ in range(times)]

    def _no_lock_is_held(self) -> None:
        assert self.pool is None or not self.pool.is_inside()

    def open(self, login: Any, timeout: float) -> Backend:
        self._no_lock_is_held()
        assert timeout > 0
        with self._count:
            self.dials += 1
            self.dialing += 1
            self.most_dialing = max(self.most_dialing, self.dialing)
            refusal = self.refusals.pop(0) if self.refusals else None
        self.dialed.release()
        try:
            if self.gate is not None:
                assert self.gate.acquire(timeout=SECONDS)
            if refusal is not None:
                raise refusal
            backend = Backend(login, None)
            with self._count:
                self.opened.append(backend)
            return backend
        finally:
            with self._count:
                self.dialing -= 1

    def close(self, backend: Backend) -> None:
        self._no_lock_is_held()
        self.closed.append(backend)

    def abandon(self, backend: Backend) -> None:
        self.abandoned.append(backend)

    def hang_up(self, backend: Backend) -> None:
        self.dead.add(backend)

    def is_alive(self, backend: Backend, idle_for: float) -> bool:
        self._no_lock_is_held()
        return backend not in self.dead

    def error(self, kind: type[errors.Error], message: str) -> Exception:
        return TWINS[kind](message)


class WatchedPool(Pool):
    """A pool that tells when a waiter is about to sleep."""

    def _forget(self) -> None:
        super()._forget()
        self.asleep = threading.Semaphore(0)

    def _next_look(self, waiter: Any) -> float:
        self.asleep.release()
        return super()._next_look(waiter)

    def until_waiting(self, count: int) -> None:
        """Return when so many threads stand in the queue."""
        while self.occupancy().waiting < count:
            assert self.asleep.acquire(timeout=SECONDS), f"nobody came: {self.occupancy()}"


def hold(pool: Pool, login: str = "login a") -> Backend:
    """Borrow a backend as a client connection does, and use it in this thread."""
    backend = pool.borrow(login, SECONDS, owner=lambda: None)
    backend.user = HERE.thread
    return backend


class Call:
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._outcome: tuple[Any, BaseException | None] | None = None
        self.thread = threading.Thread(target=self._run, args=(function, *arguments), daemon=True)
        self.thread.start()

    def _run(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._outcome = function(*arguments), None
        except BaseException as error:
            self._outcome = None, error

    @property
    def is_done(self) -> bool:
        return not self.thread.is_alive()

    def result(self) -> Any:
        self.thread.join(SECONDS)
        assert self._outcome is not None, "it is still running"
        value, error = self._outcome
        if error is not None:
            raise error
        return value

    def error(self) -> BaseException:
        self.thread.join(SECONDS)
        assert self._outcome is not None, "it is still running"
        assert self._outcome[1] is not None, f"it returned {self._outcome[0]!r}"
        return self._outcome[1]


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.7e9 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The pool's clock, standing still."""
    clock = Clock()
    monkeypatch.setattr("rdsproxy_lib.pool.time", clock)
    return clock


@pytest.fixture
def fake_server() -> FakeServer:
    """A server in memory."""
    return FakeServer()


@pytest.fixture
def make_pool(fake_server: FakeServer) -> Callable[..., WatchedPool]:
    """Makes a pool over the server in memory."""

    def make(limit: int, **options: Any) -> WatchedPool:
        pool = WatchedPool(fake_server, limit=limit, **options)
        fake_server.pool = pool
        return pool

    return make


def check_places(pool: Pool, server: FakeServer, lent: set[Backend]) -> None:
    """Every open backend is in exactly one place, and the pool's counts say the same."""
    idle = list(pool._idle)
    assert len(idle) == len(set(idle)), "a backend is idle twice"
    assert not lent & set(idle), "a backend is lent and idle"
    assert set(pool._all) == lent | set(idle), "the pool counts what it has not, or lost what it has"
    assert server.alive == set(pool._all), "a backend that is counted was closed, or one that is open is not counted"
    occupancy = pool.occupancy()
    assert occupancy.open == len(lent) + len(idle) <= pool.limit
    assert occupancy.borrowed == len(lent)
    assert occupancy.dialing == occupancy.waiting == 0


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns much more often than they usually do."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def eventually() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Waits until a question about a real server is answered with something true, and returns that."""

    def wait(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (answer := question()):
            assert time.monotonic() < deadline, "it never happened"
            threading.Event().wait(0.005)
        return answer

    return wait
