"""Programs made by hand on the Triton kernels, in Triton's interpreter, against the definition in fp64.

`python -m tests.support.triton.programs` prints one line of JSON: for each program what is wrong with it, or nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":
    os.environ["ATTNC_INTERPRET"] = "1"

import numpy as np
import torch

from attnc.compiler.codegen.triton.tuning import make_variant
from attnc.compiler.codegen.triton.variant import TileStep, TritonVariant
from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import HEAD, TRUE, Const, K, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.orders import Axis, Box, Gathered, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.tile_choices import Pass
from attnc.compiler.schedule.segments import schedule
from attnc.runtime.triton.backend import TRITON
from tests.support.executors import check, launch_of
from tests.support.handmade import (
    CAUSAL,
    Case,
    by_head,
    cases,
    divisible,
    everything,
    neighbourhood,
    residues,
    strided,
    within,
)
from tests.support.oracles.brute import brute_schedule
from tests.support.triton.told import tell


def owned() -> Program:
    """One kernel that stores rows of which it speaks for some only: the others get the sink alone."""
    where = divisible(Q, 3, 1)
    kernel = Kernel(natural(8), (Segment(natural(4), CAUSAL),), "store", where)
    return everything(constructors.conjunction(where, CAUSAL), kernel, sink=True)


def shared_keys() -> Program:
    """Groups of heads that cut across those that share keys."""
    dilated, plain = constructors.conjunction(within(8), divisible(constructors.sub(Q, K), 4)), within(3)
    inner = constructors.less(constructors.mod(constructors.add(HEAD, Const(1)), 4), Const(2))
    order = residues(4, 2)
    return everything(
        constructors.choose(inner, dilated, plain),
        Kernel(order, (Segment(order, dilated),), "store", heads=(3, 0)),
        Kernel(natural(4), (Segment(natural(4), plain),), "store", heads=(1, 2)),
    )


def numerous() -> Program:
    """More numbers than a function has arguments."""
    among = constructors.disjunction(*(constructors.equal(K, Const(i * i)) for i in range(300)))
    return everything(among, Kernel(natural(8), (Segment(natural(8), among),), "store"))


def whole_rows() -> Program:
    """Few rows that see all keys, which are cut into parts."""
    few = divisible(Q, 50)
    kernels = (
        Kernel(natural(16), (Segment(natural(16), within(3)),), "store", constructors.negation(few)),
        Kernel(Gathered(few, 2), (Segment(natural(4), TRUE),), "merge", few),
    )
    return everything(constructors.disjunction(within(3), few), *kernels, sink=True)


def wide_boxes() -> Program:
    """A neighbourhood of 13 by 13 on a grid that is 20 wide, which has no whole number of tiles."""
    rows, halo = View((Axis(20, None, 8), Axis(1, 20, 8))), (6, 6)
    mask = neighbourhood(20, (-6, 6), 6)
    return everything(mask, Kernel(rows, (Segment(Box(rows, halo, halo, 64), mask),), "store"))


def line_boxes() -> Program:
    """Boxes along one axis, longer before than behind: whole tiles."""
    near = constructors.conjunction(
        constructors.less_equal(Const(-9), constructors.sub(K, Q)),
        constructors.less_equal(constructors.sub(K, Q), Const(3)),
    )
    rows = natural(4)
    return everything(near, Kernel(rows, (Segment(Box(rows, (9,), (3,), 8), near),), "store"))


def volume_boxes() -> Program:
    """Three axes, uneven halos: a box has a part of a tile left."""
    rows = View((Axis(12, None, 2), Axis(4, 3, 2), Axis(1, 4, 3)))
    places = [
        (constructors.floordiv(x, 12), constructors.mod(constructors.floordiv(x, 4), 3), constructors.mod(x, 4))
        for x in (Q, K)
    ]
    steps = [constructors.sub(k, q) for q, k in zip(*places, strict=True)]
    halo = (1, 1, 1), (2, 0, 2)
    near = constructors.conjunction(
        *(constructors.less_equal(Const(-before), step) for before, step in zip(halo[0], steps, strict=True)),
        *(constructors.less_equal(step, Const(after)) for after, step in zip(halo[1], steps, strict=True)),
    )
    return everything(near, Kernel(rows, (Segment(Box(rows, *halo, 32), near),), "store"))


def boxes_of_some() -> Program:
    """The last three of every eight are near one another, after what all have: boxes in a kernel that merges."""
    rows = View((Axis(8, None, 4), Axis(1, 3, 2)), 5)
    of_row, of_key = (constructors.less_equal(Const(5), constructors.mod(x, 8)) for x in (Q, K))
    near = constructors.conjunction(of_row, of_key, neighbourhood(8, (-2, 3), 1), constructors.negation(within(3)))
    kernels = (
        Kernel(natural(8), (Segment(natural(8), within(3)),), "store"),
        Kernel(rows, (Segment(Box(rows, (2, 1), (3, 1), 16), near),), "merge", of_row),
    )
    return everything(constructors.disjunction(within(3), near), *kernels, sink=True)


def more_cases() -> Iterator[Case]:
    draw = np.random.default_rng(11)
    chosen = HostTable(draw.random((2, 4, 21)) < 0.3, batched=True)
    for case in (
        Case("rows owned", owned(), CallShape(19, 19, 2)),
        Case("heads share keys", shared_keys(), CallShape(21, 21, 4)),
        Case("lists of heads that share keys", by_head(), CallShape(21, 21, 4), (chosen,)),
        Case("many numbers", numerous(), CallShape(17, 17)),
        Case("keys in parts", whole_rows(), CallShape(110, 110)),
        Case("boxes of 13 by 13", wide_boxes(), CallShape(217, 217)),
        Case("boxes along a line", line_boxes(), CallShape(50, 38, 2, (12,))),
        Case("boxes in a volume", volume_boxes(), CallShape(47, 35, 1, (24,))),
        Case("boxes of some tokens", boxes_of_some(), CallShape(61, 61, 2)),
    ):
        yield replace(case, contents=(*case.contents, HostTable(draw.normal(size=case.extent.n))))


def _batch(case: Case) -> int:
    """One entry, as the interpreter takes its time for each; two for the heads that share keys."""
    return 2 if case.extent.heads == 4 else 1


def scheduled(case: Case, tolerance: float = 1e-9, dtype: torch.dtype = torch.float64) -> None:
    """By the bounds that the compiler gives it: closed forms, templates and runs."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    launch = launch_of(case, schedule(case.program, case.extent, case.contents), wide, _batch(case))
    inputs = {name: getattr(launch, name).to(dtype) for name in ("q", "k", "v")}
    check(TRITON, case, replace(launch, **inputs), tolerance)


