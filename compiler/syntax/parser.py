"""Text to tree: Lark's parser reads one declaration after the other, and the tree builder makes their nodes."""

from __future__ import annotations

from typing import cast

from lark import Tree
from lark.exceptions import UnexpectedToken

from ..diagnostics import NESTING, Diagnostic, ErrorCollector, Source, Span, at, nearest
from . import tree as t
from .grammar import Token, parser, vocabulary
from .lexer import DeclarationTokens, segments
from .syntax_errors import misfit
from .tree_builder import TreeBuilder

_LOOKED_AT = 64  # tokens of a broken declaration, for what it would have declared


def parse(source: Source, reports: ErrorCollector) -> t.Tree:
    """The declarations that the text holds; each that has a fault is left out, and the fault is in ``reports``.

    Raises AttnError where the text is past a limit.
    """
    found: list[t.Declaration] = []
    broken: set[str] = set()
    for tokens in segments(source, reports.add):
        declaration = _declaration(tokens, source, reports) if tokens.whole else None
        if declaration is None:
            broken |= _names(tokens, reports.full)
        else:
            found.append(declaration)
    return t.Tree(source, tuple(found), frozenset(broken))


def parse_tokens(declaration: DeclarationTokens) -> Tree[Token]:
    """Lark's tree of one declaration: the rules, and all tokens. Raises UnexpectedToken where one does not fit."""
    return cast("Tree[Token]", parser().parse(declaration.tokens))


def _names(declaration: DeclarationTokens, starts_only: bool) -> set[str]:
    """The names that a declaration, which could not be read, would have declared; also those after a misspelt word
    that may have been meant to start another, unless ``starts_only``.
    """
    tokens, starters = declaration.tokens, vocabulary().starters
    if tokens[0].value == "from":
        return {token.value for token in tokens if token.is_word}
    near = tokens[: 1 if starts_only else _LOOKED_AT]
    starts = [i for i, token in enumerate(near) if i == 0 or (token.is_word and nearest(token.value, starters))]
    return {tokens[i + 1].value for i in starts if i + 1 < len(tokens) and tokens[i + 1].is_word}


def _declaration(tokens: DeclarationTokens, source: Source, reports: ErrorCollector) -> t.Declaration | None:
    """The tree of one declaration; None after reporting its fault."""
    try:
        parsed = parse_tokens(tokens)
    except UnexpectedToken as error:
        reports.add(_counted(error, tokens, source) if reports.full else misfit(error, tokens, source))
        return None
    declaration = TreeBuilder(source, tokens.documentation).transform(parsed)
    deep = _too_deep(declaration)
    if deep is not None:
        message = f"operators are nested deeper than {NESTING}, the most that a text may have"
        helps = ("name a part of it in a `where`",)
        reports.add(Diagnostic("too-deep", message, at(deep), helps=helps))
        return None
    return declaration


def _counted(error: UnexpectedToken, tokens: DeclarationTokens, source: Source) -> Diagnostic:
    """A fault that is counted, and not shown: only its place matters."""
    token = error.token if isinstance(error.token, Token) else tokens.tokens[-1]
    return Diagnostic("syntax", "", at(Span(source, token.start_pos, token.end_pos)))


def _too_deep(declaration: t.Declaration) -> Span | None:
    """Where an expression of the declaration is nested beyond the limit."""
    level = t.roots(declaration)
    for _ in range(NESTING):
        level = tuple([part for node in level for part in t.parts(node)])
        if not level:
            return None
    return level[0].span if level else None
