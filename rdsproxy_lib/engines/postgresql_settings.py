"""How the settings of a PostgreSQL session are asked for, and made again on another database connection. Pure.

Texts are for the simple protocol, in ASCII, and name everything in full: encoding, search_path and operators are the
session's. So are the answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..settings import Immovable, Settings, settings_of
from ..sql import Cause, Reason, Setting
from ..sql_postgresql import setting_name

ROLES = ("session_authorization", "role")
"""Set after all others: those may need what the login may do. In this order, as the first resets the second."""
_WITH_THE_ROLE = frozenset({*ROLES, "is_superuser"})

_PLAN_NEUTRAL = frozenset(
    {
        "application_name",
        "client_min_messages",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "is_superuser",
        "lock_timeout",
        "search_path",
        "statement_timeout",
        "transaction_timeout",
    }
)
"""What no plan depends on, or (search_path) what the server itself looks at before it uses one again."""

# https://www.postgresql.org/docs/current/multibyte.html: bytes of these may look like a quote or a backslash.
_UNSAFE_ENCODINGS = frozenset({"BIG5", "GB18030", "GBK", "JOHAB", "SHIFT_JIS_2004", "SJIS", "UHC"})

# Functions of these languages keep what their compiler made of them under the settings of that time.
_COMPILED = ("plpgsql.", "plperl.", "pltcl.", "plpython.", "plpython3.")
_OF_THE_TRANSACTION = frozenset({"transaction_isolation", "transaction_read_only", "transaction_deferrable"})

UNKNOWN = object()
"""Stands for parameters that are not known when a statement begins: executemany() has many."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*").fullmatch

_ASK = (
    "SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_array(n, {source}, {context},"
    " pg_catalog.current_setting(n, true))::pg_catalog.text, 'UTF8'), 'hex')"
    " FROM pg_catalog.unnest(ARRAY[{names}]::pg_catalog.text[]) AS n{join}"
)
_JOIN = " LEFT JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) n"
_PLAIN = re.compile(r"[ -&(-\[\]-~]*").fullmatch

_HELD = {
    Reason.TEMP_TABLE: "SELECT FROM pg_catalog.pg_depend d"
    " WHERE d.refclassid OPERATOR(pg_catalog.=) 2615::pg_catalog.oid AND"
    " d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()",
    Reason.PREPARED_STATEMENT: "SELECT FROM pg_catalog.pg_prepared_statements p WHERE p.from_sql",
    Reason.HOLD_CURSOR: "SELECT FROM pg_catalog.pg_cursors c WHERE c.is_holdable",
    Reason.ADVISORY_LOCK: "SELECT FROM pg_catalog.pg_locks l WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory'"
    " AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
    Reason.LISTEN: "SELECT FROM pg_catalog.pg_listening_channels()",
}
"""What there is as long as the pin has its reason. 2615 is pg_namespace: all that is in the temporary schema."""


def literal(text: str) -> str:
    """A string constant, in ASCII whatever the client_encoding, and the same however backslashes are read."""
    if _PLAIN(text):
        return f"'{text}'"
    return f"pg_catalog.convert_from(pg_catalog.decode('{text.encode().hex()}', 'hex'), 'UTF8')"


def end_of_plans(names: Iterable[str], *, has_prepared: bool) -> str:
    """What ends the plans that would not be right under other values of these settings: constants in them were read,
    and functions folded, under those of their time. After another search_path, what the driver has prepared may have
    another result type, which the server refuses."""
    names = set(names)
    return ("; DEALLOCATE ALL" if has_prepared and "search_path" in names else "") + (
        "" if names <= _PLAN_NEUTRAL else "; DISCARD PLANS"
    )


def name_of(setting: Setting, parameters: Any) -> str | None:
    """The name of the setting, in lower case; None where the parameters do not tell it for certain."""
    if setting.parameter is None:
        return setting.name
    try:
        name = parameters[setting.parameter]
    except (TypeError, LookupError):
        return None
    if name is None:
        return ""  # the server refuses it
    return setting_name(name) if isinstance(name, str) and _NAME(name) else None


