"""What the grammar does not take, in the user's words: what stands there, what would fit, what was likely meant."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from lark.exceptions import UnexpectedToken

from ..diagnostics import Diagnostic, Edit, Source, Span, Suggestion, at, edited, listed, nearest
from .grammar import END, Token, accepted, parser, vocabulary
from .lexer import DeclarationTokens, tokens

IMPORT = "an import names what it takes: `from longformer import longformer`"

_TYPES = ("int", "float", "bool", "set", "tokens", "index", "order")
# What is written for a dimension, and the dimension's name.
_DIMENSIONS = {"heads": "head", "n": "token", "k": "token", "q": "query"}
_OTHERS = {",", "head", *_DIMENSIONS.values()}  # what may stand before it in the same brackets
_SHOWN = 40  # characters of a text that a help repeats
_PARAMETERS = ("pattern", "attention", "model")  # what may have some


def meant(tokens: Sequence[Token], index: int, expected: frozenset[str], source: Source) -> Suggestion:
    """What to do about the token at ``index``, in whose place the terminals ``expected`` would fit."""
    found, before = tokens[index], tokens[index - 1]
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    instead = _misspelt(found, expected)
    if instead is not None:
        return _done(f"did you mean `{instead}`?", source, found, found, instead)
    return (
        _of_brackets(tokens, index, source)
        or _of_a_dimension(tokens, index, source)
        or _of_signs(before, found, after, tokens[0].value, source)
        or _of_a_parameter(tokens, index, source)
        or _of_words(tokens, index, expected, source)
        or Suggestion()
    )


def _done(help_: str, source: Source, first: Token, last: Token, text: str) -> Suggestion:
    """A help, and the edit that puts ``text`` in the place of some tokens."""
    return Suggestion((help_,), (Edit(Span(source, first.start_pos, last.end_pos), text),))


def _misspelt(found: Token, expected: frozenset[str]) -> str | None:
    """The word of the language that would fit and is spelt alike, unless what is found is one itself."""
    known = vocabulary()
    if not found.is_word or found.value in known.types:
        return None
    fitting = [text for name in sorted(expected) for text in known.spellings.get(name, ())]
    return nearest(found.value, [text for text in fitting if text[0].isalpha()])


def _of_signs(before: Token, found: Token, after: Token | None, starter: str, source: Source) -> Suggestion | None:
    match before.value, found.value, after.value if after else "":
        case _, "==", _ if starter == "const":
            return _done("a constant is given by `=`", source, found, found, "=")
        case "=", "=", _:
            return _done("write `==` without a space", source, before, found, "==")
        case _, "=", "<" | ">" as sign:
            assert after is not None
            return _done(f"write `{sign}=`", source, found, after, f"{sign}=")
        case "<", ">", _:
            return _done("write `!=`", source, before, found, "!=")
        case word, "=", _ if word in vocabulary().starters:
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


def _of_brackets(tokens: Sequence[Token], index: int, source: Source) -> Suggestion | None:
    """``t[a][b]``: an entry of an entry, as other languages write a table of several dimensions."""
    if tokens[index].value != "[" or tokens[index - 1].value != "]":
        return None
    opener = _partner(tokens, index - 1, -1)
    closer = _partner(tokens, index, 1)
    if opener is None or closer is None or opener == 0 or not tokens[opener - 1].is_word:
        return None
    edits = [Edit(Span(source, tokens[index - 1].start_pos, tokens[index].end_pos), ", ")]
    while closer + 1 < len(tokens) and tokens[closer + 1].value == "[":  # more of them
        edits.append(Edit(Span(source, tokens[closer].start_pos, tokens[closer + 1].end_pos), ", "))
        further = _partner(tokens, closer + 1, 1)
        if further is None:
            return None
        closer = further
    start = tokens[opener - 1].start_pos
    text = source.text[start : tokens[closer].end_pos]
    moved = [Edit(Span(source, edit.span.start - start, edit.span.end - start), edit.text) for edit in edits]
    shown = " ".join(edited(text, moved).split())
    if len(shown) > _SHOWN:
        shown = f"{tokens[opener - 1].value}[…, …]"
    return Suggestion((f"all indices stand in one pair of brackets: `{shown}`",), tuple(edits))


def _partner(tokens: Sequence[Token], index: int, step: int) -> int | None:
    """The bracket that closes, or opens, the square one at a place."""
    depth, place = 0, index
    while 0 <= place < len(tokens):
        depth += {"[": 1, "]": -1}.get(tokens[place].value, 0)
        if not depth:
            return place
        place += step
    return None


def _of_a_dimension(tokens: Sequence[Token], index: int, source: Source) -> Suggestion | None:
    """A position, or a number of positions, in the place of a dimension's name."""
    found = tokens[index]
    if tokens[0].value not in _PARAMETERS or found.value not in _DIMENSIONS:
        return None
    place = index - 1
    while place > 1 and tokens[place].value != "[" and tokens[place].value in _OTHERS:
        place -= 1
    if tokens[place].value != "[" or tokens[place - 2].value != ":" or not tokens[place - 1].is_word:
        return None
    meant = _DIMENSIONS[found.value]
    return _done(f"did you mean `{meant}`?", source, found, found, meant)


def _of_a_parameter(tokens: Sequence[Token], index: int, source: Source) -> Suggestion | None:
    """A parameter without its type, or with the type first."""
    found, before = tokens[index], tokens[index - 1]
    if tokens[0].value not in _PARAMETERS or not before.is_word or "{" in (token.value for token in tokens[:index]):
        return None
    if found.value in (",", ")", "="):
        help_ = f"every parameter has a type: `{before.value}: int`, or `{before.value}: tokens` for a set of positions"
        return Suggestion((help_,), (Edit(Span(source, before.end_pos, before.end_pos), ": int"),))
    opens = tokens[index - 2].value in ("(", ",") if index > 2 else False
    if found.is_word and before.value in _TYPES and opens:
        typed = f"{found.value}: {before.value}"
        return _done(f"a type stands behind the name: `{typed}`", source, before, found, typed)
    return None


