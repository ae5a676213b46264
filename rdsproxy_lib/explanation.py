"""What a text does to multiplexing, and what to write instead: the lexer's verdict for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .sql import Cause, Dialect, Part, Reason, Setting, classify, classify_filled
from .sql_mysql_builtins import NEED_NO_SPACE

# By what the cause names, where that says more than its reason; then by reason.
_POSTGRESQL_FOR = {
    "SELECT INTO TEMP": "write CREATE TEMP TABLE … ON COMMIT DROP AS SELECT …, inside the transaction that reads it",
    "pg_temp": "create the table with ON COMMIT DROP and name it without its schema",
    "DO": "send its statements one by one from the application",
    "LOAD": "name the library in session_preload_libraries or shared_preload_libraries",
    "UPDATE pg_settings": "call set_config(name, value, false): it does the same",
    "set_config()": "give the name of the setting as a constant or as a parameter: set_config(%s, %s, false)",
}
# The same for settings, however they are set.
_POSTGRESQL_ABOUT = {
    "seed": "compute the numbers in the application, or keep this work on a connection of its own",
    "standard_conforming_strings": "write constants with backslashes as E'…'",
    "search_path": "name the schemas as plain constants, without pg_temp, or as the parameter of set_config()",
    "a name that is no constant": _POSTGRESQL_FOR["set_config()"],
}
_POSTGRESQL = {
    Reason.SETTING: "write the name of the setting plainly, or give it when connecting (options=-c name=value)",
    Reason.TEMP_TABLE: "create it with ON COMMIT DROP inside the transaction that uses it, or use a CTE",
    Reason.PREPARED_STATEMENT: "let the driver prepare (prepare=True): its prepared statements do not pin",
    Reason.HOLD_CURSOR: "leave out WITH HOLD and read the cursor inside its transaction",
    Reason.ADVISORY_LOCK: "use pg_advisory_xact_lock(): it ends with the transaction",
    Reason.NAMED_LOCK: "lock a row with SELECT … FOR UPDATE inside a transaction",
    Reason.TABLE_LOCK: "lock rows with SELECT … FOR UPDATE inside a transaction",
    Reason.LISTEN: "listen on one connection of its own, outside the pool",
    Reason.USER_VARIABLE: "keep the value in the application",
    Reason.UNKNOWN_ROUTINE: (
        "it may leave anything on the session; if you know it leaves nothing, name it in trusted_routines, or call"
        " conn.rdsproxy.unpin() afterwards"
    ),
    Reason.UNKNOWN_STATEMENT: "not known to be harmless; write it in a plainer form if it should not pin",
    Reason.UNRESETTABLE: "run it on a connection of its own: the backend is closed afterwards",
    Reason.RAW_ACCESS: "use the driver's public methods",
    Reason.MANUAL: "call conn.rdsproxy.unpin() when it is no longer needed",
}
# When a pin ends before the session is closed.
_POSTGRESQL_UNTIL = {
    Reason.SETTING: "RESET ALL or DISCARD ALL",
    Reason.TEMP_TABLE: "the last one is dropped, or DISCARD TEMP or DISCARD ALL",
    Reason.PREPARED_STATEMENT: "the last one is deallocated, or DISCARD ALL",
    Reason.HOLD_CURSOR: "the last one is closed, or DISCARD ALL",
    Reason.ADVISORY_LOCK: "the last one is unlocked, or DISCARD ALL",
    Reason.NAMED_LOCK: "the last one is released",
    Reason.TABLE_LOCK: "UNLOCK TABLES",
    Reason.LISTEN: "UNLISTEN of the last channel, or DISCARD ALL",
    Reason.USER_VARIABLE: "the session is closed",
    Reason.UNKNOWN_ROUTINE: "DISCARD ALL or conn.rdsproxy.unpin()",
    Reason.UNKNOWN_STATEMENT: "DISCARD ALL or conn.rdsproxy.unpin()",
    Reason.UNRESETTABLE: "the session is closed, and its backend with it",
    Reason.RAW_ACCESS: "conn.rdsproxy.unpin()",
    Reason.MANUAL: "conn.rdsproxy.unpin()",
}
_PATH_UNTIL = "search_path is set without pg_temp and nothing temporary is left, or DISCARD ALL"
_SEQUENCE_ADVICE = "its answer belongs to the backend of the last nextval(): use INSERT … RETURNING instead"
_MYSQL_FOR = {
    "SET profiling": "ask EXPLAIN ANALYZE, or the performance_schema, instead",
    "SET @": "keep the value in the application and pass it as a parameter",
    "COMMIT RELEASE": "leave out RELEASE, and close the connection",
    "ROLLBACK RELEASE": "leave out RELEASE, and close the connection",
    "BEGIN …": "send its statements one by one from the application",
    "EXECUTE IMMEDIATE": "send the statement itself, with the values as parameters",
}
_MYSQL = _POSTGRESQL | {
    Reason.SETTING: (
        "give the setting when connecting (init_command=…), or for one statement: the hint"
        " /*+ SET_VAR(name = value) */ of MySQL, SET STATEMENT name = value FOR … of MariaDB"
    ),
    Reason.TEMP_TABLE: "use WITH or a derived table, or a permanent table with a column that says whose rows they are",
    Reason.PREPARED_STATEMENT: "send the statement itself, with the values as parameters",
    Reason.HOLD_CURSOR: "read page by page: SELECT … WHERE id > the last one ORDER BY id LIMIT 100",
    Reason.USER_VARIABLE: "keep the value in the application, or compute it with a window function: ROW_NUMBER()",
}
_MYSQL_UNTIL = _POSTGRESQL_UNTIL | {
    Reason.SETTING: "the session is closed",
    Reason.TEMP_TABLE: "the last one is dropped",
    Reason.PREPARED_STATEMENT: "the last one is deallocated",
    Reason.HOLD_CURSOR: "HANDLER … CLOSE of the last one",
    Reason.TABLE_LOCK: "UNLOCK TABLES, or what else ends the lock",
    Reason.UNKNOWN_ROUTINE: "conn.rdsproxy.unpin()",
    Reason.UNKNOWN_STATEMENT: "conn.rdsproxy.unpin()",
}
_COUNT_ADVICE = "ask SELECT COUNT(*) with the same conditions in a statement of its own"
_NO_SPACE_ADVICE = "write the parenthesis right behind the name: with a blank between, a function of your own is called"
_INSERT_ID_ADVICE = "cursor.lastrowid says the same, and nothing has to be asked"
_DIAGNOSTICS_ADVICE = "its answer is about the statement before: ask in the same transaction, or use cursor.rowcount"


@dataclass(frozen=True, slots=True)
class StatementExplanation:
    """One statement of the text."""

    verb: str
    text: str
    """With the literals taken out."""
    effect: str
    """``"free"``: the backend may go to another session afterwards. ``"virtualised"``: it may, and what the statement
    sets is made again on the session's next one. ``"pins"``: it stays."""
    settings: tuple[str, ...]
    """What is taken along, in words: ``setting search_path``, ``role``, ``user variable @a``."""
    reasons: tuple[str, ...]
    """What pins, as ``REASON: what in the text``."""
    until: tuple[str, ...]
    """When each of these reasons ends, as ``REASON: when``."""
    notes: tuple[str, ...]
    """What else there is to know."""
    advice: tuple[str, ...]
    """How to write it so that it does not."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict on a text. ``str()`` of it is for people, :meth:`as_dict` for programs."""

    engine: str
    statements: tuple[StatementExplanation, ...]

    @property
    def pins(self) -> bool:
        """Whether any of the statements pins."""
        return any(statement.effect == "pins" for statement in self.statements)

    def as_dict(self) -> dict[str, object]:
        """The same, of types that JSON knows."""
        return {
            "engine": self.engine,
            "pins": self.pins,
            "statements": [
                {
                    "verb": statement.verb,
                    "text": statement.text,
                    "effect": statement.effect,
                    "settings": list(statement.settings),
                    "reasons": list(statement.reasons),
                    "until": list(statement.until),
                    "notes": list(statement.notes),
                    "advice": list(statement.advice),
                }
                for statement in self.statements
            ],
        }

    def __str__(self) -> str:
        lines: list[str] = []
        for statement in self.statements:
            lines.append(f"{statement.effect:11} {statement.text or '(nothing)'}")
            for label, words in (
                ("as", (", ".join(statement.settings),) if statement.settings else ()),
                ("because", statement.reasons),
                ("until", statement.until),
                ("note", statement.notes),
                ("instead", statement.advice),
            ):
                lines += [f"            {label:8} {each}" for each in words]
        return "\n".join(lines)


