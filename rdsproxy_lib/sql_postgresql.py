"""The rules of PostgreSQL: what one statement does to its session.

Data first, then the few verbs that need a look. Every verb is listed. One that is not is unknown, and pins.
"""

from __future__ import annotations

import re

from .sql_builtins import STATEFUL, WRITES, names
from .sql_calls import Call, as_stored, calls, cte_names, index_names, is_name, main_verb
from .sql_finding import Finding
from .sql_lexer import NUMBER, PARAMETER, STRING, Tokens, fold, statements

# Verbs of one word that leave nothing behind and evaluate nothing.
_FREE = {
    "abort": "ABORT",
    "analyse": "ANALYZE",
    "analyze": "ANALYZE",
    "begin": "BEGIN",
    "checkpoint": "CHECKPOINT",
    "close": "CLOSE",
    "cluster": "CLUSTER",
    "comment": "COMMENT",
    "commit": "COMMIT",
    "deallocate": "DEALLOCATE",
    "end": "END",
    "fetch": "FETCH",
    "grant": "GRANT",
    "import": "IMPORT FOREIGN SCHEMA",
    "lock": "LOCK TABLE",
    "move": "MOVE",
    "notify": "NOTIFY",
    "reassign": "REASSIGN OWNED",
    "refresh": "REFRESH MATERIALIZED VIEW",
    "reindex": "REINDEX",
    "release": "RELEASE",
    "revoke": "REVOKE",
    "rollback": "ROLLBACK",
    "savepoint": "SAVEPOINT",
    "security": "SECURITY LABEL",
    "show": "SHOW",
    "start": "START TRANSACTION",
    "truncate": "TRUNCATE TABLE",
    "unlisten": "UNLISTEN",
    "vacuum": "VACUUM",
}
# Verbs that always pin, with the reason.
_PINS = {
    "call": "UNKNOWN_ROUTINE",
    "do": "UNKNOWN_ROUTINE",
    "listen": "LISTEN",
    "load": "UNRESETTABLE",
    "prepare": "PREPARED_STATEMENT",
}
# What may end a pin, but for DROP and DISCARD. Whether it did, the server is asked.
_FREES = {"close": "HOLD_CURSOR", "deallocate": "PREPARED_STATEMENT", "unlisten": "LISTEN"}
_UNLOCKING = names("pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared")
# What the server can be asked about: each statement that pins for one of these may have come to nothing.
_ASKED = ("TEMP_TABLE", "PREPARED_STATEMENT", "HOLD_CURSOR", "ADVISORY_LOCK", "LISTEN")
_DISCARDS = {
    "all": (*_ASKED, "SETTING", "UNKNOWN_ROUTINE", "UNKNOWN_STATEMENT"),
    "plans": (),
    "sequences": (),
    "temp": ("TEMP_TABLE",),
    "temporary": ("TEMP_TABLE",),
}
# Verbs that evaluate expressions, to be searched for calls.
_QUERIES = {
    "copy": "COPY",
    "delete": "DELETE",
    "execute": "EXECUTE",
    "insert": "INSERT",
    "merge": "MERGE",
    "select": "SELECT",
    "table": "TABLE",
    "update": "UPDATE",
    "values": "VALUES",
}

_OBJECTS = (
    "access method",
    "aggregate",
    "cast",
    "collation",
    "conversion",
    "database",
    "default privileges",
    "domain",
    "event trigger",
    "extension",
    "foreign data wrapper",
    "foreign table",
    "function",
    "group",
    "index",
    "language",
    "large object",
    "materialized view",
    "operator class",
    "operator family",
    "operator",
    "owned",
    "policy",
    "procedure",
    "publication",
    "role",
    "routine",
    "rule",
    "schema",
    "sequence",
    "server",
    "statistics",
    "subscription",
    "system",
    "table",
    "tablespace",
    "text search configuration",
    "text search dictionary",
    "text search parser",
    "text search template",
    "transform",
    "trigger",
    "type",
    "user mapping",
    "user",
    "view",
)
_OBJECT_WORDS = [(tuple(name.split()), name.upper()) for name in _OBJECTS]
_QUALIFIERS = names(
    "or replace global local temp temporary unlogged unique trusted procedural constraint default recursive"
)
# DDL after which the name of a routine may stand for another one.
ROUTINE_DDL = frozenset(
    f"{verb} {name}"
    for verb in ("CREATE", "ALTER", "DROP")
    for name in ("AGGREGATE", "EXTENSION", "FUNCTION", "PROCEDURE", "ROUTINE")
) | {"ALTER SCHEMA"}
# DDL that evaluates the expressions in it. All other DDL only stores them.
_EVALUATING_DDL = frozenset({"CREATE MATERIALIZED VIEW", "CREATE INDEX", "ALTER TABLE", "ALTER DOMAIN"})

