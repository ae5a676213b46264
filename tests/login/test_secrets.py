"""Logging in with secrets: what a refused login does, who it is for, and where the server is."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest

import rdsproxy_lib
from rdsproxy_lib import TLS, ConfigurationError, CredentialsError, SecretsManager, registry
from rdsproxy_lib import secrets_manager as module
from tests.cluster.history import run
from tests.cluster.nodes import until
from tests.login.load import opened
from tests.login.place import Place, front_of, source_of, tls_of
from tests.login.rotation import Rotation
from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER, PostgresServer


@pytest.fixture(scope="module")
def server():
    """PostgreSQL whose users the tests may change."""
    with PostgresServer("15") as server:
        yield server


@pytest.fixture
def front(server, authority):
    """TLS before it. The application's user has its password of the beginning."""
    with server.admin() as admin:
        admin.execute(f"alter role {APP_USER} password '{APP_PASSWORD}'")
    with front_of(server, authority=authority) as front:
        yield front


# -- refused logins


@pytest.mark.server("postgresql-15")
def test_a_wrong_secret_without_a_rotation_is_refused_at_once(service, front, authority):
    """One attempt, the server's own words, and no waiting."""
    source = source_of(service, "wrong", password="not this one")
    with opened([front], authority, source) as proxy:
        began = time.monotonic()
        with pytest.raises(rdsproxy_lib.psycopg.OperationalError, match="password authentication failed"):
            proxy.connect()
        assert time.monotonic() - began < 2
        assert len(front.refused) == 1


@pytest.mark.server("postgresql-15")
def test_a_process_that_starts_in_the_gap_takes_the_pending_one(service, server, front, authority):
    """The current one is refused, the pending one accepted; the current one is not tried again after that."""
    source = source_of(service, "starts-in-the-gap")
    rotation = Rotation(service, server, source.secret_id)
    for step in rotation.steps():
        if step == "setSecret":
            with opened([front], authority, source) as proxy:
                for _ in range(3):
                    with proxy.connect(autocommit=True) as conn:
                        assert run(conn, "select 1") == [(1,)]
                    time.sleep(0.25)
            assert len(front.refused) == 1


@pytest.mark.server("postgresql-15")
@pytest.mark.parametrize("pending", [None, "rubbish"])
def test_a_rotation_that_shows_no_pending_version_is_waited_for(service, server, front, authority, pending):
    """As RDS does for its own master secrets: the database takes the new password, the secret has it a second later.

    What a rotation before it that failed has left is no version.
    """
    source = source_of(service, "managed")
    if pending is not None:
        stages = [module.PENDING]
        service.manager.put_secret_value(SecretId=source.secret_id, SecretString=pending, VersionStages=stages)
    with opened([front], authority, source, connection_max_lifetime=0.05) as proxy:
        with proxy.connect(autocommit=True) as conn:
            run(conn, "select 1")
        with server.admin() as admin:
            admin.execute(f"alter role {APP_USER} password 'the new one'")
        next_one = {"username": APP_USER, "password": "the new one"}
        later = threading.Timer(1.5, service.put, (source.secret_id, module.CURRENT), next_one)
        later.start()
        time.sleep(0.1)
        began = time.monotonic()
        with proxy.connect(autocommit=True) as conn:
            assert run(conn, "select 1") == [(1,)]
        assert 1.0 < time.monotonic() - began < 5.0
        later.join()
    assert len(front.refused) <= 6, "with pauses between"
    assert service.count() <= 1 + 2 * (len(front.refused) + 1)


