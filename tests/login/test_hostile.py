"""A server that wants the password in clear, or by a key of its own, or that strips TLS, gets nothing.

Each test has the driver itself as the control: the same server does learn the password from that.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import psycopg
import pytest

from rdsproxy_lib import TLS, ConfigurationError, IamToken, Proxy, Static, TlsRequired
from rdsproxy_lib.config import TLS_MODES, VERIFYING_MODES
from tests.cluster.history import run
from tests.login.front import NAME, Front
from tests.login.place import HOSTILE, KINDS, QUICK, Place, engine_of, source_of, tls_of
from tests.login.secrets_manager import Service
from tests.servers import APP_USER

pytestmark = pytest.mark.usefixtures("aws", "names")

PASSWORD = "planted-6f1d0c-in-no-clear-text"
CLEAR_TEXT = r"server requested a cleartext password|the server asks for the password without TLS"
NO_TLS = "server does not support SSL|SSL is required but the server doesn't support it"
NOT_TRUSTED = "certificate verify failed|does not match host name|certificate is not valid for"

each_wish = pytest.mark.parametrize(
    ("place", "check"),
    [
        pytest.param(kind, check, marks=pytest.mark.server(kind), id=f"{kind}-{check}")
        for kind in KINDS
        for check in HOSTILE[engine_of(kind)]
    ],
    indirect=["place"],
)

on_postgresql, on_mysql = (
    pytest.mark.parametrize("place", [pytest.param(kind, marks=pytest.mark.server(kind))], indirect=True)
    for kind in ("postgresql-15", "mysql-9.7")
)


def gets_nothing(front: Front, proxy: Proxy, error: type[Exception], text: str, **arguments: Any) -> None:
    """connect() fails soon, with an error that says why and does not have the password; and so it does again."""
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(error, match=text) as caught:
            proxy.connect(**arguments)
        assert time.monotonic() - begun < QUICK
        assert PASSWORD not in f"{caught.value!r} {caught.value}"
    assert proxy.stats().database_connections == 0
    learned_nothing(front)


def learned_nothing(front: Front) -> None:
    """Neither in clear, nor by a key of its own, nor a token."""
    assert front.learned == []
    assert PASSWORD.encode() not in front.received
    assert b"X-Amz-Signature" not in front.received


def learns(place: Place, front: Front, **keywords: Any) -> None:
    """The control: the driver itself tells the front the password."""
    front.learned.clear()
    with pytest.raises(place.error):
        place.private(front, PASSWORD, **keywords)
    assert front.learned == [PASSWORD.encode()]


# -- without TLS


@each_wish
@pytest.mark.parametrize("mode", TLS_MODES)
def test_who_asks_without_tls_gets_nothing(place, check, mode, authority):
    """In no mode. Where the mode would do without TLS, the error says what was asked for."""
    text = CLEAR_TEXT if mode in ("disabled", "preferred") else NO_TLS
    with place.front(check=check) as front:
        with place.proxy(front, password=PASSWORD, tls=tls_of(mode, authority)) as proxy:
            gets_nothing(front, proxy, place.error, text)
        learns(place, front)


@each_wish
def test_disabled_means_without_tls_where_the_server_has_it_too(place, check, authority):
    """A server that would do TLS is told no more."""
    with place.front(check=check, authority=authority) as front:
        with place.proxy(front, password=PASSWORD, tls=TLS("disabled")) as proxy:
            gets_nothing(front, proxy, place.error, CLEAR_TEXT)
        learns(place, front)


@each_wish
@pytest.mark.parametrize("mode", TLS_MODES)
def test_each_credential_given_to_connect_is_guarded(place, check, mode, authority):
    """A password that comes with connect(), or for one of several users, is no other than the proxy's."""
    tls = tls_of(mode, authority)
    text = CLEAR_TEXT if mode in ("disabled", "preferred") else NO_TLS
    with place.front(check=check) as front:
        with place.proxy(front, tls=tls) as proxy:
            gets_nothing(front, proxy, place.error, text, password=PASSWORD)
        with place.proxy(front, tls=tls, credentials={APP_USER: Static(APP_USER, PASSWORD)}) as proxy:
            gets_nothing(front, proxy, place.error, text)
        with place.proxy(front, tls=tls, credentials=lambda: (APP_USER, PASSWORD)) as proxy:
            gets_nothing(front, proxy, place.error, text)
        learns(place, front)


@each_wish
def test_require_tls_alone_is_enough(place, check):
    """Without `tls=`: there is no TLS, so nothing is told."""
    with place.front(check=check) as front:
        with place.proxy(front, password=PASSWORD, require_tls=True) as proxy:
            gets_nothing(front, proxy, place.error, NO_TLS)
        learns(place, front)


# -- TLS that is stripped, or ends at the wrong place


