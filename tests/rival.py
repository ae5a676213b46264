"""A pool that is as unkind as a busy one: what a session gives back is at once put to other use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import psycopg

from rdsproxy_lib.backend import Backend
from rdsproxy_lib.pool import Pool
from rdsproxy_lib.settings import CLEAN, Settings


class RivalPool(Pool):
    """Leaves a rival's transaction open on every idle backend, and lends another one than last time if it can.

    A session that goes on with a backend it gave back meets the rival's transaction, its settings and its
    prepared statement there; one that was truly moved never notices.
    """

    def _forget(self) -> None:
        super()._forget()
        self._last: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def give_back(self, backend: Backend) -> None:
        """Let the rival in before anybody else can have it."""
        if backend.raw is not None and not self._waiters:
            with suppress(psycopg.Error):
                backend.raw.execute("begin")
                backend.raw.execute("set local timezone to 'Pacific/Honolulu'")
                backend.raw.execute("select 'rival'", prepare=False)
        super().give_back(backend)

    def borrow(self, login: object, timeout: float, owner: Any = None, wanted: Settings = CLEAN) -> Backend:
        """Let the rival out; and if it is the borrower's last one and there can be another, that one."""
        backend = super().borrow(login, timeout, owner, wanted)
        session = owner() if owner is not None else None
        if session is not None:
            if self._last.get(session) == backend.serial and (self._idle or len(self._all) < self.limit):
                last, backend = backend, super().borrow(login, timeout, owner, wanted)
                super().give_back(last)
            self._last[session] = backend.serial
        return self._freed(backend)

    def borrow_that(self, login: object, serial: int, owner: Any = None) -> Backend | None:
        """Let the rival out."""
        backend = super().borrow_that(login, serial, owner)
        return None if backend is None else self._freed(backend)

    def _pick_locked(self, *arguments: Any, **keywords: Any) -> Backend | None:
        # First in, first out: with two idle ones a session never comes back on its last.
        self._idle.reverse()
        try:
            return super()._pick_locked(*arguments, **keywords)
        finally:
            self._idle.reverse()

    @staticmethod
    def _freed(backend: Backend) -> Backend:
        if backend.raw is not None and backend.raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            with suppress(psycopg.Error):  # it died meanwhile: that is the borrower's to find
                backend.raw.execute("rollback")
        return backend


@contextmanager
def rivals() -> Iterator[None]:
    """Every Proxy made inside the block has a RivalPool."""
    with mock.patch("rdsproxy_lib.proxy.Pool", RivalPool):
        yield


@contextmanager
def displacing(proxy: Any, conn: Any) -> Iterator[Any]:
    """Another session, in a transaction on the backend that `conn` used last: that one moves to a different backend."""
    others = [proxy.connect() for _ in range(proxy.stats().max_database_connections_allowed)]
    try:
        for other in others:
            other.execute("select 1")
        for other in others:
            if other.rdsproxy.backend_id != conn.rdsproxy.backend_id:
                other.rollback()
        yield next(other for other in others if other.rdsproxy.in_transaction)
    finally:
        for other in others:
            other.close()
