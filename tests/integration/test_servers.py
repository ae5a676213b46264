"""The test servers and the instruments around them do what the other tests take for granted."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.servers import (
    APP_USER,
    HOST,
    BackendSampler,
    PostgresServer,
    ServerFailed,
    ServerMissing,
    TcpRelay,
    backend_count,
    binaries,
)


def only_on(server):
    """Run the test on that server alone."""
    return pytest.mark.parametrize("server", [server], indirect=True)


def wait_until(condition, seconds=5.0):
    """Give another process time to get there; whether it got there."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# Servers ----------------------------------------------------------------------------------------------------


def test_server_has_the_version_it_was_asked_for(server):
    """The running server's own version number is the wanted one."""
    with psycopg.connect(server.dsn()) as conn:
        assert conn.info.server_version // 10_000 == int(server.version)


def test_url_and_dsn_log_in_as_the_application_on_the_tests_own_database(dsn, url, database):
    """Both forms reach the fresh database over TCP as the ordinary user who owns it."""
    for address in (dsn, url):
        with psycopg.connect(address) as conn:
            row = conn.execute(
                "select usename, current_database(), inet_server_addr() is not null, usesuper"
                " from pg_user where usename = current_user"
            ).fetchone()
            assert row == (APP_USER, database, True, False)
            conn.execute("create table mine (id int)")
            conn.rollback()


def test_login_with_a_wrong_password_is_refused(server):
    """TCP logins are checked, so that a test of credentials means something."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.dsn(password="wrong"))


def test_server_allows_prepared_transactions_and_a_hundred_connections(server):
    """The limits that two-phase commit and the sharing tests rely on."""
    with server.admin() as admin:
        assert admin.execute("show max_prepared_transactions").fetchone() == ("20",)
        assert admin.execute("show max_connections").fetchone() == ("100",)


@only_on("postgresql-15")
@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_tls_verifies_the_servers_name(server, host):
    """PostgreSQL 15 proves its name to a client that trusts nothing but the server's CA."""
    with psycopg.connect(
        server.dsn(host=host, hostaddr=HOST, sslmode="verify-full", sslrootcert=server.ca_file)
    ) as conn:
        assert conn.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (
            True,
            "TLSv1.3",
        )


@only_on("postgresql-15")
def test_tls_refuses_another_ca(server):
    """The same login fails when the client trusts another CA."""
    with (
        PostgresServer("15", tls=True) as other,
        pytest.raises(psycopg.OperationalError, match="certificate verify failed"),
    ):
        psycopg.connect(server.dsn(sslmode="verify-full", sslrootcert=other.ca_file))


@only_on("postgresql-18")
def test_the_wheels_server_has_no_tls(server):
    """PostgreSQL 18 turns a client away that insists on TLS."""
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        psycopg.connect(server.dsn(sslmode="require"))


def test_database_is_empty(server, database):
    """Whatever earlier tests made, they made it in their own."""
    with server.admin(database) as admin:
        count = admin.execute("select count(*) from pg_class where relowner = 'app'::regrole").fetchone()
    assert count == (0,)


def test_restart_keeps_port_and_data(private_server):
    """After a restart the same address leads to the same tables, in another process."""
    pid = private_server.pid
    with psycopg.connect(private_server.dsn()) as conn:
        conn.execute("create table kept as select 42 as answer")
    private_server.restart()
    with psycopg.connect(private_server.dsn()) as conn:
        assert conn.execute("select answer from kept").fetchone() == (42,)
    assert private_server.pid != pid


