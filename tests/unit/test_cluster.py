"""The search for a host, whoever searches and for what: hosts are answers in a table here."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from rdsproxy_lib import cluster as cluster_module
from rdsproxy_lib.backend import OpenFailed, Refusal
from rdsproxy_lib.cluster import Cluster
from rdsproxy_lib.topology import Answer, Endpoint, Observation, Role

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


def test_two_who_claim_to_be_the_writer_are_named():
    """Be it one server under two names: the error says what to do."""
    cluster = Cluster(Table(db1=Role.READ_WRITE, db2=Role.READ_WRITE), [A, B], lambda: None)
    said = r"db1:5432 and db2:5432 claim to be it at once: name each server once, and let one take writes\)"
    with pytest.raises(OpenFailed, match=said):
        cluster.writer("login", time.monotonic() + 0.3)


def test_a_drained_host_is_nobodys_reader():
    """And nobody is told that none was one for no time at all."""
    engine = Table(db1=Role.READ_WRITE, db2=Role.READ_ONLY)
    cluster = Cluster(engine, [A, B], lambda: None)
    cluster.drain(B)
    with pytest.raises(OpenFailed, match=r"db2:5432: READ_ONLY, drained"):
        cluster.reader("login", time.monotonic() + 0.3, lambda endpoint: True)
    cluster.allow(B)
    assert cluster.reader("login", time.monotonic() + 5, lambda endpoint: True) == B


def is_interrupted_at(number, caller, function):
    """Call a function; KeyboardInterrupt strikes as `caller` calls its n-th Python function, of whichever module."""
    left = number

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_back is not None and frame.f_back.f_code is caller.__code__:
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except (KeyboardInterrupt, OpenFailed):
        pass
    finally:
        sys.settrace(before)
    return left < 0


def test_an_interrupt_leaves_no_lock_held():
    """Wherever it strikes whoever reports what a host said: others go on."""
    number = 0
    while True:
        cluster = Cluster(Table(), [A, B], lambda: None)
        seen = Observation(A, time.monotonic(), Role.READ_WRITE)
        is_over = not is_interrupted_at(number, Cluster.report, lambda: cluster.report(seen))  # noqa: B023
        other = threading.Thread(target=cluster.miss, args=(B, "gone"), daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive(), number
        if is_over:
            break
        number += 1
    assert number > 1


def test_an_interrupt_leaves_nobody_who_waits(monkeypatch):
    """Wherever it strikes a search: the hosts are not asked for ever, and others may search."""
    monkeypatch.setattr(cluster_module, "ASK_AGAIN", 0.01)
    number = 0
    while True:
        engine = Table(db1=None, db2=Role.READ_ONLY)
        cluster = Cluster(engine, [A, B], lambda: None)
        search = lambda: cluster.writer("login", time.monotonic() + 0.03)  # noqa: B023, E731
        is_over = not is_interrupted_at(number, Cluster._search, search)
        deadline = time.monotonic() + 10
        while [each for each in threading.enumerate() if each.name.startswith("rdsproxy-ask-")]:
            assert time.monotonic() < deadline, number
            time.sleep(0.005)
        engine.roles[A] = Role.READ_WRITE
        assert cluster.writer("login", time.monotonic() + 10) == A
        cluster.close()
        if is_over:
            break
        number += 1
    assert number > 5
