"""A pool that lends nothing, or nothing on one endpoint: who waits, who goes on, what is closed. Then a real server."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import warnings

import psycopg
import pytest

import rdsproxy_lib
from rdsproxy_lib import BorrowTimeout, ConfigurationError, DrainTimeout, ProxyClosed, planned
from rdsproxy_lib.backend import Refusal
from rdsproxy_lib.cluster import Cluster
from rdsproxy_lib.pool import STUCK_AFTER
from rdsproxy_lib.topology import Endpoint
from tests.servers import TcpRelay, free_port

from .conftest import SECONDS, Call, check_places, hold
from .interrupts import everywhere
from .test_fork import in_child

A, B = "login a", "login b"
HERE, THERE = "here:1", "there:1"


def returned(pool, endpoint=None, seconds=SECONDS):
    """What `wait_until_returned` says."""
    return pool.wait_until_returned(endpoint, time.monotonic() + seconds)


def until_asleep(pool):
    """Return when a thread waits for the rest to come back."""
    deadline = time.monotonic() + SECONDS
    while not pool._returned._waiters:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


# -- a pool over a server in memory


def test_nothing_is_lent_from_then_on(make_pool, fake_server):
    """Idle backends are closed at once, and a borrower waits though there is room."""
    pool = make_pool(3)
    idle = [hold(pool) for _ in range(2)]
    for backend in idle:
        pool.give_back(backend)
    assert pool.withhold()
    assert pool.is_paused
    assert set(fake_server.closed) == set(idle)
    assert returned(pool) == ""
    waiter = Call(hold, pool)
    pool.until_waiting(1)
    assert fake_server.dials == 2
    pool.allow()
    assert waiter.result() not in idle
    assert not pool.is_paused
    check_places(pool, fake_server, {waiter.result()})


def test_what_is_lent_is_waited_for_and_closed(make_pool, fake_server):
    """It is closed as it comes back, and only then nothing is left."""
    pool = make_pool(3)
    given_back, discarded, forgotten = (hold(pool) for _ in range(3))
    pool.withhold()
    all_back = Call(returned, pool)
    pool.give_back(given_back)
    pool.discard(discarded)
    assert not all_back.is_done
    pool.forget(forgotten)
    assert all_back.result() == ""
    assert fake_server.closed == [given_back, discarded]


def test_the_last_one_that_comes_back_ends_the_wait_at_once(make_pool):
    """It is told, and does not look around for it."""
    pool = make_pool(1)
    backend = hold(pool)
    pool.withhold()
    all_back = Call(returned, pool)
    until_asleep(pool)
    started = time.monotonic()
    pool.give_back(backend)
    assert all_back.result() == ""
    assert time.monotonic() - started < STUCK_AFTER / 2


def test_who_waits_is_served_in_order(make_pool):
    """First come, first served, also those who came in different times of the pause."""
    pool = make_pool(1)
    pool.withhold()
    order = []

    def work(number):
        backend = hold(pool)
        order.append(number)
        pool.give_back(backend)

    waiters = []
    for number in range(8):
        waiters.append(Call(work, number))
        pool.until_waiting(number + 1)
    pool.allow()
    for waiter in waiters:
        waiter.result()
    assert order == list(range(8))


def test_one_that_was_being_opened_is_not_lent(make_pool, fake_server):
    """It is waited for and closed, and who wanted it stands at the head of the queue again."""
    pool = make_pool(2)
    fake_server.gate = threading.Semaphore(0)
    first = Call(hold, pool)
    assert fake_server.dialed.acquire(timeout=SECONDS)
    pool.withhold()
    second = Call(hold, pool, B)
    pool.until_waiting(1)
    all_back = Call(returned, pool)
    assert not all_back.is_done
    fake_server.gate.release()
    assert all_back.result() == ""
    assert fake_server.closed == fake_server.opened
    pool.until_waiting(2)
    assert [waiter.login for waiter in pool._waiters] == [A, B]
    fake_server.gate = None
    pool.allow()
    check_places(pool, fake_server, {first.result(), second.result()})


def test_a_gift_that_is_declined_is_not_kept(make_pool, fake_server, monkeypatch):
    """An interrupt strikes who was handed a backend just before: it is closed, not idle."""
    pool = make_pool(1)
    backend = hold(pool, A)

    def interrupt(waiter):
        pool.give_back(backend)
        assert waiter.gift is backend
        pool.withhold()
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "_next_look", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.borrow(A, SECONDS)
    assert returned(pool) == ""
    assert fake_server.closed == [backend]


def test_the_wait_ends_with_who_holds_them(make_pool):
    """The text names threads and pins, and nothing is undone by it."""
    pool = make_pool(2)
    backend = hold(pool)
    pool.pin(backend)
    backend.pinned_by = "TEMP_TABLE"
    pool.withhold()
    text = returned(pool, seconds=0)
    assert "1 borrowed (1 pinned)" in text
    assert "MainThread" in text
    assert "pinned by TEMP_TABLE" in text
    assert pool.is_paused


def test_a_statement_that_waits_too_long_is_told_why(make_pool, clock):
    """BorrowTimeout says that the proxy is paused, and since when."""
    pool = make_pool(1)
    pool.withhold()
    clock.now += 3
    with pytest.raises(BorrowTimeout, match=r"paused 3\.0 s ago.*resume\(\)"):
        pool.borrow(A, 0)
    waiter = Call(pool.borrow, A, 10)
    pool.until_waiting(1)
    clock.now += 11
    next(iter(pool._waiters)).wake()
    assert "paused 14.0 s ago" in str(waiter.error())
    assert not isinstance(waiter.error(), rdsproxy_lib.NoWriterAvailable)
    assert pool.occupancy().waiting == 0
    assert "paused" in str(pool.occupancy())


def test_once_is_as_good_as_twice(make_pool, fake_server):
    """A second pause changes nothing and says so; one end of it is enough, and another does no harm."""
    pool = make_pool(1)
    assert pool.withhold()
    assert not pool.withhold()
    pool.allow()
    pool.allow()
    check_places(pool, fake_server, {hold(pool)})


def test_a_pause_that_is_ended_meanwhile_is_none(make_pool):
    """Who waits for it to be complete is told."""
    pool = make_pool(1)
    hold(pool)
    pool.withhold()
    waiting = Call(returned, pool)
    until_asleep(pool)
    pool.allow()
    assert "resume() was called meanwhile" in waiting.result()


def test_closing_wakes_everybody(make_pool):
    """Statements and who waits for the rest to come back get ProxyClosed."""
    pool = make_pool(1)
    backend = hold(pool)
    pool.withhold()
    calls = [Call(hold, pool), Call(returned, pool)]
    pool.until_waiting(1)
    pool.close()
    for call in calls:
        assert isinstance(call.error(), ProxyClosed)
    with pytest.raises(ProxyClosed):
        pool.withhold(THERE)
    pool.give_back(backend)
    pool.allow()


def test_a_mere_check_does_not_wait(make_pool, fake_server):
    """Neither in a pause nor when one begins."""
    pool = make_pool(1)
    backend = hold(pool)
    check = Call(pool.borrow_at_once, B, SECONDS)
    pool.until_waiting(1)
    pool.withhold()
    assert "paused" in str(check.error())
    with pytest.raises(BorrowTimeout, match="paused"):
        pool.borrow_at_once(B, SECONDS)
    pool.give_back(backend)
    assert fake_server.dials == 1
    pool.allow()
    fake_server.gate = threading.Semaphore(0)
    check = Call(pool.borrow_at_once, B, SECONDS)
    while fake_server.dials == 1:
        assert fake_server.dialed.acquire(timeout=SECONDS)
    pool.withhold()
    fake_server.gate.release()
    assert "paused" in str(check.error())
    check_places(pool, fake_server, set())


def test_a_mere_check_tries_once(make_pool, fake_server):
    """It ends with the first attempt that finds nobody, which is remembered until one succeeds."""
    pool = make_pool(1)
    fake_server.refuse(Refusal.TRANSIENT)
    with pytest.raises(BorrowTimeout, match="connection refused"):
        pool.borrow_at_once(A, SECONDS)
    assert fake_server.dials == 1
    assert pool.is_away
    backend = hold(pool)
    assert not pool.is_away
    pool.discard(backend)
    fake_server.refuse(Refusal.PERMANENT, "wrong password")
    with pytest.raises(psycopg.OperationalError, match="wrong password"):
        pool.borrow_at_once(A, SECONDS)
    assert not pool.is_away, "somebody answered"


def test_what_idle_clients_hold_is_taken_back(make_pool):
    """`idle_client_timeout` counts for the wait as well."""
    pool = make_pool(1)
    backend = hold(pool)
    pool.withhold()
    pool.reclaim = lambda: pool.give_back(backend) if backend.owner is not None else None
    assert returned(pool) == ""


def test_what_garbage_holds_is_waited_for_no_longer(make_pool):
    """Collected once, as where a statement waits; what a finaliser leaves is closed by the next look."""
    pool = make_pool(1)

    class Connection:
        def __init__(self):
            self.backend = hold(pool)
            self.me = self

        def __del__(self):
            pool.drop(self.backend)

    gc.disable()
    try:
        Connection()
        pool.withhold()
        assert returned(pool) == ""
    finally:
        gc.enable()


def test_one_that_was_dropped_on_the_floor_is_not_waited_for(make_pool, fake_server):
    """An interrupted thread lost it: who waits does not keep it alive."""
    pool = make_pool(1)
    hold(pool)
    lost, fake_server.opened = fake_server.opened, []
    pool.withhold()
    all_back = Call(returned, pool)
    until_asleep(pool)
    lost.clear()
    assert all_back.result() == ""


def test_two_who_wait_do_not_wake_each_other(make_pool):
    """They look around now and then, and not each time the other one does."""
    pool = make_pool(1)
    backend = hold(pool)
    pool.withhold()
    looks = []
    pool.reclaim = lambda: looks.append(None)
    calls = [Call(returned, pool) for _ in range(2)]
    time.sleep(0.7)
    pool.give_back(backend)
    assert [call.result() for call in calls] == ["", ""]
    assert len(looks) <= 6


@pytest.mark.usefixtures("restless")
def test_pauses_amid_many_borrowers(make_pool, fake_server):
    """Each time nothing is left open, nothing is lent until it ends, and at last everybody was served."""
    pool = make_pool(3)
    lent, served, is_over = set(), [0] * 6, threading.Event()

    def work(number):
        while not is_over.is_set():
            served[number] += 1
            backend = hold(pool, (A, B)[number % 2])
            lent.add(backend)
            assert backend not in fake_server.closed
            lent.discard(backend)
            (pool.discard if number == 0 else pool.give_back)(backend)

    workers = [Call(work, number) for number in range(6)]
    try:
        for _ in range(40):
            assert pool.withhold()
            assert returned(pool) == ""
            before = sum(served)
            assert not lent
            assert pool.occupancy().open == 0
            pool.allow()
            while sum(served) < before + 12:
                time.sleep(0.001)
    finally:
        is_over.set()
    for worker in workers:
        worker.result()
    assert min(served) > 10
    check_places(pool, fake_server, set())


# -- one of several endpoints


def on(pool, fake_server, *endpoints):
    """Backends that are open and lent, on these endpoints."""
    backends = [hold(pool) for _ in endpoints]
    for backend, endpoint in zip(backends, endpoints, strict=True):
        backend.endpoint = endpoint
    return backends


def test_only_those_on_the_endpoint_are_withheld(make_pool, fake_server):
    """Idle ones there are closed, and the others are lent as before."""
    pool = make_pool(4)
    idle_here, idle_there, lent_here, lent_there = on(pool, fake_server, HERE, THERE, HERE, THERE)
    pool.give_back(idle_here)
    pool.give_back(idle_there)
    assert pool.withhold(HERE)
    assert not pool.is_paused
    assert fake_server.closed == [idle_here]
    assert hold(pool) is idle_there
    all_back = Call(returned, pool, HERE)
    pool.give_back(lent_there)
    assert not all_back.is_done
    assert "MainThread" in returned(pool, HERE, seconds=0)
    pool.give_back(lent_here)
    assert all_back.result() == ""
    check_places(pool, fake_server, {idle_there})


def test_one_that_was_opened_there_meanwhile_is_not_lent(make_pool, fake_server, monkeypatch):
    """It is closed, and its borrower has another one opened, a moment later."""
    pool = make_pool(1)
    opened = fake_server.open

    def open_here_first(login, timeout):
        backend = opened(login, timeout)
        backend.endpoint = THERE if len(fake_server.opened) > 1 else HERE
        if backend.endpoint is HERE:
            pool.withhold(HERE)
        return backend

    monkeypatch.setattr(fake_server, "open", open_here_first)
    backend = hold(pool)
    assert backend.endpoint is THERE
    assert [each.endpoint for each in fake_server.closed] == [HERE]
    check_places(pool, fake_server, {backend})


def test_a_forked_child_is_not_paused(make_pool):
    """Nobody there would end it."""
    pool = make_pool(1)
    pool.withhold()
    pool.after_fork()
    assert not pool.is_paused
    hold(pool)


# -- a proxy and a real server


def test_a_pause_from_beginning_to_end(url):
    """Transactions go on, statements wait and connect() does not; the proxy says that it is paused."""
    with rdsproxy_lib.Proxy(url, max_connections=3) as proxy:
        busy, other = proxy.connect(), proxy.connect(autocommit=True)
        busy.execute("create table pausing (id int)")
        pausing = Call(proxy.pause)
        wait_until_paused(proxy)
        waiting = Call(lambda: other.execute("select 'served'").fetchone())
        busy.execute("insert into pausing values (1)")
        assert not pausing.is_done
        busy.commit()
        pausing.result()
        assert proxy.stats().database_connections == 0
        assert proxy.is_paused
        assert repr(proxy).endswith("paused>")
        late = Call(proxy.connect, "nobody").result()  # another login, which was not checked before
        assert not waiting.is_done
        proxy.pause()
        proxy.resume()
        assert waiting.result() == ("served",)
        assert busy.execute("select id from pausing").fetchone() == (1,)
        busy.execute("drop table pausing")
        busy.commit()
        assert not proxy.is_paused
        assert "paused" not in repr(proxy)
        with pytest.raises(psycopg.OperationalError):
            late.execute("select 1")
        for conn in (busy, other, late):
            conn.close()


def wait_until_paused(proxy):
    """Another thread pauses it."""
    deadline = time.monotonic() + SECONDS
    while not proxy.is_paused:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_pause_that_cannot_be_had_is_none(url):
    """DrainTimeout names the thread and the pin; statements that waited go on, and so does the transaction."""
    with rdsproxy_lib.Proxy(url, max_connections=3) as proxy:
        pinned, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        pinned.execute("create temp table mine (id int)")
        pausing = Call(proxy.pause, 0.5)
        wait_until_paused(proxy)
        waiting = Call(lambda: other.execute("select 'served'").fetchone())
        with pytest.raises(DrainTimeout, match=r"pause\(\) timed out after 0\.5 s.*MainThread.*TEMP_TABLE") as caught:
            pausing.result()
        assert isinstance(caught.value, TimeoutError)
        assert waiting.result() == ("served",)
        assert not proxy.is_paused
        assert pinned.execute("select count(*) from mine").fetchone() == (0,)
        pinned.execute("drop table mine")
        proxy.pause(0.5)
        with pytest.raises(BorrowTimeout):
            proxy.pool.borrow_at_once(other.rdsproxy.login, 1)
        assert proxy.is_paused
        proxy.resume()
        pinned.close()
        other.close()


def test_a_second_pause_that_times_out_does_not_end_the_first(url):
    """Each takes back only what it has begun."""
    with rdsproxy_lib.Proxy(url) as proxy, proxy.connect() as conn:
        conn.execute("select 1")
        first = Call(proxy.pause)
        wait_until_paused(proxy)
        with pytest.raises(DrainTimeout):
            proxy.pause(0)
        assert proxy.is_paused
        conn.commit()
        first.result()
        proxy.resume()


def test_an_interrupt_takes_the_pause_back(url):
    """As an error does."""
    with rdsproxy_lib.Proxy(url) as proxy, proxy.connect() as conn:
        conn.execute("select 1")

        def interrupt():
            raise KeyboardInterrupt

        proxy.pool.reclaim = interrupt
        with pytest.raises(KeyboardInterrupt):
            proxy.pause()
        proxy.pool.reclaim = None
        assert not proxy.is_paused


@pytest.mark.skipif(sys.version_info < (3, 11), reason="knows where 3.11 and later handle signals")
def test_an_interrupt_at_any_point_leaves_no_pause(url):
    """Also while idle connections are closed: a pause() that did not return is none."""
    worlds = []

    def make():
        proxy = rdsproxy_lib.Proxy(url)
        with proxy.connect(autocommit=True) as conn:
            conn.execute("select 1")
        assert proxy.stats().database_connections_currently_idle == 1
        worlds.append(proxy)
        return proxy.pause

    def check(where: str) -> None:
        with worlds.pop() as proxy:
            assert not proxy.is_paused, where

    assert everywhere(make, check) > 20
    worlds.pop().close()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="knows where 3.11 and later handle signals")
def test_an_interrupt_at_any_point_leaves_nothing_drained(make_pool, fake_server):
    """Neither the host, nor what its pools lend."""
    worlds = []

    def make():
        pools, host = [make_pool(1), make_pool(1)], Endpoint("db1", 1)
        cluster = Cluster(fake_server, [host], lambda: None)
        for pool in pools:
            backend = hold(pool)
            backend.endpoint = host
            pool.give_back(backend)
        worlds.append((pools, cluster))
        return lambda: planned.withhold(lambda: pools, cluster, host, "drain('db1')", SECONDS)

    def check(where: str) -> None:
        pools, cluster = worlds.pop()
        assert not cluster.drained, where
        assert [pool.withheld_since(Endpoint("db1", 1)) for pool in pools] == [None, None], where

    assert everywhere(make, check) > 20


def test_the_default_leaves_time_for_the_work(url):
    """Half of connection_borrow_timeout, so that statements which wait since then do not fail."""
    with rdsproxy_lib.Proxy(url, connection_borrow_timeout=1) as proxy, proxy.connect() as conn:
        conn.execute("select 1")
        with pytest.raises(DrainTimeout, match=r"after 0\.5 s"):
            proxy.pause()


def test_draining_the_only_host_is_a_pause(url, server):
    """By its name with or without the port; another name is refused, with those there are."""
    with rdsproxy_lib.Proxy(url) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("select 1")
        for name in (server.host, f"{server.host}:{server.port}"):
            proxy.drain(name)
            assert proxy.is_paused
            proxy.resume(name)
            assert conn.execute("select 1").fetchone() == (1,)
        for method in (proxy.drain, proxy.resume):
            with pytest.raises(ConfigurationError, match=rf"'elsewhere' is none of the targets {server.host}:"):
                method("elsewhere")


def test_a_closed_proxy_cannot_be_paused(url):
    """ProxyClosed, also for who waits for the pause to be complete; resuming is no error."""
    proxy = rdsproxy_lib.Proxy(url)
    conn = proxy.connect()
    conn.execute("select 1")
    pausing = Call(proxy.pause)
    wait_until_paused(proxy)
    proxy.close()
    assert isinstance(pausing.error(), ProxyClosed)
    with pytest.raises(ProxyClosed):
        proxy.pause()
    proxy.resume()
    conn.close()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_the_child_of_a_paused_process_works(url):
    """The pause is the parent's, where somebody will end it."""
    with rdsproxy_lib.Proxy(url) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("select 1")
        proxy.pause()

        def work():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                with proxy.connect(autocommit=True) as own:
                    assert own.execute("select 1").fetchone() == (1,)

        in_child(work)
        assert proxy.is_paused
        proxy.resume()
        assert conn.execute("select 1").fetchone() == (1,)


