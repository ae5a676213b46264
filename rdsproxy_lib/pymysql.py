"""Drop-in for `import pymysql`: the same names and submodules, with `connect()` multiplexed."""

from __future__ import annotations

import sys
from typing import Any

import pymysql as _driver
from pymysql import *  # noqa: F403
from pymysql import (
    charset,
    connections,
    constants,
    converters,
    cursors,
    err,
    optionfile,
    protocol,
    times,
)
from pymysql.constants import CLIENT, COMMAND, CR, ER, FIELD_TYPE, FLAG, SERVER_STATUS

from .faces import pymysql as _face
from .registry import connect_parameters as _connect_parameters
from .secret import hiding as _hiding

__version__ = _driver.__version__
__all__ = [*_driver.__all__, "Connect"]


class Connection(_face.Connection):
    """PyMySQL's Connection, with a database connection borrowed per transaction."""

    __module__ = "pymysql.connections"

    def __init__(self, *, rdsproxy: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """`pymysql.connect()` through the Proxy that this process shares for the target; `rdsproxy` holds its options.

        Arguments and defaults are the driver's.
        """
        rdsproxy, kwargs = _hiding(rdsproxy or {}), _hiding(kwargs)
        _connect_parameters(super().__init__, "mysql", kwargs, rdsproxy)


Connect = connect = Connection

_SUBMODULES = {
    module.__name__.removeprefix("pymysql."): module
    for module in (
        *(charset, connections, constants, converters, cursors, err, optionfile, protocol, times),
        *(CLIENT, COMMAND, CR, ER, FIELD_TYPE, FLAG, SERVER_STATUS),
    )
}


def _alias(package: str) -> None:
    """Make `import <package>.cursors` and its like find the driver's own submodules."""
    for name, module in _SUBMODULES.items():
        sys.modules.setdefault(f"{package}.{name}", module)


def install_as_MySQLdb() -> None:  # the driver's name
    """After this, `import MySQLdb` gives this module: for Django and others that know only that name."""
    sys.modules["MySQLdb"] = sys.modules[__name__]
    _alias("MySQLdb")


_alias(__name__)


def __getattr__(name: str) -> Any:
    return getattr(_driver, name)
