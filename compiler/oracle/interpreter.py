"""The oracle: evaluates an expression for every pair, as dense arrays. Slow and plain; other stages are tested by it.

:func:`evaluate` makes the dense mask in numpy. Underneath, :func:`interpret` works with any array library that offers
:class:`Arrays`, so that the same code evaluates scores and sinks in PyTorch, differentiably.

Every value is an array ``[batch, heads, m, n]``, in which an axis has size 1 if the value does not depend on it: a
condition on ``q`` alone never becomes dense.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..diagnostics import within_64_bits
from ..ir import (
    OPERATIONS,
    ROUNDINGS,
    Apply,
    CallShape,
    Const,
    Entry,
    Expr,
    HostTable,
    K,
    Logit,
    Member,
    N,
    Number,
    Op,
    Operation,
    Position,
    Table,
    children,
    constructors,
    less,
    walk,
)
from .dense import dense_mask, require_room
from .membership import holds, is_listed
from .out_of_table import OutOfTableError
from .rounding import round_to

Array: TypeAlias = Any  # numpy.ndarray, torch.Tensor: whatever the Arrays at hand work with


class Arrays(Protocol):
    """What an array library must offer besides Python's operators, ``reshape`` and indexing by arrays of integers.

    Integers are int64, and ``//`` and ``%`` round down. All floats are of one working dtype, which the implementation
    chooses.
    """

    def constant(self, value: bool | int | float) -> Array:
        """One value, bool, int64 or the working float, of shape [1, 1, 1, 1]."""

    def arange(self, size: int) -> Array:
        """``0 .. size - 1`` as int64 [size]."""

    def integers(self, x: Array) -> Array:
        """Integers or conditions as int64."""

    def floats(self, x: Array) -> Array:
        """Integers or floats as the working float."""

    def where(self, condition: Array, then: Array, otherwise: Array) -> Array: ...

    def operate(self, operation: Operation, *xs: Array) -> Array:
        """Apply an operation to as many arguments as its ``python`` takes; their axes broadcast."""

    def rounded(self, op: Op, x: Array) -> Array:
        """Floats rounded to the dtype that :data:`compiler.ir.operations.ROUNDINGS` has; their own dtype stays."""

    def numpy(self, x: Array) -> NDArray[Any]:
        """The values as a numpy array, to be read only; gradients do not flow through it."""


@dataclass(frozen=True)
class TableValues:
    """The contents of one table in the library's own arrays, laid out as :class:`compiler.ir.extent.HostTable` says.

    ``values``: ``[batch if batched, dimensions…]``; those of sets have one more axis, the universe or the slots.
    """

    table: Table
    values: Array
    batched: bool = False


@dataclass(frozen=True)
class Environment:
    """The values of an expression's leaves. Made by :func:`environment`."""

    arrays: Arrays
    positions: Mapping[
        str, Array
    ]  # q [batch or 1, 1, m, 1], k [batch or 1, 1, 1, n], head [1, heads, 1, 1], n, heads, head_dim
    q_start: Array  # [batch or 1, 1, 1, 1]
    batch: Array  # 0 .. batch - 1, [batch, 1, 1, 1]
    tables: Mapping[str, TableValues]
    logit: Array | None = None  # [batch, heads, m, n]
    reached: Array | None = None  # bool, broadcasts to [batch, heads, m, n]: pairs whose reads are checked; None: all


