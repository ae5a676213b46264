"""Drop-in for `import psycopg`: the same names, with `connect()` multiplexed.

`AsyncConnection` is the driver's own and is not multiplexed: the first use says so in a warning.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import psycopg as _driver
from psycopg import *  # noqa: F403
from psycopg import adapters, conninfo, crdb, errors, pq, rows, sql, types
from psycopg.rows import Row as _Row

from .engines.postgresql_parameters import SESSION_KEYWORDS as _SESSION_KEYWORDS
from .faces import psycopg as _face
from .registry import connect_parameters as _connect_parameters
from .secret import COVER as _COVER
from .secret import hidden as _hidden
from .secret import hiding as _hiding
from .targets import check_password as _check_password

__version__ = _driver.__version__
__all__ = [*_driver.__all__, "adapters", "conninfo", "crdb", "errors", "pq", "rows", "sql", "types"]


_QUOTED = re.compile(r'(?<!parameter)(: |after )".*"', re.DOTALL)


def _parsed(conninfo: str, keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    """The driver's parameters. Of what libpq does not understand it quotes a word or all, and a password with it."""
    try:
        return _driver.conninfo.conninfo_to_dict(conninfo, **keywords)
    except _driver.ProgrammingError as error:
        failure = type(error)(_QUOTED.sub(rf'\1"{_COVER}"', str(error)))
    raise failure


class Connection(_face.Connection[_Row]):  # type: ignore[no-redef]
    """psycopg's Connection, with a database connection borrowed per transaction."""

    __module__ = "psycopg"

    @classmethod
    def connect(cls, conninfo: str = "", *, rdsproxy: dict[str, Any] | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """`psycopg.connect()` through the Proxy that this process shares for the target; `rdsproxy` holds its options.

        Arguments, defaults and environment variables are the driver's.
        """
        conninfo, rdsproxy, kwargs = _hidden(conninfo), _hiding(rdsproxy or {}), _hiding(kwargs)
        session = {name: kwargs.pop(name) for name in _SESSION_KEYWORDS & kwargs.keys()}
        _check_password("postgresql", kwargs)
        parameters = _hiding(_parsed(conninfo, kwargs))
        return _connect_parameters(cls, "postgresql", {**parameters, **session}, rdsproxy)


class AsyncConnection(_driver.AsyncConnection[_Row]):  # type: ignore[no-redef]
    """psycopg's AsyncConnection: one database connection each, not multiplexed."""

    __module__ = "psycopg"
    _rdsproxy_warned: list[bool] = []  # noqa: RUF012

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Any:
        """The driver's own `connect()`; the first call warns."""
        args, kwargs = _hidden(args), _hiding(kwargs)
        if not cls._rdsproxy_warned:
            cls._rdsproxy_warned.append(True)
            warnings.warn("rdsproxy_lib does not multiplex AsyncConnection; it connects directly", stacklevel=2)
        return await super().connect(*args, **kwargs)


connect = Connection.connect


def __getattr__(name: str) -> Any:
    return getattr(_driver, name)
