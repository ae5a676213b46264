"""Finds hosts that have fallen silent while statements wait for them, and cuts those statements.

One thread for each Proxy looks at what waits; it does no I/O of its own, so that no host can delay another one's
verdict. A host that is suspected is asked by a thread that ends with the suspicion, on one connection that is kept
meanwhile. What follows from what is seen and answered is `detection.Detector`'s to decide.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import ref

from .backend import Backend, OpenFailed, Refusal
from .cluster import ASK_SECONDS, REFRESH_SECONDS, Cluster, HostOpener
from .config import Options
from .detection import Detector, Sight
from .pool import Pool
from .topology import Endpoint, Observation, Role

logger = logging.getLogger(__name__)

LONGEST_TICK = 1.0
"""Seconds between two looks at what waits, at most; else half the time between two questions."""
KEPT_SECONDS = 30.0
"""How long the connection by which a host was asked is kept when it is no longer suspected."""


class Host(NamedTuple):
    """A machine that database connections lead to: where a name leads to by now says nothing about it."""

    endpoint: Endpoint | None
    address: str

    def __str__(self) -> str:
        return " at ".join(filter(None, (str(self.endpoint or ""), self.address))) or "the host"


class Home(Protocol):
    """What the monitor needs of its proxy."""

    engine: Any
    options: Options
    cluster: Cluster | None

    @property
    def is_closed(self) -> bool: ...
    def pools(self) -> Iterable[Pool]: ...


@dataclass(frozen=True, slots=True)
class Counters:
    """What `stats()` tells of it."""

    connections: int = 0
    asked: int = 0
    unanswered: int = 0
    lost: int = 0


class Monitor:
    """The thread that looks after the hosts of a Proxy, which it does not keep alive. Safe for use from many threads.

    It is started when the first database connection is opened, and ends with the Proxy.
    """

    def __init__(self, home: Home) -> None:
        self._home = ref(home)
        self._engine: HostOpener = home.engine
        self._mode = home.options.monitor
        self._limits = home.options.detection
        self._tick = min(LONGEST_TICK, self._limits.interval / 2)
        self._start_anew()

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._detector = Detector(self._limits, self._tick)
        self._asked: set[Host] = set()
        """Hosts with a thread that asks them."""
        self._counters = Counters()

    def counters(self) -> Counters:
        return self._counters

    def _count(self, **more: int) -> None:
        with self._lock:
            now = self._counters
            self._counters = replace(now, **{name: getattr(now, name) + number for name, number in more.items()})

    # -- its life

    def note_opened(self, backend: Backend) -> None:
        """A database connection was opened: its host is alive, and has something to be looked after."""
        if self._thread is None and self._is_wanted():
            self._start()
        with self._lock:
            self._detector.alive(_host_of(backend), time.monotonic())

    def _is_wanted(self) -> bool:
        if self._mode != "auto":
            return bool(self._mode)
        home = self._home()
        has_several = home is not None and home.cluster is not None and len(home.cluster.view.members) > 1
        return has_several and "AWS_LAMBDA_FUNCTION_NAME" not in os.environ

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                thread = threading.Thread(target=self._watch, args=(self._stop,), name="rdsproxy-monitor", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads just now, or the program ends: at the next database connection
                    logger.warning("no thread could be started to look after the hosts")
                else:
                    self._thread = thread

    def close(self) -> None:
        """Let its threads end, within seconds; without waiting for them."""
        self._stop.set()

    def after_fork(self) -> None:
        """In a forked child: the threads are the parent's. The child's own begins with its first connection."""
        is_over = self._stop.is_set()
        self._start_anew()
        if is_over:
            self._stop.set()

    # -- looking

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(self._tick):
            home = self._home()
            if home is None or home.is_closed:
                stop.set()
                return
            try:
                self._look(home, stop)
            except Exception:
                logger.exception("looking after the hosts failed; it goes on")
            del home  # it may be dropped while this thread sleeps

    def _look(self, home: Home, stop: threading.Event) -> None:
        backends = {backend: is_idle for pool in home.pools() for backend, is_idle in pool.backends()}
        hosts = {_host_of(backend): backend.login for backend in backends}
        cluster = home.cluster
        unheard: list[Host] = []
        if cluster is not None and backends:
            cluster.refresh(next(iter(backends)).login, REFRESH_SECONDS, cluster.view.members)
            members = cluster.view.members
            silent = {endpoint for endpoint, seen in members.items() if seen is not None and seen.role is Role.UNKNOWN}
            unheard = [host for host in hosts if host.endpoint in silent]
        sights = [_sight_of(backend, is_idle=is_idle) for backend, is_idle in backends.items()]
        with self._lock:
            verdict = self._detector.look(sights, time.monotonic(), unheard)
        for host in hosts.keys() & verdict.suspects:
            self._begin_asking(host, hosts[host], stop)
        for host in hosts.keys() & set(verdict.lost):
            self._lose(home, host)
        for backend in backends:
            if ref(backend) in verdict.cut and _sight_of(backend).is_waiting:
                self._engine.hang_up(backend)

    def _lose(self, home: Home, host: Host) -> None:
        """Nobody is to wait for this host any longer: who waits is cut, and it is not lent again what leads there."""
        why = f"it was silent for {self._limits.silence:.1f} s while it was asked again and again"
        logger.warning("%s is lost: %s", host, why)
        self._count(lost=1)
        if home.cluster is not None and host.endpoint is not None:
            home.cluster.miss(host.endpoint, why)
        for pool in home.pools():
            pool.retire_those(lambda backend: _host_of(backend) == host)

    # -- asking

    def _begin_asking(self, host: Host, login: Any, stop: threading.Event) -> None:
        with self._lock:
            if host in self._asked:
                return
            thread = threading.Thread(
                target=self._ask_on, args=(host, login, stop), name=f"rdsproxy-probe-{host}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads just now: at the next look
                logger.warning("no thread could be started to ask whether %s is there", host)
            else:
                self._asked.add(host)  # before its first look around, for which it waits for the lock

    def _ask_on(self, host: Host, login: Any, stop: threading.Event) -> None:
        """Ask a host again and again, while it is suspected."""
        link: Any = None
        needed_at = time.monotonic()
        try:
            while True:
                began = time.monotonic()
                with self._lock:
                    is_suspect = self._detector.is_suspect(host)
                    needed_at = began if is_suspect else needed_at
                    if stop.is_set() or began - needed_at >= KEPT_SECONDS:
                        self._asked.discard(host)
                        self._detector.answered(host)  # nothing is known of it any more
                        return
                if is_suspect:
                    link = self._ask(host, login, link)
                pause = self._limits.interval if is_suspect else self._tick
                stop.wait(max(0.0, began + pause - time.monotonic()))
        finally:
            if link is not None:
                self._hang_up(link)

    def _ask(self, host: Host, login: Any, link: Any) -> Any:
        """Ask once; the connection to ask by the next time, if there is one."""

        def begin() -> None:
            with self._lock:
                self._detector.asked(host, time.monotonic())
            self._count(asked=1)

        began = time.monotonic()
        try:
            if link is None:
                link = self._engine.probe(login, ASK_SECONDS, host.endpoint, host.address, begin)
                self._count(connections=1)
            else:
                begin()
            answer = self._engine.role_of(link, self._limits.interval)
        except OpenFailed as failed:
            if failed.refusal is Refusal.LATER and not failed.is_answer:
                return None  # nobody was asked: nothing is known
            # What is refused was heard; and where the credentials could not be had, nobody was asked.
            self._note_answer(host, is_answer=failed.is_answer or failed.refusal is not Refusal.TRANSIENT)
            return None
        except Exception as error:
            is_answer = link is not None and not link.is_dead()
            logger.debug("asking whether %s is there brought an error: %s", host, type(error).__name__)
            self._note_answer(host, is_answer=is_answer)
            if is_answer:
                return link
            if link is not None:
                self._hang_up(link)
            return None
        self._note_answer(host, is_answer=True)
        home = self._home()
        if home is not None and home.cluster is not None and host.endpoint is not None:
            home.cluster.report(Observation(host.endpoint, began, answer.role, answer.epoch, lag=answer.lag))
        return link

    def _note_answer(self, host: Host, *, is_answer: bool) -> None:
        with self._lock:
            (self._detector.answered if is_answer else self._detector.unanswered)(host)
        if not is_answer:
            self._count(unanswered=1)

    def _hang_up(self, link: Any) -> None:
        self._engine.close(link)
        self._count(connections=-1)


def _host_of(backend: Backend) -> Host:
    return Host(backend.endpoint, backend.address)


def _sight_of(backend: Backend, *, is_idle: bool = False) -> Sight:
    """What can be seen of a backend: attributes that other threads write, so that it may be late by a moment.

    Who waits on one that is lent is its session, or a command of ours on its behalf: it has no owner then.
    """
    sight = partial(Sight, ref(backend), _host_of(backend), backend.statements)
    if is_idle or (owner := backend.owner) is None:
        return sight(not is_idle)
    connection = owner()
    if connection is None or connection._rdsproxy.backend is not backend:
        return sight(False)
    return sight(connection._rdsproxy_is_waiting, connection._rdsproxy_is_patient)