@pytest.mark.server("postgresql-15")
def test_one_users_wrong_secret_is_nobody_elses(service, server, front, authority):
    """While its sessions wait for a password, those of another user log in, and the error names the server's words."""
    with server.admin() as admin:
        admin.execute("drop role if exists other")
        admin.execute("create role other login password 'hush'")
    changing = source_of(service, "changing")
    sources = {APP_USER: changing, "other": rdsproxy_lib.Static("other", "hush")}
    options = {"connection_max_lifetime": 0.05, "connection_borrow_timeout": 4.0, "max_connections": 4}
    with opened([front], authority, sources, **options) as proxy:
        with proxy.connect(user=APP_USER, autocommit=True) as conn:
            run(conn, "select 1")
        with server.admin() as admin:
            admin.execute(f"alter role {APP_USER} password 'nobody knows'")
        time.sleep(0.1)
        errors: list[Exception] = []

        def work() -> None:
            try:
                with proxy.connect(user=APP_USER, autocommit=True) as conn:
                    run(conn, "select 1")
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        for _ in range(5):
            with proxy.connect(user="other", autocommit=True) as conn:
                assert run(conn, "select current_user") == [("other",)]
            time.sleep(0.06)
        assert not errors, "five logins of the other user, one after the other, while those six still wait"
        for thread in threads:
            thread.join()
        assert len(errors) == 6
        assert all(isinstance(error, rdsproxy_lib.BorrowTimeout) for error in errors)
        assert all("authentication failed" in str(error) or "may be in rotation" in str(error) for error in errors)
        assert len(front.refused) <= 8


@pytest.mark.server("postgresql-15")
def test_sessions_that_are_open_keep_their_database_connections(service, server, front, authority):
    """A password counts at the login only."""
    source = source_of(service, "keeps")
    opening = opened([front], authority, source, connection_max_lifetime=3600.0)
    with opening as proxy, proxy.connect(autocommit=True) as conn:
        before = conn.info.backend_pid
        run(conn, "select 1")
        Rotation(service, server, source.secret_id).rotate()
        assert run(conn, "select 1") == [(1,)]
        assert conn.info.backend_pid == before
    assert len(front.logins) == 2, "the first answers for sessions at rest, the second does the work"


# -- who, and where


@pytest.mark.server("postgresql-15")
def test_another_user_than_the_secrets_is_an_error(service, front, authority):
    """It would be logged in as somebody it is not; the clone of alternating users is the same."""
    source = source_of(service, "whose")
    with opened([front], authority, source) as proxy:
        with pytest.raises(CredentialsError, match="are of the database user 'app', and 'admin' is to log in"):
            proxy.connect(user="admin")
        with proxy.connect(user=f"{APP_USER}_clone", autocommit=True) as conn:
            assert run(conn, "select current_user") == [(APP_USER,)]


@pytest.mark.server("postgresql-15")
def test_a_secret_that_knows_its_server_is_enough(service, front, authority):
    """host, port, dbname and engine, at the first connect(): the constructor asks nobody."""
    place = {"host": "localhost", "port": front.port, "dbname": APP_DATABASE, "engine": "postgres"}
    source = source_of(service, "knows", **place)
    tls = tls_of("verify-identity", authority)
    with rdsproxy_lib.Proxy(credentials=source, tls=tls) as proxy:
        assert service.count() == 0
        assert "nothing asked yet" in repr(proxy)
        with proxy.connect() as conn:
            assert run(conn, "select current_database()") == [(APP_DATABASE,)]
        assert [target.host for target in proxy.targets()] == [f"localhost:{front.port}"]
    assert service.count() == 1


@pytest.mark.server("postgresql-15")
def test_alternating_users_have_one_database(service, server, front, authority):
    """The secret's, or that of the user's name; not one of the clone's name."""
    assert APP_DATABASE == APP_USER
    source = source_of(service, "one-database")
    rotation = Rotation(service, server, source.secret_id, strategy="alternating-users")
    tls = tls_of("verify-identity", authority)
    for _ in range(2):
        rotation.rotate()
        fresh = SecretsManager(source.secret_id, endpoint_url=service.endpoint_url)
        proxy = rdsproxy_lib.Proxy(f"postgresql://localhost:{front.port}", credentials=fresh, tls=tls)
        with proxy, proxy.connect() as conn:
            assert run(conn, "select current_database()") == [(APP_USER,)]


