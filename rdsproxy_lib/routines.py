"""Routines judged from their bodies: which of them leave nothing behind on a server session. Pure; time is an argument.

`judged` reads one body. An `Inquiry` follows the calls from body to body and says what is to be asked next. The
`Catalogue` keeps the verdicts of one proxy.

A verdict is about names, as the server looks them up late: all routines of a name count, for PostgreSQL those of all
schemas where the text gives none. What no routine is called by is no routine: a type with a modifier, a column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, replace
from fnmatch import translate

from . import sql_mysql, sql_mysql_lexer
from .sql import Cause, Routine
from .sql_builtins import BUILTINS, names
from .sql_finding import Finding
from .sql_postgresql import READING_SETTINGS, ROUTINE_DDL, judge_body, leaves_nothing, take

KEPT_SECONDS = 300.0
"""How long a verdict holds: a routine that is changed past this proxy is read again after this time."""
KEPT_VERDICTS = 2000
ROUNDS = 8
"""How many questions one verdict may take: each answers for one level of calls."""
BODIES = 1000
"""How many bodies one question may bring. With more than that the routine is not judged."""

_ASKING_BACK = frozenset({"currval", "lastval"})
_CREATES = re.compile(r"create", re.IGNORECASE).search
_SELECTS_INTO = re.compile(r"(?<!insert)(?<!merge)\s+into\b", re.IGNORECASE).search


@dataclass(frozen=True, slots=True)
class RoutineBody:
    """One routine, as the server's catalogue has it."""

    schema: str
    name: str
    language: str
    """``sql``, ``plpgsql``, ``aggregate`` and others of PostgreSQL; ``psm`` for MySQL and MariaDB."""
    body: str | None
    """None where it cannot be read."""
    calls: tuple[Routine, ...] = ()
    """What it calls by what the server has already parsed: bodies of BEGIN ATOMIC, default values, aggregates."""
    settings: tuple[str, ...] = ()
    """PostgreSQL: ``name=value`` for each SET in its definition."""
    parameters: tuple[str, ...] = ()
    """MySQL: their names."""
    sql_mode: str = ""
    """MySQL: how its body is read."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a routine leaves behind."""

    harmless: bool
    why: str
    """What speaks against it; ``""`` where it is harmless."""
    settings: frozenset[str] = frozenset()
    """What it may set, by name: the session takes it along."""


HARMLESS = Verdict(True, "")


@dataclass(frozen=True, slots=True)
class Judged:
    """One body by itself: harmless if `why` is empty, and if all are that it calls."""

    why: str
    calls: tuple[Routine, ...] = ()
    is_path_temporary: bool = False
    """What it creates without naming a schema may become temporary, by the search_path of its definition."""
    creates: bool = False
    settings: frozenset[str] = frozenset()
    """What it may set, by name."""


def judged(routine: RoutineBody) -> Judged:
    """What the body of one routine does."""
    body = routine.body
    if routine.language not in ("sql", "plpgsql", "aggregate", "psm"):
        return Judged(f"it is in the language {routine.language}")
    if routine.language == "aggregate":
        found, body = Finding(), ""
    elif body is None:
        return Judged("its body cannot be read")
    elif routine.language == "psm":
        found = judge_psm(body, routine.parameters, routine.sql_mode)
    else:
        found = judge_body(routine.language, body)
    # In MySQL a name without a schema is looked for where the routine is.
    home = routine.schema if routine.language == "psm" else ""
    calls = {Routine(schema or home, name): None for schema, name in found.routines.values()}
    for called in routine.calls:
        if called.schema != "pg_catalog" or called.name not in BUILTINS:
            calls[called] = None
        elif called.name in _ASKING_BACK:
            found.reads_sequence = True
    names = frozenset(name for name, parameter in found.settings if name and name != "*")
    is_movable = len(names) == len(found.settings)
    for setting in routine.settings:  # SET in a definition: what it calls is planned under it
        names |= READING_SETTINGS & {setting.partition("=")[0].lower()}
    why = "" if leaves_nothing(replace(found, settings={}) if is_movable else found) else _first_cause(found)
    settings = dict(setting.partition("=")[::2] for setting in routine.settings)
    if "seed" in settings:
        why = why or "SET seed in its definition"
    return Judged(
        why,
        tuple(calls),
        is_path_temporary=_may_begin_temporary(settings.get("search_path", "")),
        creates=bool(_CREATES(body) or (routine.language == "sql" and _SELECTS_INTO(body))),
        settings=names,
    )