# Constants are read by these, when a statement or the body of a function is planned, and stay in the plan.
READING_SETTINGS = names(
    "array_nulls datestyle default_text_search_config intervalstyle lc_monetary lc_numeric lc_time timezone"
    " timezone_abbreviations transform_null_equals xmlbinary xmloption"
)

_TRUE = frozenset({"'t'", "'tr'", "'tru'", "'true'", "'y'", "'ye'", "'yes'", "'on'", "'1'"})
_TEMPORARY = frozenset({"temp", "temporary"})
# Settings that have a syntax of their own; all others are `name = value` and `name TO value`.
_SET_FORMS = {
    ("session", "authorization"): "session_authorization",
    ("time", "zone"): "timezone",
    ("xml", "option"): "xmloption",
    ("names",): "client_encoding",
    ("role",): "role",
    ("schema",): "search_path",
}
_RESET_FORMS = {
    ("session", "authorization"): "session_authorization",
    ("time", "zone"): "timezone",
    ("transaction", "isolation", "level"): "transaction_isolation",
}
_MODES = names("deferrable isolation not read snapshot")
_CHARACTERISTICS = {
    "isolation": "default_transaction_isolation",
    "only": "default_transaction_read_only",
    "write": "default_transaction_read_only",
    "deferrable": "default_transaction_deferrable",
}
# Each transaction begins with new ones.
_OF_TRANSACTION = names("transaction_deferrable transaction_isolation transaction_read_only")
_OLD_NAMES = {"sort_mem": "work_mem", "vacuum_mem": "maintenance_work_mem"}  # map_old_guc_names of guc.c
_FALSE = names("false 'f' 'fa' 'fal' 'fals' 'false' 'n' 'no' 'of' 'off' '0' null")
_SETTING_PART = re.compile(r'"?[\w$ .-]{1,63}', re.ASCII).fullmatch
_PLAIN_NAME = re.compile(r"'[A-Za-z0-9_.]+'").fullmatch
_PLAIN_STRING = re.compile(r"'[^'\\]*'").fullmatch
_TEMP_SCHEMA = re.compile(r'"?pg_temp(?:_[0-9]+)?\Z')
# What psycopg may put a parameter in the place of. `%` and a space is no such place.
_PLACEHOLDER = re.compile(r"%(?:[sbt]|\()").search
_NOT_READING = names("insert update delete merge into share")
_READING = frozenset({"SELECT", "VALUES", "TABLE"})
_ENDING = frozenset({"COMMIT", "END", "ROLLBACK", "ABORT"})


def judge(tokens: Tokens) -> Finding:
    """What `tokens`, one statement, does to its session."""
    found = Finding()
    start, explained = _past_explain(tokens)
    _head(tokens, start, found)
    if explained:
        found.verb = "EXPLAIN"
        found.ends_transaction = False
    if not any(reason == "TEMP_TABLE" for reason, _ in found.causes):
        for token in tokens.words:
            if "pg_temp" in token and _TEMP_SCHEMA.match(token):
                found.pin("TEMP_TABLE", "pg_temp")
    if tokens.odd:
        found.pin("UNKNOWN_STATEMENT", tokens.odd)
    if found.causes:
        found.reads_only = False
    pinned = {reason for reason, _ in found.causes}
    if ("search_path", None) in found.settings:
        # With pg_temp in it tables become temporary from now on; without, those there are may be all.
        pinned ^= {"TEMP_TABLE"}
    found.frees.update(((reason, "*"), None) for reason in _ASKED if reason in pinned)
    return found


def _past_explain(tokens: Tokens) -> tuple[int, bool]:
    """Where the statement proper begins, and whether EXPLAIN stands before it."""
    index = 0
    explained = False
    while tokens.at(index) == "explain":
        explained = True
        index += 1
        if tokens.at(index) == "(" and tokens.at(index + 1) not in ("select", "with", "values", "table", "("):
            index = tokens.closing(index) + 1
        while tokens.at(index) in ("analyze", "analyse", "verbose"):
            index += 1
    return index, explained


