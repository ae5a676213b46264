"""A server of its own for statements that reach across databases, and a stage on it that is built anew for each row."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

import pymysql
import pytest
from pymysql.constants import CLIENT

from tests.mysql_servers import Kind, MySQLServer
from tests.pins_mysql.audit import difference, snapshot
from tests.pins_mysql.rows import Row

DATABASE = "test_stage"
COM_RESET_CONNECTION = 0x1F
_MARK, _FOUND_ROWS, _XA_END = "do 'mark'", "select found_rows()", "xa end 'x1'"

BASE = (
    f"drop database if exists {DATABASE}",
    f"create database {DATABASE}",
    "create table {0}.items (id int primary key, name varchar(100), price decimal(10, 2))",
    "create table {0}.others (id int, a int)",
    "create table {0}.numbered (id int primary key auto_increment, name varchar(100))",
    "insert into {0}.items (id, name) values (1, 'a'), (2, 'b')",
    "insert into {0}.others values (1, 1)",
    "insert into {0}.numbered (name) values ('a')",
)
# Everything a row may have made outside its database.
_LEFT_BY_ROWS = (
    "drop user if exists visitor, guest",
    "drop role if exists helper",
    "drop server if exists remote",
    "drop database if exists test_made",
    "set global max_connections = 100",
    "drop resource group batch force",
    "drop undo tablespace rest",
    "drop spatial reference system if exists 990001",
    "alter undo tablespace rest set inactive",
    "set global transaction isolation level repeatable read",
    "drop masking policy if exists hidden",
)
_ONLY_READS = re.compile(r"(?:SELECT|SHOW|SET|EXPLAIN|DESCRIBE|USE|DO|HELP|BEGIN|COMMIT|ROLLBACK)\b")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row did on a server."""

    error: int
    """0 for success."""
    left: set[str]
    """What the session has after it and had not before, its transaction over."""
    survived: set[str]
    """What of that a COM_RESET_CONNECTION did not take back."""
    events: set[str]
    """What MySQL's performance_schema calls the statements."""


