"""MySQL, MariaDB and PyMySQL for the runner: what a session can do and see, and the tables that programs use."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pymysql
from pymysql import err
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor

import rdsproxy_lib
from tests.differential.program import Action, Program
from tests.differential.runner import Bench, Facts
from tests.mysql_servers import ROOT_PASSWORD, ROOT_USER, MySQLServer

DATABASE = "test_differential"
SESSIONS = (0, 1, 2)

ERRORS = (err.MySQLError, TypeError, ValueError, LookupError, RuntimeError, AttributeError)
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
IN_TRANSACTION, _SEEN_STATUS = 1, 1 | 2 | 512 | 8192
"""The status bits that tell of the session: in a transaction, autocommit, NO_BACKSLASH_ESCAPES, read only."""
_OF_TRANSACTION = 1 | 8192
_BEGINS_ON_MARIADB = re.compile("savepoint").search
_BEGINS_ON_MYSQL = re.compile("savepoint|from|call").search
"""After which a session may hold a backend, though the status word shows no transaction."""
_UNHEARD = (
    "fetch", "nextset", "start_stream", "end_stream", "mogrify", "insert_id", "autocommit", "set_character_set"
)  # fmt: skip
_PROBE = 'it\'s \\ \0 "é"'

_FOR_ALL = (
    f"create database {DATABASE}",
    f"use {DATABASE}",
    "create table place (name varchar(100))",
    "insert into place values ('home')",
)
_FOR_EACH = (
    f"create database {DATABASE}_{{at}}",
    f"create table {DATABASE}_{{at}}.place (name varchar(100))",
    f"insert into {DATABASE}_{{at}}.place values ('database {{at}}')",
    "create database secret_{at}",
    "create table secret_{at}.place (name varchar(100))",
    "insert into secret_{at}.place values ('secret {at}')",
    "create role reader_{at}",
    "grant select on secret_{at}.* to reader_{at}",
    "grant reader_{at} to app",
    "create table items_{at} (id int primary key, word varchar(100))",
    "create table numbers_{at} (id int primary key auto_increment, word varchar(100))",
)
_ROUTINES = (
    "create procedure sets_mode (wanted varchar(100)) set session sql_mode = wanted",
    "create procedure sets_zone (wanted varchar(100)) set time_zone = wanted",
    "create procedure sets_variable (wanted varchar(100)) set @actor = wanted",
    "create function remember (wanted varchar(100)) returns varchar(100) deterministic"
    " begin set @actor = wanted; return wanted; end",
    "create procedure results () begin select 1 as one; select name from place; select now() > '2000-01-01'; end",
    "create procedure note (what varchar(100)) begin"
    " signal sqlstate '01000' set message_text = 'a note', mysql_errno = 1642; end",
    "create procedure writes (what int) begin start transaction; insert into items_0 values (what, 'by routine');"
    " commit; set @actor = 'writer'; end",
    "create procedure fails () begin set @actor = 'before'; signal sqlstate '45000' set message_text = 'it fails'; end",
)


# A player ----------------------------------------------------------------------------------------------------


class MySQLPlayer:
    """One session, by PyMySQL. Its public methods from `execute` on are the verbs of actions."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._open()

    def _open(self) -> None:
        self.connection = self._connect()
        self._cursor: Any = None
        self._streaming: Any = None
        self._has_failed = self._may_have_begun = False
        is_mariadb = "MariaDB" in self.connection.get_server_info()
        self._begins_unseen = _BEGINS_ON_MARIADB if is_mariadb else _BEGINS_ON_MYSQL
        self._is_mariadb = is_mariadb

    # For the runner

    def do(self, action: Action) -> Facts:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            facts = self._do(action)
        said = [str(warning.message) for warning in given if warning.category is not ResourceWarning]
        if said:
            facts["warnings of the driver"] = repr(said)
        return facts

    def _do(self, action: Action) -> Facts:
        facts: Facts = {}
        # After an error the driver does not know, and MySQL's trackers see more transactions than its status word.
        is_end = action.verb in ("commit", "rollback", "settle", "reopen")
        self._may_have_begun |= bool(self._begins_unseen(repr(action.arguments)))
        try:
            facts["result"] = repr(getattr(self, action.verb)(*action.arguments))
        except ERRORS as error:
            facts["error"] = told(error)
            self._may_have_begun = self._has_failed = True
        else:
            self._has_failed &= action.verb in _UNHEARD
            self._may_have_begun &= not is_end
        self._tell_state(facts)
        return facts

    def _tell_state(self, facts: Facts) -> None:
        conn = self.connection
        if not conn.open:
            facts["open"] = "False"
            return
        # An error tells the driver nothing about the transaction, until it hears of the server again: see DECLARED.
        seen = _SEEN_STATUS & ~_OF_TRANSACTION if self._has_failed else _SEEN_STATUS
        facts["status"] = str(self._status() & seen)
        if self._is_mariadb:
            facts["server"] = "MariaDB"
        facts["driver"] = f"{conn.charset} {conn.encoding} {conn.collation} {conn.get_autocommit()}"
        facts["escaped"] = conn.escape(_PROBE)

    def _status(self) -> int:
        """The server's status word."""
        status: int = self.connection.server_status
        return status

    @property
    def may_be_held(self) -> bool:
        conn = self.connection
        if not conn.open:
            return False
        may_be_open = self._may_have_begun and not conn.get_autocommit()
        return bool(self._status() & IN_TRANSACTION) or may_be_open or self._has_more()

    def _has_more(self) -> bool:
        stream, cursor = (each and each._result for each in (self._streaming, self._cursor))
        return bool((stream and stream.unbuffered_active) or (cursor and cursor.has_next))

    def look(self, names: Sequence[str]) -> Facts:
        conn = self.connection
        if not conn.open or self._has_more():
            return {}
        facts: Facts = {}
        try:
            with conn.cursor() as cursor:
                cursor.execute(_question(tuple(names)))
                row = dict(zip((column[0] for column in cursor.description), cursor.fetchone(), strict=True))
                for column in cursor.description:
                    name, value = column[0], row[column[0]]
                    # A user variable has a type of its own, which the column has then; where it is NULL: see DECLARED.
                    if name in names and value is not None:
                        facts[name] = f"{value!r} {column[1:]}"
                    elif not name.startswith("collation(") or row[name[10:-1]] is not None:
                        facts[name] = repr(value)
            self._has_failed = False
        except ERRORS as error:
            facts["error"] = told(error)
            self._has_failed = True
        self._tell_state(facts)
        return facts

    def finish(self) -> None:
        self._cursor = self._streaming = None
        if self.connection.open:
            self.connection.close()

    # What programs do

    def execute(self, text: str, params: Any = None) -> Any:
        """Run a text and fetch everything of all its results."""
        with self.connection.cursor() as cursor:
            cursor.execute(text, params)
            return everything(cursor)

    def warned(self, text: str, params: Any = None) -> Any:
        """The same, and its warnings."""
        with self.connection.cursor() as cursor:
            try:
                cursor.execute(text, params)
            except err.MySQLError as failed:
                self._may_have_begun = True
                return told(failed), self.connection.show_warnings()
            return everything(cursor), self.connection.show_warnings()

    def show_warnings(self) -> Any:
        return self.connection.show_warnings()

    def many(self, text: str, rows: Sequence[Any]) -> Any:
        """executemany()."""
        with self.connection.cursor() as cursor:
            return cursor.executemany(text, rows), described(cursor)

    def proc(self, name: str, *arguments: Any) -> Any:
        """callproc()."""
        with self.connection.cursor() as cursor:
            return cursor.callproc(name, arguments), everything(cursor)

    def start(self, text: str) -> Any:
        """Run a text, and leave its results in the cursor."""
        self._cursor = self.connection.cursor()
        return self._cursor.execute(text)

    def fetch(self) -> Any:
        """What is left of the present result of `start`."""
        return None if self._cursor is None else self._cursor.fetchall()

    def nextset(self) -> Any:
        """The next result of `start`."""
        if self._cursor is None:
            return None
        return self._cursor.nextset(), described(self._cursor)

    def stream(self, text: str, rows: int) -> Any:
        """Some rows of an unbuffered cursor, which is closed then."""
        with self.connection.cursor(SSCursor) as cursor:
            return cursor.execute(text), cursor.fetchmany(rows), cursor.description

    def start_stream(self, text: str) -> Any:
        """An unbuffered cursor that stays open."""
        self._streaming = self.connection.cursor(SSCursor)
        return self._streaming.execute(text), self._streaming.fetchmany(1)

    def end_stream(self) -> Any:
        """The rest of it."""
        if self._streaming is None:
            return None
        streaming, self._streaming = self._streaming, None
        return streaming.fetchall(), streaming.close()

    def mogrify(self, text: str, params: Any) -> Any:
        with self.connection.cursor() as cursor:
            return cursor.mogrify(text, params)

    def begin(self) -> None:
        self.connection.begin()

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def settle(self, how: str = "commit") -> None:
        """End streams and pending results, and commit or roll back."""
        if self._streaming is not None:
            self.end_stream()
        getattr(self.connection, how)()

    def autocommit(self, value: bool) -> None:
        self.connection.autocommit(value)

    def select_db(self, name: str) -> None:
        self.connection.select_db(name)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        self.connection.set_character_set(charset, collation)

    def ping(self) -> None:
        self.connection.ping(reconnect=False)

    def insert_id(self) -> Any:
        """What the driver says of the last statement."""
        return self.connection.insert_id(), self.connection.affected_rows()

    def close(self) -> None:
        self.connection.close()

    def reopen(self) -> None:
        """Disconnect, and connect anew."""
        if self.connection.open:
            self.connection.close()
        self._open()


