"""Secrets are what they were to a driver, and nothing to who looks."""

from __future__ import annotations

import pprint
import reprlib
from types import MappingProxyType

import pytest

from rdsproxy_lib.secret import COVER, Secret, SecretBytes, covered, hidden, hiding


@pytest.mark.parametrize(("kind", "value"), [(Secret, "hush-hush"), (SecretBytes, b"hush-hush")])
def test_a_secret_is_what_it_was(kind, value):
    """It is equal to it, can stand for it in a dict, and a driver makes of it what it makes of that."""
    secret = kind(value)
    assert secret == value
    assert {secret: 1}[value] == 1
    assert isinstance(secret, type(value))
    assert secret + value == value + value


@pytest.mark.parametrize("value", [Secret("hush-hush"), SecretBytes(b"hush-hush")])
def test_a_secret_shows_nothing(value):
    """Neither alone nor inside, whole nor shortened."""
    for thing in (value, [value], {"password": value}, value[:4], {"password": value[1:]}):
        for show in (repr, pprint.pformat, reprlib.repr, "{!r}".format):
            assert "hu" not in show(thing)
    assert "hu" not in str(SecretBytes(b"hush"))
    assert SecretBytes(b"hush")[0] == ord("h")


def test_what_is_hidden():
    """All texts, also inside; other things stay what they are."""

    def source() -> None: ...

    given = {"app": ("hush", b"hush", 1, None, source), "other": ["hush"]}
    found = hidden(given)
    assert found == given
    assert "hush" not in repr(found)
    assert found["app"][4] is source
    assert "hush" in repr(given)


def test_arguments_are_hidden_by_name():
    """Also in mappings; what was given is left as it was."""
    given = {
        "user": "app",
        "password": "hush",
        "driver_options": MappingProxyType({"passwd": b"hush", "ssl": {"password": "hush", "ca": "/ca.pem"}}),
    }
    found = hiding(given)
    assert found == given
    assert "hush" not in repr(found)
    assert "/ca.pem" in repr(found)
    assert "app" in repr(found)
    assert "hush" in repr(given)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://app:hush@db/shop", f"postgresql://app:{COVER}@db/shop"),
        ("no such file: 'mysql:/app:hush/hush@db'", f"no such file: 'mysql:/app:{COVER}@db'"),
        ("two: x://:hush@a y://b:hush@c", f"two: x://:{COVER}@a y://b:{COVER}@c"),
        ("select a::text, '10:30' from t where b = @c", "select a::text, '10:30' from t where b = @c"),
        ("https://docs.example:80/a", "https://docs.example:80/a"),
    ],
)
def test_passwords_of_urls_are_covered(text, shown):
    """And nothing else."""
    assert covered(text) == shown
