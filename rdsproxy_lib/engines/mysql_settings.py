"""How the settings of a MySQL or MariaDB session are asked for, and made again on another database connection. Pure.

A value is the SQL that brings it back, and means the same under every sql_mode and character set: it is ASCII, and a
string in it says its own character set. Answers are bytes, for the session's character set is anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pymysql.constants import FIELD_TYPE, FLAG

from ..settings import Immovable, Settings
from ..sql import Dialect
from ..sql_mysql_builtins import STAYING_PREFIXES, STAYING_SETTINGS

ALL_ROWS = "LIMIT 18446744073709551615"
"""Behind a question of ours: it is not cut by the session's sql_select_limit, which may be 0."""
LONGEST = 16384
"""Bytes of a user variable that are taken along."""

SAME_AS = {"character_set_connection": "collation_connection", "character_set_server": "collation_server"}
"""What follows from another variable, which says more."""
OF_THE_SCHEMA = frozenset({"character_set_database", "collation_database"})
"""They change with the database in use."""
CHARACTER_SETS = ("character_set_client", "character_set_results", "collation_connection")
"""What SET NAMES sets."""
UNPRIVILEGED = frozenset(
    {
        *CHARACTER_SETS,
        "foreign_key_checks",
        "group_concat_max_len",
        "innodb_lock_wait_timeout",
        "lock_wait_timeout",
        "max_execution_time",
        "max_statement_time",
        "net_read_timeout",
        "net_write_timeout",
        "sql_mode",
        "sql_safe_updates",
        "sql_select_limit",
        "time_zone",
        "transaction_isolation",
        "transaction_read_only",
        "tx_isolation",
        "tx_read_only",
        "unique_checks",
        "wait_timeout",
    }
)
"""Variables that anybody may set, whatever role is active: of the many more, those that are used."""

HARMLESS = {
    "completion_type": (b"0", b"NO_CHAIN"),  # else COMMIT begins a transaction, or ends the connection
    "sql_auto_is_null": (b"0", b"OFF"),  # else WHERE id IS NULL asks for LAST_INSERT_ID()
}
"""Variables of which any other value pins."""
# https://bugs.mysql.com/bug.php?id=121262: DEFAULT makes these the opposite of what it should.
_WITHOUT_DEFAULT = frozenset({"foreign_key_checks", "unique_checks"})
_NUMBERS = frozenset(
    {
        FIELD_TYPE.DECIMAL,
        FIELD_TYPE.DOUBLE,
        FIELD_TYPE.FLOAT,
        FIELD_TYPE.INT24,
        FIELD_TYPE.LONG,
        FIELD_TYPE.LONGLONG,
        FIELD_TYPE.NEWDECIMAL,
        FIELD_TYPE.SHORT,
        FIELD_TYPE.TINY,
    }
)
_PLAIN_TEXT = re.compile(rb"[ -&(-\[\]-~]+").fullmatch
_LITERAL = re.compile(r"_utf8mb4(?:'(?P<plain>[^']+)'| X'(?P<hex>[0-9a-f]*)')").fullmatch
_is_whole = re.compile(r"-?\d+").fullmatch
_UNSET_LENGTH = 16777216  # of a user variable that was never set, on MariaDB
_EMPTY_NUMBERS = {FIELD_TYPE.DOUBLE: "DOUBLE", FIELD_TYPE.NEWDECIMAL: "DECIMAL"}


class Field(Protocol):
    """The description of a column, as the driver has it."""

    type_code: int
    flags: int
    length: int


def is_staying(name: str) -> bool:
    """Whether a variable means something only where it was set."""
    return name in STAYING_SETTINGS or name.startswith(STAYING_PREFIXES)


def _digits(raw: bytes) -> str:
    """A number in any character set: wide ones write a digit with zero bytes around it."""
    return raw.replace(b"\0", b"").decode("ascii", "replace")


