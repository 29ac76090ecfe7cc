"""Chooses how many keys `attnc show` draws unless told: enough that the constants of the pattern can be seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..compiler.ir import Apply, Const, Literal_, walk
from .stage_at_work import stage
from .subject import Applied, Target, apply, apply_all

FEWEST, ENOUGH, MOST = 64, 4096, 16384  # keys: at least; as far as constants fit in often; at most
TIMES, BLOCKS, LEAST = 4, 16, 2  # how often a constant fits in; a block size; each of them at least


def telling_length(subject: Target, values: Mapping[str, Literal_], layer: int | None) -> int:
    """The length of a table with an entry per token, if one is given; else a power of two, at least 64.

    Every constant of the mask, and every given number and set member, fits in several times: TIMES, or BLOCKS where it
    is a block size, as far as ENOUGH keys allow, but at least LEAST times. A constant that does not fit LEAST times
    into MOST keys cannot be seen in a picture of pairs, and is ignored. Raises AttnError, InputError.
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
    """How many keys a constant asks for, if it should fit in ``times`` times."""
    return constant * max(LEAST, min(times, ENOUGH // max(constant, 1)))


def _constants(applied: Applied) -> Iterator[tuple[int, int]]:
    """Every integer that decides which pairs are kept, of text and tables, with how often it should fit in."""
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
    """The lengths of the given tables that have an entry per token."""
    for table in applied.attention.tables:
        held = applied.tables.get(table.name)
        for dimension in table.dimensions:
            if isinstance(held, tuple) and held:
                if dimension.kind == "token":
                    yield len(held)
                held = held[0]
