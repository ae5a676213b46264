"""What `tls=` and `require_tls=` promise beside the modes: versions, certificates of clients, whose word counts."""

from __future__ import annotations

import re
import ssl

import pytest
from psycopg import pq

import rdsproxy_lib
from rdsproxy_lib import TLS, ConfigurationError, IamToken, TlsRequired, trust
from rdsproxy_lib.config import VERIFYING_MODES
from tests.cluster.aws import Names
from tests.cluster.history import run
from tests.login.authority import Authority
from tests.login.front import NAME
from tests.login.place import fails, has_tls, saw_nothing, source_of, tls_of
from tests.servers import APP_DATABASE, APP_PASSWORD, HOST

pytestmark = pytest.mark.usefixtures("aws", "names")


def test_a_unix_socket_implies_nothing(mysql_server, service):
    """With `unix_socket` in the URL or beside it: what goes there goes to this machine."""
    source = source_of(service, "tls/unix-socket")
    for url, options in (
        (f"mysql:///{APP_DATABASE}?unix_socket={mysql_server.socket}", {}),
        (f"mysql:///{APP_DATABASE}", {"unix_socket": mysql_server.socket}),
    ):
        with rdsproxy_lib.Proxy(url, credentials=source, driver_options=options) as proxy, proxy.connect() as conn:
            assert run(conn, "select 1") == [(1,)]  # with a name that no certificate of the server has


@pytest.mark.parametrize("given", [{"tls": TLS("required")}, {"credentials": IamToken()}], ids=["tls", "iam"])
def test_an_old_libpq_is_named(monkeypatch, given):
    """It does not know all that it has to be told."""
    monkeypatch.setattr(pq, "version", lambda: 150013)
    with pytest.raises(ConfigurationError, match=r"need libpq 16 or later, and psycopg uses 15\.13"):
        rdsproxy_lib.Proxy(f"postgresql://app@{NAME}/shop", **given)


# -- require_tls


def test_require_tls_refuses_a_plaintext_server(place, authority):
    """Before the password is sent, and at once."""
    with (
        place.front(authority=authority, certificate=None) as front,
        place.proxy(front, password=APP_PASSWORD, require_tls=True) as proxy,
    ):
        assert isinstance(fails(proxy, TlsRequired), place.error)
        saw_nothing(front)


@pytest.mark.parametrize("mode", ["required", *VERIFYING_MODES])
def test_a_mode_that_needs_tls_refuses_a_plaintext_server(place, authority, mode):
    """By the same class as require_tls, before the password is sent, and at once."""
    tls = tls_of(mode, authority)
    with (
        place.front(authority=authority, certificate=None) as front,
        place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy,
    ):
        assert isinstance(fails(proxy, TlsRequired), place.error)
        saw_nothing(front)


def test_require_tls_takes_a_server_that_has_it(place, authority):
    """Any certificate will do: `tls=` is for more."""
    with (
        place.front(authority=authority, certificate="self-signed") as front,
        place.proxy(front, password=APP_PASSWORD, require_tls=True) as proxy,
    ):
        assert has_tls(proxy, front)


OPTIONAL = {
    "postgresql": [{"sslmode": "disable"}, {"sslmode": "allow"}, {"sslmode": "prefer"}],
    "mysql": [
        {"ssl_disabled": True},
        {"ssl": {}},
        {"ssl": None},
        {"ssl_verify_cert": False},
        {"ssl_verify_identity": False},
        {"ssl_key_password": "x"},
    ],
}
"""The drivers' arguments with which TLS is not used, or only where the server has it."""


@pytest.mark.parametrize("where", ["connect", "driver_options"])
def test_nothing_given_beside_it_undoes_require_tls(place, authority, where):
    """What leaves it to the server whether there is TLS contradicts it, or does not count: no password is sent."""
    for arguments in OPTIONAL[place.engine]:
        with place.front(authority=authority, certificate=None) as front:
            options = {"driver_options": arguments} if where == "driver_options" else {}
            with pytest.raises((ConfigurationError, place.error)):
                place.proxy(front, password=APP_PASSWORD, require_tls=True, **options).connect(
                    **(arguments if where == "connect" else {})
                )
            saw_nothing(front)


@pytest.mark.parametrize("mode", ["disabled", "preferred"])
def test_require_tls_contradicts_a_mode_that_does_without(place, authority, mode):
    """Said when the Proxy is made."""
    with place.front(authority=authority) as front, pytest.raises(ConfigurationError, match="require_tls"):
        place.proxy(front, password=APP_PASSWORD, require_tls=True, tls=TLS(mode))


# -- versions


@pytest.mark.parametrize("mode", ["required", "verify-identity"])
def test_nothing_below_tls_1_2(place, authority, mode):
    """A server of old is refused, with an error that says why."""
    with (
        place.front(authority=authority, tls_max=ssl.TLSVersion.TLSv1_1) as front,
        place.proxy(front, password=APP_PASSWORD, tls=tls_of(mode, authority)) as proxy,
    ):
        fails(proxy, place.error, "(?i)unsupported.protocol|protocol.version|wrong.version")
        saw_nothing(front)