class Stage:
    """A database that looks the same before every run of a row."""

    def __init__(self, kind: Kind, server: MySQLServer) -> None:
        self.flavour = kind.partition("-")[0]
        self.server = server
        self._admin = self._connect()
        self._outcomes: dict[Row, Outcome] = {}
        self._stands = False
        self._run("create database test_other")

    def _connect(self) -> pymysql.Connection[Any]:
        return pymysql.connect(
            **{
                **self.server.parameters(),
                "user": "root",
                "password": "root-secret",
                "database": None,
                "ssl_disabled": True,
                "autocommit": True,
                "client_flag": CLIENT.MULTI_STATEMENTS,
                "read_timeout": 60,
            }
        )

    def _run(self, *texts: str) -> None:
        with self._admin.cursor() as cursor:
            for text in texts:
                cursor.execute(text)

    def build(self, row: Row) -> None:
        """Make the base objects and the row's, unless they are there and nothing was written since."""
        if not self._stands or row.objects:
            for text in _LEFT_BY_ROWS:
                with suppress(pymysql.MySQLError):
                    self._run(text)
            self._run(*(text.format(DATABASE) for text in BASE), f"use {DATABASE}", *row.objects)
        self._stands = not row.objects and _ONLY_READS.match(row.text) is not None and not row.before

    def outcome(self, row: Row) -> Outcome:
        """Run the row on a new connection, once, and look what stayed."""
        if row not in self._outcomes:
            self.build(row)
            conn = self._connect()
            try:
                self._outcomes[row] = self._outcome(conn, row)
            finally:
                with suppress(pymysql.MySQLError, OSError):
                    conn.close()
                self._wait_until_gone(conn.thread_id())
                self._roll_back_prepared()
        return self._outcomes[row]

    def _outcome(self, conn: pymysql.Connection[Any], row: Row) -> Outcome:
        with conn.cursor() as cursor:
            cursor.execute(f"use {DATABASE}")
            before = snapshot(conn, self._admin)
            for text in row.before:
                cursor.execute(text)
        if row.before and not row.before[-1].startswith(("xa", "savepoint", "lock", "backup")):
            before = snapshot(conn, self._admin)
        conn.query(_MARK)
        error, rows = _run_to_its_end(conn, row.text)
        try:
            found_rows = self._found_rows(conn, rows) if row.text.startswith(("SELECT", "(")) else set()
            for text in (_XA_END, "xa rollback 'x1'", "rollback"):
                with suppress(pymysql.MySQLError):
                    conn.query(text)
            left = difference(before, snapshot(conn, self._admin)) | found_rows
            events = self._events(conn)  # the server notes a statement after it has answered it
            conn._execute_command(COM_RESET_CONNECTION, b"")
            conn._read_packet()
            survived = difference(before, snapshot(conn, self._admin))
        except (pymysql.OperationalError, pymysql.InterfaceError) as gone:
            if gone.args[0] not in (0, 2006, 2013):
                raise
            return Outcome(error, set(), set(), set())
        return Outcome(error, left, survived, events)

    def _events(self, conn: pymysql.Connection[Any]) -> set[str]:
        """The kinds of the statements between the mark and the next of ours: MySQL blots out texts with secrets."""
        if self.flavour != "mysql":
            return set()
        with self._admin.cursor() as cursor:
            cursor.execute(
                "select substring(event_name, 15), sql_text from performance_schema.events_statements_history_long"
                " where thread_id = (select thread_id from performance_schema.threads where processlist_id = %s)"
                " order by event_id",
                (conn.thread_id(),),
            )
            events = list(cursor.fetchall())
        texts = [text for _, text in events]
        first = texts.index(_MARK) + 1
        end = next(index for index in range(first, len(texts)) if texts[index] in (_FOUND_ROWS, _XA_END))
        return {name for name, _ in events[first:end]}

    @staticmethod
    def _found_rows(conn: pymysql.Connection[Any], rows: int) -> set[str]:
        with conn.cursor() as cursor:
            cursor.execute(_FOUND_ROWS)
            ((found,),) = cursor.fetchall()
        return {"found rows:"} if rows and found > rows else set()

    def _wait_until_gone(self, number: int) -> None:
        deadline = time.monotonic() + 15
        with self._admin.cursor() as cursor:
            while cursor.execute("select 1 from information_schema.processlist where id = %s", (number,)):
                assert time.monotonic() < deadline, "it does not end"

    def _roll_back_prepared(self) -> None:
        with suppress(pymysql.MySQLError):
            self._run("xa rollback 'x1'")

    def commits(self, row: Row) -> bool:
        """Whether what the session wrote before the row is still there when all is rolled back after it."""
        self._stands = False
        self.build(row)
        self._stands = False
        conn = self._connect()
        try:
            for text in (f"use {DATABASE}", *row.before, "begin", "insert into others values (99, 99)"):
                conn.query(text)
            _run_to_its_end(conn, row.text)
            with suppress(pymysql.MySQLError):
                conn.query("rollback")
        finally:
            with suppress(pymysql.MySQLError, OSError):
                conn.close()
            self._wait_until_gone(conn.thread_id())
        with self._admin.cursor() as cursor:
            cursor.execute(f"select 1 from {DATABASE}.others where id = 99")
            return bool(cursor.fetchall())

    def kinds_of_statements(self) -> set[str]:
        """The names MySQL has for statements of SQL."""
        with self._admin.cursor() as cursor:
            cursor.execute(
                "select substring(name, 15) from performance_schema.setup_instruments where name like 'statement/sql/%'"
            )
            return {name for (name,) in cursor.fetchall()}

    def close(self) -> None:
        self._admin.close()


def _run_to_its_end(conn: pymysql.Connection[Any], text: str) -> tuple[int, int]:
    """The error, 0 for none, and the number of rows of the last answer."""
    rows = 0
    with conn.cursor() as cursor:
        try:
            cursor.execute(text)
            rows = len(cursor.fetchall())
            while cursor.nextset():
                rows = len(cursor.fetchall())
        except pymysql.MySQLError as error:
            return int(error.args[0]), 0
    return 0, rows


@pytest.fixture(
    scope="session",
    params=[pytest.param(kind, marks=pytest.mark.server(kind)) for kind in get_args(Kind)],
    ids=str,
)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Each server in turn, one that no other test sees: rows make databases, accounts and roles."""
    options = {"mysql-9.7": {"performance_schema_consumer_events_statements_history_long": True}}
    with MySQLServer(request.param, options=options.get(request.param, {"plugin_maturity": "beta"})) as server:
        stage = Stage(request.param, server)
        yield stage
        stage.close()
