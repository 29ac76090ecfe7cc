"""Parses a text: Lark's parser reads one declaration after the other, and the tree builder makes their nodes."""

from __future__ import annotations

from typing import cast

from lark import Tree
from lark.exceptions import UnexpectedToken

from ..diagnostics import NESTING, Diagnostic, ErrorCollector, Source, Span, at, nearest
from . import tree as t
from .grammar import Token, parser, vocabulary
from .lexer import DeclarationTokens, declaration_tokens
from .syntax_errors import misfit
from .tree_builder import TreeBuilder

_SEARCHED_TOKENS = 64  # of a declaration with a fault, for the names that it was meant to declare


def parse(source: Source, reports: ErrorCollector) -> t.Tree:
    """Parse the declarations of a text; one with a fault is left out, and the fault is added to ``reports``.

    Raises AttnError for a text past the limits of :func:`.lexer.declaration_tokens`.
    """
    declarations: list[t.Declaration] = []
    broken: set[str] = set()
    for tokens in declaration_tokens(source, reports.add):
        declaration = _declaration(tokens, source, reports) if tokens.parsable else None
        if declaration is None:
            broken |= _names(tokens, reports.full)
        else:
            declarations.append(declaration)
    return t.Tree(source, tuple(declarations), frozenset(broken))


def parse_tokens(declaration: DeclarationTokens) -> Tree[Token]:
    """Parse one declaration into Lark's tree of rules and tokens. Raises UnexpectedToken where a token does not fit."""
    return cast("Tree[Token]", parser().parse(declaration.tokens))


def _names(declaration: DeclarationTokens, starts_only: bool) -> set[str]:
    """The names that a declaration with a fault was meant to declare.

    Unless ``starts_only``, also the names behind words inside it that look like a misspelt start of a declaration.
    """
    tokens, starters = declaration.tokens, vocabulary().starters
    if tokens[0].value == "from":
        return {token.value for token in tokens if token.is_word}
    near = tokens[: 1 if starts_only else _SEARCHED_TOKENS]
    starts = [i for i, token in enumerate(near) if i == 0 or (token.is_word and nearest(token.value, starters))]
    return {tokens[i + 1].value for i in starts if i + 1 < len(tokens) and tokens[i + 1].is_word}


def _declaration(tokens: DeclarationTokens, source: Source, reports: ErrorCollector) -> t.Declaration | None:
    """Parse one declaration; None after reporting its fault."""
    try:
        parsed = parse_tokens(tokens)
    except UnexpectedToken as error:
        reports.add(_bare_fault(error, tokens, source) if reports.full else misfit(error, tokens, source))
        return None
    declaration = TreeBuilder(source, tokens.documentation).transform(parsed)
    deep = _nested_too_deep(declaration)
    if deep is not None:
        message = f"operators are nested deeper than {NESTING}, the most that a text may have"
        helps = ("name a part of it in a `where`",)
        reports.add(Diagnostic("too-deep", message, at(deep), helps=helps))
        return None
    return declaration


def _bare_fault(error: UnexpectedToken, tokens: DeclarationTokens, source: Source) -> Diagnostic:
    """A fault without words, for a collector that is full: it counts faults by their places, and shows no more."""
    token = error.token if isinstance(error.token, Token) else tokens.tokens[-1]
    return Diagnostic("syntax", "", at(Span(source, token.start_pos, token.end_pos)))


def _nested_too_deep(declaration: t.Declaration) -> Span | None:
    """The place of an expression that is nested deeper than the limit; None if there is none."""
    level = t.roots(declaration)
    for _ in range(NESTING):
        level = tuple([part for node in level for part in t.parts(node)])
        if not level:
            return None
    return level[0].span if level else None
