"""Several hosts: who is asked, what is refused, and what an application sees while there is no writer."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

import rdsproxy_lib
from rdsproxy_lib import psycopg as dropin
from rdsproxy_lib import registry
from tests.cluster.postgresql import Cluster, until
from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER

pytestmark = pytest.mark.server("postgresql-15")


@pytest.fixture(scope="module")
def replicated():
    """A writer and a standby, which the tests of this module leave as they are."""
    with Cluster("15", standbys=1) as cluster:
        yield cluster


@pytest.fixture
def cluster(replicated):
    """The same, with nothing wrong on its network."""
    yield replicated
    for node in replicated.nodes:
        node.relay.stop()
        node.relay.start()


def reversed_url(cluster, **query):
    """The standby is named first."""
    cluster.nodes.reverse()
    try:
        return cluster.url(**query)
    finally:
        cluster.nodes.reverse()


def test_the_writer_is_found_wherever_it_is_named(cluster):
    """Statements run on it, and `targets()` says what each host is."""
    with rdsproxy_lib.Proxy(reversed_url(cluster)) as proxy, proxy.connect(autocommit=True) as conn:
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)
        roles = {each.host: (each.role, each.state) for each in proxy.targets()}
        assert roles == {
            cluster.nodes[0].address: ("READ_WRITE", "AVAILABLE"),
            cluster.nodes[1].address: ("READ_ONLY", "AVAILABLE"),
        }
        assert cluster.nodes[0].address in repr(proxy)


def test_a_host_that_never_answers_keeps_nobody_waiting(cluster):
    """The standby accepts connections and says nothing: the writer is found within the time for contradiction."""
    cluster.nodes[1].relay.blackhole()
    started = time.monotonic()
    with rdsproxy_lib.Proxy(reversed_url(cluster)) as proxy, proxy.connect(autocommit=True) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
        assert time.monotonic() - started < 3


def test_without_a_writer_statements_wait_and_then_say_so(cluster):
    """NoWriterAvailable, which is a BorrowTimeout, with what each host answered; afterwards the session goes on."""
    with rdsproxy_lib.Proxy(cluster.url(), connection_borrow_timeout=1) as proxy:
        conn = proxy.connect(autocommit=True)
        conn.execute("select 1")
        cluster.nodes[0].relay.stop()
        with pytest.raises(rdsproxy_lib.NoWriterAvailable, match="no host was the writer") as caught:
            conn.execute("insert into nowhere values (1)")
        assert isinstance(caught.value, rdsproxy_lib.BorrowTimeout)
        assert isinstance(caught.value, psycopg.OperationalError)
        assert caught.value.retry_safe
        cluster.nodes[0].relay.start()
        assert conn.execute("select 1").fetchone() == (1,)
        conn.close()


def test_a_wrong_password_is_said_at_once(cluster):
    """By a host that answers, whatever the others are."""
    url = cluster.url().replace(APP_PASSWORD, "wrong")
    started = time.monotonic()
    with (
        rdsproxy_lib.Proxy(url) as proxy,
        pytest.raises(psycopg.OperationalError, match="password authentication failed"),
    ):
        proxy.connect()
    assert time.monotonic() - started < 3


def test_who_waits_for_a_writer_is_told_that_the_proxy_was_closed(cluster):
    """And not at the end of the time it would have waited."""
    proxy = rdsproxy_lib.Proxy(cluster.url())
    conn = proxy.connect(autocommit=True)
    cluster.nodes[0].relay.stop()
    errors = []

    def work():
        try:
            conn.execute("select 1")
        except psycopg.Error as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    proxy.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert [type(error).__mro__[1] for error in errors] == [rdsproxy_lib.ProxyClosed]
    conn.close()


def test_what_was_cut_is_not_sent_again(cluster):
    """A write is OutcomeUnknown; a read has the driver's error, for a view may call what writes."""
    with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("create table cut (id int)")
        conn.execute(
            "create function count_up() returns int language sql as 'with slow as materialized (select pg_sleep(0.5)),"
            " new as (insert into cut select 1 from slow returning id) select id from new'"
        )
        conn.execute("create view counted as select count_up() as id")
        for text, kind in (
            ("select id from counted", psycopg.OperationalError),
            ("insert into cut select 2 from pg_sleep(0.5)", rdsproxy_lib.OutcomeUnknown),
        ):
            cutter = threading.Timer(0.2, cluster.nodes[0].relay.reset_all)
            cutter.start()
            with pytest.raises(kind):
                conn.execute(text)
            cutter.join()
        time.sleep(0.7)
        numbers = [number for (number,) in conn.execute("select id from cut")]
        assert sorted(numbers) == [1, 2], "the server has done each once"
        conn.execute("drop view counted; drop function count_up(); drop table cut")


def test_one_connection_that_dies_unseats_nobody(cluster):
    """Also where another host says that it is the writer: the present one is asked, and says so too."""
    with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("select 1")
        before = proxy.cluster.view
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select pg_terminate_backend(pg_backend_pid())")
        assert proxy.cluster.view.writer == before.writer
        assert conn.execute("select 1").fetchone() == (1,)
        assert proxy.cluster.view.generation == before.generation


def test_a_wrong_password_is_not_tried_again_and_again(cluster):
    """A host that says nothing keeps others from deciding at once: meanwhile the one that refuses is left alone."""
    cluster.nodes[1].relay.blackhole()
    url = cluster.url().replace(APP_PASSWORD, "wrong")
    log = cluster.nodes[0].server.log
    before = log.read_text().count("password authentication failed")
    with (
        rdsproxy_lib.Proxy(url) as proxy,
        pytest.raises(psycopg.OperationalError, match="password authentication failed"),
    ):
        proxy.connect()
    assert log.read_text().count("password authentication failed") - before <= 6


