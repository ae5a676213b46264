"""How a PostgreSQL server is asked who it is and which hosts belong to it: Aurora, Multi-AZ DB cluster, any. Pure.

The questions are those of AWS' own wrappers, with every name in full: the search_path and the operators of a session
are the user's. Each brings rows of one JSON array. Aurora refuses most functions that tell positions in the WAL.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..topology import Answer, Listed, Role


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of server."""

    name: str
    role: bytes
    """One row: the epoch, null for a reader; and the lag in seconds."""
    members: bytes = b""
    """A row for each host: identifier, port, lag in seconds. Empty where there is no list."""
    fallback: Source | None = None
    """What it is taken for where it refuses these questions."""
    grant: str = ""
    """What a user needs to ask them."""
    staleness: bytes = b""
    """One row: how many seconds old what a reader shows may be. Empty where nothing it could tell would be certain."""


# Who is not in recovery is not yet the writer: Aurora's list has to say so too, in its row of the very instance asked.
# A lag that is unknown stays so, where the wrappers take it for 0.
_AURORA_ROLE = b"""
SELECT pg_catalog.json_build_array(
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() AND EXISTS (
        SELECT FROM pg_catalog.aurora_replica_status() WHERE session_id OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID'
        AND server_id OPERATOR(pg_catalog.=) pg_catalog.aurora_db_instance_identifier()) THEN '0' END,
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN (
        SELECT replica_lag_in_msec OPERATOR(pg_catalog./) 1000.0 FROM pg_catalog.aurora_replica_status()
        WHERE server_id OPERATOR(pg_catalog.=) pg_catalog.aurora_db_instance_identifier() LIMIT 1) END)
"""
_AURORA_MEMBERS = b"""
SELECT pg_catalog.json_build_array(server_id, NULL,
    CASE WHEN session_id OPERATOR(pg_catalog.<>) 'MASTER_SESSION_ID' THEN
        replica_lag_in_msec OPERATOR(pg_catalog./) 1000.0 END)
FROM pg_catalog.aurora_replica_status()
WHERE EXTRACT(EPOCH FROM (pg_catalog.now() OPERATOR(pg_catalog.-) last_update_timestamp)) OPERATOR(pg_catalog.<=) 300
OR session_id OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' OR last_update_timestamp IS NULL
"""

# The lag is that of the last report, which has no time where it is of now.
_AURORA_STALENESS = b"""
SELECT pg_catalog.json_build_array(replica_lag_in_msec OPERATOR(pg_catalog./) 1000.0 OPERATOR(pg_catalog.+)
    COALESCE(EXTRACT(EPOCH FROM (
        pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) last_update_timestamp))::pg_catalog.float8, 0))
FROM pg_catalog.aurora_replica_status()
WHERE server_id OPERATOR(pg_catalog.=) pg_catalog.aurora_db_instance_identifier()
"""

# Whose configuration makes all transactions read-only is no writer: so one is prepared for a switchover. As a setting
# of a role or a database it says nothing about the host. pg_control_checkpoint() tells the new timeline only after the
# first checkpoint behind a promotion. A standby that
# has replayed all it received is 0 behind, as long as it receives; else the time since the last commit it knows counts.
_ROLE = b"""
SELECT pg_catalog.json_build_array(
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() AND NOT (
        pg_catalog.current_setting('default_transaction_read_only') OPERATOR(pg_catalog.=) 'on' AND (
            SELECT source FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'default_transaction_read_only'
        ) OPERATOR(pg_catalog.=) ANY (ARRAY['configuration file', 'command line'])) {condition} THEN
        pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END,
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN NULL
    WHEN pg_catalog.pg_last_wal_receive_lsn() OPERATOR(pg_catalog.=) pg_catalog.pg_last_wal_replay_lsn()
        AND EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) THEN 0
    ELSE EXTRACT(EPOCH FROM (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)
        pg_catalog.pg_last_xact_replay_timestamp())) END)
"""
# The writer gets no row: it is the source of all others.
_MULTI_AZ_CONDITION = b"""AND NOT EXISTS (
        SELECT FROM rds_tools.multi_az_db_cluster_source_dbi_resource_id() AS source (id)
        WHERE source.id OPERATOR(pg_catalog.<>) (SELECT own.id FROM rds_tools.dbi_resource_id() AS own (id)))"""
_MULTI_AZ_MEMBERS = b"""
SELECT pg_catalog.json_build_array(pg_catalog.split_part(endpoint, '.', 1), port, NULL)
FROM rds_tools.show_topology('rdsproxy_lib')
"""

BARE = Source(
    "a server that tells no timeline",
    b"SELECT pg_catalog.json_build_array(CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN '0' END, NULL)",
)
PLAIN = Source("PostgreSQL", _ROLE.replace(b"{condition}", b""), fallback=BARE)
MULTI_AZ = Source(
    "a Multi-AZ DB cluster",
    _ROLE.replace(b"{condition}", _MULTI_AZ_CONDITION),
    _MULTI_AZ_MEMBERS,
    PLAIN,
    "CREATE EXTENSION rds_tools; GRANT USAGE ON SCHEMA rds_tools TO {user};"
    " GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA rds_tools TO {user}",
)
AURORA = Source(
    "Aurora",
    _AURORA_ROLE,
    _AURORA_MEMBERS,
    BARE,
    "GRANT EXECUTE ON FUNCTION aurora_replica_status() TO {user}",
    _AURORA_STALENESS,
)

DETECT = b"""
SELECT pg_catalog.json_build_array(
    (SELECT setting OPERATOR(pg_catalog.~~) '%aurora_stat_utils%' FROM pg_catalog.pg_settings
     WHERE name OPERATOR(pg_catalog.=) 'rds.extensions'),
    EXISTS (SELECT FROM pg_catalog.pg_proc p
     JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
     WHERE n.nspname OPERATOR(pg_catalog.=) 'rds_tools'
     AND p.proname OPERATOR(pg_catalog.=) 'multi_az_db_cluster_source_dbi_resource_id'))
"""
REFUSALS = ("0A000", "3F000", "42501", "42703", "42883", "55000")
"""SQLSTATEs of a server that has no such function, or not for everybody; Aurora's for what it does not support."""


def detected(rows: Sequence[str]) -> Source:
    """The kind of a server, from its answer to `DETECT`."""
    is_aurora, is_multi_az = json.loads(rows[0])
    return AURORA if is_aurora else MULTI_AZ if is_multi_az else PLAIN


def answered(rows: Sequence[str]) -> Answer:
    """What a server says of itself, from its answer to `Source.role`."""
    epoch, lag = json.loads(rows[0])
    if epoch is None:
        return Answer(Role.READ_ONLY, lag=_seconds(lag))
    return Answer(Role.READ_WRITE, int(epoch, 16))


def hosts(rows: Sequence[str]) -> tuple[Listed, ...]:
    """The hosts that a server lists, from its answer to `Source.members`."""
    return tuple(Listed(name, port, _seconds(lag)) for name, port, lag in map(json.loads, rows))


def staleness(rows: Sequence[str]) -> float | None:
    """How many seconds old what a reader shows may be, from its answer to `Source.staleness`; None for not known."""
    return _seconds(json.loads(rows[0])[0]) if rows else None


def _seconds(lag: Any) -> float | None:
    return None if lag is None else max(0.0, float(lag))
