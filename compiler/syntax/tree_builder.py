"""Turns Lark's tree of a declaration into nodes of the syntax tree, from the leaves up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

from lark.visitors import Transformer_NonRecursive

from ..diagnostics import Source, Span
from . import tree as t
from .grammar import Token

# What the method of a rule receives: the tokens of the rule, and the nodes made of the rules inside it.
Children: TypeAlias = list[Any]


class TreeBuilder(Transformer_NonRecursive[Token, t.Declaration]):
    """Makes the nodes of one declaration.

    For every rule of ``grammar.lark`` there is a method of the same name, or of the rule's alias. It takes the children
    ``c`` of the rule, in the order of the text, and returns the node.
    """

    def __init__(self, source: Source, documentation: str) -> None:
        super().__init__(visit_tokens=False)
        self.source, self.documentation = source, documentation

    def span(self, children: Children) -> Span:
        """The place of a rule in the text: from its first child to its last."""
        first, last = children[0], children[-1]
        return Span(
            self.source,
            first.start_pos if isinstance(first, Token) else first.span.start,
            last.end_pos if isinstance(last, Token) else last.span.end,
        )

    def identifier(self, token: Token) -> t.Identifier:
        return t.Identifier(token.value, Span(self.source, token.start_pos, token.end_pos))

    # Expressions

    def integer(self, c: Children) -> t.Number:
        return t.Number(int(c[0].value), self.span(c))

    def float_(self, c: Children) -> t.Number:
        return t.Number(float(c[0].value), self.span(c))

    def truth(self, c: Children) -> t.Truth:
        return t.Truth(c[0].value == "true", self.span(c))

    def builtin(self, c: Children) -> t.Builtin:
        return t.Builtin(c[0].value, self.span(c))

    def name(self, c: Children) -> t.Name:
        return t.Name(c[0].value, self.span(c))

    def parenthesized(self, c: Children) -> t.Expression:
        inner: t.Expression = replace(c[1], span=self.span(c))
        return inner

    def call(self, c: Children) -> _Group:
        return _Group(tuple(piece for piece in c if isinstance(piece, t.Argument)), self.span(c))

    def argument(self, c: Children) -> t.Argument:
        keyword = self.identifier(c[0]) if len(c) == 3 else None
        return t.Argument(keyword, c[-1], self.span(c))

    def application(self, c: Children) -> t.Application:
        arguments = c[1].items if len(c) == 2 else ()
        return t.Application(self.identifier(c[0]), arguments, self.span(c))

    def indexed(self, c: Children) -> t.Indexed:
        return t.Indexed(self.identifier(c[0]), _nodes(c), self.span(c))

    def set_literal(self, c: Children) -> t.SetLiteral:
        return t.SetLiteral(_nodes(c), self.span(c))

    def list_literal(self, c: Children) -> t.ListLiteral:
        return t.ListLiteral(_nodes(c), self.span(c))

    def range(self, c: Children) -> t.Range:
        return t.Range(c[0], c[2], c[1].value == "..", self.span(c))

    def junction(self, c: Children) -> t.Junction:
        return t.Junction("and" if c[1].value == "and" else "or", tuple(c[::2]), self.span(c))

    def negation(self, c: Children) -> t.Not:
        return t.Not(c[1], self.span(c))

    def comparison(self, c: Children) -> t.Comparison:
        return t.Comparison(tuple(c[::2]), tuple(sign.value for sign in c[1::2]), self.span(c))

    def arithmetic(self, c: Children) -> t.Arithmetic:
        return t.Arithmetic(tuple(c[::2]), tuple(sign.value for sign in c[1::2]), self.span(c))

    def negative(self, c: Children) -> t.Negative:
        return t.Negative(c[1], self.span(c))

    def power(self, c: Children) -> t.Power:
        return t.Power(c[0], c[2], self.span(c))

    def conditional(self, c: Children) -> t.Conditional:
        return t.Conditional(c[2], c[0], c[4], self.span(c))

    def comprehension(self, c: Children) -> t.Comprehension:
        return t.Comprehension(_function(c[0].value), c[2], self.identifier(c[4]), c[6], self.span(c))

    def function_call(self, c: Children) -> t.FunctionCall:
        return t.FunctionCall(self.identifier(c[0]), _nodes(c), self.span(c))

    # Declarations

    def constant(self, c: Children) -> t.Constant:
        return t.Constant(self.identifier(c[1]), c[3], self.documentation, self.span(c))

    def where(self, c: Children) -> _Group:
        return _Group(tuple(piece for piece in c if isinstance(piece, t.Binding)), self.span(c))

    def binding(self, c: Children) -> t.Binding:
        return t.Binding(self.identifier(c[0]), c[2], self.span(c))

    field = size = setting = binding

    def pattern(self, c: Children) -> t.Pattern:
        parameters, rest = (c[2].items, c[4:]) if isinstance(c[2], _Group) else ((), c[3:])
        local = rest[1].items if len(rest) == 2 else ()
        return t.Pattern(self.identifier(c[1]), parameters, rest[0], local, self.documentation, self.span(c))

    def attention(self, c: Children) -> t.Attention:
        parameters = c[2].items if isinstance(c[2], _Group) else ()
        fields = tuple(piece for piece in c if isinstance(piece, t.Binding))
        local = c[-2].items if isinstance(c[-2], _Group) else ()
        return t.Attention(self.identifier(c[1]), parameters, fields, local, self.documentation, self.span(c))

    def model(self, c: Children) -> t.Model:
        parameters = c[2].items if isinstance(c[2], _Group) else ()
        fields = tuple(piece for piece in c if isinstance(piece, t.Binding))
        rules = tuple(piece for piece in c if isinstance(piece, t.LayerRule))
        return t.Model(self.identifier(c[1]), parameters, fields, rules, self.documentation, self.span(c))

    def layer_rule(self, c: Children) -> t.LayerRule:
        return t.LayerRule(c[1], c[3], self.span(c))

    def layer_block(self, c: Children) -> t.LayerRule:
        return t.LayerRule(c[1], tuple(p for p in c if isinstance(p, t.HeadRule)), self.span(c))

    def head_rule(self, c: Children) -> t.HeadRule:
        return t.HeadRule(c[1], c[3], self.span(c))

    def selector(self, c: Children) -> t.Selector:
        items = None if isinstance(c[0], Token) else tuple(c[::2])
        return t.Selector(items, self.span(c))

    def selector_item(self, c: Children) -> t.SelectorItem:
        if len(c) == 1:
            return t.SelectorItem(c[0], None, True, self.span(c))
        return t.SelectorItem(c[0], c[2], c[1].value == "..", self.span(c))

    def parameters(self, c: Children) -> _Group:
        return _Group(tuple(piece for piece in c if isinstance(piece, t.Parameter)), self.span(c))

    def parameter(self, c: Children) -> t.Parameter:
        return t.Parameter(self.identifier(c[0]), c[2], c[4] if len(c) == 5 else None, self.span(c))

    def type(self, c: Children) -> t.TypeName:
        dimensions = None if len(c) == 1 else tuple(p for p in c if isinstance(p, t.Dimension))
        return t.TypeName(self.identifier(c[0]), dimensions, self.span(c))

    def dimension(self, c: Children) -> t.Dimension:
        value = int(c[0].value) if c[0].is_number else c[0].value
        return t.Dimension(value, self.span(c))

    def import_(self, c: Children) -> t.Import:
        names = tuple(piece for piece in c if isinstance(piece, t.ImportedName))
        return t.Import(c[1].items, names, Span(self.source, c[0].start_pos, names[-1].alias.span.end))

    def module(self, c: Children) -> _Group:
        return _Group(tuple(self.identifier(token) for token in c[::2]), self.span(c))

    def imported(self, c: Children) -> t.ImportedName:
        return t.ImportedName(self.identifier(c[0]), self.identifier(c[-1]))

    def test(self, c: Children) -> t.Test:
        settings = tuple(p for p in c if isinstance(p, t.Binding)) if c[2].value == "at" else None
        checks = tuple(p for p in c if isinstance(p, t.Claim | t.Picture | t.Line | t.Pairs))
        return t.Test(c[1], settings, checks, self.span(c))

    def claim(self, c: Children) -> t.Claim:
        negated = c[0].value == "not"
        kind = [piece.value for piece in c[negated:] if isinstance(piece, Token)]
        operand = None if isinstance(c[-1], Token) else c[-1]
        return t.Claim(" ".join(kind), operand, negated, self.span(c))

    def picture(self, c: Children) -> t.Picture:
        inside = Span(self.source, c[1].start_pos + 3, c[1].end_pos - 3)
        return t.Picture(c[1].value[3:-3], inside, self.span(c))

    def line(self, c: Children) -> t.Line:
        return t.Line("row" if c[0].value == "row" else "column", c[1], c[3], self.span(c))

    def pairs(self, c: Children) -> t.Pairs:
        return t.Pairs(c[2], self.span(c))


class _Group:
    """The nodes between brackets, or after a `where`, for the rule around them: no node of the syntax tree."""

    def __init__(self, items: tuple[Any, ...], span: Span) -> None:
        self.items, self.span = items, span


def _nodes(c: Children) -> tuple[t.Expression, ...]:
    """The children that are nodes, without the tokens between them."""
    return tuple(piece for piece in c if not isinstance(piece, Token))


def _function(word: str) -> Any:
    """``any``, ``all`` or ``sum``, of the type that the node asks for."""
    return word
