"""Generates loops over the tokens of an order, as lines of Triton that find the tokens of a step from its number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

from ...plan import Axis, Box, ListedOrder, Order, OrderTable, View, is_natural
from .. import Code
from .variant import fitted

Side = Literal["row", "column"]
_TOTAL = {"row": "m", "column": "n_tokens"}
_WORD = 32  # bits


@dataclass(frozen=True)
class TokenLoop:
    """A loop over the tiles of one order, ``step`` lanes of a tile at a time: ``parts`` steps to a tile.

    - ``side``: whether rows or columns (keys) are walked; ``name``: the start of its variables' and parameters' names;
    - ``lanes`` are lines that run once, ``lines`` those that run for each step;
    - ``tokens`` and ``present`` give each lane's token, and whether it has one; ``steady``: the tokens are the variable
      ``row_lanes`` (``column_lanes``, …), which no step changes, plus the scalar ``shift``;
    - ``coarse`` and ``fine`` are two expressions whose sum is ``row_lanes``, where tokens are steady and of one axis;
      a warp spreads the second over its threads, so that the first is a constant of each register;
    - ``digit`` numbers the lanes where these two are given, ``stride`` tokens apart, and a word of 32 bits has room for
      those of a thread: two neighbours of each eight lanes; None elsewhere;
    - ``natural``: the loop counts tokens, not steps; ``bounded``: a lane has a token if that is below the number of
      all tokens; ``guarded``: any tile may have empty lanes, not only the last ones; ``never_full``: schedules call
      all tiles partial, so the condition is always evaluated;
    - ``described``: descriptors load the tokens of a step, which lie one after the other;
    - ``blocks`` spells the number of steps; ``main_tiles``, ``counted`` and ``listed`` say which parameters are needed.
    """

    side: Code
    name: Code
    tile: int
    step: int
    natural: bool
    bounded: bool
    steady: bool
    guarded: bool
    never_full: bool
    listed: bool
    main_tiles: bool
    lanes: tuple[Code, ...]
    lines: tuple[Code, ...]
    shift: Code
    tokens: Code
    present: Code
    blocks: Code
    coarse: Code | None = None
    fine: Code | None = None
    described: bool = False
    digit: Code | None = None
    stride: int = 1

    @property
    def parts(self) -> int:
        return self.tile // self.step

    @property
    def total(self) -> Code:
        """The variable that holds the number of all tokens."""
        return Code(_TOTAL[self.side])

    @property
    def counted(self) -> bool:
        return not self.natural


@OrderTable
def span(order: Order, /) -> int:
    """The distance, in tokens, from the first lane of a tile to its last; 0 if tiles are not shifts of one another."""
    raise NotImplementedError


@span.register(View)
def _span(order: View, /) -> int:
    return sum(axis.stride * (axis.tile - 1) for axis in order.axes)


@span.register(Box, ListedOrder)
def _no_span(_order: Order, /) -> int:
    return 0


@OrderTable
def pace(order: Order, /) -> int | None:
    """How many tokens lie from each lane of a tile to the next; None if they are not equally far apart."""
    raise NotImplementedError


@pace.register(View)
def _pace(order: View, /) -> int | None:
    within = [axis.stride for axis in order.axes if axis.tile > 1]
    return within[0] if len(within) == 1 else None


@pace.register(Box, ListedOrder)
def _no_pace(_order: Order, /) -> None:
    return None


def make_loop(order: Order, side: Side, most: int, fixed: bool, suffix: str = "") -> TokenLoop:
    """Return the loop over an order in steps of at most ``most`` lanes.

    ``fixed``: a program makes one step only, number ``block``; otherwise the loop's variable is ``step`` or, in natural
    order, ``start``, a token. ``suffix`` makes the names of several loops distinct.
    """
    name = f"{side}{suffix}"
    size = fitted(most, order.tile)
    if is_natural(order):
        return _natural(order.tile, size, side, fixed, name)
    return _loop(order, size, side, "block" if fixed else "step", name)


@OrderTable
def _loop(order: Order, size: int, side: Side, index: str, name: str, /) -> TokenLoop:
    """The loop over an order in steps of ``size`` lanes.

    ``index`` is the variable that counts steps; the names of all others begin with ``name``.
    """
    raise NotImplementedError


def careful_loop(first: TokenLoop, order: Order, side: Side, most: int) -> TokenLoop:
    """Return a second loop over the same order, in steps of at most ``most`` lanes, for sums that became NaN.

    It runs in the same function as the ``first`` loop: its variables have other names, and it begins by copying the
    parameters of the first one to them.
    """
    suffix = f"{first.name.removeprefix(side)}_again"
    loop = make_loop(order, side, min(most, first.step), False, suffix)
    given = (["main_tiles"] if loop.main_tiles else []) + (["list", "list_length", "slot"] if loop.listed else [])
    lines = tuple(Code(f"{loop.name}_{name} = {first.name}_{name}") for name in given)
    return replace(loop, steady=False, coarse=None, fine=None, digit=None, lanes=(*lines, *loop.lanes))


def _natural(tile: int, size: int, side: Side, fixed: bool, name: str) -> TokenLoop:
    shift = f"block * {size}" if fixed else "start"
    tokens = f"{shift} + {name}_lanes"
    return TokenLoop(
        Code(side), Code(name), tile, size,
        natural=True, bounded=True, steady=True, guarded=False, never_full=False, listed=False,
        main_tiles=False, lanes=(Code(f"{name}_lanes = tl.arange(0, {size})"),), lines=(), shift=Code(shift),
        tokens=Code(tokens), present=Code(_within(side, name, shift)), blocks=Code(f"tl.cdiv({_TOTAL[side]}, {size})"),
        described=False, **_split(f"{name}_lanes", 1, size),
    )  # fmt: skip


def _within(side: Side, name: str, shift: str) -> str:
    """The condition that a token is below the number of all; the lanes stand alone, so that they may be kept."""
    return f"{name}_lanes < {_TOTAL[side]} - {shift}"


def _split(lane: str, stride: int, size: int) -> dict[str, Any]:
    """The ``size`` lanes that are ``stride`` tokens apart, as ``coarse`` and ``fine``: eight of a row lie in four
    threads.

    The second is a difference, and not ``lane & 7``, because LLVM takes that apart for each register where lanes have
    other uses.
    """
    coarse = f"({lane} & -8)"
    found = {"coarse": Code(_times(coarse, stride)), "fine": Code(_times(f"({lane} - {coarse})", stride))}
    return found | ({"digit": Code(lane), "stride": stride} if size % 8 == 0 and size <= 4 * _WORD else {})


@_loop.register(ListedOrder)
def _listed(order: ListedOrder, size: int, side: Side, index: str, name: str, /) -> TokenLoop:
    lines = (
        f"{name}_index = {index} * {size} + tl.arange(0, {size})",
        f"{name}_listed = tl.load({name}_list + {name}_slot + {name}_index, "
        f"mask={name}_index < {name}_list_length, other=-1)",
    )
    return TokenLoop(
        Code(side), Code(name), order.tile, size,
        natural=False, bounded=False, steady=False, guarded=True, never_full=False, listed=True, main_tiles=False,
        lanes=(), lines=tuple(map(Code, lines)), shift=Code(""), tokens=Code(f"tl.maximum({name}_listed, 0)"),
        present=Code(f"{name}_listed >= 0"), blocks=_blocks(name, order.tile // size),
    )  # fmt: skip


def _blocks(name: str, parts: int) -> Code:
    return Code(f"{name}_tiles" + (f" * {parts}" if parts > 1 else ""))


@_loop.register(View)
def _view(order: View, size: int, side: Side, index: str, name: str, /) -> TokenLoop:
    parts = order.tile // size
    lines: list[str] = []
    tile = index
    if parts > 1:
        lines.append(f"{name}_tile = {index} // {parts}")
        tile = f"{name}_tile"
    coordinates, main_tiles = _tile_coordinates(order, name, tile, lines)
    terms = [str(order.offset)] if order.offset else []
    for axis, at in zip(order.axes, coordinates, strict=True):
        if at is not None:
            terms.append(_times(at, axis.stride * axis.tile))
    within = [place for place, axis in enumerate(order.axes) if axis.tile > 1]
    steady = parts == 1 or len(within) < 2
    lane = f"tl.arange(0, {size})"
    if parts > 1:
        lines.append(f"{name}_first = {index} % {parts} * {size}")
        if not steady:
            lane = f"({name}_first + {lane})"
    digits = _digits(order.axes, within, lane)
    once = [f"{name}_digit{place} = {text}" for place, text in digits.items()]
    offsets = " + ".join(_times(f"{name}_digit{place}", order.axes[place].stride) for place in digits)
    once.append(f"{name}_lanes = {offsets or lane}")
    if steady and parts > 1:
        terms.append(_times(f"{name}_first", order.axes[within[0]].stride))
    if not steady:
        lines, once = [*lines, *once], []
    shift = " + ".join(terms) or "0"
    lines.append(f"{name}_shift = {shift}")
    places: dict[str, Any] = {}
    if steady and len(within) == 1:
        places = _split(f"{name}_digit{within[0]}", order.axes[within[0]].stride, size)
    elif steady:
        places = {"coarse": Code(f"{name}_lanes")}
    inside = [f"({_within(side, name, f'{name}_shift') if steady else f'{side}s < {_TOTAL[side]}'})"]
    for place in within:
        axis = order.axes[place]
        if axis.length is not None and axis.length % axis.tile:
            terms = [] if coordinates[place] is None else [_times(str(coordinates[place]), axis.tile)]
            terms += [f"{name}_first"] if steady and parts > 1 else []
            inside.append(f"({' + '.join([*terms, f'{name}_digit{place}'])} < {axis.length})")
    return TokenLoop(
        Code(side), Code(name), order.tile, size,
        natural=False, bounded=len(inside) == 1, steady=steady, guarded=order.uneven, never_full=False, listed=False,
        main_tiles=main_tiles, lanes=tuple(map(Code, once)), lines=tuple(map(Code, lines)),
        shift=Code(f"{name}_shift"), tokens=Code(f"{name}_shift + {name}_lanes"), present=Code(" & ".join(inside)),
        blocks=_blocks(name, parts), described=False, **places,
    )  # fmt: skip


@_loop.register(Box)
def _box(order: Box, size: int, side: Side, index: str, name: str, /) -> TokenLoop:
    """The loop over boxes. Lanes without a token get token 0, so that their offsets stay in the integers' range."""
    view, parts = order.view, order.tile // size
    steps, box, lane = order.parts * parts, index, f"tl.arange(0, {size})"
    lines: list[str] = []
    if steps > 1:
        lines += [f"{name}_box = {index} // {steps}", f"{name}_lane = {index} % {steps} * {size} + {lane}"]
        box, lane = f"{name}_box", f"{name}_lane"
    inside, main_tiles = _box_coordinates(order, name, box, lane, lines)
    terms = [str(view.offset)] if view.offset else []
    terms += [_times(f"{name}_along{place}", axis.stride) for place, axis in enumerate(view.axes)]
    lines.append(f"{name}_token = {' + '.join(terms)}")
    # If the other axes are inside, the token shows whether the main one is; if it overflowed, it is negative.
    inside += [f"({name}_token >= {view.offset})", f"({name}_token < {_TOTAL[side]})"]
    lines.append(f"{name}_inside = {' & '.join(inside)}")
    return TokenLoop(
        Code(side), Code(name), order.tile, size,
        natural=False, bounded=False, steady=False, guarded=True, never_full=True, listed=False,
        main_tiles=main_tiles,
        lanes=(), lines=tuple(map(Code, lines)), shift=Code(""), present=Code(f"{name}_inside"),
        tokens=Code(f"tl.where({name}_inside, {name}_token, 0)"), blocks=_blocks(name, parts),
    )  # fmt: skip