class NumpyArrays:
    """The oracle's numpy arrays; ``dtype`` is that of its floats."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.dtype = np.dtype(dtype)

    def constant(self, value: bool | int | float) -> Array:
        if type(value) is int:
            value = within_64_bits(value)  # a call that evaluates a wider one is refused
        dtype = self.dtype if isinstance(value, float) else np.dtype(bool if isinstance(value, bool) else np.int64)
        return np.full((1, 1, 1, 1), value, dtype=dtype)

    def arange(self, size: int) -> Array:
        return np.arange(size, dtype=np.int64)

    def integers(self, x: Array) -> Array:
        return x.astype(np.int64, copy=False)

    def floats(self, x: Array) -> Array:
        return x.astype(self.dtype, copy=False)

    def where(self, condition: Array, then: Array, otherwise: Array) -> Array:
        return np.where(condition, then, otherwise)

    def operate(self, operation: Operation, *xs: Array) -> Array:
        name = operation.library
        if name is None:
            return operation.python(*xs)
        return getattr(np, name)(*xs) if hasattr(np, name) else _one_by_one(operation, xs)

    def rounded(self, op: Op, x: Array) -> Array:
        return round_to(op, x)

    def numpy(self, x: Array) -> NDArray[Any]:
        return np.asarray(x)


def _one_by_one(operation: Operation, xs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """An operation that numpy lacks, computed by Python number by number; nan where it is undefined."""

    def value(*numbers: Any) -> Any:
        try:
            return operation.python(*numbers)
        except ValueError:
            return math.nan

    dtype = np.bool_ if operation.gives == "bool" else np.result_type(*xs)
    return np.asarray(np.vectorize(value, otypes=[dtype])(*xs))


def evaluate(
    expr: Expr, tables: Sequence[Table], extent: CallShape, contents: Mapping[str, HostTable]
) -> NDArray[np.bool_] | NDArray[np.int64]:
    """The dense mask: bool for a condition, int64 for a count, of shape ``[batch or 1, heads, m, keys]``.

    ``contents`` holds every table of ``tables`` by name. The batch is that of ``q_start``, ``k_start`` or of a batched
    table. Floats are compared in float32 if all float tables have that dtype, else in float64. Takes a few MB besides
    the mask. A key row beyond the ``n`` positions is kept by no row, and nothing is evaluated for it.

    Raises :class:`OutOfTableError` for an index that is evaluated and lies outside its table, ValueError if positions
    or a table are known only to the device, and TooLargeError, before anything is allocated, for a mask of more than
    2**33 bytes.
    """
    if expr.type not in ("bool", "count"):
        raise ValueError(f"a mask is a condition or a count, and this expression is {expr.type}")
    dtype = np.dtype(bool if expr.type == "bool" else np.int64)
    require_room("the dense mask", (len(extent.q_start or ()), extent.heads, extent.m, extent.keys), dtype.itemsize)
    bound = call_environment(tables, extent, contents)
    require_room("the dense mask", (len(bound.batch), extent.heads, extent.m, extent.keys), dtype.itemsize)
    starts = (bound.q_start, bound.positions["k"])
    batched = any(len(x) > 1 for x in starts) or any(held.batched for held in bound.tables.values())
    if extent.is_part:
        expr = (constructors.filtered if expr.type == "count" else constructors.conjunction)(less(K, N), expr)
    return dense_mask(expr, bound, dtype, interpret, batched)


def call_environment(tables: Sequence[Table], extent: CallShape, contents: Mapping[str, HostTable]) -> Environment:
    """The values of the leaves of a mask, for a call whose table contents and positions are known here.

    Floats are compared in float32 if all float tables have that dtype, else in float64. ValueError for contents or
    positions known only to the device.
    """
    if extent.q_start is None:
        raise ValueError("the positions of the query rows (q_start) are on a device: a mask needs them here")
    if extent.k_start is None:
        raise ValueError("the positions of the key rows (k_start) are on a device: a mask needs them here")
    values = {}
    for table in tables:
        held = contents[table.name]
        if held.values is None:
            raise ValueError(f"the contents of table `{table.name}` are on a device: a mask needs them here")
        values[table.name] = TableValues(table, held.values, held.batched)
    floats = [held.values.dtype for held in values.values() if held.table.element == "float"]
    arrays = NumpyArrays(np.result_type(*floats) if floats else np.float64)
    q_start = np.asarray(extent.q_start, dtype=np.int64)
    k_start = np.asarray(extent.k_start, dtype=np.int64) if extent.is_part else None
    return environment(arrays, extent.n, extent.m, extent.heads, q_start, values, k_start=k_start, k_rows=extent.k_rows)


def numbered_values(
    tables: Sequence[Table], contents: Sequence[HostTable]
) -> tuple[dict[str, TableValues], NumpyArrays]:
    """The contents of a Program's tables, by the numbers that its expressions call them, and arrays to evaluate these.

    Floats are compared in the dtype of the tables. Contents that only a device knows are replaced by zeros.
    """
    values = {}
    for number, (table, held) in enumerate(zip(tables, contents, strict=True)):
        known = np.zeros(held.shape or ()) if held.values is None else held.values
        values[str(number)] = TableValues(table, known, held.batched)
    floats = [held.values.dtype for held in values.values() if held.table.element == "float"]
    return values, NumpyArrays(np.result_type(*floats) if floats else np.float64)


def environment(
    arrays: Arrays,
    n: int,
    m: int,
    heads: int,
    q_start: Array,
    tables: Mapping[str, TableValues],
    *,
    logit: Array | None = None,
    head_dim: int | None = None,
    reached: Array | None = None,
    k_start: Array | None = None,
    k_rows: int | None = None,
) -> Environment:
    """Lay positions and tables out along the axes ``[batch, heads, m, n]``.

    ``q_start``, ``k_start``: int64 [1] or [batch], None for 0. ``k_rows``: the number of key rows, None for n.
    ``logit``: the scaled logits, floats [batch, heads, m, n], for a score.
    ``reached``: bool, broadcasts to [batch, heads, m, n]: the pairs for which the expression is evaluated, so that its
    reads must be inside their tables (for a score, the kept pairs).
    Raises ValueError where batches disagree.
    """
    starts = {"q_start": q_start, "k_start": k_start}
    sizes = {name: each.shape[0] for name, each in starts.items() if each is not None}
    sizes.update({name: held.values.shape[0] for name, held in tables.items() if held.batched})
    if logit is not None:
        sizes["the logits"] = logit.shape[0]
    batches = {size for size in sizes.values() if size != 1}
    if len(batches) > 1:
        raise ValueError(f"batch sizes disagree: {', '.join(f'{name} has {size}' for name, size in sizes.items())}")
    batch = batches.pop() if batches else 1
    start = arrays.integers(q_start).reshape(-1, 1, 1, 1)
    keys = arrays.arange(n if k_rows is None else k_rows).reshape(1, 1, 1, -1)
    positions = {
        "q": start + arrays.arange(m).reshape(1, 1, m, 1),
        "k": keys if k_start is None else arrays.integers(k_start).reshape(-1, 1, 1, 1) + keys,
        "head": arrays.arange(heads).reshape(1, heads, 1, 1),
        "n": arrays.constant(n),
        "heads": arrays.constant(heads),
    }
    if head_dim is not None:
        positions["head_dim"] = arrays.constant(head_dim)
    return Environment(arrays, positions, start, arrays.arange(batch).reshape(batch, 1, 1, 1), tables, logit, reached)


@dataclass(frozen=True)
class _Outside:
    """An index of a read that lies outside its table on one ``axis``, for the pairs ``where``."""

    node: Entry | Member
    axis: int
    index: Array
    size: int
    where: Array


def interpret(expr: Expr, environment: Environment) -> Array:
    """The value of an expression: bool, int64 (numbers and counts) or the working float; axes may have size 1.

    A read outside its table gives 0 or false. :class:`OutOfTableError` is raised if such a read is evaluated for a
    pair: all conditions before it in an ``and`` hold, and its branch of a choice is taken.

    Shared parts are evaluated once. Integers and floats are freed after their last use.
    """
    nodes = tuple(walk(expr))
    uses = Counter(part for node in nodes for part in children(node))
    values: dict[Expr, Array] = {}
    outside: list[_Outside] = []
    for node in nodes:
        values[node] = _value(node, values, environment, outside)
        for part in children(node):
            uses[part] -= 1
            if not uses[part] and part.type != "bool":  # conditions may be needed to tell which reads count
                values.pop(part, None)
    if outside:
        _refuse(outside, _reached(nodes, values, environment), environment)
    return values[expr]


def _value(node: Expr, values: Mapping[Expr, Array], environment: Environment, outside: list[_Outside]) -> Array:
    match node:
        case Const(value=value):
            return environment.arrays.constant(value)
        case Position(name=name):
            if name not in environment.positions:
                raise ValueError(f"`{name}` has no value here")
            return environment.positions[name]
        case Logit():
            if environment.logit is None:
                raise ValueError("`s` has no value here: it stands in a score only")
            return environment.logit
        case Number(index=index):
            raise ValueError(f"number {index} of a launch has no value here: a mask and a score hold none")
        case Entry() | Member():
            return _read(node, values, environment, outside)
        case Apply(args=args):
            return _operation(node, [values[x] for x in args], environment.arrays)


def _read(
    node: Entry | Member, values: Mapping[Expr, Array], environment: Environment, outside: list[_Outside]
) -> Array:
    arrays, held = environment.arrays, environment.tables[node.table]
    contents, batched = held.values, held.batched
    if batched and contents.shape[0] == 1:
        contents, batched = contents[0], False
    sizes = tuple(contents.shape[1:] if batched else contents.shape)
    indices = [values[index] for index in node.indices]
    inside = arrays.constant(True)
    places: list[Array] = []
    for axis, index in enumerate(indices):
        row = index - environment.q_start if held.table.dimensions[axis].kind == "query" else index
        fits = (row >= 0) & (row < sizes[axis])
        if not bool(fits.all()):
            outside.append(_Outside(node, axis, index, sizes[axis], ~fits))
            inside = inside & fits
            row = arrays.where(fits, row, 0)
        places.append(row)
    listed = isinstance(node, Member) and is_listed(contents) and 0 not in sizes
    if isinstance(node, Member) and not listed:  # an element outside the universe is not a member; it is not an error
        element = values[node.element]
        fits = (element >= 0) & (element < sizes[-1])
        inside = inside & fits
        places.append(arrays.where(fits, element, 0))
    nothing = arrays.constant({"int": 0, "float": 0.0, "double": 0.0}.get(node.type, False))
    if 0 in sizes:
        return nothing
    if batched:
        places.insert(0, environment.batch)
    if listed:
        assert isinstance(node, Member)
        return inside & holds(contents, places, values[node.element], arrays)
    entry = contents[tuple(places)] if places else contents.reshape(1, 1, 1, 1)
    if node.type != "bool" and node.type != "double":
        entry = arrays.floats(entry) if node.type == "float" else arrays.integers(entry)
    return arrays.where(inside, entry, nothing)


def _operation(node: Apply, xs: Sequence[Array], arrays: Arrays) -> Array:
    operation = OPERATIONS[node.op]
    if node.type == "count":  # conditions count 0 or 1
        guards = 1 if operation.guarded else 0
        xs = [*xs[:guards], *map(arrays.integers, xs[guards:])]
    if node.op == "float":
        return arrays.floats(xs[0])
    if node.op in ROUNDINGS:
        return arrays.rounded(node.op, xs[0])
    if node.op == "filter":
        return arrays.where(xs[0], xs[1], arrays.constant(0))
    operate = partial(arrays.operate, operation)
    return reduce(operate, xs) if operation.joins else operate(*xs)


def _reached(nodes: Sequence[Expr], values: Mapping[Expr, Array], environment: Environment) -> dict[Expr, Array]:
    """The pairs for which each node is evaluated, in any of the expressions that contain it.

    ``nodes``: every node, operands before the nodes that use them.
    """
    everywhere = environment.arrays.constant(True)
    reached: dict[Expr, Array] = {nodes[-1]: everywhere if environment.reached is None else environment.reached}

    def reach(node: Expr, where: Array) -> None:
        reached[node] = reached[node] | where if node in reached else where

    for node in reversed(nodes):
        where = reached[node]
        match node:
            case Apply(op="and", args=args):
                for part in args:
                    reach(part, where)
                    where = where & values[part]
            case Apply(op="if", args=(condition, then, otherwise)):
                reach(condition, where)
                reach(then, where & values[condition])
                reach(otherwise, where & ~values[condition])
            case Apply(op="filter", args=(condition, count)):
                reach(condition, where)
                reach(count, where & values[condition])
            case _:
                for part in children(node):
                    reach(part, where)
    return reached


def _refuse(outside: Sequence[_Outside], reached: Mapping[Expr, Array], environment: Environment) -> None:
    """Raise OutOfTableError for the first index that is outside its table and evaluated."""
    for fault in outside:
        bad = environment.arrays.numpy(fault.where & reached[fault.node])
        if bad.any():
            pair = tuple(int(axis[0]) for axis in np.nonzero(bad))
            value = np.broadcast_to(environment.arrays.numpy(fault.index), bad.shape)[pair]
            table = environment.tables[fault.node.table].table
            raise OutOfTableError(table, fault.axis, int(value), fault.size, pair, fault.node.span)
