"""One client connection between the driver's face and the pool: steps 2 to 7 of a statement (docs/architecture.md).

A face calls `need` before an exchange with the server, `failed` when one raised, and `settle` when it is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from . import errors
from .backend import HERE, Backend
from .pool import Pool
from .routines import Catalogue, RoutineBody, changes_routines
from .session import ENDED_BY_UNPIN, KEPT_AFTER_ERROR, Event, Hold, IllegalMove, Pin, Session, Tx
from .sql import Cause, Reason, Routine, Statement

if TYPE_CHECKING:
    from .config import Options
    from .engines.base import Engine, Login

logger = logging.getLogger(__name__)

# Looked up in every exchange; an attribute of an Enum class costs as much as a lock.
_NEED, _ENDED = Event.NEED, Event.ENDED
_BORROWED, _SESSION_LOST = Hold.BORROWED, Hold.SESSION_LOST
_NO_TX, _TX_UNKNOWN = Tx.NONE, Tx.UNKNOWN

CANCEL_SECONDS = 5.0
"""How long a backend waits for a cancel request under way before it is closed instead of lent again."""


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

    def haunt(self, login: Login, timeout: float) -> None: ...
    def say_hello(self) -> None: ...
    def say_goodbye(self) -> None: ...


class Client:
    """A session, the backend it holds, and the pool it borrows from. Used under its face's own lock.

    It is also what `conn.rdsproxy` gives to the application: `pinned`, `pin_reasons`, `pin()`, `unpin()`,
    `in_transaction` and `backend_id`. The other names are the library's own.
    """

    __slots__ = (
        "_added",
        "_epoch",
        "_expired",
        "_home",
        "_last_serial",
        "_last_used",
        "_lock",
        "_timeout",
        "backend",
        "backend_id",
        "engine",
        "idle_timeout",
        "insert_id",
        "login",
        "moved_on",
        "owner",
        "pool",
        "session",
        "wanted",
    )

    def __init__(self, home: Home, login: Login, owner: Callable[[], Any], lock: Any) -> None:
        self._home = home
        self.owner = owner
        self._lock = lock
        self.idle_timeout = home.options.idle_client_timeout
        self._last_used = time.monotonic() if self.idle_timeout else 0.0
        self._timeout = home.options.connection_borrow_timeout
        self._expired = False
        self._added: tuple[Reason, ...] = ()
        self.moved_on = 0
        """The serial number of the backend where this session moved a sequence last."""
        self.insert_id: Any = None
        """MySQL: what is known of this session's LAST_INSERT_ID()."""
        self._last_serial = 0
        self.wanted = 0
        """The settings this session wants on its backends. MySQL: the status bit of autocommit."""
        self.pool = home.pool
        self._epoch = self.pool.epoch
        self.engine = home.engine
        self.login = login
        self.session = Session()
        self.backend: Any = None
        self.backend_id: int | None = None
        """The server's process id of the backend used last; None before the first statement."""

    # -- for the application

    def __repr__(self) -> str:
        reasons = ", ".join(reason.name for reason in self.pin_reasons)
        return f"<rdsproxy {self.session.hold.name}{' by ' + reasons if reasons else ''} backend_id={self.backend_id}>"

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

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, as the server's protocol says. A lost one counts until it is rolled back."""
        if self.session.hold is Hold.TX_LOST:
            return True
        backend = self.backend
        return backend is not None and self.engine.tx(backend) is not Tx.NONE

    def pin(self, reason: str = "") -> None:
        """Keep one database connection to this session until `unpin()` or close: for state the library cannot see.

        Borrows one if none is held. Raises PinRefused where `max_pinned_percent` is reached.
        """
        with self._lock:
            self.owner()._rdsproxy_hold()
            self.add_pin(Reason.MANUAL, reason or "conn.rdsproxy.pin()")

    def unpin(self) -> None:
        """End the pins that stand for not knowing: MANUAL, UNKNOWN_ROUTINE, UNKNOWN_STATEMENT and RAW_ACCESS.

        The session is multiplexed again when no other reason is left and no transaction is open, and whatever
        it left on the database connection is reset then. Pins for state that was seen (a temporary table, a
        lock, a setting, …) stay.
        """
        with self._lock:
            self._lock.user = HERE.thread
            backend = self.backend
            if backend is None or not self.session.pins:
                return
            if self.session.remove_pins(ENDED_BY_UNPIN, tx_open=True):
                backend.needs_reset = True  # and settle(), at the end of the lock, gives it back

    # -- step 2 to 4: before an exchange

    def need(self, statement: Statement | None) -> Any:
        """The backend for the next exchange, borrowed if none is held, pinned if the statement demands it.

        Raises the session's error where it is lost or closed, BorrowTimeout, PinRefused or DiagnosticsLost; nothing
        was sent then.
        """
        if self.idle_timeout:
            self.expire(time.monotonic())
        backend = self.backend
        if backend is None:
            backend = self.borrow(statement)
        if statement is not None:
            backend.statements += 1
            if statement.reads_sequence or statement.moves_sequence:
                self.engine.mind_sequences(self, statement, backend)
            if statement.changes_plans:
                self._pin_for(statement, backend)
        return backend

    def haunt(self) -> None:
        """Make the login's ghost, where the first connect() could not: the server was away."""
        self._home.haunt(self.login, self._home.options.connection_borrow_timeout or 5.0)

    def borrow(self, statement: Statement | None) -> Any:
        """A backend for a session that holds none: the first half of `need`, and all of it for a plain statement."""
        session = self.session
        if self._epoch != self.pool.epoch:
            self.orphan()
        try:
            session.step(_NEED)
        except IllegalMove as move:
            raise self.illegal(move.hold) from None
        pool = self.pool
        try:
            backend = None
            if statement is not None:
                if statement.reads_sequence and self.moved_on:
                    backend = pool.borrow_that(self.login, self.moved_on, self.owner)
                elif statement.reads_diagnostics:
                    backend = self._borrow_for_diagnostics()
            if backend is None:
                backend = pool.borrow(self.login, self._timeout, self.owner)
            while self.wanted != backend.applied and not self.engine.apply(backend, self.wanted):
                pool.discard(backend)
                backend = pool.borrow(self.login, self._timeout, self.owner)
        except BaseException:
            session.step(_ENDED)
            raise
        self.backend = backend
        self.backend_id = backend.identity
        self._last_serial = backend.serial
        backend.used_by = self.owner
        return backend

    def _borrow_for_diagnostics(self) -> Any:
        """A backend that can answer a question about this session's last statement for certain.

        The one it ran on if nobody has used it since; a clean one where there was no statement yet.
        """
        pool = self.pool
        if not self._last_serial:
            backend = pool.borrow(self.login, self._timeout, self.owner)
            try:
                self.engine.reset(backend)
            except BaseException:
                pool.discard(backend)
                raise
            return backend
        last = pool.borrow_that(self.login, self._last_serial, self.owner)
        if last is not None:
            if last.used_by is self.owner:
                return last
            pool.give_back(last)
        raise self.engine.error(
            errors.DiagnosticsLost,
            "a question about the last statement (ROW_COUNT(), FOUND_ROWS(), …) cannot be answered for certain: its"
            " database connection is in use or was used by another session since. Nothing was sent. Ask inside the"
            " transaction, or take cursor.rowcount",
        )

    def _pin_for(self, statement: Statement, backend: Backend) -> None:
        """Pin before the statement runs, so that a refusal loses nothing."""
        added: tuple[Reason, ...] = ()
        causes = self._causes(statement, backend)
        is_proved = not causes and self._home.options.routine_policy == "pin"
        if not backend.pinned and not is_proved and any(cause.reason in OPAQUE for cause in statement.causes):
            self.engine.hide_diagnostics(self, backend)
        for cause in causes:
            if self._add_pin(cause, statement.digest, backend):
                added += (cause.reason,)
        self._added = added

    def pin_afterwards(self, reason: Reason, what: str, statement: Statement | None) -> None:
        """Pin for what a statement turned out to have done. It cannot be refused any more."""
        backend = self.backend
        if not backend.pinned:
            self.pool.pin(backend, anyway=True)
        self._add_pin(Cause(reason, what), statement.digest if statement is not None else "", backend)

    def _causes(self, statement: Statement, backend: Any) -> Sequence[Cause]:
        """Why this statement pins: less the routines that leave nothing behind, as far as anybody can tell."""
        causes: Sequence[Cause] = statement.causes
        changes = any(changes_routines(part.verb) for part in statement.parts)
        if not changes and not any(cause.reason is Reason.UNKNOWN_ROUTINE for cause in causes):
            return causes
        catalogue = self._home.catalogue
        if changes:
            catalogue.change(partial(_is_past, self.owner, self.engine, backend, backend.statements))
        policy = self._home.options.routine_policy
        if policy != "trust" and not changes:  # what the text itself changes first, no look beforehand shows
            place = tuple(map(self.login.parameters.get, _PLACE))
            ask = partial(self._routine_bodies, statement, backend)
            causes = catalogue.unproven(causes, place, time.monotonic(), ask)
        if policy == "pin":
            return causes
        left = [cause for cause in causes if cause.reason is not Reason.UNKNOWN_ROUTINE]
        backend.needs_reset = backend.needs_reset or (policy == "reset" and len(left) < len(tuple(causes)))
        return left

    def _routine_bodies(
        self, statement: Statement, backend: Any, names: Collection[Routine]
    ) -> Collection[RoutineBody] | None:
        """Ask for routines before this statement runs; None where that is not possible, and the statement pins."""
        if Reason.UNKNOWN_ROUTINE in (self.session.pins or ()):
            return None  # whatever it does, nothing changes
        if len(statement.parts) > 1 and self.engine.tx(backend) is not _NO_TX:
            return None  # a question takes the snapshot of a transaction: before one statement, not before several
        try:
            return self.engine.routine_bodies(backend, names)
        except Exception as error:
            if backend.cancelled:  # that was meant for the statement
                raise
            logger.warning("routines could not be judged from the catalogue: %s", str(error))
            return None

    def has_just_pinned(self, reason: Reason) -> bool:
        """Whether the last statement pinned the session, which was not pinned before, for that reason alone."""
        return self._added == (reason,) and (self.session.pins or {}).keys() == {reason}

    def take_back(self, reason: Reason) -> None:
        """The pin of the last statement was for nothing."""
        self._added = ()
        if self.session.remove_pins({reason}, tx_open=True):
            self.backend.pinned = False

    def add_pin(self, reason: Reason, what: str) -> None:
        """Pin the backend that is held, for something that is not a statement."""
        self._add_pin(Cause(reason, what), "", self.backend)

    def _add_pin(self, cause: Cause, digest: str, backend: Backend) -> bool:
        session = self.session
        if not backend.pinned and not self.pool.pin(backend):
            raise self.engine.error(
                errors.PinRefused,
                f"{cause.what} would pin this session, and max_pinned_percent of the pool is pinned already."
                " Nothing was sent. Run it on a connection of its own, or raise max_pinned_percent",
            )
        if cause.reason is Reason.UNRESETTABLE:
            backend.unresettable = True
        new = session.add_pin(Pin(cause.reason, cause.what, digest, time.monotonic()))
        if new:
            backend.pinned_by = f"{cause.reason.name}: {cause.what}"
            pins = self.pool.counters.pins
            pins[cause.reason.name] = pins.get(cause.reason.name, 0) + 1
            logger.info(
                "session pinned to database connection %s. Reason: %s (%s)%s",
                backend.identity,
                cause.reason.name,
                cause.what,
                f' Digest: "{digest}"' if digest else "",
            )
        return new

    # -- step 6 and 7: after it

    def settle(self, tx: Tx) -> None:
        """An exchange is over and the server says `tx`: give the backend back unless a transaction or a pin keeps it.

        The face calls it only where no stream or pipeline is open.
        """
        session = self.session
        if self.idle_timeout:
            self._last_used = time.monotonic()
        if session.hold is not _BORROWED:
            return
        backend = self.backend
        if tx is _NO_TX:
            # Parted first, for an interrupt in between leaves a session that can borrow again; and looked at second,
            # for cancel() counts first and looks at `self.backend` second, so at least one sees the other.
            self.backend = None
            session.step(_ENDED)
            if backend.cancelling or backend.cancelled or backend.needs_reset:
                self._clean(backend)
            else:
                self.pool.give_back(backend)
        elif tx is _TX_UNKNOWN:
            # An exchange was left half-way, by an error of the driver or an interrupt: nothing may be concluded.
            self.backend = None
            session.step(Event.FAULT_OPEN)
            self.pool.discard(backend)

    def _clean(self, backend: Any) -> None:
        """Make a backend fit for the next borrower, or close it. Never raises: the session's work is done."""
        counters = self.pool.counters
        backend.owner = None  # what the server has to say to this is nobody's
        if not self._wait_for_cancel(backend) or backend.unresettable:
            self.pool.discard(backend)
            return
        try:
            if backend.cancelled:
                backend.cancelled = False
                self.engine.absorb_cancel(backend)
            tx = self.engine.tx(backend)
            if tx is Tx.UNKNOWN:
                self.pool.discard(backend)
                return
            if tx is not Tx.NONE:
                self.engine.rollback(backend)
                if self.engine.tx(backend) is not Tx.NONE:
                    self.pool.discard(backend)
                    return
            if backend.needs_reset or backend.pinned:
                self.engine.reset(backend)
                counters.resets += 1
                backend.needs_reset = False
        except Exception as error:
            counters.reset_failures += 1
            logger.warning("closing a database connection that could not be cleaned: %s", str(error))
            self.pool.discard(backend)
        except BaseException:
            self.pool.discard(backend)
            raise
        else:
            self.pool.give_back(backend)

    @staticmethod
    def _wait_for_cancel(backend: Backend) -> bool:
        if not backend.cancel_lock.acquire(timeout=CANCEL_SECONDS):
            return False
        backend.cancel_lock.release()
        return True

    def failed(
        self,
        error: BaseException | None,
        *,
        tx_open: bool,
        may_have_committed: bool,
        is_over: bool,
        statement: Statement | None = None,
    ) -> Exception | None:
        """An exchange raised: what is to be raised instead, or None to let the error pass.

        `tx_open`: a transaction was open, or was to be opened by this exchange. `may_have_committed`: it held a
        COMMIT, or cannot tell. `is_over`: it was to end the transaction, so that none is open whatever happened.
        Where the backend is still alive the error is the statement's own and passes.
        """
        backend = self.backend
        if backend is None:
            return None
        if error is not None and not backend.is_dead() and not self.engine.is_fatal(error):
            self._forget_failed_pins(error, statement)
            return None
        session = self.session
        if session.hold is Hold.PINNED:
            self._home.say_goodbye()
            kind: type[errors.Error] | None = errors.SessionLost
            text = (
                f"the database connection of this session was lost, and with it what pinned it"
                f" ({', '.join(reason.name for reason in self.pin_reasons)}) and any open transaction;"
                " open a new connection"
            )
        elif tx_open and not may_have_committed:
            kind = errors.TransactionLost
            text = "the database connection was lost, so the server undoes the transaction; roll back and run it again"
        elif may_have_committed or statement is None or not statement.reads_only:
            kind = errors.OutcomeUnknown
            text = (
                "the database connection was lost before the server answered, so this may or may not have happened;"
                " look before doing it again"
            )
        else:
            kind, text = None, ""  # a read changes nothing: the driver's own error says enough
        self.backend = None
        session.step(Event.FAULT_OPEN if tx_open and not is_over else Event.FAULT_IDLE)
        self.pool.discard(backend)
        return None if kind is None else self.engine.error(kind, text)

    def rolled_back(self) -> None:
        """A lost transaction was acknowledged: the session goes on."""
        self.session.step(Event.ROLLBACK)

    def _forget_failed_pins(self, error: BaseException, statement: Statement | None) -> None:
        """A failed statement leaves nothing on the server but what KEPT_AFTER_ERROR lists, and that only if it ran."""
        if statement is None or not statement.causes or len(statement.parts) > 1:
            return
        if added := self._added:
            kept = frozenset() if self.engine.never_ran(error) else KEPT_AFTER_ERROR
            if self.session.remove_pins(set(added) - kept, tx_open=True):
                self.backend.pinned = False

    # -- from other threads

    def cancel(self, send: Callable[[Any], None]) -> None:
        """Send a cancel request for the statement in flight, if this session holds a backend.

        While the request is under way the backend is not lent to anybody else, and before it is, its effect is
        absorbed. Called without the session's lock. Raises what `send` raises.
        """
        backend = self.backend
        if backend is None:
            return
        with backend.cancel_lock:
            backend.cancelling = True
            try:
                if self.backend is backend:  # else it was given back meanwhile: the statement is over
                    backend.cancelled = True
                    try:
                        send(backend)
                    except BaseException:
                        backend.unresettable = True  # it may still be on its way, and must meet no later borrower
                        raise
            finally:
                backend.cancelling = False

    def interrupt(self) -> None:
        """Break off the exchange under way, for a connection that is closed while another thread uses it."""

        def hang_up(backend: Any) -> None:
            backend.unresettable = True
            self.engine.hang_up(backend)

        self.cancel(hang_up)

    def expire(self, now: float) -> None:
        """Close the session if `idle_client_timeout` seconds passed since its last statement."""
        if self.is_due(now):
            self._expired = True
            self.close()

    def is_due(self, now: float) -> bool:
        """Whether `idle_client_timeout` seconds passed since the last statement of a session that is not closed yet."""
        if not self.idle_timeout or now - self._last_used < self.idle_timeout:
            return False
        return self.session.hold < Hold.SESSION_LOST

    def is_orphan(self) -> bool:
        """Whether this is a forked child, and the session the parent's."""
        return self._epoch != self.pool.epoch

    def successor(self) -> Client:
        """A new session for the same connection object, whose own has ended."""
        if self._home.pool.is_closed:
            raise self.engine.error(errors.ProxyClosed, "the proxy is closed; nothing was sent")
        self._home.say_hello()
        return Client(self._home, self.login, self.owner, self._lock)

    def orphan(self) -> None:
        """In a forked child: the session is the parent's, and nothing of it may be touched from here."""
        if self.session.hold < Hold.SESSION_LOST:
            self.session.hold = Hold.SESSION_LOST
        self.backend = None

    # -- the end

    def close(self) -> None:
        """End the session. What it holds is cleaned and given back, or closed where it cannot be. Never raises."""
        backend, self.backend = self.backend, None
        self.session.step(Event.CLOSE)
        self._home.say_goodbye()
        if backend is not None:
            self._clean(backend)

    def abandon(self) -> None:
        """End the session of a connection that was garbage collected. Takes no lock, speaks no protocol."""
        self.session.step(Event.CLOSE)
        self._home.say_goodbye()
        backend, self.backend = self.backend, None
        if backend is not None:
            self.engine.hang_up(backend)
            self.pool.drop(backend)

    def illegal(self, hold: Hold) -> Exception:
        """The user's error for something this hold does not allow."""
        if hold is Hold.TX_LOST:
            return self.engine.error(
                errors.TransactionLost,
                "the transaction was lost with its database connection; roll back, then run it again",
            )
        if hold is Hold.SESSION_LOST:
            text = "the database connection of this pinned session was lost; open a new connection"
            if self._epoch != self.pool.epoch:
                text = "this connection belongs to the parent process and cannot be used after a fork; open a new one"
            return self.engine.error(errors.SessionLost, text)
        if self._expired:
            return self.engine.closed_error("the connection is closed by idle_client_timeout", is_expired=True)
        return self.engine.closed_error("the connection is closed")
