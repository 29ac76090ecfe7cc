"""Reports a token that the grammar does not allow: what is there, what would fit, and what was likely meant."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from lark.exceptions import UnexpectedToken

from ..diagnostics import Diagnostic, Edit, Source, Span, Suggestion, at, edited, listed, nearest
from .grammar import END, Token, accepted, parser, vocabulary
from .lexer import DeclarationTokens, tokens

IMPORT = "an import names what it takes: `from longformer import longformer`"

_TYPES = ("int", "float", "bool", "set", "tokens", "index", "order")
# What users write for the name of a dimension, and the name.
_DIMENSIONS = {"heads": "head", "n": "token", "k": "token", "q": "query"}
_IN_DIMENSIONS = {",", "head", *_DIMENSIONS.values()}  # tokens between the bracket and a wrong dimension
_MOST_QUOTED = 40  # characters of the user's text in a help
_WITH_PARAMETERS = ("pattern", "attention", "model")  # the first words of declarations that may have parameters


def suggestion(tokens: Sequence[Token], index: int, expected: frozenset[str], source: Source) -> Suggestion:
    """Suggest what to write for the token at ``index``, where terminals of ``expected`` would fit; empty if unclear."""
    found, before = tokens[index], tokens[index - 1]
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    instead = _misspelt(found, expected)
    if instead is not None:
        return _replacing(f"did you mean `{instead}`?", source, found, found, instead)
    return (
        _for_brackets(tokens, index, source)
        or _for_dimension(tokens, index, source)
        or _for_signs(before, found, after, tokens[0].value, source)
        or _for_parameter(tokens, index, source)
        or _for_words(tokens, index, expected, source)
        or Suggestion()
    )


def _replacing(help_: str, source: Source, first: Token, last: Token, text: str) -> Suggestion:
    """A help, and the edit that replaces the tokens from ``first`` to ``last`` by ``text``."""
    return Suggestion((help_,), (Edit(Span(source, first.start_pos, last.end_pos), text),))


def _misspelt(found: Token, expected: frozenset[str]) -> str | None:
    """The word of the language that would fit and is spelt like ``found``; None if ``found`` is a word of it itself."""
    known = vocabulary()
    if not found.is_word or found.value in known.types:
        return None
    fitting = [text for name in sorted(expected) for text in known.spellings.get(name, ())]
    return nearest(found.value, [text for text in fitting if text[0].isalpha()])


def _for_signs(before: Token, found: Token, after: Token | None, starter: str, source: Source) -> Suggestion | None:
    """Suggest another sign for ``found``, by the tokens around it and the first word of the declaration."""
    match before.value, found.value, after.value if after else "":
        case _, "==", _ if starter == "const":
            return _replacing("a constant is given by `=`", source, found, found, "=")
        case "=", "=", _:
            return _replacing("write `==` without a space", source, before, found, "==")
        case _, "=", "<" | ">" as sign:
            assert after is not None
            return _replacing(f"write `{sign}=`", source, found, after, f"{sign}=")
        case "<", ">", _:
            return _replacing("write `!=`", source, before, found, "!=")
        case word, "=", _ if word in vocabulary().starters:
            return Suggestion(("a name stands before `=`",))
        case _, "=", _ if starter != "model":
            return _replacing("`==` compares two values", source, found, found, "==")
        case _, "*", _ if starter == "from":
            return Suggestion((IMPORT,))
        case _, "." | ".." | "/" | "//", _ if starter == "from":
            return Suggestion(("an import names a module, never a path: `from vision.natten import neighborhood`",))
        case ("." | "..", _, _) | (_, ".", _):
            return Suggestion(("a number with a point has digits on both sides: `0.5`, `3.0`",))
        case _, ":", _ if starter in _WITH_PARAMETERS:
            return Suggestion(("what a pattern is stands after `=`",))
    return None


def _for_brackets(tokens: Sequence[Token], index: int, source: Source) -> Suggestion | None:
    """Suggest ``t[a, b]`` for ``t[a][b]``, as other languages index several dimensions."""
    if tokens[index].value != "[" or tokens[index - 1].value != "]":
        return None
    opener = _partner(tokens, index - 1, -1)
    closer = _partner(tokens, index, 1)
    if opener is None or closer is None or opener == 0 or not tokens[opener - 1].is_word:
        return None
    edits = [Edit(Span(source, tokens[index - 1].start_pos, tokens[index].end_pos), ", ")]
    while closer + 1 < len(tokens) and tokens[closer + 1].value == "[":  # a further dimension, as in t[a][b][c]
        edits.append(Edit(Span(source, tokens[closer].start_pos, tokens[closer + 1].end_pos), ", "))
        further = _partner(tokens, closer + 1, 1)
        if further is None:
            return None
        closer = further
    start = tokens[opener - 1].start_pos
    text = source.text[start : tokens[closer].end_pos]
    within = [Edit(Span(source, edit.span.start - start, edit.span.end - start), edit.text) for edit in edits]
    shown = " ".join(edited(text, within).split())
    if len(shown) > _MOST_QUOTED:
        shown = f"{tokens[opener - 1].value}[…, …]"
    return Suggestion((f"all indices stand in one pair of brackets: `{shown}`",), tuple(edits))


def _partner(tokens: Sequence[Token], index: int, step: int) -> int | None:
    """The index of the square bracket that matches the one at ``index``, searched forwards or, by step -1, backwards.

    None if there is none.
    """
    depth, place = 0, index
    while 0 <= place < len(tokens):
        depth += {"[": 1, "]": -1}.get(tokens[place].value, 0)
        if not depth:
            return place
        place += step
    return None


def _for_dimension(tokens: Sequence[Token], index: int, source: Source) -> Suggestion | None:
    """Suggest the name of a dimension for a position or a number: ``int[token]`` for ``int[k]`` and ``int[n]``."""
    found = tokens[index]
    if tokens[0].value not in _WITH_PARAMETERS or found.value not in _DIMENSIONS:
        return None
    place = index - 1
    while place > 1 and tokens[place].value != "[" and tokens[place].value in _IN_DIMENSIONS:
        place -= 1
    if tokens[place].value != "[" or tokens[place - 2].value != ":" or not tokens[place - 1].is_word:
        return None
    name = _DIMENSIONS[found.value]
    return _replacing(f"did you mean `{name}`?", source, found, found, name)


def _for_parameter(tokens: Sequence[Token], index: int, source: Source) -> Suggestion | None:
    """Suggest ``size: int`` for a parameter without a type, or with the type first."""
    found, before = tokens[index], tokens[index - 1]
    if (
        tokens[0].value not in _WITH_PARAMETERS
        or not before.is_word
        or "{" in (token.value for token in tokens[:index])
    ):
        return None
    if found.value in (",", ")", "="):
        help_ = f"every parameter has a type: `{before.value}: int`, or `{before.value}: tokens` for a set of positions"
        return Suggestion((help_,), (Edit(Span(source, before.end_pos, before.end_pos), ": int"),))
    type_is_first = tokens[index - 2].value in ("(", ",") if index > 2 else False
    if found.is_word and before.value in _TYPES and type_is_first:
        typed = f"{found.value}: {before.value}"
        return _replacing(f"a type stands behind the name: `{typed}`", source, before, found, typed)
    return None


def _for_words(tokens: Sequence[Token], index: int, expected: frozenset[str], source: Source) -> Suggestion | None:
    """Suggest what joins two clauses, how a choice is written, or braces around a set."""
    found, before = tokens[index], tokens[index - 1]
    if found.value == "if" and "NAME" in expected:
        return Suggestion(("a choice is an expression: `a if c else b`",))
    if found.value == "if":
        return Suggestion(("a choice within an expression stands in parentheses: `(a if c else b)`",))
    if found.value == "not" and (before.is_word or before.is_number) and tokens[0].value == "pattern":
        return _replacing("`not in` is one word: `k not in {0, 3}`", source, found, found, "not in")
    if found.value == "," and _listed_in_parentheses(tokens, index):
        return Suggestion(("a set stands in braces: `k in {0, 3}`",))
    if (before.is_word or before.is_number) and found.is_word and tokens[0].value == "pattern":
        return Suggestion(("between two clauses stands `and`, `or` or `+`",))
    return None


def _listed_in_parentheses(tokens: Sequence[Token], index: int) -> bool:
    """Whether the comma at ``index`` is in parentheses that follow `in`."""
    depth = 0
    for place in range(index - 1, 0, -1):
        depth += {")": 1, "(": -1}.get(tokens[place].value, 0)
        if depth < 0:
            return tokens[place - 1].value == "in"
    return False


_MOST_ALTERNATIVES = 5  # that a label lists
# One phrase for many terminals. It is used if those in braces would fit, and stands for all that would fit at the end
# of the text beside them.
_PHRASES = (
    ("an expression", {"NAME", "INT", "LPAR"}, "const a ="),
    ("a check", {"PICTURE", "RELATION"}, "test a at n = 1 {"),
    ("a claim", {"RELATION"}, "test a at n = 1 { not"),
    ("an operator", {"AND", "OR", "COMPARATOR"}, "const a = b"),
)

_UNBOUNDED = {"NAME": "a name", "INT": "an integer", "TEXT": '`"""`'}


def misfit(error: UnexpectedToken, declaration: DeclarationTokens, source: Source) -> Diagnostic:
    """The fault of a declaration in which Lark's parser refused the token of ``error``, with a suggestion."""
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
        return _not_a_start(found, span)
    if is_reserved and "NAME" in expected and "INT" not in expected:
        message = f"`{found.value}` is a reserved word and cannot be a name"
        return Diagnostic("reserved-word", message, at(span, "choose another name"))
    message = f"`{_shown(found)}` does not fit here"
    helps, edits = suggestion(words, index, expected, source)
    label = at(span, f"expected {_phrase(expected)}")
    return Diagnostic("syntax", message, label, helps=helps, edits=edits)


def _shown(token: Token) -> str:
    """A token as messages show it: of a picture, only the quotes."""
    return '"""' if token.type == "TEXT" else token.value


def _subject(words: tuple[Token, ...]) -> str:
    """A declaration in words, with its name if it has one, for the start of a message: ``the pattern …``."""
    name = f" `{words[1].value}`" if len(words) > 1 and words[1].is_word and words[0].value != "from" else ""
    return {"from": "the import", "const": "the constant"}.get(words[0].value, f"the {words[0].value}") + name


def _not_a_start(found: Token, span: Span) -> Diagnostic:
    """The fault of a token where a declaration should start."""
    likely = nearest(found.value, vocabulary().starters) if found.is_word else None
    helps, edits = ((f"did you mean `{likely}`?",), (Edit(span, likely),)) if likely else Suggestion()
    if found.value in ("/", "//"):
        helps, edits = ("a comment starts with `#`",), (Edit(span, "#"),)
    if found.value == "import":
        helps = (IMPORT,)
    label = "expected `const`, `pattern`, `attention`, `model`, `test` or `from`"
    return Diagnostic("syntax", f"`{_shown(found)}` starts no declaration", at(span, label), helps=helps, edits=edits)


@cache
def _accepted_after(beginning: str) -> frozenset[str]:
    """The terminals that would fit after the beginning of a declaration, except for the brace that ends it."""
    session = parser().parse_interactive(tuple(tokens(beginning)))
    session.exhaust_lexer()
    return accepted(session) - {"RBRACE"}


def _phrase(expected: frozenset[str]) -> str:
    """The terminals that would fit, in words: ``an expression, a name …``; of more than five the first."""
    rest = set(expected) - {END}
    phrases = []
    for phrase, some, beginning in _PHRASES:
        if some <= rest:
            phrases.append(phrase)
            rest -= _accepted_after(beginning)
    phrases += [phrase for name, phrase in _UNBOUNDED.items() if name in rest]
    known = vocabulary().spellings
    phrases += [f"`{text}`" for text in sorted(text for name in rest for text in known[name])]
    if not phrases:
        return "the end of the declaration"
    if len(phrases) > _MOST_ALTERNATIVES:
        return ", ".join(phrases[:_MOST_ALTERNATIVES]) + " …"
    return listed(phrases)
