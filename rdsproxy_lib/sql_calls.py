"""Which of the names before a ``(`` are calls of functions. PostgreSQL's grammar; pure.

The rule errs towards calling it a call. A name before a parenthesis is no call only where the grammar has
no room for an expression: after an operand (an alias with a column list, a type with a modifier), after a
word that introduces a relation or a type, and in the few constructions listed by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .sql_builtins import BUILTINS, KEYWORD_FUNCTIONS, KEYWORDS, RESERVED, STATEFUL, names
from .sql_lexer import PARAMETER, Tokens

# After these comes the name of a relation, a type, an alias or a prepared statement, never an expression.
_INTRODUCERS = names(
    "as :: into table exists references copy view recursive execute type of column ordinality constraint"
)
# Words that are no function unless quoted, and what stands before them when they are grammar.
_GRAMMAR = {
    "by": {"order", "group", "partition"},
    "exclude": {"add"},
    "first": {"fetch"},
    "join": {"inner", "left", "right", "full", "outer", "cross", "natural"},
    "key": {"primary", "foreign"},
    "materialized": {"as", "not"},
    "next": {"fetch"},
    "second": {"interval"},
    "set": {"update"},
    "sets": {"grouping"},
    "varying": {"bit", "char", "character", "nchar"},
    "zone": {"time"},
}
_NEVER_CALLED = RESERVED | {"between", "inout", "none", "out", "precision", "setof"}
# Words that are no reserved ones and after which an expression may begin.
_LEADS = names(
    "between by content document escape first groups ilike join key like next overlaps passing path "
    "range ref rows tablesample value version zone"
)
_CLAUSES = names("select from where having order window limit offset union on set values returning")
_SURE_NAME = re.compile(r"[\w$ .-]{1,63}", re.ASCII).fullmatch
_GROUPING_REACH = 200  # tokens looked back at; a longer list pins
_OPERATOR_CHARACTERS = frozenset("+-/<>=~!@#%^&|`?")
_KNOWN = BUILTINS | STATEFUL.keys()
_MAIN_VERBS = names("select insert update delete merge values table")


@dataclass(frozen=True, slots=True)
class Call:
    """A call, or what has to be taken for one."""

    name: str  # as a person reads it: lower, public.f, "F"
    builtin: str  # the name in pg_catalog or in the grammar, "" when it is not known there
    opening: int  # where its "(" stands
    routine: tuple[str, str] | None = None  # schema ("" for none) and name, where the catalogue can be asked for it


def cte_names(tokens: Tokens) -> set[int]:
    """Where the names of `WITH` queries stand, so that their column lists are not taken for arguments."""
    found: set[int] = set()
    if "with" not in tokens.words:
        return found
    for start, word in enumerate(tokens.tokens):
        if word != "with":
            continue
        name = start + 1
        if tokens.at(name) == "recursive" and tokens.at(name + 1) not in ("(", "as"):
            name += 1
        while is_name(tokens.at(name)) and tokens.at(name) not in RESERVED:
            after = name + 1
            if tokens.at(after) == "(":
                after = tokens.closing(after) + 1
            if tokens.at(after) != "as":
                break
            after += 1
            while tokens.at(after) in ("not", "materialized"):
                after += 1
            if tokens.at(after) != "(":
                break
            found.add(name)
            after = tokens.closing(after) + 1
            if tokens.at(after) != ",":
                break
            name = after + 1
    return found


def main_verb(tokens: Tokens, start: int, ctes: set[int]) -> str:
    """The verb of a statement that begins with WITH at `start`."""
    index = start + 1
    while word := tokens.at(index):
        if word == "(":
            if tokens.at(index - 1) == ")":
                return "select"
            index = tokens.closing(index)
        elif word in _MAIN_VERBS and index not in ctes:
            return word
        index += 1
    return ""


def is_name(token: str) -> bool:
    """Whether the token is a word or a quoted identifier."""
    return bool(token) and (token[0] == '"' or token[0] == "_" or token[0].isalpha() or token[0] >= "\x80")


def index_names(tokens: Tokens, start: int) -> set[int]:
    """In CREATE INDEX: where the table's and the access method's names stand."""
    found: set[int] = set()
    index = start
    while tokens.at(index) not in ("on", "(", ""):
        index += 1
    index += 2 if tokens.at(index + 1) == "only" else 1
    while tokens.at(index + 1) == ".":
        index += 2
    found.add(index)
    if tokens.at(index + 1) == "using":
        found.add(index + 2)
    return found


def calls(tokens: Tokens, start: int, named: set[int], verb: str) -> list[Call]:
    """The calls after the word at `start`. `named` are the places of names already known to be no calls."""
    found: list[Call] = []
    words = tokens.tokens
    grouped: set[int] = set()
    for opening in tokens.opens:
        if opening - 1 <= start:
            continue
        word = words[opening - 1]
        if word in _NEVER_CALLED:
            continue
        if not is_name(word):
            if word == PARAMETER:
                found.append(Call("%s", "", opening))
            continue
        first = opening - 1
        while first - 2 > start and words[first - 1] == "." and is_name(words[first - 2]):
            first -= 2
        parts = words[first:opening:2]
        plain = parts[-1][1:] if word[0] == '"' else word
        builtin = ""
        if len(parts) == 1:
            if plain in _KNOWN or (word[0] != '"' and plain in KEYWORD_FUNCTIONS):
                builtin = plain
        elif len(parts) == 2 and parts[0] in ("pg_catalog", '"pg_catalog') and plain in _KNOWN:
            builtin = plain
        if (
            not builtin
            and words[first - 1] != "."
            and (opening - 1 in named or not _may_be_call(tokens, first, opening, verb, grouped))
        ):
            continue
        routine = None if words[first - 1] == "." else as_stored(parts)
        found.append(Call(_shown(parts), builtin, opening, routine))
    return found


def as_stored(parts: list[str]) -> tuple[str, str] | None:
    """Schema and name as the catalogue spells them; None where that cannot be told from these tokens.

    The server folds letters beyond ASCII by its locale and cuts names after 63 bytes; a ``%`` may be doubled for
    the driver; a quoted name with a doubled quote in it has lost its spelling.
    """
    stored = [part[1:] if part[0] == '"' else part for part in parts]
    if len(stored) > 2 or not all(map(_SURE_NAME, stored)):
        return None
    return (stored[0] if len(stored) == 2 else "", stored[-1])


def _shown(parts: list[str]) -> str:
    name = ".".join(f'{part}"' if part[0] == '"' else part for part in parts[-3:])
    return "".join(char if char.isprintable() else "�" for char in name[:130])


def _may_be_call(tokens: Tokens, first: int, opening: int, verb: str, grouped: set[int]) -> bool:
    words = tokens.tokens
    before = words[first - 1]
    if before in _INTRODUCERS:
        return False
    if before == ")":
        return _is_followed_by_expression(tokens, first - 1)
    if before == "]" or before == PARAMETER or before[0] in "'\"0":
        return False
    if not is_name(before):
        return first != opening - 1 or not (_is_grouping(tokens, opening, grouped) or _is_operator(tokens, opening))
    if before not in KEYWORDS:
        return False
    if verb == "ALTER TABLE" and before not in RESERVED and words[first - 2] in ("add", "column", "exists"):
        return False  # a new column whose name is a keyword, and its type
    return first != opening - 1 or not _is_grammar(tokens, opening, verb, grouped)


def _is_followed_by_expression(tokens: Tokens, closing: int) -> bool:
    """Whether the parenthesis that ends at `closing` is one of the few after which an expression begins."""
    opening = tokens.match.get(closing, -1)
    if opening < 0:
        return True
    word, before = tokens.at(opening - 1), tokens.at(opening - 2)
    return word == "operator" or (word == "on" and before == "distinct") or (word == "with" and before == "returning")


def _is_grammar(tokens: Tokens, opening: int, verb: str, grouped: set[int]) -> bool:
    """Whether the unquoted word before `opening`, itself after a keyword, belongs to the grammar here."""
    word, before, earlier = tokens.at(opening - 1), tokens.at(opening - 2), tokens.at(opening - 3)
    if word in ("range", "list", "hash"):
        return before == "by" and earlier == "partition" and verb == "CREATE TABLE"
    if word == "conflict":
        # `JOIN t ON conflict(…)` is a call; without a JOIN the ON can only be INSERT's.
        after = tokens.at(tokens.closing(opening) + 1)
        return before == "on" and "insert" in tokens.words and (after == "do" or "join" not in tokens.words)
    if word == "insert":
        return tokens.at(tokens.closing(opening) + 1) in ("values", "overriding")
    if word in ("cube", "rollup"):
        return _is_grouping(tokens, opening, grouped)
    if word == "operator":
        return _is_operator(tokens, opening)
    if word in ("stdin", "stdout"):
        after = tokens.at(tokens.closing(opening) + 1)
        return verb == "COPY" and not after and before in ("from", "to")
    if word in ("join", "ilike") and before not in RESERVED:
        return before not in _LEADS
    if word == "ilike" and before == "not":
        return earlier not in KEYWORDS and (is_name(earlier) or earlier in (")", "]", PARAMETER))
    if before == "using" and earlier == "exclude":
        return True
    if word == "second" and before == "to":
        return earlier in ("day", "hour", "minute")
    return before in _GRAMMAR.get(word, ())


def _is_operator(tokens: Tokens, opening: int) -> bool:
    """Whether this is ``OPERATOR(schema.+)``: no argument of a call ends with an operator, but for ``*``."""
    last = tokens.at(tokens.closing(opening) - 1)
    return tokens.at(opening - 1) == "operator" and last in _OPERATOR_CHARACTERS


def _is_grouping(tokens: Tokens, opening: int, grouped: set[int]) -> bool:
    """Whether CUBE or ROLLUP stands in the list of GROUP BY; anywhere else it is a call."""
    words = tokens.tokens
    if words[opening - 1] not in ("cube", "rollup"):
        return False
    index = opening - 2
    for _ in range(_GROUPING_REACH):
        word = tokens.at(index)
        if word == ")":
            index = tokens.match.get(index, 0)
        if index in grouped or (word == "by" and tokens.at(index - 1) == "group"):
            grouped.add(opening)
            return True
        if word == "(":
            return tokens.at(index - 1) == "sets"
        if not word or word in _CLAUSES:
            return False
        index -= 1
    return False
