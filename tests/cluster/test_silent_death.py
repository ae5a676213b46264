"""A host falls silent and says no farewell: who waits for it is told, and goes on; who is slow is left alone."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib import monitor
from rdsproxy_lib.cluster import Cluster
from tests.cluster import mysql, postgresql
from tests.cluster.history import TABLE, run
from tests.cluster.postgresql import until
from tests.cluster.vanishing import PORT, VanishingHost
from tests.mysql_servers import MySQLServer
from tests.pool.test_fork import in_child
from tests.servers import APP_PASSWORD, APP_USER, PostgresServer, TcpRelay

TUNED = {"failure_detection_time": 0.5, "failure_detection_interval": 0.2, "failure_detection_count": 2}
PATIENT = {**TUNED, "failure_detection_interval": 0.25, "failure_detection_count": 6}
"""For those who are to be left alone: a machine under load is not to be taken for a silent one."""
ENGINES: dict[str, Callable[[], Any]] = {
    "postgresql-15": lambda: postgresql.Cluster("15", standbys=2),
    "mariadb-10.11": lambda: mysql.Cluster("mariadb-10.11"),
}


OTHERS: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_other_tests():
    """A proxy that the process shares goes on after its test, and its thread with it."""
    OTHERS.update(threading.enumerate())
    yield
    OTHERS.clear()


def threads(name="rdsproxy-monitor"):
    """Those of this name that run, and were begun by this test."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(name) and thread not in OTHERS]


class Fault:
    """How a node falls silent, and how it comes back."""

    def __init__(self, begin: Callable[[Any], None], end: Callable[[Any], None]) -> None:
        self.begin = begin
        self.end = end


def _stop(node: Any) -> None:
    server = node.server
    (server.sigstop if isinstance(server, PostgresServer) else server.freeze)()


def _go_on(node: Any) -> None:
    server = node.server
    (server.sigcont if isinstance(server, PostgresServer) else server.resume)()


FAULTS = {
    "blackhole": Fault(lambda node: node.relay.blackhole(), lambda node: node.relay.thaw()),
    "freeze": Fault(lambda node: node.relay.freeze(), lambda node: node.relay.thaw()),
    "sigstop": Fault(_stop, _go_on),
}


class Worker:
    """Runs a statement in a thread of its own; how long it took from now on, and its error."""

    def __init__(self, conn: Any, text: str, work: Callable[[], Any] | None = None) -> None:
        self.error: BaseException | None = None
        self.ended_at = 0.0
        self._work = work or partial(run, conn, text)
        self._thread = threading.Thread(target=self._run, name="worker")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error
        self.ended_at = time.monotonic()

    def join(self, timeout: float = 30.0) -> None:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "it hangs"


SLEEP = {"postgresql": "select pg_sleep(60)", "mysql": "select sleep(60)"}
DRIVERS = {"postgresql": psycopg.OperationalError, "mysql": pymysql.err.OperationalError}


def fill(proxy: rdsproxy_lib.Proxy, number: int) -> None:
    """Let so many database connections be idle."""
    conns = [proxy.connect(autocommit=True) for _ in range(number)]
    for conn in conns:
        run(conn, "begin")
    for conn in conns:
        run(conn, "commit")
        conn.close()
    assert proxy.stats().database_connections_currently_idle == number


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.server(name)) for name in ENGINES])
def test_who_waits_for_a_silent_host_is_told_and_goes_on(name, fault):
    """Tuned to a second: each statement that waits has its error within 1.5 s, and the next runs on the new writer."""
    with ENGINES[name]() as cluster:
        old, new = cluster.nodes[:2]
        with rdsproxy_lib.Proxy(cluster.url(), max_connections=6, connection_borrow_timeout=20, **TUNED) as proxy:
            conns = [proxy.connect(autocommit=at != 2) for at in range(5)]
            reader, writer, transaction, queued, parked = conns
            run(parked, TABLE)
            fill(proxy, 3)
            run(transaction, "insert into history values (1)")
            reading = Worker(reader, SLEEP[proxy.engine.name])
            until(lambda: proxy.stats().database_connections_currently_borrowed == 2, "it sleeps")
            began = time.monotonic()
            FAULTS[fault].begin(old)
            try:
                workers = {
                    "read": reading,
                    "write": Worker(writer, "insert into history values (2)"),
                    "transaction": Worker(transaction, "insert into history values (3)"),
                }
                waits = Worker(queued, "insert into history values (4)")  # there is no idle connection for it
                for worker in workers.values():
                    worker.join()
                took = {kind: round(worker.ended_at - began, 2) for kind, worker in workers.items()}
                print(f"{name} {fault}: {took}")
                assert max(took.values()) < 1.5
                assert isinstance(workers["read"].error, DRIVERS[proxy.engine.name])
                assert not isinstance(workers["read"].error, rdsproxy_lib.Error)
                assert isinstance(workers["write"].error, rdsproxy_lib.OutcomeUnknown)
                assert isinstance(workers["transaction"].error, rdsproxy_lib.TransactionLost)
                stats = proxy.stats()
                assert (stats.hosts_lost, stats.database_connections_currently_idle) == (1, 0)
                assert stats.probes >= 1
                transaction.rollback()
                new.promote()
                promoted_at = time.monotonic()
                waits.join()
                print(f"{name} {fault}: {waits.ended_at - promoted_at:.2f} s from the promotion to the next write")
                assert waits.error is None
                for conn in conns:
                    assert (4,) in run(conn, "select number from history")
                    conn.commit()
            finally:
                FAULTS[fault].end(old)
                for conn in conns:
                    conn.close()


