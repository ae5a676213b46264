"""Something happens to the servers: what clients were told is true, and who was parked notices nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

import rdsproxy_lib
from tests.cluster import mysql, postgresql
from tests.cluster.faults import FAULTS, Fault, Stage
from tests.cluster.history import TABLE, Clients, History, Outcome, run
from tests.cluster.matrix import Record
from tests.cluster.nodes import until

CLUSTERS: dict[str, Callable[[int], Any]] = {
    "postgresql-15": lambda standbys: postgresql.Cluster("15", standbys),
    "mariadb-10.11": lambda standbys: mysql.Cluster("mariadb-10.11", standbys),
    "mysql-9.7": lambda standbys: mysql.Cluster("mysql-9.7", standbys, waits=True),
}
ON_MYSQL = ("kill", "switch_over", "freeze")
"""It takes longer to start, and is for the library what MariaDB is."""
MONITOR: dict[str, object] = {
    "monitor": True,
    "failure_detection_time": 0.5,
    "failure_detection_interval": 0.2,
    "failure_detection_count": 2,
}
REPEATS = 10
"""In the long run."""
READS = ("read", "result", "stream")
READERS = 6
"""Of the sixteen threads, those that only read."""
MOST_CUT = 48
"""Reads and pinned sessions that one failover may cut: a few for each thread."""


def rows():
    """Each fault × engine × monitor; of those that are repeated in the short run as well, the first repeats of them."""
    for name in CLUSTERS:
        for fault in FAULTS:
            if name == "mysql-9.7" and fault.name not in ON_MYSQL:
                continue
            for has_monitor in (False, True):
                for repeat in range(REPEATS):
                    marks = [pytest.mark.server(name), pytest.mark.slow]
                    if repeat >= (fault.repeats if name != "mysql-9.7" else 1):
                        marks.append(pytest.mark.long)
                    identity = f"{fault.name}-{name}-{'monitored' if has_monitor else 'alone'}-{repeat + 1}"
                    yield pytest.param(name, fault, has_monitor, id=identity, marks=marks)


@pytest.fixture(scope="module")
def record():
    """Rows of a long run that was broken off are not run again: FAULT_MATRIX_DIR."""
    return Record()


@pytest.mark.parametrize(("name", "fault", "has_monitor"), list(rows()))
def test_what_clients_were_told_is_true(name, fault, has_monitor, record, request, record_property):
    """Sixteen threads work while the fault comes: nothing lost, doubled or wrongly reported; none hangs."""
    identity = {"id": request.node.callspec.id, "fault": fault.name, "engine": name, "monitor": has_monitor}
    known = record.find(identity["id"])
    row = known or play(identity, record)
    record_property("fault", json.dumps(row))
    assert row["complaints"] == []
    if known:
        pytest.skip("it is in the record: through, with these sources")


def play(identity: dict[str, Any], record: Record) -> dict[str, Any]:
    """One row of the matrix on a cluster of its own, and into the record with it, however it ends."""
    fault = next(each for each in FAULTS if each.name == identity["fault"])
    try:
        with CLUSTERS[identity["engine"]](fault.standbys) as cluster:
            history, outcome = go_through(cluster, fault, identity["monitor"])
    except AssertionError as error:
        nothing = Outcome(*[0] * len(dataclasses.fields(Outcome)))
        record.add({**identity, **dataclasses.asdict(nothing), "complaints": [str(error)]})
        raise
    row = {**identity, **dataclasses.asdict(outcome), "complaints": complaints(fault, cluster.kind, history, outcome)}
    record.add(row)
    return row


def complaints(fault: Fault, engine: str, history: History, outcome: Outcome) -> list[str]:
    """What is not as it has to be."""
    found = [f"{name}: {getattr(outcome, name)}" for name in ("lost", "doubled", "wrong") if getattr(outcome, name)]
    found += [f"{kind}: {error!r}, from {error.__cause__!r}" for kind, error in history.errors[:10]]
    if fault.spares_all and (history.cut or outcome.unknown or outcome.undone):
        found.append(f"noticed: {history.cuts}, {outcome.unknown} unknown, {outcome.undone} undone")
    if fault.takes_readers and (
        history.cut > READERS or set(history.cuts) - set(READS) or outcome.unknown or outcome.undone
    ):
        found.append(f"readers: {history.cuts}, {outcome.unknown} unknown, {outcome.undone} undone")
    if engine in fault.spares and history.cut_alone:
        found.append(f"outside of transactions: {history.cut_alone}")
    if fault.moves and history.cut > MOST_CUT:
        found.append(f"work does not wait for the writer: {history.cuts}")
    return found


def go_through(cluster: Any, fault: Fault, has_monitor: bool) -> tuple[History, Outcome]:
    """The clients work, the fault happens, and they go on; then what they were told is compared with what there is."""
    options = MONITOR if has_monitor else {"monitor": False}
    with rdsproxy_lib.Proxy(cluster.url(), max_connections=10, connection_borrow_timeout=30, **options) as proxy:
        with proxy.connect(autocommit=True) as conn:
            run(conn, TABLE)
        with Clients(proxy, takes_readers=fault.takes_readers) as clients:
            stage = Stage(cluster, clients, has_monitor)
            until(lambda: clients.count() > 50, "the clients work")
            witness = proxy.connect(autocommit=False)
            run(witness, "insert into history values (0)")
            fault.strike(stage)
            if fault.spares_all or fault.takes_readers:
                run(witness, "select 1")
            elif not fault.spares and not fault.cuts_some:
                with pytest.raises(rdsproxy_lib.TransactionLost):
                    run(witness, "select 1")
            witness.rollback()
            witness.close()
            go_on(clients)
            if fault.hides and has_monitor:
                stage.old.relay.thaw()
                stage.old.resume()
                go_on(clients)
        clients.check_parked()
        with proxy.connect(autocommit=True) as conn:
            present = [number for (number,) in run(conn, "select number from history")]
        writer = stage.new if fault.moves else stage.old
        targets = [target for target in proxy.targets() if target.role == "READ_WRITE" and target.state == "AVAILABLE"]
        assert [target.host for target in targets] == [writer.address]
    return clients.history, clients.history.outcome(present)


def go_on(clients: Clients) -> None:
    """Every thread gets through something that it has begun after this."""
    turns = clients.turns()
    until(lambda: clients.have_gone_on_since(turns), "every client goes on")
