"""A server for statements that reach across databases, and a stage on it that is built anew for each row."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from rdsproxy_lib import Proxy
from tests.servers import APP_DATABASE, APP_USER, SUPERUSER, PostgresServer

SECONDS = 15.0
"""How long a test waits for something that has to happen; never how long it takes."""

DATABASE = "stage"
# A superuser may give it at login: tablespaces then need no directory.
OPTIONS = "-c allow_in_place_tablespaces=on"

BASE = """
    create schema public;
    create table items (id int primary key, name text, price numeric, owner name default 'postgres');
    create table others (id int, a int, b text);
    insert into items (id, name) values (1, 'a'), (2, 'b');
    insert into others values (1, 1, 'b');
"""

# Everything a row may have made, the dependent things first.
_LEFT_BY_ROWS = """
    select format('rollback prepared %L', gid) from pg_prepared_xacts where database = current_database()
    union all select format('alter subscription %I disable', subname) from pg_subscription
    union all select format('alter subscription %I set (slot_name = none)', subname) from pg_subscription
    union all select format('drop subscription %I', subname) from pg_subscription
    union all select format('drop event trigger %I', evtname) from pg_event_trigger
    union all select format('drop publication %I', pubname) from pg_publication
    union all select format('drop extension %I cascade', extname) from pg_extension where oid >= 16384
    union all select format('drop schema %I cascade', nspname) from pg_namespace
        where (oid >= 16384 or nspname = 'public') and nspname not like 'pg\\_%'
    union all select format('drop foreign data wrapper %I cascade', fdwname) from pg_foreign_data_wrapper
    union all select format('drop language %I cascade', lanname) from pg_language where oid >= 16384
    union all select format('drop access method %I cascade', amname) from pg_am where oid >= 16384
    union all select format('drop transform for %s language %s', trftype::regtype, lanname)
        from pg_transform join pg_language on pg_language.oid = trflang
    union all select format('select lo_unlink(%s)', oid) from pg_largeobject_metadata
    union all select format('select pg_drop_replication_slot(%L)', slot_name) from pg_replication_slots
        where not temporary
    union all select format('select pg_replication_origin_drop(%L)', roname) from pg_replication_origin
        where roname not like 'pg\\_%'
    union all select format('alter role %I reset all', rolname) from pg_db_role_setting
        join pg_roles on pg_roles.oid = setrole where setdatabase = 0
    union all select format('alter role %I in database %I reset all', rolname, datname) from pg_db_role_setting
        join pg_roles on pg_roles.oid = setrole join pg_database on pg_database.oid = setdatabase
    union all select format('drop database %I', datname) from pg_database
        where oid >= 16384 and datname not in ('app', 'stage')
    union all select format('drop tablespace %I', spcname) from pg_tablespace where oid >= 16384
    union all select format('drop role %I', rolname) from pg_roles
        where oid >= 16384 and rolname not in ('app', 'reader', 'writer')
"""


class Stage:
    """A database that looks the same before every run of a row, and a proxy in front of it."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.version = int(server.version)
        with server.admin() as admin:
            admin.execute("create role reader")
            admin.execute("create role writer")
            admin.execute(f"create database {DATABASE}")
        self._admin = server.admin(DATABASE, options=OPTIONS)
        self._admin.execute("drop schema public")
        # For what the audit asks where the session has become somebody else.
        self._admin.execute("grant execute on function pg_replication_origin_session_is_setup() to public")
        self._stands: tuple[tuple[str, ...], str] | None = None
        self.proxy = Proxy(
            engine="postgresql",
            host=str(server.socket_dir),
            port=server.port,
            user=SUPERUSER,
            dbname=DATABASE,
            max_connections=2,
            connection_borrow_timeout=10,
            driver_options={"options": OPTIONS},
        )

    def build(self, objects: tuple[str, ...]) -> None:
        """Make the base objects and these, unless they are there and nothing was written since."""
        if self._stands == (objects, self._written()):
            return
        for (command,) in self._admin.execute(_LEFT_BY_ROWS).fetchall():
            self._admin.execute(command)
        self._admin.execute(BASE)
        for statement in objects:
            self._admin.execute(statement)
        self._stands = objects, self._written()

    def _written(self) -> str:
        """Something that changes with every transaction that writes."""
        row = self._admin.execute(
            "select concat_ws(' ', pg_snapshot_xmax(pg_current_snapshot()),"
            " (select count(*) from pg_replication_slots), (select count(*) from pg_prepared_xacts))",
            prepare=True,
        ).fetchone()
        assert row is not None
        return str(row[0])

    def private(self, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        """A connection of one's own."""
        return self.server.admin(DATABASE, options=OPTIONS, autocommit=autocommit)

    def until_gone(self, pid: int | None) -> None:
        """Return when this server process has ended."""
        deadline = time.monotonic() + SECONDS
        while self._admin.execute("select 1 from pg_stat_activity where pid = %s", [pid], prepare=True).fetchone():
            assert time.monotonic() < deadline, "it does not end"
            threading.Event().wait(0.001)

    def until_free(self, text: str) -> None:
        """Return when no ending process holds what the text takes for its process: the replication origin 'o'."""
        if "pg_replication_origin_session_setup" not in text:
            return
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self._admin.execute("select pg_replication_origin_session_setup('o')")
            except psycopg.errors.ObjectInUse:
                assert time.monotonic() < deadline, "it is never let go of"
                threading.Event().wait(0.001)
            except psycopg.errors.UndefinedObject:
                return  # the row makes it
            else:
                self._admin.execute("select pg_replication_origin_session_reset()")
                return

    def end_backends(self) -> None:
        """End the proxy's backends, and whoever else is left on the stage."""
        others = self._admin.execute(
            "select pid, pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
        ).fetchall()
        for pid, _ in others:
            self.until_gone(pid)

    def close(self) -> None:
        self.proxy.close()
        self._admin.close()


@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=pytest.mark.server(f"postgresql-{name}")) for name in ("15", "18")],
    ids=lambda name: f"postgresql-{name}",
)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Each server in turn, one that no other test sees: rows make databases, roles and tablespaces."""
    with PostgresServer(request.param, options={"wal_level": "logical"}) as server:
        stage = Stage(server)
        yield stage
        stage.close()


@pytest.fixture
def app_server(stage: Stage) -> PostgresServer:
    """The same servers, for the user `app`: its database is empty."""
    with stage.server.admin(APP_DATABASE) as admin:
        admin.execute(f"drop schema if exists public cascade; create schema public authorization {APP_USER}")
    return stage.server
