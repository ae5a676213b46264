"""A proxy and its server through their lives: first logins, restarts, idle clients, threads that end, interrupts."""

from __future__ import annotations

import gc
import sys
import threading
import time
import warnings

import psycopg
import pytest

import rdsproxy_lib
from rdsproxy_lib import BorrowTimeout, ProxyClosed, TlsRequired
from tests.servers import free_port

from .conftest import SECONDS, Call
from .interrupts import everywhere

# -- the first login


def test_a_wrong_password_raises_at_once(server):
    """The first connect() checks the login; what the server refuses for good is raised, quickly and every time."""
    with rdsproxy_lib.Proxy(server.url(password="wrong")) as proxy:
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                proxy.connect()
            assert time.monotonic() - started < 2
        assert proxy.stats().database_connections == 0


def test_an_unknown_database_raises_at_once(server):
    """The server answers, and says no."""
    proxy = rdsproxy_lib.Proxy(server.url(dbname="nowhere"))
    with pytest.raises(psycopg.OperationalError, match='"nowhere" does not exist'):
        proxy.connect()
    proxy.close()


def test_a_refused_login_leaves_other_logins_alone(server, url):
    """One user's wrong password is nobody else's trouble."""
    with rdsproxy_lib.Proxy(url, max_connections=1) as proxy:
        with pytest.raises(psycopg.OperationalError):
            proxy.connect(user="nobody")
        with proxy.connect() as conn:
            assert conn.execute("select 1").fetchone() == (1,)


def test_a_port_that_cannot_be_one_is_said_at_once(server):
    """A mistake in the address is not waited for as if it were an outage."""
    started = time.monotonic()
    with pytest.raises((psycopg.OperationalError, rdsproxy_lib.ConfigurationError)):
        rdsproxy_lib.Proxy(engine="postgresql", host="127.0.0.1", port="99999", user="app").connect()
    assert time.monotonic() - started < 2


def test_the_constructor_does_no_io():
    """A Proxy for a server that does not exist is made at once."""
    rdsproxy_lib.Proxy(f"postgresql://app@127.0.0.1:{free_port()}/app").close()


def test_later_connects_do_no_io(url):
    """After the first connect() of a login, another one opens nothing and waits for nobody."""
    with rdsproxy_lib.Proxy(url, max_connections=1) as proxy, proxy.connect() as holder:
        holder.execute("select 1")
        before = proxy.stats()
        conns = [proxy.connect() for _ in range(20)]
        after = proxy.stats()
        assert after.database_connections_setup_succeeded == before.database_connections_setup_succeeded
        assert after.client_connections == before.client_connections + 20
        for conn in conns:
            conn.close()


@pytest.mark.slow
def test_connecting_while_the_server_is_away(private_server):
    """connect() comes back at once, and the first statement works once the server is up."""
    url = private_server.url()
    private_server.stop()
    with rdsproxy_lib.Proxy(url, connection_borrow_timeout=30) as proxy:
        started = time.monotonic()
        conn = proxy.connect(autocommit=True)
        assert time.monotonic() - started < 1
        assert proxy.targets()[0].state == "UNAVAILABLE"
        statement = Call(lambda: conn.execute("select 1").fetchone())
        private_server.start()
        assert statement.result() == (1,)
        assert proxy.targets()[0].state == "AVAILABLE"
        conn.close()


def test_a_statement_while_the_server_is_away_times_out_with_the_cause(url, server):
    """The error says what the last attempt to connect met, and nothing was sent."""
    away = f"postgresql://app:app@127.0.0.1:{free_port()}/app"
    with rdsproxy_lib.Proxy(away, connection_borrow_timeout=0.3) as proxy:
        conn = proxy.connect()
        started = time.monotonic()
        with pytest.raises(BorrowTimeout, match=r"Connection refused|connection failed") as caught:
            conn.execute("select 1")
        assert time.monotonic() - started < 3
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)
        conn.close()


def test_a_silent_server_does_not_stretch_the_borrow_timeout(server, relay, database):
    """Packets that vanish: the borrow ends near its timeout, not after several times as long."""
    url = server.url(dbname=database, port=relay.port)
    with rdsproxy_lib.Proxy(url, connection_borrow_timeout=1, max_connections=2) as proxy:
        first = proxy.connect()
        first.execute("select 1")
        relay.blackhole()
        second = proxy.connect()
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            second.execute("select 1")
        assert time.monotonic() - started < 3.5  # libpq's least is 2 s
        relay.reset_all()
        for conn in (first, second):
            conn.close()


# -- restarts