def _head(tokens: Tokens, start: int, found: Finding) -> None:
    first = start
    while tokens.at(first) == "(":
        first += 1
    word = tokens.at(first)
    if first != start and word not in ("select", "with", "values", "table"):
        found.pin("UNKNOWN_STATEMENT", "(")
    elif word in _QUERIES or word == "with":
        _query(tokens, first, word, found)
    elif word in ("create", "alter", "drop"):
        _ddl(tokens, first, word, found)
    elif word == "set":
        _set(tokens, first, found)
    elif word == "reset":
        _reset(tokens, first, found)
    elif word == "discard":
        _discard(tokens, first, found)
    elif word == "declare":
        _declare(tokens, first, found)
    elif word in _FREE:
        _free(tokens, first, word, found)
    elif word in _PINS:
        _pinning(tokens, first, word, found)
    else:
        found.verb = _shown(word).upper()
        found.pin("UNKNOWN_STATEMENT", found.verb)


def _shown(word: str) -> str:
    """A word that begins no statement we know, fit for a message: constants are not."""
    if not is_name(word) or not word.isprintable():
        return "?"
    return word[:30]


def _free(tokens: Tokens, first: int, word: str, found: Finding) -> None:
    found.verb = _FREE[word]
    following = tokens.at(first + 1)
    if word in ("commit", "rollback") and following == "prepared":
        found.verb += " PREPARED"
    if word in ("rollback", "abort"):
        index = first + 2 if following in ("work", "transaction") else first + 1
        if tokens.at(index) == "to":
            found.verb = "ROLLBACK TO"
    found.ends_transaction = found.verb in _ENDING
    found.reads_only = word == "show"
    if word in _FREES:
        found.frees[_FREES[word], "*"] = None


def _pinning(tokens: Tokens, first: int, word: str, found: Finding) -> None:
    found.verb = word.upper()
    following = tokens.at(first + 1)
    if word == "prepare" and following == "transaction" and tokens.at(first + 2)[:1] == STRING:
        found.verb = "PREPARE TRANSACTION"
        found.ends_transaction = True
        return
    found.pin(_PINS[word], found.verb)
    if word == "prepare":
        # What EXECUTE will call is judged now: the text of EXECUTE does not show it.
        start = first
        while tokens.at(start) not in ("as", ""):
            start = tokens.closing(start) + 1 if tokens.at(start) == "(" else start + 1
        _search(tokens, start, found, cte_names(tokens))
        _pin_parameters(found)
    elif word == "call":
        found.moves_sequence = True
        _search(tokens, first, found, set())
        _name_called(tokens, first + 1, found)
    elif word == "do":
        found.moves_sequence = True
        _do(tokens, first, found)


def _name_called(tokens: Tokens, start: int, found: Finding) -> None:
    """For CALL: which routine it is, also where it has the name of a built-in function."""
    end = start
    while tokens.at(end + 1) == ".":
        end += 2
    parts = tokens.tokens[start : end + 1 : 2]
    if tokens.at(end + 1) == "(" and all(map(is_name, parts)) and (routine := as_stored(parts)):
        found.routines["CALL"] = routine


def _do(tokens: Tokens, first: int, found: Finding) -> None:
    """Judge a code block from its body, where that is one plain constant and nothing will be put into it."""
    words = tokens.tokens[first + 1 :]
    if "language" in words:
        at = words.index("language")
        if words[at + 1 : at + 2] not in (["plpgsql"], ['"plpgsql'], ["'plpgsql'"]):
            return
        del words[at : at + 2]
    body = _body(words[0]) if len(words) == 1 else None
    if body is None or _PLACEHOLDER(body):
        return
    inner = judge_body("plpgsql", body)
    if _is_seen_through(inner):
        del found.causes["UNKNOWN_ROUTINE", "DO"]
        take(found, inner)


def _body(token: str) -> str | None:
    """The text of a string constant that has no escapes, None where it has, or where the lexer did not keep it."""
    if not token.startswith(STRING) or len(token) < 3:
        return None
    if token[1] == "$" and token[-1] == "$":
        tag = token[1 : token.index("$", 2) + 1]
        return token[1 + len(tag) : -len(tag)] if token.endswith(tag) and len(token) > 2 * len(tag) else None
    return token[1:-1] if token[-1] == STRING and token != "''" else None


def setting_name(name: str) -> str:
    """The name of a parameter as `sql.Setting` has it: the server compares names without case, and knows old ones."""
    name = fold(name)
    return _OLD_NAMES.get(name, name)


