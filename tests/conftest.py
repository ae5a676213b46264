"""Fixtures every test may use: servers, a fresh database, a relay; and the checks that hold for each test."""

from __future__ import annotations

import fcntl
import gc
import itertools
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pymysql
import pytest

from tests.cluster.matrix import table
from tests.mysql_servers import MySQLServer, installation
from tests.servers import APP_USER, PostgresServer, ServerMissing, TcpRelay

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

SERVERS: dict[str, Callable[[], PostgresServer]] = {
    "postgresql-15": lambda: PostgresServer("15", tls=True),
    "postgresql-18": lambda: PostgresServer("18"),
}
MYSQL_SERVERS: dict[str, Callable[[], MySQLServer]] = {
    "mariadb-10.11": lambda: MySQLServer("mariadb-10.11", tls=True),
    "mysql-9.7": lambda: MySQLServer("mysql-9.7"),
}
# These fixtures are parametrised over SERVERS or MYSQL_SERVERS; a test that reaches one of them needs a server.
SERVER_FIXTURES = ("server", "private_server", "mysql_server", "private_mysql_server")

# Marked `serial`: what they measure would be another with tests of a second worker beside them. The limits of time in
# other tests are there to catch what hangs, and far away.
SERIAL = ("tests/performance/", "tests/load/test_line6.py")

hypothesis.settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.register_profile("long", deadline=None, max_examples=5_000)
hypothesis.settings.load_profile("tests")


# Servers ----------------------------------------------------------------------------------------------------


_running: dict[str, PostgresServer] = {}


def _start(name: str) -> PostgresServer:
    if name not in _running:
        _running[name] = SERVERS[name]().start()
    return _running[name]


@pytest.fixture(scope="session")
def _running_servers() -> Iterator[dict[str, PostgresServer]]:
    yield _running
    while _running:
        _running.popitem()[1].close()


@pytest.fixture(scope="session", params=list(SERVERS))
def server(request: pytest.FixtureRequest, _running_servers: dict[str, PostgresServer]) -> PostgresServer:
    """Each server in turn, started when first asked for and shared by all tests: leave it as it is."""
    return _start(request.param)


@pytest.fixture(params=list(SERVERS))
def private_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """Each server in turn, for this test alone: to stop, kill, freeze and reconfigure."""
    with SERVERS[request.param]() as server:
        yield server


_database_numbers = itertools.count(1)


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    """The name of an empty database on `server` that belongs to the user `app` and to this test alone."""
    name = f"test_{next(_database_numbers)}"
    with server.admin() as admin:
        admin.execute(f"create database {name} owner {APP_USER}")
    yield name
    with server.admin() as admin:
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def dsn(server: PostgresServer, database: str) -> str:
    """A libpq string for the user `app` on this test's database."""
    return server.dsn(dbname=database)


@pytest.fixture
def url(server: PostgresServer, database: str) -> str:
    """A URL for the user `app` on this test's database."""
    return server.url(dbname=database)


@pytest.fixture
def relay(server: PostgresServer) -> Iterator[TcpRelay]:
    """A relay in front of `server`; connect with `server.dsn(dbname=database, port=relay.port)`."""
    with TcpRelay(server.host, server.port) as relay:
        yield relay


# Servers that speak MySQL -----------------------------------------------------------------------------------


_running_mysql: dict[str, MySQLServer] = {}


def _start_mysql(name: str) -> MySQLServer:
    if name not in _running_mysql:
        _running_mysql[name] = MYSQL_SERVERS[name]().start()
    return _running_mysql[name]


@pytest.fixture(scope="session")
def _running_mysql_servers() -> Iterator[dict[str, MySQLServer]]:
    yield _running_mysql
    while _running_mysql:
        _running_mysql.popitem()[1].close()


@pytest.fixture(scope="session", params=list(MYSQL_SERVERS))
def mysql_server(request: pytest.FixtureRequest, _running_mysql_servers: dict[str, MySQLServer]) -> MySQLServer:
    """Each server in turn, started when first asked for and shared by all tests: leave it as it is."""
    return _start_mysql(request.param)


@pytest.fixture(params=list(MYSQL_SERVERS))
def private_mysql_server(request: pytest.FixtureRequest) -> Iterator[MySQLServer]:
    """Each server in turn, for this test alone: to stop, kill, freeze and reconfigure."""
    with MYSQL_SERVERS[request.param]() as server:
        yield server


@pytest.fixture
def mysql_database(mysql_server: MySQLServer) -> Iterator[str]:
    """The name of an empty database on `mysql_server`, where the user `app` may do everything, for this test alone."""
    name = f"test_{next(_database_numbers)}"
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        cursor.execute(f"create database {name}")
    yield name
    with mysql_server.admin() as admin, admin.cursor() as cursor:
        # Who is still in it may hold locks that the drop would wait for.
        cursor.execute("select id from information_schema.processlist where db = %s", (name,))
        for (number,) in cursor.fetchall():
            with suppress(pymysql.OperationalError):  # it left just now
                cursor.execute(f"kill {number}")
        cursor.execute("set lock_wait_timeout = 10")
        cursor.execute(f"drop database if exists {name}")


