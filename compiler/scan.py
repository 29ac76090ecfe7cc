"""The words of a text, before any grammar: limits, brackets, and where each declaration starts and ends.

A declaration starts at one of six reserved words, which stand nowhere else; so a fault in one declaration hides none in
another, and each is parsed alone.
"""

from __future__ import annotations

import keyword
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from . import limits
from .diagnostics import AttnError, Diagnostic, Label, Source, Span

STARTERS = frozenset({"const", "pattern", "attention", "model", "test", "from"})
RESERVED = frozenset({
    "and", "or", "not", "in", "if", "else", "for", "where", "true", "false", "any", "all", "sum", "abs", "min", "max",
    "hash", "exp", "log", "tanh", "sqrt", "sigmoid", "q", "k", "n", "s", "head", "heads", "layer", "layers", "const",
    "pattern", "attention", "model", "test", "from", "import", "as", "at",
})  # fmt: skip
PYTHON_WORDS = frozenset(keyword.kwlist) - RESERVED
_CLOSERS = {")": "(", "]": "[", "}": "{"}
_BRACKETS = frozenset("()[]{}")
_PIECE = re.compile(
    r"[ \t\r\n\f]+|[A-Za-z_][A-Za-z0-9_]*|[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|[0-9]+"
    r"|\*\*|\.\.<|\.\.|//|<=|>=|==|!=|[-+*/%<>=(){}\[\],:.]|#[^\n]*|\"\"\"[^\"]*\"\"\""
    r"|[^\x00-\x7f]+|\"+|&+|\|+|[\s\S]"
)
# What a piece is, by the character that it starts with.
_KINDS = {
    **dict.fromkeys(" \t\r\n\f", "space"), **dict.fromkeys(string.ascii_letters + "_", "word"),
    **dict.fromkeys(string.digits, "number"), **dict.fromkeys("-+*/%<>=(){}[],:.", "sign"), "#": "comment", '"': "text",
}  # fmt: skip
_INSTEAD = {
    "&": "write `and`", "|": "write `or`; a distance is `abs(q - k)`", "!": "write `not`, or `!=`", "~": "write `not`",
    "^": "write `**` for a power",
    ";": "nothing stands between declarations, a line's end carries no meaning", "'": "a picture stands in `\"\"\"`",
    '"': 'a picture stands between `"""` and `"""`', "@": "a comment starts with `#`", "?": "write `a if c else b`",
}  # fmt: skip
_PYTHON_INSTEAD = {
    "True": "write `true`", "False": "write `false`", "elif": "write `else …`: a choice is `a if c else b if d else e`",
    "def": "a pattern is declared by `pattern NAME(…) = …`", "return": "a pattern is one expression, after `=`",
}  # fmt: skip


class Word(NamedTuple):
    kind: str  # word, number, sign or text
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Segment:
    """The words of one declaration. ``whole`` is false where a fault was found already and parsing would repeat it."""

    words: tuple[Word, ...]
    documentation: str
    whole: bool


Report = Callable[[Diagnostic], None]


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


def segments(source: Source, report: Report) -> tuple[Segment, ...]:
    """Split a text into its declarations, reporting every fault of its words. AttnError past a limit."""
    text = source.text
    if len(text) > limits.BYTES or len(text.encode("utf-8", "surrogatepass")) > limits.BYTES:
        raise AttnError([_too_long(source.name)])
    scanner = _Scanner(source, report)
    scanner.scan()
    return tuple(scanner.segments)


