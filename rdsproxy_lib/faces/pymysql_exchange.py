"""One exchange of a client connection with the server: a backend's socket is taken over, used and left again.

Read `query` first, then `_rdsproxy_settle`, which runs at the end of the lock.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pymysql.connections import Connection as Driver
from pymysql.connections import MySQLResult, err
from pymysql.constants import COMMAND

from .. import errors
from ..backend import HERE
from ..client import Client
from ..engines.mysql import UNSET
from ..engines.mysql_settings import OF_THE_SCHEMA, dialect_of, is_staying
from ..engines.mysql_tracking import AUTOCOMMIT, IN_TRANSACTION, MORE_RESULTS, NO_BACKSLASH_ESCAPES, Tracked
from ..engines.mysql_wire import Result, Wire
from ..session import ENDED_BY_UNPIN, Hold, Tx
from ..settings import Immovable, settings_of
from ..sql import Dialect, Reason, Statement, classify_filled
from .lock import Lock
from .mysql_held import Holding
from .mysql_statements import (
    HARMLESS,
    INSERTS,
    NO_WARNINGS,
    TIDYING,
    WITHOUT_TRIGGERS,
    asks_for_a_sequence,
    asks_for_found_rows,
    asks_for_row_count,
    asks_for_warnings,
    is_end,
    is_plain_rollback,
    is_show_warnings,
)
from .pymysql_stream import Stream

_PARKED, _BORROWED, _TX_LOST, _SESSION_LOST = Hold.PARKED, Hold.BORROWED, Hold.TX_LOST, Hold.SESSION_LOST
_NO_TX, _OPEN = Tx.NONE, Tx.OPEN

_COM_QUERY = COMMAND.COM_QUERY
_send = Driver._execute_command


class _NoSocket:
    """What `_sock` is while no backend is held: the driver only looks whether there is one."""

    def __repr__(self) -> str:
        return "<no socket: no database connection is held>"


NO_SOCKET = _NoSocket()
LOST = object()
"""Stands for warnings that could not be fetched."""


class OwnedLock(Lock):
    """A lock that knows its thread from the beginning, so that one an interrupt left behind is recognised."""

    __slots__ = ()

    @property
    def __enter__(self) -> Any:
        mutex = self.mutex
        if mutex.locked() and (connection := self.owner()) is not None:
            connection._rdsproxy_lock_is_taken()
        self.user = HERE.thread
        return mutex.__enter__


class Exchange(Wire):
    """What a PyMySQL connection needs to talk to the server on a borrowed socket."""

    __module__ = "pymysql.connections"

    _rdsproxy: Client
    _rdsproxy_lock: OwnedLock
    # Defaults live on the class, so that an idle session costs little memory.
    _read_timeout: float | None = None
    _write_timeout: float | None = None
    _result: Any = None
    _affected_rows = 0
    _rdsproxy_is_exchanging = False
    _rdsproxy_statement: Statement | None = None
    """The last one: what results that are still to come belong to."""
    _rdsproxy_warnings: Any = None
    """The result of a SHOW WARNINGS about the last statement, asked before its backend was given back."""
    _rdsproxy_has_warned = False
    """Whether any statement since the backend was borrowed had warnings."""
    _rdsproxy_has_selected = False
    """Whether this session had rows from the backend it is pinned to, so that FOUND_ROWS() there is its own."""
    _rdsproxy_holding: Holding | None = None
    """What the last statement holds and frees, until all of its answer is read."""
    _rdsproxy_is_expiring = False
    """Another thread holds the lock to see whether `idle_client_timeout` is over."""

    @property
    def _rdsproxy_engine(self) -> Any:
        return self._rdsproxy.engine

    # -- one exchange

    def query(self, sql: str | bytes | bytearray, unbuffered: bool = False) -> int:
        """Run a text, with the parameters already in it, on a backend; borrow one if none is held."""
        with self._rdsproxy_lock:
            client = self._rdsproxy
            if (last := self._result) is not None and (last.unbuffered_active or last.has_next):
                self._rdsproxy_finish_last(last)
            backend = client.backend
            if backend is not None:
                dialect = backend.tracked.dialect
            else:
                if client.login.ghost is None:
                    self._rdsproxy_ghost()  # the server's sql_mode decides how the text is read
                dialect = self._rdsproxy_dialect() if client.wanted.values else client.login.dialect
            if isinstance(sql, str):
                text = sql
                sql = sql.encode(self.encoding)
            else:
                text = bytes(sql).decode(self.encoding, "replace")
            statement = classify_filled(text, dialect)
            if backend is None:
                if statement.reads_diagnostics and is_show_warnings(statement) and client.session.hold is _PARKED:
                    if self._rdsproxy_warnings is not None:
                        return self._rdsproxy_show_warnings()
                    sql, statement = b"SHOW WARNINGS LIMIT 0", NO_WARNINGS
                elif statement.reads_diagnostics:
                    self._rdsproxy_check_certain(statement)
                backend = self._rdsproxy_borrow(statement)
                if statement.reads_diagnostics and self._rdsproxy_warnings is None:
                    self._rdsproxy_forget_warnings(statement, backend)
                elif statement is NO_WARNINGS:
                    backend.used_by = None  # the list of the session before is still there
            elif statement.is_plain and self._rfile is not None and not client.is_thorough and not client.lingers:
                backend.statements += 1  # all that need() has to do
            else:
                if statement.reads_diagnostics:
                    if backend.used_by is not client.owner and self._rfile is None:
                        if is_show_warnings(statement) and self._rdsproxy_warnings is not None:
                            return self._rdsproxy_show_warnings()
                        self._rdsproxy_check_unasked(statement)
                    self._rdsproxy_check_certain(statement)
                    if not self._rdsproxy_has_warned and client.session.hold is _BORROWED:
                        self._rdsproxy_forget_warnings(statement, backend)
                backend = self._rdsproxy_need(statement)
            if statement.causes or statement.frees:
                self._rdsproxy_hold_by_name(statement, text, backend)
            backend.user = HERE.thread
            self._rdsproxy_warnings = None
            self._rdsproxy_statement = statement
            was_open = self.server_status & IN_TRANSACTION or backend.lingers
            try:
                self._rdsproxy_is_exchanging = True
                _send(self, _COM_QUERY, sql)
                affected = self._affected_rows = self._read_query_result(unbuffered)
                if statement.settings:
                    self._rdsproxy_learn(statement, backend)
            except BaseException as error:
                self._rdsproxy_failed(error, was_open)
                if not isinstance(error, err.MySQLError) or not self._rdsproxy_is_rolled_back():
                    raise
                # What was to be undone went with the backend: the ROLLBACK gets its answer from another one.
                backend = self._rdsproxy_borrow(statement)
                _send(self, _COM_QUERY, sql)
                affected = self._affected_rows = self._read_query_result(unbuffered)
            finally:
                self._rdsproxy_is_exchanging = False
            if backend.lingers or not statement.is_plain:
                self._rdsproxy_note(statement, backend)
            return affected

    def next_result(self, unbuffered: bool = False) -> int:
        """Read the next result of a text that has several."""
        if self._rdsproxy_is_exchanging and self._rdsproxy_lock.user is HERE.thread:  # the driver, before it sends
            return super().next_result(unbuffered)
        return self._rdsproxy_read(lambda: super(Exchange, self).next_result(unbuffered))

    def _rdsproxy_read(self, read: Callable[[], Any]) -> Any:
        """Read more of the answer to the last statement."""
        with self._rdsproxy_lock:
            client = self._rdsproxy
            backend = client.backend
            if backend is None:
                raise client.illegal(client.session.hold)
            return self._rdsproxy_converse(backend, read)

    def _rdsproxy_converse(self, backend: Any, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do something with the driver's code that speaks on the wire: `query` without its short ways."""
        backend.user = HERE.thread
        try:
            self._rdsproxy_is_exchanging = True
            result = work(*arguments)
        except BaseException as error:
            self._rdsproxy_failed(error, self.server_status & IN_TRANSACTION or backend.lingers)
            raise
        finally:
            self._rdsproxy_is_exchanging = False
        if self._rdsproxy_holding is not None:
            self._rdsproxy_end_holding()
        return result

    def _rdsproxy_run(self, statement: Statement, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run a method of the driver that asks the server something, on a backend."""
        with self._rdsproxy_lock:
            if self._result is not None:
                self._rdsproxy_finish_last(self._result)
            backend = self._rdsproxy_need(statement)
            self._rdsproxy_statement = statement
            if statement is not HARMLESS:
                self._rdsproxy_warnings = None

            def exchange() -> Any:
                result = work(self, *arguments)
                if statement.settings:
                    self._rdsproxy_learn(statement, backend)
                return result

            result = self._rdsproxy_converse(backend, exchange)
            self._rdsproxy_note(statement, backend)
            return result

    def _rdsproxy_show_warnings(self) -> int:
        """The answer to SHOW WARNINGS, asked for before its backend was given back or spoken to."""
        if self._rdsproxy_warnings is LOST:
            raise self._rdsproxy.engine.error(
                errors.DiagnosticsLost, "the warnings went with their database connection. Nothing was sent"
            )
        self._result = self._rdsproxy_warnings
        affected: int = self._result.affected_rows
        self._affected_rows = affected
        return affected

    def _rdsproxy_check_unasked(self, statement: Statement) -> None:
        """Refuse a question about the last statement where something of ours was asked since."""
        if not is_show_warnings(statement):
            raise self._rdsproxy.engine.error(
                errors.DiagnosticsLost,
                "a question about the last statement cannot be answered for certain: what pins this session was asked"
                " for since. Nothing was sent. Take cursor.rowcount",
            )

    def _rdsproxy_forget_warnings(self, statement: Statement, backend: Any) -> None:
        """MariaDB keeps the list of warnings over statements that use no table: those of another session, too."""
        text = statement.digest
        if backend.tracked.dialect.server != "mariadb" or not asks_for_warnings(text):
            return
        if asks_for_row_count(text) or asks_for_found_rows(text):
            raise self._rdsproxy.engine.error(
                errors.DiagnosticsLost,
                "this asks for warnings and a count at once, which cannot be told for certain. Nothing was sent."
                " Ask for one after the other",
            )
        self._rdsproxy_engine.forget_warnings(backend)
        self._current_timeout = UNSET

    def _rdsproxy_check_certain(self, statement: Statement) -> None:
        """Refuse a question about an earlier statement than the last, which may have run elsewhere."""
        text = statement.digest
        is_last = self._result is not None and self._result.description is not None
        if asks_for_found_rows(text) and not is_last and not self._rdsproxy_has_selected:
            why = "FOUND_ROWS() cannot be answered for certain: the last statement was no SELECT. Nothing was sent"
        elif asks_for_a_sequence(text) and self._rdsproxy.session.hold <= _BORROWED:
            why = "the last value of a sequence cannot be told for certain. Nothing was sent. Keep what NEXTVAL() gave"
        else:
            return
        raise self._rdsproxy.engine.error(errors.DiagnosticsLost, why)

    def _rdsproxy_need(self, statement: Statement | None) -> Any:
        """The backend for the next exchange, with its socket in our hands."""
        client = self._rdsproxy
        if client.backend is None:
            return self._rdsproxy_borrow(statement)
        try:
            backend = client.need(statement)
        except err.MySQLError as error:
            if isinstance(error, errors.Error) or client.backend is None:
                raise
            # A command of ours failed on it, and nothing of the user's was sent since.
            self._rdsproxy_statement = HARMLESS
            instead = self._rdsproxy_abort(self.server_status & IN_TRANSACTION, error)
            if instead is None:
                raise
            raise instead from error
        if self._rfile is None:  # commands of ours ran on it; or an interrupt fell amid giving it back
            self._rdsproxy_attach(backend)
        self._current_timeout = UNSET
        backend.used_by = client.owner
        return backend

    def _rdsproxy_hold(self) -> Any:
        """A backend for something that is no exchange of the driver's. The lock is held."""
        return self._rdsproxy_need(None)

    def _rdsproxy_borrow(self, statement: Statement | None) -> Any:
        if self._sock is None:
            raise err.InterfaceError(0, "")
        client = self._rdsproxy
        if client.session.hold is _TX_LOST and statement is not None and is_plain_rollback(statement):
            client.rolled_back()
        mode = self.server_status & AUTOCOMMIT
        if client.wanted.mode != mode:
            client.wanted = settings_of(client.wanted.values, mode)
        while True:
            try:
                if statement is not None and statement.is_plain and not client.is_thorough:
                    backend = client.borrow(statement)
                    backend.statements += 1
                else:
                    backend = client.need(statement)
                break
            except err.MySQLError as error:
                if isinstance(error, errors.Error) or client.backend is None:
                    raise
                # A command of ours failed on it, before anything of the user's was sent: another one will do.
                client.backend.raw._force_close()
                self._rdsproxy_drop()
                if client.session.hold is not _PARKED:
                    raise
        self._rdsproxy_attach(backend)
        self._rdsproxy_has_warned = self._rdsproxy_has_selected = False
        if self._closed:  # by another thread, while this one waited
            raise client.illegal(Hold.CLOSED)
        return backend

    def _rdsproxy_attach(self, backend: Any) -> None:
        """Take over the socket of a backend."""
        wire = backend.raw
        self._sock = wire._sock
        self._current_timeout = wire._current_timeout
        self.server_thread_id = wire.server_thread_id
        self._rdsproxy_tracked = backend.tracked
        self._rfile = wire._rfile

    def _rdsproxy_part(self, backend: Any) -> None:
        """Leave the wire to the backend again."""
        wire = backend.raw
        if self._sock is None:  # the driver closed it
            wire._force_close()
        wire._current_timeout = self._current_timeout
        mode = self.server_status & AUTOCOMMIT
        if backend.label.mode != mode:
            self._rdsproxy.wanted = backend.label = settings_of(backend.label.values, mode)
        self._rfile = None
        self._sock = NO_SOCKET

    def _rdsproxy_finish_last(self, result: MySQLResult) -> None:
        """Read what is left of the answer before, as the driver does before it sends the next text."""
        backend = self._rdsproxy.backend
        if backend is None:
            self._result = None
            return
        if result.unbuffered_active:
            warnings.warn("Previous unbuffered result was left incomplete", stacklevel=5)
            self._rdsproxy_converse(backend, result._finish_unbuffered_query)
        while self._result is not None and self._result.has_next:
            self._rdsproxy_converse(backend, super().next_result)
        self._result = None

    def _rdsproxy_stream(self) -> MySQLResult:
        return Stream(self)

    def _rdsproxy_dialect(self) -> Dialect:
        """How the server reads a text of this session, which holds no backend."""
        client = self._rdsproxy
        dialect: Dialect = client.login.dialect
        sql_mode = client.wanted.values.get("sql_mode")
        return dialect if sql_mode is None else dialect_of(sql_mode, dialect.server)

    # -- after it

    def _rdsproxy_note(self, statement: Statement, backend: Any) -> None:
        """What a statement that succeeded leaves for the next ones."""
        if statement.moves_sequence:
            backend.inserted.add(self._rdsproxy.owner, self._result.insert_id or 0)
            if statement.parts[-1].verb not in INSERTS or len(statement.parts) > 1:
                backend.inserted.is_wild = True
        if statement.ends_transaction:
            backend.lingers = False
        elif statement.lingers and not self.server_status & (IN_TRANSACTION | AUTOCOMMIT):
            backend.lingers = True
        if self._rdsproxy_holding is not None:
            self._rdsproxy_end_holding()

    def _rdsproxy_hold_by_name(self, statement: Statement, text: str, backend: Any) -> None:
        """Before a statement that pins or ends pins: note what it is about."""
        client = self._rdsproxy
        if self._rdsproxy_holding is not None:  # of a stream that was left
            self._rdsproxy_holding.end(client, has_failed=True)
        self._rdsproxy_holding = None
        holding = Holding(statement, text, backend.tracked.dialect, backend.schema)
        holding.begin(client)
        self._rdsproxy_holding = holding

    def _rdsproxy_end_holding(self) -> None:
        """What a statement holds and frees counts from the end of its answer on."""
        result, holding = self._result, self._rdsproxy_holding
        if holding is not None and (result is None or not (result.unbuffered_active or result.has_next)):
            self._rdsproxy_holding = None
            holding.end(self._rdsproxy, has_failed=False)

    def _rdsproxy_learn(self, statement: Statement, backend: Any) -> None:
        """After a statement by itself that only set something: a failure to read it is a failure of that statement."""
        client, result, tracked = self._rdsproxy, self._result, self._rdsproxy_tracked
        if client.session.pins is not None and Reason.USER_VARIABLE in client.session.pins:
            client.doubt(Reason.USER_VARIABLE)
        if not statement.reads_only or client.lingers or (result is not None and result.has_next):
            return
        if self.server_status & IN_TRANSACTION or backend.lingers or tracked.characteristics:
            return
        if tracked.changes:
            self._rdsproxy_see_changes(backend)
        if client.session.hold is not _BORROWED:
            return
        if result is not None and result.warning_count:
            self._rdsproxy_ask()
            self._result = result
        backend.raw.server_status = self.server_status
        with suppress(Immovable):  # settle() asks once more, and pins
            client.learn()
        self._current_timeout = UNSET

    def _rdsproxy_failed(self, error: BaseException, was_open: int) -> None:
        """An exchange raised. Returns where its own error is to be raised; raises what is to be raised instead."""
        client, backend, statement = self._rdsproxy, self._rdsproxy.backend, self._rdsproxy_statement
        if backend is None:
            return
        if self._rdsproxy_is_in_step:
            self._rdsproxy_is_in_step = False
            if isinstance(error, Exception) and not self.server_status & MORE_RESULTS:
                if self._rdsproxy_holding is not None:
                    self._rdsproxy_end_holding()
                return
        holding, self._rdsproxy_holding = self._rdsproxy_holding, None
        is_answer = self._sock is not None and getattr(error, "_rdsproxy_is_answer", False)
        if is_answer:
            try:
                self._rdsproxy_ask()
            except err.MySQLError:
                # The connection ended with the error; what the error says of the statement is true all the same.
                if statement is not None and not was_open and len(statement.parts) == 1:
                    self._rdsproxy_statement = HARMLESS
            except BaseException:
                self._rdsproxy_abort(was_open)
                raise
            else:
                client.failed(error, tx_open=False, may_have_committed=False, is_over=False, statement=statement)
                if statement is not None and statement.settings:
                    backend.reported.update(setting.name for setting in statement.settings)
                if holding is not None:
                    holding.end(client, has_failed=True)
                return
        instead = self._rdsproxy_abort(was_open, error)
        if instead is not None and isinstance(error, err.MySQLError) and not self._rdsproxy_is_rolled_back():
            raise instead from error

    def _rdsproxy_is_rolled_back(self) -> bool:
        """After a failure: whether it was a ROLLBACK that lost its backend, and with it all that it was to undo."""
        client, statement = self._rdsproxy, self._rdsproxy_statement
        is_gone = client.backend is None and client.session.hold is _PARKED
        return is_gone and statement is not None and is_plain_rollback(statement)

    def _rdsproxy_ask(self) -> None:
        """An error has no status word, so ask for it; with a question that leaves the diagnostics as they are."""
        self._rdsproxy_has_warned = True
        self._result = None
        _send(self, _COM_QUERY, b"SHOW WARNINGS")
        result = Result(self)
        result.read()
        self._rdsproxy_warnings = result

    def _rdsproxy_abort(self, was_open: int, error: BaseException | None = None) -> Exception | None:
        """The exchange was cut: the backend is closed. What the session has lost by that is returned as its error."""
        client, backend, statement = self._rdsproxy, self._rdsproxy.backend, self._rdsproxy_statement
        is_open = bool(was_open) or not self.server_status & AUTOCOMMIT
        self._force_close()
        self._rdsproxy_part(backend)
        self._result = None
        instead = client.failed(
            error,
            tx_open=is_open,
            may_have_committed=statement is None or statement.commits,
            is_over=statement is not None and is_end(statement),
            statement=statement,
        )
        self._rdsproxy_go_back()
        return instead

    def _rdsproxy_go_back(self) -> None:
        """A backend was lost, and what was set on it but not learnt yet: texts are escaped as before again."""
        if self._rdsproxy_dialect().backslash:
            self.server_status &= ~NO_BACKSLASH_ESCAPES
        else:
            self.server_status |= NO_BACKSLASH_ESCAPES

    def _rdsproxy_settle(self) -> None:
        """The end of the lock: an exchange is over."""
        client = self._rdsproxy
        backend = client.backend
        if backend is None:
            if self._rfile is not None:  # the session was ended, by idle_client_timeout or a fork
                self._sock, self._rfile = NO_SOCKET, None
            return
        if self._rfile is None:  # borrowed in vain: what it was for was refused
            client.settle(_NO_TX)
            return
        wire = backend.raw
        status = wire.server_status = self.server_status
        tracked = self._rdsproxy_tracked
        if tracked.changes:
            self._rdsproxy_see_changes(backend)
        result = self._result
        backend.is_streaming = False
        if result is not None:
            if result.warning_count:
                self._rdsproxy_has_warned = True
            if client.session.pins is not None and result.description is not None:
                self._rdsproxy_has_selected = True
            if result.unbuffered_active or result.has_next:
                backend.is_streaming = True
        if status & IN_TRANSACTION and not self._closed and not client.idle_timeout:
            return  # what most exchanges inside a transaction come to
        if self._closed:
            self._rdsproxy_part(backend)
            client.close()
        elif backend.is_streaming:
            return
        elif status & IN_TRANSACTION or backend.lingers or tracked.characteristics or client.lingers:
            client.settle(_OPEN)
        elif client.session.hold is not _BORROWED and not client.doubts:
            client.settle(_NO_TX)
        else:
            if self._rdsproxy_has_warned or client.insert_id is not None:
                self._rdsproxy_ask_farewell(backend)
            self._rdsproxy_part(backend)
            if wire._sock is not None:
                client.settle(_NO_TX)
            else:
                self._rdsproxy_drop()
            if client.session.pins is None:
                client.held = None

    def _rdsproxy_ask_farewell(self, backend: Any) -> None:
        """What only this backend can tell is asked before it goes, or never."""
        client, result = self._rdsproxy, self._result
        try:
            if self._rdsproxy_has_warned:
                if self._rdsproxy_warnings is None:
                    backend.used_by = None  # ROW_COUNT() has changed
                    self._rdsproxy_ask()
                self._rdsproxy_has_warned = False
            if client.insert_id is not None:
                self._rdsproxy_engine.keep_insert_id(client, backend)
        except err.MySQLError:
            self._force_close()
            self._rdsproxy_warnings = LOST
        except BaseException:
            self._force_close()
            self._rdsproxy_part(backend)
            self._rdsproxy_drop()
            raise
        finally:
            self._result = result

    def _rdsproxy_drop(self) -> None:
        """Let go of a backend that died with nothing open."""
        self._rdsproxy.failed(None, tx_open=False, may_have_committed=False, is_over=False, statement=HARMLESS)
        self._rdsproxy_go_back()

    def _rdsproxy_see_changes(self, backend: Any) -> None:
        """The server says that the session changed. If the text did not announce it, it is asked for, or pins now."""
        tracked: Tracked = self._rdsproxy_tracked
        changes = set(tracked.changes)
        tracked.changes.clear()
        client, statement = self._rdsproxy, self._rdsproxy_statement
        if backend.needs_reset and not backend.pinned:
            return  # which takes it back when the transaction is over
        variables = changes - {"autocommit", "schema", "state"} - OF_THE_SCHEMA
        staying = set(filter(is_staying, variables))
        if unnamed := variables - staying - (client.touched or set()):
            backend.reported |= unnamed
            client.touch(unnamed)
        if "schema" in changes:
            client.touch(("schema",))
        if client.session.pins and client.session.pins.keys() - ENDED_BY_UNPIN:
            return
        if staying:
            what = f"the server reports a change of {', '.join(sorted(staying))}"
            client.pin_afterwards(Reason.SETTING, what, statement)
            if any(name.startswith("profiling") for name in staying):
                client.pin_afterwards(Reason.UNRESETTABLE, what, statement)
        elif "state" in changes and not self._rdsproxy_announces(statement, changes):
            client.pin_afterwards(Reason.SETTING, "the server reports a change of the session's state", statement)

    def _rdsproxy_announces(self, statement: Statement | None, changes: set[str]) -> bool:
        """Whether what the server reports beside variables is known from the text; they alone do it where nothing else
        runs than the text shows."""
        if statement is None:
            return False
        verbs = {part.verb for part in statement.parts}
        if statement.settings or statement.frees or verbs <= TIDYING:
            return True
        if any(cause.reason is not Reason.UNKNOWN_ROUTINE for cause in statement.causes):
            return True
        is_told = changes != {"state"}
        if statement.causes:  # of a routine that was found to do no more, or that is trusted
            return bool(self._rdsproxy.touched) or is_told
        return is_told and verbs <= WITHOUT_TRIGGERS
