"""PostgreSQL through psycopg 3: login, the ghost, reset, and what an error means."""

from __future__ import annotations

import json
import logging
import os
import random
import select
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any
from weakref import ref

import psycopg
from psycopg import pq
from psycopg._connection_base import BaseConnection
from psycopg._preparing import PrepareManager
from psycopg.conninfo import conninfo_to_dict, make_conninfo, timeout_from_conninfo
from psycopg.generators import execute

from .. import errors, trust
from ..backend import MIXED, Backend, OpenFailed, Refusal
from ..config import DEFAULT_PORTS, TLS, Options, Target
from ..credentials import Credential, Credentials
from ..routines import BODIES, RoutineBody
from ..secret import HIDDEN, SecretBytes, hiding, unreadable, without_frames
from ..session import Tx
from ..settings import CLEAN, Immovable, Settings, settings_of
from ..sql import Cause, Dialect, Reason, Routine, Statement, classify
from ..sql_postgresql import READING_SETTINGS
from ..topology import Answer, Endpoint, Listed
from .base import Login, check_keywords, logged_in, patiently, who_of
from .descriptor import point_at_nothing, set_user_timeout, shut_down
from .postgresql_audit import left_over, stock_of
from .postgresql_commits import MISUSE, TABLE, asking, finding, leaving, trying
from .postgresql_parameters import (
    LOCATED_BY,
    NOWHERE,
    SESSION_KEYWORDS,
    TLS_PARAMETERS,
    UNENCRYPTED,
    UNENCRYPTED_MODES,
    VERIFYING_SSLMODES,
    WRITERS,
    base_parameters,
    contradictions,
    from_environment,
    is_local,
)
from .postgresql_ping import fault_at, refusal_at
from .postgresql_plans import Plans
from .postgresql_reading import Position, has_reached, position_of, suspects_of
from .postgresql_settings import (
    REVIEWED,
    ROLES,
    answers,
    causes_of,
    changes,
    end_of_plans,
    learnt,
    order,
    question,
    review,
)
from .postgresql_topology import DETECT, MULTI_AZ, REFUSALS, Source, answered, detected, hosts, staleness

logger = logging.getLogger(__name__)

ASK_AFTER_IDLE = 30.0
"""Seconds after which an idle backend answers a question before it is lent: a silent peer shows no readable socket."""
SHORTEST_PING, PING_SECONDS = 0.5, 5.0
"""How long a server may take at least, and at most, to say whether it takes logins, after one failed."""
CUT_SHORT = (
    "server closed the connection unexpectedly",
    "SSL connection has been closed unexpectedly",
    "SSL SYSCALL error",
    "could not receive data from server",
    "could not send",
)
"""What libpq says where the connection broke before the server had answered a login."""
WRONG_PASSWORD = "authentication failed for user"
"""What the server says, in English, as it does on RDS: libpq tells no SQLSTATE of a login."""
NO_TLS = "server does not support SSL, but SSL was required"
CERTIFICATE_FAILED = "certificate verify failed"
CANNOT_CONNECT_NOW, TOO_MANY_CONNECTIONS = "57P03", "53300"
"""SQLSTATEs: the first while a server starts, shuts down or recovers."""
COMMAND_SECONDS = 5.0
"""How long a command of our own (ROLLBACK, reset, probe) may take before the backend is closed instead."""

TX = (Tx.NONE, Tx.UNKNOWN, Tx.OPEN, Tx.FAILED, Tx.UNKNOWN)
"""By libpq's PQTransactionStatusType: idle, active, in transaction, in error, unknown."""
_BAD = pq.ConnStatus.BAD

# Everything by its full name, as the search_path and the operators of the session are the user's. No function that
# looks into other catalogues by itself: those take locks, and fail where something is dropped meanwhile. What bodies
# of BEGIN ATOMIC, default values and aggregates call stands as OIDs in the parsed trees, here as text.
_ROUTINES = r"""
SELECT pg_catalog.json_build_array(
    n.nspname, p.proname,
    CASE WHEN p.prosupport OPERATOR(pg_catalog.<>) 0::pg_catalog.oid THEN 'with a support function'
         WHEN p.prokind OPERATOR(pg_catalog.=) 'a' THEN 'aggregate' ELSE l.lanname::pg_catalog.text END,
    CASE WHEN l.lanname OPERATOR(pg_catalog.=) ANY (ARRAY['sql', 'plpgsql']::pg_catalog.name[])
         AND pg_catalog.octet_length(p.prosrc) OPERATOR(pg_catalog.<) 200000 THEN p.prosrc END,
    p.proconfig,
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(cn.nspname, c.proname))
     FROM pg_catalog.pg_proc c JOIN pg_catalog.pg_namespace cn ON cn.oid OPERATOR(pg_catalog.=) c.pronamespace
     WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY(
         SELECT found.match[1]::pg_catalog.oid FROM pg_catalog.regexp_matches(
             t.tree, '\{{(?:FUNCEXPR :funcid|AGGREF :aggfnoid|WINDOWFUNC :winfnoid) (\d+)', 'g') AS found (match)
         UNION ALL
         SELECT pg_catalog.unnest(ARRAY[a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::pg_catalog.oid[])
         FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid OPERATOR(pg_catalog.=) p.oid))),
    (SELECT pg_catalog.count(*) FROM pg_catalog.regexp_matches(
        t.tree, '\{{(?:FUNCEXPR|AGGREF|WINDOWFUNC)(?! :(?:funcid|aggfnoid|winfnoid) \d)|pg_settings', 'g')))
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
CROSS JOIN LATERAL (SELECT pg_catalog.concat(p.proargdefaults, {body}) AS tree) t
WHERE p.proname OPERATOR(pg_catalog.=) ANY (ARRAY[{names}]::pg_catalog.name[]) LIMIT {limit}
"""
_SAVEPOINT = b"rdsproxy_lib_routines"

