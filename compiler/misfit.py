"""What the grammar does not take, in the user's words: what stands there, what would fit, what was likely meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .automaton import Refused
from .diagnostics import Diagnostic, Edit, Source, Span, nearest
from .hints import IMPORT, meant
from .reports import Advice, at, listed
from .scan import RESERVED, STARTERS, Segment, Word

_STARTS = {
    "INT", "FLOAT", "NAME", "LPAR", "LBRACE", "LSQB", "TRUE", "FALSE", "Q", "K", "N", "S", "HEAD", "HEADS", "LAYER",
    "LAYERS", "FOLD", "ALL", "FUNCTION", "MINUS", "NOT",
}  # fmt: skip
_OPERATORS = {
    "+", "-", "*", "/", "//", "%", "**", "..", "<", "<=", ">", ">=", "==", "!=", "in", "not in", "not", "and", "or",
    "if", "(", "[",
}  # fmt: skip
_CLAIMS = {"CAUSAL", "SYMMETRIC", "DIAGONAL", "ROWS", "COLUMNS", "WITHIN", "CONTAINS", "EQUALS", "DISJOINT", "PICTURE"}
_MOST = 5  # alternatives that a label lists


def misfit(refused: Refused, segment: Segment, source: Source, spelling: Mapping[str, Sequence[str]]) -> Diagnostic:
    """The fault of a declaration that was refused. ``spelling``: what each terminal is in the text."""
    words, index, expected = segment.words, refused.index, refused.expected
    found = words[index] if index < len(words) else None
    if found is None:
        last = words[-1]
        message = f"{_subject(words)} ends too early"
        span = Span(source, last.end - 1, last.end)
        return Diagnostic("syntax", message, at(span, f"after this, expected {_phrase(expected, spelling)}"), helps=())
    span = Span(source, found.start, found.end)
    if index == 0 or (found.kind == "word" and nearest(found.text, STARTERS) and found.text not in RESERVED):
        return _no_declaration(found, span)
    if found.text in RESERVED and "NAME" in expected and "INT" not in expected and found.kind == "word":
        message = f"`{found.text}` is a reserved word and cannot be a name"
        return Diagnostic("reserved-word", message, at(span, "choose another name"))
    message = f"`{_shown(found)}` does not fit here"
    helps, edits = meant(words, index, expected, spelling, source)
    label = at(span, f"expected {_phrase(expected, spelling)}")
    return Diagnostic("syntax", message, label, helps=helps, edits=edits)


def _shown(word: Word) -> str:
    return '"""' if word.kind == "text" else word.text


def _subject(words: tuple[Word, ...]) -> str:
    name = f" `{words[1].text}`" if len(words) > 1 and words[1].kind == "word" and words[0].text != "from" else ""
    return {"from": "the import", "const": "the constant"}.get(words[0].text, f"the {words[0].text}") + name


def _no_declaration(found: Word, span: Span) -> Diagnostic:
    likely = nearest(found.text, STARTERS) if found.kind == "word" else None
    helps, edits = ((f"did you mean `{likely}`?",), (Edit(span, likely),)) if likely else Advice()
    if found.text in ("/", "//"):
        helps, edits = ("a comment starts with `#`",), (Edit(span, "#"),)
    if found.text == "import":
        helps = (IMPORT,)
    label = "expected `const`, `pattern`, `attention`, `model`, `test` or `from`"
    return Diagnostic("syntax", f"`{_shown(found)}` starts no declaration", at(span, label), helps=helps, edits=edits)


def _phrase(expected: frozenset[str], spelling: Mapping[str, Sequence[str]]) -> str:
    """What would fit, in the language's own words."""
    rest = set(expected) - {"$END"}
    phrases = []
    if {"INT", "LPAR", "NAME"} <= rest:
        phrases.append("an expression")
        rest -= _STARTS
    if rest >= _CLAIMS:
        phrases.append("a check")
        rest -= _CLAIMS | {"ROW", "COLUMN", "PAIRS", "NOT"}
    phrases += [phrase for name, phrase in (("NAME", "a name"), ("INT", "a number")) if name in rest]
    signs = {spelling[name][0] for name in rest - {"NAME", "INT"} if spelling[name]}
    if {"and", "or", "<"} <= signs:
        phrases.append("an operator")
        signs -= _OPERATORS
    phrases += [f"`{sign}`" for sign in sorted(signs)]
    if not phrases:
        return "the end of the declaration"
    return listed(phrases[:_MOST]) if len(phrases) <= _MOST else ", ".join(phrases[:_MOST]) + " …"
