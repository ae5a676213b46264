"""Threads that overlap on one MySQL connection, close() from elsewhere, and the collector at any moment."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymysql.cursors import SSCursor

from rdsproxy_lib.pool import Pool
from tests.pool.conftest import Call
from tests.pool.interrupts import PACKAGE

from .conftest import ask, lives

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Previous unbuffered:UserWarning",
)

# -- two threads on one connection


@pytest.mark.parametrize(
    "use", ["query", "commit", "rollback", "begin", "ping", "autocommit", "select_db", "show_warnings"]
)
def test_a_second_thread_is_told_at_once(proxy, running, mysql_database, use):
    """While a statement of another thread runs, every use raises ProgrammingError, and the statement is unharmed."""
    conn = proxy.connect(autocommit=True)
    first = Call(ask, conn, "select sleep(0.7), 'first'")
    running("sleep(0.7)")
    begun = time.monotonic()
    arguments = {"query": ("select 1",), "autocommit": (False,), "select_db": (mysql_database + "x",)}.get(use, ())
    with pytest.raises(pymysql.err.ProgrammingError, match="two threads"):
        getattr(conn, use)(*arguments)
    assert time.monotonic() - begun < 0.5
    assert first.result() == (0, "first")
    assert ask(conn, "select 2") == (2,)
    assert conn.rdsproxy.backend is None
    conn.close()


@pytest.mark.usefixtures("restless")
def test_threads_that_overlap_get_their_own_rows_or_an_error(proxy, ids, admin):
    """Six threads on one connection: each query answers its own question or raises ProgrammingError; writes count."""
    conn = proxy.connect(autocommit=True)
    until = time.monotonic() + 1.5
    counts = {"answered": 0, "refused": 0}
    written: list[int] = []

    def work(number: int) -> None:
        turn = 0
        while time.monotonic() < until:
            turn += 1
            key = number * 100_000 + turn
            try:
                conn.query(f"insert into items values ({key})")
                written.append(key)
                counts["answered"] += 1
            except pymysql.err.ProgrammingError:
                counts["refused"] += 1

    calls = [Call(work, number) for number in range(1, 7)]
    for call in calls:
        call.result()
    print(counts)
    assert min(counts.values()) > 10
    assert ids() == sorted(written)
    lives(conn, ids)
    conn.close()
    assert proxy.pool.occupancy().borrowed == 0


def test_a_stream_read_by_two_threads(proxy):
    """Each row goes to one of them, or a thread is told; nothing hangs, and the connection works afterwards."""
    conn = proxy.connect(autocommit=True)
    cursor = conn.cursor(SSCursor)
    cursor.execute("select ordinal_position from information_schema.columns order by 1 limit 2000")
    rows: list[Any] = []

    def read() -> int:
        refused = 0
        while True:
            try:
                row = cursor.fetchone()
            except pymysql.err.ProgrammingError:
                refused += 1
                continue
            if row is None:
                return refused
            rows.append(row)

    for call in [Call(read) for _ in range(2)]:
        call.result()
    cursor.close()
    expected = ask(conn, "select count(*) from (select 1 from information_schema.columns limit 2000) as all_of_them")
    assert (len(rows),) == expected
    conn.close()


# -- close() from another thread


@pytest.mark.parametrize("autocommit", [True, False])
def test_close_cuts_a_long_statement_short(proxy, running, ids, autocommit):
    """close() in another thread ends the statement; its thread hears an error; the backend is not lent on."""
    conn = proxy.connect(autocommit=autocommit)
    long = Call(ask, conn, "insert into items select 1 from (select sleep(20)) as nap")
    running("as nap")
    begun = time.monotonic()
    conn.close()
    assert isinstance(long.error(), pymysql.err.Error)
    assert time.monotonic() - begun < 5
    assert not conn.open
    with pytest.raises(pymysql.err.Error):
        ask(conn, "select 1")
    with pytest.raises(pymysql.err.Error):
        conn.close()
    occupancy = proxy.pool.occupancy()
    assert (occupancy.borrowed, occupancy.open) == (0, 0)
    assert ids() == []


@pytest.mark.usefixtures("restless")
def test_close_at_any_moment_of_short_statements(make_proxy):
    """Hundreds of closes race with the beginnings and ends of statements: no backend is lost, nobody else is hit."""
    proxy = make_proxy(max_connections=2)
    stop = threading.Event()

    def others() -> int:
        count = 0
        with proxy.connect(autocommit=True) as conn:
            while not stop.is_set():
                assert ask(conn, "select %s", count) == (count,)
                count += 1
        return count

    other = Call(others)
    for turn in range(150):
        conn = proxy.connect(autocommit=turn % 2 == 0)
        started = threading.Event()

        def work(conn: Any = conn, started: Any = started) -> None:
            started.set()
            try:
                for number in range(50):
                    assert ask(conn, "select %s", number) == (number,)
            except pymysql.err.Error:
                pass

        call = Call(work)
        started.wait(5)
        for _ in range(turn * 20):
            pass
        conn.close()
        call.result()
    stop.set()
    assert other.result() > 50
    occupancy = proxy.pool.occupancy()
    assert (occupancy.borrowed, occupancy.waiting, occupancy.pinned) == (0, 0, 0)
    assert occupancy.open <= 2


# -- garbage


@pytest.fixture
def quick_collector() -> Iterator[None]:
    """The collector looks only at what was made since: a fraction of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Litter:
    """Something in a reference cycle that holds a connection or a half-read cursor."""

    def __init__(self, *what: Any) -> None:
        self.what = what
        self.myself = self


