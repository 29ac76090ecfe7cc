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

from ..diagnostics import AttnError, Diagnostic, Edit, Label, Source, Span, limits, line_ends, shortened

STARTERS = frozenset({"const", "pattern", "attention", "model", "test", "from"})
RESERVED = frozenset({
    "and", "or", "not", "in", "if", "else", "for", "where", "true", "false", "any", "all", "sum", "abs", "min", "max",
    "hash", "exp", "log", "tanh", "sqrt", "sigmoid", "q", "k", "n", "s", "head", "heads", "layer", "layers", "const",
    "pattern", "attention", "model", "test", "from", "import", "as", "at",
})  # fmt: skip
PYTHON_WORDS = frozenset(keyword.kwlist) - RESERVED
_CLOSERS = {")": "(", "]": "[", "}": "{"}
_BRACKETS = frozenset("()[]{}")
# Signs that papers and keyboards have for signs and words of the language.
_WRITTEN = {
    "≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">=", "≠": "!=", "−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "∗": "*",
    "÷": "//", "…": "..", "∈": "in", "∉": "not in", "∧": "and", "∨": "or", "¬": "not", "∩": "and", "∪": "or",
}  # fmt: skip
_PIECE = re.compile(
    r"[ \t\r\n\f]+|[A-Za-z_][A-Za-z0-9_]*|[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|[0-9]+"
    r"|\*\*|\.\.<|\.\.|//|<=|>=|==|!=|[-+*/%<>=(){}\[\],:.]|#[^\r\n]*|\"\"\"[^\"]*\"\"\""
    rf"|[{''.join(_WRITTEN)}]|[^\x00-\x7f{''.join(_WRITTEN)}]+"
    r"|\"+|&+|\|+|[\s\S]"
)
# Reserved words that may end a declaration: what they are not, waits for something to its right.
_WHOLE = frozenset({"true", "false", "q", "k", "n", "s", "head", "heads", "layer", "layers"})
_ENDS = frozenset({")", "]", "}"})
_AFTER_STARTER = re.compile(r"(?:[ \t\r\n\f]+|#[^\r\n]*)*([A-Za-z_][A-Za-z0-9_]*)?")
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
_QUOTES = frozenset("“”„‘’«»")
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
        self.strangers = 0
        self.taken: set[str] = set()  # Python's words in this declaration: a name is chosen once, however often used
        self.whole = True
        self.comments: list[tuple[int, int]] = []  # comments that had a line of their own, since the last word
        self.documentation = ""

    def fault(
        self, slug: str, message: str, start: int, end: int, label: str = "", helps: tuple[str, ...] = (),
        edits: tuple[Edit, ...] = (),
    ) -> None:  # fmt: skip
        self.whole = False
        self.report(Diagnostic(slug, message, Label(Span(self.source, start, end), label), helps=helps, edits=edits))

    def stop(self, slug: str, message: str, word: Word) -> AttnError:
        label = Label(Span(self.source, word.start, word.end), "here")
        return AttnError([Diagnostic(slug, message, label)])

    def scan(self) -> None:
        start = end = tokens = 0
        blank = ""  # between the last piece and this one
        for piece in _PIECE.findall(self.source.text):
            start, end = end, end + len(piece)
            kind = _KINDS.get(piece[0]) or ("sign" if piece == "!=" else "other")
            if kind == "space":
                blank = piece
                continue
            if kind == "comment":
                if len(blank) == start or "\n" in blank or "\r" in blank:  # a line of its own
                    self.comments.append((start, end))
                blank = ""
                continue
            blank = ""
            if kind == "text" and len(piece) < 6:
                kind = "other"  # quotes that nothing closes
            word = Word(kind, piece, start, end)
            tokens += 1
            if tokens > limits.TOKENS:
                message = f"the text has more than {limits.TOKENS:,} words and signs, the most that a text may have"
                raise self.stop("too-many-tokens", message, word)
            if kind == "word" and piece in STARTERS:
                if self.is_meant_as_name(word):
                    self.reserved(word)
                else:
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

    def is_meant_as_name(self, word: Word) -> bool:
        """Whether a word that starts declarations stands where only a name can: no name of its own follows, and what
        stands before it is not yet whole.
        """
        if not self.words:
            return False
        follows = _AFTER_STARTER.match(self.source.text, word.end)
        if follows is not None and follows[1] and follows[1] not in RESERVED:
            return False
        before = self.words[-1]
        if len(self.words) == 1:
            return before.text in STARTERS
        return (before.kind == "sign" and before.text not in _ENDS) or before.text in RESERVED - _WHOLE

    def reserved(self, word: Word) -> None:
        if word.text not in self.taken:
            self.taken.add(word.text)
            message = f"`{word.text}` is a reserved word and cannot be a name"
            self.fault("reserved-word", message, word.start, word.end, "choose another name")

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
        edits: tuple[Edit, ...] = ()
        self.strangers += 1
        if self.strangers > limits.FAULTS:  # counted, and not shown
            helps = ()
        elif character in _WRITTEN:
            helps = (f"write `{_WRITTEN[character]}`",)
            edits = (Edit(Span(self.source, word.start, word.end), self.spaced(_WRITTEN[character], word)),)
        elif character in _QUOTES:
            helps = ('a picture stands between `"""` and `"""`',)
        elif character.isspace():
            message = f"a blank of another kind, U+{ord(character):04X}, is no part of the language"
            helps = ("write a plain blank",)
            edits = (Edit(Span(self.source, word.start, word.end), " "),) if word.text.isspace() else ()
        self.fault("unknown-character", message, word.start, word.end, helps=helps, edits=edits)

    def spaced(self, text: str, word: Word) -> str:
        """What replaces a sign, with blanks around it where it is a word and stands close to others."""
        around = self.source.text[max(word.start - 1, 0) : word.start], self.source.text[word.end : word.end + 1]
        if not text[0].isalpha():
            return text
        left, right = (" " if side.strip() else "" for side in around)
        return left + text + right

    def finish(self) -> None:
        """Close the segment before the next declaration, or before the end."""
        for opener in self.open[:1]:
            self.fault("bracket", f"`{opener.text}` is never closed", opener.start, opener.end)
        if self.words:
            self.segments.append(Segment(tuple(self.words), self.documentation, self.whole))
        self.words, self.open, self.whole, self.documentation = [], [], True, ""
        self.taken = set()
