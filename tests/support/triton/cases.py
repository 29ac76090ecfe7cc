"""The Triton kernels in Triton's interpreter against the dense formula in fp64, many cases in one process.

`python -m tests.support.triton.cases` prints one line of JSON: for each case what was compared, each error and its
bound. The interpreter has to be chosen before triton is imported, so tests run this in a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

if __name__ == "__main__":
    os.environ["ATTNC_INTERPRET"] = "1"

import numpy as np
import torch
from torch import Tensor

from attnc.compiler.ir import constructors
from attnc.compiler.ir.constructors import rename_tables
from attnc.compiler.ir.expressions import LOGIT, Const, K, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.orders import Axis, Gathered, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.runtime.base.launch import Launch, TableArgument
from tests.support.oracles.brute import brute_schedule
from tests.support.shipped_support import SHIPPED
from tests.support.shipped_support import support as shipped_support
from tests.support.triton.case import Case, Positions, murmur, numbers
from tests.support.triton.patterns import cases


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same values with other strides, or inside a buffer of NaN."""
    if layout == "strided":
        return values.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "margins":
        buffer = torch.full([size + 3 for size in values.shape], float("nan"), dtype=values.dtype)
        inner = buffer[1:-2, 1:-2, 1:-2, 1:-2]
        inner.copy_(values)
        return inner
    return values


def positions(case: Case, tables: Mapping[str, Tensor]) -> Positions:
    first = torch.tensor(case.q_start)[:, None, None, None]
    q = first + torch.arange(case.m)[:, None]
    batched = {name: values if case.values[name][1] else values[None] for name, values in tables.items()}
    return Positions(q, torch.arange(case.n), torch.arange(case.heads)[:, None, None], case.n, batched)


def natural_program(case: Case, tiles: tuple[int, int]) -> Program:
    """One kernel in natural order, the whole mask its condition."""
    numbered = {table.name: str(number) for number, table in enumerate(case.tables)}
    mask, score = rename_tables(case.mask, numbered), rename_tables(case.score, numbered)
    sink = None if case.sink is None else rename_tables(case.sink, numbered)
    kernel = Kernel(natural(tiles[0]), (Segment(natural(tiles[1]), mask),), "store")
    return Program((kernel,), mask, score, sink, case.tables)


