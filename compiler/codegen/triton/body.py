"""Generates the statements of a kernel's loops over tiles: score, mask and slopes as lines of Triton."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ...ir import LOGIT, ONE, TRUE, Apply, Const, Expr, Logit, derivative, walk
from .. import Code, Statement, lower
from .dialect import Place, TritonDialect
from .limits import Limits, Sum, find_limits, without_limits
from .sites import GradientSite

_MOST_BY_PAIR = 64  # the most entries that are summed one after the other, as pairs without diagonals are
_MOST = 2**31 - 2  # the last place of a token in 32 bits: there are fewer than 2**31 tokens


@dataclass(frozen=True)
class GradientSiteText:
    """A GradientSite as the templates take it.

    - ``slope`` is None if it is 1; ``steady``: it is a constant, and so finite everywhere;
    - ``block``, ``column``, ``pair``: whether it has that level; if none of them is set, its level is ``row``;
    - ``offset`` and ``inside`` locate the entry in its table, and are computed by ``statements``;
    - ``pace``: if not 0, all pairs of a diagonal of a tile read one entry, and its lanes are so many tokens apart. Then
      the place is that of the diagonal whose difference is ``apart``;
    - ``lanes``: if not 0, the entries that query and key choose among are so few that a program has a sum for each of
      them, ``count`` in all; ``offset`` and ``inside`` then tell which of them a pair, or a diagonal, reads.
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
    pace: int = 0
    lanes: int = 0
    count: Code | None = None


@dataclass(frozen=True)
class EntriesText:
    """The sums that a program has for each of a few entries of a table, of one site, in so many ``lanes``.

    ``offset`` and ``inside`` locate the entry of each lane in its table, after ``statements``.
    """

    number: int
    table: int
    lanes: int
    statements: tuple[Code, ...]
    offset: Code
    inside: Code


