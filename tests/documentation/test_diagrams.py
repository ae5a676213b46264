"""The diagrams in docs/ are drawn from the tables in the code."""

from __future__ import annotations

import re
from pathlib import Path

from rdsproxy_lib.session import TRANSITIONS, Event, Hold

DOCS = Path(__file__).resolve().parents[2] / "docs"
FAULTS = (Event.FAULT_IDLE, Event.FAULT_OPEN)


def session_diagram() -> str:
    """`session.TRANSITIONS` in Mermaid's words: without CLOSE, and of the moves that lead nowhere only the faults."""
    lines = ["stateDiagram-v2", f"    [*] --> {Hold.PARKED.name}"]
    for hold in Hold:
        for after in Hold:
            events = [event for event in Event if event is not Event.CLOSE and TRANSITIONS[hold][event] is after]
            if after is hold:
                events = [event for event in events if event in FAULTS]
            if events:
                lines.append(f"    {hold.name} --> {after.name}: {', '.join(event.name for event in events)}")
    lines += [f"    {hold.name} --> [*]" for hold in Hold if hold is not Hold.CLOSED and _is_final(hold)]
    return "\n".join(lines) + "\n"


def _is_final(hold: Hold) -> bool:
    return all(after in (None, Hold.CLOSED) for after in TRANSITIONS[hold])


def test_the_way_of_a_session_through_a_failover():
    """failover.md shows the diagram that the table in the code gives; where it does not, this is it."""
    (shown,) = re.findall(r"(?ms)^```mermaid\n(.*?)^```", (DOCS / "failover.md").read_text())
    assert shown == session_diagram()


def test_each_event_of_a_fault_is_explained():
    """The words of the diagram are those of the page."""
    text = (DOCS / "failover.md").read_text().split("```mermaid")[1].split("```", 1)[1]
    for name in re.findall(r"\w+_\w+", session_diagram()):
        assert f"`{name}`" in text, name
