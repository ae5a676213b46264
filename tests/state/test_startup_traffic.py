# ruff: noqa: PT012  # how a block is left is what is tested
"""What drivers and frameworks send on their own, and what applications send first, does not pin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import psycopg
import pytest
import sqlalchemy
from sqlalchemy import orm

from .conftest import MySQLWorld, PostgresWorld, World, rows, value

POSTGRESQL = (
    "set search_path to pg_catalog, public",
    "select pg_catalog.set_config('search_path', '', false)",
    "set names 'utf8'",
    "set client_encoding to 'LATIN1'",
    "discard all",
    "discard plans",
    "discard sequences",
    "discard temp",
    "reset all",
    "reset search_path",
    "set time zone 'Europe/Berlin'",
    "set time zone interval '+02:00' hour to minute",
    "set timezone to default",
    "set role state_role_1",
    "set role none",
    "reset role",
    "set session authorization default",
    "reset session authorization",
    "select set_config('app.tenant_id', '42', false)",
    "select set_config('TimeZone', 'UTC', false)",
    "set app.tenant_id = '42'",
    "set session characteristics as transaction isolation level serializable",
    "set default_transaction_read_only = on",
    "set default_transaction_read_only = off",
    "set statement_timeout = '5min'",
    "set datestyle to iso, mdy",
    "set intervalstyle to postgres",
    "set extra_float_digits = 3",
    "set application_name = 'shop'",
    "set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; set row_security = off",
    "show transaction isolation level",
    "select version(); select current_schema()",
    "deallocate all",
    "unlisten *",
    "close all",
)
MYSQL = (
    "set names utf8mb4",
    "set names latin1",
    "set names utf8mb4 collate utf8mb4_unicode_ci",
    "set character set utf8mb4",
    "set character_set_results = null",
    "set autocommit = 1",
    "set autocommit = 0",
    "set session sql_mode = 'ANSI_QUOTES'",
    "set sql_mode = concat(@@sql_mode, ',STRICT_TRANS_TABLES')",
    "set @@session.sql_mode = default",
    "set session transaction isolation level read committed",
    "set session transaction read only",
    "set session transaction read write",
    "set time_zone = '+02:00'",
    "set foreign_key_checks = 0",
    "set foreign_key_checks = 1",
    "set unique_checks = 0",
    "set sql_auto_is_null = 0",
    "set sql_select_limit = default",
    "set sql_safe_updates = 1",
    "set net_write_timeout = 600, net_read_timeout = 600",
    "set session wait_timeout = 28800",
    "set max_execution_time = 1000",
    "set innodb_lock_wait_timeout = 5",
    "set group_concat_max_len = 100000",
    "set @tenant = 42",
    "set @tenant = 'forty-two'",
    "set @tenant = null",
    "set @old_sql_notes = @@sql_notes, sql_notes = 0",
    "set role state_role_1",
    "set role none",
    "select @@version, @@sql_mode, @@lower_case_table_names",
    "show variables like 'sql_mode'",
)


class Sharing:
    """Two sessions over one backend, that nothing may pin."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.proxy = world.proxy()

    def check(self, *sessions: Any) -> None:
        """Both run on the one backend, and nothing has pinned them."""
        stats = self.proxy.stats()
        assert (dict(stats.pins), stats.pinned_sessions) == ({}, ())
        assert stats.max_database_connections_allowed == 1
        if sessions:
            assert len(sessions) > 1
            assert [session.rdsproxy.pinned for session in sessions] == [False] * len(sessions)
            assert len({session.rdsproxy.backend_id for session in sessions}) == 1

    def run(self, *texts: str) -> None:
        """Each text on the one session, then on the other."""
        for autocommit in (True, False):
            pair = [self.world.connect(self.proxy, autocommit=autocommit) for _ in range(2)]
            for text in texts:
                if text.startswith("discard all") and not autocommit:
                    continue  # not inside a transaction
                for conn in pair:
                    rows(conn, text)
                    conn.commit()
                self.check(*pair)
            for conn in pair:
                conn.close()


@pytest.fixture
def sharing(world: World) -> Sharing:
    """Two sessions, on each of the four servers."""
    return Sharing(world)


def test_what_applications_send_first_does_not_pin_on_postgresql(postgres):
    """SET, RESET, DISCARD and set_config, one by one and all together in one session."""
    Sharing(postgres).run(*POSTGRESQL)


