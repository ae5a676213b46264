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


def quoted(name: str) -> str:
    """``schema.table``, of which the option has been checked, as identifiers."""
    return ".".join(f"`{part}`" for part in name.split("."))


def leaving(table: str, token: str) -> str:
    """Leaves a token."""
    return f"INSERT INTO {table} (token, is_committed) VALUES (x'{token}', 1)"


def asking(table: str, token: str) -> str:
    """Puts the token there, or counts the question: a COMMIT without a change would wait for no replica."""
    return f"INSERT INTO {table} (token, is_committed) VALUES (x'{token}', 0) ON DUPLICATE KEY UPDATE asked = asked + 1"


def reading(table: str, token: str) -> str:
    """Who wrote it."""
    return f"SELECT CAST(is_committed AS BINARY) FROM {table} WHERE token = x'{token}'"


def trying(table: str) -> tuple[str, ...]:
    """These fail where one of those above would, and write nothing."""
    token = "0" * 32
    return f"EXPLAIN {leaving(table, token)}", f"EXPLAIN {asking(table, token)}", reading(table, token)
