"""`from rdsproxy_lib import psycopg` in place of `import psycopg`, and the other ways in."""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from typing import Any

import psycopg
import pytest

import rdsproxy_lib


@pytest.fixture
def drop_in() -> Any:
    """The module that stands in for the driver."""
    return importlib.import_module("rdsproxy_lib.psycopg")


@pytest.fixture(params=["private", "multiplexed"])
def module(request: pytest.FixtureRequest, prepared_server: Any) -> Any:
    """The driver itself, then the module that stands in for it."""
    return psycopg if request.param == "private" else request.getfixturevalue("drop_in")


def test_the_module_has_the_drivers_names(drop_in):
    """Every public name of psycopg is there, and is the driver's own, but for what connects."""
    assert set(psycopg.__all__) <= set(drop_in.__all__)
    ours = {name for name in psycopg.__all__ if getattr(drop_in, name) is not getattr(psycopg, name)}
    assert ours <= {"connect", "Connection", "AsyncConnection"}
    public = {name for name in dir(psycopg) if not name.startswith("_")}
    assert {name for name in public if not hasattr(drop_in, name)} == set()
    assert (drop_in.paramstyle, drop_in.apilevel, drop_in.threadsafety) == ("pyformat", "2.0", 2)
    assert drop_in.__version__ == psycopg.__version__


@pytest.mark.parametrize("name", ["rows", "sql", "errors", "types", "adapt", "pq", "conninfo", "copy"])
def test_submodules_are_the_drivers(drop_in, name):
    """`psycopg.rows` and the like are the driver's own modules."""
    assert getattr(drop_in, name) is sys.modules[f"psycopg.{name}"]


@pytest.mark.parametrize("form", ["conninfo", "url", "keywords", "both"])
def test_connect_takes_every_form(module, prepared_server, form):
    """connect() takes a conninfo string, a URI, keywords, or a string with keywords over it."""
    dsn = prepared_server.dsn()
    forms = {
        "conninfo": ((dsn,), {}),
        "url": ((prepared_server.url(),), {}),
        "keywords": ((), psycopg.conninfo.conninfo_to_dict(dsn)),
        "both": ((f"{dsn} application_name=covered",), {"application_name": "over", "autocommit": True}),
    }
    arguments, keywords = forms[form]
    with module.connect(*arguments, **keywords) as conn:
        assert isinstance(conn, module.Connection)
        assert isinstance(conn, psycopg.Connection)
        assert conn.execute("select current_user").fetchone() == (conn.info.user,)
        if form == "both":
            ask = "select application_name from pg_stat_activity where pid = pg_backend_pid()"
            assert conn.execute(ask).fetchone() == ("over",)
            assert conn.autocommit is True


def test_the_class_connects_too(module, prepared_server):
    """`Connection.connect` is as good as `connect`, for a subclass as well."""
    with module.Connection.connect(prepared_server.dsn()) as conn:
        assert conn.execute("select 1").fetchone() == (1,)

    class Own(module.Connection):
        """A user's own connection class."""

        def one(self) -> Any:
            return self.execute("select 1").fetchone()

    with Own.connect(prepared_server.dsn()) as conn:
        assert type(conn) is Own
        assert conn.one() == (1,)


def test_connect_multiplexes(drop_in, prepared_server):
    """Connections of the module share database connections."""
    sessions = [drop_in.connect(prepared_server.dsn(), autocommit=True) for _ in range(12)]
    pids = {conn.execute("select pg_backend_pid()").fetchone()[0] for conn in sessions}
    assert len(pids) == 1
    assert all(conn.rdsproxy.pin_reasons == () for conn in sessions)
    for conn in sessions:
        conn.close()


@pytest.mark.parametrize(
    "keywords",
    [
        {"colour": "red"},
        {"password": "wrong"},
        {"user": "nobody-here"},
        {"dbname": "nowhere"},
        {"port": "nonsense"},
        {"sslmode": "nonsense"},
        {"connect_timeout": "soon"},
    ],
    ids=lambda keywords: next(iter(keywords)),
)
def test_connect_raises_the_drivers_errors(drop_in, prepared_server, keywords):
    """Wrong arguments and refused logins raise the same class with the same words."""
    failures = []
    for module in (psycopg, drop_in):
        with pytest.raises(psycopg.Error) as caught:
            module.connect(prepared_server.dsn(), **keywords).close()
        failures.append((caught.type, caught.value.sqlstate, str(caught.value)))
    assert failures[1] == failures[0]


def test_connect_refuses_more_arguments(drop_in):
    """Positional arguments beyond the first are a TypeError."""
    for module in (psycopg, drop_in):
        with pytest.raises(TypeError):
            module.connect("dbname=a", "dbname=b")


def test_errors_are_caught_by_either_name(drop_in, prepared_server):
    """`except psycopg.Error` catches, whichever module it was imported from."""
    conn = drop_in.connect(prepared_server.dsn())
    with pytest.raises(drop_in.errors.UndefinedTable) as caught:
        conn.execute("select * from nowhere")
    conn.close()
    assert isinstance(caught.value, psycopg.ProgrammingError)


def test_async_connections_pass_through(drop_in, prepared_server):
    """AsyncConnection is the driver's and works, unmultiplexed, with one warning at most."""

    async def ask() -> Any:
        async with await drop_in.AsyncConnection.connect(prepared_server.dsn()) as conn:
            return await (await conn.execute("select 1")).fetchone()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [asyncio.run(ask()), asyncio.run(ask())] == [(1,), (1,)]
    assert len(caught) <= 1


@pytest.mark.parametrize("form", ["url", "keywords"])
def test_library_connect_shares_a_proxy(prepared_server, form):
    """`rdsproxy_lib.connect()` takes a URL or keywords; equal targets share database connections."""
    keywords: dict[str, Any] = prepared_server.parameters(engine="postgresql", autocommit=True)
    arguments: tuple[str, ...] = ()
    if form == "url":
        arguments, keywords = (prepared_server.url(),), {"autocommit": True}
    first, second = (rdsproxy_lib.connect(*arguments, **keywords) for _ in range(2))
    assert isinstance(first, psycopg.Connection)
    pids = {conn.execute("select pg_backend_pid()").fetchone() for conn in (first, second)}
    assert len(pids) == 1
    for conn in (first, second):
        conn.close()


def test_sqlalchemy_takes_it_as_creator(connect, names):
    """SQLAlchemy runs on `creator=`, pings included, and the sessions stay unpinned."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=connect, pool_pre_ping=True)
    items = sqlalchemy.Table("feature_items", sqlalchemy.MetaData(), autoload_with=engine)
    for number in range(3):
        with engine.begin() as conn:
            conn.execute(items.insert(), [{"id": number * 2 + step, "name": f"n{step}"} for step in range(2)])
    with engine.connect() as conn, conn.begin():
        conn.execute(items.delete())
        nested = conn.begin_nested()
        nested.rollback()
        conn.rollback()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        assert conn.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(items)) == 6
    if connect.kind == "multiplexed":
        assert connect.proxy.stats().database_connections_currently_borrowed == 0
        assert connect.proxy.stats().database_connections == 1
    engine.dispose()
    assert len(names()) == 6
