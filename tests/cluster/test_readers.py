"""Reader endpoints: who reads where, and what a session sees when a reader is lost or behind."""

from __future__ import annotations

import gc
import os
import threading
import time

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from tests.cluster.history import run
from tests.cluster.mysql import Cluster as MySQLCluster
from tests.cluster.postgresql import Cluster, until
from tests.servers import APP_USER

pytestmark = pytest.mark.server("postgresql-15")

PORT = "select inet_server_port()"


@pytest.fixture(scope="module")
def replicated():
    """A writer and two standbys, which the tests of this module leave as they are."""
    with Cluster("15", standbys=2) as cluster:
        with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
            conn.execute("create table numbers (number int)")
        yield cluster


@pytest.fixture
def cluster(replicated):
    """The same, with nothing wrong on its network, all of it replayed, and an empty table."""
    replicated.nodes[0].ask("with gone as (delete from numbers returning 1) select count(*) from gone")
    until(lambda: all(is_level(node, replicated.nodes[0]) for node in replicated.nodes[1:]), "the standbys are there")
    yield replicated
    for node in replicated.nodes:
        node.relay.stop()
        node.relay.start()
    for node in replicated.nodes[1:]:
        resume(node)


@pytest.fixture
def proxy(cluster):
    """A proxy of all hosts."""
    with rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=5) as proxy:
        yield proxy


def is_level(node, writer):
    """Whether a standby has replayed all that its writer wrote."""
    position = writer.ask("select pg_current_wal_lsn()::text")
    return node.ask(f"select pg_last_wal_replay_lsn() >= '{position}'")


def pause(node):
    """It receives, and replays nothing from now on."""
    node.ask("select pg_wal_replay_pause() is null")
    until(lambda: node.ask("select pg_get_wal_replay_pause_state()") == "paused", "it is paused")


def resume(node):
    """It replays again."""
    node.ask("select pg_wal_replay_resume() is null")


def node_of(cluster, conn):
    """The node where a session reads."""
    ((port,),) = run(conn, PORT)
    return next(node for node in cluster.nodes if node.server.port == port)


def test_sessions_read_from_all_readers_and_stay_with_theirs(cluster, proxy):
    """Those with a transaction open make the other one the one with less to do."""
    endpoint = proxy.endpoint("READ_ONLY")
    conns = [endpoint.connect() for _ in range(6)]
    ports = [run(conn, PORT)[0][0] for conn in conns]
    standbys = {node.server.port for node in cluster.nodes[1:]}
    assert set(ports) == standbys
    assert max(map(ports.count, standbys)) <= 4
    for conn, port in zip(conns, ports, strict=True):
        conn.rollback()
        for _ in range(5):
            assert run(conn, PORT) == [(port,)]
            conn.rollback()
        conn.close()


def test_a_reader_endpoint_takes_no_writes(proxy):
    """The server's own error; the session goes on."""
    with proxy.endpoint("READ_ONLY").connect(autocommit=True) as conn:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("insert into numbers values (1)")
        assert conn.execute("select count(*) from numbers").fetchone() == (0,)


def test_a_refused_write_costs_no_logins(proxy):
    """That a reader takes no writes is no news: it is not asked about it, and the connection is kept."""
    with proxy.endpoint("READ_ONLY").connect(autocommit=True) as conn:
        conn.execute("select 1")
        before = proxy.stats().database_connections_setup_succeeded
        for _ in range(5):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                conn.execute("insert into numbers values (1)")
        assert proxy.stats().database_connections_setup_succeeded == before


def test_a_closed_proxy_reads_nothing(cluster):
    """Also where a reader was not used yet."""
    proxy = rdsproxy_lib.Proxy(cluster.url())
    conns = [proxy.endpoint(hosts=[node.address]).connect(autocommit=True) for node in cluster.nodes[1:]]
    conns[0].execute("select 1")
    proxy.close()
    for conn in conns:
        with pytest.raises(rdsproxy_lib.ProxyClosed):
            conn.execute("select 1")
        conn.close()
    assert proxy.stats().database_connections == 0


