"""Renders the one file that holds an attention: its kernels, and the PyTorch code that launches them.

The kernels are those of :mod:`.render`, the rest is ``templates/triton/standalone.py.jinja``, a small executor for the
schedules of one attention. What differs between attentions is written here: the constants that say which functions are
launched, in which orders, and over which tiles.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...ir import FALSE, HEAD, HEADS, TRUE, Apply, Entry, Expr, Member, Table, expression, walk
from ...plan import (
    FULL,
    PASSES,
    UNBOUNDED,
    Bounds,
    Box,
    Gathered,
    Kernel,
    Order,
    OrderTable,
    Pass,
    Program,
    Schedule,
    Sorted,
    Specialisation,
    View,
    is_natural,
    key_major,
)
from .. import Code, lift_constants, render
from .functions import direct_keys, direct_output, direct_queries, kind_of
from .render import render_triton
from .signature import Steps, parameters, steps
from .sites import gradient_sites, pair_tables
from .tuning import options
from .variant import DIGIT_BITS, DIGITS, TritonVariant
from .walks import span

_PARTS = ("standalone", "standalone_launch", "standalone_call")
_WIDTH = 120
_ANYWHERE = "_anywhere"  # ends the names of kernels for first rows at any position
_SPELLED = {
    "add",
    "sub",
    "mul",
    "neg",
    "abs",
    "min",
    "max",
    "floordiv",
    "mod",
    "lt",
    "le",
    "eq",
    "ne",
    "and",
    "or",
    "not",
}


class NotStandaloneError(ValueError):
    """The attention cannot be written as one file; the message says why, and what to do."""


@dataclass(frozen=True)
class PassPlan:
    """A pass: its Program, the variant of its text, and a schedule that serves every length from position 0 on."""

    program: Program
    variant: TritonVariant
    schedule: Schedule


Passes = Mapping[Pass, PassPlan]


@dataclass(frozen=True)
class StandaloneTable:
    """A table as the file has it. ``default`` and ``value``: contents as Python text, where the text gives them.

    ``divides``: something is divided by its number, which has to be positive.
    """

    name: str
    parameter: str
    elements: str
    dimensions: tuple[str | int, ...]
    default: str | None
    value: str | None
    divides: bool = False


@dataclass(frozen=True)
class StandaloneText:
    """All that a file is made from.

    ``name``: of its function; ``plan`` and ``anywhere``: its passes, and those for first rows that are not at a
    multiple of ``alignment`` (None where it is 1); ``heads``: the only number of query heads, if it serves only one;
    ``scale``: for every head, or one for all; ``most``: the largest position that 32-bit integers bear, None where they
    have 64; ``module``, ``documentation``, ``origin``: lines of the docstrings of the module and of its function, and
    of the text.
    """

    name: str
    plan: Passes
    anywhere: Passes | None
    alignment: int
    kind: Specialisation
    target: str
    heads: int | None
    scale: tuple[float, ...]
    scale_by_head: bool
    most: int | None
    tables: tuple[StandaloneTable, ...]
    module: tuple[str, ...]
    documentation: tuple[str, ...]
    origin: tuple[str, ...]

    @property
    def parameters(self) -> tuple[StandaloneTable, ...]:
        """The tables that a call gives."""
        return tuple(table for table in self.tables if table.value is None)


def render_standalone(text: StandaloneText) -> str:
    """Return the file. Raises NotStandaloneError where listed tokens do not follow from sizes alone."""
    kernels = _Kernels({})
    plans = [_assigned("_PLAN", _plan(text.plan, kernels, text.target, ""))]
    if text.anywhere is not None:
        plans.append(_assigned("_PLAN_ANYWHERE", _plan(text.anywhere, kernels, text.target, _ANYWHERE)))
    passes = [each for plan in (text.plan, text.anywhere or {}) for each in plan.values()]
    kernel_lists = [kernel for each in passes for kernel in each.program.kernels]
    orders = [order for kernel in kernel_lists for order in (kernel.rows, *(s.keys for s in kernel.segments))]
    names = [p.name for each in passes for ps in parameters(_lifted(each.program), each.variant).values() for p in ps]
    sites = gradient_sites(text.plan["forward"].program)
    wide = text.kind.wide
    divisors = tuple(table.parameter for table in text.tables if table.divides)
    holes: dict[str, Any] = {
        "docstring": _codes(text.module), "text": _codes(text.origin), "documentation": _codes(text.documentation),
        "kernels": Code("\n\n\n".join(kernels.used)), "first": Code("forward_0"),
        "function": Code(text.name), "parameters": _codes(map(_parameter, sorted(text.parameters, key=_has_default))),
        "given_tables": Code(", ".join(t.parameter for t in text.parameters)) or None,
        "element": Code(f"torch.{text.kind.dtype.torch}"), "compute": Code(f"torch.{text.kind.dtype.compute.torch}"),
        "integer": Code("torch.int64" if wide else "torch.int32"), "head_dim": text.kind.head_dim,
        "value_dim": text.kind.value_dim, "heads": text.heads, "scale": Code(repr(text.scale)),
        "scale_by_head": text.scale_by_head, "most": None if wide else text.most,
        "span": None if wide else 1 + max(map(span, orders)), "tables": _codes(map(_table, text.tables)),
        "sets": any(table.elements == "set" for table in text.tables),
        "divisors": Code(repr(divisors)) if divisors else None,
        "sites": tuple(Code(f'_Site({s.number}, {s.table}, "{s.level}", {s.sink}),') for s in sites),
        "pairs": bool(pair_tables(sites)), "digits": DIGITS, "digit_bits": DIGIT_BITS, "dropout": text.kind.dropout,
        "boxes": any(order.around_rows for order in orders),
        "lists": any(order.listed_by is not None for order in orders),
        "splits": any(kernel.splits for kernel in kernel_lists),
        "by_head": any(kernel.heads is not None for kernel in kernel_lists),
        "listed_numbers": "numbers" in names, "alignment": text.alignment,
        "plans": _codes("\n\n\n".join(plans).splitlines()),
    }  # fmt: skip
    return "\n\n".join(render(f"triton/{part}.py.jinja", **holes) for part in _PARTS)


def _codes(lines: Iterable[str]) -> tuple[Code, ...]:
    return tuple(map(Code, lines))


def _lifted(program: Program) -> Program:
    return lift_constants(program).program


@dataclass(frozen=True)
class _Kernels:
    """The functions of the file so far, by name: each helper is there once, though every module has it."""

    sources: dict[str, str]

    @property
    def used(self) -> list[str]:
        """The texts of all functions, but for helpers that nobody calls."""
        trees = {name: ast.parse(text) for name, text in self.sources.items()}
        called = {
            node.id
            for name, tree in trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id != name
        }
        return [text for name, text in self.sources.items() if not name.startswith("_") or name in called]

    def add(self, module: str) -> None:
        """Adds the functions of a module's text."""
        for name, text in _functions(module).items():
            if self.sources.setdefault(name, text) != text:
                raise AssertionError(f"bug in attnc: two functions {name} in one file")


