"""What must not be seen: passwords, tokens, and what has one in it. It is hidden where it comes in, and stays so.

To the drivers it is what it was: a text is a text, and equal to it. But its repr shows nothing, so that who logs
arguments, or the local variables of a traceback, logs no secret.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Made = TypeVar("Made")

COVER = "********"

_IN_URL = re.compile(r"(:/+[^\s:/@]*:)[^\s@]*@")


class Secret(str):
    """A text that is not shown; a part of it neither."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(COVER)

    def __getitem__(self, which: Any) -> Secret:
        return Secret(super().__getitem__(which))


class SecretBytes(bytes):
    """The same of bytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(COVER.encode())

    __str__ = __repr__

    def __getitem__(self, which: Any) -> Any:
        part = super().__getitem__(which)
        return SecretBytes(part) if isinstance(part, bytes) else part


HIDDEN = frozenset(
    {
        "credentials",
        "oauth_client_secret",
        "passwd",
        "password",
        "scram_client_key",
        "scram_server_key",
        "ssl_key_password",
        "sslpassword",
    }
)
"""Arguments, of the drivers and of ours, that must not be seen."""


def hidden(value: Any) -> Any:
    """The same with all texts in it as secrets; what is no text stays what it is."""
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, bytes):
        return SecretBytes(value)
    if isinstance(value, Mapping):
        return {name: hidden(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [*map(hidden, value)] if isinstance(value, list) else tuple(map(hidden, value))
    return value


def hiding(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same arguments, those of them hidden that must not be seen, also in mappings (`driver_options`, `ssl`)."""
    return {
        name: hidden(value) if name in HIDDEN else hiding(value) if isinstance(value, Mapping) else value
        for name, value in arguments.items()
    }


def unreadable(parameters: Mapping[str, Any]) -> str | None:
    """The name of one that cannot be sent as UTF-8. The error of a driver would quote it."""
    for name, value in parameters.items():
        try:
            str(value).encode()
        except UnicodeEncodeError:
            return name
    return None


def without_frames(call: Callable[[], Made]) -> Made:
    """What a call of the driver returns. What it raises has no traceback from inside, nor have the errors that led to
    it: the driver's variables have the password.
    """
    handled = sys.exc_info()[1]  # the application's own
    try:
        return call()
    except Exception as error:
        seen: BaseException | None = error
        while seen is not None and seen is not handled:
            seen.__traceback__ = None
            seen = seen.__context__
        raise


def covered(text: str) -> str:
    """The text without the passwords of URLs in it."""
    return _IN_URL.sub(rf"\1{COVER}@", text)
