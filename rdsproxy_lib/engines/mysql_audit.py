"""What a session has left on its MySQL or MariaDB server thread, as far as the server can show it.

About six round trips, 30 ms: for tests and staging (``audit=True``). With autocommit off it ends with a ROLLBACK.

Seen by everybody: all session variables, the default database, the roles; user variables of MariaDB, and of MySQL those
whose names are given; LOCK TABLES where there is a default database; profiles; and named locks, which are released by
the question.

Seen only with SELECT on performance_schema, and where that is switched on: all user variables of MySQL, the names of
named locks, HANDLER, FLUSH TABLES WITH READ LOCK and backup locks, prepared statements of SQL, the resource group. Seen
only with PROCESS, on MySQL: that there are temporary tables of InnoDB, without their names.

No query shows: temporary tables of MariaDB, and of MySQL those of other storage engines; ``LAST_INSERT_ID()`` and other
diagnostics; the seed of ``RAND()``; ``insert_id`` for the next statement; an XA transaction that was detached.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pymysql.connections import err

from .mysql_settings import ALL_ROWS
from .mysql_tracking import AUTOCOMMIT, IN_TRANSACTION

Stock = Mapping[tuple[str, str], Any]
"""Value by kind and name; True where there is nothing but the name."""

CHANGING = frozenset(
    {
        "autocommit",
        "error_count",
        "identity",
        "in_transaction",
        "insert_id",
        "last_gtid",
        "last_insert_id",
        "pseudo_thread_id",
        "rand_seed1",
        "rand_seed2",
        "statement_id",
        "timestamp",
        "warning_count",
    }
)
"""Variables that are no settings, and autocommit, which the status word tells."""

_TOGETHER = (
    "alter_algorithm old_alter_table",
    "character_set_connection collation_connection",
    "character_set_server collation_server",
    "default_storage_engine storage_engine",
    "log_slow_admin_statements log_slow_disabled_statements log_slow_slave_statements",
    "log_queries_not_using_indexes log_slow_filter",
    "log_slow_min_examined_row_limit min_examined_row_limit",
    "log_slow_query slow_query_log",
    "log_slow_query_time long_query_time",
    "max_delayed_threads max_insert_delayed_threads",
    "pseudo_replica_mode pseudo_slave_mode",
    "tmp_memory_table_size tmp_table_size",
    "transaction_isolation tx_isolation",
    "transaction_read_only tx_read_only",
    "wsrep_causal_reads wsrep_sync_wait",
)
BROUGHT_ALONG: Mapping[str, frozenset[str]] = {
    **{name: frozenset(group.split()) for group in _TOGETHER for name in group.split()},
    "character_set_database": frozenset({"schema", "collation_database"}),
    "collation_database": frozenset({"schema", "character_set_database"}),
    "old_mode": frozenset({"old"}),
    "sql_big_selects": frozenset({"max_join_size"}),
}
"""Variables that change with others: a second name of the same, the character set of a collation, and so on."""

LOCKED = 1100
"""ER_TABLE_NOT_LOCKED: what LOCK TABLES makes of every table that it does not name."""
NOT_SHOWN = frozenset({1044, 1046, 1109, 1142, 1143, 1146, 1227, 1305, 1370})
"""What a server says to a question for what it does not have, or has not for everybody."""

# Values as they are, whatever the session's character sets.
_SETTING, _GLOBAL, _OWN_ONE, _SCHEMA, _ROLE, _TIME = (
    f"X'{name.encode().hex()}'" for name in ("setting", "global", "own", "schema", "role", "time")
)
_VARIABLES = f"""
(SELECT {_SETTING}, CAST(variable_name AS BINARY), CAST(variable_value AS BINARY) FROM {{schema}}.session_variables
 UNION ALL
 SELECT {_GLOBAL}, CAST(variable_name AS BINARY), CAST(variable_value AS BINARY) FROM {{schema}}.global_variables
 UNION ALL SELECT {_OWN_ONE}, {_SCHEMA}, CAST(DATABASE() AS BINARY)
 UNION ALL SELECT {_OWN_ONE}, {_ROLE}, CAST(CURRENT_ROLE() AS BINARY)
 UNION ALL SELECT {_OWN_ONE}, {_TIME}, CAST(@@timestamp AS BINARY)) {ALL_ROWS}
