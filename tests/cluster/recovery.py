"""How long after a promotion the first write goes through: a prober that knows all nodes, and clients that do not.

Zero is the first INSERT of the prober, which tries each node every 5 ms from before the fault, past the relays, on a
connection that it keeps. Each client writes as fast as it may, and writes again what failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
import pymysql

import rdsproxy_lib
from tests.cluster.history import run
from tests.cluster.nodes import until

TABLE = "create table recovery (number int)"
INSERT = "insert into recovery values (1)"
TRIES_EVERY = 0.005

Write = Callable[[], object]


class Writer:
    """A thread that writes again and again: `with Writer(name, write):`; `at` has the time of each success."""

    def __init__(self, name: Any, write: Write) -> None:
        self.name = name
        self.at: list[float] = []
        self.errors: list[Exception] = []
        self._write = write
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=str(name))

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def first_since(self, then: float) -> float | None:
        """The time of the first success behind that time."""
        return next((at for at in self.at.copy() if at > then), None)

    def _run(self) -> None:
        while not self._stop.wait(TRIES_EVERY):
            try:
                self._write()
            except Exception as error:  # what it is, is the client's matter: it writes again
                self.errors.append(error)
            else:
                self.at.append(time.monotonic())


class Probe:
    """Writes to one node, past its relay, on one connection that is opened anew where it dies."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._conn: Any = None

    def __call__(self) -> None:
        try:
            if self._conn is None:
                server = self._node.server
                connect = pymysql.connect if hasattr(server, "kind") else psycopg.connect
                self._conn = connect(**server.parameters(connect_timeout=1), autocommit=True)
            run(self._conn, INSERT)
        except (psycopg.OperationalError, pymysql.err.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
            if isinstance(error, psycopg.errors.ReadOnlySqlTransaction) or "read-only" in str(error):
                raise
            self.close()
            raise

    def close(self) -> None:
        if self._conn is not None:
            with suppress(psycopg.Error, pymysql.err.Error):
                self._conn.close()
            self._conn = None


@contextmanager
def ours(cluster: Any, **options: Any) -> Iterator[Write]:
    """A session of the library, of four database connections at most."""
    with (
        rdsproxy_lib.Proxy(cluster.url(), max_connections=4, **options) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        yield lambda: run(conn, INSERT)


def promote(cluster: Any, clients: Iterable[tuple[Any, Any]], outage: float) -> dict[Any, float]:
    """Kill the writer of a cluster, promote another node `outage` seconds later: the seconds of each client, by name.

    `clients` are context managers that give the function by which one of them writes.
    """
    old = cluster.nodes[0]
    server = old.server
    with ExitStack() as stack:
        admin = pymysql.connect if hasattr(server, "kind") else psycopg.connect
        with admin(**server.parameters(), autocommit=True) as conn:
            run(conn, TABLE)
        writers = [stack.enter_context(Writer(name, stack.enter_context(client))) for name, client in clients]
        probes = [Probe(node) for node in cluster.nodes[1:]]
        for probe in probes:
            stack.callback(probe.close)
        probers = [stack.enter_context(Writer("prober", probe)) for probe in probes]
        until(lambda: all(len(writer.at) > 10 for writer in writers), "all of them write")
        until(lambda: all(prober.errors for prober in probers), "the probers have been refused")
        died = time.monotonic()
        old.kill()
        died_at_last = time.monotonic()
        time.sleep(outage)
        cluster.successor().promote()
        until(lambda: any(prober.first_since(died) for prober in probers), "there is a writer")
        zero = min(at for prober in probers if (at := prober.first_since(died)) is not None)
        until(
            lambda: all(writer.first_since(died_at_last) for writer in writers), "all of them write again", patience=60
        )
        return {writer.name: (writer.first_since(died_at_last) or zero) - zero for writer in writers}
