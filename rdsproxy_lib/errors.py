"""The errors this library adds to the driver's own.

Each reaches the application as a class that is also the driver's (`psycopg.OperationalError` or the fitting
child), so that existing `except` clauses and retry loops keep working; the engine makes those twins. Errors
that come from the server or the driver pass unchanged.
"""

from __future__ import annotations

from typing import ClassVar


class Error(Exception):
    """Base of everything this library raises by itself.

    `retry_safe` says whether the work that failed may be tried again without the risk of doing it twice.
    """

    __module__ = "rdsproxy_lib"
    retry_safe: ClassVar[bool] = False


class ConfigurationError(Error, ValueError):
    """An option is wrong; the message names it and the allowed values. Raised before anything is opened.

    Of `resolve_commits` only the server can tell: it is raised by the first `connect()`, or where the table is gone
    later by a COMMIT, which is undone then.
    """

    __module__ = "rdsproxy_lib"


class BorrowTimeout(Error):
    """No database connection became free within `connection_borrow_timeout`. Nothing was sent.

    SQLSTATE 08000, as RDS Proxy answers; the last connect error, if there was one, is `__cause__`.
    """

    __module__ = "rdsproxy_lib"
    retry_safe = True


class NoWriterAvailable(BorrowTimeout):
    """No database connection could be opened because no writer answered in time. Nothing was sent."""

    __module__ = "rdsproxy_lib"


class TransactionLost(Error):
    """The database connection died while a transaction was open; the server has rolled it back.

    SQLSTATE 40001: roll back, then run the whole transaction again. The client connection lives on.
    """

    __module__ = "rdsproxy_lib"
    retry_safe = True


class OutcomeUnknown(Error):
    """The database connection died while a COMMIT or a write was under way: it may or may not have happened.

    SQLSTATE 08007. Look before doing it again. The client connection lives on.
    """

    __module__ = "rdsproxy_lib"


class SessionLost(Error):
    """What the session had on its database connection cannot be had again. The client connection is closed.

    The connection of a pinned session died, and with it what pinned it (temporary table, lock, …); or one died when
    the transaction was over, before what it had set could be read; or the server refuses to set again what the
    session had set (a role that was dropped). SQLSTATE 08006.

    With `resolve_commits`, where it was lost in a COMMIT: `committed` says what became of that, True or False; None
    where it is not known, or there was none. False makes `retry_safe` True, on a new connection.
    """

    __module__ = "rdsproxy_lib"
    committed: bool | None = None


class DiagnosticsLost(Error):
    """A question about an earlier statement can no longer be answered for certain.

    `currval()`, `lastval()`; MySQL: `LAST_INSERT_ID()`, `ROW_COUNT()`, `FOUND_ROWS()`, warnings. Another session may
    have used that database connection since. `keep_diagnostics=True` keeps it from one statement to the next.
    """

    __module__ = "rdsproxy_lib"


class CredentialsError(Error):
    """No usable user name and password could be obtained from the credentials source."""

    __module__ = "rdsproxy_lib"


class TlsRequired(Error):
    """`require_tls` is set and the database connection would not have been encrypted."""

    __module__ = "rdsproxy_lib"


class PinRefused(Error):
    """The statement would pin the session, and must not: nothing was sent.

    `max_pinned_percent` of the pool is pinned already, or `pin_policy` says ``error`` for the reason.
    """

    __module__ = "rdsproxy_lib"
    retry_safe = True


class WriteRefused(Error):
    """A session of a READ_ONLY endpoint found no reader, and this may write: nothing was sent.

    With ``reader_fallback="writer"`` the writer answers such a session what provably only reads. SQLSTATE 25006, as a
    reader refuses a write.
    """

    __module__ = "rdsproxy_lib"


class DrainTimeout(Error, TimeoutError):
    """`Proxy.pause()` or `drain()`: what was under way did not come to its end in time. It goes on, and all else too.

    The message names who has a database connection.
    """

    __module__ = "rdsproxy_lib"
    retry_safe = True


class ProxyClosed(Error):
    """The `Proxy` was closed; its client connections cannot be used any more."""

    __module__ = "rdsproxy_lib"