@pytest.mark.server("postgresql-15")
@pytest.mark.parametrize("text", ["set role shop", "set role shop; reset role", "reset all"])
def test_a_role_that_alternating_users_share_outlives_the_rotation(service, server, front, authority, text):
    """What a session set as one of the two is made again as the other; who it logged in as is not among it."""
    with server.admin() as admin:
        admin.execute("drop role if exists shop")
        admin.execute(f"create role shop role {APP_USER}")
    source = source_of(service, f"shared-role-{text}".replace(" ", "-").replace(";", ""), refresh=0.01)
    rotation = Rotation(service, server, source.secret_id, strategy="alternating-users")

    def logged_in_as(name: str) -> bool:
        time.sleep(0.06)  # no database connection is kept for longer
        ((who, login),) = run(conn, "select current_user, session_user")
        assert who == ("shop" if text == "set role shop" else login)
        return login == name

    with opened([front], authority, source, connection_max_lifetime=0.05) as proxy:
        with proxy.connect(autocommit=True) as conn:
            for name in (APP_USER, f"{APP_USER}_clone", APP_USER):
                for each in text.split(";"):
                    run(conn, each)
                until(partial(logged_in_as, name), f"the session is on a database connection of {name}")
                rotation.rotate()
        assert proxy.stats().relabel_failures == 0


@pytest.mark.server("postgresql-15")
def test_a_user_that_is_nobodys_clone_has_its_own_database(server, front, authority):
    """Whatever its name ends in: only a secret's users take turns."""
    with server.admin() as admin:
        admin.execute("create role shop_clone login password 'hush'")
        admin.execute("create database shop_clone")
    source = rdsproxy_lib.Static("shop_clone", "hush")
    tls = tls_of("verify-identity", authority)
    proxy = rdsproxy_lib.Proxy(f"postgresql://localhost:{front.port}", credentials=source, tls=tls)
    with proxy, proxy.connect() as conn:
        assert run(conn, "select current_database()") == [("shop_clone",)]


@pytest.mark.server("mariadb-10.11")
def test_the_secrets_database_is_that_of_each_session(service, authority):
    """Also where a session before went to another one, on the same database connection."""
    with Place("mariadb-10.11") as place, place.front(authority=authority) as front:
        source = source_of(service, "its-database", dbname=APP_DATABASE)
        tls = tls_of("verify-identity", authority)
        options = {"credentials": source, "tls": tls, "max_connections": 1}
        with rdsproxy_lib.Proxy(f"mysql://localhost:{front.port}", **options) as proxy:
            for _ in range(3):
                with proxy.connect() as conn:
                    assert run(conn, "select database()") == [(APP_DATABASE,)]
                    run(conn, "use information_schema")


@pytest.mark.server("postgresql-15")
def test_keywords_and_the_url_win_over_the_secret(service, front, authority):
    """Each for itself."""
    place = {"host": "localhost", "port": 1, "dbname": "nowhere", "engine": "postgres"}
    source = source_of(service, "overruled", **place)
    tls = tls_of("verify-identity", authority)
    given = {"credentials": source, "tls": tls}
    for proxy in (
        rdsproxy_lib.Proxy(engine="postgresql", port=front.port, dbname=APP_DATABASE, **given),
        rdsproxy_lib.Proxy(f"postgresql:///{APP_DATABASE}", port=front.port, **given),
    ):
        with proxy, proxy.connect() as conn:
            assert run(conn, "select current_database()") == [(APP_DATABASE,)]


