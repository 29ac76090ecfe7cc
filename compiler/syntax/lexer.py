"""The tokens of a text, before any rule of the grammar: limits, brackets, and where each declaration starts and ends.

A declaration starts at one of six reserved words, which stand nowhere else; so a fault in one declaration hides none in
another, and each is parsed alone.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ..diagnostics import AttnError, Diagnostic, Edit, Label, Source, Span, limits, line_ends, shortened
from .grammar import Token, vocabulary

_CLOSERS = {")": "(", "]": "[", "}": "{"}
_BRACKETS = frozenset("()[]{}")
# Signs that papers and keyboards have for signs and words of the language.
_WRITTEN = {
    "≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">=", "≠": "!=", "−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "∗": "*",
    "÷": "//", "…": "..", "∈": "in", "∉": "not in", "∧": "and", "∨": "or", "¬": "not", "∩": "and", "∪": "or",
}  # fmt: skip
# What is no token: signs that have their own help, and others as long as they are of a kind.
_STRANGER = rf"[{''.join(_WRITTEN)}]|[^\x00-\x7f{''.join(_WRITTEN)}]+|\"+|&+|\|+|[\s\S]"
# Reserved words that may end a declaration, by their terminals; after the others something has to follow.
_MAY_END = frozenset({"TRUTH", "POSITION", "N", "HEAD", "HEADS", "LAYER", "LAYERS"})
_INSTEAD = {
    "&": "write `and`", "|": "write `or`; a distance is `abs(q - k)`", "!": "write `not`, or `!=`", "~": "write `not`",
    "^": "write `**` for a power",
    ";": "nothing stands between declarations, a line's end carries no meaning", "'": "a picture stands in `\"\"\"`",
    '"': 'a picture stands between `"""` and `"""`', "@": "a comment starts with `#`", "?": "write `a if c else b`",
}  # fmt: skip
_QUOTES = frozenset("“”„‘’«»")
_PYTHON_INSTEAD = {
    "True": "write `true`", "False": "write `false`", "elif": "write `else …`: a choice is `a if c else b if d else e`",
    "def": "a pattern is declared by `pattern NAME(…) = …`", "return": "a pattern is one expression, after `=`",
}  # fmt: skip


@dataclass(frozen=True)
class DeclarationTokens:
    """The tokens of one declaration. ``whole`` is false where a fault was found already and parsing would repeat it."""

    tokens: tuple[Token, ...]
    documentation: str
    whole: bool


Report = Callable[[Diagnostic], None]


@lru_cache(maxsize=1)
def python_words() -> frozenset[str]:
    """Python's keywords, as far as they are not reserved by the language itself."""
    return frozenset(keyword.kwlist) - vocabulary().reserved


@lru_cache(maxsize=1)
def _pieces() -> re.Pattern[str]:
    """Matches any piece of a text, which the last group names: a terminal, SIGN, or STRANGER."""
    return re.compile(f"{vocabulary().pattern}|(?P<STRANGER>{_STRANGER})")


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """The tokens of a text from a place on, without white space and comments; what is none has the type STRANGER."""
    types = vocabulary().types
    for found in _pieces().finditer(text, start):
        kind = found.lastgroup
        assert kind is not None
        if kind not in ("BLANK", "COMMENT"):
            yield _token(types, kind, found)


def _token(types: Mapping[str, str], kind: str, found: re.Match[str]) -> Token:
    text = found.group() if kind != "NOT_IN" else "not in"
    return Token(types.get(text, kind), text, found.start(), end_pos=found.end())


def comments(text: str) -> Iterator[tuple[int, int]]:
    """Where the comments of a text start and end."""
    return (found.span() for found in _pieces().finditer(text) if found.lastgroup == "COMMENT")


