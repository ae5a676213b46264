"""MySQL and MariaDB through PyMySQL: login, trackers, reset, and what an error means."""

from __future__ import annotations

import re
import select
import ssl
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import pymysql
from pymysql import err
from pymysql.connections import Connection as Driver
from pymysql.constants import COMMAND, ER

from .. import credentials, errors
from ..backend import MIXED, Backend, OpenFailed
from ..config import TLS, Options, Target
from ..routines import PSM_ROUTINES, RoutineBody, psm_bodies
from ..session import Tx
from ..sql import Dialect, Routine, Statement
from .base import Login, user_and_password
from .descriptor import point_at_nothing, shut_down
from .mysql_errors import DISCONNECTED_FOR_INACTIVITY, refusal_of, twin_of
from .mysql_insert_id import InsertedIds, InsertId
from .mysql_parameters import SESSION_KEYWORDS, TLS_ARGUMENTS, base_parameters, from_text
from .mysql_tracking import AUTOCOMMIT, IN_TRANSACTION, Tracked
from .mysql_wire import LISTENING, Columns, Wire

ASK_AFTER_IDLE = 30.0
"""Seconds after which an idle backend answers a ping before it is lent: a silent peer shows no readable socket."""
COMMAND_SECONDS = 5.0
"""How long a command of our own (ROLLBACK, reset, probe) may take before the backend is closed instead."""

UNSET = -1.0
"""As the time limit that a socket is said to have: whatever is wanted is set."""

COM_SET_OPTION, COM_RESET_CONNECTION = 0x1B, 0x1F
MULTI_STATEMENTS = {True: b"\0\0", False: b"\1\0"}
"""The arguments of COM_SET_OPTION."""
TRACKERS = (
    "session_track_system_variables='*', session_track_schema=1, session_track_state_change=1,"
    " session_track_transaction_info='CHARACTERISTICS'"
)
EXEMPT_FROM_INIT_CONNECT = ("SUPER", "CONNECTION ADMIN", "CONNECTION_ADMIN")

PLAIN_NAME = re.compile("[a-z_0-9]+").fullmatch

ABANDONED: list[Any] = []
"""In a forked child: the parent's sockets and readers."""

_NO_TX, _OPEN, _UNKNOWN = Tx.NONE, Tx.OPEN, Tx.UNKNOWN


class MySQLLogin(Login):
    """A login, with what the driver makes of its arguments, and what the server does to each of its sessions."""

    __slots__ = ("columns", "init_connect", "prototype", "sql_mode")

    def __init__(self, user: str | None, dbname: str | None, parameters: Mapping[str, Any]) -> None:
        super().__init__(user, dbname, parameters, Dialect.MYSQL)
        self.prototype: Any = None
        """A connection of the driver that never connects."""
        self.columns = Columns()
        """What results look like, for all sessions of this login."""
        self.sql_mode: str | None = None
        """That of its first backend, and of all others: its sessions escape by it."""
        self.init_connect: str | None = None
        """What the server runs at each login of this user; None until it was asked."""


class MySQLBackend(Backend):
    """A slot with its wire and what its trackers say."""

    __slots__ = ("inserted", "is_streaming", "lingers", "look", "tracked")

    login: MySQLLogin
    raw: Wire

    def __init__(self, login: MySQLLogin, raw: Wire) -> None:
        super().__init__(login, raw)
        self.tracked = raw._rdsproxy_tracked
        self.inserted = InsertedIds()
        self.identity = raw.thread_id()
        self.lingers = False
        """A SAVEPOINT was set with autocommit off, which no status bit shows (MySQL bug 107875)."""
        self.is_streaming = False
        """Rows, or further results, are still to come."""
        self.look = select.poll()
        self.look.register(raw._sock.fileno(), select.POLLIN)

    def is_dead(self) -> bool:
        return self.raw._sock is None


