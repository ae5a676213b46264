"""Many sessions and threads over five database connections of MySQL and MariaDB, counted by the server."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from pymysql.cursors import SSCursor

import rdsproxy_lib
from tests.mysql_servers import ConnectionSampler

SESSIONS, THREADS, LIMIT, TRANSACTIONS, COUNTERS = 200, 32, 5, 20_000, 50


class Worker:
    """One thread with sessions of its own, and its book of what it was told."""

    def __init__(self, sessions: list[tuple[int, Any]], seed: int) -> None:
        self.sessions = sessions
        self.dice = random.Random(seed)
        self.seed = seed
        self.added = [0] * COUNTERS
        self.written: list[str] = []
        self.seen: dict[int, set[int]] = {number: set() for number, _ in sessions}
        self.error: BaseException | None = None
        self.kinds: list[Callable[[Any, Any, str], None]] = [
            *[self.count] * 4, self.write, self.write, self.nest, self.undo, self.fail, self.read, self.stream,
            self.several,
        ]  # fmt: skip

    def run(self) -> None:
        try:
            for turn in range(TRANSACTIONS // THREADS):
                number, conn = self.sessions[turn % len(self.sessions)]
                with conn.cursor() as cursor:
                    self.dice.choice(self.kinds)(conn, cursor, f"{self.seed}-{turn}")
                assert conn.rdsproxy.backend is None, "it holds a backend for nothing"
                self.seen[number].add(conn.rdsproxy.backend_id)
        except BaseException as error:
            self.error = error

    def count(self, conn: Any, cursor: Any, key: str) -> None:
        counter = self.dice.randrange(COUNTERS)
        conn.begin()
        assert cursor.execute("update counters set n = n + 1, who = %s where id = %s", (key, counter)) == 1
        assert cursor.execute("select who, connection_id() from counters where id = %s", (counter,)) == 1
        assert cursor.fetchone() == (key, conn.rdsproxy.backend_id)
        conn.commit()
        self.added[counter] += 1

    def write(self, conn: Any, cursor: Any, key: str) -> None:
        assert cursor.execute("insert into journal (name) values (%s)", (key,)) == 1
        row = cursor.lastrowid
        assert cursor.execute("select name from journal where id = %s", (row,)) == 1
        assert cursor.fetchone() == (key,)
        conn.commit()
        self.written.append(key)

    def nest(self, conn: Any, cursor: Any, key: str) -> None:
        conn.begin()
        cursor.execute("insert into journal (name) values (%s)", (key,))
        cursor.execute("savepoint a")
        cursor.execute("insert into journal (name) values (%s)", (f"{key} never",))
        cursor.execute("rollback to savepoint a")
        cursor.execute("select count(*) from journal where name in (%s, %s)", (key, f"{key} never"))
        assert cursor.fetchone() == (1,)
        conn.commit()
        self.written.append(key)

    def undo(self, conn: Any, cursor: Any, key: str) -> None:
        conn.begin()
        cursor.execute("insert into journal (name) values (%s)", (f"{key} undone",))
        conn.rollback()

    def fail(self, conn: Any, cursor: Any, key: str) -> None:
        cursor.execute("insert into journal (name) values (%s)", (key,))
        with pytest.raises(pymysql.IntegrityError):
            cursor.execute("insert into journal (name) values (%s)", (key,))
        conn.commit()
        self.written.append(key)

    def read(self, conn: Any, cursor: Any, key: str) -> None:
        assert cursor.execute("select %s, id from counters where id < 7 order by id", (key,)) == 7
        assert cursor.fetchall() == tuple((key, number) for number in range(7))
        conn.rollback()

    def stream(self, conn: Any, cursor: Any, key: str) -> None:
        with conn.cursor(SSCursor) as reader:
            reader.execute("select %s, id from counters order by id", (key,))
            assert list(reader) == [(key, number) for number in range(COUNTERS)]
        conn.commit()

    def several(self, conn: Any, cursor: Any, key: str) -> None:
        keys = [f"{key} {number}" for number in range(3)]
        assert cursor.executemany("insert into journal (name) values (%s)", [(each,) for each in keys]) == 3
        conn.commit()
        self.written += keys


@pytest.mark.slow
def test_two_hundred_sessions_over_five_connections(mysql_server, mysql_database, mysql_url):
    """20,000 transactions of every kind in 32 threads: at most 5 connections, nothing lost, doubled or mixed up."""
    with mysql_server.admin(database=mysql_database) as admin, admin.cursor() as cursor:
        cursor.execute("create table counters (id int primary key, n int not null, who varchar(40)) engine=innodb")
        cursor.executemany("insert into counters values (%s, 0, '')", [(number,) for number in range(COUNTERS)])
        cursor.execute(
            "create table journal (id int primary key auto_increment, name varchar(40) unique) engine=innodb"
        )
    proxy = rdsproxy_lib.Proxy(mysql_url, max_connections=LIMIT)
    sessions = [proxy.connect(autocommit=number % 2 == 0) for number in range(SESSIONS)]
    workers = [
        Worker([(number, sessions[number]) for number in range(thread, SESSIONS, THREADS)], thread)
        for thread in range(THREADS)
    ]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    with ConnectionSampler(mysql_server, database=mysql_database) as sampler:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [worker.error for worker in workers if worker.error] == []
    with mysql_server.admin(database=mysql_database) as admin, admin.cursor() as cursor:
        cursor.execute("select n from counters order by id")
        assert [n for (n,) in cursor.fetchall()] == [sum(of) for of in zip(*[w.added for w in workers], strict=True)]
        cursor.execute("select name from journal order by name")
        assert [name for (name,) in cursor.fetchall()] == sorted(name for worker in workers for name in worker.written)
    assert sampler.most <= LIMIT
    assert len(sampler.samples) > 20
    assert min(len(backends) for worker in workers for backends in worker.seen.values()) >= 2
    stats = proxy.stats()
    assert stats.database_connections <= LIMIT
    assert stats.database_connections_setup_succeeded <= LIMIT
    assert not stats.pins
    for conn in sessions:
        conn.close()
    assert proxy.stats().database_connections_currently_borrowed == 0
    proxy.close()
