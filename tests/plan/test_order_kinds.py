"""Kinds of orders: each answers the protocol, every stage has an entry for each, and nothing else tells kinds apart."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from attnc.compiler.ir.expressions import TRUE, Const, Entry, K, Member
from attnc.compiler.plan.order_protocol import ORDER_TABLES, Listing, Order, OrderTable, UnknownOrderError, key_major
from attnc.compiler.plan.orders import Axis, Box, ComputedOrder, Gathered, ListedOrder, Sorted, View, natural
from attnc.compiler.schedule.tile_positions import tiled, tokens_of
from tests.house.test_wings import modules
from tests.support.generators.random_orders import OrderGenerator

HOME = "compiler.plan.orders"
GRID = View((Axis(12, None, 2), Axis(1, 12, 4)))
EXAMPLES: dict[type[Order], list[Order]] = {
    View: [
        natural(4),
        View((Axis(1, 3), Axis(3, None, 4))),
        View((Axis(5, None, 3),), 2),
        View((Axis(6, None, 2), Axis(1, 4, 3)), 1),
        GRID,
        *(OrderGenerator(seed).view() for seed in range(40)),
    ],
    Box: [
        Box(GRID, (1, 2), (1, 2), 8),
        Box(GRID, (0, 3), (2, 0), 5),
        Box(View((Axis(1, 2), Axis(2, None, 3))), (0, 1), (0, 4), 2),
        Box(View((Axis(6, None, 2), Axis(1, 4, 4)), 2), (1, 0), (1, 0), 16),
    ],
    Gathered: [Gathered(Member(K, "0", ()), 4)],
    Sorted: [Sorted(Entry("0", (K,), "int"), 4)],
}
LISTING = Listing(np.array([[3, 1, 9, 7, 5, 11], [2, 4, 6, -1, -1, -1]], np.int32), 2, 1)


def kinds(parent: type[Order] = Order) -> list[type[Order]]:
    """The concrete kinds of the product."""
    found = [] if inspect.isabstract(parent) or not parent.__module__.startswith("attnc.") else [parent]
    return [*found, *(kind for child in parent.__subclasses__() for kind in kinds(child))]


@lru_cache(maxsize=1)
def tables() -> tuple[OrderTable[..., Any], ...]:
    """Every table there is, when each module that names them has been imported."""
    for name, path in modules().items():
        if "OrderTable" in path.read_text(encoding="utf-8"):
            import_module(f"attnc.{name.removeprefix('attnc.')}")
    return tuple(ORDER_TABLES)


def examples() -> list[Order]:
    return [order for orders in EXAMPLES.values() for order in orders]


def listed(order: Order, row: int) -> list[int]:
    return LISTING.tokens[row].tolist() if order.listed_by is not None else []


def tiles_of(order: Order, total: int, row: int = 0) -> list[list[int]]:
    count = order.tiles(total, LISTING).total
    return [order.tokens(tile, total, listed(order, row)) for tile in range(count)]


def test_every_stage_has_an_entry_for_every_kind() -> None:
    assert {View, Box, Gathered, Sorted} <= set(kinds())
    stages = {table.name.rpartition(".")[0] for table in tables()}
    assert {
        "compiler.schedule.tile_positions",
        "compiler.codegen.cpp.render",
        "compiler.codegen.triton.walks",
        "runtime.triton.arguments",
    } <= stages
    missing = []
    for table in tables():
        for kind in kinds():
            try:
                table.entry(kind)
            except UnknownOrderError:
                missing.append(f"{table.name} lacks an entry for {kind.__name__}")
    assert missing == []


def stranger() -> Order:
    """An order of a kind that nobody knows."""
    return type("Strange", (Order,), dict.fromkeys(Order.__abstractmethods__))()


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_an_unknown_kind_is_refused_by_name(table: OrderTable[..., Any]) -> None:
    with pytest.raises(
        UnknownOrderError, match=rf"^bug in attnc: {table.name} has no entry for Strange, a kind of order$"
    ):
        table(stranger())
    with pytest.raises(ValueError, match="an entry for every order hides that a kind lacks its own"):
        table.register(Order)(lambda order, *rest: order)


def test_a_kind_is_a_leaf_and_answers_everything() -> None:
    for kind in kinds():
        assert EXAMPLES.get(kind), f"{kind.__name__}: the tests below look at no such order"
        assert not kind.__subclasses__(), f"{kind.__name__}: a kind derived from another would take its entries"
        assert is_dataclass(kind)
        assert kind.__hash__ is not None
        assert issubclass(kind, ComputedOrder) != issubclass(kind, ListedOrder)
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Order,), {})()


def test_tokens_of_many_tiles_are_those_of_each() -> None:
    for order in examples():
        for total in (0, 1, 17, 30):
            for row in (0, 1):
                row_listed = np.array(listed(order, row), np.int32) if order.listed_by is not None else None
                found = tokens_of(order, row_listed, np.arange(order.tiles(total, LISTING).total), total)
                assert found.tolist() == tiles_of(order, total, row), order


def test_an_order_without_its_list_has_no_number_of_tiles() -> None:
    with pytest.raises(ValueError, match="listing: is None, expected the list of the tokens gathered"):
        Gathered(Member(K, "0", ()), 4).tiles(12)


def test_boxes_are_looked_for_by_no_condition() -> None:
    with pytest.raises(ValueError, match=r"order: is box of 4×8 around each tile of grid 12 wide in 2×4, expected one"):
        tiled(EXAMPLES[Box][0], None, 30)


@pytest.mark.parametrize("total", [1, 11, 12, 30, 47])
def test_answers_follow_from_the_tokens(total: int) -> None:
    for order in examples():
        if order.listed_by is not None and total < 12:  # the list names tokens up to 11
            continue
        tiles, count = tiles_of(order, total), order.tiles(total, LISTING)
        held = {token for tile in tiles for token in tile if token >= 0}
        assert held <= set(range(total))
        assert max(held, default=0) <= order.last_position(total)
        assert all(len(tile) == order.tile for tile in tiles)
        assert len(tiles) == count.classes * count.per_class
        hull = View(*order.hull)
        assert hull.tile == order.tile
        assert held <= {token for tile in range(hull.tiles(total).total) for token in hull.tokens(tile, total)}
        whole = order.whole_tiles(total)
        for number, tile in enumerate(tiles):
            if whole is not None and number % count.per_class < whole:
                assert min(tile) >= 0, f"{order}: tile {number} of {total} tokens"
        if order.listed_by is None:
            assert order.most_tiles(total) == count.per_class
            assert not order.covers or held == set(range(total))


def test_an_order_covers_all_tokens_or_misses_some() -> None:
    for order in (order for order in examples() if order.listed_by is None):
        missed = any(len({t for tile in tiles_of(order, n) for t in tile} - {-1}) < n for n in range(1, 48))
        assert order.covers != missed, order
    assert (EXAMPLES[Sorted][0].covers, EXAMPLES[Gathered][0].covers) == (True, False)


def test_whole_tiles_of_natural_order_are_all_but_the_last() -> None:
    assert [natural(4).whole_tiles(total) for total in (0, 3, 4, 11, 12)] == [0, 0, 1, 2, 3]
    assert View((Axis(6, None, 2), Axis(1, 4, 3))).whole_tiles(60) is None


def test_most_tiles_bound_every_list() -> None:
    order = Gathered(TRUE, 4)
    assert [order.most_tiles(total) for total in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_what_lists_an_order_is_said_once() -> None:
    for order in examples():
        assert (order.listed_by is None) == isinstance(order, ComputedOrder)
        assert order.gathered_by in (None, order.listed_by)
        assert order.sorted_by in (None, order.listed_by)
        bare = order.nameless()
        assert type(bare) is type(order)
        assert (bare.tile, bare.covers, bare.sparse) == (order.tile, order.covers, order.sparse)
        assert bare == order or order.listed_by is not None
        assert order.describe()
    (gathered,), (by_rank,) = EXAMPLES[Gathered], EXAMPLES[Sorted]
    assert gathered.nameless() == Gathered(Const(5), 4).nameless()
    assert by_rank.nameless() == Sorted(Entry("7", (), "int"), 4).nameless()
    assert gathered.sparse
    assert not by_rank.sparse


def test_only_boxes_are_around_rows() -> None:
    for order in examples():
        assert order.around_rows == isinstance(order, Box)
        rows, keys = key_major(GRID, order)
        if isinstance(order, Box):
            assert (rows, keys) == (Box(order.view, order.after, order.before, order.tile), order.view)
            assert order.mirrored.mirrored == order
        else:
            assert (rows, keys) == (GRID, order)


def asked_kinds(tree: ast.AST, names: set[str]) -> Iterator[str]:
    """Where code asks which kind an order is: in ``isinstance``, ``issubclass``, ``type(x) is``, and patterns."""
    for node in ast.walk(tree):
        asked: list[ast.AST] = []
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("isinstance", "issubclass")
        ):
            asked = list(node.args[1:])
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        elif isinstance(node, ast.Compare) and any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops):
            asked = list(node.comparators)
        found = {part.id for one in asked for part in ast.walk(one) if isinstance(part, ast.Name)}
        found |= {part.attr for one in asked for part in ast.walk(one) if isinstance(part, ast.Attribute)}
        yield from (f"line {getattr(node, 'lineno', 0)} asks for {name}" for name in sorted(found & names))


def test_only_tables_tell_kinds_apart() -> None:
    names = {kind.__name__ for kind in (*kinds(), ComputedOrder, ListedOrder)}
    asking = [
        f"{name}: {place}"
        for name, path in modules().items()
        if name != HOME and takes_nouns(name, text := path.read_text(encoding="utf-8"))
        for place in asked_kinds(ast.parse(text), names)
    ]
    assert asking == []


def takes_nouns(name: str, text: str) -> bool:
    """Whether a module is of the plan or takes something from it: elsewhere a ``Box`` may be another thing."""
    return (
        name.startswith("compiler.plan.") or re.search(r"^ *from [.\w]*\bplan\b[.\w]* import ", text, re.M) is not None
    )


@pytest.mark.parametrize(
    "text",
    [
        "isinstance(order, View)",
        "isinstance(order, View | plan.Box)",
        "match order:\n  case Box(view=view): pass",
        "type(order) is Sorted",
    ],
)
def test_a_question_for_a_kind_would_be_found(text: str) -> None:
    assert list(asked_kinds(ast.parse(text), {"View", "Box", "Sorted"}))
    assert not list(
        asked_kinds(ast.parse("View((Axis(1),))\nx is None\nisinstance(x, Const)"), {"View", "Box", "Sorted"})
    )
