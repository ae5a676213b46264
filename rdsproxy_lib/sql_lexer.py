"""The tokens of a text, statement by statement, as PostgreSQL's own scanner (``scan.l``) would cut them.

The text is a template: parameters have not been put in. A reader of such a text cannot know which cursor
class it is for, so ``%s`` may be a placeholder or, for a raw cursor, the operator ``%`` and a column ``s``.
Where the two readings would cut the text differently, the statement is marked ``odd`` and its tokens are
not to be believed.

A token is a string, and its first character tells its kind:

=========  =====================================================================
word       folded to lower case as the server does: ASCII letters only
``"name``  a quoted identifier, without its closing quote, doubled quotes joined
``'…``     a string constant of any kind; a plain one as it was written, that in dollars of a DO behind a ``'``
``0``      a number
``%s``     a parameter, however it was written
the rest   one operator or punctuation character, ``::`` or ``%%``
=========  =====================================================================
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cache

from .sql_builtins import names

DIGEST_LIMIT = 500

STRING, NUMBER, PARAMETER = "'", "0", "%s"

_START = r"A-Za-z_\x80-\U0010ffff"
_SPACE = r"[ \t\n\r\f\v]*"

# Letters never belong to a number: old servers read `1FROM` as two tokens, new ones refuse it.
_TOKEN = r"""
(?:
  ( (?!{prefixed}) [{start}][{start}0-9$]* )
| ( [,=*+<>\[\]] | \.(?![0-9]) | :: )
| ( [();] )
| ( \$[0-9]+ | %[sbt](?![{start}0-9$]) | %\((?:[\w.:\ ]|-(?!-))+\)[sbt] )
| ( {simple}[^']*(?:'|\Z) )
| ( 0(?:[xX][0-9a-fA-F_]+|[oO][0-7_]+|[bB][01_]+)
  | (?:[0-9][0-9_]*(?:\.[0-9][0-9_]*|\.)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)? )
| ( (?:[uU]&)?"[^"]*(?:"|\Z) )
| ( --[^\n\r]* )
| ( /\* | {escaped} | \$(?:[{start}][{start}0-9]*)?\$ )
| ( %[sbt] | %(?=\((?:[^)]{{0,64}}\)[sbt]|[^)]{{64}})) )
| ( %% | . )
){space}
"""
# The groups above. An opener is a token whose end no pattern can find.
_WORD, _OPERATOR, _PUNCTUATION, _PARAMETER, _STRING, _NUMBER, _QUOTED, _COMMENT, _OPENER, _AMBIGUOUS = range(1, 11)
_READ_FOR_DIGEST = 4 * DIGEST_LIMIT  # white space folds, so that more is read than is shown


@cache
def _token_pattern(backslash: bool) -> re.Pattern[str]:
    """Compiled when first needed: it takes as long as the rest of the import."""
    simple, escaped = (r"(?:[bBxX]|[uU]&)'", r"[eEnN]?'") if backslash else (r"(?:[bBxXnN]|[uU]&)?'", r"[eE]'")
    prefixed = r"""[eEbBxXnN]'|[uU]&['"]"""
    source = _TOKEN.format(start=_START, space=_SPACE, prefixed=prefixed, simple=simple, escaped=escaped)
    return re.compile(source, re.VERBOSE | re.DOTALL)


_FOLDED = str.maketrans({letter: letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})

_LEADING = re.compile(_SPACE)
_BETWEEN = re.compile(r"[ \t\n\r\f\v;]*")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPE_OR_QUOTE = re.compile(r"\\.|''|'", re.DOTALL)
_GAP = re.compile(r"[ \t\n\r\f\v]+|--[^\n\r]*")
# As psycopg reads a template: it knows of no constants and no comments.
_PLACEHOLDER = re.compile(r"%(?:\([^)]+\).|.)")
_POSITIONAL = frozenset({"%s", "%b", "%t"})
_NUMBERED = re.compile(r"\$([1-9][0-9]{0,4})(?![0-9])")