@each_wish
@pytest.mark.parametrize("mode", ["preferred", "required", *VERIFYING_MODES])
def test_a_downgrade_gets_nothing(place, check, mode, authority):
    """A proxy that works over TLS meets somebody on the way who says that the server has none any more."""
    with place.front(authority=authority) as front:
        with place.proxy(front, password="app-secret", tls=tls_of(mode, authority)) as proxy:
            with proxy.connect() as conn:
                assert run(conn, "select 1") == [(1,)]
            assert proxy.stats().database_connections_with_tls == 1
        front.received.clear()
        front.certificate, front.check = None, check
        with place.proxy(front, password=PASSWORD, tls=tls_of(mode, authority)) as proxy:
            gets_nothing(front, proxy, place.error, CLEAR_TEXT if mode == "preferred" else NO_TLS)
        learns(place, front)


@each_wish
@pytest.mark.parametrize("certificate", ["wrong-name", "expired", "self-signed"])
def test_who_has_no_good_certificate_gets_nothing(place, check, certificate, authority):
    """With verify-identity the password is not sent on TLS either, where it is not known who is at its end."""
    if certificate == "self-signed":
        unverified = {"sslmode": "require"} if place.is_postgresql else {"ssl": {"verify_mode": "none", "ca": None}}
    with place.front(check=check, authority=authority, certificate=certificate) as front:
        with place.proxy(front, password=PASSWORD, tls=tls_of("verify-identity", authority)) as proxy:
            gets_nothing(front, proxy, place.error, NOT_TRUSTED)
        learns(place, front)
        if certificate == "self-signed":
            learns(place, front, **unverified)


# -- what implies verify-identity


@each_wish
@pytest.mark.parametrize("certificate", [None, "self-signed"])
def test_a_token_goes_to_nobody_else(place, check, certificate, authority):
    """Neither without TLS, nor to a certificate that nobody vouches for."""
    with place.front(check=check, authority=authority, certificate=certificate) as front:
        with place.proxy(front, credentials=IamToken()) as proxy:
            gets_nothing(front, proxy, place.error, NOT_TRUSTED if certificate else NO_TLS)
        learns(place, front)


@each_wish
@pytest.mark.parametrize("certificate", [None, "self-signed"])
def test_a_secret_goes_to_nobody_else(place, check, certificate, authority, service: Service):
    """Neither without TLS, nor to a certificate that nobody vouches for."""
    source = source_of(service, "login/hostile", password=PASSWORD)
    with place.front(check=check, authority=authority, certificate=certificate) as front:
        with place.proxy(front, credentials=source) as proxy:
            gets_nothing(front, proxy, place.error, NOT_TRUSTED if certificate else NO_TLS)
        learns(place, front)


def test_a_secret_that_says_where_its_server_is_implies_it_too(place, authority, service: Service):
    """A Proxy of nothing but a secret: the host is known later, and no less verified."""
    check = HOSTILE[place.engine][0]
    with place.front(check=check, authority=authority, certificate=None) as front:
        source = source_of(
            service,
            "login/whole",
            password=PASSWORD,
            engine="postgres" if place.is_postgresql else "mariadb",
            host=NAME,
            port=front.port,
            dbname="app",
        )
        with Proxy(credentials=source) as proxy:
            gets_nothing(front, proxy, place.error, NO_TLS)
        learns(place, front)


UNVERIFIED = {
    "postgresql": [{"sslmode": mode} for mode in ("disable", "allow", "prefer", "require")],
    "mysql": [
        {"ssl_disabled": True},
        {"ssl": {"verify_mode": "none", "ca": None}},
        {"ssl_verify_cert": False},
        {"ssl_key_password": "x"},
        {"ssl_verify_cert": True},
        {"ssl_verify_identity": True},
        {"ssl": {"verify_mode": "required"}},
        {"ssl": {"cipher": "ALL"}},
    ],
}
"""The drivers' own arguments with which they verify nothing, or only that somebody vouches whom the system trusts: of
any name, as PyMySQL does not look at it without an authority."""


@pytest.mark.parametrize("where", ["connect", "driver_options"])
def test_the_drivers_arguments_get_no_token_out(place, where, authority):
    """IAM with what verifies nothing is a ConfigurationError, wherever that is said; nobody was called."""
    for arguments in UNVERIFIED[place.engine]:
        with place.front(check=HOSTILE[place.engine][0], authority=authority) as front:
            options = {"driver_options": arguments} if where == "driver_options" else {}
            with pytest.raises(ConfigurationError):
                place.proxy(front, credentials=IamToken(), **options).connect(
                    **(arguments if where == "connect" else {})
                )
            assert front.accepted == 0


