"""The MariaDB and MySQL test servers and the sampler beside them do what the other tests take for granted."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pymysql
import pytest
import trustme
from pymysql.constants import CR, ER

from tests import install_servers
from tests.mysql_servers import (
    KINDS,
    ConnectionSampler,
    MySQLServer,
    connection_count,
    installation,
)
from tests.servers import APP_DATABASE, APP_USER, HOST, ServerFailed, ServerMissing

CHECKOUT = Path(__file__).parents[2]

each_kind = pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in KINDS])


@contextmanager
def connect(parameters, **overrides):
    """A PyMySQL connection, closed at the end."""
    connection = pymysql.connect(**{**parameters, **overrides})
    try:
        yield connection
    finally:
        if connection.open:
            connection.close()


def ask(connection, sql, *arguments):
    """The first row of the answer."""
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return cursor.fetchone()


def wait_until(condition, seconds=5.0):
    """Give another process time to get there; whether it got there."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# Servers ----------------------------------------------------------------------------------------------------


def test_server_has_the_version_it_was_asked_for(mysql_server, mysql_parameters):
    """The running server's own version is the wanted one, of the wanted make."""
    with connect(mysql_parameters) as connection:
        (version,) = ask(connection, "select version()")
    assert version.startswith(mysql_server.version)
    assert mysql_server.version.startswith(mysql_server.kind.partition("-")[2] + ".")
    assert ("MariaDB" in version) == mysql_server.is_mariadb


def test_url_and_parameters_log_in_as_the_application_on_the_tests_own_database(
    mysql_parameters, mysql_url, mysql_database
):
    """Both forms reach the fresh database over TCP as an ordinary user who may do everything there."""
    parts = urlsplit(mysql_url)
    from_url = {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
        "database": parts.path[1:],
    }
    assert parts.scheme == "mysql"
    for parameters in (mysql_parameters, from_url):
        with connect(parameters) as connection:
            assert ask(connection, "select database(), current_user()") == (mysql_database, f"{APP_USER}@%")
            assert ask(
                connection, "select count(*) from information_schema.tables where table_schema = database()"
            ) == (0,)
            ask(connection, "create table mine (id int)")
            ask(connection, "create procedure answer() select 42")
            ask(connection, "drop procedure answer")
            ask(connection, "drop table mine")


def test_url_writes_what_has_no_place_of_its_own_as_a_query(mysql_server):
    """Names and passwords are quoted."""
    url = mysql_server.url(host="db.example", port=3306, user="a@b", password="p/w", database="d?", charset="utf8mb4")
    assert url == "mysql://a%40b:p%2Fw@db.example:3306/d%3F?charset=utf8mb4"


def test_login_with_a_wrong_password_is_refused(mysql_parameters):
    """TCP logins are checked, so that a test of credentials means something."""
    with pytest.raises(pymysql.OperationalError) as failure, connect(mysql_parameters, password="wrong"):
        pass
    assert failure.value.args[0] == ER.ACCESS_DENIED_ERROR


def test_application_is_no_administrator(mysql_server, mysql_parameters, mysql_database):
    """It may lock all tables, watch locks and make databases of its own, and change no global setting."""
    with connect(mysql_parameters) as connection:
        for sql in (
            "create table seen (id int) engine = innodb",
            "flush tables with read lock",
            "unlock tables",
            f"create database {mysql_database}_more",
            f"drop database {mysql_database}_more",
            "begin",
            "select * from seen",
        ):
            ask(connection, sql)
        assert ask(
            connection,
            "select count(*) from performance_schema.metadata_locks where object_schema = %s and object_name = 'seen'",
            mysql_database,
        ) == (1,)
        connection.rollback()
        for sql in ("set global max_connections = 90", "create database other"):
            with pytest.raises(pymysql.OperationalError) as failure:
                ask(connection, sql)
            assert failure.value.args[0] in (ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR)
    with mysql_server.admin() as admin:
        assert ask(admin, "select @@max_connections, @@performance_schema, @@log_bin") == (100, 1, 0)


@each_kind
def test_initial_statement_runs_for_the_application_and_not_for_root(kind):
    """init_connect works as for an ordinary user; one that fails keeps the application out, not the server down."""
    with MySQLServer(kind, options={"init_connect": "set @greeting = 'hello'"}) as server:
        with connect(server.parameters()) as connection:
            assert ask(connection, "select @greeting") == ("hello",)
        with server.admin() as admin:
            assert ask(admin, "select @greeting") == (None,)
        server.kill()
        server.options["init_connect"] = "nonsense"
        server.start()
        with pytest.raises(pymysql.OperationalError), connect(server.parameters()) as connection:
            ask(connection, "select 1")