def _named(tokens: Tokens, at: int) -> tuple[str, int]:
    """The parameter whose name stands at `at`, ``""`` where that cannot be told; and what follows the name."""
    end = at + 1
    while tokens.at(end) == ".":
        end += 2
    parts = tokens.tokens[at:end:2]
    if not all(is_name(part) and _SETTING_PART(part) for part in parts):
        return "", end
    return setting_name(".".join(part.lstrip('"') for part in parts)), end


def _form(tokens: Tokens, at: int, forms: dict[tuple[str, ...], str]) -> tuple[str, int]:
    """The same where the parameter has a syntax of its own."""
    for words, name in forms.items():
        if all(tokens.at(at + number) == word for number, word in enumerate(words)):
            return name, at + len(words)
    return "", at


def _set(tokens: Tokens, first: int, found: Finding) -> None:
    """``VariableSetStmt`` and ``ConstraintsSetStmt`` of the server's ``gram.y``."""
    at = first + 1
    scope = ""
    if tokens.at(at) in ("local", "session") and _is_scope(tokens, at):
        scope = tokens.at(at)
        at += 1
    word, following = tokens.at(at), tokens.at(at + 1)
    found.verb = "SET LOCAL" if scope == "local" else "SET"
    found.sets_local = scope == "local"
    if word == "transaction" and following in _MODES:
        found.verb = found.verb if found.sets_local else "SET TRANSACTION"
        return
    if word == "constraints" and not scope and _is_followed_by_name(tokens, at):
        found.verb = "SET CONSTRAINTS"
        return
    found.reads_only = True
    if word == "session" and following == "characteristics":
        if not found.sets_local:
            modes = [name for mode, name in _CHARACTERISTICS.items() if mode in tokens.words]
            for name in modes or _CHARACTERISTICS.values():
                found.takes_along(name)
        return
    is_generic = following in ("=", "to", "from", ".")
    name, after = _named(tokens, at) if is_generic else _form(tokens, at, _SET_FORMS)
    if name == "standard_conforming_strings" and not tokens.backslash and _is_on(tokens.tokens[after:]):
        if not found.sets_local:  # it is on already: what pg_dump and ActiveRecord begin with
            found.takes_along(name)
        return
    if name == "search_path" and not all(map(_is_without_temporary, tokens.tokens[after:])):
        found.pin("TEMP_TABLE", f"{found.verb} search_path")
    _sets(name, f"{found.verb} {name}" if name else found.verb, found, is_local=found.sets_local)


def _is_on(values: list[str]) -> bool:
    """Whether these are ``= on`` or ``TO on``, in one of the ways that the server knows."""
    return len(values) == 2 and (values[1] in ("on", "true", "yes") or values[1].lower() in _TRUE)


def _is_followed_by_name(tokens: Tokens, at: int) -> bool:
    """Whether the word at `at` is no name of a setting: then ``=``, ``.``, TO or FROM would follow."""
    following = tokens.at(at + 1)
    return is_name(following) and following not in ("to", "from")


def _is_scope(tokens: Tokens, at: int) -> bool:
    """Whether LOCAL or SESSION says for how long, and is neither a name nor the first word of one."""
    if not _is_followed_by_name(tokens, at):
        return False
    following = tokens.at(at + 1)
    if tokens.at(at) == "session" and following == "characteristics":
        return tokens.at(at + 2) != "as"
    return tokens.at(at) == "local" or following != "authorization"


def _sets(name: str, what: str, found: Finding, *, is_local: bool) -> None:
    """The parameter `name` is set, or reset; ``""`` for one that cannot be told. `what` is how the text says so."""
    if name == "seed":  # no transaction and no reset takes it back
        found.pin("UNRESETTABLE", what)
    elif name == "standard_conforming_strings":  # texts read otherwise, and what functions are compiled to stays
        found.pin("SETTING", what)
        found.pin("UNRESETTABLE", what)
    elif name in _OF_TRANSACTION:
        found.sets_local = True
    elif is_local:
        if name in READING_SETTINGS:
            found.local_settings[name, None] = None
    elif not name:
        found.pin("SETTING", what)
    else:
        found.takes_along(name)
        if name == "session_authorization":  # the role ends with it
            found.takes_along("role")


def _reset(tokens: Tokens, first: int, found: Finding) -> None:
    found.verb = "RESET"
    found.reads_only = True
    at = first + 1
    if tokens.at(at) == "all":
        found.takes_along("*")
        found.frees["SETTING", "*"] = None
        return
    name = _form(tokens, at, _RESET_FORMS)[0] or _named(tokens, at)[0]
    _sets(name, f"RESET {name}" if name else "RESET", found, is_local=False)


