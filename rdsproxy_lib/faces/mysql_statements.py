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


WITHOUT_TABLES = {"", "BEGIN", "DO", "SAVEPOINT", "SET", "SET TRANSACTION", "START TRANSACTION", "USE"}
_names_a_table = re.compile(r"\b(?:from|join)\b", re.IGNORECASE).search


def may_lock(statement: Statement) -> bool:
    """Whether MySQL may keep locks on definitions of tables after it, under autocommit=0, though nothing is open.

    https://github.com/sysown/proxysql/issues/1038; a failed statement does, and SHOW CREATE TABLE.
    """
    return not is_end(statement) and any(
        _names_a_table(part.text) if part.verb == "SELECT" else not part.reads_diagnostics
        for part in statement.parts
        if part.verb not in WITHOUT_TABLES
    )


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


_defines = re.compile(r"(?:ALTER|CREATE|DROP|RENAME|TRUNCATE)\b(?!.*\btemporary\b)", re.IGNORECASE | re.DOTALL).match


def is_definition(statement: Statement) -> bool:
    """Whether it certainly commits what was open, by being what it is."""
    return len(statement.parts) == 1 and _defines(statement.parts[0].text) is not None


def is_one_shot(characteristics: str) -> bool:
    """Whether these, of a session with no transaction open, only tell what the next one is to be like; or are none."""
    parts = filter(None, map(str.strip, characteristics.split(";")))
    return all(part.startswith("SET TRANSACTION ") for part in parts)


def is_plain_rollback(statement: Statement) -> bool:
    """Whether the text is a ROLLBACK and nothing else."""
    return len(statement.parts) == 1 and statement.ends_transaction and statement.parts[0].verb == "ROLLBACK"
