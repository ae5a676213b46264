"""What an error of MySQL, MariaDB or PyMySQL means, and ours as PyMySQL's."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from pymysql.connections import err  # not by its name: a program that imports MySQLdb.err replaces that
from pymysql.constants import CR, ER

from .. import errors
from ..backend import Refusal

DISCONNECTED_FOR_INACTIVITY = 4031  # MySQL's
READ_ONLY_MODE = 1836  # MySQL's
CANCELLED = {ER.QUERY_INTERRUPTED, 1969, 3024}
"""By KILL QUERY or a limit of time: MariaDB's max_statement_time, MySQL's max_execution_time."""
FULL = {ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED}
PERMANENT_CLIENT_ERRORS = {CR.CR_SSL_CONNECTION_ERROR, CR.CR_AUTH_PLUGIN_CANNOT_LOAD, CR.CR_AUTH_PLUGIN_ERR}
CUT_SHORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""Errors of TLS that say no more than that the connection ended."""
OUT_OF_ORDER = "ALERT_INTERNAL_ERROR"
"""A server or a load balancer says so that has trouble of its own."""


# -- our errors as PyMySQL's: the code decides what frameworks make of one, as it does for an error of the server


class BorrowTimeout(errors.BorrowTimeout, err.OperationalError):
    """Code 9501, RDS Proxy's own."""


class NoWriterAvailable(errors.NoWriterAvailable, err.OperationalError):
    """Code 9501."""


class TransactionLost(errors.TransactionLost, err.OperationalError):
    """Code 1213, a deadlock's: every retry loop knows it."""


class OutcomeUnknown(errors.OutcomeUnknown, err.OperationalError):
    """Code 2013."""


class SessionLost(errors.SessionLost, err.OperationalError):
    """Code 2013."""


class DiagnosticsLost(errors.DiagnosticsLost, err.OperationalError):
    """Code 1105, the server's for an error that has no code."""


class CredentialsError(errors.CredentialsError, err.OperationalError):
    """Code 1045, access denied: no server was asked."""


class TlsRequired(errors.TlsRequired, err.OperationalError):
    """Code 3159, the server's for require_secure_transport."""


class PinRefused(errors.PinRefused, err.OperationalError):
    """Code 1105: the refusal is ours."""


class WriteRefused(errors.WriteRefused, err.OperationalError):
    """Code 1290, a reader's for a write."""


class ProxyClosed(errors.ProxyClosed, err.OperationalError):
    """Code 2006: there is nothing to talk to any more."""


TWINS: dict[type[errors.Error], tuple[Callable[[int, str], err.Error], int]] = {
    errors.BorrowTimeout: (BorrowTimeout, 9501),
    errors.NoWriterAvailable: (NoWriterAvailable, 9501),
    errors.TransactionLost: (TransactionLost, ER.LOCK_DEADLOCK),
    errors.OutcomeUnknown: (OutcomeUnknown, CR.CR_SERVER_LOST),
    errors.SessionLost: (SessionLost, CR.CR_SERVER_LOST),
    errors.DiagnosticsLost: (DiagnosticsLost, ER.UNKNOWN_ERROR),
    errors.CredentialsError: (CredentialsError, ER.ACCESS_DENIED_ERROR),
    errors.TlsRequired: (TlsRequired, 3159),
    errors.PinRefused: (PinRefused, ER.UNKNOWN_ERROR),
    errors.WriteRefused: (WriteRefused, ER.OPTION_PREVENTS_STATEMENT),
    errors.ProxyClosed: (ProxyClosed, CR.CR_SERVER_GONE_ERROR),
}


def twin_of(kind: type[errors.Error], message: str) -> err.Error:
    """The error of ours as a class that is PyMySQL's too."""
    twin, code = TWINS[kind]
    return twin(code, message)


def code_of(error: BaseException | None) -> int:
    """The number of an error of the driver or the server; 0 where it has none."""
    if isinstance(error, err.MySQLError) and error.args and isinstance(error.args[0], int):
        return error.args[0]
    return 0


def is_answer(error: Exception) -> bool:
    """Whether an error of a login is the server's own, so that it is there."""
    return bool(code := code_of(error)) and not CR.CR_ERROR_FIRST <= code <= CR.CR_ERROR_LAST


def _is_refused_tls(error: Exception) -> bool:
    """Whether one side does not like the other's certificate, or its version of TLS."""
    cause = getattr(error, "original_exception", error.__context__)  # which the driver has in its message as well
    if not isinstance(cause, ssl.SSLError) or isinstance(cause, CUT_SHORT):
        return False
    reason = cause.reason or ""
    return reason != "" and not reason.endswith(OUT_OF_ORDER) and reason in str(error)


def refusal_of(error: Exception) -> Refusal:
    """What a failed login means, by its code."""
    if not isinstance(error, err.Error) or isinstance(error, errors.TlsRequired | err.NotSupportedError):
        return Refusal.PERMANENT  # of the driver: an argument, or a package that is missing
    code = code_of(error)
    if code in FULL:
        return Refusal.FULL
    if code == ER.SERVER_SHUTDOWN:
        return Refusal.TRANSIENT
    if _is_refused_tls(error):
        return Refusal.PERMANENT
    is_clients = CR.CR_ERROR_FIRST <= code <= CR.CR_ERROR_LAST and code not in PERMANENT_CLIENT_ERRORS
    return Refusal.TRANSIENT if is_clients else Refusal.PERMANENT