class Tokens:
    """One statement: its tokens, its parentheses, its text with the literals taken out."""

    __slots__ = ("backslash", "digest", "match", "odd", "opens", "places", "starts", "text", "tokens", "words")

    def __init__(self, text: str = "", starts: list[int] | None = None, *, backslash: bool = True) -> None:
        self.text = text
        self.backslash = backslash  # whether standard_conforming_strings may be off
        self.places: dict[int, int] = {}  # from each parameter to where it stands in the text
        self.starts = [-1] if starts is None else starts  # of the text's %s, behind a first -1; empty: not read yet
        self.tokens: list[str] = []
        self.opens: list[int] = []  # where a "(" stands
        self.match: dict[int, int] = {}  # from each parenthesis to its partner, both ways
        self.words: frozenset[str] = frozenset()  # the tokens again, to ask "is there one"
        self.digest = ""
        self.odd = ""  # what makes the tokens unreliable, in words

    def closing(self, opening: int) -> int:
        """Index of the partner of the parenthesis at `opening`; past the end when it has none."""
        return self.match.get(opening, len(self.tokens))

    def at(self, index: int) -> str:
        """The token there, ``""`` outside."""
        return self.tokens[index] if 0 <= index < len(self.tokens) else ""

    def parameter(self, index: int) -> int | str | None:
        """Which parameter of ``execute()`` stands there: its place from 0, or its key; None for what is none."""
        start = self.places.get(index)
        if start is None:
            return None
        if self.text.startswith("$", start):
            number = _NUMBERED.match(self.text, start)
            return int(number[1]) - 1 if number else None
        if self.text.startswith("%(", start):
            return self.text[start + 2 : self.text.index(")", start)]
        if not self.starts:
            self.starts.append(-1)
            self.starts += [each.start() for each in _PLACEHOLDER.finditer(self.text) if each[0] in _POSITIONAL]
        return bisect_left(self.starts, start) - 1


def fold(word: str) -> str:
    """In lower case as the server does it: ASCII letters only."""
    return word.lower() if word.isascii() else word.translate(_FOLDED)


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    return len(text)


def _escaped_end(text: str, start: int) -> int:
    """End of a string with backslash escapes and its body at `start`; it goes on after a line break."""
    while True:
        for found in _ESCAPE_OR_QUOTE.finditer(text, start):
            if found[0] == "'":
                end = found.end()
                break
        else:
            return len(text)
        position, broken = end, False
        while gap := _GAP.match(text, position):
            broken = broken or "\n" in gap[0] or "\r" in gap[0]
            position = gap.end()
        if not broken or not text.startswith("'", position):
            return end
        start = position + 1


def _end_of(text: str, opener: str, start: int) -> int:
    """Where the token that `opener` begins ends; the length of the text when it never does."""
    body = start + len(opener)
    if opener == "/*":
        return _comment_end(text, start)
    if opener.endswith("'"):
        return _escaped_end(text, body)
    end = text.find(opener, body)
    return len(text) if end < 0 else end + len(opener)


# In `BEGIN ATOMIC … END` a CASE opens something that END closes, but both words may also be labels. Counting
# a label as an opening would swallow the statements behind it: only after these a CASE is counted.
_BEFORE_CASE = names(
    "( , [ = < > + - / % | & ^ ~ ! @ # select when then else and or not where on having by return like ilike "
    "between from limit offset case distinct all returning values using"
)
_BODY_WORDS = names("atomic case end")


def _opens_body(tokens: list[str]) -> bool:
    """Whether ``atomic`` after `tokens` begins the body of an SQL function, whose ``;`` end nothing."""
    return tokens[-1:] == ["begin"] and _creates(tokens, "function", "procedure")


def _creates(tokens: list[str], *kinds: str) -> bool:
    if tokens[:1] != ["create"]:
        return False
    kind = tokens[3:4] if tokens[1:3] == ["or", "replace"] else tokens[1:2]
    return bool(kind) and kind[0] in kinds


def _digest(pieces: list[str]) -> str:
    text = " ".join("".join(pieces).split())[:DIGEST_LIMIT].rstrip()
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)


def statements(text: str, *, backslash: bool = False) -> list[Tokens]:
    """The statements of `text`; those that are empty or only comments are left out.

    `backslash` is for servers with ``standard_conforming_strings`` off. Never raises; time is linear in the
    length.
    """
    found: list[Tokens] = []
    scan = _token_pattern(backslash).finditer
    skip = _LEADING.match
    length = len(text)
    # The driver's C interface ends a text at the first NUL: what follows may undo what it seems to do.
    odd = "a NUL character" if "\0" in text else ""
    starts: list[int] = []
    position = 0
    while (position := _BETWEEN.match(text, position).end()) < length:  # type: ignore[union-attr]
        current = Tokens(text, starts, backslash=backslash)
        current.odd = odd
        position = _statement(text, position, current, scan, skip)
        if current.tokens:
            current.words = frozenset(current.tokens)
            found.append(current)
    return found