def described(cursor: Any) -> Any:
    """What a cursor says of its present result, rows and their columns' types among it."""
    rows = cursor.fetchall() if cursor.description is not None else None
    return cursor.description, rows, cursor.rowcount, cursor.lastrowid, cursor.warning_count


def everything(cursor: Any) -> Any:
    """All results of a cursor."""
    results = [described(cursor)]
    while cursor.nextset():
        results.append(described(cursor))
    return results


def told(error: BaseException) -> str:
    """The class of an error, its code, and what it says."""
    words = [_ADDRESS.sub("", str(part)) for part in error.args]
    return f"{type(error).__module__}.{type(error).__qualname__} {words}"


_questions: dict[tuple[str, ...], str] = {}


def _question(names: tuple[str, ...]) -> str:
    if names not in _questions:
        asked = [f"{name}, collation({name})" if name.startswith("@") else f"@@session.{name}" for name in names]
        _questions[names] = "select " + ", ".join([*asked, "database()", "current_role()", "current_user()"])
    return _questions[names]


# Private connections ------------------------------------------------------------------------------------------


class Heard:
    """The last status word that any server sent."""

    status: int | None = None


class HearsOK(pymysql.connections.OKPacketWrapper):
    """Every OK packet of the driver, listened to."""

    def __init__(self, packet: Any) -> None:
        super().__init__(packet)
        Heard.status = self.server_status


