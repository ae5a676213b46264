"""MariaDB or MySQL servers that replicate by GTID: a writer, a replica, and a relay in front of each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.cluster.postgresql import until
from tests.mysql_servers import APP_DATABASE, APP_PASSWORD, APP_USER, Kind, MySQLServer
from tests.servers import TcpRelay

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
    "mysql-9.7": {"log_bin": "binlog", "gtid_mode": "ON", "enforce_gtid_consistency": "ON"},
}


class Node:
    """One server of a cluster, reached through its relay."""

    def __init__(self, server: MySQLServer, relay: TcpRelay) -> None:
        self.server = server
        self.relay = relay

    @property
    def address(self) -> str:
        return f"{self.relay.host}:{self.relay.port}"

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

    def demote(self) -> None:
        """Take no writes any more, and let those that run come to an end."""
        self.ask("set global read_only = 1")

    def promote(self) -> None:
        """Apply what was received, and take writes."""
        until(self._has_applied_all, "everything that was received is applied")
        if self.server.is_mariadb:
            self.ask("stop slave", "reset slave all", "set global read_only = 0")
        else:
            self.ask("stop replica", "reset replica all", "set global super_read_only = 0", "set global read_only = 0")

    def _has_applied_all(self) -> bool:
        if self.server.is_mariadb:
            with self.server.admin() as admin, admin.cursor() as cursor:
                cursor.execute("show slave status")
                status = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
                cursor.execute("select @@gtid_slave_pos")
                ((applied,),) = cursor.fetchall()
            return applied == status["Gtid_IO_Pos"]
        (is_applied,) = self.ask(
            "select gtid_subset(received_transaction_set, @@global.gtid_executed)"
            " from performance_schema.replication_connection_status"
        )
        return bool(is_applied)

    def kill(self) -> None:
        """The server's process at once."""
        self.server.kill()


class Cluster:
    """`with Cluster("mariadb-10.11") as cluster:` starts a writer and a replica.

    On MariaDB a commit waits for the replica, so that nothing that was acknowledged is lost.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.nodes: list[Node] = []

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            for number in (1, 2):
                options = {**OPTIONS[self.kind], "server_id": number}
                server = stack.enter_context(MySQLServer(self.kind, options=options))
                self.nodes.append(Node(server, stack.enter_context(TcpRelay(server.host, server.port))))
            writer, replica = self.nodes
            # On both, as nobody replicates yet: their histories begin with the same state.
            for node in self.nodes:
                node.ask(
                    "set sql_log_bin = 0",
                    f"create user '{REPLICATOR}'@'%' identified by '{REPLICATOR_PASSWORD}'",
                    f"grant replication slave on *.* to '{REPLICATOR}'@'%'",
                )
            replica.follow(writer)
            if writer.server.is_mariadb:
                writer.ask("set global rpl_semi_sync_master_enabled = 1")
                waiting = "show status like 'Rpl_semi_sync_master_clients'"
                until(lambda: writer.ask(waiting)[1] == "1", "the replica acknowledges")
            else:
                state = "select service_state from performance_schema.replication_connection_status"
                until(lambda: replica.ask(state) == ("ON",), "the replica is connected")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def url(self, **query: Any) -> str:
        """All nodes, through their relays."""
        options = "&".join(f"{name}={value}" for name, value in query.items())
        hosts = ",".join(node.address for node in self.nodes)
        return f"mysql://{APP_USER}:{APP_PASSWORD}@{hosts}/{APP_DATABASE}" + (f"?{options}" if options else "")
