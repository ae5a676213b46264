"""PostgreSQL servers that replicate: a writer, its standbys, and a relay in front of each."""

from __future__ import annotations

import shutil
from typing import Any

from tests.cluster import nodes
from tests.cluster.nodes import until
from tests.servers import APP_DATABASE, APP_USER, SUPERUSER, PostgresServer, temporary_directory

__all__ = ["Cluster", "Node", "until"]

OPTIONS = {
    "synchronous_commit": "on",
    "max_wal_senders": 10,
    "wal_log_hints": "on",
    "wal_keep_size": "64MB",
    "wal_retrieve_retry_interval": "100ms",
}


class Node(nodes.Node):
    """One server of a cluster, reached through its relay."""

    def ask(self, text: str) -> Any:
        """One value, past the relay, as a superuser."""
        with self.server.admin(dbname=APP_DATABASE) as admin:
            ((value,),) = admin.execute(text)
        return value

    def sessions(self) -> int:
        """Of the application's user."""
        return int(self.ask(f"select count(*) from pg_stat_activity where usename = '{APP_USER}'"))

    def received(self) -> int:
        """In bytes."""
        return int(self.ask("select pg_last_wal_receive_lsn() - '0/0'"))

    def promote(self) -> None:
        """Make it the writer."""
        assert self.ask("select pg_promote(true, 30)")

    def refuse_writes(self) -> None:
        """Take no writes any more, as a DBA does it before a planned switchover, and let those that run come to an end.

        Who is in a transaction since before, and does not end it within 0.2 s, is disconnected: it could write.
        """
        with self.server.admin() as admin:
            admin.execute("alter system set default_transaction_read_only = on")
            admin.execute("select pg_reload_conf()")
            until(
                lambda: admin.execute("show default_transaction_read_only").fetchone() == ("on",),
                "the writer is read-only",
            )
            ((since,),) = admin.execute("select clock_timestamp() + interval '50 ms'")
            old = f"usename = '{APP_USER}' and xact_start < %s and clock_timestamp() > %s"
            try:
                until(
                    lambda: (
                        admin.execute(
                            f"select clock_timestamp() > %s and not exists (select from pg_stat_activity where {old})",
                            (since, since, since),
                        ).fetchone()
                        == (True,)
                    ),
                    "no transaction from before is left",
                    patience=0.2,
                )
            except AssertionError:
                admin.execute(
                    f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where {old}", (since, since)
                )

    def demote(self) -> None:
        """Stop in order: what was committed is on the standbys."""
        self.server.stop("fast")

    def freeze(self) -> None:
        """Stop every process where it is: sockets stay open, nothing answers."""
        self.server.sigstop()

    def resume(self) -> None:
        """Undo freeze."""
        self.server.sigcont()

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


class Cluster(nodes.Cluster):
    """`with Cluster(standbys=2) as cluster:` starts a writer, which waits for one of its standbys at each commit."""

    scheme = "postgresql"

    def __init__(self, version: str = "15", standbys: int = 1) -> None:
        super().__init__()
        self.kind = f"postgresql-{version}"
        self._version = version
        self._standbys = standbys

    def _begin(self) -> None:
        self._start(PostgresServer(self._version, options=OPTIONS), Node)
        (writer,) = self.nodes
        for _ in range(self._standbys):
            self._start(self._copy_of(writer.server), Node)
        with writer.server.admin() as admin:
            admin.execute("alter system set synchronous_standby_names = 'ANY 1 (*)'")
            admin.execute("select pg_reload_conf()")
        until(
            lambda: (
                writer.ask("select count(*) from pg_stat_replication where sync_state = 'quorum'") == self._standbys
            ),
            "the standbys stream",
        )

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
