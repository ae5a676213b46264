"""GTIDs as positions in the binary log, and which views call what no text shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pymysql.connections import err
from pymysql.constants import ER

from .mysql_errors import code_of
from .mysql_settings import ALL_ROWS
from .mysql_tracking import extended

Ask = Callable[[str], Any]
"""Runs a text and brings its rows. Raises the driver's errors."""

TELLS_GTIDS = {
    "mysql": "SELECT @@global.gtid_mode IN ('ON', 'ON_PERMISSIVE') AND @@global.log_bin",
    "mariadb": "SELECT @@global.log_bin",
}
"""Whether each write gets a GTID. By the server's kind."""
GTIDS_SO_FAR = {
    "mysql": "SELECT @@global.gtid_executed",
    "mariadb": "SELECT IF(@@global.gtid_binlog_pos = '', '', CONCAT(REPLACE("
    "@@global.gtid_binlog_pos, ',', CONCAT('-', @@global.server_id, ',')), '-', @@global.server_id))",
}
"""MariaDB's with who tells them, ``0-1-57-2``: the last one of a domain may be of the writer before."""
WAITING = {
    "mysql": "SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', {timeout})",
    "mariadb": "SELECT CASE MASTER_GTID_WAIT('{position}', {timeout}) WHEN 0 THEN 0 ELSE 1 END,"
    " @@global.gtid_slave_pos",
}
"""Brings 0 where all of it is there, 1 where it is not after so many seconds; NULL where no GTIDs are in use. MariaDB
takes the numbers alone, and brings where the replica is beside that."""
AT_ONCE = "SELECT NOT GTID_SUBSET('{position}', @@global.gtid_executed)"
"""The same of MySQL without waiting: to WAIT_FOR_EXECUTED_GTID_SET 0 seconds are without end."""
UNMERGED = 1000
"""Longer than that, a position is not kept from single GTIDs."""

_VIEWS = (
    "SELECT {hint}CAST(table_name AS BINARY), CAST(view_definition AS BINARY) FROM information_schema.views"
    " WHERE table_schema NOT IN ('sys', 'mysql', 'information_schema', 'performance_schema')"
    f" {ALL_ROWS}"
)
VIEWS = {
    "mysql": _VIEWS.format(hint="/*+ MAX_EXECUTION_TIME(60000) */ "),
    "mariadb": "SET STATEMENT max_statement_time = 0 FOR " + _VIEWS.format(hint=""),
}
"""All of them, for all sessions, whatever limits and character set this one has. By the server's kind."""
_CALLS = re.compile(r"`\s*\(").search
_QUOTED = re.compile(r"`((?:[^`]|``)+)`").findall
_GTID = re.compile(r"[0-9A-Za-z:,_-]+").fullmatch


def joined(first: str, second: str) -> str | None:
    """GTIDs that hold all of both; None where that gets too long. MariaDB's, ``0-1-57``, are one for each domain."""
    if ":" not in first:
        domains = {gtid.partition("-")[0]: gtid for gtid in f"{first},{second}".split(",")}
        return ",".join(domains.values())
    for gtids in second.split(","):
        first = extended(first, gtids)
    return first if len(first) <= UNMERGED else None


def has_reached(ask: Ask, position: str, timeout: float, server: str) -> bool | None:
    """Whether a replica has applied these GTIDs, waiting so many seconds; None where it uses none, or follows another
    server than the one that told them."""
    text = position = "".join(position.split())
    if not _GTID(text):
        return None
    if server == "mariadb":
        text = ",".join("-".join(gtid.split("-")[:3]) for gtid in position.split(","))
    try:
        question = AT_ONCE if server == "mysql" and timeout < 0.001 else WAITING[server]
        ((answer, *there),) = ask(question.format(position=text, timeout=f"{timeout:.3f}"))
    except err.Error as error:
        if code_of(error) in (ER.WRONG_ARGUMENTS, ER.UNKNOWN_ERROR):
            return None
        raise
    if answer == 0 and not all(follows(position, gtids) for gtids in there):
        return None
    return None if answer is None else not answer


def follows(position: str, there: str) -> bool:
    """Whether a replica of MariaDB's that is at `there` has its last transactions from the writer that told `position`,
    or just these. After a failover it may have others of the same numbers."""
    last = {gtid.partition("-")[0]: gtid for gtid in there.split(",")}
    for told in position.split(","):
        domain, server, number, *teller = told.split("-")
        gtid = last.get(domain, "")
        if gtid != f"{domain}-{server}-{number}" and not gtid.startswith(f"{domain}-{(teller or [server])[0]}-"):
            return False
    return True


def suspects_of(views: Iterable[tuple[str, str | None]]) -> frozenset[str]:
    """Views, lower case, that call a stored function, by themselves or through another view.

    The server writes a definition down with all names quoted, and a function of its own without quotes; a definition
    that may not be read tells nothing.
    """
    quoted = {name.lower(): {found.replace("``", "`").lower() for found in _QUOTED(text or "")} for name, text in views}
    suspects = {name.lower() for name, text in views if not text or _CALLS(text)}
    while more := {name for name, names in quoted.items() if name not in suspects and not names.isdisjoint(suspects)}:
        suspects |= more
    return frozenset(suspects)
