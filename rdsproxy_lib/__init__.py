"""RDS Proxy inside your Python process: many client connections over few database connections."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .config import TLS
from .credentials import Static
from .errors import (
    BorrowTimeout,
    ConfigurationError,
    CredentialsError,
    DiagnosticsLost,
    Error,
    NoWriterAvailable,
    OutcomeUnknown,
    PinRefused,
    ProxyClosed,
    SessionLost,
    TlsRequired,
    TransactionLost,
)
from .proxy import Proxy
from .registry import configure, connect

if TYPE_CHECKING:
    from .explain import Explanation

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "BorrowTimeout",
    "ConfigurationError",
    "CredentialsError",
    "DiagnosticsLost",
    "Error",
    "NoWriterAvailable",
    "OutcomeUnknown",
    "PinRefused",
    "Proxy",
    "ProxyClosed",
    "SessionLost",
    "Static",
    "TlsRequired",
    "TransactionLost",
    "configure",
    "connect",
    "explain",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def explain(sql: str, engine: str = "postgresql") -> Explanation:
    """What a statement does to multiplexing, and how to avoid a pin. Raises ValueError for an unknown engine."""
    from .explain import explain as _explain

    return _explain(sql, engine)


def __getattr__(name: str) -> Any:
    # The drop-in modules load their driver, so they are loaded when asked for.
    if name == "psycopg":
        import importlib

        return importlib.import_module(".psycopg", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
