"""The rules of MySQL and MariaDB: what one statement does to its session. Pure. (Being written.)"""

from __future__ import annotations

from .sql_finding import Finding
from .sql_mysql_lexer import Tokens


def judge(tokens: Tokens) -> Finding:
    found = Finding()
    word = tokens.digest.split(maxsplit=1)[0].upper() if tokens.digest.split() else ""
    found.verb = word
    found.reads_only = word == "SELECT"
    found.ends_transaction = word in ("COMMIT", "ROLLBACK") and " TO " not in tokens.digest.upper()
    found.commits = word not in ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "ROLLBACK", "SHOW")
    found.lingers = word in ("SAVEPOINT", "XA")
    if word in ("SET", "USE"):
        found.pin("SETTING", word)
    found.reads_diagnostics = "LAST_INSERT_ID()" in tokens.digest.upper()
    return found
