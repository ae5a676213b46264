"""Every PyMySQL feature runs on a private connection and on multiplexed ones, with the same assertions."""

from __future__ import annotations

import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib.engines.mysql import MySQLEngine
from rdsproxy_lib.settings import settings_of
from tests.features_mysql.rival import RIVAL_TABLE, rival_goes, rivals
from tests.mysql_servers import ROOT_PASSWORD, ROOT_USER

SECONDS = 15.0
"""How long a test waits for something that has to happen; never how long it takes."""

DATABASE = "test_features"
OTHER_DATABASE = "test_features_other"

OBJECTS = (
    "create table feature_items (id int primary key, name varchar(100))",
    "create table feature_numbered (id int primary key auto_increment, name varchar(100))",
    RIVAL_TABLE,
)

CHANGING = {
    "autocommit",  # told to each borrower
    "error_count",
    "gtid_executed",
    "gtid_binlog_pos",
    "gtid_current_pos",
    "identity",
    "in_transaction",
    "insert_id",
    "last_insert_id",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "statement_id",
    "timestamp",
    "warning_count",
    "proxy_user",
    "server_uid",
    "gtid_seq_no",
    "last_gtid",
}


class Sessions:
    """Opens connections of one kind, and looks at the end whether one of them still holds or has left something.

    private: the driver's own. multiplexed: ours. rivals: ours, and each backend that is given back is at once
    another session's.
    """

    def __init__(self, features: FeatureServer, kind: str) -> None:
        self.kind = kind
        self.features = features
        self.opened: list[Any] = []
        self.allowed: set[str] = set()
        self.may_leave_globals = False
        self._proxies: list[Any] = []
        self._proxy: Any = None

    @property
    def is_private(self) -> bool:
        return self.kind == "private"

    @property
    def proxy(self) -> Any:
        if self._proxy is None and not self.is_private:
            self._proxy = self.make_proxy()
        return self._proxy

    def make_proxy(self, **options: Any) -> Any:
        """A Proxy of this kind, closed at the end of the test."""
        limit = 2 if self.kind == "multiplexed" else 3
        options = {"max_connections": limit, "connection_borrow_timeout": 10, **options}
        with rivals() if self.kind == "rivals" else nullcontext():
            proxy = rdsproxy_lib.Proxy(self.features.url(), **options)
        self._proxies.append(proxy)
        return proxy

    def __call__(self, **keywords: Any) -> Any:
        if self.is_private:
            conn = pymysql.connect(**{**self.features.parameters(), **keywords})
        else:
            conn = self.proxy.connect(**keywords)
        self.opened.append(conn)
        return conn

    def may_pin(self, *reasons: str) -> None:
        """Sessions of this test may end pinned, for no other reasons than these."""
        self.allowed.update(reasons)

    def finish(self) -> None:
        """Roll back, look for pins and borrowed backends, close, and look at what was left on the backends."""
        try:
            alive = [conn for conn in self.opened if conn.open]
            for conn in alive:
                if self.is_private or conn.rdsproxy.in_transaction:
                    with suppress(pymysql.err.MySQLError):
                        conn.rollback()
            if not self.is_private:
                pins = {reason.name for conn in alive for reason in conn.rdsproxy.pin_reasons}
                assert pins <= self.allowed
                if not pins:
                    assert [proxy.stats().database_connections_currently_borrowed for proxy in self._proxies] == [
                        0 for _ in self._proxies
                    ]
        finally:
            for conn in self.opened:
                with suppress(pymysql.err.Error):
                    conn.close()
            try:
                for proxy in self._proxies:
                    if not proxy.is_closed:
                        self._look_at(proxy)
            finally:
                for proxy in self._proxies:
                    proxy.close()

    def _look_at(self, proxy: Any) -> None:
        """No backend is lent, and each is as a new one, seen by a bystander and by the server's own lists."""
        assert proxy.stats().database_connections_currently_borrowed == 0
        bystander = proxy.connect()
        try:
            with bystander.cursor() as cursor:
                cursor.execute("select 'well'")
                assert cursor.fetchall() == (("well",),)
            bystander.rollback()
        finally:
            bystander.close()
        for backend in list(proxy.pool._idle):
            try:
                rival_goes(backend)
                is_fit = proxy.engine.apply(backend, settings_of({}, backend.label.mode))
            except pymysql.err.Error:
                is_fit = False
                assert backend.is_dead()
            if is_fit:  # else it would be closed instead of being lent
                self.features.check_clean(backend)


