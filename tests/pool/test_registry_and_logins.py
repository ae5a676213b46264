"""What a process keeps for its targets and logins, and threads, finalisers and closing that meet in one pool."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import rdsproxy_lib
from rdsproxy_lib import BorrowTimeout, ConfigurationError, Proxy, ProxyClosed, Static, registry
from rdsproxy_lib.pool import Pool
from tests.servers import APP_PASSWORD, APP_USER

from .conftest import SECONDS, Call


@pytest.fixture
def make_proxy(url: str) -> Iterator[Callable[..., Proxy]]:
    """Makes proxies, and closes them at the end."""
    made: list[Proxy] = []

    def make(**options: Any) -> Proxy:
        made.append(Proxy(url, **{"connection_borrow_timeout": 10, **options}))
        return made[-1]

    yield make
    for proxy in made:
        Call(proxy.close).result()  # where a thread hangs in the pool, the test must still end


@pytest.fixture
def shared_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[Any, Proxy]]:
    """The proxies that the process shares: none at first, and closed at the end."""
    proxies: dict[Any, Proxy] = {}
    monkeypatch.setattr(registry, "_proxies", proxies)
    yield proxies
    for proxy in proxies.values():
        proxy.close()


def until_waiting(proxy: Proxy, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while proxy.pool.occupancy().waiting < count:
        assert time.monotonic() < deadline, "nobody waits"
        threading.Event().wait(0.005)


# -- sessions that move between threads


def test_a_session_that_moves_between_threads_is_no_deadlock(make_proxy):
    """A thread whose last transaction is committed by another thread a moment later gets its connection."""
    proxy = make_proxy(max_connections=1)
    moving, wanting = proxy.connect(), proxy.connect()
    with ThreadPoolExecutor(1) as here, ThreadPoolExecutor(1) as there:
        here.submit(moving.execute, "select 1").result()
        wanted = here.submit(wanting.execute, "select 2")
        until_waiting(proxy, 1)
        threading.Event().wait(0.2)
        there.submit(moving.commit).result()
        assert wanted.result(SECONDS).fetchone() == (2,)
    assert proxy.stats().database_connections_borrow_timeouts == 0
    moving.close()
    wanting.close()


def test_a_real_deadlock_ends_soon(make_proxy):
    """A thread that waits for what it holds itself is told so long before connection_borrow_timeout."""
    proxy = make_proxy(max_connections=1)
    holding, wanting = proxy.connect(), proxy.connect()
    holding.execute("select 1")
    begun = time.monotonic()
    with pytest.raises(BorrowTimeout, match="every thread that holds a database connection waits"):
        wanting.execute("select 1")
    assert time.monotonic() - begun < 1.5
    holding.commit()
    assert wanting.execute("select 1").fetchone() == (1,)
    holding.close()
    wanting.close()


@pytest.mark.parametrize("apart", [0.0, 0.8])
def test_a_deadlock_of_several_threads_ends_soon_for_one(make_proxy, apart):
    """Where each of several threads holds one and wants another, one is told soon and the others are served."""
    proxy = make_proxy(max_connections=3)
    barrier = threading.Barrier(3)

    def want_two(number: int) -> float:
        with proxy.connect() as first, proxy.connect() as second:
            first.execute("select 1")
            barrier.wait(SECONDS)
            threading.Event().wait(apart * number)
            try:
                second.execute("select 1")
            except BorrowTimeout:
                return time.monotonic() - last_began[0]
            return -1.0

    last_began = [time.monotonic() + 2 * apart]
    begun = time.monotonic()
    calls = [Call(want_two, number) for number in range(3)]
    told = [waited for waited in (call.result() for call in calls) if waited >= 0]
    assert 1 <= len(told) <= 2
    assert time.monotonic() - begun < 2 * apart + 3
    assert min(told) < 1.5


# -- shared proxies


@pytest.mark.parametrize("mapping", [False, True])
def test_equal_credentials_share_one_proxy(server, database, shared_proxies, mapping):
    """Credentials that are equal, if made anew for each call, lead to the same Proxy and its limit."""
    url = server.url(dbname=database, password="")
    kept = {APP_USER: Static(APP_USER, APP_PASSWORD)}
    connections = []
    for _ in range(5):
        credentials: Any = kept if mapping else Static(APP_USER, APP_PASSWORD)
        connections.append(
            rdsproxy_lib.connect(url, rdsproxy={"credentials": credentials, "max_connections": 1}, autocommit=True)
        )
    pids = {conn.execute("select pg_backend_pid()").fetchone()[0] for conn in connections}
    assert len(shared_proxies) == 1
    assert len(pids) == 1
    for conn in connections:
        conn.close()


def test_other_credentials_have_another_proxy(server, database, shared_proxies):
    """Two sources of credentials that are not equal do not share."""
    url = server.url(dbname=database, password="")
    for source in (Static(APP_USER, APP_PASSWORD), lambda: (APP_USER, APP_PASSWORD)):
        rdsproxy_lib.connect(url, rdsproxy={"credentials": source}).close()
    assert len(shared_proxies) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"keepalives_idle": 10}, {"keepalives_idle": 77}),
        ({"keepalives_idle": 10}, {"keepalives_idle": 10, "keepalives_count": 3}),
        ({"keepalives_idle": 10}, {}),
        ({}, {"keepalives_idle": 10}),
    ],
)
def test_contradicting_driver_options_are_refused(url, shared_proxies, first, second):
    """driver_options other than the shared Proxy's are a ConfigurationError; the same ones are not."""
    for _ in range(2):
        rdsproxy_lib.connect(url, rdsproxy={"driver_options": first}).close()
    with pytest.raises(ConfigurationError, match="driver_options"):
        rdsproxy_lib.connect(url, rdsproxy={"driver_options": second})
    rdsproxy_lib.connect(url).close()
    assert len(shared_proxies) == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:p,hush-hush",
        "postgresql://app:p,hush-hush/database",
        "postgresql://app:1?hush-hush@db/x",
        "postgresql://app:1?hush-hush=x@db/x",
        "postgresql://app:hush-hush",
    ],
)
def test_no_piece_of_a_password_is_repeated(url):
    """A URL whose password is not encoded or whose host is missing is refused without quoting the password."""
    with pytest.raises((ConfigurationError, psycopg.Error)) as raised:
        Proxy(url, connection_borrow_timeout=0).connect()
    error: BaseException | None = raised.value
    while error is not None:
        assert "hush" not in str(error)
        error = error.__cause__ or error.__context__