def _functions(module: str) -> dict[str, str]:
    """The text of each function of a module, with its decorators."""
    lines = module.splitlines()
    found = {}
    for node in ast.parse(module).body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


# The constants, as Python text. A node is text, or brackets around nodes, each with what stands before it.


@dataclass(frozen=True)
class _Brackets:
    opening: str
    items: tuple[tuple[str, _Node], ...]
    closing: str = ")"


_Node = str | _Brackets


def _call(name: str, *items: _Node, **named: _Node) -> _Brackets:
    return _Brackets(f"{name}(", (*(("", item) for item in items), *((f"{k}=", item) for k, item in named.items())))


def _tuple(items: Iterable[_Node]) -> _Brackets:
    return _Brackets("(", tuple(("", item) for item in items))


def _dict(items: Mapping[str, object]) -> _Brackets:
    return _Brackets("{", tuple((f'"{name}": ', repr(item)) for name, item in items.items()), "}")


def _flat(node: _Node) -> str:
    if isinstance(node, str):
        return node
    inside = ", ".join(before + _flat(item) for before, item in node.items)
    return f"{node.opening}{inside}{',' if node.opening == '(' and len(node.items) == 1 else ''}{node.closing}"


def _written(node: _Node, indent: int, before: int) -> str:
    """A node as text that begins after ``before`` columns, broken where it is longer than a line."""
    flat = _flat(node)
    if isinstance(node, str) or before + len(flat) < _WIDTH:
        return flat
    space = " " * (indent + 4)
    lines = [f"{space}{name}{_written(item, indent + 4, indent + 4 + len(name))},\n" for name, item in node.items]
    return f"{node.opening}\n{''.join(lines)}{' ' * indent}{node.closing}"


