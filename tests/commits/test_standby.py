"""A COMMIT that is cut while it waits for its standby, or that its server loses: what is told of it is true."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

import rdsproxy_lib
from tests.cluster import mysql, postgresql
from tests.cluster.history import run
from tests.cluster.postgresql import until
from tests.commits.places import Place, tables

WRITE = "insert into work values (%s)"
SECONDS = 60.0


class Committing(threading.Thread):
    """A thread that commits one piece of work, and keeps what it was told."""

    def __init__(self, conn: Any, number: int = 1) -> None:
        super().__init__(name="committing")
        self._conn = conn
        self.told: Any = None
        run(conn, WRITE, (number,))

    def run(self) -> None:
        try:
            self._conn.commit()
        except rdsproxy_lib.Error as error:
            self.told = error
        else:
            self.told = "committed"

    def result(self) -> Any:
        self.join(SECONDS)
        assert not self.is_alive(), "it hangs"
        return self.told


class Pair:
    """A writer and one standby that can be kept from hearing of anything; `pair.nodes` are the cluster's."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.old, self.new = cluster.nodes[:2]
        self.is_postgresql = cluster.kind.startswith("postgresql")

    def prepare(self) -> None:
        for order in tables(self.cluster.kind):
            if order.startswith("grant") and not self.is_postgresql:
                continue
            self.ask(self.old, order.replace("app.", ""))
        if self.is_postgresql:
            self.ask(self.old, "alter table work owner to app")
        until(lambda: self.has_table(self.new), "the tables are on the standby")

    def ask(self, node: Any, text: str) -> list[Any]:
        """Past the relay, as the superuser."""
        if self.is_postgresql:
            with node.server.admin(dbname="app") as admin:
                return run(admin, text)
        with node.server.admin(database="app") as admin:
            return run(admin, text)

    def has_table(self, node: Any) -> bool:
        try:
            self.ask(node, "select count(*) from tokens")
        except Exception:
            return False
        return True

    def is_there(self, node: Any, number: int = 1) -> bool:
        ((count,),) = self.ask(node, f"select count(*) from work where number = {number}")
        assert count < 2
        return bool(count)

    def cut_off(self) -> None:
        """The standby hears nothing more of the writer."""
        if self.is_postgresql:
            self.ask(self.new, "alter system set primary_conninfo = ''")
            self.ask(self.new, "select pg_reload_conf()")
            until(lambda: self.old.ask("select count(*) from pg_stat_replication") == 0, "it is cut off")
        elif self.old.server.is_mariadb:
            self.new.ask("stop slave io_thread")
        else:
            self.new.ask("stop replica io_thread")

    def reunite(self) -> None:
        if self.is_postgresql:
            self.ask(self.new, "alter system reset primary_conninfo")
            self.ask(self.new, "select pg_reload_conf()")
        else:
            self.new.ask("start slave io_thread")

    def waiting(self) -> bool:
        """Whether a COMMIT waits for the standby."""
        if self.is_postgresql:
            return bool(self.old.ask("select count(*) from pg_stat_activity where wait_event = 'SyncRep'"))
        (_, waiting) = self.old.ask("show status like 'Rpl_semi_sync_master_wait_sessions'")
        return waiting != "0"

    def break_off(self) -> None:
        """End the session whose COMMIT waits: it does not wait any longer."""
        if self.is_postgresql:
            self.ask(self.old, "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
            return
        waits = "state like 'Waiting for semi-sync%'"
        for (number,) in self.ask(self.old, f"select id from information_schema.processlist where {waits}"):
            self.ask(self.old, f"kill {number}")

    def url(self) -> str:
        return str(self.cluster.url())


CLUSTERS: dict[str, Callable[[], Any]] = {
    "postgresql-15": lambda: postgresql.Cluster("15", standbys=1),
    "mariadb-10.11": lambda: mysql.Cluster("mariadb-10.11"),
    "mysql-9.7": lambda: mysql.Cluster("mysql-9.7"),
}


@contextmanager
def pair_of(kind: str) -> Iterator[Pair]:
    with CLUSTERS[kind]() as cluster:
        pair = Pair(cluster)
        if pair.is_postgresql:
            # The standby's own source of the log is in postgresql.auto.conf, where it is taken out and put back.
            source = f"host={pair.old.server.socket_dir} port={pair.old.server.port} user=postgres"
            pair.new.server.options["primary_conninfo"] = source
            pair.new.server.restart()
            pair.ask(pair.new, "alter system reset primary_conninfo")
            pair.ask(pair.new, "select pg_reload_conf()")
            until(lambda: pair.old.ask("select count(*) from pg_stat_replication") == 1, "the standby is back")
        pair.prepare()
        yield pair


@contextmanager
def proxy_of(pair: Pair, **options: Any) -> Iterator[rdsproxy_lib.Proxy]:
    given = {"resolve_commits": "tokens", "max_connections": 4, "connection_borrow_timeout": 30, **options}
    with rdsproxy_lib.Proxy(pair.url(), **given) as proxy:
        yield proxy


WAITING = [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgresql-15", "mariadb-10.11")]


def cut_while_it_waits(pair: Pair, conn: Any) -> Committing:
    """A COMMIT that waits for the standby, and whose connection is reset."""
    pair.cut_off()
    committing = Committing(conn)
    committing.start()
    until(pair.waiting, "the COMMIT waits for the standby")
    pair.old.relay.reset_all()
    return committing


@pytest.mark.slow
@pytest.mark.parametrize("kind", WAITING)
def test_the_standby_comes_back(kind):
    """Nothing is told as long as the COMMIT waits; then it is committed, on both."""
    with pair_of(kind) as pair, proxy_of(pair) as proxy:
        conn = proxy.connect(autocommit=False)
        committing = cut_while_it_waits(pair, conn)
        time.sleep(2.5)
        assert committing.is_alive(), f"it was told {committing.told!r} while nobody could know"
        pair.reunite()
        assert committing.result() == "committed"
        assert pair.is_there(pair.old)
        until(lambda: pair.is_there(pair.new), "the standby has it")
        conn.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", WAITING)
def test_the_standby_does_not_come_back(kind):
    """Unknown, when the time is over; also where the writer breaks off the wait, so that the work can be read."""
    with pair_of(kind) as pair, proxy_of(pair, connection_borrow_timeout=4) as proxy:
        conn = proxy.connect(autocommit=False)
        committing = cut_while_it_waits(pair, conn)
        pair.break_off()
        until(lambda: pair.is_there(pair.old), "it can be read, and is on no standby")
        assert isinstance(committing.result(), rdsproxy_lib.OutcomeUnknown)
        pair.reunite()  # so that the server can stop
        conn.close()


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [True, False])
@pytest.mark.parametrize("kind", WAITING)
def test_the_standby_is_promoted_without_it(kind, is_killed):
    """It is not committed, and what is run again is there once; also where the old writer lives on."""
    with pair_of(kind) as pair, proxy_of(pair) as proxy:
        conn = proxy.connect(autocommit=False)
        committing = cut_while_it_waits(pair, conn)
        time.sleep(0.5)
        if is_killed:
            pair.old.kill()
        elif not pair.is_postgresql:
            pair.old.relay.stop()  # of two that claim to be the writer, and have no epoch, none would be taken for it
        pair.new.promote()
        told = committing.result()
        assert isinstance(told, rdsproxy_lib.TransactionLost), told
        assert told.retry_safe
        assert not pair.is_there(pair.new)
        if pair.is_postgresql:
            pair.ask(pair.new, "alter system set synchronous_standby_names = ''")
            pair.ask(pair.new, "select pg_reload_conf()")
        run(conn, WRITE, (1,))
        conn.commit()
        assert pair.is_there(pair.new)
        conn.close()


@pytest.mark.slow
@pytest.mark.server("mysql-9.7")
def test_a_replica_that_takes_over_without_the_commit():
    """MySQL replicates behind the COMMIT: one that its writer acknowledged to nobody, and took along, is lost."""
    with pair_of("mysql-9.7") as pair, proxy_of(pair) as proxy:
        conn = proxy.connect(autocommit=False)
        run(conn, WRITE, (-1,))
        before = pair.old.relay.traffic()
        conn.commit()
        size = (pair.old.relay.traffic() - before).bytes_to_client
        until(lambda: pair.is_there(pair.new, -1), "the replica follows")
        pair.cut_off()
        survey, calls = proxy.commits._survey, []

        def fail_over(login: Any, seconds: float) -> None:
            if not calls:
                calls.append(pair.is_there(pair.old))
                pair.old.kill()
                pair.new.promote()
            survey(login, seconds)

        proxy.commits._survey = fail_over
        run(conn, WRITE, (1,))
        pair.old.relay.cut_after(size - 3, "to_client")
        with pytest.raises(rdsproxy_lib.TransactionLost):
            conn.commit()
        assert calls == [True], "the old writer had committed it"
        assert not pair.is_there(pair.new)
        conn.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in CLUSTERS])
