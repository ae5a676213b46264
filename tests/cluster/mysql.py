"""MariaDB or MySQL servers that replicate by GTID: a writer, a replica, and a relay in front of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql

from tests.cluster import nodes
from tests.cluster.nodes import until
from tests.mysql_servers import APP_DATABASE, APP_PASSWORD, APP_USER, Kind, MySQLServer

__all__ = ["Cluster", "Node", "until"]

REPLICATOR, REPLICATOR_PASSWORD = "replicator", "replicator-secret"

OPTIONS: dict[Kind, dict[str, object]] = {
    "mariadb-10.11": {
        "log_bin": "binlog",
        "gtid_strict_mode": True,
        "log_slave_updates": True,
        "rpl_semi_sync_master_wait_point": "AFTER_SYNC",
        "rpl_semi_sync_master_timeout": 3_600_000,
        "rpl_semi_sync_slave_enabled": "ON",
    },
    "mysql-9.7": {
        "log_bin": "binlog",
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        "plugin_load": "semisync_source.so;semisync_replica.so",
        "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
        "rpl_semi_sync_source_timeout": 3_600_000,
        "rpl_semi_sync_replica_enabled": "ON",
    },
}


class Node(nodes.Node):
    """One server of a cluster, reached through its relay."""

    def ask(self, *texts: str) -> Any:
        """The first row of the last text, past the relay, as root; None where it brings none."""
        row = None
        with self.server.admin(database=APP_DATABASE) as admin, admin.cursor() as cursor:
            for text in texts:
                cursor.execute(text)
                row = cursor.fetchone() if cursor.description else None
        return row

    def follow(self, writer: Node) -> None:
        """Replicate from another node from now on, and take no writes."""
        host, port = writer.server.host, writer.server.port
        login = f"'{host}', {{0}}_port={port}, {{0}}_user='{REPLICATOR}', {{0}}_password='{REPLICATOR_PASSWORD}'"
        if self.server.is_mariadb:
            source = f"change master to master_host={login.format('master')}, master_use_gtid=slave_pos"
            self.ask("set global read_only = 1", source, "start slave")
        else:
            source = f"change replication source to source_host={login.format('source')}, source_auto_position=1"
            self.ask(
                "set global super_read_only = 1", f"{source}, source_ssl=0, get_source_public_key=1", "start replica"
            )

    def refuse_writes(self) -> None:
        """Take no writes any more, and let those that run come to an end."""
        self.ask("set global read_only = 1")

    demote = refuse_writes

    def promote(self) -> None:
        """Apply what was received, and take writes."""
        until(self._has_applied_all, "everything that was received is applied")
        if self.server.is_mariadb:
            self.ask("stop slave", "reset slave all", "set global read_only = 0")
        else:
            self.ask("stop replica", "reset replica all", "set global super_read_only = 0", "set global read_only = 0")

    def _has_applied_all(self) -> bool:
        if self.server.is_mariadb:
            return bool(self._position()[0] == self.ask("select @@gtid_slave_pos")[0])
        received, _ = self._position()
        return self.ask(f"select gtid_subset('{received}', @@global.gtid_executed)") == (1,)

    def _position(self) -> tuple[str, int]:
        """The GTIDs it has received, and the number of the last one: all are one writer's."""
        if self.server.is_mariadb:
            with self.server.admin() as admin, admin.cursor() as cursor:
                cursor.execute("show slave status")
                status = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
            received = status["Gtid_IO_Pos"]
        else:
            (received,) = self.ask(
                "select received_transaction_set from performance_schema.replication_connection_status"
            )
        return received, int(re.split("[-:]", received or "0")[-1])

    def sessions(self) -> int:
        """Of the application's user."""
        return int(self.ask(f"select count(*) from information_schema.processlist where user = '{APP_USER}'")[0])

    def received(self) -> int:
        """In transactions."""
        return self._position()[1]

    @contextmanager
    def full(self) -> Iterator[None]:
        """Other clients have all of its connections but root's."""
        self.ask("set global max_connections = 10")
        others: list[pymysql.Connection[Any]] = []
        try:
            with suppress(pymysql.err.OperationalError):
                while True:
                    others.append(
                        pymysql.connect(
                            host=self.server.host, port=self.server.port, user=APP_USER, password=APP_PASSWORD
                        )
                    )
            yield
        finally:
            for other in others:
                other.close()

    def freeze(self) -> None:
        """Stop the process where it is: sockets stay open, nothing answers."""
        self.server.freeze()

    def resume(self) -> None:
        """Undo freeze."""
        self.server.resume()


class Cluster(nodes.Cluster):
    """`with Cluster("mariadb-10.11") as cluster:` starts a writer and its replicas.

    `waits`: whether a commit waits for one of the replicas, so that nothing that was acknowledged is lost. None: on
    MariaDB it does, on MySQL not, as they come.
    """

    scheme = "mysql"

    def __init__(self, kind: Kind, replicas: int = 1, waits: bool | None = None) -> None:
        super().__init__()
        self._waits = kind == "mariadb-10.11" if waits is None else waits
        self.kind: Kind = kind
        self._replicas = replicas

    def _begin(self) -> None:
        for number in range(1, self._replicas + 2):
            self._start(MySQLServer(self.kind, options={**OPTIONS[self.kind], "server_id": number}), Node)
        # On all, as nobody replicates yet: their histories begin with the same state.
        for node in self.nodes:
            node.ask(
                "set sql_log_bin = 0",
                f"create user '{REPLICATOR}'@'%' identified by '{REPLICATOR_PASSWORD}'",
                f"grant replication slave on *.* to '{REPLICATOR}'@'%'",
            )
        writer, *replicas = self.nodes
        for replica in replicas:
            replica.follow(writer)
        if self._waits:
            word = "master" if writer.server.is_mariadb else "source"
            writer.ask(f"set global rpl_semi_sync_{word}_enabled = 1")
            waiting = f"show status like 'Rpl_semi_sync_{word}_clients'"
            until(lambda: writer.ask(waiting)[1] == str(self._replicas), "the replicas acknowledge")
        else:
            readers = "select count(*) from information_schema.processlist where command like 'Binlog Dump%'"
            until(lambda: writer.ask(readers)[0] == self._replicas, "the replicas are connected")