@pytest.mark.slow
def test_parked_sessions_do_not_notice_a_restart(private_server):
    """The server restarts in the middle: sessions outside a transaction go on as if nothing had been."""
    with rdsproxy_lib.Proxy(private_server.url(), max_connections=3, connection_borrow_timeout=30) as proxy:
        conns = [proxy.connect(autocommit=number % 2 == 0) for number in range(10)]
        for conn in conns:
            conn.execute("create table if not exists life (id int)")
            conn.commit()
        private_server.restart()
        for number, conn in enumerate(conns):
            conn.execute("insert into life values (%s)", [number])
            conn.commit()
        assert conns[0].execute("select count(*) from life").fetchone() == (10,)
        for conn in conns:
            conn.close()


@pytest.mark.slow
def test_a_restart_under_load_loses_no_committed_work(private_server):
    """Threads that retry 40001 and read errors get through a restart; only an unanswered COMMIT is uncertain."""
    with rdsproxy_lib.Proxy(private_server.url(), max_connections=3, connection_borrow_timeout=30) as proxy:
        with proxy.connect() as conn:
            conn.execute("create table work (id serial, worker int)")
        begun = threading.Semaphore(0)
        restarted = threading.Event()
        done, uncertain = [0] * 6, [0] * 6

        def work(number: int) -> None:
            with proxy.connect() as conn:
                after = 0
                while after < 20:
                    try:
                        with conn.transaction():
                            conn.execute("insert into work (worker) values (%s)", [number])
                    except psycopg.errors.SerializationFailure:
                        continue
                    except rdsproxy_lib.OutcomeUnknown:
                        uncertain[number] += 1
                        continue
                    done[number] += 1
                    begun.release()
                    after += restarted.is_set()

        workers = [Call(work, number) for number in range(6)]
        for _ in range(50):
            assert begun.acquire(timeout=SECONDS)
        private_server.restart()
        restarted.set()
        for worker in workers:
            worker.result()
        with proxy.connect() as conn:
            (rows,) = conn.execute("select count(*) from work").fetchone()
        assert sum(done) <= rows <= sum(done) + sum(uncertain)
        assert proxy.stats().database_connections <= 3


# -- options that shape a life


def test_init_query_runs_once_per_backend(url, server, database):
    """Every new backend runs it before anybody else's statement, and never again."""
    with server.admin(database) as admin:
        admin.execute("create table inits (pid int); grant all on inits to app")
        query = "insert into inits values (pg_backend_pid()); set work_mem = '7MB'"
        with rdsproxy_lib.Proxy(url, max_connections=2, init_query=query) as proxy:
            conns = [proxy.connect() for _ in range(4)]
            for _ in range(3):
                for conn in conns[:2]:
                    assert conn.execute("show work_mem").fetchone() == ("7MB",)
                for conn in conns[:2]:
                    conn.rollback()
            pids = [pid for (pid,) in admin.execute("select pid from inits")]
            assert len(pids) == len(set(pids))
            assert {conn.rdsproxy.backend_id for conn in conns[:2]} <= set(pids)
            for conn in conns:
                conn.close()


def test_init_query_holds_after_a_reset(url):
    """What it set is there again when a pinned session's backend was reset."""
    with rdsproxy_lib.Proxy(url, max_connections=1, init_query="set work_mem = '7MB'") as proxy:
        with proxy.connect(autocommit=True) as conn:
            conn.execute("set work_mem = '9MB'")
        with proxy.connect(autocommit=True) as conn:
            assert conn.execute("show work_mem").fetchone() == ("7MB",)


def test_an_init_query_that_fails_is_an_error_of_connect(url):
    """A mistake in it shows at the first connect(), as the server said it."""
    with rdsproxy_lib.Proxy(url, init_query="select nonsense") as proxy:
        with pytest.raises(psycopg.errors.UndefinedColumn):
            proxy.connect()
        assert proxy.stats().database_connections == 0


def test_require_tls_is_kept(server, database):
    """With require_tls the connection is encrypted, or there is none."""
    with rdsproxy_lib.Proxy(server.url(dbname=database), require_tls=True) as proxy:
        if server.tls:
            with proxy.connect() as conn:
                assert conn.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (True,)
                assert proxy.stats().database_connections_with_tls == 1
        else:
            with pytest.raises(psycopg.OperationalError):
                proxy.connect()


def test_require_tls_refuses_a_unix_socket(server, database):
    """A unix socket is never encrypted."""
    url = f"postgresql:///{database}?host={server.socket_dir}&port={server.port}&user=app"
    with rdsproxy_lib.Proxy(url, require_tls=True) as proxy, pytest.raises(TlsRequired):
        proxy.connect()


