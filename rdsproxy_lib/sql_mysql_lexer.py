"""The shape of a MySQL text, which is the text without its literals, and the tokens of a shape.

MySQL's driver puts the parameters in before anybody sees the text, so that literals come out first: what is judged,
cached and logged is the shape. In a shape every literal is ``?``, a list of them is one ``?``, plain comments and
optimizer hints are blanks, ``"…"`` is always an identifier. Comments that some servers run, ``/*! … */``, stay.
A NUL marks the place from which on a text can be read in two ways; it makes the statement ``odd``.

A token is a string, and its first character tells its kind:

=========  =====================================================================
word       folded to lower case; it may begin with a digit or ``$``
``"name``  a quoted identifier, without its closing quote, doubled quotes joined
``?``      literals
``@name``  a user variable; the name of a quoted one is ``?``
``@@``     the words after it name a system variable
the rest   one operator or punctuation character, or ``:=``
=========  =====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

DIGEST_LIMIT = 500

LITERAL, QUOTED, VARIABLE, SYSTEM_VARIABLE = "?", '"', "@", "@@"

_WORD = r"A-Za-z0-9_$\x80-\U0010ffff"  # the characters of a word
_BLANK = r"[ \t\n\r\f\v]*"
_LIST_LIMIT = 500
"""Literals matched at once: the pattern's memory grows with them."""
_LONG = 1000
"""Texts from this length on may hold longer lists."""

# Shapes -------------------------------------------------------------------------------------------------------

# As the servers' scanners do: `1e5x` is a number and a word, `1x` and `1e` are words, `1.5x` is a number and a word.
_NUMBER_REST = rf"[0-9]*(?:[eE][-+]?[0-9]+|\.[0-9]*(?:[eE][-+]?[0-9]+)?|(?![{_WORD}.]))"
_BASED = rf"x[0-9a-fA-F]+(?![{_WORD}])|b[01]+(?![{_WORD}])"
_KEYWORD = rf"(?:NULL|DEFAULT|TRUE|FALSE|null|default|true|false)(?![{_WORD}(.])"


def _string(quote: str, backslash: bool) -> str:
    """A string constant; one that never ends takes all that is left, and with it the mark at the end."""
    if backslash:
        return rf"{quote}[^{quote}\\]*(?:\\.[^{quote}\\]*)*(?:{quote}|\\?\Z)"
    return rf"{quote}[^{quote}]*(?:{quote}|\Z)"


def _literals(backslash: bool, ansi_quotes: bool) -> list[str]:
    """One alternative for each character a literal may begin with: only so the search skips what is between.

    Each goes on over commas, and over `), (` between rows, as long as literals follow.
    """
    strings = [_string(quote, backslash) for quote in ("'" if ansi_quotes else "'\"")]
    text = "|".join(strings)
    number = rf"0(?:{_BASED})|(?=[0-9]){_NUMBER_REST}|(?<=\.)[0-9]+"
    prefixed = rf"(?:[nNxXbB]|_[A-Za-z0-9]+{_BLANK}){strings[0]}"
    item = rf"(?:{text}|[-+]?\.?(?:{number})|{_KEYWORD}|{prefixed})"
    comma = rf"(?:,|\){_BLANK},{_BLANK}\()"
    more = rf"(?:{_BLANK}(?:{comma}{_BLANK}{item}|{text})){{0,{_LIST_LIMIT}}}"
    found = [string + more for string in strings]
    for digit in "0123456789":
        based = f"{_BASED}|" if digit == "0" else ""
        # After a point that follows no word, digits are a fraction, whatever follows them: `.5into` is `.5` and INTO.
        found.append(rf"{digit}(?<![{_WORD}].)(?:{based}{_NUMBER_REST}|(?<=[^{_WORD}]\.{digit})[0-9]*){more}")
    return found


@cache
def _fast(backslash: bool, ansi_quotes: bool) -> Callable[[str, str], str]:
    return re.compile("|".join(_literals(backslash, ansi_quotes)), re.DOTALL).sub