@each_kind
def test_tls_proves_the_servers_name(kind, tmp_path):
    """Under its address and its name, to a client that trusts nothing but the server's CA; under no other CA."""
    other_ca = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other_ca)
    with MySQLServer(kind, tls=True) as server:
        for host in (HOST, "localhost"):
            with connect(server.parameters(host=host), ssl_ca=server.ca_file, ssl_verify_identity=True) as connection:
                assert ask(connection, "show status like 'Ssl_version'") == ("Ssl_version", "TLSv1.3")
        with (
            pytest.raises(pymysql.OperationalError, match="certificate verify failed"),
            connect(server.parameters(), ssl_ca=other_ca, ssl_verify_identity=True),
        ):
            pass
        with connect(server.parameters(ssl_disabled=True)) as connection:
            assert ask(connection, "show status like 'Ssl_version'") == ("Ssl_version", "")


@each_kind
def test_server_without_tls_turns_away_who_insists_on_it(kind):
    """And logs the others in over plain TCP, with a password it knows already and with one it has forgotten."""
    with MySQLServer(kind) as server:
        with (
            pytest.raises(pymysql.OperationalError, match="SSL"),
            connect(server.parameters(), ssl_verify_cert=True),
        ):
            pass
        for _ in range(2):
            with connect(server.parameters()) as connection:
                assert ask(connection, "show status like 'Ssl_version'") == ("Ssl_version", "")
            with server.admin() as admin:
                ask(admin, "flush privileges")


def test_restart_keeps_port_and_data(private_mysql_server):
    """After a restart the same address leads to the same tables, in another process."""
    server = private_mysql_server
    pid, parameters = server.pid, server.parameters()
    with connect(parameters) as connection:
        ask(connection, "create table kept select 42 as answer")
        connection.commit()
    server.restart()
    with connect(parameters) as connection:
        assert ask(connection, "select answer from kept") == (42,)
    assert server.pid != pid


def test_stopped_server_is_gone_until_it_is_started(private_mysql_server):
    """stop() ends connections and frees the port; a second one does nothing."""
    server = private_mysql_server
    with connect(server.parameters()) as connection:
        server.stop()
        server.stop()
        with pytest.raises(pymysql.OperationalError) as failure:
            ask(connection, "select 1")
        assert failure.value.args[0] in (CR.CR_SERVER_LOST, CR.CR_SERVER_GONE_ERROR, ER.SERVER_SHUTDOWN)
    with pytest.raises(pymysql.OperationalError, match="refused"), connect(server.parameters()):
        pass
    assert "stopped" in repr(server)
    server.start()
    with connect(server.parameters()) as connection:
        assert ask(connection, "select 42") == (42,)


def test_killed_server_refuses_connections_and_comes_back(private_mysql_server):
    """kill() ends the process at once, and start() recovers what was committed."""
    server = private_mysql_server
    process = psutil.Process(server.pid)
    with connect(server.parameters()) as connection:
        ask(connection, "create table kept (answer int) engine = innodb")
        ask(connection, "insert into kept values (42)")
        connection.commit()
        server.kill()
        with pytest.raises(pymysql.OperationalError):
            ask(connection, "select 1")
    assert not process.is_running()
    with pytest.raises(pymysql.OperationalError, match="refused"), connect(server.parameters()):
        pass
    server.start()
    with connect(server.parameters()) as connection:
        assert ask(connection, "select answer from kept") == (42,)


def test_frozen_server_answers_after_it_is_resumed(private_mysql_server):
    """freeze() silences open and new connections, resume() lets the same connections go on."""
    server = private_mysql_server
    with connect(server.parameters()) as connection, ThreadPoolExecutor() as threads:
        server.freeze()
        answer = threads.submit(ask, connection, "select 42")
        with (
            pytest.raises(pymysql.OperationalError, match="timed out"),
            connect(server.parameters(connect_timeout=1, read_timeout=1)),
        ):
            pass
        assert not answer.done()
        server.resume()
        assert answer.result(5) == (42,)


def test_frozen_server_can_be_stopped_and_closed(private_mysql_server):
    """A test that fails while its server is frozen leaves nothing behind."""
    server = private_mysql_server
    server.freeze()
    server.stop()
    server.start()
    server.freeze()
    process, directory = psutil.Process(server.pid), server.directory
    server.close()
    assert not process.is_running()
    assert not directory.exists()


