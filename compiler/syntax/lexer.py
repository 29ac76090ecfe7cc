"""Splits a text into tokens and these into declarations; checks characters, brackets, and the limits of a text.

A declaration starts with one of six reserved words, which occur nowhere else. So each declaration can be parsed by
itself, and a fault in one does not hide the faults of the others.
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
# For signs of papers and keyboards, the sign or word of the language that means the same.
_SPELLING = {
    "≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">=", "≠": "!=", "−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "∗": "*",
    "÷": "//", "…": "..", "∈": "in", "∉": "not in", "∧": "and", "∨": "or", "¬": "not", "∩": "and", "∪": "or",
}  # fmt: skip
# Matches what is no token: one sign of _SPELLING, a run of others beyond ASCII, of quotes, & or |, or any character.
_UNKNOWN = rf"[{''.join(_SPELLING)}]|[^\x00-\x7f{''.join(_SPELLING)}]+|\"+|&+|\|+|[\s\S]"
# The terminals of reserved words that may end a declaration; after any other reserved word something has to follow.
_MAY_END = frozenset({"TRUTH", "POSITION", "N", "HEAD", "HEADS", "LAYER", "LAYERS"})
# Help for characters that are no part of the language, and for Python's words.
_CHARACTER_HELP = {
    "&": "write `and`", "|": "write `or`; a distance is `abs(q - k)`", "!": "write `not`, or `!=`", "~": "write `not`",
    "^": "write `**` for a power",
    ";": "nothing stands between declarations, a line's end carries no meaning", "'": "a picture stands in `\"\"\"`",
    '"': 'a picture stands between `"""` and `"""`', "@": "a comment starts with `#`", "?": "write `a if c else b`",
}  # fmt: skip
_QUOTES = frozenset("“”„‘’«»")
_PYTHON_HELP = {
    "True": "write `true`", "False": "write `false`", "elif": "write `else …`: a choice is `a if c else b if d else e`",
    "def": "a pattern is declared by `pattern NAME(…) = …`", "return": "a pattern is one expression, after `=`",
}  # fmt: skip


@dataclass(frozen=True)
class DeclarationTokens:
    """The tokens of one declaration, and the comment lines above it.

    ``parsable`` is false if a fault of its tokens was reported, which a parser would report again.
    """

    tokens: tuple[Token, ...]
    documentation: str
    parsable: bool


Report = Callable[[Diagnostic], None]  # what is called with each fault


@lru_cache(maxsize=1)
def python_words() -> frozenset[str]:
    """Python's keywords, except for those that are reserved words of the language. They cannot be names either."""
    return frozenset(keyword.kwlist) - vocabulary().reserved


@lru_cache(maxsize=1)
def _pieces() -> re.Pattern[str]:
    """The regular expression for one piece of any text. The group that matches is a terminal, SIGN, or UNKNOWN."""
    return re.compile(f"{vocabulary().pattern}|(?P<UNKNOWN>{_UNKNOWN})")


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """Yield the tokens of a text from ``start`` on, without white space and comments.

    Characters that are no part of the language make tokens of the type UNKNOWN.
    """
    types = vocabulary().types
    for piece in _pieces().finditer(text, start):
        group = piece.lastgroup
        assert group is not None
        if group not in ("BLANK", "COMMENT"):
            yield _token(types, group, piece)


def _token(types: Mapping[str, str], group: str, piece: re.Match[str]) -> Token:
    """The token of a piece of text, matched by ``group``; a word's or a sign's own terminal comes from ``types``."""
    text = piece.group() if group != "NOT_IN" else "not in"  # whatever white space it has
    return Token(types.get(text, group), text, piece.start(), end_pos=piece.end())


def comments(text: str) -> Iterator[tuple[int, int]]:
    """The places, start and end, of the comments of a text."""
    return (piece.span() for piece in _pieces().finditer(text) if piece.lastgroup == "COMMENT")


def decode(data: bytes, name: str) -> str:
    """The text of a file's bytes, without a byte order mark. Raises AttnError if they are not UTF-8 or too many.

    ``name`` is that of the file in error messages.
    """
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


def declaration_tokens(source: Source, report: Report) -> tuple[DeclarationTokens, ...]:
    """Split a text into the tokens of its declarations, reporting every fault of a token or a bracket.

    Raises AttnError for a text of too many bytes or tokens, or of brackets nested too deep.
    """
    text = source.text
    if len(text) > limits.BYTES or len(text.encode("utf-8", "surrogatepass")) > limits.BYTES:
        raise AttnError([_too_long(source.name)])
    scanner = _Scanner(source, report)
    scanner.scan()
    return tuple(scanner.declarations)


