"""Many sessions and threads over five database connections, counted by the server."""

from __future__ import annotations

import random
import threading

import pytest

import rdsproxy_lib
from tests.servers import APP_USER, BackendSampler

SESSIONS, THREADS, LIMIT, TRANSACTIONS = 200, 32, 5, 20_000


@pytest.mark.slow
def test_two_hundred_sessions_over_five_connections(server, database, url):
    """20,000 transactions of 200 sessions in 32 threads: never more than 5 connections, no error, totals exact.

    A third of the sessions has a setting of its own, which each of its transactions finds, and no other.
    """
    with server.admin(database) as admin:
        admin.execute("create table counters (id int primary key, n int not null)")
        admin.execute("insert into counters select generate_series(0, 49), 0")
        admin.execute("grant all on counters to app")
    proxy = rdsproxy_lib.Proxy(url, max_connections=LIMIT)
    sessions = [proxy.connect(autocommit=number % 2 == 0) for number in range(SESSIONS)]
    own = [str(number) if number % 3 == 0 else "" for number in range(SESSIONS)]
    for conn, value in zip(sessions, own, strict=True):
        if value:
            conn.execute("select set_config('app.session', %s, false)", [value])
            conn.commit()
    seen: list[set[int]] = [set() for _ in sessions]
    errors: list[BaseException] = []
    expected = [0] * 50

    def work(thread: int) -> None:
        dice = random.Random(thread)
        mine = range(thread, SESSIONS, THREADS)
        try:
            for turn in range(TRANSACTIONS // THREADS):
                number = mine[turn % len(mine)]
                conn, counter = sessions[number], dice.randrange(50)
                with conn.transaction():
                    row = conn.execute(
                        "update counters set n = n + 1 where id = %s"
                        " returning pg_backend_pid(), coalesce(current_setting('app.session', true), '')",
                        [counter],
                    ).fetchone()
                assert row is not None
                assert row[1] == own[number]
                seen[number].add(row[0])
                added[thread][counter] += 1
        except BaseException as error:
            errors.append(error)

    added = [[0] * 50 for _ in range(THREADS)]
    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
    with BackendSampler(server, dbname=database) as sampler:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    expected = [sum(of) for of in zip(*added, strict=True)]
    with server.admin(database) as admin:
        assert [n for (n,) in admin.execute("select n from counters order by id")] == expected
    assert sum(expected) == TRANSACTIONS // THREADS * THREADS
    assert min(len(backends) for backends in seen) >= 2
    stats = proxy.stats()
    assert stats.database_connections <= LIMIT
    assert not stats.pins
    for conn in sessions:
        conn.close()
    proxy.close()
    over = [sample.at for sample in sampler.samples if sample.count(APP_USER) > LIMIT]
    if over:  # the first login's connection may still be on its way out
        assert stats.database_connections_closed
        assert over[-1] - sampler.samples[0].at < 1.0
