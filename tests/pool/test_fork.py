"""A forked child has a pool of its own, and the parent notices nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import rdsproxy_lib
from rdsproxy_lib import SessionLost

from .conftest import Call

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
        text = answer.read().decode()
    os.waitpid(pid, 0)
    assert text == "well", text or "the child hung"


@pytest.fixture
def proxy(url):
    """A proxy with four backends at most."""
    with rdsproxy_lib.Proxy(url, max_connections=4, connection_borrow_timeout=10) as proxy:
        yield proxy


@pytest.fixture
def log(server):
    """What the server's log says since the test began."""
    start = server.log.stat().st_size

    def read() -> str:
        with server.log.open(errors="replace") as file:
            file.seek(start)
            return file.read()

    return read


def test_the_same_proxy_works_in_a_child(proxy, log):
    """The child gets an empty pool; parent and child go on at the same time, and no protocol is broken."""
    conn = proxy.connect(autocommit=True)
    parents = conn.execute("select pg_backend_pid()").fetchone()

    def child() -> None:
        assert proxy.stats().database_connections == 0
        mine = proxy.connect(autocommit=True)
        assert mine.execute("select pg_backend_pid()").fetchone() != parents
        for _ in range(20):
            mine.execute("select 1")
        mine.close()
        proxy.close()

    in_child(child)
    assert conn.execute("select pg_backend_pid()").fetchone() == parents
    conn.close()
    for bad in ("invalid", "unexpected", "protocol", "lost"):
        assert bad not in log(), log()


def test_the_parents_sessions_raise_in_the_child(proxy, log):
    """Idle, in a transaction or pinned: in the child they say whose they are, and in the parent they go on."""
    idle, busy, pinned = proxy.connect(), proxy.connect(), proxy.connect(autocommit=True)
    busy.execute("create table fork_busy (id int)")
    busy.execute("insert into fork_busy values (1)")
    pinned.execute("create temp table fork_pinned as select 7 as id")

    def child() -> None:
        for conn in (idle, busy, pinned):
            with pytest.raises(SessionLost, match="parent process"):
                conn.execute("select 1")
            with pytest.raises(psycopg.OperationalError):
                conn.execute("select 1")
            assert conn.closed
            conn.close()
        with proxy.connect() as mine:
            mine.execute("select 1")

    in_child(child)
    busy.execute("insert into fork_busy values (2)")
    busy.commit()
    assert idle.execute("select count(*) from fork_busy").fetchone() == (2,)
    assert pinned.execute("select id from fork_pinned").fetchone() == (7,)
    for conn in (idle, busy, pinned):
        conn.close()
    for bad in ("invalid", "unexpected", "protocol", "lost"):
        assert bad not in log(), log()


def test_closing_or_forgetting_the_parents_sessions_in_the_child_is_harmless(proxy, log):
    """Their close, commit, rollback and garbage collection in the child send nothing on the parent's sockets."""
    conns = [proxy.connect() for _ in range(4)]
    assert [each.execute("select 1").fetchone() for each in conns] == [(1,)] * 4

    def child() -> None:
        conns[0].close()
        for end in (conns[1].rollback, conns[2].commit):
            with contextlib.suppress(psycopg.Error):
                end()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del conns[3]
        with proxy.connect() as mine:
            mine.execute("select 1")
        proxy.close()

    in_child(child)
    for conn in conns:
        assert conn.execute("select 1").fetchone() == (1,)
        conn.close()
    for bad in ("invalid", "unexpected", "protocol", "lost"):
        assert bad not in log(), log()


def test_a_fork_in_the_middle_of_everything(proxy, log):
    """Threads of the parent may be anywhere, also inside the pool: the child starts with free locks."""
    stop = threading.Event()

    def work() -> None:
        with proxy.connect(autocommit=True) as conn:
            while not stop.is_set():
                conn.execute("select 1")

    workers = [Call(work) for _ in range(6)]

    def child() -> None:
        with proxy.connect(autocommit=True) as mine:
            for _ in range(5):
                mine.execute("select 1")

    try:
        for _ in range(10):
            in_child(child)
    finally:
        stop.set()
    for worker in workers:
        worker.result()
    for bad in ("invalid", "unexpected", "protocol", "lost"):
        assert bad not in log(), log()


def test_a_session_whose_statement_runs_during_the_fork_raises_in_the_child(proxy, admin_pid):
    """Another thread of the parent is inside a statement on it: the child is told at once instead of hanging."""
    conn = proxy.connect(autocommit=True)
    running = Call(conn.execute, "select pg_sleep(1.5)")
    admin_pid(conn)

    def child() -> None:
        call = Call(conn.execute, "select 1")
        call.thread.join(3)
        assert call.is_done, "it hangs on the parent's lock"
        assert isinstance(call.error(), psycopg.OperationalError)

    in_child(child)
    running.result()
    conn.close()


@pytest.fixture
def admin_pid(server, eventually):
    """Waits until the server runs a pg_sleep."""

    def wait(conn: Any) -> None:
        with server.admin() as admin:
            look = "select pid from pg_stat_activity where query like '%pg_sleep(1.5)%' and pid <> pg_backend_pid()"
            eventually(lambda: admin.execute(look).fetchone())

    return wait


def test_a_shared_proxy_works_in_a_child(url):
    """`rdsproxy_lib.connect()` before and after a fork: the same Proxy, two pools."""
    with rdsproxy_lib.connect(url) as conn:
        conn.execute("select 1")

    def child() -> None:
        with rdsproxy_lib.connect(url) as mine:
            mine.execute("select 1")

    in_child(child)
    with rdsproxy_lib.connect(url) as conn:
        conn.execute("select 1")


def test_a_grandchild_works_too(proxy):
    """Forks of forks each start with an empty pool."""
    with proxy.connect() as conn:
        conn.execute("select 1")

    def grandchild() -> None:
        with proxy.connect() as mine:
            mine.execute("select 1")

    def child() -> None:
        with proxy.connect() as mine:
            mine.execute("select 1")
        in_child(grandchild)

    in_child(child)
