"""The readers of a cluster: which one a session reads from, and whether it has what the session must find there.

A pool for each reader. A session stays with its reader. Where that one is lost, or too far behind, it moves to the one
with the fewest borrowed connections that is neither; where there is none, it waits for one, or goes to the writer.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from . import errors
from .backend import OpenFailed, Refusal, Way
from .cluster import Cluster
from .pool import HostGone, Pool
from .reading import EVERYTHING, Reading, Side
from .settings import Settings
from .topology import Endpoint, Observation, Role

logger = logging.getLogger(__name__)

REST_SECONDS = 1.0
"""For how long a reader that was lost is left alone while there are others."""
DIAL_SECONDS = 3.0
"""The longest that one attempt to connect to a reader may take, while there are others."""
LAG_SECONDS = 1.0
"""How often a reader is asked for its lag, where that counts."""
EITHER_SECONDS = 0.5
"""How long a read waits for a database connection of its reader, where the writer may answer as well."""
CATCH_UP_SECONDS = 0.1
"""How long a read waits for its reader to get to the session's last write."""
BEHIND_SECONDS = 0.25
"""For how long nobody waits again for a reader that did not get there."""
SUSPECTS_SECONDS = 60.0
"""How long it holds which relations may call more than a text shows."""
WRITER_SECONDS = 1.0
"""How long the writer may take to say where it is, when a session that lost its reader moves to another one."""

_ALL = frozenset({EVERYTHING})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A host that may be read from."""

    endpoint: Endpoint
    role: Role | None
    """None: it was not asked yet."""
    load: int
    """Database connections that are borrowed there, and who waits for one."""
    rests_until: float = 0.0
    """Until when it is left alone (monotonic seconds)."""


def chosen(candidates: Collection[Candidate], stays_with: Endpoint | None, now: float) -> Endpoint | None:
    """The reader a session goes to: its own while that is one, else the one with the least to do; None where none is.

    One that was never heard comes last.
    """
    usable = [each for each in candidates if each.role in (Role.READ_ONLY, None) and now >= each.rests_until]
    if any(each.endpoint == stays_with for each in usable):
        return stays_with
    best = min(usable, key=lambda each: (each.role is None, each.load), default=None)
    return None if best is None else best.endpoint


def is_named(endpoint: Endpoint, name: str) -> bool:
    """Whether this is the name of a host, with its port or without."""
    return name in (str(endpoint), endpoint.host)


class Reader(Protocol):
    """What is needed of an engine to read from replicas, beside what a cluster needs of it."""

    shows_by_role: bool
    """Whether a session's role decides which views `suspects` looks at."""
    tells_writes: bool
    """Whether it comes with a transaction's answers what was written, so that `written` asks nothing."""

    def written(self, backend: Any) -> Any:
        """The position of the last transaction on this writer, or any later one; ``""`` where it wrote nothing, None
        where the server has no positions."""

    def position(self, backend: Any) -> Any:
        """The position of all that was written on this writer until now; None where the server has none."""

    def joined(self, first: Any, second: Any) -> Any:
        """A position that is behind neither; None where that would be too long to keep."""

    def has_reached(self, backend: Any, position: Any, timeout: float) -> bool | None:
        """Whether this reader has all of that, waiting up to `timeout` seconds; None where it cannot say."""

    def lag(self, backend: Any) -> float | None:
        """By how many seconds this reader is behind its writer; None where it cannot say."""

    def staleness(self, backend: Any) -> float | None:
        """How many seconds old what this reader shows is at most; None where its lag is no proof of that."""

    def suspects(self, backend: Any) -> Collection[str] | None:
        """Names, lower case, by which a statement may call routines of users that its text does not show; None where
        this backend does not see them all."""


