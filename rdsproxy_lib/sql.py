"""What a statement leaves behind on the server session: ``classify(text) -> Statement``.

Read before the parameters go in, so that neither cache nor log ever holds a value. What is not known to be
harmless pins. Not seen, because no text shows it: what triggers, views, rules, policies, column defaults,
casts, operators, domains and index expressions call; a function called in attribute notation, ``row.f``,
which looks like a column; a function of the user's that shadows or overloads a built-in one; a
table made in the temporary schema because ``search_path`` begins with it; what the script of CREATE
EXTENSION does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import ClassVar

from . import sql_mysql, sql_mysql_lexer, sql_postgresql
from .sql_finding import Finding
from .sql_lexer import statements
from .sql_mysql_lexer import shape_of

CACHED_TEXTS = 2000
CACHED_LENGTH = 4096


class Reason(Enum):
    """Why a session stays on its backend."""

    SETTING = "SETTING"
    """A setting of the session was changed that cannot be made again on another database connection."""
    TEMP_TABLE = "TEMP_TABLE"
    """A temporary table, view or sequence exists, or may."""
    PREPARED_STATEMENT = "PREPARED_STATEMENT"
    """SQL-level PREPARE. The driver's own prepared statements live per backend and do not pin."""
    HOLD_CURSOR = "HOLD_CURSOR"
    """A cursor outlives its transaction."""
    ADVISORY_LOCK = "ADVISORY_LOCK"
    """A session-level advisory lock is held, or may be."""
    NAMED_LOCK = "NAMED_LOCK"
    """A lock of MySQL's GET_LOCK is held, or may be."""
    TABLE_LOCK = "TABLE_LOCK"
    """MySQL's LOCK TABLES or FLUSH TABLES WITH READ LOCK. PostgreSQL's LOCK ends with its transaction."""
    LISTEN = "LISTEN"
    """The session waits for notifications."""
    USER_VARIABLE = "USER_VARIABLE"
    """A MySQL user variable holds a value that cannot be known."""
    UNKNOWN_ROUTINE = "UNKNOWN_ROUTINE"
    """A function, a procedure or a code block that may set anything."""
    UNKNOWN_STATEMENT = "UNKNOWN_STATEMENT"
    """A statement this library does not know, or whose text can be read in two ways."""
    UNRESETTABLE = "UNRESETTABLE"
    """State no command takes back: setseed, LOAD, replication slots. The backend is closed afterwards."""
    RAW_ACCESS = "RAW_ACCESS"
    """The driver's connection was used past its public methods."""
    MANUAL = "MANUAL"
    """``conn.rdsproxy.pin()``."""


@dataclass(frozen=True, slots=True)
class Routine:
    """A routine as a text names it; `schema` is ``""`` where the text gives none."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason to pin, and `what` in the text gave it: ``pg_advisory_lock()``, ``CREATE TEMP TABLE``."""

    reason: Reason
    what: str
    routine: Routine | None = None
    """For UNKNOWN_ROUTINE: which one, where the catalogue of the server can be asked about it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Something of the session that a statement may set for longer than its transaction, and that can be moved."""

    name: str
    """In lower case. PostgreSQL: a parameter, ``role`` and ``session_authorization`` among them. MySQL: a variable,
    ``@name`` for one of the user's, ``role``, ``schema`` for the database in use. ``*``: all of them. ``""`` where
    `parameter` tells."""
    parameter: int | str | None = None
    """PostgreSQL: which parameter of ``execute()`` holds the name: its place, from 0, or its key."""


