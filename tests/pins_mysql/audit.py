"""What a session of MySQL or MariaDB has left on its server thread, as far as the server can show it."""

from __future__ import annotations

from typing import Any

import pymysql

from rdsproxy_lib.sql_builtins import names

CHANGING = names(
    """
    autocommit error_count gtid_binlog_pos gtid_binlog_state gtid_current_pos gtid_executed gtid_purged gtid_seq_no
    identity in_transaction innodb_undo_tablespaces insert_id last_gtid last_insert_id pseudo_thread_id rand_seed1
    rand_seed2 statement_id warning_count tls_last_reload timestamp max_connections
    """
)
"""Variables that are no settings, or settings of everybody. `autocommit` is followed through the status word."""

_LOCKS = """
    select object_type, object_schema, object_name, lock_type, lock_duration from performance_schema.metadata_locks
    where owner_thread_id = %s and lock_status = 'GRANTED'
"""


def snapshot(conn: pymysql.Connection[Any], admin: pymysql.Connection[Any]) -> dict[str, str]:
    """Kind and name of everything the session `conn` has, with its value. `admin` may see all sessions."""
    found: dict[str, str] = {}
    is_mariadb = "MariaDB" in conn.get_server_info()
    with admin.cursor() as cursor:
        cursor.execute(
            "select thread_id from performance_schema.threads where processlist_id = %s", (conn.thread_id(),)
        )
        (thread,) = cursor.fetchone() or (None,)
        cursor.execute(_LOCKS, (thread,))
        for kind, schema, name, mode, duration in cursor.fetchall():
            what = "named lock" if kind == "USER LEVEL LOCK" else "lock"
            found[f"{what}: {kind} {schema}.{name} {mode} {duration}"] = ""
        cursor.execute(
            "select statement_name from performance_schema.prepared_statements_instances where owner_thread_id = %s",
            (thread,),
        )
        found |= {f"prepared statement: {name}": "" for (name,) in cursor.fetchall()}
        if not is_mariadb:
            cursor.execute(
                "select variable_name, variable_value from performance_schema.user_variables_by_thread"
                " where thread_id = %s and variable_value is not null",
                (thread,),
            )
            found |= {f"user variable: {name}": str(value) for name, value in cursor.fetchall()}
            cursor.execute("select resource_group from performance_schema.threads where thread_id = %s", (thread,))
            found["resource group:"] = str(cursor.fetchall())
    with conn.cursor() as cursor:
        cursor.execute("show session variables")
        found |= {f"setting: {name}": str(value) for name, value in cursor.fetchall() if name not in CHANGING}
        cursor.execute("select @@timestamp between unix_timestamp(sysdate(6)) - 9 and unix_timestamp(sysdate(6)) + 9")
        found["setting: timestamp runs"] = str(cursor.fetchall())
        cursor.execute("select database(), current_user(), current_role()")
        found["setting: identity"] = str(cursor.fetchall())
        if is_mariadb:
            cursor.execute(
                "select variable_name, variable_value from information_schema.user_variables"
                " where variable_value is not null"
            )
            found |= {f"user variable: {name}": str(value) for name, value in cursor.fetchall()}
        try:
            cursor.execute("select count(*) from test_stage.scratch")
        except (pymysql.ProgrammingError, pymysql.OperationalError):
            pass
        else:
            found["temporary table: scratch"] = ""
        cursor.execute("show profiles")
        if cursor.fetchall():
            found["profiles:"] = ""
    return found


def difference(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """What is there now and was not, or was otherwise."""
    return {name for name, value in after.items() if before.get(name) != value}
