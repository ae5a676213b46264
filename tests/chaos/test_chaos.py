"""Sessions of every kind over few backends that are killed all the time, and an account of each write."""

from __future__ import annotations

import collections
import contextlib
import gc
import logging
import random
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import rdsproxy_lib

SECONDS = 8.0
SESSIONS = 12
BACKENDS = 4

pytestmark = pytest.mark.slow


class Account:
    """What the sessions were told, and whatever they saw that they should not have."""

    def __init__(self) -> None:
        self.acknowledged: collections.deque[str] = collections.deque()
        self.uncertain: collections.deque[str] = collections.deque()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.wrong: collections.deque[Any] = collections.deque()

    def expect(self, what: str, seen: Any, right: Any) -> None:
        if seen != right:
            self.wrong.append((what, seen, right))


class Actor:
    """One application thread, with a client connection that it replaces now and then."""

    def __init__(self, proxy: rdsproxy_lib.Proxy, number: int, seed: int, account: Account) -> None:
        self.proxy, self.number, self.account = proxy, number, account
        self.random = random.Random(seed * 1000 + number)
        self.name = f"actor {number}"
        self.key = ""
        self.has_set = ""
        """What the session has in its setting."""
        self.conn = self.open()

    def open(self) -> psycopg.Connection[Any]:
        self.has_set = ""
        return self.proxy.connect(autocommit=self.random.random() < 0.5)

    def block(self) -> None:
        conn = self.conn
        with conn.transaction():
            conn.execute("update owners set who = %s where id = %s", (self.name, self.number))
            seen = conn.execute("select who from owners where id = %s", (self.number,)).fetchone()
            self.account.expect("own row", seen, (self.name,))
            conn.execute("insert into journal values (%s)", (self.key,))
        if not conn.autocommit:
            conn.commit()
        self.account.acknowledged.append(self.key)

    def write(self) -> None:
        self.conn.execute("insert into journal values (%s)", (self.key,))
        self.conn.commit()
        self.account.acknowledged.append(self.key)

    def fail(self) -> None:
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            self.conn.execute("select 1/0")
        self.conn.rollback()

    def pipeline(self) -> None:
        with self.conn.pipeline():
            cursors = [self.conn.execute("select %s::int", (number,)) for number in range(3)]
            self.account.expect("pipeline", [cursor.fetchone() for cursor in cursors], [(0,), (1,), (2,)])
        self.conn.commit()

    def stream(self) -> None:
        rows = list(self.conn.cursor().stream("select generate_series(1, 50)"))
        self.account.expect("stream", rows, [(number,) for number in range(1, 51)])
        self.conn.commit()

    def copy(self) -> None:
        with self.conn.cursor().copy("copy (select generate_series(1, 20)) to stdout") as copy:
            self.account.expect("copy", len(list(copy.rows())), 20)
        self.conn.commit()

    def forget(self) -> None:
        self.conn = self.open()
        if self.random.random() < 0.1:
            gc.collect()

    def close(self) -> None:
        self.conn.execute("select 1")
        self.conn.close()

    def temporary_table(self) -> None:
        self.conn.execute("create temp table if not exists mine (who text)")
        self.conn.execute("insert into mine values (%s)", (self.name,))
        self.account.expect("temp table", set(self.conn.execute("select who from mine")), {(self.name,)})
        self.conn.close()

    def setting(self) -> None:
        value = f"{self.name}, {self.key}"
        self.conn.execute("select set_config('chaos.who', %s, false)", (value,))
        if self.conn.autocommit:
            self.has_set = value
        elif self.random.random() < 0.3:
            self.conn.rollback()
        else:
            self.conn.commit()
            self.has_set = value
        self.look_around()

    def look_around(self) -> None:
        query = "select coalesce(current_setting('chaos.who', true), ''), to_regclass('mine')"
        row = self.conn.execute(query).fetchone()
        self.account.expect("settings, and state of others", row, (self.has_set, None))
        self.conn.commit()

    def cancelled(self) -> None:
        how = self.conn.cancel if self.random.random() < 0.5 else self.conn.cancel_safe
        timer = threading.Timer(self.random.random() * 0.01, how)
        timer.start()
        try:
            self.conn.execute("select pg_sleep(0.004)")
        except psycopg.errors.QueryCanceled:
            self.account.outcomes["cancelled"] += 1
        finally:
            timer.join()
            self.conn.rollback()

    def run(self, until: float) -> None:
        deeds: list[Callable[[], None]] = [
            *[self.block] * 5, *[self.write] * 4, *[self.look_around] * 3, *[self.fail] * 2, *[self.pipeline] * 2,
            *[self.setting] * 2, self.stream, self.copy, self.forget, self.close, self.temporary_table, self.cancelled,
        ]  # fmt: skip
        turn = 0
        while time.monotonic() < until:
            turn += 1
            self.key = f"{self.number}-{turn}"
            if self.conn.closed:
                self.conn = self.open()
            try:
                self.random.choice(deeds)()
            except rdsproxy_lib.OutcomeUnknown:
                self.account.uncertain.append(self.key)
                self.recover("unknown")
            except (rdsproxy_lib.TransactionLost, rdsproxy_lib.SessionLost) as error:
                self.recover(type(error).__name__)
            except psycopg.errors.QueryCanceled:
                self.account.wrong.append(("another session's cancel", self.name))
                self.recover("cancelled")
            except psycopg.OperationalError:
                self.recover("lost while reading")
            else:
                self.account.outcomes["done"] += 1
        self.conn.close()

    def recover(self, outcome: str) -> None:
        self.account.outcomes[outcome] += 1
        if not self.conn.closed:
            self.conn.rollback()


