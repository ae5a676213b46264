"""Where the user name and password of a database connection come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .errors import ConfigurationError, CredentialsError


@dataclass(frozen=True, slots=True)
class Static:
    """A fixed user name and password."""

    user: str
    password: str = field(repr=False)


Source: TypeAlias = "Static | Callable[[], tuple[str, str]]"
"""A Static, or a callable that is asked for (user, password) before each login."""


def pick(credentials: Any, user: str | None) -> Source | None:
    """The source for a database user: the only one, or the user's own out of a {user: source} mapping.

    Raises ConfigurationError where a mapping has none for that user.
    """
    if credentials is None:
        return None
    if isinstance(credentials, Mapping):
        if user not in credentials:
            raise ConfigurationError(f"credentials has no source for the database user {user!r}")
        return pick(credentials[user], None)
    if isinstance(credentials, Static):
        return credentials
    if callable(credentials):
        return credentials  # type: ignore[no-any-return]
    raise ConfigurationError(
        "credentials must be a Static, a callable or a mapping of user to one of them,"
        f" not {type(credentials).__name__}"
    )


def fetch(source: Source) -> tuple[str, str]:
    """Ask a source for (user, password). Raises CredentialsError, with the source's own error as its cause."""
    if isinstance(source, Static):
        return source.user, source.password
    try:
        user, password = source()
    except Exception as error:
        raise CredentialsError(
            f"the credentials source raised {type(error).__name__}; no connection was tried"
        ) from error
    if not isinstance(user, str) or not isinstance(password, str):
        raise CredentialsError("the credentials source must return (user, password), both text")
    return user, password
