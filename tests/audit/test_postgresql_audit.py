"""The audit of PostgreSQL: it names what is left over, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from rdsproxy_lib import Proxy, StateLeaked
from rdsproxy_lib.settings import settings_of
from tests.servers import PostgresServer

SECONDS = 10.0
CUSTOM = ("app.tenant", "app.grün", "app.it's", "*", "")
"""What the sessions of the login are said to have named; the last are no names of settings."""

Opener = Callable[..., tuple[Any, Any]]


@pytest.fixture
def opened(database: str, server: PostgresServer) -> Iterator[Opener]:
    """Makes a backend of the real engine that nobody else has, with its engine."""
    backends: list[tuple[Any, Any]] = []

    def open_one(*, user: str = "app", **options: Any) -> tuple[Any, Any]:
        url = server.url(dbname=database)
        if user != "app":
            url = server.url(dbname=database, user=user, password="postgres-secret")
        proxy = Proxy(url, audit=True, **options)
        engine = proxy.engine
        backend = engine.open(proxy._login(None, None, {}), SECONDS)
        backends.append((engine, backend))
        return engine, backend

    yield open_one
    for engine, backend in backends:
        engine.close(backend)


@pytest.fixture
def asked(opened: Opener) -> tuple[Callable[..., list[str]], psycopg.Connection[Any], Any]:
    """A question for what is left over on a fresh backend, the driver's connection in it, and the backend."""
    engine, backend = opened()
    return lambda names=CUSTOM: list(engine.left_over(backend, names)), backend.raw, backend


def run(conn: psycopg.Connection[Any], text: str) -> None:
    with conn.cursor() as cursor:
        cursor.execute(text, prepare=False)


def test_nothing_is_left_on_a_fresh_one(asked):
    """What a login brings is no finding, and asking leaves nothing to be found."""
    left_over = asked[0]
    assert left_over() == []
    assert left_over() == []


LEFT = {
    "SET work_mem = '5MB'": ["setting work_mem"],
    "SET TIME ZONE 'Asia/Tokyo'": ["setting timezone"],
    "SET datestyle = 'German'": ["setting datestyle"],
    "SET search_path = app, pg_catalog": ["setting search_path"],
    "SELECT set_config('work_mem', '5MB', false)": ["setting work_mem"],
    "DO $$ BEGIN PERFORM set_config('work_mem', '5MB', false); END $$": ["setting work_mem"],
    "SET app.tenant = '7'": ["setting app.tenant"],
    "SET \"app.it's\" = '7'": ["setting app.it's"] if False else [],
    "SELECT set_config('app.grün', '7', false)": ["setting app.grün"],
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY": ["setting default_transaction_read_only"],
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE": [
        "setting default_transaction_deferrable",
        "setting default_transaction_isolation",
        "setting default_transaction_read_only",
    ],
    "LISTEN news": ["channel news"],
    "CREATE TEMP TABLE scratch (id serial primary key, note text)": [
        "temporary sequence scratch_id_seq",
        "temporary table scratch",
    ],
    "CREATE TEMP VIEW list AS SELECT 1 AS id": ["temporary view list"],
    "CREATE TEMP SEQUENCE numbers": ["temporary sequence numbers"],
    "CREATE TYPE pg_temp.mood AS ENUM ('sad')": ["temporary type mood"],
    "CREATE DOMAIN pg_temp.positive AS int": ["temporary type positive"],
    "BEGIN; DECLARE items CURSOR WITH HOLD FOR SELECT 1; COMMIT": ["cursor items"],
    "PREPARE find_one AS SELECT 1": ["prepared statement find_one"],
    "BEGIN; PREPARE find_one AS SELECT 1; ROLLBACK": ["prepared statement find_one"],
    "SELECT pg_advisory_lock(7)": ["advisory lock 0/7/1/ExclusiveLock"],
    "SELECT pg_advisory_lock_shared(1, 2)": ["advisory lock 1/2/2/ShareLock"],
    "BEGIN; SELECT pg_advisory_lock(7); ROLLBACK": ["advisory lock 0/7/1/ExclusiveLock"],
    "BEGIN": ["transaction"],
    "BEGIN; SET LOCAL work_mem = '5MB'": ["transaction"],
}


@pytest.mark.parametrize("text", LEFT)
def test_what_is_left_is_named(asked, text):
    """Each by its kind and name."""
    left_over, conn, _ = asked
    run(conn, text)
    assert left_over() == LEFT[text]
