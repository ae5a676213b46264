"""The hosts of a proxy that has several: asks them who is the writer, and opens database connections there.

Nothing runs while there is a writer. Where there is none, each host is asked by a thread of its own, every 100 ms for
as long as somebody waits: one that does not answer keeps nobody from hearing another.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from . import errors
from .backend import Opener, OpenFailed, Refusal
from .topology import HOLD, Endpoint, Observation, Role, View, begun, settled, updated

logger = logging.getLogger(__name__)

ASK_SECONDS = 5.0
"""How long a host may take to say who it is."""
ASK_AGAIN = 0.1
"""Seconds between two questions to the same host, while there is no writer."""
REFUSED_SECONDS, OTHERS_SECONDS = 1.0, 0.5
"""How long a host that refused a login for good is left alone with it, doubled each time; and how long the others have
to answer before the refusal is passed on."""
ADMITS_AGAIN = 0.02
"""Seconds between two questions to a host that has refused a write, and does not say yet that it takes none."""
SEARCH_SECONDS = 1.0
"""How long one search lasts: after it, who waits looks whether another one's connection has come free."""


class HostOpener(Opener, Protocol):
    """What is needed of an engine where there are several hosts, beside what the pool needs of it."""

    admits_late: float
    """Seconds for which a server may refuse writes and still say, when it is asked, that it takes them."""

    def open_at(self, login: Any, timeout: float, endpoint: Endpoint) -> Any:
        """As `open`, on this host."""

    def role_of(self, backend: Any, timeout: float = ...) -> tuple[Role, int]:
        """Whether its host takes writes, and its epoch (see topology). One round trip. Raises the driver's errors.

        `timeout` is in seconds, 5 by default; where it passes, the backend is closed.
        """

    def ask(self, login: Any, timeout: float, endpoint: Endpoint) -> tuple[Role, int]:
        """The same of any host, on a connection that is closed again. Raises OpenFailed."""

    def probe(
        self, login: Any, timeout: float, endpoint: Endpoint | None, address: str, begin: Callable[[], None]
    ) -> Any:
        """A connection outside of the pool that was logged in, and no more, to the machine of this address.

        `begin` is called when the credentials are there, and the host is about to be spoken to. Raises OpenFailed.
        """


