"""The rules of PostgreSQL: what one statement does to its session.

Data first, then the few verbs that need a look. Every verb is listed. One that is not is unknown, and pins.
"""

from __future__ import annotations

import re

from .sql_builtins import STATEFUL, WRITES, names
from .sql_calls import Call, as_stored, calls, cte_names, index_names, is_name, main_verb
from .sql_finding import Finding
from .sql_lexer import NUMBER, PARAMETER, STRING, Tokens, statements

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
    "discard": "SETTING",
    "do": "UNKNOWN_ROUTINE",
    "listen": "LISTEN",
    "load": "UNRESETTABLE",
    "prepare": "PREPARED_STATEMENT",
    "reset": "SETTING",
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

_TRUE = frozenset({"'t'", "'tr'", "'tru'", "'true'", "'y'", "'ye'", "'yes'", "'on'", "'1'"})
_TEMPORARY = frozenset({"temp", "temporary"})
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
    for token in tokens.words:
        if "pg_temp" in token and _TEMP_SCHEMA.match(token):
            found.pin("TEMP_TABLE", "pg_temp")
    if tokens.odd:
        found.pin("UNKNOWN_STATEMENT", tokens.odd)
    if found.causes:
        found.reads_only = False
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
    if leaves_nothing(inner):
        del found.causes["UNKNOWN_ROUTINE", "DO"]
        found.causes.update(inner.causes)
        found.routines.update(inner.routines)


def _body(token: str) -> str | None:
    """The text of a string constant that has no escapes, None where it has, or where the lexer did not keep it."""
    if not token.startswith(STRING) or len(token) < 3:
        return None
    if token[1] == "$" and token[-1] == "$":
        tag = token[1 : token.index("$", 2) + 1]
        return token[1 + len(tag) : -len(tag)] if token.endswith(tag) and len(token) > 2 * len(tag) else None
    return token[1:-1] if token[-1] == STRING and token != "''" else None


def _set(tokens: Tokens, first: int, found: Finding) -> None:
    scope, following = tokens.at(first + 1), tokens.at(first + 2)
    # A setting may be called "local" or "transaction": then "=", "." or TO follows.
    if scope == "local" and is_name(following) and following not in ("to", "from"):
        found.verb = "SET LOCAL"
    elif scope == "transaction" and following in ("isolation", "read", "not", "deferrable", "snapshot"):
        found.verb = "SET TRANSACTION"
    elif scope == "constraints" and is_name(following) and following not in ("to", "from"):
        found.verb = "SET CONSTRAINTS"
    else:
        found.verb = "SET"
        found.pin("SETTING", "SET")
    name = tokens.at(first + (2 if scope in ("local", "session") else 1)).lstrip('"').lower()
    if name == "seed":  # no transaction and no reset takes it back
        found.pin("UNRESETTABLE", "SET seed")
    found.sets_local = found.verb == "SET LOCAL"
    if found.sets_local and name == "standard_conforming_strings":  # from here on texts read otherwise
        found.pin("SETTING", "SET LOCAL standard_conforming_strings")
    if found.sets_local and name in ("search_path", "schema"):
        values = tokens.tokens[first + 3 :]
        if any(value == PARAMETER or (value.startswith(STRING) and not _is_harmless_path(value)) for value in values):
            found.pin("TEMP_TABLE", "SET LOCAL search_path")


def _is_harmless_path(value: str) -> bool:
    """Whether a value of search_path is a plain constant without pg_temp, which would make new tables temporary."""
    return _PLAIN_STRING(value) is not None and "pg_temp" not in value.lower()


def _set_config(tokens: Tokens, call: Call, found: Finding) -> None:
    name, after = tokens.at(call.opening + 1), call.opening + 2
    if tokens.at(after) == "::" and tokens.at(after + 1) == "text":
        after += 2
    is_known = _PLAIN_NAME(name) is not None and tokens.at(after) == ","
    is_local = found.sets_local = _is_local(tokens, call)
    if not is_local or not is_known or name.lower() == "'standard_conforming_strings'":
        found.pin("SETTING", "set_config()")
    if not is_known or name.lower() == "'seed'":  # no transaction and no reset takes it back
        found.pin("UNRESETTABLE", "set_config('seed', …)" if is_known else "set_config() of a name that is no constant")
    is_whole = tokens.at(after + 2) == ","
    if is_local and name.lower() == "'search_path'" and not (is_whole and _is_harmless_path(tokens.at(after + 1))):
        found.pin("TEMP_TABLE", "set_config('search_path', …)")


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
        elif reason := STATEFUL.get(name):
            reads = False
            if name == "set_config":
                _set_config(tokens, call, found)
            else:
                found.pin(reason, f"{name}()")
        elif name in WRITES:
            reads = False
            found.reads_sequence = found.reads_sequence or name in ("currval", "lastval")
            found.moves_sequence = found.moves_sequence or name in ("nextval", "setval")
    if "into" in tokens.words and not _TEMPORARY.isdisjoint(tokens.words):
        for index, word in enumerate(tokens.tokens):
            if word == "into" and tokens.at(index - 1) not in ("insert", "merge"):
                scope = index + (2 if tokens.at(index + 1) in ("local", "global") else 1)
                if tokens.at(scope) in _TEMPORARY:
                    found.pin("TEMP_TABLE", "SELECT INTO TEMP")
    return reads


def _is_local(tokens: Tokens, call: Call) -> bool:
    """Whether the third and last argument of this set_config() is a constant that says true."""
    closing = tokens.closing(call.opening)
    index, commas, argument = call.opening + 1, 0, 0
    while index < closing and commas <= 2:
        word = tokens.at(index)
        if word == "(":
            index = tokens.closing(index)
        elif word == ",":
            commas += 1
            argument = index + 1
        index += 1
    if commas != 2 or closing - argument not in (1, 3):
        return False
    value, *cast = tokens.tokens[argument:closing]
    return cast in ([], ["::", "bool"], ["::", "boolean"]) and (value == "true" or value.lower() in _TRUE)


# -- bodies


def judge_body(language: str, body: str) -> Finding:
    """What the body of a routine in ``sql`` or ``plpgsql`` does to the session; what it calls are causes too."""
    found = Finding()
    text = body.replace("%", "^")  # no driver puts parameters in here: to the server it is one operator or another
    for backslash in (False, True) if "\\" in body else (False,):
        block = _Block(found)
        for number, tokens in enumerate(statements(text, backslash=backslash)):
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
