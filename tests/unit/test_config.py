"""Options, URLs and TLS: what is right is kept, what is wrong says its name and the range."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rdsproxy_lib
from rdsproxy_lib import TLS, ConfigurationError, Proxy
from rdsproxy_lib.config import (
    OPTION_NAMES,
    build_options,
    check_engine,
    option_from_text,
    options_from_environment,
    parse_url,
)
from rdsproxy_lib.sql import Reason

WRONG_NUMBERS = (None, "5", True, [], math.nan, math.inf, -math.inf, 1j)
RANGES = {
    "max_connections": (1, 10_000, "a whole number from 1 to 10000"),
    "max_connections_percent": (1, 100, "a whole number from 1 to 100"),
    "max_idle_connections_percent": (0, 100, "a whole number from 0 to 100"),
    "max_pinned_percent": (0, 100, "a whole number from 0 to 100"),
    "connection_borrow_timeout": (0, 3600, "a number from 0 to 3600 seconds"),
    "idle_client_timeout": (0.01, 28_800, "a number from 0.01 to 28800 seconds"),
    "connection_max_lifetime": (0.01, 86_400, "a number from 0.01 to 86400 seconds"),
    "failure_detection_time": (0.1, 3600, "a number from 0.1 to 3600 seconds"),
    "failure_detection_interval": (0.05, 60, "a number from 0.05 to 60 seconds"),
    "failure_detection_count": (1, 100, "a whole number from 1 to 100"),
}
NONE_IS_ALLOWED = {"max_connections_percent", "idle_client_timeout"}
WHOLE = {name for name, (_, _, text) in RANGES.items() if "whole" in text}
WRONG_CHOICES = {
    "init_query": (("", "  ", 5, b"select 1"), "SQL text or None"),
    "session_pinning_filters": (("EXCLUDE_VARIABLE_SETS", ("OTHER",), 5, None), "EXCLUDE_VARIABLE_SETS"),
    "routine_policy": (("warn", None, True, ""), "'pin', 'reset' or 'trust'"),
    "trusted_routines": (("st_*", (1,), ("",), (" ",), None), "a tuple of names"),
    "pin_policy": (("refuse", "", None, True, ("TEMP_TABLE",)), "'pin', 'warn', 'error'"),
    "keep_diagnostics": (("yes", 1, None), "True or False"),
    "audit": (("yes", 1, None), "True or False"),
    "resolve_commits": (("", "a b", "a.b.c", "a;b", '"a"', "1a", 5, True, "a" * 64), "'schema.table'"),
    "require_tls": (("yes", 1, None), "True or False"),
    "monitor": (("on", None, 2, 1), "'auto', True or False"),
    "read_write_splitting": (("yes", 1, None), "True or False"),
    "consistency": (("strict", None, True), "'session' or 'eventual'"),
    "max_replica_lag": (("1", -1, True), "seconds, or None"),
    "reader_fallback": (("fail", None), "'wait' or 'writer'"),
    "driver_options": (("connect_timeout=5", None, 5), "a mapping"),
}


def test_every_option_is_tested_here():
    """An option that is added is added to these tests too."""
    assert set(RANGES) | set(WRONG_CHOICES) == OPTION_NAMES


@pytest.mark.parametrize("name", list(RANGES))
def test_numbers_keep_to_their_range(name):
    """The ends of the range are allowed, the values beyond are not, and the message says the range."""
    low, high, text = RANGES[name]
    for right in (low, high):
        assert getattr(build_options({name: right}), name) == right
    for wrong in (low - 1, high + 1):
        with pytest.raises(ConfigurationError) as caught:
            build_options({name: wrong})
        assert name in str(caught.value)
        assert text in str(caught.value)
        assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("name", list(RANGES))
@pytest.mark.parametrize("wrong", WRONG_NUMBERS, ids=repr)
def test_numbers_of_the_wrong_kind_are_refused(name, wrong):
    """Text, truth values, NaN and infinity are no numbers of connections or seconds."""
    if wrong is None and name in NONE_IS_ALLOWED:
        assert getattr(build_options({name: None}), name) is None
        return
    with pytest.raises(ConfigurationError, match=name):
        build_options({name: wrong})


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_whole_numbers_are_whole(name):
    """Half a connection is none."""
    with pytest.raises(ConfigurationError, match=f"{name} must be a whole number"):
        build_options({name: 2.5})


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, each) for name, (values, _) in WRONG_CHOICES.items() for each in values]
)
def test_choices_keep_to_what_is_allowed(name, wrong):
    """A value that is no choice is refused with the option's name and the choices."""
    with pytest.raises(ConfigurationError) as caught:
        build_options({name: wrong})
    assert name in str(caught.value)
    assert WRONG_CHOICES[name][1] in str(caught.value)