def forced_program(case: Case) -> Program:
    """The same mask cut into several kernels and segments: every fourth row gathered, the others in natural order;
    every third key gathered, the others in natural order, but by residues where the rows are gathered."""
    program = natural_program(case, case.tiles)
    of_row, of_key = (constructors.equal(constructors.mod(x, by), Const(1)) for x, by in ((Q, 4), (K, 3)))
    others = constructors.negation(of_key)
    rest = (
        constructors.filtered(others, program.mask)
        if program.mask.type == "count"
        else constructors.conjunction(others, program.mask)
    )
    rows, keys = natural(case.tiles[0]), natural(case.tiles[1])
    halves = View((Axis(1, 2), Axis(2, None, case.tiles[1] // 2)))
    segments = Segment(keys, rest), Segment(Gathered(of_key, 8), program.mask)
    kernels = (
        Kernel(rows, segments, "store", constructors.negation(of_row)),
        Kernel(Gathered(of_row, 8), (Segment(halves, program.mask),), "merge", of_row),
    )
    return replace(program, kernels=kernels)


def launch_of(case: Case, q: Tensor, k: Tensor, v: Tensor, program: Program | None = None) -> Launch:
    program = program or natural_program(case, case.tiles)
    extent = CallShape(case.n, case.m, case.heads, case.q_start * (case.batch // len(case.q_start)))
    contents = [HostTable(values.numpy(), batched) for values, batched in (case.values[t.name] for t in case.tables)]
    as_bool = [
        held if held.values.dtype != np.uint8 else HostTable(held.values.astype(bool), held.batched)
        for held in contents
    ]
    double = case.dtype == torch.float64
    scale = torch.linspace(0.8, 1.2, case.heads, dtype=torch.float64 if double else torch.float32) / case.head_dim**0.5
    arguments = tuple(
        TableArgument(values.double() if double and values.is_floating_point() else values, batched)
        for values, batched in (case.values[table.name] for table in case.tables)
    )
    return Launch(
        program, brute_schedule(program, extent, as_bool), q, k, v, arguments, scale,
        torch.tensor(case.q_start), case.wide, case.dropout, case.seed,
    )  # fmt: skip


def dense(case: Case, launch: Launch, counts: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """The leaves (q, k, v, float tables), the output and the log-sum-exp, all in fp64."""
    q, k, v = (x.detach().double().clone().requires_grad_() for x in (launch.q, launch.k, launch.v))
    tables, leaves = {}, [q, k, v]
    for declared, argument in zip(case.tables, launch.tables, strict=True):
        values = argument.tensor.detach()
        if declared.element == "float":
            values = values.double().clone().requires_grad_()
            leaves.append(values)
        tables[declared.name] = values
    place = positions(case, tables)
    group = case.heads // case.kv_heads
    logits = q @ k.repeat_interleave(group, 1).transpose(-1, -2) * launch.scale.double()[:, None, None]
    score = case.dense_score(logits, place).expand_as(logits)
    score = torch.where(counts > 0, score + counts.clamp(min=1).double().log(), float("-inf"))
    if case.dense_sink is not None:
        sink = case.dense_sink(place).double().expand(case.batch, case.heads, case.m, 1)
        score = torch.cat([score, sink], -1)
    empty = (score == float("-inf")).all(-1)
    safe = torch.where(empty[..., None], 0.0, score)
    lse = torch.where(empty, float("-inf"), safe.logsumexp(-1))
    p = torch.where(empty[..., None], 0.0, safe.softmax(-1))[..., : case.n]
    if case.dropout:
        batch = torch.arange(case.batch)[:, None, None, None]
        chance = murmur(case.seed & 0xFFFFFFFF, case.seed >> 32, batch, place.head, place.q, place.k)
        p = torch.where(chance >= round(case.dropout * 2**31), p / (1 - case.dropout or 1.0), 0.0)
    return leaves, p @ v.repeat_interleave(group, 1), lse


def inputs(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k, v, and gradients of the output and of the log-sum-exp."""
    shapes = (
        (case.batch, case.heads, case.m, case.head_dim),
        (case.batch, case.kv_heads, case.n, case.head_dim),
        (case.batch, case.kv_heads, case.n, case.value_dim),
        (case.batch, case.heads, case.m, case.value_dim),
    )
    made = [numbers(*shape, seed=seed).to(case.dtype) for seed, shape in enumerate(shapes)]
    made[0] = made[0] * case.magnitude
    laid = [laid_out(x, case.layout) for x in made]
    if case.layout == "strided":  # a gradient that is one row for all, as a sum's is
        laid[3] = made[3][:, :, :1, :1].expand(shapes[3])
    return (*laid, numbers(*shapes[0][:3], seed=9))  # type: ignore[return-value]


def kept_counts(case: Case) -> Tensor:
    tables = {name: values for name, (values, _) in case.values.items()}
    counts = case.dense_mask(positions(case, tables)).int()
    return counts.expand(case.batch, case.heads, case.m, case.n).contiguous()


def error(got: Tensor, expected: Tensor, bound: float) -> tuple[float, float]:
    """The largest difference and its bound, relative to the largest value; NaN counts as infinitely wrong."""
    if got.shape != expected.shape:
        return float("inf"), bound
    got, expected = got.detach().double(), expected.detach()
    same = got == expected  # infinities
    difference = torch.where(same, 0.0, (got - expected).abs()).nan_to_num(nan=float("inf"))
    finite = expected[expected.isfinite()].abs()
    return float(difference.max()), bound * max(1.0, float(finite.max()) if finite.numel() else 1.0)


# Of an output's largest value; gradients, which sum over more, may be four times as far off.
BOUNDS = {torch.float64: 1e-14, torch.float32: 1.5e-6, torch.float16: 1e-3}


def compare(case: Case, program: Program | None = None) -> dict[str, tuple[float, float]]:
    from attnc.runtime.triton import executor

    q, k, v, grad_out, grad_lse = inputs(case)
    counts = kept_counts(case)
    launch = launch_of(case, q, k, v, program)
    leaves, out, lse = dense(case, launch, counts)
    got_out, got_lse = executor.forward(launch)
    grad_lse = grad_lse.to(got_lse.dtype)
    got = executor.backward(launch, got_out, got_lse, grad_out, grad_lse if case.with_lse else None)
    loss = (out * grad_out.double()).sum()
    if case.with_lse:
        loss = loss + torch.where(lse.isfinite(), lse, 0.0).mul(grad_lse.double()).sum()
    expected = torch.autograd.grad(loss, leaves, allow_unused=True)
    bound = BOUNDS[case.dtype]
    # A backward pass weighs by exp(logit - lse), both rounded. Where they are hundreds, that is more than any bound.
    largest = float(lse.detach().nan_to_num(0, 0, 0).abs().max()) if case.magnitude > 1 else 0.0
    rounding = torch.finfo(got_lse.dtype).eps / 2 * largest
    found = {"out": error(got_out, out, bound), "lse": error(got_lse, lse, bound)}
    floats = [(t.name, g) for t, g in zip(case.tables, got.tables, strict=True) if t.element == "float"]
    named = [("q", got.q), ("k", got.k), ("v", got.v), *floats]
    for (name, gradient), leaf, wanted in zip(named, leaves, expected, strict=True):
        assert gradient is not None
        found[f"grad {name}"] = error(
            gradient, torch.zeros_like(leaf) if wanted is None else wanted, 4 * bound + rounding
        )
    for declared, gradient in zip(case.tables, got.tables, strict=True):
        assert (gradient is None) == (declared.element != "float")
    return found


def support(case: Case) -> dict[str, tuple[float, float]]:
    """The exact set of keys: q = 0, so every kept key weighs its count over its row's; all values 0 or 1."""
    from attnc.runtime.triton import executor

    q, k, v, grad_out, _ = inputs(case)
    q, v, grad_out = torch.zeros_like(q), (v > 0).to(v.dtype), (grad_out > 0).to(v.dtype)
    counts = kept_counts(case)
    launch = launch_of(case, q, k, v)
    out, lse = executor.forward(launch)
    gradient = executor.backward(launch, out, lse, grad_out, None).v
    group = case.heads // case.kv_heads
    total = counts.sum(-1, keepdim=True).double()
    exact = counts.double() @ v.double().repeat_interleave(group, 1)
    share = counts.double() / total.clamp(min=1)
    columns = (share.transpose(-1, -2) @ grad_out.double()).unflatten(1, (case.kv_heads, group)).sum(2)
    wrong = int(((out.double() * total).round() != exact).sum())
    return {"support wrong": (float(wrong), 0.0), "support grad v": error(gradient, columns, 2e-6)}


def exactly_countable(case: Case) -> bool:
    plain = case.score == LOGIT and case.sink is None and not case.dropout
    return plain and case.dtype == torch.float32 and not case.wide and case.layout == "plain"


# Cases that are also run in several kernels and segments: each kind of table, sum, shape, layout and dtype once.
FORCED = (
    "causal_strided", "window_half", "window_double", "window_margins", "decode", "more_queries_than_keys",
    "empty_rows", "documents", "members", "limits", "bias_batched", "bias_counts", "rows_and_columns_wide",
    "sink_rows", "score_undefined_outside",
)  # fmt: skip


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    report = {}
    for case in cases():
        if not names or case.name in names:
            report[case.name] = compare(case)
            if exactly_countable(case):
                report[case.name] |= support(case)
            if case.name in FORCED:
                report[f"{case.name} in parts"] = compare(case, forced_program(case))
    for shipped in SHIPPED:
        name = f"{shipped.file}.{shipped.name}"
        if not names or name in names:
            report[name] = shipped_support(shipped, "triton")
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
