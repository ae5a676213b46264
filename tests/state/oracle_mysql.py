"""What a session of MySQL or MariaDB may have, for the programs of oracle.py."""

from __future__ import annotations

from typing import Any, ClassVar

import pymysql

from .conftest import ROLES, MySQLWorld, rows
from .oracle import Engine, Kind, Mine, Way

_NO_SUCH_TABLE = 1146
_CHARSETS = ("latin1", "latin2", "greek")
_LEVELS = ("READ-COMMITTED", "SERIALIZABLE")
_MODES = (
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "PIPES_AS_CONCAT",
    "NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES",
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
    "",
)
_AWKWARD = "it's \\ \"all\" \\' right"
"""Comes back as it is only where the session's own sql_mode was used for escaping."""


def _names(prefix: str) -> Any:
    """Shown as the list of names that begin so: that of the session, or nothing."""
    return lambda value: None if value is None else f"{prefix}{value}"


def _variable(name: str, default: Any, shown: Any = int, to: str = "{v}", **more: Any) -> Kind:
    """A system variable, set in each way there is."""
    return Kind(
        name,
        (
            Way(f"set {name} = {to}"),
            Way(f"set session {name} = {to}"),
            Way(f"set @@session.{name} := {to}"),
            Way(f"set @@{name} = {to}"),
        ),
        more.pop("clear", f"set {name} = default"),
        lambda v: default if v is None else shown(v),
        reverts=False,
        **more,
    )


def _kinds(world: MySQLWorld) -> list[Kind]:
    default_mode = world.admin("select @@global.sql_mode")[0][0]
    return [
        _variable("net_read_timeout", 30),
        _variable("group_concat_max_len", 1 << 20 if world.is_mariadb else 1024),
        _variable(
            "time_zone",
            "SYSTEM",
            lambda v: f"+0{v}:00",
            "'+0{v}:00'",
            value=lambda session, number: 1 + session,
        ),
        _variable(
            "sql_mode",
            (default_mode, _AWKWARD),
            lambda v: (v, _AWKWARD),
            "'{v}'",
            value=lambda session, number: _MODES[session],
        ),
        # MySQL takes DEFAULT for the opposite of the global value (bug 121262).
        _variable("foreign_key_checks", 1, value=lambda session, number: 0, clear="set foreign_key_checks = 1"),
        Kind(
            "names",
            (Way("set names {v}"), Way("set character set {v}")),
            "set names utf8mb4",
            lambda v: "utf8mb4" if v is None else v,
            value=lambda session, number: _CHARSETS[session % 3],
            reverts=False,
        ),
        Kind(
            "isolation",
            (Way("set session transaction isolation level {v}"),),
            "set session transaction isolation level repeatable read",
            lambda v: "REPEATABLE-READ" if v is None else v.replace(" ", "-"),
            value=lambda session, number: _LEVELS[session % 2].replace("-", " "),
            reverts=False,
        ),
        Kind(
            "schema",
            (Way(f"use {world.database}_{{v}}"),),
            f"use {world.database}",
            lambda v: world.database if v is None else f"{world.database}_{v}",
            value=lambda session, number: session,
            reverts=False,
        ),
        Kind(
            "role",
            (Way("set role state_role_{v}"),),
            "set role none",
            lambda v: None if v is None else ROLES[v],
            value=lambda session, number: session,
            reverts=False,
            outside=True,
        ),
        Kind(
            "number",
            (
                Way("set @number = {v}"),
                Way("select {v} into @number"),
                Way("select @number := {v}"),
                Way("set @number := %s", ("{v}",)),
            ),
            "set @number = null",
            lambda v: None if v is None else str(v),
            reverts=False,
        ),
        Kind(
            "word",
            (Way("set @word = 'tenant {v}'"), Way("set @word = %s, @other = 1", ("tenant {v}",))),
            "set @word = null",
            _names("tenant "),
            reverts=False,
        ),
        Kind(
            "temporary table",
            (
                Way(f"create temporary table {world.database}.scratch (v_{{v}} int)"),
                Way(f"create temporary table {world.database}.scratch as select 1 as v_{{v}}"),
            ),
            f"drop temporary table {world.database}.scratch",
            _names("v_"),
            pins=True,
            once=True,
            reverts=False,
        ),
        Kind(
            "prepared statement",
            (Way("prepare scratch_{v} from 'select 1'"),),
            "deallocate prepare scratch_{v}",
            _names("scratch_"),
            pins=True,
            once=True,
            reverts=False,
        ),
        Kind(
            "named lock",
            (Way("select get_lock('scratch_{v}', 0)"), Way("do get_lock('scratch_{v}', 1)")),
            "select release_lock('scratch_{v}')",
            _names("scratch_"),
            pins=True,
            once=True,
            reverts=False,
        ),
    ]


