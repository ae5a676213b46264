"""MySQL and MariaDB through PyMySQL: login, trackers, reset, and what an error means."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pymysql
from pymysql.connections import Connection as Driver
from pymysql.connections import err
from pymysql.constants import COMMAND, CR, ER

from .. import errors, trust
from ..backend import MIXED, Backend, OpenFailed, Refusal
from ..config import DEFAULT_PORTS, TLS, Options, Target
from ..credentials import Credential, Credentials
from ..routines import PSM_ROUTINES, RoutineBody, psm_bodies
from ..secret import SecretBytes, unreadable, without_frames
from ..session import Tx
from ..settings import Immovable, Settings, settings_of
from ..sql import Cause, Dialect, Reason, Routine, Statement
from ..topology import Answer, Endpoint, Listed
from . import mysql_reading
from .base import Login, check_keywords, logged_in, patiently, who_of
from .descriptor import keep_alive, point_at_nothing, shut_down
from .mysql_audit import left_over, stock_of
from .mysql_commits import LIMITS, TABLE, asking, asking_for_key, leaving, reading, trying
from .mysql_errors import (
    CANCELLED,
    DISCONNECTED_FOR_INACTIVITY,
    READ_ONLY_MODE,
    code_of,
    is_answer,
    refusal_of,
    twin_of,
)
from .mysql_insert_id import InsertedIds, InsertId
from .mysql_login import bound, decides_authority, guard, insists_on_tls, verifies
from .mysql_parameters import SESSION_KEYWORDS, TLS_ARGUMENTS, base_parameters, from_text
from .mysql_reading import GTIDS_SO_FAR, TELLS_GTIDS, VIEWS
from .mysql_settings import (
    ALL_ROWS,
    CHARACTER_SETS,
    OF_THE_SCHEMA,
    answers,
    asked,
    assignments,
    dialect_of,
    forgets,
    learnt,
    literal,
    question,
    role_order,
    text_of,
)
from .mysql_topology import (
    AURORA,
    DETECT_AURORA,
    DETECT_MULTI_AZ,
    MULTI_AZ,
    PLAIN,
    READ_ONLY,
    Row,
    Source,
    answered,
    hosts,
    is_read_only,
    staleness,
    without,
)
from .mysql_tracking import AUTOCOMMIT, IN_TRANSACTION, Tracked
from .mysql_wire import LISTENING, Columns, Wire

logger = logging.getLogger(__name__)

ASK_AFTER_IDLE = 30.0
"""Seconds after which an idle backend answers a ping before it is lent: a silent peer shows no readable socket."""
COMMAND_SECONDS = 5.0
"""How long a command of our own (ROLLBACK, reset, probe) may take before the backend is closed instead."""

LOCATED_BY = frozenset({"host", "unix_socket", "read_default_file"})
"""Connect arguments that say where the server is."""
UNSET = -1.0
"""As the time limit that a socket is said to have: whatever is wanted is set."""

COM_SET_OPTION, COM_RESET_CONNECTION = 0x1B, 0x1F
MULTI_STATEMENTS = {True: b"\0\0", False: b"\1\0"}
"""The arguments of COM_SET_OPTION."""
TRACKERS = (
    "session_track_system_variables='*', session_track_schema=1, session_track_state_change=1,"
    " session_track_transaction_info='CHARACTERISTICS'"
)
TRACKED_GTIDS = ", session_track_gtids=OWN_GTID"
"""MySQL, for reading from replicas what was written. MariaDB tells without."""
UNNAMED, ELSEWHERE = "?", "?*"
"""Stand for what pins, and has a name that is not known: the second for locks that are not GET_LOCK()'s."""
EXEMPT_FROM_INIT_CONNECT = ("SUPER", "CONNECTION ADMIN", "CONNECTION_ADMIN")

ABANDONED: list[Any] = []
"""In a forked child: the parent's sockets and readers."""

_NO_TX, _OPEN, _UNKNOWN = Tx.NONE, Tx.OPEN, Tx.UNKNOWN


class MySQLLogin(Login):
    """A login, with what the driver makes of its arguments, and what the server does to each of its sessions."""

    __slots__ = ("columns", "given", "init_connect", "prototype", "sql_mode")

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
        self.given: dict[str, str] = {}
        """Settings that each session begins with, and that the server brings back by no DEFAULT; as SQL."""