@dataclass(frozen=True, slots=True)
class Part:
    """One statement of a text."""

    verb: str
    """``SELECT``, ``CREATE TABLE``, ``SET LOCAL``; ``""`` for nothing at all."""
    text: str
    """The statement for logs: literals are ``?``, no comments, white space folded, at most 500 characters."""
    causes: tuple[Cause, ...]
    """Why it pins; empty when it leaves nothing behind."""
    reads_only: bool
    """It changes and locks nothing, as far as a text can show: it may be sent twice, or to a replica."""
    reads_sequence: bool
    """Its answer depends on what this backend did before: currval(), lastval()."""
    moves_sequence: bool
    """It may advance a sequence, and with it what currval() and lastval() say."""
    ends_transaction: bool
    """COMMIT, ROLLBACK, PREPARE TRANSACTION and their other names; not ROLLBACK TO."""
    sets_local: bool
    """It changes a setting until the transaction ends, and with it how texts are read and planned."""
    reads_diagnostics: bool = False
    """MySQL: its answer is about the statement before: LAST_INSERT_ID(), ROW_COUNT(), SHOW WARNINGS, …"""
    lingers: bool = False
    """MySQL: it opens something that only COMMIT or ROLLBACK ends and no status bit shows: SAVEPOINT, XA."""
    commits: bool = False
    """MySQL: it may make earlier work permanent: COMMIT, DDL and all that commits implicitly, and what is unknown."""
    settings: tuple[Setting, ...] = ()
    """What the session takes along to other backends afterwards, instead of a pin."""
    local_settings: tuple[Setting, ...] = ()
    """PostgreSQL: what is set until the transaction ends, where only the parameters tell whether that pins."""
    holds: tuple[tuple[Reason, str], ...] = ()
    """MySQL: what its causes pin for, by name, lower case: the temporary table, the prepared statement, …"""
    frees: tuple[tuple[Reason, str], ...] = ()
    """Pins that it may end. MySQL: with the name of what goes, or ``*``; PostgreSQL is asked, and the name is ``*``."""
    awaits_question: bool = False
    """MySQL: SQL_CALC_FOUND_ROWS. The next statement may ask about it, and the backend is held for that one."""
    names: frozenset[str] = frozenset()
    """Of one that only reads: every word in it, quoted or not, in lower case, and so whatever relation it names; ``""``
    for one that the text does not tell, with quotes in it or too long."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Everything handed to one ``execute()``: its parts, and what they do together."""

    parts: tuple[Part, ...]
    """At least one; a text without any statement has a single part with the verb ``""``."""
    causes: tuple[Cause, ...]
    reads_only: bool
    reads_sequence: bool
    moves_sequence: bool
    ends_transaction: bool
    changes_plans: bool
    """It pins or sets something: plans made before it, or by other sessions, are not to be used after it."""
    is_plain: bool
    """It pins nothing, sets nothing, asks for nothing that was before, and is no COMMIT or NOTIFY: most statements."""
    reads_diagnostics: bool
    lingers: bool
    commits: bool
    settings: tuple[Setting, ...]
    local_settings: tuple[Setting, ...]
    frees: frozenset[Reason]
    """Pins that one of its parts may end."""
    awaits_question: bool
    digest: str
    """The parts' texts, joined."""


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """How an engine, in one of its modes, reads a text. The constants are all there are."""

    engine: str
    backslash: bool
    """Whether a backslash escapes in plain string constants."""
    ansi_quotes: bool = False
    """MySQL: whether ``"`` quotes an identifier."""
    server: str = ""
    """``"mysql"`` or ``"mariadb"`` when it is known: then the functions that it alone has count as built in."""

    POSTGRESQL: ClassVar[Dialect]
    POSTGRESQL_BACKSLASH: ClassVar[Dialect]
    """A server with ``standard_conforming_strings`` off."""
    MYSQL: ClassVar[Dialect]

    @staticmethod
    def mysql(sql_mode: str, server: str = "") -> Dialect:
        """The dialect of a session with this value of ``@@sql_mode``; `server` is as in the field."""
        modes = sql_mode.upper().split(",")
        return _MYSQL["NO_BACKSLASH_ESCAPES" not in modes, "ANSI_QUOTES" in modes, server]


Dialect.POSTGRESQL = Dialect("postgresql", backslash=False)
Dialect.POSTGRESQL_BACKSLASH = Dialect("postgresql", backslash=True)
_MYSQL = {
    (backslash, ansi, server): Dialect("mysql", backslash=backslash, ansi_quotes=ansi, server=server)
    for backslash in (True, False)
    for ansi in (True, False)
    for server in ("", "mysql", "mariadb")
}
Dialect.MYSQL = _MYSQL[True, False, ""]


def classify(text: str, dialect: Dialect = Dialect.POSTGRESQL) -> Statement:
    """What `text` does to the session that runs it.

    `text` is the template, before parameters are put in; ``%s``, ``%(name)s`` and ``$1`` are parameters.
    Never raises, and takes time linear in the length. Results for texts
    up to 4 KB are kept, the last 2,000 of them.
    """
    if len(text) > CACHED_LENGTH:
        return classify_uncached(text, dialect)
    return _cached(text, dialect)


def classify_filled(text: str, dialect: Dialect = Dialect.MYSQL) -> Statement:
    """The same for MySQL, whose driver puts the parameters in before anybody sees the text.

    The literals are taken out first, and what is left is looked up: no value ever gets into the cache.
    """
    shape = shape_of(text, dialect.backslash, dialect.ansi_quotes)
    if len(shape) > CACHED_LENGTH:
        return classify_uncached(shape, dialect)
    return _cached(shape, dialect)