_THREAD = "(select thread_id from performance_schema.threads where processlist_id = connection_id())"
_LOOK = f"""
    select @@session.net_read_timeout, @@session.group_concat_max_len, @@session.time_zone, @@session.sql_mode, %s,
        @@session.foreign_key_checks, @@session.autocommit, @@character_set_client, @@character_set_results,
        @@session.{{isolation}}, database(), current_role(), cast(@number as char), @word,
        (select group_concat(object_name) from performance_schema.metadata_locks
            where object_type = 'USER LEVEL LOCK' and owner_thread_id = {_THREAD}),
        (select group_concat(statement_name) from performance_schema.prepared_statements_instances
            where owner_thread_id = {_THREAD})
"""


class MySQLOracle(Engine):
    """MySQL or MariaDB through PyMySQL."""

    world: MySQLWorld
    actions: ClassVar[dict[str, int]] = {
        "set": 40,
        "clear": 16,
        "begin": 9,
        "commit": 9,
        "rollback": 5,
        "savepoint": 4,
        "rollback to": 3,
        "release": 1,
        "write": 4,
        "fail": 3,
        "close": 3,
    }

    def prepare(self) -> None:
        world = self.world
        self.kinds = {kind.name: kind for kind in _kinds(world)}
        self._look = _LOOK.format(isolation="tx_isolation" if world.is_mariadb else "transaction_isolation")
        world.admin("create table written (session int)")
        for number in range(6):
            world.admin(f"create database {world.database}_{number}")
            world.admin(f"create view {world.database}_{number}.written as select * from {world.database}.written")

    def expected(self, mine: Mine) -> dict[str, Any]:
        return {**super().expected(mine), "autocommit": int(mine.is_autocommit)}

    def is_audited(self, seed: int) -> bool:
        return seed % 2 == 0  # the other half gets further: an audit takes MySQL ten times as long as a look

    def is_allowed(self, kind: Kind, mine: Mine) -> bool:
        # Whether a database that was chosen in one role may be chosen without it is not known: that pins.
        other = {"schema": "role", "role": "schema"}.get(kind.name)
        return other not in mine.touched

    def look(self, conn: Any) -> dict[str, Any]:
        ((timeout, length, zone, mode, awkward, checks, autocommit, client, results, *rest),) = rows(
            conn, self._look, (_AWKWARD,)
        )
        isolation, schema, role, number, word, lock, prepared = rest
        return {
            "net_read_timeout": timeout,
            "group_concat_max_len": length,
            "time_zone": zone,
            "sql_mode": (mode, awkward),
            "foreign_key_checks": checks,
            "autocommit": autocommit,
            "names": client if client == results else (client, results),
            "isolation": isolation,
            "schema": schema,
            "role": None if role in (None, "NONE") else role.split("@")[0].strip('`"'),
            "number": number,
            "word": word,
            "named lock": lock,
            "prepared statement": prepared,
            "temporary table": self._column(conn),
        }

    def _column(self, conn: Any) -> str | None:
        """The column of the session's temporary table."""
        with conn.cursor() as cursor:
            try:
                cursor.execute(f"select * from {self.world.database}.scratch limit 0")
            except pymysql.ProgrammingError as error:
                if error.args[0] != _NO_SUCH_TABLE:
                    raise
                return None
            return str(cursor.description[0][0])

    def fail(self, conn: Any) -> None:
        rows(conn, "select * from missing_table")

    def left_over(self) -> list[Any]:
        locks = "select object_name from performance_schema.metadata_locks where object_type = 'USER LEVEL LOCK'"
        return [
            *self.world.admin(locks),
            *self.world.admin("select trx_mysql_thread_id, trx_state from information_schema.innodb_trx"),
        ]
