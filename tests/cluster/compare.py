"""`python -m tests.cluster.compare`: who writes how soon after a promotion, side by side in the same events.

On PostgreSQL: this library, psycopg_pool over the same hosts with target_session_attrs=read-write, and the AWS Advanced
Python Wrapper with its plugin `failover`; those that are not installed are left out. The wrapper asks Aurora's
functions for the hosts: the servers are given such functions for it. Its newer plugin, `failover_v2`, asks for them
only when a host is lost, and none but that host, unless that one's name is an endpoint of Aurora's. What the wrapper
says to plain hosts is written below the table.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import psycopg

from tests.cluster import postgresql
from tests.cluster.recovery import INSERT, Write, ours, promote
from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER

# What Aurora's functions tell, as far as a server can know it here: itself, and where it is a standby, that the first
# host is the writer.
FACE = """
create function pg_catalog.aurora_db_instance_identifier() returns text language sql stable
    as $$ select current_setting('cluster_name') $$;
create function pg_catalog.aurora_replica_status(out server_id text, out session_id text, out cpu float8,
    out replica_lag_in_msec float8, out last_update_timestamp timestamptz) returns setof record language sql stable
    as $$ select id, case when id = case when pg_is_in_recovery() then '1' else current_setting('cluster_name') end
                     then 'MASTER_SESSION_ID' else 'session-' || id end, 1, 1, now()
          from unnest(array['1', '2']) id $$;
"""


class Cluster(postgresql.Cluster):
    """A writer and a standby with Aurora's functions, on addresses that end in their ids, and on one port."""

    def _begin(self) -> None:
        super()._begin()
        first = self.nodes[0]
        for number, node in enumerate(self.nodes, start=1):
            node.relay.stop()
            node.relay.host, node.relay.port = f"127.0.0.{number}", first.relay.port
            node.relay.start()
            with node.server.admin() as admin:
                admin.execute(f"alter system set cluster_name = '{number}'")
            node.server.stop()
            node.server.start()
        with first.server.admin(dbname=APP_DATABASE, options="-c allow_system_table_mods=on") as admin:
            admin.execute(FACE)
        postgresql.until(
            lambda: first.ask("select count(*) from pg_stat_replication where sync_state = 'quorum'") == 1,
            "the standby streams",
        )


@contextmanager
def psycopg_pool(cluster: Any, **options: Any) -> Iterator[Write]:
    """Its pool of at most four; libpq looks for the writer whenever a connection is opened."""
    conninfo = psycopg.conninfo.make_conninfo(
        host=",".join(node.relay.host for node in cluster.nodes),
        port=",".join(str(node.relay.port) for node in cluster.nodes),
        user=APP_USER,
        password=APP_PASSWORD,
        dbname=APP_DATABASE,
        target_session_attrs="read-write",
        connect_timeout=2,
    )
    pool_class = import_module("psycopg_pool").ConnectionPool
    if options.pop("checks", False):
        options["check"] = pool_class.check_connection
    with pool_class(conninfo, min_size=2, max_size=4, kwargs={"autocommit": True}, open=False, **options) as pool:
        pool.wait()

        def write() -> None:
            with pool.connection() as conn:
                conn.execute(INSERT)

        yield write


@contextmanager
def wrapper(cluster: Any, **options: Any) -> Iterator[Write]:
    """One connection of the AWS wrapper, opened anew where it says that it cannot go on."""
    package = import_module("aws_advanced_python_wrapper")
    errors = import_module("aws_advanced_python_wrapper.errors")
    first = cluster.nodes[0].relay
    held: list[Any] = []

    def connect() -> Any:
        return package.AwsWrapperConnection.connect(
            psycopg.Connection.connect,
            f"host={first.host} port={first.port} user={APP_USER} password={APP_PASSWORD} dbname={APP_DATABASE}",
            autocommit=True,
            connect_timeout=2,
            **options,
        )

    def write() -> None:
        if not held:
            held.append(connect())
        try:
            with held[0].cursor() as cursor:
                cursor.execute(INSERT)
        except errors.FailoverSuccessError:  # it is connected to the new writer
            raise
        except Exception:
            with suppress(Exception):
                held.pop().close()
            raise

    write()
    yield write
    if held:
        held.pop().close()
    package.release_resources()


def clients(cluster: Any) -> Iterator[tuple[str, Any]]:
    """Who takes part."""
    yield "rdsproxy_lib, monitor=True", ours(cluster, monitor=True)
    yield "rdsproxy_lib, monitor=False", ours(cluster, monitor=False)
    if find_spec("psycopg_pool") is not None:
        yield "psycopg_pool", psycopg_pool(cluster)
        yield "psycopg_pool, check_connection", psycopg_pool(cluster, checks=True)
    if find_spec("aws_advanced_python_wrapper") is not None:
        port = cluster.nodes[0].relay.port
        face = {"wrapper_dialect": "aurora-pg", "cluster_instance_host_pattern": f"127.0.0.?:{port}"}
        yield "AWS wrapper, plugin failover", wrapper(cluster, plugins="failover", cluster_id=str(port), **face)


def on_plain_hosts() -> str:
    """What the AWS wrapper does with hosts that have no functions of Aurora's, when the writer dies."""
    if find_spec("aws_advanced_python_wrapper") is None:
        return "aws_advanced_python_wrapper is not installed"
    with postgresql.Cluster("15", 1) as cluster:
        with psycopg.connect(**cluster.nodes[0].server.parameters(), autocommit=True) as conn:
            conn.execute("create table recovery (number int)")
        with wrapper(cluster, failover_timeout_sec="5") as write:
            cluster.nodes[0].kill()
            cluster.nodes[1].promote()
            answers: dict[str, None] = {}
            until = time.monotonic() + 5
            while time.monotonic() < until:
                try:
                    write()
                except Exception as error:
                    answers[f"{type(error).__name__}: {error}".split("\n")[0]] = None
                else:
                    return "it wrote"
                time.sleep(0.1)
    return "no write within 5 s: " + "; ".join(answers)


def main() -> int:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--events", type=int, default=10, help="promotions, each on a cluster of its own (10)")
    parser.add_argument("--outage", type=float, default=1.0, help="about how many seconds there is no writer (1)")
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)  # each of them tells of its attempts
    seconds: dict[str, list[float]] = {}
    dice = random.Random(1)
    for _ in range(arguments.events):
        with Cluster("15", 1) as cluster:
            for name, each in promote(cluster, clients(cluster), arguments.outage * dice.uniform(0.5, 1.5)).items():
                seconds.setdefault(name, []).append(each)
    print(f"PostgreSQL 15, psycopg {psycopg.__version__}, {arguments.events} promotions after a kill -9 of the writer,")
    print(f"each after {arguments.outage / 2:g} to {arguments.outage * 1.5:g} s without one")
    print("milliseconds from the first INSERT that any client could have done to each one's own:\n")
    line = "{:<32} {:>8} {:>8} {:>8}"
    print(line.format("", "median", "least", "most"))
    for name, values in seconds.items():
        print(
            line.format(name, *(f"{each * 1000:.0f}" for each in (statistics.median(values), min(values), max(values))))
        )
    print(f"\nAWS wrapper over the same hosts without Aurora's functions: {on_plain_hosts()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
