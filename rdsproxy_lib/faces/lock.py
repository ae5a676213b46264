"""`conn.lock` of a logical psycopg connection."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import ref

from psycopg import errors as e

from ..backend import HERE

if TYPE_CHECKING:
    from .psycopg import Connection


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
        if mutex.locked() and self.user is HERE.thread:
            self._reenter()
        return mutex.__enter__

    def __exit__(self, *exc: object) -> None:
        connection = self.owner()
        try:
            if connection is not None:
                connection._rdsproxy_settle()
        finally:
            self.user = None
            self.mutex.release()
        if connection is not None and connection._closed:
            connection._rdsproxy_finish_close()

    def _reenter(self) -> None:
        """This thread holds the lock already, and would wait for itself for ever.

        Inside a stream, copy or notifies() of its own that is a mistake. Else an interrupt fell on the very
        beginning of `__exit__`: what that left undone is done now.
        """
        connection = self.owner()
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
