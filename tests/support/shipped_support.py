"""The support test on every shipped pattern, through the operator and its own plans, on any executor.

q is 0, so that each kept key weighs its count over its row's; values and gradients are 0 or 1. Then outputs times the
row's count are whole numbers, and one key more or less shows, which no tolerance could see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

HEADS, KEYS = 2, 88


@dataclass(frozen=True)
class Shipped:
    """A declaration with its parameters at a call."""

    file: str
    name: str
    constants: Mapping[str, object] = field(default_factory=dict)
    tables: Mapping[str, Tensor] = field(default_factory=dict)


def _chosen() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, KEYS // 8, (HEADS, KEYS // 8 - 2, 3), generator=generator)


SHIPPED: tuple[Shipped, ...] = (
    Shipped("full", "full"),
    Shipped("causal", "causal"),
    Shipped("window", "window", {"size": 20}),
    Shipped("window", "causal_window", {"size": 7, "dilation": 5}),
    Shipped("longformer", "longformer", {"size": 16, "dilation": 2}, {"g": torch.tensor([0, 41, 87])}),
    Shipped("bigbird", "bigbird", {"block": 8}, {"chosen": _chosen()}),
    Shipped("strided", "strided", {"stride": 12}),
    Shipped("strided", "fixed", {"stride": 12, "summary": 3}),
    Shipped("documents", "causal_documents", {}, {"doc": torch.arange(KEYS) // 23}),
    Shipped("prefix_lm", "prefix_lm", {}, {"length": torch.tensor([30])}),
    Shipped("sink_window", "sink_window", {"size": 10, "sinks": 3}),
    Shipped("alibi", "alibi", {}, {"slope": torch.zeros(HEADS)}),
    Shipped("softcap", "softcap", {"size": 25}),
)


def support(shipped: Shipped, executor: str) -> dict[str, tuple[float, float]]:
    """What was compared, each error and its bound; ``executor`` is ``"cpp"`` or ``"triton"``, which must have run."""
    import attnc
    from attnc.runtime.base import counters

    attend: Callable[..., Tensor] = getattr(attnc.load(shipped.file), shipped.name)(**shipped.constants)
    generator = torch.Generator().manual_seed(8)
    q = torch.zeros(1, HEADS, KEYS, 16)
    k = torch.randn(1, 1, KEYS, 16, generator=generator)
    v = torch.randint(0, 2, (1, 1, KEYS, 16), generator=generator).float().requires_grad_()
    grad = torch.randint(0, 2, (1, HEADS, KEYS, 16), generator=generator).float()
    before = counters.launches()
    out = attend(q, k, v, **shipped.tables)
    (got,) = torch.autograd.grad(out, v, grad)
    after = counters.launches()
    missing = sum(after.get(kind, 0) == before.get(kind, 0) for kind in (f"{executor}.forward", f"{executor}.backward"))
    counts = attend.mask(KEYS, heads=HEADS, **shipped.tables).double()  # type: ignore[attr-defined]
    counts = counts.reshape(-1, counts.shape[-2], KEYS).expand(HEADS, -1, -1)
    total = counts.sum(-1, keepdim=True)
    wrong = (out[0].double() * total).round() != counts @ v[0].detach().double()
    columns = ((counts / total.clamp(min=1)).mT @ grad[0].double()).sum(0)
    difference = float((got[0, 0].double() - columns).abs().max())
    return {
        "launches missing": (float(missing), 0.0),
        "support wrong": (float(wrong.sum()), 0.0),
        "support grad v": (difference, 2e-6 * max(1.0, float(columns.abs().max()))),
    }
