"""Where user names and passwords come from, and that they go nowhere else."""

from __future__ import annotations

import copy

import pytest

import rdsproxy_lib
from rdsproxy_lib import ConfigurationError, CredentialsError, Proxy, SecretsManager, Static
from rdsproxy_lib.credentials import Credentials, Who

ANYWHERE = Who("app", "db", 5432)


def offered(source):
    """All that a source offers for one login, as (user, password)."""
    return [(each.user, each.password) for each in Credentials(source).pick("app").offers(ANYWHERE, 1.0)]


def test_static_keeps_its_secret():
    """The password is in no repr, alone or inside other things."""
    static = Static("app", "hush")
    assert "hush" not in repr(static) + str(static) + repr({"app": static}) + repr([static])
    assert "app" in repr(static)
    assert offered(static) == [("app", "hush")]


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        ("app", b"hush", r"not \(str, bytes\)"),
        ("app", None, r"not \(str, NoneType\)"),
        ("app", 12345, r"not \(str, int\)"),
        (None, "hush", r"not \(NoneType, str\)"),
        (b"app", "hush", r"not \(bytes, str\)"),
    ],
)
def test_static_takes_two_texts(user, password, said):
    """What is none would be sent as its str(), and refused as a wrong password. The error has no value in it."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        Static(user, password)
    assert "hush" not in str(caught.value)
    assert "12345" not in str(caught.value)
    frames = [entry.frame.f_locals for entry in caught.traceback[1:]]
    assert all(password not in found.values() for found in frames)


def test_static_is_equal_to_one_of_the_same():
    """So that shared Proxies are found by it; it can be copied."""
    one, other = Static("app", "hush"), Static(user="app", password="hush")
    assert one == other
    assert hash(one) == hash(other)
    assert copy.deepcopy(one) == one
    assert one != Static("app", "other")


def test_a_callable_is_asked_for_each_login():
    """Tokens are short-lived, so nothing is kept."""
    answers = iter([("app", "one"), ("app", "two")])
    source = Credentials(lambda: next(answers))
    one, two = (list(source.pick("app").offers(ANYWHERE, 1.0)) for _ in range(2))
    assert [each.password for each in (*one, *two)] == ["one", "two"]


def test_a_mapping_has_a_source_for_each_user():
    """Unknown users are named; so is a source of the wrong kind."""
    sources = {"app": Static("app", "hush"), "job": lambda: ("job", "hush")}
    credentials = Credentials(sources)
    assert credentials.pick("app") is sources["app"]
    assert [each.user for each in credentials.pick("job").offers(ANYWHERE, 1.0)] == ["job"]
    with pytest.raises(ConfigurationError, match="no source for the database user 'other'") as caught:
        credentials.pick("other")
    assert "hush" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="no source for the database user None"):
        credentials.pick(None)


def test_the_users_of_a_mapping_are_text():
    """No other would ever be found."""
    with pytest.raises(ConfigurationError, match="database users, which are text"):
        Credentials({b"app": Static("app", "hush")})


def test_none_is_the_drivers_own_way():
    """Without credentials the URL, PGPASSWORD or a password file decide."""
    assert Credentials(None).pick("app") is None


@pytest.mark.parametrize("wrong", ["hush", 5, ("app", "hush"), {"app": "hush"}])
def test_a_wrong_kind_is_said_without_its_value(wrong):
    """A password given in the wrong place is not repeated in the message."""
    with pytest.raises(ConfigurationError, match="credentials must be") as caught:
        Credentials(wrong)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["hush", 5, ("app", "hush")])
def test_a_proxy_says_a_wrong_kind_when_it_is_made(wrong):
    """Not at the first connection."""
    with pytest.raises(ConfigurationError, match="credentials must be"):
        Proxy("postgresql://db/shop", credentials=wrong)


def test_a_proxy_says_a_wrong_kind_in_a_mapping_when_it_is_made():
    """Each source of a mapping is looked at too."""
    with pytest.raises(ConfigurationError, match="credentials must be"):
        Proxy("postgresql://app@db/shop", credentials={"app": "hush"})


def test_a_source_that_fails_is_the_cause():
    """The message names the kind of the error; its text, which may hold a secret, is only in the cause."""

    def source():
        raise LookupError("token hush expired")

    with pytest.raises(CredentialsError, match="raised LookupError") as caught:
        offered(source)
    assert isinstance(caught.value.__cause__, LookupError)
    assert "hush" not in str(caught.value)


def test_interrupts_pass_through_a_source():
    """KeyboardInterrupt in a source is no wrong credential."""

    def source():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        offered(source)


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        (None, "NoneType"),
        ("ab", "str"),
        (5, "int"),
        (("app",), "str"),
        (("app", b"hush"), "str, bytes"),
        (("app", None), "str, NoneType"),
        ((None, "hush"), "NoneType, str"),
        (("app", "hush", 1), "str, str, int"),
        ({"user": "app", "password": "hush"}, "dict"),
    ],
)
def test_a_source_answers_with_two_texts(answer, kinds):
    """Anything else is a CredentialsError that says what it was, and does not repeat it."""
    with pytest.raises(CredentialsError, match=rf"must return .* not \({kinds}\)") as caught:
        offered(lambda: answer)
    assert "hush" not in str(caught.value)


SOURCES = (Static("app", "hush"), lambda: ("app", "hush"), {"app": Static("app", "hush")}, SecretsManager("shop/app"))
each_source = pytest.mark.parametrize("source", SOURCES, ids=["static", "callable", "mapping", "secret"])


@each_source
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("password", {"url": "postgresql://app:loud@db/shop"}),
        ("password", {"url": "postgresql://app@db/shop?password=loud"}),
        ("password", {"url": "postgresql://app:loud@/shop"}),
        ("password", {"url": "mysql://app:loud@db/shop"}),
        ("passwd", {"url": "mysql://app@db/shop?passwd=loud"}),
        ("password", {"engine": "mysql", "host": "db", "password": "loud"}),
        ("password", {"engine": "mysql", "host": "db", "driver_options": {"password": b"loud"}}),
        ("passwd", {"engine": "mysql", "host": "db", "driver_options": {"passwd": "loud"}}),
        ("password", {"engine": "postgresql", "password": "loud"}),
    ],
)
def test_a_password_beside_credentials_is_an_error(source, name, given):
    """It would never be sent. Said when the Proxy is made, and by a shared one."""
    with pytest.raises(ConfigurationError, match=rf"^{name}, .* beside credentials=") as caught:
        Proxy(**given, credentials=source)
    assert "loud" not in str(caught.value)
    options = given.get("driver_options", {})
    shared = {key: value for key, value in given.items() if key != "driver_options"}
    with pytest.raises(ConfigurationError, match=rf"^{name}, .* beside credentials="):
        rdsproxy_lib.connect(**shared, rdsproxy={"credentials": source, "driver_options": options})


def test_a_password_beside_a_secret_that_says_all_is_an_error():
    """Also before it was asked for its engine."""
    for given in ({"password": "loud"}, {"driver_options": {"password": "loud"}}):
        with pytest.raises(ConfigurationError, match=r"^password, .* beside credentials="):
            Proxy(credentials=SecretsManager("shop/app"), **given)


@each_source
def test_a_password_of_a_session_beside_credentials_is_an_error(source):
    """connect() is no other way."""
    for engine in ("postgresql", "mysql"):
        proxy = Proxy(engine=engine, host="localhost", port=1, user="app", credentials=source)
        with pytest.raises(ConfigurationError, match=r"^password, .* beside credentials="):
            proxy.connect(password="loud")
    for drop_in in (rdsproxy_lib.psycopg, rdsproxy_lib.pymysql):
        with pytest.raises(ConfigurationError, match=r"^password, .* beside credentials="):
            drop_in.connect(host="localhost", user="app", password="loud", rdsproxy={"credentials": source})


@each_source
def test_an_empty_password_is_none(source):
    """It is PyMySQL's default, and many a program's."""
    for engine in ("postgresql", "mysql"):
        Proxy(engine=engine, host="db", user="app", password="", credentials=source)


def test_a_password_in_bytes_is_not_sent_as_its_repr():
    """libpq takes text alone."""
    place = {"engine": "postgresql", "host": "localhost", "port": 1}
    for make in (
        lambda: Proxy(**place, password=b"hush"),
        lambda: Proxy(**place, driver_options={"password": b"hush"}),
        lambda: Proxy(**place).connect(password=b"hush"),
        lambda: rdsproxy_lib.connect(**place, password=b"hush"),
        lambda: rdsproxy_lib.psycopg.connect(host="localhost", port=1, password=b"hush"),
    ):
        with pytest.raises(ConfigurationError, match="password must be text, not bytes") as caught:
            make()
        assert "hush" not in str(caught.value)