def literal(text: bytes | None) -> str:
    """A string in UTF-8 as SQL."""
    if text is None:
        return "NULL"
    return f"_utf8mb4'{text.decode('ascii')}'" if _PLAIN_TEXT(text) else f"_utf8mb4 X'{text.hex()}'"


def text_of(value: str) -> bytes | None:
    """The other way round; None for NULL."""
    found = _LITERAL(value)
    if found is None:
        return None
    return bytes.fromhex(found["hex"]) if found["plain"] is None else found["plain"].encode("ascii")


def dialect_of(sql_mode: str, server: str) -> Dialect:
    """How a session with this value of sql_mode, as `literal` has it, has its texts read."""
    return Dialect.mysql((text_of(sql_mode) or b"").decode("ascii", "replace"), server)


# Asking -----------------------------------------------------------------------------------------------------------


def asked(names: Collection[str]) -> list[str]:
    """What to ask for where these names may have changed. Autocommit is in the status word."""
    return sorted({SAME_AS.get(name, name) for name in names} - OF_THE_SCHEMA - {"autocommit"})


def question(names: Iterable[str], compared: Collection[str] = ()) -> str:
    """What asks for these settings in one row; the `compared` also for whether they have the global value."""
    return f"SELECT {', '.join(_columns(names, compared))} {ALL_ROWS}"


def _columns(names: Iterable[str], compared: Collection[str]) -> Iterator[str]:
    for name in names:
        if name == "schema":
            yield "CAST(DATABASE() AS BINARY)"
        elif name == "role":
            yield "CAST(CURRENT_ROLE() AS BINARY)"
        elif name.startswith("@"):
            value = f"@`{name[1:]}`"
            yield f"IF(0, {value}, NULL)"  # the type alone, without a long value
            yield f"CAST(CHARSET({value}) AS BINARY)"
            yield f"CAST(COLLATION({value}) AS BINARY)"
            yield f"CAST(LENGTH({value}) AS BINARY)"
            yield f"IF(LENGTH({value}) > {LONGEST}, NULL, CAST({value} AS BINARY))"
        else:
            yield f"@@session.`{name}`"
            yield f"CAST(@@session.`{name}` AS BINARY)"
            yield f"CAST(@@session.`{name}` <=> @@global.`{name}` AS BINARY)" if name in compared else "NULL"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a session has for one setting."""

    name: str
    value: str | None
    """As SQL; None for a user variable that was never set."""
    is_global: bool
    """It is the value that the server gives to everybody, as far as that was asked."""


def answers(names: Iterable[str], fields: Sequence[Field], row: Sequence[bytes | None]) -> Iterator[Answer]:
    """The answer to `question(names)`, from its columns and values. Raises Immovable."""
    at = 0
    for name in names:
        if name in ("schema", "role"):
            yield Answer(name, literal(row[at]), False)
            at += 1
        elif name.startswith("@"):
            yield Answer(name, _user_variable(name, fields[at], row[at + 1 : at + 5]), False)
            at += 5
        else:
            raw, text, is_global = row[at : at + 3]
            is_number = raw is not None and fields[at].type_code in _NUMBERS  # as BINARY, MariaDB says OFF for 0
            yield Answer(name, _digits(raw or b"") if is_number else literal(text), is_global == b"1")
            at += 3


def learnt(found: Iterable[Answer], before: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The settings of a session that had `before`, and now what was found.

    `given`: what each session of the login begins with. Raises Immovable.
    """
    values, names = dict(before), set()
    for answer in found:
        name, value = answer.name, answer.value
        names.add(name)
        if value is None or value == given.get(name) or (answer.is_global and name not in before):
            values.pop(name, None)
        else:
            values[name] = value
    _check(names, values, before)
    return values