@pytest.fixture
def mysql_parameters(mysql_server: MySQLServer, mysql_database: str) -> dict[str, Any]:
    """Keyword arguments of pymysql.connect for the user `app` on this test's database."""
    return mysql_server.parameters(database=mysql_database)


@pytest.fixture
def mysql_url(mysql_server: MySQLServer, mysql_database: str) -> str:
    """A URL for the user `app` on this test's database."""
    return mysql_server.url(database=mysql_database)


@pytest.fixture
def mysql_relay(mysql_server: MySQLServer) -> Iterator[TcpRelay]:
    """A relay in front of `mysql_server`; connect with `**{**mysql_parameters, "port": relay.port}`."""
    with TcpRelay(mysql_server.host, mysql_server.port) as relay:
        yield relay


# Checks that hold for every test ----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [each for each in threading.enumerate() if each not in before and not each.daemon]
    for each in left:
        each.join(timeout=1.0)
    names = [each.name for each in left if each.is_alive()]
    assert not names, f"the test left threads running: {names}"


# Several workers (pytest -n) --------------------------------------------------------------------------------


class Turns:
    """Lets workers test side by side, and each test marked `serial` while no other worker tests."""

    def __init__(self, directory: Path) -> None:
        self._door = (directory / "door").open("w")
        self._room = (directory / "room").open("w")

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Wait until the test may run."""
        fcntl.flock(self._door, fcntl.LOCK_EX)  # who waits keeps it, so that nobody goes in before
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)


_turns = pytest.StashKey[Turns]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for this worker's turn and start the test's server, before everything else: no timeout runs meanwhile."""
    turns = item.config.stash.get(_turns, None)
    with turns.turn(alone=item.get_closest_marker("serial") is not None) if turns else nullcontext():
        with suppress(Exception):  # the fixture will meet it again, and tell
            _start_shared_servers(item)
        return (yield)


def _start_shared_servers(item: pytest.Item) -> None:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if parameters.get("server") in list(SERVERS):
        _start(parameters["server"])
    if parameters.get("mysql_server") in list(MYSQL_SERVERS):
        _start_mysql(parameters["mysql_server"])


# The session ------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Forget what the developer's shell tells drivers and our options: the tests say all of it."""
    for name in list(os.environ):
        if name.startswith(("PG", "MYSQL_", "RDSPROXY_", "AWS_")):
            del os.environ[name]
    # PyMySQL reads the certificates of the machine, over a hundred, for each connection: 20 ms. The tests have theirs.
    os.environ["SSL_CERT_FILE"] = os.devnull
    if hasattr(config, "workerinput"):
        config.stash[_turns] = Turns(Path(config.option.basetemp).parent)  # the directory of the whole run


def _absent() -> dict[str, str]:
    """The servers a run may do without, when they are not there, and why not."""
    try:
        installation("mysql-9.7")
    except ServerMissing as error:
        return {"mysql-9.7": str(error)}
    return {}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark what runs on a server with its name, note the name for the summary, skip what has no server.

    Workers begin with what takes long, so that none is left with it when the others have nothing more to do.
    """
    absent = _absent()
    for item in items:
        if item.nodeid.startswith(SERIAL):
            item.add_marker(pytest.mark.serial)
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        for fixture in SERVER_FIXTURES:
            if fixture in parameters:
                item.add_marker(pytest.mark.server(parameters[fixture]))
        names = {name for marker in item.iter_markers("server") for name in marker.args}
        item.user_properties.extend(("server", name) for name in sorted(names))
        for name in sorted(names & absent.keys()):
            item.add_marker(pytest.mark.skip(reason=f"{name} absent: {absent[name]}"))
    yield
    if _turns in config.stash:
        items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("serial", "slow")])


def pytest_collection_finish() -> None:
    """Hide from the garbage collector what is there before the first test: the eleven thousand tests themselves.

    It went through all of that whenever a test collected, or made many objects: most of the time of such tests.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter) -> Iterator[None]:
    """Say last how many tests ran on each server, which server was not there, what repeats random tests, and counts.

    A test hands over the last two with `record_property("seed", text)`: what it prints is shown only where it fails.
    The fault matrix hands over its rows as "fault".
    """
    yield
    ran: Counter[str] = Counter()
    seeds: dict[str, None] = {}
    faults: dict[str, None] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call" and report.outcome != "skipped":
                ran.update([value for name, value in report.user_properties if name == "server"] or ["none"])
            for name, value in getattr(report, "user_properties", ()):
                {"seed": seeds, "fault": faults}.get(name, {})[value] = None
    for text in (*seeds, *table(map(json.loads, faults))):
        terminalreporter.write_line(text)
    counts = [f"{name} {ran[name]} tests" for name in (*SERVERS, *MYSQL_SERVERS)]
    terminalreporter.write_line(f"servers: {', '.join(counts)}, without a server {ran['none']} tests")
    for name, reason in _absent().items():
        terminalreporter.write_line(f"{name} absent: {reason}")
