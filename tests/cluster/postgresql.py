"""PostgreSQL servers that replicate: a writer, its standbys, and a relay in front of each."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER, SUPERUSER, PostgresServer, TcpRelay, temporary_directory

PATIENCE = 30.0
OPTIONS = {
    "synchronous_commit": "on",
    "max_wal_senders": 10,
    "wal_log_hints": "on",
    "wal_keep_size": "64MB",
    "wal_retrieve_retry_interval": "100ms",
}


def until(is_so: Callable[[], Any], what: str) -> Any:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := is_so()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.01)
    return answer


class Node:
    """One server of a cluster, reached through its relay."""

    def __init__(self, server: PostgresServer, relay: TcpRelay) -> None:
        self.server = server
        self.relay = relay

    @property
    def address(self) -> str:
        return f"{self.relay.host}:{self.relay.port}"

    def ask(self, text: str) -> Any:
        """One value, past the relay, as a superuser."""
        with self.server.admin(dbname=APP_DATABASE) as admin:
            ((value,),) = admin.execute(text)
        return value

    def promote(self) -> None:
        """Make it the writer."""
        assert self.ask("select pg_promote(true, 30)")

    def kill(self) -> None:
        """Every process of the server at once."""
        self.server.kill()

    def demote(self) -> None:
        """Stop in order: what was committed is on the standbys."""
        self.server.stop("fast")

    def follow(self, writer: Node) -> None:
        """Start it again as a standby of a node that was promoted after it was stopped in order."""
        options = {
            "primary_conninfo": f"host={writer.server.socket_dir} port={writer.server.port} user={SUPERUSER}",
            "recovery_target_timeline": "latest",
        }
        self.server.options.update(options)
        signal = self.server.data_dir / "standby.signal"
        signal.touch()
        shutil.chown(signal, *_owner_of(self.server))
        self.server.start()


def _owner_of(server: PostgresServer) -> tuple[int, int]:
    place = server.data_dir.stat()
    return place.st_uid, place.st_gid


class Cluster:
    """`with Cluster(standbys=2) as cluster:` starts a writer, which waits for one of its standbys at each commit."""

    def __init__(self, version: str = "15", standbys: int = 1) -> None:
        self.kind = f"postgresql-{version}"
        self._version = version
        self._standbys = standbys
        self.nodes: list[Node] = []

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            self._stack = stack
            writer = self._start(PostgresServer(self._version, options=OPTIONS))
            for _ in range(self._standbys):
                self._start(self._copy_of(writer.server))
            with writer.server.admin() as admin:
                admin.execute("alter system set synchronous_standby_names = 'ANY 1 (*)'")
                admin.execute("select pg_reload_conf()")
            until(
                lambda: (
                    writer.ask("select count(*) from pg_stat_replication where sync_state = 'quorum'") == self._standbys
                ),
                "the standbys stream",
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _copy_of(self, writer: PostgresServer) -> PostgresServer:
        directory = temporary_directory()
        self._stack.callback(shutil.rmtree, directory)
        data = directory / "data"
        writer.run(
            "pg_basebackup",
            f"--pgdata={data}",
            f"--host={writer.socket_dir}",
            f"--port={writer.port}",
            f"--username={SUPERUSER}",
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--no-sync",
        )
        return PostgresServer(self._version, data_dir=data, options=OPTIONS)

    def _start(self, server: PostgresServer) -> Node:
        self._stack.enter_context(server)
        node = Node(server, self._stack.enter_context(TcpRelay(server.host, server.port)))
        self.nodes.append(node)
        return node

    def url(self, **query: Any) -> str:
        """All nodes, through their relays."""
        options = "&".join(f"{name}={value}" for name, value in query.items())
        hosts = ",".join(node.address for node in self.nodes)
        return f"postgresql://{APP_USER}:{APP_PASSWORD}@{hosts}/{APP_DATABASE}" + (f"?{options}" if options else "")
