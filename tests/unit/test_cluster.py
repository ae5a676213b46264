"""The search for a host, whoever searches and for what: hosts are answers in a table here."""

from __future__ import annotations

import time

import pytest

from rdsproxy_lib.backend import OpenFailed, Refusal
from rdsproxy_lib.cluster import Cluster
from rdsproxy_lib.topology import Answer, Endpoint, Role

A, B = Endpoint("db1", 5432), Endpoint("db2", 5432)


class Table:
    """An engine that answers for each host by a table; None: it does not answer."""

    admits_late = 0.0

    def __init__(self, **roles):
        self.roles = {Endpoint(host, 5432): role for host, role in roles.items()}
        self.asked = []

    def ask(self, login, timeout, endpoint):
        self.asked.append(endpoint)
        if self.roles[endpoint] is None:
            raise OpenFailed(OSError("no answer"), Refusal.TRANSIENT)
        return Answer(self.roles[endpoint])

    def error(self, kind, message):
        return TimeoutError(message)


def test_a_failover_that_is_decided_in_a_search_for_a_reader_is_told():
    """Connections to the old writer are closed then, though whoever searched found nothing."""
    engine = Table(db1=Role.READ_WRITE, db2=Role.READ_ONLY)
    retired = []
    cluster = Cluster(engine, [A, B], lambda: retired.append(cluster.view.writer))
    assert cluster.writer("login", time.monotonic() + 5) == A
    engine.roles = {A: None, B: Role.READ_WRITE}
    cluster.miss(A, "gone")
    with pytest.raises(OpenFailed, match="no host was a reader"):
        cluster.reader("login", time.monotonic() + 0.5, lambda endpoint: True)
    assert cluster.view.writer == B
    assert retired == [B]


def test_a_drained_host_is_nobodys_reader():
    """And nobody is told that none was one for no time at all."""
    engine = Table(db1=Role.READ_WRITE, db2=Role.READ_ONLY)
    cluster = Cluster(engine, [A, B], lambda: None)
    cluster.drain(B)
    with pytest.raises(OpenFailed, match=r"db2:5432: READ_ONLY, drained"):
        cluster.reader("login", time.monotonic() + 0.3, lambda endpoint: True)
    cluster.allow(B)
    assert cluster.reader("login", time.monotonic() + 5, lambda endpoint: True) == B