@cache
def _careful(backslash: bool, ansi_quotes: bool) -> Callable[[Callable[[re.Match[str]], str], str], str]:
    """The same for a text with comments: everything that may hold a comment's beginning is matched too."""
    others = [r"`[^`]*(?:`|\Z)", r"#[^\n\0]*", r"--(?=[\0-\x20\x7f-\U0010ffff])[^\n\0]*", r"/\*.*?(?:\*/|\Z)"]
    others.append(rf"\$(?<![{_WORD}].)[A-Za-z0-9_\x80-\U0010ffff]*\$.*")
    if ansi_quotes:
        others.append(r'"[^"]*(?:"|\Z)')
    return re.compile("|".join(_literals(backslash, ansi_quotes) + others), re.DOTALL).sub


# Only what reads the same wherever it is run: no quotes, no comments, no end of a statement.
_PLAIN = r"""[^'"`#;$\0/-]*"""
_EXECUTABLE = re.compile(rf"/\*(M?!(?:[0-9]{{5,6}})?)((?![0-9]){_PLAIN}(?:(?:/(?!\*)|-(?!-)){_PLAIN})*)\*/").fullmatch
_FOLDED = re.compile(
    rf"\?(?:{_BLANK}(?:\?|(?:,|\){_BLANK},{_BLANK}\(){_BLANK}"
    rf"(?:[-+]?\.?\?|(?:[nNxXbB]|_[A-Za-z0-9]+{_BLANK})\?|{_KEYWORD})))+"
)
_ROWS = re.compile(rf"(\([^()]*(?:\(\)[^()]*)*\))(?:{_BLANK},{_BLANK}\1)+")


def shape_of(text: str, backslash: bool, ansi_quotes: bool) -> str:
    """`text` without its literals; itself when it has none.

    `backslash`: whether a backslash escapes in strings; `ansi_quotes`: whether ``"`` quotes an identifier. Linear in
    the length, and a few microseconds: this is done for every statement.
    """
    # What is left open takes the line break added here, too.
    if "/*" in text or "--" in text or "#" in text or "$" in text or (ansi_quotes and '"' in text):
        shape = _careful_shape(text + "\n", backslash, ansi_quotes)
    elif "`" in text:
        parts = text.split("`")
        # Each name in backquotes is a single "`" here. If one of these is gone afterwards, it was part of a literal.
        subject = "`".join(parts[::2]) + "\n"
        shape = _fast(backslash, ansi_quotes)("?", subject)
        outside = shape.split("`")
        if len(parts) % 2 and len(outside) * 2 == len(parts) + 1:
            if shape is subject:
                return text
            parts[::2] = outside
            shape = "`".join(parts)
        else:
            shape = _careful_shape(text + "\n", backslash, ansi_quotes)
    else:
        subject = text + "\n"
        shape = _fast(backslash, ansi_quotes)("?", subject)
        if shape is subject:
            return text
    shape = shape[:-1] if shape[-1] == "\n" else shape + "\0"
    if len(text) > _LONG:
        shape = _ROWS.sub(r"\1", _FOLDED.sub("?", shape))
    return shape


def _careful_shape(subject: str, backslash: bool, ansi_quotes: bool) -> str:
    take_out = _fast(backslash, ansi_quotes)

    def instead(found: re.Match[str]) -> str:
        token = found[0]
        first = token[0]
        if first == "`" or (first == '"' and ansi_quotes):
            return token if len(token) > 1 and token[-1] == first else "\0"
        if first == "#":
            return " "
        if first == "-":
            return " " if len(token) < 3 or token[2] < "\x80" else " \0"  # a blank in some character sets
        if first == "$":
            return "\0"  # text in dollar quotes, or a name
        if first != "/":
            return "?"
        if token.startswith(("/*!", "/*M!")):
            executable = _EXECUTABLE(token)
            return f"/*{executable[1]}{take_out('?', executable[2])}*/" if executable else " \0 "
        if token.startswith("/*+") and not {"'", '"', "`"}.isdisjoint(token):
            return " \0 "  # a hint may hold a string that holds */
        return " " if len(token) > 3 and token.endswith("*/") else "\0"

    return _careful(backslash, ansi_quotes)(instead, subject)


