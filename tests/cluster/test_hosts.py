"""Several hosts: who is asked, what is refused, and what an application sees while there is no writer."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

import rdsproxy_lib
from rdsproxy_lib import psycopg as dropin
from tests.cluster.postgresql import Cluster
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


def test_a_read_that_was_cut_runs_again(cluster):
    """Nothing of it was delivered, and it changes nothing. A write is OutcomeUnknown, also on several hosts."""
    with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("create table if not exists cut (id int)")
        for text in ("select count(pg_sleep(0.5)) from cut", "select pg_sleep(0.5)"):
            cutter = threading.Timer(0.2, cluster.nodes[0].relay.reset_all)
            cutter.start()
            assert len(conn.execute(text).fetchall()) == 1
            cutter.join()
        cutter = threading.Timer(0.2, cluster.nodes[0].relay.reset_all)
        cutter.start()
        with pytest.raises(rdsproxy_lib.OutcomeUnknown):
            conn.execute("insert into cut select 1 from pg_sleep(0.5)")
        cutter.join()
        conn.execute("drop table cut")


def test_a_read_only_transaction_of_the_users_own(cluster):
    """25006 is passed on where the host is the writer all the same; the session goes on there."""
    with rdsproxy_lib.Proxy(cluster.url()) as proxy, proxy.connect(autocommit=True) as conn:
        conn.execute("set default_transaction_read_only = on")
        for _ in range(3):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                conn.execute("create table never (id int)")
        conn.execute("set default_transaction_read_only = off")
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)


@pytest.mark.parametrize("how", ["url", "conninfo", "keywords"])
def test_the_dropin_takes_several_hosts(cluster, how):
    """As libpq does: one psycopg.connect() for all hosts, through one shared proxy."""
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