class ReaderOpener:
    """Opens backends on one reader, for its pool."""

    def __init__(self, engine: Any, cluster: Cluster, endpoint: Endpoint) -> None:
        self._engine: Any = engine
        self._cluster = cluster
        self._endpoint = endpoint

    def open(self, login: Any, timeout: float) -> Any:
        """A backend that said on this very connection that it reads only. Raises OpenFailed: GONE where it does not."""
        if self._endpoint in self._cluster.drained:
            raise OpenFailed(self._engine.error(errors.BorrowTimeout, f"{self._endpoint} is drained"), Refusal.GONE)
        asked_at = time.monotonic()
        try:
            backend = self._engine.open_at(login, min(timeout, DIAL_SECONDS), self._endpoint)
        except OpenFailed as failed:
            if failed.refusal is not Refusal.TRANSIENT:
                raise
            self._cluster.miss(self._endpoint, str(failed))
            raise OpenFailed(failed.error, Refusal.GONE) from None
        try:
            answer = self._engine.role_of(backend, DIAL_SECONDS)
        except Exception as error:
            self._engine.close(backend)
            self._cluster.miss(self._endpoint, str(error))
            raise OpenFailed(error, Refusal.GONE) from None
        except BaseException:
            self._engine.close(backend)
            raise
        self._cluster.report(Observation(self._endpoint, asked_at, answer.role, answer.epoch, lag=answer.lag))
        if answer.role is not Role.READ_ONLY:
            self._engine.close(backend)
            raise OpenFailed(self._engine.error(errors.BorrowTimeout, f"{self._endpoint} is no reader"), Refusal.GONE)
        backend.endpoint = self._endpoint
        return backend


class Standing:
    """What is known of one reader beside its role."""

    __slots__ = ("behind_until", "lag", "lag_at", "pool", "rests_until")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.rests_until = 0.0
        """It was lost just now."""
        self.behind_until = 0.0
        """It was too far behind for a session just now."""
        self.lag: float | None = None
        self.lag_at = -math.inf