def test_the_drivers_arguments_win_over_the_secret(place, service, authority, monkeypatch):
    """A port and a database that stand among them, in whatever way they came there."""
    monkeypatch.setattr(registry, "_proxies", {})
    database = "dbname" if place.is_postgresql else "database"
    with place.front(authority=authority) as front:
        away = {"host": "localhost", "port": 1, "dbname": "nowhere", "engine": place.engine}
        given = {"credentials": source_of(service, "driver's", **away), "tls": tls_of("verify-identity", authority)}
        own = {"port": front.port, database: APP_DATABASE}
        proxies = [
            rdsproxy_lib.Proxy(f"{place.engine}:///{APP_DATABASE}?port={front.port}", **given),
            rdsproxy_lib.Proxy(engine=place.engine, driver_options=own, **given),
            rdsproxy_lib.Proxy(driver_options=own, **given),
        ]
        ways = [
            *(proxy.connect for proxy in proxies),
            lambda: rdsproxy_lib.connect(engine=place.engine, **own, rdsproxy=given),
            lambda: rdsproxy_lib.connect(f"{place.engine}:///{APP_DATABASE}?port={front.port}", rdsproxy=given),
        ]
        for connect in ways:
            with closing(connect()) as conn:
                current = "current_database()" if place.is_postgresql else "database()"
                assert run(conn, f"select {current}") == [(APP_DATABASE,)]
        proxies += registry._proxies.values()
        assert len(proxies) == 4, "what is shared, is one"
        for proxy in proxies:
            assert [target.host for target in proxy.targets()] == [f"localhost:{front.port}"]
            proxy.close()


@pytest.mark.server("postgresql-15")
def test_a_host_of_the_drivers_arguments_is_the_server(service, front, authority):
    """Then neither host nor port are the secret's; which engine it is may still be."""
    away = {"host": "nowhere.invalid", "port": 1, "dbname": APP_DATABASE, "engine": "postgres"}
    own = {"host": "localhost", "port": front.port}
    given = {"credentials": source_of(service, "moved", **away), "tls": tls_of("verify-identity", authority)}
    with rdsproxy_lib.Proxy(driver_options=own, **given) as proxy, proxy.connect() as conn:
        assert run(conn, "select current_database()") == [(APP_DATABASE,)]


@pytest.mark.parametrize(("engine", "other"), [("mysql", "postgres"), ("postgresql", "aurora-mysql")])
def test_a_host_of_another_engine_is_an_error(service, engine, other):
    """Each would wait for the other to speak. What is not known is left to who said engine=."""
    source = source_of(service, "whose-engine", host="localhost", port=1, engine=other)
    for given in ({"engine": engine}, {"url": f"{engine}:///shop"}):
        proxy = rdsproxy_lib.Proxy(**given, credentials=source)
        with pytest.raises(ConfigurationError, match=f"engine is '{other}', and the Proxy's is '{engine}'") as caught:
            proxy.connect()
        assert source.secret_id in str(caught.value)
    strange = source_of(service, "strange-engine", host="localhost", port=1, engine="any")
    rdsproxy_lib.Proxy(engine=engine, credentials=strange, connection_borrow_timeout=0.2).connect().close()


@pytest.mark.parametrize("port", ["x", "5432.0", 70000, "5432 ", -1])
def test_a_port_that_is_none_is_the_secrets(service, port):
    """Which secret, which of its keys, and what would be one; a port that somebody gave is taken instead."""
    source = source_of(service, "bad-port", host="localhost", port=port, engine="postgres")
    with pytest.raises(ConfigurationError, match=r"its port must be a number from 1 to 65535$") as caught:
        rdsproxy_lib.Proxy(credentials=source).connect()
    assert source.secret_id in str(caught.value)
    rdsproxy_lib.Proxy(credentials=source, port=1, connection_borrow_timeout=0.2).connect().close()


def test_a_secret_without_a_host_needs_one(service):
    """Said at the first connect(), as the driver's error too where the engine is known."""
    source = source_of(service, "no-host")
    with pytest.raises(ConfigurationError, match="has no host in it"):
        rdsproxy_lib.Proxy(engine="postgresql", credentials=source).connect()
    strange = source_of(service, "strange", host="localhost", engine="oracle")
    with pytest.raises(ConfigurationError, match="engine is 'oracle'"):
        rdsproxy_lib.Proxy(credentials=strange).connect()
    away = SecretsManager("not-there", endpoint_url=service.endpoint_url)
    with pytest.raises(CredentialsError, match="ResourceNotFoundException") as caught:
        rdsproxy_lib.Proxy("mysql://", credentials=away).connect()
    assert isinstance(caught.value, rdsproxy_lib.pymysql.OperationalError)


