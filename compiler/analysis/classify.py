"""Classifies boxes of query-key pairs: a condition is true nowhere (EMPTY), everywhere (FULL) or neither (PARTIAL).

Many boxes are classified at once, without visiting their pairs. Integers are affine forms over the digits of positions
(:mod:`.affine_forms`); a table entry is the range of the entries in a box of indices (:mod:`.range_tables`). PARTIAL is
also the answer where the analysis is not sure; EMPTY and FULL are always right. For boxes of a single pair the answer
is exact, except for what only the device knows, and for floats that nearly tie, or are computed from infinities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..ir import (
    OPERATIONS,
    Apply,
    CallShape,
    Const,
    Entry,
    Expr,
    HostTable,
    Logit,
    Member,
    Number,
    Position,
    Table,
    children,
    is_opaque,
    walk,
)
from ..oracle import NumpyArrays, is_listed
from ..plan import EMPTY, FULL, PARTIAL, Program
from .affine_forms import AffineContext, AffineForm, IntBounds, add, scale, subtract
from .float_ranges import Range, TileKinds, compare_floats, computed, negated, trits_of
from .magnitudes import LARGEST_UNKNOWN_POSITION, largest_magnitude, unfollowed
from .range_sets import MemberTable
from .range_tables import RangeTable


class DigitRange(NamedTuple):
    """One digit of a token position: each unit is ``stride`` tokens, with values ``low .. high`` in each box.

    If ``low`` and ``high`` are the same array, the digit is constant in each box and becomes part of a form's constant.
    """

    stride: int
    low: NDArray[np.int64]  # [boxes]
    high: NDArray[np.int64]  # [boxes]


@dataclass(frozen=True)
class Boxes:
    """A batch of boxes of query-key pairs.

    A query's row (its position less ``q_start``) and a key's position are sums of digits times strides. ``batch`` is
    the batch entry of each box; ``head`` its query head, or None if a box is for any head.
    """

    query: tuple[DigitRange, ...]
    key: tuple[DigitRange, ...]
    batch: NDArray[np.int64]  # [boxes]
    head: NDArray[np.int64] | None = None  # [boxes]

    def __len__(self) -> int:
        return len(self.batch)

    def part(self, first: int, end: int) -> Boxes:
        """The boxes numbered ``first .. end - 1``."""

        def cut(digit: DigitRange) -> DigitRange:
            low = digit.low[first:end]
            return DigitRange(digit.stride, low, low if digit.high is digit.low else digit.high[first:end])

        head = None if self.head is None else self.head[first:end]
        return Boxes(tuple(map(cut, self.query)), tuple(map(cut, self.key)), self.batch[first:end], head)


@dataclass(frozen=True)
class BoundTable:
    """A table that an expression may read, with its contents."""

    table: Table
    contents: HostTable


def numbered(program: Program, contents: Sequence[HostTable]) -> dict[str, BoundTable]:
    """The contents of a Program's tables, by the names that its expressions use."""
    pairs = zip(program.tables, contents, strict=True)
    return {str(number): BoundTable(table, held) for number, (table, held) in enumerate(pairs)}


Value: TypeAlias = AffineForm | Range | TileKinds | None  # an int; a float or a count; a condition; None: any number

# Up to this magnitude sums of a few terms fit in int64; above it Python's integers are used, slow and exact.
LARGEST_MAGNITUDE = 2**60
_PYTHON_INTEGERS_AT_ONCE = 2**14  # boxes