def causes_of(settings: Iterable[Setting], parameters: Any) -> tuple[set[str], list[Cause]]:
    """The names of what a statement sets, and what about them cannot be moved: seen only with the parameters."""
    names: set[str] = set()
    causes: list[Cause] = []
    for setting in settings:
        name = name_of(setting, parameters)
        if name == "":
            continue
        if name is None:
            what = "set_config() of a name that is not known"
            causes += (Cause(Reason.SETTING, what), Cause(Reason.UNRESETTABLE, what))
        elif setting.parameter is not None and name == "seed":
            causes.append(Cause(Reason.UNRESETTABLE, "set_config('seed', …)"))
        elif name.startswith(_COMPILED) or (setting.parameter is not None and name == "standard_conforming_strings"):
            what = f"the setting of {name}"
            causes += (Cause(Reason.SETTING, what), Cause(Reason.UNRESETTABLE, what))
        elif name not in _OF_THE_TRANSACTION:
            names.update(ROLES if name in ROLES else (name,))
            if name == "search_path" and _may_name_pg_temp(parameters):
                causes.append(Cause(Reason.TEMP_TABLE, "set_config('search_path', …)"))
    return names, causes


def _may_name_pg_temp(parameters: Any) -> bool:
    """Whether a search_path that is one of the parameters may make the tables temporary that are created under it."""
    if parameters is UNKNOWN:
        return True
    values = parameters.values() if isinstance(parameters, Mapping) else parameters or ()
    return any(
        "pg_temp" in value.lower() if isinstance(value, str) else not isinstance(value, int | float | None)
        for value in values
    )


def question(names: Collection[str], *, is_quick: bool) -> str:
    """What asks for these settings; `is_quick` where none of them is the server's own, which takes it half as long."""
    return _ASK.format(
        source="NULL" if is_quick else "s.source",
        context="NULL" if is_quick else "s.context",
        names=", ".join(map(literal, sorted(names))),
        join="" if is_quick else _JOIN,
    )


def answers(rows: Iterable[str]) -> list[tuple[str, str | None, str | None, str | None]]:
    """Name, source, context and value of each, from the answer to `question`."""
    found = (json.loads(bytes.fromhex(row)) for row in rows)
    return [(name, source, context, value) for name, source, context, value in found]


def learnt(
    rows: Iterable[tuple[str, str | None, str | None, str | None]],
    before: Settings,
    at_login: Mapping[str, str],
    initial: Collection[str],
) -> Settings:
    """The settings of a session that had `before`, from the answer to `question`.

    `at_login`: the role and authorization that every session of the login begins with. `initial`: what the
    init_query sets, so that what the server calls reset is not as at login. Raises Immovable.
    """
    rows = list(rows)
    values = {name: value for name, value in before.values.items() if name != "is_superuser"}
    roles = {name: value for name, _, _, value in rows if name in ROLES and value != at_login[name]}
    is_another = bool(roles) or any(name in ROLES for name in (*values, *(row[0] for row in rows)))
    for name, source, context, value in rows:
        if name in ROLES or value is None or (source not in (None, "session") and name not in initial):
            values.pop(name, None)
        elif values.get(name) != value:
            values[name] = value
            if is_another and context not in (None, "user"):
                raise Immovable("SETTING", f"{name} was set in the time of another role")
    for name in ROLES:
        if name in roles:
            values[name] = roles[name] or ""
    if values.get("client_encoding", "").upper() in _UNSAFE_ENCODINGS:
        raise Immovable("SETTING", f"client_encoding {values['client_encoding']}")
    if "pg_temp" in values.get("search_path", "").lower():
        raise Immovable("TEMP_TABLE", "search_path names pg_temp")
    return settings_of(values)


def changes(have: Settings, want: Settings) -> list[tuple[str, str | None]]:
    """What has to be set, in this order, where `have` is in force and `want` is wanted; None resets."""
    ours, theirs = have.values, want.values
    if ours == theirs:
        return []
    others: list[tuple[str, str | None]] = [(name, None) for name in ours.keys() - theirs.keys()]
    others += [(name, value) for name, value in theirs.items() if ours.get(name) != value]
    return [
        *((name, None) for name in ROLES if name in ours),
        *(change for change in others if change[0] not in _WITH_THE_ROLE),
        *((name, theirs[name]) for name in ROLES if name in theirs),
    ]


def order(wanted: Iterable[tuple[str, str | None]]) -> str:
    """What sets all of it, or none; its answer is, for each, whether that came of it: a JSON array."""
    calls = ", ".join(
        f"pg_catalog.set_config({literal(name)}, NULL, false) IS NOT NULL"
        if value is None
        else f"pg_catalog.set_config({literal(name)}, {literal(value)}, false) OPERATOR(pg_catalog.=) {literal(value)}"
        for name, value in wanted
    )
    return f"SELECT pg_catalog.array_to_json(ARRAY[{calls}])"


def review(reasons: Iterable[Reason]) -> str:
    """What asks, for each of these reasons to pin, whether it still holds: a JSON array of booleans."""
    return f"SELECT pg_catalog.json_build_array({', '.join(f'EXISTS ({_HELD[reason]})' for reason in reasons)})"


REVIEWED = frozenset(_HELD)
