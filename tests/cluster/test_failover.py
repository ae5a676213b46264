"""The writer goes, another host becomes it: what clients were told is true, and who was parked notices nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import rdsproxy_lib
from tests.cluster import mysql, postgresql
from tests.cluster.history import TABLE, Clients, run
from tests.cluster.postgresql import until

CLUSTERS: dict[str, Callable[[], Any]] = {
    "postgresql-15": lambda: postgresql.Cluster("15", standbys=2),
    "mariadb-10.11": lambda: mysql.Cluster("mariadb-10.11"),
    "mysql-9.7": lambda: mysql.Cluster("mysql-9.7"),
}


def kill(old: Any, new: Any) -> None:
    """The writer dies, and another node is promoted."""
    old.kill()
    time.sleep(0.2)
    new.promote()


def switch_over(old: Any, new: Any) -> None:
    """Planned: the old writer takes no more writes, the new one has all of them before it takes its place."""
    old.demote()
    time.sleep(0.2)
    new.promote()


def restart(old: Any, new: Any) -> None:
    """The writer dies and comes back."""
    old.kill()
    time.sleep(0.2)
    old.server.start()


def reset_storm(old: Any, new: Any) -> None:
    """All connections are reset, again and again."""
    for _ in range(10):
        old.relay.reset_all()
        time.sleep(0.2)


FAULTS = [
    pytest.param(name, fault, marks=pytest.mark.server(name))
    for name in CLUSTERS
    for fault in (kill, switch_over, restart, reset_storm)
    if name != "mysql-9.7" or fault in (kill, switch_over)  # it takes seven seconds to start
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_what_clients_were_told_is_true(name, fault):
    """Eight threads read and write while the writer changes: nothing lost, doubled or wrongly reported; none hangs."""
    with CLUSTERS[name]() as cluster:
        go_through(cluster, fault)


def go_through(cluster: Any, fault: Callable[[Any, Any], None]) -> None:
    """The clients work, the fault happens, and they go on; then what they were told is compared with what there is."""
    old, new = cluster.nodes[:2]
    with rdsproxy_lib.Proxy(cluster.url(), max_connections=6, connection_borrow_timeout=30) as proxy:
        with proxy.connect(autocommit=True) as conn:
            run(conn, TABLE)
        with Clients(proxy, threads=8) as clients:
            until(lambda: clients.count() > 100, "the clients work")
            witness = proxy.connect(autocommit=False)
            run(witness, "insert into history values (0)")
            fault(old, new)
            if fault is not switch_over:  # which may let it go on
                with pytest.raises(rdsproxy_lib.TransactionLost):
                    run(witness, "select 1")
            witness.rollback()
            witness.close()
            before = clients.count()
            until(lambda: clients.count() > before + 100, "the clients go on")
        clients.check_parked()
        history = clients.history
        with proxy.connect(autocommit=True) as conn:
            present = [number for (number,) in run(conn, "select number from history")]
        writer = new if fault in (kill, switch_over) else old
        assert [target.host for target in proxy.targets() if target.role == "READ_WRITE"] == [writer.address]
    assert history.errors == []
    assert history.cut < 60, "reads outside of transactions wait for the writer"
    if cluster.kind == "mariadb-10.11" and fault is switch_over:
        assert history.cut == 0, "nothing was cut"
    if cluster.kind == "mysql-9.7" and fault is kill:  # it replicates without waiting: its own loss is not ours
        history.acknowledged = [number for number in history.acknowledged if number in set(present)]
    history.check(present)