def _assigned(name: str, node: _Node) -> str:
    return f"{name} = {_written(node, 0, len(name) + 3)}"


def _plan(passes: Passes, kernels: _Kernels, target: str, ending: str) -> _Node:
    """The constants of one plan, whose functions are added to ``kernels``."""
    found: dict[str, _Node] = {}
    for direction in PASSES:
        made = _Made(passes[direction], target, ending)
        kernels.add(render_triton(made.lifted, made.plan.variant, ending=ending).text)
        found[direction] = made.written(direction)
    delta = made.steps["delta"]
    return _call(
        "_Plan", **found, delta=f"delta{ending}", delta_step=str(delta.rows), delta_options=made.options("delta")
    )


@dataclass(frozen=True)
class _Made:
    """A pass whose functions are in the file; ``ending``: of their names."""

    plan: PassPlan
    target: str
    ending: str

    @property
    def lifted(self) -> Program:
        return _lifted(self.plan.program)

    @property
    def steps(self) -> Mapping[str, Steps]:
        return steps(self.lifted, self.plan.variant)

    def options(self, name: str) -> _Node:
        chosen = options(kind_of(name), self.plan.variant, self.steps[name], self.target)
        return _dict(chosen.arguments(nvidia=self.target.startswith("sm_")))

    def written(self, direction: Pass) -> _Node:
        program = self.plan.program
        direct = {
            "forward": direct_output,
            "backward_keys": direct_keys,
            "backward_queries": direct_queries,
        }[direction](program)
        walks = (
            walk
            for number, kernel in enumerate(program.kernels)
            for walk in (
                self.by_key(number, kernel)
                if direction == "backward_keys"
                else [self.by_row(direction, number, kernel)]
            )
        )
        numbers = lift_constants(program).numbers
        return _call("_Pass", walks=_tuple(walks), numbers=_tuple(map(str, numbers)), direct=str(direct))

    def by_row(self, direction: Pass, number: int, kernel: Kernel) -> _Node:
        name = f"{direction}_{number}"
        segments = self.plan.schedule.kernels[number].segments
        named = self._heads(kernel)
        if kernel.splits:
            joining = f"{'merge' if direction == 'forward' else 'collect'}_{number}"
            named |= {"joining": f"{joining}{self.ending}", "joining_options": self.options(joining)}
        taken = self.steps[name]
        return _call(
            "_Walk", f"{name}{self.ending}", self.options(name), str(taken.rows), rows=self.order(kernel.rows, "q"),
            keys=_tuple(self.order(segment.keys, "k") for segment in kernel.segments),
            bounds=_tuple(_bounds(each.by_query) for each in segments), **named,
        )  # fmt: skip

    def by_key(self, number: int, kernel: Kernel) -> list[_Node]:
        found: list[_Node] = []
        for place, segment in enumerate(kernel.segments):
            name = f"backward_keys_{number}_{place}"
            rows, keys = key_major(kernel.rows, segment.keys)
            taken = self.steps[name]
            bounds = self.plan.schedule.kernels[number].segments[place].by_key
            found.append(_call(
                "_Walk", f"{name}{self.ending}", self.options(name), str(taken.keys[0]),
                rows=self.order(kernel.rows, "q"), keys=_tuple([self.order(keys, "k")]),
                bounds=_tuple([_bounds(bounds)]), walked=self.order(rows, "q"), **self._heads(kernel),
            ))  # fmt: skip
        return found

    def order(self, order: Order, position: str) -> _Node:
        return _order(order, position, self.plan.program.tables)

    def _heads(self, kernel: Kernel) -> dict[str, _Node]:
        return {} if kernel.heads is None else {"heads": _tuple(map(str, kernel.heads))}


@OrderTable
def _order(order: Order, position: str, tables: tuple[Table, ...], /) -> _Node:
    """An order as the file has it; ``position``: what a condition that lists its tokens calls their positions;
    ``tables``: those of its Program.
    """
    raise NotImplementedError


