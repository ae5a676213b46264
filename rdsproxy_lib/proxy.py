"""The Proxy: builds the parts for one target and keeps them together."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from . import config, errors
from .client import Client
from .config import TLS, Options, Target
from .events import Events
from .named_host import HEARD_JUST_NOW, NamedHost, way_to
from .pool import Pool
from .routines import Catalogue
from .session import Tx
from .stats import PinnedSession, Stats
from .topology import Endpoint, Observation, Role

if TYPE_CHECKING:
    from .engines.base import Engine, Login

FIRST_CHECK_SECONDS = 5.0
"""How long the first `connect()` of a login waits for the server to accept it."""


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """One database host, in the words of RDS' API_TargetHealth."""

    host: str
    role: str
    """READ_WRITE, READ_ONLY or UNKNOWN."""
    state: str
    """REGISTERED (not tried yet), AVAILABLE or UNAVAILABLE."""
    reason: str | None
    """Why it is unavailable: CONNECTION_FAILED with the driver's message, or INVALID_REPLICATION_STATE."""


class Proxy:
    """Many client connections over few database connections, inside this process.

    `url` is `postgresql://user:password@host:port/dbname`; or give `engine=`, `host=`, `port=`, `user=`, `dbname=`,
    `password=`. Everything else is an option, all listed in docs/options.md. The constructor does no I/O and starts
    no thread. Raises ConfigurationError for a wrong value, naming option and range; TypeError for an unknown option.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        engine: str | None = None,
        host: str | None = None,
        port: int | str | None = None,
        user: str | None = None,
        dbname: str | None = None,
        password: str | None = None,
        credentials: Any = None,
        tls: TLS | None = None,
        **options: Any,
    ) -> None:
        target, url_options = _target(url, engine, host, port, user, dbname, password)
        for name in url_options.keys() & options.keys():
            raise errors.ConfigurationError(f"{name} is given twice: in the URL and as a keyword")
        if tls is not None and not isinstance(tls, TLS):
            raise errors.ConfigurationError(f"tls must be a TLS(…) or None, not {tls!r}")
        self.options: Options = config.build_options({**url_options, **options})
        self.target = target
        self._credentials = credentials
        config.check_engine(self.options, target.engine)
        self.engine = _engine(target, self.options, credentials, tls)
        self.cluster, self._way = way_to(self.engine, target.endpoints, self._retire)
        self.pool = Pool(
            self.engine,
            way=self._way,
            limit=self.options.max_connections,
            idle_percent=self.options.max_idle_connections_percent,
            pinned_percent=self.options.max_pinned_percent,
            lifetime=self.options.connection_max_lifetime,
        )
        if self.options.idle_client_timeout:
            self.pool.reclaim = self._expire_idle_clients
        self._lock = threading.Lock()
        # Weak: a login whose last session and database connection are gone takes its ghost's descriptor along.
        self._logins: weakref.WeakValueDictionary[frozenset[tuple[str, Any]], Login] = weakref.WeakValueDictionary()
        self.events = Events()
        self.catalogue = Catalogue(self.options.trusted_routines)
        """What is known of the routines in its databases."""
        self._limit_known = self.options.max_connections_percent is None
        self._received = 0
        self._departed: deque[None] = deque()  # appended to by finalisers, which may take no lock
        self._gone = 0
        _ALIVE.add(self)

    # -- for the application

    def connect(self, user: str | None = None, dbname: str | None = None, **driver_kwargs: Any) -> Any:
        """A DB-API connection of the driver's class, multiplexed. Also SQLAlchemy's `creator=`.

        `user` and `dbname` default to the target's; `driver_kwargs` are the driver's own connect arguments. The first
        call for each login checks it against the server and raises what the server refuses for good; a server
        that cannot be reached is left to the first statement. Later calls do no I/O.
        """
        return self._connect(face_of(self.engine.name), user, dbname, driver_kwargs)

    def _connect(
        self, face: Callable[..., Any], user: str | None, dbname: str | None, driver_kwargs: dict[str, Any]
    ) -> Any:
        engine = self.engine
        session = dict(engine.session_defaults)
        session.update({name: driver_kwargs.pop(name) for name in engine.session_keywords & driver_kwargs.keys()})
        if self.is_closed:
            raise self.engine.error(errors.ProxyClosed, "the proxy is closed; nothing was sent")
        login = self._login(user, dbname, driver_kwargs)
        if not login.is_checked:
            self._check(login)

        def make_client(owner: Any, lock: Any) -> Client:
            return Client(self, login, owner, lock)

        connection = face(make_client, **session)
        self.say_hello()
        return connection

    def targets(self) -> tuple[TargetHealth, ...]:
        """The database hosts of this proxy and how they are. No I/O: what was last heard of each."""
        if self.cluster is not None:
            view = self.cluster.view
            known = view.members or view.seeds
            return tuple(_health(endpoint, seen, view.writer) for endpoint, seen in known.items())
        error = self.pool.connect_error
        if error is not None:
            state, reason = "UNAVAILABLE", f"CONNECTION_FAILED: {error}"
        else:
            state, reason = "AVAILABLE" if self.pool.counters.setups_succeeded else "REGISTERED", None
        port = self.target.ports[0] if self.target.ports else self.options.driver_options.get("port")
        host = (self.target.hosts[0] if self.target.hosts else "(the driver's default)") + (f":{port}" if port else "")
        return (TargetHealth(host, "READ_WRITE", state, reason),)

    def stats(self) -> Stats:
        """A snapshot of what this proxy counts. No I/O."""
        pool = self.pool
        lent = pool.lent()
        occupancy = pool.occupancy()
        counters, latency = pool.counters, pool.latency
        with self._lock:
            self._count_departed_locked()
            received, gone = self._received, self._gone
        waited = sum(latency.buckets)
        immediate = max(0, counters.borrows - waited)
        return Stats(
            client_connections=received - gone,
            client_connections_received=received,
            client_connections_closed=gone,
            database_connections=occupancy.open,
            database_connections_currently_borrowed=occupancy.borrowed,
            database_connections_currently_session_pinned=occupancy.pinned,
            database_connections_currently_in_transaction=sum(
                self.engine.tx(backend) is not Tx.NONE for backend in lent
            ),
            database_connections_currently_idle=occupancy.idle,
            database_connections_with_tls=pool.count(self.engine.is_encrypted),
            database_connections_setup_succeeded=counters.setups_succeeded,
            database_connections_setup_failed=counters.setups_failed,
            database_connections_closed=counters.closed,
            database_connections_borrow_requests=counters.borrows + counters.borrows_failed,
            database_connections_borrow_timeouts=counters.borrow_timeouts,
            database_connections_borrow_latency=latency.total / max(1, counters.borrows),
            database_connections_borrow_latency_p50=latency.quantile(0.5, immediate),
            database_connections_borrow_latency_p99=latency.quantile(0.99, immediate),
            max_database_connections_allowed=occupancy.limit,
            borrows_waiting=occupancy.waiting,
            query_requests=pool.statements(),
            resets=counters.resets,
            reset_failures=counters.reset_failures,
            relabels=counters.relabels,
            relabel_failures=counters.relabel_failures,
            pins=MappingProxyType(dict(counters.pins)),
            pinned_sessions=tuple(sorted(_pinned_sessions(lent), key=lambda each: -each.seconds)),
        )

    def add_event_handler(self, handler: Callable[[Any], object]) -> None:
        """Call `handler(event)` for each event of docs/events.md, in the thread and within the lock of the session.

        It must not use that connection. What it raises is logged. Raises TypeError for what cannot be called.
        """
        self.events.add(handler)

    def remove_event_handler(self, handler: Callable[[Any], object]) -> None:
        """Call it no more. Raises ValueError where it was not added."""
        self.events.remove(handler)

    def close(self) -> None:
        """Close the database connections. Those in use are closed when their transaction ends; idempotent.

        Whoever waits for a connection, and every later statement that needs one, gets ProxyClosed.
        """
        self.pool.close()
        if self.cluster is not None:
            self.cluster.close()

    @property
    def is_closed(self) -> bool:
        return self.pool.is_closed

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        occupancy = self.pool.occupancy()
        host = ",".join(self.target.hosts) or "default"
        if self.cluster is not None:
            host = str(self.cluster.view.writer or "none")
        return (
            f"<Proxy {self.target.engine} writer={host} [{occupancy.borrowed} borrowed, {occupancy.idle} idle, "
            f"{occupancy.waiting} waiting, {occupancy.pinned} pinned]>"
        )

    # -- logging in

    def _login(self, user: str | None, dbname: str | None, keywords: Mapping[str, Any]) -> Login:
        login = self.engine.login(user, dbname, keywords)
        key = login.key
        known = self._logins.get(key)
        if known is not None:
            return known
        self.engine.check(login)
        with self._lock:
            return self._logins.setdefault(key, login)

    def _check(self, login: Login) -> None:
        """The first connect() of a login: single flight; only what the server refuses for good raises."""
        with suppress(errors.BorrowTimeout):
            self.haunt(login, FIRST_CHECK_SECONDS, is_check=True)
        login.is_checked = True

    def haunt(self, login: Login, timeout: float, *, is_check: bool = False) -> None:
        """Make sure that the login has a ghost, by giving it a backend of its own and closing its wire.

        `timeout` is in seconds. A mere check is not repeated by those who waited for another thread's.
        """
        deadline = time.monotonic() + timeout
        turn = login.check_lock
        if not turn.acquire(timeout=timeout):
            raise self.engine.error(
                errors.BorrowTimeout,
                f"timed out after {timeout:.1f} s waiting for another thread's first login as {login.user};"
                " nothing was sent",
            )
        try:
            if login.ghost is not None or (is_check and login.is_checked):
                return
            remaining = max(0.001, deadline - time.monotonic())
            backend = self.pool.borrow(login, remaining)
            try:
                if backend.label.values:  # the ghost answers for a session that has set nothing
                    self.engine.reset(backend)
                if not self._limit_known:
                    self._learn_limit(backend)
                gave_its_wire = self.engine.haunt(backend)
            except BaseException:
                self.pool.discard(backend)
                raise
            if not gave_its_wire:
                self.pool.give_back(backend)
                return
            self.pool.forget(backend)
            if self.options.connection_borrow_timeout == 0:
                # With 0 a borrow takes what is idle and opens nothing, so there has to be one.
                self.pool.give_back(self.pool.borrow(login, max(0.001, deadline - time.monotonic())))
        finally:
            turn.release()

    def _learn_limit(self, backend: Any) -> None:
        percent = self.options.max_connections_percent
        if percent is not None:
            allowed = max(1, self.engine.max_connections(backend) * percent // 100)
            self.pool.resize(min(self.options.max_connections, allowed))
        self._limit_known = True

    # -- several hosts

    def _retire(self) -> None:
        self.pool.retire()

    def lose(self, backend: Any) -> None:
        """A database connection was lost in use: its host is asked before another one is opened there."""
        if self.cluster is not None and backend.endpoint is not None and not self.pool.is_inside():
            self.cluster.doubt(backend.endpoint)

    def is_demoted(self, backend: Any) -> bool:
        """After an error that says "read-only", which may have other causes: whether the host is a reader now."""
        if isinstance(self._way, NamedHost):
            return self._way.is_demoted(backend)
        if self.cluster is None or backend.endpoint is None:
            return False
        seen = self.cluster.view.members.get(backend.endpoint)
        if seen is not None and seen.role is Role.READ_WRITE and time.monotonic() - seen.at < HEARD_JUST_NOW:
            return False
        is_reader = self.cluster.hear(backend.login, backend.endpoint) is Role.READ_ONLY
        if is_reader:
            backend.expires_at = 0.0  # closed when it is given back, whoever is the writer by now
        return is_reader

    # -- the rest

    def say_hello(self) -> None:
        """One client connection more."""
        with self._lock:
            self._received += 1
            self._count_departed_locked()

    def say_goodbye(self) -> None:
        """One client connection less. Takes no lock: finalisers call it."""
        self._departed.append(None)

    def _count_departed_locked(self) -> None:
        while self._departed:
            self._departed.popleft()
            self._gone += 1

    def _expire_idle_clients(self) -> None:
        """Take back what client connections hold that were idle for longer than `idle_client_timeout`."""
        for backend in self.pool.lent():
            owner = backend.owner
            connection = owner() if owner is not None else None
            if connection is not None:
                connection._rdsproxy_expire(time.monotonic())

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        if self.cluster is not None:
            self.cluster.after_fork()
        for login in self._logins.values():
            login.check_lock = threading.Lock()
        for backend in self.pool.after_fork():
            connection = backend.owner() if backend.owner is not None else None
            if connection is not None:
                connection._rdsproxy.orphan()


def _pinned_sessions(lent: Iterable[Any]) -> Iterator[PinnedSession]:
    now = time.monotonic()
    for backend in lent:
        connection = backend.owner() if backend.owner is not None else None
        for pin in connection._rdsproxy.pins if connection is not None else ():
            yield PinnedSession(
                pin.reason.name, pin.what, pin.statement, pin.call_site, now - pin.since, backend.identity
            )


def _health(endpoint: Endpoint, seen: Observation | None, writer: Endpoint | None) -> TargetHealth:
    if seen is None:
        return TargetHealth(str(endpoint), Role.UNKNOWN.value, "REGISTERED", None)
    if seen.role is Role.UNKNOWN:
        return TargetHealth(str(endpoint), seen.role.value, "UNAVAILABLE", f"CONNECTION_FAILED: {seen.error}")
    if seen.role is Role.READ_WRITE and endpoint != writer:
        why = "INVALID_REPLICATION_STATE: it says that it is the writer, and is not taken for it"
        return TargetHealth(str(endpoint), seen.role.value, "UNAVAILABLE", why)
    return TargetHealth(str(endpoint), seen.role.value, "AVAILABLE", None)


def face_of(engine: str) -> Any:
    """The class of an engine's client connections. Loads its driver."""
    if engine == "mysql":
        from .faces.pymysql import Connection as MySQLConnection

        return MySQLConnection
    from .faces.psycopg import Connection

    return Connection


