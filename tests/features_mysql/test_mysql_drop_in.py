"""`from rdsproxy_lib import pymysql` in place of `import pymysql`."""

from __future__ import annotations

import importlib
import sys

import pymysql as driver
import pytest

from rdsproxy_lib import pymysql, registry

SUBMODULES = [
    "charset",
    "connections",
    "converters",
    "cursors",
    "err",
    "optionfile",
    "protocol",
    "times",
    "constants",
    "constants.CLIENT",
    "constants.COMMAND",
    "constants.CR",
    "constants.ER",
    "constants.FIELD_TYPE",
    "constants.FLAG",
    "constants.SERVER_STATUS",
]


@pytest.fixture
def shared_proxies():
    """Closes the proxies that the process shares: those of other tests now, and its own afterwards."""

    def close():
        for proxy in registry._proxies.values():
            proxy.close()
        registry._proxies.clear()

    close()
    yield
    close()


def test_names():
    """Every public name of the driver is there, and is the driver's but for what makes connections."""
    for name in driver.__all__:
        ours, theirs = getattr(pymysql, name), getattr(driver, name)
        if name not in ("connect", "Connect", "Connection", "install_as_MySQLdb"):
            assert ours is theirs, name
    for name in dir(driver):
        assert hasattr(pymysql, name), name
    assert pymysql.apilevel == "2.0"
    assert pymysql.threadsafety == 1
    assert pymysql.paramstyle == "pyformat"
    assert pymysql.connect is pymysql.Connect
    assert issubclass(pymysql.Connection, driver.Connection)


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules(name):
    """Submodules can be imported by name, and are the driver's."""
    ours = importlib.import_module(f"rdsproxy_lib.pymysql.{name}")
    assert ours is importlib.import_module(f"pymysql.{name}")


def test_from_submodule():
    """`from rdsproxy_lib.pymysql.cursors import DictCursor` works."""
    from rdsproxy_lib.pymysql.constants import CLIENT
    from rdsproxy_lib.pymysql.cursors import DictCursor

    assert DictCursor is driver.cursors.DictCursor
    assert CLIENT is driver.constants.CLIENT


def test_unknown_names():
    """What the driver does not have is an AttributeError."""
    with pytest.raises(AttributeError):
        _ = pymysql.nonsense


def test_install_as_mysqldb(monkeypatch):
    """After install_as_MySQLdb(), `import MySQLdb` gives the drop-in and its submodules."""
    before = dict(sys.modules)
    try:
        pymysql.install_as_MySQLdb()
        import MySQLdb
        import MySQLdb.cursors
        from MySQLdb.constants import CLIENT, FIELD_TYPE

        assert MySQLdb.connect is pymysql.connect
        assert MySQLdb.cursors is driver.cursors
        assert (CLIENT, FIELD_TYPE) == (driver.constants.CLIENT, driver.constants.FIELD_TYPE)
        assert MySQLdb.version_info == driver.version_info
        assert MySQLdb.OperationalError is driver.OperationalError
    finally:
        for name in set(sys.modules) - set(before):
            if name.startswith("MySQLdb"):
                del sys.modules[name]


def test_connect(features, clean, shared_proxies, rows):
    """pymysql.connect() with the driver's arguments gives multiplexed connections that share a proxy."""
    conns = [pymysql.connect(**features.parameters(), rdsproxy={"max_connections": 2}) for _ in range(6)]
    for number, conn in enumerate(conns):
        rows(conn, "insert into feature_items values (%s, 'x')", (number,))
        conn.commit()
    assert isinstance(conns[0], driver.connections.Connection)
    (proxy,) = registry._proxies.values()
    assert proxy.stats().database_connections <= 2
    assert proxy.stats().client_connections == 6
    for conn in conns:
        conn.close()


def test_connect_takes_keywords_only(features):
    """Positional arguments are refused, as by the driver."""
    with pytest.raises(TypeError):
        pymysql.connect("localhost", "app")
    with pytest.raises(TypeError):
        driver.connect("localhost", "app")


def test_two_databases(features, clean, shared_proxies, rows):
    """Two databases of one server share a proxy."""
    here = pymysql.connect(**features.parameters())
    there = pymysql.connect(**features.parameters(database="test_features_other"))
    assert rows(here, "select database()") == (("test_features",),)
    assert rows(there, "select database()") == (("test_features_other",),)
    assert len(registry._proxies) == 1
    here.close()
    there.close()


def test_old_names_of_arguments(features, clean, shared_proxies, rows):
    """db= and passwd= work, and warn as the driver's do."""
    parameters = features.parameters()
    parameters["db"] = parameters.pop("database")
    parameters["passwd"] = parameters.pop("password")
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        private = driver.connect(**parameters)
    private.close()
    with pytest.warns(DeprecationWarning, match="is deprecated") as said:
        conn = pymysql.connect(**parameters)
    assert rows(conn, "select database()") == (("test_features",),)
    assert {str(item.message).split(",")[0] for item in said} == {"'db' is deprecated", "'passwd' is deprecated"}
    conn.close()


def test_read_default_file(features, clean, shared_proxies, rows, tmp_path):
    """read_default_file= is read by the driver."""
    path = tmp_path / "my.cnf"
    values = features.parameters()
    path.write_text(
        f"[client]\nhost={values['host']}\nport={values['port']}\nuser={values['user']}\npassword={values['password']}\n"
        "database=test_features\ndefault-character-set=latin1\n"
    )
    conn = pymysql.connect(read_default_file=str(path), ssl_disabled=True)
    assert rows(conn, "select database(), @@character_set_client") == (("test_features", "latin1"),)
    assert conn.charset == "latin1"
    assert conn.host == values["host"]
    assert conn.port == values["port"]
    conn.close()


def test_unix_socket(features, clean, shared_proxies, rows):
    """unix_socket= of connect()."""
    conn = pymysql.connect(
        unix_socket=features.server.socket, user="app", password="app-secret", database="test_features"
    )
    assert rows(conn, "select 1") == ((1,),)
    assert conn.host_info == conn.get_host_info() == "Localhost via UNIX socket"
    conn.close()


def test_wrong_password(features, clean, shared_proxies):
    """A wrong password is the server's 1045 at connect()."""
    with pytest.raises(driver.err.OperationalError) as caught:
        pymysql.connect(**features.parameters(password="wrong"))
    assert caught.value.args[0] == 1045


def test_subclassing(features, clean, shared_proxies, rows):
    """A subclass of the drop-in's Connection, as frameworks make one, works."""

    class Mine(pymysql.Connection):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.label = "mine"

        def cursor(self, cursor=None):
            self.asked = True
            return super().cursor(cursor)

    with Mine(**features.parameters()) as conn:
        assert rows(conn, "select 1") == ((1,),)
        assert conn.asked
        assert conn.label == "mine"
    assert not conn.open
