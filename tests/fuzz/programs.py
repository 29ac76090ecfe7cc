"""One random mask as programs in many orders: carried out by the judge of schedules, and by the kernels.

Each program is arranged as the compiler chooses, and again with a walk drawn at random for each term, heads together or
apart, as for a launch of which the host does not know everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from random import Random

import numpy as np
import torch

from attnc.compiler import ir, pipeline
from attnc.compiler.analysis.normal_form import normalise, parts
from attnc.compiler.arrange.assemble import AssignedTerm, assemble
from attnc.compiler.arrange.candidates import SearchContext, walks
from attnc.compiler.arrange.head_groups import groups
from attnc.compiler.arrange.search import applies_to, arrange
from attnc.compiler.ir.constructors import rename_tables
from attnc.compiler.ir.expressions import Apply, Expr, walk
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.oracle.out_of_table import OutOfTableError
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.printer import program as described
from attnc.compiler.plan.programs import Kernel, Program
from attnc.compiler.plan.tile_choices import Choices
from attnc.compiler.schedule.segments import schedule
from attnc.compiler.verify.schedule_interpreter import Inputs, execute, visits
from attnc.compiler.verify.schedule_interpreter import mask as kept_pairs
from attnc.runtime import launch_cache, planning
from attnc.runtime.call.checks import Call
from attnc.runtime.eager.dense_reference import reference
from tests.fuzz import structures as fuzz_structures
from tests.fuzz.masks import Bound, bound
from tests.support.generators.programs import Program as Text
from tests.support.generators.programs import generate
from tests.support.generators.walked_programs import generate_walked

TILES = (Tiles(8, 4, 2), Tiles(4, 8, 4), Tiles(16, 16, 16), Tiles(5, 3, 2), Tiles(32, 8, 4))
FORCED = 2
SHAPES = 4  # of one program on the kernels
TOLERANCE = 1e-9


def generate_any(seed: int, *, largest: int = 64) -> Text:
    """Of three programs one as anyone might write it, and two for whose masks orders are found."""
    return generate(seed, largest=largest) if seed % 3 == 0 else generate_walked(seed, largest=largest)


def small(seed: int) -> Text:
    """The program of a seed, for a call that the interpreter can bear."""
    return generate_any(seed, largest=40)


def newer(seed: int, *, largest: int = 64) -> Text:
    """The program of a seed whose mask divides by what a call gives, or computes with floats."""
    for attempt in count():
        program = generate(4 * (1000 * seed + attempt) + 3, largest=largest)  # of these, some have such atoms
        attention = bound(program).attention
        divides = any(table.divides for table in attention.tables)
        parts_of_mask = [part for part in walk(attention.mask) if isinstance(part, Apply)]
        if divides or any(part.type == "float" and part.op != "float" for part in parts_of_mask):
            return replace(program, seed=seed)
    raise AssertionError


def newer_small(seed: int) -> Text:
    """The same for a call that the interpreter can bear."""
    return newer(seed, largest=40)


def forced(
    attention: ir.Attention, tiles: Tiles, heads: int | None, known: frozenset[int], natural_rows: bool, draw: Random
) -> Program:
    """A program of the attention, each of its terms in one of the walks that suit it, drawn at random."""
    numbers = {table.name: str(number) for number, table in enumerate(attention.tables)}
    mask, score = (rename_tables(part, numbers) for part in (attention.mask, attention.score))
    sink = None if attention.sink is None else rename_tables(attention.sink, numbers)
    plain = Program((), mask, score, sink, attention.tables)
    may_know = SearchContext(tiles, plain.tables, frozenset(map(str, known)))
    apart = groups(plain.mask, heads) if heads is not None and draw.random() < 0.7 else ()
    if len(apart) < 2:
        return replace(plain, kernels=_drawn(plain.mask, may_know, natural_rows, draw))
    kernels = (
        replace(kernel, heads=group.heads)
        for group in apart
        for kernel in _drawn(group.mask, may_know, natural_rows, draw)
    )
    return replace(plain, kernels=tuple(kernels))


def _drawn(condition: Expr, known: SearchContext, natural_rows: bool, draw: Random) -> tuple[Kernel, ...]:
    placed = tuple(
        AssignedTerm(number, term, draw.choice(walks(term, known, natural_rows)))
        for number, part in enumerate(normalise(condition))
        for term in part
    )
    return assemble(placed, parts(condition), known.tiles, known.tables)


def fault(program: Text) -> str | None:
    """What is wrong with a program's mask in any of its orders: the pairs visited, or the result; None if nothing."""
    subject, draw = bound(program), Random(program.seed)
    judge = _Judge(subject, draw)
    for attempt in range(1 + FORCED):
        tiles = draw.choice(TILES)
        known, extent = judge.all_known, subject.program.sizes.extent
        if attempt and draw.random() < 0.3:  # what the host does not know, the schedule must do without
            known = frozenset(number for number in known if draw.random() < 0.5)
            extent = replace(extent, q_start=None) if draw.random() < 0.3 else extent
        made = None
        for natural_rows in (False, True):
            if attempt:
                made = forced(subject.attention, tiles, extent.heads, known, natural_rows, draw)
            else:
                made = arrange(subject.attention, tiles, extent.heads, known, natural_rows)
            if applies_to(made, extent):
                break
        assert made is not None
        told = f"{tiles}, {'drawn' if attempt else 'chosen'}, known {sorted(known)}, rows from {extent.q_start}"
        try:
            found = judge.fault(made, extent, known)
        except Exception as error:
            error.add_note(f"{told}\n{described(made)}")
            raise
        if found is not None:
            return f"{told}: {found}\n{described(made)}"
    return None