def _discard(tokens: Tokens, first: int, found: Finding) -> None:
    word = tokens.at(first + 1)
    if word not in _DISCARDS:
        found.verb = "DISCARD"
        found.pin("UNKNOWN_STATEMENT", f"DISCARD {_shown(word).upper()}")
        return
    found.verb = "DISCARD TEMP" if word == "temporary" else f"DISCARD {word.upper()}"
    found.frees.update(((reason, "*"), None) for reason in _DISCARDS[word])
    found.moves_sequence = word in ("all", "sequences")  # currval() and lastval() know nothing any more
    if word == "all":
        for name in ("*", "role", "session_authorization"):
            found.takes_along(name)


def _is_without_temporary(value: str) -> bool:
    """Whether a value of search_path is certainly not pg_temp, which would make new tables temporary."""
    if value.startswith(STRING):
        return _PLAIN_STRING(value) is not None and "pg_temp" not in value.lower()
    return value != PARAMETER and not _TEMP_SCHEMA.match(value)


def _set_config(tokens: Tokens, call: Call, found: Finding) -> None:
    spans = _arguments(tokens, call)
    name = which = None
    if len(spans) == 3:
        setting, value, is_local = (tokens.tokens[start:end] for start, end in spans)
        if _PLAIN_NAME(_alone(setting)):
            name = setting_name(setting[0][1:-1])
        elif _alone(setting) == PARAMETER:
            which = tokens.parameter(spans[0][0])
    if name is None and which is None:
        found.sets_local = True
        found.pin("SETTING", "set_config()")
        found.pin("UNRESETTABLE", "set_config() of a name that is no constant")
        return
    locality = _constant(is_local)
    found.sets_local = found.sets_local or locality is not False
    settings = found.local_settings if locality is True else found.settings
    if name is None:
        settings["", which] = None
    else:
        _sets(name, f"set_config('{name}', …)", found, is_local=locality is True)
    if name is None or name == "search_path":
        if _alone(value) == PARAMETER and tokens.parameter(spans[1][0]) is not None:
            if name:  # whether it says pg_temp is seen when it is there
                settings[name, None] = None
        elif _alone(value) != "null" and not _is_plain_path(_alone(value)):
            found.pin("TEMP_TABLE", "set_config('search_path', …)")


def _is_plain_path(value: str) -> bool:
    return value.startswith(STRING) and _is_without_temporary(value)


def _pin_parameters(found: Finding) -> None:
    """For PREPARE, whose parameters are not those of ``execute()``; EXECUTE brings them.

    The names stay, to be asked for when the session that is pinned by it parts with its backend.
    """
    for name, which in (*found.settings, *found.local_settings):
        if name in ("", "search_path"):
            found.pin("SETTING", "set_config()")
            found.pin("TEMP_TABLE", "set_config('search_path', …)")
        if not name:
            found.pin("UNRESETTABLE", "set_config() of a name that is no constant")
            found.settings.pop((name, which), None)
    found.local_settings.clear()


def _declare(tokens: Tokens, first: int, found: Finding) -> None:
    found.verb = "DECLARE"
    index = first + 2  # the name may be any word
    while tokens.at(index) not in ("for", ""):
        if tokens.at(index) == "with" and tokens.at(index + 1) == "hold":
            found.pin("HOLD_CURSOR", "DECLARE WITH HOLD")
        index += 1
    _search(tokens, index, found, cte_names(tokens))


def _query(tokens: Tokens, first: int, word: str, found: Finding) -> None:
    named = cte_names(tokens)
    verb = main_verb(tokens, first, named) if word == "with" else word
    found.verb = _QUERIES.get(verb, "SELECT")
    reads = _search(tokens, first, found, named)
    words = tokens.words
    if "update" in words and ("pg_settings" in words or '"pg_settings' in words):
        found.pin("SETTING", "UPDATE pg_settings")  # a rule of the server's own makes it a SET
    found.reads_only = found.verb in _READING and reads and not found.reads_sequence and _NOT_READING.isdisjoint(words)
    if (
        word == "execute"
        or "insert" in words
        or "merge" in words
        or (word == "copy" and "from" in words)
        or ("update" in words and "default" in words)
    ):
        found.moves_sequence = True