def test_threads_that_cannot_be_started(cluster, monkeypatch):
    """A host that could not be asked for want of a thread is asked at the next turn."""
    real, failing = threading.Thread, ["a", "b", "c"]

    class Scarce(real):  # type: ignore[misc, valid-type]
        def start(self):
            if failing and self.name.startswith("rdsproxy-ask"):
                failing.pop()
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(threading, "Thread", Scarce)
    with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    assert not failing


def test_who_searches_takes_what_comes_free(cluster):
    """A limit of the role is reached: a database connection that is given back goes to who waits, at once."""
    with cluster.nodes[0].server.admin() as admin:
        admin.execute(f"alter role {APP_USER} connection limit 2")
        try:
            with rdsproxy_lib.Proxy(cluster.url(), max_connections=5) as proxy:
                first, second, third = (proxy.connect() for _ in range(3))
                first.execute("select 1")
                second.execute("select 1")
                second.commit()
                second.execute("select 1")
                timer = threading.Timer(0.5, first.commit)
                timer.start()
                started = time.monotonic()
                assert third.execute("select 1").fetchone() == (1,)
                assert time.monotonic() - started < 3
                timer.join()
                for conn in (first, second, third):
                    conn.close()
        finally:
            admin.execute(f"alter role {APP_USER} connection limit -1")


def test_a_read_only_transaction_of_the_users_own(cluster):
    """25006 is passed on where the host is the writer all the same; the session goes on there."""
    with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("set default_transaction_read_only = on")
        for _ in range(3):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                conn.execute("create table never (id int)")
        conn.execute("set default_transaction_read_only = off")
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)


def test_a_writer_that_is_made_read_only(cluster):
    """By its configuration, before a planned switchover: it is none, also where it took a write just now."""
    options = {"connection_borrow_timeout": 1}
    with rdsproxy_lib.Proxy(cluster.url(), **options) as proxy, proxy.connect(autocommit=True) as conn:
        with cluster.nodes[0].server.admin() as admin:
            conn.execute("create table written (id int)")
            admin.execute("alter system set default_transaction_read_only = on")
            admin.execute("select pg_reload_conf()")
            try:
                until(lambda: conn.execute("show default_transaction_read_only").fetchone() == ("on",), "it is")
                with pytest.raises(rdsproxy_lib.NoWriterAvailable):
                    conn.execute("insert into written values (1)")
                assert {target.role for target in proxy.targets()} == {"READ_ONLY"}
            finally:
                admin.execute("set default_transaction_read_only = off")
                admin.execute("alter system reset default_transaction_read_only")
                admin.execute("select pg_reload_conf()")
        conn.execute("insert into written values (1)")
        conn.execute("drop table written")


def test_a_question_of_ours_waits_for_a_silent_host_no_longer_than_a_statement(cluster, monkeypatch):
    """The host freezes as it is asked whether a lock is still held: the monitor sees to that too."""
    options = {"failure_detection_time": 0.5, "failure_detection_interval": 0.2, "failure_detection_count": 2}
    with (
        rdsproxy_lib.Proxy(cluster.url(), monitor=True, **options) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        conn.execute("select pg_advisory_lock(1)")
        ask = proxy.engine.ended

        def freeze_and_ask(*arguments):
            cluster.nodes[0].relay.freeze()
            return ask(*arguments)

        monkeypatch.setattr(proxy.engine, "ended", freeze_and_ask)
        started = time.monotonic()
        conn.execute("select pg_advisory_unlock(1)")
        assert time.monotonic() - started < 3
        cluster.nodes[0].relay.thaw()
        with pytest.raises(rdsproxy_lib.SessionLost):
            conn.execute("select 1")


def test_a_login_that_only_reads(cluster):
    """Its own default_transaction_read_only does not make the writer a reader."""
    with rdsproxy_lib.Proxy(cluster.url(options="-c%20default_transaction_read_only%3Don")) as proxy:
        with proxy.connect(autocommit=True) as conn:
            assert conn.execute("show transaction_read_only").fetchone() == ("on",)
        assert [target.role for target in proxy.targets()] == ["READ_WRITE", "READ_ONLY"]


def test_several_hosts_have_no_address_from_the_environment(cluster, monkeypatch):
    """PGHOSTADDR would lead all of them to one machine; one host goes there, as with libpq."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.77")
    with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)
    server = cluster.nodes[0].server
    monkeypatch.setenv("PGHOSTADDR", server.host)
    with (
        rdsproxy_lib.Proxy(server.url(host="nowhere.invalid")) as proxy,
        proxy.connect(autocommit=True) as conn,
    ):
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)
        assert (conn.info.host, conn.info.hostaddr) == ("nowhere.invalid", server.host)


@pytest.mark.parametrize("how", ["url", "conninfo", "keywords"])
def test_the_dropin_takes_several_hosts(cluster, how, monkeypatch):
    """As libpq does: one psycopg.connect() for all hosts, through one shared proxy."""
    proxies: dict[Any, rdsproxy_lib.Proxy] = {}
    monkeypatch.setattr(registry, "_proxies", proxies)
    hosts = ",".join(node.relay.host for node in cluster.nodes)
    ports = ",".join(str(node.relay.port) for node in cluster.nodes)
    login = {"user": APP_USER, "password": APP_PASSWORD, "dbname": APP_DATABASE}
    if how == "url":
        conn = dropin.connect(cluster.url())
    elif how == "conninfo":
        conn = dropin.connect(psycopg.conninfo.make_conninfo("", host=hosts, port=ports, **login))
    else:
        conn = dropin.connect(host=hosts, port=ports, **login)
    with conn:
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)
        assert conn.rdsproxy is not None
    (proxy,) = proxies.values()
    proxy.close()  # and its thread ends
