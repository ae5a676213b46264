"""What a session has left on its PostgreSQL server process, as far as the server can show it.

One round trip, about a millisecond: for tests and staging (``audit=True``).

Seen: settings, custom ones (``app.tenant``) only where somebody names them, role and session authorization; prepared
statements of SQL; cursors; channels; session-level advisory locks; everything in the temporary schema; temporary
replication slots.

No query shows: the seed of ``random()``; what ``currval()`` and ``lastval()`` tell; which libraries were loaded, and
their variables (the connections of dblink, ``GD`` of PL/Python); replication origins, to anybody but a superuser; plans
in the cache; that ``temp_buffers`` is fixed once a temporary table was used. The driver's own prepared statements are
no state of a session: they belong to the database connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from psycopg import pq

from .postgresql_settings import literal

Stock = Mapping[tuple[str, str], str]
"""Value by kind and name; empty where there is nothing but the name."""

# Everything by its full name, operators too, as the search_path is the session's: so no IN, CASE x WHEN, IS DISTINCT
# FROM or LIKE, which look for an operator by themselves. The three settings of a transaction are made anew with each.
_FOUND = """
SELECT {row} FROM (
    SELECT 'setting', pg_catalog.lower(s.name), pg_catalog.current_setting(s.name) FROM pg_catalog.pg_settings s
    WHERE s.source OPERATOR(pg_catalog.=) 'session' AND s.setting OPERATOR(pg_catalog.<>) s.reset_val
      AND s.name OPERATOR(pg_catalog.<>) ALL (ARRAY[
          'transaction_isolation', 'transaction_read_only', 'transaction_deferrable'])
    UNION ALL
    SELECT 'setting', name, pg_catalog.current_setting(name)
    FROM pg_catalog.unnest(ARRAY['role', 'session_authorization']) AS own (name)
    UNION ALL
    SELECT 'label', name, pg_catalog.current_setting(name, true)
    FROM pg_catalog.unnest(ARRAY[{label}]::pg_catalog.text[]) AS label (name)
    UNION ALL
    SELECT 'custom', name, pg_catalog.current_setting(name, true) FROM {placeholders}
    UNION ALL
    SELECT 'prepared statement', p.name, '' FROM pg_catalog.pg_prepared_statements p WHERE p.from_sql
    UNION ALL
    SELECT 'cursor', c.name, '' FROM pg_catalog.pg_cursors c WHERE c.name OPERATOR(pg_catalog.<>) ''
    UNION ALL
    SELECT 'channel', channel, '' FROM pg_catalog.pg_listening_channels() AS listening (channel)
    UNION ALL
    SELECT 'advisory lock', pg_catalog.concat_ws('/', l.classid, l.objid, l.objsubid, l.mode), ''
    FROM pg_catalog.pg_locks l
    WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
    UNION ALL
    SELECT 'temporary', pg_catalog.concat_ws(' ', i.type, COALESCE(i.name, i.identity)), ''
    FROM pg_catalog.pg_depend d, LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i
    WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
      AND d.refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
    UNION ALL
    SELECT 'temporary', pg_catalog.concat_ws(' ', 'replication slot', r.slot_name), ''
    FROM pg_catalog.pg_replication_slots r
    WHERE r.temporary AND r.active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
) AS found (kind, name, value)
"""
# In ASCII, as the client_encoding is the session's too.
_ROW = """
pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_array({columns})::pg_catalog.text, 'UTF8'), 'hex')
"""
# What no library has defined is in no view. What it began with (ALTER ROLE … SET, options=-c …) comes back in a
# transaction that is then undone. One that nobody has set yet is left alone, for to reset it would make it ''.
_PLACEHOLDERS = """
    (SELECT asked.name FROM pg_catalog.unnest(ARRAY[{names}]::pg_catalog.text[]) AS asked (name)
     WHERE pg_catalog.current_setting(asked.name, true) IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings s
                       WHERE pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) asked.name)) AS placeholder
"""
_AT_FIRST = "SELECT {row} FROM {placeholders}"


def stock_of(ask: Callable[[bytes], list[str]], names: Collection[str], label: Collection[str] = ()) -> Stock:
    """What the server shows of a session that has no transaction open: by kind and name, with values.

    `ask` runs a text and gives the first column of all its rows. `names` are the custom settings to ask for. The kind
    ``label`` has the settings named in `label`, whatever their values.
    """
    custom = _array(name for name in names if "." in name)
    placeholders = _PLACEHOLDERS.format(names=custom)
    row = _ROW.format(columns="found.kind, found.name, found.value")
    found = _FOUND.format(row=row, label=_array(label), placeholders=placeholders)
    row = _ROW.format(columns="'at first', name, pg_catalog.set_config(name, NULL, true)")
    at_first = _AT_FIRST.format(row=row, placeholders=placeholders)
    command = f"BEGIN ISOLATION LEVEL READ COMMITTED; {found}; {at_first}; ROLLBACK"  # which waits for nobody
    stock: dict[tuple[str, str], str] = {}
    for answer in ask(command.encode("ascii")):
        kind, name, value = json.loads(bytes.fromhex(answer).decode("utf-8", "replace"))
        if kind == "custom":
            stock["setting", name] = value
        elif kind != "at first":
            stock[kind, name] = value or ""
        elif value == stock["setting", name]:
            del stock["setting", name]
    return stock


def left_over(ask: Callable[[bytes], list[str]], backend: Any, names: Collection[str], began: Stock) -> list[str]:
    """What is on a backend that was given back, beyond what it began with and what its label says.

    By kind and name, never by value. `began` is what `stock_of` gave right after the login, or after the last reset.
    Raises what `ask` raises.
    """
    if backend.pgconn.transaction_status != pq.TransactionStatus.IDLE:
        return ["transaction"]
    label: Mapping[str, str] = backend.label.values
    stock = stock_of(ask, {*names, *label}, label)
    expected = {("setting", name) for name in label}
    findings = [
        f"{kind} {name}"
        for kind, name in sorted(stock.keys() | began.keys())
        if stock.get((kind, name)) != began.get((kind, name)) and kind != "label" and (kind, name) not in expected
    ]
    return findings + [f"label says {name}" for name in sorted(label) if stock.get(("label", name)) != label[name]]


def _array(names: Iterable[str]) -> str:
    """Their constants for an ARRAY."""
    return ", ".join(map(literal, sorted(names)))