def test_unknown_options_are_a_type_error():
    """As for any keyword of Python; the message lists those there are."""
    with pytest.raises(TypeError, match=r"unknown option 'max_connection'.*max_connections"):
        build_options({"max_connection": 5})
    with pytest.raises(TypeError, match="max_connection"):
        Proxy("postgresql://h/db", max_connection=5)


def test_options_do_not_change():
    """A Proxy's options are fixed when it is made."""
    with pytest.raises(AttributeError):
        build_options({}).max_connections = 5


# -- pinning


def test_one_policy_is_for_every_reason():
    """But for MANUAL, which the application asks for."""
    for policy in ("pin", "warn", "error"):
        options = build_options({"pin_policy": policy})
        found = {reason.name: options.policy_of(reason.name) for reason in Reason}
        assert found.pop("MANUAL") == "pin"
        assert set(found.values()) == {policy}


def test_a_policy_by_reason():
    """What is not named pins."""
    options = build_options({"pin_policy": {"TEMP_TABLE": "error", "LISTEN": "warn"}})
    found = {reason.name: options.policy_of(reason.name) for reason in Reason}
    assert (found.pop("TEMP_TABLE"), found.pop("LISTEN")) == ("error", "warn")
    assert set(found.values()) == {"pin"}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"TEMP_TABEL": "error"}, r"pin_policy names 'TEMP_TABEL'.*TEMP_TABLE"),
        ({Reason.LISTEN: "error"}, r"pin_policy names <Reason\.LISTEN"),
        ({5: "error"}, "pin_policy names 5"),
        ({"LISTEN": "refuse"}, "pin_policy for LISTEN must be one of 'pin', 'warn', 'error', not 'refuse'"),
        ({"LISTEN": None}, "pin_policy for LISTEN"),
        ({"MANUAL": "error"}, r"cannot name MANUAL.*conn\.rdsproxy\.pin\(\)"),
        ({"MANUAL": "pin"}, "cannot name MANUAL"),
    ],
)
def test_a_wrong_policy_by_reason_is_named(policy, said):
    """The message says which entry is wrong, and what there is."""
    with pytest.raises(ConfigurationError, match=said):
        build_options({"pin_policy": policy})


def test_a_policy_by_reason_is_a_copy():
    """What the application does to its mapping later changes nothing."""
    policy = {"LISTEN": "warn"}
    options = build_options({"pin_policy": policy})
    assert options.pin_policy == policy
    policy["LISTEN"] = "nonsense"
    assert options.policy_of("LISTEN") == "warn"


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("error", "error"),
        (" warn ", "warn"),
        ("TEMP_TABLE=error,LISTEN=warn", {"TEMP_TABLE": "error", "LISTEN": "warn"}),
        (" TEMP_TABLE = error , ", {"TEMP_TABLE": "error"}),
    ],
)
def test_a_policy_as_text(text, policy):
    """One word, or reasons with theirs."""
    found = options_from_environment({"RDSPROXY_PIN_POLICY": text})
    assert found == {"pin_policy": policy}
    build_options(found)


def test_a_policy_in_a_url():
    """The equals signs in it need no percent."""
    found = parse_url("postgresql://h/db?rdsproxy_pin_policy=TEMP_TABLE=error,LISTEN=warn&rdsproxy_audit=true")[1]
    assert found == {"pin_policy": {"TEMP_TABLE": "error", "LISTEN": "warn"}, "audit": True}


@pytest.mark.parametrize("text", ["LISTEN,TEMP_TABLE=error", "LISTEN=warn=error"])
def test_a_policy_as_text_that_cannot_be_read(text):
    """The variable is named."""
    with pytest.raises(ConfigurationError, match="RDSPROXY_PIN_POLICY"):
        options_from_environment({"RDSPROXY_PIN_POLICY": text})


