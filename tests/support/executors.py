"""One program, laid out by hand, on an executor: forward and backward beside the dense definition in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnc.compiler.ir.attentions import Table
from attnc.compiler.plan.schedule import Schedule
from attnc.compiler.verify.schedule_interpreter import mask
from attnc.runtime.base.launch import Launch, TableArgument
from attnc.runtime.eager.torch_arrays import TorchArrays
from tests.support.handmade import Case
from tests.support.oracles.brute import brute_schedule

if TYPE_CHECKING:
    from attnc.runtime.base.backend import Backend


def launch_of(
    case: Case, schedule: Schedule | None = None, dtype: torch.dtype = torch.float64, batch: int = 2
) -> Launch:
    """Random inputs for a case; two heads of queries share one of keys where the heads are even in number.

    ``batch``: the number of entries, unless positions or contents of tables have more.
    """
    generator = torch.Generator().manual_seed(len(case.name))
    extent = case.extent
    batch = max([batch, len(extent.q_start or ()), *(len(x.values) for x in case.contents if x.batched)])
    kv_heads = extent.heads // 2 if extent.heads % 2 == 0 else extent.heads

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    arguments = tuple(
        TableArgument(_form(table, torch.from_numpy(held.values), dtype), held.batched)
        for table, held in zip(case.program.tables, case.contents, strict=True)
    )
    return Launch(
        program=case.program,
        schedule=brute_schedule(case.program, extent, case.contents) if schedule is None else schedule,
        q=normal(batch, extent.heads, extent.m, 8),
        k=normal(batch, kv_heads, extent.n, 8),
        v=normal(batch, kv_heads, extent.n, 5),
        tables=arguments,
        scale=torch.linspace(0.3, 0.5, extent.heads, dtype=dtype),
        q_start=torch.tensor(extent.q_start),
        wide=False,
        dropout=0.0,
        seed=0,
    )


def _form(table: Table, values: Tensor, dtype: torch.dtype) -> Tensor:
    match table.element:
        case "float":
            return values.to(dtype).contiguous()
        case "bool" | "set":
            return values.contiguous().view(torch.uint8)
        case _:
            return values.to(torch.int32).contiguous()


def dense(case: Case, launch: Launch, given: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """out and lse of q, k, v and the weights, by the definition of :func:`tests.support.handmade.everything`."""
    q, k, v, weight = given
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    counts = torch.from_numpy(mask(case.program, case.extent, case.contents))
    row = launch.q_start.reshape(-1, 1, 1, 1) + torch.arange(case.extent.m).reshape(-1, 1)
    arrays = TorchArrays(q.dtype, q.device)
    score = q @ k.mT * launch.scale[:, None, None]
    score = score + 0.1 * arrays.floats(row - torch.arange(case.extent.n)) + weight
    score = torch.where(counts > 0, score + counts.clamp(min=1).double().log(), -torch.inf)
    if case.program.sink is not None:
        sink = (0.25 + weight[row[..., 0]]).expand(score.shape[:3])
        score = torch.cat([score, sink[..., None]], -1)
        v = torch.cat([v, torch.zeros_like(v[:, :, :1])], 2)
    alive = (score > -torch.inf).any(-1)
    safe = torch.where(alive[..., None], score, 0.0)
    out = torch.where(alive[..., None], safe.softmax(-1), 0.0) @ v
    return out, torch.where(alive, safe.logsumexp(-1), -torch.inf)


def check(backend: Backend, case: Case, launch: Launch, tolerance: float) -> None:
    """AssertionError where outputs, log-sum-exps or gradients differ from the definition's."""
    given = [x.double().clone().requires_grad_() for x in (launch.q, launch.k, launch.v, launch.tables[-1].tensor)]
    expected = dense(case, launch, given)
    found = backend.forward(launch)
    alive = expected[1] > -torch.inf
    assert torch.equal(alive, found[1] > -torch.inf)
    grad_out, grad_lse = torch.randn_like(expected[0]), torch.where(alive, torch.randn_like(expected[1]), 0.0)
    total = (expected[0] * grad_out).sum() + (torch.where(alive, expected[1], 0.0) * grad_lse).sum()
    wanted = torch.autograd.grad(total, given, materialize_grads=True)
    back = backend.backward(launch, *found, grad_out.to(launch.q.dtype), grad_lse.to(launch.compute_dtype))
    weight = back.tables[-1]
    assert weight is not None
    pairs = zip((*expected, *wanted), (*found, back.q, back.k, back.v, weight), strict=True)
    for name, (right, own) in zip(("out", "lse", "dq", "dk", "dv", "dweight"), pairs, strict=True):
        torch.testing.assert_close(
            own.double(), right, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
