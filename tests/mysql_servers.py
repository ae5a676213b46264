"""Real MariaDB and MySQL servers for the tests, and a sampler beside; what servers.py is for PostgreSQL.

MariaDB is the machine's own package. MySQL is unpacked into a cache directory by install_servers.py and runs with
the C library it came with.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import quote, urlencode

import pymysql
import trustme

from tests.servers import (
    _ENVIRONMENT,
    APP_DATABASE,
    APP_PASSWORD,
    APP_USER,
    HOST,
    Sample,
    ServerFailed,
    ServerMissing,
    _is_reachable,
    _remove_as_owner,
    _server_account,
    free_port,
    temporary_directory,
)

Kind = Literal["mariadb-10.11", "mysql-9.7"]
KINDS: tuple[Kind, ...] = ("mariadb-10.11", "mysql-9.7")
ROOT_USER, ROOT_PASSWORD = "root", "root-secret"

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0

# The user is no administrator: init_connect and max_connections hold for it as for an application.
_ACCOUNTS = f"""\
flush privileges;
alter user '{ROOT_USER}'@'localhost' identified by '{ROOT_PASSWORD}';
create user if not exists '{ROOT_USER}'@'{HOST}';
alter user '{ROOT_USER}'@'{HOST}' identified by '{ROOT_PASSWORD}';
grant all on *.* to '{ROOT_USER}'@'{HOST}' with grant option;
create user '{APP_USER}'@'%' identified by '{APP_PASSWORD}';
grant process, reload on *.* to '{APP_USER}'@'%';
grant all on {APP_DATABASE}.* to '{APP_USER}'@'%';
grant all on `test%`.* to '{APP_USER}'@'%';
grant select on performance_schema.* to '{APP_USER}'@'%';
create database {APP_DATABASE};
"""

_OPTIONS: dict[str, object] = {
    "bind_address": HOST,
    "skip_name_resolve": True,
    "log_bin": False,
    "sync_binlog": 0,
    "max_connections": 100,
    "innodb_flush_log_at_trx_commit": 2,  # to the kernel: what is committed survives kill()
    "innodb_buffer_pool_size": "64M",
    "performance_schema": True,
    "performance_schema_instrument": "wait/lock/metadata/sql/mdl=ON",
}
_OPTIONS_OF: dict[Kind, dict[str, object]] = {
    "mariadb-10.11": {
        "character_set_server": "utf8mb4",
        "innodb_log_file_size": "16M",
        "key_buffer_size": "8M",
        "aria_pagecache_buffer_size": "8M",
    },
    "mysql-9.7": {
        "mysqlx": False,
        "innodb_doublewrite": False,
        "innodb_redo_log_capacity": "32M",
    },
}


# Binaries ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Installation:
    """One server on this machine: `command` starts it, `options` tell it where its own files are."""

    version: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()


def _version_of(command: tuple[str, ...]) -> str:
    """What the program says of itself, as 10.11.19-MariaDB or 9.7.4; empty when it does not run."""
    answer = subprocess.run([*command, "--no-defaults", "--version"], capture_output=True, text=True, env=_ENVIRONMENT)
    found = re.search(r"\bVer (\d+\.\d+\.\d+(?:-MariaDB)?)", answer.stdout)
    return found[1] if found else ""


def _on_path(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join((_ENVIRONMENT["PATH"], "/usr/sbin", "/usr/libexec")))


@functools.cache
def installation(kind: Kind) -> Installation:
    """The server of a kind; raises ServerMissing, whose message says why and what to do."""
    return _mariadb() if kind == "mariadb-10.11" else _mysql()


def _mariadb() -> Installation:
    programs = [_on_path(name) for name in ("mariadbd", "mariadb-install-db", "my_print_defaults")]
    if programs[0] is not None and None not in programs:
        command = (programs[0],)
        version = _version_of(command)
        if version.startswith("10.11.") and version.endswith("-MariaDB"):
            return Installation(version, command)
    raise ServerMissing(
        "MariaDB 10.11 is not installed; the tests need it: install Debian's packages mariadb-server-core and"
        " mariadb-client-core (as root, `make servers` does it)"
    )


def _mysql() -> Installation:
    program = _on_path("mysqld")
    if program is not None:
        version = _version_of((program,))
        if version.startswith("9.7.") and not version.endswith("-MariaDB"):
            return Installation(version, (program,))
    reason = "it is fetched by `make servers`, which did not run here"
    for cache in mysql_caches():
        if is_trusted(cache):
            if (cache / "mysql-9.7").is_dir():
                return unpacked_mysql(cache / "mysql-9.7")
            if (cache / "absent").exists():
                reason = (cache / "absent").read_text().strip()
    raise ServerMissing(reason)


def mysql_caches() -> Iterator[Path]:
    """Where an unpacked MySQL may be, best first: the user's cache, the system's, the temporary directory."""
    own = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for base in (own, "/var/cache", f"{tempfile.gettempdir()}/cache-{os.geteuid()}"):
        if os.path.isabs(base):
            yield Path(base, "rdsproxy_lib_tests", "mysql")


def is_trusted(cache: Path) -> bool:
    """Whether nobody else wrote what is in `cache`, and the servers' account can read it."""
    try:
        status = cache.stat()
        is_ours = status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        return is_ours and is_open_to_servers(cache)
    except OSError:
        return False