def _ddl(tokens: Tokens, first: int, word: str, found: Finding) -> None:
    index = first + 1
    temporary = False
    object_name = ""
    while not (object_name := _object(tokens, index)) and tokens.at(index) in _QUALIFIERS:
        temporary = temporary or tokens.at(index) in _TEMPORARY
        index += 1
    if not object_name:
        found.verb = word.upper()
        found.pin("UNKNOWN_STATEMENT", f"{found.verb} {_shown(tokens.at(index)).upper()}")
        return
    found.verb = f"{word.upper()} {object_name}"
    found.sets_local = found.verb in ROUTINE_DDL  # what a name stands for changes, and with the transaction
    if found.verb in ("CREATE TABLE", "CREATE FOREIGN TABLE"):
        _create_table(tokens, index, temporary, found)
    elif word == "create" and temporary:
        found.pin("TEMP_TABLE", f"CREATE TEMP {object_name}")
    elif word == "drop":
        found.frees["TEMP_TABLE", "*"] = None
    elif found.verb == "CREATE SCHEMA":
        if not _TEMPORARY.isdisjoint(tokens.words):
            found.pin("TEMP_TABLE", "CREATE SCHEMA with a temporary element")
    elif found.verb in _EVALUATING_DDL:
        named = index_names(tokens, index) if object_name == "INDEX" else set()
        _search(tokens, index, found, named | cte_names(tokens))
        if found.verb == "ALTER TABLE":
            found.moves_sequence = True  # a new serial or identity column fills the rows there are


def _object(tokens: Tokens, index: int) -> str:
    for words, name in _OBJECT_WORDS:
        if tokens.at(index) == words[0] and all(tokens.at(index + n) == word for n, word in enumerate(words)):
            return name
    return ""


def _create_table(tokens: Tokens, first: int, temporary: bool, found: Finding) -> None:
    """Search the query of CREATE TABLE AS and a partition's bounds; defaults and checks are only stored."""
    index = first
    dropped = False
    while (word := tokens.at(index)) not in ("as", ""):
        if word == "(":
            index = tokens.closing(index)
        elif word == "on" and tokens.at(index + 1) == "commit" and tokens.at(index + 2) == "drop":
            dropped = True
        elif word == "for" and tokens.at(index + 1) == "values":
            _search(tokens, index, found, set())
        index += 1
    if word == "as":
        found.verb = "CREATE TABLE AS"
        _search(tokens, index, found, cte_names(tokens))
    if temporary and not dropped:
        found.pin("TEMP_TABLE", "CREATE TEMP TABLE")


def _search(tokens: Tokens, start: int, found: Finding, named: set[int]) -> bool:
    """Judge every call and INTO after `start`. Whether all of it only reads is returned."""
    reads = True
    for call in calls(tokens, start, named, found.verb):
        name = call.builtin
        if not name:
            reads = False
            what = f"{call.name}()"
            found.pin("UNKNOWN_ROUTINE", what)
            if call.routine:
                found.routines[what] = call.routine
            found.moves_sequence = True
        elif name == "set_config":
            _set_config(tokens, call, found)
        elif reason := STATEFUL.get(name):
            reads = False
            found.pin(reason, f"{name}()")
        elif name in WRITES:
            reads = False
            found.reads_sequence = found.reads_sequence or name in ("currval", "lastval")
            found.moves_sequence = found.moves_sequence or name in ("nextval", "setval")
            if name in _UNLOCKING:
                found.frees["ADVISORY_LOCK", "*"] = None
    if "into" in tokens.words and not _TEMPORARY.isdisjoint(tokens.words):
        for index, word in enumerate(tokens.tokens):
            if word == "into" and tokens.at(index - 1) not in ("insert", "merge"):
                scope = index + (2 if tokens.at(index + 1) in ("local", "global") else 1)
                if tokens.at(scope) in _TEMPORARY:
                    found.pin("TEMP_TABLE", "SELECT INTO TEMP")
    return reads


def _arguments(tokens: Tokens, call: Call) -> list[tuple[int, int]]:
    """Where the first four arguments of a call begin and end."""
    spans: list[tuple[int, int]] = []
    closing = tokens.closing(call.opening)
    start = index = call.opening + 1
    depth = 0
    while index < closing and len(spans) < 3:
        word = tokens.at(index)
        if word == "(":
            index = tokens.closing(index)
        elif word in ("[", "]"):
            depth += 1 if word == "[" else -1
        elif word == "," and not depth:
            spans.append((start, index))
            start = index + 1
        index += 1
    spans.append((start, closing))
    return spans