class MySQLBackend(Backend):
    """A slot with its wire and what its trackers say."""

    __slots__ = (
        "inserted",
        "is_reader",
        "is_streaming",
        "lingers",
        "look",
        "refused",
        "reported",
        "tells_gtids",
        "tracked",
    )

    login: MySQLLogin
    raw: Wire

    def __init__(self, login: MySQLLogin, raw: Wire) -> None:
        super().__init__(login, raw)
        self.tracked = raw._rdsproxy_tracked
        self.inserted = InsertedIds()
        self.identity = raw.thread_id()
        if raw._sock.family != socket.AF_UNIX:
            with suppress(OSError):  # it was reset just now
                self.address = raw._sock.getpeername()[0]
        self.lingers = False
        """A SAVEPOINT was set with autocommit off, which no status bit shows (MySQL bug 107875)."""
        self.is_reader = False
        """Whether its host took no writes when it was opened, or last reset."""
        self.is_streaming = False
        """Rows, or further results, are still to come."""
        self.reported: set[str] = set()
        """Variables that the server says were set, though no text said so: by a routine, or it is noise."""
        self.tells_gtids: bool | None = None
        """Whether its server gives each write a GTID; None until it was asked."""
        self.refused: set[str] = set()
        """Variables that a statement named which failed: before it set anything, or amid it."""
        self.look = select.poll()
        self.look.register(raw._sock.fileno(), select.POLLIN)

    @property
    def schema(self) -> str:
        return self.tracked.schema

    def is_dead(self) -> bool:
        return self.raw._sock is None


