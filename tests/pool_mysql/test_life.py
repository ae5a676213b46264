"""A proxy for MySQL and MariaDB through its life: logins, limits, options, resets, closing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from pymysql.cursors import SSCursor

import rdsproxy_lib
from rdsproxy_lib import TLS, BorrowTimeout, ConfigurationError, PinRefused, Proxy, ProxyClosed, TlsRequired, registry
from tests.mysql_servers import MySQLServer
from tests.pool.conftest import Call

from .conftest import ask

# -- logins


def refused(proxy: Proxy, code: int, **arguments: Any) -> None:
    """connect() raises the server's own error at once, every time."""
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(pymysql.err.OperationalError) as caught:
            proxy.connect(**arguments)
        assert caught.value.args[0] == code
        assert not isinstance(caught.value, rdsproxy_lib.Error)
        assert time.monotonic() - begun < 3
    assert proxy.stats().database_connections == 0


def test_a_wrong_password_raises_at_once(make_proxy, mysql_server):
    """The first connect() checks the login: 1045, quickly and every time."""
    refused(make_proxy(mysql_server.url(password="wrong")), 1045)


def test_an_unknown_database_raises_at_once(make_proxy, mysql_server):
    """The server answers, and says no: 1044 to who may not know, 1049 to who may."""
    refused(make_proxy(mysql_server.url(database="test_nowhere")), 1049)


def test_a_refused_login_leaves_other_logins_alone(make_proxy):
    """One user's wrong password is nobody else's trouble."""
    proxy = make_proxy(max_connections=1)
    with pytest.raises(pymysql.err.OperationalError):
        proxy.connect(user="nobody")
    with proxy.connect() as conn:
        assert ask(conn, "select 1") == (1,)


def test_too_many_connections_of_the_user_are_waited_for(make_proxy, mysql_server, mysql_database, admin):
    """1226 and 1203 mean: wait for one of ours, and do not ask for more than the server gives."""
    ask(admin, "create user limited identified by 'secret' with max_user_connections 2")
    ask(admin, f"grant all on {mysql_database}.* to limited")
    try:
        url = mysql_server.url(database=mysql_database, user="limited", password="secret")
        ca = {"ssl_ca": str(mysql_server.ca_file)} if mysql_server.tls else {}
        if not mysql_server.tls:  # MySQL hands out its key for the first login of a user
            pymysql.connect(
                **mysql_server.parameters(user="limited", password="secret", database=mysql_database)
            ).close()
        proxy = make_proxy(url, max_connections=6, connection_borrow_timeout=5)
        counts = {"done": 0}

        def work() -> None:
            with proxy.connect(autocommit=False, **ca) as conn:
                for _ in range(5):
                    ask(conn, "select count(*) from items")
                    ask(conn, "do sleep(0.005)")
                    conn.rollback()
                    counts["done"] += 1

        for call in [Call(work) for _ in range(6)]:
            call.result()
        assert counts["done"] == 30
        assert proxy.stats().database_connections <= 2
        proxy.close()
    finally:
        ask(admin, "drop user limited")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mariadb-10.11", "mysql-9.7"])
def test_too_many_connections_of_all_are_waited_for(kind):
    """1040: the server is full. A session waits for one of ours, or times out with the reason."""
    with MySQLServer(kind, options={"max_connections": 10}) as server:
        others = [pymysql.connect(**server.parameters()) for _ in range(9)]
        with Proxy(server.url(), max_connections=5, connection_borrow_timeout=0.5) as proxy:
            first, second = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
            first.begin()
            with pytest.raises(BorrowTimeout, match=r"1040|Too many") as caught:
                ask(second, "select 1")
            assert caught.value.args[0] == 9501
            others.pop().close()
            assert ask(second, "select 1") == (1,)
            first.rollback()
            for conn in (first, second, *others):
                conn.close()


# -- TLS


