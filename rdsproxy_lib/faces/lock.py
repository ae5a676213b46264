"""`conn.lock` of a logical psycopg connection."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any
from weakref import ref

from psycopg import errors as e

from ..backend import HERE

if TYPE_CHECKING:
    from .psycopg import Connection


logger = logging.getLogger(__name__)


class Lock:
    """psycopg holds it around each exchange, so its end is where a backend can be given back."""

    __slots__ = ("mutex", "owner", "user")

    def __init__(self, owner: ref[Connection[Any]]) -> None:
        self.mutex = threading.Lock()
        self.owner = owner
        self.user: threading.Thread | None = None
        """The thread whose exchange is under way."""

    @property
    def __enter__(self) -> Any:
        # The mutex's own, so that no interrupt can fall between taking it and the block that releases it.
        mutex = self.mutex
        if mutex.locked():
            self._consider()
        return mutex.__enter__

    def __exit__(self, *exc: object) -> None:
        connection = self.owner()
        try:
            if connection is not None:
                connection._rdsproxy_settle()
        finally:
            self.user = None
            try:
                self.mutex.release()
            except RuntimeError:  # released already, by clean-up that the collector ran in this very block
                logger.debug("the lock of a connection was released by clean-up amid its own exchange")
        if connection is not None and connection._closed:
            connection._rdsproxy_finish_close()

    def _consider(self) -> None:
        """It is taken. Wait for it, unless that could be for ever.

        Clean-up that the collector runs amid a pool operation may not wait for a thread that waits for the pool. A
        thread that has it already is in a stream, copy or notifies() of its own, which is a mistake; else an
        interrupt fell on the very beginning of `__exit__`, and what that left undone is done now.
        """
        connection = self.owner()
        if connection is not None and connection._rdsproxy.pool.is_inside():
            raise e.OperationalError("the connection is in use, and clean-up amid a pool operation cannot wait for it")
        if self.user is not HERE.thread:
            return
        if connection is not None and connection._rdsproxy_is_streaming():
            raise e.ProgrammingError(
                "this thread is in the middle of a stream, copy or notifies() on this connection; end it first, or use"
                " another connection"
            )
        self.__exit__()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return self.mutex.acquire(blocking, timeout)

    def release(self) -> None:
        self.__exit__()

    def locked(self) -> bool:
        return self.mutex.locked()
