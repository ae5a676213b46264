"""The slot that a database connection lives in, and what the pool needs from the engine that fills it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from . import errors
from .settings import CLEAN

MIXED = object()


class _Here(threading.local):
    """This thread, looked up quickly. The object, not its number, which the next thread may get."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()


HERE = _Here()


class Backend:
    """A slot: one database connection, from its login to its end.

    `owner` is a weak reference to the client connection that holds it, or None. Engines subclass it.
    """

    __slots__ = (
        "__weakref__",
        "address",
        "began",
        "borrowed_at",
        "cancel_lock",
        "cancelled",
        "cancelling",
        "endpoint",
        "expires_at",
        "identity",
        "idle_since",
        "label",
        "login",
        "needs_reset",
        "owner",
        "pinned",
        "pinned_by",
        "raw",
        "sequences_of",
        "serial",
        "statements",
        "unresettable",
        "used_by",
        "user",
    )

    def __init__(self, login: Any, raw: Any) -> None:
        self.login = login
        self.raw = raw
        self.serial = -1
        self.owner: Callable[[], Any] | None = None
        self.user: threading.Thread | None = None
        """The thread that ran the last exchange on it."""
        # All by the wall clock, which goes on while the process is frozen; the monotonic one may not.
        self.borrowed_at = 0.0
        self.idle_since = 0.0
        self.expires_at = float("inf")
        self.pinned = False
        self.pinned_by = ""
        """The last reason to pin it, and what gave it."""
        self.sequences_of: object | None = None
        """Whose sequence values currval() and lastval() tell here: None, one session, or MIXED."""
        self.used_by: object | None = None
        """The session whose statement was the last here; None after one of our own that changes the diagnostics."""
        self.began: Any = {}
        """With ``audit=True``: what the server showed of its session at login, or after the last reset."""
        self.label = CLEAN
        """The settings in force, once the transaction is over that changes them: true, or it is closed."""
        self.needs_reset = False
        self.unresettable = False
        self.cancel_lock = threading.Lock()  # held while a cancel request is under way
        self.cancelling = False  # while one is, it is not lent again
        self.cancelled = False
        self.identity = 0
        """The server's process id."""
        self.endpoint: Any = None
        """Which of several hosts it is on."""
        self.address = ""
        """The IP address it is connected to; empty on a unix socket."""
        self.statements = 0

    @property
    def schema(self) -> str:
        """MySQL: the database in use, where names are looked up that have no schema; ``""`` for none."""
        return ""


class Refusal(Enum):
    """What a failed attempt to connect says about the next one."""

    TRANSIENT = auto()
    """Nobody answered, or the server is starting, stopping or recovering: try again."""
    FULL = auto()
    """The server has no connection left: wait for one of ours, if there is one."""
    PERMANENT = auto()
    """The server will not let this login in (password, database, TLS): fail now."""
    GONE = auto()
    """The one host of this pool does not answer, or is not what the pool is for: look for another one, at once."""
    LATER = auto()
    """This login is refused for a while, as its password is being changed: wait. Others are not concerned."""


class OpenFailed(Exception):
    """Raised by `Opener.open`: the driver's error, and what it means."""

    def __init__(
        self,
        error: Exception,
        refusal: Refusal,
        *,
        is_answer: bool = False,
        is_wrong_password: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.refusal = refusal
        self.is_answer = is_answer
        """Whether the server itself said so, and is there."""
        self.is_wrong_password = is_wrong_password
        """Whether it said that user and password do not go together."""
        self.retry_after = retry_after
        """With LATER: in how many seconds."""


class Way(Protocol):
    """What leads the pool to a host."""

    def open(self, login: Any, timeout: float) -> Backend:
        """Log in within `timeout` seconds, or raise OpenFailed."""


class Opener(Way, Protocol):
    """What the pool needs from an engine. Nothing here that talks to a server is called with the lock held."""

    def close(self, backend: Any) -> None:
        """Say goodbye and close. Never raises."""

    def abandon(self, backend: Any) -> None:
        """Let go of a socket that is another process's, without a byte. Never raises."""

    def hang_up(self, backend: Any) -> None:
        """Shut the socket down. Takes no lock and speaks no protocol: for finalisers and other threads."""

    def is_alive(self, backend: Any, idle_for: float) -> bool:
        """The look before the first byte, at a backend that was idle for so many seconds."""

    def error(self, kind: type[errors.Error], message: str) -> Exception:
        """The error of ours as a class that is the driver's too."""
