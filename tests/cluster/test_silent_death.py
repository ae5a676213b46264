"""A host falls silent and says no farewell: who waits for it is told, and goes on; who is slow is left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from tests.cluster import mysql, postgresql
from tests.cluster.history import TABLE, run
from tests.cluster.postgresql import until
from tests.servers import PostgresServer

TUNED = {"failure_detection_time": 0.5, "failure_detection_interval": 0.2, "failure_detection_count": 2}
ENGINES: dict[str, Callable[[], Any]] = {
    "postgresql-15": lambda: postgresql.Cluster("15", standbys=2),
    "mariadb-10.11": lambda: mysql.Cluster("mariadb-10.11"),
}


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

    def __init__(self, conn: Any, text: str) -> None:
        self.error: BaseException | None = None
        self.ended_at = 0.0
        self._work = conn, text
        self._thread = threading.Thread(target=self._run, name="worker")
        self._thread.start()

    def _run(self) -> None:
        try:
            run(*self._work)
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