# -- the defaults


SERVERS: dict[str, Callable[[], Any]] = {
    "postgresql-15": lambda: PostgresServer("15"),
    "mariadb-10.11": lambda: MySQLServer("mariadb-10.11"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.server(name)) for name in SERVERS])
def test_with_the_defaults_a_vanished_host_is_found_in_ten_seconds(name):
    """Nothing comes back from it, as far as the kernel can see: with the monitor, and without any thread."""
    with ExitStack() as stack:
        server = stack.enter_context(SERVERS[name]())
        is_postgresql = isinstance(server, PostgresServer)
        host = stack.enter_context(
            VanishingHost(f"{server.socket_dir}/.s.PGSQL.{server.port}" if is_postgresql else server.socket)
        )
        workers: dict[str, Worker] = {}
        sending = {}
        for option in (True, False):
            url = server.url(host=host.address, port=PORT)
            proxy = stack.enter_context(rdsproxy_lib.Proxy(url, monitor=option))
            waits, sends = (stack.enter_context(closing(proxy.connect())) for _ in range(2))
            run(sends, "create table if not exists vanished (id int)")
            sends.commit()
            run(sends, "insert into vanished values (1)")
            workers[f"waits, monitor={option}"] = Worker(waits, SLEEP[proxy.engine.name])
            sending[f"sends, monitor={option}"] = sends
        time.sleep(1)
        host.vanish()
        began = time.monotonic()
        for kind, conn in sending.items():
            workers[kind] = Worker(conn, "insert into vanished values (2)")
        for worker in workers.values():
            worker.join()
        took = {kind: round(worker.ended_at - began, 2) for kind, worker in workers.items()}
        print(f"{name}: {took}")
        assert max(took.values()) < 10
        assert all(worker.error is not None for worker in workers.values())
        for kind, conn in sending.items():
            assert isinstance(workers[kind].error, rdsproxy_lib.TransactionLost)
            conn.rollback()


# -- who is not cut


@pytest.fixture(scope="module")
def replicated():
    """A writer and a standby, which the tests leave as they are."""
    with postgresql.Cluster("15", standbys=1) as cluster:
        yield cluster


@pytest.fixture
def cluster(replicated):
    """The same, with nothing wrong on its network."""
    yield replicated
    for node in replicated.nodes:
        node.relay.stop()
        node.relay.start()


on_postgresql = pytest.mark.server("postgresql-15")


@on_postgresql
def test_a_slow_statement_is_left_alone(cluster):
    """Its host is asked, on one connection beside the budget, as long as it takes."""
    with rdsproxy_lib.Proxy(cluster.url(), max_connections=1, **PATIENT) as proxy, proxy.connect() as conn:
        conn.execute("select 1")
        conn.commit()
        worker = Worker(conn, "select pg_sleep(3.5)")
        until(lambda: proxy.stats().probes > 3, "the host is asked")
        stats = proxy.stats()
        assert (stats.probe_connections, stats.database_connections) == (1, 1)
        worker.join()
        assert worker.error is None
        stats = proxy.stats()
        assert stats.probes <= 14
        assert stats.hosts_lost == 0


