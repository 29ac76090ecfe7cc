"""How many keys `attnc show` draws where nobody says it: so many that the constants of the pattern can be seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..compiler.ir import Apply, Const, Literal_, walk
from .stage_at_work import stage
from .subject import Applied, Target, apply, apply_all

FEWEST, ENOUGH, MOST = 64, 4096, 8192  # keys: from here; up to so many if all is to be seen; so many at most
TIMES, BLOCKS, LEAST = 4, 16, 2  # how often a constant fits in; of blocks of a size; and where that is too much


def telling_length(subject: Target, values: Mapping[str, Literal_], layer: int | None) -> int:
    """The length of a table with an entry for each token, if one is given; else a power of two, at least 64.

    Every constant of the mask, and every number and set that is given, fits in some times: TIMES, or BLOCKS where it
    is a block's size, as far as ENOUGH keys allow, else LEAST times. One that MOST keys do not hold so often shows in
    no picture of pairs, and is left out. Raises AttnError, InputError.
    """
    with stage("check"):
        several = apply_all(subject, values) if layer is None else (apply(subject, values, layer),)
    lengths = [length for applied in several for length in _tokens(applied)]
    if lengths:
        return max(lengths)
    constants = {found for applied in several for found in _constants(applied)}
    wanted = (_keys(constant, times) for constant, times in constants if constant * LEAST <= MOST)
    return max(FEWEST, 1 << (max(wanted, default=1) - 1).bit_length())


def _keys(constant: int, times: int) -> int:
    """How many keys a constant wants, for which ``times`` are best."""
    return constant * max(LEAST, min(times, ENOUGH // max(constant, 1)))


def _constants(applied: Applied) -> Iterator[tuple[int, int]]:
    """Every whole number that decides which pairs are kept, of the text and of what tables hold; how often it should
    fit in."""
    for node in walk(applied.attention.mask):
        if isinstance(node, Const) and type(node.value) is int:
            yield abs(node.value), TIMES
        elif isinstance(node, Apply) and node.op == "floordiv" and isinstance(node.args[1], Const):
            yield int(node.args[1].value), BLOCKS
    read = {getattr(node, "table", None) for node in walk(applied.attention.mask)}
    for table in applied.attention.tables:
        held = applied.tables.get(table.name, table.default) if table.value is None else table.value
        if table.name in read and not table.dimensions:
            yield from ((abs(number), TIMES) for number in _numbers(held))


def _numbers(held: Literal_ | None) -> Iterator[int]:
    if isinstance(held, frozenset):
        yield from held
    elif type(held) is int:
        yield held


def _tokens(applied: Applied) -> Iterator[int]:
    """How many tokens the tables have that were given with an entry for each."""
    for table in applied.attention.tables:
        held = applied.tables.get(table.name)
        for dimension in table.dimensions:
            if isinstance(held, tuple) and held:
                if dimension.kind == "token":
                    yield len(held)
                held = held[0]