def test_a_session_on_a_standby(kind):
    """It reads, and its COMMITs leave nothing: there is nothing that takes a token."""
    with pair_of(kind) as pair:
        host = pair.cluster.url().replace(f"{pair.old.address},", "")
        with rdsproxy_lib.Proxy(host, resolve_commits="tokens") as proxy:
            conn = proxy.connect(autocommit=False)
            assert run(conn, "select count(*) from work") == [(0,)]
            conn.commit()
            run(conn, "select 1")
            run(conn, "commit")
            conn.close()


ASYNCHRONOUS = {
    "postgresql-15": {"synchronous_commit": "off", "wal_writer_delay": "10s"},
    "mariadb-10.11": {"innodb_flush_log_at_trx_commit": 0, "innodb_flush_log_at_timeout": 2700},
    "mysql-9.7": {"innodb_flush_log_at_trx_commit": 0, "innodb_flush_log_at_timeout": 2700},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ASYNCHRONOUS])
def test_an_asynchronous_commit_that_its_server_lost(kind):
    """The server had it in memory only when it was killed, and comes back without it: not committed."""
    with Place(kind, **ASYNCHRONOUS[kind]) as place, place.proxy() as proxy:
        conn = proxy.connect(autocommit=False)
        run(conn, WRITE, (-1,))
        before = place.relay.traffic()
        conn.commit()
        size = (place.relay.traffic() - before).bytes_to_client
        if place.is_postgresql:
            with place.server.admin() as admin:
                admin.execute("checkpoint")
            hold_the_log(place.server)
        calls = []

        def crash(login: Any, seconds: float) -> None:
            if not calls:
                calls.append(place.is_there(1))
                place.server.kill()
                place.server.start()

        proxy.commits._survey = crash
        run(conn, WRITE, (1,))
        place.relay.cut_after(size - 3, "to_client")
        with pytest.raises(rdsproxy_lib.TransactionLost):
            conn.commit()
        assert calls == [True], "it was committed, and could be read"
        assert not place.is_there(1), "the crash has undone it"
        conn.close()


def hold_the_log(server: Any) -> None:
    """Stop the process that writes the log of asynchronous commits."""
    (writer,) = [each for each in psutil.Process(server.pid).children() if "walwriter" in "".join(each.cmdline())]
    writer.suspend()