def _statement(
    text: str,
    position: int,
    current: Tokens,
    scan: Callable[[str, int], Iterator[re.Match[str]]],
    skip: Callable[[str, int], re.Match[str] | None],
) -> int:
    """Fill `current` with the statement that begins at `position`. Where the next one begins is returned.

    A ``;`` inside parentheses ends a statement too, except in CREATE RULE: the server takes it nowhere else, so
    that splitting there can only show too much, and a parenthesis we misjudge hides nothing.
    """
    tokens, opens, match = current.tokens, current.opens, current.match
    append = tokens.append
    stack: list[int] = []
    body = 0  # how many END are to come before the body of an SQL function is over
    literal_end = -1
    pieces: list[str] = []
    shown, room = position, _READ_FOR_DIGEST  # up to where, and how much more, the text went into the digest
    length = len(text)

    def show(start: int, end: int, instead: str) -> None:
        nonlocal shown, room
        if room > 0:
            piece = text[shown : min(start, shown + room)]
            pieces.append(piece + instead)
            room -= len(piece) + 1
        shown = end

    while position < length:
        for token in scan(text, position):
            kind = token.lastindex
            value: str = token[kind]  # type: ignore[index]
            if kind == _WORD:
                word = value.lower() if value.isascii() else value.translate(_FOLDED)  # `fold`, without the call
                if word in _BODY_WORDS:
                    if body:
                        if tokens[-1] not in ("as", "."):
                            body += 1 if word == "case" and tokens[-1] in _BEFORE_CASE else -(word == "end")
                    elif word == "atomic" and _opens_body(tokens):
                        body = 1
                append(word)
            elif kind == _OPERATOR:
                append(value)
            elif kind == _PUNCTUATION:
                if value == "(":
                    stack.append(len(tokens))
                    opens.append(len(tokens))
                elif value == ")":
                    if stack:
                        opening = stack.pop()
                        match[opening] = len(tokens)
                        match[len(tokens)] = opening
                elif not body and not (stack and _creates(tokens, "rule")):
                    show(token.start(), 0, "")
                    current.digest = _digest(pieces)
                    return token.end()
                append(value)
            elif kind == _PARAMETER:
                current.places[len(tokens)] = token.start()
                append(PARAMETER)
            elif kind == _STRING:
                start, end = token.span(kind)
                if start == literal_end and tokens[-1][0] == "'":
                    tokens[-1] = "''"  # 'it''s' is one constant, and nobody asks for its value
                    show(start, end, "")
                else:
                    append(value if value[0] == "'" else STRING)
                    show(start, end, "?")
                literal_end = end
            elif kind == _NUMBER:
                append(NUMBER)
                show(*token.span(kind), "?")
            elif kind == _QUOTED:
                start, end = token.span(kind)
                if start == literal_end and tokens[-1][0] == '"':
                    tokens[-1] = '""'  # a doubled quote: one name, and none of those we know
                elif value[0] == '"':
                    append(value[:-1] if len(value) > 1 and value[-1] == '"' else value)
                else:
                    append('"')
                    current.odd = 'U&"…" identifier'
                literal_end = end
            elif kind == _COMMENT:
                show(*token.span(kind), " ")
            elif kind == _OPENER:
                start = token.start()
                end = _end_of(text, value, start)
                if value == "/*":
                    show(start, end, " ")
                else:
                    # The body of a code block is judged; it goes no further than these tokens.
                    append(STRING + text[start:end] if value[0] == "$" and tokens[:1] == ["do"] else STRING)
                    show(start, end, "?")
                    literal_end = end
                position = skip(text, end).end()  # type: ignore[union-attr]
                break
            else:
                append(value)
                if kind == _AMBIGUOUS:
                    current.odd = "a % that may or may not be a placeholder"
        else:
            break
    show(length, length, "")
    current.digest = _digest(pieces)
    return length
