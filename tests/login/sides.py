"""A place seen from its raw driver, and each engine's words: what a test of both needs to say only once."""

from __future__ import annotations

import ssl
from typing import Any

import psycopg
import pymysql

from tests.login.authority import Authority
from tests.login.front import NAME, Front
from tests.login.place import HOSTILE, Place, engine_of
from tests.servers import APP_DATABASE, APP_USER


class Side(Place):
    """A place whose fronts have TLS. `connect()` is the driver's own."""

    denied: str
    """What the driver says of a token that is refused."""
    plaintext: str
    """What it says where a token would go without TLS."""
    code: str
    certificates: tuple[tuple[Any, str], ...]
    """What is wrong with a certificate, and what the driver says."""
    hostile_hash: str
    """The check that asks for a hash that is easily undone; and what the driver does with it."""
    hash_error: type[Exception]
    large: str
    who: str

    def __init__(self, kind: str, authority: Authority) -> None:
        super().__init__(kind)
        self.authority = authority
        self.hostile = HOSTILE[self.engine]

    def front(self, **options: Any) -> Any:
        """With the authority of this run."""
        return super().front(authority=self.authority, **options)

    def connect(self, front: Front, password: str, *, user: str = APP_USER, tls: bool = True, **more: Any) -> Any:
        """With verification, or without TLS."""
        raise NotImplementedError

    def ask(self, connection: Any, text: str) -> Any:
        """The first column of the first row, where there is one."""
        with connection.cursor() as cursor:
            cursor.execute(text)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


class PostgresSide(Side):
    """PostgreSQL, by psycopg."""

    denied = r'FATAL:  PAM authentication failed for user "\w+"'
    plaintext = r'no pg_hba.conf entry for host "127.0.0.1", user "app", database "app", no encryption'
    code = "28000"
    certificates = (
        ("wrong-name", 'server certificate for "other.example" .*does not match host name'),
        ("expired", "certificate verify failed"),
        ("self-signed", "certificate verify failed"),
        (None, "server does not support SSL, but SSL was required"),
    )
    hostile_hash = "md5"
    hash_error = psycopg.OperationalError
    large = "select repeat('x', 30000000)"
    who = "select current_user"

    def connect(self, front: Front, password: str, *, user: str = APP_USER, tls: bool = True, **more: Any) -> Any:
        settings = {"sslmode": "verify-full", "sslrootcert": str(self.authority.ca_file)} if tls else {}
        return psycopg.connect(
            host=NAME,
            hostaddr=front.host,
            port=front.port,
            user=user,
            password=password,
            dbname=APP_DATABASE,
            connect_timeout=10,
            **{"sslmode": "disable", **settings, **more},
        )


class MySQLSide(Side):
    """MariaDB or MySQL, by PyMySQL."""

    denied = r"1045, \"Access denied for user '\w+'@'127.0.0.1' \(using password: YES\)"
    plaintext = denied
    code = "1045"
    certificates = (
        ("wrong-name", "certificate is not valid for"),
        ("expired", "certificate has expired"),
        ("self-signed", "self-signed certificate"),
        (None, "SSL is required but the server doesn't support it"),
    )
    hostile_hash = "mysql_old_password"
    hash_error = AttributeError  # PyMySQL 1.2 has lost the function that makes it
    large = "select repeat('x', 10000000)"
    who = "select substring_index(current_user(), '@', 1)"

    def connect(self, front: Front, password: str, *, user: str = APP_USER, tls: bool = True, **more: Any) -> Any:
        context = ssl.create_default_context(cafile=str(self.authority.ca_file))
        settings: dict[str, Any] = {"ssl": context} if tls else {"ssl_disabled": True}
        return pymysql.connect(
            host=front.host,
            port=front.port,
            user=user,
            password=password,
            database=APP_DATABASE,
            connect_timeout=10,
            **settings,
            **more,
        )


def side_of(kind: str, authority: Authority) -> Side:
    """`with side_of("mysql-9.7", authority) as side:` starts the server."""
    return (PostgresSide if engine_of(kind) == "postgresql" else MySQLSide)(kind, authority)
