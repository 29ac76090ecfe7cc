"""Chooses the tile shape of a pass together with its orders: the Program that costs least over all shapes."""

from __future__ import annotations

from ..ir import Attention
from ..plan import Choices, Program
from .cost import cost, stand_in_length
from .search import arrange


def choose(
    attention: Attention,
    choices: Choices,
    heads: int | None = None,
    known: frozenset[int] | None = None,
    natural_rows: bool = False,
) -> Program:
    """The Program of an attention in the cheapest of some tile shapes; the other arguments are those of
    :func:`arrange`.

    A narrow window keeps more of a small tile, and a wide one is computed faster in a large one. All shapes are
    compared at one length; the first one wins ties.
    """
    programs = [arrange(attention, choice.tiles, heads, known, natural_rows) for choice in choices]
    if len(programs) == 1:
        return programs[0]
    n = max(stand_in_length(programs[0].mask, choice.tiles) for choice in choices)
    costs = [
        choice.cost * cost(program.kernels, n, choice.tiles, program.tables)
        for choice, program in zip(choices, programs, strict=True)
    ]
    return programs[costs.index(min(costs))]