class Readers:
    """The pools of some hosts, for reading. Safe for use from many threads."""

    def __init__(
        self,
        engine: Any,
        cluster: Cluster,
        make_pool: Callable[[Way], Pool],
        *,
        hosts: Collection[str] | None,
        writers: Pool,
        falls_back: bool,
        max_lag: float | None,
    ) -> None:
        """`hosts`: the names of those to read from, None for all; `writers` is the pool of the writer."""
        self.engine: Any = engine
        self.cluster = cluster
        self.writers = writers
        self._make_pool = make_pool
        self._hosts = hosts
        self._falls_back = falls_back
        self._max_lag = max_lag
        self._lock = threading.RLock()  # re-entrant: a finaliser that runs amid an operation may read as well
        self._standings: dict[Endpoint, Standing] = {}
        self._suspects: WeakKeyDictionary[Any, dict[Endpoint, tuple[frozenset[str], float]]] = WeakKeyDictionary()
        """By login, and so by database, and by reader: what was found, and when."""

    @property
    def generation(self) -> int:
        """That of the hosts (see topology)."""
        return self.cluster.view.generation

    def pools(self) -> list[Pool]:
        """Of all readers so far."""
        with self._lock:
            return [standing.pool for standing in list(self._standings.values())]

    def after_fork(self) -> None:
        """In a forked child, where another thread of the parent may have had the lock."""
        self._lock = threading.RLock()

    def retire(self) -> None:
        """There is another writer, or hosts have left: database connections for reading that lead there are closed."""
        view = self.cluster.view
        with self._lock:
            old = [
                standing.pool
                for endpoint, standing in list(self._standings.items())
                if endpoint == view.writer or endpoint not in view.members
            ]
        for pool in old:
            pool.retire()

    def rest(self, endpoint: Endpoint) -> None:
        """A reader was lost just now: others come first for a while."""
        # Without the lock, which this very thread may have: finalisers come here.
        standing = self._standings.get(endpoint)
        if standing is not None:
            standing.rests_until = time.monotonic() + REST_SECONDS

    def _standing(self, endpoint: Endpoint) -> Standing:
        with self._lock:
            standing = self._standings.get(endpoint)
            if standing is None:
                pool = self._make_pool(ReaderOpener(self.engine, self.cluster, endpoint))
                pool.begin_like(self.writers)
                standing = self._standings.setdefault(endpoint, Standing(pool))
            return standing

    def _is_ours(self, endpoint: Endpoint) -> bool:
        return self._hosts is None or any(is_named(endpoint, name) for name in self._hosts)

    def may_have_any(self) -> bool:
        """Whether a reader answered when it was last asked, or none was asked yet."""
        candidates = list(self._candidates())
        return not candidates or any(each.role in (Role.READ_ONLY, None) for each in candidates)

    def _candidates(self) -> Iterable[Candidate]:
        for endpoint, seen in self.cluster.view.members.items():
            if self._is_ours(endpoint) and endpoint not in self.cluster.drained:
                standing = self._standings.get(endpoint)
                role = None if seen is None else seen.role
                if standing is None:
                    yield Candidate(endpoint, role, 0)
                else:
                    occupancy = standing.pool.occupancy()
                    yield Candidate(endpoint, role, occupancy.borrowed + occupancy.waiting, standing.rests_until)

    def borrow(
        self, reading: Reading, login: Any, timeout: float, owner: Callable[[], Any] | None, wanted: Settings
    ) -> tuple[Pool, Any]:
        """A backend of a reader for this session, with its pool; of the writer where that is allowed, and none is fit.

        Raises as Pool.borrow does, and BorrowTimeout where no reader was fit within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        behind = reading.refusing(time.monotonic()) if reading.refused_until else set()
        while True:
            now = time.monotonic()
            candidates = [each for each in self._candidates() if each.endpoint not in behind]
            random.shuffle(candidates)  # of equal ones not always the same
            silent = [each.endpoint for each in candidates if each.role in (Role.UNKNOWN, None)]
            if silent:
                self.cluster.refresh(login, REST_SECONDS, silent)
            endpoint = chosen(candidates, reading.endpoint, now)
            if endpoint is None:
                if self._falls_back or reading.side is Side.EITHER:
                    break
                self._wait(login, deadline, timeout, is_behind=bool(behind))
                behind.clear()
                continue
            standing = self._standing(endpoint)
            try:
                patience = EITHER_SECONDS if reading.side is Side.EITHER else timeout
                backend: Any = standing.pool.borrow(login, min(patience, max(0.0, deadline - now)), owner, wanted)
            except HostGone:
                self.rest(endpoint)
                continue
            except Exception as error:
                if reading.side is not Side.EITHER or isinstance(error, errors.ProxyClosed):
                    raise
                logger.info("a reader could not be had, and the writer answers: %s", str(error))
                self.rest(endpoint)
                break
            try:
                is_fit = self._is_fit(reading, backend, standing)
                is_hiding = is_fit and reading.side is Side.EITHER and self._may_hide(reading, backend)
            except Exception as error:
                logger.info("a reader did not answer a question of ours: %s", str(error))
                if backend.is_dead() or not self.engine.says_cancelled(error):
                    standing.pool.discard(backend)
                    self.rest(endpoint)
                    continue
                is_fit = is_hiding = False  # by a limit of time that the session has set
            except BaseException:
                standing.pool.discard(backend)
                raise
            if is_fit and not is_hiding:
                reading.endpoint = endpoint
                return standing.pool, backend
            standing.pool.give_back(backend)
            if is_hiding:
                reading.side = Side.WRITER
                break
            behind.add(endpoint)
        return self.writers, self._borrow_writing(reading, login, deadline if timeout else None, owner, wanted)

    def _borrow_writing(
        self, reading: Reading, login: Any, deadline: float | None, owner: Callable[[], Any] | None, wanted: Settings
    ) -> Any:
        """A backend of the writer, which answers in a reader's place, after a look at what its catalogue says of this
        statement where that counts. Without a deadline it is an idle one, or none.
        """
        is_guest = not reading.splits
        is_asked = is_guest or (reading.side is Side.EITHER and reading.tracks and not self.engine.tells_writes)
        while True:
            left = 0.0 if deadline is None else max(0.05, deadline - time.monotonic())
            writing: Any = self.writers.borrow(login, left, owner, wanted)
            if not is_asked:
                return writing
            try:
                is_blind = self.engine.shows_by_role and "role" in wanted.values  # it is set later
                reading.suspects = _ALL if is_blind else self._suspects_on(reading, writing)
            except Exception as error:
                logger.info("the writer did not answer a question of ours: %s", str(error))
                reading.suspects = _ALL
                if is_dead := writing.is_dead():
                    self.writers.discard(writing)
                elif is_guest:
                    self.writers.give_back(writing)
                if is_guest and (not is_dead or (deadline is None or time.monotonic() >= deadline)):
                    raise  # it is told that, and not that it writes
                is_asked = is_guest
                if is_dead:
                    continue
            except BaseException:
                self.writers.discard(writing)
                raise
            # Else each read that the writer answers would put off the next one that a reader may answer.
            reading.only_reads = not is_guest and not reading.may_hide(reading.names)
            return writing

    def _wait(self, login: Any, deadline: float, timeout: float, *, is_behind: bool) -> None:
        """Until a reader was heard, or may have caught up. Raises where there is none in time."""
        if is_behind:
            self.cluster.await_change(min(deadline, time.monotonic() + BEHIND_SECONDS))
        else:
            try:
                found = self.cluster.reader(login, deadline, self._is_ours)
            except OpenFailed as failed:
                raise failed.error from failed.error.__cause__
            self._standing(found).rests_until = 0.0
        if time.monotonic() >= deadline:
            raise self.engine.error(
                errors.BorrowTimeout, f"no reader was near enough to the writer for {timeout:.1f} s; nothing was sent"
            )

    def _is_fit(self, reading: Reading, backend: Any, standing: Standing) -> bool:
        """Whether this reader may answer this session now."""
        now = time.monotonic()
        if self._max_lag is not None:
            if now - standing.lag_at >= LAG_SECONDS:
                standing.lag, standing.lag_at = self._ask(self.engine.lag, backend), now
            if standing.lag is None or standing.lag > self._max_lag:
                return False
        if reading.endpoint is not None and reading.endpoint != backend.endpoint and reading.tracks:
            # What it has read from another one, this one has to have as well.
            self._ask_writer(reading, backend.login)
            reading.endpoint = None
        if reading.is_unsure:  # of a write that was cut, or whose position could not be asked for
            self._ask_writer(reading, backend.login)
            if reading.is_unsure:
                return False
        if reading.endpoint == backend.endpoint and 0 < backend.serial <= reading.has_all:
            return True
        if reading.wrote_at and reading.noted_in != self.generation:  # what it wrote may be lost, and never be there
            self._ask_writer(reading, backend.login)
        return self._has_all(reading, backend, standing)

    def _has_all(self, reading: Reading, backend: Any, standing: Standing) -> bool:
        """Whether this reader has all that the session wrote, or found elsewhere."""
        has_reached: bool | None = True
        now = time.monotonic()
        if reading.wrote_at:
            has_reached = None
            if reading.position is not None:
                patience = CATCH_UP_SECONDS if now >= standing.behind_until else 0.0
                has_reached = self._ask(self.engine.has_reached, backend, reading.position, patience)
            if has_reached is None:  # is it younger than the write?
                age = self._ask(self.engine.staleness, backend)
                if age is None and reading.side is Side.READER:  # no proof, but it is not to ask the writer
                    age = self._ask(self.engine.lag, backend)
                has_reached = age is not None and now - age > reading.wrote_at
        if has_reached:
            reading.has_all = standing.pool.serial
        elif now >= standing.behind_until:
            standing.behind_until = time.monotonic() + BEHIND_SECONDS
        return bool(has_reached)

    def _may_hide(self, reading: Reading, backend: Any) -> bool:
        """Whether this statement may call what its text does not show, through a view for example."""
        reading.suspects = self._suspects_on(reading, backend)
        return reading.may_hide(reading.names)

    def _suspects_on(self, reading: Reading, backend: Any) -> frozenset[str]:
        """Names by which routines may be called there that no text shows."""
        cache = self._suspects.setdefault(backend.login, {})
        known = cache.get(backend.endpoint)
        now = time.monotonic()
        has_own = reading.has_changed and backend.endpoint not in reading.catalogues_of
        if known is None or now - known[1] >= SUSPECTS_SECONDS or has_own:
            if (found := self._ask(self.engine.suspects, backend)) is None:
                return _ALL
            known = cache[backend.endpoint] = frozenset(found), now
            reading.catalogues_of.add(backend.endpoint)
        return known[0]

    @staticmethod
    def _ask(question: Callable[..., Any], backend: Any, *arguments: Any) -> Any:
        """Ask something of ours: what the server says to it is nobody's, and the diagnostics are not the session's."""
        owner, backend.owner = backend.owner, None
        backend.used_by = None
        try:
            return question(backend, *arguments)
        finally:
            backend.owner = owner

    def _ask_writer(self, reading: Reading, login: Any) -> None:
        """How far it is now: so far a reader has to be. Nothing where it does not answer."""
        generation = self.generation
        try:
            backend = self.writers.borrow(login, WRITER_SECONDS)
        except Exception as error:
            logger.info("the writer could not be asked how far it is: %s", str(error))
            return
        try:
            position = self._ask(self.engine.position, backend)
        except BaseException as error:
            self.writers.discard(backend)
            if not isinstance(error, Exception):
                raise
            logger.info("the writer did not say how far it is: %s", str(error))
            return
        self.writers.give_back(backend)
        reading.note_all(position, generation)
