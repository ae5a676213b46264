"""PostgreSQL and psycopg for the runner: what a session can do and see, and the tables that programs use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq

import rdsproxy_lib
from tests.differential.program import Action, Program, Step
from tests.differential.runner import Bench, Facts
from tests.servers import PostgresServer

DATABASE = "differential"
SESSIONS = (0, 1, 2)

ERRORS = (psycopg.Error, TypeError, ValueError, LookupError, RuntimeError, AttributeError, NotImplementedError)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+|(?<=tuple )\(\d+,\d+\)")
_DIAGNOSTICS = (
    "severity_nonlocalized",
    "message_detail",
    "message_hint",
    "statement_position",
    "internal_position",
    "context",
    "schema_name",
    "table_name",
    "column_name",
    "constraint_name",
    "datatype_name",
)
_IDLE, _INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.INERROR

_FOR_ALL = """
    create role writer;
    grant writer to app;
    create table public.place (name text);
    insert into public.place values ('public');
    create table tenants (tenant text, word text);
    alter table tenants enable row level security;
    create policy own on tenants using (tenant = current_setting('app.tenant_id', true));
    create function note(text) returns text language plpgsql as
      $$ begin raise notice 'a note: %', $1; raise warning 'a warning: %', $1; return $1; end $$;
    create function note_debug(text) returns text language plpgsql as
      $$ begin raise debug 'debug: %', $1; raise log 'log: %', $1; raise info 'info: %', $1; return $1; end $$;
    create function sets(text) returns text language plpgsql as
      $$ begin perform set_config('app.actor', $1, false); return $1; end $$;
    create function sets_here(text) returns text language plpgsql set app.actor = 'inside' as
      $$ begin return current_setting('app.actor') || $1; end $$;
    create procedure sets_and_commits(text) language plpgsql as
      $$ begin perform set_config('app.actor', $1, false); commit; perform set_config('app.actor', $1 || '2', false);
      rollback; end $$;
    grant select on tenants, place to public;
"""
_FOR_EACH = """
    create role reader_{at};
    grant reader_{at} to app;
    create schema s{at};
    grant usage on schema s{at} to public;
    create table s{at}.place (name text);
    insert into s{at}.place values ('s{at}');
    grant select on s{at}.place to public;
    insert into tenants values ('tenant {at}', 'word {at}');
    create table items_{at} (id int primary key, word text);
    create table later_{at} (id int unique deferrable initially deferred);
    create table numbers_{at} (id serial, word text);
    alter table items_{at} owner to app;
    alter table later_{at} owner to app;
    alter table numbers_{at} owner to app;
    grant all on items_{at}, numbers_{at}, later_{at} to writer;
