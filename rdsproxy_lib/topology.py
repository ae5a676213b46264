"""Which of several hosts is the writer: what each was heard to say of itself, and what follows from it. Pure.

A host speaks for itself alone: no name, and no other host's view, makes it the writer. `updated` takes in what was
heard. The rules, in this order:

1. The writer stays the writer while it says so, whoever else does; unless another one has a higher epoch.
2. One that is silent is no writer until it has said so again. One that says it is a reader is none at once, and all
   database connections to it are of an older generation.
3. Without a writer, the one host that claims to be it becomes the writer, once every other host was heard, or was
   given `HOLD` seconds to contradict. Of several the one with the highest epoch counts; with the same epoch none does.
4. Nobody becomes the writer with a lower epoch than a writer had before: it does not know what was written since.

An epoch is PostgreSQL's timeline, which each promotion raises; MySQL and Aurora have none, and say 0.

The hosts are those that were named at the start; or they are *discovered*: a host knows which others belong to it, and
`listed` takes that in. Whose list it is decides what it may do:

5. Anybody's list adds hosts, and tells how far they lag. None makes a writer, or unmakes one.
6. Only the writer's list leaves hosts out, and of these only those that did not answer for `KEEP` seconds: that of a
   reader which was cut off is old, and one that restarts is in no list for a while.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

HOLD = 0.1
"""Seconds for which a first claim waits for another one."""
KEEP = 60.0
"""Seconds since its last answer for which a host is kept that the writer does not list."""


class Role(Enum):
    """What a host says it is. The names are those of RDS' API_TargetHealth."""

    READ_WRITE = "READ_WRITE"
    READ_ONLY = "READ_ONLY"
    UNKNOWN = "UNKNOWN"
    """It was not heard."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a database host listens."""

    host: str
    port: int
    address: str = ""
    """Where the name is known to have led; empty: wherever it leads."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Observation:
    """What a host said of itself at some time; or that it did not answer."""

    endpoint: Endpoint
    at: float
    """When it was asked, in monotonic seconds."""
    role: Role = Role.UNKNOWN
    epoch: int = 0
    error: str = ""
    """Why it was not heard."""
    lag: float | None = None
    """How many seconds a reader is behind, by itself or the last list; None for what is not known."""
    answered_at: float = -math.inf
    """When it answered last, also before this. Set by `updated`."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A host as another one lists it. Made by the engines."""

    name: str
    """The identifier of an instance."""
    port: int | None = None
    """None: the same as that of the cluster."""
    lag: float | None = None
    """In seconds; None for the writer, and for what is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host says when it is asked who it is."""

    role: Role
    epoch: int = 0
    lag: float | None = None
    hosts: tuple[Listed, ...] | None = None
    """Those it knows; empty where it has no list, or none just now. None where it was not asked, or died of it."""


@dataclass(frozen=True, slots=True)
class View:
    """What is known of all hosts. Made by `begun`, `updated`, `listed` and `settled`."""

    members: Mapping[Endpoint, Observation | None]
    """The last that was heard of each; None for one that was not asked yet."""
    seeds: Mapping[Endpoint, Observation | None] = field(default_factory=lambda: MappingProxyType({}))
    """Names that lead to some host of a cluster, which lists the members. What is heard there makes no writer."""
    since: float = -math.inf
    """When the writer was lost: what was heard until then does not count in the search for the next."""
    writer: Endpoint | None = None
    last_writer: Endpoint | None = None
    epoch: int = 0
    """The highest that any writer had."""
    generation: int = 0
    """Goes up when another host is the writer, or the writer is none any more."""
    candidate: Endpoint | None = None
    """The one host that claims to be the writer, while there is none."""
    candidate_since: float = 0.0

    @property
    def hosts(self) -> Mapping[Endpoint, Observation | None]:
        """All that are asked who is the writer."""
        return {**self.seeds, **self.members}


