"""Sessions of every kind over few backends of MySQL and MariaDB that are killed all the time, and an account of it."""

from __future__ import annotations

import collections
import contextlib
import gc
import random
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import SSCursor

import rdsproxy_lib
from tests.servers import TcpRelay

SECONDS = 8.0
SESSIONS = 12
BACKENDS = 4
INTERRUPTED = {1317, 1028, 3100}
"""What the server says to a statement that KILL QUERY hit."""
GONE = {2013, 2006, 1927, 1053, 1077, 1080}
"""What the driver or the server says where the connection went."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the driver's, of half-read cursors
]


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

    def __init__(self, proxy: rdsproxy_lib.Proxy, number: int, seed: int, account: Account, mode: str) -> None:
        self.proxy, self.number, self.account, self.mode = proxy, number, account, mode
        self.random = random.Random(seed * 1000 + number)
        self.name = f"actor {number}"
        self.key = ""
        self.writes = False
        """Whether the deed may have changed something that a driver's own error would not tell about."""
        self.conn = self.open()

    def open(self) -> Any:
        self.is_several = self.random.random() < 0.3
        flag = {"client_flag": CLIENT.MULTI_STATEMENTS} if self.is_several else {}
        self.state: Any = (None, self.mode, "SYSTEM", self.proxy.target.dbname, "utf8mb4")
        """What look_around() finds; None where a statement that sets was cut short by KILL QUERY."""
        return self.proxy.connect(autocommit=self.random.random() < 0.5, **flag)

    def ask(self, text: str, *arguments: Any) -> Any:
        with self.conn.cursor() as cursor:
            cursor.execute(text, arguments)
            return cursor.fetchone()

    def insert(self) -> None:
        self.writes = True
        with self.conn.cursor() as cursor:
            cursor.execute("insert into journal (name) values (%s)", (self.key,))

    # deeds

    def block(self) -> None:
        self.conn.begin()
        self.ask("update owners set who = %s where id = %s", self.name, self.number)
        self.account.expect("own row", self.ask("select who from owners where id = %s", self.number), (self.name,))
        self.insert()
        self.conn.commit()
        self.account.acknowledged.append(self.key)

    def savepoint(self) -> None:
        self.conn.begin()
        self.insert()
        self.ask("savepoint one")
        self.ask("insert into journal (name) values (%s)", f"{self.key} undone")
        self.ask("rollback to savepoint one")
        self.conn.commit()
        self.account.acknowledged.append(self.key)

    def write(self) -> None:
        self.insert()
        self.conn.commit()
        self.account.acknowledged.append(self.key)

    def statements(self) -> None:
        """BEGIN and COMMIT as texts."""
        self.ask("begin")
        self.insert()
        self.ask("commit")
        self.account.acknowledged.append(self.key)

    def undo(self) -> None:
        self.conn.begin()
        self.ask("insert into journal (name) values (%s)", f"{self.key} undone")
        self.conn.rollback()

    def toggle(self) -> None:
        before = self.conn.get_autocommit()
        self.conn.autocommit(False)
        self.ask("insert into journal (name) values (%s)", f"{self.key} undone")
        self.conn.rollback()
        self.conn.autocommit(before)

    def several(self) -> None:
        if not self.is_several:
            return
        with self.conn.cursor() as cursor:
            self.writes = True
            cursor.execute("select %s; insert into journal (name) values (%s); select 2", (self.key, self.key))
            self.account.expect("first of several", cursor.fetchall(), ((self.key,),))
            assert cursor.nextset()
            assert cursor.nextset()
            self.account.expect("last of several", cursor.fetchall(), ((2,),))
        self.conn.commit()
        self.account.acknowledged.append(self.key)

    def fail(self) -> None:
        with contextlib.suppress(pymysql.ProgrammingError):
            self.ask("select no such thing")
        self.conn.rollback()

    def read(self) -> None:
        self.account.expect("read", self.ask("select %s", self.key), (self.key,))
        self.conn.rollback()

    def stream(self) -> None:
        with self.conn.cursor(SSCursor) as cursor:
            cursor.execute("select number, %s from numbers order by number", (self.key,))
            self.account.expect("stream", list(cursor), [(number, self.key) for number in range(50)])
        self.conn.commit()

    def half_stream(self) -> None:
        cursor = self.conn.cursor(SSCursor)
        cursor.execute("select number, %s, repeat('x', 2000) from numbers order by number", (self.key,))
        self.account.expect("half a stream", cursor.fetchone()[:2], (0, self.key))
        if self.random.random() < 0.5:
            cursor.close()
        else:
            del cursor
        self.account.expect("after half a stream", self.ask("select %s", self.key), (self.key,))
        self.conn.commit()

    def inserted_id(self) -> None:
        self.conn.begin()
        self.writes = True
        with self.conn.cursor() as cursor:
            cursor.execute("insert into journal (name) values (%s)", (self.key,))
            try:
                self.account.expect("LAST_INSERT_ID()", self.ask("select last_insert_id()"), (cursor.lastrowid,))
            except rdsproxy_lib.DiagnosticsLost:
                self.account.outcomes["refused"] += 1
        self.conn.commit()
        self.account.acknowledged.append(self.key)

    def warned(self) -> None:
        self.ask("select %s + 0", f"no number {self.number}")
        try:
            told = [message for _, _, message in self.conn.show_warnings()]
        except rdsproxy_lib.DiagnosticsLost:
            self.account.outcomes["refused"] += 1
            self.conn.rollback()
            return
        self.account.expect(
            "warnings of others", [text for text in told if f"no number {self.number}'" not in text], []
        )
        self.account.expect("warnings", len(told), 1)
        self.conn.rollback()

    def forget(self) -> None:
        self.conn = self.open()
        if self.random.random() < 0.1:
            gc.collect()

    def close(self) -> None:
        self.ask("select 1")
        self.conn.close()

    def cut_off(self) -> None:
        timer = threading.Timer(self.random.random() * 0.01, self.conn.close)
        timer.start()
        try:
            self.ask("select sleep(0.005)")
        except pymysql.Error:
            self.account.outcomes["cut off"] += 1
        finally:
            timer.join()

    def temporary_table(self) -> None:
        self.ask("create temporary table if not exists mine (who text)")
        self.ask("insert into mine values (%s)", self.name)
        self.account.expect("temporary table", self.ask("select distinct who from mine"), (self.name,))
        self.conn.close()

    def setting(self) -> None:
        before, self.state = self.state, None
        try:
            self.ask("set @who = %s, sql_mode = 'ANSI_QUOTES', time_zone = '+09:00'", self.name)
        except pymysql.OperationalError as error:
            if error.args[0] not in INTERRUPTED:
                self.state = before
            raise
        self.state = (self.name, "ANSI_QUOTES", "+09:00", self.proxy.target.dbname, "utf8mb4")
        seen = self.ask("select @who, @@sql_mode, @@time_zone")
        self.account.expect("setting", seen, self.state[:3])
        if self.random.random() < 0.5:
            self.conn.close()

    def locked(self) -> None:
        lock = f"lock {self.random.randrange(3)}"
        if self.ask("select get_lock(%s, 0)", lock) == (1,):
            seen = self.ask("select is_used_lock(%s) = connection_id()", lock)
            self.account.expect("lock", seen, (1,))
        self.conn.close()

    def look_around(self) -> None:
        seen = self.ask("select @who, @@sql_mode, @@time_zone, database(), @@character_set_client")
        self.account.expect("state of this session", seen, self.state or seen)
        # A KILL QUERY amid its own deed leaves a session that is pinned with its table.
        has_its_own = "TEMP_TABLE" in {reason.name for reason in self.conn.rdsproxy.pin_reasons}
        try:
            self.ask("select who from mine")
        except pymysql.ProgrammingError:
            pass
        else:
            self.account.expect("whose temporary table", has_its_own, True)
        self.conn.commit()

    def run(self, until: float) -> None:
        deeds: list[Callable[[], None]] = [
            *[self.block] * 4, *[self.write] * 4, *[self.look_around] * 3, *[self.savepoint] * 2, *[self.read] * 3,
            *[self.statements] * 2, self.undo, self.toggle, *[self.several] * 2, self.fail, self.stream,
            self.half_stream,
            self.inserted_id, self.warned, self.forget, self.close, self.cut_off, self.temporary_table, self.setting,
            self.locked,
        ]  # fmt: skip
        turn = 0
        while time.monotonic() < until:
            turn += 1
            self.key = f"{self.number}-{turn}"
            self.writes = False
            if not self.conn.open:
                self.conn = self.open()
            deed = self.random.choice(deeds)
            try:
                deed()
            except rdsproxy_lib.OutcomeUnknown as error:
                self.account.uncertain.append(self.key)
                self.recover("unknown", error, 2013)
            except rdsproxy_lib.TransactionLost as error:
                self.recover("transaction lost", error, 1213)
            except rdsproxy_lib.SessionLost as error:
                self.recover("session lost", error, 2013)
            except pymysql.OperationalError as error:
                code = error.args[0]
                if code in INTERRUPTED:
                    self.recover("query killed", error, code)
                elif code in GONE and not self.writes:
                    self.recover("lost while reading", error, code)
                else:
                    self.account.wrong.append((deed.__name__, repr(error), traceback.format_exc()))
                    self.recover("wrong", error, code)
            except BaseException as error:
                self.account.wrong.append((deed.__name__, repr(error), traceback.format_exc()))
                self.conn = self.open()
            else:
                self.account.outcomes["done"] += 1
        with contextlib.suppress(pymysql.err.Error):
            self.conn.close()

    def recover(self, outcome: str, error: BaseException, code: int) -> None:
        self.account.outcomes[outcome] += 1
        self.account.expect(f"code of {outcome}", error.args[0], code)
        while self.conn.open:
            try:
                self.conn.rollback()
                return
            except rdsproxy_lib.SessionLost:
                self.account.outcomes["session lost"] += 1
            except pymysql.OperationalError as again:
                if again.args[0] not in INTERRUPTED:
                    self.account.wrong.append(("rollback", repr(again), traceback.format_exc()))
                    return
            except BaseException as again:
                self.account.wrong.append(("rollback", repr(again), traceback.format_exc()))
                self.conn = self.open()


