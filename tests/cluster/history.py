"""What clients were told about their writes, compared with what the surviving database has.

Each writes rows with numbers of their own, in and outside of transactions, and notes the answer. Afterwards:
acknowledged and missing is *lost*, reported as not done and present is *wrong*, twice is *double*.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import rdsproxy_lib

TABLE = "create table history (number bigint not null)"
HANG_SECONDS = 60.0


def run(conn: Any, text: str, parameters: Any = None) -> list[Any]:
    """Rows, on either engine."""
    with conn.cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


@dataclass
class History:
    """What was told, by number."""

    acknowledged: list[int] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    undone: list[int] = field(default_factory=list)
    """Reported as not having happened."""
    cut: int = 0
    """Reads that got an error."""
    errors: list[tuple[str, BaseException]] = field(default_factory=list)
    """Of work that has to go on without one, by its kind."""

    def check(self, present: Iterable[int]) -> None:
        """Compare it with the numbers that are in the table."""
        counts = Counter(present)
        assert {number: count for number, count in counts.items() if count > 1} == {}, "written twice"
        assert [number for number in self.acknowledged if number not in counts] == [], "acknowledged, and lost"
        assert [number for number in self.undone if number in counts] == [], "reported as not done, and there"
        told = {*self.acknowledged, *self.unknown, *self.undone}
        assert set(counts) <= told, "there, and nobody was told"


class Clients:
    """Threads that work until they are told to stop: `with Clients(proxy, threads=8) as clients:`."""

    def __init__(self, proxy: rdsproxy_lib.Proxy, threads: int, seed: int = 1) -> None:
        self.history = History()
        self._proxy = proxy
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        kinds = (self._write, self._transact, self._read, self._mix)
        self._threads = [
            threading.Thread(
                target=self._work, args=(kinds[at % 4], random.Random(f"{seed}/{at}")), name=f"client-{at}"
            )
            for at in range(threads)
        ]

    def __enter__(self) -> Clients:
        self.parked = [self._proxy.connect(autocommit=number % 2 == 0) for number in range(4)]
        for number, conn in enumerate(self.parked):
            run(conn, self._setting(number))
            conn.commit()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        deadline = time.monotonic() + HANG_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hung = [thread.name for thread in self._threads if thread.is_alive()]
        assert not hung, f"these hang: {hung}"

    def count(self) -> int:
        """How many writes were acknowledged so far."""
        return len(self.history.acknowledged)

    def _setting(self, number: int) -> str:
        if self._proxy.engine.name == "mysql":
            return f"set time_zone = '+0{number}:00'"
        return f"set timezone to 'Etc/GMT+{number}'"

    def check_parked(self) -> None:
        """Sessions that were parked all the time go on without an error, with their settings."""
        for number, conn in enumerate(self.parked):
            question = "select @@time_zone" if self._proxy.engine.name == "mysql" else "show timezone"
            ((value,),) = run(conn, question)
            assert value == self._setting(number).split("'")[1]
            conn.commit()
            conn.close()

    # -- the kinds of work

    def _work(self, work: Callable[[Any, random.Random], None], dice: random.Random) -> None:
        conn = self._proxy.connect(autocommit=work != self._transact)
        while not self._stop.is_set():
            work(conn, dice)
            time.sleep(dice.random() * 0.01)
        conn.close()

    def _write(self, conn: Any, dice: random.Random) -> None:
        number = next(self._numbers)
        try:
            run(conn, "insert into history values (%s)", (number,))
        except rdsproxy_lib.OutcomeUnknown:
            self.history.unknown.append(number)
        except Exception as error:
            self.history.undone.append(number)
            self.history.errors.append(("write", error))
        else:
            self.history.acknowledged.append(number)

    def _read(self, conn: Any, dice: random.Random) -> None:
        try:
            run(conn, "select count(*) from history")
        except Exception as error:
            if isinstance(error, rdsproxy_lib.Error):  # one that was cut has the driver's own
                self.history.errors.append(("read", error))
            self.history.cut += 1

    def _mix(self, conn: Any, dice: random.Random) -> None:
        (self._read if dice.random() < 0.5 else self._write)(conn, dice)

    def _transact(self, conn: Any, dice: random.Random) -> None:
        numbers = [next(self._numbers) for _ in range(dice.randrange(1, 4))]
        is_committing = False
        try:
            for number in numbers:
                run(conn, "insert into history values (%s)", (number,))
                if dice.random() < 0.3:
                    time.sleep(0.005)
            is_committing = True
            conn.commit()
        except rdsproxy_lib.OutcomeUnknown as error:
            self.history.unknown += numbers
            if not is_committing:
                self.history.errors.append(("transaction", error))
            self._roll_back(conn)
        except rdsproxy_lib.TransactionLost:
            self.history.undone += numbers
            self._roll_back(conn)
        except Exception as error:
            self.history.undone += numbers
            if not self._proxy.engine.says_read_only(error):  # which a transaction that was open has to be told
                self.history.errors.append(("transaction", error))
            self._roll_back(conn)
        else:
            self.history.acknowledged += numbers

    def _roll_back(self, conn: Any) -> None:
        try:
            conn.rollback()
        except Exception as error:
            self.history.errors.append(("rollback", error))