def test_require_tls_is_kept(make_proxy, mysql_server, mysql_database):
    """With require_tls the connection is encrypted, or there is none: 3159, as the server's own."""
    proxy = make_proxy(require_tls=True)
    if mysql_server.tls:
        with proxy.connect(autocommit=True) as conn:
            assert ask(conn, "show status like 'Ssl_cipher'")[1]
        assert proxy.stats().database_connections_with_tls == 1
    else:
        with pytest.raises(TlsRequired) as caught:
            proxy.connect()
        assert isinstance(caught.value, pymysql.err.OperationalError)
        assert caught.value.args[0] == 3159
        assert proxy.stats().database_connections == 0


def test_require_tls_on_a_unix_socket(mysql_server, mysql_database):
    """The driver encrypts a unix socket where the server offers it; where it does not, there is no connection."""
    options = {"unix_socket": mysql_server.socket}
    login = {"engine": "mysql", "user": "app", "password": "app-secret", "dbname": mysql_database}
    with Proxy(**login, driver_options=options, require_tls=True) as proxy:
        try:
            conn = proxy.connect(autocommit=True)
        except TlsRequired as error:
            assert error.args[0] == 3159  # noqa: PT017
        else:
            assert ask(conn, "show status like 'Ssl_cipher'")[1]
            conn.close()


def test_tls_that_verifies(mysql_server, mysql_database):
    """verify-identity with the right authority works, and without it is refused at once."""
    if not mysql_server.tls:
        pytest.skip("this server speaks no TLS")
    url = mysql_server.url(database=mysql_database)
    with Proxy(url, tls=TLS("verify-identity", ca_file=str(mysql_server.ca_file))) as proxy, proxy.connect() as conn:
        assert ask(conn, "show status like 'Ssl_cipher'")[1]
    with Proxy(url, tls=TLS("verify-identity")) as proxy:
        begun = time.monotonic()
        with pytest.raises(pymysql.err.OperationalError):
            proxy.connect()
        assert time.monotonic() - begun < 3


# -- limits of the pool


def test_no_wait(make_proxy, kill):
    """connection_borrow_timeout=0 takes an idle one or says 9501; the death of the only one is outlived."""
    proxy = make_proxy(max_connections=1, connection_borrow_timeout=0)
    first, second = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    first.begin()
    begun = time.monotonic()
    with pytest.raises(BorrowTimeout) as caught:
        ask(second, "select 1")
    assert time.monotonic() - begun < 0.5
    assert caught.value.args[0] == 9501
    assert isinstance(caught.value, pymysql.err.OperationalError)
    first.rollback()
    assert ask(second, "select 1") == (1,)
    kill(second)
    try:
        ask(second, "select 1")
    except BorrowTimeout:
        assert ask(second, "select 1") == (1,)
    first.close()
    second.close()


def test_max_pinned_percent(make_proxy, ids):
    """Above it a statement that would pin is refused before it is sent, with 1105, and costs nothing."""
    proxy = make_proxy(max_connections=4, max_pinned_percent=25)
    first, second = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    ask(first, "handler items open")
    for pin in ("handler items open", "create temporary table items (id varchar(5))", "select get_lock('x', 0)"):
        with pytest.raises(PinRefused) as caught:
            ask(second, pin)
        assert caught.value.args[0] == 1105
        assert not second.rdsproxy.pinned
        assert second.rdsproxy.backend is None
    assert ask(second, "select count(*) from items where id > 0") == (0,)
    assert ask(second, "select is_free_lock('x')") == (1,)
    second.begin()
    ask(second, "select 1")
    with pytest.raises(PinRefused):
        ask(second, "handler items open")
    assert second.rdsproxy.in_transaction
    second.commit()
    first.close()
    ask(second, "handler items open")
    assert second.rdsproxy.pinned
    second.close()
    assert proxy.pool.occupancy().pinned == 0


