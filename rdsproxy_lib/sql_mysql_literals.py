"""The few values of a MySQL text that count: which locks it takes, and what it prepares. Pure.

Unlike the rules, this reads the text itself and not its shape. What it returns holds values of the application's, and
is for no cache and no log. `backslash` and `ansi_quotes` are as for `shape_of`.
"""

from __future__ import annotations

import re
from functools import cache

from .sql_mysql_builtins import LOCKS

_WORD = r"A-Za-z0-9_$\x80-\U0010ffff"
_ESCAPED = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": r"\%", "_": r"\_"}
_takes_locks = re.compile("|".join(sorted(LOCKS)), re.IGNORECASE).search
_prepares = re.compile("prepare", re.IGNORECASE).search
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w$]*", re.ASCII).fullmatch
_BLANK, _A_WORD, _A_NAME, _A_STRING, _ANY, _DOUBT = range(1, 7)


@cache
def _token(backslash: bool, ansi_quotes: bool) -> re.Pattern[str]:
    """One alternative for each kind of token; in doubt is what never ends, and what servers read in several ways."""
    strings, names = [], ["`[^`]*(?:``[^`]*)*`"]
    for quote in "'\"":
        if quote == '"' and ansi_quotes:
            names.append('"[^"]*(?:""[^"]*)*"')
        elif backslash:
            strings.append(rf"{quote}[^{quote}\\]*(?:(?:{quote}{quote}|\\.)[^{quote}\\]*)*{quote}")
        else:
            strings.append(rf"{quote}[^{quote}]*(?:{quote}{quote}[^{quote}]*)*{quote}")
    blank = r"[ \t\n\r\f\v]+|#[^\n\0]*|--(?=[\x01-\x20]|\Z)[^\n\0]*|/\*(?!!|M!|\+).*?\*/"
    doubt = r"""--(?=[^\x01-\x7e])|/\*|\$|['"`\\\0]"""
    word = rf"(?!\$)[{_WORD}]+"
    return re.compile(rf"({blank})|({word})|({'|'.join(names)})|({'|'.join(strings)})|((?!{doubt}).)|(.)", re.DOTALL)


def _tokens(text: str, backslash: bool, ansi_quotes: bool) -> list[tuple[int, str]]:
    """Kind and text of each token, blanks left out; none at all where there is a doubt."""
    found: list[tuple[int, str]] = []
    for token in _token(backslash, ansi_quotes).finditer(text):
        kind = token.lastindex
        if kind == _DOUBT or (kind == _A_WORD and not token[0].isprintable()):
            return []
        if kind is not None and kind != _BLANK:
            found.append((kind, token[0]))
    return found


def _unquoted(value: str, backslash: bool) -> str:
    quote = value[0]
    if not backslash or quote == "`":
        return value[1:-1].replace(quote * 2, quote)
    return re.sub(
        rf"{quote}{quote}|\\(.)",
        lambda found: quote if found[1] is None else _ESCAPED.get(found[1], found[1]),
        value[1:-1],
        flags=re.DOTALL,
    )


def lock_names(text: str, backslash: bool, ansi_quotes: bool) -> frozenset[str] | None:
    """The names of the locks that a text takes, as written: MariaDB tells `a` from `A`.

    None where one cannot be read: it is no plain string, or another function than GET_LOCK() takes it.
    """
    if not _takes_locks(text):
        return frozenset()
    tokens = _tokens(text, backslash, ansi_quotes)
    if not tokens:
        return None
    tokens = [(_ANY, ""), *tokens, (_ANY, ""), (_ANY, ""), (_ANY, "")]
    names = set()
    for index, (kind, value) in enumerate(tokens):
        if kind not in (_A_WORD, _A_NAME) or tokens[index + 1][1] != "(":
            continue
        word = (value if kind == _A_WORD else _unquoted(value, False)).lower()
        if word not in LOCKS:
            continue
        name = tokens[index + 2]
        if (kind, word) != (_A_WORD, "get_lock") or tokens[index - 1][1] == ".":
            return None
        if name[0] != _A_STRING or tokens[index + 3][1] != ",":
            return None
        names.add(_unquoted(name[1], backslash))
    return frozenset(names)


def prepared_text(text: str, backslash: bool, ansi_quotes: bool) -> tuple[str, str] | None:
    """The name, in lower case, and the statement of a text that is one ``PREPARE name FROM 'statement'``; else None."""
    if not _prepares(text):
        return None
    tokens = _tokens(text, backslash, ansi_quotes)
    while tokens and tokens[-1][1] == ";":
        tokens.pop()
    if len(tokens) != 4 or [tokens[0][1].lower(), tokens[2][1].lower()] != ["prepare", "from"]:
        return None
    kind, name = tokens[1]
    if kind == _A_NAME:
        name = _unquoted(name, False)
        if not name or not {".", "?", "*"}.isdisjoint(name):
            return None
    elif not _PLAIN_NAME(name):
        return None
    if tokens[3][0] != _A_STRING:
        return None
    return name.lower(), _unquoted(tokens[3][1], backslash)