@pytest.fixture
def _finalisers_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is dropped is closed by the driver's finaliser, which may find that its connection was killed.

    Nobody can be told but the hook, and pytest's would keep the error, and with it the connection.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, pymysql.err.MySQLError):
            before(unraisable)

    monkeypatch.setattr(sys, "unraisablehook", hook)


@pytest.mark.usefixtures("_finalisers_may_fail")
def test_nothing_is_lost_doubled_or_seen_by_others(mysql_server, mysql_database):
    """Under a rain of killed backends each write is told truly, and no state of a session reaches another."""
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")
    account = Account()
    with (
        mysql_server.admin(database=mysql_database) as admin,
        admin.cursor() as cursor,
        TcpRelay(mysql_server.host, mysql_server.port) as relay,
        rdsproxy_lib.Proxy(
            mysql_server.url(database=mysql_database, port=relay.port),
            max_connections=BACKENDS,
            connection_borrow_timeout=20,
        ) as proxy,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # connections and streams are dropped on purpose
        cursor.execute("create table owners (id int primary key, who text) engine=innodb")
        cursor.executemany("insert into owners values (%s, '')", [(number,) for number in range(SESSIONS)])
        cursor.execute("create table numbers (number int primary key) engine=innodb")
        cursor.executemany("insert into numbers values (%s)", [(number,) for number in range(50)])
        cursor.execute("create table journal (id int primary key auto_increment, name varchar(60)) engine=innodb")
        cursor.execute("select @@global.sql_mode")
        (mode,) = cursor.fetchone()
        until = time.monotonic() + SECONDS
        actors = [Actor(proxy, number, seed, account, mode) for number in range(SESSIONS)]
        threads = [threading.Thread(target=actor.run, args=(until,), daemon=True) for actor in actors]
        for thread in threads:
            thread.start()
        killed = rain(admin, mysql_database, relay, random.Random(seed), until - 1)
        for thread in threads:
            thread.join(SECONDS + 30)
        hung = [thread for thread in threads if thread.is_alive()]
        del actors
        gc.collect()
        cursor.execute("select name from journal")
        stored = collections.Counter(name for (name,) in cursor.fetchall())
        print(f"killed {killed}, {dict(account.outcomes)}, {len(account.acknowledged)} writes acknowledged")
        for wrong in {wrong[:2]: wrong for wrong in account.wrong}.values():
            print(*wrong)

        assert hung == []
        assert [wrong[:2] for wrong in account.wrong] == []
        assert [key for key in account.acknowledged if not stored[key]] == []
        assert [key for key, times in stored.items() if times > 1] == []
        assert stored.keys() - set(account.acknowledged) - set(account.uncertain) == set()
        stats = proxy.stats()
        assert stats.database_connections_currently_borrowed == 0
        assert stats.client_connections == 0
        assert stats.database_connections <= BACKENDS
        assert sum(killed.values()) > 40
        assert account.outcomes["done"] > 300


def rain(admin: Any, database: str, relay: TcpRelay, chance: random.Random, until: float) -> collections.Counter[str]:
    """End some connection or statement of the application every few hundredths of a second."""
    done: collections.Counter[str] = collections.Counter()
    while (now := time.monotonic()) < until:
        threading.Event().wait(min(until - now, chance.random() * 0.06))
        how = chance.choice(("connection", "connection", "connection", "query", "query", "cut"))
        if how == "cut":
            relay.cut_after(chance.randrange(300), chance.choice(("to_server", "to_client")))
            done[how] += 1
            continue
        with admin.cursor() as cursor, contextlib.suppress(pymysql.OperationalError):  # 1094: it went just now
            cursor.execute(
                "select id from information_schema.processlist where user = 'app' and db = %s order by rand() limit 1",
                (database,),
            )
            if row := cursor.fetchone():
                cursor.execute(f"kill {how} {row[0]}")
                done[how] += 1
    return done
