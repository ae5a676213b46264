"""Rotation of a secret as the functions of Secrets Manager do it, in four steps, against a real database.

moto has no rotation of its own, so each step is done here with the calls that AWS' functions make. What moto does wrong
is not seen from here: the relay of `secrets_manager.Service` lets one call through at a time (moto moves a label in two
halves), and names AWSCURRENT where the caller names no stage (moto then gives a version that was current long ago).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import psycopg
import pymysql
from psycopg import sql

from tests.login.secrets_manager import Service
from tests.mysql_servers import MySQLServer
from tests.servers import PostgresServer

Step = Literal["createSecret", "setSecret", "testSecret", "finishSecret"]
Strategy = Literal["single-user", "alternating-users"]
CLONE = "_clone"


class Rotation:
    """Rotates one secret: `rotate()`, or a step at a time with `for step in rotation.steps():`.

    server: PostgresServer or MySQLServer; may be set later, for a failover. secret: its ARN or name. strategy: with
    alternating users the next version is for `app_clone` when `app` is current, and the other way round.
    """

    def __init__(
        self,
        service: Service,
        server: PostgresServer | MySQLServer,
        secret: str,
        *,
        strategy: Strategy = "single-user",
    ) -> None:
        self.service = service
        self.server = server
        self.secret = secret
        self.strategy = strategy
        self.keeps_pending = True
        """Whether AWSPENDING stays on the version that is current then, as AWS may leave it; else it is taken off."""
        self.done = 0
        """How many rotations are through."""

    @property
    def database(self) -> PostgresUsers | MySQLUsers:
        """What the steps do with the server of now."""
        return users_of(self.server)

    def rotate(self, hold: float | dict[Step, float] = 0.0) -> None:
        """All four steps. hold: seconds to wait after each, or after some of them."""
        for step in self.steps():
            time.sleep(hold.get(step, 0.0) if isinstance(hold, dict) else hold)

    def steps(self) -> Iterator[Step]:
        """Do a step, say which it was, wait to be asked for the next."""
        manager = self.service.manager
        current = self._version("AWSCURRENT")
        fields = json.loads(current["SecretString"])
        master = fields["username"]
        if self.strategy == "alternating-users":
            fields["username"] = master.removesuffix(CLONE) if master.endswith(CLONE) else f"{master}{CLONE}"
        fields["password"] = secrets.token_urlsafe(24)
        pending = manager.put_secret_value(
            SecretId=self.secret, SecretString=json.dumps(fields), VersionStages=["AWSPENDING"]
        )["VersionId"]
        yield "createSecret"
        if fields["username"].endswith(CLONE):
            self.database.clone(master, fields["username"], fields["password"])
        else:
            self.database.set_password(fields["username"], fields["password"])
        yield "setSecret"
        self.database.log_in(fields["username"], fields["password"])
        yield "testSecret"
        manager.update_secret_version_stage(
            SecretId=self.secret,
            VersionStage="AWSCURRENT",
            MoveToVersionId=pending,
            RemoveFromVersionId=current["VersionId"],
        )
        if not self.keeps_pending:
            manager.update_secret_version_stage(
                SecretId=self.secret, VersionStage="AWSPENDING", RemoveFromVersionId=pending
            )
        self.done += 1
        yield "finishSecret"

    def _version(self, stage: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.service.manager.get_secret_value(SecretId=self.secret, VersionStage=stage)
        return answer


def users_of(server: PostgresServer | MySQLServer) -> PostgresUsers | MySQLUsers:
    """What changes the users of a server."""
    return PostgresUsers(server) if isinstance(server, PostgresServer) else MySQLUsers(server)


class PostgresUsers:
    """What a rotation asks of PostgreSQL."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def set_password(self, user: str, password: str) -> None:
        """A new password; the old one is refused from now on."""
        with self._server.admin() as admin:
            admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(user), sql.Literal(password)))

    def clone(self, user: str, clone: str, password: str) -> None:
        """A second user that has what the first has, made when it is not there yet."""
        with self._server.admin() as admin:
            if admin.execute("select from pg_roles where rolname = %s", (clone,)).rowcount == 0:
                text = "create role {} login in role {}"
                admin.execute(sql.SQL(text).format(sql.Identifier(clone), sql.Identifier(user)))
        self.set_password(clone, password)

    def log_in(self, user: str, password: str) -> None:
        """Raises psycopg.OperationalError."""
        psycopg.connect(**self._server.parameters(user=user, password=password)).close()


class MySQLUsers:
    """What a rotation asks of MySQL and MariaDB."""

    def __init__(self, server: MySQLServer) -> None:
        self._server = server

    def set_password(self, user: str, password: str) -> None:
        """A new password; the old one is refused from now on."""
        self._execute(lambda cursor: cursor.execute("alter user %s@'%%' identified by %s", (user, password)))

    def clone(self, user: str, clone: str, password: str) -> None:
        """A second user with the grants of the first, made when it is not there yet."""

        def copy(cursor: Any) -> None:
            cursor.execute("create user if not exists %s@'%%' identified by %s", (clone, password))
            cursor.execute("show grants for %s@'%%'", (user,))
            for (grant,) in cursor.fetchall():
                rights, _, _ = grant.rpartition(" TO ")
                if not rights.startswith("GRANT USAGE"):
                    cursor.execute(f"{rights.replace('%', '%%')} to %s@'%%'", (clone,))

        self._execute(copy)
        self.set_password(clone, password)

    def log_in(self, user: str, password: str) -> None:
        """Raises pymysql.OperationalError."""
        pymysql.connect(**self._server.parameters(user=user, password=password)).close()

    def _execute(self, action: Callable[[Any], object]) -> None:
        with self._server.admin() as admin, admin.cursor() as cursor:
            action(cursor)
