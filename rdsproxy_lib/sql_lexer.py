"""The tokens of a text, statement by statement, as PostgreSQL's own scanner (``scan.l``) would cut them.

The text is a template: parameters have not been put in. A reader of such a text cannot know which cursor
class it is for, so ``%s`` may be a placeholder or, for a raw cursor, the operator ``%`` and a column ``s``.
Where the two readings would cut the text differently, the statement is marked ``odd`` and its tokens are
not to be believed.

A token is a string, and its first character tells its kind:

=========  =====================================================================
word       folded to lower case as the server does: ASCII letters only
``"name``  a quoted identifier, without its closing quote, doubled quotes joined
``'…``     a string constant of any kind; a plain one as it was written
``0``      a number
``%s``     a parameter, however it was written
the rest   one operator or punctuation character, ``::`` or ``%%``
=========  =====================================================================
"""

from __future__ import annotations

import re

from .sql_builtins import names

DIGEST_LIMIT = 500

STRING, NUMBER, PARAMETER = "'", "0", "%s"

_START = r"A-Za-z_\x80-\U0010ffff"
_SPACE = r"[ \t\n\r\f\v]*"

# 1 word, 2 one-character operator, 3 parameter, 4 string, 5 quoted identifier, 6 number, 7 line comment,
# 8 opener whose end a pattern cannot find, 9 two readings, 10 operator.
# Letters never belong to a number: old servers read `1FROM` as two tokens, new ones refuse it.
_TOKEN = r"""
(?:
  ( (?!{prefixed}) [{start}][{start}0-9$]* )
| ( [,().;\[\]=*+<>] )
| ( \$[0-9]+ | %[sbt](?![{start}0-9$]) | %\((?:[\w.:\ ]|-(?!-))+\)[sbt] )
| ( {simple}[^']*(?:'|\Z) )
| ( (?:[uU]&)?"[^"]*(?:"|\Z) )
| ( (?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
| ( --[^\n\r]* )
| ( /\* | {escaped} | \$(?:[{start}][{start}0-9]*)?\$ )
| ( %[sbt] | %(?=\((?:[^)]{{0,64}}\)[sbt]|[^)]{{64}})) )
| ( :: | %% | . )
){space}
"""


def _compiled(prefixed: str, simple: str, escaped: str) -> re.Pattern[str]:
    source = _TOKEN.format(start=_START, space=_SPACE, prefixed=prefixed, simple=simple, escaped=escaped)
    return re.compile(source, re.VERBOSE | re.DOTALL)


_PREFIXED = r"""[eEbBxXnN]'|[uU]&['"]"""
_STANDARD = _compiled(_PREFIXED, r"(?:[bBxXnN]|[uU]&)?'", r"[eE]'")
_BACKSLASH = _compiled(_PREFIXED, r"(?:[bBxX]|[uU]&)'", r"[eEnN]?'")

_LEADING = re.compile(_SPACE)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPE_OR_QUOTE = re.compile(r"\\.|''|'", re.DOTALL)
_GAP = re.compile(r"[ \t\n\r\f\v]+|--[^\n\r]*")


class Tokens:
    """One statement: its tokens, its parentheses, its text with the literals taken out."""

    __slots__ = ("digest", "match", "odd", "opens", "tokens", "words")

    def __init__(self) -> None:
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


class _Splitter:
    """Says whether a ``;`` ends the statement: not within parentheses of CREATE RULE, nor in BEGIN ATOMIC.

    Elsewhere the server takes no ``;`` inside parentheses: splitting there can only show too much.
    """

    __slots__ = ("body", "head")

    def __init__(self) -> None:
        self.head: list[str] = []
        self.body = 0

    def word(self, word: str, tokens: list[str]) -> None:
        before = tokens[-1] if tokens else ""
        if not self.body:
            if word == "atomic" and before == "begin" and self._creates("function", "procedure"):
                self.body = 1
        elif before not in ("as", "."):
            if word == "end":
                self.body -= 1
            elif word == "case" and before in _BEFORE_CASE:
                self.body += 1

    def _creates(self, *kinds: str) -> bool:
        head = [word for word in self.head if word not in ("or", "replace")]
        return len(head) > 1 and head[0] == "create" and head[1] in kinds

    def ends(self, depth: int) -> bool:
        return not self.body and not (depth and self._creates("rule"))


