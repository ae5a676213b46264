"""Where the hosts come from: those that a cluster lists, and a name that moves in DNS."""

from __future__ import annotations

import logging
import threading
import time

import pytest

import rdsproxy_lib
from rdsproxy_lib import cluster as cluster_module
from tests.cluster import aws
from tests.cluster.aws import CUSTOM, READER, WRITER, Names, instance
from tests.cluster.history import run
from tests.cluster.postgresql import until

PLACE = {"postgresql": "select current_setting('port')::int", "mysql": "select @@port"}


@pytest.fixture
def names(monkeypatch):
    """The resolver of this process, for one test."""
    return Names(monkeypatch)


def port_of(conn):
    """Which server a connection is on."""
    ((port,),) = run(conn, PLACE[conn.rdsproxy.engine.name])
    return port


def healths(proxy):
    """What `targets()` says, by host."""
    return {each.host: (each.role, each.state) for each in proxy.targets()}


def promote(face, old, new):
    """The writer dies, another instance takes its place. No name moves."""
    face.nodes[old - 1].kill()
    face.nodes[new - 1].promote()


@pytest.mark.server("postgresql-15")
def test_auroras_hosts_are_found_by_the_clusters_name(names):
    """All are listed with role and lag; the writer dies, and the next statement runs on the new one: DNS never moved."""
    with aws.aurora(names) as face, rdsproxy_lib.Proxy(face.url(), max_connections=2) as proxy:
        assert healths(proxy) == {f"{WRITER}:{face.port}": ("UNKNOWN", "REGISTERED")}
        with proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[0].server.port
            until(lambda: "UNKNOWN" not in str(healths(proxy)), "all were heard")
            assert healths(proxy) == {
                face.address(1): ("READ_WRITE", "AVAILABLE"),
                face.address(2): ("READ_ONLY", "AVAILABLE"),
                face.address(3): ("READ_ONLY", "AVAILABLE"),
            }
            lags = {endpoint.host: seen.lag for endpoint, seen in proxy.cluster.view.members.items()}
            assert lags == {instance(1): None, instance(2): 0.0125, instance(3): 0.0125}
            run(conn, "create table kept (id int)")
            promote(face, 1, 2)
            conn.execute("insert into kept values (1)")
            assert port_of(conn) == face.nodes[1].server.port
            assert healths(proxy)[face.address(2)] == ("READ_WRITE", "AVAILABLE")
            assert healths(proxy)[face.address(1)][1] == "UNAVAILABLE"
            assert face.address(2) in repr(proxy)