DEFAULT_KNOBS: tuple[int | None, int] = (PrepareManager.prepare_threshold, PrepareManager.prepared_max)
"""The driver's prepare_threshold and prepared_max. Compared by identity."""


# -- our errors as psycopg's: the SQLSTATE decides the class, as it does for an error of the server


class BorrowTimeout(errors.BorrowTimeout, psycopg.errors.ConnectionException):
    """SQLSTATE 08000."""


class NoWriterAvailable(errors.NoWriterAvailable, psycopg.errors.ConnectionException):
    """SQLSTATE 08000."""


class TransactionLost(errors.TransactionLost, psycopg.errors.SerializationFailure):
    """SQLSTATE 40001."""


class OutcomeUnknown(errors.OutcomeUnknown, psycopg.errors.TransactionResolutionUnknown):
    """SQLSTATE 08007."""


class SessionLost(errors.SessionLost, psycopg.errors.ConnectionFailure):
    """SQLSTATE 08006."""


class DiagnosticsLost(errors.DiagnosticsLost, psycopg.errors.ObjectNotInPrerequisiteState):
    """SQLSTATE 55000, as the server answers for a currval() that is not defined."""


class CredentialsError(errors.CredentialsError, psycopg.OperationalError):
    """No SQLSTATE: no server was asked."""


class TlsRequired(errors.TlsRequired, psycopg.OperationalError):
    """No SQLSTATE: the refusal is ours."""


class PinRefused(errors.PinRefused, psycopg.OperationalError):
    """No SQLSTATE: the refusal is ours."""


class WriteRefused(errors.WriteRefused, psycopg.errors.ReadOnlySqlTransaction, psycopg.OperationalError):
    """SQLSTATE 25006: also what a reader's own refusal is."""


class ProxyClosed(errors.ProxyClosed, psycopg.OperationalError):
    """No SQLSTATE: the refusal is ours."""


TWINS: dict[type[errors.Error], Callable[[str], psycopg.Error]] = {
    twin.__bases__[0]: twin
    for twin in (
        BorrowTimeout,
        NoWriterAvailable,
        TransactionLost,
        OutcomeUnknown,
        SessionLost,
        DiagnosticsLost,
        CredentialsError,
        TlsRequired,
        PinRefused,
        WriteRefused,
        ProxyClosed,
    )
}


class PostgresLogin(Login):
    """A login, with what its sessions begin with and what is known of its settings."""

    __slots__ = ("at_login", "placeholders")

    def __init__(self, user: str | None, dbname: str | None, parameters: Mapping[str, Any]) -> None:
        super().__init__(user, dbname, parameters, Dialect.POSTGRESQL)
        self.at_login: dict[bytes, dict[str, str]] = {}
        """Role and authorization that its sessions begin with, by the user of the database connection: a secret may
        name two by turns."""
        self.placeholders: set[str] = set(ROLES)
        """Settings that are not in pg_settings: those of applications."""


class PostgresBackend(Backend):
    """A slot with its libpq connection at hand."""

    __slots__ = ("knobs", "look", "pgconn", "piped", "plans", "streamed", "user_timeout")

    login: PostgresLogin
    raw: psycopg.Connection[Any]

    def __init__(self, login: PostgresLogin, raw: psycopg.Connection[Any]) -> None:
        super().__init__(login, raw)
        self.address = raw.pgconn.hostaddr.decode()
        raw._pool = None  # the mark of a pooled connection: psycopg does not warn when it ends with the program
        self.pgconn = raw.pgconn
        self.identity = self.pgconn.backend_pid
        self.forget_plans()
        self.piped = False  # it was in pipeline mode, or copied, since it was last looked at
        self.user_timeout = 0
        """The milliseconds for which the server need not read, while `loosen` has lifted that limit; else 0."""
        self.streamed = False  # libpq was told to hand out single rows since the last plain exchange
        self.look = select.poll()
        self.look.register(self.pgconn.socket, select.POLLIN)
        # Notices and notifications go to the client connection that holds the backend. psycopg calls its first
        # argument as a weak reference; a function that finds the present owner does as well.
        find_owner = partial(_owner_of, ref(self))
        self.pgconn.notice_handler = partial(BaseConnection._notice_handler, find_owner)  # type: ignore[arg-type]
        self.pgconn.notify_handler = partial(BaseConnection._notify_handler, find_owner)  # type: ignore[arg-type]

    def is_dead(self) -> bool:
        return bool(self.pgconn.status == _BAD)

    def forget_plans(self) -> None:
        """The server has no statement any more that the driver prepared."""
        self.plans = self.raw._prepared = Plans()
        self.knobs: tuple[int | None, int] | None = DEFAULT_KNOBS
        """What `plans` is set to; None: to nothing, so that none is used."""


