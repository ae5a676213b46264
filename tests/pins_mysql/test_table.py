"""Each row of the table is run on real servers, and they are asked what stayed."""

from __future__ import annotations

import re

import pytest

from rdsproxy_lib.sql import Dialect, Reason, classify_filled
from tests.pins_mysql.conftest import Stage
from tests.pins_mysql.rows import NOT_RUN, ROWS, Row

SHOWN_AS = {
    "SETTING": {"setting", "profiles"},
    "TEMP_TABLE": {"temporary table"},
    "PREPARED_STATEMENT": {"prepared statement", "user variable"},
    "HOLD_CURSOR": {"lock"},
    "NAMED_LOCK": {"named lock"},
    "TABLE_LOCK": {"lock"},
    "USER_VARIABLE": {"user variable"},
    "UNRESETTABLE": {"setting", "resource group", "profiles"},
}
"""Where the server shows what a reason stands for; routines and unknown statements may leave anything."""
SET_WITH = {
    "role": {"setting: identity"},
    "schema": {"setting: identity", "setting: character_set_database", "setting: collation_database"},
}
"""Where the server shows what is no variable of its own name."""

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "-", str(row)).strip("-") or "nothing")


@each_row
def test_the_lexer_finds_the_reasons_of_the_row(row: Row) -> None:
    """The text of a row gives its reasons and what is taken along, and no others."""
    statement = classify_filled(row.text, Dialect.mysql("", row.only))
    assert {cause.reason.name for cause in statement.causes} == set(row.reasons)
    assert {setting.name for setting in statement.settings} == set(row.takes)
    assert statement.awaits_question is row.awaits_question


def test_every_reason_of_mysql_has_rows() -> None:
    """No reason a statement can give is without a row that is shown by a server."""
    shown = {reason for row in ROWS if not row.unseen for reason in row.reasons}
    not_from_statements = {"ADVISORY_LOCK", "LISTEN", "RAW_ACCESS", "MANUAL"}
    assert shown | not_from_statements == {reason.name for reason in Reason}


def said(row: Row) -> set[str]:
    """All that a row without reasons may leave."""
    found = {"found rows:"} if row.awaits_question else set()
    for name in row.takes:
        found |= {f"user variable: {name[1:]}"} if name[0] == "@" else SET_WITH.get(name, {f"setting: {name}"})
    return found


@each_row
def test_the_row_does_what_it_says(stage: Stage, row: Row) -> None:
    """Harmless rows leave nothing, others what they say, and a reset takes back all but what it cannot."""
    if row.only not in ("", stage.flavour):
        pytest.skip(f"a statement of {row.only}")
    outcome = stage.outcome(row)
    assert outcome.error in (0, *row.fails, *((2006, 2013) if "RELEASE" in row.text else ()))
    if not row.reasons:
        assert outcome.left <= said(row), "a row left more than it says"
        assert outcome.left or row.unseen or outcome.error or not said(row), "a row that sets something left nothing"
    elif row.unseen or outcome.error:
        assert not outcome.left or outcome.error, "the server shows it after all"
    else:
        kinds = {line.partition(":")[0] for line in outcome.left}
        assert kinds, "a row called pinned left nothing"
        for reason in row.reasons:
            assert SHOWN_AS.get(reason, kinds) & kinds, (reason, outcome.left)
    if "UNRESETTABLE" not in row.reasons:
        kept = {line for line in outcome.survived if line != "setting: identity"}  # a reset keeps the database
        assert not kept, "a reset does not take it back"


NOT_COMMITTING = [row for row in ROWS if not classify_filled(row.text, Dialect.mysql("", row.only)).commits]


@pytest.mark.parametrize("row", NOT_COMMITTING, ids=lambda row: re.sub(r"\W+", "-", str(row)).strip("-") or "nothing")
def test_what_is_said_to_commit_nothing_does_not(stage: Stage, row: Row) -> None:
    """Work done before it in the same transaction can still be rolled back."""
    if row.only not in ("", stage.flavour):
        pytest.skip(f"a statement of {row.only}")
    if row.before:
        pytest.skip("what comes before it opens or ends transactions")
    assert not stage.commits(row)


def test_every_kind_of_statement_is_run(stage: Stage) -> None:
    """A statement that a newer MySQL knows fails here until a row runs it."""
    if stage.flavour != "mysql":
        pytest.skip("MySQL tells the names")
    names = stage.kinds_of_statements()
    seen = set().union(*(stage.outcome(row).events for row in ROWS if row.only in ("", "mysql")))
    assert names - seen == NOT_RUN.keys()
