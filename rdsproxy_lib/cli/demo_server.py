"""Database servers for the demo: on 127.0.0.1, in a temporary directory, gone afterwards."""

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
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

HOST = "127.0.0.1"
USER = "app"
"""Who does the work. Who watches is an administrator of another name."""
START_SECONDS = 60.0
STOP_SECONDS = 10.0
READY_POLL_SECONDS = 0.02


class CannotStart(Exception):
    """There is no server; the message says why and what to do."""


class NotInstalled(CannotStart):
    """Its programs are not on this machine."""


class DemoServer(ABC):
    """One server with the user `app` and a database; `with MariaDB(max_connections=300) as server:`.

    Everything is in a temporary directory, which the end of the block removes. For the main thread. Raises CannotStart.
    A subclass is one kind of server, with what the demo says to it differently.
    """

    ENGINE: ClassVar[str]
    """As `Proxy` calls it."""
    TITLE: ClassVar[str]
    DATABASE: ClassVar[str]
    ADMIN: ClassVar[str]
    ACCOUNTS: ClassVar[tuple[str, str]]
    """Who runs the server when we are root, whom it refuses: the first of them that there is."""
    FAREWELLS: ClassVar[tuple[signal.Signals, ...]]
    """What makes it stop: in a good way, and if that takes too long, in worse ones."""
    CONNECTION_ID: ClassVar[str]
    """SQL: the number of the database connection that runs it."""
    CONNECTIONS: ClassVar[str]
    """SQL: the numbers of all connections of one user."""

    def __init__(self, *, max_connections: int) -> None:
        self.port = 0
        self._max_connections = max_connections
        self._password = secrets.token_hex(16)
        self._account: pwd.struct_passwd | None = None
        self._process: subprocess.Popen[bytes] | None = None  # the server; before it, the program that makes its data
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

    @property
    def directory(self) -> Path:
        """Where all of it is."""
        assert self._directory is not None, "the server is not running"
        return self._directory

    @abstractmethod
    def connect(self, user: str = USER, **keywords: Any) -> Any:
        """A private connection of the driver's."""

    def proxy_arguments(self) -> dict[str, Any]:
        """What a `Proxy` needs to know of this server."""
        return {
            "engine": self.ENGINE,
            "host": HOST,
            "port": self.port,
            "user": USER,
            "password": self._password,
            "dbname": self.DATABASE,
        }

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
            for farewell in self.FAREWELLS:
                process.send_signal(farewell)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
                    break
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    # -- starting

    @abstractmethod
    def _start(self) -> None:
        """Make a directory, the data in it, and start the server."""

    def _make_directory(self) -> Path:
        self._account = self._find_account()
        parent = Path(tempfile.gettempdir()).resolve()
        if self._account is not None and not is_reachable(parent):
            parent = Path("/tmp")
        self._directory = Path(tempfile.mkdtemp(prefix="rdsproxy-demo-", dir=parent))
        self._log = self._directory / "server.log"
        self._hand_over(self._directory)
        return self._directory

    def _find_account(self) -> pwd.struct_passwd | None:
        """None: ourselves."""
        if os.geteuid() != 0:
            return None
        for name in self.ACCOUNTS:
            with suppress(KeyError):
                return pwd.getpwnam(name)
        first, second = self.ACCOUNTS
        raise CannotStart(
            f"{self.TITLE} does not run as root, and there is neither a user {first!r} nor a user {second!r} to run it;"
            " run the demo as an ordinary user"
        )

    def _hand_over(self, place: Path) -> None:
        """Give a file of ours to whoever runs the server."""
        if self._account is not None:
            os.chown(place, self._account.pw_uid, self._account.pw_gid)

    def _take_port(self) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]

    def _run(self, program: Path, *arguments: str) -> None:
        """Run a program to its end."""
        self._process = self._popen(program, arguments)
        if self._process.wait() != 0:
            raise CannotStart(f"{program.name} failed\n{self._log_tail()}")

    def _launch(self, program: Path, arguments: Sequence[str], is_ready: Callable[[], bool]) -> None:
        """Start the server, and wait until `is_ready`, which looks at files.

        Not at the port: a connection to a port of one's own machine on which nobody listens yet can end up at itself.
        """
        self._process = self._popen(program, arguments)
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if self._process.poll() is not None:
                raise CannotStart(f"the server ended at its start\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise CannotStart(f"the server was not ready within {START_SECONDS:.0f} s\n{self._log_tail()}")
            time.sleep(READY_POLL_SECONDS)

    def _popen(self, program: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
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
                f"{self.TITLE} does not run as root, and {program.name} cannot be started as"
                f" {self._account.pw_name!r}: {error}; run the demo as an ordinary user"
            ) from error

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


def is_reachable(directory: Path) -> bool:
    """Whether every user can enter it."""
    return all(place.stat().st_mode & 0o005 == 0o005 for place in (directory, *directory.parents))