def test_a_drained_reader_keeps_nobody_waiting(cluster):
    """Who waits for one of its connections goes to another reader."""
    with rdsproxy_lib.Proxy(cluster.url(), max_connections=1, connection_borrow_timeout=10) as proxy:
        endpoint = proxy.endpoint("READ_ONLY")
        with endpoint.connect() as holder, endpoint.connect(autocommit=True) as waiting:
            node = node_of(cluster, holder)
            waiting._rdsproxy.reading.endpoint = host_of(proxy, node)
            found = []
            thread = threading.Thread(target=lambda: found.append(node_of(cluster, waiting)))
            thread.start()
            time.sleep(0.2)
            ending = threading.Timer(0.3, holder.rollback)
            ending.start()
            proxy.drain(node.address, timeout=5)
            thread.join()
            ending.join()
            assert found[0] not in (node, cluster.nodes[0])
            proxy.resume(node.address)


def test_settings_and_pins_are_those_of_any_session(proxy):
    """They are made again on each database connection; an advisory lock keeps one of a reader."""
    with proxy.endpoint("READ_ONLY").connect(autocommit=True) as conn:
        conn.execute("set timezone to 'Etc/GMT+3'")
        assert conn.execute("show timezone").fetchone() == ("Etc/GMT+3",)
        conn.execute("select pg_advisory_lock(1)")
        assert conn.rdsproxy.pinned
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (True,)
        assert proxy.stats().database_connections_currently_session_pinned == 1
        conn.execute("select pg_advisory_unlock(1)")
        assert not conn.rdsproxy.pinned


def test_a_reader_that_is_lost(cluster, proxy):
    """The next statement is answered by another one, at once; one in a transaction is told."""
    endpoint = proxy.endpoint("READ_ONLY")
    with endpoint.connect(autocommit=True) as parked, endpoint.connect() as open_one:
        node = node_of(cluster, parked)
        while node_of(cluster, open_one) is not node:
            open_one.rollback()
            open_one._rdsproxy.reading.endpoint = None  # as a new session: not all go to the same
        node.relay.stop()
        started = time.monotonic()
        assert node_of(cluster, parked) not in (node, cluster.nodes[0])
        assert time.monotonic() - started < 1.5
        with pytest.raises(rdsproxy_lib.TransactionLost):
            open_one.execute(PORT)
        open_one.rollback()
        assert node_of(cluster, open_one) not in (node, cluster.nodes[0])
        states = {each.host: each.state for each in proxy.targets()}
        assert states[node.address] == "UNAVAILABLE"


def test_one_that_comes_back_is_used_again(cluster, proxy):
    """It is asked now and then, in the background."""
    endpoint = proxy.endpoint("READ_ONLY", hosts=[cluster.nodes[1].address, cluster.nodes[2].address])
    with endpoint.connect(autocommit=True) as conn:
        node = node_of(cluster, conn)
        node.relay.stop()
        other = node_of(cluster, conn)
        assert other is not node
        node.relay.start()
        until(lambda: run(conn, PORT) and proxy.cluster.view.members[host_of(proxy, node)].role.name == "READ_ONLY", "")
        other.relay.stop()
        assert node_of(cluster, conn) is node


def host_of(proxy, node):
    return next(endpoint for endpoint in proxy.cluster.view.members if str(endpoint) == node.address)


def test_the_next_reader_is_not_behind_the_first(cluster, proxy):
    """What a session has read it finds on the next reader as well: it waits for that."""
    with proxy.connect(autocommit=True) as writing, proxy.endpoint("READ_ONLY").connect(autocommit=True) as conn:
        first = node_of(cluster, conn)
        (second,) = (node for node in cluster.nodes[1:] if node is not first)
        pause(second)
        writing.execute("insert into numbers values (1)")
        until(lambda: conn.execute("select count(*) from numbers").fetchone() == (1,), "it is replayed")
        first.relay.stop()
        resumer = threading.Timer(0.5, resume, (second,))
        resumer.start()
        started = time.monotonic()
        assert conn.execute("select count(*) from numbers").fetchone() == (1,)
        assert time.monotonic() - started > 0.3
        assert node_of(cluster, conn) is second
        resumer.join()


def test_without_any_reader(cluster, proxy):
    """Statements wait, and are told in the end; one that comes back in time is found."""
    for node in cluster.nodes[1:]:
        node.relay.stop()
    endpoint = proxy.endpoint("READ_ONLY")
    with rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=0.5) as impatient:
        conn = impatient.endpoint("READ_ONLY").connect(autocommit=True)
        with pytest.raises(rdsproxy_lib.BorrowTimeout, match="no host was a reader"):
            conn.execute("select 1")
        conn.close()
    starter = threading.Timer(0.5, cluster.nodes[1].relay.start)
    starter.start()
    with endpoint.connect(autocommit=True) as conn:
        assert node_of(cluster, conn) is cluster.nodes[1]
    starter.join()