class Rival:
    """Watches sessions move on to other backends."""

    def __init__(self, connect: Sessions) -> None:
        self.connect = connect
        self.watched: set[Any] = set()

    def __call__(self, *watched: Any) -> None:
        """These sessions are between transactions now, and will have been on several backends when the test ends."""
        if not self.connect.is_private:
            for conn in watched:
                assert not conn.rdsproxy.pinned, conn.rdsproxy.pins
                assert conn.rdsproxy.backend is None
                self.watched.add(conn)

    def finish(self) -> None:
        if self.connect.kind == "rivals":
            for conn in self.watched:
                assert len(conn.rdsproxy.pool.seen[conn]) >= 2, f"{conn} was never moved to another backend"


class Same:
    """Runs one story on a private connection and on multiplexed ones, and compares what it returned or raised."""

    def __init__(self, features: FeatureServer, clean: Callable[[], None]) -> None:
        self.kinds = [Sessions(features, kind) for kind in ("private", "rivals")]
        self.clean = clean

    def __call__(self, story: Callable[[Any], Any], **keywords: Any) -> Any:
        private, multiplexed = (self.run(connect, story, keywords) for connect in self.kinds)
        assert multiplexed == private
        return private

    def run(self, connect: Sessions, story: Callable[..., Any], keywords: dict[str, Any]) -> Any:
        self.clean()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            conn = connect(**keywords)
            outcome = outcome_of(story, conn)
        said = [(item.category, str(item.message)) for item in caught if item.category is not ResourceWarning]
        if not connect.is_private and conn.open:
            assert {reason.name for reason in conn.rdsproxy.pin_reasons} <= connect.allowed
        with suppress(pymysql.err.Error):
            conn.close()
        return outcome, said

    def may_pin(self, *reasons: str) -> None:
        for connect in self.kinds:
            connect.may_pin(*reasons)

    def finish(self) -> None:
        for connect in self.kinds:
            connect.finish()