class Classifier:
    """Evaluates expressions (``roots``) over boxes of pairs, for one call shape and given contents of the tables.

    ``reach``: the largest row or key position in the boxes, if they go beyond the extent. Integers that only the device
    knows may have any value, unless ``between`` bounds them: it maps a table, or one entry of it, to the least and the
    greatest value of its integers. Under ``"q"`` it bounds the position of the first row, under ``"n"`` the number of
    keys, which then may be any in that range. Where integers may exceed ``largest``, they are Python's.
    """

    def __init__(
        self,
        roots: Sequence[Expr],
        extent: CallShape,
        tables: Mapping[str, BoundTable],
        reach: int = 0,
        between: Mapping[str | Expr, tuple[int, int]] | None = None,
        largest: int = LARGEST_MAGNITUDE,
    ) -> None:
        self._between = between or {}
        self._roots = tuple(roots)
        self._extent = extent
        self._tables = tables
        self._order = list(dict.fromkeys(node for root in roots for node in walk(root)))
        self._lookups = {name: _lookup(held) for name, held in tables.items() if name in self._read_tables()}
        self._dtype = np.dtype(np.int64 if self._magnitude(reach) < largest else object)

    def classify(self, boxes: Boxes) -> TileKinds:
        """EMPTY, PARTIAL or FULL for each box, of the first root; a count is FULL if it is 1 for each pair."""
        trits = self.evaluate_boxes(boxes)[0]
        assert isinstance(trits, np.ndarray)
        return trits

    def evaluate_boxes(self, boxes: Boxes) -> list[TileKinds | IntBounds | None]:
        """For each root: EMPTY, PARTIAL or FULL of a condition or count; the bounds of an integer, None if unknown."""
        if self._dtype.hasobject and len(boxes) > _PYTHON_INTEGERS_AT_ONCE:  # they take much memory
            step = _PYTHON_INTEGERS_AT_ONCE
            looks = [self._look(boxes.part(first, first + step)) for first in range(0, len(boxes), step)]
            return [_joined(list(parts)) for parts in zip(*looks, strict=True)]
        return self._look(boxes)

    def _look(self, boxes: Boxes) -> list[TileKinds | IntBounds | None]:
        reading = _Reading(self._extent, self._tables, self._lookups, boxes, self._dtype, self._between)
        values = reading.read(self._order)
        found: list[TileKinds | IntBounds | None] = []
        for root in self._roots:
            value = values[root]
            found.append(reading.bounds(value) if root.type == "int" else _as_trits(value, root.type, len(boxes)))
        return found

    def _magnitude(self, reach: int) -> int:
        def entry(table: str) -> int:
            values = self._tables[table].contents.values
            if values is None:
                return max(map(abs, self._between.get(table, (0,))))
            return max(abs(int(values.min())), abs(int(values.max()))) if values.size else 0

        return largest_magnitude(self._order, self._extent, reach, entry)

    def _read_tables(self) -> set[str]:
        return {node.table for node in self._order if isinstance(node, Entry | Member)}


def _joined(parts: list[TileKinds | IntBounds | None]) -> TileKinds | IntBounds | None:
    """The results of one root for consecutive parts of a batch, concatenated."""
    if parts[0] is None:
        return None
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)  # type: ignore[arg-type]
    low, high = (np.concatenate(side) for side in zip(*parts, strict=True))
    return low, high


def _lookup(held: BoundTable) -> RangeTable | MemberTable | None:
    """The lookup of a table's ranges; None if the host does not know its entries."""
    values = held.contents.values
    if values is None or (held.contents.batched and not len(values)):
        return None
    # All batch entries share a batch of one.
    alone = held.contents.batched and len(values) == 1
    kind = MemberTable if held.table.element == "set" and is_listed(values) else RangeTable
    return kind(values[0] if alone else values, held.contents.batched and not alone)


