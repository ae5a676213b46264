"""The settings of a session, and of a database connection: values that are compared by identity. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from weakref import WeakValueDictionary


class Settings:
    """What a session has set, or what is in force on a database connection beyond what it began with.

    Made by `settings_of` alone, so that equal ones are the same object as long as anybody has it.
    """

    __slots__ = ("__weakref__", "mode", "values")

    def __init__(self, values: Mapping[str, str], mode: int) -> None:
        self.values = values
        """By name. PostgreSQL: the server's own spelling of each value. MySQL: the SQL that brings it back."""
        self.mode = mode
        """MySQL: the status bit of autocommit, which every session has one way or the other. Else 0."""

    def __repr__(self) -> str:
        return f"<Settings {', '.join(sorted(self.values)) or 'as at login'}>"  # values may be secrets


_KNOWN: WeakValueDictionary[tuple[frozenset[tuple[str, str]], int], Settings] = WeakValueDictionary()


def settings_of(values: Mapping[str, str], mode: int = 0) -> Settings:
    """The one object for these values."""
    key = frozenset(values.items()), mode
    known = _KNOWN.get(key)
    return known if known is not None else _KNOWN.setdefault(key, Settings(MappingProxyType(dict(values)), mode))


CLEAN = settings_of({})
"""Nothing was set."""


class Immovable(Exception):
    """Raised by `Engine.learn`: what the session has set cannot be taken to another database connection."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        """The name of the reason to pin."""
        self.what = what