def statements(text: str, *, backslash: bool = False) -> list[Tokens]:
    """The statements of `text`; those that are empty or only comments are left out.

    `backslash` is for servers with ``standard_conforming_strings`` off.
    Never raises; time is linear in the length.
    """
    found: list[Tokens] = []
    pattern = _BACKSLASH if backslash else _STANDARD
    position, length = _LEADING.match(text).end(), len(text)  # type: ignore[union-attr]
    current, splitter, gap = Tokens(), _Splitter(), False
    tokens, stack = current.tokens, list[int]()
    pieces: list[str] = []
    room = DIGEST_LIMIT
    # The driver's C interface ends a text at the first NUL: what follows may undo what it seems to do.
    cut_short = "a NUL character" if "\0" in text else ""

    def finish() -> None:
        nonlocal current, splitter, gap, tokens, stack, pieces, room
        if tokens:
            digest = "".join(pieces)[:DIGEST_LIMIT]
            if not digest.isprintable():
                digest = "".join(char if char.isprintable() else "�" for char in digest)
            current.digest = digest
            current.words = frozenset(tokens)
            if cut_short:
                current.odd = cut_short
            found.append(current)
        current, splitter, gap = Tokens(), _Splitter(), False
        tokens, stack, pieces, room = current.tokens, [], [], DIGEST_LIMIT

    while position < length:
        for match in pattern.finditer(text, position):
            kind = match.lastindex
            value: str = match[kind]  # type: ignore[index]
            shown = value
            if kind == 1:
                word = value.lower() if value.isascii() else value
                if len(tokens) < 4:
                    splitter.head.append(word)
                if word in ("atomic", "case", "end"):
                    splitter.word(word, tokens)
                token = word
            elif kind == 2:
                token = value
                if value == "(":
                    stack.append(len(tokens))
                    current.opens.append(len(tokens))
                elif value == ")":
                    if stack:
                        opening = stack.pop()
                        current.match[opening] = len(tokens)
                        current.match[len(tokens)] = opening
                elif value == ";" and splitter.ends(len(stack)):
                    finish()
                    continue
            elif kind == 3:
                token = PARAMETER
            elif kind == 4 or kind == 6:
                token, shown = (value, "?") if kind == 4 else (NUMBER, "?")
                if kind == 4 and not gap and tokens and tokens[-1][0] == "'":
                    tokens[-1] = "''"  # 'it''s' is one constant, and nobody asks for its value
                    gap = match.end() != match.end(kind)
                    continue
            elif kind == 5:
                inner = value[value.index('"') + 1 :]
                inner = inner[:-1] if inner.endswith('"') else inner
                if value[0] != '"':
                    current.odd = 'U&"…" identifier'
                if not gap and tokens and tokens[-1][0] == '"' and value[0] == '"':
                    tokens[-1] = '""'  # a doubled quote: one name, and none of those we know
                    token = ""
                else:
                    token = '"' + inner
            elif kind == 7:
                gap = True
                continue
            elif kind == 8:
                end = _end_of(text, value, match.start())
                position = _LEADING.match(text, end).end()  # type: ignore[union-attr]
                if value == "/*":
                    gap = True
                else:
                    if room > 0:
                        piece = " ?" if gap and pieces else "?"
                        pieces.append(piece)
                        room -= len(piece)
                    tokens.append(STRING)
                    gap = position != end
                break
            else:
                token = value
                if kind == 9:
                    current.odd = "a % that may or may not be a placeholder"
            if token:
                tokens.append(token)
            if room > 0:
                piece = " " + shown if gap and pieces else shown
                pieces.append(piece)
                room -= len(piece)
            gap = match.end() != match.end(kind)  # type: ignore[arg-type]
        else:
            break
    finish()
    return found
