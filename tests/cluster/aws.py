"""What AWS adds to a cluster, on top of real ones: names that lead somewhere, and hosts that list one another.

Functions of Aurora's and of a Multi-AZ DB cluster's names and shapes on PostgreSQL, `mysql.rds_topology` on MariaDB.
What Aurora MySQL has in `information_schema` cannot be made there: see the recorded rows of the unit tests.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
import pytest

from tests.cluster import mysql, postgresql
from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER, TcpRelay, free_port

DOMAIN = "c1a2b3.eu-west-1.rds.amazonaws.com"
WRITER, READER, CUSTOM = (f"shop.{kind}-{DOMAIN}" for kind in ("cluster", "cluster-ro", "cluster-custom"))


def instance(number: int) -> str:
    """The name of one of the instances, which are counted from 1."""
    return f"shop-{number}.{DOMAIN}"


class Names:
    """The resolver of this process, as long as the patch holds: names of AWS' lead where `table` says, or nowhere."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.table: dict[str, Sequence[str]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", self._resolve)

    def _resolve(self, host: Any, *args: Any, **keywords: Any) -> Any:
        if not str(host).endswith(DOMAIN):
            return self._real(host, *args, **keywords)
        self.asked.append(host)
        if host not in self.table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for address in self.table[host] for found in self._real(address, *args, **keywords)]


class Face:
    """A cluster under names of AWS', each instance at an address of its own: `nodes[0]` is the writer."""

    def __init__(self, cluster: Any, names: Names, stack: ExitStack) -> None:
        self.nodes = cluster.nodes
        self.names = names
        self.scheme = cluster.url().partition("://")[0]
        self.port = free_port()
        self.relays: list[TcpRelay] = []
        for number, node in enumerate(self.nodes, 1):
            relay = TcpRelay(node.server.host, node.server.port, host=f"127.0.0.{number + 1}", port=self.port)
            self.relays.append(stack.enter_context(relay))
            names.table[instance(number)] = [relay.host]
        self.lead(WRITER, 1)
        self.lead(READER, *range(2, len(self.nodes) + 1))
        self.lead(CUSTOM, *range(2, len(self.nodes) + 1))

    def lead(self, name: str, *numbers: int) -> None:
        """Have a name lead to these instances from now on."""
        self.names.table[name] = [self.relays[number - 1].host for number in numbers]

    def address(self, number: int) -> str:
        """An instance, as `targets()` calls it."""
        return f"{instance(number)}:{self.port}"

    def url(self, *hosts: str, **query: Any) -> str:
        """For the application's user; by default to the cluster's writer endpoint."""
        options = "&".join(f"{name}={value}" for name, value in query.items())
        listed = ",".join(f"{host}:{self.port}" for host in hosts or [WRITER])
        url = f"{self.scheme}://{APP_USER}:{APP_PASSWORD}@{listed}/{APP_DATABASE}"
        return f"{url}?{options}" if options else url

    def list(self, *numbers: int) -> None:
        """Have the cluster list these instances, by the word of its writer."""
        ports = [self.nodes[number - 1].server.port for number in numbers]
        rows = ", ".join(f"('shop-{number}', {port})" for number, port in zip(numbers, ports, strict=True))
        with self._writer().server.admin(dbname=APP_DATABASE) as admin:
            admin.execute(f"delete from aws.instances; insert into aws.instances values {rows}")

    def _writer(self) -> Any:
        for node in self.nodes:
            with suppress(psycopg.OperationalError):  # it was killed
                if not node.ask("select pg_is_in_recovery()"):
                    return node
        raise AssertionError("there is no writer")


@contextmanager
def aurora(names: Names, standbys: int = 2) -> Iterator[Face]:
    """PostgreSQL that has what Aurora has, and refuses what Aurora refuses. It has one port for all its instances."""
    with postgresql.Cluster("15", standbys=standbys) as cluster, ExitStack() as stack:
        with cluster.nodes[0].server.admin(dbname=APP_DATABASE) as admin:
            for text in AURORA:
                admin.execute(text)
        face = Face(cluster, names, stack)
        face.list(*range(1, len(face.nodes) + 1))
        caught_up(cluster)
        yield face