def _part(found: Finding, text: str, words: Iterable[str]) -> Part:
    return Part(
        verb=found.verb,
        text=text,
        causes=tuple(
            Cause(Reason(reason), what, Routine(*found.routines[what]) if what in found.routines else None)
            for reason, what in found.causes
        ),
        reads_only=found.reads_only,
        reads_sequence=found.reads_sequence,
        moves_sequence=found.moves_sequence,
        ends_transaction=found.ends_transaction,
        sets_local=found.sets_local,
        reads_diagnostics=found.reads_diagnostics,
        lingers=found.lingers,
        commits=found.commits,
        settings=tuple(Setting(*setting) for setting in found.settings),
        local_settings=tuple(Setting(*setting) for setting in found.local_settings),
        holds=tuple((Reason(reason), name) for reason, name in found.holds),
        frees=tuple((Reason(reason), name) for reason, name in found.frees),
        awaits_question=found.awaits_question,
        names=_names(words) if found.reads_only else frozenset(),
    )


def _names(words: Iterable[str]) -> frozenset[str]:
    names = (word.lstrip('"`') for word in words if word[0] in '"`_@' or word[0].isalpha())
    return frozenset("" if _is_cut(name) else name.lower() for name in names)


def _is_cut(name: str) -> bool:
    """Whether the server may leave out the end of it: PostgreSQL keeps 63 bytes."""
    return len(name) > 15 and len(name.encode("utf-8", "replace")) > 63


def _postgresql_parts(text: str, dialect: Dialect) -> Iterator[Part]:
    for tokens in statements(text, backslash=dialect.backslash):
        found = sql_postgresql.judge(tokens)
        # Tokens that cannot be believed may have quotes the wrong way round.
        yield _part(found, f"{found.verb} …" if tokens.odd else tokens.digest, tokens.words)


def _mysql_parts(shape: str, dialect: Dialect) -> Iterator[Part]:
    is_read_otherwise = False
    for tokens in sql_mysql_lexer.statements(shape):
        part = _part(sql_mysql.judge(tokens, dialect.server), tokens.digest, tokens.words)
        if is_read_otherwise:  # the server reads it under a sql_mode that was not there when the text was taken apart
            why = Cause(Reason.UNKNOWN_STATEMENT, "a statement behind SET sql_mode")
            part = replace(part, causes=(*part.causes, why), reads_only=False, frees=())
        is_read_otherwise = is_read_otherwise or _SQL_MODE in part.settings
        yield part


_SQL_MODE = Setting("sql_mode")


def classify_uncached(text: str, dialect: Dialect) -> Statement:
    """The same for a text that may hold values, and so must not stay in memory; of MySQL its shape."""
    split = _mysql_parts if dialect.engine == "mysql" else _postgresql_parts
    parts = tuple(split(text, dialect)) or (_NOTHING,)
    causes = tuple(cause for part in parts for cause in part.causes)
    reads_sequence = any(part.reads_sequence for part in parts)
    moves_sequence = any(part.moves_sequence for part in parts)
    sets_local = any(part.sets_local for part in parts)
    reads_diagnostics = any(part.reads_diagnostics for part in parts)
    lingers = any(part.lingers for part in parts)
    settings = tuple(dict.fromkeys(setting for part in parts for setting in part.settings))
    local_settings = tuple(dict.fromkeys(setting for part in parts for setting in part.local_settings))
    frees = frozenset(reason for part in parts for reason, _ in part.frees)
    awaits_question = any(part.awaits_question for part in parts)
    is_special = sets_local or reads_sequence or moves_sequence or reads_diagnostics or lingers
    is_special = is_special or bool(settings or frees or awaits_question) or any(part.holds for part in parts)
    is_special = is_special or any(_is_minded(part) for part in parts)
    return Statement(
        parts=parts,
        causes=causes,
        reads_only=all(part.reads_only for part in parts),
        reads_sequence=reads_sequence,
        moves_sequence=moves_sequence,
        ends_transaction=any(part.ends_transaction for part in parts),
        changes_plans=bool(causes or settings) or sets_local,
        is_plain=not causes and not is_special,
        reads_diagnostics=reads_diagnostics,
        lingers=lingers,
        commits=any(part.commits for part in parts),
        settings=settings,
        local_settings=local_settings,
        frees=frees,
        awaits_question=awaits_question,
        digest="; ".join(part.text for part in parts),
    )


def _is_minded(part: Part) -> bool:
    """Whether it is a COMMIT, or what a COMMIT sends that nobody finds in the database afterwards (see commits.py)."""
    return (part.ends_transaction and part.verb in ("COMMIT", "END")) or notifies(part)


def notifies(part: Part) -> bool:
    """PostgreSQL: whether it sends a notification, when its transaction is committed."""
    return part.verb == "NOTIFY" or "pg_notify" in part.text.lower()


_NOTHING = Part(
    verb="",
    text="",
    causes=(),
    reads_only=True,
    reads_sequence=False,
    moves_sequence=False,
    ends_transaction=False,
    sets_local=False,
)
_cached = lru_cache(CACHED_TEXTS)(classify_uncached)
