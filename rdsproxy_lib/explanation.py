"""What a text does to multiplexing, and what to write instead: the lexer's verdict for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .sql import Cause, Part, Reason, classify

# By what the cause names, where that says more than its reason; then by reason.
_ADVICE_FOR = {
    "DISCARD": "leave it out: a session that is closed is cleaned by the pool",
    "RESET": "use SET LOCAL in a transaction instead of SET, and there is nothing to reset",
    "set_config()": "pass true as the third argument and call it inside the transaction that needs the setting",
    "SELECT INTO TEMP": "write CREATE TEMP TABLE … ON COMMIT DROP AS SELECT …, inside the transaction that reads it",
    "pg_temp": "create the table with ON COMMIT DROP and name it without its schema",
    "DO": "send its statements one by one from the application",
    "setseed()": "compute the numbers in the application, or keep this work on a connection of its own",
    "LOAD": "name the library in session_preload_libraries or shared_preload_libraries",
}
_ADVICE = {
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

    Nothing is sent anywhere. `engine` is ``"postgresql"``; any other raises ValueError.
    """
    judge = _ENGINES.get(engine)
    if judge is None:
        raise ValueError(f"engine must be 'postgresql' (MySQL comes in the next release), not {engine!r}")
    return Explanation(engine, tuple(_explained(part) for part in judge(sql)))


def _postgresql(sql: str) -> tuple[Part, ...]:
    return classify(sql).parts


_ENGINES: dict[str, Callable[[str], tuple[Part, ...]]] = {"postgresql": _postgresql}


def _explained(part: Part) -> StatementExplanation:
    advice = dict.fromkeys(_advice(cause) for cause in part.causes)
    if part.reads_sequence:
        advice[_SEQUENCE_ADVICE] = None
    return StatementExplanation(
        verb=part.verb,
        text=part.text,
        effect="pins" if part.causes else "free",
        reasons=tuple(f"{cause.reason.value}: {cause.what}" for cause in part.causes),
        advice=tuple(advice),
    )


def _advice(cause: Cause) -> str:
    return _ADVICE_FOR.get(cause.what) or _ADVICE[cause.reason]
