"""Ten thousand idle sessions cost little."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

import rdsproxy_lib
from tests.servers import backend_count

SESSIONS = 10_000


@pytest.mark.slow
def test_ten_thousand_sessions(server, database, url):
    """Each ran one statement and holds no cursor: at most 5 database connections, under 3 KB of memory each."""
    with rdsproxy_lib.Proxy(url, max_connections=5) as proxy:
        warm = [proxy.connect() for _ in range(5)]
        for conn in warm:
            conn.execute("select 1")
        for conn in warm:
            conn.close()
        sessions = [None] * SESSIONS
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(SESSIONS):
                conn = proxy.connect(autocommit=True)
                conn.execute("select 1").fetchone()
                sessions[number] = conn
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (after - before) / SESSIONS < 3 * 1024
        assert backend_count(server, dbname=database) <= 5
        stats = proxy.stats()
        assert stats.client_connections == SESSIONS
        assert stats.database_connections <= 5
        for conn in sessions:
            conn.close()
        assert proxy.stats().client_connections == 0