class Cluster:
    """The present view of the hosts, and the search for a writer. Safe for use from many threads."""

    def __init__(self, engine: HostOpener, endpoints: Sequence[Endpoint], retire: Callable[[], None]) -> None:
        """`retire` is called when there is another writer than before, with no lock of this held."""
        self._engine = engine
        self._retire = retire
        self._view = begun(endpoints)
        self._is_closed = False
        self._start_anew()

    def _start_anew(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Any] = []
        """The logins of those who wait for a writer."""
        self._asked: set[Endpoint] = set()
        """Hosts with a thread that asks them."""
        self._refused: dict[tuple[Any, Endpoint], tuple[float, OpenFailed]] = {}
        """Which host refused which login for good, and when."""
        self._refreshed: dict[Endpoint, float] = {}
        """When each host was asked last though nobody waited for a writer."""
        self._doubted: Endpoint | None = None
        """The writer, where a connection to it died: it is asked before another one is opened there."""

    @property
    def view(self) -> View:
        return self._view

    def report(self, seen: Observation) -> None:
        """Take in what a host said, or that it did not."""
        with self._changed:
            before = self._view
            if self._doubted == seen.endpoint:
                self._doubted = None
            self._take_locked(updated(before, seen, time.monotonic()))
            is_old = self._view.generation != before.generation
        if is_old:
            self._retire()

    def _take_locked(self, view: View) -> None:
        if view.writer != self._view.writer:
            logger.info("the writer is %s", view.writer or "not known")
        self._view = view
        self._changed.notify_all()

    def miss(self, endpoint: Endpoint, error: str) -> None:
        """A host did not answer: it has to be heard again before it counts as the writer."""
        self.report(Observation(endpoint, time.monotonic(), error=error))

    def doubt(self, endpoint: Endpoint) -> None:
        """A connection to this host died, which may be its end, or that connection's alone."""
        with self._changed:
            if endpoint == self._view.writer:
                self._doubted = endpoint

    def hear(self, login: Any, endpoint: Endpoint, timeout: float = ASK_SECONDS) -> Role:
        """Ask one host now."""
        asked_at = time.monotonic()
        try:
            role, epoch = self._engine.ask(login, timeout, endpoint)
        except OpenFailed as failed:
            if failed.refusal is not Refusal.TRANSIENT:  # it is there: what it was is what it is
                self._take_refusal(login, endpoint, asked_at, failed)
                return Role.UNKNOWN
            self.report(Observation(endpoint, asked_at, error=str(failed)))
            return Role.UNKNOWN
        self.report(Observation(endpoint, asked_at, role, epoch))
        return role

    def refresh(self, login: Any, age: float) -> None:
        """Ask each host, in a thread of its own, that was not heard or so asked for `age` seconds."""
        with self._changed:
            now = time.monotonic()
            for endpoint, seen in self._view.members.items():
                asked_at = max(self._refreshed.get(endpoint, -math.inf), -math.inf if seen is None else seen.at)
                if asked_at < now - age and not self._is_closed:
                    self._refreshed[endpoint] = now  # one that refuses this login is asked no more often
                    self._start_asking_locked((endpoint,), lambda endpoint: self._ask_once(login, endpoint))

    def _ask_once(self, login: Any, endpoint: Endpoint) -> None:
        try:
            self.hear(login, endpoint)
        except Exception:
            logger.exception("asking %s who it is failed", endpoint)
        finally:
            with self._changed:
                self._asked.discard(endpoint)

    def has_stepped_down(self, login: Any, endpoint: Endpoint) -> bool:
        """Whether a host that has just refused a write is a reader, or gone. What it said before proves nothing.

        Applications that write where they must not get the same refusal again and again: so it waits until the host
        was not asked for ASK_AGAIN, unless another one is told meanwhile.
        """
        refused_at = time.monotonic()

        def heard() -> Observation | None:
            seen = self._view.members[endpoint]
            return seen if seen is not None and seen.at >= refused_at else None

        with self._changed:
            before = self._view.members[endpoint]
            if before is not None and before.role is Role.READ_WRITE:
                self._changed.wait_for(heard, before.at + ASK_AGAIN - refused_at)
        if heard() is None:
            self.hear(login, endpoint)
        seen = heard()
        while seen is not None and seen.role is Role.READ_WRITE:
            if time.monotonic() - refused_at >= self._engine.admits_late:
                return False
            time.sleep(ADMITS_AGAIN)
            self.hear(login, endpoint)
            seen = heard()
        return seen is not None

    def _take_refusal(self, login: Any, endpoint: Endpoint, asked_at: float, failed: OpenFailed) -> None:
        with self._changed:
            if failed.refusal is Refusal.PERMANENT:
                self._refused[login, endpoint] = asked_at, failed
            if self._doubted == endpoint:
                self._doubted = None
            self._changed.notify_all()

    def writer(self, login: Any, deadline: float) -> Endpoint:
        """The writer; waits for one until `deadline` (monotonic seconds).

        Raises OpenFailed: with NoWriterAvailable where none was found in time, and at once with the server's error
        where a host refuses this login for good and none has taken it.
        """
        writer = self._view.writer
        if writer is not None and writer != self._doubted:
            return writer
        started = time.monotonic()
        with self._changed:
            try:
                self._waiting.append(login)
                while True:
                    before, now = self._view, time.monotonic()
                    view = settled(before, now)
                    if view is not before:
                        self._take_locked(view)
                    if view.writer is not None and view.writer != self._doubted:
                        writer = view.writer
                        break
                    self._check_refused_locked(login, started, now)
                    if self._is_closed:
                        closed = self._engine.error(errors.ProxyClosed, "the proxy is closed; nothing was sent")
                        raise OpenFailed(closed, Refusal.PERMANENT)
                    if now >= deadline:
                        raise OpenFailed(self._no_writer(now - started), Refusal.TRANSIENT)
                    self._ask_all_locked()
                    hold = view.candidate_since + HOLD if view.candidate is not None else deadline
                    self._changed.wait(max(0.001, min(hold, deadline, now + ASK_AGAIN) - now))
            finally:
                with suppress(ValueError):  # an interrupt fell before it was added
                    self._waiting.remove(login)
        if view.generation != before.generation:
            self._retire()
        return writer

    def _check_refused_locked(self, login: Any, started: float, now: float) -> None:
        """Raise what a host has against this login, where none has taken it, and no other is still to be heard."""
        members = self._view.members
        since = started - REFUSED_SECONDS  # for which it is not asked again
        refused = {endpoint: self._refused.get((login, endpoint), (-math.inf, None)) for endpoint in members}
        at, failed = max(refused.values(), key=lambda refusal: refusal[0])
        heard = [seen for seen in members.values() if seen is not None and seen.at >= started]
        if failed is None or at < since or any(seen.role is not Role.UNKNOWN for seen in heard):
            return
        answered = {seen.endpoint for seen in heard} | {each for each in members if refused[each][0] >= since}
        if len(answered) == len(members) or now - at >= OTHERS_SECONDS:
            for endpoint in members:
                self._refused.pop((login, endpoint), None)  # who comes again is asked about again
            raise failed

    def _no_writer(self, waited: float) -> Exception:
        heard = "; ".join(
            f"{endpoint}: {'not asked' if seen is None else seen.error or seen.role.value}"
            for endpoint, seen in self._view.members.items()
        )
        return self._engine.error(
            errors.NoWriterAvailable, f"no host was the writer for {waited:.1f} s ({heard}); nothing was sent"
        )

    def _ask_all_locked(self) -> None:
        self._start_asking_locked(self._view.members.keys(), self._ask_on)

    def _start_asking_locked(self, endpoints: Iterable[Endpoint], ask: Callable[[Endpoint], None]) -> None:
        for endpoint in set(endpoints) - self._asked:
            name = f"rdsproxy-ask-{endpoint}"
            try:
                threading.Thread(target=ask, args=(endpoint,), name=name, daemon=True).start()
            except RuntimeError:  # no more threads just now: at the next turn
                logger.warning("no thread could be started to ask %s who it is", endpoint)
            else:
                self._asked.add(endpoint)  # before its first look around, for which it waits for the lock

    def _ask_on(self, endpoint: Endpoint) -> None:
        """Ask a host again and again, while somebody waits for a writer. Not too often with a login that it refuses."""
        turn, pause = 0, REFUSED_SECONDS
        while True:
            began = time.monotonic()
            with self._changed:
                is_over = self._view.writer is not None and self._doubted is None
                if is_over or not self._waiting or self._is_closed:
                    self._asked.discard(endpoint)
                    return
                login = self._waiting[turn % len(self._waiting)]
                at, _ = self._refused.get((login, endpoint), (-pause, None))
            turn += 1
            if began - at >= pause:
                try:
                    self.hear(login, endpoint)
                except Exception:
                    logger.exception("asking %s who it is failed", endpoint)
                if self._refused.get((login, endpoint), (-1.0, None))[0] >= began:
                    pause = min(pause * 2, 10.0) if at >= 0 else pause
            time.sleep(max(0.0, began + ASK_AGAIN - time.monotonic()))

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def after_fork(self) -> None:
        """In a forked child: its threads and those who waited are the parent's."""
        self._start_anew()


