"""The rules of MySQL and MariaDB: what one statement does to its session. Pure.

Data first, then the few verbs that need a look. Every verb of MySQL 9.7 and MariaDB 10.11 is listed. One that is not
is unknown, and pins. What an executable comment holds counts as run and as not run. Facts are measured on those two
servers; "reset" is COM_RESET_CONNECTION.
"""

from __future__ import annotations

import re

from .sql_builtins import names
from .sql_finding import Finding
from .sql_mysql_builtins import (
    CHANGED_TOGETHER,
    DIAGNOSTICS,
    FREE,
    FUNCTIONS,
    GRAMMAR,
    KEYWORDS,
    LOCKS,
    MARIADB_FUNCTIONS,
    MYSQL_FUNCTIONS,
    NEED_NO_SPACE,
    NOT_COMMITTING,
    OBJECTS,
    QUALIFIERS,
    STAYING_PREFIXES,
    STAYING_SETTINGS,
    UNLOCKING,
    WRITES,
)
from .sql_mysql_lexer import LITERAL, QUOTED, SYSTEM_VARIABLE, VARIABLE, Tokens

_EVALUATING = names("delete do insert kill purge replace select show table update values")
_READING = frozenset(("SELECT", "SHOW", "VALUES", "TABLE"))
_NOT_READING = frozenset(("insert", "update", "delete", "replace", "into", "share", "procedure", "next", "nextval"))
_BEGINS_QUERY = frozenset(("select", "with", "values", "table", "("))
_EXPLAINED = frozenset(("select", "insert", "update", "delete", "replace", "with", "values", "table", "("))
_STORED = frozenset(("FUNCTION", "AGGREGATE FUNCTION", "PROCEDURE", "TRIGGER", "VIEW", "LIBRARY"))
_START = frozenset(("transaction", "slave", "replica", "group_replication", "all"))
_SESSION_SCOPES = frozenset(("session", "local"))
_GLOBAL_SCOPES = frozenset(("global", "persist", "persist_only"))
_SCOPES = _SESSION_SCOPES | _GLOBAL_SCOPES
_DIAGNOSTIC_VARIABLES = frozenset(("error_count", "last_gtid", "warning_count"))
_INSERT_ID_VARIABLES = frozenset(("identity", "last_insert_id"))
_INSERTING = frozenset(("INSERT", "REPLACE", "LOAD DATA", "LOAD XML", "CALL", "EXECUTE", "EXECUTE IMMEDIATE"))
_ROUTINE_DDL = frozenset(
    f"{verb} {name}"
    for verb in ("CREATE", "ALTER", "DROP")
    for name in ("AGGREGATE FUNCTION", "DATABASE", "FUNCTION", "PACKAGE", "PACKAGE BODY", "PROCEDURE", "SCHEMA")
)
# With @@ and no scope, SET of these is for the next transaction only.
_OF_TRANSACTIONS = frozenset(("transaction_isolation", "transaction_read_only", "tx_isolation", "tx_read_only"))
# Not taken back by reset: SHOW PROFILES of MariaDB still shows the statements of the session before.
_UNRESETTABLE_SETTINGS = frozenset(("profiling", "profiling_history_size"))
_PLAIN_SETTING = re.compile(r"[a-z0-9_]+").fullmatch
# One that ends in a point goes on with a number, which is not in a shape.
_PLAIN_VARIABLE = re.compile(r"@[\w$.]*[\w$]", re.ASCII).fullmatch
_LOCKED = {"table": "tables", "tables": "tables", "instance": "instance", "binlog": "binlog"}
_KNOWN = {
    "": FUNCTIONS,
    "mysql": FUNCTIONS | MYSQL_FUNCTIONS,
    "mariadb": FUNCTIONS | MARIADB_FUNCTIONS,
}