def _box_coordinates(order: Box, name: str, box: str, lane: str, lines: list[str]) -> tuple[list[str], bool]:
    """Add the lines that find the coordinates ``_along0``, ``_along1``, … of some lanes of a box.

    Returns the conditions under which a lane is in the box and inside the bounded axes, and whether the lines read the
    number of boxes along the main axis (the parameter ``_main_tiles``).
    """
    tiles, main_tiles = _tile_coordinates(order.view, name, box, lines)
    inside = []
    for place, (axis, tile, before) in enumerate(zip(order.view.axes, tiles, order.before, strict=True)):
        digit = _digit(lane, place, order.extents)
        if not place and prod(order.extents) % order.tile:
            lines.append(f"{name}_digit = {digit}")
            digit = f"{name}_digit"
            inside.append(f"({digit} < {order.extents[0]})")
        first = before + order.lead * axis.tile if axis.length is None else before
        terms = [digit] if tile is None else [_times(tile, axis.tile), digit]
        lines.append(f"{name}_along{place} = {' + '.join(terms)} - {first}")
        if axis.length is not None:
            inside += [f"({name}_along{place} >= 0)", f"({name}_along{place} < {axis.length})"]
    return inside, main_tiles


def _tile_coordinates(order: View, name: str, tile: str, lines: list[str]) -> tuple[list[str | None], bool]:
    """Add the lines that find a tile's place along each axis.

    Returns for each axis what spells the place, None where there is only one; and whether the lines read the number of
    tiles along the main axis.
    """
    several = [place for place, axis in enumerate(order.axes) if axis.length is None or axis.tiles > 1]
    found: list[str | None] = [None] * len(order.axes)
    rest, main_tiles = tile, False
    for place in reversed(several[1:]):
        axis = order.axes[place]
        count = f"{name}_main_tiles" if axis.length is None else str(axis.tiles)
        main_tiles = main_tiles or axis.length is None
        lines += [f"{name}_at{place} = {rest} % {count}", f"{name}_rest{place} = {rest} // {count}"]
        found[place], rest = f"{name}_at{place}", f"{name}_rest{place}"
    found[several[0]] = rest
    return found, main_tiles


def _digits(axes: tuple[Axis, ...], within: list[int], lane: str) -> dict[int, str]:
    """The coordinates of the lanes along the axes numbered ``within``, the last axis fastest."""
    sizes = tuple(axis.tile for axis in axes)
    return {place: _digit(lane, place, sizes) for place in within}


def _digit(lane: str, place: int, sizes: tuple[int, ...]) -> str:
    """One digit of a number that counts through ``sizes``, the last fastest; the first digit has no bound."""
    below = prod(sizes[place + 1 :])
    text = lane if below == 1 else f"{lane} // {below}"
    return text if prod(sizes[:place]) == 1 else f"{text} % {sizes[place]}"


def _times(text: str, factor: int) -> str:
    return text if factor == 1 else f"{text} * {factor}"