class WriterOpener:
    """Opens backends on the writer, for the pool."""

    def __init__(self, engine: HostOpener, cluster: Cluster, patience: float) -> None:
        """`patience` is how long, in seconds, one host may take to let somebody in."""
        self._engine = engine
        self._cluster = cluster
        self._patience = patience
        self.close = engine.close
        self.abandon = engine.abandon
        self.hang_up = engine.hang_up
        self.is_alive = engine.is_alive
        self.error = engine.error

    def open(self, login: Any, timeout: float) -> Any:
        """A backend on a host that said on this very connection that it is the writer. Raises OpenFailed."""
        deadline = time.monotonic() + timeout
        while True:
            endpoint = self._cluster.writer(login, min(deadline, time.monotonic() + SEARCH_SECONDS))
            generation = self._cluster.view.generation
            asked_at = time.monotonic()
            try:
                backend = self._engine.open_at(login, max(0.001, min(deadline - asked_at, self._patience)), endpoint)
            except OpenFailed as failed:
                if failed.refusal is not Refusal.TRANSIENT:
                    raise
                self._cluster.miss(endpoint, str(failed))
                if time.monotonic() >= deadline:
                    raise
                continue
            try:
                role, epoch = self._engine.role_of(backend, self._patience)
            except Exception as error:
                self._engine.close(backend)
                self._cluster.miss(endpoint, str(error))
                continue
            except BaseException:
                self._engine.close(backend)
                raise
            self._cluster.report(Observation(endpoint, asked_at, role, epoch))
            if role is Role.READ_WRITE and self._cluster.view.generation == generation:
                backend.endpoint = endpoint
                return backend
            self._engine.close(backend)
