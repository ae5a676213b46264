"""Where the hosts come from: those that a cluster lists, and a name that moves in DNS."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import replace

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib import cluster as cluster_module
from rdsproxy_lib import psycopg as dropin
from rdsproxy_lib import topology
from rdsproxy_lib.backend import OpenFailed, Refusal
from rdsproxy_lib.topology import Answer, Endpoint, Role
from tests.cluster import aws, mysql, postgresql
from tests.cluster.aws import CUSTOM, READER, WRITER, Names, instance
from tests.cluster.history import TABLE, Clients, run
from tests.cluster.postgresql import until
from tests.mysql_servers import MySQLServer
from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER, HOST, PostgresServer

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
    """All are listed with role and lag. The writer dies, and statements find the new one, though DNS does not."""
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
            aws.caught_up(face)  # a commit waits for one of two
            promote(face, 1, 2)
            conn.execute("insert into kept values (1)")
            assert port_of(conn) == face.nodes[1].server.port
            assert healths(proxy)[face.address(2)] == ("READ_WRITE", "AVAILABLE")
            assert healths(proxy)[face.address(1)][1] == "UNAVAILABLE"
            assert face.address(2) in repr(proxy)


@pytest.mark.server("postgresql-15")
def test_a_host_that_is_added_later_is_found(names, monkeypatch):
    """With the next database connection after the list is old; it may become the writer. One that is gone leaves."""
    monkeypatch.setattr(cluster_module, "REFRESH_SECONDS", 0.5)
    monkeypatch.setattr(topology, "KEEP", 6.0)
    with aws.aurora(names) as face:
        face.list(1, 2)
        with (
            rdsproxy_lib.Proxy(face.url(), max_connections=4) as proxy,
            proxy.connect(autocommit=True) as conn,
            proxy.connect() as second,
            proxy.connect() as third,
        ):
            run(conn, "select 1")
            assert set(healths(proxy)) == {face.address(1), face.address(2)}
            face.list(1, 2, 3)
            run(conn, "begin")
            run(second, "select 1")
            assert set(healths(proxy)) == {face.address(1), face.address(2)}, "the list is not old yet"
            time.sleep(0.6)
            run(third, "select 1")
            assert set(healths(proxy)) == {face.address(1), face.address(2), face.address(3)}
            for each in (conn, second, third):
                each.rollback()
            promote(face, 1, 3)
            assert port_of(conn) == face.nodes[2].server.port
            face.list(2, 3)
            assert refreshed(proxy)[face.address(1)] == ("UNKNOWN", "UNAVAILABLE"), "it may be restarting"
            until(lambda: face.address(1) not in refreshed(proxy), "the old writer, which does not answer, is gone")
            assert healths(proxy)[face.address(3)] == ("READ_WRITE", "AVAILABLE")


@pytest.mark.server("postgresql-15")
def test_a_reader_that_has_left_keeps_no_connections(names, monkeypatch):
    """The cluster lists it no more: idle connections to it are closed, and nothing else is remembered of it."""
    monkeypatch.setattr(cluster_module, "REFRESH_SECONDS", 0.5)
    monkeypatch.setattr(topology, "KEEP", 1.0)
    options = {"monitor": False, "max_connections": 4}
    with aws.aurora(names) as face, rdsproxy_lib.Proxy(face.url(), **options) as proxy:
        readers = proxy.endpoint("READ_ONLY")
        with readers.connect(autocommit=True) as first, readers.connect(autocommit=True) as second:
            run(first, "begin")
            run(second, "begin")
            assert {port_of(first), port_of(second)} == {node.server.port for node in face.nodes[1:]}
            first.rollback()
            second.rollback()
        gone = face.nodes[2]
        assert gone.sessions() == 1
        login = proxy.engine.login(None, None, {})
        proxy.cluster.refresh(login, 0.0, proxy.cluster.view.members)
        face.list(1, 2)

        def has_left():
            refreshed(proxy)
            return face.address(3) not in healths(proxy)

        until(has_left, "it is in no list, and was not heard for a while")
        until(lambda: not gone.sessions(), "nothing is left of it")
        assert face.nodes[1].sessions() == 1
        endpoint = Endpoint(instance(3), face.port)
        assert endpoint not in proxy.cluster._refreshed


def refreshed(proxy):
    """What `targets()` says after one more database connection."""
    time.sleep(0.6)
    with proxy.connect(autocommit=True) as first, proxy.connect(autocommit=True) as second:
        run(first, "begin")
        run(second, "select 1")
    proxy.pool.retire()
    return healths(proxy)


@pytest.mark.server("postgresql-15")
@pytest.mark.parametrize("name", [READER, CUSTOM])
def test_who_names_a_clusters_readers_gets_readers(names, name):
    """Alone, a reader or custom endpoint is taken at its word; beside the writer endpoint it is one more way in."""
    with aws.aurora(names, standbys=1) as face:
        with rdsproxy_lib.Proxy(face.url(name)) as proxy, proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[1].server.port
            assert set(healths(proxy)) == {face.address(1), face.address(2)}
        with dropin.connect(
            host=name, port=face.port, user=APP_USER, password=APP_PASSWORD, dbname=APP_DATABASE
        ) as conn:
            assert port_of(conn) == face.nodes[1].server.port
        face.lead(WRITER)  # nowhere
        with rdsproxy_lib.Proxy(face.url(name, WRITER)) as proxy, proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[0].server.port
            assert set(healths(proxy)) == {face.address(1), face.address(2)}


@pytest.mark.server("postgresql-15")
def test_hosts_of_a_multi_az_cluster_are_found(names, caplog):
    """Who may not ask for them is told what to grant, and has the cluster's name as its one host; who may has them."""
    caplog.set_level(logging.WARNING)
    with aws.multi_az_postgresql(names, standbys=1) as face:
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[0].server.port
            assert healths(proxy) == {f"{WRITER}:{face.port}": ("READ_WRITE", "AVAILABLE")}
        (refused, alone) = (record.getMessage() for record in caplog.records)
        assert "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA rds_tools TO app" in refused
        assert "is used as one host" in alone
        caplog.clear()
        with face.nodes[0].server.admin(dbname="app") as admin:
            for text in aws.GRANT:
                admin.execute(text)
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[0].server.port
            until(lambda: "UNKNOWN" not in str(healths(proxy)), "all were heard")
            assert healths(proxy) == {
                face.address(1): ("READ_WRITE", "AVAILABLE"),
                face.address(2): ("READ_ONLY", "AVAILABLE"),
            }
            assert proxy.cluster.view.epoch == 1, "the timeline"
            run(conn, "create table kept (id int)")
            promote(face, 1, 2)
            conn.execute("insert into kept values (1)")
            assert port_of(conn) == face.nodes[1].server.port
            assert proxy.cluster.view.epoch == 2
        assert caplog.records == []


