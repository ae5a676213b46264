"""What a statement of MySQL is to the client connection that runs it."""

from __future__ import annotations

import re
from dataclasses import replace

from ..sql import Statement, classify_filled

BEGIN = classify_filled("BEGIN")
COMMIT = classify_filled("COMMIT")
ROLLBACK = classify_filled("ROLLBACK")
SET_AUTOCOMMIT = classify_filled("SET AUTOCOMMIT = 0")
USE = classify_filled("USE other")
INSERTS = {"INSERT", "REPLACE"}
TIDYING = {"DROP TEMPORARY TABLE", "DROP TABLE", "DEALLOCATE PREPARE", "DROP PREPARE"}
WITHOUT_TRIGGERS = {"SELECT", "SHOW", "BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "SET", "UNLOCK"}
"""Verbs that run nothing but what their text shows."""
OPENING = {"BEGIN", "CALL", "EXECUTE", "EXECUTE IMMEDIATE", "START TRANSACTION", "XA PREPARE"}
"""Verbs that may commit what was before, and behind which a transaction may be open."""

HARMLESS = classify_filled("")
NO_WARNINGS = replace(classify_filled("DO 0"), digest="SHOW WARNINGS LIMIT 0")


def is_show_warnings(statement: Statement) -> bool:
    """Whether the text asks for all warnings, and nothing else."""
    return len(statement.parts) == 1 and statement.digest.upper() == "SHOW WARNINGS"


asks_for_warnings = re.compile(
    r"\b(?:warnings|errors|warning_count|error_count|condition|number)\b", re.IGNORECASE
).search
asks_for_found_rows = re.compile(r"\bfound_rows\s*\(", re.IGNORECASE).search
asks_for_row_count = re.compile(r"\brow_count\b", re.IGNORECASE).search
asks_for_a_sequence = re.compile(r"\b(?:lastval\s*\(|previous\s+value\b)", re.IGNORECASE).search
"""What a statement that reads the diagnostics wants to know of those before it."""


def is_end(statement: Statement) -> bool:
    """Whether no transaction is open after it, whatever happened."""
    (part, *others) = statement.parts
    ends = part.ends_transaction or (part.commits and part.verb not in OPENING)
    return ends and not others and "CHAIN" not in part.text.upper()


def is_plain_rollback(statement: Statement) -> bool:
    """Whether the text is a ROLLBACK and nothing else."""
    return len(statement.parts) == 1 and statement.ends_transaction and statement.parts[0].verb == "ROLLBACK"
