"""Runs a program on private connections and on multiplexed ones, and compares everything a client can see.

Three runs of each: on private driver connections; over a pool with as few backends as the program can do with (one,
unless transactions are open side by side); and over a pool with one backend more, which lends a session another one
than it had last whenever another is idle.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from unittest import mock
from weakref import WeakKeyDictionary

import rdsproxy_lib
from rdsproxy_lib import SessionPinned
from rdsproxy_lib.backend import Backend
from rdsproxy_lib.pool import Pool
from tests.differential.program import Action, Program

Facts = dict[str, str]
"""What a client sees of one moment, in words that are equal where it sees the same."""

BORROW_SECONDS = 5.0
PROGRAMS_PER_PROXY = 500
"""How long the backends of one proxy live: long enough that what one program leaves, a later one finds."""


class Player(Protocol):
    """One session of a program: does its actions with the driver and writes down what is seen."""

    connection: Any

    def do(self, action: Action) -> Facts:
        """Do it; what came of it, and what the connection says of itself afterwards."""

    def look(self, names: Sequence[str]) -> Facts:
        """The present values of these settings, where the session can be asked now without a difference to it."""

    @property
    def may_be_held(self) -> bool:
        """Whether a transaction is open or results are still to be read, as far as that is known."""

    def finish(self) -> None:
        """Close the connection, whatever state it is in."""


# What may differ ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Declared:
    """A difference that docs/differences.md declares."""

    what: str
    reason: str
    where: str
    """The heading in docs/differences.md."""
    covers: Callable[[Action | None, Facts, Facts], bool] = lambda action, private, shared: False
    """Whether it is the one between these two. Never, where programs or players leave it out beforehand."""
    ends: bool = False
    """Whether the runs go different ways after it."""


def _is_lost(action: Action | None, private: Facts, shared: Facts) -> bool:
    return action is not None and action.asks and "DiagnosticsLost" in shared.get("error", "")


_HAS_NO_TABLE = re.compile(r"(?is)\W*(?:select|set|do)\b(?!.*\bfrom\b)").match


def _is_the_drivers_mistake(action: Action | None, private: Facts, shared: Facts) -> bool:
    return (
        'InvalidSqlStatementName 26000: prepared statement "_pg3_' in private.get("error", "") and "error" not in shared
    )


def _is_a_name_not_decoded(action: Action | None, private: Facts, shared: Facts) -> bool:
    told = private.get("error", ""), shared.get("error", "")
    return told[0].startswith("builtins.UnicodeDecodeError") and "the name of a column" in told[1]


_COUNTS = re.compile(r"\d+, \d+\)(?=,\), 1, None, 0\)\]$)")
"""@@warning_count and @@error_count at the end of the one row."""


def _are_older_warnings(action: Action | None, private: Facts, shared: Facts) -> bool:
    if action is None or "MariaDB" not in private.get("server", "") or not _HAS_NO_TABLE(str(action.arguments[:1])):
        return False
    if {**private, "result": ""} != {**shared, "result": ""}:
        return False
    told, ours = private.get("result", ""), shared.get("result", "")
    if action.verb == "warned":
        return ours.endswith(", ())")
    return action.asks and _COUNTS.sub("0, 0)", told) == ours


_TIME = re.compile(r"datetime\.datetime\(.*?tzinfo=(?:[\w.]+|[\w.]+\(key='[^']*'\))\)")


def _is_loaded_in_the_zone_of_its_statement(action: Action | None, private: Facts, shared: Facts) -> bool:
    if action is None or action.verb != "nextset":
        return False
    mine, theirs = ({**facts, "result": _TIME.sub("TIME", facts.get("result", ""))} for facts in (private, shared))
    return mine == theirs


def _is_not_loaded_in_this_style(action: Action | None, private: Facts, shared: Facts) -> bool:
    told = private.get("error", ""), shared.get("error", "")
    return action is not None and action.verb == "nextset" and any(" with DateStyle " in error for error in told)


DECLARED = (
    Declared(
        "pg_backend_pid(), CONNECTION_ID() and the like",
        "the session is on another backend after each transaction: no program asks for them",
        "Which database connection it is",
    ),
    Declared(
        "a custom setting that this session never had is '' or unknown",
        "no SQL makes PostgreSQL forget that a name was ever used; players read both as nothing",
        "Statements",
    ),
    Declared(
        "the DateStyle or IntervalStyle in the words of psycopg's error about a value that it cannot load",
        "it is read from the parameters of the connection, which are those of the login while no backend is held",
        "Opening and closing",
    ),
    Declared(
        "a statement that the driver prepared, with a literal whose meaning depends on a setting, after that was set",
        "a private connection keeps the meaning it had when it was prepared; here it may be prepared anew with the"
        " setting of now: programs give such values as parameters",
        "Statements",
    ),
    Declared(
        "a further result is loaded with the TimeZone in force when its statement ended, not when nextset() is called",
        "the database connection is somebody else's by then",
        "Settings",
        _is_loaded_in_the_zone_of_its_statement,
    ),
    Declared(
        "a further result is loaded, or cannot be, with the DateStyle in force when its statement ended",
        "psycopg refuses some of them when it comes to the result",
        "Settings",
        _is_not_loaded_in_this_style,
        ends=True,
    ),
    Declared(
        "debug messages in which a server process tells of its caches",
        "they depend on what it has done in its life: players leave them out",
        "Statements",
    ),
    Declared(
        "psycopg fails with 26000 after it has run the same text with DISCARD ALL or DEALLOCATE ALL twice",
        "it forgets what it has prepared only after the first; here it is made to forget each time",
        "Statements",
        _is_the_drivers_mistake,
    ),
    Declared(
        "SHOW WARNINGS after a statement that uses no table shows those of the statement before, and @@warning_count",
        "MariaDB keeps the list, which may be another session's here: it is empty",
        "MySQL and MariaDB",
        _are_older_warnings,
    ),
    Declared(
        "a column whose name PyMySQL cannot decode raises error 2027, not UnicodeDecodeError",
        "after character_set_results was set to what the driver does not decode by; the result is given up as a whole",
        "MySQL and MariaDB",
        _is_a_name_not_decoded,
    ),
    Declared(
        "the type, length and collation of a user variable that is NULL",
        "the server keeps what the name had on this backend before, or what the connection had when it was first named;"
        " players and programs ask for values",
        "MySQL and MariaDB",
    ),
    Declared(
        "the collation of a text that is made of a number in a user variable, on MySQL",
        "it is that of the connection when the variable was set, and here when it was set again: programs cast it",
        "MySQL and MariaDB",
    ),
    Declared(
        "PyMySQL's server_status after rows were read says whether a transaction is open",
        "the driver forgets the status word that ends rows; here it is heard, and the runner listens to it on private"
        " connections too",
        "MySQL and MariaDB",
    ),
    Declared(
        "PyMySQL's server_status after an error says whether a transaction is open",
        "on a private connection it is what it was before the statement; here the server is asked, for an error says"
        " nothing about the transaction: players leave these bits out after an error",
        "MySQL and MariaDB",
    ),
    Declared(
        "a question about an earlier statement raises DiagnosticsLost",
        "another session used the backend since; the answer would be that one's",
        "Statements",
        _is_lost,
        ends=True,
    ),
)


# What is compared --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Moment:
    """What was seen after one step, or at the end."""

    place: str
    action: Action | None
    facts: Facts


@dataclass
class Run:
    """Everything that was seen in one run of a program."""

    moments: list[Moment] = field(default_factory=list)
    width: int = 1
    """How many backends its sessions need at the same time."""
    was_free: list[bool] = field(default_factory=list)
    """For each moment, whether the session held nothing before: the statement could have run anywhere."""
    moved: int = 0
    stayed: int = 0
    """Statements of sessions that held nothing, while another backend than their last was idle. Not those that ask
    about an earlier one: they go where that was."""
    stayers: list[str] = field(default_factory=list)
    pinned: list[str] = field(default_factory=list)
    """The sessions that are pinned when all steps are done."""


class Difference(AssertionError):
    """A client can tell the multiplexed sessions of a program from private ones."""


def declared_difference(private: Moment, shared: Moment) -> Declared | None:
    """The one between these two, if it is declared."""
    return next((each for each in DECLARED if each.covers(private.action, private.facts, shared.facts)), None)


def first_difference(program: Program, private: Run, shared: Run, kind: str) -> str:
    """The program up to its first difference that is not declared, for people; empty where there is none."""
    for at, (mine, theirs) in enumerate(zip(private.moments, shared.moments)):  # noqa: B905  # shared: up to a difference
        if mine.facts == theirs.facts:
            continue
        declared = declared_difference(mine, theirs)
        if declared is not None:
            if declared.ends:
                return ""
            continue
        names = [name for name in {**mine.facts, **theirs.facts} if mine.facts.get(name) != theirs.facts.get(name)]
        lines = [f"{kind} differs from private connections at {mine.place}", repr(program)]
        for name in names:
            lines += [
                f"{name}",
                f"    private: {mine.facts.get(name, '-')}",
                f"    shared:  {theirs.facts.get(name, '-')}",
            ]
        before = private.moments[max(0, at - 3) : at]
        lines += [f"(before, the same: {moment.place}: {moment.facts})" for moment in before]
        return "\n".join(lines)
    return ""


# The pool ----------------------------------------------------------------------------------------------------


class RestlessPool(Pool):
    """Lends a session another backend than the one it had last, whenever another one is idle."""

    def _forget(self) -> None:
        super()._forget()
        self._last: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self.moves = 0
        """How often a session got another one than it had last."""

    def borrow(self, login: object, timeout: float, owner: Any = None, *more: Any) -> Backend:
        """Hide the borrower's last one while another is there."""
        session = owner() if owner is not None else None
        last = self._last.get(session, -1) if session is not None else -1
        hidden = []
        with self._lock:
            if any(idle.serial != last and idle.login is login for idle in self._idle):
                hidden = [idle for idle in self._idle if idle.serial == last]
                for backend in hidden:
                    self._idle.remove(backend)
        try:
            backend = super().borrow(login, timeout, owner, *more)
        finally:
            with self._lock:
                self._idle[:0] = hidden
        if session is not None:
            self.moves += last not in (-1, backend.serial)
            self._last[session] = backend.serial
        return backend


