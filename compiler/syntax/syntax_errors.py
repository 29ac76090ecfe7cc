"""What the grammar does not take, in the user's words: what stands there, what would fit, what was likely meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..diagnostics import Diagnostic, Edit, Source, Span, Suggestion, at, edited, listed, nearest
from .lalr import Refused
from .lexer import RESERVED, STARTERS, Segment, Word

IMPORT = "an import names what it takes: `from longformer import longformer`"

_TYPES = ("int", "float", "bool", "set", "tokens", "index", "order")
# What is written for a dimension, and the dimension's name.
_DIMENSIONS = {"heads": "head", "n": "token", "k": "token", "q": "query"}
_OTHERS = {",", "head", *_DIMENSIONS.values()}  # what may stand before it in the same brackets
_SHOWN = 40  # characters of a text that a help repeats
_PARAMETERS = ("pattern", "attention", "model")  # what may have some


def meant(
    words: Sequence[Word], index: int, expected: frozenset[str], spelling: Mapping[str, Sequence[str]], source: Source
) -> Suggestion:
    """What to do about the word at ``index``, in whose place ``expected`` terminals would fit, each as it is spelt."""
    found, before = words[index], words[index - 1]
    after = words[index + 1] if index + 1 < len(words) else None
    instead = _misspelt(found, expected, spelling)
    if instead is not None:
        return _done(f"did you mean `{instead}`?", source, found, found, instead)
    return (
        _of_brackets(words, index, source)
        or _of_a_dimension(words, index, source)
        or _of_signs(before, found, after, words[0].text, source)
        or _of_a_parameter(words, index, source)
        or _of_words(words, index, expected, source)
        or Suggestion()
    )


def _done(help_: str, source: Source, first: Word, last: Word, text: str) -> Suggestion:
    """A help, and the edit that puts ``text`` in the place of some words."""
    return Suggestion((help_,), (Edit(Span(source, first.start, last.end), text),))


def _misspelt(found: Word, expected: frozenset[str], spelling: Mapping[str, Sequence[str]]) -> str | None:
    """The word of the language that would fit and is spelt alike, unless what is found is one itself."""
    if found.kind != "word" or found.text in RESERVED or any(found.text in texts for texts in spelling.values()):
        return None
    fitting = [text for name in sorted(expected) for text in spelling.get(name, ())]
    return nearest(found.text, [text for text in fitting if text[0].isalpha()])


def _of_signs(before: Word, found: Word, after: Word | None, starter: str, source: Source) -> Suggestion | None:
    match before.text, found.text, after.text if after else "":
        case _, "==", _ if starter == "const":
            return _done("a constant is given by `=`", source, found, found, "=")
        case "=", "=", _:
            return _done("write `==` without a space", source, before, found, "==")
        case _, "=", "<" | ">" as sign:
            assert after is not None
            return _done(f"write `{sign}=`", source, found, after, f"{sign}=")
        case "<", ">", _:
            return _done("write `!=`", source, before, found, "!=")
        case word, "=", _ if word in STARTERS:
            return Suggestion(("a name stands before `=`",))
        case _, "=", _ if starter != "model":
            return _done("`==` compares two values", source, found, found, "==")
        case _, "*", _ if starter == "from":
            return Suggestion((IMPORT,))
        case _, "." | ".." | "/" | "//", _ if starter == "from":
            return Suggestion(("an import names a module, never a path: `from vision.natten import neighborhood`",))
        case ("." | "..", _, _) | (_, ".", _):
            return Suggestion(("a number with a point has digits on both sides: `0.5`, `3.0`",))
        case _, ":", _ if starter in _PARAMETERS:
            return Suggestion(("what a pattern is stands after `=`",))
    return None


def _of_brackets(words: Sequence[Word], index: int, source: Source) -> Suggestion | None:
    """``t[a][b]``: an entry of an entry, as other languages write a table of several dimensions."""
    if words[index].text != "[" or words[index - 1].text != "]":
        return None
    opener = _partner(words, index - 1, -1)
    closer = _partner(words, index, 1)
    if opener is None or closer is None or opener == 0 or words[opener - 1].kind != "word":
        return None
    edits = [Edit(Span(source, words[index - 1].start, words[index].end), ", ")]
    while closer + 1 < len(words) and words[closer + 1].text == "[":  # more of them
        edits.append(Edit(Span(source, words[closer].start, words[closer + 1].end), ", "))
        further = _partner(words, closer + 1, 1)
        if further is None:
            return None
        closer = further
    start = words[opener - 1].start
    text = source.text[start : words[closer].end]
    moved = [Edit(Span(source, edit.span.start - start, edit.span.end - start), edit.text) for edit in edits]
    shown = " ".join(edited(text, moved).split())
    if len(shown) > _SHOWN:
        shown = f"{words[opener - 1].text}[…, …]"
    return Suggestion((f"all indices stand in one pair of brackets: `{shown}`",), tuple(edits))


def _partner(words: Sequence[Word], index: int, step: int) -> int | None:
    """The bracket that closes, or opens, the square one at a place."""
    depth, place = 0, index
    while 0 <= place < len(words):
        depth += {"[": 1, "]": -1}.get(words[place].text, 0)
        if not depth:
            return place
        place += step
    return None


def _of_a_dimension(words: Sequence[Word], index: int, source: Source) -> Suggestion | None:
    """A position, or a number of positions, in the place of a dimension's name."""
    found = words[index]
    if words[0].text not in _PARAMETERS or found.text not in _DIMENSIONS:
        return None
    place = index - 1
    while place > 1 and words[place].text != "[" and words[place].text in _OTHERS:
        place -= 1
    if words[place].text != "[" or words[place - 2].text != ":" or words[place - 1].kind != "word":
        return None
    meant = _DIMENSIONS[found.text]
    return _done(f"did you mean `{meant}`?", source, found, found, meant)