class _Reading:
    """The evaluation of expressions over one batch of boxes."""

    def __init__(
        self,
        extent: CallShape,
        tables: Mapping[str, BoundTable],
        lookups: Mapping[str, RangeTable | MemberTable | None],
        boxes: Boxes,
        dtype: np.dtype[Any],
        between: Mapping[str | Expr, tuple[int, int]],
    ) -> None:
        self._extent, self._tables, self._lookups = extent, tables, lookups
        self._boxes, self._dtype, self._between = boxes, dtype, between
        self._digits = AffineContext(dtype)
        self._start = self._query_start()
        self._positions = {
            "q": add(self._start, self._position(boxes.query)),
            "k": self._position(boxes.key),
            "n": self._digits.covering(*between["n"]) if "n" in between else AffineForm(extent.n),
            "heads": AffineForm(extent.heads),
            "head": self._digits.covering(0, max(extent.heads - 1, 0))
            if boxes.head is None
            else AffineForm(self._digits.exact(boxes.head)),
        }

    def read(self, order: Sequence[Expr]) -> dict[Expr, Value]:
        values: dict[Expr, Value] = {}
        for node in order:
            values[node] = self._value(node, [values[part] for part in children(node)])
        return values

    def bounds(self, value: Value) -> IntBounds | None:
        """The least and the greatest value of an integer in each box; None if it is unknown."""
        if value is None:
            return None
        assert isinstance(value, AffineForm)
        low, high = self._digits.bounds(value)
        return self._for_each_box(low), self._for_each_box(high)

    def _for_each_box(self, value: Any) -> NDArray[Any]:
        return value if isinstance(value, np.ndarray) and value.ndim else np.full(len(self._boxes), value, self._dtype)

    def _query_start(self) -> AffineForm:
        q_start = self._extent.q_start
        if q_start is None:
            return AffineForm(0, {self._digits.digit(*self._between.get("q", (0, LARGEST_UNKNOWN_POSITION))): 1})
        if len(q_start) == 1:
            return AffineForm(q_start[0])
        return AffineForm(self._digits.exact(np.asarray(q_start, np.int64)[self._boxes.batch]))

    def _position(self, digits: Sequence[DigitRange]) -> AffineForm:
        exact, constant, terms = self._digits.exact, 0, {}
        for stride, low, high in digits:
            if low is high:
                constant = constant + stride * exact(low)
            else:
                terms[self._digits.digit(exact(low), exact(high))] = stride
        return AffineForm(constant, terms)

    def _value(self, node: Expr, parts: list[Value]) -> Value:
        match node:
            case Const(value=bool(value)):
                return trits_of(np.full(len(self._boxes), value), True)
            case Const(value=int(value)):
                return AffineForm(value)
            case Const(value=value):
                return Range(np.float64(value), np.float64(value))
            case Position(name=name):
                return self._positions.get(name)
            case Logit() | Number():
                return None
            case Entry() | Member():
                return self._entry(node, parts)
            case Apply(op="lt" | "le" | "eq" | "ne"):
                return self._compared(node, parts)
            case Apply(type="bool"):
                return self._condition(node, parts)
            case Apply(type="int"):
                return self._integer(node, parts)
            case Apply(type="count"):
                return self._count(node, parts)
            case Apply():
                return self._float(node, parts)

    def _entry(self, node: Entry | Member, parts: list[Value]) -> Value:
        lookup = self._lookups[node.table]
        if lookup is None:
            return self._unknown(node)
        low: list[Any] = []
        high: list[Any] = []
        kinds = [dimension.kind for dimension in self._tables[node.table].table.dimensions]
        for place, (index, size) in enumerate(zip(parts, lookup.sizes, strict=True)):
            if isinstance(index, AffineForm) and place < len(node.indices) and kinds[place] == "query":
                index = subtract(index, self._start)
            bounds = self.bounds(index)
            if bounds is None:
                bounds = np.full(len(self._boxes), -1), np.full(len(self._boxes), size)
            low.append(bounds[0])
            high.append(bounds[1])
        least, greatest = lookup.extrema(self._boxes.batch, low, high)
        if node.type == "bool":
            return trits_of(greatest.astype(bool), least.astype(bool))
        if node.type in ("float", "double"):
            return Range(least.astype(np.float64), greatest.astype(np.float64))
        return self._digits.covering(least.astype(np.int64, copy=False), greatest.astype(np.int64, copy=False))

    def _unknown(self, node: Entry | Member) -> Value:
        if node.type == "bool":
            return np.full(len(self._boxes), PARTIAL, np.int8)
        known = self._between.get(node, self._between.get(node.table)) if node.type == "int" else None
        return None if known is None else self._digits.covering(*known)

    def _compared(self, node: Apply, parts: list[Value]) -> Value:
        left, right = parts
        if left is None or right is None:
            return np.full(len(self._boxes), PARTIAL, np.int8)
        if isinstance(left, Range) and isinstance(right, Range):
            trits = compare_floats(node.op, left, right)
        else:
            assert isinstance(left, AffineForm)
            assert isinstance(right, AffineForm)
            trits = self._compare_integers(node.op, subtract(left, right))
        return trits if trits.ndim else np.full(len(self._boxes), trits)

    def _compare_integers(self, op: str, difference: AffineForm) -> TileKinds:
        low, high = self._digits.bounds(difference)
        if op == "le":
            return trits_of(low <= 0, high <= 0)
        if op == "lt":
            return trits_of(low < 0, high < 0)
        step, base = self._digits.lattice(difference)
        possible = (low <= 0) & (high >= 0)
        if not isinstance(step, int) or step != 1:
            possible = possible & (self._digits.exact(base) % self._digits.greatest([step, 1]) == 0)
        trits = trits_of(possible, (low == 0) & (high == 0))
        return trits if op == "eq" else negated(trits)

    def _condition(self, node: Apply, parts: list[Value]) -> Value:
        xs = [_as_trits(part, "bool", len(self._boxes)) for part in parts]
        match node.op:
            case "and":
                return reduce(np.minimum, xs)
            case "or":
                return reduce(np.maximum, xs)
            case "not":
                return negated(xs[0])
            case "iff":
                decided = (xs[0] != PARTIAL) & (xs[1] != PARTIAL)
                return np.where(decided, np.where(xs[0] == xs[1], FULL, EMPTY), PARTIAL).astype(np.int8)
            case "if":
                then, otherwise = xs[1:]
                either = np.where(then == otherwise, then, PARTIAL)
                return np.where(xs[0] == FULL, then, np.where(xs[0] == EMPTY, otherwise, either)).astype(np.int8)
        raise unfollowed(node)

    def _integer(self, node: Apply, parts: list[Value]) -> Value:
        if node.op == "if":
            return self._chosen_integer(parts)
        digits = self._digits
        forms = [part for part in parts if isinstance(part, AffineForm)]
        known = len(forms) == len(parts)
        if is_opaque(node):
            return self._opaque(node, forms)
        match node.op:
            case "floordiv" | "mod" if not isinstance(node.args[1], Const):
                return self._divided(node.op, *parts)
            case "mod" if not known:
                return digits.covering(0, _divisor(node) - 1)
            case _ if not known:
                return None
            case "add":
                return reduce(add, forms)
            case "sub":
                return subtract(*forms)
            case "mul":
                return reduce(digits.multiply, forms)
            case "neg":
                return scale(forms[0], -1)
            case "abs":
                return digits.absolute(forms[0])
            case "min" | "max":
                return reduce(lambda a, b: digits.extreme(a, b, node.op == "max"), forms)
            case "floordiv":
                return digits.floordiv(forms[0], _divisor(node))
            case "mod":
                return digits.mod(forms[0], _divisor(node))
        raise unfollowed(node)

    def _divided(self, op: str, x: Value, divisor: Value) -> Value:
        """The quotient or the remainder by a run-time number, which is at least 1 in every call."""
        digits, by = self._digits, self.bounds(divisor)
        if by is None:  # any divisor at all
            if not isinstance(x, AffineForm):
                return None
            least, greatest = digits.bounds(x)
            if op == "floordiv":
                return digits.covering(digits.least([least, 0]), digits.greatest([greatest, -1]))
            return digits.covering(0, greatest) if np.all(least >= 0) else None
        low, high = (digits.greatest([bound, 1]) for bound in by)
        if not isinstance(x, AffineForm):
            return None if op == "floordiv" else digits.covering(0, high - 1)
        return (digits.floordiv_by if op == "floordiv" else digits.mod_by)(x, low, high)

    def _chosen_integer(self, parts: list[Value]) -> Value:
        condition = _as_trits(parts[0], "bool", len(self._boxes))
        then, otherwise = parts[1:]
        if isinstance(then, AffineForm) and np.all(condition == FULL):
            return then
        if isinstance(otherwise, AffineForm) and np.all(condition == EMPTY):
            return otherwise
        if not isinstance(then, AffineForm) or not isinstance(otherwise, AffineForm):
            return None
        digits = self._digits
        undecided = digits.hull(then, otherwise)
        return digits.choose(condition == FULL, then, digits.choose(condition == EMPTY, otherwise, undecided))

    def _opaque(self, node: Apply, forms: list[AffineForm]) -> AffineForm:
        """The value of an opaque operation in boxes where each argument has a single value, else its whole range."""
        operation = OPERATIONS[node.op]
        assert operation.opaque is not None
        least, greatest = operation.opaque
        bounds = [self._digits.bounds(form) for form in forms]
        known = len(forms) == len(node.args)
        single = reduce(np.logical_and, [low == high for low, high in bounds], known)
        if not np.any(single):
            return self._digits.covering(least, greatest)
        value = NumpyArrays().operate(operation, *[self._for_each_box(low) for low, _ in bounds])
        return self._digits.covering(np.where(single, value, least), np.where(single, value, greatest))

    def _count(self, node: Apply, parts: list[Value]) -> Value:
        if node.op == "plus":
            counts = [_as_count(part) for part in parts]
            return Range(sum(count.low for count in counts), sum(count.high for count in counts))
        condition = _as_trits(parts[0], "bool", len(self._boxes))
        then = _as_count(parts[1])
        otherwise = _as_count(parts[2]) if node.op == "if" else Range(np.int64(0), np.int64(0))
        low = np.where(condition == FULL, then.low, np.minimum(then.low, otherwise.low))
        high = np.where(condition == FULL, then.high, np.maximum(then.high, otherwise.high))
        empty = condition == EMPTY
        return Range(np.where(empty, otherwise.low, low), np.where(empty, otherwise.high, high))

    def _float(self, node: Apply, parts: list[Value]) -> Value:
        """The range of a converted integer, of a choice, and of what a mask computes; others are unknown."""
        if node.op == "float" and isinstance(parts[0], AffineForm):
            low, high = (self._as_float(bound) for bound in self._digits.bounds(parts[0]))
            return Range(low, high)
        ranges = [part for part in parts if isinstance(part, Range)]
        if node.op == "if" and len(ranges) == 2:
            condition, (then, otherwise) = _as_trits(parts[0], "bool", len(self._boxes)), ranges
            low, high = np.minimum(then.low, otherwise.low), np.maximum(then.high, otherwise.high)
            low = np.where(condition == FULL, then.low, np.where(condition == EMPTY, otherwise.low, low))
            return Range(
                low, np.where(condition == FULL, then.high, np.where(condition == EMPTY, otherwise.high, high))
            )
        if len(ranges) == len(parts):
            return computed(node.op, ranges)
        return None

    def _as_float(self, values: Any) -> NDArray[np.float64]:
        """Integers as float64; those that are too large for it become 2**1023, or its negative."""
        digits, most = self._digits, 2**1023
        if not self._dtype.hasobject:
            return np.asarray(values, np.float64)
        return np.asarray(digits.greatest([digits.least([values, most]), -most]), np.float64)


def _divisor(node: Apply) -> int:
    divisor = node.args[1]
    assert isinstance(divisor, Const)
    return int(divisor.value)


def _as_trits(value: Value, kind: str, boxes: int) -> TileKinds:
    """A condition or a count as EMPTY, PARTIAL or FULL."""
    if kind == "count":
        assert isinstance(value, Range)
        trits = np.where(value.high == 0, EMPTY, np.where((value.low == 1) & (value.high == 1), FULL, PARTIAL))
        return np.broadcast_to(trits.astype(np.int8), boxes)
    assert isinstance(value, np.ndarray)
    return value


def _as_count(value: Value) -> Range:
    if isinstance(value, Range):
        return value
    assert isinstance(value, np.ndarray)
    return Range((value == FULL).astype(np.int64), (value != EMPTY).astype(np.int64))
