"""A server, users with planted passwords, and an eye that looks for these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib import TLS, Proxy, registry
from tests.cluster.history import run
from tests.login.authority import Authority
from tests.login.eye import Eye
from tests.login.front import Front
from tests.login.place import Place, tls_of
from tests.login.rotation import users_of
from tests.login.tokens import AccessKey
from tests.servers import APP_DATABASE

ERRORS = (psycopg.Error, pymysql.Error, rdsproxy_lib.Error)
IMPATIENT = {"connection_borrow_timeout": 0.5, "max_connections": 2}


class Stage:
    """A server, users with planted passwords, and what looks on."""

    def __init__(self, place: Place, eye: Eye, authority: Authority) -> None:
        self.place = place
        self.server = server = place.server
        self.eye = eye
        self.authority = authority
        self.is_postgresql, self.engine = place.is_postgresql, place.engine
        self.dbname = "dbname" if self.is_postgresql else "database"
        self.address = {"engine": self.engine, "host": server.host, "port": server.port, "dbname": APP_DATABASE}
        self.users: list[str] = []

    def user(self, name: str) -> tuple[str, str]:
        """A database user with a planted password."""
        user, password = f"planted_{len(self.users)}", self.eye.plant(name)
        with self.eye.shut():
            self.place.add_user(user, password)
        self.users.append(user)
        return user, password

    def close(self) -> None:
        """The users are gone."""
        for user in self.users:
            self.place.drop_user(user)

    def end_shared(self) -> None:
        """The Proxies that the process shares are closed, so that new ones are made."""
        for proxy in registry._proxies.values():
            if not proxy.is_closed:
                self.look_at(proxy)
                proxy.close()

    def set_password(self, user: str, password: str) -> None:
        """Of a user, behind everybody's back."""
        with self.eye.shut():
            users_of(self.server).set_password(user, password)

    def front(self, **options: Any) -> Front:
        """A front before the server, with TLS."""
        return self.place.front(authority=self.authority, **options)

    def url(self, user: str, password: str, port: int | None = None, query: str = "") -> str:
        """Of the server, or of a front."""
        place = f"{self.server.host}:{port or self.server.port}/{APP_DATABASE}"
        return f"{self.engine}://{user}:{password}@{place}{query}"

    @property
    def tls(self) -> TLS:
        """With the authority of this run."""
        return tls_of("verify-identity", self.authority)

    def work(self, conn: Any, proxy: Proxy | None = None) -> None:
        """Statements that go well, that fail and that pin; then look at everything that there is to be seen."""
        assert run(conn, "select 1") == [(1,)]
        with self.eye.fails("statement", *ERRORS):
            run(conn, "select nonsense from nowhere")
        conn.rollback()
        run(conn, "create temporary table pinning (a int)")
        conn.rollback()
        self.eye.show("object", conn)
        if proxy is not None:
            self.look_at(proxy)

    def look_at(self, proxy: Proxy) -> None:
        """All that a Proxy shows."""
        known = (proxy.options, proxy.target, proxy.stats(), proxy.targets(), proxy.events, proxy._credentials)
        for each in (proxy, *known, proxy._tls, proxy.pool, proxy.engine, *proxy._logins.values()):
            self.eye.show("object", each)
        if proxy.cluster is not None:
            self.eye.show("object", proxy.cluster)
            self.eye.show("object", proxy.endpoint("READ_ONLY"))


def parts(key: Any) -> Iterator[Any]:
    """What a key is made of."""
    if isinstance(key, tuple | frozenset):
        for each in key:
            yield from parts(each)
    else:
        yield key


def plant_aws(eye: Eye, aws: pytest.MonkeyPatch) -> AccessKey:
    """AWS credentials in the environment."""
    key = AccessKey(eye.plant("AWS: secret key"), eye.plant("AWS: session token"))
    aws.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    aws.setenv("AWS_SESSION_TOKEN", str(key.session_token))
    return key
