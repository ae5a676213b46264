"""The hosts of a proxy that has several: asks them who is the writer, and opens database connections there.

Where there is no writer, each host is asked by a thread of its own, every 100 ms for as long as somebody waits: one
that does not answer keeps nobody from hearing another. While there is one, hosts are asked now and then on behalf of
the monitor, and of sessions that read.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from . import errors
from .backend import Opener, OpenFailed, Refusal
from .endpoint_names import parsed
from .topology import HOLD, Answer, Endpoint, Listed, Observation, Role, View, begun, claims, listed, settled, updated

logger = logging.getLogger(__name__)

ASK_SECONDS = 5.0
"""How long a host may take to say who it is."""
ASK_AGAIN = 0.1
"""Seconds between two questions to the same host, while there is no writer."""
REFUSED_SECONDS, OTHERS_SECONDS = 1.0, 0.5
"""How long a host that refused a login for good is left alone with it, doubled each time; and how long the others have
to answer before the refusal is passed on."""
REFRESH_SECONDS = 30.0
"""How old a list of the hosts may be when a database connection is opened; with the monitor, what a host said."""
HEARD_LATELY = 30.0
"""Seconds for which a host that is away, or a reader, is taken for that by a first `connect()`: no statement waits."""
LIST_SECONDS = 1.0
"""A question for the hosts that died after this time was not answered: it is not put to the next connection at once."""
ADMITS_AGAIN = 0.02
"""Seconds between two questions to a host that has refused a write, and does not say yet that it takes none."""
SEARCH_SECONDS = 1.0
"""How long one search lasts: after it, who waits looks whether another one's connection has come free."""


class HostOpener(Opener, Protocol):
    """What is needed of an engine where there are several hosts, beside what the pool needs of it."""

    to_list_hosts: str
    """What has to be granted before a cluster lists its hosts; for people."""
    admits_late: float
    """Seconds for which a server may refuse writes and still say, when it is asked, that it takes them."""

    def open_at(self, login: Any, timeout: float, endpoint: Endpoint) -> Any:
        """As `open`, on this host."""

    def role_of(self, backend: Any, timeout: float = ...) -> Answer:
        """What its host says of itself (see topology), without the hosts it knows. Raises the driver's errors.

        `timeout` of each question is in seconds, 5 by default; where it passes, the backend is closed.
        """

    def members_of(self, backend: Any) -> tuple[Listed, ...]:
        """The hosts that its host lists; empty where it has no list, or not for this user, which is logged once."""

    def ask(self, login: Any, timeout: float, endpoint: Endpoint) -> Answer:
        """Both of any host, on a connection that is closed again. Raises OpenFailed."""

    def probe(
        self, login: Any, timeout: float, endpoint: Endpoint | None, address: str, begin: Callable[[], None]
    ) -> Any:
        """A connection outside of the pool that was logged in, and no more, to the machine of this address.

        `begin` is called when the credentials are there, and the host is about to be spoken to. Raises OpenFailed.
        """


def asked(engine: HostOpener, login: Any, timeout: float, endpoint: Endpoint, backend: Any = None) -> Answer:
    """What a host says of itself; where it is full, on `backend`, an idle one there, if there is one.

    Raises OpenFailed.
    """
    try:
        return engine.ask(login, timeout, endpoint)
    except OpenFailed as failed:
        if backend is None or failed.refusal is not Refusal.FULL:
            raise
        owner, backend.owner = backend.owner, None  # what the server says to it is nobody's
        try:
            return engine.role_of(backend, timeout)
        except Exception as error:
            logger.info("%s is full, and did not say on an open connection who it is: %s", endpoint, error)
            raise failed from None
        finally:
            backend.owner = owner