class _Judge:
    """Holds programs of one mask against the dense definition."""

    def __init__(self, subject: Bound, draw: Random) -> None:
        self.subject, self.extent = subject, subject.program.sizes.extent
        self.contents = tuple(_as_called(own) for own in subject.contents.values())
        self.all_known = frozenset(range(len(self.contents)))
        self.inputs, self.expected = _reference(subject, draw.getrandbits(31))

    def fault(self, program: Program, extent: CallShape, known: frozenset[int]) -> str | None:
        """``extent`` and ``known``: as far as the host knows them."""
        held = tuple(own if number in known else _hidden(own) for number, own in enumerate(self.contents))
        plan = schedule(program, extent, held)
        kept = kept_pairs(program, self.extent, self.contents)
        result = None
        if self.expected is not None:
            result = execute(program, plan, self.extent, self.contents, self.inputs)
        by_query = visits(program, plan, self.extent, self.contents) if result is None else result.visits
        by_key = visits(program, plan, self.extent, self.contents, by_key=True)
        for way, found in (("by query", by_query), ("by key", by_key)):
            wrong = np.argwhere(found != kept)
            if len(wrong):
                place = tuple(wrong[0].tolist())
                return f"{len(wrong)} pairs counted wrongly {way}; {place} {found[place]} times, not {kept[place]}"
        if result is None or self.expected is None:
            return None
        for name, own, right in (("out", result.out, self.expected[0]), ("lse", result.lse, self.expected[1])):
            error = _error(own, right)
            if not error <= TOLERANCE:
                return f"{name} differs by {error:.3g}"
        return None


def _as_called(held: HostTable) -> HostTable:
    """As a call in float64 holds it."""
    assert held.values is not None
    return replace(held, values=held.values.astype(np.float64)) if held.values.dtype.kind == "f" else held


def _hidden(held: HostTable) -> HostTable:
    assert held.values is not None
    wide = held.values.dtype == np.int64
    return HostTable(None, held.batched, held.values.shape, wide)


def _reference(subject: Bound, seed: int) -> tuple[Inputs, tuple[np.ndarray, np.ndarray] | None]:
    """Inputs in float64 and what they give by the definition; None where that refuses an index."""
    sizes, generator = subject.program.sizes, torch.Generator().manual_seed(seed)
    batch = max([sizes.batch, *(len(x.values) for x in subject.contents.values() if x.batched)])
    q, k, v = (
        torch.randn(batch, sizes.heads, tokens, 4, generator=generator, dtype=torch.float64)
        for tokens in (sizes.m, sizes.n, sizes.n)
    )
    scale = torch.full((), 0.5, dtype=torch.float64)
    tables = {
        table.name: torch.from_numpy(subject.contents[table.name].values) for table in subject.attention.parameters
    }
    starts = torch.tensor(sizes.q_start) if len(sizes.q_start) > 1 else None
    call = Call(q, k, v, tables, scale, sizes.q_start[0], starts, 0.0, 0)
    inputs = Inputs(q.numpy(), k.numpy(), v.numpy(), np.full(sizes.heads, 0.5))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of so little work: several would but wait for each other
    try:
        out, lse = reference(subject.attention, call)
    except OutOfTableError:
        return inputs, None
    finally:
        torch.set_num_threads(threads)
    return inputs, (out.numpy(), lse.numpy())


def _error(own: np.ndarray, right: np.ndarray) -> float:
    same = own == right  # infinities included
    if same.all():
        return 0.0
    if not np.isfinite(own[~same]).all():
        return float("inf")
    finite = right[np.isfinite(right)]
    return float(np.abs(own[~same] - right[~same]).max() / max(1.0, np.abs(finite).max(initial=0.0)))


@contextmanager
def drawn_orders(seed: int) -> Iterator[None]:
    """Calls within it are arranged with walks drawn at random in place of the compiler's choice."""

    def drawn(
        attention: ir.Attention, choices: Choices, heads: int | None, known: frozenset[int], natural_rows: bool
    ) -> Program:
        draw = Random(seed)
        return forced(attention, draw.choice(choices).tiles, heads, known, natural_rows, draw)

    before: Sequence[object] = pipeline.program, planning._programs, planning._plans, launch_cache._entries
    pipeline.program = drawn  # type: ignore[assignment]
    planning._programs, planning._plans, launch_cache._entries = (planning.Kept(8) for _ in range(3))
    try:
        yield
    finally:
        pipeline.program, planning._programs, planning._plans, launch_cache._entries = before  # type: ignore[assignment]


def _kernels(judge: Callable[[Text, int], str | None], program: Text, shapes: int = SHAPES) -> str | None:
    """Forward and backward on an executor, of one program in four in the orders chosen, of the others in drawn ones."""
    if program.seed % 4 == 0:
        return judge(program, shapes)
    with drawn_orders(program.seed):
        found = judge(program, shapes)
    return None if found is None else f"in drawn orders: {found}"


def compiled_fault(program: Text) -> str | None:
    """What is wrong with the kernels of the executor at hand, in one order."""
    return _kernels(fuzz_structures.fault, program)


def interpreted_fault(program: Text) -> str | None:
    """The same with the Triton kernels in the interpreter."""
    return _kernels(fuzz_structures.interpreted_fault, program, fuzz_structures.SHAPES_INTERPRETED - 1)


def device_fault(program: Text, device: str) -> str | None:
    """The same on a device, by its kind: ``cuda``; on ``cpu``, where the interpreter stands for one."""
    return _kernels(partial(fuzz_structures.device_fault, device=device), program)
