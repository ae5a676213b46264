"""A forked child has a pool of its own, and the parent of MySQL connections notices nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from pymysql.cursors import SSCursor

import rdsproxy_lib
from rdsproxy_lib import SessionLost
from tests.pool.conftest import Call

from .conftest import ask

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def in_child(function: Callable[[], Any]) -> None:
    """Run a function in a forked child; its failure is the test's."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        outcome = b""
        try:
            signal.alarm(30)
            os.close(reader)
            function()
        except BaseException:
            outcome = traceback.format_exc().encode()
        finally:
            os.write(writer, outcome or b"well")
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        if not select.select([reader], [], [], 20)[0]:  # it may hang before it comes to its alarm
            os.kill(pid, signal.SIGKILL)
        text = answer.read().decode()
    os.waitpid(pid, 0)
    assert text == "well", text or "the child hung"


def test_the_same_proxy_works_in_a_child(proxy):
    """The child gets an empty pool; parent and child go on at the same time on different connections."""
    conn = proxy.connect(autocommit=True)
    parents = ask(conn, "select connection_id()")

    def child() -> None:
        assert proxy.stats().database_connections == 0
        mine = proxy.connect(autocommit=True)
        assert ask(mine, "select connection_id()") != parents
        for _ in range(20):
            ask(mine, "select 1")
        mine.close()
        proxy.close()

    in_child(child)
    assert ask(conn, "select connection_id()") == parents
    conn.close()


def test_the_parents_sessions_raise_in_the_child(make_proxy, admin, ids):
    """Idle, in a transaction, streaming or pinned: in the child they say whose they are; in the parent they go on."""
    proxy = make_proxy(max_connections=4)
    idle, busy, pinned, streaming = (proxy.connect(autocommit=True) for _ in range(4))
    ask(idle, "select 1")
    busy.begin()
    ask(busy, "insert into items values (1)")
    ask(pinned, "set @mine = 7e0")
    cursor = streaming.cursor(SSCursor)
    cursor.execute("select ordinal_position, repeat('x', 20000) from information_schema.columns limit 100")
    assert cursor.fetchone()

    def child() -> None:
        for conn in (idle, busy, pinned):
            for _ in range(2):
                with pytest.raises(SessionLost, match="parent process") as caught:
                    ask(conn, "select 1")
                assert caught.value.args[0] == 2013
            assert not conn.open
            conn.close()
        with pytest.raises(pymysql.err.OperationalError):
            list(cursor)
        with proxy.connect(autocommit=True) as mine:
            assert ask(mine, "select @mine") == (None,)

    in_child(child)
    ask(busy, "insert into items values (2)")
    busy.commit()
    assert ids() == [1, 2]
    assert ask(idle, "select count(*) from items") == (2,)
    assert ask(pinned, "select @mine") == (7,)
    assert len(list(cursor)) == 99
    for conn in (idle, busy, pinned, streaming):
        conn.close()


def test_ending_the_parents_sessions_in_the_child_is_harmless(make_proxy, admin, ids):
    """Their close, commit, rollback, ping and garbage collection in the child send nothing on the parent's sockets."""
    proxy = make_proxy(max_connections=6)
    conns = [proxy.connect(autocommit=False) for _ in range(6)]
    for number, conn in enumerate(conns):
        ask(conn, "insert into items values (%s)", number)

    def child() -> None:
        conns[0].close()
        for end in (conns[1].rollback, conns[2].commit, conns[3].ping, conns[4].begin):
            with contextlib.suppress(pymysql.err.Error):
                end()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del conns[5]
        with proxy.connect(autocommit=True) as mine:
            ask(mine, "select 1")
        proxy.close()

    in_child(child)
    for conn in conns:
        ask(conn, "select * from items")
        conn.commit()
        conn.close()
    assert ids() == list(range(6))


def test_a_parked_session_of_the_parent_in_the_child(proxy):
    """Also methods that would ask nobody say that the session is the parent's."""
    conn = proxy.connect(autocommit=True)
    ask(conn, "select 1")

    def child() -> None:
        for use in (conn.commit, conn.rollback, conn.begin, conn.ping, lambda: conn.select_db("app")):
            with contextlib.suppress(SessionLost):
                use()
            with pytest.raises(SessionLost):
                ask(conn, "select 1")
        conn.connect()
        assert ask(conn, "select 1") == (1,)
        conn.close()

    in_child(child)
    assert ask(conn, "select 1") == (1,)
    conn.close()


def test_a_fork_in_the_middle_of_everything(make_proxy):
    """Threads of the parent may be anywhere, also inside the pool: the child starts with free locks."""
    proxy = make_proxy(max_connections=3)
    stop = threading.Event()

    def work() -> None:
        with proxy.connect(autocommit=True) as conn:
            while not stop.is_set():
                assert ask(conn, "select %s", id(conn)) == (id(conn),)

    workers = [Call(work) for _ in range(5)]

    def child() -> None:
        with proxy.connect(autocommit=True) as mine:
            for number in range(5):
                assert ask(mine, "select %s", number) == (number,)

    try:
        for _ in range(8):
            in_child(child)
    finally:
        stop.set()
    for worker in workers:
        worker.result()


def test_a_session_whose_statement_runs_during_the_fork_raises_in_the_child(proxy, running):
    """Another thread of the parent is inside a statement on it: the child is told at once instead of hanging."""
    conn = proxy.connect(autocommit=True)
    statement = Call(ask, conn, "select sleep(1)")
    running("sleep(1)")

    def child() -> None:
        for use in (lambda: ask(conn, "select 1"), conn.close):
            call = Call(use)
            call.thread.join(3)
            assert call.is_done, "it hangs on the parent's lock"
        with pytest.raises(pymysql.err.Error):
            ask(conn, "select 1")

    in_child(child)
    assert statement.result() == (0,)
    conn.close()


def test_a_shared_proxy_works_in_a_child(mysql_url):
    """`rdsproxy_lib.connect()` before and after a fork: the same Proxy, two pools."""
    with rdsproxy_lib.connect(mysql_url) as conn:
        ask(conn, "select 1")

    def child() -> None:
        with rdsproxy_lib.connect(mysql_url) as mine:
            assert ask(mine, "select 1") == (1,)

        def grandchild() -> None:
            with rdsproxy_lib.connect(mysql_url) as mine:
                assert ask(mine, "select 1") == (1,)

        in_child(grandchild)

    in_child(child)
    with rdsproxy_lib.connect(mysql_url) as conn:
        assert ask(conn, "select 1") == (1,)