def looked_at(case: Case) -> None:
    """By a row of runs for each tile."""
    check(
        TRITON,
        case,
        launch_of(case, brute_schedule(case.program, case.extent, case.contents), batch=_batch(case)),
        1e-9,
    )


def cut(case: Case) -> None:
    """With steps that take a part of a tile only, of several axes too."""
    from attnc.runtime.triton import executor

    def small(direction: Pass, *given: Any, **options: Any) -> TritonVariant:
        step = TileStep(2, 4) if direction == "forward" else TileStep(4, 2)
        made = make_variant(direction, *given, **options)
        return replace(made, step=step, described=made.described and step)

    with patch.object(executor, "make_variant", small):
        scheduled(case)


def by_passes(case: Case) -> None:
    """The gradients of keys and values come from a program of other orders and tiles than the rest."""
    mask = case.program.mask
    rows, keys = natural(4), View((Axis(1, 3), Axis(3, None, 8)))
    other = replace(case.program, kernels=(Kernel(rows, (Segment(keys, mask),), "store"),))
    launch = launch_of(case, batch=_batch(case))
    own = other, brute_schedule(other, case.extent, case.contents)
    check(TRITON, case, replace(launch, by_key=own), 1e-9)


def parted(case: Case) -> None:
    """The program has split visits: some kernel's keys are in several parts."""
    from attnc.runtime.triton import executor

    launch = launch_of(case)
    call = executor._prepared(launch, "forward")
    assert max(executor._rows(call, number).parts for number in range(len(launch.program.kernels))) > 3
    scheduled(case)