class HearsEOF(pymysql.connections.EOFPacketWrapper):
    """Every EOF packet."""

    def __init__(self, packet: Any) -> None:
        super().__init__(packet)
        Heard.status = self.server_status


class PrivatePlayer(MySQLPlayer):
    """On a connection of the driver's own, with the status word that the server sent last.

    The driver forgets the one that ends rows, so that its `server_status` knows of no transaction that a SELECT began:
    see DECLARED.
    """

    def _open(self) -> None:
        super()._open()
        self._heard: int = self.connection.server_status
        Heard.status = None

    def do(self, action: Action) -> Facts:
        Heard.status = None
        return super().do(action)

    def look(self, names: Sequence[str]) -> Facts:
        Heard.status = None
        return super().look(names)

    def _tell_state(self, facts: Facts) -> None:
        if Heard.status is not None:
            self._heard = Heard.status
        super()._tell_state(facts)

    def _status(self) -> int:
        return self._heard


# The bench ---------------------------------------------------------------------------------------------------

_OF_SESSIONS = ("autocommit",)
_PATIENCE = ("innodb_lock_wait_timeout", "lock_wait_timeout")


class MySQLBench(Bench):
    """A server of MySQL or MariaDB."""

    def __init__(self, server: MySQLServer) -> None:
        super().__init__()
        self.title = server.kind
        self.is_mariadb = server.is_mariadb
        self._server = server
        self._taps = ExitStack()
        for packet, tap in (("OKPacketWrapper", HearsOK), ("EOFPacketWrapper", HearsEOF)):
            self._taps.enter_context(mock.patch.object(pymysql.connections, packet, tap))
        self._admin: Any = pymysql.connect(
            unix_socket=server.socket,
            user=ROOT_USER,
            password=ROOT_PASSWORD,
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
        )
        with self._admin.cursor() as cursor:
            for text in (*_FOR_ALL, *(text.format(at=at) for at in SESSIONS for text in _FOR_EACH)):
                cursor.execute(text)
            if self.is_mariadb:
                for at in SESSIONS:
                    cursor.execute(f"create sequence counter_{at}")
            cursor.execute(f"select {', '.join(f'@@global.{name}' for name in _PATIENCE)}")
            self._patience = cursor.fetchone()
            # A program whose sessions wait for each other's locks would never end.
            cursor.execute("set " + ", ".join(f"global {name} = 1" for name in _PATIENCE))
        maker = pymysql.connect(**self._place({}))
        with maker, maker.cursor() as cursor:
            for text in _ROUTINES:
                cursor.execute(text)

    def _place(self, login: Mapping[str, Any]) -> dict[str, Any]:
        place = {"unix_socket": self._server.socket, "database": DATABASE, "ssl_disabled": True, **login}
        return self._server.parameters(**place)

    def private_player(self, login: Mapping[str, Any]) -> MySQLPlayer:
        return PrivatePlayer(lambda: pymysql.connect(**self._place(login)))

    def shared_player(self, proxy: rdsproxy_lib.Proxy, login: Mapping[str, Any]) -> MySQLPlayer:
        return MySQLPlayer(lambda: proxy.connect(**login))

    def make_proxy(self, limit: int, login: Mapping[str, Any]) -> rdsproxy_lib.Proxy:
        proxy = rdsproxy_lib.Proxy(
            self._server.url(unix_socket=self._server.socket, database=DATABASE, ssl_disabled=True),
            max_connections=limit,
            max_idle_connections_percent=100,
            connection_borrow_timeout=5,
        )
        session = proxy.connect(**login)
        with session, session.cursor() as cursor:  # questions about them change ROW_COUNT()
            for place in (*(f"{DATABASE}_{at}" for at in SESSIONS), DATABASE):
                cursor.execute(f"use {place}")
                cursor.execute(f"call {DATABASE}.results()")
                cursor.execute(f"call {DATABASE}.note('x')")
            cursor.execute("select remember('x')")
        return proxy

    def login_key(self, login: Mapping[str, Any]) -> Any:
        return sorted((name, str(value)) for name, value in login.items() if name not in _OF_SESSIONS)

    def clean(self, program: Program) -> None:
        texts = [f"delete from items_{at}" for at in SESSIONS]
        if program.counts:
            texts += [
                text
                for at in SESSIONS
                for text in (f"delete from numbers_{at}", f"alter table numbers_{at} auto_increment = 1")
            ]
            if self.is_mariadb:
                texts += [f"alter sequence counter_{at} restart" for at in SESSIONS]
        with self._admin.cursor() as cursor:
            cursor.execute("; ".join(texts))

    def close(self) -> None:
        super().close()
        self._taps.close()
        with self._admin.cursor() as cursor:
            for name, value in zip(_PATIENCE, self._patience, strict=True):
                cursor.execute(f"set global {name} = {value}")
            cursor.execute(f"drop database {DATABASE}")
            for at in SESSIONS:
                cursor.execute(f"drop role reader_{at}; drop database {DATABASE}_{at}; drop database secret_{at}")
        self._admin.close()


# How programs say it -----------------------------------------------------------------------------------------

AUTOCOMMIT: Mapping[str, Any] = {"autocommit": True, "client_flag": CLIENT.MULTI_STATEMENTS}
TRANSACTIONS: Mapping[str, Any] = {"autocommit": False, "client_flag": CLIENT.MULTI_STATEMENTS}


def run(text: str, *params: Any, touches: str = "", pins: str = "", **more: Any) -> Action:
    """execute(); `touches` and `pins` are words."""
    arguments = (text, *((list(params),) if params else ()))
    return Action("execute", arguments, tuple(touches.split()), tuple(pins.split()), **more)


def act(verb: str, *arguments: Any, touches: str = "", pins: str = "", **more: Any) -> Action:
    """Any other action."""
    return Action(verb, arguments, tuple(touches.split()), tuple(pins.split()), **more)