def test_a_slow_statement_on_a_single_host(mysql_url):
    """With monitor=True it is looked after as one of several, on MySQL and MariaDB too."""
    with rdsproxy_lib.Proxy(mysql_url, monitor=True, **PATIENT) as proxy:
        conn = proxy.connect()
        worker = Worker(conn, "select sleep(3.5)")
        worker.join()
        assert worker.error is None
        stats = proxy.stats()
        assert stats.probes >= 3
        assert (stats.probe_connections, stats.hosts_lost) == (1, 0)
        conn.close()


@on_postgresql
def test_a_refused_login_is_an_answer(cluster):
    """Who is told that there are too many connections, or that the password is wrong, has heard the host."""
    proxy = rdsproxy_lib.Proxy(cluster.url(), **PATIENT)
    with cluster.nodes[0].server.admin() as admin, proxy, proxy.connect() as conn:
        conn.execute("select 1")
        conn.commit()
        for order, undo in (
            (f"alter role {APP_USER} connection limit 0", f"alter role {APP_USER} connection limit -1"),
            (f"alter role {APP_USER} nologin", f"alter role {APP_USER} login"),
        ):
            admin.execute(order)
            try:
                before = proxy.stats().probes
                worker = Worker(conn, "select pg_sleep(3.5)")
                worker.join()
            finally:
                admin.execute(undo)
            assert worker.error is None
            assert proxy.stats().probes >= before + 3
            assert proxy.stats().hosts_lost == 0


def test_a_refused_login_is_an_answer_of_mysql_too(mysql_server, mysql_url):
    """An account that is locked meanwhile: its statement goes on."""
    proxy = rdsproxy_lib.Proxy(mysql_url, monitor=True, **PATIENT)
    with proxy, mysql_server.admin() as admin, admin.cursor() as root:
        conn = proxy.connect()
        conn.cursor().execute("select 1")
        root.execute(f"alter user '{APP_USER}'@'%' account lock")
        try:
            worker = Worker(conn, "select sleep(3.5)")
            worker.join()
        finally:
            root.execute(f"alter user '{APP_USER}'@'%' account unlock")
        assert worker.error is None
        stats = proxy.stats()
        assert stats.probes >= 3
        assert stats.hosts_lost == 0
        conn.close()


@on_postgresql
def test_a_server_that_shuts_down_is_not_silent():
    """It waits for its sessions to end and lets nobody else in, which it says: 57P03 is an answer."""
    with PostgresServer("15") as server:
        proxy = rdsproxy_lib.Proxy(server.url(), monitor=True, **PATIENT)
        with proxy, closing(proxy.connect(autocommit=True)) as conn:
            run(conn, "select 1")
            worker = Worker(conn, "select pg_sleep(3.5)")
            time.sleep(0.2)
            os.kill(server.pid, signal.SIGTERM)
            worker.join()
            assert worker.error is None
            stats = proxy.stats()
            assert stats.probes >= 3
            assert (stats.probes_failed, stats.hosts_lost) == (0, 0)


@on_postgresql
def test_credentials_that_do_not_come_are_not_the_hosts_fault(cluster):
    """A source that hangs is no silence of the host: nothing was asked of it."""
    hangs = threading.Event()
    is_over = threading.Event()

    def source():
        if hangs.is_set():
            is_over.wait(30)
        return APP_USER, APP_PASSWORD

    url = cluster.url().replace(f":{APP_PASSWORD}@", "@")
    with rdsproxy_lib.Proxy(url, credentials=source, **PATIENT) as proxy, proxy.connect() as conn:
        conn.execute("select 1")
        hangs.set()
        try:
            worker = Worker(conn, "select pg_sleep(3.5)")
            worker.join()
        finally:
            is_over.set()
        assert worker.error is None
        assert proxy.stats().hosts_lost == 0


def test_a_name_that_cannot_be_looked_up_is_not_the_hosts_fault(mysql_server, mysql_database, monkeypatch):
    """The machine is asked that the statement waits for: by its address."""
    real = socket.getaddrinfo
    is_down = False

    def look_up(host, *rest, **more):
        if is_down and host == "localhost":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    proxy = rdsproxy_lib.Proxy(mysql_server.url(host="localhost", database=mysql_database), monitor=True, **PATIENT)
    with proxy, closing(proxy.connect()) as conn:
        run(conn, "select 1")
        is_down = True
        worker = Worker(conn, "select sleep(3.5)")
        worker.join()
        is_down = False
        assert worker.error is None
        stats = proxy.stats()
        assert stats.probes >= 3
        assert stats.hosts_lost == 0