def half_read(conn: Any) -> Any:
    cursor = conn.cursor(SSCursor)
    cursor.execute("select ordinal_position from information_schema.columns limit 300")
    assert cursor.fetchone()
    return cursor


def open_transaction(conn: Any) -> Any:
    conn.begin()
    ask(conn, "select count(*) from items")
    return conn


LEFT = {
    "connection": lambda proxy, kept: Litter(proxy.connect(autocommit=True)),
    "transaction": lambda proxy, kept: Litter(open_transaction(proxy.connect(autocommit=True))),
    "pinned": lambda proxy, kept: Litter(proxy.connect(autocommit=True), ask(kept, "set @mine = 1.5")),
    "stream of its own": lambda proxy, kept: Litter(half_read(proxy.connect(autocommit=True))),
    "stream of another": lambda proxy, kept: Litter(half_read(kept)),
}


@pytest.mark.usefixtures("quick_collector")
@pytest.mark.parametrize("section", ["_decide_locked", "_occupancy_locked"])
@pytest.mark.parametrize("left", list(LEFT))
def test_a_collection_amid_a_pool_operation_hangs_nothing(make_proxy, admin, monkeypatch, left, section):
    """What the collector ends inside the pool's own sections stops nobody, and its backend comes free."""
    proxy = make_proxy(max_connections=2, connection_borrow_timeout=5)
    kept = proxy.connect(autocommit=True)
    ask(kept, "select 1")
    real = getattr(Pool, section)

    def collecting(pool: Pool, *arguments: Any) -> Any:
        gc.collect()
        return real(pool, *arguments)

    def work() -> list[Any]:
        answers = []
        for _ in range(3):
            with proxy.connect(autocommit=True) as conn:
                answers.append(ask(conn, "select @mine"))
            assert repr(proxy)
            assert proxy.stats()
        return answers

    gc.collect()
    gc.disable()
    try:
        LEFT[left](proxy, kept)
        monkeypatch.setattr(Pool, section, collecting)
        assert Call(work).result() == [(None,)] * 3
    finally:
        gc.enable()
        monkeypatch.undo()
    gc.collect()
    if left != "pinned":
        kept.rollback()
        assert ask(kept, "select 5") == (5,)
    kept.close()
    assert proxy.pool.occupancy().borrowed == 0


@pytest.mark.slow
@pytest.mark.usefixtures("quick_collector")
@pytest.mark.parametrize("left", list(LEFT))
@pytest.mark.parametrize("mysql_server", ["mariadb-10.11"], indirect=True)
def test_a_collection_at_any_line_of_the_library(make_proxy, mysql_server, mysql_database, admin, left):
    """Litter that is collected at each line of an exchange in turn: no hang, no wrong row, no backend lost."""
    url = mysql_server.url(database=mysql_database, ssl_disabled="true")  # which is quicker to open
    proxy = make_proxy(url, max_connections=2, connection_borrow_timeout=3)
    proxy.connect(autocommit=True).close()
    seen: set[tuple[str, int]] = set()
    rounds = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line" and armed and (place := (frame.f_code.co_qualname, frame.f_lineno)) not in seen:
            seen.add(place)
            armed.clear()
            sys.settrace(None)
            gc.collect()
        return trace

    while True:
        kept = proxy.connect(autocommit=True)
        conn = proxy.connect(autocommit=False)
        armed: list[bool] = []
        gc.collect()
        gc.disable()
        try:
            LEFT[left](proxy, kept)
            armed.append(True)
            sys.settrace(trace)
            try:
                first = ask(conn, "select 21")
                conn.commit()
            finally:
                sys.settrace(None)
        finally:
            gc.enable()
        assert first == (21,), seen
        conn.close()
        kept.close()
        gc.collect()
        occupancy = proxy.pool.occupancy()
        assert (occupancy.borrowed, occupancy.waiting) == (0, 0), (occupancy, seen)
        rounds += 1
        if armed:
            break
    assert rounds > 20


@pytest.mark.slow
def test_collections_all_the_time_hang_nothing(make_proxy, admin):
    """Threads that drop connections and half-read cursors go on while the collector runs ever so often."""
    proxy = make_proxy(max_connections=3)
    thresholds = gc.get_threshold()
    until = time.monotonic() + 2

    def work(number: int) -> int:
        rounds = 0
        while time.monotonic() < until:
            conn = proxy.connect(autocommit=True)
            key = number * 1000 + rounds
            Litter(half_read(conn))
            assert ask(conn, "select %s", key) == (key,)
            LEFT[list(LEFT)[rounds % 4]](proxy, conn)
            assert repr(proxy)
            conn.close()
            rounds += 1
        return rounds

    gc.set_threshold(5)
    try:
        calls = [Call(work, number) for number in range(3)]
        for call in calls:
            call.thread.join(15)
        assert all(call.is_done for call in calls), "it hangs"
        assert all(call.result() for call in calls)
    finally:
        gc.set_threshold(*thresholds)
    del calls, call
    gc.collect()
    with proxy.connect(autocommit=True) as conn:
        assert ask(conn, "select 1") == (1,)
    occupancy = proxy.pool.occupancy()
    assert occupancy.borrowed == 0
    assert occupancy.open <= 3


def test_a_thread_that_died_in_a_transaction_frees_its_backend(make_proxy, ids):
    """Once its connection is collected the transaction is undone and the backend's place is free."""
    proxy = make_proxy(max_connections=1)

    def die() -> None:
        conn = proxy.connect(autocommit=False)
        ask(conn, "insert into items values (1)")
        Litter(conn)

    Call(die).result()
    gc.collect()
    with proxy.connect(autocommit=True) as conn:
        assert ask(conn, "select count(*) from items") == (0,)
    assert proxy.stats().database_connections == 1