def test_an_idle_client_that_holds_a_backend_is_closed_for_a_waiter(make_proxy, ids):
    """idle_client_timeout ends a forgotten transaction when somebody needs its backend."""
    proxy = make_proxy(max_connections=1, idle_client_timeout=0.2)
    forgotten = Call(lambda: proxy.connect(autocommit=False)).result()
    Call(ask, forgotten, "insert into items values (1)").result()
    with proxy.connect(autocommit=True) as conn:
        assert ask(conn, "select count(*) from items") == (0,)
    assert not forgotten.open
    for use in (lambda: ask(forgotten, "select 1"), forgotten.commit, forgotten.begin):
        with pytest.raises(pymysql.err.OperationalError, match="idle_client_timeout") as caught:
            use()
        assert caught.value.args[0] == 4031
    assert ids() == []


def test_a_stream_that_is_read_is_not_idle(make_proxy):
    """idle_client_timeout counts from the last row that was taken."""
    proxy = make_proxy(max_connections=1, idle_client_timeout=1.0)
    conn, other = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    with conn.cursor(SSCursor) as cursor:
        cursor.execute("select 1 union all select 2 union all select 3 union all select 4 union all select 5")
        waiting = Call(ask, other, "select 'served'")
        taken = [(cursor.fetchone(), time.sleep(0.4)) for _ in range(5)]
        assert [row for row, _ in taken] == [(1,), (2,), (3,), (4,), (5,)]
        assert cursor.fetchone() is None
    assert waiting.result() == ("served",)
    conn.close()
    other.close()


def test_an_idle_client_is_closed_at_its_next_use(make_proxy):
    """A session that was idle for longer is closed when it comes back; one that is busy is not."""
    proxy = make_proxy(idle_client_timeout=0.15)
    idle, busy = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    ask(idle, "select 1")
    for _ in range(4):
        ask(busy, "select sleep(0.08)")
    with pytest.raises(pymysql.err.OperationalError, match="idle_client_timeout"):
        ask(idle, "select 1")
    assert not idle.open
    assert busy.open
    busy.close()


def test_a_deadlock_of_holders_ends_soon(make_proxy):
    """A thread that waits for what it holds itself is told long before connection_borrow_timeout."""
    proxy = make_proxy(max_connections=1, connection_borrow_timeout=20)
    holding, wanting = proxy.connect(autocommit=True), proxy.connect(autocommit=True)
    holding.begin()
    begun = time.monotonic()
    with pytest.raises(BorrowTimeout, match="every thread that holds"):
        ask(wanting, "select 1")
    assert time.monotonic() - begun < 2
    holding.commit()
    assert ask(wanting, "select 1") == (1,)
    holding.close()
    wanting.close()


# -- closing and sharing


def test_closing_a_proxy(make_proxy, eventually):
    """Who waits gets ProxyClosed (2006); a transaction under way and a pinned session may end."""
    proxy = make_proxy(max_connections=2)
    busy, pinned, waiting = (proxy.connect(autocommit=True) for _ in range(3))
    busy.begin()
    ask(pinned, "set @mine = 7e0")
    wait = Call(ask, waiting, "select 1")
    eventually(lambda: proxy.stats().borrows_waiting)
    proxy.close()
    assert isinstance(wait.error(), ProxyClosed)
    assert wait.error().args[0] == 2006
    assert ask(busy, "select 1") == (1,)
    busy.commit()
    assert ask(pinned, "select @mine") == (7,)
    pinned.close()
    for use in (lambda: ask(busy, "select 1"), busy.begin, busy.ping, proxy.connect, waiting.ping):
        with pytest.raises(ProxyClosed):
            use()
    assert proxy.stats().database_connections == 0
    busy.close()
    waiting.close()


@pytest.fixture
def shared_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[Any, Proxy]]:
    """The proxies that the process shares: none at first, and closed at the end."""
    proxies: dict[Any, Proxy] = {}
    monkeypatch.setattr(registry, "_proxies", proxies)
    yield proxies
    for proxy in proxies.values():
        proxy.close()