def grant(face, what):
    """Allow the application's user something on all MariaDB servers."""
    face.nodes[0].ask(f"grant {what} to app")
    done = face.nodes[0].ask("select @@gtid_binlog_pos")
    until(lambda: face.nodes[1].ask("select @@gtid_slave_pos") == done, "the replica has it too")


@pytest.mark.server("mariadb-10.11")
def test_hosts_of_a_multi_az_cluster_of_mysql_are_found(names, caplog):
    """The same, where the hosts are in a table and whom a host follows is in its replica status."""
    caplog.set_level(logging.WARNING)
    with aws.multi_az_mariadb(names) as face:
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect() as conn:
            assert port_of(conn) == face.nodes[0].server.port
            assert healths(proxy) == {f"{WRITER}:{face.port}": ("READ_WRITE", "AVAILABLE")}
        (alone,) = (record.getMessage() for record in caplog.records)
        assert "GRANT SELECT ON mysql.rds_topology TO the user" in alone
        caplog.clear()
        grant(face, "select on mysql.rds_topology")
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect() as conn:
            assert port_of(conn) == face.nodes[0].server.port
            assert healths(proxy)[face.address(1)] == ("READ_WRITE", "AVAILABLE")
        assert "REPLICA MONITOR" in caplog.text, "only its own replica status tells that a host is not the writer"
        caplog.clear()
        grant(face, "replica monitor on *.*")
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[0].server.port
            until(lambda: "UNKNOWN" not in str(healths(proxy)), "all were heard")
            assert healths(proxy) == {
                face.address(1): ("READ_WRITE", "AVAILABLE"),
                face.address(2): ("READ_ONLY", "AVAILABLE"),
            }
            lags = {endpoint.host: seen.lag for endpoint, seen in proxy.cluster.view.members.items()}
            assert lags == {instance(1): None, instance(2): 0.0}
            run(conn, "create table kept (id int)")
            promote(face, 1, 2)
            run(conn, "insert into kept values (1)")
            assert port_of(conn) == face.nodes[1].server.port
        assert caplog.records == []