def _target(
    url: str | None,
    engine: str | None,
    host: str | None,
    port: int | str | None,
    user: str | None,
    dbname: str | None,
    password: str | None,
) -> tuple[Target, dict[str, Any]]:
    if url is None:
        if engine is None:
            raise errors.ConfigurationError("give a URL, or engine= with host=, user=, dbname=")
        hosts, ports = config.hosts_and_ports(host or "", str(port or ""))
        return (
            Target(
                engine,
                hosts=hosts if host else (),
                ports=ports,
                user=user,
                dbname=dbname,
                password=password,
            ),
            {},
        )
    if not isinstance(url, str):
        raise errors.ConfigurationError(f"the URL must be text, not {type(url).__name__}")
    target, options = config.parse_url(url)
    if engine is not None and engine != target.engine:
        raise errors.ConfigurationError(f"engine={engine!r} contradicts the URL's {target.engine}")
    hosts, ports = target.hosts, (str(port),) if port else target.ports
    if host:
        hosts, ports = config.hosts_and_ports(host, ",".join(ports))
    return (
        replace(
            target,
            hosts=hosts,
            ports=ports,
            user=user if user is not None else target.user,
            dbname=dbname if dbname is not None else target.dbname,
            password=password if password is not None else target.password,
        ),
        options,
    )


def _engine(target: Target, options: Options, credentials: Any, tls: TLS | None) -> Engine:
    from .credentials import pick

    for source in credentials.values() if isinstance(credentials, Mapping) else (credentials,):
        pick(source, None)  # a wrong kind is said now
    if target.engine == "mysql":
        from .engines.mysql import MySQLEngine

        return MySQLEngine(target, options, credentials, tls)
    from .engines.postgresql import PostgresEngine

    return PostgresEngine(target, options, credentials, tls)


# -- fork

_ALIVE: weakref.WeakSet[Proxy] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for proxy in list(_ALIVE):
        proxy._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
