"""What follows an exchange of a client connection with the server: was it an error, what did it leave, who goes on.

Read `_rdsproxy_settle` first, which runs at the end of the lock.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from pymysql.connections import err
from pymysql.constants import ER

from ..client import Client
from ..engines.mysql import UNSET
from ..engines.mysql_errors import code_of
from ..engines.mysql_settings import CHARACTER_SETS, OF_THE_SCHEMA, dialect_of, is_staying
from ..engines.mysql_tracking import AUTOCOMMIT, IN_TRANSACTION, MORE_RESULTS, NO_BACKSLASH_ESCAPES, Tracked
from ..engines.mysql_wire import Result, Wire
from ..session import ENDED_BY_UNPIN, Hold, Tx
from ..settings import Immovable, settings_of
from ..sql import Dialect, Reason, Statement
from .mysql_held import Holding
from .mysql_statements import (
    HARMLESS,
    INSERTS,
    TIDYING,
    WITHOUT_TRIGGERS,
    is_definition,
    is_end,
    is_one_shot,
    is_plain_rollback,
    may_lock,
)

_PARKED, _BORROWED = Hold.PARKED, Hold.BORROWED
_NO_TX, _OPEN = Tx.NONE, Tx.OPEN
_TRANSACTIONS = IN_TRANSACTION | AUTOCOMMIT


class _NoSocket:
    """What `_sock` is while no backend is held: the driver only looks whether there is one."""

    def __repr__(self) -> str:
        return "<no socket: no database connection is held>"


NO_SOCKET = _NoSocket()
LOST = object()
"""Stands for warnings that could not be fetched."""


def is_answer(error: BaseException) -> bool:
    """Whether the server said so, and the connection goes on."""
    return getattr(error, "_rdsproxy_is_answer", False)


class Aftermath(Wire):
    """What a PyMySQL connection on a borrowed socket does when an exchange is over."""

    __module__ = "pymysql.connections"

    _rdsproxy: Client
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
    _rdsproxy_next = ""
    """What SET TRANSACTION has set for the next transaction alone, as SQL, while there is no backend to have it."""
    _rdsproxy_holding: Holding | None = None
    """What the last statement holds and frees, until all of its answer is read."""

    @property
    def _rdsproxy_engine(self) -> Any:
        return self._rdsproxy.engine

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

    def _rdsproxy_dialect(self) -> Dialect:
        """How the server reads a text of this session, which holds no backend."""
        client = self._rdsproxy
        dialect: Dialect = client.login.dialect
        sql_mode = client.wanted.values.get("sql_mode")
        return dialect if sql_mode is None else dialect_of(sql_mode, dialect.server)

    def _rdsproxy_note(self, statement: Statement, backend: Any) -> None:
        """What a statement that succeeded leaves for the next ones."""
        if statement.moves_sequence:
            backend.inserted.add(self._rdsproxy.owner, self._result.insert_id or 0)
            if statement.parts[-1].verb not in INSERTS or len(statement.parts) > 1:
                backend.inserted.is_wild = True
        if statement.ends_transaction and self._rdsproxy_tracked.has_begun:
            self._rdsproxy_unlock_tables()
        if statement.ends_transaction and self._rdsproxy_count_warnings():
            self._rdsproxy_warnings = None
            self._rdsproxy_has_warned = True
        has_token = statement.ends_transaction and self._rdsproxy.commits is not None
        if has_token and getattr(self._rdsproxy_warnings, "rows", None):
            backend.used_by = None  # MariaDB's list is still to be told, and the token has emptied it there
        if statement.ends_transaction or self.server_status & AUTOCOMMIT:  # switching it on commits
            backend.lingers = False
        elif backend.lingers:
            backend.lingers = not is_definition(statement)
        elif statement.lingers and not self.server_status & IN_TRANSACTION:
            backend.lingers = True
        if statement.causes and not statement.settings:  # a routine, found to leave nothing but settings
            self._rdsproxy_doubt_mode(self._rdsproxy.touched or ())
        if self._rdsproxy_holding is not None:
            self._rdsproxy_end_holding()

    def _rdsproxy_unlock_tables(self) -> None:
        """BEGIN has ended LOCK TABLES: https://dev.mysql.com/doc/refman/8.4/en/lock-tables.html"""
        client = self._rdsproxy
        self._rdsproxy_tracked.has_begun = False
        if client.held and (locks := client.held.get(Reason.TABLE_LOCK)):
            locks.discard("tables")
            client.doubt({Reason.TABLE_LOCK})

    def _rdsproxy_count_warnings(self) -> int:
        """How many the last statement had."""
        result = self._result
        count: int = self._rdsproxy_warning_count if result is None else result.warning_count
        return count

    def _rdsproxy_hold_by_name(self, statement: Statement, text: str, dialect: Dialect, backend: Any) -> None:
        """Before a statement that pins or ends pins: note what it is about."""
        client = self._rdsproxy
        if not statement.causes and not statement.frees and not any(part.holds for part in statement.parts):
            return
        if self._rdsproxy_holding is not None:  # of a stream that was left
            self._rdsproxy_holding.end(client, has_failed=True)
        self._rdsproxy_holding = None
        if any(cause.reason is Reason.TABLE_LOCK for cause in statement.causes):
            self._rdsproxy_tracked.has_begun = False
        holding = Holding(statement, text, dialect, backend.schema)
        holding.begin(client)
        self._rdsproxy_holding = holding

    def _rdsproxy_end_holding(self) -> None:
        """What a statement holds and frees counts from the end of its answer on."""
        result, holding = self._result, self._rdsproxy_holding
        if holding is not None and (result is None or not (result.unbuffered_active or result.has_next)):
            self._rdsproxy_holding = None
            holding.end(self._rdsproxy, has_failed=False)

    def _rdsproxy_learn(self, statement: Statement) -> None:
        """After a statement by itself that only set something: a failure to read it is a failure of that statement."""
        client, result, tracked = self._rdsproxy, self._result, self._rdsproxy_tracked
        backend = client.backend
        if client.session.pins is not None and Reason.USER_VARIABLE in client.session.pins:
            client.doubt({Reason.USER_VARIABLE})
        names = {setting.name for setting in statement.settings}
        backend.reported -= names
        backend.refused -= names
        self._rdsproxy_doubt_mode(names)
        if not statement.reads_only or client.lingers:
            return
        if result is not None and (result.unbuffered_active or result.has_next):
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

    def _rdsproxy_doubt_mode(self, names: Collection[str]) -> None:
        """MariaDB does not tell of SET @@name = …: how it reads texts now, and speaks, is asked for when it counts."""
        tracked = self._rdsproxy_tracked
        if tracked.server == "mariadb":
            unsaid = set(names).difference(tracked.changes)
            if "sql_mode" in unsaid:
                tracked.dialect = None
            if not unsaid.isdisjoint(CHARACTER_SETS):
                tracked.charsets["?"] = "?"

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
        if self._sock is not None and is_answer(error):
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
                    backend.refused.update(setting.name for setting in statement.settings)
                    self._rdsproxy_doubt_mode({setting.name for setting in statement.settings})
                if holding is not None:
                    holding.end(client, has_failed=True)
                if code_of(error) == ER.LOCK_DEADLOCK:
                    self._rdsproxy_statement = HARMLESS  # the server has undone it, with all of the transaction
                return
        instead = self._rdsproxy_abort(was_open, error)
        if instead is not None and isinstance(error, err.MySQLError) and not self._rdsproxy_is_rolled_back():
            raise instead from error

    def _rdsproxy_may_repeat(self, error: BaseException, statement: Statement) -> bool:
        """Whether a statement that began with no transaction open is sent again. Its backend is gone then."""
        client, backend = self._rdsproxy, self._rdsproxy.backend
        is_reading = client.reading is not None and client.reading.has_failed_there(client.pool, statement)
        if not is_answer(error):
            if not is_reading or not isinstance(error, err.MySQLError):
                return False
            backend.raw._force_close()
        elif self._sock is None:
            return False
        elif is_reading:
            backend.raw.server_status |= IN_TRANSACTION  # an error has no status word: what may be open is rolled back
        if self._closed or not client.may_repeat(error, statement):
            return False
        self._rfile, self._sock, self._result = None, NO_SOCKET, None
        self._rdsproxy_go_back()
        return True

    def _rdsproxy_is_rolled_back(self) -> bool:
        """After a failure: whether it was a ROLLBACK that lost its backend, and with it all that it was to undo."""
        client, statement = self._rdsproxy, self._rdsproxy_statement
        is_gone = client.backend is None and client.session.hold is _PARKED
        return is_gone and statement is not None and is_plain_rollback(statement)

    def _rdsproxy_ask(self) -> None:
        """An error has no status word, so ask for it; with a question that leaves the diagnostics as they are."""
        self._rdsproxy_has_warned = True
        self._result = None
        self._rdsproxy_send(b"SHOW WARNINGS")
        result = Result(self)
        result.read()
        self._rdsproxy_warnings = result

    def _rdsproxy_abort(self, was_open: int, error: BaseException | None = None) -> Exception | None:
        """The exchange was cut: the backend is closed. What the session has lost by that is returned as its error."""
        client, backend, statement = self._rdsproxy, self._rdsproxy.backend, self._rdsproxy_statement
        only_sets = statement is not None and bool(statement.settings) and statement.reads_only
        is_open = bool(was_open) or not (self.server_status & AUTOCOMMIT or only_sets)
        self._force_close()
        self._rdsproxy_part(backend)
        self._result = None
        self.server_status &= ~IN_TRANSACTION  # that one; else the next statement would seem to stand in it
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
        self._rdsproxy_escape_as(self._rdsproxy_dialect())

    def _rdsproxy_escape_as(self, dialect: Dialect) -> None:
        """From now on the driver escapes texts for a server that reads them so."""
        if dialect.backslash:
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
        if self._rfile is None:  # borrowed in vain: what it was for was refused, or interrupted
            if backend.is_dead():
                self._rdsproxy_drop()
            else:
                client.settle(_NO_TX)
            return
        wire = backend.raw
        status = wire.server_status = self.server_status
        tracked = self._rdsproxy_tracked
        if tracked.changes:
            self._rdsproxy_see_changes(backend)
        if status & NO_BACKSLASH_ESCAPES and (tracked.dialect is None or tracked.dialect.backslash):
            self._rdsproxy_ask_mode(backend)
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
            client.note_use()
        elif (
            status & _TRANSACTIONS != AUTOCOMMIT or backend.lingers or client.lingers or tracked.characteristics
        ) and self._rdsproxy_is_held(status, backend):
            client.settle(_OPEN)
        elif client.session.hold is not _BORROWED and not client.doubts:
            client.settle(_NO_TX)
        else:
            if self._rdsproxy_has_warned or client.insert_id is not None:
                self._rdsproxy_ask_farewell(backend)
            if self._rdsproxy_next or tracked.characteristics:
                self._rdsproxy_take_next(backend)
            self._rdsproxy_part(backend)
            if wire._sock is not None:
                client.settle(_NO_TX)
            else:
                self._rdsproxy_drop()
            if (status & NO_BACKSLASH_ESCAPES or client.wanted.values) and client.backend is None:
                self._rdsproxy_go_back()  # the status word may tell of what the server has taken back
            if client.held is not None and client.session.pins is None:
                client.held = None

    def _rdsproxy_is_held(self, status: int, backend: Any) -> bool:
        """Whether the session keeps its backend without stream or pin: for its transaction, or its next question."""
        client = self._rdsproxy
        if status & IN_TRANSACTION or backend.lingers or client.lingers:
            return True
        if client.session.hold is not _BORROWED:
            return bool(self._rdsproxy_tracked.characteristics)
        if not status & AUTOCOMMIT and client.login.dialect.server == "mysql":
            statement = self._rdsproxy_statement
            backend.lingers = statement is not None and may_lock(statement)
        characteristics = self._rdsproxy_tracked.characteristics
        if backend.lingers or not characteristics:
            return bool(backend.lingers)
        room = client.pool.occupancy()
        return not is_one_shot(characteristics) or room.borrowed + room.waiting < room.limit

    def _rdsproxy_take_next(self, backend: Any) -> None:
        """What was set for the next transaction alone goes with the session; the next session finds none."""
        self._rdsproxy_next = characteristics = self._rdsproxy_tracked.characteristics
        if not characteristics:
            return
        try:
            self._rdsproxy_engine.rollback(backend)
        except err.MySQLError:
            self._force_close()
        except BaseException:
            self._force_close()
            self._rdsproxy_part(backend)
            self._rdsproxy_drop()
            raise
        backend.used_by = None
        self._current_timeout = UNSET

    def _rdsproxy_ask_farewell(self, backend: Any) -> None:
        """What only this backend can tell is asked before it goes, or never."""
        client, result = self._rdsproxy, self._result
        try:
            if self._rdsproxy_has_warned:
                is_kept = client.login.dialect.server == "mariadb"  # the list, over statements that use no table
                if self._rdsproxy_warnings is None and (is_kept or self._rdsproxy_count_warnings()):
                    backend.used_by = None  # ROW_COUNT() has changed
                    self._rdsproxy_ask()
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
        named = statement.settings if statement is not None else ()
        if "sql_mode" in changes and all(setting.name != "sql_mode" for setting in named):
            self._rdsproxy_ask_mode(backend)
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

    def _rdsproxy_ask_mode(self, backend: Any) -> None:
        """sql_mode was reported, though no text named it: it may be as before again, and neither report nor status word
        tells of that."""
        result = self._result
        self._rdsproxy_tracked.dialect = None
        if result is None or not (result.unbuffered_active or result.has_next):
            with suppress(err.MySQLError):  # it is asked for again when it counts
                self._rdsproxy_escape_as(self._rdsproxy_engine.read_mode(backend))
            self._current_timeout = UNSET

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