@dataclass(frozen=True)
class SumsText:
    """How the pairs of a tile are summed for tables from which query and key choose together.

    ``pace``: how many tokens apart the lanes are, where queries and keys are equally far apart, so that a tile has
    diagonals; else None. ``lanes``: by the site's number, the lanes that hold all entries to choose among, where these
    are few, else 0.
    """

    pace: int | None = None
    lanes: Mapping[int, int] = field(default_factory=dict)


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
    - a pair is kept if all of these hold, None for those that always do: the place of the token that the loop walks is
      at least ``least`` and at most ``most``, ``walked`` holds, which no other token has part in, and so does ``keep``;
      ``bounded``: ``most`` is below the number of tokens;
    - ``count`` is None if each pair counts once, ``slope`` if it is 1;
    - ``steady``: the slope is a constant, and so finite everywhere;
    - ``sites``: where gradients of tables arise.
    """

    outer: tuple[Code, ...]
    inner: tuple[Code, ...]
    mask: tuple[Code, ...]
    score: Code
    plain: bool
    flat: bool
    least: Code | None
    most: Code | None
    bounded: bool
    walked: Code | None
    keep: Code | None
    count: Code | None
    slope: Code | None
    steady: bool
    sites: tuple[GradientSiteText, ...]

    @property
    def always(self) -> bool:
        """Whether every pair is kept."""
        return self.keep is None and self.least is None and self.most is None


@dataclass(frozen=True)
class LimitText:
    """How the limits of a loop are called, and where they end: ``total``, the number of tokens, if that bounds them
    (None if it need not); ``origin`` is the position of the first token, None if that is 0.
    """

    suffix: str
    total: str | None = None
    origin: str | None = None


def make_body(
    score: Expr,
    condition: Expr,
    dialect: TritonDialect,
    outer: Literal["q", "k"],
    sites: Sequence[GradientSite],
    slopes: bool,
    limits: LimitText,
    prefix: str = "t",
    summed: SumsText | None = None,
) -> Body:
    """Return the body of a loop in which the position ``outer`` is fixed.

    With ``slopes`` it has the derivatives that a backward pass needs, added up for tables as ``summed`` says. The names
    of its variables begin with ``prefix``.
    """
    summed = summed or SumsText()
    pairs = [site for site in sites if site.level == "pair" and not _pace(site, summed)]
    slope = derivative(score, LOGIT)
    roots = [score]
    if slopes:
        roots += [slope, *(site.slope for site in sites), *(index for site in pairs for index in site.indices)]
    always = lower(roots, dialect, prefix)
    # positions of 64 bits leave no room for the sums of limits
    found = without_limits(condition) if dialect.wide else find_limits(condition, "q" if outer == "k" else "k")
    sums = [term for form in (*found.lower, *found.upper) for _, term in form.terms]
    conditions = [found.fixed, found.walked, found.rest]
    everything = lower([*roots, *sums, *conditions], dialect, prefix)
    fixed = frozenset((outer,))
    spelled = dict(zip([*sums, *conditions], everything.results[len(roots) :], strict=True))
    keep, count = _condition(found.rest, spelled[found.rest])
    lines, least, most = _limits(found, spelled, limits)
    return Body(
        outer=(*written(s for s in everything.statements if s.depends <= fixed), *lines),
        inner=written(s for s in always.statements if not s.depends <= fixed),
        mask=written(s for s in everything.statements[len(always.statements) :] if not s.depends <= fixed),
        score=Code(always.results[0]),
        plain=score == LOGIT,
        flat=not any(isinstance(node, Logit) for node in walk(score)),
        least=least,
        most=most,
        bounded=most is not None and limits.total is not None,
        walked=None if found.walked == TRUE else Code(spelled[found.walked]),
        keep=keep,
        count=count,
        slope=None if not slopes or slope == ONE else Code(always.results[1]),
        steady=isinstance(slope, Const),
        sites=_sites(sites, always.results[2:], dialect, summed) if slopes else (),
    )


def _limits(
    found: Limits, spelled: Mapping[Expr, str], text: LimitText
) -> tuple[tuple[Code, ...], Code | None, Code | None]:
    """Lines that compute the limits of a loop's tokens, in 32 bits, and the variables that hold them.

    The lower one is at least 0, the upper one at least -1 and no place of a token above it, so that the first token of
    any tile can be taken from them. The lower one is at most one above the upper one: a place beyond the upper one is
    then not below the lower one either, so that "at least the lower one, or beyond the upper one, and not both" is what
    is kept. To a compiler that is one operation less for each pair than "both", which it splits into two choices.
    """
    lines: list[str] = []
    least, most = f"least{text.suffix}", f"most{text.suffix}"
    if found.lower:
        lines.append(f"{least} = {_extreme('max', found.lower, spelled, text.origin)}")
        lines.append(f"{least} = tl.minimum(tl.maximum({least}, 0), {_MOST}).to(tl.int32)")
    if found.upper:
        lines.append(f"{most} = {_extreme('min', found.upper, spelled, text.origin)}")
        last = _MOST if text.total is None else f"{text.total} - 1"
        lines.append(f"{most} = tl.maximum(tl.minimum({most}, {last}), -1).to(tl.int32)")
    if found.fixed != TRUE:
        name, none = (most, -1) if found.upper else (least, _MOST)
        lines.append(f"{name} = tl.where({spelled[found.fixed]}, {name}, {none})")
    if found.lower and found.upper:
        lines.append(f"{least} = tl.minimum({least}, {most} + 1)")
    names = (Code(least) if found.lower else None, Code(most) if found.upper else None)
    return tuple(map(Code, lines)), *names


def _extreme(op: str, sums: Sequence[Sum], spelled: Mapping[Expr, str], origin: str | None) -> str:
    """The greatest or least of some sums, in 64 bits: each of their terms has 32."""
    text = ""
    for form in sums:
        one = _spelled(form, spelled, origin)
        text = f"tl.{op}imum({text}, {one})" if text else one
    return text


def _spelled(form: Sum, spelled: Mapping[Expr, str], origin: str | None) -> str:
    terms = [(sign, spelled[term]) for sign, term in form.terms]
    terms += [(-1, origin)] if origin else []
    if not form.constant and [sign for sign, _ in terms] == [1]:
        return terms[0][1]
    text = f"tl.full([], {form.constant}, tl.int64)"
    for sign, term in terms:
        text += f" {'+' if sign > 0 else '-'} {term}"
    return text


def _pace(site: GradientSite, summed: SumsText) -> int:
    """How far apart the lanes of tiles are whose diagonals share an entry; 0 if there are none."""
    return (summed.pace or 0) if site.of_difference else 0


def _sites(
    sites: Sequence[GradientSite], results: Sequence[str], dialect: TritonDialect, summed: SumsText
) -> tuple[GradientSiteText, ...]:
    """The texts of sites. ``results``: the slope of each, then the indices of each that are looked up pair by pair."""
    slopes, indices = results[: len(sites)], iter(results[len(sites) :])
    found = []
    for site, slope in zip(sites, slopes, strict=True):
        if site.level != "pair":
            found.append(_site(site, slope, None))
            continue
        few = summed.lanes.get(site.number, 0)
        pace = _pace(site, summed)
        few = few if pace or few <= _MOST_BY_PAIR else 0
        statements: Iterable[Statement] = ()
        if pace:
            by_difference = replace(dialect, names={"q": "apart"})
            lowered = lower(site.at_difference, by_difference, prefix=f"d{site.number}_")
            texts, statements = lowered.results, lowered.statements
        else:
            texts = tuple(next(indices) for _ in site.indices)
        place = dialect.choice(site.table, texts, site.axes) if few else dialect.place(site.table, texts)
        count = Code(" * ".join(f"table{site.table}_size{axis}" for axis in site.axes))
        found.append(replace(_site(site, slope, place, statements), pace=pace, lanes=few, count=count))
    return tuple(found)


def make_entries(site: GradientSite, dialect: TritonDialect, few: int) -> EntriesText:
    """Return the sums that a program has for each of the ``few`` entries among which query and key choose."""
    fixed = [Const(0) if axis in site.axes else index for axis, index in enumerate(site.indices)]
    lowered = lower(fixed, dialect, prefix=f"e{site.number}_")
    place = dialect.chosen(site.table, lowered.results, site.axes, f"tl.arange(0, {few})")
    assert place.inside is not None
    return EntriesText(
        number=site.number,
        table=site.table,
        lanes=few,
        statements=written(lowered.statements),
        offset=Code(place.offset),
        inside=Code(place.inside),
    )


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