def test_reader_fallback_writer(cluster):
    """Where no reader is left the writer answers, and a reader again when there is one."""
    with rdsproxy_lib.Proxy(cluster.url(), reader_fallback="writer") as proxy:
        for node in cluster.nodes[1:]:
            node.relay.stop()
        with proxy.endpoint("READ_ONLY").connect(autocommit=True) as conn:
            assert node_of(cluster, conn) is cluster.nodes[0]
            cluster.nodes[2].relay.start()
            until(lambda: node_of(cluster, conn) is cluster.nodes[2], "the reader is used")


def test_the_writer_takes_no_writes_in_a_readers_place(cluster):
    """Whatever is tried, in a transaction too; what provably reads it answers, and reads of the session's settings."""
    with rdsproxy_lib.Proxy(cluster.url(), reader_fallback="writer") as proxy:
        with proxy.connect(autocommit=True) as conn:
            conn.execute(
                "create function add_one() returns int language sql as $$ insert into numbers values (1) returning 1 $$"
            )
            conn.execute("create view adding as select add_one()")
        for node in cluster.nodes[1:]:
            node.relay.stop()
        writes = [
            "insert into numbers values (1)",
            "select add_one()",
            "select * from adding",
            "begin read write; insert into numbers values (1); commit",
            "do $$ begin insert into numbers values (1); end $$",
            "set default_transaction_read_only = off; insert into numbers values (1)",
            "copy (select add_one()) to stdout",
            "create temp table mine (id int)",
        ]
        endpoint = proxy.endpoint("READ_ONLY")
        with endpoint.connect(autocommit=True) as conn:
            conn.execute("set timezone to 'Etc/GMT+3'")
            for text in writes:
                with pytest.raises(rdsproxy_lib.WriteRefused) as caught:
                    conn.execute(text)
                assert isinstance(caught.value, psycopg.errors.ReadOnlySqlTransaction)
            with pytest.raises(rdsproxy_lib.WriteRefused):
                conn.cursor().executemany("insert into numbers values (%s)", [(1,), (2,)])
            with pytest.raises(rdsproxy_lib.WriteRefused), conn.cursor().copy("copy numbers from stdin") as copy:
                copy.write_row((1,))
            with pytest.raises(rdsproxy_lib.WriteRefused), conn.pipeline():
                conn.execute("insert into numbers values (1)")
            assert conn.execute("show timezone").fetchone() == ("Etc/GMT+3",)
        with endpoint.connect() as conn:
            conn.read_only = False
            for text in writes:
                assert conn.execute("select count(*) from numbers").fetchone() == (0,)
                with pytest.raises(rdsproxy_lib.WriteRefused):
                    conn.execute(text)
            conn.commit()
            for text in ("select add_one()", "select * from adding"):
                with pytest.raises(rdsproxy_lib.WriteRefused):
                    next(conn.cursor().stream(text))
                with pytest.raises(rdsproxy_lib.WriteRefused), conn.cursor("named") as cursor:
                    cursor.execute(text)
            with conn.cursor("named") as cursor:
                assert cursor.execute("select count(*) from numbers").fetchone() == (0,)
        with proxy.connect(autocommit=True) as conn:
            conn.execute("drop view adding; drop function add_one")


def test_a_reader_that_is_too_far_behind_is_left_out(cluster):
    """`max_replica_lag`: by the age of what it replayed last, while it has received more."""
    with rdsproxy_lib.Proxy(cluster.url(), max_replica_lag=0.2) as proxy, proxy.connect(autocommit=True) as writing:
        slow, quick = cluster.nodes[1:]
        writing.execute("insert into numbers values (1)")
        until(lambda: is_level(slow, cluster.nodes[0]), "it is there")
        pause(slow)
        time.sleep(0.3)
        writing.execute("insert into numbers values (2)")
        until(lambda: is_level(quick, cluster.nodes[0]), "it is there")
        endpoint = proxy.endpoint("READ_ONLY")
        conns = [endpoint.connect(autocommit=True) for _ in range(6)]
        assert {node_of(cluster, conn).server.port for conn in conns} == {quick.server.port}
        resume(slow)
        quick.relay.stop()
        until(lambda: node_of(cluster, conns[0]) is slow, "it has caught up, and is asked again")
        for conn in conns:
            conn.close()


