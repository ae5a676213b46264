"""A program: what two or three sessions do, step by step. Data, so that a story more is a row more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

_WRITES = re.compile(r"(?i)\b(?:insert|update|delete|truncate|replace|copy|call|nextval|setval|do)\b").search
_COUNTS = re.compile(r"numbers_|counter_").search
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a client does: a method of the engine's player, with its arguments."""

    verb: str
    arguments: tuple[Any, ...] = ()
    touches: tuple[str, ...] = ()
    """The settings it may change, for whatever length: every session's are looked at from then on."""
    pins: tuple[str, ...] = ()
    """The reasons of the pin table that it gives."""
    holds: bool = False
    """Whether the session keeps its backend after it, without a transaction and without a pin: the table says so."""
    asks: bool = False
    """Whether it asks about an earlier statement, so that DiagnosticsLost may be the answer."""

    def __repr__(self) -> str:
        return f"{self.verb}({', '.join(map(repr, self.arguments))})"


@dataclass(frozen=True, slots=True)
class Step:
    """An action of one of the sessions; `looks`: whether the session's settings are asked for afterwards."""

    session: int
    action: Action
    looks: bool = True

    def __repr__(self) -> str:
        return f"#{self.session} {self.action!r}{'' if self.looks else '  (nobody looks)'}"


@dataclass(frozen=True)
class Program:
    """Steps, and the connect arguments of each session that takes part."""

    steps: tuple[Step, ...]
    logins: tuple[Mapping[str, Any], ...] = (_NOTHING, _NOTHING)
    name: str = ""
    touches: tuple[str, ...] = field(default=())
    """What is looked at beyond what the actions say."""
    pins_end: bool = False
    """Whether its pins have ended when it has."""

    @cached_property
    def touched(self) -> tuple[str, ...]:
        """The settings that are looked at, in the order of their names."""
        return tuple(sorted({*self.touches, *(name for step in self.steps for name in step.action.touches)}))

    @cached_property
    def pins(self) -> frozenset[str]:
        """The reasons for which its sessions may pin."""
        return frozenset(reason for step in self.steps for reason in step.action.pins)

    @cached_property
    def writes(self) -> bool:
        """Whether there may be rows to clean up."""
        return any(_WRITES(repr(step.action.arguments)) for step in self.steps)

    @cached_property
    def counts(self) -> bool:
        """Whether counters may have moved."""
        return any(_COUNTS(repr(step.action.arguments)) for step in self.steps)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        lines = [f"Program({self.name}"]
        lines += [f"  session #{at}: {dict(login)}" for at, login in enumerate(self.logins) if login]
        lines += [f"  {at:2} {step!r}" for at, step in enumerate(self.steps)]
        return "\n".join([*lines, ")"])