def test_a_closed_proxy_asks_nobody(service):
    """Before it has asked where the server is as well."""
    proxy = rdsproxy_lib.Proxy(credentials=source_of(service, "closed", host="localhost", engine="postgres"))
    proxy.close()
    assert proxy.is_closed
    for use in (proxy.connect, proxy.pause, proxy.endpoint, lambda: proxy.drain("localhost")):
        with pytest.raises(rdsproxy_lib.ProxyClosed):
            use()
    assert service.count() == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"read_write_splitting": True}, "needs several hosts"),
        ({"session_pinning_filters": ("EXCLUDE_VARIABLE_SETS",)}, "is for MySQL and MariaDB"),
        ({"driver_options": {"sslmode": "verify-full"}, "tls": TLS()}, "either sslmode or tls="),
    ],
)
def test_what_contradicts_the_secret_is_said_each_time(service, option, said):
    """Nothing of the Proxy is left half-made that a later connect() would take for all of it."""
    source = source_of(service, "contradicted", host="localhost", port=1, engine="postgres")
    proxy = rdsproxy_lib.Proxy(credentials=source, **option)

    def fails(number: int) -> None:
        with pytest.raises(ConfigurationError, match=said):
            proxy.connect()
        assert proxy.targets() == ()
        assert "nothing asked yet" in repr(proxy)

    with ThreadPoolExecutor(8) as threads:
        assert len([*threads.map(fails, range(100))]) == 100
    proxy.close()
    assert proxy.is_closed
    with pytest.raises(rdsproxy_lib.ProxyClosed):
        proxy.connect()


def test_who_only_looks_asks_nobody(service):
    """stats(), targets() and their like tell of a Proxy that has nothing yet, also where AWS is away."""
    proxy = rdsproxy_lib.Proxy(credentials=SecretsManager("away", endpoint_url=service.endpoint_url), max_connections=7)
    with service.trouble("refuse"):
        assert proxy.stats() == rdsproxy_lib.Proxy("postgresql://db/shop", max_connections=7).stats()
        assert proxy.targets() == ()
        assert not proxy.is_paused
        assert not proxy.is_closed
        assert "nothing asked yet" in repr(proxy)
        proxy.resume()
        proxy.resume("localhost")
        proxy.add_event_handler(print)
        proxy.close()
    assert proxy.stats().database_connections == 0
    assert service.count() == 0


@pytest.mark.server("postgresql-15")
@pytest.mark.parametrize("way", ["pause", "drain"])
def test_planned_work_before_the_first_connect_asks_for_the_server(service, front, authority, way):
    """It is paused from then on, as any other Proxy."""
    where = {"host": "localhost", "port": front.port, "dbname": APP_DATABASE, "engine": "postgres"}
    source = source_of(service, f"planned-{way}", **where)
    with rdsproxy_lib.Proxy(credentials=source, tls=tls_of("verify-identity", authority)) as proxy:
        proxy.pause() if way == "pause" else proxy.drain("localhost")
        assert proxy.is_paused
        assert service.count() == 1
        with proxy.connect(autocommit=True) as conn, ThreadPoolExecutor(1) as other:
            answer = other.submit(run, conn, "select 1")
            until(lambda: proxy.stats().borrows_waiting == 1, "the statement waits")
            assert front.logins == []
            proxy.resume()
            assert answer.result() == [(1,)]


def test_planned_work_says_what_is_wrong_with_the_secret(service):
    """As the first connect() does; an endpoint needs to know the hosts as well."""
    proxy = rdsproxy_lib.Proxy(credentials=SecretsManager("not-there", endpoint_url=service.endpoint_url))
    for use in (proxy.pause, proxy.endpoint, lambda: proxy.drain("localhost")):
        with pytest.raises(CredentialsError, match="ResourceNotFoundException"):
            use()
    one_host = source_of(service, "one-host", host="localhost", port=1, engine="postgres")
    with pytest.raises(ConfigurationError, match="needs several hosts"):
        rdsproxy_lib.Proxy(credentials=one_host).endpoint("READ_ONLY")


