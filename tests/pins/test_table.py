"""Each row of the table is run on a private connection and through a proxy, and the server is asked what stayed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from pglast import ast, parse_sql, visitors
from psycopg.pq import TransactionStatus

from rdsproxy_lib.engines.postgresql_settings import REVIEWED
from rdsproxy_lib.session import KEPT_AFTER_ERROR
from rdsproxy_lib.sql import Reason, classify
from tests.pins.audit import found_on
from tests.pins.conftest import Stage
from tests.pins.rows import NOT_RUN, ROWS, SCRIPTS, Row
from tests.rival import displacing
from tests.servers import SUPERUSER
from tests.unit.pglast_statements import NOT_FROM_TEXT

IDLE, INTRANS, INERROR = TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR
SHOWN_AS = {
    "SETTING": {"setting", "custom setting", "identity", "seed"},
    "TEMP_TABLE": {"temporary object"},
    "PREPARED_STATEMENT": {"prepared statement"},
    "HOLD_CURSOR": {"cursor"},
    "ADVISORY_LOCK": {"advisory lock"},
    "LISTEN": {"channel"},
    # The one setting of them changes what functions are compiled to, and that no view shows.
    "UNRESETTABLE": {
        "seed", "library", "replication slot", "replication origin", "setting: standard_conforming_strings=off"
    },
}  # fmt: skip
"""Where the server shows what a reason stands for; routines may leave anything."""
MOVABLE = {"setting", "custom setting", "identity"}
"""What a session takes along instead of being pinned for it."""

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "-", str(row)).strip("-") or "nothing")


def run(conn: psycopg.Connection[Any], text: str) -> str:
    """Run a text to its end, data of a COPY included. The SQLSTATE is returned, "" for success."""
    try:
        if re.search(r"\b(FROM STDIN|TO STDOUT)\b", text):
            with conn.cursor().copy(text) as copy:
                if " TO STDOUT" in text:
                    list(copy)
        else:
            conn.execute(text)
    except psycopg.Error as error:
        if not error.sqlstate:  # the driver's own, or a connection that was lost
            raise
        return error.sqlstate
    return ""


def unnumbered(found: set[str]) -> set[str]:
    """The temporary schema without the number that each server process has for it."""
    return {re.sub(r"pg_temp_\d+", "pg_temp", line) for line in found}


def end_transaction(conn: psycopg.Connection[Any]) -> None:
    """Commit if that is possible: what a transaction leaves behind is then all there."""
    if conn.info.transaction_status == INERROR:
        conn.rollback()
    elif conn.info.transaction_status == INTRANS:
        conn.commit()


def expected_pins(row: Row, sqlstate: str) -> set[str]:
    """The names of the reasons that a session has after the row, before the server was asked whether they hold."""
    reasons = set(row.reasons) - ({"UNKNOWN_ROUTINE"} if row.proven else set())
    if sqlstate and not row.leaves_if_failed:
        reasons &= {reason.name for reason in KEPT_AFTER_ERROR}
    return reasons | {cause.reason.name for text in row.before for cause in classify(text).causes}


def still_true(reasons: set[str], found: set[str]) -> set[str]:
    """Those that are left when no transaction is open: what the server can be asked for, it has to show."""
    asked = {reason.name for reason in REVIEWED}
    kinds = {line.partition(":")[0] for line in found}
    return {reason for reason in reasons if reason not in asked or SHOWN_AS[reason] & kinds}


# The table itself -----------------------------------------------------------------------------------------------


class _Classes(visitors.Visitor):
    """The names of all node classes in a tree."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def visit(self, ancestors: object, node: ast.Node) -> None:
        self.names.add(type(node).__name__)


def test_every_class_of_statement_is_run() -> None:
    """A statement that a newer parser of PostgreSQL knows fails here until a row runs it."""
    known = {name for name, value in vars(ast).items() if inspect.isclass(value) and name.endswith("Stmt")} - {"Stmt"}
    found = _Classes()
    for row in ROWS:
        if "FROBNICATE" not in row.text:
            for statement in parse_sql(row.text):
                found.names.add(type(statement).__name__)
                found(statement)
    assert known - found.names - NOT_FROM_TEXT.keys() == NOT_RUN.keys()


def test_every_reason_of_postgresql_has_rows() -> None:
    """No reason a statement can give is without a row that is shown by the server."""
    shown = {reason for row in ROWS if not row.unseen for reason in row.reasons}
    not_from_statements = {"NAMED_LOCK", "TABLE_LOCK", "USER_VARIABLE", "RAW_ACCESS", "MANUAL"}
    assert shown == {reason.name for reason in Reason} - not_from_statements


@each_row
def test_the_lexer_finds_the_reasons_of_the_row(row: Row) -> None:
    """The text of a row gives its reasons, and no others; and what it sets by itself."""
    statement = classify(row.text)
    assert {cause.reason.name for cause in statement.causes} == set(row.reasons)
    assert statement.settings or row.proven or not row.virtual


# On real servers --------------------------------------------------------------------------------------------------


def test_a_new_connection_is_clean(stage: Stage) -> None:
    """The audit finds nothing on a connection that has run nothing, so that what it finds is a statement's."""
    stage.build(())
    for _ in range(2):
        with stage.private() as conn:
            assert found_on(conn, SUPERUSER) == (conn.info.backend_pid, set())


@each_row
def test_the_row_does_what_it_says(stage: Stage, row: Row) -> None:
    """Harmless rows leave nothing, pinned ones what they say; through a proxy all is as on a private connection."""
    for autocommit in (True, False):
        stage.build(row.objects)
        status, sqlstate, found = _on_a_private_connection(stage, row, autocommit)
        stage.build(row.objects)
        _through_a_proxy(stage, row, autocommit, status, sqlstate, found)