def test_killed_server_refuses_connections_and_comes_back(private_server):
    """kill() ends every process at once, and start() recovers the data that was written."""
    processes = [psutil.Process(private_server.pid), *psutil.Process(private_server.pid).children()]
    with psycopg.connect(private_server.dsn()) as conn:
        conn.execute("create table kept as select 42 as answer")
    with private_server.admin() as admin:
        admin.execute("checkpoint")
    with psycopg.connect(private_server.dsn()) as conn:
        private_server.kill()
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select 1")
    assert not [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(private_server.dsn())
    private_server.start()
    with psycopg.connect(private_server.dsn()) as conn:
        assert conn.execute("select answer from kept").fetchone() == (42,)


def test_frozen_server_answers_after_it_is_thawed(private_server):
    """sigstop() silences open and new connections, sigcont() lets the same connections go on."""
    with psycopg.connect(private_server.dsn()) as conn, ThreadPoolExecutor() as threads:
        private_server.sigstop()
        answer = threads.submit(conn.execute, "select 42")
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(private_server.dsn(connect_timeout=2))
        assert not answer.done()
        private_server.sigcont()
        assert answer.result(5).fetchone() == (42,)


def test_frozen_server_can_be_closed(private_server):
    """A test that fails while its server is frozen leaves nothing behind."""
    private_server.sigstop()
    process, directory = psutil.Process(private_server.pid), private_server.directory
    private_server.close()
    assert not process.is_running()
    assert not directory.exists()


@pytest.mark.server("postgresql-15")
def test_options_are_read_again_at_a_restart():
    """A test may lower a limit of its own server."""
    with PostgresServer("15", options={"max_connections": 30}) as server:
        server.options["max_connections"] = 25
        server.restart()
        with server.admin() as admin:
            assert admin.execute("show max_connections").fetchone() == ("25",)


@pytest.mark.server("postgresql-15")
def test_server_that_cannot_start_shows_its_log():
    """The failure carries what the server itself said, and leaves nothing behind."""
    server = PostgresServer("15", options={"work_mem": "nonsense"})
    with pytest.raises(ServerFailed, match=r'(?s)last lines.*invalid value for parameter "work_mem"'):
        server.start()
    assert "stopped" in repr(server)


def test_missing_server_is_an_error_that_says_what_to_install(monkeypatch):
    """No binaries, no skip."""
    binaries.cache_clear()
    monkeypatch.setattr("tests.servers._installations", lambda: iter(()))
    with pytest.raises(ServerMissing, match="postgresql-15"):
        PostgresServer("15").start()
    binaries.cache_clear()


@pytest.mark.server("postgresql-15")
def test_server_dies_with_the_process_that_started_it():
    """A test run that is killed leaves no server running."""
    program = textwrap.dedent("""
        import sys, time
        from tests.servers import PostgresServer
        server = PostgresServer("15").start()
        print(server.pid, server.directory, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        server = psutil.Process(int(pid))
        parent.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    shutil.rmtree(directory)


@pytest.mark.server("postgresql-15")
def test_forked_child_leaves_the_server_alone():
    """A child's way out runs the parent's blocks and exit handlers; the server survives them."""
    program = textwrap.dedent("""
        import os, sys
        from tests.servers import PostgresServer
        with PostgresServer("15") as server:
            child = os.fork()
            if not child:
                sys.exit(0)
            os.waitpid(child, 0)
            server.admin().close()
            print("alive")
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.stdout == "alive\n", done.stderr


# Watching ---------------------------------------------------------------------------------------------------


def test_sampler_sees_connections_come_and_go(server, database, dsn):
    """Maximum, process ids and the series show three connections and their end, and not the sampler's own."""
    with BackendSampler(server, dbname=database) as sampler:
        connections = [psycopg.connect(dsn) for _ in range(3)]
        pids = {conn.info.backend_pid for conn in connections}
        assert wait_until(lambda: sampler.samples[-1].count(APP_USER) == 3)
        for conn in connections:
            conn.close()
        assert wait_until(lambda: sampler.samples[-1].count(APP_USER) == 0)
    assert sampler.maximum(APP_USER) == 3
    assert sampler.pids(APP_USER) == pids
    assert sampler.maximum("postgres") == 0
    moments = [sample.at for sample in sampler.samples]
    assert moments == sorted(moments)


def test_sampler_leaves_itself_out_of_all_databases(private_server):
    """On a server nobody else uses, it sees nobody, once the connection has left by which the server was set up."""
    with BackendSampler(private_server) as sampler:
        assert wait_until(lambda: len(sampler.samples) >= 5 and sampler.samples[-1].count("postgres") == 0)


def test_sampler_raises_what_went_wrong(private_server):
    """A series that stopped early is not mistaken for a quiet server."""
    with pytest.raises(psycopg.OperationalError), BackendSampler(private_server):
        private_server.kill()


def test_backend_count_can_be_narrowed_down(server, database, dsn):
    """By user, by application name and by database."""
    with psycopg.connect(dsn, application_name="counted"), psycopg.connect(dsn):
        assert backend_count(server, dbname=database) == 2
        assert backend_count(server, user=APP_USER, application_name="counted", dbname=database) == 1
        assert backend_count(server, user="nobody") == 0


# The relay --------------------------------------------------------------------------------------------------


@pytest.fixture
def relayed(server, database, relay):
    """A connection through the relay, and nothing on the way it has to wait for."""
    with psycopg.connect(server.dsn(dbname=database, port=relay.port, sslmode="disable"), autocommit=True) as conn:
        yield conn


def test_relay_counts_round_trips(relay, relayed):
    """Three statements are three round trips, a pipeline of three is one."""
    start = relay.traffic()
    for _ in range(3):
        relayed.execute("select 1")
    plain = relay.traffic() - start
    assert plain.round_trips == 3
    assert plain.turns_to_client == 3
    assert plain.connections == 0
    assert plain.bytes_to_server > 0
    with relayed.pipeline():
        for _ in range(3):
            relayed.execute("select 1")
    assert (relay.traffic() - start).round_trips == 4


def test_relay_carries_much_data_both_ways(relayed):
    """More than any buffer on the way holds, unchanged."""
    text = "0123456789abcdef" * 500_000
    assert relayed.execute("select %s", [text]).fetchone() == (text,)


def test_frozen_relay_holds_bytes_until_thawed(relay, relayed):
    """Nothing comes while frozen, everything afterwards."""
    with ThreadPoolExecutor() as threads:
        relay.freeze()
        answer = threads.submit(relayed.execute, "select 42")
        assert not wait([answer], timeout=0.1).done
        relay.thaw()
        assert answer.result(5).fetchone() == (42,)


def test_black_hole_swallows_statements_and_logins(server, relay, relayed):
    """The statement never reaches the server, and a new connection times out."""
    before = relay.traffic()
    with ThreadPoolExecutor() as threads:
        relay.blackhole()
        answer = threads.submit(relayed.execute, "select 42")
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            psycopg.connect(server.dsn(port=relay.port, connect_timeout=2))
        relay.thaw()
        assert not wait([answer], timeout=0.1).done
        relay.reset_all()
        assert isinstance(answer.exception(5), psycopg.OperationalError)
    assert (relay.traffic() - before).bytes_to_server == 0


def test_delay_holds_for_each_direction(relay, relayed):
    """A round trip takes both delays longer."""
    relay.delay(0.05)
    start = time.monotonic()
    relayed.execute("select 1")
    assert time.monotonic() - start >= 0.1
    relay.delay(0)
    start = time.monotonic()
    relayed.execute("select 1")
    assert time.monotonic() - start < 0.1


def test_cut_after_bytes_to_the_client_loses_the_answer_not_the_work(relay, relayed, server, database):
    """The server did the work, the client never hears of it: the case that must not be sent twice."""
    relay.cut_after(0, "to_client")
    with pytest.raises(psycopg.OperationalError):
        relayed.execute("create table done (id int)")
    with server.admin(database) as admin:
        assert admin.execute("select to_regclass('done') is not null").fetchone() == (True,)
    assert relay.open_connections() == 0


def test_cut_after_bytes_to_the_server_keeps_the_statement_from_it(relay, relayed, server, database):
    """A statement that was cut in the middle was not done."""
    relay.cut_after(5, "to_server")
    start = relay.traffic()
    with pytest.raises(psycopg.OperationalError):
        relayed.execute("create table undone (id int)")
    with server.admin(database) as admin:
        assert admin.execute("select to_regclass('undone') is null").fetchone() == (True,)
    assert (relay.traffic() - start).bytes_to_client == 0


def test_reset_reaches_both_ends_as_a_reset():
    """Both ends see a reset, not an orderly end, and the relay goes on."""
    with socket.create_server((HOST, 0)) as listener, TcpRelay(*listener.getsockname()) as own:
        with socket.create_connection((HOST, own.port)) as client, listener.accept()[0] as target:
            client.settimeout(5)
            target.settimeout(5)
            client.sendall(b"ping")
            assert target.recv(4) == b"ping"
            own.reset_all()
            for end in (client, target):
                with pytest.raises(ConnectionResetError):
                    end.recv(1)
        with socket.create_connection((HOST, own.port)), listener.accept()[0]:
            assert own.open_connections() == 1


def test_half_closed_connections_stay_half_open():
    """The end of one direction is passed on; the other direction still works."""
    with (
        socket.create_server((HOST, 0)) as listener,
        TcpRelay(*listener.getsockname()) as relay,
        socket.create_connection((HOST, relay.port)) as client,
        listener.accept()[0] as target,
    ):
        client.settimeout(5)
        target.settimeout(5)
        client.shutdown(socket.SHUT_WR)
        assert target.recv(1) == b""
        target.sendall(b"late")
        assert client.recv(4) == b"late"
        target.close()
        assert client.recv(1) == b""
        assert relay.open_connections() == 0


def test_stopped_relay_refuses_and_starts_again_on_its_port(server, relay, relayed):
    """Connections end, new ones are refused, and after start() the same port works."""
    relay.stop()
    with pytest.raises(psycopg.OperationalError):
        relayed.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(server.dsn(port=relay.port))
    relay.start()
    with psycopg.connect(server.dsn(port=relay.port)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_relay_leaves_no_descriptor_open(server):
    """Sockets and threads are gone after the block."""
    process = psutil.Process()
    before = process.num_fds()
    with TcpRelay(server.host, server.port) as relay, psycopg.connect(server.dsn(port=relay.port)) as conn:
        conn.execute("select 1")
    assert process.num_fds() <= before  # one of a test before may have been closed meanwhile


def test_relay_resets_clients_when_its_target_is_away(private_server):
    """A target that refuses looks like a connection that dies at once."""
    with TcpRelay(private_server.host, private_server.port) as relay:
        private_server.stop()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(private_server.dsn(port=relay.port))