def same_in_any_order(case: Case) -> None:
    """The same probabilities are dropped whatever the order, and results are equal from run to run."""
    from attnc.runtime.triton import executor

    mask = case.program.mask
    plain = replace(case.program, kernels=(Kernel(natural(16), (Segment(natural(16), mask),), "store"),))
    found = []
    for program in (case.program, case.program, plain):
        launch = replace(launch_of(replace(case, program=program), batch=1), dropout=0.4, seed=77)
        out, lse = executor.forward(launch)
        gradients = executor.backward(launch, out, lse, torch.ones_like(out), None)
        found.append((out, lse, gradients.q, gradients.k, gradients.v))
    for first, again, other in zip(*found, strict=True):
        assert torch.equal(first, again)
        torch.testing.assert_close(first, other, rtol=1e-10, atol=1e-10)


def exact_sums(name: str) -> None:
    from tests.support.triton import exact as triton_exact

    getattr(triton_exact, name)()


def pair_sums(number: int | None) -> None:
    from attnc.runtime.triton import executor  # noqa: F401 - chooses the interpreter before triton is imported
    from tests.support.triton import pair_sums as triton_sums

    if number is None:
        triton_sums.difference_of_values()
    else:
        triton_sums.asked(triton_sums.QUESTIONS[number])


def scales(name: str) -> None:
    from attnc.runtime.triton import executor  # noqa: F401 - chooses the interpreter before triton is imported
    from tests.support.triton import scales as triton_scales

    getattr(triton_scales, name)()


# The questions of tests.support.triton.pair_sums, which cannot be imported before the interpreter is chosen.
SUMMED = (
    "relative", "relative later", "clamped", "buckets with dropout", "several", "kinds", "dilated", "sinks", "counts"
)  # fmt: skip

# Cases of which others here have all that Triton renders; the C++ kernels run them, and `make fuzz` many like them.
ELSEWHERE = {"dilated boxes of fewer rows", "longformer later", "strided"}


def checks() -> dict[str, Callable[[], None]]:
    """Every comparison by its name."""
    made = {case.name: case for case in (*cases(), *more_cases())}
    assert made.keys() >= ELSEWHERE
    found: dict[str, Callable[[], None]] = {
        name: partial(scheduled, case) for name, case in made.items() if name not in ELSEWHERE
    }
    for name in ("grid", "counted"):
        found[f"{name}, runs for each tile"] = partial(looked_at, made[name])
    for name in (
        "grid of fewer rows",
        "buckets of each entry",
        "blocks",
        "strided later",
        "by head",
        "boxes along a line",
    ):
        found[f"{name}, tiles cut"] = partial(cut, made[name])
    for name in ("keys in parts", "buckets of each entry"):
        found[f"{name}, each pass its own"] = partial(by_passes, made[name])
    found["keys in parts"] = lambda: parted(made["keys in parts"])
    half = Case("half", strided(), CallShape(21, 21), (HostTable(np.linspace(-1, 1, 21)),))
    found["half precision"] = lambda: scheduled(half, 4e-3, torch.float16)
    found["dropout"] = lambda: same_in_any_order(made["longformer of many"])
    for name in ("any_float", "not_finite"):
        found[f"sums of pairs, {name}"] = partial(exact_sums, name)
    for number, name in enumerate(SUMMED):
        found[f"sums in blocks, {name}"] = partial(pair_sums, number)
    found["sums in blocks, by differences of values"] = partial(pair_sums, None)
    for name in ("any_scale", "equal_logits", "narrow_tanh"):
        found[name] = partial(scales, name)
    found["boxes, dropout"] = lambda: same_in_any_order(made["boxes along a line"])
    return found


if __name__ == "__main__":
    tell(checks(), sys.argv[1:])
