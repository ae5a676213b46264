"""The result of a cursor that does not buffer, SSCursor and its like."""

from __future__ import annotations

from typing import Any

from pymysql.connections import err
from pymysql.constants import CR

from ..backend import HERE
from ..engines.mysql_wire import Result
from ..session import Hold

_BORROWED = Hold.BORROWED


class Stream(Result):
    """A result that is read row by row: the backend is held until its end."""

    def _read_rowdata_packet_unbuffered(self) -> Any:
        connection = self.connection
        if connection is None or not self.unbuffered_active:
            return None
        if self._rdsproxy_is_ours(connection):
            return super()._read_rowdata_packet_unbuffered()
        with connection._rdsproxy_lock:
            client = connection._rdsproxy
            if not self.unbuffered_active:  # another thread has read the last row
                return None
            if self._rdsproxy_is_current(connection):
                return connection._rdsproxy_converse(client.backend, super()._read_rowdata_packet_unbuffered)
            if (hold := client.session.hold) > _BORROWED:
                raise client.illegal(hold)
            raise err.OperationalError(CR.CR_SERVER_LOST, "the rest of the rows went with their database connection")

    def _finish_unbuffered_query(self) -> None:
        connection = self.connection
        if connection is None or not self.unbuffered_active or not self._rdsproxy_is_current(connection):
            return
        if self._rdsproxy_is_ours(connection):
            super()._finish_unbuffered_query()
        elif not connection._rdsproxy.pool.is_inside():  # where a finaliser leaves it to the next statement
            with connection._rdsproxy_lock:
                if self.unbuffered_active and self._rdsproxy_is_current(connection):
                    connection._rdsproxy_converse(connection._rdsproxy.backend, super()._finish_unbuffered_query)

    def _rdsproxy_is_ours(self, connection: Any) -> bool:
        """Whether this thread is in an exchange of the connection, and so has its lock."""
        return connection._rdsproxy_is_exchanging and connection._rdsproxy_lock.user is HERE.thread

    def _rdsproxy_is_current(self, connection: Any) -> bool:
        """Whether what is left of it can still be read, and has not gone with the backend it came from."""
        if connection._result is self and connection._rdsproxy.backend is not None:
            return True
        self.unbuffered_active = False
        self.connection = None
        return False