class MySQLEngine:
    """What is only true of MySQL, MariaDB and PyMySQL. See engines/base.py for the contract."""

    name = "mysql"
    session_keywords = SESSION_KEYWORDS

    def __init__(self, target: Target, options: Options, source: Any, tls: TLS | None) -> None:
        self._options = options
        self._credentials = source
        given = {**from_text(target.driver), **options.driver_options}
        self.session_defaults = {name: given.pop(name) for name in SESSION_KEYWORDS & given.keys()}
        self._base = base_parameters(given, target, options, tls)

    # -- logging in

    def login(self, user: str | None, dbname: str | None, keywords: Mapping[str, Any]) -> MySQLLogin:
        parameters = {**self._base, **keywords}
        if user is not None:
            parameters["user"] = user
        elif isinstance(self._credentials, credentials.Static):
            parameters["user"] = self._credentials.user
        if dbname is not None:
            parameters.pop("db", None)
            parameters["database"] = dbname
        where = parameters.get("database") or parameters.get("db")
        return MySQLLogin(parameters.get("user"), where, parameters)

    def check(self, login: MySQLLogin) -> None:
        # The driver's own constructor judges its arguments. A context for TLS takes it 20 ms to make: only if asked.
        arguments = dict(login.parameters)
        if not TLS_ARGUMENTS & arguments.keys():
            arguments["ssl_disabled"] = True
        login.prototype = Driver(defer_connect=True, **arguments)

    def open(self, login: MySQLLogin, timeout: float) -> MySQLBackend:
        wire = self._connect(login, timeout)
        try:
            backend = MySQLBackend(login, wire)
            if self._options.require_tls and not self.is_encrypted(backend):
                why = "require_tls is set and this connection is not encrypted (unix sockets never are)"
                raise self.error(errors.TlsRequired, why)
            if wire.server_capabilities & LISTENING != LISTENING:
                raise err.NotSupportedError(
                    f"{wire.server_version} has no session trackers; MySQL 5.7.5 or MariaDB 10.2 is needed"
                )
            self._set_up(backend, is_new=True)
        except err.Error as error:
            wire._force_close()
            raise OpenFailed(error, refusal_of(error)) from None
        except BaseException:
            wire._force_close()
            raise
        return backend

    def _connect(self, login: MySQLLogin, timeout: float) -> Wire:
        parameters = dict(login.parameters)
        for name in ("init_command", "sql_mode"):  # _set_up does that, then and after each reset
            parameters.pop(name, None)
        parameters["connect_timeout"] = min(timeout, parameters.get("connect_timeout") or timeout)
        parameters["read_timeout"] = parameters["write_timeout"] = timeout
        parameters["client_flag"] = parameters.get("client_flag", 0) | LISTENING
        if (found := user_and_password(self._credentials, login, self.error)) is not None:
            parameters["user"], parameters["password"] = found
        try:
            # Looked up now, so that tracing which replaces it sees our connects.
            raw = pymysql.connect(autocommit=None, **parameters)
        except Exception as error:
            raise OpenFailed(error, refusal_of(error)) from None
        return _listening(getattr(raw, "__wrapped__", raw))

    def _set_up(self, backend: MySQLBackend, *, is_new: bool) -> None:
        """What every session of this login begins with; after a reset, all that the server or the driver did once."""
        wire, login = backend.raw, backend.login
        parameters = login.parameters
        settings = TRACKERS
        if not is_new:
            if login.dbname:
                wire._execute_command(COMMAND.COM_INIT_DB, login.dbname)
                wire._read_ok_packet()
            elif backend.tracked.has_moved:
                raise err.OperationalError(ER.NO_DB_ERROR, "a session without a database chose one, which stays")
            if login.init_connect:
                self._run(wire, login.init_connect)
            collation = f" COLLATE {wire.collation}" if wire.collation else ""
            settings = f"NAMES {wire.charset}{collation}, {settings}"
        sql_mode = parameters.get("sql_mode") if login.sql_mode is None else login.sql_mode
        if sql_mode is not None:
            settings += f", sql_mode={wire.escape(sql_mode)}"
        self._run(wire, f"SET {settings}")
        for text in (parameters.get("init_command"), self._options.init_query):
            if text:
                self._run(wire, text)
        ((sql_mode, init_connect),) = self._run(wire, "SELECT @@sql_mode, @@init_connect")
        if login.sql_mode is None:
            login.sql_mode = sql_mode
        elif login.sql_mode != sql_mode:  # a session escapes and reads by one mode, whatever the server's becomes
            self._run(wire, f"SET sql_mode={wire.escape(login.sql_mode)}")
        if wire.server_status & IN_TRANSACTION:
            self._run(wire, "COMMIT AND NO CHAIN NO RELEASE")
        if login.init_connect is None:
            login.init_connect = self._init_connect(wire, init_connect)
        login.dialect = Dialect.mysql(login.sql_mode, "mariadb" if "MariaDB" in wire.server_version else "mysql")
        backend.tracked.begin(login.dialect)
        backend.applied = wire.server_status & AUTOCOMMIT

    def _init_connect(self, wire: Wire, text: str | None) -> str:
        if not text:
            return ""
        privileges = self._run(
            wire,
            "SELECT privilege_type FROM information_schema.user_privileges"
            " WHERE grantee = concat('''', replace(current_user(), '@', '''@'''), '''')",
        )
        is_exempt = any(privilege in EXEMPT_FROM_INIT_CONNECT for (privilege,) in privileges)
        return "" if is_exempt else text

    @staticmethod
    def _run(wire: Wire, text: str) -> Any:
        """Run a text of ours or of the options, to the end of its last result; the rows of the first."""
        wire._current_timeout = UNSET  # a face may have had the socket
        is_several = ";" in text  # or so it looks, which does no harm
        if is_several:
            wire._execute_command(COM_SET_OPTION, MULTI_STATEMENTS[True])
            wire._read_packet()
        wire._execute_command(COMMAND.COM_QUERY, text)
        wire._read_query_result()
        rows = wire._result.rows
        while wire._result.has_next:
            wire._read_query_result()
        if is_several and not wire.client_flag & pymysql.constants.CLIENT.MULTI_STATEMENTS:
            wire._execute_command(COM_SET_OPTION, MULTI_STATEMENTS[False])
            wire._read_packet()
        wire._rdsproxy_tracked.changes.clear()
        return rows

    def haunt(self, backend: MySQLBackend) -> bool:
        login = backend.login
        ghost = Wire.__new__(Wire)
        own = {name: value for name, value in vars(backend.raw).items() if name not in ("_sock", "_rfile")}
        # What the user gave is the prototype's; what the server said is the wire's.
        kept = {name: value for name, value in vars(login.prototype).items() if name in _THE_USERS}
        ghost.__dict__.update({**vars(login.prototype), **own, **kept})
        login.ghost = ghost
        return False

    # -- the life of a backend

    def close(self, backend: MySQLBackend) -> None:
        with suppress(err.Error):
            backend.raw.close()

    def abandon(self, backend: MySQLBackend) -> None:
        # A thread of the parent may have been reading: its reader is locked for ever here, and must never be closed.
        wire = backend.raw
        with suppress(OSError, AttributeError, ValueError):
            point_at_nothing(wire._sock.fileno())
        ABANDONED.append((wire._sock, wire._rfile))
        wire._sock = wire._rfile = None

    def hang_up(self, backend: MySQLBackend) -> None:
        with suppress(OSError, AttributeError, ValueError):  # closed by now
            shut_down(backend.raw._sock.fileno())

    def is_alive(self, backend: MySQLBackend, idle_for: float) -> bool:
        if backend.look.poll(0):
            return False  # a server that was not asked says nothing but farewell
        if idle_for < ASK_AFTER_IDLE:
            return True
        backend.used_by = None  # a ping changes what ROW_COUNT() says
        try:
            backend.raw.ping()
        except err.Error:
            return False
        return self.tx(backend) is Tx.NONE

    def tx(self, backend: MySQLBackend) -> Tx:
        wire = backend.raw
        if wire._sock is None or backend.is_streaming:
            return _UNKNOWN
        if wire.server_status & IN_TRANSACTION or backend.lingers or backend.tracked.characteristics:
            return _OPEN
        return _NO_TX

    def is_encrypted(self, backend: MySQLBackend) -> bool:
        return isinstance(backend.raw._sock, ssl.SSLSocket)

    def rollback(self, backend: MySQLBackend) -> None:
        self._run(backend.raw, "ROLLBACK AND NO CHAIN NO RELEASE")  # whatever completion_type says
        backend.lingers = False

    def reset(self, backend: MySQLBackend) -> None:
        wire = backend.raw
        wire._execute_command(COM_RESET_CONNECTION, b"")
        wire._read_ok_packet()
        self._set_up(backend, is_new=False)
        self._run(wire, "DO 0")  # so that ROW_COUNT() is what it is after a login
        backend.lingers = False
        backend.sequences_of = backend.used_by = None
        backend.inserted = InsertedIds()

    def apply(self, backend: MySQLBackend, wanted: int) -> bool:
        wire = backend.raw
        try:
            self._run(wire, f"SET AUTOCOMMIT = {wanted // AUTOCOMMIT}")
        except err.Error:
            return False
        except BaseException:
            wire._force_close()
            raise
        backend.applied = wanted
        return True

    def mind_sequences(self, client: Any, statement: Statement, backend: MySQLBackend) -> None:
        """See to it that LAST_INSERT_ID() is the session's own. The server keeps one per database connection.

        As soon as any session of a login asks for it, all of them carry theirs along: it is set on a backend
        that another session used, and asked for before a backend is given back. The first question of all may
        come too late for that, and is refused where the ids that were reported do not prove the answer.
        """
        login = client.login
        if statement.reads_sequence:
            login.reads_sequences = True
        known: InsertId | None = client.insert_id
        if known is None:
            known = client.insert_id = InsertId()
        is_here = backend.serial == client.moved_on
        if backend.sequences_of is not client.owner or not is_here:
            if login.reads_sequences and statement.reads_diagnostics:  # which a command of ours would change
                raise self._insert_id_is_lost()
            if known.value is None and statement.reads_sequence:
                if not is_here or not backend.inserted.are_proof(client.owner, self._ask_insert_id(backend)):
                    raise self._insert_id_is_lost()
                backend.sequences_of = client.owner
            elif login.reads_sequences:
                self._carry(client, known, backend)
            else:
                says_the_same = known.value == 0 and backend.sequences_of is None
                backend.sequences_of = client.owner if says_the_same else MIXED
        if statement.reads_sequence and known.is_doubtful and not self._ask_insert_id(backend):
            raise self._insert_id_is_lost()
        if statement.moves_sequence:
            known.value = None
            client.moved_on = backend.serial

    def hide_diagnostics(self, client: Any, backend: MySQLBackend) -> None:
        known: InsertId | None = client.insert_id
        if known is None:
            known = client.insert_id = InsertId()
        if backend.sequences_of is not client.owner or backend.serial != client.moved_on:
            self._carry(client, known, backend)
        if backend.tracked.dialect.server == "mariadb":  # which keeps them over statements without a table
            self.forget_warnings(backend)

    def _carry(self, client: Any, known: InsertId, backend: MySQLBackend) -> None:
        self._run(backend.raw, f"DO LAST_INSERT_ID({known.value or 0})")
        backend.sequences_of = client.owner
        client.moved_on = backend.serial
        known.is_doubtful = known.value is None

    def keep_insert_id(self, client: Any, backend: MySQLBackend) -> None:
        """Before a backend is given back: what LAST_INSERT_ID() says to this session, if it may have changed."""
        known: InsertId | None = client.insert_id
        if known is None or known.value is not None or not client.login.reads_sequences:
            return
        if backend.sequences_of is client.owner:
            value = self._ask_insert_id(backend)
            if value or not known.is_doubtful:
                known.value, known.is_doubtful = value, False

    def forget_warnings(self, backend: MySQLBackend) -> None:
        """Empty the list of warnings, which outlives a transaction."""
        self._run(backend.raw, "SELECT 1 FROM (SELECT 1) AS nothing")

    def begins_its_own_way(self, login: MySQLLogin) -> bool:
        """Whether its sessions do not begin with what the server and the driver give to each."""
        given = (login.parameters.get(name) for name in ("init_command", "sql_mode"))
        return bool(login.init_connect or self._options.init_query or any(given))

    def are_unchanged(self, backend: MySQLBackend, names: Collection[str]) -> bool:
        """Whether these variables have the server's defaults, which are then what the session began with."""
        if self.begins_its_own_way(backend.login) or not all(map(PLAIN_NAME, names)):
            return False
        backend.used_by = None
        try:
            ((answer,),) = self._run(
                backend.raw, "SELECT " + " AND ".join(f"@@session.{name} <=> @@global.{name}" for name in names)
            )
        except err.MySQLError:  # 1238: one is there for sessions only
            return False
        return bool(answer)

    def _ask_insert_id(self, backend: MySQLBackend) -> int:
        backend.used_by = None  # ROW_COUNT() has changed
        ((value,),) = self._run(backend.raw, "SELECT LAST_INSERT_ID()")
        return int(value)

    def _insert_id_is_lost(self) -> err.Error:
        return self.error(
            errors.DiagnosticsLost,
            "LAST_INSERT_ID() cannot be answered for certain: this session inserted on several database connections."
            " Nothing was sent. Run the transaction again (from now on it is carried along), or better, take"
            " cursor.lastrowid",
        )

    def absorb_cancel(self, backend: MySQLBackend) -> None:
        with suppress(err.OperationalError):  # 1317: the server takes in a KILL QUERY with the next command
            self._run(backend.raw, "DO 0")
        backend.raw.ping()

    def routine_bodies(self, backend: MySQLBackend, names: Collection[Routine]) -> list[RoutineBody] | None:
        if self.tx(backend) is _UNKNOWN or backend.tracked.has_moved:
            return None
        wire, database = backend.raw, backend.login.dbname or ""
        # Without a database an unqualified call fails by itself: psm_bodies makes it unreadable, so that it pins.
        asked = [name for name in names if name.schema or database]
        rows: Any = ()
        if asked:
            pairs = ", ".join(f"({wire.escape(name.schema or database)}, {wire.escape(name.name)})" for name in asked)
            backend.used_by = None  # what ROW_COUNT() says has changed
            rows = self._run(wire, PSM_ROUTINES.format(pairs=pairs))
        return psm_bodies(rows, names, database)

    def max_connections(self, backend: MySQLBackend) -> int:
        ((limit, users),) = self._run(backend.raw, "SELECT @@max_connections, @@max_user_connections")
        return min(int(limit), int(users) or int(limit))

    # -- errors

    def is_fatal(self, error: BaseException) -> bool:
        return False  # the question after an error tells

    def never_ran(self, error: BaseException) -> bool:
        """False: no error of MySQL tells whether a function in the statement had run already."""
        return False

    def error(self, kind: type[errors.Error], message: str) -> err.Error:
        return twin_of(kind, message)

    def closed_error(self, message: str, *, is_expired: bool = False) -> err.Error:
        if is_expired:
            return err.OperationalError(DISCONNECTED_FOR_INACTIVITY, message)
        return err.InterfaceError(0, "")  # the driver's, by which frameworks know that a connection is closed


_THE_USERS = {"client_flag", "password", "init_command", "sql_mode", "connect_timeout", "encoders", "decoders"}


def _listening(raw: Driver) -> Wire:
    """The same connection with its ears open; the one it was has no socket any more."""
    wire = Wire.__new__(Wire)
    wire.__dict__.update(vars(raw))
    wire._rdsproxy_tracked = Tracked(Dialect.MYSQL)
    wire._rdsproxy_columns = Columns()
    wire._rdsproxy_decoders = raw.decoders
    wire._read_timeout = wire._write_timeout = COMMAND_SECONDS  # only commands of our own run on it as it is
    raw._sock = raw._rfile = None
    return wire