@on_postgresql
@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_the_environment_undoes_nothing(place, mode, authority, monkeypatch, service: Service):
    """libpq reads it, PyMySQL has none. PGSSLMODE is for those who say nothing; a token and a secret do."""
    monkeypatch.setenv("PGSSLMODE", mode)
    monkeypatch.setenv("PGREQUIREAUTH", "password")
    secret = source_of(service, "login/environment", password=PASSWORD)
    with place.front(check="password") as front:
        for source in (IamToken(), secret):
            with place.proxy(front, credentials=source) as proxy:
                gets_nothing(front, proxy, place.error, NO_TLS)
        with place.proxy(front, password=PASSWORD, tls=TLS("preferred")) as proxy:
            gets_nothing(front, proxy, place.error, CLEAR_TEXT)
        learns(place, front)


@on_postgresql
@pytest.mark.parametrize("where", ["url", "driver_options", "PGHOST", "default"])
def test_a_unix_socket_gets_nothing_where_tls_is_required(place, where, monkeypatch, tmp_path):
    """libpq knows no TLS there, and would tell whoever listens: nobody is called."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(".s.PGSQL.5432")
        listener.listen()
        listener.settimeout(QUICK)
        url = "postgresql://app@/shop"
        options: dict[str, Any] = {}
        if where == "url":
            url = f"postgresql://app@{str(tmp_path).replace('/', '%2F')}/shop"
        elif where == "driver_options":
            options["driver_options"] = {"host": str(tmp_path)}
        elif where == "PGHOST":
            monkeypatch.setenv("PGHOST", str(tmp_path))
        instance = "shop-1.abc.eu-west-1.rds.amazonaws.com"
        for kind in (
            {"credentials": Static(APP_USER, PASSWORD), "require_tls": True},
            {"credentials": Static(APP_USER, PASSWORD), "tls": TLS("required")},
            {"credentials": IamToken(host=instance, region="eu-west-1"), "tls": TLS("verify-identity")},
        ):
            with Proxy(url, **options, **kind) as proxy, pytest.raises(TlsRequired, match="nothing was sent"):
                proxy.connect()
        if where != "default":  # the control: a driver that is not told so does call
            control = threading.Thread(target=_call_in_vain, args=(str(tmp_path),))
            control.start()
            listener.accept()[0].close()
            control.join()
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def _call_in_vain(directory: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host=directory, port=5432, user=APP_USER, password=PASSWORD, sslmode="require")


# -- later than the first login


@each_wish
def test_a_server_that_turns_hostile_later_gets_nothing(place, check, authority):
    """The host is taken over while the proxy works: the next database connection tells it nothing."""
    with place.front(authority=authority, certificate=None) as front:
        with place.proxy(front, password="app-secret", tls=TLS("preferred"), connection_borrow_timeout=3) as proxy:
            with proxy.connect() as first, proxy.connect() as second:
                assert run(first, "select 1") == [(1,)]
                first.rdsproxy.pin("test")
                front.check = check
                front.received.clear()
                begun = time.monotonic()
                with pytest.raises(place.error, match=CLEAR_TEXT):
                    run(second, "select 1")
                assert time.monotonic() - begun < QUICK
                assert run(first, "select 1") == [(1,)]
            assert front.learned == []
            assert b"app-secret" not in front.received
        learns(place, front)


# -- caching_sha2_password as it should be


@on_mysql
def test_the_fast_half_of_caching_sha2_needs_no_tls(place, authority):
    """What goes over the wire there helps nobody: once the server knows the password, it is enough."""
    place.forget_passwords()
    with place.front(authority=authority) as front:
        with place.proxy(front, password="app-secret", tls=TLS("preferred")) as proxy:
            proxy.connect().close()
        front.certificate = None
        front.received.clear()
        for mode in ("disabled", "preferred"):
            with place.proxy(front, password="app-secret", tls=TLS(mode)) as proxy, proxy.connect() as conn:
                assert run(conn, "select 1") == [(1,)]
                assert proxy.stats().database_connections_with_tls == 0
        assert b"app-secret" not in front.received


@on_mysql
@pytest.mark.parametrize("check", HOSTILE["mysql"])
@pytest.mark.parametrize("mode", ["disabled", "preferred"])
def test_before_mysql_it_is_the_same(place, check, mode):
    """Whose greeting names caching_sha2_password from the start."""
    with place.front(check=check) as front:
        with place.proxy(front, password=PASSWORD, tls=TLS(mode)) as proxy:
            gets_nothing(front, proxy, place.error, CLEAR_TEXT)
        learns(place, front)


@on_mysql
@pytest.mark.parametrize(
    "plugin", ["mysql_clear_password", "dialog", "sha256_password", "mysql_old_password", "nonsense"]
)
@pytest.mark.parametrize("check", HOSTILE["mysql"])
def test_whatever_the_greeting_proposes(place, check, plugin):
    """A greeting that names a plugin at once, and goes on with another one."""
    with (
        place.front(check=check, greeting_plugin=plugin) as front,
        place.proxy(front, password=PASSWORD, tls=TLS("disabled")) as proxy,
    ):
        gets_nothing(front, proxy, place.error, CLEAR_TEXT)
