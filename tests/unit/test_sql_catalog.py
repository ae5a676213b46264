"""The list of built-in functions against the catalogues of real servers."""

from __future__ import annotations

import pytest

from rdsproxy_lib.sql_builtins import BUILTINS, STATEFUL, VOLATILE_READS, WRITES
from tests.servers import PostgresServer


def _catalogue(server: PostgresServer) -> dict[str, bool]:
    """The functions of pg_catalog, and whether any of that name is volatile."""
    with server.admin() as admin:
        rows = admin.execute(
            "SELECT proname, bool_or(provolatile = 'v') FROM pg_catalog.pg_proc "
            "WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY proname"
        ).fetchall()
    return {str(name): bool(volatile) for name, volatile in rows}


def test_volatile_functions_of_the_list_have_been_looked_at(server: PostgresServer) -> None:
    """A function the server calls volatile is free only if it is named as one that was gone through by hand."""
    volatile = {name for name, is_volatile in _catalogue(server).items() if is_volatile}
    assert volatile & BUILTINS <= WRITES | VOLATILE_READS


@pytest.fixture(scope="session")
def catalogues() -> dict[str, set[str]]:
    return {}


def test_every_name_exists_on_some_server(server: PostgresServer, catalogues: dict[str, set[str]]) -> None:
    """A misspelt name in the list would look like care and protect nobody."""
    catalogues[server.version] = set(_catalogue(server))
    if len(catalogues) < 2:
        return  # the other server comes next
    known = set().union(*catalogues.values())
    assert BUILTINS - known == set()
    assert STATEFUL.keys() - known == {"pg_start_backup"}  # its name before PostgreSQL 15


def test_the_lists_do_not_overlap() -> None:
    """A function either leaves something behind or does not."""
    assert not BUILTINS & STATEFUL.keys()
    assert not WRITES & VOLATILE_READS