class Cluster:
    """The present view of the hosts, and the search for a writer. Safe for use from many threads."""

    def __init__(
        self,
        engine: HostOpener,
        endpoints: Sequence[Endpoint],
        retire: Callable[[], None],
        seeds: Sequence[Endpoint] = (),
    ) -> None:
        """`retire` is called when there is another writer than before, with no lock of this held.

        `seeds` are names of a cluster, which is asked for its hosts: then these count, in place of `endpoints`.
        """
        self._engine = engine
        self._retire = retire
        self.left: Callable[[], None] | None = None
        """Called when hosts were left out by a list, with no lock of this held."""
        self._view = begun(endpoints, seeds)
        self._listed_at = -math.inf
        self._left_out: set[str] = set()
        """Names in lists that none can have."""
        self._is_closed = False
        self._start_anew()

    def _start_anew(self) -> None:
        # Entered itself, and not by the condition, whose `with` is Python: an interrupt there would leave it held.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting: list[tuple[float, Any]] = []
        """Until when somebody waits for a writer, or a reader, and his login. What an interrupt left here ends then."""
        self._asked: set[Endpoint] = set()
        """Hosts with a thread that asks them."""
        self._refused: dict[tuple[Any, Endpoint], tuple[float, OpenFailed]] = {}
        """Which host refused which login for good, and when."""
        self._not_asked: dict[Endpoint, str] = {}
        """Why a host could not be asked, the last time: there was nothing to log in with."""
        self._refreshed: dict[Endpoint, float] = {}
        """When each host was asked last though nobody waited for a writer."""
        self._doubted: Endpoint | None = None
        """The writer, where a connection to it died: it is asked before another one is opened there."""
        self._drained: frozenset[Endpoint] = frozenset()
        """Hosts that get no work, whatever they are."""

    @property
    def view(self) -> View:
        return self._view

    def report(self, seen: Observation) -> None:
        """Take in what a host said, or that it did not."""
        with self._lock:
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
        with self._lock:
            if endpoint == self._view.writer:
                self._doubted = endpoint

    def hear(self, login: Any, endpoint: Endpoint, timeout: float = ASK_SECONDS, backend: Any = None) -> Role:
        """Ask one host now. `backend` is an idle one there, which is asked itself where the host is full."""
        asked_at = time.monotonic()
        try:
            answer = asked(self._engine, login, timeout, endpoint, backend)
        except OpenFailed as failed:
            if self.is_missed(login, endpoint, failed):
                self.report(Observation(endpoint, asked_at, error=str(failed)))
            else:  # it is there: what it was is what it is
                self._take_refusal(login, endpoint, asked_at, failed)
            return Role.UNKNOWN
        self.report(Observation(endpoint, asked_at, answer.role, answer.epoch, lag=answer.lag))
        if answer.hosts is not None:
            self.take_list(endpoint, answer.hosts, asked_at)
        return answer.role

    def is_missed(self, login: Any, endpoint: Endpoint, failed: OpenFailed) -> bool:
        """Whether a host that refused a login has to be heard again before it counts as the writer.

        So has one that did not answer. A writer that is full is there, but does not say whether it is the writer still:
        it has, where another host says lately that it is. The others are asked, for the next time.
        """
        view, now = self._view, time.monotonic()
        if failed.refusal is not Refusal.FULL or endpoint != view.writer:
            return failed.refusal is Refusal.TRANSIENT
        self.refresh(login, REFUSED_SECONDS, view.members.keys() - {endpoint})
        others = [seen for seen in view.members.values() if seen is not None and seen.endpoint != endpoint]
        return any(
            seen.role is Role.READ_WRITE and seen.epoch >= view.epoch and now - seen.at < ASK_SECONDS for seen in others
        )

    def refresh_list(self, backend: Any, endpoint: Endpoint) -> None:
        """Ask a backend that was just opened for the hosts, if the last list is old.

        Raises the driver's error where the backend died of it.
        """
        now = time.monotonic()
        if not self._view.seeds or now - self._listed_at <= REFRESH_SECONDS:
            return
        try:
            hosts = self._engine.members_of(backend)
        except Exception as error:
            is_alive = self._engine.is_alive(backend, 0.0)
            if is_alive or self._view.members or time.monotonic() - now >= LIST_SECONDS:
                self._listed_at = now  # not with each connection; else it broke off just now, and none is known yet
            if not is_alive:
                raise
            logger.warning("%s could not be asked for the hosts of its cluster: %s", endpoint, error)
        else:
            if hosts:  # else it is not this user who is told
                self.take_list(endpoint, hosts, now)

    def take_list(self, teller: Endpoint, hosts: Sequence[Listed], at: float) -> None:
        """Take in which hosts another one listed, at `at`; nothing where they were all named at the start."""
        seed = next(iter(self._view.seeds), None)
        if seed is None:
            return
        lags: dict[Endpoint, float | None] = {}
        for host in hosts:
            try:
                name = parsed(seed.host).instance(host.name)
            except ValueError as error:
                if host.name not in self._left_out:
                    self._left_out.add(host.name)
                    logger.warning("%s lists a host that is left out: %s", teller, error)
            else:
                lags[Endpoint(name, host.port or seed.port)] = host.lag
        with self._lock:
            before = self._view
            view = listed(before, teller, lags, at, time.monotonic())
            if lags:
                self._listed_at = max(self._listed_at, at)
            if view is not before:
                self._take_locked(view)
            gone = before.members.keys() - view.hosts.keys()
            if gone:
                self._forget_locked(gone)
        if gone and self.left is not None:
            self.left()
        if view.members.keys() != before.members.keys() and lags:
            logger.info("the hosts of %s are %s", seed, ", ".join(map(str, view.members)))
        elif view.members.keys() != before.members.keys():
            logger.warning(
                "%s is a cluster's name that lists no hosts, and is used as one host; to have them listed, %s",
                seed,
                self._engine.to_list_hosts,
            )
        if view.generation != before.generation:
            self._retire()

    def _forget_locked(self, gone: Set[Endpoint]) -> None:
        for endpoint in gone:
            self._not_asked.pop(endpoint, None)
            self._refreshed.pop(endpoint, None)
        self._refused = {key: refused for key, refused in self._refused.items() if key[1] not in gone}

    def refresh(self, login: Any, age: float, endpoints: Iterable[Endpoint]) -> None:
        """Ask each of these hosts, in a thread of its own, that was not heard or so asked for `age` seconds."""
        with self._lock:
            now = time.monotonic()
            for endpoint in endpoints:
                seen = self._view.members.get(endpoint)
                asked_at = max(self._refreshed.get(endpoint, -math.inf), -math.inf if seen is None else seen.at)
                if asked_at < now - age and not self._is_closed:
                    self._refreshed[endpoint] = now  # one that refuses this login is asked no more often
                    self._ask_locked(endpoint, self._ask_once, login, endpoint)

    def has_stepped_down(self, refused: Any, *, is_idle: bool) -> bool:
        """Whether a host that has just refused a write is a reader, or gone. What it said before proves nothing.

        `refused` is the backend of that write; `is_idle`: it may be asked itself, as nothing is open on it.
        Applications that write where they must not get the same refusal again and again: so it waits until the host
        was not asked for ASK_AGAIN, unless another one is told meanwhile.
        """
        login, endpoint = refused.login, refused.endpoint
        ask = partial(self.hear, login, endpoint, backend=refused if is_idle else None)
        refused_at = time.monotonic()

        def heard() -> Observation | None:
            seen = self._view.members.get(endpoint)
            return seen if seen is not None and seen.at >= refused_at else None

        with self._lock:
            before = self._view.members.get(endpoint)
            if before is not None and before.role is Role.READ_WRITE:
                self._changed.wait_for(heard, before.at + ASK_AGAIN - refused_at)
        if heard() is None:
            ask()
        seen = heard()
        while seen is not None and seen.role is Role.READ_WRITE:
            if time.monotonic() - refused_at >= self._engine.admits_late:
                return False
            time.sleep(ADMITS_AGAIN)
            ask()
            seen = heard()
        return seen is not None

    def _take_refusal(self, login: Any, endpoint: Endpoint, asked_at: float, failed: OpenFailed) -> None:
        with self._lock:
            if failed.refusal is Refusal.PERMANENT:
                self._refused[login, endpoint] = asked_at, failed
            if failed.refusal is Refusal.LATER:
                self._not_asked[endpoint] = str(failed)
            if self._doubted == endpoint and (failed.is_answer or failed.refusal is not Refusal.LATER):
                self._doubted = None
            self._changed.notify_all()

    def drain(self, endpoint: Endpoint) -> None:
        """Give this host no work, also if it is the writer, until `allow`."""
        with self._lock:
            self._drained |= {endpoint}

    def allow(self, endpoint: Endpoint) -> None:
        """End `drain`."""
        with self._lock:
            self._drained -= {endpoint}
            self._changed.notify_all()

    @property
    def drained(self) -> frozenset[Endpoint]:
        """The hosts that get no work."""
        return self._drained

    def writer(self, login: Any, deadline: float, *, is_check: bool = False) -> Endpoint:
        """The writer; waits for one until `deadline` (monotonic seconds). A check waits only while one may be found.

        Raises OpenFailed: with NoWriterAvailable where none was found in time, and at once with the server's error
        where a host refuses this login for good and none has taken it.
        """
        writer = self._ready(self._view)
        if writer is not None:
            return writer
        return self._search(login, deadline, self._ready, errors.NoWriterAvailable, "the writer", is_check=is_check)

    def reader(self, login: Any, deadline: float, is_wanted: Callable[[Endpoint], bool]) -> Endpoint:
        """One of the wanted hosts that says, from now on, that it is a reader; waits for one until `deadline`.

        Raises OpenFailed as `writer` does, with BorrowTimeout where none was found in time.
        """
        started = time.monotonic()

        def find(view: View) -> Endpoint | None:
            for endpoint, seen in view.members.items():
                is_reader = seen is not None and seen.at >= started and seen.role is Role.READ_ONLY
                if is_reader and endpoint not in self._drained and is_wanted(endpoint):
                    return endpoint
            return None

        return self._search(login, deadline, find, errors.BorrowTimeout, "a reader")

    def _ready(self, view: View) -> Endpoint | None:
        """The writer, where connections may be opened to it."""
        return None if view.writer == self._doubted or view.writer in self._drained else view.writer

    def _search(
        self,
        login: Any,
        deadline: float,
        find: Callable[[View], Endpoint | None],
        kind: type[errors.Error],
        what: str,
        *,
        is_check: bool = False,
    ) -> Endpoint:
        """Have all hosts asked until there is one."""
        started = time.monotonic()
        waiting = deadline, login
        try:
            with self._lock:
                self._waiting.append(waiting)
            while True:
                self._settle()
                with self._lock:
                    view, now = self._view, time.monotonic()
                    if (found := find(view)) is not None:
                        return found
                    self._check_refused_locked(login, started, now)
                    if self._is_closed:
                        closed = self._engine.error(errors.ProxyClosed, "the proxy is closed; nothing was sent")
                        raise OpenFailed(closed, Refusal.PERMANENT)
                    if now >= deadline or (is_check and self._is_hopeless_locked(now)):
                        raise OpenFailed(self._nobody(kind, what, now - started), Refusal.TRANSIENT)
                    self._ask_all_locked()
                    hold = view.candidate_since + HOLD if view.candidate is not None else deadline
                    self._changed.wait(max(0.001, min(hold, deadline, now + ASK_AGAIN) - now))
        finally:
            with self._lock, suppress(ValueError):  # an interrupt fell before it was added, or its time is over
                self._waiting.remove(waiting)

    def _settle(self) -> None:
        """A claim that nobody contradicted for long enough counts; whoever waits, and for what, sees to it."""
        with self._lock:
            before = self._view
            view = settled(before, time.monotonic())
            if view is not before:
                self._take_locked(view)
        if view.generation != before.generation:
            self._retire()

    def _check_refused_locked(self, login: Any, started: float, now: float) -> None:
        """Raise what a host has against this login, where none has taken it, and no other is still to be heard."""
        members = self._view.hosts
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

    def _is_hopeless_locked(self, now: float) -> bool:
        """Whether each host was heard lately, and none of those that may get work claims to be the writer."""
        return all(
            seen is not None
            and now - seen.at < HEARD_LATELY
            and (seen.role is not Role.READ_WRITE or endpoint in self._drained)
            for endpoint, seen in (self._view.members or self._view.seeds).items()
        )

    def _nobody(self, kind: type[errors.Error], what: str, waited: float) -> Exception:
        heard = "; ".join(
            f"{endpoint}: "
            + (self._not_asked.get(endpoint, "not asked") if seen is None else seen.error or seen.role.value)
            + (", drained" if endpoint in self._drained else "")
            for endpoint, seen in self._view.hosts.items()
        )
        rivals = [str(claim.endpoint) for claim in claims(self._view)] if self._view.writer is None else []
        if len(rivals) > 1:
            heard += f"; {' and '.join(rivals)} claim to be it at once: name each server once, and let one take writes"
        return self._engine.error(kind, f"no host was {what} for {waited:.1f} s ({heard}); nothing was sent")

    def await_change(self, until: float) -> None:
        """Wait until anything is heard, or until then (monotonic seconds)."""
        with self._lock:
            self._changed.wait(max(0.0, until - time.monotonic()))

    def _ask_once(self, login: Any, endpoint: Endpoint) -> None:
        try:
            self._hear_quietly(login, endpoint)
        finally:
            with self._lock:
                self._asked.discard(endpoint)

    def _ask_all_locked(self) -> None:
        for endpoint in self._view.hosts:
            self._ask_locked(endpoint, self._ask_on, endpoint)

    def _ask_locked(self, endpoint: Endpoint, ask: Callable[..., None], *arguments: Any) -> None:
        """Start a thread that asks a host, if none does."""
        if endpoint in self._asked:
            return
        name = f"rdsproxy-ask-{endpoint}"
        try:
            threading.Thread(target=ask, args=arguments, name=name, daemon=True).start()
        except RuntimeError:  # no more threads just now: at the next turn
            logger.warning("no thread could be started to ask %s who it is", endpoint)
        else:
            self._asked.add(endpoint)  # before its first look around, for which it waits for the lock

    def _ask_on(self, endpoint: Endpoint) -> None:
        """Ask a host again and again, while somebody waits for one. Not too often with a login that it refuses."""
        turn, pause = 0, REFUSED_SECONDS
        while True:
            began = time.monotonic()
            with self._lock:
                self._waiting = [each for each in self._waiting if each[0] > began]
                if not self._waiting or self._is_closed or endpoint not in self._view.hosts:
                    self._asked.discard(endpoint)
                    return
                _, login = self._waiting[turn % len(self._waiting)]
                at, _ = self._refused.get((login, endpoint), (-pause, None))
            turn += 1
            if began - at >= pause:
                self._hear_quietly(login, endpoint)
                if self._refused.get((login, endpoint), (-1.0, None))[0] >= began:
                    pause = min(pause * 2, 10.0) if at >= 0 else pause
            time.sleep(max(0.0, began + ASK_AGAIN - time.monotonic()))

    def hear_all(self, login: Any, timeout: float) -> None:
        """Ask every host now, and wait for the answers, for `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        asking = []
        for endpoint in self._view.hosts:
            thread = threading.Thread(
                target=self._hear_quietly, args=(login, endpoint), name=f"rdsproxy-hear-{endpoint}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                logger.warning("no thread could be started to ask %s who it is", endpoint)
            else:
                asking.append(thread)
        for thread in asking:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _hear_quietly(self, login: Any, endpoint: Endpoint) -> None:
        try:
            self.hear(login, endpoint)
        except Exception:
            logger.exception("asking %s who it is failed", endpoint)

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._lock:
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
                if not self._cluster.is_missed(login, endpoint, failed):
                    raise
                self._cluster.miss(endpoint, str(failed))
                if time.monotonic() >= deadline:
                    raise
                continue
            try:
                answer = self._engine.role_of(backend, self._patience)
                seen = Observation(endpoint, asked_at, answer.role, answer.epoch, lag=answer.lag)
                self._cluster.report(seen)
                try:
                    self._cluster.refresh_list(backend, endpoint)
                except Exception:  # it has said before who it is
                    self._engine.close(backend)
                    continue
            except Exception as error:
                self._engine.close(backend)
                self._cluster.miss(endpoint, str(error))
                continue
            except BaseException:
                self._engine.close(backend)
                raise
            is_drained = endpoint in self._cluster.drained
            is_same = self._cluster.view.generation == generation
            if seen.role is Role.READ_WRITE and is_same and not is_drained:
                backend.endpoint = endpoint
                return backend
            self._engine.close(backend)