def _first_cause(found: Finding) -> str:
    for reason, what in found.causes:
        if reason != "UNKNOWN_ROUTINE" or what not in found.routines:
            return what
    if found.settings:
        return "it sets " + ", ".join("all settings" if name == "*" else name for name, _ in found.settings)
    if found.awaits_question:
        return "SQL_CALC_FOUND_ROWS"
    return "SET LOCAL, or a change of routines" if found.sets_local else "it asks what the session did before"


def _may_begin_temporary(search_path: str) -> bool:
    """Whether pg_temp is the first schema of this path that is sure to exist: there the server creates."""
    names = [name.strip().strip('"') for name in search_path.split(",")]
    return "pg_temp" in names and "pg_catalog" not in names[: names.index("pg_temp")]


class Inquiry:
    """Finds the verdict on some routines: ask for `names`, `learn` the answer, until there are none left."""

    def __init__(self, routines: Iterable[Routine], is_trusted: Callable[[Routine], bool]) -> None:
        self._wanted = dict.fromkeys(routines)
        self._is_trusted = is_trusted
        self._known: dict[Routine, tuple[Judged, ...]] = {}
        self._rounds = 0
        self.names: set[Routine] = set(self._wanted)
        """What the catalogue of the server is to be asked for next."""

    def learn(self, bodies: Collection[RoutineBody]) -> None:
        """Take in all routines of the names that were asked for; one whose name has none is no routine."""
        self._rounds += 1
        by_name: dict[str, list[RoutineBody]] = {}
        for body in bodies:
            by_name.setdefault(body.name.lower(), []).append(body)
        calls: set[Routine] = set()
        for asked in self.names:
            self._known[asked] = found = tuple(
                Judged("") if self._is_trusted(Routine(body.schema, body.name)) else judged(body)
                for body in by_name.get(asked.name.lower(), ())
                if _is_called(asked, body)
            )
            if len(bodies) >= BODIES:
                self._known[asked] = (Judged("too many routines have its name"),)
            else:
                calls.update(called for each in found if not each.why for called in each.calls)
        self.names = {called for called in calls - self._known.keys() if not self._is_trusted(called)}
        if self._rounds == ROUNDS:
            self._known.update(dict.fromkeys(self.names, (Judged("its calls go too deep"),)))
            self.names = set()

    def exists(self, routine: Routine) -> bool:
        """Whether there is any routine of this name."""
        return bool(self._known.get(routine))

    def verdict(self, routine: Routine) -> Verdict:
        """What it leaves behind, with all that it calls, whatever calls whatever in a circle."""
        reached = [routine]
        seen = {routine}
        settings: set[str] = set()
        is_path_temporary = creates = False
        for name in reached:
            for each in self._known.get(name, ()):
                if each.why:
                    return Verdict(False, each.why if name == routine else f"{each.why} in {name.name}")
                is_path_temporary = is_path_temporary or each.is_path_temporary
                creates = creates or each.creates
                settings |= each.settings
                fresh = [called for called in each.calls if called not in seen]
                reached += fresh
                seen.update(fresh)
        if is_path_temporary and creates:
            return Verdict(False, "it creates something under a search_path with pg_temp")
        return Verdict(True, "", frozenset(settings)) if settings else HARMLESS


def _is_called(asked: Routine, body: RoutineBody) -> bool:
    """MySQL compares the names of routines without case; PostgreSQL's are spelt here as they are stored."""
    if body.language == "psm":
        return asked.name.lower() == body.name.lower() and asked.schema.lower() in ("", body.schema.lower())
    return asked.name == body.name and asked.schema in ("", body.schema)