def test_proxies_are_shared_by_what_names_a_server(shared_proxies, mysql_server, mysql_database):
    """Database, charset and converters share a proxy; another user, socket or password has one of its own."""
    import rdsproxy_lib.pymysql as dropin

    parameters = mysql_server.parameters(database=mysql_database)

    def connect(**changes: Any) -> None:
        values = {name: value for name, value in {**parameters, **changes}.items() if value is not None}
        conn = dropin.connect(**values)
        assert ask(conn, "select 1") == (1,)
        conn.close()

    connect()
    connect(autocommit=True)
    connect(database="app")
    connect(charset="latin1")
    connect(conv={})
    connect(client_flag=65536)
    rdsproxy_lib.connect(mysql_server.url(database=mysql_database)).close()
    assert len(shared_proxies) <= 2
    count = len(shared_proxies)
    connect(user="root", password="root-secret")
    assert len(shared_proxies) == count + 1
    connect(unix_socket=mysql_server.socket, host=None, port=None)
    assert len(shared_proxies) == count + 2
    with pytest.raises(pymysql.err.OperationalError):
        connect(password="wrong")
    with pytest.raises(ConfigurationError):
        connect(rdsproxy={"max_connections": 3})


def test_shared_proxies_from_many_threads_are_one(shared_proxies, mysql_url):
    """The first use of a target in many threads at once makes one proxy."""
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait(10)
        with rdsproxy_lib.connect(mysql_url, autocommit=True) as conn:
            assert ask(conn, "select 1") == (1,)

    for call in [Call(work) for _ in range(8)]:
        call.result()
    assert len(shared_proxies) == 1


# -- what a session begins with


@pytest.mark.slow
def test_init_connect_init_command_and_init_query_survive_a_reset(private_mysql_server):
    """What the server and the options do at a login is done again for a session after one with settings, or a pin."""
    server = private_mysql_server
    with server.admin() as admin:
        ask(admin, "set global init_connect = 'set @from_server = ''s'', wait_timeout = 4321'")
    options = {"init_query": "set @from_option = 'o', lock_wait_timeout = 77", "max_connections": 1}
    url = server.url(init_command="set @from_driver = 'd'", sql_mode="ANSI_QUOTES")
    look = "select @from_server, @from_driver, @from_option, @@wait_timeout, @@lock_wait_timeout, @@sql_mode, @mine"
    expected = ("s", "d", "o", 4321, 77, "ANSI_QUOTES", None)
    with Proxy(url, **options) as proxy:
        number = None
        for pin in (
            "set @mine = 1, @from_server = 0, @from_driver = 0",
            "set @mine = 1.5",
            "select get_lock('mine', 1)",
            "create temporary table mine (id int)",
            "set sql_mode = ''",
            "use mysql_no",
            "begin",
        ):
            conn = proxy.connect(autocommit=True)
            assert ask(conn, look) == expected
            assert conn.rdsproxy.backend_id == (number or conn.rdsproxy.backend_id)
            number = conn.rdsproxy.backend_id
            try:
                ask(conn, "set lock_wait_timeout = 5, wait_timeout = 99")
                ask(conn, pin)
            except pymysql.err.MySQLError as error:
                print(error)
            conn.close()
        with proxy.connect(autocommit=True) as conn:
            assert ask(conn, look) == expected
        assert proxy.stats().resets >= 3
        with server.admin() as admin:  # is not read again by the proxy, but a new connection has it
            ask(admin, "set global init_connect = ''")


@pytest.mark.slow
def test_who_is_exempt_from_init_connect_stays_so(private_mysql_server):
    """An administrator's sessions do not run it, neither at the login nor after a reset."""
    with private_mysql_server.admin() as admin:
        ask(admin, "set global init_connect = 'set @from_server = 1'")
    with Proxy(private_mysql_server.url(user="root"), max_connections=1) as proxy:
        for _ in range(2):
            with proxy.connect(autocommit=True) as conn:
                assert ask(conn, "select @from_server") == (None,)
                ask(conn, "set @mine = 1")


def test_an_init_query_that_fails_is_an_error_of_connect(make_proxy):
    """A mistake in it shows at the first connect(), as the server said it, and every time."""
    proxy = make_proxy(init_query="set no_such_variable = 1")
    for _ in range(2):
        with pytest.raises(pymysql.err.MySQLError) as caught:
            proxy.connect()
        assert caught.value.args[0] == 1193


