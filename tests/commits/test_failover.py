"""Clients that work through a failover with `resolve_commits`: nothing is lost, doubled or wrongly reported."""

from __future__ import annotations

import time
from typing import Any

import pytest

import rdsproxy_lib
from tests.cluster.history import TABLE, Clients, run
from tests.cluster.postgresql import until
from tests.commits.test_standby import WAITING, pair_of


class Transactions(Clients):
    """All of them work in transactions."""

    def _write(self, conn: Any, dice: Any) -> None:
        if conn.autocommit is True:  # of psycopg; PyMySQL's is a method
            conn.autocommit = False
        elif callable(conn.autocommit):
            conn.autocommit(False)
        self._transact(conn, dice)

    _read = _read_all = _stream = _use_pinned = _write


def kill(pair: Any) -> None:
    """The writer dies, and the standby takes its place."""
    pair.old.kill()
    time.sleep(0.2)
    pair.new.promote()
    if pair.is_postgresql:
        pair.ask(pair.new, "alter system set synchronous_standby_names = ''")
        pair.ask(pair.new, "select pg_reload_conf()")


def reset_storm(pair: Any) -> None:
    """All connections are reset, again and again, those that ask among them."""
    for _ in range(25):
        pair.old.relay.reset_all()
        time.sleep(0.12)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [kill, reset_storm])
@pytest.mark.parametrize("kind", WAITING)
def test_each_client_is_told_the_truth(kind, fault):
    """Eight threads commit while the connections break: no outcome is left open, and each is as it was told."""
    with pair_of(kind) as pair:
        options = {"resolve_commits": "tokens", "max_connections": 6, "connection_borrow_timeout": 40}
        with rdsproxy_lib.Proxy(pair.url(), **options) as proxy:
            with proxy.connect(autocommit=True) as conn:
                run(conn, TABLE)
            with Transactions(proxy, threads=8) as clients:
                until(lambda: clients.count() > 100, "the clients work")
                fault(pair)
                before = clients.count()
                until(lambda: clients.count() > before + 100, "the clients go on")
            clients.check_parked()
            history = clients.history
            with proxy.connect(autocommit=True) as conn:
                present = [number for (number,) in run(conn, "select number from history")]
        assert history.errors == []
        assert history.unknown == [], "each could be told"
        history.check(present)
