"""What the tests of the pool over MySQL and MariaDB share."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest

import rdsproxy_lib
from tests.pool.conftest import SECONDS

__all__ = ["ask", "lives"]


def ask(conn: Any, text: str, *arguments: Any) -> Any:
    """Run a statement; its first row."""
    with conn.cursor() as cursor:
        cursor.execute(text, arguments or None)
        return cursor.fetchone()


def lives(conn: Any, ids: Callable[[], list[int]]) -> None:
    """The session goes on: it is open, holds nothing, and its next transaction commits."""
    assert conn.open
    assert not conn.rdsproxy.in_transaction
    conn.begin()
    ask(conn, "insert into items values (99)")
    conn.commit()
    assert 99 in ids()
    assert conn.rdsproxy.backend is None


@pytest.fixture(autouse=True)
def _frozen_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """What tests/conftest.py hid from the collector is hidden again after a test that ended that."""
    yield
    if "quick_collector" in request.fixturenames:
        gc.freeze()


@pytest.fixture
def make_proxy(mysql_url: str) -> Iterator[Callable[..., rdsproxy_lib.Proxy]]:
    """Makes proxies, and closes them at the end."""
    made: list[rdsproxy_lib.Proxy] = []

    def make(url: str = mysql_url, **options: Any) -> rdsproxy_lib.Proxy:
        made.append(rdsproxy_lib.Proxy(url, **{"connection_borrow_timeout": 10, "max_connections": 2, **options}))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@pytest.fixture
def proxy(make_proxy: Callable[..., rdsproxy_lib.Proxy]) -> rdsproxy_lib.Proxy:
    """A proxy with two backends at most."""
    return make_proxy()


@pytest.fixture
def admin(mysql_server: Any, mysql_database: str) -> Iterator[Any]:
    """A connection of root that looks from outside, and a table `items`."""
    with mysql_server.admin(database=mysql_database) as admin:
        ask(admin, "create table items (id int primary key) engine=innodb")
        yield admin


@pytest.fixture
def kill(admin: Any, eventually: Callable[[Callable[[], Any]], Any]) -> Callable[[Any], None]:
    """Ends the backend that a session used last, or the one of a number, and waits for its end."""

    def kill(conn: Any) -> None:
        number = conn if isinstance(conn, int) else conn.rdsproxy.backend_id
        with suppress(pymysql.OperationalError):
            ask(admin, f"kill connection {number}")
        eventually(
            lambda: ask(admin, "select count(*) from information_schema.processlist where id = %s", number) == (0,)
        )
        time.sleep(0.01)

    return kill


@pytest.fixture
def ids(admin: Any) -> Callable[[], list[int]]:
    """What is committed in `items`, seen from outside."""

    def look() -> list[int]:
        with admin.cursor() as cursor:
            cursor.execute("select id from items order by id")
            return [id for (id,) in cursor.fetchall()]

    return look


@pytest.fixture
def running(admin: Any, eventually: Callable[[Callable[[], Any]], Any]) -> Callable[[str], int]:
    """Waits until the server runs a statement with this text in it; the number of its connection."""

    def wait(text: str) -> int:
        look = "select id from information_schema.processlist where info like %s and id <> connection_id()"
        number: int = eventually(lambda: ask(admin, look, f"%{text}%"))[0]
        return number

    return wait


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits until a question about a real server is answered with something true, and returns that."""

    def wait(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (answer := question()):
            assert time.monotonic() < deadline, "it never happened"
            threading.Event().wait(0.005)
        return answer

    return wait


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns much more often than they usually do."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)