class Catalogue:
    """The verdicts of one proxy, for all its sessions.

    Takes no lock: each step on a dict is atomic, and a verdict counts only in the generation it was asked in. A
    statement that changes routines begins a new one, and another when its transaction is over; in between,
    verdicts are good for those who asked and are not kept.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        patterns = [translate(pattern.lower()) for pattern in trusted]
        self._trusted = re.compile("|".join(patterns)).match if patterns else None
        self._kept: dict[tuple[Hashable, Routine], tuple[Verdict, float, object]] = {}
        self._changes: dict[object, Callable[[], bool]] = {}
        self._generation = object()

    def is_trusted(self, routine: Routine) -> bool:
        """Whether `trusted_routines` names it, with or without its schema."""
        match, name = self._trusted, routine.name.lower()
        return match is not None and bool(match(name) or (routine.schema and match(f"{routine.schema.lower()}.{name}")))

    def known(self, place: Hashable, routine: Routine, now: float) -> Verdict | None:
        """The verdict that is kept for a routine of the database `place`; None if it has to be asked for."""
        if self._changes:
            self._sweep()
        kept = self._kept.get((place, routine))
        return kept[0] if kept is not None and now < kept[1] and kept[2] is self._generation else None

    def unproven(
        self,
        causes: Iterable[Cause],
        place: Hashable,
        now: float,
        ask: Callable[[Collection[Routine]], Collection[RoutineBody] | None],
    ) -> tuple[list[Cause], set[str]]:
        """What is left of `causes` without the routines that leave nothing behind but settings, and those settings.

        `ask` brings the bodies for some names from the database `place`, or None where it cannot just now.
        """
        verdicts: dict[Routine, Verdict] = {}
        unknown: set[Routine] = set()
        for cause in causes:
            routine = cause.routine
            if routine is not None:
                verdict = HARMLESS if self.is_trusted(routine) else self.known(place, routine, now)
                if verdict is None:
                    unknown.add(routine)
                else:
                    verdicts[routine] = verdict
        if unknown:
            verdicts.update(self._asked(unknown, place, now, ask))
        left = [
            cause if verdict is None else replace(cause, what=f"{cause.what}: {verdict.why}")
            for cause in causes
            for verdict in [verdicts.get(cause.routine) if cause.routine is not None else None]
            if verdict is None or not verdict.harmless
        ]
        return left, {name for verdict in verdicts.values() for name in verdict.settings}

    def _asked(
        self,
        unknown: Collection[Routine],
        place: Hashable,
        now: float,
        ask: Callable[[Collection[Routine]], Collection[RoutineBody] | None],
    ) -> dict[Routine, Verdict]:
        generation = self.generation()
        inquiry = Inquiry(unknown, self.is_trusted)
        while inquiry.names:
            bodies = ask(inquiry.names)
            if bodies is None:
                return {}
            inquiry.learn(bodies)
        verdicts = {routine: inquiry.verdict(routine) for routine in unknown}
        for routine, verdict in verdicts.items():
            if inquiry.exists(routine):  # somebody may be about to make one that does not
                self.keep(place, routine, verdict, now, generation)
        return verdicts

    def generation(self) -> object:
        """To be taken before asking, and handed to `keep`."""
        return self._generation

    def keep(self, place: Hashable, routine: Routine, verdict: Verdict, now: float, generation: object) -> None:
        """Remember what was found; not while a change is under way, nor if one was since `generation`."""
        if self._changes:
            return
        if len(self._kept) >= KEPT_VERDICTS:
            self._kept.clear()
        self._kept[place, routine] = verdict, now + KEPT_SECONDS, generation

    def change(self, is_over: Callable[[], bool]) -> None:
        """Forget all: a statement that changes routines is about to run. `is_over`: whether its transaction is."""
        self._sweep()
        self._changes[object()] = is_over
        self.forget()

    def forget(self) -> None:
        """Nothing that was asked for until now holds any more."""
        self._generation = object()
        self._kept.clear()

    def _sweep(self) -> None:
        for key, is_over in self._changes.copy().items():
            if is_over():
                self.forget()
                self._changes.pop(key, None)


_OTHER_DDL = frozenset(
    f"{verb} {name}"
    for verb in ("CREATE", "ALTER", "DROP")
    for name in ("AGGREGATE FUNCTION", "DATABASE", "LIBRARY", "PACKAGE", "PACKAGE BODY")
) | {"CREATE", "ALTER", "DROP"}


def changes_routines(verb: str) -> bool:
    """Whether a statement with this verb may change which routine a name stands for."""
    return verb in ROUTINE_DDL or verb in _OTHER_DDL


# -- the bodies of MySQL and MariaDB

PSM_ROUTINES = """
SELECT r.ROUTINE_SCHEMA, r.ROUTINE_NAME, r.ROUTINE_BODY, r.ROUTINE_DEFINITION, r.SQL_MODE,
  (SELECT GROUP_CONCAT(p.PARAMETER_NAME SEPARATOR ',') FROM information_schema.PARAMETERS p
   WHERE p.SPECIFIC_SCHEMA = r.ROUTINE_SCHEMA AND p.SPECIFIC_NAME = r.SPECIFIC_NAME
     AND p.ROUTINE_TYPE = r.ROUTINE_TYPE AND p.ORDINAL_POSITION > 0)