def judge(tokens: Tokens, server: str = "") -> Finding:
    """What `tokens`, one statement, does to its session.

    `server` is ``"mysql"``, ``"mariadb"``, or empty when it is not known: then a function counts as built in only where
    both have it.
    """
    found = _judge(tokens, server)
    if tokens.without is not None:
        other = _judge(tokens.without, server)
        found.causes.update(other.causes)
        found.routines.update(other.routines)
        found.settings.update(other.settings)
        found.holds.update(other.holds)
        found.frees = {freed: None for freed in found.frees if freed in other.frees}
        found.awaits_question = found.awaits_question or other.awaits_question
        is_empty = not tokens.without.tokens
        if (other.verb != found.verb and not is_empty) or other.ends_transaction != found.ends_transaction:
            found.pin("UNKNOWN_STATEMENT", "an executable comment")
        found.reads_only = found.reads_only and (other.reads_only or is_empty)
        found.reads_diagnostics = found.reads_diagnostics or other.reads_diagnostics
        found.reads_sequence = found.reads_sequence or other.reads_sequence
        found.moves_sequence = found.moves_sequence or other.moves_sequence
        found.lingers = found.lingers or other.lingers
        found.commits = found.commits or other.commits
    if tokens.odd:
        found.pin("UNKNOWN_STATEMENT", tokens.odd)
        found.frees.clear()
        found.commits = True
    # What LAST_INSERT_ID() says may be another one afterwards. What a function inserts, its caller does not see.
    if found.verb in _INSERTING:
        found.moves_sequence = True
    found.sets_local = found.verb in _ROUTINE_DDL
    if found.causes:
        found.reads_only = False
    return found


def _judge(tokens: Tokens, server: str) -> Finding:
    found = Finding()
    if not tokens.tokens:
        return found
    start, explained = _past_explain(tokens)
    if explained and "into" in tokens.tokens[:start]:
        _into(tokens, tokens.tokens.index("into"), found)
    if explained and (tokens.at(start) not in _EXPLAINED):
        found.verb = "EXPLAIN"
        found.reads_only = True  # DESCRIBE t, EXPLAIN FOR CONNECTION 7
        _search(tokens, start, found, server)
        found.reads_only = found.reads_only and "into" not in tokens.words
    else:
        _head(tokens, start, found, server)
        if explained:
            found.verb = "EXPLAIN"
            found.ends_transaction = False
    if found.verb not in NOT_COMMITTING:
        found.commits = True
    return found


def _past_explain(tokens: Tokens) -> tuple[int, bool]:
    """Where the statement proper begins, and whether EXPLAIN, DESCRIBE or MariaDB's ANALYZE stands before it."""
    word, index = tokens.at(0), 1
    if word == "analyze":
        if tokens.at(1) == "format" or tokens.at(1) in _EXPLAINED - {"table"}:
            index = 4 if tokens.at(1) == "format" else 1
            return index, True
        return 0, False
    if word not in ("explain", "describe", "desc"):
        return 0, False
    while (option := tokens.at(index)) in ("analyze", "extended", "partitions", "format", "into", "for", "all"):
        if option == "for" and tokens.at(index + 1) == "connection":
            break
        index += {"format": 3, "into": 2}.get(option, 1)
        if option == "for":
            index += 1 + (tokens.at(index) in ("schema", "database"))
    return index, True