def _of_a_parameter(words: Sequence[Word], index: int, source: Source) -> Suggestion | None:
    """A parameter without its type, or with the type first."""
    found, before = words[index], words[index - 1]
    if words[0].text not in _PARAMETERS or before.kind != "word" or "{" in (word.text for word in words[:index]):
        return None
    if found.text in (",", ")", "="):
        help_ = f"every parameter has a type: `{before.text}: int`, or `{before.text}: tokens` for a set of positions"
        return Suggestion((help_,), (Edit(Span(source, before.end, before.end), ": int"),))
    opens = words[index - 2].text in ("(", ",") if index > 2 else False
    if found.kind == "word" and before.text in _TYPES and opens:
        typed = f"{found.text}: {before.text}"
        return _done(f"a type stands behind the name: `{typed}`", source, before, found, typed)
    return None


def _of_words(words: Sequence[Word], index: int, expected: frozenset[str], source: Source) -> Suggestion | None:
    found, before = words[index], words[index - 1]
    if found.text == "if" and "NAME" in expected:
        return Suggestion(("a choice is an expression: `a if c else b`",))
    if found.text == "if":
        return Suggestion(("a choice within an expression stands in parentheses: `(a if c else b)`",))
    if found.text == "not" and before.kind in ("word", "number") and words[0].text == "pattern":
        return _done("`not in` is one word: `k not in {0, 3}`", source, found, found, "not in")
    if found.text == "," and _listed_in_parentheses(words, index):
        return Suggestion(("a set stands in braces: `k in {0, 3}`",))
    if before.kind in ("word", "number") and found.kind == "word" and words[0].text == "pattern":
        return Suggestion(("between two clauses stands `and`, `or` or `+`",))
    return None


def _listed_in_parentheses(words: Sequence[Word], index: int) -> bool:
    """Whether the parenthesis that a comma stands in follows `in`."""
    depth = 0
    for place in range(index - 1, 0, -1):
        depth += {")": 1, "(": -1}.get(words[place].text, 0)
        if depth < 0:
            return words[place - 1].text == "in"
    return False


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
    helps, edits = ((f"did you mean `{likely}`?",), (Edit(span, likely),)) if likely else Suggestion()
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