def outcome_of(story: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, or the class and the arguments of what it raises."""
    try:
        return story(*arguments)
    except (pymysql.err.MySQLError, TypeError, ValueError, LookupError, RuntimeError, AttributeError) as error:
        parts = tuple(re.sub(r" at 0x[0-9a-f]+", "", str(part)) for part in error.args)
        return type(error), parts


class FeatureServer:
    """A server as `tests.mysql_servers` has it, seen from the database that the features share, without TLS."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.is_mariadb = server.is_mariadb
        self.admin: Any = None
        self._fresh: dict[Any, dict[str, Any]] = {}

    def parameters(self, **overrides: Any) -> dict[str, Any]:
        return self.server.parameters(**{"database": DATABASE, "ssl_disabled": True, **overrides})

    def url(self, **overrides: Any) -> str:
        return self.server.url(**{"database": DATABASE, "ssl_disabled": True, **overrides})

    def check_clean(self, backend: Any) -> None:
        """Compare a backend with a private connection of the same login that has done nothing yet."""
        parameters = {name: value for name, value in backend.login.parameters.items() if value is not None}
        key = tuple(sorted((name, str(value)) for name, value in parameters.items()))
        if key not in self._fresh:
            private = pymysql.connect(autocommit=None, **parameters)
            try:
                self._fresh[key] = self._state(lambda text: _rows(private, text))
            finally:
                private.close()
        found = self._state(lambda text: MySQLEngine._run(backend.raw, text))
        expected = self._fresh[key]
        assert {name: value for name, value in found.items() if expected.get(name) != value} == {}

    def _state(self, ask: Callable[[str], Any]) -> dict[str, Any]:
        state = {
            str(name).lower(): value
            for name, value in ask("show session variables")
            if not str(name).lower().startswith("session_track") and str(name).lower() not in CHANGING
        }
        state["(database)"] = ask("select database(), current_user()")
        state["(role)"] = ask("select current_role()")
        mine = "(select thread_id from performance_schema.threads where processlist_id = connection_id())"
        state["(user variables)"] = ask(
            f"select variable_name from performance_schema.user_variables_by_thread where thread_id = {mine}"
        )
        state["(locks)"] = ask(
            "select object_type, object_schema, object_name, lock_type from performance_schema.metadata_locks"
            f" where owner_thread_id = {mine} and object_schema <> 'performance_schema'"
        )
        state["(prepared)"] = ask(
            "select statement_name from performance_schema.prepared_statements_instances"
            f" where owner_thread_id = {mine}"
        )
        return state


def _rows(conn: Any, text: str) -> Any:
    with conn.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


_features: dict[str, FeatureServer] = {}


@pytest.fixture
def features(mysql_server: Any) -> FeatureServer:
    """The server, with databases that hold the tables which the features use."""
    if mysql_server.kind not in _features:
        with mysql_server.admin() as admin, admin.cursor() as cursor:
            for name in (DATABASE, OTHER_DATABASE):
                cursor.execute(f"drop database if exists {name}")
                cursor.execute(f"create database {name}")
            cursor.execute(f"use {DATABASE}")
            for text in OBJECTS:
                cursor.execute(text)
            cursor.execute("set global local_infile = 1")
        _features[mysql_server.kind] = FeatureServer(mysql_server)
    return _features[mysql_server.kind]


@pytest.fixture
def admin(features: FeatureServer) -> Any:
    """A private autocommit connection of root that looks at the server from outside; one for all tests."""
    if features.admin is None or not features.admin.open:
        features.admin = pymysql.connect(
            unix_socket=features.server.socket,
            user=ROOT_USER,
            password=ROOT_PASSWORD,
            database=DATABASE,
            autocommit=True,
            init_command="set lock_wait_timeout = 10, innodb_lock_wait_timeout = 10",
        )
    return features.admin


@pytest.fixture
def root(admin: Any) -> Callable[..., Any]:
    """Runs a statement as root, outside of everything, and returns the rows."""

    def run(text: str, parameters: Any = None) -> Any:
        with admin.cursor() as cursor:
            cursor.execute(text, parameters)
            return cursor.fetchall()

    return run


@pytest.fixture
def clean(request: pytest.FixtureRequest, root: Callable[..., Any]) -> Callable[[], None]:
    """Empties the tables: now, and whenever it is called. That of numbers only for tests that use `numbered`."""

    def empty() -> None:
        root("delete from feature_items")
        if "numbered" in request.fixturenames:
            root("delete from feature_numbered")
            root("alter table feature_numbered auto_increment = 1")

    empty()
    return empty


@pytest.fixture
def numbered() -> str:
    """The name of an empty table with an AUTO_INCREMENT column `id` that begins at 1, and a column `name`."""
    return "feature_numbered"


# Whether the tests expect what the driver does is asked by `make test-long`.
@pytest.fixture(params=[pytest.param("private", marks=pytest.mark.long), "multiplexed", "rivals"])
def connect(request: pytest.FixtureRequest, features: FeatureServer, clean: Any) -> Iterator[Sessions]:
    """Opens connections: private ones, then multiplexed ones, then multiplexed ones with rivals."""
    sessions = Sessions(features, request.param)
    yield sessions
    sessions.finish()


@pytest.fixture(params=["multiplexed", "rivals"])
def shared(request: pytest.FixtureRequest, features: FeatureServer, clean: Any) -> Iterator[Sessions]:
    """Opens connections that are multiplexed: without rivals, then with them."""
    sessions = Sessions(features, request.param)
    yield sessions
    sessions.finish()


@pytest.fixture
def rival(connect: Sessions) -> Iterator[Rival]:
    """Notes which backends the sessions of the test are on; with rivals there must be several."""
    rival = Rival(connect)
    yield rival
    rival.finish()


@pytest.fixture
def same(features: FeatureServer, clean: Callable[[], None]) -> Iterator[Same]:
    """Runs a story on both kinds of connection and compares the outcomes."""
    both = Same(features, clean)
    yield both
    both.finish()


@pytest.fixture
def names(root: Callable[..., Any]) -> Callable[[], list[str]]:
    """The names that are committed in feature_items, seen from outside."""

    def read() -> list[str]:
        return [name for (name,) in root("select name from feature_items order by id")]

    return read


@pytest.fixture
def rows() -> Callable[..., Any]:
    """All rows of a statement, by a cursor of its own."""

    def run(conn: Any, text: str, parameters: Any = None) -> Any:
        with conn.cursor() as cursor:
            cursor.execute(text, parameters)
            return cursor.fetchall()

    return run


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits until a question is answered with something true, and returns that."""

    def wait(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (answer := question()):
            assert time.monotonic() < deadline, "it never happened"
            threading.Event().wait(0.005)
        return answer

    return wait


@pytest.fixture
def running(root: Callable[..., Any], eventually: Any) -> Callable[[str], int]:
    """Waits until the server runs a statement that contains a text, and returns the connection's id."""

    def wait(text: str) -> int:
        look = (
            "select id from information_schema.processlist"
            " where command = 'Query' and instr(info, %s) > 0 and id <> connection_id()"
        )
        return eventually(lambda: root(look, (text,)))[0][0]

    return wait


@pytest.fixture
def kill(root: Callable[..., Any], eventually: Any) -> Callable[[int], None]:
    """Ends a connection at the server, and waits until it is gone."""

    def end(number: int) -> None:
        with suppress(pymysql.err.OperationalError):
            root(f"kill {number}")
        eventually(lambda: not root("select 1 from information_schema.processlist where id = %s", (number,)))

    return end