def test_a_reader_that_lost_its_writer_is_too_far_behind(cluster):
    """It may have replayed all that it received: how far it is behind only the age of that tells."""
    lone = cluster.nodes[1]
    source = lone.ask("show primary_conninfo")
    set_source = "alter system set primary_conninfo = '{}'"
    with lone.server.admin() as admin:
        admin.execute(set_source.format("host=/nonexistent"))
        admin.execute("select pg_reload_conf()")
        until(lambda: lone.ask("select count(*) from pg_stat_wal_receiver") == 0, "it is alone")
        try:
            with rdsproxy_lib.Proxy(cluster.url(), max_replica_lag=0.2) as proxy:
                time.sleep(0.3)
                endpoint = proxy.endpoint("READ_ONLY")
                conns = [endpoint.connect(autocommit=True) for _ in range(6)]
                assert {node_of(cluster, conn).server.port for conn in conns} == {cluster.nodes[2].server.port}
                for conn in conns:
                    conn.close()
        finally:
            admin.execute(set_source.format(source.replace("'", "''")))
            admin.execute("select pg_reload_conf()")
            until(lambda: lone.ask("select count(*) from pg_stat_wal_receiver") == 1, "it follows again")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the stream's own, that it was cut
def test_a_stream_that_the_collector_closes_amid_a_borrow_hangs_nobody(cluster, monkeypatch):
    """Its reader is lost, and this thread is just making the pool of another one."""
    with rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=10, monitor=False) as proxy:
        endpoint = proxy.endpoint("READ_ONLY")
        conn, other = endpoint.connect(autocommit=True), endpoint.connect(autocommit=True)
        node = node_of(cluster, conn)

        def leave():
            cycle = [conn.cursor().stream("select repeat('x', 1000) from generate_series(1, 1000000)")]
            next(cycle[0])
            cycle.append(cycle)

        gc.collect()
        gc.disable()
        try:
            leave()
            node.relay.stop()
            make_pool = endpoint.readers._make_pool

            def collecting(way):
                pool = make_pool(way)
                gc.collect()
                return pool

            monkeypatch.setattr(endpoint.readers, "_make_pool", collecting)
            ports = []
            thread = threading.Thread(target=lambda: ports.append(node_of(cluster, other).server.port), daemon=True)
            thread.start()
            thread.join(30)
            assert ports == [next(each.server.port for each in cluster.nodes[1:] if each is not node)]
        finally:
            gc.enable()
        assert node_of(cluster, conn) is not node
        conn.close()
        other.close()


def test_endpoints_are_checked(cluster, proxy):
    """A wrong argument is named, with what is possible; the same arguments give the same endpoint."""
    wrong = [
        {"target_role": "READER"},
        {"hosts": ["db9"]},
        {"hosts": ["127.0.0.1"]},
        {"max_connections": 0},
        {"target_role": "READ_WRITE", "hosts": [cluster.nodes[0].address]},
    ]
    for arguments in wrong:
        with pytest.raises(rdsproxy_lib.ConfigurationError):
            proxy.endpoint(**arguments)
    assert proxy.endpoint("READ_ONLY") is proxy.endpoint()
    assert proxy.endpoint(name="reports", max_connections=2) is not proxy.endpoint()
    with rdsproxy_lib.Proxy(cluster.nodes[1].server.url()) as single:
        with pytest.raises(rdsproxy_lib.ConfigurationError, match="several hosts"):
            single.endpoint("READ_ONLY")
        with pytest.raises(rdsproxy_lib.ConfigurationError, match="several hosts"):
            rdsproxy_lib.Proxy(cluster.nodes[1].server.url(), read_write_splitting=True)