def test_a_pipeline_that_is_used_is_not_idle(url):
    """idle_client_timeout counts from the last statement, also where a pipeline keeps the backend."""
    with rdsproxy_lib.Proxy(url, max_connections=1, idle_client_timeout=1.0) as proxy:
        conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
        with conn.pipeline():
            conn.execute("select 0")
            waiting = Call(lambda: other.execute("select 'served'").fetchone())
            for number in range(5):
                time.sleep(0.4)
                assert conn.execute("select %s::int", [number]).fetchone() == (number,)
        assert waiting.result() == ("served",)
        conn.close()
        other.close()


def test_an_idle_client_that_holds_a_backend_is_closed_for_a_waiter(url):
    """idle_client_timeout ends a forgotten transaction when somebody needs its backend."""
    with rdsproxy_lib.Proxy(url, max_connections=1, idle_client_timeout=0.2, connection_borrow_timeout=10) as proxy:
        forgotten = Call(proxy.connect).result()
        Call(forgotten.execute, "create table forgotten (id int)").result()
        with proxy.connect() as conn:
            assert conn.execute("select to_regclass('forgotten')").fetchone() == (None,)
        assert forgotten.closed
        with pytest.raises(psycopg.OperationalError, match="idle_client_timeout"):
            forgotten.execute("select 1")


def test_an_idle_client_is_closed_at_its_next_use(url):
    """A session that was idle for longer is closed when it comes back; one that is busy is not."""
    with rdsproxy_lib.Proxy(url, max_connections=2, idle_client_timeout=0.15) as proxy:
        idle, busy = proxy.connect(), proxy.connect()
        idle.execute("select 1")
        for _ in range(4):
            busy.execute("select pg_sleep(0.08)")
        with pytest.raises(psycopg.OperationalError, match="idle_client_timeout"):
            idle.execute("select 1")
        assert idle.closed
        assert not busy.closed
        busy.close()


def test_a_connection_that_is_closed_while_it_is_looked_at_ends(url, monkeypatch):
    """close() in the very moment in which another thread looks whether it expired loses no backend."""
    with rdsproxy_lib.Proxy(url, max_connections=1, idle_client_timeout=100, connection_borrow_timeout=2) as proxy:
        conn = proxy.connect()
        conn.execute("select 1")
        client = conn.rdsproxy
        expire = type(client).expire

        def expire_as_it_is_closed(self, now):
            Call(conn.close).result()
            expire(self, now)

        monkeypatch.setattr(type(client), "expire", expire_as_it_is_closed)
        conn._rdsproxy_expire(time.monotonic())
        monkeypatch.undo()
        with proxy.connect() as other:
            assert other.execute("select 1").fetchone() == (1,)


def test_no_wait_opens_what_it_needs_again(url, server):
    """With connection_borrow_timeout=0 the proxy outlives the death of its only idle backend."""
    with rdsproxy_lib.Proxy(url, connection_borrow_timeout=0, max_connections=2) as proxy:
        conn = proxy.connect(autocommit=True)
        conn.execute("select 1")
        with server.admin() as admin:
            admin.execute("select pg_terminate_backend(%s, 5000)", [conn.rdsproxy.backend_id])
        try:
            conn.execute("select 1")
        except BorrowTimeout:
            with proxy.connect(autocommit=True) as again:
                again.execute("select 1")
        conn.close()


# -- threads and garbage


def test_a_thread_that_died_in_a_transaction_frees_its_backend(url, server, database):
    """Once its connection is collected the transaction is undone and the backend's place is free."""
    with rdsproxy_lib.Proxy(url, max_connections=1, connection_borrow_timeout=10) as proxy:

        def die() -> None:
            conn = proxy.connect()
            conn.execute("create table never (id int)")
            myself = [conn]
            myself.append(myself)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            Call(die).result()
            gc.collect()
            with proxy.connect() as conn:
                assert conn.execute("select to_regclass('never')").fetchone() == (None,)
        assert proxy.stats().database_connections == 1


@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_forgotten_connections_under_a_busy_collector(url):
    """Connections dropped in cycles while the collector runs at every allocation: no deadlock, no backend lost."""
    with rdsproxy_lib.Proxy(url, max_connections=3, connection_borrow_timeout=SECONDS) as proxy:

        def work(number: int) -> None:
            for turn in range(12):
                conn = proxy.connect()
                conn.execute("select 1")
                if turn % 3 == number % 3:
                    cycle = [conn]
                    cycle.append(cycle)
                    del conn, cycle
                else:
                    conn.close()

        thresholds = gc.get_threshold()
        gc.set_threshold(1, 1, 1)
        try:
            calls = [Call(work, number) for number in range(4)]
            for call in calls:
                call.result()
        finally:
            gc.set_threshold(*thresholds)
        del calls, call
        gc.collect()
        conns = [proxy.connect() for _ in range(3)]
        for conn in conns:
            conn.execute("select 1")
        assert proxy.stats().database_connections == 3
        for conn in conns:
            conn.close()