def is_open_to_servers(directory: Path) -> bool:
    """Whether the account that runs the servers can enter `directory`."""
    return _server_account() is None or _is_reachable(directory)


def unpacked_mysql(root: Path) -> Installation:
    """The MySQL of Debian packages unpacked into `root`, run by the dynamic loader that came with them."""
    loaders = sorted(root.glob("usr/lib*/ld-linux*.so.*"))
    libraries = sorted(root.glob("usr/lib/*-linux-gnu*"))
    if not loaders or not libraries:
        raise ServerMissing(f"{root} holds no MySQL that can run here; remove it and run `make servers`")
    command = (str(loaders[0]), "--library-path", str(libraries[0]), str(root / "usr/sbin/mysqld"))
    options = (
        f"--basedir={root / 'usr'}",
        f"--lc-messages-dir={root / 'usr/share/mysql'}",
        f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
        "--secure-file-priv=",
    )
    version = _version_of(command)
    if not version:
        raise ServerMissing(f"the MySQL in {root} does not run here; remove it and run `make servers`")
    return Installation(version, command, options)


# Servers ----------------------------------------------------------------------------------------------------


def _as_server(command: list[str]) -> list[str]:
    account = _server_account()
    identity = []
    if account is not None:
        identity = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    # SIGKILL because a frozen server takes no other signal.
    return ["setpriv", "--pdeathsig=KILL", *identity, "--", *command]


def _give_to_server(*places: Path) -> None:
    account = _server_account()
    if account is not None:
        for place in places:
            os.chown(place, account.pw_uid, account.pw_gid)


