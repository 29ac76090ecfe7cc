"""The way through the compiler on one page: from a text to the source of kernels.

STAGES lists the stages in their order. Each is the function of its name below, from frozen nouns to the next one, and
knows nothing of the others. There is no other way: calls (which keep what the stages make: :mod:`runtime.planning` and
the executors), `Attention.source`, `attnc show --stage` and ahead-of-time compilation all run these functions, so a
pass that is added to one of them is added everywhere. :mod:`compiler.modules` makes a text into a checked Module, and
with constants into an Attention; from there a :class:`Pipeline` goes on.

A stage imports what it runs when it runs: commands list the stages, and load no more than they show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .analysis import Term
    from .codegen import KernelSource
    from .ir import Attention, CallShape, HostTable
    from .modules import Module
    from .plan import Program, Schedule, Tiles
    from .syntax import Attention as AttentionTree
    from .syntax import Model as ModelTree
    from .syntax import Pattern as PatternTree

V = TypeVar("V")

STAGES: Mapping[str, str] = {
    "tree": "what the text says of a declaration, as it says it",
    "mask": "the pairs that are kept, each looked at: the definition, and the judge of the stages below",
    "terms": "the mask as a union of terms, each a conjunction of what it asks of the row, of the key and of both",
    "program": "mask, score, scale and sink with every constant filled in, and the orders in which kernels walk",
    "schedule": "which tiles of keys each tile of rows visits, kernel by kernel, for these sizes and these tables",
    "source": "the kernels, as text for a C++ compiler or for Triton",
}


def tree(module: Module, name: str) -> PatternTree | AttentionTree | ModelTree:
    """The syntax tree of a declaration that can be applied."""
    from .syntax import tree as t

    node = module.definitions[name].node
    assert isinstance(node, (t.Pattern, t.Attention, t.Model))
    return node


def mask(attention: Attention, extent: CallShape, contents: tuple[HostTable, ...]) -> NDArray[Any]:
    """bool or int64 ``[batch or 1, heads, m, n]``; ``contents`` of the tables, in order.

    Raises OutOfTableError, TooLargeError and IntegerRangeError.
    """
    from .oracle import evaluate
    from .verify import check_attention

    check_attention(attention, extent, contents)
    held = {table.name: its for table, its in zip(attention.tables, contents, strict=True)}
    return evaluate(attention.mask, attention.tables, extent, held)


def terms(attention: Attention) -> tuple[tuple[Term, ...], ...]:
    """The terms of each part of the mask that is counted by itself."""
    from .analysis import normalise

    return normalise(attention.mask)


def program(
    attention: Attention,
    tiles: Tiles,
    heads: int | None = None,
    known: frozenset[int] | None = None,
    natural_rows: bool = False,
) -> Program:
    """The program for every length. ``heads``, ``known``, ``natural_rows``: see :func:`compiler.arrange.arrange`."""
    from .arrange import arrange

    return arrange(attention, tiles, heads, known, natural_rows)


def schedule(program: Program, extent: CallShape, contents: tuple[HostTable, ...]) -> Schedule:
    """The tiles that one call visits."""
    from .schedule import schedule as bounds

    return bounds(program, extent, contents)


def source(program: Program, render: Callable[[Program, V], KernelSource], variant: V) -> KernelSource:
    """The text of the kernels, by what renders for one target: numbers are taken out of the program before."""
    from .codegen import lift_constants

    return render(lift_constants(program).program, variant)


@dataclass(frozen=True)
class Pipeline:
    """One attention on its way to kernels of some tiles; a stage is run when its result is first asked for.

    ``extent`` and ``contents``, of every table in order, are those of one call. Without them there is no schedule, and
    the program is the one for calls whose number of heads is not known.
    """

    attention: Attention
    tiles: Tiles
    extent: CallShape | None = None
    contents: tuple[HostTable, ...] = ()

    @cached_property
    def terms(self) -> tuple[tuple[Term, ...], ...]:
        return terms(self.attention)

    @cached_property
    def program(self) -> Program:
        from .arrange import applies_to

        if self.extent is None:
            return program(self.attention, self.tiles)
        plain = program(self.attention, self.tiles, self.extent.heads)
        if applies_to(plain, self.extent):
            return plain
        return program(self.attention, self.tiles, self.extent.heads, natural_rows=True)

    @cached_property
    def schedule(self) -> Schedule:
        assert self.extent is not None, "a schedule is of one call"
        return schedule(self.program, self.extent, self.contents)

    def source(self, render: Callable[[Program, V], KernelSource], variants: Iterable[V]) -> tuple[KernelSource, ...]:
        """The text of each variant."""
        return tuple(source(self.program, render, variant) for variant in variants)
