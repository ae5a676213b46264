"""Why a session stays on its backend, and until when: the part of a client that pins.

Before a statement `_pin_for` judges its causes; when its transaction is over `_review` asks which pins have ended.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from . import errors
from .backend import HERE, Backend
from .commits import Commits
from .events import Events, PinnedShareHigh, SessionPinned, SessionUnpinned, call_site, warn
from .pool import Pool
from .reading import Reading
from .routines import Catalogue, RoutineBody, changes_routines
from .session import ENDED_BY_UNPIN, FREED_AT_ONCE, KEPT_AFTER_ERROR, REVIEWED, Hold, Pin, Session, Tx
from .settings import CLEAN
from .sql import Cause, Reason, Routine, Statement

if TYPE_CHECKING:
    from .config import Options
    from .engines.base import Engine, Login

logger = logging.getLogger(__name__)

_NO_TX = Tx.NONE

AUDITED = 1000
"""How many statements an audit names at most."""

VARIABLES = frozenset({Reason.SETTING, Reason.USER_VARIABLE})
"""What ``EXCLUDE_VARIABLE_SETS`` keeps from pinning."""


OPAQUE = frozenset({Reason.UNKNOWN_ROUTINE, Reason.UNKNOWN_STATEMENT, Reason.PREPARED_STATEMENT})
"""Pins for what may run anything, questions about the session's last statement among it."""


_PLACE = ("service", "host", "hostaddr", "unix_socket", "port", "dbname", "database", "db", "user")
"""What tells databases apart among the parameters of a login."""


def _is_past(owner: Callable[[], Any], engine: Engine, backend: Any, statements: int) -> bool:
    """Whether the transaction is over in which a session ran that statement of this backend."""
    connection = owner()
    if connection is None or connection._rdsproxy.backend is not backend:
        return True
    return bool(backend.statements > statements and engine.tx(backend) is _NO_TX)


class Home(Protocol):
    """What a client needs of its proxy."""

    options: Options
    pool: Pool
    engine: Engine
    catalogue: Catalogue
    events: Events
    commits: Commits | None

    def haunt(self, login: Login, timeout: float, reading: Reading | None = None) -> None: ...
    def lose(self, backend: Any) -> None: ...
    def is_demoted(self, backend: Any, *, is_idle: bool = False) -> bool: ...
    def say_hello(self) -> None: ...
    def say_goodbye(self) -> None: ...