@contextmanager
def multi_az_postgresql(names: Names, standbys: int = 2) -> Iterator[Face]:
    """PostgreSQL with the extension of a Multi-AZ DB cluster, which the application's user may not use yet."""
    with postgresql.Cluster("15", standbys=standbys) as cluster, ExitStack() as stack:
        face = Face(cluster, names, stack)
        with cluster.nodes[0].server.admin(dbname=APP_DATABASE) as admin:
            for text in MULTI_AZ:
                admin.execute(text.replace("{domain}", DOMAIN).replace("{port}", str(face.port)))
        face.list(*range(1, len(face.nodes) + 1))
        caught_up(cluster)
        yield face


@contextmanager
def multi_az_mariadb(names: Names) -> Iterator[Face]:
    """MariaDB with the table of a Multi-AZ DB cluster, which the application's user may not read yet."""
    with mysql.Cluster("mariadb-10.11") as cluster, ExitStack() as stack:
        face = Face(cluster, names, stack)
        rows = ", ".join(f"({number}, '{instance(number)}', {face.port})" for number in (1, 2))
        cluster.nodes[0].ask(
            "create table mysql.rds_topology (id int, endpoint varchar(255), port int)",
            f"insert into mysql.rds_topology values {rows}",
        )
        yield face


def caught_up(cluster: Any) -> None:
    """Wait until the standbys have all that the writer has."""
    here = cluster.nodes[0].ask("select pg_current_wal_lsn()::text")
    for node in cluster.nodes[1:]:
        postgresql.until(
            lambda node=node: node.ask(f"select pg_last_wal_replay_lsn() >= '{here}'"), "the standbys have it all"
        )


# Which of the instances a server is, its port tells. A standby takes for the writer the first one it knows: after a
# promotion that is an old view, until it follows the new writer.
INSTANCES = (
    "create schema aws",
    "create table aws.instances (server_id text, port int)",
    """create function aws.me() returns text stable security definer language sql as
    $$ select server_id from aws.instances where port = current_setting('port')::int $$""",
    """create function aws.writer() returns text stable security definer language sql as
    $$ select case when pg_is_in_recovery() then (select min(server_id) from aws.instances) else aws.me() end $$""",
    "grant usage on schema aws to public",
)
AURORA = (
    *INSTANCES,
    "set allow_system_table_mods = on",
    """create or replace view pg_catalog.pg_settings as select * from pg_show_all_settings() union all
    select 'rds.extensions', 'pg_trgm, aurora_stat_utils', unit, category, short_desc, extra_desc, context, vartype,
    source, min_val, max_val, enumvals, boot_val, reset_val, sourcefile, sourceline, pending_restart
    from pg_show_all_settings() where name = 'search_path'""",
    """create function pg_catalog.aurora_db_instance_identifier() returns text stable language sql as
    $$ select aws.me() $$""",
    """create function pg_catalog.aurora_replica_status() returns table (server_id text, session_id text,
    replica_lag_in_msec float8, cpu float8, last_update_timestamp timestamptz) stable security definer language sql as
    $$ select i.server_id, case when i.server_id = aws.writer() then 'MASTER_SESSION_ID' else 'b5f9a7c0' end,
    case when i.server_id <> aws.writer() then 12.5::float8 end, 3::float8,
    case when i.server_id <> aws.me() then now() end from aws.instances i $$""",
    "revoke execute on function pg_current_wal_lsn(), pg_last_wal_receive_lsn() from public",
    "revoke execute on function pg_walfile_name(pg_lsn), pg_stat_get_wal_receiver() from public",
)
MULTI_AZ = (
    *INSTANCES,
    "create schema rds_tools",
    """create function rds_tools.show_topology(client text) returns table (id text, endpoint text, port int)
    stable security definer language sql as
    $$ select 'db-' || server_id, server_id || '.{domain}', {port} from aws.instances $$""",
    """create function rds_tools.dbi_resource_id() returns text stable language sql as
    $$ select 'db-' || aws.me() $$""",
    """create function rds_tools.multi_az_db_cluster_source_dbi_resource_id() returns text stable language sql as
    $$ select 'db-' || aws.writer() $$""",
    "revoke execute on all functions in schema rds_tools from public",
)
GRANT = (
    f"grant usage on schema rds_tools to {APP_USER}",
    f"grant execute on all functions in schema rds_tools to {APP_USER}",
)