@_order.register(View)
def _view(order: View, _position: str, _tables: tuple[Table, ...], /) -> _Node:
    main = order.axes[order.main]
    others = [axis for axis in order.axes if axis.length is not None]
    beside = None if order.uneven else sum(axis.stride * ((axis.length or 0) - 1) for axis in others)
    return _fields(
        order.tile, main.tile, stride=main.stride, offset=order.offset, classes=order.classes, minor=order.minor_tiles,
        beside=beside, natural=is_natural(order),
    )  # fmt: skip


@_order.register(Box)
def _box(order: Box, _position: str, _tables: tuple[Table, ...], /) -> _Node:
    view, main = order.view, order.view.axes[order.view.main]
    return _fields(
        order.tile, main.tile, stride=main.stride, offset=view.offset, classes=view.classes, minor=view.minor_tiles,
        beside=None, parts=order.parts, lead=order.lead, before=order.before[view.main],
    )  # fmt: skip


@_order.register(Gathered)
def _gathered(order: Gathered, position: str, tables: tuple[Table, ...], /) -> _Node:
    by_head = not {HEAD, HEADS}.isdisjoint(walk(order.condition))
    listed = f"lambda {position}, n, head, heads: {_python(order.condition, tables)}"
    return _call("_Order", str(order.tile), str(order.tile), beside="None", listed=listed, **_if(by_head=by_head))


@_order.register(Sorted)
def _sorted(order: Sorted, _position: str, _tables: tuple[Table, ...], /) -> _Node:
    raise NotStandaloneError(f"its tokens are {order.describe()}, which only a call knows")


def _if(**flags: bool) -> dict[str, _Node]:
    return {name: "True" for name, flag in flags.items() if flag}


_DEFAULTS = {"stride": 1, "offset": 0, "classes": 1, "minor": 1, "beside": 0, "natural": False}


def _fields(tile: int, along: int, **named: object) -> _Node:
    """An order, without the fields that have their usual values."""
    shown = {name: repr(value) for name, value in named.items() if value != _DEFAULTS.get(name, 0) or value is None}
    return _call("_Order", str(tile), str(along), **shown)


def _python(condition: Expr, tables: tuple[Table, ...]) -> str:
    """A condition on positions and sizes as Python text, which the language's notation is for these operations."""
    sets = {str(number): _members(table) for number, table in enumerate(tables) if isinstance(table.value, frozenset)}
    for node in walk(condition):
        of_table = isinstance(node, (Entry, Member)) and node.table not in sets
        odd = isinstance(node, Apply) and node.op not in _SPELLED
        if of_table or odd or node in (TRUE, FALSE):
            raise NotStandaloneError(
                f"tokens are gathered where {expression(condition)}, which such a file cannot list: it would need attnc"
            )
    text = expression(condition, sets)
    ast.parse(text, mode="eval")
    return text


def _members(table: Table) -> str:
    assert isinstance(table.value, frozenset)
    return f"{{{', '.join(map(str, sorted(table.value)))}}}" if table.value else "set()"


def _bounds(bounds: Bounds) -> _Node:
    """Bounds that serve every length, as the file has them."""
    runs = bounds.runs
    rows = [
        _tuple(map(_run, runs.start[a:b].tolist(), runs.length[a:b].tolist(), runs.kind[a:b].tolist()))
        for a, b in zip(runs.pointer[:-1].tolist(), runs.pointer[1:].tolist(), strict=True)
    ]
    heads = [_tuple(rows[first : first + bounds.period]) for first in range(0, len(rows), bounds.period)]
    return _call("_Bounds", str(bounds.shift), _tuple(heads), **_if(aligned=bounds.aligned))


def _run(start: int, length: int, kind: int) -> str:
    begin = "-_FAR" if start <= -UNBOUNDED else str(start)
    end = "_FAR" if start + length >= UNBOUNDED - 1 else str(start + length)
    return f"({begin}, {end}, {'_FULL' if kind == FULL else '_PARTIAL'})"


def _has_default(table: StandaloneTable) -> bool:
    return table.default is not None


def _parameter(table: StandaloneTable) -> str:
    return f"{table.parameter}: Any" + ("" if table.default is None else f" = {table.default}")


def _table(table: StandaloneTable) -> str:
    dimensions = _flat(_tuple(f'"{size}"' if isinstance(size, str) else str(size) for size in table.dimensions))
    value = "" if table.value is None else f", value={table.value}"
    return f'_Table("{table.parameter}", "{table.elements}", {dimensions}{value}),'
