"""One exchange of a client connection with the server: a backend's socket is taken over, used and left again.

Read `query` first, then `Aftermath._rdsproxy_settle`, which runs at the end of the lock.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from pymysql.connections import MySQLResult, err

from .. import errors
from ..backend import HERE
from ..client import REPEATS
from ..commits import is_commit
from ..engines.mysql import UNSET
from ..engines.mysql_tracking import AUTOCOMMIT, IN_TRANSACTION
from ..reading import Reading
from ..session import Hold, Tx
from ..settings import settings_of
from ..sql import Dialect, Statement, classify_filled
from .lock import Lock
from .mysql_statements import (
    HARMLESS,
    NO_WARNINGS,
    ROLLBACK,
    asks_for_a_sequence,
    asks_for_found_rows,
    asks_for_row_count,
    asks_for_warnings,
    is_plain_rollback,
    is_show_warnings,
)
from .pymysql_aftermath import LOST, Aftermath, is_answer
from .pymysql_stream import Stream

ON = ("1", "ON", "'ON'", "b'1'")
"""Of a variable, as it is set again."""
_PARKED, _BORROWED, _TX_LOST, _SESSION_LOST = Hold.PARKED, Hold.BORROWED, Hold.TX_LOST, Hold.SESSION_LOST
_NO_TX, _OPEN = Tx.NONE, Tx.OPEN


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


class Exchange(Aftermath):
    """What a PyMySQL connection needs to talk to the server on a borrowed socket."""

    __module__ = "pymysql.connections"

    _rdsproxy_lock: OwnedLock
    _rdsproxy_is_expiring = False
    """Another thread holds the lock to see whether `idle_client_timeout` is over."""

    _rdsproxy_is_patient = False
    """psycopg's notifies() is; here an answer is always due."""

    @property
    def _rdsproxy_is_waiting(self) -> bool:
        """Whether an exchange is under way. For other threads: plain attributes only."""
        return self._rdsproxy_is_exchanging

    # -- one exchange

    def query(self, sql: str | bytes | bytearray, unbuffered: bool = False) -> int:
        """Run a text, with the parameters already in it, on a backend; borrow one if none is held."""
        with self._rdsproxy_lock:
            client = self._rdsproxy
            if (last := self._result) is not None and (last.unbuffered_active or last.has_next):
                self._rdsproxy_finish_last(last)
                if client.reading is not None and client.backend is not None:
                    self._rdsproxy_settle()  # what comes next may belong elsewhere
            backend = client.backend
            if backend is not None:
                if (dialect := backend.tracked.dialect) is None:
                    dialect = self._rdsproxy_read_mode(backend)
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
            is_plain = statement.is_plain
            if backend is None:
                if statement.reads_diagnostics and is_show_warnings(statement) and client.session.hold is _PARKED:
                    if self._rdsproxy_warnings is not None:
                        return self._rdsproxy_show_warnings()
                    sql, statement = b"SHOW WARNINGS LIMIT 0", NO_WARNINGS
                elif statement.reads_diagnostics:
                    self._rdsproxy_check_certain(statement)
                backend = self._rdsproxy_borrow(statement, text)
                if statement.reads_diagnostics and self._rdsproxy_warnings is None:
                    self._rdsproxy_forget_warnings(statement, backend)
            elif is_plain and self._rfile is not None and not client.is_thorough and not client.lingers:
                backend.statements += 1  # all that need() has to do
            else:
                if statement.reads_diagnostics:
                    if backend.used_by is not client.owner:
                        if is_show_warnings(statement) and self._rdsproxy_warnings is not None:
                            return self._rdsproxy_show_warnings()
                        self._rdsproxy_check_unasked(statement)
                    self._rdsproxy_check_certain(statement)
                    if not self._rdsproxy_has_warned:
                        self._rdsproxy_forget_warnings(statement, backend)
                backend = self._rdsproxy_need(statement)
            is_simple = is_plain and not (statement.commits or statement.ends_transaction)
            if not is_simple:  # ALTER TABLE … RENAME holds without a cause
                self._rdsproxy_hold_by_name(statement, text, dialect, backend)
                if client.commits is not None and is_commit(statement):
                    self._rdsproxy_leave_token(statement, backend)
            backend.user = HERE.thread
            if is_simple or not statement.ends_transaction or dialect.server != "mariadb":  # which keeps the list then
                self._rdsproxy_warnings = None
            self._rdsproxy_statement = statement
            was_open = self.server_status & IN_TRANSACTION or backend.lingers
            # Behind NO_WARNINGS the list of the session before is still there.
            backend.used_by = None if statement is NO_WARNINGS else client.owner
            repeats = 0
            while True:
                try:
                    self._rdsproxy_is_exchanging = True
                    self._rdsproxy_send(sql)
                    affected = self._affected_rows = self._read_query_result(unbuffered)
                    if not is_plain and statement.settings:
                        self._rdsproxy_learn(statement)
                    break
                except BaseException as error:
                    is_first = not (was_open or unbuffered) and repeats < REPEATS
                    if not (is_first and self._rdsproxy_may_repeat(error, statement)):
                        self._rdsproxy_failed(error, was_open)
                        if client.has_committed():
                            return self._rdsproxy_answer_commit()
                        if not isinstance(error, err.MySQLError) or not self._rdsproxy_is_rolled_back() or repeats:
                            raise  # else what was to be undone went with the backend, and another one answers
                finally:
                    self._rdsproxy_is_exchanging = False
                repeats += 1
                backend = self._rdsproxy_borrow(statement, text)
                backend.used_by = client.owner
            if not is_simple or backend.lingers or self._rdsproxy_holding is not None:
                self._rdsproxy_note(statement, backend)
            return affected

    def _rdsproxy_take_side(self, reading: Reading, statement: Statement | None, text: str) -> None:
        """Before something is borrowed: whether the next exchange belongs to the writer or to a reader."""
        wanted = self._rdsproxy.wanted.values
        # With a role of its own it sees other views than those that are asked for.
        is_single = self.server_status & AUTOCOMMIT and not self._rdsproxy_next and "role" not in wanted
        reading.take_side(
            statement if is_single else None,
            text,
            reads_only=any(wanted.get(name) in ON for name in ("transaction_read_only", "tx_read_only")),
        )

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
            if self._rdsproxy.has_committed():
                return self._rdsproxy_answer_commit()
            raise
        finally:
            self._rdsproxy_is_exchanging = False
        if self._rdsproxy_holding is not None:
            self._rdsproxy_end_holding()
        return result

    def _rdsproxy_run(self, statement: Statement, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run a method of the driver that asks the server something, on a backend."""
        with self._rdsproxy_lock:
            client = self._rdsproxy
            if self._result is not None:
                self._rdsproxy_finish_last(self._result)
                if client.reading is not None and client.backend is not None:
                    self._rdsproxy_settle()
            backend = self._rdsproxy_need(statement)
            if client.commits is not None and is_commit(statement):
                self._rdsproxy_leave_token(statement, backend)
            backend.used_by = client.owner
            self._rdsproxy_statement = statement
            if statement is not HARMLESS and (
                not statement.ends_transaction or client.login.dialect.server != "mariadb"
            ):
                self._rdsproxy_warnings = None

            def exchange() -> Any:
                result = work(self, *arguments)
                if statement.settings:
                    self._rdsproxy_learn(statement)
                return result

            result = self._rdsproxy_converse(backend, exchange)
            if client.backend is backend:  # else it was lost in a COMMIT that has happened
                self._rdsproxy_note(statement, backend)
            return result

    def _rdsproxy_leave_token(self, statement: Statement, backend: Any) -> None:
        """Before a COMMIT: leave the token that tells what became of it, where the transaction wrote something."""
        client = self._rdsproxy
        client.end_commit()
        tracked = self._rdsproxy_tracked
        if not self.server_status & IN_TRANSACTION or tracked.write_mark != b"W":
            return
        self._rdsproxy_statement = ROLLBACK  # what it comes to if this fails: nothing of the COMMIT has gone out
        try:
            if tracked.server == "mariadb" and self._rdsproxy_has_warned and self._rdsproxy_warnings is None:
                self._rdsproxy_ask()  # it keeps the list of warnings over a COMMIT, and not over an INSERT
            token = client.begin_commit(statement)
            if not self._rdsproxy_engine.leave_token(backend, token, is_sure=True):
                client.end_commit()
        except err.MySQLError as error:
            instead = self._rdsproxy_abort(IN_TRANSACTION, error)
            if instead is None:
                raise
            raise instead from error
        self._current_timeout = UNSET

    def _rdsproxy_answer_commit(self) -> int:
        """The answer to a COMMIT whose own was lost, and that is known to have happened."""
        self._rdsproxy_warnings = None
        self._affected_rows = 0
        self._result = result = MySQLResult(None)
        result.affected_rows = result.insert_id = 0
        return 0

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

    def _rdsproxy_read_mode(self, backend: Any) -> Dialect:
        """How the server reads texts now, which it did not say when it changed."""
        try:
            dialect: Dialect = self._rdsproxy_engine.read_mode(backend)
        except err.MySQLError as error:
            self._rdsproxy_statement = HARMLESS
            instead = self._rdsproxy_abort(self.server_status & IN_TRANSACTION or backend.lingers, error)
            if instead is None:
                raise
            raise instead from error
        self._current_timeout = UNSET
        return dialect

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
        if backend.tracked.server != "mariadb" or not asks_for_warnings(text):
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
        return backend

    def _rdsproxy_hold(self) -> Any:
        """A backend for something that is no exchange of the driver's. The lock is held."""
        return self._rdsproxy_need(None)

    def _rdsproxy_borrow(self, statement: Statement | None, text: str = "") -> Any:
        if self._sock is None:
            raise err.InterfaceError(0, "")
        client = self._rdsproxy
        if client.reading is not None:
            self._rdsproxy_take_side(client.reading, statement, text)
        if client.session.hold is _TX_LOST and statement is not None and is_plain_rollback(statement):
            client.rolled_back()
        mode = self.server_status & AUTOCOMMIT
        if client.wanted.mode != mode:
            client.wanted = settings_of(client.wanted.values, mode)
        for is_last in (False, False, True):
            try:
                if statement is not None and statement.is_plain and not client.is_thorough:
                    backend = client.borrow(statement)
                    backend.statements += 1
                else:
                    backend = client.need(statement)
                if self._rdsproxy_next:
                    self._rdsproxy_engine.begin_with(backend, self._rdsproxy_next)
                if statement is None:  # of pin(): the next one may ask for warnings, and is told none of another's
                    self._rdsproxy_engine.forget_warnings(backend)
                break
            except err.MySQLError as error:
                if isinstance(error, errors.Error) or client.backend is None:
                    raise
                # A command of ours failed on it, before anything of the user's was sent: another one will do.
                client.backend.raw._force_close()
                self._rdsproxy_drop()
                if client.session.hold is not _PARKED or is_answer(error) or is_last:
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
        self._rdsproxy_tracked = backend.tracked
        self._rfile = wire._rfile

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
        if self._rdsproxy_tracked.changes:  # which are that statement's, and not the next one's
            self._rdsproxy_see_changes(backend)

    def _rdsproxy_stream(self) -> MySQLResult:
        return Stream(self)
