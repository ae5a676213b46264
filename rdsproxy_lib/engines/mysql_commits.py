"""The SQL of `resolve_commits` on MySQL and MariaDB (see commits.py). Pure."""

from __future__ import annotations

TABLE = """create table {table} (
    token binary(16) primary key,
    is_committed boolean not null,
    asked integer not null default 0,
    at timestamp not null default current_timestamp
) engine=InnoDB;
grant select, insert, update on {table} to {user};"""

LIMITS = "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1"
"""How many seconds a question waits for a transaction that is still at it."""


def leaving(table: str, token: str) -> str:
    """Leaves a token."""
    return f"INSERT INTO {table} (token, is_committed) VALUES (x'{token}', 1)"


def asking(table: str, token: str) -> str:
    """Puts the token there, or counts the question: a COMMIT without a change would wait for no replica."""
    return f"INSERT INTO {table} (token, is_committed) VALUES (x'{token}', 0) ON DUPLICATE KEY UPDATE asked = asked + 1"


def reading(table: str, token: str) -> str:
    """Who wrote it."""
    return f"SELECT CAST(is_committed AS BINARY) FROM {table} WHERE token = x'{token}'"


def asking_for_key(schema: str, name: str) -> str:
    """How many unique keys of the table are on the token alone. Of another engine's than InnoDB none counts."""
    return (
        "SELECT COUNT(*) FROM information_schema.statistics s JOIN information_schema.tables t"
        " ON t.table_schema = s.table_schema AND t.table_name = s.table_name AND t.engine = 'InnoDB'"
        f" WHERE s.table_schema = {schema} AND s.table_name = {name} AND s.column_name = 'token' AND s.non_unique = 0"
        " AND s.seq_in_index = 1 AND NOT EXISTS (SELECT 1 FROM information_schema.statistics o WHERE o.seq_in_index = 2"
        " AND o.table_schema = s.table_schema AND o.table_name = s.table_name AND o.index_name = s.index_name)"
    )


def trying(table: str) -> tuple[str, ...]:
    """These fail where one of those above would, and write nothing."""
    token = "0" * 32
    return f"EXPLAIN {leaving(table, token)}", f"EXPLAIN {asking(table, token)}", reading(table, token)
