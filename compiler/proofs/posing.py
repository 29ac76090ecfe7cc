"""Makes the question of a claim: its masks in canonical form, with what is known of their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ir import (
    FALSE,
    TRUE,
    Apply,
    Const,
    Entry,
    Expr,
    K,
    Literal_,
    Member,
    Q,
    Table,
    choose,
    constructors,
    disjunction,
    equal,
    less_equal,
    transform,
)
from .canonical import canonical, implies, mirrored
from .questions import Kind, Question, ReaderQuestion

_MOST_SPELLED = 64  # entries or members of a table that the text gives, which a question spells out


class ContradictionError(ValueError):
    """Tables that a text gives ask for different lengths or numbers of heads: no call has them all."""


def question(kind: Kind, mask: Expr, other: Expr | None, tables: Sequence[Table], heads: int | None = None) -> Question:
    """The question of a claim, for every length, or those that the tables with a value allow.

    ``mask`` and ``other`` are conditions, and for ``equals`` may be counts. Raises ContradictionError.
    """
    given, n, heads = _given(tables, heads)
    orders = [table for table in tables if table.element == "order"]
    leading = {table.name: table.dimensions[:-1] for table in orders}
    here, there = canonical(_spelled(mask, given)), None if other is None else canonical(_spelled(other, given))
    if kind == "equals" and there is not None:
        here, there = _without_common(here, there)
    return Question(
        kind,
        here,
        there,
        heads,
        n,
        tuple(leading),
        tuple(name for name, kinds in leading.items() if all(dimension.kind == "head" for dimension in kinds)),
    )


def reader_question(mask: Expr, tables: Sequence[Table], heads: int | None = None) -> ReaderQuestion:
    """The question which row is the last to read each key of a condition. Raises ContradictionError."""
    given, n, heads = _given(tables, heads)
    orders = tuple(table.name for table in tables if table.element == "order")
    return ReaderQuestion(canonical(_spelled(mask, given)), heads, n, orders)


def _given(tables: Sequence[Table], heads: int | None) -> tuple[dict[str, Table], int | None, int | None]:
    """The tables whose contents the text gives, and the only length and number of heads that these allow."""
    given = {table.name: table for table in tables if table.value is not None}
    lengths = {len(level) for table in given.values() for what, level in _levels(table) if what in ("token", "query")}
    counts = {len(level) for table in given.values() for what, level in _levels(table) if what == "head"}
    counts |= set() if heads is None else {heads}
    if len(lengths) > 1 or len(counts) > 1 or 0 in lengths | counts:
        raise ContradictionError("the tables that the test gives fit no call together")
    return given, next(iter(lengths), None), next(iter(counts), None)


def _levels(table: Table) -> list[tuple[str, tuple[Literal_, ...]]]:
    """The kind of each dimension of a table with a value, with the first list at its depth."""
    found: list[tuple[str, tuple[Literal_, ...]]] = []
    level = table.value
    for dimension in table.dimensions:
        if not isinstance(level, tuple):
            break
        found.append((dimension.kind, level))
        if not level:
            break
        level = level[0]
    return found


def _spelled(expr: Expr, given: Mapping[str, Table]) -> Expr:
    """The same with the contents of the tables that the text gives, where these are few, in place of their reads.

    Floats stay reads: their dtype is that of a tensor.
    """

    def contents(node: Expr) -> Expr:
        if isinstance(node, Entry | Member) and node.table in given and node.type != "float":
            value = given[node.table].value
            if value is not None and _size(value) <= _MOST_SPELLED:
                return _read(node, value, node.indices)
        return node

    return transform(expr, contents) if given else expr


def _size(value: Literal_) -> int:
    """How many numbers a literal holds."""
    if isinstance(value, tuple):
        return sum(map(_size, value))
    return len(value) if isinstance(value, frozenset) else 1


def _read(node: Entry | Member, value: Literal_, indices: tuple[Expr, ...]) -> Expr:
    """What a read of a literal gives: a choice by each index; 0 or false outside, as everywhere."""
    if isinstance(value, tuple):
        found: Expr = Const(0) if node.type == "int" else FALSE
        for place, part in enumerate(value):
            found = choose(equal(indices[0], Const(place)), _read(node, part, indices[1:]), found)
        return found
    if isinstance(node, Member):
        assert isinstance(value, frozenset)
        return disjunction(*(equal(node.element, Const(member)) for member in sorted(value) if member >= 0))
    assert isinstance(value, bool | int)
    return Const(value)


def _without_common(mask: Expr, other: Expr) -> tuple[Expr, Expr]:
    """Two masks without the parts that both count: they differ where these do."""
    rests = [[*expr.args] if isinstance(expr, Apply) and expr.op == "plus" else [expr] for expr in (mask, other)]
    for part in [*rests[0]]:
        if part in rests[1]:
            rests[0].remove(part)
            rests[1].remove(part)
    here, there = (_counted(rest, alone=not against) for rest, against in (rests, rests[::-1]))
    return here, there


def _counted(parts: list[Expr], alone: bool) -> Expr:
    """The count of some parts; ``alone``, compared with a mask that keeps nothing, whether one of them holds."""
    if alone and all(part.type == "bool" for part in parts):
        return canonical(disjunction(*parts))
    return canonical(constructors.plus(*parts))


def holds_by_form(asked: Question) -> bool:
    """Whether the forms of the masks alone show that a claim holds: they are the same, or one contains the other."""
    mask, other = asked.mask, asked.other
    match asked.kind:
        case "causal":
            return implies(mask, canonical(less_equal(K, Q)))
        case "symmetric":
            return mirrored(mask) == mask
        case "diagonal":
            return canonical(constructors.substitute(mask, {K: Q})) == TRUE
        case "rows nonempty" | "columns nonempty":
            return canonical(constructors.substitute(mask, {K: Q})) == TRUE
    assert other is not None
    match asked.kind:
        case "within":
            return implies(mask, other)
        case "contains":
            return implies(other, mask)
        case "equals":
            return mask == other
    return implies(mask, constructors.negation(other)) or _meets_nothing(mask, other)  # disjoint


def _meets_nothing(mask: Expr, other: Expr) -> bool:
    """Whether a part of one conjunction is the opposite of a part of the other."""
    parts = [set(expr.args if isinstance(expr, Apply) and expr.op == "and" else (expr,)) for expr in (mask, other)]
    return any(constructors.negation(part) in parts[1] for part in parts[0])
