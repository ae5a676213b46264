"""The SQL of `resolve_commits` on PostgreSQL (see commits.py). Pure.

Everything by its full name, as the search_path and the operators of the session are the user's.
"""

from __future__ import annotations

TABLE = """create table {table} (
    token uuid primary key,
    is_committed boolean not null,
    asked integer not null default 0,
    at timestamptz not null default now()
);
grant select, insert, update on {table} to {user};"""

MISUSE = frozenset({"3F000", "42501", "42703", "42804", "42P01", "42P10"})
"""SQLSTATEs of a table that is not there, not as it should be, or not for this user."""

_LOCK_TIMEOUT = "1s"


def quoted(name: str) -> str:
    """``schema.table`` or ``table``, of which the option has been checked, as identifiers."""
    return ".".join(f'"{part}"' for part in name.split("."))


def finding(name: str) -> str:
    """Asks for the full name of the table, if that is one whose rows a crash leaves as it leaves others."""
    return (
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.oid = pg_catalog.to_regclass('{quoted(name)}')"
        " AND c.relpersistence = 'p' AND c.relkind IN ('r', 'p')"
    )


def leaving(table: str, token: str, *, is_sure: bool = False) -> str:
    """Leaves a token, where the transaction has written something; `is_sure`: it has, or will as it is committed.

    The server decides, and not an INSERT … SELECT … WHERE: that is refused in a transaction that may only read. One
    that may only read and has a transaction id wrote to temporary tables.
    """
    has_written = "true" if is_sure else "pg_catalog.txid_current_if_assigned() IS NOT NULL"
    return (
        f"DO $rdsproxy$ BEGIN IF {has_written}"
        " AND pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off' THEN"
        f" INSERT INTO {table} (token, is_committed) VALUES ('{token}', true); END IF; END $rdsproxy$"
    )


def _asking(table: str, token: str) -> str:
    return (
        f"INSERT INTO {table} AS found (token, is_committed) VALUES ('{token}', false) ON CONFLICT (token)"
        " DO UPDATE SET asked = found.asked OPERATOR(pg_catalog.+) 1 RETURNING is_committed"
    )


def asking(table: str, token: str) -> str:
    """Whether the transaction is committed; and that it never will be, if not.

    No statement_timeout: one that ends while the COMMIT waits for a standby lets it through without. And at least as
    safe as the server's own storage, whatever the login commits with.
    """
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE; SET LOCAL statement_timeout = 0;"
        f" SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}';"
        f" {_asking(table, token)}; COMMIT"
    )


def trying(table: str) -> str:
    """Fails where one of the two above would, and writes nothing."""
    token = "0" * 32
    return f"{leaving(table, token)}; EXPLAIN {_asking(table, token)}"