class MySQLEngine:
    """What is only true of MySQL, MariaDB and PyMySQL. See engines/base.py for the contract."""

    name = "mysql"
    undoes_settings = False
    shows_by_role = True
    tells_writes = True
    is_demoted_alive = True
    to_list_hosts = f"on a Multi-AZ DB cluster {MULTI_AZ.grant.format(user='the user')}"
    admits_late = 0.2  # MariaDB refuses first, lets go of who waited, and then sets the variable
    session_keywords = SESSION_KEYWORDS
    located_by = LOCATED_BY
    tls_parameters = frozenset(TLS_ARGUMENTS)

    def __init__(self, target: Target, options: Options, credentials: Credentials, tls: TLS | None) -> None:
        self._options = options
        self._credentials = credentials
        given = {**from_text(target.driver), **options.driver_options}
        self.session_defaults = {name: given.pop(name) for name in SESSION_KEYWORDS & given.keys()}
        self._tls = tls
        self._needs_tls = options.require_tls or (tls is not None and tls.is_required)
        self._guards = tls is not None and not tls.is_required
        """Whether the server may be talked to without TLS, by the word of `tls`."""
        self._base = base_parameters(given, target, options, tls)
        self._keepalive = options.detection.keepalive
        self._sources: dict[str | None, Source] = {}
        """What kind of server it is, by user: not each may ask everything. Empty until one was asked."""
        self._pipelines = True
        """Whether several commands go out at once. Where a server reads but the first of them, it is the last time."""

    # -- logging in

    @staticmethod
    def decides_tls(given: Mapping[str, Any]) -> bool:
        """Whether these arguments say if the server is verified, and do not leave it to the driver."""
        ssl = given.get("ssl")
        is_said = decides_authority(ssl) or (isinstance(ssl, Mapping) and ssl.get("verify_mode") is not None)
        return bool(is_said or given.get("ssl_disabled")) or any(
            given.get(name) is not None for name in ("ssl_verify_cert", "ssl_verify_identity")
        )

    def login(self, user: str | None, dbname: str | None, keywords: Mapping[str, Any]) -> MySQLLogin:
        check_keywords(self._credentials, self.located_by, keywords)
        if self._tls is not None and (doubled := sorted(TLS_ARGUMENTS & keywords.keys())):
            raise errors.ConfigurationError(f"{doubled[0]} contradicts the tls= of the proxy")
        parameters = {**self._base, **keywords}
        if user is not None:
            parameters["user"] = user
        elif not parameters.get("user") and self._credentials.user is not None:
            parameters["user"] = self._credentials.user
        if dbname is not None:
            parameters.pop("db", None)
            parameters["database"] = dbname
        where = parameters.get("database") or parameters.get("db")
        self._credentials.pick(parameters.get("user"))
        return MySQLLogin(parameters.get("user"), where, parameters)

    def check(self, login: MySQLLogin) -> None:
        # The driver's own constructor judges its arguments. A context for TLS takes it 20 ms to make: only if asked.
        arguments = dict(login.parameters)
        if not TLS_ARGUMENTS & arguments.keys():
            arguments["ssl_disabled"] = True
        login.prototype = Driver(defer_connect=True, **arguments)
        if self._options.require_tls and not insists_on_tls(login.prototype):
            given = ", ".join(sorted(TLS_ARGUMENTS & arguments.keys()))
            raise errors.ConfigurationError(
                f"require_tls=True contradicts {given}, as it is given: the driver would do without TLS"
            )
        if self._credentials.need_verified_tls and not verifies(login.prototype, arguments):
            raise errors.ConfigurationError(
                "an IAM token goes to a verified server only: leave out the driver's arguments for TLS, or have it"
                " verify the server's certificate, for its name or by an authority of yours"
            )

    def open(self, login: MySQLLogin, timeout: float) -> MySQLBackend:
        return self.open_at(login, timeout, None)

    def open_at(self, login: MySQLLogin, timeout: float, endpoint: Endpoint | None) -> MySQLBackend:
        deadline = time.monotonic() + timeout
        wire = self._connect(login, timeout, endpoint)
        try:
            backend = MySQLBackend(login, wire)
            if self._needs_tls and not self.is_encrypted(backend):
                raise self.error(errors.TlsRequired, "TLS is required, and this connection is not encrypted")
            if wire.server_capabilities & LISTENING != LISTENING:
                raise err.NotSupportedError(
                    f"{wire.server_version} has no session trackers; MySQL 5.7.5 or MariaDB 10.2 is needed"
                )
            wire._read_timeout = max(0.001, min(deadline - time.monotonic(), COMMAND_SECONDS))  # part of the login
            self._set_up(backend, is_new=True)
            self._begin(backend)
            self._label(backend)
            wire._read_timeout = COMMAND_SECONDS
        except err.Error as error:
            wire._force_close()
            raise OpenFailed(error, refusal_of(error)) from None
        except BaseException:
            wire._force_close()
            raise
        return backend

    def role_of(self, backend: MySQLBackend, timeout: float = COMMAND_SECONDS) -> Answer:
        backend.used_by = None
        backend.raw._read_timeout = timeout
        try:
            return self._role_on(backend.raw, backend.login.user)
        finally:
            backend.raw._read_timeout = COMMAND_SECONDS

    def written(self, backend: MySQLBackend) -> str | None:
        gtid, backend.tracked.gtid = backend.tracked.gtid, ""
        if gtid or self._tells_gtids(backend):
            return gtid
        return None

    def position(self, backend: MySQLBackend) -> str | None:
        if not self._tells_gtids(backend):
            return None
        backend.used_by = None
        ((gtids,),) = self._run(backend.raw, GTIDS_SO_FAR[backend.tracked.server])
        return gtids or None

    def _tells_gtids(self, backend: MySQLBackend) -> bool:
        if backend.tells_gtids is None:
            backend.used_by = None  # what is asked changes the diagnostics
            source, _ = self._ask_source(backend.raw, backend.login.user, lambda _: "")
            ((answer,),) = self._run(backend.raw, TELLS_GTIDS[backend.tracked.server])
            backend.tells_gtids = bool(answer) and not source.is_auroras  # whose readers apply none: they share storage
        return backend.tells_gtids

    def joined(self, first: str, second: str) -> str | None:
        return mysql_reading.joined(first, second)

    def has_reached(self, backend: MySQLBackend, position: str, timeout: float) -> bool | None:
        return mysql_reading.has_reached(partial(self._run, backend.raw), position, timeout, backend.tracked.server)

    def lag(self, backend: MySQLBackend) -> float | None:
        return self.role_of(backend).lag

    def staleness(self, backend: MySQLBackend) -> float | None:
        backend.used_by = None
        source, rows = self._ask_source(
            backend.raw, backend.login.user, lambda source: source.members if source.is_auroras else ""
        )
        return staleness(source, rows)

    def suspects(self, backend: MySQLBackend) -> Collection[str] | None:
        if "role" in backend.label.values:  # which views are shown depends on it
            return None
        rows = self._run(backend.raw, VIEWS[backend.tracked.server])
        return mysql_reading.suspects_of([(name.decode(), (text or b"").decode()) for name, text in rows])

    def members_of(self, backend: MySQLBackend) -> tuple[Listed, ...]:
        backend.used_by = None
        return self._members_on(backend.raw, backend.login.user)

    def is_reader(self, backend: MySQLBackend) -> bool:
        return backend.is_reader

    @property
    def place(self) -> Endpoint | None:
        base = self._base
        host, port = base.get("host"), str(base.get("port") or DEFAULT_PORTS[self.name])
        return Endpoint(str(host), int(port)) if host and not base.get("unix_socket") and port.isdigit() else None

    def place_of(self, backend: MySQLBackend) -> Endpoint:
        wire, address = backend.raw, ""
        with suppress(OSError, AttributeError):  # it broke meanwhile
            address = wire._sock.getpeername()[0]
        return Endpoint(wire.host, wire.port, address)

    def ask(self, login: MySQLLogin, timeout: float, endpoint: Endpoint) -> Answer:
        wire = patiently(lambda left: self._connect(login, left, endpoint), timeout)
        try:
            answer = self._role_on(wire, login.user)
            try:
                return replace(answer, hosts=self._members_on(wire, login.user))
            except err.Error as error:
                logger.info("%s could not be asked for the hosts of its cluster: %s", endpoint, error)
                return answer if wire._sock is None else replace(answer, hosts=())
        except err.Error as error:
            raise OpenFailed(error, Refusal.TRANSIENT) from None
        finally:
            wire._force_close()

    def _role_on(self, wire: Wire, user: str | None) -> Answer:
        (values,) = self._run(wire, READ_ONLY)
        is_reader = is_read_only(values)
        source, status = self._ask_source(
            wire, user, lambda source: source.status if is_reader or source.status_decides else ""
        )
        follows = bool(status) and source.status_decides and not is_reader
        members = self._ask_source(wire, user, lambda source: source.members)[1] if follows else ()
        return answered(source, is_reader, status, members)

    def _members_on(self, wire: Wire, user: str | None) -> tuple[Listed, ...]:
        return hosts(*self._ask_source(wire, user, lambda source: source.members))

    def _ask_source(self, wire: Wire, user: str | None, question: Callable[[Source], str]) -> tuple[Source, list[Row]]:
        """What kind of server it is, and its answer to a question that depends on that. Raises as `_run` does."""
        if user not in self._sources:
            is_aurora, is_multi_az = (bool(self._run(wire, text)) for text in (DETECT_AURORA, DETECT_MULTI_AZ))
            self._sources[user] = AURORA if is_aurora else MULTI_AZ if is_multi_az else PLAIN
        while True:
            source = self._sources[user]
            text = question(source)
            try:
                rows = self._run(wire, text) if text else ()
                break
            except err.MySQLError as error:
                if (less := without(source, text, code_of(error))) is None:
                    raise
                self._sources[user] = less
                level = logging.WARNING if source.members else logging.INFO
                needs = f"; that needs {source.grant.format(user=user)}" if source.grant else ""
                logger.log(level, "%s does not tell %s all, and is asked less: %s%s", source.name, user, error, needs)
        names = [field.name.lower() for field in wire._result.fields] if text else []
        if wire.server_status & IN_TRANSACTION:  # without autocommit the question began one
            self._run(wire, "ROLLBACK AND NO CHAIN NO RELEASE")
        return source, [dict(zip(names, row, strict=True)) for row in rows]

    def probe(
        self, login: MySQLLogin, timeout: float, endpoint: Endpoint | None, address: str, begin: Callable[[], None]
    ) -> MySQLBackend:
        return MySQLBackend(login, self._connect(login, timeout, endpoint, address, begin))

    def _connect(
        self,
        login: MySQLLogin,
        timeout: float,
        endpoint: Endpoint | None,
        address: str = "",
        begin: Callable[[], None] | None = None,
    ) -> Wire:
        parameters = dict(login.parameters)
        if endpoint is not None:
            parameters["host"], parameters["port"] = endpoint.host, endpoint.port
            address = address or endpoint.address
        for name in ("init_command", "sql_mode"):  # _set_up does that, then and after each reset
            parameters.pop(name, None)
        parameters["client_flag"] = parameters.get("client_flag", 0) | LISTENING

        def attempt(credential: Credential | None, timeout: float) -> Wire:
            if credential is not None:
                if name := unreadable({"user": credential.user, "password": credential.password}):
                    raise errors.CredentialsError(f"{name} has a character that UTF-8 cannot encode")
                # A text the driver would send as Latin-1.
                parameters["user"], parameters["password"] = credential.user, SecretBytes(credential.password.encode())
                has_file = parameters.get("read_default_file") or parameters.get("read_default_group")
                dbname = login.dbname if login.dbname is not None or has_file else credential.dbname
                if dbname and not parameters.get("db"):
                    parameters["database"] = dbname
            if begin is not None:
                begin()
            wire = self._log_in(parameters, timeout, address)
            if credential is not None and login.dbname is None and not has_file:
                login.dbname = dbname  # of all its sessions from now on, whatever a secret says later
            return wire

        return logged_in(
            self._credentials, who_of(login, parameters, DEFAULT_PORTS[self.name]), timeout, attempt, self.error
        )

    def _log_in(self, parameters: dict[str, Any], timeout: float, address: str) -> Wire:
        limit = min(timeout, parameters.get("connect_timeout") or timeout)
        deadline = time.monotonic() + timeout
        try:
            # Looked up now, so that tracing which replaces it sees our connects.
            raw = pymysql.connect(autocommit=None, defer_connect=True, **{**parameters, "connect_timeout": limit})
            raw = getattr(raw, "__wrapped__", raw)
            bound(raw, deadline)
            if self._guards:
                guard(raw, is_optional="ssl" in parameters)
            # To the very machine, whatever the name leads to by now; TLS goes by the name.
            without_frames(lambda: raw.connect(_socket_to(address, raw) if address else None))
        except Exception as error:
            if self._needs_tls and code_of(error) == CR.CR_SSL_CONNECTION_ERROR:
                error = self.error(errors.TlsRequired, str(error.args[-1]))
            if isinstance(getattr(error, "original_exception", None), ssl.SSLCertVerificationError):
                hint = trust.hint(str(parameters.get("host") or ""), None if self._tls is None else self._tls.ca_file)
                error.args = (*error.args[:-1], f"{error.args[-1]}{hint}")
            is_wrong = code_of(error) == ER.ACCESS_DENIED_ERROR
            raise OpenFailed(error, refusal_of(error), is_answer=is_answer(error), is_wrong_password=is_wrong) from None
        if raw._sock.family != socket.AF_UNIX:
            with suppress(OSError):  # it was reset just now, as who uses it will find out
                keep_alive(raw._sock, self._keepalive)
        return _listening(raw)

    def _set_up(self, backend: MySQLBackend, *, is_new: bool) -> None:
        """What every session of this login begins with; after a reset, all that the server or the driver did once."""
        wire, login = backend.raw, backend.login
        parameters = login.parameters
        settings = TRACKERS
        if not is_new:
            if login.dbname:
                wire._execute_command(COMMAND.COM_INIT_DB, login.dbname)
                wire._read_ok_packet()
            if login.init_connect:
                self._run(wire, login.init_connect)
            settings = f"NAMES {_names(wire)}, {settings}"
        if self._options.read_write_splitting and "MariaDB" not in wire.server_version:
            settings += TRACKED_GTIDS
        sql_mode = parameters.get("sql_mode") if login.sql_mode is None else login.sql_mode
        if sql_mode is not None:
            settings += f", sql_mode={wire.escape(sql_mode)}"
        self._run(wire, f"SET {settings}")
        for text in (parameters.get("init_command"), self._options.init_query):
            if text:
                self._run(wire, text)
        ((sql_mode, init_connect, read_only),) = self._run(
            wire, "SELECT @@sql_mode, @@init_connect, @@global.read_only"
        )
        backend.is_reader = is_read_only([read_only])
        if login.sql_mode is None:
            login.sql_mode = sql_mode
        elif login.sql_mode != sql_mode:  # a session escapes and reads by one mode, whatever the server's becomes
            self._run(wire, f"SET sql_mode={wire.escape(login.sql_mode)}")
        if wire.server_status & IN_TRANSACTION:
            self._run(wire, "COMMIT AND NO CHAIN NO RELEASE")
        if login.init_connect is None:
            init_connect = self._init_connect(wire, init_connect)
            login.dialect = Dialect.mysql(login.sql_mode, "mariadb" if "MariaDB" in wire.server_version else "mysql")
            login.given = self._given(wire, login, init_connect)
            login.init_connect = init_connect

    def _begin(self, backend: MySQLBackend) -> None:
        """A session of the server begins: nothing of what was before is left."""
        login = backend.login
        backend.tracked.begin(login.dialect, (text_of(login.given["schema"]) or b"").decode("utf-8", "replace"))
        backend.reported.clear()
        backend.refused.clear()
        backend.lingers = False
        backend.sequences_of = backend.used_by = None
        backend.inserted = InsertedIds()

    def _label(self, backend: MySQLBackend) -> None:
        """Nothing is set on it."""
        backend.label = settings_of({}, backend.raw.server_status & AUTOCOMMIT)
        if self._options.audit:
            ask = partial(self._run, backend.raw)
            backend.began = stock_of(ask, (), is_mariadb=backend.login.dialect.server == "mariadb")

    def _given(self, wire: Wire, login: MySQLLogin, init_connect: str) -> dict[str, str]:
        """What each session of this login has without having set it."""
        names = ["schema"]
        if not init_connect and not self.begins_its_own_way(login):
            names += [*CHARACTER_SETS, "sql_mode"]
            if login.dialect.server == "mariadb" or int(wire.server_version.partition(".")[0]) >= 8:
                names.append("role")
        wire._current_timeout = UNSET
        fields, row = wire._rdsproxy_row_of(question(names))
        return {answer.name: answer.value or "NULL" for answer in answers(names, fields, row)}

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
        with wire._rdsproxy_whole():
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
            shut_down(lambda: backend.raw._sock.fileno())

    def is_alive(self, backend: MySQLBackend, idle_for: float) -> bool:
        if backend.look.poll(0):
            return False  # a server that was not asked says nothing but farewell
        if idle_for < ASK_AFTER_IDLE:
            return True
        backend.used_by = None  # a ping changes what ROW_COUNT() says
        wire = backend.raw
        wire._read_timeout = min(COMMAND_SECONDS, self._options.detection.silence)
        try:
            wire.ping()
        except err.Error:
            return False
        finally:
            wire._read_timeout = COMMAND_SECONDS
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
        wire, login = backend.raw, backend.login
        if self.begins_its_own_way(login):
            self._check_database(backend)
            self._run_all(backend, [(COM_RESET_CONNECTION, b"")])
            self._set_up(backend, is_new=False)
            if role := login.given.get("role"):
                self._run(wire, role_order(role, login.dialect.server))
            self._run(wire, "DO 0")  # so that ROW_COUNT() is what it is after a login
        else:
            self._run_all(backend, [*self._resetting(backend), (COMMAND.COM_QUERY, b"DO 0")])
        self._begin(backend)
        self._label(backend)

    def _check_database(self, backend: MySQLBackend) -> None:
        if backend.login.given["schema"] == "NULL" and backend.schema:
            raise err.OperationalError(ER.NO_DB_ERROR, "a session without a database chose one, which stays")

    def _resetting(self, backend: MySQLBackend) -> list[tuple[int, bytes]]:
        """The commands of a reset, for a login without ways of its own."""
        self._check_database(backend)
        wire, login = backend.raw, backend.login
        settings = f"SET NAMES {_names(wire)}, {TRACKERS}, sql_mode={literal((login.sql_mode or '').encode())}"
        if self._options.read_write_splitting and login.dialect.server == "mysql":
            settings += TRACKED_GTIDS
        commands = [(COM_RESET_CONNECTION, b""), (COMMAND.COM_QUERY, settings.encode("ascii"))]
        if login.dbname:
            commands.append((COMMAND.COM_INIT_DB, login.dbname.encode(wire.encoding)))
        if role := login.given.get("role"):
            commands.append((COMMAND.COM_QUERY, role_order(role, login.dialect.server).encode("ascii")))
        return commands

    def _run_all(self, backend: MySQLBackend, commands: Sequence[tuple[int, bytes]]) -> None:
        """Run commands of ours that answer without rows, in one round trip where that is possible."""
        wire = backend.raw
        wire._current_timeout = UNSET
        at_once = self._pipelines and len(commands) > 1
        try:
            with wire._rdsproxy_whole():
                wire._rdsproxy_run_all(commands, at_once=at_once)
        except err.MySQLError as error:
            if at_once and isinstance(error.__context__, TimeoutError):
                self._pipelines = False
            raise
        finally:
            backend.tracked.changes.clear()

    # -- settings

    def touched_by(self, statement: Statement, parameters: Any) -> tuple[Collection[str], Sequence[Cause]]:
        names = {setting.name for setting in statement.settings}
        if followers := names & OF_THE_SCHEMA:
            return names, [Cause(Reason.SETTING, f"SET {min(followers)}")]
        return names, ()

    def learn(self, client: Any, backend: MySQLBackend, names: Collection[str]) -> Settings:
        names = asked(names)
        if "sql_mode" in names and "role" in client.wanted.values:
            names.append("role")  # which is quoted as the mode has it
        values = self._values(client, backend, names)
        backend.reported.clear()
        backend.refused.clear()
        tracked = backend.tracked
        if "sql_mode" in names:  # MariaDB may not have told
            sql_mode = values.get("sql_mode", backend.login.given.get("sql_mode"))
            tracked.dialect = None if sql_mode is None else dialect_of(sql_mode, tracked.server)
        if not set(names).isdisjoint(CHARACTER_SETS):
            spoken = {name: values[name] for name in CHARACTER_SETS if name in values}
            tracked.charsets = {name: (text_of(value) or b"").decode("ascii") for name, value in spoken.items()}
        return settings_of(values, backend.raw.server_status & AUTOCOMMIT)

    def read_mode(self, backend: MySQLBackend) -> Dialect:
        """Ask how the server reads texts."""
        backend.used_by = None
        backend.raw._current_timeout = UNSET
        _, (sql_mode,) = backend.raw._rdsproxy_row_of(f"SELECT CAST(@@sql_mode AS BINARY) {ALL_ROWS}")
        backend.tracked.dialect = dialect = dialect_of(literal(sql_mode), backend.tracked.server)
        return dialect

    def begin_with(self, backend: MySQLBackend, characteristics: str) -> None:
        """Set for the next transaction what SET TRANSACTION had set for it on another backend."""
        parts = filter(None, map(str.strip, characteristics.split(";")))
        backend.used_by = None
        self._run_all(backend, [(COMMAND.COM_QUERY, part.encode("ascii")) for part in parts])

    def _values(self, client: Any, backend: MySQLBackend, names: list[str]) -> dict[str, str]:
        """The settings of a session, these asked anew. Raises Immovable."""
        wire, login, before = backend.raw, backend.login, client.wanted.values
        if "role" in names and "role" not in login.given and not self.begins_its_own_way(login):
            names.remove("role")  # there are none on this server
        refused = backend.refused
        compared = set(asked(backend.reported | refused)) - before.keys()
        if self.begins_its_own_way(login):
            compared.clear()  # the server's value is not what its sessions begin with
        while names:
            backend.used_by = None
            wire._current_timeout = UNSET
            try:
                fields, row = wire._rdsproxy_row_of(question(names, compared))
            except err.MySQLError as error:
                if code_of(error) not in (ER.UNKNOWN_SYSTEM_VARIABLE, ER.INCORRECT_GLOBAL_LOCAL_VAR):
                    raise
                name = next((each for each in names if f"'{each}'" in str(error).lower()), None)
                if name is None:
                    raise
                if name not in compared or name in refused:
                    names.remove(name)  # what was to be set is not there, or not the session's, or has no global value
                compared.discard(name)
            else:
                return learnt(answers(names, fields, row), before, login.given)
        return dict(before)

    def apply(self, backend: MySQLBackend, wanted: Settings) -> bool:
        have, login = backend.label, backend.login
        given, server = login.given, login.dialect.server
        clears = not have.values.keys() <= wanted.values.keys()
        if clears and "schema" in have.values.keys() - wanted.values.keys() and given["schema"] == "NULL":
            return False
        commands: list[tuple[int, bytes]] = []
        is_reset = False
        if clears and self.begins_its_own_way(login):
            self.reset(backend)
            have = backend.label
        elif forgets(have, wanted):
            is_reset = True
            commands = self._resetting(backend)
            have = settings_of({}, ~wanted.mode)
        if text := assignments(have, wanted, given):
            commands.append((COMMAND.COM_QUERY, text.encode("ascii")))
        role = wanted.values.get("role", given.get("role"))
        if role is not None and role != have.values.get("role", given.get("role")):
            commands.append((COMMAND.COM_QUERY, role_order(role, server).encode("ascii")))
        schema = wanted.values.get("schema", given["schema"])
        if schema != have.values.get("schema", given["schema"]):
            commands.append((COMMAND.COM_INIT_DB, text_of(schema) or b""))
        if is_reset:
            self._begin(backend)  # before, for the trackers tell what comes behind the reset
        if commands:
            self._run_all(backend, commands)
        backend.used_by = None
        backend.label = wanted
        return True

    def ended(self, client: Any, backend: MySQLBackend, reasons: Collection[Reason]) -> set[Reason]:
        held: dict[Reason, set[str]] = client.held or {}
        locks = held.get(Reason.NAMED_LOCK, set())
        if Reason.NAMED_LOCK in reasons and locks and locks.isdisjoint((UNNAMED, ELSEWHERE)):
            locks &= self._locks(backend, sorted(locks))
        over = {reason for reason in reasons if not held.get(reason)}
        if Reason.USER_VARIABLE in over:
            try:
                self._values(client, backend, [name for name in client.touched or () if name[0] == "@"])
            except Immovable:
                over.remove(Reason.USER_VARIABLE)
        return over

    def _locks(self, backend: MySQLBackend, names: list[str]) -> set[str]:
        """Which of these named locks this session has."""
        backend.used_by = None
        backend.raw._current_timeout = UNSET
        asking = ", ".join(
            f"CAST(IS_USED_LOCK({literal(name.encode())}) <=> CONNECTION_ID() AS BINARY)" for name in names
        )
        _, row = backend.raw._rdsproxy_row_of(f"SELECT {asking} {ALL_ROWS}")
        return {name for name, answer in zip(names, row, strict=True) if answer == b"1"}

    def left_over(self, backend: MySQLBackend, names: Collection[str]) -> Sequence[str]:
        ask = partial(self._run, backend.raw)
        return left_over(ask, backend, names, backend.began, is_mariadb=backend.login.dialect.server == "mariadb")

    # -- what else a session finds there

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
        is_doubtful = statement.reads_sequence and known.is_doubtful
        if is_doubtful and (statement.reads_diagnostics or not self._ask_insert_id(backend)):
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
        if backend.tracked.server == "mariadb":  # which keeps them over statements without a table
            self.forget_warnings(backend)

    def _carry(self, client: Any, known: InsertId, backend: MySQLBackend) -> None:
        backend.used_by = None
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
        backend.used_by = None
        self._run(backend.raw, "SELECT 1 FROM (SELECT 1) AS nothing")

    def begins_its_own_way(self, login: MySQLLogin) -> bool:
        """Whether its sessions do not begin with what the server and the driver give to each."""
        given = (login.parameters.get(name) for name in ("init_command", "sql_mode"))
        return bool(login.init_connect or self._options.init_query or any(given))

    def _ask_insert_id(self, backend: MySQLBackend) -> int:
        backend.used_by = None  # ROW_COUNT() has changed
        backend.raw._current_timeout = UNSET
        _, (value,) = backend.raw._rdsproxy_row_of(f"SELECT CAST(LAST_INSERT_ID() AS BINARY) {ALL_ROWS}")
        return int(value or b"0")

    def _insert_id_is_lost(self) -> err.Error:
        return self.error(
            errors.DiagnosticsLost,
            "LAST_INSERT_ID() cannot be answered for certain: this session inserted on several database connections."
            " Nothing was sent. Run the transaction again (from now on it is carried along), or better, take"
            " cursor.lastrowid",
        )

    # -- what became of a COMMIT

    def check_tokens(self, backend: MySQLBackend) -> None:
        name = self._options.resolve_commits or ""
        schema = (text_of(backend.login.given["schema"]) or b"").decode("utf-8", "replace")
        if "." not in name and not schema:
            raise errors.ConfigurationError(f"resolve_commits={name!r}: this login has no database; say schema.{name}")
        wire = backend.raw
        given, _, own = name.rpartition(".")
        table = f"`{(given or schema).replace('`', '``')}`.`{own}`"
        why = cause = None
        try:
            _, (keys,) = wire._rdsproxy_row_of(asking_for_key(wire.escape(given or schema), wire.escape(own)))
            if keys == b"0":
                why = "it is not there, not of InnoDB, or has no key on the token"
            else:
                for text in trying(table):
                    self._run(wire, text)
        except err.MySQLError as error:
            if backend.is_dead():
                raise
            if not self.says_read_only(error):  # of a server where nothing writes, and needs a token
                why, cause = str(error), error
        if why:
            order = TABLE.format(table=name, user=backend.login.user)
            raise errors.ConfigurationError(
                f"resolve_commits={name!r}: {why}. Nothing was committed. The table is made by\n{order}"
            ) from cause
        backend.login.token_table = table

    def leave_token(self, backend: MySQLBackend, token: str, *, is_sure: bool) -> bool:
        backend.used_by = None
        try:
            self._run(backend.raw, leaving(backend.login.token_table, token))
        except err.MySQLError as error:
            if backend.is_dead():
                raise
            self._run(backend.raw, "DO 0")  # an error has no status word
            if not backend.raw.server_status & IN_TRANSACTION:
                raise  # the server has undone all of it
            logger.warning("a transaction goes without its token of resolve_commits: %s", str(error))
            return False
        return True

    def ask_token(self, backend: MySQLBackend, token: str, seconds: float) -> bool:
        wire, table = backend.raw, backend.login.token_table
        wire._read_timeout = wire._write_timeout = seconds
        self._run(wire, LIMITS)
        self._run(wire, "START TRANSACTION READ WRITE")
        self._run(wire, asking(table, token))
        _, (answer,) = wire._rdsproxy_row_of(reading(table, token))
        self._run(wire, "COMMIT AND NO CHAIN NO RELEASE")
        return answer == b"1"

    def absorb_cancel(self, backend: MySQLBackend) -> None:
        with suppress(err.OperationalError):  # 1317: the server takes in a KILL QUERY with the next command
            self._run(backend.raw, "DO 0")
        backend.raw.ping()

    def judged_sequence_error(self, client: Any, error: BaseException) -> Exception | None:
        return None

    def routine_bodies(self, backend: MySQLBackend, names: Collection[Routine]) -> list[RoutineBody] | None:
        wire, tracked = backend.raw, backend.tracked
        tx = self.tx(backend)
        if tx is _UNKNOWN or not {wire.charset}.issuperset(tracked.charsets.values()):
            return None
        database = tracked.schema
        # Without a database an unqualified call fails by itself: psm_bodies makes it unreadable, so that it pins.
        asked = [name for name in names if name.schema or database]
        rows: Any = ()
        if asked:
            pairs = ", ".join(f"({wire.escape(name.schema or database)}, {wire.escape(name.name)})" for name in asked)
            backend.used_by = None  # what ROW_COUNT() says has changed
            rows = self._run(wire, f"{PSM_ROUTINES.format(pairs=pairs)} {ALL_ROWS}")
            if tx is _NO_TX and wire.server_status & IN_TRANSACTION:  # without autocommit the question began one
                self.rollback(backend)
        return psm_bodies(rows, names, database)

    def max_connections(self, backend: MySQLBackend) -> int:
        ((limit, users),) = self._run(backend.raw, "SELECT @@max_connections, @@max_user_connections")
        return min(int(limit), int(users) or int(limit))

    # -- errors

    def is_fatal(self, error: BaseException) -> bool:
        return False  # the question after an error tells

    def says_read_only(self, error: BaseException) -> bool:
        return code_of(error) in (ER.OPTION_PREVENTS_STATEMENT, READ_ONLY_MODE)

    def says_cancelled(self, error: BaseException) -> bool:
        return code_of(error) in CANCELLED

    def never_ran(self, error: BaseException) -> bool:
        """False: no error of MySQL tells whether a function in the statement had run already."""
        return False

    @staticmethod
    def error(kind: type[errors.Error], message: str) -> err.Error:
        return twin_of(kind, message)

    def closed_error(self, message: str, *, is_expired: bool = False) -> err.Error:
        if is_expired:
            return err.OperationalError(DISCONNECTED_FOR_INACTIVITY, message)
        return err.InterfaceError(0, "")  # the driver's, by which frameworks know that a connection is closed


def _names(wire: Wire) -> str:
    return f"{wire.charset} COLLATE {wire.collation}" if wire.collation else wire.charset


_THE_USERS = {"client_flag", "password", "init_command", "sql_mode", "connect_timeout", "encoders", "decoders"}


def _socket_to(address: str, raw: Driver) -> socket.socket:
    """A socket as the driver makes them, to an address. Raises the driver's error."""
    source = None if raw.bind_address is None else (raw.bind_address, 0)
    try:
        sock = socket.create_connection((address, raw.port), raw.connect_timeout, source_address=source)
    except OSError as error:
        text = f"Can't connect to MySQL server on {address!r} ({error})"
        raise err.OperationalError(CR.CR_CONN_HOST_ERROR, text) from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


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