@pytest.mark.server("mariadb-10.11")
def test_a_host_that_takes_writes_and_follows_another_is_no_writer(names):
    """A reader of a Multi-AZ DB cluster whose read_only is off."""
    with aws.multi_az_mariadb(names) as face:
        grant(face, "select on mysql.rds_topology")
        grant(face, "replica monitor on *.*")
        face.nodes[1].ask("set global read_only = 0")
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect() as conn:
            assert port_of(conn) == face.nodes[0].server.port
            until(lambda: "UNKNOWN" not in str(healths(proxy)), "all were heard")
            assert healths(proxy)[face.address(2)] == ("READ_ONLY", "AVAILABLE")


# -- how far a reader is behind


def asked(node, url):
    """What a node says of itself to the application's user."""
    with rdsproxy_lib.Proxy(url) as proxy:
        engine = proxy.engine
        answer = engine.ask(engine.login(None, None, {}), 5.0, Endpoint(node.server.host, node.server.port))
    assert answer.hosts == (), "it has no list"
    return replace(answer, hosts=None)


@pytest.mark.server("postgresql-15")
def test_the_lag_of_a_standby():
    """None, where it has replayed what it received; else since its last commit, also when it receives no more."""
    with postgresql.Cluster("15", standbys=1) as cluster:
        writer, standby = cluster.nodes
        assert asked(writer, cluster.url()) == Answer(Role.READ_WRITE, 1)
        with writer.server.admin(dbname=APP_DATABASE) as admin:
            admin.execute("create table kept (id int)")
        aws.caught_up(cluster)
        assert asked(standby, cluster.url()) == Answer(Role.READ_ONLY, lag=0.0)
        standby.ask("select pg_wal_replay_pause()::text")
        writer.ask("insert into kept values (2) returning id")
        time.sleep(0.3)
        assert asked(standby, cluster.url()).lag > 0.3
        standby.ask("select pg_wal_replay_resume()::text")
        aws.caught_up(cluster)
        assert asked(standby, cluster.url()).lag == 0.0
        writer.kill()
        until(lambda: not standby.ask("select count(*) from pg_stat_wal_receiver"), "it receives no more")
        time.sleep(0.3)
        assert asked(standby, cluster.url()).lag > 0.3


@pytest.mark.parametrize(
    ("kind", "right", "stop"),
    [
        pytest.param(
            "mariadb-10.11", "replica monitor", "stop slave", marks=pytest.mark.server("mariadb-10.11"), id="mariadb"
        ),
        pytest.param(
            "mysql-9.7", "replication client", "stop replica", marks=pytest.mark.server("mysql-9.7"), id="mysql"
        ),
    ],
)
def test_the_lag_of_a_replica(kind, right, stop, caplog):
    """Unknown to who may not ask, and where it replicates no more."""
    caplog.set_level(logging.INFO)
    with mysql.Cluster(kind) as cluster:
        writer, replica = cluster.nodes
        assert asked(writer, cluster.url()) == Answer(Role.READ_WRITE)
        assert asked(replica, cluster.url()) == Answer(Role.READ_ONLY)
        assert "GRANT REPLICATION CLIENT ON *.* TO app" in caplog.text
        caplog.clear()
        writer.ask(f"grant {right} on *.* to app")
        until(lambda: asked(replica, cluster.url()) == Answer(Role.READ_ONLY, lag=0.0), "it may ask, and is not behind")
        caplog.clear()
        replica.ask(stop)
        assert asked(replica, cluster.url()) == Answer(Role.READ_ONLY)
        assert caplog.records == []


# -- a name that moves


