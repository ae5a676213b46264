"""What stands in the environment and in the home directory: where it counts, and where it does not."""

from __future__ import annotations

import ssl

import pytest

import rdsproxy_lib
from rdsproxy_lib import TLS, IamToken, Static
from tests.login.authority import Authority
from tests.login.place import fails, has_tls, saw_nothing, source_of, user_of
from tests.servers import APP_DATABASE, APP_PASSWORD, APP_USER, HOST

pytestmark = pytest.mark.usefixtures("aws", "names")

on_postgresql, on_mysql = (
    pytest.mark.parametrize("place", [pytest.param(kind, marks=pytest.mark.server(kind))], indirect=True)
    for kind in ("postgresql-15", "mariadb-10.11")
)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """A home directory with nothing in it."""
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def stranger(tmp_path) -> Authority:
    """An authority that has issued nothing for our servers."""
    directory = tmp_path / "stranger"
    directory.mkdir()
    return Authority(directory, [HOST])


# -- passwords: the driver's own places


@on_postgresql
@pytest.mark.parametrize("where", ["PGPASSFILE", "home"])
def test_a_password_file_is_read(place, monkeypatch, home, tmp_path, where):
    """libpq's, where it is named and where it is looked for: without credentials= all is as it was."""
    file = home / ".pgpass" if where == "home" else tmp_path / "passwords"
    with place.front() as front:
        file.write_text(f"{HOST}:{front.port}:{APP_DATABASE}:{APP_USER}:{APP_PASSWORD}\n")
        file.chmod(0o600)
        if where == "PGPASSFILE":
            monkeypatch.setenv("PGPASSFILE", str(file))
        with place.proxy(front, host=HOST) as proxy:
            assert user_of(proxy) == APP_USER
        file.write_text(f"{HOST}:{front.port}:*:{APP_USER}:wrong\n")
        with place.proxy(front, host=HOST) as proxy:
            fails(proxy, place.error, "password authentication failed")


@on_postgresql
@pytest.mark.parametrize("where", ["PGSERVICE", "driver_options", "url"])
def test_a_service_file_is_read(place, monkeypatch, tmp_path, where):
    """PGSERVICEFILE with a service of it, however that is named: host, user and password are the file's."""
    file = tmp_path / "services"
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    with place.front() as front:
        file.write_text(
            f"[shop]\nhost={HOST}\nport={front.port}\nuser={APP_USER}\npassword={APP_PASSWORD}\ndbname={APP_DATABASE}\n"
        )
        if where == "PGSERVICE":
            monkeypatch.setenv("PGSERVICE", "shop")
        options = {"driver_options": {"service": "shop"}} if where == "driver_options" else {}
        url = "postgresql:///?service=shop" if where == "url" else "postgresql://"
        with rdsproxy_lib.Proxy(url, **options) as proxy:
            assert user_of(proxy) == APP_USER
        assert {login.is_accepted for login in front.logins} == {True}


@on_mysql
def test_a_default_file_is_read(place, tmp_path):
    """PyMySQL's `read_default_file`, which has user and password."""
    file = tmp_path / "my.cnf"
    with place.front() as front:
        file.write_text(f"[client]\nhost={HOST}\nport={front.port}\nuser={APP_USER}\npassword={APP_PASSWORD}\n")
        options = {"read_default_file": str(file)}
        with place.proxy(front, user=None, driver_options=options) as proxy:
            assert user_of(proxy) == APP_USER
        with place.proxy(front, user=None, host=None, driver_options=options) as proxy:
            assert user_of(proxy) == APP_USER


# -- users: PGUSER


@on_postgresql
@pytest.mark.parametrize("kind", ["secret", "static", "callable"])
def test_the_user_of_the_environment_does_not_disturb(request, place, authority, monkeypatch, kind):
    """PGUSER is for who says nothing; the source says who logs in."""
    monkeypatch.setenv("PGUSER", "nobody_knows_him")
    if kind == "secret":
        service = request.getfixturevalue("service")
        source = source_of(service, "surroundings/user")
    else:
        source = Static(APP_USER, APP_PASSWORD) if kind == "static" else lambda: (APP_USER, APP_PASSWORD)
    tls = TLS(ca_file=str(authority.ca_file))
    with (
        place.front(authority=authority) as front,
        place.proxy(front, user=None, credentials=source, tls=tls) as proxy,
    ):
        assert user_of(proxy) == APP_USER
        assert {login.user for login in front.logins} == {APP_USER}


