"""Drop-in for `import psycopg`: the same names, with `connect()` multiplexed.

`AsyncConnection` is the driver's own and is not multiplexed: the first use says so in a warning.
"""

from __future__ import annotations

import warnings
from typing import Any

import psycopg as _driver
from psycopg import *  # noqa: F403
from psycopg import adapters, conninfo, crdb, errors, pq, rows, sql, types  # noqa: F401
from psycopg.conninfo import conninfo_to_dict

from .faces import psycopg as _face
from .proxy import SESSION_KEYWORDS as _SESSION
from .registry import connect_parameters

__version__ = _driver.__version__
__all__ = _driver.__all__


class Connection(_face.Connection):
    """psycopg's Connection, with a database connection borrowed per transaction."""

    __module__ = "psycopg"

    @classmethod
    def connect(cls, conninfo: str = "", *, rdsproxy: dict[str, Any] | None = None, **kwargs: Any) -> Connection:  # type: ignore[override]
        """`psycopg.connect()` through the Proxy that this process shares for the target; `rdsproxy` holds its options.

        Arguments, defaults and environment variables are the driver's.
        """
        session = {name: kwargs.pop(name) for name in _SESSION & kwargs.keys()}
        parameters = conninfo_to_dict(conninfo, **kwargs)
        return connect_parameters(cls, "postgresql", {**parameters, **session}, rdsproxy or {})  # type: ignore[return-value]


class AsyncConnection(_driver.AsyncConnection[Any]):
    """psycopg's AsyncConnection: one database connection each, not multiplexed."""

    __module__ = "psycopg"
    _rdsproxy_warned = False

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> AsyncConnection:  # type: ignore[override]
        """The driver's own `connect()`; the first call warns."""
        if not AsyncConnection._rdsproxy_warned:
            AsyncConnection._rdsproxy_warned = True
            warnings.warn("rdsproxy_lib does not multiplex AsyncConnection; it connects directly", stacklevel=2)
        return await super().connect(*args, **kwargs)


connect = Connection.connect


def __getattr__(name: str) -> Any:
    return getattr(_driver, name)
