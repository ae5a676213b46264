"""What pins a MySQL session, by name: pins end when the last of it is gone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..engines.mysql import ELSEWHERE, UNNAMED
from ..sql import Dialect, Part, Reason, Statement, classify_filled
from ..sql_mysql_literals import lock_names, prepared_text

if TYPE_CHECKING:
    from ..client import Client

COUNTED = frozenset({Reason.HOLD_CURSOR, Reason.PREPARED_STATEMENT, Reason.TABLE_LOCK, Reason.TEMP_TABLE})
"""Reasons that are over when as much was freed as was held."""

_executed = re.compile(r"EXECUTE ([A-Za-z_][\w$]*)(?![\w$`.])", re.ASCII | re.IGNORECASE).match
_releases_all = re.compile(r"(?:SELECT|DO) RELEASE_ALL_LOCKS ?\( ?\)", re.IGNORECASE).fullmatch


class Holding:
    """What one statement will hold and free, once it has succeeded."""

    __slots__ = ("_locks", "_prepared", "_schema", "_statement")

    def __init__(self, statement: Statement, text: str, dialect: Dialect, schema: str) -> None:
        """`text` is the statement's own, with its values. `schema` is the database in use before it."""
        self._statement = statement
        self._schema = "" if any(part.verb == "USE" for part in statement.parts) else schema
        self._locks: set[str] = set()
        self._prepared: tuple[str, bool] | None = None
        whats = {cause.what for cause in statement.causes if cause.reason is Reason.NAMED_LOCK}
        if whats:
            names = lock_names(text, dialect.backslash, dialect.ansi_quotes)
            if names is not None and all(name.isascii() for name in names):
                self._locks.update(names)
            else:
                self._locks.add(UNNAMED if whats == {"get_lock()"} else ELSEWHERE)
        if any(part.verb == "PREPARE" for part in statement.parts):
            prepared = prepared_text(text, dialect.backslash, dialect.ansi_quotes)
            if prepared is not None:
                self._prepared = prepared[0], _is_harmless(classify_filled(prepared[1], dialect))

    def begin(self, client: Client) -> None:
        """Before it runs. Raises PinRefused."""
        for part in self._statement.parts:
            if part.verb == "EXECUTE" and _may_do_anything(part, client.held or {}):
                client.add_pin(Reason.UNKNOWN_ROUTINE, "EXECUTE")

    def end(self, client: Client, *, has_failed: bool) -> None:
        """After it. What failed may have taken locks; of several statements some may have run."""
        held = client.held = client.held or {}
        parts = self._statement.parts
        for part in parts:
            if not has_failed or len(parts) > 1:
                self._hold(part, held)
            if not has_failed:
                self._free(part, held)
        if self._locks:
            held.setdefault(Reason.NAMED_LOCK, set()).update(self._locks)
            client.doubt({Reason.NAMED_LOCK})

    def _hold(self, part: Part, held: dict[Reason, set[str]]) -> None:
        named = {reason for reason, _ in part.holds}
        if part.verb == "EXECUTE":  # which proves that there is one, and that one is known
            named.add(Reason.PREPARED_STATEMENT)
        for reason, name in part.holds:
            if reason in COUNTED:
                held.setdefault(reason, set()).add(self._full(reason, name))
                if part.verb == "FLUSH":  # which BEGIN does not end
                    held[reason].add(f"{name} by FLUSH")
        for cause in part.causes:
            if cause.reason is Reason.USER_VARIABLE or (cause.reason in COUNTED and cause.reason not in named):
                held.setdefault(cause.reason, set()).add(UNNAMED)
        if part.verb == "PREPARE":
            risky = held.setdefault(Reason.UNKNOWN_ROUTINE, set())
            if self._prepared is None:
                risky.update(name for reason, name in part.holds if reason is Reason.PREPARED_STATEMENT)
            elif self._prepared[1]:
                risky.discard(self._prepared[0])
            else:
                risky.add(self._prepared[0])

    def _free(self, part: Part, held: dict[Reason, set[str]]) -> None:
        for reason, name in part.frees:
            names = held.get(reason)
            if not names or reason not in COUNTED:
                continue
            if name == "*":
                names.clear()
            else:
                names -= {self._full(reason, name), f"{name} by FLUSH"}
        if _releases_all(part.text) and (locks := held.get(Reason.NAMED_LOCK)):
            locks &= {ELSEWHERE}

    def _full(self, reason: Reason, name: str) -> str:
        if reason is not Reason.TEMP_TABLE or name == UNNAMED or "." in name:
            return name
        return f"{self._schema}.{name}" if self._schema else UNNAMED


def _is_harmless(statement: Statement) -> bool:
    """Whether a prepared statement may run as often as it likes: nothing it does outlives its transaction."""
    return not (
        statement.causes or statement.settings or statement.frees or statement.lingers or statement.awaits_question
    )


def _may_do_anything(part: Part, held: dict[Reason, set[str]]) -> bool:
    """Whether an EXECUTE is of a statement that is not harmless. One that was never prepared fails."""
    prepared = held.get(Reason.PREPARED_STATEMENT)
    found = _executed(part.text)
    if not prepared:
        return False
    if found is None or UNNAMED in prepared:
        return True
    name = found[1].lower()
    return name not in prepared or name in held.get(Reason.UNKNOWN_ROUTINE, ())
