"""Switchovers that are wanted: nobody who works outside a transaction gets an error. And connect() in an outage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from tests.cluster import mysql, postgresql
from tests.cluster.history import TABLE, Clients, run
from tests.cluster.postgresql import until
from tests.servers import APP_PASSWORD

CLUSTERS: dict[str, Callable[[], Any]] = {
    "postgresql-15": lambda: postgresql.Cluster("15", standbys=1),
    "mariadb-10.11": lambda: mysql.Cluster("mariadb-10.11"),
}
THREADS = 16
FOLLOWING = "select count(*) from pg_stat_replication where state = 'streaming'"


def of_each_engine(function):
    """Run the test on each kind of cluster."""
    names = [pytest.param(name, marks=pytest.mark.server(name)) for name in CLUSTERS]
    return pytest.mark.parametrize("name", names)(function)


@contextmanager
def clients_at_work(cluster: Any) -> Iterator[tuple[rdsproxy_lib.Proxy, Clients]]:
    """Threads that read and write; afterwards they go on, and what they were told is compared with what there is."""
    with rdsproxy_lib.Proxy(cluster.url(), max_connections=6, connection_borrow_timeout=60) as proxy:
        with proxy.connect(autocommit=True) as conn:
            run(conn, TABLE)
        with Clients(proxy, THREADS) as clients:
            until(lambda: clients.count() > 100, "the clients work")
            yield proxy, clients
            before = clients.count()
            until(lambda: clients.count() > before + 100, "the clients go on")
        clients.check_parked()
        with proxy.connect(autocommit=True) as conn:
            clients.history.check(number for (number,) in run(conn, "select number from history"))
    assert clients.history.errors == []
    assert clients.history.unknown == []
    assert clients.history.cut == 0, "no read had an error"


@pytest.mark.slow
@of_each_engine
def test_a_switchover_under_a_pause_is_no_error_to_anybody(name):
    """pause, demote, promote, resume, while 16 threads work: transactions end before, and all else waits."""
    with CLUSTERS[name]() as cluster:
        old, new = cluster.nodes[:2]
        with clients_at_work(cluster) as (proxy, clients):
            proxy.pause(timeout=20)
            assert proxy.stats().database_connections == 0
            lent = proxy.stats().database_connections_borrow_requests
            old.demote()
            new.promote()
            assert proxy.stats().database_connections_borrow_requests == lent, "nothing ran meanwhile"
            proxy.resume()
        assert clients.history.undone == [], "not even a transaction was undone"
        assert writers(proxy) == [new.address]


@pytest.mark.slow
@of_each_engine
def test_draining_the_old_writer_is_no_error_to_anybody(name):
    """drain, demote, promote: work goes on with the promotion. The old writer stays without, until it is given free."""
    with CLUSTERS[name]() as cluster:
        old, new = cluster.nodes[:2]
        with clients_at_work(cluster) as (proxy, clients):
            proxy.drain(old.address, timeout=20)
            assert proxy.stats().database_connections == 0
            acknowledged = clients.count()
            old.demote()
            (health,) = (each for each in proxy.targets() if each.host == old.address)
            assert (health.state, (health.reason or "").split(":")[0]) == ("UNAVAILABLE", "DRAINED")
            new.promote()
            until(lambda: clients.count() > acknowledged, "the clients go on by themselves")
            proxy.resume(old.address)
        assert clients.history.undone == [], "not even a transaction was undone"
        assert writers(proxy) == [new.address]


@pytest.mark.slow
@pytest.mark.server("postgresql-15")
def test_maintenance_from_host_to_host():
    """Each is drained, stopped and comes back as a reader, while 16 threads work; then the first one writes again."""
    with postgresql.Cluster("15", standbys=1) as cluster:
        with clients_at_work(cluster) as (proxy, clients):
            for old, new in (cluster.nodes, reversed(cluster.nodes)):
                proxy.drain(old.address, timeout=20)
                old.demote()
                new.promote()
                old.follow(new)
                before = clients.count()
                proxy.resume(old.address)
                until(lambda before=before: clients.count() > before + 50, "the clients go on")
                assert writers(proxy) == [new.address]
                until(lambda new=new: new.ask(FOLLOWING) == 1, "the other one follows")
        assert clients.history.undone == []


@pytest.mark.server("mariadb-10.11")
def test_what_a_host_said_before_it_refused_proves_nothing():
    """It was heard as the writer a moment before it is demoted: the statement that finds out is sent again."""
    with mysql.Cluster("mariadb-10.11") as cluster, rdsproxy_lib.Proxy(cluster.url()) as proxy:
        old, new = cluster.nodes
        with proxy.connect(autocommit=True) as conn:
            run(conn, TABLE)
            promoting = threading.Timer(0.3, new.promote)
            promoting.start()
            try:
                proxy.cluster.hear(conn.rdsproxy.login, proxy.cluster.view.writer)
                old.demote()
                run(conn, "insert into history values (1)")
            finally:
                promoting.join()
            assert run(conn, "select number from history") == [(1,)]
        assert writers(proxy) == [new.address]


@pytest.mark.server("mariadb-10.11")
def test_a_demoted_writer_that_is_full_holds_nobody():
    """It is asked on the connection that it has refused; else it is the writer no more once another host says it is."""
    with mysql.Cluster("mariadb-10.11", waits=False) as cluster:
        old, new = cluster.nodes
        options = {"connection_borrow_timeout": 60, "monitor": False}
        with (
            rdsproxy_lib.Proxy(cluster.url(), **options) as proxy,
            rdsproxy_lib.Proxy(cluster.url(), **options) as transactional,
            rdsproxy_lib.Proxy(cluster.url(), **options) as empty,
            proxy.connect(autocommit=True) as conn,
            transactional.connect() as other,
            empty.connect(autocommit=True) as third,
        ):
            run(conn, TABLE)
            run(other, "select 1")
            other.rollback()
            run(third, "select 1")
            empty.pool.retire()
            with old.full():
                old.demote()
                new.promote()
                run(conn, "insert into history values (1)")
                assert writers(proxy) == [new.address]

                def is_written():
                    with suppress(pymysql.err.OperationalError):
                        other.begin()
                        run(other, "insert into history values (2)")
                        other.commit()
                        return True
                    other.rollback()
                    return False

                until(is_written, "a transaction is not on the old writer any more")
                assert writers(transactional) == [new.address]

                def is_let_in():
                    with suppress(pymysql.err.OperationalError):  # too many connections, until the other one was asked
                        run(third, "insert into history values (3)")
                        return True
                    return False

                until(is_let_in, "who has no connection gets one to the new writer")
            assert sorted(number for (number,) in run(conn, "select number from history")) == [1, 2, 3]


@pytest.mark.slow
@of_each_engine
def test_a_switchover_that_nobody_announced(name):
    """The old writer takes no writes any more, another is promoted: no error outside of transactions."""
    with CLUSTERS[name]() as cluster:
        old, new = cluster.nodes[:2]
        with clients_at_work(cluster) as (proxy, _):
            if cluster.kind.startswith("postgresql"):
                with old.server.admin() as admin:
                    admin.execute("alter system set default_transaction_read_only = on")
                    admin.execute("select pg_reload_conf()")
                writing = "select count(*) from pg_stat_activity where usename = 'app' and backend_xid is not null"
                until(lambda: old.ask(writing) == 0 and not writers(proxy), "those who still wrote are done")
            old.demote()
            new.promote()
        assert writers(proxy) == [new.address]


@pytest.mark.server("postgresql-15")
def test_read_only_by_configuration_is_a_reader_and_by_role_is_not():
    """What a role has set is its own business: the host is the writer, and the refusal is passed on."""
    with (
        postgresql.Cluster("15", standbys=1) as cluster,
        cluster.nodes[0].server.admin() as admin,
        rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=0.5) as proxy,
    ):
        admin.execute("alter role app set default_transaction_read_only = on")
        with proxy.connect(autocommit=True) as conn:
            assert writers(proxy) == [cluster.nodes[0].address]
            for _ in range(3):
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    run(conn, "insert into pg_am values (1)")
            assert run(conn, "select 1") == [(1,)]
            assert writers(proxy) == [cluster.nodes[0].address]
        admin.execute("alter role app reset default_transaction_read_only")
        admin.execute("alter system set default_transaction_read_only = on")
        admin.execute("select pg_reload_conf()")
        proxy.pause()
        proxy.resume()
        with proxy.connect(autocommit=True) as conn, pytest.raises(rdsproxy_lib.NoWriterAvailable):
            until(lambda: run(conn, "select 1") and None, "there is a writer")


def writers(proxy: rdsproxy_lib.Proxy) -> list[str]:
    """The hosts that are taken for the writer."""
    return [each.host for each in proxy.targets() if (each.role, each.state) == ("READ_WRITE", "AVAILABLE")]


# -- on clusters that stay as they are


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.server(name)) for name in CLUSTERS])
def replicated(request):
    """A writer and a reader, which the tests below leave as they are."""
    with CLUSTERS[request.param]() as cluster:
        yield cluster


@pytest.fixture
def cluster(replicated):
    """The same, with nothing wrong on its network."""
    yield replicated
    for node in replicated.nodes:
        node.relay.stop()
        node.relay.start()


def test_a_drained_reader_disturbs_nobody(cluster):
    """Work goes on with the writer, also on the database connections that were open."""
    writer, reader = cluster.nodes
    with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
        assert run(conn, "select 1") == [(1,)]
        before = conn.rdsproxy.backend_id
        proxy.drain(reader.address)
        assert run(conn, "select 1") == [(1,)]
        assert conn.rdsproxy.backend_id == before
        assert writers(proxy) == [writer.address]


def test_while_the_only_writer_is_drained_statements_wait(cluster):
    """Then they say so; given free again, they go on at once. A transaction that was open may end."""
    writer, reader = cluster.nodes
    with rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=1) as proxy:
        conn, busy = proxy.connect(autocommit=True), proxy.connect(autocommit=False)
        run(conn, "create table draining (id int)")
        run(busy, "select * from draining")
        with pytest.raises(rdsproxy_lib.DrainTimeout, match=rf"drain\('{writer.address}'\) timed out"):
            proxy.drain(writer.address, timeout=0.2)
        assert run(conn, "select 1") == [(1,)], "that is taken back"
        draining = threading.Thread(target=proxy.drain, args=(writer.address, 20))
        draining.start()
        until(lambda: not writers(proxy), "it is drained")
        run(busy, "insert into draining values (1)")
        busy.commit()
        draining.join()
        with pytest.raises(rdsproxy_lib.NoWriterAvailable, match=f"{writer.address}: READ_WRITE, drained"):
            run(conn, "select 1")
        proxy.drain(reader.address)
        started = time.monotonic()
        proxy.connect().close()
        proxy.resume(reader.address)
        proxy.resume(writer.address)
        assert run(conn, "select * from draining") == [(1,)]
        assert time.monotonic() - started < 1
        run(conn, "drop table draining")
        conn.close()
        busy.close()


def test_a_host_that_is_not_there_cannot_be_drained(cluster):
    """ConfigurationError names the targets; a name that two of them have needs its port."""
    with rdsproxy_lib.Proxy(cluster.url()) as proxy:
        for host, problem in (("db9", "is none"), (cluster.nodes[0].relay.host, "is more than one")):
            with pytest.raises(rdsproxy_lib.ConfigurationError, match=f"'{host}' {problem} of the targets") as caught:
                proxy.drain(host)
            assert cluster.nodes[1].address in str(caught.value)


def test_a_resume_amid_drain_leaves_nothing_drained(cluster, monkeypatch):
    """Wherever it falls: drain() says that it did not happen, and so it is."""
    host = cluster.nodes[1].address
    with rdsproxy_lib.Proxy(cluster.url()) as proxy:
        drain = proxy.cluster.drain

        def late(endpoint: Any) -> None:
            proxy.resume(host)
            drain(endpoint)

        monkeypatch.setattr(proxy.cluster, "drain", late)
        with pytest.raises(rdsproxy_lib.DrainTimeout, match=r"resume\(\) was called meanwhile"):
            proxy.drain(host)
        assert not proxy.cluster.drained


def test_a_reader_that_is_first_used_amid_pause_is_paused(cluster, monkeypatch):
    """Its pool is made between two looks at which there are."""
    with rdsproxy_lib.Proxy(cluster.url()) as proxy:
        readers, pools = proxy.endpoint().readers, proxy.pools

        def looked() -> Any:
            found = pools()
            for endpoint in proxy.cluster.view.members:
                readers._standing(endpoint)
            return found

        monkeypatch.setattr(proxy, "pools", looked)
        proxy.pause(timeout=5)
        assert all(pool.is_paused for pool in pools())
        proxy.resume()


# -- connect() in an outage


@pytest.fixture
def connecting() -> Iterator[Callable[..., float]]:
    """How many seconds a connect() takes. Its connection stays open: a login without any is forgotten, and checked
    again by its next connect().
    """
    with ExitStack() as stack:

        def seconds(proxy: rdsproxy_lib.Proxy, **keywords: Any) -> float:
            started = time.monotonic()
            stack.callback(proxy.connect(**keywords).close)
            return time.monotonic() - started

        yield seconds


def other_login(cluster: Any) -> dict[str, Any]:
    """Connect arguments that make it the first connect() of another login."""
    return {"application_name": "x"} if cluster.kind.startswith("postgresql") else {"program_name": "x"}


@pytest.mark.parametrize("away", ["writer", "both"])
def test_without_a_writer_connections_are_accepted_at_once(cluster, connecting, away):
    """The hosts that are left are readers, or none is: connect() hears that and goes; the statement waits."""
    for node in cluster.nodes[: 1 if away == "writer" else 2]:
        node.relay.stop()
    with rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=30) as proxy:
        assert connecting(proxy) < 0.5
        assert connecting(proxy) < 0.1
        assert connecting(proxy, **other_login(cluster)) < 0.1
        conn = proxy.connect(autocommit=True)
        answers: list[Any] = []
        waiting = threading.Thread(target=lambda: answers.append(run(conn, "select 1")))
        waiting.start()
        time.sleep(0.3)
        assert answers == []
        for node in cluster.nodes:
            node.relay.stop()
            node.relay.start()
        waiting.join(20)
        assert answers == [[(1,)]]
        conn.close()


def test_a_reader_that_is_away_delays_nobody(cluster, connecting):
    """The writer is found and the login checked."""
    cluster.nodes[1].relay.stop()
    with rdsproxy_lib.Proxy(cluster.url()) as proxy:
        assert connecting(proxy) < 0.5
        with pytest.raises((psycopg.OperationalError, pymysql.err.OperationalError)):
            proxy.connect("nobody")


def test_a_writer_that_says_nothing_delays_one_connect(cluster, connecting, monkeypatch):
    """It accepts connections and swallows what it gets: the first connect() gives it its time, no other one does."""
    monkeypatch.setattr("rdsproxy_lib.proxy.FIRST_CHECK_SECONDS", 2.0)
    cluster.nodes[0].relay.blackhole()
    with rdsproxy_lib.Proxy(cluster.url()) as proxy:
        assert 1.9 < connecting(proxy) < 3
        assert connecting(proxy) < 0.1
        until(lambda: proxy.targets()[0].state == "UNAVAILABLE", "its time to answer is over")
        assert connecting(proxy, **other_login(cluster)) < 0.1


def test_a_writer_that_goes_silent_in_use_delays_one_connect(cluster, connecting, monkeypatch):
    """The same where it was there before: by then it is not known to be away."""
    monkeypatch.setattr("rdsproxy_lib.proxy.FIRST_CHECK_SECONDS", 2.5)
    with rdsproxy_lib.Proxy(cluster.url()) as proxy:
        assert connecting(proxy) < 0.5
        cluster.nodes[0].relay.blackhole()
        assert connecting(proxy) < 0.1
        assert connecting(proxy, **other_login(cluster)) < 4.5
        assert connecting(proxy, **other_login(cluster)) < 0.1


def test_a_wrong_password_is_said_also_without_a_writer(cluster):
    """By the host that is left."""
    cluster.nodes[0].relay.stop()
    started = time.monotonic()
    with (
        rdsproxy_lib.Proxy(cluster.url().replace(APP_PASSWORD, "wrong")) as proxy,
        pytest.raises((psycopg.OperationalError, pymysql.err.OperationalError), match=r"password|Access denied"),
    ):
        proxy.connect()
    assert time.monotonic() - started < 3
