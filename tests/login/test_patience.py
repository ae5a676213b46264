"""Who waits for a secret, how long, how often somebody is asked meanwhile, and what is said in the end."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from contextlib import closing, suppress

import pytest

import rdsproxy_lib
from rdsproxy_lib import BorrowTimeout, CredentialsError, ProxyClosed
from tests.cluster.history import run
from tests.cluster.nodes import until
from tests.login.place import QUICK, source_of, tls_of
from tests.servers import APP_DATABASE, HOST

pytestmark = pytest.mark.usefixtures("names")

WAITING = 6
"""Threads that want to log in."""
on_postgresql = pytest.mark.parametrize(
    "place", [pytest.param("postgresql-15", marks=pytest.mark.server("postgresql-15"))], indirect=True
)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("throttle", "ThrottlingException"),
        ("fail", "InternalServiceError"),
        ("refuse", "Could not connect to the endpoint"),
    ],
)
def test_a_service_that_is_away_from_the_beginning_is_said_to_the_application(place, authority, service, kind, said):
    """connect() returns; statements end in BorrowTimeout that names the secret and the error, until all is well."""
    source = source_of(service, f"patience/{kind}")
    options = {"credentials": source, "tls": tls_of("verify-identity", authority), "connection_borrow_timeout": 0.6}
    with place.front(authority=authority) as front, place.proxy(front, **options) as proxy:
        with service.trouble(kind):
            begun = time.monotonic()
            conn = proxy.connect(autocommit=True)
            assert time.monotonic() - begun < QUICK + 1
            with closing(conn):
                begun = time.monotonic()
                with pytest.raises(BorrowTimeout) as caught:
                    run(conn, "select 1")
                assert time.monotonic() - begun < 2
                assert isinstance(caught.value, place.error)
                cause = caught.value.__cause__
                assert isinstance(cause, CredentialsError)
                for text in (str(caught.value), str(cause)):
                    assert source.secret_id in text
                    assert said in text
        assert front.logins == []

        def is_well() -> bool:
            try:
                with proxy.connect(autocommit=True) as conn:
                    return run(conn, "select 1") == [(1,)]
            except BorrowTimeout:
                return False

        until(is_well, "the service is back")
        assert [login.is_accepted for login in front.logins[:1]] == [True]


@on_postgresql
def test_a_host_that_refuses_every_version_is_asked_with_growing_pauses(place, authority, service):
    """From 0.2 s to 2 s, each ± 20 %, one login at a time, however many wait."""
    user = "patient"
    place.add_user(user, "first")
    source = source_of(service, "patience/refused", username=user, password="first")
    options = {
        "user": None,
        "credentials": source,
        "tls": tls_of("verify-identity", authority),
        "connection_borrow_timeout": 7.5,
        "connection_max_lifetime": 0.05,
    }
    errors: list[Exception] = []
    inside: list[int] = [0]
    most: list[int] = [0]
    lock = threading.Lock()
    try:
        with place.front(authority=authority) as front, place.proxy(front, **options) as proxy:
            log_in = front.log_in

            def counted(*arguments):
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                try:
                    return log_in(*arguments)
                finally:
                    with lock:
                        inside[0] -= 1

            with proxy.connect(autocommit=True) as conn:
                run(conn, "select 1")
            with place.server.admin() as admin:
                run(admin, f"alter role {user} password 'another'")
            time.sleep(0.1)
            front.log_in = counted

            def work() -> None:
                try:
                    with proxy.connect(autocommit=True) as conn:
                        run(conn, "select 1")
                except Exception as error:
                    errors.append(error)

            workers = [threading.Thread(target=work) for _ in range(WAITING)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            refused = [login.at for login in front.refused]
    finally:
        place.drop_user(user)
    assert len(errors) == WAITING
    assert all(isinstance(error, BorrowTimeout) for error in errors), errors
    gaps = [later - earlier for earlier, later in itertools.pairwise(refused)]
    slack = 0.6  # a login takes its time, and so do two calls to the service
    for gap, pause in zip(gaps, (0.2, 0.4, 0.8, 1.6, 2.0, 2.0), strict=False):
        assert 0.8 * pause <= gap <= 1.2 * pause + slack, gaps
    assert len(gaps) >= 4, gaps
    assert max(gaps) > 1.2, "they grow"
    assert most == [1], "one is in flight"


def test_a_login_that_drips_in_is_given_up_in_time(monkeypatch):
    """Its time is for the whole of it, not for each answer of the server, or each byte of one."""
    monkeypatch.setattr("rdsproxy_lib.proxy.FIRST_CHECK_SECONDS", 1.0)
    greeting = b"\xff\0\0\0\x0a8.0.30\0" + bytes(247)

    def drip() -> None:
        with listener.accept()[0] as client, suppress(OSError):
            for byte in greeting:
                client.sendall(bytes((byte,)))
                time.sleep(0.05)
            gone.set()  # it waited to the end

    gone = threading.Event()
    with socket.create_server((HOST, 0)) as listener:
        server = threading.Thread(target=drip)
        server.start()
        port = listener.getsockname()[1]
        source = rdsproxy_lib.Static("app", "hush")
        options = {"credentials": source, "connection_borrow_timeout": 1.0}
        with rdsproxy_lib.Proxy(f"mysql://{HOST}:{port}/shop", **options) as proxy:
            proxy.connect().close()
        server.join()
    assert not gone.is_set()


def test_a_proxy_is_closed_while_a_service_that_hangs_is_asked_where_the_server_is(service):
    """close() waits for nobody, and who waits in connect() is told within the 5 s that it waits at most."""
    place = {"host": "localhost", "port": 1, "dbname": APP_DATABASE, "engine": "postgres"}
    source = source_of(service, "patience/hangs", **place)
    proxy = rdsproxy_lib.Proxy(credentials=source)
    told: list[tuple[BaseException, float]] = []
    begun = time.monotonic()

    def connect() -> None:
        try:
            proxy.connect()
        except BaseException as error:
            told.append((error, time.monotonic() - begun))

    waiting = [threading.Thread(target=connect) for _ in range(2)]
    with service.trouble("hang", "GetSecretValue"):
        for each in waiting:
            each.start()
        until(lambda: service.count() == 1, "the service is asked")
        now = time.monotonic()
        proxy.close()
        took = time.monotonic() - now
        assert proxy.is_closed
        for each in waiting:
            each.join(10)
    assert len(told) == 2
    assert all(isinstance(error, ProxyClosed | CredentialsError) for error, _ in told), told
    assert took < 0.5
    assert all(seconds < 5.5 for _, seconds in told), told


def test_a_proxy_that_was_closed_stays_so_when_its_secret_comes(service):
    """Also where whoever asked for it was interrupted, and waits for it no more."""
    place = {"host": "localhost", "port": 1, "dbname": APP_DATABASE, "engine": "postgres"}
    proxy = rdsproxy_lib.Proxy(credentials=source_of(service, "patience/late", **place))
    with service.trouble("hang", "GetSecretValue", times=1):
        flight = proxy._building.start(None, proxy._find_server)
        until(lambda: service.count() == 1, "the service is asked")
        proxy.close()
    flight.result()
    assert proxy.is_closed
    with pytest.raises(ProxyClosed):
        proxy.connect()