def _user_variable(name: str, field: Field, row: Sequence[bytes | None]) -> str | None:
    charset, collation, length, content = row[0] or b"", row[1] or b"", row[2], row[3]
    kind, flags, size = field.type_code, field.flags, field.length
    introducer = f"_{charset.decode('ascii')} X"
    ending = f" COLLATE {collation.decode('ascii')}"
    is_unsigned = flags & FLAG.UNSIGNED
    if length is None:
        if kind == FIELD_TYPE.LONGLONG:
            return f"CAST(NULL AS {'UNSIGNED' if is_unsigned else 'SIGNED'})"
        if kind in _EMPTY_NUMBERS:
            return f"CAST(NULL AS {_EMPTY_NUMBERS[kind]})"
        if charset != b"binary":
            return f"IF(0, {introducer}''{ending}, NULL)"
        return None if kind == FIELD_TYPE.VAR_STRING or size == _UNSET_LENGTH else "NULL"
    if content is None or kind in _EMPTY_NUMBERS or (charset == b"binary" and kind != FIELD_TYPE.LONGLONG):
        raise Immovable("USER_VARIABLE", f"the value of {name}")
    if kind == FIELD_TYPE.LONGLONG:
        number = _digits(content)
        if not _is_whole(number):
            raise Immovable("USER_VARIABLE", f"the value of {name}")
        return f"CAST({number} AS UNSIGNED)" if is_unsigned else number
    return f"{introducer}'{content.hex()}'{ending}"


def _stays(name: str, value: str) -> bool:
    """Whether this value lets a text do what it does not show."""
    return name in HARMLESS and value != "" and (text_of(value) or value.encode()).upper() not in HARMLESS[name]


def _check(names: Collection[str], values: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Raise Immovable for what another backend could not be given."""
    if values.get("schema") == "NULL":
        raise Immovable("SETTING", "the database in use was dropped")
    for name in names:
        if values.get(name, "") != before.get(name, "") and _stays(name, values.get(name, "")):
            raise Immovable("SETTING", f"the value of {name}")
    for name in ("schema", "role"):
        if not (text_of(values.get(name, "NULL")) or b"").isascii():
            raise Immovable("SETTING", f"the name of the {name} is not ASCII")
    if "role" not in names and "role" not in before:
        return
    for name in names:
        if name[0] != "@" and name not in UNPRIVILEGED and name not in ("schema", "role") and name in values:
            raise Immovable("SETTING", f"{name} was set in the time of another role")
    now, then = values.get("role"), before.get("role")
    if "schema" in values and ((now is None and "schema" in names) or (then not in (None, now) and "schema" in before)):
        raise Immovable("SETTING", "the database in use was chosen in the time of another role")


# Making again -----------------------------------------------------------------------------------------------------


def forgets(have: Settings, want: Settings) -> bool:
    """Whether a user variable has to become as if it had never been set, which only a reset can do."""
    theirs = want.values
    return any(name[0] == "@" and theirs.get(name, "NULL") == "NULL" for name in have.values)


def assignments(have: Settings, want: Settings, given: Mapping[str, str]) -> str:
    """What SET makes `want` of `have`, less role and database; ``""`` where nothing is to be set."""
    ours, theirs = have.values, want.values
    found: list[str] = []
    for name in sorted(ours.keys() - theirs.keys()):
        if name not in ("schema", "role"):
            default = f"@@global.`{name}`" if name in _WITHOUT_DEFAULT else "DEFAULT"
            found.append(f"@@session.`{name}` = {given.get(name, default)}")
    for name in sorted(theirs, key=lambda each: (each[0] == "@", each)):
        if name not in ("schema", "role") and ours.get(name) != theirs[name]:
            target = f"@`{name[1:]}`" if name[0] == "@" else f"@@session.`{name}`"
            found.append(f"{target} = {theirs[name]}")
    if have.mode != want.mode:
        found.append(f"@@session.autocommit = {int(want.mode != 0)}")
    return f"SET {', '.join(found)}" if found else ""


def role_order(role: str, server: str) -> str:
    """What makes this the active role, or roles; `role` is CURRENT_ROLE() as `literal` has it."""
    text = (text_of(role) or b"").decode("ascii")
    if server == "mariadb" and text:
        text = f"`{text.replace('`', '``')}`"
    return f"SET ROLE {text or 'NONE'}"