"""
_CLEAN = "; ".join(
    f"delete from items_{at}; delete from later_{at}; delete from numbers_{at};"
    f" alter sequence numbers_{at}_id_seq restart"
    for at in SESSIONS
)


# A player ----------------------------------------------------------------------------------------------------


OF_A_PROCESS = "rehashing catalog cache"
"""Begins what a server process tells of itself, depending on what it has done in its life."""


class PostgresPlayer:
    """One session, by psycopg. Its public methods from `execute` on are the verbs of actions."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._notices: list[Any] = []
        self._open()

    def _open(self) -> None:
        self.connection: Any = self._connect()
        self.connection.add_notice_handler(self._noted)
        self._blocks: list[psycopg.Transaction] = []
        self._cursor: psycopg.Cursor[Any] | None = None
        self._named: dict[str, Any] = {}
        self._is_two_phase = False

    def _noted(self, notice: psycopg.errors.Diagnostic) -> None:
        # At once: what it is made from does not outlive the call.
        what = (notice.severity_nonlocalized, notice.sqlstate, notice.message_primary, notice.message_detail)
        if notice.severity_nonlocalized != "DEBUG" or not str(what[2]).startswith(OF_A_PROCESS):  # see DECLARED
            self._notices.append(what)

    # For the runner

    def do(self, action: Action) -> Facts:
        self._notices.clear()
        facts: Facts = {}
        try:
            facts["result"] = repr(getattr(self, action.verb)(*action.arguments))
        except ERRORS as error:
            facts["error"] = told(error)
        self._tell_state(facts)
        return facts

    def _tell_state(self, facts: Facts) -> None:
        conn = self.connection
        info = conn.info
        facts["status"] = info.transaction_status.name
        facts["closed"] = f"{conn.closed} {conn.broken}"
        if not conn.closed:
            facts["properties"] = f"{conn.autocommit} {conn.isolation_level} {conn.read_only} {conn.deferrable}"
            facts["encoding"] = info.encoding
            facts["timezone"] = repr(info.timezone)
        if self._notices:
            facts["notices"] = repr(self._notices)

    @property
    def may_be_held(self) -> bool:
        conn = self.connection
        if conn.closed:
            return False
        return conn.info.transaction_status != _IDLE or self._has_more()

    def _has_more(self) -> bool:
        cursor = self._cursor
        return (
            cursor is not None
            and not cursor.closed
            and len(cursor._results) > 1
            and cursor._iresult + 1 < len(cursor._results)
        )

    def look(self, names: Sequence[str]) -> Facts:
        conn = self.connection
        if conn.closed or self._is_two_phase or self._has_more():
            return {}
        status = conn.info.transaction_status
        if status == _INERROR:
            return {}
        self._notices.clear()
        facts: Facts = {}
        try:
            row = conn.execute(_question(tuple(names)), prepare=False).fetchone()
            if status == _IDLE and not conn.autocommit:
                conn.rollback()
            facts |= zip((*names, "current_user", "session_user"), map(repr, row), strict=True)
        except ERRORS as error:
            facts["error"] = told(error)
        self._tell_state(facts)
        return facts

    def finish(self) -> None:
        self._forget()
        self.connection.close()

    def _forget(self) -> None:
        while self._named:
            self._drop(self._named.popitem()[1])
        self._blocks.clear()
        self._cursor = None

    # What programs do

    def execute(self, text: str, params: Any = None, prepare: bool | None = None, binary: bool = False) -> Any:
        """Run a text and fetch everything of all its results."""
        with self.connection.cursor(binary=binary) as cursor:
            cursor.execute(text, params, prepare=prepare)
            return everything(cursor)

    def client(self, text: str, params: Any = None) -> Any:
        """With the parameters bound by the client."""
        with psycopg.ClientCursor(self.connection) as cursor:
            return cursor.mogrify(text, params), everything(cursor.execute(text, params))

    def many(self, text: str, rows: Sequence[Any], returning: bool = False) -> Any:
        """executemany()."""
        with self.connection.cursor() as cursor:
            cursor.executemany(text, rows, returning=returning)
            return everything(cursor) if returning else (cursor.rowcount, cursor.statusmessage)

    def start(self, text: str) -> Any:
        """Run a text, and leave its results in the cursor."""
        self._cursor = self.connection.cursor()
        self._cursor.execute(text)
        return self._cursor.statusmessage

    def fetch(self) -> Any:
        """What is left of the present result of `start`."""
        return None if self._cursor is None else self._cursor.fetchall()

    def nextset(self) -> Any:
        """The next result of `start`."""
        if self._cursor is None:
            return None
        there_is = self._cursor.nextset()
        return there_is, (described(self._cursor) if there_is else None)

    def stream(self, text: str) -> Any:
        with self.connection.cursor() as cursor:
            return list(cursor.stream(text)), cursor.statusmessage

    def copy_out(self, text: str) -> Any:
        with self.connection.cursor() as cursor, cursor.copy(text) as copy:
            return [bytes(block) for block in copy]

    def copy_in(self, text: str, data: str) -> Any:
        with self.connection.cursor() as cursor:
            with cursor.copy(text) as copy:
                copy.write(data)
            return cursor.rowcount, cursor.statusmessage

    def pipeline(self, *texts: str) -> Any:
        """Several statements in one pipeline."""
        with self.connection.pipeline():
            cursors = [self.connection.execute(text) for text in texts]
        return [everything(cursor) for cursor in cursors]

    def open_named(self, name: str, text: str, withhold: bool = False) -> Any:
        """A cursor on the server."""
        if name in self._named:
            self._drop(self._named.pop(name))
        cursor = self._named[name] = self.connection.cursor(name, withhold=withhold)
        cursor.execute(text)
        return cursor.description

    @staticmethod
    def _drop(cursor: Any) -> None:
        cursor._closed = True  # or the driver warns of one that was forgotten

    def fetch_named(self, name: str, rows: int) -> Any:
        return self._named[name].fetchmany(rows)

    def close_named(self, name: str) -> None:
        self._named.pop(name).close()

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def enter(self, savepoint: str | None = None, force_rollback: bool = False) -> Any:
        """Begin a `with conn.transaction():`."""
        block = psycopg.Transaction(self.connection, savepoint, force_rollback)  # what transaction() makes
        self._blocks.append(block.__enter__())
        return block.savepoint_name

    def leave(self, how: str = "done") -> Any:
        """End the innermost one: "done", "error" or "rollback" inside it."""
        if not self._blocks:
            return None
        block = self._blocks.pop()
        if how == "done":
            return block.__exit__(None, None, None)
        error = ZeroDivisionError("in the block") if how == "error" else psycopg.Rollback(block)
        return block.__exit__(type(error), error, None), block.status.name

    def settle(self, how: str = "commit") -> None:
        """Leave all blocks, and commit or roll back."""
        while self._blocks:
            self.leave("done" if how == "commit" else "error")
        getattr(self.connection, how)()

    def set(self, name: str, value: Any) -> None:
        """Set a property of the connection."""
        setattr(self.connection, name, value)

    def two_phase(self, method: str, name: str = "") -> Any:
        """tpc_begin, tpc_prepare, tpc_commit, tpc_rollback."""
        if method == "tpc_begin":
            result = self.connection.tpc_begin(self.connection.xid(1, name, "differential"))
            self._is_two_phase = True
        else:
            result = getattr(self.connection, method)()
            self._is_two_phase = method == "tpc_prepare"
        return result

    def notifies(self) -> Any:
        """What has been notified."""
        return [(each.channel, each.payload) for each in self.connection.notifies(timeout=0.02)]

    def close(self) -> None:
        self.connection.close()

    def reopen(self) -> None:
        """Disconnect, and connect anew."""
        self.connection.close()
        self._open()


