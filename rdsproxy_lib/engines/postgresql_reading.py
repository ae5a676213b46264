"""Where PostgreSQL is in its log, and which relations call what no text shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import psycopg

Answer = Callable[[bytes], list[str]]
"""Runs a text and brings the first column of its rows. Raises the driver's errors."""

LOOK_AGAIN = 0.002
"""Seconds until a standby is asked again how far it is; doubled each time."""

_WITHOUT_LOG = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.InsufficientPrivilege,
)
POSITION = b"""
SELECT pg_catalog.concat(pg_catalog.substr(pg_catalog.pg_walfile_name(here), 1, 8), '/', here)
FROM pg_catalog.pg_current_wal_insert_lsn() AS here
"""
# The timeline that a standby replays no function tells. At least as high it is as that of what it receives, which takes
# pg_read_all_stats to see, of its last restartpoint, and of what was replayed when a page was written last.
REPLAYED = b"""
SELECT pg_catalog.concat(pg_catalog.lpad(pg_catalog.to_hex(GREATEST(
    (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()),
    (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()),
    (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver))), 8, '0'), '/', replayed)
FROM pg_catalog.pg_last_wal_replay_lsn() AS replayed WHERE replayed IS NOT NULL
"""

Position = tuple[int, int]
"""A timeline and an LSN: alone an LSN says nothing, as after a promotion a standby may be ahead on the old timeline."""

# Of users' own: not C, which says of itself what it does, and not an extension's. From these on all that depends on
# them, but what reading does not call: defaults, triggers, indexes. A table with a column of such a type is found too:
# what is compared with the column, or replaces it, becomes one of that type. A composite type depends on its columns as
# a table does, under the number of its relation. Everything by its full name, as the search_path is the session's.
# Sequences are read ahead, and unlogged tables not at all, on a standby. Whatever the session has set, a limit of time
# or an encoding that has not all letters, the answer is for all sessions: hence no limit, and names in hexadecimal.
_SUSPECTS = """SET LOCAL statement_timeout = 0;
WITH RECURSIVE hiding (kind, id) AS (
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, p.oid FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
    WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
      AND (l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['c', 'internal']::pg_catalog.name[])
           OR p.prokind OPERATOR(pg_catalog.=) 'a')
      AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_depend e
          WHERE e.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND e.objid OPERATOR(pg_catalog.=) p.oid AND e.deptype OPERATOR(pg_catalog.=) 'e')
    UNION
    SELECT
        CASE WHEN w.oid IS NOT NULL OR y.oid IS NOT NULL THEN 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
             WHEN k.oid IS NOT NULL OR c.relkind OPERATOR(pg_catalog.=) 'c'
             THEN 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid ELSE d.classid END,
        COALESCE(w.ev_class, y.polrelid, k.contypid, CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'c' THEN c.reltype END,
                 d.objid)
    FROM hiding
    JOIN pg_catalog.pg_depend d ON d.refclassid OPERATOR(pg_catalog.=) hiding.kind
     AND d.refobjid OPERATOR(pg_catalog.=) hiding.id
    LEFT JOIN pg_catalog.pg_rewrite w ON w.oid OPERATOR(pg_catalog.=) d.objid
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    LEFT JOIN pg_catalog.pg_policy y ON y.oid OPERATOR(pg_catalog.=) d.objid
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass
    LEFT JOIN pg_catalog.pg_constraint k ON k.oid OPERATOR(pg_catalog.=) d.objid
     AND k.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass
    LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
     AND c.relkind OPERATOR(pg_catalog.<>) ALL (ARRAY['i', 'I', 'S', 't']::pg_catalog."char"[])
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
    WHERE w.oid IS NOT NULL OR y.oid IS NOT NULL OR k.oid IS NOT NULL OR c.oid IS NOT NULL
       OR d.classid OPERATOR(pg_catalog.=) ANY (ARRAY[
           'pg_catalog.pg_type'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass,
           'pg_catalog.pg_amproc'::pg_catalog.regclass,
           'pg_catalog.pg_proc'::pg_catalog.regclass]::pg_catalog.oid[])
       OR d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_cast'::pg_catalog.regclass
      AND d.deptype OPERATOR(pg_catalog.<>) 'i'
)
SELECT pg_catalog.encode(pg_catalog.convert_to(found.name, 'UTF8'), 'hex') FROM (
    SELECT c.relname::pg_catalog.text FROM hiding
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) hiding.id
    WHERE hiding.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
    UNION ALL
    SELECT t.typname::pg_catalog.text FROM hiding
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) hiding.id
    WHERE hiding.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
    UNION ALL
    SELECT hiding.id::pg_catalog.text FROM hiding
    WHERE hiding.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
    UNION ALL
    SELECT p.proname::pg_catalog.text FROM hiding
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) hiding.id
    WHERE hiding.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
    UNION ALL
    SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_class c
    WHERE c.relkind OPERATOR(pg_catalog.=) 'S' OR c.relpersistence OPERATOR(pg_catalog.=) 'u'
    UNION ALL
    SELECT '*' FROM hiding
    WHERE hiding.kind OPERATOR(pg_catalog.=) ANY (ARRAY[
        'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_amproc'::pg_catalog.regclass,
        'pg_catalog.pg_cast'::pg_catalog.regclass]::pg_catalog.oid[])
) AS found (name)
"""


def position_in(text: str) -> Position:
    """``00000002/16/B374D848`` as one that can be compared."""
    timeline, high, low = (int(part, 16) for part in text.split("/"))
    return timeline, (high << 32) + low


def position_of(answer: Answer) -> Position | None:
    """How far the writer is; None where it has no log of its own, as on Aurora."""
    try:
        (position,) = answer(POSITION)
    except _WITHOUT_LOG:
        return None
    return position_in(position)


def has_reached(answer: Answer, position: Position, timeout: float) -> bool | None:
    """Whether a standby has replayed that much, asked again and again for `timeout` seconds; None where it has no log
    of its own, as on Aurora, or may be on an older timeline."""
    wanted_timeline, wanted = position
    deadline, pause = time.monotonic() + timeout, LOOK_AGAIN
    while True:
        try:
            rows = answer(REPLAYED)
        except _WITHOUT_LOG:
            return None
        if not rows:  # it replays nothing: it is none
            return None
        timeline, replayed = position_in(rows[0])
        if replayed >= wanted:
            return True if timeline >= wanted_timeline else None
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        time.sleep(min(pause, remaining))
        pause *= 2


def suspects_of(ask: Callable[[str], list[str]]) -> Collection[str]:
    """Names by which routines of users may be called that a text does not show: of views, tables with policies, and
    domains with all that is made of them; and of the routines, which may overload a built-in one, or be called as a
    column is. Types by their numbers too, as of parameters. ``*``: an operator, a cast or an index method calls one.

    `ask` runs a text in a transaction of its own.
    """
    names = (bytes.fromhex(name).decode("utf-8", "replace") for name in ask(_SUSPECTS))
    return {name.lower() for name in names}  # as those of a text are: the server's lower() has its locale
