"""What a session of PostgreSQL may have, for the programs of oracle.py."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

from .conftest import ROLES, rows
from .oracle import Engine, Kind, Mine, Way

_ISOLATION = ("repeatable read", "serializable")
_ENCODINGS = ("LATIN1", "LATIN9", "WIN1252")


def _name(prefix: str) -> Any:
    """Shown as the list of names that begin so: that of the session, or empty."""
    return lambda value: [] if value is None else [f"{prefix}{value}"]


def _setting(name: str, shown: Any, to: str = "'{v}'", **more: Any) -> Kind:
    """A parameter, set in each way there is."""
    return Kind(
        name,
        (
            Way(f"set {name} to {to}"),
            Way(f"set session {name} = {to}"),
            Way(f"select set_config('{name}', %s, false)", (to.strip("'"),)),
            Way("select set_config(%s, %s, false)", (name, to.strip("'"))),
        ),
        f"reset {name}",
        shown,
        local=Way(f"set local {name} = {to}"),
        **more,
    )


KINDS = {
    kind.name: kind
    for kind in (
        _setting("work_mem", lambda v: "4MB" if v is None else f"{v}kB", "'{v}kB'"),
        _setting("statement_timeout", lambda v: "0" if v is None else f"{v}01ms", "'{v}01ms'"),
        _setting("app.tenant", lambda v: "" if v is None else f"tenant {v}", "'tenant {v}'"),
        _setting(
            "search_path",
            lambda v: ('"$user", public', -1) if v is None else (f"schema_{v}, pg_catalog", v),
            "schema_{v}, pg_catalog",
            value=lambda session, number: session,
        ),
        _setting(
            "timezone",
            lambda v: ("UTC", 0) if v is None else (f"GMT-{v}", v),
            "'Etc/GMT-{v}'",
            value=lambda session, number: 1 + 2 * session + number % 2,
        ),
        _setting(
            "client_encoding",
            lambda v: (v or "UTF8", "é"),
            value=lambda session, number: _ENCODINGS[session % 3],
        ),
        Kind(
            "isolation",
            (
                Way("set session characteristics as transaction isolation level {v}"),
                Way("set default_transaction_isolation = '{v}'"),
                Way("select set_config('default_transaction_isolation', %s, false)", ("{v}",)),
            ),
            "reset default_transaction_isolation",
            lambda v: v or "read committed",
            value=lambda session, number: _ISOLATION[session % 2],
        ),
        Kind(
            "role",
            (Way("set role state_role_{v}"), Way("select set_config('role', 'state_role_{v}', false)")),
            "reset role",
            lambda v: "app" if v is None else ROLES[v],
            value=lambda session, number: session,
            local=Way("set local role state_role_{v}"),
            survives_reset=True,
        ),
        Kind(
            "temporary table",
            (
                Way("create temp table scratch as select 1 as v_{v}"),
                Way("create temporary table scratch (v_{v} int)"),
                Way("select 1 as v_{v} into temp scratch"),
            ),
            "drop table scratch",
            _name("v_"),
            pins=True,
            once=True,
            survives_reset=True,
        ),
        Kind(
            "held cursor",
            (Way("declare scratch_{v} cursor with hold for select {v}"),),
            "close scratch_{v}",
            _name("scratch_"),
            pins=True,
            once=True,
            is_cleared_for_good=True,
            survives_reset=True,
        ),
        Kind(
            "prepared statement",
            (Way("prepare scratch_{v} as select {v}"),),
            "deallocate scratch_{v}",
            _name("scratch_"),
            pins=True,
            once=True,
            reverts=False,
            survives_reset=True,
        ),
        Kind(
            "advisory lock",
            (Way("select pg_advisory_lock({v})"), Way("select pg_try_advisory_lock(%s)", ("{v}",))),
            "select pg_advisory_unlock({v})",
            lambda v: [] if v is None else [v],
            pins=True,
            once=True,
            reverts=False,
            survives_reset=True,
        ),
        Kind(
            "channel",
            (Way("listen scratch_{v}"),),
            "unlisten scratch_{v}",
            _name("scratch_"),
            pins=True,
            once=True,
            outside=True,
            survives_reset=True,
        ),
    )
}

_LOOK = """
    select current_setting('work_mem'), current_setting('statement_timeout'),
        coalesce(current_setting('app.tenant', true), ''), current_setting('search_path'), (select n from who),
        current_setting('timezone'), timestamptz '2020-01-01 12:00:00+00', current_setting('client_encoding'), chr(233),
        current_setting('default_transaction_isolation'), current_user::text,
        array(select attname::text from pg_attribute where attnum > 0 and attrelid in
            (select oid from pg_class where relnamespace = pg_my_temp_schema())),
        array(select name from pg_cursors where name like 'scratch%'),
        array(select name from pg_prepared_statements where from_sql),
        array(select objid::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
        array(select pg_listening_channels())
"""


class PostgresOracle(Engine):
    """PostgreSQL through psycopg."""

    kinds = KINDS
    numbers = itertools.count()
    actions: ClassVar[dict[str, int]] = {
        "set": 40,
        "set local": 6,
        "clear": 16,
        "begin": 9,
        "commit": 9,
        "rollback": 5,
        "savepoint": 4,
        "rollback to": 3,
        "release": 1,
        "write": 4,
        "block": 5,
        "pipeline": 3,
        "fail": 2,
        "reset": 2,
        "discard": 1,
        "close": 3,
    }

    def prepare(self) -> None:
        self.world.admin(
            "create table written (session int); create table who as select -1 as n;"
            "grant all on written to public; grant select on who to public;"
            + "".join(
                f"create schema schema_{number} create table who (n int) create view written as table public.written"
                f" grant select on who to public grant all on written to public; insert into schema_{number}.who"
                f" values ({number}); grant all on schema schema_{number} to public;"
                for number in range(6)
            )
        )

    def plan(self, seed: int) -> tuple[list[str], dict[str, Any]]:
        # With a rollback psycopg runs DEALLOCATE ALL where it has prepared something itself.
        if seed % 2:
            return list(self.kinds), {"prepare_threshold": None}
        return [name for name in self.kinds if name != "prepared statement"], {}

    def look(self, conn: Any) -> dict[str, Any]:
        ((mem, timeout, tenant, path, who, zone, noon, encoding, letter, isolation, *rest),) = rows(conn, _LOOK)
        offset = noon.utcoffset().total_seconds() / 3600
        user, temporary, cursors, prepared, locks, channels = rest
        return {
            "work_mem": mem,
            "statement_timeout": timeout,
            "app.tenant": tenant,
            "search_path": (path, who),
            "timezone": (zone.removeprefix("Etc/"), offset),
            "client_encoding": (encoding, letter),
            "isolation": isolation,
            "role": user,
            "temporary table": temporary,
            "held cursor": cursors,
            "prepared statement": prepared,
            "advisory lock": locks,
            "channel": channels,
        }

    def clearing(self, kind: Kind, mine: Mine) -> str:
        if kind.name == "temporary table" and mine.visible("role") is not None:
            return "discard temp"  # it may be another role's
        return kind.clear

    def fail(self, conn: Any) -> None:
        rows(conn, "select 1 / 0")

    def reset(self, conn: Any) -> None:
        rows(conn, "reset all")

    def discard(self, conn: Any) -> None:
        # psycopg 3.3 forgets what it prepared only with the first DISCARD ALL of a text.
        rows(conn, f"discard all -- {next(self.numbers)}")

    def left_over(self) -> list[Any]:
        return self.world.admin(
            "select 'lock', objid::text from pg_locks where locktype = 'advisory' and database ="
            " (select oid from pg_database where datname = current_database())"
            " union all select 'transaction', query from pg_stat_activity where state like 'idle in%'"
            " and datname = current_database()"
        )
