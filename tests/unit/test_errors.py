"""Our errors: one tree, and twins that are the driver's classes too."""

from __future__ import annotations

import inspect
import pickle
import ssl

import psycopg
import pymysql
import pytest

import rdsproxy_lib
from rdsproxy_lib import errors
from rdsproxy_lib.backend import Refusal
from rdsproxy_lib.engines import mysql_errors
from rdsproxy_lib.engines.postgresql import TWINS

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.Error) and kind is not errors.Error
]
RAISED = [kind for kind in KINDS if kind not in (errors.ConfigurationError, errors.DrainTimeout)]
SQLSTATES = {
    "BorrowTimeout": "08000",
    "NoWriterAvailable": "08000",
    "TransactionLost": "40001",
    "OutcomeUnknown": "08007",
    "SessionLost": "08006",
    "DiagnosticsLost": "55000",
    "WriteRefused": "25006",
}
SAFE_TO_RETRY = {"BorrowTimeout", "NoWriterAvailable", "TransactionLost", "PinRefused"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_public(kind):
    """It can be caught by its name in rdsproxy_lib, and by the base of all."""
    assert getattr(rdsproxy_lib, kind.__name__) is kind
    assert kind.__name__ in rdsproxy_lib.__all__
    assert issubclass(kind, rdsproxy_lib.Error)
    assert kind.__module__ == "rdsproxy_lib"
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_every_error_has_a_twin_of_the_drivers(kind):
    """What reaches the application is ours and psycopg's OperationalError, with the code that says what to do."""
    error = TWINS[kind]("what happened")
    assert isinstance(error, kind)
    assert isinstance(error, psycopg.OperationalError | psycopg.errors.SerializationFailure)
    assert isinstance(error, psycopg.OperationalError)
    assert error.sqlstate == SQLSTATES.get(kind.__name__)
    assert error.retry_safe == (kind.__name__ in SAFE_TO_RETRY)
    assert type(error).__name__ == kind.__name__
    assert str(error) == "what happened"


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_errors_travel_between_processes(kind):
    """A worker's error can be pickled, as the driver's can."""
    error = pickle.loads(pickle.dumps(TWINS[kind]("what happened")))
    assert isinstance(error, kind)
    assert error.args == ("what happened",)


def test_a_configuration_error_is_a_value_error():
    """It is the programmer's, not the database's."""
    assert issubclass(errors.ConfigurationError, ValueError)
    assert errors.ConfigurationError not in TWINS


def test_no_writer_is_a_borrow_timeout():
    """Who handles the one handles the other."""
    assert issubclass(errors.NoWriterAvailable, errors.BorrowTimeout)
    assert isinstance(TWINS[errors.NoWriterAvailable](""), errors.BorrowTimeout)


@pytest.mark.parametrize(
    ("kind", "reason", "refusal"),
    [
        (ssl.SSLError, "UNSUPPORTED_PROTOCOL", Refusal.PERMANENT),
        (ssl.SSLError, "TLSV13_ALERT_CERTIFICATE_REQUIRED", Refusal.PERMANENT),
        (ssl.SSLCertVerificationError, "CERTIFICATE_VERIFY_FAILED", Refusal.PERMANENT),
        (ssl.SSLError, "TLSV1_ALERT_INTERNAL_ERROR", Refusal.TRANSIENT),
        (ssl.SSLEOFError, "UNEXPECTED_EOF_WHILE_READING", Refusal.TRANSIENT),
        (ssl.SSLError, None, Refusal.TRANSIENT),
        (ConnectionResetError, None, Refusal.TRANSIENT),
    ],
)
def test_which_troubles_with_tls_are_final(kind, reason, refusal):
    """A certificate or a version that one side does not take; but not a connection that ended, as in a failover."""
    cause = kind(1, f"[SSL: {reason}] {reason}")
    cause.reason = reason
    error = pymysql.err.OperationalError(2003, f"Can't connect to MySQL server on 'db' ({cause})")
    error.original_exception = cause
    assert mysql_errors.refusal_of(error) is refusal
    lost = pymysql.err.OperationalError(2013, f"Lost connection to MySQL server during query ({cause})")
    lost.__context__ = cause
    assert mysql_errors.refusal_of(lost) is refusal


def test_trouble_of_the_program_with_tls_elsewhere_is_not_the_databases():
    """A statement in a handler of another error has that as its context."""
    elsewhere = ssl.SSLError(1, "[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol")
    elsewhere.reason = "UNSUPPORTED_PROTOCOL"
    lost = pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")
    lost.__context__ = elsewhere
    assert mysql_errors.refusal_of(lost) is Refusal.TRANSIENT
