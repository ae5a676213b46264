"""What a text does to multiplexing, and what to write instead: the lexer's verdict for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .sql import Cause, Dialect, Part, Reason, classify, classify_filled
from .sql_mysql_builtins import NEED_NO_SPACE

# By what the cause names, where that says more than its reason; then by reason.
_POSTGRESQL_FOR = {
    "DISCARD": "leave it out: a session that is closed is cleaned by the pool",
    "RESET": "use SET LOCAL in a transaction instead of SET, and there is nothing to reset",
    "set_config()": "pass true as the third argument and call it inside the transaction that needs the setting",
    "SELECT INTO TEMP": "write CREATE TEMP TABLE … ON COMMIT DROP AS SELECT …, inside the transaction that reads it",
    "pg_temp": "create the table with ON COMMIT DROP and name it without its schema",
    "DO": "send its statements one by one from the application",
    "setseed()": "compute the numbers in the application, or keep this work on a connection of its own",
    "LOAD": "name the library in session_preload_libraries or shared_preload_libraries",
}
_POSTGRESQL = {
    Reason.SETTING: "use SET LOCAL in a transaction, or give the setting when connecting (options=-c name=value)",
    Reason.TEMP_TABLE: "create it with ON COMMIT DROP inside the transaction that uses it, or use a CTE",
    Reason.PREPARED_STATEMENT: "let the driver prepare (prepare=True): its prepared statements do not pin",
    Reason.HOLD_CURSOR: "leave out WITH HOLD and read the cursor inside its transaction",
    Reason.ADVISORY_LOCK: "use pg_advisory_xact_lock(): it ends with the transaction",
    Reason.NAMED_LOCK: "lock a row with SELECT … FOR UPDATE inside a transaction",
    Reason.TABLE_LOCK: "lock rows with SELECT … FOR UPDATE inside a transaction",
    Reason.LISTEN: "listen on one connection of its own, outside the pool",
    Reason.USER_VARIABLE: "keep the value in the application",
    Reason.FOUND_ROWS: "ask SELECT COUNT(*) with the same conditions in a statement of its own",
    Reason.UNKNOWN_ROUTINE: (
        "it may leave anything on the session; if you know it leaves nothing, call conn.rdsproxy.unpin() afterwards"
    ),
    Reason.UNKNOWN_STATEMENT: "not known to be harmless; write it in a plainer form if it should not pin",
    Reason.UNRESETTABLE: "run it on a connection of its own: the backend is closed afterwards",
    Reason.RAW_ACCESS: "use the driver's public methods",
    Reason.MANUAL: "call conn.rdsproxy.unpin() when it is no longer needed",
}
_SEQUENCE_ADVICE = "its answer belongs to the backend of the last nextval(): use INSERT … RETURNING instead"
_MYSQL_FOR = {
    "SET NAMES": "give charset=… when connecting",
    "SET CHARACTER SET": "give charset=… when connecting",
    "SET SESSION TRANSACTION": "leave out SESSION and send it before the transaction that it is for",
    "SET ROLE": "give the account its roles with SET DEFAULT ROLE: new connections then have them",
    "SET profiling": "ask EXPLAIN ANALYZE, or the performance_schema, instead",
    "USE": "give database=… when connecting, or name tables with their database: shop.items",
    "SET @": "keep the value in the application and pass it as a parameter",
    "COMMIT RELEASE": "leave out RELEASE, and close the connection",
    "ROLLBACK RELEASE": "leave out RELEASE, and close the connection",
    "BEGIN …": "send its statements one by one from the application",
    "EXECUTE IMMEDIATE": "send the statement itself, with the values as parameters",
}
_MYSQL = _POSTGRESQL | {
    Reason.SETTING: (
        "give the setting when connecting (sql_mode=…, init_command=…), or for one statement: the hint"
        " /*+ SET_VAR(name = value) */ of MySQL, SET STATEMENT name = value FOR … of MariaDB"
    ),
    Reason.TEMP_TABLE: "use WITH or a derived table, or a permanent table with a column that says whose rows they are",
    Reason.PREPARED_STATEMENT: "send the statement itself, with the values as parameters",
    Reason.HOLD_CURSOR: "read page by page: SELECT … WHERE id > the last one ORDER BY id LIMIT 100",
    Reason.USER_VARIABLE: "keep the value in the application, or compute it with a window function: ROW_NUMBER()",
}
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
    """``"free"``: the backend may go to another session afterwards; ``"pins"``: it stays."""
    reasons: tuple[str, ...]
    """What pins, as ``REASON: what in the text``."""
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
                    "reasons": list(statement.reasons),
                    "advice": list(statement.advice),
                }
                for statement in self.statements
            ],
        }

    def __str__(self) -> str:
        lines: list[str] = []
        for statement in self.statements:
            lines.append(f"{statement.effect:5} {statement.text or '(nothing)'}")
            lines += [f"      because  {reason}" for reason in statement.reasons]
            lines += [f"      instead  {advice}" for advice in statement.advice]
        return "\n".join(lines)


def explain(sql: str, engine: str = "postgresql") -> Explanation:
    """What `sql` does to the session that runs it, and how to avoid a pin.

    Nothing is sent anywhere. `engine` is ``"postgresql"``, or ``"mysql"`` for MySQL and MariaDB, which reads `sql` as a
    server with the default ``sql_mode``; any other raises ValueError.
    """
    ask = _ENGINES.get(engine)
    if ask is None:
        raise ValueError(f"engine must be 'postgresql' or 'mysql' (MariaDB too), not {engine!r}")
    parts, advise, sequence_advice = ask
    return Explanation(engine, tuple(_explained(part, advise, sequence_advice) for part in parts(sql)))


def _postgresql(sql: str) -> tuple[Part, ...]:
    return classify(sql).parts


def _mysql(sql: str) -> tuple[Part, ...]:
    return classify_filled(sql, Dialect.MYSQL).parts


def _explained(part: Part, advise: Callable[[Cause], str], sequence_advice: str) -> StatementExplanation:
    advice = dict.fromkeys(advise(cause) for cause in part.causes)
    if part.reads_sequence:
        advice[sequence_advice] = None
    if part.reads_diagnostics:
        advice[_DIAGNOSTICS_ADVICE] = None
    return StatementExplanation(
        verb=part.verb,
        text=part.text,
        effect="pins" if part.causes else "free",
        reasons=tuple(f"{cause.reason.value}: {cause.what}" for cause in part.causes),
        advice=tuple(advice),
    )


def _advise_postgresql(cause: Cause) -> str:
    return _POSTGRESQL_FOR.get(cause.what) or _POSTGRESQL[cause.reason]


def _advise_mysql(cause: Cause) -> str:
    if cause.routine and not cause.routine.schema and cause.routine.name in NEED_NO_SPACE:
        return _NO_SPACE_ADVICE
    return _MYSQL_FOR.get(cause.what) or _MYSQL[cause.reason]


_ENGINES: dict[str, tuple[Callable[[str], tuple[Part, ...]], Callable[[Cause], str], str]] = {
    "postgresql": (_postgresql, _advise_postgresql, _SEQUENCE_ADVICE),
    "mysql": (_mysql, _advise_mysql, _INSERT_ID_ADVICE),
}
