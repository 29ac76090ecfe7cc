"""The statements of a kernel's loops over tiles: score, mask and slopes as lines of Triton, ready for the templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ...ir import LOGIT, ONE, TRUE, Apply, Const, Expr, Logit, derivative, walk
from .. import Code, Statement, lower
from .dialect import Place, TritonDialect
from .sites import Site


@dataclass(frozen=True)
class SiteLines:
    """A site as the templates take it. ``slope`` None is 1; ``steady``: the slope is a constant, finite everywhere."""

    number: int
    table: int
    slope: Code | None
    steady: bool
    block: bool
    column: bool
    pair: bool
    offset: Code | None = None
    inside: Code | None = None
    statements: tuple[Code, ...] = ()  # what ``offset`` and ``inside`` need


@dataclass(frozen=True)
class Body:
    """``outer`` runs once before the inner loop, ``inner`` for every tile, ``mask`` on partial tiles after it.

    ``plain``: the score is the logit itself. ``flat``: it may lack an axis of the tile. ``keep`` None keeps every pair,
    ``count`` None counts it once, ``slope`` None is 1; ``steady``: the slope is a constant.
    """

    outer: tuple[Code, ...]
    inner: tuple[Code, ...]
    mask: tuple[Code, ...]
    score: Code
    plain: bool
    flat: bool
    keep: Code | None
    count: Code | None
    slope: Code | None
    steady: bool
    sites: tuple[SiteLines, ...]


def make_body(
    score: Expr,
    condition: Expr,
    dialect: TritonDialect,
    outer: Literal["q", "k"],
    sites: Sequence[Site],
    slopes: bool,
    prefix: str = "t",
) -> Body:
    """The lines for a loop whose ``outer`` position is fixed; with ``slopes`` the derivatives that a backward needs."""
    sites = [site for site in sites if not site.sink]
    pairs = [site for site in sites if site.level == "pair"]
    slope = derivative(score, LOGIT)
    roots = [score]
    if slopes:
        roots += [slope, *(site.slope for site in sites), *(index for site in pairs for index in site.indices)]
    always = lower(roots, dialect, prefix)
    everything = lower([*roots, condition], dialect, prefix)
    hoisted, inner, mask = _split(everything.statements, len(always.statements), outer)
    lines: list[SiteLines] = []
    if slopes:
        texts = iter(always.results[2 + len(sites) :])
        for site, text in zip(sites, always.results[2:], strict=False):
            place = None
            if site.level == "pair":
                place = dialect.place(site.table, tuple(next(texts) for _ in site.indices))
            lines.append(site_lines(site, text, place))
    keep, count = _condition(condition, everything.results[-1])
    return Body(
        hoisted,
        inner,
        mask,
        Code(always.results[0]),
        score == LOGIT,
        not any(isinstance(node, Logit) for node in walk(score)),
        keep,
        count,
        None if not slopes or slope == ONE else Code(always.results[1]),
        isinstance(slope, Const),
        tuple(lines),
    )


def make_condition(where: Expr, dialect: TritonDialect) -> tuple[tuple[Code, ...], Code | None]:
    """What tells the rows that a kernel speaks for, in one dimension: statements and a condition, None for all."""
    if where == TRUE:
        return (), None
    lowered = lower([where], dialect, prefix="w")
    return written(lowered.statements), Code(lowered.results[0])


def site_lines(site: Site, slope: str, place: Place | None, statements: Iterable[Statement] = ()) -> SiteLines:
    return SiteLines(
        site.number,
        site.table,
        None if site.slope == ONE else Code(slope),
        isinstance(site.slope, Const),
        site.level == "block",
        site.level == "column",
        site.level == "pair",
        None if place is None else Code(place.offset),
        None if place is None or place.inside is None else Code(place.inside),
        written(statements),
    )


def stored_site(site: Site, slope: str, dialect: TritonDialect) -> SiteLines:
    """A site whose place is looked up once, after the loop, with positions in one dimension."""
    lowered = lower(site.indices, dialect, prefix=f"i{site.number}_")
    return site_lines(site, slope, dialect.place(site.table, lowered.results), lowered.statements)


def written(statements: Iterable[Statement]) -> tuple[Code, ...]:
    return tuple(Code(f"{statement.name} = {_right_side(statement)}") for statement in statements)


def _right_side(statement: Statement) -> str:
    """A condition on scalars is joined to a true constant: Triton's interpreter gives a comparison the type of what it
    compares, and would make numbers of it where it meets a block of conditions. A compiler folds this away."""
    scalar = statement.type == "bool" and not statement.depends
    return f"True & ({statement.text})" if scalar else statement.text


def _split(
    statements: Sequence[Statement], always: int, outer: str
) -> tuple[tuple[Code, ...], tuple[Code, ...], tuple[Code, ...]]:
    """Statements before the inner loop, in it, and in it on partial tiles alone."""
    fixed = frozenset((outer,))
    hoisted = written(s for s in statements if s.depends <= fixed)
    inner = written(s for s in statements[:always] if not s.depends <= fixed)
    mask = written(s for s in statements[always:] if not s.depends <= fixed)
    return hoisted, inner, mask


def _condition(condition: Expr, text: str) -> tuple[Code | None, Code | None]:
    """What keeps a pair, and how often it counts."""
    if condition == TRUE:
        return None, None
    if isinstance(condition, Const):
        return Code("k < 0"), None
    if condition.type == "count":
        assert isinstance(condition, Apply)
        return Code(f"{text} > 0"), Code(text)
    return Code(text), None
