"""The session machine: the table of the design, and what can be reached."""

from __future__ import annotations

import pytest

from rdsproxy_lib.session import TRANSITIONS, Event, Hold, IllegalMove, Pin, Session
from rdsproxy_lib.sql import Reason

TABLE = """
              NEED     ENDED  PIN    UNPIN_OPEN UNPIN_IDLE FAULT_IDLE   FAULT_OPEN   ROLLBACK COMMIT   CLOSE
PARKED        BORROWED -      PINNED -          -          PARKED       -            PARKED   PARKED   CLOSED
BORROWED      BORROWED PARKED PINNED -          -          PARKED       TX_LOST      BORROWED BORROWED CLOSED
PINNED        PINNED   PINNED PINNED BORROWED   PARKED     SESSION_LOST SESSION_LOST PINNED   PINNED   CLOSED
TX_LOST       -        -      -      -          -          -            -            PARKED   -        CLOSED
SESSION_LOST  -        -      -      -          -          -            -            -        -        CLOSED
CLOSED        -        -      -      -          -          -            -            -        -        CLOSED
"""
EVENTS, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
CELLS = [(row[0], event, cell) for row in ROWS for event, cell in zip(EVENTS, row[1:], strict=True)]


def session_in(hold: Hold) -> Session:
    session = Session()
    session.hold = hold
    return session


def test_the_table_is_complete():
    """Every hold has an entry for every event."""
    assert [len(row) for row in TRANSITIONS] == [len(Event)] * len(Hold)
    assert {event.name for event in Event} == set(EVENTS)
    assert {hold.name for hold in Hold} == {row[0] for row in ROWS}


@pytest.mark.parametrize(("hold", "event", "after"), CELLS)
def test_each_move_is_the_designs(hold, event, after):
    """The table is the design's, cell by cell; a dash raises and changes nothing."""
    session = session_in(Hold[hold])
    if after == "-":
        with pytest.raises(IllegalMove, match=f"{event} is not possible while {hold}") as caught:
            session.step(Event[event])
        assert caught.value.hold is Hold[hold]
        assert session.hold is Hold[hold]
    else:
        session.step(Event[event])
        assert session.hold is Hold[after]


# -- what can be reached: the session with the facts that the server, the driver and the lexer establish

Facts = tuple[Hold, bool, bool, frozenset[Reason], bool]
"""Hold, transaction open, stream open, pins, whether a backend is held."""
START: Facts = (Hold.PARKED, False, False, frozenset(), False)
PINS = (Reason.TEMP_TABLE, Reason.MANUAL)


def moves(facts: Facts) -> set[Facts]:
    """Every state that one thing which can happen leads to, as client.py drives the machine."""
    hold, tx, stream, pins, _ = facts
    after: set[Facts] = set()

    def add(session: Session, tx: bool, stream: bool) -> None:
        if session.hold is Hold.BORROWED and not tx and not stream:
            session.step(Event.ENDED)  # settle(), at the end of every exchange
        held = session.hold in (Hold.BORROWED, Hold.PINNED)
        after.add((session.hold, tx and held, stream and held, frozenset(session.pins or ()), held))

    def fresh() -> Session:
        session = session_in(hold)
        session.pins = {reason: Pin(reason, "", "", 0.0) for reason in pins} or None
        return session

    def attempt(event: Event) -> Session | None:
        session = fresh()
        try:
            session.step(event)
        except IllegalMove:
            return None
        return session

    for now_open in (False, True):  # a statement, a stream's beginning, a stream's end
        for now_streaming in (False, True):
            if session := attempt(Event.NEED):
                add(session, now_open, now_streaming)
    for reason in PINS:
        session = attempt(Event.NEED)
        if session and session.hold in (Hold.BORROWED, Hold.PINNED):
            session.add_pin(Pin(reason, "", "", 0.0))
            add(session, tx, stream)
    for reasons in ({Reason.TEMP_TABLE}, {Reason.MANUAL}, set(PINS)) if hold is Hold.PINNED else ():
        session = fresh()
        session.remove_pins(reasons, tx_open=tx or stream)
        add(session, tx, stream)
    if hold in (Hold.BORROWED, Hold.PINNED):
        for fault in (Event.FAULT_OPEN,) if tx or stream else (Event.FAULT_IDLE,):
            if session := attempt(fault):
                add(session, False, False)
    for event in (Event.ROLLBACK, Event.COMMIT):
        if session := attempt(event):
            add(session, False, stream)
    if session := attempt(Event.CLOSE):
        add(session, False, False)
    return after


