"""Layout rules, one per rule of the grammar: from Lark's tree of a declaration, and its comments, to a document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeAlias

from lark import Tree

from ..syntax import Token
from .document import (
    HARD,
    LINE,
    NOTHING,
    SOFT,
    SPACE,
    Comment,
    Document,
    Either,
    Gap,
    Group,
    Nest,
    Remarks,
    ends,
    flat_width,
    opens,
    row,
)
from .document import Word as Printed

Branch: TypeAlias = Tree[Token]
Piece: TypeAlias = Branch | Token

BETWEEN = "   "  # separates the entries of a block on one line
_CHAINS = frozenset({"junction", "comparison", "arithmetic", "conditional", "negation"})
_PLAIN = frozenset({"integer", "float_", "truth", "name", "builtin", "negative", "range"})
_LITERALS = frozenset({"set_literal", "list_literal"})
_LOOSE = frozenset({"arithmetic", "power"})
_MAY_END_IN_COMMA = frozenset({"parameters", "call", "set_literal", "list_literal"})
_ALIGNED = frozenset({"field", "size", "layer_rule", "head_rule", "line"})


@dataclass(frozen=True)
class Surroundings:
    """Comments and line ends around the tokens of a text, keyed by the token's offset.

    ``above`` and ``apart`` are keyed by its start, ``behind`` and ``last_on_line`` by its end.
    """

    above: Mapping[int, tuple[Comment, ...]]  # comments on the lines above the token
    apart: frozenset[int]  # tokens with a blank line above, between them and a comment or token
    behind: Mapping[int, str]  # comments on the rest of the line
    last_on_line: frozenset[int]  # tokens after which the line ends


class Layout:
    """Makes the declarations of one text into documents. A rule of the grammar without a method is words in a row."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self.begins = 0  # the offset at which the declaration begins
        self.made: dict[int, Document] = {}

    def declaration(self, raw: Branch) -> Document:
        """The document of a declaration. The comments above it are left to the caller."""
        self.begins = self.first(raw).start_pos
        order: list[Branch] = []
        stack = [raw]
        while stack:
            node = stack.pop()
            order.append(node)
            stack.extend(child for child in node.children if isinstance(child, Tree))
        self.made = {}
        for node in reversed(order):
            rule: Callable[[list[Piece]], Document] = getattr(self, node.data, self.in_a_row)
            self.made[id(node)] = rule(node.children)
        return self.made[id(raw)]

    # Words

    def of(self, piece: Piece) -> Document:
        """The document of a token, or of a subtree that is laid out already."""
        return self.word(piece) if isinstance(piece, Token) else self.made[id(piece)]

    def word(self, token: Token) -> Printed:
        above = self.around.above.get(token.start_pos, ()) if token.start_pos != self.begins else ()
        behind = self.around.behind.get(token.end_pos, "")
        return Printed(token.value, above, token.start_pos in self.around.apart, behind)

    def first(self, piece: Piece) -> Token:
        while isinstance(piece, Tree):
            piece = piece.children[0]
        return piece

    def in_a_row(self, c: list[Piece]) -> Document:
        """Words with a space between them; the layout of rules that have no method."""
        return row(*_joined(map(self.of, c), SPACE))

    def tight(self, c: list[Piece]) -> Document:
        return row(*map(self.of, c))

    module = negative = tight

    def operand(self, piece: Piece) -> Document:
        """An operand. If it is itself a chain of operators, its further lines are indented."""
        return Nest(self.of(piece)) if _kind(piece) in _CHAINS else self.of(piece)

    # Operators: lines break before them; if a chain breaks, it does so before every operator

    def chain(self, c: list[Piece]) -> Document:
        parts: list[Document] = [self.operand(c[0])]
        for sign, piece in zip(c[1::2], c[2::2], strict=True):
            parts += [LINE, self.of(sign), SPACE, self.operand(piece)]
        return Group(row(*parts))

    junction = comparison = arithmetic = chain

    def negation(self, c: list[Piece]) -> Document:
        return row(self.of(c[0]), SPACE, self.operand(c[1]))

    def conditional(self, c: list[Piece]) -> Document:
        then, if_, condition, else_, otherwise = map(self.operand, c)
        if _kind(c[4]) == "conditional":
            inner = self.of(c[4])
            otherwise = inner.body if isinstance(inner, Group) else inner
        return Group(row(Group(row(then, Nest(row(LINE, if_, SPACE, condition)))), LINE, else_, SPACE, otherwise))

    def power(self, c: list[Piece]) -> Document:
        return row(*_joined(map(self.operand, c), SPACE))

    def range(self, c: list[Piece]) -> Document:
        """A range: ``0..7``, but with spaces, ``q - 1 .. q + 1``, where a bound is arithmetic."""
        parts = [self.operand(piece) for piece in c]
        loose = any(_kind(piece) in _LOOSE for piece in c)
        return row(*_joined(parts, SPACE)) if loose else row(*parts)

    selector_item = range

    # Brackets

    def bracketed(self, opener: Token, inside: Document, closer: Token) -> Document:
        """Brackets around a document: all on one line, or the document indented on lines between the brackets."""
        end = self.word(closer)
        nested = Nest(row(SOFT, inside, Remarks(end.before)))
        return Group(row(self.word(opener), nested, SOFT, replace(end, before=())))

    def listed(self, c: list[Piece], comma_may_end: bool, filled: bool = False) -> Document:
        """Items between brackets, all on one line or each on its own, then (``comma_may_end``) with a comma at the end.

        ``filled``: as many on each line as fit, without that comma.
        """
        opener, *inner, closer = c
        assert isinstance(opener, Token)
        assert isinstance(closer, Token)
        if not inner:
            return self.bracketed(opener, NOTHING, closer) if self.word(closer).before else self.tight(c)
        last = inner[-1]
        comma: Document = NOTHING
        if isinstance(last, Token) and last.value == ",":
            inner.pop()
            kept = self.word(last)
            if kept.before or kept.after:
                comma, comma_may_end = kept, False
        items = [self.of(piece) for piece in inner[::2]]
        start, end = self.word(opener), self.word(closer)
        remarks = start.after or opens(items[0]) or ends(items[0]) or end.before or comma is not NOTHING
        if len(items) == 1 and _kind(inner[0]) in _LITERALS and not remarks:
            return row(start, items[0], end)
        commas = [self.word(piece) for piece in inner[1::2] if isinstance(piece, Token)]
        if filled:
            body = _fill(items, commas)
        else:
            own = Either(broken=",") if comma_may_end and not ends(items[-1]) else NOTHING
            body = Group(row(_spread(items, commas), own))
        return self.bracketed(opener, row(body, comma), closer)

    def parameters(self, c: list[Piece]) -> Document:
        return self.listed(c, comma_may_end=True)

    call = parameters

    def literal(self, c: list[Piece]) -> Document:
        plain = all(_kind(piece) in _PLAIN for piece in c[1:-1] if isinstance(piece, Tree))
        return self.listed(c, comma_may_end=True, filled=plain)

    set_literal = list_literal = literal

    def parenthesized(self, c: list[Piece]) -> Document:
        return self.listed(c, comma_may_end=False)

    def function_call(self, c: list[Piece]) -> Document:
        return row(self.of(c[0]), self.listed(c[1:], comma_may_end=False))

    indexed = function_call

    def type(self, c: list[Piece]) -> Document:
        return self.of(c[0]) if len(c) == 1 else self.function_call(c)

    def application(self, c: list[Piece]) -> Document:
        return self.tight(c)

    def comprehension(self, c: list[Piece]) -> Document:
        fold, opener, body, for_, name, in_, domain, closer = c
        assert isinstance(opener, Token)
        assert isinstance(closer, Token)
        over = row(*_joined(map(self.of, (for_, name, in_, domain)), SPACE))
        return row(self.of(fold), self.bracketed(opener, row(self.operand(body), LINE, over), closer))

    # Parts of declarations

    def parameter(self, c: list[Piece]) -> Document:
        name, colon, *rest = map(self.of, c)
        return row(name, colon, SPACE, *_joined(rest, SPACE))

    def argument(self, c: list[Piece]) -> Document:
        return self.of(c[0]) if len(c) == 1 else row(*_joined(map(self.operand, c), SPACE))

    setting = argument

    def value(self, sign: Document, piece: Piece, *more: Document) -> Document:
        """``= value``. A value that does not fit goes on the next line; a literal breaks in its brackets instead."""
        if _kind(piece) in _LITERALS and not more and not opens(self.of(piece)):
            return row(sign, SPACE, self.of(piece))
        return Group(row(sign, Nest(row(LINE, self.of(piece), *more))))

    def assigned(self, c: list[Piece]) -> Document:
        return row(*_joined(map(self.of, c[:-2]), SPACE), SPACE, self.value(self.of(c[-2]), c[-1]))

    constant = binding = assigned

    def commas(self, pieces: Sequence[Piece]) -> Document:
        """Items with commas but without brackets, filling each line."""
        return _fill([self.of(piece) for piece in pieces[::2]], [self.of(piece) for piece in pieces[1::2]])

    def selector(self, c: list[Piece]) -> Document:
        return Nest(self.commas(c))

    def where(self, c: list[Piece]) -> Document:
        bindings = _spread([self.of(piece) for piece in c[1::2]], [self.of(piece) for piece in c[2::2]])
        return Group(row(self.of(c[0]), Nest(row(LINE, bindings))))

    # Declarations

    def pattern(self, c: list[Piece]) -> Document:
        where: tuple[Document, ...] = ()
        if _kind(c[-1]) == "where":
            where = (LINE, self.of(c[-1]))
            c = c[:-1]
        name = row(self.of(c[0]), SPACE, *map(self.of, c[1:-2]))
        return row(name, SPACE, self.value(self.of(c[-2]), c[-1], *where))

    def block(self, c: list[Piece]) -> Document:
        """Entries between braces: on one line if they fit and the text has them so, else each on a line of its own."""
        opener, *entries, closer = c
        assert isinstance(opener, Token)
        assert isinstance(closer, Token)
        end = self.word(closer)
        if not entries and not end.before:
            return self.tight(c)
        spread = opener.end_pos in self.around.last_on_line
        inside: list[Document] = []
        for number, (entry, made) in enumerate(zip(entries, self.aligned(entries), strict=True)):
            gap = BETWEEN if number else " "
            inside += [self.gap(gap, entry, spread), made]
        last = HARD if spread else LINE
        return Group(row(self.word(opener), Nest(row(*inside, Remarks(end.before))), last, replace(end, before=())))

    def gap(self, flat: str, entry: Piece, spread: bool) -> Gap:
        start = self.first(entry).start_pos
        apart = start in self.around.apart and start not in self.around.above
        return Gap(flat, "always" if spread else "with its group", apart)

    def aligned(self, entries: list[Piece]) -> list[Document]:
        """The entries of a block, with the signs ``=`` and ``==`` of neighbours of one kind aligned in a column."""
        made: list[Document] = []
        section = 0
        numbered: list[tuple[int, Piece]] = []
        for entry in entries:
            section += self.first(entry).start_pos in self.around.apart
            numbered.append((section, entry))
        for (_, kind), run in groupby(numbered, key=lambda pair: (pair[0], _kind(pair[1]))):
            pieces = [piece for _, piece in run if isinstance(piece, Tree)]
            if kind not in _ALIGNED:
                made += map(self.of, pieces)
                continue
            heads = [self.head(piece) for piece in pieces]
            widths = [flat_width(row(replace(first, before=()), *rest)) for first, *rest in heads]
            widest = max((width for width in widths if width is not None), default=0)
            for piece, head, width in zip(pieces, heads, widths, strict=True):
                pad = Either(broken=" " * (widest - width)) if width is not None else NOTHING
                made.append(row(*head, pad, SPACE, self.value(self.of(piece.children[-2]), piece.children[-1])))
        return made

    def head(self, entry: Branch) -> list[Any]:
        """The words before the sign of an entry, with gaps between them; the first is a word."""
        return _joined(map(self.of, entry.children[:-2]), SPACE)

    field = size = layer_rule = head_rule = line = pairs = assigned

    def attention(self, c: list[Piece]) -> Document:
        brace = next(i for i, piece in enumerate(c) if isinstance(piece, Token) and piece.value == "{")
        name = row(self.of(c[0]), SPACE, *map(self.of, c[1:brace]))
        return row(name, SPACE, self.block(c[brace:]))

    model = attention

    def layer_block(self, c: list[Piece]) -> Document:
        return row(self.of(c[0]), SPACE, self.of(c[1]), SPACE, self.block(c[2:]))

    def test(self, c: list[Piece]) -> Document:
        brace = next(i for i, piece in enumerate(c) if isinstance(piece, Token) and piece.value == "{")
        if isinstance(c[2], Token) and c[2].value == "at":
            header = row(*_joined(map(self.of, c[:3]), SPACE), SPACE, Nest(self.commas(c[3:brace])))
        else:
            header = row(*_joined(map(self.of, c[:brace]), SPACE))
        return row(header, SPACE, self.block(c[brace:]))

    def claim(self, c: list[Piece]) -> Document:
        return row(*_joined(map(self.operand, c), SPACE))

    def picture(self, c: list[Piece]) -> Document:
        """A picture, its rows indented below the opening quotes. A blank line between rows stays."""
        word, text = c
        assert isinstance(text, Token)
        around = self.word(text)
        rows: list[Document] = []
        apart = False
        for line in (line.strip() for line in text.value[3:-3].splitlines()):
            if line:
                rows += [Gap("", "always", apart and bool(rows)), Printed(line)]
            apart = not line
        opening = Printed('"""', around.before, around.apart)
        return row(self.of(word), SPACE, opening, Nest(row(*rows)), HARD, Printed('"""', after=around.after))

    def import_(self, c: list[Piece]) -> Document:
        return row(*_joined(map(self.of, c[:3]), SPACE), SPACE, Nest(self.commas(c[3:])))


def _kind(piece: Piece) -> str:
    return piece.data if isinstance(piece, Tree) else ""


def _joined(parts: Iterable[Document], gap: Gap) -> list[Document]:
    """The parts, with a gap between neighbours."""
    several = list(parts)
    return [piece for part in several[:-1] for piece in (part, gap)] + several[-1:]


def _spread(items: list[Document], commas: Sequence[Document]) -> Document:
    """Items with commas: all on one line, or each on its own."""
    return row(*(part for item, sign in zip(items, commas, strict=False) for part in (item, sign, LINE)), items[-1])


def _fill(items: list[Document], commas: Sequence[Document]) -> Document:
    """Items with commas, filling each line."""
    parts = [row(item, comma) for item, comma in zip(items, commas, strict=False)] + items[len(commas) :]
    return row(parts[0], *(Group(row(LINE, part)) for part in parts[1:]))
