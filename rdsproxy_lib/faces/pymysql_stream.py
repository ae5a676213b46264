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
        if not self.unbuffered_active:
            return None
        if not self._rdsproxy_is_current(connection):
            hold = connection._rdsproxy.session.hold
            if hold > _BORROWED:
                raise connection._rdsproxy.illegal(hold)
            raise err.OperationalError(CR.CR_SERVER_LOST, "the rest of the rows went with their database connection")
        if connection._rdsproxy_is_exchanging and connection._rdsproxy_lock.user is HERE.thread:
            return super()._read_rowdata_packet_unbuffered()
        return connection._rdsproxy_read(super()._read_rowdata_packet_unbuffered)

    def _rdsproxy_is_current(self, connection: Any) -> bool:
        """Whether what is left of it can still be read, and has not gone with the backend it came from."""
        if connection._result is self and connection._rdsproxy.backend is not None:
            return True
        self.unbuffered_active = False
        self.connection = None
        return False

    def _finish_unbuffered_query(self) -> None:
        connection = self.connection
        if not self.unbuffered_active or not self._rdsproxy_is_current(connection):
            return
        if connection._rdsproxy_is_exchanging and connection._rdsproxy_lock.user is HERE.thread:
            super()._finish_unbuffered_query()
        elif not connection._rdsproxy.pool.is_inside():  # where a finaliser leaves it to the next statement
            connection._rdsproxy_read(super()._finish_unbuffered_query)