@pytest.mark.parametrize(("highest", "used"), [("TLSv1_2", "TLSv1.2"), ("TLSv1_3", "TLSv1.3")])
def test_the_highest_version_that_both_have(place, authority, highest, used):
    """TLS 1.2 where the server has no more, and 1.3 where it can."""
    tls = TLS("verify-identity", ca_file=str(authority.ca_file))
    with (
        place.front(authority=authority, tls_max=ssl.TLSVersion[highest]) as front,
        place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy,
    ):
        assert has_tls(proxy, front)
        assert {login.tls for login in front.logins if login.is_accepted} == {used}


def test_a_higher_minimum_is_kept(place, authority):
    """`min_version="TLSv1.3"` refuses a server that has 1.2 at most, and says so."""
    tls = TLS("verify-identity", ca_file=str(authority.ca_file), min_version="TLSv1.3")
    with place.front(authority=authority, tls_max=ssl.TLSVersion.TLSv1_2) as front:
        with place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy:
            fails(proxy, place.error, "(?i)protocol.version|unsupported.protocol")
        saw_nothing(front)
        front.tls_max = ssl.TLSVersion.TLSv1_3
        with place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy:
            assert has_tls(proxy, front)


# -- client certificates


@pytest.mark.parametrize("highest", ["TLSv1_2", "TLSv1_3"])
def test_a_server_that_wants_a_certificate_gets_it(place, authority, highest):
    """With `cert` and `key`; without, its refusal is an error at once, and no password was sent."""
    cert, key = map(str, authority.certificate("client"))
    ca_file = str(authority.ca_file)
    with place.front(authority=authority, client_ca=authority.ca_file, tls_max=ssl.TLSVersion[highest]) as front:
        with place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file=ca_file, cert=cert, key=key)) as proxy:
            assert has_tls(proxy, front)
        front.logins.clear()
        front.received.clear()
        with place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file=ca_file)) as proxy:
            fails(proxy, place.error, "(?i)certificate.required|handshake.failure")
        saw_nothing(front)


@pytest.mark.parametrize("mode", ["required", "verify-identity"])
def test_a_file_that_is_not_there_is_named(place, authority, mode):
    """Whatever the mode, when the Proxy is made."""
    cert, key = map(str, authority.certificate("client"))
    wrong = [{"cert": "/nowhere/c.pem", "key": key}, {"cert": cert, "key": "/nowhere/k.pem"}]
    if mode in VERIFYING_MODES:
        wrong.append({"ca_file": "/nowhere/ca.pem"})
    with place.front(authority=authority) as front:
        for files in wrong:
            with pytest.raises(ConfigurationError, match=r"/nowhere/\w+\.pem"):
                place.proxy(front, password=APP_PASSWORD, tls=TLS(mode, **files))


def test_a_file_that_is_no_certificate_is_named(place, authority, tmp_path):
    """As an error that has the path in it, when the Proxy is made or at the first connect()."""
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("this is no certificate\n")
    with place.front(authority=authority) as front:
        with pytest.raises((ConfigurationError, place.error), match=r"rubbish\.pem"):
            place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file=str(rubbish))).connect()
        saw_nothing(front)


# -- the authorities of RDS


def test_rds_is_an_installed_bundle(place, authority, monkeypatch, tmp_path):
    """`ca_file="rds"` takes the first of the places that is there."""
    monkeypatch.setattr(trust, "RDS_BUNDLES", (str(tmp_path / "none.pem"), str(authority.ca_file)))
    with place.front(authority=authority) as front:
        with place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file="rds")) as proxy:
            assert has_tls(proxy, front)
        front.certificate = "self-signed"
        with place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file="rds")) as proxy:
            fails(proxy, place.error, "self-signed")


def test_without_a_bundle_it_is_said_where_to_get_it(place, authority, monkeypatch, tmp_path):
    """The places that were looked at, and the address to download it from."""
    nowhere = str(tmp_path / "none.pem")
    monkeypatch.setattr(trust, "RDS_BUNDLES", (nowhere,))
    with place.front(authority=authority) as front:
        with pytest.raises(ConfigurationError) as caught:
            place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file="rds"))
        assert nowhere in str(caught.value)
        assert "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem" in str(caught.value)
        assert front.accepted == 0


@pytest.mark.parametrize("ca_file", ["rds", None])
def test_rds_proxys_authority_is_one_of_the_systems(place, monkeypatch, names, tmp_path, ca_file):
    """Its certificates are of Amazon Trust Services: no bundle is needed, and RDS' own would not do."""
    host = f"shop.proxy-{NAME.partition('.')[2]}"
    names.table[host] = [HOST]
    system = Authority(tmp_path, [host])
    monkeypatch.setenv("SSL_CERT_FILE", str(system.ca_file))
    monkeypatch.setattr(trust, "RDS_BUNDLES", ())
    with (
        place.front(authority=system) as front,
        place.proxy(front, host=host, password=APP_PASSWORD, tls=TLS(ca_file=ca_file)) as proxy,
    ):
        assert has_tls(proxy, front)