def _of_words(tokens: Sequence[Token], index: int, expected: frozenset[str], source: Source) -> Suggestion | None:
    found, before = tokens[index], tokens[index - 1]
    if found.value == "if" and "NAME" in expected:
        return Suggestion(("a choice is an expression: `a if c else b`",))
    if found.value == "if":
        return Suggestion(("a choice within an expression stands in parentheses: `(a if c else b)`",))
    if found.value == "not" and (before.is_word or before.is_number) and tokens[0].value == "pattern":
        return _done("`not in` is one word: `k not in {0, 3}`", source, found, found, "not in")
    if found.value == "," and _listed_in_parentheses(tokens, index):
        return Suggestion(("a set stands in braces: `k in {0, 3}`",))
    if (before.is_word or before.is_number) and found.is_word and tokens[0].value == "pattern":
        return Suggestion(("between two clauses stands `and`, `or` or `+`",))
    return None


def _listed_in_parentheses(tokens: Sequence[Token], index: int) -> bool:
    """Whether the parenthesis that a comma stands in follows `in`."""
    depth = 0
    for place in range(index - 1, 0, -1):
        depth += {")": 1, "(": -1}.get(tokens[place].value, 0)
        if depth < 0:
            return tokens[place - 1].value == "in"
    return False


_MOST = 5  # alternatives that a label lists
# One phrase for many terminals: some by which they are known, and a beginning of a text after which all of them fit.
_PHRASES = (
    ("an expression", {"NAME", "INT", "LPAR"}, "const a ="),
    ("a check", {"PICTURE", "RELATION"}, "test a at n = 1 {"),
    ("a claim", {"RELATION"}, "test a at n = 1 { not"),
    ("an operator", {"AND", "OR", "COMPARATOR"}, "const a = b"),
)

_UNBOUNDED = {"NAME": "a name", "INT": "an integer", "TEXT": '`"""`'}


def misfit(error: UnexpectedToken, declaration: DeclarationTokens, source: Source) -> Diagnostic:
    """The fault of a declaration that Lark's parser refused at the token that ``error`` names."""
    words = declaration.tokens
    expected = frozenset(error.accepts)
    if error.token.type == END:
        last = words[-1]
        message = f"{_subject(words)} ends too early"
        span = Span(source, last.end_pos - 1, last.end_pos)
        return Diagnostic("syntax", message, at(span, f"after this, expected {_phrase(expected)}"), helps=())
    index = next(place for place, token in enumerate(words) if token.start_pos == error.token.start_pos)
    found = words[index]
    known = vocabulary()
    span = Span(source, found.start_pos, found.end_pos)
    is_reserved = found.value in known.reserved or found.type == "NOT_IN"
    if index == 0 or (found.is_word and not is_reserved and nearest(found.value, known.starters)):
        return _no_declaration(found, span)
    if is_reserved and "NAME" in expected and "INT" not in expected:
        message = f"`{found.value}` is a reserved word and cannot be a name"
        return Diagnostic("reserved-word", message, at(span, "choose another name"))
    message = f"`{_shown(found)}` does not fit here"
    helps, edits = meant(words, index, expected, source)
    label = at(span, f"expected {_phrase(expected)}")
    return Diagnostic("syntax", message, label, helps=helps, edits=edits)


def _shown(token: Token) -> str:
    return '"""' if token.type == "TEXT" else token.value


def _subject(words: tuple[Token, ...]) -> str:
    name = f" `{words[1].value}`" if len(words) > 1 and words[1].is_word and words[0].value != "from" else ""
    return {"from": "the import", "const": "the constant"}.get(words[0].value, f"the {words[0].value}") + name


def _no_declaration(found: Token, span: Span) -> Diagnostic:
    likely = nearest(found.value, vocabulary().starters) if found.is_word else None
    helps, edits = ((f"did you mean `{likely}`?",), (Edit(span, likely),)) if likely else Suggestion()
    if found.value in ("/", "//"):
        helps, edits = ("a comment starts with `#`",), (Edit(span, "#"),)
    if found.value == "import":
        helps = (IMPORT,)
    label = "expected `const`, `pattern`, `attention`, `model`, `test` or `from`"
    return Diagnostic("syntax", f"`{_shown(found)}` starts no declaration", at(span, label), helps=helps, edits=edits)


@cache
def _fitting(beginning: str) -> frozenset[str]:
    """The terminals that would fit after the beginning of a declaration, but for the brace that ends it."""
    session = parser().parse_interactive(tuple(tokens(beginning)))
    session.exhaust_lexer()
    return accepted(session) - {"RBRACE"}


def _phrase(expected: frozenset[str]) -> str:
    """What would fit, in the language's own words."""
    rest = set(expected) - {END}
    phrases = []
    for phrase, marks, beginning in _PHRASES:
        if marks <= rest:
            phrases.append(phrase)
            rest -= _fitting(beginning)
    phrases += [phrase for name, phrase in _UNBOUNDED.items() if name in rest]
    known = vocabulary().spellings
    phrases += [f"`{text}`" for text in sorted(text for name in rest for text in known[name])]
    if not phrases:
        return "the end of the declaration"
    return listed(phrases[:_MOST]) if len(phrases) <= _MOST else ", ".join(phrases[:_MOST]) + " …"