def begun(endpoints: Iterable[Endpoint], seeds: Iterable[Endpoint] = ()) -> View:
    """Nobody was heard yet."""
    return View(MappingProxyType(dict.fromkeys(endpoints)), MappingProxyType(dict.fromkeys(seeds)))


def updated(view: View, seen: Observation, now: float) -> View:
    """The view with one observation more. One that is older than what is known of its host changes nothing."""
    if seen.endpoint in view.seeds:
        view = replace(view, seeds=MappingProxyType({**view.seeds, seen.endpoint: seen}))
    known = view.members.get(seen.endpoint)
    if seen.endpoint not in view.members or (known is not None and known.at > seen.at):
        return view
    if seen.role is not Role.UNKNOWN:
        seen = replace(seen, answered_at=seen.at)
    elif known is not None:
        seen = replace(seen, answered_at=known.answered_at)
    view = replace(view, members=MappingProxyType({**view.members, seen.endpoint: seen}))
    if seen.endpoint == view.writer and seen.role is not Role.READ_WRITE:
        is_demoted = seen.role is Role.READ_ONLY
        view = replace(view, writer=None, since=seen.at, candidate=None, generation=view.generation + is_demoted)
    elif seen.endpoint == view.writer:
        return replace(view, epoch=max(view.epoch, seen.epoch))
    elif view.writer is not None and seen.role is Role.READ_WRITE and seen.epoch > view.epoch:
        return _taken_over(view, seen)
    return settled(view, now)


def listed(view: View, teller: Endpoint, lags: Mapping[Endpoint, float | None], at: float, now: float) -> View:
    """The view with the list that one host gave when it was asked, at `at`: the hosts in it, and how far each lags.

    The first seed is a member itself where it has no list to give (`lags` is empty), as long as there is no other.
    """
    members = dict(view.members)
    if not lags:
        if members or teller != next(iter(view.seeds), None):
            return view
        return settled(replace(view, members=MappingProxyType({teller: view.seeds[teller]})), now)
    for endpoint, lag in lags.items():
        seen = members.setdefault(endpoint, None)
        if seen is not None and seen.role is Role.READ_ONLY and seen.at <= at and lag is not None:
            members[endpoint] = replace(seen, lag=lag)
    for endpoint, seen in view.members.items():
        is_silent = seen is None or at - seen.answered_at > KEEP
        is_left_out = endpoint not in lags and teller == view.writer != endpoint
        if endpoint in view.seeds or (is_left_out and is_silent):
            del members[endpoint]
    if members == view.members:
        return view
    view = replace(view, members=MappingProxyType(members))
    if view.writer is not None and view.writer not in members:  # a seed: its host is to be found under its own name
        view = replace(view, writer=None, since=at)
    return settled(view, now)


def claims(view: View) -> list[Observation]:
    """What the hosts said that claim to be the writer, since it was lost: those with the highest epoch."""
    heard = [each for each in _heard(view) if each.role is Role.READ_WRITE and each.epoch >= view.epoch]
    highest = max((claim.epoch for claim in heard), default=0)
    return [claim for claim in heard if claim.epoch == highest]


def _heard(view: View) -> list[Observation]:
    return [each for each in view.members.values() if each is not None and each.at > view.since]


def settled(view: View, now: float) -> View:
    """The view at some time: a claim that nobody contradicted for long enough counts."""
    if view.writer is not None:
        return view
    claimed = claims(view)
    if len(claimed) != 1:
        return replace(view, candidate=None) if view.candidate is not None else view
    (claim,) = claimed
    if view.candidate != claim.endpoint:
        view = replace(view, candidate=claim.endpoint, candidate_since=now)
    if len(_heard(view)) == len(view.members) or now - view.candidate_since >= HOLD:
        return _taken_over(view, claim)
    return view


def _taken_over(view: View, claim: Observation) -> View:
    is_another = view.last_writer is not None and view.last_writer != claim.endpoint
    return replace(
        view,
        writer=claim.endpoint,
        last_writer=claim.endpoint,
        epoch=max(view.epoch, claim.epoch),
        generation=view.generation + is_another,
        candidate=None,
    )
