"""The way through the compiler on one page: from a text to the source of kernels.

Each stage is a function from one frozen noun to the next and knows nothing of the others. :mod:`compiler.modules` makes
a text into a checked Module, and with constants into an Attention. A :class:`Way` goes on from there, for some sizes
and some contents of the tables. (A call takes the same way, and keeps what it can: :mod:`runtime.planning`.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from .analysis import Term, normalise
from .arrange import applies_to, arrange
from .codegen import KernelSource, lift_constants
from .codegen.cpp import CppVariant, render_cpp
from .codegen.triton import TritonVariant, render_triton
from .ir import Attention, CallShape, HostTable
from .modules import Module
from .oracle import evaluate
from .plan import Program, Schedule, Tiles
from .schedule import schedule
from .syntax import Attention as AttentionTree
from .syntax import Model as ModelTree
from .syntax import Pattern as PatternTree
from .verify import check_attention


@dataclass(frozen=True)
class Way:
    """One attention on its way to kernels: declaration ``name`` of a module, bound.

    ``contents``: of every table, by name; ``tiles``: their lanes. A stage
    of :mod:`compiler.pipeline` is made when it is first asked for, from the one before.
    """

    module: Module
    name: str
    attention: Attention
    extent: CallShape
    contents: Mapping[str, HostTable]
    tiles: Tiles

    @cached_property
    def tree(self) -> PatternTree | AttentionTree | ModelTree:
        node = self.module.definitions[self.name].node
        assert isinstance(node, (PatternTree, AttentionTree, ModelTree))
        return node

    @cached_property
    def mask(self) -> NDArray[Any]:
        check_attention(self.attention, self.extent, [self.contents[table.name] for table in self.attention.tables])
        return evaluate(self.attention.mask, self.attention.tables, self.extent, self.contents)

    @cached_property
    def terms(self) -> tuple[tuple[Term, ...], ...]:
        return normalise(self.attention.mask)

    @cached_property
    def program(self) -> Program:
        plain = arrange(self.attention, self.tiles, self.extent.heads)
        if applies_to(plain, self.extent):
            return plain
        return arrange(self.attention, self.tiles, self.extent.heads, natural_rows=True)

    @cached_property
    def schedule(self) -> Schedule:
        held = tuple(self.contents[table.name] for table in self.attention.tables)
        return schedule(self.program, self.extent, held)

    def source(self, variant: CppVariant | TritonVariant) -> KernelSource:
        """For one target, head dimension and dtype, as the variant says."""
        program = lift_constants(self.program).program
        if isinstance(variant, CppVariant):
            return render_cpp(program, variant)
        return render_triton(program, variant)


STAGES: Mapping[str, str] = {
    "tree": "what the text says of a declaration, as it says it",
    "mask": "the pairs that are kept, each looked at: the definition, and the judge of the stages below",
    "terms": "the mask as a union of terms, each a conjunction of what it asks of the row, of the key and of both",
    "program": "mask, score, scale and sink with every constant filled in, and the orders in which kernels walk",
    "schedule": "which tiles of keys each tile of rows visits, kernel by kernel, for these sizes and these tables",
    "source": "the kernels, as text for a C++ compiler or for Triton",
}
