"""One client connection between the driver's face and the pool: steps 2 to 7 of a statement (docs/architecture.md).

A face calls `need` before an exchange with the server, `failed` when one raised, and `settle` when it is over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import errors
from .backend import Backend
from .commits import Outcome, new_token
from .events import StateLeaked
from .pinning import Home, Pinning
from .reading import Reading
from .session import FREED_AT_ONCE, Event, Hold, IllegalMove, Pin, Tx
from .settings import Immovable
from .sql import Reason, Statement

if TYPE_CHECKING:
    from .engines.base import Login

logger = logging.getLogger(__name__)

# Looked up in every exchange; an attribute of an Enum class costs as much as a lock.
_NEED, _ENDED = Event.NEED, Event.ENDED
_PARKED, _BORROWED, _SESSION_LOST = Hold.PARKED, Hold.BORROWED, Hold.SESSION_LOST
_NO_TX, _TX_UNKNOWN = Tx.NONE, Tx.UNKNOWN

NEW_ONES_TRIED = 3
"""How many new backends may die while they are given a session's settings, before its statement fails."""

REPEATS = 3
"""How often a statement is sent again, at most."""

REFUSED_WHOLE = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})
"""Verbs of statements that a server which takes no writes refuses before any of it happens."""

CANCEL_SECONDS = 5.0
"""How long a backend waits for a cancel request under way before it is closed instead of lent again."""


