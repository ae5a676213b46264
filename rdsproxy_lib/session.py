"""What a client connection is to the pool: the states it can be in, and why it is pinned. Pure.

Two facts are kept apart. The *transaction* is the server's to tell. The *hold* is ours: whether the session has a
database connection, and why. `TRANSITIONS` is the code, the diagram in docs/architecture.md and the error: a
missing entry is an illegal move.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from .sql import Reason


class Tx(Enum):
    """The transaction of a session, as the server's protocol says."""

    NONE = auto()
    OPEN = auto()
    FAILED = auto()
    UNKNOWN = auto()
    """A statement is under way, or the connection is dead: nothing may be concluded."""


class Hold(IntEnum):
    """Whether a session has a database connection."""

    PARKED = 0
    """None is held, none is needed."""
    BORROWED = 1
    """Held until the transaction or stream that needs it ends."""
    PINNED = 2
    """Held for state that cannot be moved to another one."""
    TX_LOST = 3
    """It died with a transaction open; until ROLLBACK everything else raises."""
    SESSION_LOST = 4
    """It died while pinned, or what had been set on it cannot be set again; final."""
    CLOSED = 5


class Event(IntEnum):
    """What can happen to a session."""

    NEED = 0
    """A statement is about to run."""
    ENDED = 1
    """Neither a transaction nor a stream is open any more."""
    PIN = 2
    UNPIN_OPEN = 3
    """The last pin ended while a transaction or stream is open."""
    UNPIN_IDLE = 4
    FAULT_IDLE = 5
    """The database connection died with nothing open."""
    FAULT_OPEN = 6
    """It died with a transaction or a stream open."""
    ROLLBACK = 7
    COMMIT = 8
    CLOSE = 9


_MOVES: dict[Hold, dict[Event, Hold]] = {
    Hold.PARKED: {
        Event.NEED: Hold.BORROWED,
        Event.PIN: Hold.PINNED,
        Event.FAULT_IDLE: Hold.PARKED,
        Event.ROLLBACK: Hold.PARKED,
        Event.COMMIT: Hold.PARKED,
        Event.CLOSE: Hold.CLOSED,
    },
    Hold.BORROWED: {
        Event.NEED: Hold.BORROWED,
        Event.ENDED: Hold.PARKED,
        Event.PIN: Hold.PINNED,
        Event.FAULT_IDLE: Hold.PARKED,
        Event.FAULT_OPEN: Hold.TX_LOST,
        Event.ROLLBACK: Hold.BORROWED,
        Event.COMMIT: Hold.BORROWED,
        Event.CLOSE: Hold.CLOSED,
    },
    Hold.PINNED: {
        Event.NEED: Hold.PINNED,
        Event.ENDED: Hold.PINNED,
        Event.PIN: Hold.PINNED,
        Event.UNPIN_OPEN: Hold.BORROWED,
        Event.UNPIN_IDLE: Hold.PARKED,
        Event.FAULT_IDLE: Hold.SESSION_LOST,
        Event.FAULT_OPEN: Hold.SESSION_LOST,
        Event.ROLLBACK: Hold.PINNED,
        Event.COMMIT: Hold.PINNED,
        Event.CLOSE: Hold.CLOSED,
    },
    Hold.TX_LOST: {Event.ROLLBACK: Hold.PARKED, Event.CLOSE: Hold.CLOSED},
    Hold.SESSION_LOST: {Event.CLOSE: Hold.CLOSED},
    Hold.CLOSED: {Event.CLOSE: Hold.CLOSED},
}

TRANSITIONS: tuple[tuple[Hold | None, ...], ...] = tuple(
    tuple(_MOVES[hold].get(event) for event in Event) for hold in Hold
)
"""`TRANSITIONS[hold][event]` is the next hold, or None where the move is illegal."""


class IllegalMove(Exception):
    """The session cannot do this in its present state; `hold` says which. The client turns it into the user's error."""

    def __init__(self, hold: Hold, event: Event) -> None:
        super().__init__(f"{event.name} is not possible while {hold.name}")
        self.hold = hold


@dataclass(frozen=True, slots=True)
class Pin:
    """Why a session is pinned: the reason, what did it, and the statement (literals digested) it stood in."""

    reason: Reason
    what: str
    statement: str
    since: float
    """Monotonic seconds."""
    call_site: str = ""
    """Where the application ran it: ``shop.py:12 in checkout``."""


class Session:
    """The hold of one client connection, and its pins."""

    __slots__ = ("hold", "pins")

    def __init__(self) -> None:
        self.hold = Hold.PARKED
        self.pins: dict[Reason, Pin] | None = None  # most sessions never pin: no dict until then

    def step(self, event: Event) -> None:
        """Move to the next hold. Raises IllegalMove, and changes nothing, where the table has no entry."""
        after = TRANSITIONS[self.hold][event]
        if after is None:
            raise IllegalMove(self.hold, event)
        self.hold = after

    def add_pin(self, pin: Pin) -> bool:
        """Record a pin; True when its reason is new. The first mention of a reason is the one that is kept."""
        self.step(Event.PIN)
        if self.pins is None:
            self.pins = {}
        if pin.reason in self.pins:
            return False
        self.pins[pin.reason] = pin
        return True

    def remove_pins(self, reasons: frozenset[Reason] | set[Reason], *, tx_open: bool) -> bool:
        """End these pins; True when none is left and the session is multiplexed again."""
        pins = self.pins
        if not pins:
            return False
        for reason in reasons:
            pins.pop(reason, None)
        if pins:
            return False
        self.pins = None
        self.step(Event.UNPIN_OPEN if tx_open else Event.UNPIN_IDLE)
        return True


REVIEWED = frozenset(
    {
        Reason.TEMP_TABLE,
        Reason.PREPARED_STATEMENT,
        Reason.HOLD_CURSOR,
        Reason.ADVISORY_LOCK,
        Reason.NAMED_LOCK,
        Reason.TABLE_LOCK,
        Reason.LISTEN,
        Reason.USER_VARIABLE,
    }
)
"""Pins whose state can be asked for, or counted: they end by themselves."""

FREED_AT_ONCE = frozenset({Reason.SETTING, Reason.UNKNOWN_ROUTINE, Reason.UNKNOWN_STATEMENT})
"""Pins that DISCARD ALL ends, SETTING also RESET ALL, where no transaction is open that might take it back."""

ENDED_BY_UNPIN = frozenset({Reason.MANUAL, Reason.UNKNOWN_ROUTINE, Reason.UNKNOWN_STATEMENT, Reason.RAW_ACCESS})
"""Pins the application may end by `conn.rdsproxy.unpin()`: those that stand for not knowing, not for state we saw."""

KEPT_AFTER_ERROR = frozenset(
    {
        Reason.ADVISORY_LOCK,
        Reason.NAMED_LOCK,
        Reason.UNKNOWN_ROUTINE,
        Reason.UNRESETTABLE,
        Reason.USER_VARIABLE,
    }
)
"""A failed statement leaves nothing behind, except for these: locks, seeds, variables and what routines did stay.

https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS (session-level locks ignore rollback).
"""