@pytest.mark.server("postgresql-15")
def test_a_name_that_has_not_moved_yet_is_not_taken(names):
    """The old host comes back as a standby: statements wait, though it answers, until the name leads elsewhere."""
    with aws.aurora(names, standbys=1) as face, rdsproxy_lib.Proxy(face.url(instance(1))) as proxy:
        old, new = face.nodes
        with proxy.connect(autocommit=True) as conn:
            run(conn, "set timezone to 'Asia/Tokyo'")
            assert port_of(conn) == old.server.port
            assert healths(proxy) == {face.address(1): ("READ_WRITE", "AVAILABLE")}
            old.demote()
            new.promote()
            old.follow(new)
            mover = threading.Timer(1.5, face.lead, (instance(1), 2))
            started = time.monotonic()
            mover.start()
            assert port_of(conn) == new.server.port
            assert time.monotonic() - started > 1.4
            assert run(conn, "show timezone") == [("Asia/Tokyo",)]
            mover.join()


@pytest.mark.server("postgresql-15")
def test_a_name_that_never_moves_is_waited_for_in_vain(names):
    """NoWriterAvailable says where it leads. A reader that was named as such is used as it is."""
    with aws.aurora(names, standbys=1) as face:
        with rdsproxy_lib.Proxy(face.url(instance(1)), connection_borrow_timeout=2) as proxy, proxy.connect() as conn:
            run(conn, "select 1")
            conn.rollback()
            proxy.pool.retire()
            face.lead(instance(1), 2)
            with pytest.raises(rdsproxy_lib.NoWriterAvailable, match=r"leads to a reader now \(127.0.0.3\)"):
                run(conn, "select 1")
            face.lead(instance(1), 2, 1)
            assert port_of(conn) == face.nodes[0].server.port, "of several addresses the one of the writer"
            conn.rollback()
        with rdsproxy_lib.Proxy(face.url(instance(2))) as proxy, proxy.connect() as conn:
            assert port_of(conn) == face.nodes[1].server.port
            conn.rollback()
            proxy.pool.retire()
            assert port_of(conn) == face.nodes[1].server.port
            conn.rollback()


@pytest.mark.server("postgresql-15")
def test_a_server_that_does_not_tell_at_login_is_asked():
    """As none does before 14. One that does not know the question is used as it is."""
    with postgresql.Cluster("15", standbys=1) as cluster, rdsproxy_lib.Proxy(cluster.url()) as proxy:
        engine = proxy.engine
        login = engine.login(None, None, {})
        backends = [engine.open_at(login, 5.0, Endpoint(HOST, node.server.port)) for node in cluster.nodes]
        assert [engine.is_reader(backend) for backend in backends] == [False, True]
        assert [engine._is_in_recovery(backend) for backend in backends] == [False, True]
        with cluster.nodes[0].server.admin(dbname=APP_DATABASE) as admin:
            admin.execute("revoke execute on function pg_is_in_recovery() from public")
        aws.caught_up(cluster)
        assert [engine._is_in_recovery(backend) for backend in backends] == [False, False]
        cluster.nodes[0].kill()
        with pytest.raises(psycopg.OperationalError):
            engine._is_in_recovery(backends[0])
        for backend in backends:
            engine.close(backend)


@pytest.mark.server("mariadb-10.11")
def test_a_name_that_moves_while_the_old_host_lives_on(names):
    """It refuses a write, and is asked by its address, as the name may have moved: the write waits for the next."""
    with aws.multi_az_mariadb(names) as face, rdsproxy_lib.Proxy(face.url(instance(1)), max_connections=3) as proxy:
        old, new = face.nodes
        with proxy.connect(autocommit=True) as conn, proxy.connect(autocommit=True) as other:
            run(conn, "create table kept (id int)")
            run(conn, "set time_zone = '+09:00'")
            assert port_of(other) == old.server.port
            time.sleep(0.2)
            old.demote()
            new.promote()
            mover = threading.Timer(1.5, face.lead, (instance(1), 2))
            started = time.monotonic()
            mover.start()
            run(conn, "insert into kept values (1)")
            assert time.monotonic() - started > 1.4
            assert port_of(conn) == new.server.port
            assert run(conn, "select @@time_zone") == [("+09:00",)] or run(conn, "select @@time_zone") == (("+09:00",),)
            assert port_of(other) == new.server.port, "no session stays behind"
            mover.join()