@on_postgresql
def test_libpq_is_given_the_address(cluster, monkeypatch):
    """It looks names up by itself, and is spared that; the name is still what its certificate has to be for."""
    calls = []
    real = psycopg.connect

    def connect(*texts, **keywords):
        calls.append(keywords)
        return real(*texts, **keywords)

    url = cluster.url().replace("127.0.0.1", "localhost")
    with rdsproxy_lib.Proxy(url, **PATIENT) as proxy, proxy.connect() as conn:
        conn.execute("select 1")
        monkeypatch.setattr(psycopg, "connect", connect)
        worker = Worker(conn, "select pg_sleep(1)")
        worker.join()
        assert [(call["host"], call["hostaddr"]) for call in calls] == [("localhost", "127.0.0.1")]


@on_postgresql
def test_who_waits_for_the_client_is_not_looked_at(cluster):
    """A stream or a COPY whose rows nobody fetches, an open transaction, and notifies(): no host is asked for them."""
    with rdsproxy_lib.Proxy(cluster.url(), **PATIENT) as proxy:
        conn = proxy.connect(autocommit=True)
        with conn.transaction():
            conn.execute("select 1")
            time.sleep(1)
        for _ in conn.cursor().stream("select generate_series(1, 2)"):
            time.sleep(0.7)
        with conn.cursor() as cursor, cursor.copy("copy (select generate_series(1, 2)) to stdout") as copy:
            for _ in copy:
                time.sleep(0.7)
        conn.execute("listen nothing")
        assert list(conn.notifies(timeout=1.5)) == []
        assert proxy.stats().probes == 0
        conn.close()


# -- the rest of its life


def test_the_thread_begins_with_the_first_database_connection(cluster):
    """Not when the proxy is made; it ends when it is closed, and the threads that ask with it."""
    proxy = rdsproxy_lib.Proxy(cluster.url(), **PATIENT)
    assert threads() == []
    conn = proxy.connect(autocommit=True)
    (thread,) = threads()
    assert thread.daemon
    worker = Worker(conn, "select pg_sleep(1)")
    until(lambda: threads("rdsproxy-probe"), "the host is asked")
    worker.join()
    other = proxy.connect(autocommit=True)
    run(other, "select 1")
    assert threads() == [thread]
    conn.close()
    other.close()
    proxy.close()
    until(lambda: not threads("rdsproxy-"), "they end")
    assert proxy.stats().probe_connections == 0


@on_postgresql
@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ({}, {}, 1),
        ({"monitor": True}, {}, 1),
        ({"monitor": False}, {}, 0),
        ({}, {"AWS_LAMBDA_FUNCTION_NAME": "shop"}, 0),
        ({"monitor": True}, {"AWS_LAMBDA_FUNCTION_NAME": "shop"}, 1),
    ],
)
def test_where_there_is_a_thread(cluster, monkeypatch, options, variables, expected):
    """With several hosts, outside of Lambda, unless the option says otherwise."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with rdsproxy_lib.Proxy(cluster.url(), **options) as proxy, proxy.connect() as conn:
        conn.execute("select 1")
        assert len(threads()) == expected
    until(lambda: not threads(), "it ends")


@pytest.mark.parametrize(("option", "expected"), [("auto", 0), (True, 1), (False, 0)])
def test_where_there_is_a_thread_for_one_host(url, option, expected):
    """Only where it is asked for."""
    with rdsproxy_lib.Proxy(url, monitor=option) as proxy, proxy.connect() as conn:
        conn.execute("select 1")
        assert len(threads()) == expected
    until(lambda: not threads(), "it ends")


@on_postgresql
def test_the_thread_does_not_keep_a_proxy_alive(cluster):
    """One that is dropped is collected, and its thread ends."""
    proxy = rdsproxy_lib.Proxy(cluster.url(), **PATIENT)
    with proxy.connect(autocommit=True) as conn:
        conn.execute("select pg_sleep(0.8)")  # so that the host is asked, and the connection for it is still open
    assert threads("rdsproxy-probe")
    del conn, proxy
    gc.collect()
    until(lambda: not threads("rdsproxy-"), "they end")


@on_postgresql
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_has_a_thread_of_its_own(cluster):
    """From its own first database connection on; the parent's goes on, and so does the connection it asks by."""
    with rdsproxy_lib.Proxy(cluster.url(), **PATIENT) as proxy, proxy.connect(autocommit=True) as conn:
        worker = Worker(conn, "select pg_sleep(2.5)")
        until(lambda: proxy.stats().probes > 1, "the host is asked")

        def child() -> None:
            assert threads() == []
            assert (proxy.stats().probes, proxy.stats().probe_connections) == (0, 0)
            mine = proxy.connect(autocommit=True)
            mine.execute("select pg_sleep(1)")
            assert len(threads()) == 1
            assert proxy.stats().probes > 1
            mine.close()
            proxy.close()

        in_child(child)
        before = proxy.stats().probes
        until(lambda: proxy.stats().probes > before, "the host is asked on")
        worker.join()
        assert worker.error is None
        assert proxy.stats().hosts_lost == 0


