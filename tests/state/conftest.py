"""Four servers seen in one way, with proxies that audit every release: a leak anywhere fails the test."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from tests.conftest import MYSQL_SERVERS, SERVERS
from tests.mysql_servers import MySQLServer
from tests.servers import APP_USER, PostgresServer, TcpRelay

SECONDS = 15.0
"""How long a test waits for something that has to happen; never how long it takes."""

_numbers = itertools.count(1)


def rows(conn: Any, text: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Run a statement by the DB-API; its rows, if it has any."""
    with conn.cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def value(conn: Any, text: str, parameters: Any = None) -> Any:
    """The one value that a statement returns."""
    ((answer,),) = rows(conn, text, parameters)
    return answer


def seed() -> int:
    """What a random test begins with: STATE_SEED of the environment, for repeating; else another one each time."""
    if "STATE_SEED" in os.environ:
        return int(os.environ["STATE_SEED"])
    return 1 if "CI" in os.environ else random.SystemRandom().randrange(10**6) * 1000


def eventually(question: Callable[[], Any]) -> Any:
    """Wait until a question about a real server is answered with something true, and return that."""
    deadline = time.monotonic() + SECONDS
    while not (answer := question()):
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.005)
    return answer


@dataclass(frozen=True)
class Setting:
    """A setting of an engine's sessions: how it is set, asked for and shown."""

    name: str
    set: str
    show: str
    mine: Any
    """Shown after `set`."""
    usual: Any
    """Shown where nothing was set."""


