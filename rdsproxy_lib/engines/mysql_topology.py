"""How a MySQL or MariaDB server is asked who it is and which hosts belong to it. Pure.

The questions are those of AWS' own wrappers: for Aurora, for a Multi-AZ DB cluster, and for any other server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pymysql.constants import ER

from ..topology import Answer, Listed, Role

Row = Mapping[str, Any]
"""A row by the lower-case names of its columns."""


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of server. How its answers are read, `answered` and `hosts` know."""

    name: str
    status: str = ""
    """Asked of a reader, and where `status_decides` of all: how far it is behind, and whom it follows."""
    members: str = ""
    """A row for each host. Empty where there is no list."""
    status_decides: bool = False
    """Whether it takes `status` as well to know a writer: who accepts writes may not be it yet, or no more."""
    is_auroras: bool = False
    """Whether a row of `status` and `members` is that of Aurora's table."""
    grant: str = ""
    """What a user needs to ask these questions."""


READ_ONLY = "SELECT @@global.read_only, @@global.innodb_read_only"
_REPLICA_STATUS, _SLAVE_STATUS = "SHOW REPLICA STATUS", "SHOW SLAVE STATUS"
_AURORA_MEMBERS = (
    "SELECT server_id, session_id = 'MASTER_SESSION_ID' AS is_writer, server_id = @@aurora_server_id AS is_asked,"
    " replica_lag_in_milliseconds, timestampdiff(microsecond, last_update_timestamp, now(6)) AS report_age"
    " FROM information_schema.replica_host_status"
    " WHERE time_to_sec(timediff(now(), last_update_timestamp)) <= 300 OR session_id = 'MASTER_SESSION_ID'"
)

_MONITOR = "GRANT REPLICATION CLIENT ON *.* TO {user} (MariaDB: REPLICA MONITOR)"
PLAIN = Source("MySQL", _REPLICA_STATUS, grant=_MONITOR)
MULTI_AZ = Source(
    "a Multi-AZ DB cluster",
    _REPLICA_STATUS,
    "SELECT id, endpoint, port FROM mysql.rds_topology",
    status_decides=True,
    grant=f"GRANT SELECT ON mysql.rds_topology TO {{user}}; {_MONITOR}",
)
AURORA = Source("Aurora", _AURORA_MEMBERS, _AURORA_MEMBERS, status_decides=True, is_auroras=True)

DETECT_AURORA = "SHOW VARIABLES LIKE 'aurora_version'"
DETECT_MULTI_AZ = "SELECT 1 FROM information_schema.tables WHERE table_schema = 'mysql' AND table_name = 'rds_topology'"
REFUSALS = (
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.DBACCESS_DENIED_ERROR,
    ER.PARSE_ERROR,
    ER.NO_SUCH_TABLE,
    ER.UNKNOWN_TABLE,
    ER.BAD_FIELD_ERROR,
    ER.UNKNOWN_SYSTEM_VARIABLE,
)
"""Codes of a server that does not know a question, or does not answer it for everybody."""


def without(source: Source, question: str, code: int) -> Source | None:
    """What is still asked where a question was refused with this code; None where the error says something else."""
    if code not in REFUSALS:
        return None
    if code == ER.PARSE_ERROR and question == _REPLICA_STATUS:  # MySQL before 8.0.22, MariaDB before 10.5
        return replace(source, status=_SLAVE_STATUS)
    status, members = ("" if text == question else text for text in (source.status, source.members))
    return replace(source, status=status, members=members)


def is_read_only(values: Sequence[Any]) -> bool:
    """Whether a server takes no writes, from its answer to `READ_ONLY`."""
    return any(str(value).upper() not in ("0", "OFF") for value in values)


def answered(source: Source, is_reader: bool, status: Sequence[Row], members: Sequence[Row] = ()) -> Answer:
    """What a server says of itself. `status` and `members` are the rows of the questions of these names.

    Of a Multi-AZ DB cluster one that follows a member is a reader; it may follow a server that is none.
    """
    if source.is_auroras and source.status:
        own = [row for row in status if row["is_asked"]]
        if not is_reader and any(row["is_writer"] for row in own):
            return Answer(Role.READ_WRITE)
        return Answer(Role.READ_ONLY, lag=_aurora_lag(own[0]) if own else None)
    sources = {str(_first(row, "source_server_id", "master_server_id")) for row in status}
    if not is_reader and sources.isdisjoint(str(row["id"]) for row in members):
        return Answer(Role.READ_WRITE)
    lags = [_first(row, "seconds_behind_source", "seconds_behind_master") for row in status]
    return Answer(Role.READ_ONLY, lag=None if not lags or None in lags else max(map(float, lags)))


def hosts(source: Source, rows: Sequence[Row]) -> tuple[Listed, ...]:
    """The hosts that a server lists, from its answer to `Source.members`."""
    if source.is_auroras:
        return tuple(Listed(row["server_id"], None, _aurora_lag(row)) for row in rows)
    return tuple(Listed(row["endpoint"].partition(".")[0], int(row["port"])) for row in rows)


def staleness(source: Source, rows: Sequence[Row]) -> float | None:
    """How many seconds old what a reader shows is at most, from its answer to `Source.members`; None for not known.

    Aurora's lag is that of a report, and as old as that. A replica's own is no proof: it has whole seconds, and what it
    did not receive yet does not count. A report from the future is one in another time zone.
    """
    own = [row for row in rows if source.is_auroras and row["is_asked"]]
    lag, age = (_aurora_lag(own[0]), own[0]["report_age"]) if own else (None, None)
    return None if lag is None or age is None or age < 0 else lag + float(age) / 1_000_000


def _aurora_lag(row: Row) -> float | None:
    lag = row["replica_lag_in_milliseconds"]
    return None if lag is None or row["is_writer"] else float(lag) / 1000


def _first(row: Row, *names: str) -> Any:
    return next((row[name] for name in names if name in row), None)
