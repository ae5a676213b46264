"""Where PostgreSQL is in its log, and which relations call what no text shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import psycopg

Answer = Callable[[bytes], list[str]]
"""Runs a text and brings the first column of its rows. Raises the driver's errors."""

LOOK_AGAIN = 0.002
"""Seconds until a standby is asked again how far it is; doubled each time."""

_WITHOUT_LOG = (psycopg.errors.FeatureNotSupported, psycopg.errors.ObjectNotInPrerequisiteState)
POSITION = b"SELECT pg_catalog.pg_current_wal_insert_lsn()"
REPLAYED = b"SELECT pg_catalog.pg_last_wal_replay_lsn()"

# Of users' own: not C, which says of itself what it does, and not an extension's. Everything by its full name, as the
# search_path is the session's.
_SUSPECTS = b"""
WITH RECURSIVE own (id) AS (
    SELECT p.oid FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
    WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
      AND l.lanname OPERATOR(pg_catalog.<>) ALL (ARRAY['c', 'internal']::pg_catalog.name[])
      AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_depend e
          WHERE e.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND e.objid OPERATOR(pg_catalog.=) p.oid AND e.deptype OPERATOR(pg_catalog.=) 'e')
), caller (kind, id) AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d JOIN own ON own.id OPERATOR(pg_catalog.=) d.refobjid
    WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
), hiding (id) AS (
    SELECT w.ev_class FROM pg_catalog.pg_rewrite w JOIN caller ON caller.id OPERATOR(pg_catalog.=) w.oid
    WHERE caller.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    UNION
    SELECT y.polrelid FROM pg_catalog.pg_policy y JOIN caller ON caller.id OPERATOR(pg_catalog.=) y.oid
    WHERE caller.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass
    UNION
    SELECT w.ev_class FROM hiding
    JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) hiding.id
     AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
     AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    JOIN pg_catalog.pg_rewrite w ON w.oid OPERATOR(pg_catalog.=) d.objid
)
SELECT pg_catalog.lower(c.relname::pg_catalog.text) FROM hiding
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) hiding.id
UNION ALL
SELECT pg_catalog.lower(t.typname::pg_catalog.text) FROM caller
JOIN pg_catalog.pg_constraint k ON k.oid OPERATOR(pg_catalog.=) caller.id
JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.contypid
WHERE caller.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass
UNION ALL
SELECT pg_catalog.lower(p.proname::pg_catalog.text) FROM own
JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) own.id
UNION ALL
SELECT '*' FROM caller
WHERE caller.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass
   OR caller.kind OPERATOR(pg_catalog.=) 'pg_catalog.pg_cast'::pg_catalog.regclass
"""


def number_of(position: str) -> int:
    """``16/B374D848`` as one that can be compared."""
    high, _, low = position.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def position_of(answer: Answer) -> int | None:
    """How far the writer is; None where it has no log of its own, as on Aurora."""
    try:
        (position,) = answer(POSITION)
    except _WITHOUT_LOG:
        return None
    return number_of(position)


def has_reached(answer: Answer, position: int, timeout: float) -> bool | None:
    """Whether a standby has replayed that much, asked again and again for `timeout` seconds; None where it has no log
    of its own, as on Aurora."""
    deadline, pause = time.monotonic() + timeout, LOOK_AGAIN
    while True:
        try:
            (replayed,) = answer(REPLAYED)
        except _WITHOUT_LOG:
            return None
        if not replayed:  # it replays nothing: it is none
            return None
        if number_of(replayed) >= position:
            return True
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        time.sleep(min(pause, remaining))
        pause *= 2


def suspects_of(answer: Answer) -> Collection[str]:
    """Names by which routines of users may be called that a text does not show: of views, tables with policies, and
    domains; and of the routines, which may overload a built-in one, or be called as a column is. ``*``: an operator or
    a cast calls one."""
    return answer(_SUSPECTS)
