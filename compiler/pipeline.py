"""The compiler on one page: its stages, in order, from a text to the source of kernels.

STAGES names them. Each is the function below of that name: it maps frozen dataclasses to the next one, and knows
nothing of the other stages. Everything runs these functions: calls (whose results :mod:`runtime.planning` and the
backends keep), `Attention.source`, `attnc show --stage` and ahead-of-time compilation. So a pass that is added to a
stage takes effect everywhere. :mod:`compiler.modules` turns a text into a checked Module, and a declaration of it with
constants into an Attention; a :class:`Pipeline` goes on from there.

A stage imports its code only when it runs, so that a command loads no more than the stages it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .analysis import Term
    from .codegen import KernelSource
    from .ir import Attention, CallShape, HostTable
    from .modules import Module
    from .plan import Choices, Program, Schedule
    from .syntax import Attention as AttentionTree
    from .syntax import Model as ModelTree
    from .syntax import Pattern as PatternTree
    from .verify import Validation

V = TypeVar("V")

STAGES: Mapping[str, str] = {
    "tree": "the syntax tree of a declaration: what the text says, in the text's own words",
    "mask": "the pairs that are kept, each evaluated by itself: the definition, by which the stages below are tested",
    "terms": "the mask as a union of terms, each a conjunction of what it asks of the row, of the key and of both",
    "program": "mask, score, scale and sink with every constant bound, and the orders in which kernels walk",
    "schedule": "which tiles of keys each tile of rows visits, kernel by kernel, for these sizes and these tables",
    "source": "the kernels, as text for a C++ compiler or for Triton",
}


def tree(module: Module, name: str) -> PatternTree | AttentionTree | ModelTree:
    """The syntax tree of a pattern, an attention or a model."""
    from .syntax import tree as t

    node = module.definitions[name].node
    assert isinstance(node, (t.Pattern, t.Attention, t.Model))
    return node


def mask(attention: Attention, extent: CallShape, contents: tuple[HostTable, ...]) -> NDArray[Any]:
    """The dense mask, bool or int64 ``[batch or 1, heads, m, n]``; ``contents`` holds every table, in order.

    Raises OutOfTableError, TooLargeError and IntegerRangeError.
    """
    from .oracle import evaluate
    from .verify import check_attention

    check_attention(attention, extent, contents)
    held = {table.name: its for table, its in zip(attention.tables, contents, strict=True)}
    return evaluate(attention.mask, attention.tables, extent, held)


def terms(attention: Attention) -> tuple[tuple[Term, ...], ...]:
    """The terms of each part of the mask. A condition is one part; a count is the number of its parts that hold."""
    from .analysis import normalise

    return normalise(attention.mask)


def program(
    attention: Attention,
    choices: Choices,
    heads: int | None = None,
    known: frozenset[int] | None = None,
    natural_rows: bool = False,
) -> Program:
    """The program of a pass, right for every length, in the cheapest of the tile shapes that the pass may have.

    The last three arguments are those of :func:`compiler.arrange.arrange`.
    """
    from .arrange import choose

    return choose(attention, choices, heads, known, natural_rows)


def schedule(program: Program, extent: CallShape, contents: tuple[HostTable, ...], on_device: bool = False) -> Schedule:
    """The tiles that each kernel visits in one call. ``on_device``: what the host does not know, the device finds."""
    from .schedule import schedule as bounds

    return bounds(program, extent, contents, on_device=on_device)


def source(program: Program, render: Callable[[Program, V], KernelSource], variant: V) -> KernelSource:
    """The text of the kernels for one target. Constants are lifted first, so that programs can share kernels."""
    from .codegen import lift_constants

    return render(lift_constants(program).program, variant)


@dataclass(frozen=True)
class Pipeline:
    """One attention and the tile shapes of one pass; each stage runs when its result is first asked for.

    ``extent`` and ``contents`` (every table, in order) describe one call. Without an extent there is no schedule, and
    the program is the one for calls whose number of heads is not known.
    """

    attention: Attention
    choices: Choices
    extent: CallShape | None = None
    contents: tuple[HostTable, ...] = ()

    @cached_property
    def terms(self) -> tuple[tuple[Term, ...], ...]:
        return terms(self.attention)

    @cached_property
    def program(self) -> Program:
        from .arrange import applies_to

        if self.extent is None:
            return program(self.attention, self.choices)
        plain = program(self.attention, self.choices, self.extent.heads)
        if applies_to(plain, self.extent):
            return plain
        return program(self.attention, self.choices, self.extent.heads, natural_rows=True)

    @cached_property
    def schedule(self) -> Schedule:
        assert self.extent is not None, "a schedule is of one call"
        return schedule(self.program, self.extent, self.contents)

    @cached_property
    def validation(self) -> tuple[Validation, ...]:
        """What is proved and what is checked of the schedule. ScheduleFaultError where it is wrong for some length."""
        from .verify import validate

        assert self.extent is not None, "a schedule is of one call"
        return validate(self.program, self.schedule, self.extent, self.contents)
