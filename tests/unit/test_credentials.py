"""Where user names and passwords come from, and that they go nowhere else."""

from __future__ import annotations

import pytest

from rdsproxy_lib import ConfigurationError, CredentialsError, Proxy, Static
from rdsproxy_lib.credentials import fetch, pick


def test_static_keeps_its_secret():
    """The password is in no repr, alone or inside other things."""
    static = Static("app", "hush")
    assert "hush" not in repr(static) + str(static) + repr({"app": static}) + repr([static])
    assert "app" in repr(static)
    assert fetch(static) == ("app", "hush")


def test_a_callable_is_asked_for_each_login():
    """Tokens are short-lived, so nothing is kept."""
    answers = iter([("app", "one"), ("app", "two")])
    source = pick(lambda: next(answers), "app")
    assert fetch(source) == ("app", "one")
    assert fetch(source) == ("app", "two")


def test_a_mapping_has_a_source_for_each_user():
    """Unknown users are named; so is a source of the wrong kind."""
    sources = {"app": Static("app", "hush"), "job": lambda: ("job", "hush")}
    assert pick(sources, "app") is sources["app"]
    assert pick(sources, "job") is sources["job"]
    with pytest.raises(ConfigurationError, match="no source for the database user 'other'") as caught:
        pick(sources, "other")
    assert "hush" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="no source for the database user None"):
        pick(sources, None)


def test_none_is_the_drivers_own_way():
    """Without credentials the URL, PGPASSWORD or a password file decide."""
    assert pick(None, "app") is None


@pytest.mark.parametrize("wrong", ["hush", 5, ("app", "hush"), {"app": "hush"}])
def test_a_wrong_kind_is_said_without_its_value(wrong):
    """A password given in the wrong place is not repeated in the message."""
    with pytest.raises(ConfigurationError, match="credentials must be") as caught:
        pick(wrong, "app")
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
        fetch(source)
    assert isinstance(caught.value.__cause__, LookupError)
    assert "hush" not in str(caught.value)


def test_interrupts_pass_through_a_source():
    """KeyboardInterrupt in a source is no wrong credential."""

    def source():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(source)


@pytest.mark.parametrize("answer", [None, "app", 5, ("app",), ("app", b"hush"), (None, "hush"), ("app", "hush", 1)])
def test_a_source_answers_with_two_texts(answer):
    """Anything else is a CredentialsError that does not repeat it."""
    with pytest.raises(CredentialsError) as caught:
        fetch(lambda: answer)
    assert "hush" not in str(caught.value)