@pytest.mark.server("mariadb-10.11")
def test_a_name_that_moves_while_the_old_host_is_full(names):
    """It is asked on the connection that it has refused, as it lets nobody in."""
    with aws.multi_az_mariadb(names) as face, rdsproxy_lib.Proxy(face.url(instance(1))) as proxy:
        old, new = face.nodes
        with proxy.connect(autocommit=True) as conn:
            run(conn, "create table kept (id int)")
            with old.full():
                old.demote()
                new.promote()
                face.lead(instance(1), 2)
                run(conn, "insert into kept values (1)")
            assert port_of(conn) == new.server.port


@pytest.mark.server("mariadb-10.11")
def test_a_refusal_with_another_cause_is_passed_on():
    """Error 1290 is that of other options too: the host is asked, takes writes, and keeps its sessions."""
    with (
        MySQLServer("mariadb-10.11", options={"secure_file_priv": "/usr"}) as server,
        rdsproxy_lib.Proxy(server.url()) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        with server.admin() as admin, admin.cursor() as cursor:
            cursor.execute("grant file on *.* to app")
        proxy.pool.retire()
        run(conn, "select 1")
        before = conn.rdsproxy.backend_id
        time.sleep(0.2)
        with pytest.raises(pymysql.err.OperationalError, match="secure-file-priv") as caught:
            run(conn, "select 1 into outfile '/tmp/never'")
        assert caught.value.args[0] == 1290
        assert run(conn, "select connection_id()")[0][0] == before


@pytest.mark.server("postgresql-15")
def test_an_address_is_dialled_under_the_name_that_led_there():
    """The server's certificate has to be the name's, not the address's."""
    with PostgresServer("15", tls=True) as server:
        check_the_name(server)


@pytest.mark.server("mariadb-10.11")
def test_an_address_is_dialled_under_the_name_that_led_there_on_mysql():
    """Whose driver knows of no address beside the name."""
    with MySQLServer("mariadb-10.11", tls=True) as server:
        check_the_name(server)


def check_the_name(server):
    """A certificate for `localhost`, at an address under two names."""
    tls = rdsproxy_lib.TLS(mode="verify-identity", ca_file=str(server.ca_file))
    with rdsproxy_lib.Proxy(server.url(), tls=tls) as proxy:
        engine = proxy.engine
        login = engine.login(None, None, {})
        named = Endpoint("localhost", server.port, "127.0.0.1")
        assert engine.ask(login, 5.0, named).role is Role.READ_WRITE
        backend = engine.open_at(login, 5.0, named)
        assert engine.place_of(backend) == named
        engine.close(backend)
        with pytest.raises(OpenFailed, match=r"does not match|is not valid for|Hostname mismatch"):
            engine.ask(login, 5.0, Endpoint("elsewhere.example", server.port, "127.0.0.1"))
        with pytest.raises(OpenFailed) as refused:
            engine.ask(login, 5.0, Endpoint("localhost", 1, "127.0.0.1"))
        assert refused.value.refusal is Refusal.TRANSIENT


@pytest.mark.server("postgresql-15")
def test_a_name_that_no_host_can_have_is_left_out(names, caplog):
    """It is not dialled; the log says so once. The others are as they are."""
    caplog.set_level(logging.WARNING)
    with aws.aurora(names, standbys=1) as face:
        with face.nodes[0].server.admin(dbname=APP_DATABASE) as admin:
            admin.execute("insert into aws.instances values ('evil.example.com', 1), ('a@b', 2)")
        aws.caught_up(face)
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[0].server.port
            for _ in range(2):
                proxy.cluster.hear(proxy.engine.login(None, None, {}), Endpoint(instance(1), face.port))
            assert set(healths(proxy)) == {face.address(1), face.address(2)}
    assert sorted(record.getMessage().rpartition(" ")[2] for record in caplog.records) == [
        "'a@b'",
        "'evil.example.com'",
    ]
    assert {name.partition(".")[2] for name in names.asked} == {aws.DOMAIN, f"cluster-{aws.DOMAIN}"}


@pytest.mark.server("postgresql-15")
def test_a_list_that_cannot_be_had_keeps_nobody_from_a_reader(names):
    """The connection breaks as the reader is asked for the hosts: that one is closed, and the next one serves."""
    with aws.aurora(names, standbys=1) as face, rdsproxy_lib.Proxy(face.url(READER)) as proxy:
        real, calls = proxy.engine.members_of, []

        def break_first(backend):
            calls.append(backend)
            if len(calls) == 1:
                face.relays[1].reset_all()
            return real(backend)

        proxy.engine.members_of = break_first
        with proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[1].server.port
        assert len(calls) == 2
        assert calls[0].is_dead()
        assert set(healths(proxy)) == {face.address(1), face.address(2)}


@pytest.mark.server("postgresql-15")
def test_a_list_that_hangs_costs_one_connection(names, monkeypatch):
    """The writer has said who it is, and is opened again without that question: the hosts are known from before."""
    options = {"connection_borrow_timeout": 20, "monitor": False}
    with (
        aws.aurora(names, standbys=1) as face,
        rdsproxy_lib.Proxy(face.url(), **options) as proxy,
        proxy.connect(autocommit=True) as first,
        proxy.connect(autocommit=True) as second,
    ):
        run(first, "select 1")
        calls = []

        def never_answered(backend):
            calls.append(backend)
            proxy.engine._answer(backend, b"select pg_sleep(60)", 0.5)

        proxy.engine.members_of = never_answered
        monkeypatch.setattr(proxy.cluster, "_listed_at", -math.inf)
        with first.transaction():
            assert port_of(first) == face.nodes[0].server.port
            assert port_of(second) == face.nodes[0].server.port
        assert len(calls) == 1
        assert calls[0].is_dead()
        assert proxy.cluster.view.generation == 0
        proxy.pool.retire()
        run(first, "select 1")
        assert len(calls) == 1


@pytest.mark.server("postgresql-15")
def test_who_reads_from_a_clusters_readers_needs_no_list(names, monkeypatch):
    """Though none is known yet: one connection dies of the question, and the next one serves."""
    monkeypatch.setattr(cluster_module, "LIST_SECONDS", 0.5)
    options = {"connection_borrow_timeout": 20}
    with aws.aurora(names, standbys=1) as face, rdsproxy_lib.Proxy(face.url(READER), **options) as proxy:
        proxy.engine.members_of = lambda backend: proxy.engine._answer(backend, b"select pg_sleep(60)", 0.5)
        with proxy.connect(autocommit=True) as conn:
            assert port_of(conn) == face.nodes[1].server.port


@pytest.mark.server("postgresql-15")
def test_a_list_that_fails_unseats_nobody(names, caplog, monkeypatch):
    """An error in it says nothing of the host that was asked; it is logged, and not asked for at each connection."""
    caplog.set_level(logging.WARNING)
    with (
        aws.multi_az_postgresql(names, standbys=1) as face,
        face.nodes[0].server.admin(dbname=APP_DATABASE) as admin,
    ):
        for text in aws.GRANT:
            admin.execute(text)
        aws.caught_up(face)
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect() as conn, proxy.connect() as other:
            run(conn, "select 1")
            admin.execute(
                """create or replace function rds_tools.show_topology(client text)
                returns table (id text, endpoint text, port int) stable language sql as
                $$ select '', '', 1 / length('') $$"""
            )
            monkeypatch.setattr(cluster_module, "REFRESH_SECONDS", 0.0)
            run(other, "select 1")
            assert conn.rdsproxy.backend_id != other.rdsproxy.backend_id
            (warned,) = (record.getMessage() for record in caplog.records)
            assert "could not be asked for the hosts of its cluster: division by zero" in warned
            assert proxy.cluster.hear(proxy.engine.login(None, None, {}), Endpoint(instance(1), face.port)) is (
                Role.READ_WRITE
            )
            assert set(healths(proxy)) == {face.address(1), face.address(2)}
        with rdsproxy_lib.Proxy(face.url()) as proxy, proxy.connect() as conn, proxy.connect() as other:
            run(conn, "select 1")
            assert healths(proxy) == {f"{WRITER}:{face.port}": ("READ_WRITE", "AVAILABLE")}, "it serves as it is"
            for text in aws.MULTI_AZ:
                if "show_topology" in text:
                    admin.execute("drop function rds_tools.show_topology(text)")
                    admin.execute(text.replace("{domain}", aws.DOMAIN).replace("{port}", str(face.port)))
            admin.execute("grant execute on all functions in schema rds_tools to public")
            aws.caught_up(face)
            run(other, "select 1")
            conn.rollback()
            other.rollback()
            assert set(healths(proxy)) == {face.address(1), face.address(2)}, "and is noticed when it can be had"
            assert port_of(conn) == face.nodes[0].server.port


@pytest.mark.server("mariadb-10.11")
def test_a_host_that_cannot_be_asked_is_what_it_was(names):
    """It refuses a write, and then a login: the error of the write is passed on, and the session stays there."""
    with (
        aws.multi_az_mariadb(names) as face,
        rdsproxy_lib.Proxy(face.url(instance(1))) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        node = face.nodes[0]
        run(conn, "create table kept (id int)")
        before = conn.rdsproxy.backend_id
        time.sleep(0.2)
        node.ask(f"alter user {APP_USER} account lock")
        node.demote()
        with pytest.raises(pymysql.err.OperationalError, match="read-only"):
            run(conn, "insert into kept values (1)")
        node.ask("set global read_only = 0", f"alter user {APP_USER} account unlock")
        run(conn, "insert into kept values (2)")
        assert conn.rdsproxy.backend_id == before
        assert [number for (number,) in run(conn, "select id from kept")] == [2]


@pytest.mark.slow
@pytest.mark.server("postgresql-15")
def test_what_clients_of_auroras_face_were_told_is_true(names):
    """Eight threads read and write while the writer dies and another listed host takes its place."""
    with aws.aurora(names) as face, rdsproxy_lib.Proxy(face.url(), max_connections=6) as proxy:
        with proxy.connect(autocommit=True) as conn:
            run(conn, TABLE)
        aws.caught_up(face)
        with Clients(proxy, threads=8) as clients:
            until(lambda: clients.count() > 100, "the clients work")
            face.nodes[0].kill()
            furthest = max(
                (2, 3), key=lambda number: face.nodes[number - 1].ask("select pg_last_wal_receive_lsn() - '0/0'")
            )
            face.nodes[furthest - 1].promote()
            before = clients.count()
            until(lambda: clients.count() > before + 100, "the clients go on")
        clients.check_parked()
        with proxy.connect(autocommit=True) as conn:
            present = [number for (number,) in run(conn, "select number from history")]
        assert healths(proxy)[face.address(furthest)] == ("READ_WRITE", "AVAILABLE")
    assert clients.history.errors == []
    clients.history.check(present)


@pytest.mark.server("postgresql-15")
def test_what_is_wrong_with_a_clusters_name_is_said(names):
    """A password that is refused there at once; a name that leads nowhere when the time is over."""
    with aws.aurora(names, standbys=1) as face:
        started = time.monotonic()
        with (
            rdsproxy_lib.Proxy(face.url().replace(APP_PASSWORD, "wrong")) as proxy,
            pytest.raises(psycopg.OperationalError, match="password authentication failed"),
        ):
            proxy.connect()
        assert time.monotonic() - started < 3
        face.lead(WRITER)
        del names.table[WRITER]
        with rdsproxy_lib.Proxy(face.url(), connection_borrow_timeout=0.5) as proxy, proxy.connect() as conn:
            with pytest.raises(rdsproxy_lib.NoWriterAvailable, match=f"{WRITER}:{face.port}: .*Name or service"):
                run(conn, "select 1")
            (target,) = proxy.targets()
            assert (target.host, target.state) == (f"{WRITER}:{face.port}", "UNAVAILABLE")
            assert "Name or service not known" in target.reason
            face.lead(WRITER, 1)
            assert port_of(conn) == face.nodes[0].server.port


@pytest.mark.server("postgresql-15")
def test_the_shared_proxy_of_a_cluster(names):
    """The drop-in finds the hosts too, and the next writer among them."""
    login = {"user": APP_USER, "password": APP_PASSWORD, "dbname": APP_DATABASE}
    with aws.aurora(names, standbys=1) as face:
        with dropin.connect(host=WRITER, port=face.port, **login) as conn:
            assert port_of(conn) == face.nodes[0].server.port
        with dropin.connect(host=WRITER, port=face.port, **login) as conn:
            run(conn, "create table kept (id int)")
        aws.caught_up(face)
        conn = dropin.connect(host=WRITER, port=face.port, **login)
        promote(face, 1, 2)
        assert port_of(conn) == face.nodes[1].server.port
        conn.close()