# -- connect() in an outage


def test_connecting_where_nobody_listens_comes_back_at_once():
    """The first connect() of a login tries once, that of another login not at all; statements wait."""
    with rdsproxy_lib.Proxy(
        f"postgresql://app:app@127.0.0.1:{free_port()}/app", connection_borrow_timeout=0.5
    ) as proxy:
        started = time.monotonic()
        first = proxy.connect()
        failed = proxy.stats().database_connections_setup_failed
        second = proxy.connect("other")
        assert time.monotonic() - started < 1
        assert proxy.stats().database_connections_setup_failed == failed == 1
        with pytest.raises(BorrowTimeout):
            second.execute("select 1")
        first.close()
        second.close()


def test_connecting_where_nobody_answers_is_bounded(server, database, monkeypatch):
    """A host that accepts TCP and says nothing: one connect() waits for it, no other; then all goes on."""
    monkeypatch.setattr("rdsproxy_lib.proxy.FIRST_CHECK_SECONDS", 2.0)
    with TcpRelay(server.host, server.port) as relay:
        relay.freeze()
        url = server.url(dbname=database, host=relay.host, port=relay.port)
        with rdsproxy_lib.Proxy(url, connection_borrow_timeout=20) as proxy:
            started = time.monotonic()
            first = proxy.connect(autocommit=True)
            assert time.monotonic() - started < 3.5
            started = time.monotonic()
            others = [proxy.connect(), proxy.connect("other"), proxy.connect(application_name="third")]
            assert time.monotonic() - started < 0.5
            relay.thaw()
            assert first.execute("select 1").fetchone() == (1,)
            for conn in (first, *others):
                conn.close()


def test_after_an_outage_logins_are_checked_again(server, database):
    """Once a connection was opened, the first connect() of a login raises what the server refuses."""
    with TcpRelay(server.host, server.port) as relay:
        relay.stop()
        url = server.url(dbname=database, host=relay.host, port=relay.port)
        with rdsproxy_lib.Proxy(url, connection_borrow_timeout=20) as proxy:
            conn = proxy.connect(autocommit=True)
            unchecked = proxy.connect("nobody")
            relay.start()
            assert conn.execute("select 1").fetchone() == (1,)
            with pytest.raises(psycopg.OperationalError):
                proxy.connect("anybody")
            with pytest.raises(psycopg.OperationalError):
                unchecked.execute("select 1")
            unchecked.close()
            conn.close()
