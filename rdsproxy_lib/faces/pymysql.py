"""The logical PyMySQL connection: a connection of the driver's class without a socket of its own.

PyMySQL's cursors only call `query()` and `next_result()` of their connection and read `_result`, so they need no
change. For the length of an exchange this object has the socket of a borrowed backend; everything else (status
word, converters, encoding, time limits, the last result) is the session's and lives here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from weakref import ref

from pymysql.charset import charset_by_name
from pymysql.connections import Connection as Driver
from pymysql.connections import err
from pymysql.constants import COMMAND
from pymysql.cursors import Cursor

from .. import errors
from ..backend import HERE
from ..client import Client
from ..engines.mysql_settings import CHARACTER_SETS, text_of
from ..engines.mysql_tracking import AUTOCOMMIT
from ..session import Hold
from ..sql import Reason
from .mysql_statements import BEGIN, COMMIT, HARMLESS, ROLLBACK, SET_AUTOCOMMIT, USE
from .pymysql_aftermath import NO_SOCKET
from .pymysql_exchange import Exchange, OwnedLock

_PARKED, _BORROWED, _TX_LOST, _SESSION_LOST = Hold.PARKED, Hold.BORROWED, Hold.TX_LOST, Hold.SESSION_LOST


class Connection(Exchange):
    """A client connection: PyMySQL's interface, with a database connection borrowed per transaction.

    Made by `Proxy.connect()`. `rdsproxy` is the one attribute it adds.
    """

    __module__ = "pymysql.connections"

    cursorclass: type[Cursor] = Cursor
    use_unicode = True

    def __init__(self, make_client: Callable[[Any, Any], Client], **session: Any) -> None:
        """`make_client(weak reference to this, its lock)` makes the client; `session` holds PyMySQL's own keywords."""
        weak = ref(self)
        self._rdsproxy_lock = lock = OwnedLock(weak)
        self._rdsproxy = client = make_client(weak, lock)
        login: Any = client.login
        is_deferred = session.pop("defer_connect", False)
        # The driver's own constructor judges its arguments.
        model = Driver(defer_connect=True, ssl_disabled=True, **session)
        self.autocommit_mode = model.autocommit_mode
        for argument in session.keys() & _KEPT.keys():
            for name in _KEPT[argument]:
                setattr(self, name, getattr(model, name))
        self.encoding = login.prototype.encoding
        self._rdsproxy_decoders = login.prototype.decoders
        self._rdsproxy_columns = login.columns
        self._sock = None if is_deferred else NO_SOCKET

    @property
    def rdsproxy(self) -> Client:
        """What the proxy knows of this session: `pinned pin_reasons pin() unpin() in_transaction backend_id`."""
        return self._rdsproxy

    def __getattr__(self, name: str) -> Any:
        # What the driver sets when it is made or logs in, and this object did not need so far.
        client = self.__dict__.get("_rdsproxy")
        if client is None or name.startswith(("__", "_rdsproxy")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        login: Any = client.login
        if name == "server_thread_id" and client.backend_id is not None:
            return (client.backend_id,)
        if name == "server_status":
            status: int = self._rdsproxy_ghost().server_status
            if self.autocommit_mode is not None:
                status = status | AUTOCOMMIT if self.autocommit_mode else status & ~AUTOCOMMIT
            self.server_status = status
            return status
        if login.ghost is None and name in _SAID_BY_THE_SERVER:
            self._rdsproxy_ghost()
        try:
            value = getattr(login.ghost or login.prototype, name)
        except AttributeError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None
        if name == "encoders":  # which may be changed
            value = self.encoders = dict(value)
        return value

    @property
    def decoders(self) -> dict[int, Any]:
        """How the values of each column type become Python's."""
        if self._rdsproxy_own_decoders is None:
            self._rdsproxy_own_decoders = dict(self._rdsproxy_decoders)
        return self._rdsproxy_own_decoders

    @decoders.setter
    def decoders(self, value: dict[int, Any]) -> None:
        self._rdsproxy_own_decoders = value

    def _rdsproxy_ghost(self) -> Any:
        client = self._rdsproxy
        if client.login.ghost is None:
            client.haunt()
        return client.login.ghost

    # -- the driver's methods that talk to the server

    def begin(self) -> None:
        """Begin a transaction."""
        self._rdsproxy_run(BEGIN, Driver.begin)

    def commit(self) -> None:
        """Commit. Asks nobody where nothing is open."""
        if self._rdsproxy_is_idle():
            self._rdsproxy_forget_last()
            return
        if self._rdsproxy.session.hold is _TX_LOST:
            raise self._rdsproxy.illegal(_TX_LOST)
        self._rdsproxy_run(COMMIT, Driver.commit)

    def rollback(self) -> None:
        """Roll back. Asks nobody where nothing is open."""
        if self._rdsproxy.session.hold is _TX_LOST:
            with self._rdsproxy_lock:
                if self._rdsproxy.session.hold is _TX_LOST:
                    self._rdsproxy.rolled_back()
                    self._result = None
                    return
        if self._rdsproxy_is_idle():
            self._rdsproxy_forget_last()
            return
        try:
            self._rdsproxy_run(ROLLBACK, Driver.rollback)
        except err.MySQLError:
            if not self._rdsproxy_is_rolled_back():
                raise

    def _rdsproxy_forget_last(self) -> None:
        """What the driver and the server forget with a statement that was not needed."""
        self._rdsproxy_next = ""
        self._rdsproxy.forget_last()
        result = self._result
        if result is not None and (result.unbuffered_active or result.has_next):
            return  # it is still to be read
        self._result = None
        if self._rdsproxy.login.dialect.server == "mysql":  # MariaDB keeps the list of warnings
            self._rdsproxy_warnings = None

    def _rdsproxy_is_idle(self) -> bool:
        """Whether nothing can be open: no backend is held."""
        client = self._rdsproxy
        if self._sock is None or self._closed or client.idle_timeout:
            return False
        with self._rdsproxy_lock:
            return client.backend is None and client.session.hold is _PARKED and not client.is_orphan()

    def autocommit(self, value: Any) -> None:
        """Switch autocommit. While nothing is open, the next backend that is borrowed is told."""
        with self._rdsproxy_lock:
            self.autocommit_mode = bool(value)
            if bool(value) == self.get_autocommit():
                return
            if self._sock is None:
                raise err.InterfaceError(0, "")
            if self._rdsproxy_is_parked() and not self._rdsproxy_next:
                status = self.server_status
                self.server_status = status | AUTOCOMMIT if value else status & ~AUTOCOMMIT
                self._rdsproxy_forget_last()
                return
        self._rdsproxy_run(SET_AUTOCOMMIT, Driver._send_autocommit_mode)

    def show_warnings(self) -> Any:
        """The rows of SHOW WARNINGS about the last statement."""
        affected = self._affected_rows
        self.query("SHOW WARNINGS")
        rows = self._result.rows
        self._result, self._affected_rows = None, affected  # as the driver leaves them
        return rows

    def select_db(self, db: Any) -> None:
        """Choose another database. Asks nobody where it is in use already, and no transaction is open."""
        client = self._rdsproxy
        login: Any = client.login
        if self._rdsproxy_is_parked() and login.ghost is not None:
            schema = client.wanted.values.get("schema", login.given["schema"])
            if text_of(schema) == (db.encode() if isinstance(db, str) else db):
                self._result = None
                client.forget_last()
                return
        self._rdsproxy_run(USE, Driver.select_db, db)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """SET NAMES. Asks nobody where this is in force already, and no transaction is open."""
        encoding = charset_by_name(charset).encoding
        client: Any = self._rdsproxy
        begins_so = (charset, collation) == (client.login.prototype.charset, client.login.prototype.collation)
        is_known = begins_so and not client.engine.begins_its_own_way(client.login)
        if is_known and self._rdsproxy_is_parked() and client.wanted.values.keys().isdisjoint(CHARACTER_SETS):
            client.forget_last()
        else:
            collated = f" COLLATE {collation}" if collation else ""
            self.query(f"SET NAMES {charset}{collated}")
        self.charset, self.encoding, self.collation = charset, encoding, collation

    def _rdsproxy_is_parked(self) -> bool:
        client = self._rdsproxy
        return self._sock is not None and client.backend is None and client.session.hold is _PARKED

    def ping(self, reconnect: bool = False) -> None:
        """Ask the server whether it is there. With `reconnect`, a connection that is closed or lost begins anew."""
        if reconnect:
            warnings.warn(
                "The 'reconnect' argument is deprecated. Create a new connection if you want to reconnect.",
                DeprecationWarning,
                2,
            )
        if self._sock is None or self._rdsproxy.session.hold >= _SESSION_LOST:
            if not reconnect:
                if self._sock is None:
                    raise err.Error("Already closed")
                raise self._rdsproxy.illegal(self._rdsproxy.session.hold)
            self.connect()
        try:
            self._rdsproxy_run(HARMLESS, _ping)
        except err.MySQLError as error:
            if not reconnect or isinstance(error, errors.BorrowTimeout):
                raise
            self.connect()
            self._rdsproxy_run(HARMLESS, _ping)

    def thread_id(self) -> int:
        """The id of the database connection that was used last; of none in particular before the first statement."""
        number: int = self.server_thread_id[0]
        return number

    def _execute_command(self, command: int, sql: Any) -> None:
        if not self._rdsproxy_is_exchanging and self._sock is not None:
            with self._rdsproxy_lock:  # of somebody who speaks the protocol himself
                self._rdsproxy_need(None)
                self._rdsproxy.add_pin(Reason.RAW_ACCESS, "_execute_command()")
                self._rdsproxy.backend.unresettable = True
        super()._execute_command(command, sql)

    # -- the beginning and the end

    def connect(self, sock: Any = None) -> None:
        """Begin a new session: after `defer_connect=True`, after `close()`, or instead of the present one."""
        if sock is not None:
            raise err.NotSupportedError("a multiplexed connection cannot use a socket that is brought along")
        if self._sock is not None and not self._closed:
            self._rdsproxy_end()
        self._rdsproxy = self._rdsproxy.successor()
        self._closed = False
        self._result = self._rdsproxy_warnings = self._rdsproxy_statement = None
        self._rdsproxy_next = ""
        self.__dict__.pop("server_status", None)
        self._sock = NO_SOCKET
        prototype = self._rdsproxy.login.prototype  # type: ignore[attr-defined]
        if (self.charset, self.collation) != (prototype.charset, prototype.collation):
            collated = f" COLLATE {self.collation}" if self.collation else ""
            self.query(f"SET NAMES {self.charset}{collated}")  # as the driver does at each login

    @property
    def open(self) -> bool:
        """True if the connection is open."""
        return self._sock is not None and self._rdsproxy.session.hold < _SESSION_LOST

    def close(self) -> None:
        """Close the client connection: an open transaction is rolled back, the backend cleaned and given back.

        Raises Error where it is closed already, as the driver does.
        """
        if self._closed:
            raise err.Error("Already closed")
        self._closed = True
        self._rdsproxy_end()

    def _rdsproxy_end(self) -> None:
        self._closed = True
        lock = self._rdsproxy_lock
        if lock.user is not HERE.thread and lock.mutex.locked():
            self._rdsproxy.interrupt()  # an exchange is under way in another thread: cut it short; its end closes
        elif self._rdsproxy.backend is not None and not lock.mutex.locked():
            with lock:
                pass
        self._rdsproxy_finish_close()

    def _rdsproxy_finish_close(self) -> None:
        """Close what is left, unless an exchange is still under way: its end comes here again."""
        client = self._rdsproxy
        lock = self._rdsproxy_lock
        if not lock.mutex.locked():
            lock.user = HERE.thread
        if lock.mutex.acquire(blocking=False):
            try:
                if client.session.hold < _SESSION_LOST:
                    client.close()
                self._sock = self._rfile = None
            finally:
                lock.user = None
                lock.mutex.release()

    def _rdsproxy_expire(self, now: float) -> None:
        """Close it if `idle_client_timeout` is over, unless an exchange is under way."""
        if not self._rdsproxy.is_due(now):
            return
        self._rdsproxy_is_expiring = True
        try:
            if self._rdsproxy_lock.mutex.acquire(blocking=False):
                try:
                    self._rdsproxy.expire(now)
                    if self._rdsproxy.backend is None and self._rfile is not None:
                        self._sock, self._rfile = NO_SOCKET, None
                finally:
                    self._rdsproxy_lock.mutex.release()
        finally:
            self._rdsproxy_is_expiring = False

    def _rdsproxy_lock_is_taken(self) -> None:
        """PyMySQL's connections are for one thread at a time, and so are these."""
        if self._rdsproxy_is_expiring:
            return  # another thread looks whether `idle_client_timeout` is over: wait for its verdict
        if self._rdsproxy.is_orphan():
            self._rdsproxy.orphan()
            raise self._rdsproxy.illegal(_SESSION_LOST)
        if self._rdsproxy_lock.user is HERE.thread:
            if self._rdsproxy_is_exchanging:
                raise err.ProgrammingError("this connection is in the middle of an exchange of this very thread")
            self._rdsproxy_lock.__exit__()  # an interrupt fell on its very beginning
            return
        raise err.ProgrammingError(
            "two threads use one PyMySQL connection at the same time; nothing was sent. Give each thread its own"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} {self._rdsproxy!r} at 0x{id(self):x}>"

    def __del__(self) -> None:
        # May run anywhere, also inside a pool operation of this very thread: no lock, no protocol.
        client = self.__dict__.get("_rdsproxy")
        if client is not None and client.session.hold < _SESSION_LOST:
            client.abandon()


def _ping(connection: Connection) -> None:
    connection._execute_command(COMMAND.COM_PING, b"")
    connection._read_ok_packet()


_KEPT = {
    "conv": ("encoders", "decoders"),
    "cursorclass": ("cursorclass",),
    "max_allowed_packet": ("max_allowed_packet",),
    "read_timeout": ("_read_timeout",),
    "use_unicode": ("use_unicode",),
    "write_timeout": ("_write_timeout",),
}
"""What the driver makes of the arguments that are the session's."""

_SAID_BY_THE_SERVER = {
    "protocol_version",
    "salt",
    "server_capabilities",
    "server_charset",
    "server_language",
    "server_thread_id",
    "server_version",
}