def decode(data: bytes, name: str) -> str:
    """The text of a file's bytes; a byte order mark is dropped. AttnError for what is no UTF-8 or too long."""
    if len(data) > limits.BYTES:
        raise AttnError([_too_long(name)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        readable = data[: error.start].decode("utf-8-sig", errors="replace")
        source = Source(name, readable + "\N{REPLACEMENT CHARACTER}")
        label = Label(Span(source, len(readable), len(readable) + 1), f"byte 0x{data[error.start]:02x}")
        message = "the text is not UTF-8"
        raise AttnError([Diagnostic("not-utf8", message, label, helps=("save the file as UTF-8",))]) from None


def _too_long(name: str) -> Diagnostic:
    return Diagnostic("too-long", f"{name} is longer than {limits.BYTES:,} bytes, the most that a text may have")


def segments(source: Source, report: Report) -> tuple[DeclarationTokens, ...]:
    """Split a text into its declarations, reporting every fault of its tokens. AttnError past a limit."""
    text = source.text
    if len(text) > limits.BYTES or len(text.encode("utf-8", "surrogatepass")) > limits.BYTES:
        raise AttnError([_too_long(source.name)])
    scanner = _Scanner(source, report)
    scanner.scan()
    return tuple(scanner.segments)


class _Scanner:
    def __init__(self, source: Source, report: Report) -> None:
        self.source, self.report = source, report
        self.starters = vocabulary().starters
        self.segments: list[DeclarationTokens] = []
        self.tokens: list[Token] = []
        self.open: list[Token] = []
        self.strangers = 0
        self.taken: set[str] = set()  # Python's words in this declaration: a name is chosen once, however often used
        self.whole = True
        self.comments: list[tuple[int, int]] = []  # comments that had a line of their own, since the last token
        self.documentation = ""

    def fault(
        self, slug: str, message: str, start: int, end: int, label: str = "", helps: tuple[str, ...] = (),
        edits: tuple[Edit, ...] = (),
    ) -> None:  # fmt: skip
        self.whole = False
        self.report(Diagnostic(slug, message, Label(Span(self.source, start, end), label), helps=helps, edits=edits))

    def stop(self, slug: str, message: str, token: Token) -> AttnError:
        label = Label(Span(self.source, token.start_pos, token.end_pos), "here")
        return AttnError([Diagnostic(slug, message, label)])

    def scan(self) -> None:
        text, types = self.source.text, vocabulary().types
        count = end = 0
        for found in _pieces().finditer(text):
            kind = found.lastgroup
            if kind == "BLANK":
                continue
            before, end = end, found.end()
            if kind == "COMMENT":
                start = found.start()
                if not before or "\n" in text[before:start] or "\r" in text[before:start]:  # a line of its own
                    self.comments.append((start, end))
                continue
            assert kind is not None
            count += 1
            token = _token(types, kind, found)
            if count > limits.TOKENS:
                message = f"the text has more than {limits.TOKENS:,} words and signs, the most that a text may have"
                raise self.stop("too-many-tokens", message, token)
            self.read(token)
            self.comments.clear()
            if token.type == "STRANGER" and token.value.startswith('"""'):
                break  # what follows would all be inside the picture
        self.finish()

    def read(self, token: Token) -> None:
        """Take the next token into its declaration."""
        if token.value in self.starters:
            if self.is_meant_as_name(token):
                self.reserved(token)
            else:
                self.finish()
                self.documentation = self.documented(token.start_pos)
        if token.type == "STRANGER":
            self.stranger(token)
            return
        if token.is_word:
            self.name(token)
        elif token.is_number:
            self.number(token)
        elif token.value in _BRACKETS:
            self.bracket(token)
        self.tokens.append(token)

    def documented(self, start: int) -> str:
        """The comment lines directly above a declaration, without their `#`."""
        text, lines, below = self.source.text, [], start
        for first, last in reversed(self.comments):
            if line_ends(text, last, below) != 1:
                break
            line = text[first + 1 : last].rstrip()
            lines.append(line[1:] if line.startswith(" ") else line)
            below = first
        return "\n".join(reversed(lines))

    def is_meant_as_name(self, token: Token) -> bool:
        """Whether a word that starts declarations stands where only a name can: no name of its own follows, and what
        stands before it is not yet whole.
        """
        if not self.tokens:
            return False
        follows = next(tokens(self.source.text, token.end_pos), None)
        if follows is not None and follows.is_word and follows.value not in vocabulary().reserved:
            return False
        before = self.tokens[-1]
        if len(self.tokens) == 1:
            return before.value in self.starters
        return _waits(before)

    def reserved(self, token: Token) -> None:
        if token.value not in self.taken:
            self.taken.add(token.value)
            message = f"`{token.value}` is a reserved word and cannot be a name"
            self.fault("reserved-word", message, token.start_pos, token.end_pos, "choose another name")

    def name(self, token: Token) -> None:
        if len(token.value) > limits.NAME:
            message = f"a name of {len(token.value)} characters; the most that one may have is {limits.NAME}"
            self.fault("name-too-long", message, token.start_pos, token.end_pos)
        elif token.value in python_words() and token.value not in self.taken:
            self.taken.add(token.value)
            helps = (_PYTHON_INSTEAD[token.value],) if token.value in _PYTHON_INSTEAD else ()
            message = f"`{token.value}` is a word of Python and cannot be a name"
            label = "" if helps else "choose another name"
            self.fault("reserved-word", message, token.start_pos, token.end_pos, label, helps)
        before = self.tokens[-1] if self.tokens else None
        if before is not None and before.is_number and before.end_pos == token.start_pos:
            glued, _, _ = token.value.partition(" ")
            message = f"`{shortened(before.value + glued)}` is neither a number nor a name"
            helps = ("a number is written in decimal digits: `16`, `0.5`, `1e-5`",)
            self.fault("malformed-number", message, before.start_pos, token.start_pos + len(glued), helps=helps)

    def number(self, token: Token) -> None:
        if token.type == "INT":
            if len(token.value) > limits.DIGITS:
                message = f"an integer of {len(token.value):,} digits; the most that one may have is {limits.DIGITS}"
                self.fault("number-too-large", message, token.start_pos, token.end_pos)
        elif float(token.value) == float("inf"):
            self.fault("number-too-large", "a number beyond the largest float, 1.8e308", token.start_pos, token.end_pos)

    def bracket(self, token: Token) -> None:
        if token.value in "([{":
            self.open.append(token)
            if len(self.open) > limits.NESTING:
                message = f"brackets are nested deeper than {limits.NESTING}, the most that a text may have"
                raise self.stop("too-deep", message, token)
        elif token.value in _CLOSERS:
            opener = self.open.pop() if self.open else None
            if opener is None:
                self.fault("bracket", f"`{token.value}` closes nothing", token.start_pos, token.end_pos)
            elif opener.value != _CLOSERS[token.value]:
                self.whole = False
                label = Label(Span(self.source, token.start_pos, token.end_pos))
                related = (Label(Span(self.source, opener.start_pos, opener.end_pos), "opened here"),)
                message = f"`{opener.value}` is closed by `{token.value}`"
                self.report(Diagnostic("bracket", message, label, related))

    def stranger(self, token: Token) -> None:
        character = token.value[0]
        if token.value.startswith('"""'):
            self.fault("bracket", '`"""` is never closed', token.start_pos, token.start_pos + 3)
            self.open.clear()  # whatever closes them would be inside the picture
            return
        name = f"`{token.value}`" if token.value.isprintable() and character != "`" else f"U+{ord(character):04X}"
        message = f"{shortened(name)} is no part of the language"
        if character.isalnum():
            message = f"{shortened(name)} cannot stand in a name: names are of ASCII letters, digits and `_`"
        helps = (_INSTEAD[character],) if character in _INSTEAD else ()
        edits: tuple[Edit, ...] = ()
        self.strangers += 1
        if self.strangers > limits.FAULTS:  # counted, and not shown
            helps = ()
        elif character in _WRITTEN:
            helps = (f"write `{_WRITTEN[character]}`",)
            edits = (Edit(Span(self.source, token.start_pos, token.end_pos), self.spaced(_WRITTEN[character], token)),)
        elif character in _QUOTES:
            helps = ('a picture stands between `"""` and `"""`',)
        elif character.isspace():
            message = f"a blank of another kind, U+{ord(character):04X}, is no part of the language"
            helps = ("write a plain blank",)
            edits = (Edit(Span(self.source, token.start_pos, token.end_pos), " "),) if token.value.isspace() else ()
        self.fault("unknown-character", message, token.start_pos, token.end_pos, helps=helps, edits=edits)

    def spaced(self, text: str, token: Token) -> str:
        """What replaces a sign, with blanks around it where it is a word and stands close to others."""
        around = (
            self.source.text[max(token.start_pos - 1, 0) : token.start_pos],
            self.source.text[token.end_pos : token.end_pos + 1],
        )
        if not text[0].isalpha():
            return text
        left, right = (" " if side.strip() else "" for side in around)
        return left + text + right

    def finish(self) -> None:
        """Close the segment before the next declaration, or before the end."""
        for opener in self.open[:1]:
            self.fault("bracket", f"`{opener.value}` is never closed", opener.start_pos, opener.end_pos)
        if self.tokens:
            self.segments.append(DeclarationTokens(tuple(self.tokens), self.documentation, self.whole))
        self.tokens, self.open, self.whole, self.documentation = [], [], True, ""
        self.taken = set()


def _waits(token: Token) -> bool:
    """Whether something has to follow a token within its declaration."""
    if token.is_word:
        return token.type == "NOT_IN" or (token.value in vocabulary().reserved and token.type not in _MAY_END)
    return not token.is_number and token.type != "TEXT" and token.value not in _CLOSERS