def reachable() -> set[Facts]:
    seen, ahead = {START}, [START]
    while ahead:
        for state in moves(ahead.pop()):
            if state not in seen:
                seen.add(state)
                ahead.append(state)
    return seen


def test_no_backend_is_held_for_nothing():
    """No reachable state holds a backend with neither transaction, stream nor pin."""
    for hold, tx, stream, pins, is_held in reachable():
        if is_held:
            assert tx or stream or pins, f"{hold.name} holds a backend for nothing"


def test_no_pin_without_a_backend():
    """A session that is pinned holds a backend; one that holds none has neither transaction nor stream."""
    for hold, tx, stream, pins, is_held in reachable():
        if pins and hold < Hold.TX_LOST:
            assert is_held
            assert hold is Hold.PINNED
        if not is_held:
            assert not tx
            assert not stream


def test_every_hold_can_be_reached():
    """The table has no dead rows."""
    assert {state[0] for state in reachable()} == set(Hold)


def test_a_lost_session_stays_lost():
    """From SESSION_LOST only CLOSED can be reached."""
    assert {state[0] for state in moves((Hold.SESSION_LOST, False, False, frozenset(), False))} <= {
        Hold.SESSION_LOST,
        Hold.CLOSED,
    }


# -- pins


def pin(reason: Reason, what: str = "it") -> Pin:
    return Pin(reason, what, "select ?", 1.0)


def test_the_first_mention_of_a_reason_is_kept():
    """A reason is recorded once, with what did it first, in the order in which reasons came."""
    session = session_in(Hold.BORROWED)
    assert session.add_pin(pin(Reason.TEMP_TABLE, "first"))
    assert session.add_pin(pin(Reason.ADVISORY_LOCK))
    assert not session.add_pin(pin(Reason.TEMP_TABLE, "second"))
    assert list(session.pins) == [Reason.TEMP_TABLE, Reason.ADVISORY_LOCK]
    assert session.pins[Reason.TEMP_TABLE].what == "first"
    assert session.hold is Hold.PINNED


@pytest.mark.parametrize(("tx_open", "after"), [(True, Hold.BORROWED), (False, Hold.PARKED)])
def test_the_last_pin_that_ends_frees_the_session(tx_open, after):
    """With a transaction open it is borrowed until that ends, else parked at once."""
    session = session_in(Hold.BORROWED)
    session.add_pin(pin(Reason.TEMP_TABLE))
    session.add_pin(pin(Reason.LISTEN))
    assert not session.remove_pins({Reason.LISTEN}, tx_open=tx_open)
    assert session.hold is Hold.PINNED
    assert session.remove_pins({Reason.TEMP_TABLE, Reason.MANUAL}, tx_open=tx_open)
    assert session.hold is after
    assert session.pins is None


def test_ending_pins_that_are_not_there_changes_nothing():
    """Unknown reasons and sessions without pins are left alone."""
    session = session_in(Hold.BORROWED)
    assert not session.remove_pins({Reason.LISTEN}, tx_open=True)
    assert session.hold is Hold.BORROWED
    session.add_pin(pin(Reason.TEMP_TABLE))
    assert not session.remove_pins({Reason.LISTEN}, tx_open=True)
    assert session.hold is Hold.PINNED


@pytest.mark.parametrize("hold", [Hold.TX_LOST, Hold.SESSION_LOST, Hold.CLOSED])
def test_a_lost_session_cannot_be_pinned(hold):
    """And no pin is recorded."""
    session = session_in(hold)
    with pytest.raises(IllegalMove):
        session.add_pin(pin(Reason.MANUAL))
    assert session.pins is None
