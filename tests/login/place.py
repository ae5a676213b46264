"""A server of any engine with fronts before it, what is the same about both drivers, and what a Proxy is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest
from psycopg import sql

import rdsproxy_lib
from rdsproxy_lib import TLS, SecretsManager
from rdsproxy_lib.config import VERIFYING_MODES
from tests.cluster.history import run
from tests.login.authority import Authority
from tests.login.front import NAME, Front
from tests.login.mysql import MySQLFront
from tests.login.postgresql import PostgresFront
from tests.login.secrets_manager import Service
from tests.mysql_servers import MySQLServer
from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER, PostgresServer

QUICK = 5.0
"""Seconds. The first connect() may wait as long for a server that says nothing; what is wrong here is known at once."""


SERVERS: dict[str, Callable[[], Any]] = {
    "postgresql-15": lambda: PostgresServer("15"),
    "mariadb-10.11": lambda: MySQLServer("mariadb-10.11"),
    "mysql-9.7": lambda: MySQLServer("mysql-9.7"),
}
KINDS = ("postgresql-15", "mariadb-10.11")
"""One of each engine."""
HOSTILE = {
    "postgresql": ("password",),
    "mysql": ("clear", "dialog", "caching_sha2_password", "sha256_password"),
}
"""The checks of a front with which it learns the password, by engine."""


def engine_of(kind: str) -> str:
    """As a Proxy calls it."""
    return "postgresql" if kind.startswith("postgresql") else "mysql"


def front_of(server: Any, **options: Any) -> Front:
    """A front before a server that somebody else started; `with` starts it."""
    return (PostgresFront if isinstance(server, PostgresServer) else MySQLFront)(server, **options)


class Place:
    """`with Place("mariadb-10.11") as place:` starts the server. It has no TLS: that is the fronts'."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.engine = engine_of(kind)
        self.is_postgresql = self.engine == "postgresql"
        self.error: type[Exception] = psycopg.OperationalError if self.is_postgresql else pymysql.OperationalError
        self.server = SERVERS[kind]()

    def __enter__(self) -> Place:
        self.server.__enter__()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.server.__exit__(*exc_info)

    def front(self, **options: Any) -> Front:
        """A front before the server; `with` starts it."""
        return front_of(self.server, **options)

    def proxy(self, front: Front, *, host: str = NAME, **options: Any) -> rdsproxy_lib.Proxy:
        """A Proxy to the front, for the application's user; `credentials` or `password` are still to be given."""
        given = {"user": APP_USER, "dbname": APP_DATABASE, **options}
        return rdsproxy_lib.Proxy(engine=self.engine, host=host, port=front.port, **given)

    def private(self, front: Front, password: str = APP_PASSWORD, **keywords: Any) -> Any:
        """The driver's own connection to the front, without TLS unless the keywords say more."""
        if self.is_postgresql:
            parameters = {"dbname": APP_DATABASE, "sslmode": "disable", **keywords}
            return psycopg.connect(host=front.host, port=front.port, user=APP_USER, password=password, **parameters)
        parameters = {"database": APP_DATABASE, **(keywords or {"ssl_disabled": True})}
        return pymysql.connect(host=front.host, port=front.port, user=APP_USER, password=password, **parameters)

    def add_user(self, name: str, password: str) -> None:
        """A user of the server who may do in the application's database what the application may."""
        with self.server.admin() as admin:
            if self.is_postgresql:
                names = map(sql.Identifier, (name, APP_USER))
                admin.execute(
                    sql.SQL("create role {} in role {} login password {}").format(*names, sql.Literal(password))
                )
            else:
                run(admin, f"create user {name}@'%%' identified by %s", (password,))
                run(admin, f"grant all on {APP_DATABASE}.* to {name}@'%'")

    def drop_user(self, name: str) -> None:
        """The user is gone, where there was one."""
        with self.server.admin() as admin:
            run(admin, f"drop {'role' if self.is_postgresql else 'user'} if exists {name}")

    def forget_passwords(self) -> None:
        """Have MySQL ask for each password anew, which it does not where it has seen it since it started."""
        with self.server.admin() as admin:
            run(admin, "flush privileges")


# What a Proxy is given --------------------------------------------------------------------------------------


def tls_of(mode: str, authority: Authority) -> TLS:
    """The mode, with the authority where it verifies."""
    return TLS(mode, ca_file=str(authority.ca_file) if mode in VERIFYING_MODES else None)


def source_of(
    service: Service,
    name: str,
    *,
    username: str = APP_USER,
    password: str = APP_PASSWORD,
    refresh: float = 3600.0,
    **fields: Any,
) -> SecretsManager:
    """A source of a new secret, by default with the application's user and password. fields: more of its JSON."""
    arn = service.create(name, username=username, password=password, **fields)
    return SecretsManager(arn, endpoint_url=service.endpoint_url, refresh=refresh)


# What tests look at -----------------------------------------------------------------------------------------


def saw_nothing(front: Front) -> None:
    """Whoever stands there was told neither who wants to log in, nor with what."""
    assert not [login for login in front.logins if login.user == APP_USER]
    assert APP_USER.encode() + b"\0" not in front.received
    saw_no_secret(front)


def saw_no_secret(front: Front) -> None:
    """Neither password nor token came, as it is."""
    assert APP_PASSWORD.encode() not in front.received
    assert b"X-Amz-Signature" not in front.received


def has_tls(proxy: rdsproxy_lib.Proxy, front: Front) -> bool:
    """Log in and work; whether that was encrypted, as the server saw it, and as stats() tells."""
    with proxy.connect() as conn:
        assert run(conn, "select 1") == [(1,)]
        stats = proxy.stats()
        assert stats.database_connections == 1
        (channel,) = {login.tls for login in front.logins if login.user == APP_USER}
        assert stats.database_connections_with_tls == (1 if channel else 0)
    return channel is not None


def user_of(proxy: rdsproxy_lib.Proxy, **arguments: Any) -> str:
    """Who a session is, by the server's word."""
    with proxy.connect(**arguments) as conn:
        ((user,),) = run(conn, "select current_user")
    return str(user).partition("@")[0]


def fails(proxy: rdsproxy_lib.Proxy, kind: type[Exception], text: str | None = None) -> Exception:
    """connect() raises it, and soon."""
    begun = time.monotonic()
    with pytest.raises(kind, match=text) as caught:
        proxy.connect()
    assert time.monotonic() - begun < QUICK
    assert proxy.stats().database_connections == 0
    return caught.value
