"""Ten thousand idle sessions of MySQL and MariaDB cost little."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from pymysql.cursors import DictCursor

import rdsproxy_lib
from tests.mysql_servers import connection_count

SESSIONS, LIMIT = 10_000, 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "autocommit off", "transaction", "dict rows"])
def test_ten_thousand_sessions(mysql_server, mysql_database, mysql_url, kind):
    """Each ran a statement and holds no cursor: at most 5 database connections, under 5 KB of memory each."""
    arguments = {"autocommit": kind != "autocommit off"}
    if kind == "dict rows":
        arguments["cursorclass"] = DictCursor

    def use(conn):
        with conn.cursor() as cursor:
            if kind == "transaction":
                conn.begin()
            cursor.execute("select 1")
            assert cursor.fetchone()
            conn.commit()

    count = SESSIONS if kind == "plain" else SESSIONS // 10
    with rdsproxy_lib.Proxy(mysql_url, max_connections=LIMIT) as proxy:
        for _ in range(5):
            with proxy.connect(**arguments) as conn:
                use(conn)
        sessions = [None] * count
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(count):
                conn = proxy.connect(**arguments)
                use(conn)
                sessions[number] = conn
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        print(f"{(after - before) / count:.0f} bytes per session")
        assert (after - before) / count < 5 * 1024
        assert connection_count(mysql_server, user="app", database=mysql_database) <= LIMIT
        stats = proxy.stats()
        assert stats.client_connections == count
        assert stats.database_connections <= LIMIT
        for conn in sessions:
            conn.close()
        assert proxy.stats().client_connections == 0