def _alone(argument: list[str]) -> str:
    """An argument that is one token, perhaps cast to text; ``""`` for any other."""
    return argument[0] if argument[1:] in ([], ["::", "text"]) and argument else ""


def _constant(argument: list[str]) -> bool | None:
    """What this constant of type boolean says; None for what is no constant."""
    value, cast = argument[:1], argument[1:]
    if cast not in ([], ["::", "bool"], ["::", "boolean"]) or not value:
        return None
    word = value[0].lower()
    return True if word == "true" or word in _TRUE else False if word in _FALSE else None


# -- bodies


def judge_body(language: str, body: str) -> Finding:
    """What the body of a routine in ``sql`` or ``plpgsql`` does to the session; what it calls are causes too."""
    found = Finding()
    text = body.replace("%", "^")  # no driver puts parameters in here: to the server it is one operator or another
    for backslash in (False, True) if "\\" in body else (False,):
        block = _Block(found)
        for number, tokens in enumerate(statements(text, backslash=backslash)):
            tokens.places.clear()  # $1 is the routine's
            tokens.backslash = True
            if tokens.odd:
                found.pin("UNKNOWN_STATEMENT", tokens.odd)
            if language == "plpgsql":
                block.read(tokens, is_first=not number)
            else:
                take(found, judge(tokens))
    return found


def leaves_nothing(body: Finding) -> bool:
    """Whether a body is harmless if all routines are that it calls.

    What it sets for the transaction changes how later texts are read, and currval() in it asks for this session's
    backend: neither shows in the text of the statement that calls it.
    """
    return not (body.settings or body.awaits_question) and _is_seen_through(body)


def _is_seen_through(body: Finding) -> bool:
    """Whether a body leaves no more than its settings if all routines are harmless that it calls."""
    return not (body.sets_local or body.reads_sequence) and all(
        reason == "UNKNOWN_ROUTINE" and what in body.routines for reason, what in body.causes
    )


def take(found: Finding, inner: Finding) -> None:
    """Add what a statement of a body does to what the body does."""
    for reason, what in inner.causes:
        routine = inner.routines.get(what)
        if routine and found.routines.get(what, routine) != routine:  # of two statements, and named alike in messages
            what = f"{what} {'.'.join(filter(None, routine))}"
        found.pin(reason, what)
        if routine:
            found.routines[what] = routine
    found.settings.update(inner.settings)
    found.local_settings.update(inner.local_settings)
    found.frees.update(inner.frees)
    found.awaits_question = found.awaits_question or inner.awaits_question
    found.sets_local = found.sets_local or inner.sets_local
    found.reads_sequence = found.reads_sequence or inner.reads_sequence


def _piece(tokens: Tokens, first: int, last: int, head: str) -> Tokens:
    """The tokens from `first` to before `last` as a statement of its own, behind the word `head`."""
    piece = Tokens()
    piece.tokens = [head, *tokens.tokens[first:last]] if head else tokens.tokens[first:last]
    piece.words = frozenset(piece.tokens)
    stack: list[int] = []
    for index, token in enumerate(piece.tokens):
        if token == "(":
            stack.append(index)
            piece.opens.append(index)
        elif token == ")" and stack:
            opening = stack.pop()
            piece.match[opening], piece.match[index] = index, opening
    return piece


def _find(tokens: Tokens, first: int, *wanted: str) -> int:
    """Where the first of these words stands that is in no parentheses; past the end where none does."""
    index, depth, end = first, 0, len(tokens.tokens)
    while index < end:
        word = tokens.tokens[index]
        if word == "(":
            index = tokens.closing(index)
        elif word in ("[", "]"):
            depth += 1 if word == "[" else -1
        elif word in wanted and depth <= 0:
            return index
        index += 1
    return end


