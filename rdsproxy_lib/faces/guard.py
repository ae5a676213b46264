"""What user code gets from `conn.pgconn`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from .psycopg import Connection

ANSWERED = frozenset(
    {
        "db",
        "error_message",
        "full_protocol_version",
        "get_error_message",
        "host",
        "hostaddr",
        "info",
        "needs_password",
        "options",
        "parameter_status",
        "pipeline_status",
        "port",
        "protocol_version",
        "server_version",
        "ssl_in_use",
        "status",
        "transaction_status",
        "used_gssapi",
        "used_password",
        "user",
        "_encoding",
    }
)
"""Questions that need no backend of one's own."""


class GuardedPGconn(wrapt.BaseObjectProxy):  # type: ignore[type-arg]  # not subscriptable at run time
    """The libpq connection of a session, for those who reach below the driver.

    Status, parameters and versions are answered at once. Anything else borrows a backend and pins the session to
    it (RAW_ACCESS), since what is done there cannot be seen. Still an instance of PGconn.
    """

    def __init__(self, connection: Connection[Any]) -> None:
        super().__init__(connection._rdsproxy_pgconn())
        self._self_connection = connection

    def __getattr__(self, name: str) -> Any:
        connection = self._self_connection
        if name == "parameter_status":
            return connection._rdsproxy_reported
        if name == "_encoding":
            return connection.info.encoding
        if name in ANSWERED or connection.closed:
            return getattr(connection._rdsproxy_pgconn(), name)
        return getattr(connection._rdsproxy_raw(f"pgconn.{name}"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_self_") or name == "__wrapped__":
            super().__setattr__(name, value)
        else:
            setattr(self._self_connection._rdsproxy_raw(f"pgconn.{name}"), name, value)