@each_kind
def test_options_are_read_at_every_start(kind):
    """A test may lower a limit of its own server, and turn on what is off."""
    with MySQLServer(kind, options={"max_connections": 30}) as server:
        with server.admin() as admin:
            assert ask(admin, "select @@max_connections, @@log_bin") == (30, 0)
        server.kill()
        server.options |= {"max_connections": 25, "log_bin": "log", "server_id": 7, "performance_schema": False}
        server.start()
        with server.admin() as admin:
            row = ask(admin, "select @@max_connections, @@log_bin, @@server_id, @@performance_schema")
            assert row == (25, 1, 7, 0)


@each_kind
def test_servers_of_one_kind_share_nothing(kind):
    """Each has its own data, port, socket, temporary tables and identity, though all begin as copies."""
    with MySQLServer(kind) as one, MySQLServer(kind) as other:
        assert (one.port, one.socket) != (other.port, other.socket)
        with connect(one.parameters()) as connection:
            ask(connection, "create table mine (id int)")
        with connect(other.parameters()) as connection:
            assert ask(connection, "show tables") is None
        with connect(one.parameters()) as connection:
            ask(connection, "create temporary table passing (id int) engine = myisam")
            other.kill()
            other.start()
            ask(connection, "drop temporary table passing")  # fails when its file is gone
        variable = "@@server_uid" if one.is_mariadb else "@@server_uuid"
        with one.admin() as admin, other.admin() as other_admin:
            assert ask(admin, f"select {variable}") != ask(other_admin, f"select {variable}")


@each_kind
def test_server_that_cannot_start_shows_its_log(kind):
    """The failure carries what the server itself said, and leaves nothing behind."""
    server = MySQLServer(kind, options={"no_such_option": 1})
    with pytest.raises(ServerFailed, match=r"(?s)last lines.*unknown variable 'no-such-option=1'"):
        server.start()
    assert "stopped" in repr(server)


@each_kind
def test_server_dies_with_the_process_that_started_it(kind):
    """A test run that is killed leaves no server running, not even a frozen one."""
    program = textwrap.dedent(f"""
        import time
        from tests.mysql_servers import MySQLServer, _template
        server = MySQLServer("{kind}").start()
        print(server.pid, server.directory, _template("{kind}").parent, flush=True)
        server.freeze()
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as parent:
        assert parent.stdout is not None
        pid, *directories = parent.stdout.readline().split()
        server = psutil.Process(int(pid))
        parent.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    for directory in directories:
        shutil.rmtree(directory)


@pytest.mark.server("mariadb-10.11")
def test_forked_child_leaves_the_server_alone():
    """A child's way out runs the parent's blocks and exit handlers; the server survives, and later nothing is left."""
    program = textwrap.dedent("""
        import os, sys
        from tests.mysql_servers import MySQLServer, _template
        with MySQLServer("mariadb-10.11") as server:
            child = os.fork()
            if not child:
                sys.exit(0)
            os.waitpid(child, 0)
            with server.admin():
                print(server.directory, _template("mariadb-10.11"))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
    )
    assert done.returncode == 0, done.stderr
    directories = done.stdout.split()
    assert len(directories) == 2
    assert not [each for each in directories if Path(each).exists()]


# Servers that are not there ---------------------------------------------------------------------------------


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    """A machine without MariaDB and MySQL; the empty cache directory."""
    installation.cache_clear()
    tmp_path.chmod(0o755)
    monkeypatch.setattr("tests.mysql_servers._on_path", lambda program: None)
    monkeypatch.setattr("tests.mysql_servers.mysql_caches", lambda: iter([tmp_path]))
    for module in ("tests.mysql_servers", "tests.install_servers"):
        monkeypatch.setattr(f"{module}.is_open_to_servers", lambda directory: True)
    yield tmp_path
    installation.cache_clear()


def test_missing_mariadb_is_an_error_that_says_what_to_install(nothing_installed):
    """No binaries, no skip."""
    with pytest.raises(ServerMissing, match="mariadb-server-core"):
        MySQLServer("mariadb-10.11").start()


def test_missing_mysql_is_an_error_that_says_why_it_could_not_be_fetched(nothing_installed):
    """The reason is the one the installation left; in a cache others can write to, nothing is believed."""
    with pytest.raises(ServerMissing, match="make servers"):
        MySQLServer("mysql-9.7").start()
    (nothing_installed / "absent").write_text("unstable has MySQL 10 now\n")
    with pytest.raises(ServerMissing, match=r"^unstable has MySQL 10 now$"):
        MySQLServer("mysql-9.7").start()
    nothing_installed.chmod(0o777)
    with pytest.raises(ServerMissing, match="make servers"):
        MySQLServer("mysql-9.7").start()