class Pinning:
    """A session and its pins; the rest of a client is in `Client`."""

    __slots__ = (
        "_added",
        "_audited",
        "_home",
        "_lock",
        "backend",
        "doubts",
        "engine",
        "held",
        "is_unread",
        "login",
        "owner",
        "pool",
        "session",
        "touched",
        "unlearnt",
        "wanted",
    )

    def __init__(self, home: Home, login: Login, owner: Callable[[], Any], lock: Any) -> None:
        self._home = home
        self.owner = owner
        self._lock = lock
        self.pool = home.pool
        self.engine = home.engine
        self.login = login
        self.session = Session()
        self.backend: Any = None
        self._added: tuple[Reason, ...] = ()
        """The reasons that the last statement added."""
        self.wanted = CLEAN
        """The settings this session has outside of its transaction, and so wants on its backends."""
        self.touched: set[str] | None = None
        """Settings that statements named on the present backend: the server is asked for them before it is left."""
        self.unlearnt: Reason | None = None
        """The pin that stands for a setting which cannot be taken along."""
        self.is_unread = False
        """Whether to try that again when the transaction is over."""
        self.doubts: frozenset[Reason] | None = None
        """Pins that may have come to nothing, or to an end: the server is asked when the transaction is over."""
        self.held: dict[Reason, set[str]] | None = None
        """MySQL: what pins the session, by name."""
        self._audited: deque[str] | None = deque(maxlen=AUDITED) if home.options.audit else None
        """With ``audit=True``: the last statements since the backend was borrowed."""

    @property
    def pinned(self) -> bool:
        """Whether this session keeps its database connection to itself."""
        return self.session.hold is Hold.PINNED

    @property
    def pin_reasons(self) -> tuple[Reason, ...]:
        """Why it is pinned, in the order in which it happened; empty when it is not."""
        return tuple(self.session.pins or ())

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The reasons with what did it, the statement (literals digested) and since when (monotonic seconds)."""
        return tuple((self.session.pins or {}).values())

    def pin(self, reason: str = "") -> ManualPin:
        """Keep one database connection to this session until `unpin()` or close: for state the library cannot see.

        Borrows one if none is held. As a context manager, `with conn.rdsproxy.pin("why"):`, until the end of the block.
        Raises PinRefused where `max_pinned_percent` is reached.
        """
        with self._lock:
            self.owner()._rdsproxy_hold()
            is_new = self._add_pin(Cause(Reason.MANUAL, reason or "conn.rdsproxy.pin()"), "", self.backend)
        return ManualPin(self, is_new)

    def unpin(self, reasons: frozenset[Reason] = ENDED_BY_UNPIN) -> None:
        """End the pins that stand for not knowing: MANUAL, UNKNOWN_ROUTINE, UNKNOWN_STATEMENT and RAW_ACCESS.

        The session is multiplexed again when no other reason is left and no transaction is open, and whatever
        it left on the database connection is reset then. Pins for state that was seen (a temporary table, a
        lock, …) stay. `reasons` may name fewer of those four; others are left alone.
        """
        with self._lock:
            self._lock.user = HERE.thread
            if self.backend is not None:
                self._end_pins(reasons & ENDED_BY_UNPIN)  # and settle(), at the end of the lock, gives it back

    def _end_pins(self, reasons: Collection[Reason], *, leaves_something: bool = True) -> bool:
        """End these pins; True when none is left. The backend is reset then, unless nothing had been left there."""
        session, backend = self.session, self.backend
        pins = dict(session.pins or {})
        if not pins or not session.remove_pins(set(reasons), tx_open=True):
            return False
        backend.pinned = False
        backend.needs_reset = backend.needs_reset or leaves_something
        self._say_unpinned(pins, backend)
        return True

    def _say_unpinned(self, pins: Mapping[Reason, Pin], backend: Backend) -> None:
        """Tell that a session is multiplexed again, or over; `pins` as they were."""
        seconds = time.monotonic() - min(pin.since for pin in pins.values())
        names = tuple(reason.name for reason in pins)
        logger.info("session unpinned from database connection %s after %.3f s", backend.identity, seconds)
        if (events := self._home.events).handlers:
            events.emit(SessionUnpinned(names, seconds, backend.identity))

    def _pin_for(self, statement: Statement, backend: Backend, parameters: Any) -> None:
        """Pin before the statement runs, so that a refusal loses nothing; note what it sets."""
        added: tuple[Reason, ...] = ()
        causes, names = self._causes(statement, backend)
        if statement.settings or statement.local_settings:
            named, why = self.engine.touched_by(statement, parameters)
            names, causes = {*names, *named}, [*causes, *why]
        is_proved = not causes and self._home.options.routine_policy == "pin"
        if not backend.pinned and not is_proved and any(cause.reason in OPAQUE for cause in statement.causes):
            self.engine.hide_diagnostics(self, backend)
        for cause in causes:
            if self._add_pin(cause, statement.digest, backend):
                added += (cause.reason,)
        self._added = added
        if names:
            self.touch(names)

    def touch(self, names: Collection[str]) -> None:
        """Note that these settings may change on the present backend; ``*`` stands for all that the session has."""
        if self.touched is None:
            self.touched = set()
        self.touched.update(names)
        self.is_unread = self.is_unread or self.unlearnt is not None
        if self._audited is not None:
            self.login.audited.update(names)
        if "*" in names:
            self.touched.discard("*")
            self.touched.update(self.wanted.values)

    def pin_afterwards(self, reason: Reason, what: str, statement: Statement | None) -> None:
        """Pin for what a statement turned out to have done. It cannot be refused any more."""
        self._add_pin(Cause(reason, what), statement.digest if statement is not None else "", self.backend, anyway=True)

    def _causes(self, statement: Statement, backend: Any) -> tuple[Sequence[Cause], Collection[str]]:
        """Why this statement pins: less the routines that leave nothing behind but settings, and those settings."""
        causes: Sequence[Cause] = statement.causes
        changes = any(changes_routines(part.verb) for part in statement.parts)
        if not changes and not any(cause.reason is Reason.UNKNOWN_ROUTINE for cause in causes):
            return causes, ()
        catalogue = self._home.catalogue
        if changes:
            catalogue.change(partial(_is_past, self.owner, self.engine, backend, backend.statements))
        names: Collection[str] = ()
        policy = self._home.options.routine_policy
        if policy != "trust" and not changes:  # what the text itself changes first, no look beforehand shows
            place = (backend.schema, *map(self.login.parameters.get, _PLACE))
            ask = partial(self._routine_bodies, statement, backend)
            causes, names = catalogue.unproven(causes, place, time.monotonic(), ask)
        if policy == "pin":
            return causes, names
        left = [cause for cause in causes if cause.reason is not Reason.UNKNOWN_ROUTINE]
        backend.needs_reset = backend.needs_reset or (policy == "reset" and len(left) < len(tuple(causes)))
        return left, names

    def _routine_bodies(
        self, statement: Statement, backend: Any, names: Collection[Routine]
    ) -> Collection[RoutineBody] | None:
        """Ask for routines before this statement runs; None where that is not possible, and the statement pins."""
        if Reason.UNKNOWN_ROUTINE in (self.session.pins or ()):
            return None  # whatever it does, nothing changes
        if len(statement.parts) > 1 and self.engine.tx(backend) is not _NO_TX:
            return None  # a question takes the snapshot of a transaction: before one statement, not before several
        try:
            with self._asking(backend):
                return self.engine.routine_bodies(backend, names)
        except Exception as error:
            if backend.cancelled:  # that was meant for the statement
                raise
            logger.warning("routines could not be judged from the catalogue: %s", str(error))
            return None

    def add_pin(self, reason: Reason, what: str) -> None:
        """Pin the backend that is held, for something that is not a statement."""
        self._add_pin(Cause(reason, what), "", self.backend)
        if reason in REVIEWED:
            self.doubt({reason})

    def doubt(self, reasons: Set[Reason]) -> None:
        """Ask, when the transaction is over, whether the pins for these reasons still have them."""
        self.doubts = (self.doubts or frozenset()) | reasons

    def _add_pin(self, cause: Cause, digest: str, backend: Backend, *, anyway: bool = False) -> bool:
        """Pin for this cause; True where its reason is new. `anyway`: it has happened, and cannot be refused."""
        session, reason = self.session, cause.reason
        if reason in VARIABLES and self._home.options.session_pinning_filters:
            backend.needs_reset = True  # the session may lose it, but nobody else finds it
            return False
        is_known = session.pins is not None and reason in session.pins
        policy = "pin" if is_known else self._home.options.policy_of(reason.name)
        if policy == "error" and not anyway:
            raise self.engine.error(
                errors.PinRefused,
                f"{cause.what} would pin this session ({reason.name}), and pin_policy says 'error'. Nothing was sent."
                " Run it on a connection of its own, or allow the reason",
            )
        if policy == "warn" and not anyway:
            warn(f"{cause.what} pins this session to one database connection ({reason.name}): {digest or '-'}")
        if not backend.pinned and not self.pool.pin(backend, anyway=anyway):
            raise self.engine.error(
                errors.PinRefused,
                f"{cause.what} would pin this session, and max_pinned_percent of the pool is pinned already."
                " Nothing was sent. Run it on a connection of its own, or raise max_pinned_percent",
            )
        if reason is Reason.UNRESETTABLE:
            backend.unresettable = True
        if is_known:
            return False
        site = call_site()
        session.add_pin(Pin(reason, cause.what, digest, time.monotonic(), site))
        backend.pinned_by = f"{reason.name}: {cause.what}"
        pins = self.pool.counters.pins
        pins[reason.name] = pins.get(reason.name, 0) + 1
        logger.log(
            logging.WARNING if anyway and policy != "pin" else logging.INFO,
            "session pinned to database connection %s. Reason: %s (%s)%s%s",
            backend.identity,
            reason.name,
            cause.what,
            f' Digest: "{digest}"' if digest else "",
            f" At: {site}" if site else "",
        )
        if (events := self._home.events).handlers:
            events.emit(SessionPinned(reason.name, cause.what, digest, site, backend.identity))
            occupancy = self.pool.occupancy()
            if len(session.pins or ()) == 1 and occupancy.pinned == (occupancy.limit + 1) // 2:
                events.emit(PinnedShareHigh(occupancy.pinned, occupancy.limit))
        return True

    def _pin_unlearnt(self, reason: Reason, what: str) -> None:
        """Pin for a setting that cannot be taken along, until it can be."""
        is_known = reason in (self.session.pins or ())
        self.pin_afterwards(reason, what, None)
        if not is_known and reason in (self.session.pins or ()):
            self.unlearnt = reason

    def _review(self) -> bool:
        """Ask which pins have come to an end; True when none is left."""
        doubts, pins = self.doubts, self.session.pins
        self.doubts = None
        if not doubts or not pins:
            return False
        over = set(doubts & FREED_AT_ONCE & pins.keys())
        if asked := doubts & pins.keys() - FREED_AT_ONCE:
            try:
                with self._asking(self.backend):
                    over.update(self.engine.ended(self, self.backend, asked))
            except Exception as error:  # it stays pinned; if it is dead, the next statement finds out
                logger.warning("whether a session is still pinned could not be asked: %s", str(error))
        return bool(over) and self._end_pins(over)

    @contextmanager
    def _asking(self, backend: Any) -> Iterator[None]:
        """A question of ours: what the server has to say to it is nobody's, and the monitor sees that it waits."""
        backend.owner = None
        try:
            yield
        finally:
            backend.owner = self.owner

    def _forget_failed_pins(self, error: BaseException, statement: Statement | None) -> None:
        """A failed statement leaves nothing on the server but what KEPT_AFTER_ERROR lists, and that only if it ran."""
        if self.doubts is not None:
            self.doubts -= FREED_AT_ONCE
        if statement is None or not statement.causes or len(statement.parts) > 1:
            return
        if added := self._added:
            kept = frozenset() if self.engine.never_ran(error) else KEPT_AFTER_ERROR
            self._end_pins(set(added) - kept, leaves_something=False)


class ManualPin:
    """What `conn.rdsproxy.pin()` returns. Leaving the block of `with` ends that pin."""

    __slots__ = ("_client", "_is_new")

    def __init__(self, client: Pinning, is_new: bool) -> None:
        self._client = client
        self._is_new = is_new  # else an outer block ends it

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        if self._is_new:
            self._client.unpin(frozenset((Reason.MANUAL,)))