# -- logins


def test_a_login_nobody_uses_keeps_no_descriptor(make_proxy):
    """Sessions that each name another application_name leave nothing open when they are gone."""
    proxy = make_proxy(max_connections=2)
    proxy.connect(application_name="first").close()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(30):
        proxy.connect(application_name=f"request {number}").close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert len(proxy._logins) <= 4


def test_a_login_in_use_is_one(make_proxy):
    """Sessions with the same parameters share their database connections, also after others came and went."""
    proxy = make_proxy(max_connections=1)
    with proxy.connect(autocommit=True, application_name="kept") as first:
        pid = first.execute("select pg_backend_pid()").fetchone()
        gc.collect()
        with proxy.connect(autocommit=True, application_name="kept") as second:
            assert second.execute("select pg_backend_pid()").fetchone() == pid
            assert second.execute("show application_name").fetchone() == ("kept",)


# -- finalisers inside the pool


class Litter:
    """Something in a reference cycle that holds a half-read generator."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self.rows = rows
        self.myself = self
        next(rows)


def read_in_a_block(conn: psycopg.Connection[Any]) -> Iterator[Any]:
    with conn.transaction():
        yield from conn.execute("select generate_series(1, 3)")


def read_over_a_connection(proxy: Proxy) -> Iterator[Any]:
    with proxy.connect() as conn:
        yield from conn.execute("select generate_series(1, 3)")


def read_a_stream(conn: psycopg.Connection[Any]) -> Iterator[Any]:
    with conn.transaction():
        yield from conn.cursor().stream("select generate_series(1, 100000)")


def read_from_a_server_cursor(conn: psycopg.Connection[Any]) -> Iterator[Any]:
    with conn.transaction(), conn.cursor("named") as cursor:
        yield from cursor.execute("select generate_series(1, 100000)")


KINDS: dict[str, Callable[[Proxy, Any], Iterator[Any]]] = {
    "block": lambda proxy, conn: read_in_a_block(conn),
    "connection": lambda proxy, conn: read_over_a_connection(proxy),
    "stream": lambda proxy, conn: read_a_stream(conn),
    "server cursor": lambda proxy, conn: read_from_a_server_cursor(conn),
}


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("section", ["_decide_locked", "_occupancy_locked"])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_collection_amid_a_pool_operation_hangs_nothing(make_proxy, monkeypatch, kind, section, limit):
    """Half-read generators that the collector ends inside the pool's own sections stop nobody."""
    proxy = make_proxy(max_connections=limit)
    kept = proxy.connect(autocommit=True)
    kept.execute("select 1")
    real = getattr(Pool, section)
    collected = []

    def collecting(pool: Pool, *arguments: Any) -> Any:
        collected.append(gc.collect())
        return real(pool, *arguments)

    def work() -> list[Any]:
        answers = []
        for _ in range(3):
            with proxy.connect() as conn:
                answers.append(conn.execute("select 1").fetchone())
            assert repr(proxy)
            assert proxy.stats()
        return answers

    gc.collect()
    gc.disable()
    try:
        Litter(KINDS[kind](proxy, kept))
        monkeypatch.setattr(Pool, section, collecting)
        assert Call(work).result() == [(1,)] * 3
    finally:
        gc.enable()
        monkeypatch.undo()
    assert collected
    assert Call(lambda: repr(proxy)).result()
    gc.collect()
    occupancy = proxy.pool.occupancy()
    assert occupancy.borrowed == 0
    assert occupancy.open <= limit
    kept.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_collection_amid_a_pool_operation_waits_for_no_other_thread(make_proxy, monkeypatch):
    """A generator that is ended inside the pool does not wait for a session which another thread is closing there."""
    proxy = make_proxy(max_connections=2)
    conn = proxy.connect(autocommit=True)
    real_look, real_give_back = Pool._occupancy_locked, Pool.give_back
    closing, others = threading.Event(), []

    def giving_back(pool: Pool, backend: Any) -> None:
        closing.set()
        real_give_back(pool, backend)

    def looking(pool: Pool, *arguments: Any) -> Any:
        if not others:
            others.append(Call(conn.close))
            assert closing.wait(SECONDS)
            gc.collect()
        return real_look(pool, *arguments)

    gc.collect()
    gc.disable()
    try:
        Litter(read_in_a_block(conn))
        monkeypatch.setattr(Pool, "give_back", giving_back)
        monkeypatch.setattr(Pool, "_occupancy_locked", looking)
        looker = Call(lambda: repr(proxy))
        looker.thread.join(5)
        assert looker.is_done, "it hangs"
        others[0].result()
    finally:
        gc.enable()
        monkeypatch.undo()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_collections_all_the_time_hang_nothing(make_proxy):
    """Threads that drop half-read generators and look at the proxy go on while the collector runs ever so often."""
    proxy = make_proxy(max_connections=3)
    thresholds = gc.get_threshold()
    until = time.monotonic() + 2

    def work() -> int:
        rounds = 0
        while time.monotonic() < until:
            conn = proxy.connect(autocommit=True)
            Litter(read_in_a_block(conn))
            assert repr(proxy)
            conn.close()
            rounds += 1
        return rounds

    gc.set_threshold(5)
    try:
        calls = [Call(work) for _ in range(3)]
        for call in calls:
            call.thread.join(5)
        assert all(call.is_done for call in calls), "it hangs"
        assert all(call.result() for call in calls)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert Call(lambda: repr(proxy)).result()


# -- the numbers


def test_stats_while_a_lent_connection_is_closed_already(make_proxy):
    """`stats()` answers also while a database connection that is lent has been closed under the session."""
    proxy = make_proxy(max_connections=2)
    conn = proxy.connect()
    conn.execute("select 1")
    conn.pgconn.finish()
    assert proxy.stats().database_connections >= 0
    assert repr(proxy)
    conn.close()
    assert proxy.stats().database_connections_currently_borrowed == 0


# -- closing a proxy


def test_a_closed_proxy_serves_a_pinned_session_to_its_end_and_no_other(make_proxy):
    """After Proxy.close() a session that needs a database connection gets ProxyClosed; one that holds one goes on."""
    proxy = make_proxy(max_connections=2)
    pinned, parked = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    pinned.execute("create temp table kept as select 1 as number")
    parked.execute("select 1")
    proxy.close()
    with pytest.raises(ProxyClosed):
        parked.execute("select 1")
    assert pinned.execute("select number from kept").fetchone() == (1,)
    pinned.close()
    assert proxy.stats().database_connections == 0
    parked.close()
