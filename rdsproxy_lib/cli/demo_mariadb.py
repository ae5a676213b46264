"""MariaDB for the demo: the programs that are installed on this machine, with data of their own."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pymysql

from .demo_server import HOST, START_SECONDS, USER, CannotStart, DemoServer, NotInstalled

PROGRAMS = ("mariadbd", "mariadb-install-db", "my_print_defaults")  # the second needs the third


def _programs() -> list[Path]:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/libexec"))
    found = [shutil.which(name, path=places) for name in PROGRAMS]
    if None in found:
        raise NotInstalled(
            "MariaDB is not installed (on Debian and Ubuntu: apt install mariadb-server-core mariadb-client-core)"
        )
    return [Path(place) for place in found if place is not None]


class MariaDB(DemoServer):
    """MariaDB, and PyMySQL."""

    ENGINE = "mysql"
    TITLE = "MariaDB"
    DATABASE = "demo"
    ADMIN = "watcher"
    ACCOUNTS = ("mysql", "nobody")
    FAREWELLS = (signal.SIGTERM, signal.SIGKILL)
    CONNECTION_ID = "connection_id()"
    CONNECTIONS = "select id from information_schema.processlist where user = %s"

    def connect(self, user: str = USER, **keywords: Any) -> pymysql.connections.Connection[Any]:
        return pymysql.connect(
            host=HOST,
            port=self.port,
            user=user,
            password=self._password,
            database=self.DATABASE,
            connect_timeout=START_SECONDS,
            ssl_disabled=True,  # without this the driver loads all certificates for each connection
            **keywords,
        )

    def proxy_arguments(self) -> dict[str, Any]:
        return {**super().proxy_arguments(), "driver_options": {"ssl_disabled": True}}

    def _start(self) -> None:
        server, install, _ = _programs()
        directory = self._make_directory()
        data, accounts, local = directory / "data", directory / "accounts.sql", directory / "socket"
        accounts.write_text(
            f"create database {self.DATABASE};\n"
            f"create user {self.ADMIN}@'{HOST}' identified by '{self._password}';\n"
            f"grant all on *.* to {self.ADMIN}@'{HOST}';\n"
            f"create user {USER}@'{HOST}' identified by '{self._password}';\n"
            f"grant all on {self.DATABASE}.* to {USER}@'{HOST}';\n"
        )
        accounts.chmod(0o600)
        self._hand_over(accounts)
        self._run(install, "--no-defaults", f"--datadir={data}", f"--tmpdir={directory}", "--skip-test-db")
        self._take_port()
        settings = {
            "datadir": data,
            "tmpdir": directory,
            "pid-file": directory / "server.pid",
            "socket": local,
            "bind-address": HOST,
            "port": self.port,
            "max-connections": self._max_connections,
            "init-file": accounts,
            "innodb-flush-log-at-trx-commit": 0,  # as the data is thrown away in a minute
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        # It makes the socket last of all it listens on, and answers when the init-file has run.
        self._launch(server, ["--no-defaults", "--skip-name-resolve", *options], local.exists)
        try:
            self.connect(self.ADMIN).close()
        except pymysql.OperationalError as error:
            raise CannotStart(f"the server cannot be used: {error}\n{self._log_tail()}") from error