@pytest.mark.parametrize("bad", ["expired", "wrong-name"])
def test_each_of_several_hosts_is_verified_by_its_own_name(place, authority, names, bad):
    """One whose certificate is wrong gets no password, and the others do the work."""
    other = NAME.replace("shop-1", "shop-2")
    names.table[other] = ["127.0.0.2"]
    tls = TLS(ca_file=str(authority.ca_file))
    with (
        place.front(authority=authority) as good,
        place.front(authority=authority, certificate=bad, host="127.0.0.2", port=good.port) as front,
    ):
        with (
            place.proxy(good, host=f"{other},{NAME}", password=APP_PASSWORD, tls=tls) as proxy,
            proxy.connect() as conn,
        ):
            assert run(conn, "select 1") == [(1,)]
            assert proxy.stats().database_connections_with_tls == proxy.stats().database_connections == 1
        saw_nothing(front)
        good.certificate = bad
        with place.proxy(good, host=f"{other},{NAME}", password=APP_PASSWORD, tls=tls) as proxy:
            fails(proxy, place.error, "certificate")


# -- tls= and the driver's own arguments

OWN = {
    "postgresql": [
        {"sslmode": "disable"},
        {"sslmode": "verify-full"},
        {"sslrootcert": "/ca.pem"},
        {"sslcert": "/c.pem"},
        {"sslkey": "/k.pem"},
        {"ssl_min_protocol_version": "TLSv1"},
        {"gssencmode": "prefer"},
    ],
    "mysql": [
        {"ssl": {"ca": "/ca.pem"}},
        {"ssl": None},
        {"ssl_disabled": True},
        {"ssl_disabled": False},
        {"ssl_ca": "/ca.pem"},
        {"ssl_cert": "/c.pem"},
        {"ssl_key": "/k.pem"},
        {"ssl_key_password": "x"},
        {"ssl_verify_cert": True},
        {"ssl_verify_identity": False},
    ],
}


@pytest.mark.parametrize("where", ["connect", "driver_options"])
@pytest.mark.parametrize("mode", ["disabled", "verify-identity"])
def test_the_drivers_own_arguments_contradict_tls(place, authority, mode, where):
    """One place says how connections are encrypted. Two are an error, before anything is sent."""
    tls = tls_of(mode, authority)
    with place.front(authority=authority) as front:
        for arguments in OWN[place.engine]:
            (name,) = arguments
            options = {"driver_options": arguments} if where == "driver_options" else {}
            with pytest.raises(ConfigurationError, match=name):
                place.proxy(front, password=APP_PASSWORD, tls=tls, **options).connect(
                    **(arguments if where == "connect" else {})
                )
        assert front.accepted == 0


@pytest.mark.parametrize(
    "place", [pytest.param("postgresql-15", marks=pytest.mark.server("postgresql-15"))], indirect=True
)
@pytest.mark.parametrize("mode", ["disabled", "preferred"])
def test_libpq_cannot_be_told_to_send_the_password_all_the_same(place, authority, mode):
    """Without TLS it goes to nobody in clear; what else `require_auth` may say is not for tls= to judge."""
    tls = TLS(mode)
    with place.front(authority=authority) as front:
        for arguments in ({"require_auth": "password"}, {"require_auth": "none,password"}):
            with pytest.raises(ConfigurationError, match="require_auth"):
                place.proxy(front, password=APP_PASSWORD, tls=tls).connect(**arguments)
        assert front.accepted == 0
        with place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy:
            proxy.connect(gssencmode="disable", sslsni="0").close()


def test_an_address_is_verified_as_such(place, authority):
    """What is dialled counts: the certificate is for this address too, and not for that of another machine."""
    tls = TLS(ca_file=str(authority.ca_file))
    with place.front(authority=authority) as front:
        with place.proxy(front, host=HOST, password=APP_PASSWORD, tls=tls) as proxy:
            assert has_tls(proxy, front)
        front.certificate = "wrong-name"
        with place.proxy(front, host=HOST, password=APP_PASSWORD, tls=tls) as proxy:
            fails(proxy, place.error, "127.0.0.1")


def test_a_name_that_the_certificate_has_not_is_refused(place, authority, names: Names):
    """Another instance of the same name pattern in another region has its own certificate."""
    other = NAME.replace("c1a2b3", "x.c1a2b3")
    names.table[other] = [HOST]
    tls = TLS(ca_file=str(authority.ca_file))
    with place.front(authority=authority) as front:
        with place.proxy(front, host=other, password=APP_PASSWORD, tls=tls) as proxy:
            fails(proxy, place.error, re.escape(other))
        saw_nothing(front)
