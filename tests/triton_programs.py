"""Programs made by hand on the Triton kernels, in Triton's interpreter, against the definition in fp64.

`python -m tests.triton_programs` prints one line of JSON: for each program what was compared, each error and its bound.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

if __name__ == "__main__":
    os.environ["ATTNC_INTERPRET"] = "1"

import numpy as np
import torch
from torch import Tensor

from attnc.compiler.evaluate import Environment, TableValues, environment, interpret
from attnc.compiler.plan import Program
from attnc.runtime.arrays import TorchArrays
from attnc.runtime.launch import Launch, TableArgument

from .brute import brute_schedule
from .handmade import Case, cases
from .triton_case import murmur, numbers
from .triton_cases import BOUNDS, error, laid_out

HEAD_DIM, VALUE_DIM = 20, 16


def table_arguments(case: Case) -> tuple[TableArgument, ...]:
    kinds = {"int": np.int32, "order": np.int32, "float": np.float32, "bool": np.uint8, "set": np.uint8}
    found = []
    for table, held in zip(case.program.tables, case.contents, strict=True):
        assert held.values is not None
        found.append(TableArgument(torch.from_numpy(held.values.astype(kinds[table.element])), held.batched))
    return tuple(found)


def launch_of(case: Case, dtype: torch.dtype, group: int = 1, dropout: float = 0.0, layout: str = "plain") -> Launch:
    extent = case.extent
    assert extent.q_start is not None
    tables = table_arguments(case)
    batch = max([len(extent.q_start), *(table.tensor.shape[0] for table in tables if table.batched)])
    kv_heads = extent.heads // group
    shapes = (
        (batch, extent.heads, extent.m, HEAD_DIM),
        (batch, kv_heads, extent.n, HEAD_DIM),
        (batch, kv_heads, extent.n, VALUE_DIM),
    )
    q, k, v = (laid_out(numbers(*shape, seed=seed).to(dtype), layout) for seed, shape in enumerate(shapes))
    return Launch(
        case.program, brute_schedule(case.program, extent, case.contents), q, k, v, tables,
        torch.linspace(0.8, 1.2, extent.heads) / HEAD_DIM**0.5, torch.tensor(extent.q_start), False, dropout, 12345,
    )  # fmt: skip


def bound_of(launch: Launch, tables: Sequence[Tensor]) -> Environment:
    schedule, heads = launch.schedule, launch.q.shape[1]
    arrays = TorchArrays(torch.float64, launch.q.device)
    values = {
        str(number): TableValues(table, tensor.bool() if table.element in ("set", "bool") else tensor, argument.batched)
        for number, (table, argument, tensor) in enumerate(
            zip(launch.program.tables, launch.tables, tables, strict=True)
        )
    }
    return environment(arrays, schedule.n, schedule.m, heads, launch.q_start, values, reached=arrays.constant(False))


def dense(launch: Launch) -> tuple[list[Tensor], Tensor, Tensor]:
    """The leaves (q, k, v, float tables), the output and the log-sum-exp, by the definition, in fp64."""
    q, k, v = (x.detach().double().clone().requires_grad_() for x in (launch.q, launch.k, launch.v))
    program: Program = launch.program
    tables = [
        argument.tensor.double().requires_grad_() if table.element == "float" else argument.tensor
        for table, argument in zip(program.tables, launch.tables, strict=True)
    ]
    group = q.shape[1] // k.shape[1]
    logits = q @ k.repeat_interleave(group, 1).mT * launch.scale.double()[:, None, None]
    bound = bound_of(launch, tables)
    counts = interpret(program.mask, bound).int().expand_as(logits)
    score = interpret(program.score, replace(bound, logit=logits)).expand_as(logits)
    score = torch.where(counts > 0, score + counts.clamp(min=1).double().log(), -torch.inf)
    if program.sink is not None:
        score = torch.cat([score, interpret(program.sink, bound).expand(*score.shape[:3], 1)], -1)
    empty = (score == -torch.inf).all(-1, keepdim=True)
    safe = torch.where(empty, 0.0, score)
    lse = torch.where(empty[..., 0], -torch.inf, safe.logsumexp(-1))
    p = torch.where(empty, 0.0, safe.softmax(-1))[..., : launch.schedule.n]
    if launch.dropout:
        batch = torch.arange(q.shape[0])[:, None, None, None]
        place = bound.positions
        chance = murmur(launch.seed, 0, batch, place["head"], place["q"], place["k"])
        p = torch.where(chance >= round(launch.dropout * 2**31), p / (1 - launch.dropout), 0.0)
    leaves = [q, k, v, *(t for t in tables if t.requires_grad)]
    return leaves, p @ v.repeat_interleave(group, 1), lse


def compare(launch: Launch) -> dict[str, tuple[float, float]]:
    from attnc.runtime import gpu

    leaves, out, lse = dense(launch)
    got_out, got_lse = gpu.forward(launch)
    grad_out, grad_lse = numbers(*out.shape, seed=7).to(got_out.dtype), numbers(*lse.shape, seed=8)
    got = gpu.backward(launch, got_out, got_lse, grad_out, grad_lse)
    loss = (out * grad_out.double()).sum() + (torch.where(lse.isfinite(), lse, 0.0) * grad_lse.double()).sum()
    expected = torch.autograd.grad(loss, leaves, allow_unused=True)
    bound = BOUNDS[launch.q.dtype]
    found = {"out": error(got_out, out, bound), "lse": error(got_lse, lse, bound)}
    gradients = [got.q, got.k, got.v, *(g for g in got.tables if g is not None)]
    names = ("grad q", "grad k", "grad v", *(f"grad table {i}" for i in range(len(gradients) - 3)))
    for name, gradient, leaf, wanted in zip(names, gradients, leaves, expected, strict=True):
        wanted = torch.zeros_like(leaf) if wanted is None else wanted
        found[name] = error(gradient, wanted.double(), 4 * bound)
    again = gpu.forward(launch), gpu.backward(launch, got_out, got_lse, grad_out, grad_lse)
    same = all(torch.equal(a, b) for a, b in zip(again[0], (got_out, got_lse), strict=True))
    same = same and all(
        torch.equal(a, b) for a, b in zip((again[1].q, again[1].k, again[1].v), gradients, strict=False)
    )
    found["differs from run to run"] = (float(not same), 0.0)
    return found


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    report = {}
    for case in cases():
        if not names or case.name in names:
            report[case.name] = compare(launch_of(case, torch.float32))
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