@functools.cache
def _template(kind: Kind) -> Path:
    """A data directory with the accounts, made once per process and copied for each server."""
    server = installation(kind)
    directory = temporary_directory()
    atexit.register(_remove_as_owner, directory, os.getpid())
    accounts, data = directory / "accounts.sql", directory / "data"
    accounts.write_text(_ACCOUNTS)
    data.mkdir(mode=0o750)
    _give_to_server(accounts, data)
    if kind == "mariadb-10.11":
        command = [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            f"--tmpdir={directory}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            f"--extra-file={accounts}",
            f"--innodb-log-file-size={_OPTIONS_OF[kind]['innodb_log_file_size']}",
        ]
    else:
        command = [
            *server.command,
            "--no-defaults",
            *server.options,
            f"--datadir={data}",
            f"--tmpdir={directory}",
            "--initialize-insecure",
            f"--init-file={accounts}",
            "--skip-log-bin",
            "--skip-innodb-doublewrite",
            "--skip-auto-generate-certs",
            f"--innodb-redo-log-capacity={_OPTIONS_OF[kind]['innodb_redo_log_capacity']}",
        ]
    done = subprocess.run(
        _as_server(command),
        cwd=directory,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise ServerFailed(f"{kind} was not initialised: {done.returncode}\n{done.stdout}")
    (data / "auto.cnf").unlink(missing_ok=True)  # every server makes its own identity
    return data


class MySQLServer:
    """One MariaDB or MySQL server. `with MySQLServer("mysql-9.7", tls=True) as server:` starts and later removes it.

    Start it from a thread that lives as long as the server (the main thread): the kernel kills the server when
    the thread that started it ends, so that a killed test run leaves no server behind.

    kind: "mariadb-10.11" or "mysql-9.7". tls: offer TLS with a certificate of a CA made for this server
    (`ca_file`); otherwise it speaks none. options: system variables and options by their names in the server's
    manual, used at every start; True is the bare option, False its `skip_` form, None leaves a default of ours out.
    """

    def __init__(self, kind: Kind, *, tls: bool = False, options: Mapping[str, object] | None = None) -> None:
        self.kind = kind
        self.tls = tls
        self.host = HOST
        self.port = 0
        self.options: dict[str, object] = {**_OPTIONS, **_OPTIONS_OF[kind], **(options or {})}
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid={self._process.pid}" if self._process else "stopped"
        return f"<MySQLServer {self.kind} port={self.port} {state}>"

    def __enter__(self) -> MySQLServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # What and where things are

    @property
    def is_mariadb(self) -> bool:
        """Whether it is MariaDB, not MySQL."""
        return self.kind == "mariadb-10.11"

    @property
    def version(self) -> str:
        """The full version, such as 10.11.19-MariaDB or 9.7.4."""
        return installation(self.kind).version

    @property
    def directory(self) -> Path:
        """The temporary directory of this server: socket, log, certificates, data."""
        assert self._directory is not None, "the server was never started, or is closed"
        return self._directory

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def socket(self) -> str:
        """The unix socket, for `unix_socket`."""
        return str(self.directory / "mysql.sock")

    @property
    def log(self) -> Path:
        """The server's error log, of all its starts."""
        return self.directory / "server.log"

    @property
    def ca_file(self) -> Path:
        """The CA certificate that verifies this server, for ssl_ca; only with tls=True."""
        assert self.tls, "this server has no TLS"
        return self.directory / "ca.pem"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    # Connecting

    def parameters(self, **overrides: Any) -> dict[str, Any]:
        """Keyword arguments for pymysql.connect: user `app` over TCP, unless overridden. None removes one."""
        values: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": APP_USER,
            "password": APP_PASSWORD,
            "database": APP_DATABASE,
            **overrides,
        }
        if values["user"] == ROOT_USER and "password" not in overrides:
            values["password"] = ROOT_PASSWORD
        return {name: value for name, value in values.items() if value is not None}

    def url(self, **overrides: Any) -> str:
        """`parameters` as a mysql:// URL; what has no place of its own becomes a query parameter."""
        values = {name: str(value) for name, value in self.parameters(**overrides).items()}
        user, password = quote(values.pop("user"), safe=""), quote(values.pop("password", ""), safe="")
        host, database = quote(values.pop("host"), safe="[]:,"), quote(values.pop("database", ""), safe="")
        login = f"{user}:{password}" if password else user
        address = f"{host}:{values.pop('port')}"
        query = f"?{urlencode(values)}" if values else ""
        return f"mysql://{login}@{address}/{database}{query}"

    @contextmanager
    def admin(self, **overrides: Any) -> Iterator[pymysql.connections.Connection[Any]]:
        """An autocommit connection of `root` over the unix socket, closed at the end of the block."""
        connection = self._connect_admin(**overrides)
        try:
            yield connection
        finally:
            connection.close()

    def _connect_admin(self, **overrides: Any) -> pymysql.connections.Connection[Any]:
        settings: dict[str, Any] = {
            "unix_socket": self.socket,
            "user": ROOT_USER,
            "password": ROOT_PASSWORD,
            "autocommit": True,
            "connect_timeout": 10,
            "ssl_disabled": True,  # with TLS in sight PyMySQL takes 15 ms more for each connection
            **overrides,
        }
        return pymysql.connect(**settings)

    # Life

    def start(self) -> MySQLServer:
        """Start and wait until it answers. The port stays the same over every later start. Returns self."""
        assert self._process is None, f"{self!r} is already running"
        if self._directory is None:
            template = _template(self.kind)
            self._directory = temporary_directory()
            self.port = free_port()
            self._owner = os.getpid()
            atexit.register(self.close)
        try:
            if not self.data_dir.exists():
                shutil.copytree(template, self.data_dir, ignore=shutil.ignore_patterns("auto.cnf"))  # who it is
                _give_to_server(self.data_dir, *self.data_dir.rglob("*"))
            if self.tls and not self.ca_file.exists():
                self._write_certificates()
            self._launch()
        except BaseException:
            self.close()
            raise
        return self

    def stop(self) -> None:
        """Shut down in order and wait for the end; the data stays for the next start."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.resume()
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            log = self._log_tail()
            self.kill()
            raise ServerFailed(f"{self!r} did not stop within {_STOP_TIMEOUT:g} s\n{log}") from None
        self._process = None

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL; what was committed stays, as after a crash."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop the process where it is: sockets stay open, nothing answers. When it returns, no thread runs."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Undo freeze."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Kill and remove the server's directory. Idempotent; does nothing in a forked child."""
        if self._directory is None or os.getpid() != self._owner:
            return
        try:
            self.kill()
        finally:
            shutil.rmtree(self._directory)
            self._directory = None
            atexit.unregister(self.close)

    def _arguments(self) -> Iterator[str]:
        values: dict[str, object] = {
            "datadir": self.data_dir,
            "socket": self.socket,
            "port": self.port,
            "pid_file": self.directory / "mysqld.pid",
            "tmpdir": self.directory,  # at its start MariaDB removes the temporary tables of whoever shares it
        }
        if self.tls:
            values["ssl_ca"] = self.ca_file
            values["ssl_cert"] = self.directory / "server.pem"
            values["ssl_key"] = self.directory / "server.key"
        elif not self.is_mariadb:
            values["tls_version"] = ""
            values["auto_generate_certs"] = False
        for name, value in {**values, **self.options}.items():
            option = name.replace("_", "-")
            if value is False:
                yield f"--skip-{option}"
            elif value is True:
                yield f"--{option}"
            elif value is not None:
                yield f"--{option}={value}"

    def _launch(self) -> None:
        server = installation(self.kind)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                _as_server([*server.command, "--no-defaults", *server.options, *self._arguments()]),
                cwd=self.directory,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the server in order
            )
        # By TCP, which opens last, and as root: init_connect and max_connections may keep others out.
        login = self.parameters(user=ROOT_USER, database=None, connect_timeout=5)
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                pymysql.connect(**login).close()
                break
            except pymysql.OperationalError as error:
                reason = error
            try:
                status = self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                raise ServerFailed(f"{self!r} does not answer: {reason}\n{self._log_tail()}") from reason
            self._process = None
            raise ServerFailed(f"{self!r} ended with {status} at its start\n{self._log_tail()}")
        if not self.is_mariadb:
            self._remember_password()

    def _remember_password(self) -> None:
        """Log the user in once: from then on MySQL checks its password without TLS or an RSA exchange."""
        try:
            connection = pymysql.connect(**self.parameters(database=None))
        except pymysql.OperationalError:  # after the login, when an init_connect of the test fails
            return
        number: int = connection.thread_id()
        connection.close()
        deadline = time.monotonic() + _START_TIMEOUT
        with self.admin() as admin:
            while (APP_USER, number) in _connections(admin):  # the server notices later than we that it is closed
                assert time.monotonic() < deadline, "the first connection does not end"

    def _write_certificates(self) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert(HOST, "localhost")
        for name, content, mode in (
            ("server.key", certificate.private_key_pem.bytes(), 0o600),
            ("server.pem", b"".join(blob.bytes() for blob in certificate.cert_chain_pems), 0o644),
            ("ca.pem", authority.cert_pem.bytes(), 0o644),
        ):
            place = self.directory / name
            place.write_bytes(content)
            place.chmod(mode)
            _give_to_server(place)

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(["last lines of the server's log:", *lines[-40:]])