def test_filters_are_for_mysql():
    """RDS Proxy has none for PostgreSQL either, and settings do not pin here."""
    filtered = build_options({"session_pinning_filters": ("EXCLUDE_VARIABLE_SETS",)})
    check_engine(filtered, "mysql")
    check_engine(build_options({}), "postgresql")
    with pytest.raises(ConfigurationError, match=r"session_pinning_filters is for MySQL.*settings do not pin"):
        check_engine(filtered, "postgresql")


# -- URLs


def target(url):
    return parse_url(url)[0]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://app:secret@db:5433/shop", (("db",), ("5433",), "app", "secret", "shop")),
        ("postgres://app@db/shop", (("db",), (), "app", None, "shop")),
        ("postgresql+psycopg://app@db/shop", (("db",), (), "app", None, "shop")),
        ("postgresql://", ((), (), None, None, None)),
        ("postgresql:///shop", ((), (), None, None, "shop")),
        ("postgresql://db", (("db",), (), None, None, None)),
        ("postgresql://app:@db/shop", (("db",), (), "app", "", "shop")),
        ("postgresql://a%40b:p%2Fw%3A%40%25@db/my%20shop", (("db",), (), "a@b", "p/w:@%", "my shop")),
        ("postgresql://[::1]:5433/shop", (("::1",), ("5433",), None, None, "shop")),
        ("postgresql://[fe80::1%25eth0]/shop", (("fe80::1%eth0",), (), None, None, "shop")),
        ("postgresql://%2Ftmp%2Fsockets/shop", (("/tmp/sockets",), (), None, None, "shop")),
        ("postgresql://%2Ftmp%2Fsockets:5433/shop", (("/tmp/sockets",), ("5433",), None, None, "shop")),
        ("postgresql:///shop?host=/tmp/sockets&port=5433", (("/tmp/sockets",), ("5433",), None, None, "shop")),
        ("postgresql:///?user=app&password=secret&dbname=shop&host=db", (("db",), (), "app", "secret", "shop")),
    ],
)
def test_urls_of_every_shape(url, expected):
    """The parts are found, percent-decoded."""
    found = target(url)
    assert (found.hosts, found.ports, found.user, found.password, found.dbname) == expected
    assert found.engine == "postgresql"


def test_query_parameters_are_the_drivers_or_ours():
    """`rdsproxy_<option>` is an option, checked like any other; everything else goes to the driver."""
    found, options = parse_url(
        "postgresql://db/shop?sslmode=require&application_name=a%20b&rdsproxy_max_connections=5&rdsproxy_require_tls=true"
    )
    assert dict(found.driver) == {"sslmode": "require", "application_name": "a b"}
    assert options == {"max_connections": 5, "require_tls": True}
    proxy = Proxy("postgresql://db/shop?rdsproxy_max_connections=5")
    assert proxy.options.max_connections == 5
    with pytest.raises(ConfigurationError, match=r"max_connections.*from 1 to 10000"):
        Proxy("postgresql://db/shop?rdsproxy_max_connections=0")
    with pytest.raises(ConfigurationError, match="rdsproxy_max_conns"):
        parse_url("postgresql://db/shop?rdsproxy_max_conns=5")
    with pytest.raises(ConfigurationError, match=r"max_connections.*five"):
        parse_url("postgresql://db/shop?rdsproxy_max_connections=five")
    with pytest.raises(ConfigurationError, match="max_connections is given twice"):
        Proxy("postgresql://db/shop?rdsproxy_max_connections=5", max_connections=5)