# Tokens -------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    rf"""
    (?:
      ( [{_WORD}]+ )
    | ( ` [^`]* (?: `` [^`]* )* ` | " [^"]* (?: "" [^"]* )* " )
    | ( @@ | @ (?: [{_WORD}.]+ | \? | ` [^`]* (?: `` [^`]* )* ` | " [^"]* (?: "" [^"]* )* " )? )
    | ( /\* M? ! [0-9]* )
    | ( \*/ )
    | ( := | [?();,.=+*/%<>!|&^~:{{}}-] )
    | ( . )
    ) [ \t\n\r\f\v]*
    """,
    re.VERBOSE | re.DOTALL,
)
_A_WORD, _A_QUOTED, _A_VARIABLE, _AN_OPENER, _A_CLOSER, _AN_OPERATOR, _ANY = range(1, 8)
_Item = tuple[str, bool, str]
"""A token, whether a blank or a comment follows it, and how it is spelt."""


class Tokens:
    """One statement, with the content of executable comments; `without` is the same without it."""

    __slots__ = ("digest", "match", "odd", "opens", "spaced", "spelt", "tokens", "without", "words")

    def __init__(self, items: list[_Item], digest: str, odd: str) -> None:
        self.tokens = [token for token, _, _ in items]
        self.spaced = [blank for _, blank, _ in items]  # whether a blank or a comment follows
        self.spelt = [spelt for _, _, spelt in items]  # the tokens, words in the case they are written in
        self.opens: list[int] = []  # where a "(" stands
        self.match: dict[int, int] = {}  # from each parenthesis to its partner, both ways
        self.words = frozenset(self.tokens)  # the tokens again, to ask "is there one"
        self.digest = digest
        self.odd = odd  # what makes the tokens unreliable, in words
        self.without: Tokens | None = None
        stack: list[int] = []
        for index, token in enumerate(self.tokens):
            if token == "(":
                stack.append(index)
                self.opens.append(index)
            elif token == ")" and stack:
                opening = stack.pop()
                self.match[opening] = index
                self.match[index] = opening

    def closing(self, opening: int) -> int:
        """Index of the partner of the parenthesis at `opening`; past the end when it has none."""
        return self.match.get(opening, len(self.tokens))

    def at(self, index: int) -> str:
        """The token there, ``""`` outside."""
        return self.tokens[index] if 0 <= index < len(self.tokens) else ""


_ROUTINES = frozenset(("procedure", "function", "trigger", "event"))
_BODY_WORDS = _ROUTINES | {"begin", "case", "end"}
_NO_ROUTINES = frozenset(("table", "view", "index", "database", "schema", "user", "role", "server", "sequence"))
_BEFORE_BLOCK = frozenset((";", ":", "then", "else", "do", "loop", "repeat", "begin", "found", "sqlexception", "row"))
_NO_HEADER = frozenset((".", ",", "(", "=", "select", "from", "by", "where", "and", "or", "on", "set", "join", "as"))
_LOOP_END = re.compile(rf"(?:if|loop|while|repeat|for)(?![{_WORD}])", re.IGNORECASE).match


class _Body:
    """How deep in the body of a routine a text is: there a ``;`` ends no statement.

    A begin or an end that may be something else makes it odd: nothing is to hide behind a miscounted body.
    """

    __slots__ = ("is_routine", "odd", "open")

    def __init__(self) -> None:
        self.is_routine: bool | None = None
        self.open: list[str] = []
        self.odd = False

    def see(self, items: list[_Item], word: str, ends_loop: bool) -> None:
        """`word` comes after `items`; `ends_loop`: IF, LOOP or the like comes after it."""
        before = items[-1][0]
        if self.is_routine is None and word in _ROUTINES:
            head = [token for token, _, _ in items]
            self.is_routine = head[0] in ("create", "alter") and len(head) < 16 and _NO_ROUTINES.isdisjoint(head)
        elif not self.is_routine:
            pass
        elif word == "begin":
            self.odd |= before not in _BEFORE_BLOCK if self.open else before in _NO_HEADER
            self.open.append(word)
        elif word == "case" and self.open and before != "end":
            self.open.append(word)
        elif word == "end" and self.open and not ends_loop:
            self.odd |= self.open.pop() == "begin" and before not in (";", "begin")


def _digest(text: str) -> str:
    folded = " ".join(text[: 4 * DIGEST_LIMIT].split())[:DIGEST_LIMIT].rstrip()
    return folded if folded.isprintable() else "".join(char if char.isprintable() else "�" for char in folded)


def statements(shape: str) -> list[Tokens]:
    """The statements of a shape; those that are empty are left out. Never raises; linear in the length."""
    found: list[Tokens] = []
    items: list[_Item] = []
    skipped: list[_Item] | None = None  # the reading without executable comments, once there is one
    inside = ""  # the executable comment we are in
    version = ""
    odd = ""
    body = _Body()
    start = 0

    def finish(end: int) -> None:
        nonlocal items, skipped, version, odd, body
        if body.open or body.odd:
            odd = odd or "a routine's body whose end is not clear"
        if items or skipped or odd:
            tokens = Tokens(items, _digest(shape[start:end]), odd)
            if skipped is not None:
                tokens.without = Tokens(skipped, tokens.digest, odd)
            found.append(tokens)
        items, skipped, version, odd, body = [], None, "", "", _Body()

    for token in _TOKEN.finditer(shape):
        kind = token.lastindex
        value = spelt = token[kind]  # type: ignore[index]
        blank = token.end(kind) != token.end()  # type: ignore[arg-type]
        if kind == _A_WORD:
            if not value.isprintable():
                odd = odd or "a character that may be a blank"
            value = value.lower() if value.isascii() else value.translate(_LOWER)
            if value in _BODY_WORDS and items:
                body.see(items, value, _LOOP_END(shape, token.end()) is not None)
        elif kind == _A_QUOTED:
            value = spelt = _unquoted(value)
        elif kind == _A_VARIABLE:
            if value not in (VARIABLE, SYSTEM_VARIABLE) and value[1] in '`"':
                value = VARIABLE + _unquoted(value[1:])[1:]
        elif kind == _AN_OPENER:
            if inside or (version and version != value):
                odd = odd or "executable comments of several versions"
            inside = version = value
            # A comment parts a name from its parenthesis even where it is run.
            items[-1:] = [(last, True, written) for last, _, written in items[-1:]]
            if skipped is None:
                skipped = items.copy()
            continue
        elif kind == _A_CLOSER and inside:
            inside = ""
            items[-1:] = [(last, True, written) for last, _, written in items[-1:]]
            continue
        elif kind == _A_CLOSER:
            items.append(("*", False, "*"))
            value = spelt = "/"
            if skipped is not None:
                skipped.append(items[-1])
        elif kind == _ANY:
            if value not in _SPACES:
                odd = odd or ("a text that can be read in two ways" if value == "\0" else "an unexpected character")
            continue
        elif value == ";" and not body.open:
            finish(token.start())
            start = token.end()
            continue
        items.append((value, blank, spelt))
        if skipped is not None and not inside:
            skipped.append(items[-1])
    if inside:
        odd = odd or "an executable comment without end"
    finish(len(shape))
    return found


_SPACES = frozenset(" \t\n\r\f\v")
_LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def _unquoted(value: str) -> str:
    return QUOTED + value[1:-1].replace(value[0] * 2, value[0])