FROM information_schema.ROUTINES r WHERE (r.ROUTINE_SCHEMA, r.ROUTINE_NAME) IN ({pairs})
"""
"""Takes `pairs` of string constants, schema and name, or the function DATABASE() for a name without a schema."""


def psm_bodies(rows: Iterable[tuple[str | None, ...]], asked: Collection[Routine], database: str) -> list[RoutineBody]:
    """What PSM_ROUTINES answers, for these names; `database` is the one that is in use.

    A definition is NULL for who neither made the routine nor may see all of them. A name that is not there may be a
    loadable function, part of a package of MariaDB, or a routine that only the definer of its caller can see: none
    of these can be read.
    """
    bodies = [
        RoutineBody(
            schema or "",
            name or "",
            "psm",
            definition if kind == "SQL" else None,
            parameters=tuple(filter(None, (parameters or "").split(","))),
            sql_mode=sql_mode or "",
        )
        for schema, name, kind, definition, sql_mode, parameters in rows
    ]
    missing = [
        Routine(each.schema or database, each.name)
        for each in asked
        if not any(_is_called(Routine(each.schema or database, each.name), body) for body in bodies)
    ]
    return bodies + [RoutineBody(each.schema, each.name, "psm", None) for each in missing]


_PSM_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | \#[^\n]* | --(?=\s|\Z)[^\n]* | /\*(?![!M]).*?\*/ )
  | (?P<name> `(?:[^`]|``)*` | [@]{0,2}[\w$\x80-\U0010ffff]+ | @{1,2} )
  | (?P<string> '(?:[^'\\]|''|\\.)*' | "(?:[^"\\]|""|\\.)*" )
  | (?P<other> := | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_NAME = re.compile(r"[^\W\d][\w$]*", re.ASCII).fullmatch
# What is read in another way than this, and is rare in a routine.
_UNREADABLE_MODES = frozenset({"ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ORACLE"})
_PSM_UNTIL = {
    "case": "when",
    "elseif": "then",
    "if": "then",
    "until": "end",
    "when": "then",
    "while": "do",
}
_PSM_HARMLESS = names("close iterate leave open resignal signal")
_PSM_ENDS = names("case for if loop repeat while")
_BEFORE_TABLE = names("delayed high_priority ignore insert low_priority replace")
_PSM_NEVER = names("deallocate execute prepare")


def judge_psm(body: str, parameters: Collection[str], sql_mode: str = "") -> Finding:
    """What the body of a routine of MySQL or MariaDB does to the session; what it calls are causes too."""
    found = Finding()
    modes = set(sql_mode.upper().split(",")) & _UNREADABLE_MODES
    if modes:
        found.pin("UNKNOWN_STATEMENT", f"sql_mode {', '.join(sorted(modes))}")
    elif "/*!" in body or "/*M!" in body:
        found.pin("UNKNOWN_STATEMENT", "a comment that is executed")
    else:
        _Procedure(found, body, parameters).read()
    return found


class _Procedure:
    """Reads a body statement by statement: the language's own words here, all others as MySQL's rules have them.

    A piece is what stands between two ``;``. Words are lower case; a name in backquotes keeps the first of them.
    """

    def __init__(self, found: Finding, body: str, parameters: Collection[str]) -> None:
        self._found = found
        self._body = body
        self._scopes = [{name.lower() for name in parameters}]
        self._words: list[str] = []
        self._spans: list[tuple[int, int]] = []
        for token in _PSM_TOKEN.finditer(body):
            if token.lastgroup != "space":
                word = token[0]
                plain = word[1:-1].lower() if word[0] == "`" else ""
                self._words.append("`" + plain if plain else "'" if token.lastgroup == "string" else word.lower())
                self._spans.append(token.span())

    def read(self) -> None:
        at, end = 0, len(self._words)
        while at < end:
            stop = at
            while stop < end and self._words[stop] != ";":
                stop += 1
            while at < stop:
                at = self._statement(at, stop)
            at = stop + 1

    def _at(self, index: int) -> str:
        return self._words[index] if index < len(self._words) else ""

    def _find(self, first: int, last: int, *wanted: str) -> int:
        """Where one of these words stands, in no parentheses and no CASE; `last` where none does."""
        depth = 0
        for index in range(first, last):
            word = self._words[index]
            if not depth and word in wanted:
                return index
            if word in ("(", "case"):
                depth += 1
            elif word in (")", "end"):
                depth -= 1
        return last

    def _statement(self, at: int, end: int) -> int:
        """Judge what begins at `at`; where to go on is returned."""
        word = self._at(at)
        if self._at(at + 1) == ":" and word not in _PSM_NEVER:
            return at + 2
        if word == "begin":
            self._scopes.append(set())
            return at + (3 if self._at(at + 1) == "not" else 1)
        if word in ("else", "loop", "repeat"):
            return at + 1
        if word in _PSM_UNTIL:
            return self._up_to(at, end)
        if word == "for":
            return self._for(at, end)
        if word == "end":
            if self._at(at + 1) not in _PSM_ENDS and len(self._scopes) > 1:
                self._scopes.pop()
            return end
        if word == "declare":
            return self._declare(at, end)
        if word == "set":
            self._set(at + 1, end)
        elif word == "return":
            self._expression(at + 1, end)
        elif word == "fetch":
            into = self._find(at, end, "into")
            self._targets(into + 1, end)
        elif word == "get":
            if any(each.startswith("@") for each in self._words[at:end]):
                self._pin("GET DIAGNOSTICS into a user variable")
        elif word in _PSM_NEVER:
            self._pin(word.upper())
        elif word not in _PSM_HARMLESS:
            self._sql(at, end)
        return end

    def _pin(self, what: str) -> None:
        self._found.pin("UNKNOWN_STATEMENT", what)

    def _up_to(self, at: int, end: int) -> int:
        word = self._at(at)
        if word == "case" and self._at(at + 1) == "when":
            return at + 1
        stop = self._find(at + 1, end, _PSM_UNTIL[word])
        if stop == end:
            self._pin(word.upper())
            return end
        self._expression(at + 1, stop)
        return stop if word in ("case", "until") else stop + 1

    def _for(self, at: int, end: int) -> int:
        """MariaDB: FOR name IN 1 .. 3 DO, or a cursor, or a query."""
        stop = self._find(at + 1, end, "do")
        if stop == end or self._at(at + 2) != "in":
            self._pin("FOR")
            return end
        self._scopes[-1].add(self._at(at + 1).lstrip("`"))
        self._expression(at + 3, stop)
        return stop + 1

    def _declare(self, at: int, end: int) -> int:
        if self._at(at + 2) == "handler":
            index = at + 4  # behind CONTINUE HANDLER FOR
            while index < end:
                if self._at(index) == "sqlstate":
                    index += 2 if self._at(index + 1) == "value" else 1
                elif self._at(index) == "not":
                    index += 1
                index += 1
                if self._at(index) != ",":
                    return index
                index += 1
            return end
        if self._at(at + 2) == "cursor":
            query = self._find(at + 3, end, "for") + 1
            self._sql(query, end)
        elif self._at(at + 2) != "condition":
            index = at + 1
            declared = {self._at(index).lstrip("`")}
            while self._at(index + 1) == ",":
                index += 2
                declared.add(self._at(index).lstrip("`"))
            self._expression(self._find(index, end, "default") + 1, end)
            self._scopes[-1] |= declared
        return end

    def _is_local(self, word: str) -> bool:
        return any(word.lstrip("`") in scope for scope in self._scopes)

    def _set(self, at: int, end: int) -> None:
        """SET of variables that are declared here, or of a row in a trigger, and of nothing else."""
        while at < end:
            stop = self._find(at, end, ",")
            equals = at + 1
            if self._at(at) in ("new", "`new") and self._at(at + 1) == ".":
                equals = at + 3
            elif not self._is_local(self._at(at)):
                self._pin(f"SET {_shown(self._at(at))}")
            if self._at(equals) not in ("=", ":="):
                self._pin("SET")
            self._expression(equals + 1, stop)
            at = stop + 1

    def _targets(self, at: int, end: int) -> int:
        """The variables after INTO, which have to be declared here. Where they end is returned."""
        while True:
            if not self._is_local(self._at(at)) or at >= end:
                self._pin(f"INTO {_shown(self._at(at))}")
                return end
            if self._at(at + 1) != "," or at + 1 >= end:
                return at + 1
            at += 2

    def _expression(self, first: int, last: int) -> None:
        if first < last:
            self._judge(f"SELECT {self._text(first, last)}")

    def _text(self, first: int, last: int) -> str:
        return self._body[self._spans[first][0] : self._spans[last - 1][1]] if first < last else ""

    def _sql(self, first: int, last: int) -> None:
        into = self._find(first, last, "into")
        while into < last and self._at(into - 1) in _BEFORE_TABLE:
            into = self._find(into + 1, last, "into")
        text = self._text(first, last)
        if into < last:
            behind = self._targets(into + 1, last)
            text = f"{self._text(first, into)} {self._text(behind, last)}"
        self._judge(text)

    def _judge(self, text: str) -> None:
        for tokens in sql_mysql_lexer.statements(sql_mysql_lexer.shape_of(text, True, False)):
            inner = sql_mysql.judge(tokens)
            inner.sets_local = inner.sets_local or inner.lingers
            inner.reads_sequence = inner.reads_sequence or inner.reads_diagnostics
            take(self._found, inner)


def _shown(word: str) -> str:
    return word[:64] if _PLAIN_NAME(word.lstrip("@`")) else "?"