def _owner_of(find_backend: ref[PostgresBackend]) -> Any:
    backend = find_backend()
    return backend.owner() if backend is not None and backend.owner is not None else None


class PostgresEngine:
    """What is only true of PostgreSQL and psycopg. See engines/base.py for the contract."""

    name = "postgresql"
    undoes_settings = True
    shows_by_role = False
    tells_writes = False
    is_demoted_alive = False
    to_list_hosts = f"on a Multi-AZ DB cluster {MULTI_AZ.grant.format(user='the user')}"
    admits_late = 0.0
    session_keywords = SESSION_KEYWORDS
    located_by = LOCATED_BY
    tls_parameters = frozenset(TLS_PARAMETERS)

    def __init__(self, target: Target, options: Options, credentials: Credentials, tls: TLS | None) -> None:
        self._options = options
        self._initial = frozenset(setting.name for setting in classify(options.init_query or "").settings)
        """What the init_query sets."""
        self._credentials = credentials
        self._tls = tls
        self._needs_tls = options.require_tls or credentials.need_verified_tls or (tls is not None and tls.is_required)
        self._base = base_parameters(target, options, tls)
        keepalive = options.detection.keepalive
        self._keepalive = {
            "keepalives_idle": keepalive.idle,
            "keepalives_interval": keepalive.interval,
            "keepalives_count": keepalive.count,
            "tcp_user_timeout": keepalive.user_timeout,
        }
        self._sources: dict[str | None, Source] = {}
        """What kind of server it is, by user: not each may ask everything. Empty until one was asked."""
        given = options.driver_options
        self.session_defaults = {name: given[name] for name in SESSION_KEYWORDS & given.keys()}

    # -- logging in

    @staticmethod
    def decides_tls(given: Mapping[str, Any]) -> bool:
        """Whether these parameters say if the server is verified, and do not leave it to libpq."""
        return given.get("sslmode") is not None

    def login(self, user: str | None, dbname: str | None, keywords: Mapping[str, Any]) -> PostgresLogin:
        check_keywords(self._credentials, self.located_by, keywords)
        parameters = hiding({**from_environment(), **self._base, **keywords})
        if self._credentials.know_user and not {**self._base, **keywords}.get("user"):
            parameters.pop("user", None)  # of the environment, which knows nothing of the credentials
        if user is not None:
            parameters["user"] = user
        elif not parameters.get("user") and self._credentials.user is not None:
            parameters["user"] = self._credentials.user
        if dbname is not None:
            parameters["dbname"] = dbname
        parameters = conninfo_to_dict("", **parameters)  # checks the names, as psycopg.connect() does
        timeout_from_conninfo(parameters)
        self._check_tls(keywords, parameters.get("sslmode"))
        self._credentials.pick(None if parameters.get("user") is None else str(parameters["user"]))
        who, where = (None if value is None else str(value) for value in map(parameters.get, ("user", "dbname")))
        return PostgresLogin(who, where, parameters)

    def _check_tls(self, keywords: Mapping[str, Any], mode: object) -> None:
        """Raise ConfigurationError where a session asks for another encryption than its proxy allows."""
        if self._tls is not None and (doubled := contradictions(self._tls, keywords)):
            raise errors.ConfigurationError(f"{doubled[0]} contradicts the tls= of the proxy")
        if self._options.require_tls and mode in UNENCRYPTED_MODES:
            raise errors.ConfigurationError(
                f"require_tls=True contradicts sslmode={mode!r}, which allows an unencrypted connection"
            )
        if self._credentials.need_verified_tls and mode not in VERIFYING_SSLMODES:
            raise errors.ConfigurationError(
                f"an IAM token goes to a verified server only, and sslmode={mode!r} verifies none: leave it out, or"
                " give verify-full"
            )

    def check(self, login: Login) -> None:
        # libpq checks every option before it looks for the server; this one it cannot find.
        if name := unreadable(login.parameters):
            raise errors.ConfigurationError(f"{name} has a character that UTF-8 cannot encode")
        nowhere = {**login.parameters, "host": NOWHERE, "hostaddr": ""}  # None would be PGHOSTADDR
        probe = pq.PGconn.connect_start(without_frames(partial(make_conninfo, "", **nowhere)).encode())
        message = probe.get_error_message()
        probe.finish()
        if NOWHERE not in message:
            raise psycopg.OperationalError(f"connection is bad: {message}")

    def open(self, login: PostgresLogin, timeout: float) -> PostgresBackend:
        return self.open_at(login, timeout, None)

    def open_at(self, login: PostgresLogin, timeout: float, endpoint: Endpoint | None) -> PostgresBackend:
        backend = PostgresBackend(login, self._connect(login, timeout, endpoint))
        try:
            if self._needs_tls and not backend.pgconn.ssl_in_use:
                raise TlsRequired(UNENCRYPTED)
            if backend.pgconn.parameter_status(b"standard_conforming_strings") == b"off":
                login.dialect = Dialect.POSTGRESQL_BACKSLASH
            self._run_init_query(backend)
            self._note_roles(backend)
            self._take_stock(backend)
        except psycopg.Error as error:
            self.close(backend)
            # With a farewell the server goes, and another one may come.
            is_final = (bool(error.sqlstate) and not self.is_fatal(error)) or isinstance(error, TlsRequired)
            raise OpenFailed(error, Refusal.PERMANENT if is_final else Refusal.TRANSIENT) from None
        except BaseException:
            self.close(backend)
            raise
        return backend

    def role_of(self, backend: PostgresBackend, timeout: float = COMMAND_SECONDS) -> Answer:
        return answered(self._ask_source(backend, lambda source: source.role, timeout))

    def written(self, backend: PostgresBackend) -> Position | None:
        return self.position(backend)

    def position(self, backend: PostgresBackend) -> Position | None:
        return position_of(partial(self._answer, backend))

    def joined(self, first: Position, second: Position) -> Position:
        return max(first, second)

    def has_reached(self, backend: PostgresBackend, position: Position, timeout: float) -> bool | None:
        return has_reached(partial(self._answer, backend), position, timeout)

    def lag(self, backend: PostgresBackend) -> float | None:
        return self.role_of(backend).lag

    def staleness(self, backend: PostgresBackend) -> float | None:
        return staleness(self._ask_source(backend, lambda source: source.staleness))

    def suspects(self, backend: PostgresBackend) -> Collection[str]:
        return suspects_of(partial(self._ask, backend))

    def members_of(self, backend: PostgresBackend) -> tuple[Listed, ...]:
        return hosts(self._ask_source(backend, lambda source: source.members))

    def _ask_source(
        self, backend: PostgresBackend, question: Callable[[Source], bytes], timeout: float = COMMAND_SECONDS
    ) -> list[str]:
        """The answer to a question that depends on what kind of server it is. Raises as `_answer` does."""
        user = backend.login.user
        if user not in self._sources:
            self._sources[user] = detected(self._answer(backend, DETECT, timeout))
        while True:
            source = self._sources[user]
            text = question(source)
            try:
                return self._answer(backend, text, timeout) if text else []
            except psycopg.Error as error:
                if source.fallback is None or error.sqlstate not in REFUSALS:
                    raise
                self._sources[user] = source.fallback
                needs = f"; that needs {source.grant.format(user=user)}" if source.grant else ""
                logger.warning("%s does not tell %s all, and is asked less: %s%s", source.name, user, error, needs)

    def is_reader(self, backend: PostgresBackend) -> bool:
        said = backend.pgconn.parameter_status(b"in_hot_standby")  # from 14 on it is told at login
        return self._is_in_recovery(backend) if said is None else said == b"on"

    def _is_in_recovery(self, backend: PostgresBackend) -> bool:
        try:
            return self._answer(backend, b"SELECT pg_catalog.pg_is_in_recovery()") == ["t"]
        except psycopg.Error as error:
            if error.sqlstate not in REFUSALS:
                raise
            return False  # what speaks PostgreSQL's protocol, and does not know the question

    @property
    def place(self) -> Endpoint | None:
        base = self._base
        host = str(base.get("host") or "")
        port = str(base.get("port") or os.environ.get("PGPORT") or DEFAULT_PORTS[self.name])
        if not host or host[0] in "/@" or "," in host or not port.isdigit():
            return None
        if "hostaddr" in base or os.environ.get("PGHOSTADDR") or base.get("target_session_attrs", "any") not in WRITERS:
            return None
        return Endpoint(host, int(port))

    def place_of(self, backend: PostgresBackend) -> Endpoint:
        pgconn = backend.pgconn
        return Endpoint(pgconn.host.decode(), int(pgconn.port), pgconn.hostaddr.decode())

    def ask(self, login: PostgresLogin, timeout: float, endpoint: Endpoint) -> Answer:
        backend = PostgresBackend(login, patiently(lambda left: self._connect(login, left, endpoint), timeout))
        try:
            answer = self.role_of(backend)
            try:
                return replace(answer, hosts=self.members_of(backend))
            except psycopg.Error as error:
                logger.info("%s could not be asked for the hosts of its cluster: %s", endpoint, error)
                return answer if backend.is_dead() else replace(answer, hosts=())
        except psycopg.Error as error:
            raise OpenFailed(error, Refusal.TRANSIENT) from None
        finally:
            self.close(backend)

    def probe(
        self, login: PostgresLogin, timeout: float, endpoint: Endpoint | None, address: str, begin: Callable[[], None]
    ) -> PostgresBackend:
        return PostgresBackend(login, self._connect(login, timeout, endpoint, address, begin))

    def _connect(
        self,
        login: Login,
        timeout: float,
        endpoint: Endpoint | None,
        address: str = "",
        begin: Callable[[], None] | None = None,
    ) -> psycopg.Connection[Any]:
        """Log in; once more where the server answers but refuses, since it may just have come up.

        But not for a probe, which has `begin`: it was answered.
        """
        parameters = {**self._keepalive, **login.parameters}  # libpq's own, where they were given, win
        if endpoint is not None:
            parameters["host"], parameters["port"] = endpoint.host, endpoint.port
            parameters["hostaddr"] = endpoint.address  # be it empty: what PGHOSTADDR says is not of this host
        if address:
            parameters["hostaddr"] = address
        if self._needs_tls and is_local(parameters):  # libpq would tell the password there, whatever the sslmode
            raise OpenFailed(TlsRequired(f"{UNENCRYPTED}; nothing was sent"), Refusal.PERMANENT)

        def attempt(credential: Credential | None, timeout: float) -> psycopg.Connection[Any]:
            if credential is not None:
                parameters["user"], parameters["password"] = credential.user, credential.password
                # libpq's default is a service's, or the user's name, which may be one of two by turns.
                own = credential.dbname or credential.account()
                if (dbname := login.dbname or (None if parameters.get("service") else own)) is not None:
                    parameters["dbname"] = dbname
            if name := unreadable(parameters):
                raise errors.CredentialsError(f"{name} has a character that UTF-8 cannot encode")
            if begin is not None:
                begin()
            raw = self._log_in(parameters, timeout, may_repeat=begin is None)
            if credential is not None and login.dbname is None:
                login.dbname = raw.pgconn.db.decode()  # of all its sessions from now on, whatever a secret says later
            return raw

        return logged_in(
            self._credentials, who_of(login, parameters, DEFAULT_PORTS[self.name]), timeout, attempt, self.error
        )

    def _log_in(self, parameters: dict[str, Any], timeout: float, *, may_repeat: bool) -> psycopg.Connection[Any]:
        deadline = time.monotonic() + timeout
        # libpq's least is 2 s
        parameters = {**parameters, "connect_timeout": max(2, min(ceil(timeout), timeout_from_conninfo(parameters)))}
        while True:
            try:
                # Looked up now, so that tracing which replaces it sees our connects.
                return without_frames(partial(psycopg.connect, autocommit=True, **parameters))
            except psycopg.Error as error:
                _cover(error.pgconn)
                refusal, is_answer = self._refusal(error, deadline - time.monotonic())
                if CERTIFICATE_FAILED in str(error):
                    hint = trust.hint(str(parameters.get("host") or ""), parameters.get("sslrootcert"))
                    error.args = (f"{error}: {self._fault_of(parameters, error.pgconn)}{hint}",)
                if self._needs_tls and NO_TLS in str(error):
                    raise OpenFailed(TlsRequired(str(error)), Refusal.PERMANENT) from None
                is_wrong = WRONG_PASSWORD in str(error)
                if refusal is not Refusal.PERMANENT or is_wrong or not may_repeat:
                    raise OpenFailed(error, refusal, is_answer=is_answer, is_wrong_password=is_wrong) from None
                may_repeat = False

    @staticmethod
    def _fault_of(parameters: Mapping[str, Any], pgconn: Any) -> str:
        """What is wrong with a server's certificate, which libpq does not say."""
        name, address = pgconn.host.decode(), pgconn.hostaddr.decode()
        ca_file = parameters.get("sslrootcert")
        return fault_at(name, address or name, int(pgconn.port), None if ca_file == "system" else ca_file, PING_SECONDS)

    @staticmethod
    def _refusal(error: psycopg.Error, remaining: float) -> tuple[Refusal, bool]:
        """What a failed login means, and whether a server is there.

        libpq gives no SQLSTATE for it, but the server gives one to whoever comes.
        """
        pgconn, text = error.pgconn, str(error)
        if isinstance(error, psycopg.errors.ConnectionTimeout) or pgconn is None:
            return Refusal.TRANSIENT, False
        if any(sign in text for sign in CUT_SHORT):
            return Refusal.TRANSIENT, False
        if WRONG_PASSWORD in text:
            return Refusal.PERMANENT, True
        host = pgconn.hostaddr.decode() or pgconn.host.decode()
        state = refusal_at(host, int(pgconn.port), max(SHORTEST_PING, min(remaining, PING_SECONDS)))
        if state is None or state == CANNOT_CONNECT_NOW:
            return Refusal.TRANSIENT, state is not None
        # Once it knows who comes, the server keeps slots for others, and limits those of a role and a database: of
        # these refusals there is but the text, which is English on RDS.
        is_full = "too many clients" in text or "too many connections" in text or "slots are reserved" in text
        return (Refusal.FULL if is_full or state == TOO_MANY_CONNECTIONS else Refusal.PERMANENT), True

    def _run_init_query(self, backend: PostgresBackend) -> None:
        if self._options.init_query:
            with backend.raw.cursor() as cursor:
                cursor.execute(self._options.init_query, prepare=False)

    def _note_roles(self, backend: PostgresBackend) -> None:
        """Ask, once for each user, for the role and the authorization that a session of the login begins with."""
        at_login = backend.login.at_login
        user = backend.pgconn.user
        if user not in at_login:
            rows = answers(self._ask(backend, question(ROLES, is_quick=True)))
            at_login[user] = {name: value or "" for name, _, _, value in rows}

    def haunt(self, backend: PostgresBackend) -> bool:
        pgconn = backend.pgconn
        descriptor = pgconn.socket
        if not pgconn.ssl_in_use:
            # Terminate, so that the server does not log a lost client. Under TLS it could only go out in the clear.
            with suppress(OSError):
                os.write(descriptor, b"X\x00\x00\x00\x04")
        point_at_nothing(descriptor)
        backend.login.ghost = pgconn
        return True

    # -- the life of a backend

    def close(self, backend: PostgresBackend) -> None:
        with suppress(psycopg.Error):
            backend.raw.close()

    def abandon(self, backend: PostgresBackend) -> None:
        with suppress(psycopg.Error, OSError):
            point_at_nothing(backend.pgconn.socket)

    def hang_up(self, backend: PostgresBackend) -> None:
        with suppress(psycopg.Error, OSError):
            shut_down(lambda: backend.pgconn.socket)

    def loosen(self, backend: PostgresBackend) -> None:
        """Much may be sent from now on, which a server that is busy or waits for a lock does not read at once.

        Linux would take that for a host that is gone. See `descriptor.set_user_timeout`.
        """
        backend.piped = True
        if not backend.user_timeout and not backend.is_dead():
            backend.user_timeout = set_user_timeout(backend.pgconn.socket, 0)

    def tighten(self, backend: PostgresBackend) -> None:
        """The end of `loosen`."""
        backend.piped = False
        if backend.user_timeout and not backend.is_dead():
            set_user_timeout(backend.pgconn.socket, backend.user_timeout)
            backend.user_timeout = 0

    def is_alive(self, backend: PostgresBackend, idle_for: float) -> bool:
        if idle_for < ASK_AFTER_IDLE and not backend.look.poll(0):
            return True
        # Something arrived while it was idle: a notice, or the server's farewell. Only an answer tells.
        try:
            backend.pgconn.consume_input()
            # Which waits for no snapshot.
            self._command(backend, b"SHOW server_version", min(COMMAND_SECONDS, self._options.detection.silence))
        except psycopg.Error:
            return False
        return self.tx(backend) is Tx.NONE

    def tx(self, backend: PostgresBackend) -> Tx:
        return TX[backend.pgconn.transaction_status]

    def is_encrypted(self, backend: PostgresBackend) -> bool:
        return bool(backend.pgconn.status != _BAD and backend.pgconn.ssl_in_use)

    def rollback(self, backend: PostgresBackend) -> None:
        self._command(backend, b"ROLLBACK")

    def reset(self, backend: PostgresBackend) -> None:
        self._command(backend, b"DISCARD ALL")
        # What DISCARD ALL leaves: the seed, which a routine may have set.
        self._command(backend, f"SET seed = {random.uniform(-1, 1)!r}".encode())
        backend.forget_plans()
        backend.sequences_of = None
        backend.label = CLEAN
        while backend.pgconn.notifies():  # those of a channel that nobody listens to any more
            pass
        self._run_init_query(backend)
        self._take_stock(backend)

    def hide_diagnostics(self, client: Any, backend: PostgresBackend) -> None:
        if backend.sequences_of is not None and backend.sequences_of is not client.owner:
            self._forget_sequences(backend)

    # -- settings

    def touched_by(self, statement: Statement, parameters: Any) -> tuple[Collection[str], Sequence[Cause]]:
        names, causes = causes_of(statement.settings, parameters)
        if statement.local_settings:
            local, why = causes_of(statement.local_settings, parameters)
            causes += why
            names |= local & READING_SETTINGS  # a plan made now would keep what it has read for the next session
        if "*" in names:
            names |= self._initial
        return names, causes

    def learn(self, client: Any, backend: PostgresBackend, names: Collection[str]) -> Settings:
        login = backend.login
        asked = set(names)
        if not asked.isdisjoint(ROLES):
            asked.update(ROLES)
        if not all(map(str.isascii, asked)):
            raise Immovable("SETTING", "a setting whose name is not ASCII")
        text = question(asked, is_quick=asked <= login.placeholders)
        rows = answers(self._ask(backend, text, asked))
        login.placeholders.update(name for name, source, _, value in rows if source is None and value is not None)
        found = learnt(rows, client.wanted, login.at_login[backend.pgconn.user], self._initial)
        if not found.values.keys().isdisjoint(ROLES):  # the driver is told of it, and says so when it is asked
            is_superuser = backend.pgconn.parameter_status(b"is_superuser") or b""
            found = settings_of({**found.values, "is_superuser": is_superuser.decode()})
        return found

    def apply(self, backend: PostgresBackend, wanted: Settings) -> bool:
        if self._options.init_query and not backend.label.values.keys() <= wanted.values.keys():
            self.reset(backend)  # RESET would bring back what was before the init_query
        if todo := changes(backend.label, wanted):
            try:
                (row,) = self._ask(backend, order(todo), [name for name, _ in todo])
            except psycopg.errors.QueryCanceled:
                return False  # by the statement_timeout of another session, which says nothing of these values
            if not all(json.loads(row)):
                logger.warning("the server makes something else of values that were its own")
                return False
        backend.label = wanted
        return True

    def _ask(self, backend: PostgresBackend, text: str, changed: Collection[str] = ()) -> list[str]:
        """The answer to a question of ours outside of any transaction; plans made under other values end.

        In a transaction of its own kind: under the session's, it might wait for a safe snapshot.
        """
        prepared = backend.plans
        if end := end_of_plans(changed, has_prepared=bool(prepared._names)):
            text += end
            if "DEALLOCATE" in end:
                backend.forget_plans()
        try:
            return self._answer(backend, f"BEGIN ISOLATION LEVEL READ COMMITTED; {text}; COMMIT".encode("ascii"))
        except psycopg.Error:
            if self.tx(backend) is Tx.FAILED:
                self._command(backend, b"ROLLBACK")
            raise

    def ended(self, client: Any, backend: PostgresBackend, reasons: Collection[Reason]) -> set[Reason]:
        asked = [reason for reason in reasons if reason in REVIEWED]
        if not asked:
            return set()
        (row,) = self._ask(backend, review(asked))
        return {reason for reason, is_held in zip(asked, json.loads(row), strict=True) if not is_held}

    def left_over(self, backend: PostgresBackend, names: Collection[str]) -> Sequence[str]:
        return left_over(partial(self._answer, backend), backend, names, backend.began)

    def _take_stock(self, backend: PostgresBackend) -> None:
        """Note what a session of this login begins with, if it is going to be audited."""
        if self._options.audit:
            backend.began = stock_of(partial(self._answer, backend), self._initial)

    # -- what else a session finds there

    def mind_sequences(self, client: Any, statement: Statement, backend: PostgresBackend) -> None:
        """See to it that currval() and lastval() never tell another session's value.

        Certain are only the values of a backend where this session, and since its last cleaning nobody else, moved
        sequences, and where it moved one last. Sessions of a login that asks such questions move theirs on cleaned
        backends only; the first question of all may come too late for that, and is refused.
        """
        login: Login = client.login
        if statement.reads_sequence:
            login.reads_sequences = True
        is_own = backend.sequences_of is None or (
            backend.sequences_of is client.owner and backend.serial == client.moved_on
        )
        if statement.moves_sequence or not client.moved_on:
            if not is_own and login.reads_sequences:
                is_own = self._forget_sequences(backend)
            if statement.moves_sequence:
                backend.sequences_of = client.owner if is_own else MIXED
                client.has_moved_elsewhere = client.has_moved_elsewhere or client.moved_on not in (0, backend.serial)
                client.moved_on = backend.serial
        elif backend.serial != client.moved_on or backend.sequences_of is None:  # it was moved elsewhere, or wiped here
            is_own = False
        if statement.reads_sequence and not is_own:
            raise self.error(
                errors.DiagnosticsLost,
                "currval() and lastval() cannot be answered for certain: other sessions moved sequences on this"
                " database connection. Nothing was sent. Run the transaction again (from now on they are kept apart),"
                " or better, use INSERT … RETURNING",
            )

    def judged_sequence_error(self, client: Any, error: BaseException) -> Exception | None:
        if not client.has_moved_elsewhere or not isinstance(error, psycopg.errors.ObjectNotInPrerequisiteState):
            return None
        return self.error(
            errors.DiagnosticsLost,
            "currval() and lastval() cannot be answered for certain: this session used several database connections,"
            " and no sequence was moved on the last one. Use INSERT … RETURNING, or keep_diagnostics=True",
        )

    def _forget_sequences(self, backend: PostgresBackend) -> bool:
        """Make currval() and lastval() undefined again; False where this is not possible just now."""
        if backend.pgconn.pipeline_status or self.tx(backend) not in (Tx.NONE, Tx.OPEN):
            return False
        self._command(backend, b"DISCARD SEQUENCES")
        backend.sequences_of = None
        return True

    def routine_bodies(self, backend: PostgresBackend, names: Collection[Routine]) -> list[RoutineBody] | None:
        pgconn = backend.pgconn
        tx = self.tx(backend)
        if pgconn.pipeline_status or tx not in (Tx.NONE, Tx.OPEN):
            return None
        escape = pq.Escaping(pgconn).escape_literal
        command = _ROUTINES.format(
            body="p.prosqlbody" if pgconn.server_version >= 140000 else "NULL",
            names=b", ".join(escape(name.encode("ascii")) for name in {each.name for each in names}).decode("ascii"),
            limit=BODIES,
        ).encode("ascii")
        if tx is Tx.OPEN:  # where the question fails, the transaction of the user goes on
            command = b"SAVEPOINT %s; %s; RELEASE SAVEPOINT %s" % (_SAVEPOINT, command, _SAVEPOINT)
        try:
            rows = self._answer(backend, command)
        except psycopg.Error:
            if tx is Tx.OPEN and self.tx(backend) is Tx.FAILED:
                self._command(backend, b"ROLLBACK TO SAVEPOINT %s; RELEASE SAVEPOINT %s" % (_SAVEPOINT, _SAVEPOINT))
            raise
        return [
            RoutineBody(
                schema,
                name,
                language,
                # A tree that is not as we know it, or has to do with settings, tells nothing.
                body if not riddles or language not in ("sql", "plpgsql") else None,
                tuple(Routine(*called) for called in calls or ()),
                tuple(settings or ()),
            )
            for schema, name, language, body, settings, calls, riddles in map(json.loads, rows)
        ]

    def _answer(self, backend: PostgresBackend, command: bytes, timeout: float = COMMAND_SECONDS) -> list[str]:
        """The first column of the rows that a text brings, in their order. Raises as `_command` does."""
        raw, pgconn = backend.raw, backend.pgconn
        pgconn.send_query(command)
        try:
            results = raw.wait(execute(pgconn), timeout=timeout)
        except psycopg.errors._WaitTimeout:
            self.close(backend)
            raise psycopg.OperationalError(f"no answer within {timeout:g} s") from None
        encoding = pgconn._encoding
        rows: list[str] = []
        for result in results:
            if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
                raise psycopg.errors.error_from_result(result, encoding=encoding)
            rows += [(result.get_value(row, 0) or b"").decode(encoding) for row in range(result.ntuples)]
        return rows

    # -- what became of a COMMIT

    def check_tokens(self, backend: PostgresBackend) -> None:
        name = self._options.resolve_commits or ""
        try:
            found = self._answer(backend, finding(name).encode("ascii"))
            if found:
                self._answer(backend, trying(found[0]).encode("ascii"))
        except psycopg.Error as error:
            raise self._judged_token_error(backend.login, error) from error
        if not found:
            raise errors.ConfigurationError(_misuse(name, backend.login, "there is no such table, or it is unlogged"))
        backend.login.token_table = found[0]

    def leave_token(self, backend: PostgresBackend, token: str, *, is_sure: bool) -> bool:
        try:
            self._command(backend, self._token_order(backend.login, token, is_sure))
        except psycopg.Error as error:
            if self.tx(backend) is Tx.FAILED:
                self._command(backend, b"ROLLBACK")  # as a COMMIT that fails does
            raise self._judged_token_error(backend.login, error) from error
        return True

    def commit_with(self, backend: PostgresBackend, token: str, *, is_sure: bool) -> Any:
        """COMMIT with a token, in one round trip: a generator of the driver's kind, which returns the last result.

        Where the token cannot be left the server does not come to the COMMIT: the transaction is undone.
        """
        raw, pgconn = backend.raw, backend.pgconn
        pgconn.send_query(self._token_order(backend.login, token, is_sure) + b"; COMMIT")
        results = yield from execute(pgconn)
        result = results[-1]
        if result.status == pq.ExecStatus.COMMAND_OK:
            return result
        error = psycopg.errors.error_from_result(result, encoding=pgconn._encoding)
        if len(results) > 1:
            raise error  # the COMMIT's own, or the end of the connection
        if self.tx(backend) is Tx.FAILED:
            yield from raw._exec_command(b"ROLLBACK")
        raise self._judged_token_error(backend.login, error)

    @staticmethod
    def _token_order(login: PostgresLogin, token: str, is_sure: bool) -> bytes:
        return leaving(login.token_table, token, is_sure=is_sure).encode("utf-8")

    def _judged_token_error(self, login: Login, error: psycopg.Error) -> Exception:
        """Ours where the table is to blame; else the server's, which is that of a COMMIT that failed."""
        if error.sqlstate not in MISUSE:
            return error
        wrong = errors.ConfigurationError(_misuse(self._options.resolve_commits or "", login, str(error)))
        wrong.__cause__ = error
        return wrong

    def ask_token(self, backend: PostgresBackend, token: str, seconds: float) -> bool:
        (answer,) = self._answer(backend, asking(backend.login.token_table, token).encode("utf-8"), seconds)
        return answer == "t"

    def absorb_cancel(self, backend: PostgresBackend) -> None:
        # The server has sent the signal before it closed the cancel request, so by the end of one more exchange
        # it has struck. https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
        with suppress(psycopg.errors.QueryCanceled):
            self._command(backend, b"SELECT")

    def max_connections(self, backend: PostgresBackend) -> int:
        result = self._command(
            backend,
            b"SELECT pg_catalog.sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END)"
            b" FROM pg_catalog.pg_settings WHERE name IN ('max_connections', 'superuser_reserved_connections',"
            b" 'reserved_connections', 'rds.rds_superuser_reserved_connections')",
        )
        return int(result.get_value(0, 0) or 0)

    def _command(self, backend: PostgresBackend, command: bytes, timeout: float = COMMAND_SECONDS) -> Any:
        raw = backend.raw
        try:
            return raw.wait(raw._exec_command(command), timeout=timeout)
        except psycopg.errors._WaitTimeout:
            self.close(backend)
            raise psycopg.OperationalError(f"no answer to {command.decode()} within {timeout:g} s") from None

    # -- errors

    def is_fatal(self, error: BaseException) -> bool:
        """Whether the server has ended the connection with this error, though its farewell may still be unread."""
        return isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized in ("FATAL", "PANIC")

    def says_read_only(self, error: BaseException) -> bool:
        return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)

    def says_cancelled(self, error: BaseException) -> bool:
        return isinstance(error, psycopg.errors.QueryCanceled)

    def never_ran(self, error: BaseException) -> bool:
        """True where the server refused a statement while reading it, before any of it ran.

        A position in the text that was sent, class 42, and no function it could have come from.
        """
        if not isinstance(error, psycopg.Error) or not (error.sqlstate or "").startswith("42"):
            return False
        diag = error.diag
        return diag.statement_position is not None and diag.context is None and diag.internal_query is None

    @staticmethod
    def error(kind: type[errors.Error], message: str) -> psycopg.Error:
        return TWINS[kind](message)

    def closed_error(self, message: str, *, is_expired: bool = False) -> psycopg.Error:
        return psycopg.OperationalError(message)


def _misuse(name: str, login: Login, why: str) -> str:
    order = TABLE.format(table=name, user=login.user or "public")
    return f"resolve_commits={name!r}: {why}. Nothing was committed. The table is made by\n{order}"


def _cover(pgconn: Any) -> None:
    """What an error of a login keeps of its connection has the password in it, twice."""
    if isinstance(pgconn, psycopg.errors.FinishedPGconn):
        pgconn.password = SecretBytes(pgconn.password)
        pgconn.info = [each for each in pgconn.info if each.keyword.decode() not in HIDDEN]