def test_a_request_that_moves_between_threads_is_no_deadlock(url):
    """One thread opened the transaction, another uses it, and the first waits for a connection: it gets one."""
    with rdsproxy_lib.Proxy(url, max_connections=1, connection_borrow_timeout=10) as proxy:
        conn, other = proxy.connect(), proxy.connect()
        conn.execute("select 1")
        Call(conn.execute, "select 1").result()
        waiting = Call(lambda: None)
        finish = threading.Timer(0.2, conn.commit)
        finish.start()
        other.execute("select 1")
        finish.join()
        waiting.result()
        conn.close()
        other.close()


def test_closing_a_proxy_wakes_waiting_statements(url, eventually):
    """A statement that waits for a connection raises ProxyClosed; an open transaction may end."""
    proxy = rdsproxy_lib.Proxy(url, max_connections=1)
    conn, other = proxy.connect(), proxy.connect()
    conn.execute("select 1")
    waiting = Call(other.execute, "select 1")
    eventually(lambda: proxy.stats().borrows_waiting)
    proxy.close()
    assert isinstance(waiting.error(), ProxyClosed)
    conn.execute("select 1")
    conn.commit()
    with pytest.raises(ProxyClosed):
        conn.execute("select 1")
    assert proxy.stats().database_connections == 0
    conn.close()
    other.close()


# -- interrupts


STORIES = {
    "read": lambda conn: conn.execute("select 1").fetchone(),
    "transaction": lambda conn: (conn.execute("select 1"), conn.commit()),
    "block": lambda conn: block(conn),
    "pin": lambda conn: (conn.rdsproxy.pin(), conn.rdsproxy.unpin()),
    "server cursor": lambda conn: server_cursor(conn),
    "close": lambda conn: (conn.execute("select 1"), conn.close()),
}


def block(conn):
    with conn.transaction():
        conn.execute("select 1")


def server_cursor(conn):
    with conn.transaction(), conn.cursor("named") as cursor:
        cursor.execute("select 1")
        cursor.fetchone()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the driver's, of cursors left open
@pytest.mark.skipif(sys.version_info < (3, 11), reason="knows where 3.11 and later handle signals")
@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("story", list(STORIES))
def test_an_interrupt_at_any_point_of_an_exchange(url, story, autocommit):
    """Wherever KeyboardInterrupt strikes, closing the connection gives its backend back, and others are served."""
    with rdsproxy_lib.Proxy(url, max_connections=1, connection_borrow_timeout=2) as proxy:
        proxy.connect().close()
        worlds = []

        def make():
            worlds.append(proxy.connect(autocommit=autocommit))
            return lambda: STORIES[story](worlds[-1])

        def check(where: str) -> None:
            conn = worlds.pop()
            try:
                conn.close()
                with proxy.connect(autocommit=True) as other:
                    assert other.execute("select 1").fetchone() == (1,)
                    assert not other.rdsproxy.pinned
            except BaseException as error:
                raise AssertionError(f"interrupted at {where}: {error}") from error

        assert everywhere(make, check) > 20
        worlds.pop().close()


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="knows where 3.11 and later handle signals")
@pytest.mark.parametrize("story", ["read", "transaction"])
def test_a_session_that_was_interrupted_goes_on(url, story):
    """After an interrupt and a rollback() the same session works, and holds nothing when it is idle."""
    with rdsproxy_lib.Proxy(url, max_connections=1, connection_borrow_timeout=2) as proxy:
        proxy.connect().close()
        worlds = []

        def make():
            worlds.append(proxy.connect())
            return lambda: STORIES[story](worlds[-1])

        def check(where: str) -> None:
            conn = worlds.pop()
            try:
                conn.rollback()
                conn.execute("select 1")
                conn.commit()
                assert conn.rdsproxy.backend is None, "it holds a backend for nothing"
                with proxy.connect(autocommit=True) as other:
                    other.execute("select 1")
            except BaseException as error:
                raise AssertionError(f"interrupted at {where}: {error}") from error
            finally:
                conn.close()

        assert everywhere(make, check) > 20
        worlds.pop().close()
