"""KeyboardInterrupt at every point of an exchange with MySQL where CPython may deliver one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pymysql
import pytest
from pymysql.cursors import SSCursor

from tests.pool.interrupts import everywhere

from .conftest import ask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="knows where 3.11 and later handle signals"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of cursors left half read
]


def stream(conn: Any) -> None:
    cursor = conn.cursor(SSCursor)
    cursor.execute("select 1 union select 2")
    cursor.fetchone()
    cursor.fetchone()
    cursor.close()


def half_a_stream(conn: Any) -> None:
    cursor = conn.cursor(SSCursor)
    cursor.execute("select 1 union select 2")
    cursor.fetchone()
    cursor.close()


def transaction(conn: Any) -> None:
    conn.begin()
    ask(conn, "select id from items")
    conn.commit()


def warned(conn: Any) -> None:
    ask(conn, "select 'x' + 0")
    conn.show_warnings()


def failed(conn: Any) -> None:
    with suppress(pymysql.err.OperationalError):
        ask(conn, "select no_such")


def pinned(conn: Any) -> None:
    conn.rdsproxy.pin()
    conn.rdsproxy.unpin()


def closed(conn: Any) -> None:
    ask(conn, "select id from items")
    conn.close()


def closed_with_state(conn: Any) -> None:
    ask(conn, "set @mine = 1.5")
    conn.close()


STORIES: dict[str, Callable[[Any], Any]] = {
    "query": lambda conn: ask(conn, "select 1"),
    "transaction": transaction,
    "rollback": lambda conn: (ask(conn, "select id from items"), conn.rollback()),
    "stream": stream,
    "half a stream": half_a_stream,
    "warnings": warned,
    "error": failed,
    "pin": pinned,
    "close": closed,
    "close with state": closed_with_state,
    "autocommit": lambda conn: (conn.autocommit(True), ask(conn, "select 1"), conn.autocommit(False)),
    "ping": lambda conn: conn.ping(),
}


@pytest.mark.parametrize("mysql_server", ["mariadb-10.11"], indirect=True)  # the quicker one: it is about our code
@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("story", list(STORIES))
def test_an_interrupt_at_any_point_of_an_exchange(make_proxy, mysql_server, mysql_database, admin, story, autocommit):
    """Wherever it strikes, the session works after rollback() or says why not, and others get its backend, clean."""
    url = mysql_server.url(database=mysql_database, ssl_disabled="true")
    proxy = make_proxy(url, max_connections=1, connection_borrow_timeout=2)
    proxy.connect().close()
    worlds: list[Any] = []
    outcomes: dict[str, int] = {}

    def make() -> Callable[[], Any]:
        worlds.append(proxy.connect(autocommit=autocommit))
        return lambda: STORIES[story](worlds[-1])

    def check(where: str) -> None:
        conn = worlds.pop()
        try:
            assert not proxy.pool.is_inside(), "the pool's lock is held for ever"
            outcome = "works"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of streams left half read
                try:
                    conn.rollback()
                    assert ask(conn, "select 17") == (17,)
                    conn.rollback()
                except pymysql.err.Error as error:
                    outcome = type(error).__name__
                    is_mute = conn.open and isinstance(error, pymysql.err.InterfaceError)
                    outcome = "open, and unusable" if is_mute else outcome
                    with suppress(pymysql.err.Error):
                        conn.rollback()
                else:
                    held = conn.rdsproxy.backend
                    assert held is None or conn.rdsproxy.pinned, "it holds a backend for nothing"
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                with suppress(pymysql.err.Error):
                    conn.close()
            assert not conn._rdsproxy_lock.mutex.locked(), "its lock is taken for ever"
            with proxy.connect(autocommit=True) as other:
                assert ask(other, "select @mine, @@autocommit") == (None, 1)
                assert not other.rdsproxy.pinned
            occupancy = proxy.pool.occupancy()
            assert (occupancy.borrowed, occupancy.waiting, occupancy.dialing) == (0, 0, 0), occupancy
        except BaseException as error:
            raise AssertionError(f"interrupted at {where}: {error!r}") from error

    count = everywhere(make, check)
    print(count, outcomes)
    assert "open, and unusable" not in outcomes
    assert count > 20
    with suppress(pymysql.err.Error):
        worlds.pop().close()
