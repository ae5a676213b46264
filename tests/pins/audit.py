"""What a session of PostgreSQL has left on its server process, as far as the server can show it."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.servers import SUPERUSER

CUSTOM_SETTINGS = ("app.tenant",)
"""Settings that no library has defined are in no view: rows set these, which are asked for by name."""

LOADED_BY_USE = (
    "dict_snowball",
    "hstore",
    "libpqwalreceiver",
    "pgoutput",
    "plpgsql",
    "test_decoding",
    "utf8_and_iso8859_1",
)
"""Libraries that come with the first use of an object and hold code only; LOAD and its kind are after others."""

# The three settings of a transaction are made anew with each, and yet show where they were set last.
_QUESTION = """
    with settings as materialized (select name, setting, source from pg_catalog.pg_settings)
    select 'setting', name || '=' || setting from settings where source = 'session'
      and name not in ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')
    union all
    select 'custom setting', name || '=' || current_setting(name, true)
      from unnest(%(custom)s::text[]) name where current_setting(name, true) <> ''
    union all
    select 'identity', 'session_user=' || session_user where session_user <> %(user)s
    union all
    select 'identity', 'current_user=' || current_user where current_user <> session_user
    union all
    select 'prepared statement', name from pg_catalog.pg_prepared_statements where from_sql
    union all
    select 'cursor', name from pg_catalog.pg_cursors
      where name <> ''
    union all
    select 'channel', channel from pg_catalog.pg_listening_channels() channel
    union all
    select 'advisory lock', concat_ws('/', classid, objid, objsubid, mode)
      from pg_catalog.pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
    union all
    select 'temporary object', kind || ' ' || name from (
        select 'pg_class', relname, relnamespace from pg_catalog.pg_class
        union all select 'pg_proc', proname, pronamespace from pg_catalog.pg_proc
        union all select 'pg_type', typname, typnamespace from pg_catalog.pg_type
    ) object (kind, name, namespace) where namespace = pg_my_temp_schema()
    union all
    select 'temporary object', pg_describe_object(classid, objid, objsubid) from pg_catalog.pg_depend
      where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = pg_my_temp_schema()
    union all
    select 'replication slot', slot_name from pg_catalog.pg_replication_slots
      where temporary and active_pid = pg_backend_pid()
    union all
    select 'seed', 'known' where random() = %(first_random)s
    union all
    select distinct 'library', split_part(name, '.', 1) from settings
      where name like '%%.%%' and split_part(name, '.', 1) <> all (%(by_use)s)
"""
_ORIGIN = """
    union all
    select 'replication origin', 'set up' where pg_replication_origin_session_is_setup()
"""  # for superusers only
_MODULES = """
    union all
    select 'library', regexp_replace(file_name, '[.].*', '') from pg_catalog.pg_get_loaded_modules()
      where regexp_replace(file_name, '[.].*', '') <> all (%(by_use)s)
"""  # from PostgreSQL 18 on

_FIRST_RANDOM = 0.9851677175347999
"""What random() gives first after setseed(0.5), on all servers: the only sign of a seed. Rows set no other."""


def found_on(conn: psycopg.Connection[Any], user: str) -> tuple[int, set[str]]:
    """The process id of the server process that answers, and a line for everything the session left there.

    `user` is the login. Empty is clean, but for sequence values, which nothing shows.
    """
    question = _QUESTION
    if user == SUPERUSER:
        question += _ORIGIN
    if conn.info.server_version >= 180000:
        question += _MODULES
    rows = conn.execute(
        # Qualified where that costs nothing: a session's search_path is among what is looked for.
        f"select pg_catalog.pg_backend_pid(), kind, what from (values (1)) _ left join ({question}) found (kind, what)"
        " on true",
        {
            "custom": list(CUSTOM_SETTINGS),
            "user": user,
            "first_random": _FIRST_RANDOM,
            "by_use": list(LOADED_BY_USE),
        },
        prepare=False,
    ).fetchall()
    return rows[0][0], {f"{kind}: {what}" for _, kind, what in rows if kind is not None}
