"""``attnc.diff``: where the masks of two attentions, or of the layers of two models, differ, for every length."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np

from .attention import Attention, Model
from .compiler.analysis import any_count
from .compiler.ir import (
    HEAD,
    HEADS,
    Const,
    Expr,
    Literal_,
    Table,
    constructors,
    expression,
    positions,
    rename_tables,
    table_type,
)
from .compiler.ir import Attention as BoundAttention
from .compiler.modules import Claim
from .compiler.verify import Counterexample, Panel, Verdict, picture, set_text, side_by_side
from .verdicts import decided, together

Relation = Literal["equal", "same pairs", "a within b", "b within a", "disjoint", "overlap", "undecided"]
LEGEND = "`-` only a keeps, `+` only b keeps, `!` both keep, another number of times"
_LONGEST = 100  # characters of an expression that a line shows


@dataclass(frozen=True, repr=False)
class Diff:
    """How the masks of two attentions differ, for every n, with m = n, every head, and whatever the tables hold.

    True as a condition unless the masks are proved equal: ``assert not attnc.diff(a, b)`` passes only then. ``a`` and
    ``b`` are their names. ``str()`` draws both masks where they differ first, and marks the pairs.

    Verdicts of :func:`attnc.prove` on ``a`` against ``b``: ``equals``, ``within``, ``contains`` and ``disjoint``; and
    ``same_counts``, of the pairs that both keep. ``heads``: the heads whose masks are not proved equal; None where
    neither attention has a number of heads. ``others``: what differs beside the masks, how ``a`` and how ``b`` write
    it, of ``"score"``, ``"scale"``, ``"sink"``, ``"tables"`` (those of a call) and ``"heads"`` (their number, of which
    those that both have are compared).
    """

    a: str
    b: str
    equals: Verdict
    within: Verdict
    contains: Verdict
    disjoint: Verdict
    same_counts: Verdict
    heads: tuple[int, ...] | None
    others: Mapping[str, tuple[str, str]] = field(hash=False)

    @property
    def undecided(self) -> bool:
        """Whether no difference was found, and none is excluded."""
        return self.equals.undecided

    @property
    def relation(self) -> Relation:
        """What is known of ``a`` and ``b``: equal, the same pairs but not known to be counted alike, one within the
        other, disjoint, or an overlap, with pairs of both and pairs that only one keeps; else undecided.
        """
        if self.equals.proved:
            return "equal"
        if self.within.proved:
            return "same pairs" if self.contains.proved else "a within b"
        if self.contains.proved:
            return "b within a"
        if self.disjoint.proved:
            return "disjoint"
        overlap = self.within.refuted and self.contains.refuted and self.disjoint.refuted
        return "overlap" if overlap else "undecided"

    @property
    def only_a(self) -> Counterexample | None:
        """The first pair that only ``a`` keeps, at the smallest n."""
        return self.within.counterexample

    @property
    def only_b(self) -> Counterexample | None:
        """The first pair that only ``b`` keeps, at the smallest n."""
        return self.contains.counterexample

    @property
    def recounted(self) -> Counterexample | None:
        """The first pair that both keep, and count another number of times, at the smallest n."""
        return self.same_counts.counterexample

    def __bool__(self) -> bool:
        return not self.equals.proved or ("heads" in self.others and "any" not in self.others["heads"])

    def __str__(self) -> str:
        """What is known, the first pairs that differ, and the pictures."""
        return "\n".join([f"{self._title}{self._known}", *self._lines(), *self._pictures()])

    def __repr__(self) -> str:
        return f"<attnc.diff of {self._title}{self._known}>"

    @property
    def _title(self) -> str:
        return f"a = {self.a} and b = {self.b}"

    @property
    def _known(self) -> str:
        if self.equals.proved:
            return " keep the same pairs for every n"
        related = "" if self.relation == "undecided" else f": {self.relation}"
        return f", undecided whether they differ{related}" if self.undecided else f" differ{related}"

    @property
    def _alone(self) -> str:
        """The same in a few words of their own."""
        if self.relation != "undecided":
            return f"undecided whether they differ: {self.relation}" if self.undecided else self.relation
        return "undecided whether they differ" if self.undecided else "they differ"

    def _lines(self) -> Iterator[str]:
        """What differs, one line each."""
        if not self.equals.proved:
            yield from _told("only a keeps", self.within)
            yield from _told("only b keeps", self.contains)
            if not self.same_counts.proved:
                yield from _told("counted another number of times", self.same_counts)
            if self.heads:
                yield f"  heads: {numbers(self.heads)}"
        for what, (own, its) in self.others.items():
            yield f"  {what} of a: {_short(own)}"
            yield f"  {what} of b: {_short(its)}"

    def _pictures(self) -> Iterator[str]:
        """As many as show each kind of difference."""
        seen: set[str] = set()
        places = (("-+!", self.equals), ("-", self.within), ("+", self.contains), ("!", self.same_counts))
        for marks, found in places:
            if found.counterexample is not None and not seen & set(marks):
                lines, shown = _drawn(found.counterexample)
                seen |= shown
                yield from ("", f"{_call(found.counterexample)}:", *lines)
        if seen:
            yield LEGEND


@dataclass(frozen=True, repr=False)
class ModelDiff:
    """How the masks of two models differ, layer by layer: ``layers`` holds a :class:`Diff` for each that both have.

    True as a condition unless the masks of all layers are proved equal, and there are as many layers and heads.
    ``others``: ``"layers"`` and ``"heads"``, their numbers in ``a`` and in ``b``, where these differ. ``str()`` draws
    layers that differ alike once.
    """

    a: str
    b: str
    layers: tuple[Diff, ...]
    others: Mapping[str, tuple[str, str]] = field(hash=False)

    @property
    def differing(self) -> tuple[int, ...]:
        """The layers whose masks are not proved equal, of those that both have."""
        return tuple(index for index, layer in enumerate(self.layers) if not layer.equals.proved)

    @property
    def undecided(self) -> bool:
        """Whether no difference was found, and none is excluded."""
        found = any(layer.equals.refuted for layer in self.layers) or bool(self.others)
        return not found and bool(self.differing)

    def __bool__(self) -> bool:
        return bool(self.differing or self.others)

    def __str__(self) -> str:
        """Which layers differ, and how, with the pictures."""
        return "\n".join([self._summary, *self._lines()])

    def __repr__(self) -> str:
        return f"<attnc.diff of {self._summary}>"

    @property
    def _summary(self) -> str:
        title = f"a = {self.a} and b = {self.b}"
        layers = f"layer{'s' * (len(self.differing) != 1)} {numbers(self.differing)}, of {len(self.layers)}"
        if self.undecided:
            return f"{title}, undecided whether they differ: {layers}"
        if self.differing:
            return f"{title} differ in {layers}"
        same = "keep the same pairs in every layer, for every n"
        return f"{title} {'differ in their number of ' + ' and '.join(self.others) if self.others else same}"

    def _lines(self) -> Iterator[str]:
        for what, (own, its) in self.others.items():
            yield f"  {what}: a has {own}, b has {its}"
        alike: dict[Diff, list[int]] = {}
        for index, layer in enumerate(self.layers):
            beside = {what: texts for what, texts in layer.others.items() if what not in self.others}
            if not layer.equals.proved or beside:
                alike.setdefault(replace(layer, others=beside), []).append(index)
        for layer, indices in alike.items():
            which = f"layer{'s' * (len(indices) > 1)} {numbers(indices)}"
            yield from ("", f"{which}: {layer._alone}", *layer._lines())
            yield from layer._pictures()


@overload
def diff(a: Attention, b: Attention) -> Diff: ...
@overload
def diff(a: Model, b: Model) -> ModelDiff: ...
def diff(a: Attention | Model, b: Attention | Model) -> Diff | ModelDiff:
    """Compares the masks of two attentions, or of two models layer by layer, for every n, with m = n, every head, and
    whatever the run-time tables hold. Tables of one name are one table.

    What is returned is false where the masks are proved equal, so that ``if attnc.diff(a, b):`` reads as it should;
    ``print`` draws both where they differ first. It has the first pair that only one of them keeps, or that is counted
    another number of times, with n, q, k, the head and the contents of tables; how the masks are related (equal, one
    within the other, disjoint); and it names score, scale and sink where these are written differently.

    TypeError and ValueError for arguments that do not fit, and where tables of one name have different types.
    """
    _require("a", a)
    _require("b", b)
    if isinstance(a, Attention) and isinstance(b, Attention):
        return _compared(a._bound, b._bound)
    if isinstance(a, Model) and isinstance(b, Model):
        pairs = zip(a.layers, b.layers, strict=False)
        layers = tuple(_compared(own._bound, its._bound) for own, its in pairs)
        sizes = {"layers": (len(a), len(b)), "heads": (a.heads, b.heads)}
        others = {what: (str(own), str(its)) for what, (own, its) in sizes.items() if own != its}
        return ModelDiff(a.name, b.name, layers, others)
    name, model = ("a", a) if isinstance(a, Model) else ("b", b)
    raise TypeError(f"{name}: is a model and the other an attention, expected two of a kind: {model.name}(…).layers[0]")


def _require(name: str, given: Any) -> None:
    if not isinstance(given, Attention | Model):
        hint = f": {given.__name__}(…)" if inspect.isfunction(given) else ""
        raise TypeError(f"{name}: is {type(given).__name__}, expected an attnc.Attention or an attnc.Model{hint}")


def _compared(a: BoundAttention, b: BoundAttention) -> Diff:
    names, tables = together(a, b, "b")
    renamed = {part: rename_tables(getattr(b, part), names) for part in ("mask", "score", "scale")}
    sink = None if b.sink is None else rename_tables(b.sink, names)
    b = replace(b, mask=renamed["mask"], score=renamed["score"], scale=renamed["scale"], sink=sink)
    own, its, heads = _of_common_heads(a, b)

    def claimed(kind: Any, mask: Expr = own, other: Expr = its) -> Verdict:
        return decided(mask, tables, Claim(kind, other), heads)

    equals, disjoint = claimed("equals"), claimed("disjoint")
    within, contains, same_counts = (Verdict(kind, "proved") for kind in ("within", "contains", "equals"))
    if not equals.proved:
        within, contains = claimed("within"), claimed("contains")
        if own.type == "count" or its.type == "count":
            both = constructors.conjunction(any_count(own), any_count(its))
            same_counts = claimed("equals", _filtered(both, own), _filtered(both, its))
        equals = _either(equals, (within, contains, same_counts))
    differing = None if heads is None else () if equals.proved else _heads(own, its, tables, heads)
    return Diff(a.name, b.name, equals, within, contains, disjoint, same_counts, differing, _others(a, b))


def _of_common_heads(a: BoundAttention, b: BoundAttention) -> tuple[Expr, Expr, int | None]:
    """The masks, and the number of heads that both have; None where neither has a number."""
    if a.heads is None or b.heads is None or a.heads == b.heads:
        return a.mask, b.mask, b.heads if a.heads is None else a.heads
    own, its = (constructors.substitute(one.mask, {HEADS: Const(one.heads or 1)}) for one in (a, b))
    return own, its, min(a.heads, b.heads)


def _filtered(condition: Expr, mask: Expr) -> Expr:
    """A mask, or a count, where a condition holds."""
    if mask.type == "count":
        return constructors.filtered(condition, mask)
    return constructors.conjunction(condition, mask)


def _either(equals: Verdict, parts: Sequence[Verdict]) -> Verdict:
    """Whether two masks are equal, where that is undecided also by what is known of pairs that only one keeps, and of
    counts.
    """
    if not equals.undecided:
        return equals
    if all(part.proved for part in parts):
        return Verdict("equals", "proved")
    places = [part.counterexample for part in parts if part.counterexample is not None]
    if not places:
        return equals
    first = min(places, key=lambda place: (place.n, place.q or 0, place.k or 0, place.head))
    return Verdict("equals", "refuted", f"the two differ at {_place(first)}", replace(first, kind="equals"))


def _heads(own: Expr, its: Expr, tables: tuple[Table, ...], heads: int) -> tuple[int, ...]:
    """The heads whose masks are not proved equal, of so many."""
    if not {"head", "heads"} & (positions(own) | positions(its)):
        return tuple(range(heads))
    found = []
    for head in range(heads):
        known: dict[Expr, Expr] = {HEAD: Const(head), HEADS: Const(heads)}
        mask, other = (constructors.substitute(expr, known) for expr in (own, its))
        if not decided(mask, tables, Claim("equals", other), heads).proved:
            found.append(head)
    return tuple(found)


def _others(a: BoundAttention, b: BoundAttention) -> dict[str, tuple[str, str]]:
    """What differs beside the masks, in the texts of both."""
    found = {
        what: (_written(getattr(a, what)), _written(getattr(b, what)))
        for what in ("score", "scale", "sink")
        if getattr(a, what) != getattr(b, what)
    }
    tables = [{table.name: _table(table) for table in one.parameters} for one in (a, b)]
    if tables[0] != tables[1]:
        found["tables"] = ", ".join(tables[0].values()) or "none", ", ".join(tables[1].values()) or "none"
    if a.heads != b.heads:
        found["heads"] = str(a.heads or "any"), str(b.heads or "any")
    return found


def _written(expr: Expr | None) -> str:
    return "none" if expr is None else expression(expr)


def _table(table: Table) -> str:
    default = "" if table.default is None else f" = {_literal(table.default)}"
    return f"{table.name}: {table_type(table)}{default}"


def _literal(value: Literal_) -> str:
    if isinstance(value, frozenset):
        return set_text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return str(value).lower()


def _told(what: str, found: Verdict) -> Iterator[str]:
    """One line about the pairs that a verdict excludes, or has found."""
    if found.proved:
        yield f"  {what}: no pair"
    elif found.counterexample is None:
        yield f"  {what}: undecided, {found.message}"
    else:
        yield f"  {what}: {_place(found.counterexample)}"


def _place(found: Counterexample) -> str:
    return f"(q = {found.q}, k = {found.k}) {_call(found)}"


def _call(found: Counterexample) -> str:
    head = f", head {found.head} of {found.heads}" if found.heads > 1 else ""
    return f"at n = {found.n}{head}" + (f" ({found.given})" if found.given else "")


def _drawn(found: Counterexample) -> tuple[list[str], set[str]]:
    """Both masks of a counterexample and where they differ, as lines, and the marks that stand there."""
    assert found.counts is not None
    assert found.other is not None
    own, its = found.counts, found.other
    cells = np.select([(own > 0) & (its == 0), (own == 0) & (its > 0), own != its], ["-", "+", "!"], ".")
    marks = tuple("".join(row) for row in cells)
    panels = [Panel("a", picture(own)), Panel("b", picture(its)), Panel("differs", marks)]
    whole = (found.n, found.n) if found.in_part else None
    return side_by_side(panels, found.corner, whole), set("".join(marks)) - {"."}


def numbers(found: Sequence[int]) -> str:
    """Indices as the language writes them, such as ``0, 4..7``."""
    return set_text(frozenset(found)).strip("{}")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