def explain(sql: str, engine: str = "postgresql") -> Explanation:
    """What `sql` does to the session that runs it, and how to avoid a pin.

    Nothing is sent anywhere. `engine` is ``"postgresql"``, or ``"mysql"`` for MySQL and MariaDB, which reads `sql` as a
    server with the default ``sql_mode``; any other raises ValueError.
    """
    if engine not in _ENGINES:
        raise ValueError(f"engine must be 'postgresql' or 'mysql' (MariaDB too), not {engine!r}")
    words = _ENGINES[engine]
    return Explanation(engine, tuple(_explained(part, words) for part in words.parts(sql)))


@dataclass(frozen=True, slots=True)
class _Words:
    """What there is to say about the statements of an engine."""

    parts: Callable[[str], tuple[Part, ...]]
    advise: Callable[[Cause], str]
    until: Callable[[Cause], str]
    sequence_advice: str


def _explained(part: Part, words: _Words) -> StatementExplanation:
    advice = dict.fromkeys(words.advise(cause) for cause in part.causes)
    if part.reads_sequence:
        advice[words.sequence_advice] = None
    if part.reads_diagnostics:
        advice[_DIAGNOSTICS_ADVICE] = None
    if part.awaits_question:
        advice[_COUNT_ADVICE] = None
    return StatementExplanation(
        verb=part.verb,
        text=part.text,
        effect="pins" if part.causes else "virtualised" if part.settings else "free",
        settings=tuple(dict.fromkeys(map(_shown, part.settings))),
        reasons=tuple(f"{cause.reason.value}: {cause.what}" for cause in part.causes),
        until=tuple(dict.fromkeys(f"{cause.reason.value}: {words.until(cause)}" for cause in part.causes)),
        notes=tuple(note for note, applies in _NOTES.items() if applies(part)),
        advice=tuple(advice),
    )


