"""RDS Proxy inside your Python process: many client connections over few database connections."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from .errors import (
    BorrowTimeout,
    ConfigurationError,
    CredentialsError,
    DiagnosticsLost,
    DrainTimeout,
    Error,
    NoWriterAvailable,
    OutcomeUnknown,
    PinRefused,
    ProxyClosed,
    SessionLost,
    TlsRequired,
    TransactionLost,
    WriteRefused,
)

if TYPE_CHECKING:
    from .config import TLS
    from .credentials import Static
    from .explanation import explain
    from .iam import IamToken
    from .proxy import Proxy
    from .registry import configure, connect
    from .secrets_manager import SecretsManager

__version__ = "0.1.0"

__all__ = [
    "TLS",
    "BorrowTimeout",
    "ConfigurationError",
    "CredentialsError",
    "DiagnosticsLost",
    "DrainTimeout",
    "Error",
    "IamToken",
    "NoWriterAvailable",
    "OutcomeUnknown",
    "PinRefused",
    "Proxy",
    "ProxyClosed",
    "SecretsManager",
    "SessionLost",
    "Static",
    "TlsRequired",
    "TransactionLost",
    "WriteRefused",
    "configure",
    "connect",
    "explain",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())

# Loaded when asked for, so that the import costs little where it is not used, and no driver is loaded by it.
_LAZY = {
    "TLS": ".config",
    "IamToken": ".iam",
    "Static": ".credentials",
    "SecretsManager": ".secrets_manager",
    "PinWarning": ".events",
    "PinnedShareHigh": ".events",
    "Proxy": ".proxy",
    "SessionPinned": ".events",
    "SessionUnpinned": ".events",
    "StateLeaked": ".events",
    "configure": ".registry",
    "connect": ".registry",
    "explain": ".explanation",
}


def __getattr__(name: str) -> Any:
    value: Any
    if name in ("psycopg", "pymysql"):  # a drop-in module
        value = importlib.import_module(f".{name}", __name__)
    elif name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