class Client(Pinning):
    """A session, the backend it holds, and the pool it borrows from. Used under its face's own lock.

    It is also what `conn.rdsproxy` gives to the application: `pinned`, `pin_reasons`, `pin()`, `unpin()`,
    `in_transaction` and `backend_id`. The other names are the library's own.
    """

    __slots__ = (
        "_epoch",
        "_expired",
        "_has_committed",
        "_last_serial",
        "_last_used",
        "_pending",
        "_timeout",
        "_why_lost",
        "backend_id",
        "commits",
        "has_moved_elsewhere",
        "idle_timeout",
        "insert_id",
        "is_thorough",
        "lingers",
        "moved_on",
        "reading",
    )

    def __init__(
        self, home: Home, login: Login, owner: Callable[[], Any], lock: Any, reading: Reading | None = None
    ) -> None:
        super().__init__(home, login, owner, lock)
        self.reading = reading
        """Where it reads, if not always from the writer."""
        options = home.options
        self.idle_timeout = options.idle_client_timeout
        self._last_used = time.monotonic() if self.idle_timeout else 0.0
        self._timeout = options.connection_borrow_timeout
        self._expired = False
        self._why_lost = ""
        self.commits = home.commits
        """With `resolve_commits`: who is asked what became of a COMMIT that was cut."""
        self._pending: tuple[str, Any, Statement | None] | None = None
        """The token of the COMMIT that is under way, the backend, and its statement."""
        self._has_committed = False
        self.moved_on = 0
        """The serial number of the backend where this session moved a sequence last."""
        self.has_moved_elsewhere = False
        """PostgreSQL: it may have moved one on another backend before."""
        self.insert_id: Any = None
        """MySQL: what is known of this session's LAST_INSERT_ID()."""
        self._last_serial = 0
        self.lingers = False
        """The backend is kept for the next statement, which may ask about the last one."""
        self.is_thorough = bool(self.idle_timeout or options.keep_diagnostics or options.audit or reading)
        """Each statement takes the long way through `need`."""
        if options.keep_diagnostics:
            login.reads_sequences = True  # so that the first question finds its answer
        self._epoch = self.pool.epoch
        self.backend_id: int | None = None
        """The server's process id of the backend used last; None before the first statement."""

    # -- for the application

    def __repr__(self) -> str:
        reasons = ", ".join(reason.name for reason in self.pin_reasons)
        return f"<rdsproxy {self.session.hold.name}{' by ' + reasons if reasons else ''} backend_id={self.backend_id}>"

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, as the server's protocol says. A lost one counts until it is rolled back."""
        if self.session.hold is Hold.TX_LOST:
            return True
        backend = self.backend
        return backend is not None and self.engine.tx(backend) is not Tx.NONE

    # -- step 2 to 4: before an exchange

    def need(self, statement: Statement | None, parameters: Any = None) -> Any:
        """The backend for the next exchange, borrowed if none is held, pinned if the statement demands it.

        `parameters` are those of the statement. Raises the session's error where it is lost or closed, BorrowTimeout,
        PinRefused, WriteRefused or DiagnosticsLost; nothing was sent then.
        """
        if self.idle_timeout:
            self.expire(time.monotonic())
        backend = self.backend
        if backend is None:
            backend = self.borrow(statement)
        elif self.reading is not None:
            self.reading.only_reads = False
        if statement is None:
            self.lingers = False
            return backend
        if self.reading is not None:
            if self.reading.is_refused(statement, self.pool):
                raise self.engine.error(
                    errors.WriteRefused,
                    "no reader is fit, and of a session that reads from readers alone the writer answers only what"
                    " provably changes nothing; nothing was sent",
                )
            self.reading.look_at(statement)
        backend.statements += 1
        if statement.reads_sequence or statement.moves_sequence:
            self.engine.mind_sequences(self, statement, backend)
        if statement.changes_plans:
            self._pin_for(statement, backend, parameters)
        if statement.frees:
            self.doubt(statement.frees)
        is_question = (statement.reads_sequence or statement.reads_diagnostics) and not statement.moves_sequence
        keeps = self._home.options.keep_diagnostics and not (statement.reads_only or is_question)
        self.lingers = statement.awaits_question or keeps
        if self._audited is not None:
            self._audited.append(statement.digest)
        return backend

    def haunt(self) -> None:
        """Make the login's ghost, where the first connect() could not: the server was away."""
        self._home.haunt(self.login, self._home.options.connection_borrow_timeout or 5.0, self.reading)

    def borrow(self, statement: Statement | None) -> Any:
        """A backend for a session that holds none: the first half of `need`, and all of it for a plain statement."""
        session = self.session
        if self._epoch != self.pool.epoch:
            self.orphan()
        if session.hold is _PARKED:
            session.hold = _BORROWED  # the step of nearly every statement, without a call
        else:
            try:
                session.step(_NEED)
            except IllegalMove as move:
                raise self.illegal(move.hold) from None
        pool, reading = self.pool, self.reading
        try:
            backend = None
            if statement is not None:
                if statement.reads_diagnostics:  # first: that of a sequence is refused where it is elsewhere
                    backend = self._borrow_for_diagnostics()
                elif statement.reads_sequence and self.moved_on:
                    self.pool = pool = self._home.pool
                    backend = pool.borrow_that(self.login, self.moved_on, self.owner)
            if backend is None:
                if reading is None:
                    backend = pool.borrow(self.login, self._timeout, self.owner, self.wanted)
                else:
                    backend = self._borrow_anew()
            if backend.label is not self.wanted:
                backend = self._relabel(backend)
        except BaseException:
            if session.hold is _BORROWED:
                session.step(_ENDED)
            raise
        self.backend = backend
        self.backend_id = backend.identity
        self._last_serial = backend.serial
        if reading is not None:
            reading.hold(self.pool)
        if backend.used_by is not self.owner:
            backend.used_by = None  # until a statement of this session is sent
        return backend

    def _borrow_anew(self) -> Any:
        """A backend of the host where the next statement belongs."""
        if self.reading is None:
            return self.pool.borrow(self.login, self._timeout, self.owner, self.wanted)
        self.pool, backend = self.reading.borrow(self.login, self._timeout, self.owner, self.wanted)
        return backend

    def _relabel(self, backend: Any) -> Any:
        """Give a backend just borrowed the settings of this session; another one where it is dead or unfit."""
        deaths = 0
        while True:
            pool = self.pool
            backend.owner = None  # what the server says to our orders is nobody's
            try:
                is_fit = self.engine.apply(backend, self.wanted)
                error = None
            except Exception as failure:
                is_fit, error = False, failure
            except BaseException:
                pool.discard(backend)
                raise
            backend.owner = self.owner
            if is_fit:
                pool.counters.relabels += 1
                return backend
            # Of one that was used before it may be its own fault: temp_buffers cannot be set once there were any.
            is_new, is_dead = not backend.idle_since, backend.is_dead()
            pool.counters.relabel_failures += 1
            pool.discard(backend)
            deaths += is_new
            if error is not None and is_new and not is_dead:
                if self.reading is not None and pool is not self._home.pool:
                    self.reading.leave(backend.endpoint)  # only the writer's word counts
                else:
                    raise self._cannot_move(error)
            if error is not None and deaths == NEW_ONES_TRIED:
                raise error
            backend = self._borrow_anew()
            if backend.label is self.wanted:
                return backend

    def _cannot_move(self, error: Exception) -> Exception:
        """The server refuses the settings that this session has: without them it cannot go on."""
        self._end_as_lost(
            f"the settings of this session cannot be made again on another database connection ({error}), so that it"
            " cannot go on; nothing was sent. Open a new connection"
        )
        lost = self.illegal(Hold.SESSION_LOST)
        lost.__cause__ = error
        return lost

    def _end_as_lost(self, why: str) -> None:
        """End the session, which had settings that are on no backend any more."""
        self._why_lost = why
        self._home.say_goodbye()
        self.session.add_pin(Pin(Reason.SETTING, "what was set", "", time.monotonic()))
        self.session.step(Event.FAULT_IDLE)

    def forget_last(self) -> None:
        """A statement of the driver was not sent, as nothing needed it: no backend has this session's last one."""
        self._last_serial = -1

    def _borrow_for_diagnostics(self) -> Any:
        """A backend that can answer a question about this session's last statement for certain.

        The one it ran on if nobody has used it since; a clean one where there was no statement yet.
        """
        if not self._last_serial:
            backend = self._borrow_anew()
            try:
                self.engine.reset(backend)
            except BaseException:
                self.pool.discard(backend)
                raise
            return backend
        pool = self.pool
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

    # -- step 6 and 7: after it

    def settle(self, tx: Tx) -> None:
        """An exchange is over and the server says `tx`: give the backend back unless a transaction or a pin keeps it.

        The face calls it only where no stream or pipeline is open.
        """
        session = self.session
        if (
            tx is not _NO_TX
            or session.hold is not _BORROWED
            or self.touched is not None
            or self.doubts is not None
            or self.lingers
            or self.is_thorough
        ) and not self._may_part(tx):
            return
        # Parted first, for an interrupt in between leaves a session that can borrow again; and looked at second,
        # for cancel() counts first and looks at `self.backend` second, so at least one sees the other.
        backend = self.backend
        self.backend = None
        if session.hold is _BORROWED:
            session.hold = _PARKED  # as of nearly every statement, without a call
        else:
            session.step(_ENDED)
        if backend.cancelling or backend.cancelled or backend.needs_reset:
            self._clean(backend)
        elif self._audited is None:
            self.pool.give_back(backend)
        else:
            self._give_back(backend)

    def note_use(self) -> None:
        """For `idle_client_timeout`: an exchange is over just now."""
        if self.idle_timeout:
            self._last_used = time.monotonic()

    def _may_part(self, tx: Tx) -> bool:
        """Whether nothing keeps the session's backend, once what it has set is learnt. A useless one is closed here."""
        self.note_use()
        if self.doubts is not None and tx is not _NO_TX:
            self.doubts -= FREED_AT_ONCE  # inside a transaction nothing is sure to last
        if self.session.hold is not _BORROWED and (tx is not _NO_TX or not self._has_no_pin_left()):
            return False
        if tx is _NO_TX:
            self.doubts = None
            if not ((self.touched is None or self._learn_or_stay()) and not self.lingers):
                return False
            return self.reading is None or not self.reading.is_writing or self._has_noted_position(self.reading)
        if tx is _TX_UNKNOWN:
            # An exchange was left half-way, by an error of the driver or an interrupt: nothing may be concluded.
            backend, self.backend, self.touched = self.backend, None, None
            self.session.step(Event.FAULT_OPEN)
            self.pool.discard(backend)
            if self.reading is not None:
                self.reading.lose(backend)
        return False

    def _has_noted_position(self, reading: Reading) -> bool:
        """Ask the writer how far it is, for this session's reads. False where the backend died of it, and is gone."""
        backend = self.backend
        is_whole = False
        try:
            reading.settle(backend)
            is_whole = not backend.is_dead()
        finally:
            if not is_whole:
                reading.lose(backend)
                self.backend = None
                self.session.step(_ENDED)
                self.pool.discard(backend)
        return is_whole

    def learn(self) -> None:
        """Ask the server what this session has set, now that the transaction is over: the backend's label from now on.

        Raises Immovable where it cannot be taken elsewhere, and the driver's error where the server does not answer.
        """
        backend, touched = self.backend, self.touched
        if touched:
            backend.owner = None  # what the server says to our question is nobody's
            try:
                self.wanted = backend.label = self.engine.learn(self, backend, touched)
            finally:
                backend.owner = self.owner
        self.touched = None

    def _learn_or_stay(self) -> bool:
        """The same at the end of an exchange. False where the session does not part with its backend, or is lost."""
        backend = self.backend
        try:
            self.learn()
        except Immovable as found:
            self._pin_unlearnt(Reason[found.reason], found.what)
            if self.session.hold is not _BORROWED:
                return False
            self.touched = None  # a filter says that it may be lost
        except Exception as error:
            if backend.is_dead():
                self._lose_with_settings(backend)
            else:
                self._pin_unlearnt(Reason.SETTING, f"what was set could not be read: {error}")
                self.is_unread = True
            return False
        except BaseException:
            if backend.is_dead() or self.engine.tx(backend) is not _NO_TX:
                self._lose_with_settings(backend)
            else:
                self._pin_unlearnt(Reason.SETTING, "what was set was not read to the end")
                self.is_unread = True
            raise
        return True

    def _has_no_pin_left(self) -> bool:
        """Of a pinned session whose transaction is over: whether all that pinned it has come to an end."""
        if self.is_unread:
            self._learn_again()
        return self.session.hold is _BORROWED or (bool(self.doubts) and self._review())

    def _learn_again(self) -> None:
        """Whether it can be taken along now: it was set once more, or could not be read."""
        self.is_unread = False
        try:
            self.learn()
        except Immovable:
            return
        except Exception as error:  # if it is dead, the next statement finds out
            self.is_unread = True
            logger.warning("what a session has set could not be read: %s", str(error))
            return
        reason, self.unlearnt = self.unlearnt, None
        if reason is not None:
            self._end_pins({reason})

    def _lose_with_settings(self, backend: Any) -> None:
        """The backend is gone, or unusable, and with it what the session had set there."""
        self.backend = self.touched = None
        self.pool.discard(backend)
        self._end_as_lost(
            "the database connection was lost when the transaction was over, before what it had set could be read;"
            " what was committed is committed; open a new connection"
        )

    def _give_back(self, backend: Any) -> None:
        """Give back a backend that is clean, its label true."""
        if self._audited is not None:
            statements = tuple(self._audited)
            self._audited.clear()
            if not self._is_clean(backend, statements):
                self.pool.discard(backend)
                return
        self.pool.give_back(backend)

    def _is_clean(self, backend: Any, statements: tuple[str, ...]) -> bool:
        """Audit: ask the server whether anything is left on a backend that its label does not say."""
        backend.used_by = None
        try:
            findings = tuple(self.engine.left_over(backend, self.login.audited))
        except Exception as error:
            logger.warning("a database connection could not be audited, and is closed: %s", str(error))
            return False
        if findings:
            logger.error(
                "database connection %s was given back with %s left on it, after: %s",
                backend.identity,
                "; ".join(findings),
                "; ".join(statements),
            )
            self._home.events.emit(StateLeaked(findings, statements, backend.identity))
        return not findings

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
            self._give_back(backend)

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
        pending, self._pending, self._has_committed = self._pending, None, False
        if backend is None:
            return None
        if error is not None and not backend.is_dead() and not self.engine.is_fatal(error):
            if self.pool is self._home.pool and self.engine.says_read_only(error):
                self._home.is_demoted(backend)  # if so, none of its host is lent again
            if self.reading is not None:
                self.reading.doubt()
            self._forget_failed_pins(error, statement)
            if statement is not None and statement.reads_sequence:
                return self.engine.judged_sequence_error(self, error)
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
        # What was set by this very statement has failed with it; what was set before in the transaction, only where
        # the server would have undone it too.
        is_own = statement is not None and bool(statement.settings) and statement.reads_only and not tx_open
        are_lost = bool(self.touched) and not is_own and not self.engine.undoes_settings
        has_set = bool(self.touched)
        self.backend = self.touched = self.doubts = None
        self.lingers = False
        if are_lost and session.hold is _BORROWED:
            if kind is not errors.OutcomeUnknown:
                kind = errors.SessionLost
                text = (
                    "the database connection was lost, and with it what this session had set since it was last free;"
                    f" {'the server undoes the transaction; ' if tx_open else ''}open a new connection"
                )
            self._end_as_lost(text)
        else:
            session.step(Event.FAULT_OPEN if tx_open and not is_over else Event.FAULT_IDLE)
        self.pool.discard(backend)
        self._home.lose(backend)
        if self.reading is not None:
            self.reading.lose(backend)
        if pending is not None and pending[1] is backend and pending[2] is statement and may_have_committed:
            outcome = self._outcome_of(pending[0], error)
            if outcome is not Outcome.UNKNOWN:
                return self._told(outcome is Outcome.COMMITTED, has_set=has_set)
        return None if kind is None else self.engine.error(kind, text)

    # -- the outcome of a COMMIT that was cut

    def begin_commit(self, statement: Statement | None) -> str:
        """A token for the COMMIT about to go out; `statement` is what `failed` will be given, None for the driver's."""
        token = new_token()
        self._pending = token, self.backend, statement
        return token

    def end_commit(self) -> None:
        """The COMMIT was answered, or goes out without its token."""
        self._pending = None

    def has_committed(self) -> bool:
        """Whether what `failed` has judged just now was a COMMIT that happened: then it has not failed. Tells once."""
        has, self._has_committed = self._has_committed, False
        return has

    def _outcome_of(self, token: str, error: BaseException | None) -> Outcome:
        if self.commits is None or self.pool.is_inside() or not isinstance(error, Exception):
            return Outcome.UNKNOWN  # who is interrupted, or collects garbage, waits for nobody
        return self.commits.outcome_of(self.login, token)

    def _told(self, is_committed: bool, *, has_set: bool) -> Exception | None:
        """The error that tells what became of a COMMIT that was cut; None where it happened, and cost nothing.

        The session has parted with its backend. `has_set`: it had set something there that nobody can read any more.
        """
        session = self.session
        if is_committed and session.hold is _PARKED and not has_set:
            self._has_committed = True
            return None
        if not is_committed and session.hold is _PARKED:
            return self.engine.error(
                errors.TransactionLost,
                "the database connection was lost in the COMMIT; the transaction is not committed, and never will be:"
                " run it again",
            )
        what = "what it had set in this transaction" if session.hold is _PARKED else "what this session had on it"
        text = (
            f"the database connection was lost in the COMMIT, and with it {what}. The transaction"
            f" {'IS committed' if is_committed else 'is NOT committed, and never will be'}; open a new connection"
        )
        if session.hold is _PARKED:
            self._end_as_lost(text)
        self._why_lost = text
        lost: Any = self.engine.error(errors.SessionLost, text)
        lost.committed, lost.retry_safe = is_committed, not is_committed
        answer: Exception = lost
        return answer

    def may_repeat(self, error: BaseException, statement: Statement | None) -> bool:
        """A statement was refused that began with no transaction open: whether it is sent again, on another backend.

        So it is where its host takes no writes any more, and says so when it is asked. The backend is gone then. A
        statement whose backend died is never sent again: what a view or an operator calls, its text does not show.
        """
        backend = self.backend
        if backend is None or statement is None or len(statement.parts) != 1:
            return False
        if self.reading is not None and self.reading.has_failed_there(self.pool, statement):
            return self._read_elsewhere(self.reading, backend, error)
        if self.pool is not self._home.pool or not self.engine.says_read_only(error):
            return False  # of a reader it is no news
        if self.session.hold is not _BORROWED or statement.causes or statement.settings or self.lingers:
            return False
        if statement.parts[0].verb not in REFUSED_WHOLE:
            return False
        if not self._home.is_demoted(backend, is_idle=self.engine.tx(backend) is _NO_TX):
            return False
        self.backend = self.touched = self.doubts = None
        self.session.step(Event.FAULT_IDLE)
        self.pool.discard(backend)
        return True

    def _read_elsewhere(self, reading: Reading, backend: Any, error: BaseException) -> bool:
        """A read failed that this library has sent to a reader: the writer's answer counts, and be it the same."""
        if self.session.hold is not _BORROWED or not isinstance(error, Exception) or backend.cancelled:
            return False
        if self.engine.says_cancelled(error):
            return False
        self.backend = None
        self.session.step(Event.FAULT_IDLE)
        if backend.is_dead():
            reading.lose(backend)
            self.pool.discard(backend)
        else:
            self._clean(backend)
        reading.is_forced = True
        return True

    def rolled_back(self) -> None:
        """A lost transaction was acknowledged: the session goes on."""
        self.session.step(Event.ROLLBACK)

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
        reading = None if self.reading is None else self.reading.successor()
        return Client(self._home, self.login, self.owner, self._lock, reading)

    def orphan(self) -> None:
        """In a forked child: the session is the parent's, and nothing of it may be touched from here."""
        if self.session.hold < Hold.SESSION_LOST:
            self.session.hold = Hold.SESSION_LOST
        self.backend = None

    # -- the end

    def close(self) -> None:
        """End the session. What it holds is cleaned and given back, or closed where it cannot be. Never raises."""
        backend, self.backend = self.backend, None
        pins = self.session.pins
        self.session.step(Event.CLOSE)
        self._home.say_goodbye()
        if backend is not None:
            if pins:
                self._say_unpinned(pins, backend)
            backend.needs_reset = backend.needs_reset or self.touched is not None
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
            text = self._why_lost or "the database connection of this pinned session was lost; open a new connection"
            if self._epoch != self.pool.epoch:
                text = "this connection belongs to the parent process and cannot be used after a fork; open a new one"
            return self.engine.error(errors.SessionLost, text)
        if self._expired:
            return self.engine.closed_error("the connection is closed by idle_client_timeout", is_expired=True)
        return self.engine.closed_error("the connection is closed")