def described(cursor: psycopg.Cursor[Any]) -> Any:
    """What a cursor says of its present result, rows and their columns' types among it."""
    columns = cursor.description
    if columns is None:
        return cursor.rowcount, cursor.statusmessage
    types = [(c.name, c.type_code, c.display_size, c.internal_size, c.precision, c.scale) for c in columns]
    return types, cursor.fetchall(), cursor.rowcount, cursor.statusmessage


def everything(cursor: psycopg.Cursor[Any]) -> Any:
    """All results of a cursor."""
    results = [described(cursor)]
    while cursor.nextset():
        results.append(described(cursor))
    return results


def told(error: BaseException) -> str:
    """The class of an error, its code, and what it says."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    words = _ADDRESS.sub("", str(error))
    if not isinstance(error, psycopg.Error):
        return f"{name}: {words}"
    if error.diag.message_primary is not None:
        words = error.diag.message_primary  # libpq shows the line of a text, and only the place in what was prepared
    details = [(field, value) for field in _DIAGNOSTICS if (value := getattr(error.diag, field)) is not None]
    return f"{name} {error.sqlstate}: {words} {_ADDRESS.sub('', str(details))}"


_questions: dict[tuple[str, ...], str] = {}


def _question(names: tuple[str, ...]) -> str:
    if names not in _questions:
        asked = "".join(f"nullif(pg_catalog.current_setting('{name}', true), ''), " for name in names)
        _questions[names] = f"select {asked} current_user, session_user"
    return _questions[names]


# The bench ---------------------------------------------------------------------------------------------------

_OF_SESSIONS = ("autocommit", "prepare_threshold")
_NO_WIRE = pq.PGconn.connect_start(b"host=/nonexistent")
_NO_WIRE.finish()


class PostgresBench(Bench):
    """A server of PostgreSQL. Private connections are used again once everything on them was discarded."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__()
        self.title = f"PostgreSQL {server.version}"
        self._server = server
        self._free: dict[str, list[Any]] = {}
        self.admin = server.admin()
        self.admin.execute(f"create database {DATABASE} owner app")
        self.admin.close()
        self.admin = server.admin(DATABASE)
        # A program whose sessions wait for each other's locks would never end.
        self.admin.execute(f"alter database {DATABASE} set lock_timeout to '500ms'")
        self.admin.execute(_FOR_ALL)
        for at in SESSIONS:
            self.admin.execute(_FOR_EACH.format(at=at))

    def _place(self, login: Mapping[str, Any]) -> dict[str, Any]:
        # By the unix socket, where a login takes half the time.
        place = {"host": str(self._server.socket_dir), "dbname": DATABASE, **login}
        return {name: value for name, value in place.items() if name not in _OF_SESSIONS}

    def private_player(self, login: Mapping[str, Any]) -> PostgresPlayer:
        key = repr(self.login_key(login))
        place = self._server.parameters(**self._place(login))
        of_session = {name: login[name] for name in _OF_SESSIONS if name in login}

        def connect() -> psycopg.Connection[Any]:
            free = self._free.setdefault(key, [])
            if not free:
                return psycopg.connect(**place, **of_session)
            connection = psycopg.Connection(free.pop())
            connection._autocommit = of_session.get("autocommit", False)
            if "prepare_threshold" in of_session:
                connection.prepare_threshold = of_session["prepare_threshold"]
            return connection

        return PrivatePlayer(connect, self._free.setdefault(key, []))

    def shared_player(self, proxy: rdsproxy_lib.Proxy, login: Mapping[str, Any]) -> PostgresPlayer:
        return PostgresPlayer(lambda: proxy.connect(**login))

    def make_proxy(self, limit: int, login: Mapping[str, Any]) -> rdsproxy_lib.Proxy:
        place = self._place({})
        proxy = rdsproxy_lib.Proxy(
            self._server.url(**place),
            max_connections=limit,
            max_idle_connections_percent=100,
            connection_borrow_timeout=5,
        )
        with proxy.connect(**login) as session:  # in a failed transaction routines could not be judged
            session.execute("select note('x'), note_debug('x'), sets('x'), sets_here('x')")
            session.commit()
            session.autocommit = True
            session.execute("call sets_and_commits('x')")
        return proxy

    def login_key(self, login: Mapping[str, Any]) -> Any:
        return sorted((name, str(value)) for name, value in login.items() if name not in _OF_SESSIONS)

    def clean(self, program: Program) -> None:
        self.admin.execute(_CLEAN)

    def begin_again(self) -> None:
        super().begin_again()
        for free in self._free.values():
            while free:
                free.pop().finish()

    def close(self) -> None:
        super().close()
        self.admin.close()
        with self._server.admin() as admin:
            admin.execute(f"drop database {DATABASE} with (force)")
            admin.execute("drop role " + ", ".join(["writer", *(f"reader_{at}" for at in SESSIONS)]))


