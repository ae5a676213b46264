"""The Proxy: builds the parts for one target and keeps them together."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

from . import config, errors, monitor, planned, targets
from .backend import OpenFailed, Refusal, Way
from .client import Client
from .commits import Commits
from .config import TLS, Options, Target
from .credentials import Credentials, CredentialsOption
from .events import Events
from .flights import Flights
from .named_host import GroupOpener, NamedHost, way_to
from .pool import HostGone, Pool
from .readers import Readers, is_named
from .reading import Reading
from .routines import Catalogue
from .secret import hidden, hiding
from .session import Tx
from .settings import CLEAN
from .stats import BorrowLatency, PinnedSession, Stats
from .topology import Endpoint, Observation, Role

if TYPE_CHECKING:
    from .engines.base import Login

SHORTEST_PATIENCE = 2.0
"""Seconds that one of several hosts has at least to accept a login; libpq's own least."""
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
    """Why it is unavailable: CONNECTION_FAILED with the driver's message, INVALID_REPLICATION_STATE, or DRAINED."""


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
        credentials: CredentialsOption = None,
        tls: TLS | None = None,
        **options: Any,
    ) -> None:
        url, password, credentials, options = hidden(url), hidden(password), hidden(credentials), hiding(options)
        if tls is not None and not isinstance(tls, TLS):
            raise errors.ConfigurationError(f"tls must be a TLS(…) or None, not {tls!r}")
        self._credentials = Credentials(credentials)
        self._tls = tls
        self._describe = partial(
            targets.target_of, url=url, host=host, port=port, user=user, dbname=dbname, password=password
        )
        """Makes the target, with the engine's name."""
        self._described: Target | None = None
        """The target as far as it was said."""
        url_options: dict[str, Any] = {}
        locator = self._credentials.locator
        if url is not None or engine is not None or locator is None:
            self._described, url_options = self._describe(engine)
            self._credentials.check_alone({"password": self._described.password}, self._described.driver)
        for name in url_options.keys() & options.keys():
            raise errors.ConfigurationError(f"{name} is given twice: in the URL and as a keyword")
        self.options: Options = config.build_options({**url_options, **options})
        self._credentials.check_alone({"password": password}, self.options.driver_options)
        self._lock = threading.Lock()
        self._building: Flights[None] = Flights("rdsproxy-server")
        self._was_closed = self._is_built = False
        self._endpoints: dict[Any, ProxyEndpoint] = {}
        # Weak: a login whose last session and database connection are gone takes its ghost's descriptor along.
        self._logins: weakref.WeakValueDictionary[frozenset[tuple[str, Any]], Login] = weakref.WeakValueDictionary()
        self.events = Events()
        self.catalogue = Catalogue(self.options.trusted_routines)
        """What is known of the routines in its databases."""
        self._allowed = self.options.max_connections
        """By `max_connections_percent`, once that is known."""
        self._limit_known = self.options.max_connections_percent is None
        self._received = 0
        self._departed: deque[None] = deque()  # appended to by finalisers, which may take no lock
        self._gone = 0
        if self._described is not None and (locator is None or not targets.lacks_server(self._described, self.options)):
            self._build(self._described)
        _ALIVE.add(self)

    if not TYPE_CHECKING:  # for whom everything would be an attribute

        def __getattr__(self, name: str) -> Any:
            """Where a secret says where the server is, the parts are made when the first of them is needed."""
            if name in _PARTS and "_is_built" in self.__dict__:
                self._locate()
            if name in self.__dict__:
                return self.__dict__[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _locate(self) -> None:
        """Have the secret asked for what was not said, and the parts made, once for all who need them.

        Raises CredentialsError, ConfigurationError, ProxyClosed.
        """
        if self._is_built:
            return
        if not self._was_closed:
            self._building.start(None, self._find_server).result()
        if self._was_closed:
            message = "the proxy is closed; nothing was sent"
            if self._described is not None:
                raise targets.error_of(self._described.engine, errors.ProxyClosed, message)
            raise errors.ProxyClosed(message)

    def _find_server(self) -> None:
        locator, target = self._credentials.locator, self._described
        if self._is_built or locator is None:
            return
        server = targets.server_of(locator, None if target is None else target.engine, FIRST_CHECK_SECONDS)
        if target is None:
            target, _ = self._describe(targets.engine_of(locator, server))
        self._build(targets.completed(target, self.options, locator, server))
        if self._was_closed:  # meanwhile, and whoever asked for the parts may have been interrupted
            self.close()

    def _build(self, target: Target) -> None:
        """Make what depends on the target: all of _PARTS, or none where they contradict each other."""
        try:
            self._make_parts(target)
        except BaseException:
            for name in _PARTS & self.__dict__.keys():
                delattr(self, name)
            raise
        self._is_built = True

    def _make_parts(self, target: Target) -> None:
        self.target = target
        config.check_engine(self.options, target.engine)
        self.engine = engine = targets.engine_for(target, self.options, self._credentials, self._tls)
        patience = max(SHORTEST_PATIENCE, self.options.detection.total)
        self.cluster, self._way = way_to(engine, target.endpoints, _weakly(self._retire), patience)
        self.commits: Commits | None = None
        if self.options.resolve_commits:
            survey = None if self.cluster is None else self.cluster.hear_all
            self.commits = Commits(engine, self._way, survey, self.options.connection_borrow_timeout)
        self._face = face_of(target.engine)  # loaded with its engine: a child forked amid an import waits for ever
        self.monitor = monitor.Monitor(self)
        if self.cluster is not None:
            self.cluster.left = _weakly(self._retire_readers)
        self.pool = self._make_pool(self._way, self.options.max_connections)
        splits = self.options.read_write_splitting
        self._splitting = self._readers(None, self.options.max_connections) if splits else None
        """Where reads go, with `read_write_splitting`."""

    # -- for the application

    def connect(self, user: str | None = None, dbname: str | None = None, **driver_kwargs: Any) -> Any:
        """A DB-API connection of the driver's class, multiplexed. Also SQLAlchemy's `creator=`.

        `user` and `dbname` default to the target's; `driver_kwargs` are the driver's own connect arguments. The first
        call for each login checks it against the server and raises what the server refuses for good; a server
        that cannot be reached is left to the first statement: at once where it refuses connections, is known to be
        away, or the proxy is paused; after five seconds where it says nothing. Later calls do no I/O.
        """
        driver_kwargs = hiding(driver_kwargs)
        return self._connect(self._face, user, dbname, driver_kwargs)

    def endpoint(
        self,
        target_role: str = "READ_ONLY",
        name: str = "",
        *,
        hosts: Sequence[str] | None = None,
        max_connections: int | None = None,
    ) -> ProxyEndpoint:
        """Another way into the same cluster: `proxy.endpoint("READ_ONLY").connect()` reads from its readers.

        `target_role`: READ_ONLY or READ_WRITE, RDS Proxy's words. `hosts`: some of the targets, ``"db2:5432"`` or
        ``"db2"``; of a READ_ONLY endpoint, which reads from these alone. `max_connections` of each reader; by default
        the proxy's. `name` is for you. The same arguments give the same endpoint. Raises ConfigurationError for a
        wrong value, and where the proxy has one host. Where a secret says where the server is, it is asked as by the
        first `connect()`, with the same errors.
        """
        if target_role not in ("READ_ONLY", "READ_WRITE"):
            raise errors.ConfigurationError(f"target_role must be 'READ_ONLY' or 'READ_WRITE', not {target_role!r}")
        if target_role == "READ_WRITE" and (hosts is not None or max_connections is not None):
            raise errors.ConfigurationError(
                "hosts and max_connections are for READ_ONLY endpoints: there is one writer"
            )
        self._locate()
        chosen = None if hosts is None else frozenset(hosts)
        for host in chosen or ():
            self._check_target(host)
        if max_connections is None:
            max_connections = self.options.max_connections
        limit = replace(self.options, max_connections=max_connections).max_connections  # refuses a wrong one
        key = target_role, name, chosen, limit
        with self._lock:
            endpoint = self._endpoints.get(key)
            if endpoint is None:
                readers = self._readers(chosen, limit) if target_role == "READ_ONLY" else None
                endpoint = self._endpoints[key] = ProxyEndpoint(self, target_role, name, readers)
            return endpoint

    def _check_target(self, name: str) -> None:
        """Raise ConfigurationError for a name that is not one of the targets'. Those to be discovered have any."""
        known: Collection[Endpoint] = () if self.cluster is None else self.cluster.view.members
        if self.cluster is not None and self.cluster.view.seeds:
            return
        if sum(is_named(each, name) for each in known) != 1:
            names = ", ".join(map(str, known)) or "none: it has one host"
            raise errors.ConfigurationError(f"{name!r} is not one of the proxy's targets, which are {names}")

    def _make_pool(self, way: Way, limit: int) -> Pool:
        pool = Pool(
            self.engine,
            way=way,
            limit=min(limit, self._allowed),
            idle_percent=self.options.max_idle_connections_percent,
            pinned_percent=self.options.max_pinned_percent,
            lifetime=self.options.connection_max_lifetime,
        )
        pool.opened = self.monitor.note_opened
        if self.cluster is not None:
            pool.lost = _weakly(self.lose)
        if self.options.idle_client_timeout:
            pool.reclaim = self._expire_idle_clients
        return pool

    def _readers(self, hosts: Collection[str] | None, limit: int) -> Readers:
        if self.cluster is None:
            raise errors.ConfigurationError("reading from readers needs several hosts: name all of the cluster's")
        return Readers(
            self.engine,
            self.cluster,
            partial(_weakly(self._make_pool), limit=limit),
            hosts=hosts,
            writers=self.pool,
            falls_back=self.options.reader_fallback == "writer",
            max_lag=self.options.max_replica_lag,
        )

    def _all_readers(self) -> list[Readers]:
        with self._lock:
            found = [endpoint.readers for endpoint in self._endpoints.values() if endpoint.readers is not None]
        return found if self._splitting is None else [self._splitting, *found]

    def pools(self) -> list[Pool]:
        """The writer's, and those of readers. None before it is known where the server is."""
        if not self._is_built:
            return []
        return [self.pool, *(pool for readers in self._all_readers() for pool in readers.pools())]

    def _connect(
        self,
        face: Callable[..., Any],
        user: str | None,
        dbname: str | None,
        driver_kwargs: dict[str, Any],
        readers: Readers | None = None,
    ) -> Any:
        engine = self.engine
        session = dict(engine.session_defaults)
        session.update({name: driver_kwargs.pop(name) for name in engine.session_keywords & driver_kwargs.keys()})
        if self.is_closed:
            raise self.engine.error(errors.ProxyClosed, "the proxy is closed; nothing was sent")
        login = self._login(user, dbname, driver_kwargs)
        reading = None
        splits = readers is None
        readers = readers or self._splitting
        if readers is not None:
            reading = Reading(readers, splits=splits, tracks=self.options.consistency == "session")
        if not login.is_checked:
            self._check(login, reading)

        def make_client(owner: Any, lock: Any) -> Client:
            return Client(self, login, owner, lock, reading)

        connection = face(make_client, **session)
        self.say_hello()
        return connection

    def targets(self) -> tuple[TargetHealth, ...]:
        """The database hosts of this proxy and how they are. No I/O: what was last heard of each.

        Where a secret says which host it is, there is none before the first `connect()`.
        """
        if not self._is_built:
            return ()
        if self.cluster is not None:
            view = self.cluster.view
            drained = self.cluster.drained
            gone = dict.fromkeys(drained - view.members.keys())  # no list has them any more, and resume() takes them
            return tuple(
                _health(endpoint, seen, view.writer, is_drained=endpoint in drained)
                for endpoint, seen in {**(view.members or view.seeds), **gone}.items()
            )
        error = self.pool.connect_error
        if error is not None:
            state, reason = "UNAVAILABLE", f"CONNECTION_FAILED: {error}"
        else:
            state, reason = "AVAILABLE" if self.pool.counters.setups_succeeded else "REGISTERED", None
        port = self.target.ports[0] if self.target.ports else targets.arguments(self.target, self.options).get("port")
        host = (self.target.hosts[0] if self.target.hosts else "(the driver's default)") + (f":{port}" if port else "")
        return (TargetHealth(host, "READ_WRITE", state, reason),)

    def stats(self) -> Stats:
        """A snapshot of what this proxy counts. No I/O."""
        pools = self.pools()
        lent = [backend for pool in pools for backend in pool.lent()]
        occupancies = [pool.occupancy() for pool in pools]
        latency = BorrowLatency.of(pool.latency for pool in pools)
        probing = self.monitor.counters() if self._is_built else monitor.Counters()

        def total(name: str) -> int:
            return sum(getattr(pool.counters, name) for pool in pools)

        def now(name: str) -> int:
            return sum(getattr(occupancy, name) for occupancy in occupancies)

        with self._lock:
            self._count_departed_locked()
            received, gone = self._received, self._gone
        immediate = max(0, total("borrows") - sum(latency.buckets))
        pins: Counter[str] = Counter()
        for pool in pools:
            pins.update(pool.counters.pins)
        return Stats(
            client_connections=received - gone,
            client_connections_received=received,
            client_connections_closed=gone,
            database_connections=now("open"),
            database_connections_currently_borrowed=now("borrowed"),
            database_connections_currently_session_pinned=now("pinned"),
            database_connections_currently_in_transaction=sum(
                self.engine.tx(backend) is not Tx.NONE for backend in lent
            ),
            database_connections_currently_idle=now("idle"),
            database_connections_with_tls=sum(pool.count(self.engine.is_encrypted) for pool in pools),
            database_connections_setup_succeeded=total("setups_succeeded"),
            database_connections_setup_failed=total("setups_failed"),
            database_connections_closed=total("closed"),
            database_connections_borrow_requests=total("borrows") + total("borrows_failed"),
            database_connections_borrow_timeouts=total("borrow_timeouts"),
            database_connections_borrow_latency=latency.total / max(1, total("borrows")),
            database_connections_borrow_latency_p50=latency.quantile(0.5, immediate),
            database_connections_borrow_latency_p99=latency.quantile(0.99, immediate),
            max_database_connections_allowed=now("limit") or self._allowed,
            borrows_waiting=now("waiting"),
            query_requests=sum(pool.statements() for pool in pools),
            resets=total("resets"),
            reset_failures=total("reset_failures"),
            probe_connections=probing.connections,
            probes=probing.asked,
            probes_failed=probing.unanswered,
            hosts_lost=probing.lost,
            relabels=total("relabels"),
            relabel_failures=total("relabel_failures"),
            pins=MappingProxyType(dict(pins)),
            pinned_sessions=tuple(sorted(_pinned_sessions(lent), key=lambda each: -each.seconds)),
        )

    def pause(self, timeout: float | None = None) -> None:
        """Before planned work on the servers: lend no database connection any more, and wait until none is left.

        Transactions and pinned sessions go on to their end. All other statements wait for `resume()`, first come, first
        served, for up to `connection_borrow_timeout`; `connect()` does not wait. Does nothing more where it is paused.

        `timeout` is in seconds, by default half of `connection_borrow_timeout`, which leaves the other half for the
        work itself. Raises DrainTimeout, which names who still has a database connection, and ProxyClosed; it is
        not paused then. Where a secret says where the server is, it is asked as by the first `connect()`, with the same
        errors.
        """
        self._locate()
        self._withhold(None, "pause()", timeout)

    def resume(self, host: str | None = None) -> None:
        """End `pause()`, or with a host, `drain(host)`. Database connections are opened anew.

        Does nothing where that is not so. Raises ConfigurationError for a host that is none of `targets()`.
        """
        if not self._is_built:
            return
        endpoint = None if host is None else self._endpoint(host)
        planned.allow(self.pools, self.cluster, endpoint, f"resume({'' if host is None else repr(host)})")

    def drain(self, host: str, timeout: float | None = None) -> None:
        """Give a host no more work, and wait until no database connection to it is left; others work on.

        `host` is as in `targets()`, with or without its port. Where it is the writer, statements wait until another
        host is, as in a failover. Where it is the only host this is `pause()`. `resume(host)` ends it; until then the
        host gets no work, whatever it becomes. `timeout` and errors are those of `pause()`; ConfigurationError for a
        host that is none of `targets()`.
        """
        self._locate()
        endpoint = self._endpoint(host)
        if isinstance(self._way, GroupOpener):
            raise errors.ConfigurationError(
                f"drain({host!r}): the proxy goes where a cluster's reader or custom endpoint leads, and cannot leave"
                " out a host of it; name the cluster's writer endpoint and use proxy.endpoint('READ_ONLY'), or pause()"
            )
        self._withhold(endpoint, f"drain({host!r})", timeout)

    @property
    def is_paused(self) -> bool:
        """Whether statements wait for `resume()`."""
        return self._is_built and self.pool.is_paused

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
        self._was_closed = True
        if not self._is_built:  # `_find_server` closes what it is about to make
            return
        self.monitor.close()
        self.pool.close()  # first: the pools of readers that are made from now on begin as it is
        for pool in self.pools():
            pool.close()
        if self.commits is not None:
            self.commits.close()
        if self.cluster is not None:
            self.cluster.close()

    @property
    def is_closed(self) -> bool:
        return self.pool.is_closed if self._is_built else self._was_closed

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._is_built:
            return f"<Proxy of {self._credentials.one}, nothing asked yet>"
        occupancy = self.pool.occupancy()
        host = ",".join(self.target.hosts) or "default"
        if self.cluster is not None:
            host = str(self.cluster.view.writer or "none")
        return (
            f"<Proxy {self.target.engine} writer={host} [{occupancy.borrowed} borrowed, {occupancy.idle} idle, "
            f"{occupancy.waiting} waiting, {occupancy.pinned} pinned]{' paused' if occupancy.is_paused else ''}>"
        )

    # -- logging in

    def _login(self, user: str | None, dbname: str | None, keywords: Mapping[str, Any]) -> Login:
        self._credentials.check_alone(keywords)
        targets.check_password(self.engine.name, keywords)
        login = self.engine.login(user, dbname, keywords)
        key = login.key
        known = self._logins.get(key)
        if known is not None:
            return known
        self.engine.check(login)
        with self._lock:
            return self._logins.setdefault(key, login)

    def _check(self, login: Login, reading: Reading | None) -> None:
        """The first connect() of a login: single flight; only what the server refuses for good raises."""
        deadline = time.monotonic() + FIRST_CHECK_SECONDS
        self._prepare(login, deadline)
        if reading is not None and not reading.splits:
            may_be_there = reading.readers.may_have_any()
        else:
            may_be_there = not self.pool.is_away and self._may_have_writer(login, deadline)
        if may_be_there and not self.pool.is_paused:
            with suppress(errors.BorrowTimeout):
                self.haunt(login, max(0.001, deadline - time.monotonic()), reading, is_check=True)
        login.is_checked = True

    def _prepare(self, login: Login, deadline: float) -> None:
        """Let the source of its credentials get what it needs, before a place in the pool is taken to wait for it."""
        source = self._credentials.pick(login.user)
        if source is not None:
            source.prepare(max(0.0, deadline - time.monotonic()))

    def _may_have_writer(self, login: Login, deadline: float) -> bool:
        """Whether it is worth the while to log in. Raises what the hosts refuse for good."""
        try:
            if self.cluster is not None and not isinstance(self._way, GroupOpener):
                self.cluster.writer(login, deadline, is_check=True)
        except OpenFailed as failed:
            if failed.refusal is Refusal.PERMANENT:
                raise failed.error from failed.error.__cause__
            return False
        return True

    def haunt(self, login: Login, timeout: float, reading: Reading | None = None, *, is_check: bool = False) -> None:
        """Make sure that the login has a ghost, by giving it a backend of its own and closing its wire.

        `timeout` is in seconds; `reading` says where its session may go. A mere check is not repeated by those who
        waited for another thread's.
        """
        deadline = time.monotonic() + timeout
        turn = login.check_lock
        if not turn.acquire(timeout=timeout):
            raise self.engine.error(
                errors.BorrowTimeout,
                f"timed out after {timeout:.1f} s waiting for another thread's first login as {login.user}"
                f"{', while the proxy is paused' if self.pool.is_paused else ''}; nothing was sent",
            )
        try:
            if login.ghost is not None or (is_check and login.is_checked):
                return
            self._prepare(login, deadline)
            remaining = max(0.001, deadline - time.monotonic())
            pool, backend = self.pool, None
            if reading is not None and not reading.splits:
                pool, backend = reading.borrow(login, remaining, None, CLEAN)
            else:
                backend = (pool.borrow_at_once if is_check else pool.borrow)(login, remaining)
            try:
                if backend.label.values:  # the ghost answers for a session that has set nothing
                    self.engine.reset(backend)
                if not self._limit_known:
                    self._learn_limit(backend)
                if self.commits is not None:
                    self.commits.check(backend)
                gave_its_wire = self.engine.haunt(backend)
            except BaseException:
                pool.discard(backend)
                raise
            if not gave_its_wire:
                pool.give_back(backend)
                return
            pool.forget(backend)
            if self.options.connection_borrow_timeout == 0:
                # With 0 a borrow takes what is idle and opens nothing, so there has to be one.
                with suppress(HostGone):  # a reader that went meanwhile: the first statement looks for another one
                    pool.give_back(pool.borrow(login, max(0.001, deadline - time.monotonic())))
        finally:
            turn.release()

    def _learn_limit(self, backend: Any) -> None:
        percent = self.options.max_connections_percent
        if percent is not None:
            self._allowed = max(1, self.engine.max_connections(backend) * percent // 100)
            for pool in self.pools():
                pool.resize(min(pool.limit, self._allowed))
        self._limit_known = True

    # -- several hosts

    def _retire(self) -> None:
        self.pool.retire()
        self._retire_readers()

    def _retire_readers(self) -> None:
        for readers in self._all_readers():
            readers.retire()

    def _endpoint(self, host: str) -> Endpoint | None:
        return planned.endpoint_of(host, [target.host for target in self.targets()], self.cluster)

    def _withhold(self, endpoint: Endpoint | None, what: str, timeout: float | None) -> None:
        seconds = self.options.connection_borrow_timeout / 2 if timeout is None else timeout
        planned.withhold(self.pools, self.cluster, endpoint, what, seconds)

    def lose(self, backend: Any) -> None:
        """A database connection was lost in use: its host is asked before another one is opened there."""
        if self.cluster is not None and backend.endpoint is not None and not self.pool.is_inside():
            self.cluster.doubt(backend.endpoint)

    def is_demoted(self, backend: Any, *, is_idle: bool = False) -> bool:
        """After an error that says "read-only", which may have other causes: whether the host is the writer no more.

        `is_idle`: nothing is open on the backend, nor still to be taken from it.
        """
        if isinstance(self._way, NamedHost):
            return self._way.is_demoted(backend, is_idle=is_idle)
        if self.cluster is None or backend.endpoint is None:
            return False
        is_demoted = self.cluster.has_stepped_down(backend, is_idle=is_idle)
        if is_demoted:
            backend.expires_at = 0.0  # closed when it is given back, whoever is the writer by now
        return is_demoted

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
        for backend in (each for pool in self.pools() for each in pool.lent()):
            owner = backend.owner
            connection = owner() if owner is not None else None
            if connection is not None:
                connection._rdsproxy_expire(time.monotonic())

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._building.after_fork()
        for source in self._credentials.sources:
            source.after_fork()
        if not self._is_built:
            return
        self.monitor.after_fork()
        if self.cluster is not None:
            self.cluster.after_fork()
        for readers in self._all_readers():
            readers.after_fork()
        if self.commits is not None:
            self.commits.after_fork()
        for login in self._logins.values():
            login.check_lock = threading.Lock()
        for backend in (each for pool in self.pools() for each in pool.after_fork()):
            connection = backend.owner() if backend.owner is not None else None
            if connection is not None:
                connection._rdsproxy.orphan()


def _weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, without keeping its object: a Proxy that is dropped ends at once, and with it its sockets."""
    find = weakref.WeakMethod(method)

    def call(*arguments: Any, **keywords: Any) -> Any:
        found = find()
        return None if found is None else found(*arguments, **keywords)

    return call


class ProxyEndpoint:
    """A way into the cluster of a Proxy, made by `proxy.endpoint()`: sessions that read from readers, or none.

    Its database connections are a pool for each reader, beside the writer's.
    """

    def __init__(self, proxy: Proxy, target_role: str, name: str, readers: Readers | None) -> None:
        self.proxy = proxy
        self.target_role = target_role
        self.name = name
        self.readers = readers

    def connect(self, user: str | None = None, dbname: str | None = None, **driver_kwargs: Any) -> Any:
        """As `Proxy.connect`; also SQLAlchemy's `creator=`."""
        driver_kwargs = hiding(driver_kwargs)
        return self.proxy._connect(self.proxy._face, user, dbname, driver_kwargs, self.readers)

    def __repr__(self) -> str:
        return f"<ProxyEndpoint {self.name or 'unnamed'} {self.target_role} of {self.proxy!r}>"


def _pinned_sessions(lent: Iterable[Any]) -> Iterator[PinnedSession]:
    now = time.monotonic()
    for backend in lent:
        connection = backend.owner() if backend.owner is not None else None
        for pin in connection._rdsproxy.pins if connection is not None else ():
            yield PinnedSession(
                pin.reason.name, pin.what, pin.statement, pin.call_site, now - pin.since, backend.identity
            )


def _health(endpoint: Endpoint, seen: Observation | None, writer: Endpoint | None, *, is_drained: bool) -> TargetHealth:
    if is_drained:
        role = Role.UNKNOWN if seen is None else seen.role
        return TargetHealth(str(endpoint), role.value, "UNAVAILABLE", "DRAINED: it gets no work until resume(host)")
    if seen is None:
        return TargetHealth(str(endpoint), Role.UNKNOWN.value, "REGISTERED", None)
    if seen.role is Role.UNKNOWN:
        return TargetHealth(str(endpoint), seen.role.value, "UNAVAILABLE", f"CONNECTION_FAILED: {seen.error}")
    if seen.role is Role.READ_WRITE and endpoint != writer:
        why = "INVALID_REPLICATION_STATE: it says that it is the writer, and is not taken for it"
        return TargetHealth(str(endpoint), seen.role.value, "UNAVAILABLE", why)
    return TargetHealth(str(endpoint), seen.role.value, "AVAILABLE", None)


_PARTS = frozenset({"cluster", "commits", "engine", "monitor", "pool", "target", "_face", "_splitting", "_way"})
"""What `Proxy._build` makes."""


def face_of(engine: str) -> Any:
    """The class of an engine's client connections. Loads its driver."""
    if engine == "mysql":
        from .faces.pymysql import Connection as MySQLConnection

        return MySQLConnection
    from .faces.psycopg import Connection

    return Connection


# -- fork

_ALIVE: weakref.WeakSet[Proxy] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for proxy in list(_ALIVE):
        proxy._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
