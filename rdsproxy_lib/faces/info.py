"""`conn.info` of a logical psycopg connection."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from psycopg import pq
from psycopg._connection_info import ConnectionInfo
from psycopg._encodings import pg2pyenc
from psycopg._tz import get_tzinfo

from ..session import Hold

if TYPE_CHECKING:
    from .psycopg import Connection


LIMITS = frozenset(
    {"connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
)
"""Parameters that each database connection is given, whether anybody asked for them or not."""


class Reported:
    """What stands for a libpq connection where no backend is held, for a session with parameters of its own."""

    def __init__(self, connection: Connection[Any], encoding: str = "") -> None:
        self._connection = connection
        self._encoding = encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection._rdsproxy_pgconn(), name)

    def parameter_status(self, name: bytes) -> bytes | None:
        return self._connection._rdsproxy_reported(name)


class Info(ConnectionInfo):
    """`conn.info`, without a backend where the driver needs none."""

    __module__ = "psycopg"

    def __init__(self, connection: Connection[Any]) -> None:
        self._rdsproxy_connection = connection

    @property
    def pgconn(self) -> pq.abc.PGconn:  # type: ignore[override]
        """Asked each time: what was in use once may be another session's by now."""
        pgconn: pq.abc.PGconn = self._rdsproxy_connection._rdsproxy_pgconn()
        return pgconn

    @property
    def transaction_status(self) -> pq.TransactionStatus:
        if self._rdsproxy_connection._rdsproxy.session.hold is Hold.TX_LOST:
            return pq.TransactionStatus.INERROR
        return super().transaction_status

    @property
    def backend_pid(self) -> int:
        """The process id of a backend that from now on is this session's: the session is pinned.

        For logging, `conn.rdsproxy.backend_id` says which one was used last, without a pin.
        """
        pid: int = self._rdsproxy_connection._rdsproxy_raw("info.backend_pid").backend_pid
        return pid

    def parameter_status(self, param_name: str) -> str | None:
        value = self._rdsproxy_connection._rdsproxy_reported(param_name.encode())
        return None if value is None else value.decode(self.encoding)

    @property
    def encoding(self) -> str:
        if self.pgconn.status != pq.ConnStatus.OK:
            return super().encoding  # closed or lost, where the server reports nothing
        return pg2pyenc(self._rdsproxy_connection._rdsproxy_reported(b"client_encoding") or b"UTF8")

    @property
    def timezone(self) -> tzinfo:
        return get_tzinfo(Reported(self._rdsproxy_connection))  # type: ignore[arg-type]

    def get_parameters(self) -> dict[str, str]:
        # The limits on a connection are the library's; what was asked for is the session's.
        given = self._rdsproxy_connection._rdsproxy.login.parameters
        parameters = super().get_parameters()
        for name in LIMITS:
            parameters.pop(name, None)
        return parameters | {name: str(given[name]) for name in LIMITS & given.keys()}

    @property
    def error_message(self) -> str:
        connection = self._rdsproxy_connection
        if connection._rdsproxy.backend is None and not connection.closed:
            return connection._rdsproxy_error_message
        return super().error_message
