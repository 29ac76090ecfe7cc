"""The masks whose speed is measured on a GPU: each as an attention of attnc, with its tables, and for FlexAttention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import attnc

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
GLOBALS, BLOCK, DRAWS, SINKS = 3, 64, 3, 4


@dataclass(frozen=True)
class Pattern:
    """One mask. ``tables``: what the host knows, for a length and a number of heads; ``rule``: the same mask for
    FlexAttention, from those tables on the device, ``(b, h, q, k) -> bool``.

    ``at_least``: the least length at which it is what its name says.
    """

    name: str
    file: str
    declared: str
    rule: Callable[[int, Mapping[str, Tensor]], Rule]
    constants: Mapping[str, int] = field(default_factory=dict)
    tables: Callable[[int, int], dict[str, Any]] = lambda _n, _heads: {}
    at_least: int = 1

    def attention(self) -> attnc.Attention:
        found = attnc.load(self.file)[self.declared](**self.constants)
        assert isinstance(found, attnc.Attention)
        return found

    def pairs(self, n: int, heads: int) -> float:
        """Kept pairs of one head, on average."""
        return self.attention().plan(n, heads=heads, **self.tables(n, heads)).pairs / heads

    def flex(self, n: int, heads: int, device: torch.device) -> Rule:
        return self.rule(n, {name: torch.as_tensor(x, device=device) for name, x in self.tables(n, heads).items()})


def _globals(n: int, _heads: int) -> dict[str, Any]:
    return {"g": [0, n // 3, 2 * n // 3][:GLOBALS]}


def _documents(n: int, _heads: int) -> dict[str, Any]:
    """About 24 documents of lognormal lengths."""
    generator, mean = torch.Generator().manual_seed(0), max(16, n // 24)
    drawn = torch.empty(4 * n // mean + 8).log_normal_(math.log(mean), 0.8, generator=generator)
    ends = drawn.long().clamp(min=16).cumsum(0)
    return {"doc": torch.searchsorted(ends, torch.arange(n), right=True).int().tolist()}


def _chosen(n: int, heads: int) -> dict[str, Any]:
    """Blocks drawn for each middle block of rows: distinct, and none that the rest of the pattern keeps.

    So no pair counts twice, which FlexAttention could not say.
    """
    generator, last = torch.Generator().manual_seed(0), n // BLOCK - 1
    found = []
    for _ in range(heads):
        rows = []
        for row in range(1, last):
            free = torch.tensor([column for column in range(1, last) if abs(column - row) > 1])
            rows.append(free[torch.randperm(len(free), generator=generator)[:DRAWS]].tolist())
        found.append(rows)
    return {"chosen": found}


def _near(reach: int, every: int = 1) -> Callable[[int, Mapping[str, Tensor]], Rule]:
    return lambda _n, _tables: lambda _b, _h, q, k: ((q - k).abs() <= reach * every) & ((q - k) % every == 0)


def _behind(size: int) -> Callable[[int, Mapping[str, Tensor]], Rule]:
    return lambda _n, _tables: lambda _b, _h, q, k: (q - k >= 0) & (q - k < size)


def _longformer(n: int, tables: Mapping[str, Tensor]) -> Rule:
    flags = torch.zeros(n, dtype=torch.bool, device=tables["g"].device)
    flags[tables["g"].long()] = True
    return lambda _b, _h, q, k: ((q - k).abs() <= 256) | flags[q] | flags[k]


def _bigbird(n: int, tables: Mapping[str, Tensor]) -> Rule:
    """By a table of kept blocks: the best that a mask function can look up."""
    heads, last = len(tables["chosen"]), n // BLOCK - 1
    kept = torch.zeros(heads, last + 1, last + 1, dtype=torch.bool, device=tables["chosen"].device)
    kept[:, 1:last].scatter_(2, tables["chosen"].long(), True)
    block = torch.arange(last + 1, device=kept.device)
    kept |= (block[:, None] - block).abs() <= 1
    kept[:, [0, last]] = True
    kept[:, :, [0, last]] = True
    return lambda _b, h, q, k: kept[h, q // BLOCK, k // BLOCK]


CAUSAL = Pattern("causal", "causal", "causal", lambda _n, _tables: lambda _b, _h, q, k: k <= q)
FULL = Pattern("full", "full", "full", lambda _n, _tables: lambda _b, _h, q, _k: q >= 0)
STANDARD = (
    CAUSAL,
    Pattern("window 1,024, causal", "window", "causal_window", _behind(1024), {"size": 1024}),
    Pattern("dilated 4", "window", "window", _near(256, 4), {"size": 512, "dilation": 4}),
    Pattern("strided 256", "strided", "strided",
            lambda _n, _t: lambda _b, _h, q, k: (k <= q) & ((q - k < 256) | ((q - k) % 256 == 0)), {"stride": 256}),
    Pattern("longformer", "longformer", "longformer", _longformer, {"size": 512}, _globals),
    Pattern("bigbird", "bigbird", "bigbird", _bigbird, {"block": BLOCK, "draws": DRAWS}, _chosen, at_least=512),
)  # fmt: skip
OTHERS = (
    FULL,
    Pattern("window 512", "window", "window", _near(256), {"size": 512}),
    Pattern("documents", "documents", "causal_documents",
            lambda _n, t: lambda _b, _h, q, k: (k <= q) & (t["doc"][q] == t["doc"][k]), {}, _documents),
    Pattern("sinks and a window", "sink_window", "sink_window",
            lambda _n, _t: lambda _b, _h, q, k: (k <= q) & ((k < SINKS) | (q - k < 1020)),
            {"size": 1020, "sinks": SINKS}),
)  # fmt: skip
PATTERNS = (*STANDARD, *OTHERS)