def _head(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    start = first
    while tokens.at(first) == "(":
        first += 1
    word = tokens.at(first)
    if first != start and word not in _BEGINS_QUERY:
        found.verb = "("
        found.pin("UNKNOWN_STATEMENT", "(")
    elif special := _SPECIAL.get(word):
        special(tokens, first, found, server)
    elif word in FREE:
        found.verb = FREE[word]
        found.lingers = word == "savepoint"
        if word in _EVALUATING:
            _query(tokens, first, found, server)
    else:
        found.verb = _shown(word).upper()
        found.pin("UNKNOWN_STATEMENT", found.verb)


def _shown(word: str) -> str:
    """A word that begins no statement we know, fit for a message: it may be anything."""
    if not word or not (word[0].isalpha() or word[0] == "_") or not word.isprintable():
        return "?"
    return word[:30]


# Queries ----------------------------------------------------------------------------------------------------------


def _query(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    """SELECT and all other statements made of expressions."""
    words = tokens.words
    found.reads_only = found.verb == "SHOW" or (found.verb in _READING and _NOT_READING.isdisjoint(words))
    if found.verb == "SHOW":
        found.reads_diagnostics = tokens.at(first + 1) in ("warnings", "errors", "count")
    found.awaits_question = "sql_calc_found_rows" in words
    _search(tokens, first, found, server)
    if found.reads_diagnostics:
        found.reads_only = False


def _with(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    """WITH … SELECT, UPDATE or DELETE: the verb is the first word outside all parentheses that is one."""
    found.verb = "SELECT"
    index = first + 1
    while word := tokens.at(index):
        if word == "(":
            index = tokens.closing(index)
        elif word in ("select", "update", "delete", "insert", "replace", "values", "table"):
            found.verb = FREE[word]
            break
        index += 1
    _query(tokens, first, found, server)


def _search(tokens: Tokens, start: int, found: Finding, server: str) -> None:
    """Judge every call, every assignment to a user variable and every question about the session after `start`."""
    words = tokens.words
    for opening in tokens.opens:
        if opening > start:
            _call(tokens, start, opening, found, server)
    _take_assigned(tokens, start, found)
    for index in range(start, len(tokens.tokens)):
        token = tokens.tokens[index]
        if token == "into":
            _into(tokens, index, found)
        elif token == SYSTEM_VARIABLE:
            _read_variable(tokens, index, found)
    if not words.isdisjoint(("next", "previous")) and "value" in words:
        found.reads_only = False
        found.reads_diagnostics = found.reads_diagnostics or "previous" in words
    if not words.isdisjoint(("nextval", "lastval", "currval")):
        found.reads_only = False
        found.reads_diagnostics = found.reads_diagnostics or not words.isdisjoint(("lastval", "currval"))


def _into(tokens: Tokens, index: int, found: Finding) -> None:
    """SELECT … INTO @a, @b."""
    index += 1
    while token := tokens.at(index):
        _take_variable(token, "INTO @", found)
        if tokens.at(index + 1) != ",":
            return
        index += 2


def _take_variable(token: str, what: str, found: Finding) -> None:
    """`token` is set, if it is a variable of the user's; its value is asked for later, so its name has to be known."""
    if _PLAIN_VARIABLE(token):
        found.takes_along(token.lower())
    elif token[:1] == VARIABLE and token != SYSTEM_VARIABLE:
        found.pin("USER_VARIABLE", what)


def _take_assigned(tokens: Tokens, start: int, found: Finding) -> None:
    """Note the user's variables of all `@a := …`. The name of the last one before may go on: `@a.5b`, `@1.b`."""
    if ":=" not in tokens.words:
        return
    variable, name = start, ""
    for index in range(start, len(tokens.tokens)):
        token = tokens.tokens[index]
        if token[0] == VARIABLE:
            variable, name = index, token
        elif token == ":=" and (variable == index - 1 or not _PLAIN_VARIABLE(name)):
            _take_variable(name, ":=", found)


def _take_variables(tokens: Tokens, what: str, found: Finding) -> None:
    """Any of the user's variables in the statement may be set."""
    for token in tokens.tokens:
        _take_variable(token, what, found)


def _read_variable(tokens: Tokens, index: int, found: Finding) -> None:
    name = tokens.at(index + 1)
    if tokens.at(index + 2) == ".":
        name = tokens.at(index + 3)
    name = name.lstrip(QUOTED).lower()
    if name in _DIAGNOSTIC_VARIABLES:
        found.reads_diagnostics = True
        found.reads_only = False
    elif name in _INSERT_ID_VARIABLES:
        found.reads_sequence = True
        found.reads_only = False


# Calls ------------------------------------------------------------------------------------------------------------


def _is_name(token: str) -> bool:
    return bool(token) and (token[0] in '"_$' or token[0].isalnum() or token[0] >= "\x80")


def _call(tokens: Tokens, start: int, opening: int, found: Finding, server: str) -> None:
    """Judge the call whose "(" is at `opening`, if it is one; what may be one is."""
    words = tokens.tokens
    last = opening - 1
    word = words[last]
    if last < start or (last == start and words[start] in FREE):
        return
    if word == LITERAL:
        found.reads_only = False
        found.pin("UNKNOWN_STATEMENT", "?(")
        return
    if word[:1] == VARIABLE or not _is_name(word):
        return
    first = last
    while words[first - 1] == "." and first - 2 > start and (_is_name(words[first - 2]) or words[first - 2] == LITERAL):
        first -= 2
    if first == last and words[last - 1] != "." and word[0] != QUOTED:
        if _is_known(tokens, opening, found, server):
            return
        if word in LOCKS:
            found.reads_only = False
            found.pin("NAMED_LOCK", f"{word}()")
            found.holds["NAMED_LOCK", "?"] = None
            return
    if not _may_be_call(tokens, start, first, opening):
        return
    found.reads_only = False
    parts = words[first:opening:2]
    name = ".".join(part.lstrip(QUOTED) for part in parts[-2:])
    what = f"{''.join(char if char.isprintable() else '�' for char in name[:130])}()"
    found.pin("UNKNOWN_ROUTINE", what)
    if word in LOCKS or word.lstrip(QUOTED).lower() in LOCKS:
        found.pin("NAMED_LOCK", what)
        found.holds["NAMED_LOCK", "?"] = None
    before = words[first - 1]
    if len(parts) <= 2 and LITERAL not in parts and before not in (LITERAL, ".", VARIABLE, SYSTEM_VARIABLE):
        schema = parts[0].lstrip(QUOTED) if len(parts) == 2 else ""
        found.routines[what] = (schema, parts[-1][1:] if parts[-1][0] == QUOTED else parts[-1])


def _is_known(tokens: Tokens, opening: int, found: Finding, server: str) -> bool:
    """Whether the unquoted word before `opening` is a built-in function or grammar; notes what the function does."""
    word = tokens.tokens[opening - 1]
    if word in GRAMMAR:
        return True
    if word not in _KNOWN[server]:
        return False
    if word in NEED_NO_SPACE and tokens.spaced[opening - 1]:
        return False
    if word in WRITES:
        found.reads_only = False
    if word in UNLOCKING:
        found.frees["NAMED_LOCK", "*"] = None
    if word in DIAGNOSTICS:
        found.reads_diagnostics = True
        found.reads_only = False
    if word == "last_insert_id":  # with an argument it sets what it says
        found.reads_sequence = found.reads_sequence or tokens.at(opening + 1) == ")"
        found.moves_sequence = found.moves_sequence or tokens.at(opening + 1) != ")"
        found.reads_only = False
    return True


def _may_be_call(tokens: Tokens, start: int, first: int, opening: int) -> bool:
    """Whether an expression may stand where the name that begins at `first` does."""
    words = tokens.tokens
    before = words[first - 1]
    if before in ("as", "into", "table", "with", "recursive", "join", "window"):
        return False
    if before == "," and _is_cte(tokens, first, opening):
        return False
    earlier = tokens.at(first - 2)
    if earlier == "{" or (before == LITERAL and earlier == "."):
        return True  # {fn f(1)}; a name that begins like a number: t.1e5f(1)
    if before in (")", LITERAL) or before[0] in (QUOTED, VARIABLE):
        return before == SYSTEM_VARIABLE
    word = words[opening - 1]
    if word == "of" and before == "member":
        return False
    if word == "lateral" and tokens.at(opening + 1) in _BEGINS_QUERY:
        return False
    if word in ("sql_no_cache", "sql_buffer_result") and before == "select":
        return False
    if word == "json_table" and _has_columns(tokens, opening):
        return False
    if words[start] in ("insert", "replace") and _is_target(tokens, start, first):
        return False
    return not _is_name(before) or before in KEYWORDS


def _is_cte(tokens: Tokens, first: int, opening: int) -> bool:
    """Whether this is the name of a second query of WITH and its columns: `, b (x, y) AS (SELECT …)`."""
    after = tokens.closing(opening) + 1
    return (
        "with" in tokens.words
        and tokens.at(first - 2) == ")"
        and tokens.at(after) == "as"
        and tokens.at(after + 1) == "("
        and tokens.at(after + 2) in _BEGINS_QUERY
    )


def _has_columns(tokens: Tokens, opening: int) -> bool:
    """Whether these are the parentheses of JSON_TABLE(…, '$' COLUMNS (…)), and not of a function of that name."""
    last = tokens.match.get(tokens.closing(opening) - 1, 0)
    return tokens.at(last - 1) == "columns" and tokens.at(last - 2) == LITERAL


def _is_target(tokens: Tokens, start: int, first: int) -> bool:
    """Whether the table of INSERT or REPLACE stands at `first`."""
    index = start + 1
    while tokens.at(index) in ("low_priority", "delayed", "high_priority", "ignore", "into"):
        index += 1
    return index == first


# Settings ---------------------------------------------------------------------------------------------------------


def _set(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "SET"
    words = [tokens.at(first + number) for number in (1, 2, 3)]
    if words[0] == "statement" and words[1] not in ("=", ":="):
        _set_statement(tokens, first, found, server)
        return
    found.reads_only = not tokens.opens
    _search(tokens, first, found, server)
    scoped = words[0] in _SCOPES
    if words[scoped] == "transaction" and words[scoped + 1] in ("isolation", "read"):
        found.verb = "SET" if scoped else "SET TRANSACTION"
        if words[0] in _SESSION_SCOPES:
            family = "tx" if server == "mariadb" else "transaction"
            if "isolation" in tokens.words:
                found.takes_along(f"{family}_isolation")
            if not tokens.words.isdisjoint(("only", "write")):
                found.takes_along(f"{family}_read_only")
        else:
            found.reads_only = False
    elif words[0] == "password" or (words[0] == "default" and words[1] == "role"):
        found.commits = True  # an account's, not the session's
        found.reads_only = False
    elif words[0] == "role" and words[1] not in ("=", ":="):
        found.takes_along("role")
    elif words[0] == "resource" and words[1] == "group":
        found.reads_only = False
        if "for" not in tokens.words:
            found.pin("UNRESETTABLE", "SET RESOURCE GROUP")  # the thread's group outlives a reset
    elif words[0] == "session" and words[1] == "authorization":
        found.pin("SETTING", "SET SESSION AUTHORIZATION")
        found.pin("UNRESETTABLE", "SET SESSION AUTHORIZATION")  # MariaDB 11 and later
    else:
        scope = ""
        for start, end in _assignments(tokens, first + 1):
            scope = _assignment(tokens, start, end, scope, found)


def _assignments(tokens: Tokens, index: int) -> list[tuple[int, int]]:
    """Where each assignment of a SET begins and ends."""
    found: list[tuple[int, int]] = []
    start = index
    while index < len(tokens.tokens):
        word = tokens.tokens[index]
        if word == "(":
            index = tokens.closing(index)
        elif word == ",":
            found.append((start, index))
            start = index + 1
        index += 1
    return [*found, (start, len(tokens.tokens))]


def _assignment(tokens: Tokens, start: int, end: int, scope: str, found: Finding) -> str:
    """One assignment of a SET; `scope` is the last GLOBAL or SESSION before it, and the one for the next is returned.

    It holds on until there is another, but not for names with ``@@``: so both servers have it.
    """
    token = tokens.at(start)
    is_system = token == SYSTEM_VARIABLE
    if token[:1] == VARIABLE and not is_system:
        if tokens.at(start + 1) in ("=", ":="):
            _take_variable(token, "SET @", found)
        else:
            found.pin("USER_VARIABLE", "SET @")
        return scope
    kept = scope
    index = start + is_system
    if is_system:
        word = tokens.at(index).lstrip(QUOTED) if tokens.at(index + 1) == "." else ""
        scope = word if word in _SCOPES else ""
        index += 2 if scope else 0
    elif token in _SCOPES and tokens.at(index + 1) not in ("=", ":="):
        scope = kept = token
        index += 1
    name = tokens.at(index).lstrip(QUOTED).lower()
    is_assigned = tokens.at(index + 1) in ("=", ":=") and index < end
    if not is_assigned and name in CHANGED_TOGETHER and "_" not in name:  # SET NAMES x
        _take_together(name, found)
    elif scope in _GLOBAL_SCOPES:
        found.reads_only = False
    elif name == "autocommit" and is_assigned:
        found.commits = True  # followed through the status word
        found.reads_only = False
    elif name in _OF_TRANSACTIONS and is_assigned and is_system and not scope:
        found.reads_only = False
    elif name in STAYING_SETTINGS or name.startswith(STAYING_PREFIXES):
        found.pin("SETTING", f"SET {_shown(name)}")
        if name in _UNRESETTABLE_SETTINGS:
            found.pin("UNRESETTABLE", f"SET {name}")
    elif is_assigned and _PLAIN_SETTING(name):
        _take_together(name, found)
    else:
        found.pin("SETTING", "SET")
    return kept


def _take_together(name: str, found: Finding) -> None:
    for changed in CHANGED_TOGETHER.get(name, (name,)):
        found.takes_along(changed)


def _set_statement(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    """MariaDB's SET STATEMENT a = 1 FOR …, which takes its settings back, also after an error."""
    index = first + 2
    while tokens.at(index) not in ("for", ""):
        index = tokens.closing(index) + 1 if tokens.at(index) == "(" else index + 1
    _search(tokens, first, found, server)
    causes = dict(found.causes)
    diagnostics = found.reads_diagnostics
    if tokens.at(index + 1) == "set" and tokens.at(index + 2) == "statement":
        found.pin("UNKNOWN_STATEMENT", "SET STATEMENT")
        return
    _head(tokens, index + 1, found, server)
    found.causes = {**causes, **found.causes}
    found.reads_diagnostics = found.reads_diagnostics or diagnostics
    found.reads_only = False
    if not tokens.words.isdisjoint(("rand_seed1", "rand_seed2")):
        found.pin("SETTING", "SET STATEMENT")


def _use(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "USE"
    found.reads_only = True
    found.takes_along("schema")


# Transactions -----------------------------------------------------------------------------------------------------


def _begin(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "BEGIN"
    if tokens.at(first + 1) not in ("", "work") or tokens.at(first + 2):
        found.pin("UNKNOWN_ROUTINE", "BEGIN …")  # MariaDB's BEGIN NOT ATOMIC, or a block of its Oracle mode


def _end(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = tokens.at(first).upper()
    index = first + 1
    if tokens.at(index) == "work":
        index += 1
    if tokens.at(index) == "to":
        found.verb = "ROLLBACK TO"
        return
    found.ends_transaction = True
    if "release" in tokens.words and tokens.at(len(tokens.tokens) - 2) != "no":
        found.pin("UNRESETTABLE", f"{found.verb} RELEASE")  # the server closes the connection
    rest = tokens.tokens[index:]
    if not {"and", "no", "chain", "release"}.issuperset(rest):
        found.pin("UNKNOWN_STATEMENT", found.verb)


def _start(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    word = tokens.at(first + 1)
    found.verb = f"START {_shown(word).upper()}"
    if word not in _START:
        found.pin("UNKNOWN_STATEMENT", found.verb)


def _xa(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    word = tokens.at(first + 1)
    found.verb = f"XA {_shown(word).upper()}"
    if word in ("commit", "rollback"):
        found.ends_transaction = True
    elif word in ("start", "begin", "end", "prepare"):
        found.lingers = True
        if word == "prepare":  # a reset of MariaDB leaves the session in it
            found.pin("UNRESETTABLE", "XA PREPARE")
    elif word != "recover":
        found.pin("UNKNOWN_STATEMENT", found.verb)


# What is held until it is given back ------------------------------------------------------------------------------


def _call_procedure(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "CALL"
    parts = [tokens.at(first + 1)]
    if tokens.at(first + 2) == ".":
        parts.append(tokens.at(first + 3))
    after = first + 2 * len(parts)
    what = f"CALL {'.'.join(_shown(part.lstrip(QUOTED)) for part in parts)}"
    found.pin("UNKNOWN_ROUTINE", what)
    if all(_is_name(part) for part in parts) and tokens.at(after) in ("", "("):
        schema = parts[0].lstrip(QUOTED) if len(parts) == 2 else ""
        found.routines[what] = (schema, parts[-1].lstrip(QUOTED))
    _take_variables(tokens, "CALL …(@)", found)
    _search(tokens, after, found, server)


def _prepare(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "PREPARE"
    found.pin("PREPARED_STATEMENT", "PREPARE")
    name = _identifier(tokens, first + 1) if tokens.at(first + 2) == "from" else "?"
    found.holds["PREPARED_STATEMENT", name.lower()] = None
    _search(tokens, first, found, server)


def _execute(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "EXECUTE"
    if tokens.at(first + 1) == "immediate":
        found.verb = "EXECUTE IMMEDIATE"
        found.pin("UNKNOWN_ROUTINE", found.verb)
    found.pin("PREPARED_STATEMENT", found.verb)
    _take_variables(tokens, "EXECUTE … (@)", found)  # what runs may be CALL p(?)
    _search(tokens, first, found, server)


def _deallocate(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "DEALLOCATE PREPARE"
    _frees(found, "PREPARED_STATEMENT", _identifier(tokens, first + 2).lower())


def _lock(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    word = tokens.at(first + 1)
    found.verb = f"LOCK {_shown(word).upper()}"
    found.pin("TABLE_LOCK", found.verb)
    found.holds["TABLE_LOCK", _LOCKED.get(word, "?")] = None


def _unlock(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "UNLOCK"
    _frees(found, "TABLE_LOCK", _LOCKED.get(tokens.at(first + 1), "?"))


def _flush(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "FLUSH"
    if not tokens.words.isdisjoint(("lock", "export")):
        found.pin("TABLE_LOCK", "FLUSH TABLES WITH READ LOCK" if "lock" in tokens.words else "FLUSH TABLES FOR EXPORT")
        found.holds["TABLE_LOCK", "tables"] = None


def _backup(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    word = tokens.at(first + 1)
    found.verb = f"BACKUP {_shown(word).upper()}"
    if word not in ("stage", "lock", "unlock"):
        found.pin("UNKNOWN_STATEMENT", found.verb)
    elif word == "unlock":
        _frees(found, "TABLE_LOCK", "backup lock")
    elif word == "stage" and tokens.at(first + 2) == "end":
        _frees(found, "TABLE_LOCK", "backup stage")
    else:
        found.pin("TABLE_LOCK", found.verb)
        found.holds["TABLE_LOCK", f"backup {word}"] = None


def _handler(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    """A handler goes by the name of its table without the schema, or its alias; in any case of letters."""
    found.verb = "HANDLER"
    named = first + 1 if tokens.at(first + 2) != "." else first + 3
    action = tokens.at(named + 1)
    if action == "open" and tokens.at(named + 2):
        named += 3 if tokens.at(named + 2) == "as" else 2
    name = _identifier(tokens, named).lower()
    if action == "close":
        _frees(found, "HOLD_CURSOR", name)
        return
    found.pin("HOLD_CURSOR", "HANDLER")
    found.holds["HOLD_CURSOR", name] = None
    _search(tokens, first, found, server)


def _rename(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "RENAME"
    if tokens.at(first + 1) in ("table", "tables"):
        _moves_tables(found)


def _identifier(tokens: Tokens, index: int) -> str:
    """The name there as it is spelt; ``?`` where it is none, or could be taken for one with its schema."""
    if not _is_name(tokens.at(index)):
        return "?"
    name = tokens.spelt[index].removeprefix(QUOTED)
    return name if name and {".", "?", "*"}.isdisjoint(name) else "?"


def _table(tokens: Tokens, index: int) -> tuple[str, int]:
    """The name of a table, with its schema if that is written, and where it ends. Case counts: `T` may not be `t`."""
    name = _identifier(tokens, index)
    if tokens.at(index + 1) != ".":
        return name, index + 1
    table = _identifier(tokens, index + 2)
    is_known = "?" not in (name, table) and tokens.at(index + 3) != "."
    return f"{name}.{table}" if is_known else "?", index + 3


def _frees(found: Finding, reason: str, name: str) -> None:
    if name != "?":
        found.frees[reason, name] = None


def _moves_tables(found: Finding) -> None:
    """A temporary table may have another name now, and what drops the old one frees nothing."""
    found.holds["TEMP_TABLE", "?"] = None


def _binlog(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "BINLOG"
    found.pin("UNKNOWN_STATEMENT", "BINLOG")  # events of any kind, settings among them


def _get(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    found.verb = "GET DIAGNOSTICS"
    found.reads_diagnostics = True
    if "diagnostics" not in tokens.words:
        found.verb = "GET"
        found.pin("UNKNOWN_STATEMENT", "GET")
    _take_variables(tokens, "GET DIAGNOSTICS @", found)


def _load(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    word = tokens.at(first + 1)
    if word == "index":
        found.verb = "LOAD INDEX"
        return
    found.verb = "LOAD DATA"
    if word not in ("data", "xml"):
        found.verb = f"LOAD {_shown(word).upper()}"
        found.pin("UNKNOWN_STATEMENT", found.verb)
    _take_variables(tokens, "LOAD DATA … (@)", found)
    start = first
    for index, token in enumerate(tokens.tokens):
        if token == "set" and tokens.at(index - 1) not in ("character", "char"):
            start = index
            break
    if start != first:
        _search(tokens, start, found, server)


# Definitions ------------------------------------------------------------------------------------------------------


def _object(tokens: Tokens, index: int) -> str:
    for words, name in OBJECTS:
        if tokens.at(index) == words[0] and all(tokens.at(index + n) == word for n, word in enumerate(words)):
            return name
    return ""


def _ddl(tokens: Tokens, first: int, found: Finding, server: str) -> None:
    word = tokens.at(first)
    index = first + 1
    temporary = False
    while not (name := _object(tokens, index)) and (option := tokens.at(index)) in QUALIFIERS:
        temporary = temporary or option == "temporary"
        index += 1
        if tokens.at(index) == "=":
            index += 2
            if tokens.at(index) == "(":  # current_user()
                index = tokens.closing(index) + 1
            elif tokens.at(index)[:1] == VARIABLE:  # root@localhost
                index += 1
    if not name:
        found.verb = word.upper()
        found.pin("UNKNOWN_STATEMENT", f"{found.verb} {_shown(tokens.at(index)).upper()}")
        return
    found.verb = f"{word.upper()} {'TABLE' if name == 'TABLES' else name}"
    named = index + len(name.split())
    if found.verb == "DROP PREPARE":
        _deallocate(tokens, named - 2, found, server)
    elif word == "drop" and name in ("TABLE", "TABLES", "SEQUENCE"):
        _drop_tables(tokens, named, found)
    elif word == "create" and temporary:
        found.pin("TEMP_TABLE", f"CREATE TEMPORARY {name}")
        found.holds["TEMP_TABLE", _table(tokens, _past_if_exists(tokens, named))[0]] = None
    elif found.verb == "ALTER TABLE" and _renames_table(tokens):
        _moves_tables(found)
    if word == "drop" or name in _STORED:
        return
    if name == "EVENT":
        _event(tokens, index, found, server)
    elif word == "create" and name == "TABLE":
        _create_table(tokens, index, found, server)
    else:
        _take_assigned(tokens, index, found)  # in a default, which MariaDB fills the rows there are with


def _past_if_exists(tokens: Tokens, index: int) -> int:
    if tokens.at(index) == "if":
        index += 3 if tokens.at(index + 1) == "not" else 2
    return index


def _drop_tables(tokens: Tokens, index: int, found: Finding) -> None:
    index = _past_if_exists(tokens, index)
    while tokens.at(index):
        name, index = _table(tokens, index)
        if tokens.at(index) in ("", ",", "restrict", "cascade", "wait", "nowait"):
            _frees(found, "TEMP_TABLE", name)
        if tokens.at(index) != ",":
            return
        index += 1


def _renames_table(tokens: Tokens) -> bool:
    """Whether ALTER TABLE may give the table another name, and not only one of its columns or keys."""
    return "rename" in tokens.words and any(
        token == "rename" and tokens.at(index + 1) not in ("column", "index", "key")
        for index, token in enumerate(tokens.tokens)
    )


def _event(tokens: Tokens, index: int, found: Finding, server: str) -> None:
    """The schedule is evaluated, also what a stored body would not be."""
    schedule = tokens.tokens.index("schedule") if "schedule" in tokens.words else len(tokens.tokens)
    end = tokens.tokens.index("do") if "do" in tokens.words else len(tokens.tokens)
    if schedule < end:
        items = zip(tokens.tokens[:end], tokens.spaced[:end], tokens.spelt[:end], strict=True)
        part = Tokens(list(items), "", "")
        _search(part, schedule, found, server)


def _create_table(tokens: Tokens, index: int, found: Finding, server: str) -> None:
    """Search the query of CREATE TABLE … SELECT; defaults and checks are only stored."""
    _take_assigned(tokens, index, found)
    while word := tokens.at(index):
        if word == "select" or (word == "values" and tokens.at(index + 1) in ("(", "row")):
            _search(tokens, index - 1, found, server)
            return
        index += 1


_SPECIAL = {
    "alter": _ddl,
    "backup": _backup,
    "begin": _begin,
    "binlog": _binlog,
    "call": _call_procedure,
    "commit": _end,
    "create": _ddl,
    "deallocate": _deallocate,
    "drop": _ddl,
    "execute": _execute,
    "flush": _flush,
    "get": _get,
    "handler": _handler,
    "load": _load,
    "lock": _lock,
    "prepare": _prepare,
    "rename": _rename,
    "rollback": _end,
    "set": _set,
    "start": _start,
    "unlock": _unlock,
    "use": _use,
    "with": _with,
    "xa": _xa,
}