def test_failed_fetch_leaves_its_reason_until_one_succeeds(nothing_installed, monkeypatch):
    """What the installation could not do is what the tests say; a copy that is there already is not replaced."""

    def fail(work):
        raise ServerMissing("the archive is closed")

    def succeed(work):
        (work / "root").mkdir()
        return work / "root"

    monkeypatch.setattr(install_servers, "mysql_caches", lambda: iter([nothing_installed / "new" / "cache"]))
    monkeypatch.setattr(install_servers, "_fetch", fail)
    with pytest.raises(ServerMissing, match="archive is closed"):
        install_servers.unpack_mysql()
    cache = nothing_installed / "new" / "cache"
    assert (cache / "absent").read_text() == "the archive is closed\n"
    monkeypatch.setattr(install_servers, "_fetch", succeed)
    install_servers.unpack_mysql()
    (cache / "mysql-9.7" / "kept").touch()
    install_servers.unpack_mysql()
    assert [each.name for each in cache.rglob("*")] == ["mysql-9.7", "kept"]


def test_run_without_mysql_skips_its_tests_and_says_so_last():
    """The closing lines count the servers and name the absent one."""
    program = textwrap.dedent("""
        import sys
        import pytest
        import tests.mysql_servers
        tests.mysql_servers._on_path = lambda program: None
        tests.mysql_servers.mysql_caches = lambda: iter(())
        sys.exit(pytest.main(sys.argv[1:]))
    """)
    arguments = ["-p", "no:cacheprovider", "-k", "test_url_writes and mysql-9.7", __file__]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=CHECKOUT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts, absence, skipped = done.stdout.splitlines()[-3:]
    assert "1 skipped" in skipped
    assert "mysql-9.7 0 tests" in counts
    assert absence == "mysql-9.7 absent: it is fetched by `make servers`, which did not run here"


# Watching ---------------------------------------------------------------------------------------------------


def test_sampler_sees_connections_come_and_go(mysql_server, mysql_database, mysql_parameters):
    """Maximum, connection ids and the series show three connections and their end, and not the sampler's own."""
    with ConnectionSampler(mysql_server, database=mysql_database) as sampler:
        connections = [pymysql.connect(**mysql_parameters) for _ in range(3)]
        ids = {connection.thread_id() for connection in connections}
        assert wait_until(lambda: sampler.samples[-1].count(APP_USER) == 3)
        for connection in connections:
            connection.close()
        assert wait_until(lambda: sampler.samples[-1].count(APP_USER) == 0)
    assert sampler.most == 3
    assert sampler.ids == ids
    moments = [sample.at for sample in sampler.samples]
    assert moments == sorted(moments)


def test_sampler_leaves_itself_out_of_all_users(private_mysql_server):
    """On a server that has just started and nobody else uses, it sees nobody: no user, not itself."""
    with ConnectionSampler(private_mysql_server) as sampler:
        assert wait_until(lambda: len(sampler.samples) >= 5)
    assert sampler.most == 0
    assert not sampler.samples[-1].backends


def test_sampler_raises_what_went_wrong(private_mysql_server):
    """A series that stopped early is not mistaken for a quiet server."""
    with pytest.raises(pymysql.OperationalError), ConnectionSampler(private_mysql_server):
        private_mysql_server.kill()


def test_connection_count_can_be_narrowed_down(mysql_server, mysql_database, mysql_parameters):
    """By user and by the database a connection is in now."""
    with connect(mysql_parameters), connect(mysql_parameters) as other:
        assert connection_count(mysql_server, database=mysql_database) == 2
        assert connection_count(mysql_server, user=APP_USER, database=mysql_database) == 2
        assert connection_count(mysql_server, user="nobody") == 0
        ask(other, f"use {APP_DATABASE}")
        assert connection_count(mysql_server, database=mysql_database) == 1


def test_relay_stands_in_front_of_the_server(mysql_relay, mysql_parameters):
    """A connection through it works and is counted."""
    with connect(mysql_parameters, port=mysql_relay.port) as connection:
        before = mysql_relay.traffic()
        assert ask(connection, "select 42") == (42,)
        assert (mysql_relay.traffic() - before).round_trips == 1
    assert mysql_relay.traffic().connections == 1


@pytest.fixture
def leftovers():
    """Connections that are still open when the test's database is dropped."""
    connections = []
    yield connections
    for connection in connections:
        connection.close()


def test_database_goes_even_when_a_connection_holds_a_lock_in_it(leftovers, mysql_parameters):
    """A test that fails in the middle of a transaction keeps nobody waiting."""
    connection = pymysql.connect(**mysql_parameters)
    leftovers.append(connection)
    ask(connection, "create table held (id int) engine = innodb")
    ask(connection, "insert into held values (1)")