def test_what_applications_send_first_does_not_pin_on_mysql(mysql):
    """SET of variables, character sets, modes, isolation and roles, one by one and all together in one session."""
    unknown = "max_execution_time" if mysql.is_mariadb else "max_statement_time"
    Sharing(mysql).run(*(text for text in MYSQL if unknown not in text))


@pytest.mark.parametrize("local", [False, True])
def test_bound_set_config_does_not_pin(postgres, local):
    """set_config() with its name, its value or both as parameters, positional or named, also prepared."""
    sharing = Sharing(postgres)
    first, second = (postgres.connect(sharing.proxy) for _ in range(2))
    for number, conn in enumerate((first, second) * 4):
        with conn.transaction():
            conn.execute("select set_config('app.tenant_id', %s, %s)", [str(number), local])
            conn.execute("select set_config(%s, %s, %s)", ["app.other", str(number), local])
            conn.execute(
                "select set_config(%(name)s, %(value)s, %(local)s)",
                {"name": "work_mem", "value": f"{1001 + number}kB", "local": local},
                prepare=True,
            )
            mine = (str(number), str(number), f"{1001 + number}kB")
            question = (
                "select current_setting('app.tenant_id'), current_setting('app.other'), current_setting('work_mem')"
            )
            assert conn.execute(question).fetchone() == mine
        after = conn.execute(question).fetchone()
        assert after == (("", "", "4MB") if local else mine)
    sharing.check(first, second)


def test_prepared_statements_of_psycopg_do_not_pin(postgres):
    """prepare=True, and what the driver prepares by itself after five times, for sessions with different settings."""
    sharing = Sharing(postgres)
    first, second = (postgres.connect(sharing.proxy) for _ in range(2))
    first.execute("set timezone to 'Asia/Tokyo'")
    for number in range(12):
        for conn, hour in ((first, "21"), (second, "12")):
            if conn is second and number == 0:
                conn.execute("set timezone to 'UTC'")
            text = "select to_char(timestamptz '2020-01-01 12:00:00+00', 'HH24'), %s::int"
            assert conn.execute(text, [number]).fetchone() == (hour, number)
            assert conn.execute(text + " + 1", [number], prepare=True).fetchone() == (hour, number + 1)
    sharing.check(first, second)


def test_what_psycopg_does_for_its_attributes_does_not_pin(postgres):
    """autocommit, isolation_level, read_only, deferrable, adapters and TypeInfo are no state of a backend."""
    sharing = Sharing(postgres)
    first, second = (postgres.connect(sharing.proxy, autocommit=False) for _ in range(2))
    first.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    first.read_only = first.deferrable = True
    for conn, level in ((first, "serializable"), (second, "read committed")) * 2:
        assert psycopg.types.TypeInfo.fetch(conn, "int4") is not None
        assert value(conn, "show transaction_isolation") == level
        conn.commit()
        conn.autocommit = not conn.autocommit
        value(conn, "select 1")
        conn.autocommit = not conn.autocommit
    sharing.check(first, second)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"charset": "utf8mb4"},
        {"charset": "latin1"},
        {"autocommit": None},
        {"autocommit": True},
        {"sql_mode": "PIPES_AS_CONCAT"},
        {"init_command": "set session sql_mode = 'ANSI', @tenant = 1"},
        {"charset": "utf8mb4", "use_unicode": True, "collation": "utf8mb4_unicode_ci"},
    ],
    ids=str,
)
def test_what_pymysql_sends_for_its_arguments_does_not_pin(mysql, keywords):
    """SET NAMES, SET AUTOCOMMIT, sql_mode and init_command of a connect, and its methods afterwards."""
    sharing = Sharing(mysql)
    first, second = (sharing.proxy.connect(**keywords) for _ in range(2))
    with closing(first), closing(second):
        for conn in (first, second):
            conn.autocommit(True)
            conn.ping()
            conn.select_db(mysql.database)
            conn.set_character_set("utf8mb4")
            assert value(conn, "select %s", ("é",)) == "é"
            conn.autocommit(False)
            conn.begin()
            value(conn, "select 1")
            conn.commit()
        sharing.check(first, second)


# -- SQLAlchemy


class Base(orm.DeclarativeBase):
    """The tables."""


class Item(Base):
    """Something with a name."""

    __tablename__ = "items"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sqlalchemy.String(50), unique=True)


