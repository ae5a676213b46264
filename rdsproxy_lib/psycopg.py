"""Drop-in for `import psycopg`: the same names, with `connect()` multiplexed.

`AsyncConnection` is the driver's own and is not multiplexed: the first use says so in a warning.
"""

from __future__ import annotations

import warnings
from typing import Any

import psycopg as _driver
from psycopg import *  # noqa: F403
from psycopg import adapters, conninfo, crdb, errors, pq, rows, sql, types
from psycopg.rows import Row as _Row

from .engines.postgresql import SESSION_KEYWORDS as _SESSION_KEYWORDS
from .faces import psycopg as _face
from .registry import connect_parameters as _connect_parameters

__version__ = _driver.__version__
__all__ = [*_driver.__all__, "adapters", "conninfo", "crdb", "errors", "pq", "rows", "sql", "types"]


class Connection(_face.Connection[_Row]):  # type: ignore[no-redef]
    """psycopg's Connection, with a database connection borrowed per transaction."""

    __module__ = "psycopg"

    @classmethod
    def connect(cls, conninfo: str = "", *, rdsproxy: dict[str, Any] | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """`psycopg.connect()` through the Proxy that this process shares for the target; `rdsproxy` holds its options.

        Arguments, defaults and environment variables are the driver's.
        """
        session = {name: kwargs.pop(name) for name in _SESSION_KEYWORDS & kwargs.keys()}
        parameters = _driver.conninfo.conninfo_to_dict(conninfo, **kwargs)
        return _connect_parameters(cls, "postgresql", {**parameters, **session}, rdsproxy or {})


class AsyncConnection(_driver.AsyncConnection[_Row]):  # type: ignore[no-redef]
    """psycopg's AsyncConnection: one database connection each, not multiplexed."""

    __module__ = "psycopg"
    _rdsproxy_warned: list[bool] = []  # noqa: RUF012

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Any:
        """The driver's own `connect()`; the first call warns."""
        if not cls._rdsproxy_warned:
            cls._rdsproxy_warned.append(True)
            warnings.warn("rdsproxy_lib does not multiplex AsyncConnection; it connects directly", stacklevel=2)
        return await super().connect(*args, **kwargs)


connect = Connection.connect


def __getattr__(name: str) -> Any:
    return getattr(_driver, name)