@pytest.mark.server("postgresql-15")
def test_shared_proxies_are_found_by_the_secrets_name(service, front, authority):
    """connect() makes a source each time, and the Proxy is the same."""
    arn = service.create("shared", username=APP_USER, password=APP_PASSWORD)
    tls = tls_of("verify-identity", authority)

    def connect():
        source = SecretsManager(arn, endpoint_url=service.endpoint_url)
        options = {"credentials": source, "tls": tls}
        return rdsproxy_lib.connect(f"postgresql://localhost:{front.port}/{APP_DATABASE}", rdsproxy=options)

    before = set(registry._proxies.values())
    with connect(), connect():
        (proxy,) = set(registry._proxies.values()) - before
        assert proxy.stats().client_connections == 2
    proxy.close()
    assert service.count() == 1


# -- one database for a session, one turn for a login, one user's trouble


@pytest.mark.server("postgresql-15")
def test_all_database_connections_of_a_login_are_to_one_database(
    service, server, front, authority, tmp_path, monkeypatch
):
    """Whatever a secret says later, and whoever of two users logs in: that of a service file, too."""
    with server.admin() as admin:
        admin.execute("drop database if exists another")
        admin.execute("create database another")
    services = tmp_path / "services.conf"
    services.write_text("[shop]\ndbname=another\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    tls = tls_of("verify-identity", authority)
    place = f"postgresql://localhost:{front.port}"
    lasting = {"tls": tls, "connection_max_lifetime": 0.05}
    for url, expected in ((f"{place}?service=shop", "another"), (place, APP_USER)):
        with server.admin() as admin:
            admin.execute(f"alter role {APP_USER} password '{APP_PASSWORD}'")
        source = source_of(service, "one-for-all")
        rotation = Rotation(service, server, source.secret_id, strategy="alternating-users")
        with rdsproxy_lib.Proxy(url, credentials=source, **lasting) as proxy:
            found = set()
            for number in range(4):
                with proxy.connect(autocommit=True) as conn:
                    found.add(run(conn, "select current_database()")[0][0])
                rotation.rotate()
                if number == 1:
                    text = {**service.read(source.secret_id), "dbname": "elsewhere"}
                    service.manager.put_secret_value(SecretId=source.secret_id, SecretString=json.dumps(text))
                time.sleep(0.1)
            assert found == {expected}


@pytest.mark.server("postgresql-15")
def test_a_secret_that_cannot_be_had_is_nobody_elses_trouble(service, front, authority):
    """Who waits for the service holds no place in the pool for longer than a moment."""
    not_yet = SecretsManager("not-yet", endpoint_url=service.endpoint_url)
    sources = {"nobody": not_yet, APP_USER: rdsproxy_lib.Static(APP_USER, APP_PASSWORD)}
    options = {"connection_borrow_timeout": 4.0, "max_connections": 4}
    with service.trouble("hang", "GetSecretValue"), opened([front], authority, sources, **options) as proxy:
        waiting = [proxy.connect(user="nobody", autocommit=True) for _ in range(5)]
        threads = [threading.Thread(target=_tried, args=(conn,)) for conn in waiting]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        began = time.monotonic()
        with proxy.connect(user=APP_USER, autocommit=True) as conn:
            assert run(conn, "select 1") == [(1,)]
        assert time.monotonic() - began < 2.0
        for thread in threads:
            thread.join()


def _tried(conn):
    with conn, pytest.raises(rdsproxy_lib.Error):
        run(conn, "select 1")


def test_a_turn_that_was_lost_is_over_after_a_second():
    """An interrupt may hit any line: nobody waits for ever for whoever had the turn."""
    door = module._Door()
    assert door.take_turn("lost", time.monotonic() + 1)
    began = time.monotonic()
    assert door.take_turn("next", began + 5)
    assert 0.9 < time.monotonic() - began < 2
    door.end_turn("lost")
    assert not door.take_turn("third", time.monotonic() + 0.1), "it is the next one's, who has not ended it"
