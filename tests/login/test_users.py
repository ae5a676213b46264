"""Who logs in: the user that was asked for, or nobody."""

from __future__ import annotations

import pytest

from rdsproxy_lib import ConfigurationError, CredentialsError, Static
from tests.login.place import user_of
from tests.servers import APP_PASSWORD, APP_USER

OTHER = "someone_else"
WHOSE = rf"are of the database user '{APP_USER}', and '{OTHER}' is to log in"


def test_a_source_of_another_user_than_that_of_connect_is_an_error(place):
    """Nobody is logged in as somebody whom the application did not ask for; its own user goes on."""
    source = Static(APP_USER, APP_PASSWORD)
    with place.front() as front, place.proxy(front, host=front.host, user=None, credentials=source) as proxy:
        for _ in range(2):
            with pytest.raises(CredentialsError, match=WHOSE) as caught:
                proxy.connect(user=OTHER).close()
            assert isinstance(caught.value, place.error)
        assert front.logins == []
        for more in ({}, {"user": APP_USER}):
            assert user_of(proxy, **more) == APP_USER


def test_a_password_may_have_any_character(place):
    """It is sent as UTF-8 on both drivers; what that cannot encode is an error that does not show it."""
    place.add_user(OTHER, "pä€ss 密")
    try:
        for password in ("pä€ss 密", "no\udcff"):
            source = Static(OTHER, password)
            with place.front() as front, place.proxy(front, host=front.host, user=None, credentials=source) as proxy:
                if password.isprintable():
                    assert user_of(proxy) == OTHER
                    continue
                with pytest.raises(CredentialsError, match="password has a character that UTF-8 cannot") as caught:
                    proxy.connect()
                assert isinstance(caught.value, place.error)
                assert front.logins == []
    finally:
        place.drop_user(OTHER)


def test_a_callable_says_who_logs_in(place):
    """It may make users as it goes, whatever name the URL has for them."""
    source = lambda: (APP_USER, APP_PASSWORD)  # noqa: E731
    with place.front() as front, place.proxy(front, host=front.host, user=OTHER, credentials=source) as proxy:
        assert user_of(proxy) == APP_USER


def test_a_source_of_another_user_than_that_of_the_url_is_an_error(place):
    """The URL is as good as connect()."""
    source = Static(APP_USER, APP_PASSWORD)
    with place.front() as front, place.proxy(front, host=front.host, user=OTHER, credentials=source) as proxy:
        with pytest.raises(CredentialsError, match=WHOSE):
            proxy.connect().close()
        assert front.logins == []
        assert user_of(proxy, user=APP_USER) == APP_USER


def test_a_mapping_picks_the_source_of_the_user(place):
    """Of connect(), else of the URL; one that has none is an error before anything is sent."""
    place.add_user(OTHER, "hush")
    sources = {APP_USER: Static(APP_USER, APP_PASSWORD), OTHER: lambda: (OTHER, "hush")}
    try:
        with place.front() as front, place.proxy(front, host=front.host, credentials=sources) as proxy:
            with pytest.raises(ConfigurationError, match="no source for the database user 'nobody'"):
                proxy.connect(user="nobody")
            assert front.accepted == 0
            for more, user in (({}, APP_USER), ({"user": OTHER}, OTHER), ({"user": APP_USER}, APP_USER)):
                assert user_of(proxy, **more) == user
            assert {login.user for login in front.logins} == {APP_USER, OTHER}
    finally:
        place.drop_user(OTHER)


def test_a_mapping_whose_source_is_of_another_user_is_an_error(place):
    """What it is filed under does not make it that user's."""
    sources = {OTHER: Static(APP_USER, APP_PASSWORD)}
    with place.front() as front, place.proxy(front, host=front.host, user=OTHER, credentials=sources) as proxy:
        with pytest.raises(CredentialsError, match=WHOSE):
            proxy.connect().close()
        assert front.logins == []