@pytest.fixture
def make_engine(sharing: Sharing) -> Iterator[Callable[..., sqlalchemy.Engine]]:
    """Makes SQLAlchemy engines over the proxy."""
    made: list[sqlalchemy.Engine] = []
    dialect = "postgresql+psycopg" if sharing.world.engine == "postgresql" else "mysql+pymysql"

    def make(**keywords: Any) -> sqlalchemy.Engine:
        made.append(sqlalchemy.create_engine(f"{dialect}://", creator=sharing.proxy.connect, **keywords))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def test_sqlalchemy_does_not_pin(sharing, make_engine):
    """Its connect sequence, transactions, savepoints, errors and isolation levels, with two connections in turn."""
    engine = make_engine()
    Base.metadata.create_all(engine)
    with engine.connect() as first, engine.connect() as second:
        for number in range(4):
            for conn, name in ((first, "first"), (second, "second")):
                with orm.Session(conn) as session, session.begin():
                    session.add(Item(name=f"{name} {number}"))
                    session.flush()
                    with pytest.raises(sqlalchemy.exc.IntegrityError), session.begin_nested():
                        session.add(Item(name=f"{name} {number}"))
                        session.flush()
                conn.execution_options(isolation_level="AUTOCOMMIT")
                count = conn.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(Item))
                conn.rollback()
                conn.execution_options(isolation_level="SERIALIZABLE" if number % 2 else "READ COMMITTED")
                assert count == 2 * number + (1 if name == "first" else 2)
        sharing.check(first.connection.driver_connection, second.connection.driver_connection)
    sharing.check()


def test_sqlalchemy_with_settings_at_connect_does_not_pin(sharing, make_engine):
    """A listener for "connect" that sets what each connection is to have, as its documentation shows it."""
    setting = sharing.world.settings[0]
    engine, plain = make_engine(), make_engine()

    @sqlalchemy.event.listens_for(engine, "connect")
    def set_up(dbapi_connection: Any, record: Any) -> None:
        with closing(dbapi_connection.cursor()) as cursor:
            cursor.execute(setting.set)
        dbapi_connection.commit()

    with engine.connect() as first, plain.connect() as second:
        for _ in range(3):
            assert first.scalar(sqlalchemy.text(setting.show)) == setting.mine
            first.commit()
            assert second.scalar(sqlalchemy.text(setting.show)) == setting.usual
            second.commit()
        sharing.check(first.connection.driver_connection, second.connection.driver_connection)


# -- peewee and Django


def test_peewee_does_not_pin(sharing):
    """Its connections run under autocommit and send BEGIN, COMMIT and SAVEPOINT as text."""
    is_postgresql = isinstance(sharing.world, PostgresWorld)
    kind = peewee.PostgresqlDatabase if is_postgresql else peewee.MySQLDatabase

    class Multiplexed(kind):  # type: ignore[misc, valid-type]
        def _connect(self) -> Any:
            return sharing.proxy.connect(autocommit=True)

    databases = [Multiplexed(sharing.world.database) for _ in range(2)]
    opened = []
    for database in databases:
        database.connect()
        opened.append(database.connection())
    databases[0].execute_sql("create table peewee_items (name varchar(20))")
    for number in range(3):
        for database in databases:
            with database.atomic():
                database.execute_sql("insert into peewee_items values (%s)", (f"item {number}",))
                with pytest.raises(ZeroDivisionError), database.atomic():
                    database.execute_sql("delete from peewee_items")
                    raise ZeroDivisionError
    ((count,),) = databases[1].execute_sql("select count(*) from peewee_items").fetchall()
    assert count == 6
    sharing.check(*opened)
    for database in databases:
        database.close()


@pytest.mark.slow
def test_django_does_not_pin(world):
    """Two connections of Django, with time zones of their own: migrations, the ORM, savepoints, iterators."""
    program = Path(__file__).with_name("django_program.py")
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(program), world.url()],
        cwd=program.parents[2],
        env={"PYTHONPATH": str(program.parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["pins"] == {}
    assert told["events"] == []
    assert told["pinned"] == [False, False]
    assert told["backends"] == 1
    assert told["opened"] <= 2  # of PostgreSQL's the first one became the ghost
    assert told["rows"] == 8
    assert told["shown"] == ("READ-COMMITTED" if isinstance(world, MySQLWorld) else "UTC")
    if isinstance(world, PostgresWorld):
        assert told["relabels"] > 4