# A bench -----------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What all programs of a test came to."""

    programs: int = 0
    statements: int = 0
    moved: int = 0
    stayed: int = 0
    stayers: Counter[str] = field(default_factory=Counter)
    widths: Counter[int] = field(default_factory=Counter)
    declared: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        share = self.moved / max(1, self.moved + self.stayed)
        return (
            f"{self.programs} programs, {self.statements} statements; pools of"
            f" {dict(sorted(self.widths.items()))}; {self.moved} of {self.moved + self.stayed} statements"
            f" ({share:.1%}) on another backend than the one before"
        )

    def check_moved(self) -> None:
        """At least 95 % of the statements that could run on another backend than the one before did."""
        assert self.moved + self.stayed > 0, "no statement could have moved"
        stayers = self.stayers.most_common(12)
        assert self.moved >= 0.95 * (self.moved + self.stayed), f"{self}; what stayed: {stayers}"


class Bench:
    """Everything needed to run programs on one server: private connections, proxies, and the tables."""

    title = ""

    def __init__(self) -> None:
        self.tally = Tally()
        self._proxies: dict[Any, rdsproxy_lib.Proxy] = {}
        self._since_fresh: list[Program] = []

    # What an engine has to say

    def private_player(self, login: Mapping[str, Any]) -> Player:
        """A session on a driver connection of its own that nobody has used."""
        raise NotImplementedError

    def shared_player(self, proxy: rdsproxy_lib.Proxy, login: Mapping[str, Any]) -> Player:
        """A session of a proxy."""
        raise NotImplementedError

    def make_proxy(self, limit: int, login: Mapping[str, Any]) -> rdsproxy_lib.Proxy:
        """A proxy whose sessions connect with these arguments."""
        raise NotImplementedError

    def login_key(self, login: Mapping[str, Any]) -> Any:
        """What of the connect arguments is the backend's."""
        raise NotImplementedError

    def clean(self, program: Program) -> None:
        """Take back what it wrote."""
        raise NotImplementedError

    # Running

    def check(self, program: Program) -> None:
        """Run it every way. Raises Difference for what a client can tell, and for pins that are not in the table."""
        complaint = self._complaint(program)
        if complaint:
            earlier = self._since_fresh[-4:-1]
            self.begin_again()
            again = self._complaint(program)
            self.begin_again()
            if again:
                raise Difference(again)
            names = "\n".join(map(repr, earlier))
            raise Difference(f"{complaint}\nOnly after other programs on the same backends, the last ones:\n{names}")
        if len(self._since_fresh) >= PROGRAMS_PER_PROXY:
            self.begin_again()

    def _complaint(self, program: Program) -> str:
        self._since_fresh.append(program)
        private = self.run_private(program)
        for spare in (0, 1):
            limit = private.width + spare
            proxy = self.proxy(limit, program)
            pinned: list[Any] = []
            proxy.add_event_handler(pinned.append)
            try:
                shared = self.run_shared(program, private, proxy)
            finally:
                proxy.remove_event_handler(pinned.append)
            complaint = first_difference(program, private, shared, f"{self.title}, a pool of {limit}:")
            if complaint:
                return complaint
            unknown = [
                (event.reason, event.what, event.statement)
                for event in pinned
                if isinstance(event, SessionPinned) and event.reason not in program.pins
            ]
            if unknown:
                return f"{self.title}, a pool of {limit}: pins that the table does not have: {unknown}\n{program!r}"
            if program.pins_end and shared.pinned:
                return f"{self.title}, a pool of {limit}: still pinned at the end: {shared.pinned}\n{program!r}"
            held = proxy.stats().database_connections_currently_borrowed
            if held:
                return f"{self.title}, a pool of {limit}: {held} backends still held at the end\n{program!r}"
        self._note(program, private, shared)
        return ""

    def _note(self, program: Program, private: Run, shared: Run) -> None:
        tally = self.tally
        tally.programs += 1
        tally.statements += len(private.moments)
        tally.widths[private.width] += 1
        if not program.pins:
            tally.moved += shared.moved
            tally.stayed += shared.stayed
            tally.stayers.update(shared.stayers)

    def run_private(self, program: Program) -> Run:
        """The program as the driver and the server have it."""
        run = Run()
        players: list[Player] = []
        kept: set[int] = set()
        try:
            players += [self.private_player(login) for login in program.logins]
            for session, player, action, facts in self._play(program, players, run):
                run.was_free.append(not player.may_be_held and session not in kept)
                facts()
                if action is not None and (action.pins or action.holds):
                    kept.add(session)
                held = {at for at, other in enumerate(players) if other.may_be_held}
                run.width = max(run.width, len(held | kept | {session}))
        finally:
            for player in players:
                player.finish()
            if program.writes:
                self.clean(program)
        self._look_last(program, run, [self.private_player(program.logins[0]) for _ in range(2)])
        return run

    def run_shared(self, program: Program, private: Run, proxy: rdsproxy_lib.Proxy) -> Run:
        """The program on sessions of a proxy, counting how often they move."""
        run = Run()
        players: list[Player] = []
        pool: Any = proxy.pool
        try:
            players += [self.shared_player(proxy, login) for login in program.logins]
            for at, (_, player, action, facts) in enumerate(self._play(program, players, run)):
                client = player.connection.rdsproxy
                last = client.backend_id
                is_other_idle = private.was_free[at] and any(idle.identity != last for idle in pool._idle)
                sent, moves = pool.statements(), pool.moves
                facts()
                goes_where_it_was = action is not None and action.asks
                is_same = client is player.connection.rdsproxy
                if is_other_idle and last and pool.statements() > sent and is_same and not goes_where_it_was:
                    if client.backend_id != last or pool.moves > moves:  # of two statements the second moves back
                        run.moved += 1
                    else:
                        run.stayed += 1
                        run.stayers.append(repr(action) if action is not None else "look")
                if run.moments[at].facts != private.moments[at].facts:
                    declared = declared_difference(private.moments[at], run.moments[at])
                    if declared is None or declared.ends:
                        return run  # what comes after means nothing
            clients = [player.connection.rdsproxy for player in players]
            run.pinned = [repr(client) for client in clients if client.pinned]
        finally:
            for player in players:
                player.finish()
            if program.writes:
                self.clean(program)
        self._look_last(program, run, [self.shared_player(proxy, program.logins[0])] * 2)
        return run

    def _play(
        self, program: Program, players: list[Player], run: Run
    ) -> Iterator[tuple[int, Player, Action | None, Callable[[], None]]]:
        """Each thing that is to be done, in order: who does it, and what has to be called for it."""
        names = program.touched

        def note(place: str, action: Action | None, ask: Callable[[], Facts]) -> Callable[[], None]:
            return lambda: run.moments.append(Moment(place, action, ask()))

        for at, step in enumerate(program.steps):
            player, action = players[step.session], step.action
            yield step.session, player, action, note(f"step {at}", action, lambda p=player, a=action: p.do(a))
            if step.looks and names:
                yield (
                    step.session,
                    player,
                    None,
                    note(f"the look after step {at}", None, lambda p=player: p.look(names)),
                )
        for session, player in enumerate(players):
            place = f"session {session} at the end"
            yield session, player, None, note(place, None, lambda p=player: p.look(names))

    def _look_last(self, program: Program, run: Run, players: list[Player]) -> None:
        """What somebody finds who comes after all sessions are closed: on each of two backends, if there are two."""
        try:
            for player in players:
                run.moments.append(Moment("a session that comes after all", None, player.look(program.touched)))
        finally:
            for player in set(players):
                player.finish()

    # Proxies

    def proxy(self, limit: int, program: Program) -> rdsproxy_lib.Proxy:
        """A proxy with that many open backends, shared with the programs before that have the same logins."""
        keys = [self.login_key(login) for login in program.logins]
        place = limit, tuple(sorted(set(map(repr, keys))))
        if place not in self._proxies:
            with mock.patch("rdsproxy_lib.proxy.Pool", RestlessPool):
                self._proxies[place] = self.make_proxy(limit, program.logins[0])
        proxy = self._proxies[place]
        if len(place[1]) == 1:
            missing = limit - len(proxy.pool._idle)
            if missing:
                self._fill(proxy, limit, program.logins[0])
        return proxy

    def _fill(self, proxy: rdsproxy_lib.Proxy, limit: int, login: Mapping[str, Any]) -> None:
        players = [self.shared_player(proxy, login) for _ in range(limit)]
        try:
            for player in players:
                player.connection.rdsproxy.pin("filling the pool")
        finally:
            for player in players:
                player.finish()
        assert len(proxy.pool._idle) == limit, f"{proxy!r} keeps no {limit} backends"

    def begin_again(self) -> None:
        """Close all connections that were kept for the next program."""
        while self._proxies:
            self._proxies.popitem()[1].close()
        self._since_fresh.clear()

    def close(self) -> None:
        """Close everything."""
        self.begin_again()


@contextmanager
def tallied(bench: Bench) -> Iterator[Tally]:
    """Count what the programs inside the block come to, by themselves."""
    before, bench.tally = bench.tally, Tally()
    try:
        yield bench.tally
    finally:
        bench.tally = before