def test_nothing_is_lost_doubled_or_seen_by_others(server, database, url, caplog):
    """Under a rain of killed backends each write is told truly, a session keeps what it has set, and no state of a
    session reaches another."""
    caplog.set_level(logging.CRITICAL, "psycopg")  # its records would keep the connections they are about
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")
    account = Account()
    with server.admin(database) as admin, rdsproxy_lib.Proxy(url, max_connections=BACKENDS) as proxy:
        admin.autocommit = True
        with proxy.connect(autocommit=True) as conn:
            conn.execute("create table owners as select id, '' as who from generate_series(0, 20) id")
            conn.execute("create table journal (key text)")
        until = time.monotonic() + SECONDS
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # connections are dropped on purpose
            actors = [Actor(proxy, number, seed, account) for number in range(SESSIONS)]
            threads = [threading.Thread(target=actor.run, args=(until,), daemon=True) for actor in actors]
            for thread in threads:
                thread.start()
            killed = rain(admin, random.Random(seed), until - 1)
            for thread in threads:
                thread.join(SECONDS + 30)
            hung = [thread for thread in threads if thread.is_alive()]
            del actors
            gc.collect()
        stored = collections.Counter(row[0] for row in admin.execute("select key from journal"))
        print(f"killed {killed}, {dict(account.outcomes)}, {len(account.acknowledged)} writes acknowledged")

        assert hung == []
        assert list(account.wrong) == []
        assert [key for key in account.acknowledged if not stored[key]] == []
        assert [key for key, times in stored.items() if times > 1] == []
        assert stored.keys() - set(account.acknowledged) - set(account.uncertain) == set()
        stats = proxy.stats()
        assert stats.database_connections_currently_borrowed == 0
        assert stats.client_connections == 0
        assert stats.database_connections <= BACKENDS
        assert stats.relabels > 20
        assert stats.pins["TEMP_TABLE"] > 0
        assert sum(stats.pins.values()) - stats.pins["TEMP_TABLE"] <= killed  # died as a setting was to be read
        assert killed > 20
        assert account.outcomes["done"] > 500


def rain(admin: psycopg.Connection[Any], chance: random.Random, until: float) -> int:
    """End some backend of the application every few hundredths of a second."""
    killed = 0
    while (now := time.monotonic()) < until:
        threading.Event().wait(min(until - now, chance.random() * 0.06))
        killed += len(
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'"
                " and datname = current_database() order by random() limit 1"
            ).fetchall()
        )
    return killed