@on_postgresql
@pytest.mark.parametrize("where", ["PGPASSWORD", "PGPASSFILE"])
def test_a_password_of_the_environment_does_not_disturb(place, monkeypatch, tmp_path, where):
    """It is for who says nothing: beside credentials it is no contradiction."""
    file = tmp_path / "passwords"
    file.write_text(f"*:*:*:{APP_USER}:wrong\n")
    file.chmod(0o600)
    monkeypatch.setenv(where, str(file) if where == "PGPASSFILE" else "wrong")
    source = Static(APP_USER, APP_PASSWORD)
    with place.front() as front, place.proxy(front, host=HOST, user=None, credentials=source) as proxy:
        assert user_of(proxy) == APP_USER


@on_postgresql
def test_the_user_of_the_environment_is_who_a_token_is_for(place, authority, monkeypatch):
    """A token is for whoever is to log in: PGUSER names him, as for the driver, and the URL names another one."""
    monkeypatch.setenv("PGUSER", APP_USER)
    tls = TLS(ca_file=str(authority.ca_file))
    with place.front(check="iam", authority=authority) as front:
        with place.proxy(front, user=None, credentials=IamToken(), tls=tls) as proxy:
            assert user_of(proxy) == APP_USER
        assert {login.user for login in front.logins} == {APP_USER}
        front.logins.clear()
        with place.proxy(front, user="reports", credentials=IamToken(), tls=tls) as proxy:
            proxy.connect().close()
        assert {login.user for login in front.logins} == {"reports"}
        assert not front.refused


# -- TLS: what tls= says, the environment does not change


@on_postgresql
@pytest.mark.parametrize("said", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full", "nonsense"])
def test_pgsslmode_changes_nothing(place, authority, monkeypatch, said):
    """Neither is less done than tls= says, nor more."""
    monkeypatch.setenv("PGSSLMODE", said)
    with place.front(authority=authority, certificate="self-signed") as front:
        with place.proxy(front, password=APP_PASSWORD, tls=TLS("required")) as proxy:
            assert has_tls(proxy, front)
        front.logins.clear()
        with place.proxy(front, password=APP_PASSWORD, tls=TLS("disabled")) as proxy:
            assert not has_tls(proxy, front)
        front.logins.clear()
        front.received.clear()
        with place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file=str(authority.ca_file))) as proxy:
            fails(proxy, place.error, "certificate verify failed: self-signed certificate")
        saw_nothing(front)
        front.certificate = None
        with place.proxy(front, password=APP_PASSWORD, tls=TLS("preferred")) as proxy:
            assert not has_tls(proxy, front)


@on_postgresql
def test_the_mode_of_a_service_file_changes_nothing(place, authority, monkeypatch, tmp_path):
    """It is as good as the environment."""
    file = tmp_path / "services"
    file.write_text("[shop]\nsslmode=disable\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGSERVICE", "shop")
    with (
        place.front(authority=authority) as front,
        place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file=str(authority.ca_file))) as proxy,
    ):
        assert has_tls(proxy, front)


@on_postgresql
@pytest.mark.parametrize("where", ["PGSSLROOTCERT", "home"])
def test_authorities_of_the_surroundings_do_not_count(place, authority, stranger, monkeypatch, home, where):
    """Neither to trust whom tls= does not, nor to distrust whom it does; nor do they make `required` verify."""

    def install(ca_file) -> None:
        if where == "home":
            (home / ".postgresql" / "root.crt").write_bytes(ca_file.read_bytes())
        else:
            monkeypatch.setenv("PGSSLROOTCERT", str(ca_file))

    with place.front(authority=authority) as front:
        install(stranger.ca_file)
        for tls in (TLS(ca_file=str(authority.ca_file)), TLS("required"), TLS("preferred")):
            with place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy:
                assert has_tls(proxy, front)
        front.logins.clear()
        front.received.clear()
        install(authority.ca_file)
        for tls in (TLS(), TLS(ca_file=str(stranger.ca_file))):
            with place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy:
                fails(proxy, place.error, "unable to get local issuer certificate")
        saw_nothing(front)