"""
_LAST_TIME = "SELECT CAST(@@timestamp AS BINARY) LIMIT 1"
_OWN = "(SELECT thread_id FROM performance_schema.threads WHERE processlist_id = CONNECTION_ID())"
_USER_VARIABLES = {
    True: "SELECT CAST(variable_name AS BINARY) FROM information_schema.user_variables"
    f" WHERE variable_value IS NOT NULL {ALL_ROWS}",
    False: "SELECT CAST(variable_name AS BINARY) FROM performance_schema.user_variables_by_thread"
    f" WHERE variable_value IS NOT NULL AND thread_id = {_OWN} {ALL_ROWS}",
}
"""By whether it is MariaDB."""
_LOCKS = f"""
SELECT CAST(object_type AS BINARY), CAST(object_schema AS BINARY), CAST(object_name AS BINARY)
FROM performance_schema.metadata_locks WHERE owner_thread_id = {_OWN} AND lock_status = 'GRANTED'
AND COALESCE(object_schema, '') NOT IN ('performance_schema', 'information_schema', 'mysql', 'sys') {ALL_ROWS}
"""  # but for those that the question itself takes
_PREPARED = f"""
SELECT CAST(statement_name AS BINARY) FROM performance_schema.prepared_statements_instances
WHERE owner_thread_id = {_OWN} AND statement_name IS NOT NULL {ALL_ROWS}
"""
_RESOURCE_GROUP = (
    "SELECT CAST(resource_group AS BINARY) FROM performance_schema.threads WHERE processlist_id = CONNECTION_ID()"
    " LIMIT 1"
)
_TEMPORARY_TABLES = """
SELECT CAST(COUNT(*) AS BINARY) FROM information_schema.innodb_temp_table_info
WHERE SUBSTRING_INDEX(SUBSTRING_INDEX(name, '_', 2), '_', -1) = LOWER(HEX(CONNECTION_ID())) LIMIT 1
"""  # named after the server's process and the connection: #sql7a0b_b_1

_is_number = re.compile(r"-?[0-9.]+").fullmatch

Ask = Callable[[str], Any]
"""Runs a text and gives the rows of its first result."""


def stock_of(ask: Ask, names: Collection[str], *, is_mariadb: bool) -> Stock:
    """What the server shows of a session that has no transaction open: by kind and name, with values.

    `names` are the user variables (``@name``) to ask for where the server does not list them.
    """
    stock: dict[tuple[str, str], Any] = {}
    try:
        _ask_if_shown(ask, "SELECT '' FROM rdsproxy_lib_asks LIMIT 1")
        _take_settings(ask, stock, "information_schema" if is_mariadb else "performance_schema")
        _take_user_variables(ask, stock, names, is_mariadb)
        _take_locks(ask, stock)
        stock |= {("prepared statement", _text(name)): True for (name,) in _ask_if_shown(ask, _PREPARED)}
        if _ask_if_shown(ask, "SELECT '' FROM information_schema.profiling LIMIT 1"):
            stock["profiles", ""] = True
        if not is_mariadb:
            stock["resource group", ""] = _ask_if_shown(ask, _RESOURCE_GROUP)
            stock["temporary tables", ""] = _ask_if_shown(ask, _TEMPORARY_TABLES) or ((b"0",),)
    except err.MySQLError as error:
        if error.args[0] != LOCKED:
            raise
        return {("lock", "LOCK TABLES"): True}  # which hides the rest
    return stock


def left_over(ask: Ask, backend: Any, names: Collection[str], began: Stock, *, is_mariadb: bool) -> list[str]:
    """What is on a backend that was given back, beyond what it began with and what its label says.

    By kind and name, never by value. `began` is what `stock_of` gave right after the login, or after the last reset.
    Raises what `ask` raises.
    """
    wire, label = backend.raw, backend.label
    if wire.server_status & IN_TRANSACTION:
        return ["transaction"]
    is_autocommit = wire.server_status & AUTOCOMMIT
    findings: list[str] = ["label says autocommit"] if is_autocommit != label.mode else []
    stock = stock_of(ask, names, is_mariadb=is_mariadb)
    findings += [
        f"{kind} {name}".rstrip()
        for kind, name in sorted(stock.keys() | began.keys())
        if stock.get((kind, name)) != began.get((kind, name))
        and not _is_expected(kind, name, stock, began, label.values)
    ]
    if ("lock", "LOCK TABLES") in stock:
        findings = ["lock LOCK TABLES"]
    else:
        findings += [f"label says {name}" for name in _unconfirmed(ask, label.values)]
    if not is_autocommit:
        ask("ROLLBACK AND NO CHAIN NO RELEASE")
    return findings


def _is_expected(kind: str, name: str, stock: Stock, began: Stock, label: Mapping[str, str]) -> bool:
    if kind == "user variable":
        return f"@{name}" in label
    if kind != "setting":
        return kind == "global"
    if name in label or not BROUGHT_ALONG.get(name, frozenset()).isdisjoint(label):
        return True
    # What was changed for everybody meanwhile, by SET GLOBAL, and has no value of the session's.
    at_large = stock.get(("global", name))
    return at_large is not None and at_large != began.get(("global", name)) and at_large == stock.get((kind, name))


def _unconfirmed(ask: Ask, label: Mapping[str, str]) -> list[str]:
    names = sorted(label)
    # As bytes: collations take a for A, or cannot be compared. But for numbers: as bytes MariaDB's 0 may be OFF.
    conditions = [
        f"{_expression(name)} <=> {label[name]}"
        if _is_number(label[name])
        else f"CAST({_expression(name)} AS BINARY) <=> CAST(({label[name]}) AS BINARY)"
        for name in names
    ]
    are_so = _answers(ask, conditions)
    return [name for name, is_so in zip(names, are_so, strict=True) if not is_so]


def _answers(ask: Ask, conditions: Sequence[str]) -> list[bool]:
    if not conditions:
        return []
    (row,) = ask(f"SELECT {', '.join(f'CAST({each} AS BINARY)' for each in conditions)} LIMIT 1")
    return [bool(int(value)) for value in row]


def _expression(name: str) -> str:
    if name == "schema":
        return "DATABASE()"
    if name == "role":
        return "CURRENT_ROLE()"
    return f"@{_quoted(name[1:])}" if name.startswith("@") else f"@@session.{_quoted(name)}"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _take_settings(ask: Ask, stock: dict[tuple[str, str], Any], schema: str) -> None:
    first: Any = None
    for each, raw_name, value in ask(_VARIABLES.format(schema=schema)):
        kind, name = _text(each), _text(raw_name).lower()
        if kind == "own" and name == "time":
            first = value
        elif name not in CHANGING:
            stock["global" if kind == "global" else "setting", name] = value
    ((last,),) = ask(_LAST_TIME)
    if first == last:  # to the microsecond
        stock["setting", "timestamp"] = True


def _take_user_variables(ask: Ask, stock: dict[tuple[str, str], Any], names: Collection[str], is_mariadb: bool) -> None:
    try:
        found = [_text(name) for (name,) in ask(_USER_VARIABLES[is_mariadb])]
    except err.MySQLError as error:
        if error.args[0] not in NOT_SHOWN:
            raise
        asked = sorted(name for name in names if name.startswith("@"))
        are_set = _answers(ask, [f"{_expression(name)} IS NOT NULL" for name in asked])
        found = [name[1:] for name, is_set in zip(asked, are_set, strict=True) if is_set]
    stock.update((("user variable", name.lower()), True) for name in found)


def _take_locks(ask: Ask, stock: dict[tuple[str, str], Any]) -> None:
    for each in _ask_if_shown(ask, _LOCKS):
        kind, *place = (_text(part or b"") for part in each)
        is_named = kind == "USER LEVEL LOCK"
        name = place[1] if is_named else " ".join(filter(None, (kind, ".".join(filter(None, place)))))
        stock["named lock" if is_named else "lock", name] = True
    ((released,),) = _ask_if_shown(ask, "SELECT CAST(RELEASE_ALL_LOCKS() AS BINARY) LIMIT 1") or ((0,),)
    if int(released) and not any(kind == "named lock" for kind, _ in stock):
        stock["named lock", ""] = True


def _ask_if_shown(ask: Ask, question: str) -> Any:
    """The rows; none where the server has no answer to that, or not for this user."""
    try:
        return ask(question)
    except err.MySQLError as error:
        if error.args[0] not in NOT_SHOWN:
            raise
        return ()


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