class World:
    """A server, a database of its own on it, and whatever is opened there; all of it is closed at the end.

    `events` has what the proxies told, in order.
    """

    engine: str
    settings: tuple[Setting, ...]
    """One that the server has, and one of the application's own."""

    def __init__(self, name: str, server: Any) -> None:
        self.name = name
        self.server = server
        self.database = f"test_state_{next(_numbers)}"
        self.events: list[Any] = []
        self.proxies: list[rdsproxy_lib.Proxy] = []
        self.opened: list[Any] = []

    def url(self, **overrides: Any) -> str:
        raise NotImplementedError

    def private(self, **keywords: Any) -> Any:
        raise NotImplementedError

    def kill(self, backend_id: int) -> None:
        """End a database connection at the server, and wait until it is gone."""
        raise NotImplementedError

    def admin(self, text: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """What an administrator is answered, in this database."""
        raise NotImplementedError

    def proxy(self, *, port: int | None = None, **options: Any) -> rdsproxy_lib.Proxy:
        """A proxy with one backend and audit, unless told otherwise."""
        url = self.url(port=port or self.server.port)
        options = {"max_connections": 1, "connection_borrow_timeout": SECONDS, "audit": True, **options}
        proxy = rdsproxy_lib.Proxy(url, **options)
        proxy.add_event_handler(self.events.append)
        self.proxies.append(proxy)
        return proxy

    def connect(self, proxy: rdsproxy_lib.Proxy, **keywords: Any) -> Any:
        """A session, under autocommit unless told otherwise."""
        conn = proxy.connect(**{"autocommit": True, **keywords})
        self.opened.append(conn)
        return conn

    def sessions(self, count: int = 2, **options: Any) -> tuple[Any, ...]:
        """So many sessions over one backend."""
        proxy = self.proxy(**options)
        return tuple(self.connect(proxy) for _ in range(count))

    def told(self, kind: type) -> list[Any]:
        """The events of a class."""
        return [event for event in self.events if isinstance(event, kind)]

    @contextmanager
    def relay(self) -> Iterator[TcpRelay]:
        """A relay in front of the server."""
        with TcpRelay(self.server.host, self.server.port) as relay:
            yield relay

    def finish(self) -> None:
        """Close the sessions, and see that nothing of them is left, neither borrowed nor on a backend."""
        for conn in self.opened:
            with suppress(psycopg.Error, pymysql.MySQLError):
                conn.close()
        borrowed = [proxy.stats().database_connections_currently_borrowed for proxy in self.proxies]
        for proxy in self.proxies:
            proxy.close()
        assert self.told(rdsproxy_lib.StateLeaked) == []
        assert borrowed == [0] * len(self.proxies)


class PostgresWorld(World):
    """PostgreSQL through psycopg. `app` may become `state_role_0` to `state_role_5`."""

    engine = "postgresql"
    server: PostgresServer
    settings = (
        Setting("work_mem", "set work_mem = '1001kB'", "show work_mem", "1001kB", "4MB"),
        Setting(
            "app.tenant",
            "select set_config('app.tenant', 'mine', false)",
            "select coalesce(current_setting('app.tenant', true), '')",
            "mine",
            "",
        ),
    )

    def url(self, **overrides: Any) -> str:
        return self.server.url(**{"dbname": self.database, "sslmode": "disable", **overrides})

    def private(self, **keywords: Any) -> Any:
        dsn = self.server.dsn(dbname=self.database, sslmode="disable", port=keywords.pop("port", self.server.port))
        conn = psycopg.connect(dsn, **{"autocommit": True, **keywords})
        self.opened.append(conn)
        return conn

    def kill(self, backend_id: int) -> None:
        self.admin("select pg_terminate_backend(pid, 5000) from pg_stat_activity where pid = %s", [backend_id])

    def admin(self, text: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self.server.admin(self.database) as admin:
            return rows(admin, text, parameters)


class MySQLWorld(World):
    """MySQL or MariaDB through PyMySQL. `app` may become `state_role_0` to `state_role_5`."""

    engine = "mysql"
    server: MySQLServer
    settings = (
        Setting("net_read_timeout", "set net_read_timeout = 1001", "select @@net_read_timeout", 1001, 30),
        Setting("@tenant", "set @tenant = 'mine'", "select @tenant", "mine", None),
    )

    @property
    def is_mariadb(self) -> bool:
        return self.server.is_mariadb

    def url(self, **overrides: Any) -> str:
        return self.server.url(**{"database": self.database, "ssl_disabled": True, **overrides})

    def private(self, **keywords: Any) -> Any:
        parameters = self.server.parameters(database=self.database, ssl_disabled=True)
        conn = pymysql.connect(**{**parameters, "autocommit": True, **keywords})
        self.opened.append(conn)
        return conn

    def kill(self, backend_id: int) -> None:
        with suppress(pymysql.OperationalError):  # it went by itself
            self.admin(f"kill connection {backend_id}")
        look = "select 1 from information_schema.processlist where id = %s"
        eventually(lambda: not self.admin(look, (backend_id,)))
        time.sleep(0.01)  # the thread is off the list before its socket is closed

    def admin(self, text: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self.server.admin(database=self.database) as admin:
            return rows(admin, text, parameters)


ROLES = tuple(f"state_role_{number}" for number in range(6))


@contextmanager
def _postgres(name: str, servers: dict[str, PostgresServer]) -> Iterator[PostgresWorld]:
    if name not in servers:
        servers[name] = SERVERS[name]().start()
    world = PostgresWorld(name, servers[name])
    with servers[name].admin() as admin:
        admin.execute(f"create database {world.database} owner {APP_USER}")
        if not admin.execute("select 1 from pg_roles where rolname = %s", [ROLES[0]]).fetchone():
            for role in ROLES:
                admin.execute(f"create role {role}")
                admin.execute(f"grant {role} to {APP_USER}")
    yield world
    try:
        world.finish()
    finally:
        with servers[name].admin() as admin:
            admin.execute(f"drop database {world.database} with (force)")


@contextmanager
def _mysql(name: str, servers: dict[str, MySQLServer]) -> Iterator[MySQLWorld]:
    if name not in servers:
        servers[name] = MYSQL_SERVERS[name]().start()
    world = MySQLWorld(name, servers[name])
    with servers[name].admin() as admin:
        rows(admin, f"create database {world.database}")
        for role in ROLES:
            rows(admin, f"create role if not exists {role}")
            rows(admin, f"grant {role} to {APP_USER}@'%'")
    yield world
    try:
        world.finish()
    finally:
        with servers[name].admin() as admin:
            rows(admin, "set lock_wait_timeout = 10")
            for (each,) in rows(admin, f"show databases like '{world.database}%'"):
                rows(admin, f"drop database {each}")


def _with_marks(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.server(name)) for name in names]


@pytest.fixture(params=_with_marks(*SERVERS, *MYSQL_SERVERS))
def world(request: Any, _running_servers: Any, _running_mysql_servers: Any) -> Iterator[World]:
    """Each of the four servers in turn."""
    opened: AbstractContextManager[World] = (
        _postgres(request.param, _running_servers)
        if request.param in SERVERS
        else _mysql(request.param, _running_mysql_servers)
    )
    with opened as world:
        yield world


@pytest.fixture(params=_with_marks(*SERVERS))
def postgres(request: Any, _running_servers: Any) -> Iterator[PostgresWorld]:
    """Each PostgreSQL in turn."""
    with _postgres(request.param, _running_servers) as world:
        yield world


@pytest.fixture(params=_with_marks(*MYSQL_SERVERS))
def mysql(request: Any, _running_mysql_servers: Any) -> Iterator[MySQLWorld]:
    """MariaDB and MySQL in turn."""
    with _mysql(request.param, _running_mysql_servers) as world:
        yield world