class PrivatePlayer(PostgresPlayer):
    """On a connection of the driver's own; its wire is cleaned and kept at the end, if nothing odd was done on it."""

    spoils = ("setseed", "load ", "notifies", "tpc_")

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], free: list[Any]) -> None:
        super().__init__(connect)
        self._free = free
        self._is_spoilt = False

    def do(self, action: Action) -> Facts:
        self._is_spoilt = self._is_spoilt or any(word in repr(action) for word in self.spoils)
        return super().do(action)

    def finish(self) -> None:
        self._forget()
        connection = self.connection
        wire = connection.pgconn
        if connection.closed or self._is_spoilt or wire.transaction_status == pq.TransactionStatus.ACTIVE:
            connection.close()
            return
        connection.pgconn = _NO_WIRE  # closed, in the eyes of the driver
        for command in (b"rollback", b"discard all"):
            if command != b"rollback" or wire.transaction_status != _IDLE:
                result = wire.exec_(command)
                assert result.status == pq.ExecStatus.COMMAND_OK, result.error_message
        while wire.notifies():
            pass
        self._free.append(wire)


# How programs say it -----------------------------------------------------------------------------------------

AUTOCOMMIT: Mapping[str, Any] = {"autocommit": True}


def run(text: str, *params: Any, touches: str = "", pins: str = "", **more: Any) -> Action:
    """execute(); `touches` and `pins` are words."""
    arguments = (text, *((list(params),) if params else ()))
    return Action("execute", arguments, tuple(touches.split()), tuple(pins.split()), **more)


def act(verb: str, *arguments: Any, touches: str = "", pins: str = "", **more: Any) -> Action:
    """Any other action."""
    return Action(verb, arguments, tuple(touches.split()), tuple(pins.split()), **more)


__all__ = ["AUTOCOMMIT", "PostgresBench", "PostgresPlayer", "Program", "Step", "act", "run"]