def _on_a_private_connection(stage: Stage, row: Row, autocommit: bool) -> tuple[TransactionStatus, str, set[str]]:
    with stage.private() as conn:
        for text in row.before:
            conn.execute(text)
        before = found_on(conn, SUPERUSER)[1] if row.before else set()
        if conn.info.transaction_status == IDLE:
            conn.autocommit = autocommit
        stage.until_free(row.text)
        sqlstate = run(conn, row.text)
        status = conn.info.transaction_status
        end_transaction(conn)
        conn.autocommit = True
        pid, after = found_on(conn, SUPERUSER)
    if row.reasons:  # what it holds, it holds until it has gone
        stage.until_gone(pid)
    left = after - before
    if autocommit:
        assert sqlstate == row.fails
    kinds = {line.partition(":")[0] for line in left}
    is_over = sqlstate and not row.leaves_if_failed
    if not row.reasons and not row.virtual:
        assert not left, "a row called harmless left something"
    elif row.unseen or is_over:
        assert not left, "the server shows it after all"
    else:
        assert kinds or row.ended, "a row that is not harmless left nothing"
        assert not row.virtual or kinds & MOVABLE, left
        assert row.reasons or kinds <= MOVABLE, left
        for reason in set(row.reasons) - set(row.ended.split()):
            assert SHOWN_AS.get(reason, kinds) & (kinds | left), (reason, left)
    return status, sqlstate, after


def _through_a_proxy(
    stage: Stage, row: Row, autocommit: bool, status: TransactionStatus, sqlstate: str, found: set[str]
) -> None:
    pins = expected_pins(row, sqlstate)
    never_pins = not pins
    counted = dict(stage.proxy.stats().pins)
    if status == IDLE:
        pins = still_true(pins, found)
    with _rows_apart(stage), stage.proxy.connect(autocommit=True) as conn:
        for text in row.before:
            conn.execute(text)
        if conn.info.transaction_status == IDLE:
            conn.autocommit = autocommit
        stage.until_free(row.text)
        assert run(conn, row.text) == sqlstate
        assert conn.info.transaction_status == status
        assert {reason.name for reason in conn.rdsproxy.pin_reasons} == pins
        held = stage.proxy.stats().database_connections_currently_borrowed
        assert held == (1 if pins or status != IDLE else 0)
        end_transaction(conn)
        pins = still_true(pins, found)
        assert {reason.name for reason in conn.rdsproxy.pin_reasons} == pins
        conn.autocommit = True
        mine = found_on(conn, SUPERUSER)[1]
        assert unnumbered(mine) == unnumbered(found), "the session has not what a private one has"
        if row.virtual and not pins:
            _on_another_backend(stage, conn, found)
        if never_pins and not (row.reasons and sqlstate):  # whose pin is there until it has failed
            assert stage.proxy.stats().pins == counted
    with _rows_apart(stage):
        with stage.proxy.connect(autocommit=True) as following:
            pid, left = found_on(following, SUPERUSER)
        assert not left, "the next session finds something"
    if "UNRESETTABLE" in pins:
        stage.until_gone(conn.rdsproxy.backend_id)
    elif not row.virtual:
        assert pid == conn.rdsproxy.backend_id


def _on_another_backend(stage: Stage, conn: psycopg.Connection[Any], found: set[str]) -> None:
    """What the session has set is there when it is moved, and not with whoever is where it was."""
    was_on = conn.rdsproxy.backend_id
    with displacing(stage.proxy, conn) as other:
        assert found_on(other, SUPERUSER) == (was_on, set()), "another session finds something"
        assert found_on(conn, SUPERUSER) == (conn.rdsproxy.backend_id, found)
        assert conn.rdsproxy.backend_id != was_on


@contextmanager
def _rows_apart(stage: Stage) -> Iterator[None]:
    """A row that fails does not spoil those behind it: they get new backends."""
    try:
        yield
    except BaseException:
        stage.end_backends()
        raise


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: re.sub(r"\W+", "-", " ".join(script)).strip("-")[:70])
def test_transactions_are_those_of_a_private_connection(
    stage: Stage, script: tuple[str, ...], autocommit: bool
) -> None:
    """After each text outcome and status are the private connection's; a backend is held while it is not idle."""
    stage.build(())
    with stage.private(autocommit=autocommit) as conn:
        private = [_outcome(conn, text) for text in script]
        end_transaction(conn)
    stage.build(())
    with _rows_apart(stage):
        with stage.proxy.connect(autocommit=autocommit) as conn:
            for text, expected in zip(script, private, strict=True):
                outcome = _outcome(conn, text)
                assert outcome == expected, text
                status = outcome[-1]
                assert conn.rdsproxy.in_transaction == (status != IDLE), text
                assert stage.proxy.stats().database_connections_currently_borrowed == (status != IDLE), text
                assert not conn.rdsproxy.pinned, text
            end_transaction(conn)
        assert stage.proxy.stats().database_connections_currently_borrowed == 0
        with stage.proxy.connect(autocommit=True) as following:
            assert found_on(following, SUPERUSER) == (conn.rdsproxy.backend_id, set())


def _outcome(conn: psycopg.Connection[Any], text: str) -> tuple[str | None, TransactionStatus]:
    """What the server answered last: its command tag or the SQLSTATE, and the status of the transaction."""
    try:
        answer = conn.execute(text).statusmessage
    except psycopg.Error as error:
        answer = error.sqlstate
    return answer, conn.info.transaction_status