def test_a_program_ends_quietly_with_the_thread_at_work(cluster):
    """Whatever it does at that moment."""
    program = f"""
import rdsproxy_lib, threading, time
proxy = rdsproxy_lib.Proxy({cluster.url()!r}, failure_detection_time=0.1, failure_detection_interval=0.05)
conn = proxy.connect(autocommit=True)
threading.Thread(target=conn.execute, args=("select pg_sleep(60)",), daemon=True).start()
time.sleep(0.5)
assert proxy.stats().probes
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- other silences


@on_postgresql
def test_each_host_is_heard_again_after_a_while(cluster, monkeypatch):
    """Nobody asks for a writer, and no statement runs: `targets()` is told of a standby that goes and comes back."""
    monkeypatch.setattr(monitor, "REFRESH_SECONDS", 0.3)
    with rdsproxy_lib.Proxy(cluster.url(), **TUNED) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("select 1")
        standby = cluster.nodes[1]

        def state():
            return next(target.state for target in proxy.targets() if target.host == standby.address)

        until(lambda: state() == "AVAILABLE", "it was heard")
        standby.relay.stop()
        until(lambda: state() == "UNAVAILABLE", "it is away")
        standby.relay.start()
        until(lambda: state() == "AVAILABLE", "it is back")


@on_postgresql
def test_a_host_that_refuses_a_login_is_not_asked_with_it_again_and_again(cluster):
    """It is heard no sooner than any other: too many wrong passwords, and servers lock an account."""
    with rdsproxy_lib.Proxy(cluster.url()) as proxy:
        hosts = Cluster(proxy.engine, proxy.target.endpoints, lambda: None)
        login = proxy.engine.login(None, None, {"password": "wrong"})
        logs = [node.server.log for node in cluster.nodes]
        before = [log.read_text().count("password authentication failed") for log in logs]
        for _ in range(20):
            hosts.refresh(login, 30.0, hosts.view.members)
            time.sleep(0.05)
        until(lambda: not threads("rdsproxy-ask"), "they were asked")
        after = [log.read_text().count("password authentication failed") for log in logs]
        assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]


@on_postgresql
def test_who_listens_to_a_host_that_is_lost_is_told(cluster):
    """notifies() is no reason to ask a host; but of one that is lost no notification will ever come."""
    with rdsproxy_lib.Proxy(cluster.url(), **TUNED) as proxy, proxy.connect(autocommit=True) as other:
        listener = proxy.connect(autocommit=True)
        listener.execute("listen anything")
        heard = Worker(listener, "", work=lambda: list(listener.notifies()))
        waiting = Worker(other, "select pg_sleep(60)")
        until(lambda: proxy.stats().probes > 1, "the host is asked")
        cluster.nodes[0].relay.freeze()
        waiting.join()
        heard.join()
        assert isinstance(heard.error, rdsproxy_lib.SessionLost)


@pytest.mark.slow
@on_postgresql
def test_a_host_that_falls_silent_while_nobody_needs_it(cluster, monkeypatch):
    """It is found when its turn to be heard comes, and idle connections to it are closed before anybody gets one."""
    monkeypatch.setattr(monitor, "REFRESH_SECONDS", 0.3)
    with rdsproxy_lib.Proxy(cluster.url(), **TUNED) as proxy, proxy.connect(autocommit=True) as conn:
        fill(proxy, 3)
        cluster.nodes[0].relay.freeze()
        until(lambda: proxy.stats().hosts_lost == 1, "the host is given up")
        assert proxy.stats().database_connections == 0
        cluster.nodes[0].relay.thaw()
        assert conn.execute("select 1").fetchone() == (1,)


@on_postgresql
def test_a_host_that_falls_silent_during_a_login(cluster):
    """The login is given up, then the idle connections too; the session goes on when a writer is heard."""
    with rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=30, **TUNED) as proxy:
        fill(proxy, 2)
        busy, another, third = (proxy.connect() for _ in range(3))
        for conn in (busy, another):
            conn.execute("select 1")
        began = time.monotonic()
        cluster.nodes[0].relay.freeze()
        worker = Worker(third, "select 1")
        until(lambda: proxy.cluster.view.writer is None, "the login is given up")
        print(f"a login that is not answered: {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 3
        until(lambda: proxy.stats().hosts_lost == 1, "the host is given up")
        cluster.nodes[0].relay.thaw()
        worker.join()
        assert worker.error is None
        busy.rollback()
        another.rollback()
        for conn in (busy, another, third):
            conn.close()


@on_postgresql
@pytest.mark.parametrize("fault", ["blackhole", "freeze"])
def test_a_statement_over_tls_is_cut_too(fault):
    """A single host, with monitor=True: the error comes in time, and the session goes on with a new connection."""
    with PostgresServer("15", tls=True) as server, TcpRelay(server.host, server.port) as relay:
        url = server.url(port=relay.port, sslmode="require")
        _go_through_a_silence(url, relay, fault, "select pg_sleep(60)")


@pytest.mark.parametrize("fault", ["blackhole", "freeze"])
def test_a_statement_over_tls_is_cut_too_on_mysql(mysql_server, mysql_database, mysql_relay, fault):
    """The same on MariaDB; on MySQL, whose test server has none, without."""
    url = mysql_server.url(database=mysql_database, port=mysql_relay.port)
    _go_through_a_silence(url, mysql_relay, fault, "select sleep(60)", has_tls=mysql_server.tls)


def _go_through_a_silence(url: str, relay: TcpRelay, fault: str, sleep: str, *, has_tls: bool = True) -> None:
    with rdsproxy_lib.Proxy(url, monitor=True, **TUNED) as proxy:
        conn = proxy.connect(autocommit=True)
        run(conn, "select 1")
        assert proxy.stats().database_connections_with_tls == has_tls
        worker = Worker(conn, sleep)
        until(lambda: proxy.stats().database_connections_currently_borrowed, "it sleeps")
        began = time.monotonic()
        getattr(relay, fault)()
        worker.join()
        took = worker.ended_at - began
        print(f"{took:.2f} s")
        assert took < 1.5
        assert isinstance(worker.error, DRIVERS[proxy.engine.name])
        relay.thaw()
        assert run(conn, "select 1") == [(1,)]
        conn.close()


def test_an_idle_connection_that_does_not_answer_speaks_for_its_host(server, database, relay):
    """Without the monitor: after a long idle time one is asked before it is lent, and its silence ends the others."""
    _go_through_an_idle_silence(server.url(dbname=database, port=relay.port), relay)


def test_an_idle_connection_of_pymysql_that_does_not_answer(mysql_server, mysql_database, mysql_relay):
    """The same."""
    _go_through_an_idle_silence(mysql_server.url(database=mysql_database, port=mysql_relay.port), mysql_relay)


def _go_through_an_idle_silence(url: str, relay: TcpRelay) -> None:
    with rdsproxy_lib.Proxy(url, monitor=False, **TUNED) as proxy:
        conn = proxy.connect(autocommit=True)
        fill(proxy, 4)
        for backend, _ in proxy.pool.backends():
            backend.idle_since -= 60
        relay.freeze()
        began = time.monotonic()
        worker = Worker(conn, "select 1")
        until(lambda: proxy.stats().database_connections == 0, "all are given up")
        assert time.monotonic() - began < 1, "one was asked, and not four"
        relay.thaw()
        worker.join()
        assert worker.error is None
        conn.close()