def test_an_endpoint_has_a_budget_of_its_own(cluster, proxy):
    """`max_connections` of each reader; who waits for one is told of them."""
    endpoint = proxy.endpoint("READ_ONLY", "reports", hosts=[cluster.nodes[1].address], max_connections=1)
    with rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=0.3) as impatient:
        endpoint = impatient.endpoint(hosts=[cluster.nodes[1].address], max_connections=1)
        with endpoint.connect() as first, endpoint.connect() as second:
            first.execute("select 1")
            with pytest.raises(rdsproxy_lib.BorrowTimeout, match="max_connections=1"):
                second.execute("select 1")
            second.rollback()
            first.rollback()
            assert second.execute("select 1").fetchone() == (1,)
            second.rollback()
        with impatient.endpoint("READ_WRITE").connect(autocommit=True) as conn:
            assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)
        assert "READ_ONLY" in repr(endpoint)


def test_a_forked_child_reads_on_connections_of_its_own(cluster, proxy):
    """What the parent had there is left alone."""
    endpoint = proxy.endpoint("READ_ONLY")
    with endpoint.connect(autocommit=True) as conn:
        before = run(conn, "select pg_backend_pid()")
        child = os.fork()
        if not child:
            code = 1
            try:
                with endpoint.connect(autocommit=True) as own:
                    code = 0 if run(own, "select pg_backend_pid()") != before else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert run(conn, "select pg_backend_pid()") == before


def test_a_reader_that_is_promoted_is_left():
    """Sessions of a READ_ONLY endpoint go to the host that is left, and writes to the new writer."""
    with (
        Cluster("15", standbys=2) as cluster,
        rdsproxy_lib.Proxy(cluster.url()) as proxy,
        proxy.endpoint("READ_ONLY").connect(autocommit=True) as conn,
        proxy.connect(autocommit=True) as writing,
    ):
        node = node_of(cluster, conn)
        (other,) = (each for each in cluster.nodes[1:] if each is not node)
        writing.execute("select 1")
        cluster.nodes[0].kill()
        node.promote()
        with node.server.admin() as admin:
            admin.execute("alter system set synchronous_standby_names = ''")
            admin.execute("select pg_reload_conf()")
        with other.server.admin() as admin:
            source = (
                other.ask("show primary_conninfo")
                .replace(cluster.nodes[0].server.socket_dir.as_posix(), node.server.socket_dir.as_posix())
                .replace(f"port={cluster.nodes[0].server.port}", f"port={node.server.port}")
            )
            admin.execute(f"alter system set primary_conninfo = '{source.replace(chr(39), chr(39) * 2)}'")
            admin.execute("select pg_reload_conf()")
        writing.execute("create table afterwards (id int)")
        until(lambda: node_of(cluster, conn) is other, "it reads from the reader that is left")
        assert {each.role for each in proxy.targets()} == {"READ_WRITE", "READ_ONLY", "UNKNOWN"}


def has_role(conn):
    try:
        run(conn, "set role reporting")
    except pymysql.err.OperationalError:
        return False
    return run(conn, "select current_role()") == [("reporting",)]


@pytest.mark.server("mariadb-10.11")
def test_readers_of_mariadb():
    """The endpoint reads from the replica, which refuses writes; where it is lost the writer is, if that is wanted."""
    with MySQLCluster("mariadb-10.11") as cluster:
        replica = cluster.nodes[1]
        with rdsproxy_lib.Proxy(cluster.url(), reader_fallback="writer") as proxy:
            conn = proxy.endpoint("READ_ONLY").connect(autocommit=True)
            assert run(conn, "select @@server_id") == [(2,)]
            with pytest.raises(Exception, match="read-only"):
                run(conn, "create table never (id int)")
            cluster.nodes[0].ask("create role reporting", f"grant reporting to {APP_USER}@'%'")
            with_role = proxy.endpoint("READ_ONLY").connect(autocommit=True)
            until(lambda: has_role(with_role), "the replica has the role")
            run(conn, "set time_zone = '+03:00'")
            replica.relay.stop()
            assert run(conn, "select @@server_id, @@time_zone") == [(1, "+03:00")]
            for text in ("create table never (id int)", "start transaction read write; create table never (id int)"):
                with pytest.raises(rdsproxy_lib.WriteRefused):
                    run(conn, text)
            conn.begin()
            with pytest.raises(rdsproxy_lib.WriteRefused):
                run(conn, "create table never (id int)")
            conn.commit()
            with pytest.raises(rdsproxy_lib.WriteRefused):
                run(with_role, "select 1")
            with_role.close()
            replica.relay.start()
            until(lambda: run(conn, "select @@server_id, @@time_zone") == [(2, "+03:00")], "the replica is used again")
            conn.close()