class _Block:
    """Reads PL/pgSQL as the server's ``pl_gram.y`` does: a statement by its first word, an expression to its end word.

    Those words are reserved, and ``;`` stands only behind a statement, so that each piece between two ``;`` is read
    by itself. What is no statement of PL/pgSQL is one of SQL.
    """

    def __init__(self, found: Finding) -> None:
        self._found = found
        self._is_declaring = False

    def read(self, tokens: Tokens, *, is_first: bool) -> None:
        """Judge the statements up to the next ``;``."""
        at, end = 0, len(tokens.tokens)
        while is_first and tokens.at(at) == "#":  # #variable_conflict use_column
            at += 3
        while at < end:
            at = self._declaration(tokens, at, end) if self._is_declaring else self._statement(tokens, at, end)

    def _declaration(self, tokens: Tokens, at: int, end: int) -> int:
        word = tokens.at(at)
        if word in ("begin", "declare"):
            self._is_declaring = word == "declare"
            return at + 1
        if "cursor" in tokens.tokens[at + 1 : at + 4]:
            self._query(tokens, _find(tokens, at + 1, "for", "is") + 1, end)
        else:
            self._expression(tokens, _find(tokens, at + 1, "default", "=") + 1, end)
        return end

    def _statement(self, tokens: Tokens, at: int, end: int) -> int:
        """Judge what begins at `at`; where to go on is returned: after THEN, LOOP and BEGIN comes a statement."""
        word = tokens.at(at)
        if word == "<" and tokens.tokens[at + 3 : at + 5] == [">", ">"]:
            return at + 5
        if self._is_assignment(tokens, at):
            self._expression(tokens, at, end)
            return end
        if word in ("begin", "else", "loop", "exception"):
            return at + 1
        if word == "declare":
            self._is_declaring = True
            return at + 1
        if word in _UNTIL:
            return self._up_to(tokens, at, end)
        if word == "end":
            return end
        if word == "return" and tokens.at(at + 1) == "query" and at + 2 < end:
            self._query(tokens, at + 2, end)
        elif word == "open":
            query = _find(tokens, at + 1, "for")
            self._expression(tokens, at + 1, query)
            self._query(tokens, query + 1, end)
        elif word in _PLAIN_STATEMENTS:
            self._expression(tokens, at + (2 if tokens.at(at + 1) == "next" else 1), end)
        else:
            self._sql(tokens, at, end)
        return end

    def _up_to(self, tokens: Tokens, at: int, end: int) -> int:
        """A condition, or what is looped over, and the word that ends it."""
        word = tokens.at(at)
        if word == "case" and tokens.at(at + 1) == "when":
            return at + 1
        start = at + 1
        if word == "for":
            start = _find(tokens, at, "in") + 1
        stop = _find(tokens, start, _UNTIL[word])
        if stop == end:
            self._found.pin("UNKNOWN_STATEMENT", word.upper())
            return end
        if word == "for":
            self._query(tokens, start + (tokens.at(start) == "reverse"), stop)
        else:
            self._expression(tokens, start, stop)
        return stop if word == "case" else stop + 1

    @staticmethod
    def _is_assignment(tokens: Tokens, at: int) -> bool:
        if not is_name(tokens.at(at)) and tokens.at(at) != PARAMETER:
            return False
        after = at + 1
        while (word := tokens.at(after)) in (".", "["):
            if word == ".":
                after += 2
            else:
                depth = 1
                while depth and (word := tokens.at(after + 1)):
                    depth += (word == "[") - (word == "]")
                    after += 1
                after += 1
        return word == "=" or (word == ":" and tokens.at(after + 1) == "=")

    def _query(self, tokens: Tokens, first: int, last: int) -> None:
        """What FOR … IN, RETURN QUERY and OPEN … FOR take: a statement, or a range, or the name of a cursor."""
        word = tokens.at(first)
        if word in _QUERIES or word in _PINS or word in _STATEMENTS_WITH_ANSWER:
            self._sql(tokens, first, last)
            return
        for index in range(first, last):  # the two dots of a range; a number has taken one of them
            if tokens.at(index) == "." and tokens.at(index - 1) in (".", NUMBER):
                self._expression(tokens, first, index - (tokens.at(index - 1) == "."))
                first = index + 1
        self._expression(tokens, first, last)

    def _expression(self, tokens: Tokens, first: int, last: int) -> None:
        """The server runs an expression as a SELECT."""
        if first < last:
            take(self._found, judge(_piece(tokens, first, last, "select")))

    def _sql(self, tokens: Tokens, first: int, last: int) -> None:
        if (word := tokens.at(first)) in ("execute", "do"):
            self._found.pin("UNKNOWN_ROUTINE", word.upper())
        else:
            take(self._found, judge(_piece(tokens, first, last, "")))


# What begins with these goes up to that word, and another statement follows.
_UNTIL = {
    "case": "when",
    "elseif": "then",
    "elsif": "then",
    "for": "loop",
    "foreach": "loop",
    "if": "then",
    "when": "then",
    "while": "loop",
}
_PLAIN_STATEMENTS = names("assert close commit continue exit fetch get move null perform raise return rollback")
_STATEMENTS_WITH_ANSWER = names("alter create declare drop explain set with")
