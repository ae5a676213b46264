"""One server of either engine behind a relay, with a table to write to and one for tokens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg
import pymysql

import rdsproxy_lib
from rdsproxy_lib.engines import mysql_commits, postgresql_commits
from tests.cluster.history import run
from tests.mysql_servers import MySQLServer
from tests.servers import APP_DATABASE, APP_USER, PostgresServer, TcpRelay

KINDS = ("postgresql-15", "mariadb-10.11", "mysql-9.7")
WORK = "create table work (number bigint not null)"


def tables(kind: str) -> list[str]:
    """The statements that make both tables, that for tokens as the documentation has it."""
    is_postgresql = kind.startswith("postgresql")
    orders = (postgresql_commits if is_postgresql else mysql_commits).TABLE
    tokens = orders.format(table="tokens" if is_postgresql else f"{APP_DATABASE}.tokens", user=APP_USER)
    return [WORK, *filter(None, map(str.strip, tokens.split(";")))]


class Place:
    """`with Place("mariadb-10.11") as place:` starts the server, with both tables empty."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind = kind
        self.is_postgresql = kind.startswith("postgresql")
        self.server: Any = (
            PostgresServer(kind.removeprefix("postgresql-"), options=options)
            if self.is_postgresql
            else MySQLServer(kind, options=options)  # type: ignore[arg-type]
        )

    def __enter__(self) -> Place:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            self.relay = stack.enter_context(TcpRelay(self.server.host, self.server.port))
            for order in tables(self.kind):
                if order.startswith("grant") and not self.is_postgresql:
                    continue  # the user has all rights there, and the right to grant none
                self.ask(order)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def private(self, **keywords: Any) -> Any:
        """The driver's own connection, past the relay."""
        connect: Callable[..., Any] = psycopg.connect if self.is_postgresql else pymysql.connect
        return connect(**{**self.server.parameters(), **keywords})

    def ask(self, text: str, parameters: Any = None) -> list[Any]:
        """Rows, past the relay."""
        conn = self.private(autocommit=True)
        try:
            return run(conn, text, parameters)
        finally:
            conn.close()

    def proxy(self, **options: Any) -> rdsproxy_lib.Proxy:
        """Through the relay, with tokens."""
        given = {"resolve_commits": "tokens", "max_connections": 4, "connection_borrow_timeout": 20, **options}
        return rdsproxy_lib.Proxy(self.server.url(port=self.relay.port), **given)

    def tokens(self) -> list[tuple[bool, int]]:
        """Who wrote each, and how often it was asked for, in the order in which they were made."""
        rows = self.ask("select is_committed, asked from tokens order by token")
        return [(bool(is_committed), asked) for is_committed, asked in rows]

    def is_there(self, number: int) -> bool:
        """Whether this piece of work was done; never twice."""
        ((count,),) = self.ask("select count(*) from work where number = %s", (number,))
        assert count < 2, f"{number} was written twice"
        return bool(count)

    def heal(self) -> None:
        """Nothing is wrong with the network, and both tables are empty."""
        self.relay.stop()
        self.relay.start()
        self.ask("delete from work")
        self.ask("delete from tokens")