@pytest.mark.parametrize("url", ["db:5432/shop", "http://db/shop", "postgresql:/db", "", "oracle://db"])
def test_urls_of_another_kind_are_refused(url):
    """The message says how a URL begins."""
    with pytest.raises(ConfigurationError, match="postgresql://"):
        parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db:port/shop",
        "postgresql://[::1]:port/shop",
        "postgresql://[::1]port/shop",
        "postgresql://db:²/shop",
    ],
)
def test_ports_are_numbers(url):
    """A port that is none is refused when the URL is read."""
    with pytest.raises(ConfigurationError, match="port"):
        parse_url(url)


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_ports_keep_to_their_range(port):
    """A port that cannot be one is not tried for two minutes."""
    with pytest.raises(ConfigurationError, match="port"):
        parse_url(f"postgresql://db:{port}/shop")
    with pytest.raises(ConfigurationError, match="port"):
        Proxy(engine="postgresql", host="db", port=port)


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("postgresql://a,b/shop", "a:5432 b:5432"),
        ("mysql://a,b/shop", "a:3306 b:3306"),
        ("postgresql://a:1,b:2/shop", "a:1 b:2"),
        ("postgresql://u:p@a,b:2/shop", "a:5432 b:2"),
        ("mysql://[::1]:5,a/", "[::1]:5 a:3306"),
        ("postgresql:///shop?host=a,b", "a:5432 b:5432"),
        ("postgresql:///?host=a,b&port=1,2", "a:1 b:2"),
        ("postgresql:///?host=a,b&port=7", "a:7 b:7"),
        ("postgresql://a:1/shop", ""),
    ],
)
def test_several_hosts(url, endpoints):
    """However they are written, each has a port: its own, the one for all, or the engine's."""
    target, _ = parse_url(url)
    assert " ".join(map(str, target.endpoints)) == endpoints


@pytest.mark.parametrize(
    ("keywords", "endpoints"),
    [
        ({"host": "a,b"}, "a:5432 b:5432"),
        ({"host": "a,b", "port": 7}, "a:7 b:7"),
        ({"host": "a:1,b", "port": 7}, "a:1 b:7"),
        ({"host": "a,b", "port": "1,2"}, "a:1 b:2"),
        ({"host": "::1,::2", "port": 7}, "[::1]:7 [::2]:7"),
        ({"host": "/tmp"}, ""),
    ],
)
def test_several_hosts_in_keywords(keywords, endpoints):
    """The same as in a URL, and ports as libpq has them."""
    assert " ".join(map(str, Proxy(engine="postgresql", **keywords).target.endpoints)) == endpoints


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"url": "postgresql://a,/shop"}, "no name"),
        ({"engine": "postgresql", "host": "a,"}, "no name"),
        ({"url": "mysql://a,b/shop?unix_socket=/tmp/s"}, "unix_socket cannot be given with several hosts"),
        ({"url": "postgresql://a,b/shop?target_session_attrs=standby"}, "contradicts several hosts"),
        ({"url": "postgresql://a,b:x/shop"}, "the port must be a number"),
        ({"url": "postgresql://a:1,a:1/shop"}, "a host is given twice"),
        ({"url": "mysql://a,a:3306/shop"}, "a host is given twice"),
        ({"url": "postgresql://a%2Cb/shop"}, "a comma stands in the name of a host"),
        ({"url": "postgresql://%2Ftmp,b/shop"}, "a unix socket cannot be one of several hosts"),
        ({"url": "postgresql://a,b/shop?hostaddr=127.0.0.1"}, "hostaddr cannot be given with several hosts"),
        ({"engine": "postgresql", "host": "a,b,c", "port": "1,2"}, "3 hosts need as many ports, or one for all, not 2"),
        ({"engine": "postgresql", "host": "a:1,b", "port": "1,2"}, "not both"),
    ],
)
def test_several_hosts_that_make_no_sense(keywords, message):
    """The message says what is wrong."""
    with pytest.raises(ConfigurationError, match=message):
        Proxy(**keywords)


def test_an_engine_that_is_none_is_refused():
    """The message names the two there are."""
    with pytest.raises(ConfigurationError, match="engine must be 'postgresql' or 'mysql'"):
        Proxy(engine="oracle", host="db")


def test_engine_and_url_agree():
    """A contradiction is an error, and so is nothing at all."""
    with pytest.raises(ConfigurationError, match="contradicts"):
        Proxy("postgresql://db", engine="mysql")
    with pytest.raises(ConfigurationError, match="give a URL"):
        Proxy()
    with pytest.raises(ConfigurationError, match="must be text"):
        Proxy(5)


@given(st.text(max_size=60))
def test_reading_a_url_raises_nothing_else(text):
    """Whatever stands behind the scheme is a target or a ConfigurationError."""
    with contextlib.suppress(ConfigurationError):
        parse_url("postgresql://" + text)