class _Scanner:
    """Reads a text from start to end; the other attributes are about the declaration that it is in."""

    def __init__(self, source: Source, report: Report) -> None:
        self.source, self.report = source, report
        self.starters = vocabulary().starters
        self.declarations: list[DeclarationTokens] = []
        self.tokens: list[Token] = []
        self.open: list[Token] = []  # brackets that are not closed yet
        self.unknown_pieces = 0  # in the whole text
        self.refused: set[str] = set()  # words that cannot be names, each reported once for all its uses
        self.parsable = True
        self.comments: list[tuple[int, int]] = []  # the places of comments on lines of their own, since the last token
        self.documentation = ""

    def fault(
        self, slug: str, message: str, start: int, end: int, label: str = "", helps: tuple[str, ...] = (),
        edits: tuple[Edit, ...] = (),
    ) -> None:  # fmt: skip
        """Report a fault from ``start`` to ``end``; the declaration is not parsed then."""
        self.parsable = False
        self.report(Diagnostic(slug, message, Label(Span(self.source, start, end), label), helps=helps, edits=edits))

    def past_limit(self, slug: str, message: str, token: Token) -> AttnError:
        """The error for a text that passes a limit at a token, after which nothing more is read."""
        label = Label(Span(self.source, token.start_pos, token.end_pos), "here")
        return AttnError([Diagnostic(slug, message, label)])

    def scan(self) -> None:
        """Read the whole text into ``declarations``."""
        text, types = self.source.text, vocabulary().types
        count = end = 0
        for piece in _pieces().finditer(text):
            group = piece.lastgroup
            if group == "BLANK":
                continue
            before, end = end, piece.end()
            if group == "COMMENT":
                start = piece.start()
                if not before or "\n" in text[before:start] or "\r" in text[before:start]:  # a line of its own
                    self.comments.append((start, end))
                continue
            assert group is not None
            count += 1
            token = _token(types, group, piece)
            if count > limits.TOKENS:
                message = f"the text has more than {limits.TOKENS:,} words and signs, the most that a text may have"
                raise self.past_limit("too-many-tokens", message, token)
            self.read(token)
            self.comments.clear()
            if token.type == "UNKNOWN" and token.value.startswith('"""'):
                break  # all that follows would be inside the picture
        self.finish()

    def read(self, token: Token) -> None:
        """Check the next token, and add it to its declaration; a word of ``starters`` begins a new one."""
        if token.value in self.starters:
            if self.is_meant_as_name(token):
                self.report_reserved(token)
            else:
                self.finish()
                self.documentation = self.comment_above(token.start_pos)
        if token.type == "UNKNOWN":
            self.report_unknown(token)
            return
        if token.is_word:
            self.check_word(token)
        elif token.is_number:
            self.check_number(token)
        elif token.value in _BRACKETS:
            self.match_bracket(token)
        self.tokens.append(token)

    def comment_above(self, start: int) -> str:
        """The comment lines directly above the declaration at ``start``, without their `#`."""
        text, lines, below = self.source.text, [], start
        for first, last in reversed(self.comments):
            if line_ends(text, last, below) != 1:
                break
            line = text[first + 1 : last].rstrip()
            lines.append(line[1:] if line.startswith(" ") else line)
            below = first
        return "\n".join(reversed(lines))

    def is_meant_as_name(self, token: Token) -> bool:
        """Whether a word that starts declarations was written as a name: no name follows it, as in a declaration, and
        the declaration before it cannot end there.
        """
        if not self.tokens:
            return False
        follows = next(tokens(self.source.text, token.end_pos), None)
        if follows is not None and follows.is_word and follows.value not in vocabulary().reserved:
            return False
        before = self.tokens[-1]
        if len(self.tokens) == 1:
            return before.value in self.starters
        return _needs_more(before)

    def report_reserved(self, token: Token) -> None:
        """Report a reserved word that was written as a name, once for the declaration."""
        if token.value not in self.refused:
            self.refused.add(token.value)
            message = f"`{token.value}` is a reserved word and cannot be a name"
            self.fault("reserved-word", message, token.start_pos, token.end_pos, "choose another name")

    def check_word(self, token: Token) -> None:
        """Report a name that is too long or a word of Python, and a number that letters follow at once."""
        if len(token.value) > limits.NAME:
            message = f"a name of {len(token.value)} characters; the most that one may have is {limits.NAME}"
            self.fault("name-too-long", message, token.start_pos, token.end_pos)
        elif token.value in python_words() and token.value not in self.refused:
            self.refused.add(token.value)
            helps = (_PYTHON_HELP[token.value],) if token.value in _PYTHON_HELP else ()
            message = f"`{token.value}` is a word of Python and cannot be a name"
            label = "" if helps else "choose another name"
            self.fault("reserved-word", message, token.start_pos, token.end_pos, label, helps)
        before = self.tokens[-1] if self.tokens else None
        if before is not None and before.is_number and before.end_pos == token.start_pos:
            letters, _, _ = token.value.partition(" ")
            message = f"`{shortened(before.value + letters)}` is neither a number nor a name"
            helps = ("a number is written in decimal digits: `16`, `0.5`, `1e-5`",)
            self.fault("malformed-number", message, before.start_pos, token.start_pos + len(letters), helps=helps)

    def check_number(self, token: Token) -> None:
        """Report an integer of too many digits, and a float that would be infinite."""
        if token.type == "INT":
            if len(token.value) > limits.DIGITS:
                message = f"an integer of {len(token.value):,} digits; the most that one may have is {limits.DIGITS}"
                self.fault("number-too-large", message, token.start_pos, token.end_pos)
        elif float(token.value) == float("inf"):
            self.fault("number-too-large", "a number beyond the largest float, 1.8e308", token.start_pos, token.end_pos)

    def match_bracket(self, token: Token) -> None:
        """Match a bracket with the one that it closes, or report it. Raises AttnError for brackets nested too deep."""
        if token.value in "([{":
            self.open.append(token)
            if len(self.open) > limits.NESTING:
                message = f"brackets are nested deeper than {limits.NESTING}, the most that a text may have"
                raise self.past_limit("too-deep", message, token)
        elif token.value in _CLOSERS:
            opener = self.open.pop() if self.open else None
            if opener is None:
                self.fault("bracket", f"`{token.value}` closes nothing", token.start_pos, token.end_pos)
            elif opener.value != _CLOSERS[token.value]:
                self.parsable = False
                label = Label(Span(self.source, token.start_pos, token.end_pos))
                related = (Label(Span(self.source, opener.start_pos, opener.end_pos), "opened here"),)
                message = f"`{opener.value}` is closed by `{token.value}`"
                self.report(Diagnostic("bracket", message, label, related))

    def report_unknown(self, token: Token) -> None:
        """Report characters that are no part of the language, with help where it is clear what was meant."""
        character = token.value[0]
        if token.value.startswith('"""'):
            self.fault("bracket", '`"""` is never closed', token.start_pos, token.start_pos + 3)
            self.open.clear()  # the closing brackets would be inside the picture
            return
        name = f"`{token.value}`" if token.value.isprintable() and character != "`" else f"U+{ord(character):04X}"
        message = f"{shortened(name)} is no part of the language"
        if character.isalnum():
            message = f"{shortened(name)} cannot stand in a name: names are of ASCII letters, digits and `_`"
        helps = (_CHARACTER_HELP[character],) if character in _CHARACTER_HELP else ()
        edits: tuple[Edit, ...] = ()
        self.unknown_pieces += 1
        if self.unknown_pieces > limits.FAULTS:  # the fault is counted but not shown, so it needs no help
            helps = ()
        elif character in _SPELLING:
            helps = (f"write `{_SPELLING[character]}`",)
            edits = (Edit(Span(self.source, token.start_pos, token.end_pos), self.spaced(_SPELLING[character], token)),)
        elif character in _QUOTES:
            helps = ('a picture stands between `"""` and `"""`',)
        elif character.isspace():
            message = f"a blank of another kind, U+{ord(character):04X}, is no part of the language"
            helps = ("write a plain blank",)
            edits = (Edit(Span(self.source, token.start_pos, token.end_pos), " "),) if token.value.isspace() else ()
        self.fault("unknown-character", message, token.start_pos, token.end_pos, helps=helps, edits=edits)

    def spaced(self, text: str, token: Token) -> str:
        """The text that replaces a token: a word gets a blank on each side where the token has none."""
        around = (
            self.source.text[max(token.start_pos - 1, 0) : token.start_pos],
            self.source.text[token.end_pos : token.end_pos + 1],
        )
        if not text[0].isalpha():
            return text
        left, right = (" " if side.strip() else "" for side in around)
        return left + text + right

    def finish(self) -> None:
        """End the current declaration, if any: report a bracket that is still open, and keep the tokens."""
        for opener in self.open[:1]:
            self.fault("bracket", f"`{opener.value}` is never closed", opener.start_pos, opener.end_pos)
        if self.tokens:
            self.declarations.append(DeclarationTokens(tuple(self.tokens), self.documentation, self.parsable))
        self.tokens, self.open, self.parsable, self.documentation = [], [], True, ""
        self.refused = set()


def _needs_more(token: Token) -> bool:
    """Whether a declaration cannot end with this token."""
    if token.is_word:
        return token.type == "NOT_IN" or (token.value in vocabulary().reserved and token.type not in _MAY_END)
    return not token.is_number and token.type != "TEXT" and token.value not in _CLOSERS