def test_an_init_query_of_several_statements(make_proxy):
    """All of them run, also after a reset; and the session gets no right to several by it."""
    proxy = make_proxy(init_query="set @a = 1; set @b = 2; select 3", max_connections=1)
    for _ in range(2):
        with proxy.connect(autocommit=True) as conn:
            assert ask(conn, "select @a, @b") == (1, 2)
            with pytest.raises(pymysql.err.ProgrammingError):
                ask(conn, "select 1; select 2")
            ask(conn, "set @a = 5, @b = 6")


# -- the reset

STATE: dict[str, tuple[list[str], str]] = {
    "session variable": (["set time_zone = '+09:00', max_join_size = 7"], "select @@time_zone, @@max_join_size"),
    "sql_mode": (["set sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES'"], "select @@sql_mode, '\\\\'"),
    "user variable": (["set @x = 1.5"], "select @x"),
    "temporary table": (["create temporary table tt (a int)"], "select count(*) from tt"),
    "temporary over another": (["create temporary table items as select 5 as id"], "select count(*) from items"),
    "named lock": (["select get_lock('reset me', 0)"], "select is_free_lock('reset me')"),
    "prepared statement": (["prepare s from 'select 1'"], "execute s"),
    "table lock": (["lock tables items read"], "select count(*) from numbered"),
    "handler": (["handler items open"], "handler items read first"),
    "schema": (["use app"], "select database()"),
    "character set": (
        ["set names latin1 collate latin1_swedish_ci"],
        "select @@character_set_client, @@collation_connection",
    ),
    "isolation": (
        ["set session transaction isolation level serializable, read only"],
        "insert into numbered values ()",
    ),
    "next transaction": (["set transaction read only"], "insert into numbered values ()"),
    "autocommit": (["set autocommit = 0"], "select @@autocommit"),
    "insert id": (["insert into numbered values ()", "set @x = 1.5"], "select last_insert_id()"),
    "next insert id": (["set insert_id = 1000"], "select @@insert_id"),
    "open transaction": (["set @x = 1.5", "begin", "insert into items values (5)"], "select count(*) from items"),
    "warnings": (["set @x = 1.5", "select 'x' + 0"], "show warnings"),
    "found rows": (["select sql_calc_found_rows * from items limit 0"], "select found_rows()"),
    "timestamp": (["set timestamp = 1000"], "select now() > '2001-01-01'"),
    "foreign keys": (["set foreign_key_checks = 0, unique_checks = 0"], "select @@foreign_key_checks, @@unique_checks"),
    "trackers": (
        ["set session_track_system_variables = '', session_track_schema = 0, session_track_state_change = 0"],
        "select @@session_track_system_variables, @@session_track_schema, @@session_track_state_change",
    ),
}


TAKEN_ALONG = (
    "session variable",
    "sql_mode",
    "schema",
    "character set",
    "isolation",
    "next transaction",
    "autocommit",
    "foreign keys",
    "found rows",
)
"""What does not pin: the session has it on its next backend, or the backend is held for the next statement."""


@pytest.mark.parametrize("state", list(STATE))
def test_nothing_of_a_session_reaches_the_next(make_proxy, admin, state):
    """Whatever a session left on its backend, the next one on the same backend, or a new one, finds as at a login."""
    ask(admin, "create table numbered (id int primary key auto_increment) engine=innodb")
    texts, look = STATE[state]
    proxy = make_proxy(max_connections=1)

    def seen(conn: Any) -> Any:
        try:
            return ask(conn, look)
        except pymysql.err.MySQLError as error:
            return error.args[0]

    with proxy.connect(autocommit=True) as conn:
        fresh = seen(conn)
    with proxy.connect(autocommit=True) as conn:
        for text in texts:
            ask(conn, text)
        assert conn.rdsproxy.pinned == (state not in TAKEN_ALONG)
    with proxy.connect(autocommit=True) as conn:
        assert seen(conn) == fresh
        assert not conn.rdsproxy.pinned
    assert proxy.pool.occupancy().pinned == 0
