"""What a proxy tells those who listen: `proxy.add_event_handler(callback)`. Free while nobody does."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

BETWEEN = frozenset(
    {
        "rdsproxy_lib",
        "psycopg",
        "psycopg_pool",
        "pymysql",
        "sqlalchemy",
        "wrapt",
        "contextlib",
        "threading",
        "functools",
        "importlib",
    }
)
"""Packages whose code stands between an application and its statement, with `django.db`."""


@dataclass(frozen=True, slots=True)
class SessionPinned:
    """A session keeps its database connection from now on. Told once for each reason."""

    reason: str
    """The name of the reason, as in docs/pinning.md."""
    what: str
    """What in the statement gave it: ``CREATE TEMP TABLE``."""
    statement: str
    """The statement, literals taken out; empty where it was none."""
    call_site: str
    """Where the application ran it: ``/app/shop.py:12 in checkout``; empty where that is not known."""
    backend_id: int
    """The server's process id of the database connection."""


@dataclass(frozen=True, slots=True)
class SessionUnpinned:
    """The last reason has ended: the session is multiplexed again, or is closed."""

    reasons: tuple[str, ...]
    """The names of the reasons it had at last, in the order in which they came."""
    seconds: float
    """For how long it was pinned."""
    backend_id: int


@dataclass(frozen=True, slots=True)
class PinnedShareHigh:
    """Half of the database connections that may be open are pinned now, or more. Told when that begins."""

    pinned: int
    limit: int
    """How many may be open."""


@dataclass(frozen=True, slots=True)
class StateLeaked:
    """With ``audit=True``: a database connection was given back with something left on it. This is a defect."""

    findings: tuple[str, ...]
    """What was found, by kind and name; never a value."""
    statements: tuple[str, ...]
    """What ran on it since it was borrowed, literals taken out."""
    backend_id: int


Event = SessionPinned | SessionUnpinned | PinnedShareHigh | StateLeaked
"""Whatever a handler may get."""


class Events:
    """Who listens to one proxy. `if events.handlers:` before an event is made keeps it free while nobody does."""

    __slots__ = ("handlers",)

    def __init__(self) -> None:
        # One step of the interpreter adds and removes, so that no lock is needed, which a fork could leave locked.
        self.handlers: list[Callable[[Any], object]] = []

    def add(self, handler: Callable[[Any], object]) -> None:
        """From now on `handler(event)` is called for each event. Raises TypeError for what cannot be called."""
        if not callable(handler):
            raise TypeError(f"an event handler must be callable with one event, not {handler!r}")
        self.handlers.append(handler)

    def remove(self, handler: Callable[[Any], object]) -> None:
        """Call it no more. Raises ValueError where it was not added."""
        self.handlers.remove(handler)

    def emit(self, event: Event) -> None:
        """Tell everybody, in the order in which they were added. Called with no lock of the pool held.

        What a handler raises is logged: it is neither the statement's fault nor its business.
        """
        for handler in tuple(self.handlers):
            try:
                handler(event)
            except Exception:
                logger.exception("an event handler failed on %s", type(event).__name__)


class PinWarning(UserWarning):
    """A statement pins its session, and `pin_policy` says "warn" for the reason."""

    __module__ = "rdsproxy_lib"


def call_site() -> str:
    """Where the application is that led here: ``/app/shop.py:12 in checkout``; empty where no frame is its own."""
    frame = _application()
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def warn(message: str) -> None:
    """Give a PinWarning at the call site. Raises it where the filters of `warnings` make an error of it."""
    frame = _application()
    if frame is None:
        warnings.warn(PinWarning(message), stacklevel=2)
        return
    warnings.warn_explicit(
        PinWarning(message),
        PinWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _application() -> FrameType | None:
    """The innermost frame that is neither ours nor of what stands between."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in BETWEEN and name != "django.db" and not name.startswith("django.db."):
            return frame
        frame = frame.f_back
    return None
