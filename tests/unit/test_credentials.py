"""Where user names and passwords come from, and that they go nowhere else."""

from __future__ import annotations

import pytest

from rdsproxy_lib import ConfigurationError, CredentialsError, Proxy, Static
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


@pytest.mark.parametrize("answer", [None, "app", 5, ("app",), ("app", b"hush"), (None, "hush"), ("app", "hush", 1)])
def test_a_source_answers_with_two_texts(answer):
    """Anything else is a CredentialsError that does not repeat it."""
    with pytest.raises(CredentialsError) as caught:
        offered(lambda: answer)
    assert "hush" not in str(caught.value)
