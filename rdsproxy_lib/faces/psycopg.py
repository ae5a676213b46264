"""The logical psycopg connection: a `psycopg.Connection` without a socket of its own.

psycopg's own cursors, transactions, pipelines and copies run on it. Every exchange of the driver goes
`with conn.lock: conn.wait(generator)`, so three hooks are enough: `wait` borrows a backend and points whoever asks
at it, the end of `lock` gives it back, and `pgconn` answers while none is held. Everything that is the
session's (autocommit, isolation level, row factory, adapters, handlers) lives on this object because it *is* a
connection; prepared statements live with the backend.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any
from warnings import warn
from weakref import ref

import psycopg
from psycopg import errors as e
from psycopg import pq
from psycopg._connection_info import ConnectionInfo
from psycopg._cursor_base import BaseCursor
from psycopg._pipeline_base import BasePipeline
from psycopg._preparing import PrepareManager
from psycopg.pq.misc import connection_summary
from psycopg.rows import Row
from psycopg.transaction import BaseTransaction
from psycopg.waiting import wait

from ..backend import HERE
from ..client import REPEATS, Client
from ..commits import is_commit
from ..engines.postgresql import DEFAULT_KNOBS, TX
from ..engines.postgresql_settings import UNKNOWN
from ..reading import Reading, Side
from ..session import Hold
from ..settings import CLEAN, Immovable
from ..sql import Reason, Statement, classify, notifies
from .exchange import (
    BEGINNING,
    CLOSE_CURSOR_GEN,
    COPY_GEN,
    DECLARE_GEN,
    ENTER_PIPELINE_GEN,
    EXECUTE_GEN,
    EXIT_GEN,
    MANY,
    MIDWAY,
    NOBODY,
    ROLLBACK_GEN,
    SILENT_WHEN_PARKED,
    SPECIAL_WHEN_PARKED,
    STREAM_GEN,
    TPC_FINISH_GEN,
    WIRE_FUNCTIONS,
    commits,
    is_plain_rollback,
    is_swallowed,
    own_types,
    rewired,
    statement_of,
    text_of,
)
from .info import Info, Reported
from .lock import Lock

# libpq's numbers, not psycopg's enum: compared in every exchange.
IDLE = int(pq.TransactionStatus.IDLE)
ACTIVE = int(pq.TransactionStatus.ACTIVE)
INTRANS = int(pq.TransactionStatus.INTRANS)
_OK = int(pq.ConnStatus.OK)
SERIALIZABLE = psycopg.IsolationLevel.SERIALIZABLE
_PARKED, _SESSION_LOST = Hold.PARKED, Hold.SESSION_LOST

DRIVER_MODULES = ("psycopg.", "psycopg_pool", "psycopg_binary", "psycopg_c")

INTERRUPTED_SECONDS = 5.0
"""How long an interrupted statement may take to end, once cancelled, before its backend is closed."""

_CLOSED = pq.PGconn.connect_start(b"host=/nonexistent")
"""What a closed connection answers with: a libpq connection that never was one."""
_CLOSED.finish()
_NO_PLANS = PrepareManager()
"""What a session has of statements that the driver prepared until its first exchange: they belong to the backend."""
_NEW_CURSOR = BaseCursor.__init__.__code__


class Connection(psycopg.Connection[Row]):
    """A client connection: psycopg's interface, with a database connection borrowed per transaction.

    Made by `Proxy.connect()`. `rdsproxy` is the one attribute it adds.
    """

    __module__ = "psycopg"

    lock: Lock  # type: ignore[assignment]
    _rdsproxy: Client
    # Defaults live on the class, so that an idle session costs little memory.
    _rdsproxy_live: Any = None
    """What `pgconn` is while an exchange runs."""
    _rdsproxy_cursor: BaseCursor[Any, Any] | None = None
    """The cursor of this exchange: pointed back at the ghost when it ends."""
    _rdsproxy_piped: list[BaseCursor[Any, Any]] | None = None
    """The other cursors of the present pipeline."""
    _rdsproxy_was_open = False
    """Whether a transaction was open when the present pipeline began."""
    _rdsproxy_streams = 0
    _rdsproxy_begun: tuple[bool, Statement | None] = (False, None)
    """Whether a transaction was open before the stream or copy that is under way, and its statement."""
    _rdsproxy_repeats = 0
    """How often the present statement was sent again."""
    _rdsproxy_reached: str | None = None
    """What reached below the driver while an exchange was under way: it pins when that ends."""
    _rdsproxy_has_notified = False
    """With `resolve_commits`: whether a NOTIFY waits for the COMMIT. It counts as writing, and may be a false alarm."""
    _rdsproxy_error_message = ""
    _rdsproxy_notifications: deque[psycopg.Notify] | None = None
    _rdsproxy_hears_notifications = False
    _rdsproxy_knobs = DEFAULT_KNOBS

    def __init__(self, make_client: Callable[[Any, Any], Client], **session: Any) -> None:
        """`make_client(weak reference to this, its lock)` makes the client; `session` holds psycopg's own keywords."""
        weak = ref(self)
        lock = Lock(weak)
        self._rdsproxy = make_client(weak, lock)
        super().__init__(_CLOSED)
        self._prepared = _NO_PLANS
        self.lock = lock
        self._autocommit = bool(session.get("autocommit", False))
        if session.get("row_factory"):
            self.row_factory = session["row_factory"]
        if session.get("cursor_factory"):
            self.cursor_factory = session["cursor_factory"]
        if session.get("context"):
            self._adapters = psycopg.adapt.AdaptersMap(session["context"].adapters)
        if session.get("prepare_threshold", DEFAULT_KNOBS[0]) != DEFAULT_KNOBS[0]:
            self._rdsproxy_knobs = (session["prepare_threshold"], DEFAULT_KNOBS[1])

    @property
    def rdsproxy(self) -> Client:
        """What the proxy knows of this session: `pinned pin_reasons pin() unpin() in_transaction backend_id`."""
        return self._rdsproxy

    # -- the three hooks

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Run one exchange of the driver on a backend, borrowing one if none is held."""
        client = self._rdsproxy
        try:
            code = gen.gi_code
            names = gen.gi_frame.f_locals
        except AttributeError:  # not a generator of Python's: somebody's own exchange
            code, names = None, {}
        who = names.get("self")
        backend = client.backend
        if backend is None:
            is_special = code is not EXECUTE_GEN and code in SPECIAL_WHEN_PARKED
            if is_special or self._closed or client.session.hold is not _PARKED or self._pipeline:
                done, result = self._rdsproxy_without_backend(gen, code, who, names)
                if done:
                    return result
            if client.login.ghost is None:
                client.haunt()
            was_open = False
        else:
            was_open = backend.pgconn.transaction_status != IDLE
        statement = None
        if is_cursor := code is EXECUTE_GEN or isinstance(who, BaseCursor):
            query = names.get("query")
            if isinstance(query, str):
                statement = classify(query, client.login.dialect)
            else:
                statement = statement_of(self, who, names)
        is_plain = statement is not None and statement.is_plain
        if backend is None:
            if client.reading is not None:
                self._rdsproxy_take_side(client.reading, code, names, statement)
            if is_plain and not client.is_thorough:
                backend = client.borrow(statement)
                backend.statements += 1
            else:
                backend = client.need(statement, names.get("params", UNKNOWN))
            if self._closed:  # by another thread, while this one waited
                raise client.illegal(Hold.CLOSED)
            if backend.knobs is not self._rdsproxy_knobs:
                self._rdsproxy_tune(backend)
        elif is_plain and not client.is_thorough:
            backend.statements += 1  # all that need() has to do
        else:
            client.need(statement, names.get("params", UNKNOWN))
        self.lock.user = backend.user = HERE.thread
        pgconn = backend.pgconn
        self._prepared = backend.plans
        if not is_plain and statement is not None:
            if statement.changes_plans:
                # Plans made by others, or under other settings, are not this session's: none is used or made from here
                # on.
                backend.plans.prepare_threshold = backend.knobs = None
            if client.commits is not None:
                self._rdsproxy_has_notified = self._rdsproxy_has_notified or any(map(notifies, statement.parts))
                if is_commit(statement):
                    self._rdsproxy_leave_token(statement, backend)
        if is_cursor:
            who._pgconn = pgconn
            if (last := self._rdsproxy_cursor) is not None and last is not who:  # of the same pipeline
                if self._rdsproxy_piped is None:
                    self._rdsproxy_piped = []
                self._rdsproxy_piped.append(last)
            self._rdsproxy_cursor = who
            if code is not EXECUTE_GEN:
                if code in BEGINNING:
                    self._rdsproxy_begun = was_open, statement
                self._rdsproxy_note(code, who, backend)
        else:
            if code is ENTER_PIPELINE_GEN:
                self._rdsproxy_was_open = was_open
                client.engine.loosen(backend)  # type: ignore[attr-defined]
            gen = self._rdsproxy_bind(gen, code, who, names, backend)
        self._rdsproxy_live = pgconn
        try:
            result = wait(gen, pgconn.socket, interval=interval, timeout=timeout)
            if is_cursor and (client.touched is not None or client.wanted is not CLEAN) and len(who._results) > 1:
                _make_loaders(who)
            if not is_plain and statement is not None:
                if statement.settings and statement.reads_only and pgconn.transaction_status == IDLE:
                    self._rdsproxy_learn(client)
                if Reason.PREPARED_STATEMENT in statement.frees and _forgets_plans(statement):
                    # The driver does not look at what others, or statements it had prepared itself, deallocate.
                    backend.forget_plans()
                    self._rdsproxy_tune(backend)
        except e._WaitTimeout:
            raise
        except BaseException as error:
            if not isinstance(error, Exception):
                self._rdsproxy_interrupted(gen, pgconn)
            is_first = code is EXECUTE_GEN and not was_open
            if is_first and self._rdsproxy_drops_stale_plan(error, names, statement, backend):
                return self.wait(
                    who._execute_gen(names["query"], names["params"], prepare=False, binary=names["binary"])
                )
            if is_first and self._rdsproxy_may_repeat(error, statement):
                self._rdsproxy_repeats += 1
                try:
                    query, params = names["query"], names["params"]
                    return self.wait(who._execute_gen(query, params, prepare=names["prepare"], binary=names["binary"]))
                finally:
                    self._rdsproxy_repeats -= 1
            if code in MIDWAY:  # the protocol says "active", whether there is a transaction around it or not
                was_open, statement = self._rdsproxy_begun
            if self._rdsproxy_failed(error, was_open, code, who, names, statement):
                return self._rdsproxy_answer_instead(code, who, names)
            raise
        else:
            if code is EXIT_GEN and backend.is_dead():
                # The driver keeps quiet about a rollback that failed. The transaction is over, if this block's.
                client.failed(None, tx_open=True, may_have_committed=False, is_over=who._outer_transaction)
                result = is_swallowed(who, names)
            return result
        finally:
            self._rdsproxy_live = None
            if not is_cursor and isinstance(who, BaseTransaction):
                # Its exit looks here first, and must come to us even if the backend died meanwhile.
                who.pgconn = client.login.ghost

    def _start_query(self) -> Any:
        """Before each statement: the driver's own BEGIN, where it is due."""
        if self._autocommit or ((live := self._rdsproxy_live) is not None and live.transaction_status != IDLE):
            return ()
        return super()._start_query()

    def _rdsproxy_lock_is_taken(self) -> None:
        """Wait for the lock, unless that could be for ever.

        Clean-up that the collector runs amid a pool operation may not wait for a thread that waits for the pool. A
        thread that has it already is in a stream, copy or notifies() of its own, which is a mistake; else an
        interrupt fell on the very beginning of `__exit__`, and what that left undone is done now.
        """
        if self._rdsproxy.pool.is_inside():
            raise e.OperationalError("the connection is in use, and clean-up amid a pool operation cannot wait for it")
        if self.lock.user is not HERE.thread:
            return
        if self._rdsproxy_is_streaming():
            raise e.ProgrammingError(
                "this thread is in the middle of a stream, copy or notifies() on this connection; end it first, or use"
                " another connection"
            )
        self.lock.__exit__()

    def _rdsproxy_settle(self) -> None:
        """The end of `lock`: an exchange, or a stream, is over."""
        client = self._rdsproxy
        if self._pipeline is not None:
            client.note_use()
            return
        if (cursor := self._rdsproxy_cursor) is not None:
            # A cursor that is kept must not show another session's status.
            ghost = client.login.ghost
            if client.touched is not None or client.wanted is not CLEAN:
                ghost = self._rdsproxy_stand_in(cursor._pgconn, ghost)
            cursor._pgconn = ghost
            self._rdsproxy_cursor = None
            if self._rdsproxy_piped:
                for cursor in self._rdsproxy_piped:
                    cursor._pgconn = ghost
                self._rdsproxy_piped = None
        if (backend := client.backend) is None:
            return
        status = backend.pgconn.transaction_status
        if (
            status == INTRANS
            and not self._rdsproxy_reached
            and not self._closed
            and client.doubts is None
            and not client.idle_timeout
        ):
            return  # what most exchanges inside a transaction come to
        if self._rdsproxy_reached is not None:
            client.add_pin(Reason.RAW_ACCESS, self._rdsproxy_reached)
            self._rdsproxy_reached = None
            backend.unresettable = True
        if backend.piped:
            client.engine.tighten(backend)  # type: ignore[attr-defined]
            # In a pipeline the driver notes that its statements have to be deallocated, and leaves it for later.
            backend.needs_reset = backend.needs_reset or bool(backend.plans._to_flush)
        if self._closed:
            client.close()
        elif self._rdsproxy_streams:
            client.note_use()
        else:
            client.settle(TX[status])

    @property
    def pgconn(self) -> Any:
        """For the driver, the libpq connection in use, or the ghost; for anybody else, a guard in front of it."""
        if (live := self._rdsproxy_live) is not None:
            return live
        frame, client = sys._getframe(1), self._rdsproxy
        if frame.f_code is _NEW_CURSOR and client.backend is None and client.session.hold is _PARKED:  # as most find it
            return client.login.ghost or _CLOSED
        asker = frame.f_globals.get("__name__", "")
        if asker == "psycopg" or asker.startswith(DRIVER_MODULES):
            if client.backend is None and client.session.hold is _PARKED:
                return client.login.ghost or _CLOSED
            return self._rdsproxy_pgconn()
        from .guard import GuardedPGconn

        return GuardedPGconn(self)

    @pgconn.setter
    def pgconn(self, value: Any) -> None:
        pass  # psycopg's own __init__ hands in the one it was made with; ours comes and goes

    # -- what one exchange is

    def _rdsproxy_without_backend(self, gen: Any, code: Any, who: Any, names: dict[str, Any]) -> tuple[bool, Any]:
        """An exchange that is special while no backend is held: (True, its result), or (False, None) to borrow one."""
        client = self._rdsproxy
        hold = client.session.hold
        if code is EXIT_GEN and (who.status is who.Status.NOT_STARTED or self.closed):
            gen.close()
            if who.status is who.Status.NOT_STARTED:
                return True, False  # its BEGIN found no backend: there is nothing to end
            who.status = who.Status.FAILED
            self._num_transactions = 0
            if hold is Hold.SESSION_LOST and names["exc_val"] is None:
                raise client.illegal(hold)
            return True, False
        if self.closed:
            raise client.illegal(hold)
        if hold is Hold.TX_LOST:
            return True, self._rdsproxy_in_lost_transaction(gen, code, who, names)
        if self._pipeline is not None:
            if code is ENTER_PIPELINE_GEN and not who.level:
                return False, None
            raise e.OperationalError("the database connection of this pipeline was lost")
        if code in SILENT_WHEN_PARKED or (code is CLOSE_CURSOR_GEN and not who._withhold):
            return True, self._rdsproxy_drain(gen)
        return False, None

    def _rdsproxy_take_side(self, reading: Reading, code: Any, names: dict[str, Any], statement: Any) -> None:
        """Before something is borrowed: whether the next exchange belongs to the writer or to a reader."""
        wanted = self._rdsproxy.wanted.values
        reads_only = self._read_only
        if reads_only is None:
            reads_only = wanted.get("default_transaction_read_only") == "on"
        is_single = code is EXECUTE_GEN and self._autocommit and self._pipeline is None
        if self._isolation_level is SERIALIZABLE or wanted.get("default_transaction_isolation") == "serializable":
            is_single = reads_only = False  # of no standby
        if not is_single:
            statement = None
        text = "" if statement is None else text_of(self, names["self"], names["query"])
        reading.take_side(statement, text or "", reads_only=reads_only)
        if reading.side is Side.EITHER and (parameters := names.get("params")):
            reading.types = own_types(names["self"], parameters)

    def _rdsproxy_note(self, code: Any, cursor: Any, backend: Any) -> None:
        """What an exchange of a cursor, other than a plain execute(), leaves behind on the backend."""
        if code is STREAM_GEN:
            backend.streamed = True
        elif code is COPY_GEN:
            self._rdsproxy.engine.loosen(backend)  # type: ignore[attr-defined]
        elif code is CLOSE_CURSOR_GEN:
            self._rdsproxy.doubt({Reason.HOLD_CURSOR})
        elif code is DECLARE_GEN and cursor._withhold:
            self._rdsproxy.add_pin(Reason.HOLD_CURSOR, f"DECLARE {cursor._name!r} CURSOR WITH HOLD")

    def _rdsproxy_bind(self, gen: Any, code: Any, who: Any, names: dict[str, Any], backend: Any) -> Any:
        """Point whoever asks, other than a cursor, at the backend; the exchange to run, which may be made anew."""
        if isinstance(who, BaseTransaction):
            who.pgconn = backend.pgconn
        elif isinstance(who, BasePipeline):
            who.pgconn = backend.pgconn
            if backend.streamed:
                # libpq takes single rows into the first statement of a pipeline; a plain exchange ends that mode.
                backend.streamed = False
                with suppress(e.Error):
                    wait(backend.raw._exec_command(b""), backend.pgconn.socket, interval=0.1)
        elif who is None:  # of a copy, or somebody's own, which pins
            function = WIRE_FUNCTIONS.get(code)
            if function is None:
                self._rdsproxy.add_pin(Reason.RAW_ACCESS, f"conn.wait({getattr(gen, '__qualname__', gen)!s})")
            elif names.get("pgconn") is self._rdsproxy.login.ghost:  # made while no backend was held
                return rewired(function, code, names, backend.pgconn)
        return gen

    def _rdsproxy_learn(self, client: Client) -> None:
        """After a statement by itself that only set something: if the backend dies now, that statement has failed."""
        if self._pipeline is None and client.session.hold is not Hold.PINNED:
            try:
                client.learn()
            except (Immovable, e.Error):  # settle() asks once more, and pins
                if client.backend.is_dead():
                    raise

    def _rdsproxy_drain(self, gen: Any) -> Any:
        """Run a generator of the driver that sends nothing while no transaction is open."""
        self._rdsproxy_live = NOBODY
        try:
            gen.send(None)
        except StopIteration as stop:
            return stop.value
        finally:
            self._rdsproxy_live = None
        raise e.InternalError("the driver wanted to send something with no transaction open")

    @property
    def _rdsproxy_is_waiting(self) -> bool:
        """Whether an exchange is under way. For other threads: plain attributes only."""
        return self._rdsproxy_live is not None

    @property
    def _rdsproxy_is_patient(self) -> bool:
        """Whether it is notifies(), which no answer is due to."""
        return self._rdsproxy_streams > 0

    def _rdsproxy_is_streaming(self) -> bool:
        """Whether a stream, copy or notification generator is open: it keeps the lock between its exchanges."""
        backend = self._rdsproxy.backend
        return (
            self._rdsproxy_live is not None  # interrupted in the middle of an exchange, by a signal handler
            or bool(self._rdsproxy_streams)
            or (backend is not None and backend.pgconn.transaction_status == ACTIVE)
        )

    def _rdsproxy_tune(self, backend: Any) -> None:
        """Give a backend's statement cache the session's two settings."""
        prepared = backend.plans
        prepared.prepare_threshold, prepared.prepared_max = backend.knobs = self._rdsproxy_knobs

    def _rdsproxy_interrupted(self, gen: Any, pgconn: Any) -> None:
        """Ctrl-C in the middle of a statement: cancel it and take in the rest, or close, as the driver does."""
        if pgconn.transaction_status != ACTIVE:
            return
        try:
            self._try_cancel(timeout=INTERRUPTED_SECONDS)
            wait(gen, pgconn.socket, interval=0.1, timeout=INTERRUPTED_SECONDS)
        except e.QueryCanceled:
            pass  # as asked
        except BaseException:  # it goes on, or is in an unknown state
            pgconn.finish()

    def _rdsproxy_drops_stale_plan(
        self, error: BaseException, names: dict[str, Any], statement: Statement | None, backend: Any
    ) -> bool:
        """Whether a statement met a plan that was made before its table changed, maybe by another session.

        Planning refused it (0A000), so nothing of it ran and it may run once more, unprepared. Only what the driver
        itself had prepared counts, and not the error of something that the statement called. The plan is dropped,
        and the BEGIN of this exchange undone.
        """
        if (
            not isinstance(error, e.FeatureNotSupported)
            or error.diag.source_function != "RevalidateCachedQuery"
            or error.diag.context is not None
            or error.diag.internal_query is not None
            or self._pipeline is not None
            or statement is None
            or statement.causes
        ):
            return False
        raw = backend.raw
        query = names["self"]._convert_query(names["query"], names["params"])
        name = backend.plans._names.pop(PrepareManager.key(query), None)
        if name is None:
            return False
        if raw.pgconn.transaction_status != IDLE:
            wait(raw._exec_command(b"ROLLBACK"), raw.pgconn.socket, interval=0.1)
        wait(raw._exec_command(b"DEALLOCATE " + name), raw.pgconn.socket, interval=0.1)
        return True

    # -- after a fault

    def _rdsproxy_may_repeat(self, error: BaseException, statement: Statement | None) -> bool:
        """Whether a statement that began with no transaction open is sent again. Its backend is gone then."""
        if self._rdsproxy_repeats >= REPEATS or self._pipeline is not None or self._closed:
            return False
        return self._rdsproxy.may_repeat(error, statement)

    def _rdsproxy_failed(
        self,
        error: BaseException,
        was_open: bool,
        code: Any,
        who: Any,
        names: dict[str, Any],
        statement: Statement | None,
    ) -> bool:
        """An exchange raised: raise ours instead where the backend was lost; True where nothing need be raised."""
        client = self._rdsproxy
        backend = client.backend
        if backend is None:
            return False
        is_rollback = code is ROLLBACK_GEN or (code is EXECUTE_GEN and is_plain_rollback(statement))
        is_commit = commits(code, who, names, statement)
        is_many = self._pipeline is not None or code in MANY  # the error may be an earlier statement's
        is_own_pipeline = self._pipeline is not None and not isinstance(self._pipeline._lock, Lock)
        if is_own_pipeline:
            was_open = self._rdsproxy_was_open  # executemany()'s own pipeline looks like a transaction from inside
        ours = client.failed(
            error,
            tx_open=was_open or not self._autocommit or isinstance(who, BaseTransaction),
            may_have_committed=is_commit or (self._pipeline is not None and not is_own_pipeline),
            is_over=is_commit or is_rollback,
            statement=None if is_many else statement,
        )
        self._rdsproxy_error_message = backend.pgconn.get_error_message()
        if is_many:
            # The driver has noted statements as prepared that the server, skipping the rest, never prepared.
            backend.needs_reset = True
        if client.backend is not None or not isinstance(error, Exception):
            if ours is not None:
                raise ours from error
            return False
        self._tpc = None
        if client.has_committed() or (is_rollback and client.session.hold is Hold.PARKED):
            return True
        if ours is not None:
            raise ours from error
        return False

    def _rdsproxy_answer_instead(self, code: Any, who: Any, names: dict[str, Any]) -> Any:
        """The result of a ROLLBACK or COMMIT whose backend was lost, and that has not failed by it.

        What was to be undone went with the backend, or the COMMIT is known to have happened. Where it was a text of the
        application's, another backend answers it.
        """
        if code is not EXECUTE_GEN:
            return False if code is EXIT_GEN else None
        query = names["query"]
        if is_plain_rollback(statement_of(self, who, names)):
            return self.wait(who._execute_gen(query))
        autocommit, self._autocommit = self._autocommit, False  # a BEGIN goes before it, so that there is no warning
        try:
            return self.wait(who._execute_gen(query))
        except e.Error:  # what is committed is committed: then the cursor has no status message
            return None
        finally:
            self._autocommit = autocommit

    # -- tokens of `resolve_commits`

    def _exec_command(self, command: Any, result_format: pq.Format = pq.Format.TEXT) -> Any:
        """A command of the driver's own. Its COMMIT takes a token along."""
        if command == b"COMMIT" and self._rdsproxy.commits is not None and self._pipeline is None:
            return self._rdsproxy_commit_gen()
        return super()._exec_command(command, result_format)

    def _rdsproxy_commit_gen(self) -> Any:
        client = self._rdsproxy
        backend: Any = client.backend
        if backend.pgconn.transaction_status != INTRANS:
            return (yield from super()._exec_command(b"COMMIT"))
        engine: Any = client.engine
        has_notified, self._rdsproxy_has_notified = self._rdsproxy_has_notified, False
        result = yield from engine.commit_with(backend, client.begin_commit(None), is_sure=has_notified)
        client.end_commit()
        return result

    def _rdsproxy_leave_token(self, statement: Statement, backend: Any) -> None:
        """Before a text of the application's that is a COMMIT."""
        client = self._rdsproxy
        client.end_commit()
        if backend.pgconn.transaction_status != INTRANS or self._pipeline is not None:
            return
        token = client.begin_commit(statement)
        has_notified, self._rdsproxy_has_notified = self._rdsproxy_has_notified, False
        try:
            client.engine.leave_token(backend, token, is_sure=has_notified)
        except e.Error as error:
            ours = client.failed(error, tx_open=True, may_have_committed=False, is_over=True)
            if ours is not None:
                raise ours from error
            raise

    def _rdsproxy_in_lost_transaction(self, gen: Any, code: Any, who: Any, names: dict[str, Any]) -> Any:
        """Between the loss of an open transaction and its ROLLBACK: only that, and leaving its blocks, is possible."""
        client = self._rdsproxy
        if code is CLOSE_CURSOR_GEN:  # as the driver does in a failed transaction
            gen.close()
            return None
        if code is ROLLBACK_GEN:
            result = self._rdsproxy_drain(gen)
            client.rolled_back()
            return result
        if code is TPC_FINISH_GEN and names["action"] == "ROLLBACK" and names["xid"] is None:
            gen.close()
            self._tpc = None
            client.rolled_back()
            return None
        if code is EXIT_GEN:
            gen.close()
            if (disorder := who._pop_savepoint("rollback")) is not None:
                raise disorder
            error = names.get("exc_val")
            who.status = who.Status.ROLLED_BACK_WITH_ERROR
            if who._outer_transaction:
                client.rolled_back()
            if error is None and not who.force_rollback:
                raise client.illegal(Hold.TX_LOST)
            return is_swallowed(who, names)
        statement = statement_of(self, who, names) if isinstance(who, BaseCursor) else None
        if statement is not None and statement.parts[0].verb in ("ROLLBACK", "ABORT"):
            client.rolled_back()
            return self.wait(gen)
        raise client.illegal(Hold.TX_LOST)

    # -- what the driver keeps on a connection

    def _rdsproxy_pgconn(self) -> Any:
        backend = self._rdsproxy.backend
        if backend is not None:
            return backend.pgconn
        if self.closed:
            return _CLOSED
        return self._rdsproxy.login.ghost or _CLOSED

    def _rdsproxy_reported(self, name: bytes) -> bytes | None:
        """What the server reported last of a parameter to this session, if it reports it."""
        pgconn, client = self._rdsproxy_pgconn(), self._rdsproxy
        reported: bytes | None = pgconn.parameter_status(name)
        if client.backend is None and reported is not None and client.wanted.values:
            own = client.wanted.values.get(name.decode("ascii", "replace").lower())
            return reported if own is None else own.encode()
        return reported

    def _rdsproxy_stand_in(self, pgconn: Any, ghost: Any) -> Any:
        """What a cursor asks from now on for the encoding of its columns' names: the ghost, if that has the same."""
        encoding = pgconn._encoding if pgconn is not None and pgconn.status == _OK else ghost._encoding
        return ghost if encoding == ghost._encoding else Reported(self, encoding)

    def _rdsproxy_hold(self) -> Any:
        """A backend for something that is no exchange of the driver's. The lock is held."""
        client = self._rdsproxy
        self.lock.user = HERE.thread
        self._check_connection_ok()
        if client.login.ghost is None:
            client.haunt()
        if client.backend is None and client.reading is not None:
            self._rdsproxy_take_side(client.reading, None, {}, None)
        return client.need(None)

    def _rdsproxy_raw(self, what: str) -> Any:
        """The real libpq connection, for somebody who reaches below the driver: the session is pinned to it."""
        client = self._rdsproxy
        while True:
            if not self.lock.mutex.locked():
                with self.lock:
                    backend = self._rdsproxy_hold()
                    client.add_pin(Reason.RAW_ACCESS, what)
                    # Whoever has it may keep it, and set what no command takes back.
                    backend.unresettable = True
                    return backend.pgconn
            if (backend := client.backend) is not None:  # amid a stream or a copy, maybe of this very thread
                self._rdsproxy_reached = what
                return backend.pgconn
            with self.lock.mutex:  # another thread is about to begin or to end: once more after it
                pass

    @property
    def prepare_threshold(self) -> int | None:
        """Number of times a query is executed before it is prepared; None disables it."""
        return self._rdsproxy_knobs[0]

    @prepare_threshold.setter
    def prepare_threshold(self, value: int | None) -> None:
        self._rdsproxy_set_knobs(value, self._rdsproxy_knobs[1])

    @property
    def prepared_max(self) -> int | None:
        """Maximum number of prepared statements on a database connection; None is no maximum."""
        return self._rdsproxy_knobs[1] if self._rdsproxy_knobs[1] != sys.maxsize else None

    @prepared_max.setter
    def prepared_max(self, value: int | None) -> None:
        self._rdsproxy_set_knobs(self._rdsproxy_knobs[0], sys.maxsize if value is None else value)

    def _rdsproxy_set_knobs(self, threshold: int | None, maximum: int) -> None:
        self._rdsproxy_knobs = (threshold, maximum)
        if (backend := self._rdsproxy.backend) is not None and backend.knobs is not None:
            self._rdsproxy_tune(backend)

    @property
    def _notifies_backlog(self) -> deque[psycopg.Notify] | None:
        if self._rdsproxy_hears_notifications:
            return None
        if self._rdsproxy_notifications is None:
            self._rdsproxy_notifications = deque()
        return self._rdsproxy_notifications

    @_notifies_backlog.setter
    def _notifies_backlog(self, value: deque[psycopg.Notify] | None) -> None:
        self._rdsproxy_hears_notifications = value is None
        if value:
            self._rdsproxy_notifications = value

    @property
    def info(self) -> ConnectionInfo:
        """A `ConnectionInfo` to inspect the connection."""
        return Info(self)

    @property
    def closed(self) -> bool:
        """True once closed, by `close()` or because a pinned session lost its database connection."""
        return self._closed or self._rdsproxy.session.hold >= _SESSION_LOST

    @property
    def broken(self) -> bool:
        """True if the session was lost. A lost transaction does not break the connection."""
        return self._rdsproxy.session.hold is Hold.SESSION_LOST

    def _check_connection_ok(self) -> None:
        if self._closed or self._rdsproxy.session.hold >= _SESSION_LOST:
            raise self._rdsproxy.illegal(self._rdsproxy.session.hold)

    def fileno(self) -> int:
        """The descriptor of a backend that from now on is this session's: the session is pinned."""
        if self.closed:
            return super().fileno()
        descriptor: int = self._rdsproxy_raw("fileno()").socket
        return descriptor

    def cancel(self) -> None:
        """Cancel the statement in flight on this connection, and nobody else's."""
        if self._should_cancel():
            self._rdsproxy.cancel(lambda backend: backend.raw.cancel())

    def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """Cancel the statement in flight on this connection, and nobody else's, within `timeout` seconds."""
        if self._should_cancel():
            self._rdsproxy.cancel(lambda backend: backend.raw.cancel_safe(timeout=timeout))

    def notifies(self, *, timeout: float | None = None, stop_after: int | None = None) -> Generator[psycopg.Notify]:
        """Yield notifications as they arrive; the backend is held until the generator ends."""
        with self.lock:
            self._rdsproxy_hold()
            self._rdsproxy_streams += 1
        try:
            yield from super().notifies(timeout=timeout, stop_after=stop_after)
        finally:
            with self.lock:
                self.lock.user = HERE.thread
                self._rdsproxy_streams -= 1

    # -- the end

    def close(self) -> None:
        """Close the client connection: an open transaction is rolled back, the backend cleaned and given back."""
        if self._rdsproxy.session.hold >= _SESSION_LOST:
            return
        self._closed = True
        lock = self.lock
        if lock.user is HERE.thread and not self._rdsproxy_is_streaming():
            lock.release()  # see _rdsproxy_lock_is_taken
        elif not lock.mutex.locked():
            with lock:
                lock.user = HERE.thread
        else:  # an exchange or a stream is under way, maybe in another thread: cut it short; its end closes
            self._rdsproxy.interrupt()

    def _rdsproxy_finish_close(self) -> None:
        """Close what is left, unless an exchange is still under way: its end comes here again."""
        client = self._rdsproxy
        if client.session.hold < Hold.SESSION_LOST and self.lock.mutex.acquire(blocking=False):
            try:
                client.close()
            finally:
                self.lock.mutex.release()

    def _rdsproxy_expire(self, now: float) -> None:
        """Close it if `idle_client_timeout` is over, unless an exchange is under way."""
        if self.lock.mutex.acquire(blocking=False):
            try:
                self._rdsproxy.expire(now)
            finally:
                self.lock.mutex.release()
            if self._closed:  # meanwhile, by another thread that found the lock taken
                self._rdsproxy_finish_close()

    def __repr__(self) -> str:
        cls = f"{self.__class__.__module__}.{self.__class__.__qualname__}"
        summary = connection_summary(self._rdsproxy_pgconn())
        if self._rdsproxy.session.hold is Hold.TX_LOST:
            summary = summary.replace("[IDLE]", "[INERROR]", 1)
        return f"<{cls} {summary} at 0x{id(self):x}>"

    def __del__(self, __warn: Any = warn) -> None:
        # May run anywhere, also inside a pool operation of this very thread: no lock, no protocol.
        client = self.__dict__.get("_rdsproxy")
        if client is None or client.session.hold >= Hold.SESSION_LOST:
            return
        client.abandon()
        if not self._closed:
            __warn(
                f"{object.__repr__(self)} was deleted while still open."
                " Please use 'with' or '.close()' to close the connection properly",
                ResourceWarning,
            )


def _make_loaders(cursor: Any) -> None:
    """Make what loads the rows of all results now: it asks the database connection for TimeZone and encoding."""
    for result in (*cursor._results[1:], cursor._results[0]):
        cursor._tx.set_pgresult(result)


def _forgets_plans(statement: Statement) -> bool:
    """Whether it is one of DISCARD ALL and DEALLOCATE ALL, which end the driver's prepared statements too."""
    return any(
        part.verb.startswith(("DISCARD", "DEALLOCATE")) and part.text.upper().endswith(" ALL")
        for part in statement.parts
    )