class _Scanner:
    def __init__(self, source: Source, report: Report) -> None:
        self.source, self.report = source, report
        self.segments: list[Segment] = []
        self.words: list[Word] = []
        self.open: list[Word] = []
        self.taken: set[str] = set()  # Python's words in this declaration: a name is chosen once, however often used
        self.whole = True
        self.comments: list[tuple[int, int]] = []  # comments that had a line of their own, since the last word
        self.documentation = ""

    def fault(
        self, slug: str, message: str, start: int, end: int, label: str = "", helps: tuple[str, ...] = ()
    ) -> None:
        self.whole = False
        self.report(Diagnostic(slug, message, Label(Span(self.source, start, end), label), helps=helps))

    def stop(self, slug: str, message: str, word: Word) -> AttnError:
        label = Label(Span(self.source, word.start, word.end), "here")
        return AttnError([Diagnostic(slug, message, label)])

    def scan(self) -> None:
        start = end = tokens = 0
        for piece in _PIECE.findall(self.source.text):
            start, end = end, end + len(piece)
            kind = _KINDS.get(piece[0]) or ("sign" if piece == "!=" else "other")
            if kind == "space":
                continue
            if kind == "comment":
                self.comment(start, end)
                continue
            if kind == "text" and len(piece) < 6:
                kind = "other"  # quotes that nothing closes
            word = Word(kind, piece, start, end)
            tokens += 1
            if tokens > limits.TOKENS:
                message = f"the text has more than {limits.TOKENS:,} words and signs, the most that a text may have"
                raise self.stop("too-many-tokens", message, word)
            if kind == "word" and piece in STARTERS:
                self.finish()
                self.documentation = self.documented(start)
            if self.comments:
                self.comments = []
            if kind == "word":
                self.name(word)
            elif kind == "sign":
                if piece in _BRACKETS:
                    self.bracket(word)
            elif kind == "number":
                self.number(word)
            elif kind == "other":
                self.stranger(word)
                if piece.startswith('"""'):
                    break  # what follows would all be inside the picture
                continue
            self.words.append(word)
        self.finish()

    def comment(self, start: int, end: int) -> None:
        text = self.source.text
        line = text.rfind("\n", 0, start) + 1
        if not text[line:start].strip():
            self.comments.append((start, end))

    def documented(self, start: int) -> str:
        """The comment lines directly above a declaration, without their `#`."""
        text, lines, below = self.source.text, [], start
        for first, last in reversed(self.comments):
            if text.count("\n", last, below) != 1:
                break
            line = text[first + 1 : last].rstrip()
            lines.append(line[1:] if line.startswith(" ") else line)
            below = first
        return "\n".join(reversed(lines))

    def name(self, word: Word) -> None:
        if len(word.text) > limits.NAME:
            message = f"a name of {len(word.text)} characters; the most that one may have is {limits.NAME}"
            self.fault("name-too-long", message, word.start, word.end)
        elif word.text in PYTHON_WORDS and word.text not in self.taken:
            self.taken.add(word.text)
            helps = (_PYTHON_INSTEAD[word.text],) if word.text in _PYTHON_INSTEAD else ()
            message = f"`{word.text}` is a word of Python and cannot be a name"
            label = "" if helps else "choose another name"
            self.fault("reserved-word", message, word.start, word.end, label, helps)
        before = self.words[-1] if self.words else None
        if before is not None and before.kind == "number" and before.end == word.start:
            message = f"`{shortened(before.text + word.text)}` is neither a number nor a name"
            helps = ("a number is written in decimal digits: `16`, `0.5`, `1e-5`",)
            self.fault("malformed-number", message, before.start, word.end, helps=helps)

    def number(self, word: Word) -> None:
        if word.text.isdigit():
            if len(word.text) > limits.DIGITS:
                message = f"an integer of {len(word.text):,} digits; the most that one may have is {limits.DIGITS}"
                self.fault("number-too-large", message, word.start, word.end)
        elif float(word.text) == float("inf"):
            self.fault("number-too-large", "a number beyond the largest float, 1.8e308", word.start, word.end)

    def bracket(self, word: Word) -> None:
        if word.text in "([{":
            self.open.append(word)
            if len(self.open) > limits.NESTING:
                message = f"brackets are nested deeper than {limits.NESTING}, the most that a text may have"
                raise self.stop("too-deep", message, word)
        elif word.text in _CLOSERS:
            opener = self.open.pop() if self.open else None
            if opener is None:
                self.fault("bracket", f"`{word.text}` closes nothing", word.start, word.end)
            elif opener.text != _CLOSERS[word.text]:
                self.whole = False
                label = Label(Span(self.source, word.start, word.end))
                related = (Label(Span(self.source, opener.start, opener.end), "opened here"),)
                message = f"`{opener.text}` is closed by `{word.text}`"
                self.report(Diagnostic("bracket", message, label, related))

    def stranger(self, word: Word) -> None:
        character = word.text[0]
        if word.text.startswith('"""'):
            self.fault("bracket", '`"""` is never closed', word.start, word.start + 3)
            self.open.clear()  # whatever closes them would be inside the picture
            return
        name = f"`{word.text}`" if word.text.isprintable() and character != "`" else f"U+{ord(character):04X}"
        message = f"{shortened(name)} is no part of the language"
        if character.isalnum():
            message = f"{shortened(name)} cannot stand in a name: names are of ASCII letters, digits and `_`"
        helps = (_INSTEAD[character],) if character in _INSTEAD else ()
        self.fault("unknown-character", message, word.start, word.end, helps=helps)

    def finish(self) -> None:
        """Close the segment before the next declaration, or before the end."""
        for opener in self.open[:1]:
            self.fault("bracket", f"`{opener.text}` is never closed", opener.start, opener.end)
        if self.words:
            self.segments.append(Segment(tuple(self.words), self.documentation, self.whole))
        self.words, self.open, self.whole, self.documentation = [], [], True, ""
        self.taken = set()


def shortened(text: str, most: int = 40) -> str:
    """A piece of the text in one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