@on_postgresql
@pytest.mark.parametrize("where", ["environment", "home"])
def test_a_client_certificate_of_the_surroundings_is_not_shown(place, authority, monkeypatch, home, tmp_path, where):
    """To a server that wants one only what tls= names is shown; rubbish that stands there is not even read."""

    def install(cert: bytes, key: bytes) -> None:
        places = (tmp_path / "c.pem", tmp_path / "k.pem")
        if where == "home":
            places = (home / ".postgresql" / "postgresql.crt", home / ".postgresql" / "postgresql.key")
        else:
            monkeypatch.setenv("PGSSLCERT", str(places[0]))
            monkeypatch.setenv("PGSSLKEY", str(places[1]))
        for place_of_it, content in zip(places, (cert, key), strict=True):
            place_of_it.write_bytes(content)
            place_of_it.chmod(0o600)

    cert, key = authority.certificate("client")
    ca_file = str(authority.ca_file)
    with place.front(authority=authority, client_ca=authority.ca_file) as front:
        install(cert.read_bytes(), key.read_bytes())
        for tls in (TLS(ca_file=ca_file), TLS("required")):
            with place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy:
                fails(proxy, place.error, "(?i)certificate.required")
        saw_nothing(front)
        install(b"rubbish\n", b"rubbish\n")
        with place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file=ca_file, cert=str(cert), key=str(key))) as proxy:
            assert has_tls(proxy, front)
        front.client_ca = None
        with place.proxy(front, password=APP_PASSWORD, tls=TLS(ca_file=ca_file)) as proxy:
            assert has_tls(proxy, front)


OTHERS = {
    "PGGSSENCMODE": ("require", "disable"),
    "PGSSLMINPROTOCOLVERSION": ("TLSv1.3",),
    "PGSSLMAXPROTOCOLVERSION": ("TLSv1.2",),
    "PGSSLNEGOTIATION": ("direct",),
    "PGSSLCERTMODE": ("require", "disable"),
    "PGSSLCRL": ("/nowhere/crl.pem",),
    "PGSSLSNI": ("0",),
}
"""The other variables of libpq that have to do with encryption, and what would matter in them."""
MATTERS = {("PGGSSENCMODE", "require"), ("PGSSLMINPROTOCOLVERSION", "TLSv1.3"), ("PGSSLCERTMODE", "require")}
"""With these the driver itself does not log in: the control."""


@on_postgresql
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in OTHERS.items() for value in values])
@pytest.mark.parametrize("mode", ["preferred", "verify-identity"])
def test_nothing_else_of_the_environment_changes_it(place, authority, monkeypatch, mode, name, value):
    """A Kerberos ticket in the place of TLS, another version, another way to begin: tls= says how it is done."""
    monkeypatch.setenv(name, value)
    cert, key = map(str, authority.certificate("client"))
    tls = TLS("preferred") if mode == "preferred" else TLS(ca_file=str(authority.ca_file), cert=cert, key=key)
    with place.front(authority=authority) as front:
        if mode == "verify-identity":
            front.client_ca = authority.ca_file
        if name == "PGSSLMINPROTOCOLVERSION":
            front.tls_max = ssl.TLSVersion.TLSv1_2
        if (name, value) in MATTERS and mode == "preferred":
            with pytest.raises(place.error):
                place.private(front, sslmode="require")
        with place.proxy(front, password=APP_PASSWORD, tls=tls) as proxy:
            assert has_tls(proxy, front)
        assert front.logins[-1].tls == ("TLSv1.2" if name == "PGSSLMINPROTOCOLVERSION" else "TLSv1.3")


@on_mysql
def test_the_authority_of_a_default_file_does_not_count(place, authority, stranger, tmp_path):
    """`ssl-ca` of the file that PyMySQL is told to read, beside tls=."""
    file = tmp_path / "my.cnf"
    options = {"read_default_file": str(file)}
    with place.front(authority=authority) as front:
        file.write_text(f"[client]\nssl-ca={stranger.ca_file}\n")
        for tls in (TLS(ca_file=str(authority.ca_file)), TLS("required")):
            with place.proxy(front, password=APP_PASSWORD, tls=tls, driver_options=options) as proxy:
                assert has_tls(proxy, front)
        front.logins.clear()
        front.received.clear()
        file.write_text(f"[client]\nssl-ca={authority.ca_file}\n")
        with place.proxy(front, password=APP_PASSWORD, tls=TLS(), driver_options=options) as proxy:
            fails(proxy, place.error, "unable to get local issuer certificate")
        saw_nothing(front)
        with place.proxy(front, password=APP_PASSWORD, tls=TLS("disabled"), driver_options=options) as proxy:
            assert not has_tls(proxy, front)