# -- secrets


SECRET = "s3cr/et:w0rd"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:s3cr%2Fet%3Aw0rd@db/shop",
        "postgresql://db/shop?user=app&password=s3cr%2Fet%3Aw0rd",
        "postgresql://app@db/shop?password=s3cr%2Fet%3Aw0rd",
    ],
)
def test_passwords_are_never_shown(url):
    """Neither target, options nor proxy show a password in their repr."""
    proxy = Proxy(url, driver_options={"sslpassword": SECRET})
    login = proxy._login(None, None, {"password": SECRET})
    for shown in (proxy, proxy.target, proxy.options, proxy.engine, proxy.pool, login):
        for secret in (SECRET, "s3cr", "w0rd"):
            assert secret not in repr(shown)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:s3cr/et:w0rd@db/shop",
        "postgresql://app:s3cret@w0rd:x@db:s3cr/shop",
        "postgresql://app:s3cret/w0rd@db:5432/shop",
    ],
)
def test_a_password_that_was_not_encoded_is_not_shown(url):
    """The error for a URL that cannot be read does not repeat what may be a piece of the password."""
    with pytest.raises(ConfigurationError) as caught:
        parse_url(url)
    assert "s3cr" not in str(caught.value)
    assert "w0rd" not in str(caught.value)


# -- environment


def test_the_environment_sets_options():
    """RDSPROXY_<OPTION> in capitals; what does not begin so is not ours."""
    environ = {
        "RDSPROXY_MAX_CONNECTIONS": "20",
        "RDSPROXY_CONNECTION_BORROW_TIMEOUT": "1.5",
        "RDSPROXY_REQUIRE_TLS": "True",
        "RDSPROXY_MONITOR": "false",
        "RDSPROXY_INIT_QUERY": "set work_mem = 1",
        "PGHOST": "db",
    }
    assert options_from_environment(environ) == {
        "max_connections": 20,
        "connection_borrow_timeout": 1.5,
        "require_tls": True,
        "monitor": False,
        "init_query": "set work_mem = 1",
    }


TEXTS = {"init_query": "select 1", "consistency": "session", "monitor": "auto", "session_pinning_filters": ""}
TEXTS |= {"require_tls": "false", "read_write_splitting": "0", "routine_policy": "reset", "pin_policy": "warn"}
TEXTS |= {"keep_diagnostics": "1", "audit": "TRUE", "reader_fallback": "writer", "resolve_commits": "app.commits"}


@pytest.mark.parametrize("name", sorted(OPTION_NAMES - {"driver_options"}))
def test_every_option_can_be_written_as_text(name):
    """All but driver_options, which is a mapping."""
    build_options({name: option_from_text(name, TEXTS.get(name, "5"), name)})


def test_lists_are_written_with_commas():
    """In the environment and in a URL; spaces around a name do not count."""
    assert option_from_text("trusted_routines", "st_*, app.audit ,", "x") == ("st_*", "app.audit")
    assert option_from_text("session_pinning_filters", " EXCLUDE_VARIABLE_SETS", "x") == ("EXCLUDE_VARIABLE_SETS",)
    assert parse_url("postgresql://h/db?rdsproxy_trusted_routines=st_*,app.f")[1] == {
        "trusted_routines": ("st_*", "app.f")
    }


@pytest.mark.parametrize(
    "environ", [{"RDSPROXY_MAX_CONNECTION": "5"}, {"RDSPROXY_REQUIRE_TLS": "maybe"}, {"RDSPROXY_MAX_CONNECTIONS": ""}]
)
def test_a_wrong_variable_is_named(environ):
    """The error names the variable as it stands in the environment."""
    (name,) = environ
    with pytest.raises(ConfigurationError, match=name):
        options_from_environment(environ)