# Watching the server ----------------------------------------------------------------------------------------


def connection_count(server: MySQLServer, user: str | None = None, database: str | None = None) -> int:
    """Client connections the server has right now, without the asking one; the arguments narrow it down."""
    with server.admin() as admin:
        rows = _connections(admin, database)
    return sum(user in (None, name) for name, _ in rows)


def _connections(admin: pymysql.connections.Connection[Any], database: str | None = None) -> list[tuple[str, int]]:
    with admin.cursor() as cursor:
        cursor.execute(
            """
            select user, id from information_schema.processlist
            where id <> connection_id() and user not in ('system user', 'event_scheduler')
              and (%(database)s is null or db = %(database)s)
            """,
            {"database": database},
        )
        return [(str(user), int(number)) for user, number in cursor.fetchall()]


class ConnectionSampler:
    """Reads the process list every 20 ms during `with ConnectionSampler(server) as sampler:`, without itself.

    user: whose connections `most` and `ids` are about. database: only connections that are in it now. interval:
    seconds. An error of the reading thread, such as the server going away, is raised at the end of the block.
    """

    def __init__(
        self, server: MySQLServer, *, user: str = APP_USER, database: str | None = None, interval: float = 0.02
    ) -> None:
        self.samples: list[Sample] = []
        self._server = server
        self._user = user
        self._database = database
        self._interval = interval
        self._finish = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="connection-sampler", daemon=True)

    def __enter__(self) -> ConnectionSampler:
        self._admin = self._server._connect_admin()
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish.set()
        self._thread.join()
        if self._admin.open:
            self._admin.close()
        if self._error is not None and error is None:
            raise self._error

    @property
    def most(self) -> int:
        """The most connections of the user that one sample showed."""
        return max(sample.count(self._user) for sample in self.samples)

    @property
    def ids(self) -> frozenset[int]:
        """The connection ids of the user that were ever seen."""
        return frozenset().union(*(sample.backends.get(self._user, frozenset()) for sample in self.samples))

    def _run(self) -> None:
        try:
            while not self._finish.wait(self._interval):
                self._take()
            self._take()
        except BaseException as error:
            self._error = error

    def _take(self) -> None:
        at = time.monotonic()
        by_user: dict[str, set[int]] = {}
        for user, number in _connections(self._admin, self._database):
            by_user.setdefault(user, set()).add(number)
        self.samples.append(Sample(at, {user: frozenset(numbers) for user, numbers in by_user.items()}))
