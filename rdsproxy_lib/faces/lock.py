"""The lock of a client connection: its end is the end of an exchange."""

from __future__ import annotations

import logging
import threading
from typing import Any, Protocol
from weakref import ref

logger = logging.getLogger(__name__)


class Face(Protocol):
    """What the lock asks of the client connection it belongs to."""

    _closed: bool

    def _rdsproxy_lock_is_taken(self) -> None:
        """Return where waiting for the lock is right, raise where it is not."""

    def _rdsproxy_settle(self) -> None: ...
    def _rdsproxy_finish_close(self) -> None: ...


class Lock:
    """Held around each exchange with the server, so its end is where a backend can be given back."""

    __slots__ = ("mutex", "owner", "user")

    def __init__(self, owner: ref[Any]) -> None:
        self.mutex = threading.Lock()
        self.owner = owner
        self.user: threading.Thread | None = None
        """The thread whose exchange is under way."""

    @property
    def __enter__(self) -> Any:
        # The mutex's own, so that no interrupt can fall between taking it and the block that releases it.
        mutex = self.mutex
        if mutex.locked() and (connection := self.owner()) is not None:
            connection._rdsproxy_lock_is_taken()
        return mutex.__enter__

    def __exit__(self, *exc: object) -> None:
        connection: Face | None = self.owner()
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

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return self.mutex.acquire(blocking, timeout)

    def release(self) -> None:
        self.__exit__()

    def locked(self) -> bool:
        return self.mutex.locked()
