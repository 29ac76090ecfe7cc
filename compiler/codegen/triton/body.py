"""Generates the statements of a kernel's loops over tiles: score, mask and slopes as lines of Triton."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ...ir import LOGIT, ONE, TRUE, Apply, Const, Expr, Logit, derivative, walk
from .. import Code, Statement, lower
from .dialect import Place, TritonDialect
from .sites import GradientSite


@dataclass(frozen=True)
class GradientSiteText:
    """A GradientSite as the templates take it.

    - ``slope`` is None if it is 1; ``steady``: it is a constant, and so finite everywhere;
    - ``block``, ``column``, ``pair``: whether it has that level; if none of them is set, its level is ``row``;
    - ``offset`` and ``inside`` locate the entry in its table, and are computed by ``statements``.
    """

    number: int
    table: int
    slope: Code | None
    steady: bool
    block: bool
    column: bool
    pair: bool
    offset: Code | None = None
    inside: Code | None = None
    statements: tuple[Code, ...] = ()


@dataclass(frozen=True)
class SinkText:
    """The sink as the templates take it: a row's logit, ``level``, after ``statements``; and its gradient."""

    level: Code
    statements: tuple[Code, ...]
    slope_statements: tuple[Code, ...]
    sites: tuple[GradientSiteText, ...]


@dataclass(frozen=True)
class Body:
    """The code for the pairs of one tile.

    - ``outer`` runs once before the inner loop, ``inner`` for every tile, ``mask`` after it on partial tiles;
    - ``plain``: the score is the logit itself; ``flat``: the score does not read it, so it may lack a tile's axis;
    - ``keep`` is None if every pair is kept, ``count`` if each counts once, ``slope`` if it is 1;
    - ``steady``: the slope is a constant, and so finite everywhere;
    - ``sites``: where gradients of tables arise.
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
    sites: tuple[GradientSiteText, ...]


def make_body(
    score: Expr,
    condition: Expr,
    dialect: TritonDialect,
    outer: Literal["q", "k"],
    sites: Sequence[GradientSite],
    slopes: bool,
    prefix: str = "t",
) -> Body:
    """Return the body of a loop in which the position ``outer`` is fixed.

    With ``slopes`` it has the derivatives that a backward pass needs. The names of its variables begin with ``prefix``.
    """
    pairs = [site for site in sites if site.level == "pair"]
    slope = derivative(score, LOGIT)
    roots = [score]
    if slopes:
        roots += [slope, *(site.slope for site in sites), *(index for site in pairs for index in site.indices)]
    always = lower(roots, dialect, prefix)
    everything = lower([*roots, condition], dialect, prefix)
    fixed = frozenset((outer,))
    keep, count = _condition(condition, everything.results[-1])
    return Body(
        outer=written(s for s in everything.statements if s.depends <= fixed),
        inner=written(s for s in always.statements if not s.depends <= fixed),
        mask=written(s for s in everything.statements[len(always.statements) :] if not s.depends <= fixed),
        score=Code(always.results[0]),
        plain=score == LOGIT,
        flat=not any(isinstance(node, Logit) for node in walk(score)),
        keep=keep,
        count=count,
        slope=None if not slopes or slope == ONE else Code(always.results[1]),
        steady=isinstance(slope, Const),
        sites=_sites(sites, always.results[2:], dialect) if slopes else (),
    )


def _sites(
    sites: Sequence[GradientSite], results: Sequence[str], dialect: TritonDialect
) -> tuple[GradientSiteText, ...]:
    """The texts of sites. ``results``: the slope of each, then the indices of each whose level is ``pair``."""
    slopes, indices = results[: len(sites)], iter(results[len(sites) :])
    found = []
    for site, slope in zip(sites, slopes, strict=True):
        place = None
        if site.level == "pair":
            place = dialect.place(site.table, tuple(next(indices) for _ in site.indices))
        found.append(_site(site, slope, place))
    return tuple(found)


def make_condition(owned: Expr, dialect: TritonDialect) -> tuple[tuple[Code, ...], Code | None]:
    """Return statements and the condition of the rows that a kernel owns, in one dimension; None if it owns all."""
    if owned == TRUE:
        return (), None
    lowered = lower([owned], dialect, prefix="w")
    return written(lowered.statements), Code(lowered.results[0])


def make_sink(sink: Expr, sites: Sequence[GradientSite], dialect: TritonDialect) -> SinkText:
    """Return the sink's logit for each row, and the statements of its gradient, in one dimension."""
    alone = lower([sink], dialect, prefix="z")
    lowered = lower([sink, *(site.slope for site in sites)], dialect, prefix="z")
    return SinkText(
        level=Code(alone.results[0]),
        statements=written(alone.statements),
        slope_statements=written(lowered.statements[len(alone.statements) :]),
        sites=tuple(stored_site(site, dialect, slope) for site, slope in zip(sites, lowered.results[1:], strict=True)),
    )


def stored_site(site: GradientSite, dialect: TritonDialect, slope: str = "") -> GradientSiteText:
    """Return a site whose place is looked up once, after the loop, with positions in one dimension."""
    lowered = lower(site.indices, dialect, prefix=f"i{site.number}_")
    return _site(site, slope, dialect.place(site.table, lowered.results), lowered.statements)


def _site(
    site: GradientSite, slope: str, place: Place | None, statements: Iterable[Statement] = ()
) -> GradientSiteText:
    return GradientSiteText(
        number=site.number,
        table=site.table,
        slope=None if site.slope == ONE else Code(slope),
        steady=isinstance(site.slope, Const),
        block=site.level == "block",
        column=site.level == "column",
        pair=site.level == "pair",
        offset=None if place is None else Code(place.offset),
        inside=None if place is None or place.inside is None else Code(place.inside),
        statements=written(statements),
    )


def written(statements: Iterable[Statement]) -> tuple[Code, ...]:
    """Return statements as lines of Triton."""
    return tuple(Code(f"{statement.name} = {_right_side(statement)}") for statement in statements)


def _right_side(statement: Statement) -> str:
    """The text of an operation; for a condition on scalars, joined to ``True``.

    Triton's interpreter gives a comparison of scalars the type of its operands; in a conjunction with a block of
    conditions, it would be taken for a number. The compiler folds the constant away.
    """
    scalar = statement.type == "bool" and not statement.depends
    return f"True & ({statement.text})" if scalar else statement.text


def _condition(condition: Expr, text: str) -> tuple[Code | None, Code | None]:
    """The text of the condition that keeps a pair (None: always), and of how often it counts (None: once)."""
    if condition == TRUE:
        return None, None
    if isinstance(condition, Const):
        return Code("k < 0"), None
    if condition.type == "count":
        assert isinstance(condition, Apply)
        return Code(f"{text} > 0"), Code(text)
    return Code(text), None
