"""The MySQL side of tests/rival.py: what a session gives back is at once put to other use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

from pymysql import err

from rdsproxy_lib.backend import MIXED, Backend
from rdsproxy_lib.engines.mysql import MySQLEngine
from rdsproxy_lib.engines.mysql_tracking import AUTOCOMMIT, IN_TRANSACTION
from rdsproxy_lib.pool import Pool
from rdsproxy_lib.settings import CLEAN, Settings, settings_of
from tests.rival import RivalPool

RIVAL_TABLE = (
    "create table if not exists rival_rows (id int primary key auto_increment, word text) auto_increment = 777000"
)


class MySQLRivalPool(RivalPool):
    """Leaves a rival's transaction open on every idle backend, and lends another one than last time if it can.

    When a backend is lent its transaction is over, but LAST_INSERT_ID(), ROW_COUNT(), FOUND_ROWS(), the list of
    warnings, the settings and the autocommit mode are the rival's.
    """

    def _forget(self) -> None:
        super()._forget()
        self.seen: WeakKeyDictionary[Any, set[int]] = WeakKeyDictionary()
        """The serial numbers of the backends that each session has had."""

    def borrow(self, login: object, timeout: float, owner: Any = None, wanted: Settings = CLEAN) -> Backend:
        """Let the rival out, and note who has what."""
        backend = super().borrow(login, timeout, owner, wanted)
        session = owner() if owner is not None else None
        if session is not None:
            self.seen.setdefault(session, set()).add(backend.serial)
        return backend

    def give_back(self, backend: Backend) -> None:
        """Let the rival in before anybody else can have it."""
        if backend.raw is not None and not self._waiters:
            with suppress(err.Error):
                _rival_comes(backend)
        Pool.give_back(self, backend)

    @staticmethod
    def _freed(backend: Backend) -> Backend:
        with suppress(err.Error):  # it died meanwhile: that is the borrower's to find
            rival_goes(backend)
        return backend


SETTINGS = {"sql_mode": "_utf8mb4'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "time_zone": "_utf8mb4'-09:00'"}
"""The rival's."""


def _rival_comes(backend: Any) -> None:
    wire = backend.raw
    run = MySQLEngine._run
    was_on = wire.server_status & AUTOCOMMIT
    run(wire, f"set autocommit = {0 if was_on else 1}")
    run(wire, f"set {', '.join(f'{name} = {value}' for name, value in SETTINGS.items())}")
    run(wire, "set transaction isolation level repeatable read, read write")
    run(wire, "begin")
    run(wire, "insert into rival_rows (word) values ('rival')")
    run(wire, "select * from rival_rows")
    run(wire, "select cast('rival' as signed)")
    _noted(backend)


def rival_goes(backend: Any) -> None:
    """End what the rival left open; what outlives a transaction stays."""
    wire = backend.raw
    if wire is None or wire._sock is None or not wire.server_status & IN_TRANSACTION:
        return
    run = MySQLEngine._run
    run(wire, "rollback and no chain no release")
    run(wire, "select cast('rival' as signed) union all select 2 union all select 3")
    assert not wire.server_status & IN_TRANSACTION
    _noted(backend)


def _noted(backend: Any) -> None:
    """Keep the books as a session of the library would."""
    backend.tracked.changes.clear()
    values = {**backend.label.values, **SETTINGS}
    backend.label = settings_of(values, backend.raw.server_status & AUTOCOMMIT)
    backend.used_by = None
    backend.sequences_of = MIXED


@contextmanager
def rivals() -> Iterator[None]:
    """Every Proxy made inside the block has a MySQLRivalPool."""
    with mock.patch("rdsproxy_lib.proxy.Pool", MySQLRivalPool):
        yield