def _shown(setting: Setting) -> str:
    """A setting in words."""
    if not setting.name:
        placeholder = f"%({setting.parameter})s" if isinstance(setting.parameter, str) else "%s"
        return f"the parameter named by {placeholder}"
    if setting.name.startswith("@"):
        return f"user variable {setting.name}"
    return _SPECIAL.get(setting.name, f"setting {setting.name}")


_SPECIAL = {
    "*": "all settings",
    "role": "role",
    "schema": "the database in use",
    "session_authorization": "session authorization",
}
_NOTES: dict[str, Callable[[Part], bool]] = {
    "the backend is held for the next statement, which may ask FOUND_ROWS()": lambda part: part.awaits_question,
    "it pins after all if the value is no integer, NULL or plain string": lambda part: _sets(part, "@"),
    "it pins after all if that is seed or standard_conforming_strings": lambda part: _sets(part, ""),
    "its body is looked at when it is called: one that leaves nothing but settings does not pin": lambda part: any(
        cause.routine for cause in part.causes
    ),
}


def _sets(part: Part, kind: str) -> bool:
    """Whether it sets something whose name begins so, and does not pin anyway."""
    return not part.causes and any(setting.name[:1] == kind for setting in (*part.settings, *part.local_settings))


def _postgresql(sql: str) -> tuple[Part, ...]:
    return classify(sql).parts


def _mysql(sql: str) -> tuple[Part, ...]:
    return classify_filled(sql, Dialect.MYSQL).parts


def _advise_postgresql(cause: Cause) -> str:
    if advice := _POSTGRESQL_FOR.get(cause.what):
        return advice
    if cause.reason is not Reason.UNKNOWN_ROUTINE:
        for about, advice in _POSTGRESQL_ABOUT.items():
            if about in cause.what:
                return advice
    return _POSTGRESQL[cause.reason]


def _advise_mysql(cause: Cause) -> str:
    if cause.routine and not cause.routine.schema and cause.routine.name in NEED_NO_SPACE:
        return _NO_SPACE_ADVICE
    return _MYSQL_FOR.get(cause.what) or _MYSQL[cause.reason]


def _until_postgresql(cause: Cause) -> str:
    return _PATH_UNTIL if "search_path" in cause.what else _POSTGRESQL_UNTIL[cause.reason]


def _until_mysql(cause: Cause) -> str:
    return _MYSQL_UNTIL[cause.reason]


_ENGINES = {
    "postgresql": _Words(_postgresql, _advise_postgresql, _until_postgresql, _SEQUENCE_ADVICE),
    "mysql": _Words(_mysql, _advise_mysql, _until_mysql, _INSERT_ID_ADVICE),
}