def test_defaults_environment_and_arguments_overrule_each_other(monkeypatch):
    """configure < RDSPROXY_* < connect(rdsproxy={…})."""
    from rdsproxy_lib import registry

    monkeypatch.setattr(registry, "_proxies", {})
    monkeypatch.setattr(registry, "_defaults", {})
    made = []
    monkeypatch.setattr(Proxy, "_connect", lambda self, *arguments: made.append(self.options))
    rdsproxy_lib.configure(max_connections=2, max_pinned_percent=50, init_query="select 1")
    monkeypatch.setenv("RDSPROXY_MAX_CONNECTIONS", "3")
    monkeypatch.setenv("RDSPROXY_MAX_PINNED_PERCENT", "60")
    rdsproxy_lib.connect("postgresql://db/shop", rdsproxy={"max_connections": 4})
    assert (made[0].max_connections, made[0].max_pinned_percent, made[0].init_query) == (4, 60, "select 1")


def test_configure_changes_nothing_when_it_is_wrong(monkeypatch):
    """A wrong value or name leaves the defaults as they were."""
    from rdsproxy_lib import registry

    monkeypatch.setattr(registry, "_defaults", {"max_connections": 7})
    with pytest.raises(ConfigurationError):
        rdsproxy_lib.configure(max_pinned_percent=5, max_connections=0)
    with pytest.raises(TypeError):
        rdsproxy_lib.configure(max_pinned_percent=5, nonsense=1)
    assert registry._defaults == {"max_connections": 7}


def test_shared_proxies_do_not_contradict_each_other(monkeypatch):
    """The same target with another option is an error; with the same, or none, it is the same Proxy."""
    from rdsproxy_lib import registry

    monkeypatch.setattr(registry, "_proxies", {})
    monkeypatch.setattr(registry, "_defaults", {})
    made = []
    monkeypatch.setattr(Proxy, "_connect", lambda self, *arguments: made.append(self))
    for options in ({"max_connections": 4}, {}, {"max_connections": 4}):
        rdsproxy_lib.connect("postgresql://app@db/shop", rdsproxy=options)
    rdsproxy_lib.connect("postgresql://app@db/other")
    with pytest.raises(ConfigurationError, match=r"max_connections=5 contradicts max_connections=4"):
        rdsproxy_lib.connect("postgresql://app@db/shop", rdsproxy={"max_connections": 5})
    rdsproxy_lib.connect("postgresql://app@elsewhere/shop")
    assert len({id(proxy) for proxy in made}) == 2


# -- TLS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "on"}, "TLS mode must be one of disabled, preferred, required, verify-ca, verify-identity"),
        ({"mode": None}, "TLS mode"),
        ({"min_version": "TLSv1.1"}, "TLS min_version must be one of TLSv1.2, TLSv1.3"),
        ({"ca_file": 5}, "TLS ca_file must be the path of a PEM file or None"),
        ({"cert": b"x"}, "TLS cert"),
        ({"key": "key.pem"}, "TLS key needs cert"),
        ({"mode": "required", "ca_file": "ca.pem"}, "required verifies nothing"),
        ({"mode": "verify-ca"}, "verify-ca needs ca_file"),
    ],
)
def test_tls_is_checked(arguments, said):
    """Every part of it, with the allowed values."""
    with pytest.raises(ConfigurationError, match=said):
        TLS(**arguments)


def test_tls_reaches_the_driver(tmp_path):
    """The five modes are libpq's, and sslmode beside tls= is an error."""
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    modes = {
        "disabled": "disable",
        "preferred": "prefer",
        "required": "require",
        "verify-ca": "verify-ca",
        "verify-identity": "verify-full",
    }
    for ours, theirs in modes.items():
        verifies = ours.startswith("verify")
        proxy = Proxy("postgresql://db/shop", tls=TLS(ours, ca_file=str(ca_file) if verifies else None))
        parameters = proxy._login(None, None, {}).parameters
        assert parameters["sslmode"] == theirs
        assert (parameters["sslrootcert"] == str(ca_file)) == verifies
    with pytest.raises(ConfigurationError, match="sslmode or tls"):
        Proxy("postgresql://db/shop?sslmode=require", tls=TLS())
    with pytest.raises(ConfigurationError, match="tls must be"):
        Proxy("postgresql://db/shop", tls="required")


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_require_tls_contradicts_modes_without(mode):
    """Said when the Proxy is made."""
    with pytest.raises(ConfigurationError, match="require_tls"):
        Proxy(f"postgresql://db/shop?sslmode={mode}", require_tls=True)
    assert Proxy("postgresql://db/shop", require_tls=True)._login(None, None, {}).parameters["sslmode"] == "require"
