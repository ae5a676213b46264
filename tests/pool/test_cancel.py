"""cancel() from another thread, at every moment of a statement, never hits another session."""

from __future__ import annotations

import itertools
import threading
import time

import psycopg
import pytest

import rdsproxy_lib

from .conftest import SECONDS, Call


@pytest.mark.slow
@pytest.mark.parametrize(("how", "rounds"), [("cancel", 4000), ("cancel_safe", 1000)])  # on two servers: 10,000
def test_cancel_races_never_touch_another_session(server, database, how, rounds, restless):
    """Thousands of cancels race with the end of short statements while other sessions share the backends."""
    # Without TLS, of which every cancel_safe() would need a handshake.
    with rdsproxy_lib.Proxy(server.url(dbname=database, sslmode="disable"), max_connections=1) as proxy:
        stop = threading.Event()
        ends = {"cancelled": 0, "finished": 0}

        def bystand() -> None:
            with proxy.connect(autocommit=True) as conn:
                while not stop.is_set():
                    conn.execute("select 1 from generate_series(1, 200)")

        target = proxy.connect(autocommit=True)

        def cancel() -> None:
            cancels = 0
            while cancels < rounds:
                has_backend = target.rdsproxy.backend is not None
                cancels += has_backend
                getattr(target, how)()
                if not has_backend:
                    time.sleep(0)  # it comes sooner when the threads that bring it have the interpreter
            stop.set()

        bystander = Call(bystand)
        canceller = Call(cancel)
        lengths = itertools.cycle([10, 100, 1000, 3000, 10_000, 100_000])
        while not stop.is_set():
            try:
                target.execute("select 1 from generate_series(1, %s)", [next(lengths)])
                ends["finished"] += 1
            except psycopg.errors.QueryCanceled:
                ends["cancelled"] += 1
        canceller.result()
        bystander.result()
        assert min(ends.values()) > rounds // 50, ends
        assert not target.rdsproxy.pinned
        target.close()


def test_a_cancel_that_comes_after_the_end_does_nothing(url):
    """A parked session has nothing to cancel."""
    with rdsproxy_lib.Proxy(url, max_connections=1) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("select 1")
        conn.cancel()
        conn.cancel_safe()
        with proxy.connect(autocommit=True) as other:
            assert other.execute("select 1").fetchone() == (1,)


def test_a_backend_is_not_lent_while_a_cancel_for_it_is_on_its_way(url):
    """The next borrower waits until the request was sent and its effect absorbed."""
    with rdsproxy_lib.Proxy(url, max_connections=1) as proxy:
        conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        sending, send = threading.Event(), threading.Event()

        def slow_cancel() -> None:
            def request(backend) -> None:
                sending.set()
                assert send.wait(SECONDS)
                backend.raw.cancel()

            conn.rdsproxy.cancel(request)

        conn.execute("begin")
        canceller = Call(slow_cancel)
        assert sending.wait(SECONDS)
        ending = Call(conn.execute, "commit")
        waiting = Call(other.execute, "select pg_sleep(0.2)")
        time.sleep(0.1)
        assert not waiting.is_done
        assert not ending.is_done
        send.set()
        canceller.result()
        ending.result()
        waiting.result()
        conn.close()
        other.close()


def test_a_cancel_that_hangs_costs_the_backend_not_the_session(url, monkeypatch):
    """Where the request does not come to an end the backend is closed; nobody else meets it."""
    monkeypatch.setattr("rdsproxy_lib.client.CANCEL_SECONDS", 0.1)
    with rdsproxy_lib.Proxy(url, max_connections=1) as proxy:
        conn = proxy.connect(autocommit=True)
        sending, send = threading.Event(), threading.Event()

        def hang(backend) -> None:
            sending.set()
            assert send.wait(SECONDS)

        conn.execute("begin")
        canceller = Call(conn.rdsproxy.cancel, hang)
        assert sending.wait(SECONDS)
        before = conn.rdsproxy.backend_id
        conn.execute("commit")
        conn.execute("select 1")
        assert conn.rdsproxy.backend_id != before
        send.set()
        canceller.result()
        conn.close()


def test_a_cancel_in_a_transaction_fails_it_and_no_more(url):
    """Inside a transaction a late cancel hits the session's own next statement at worst, never one after the end."""
    with rdsproxy_lib.Proxy(url, max_connections=1) as proxy:
        conn, other = proxy.connect(), proxy.connect(autocommit=True)
        for _ in range(50):
            conn.execute("select 1")
            canceller = Call(conn.cancel)
            try:
                conn.execute("select 1 from generate_series(1, 500)")
                conn.commit()
            except psycopg.errors.QueryCanceled:
                conn.rollback()
            other.execute("select 1")
            canceller.result()
            conn.rollback()
        conn.close()
        other.close()
