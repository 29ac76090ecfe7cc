"""The published patterns by which orders and schedules are judged, with table contents for any length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnc.compiler.ir.attentions import Attention
from attnc.compiler.ir.extent import HostTable
from attnc.compiler.modules.loader import bind, load_text

TEXT = """
pattern longformer(size: int, g: tokens) = window(size) or q in g or k in g
pattern dilated(reach: int, every: int) = abs(q - k) <= reach and (q - k) % every == 0
pattern bigbird(chosen: int[row, draws], block: int = 64) =
    abs(row - column) <= 1 or row == 0 or column == 0 or any(column == chosen[row, t] for t in 0..<3)
    where row = q // block, column = k // block
pattern thirds(block: int) = (q // block - k // block) % 3 == 0 and k <= q
pattern branch(segment: int, every: int) = q // segment == k // segment and q % every == 0 and k % every == 0
pattern longnet(size: int) = causal and (branch(size // 16, 1) or branch(size // 4, 4) or branch(size, 16))
pattern sinks(size: int, count: int) = causal and (q - k < size or k < count)
pattern before = causal
pattern neighbours(width: int, rows: int, cols: int) = grid_window(width, rows, cols)
pattern summaries(stride: int, summary: int) = fixed(stride, summary)
pattern columns(stride: int) = strided(stride)
pattern packed(doc: int[token]) = causal and documents(doc)
"""


def _few(n: int) -> tuple[HostTable, ...]:
    flags = np.zeros(n, bool)
    flags[[0, 7, 100]] = True
    return (HostTable(flags),)


def _drawn(n: int) -> tuple[HostTable, ...]:
    draw = np.random.default_rng(0)
    return (HostTable(draw.integers(0, n // 64, (n // 64, 3), np.int32)),)


def _packed(n: int) -> tuple[HostTable, ...]:
    """About 24 documents of lognormal lengths."""
    mean = max(64, n // 24)
    drawn = np.random.default_rng(0).lognormal(np.log(mean), 0.8, 4 * n // mean + 8)
    ends = np.cumsum(np.maximum(drawn.astype(np.int64), 16))
    return (HostTable(np.searchsorted(ends, np.arange(n), side="right").astype(np.int32)),)


@dataclass(frozen=True)
class Published:
    """A pattern: its constants at a length, and what its tables hold, in their order."""

    title: str
    name: str
    constants: Callable[[int], dict[str, int]]
    contents: Callable[[int], tuple[HostTable, ...]] = lambda _: ()

    def attention(self, n: int) -> Attention:
        subject = bind(load_text(TEXT, "published.attn", Path()), self.name, self.constants(n))
        assert isinstance(subject, Attention)
        return subject


PUBLISHED = (
    Published("causal", "before", lambda _: {}),
    Published("window of 1,025", "dilated", lambda _: {"reach": 512, "every": 1}),
    Published("Longformer, 512, three global positions", "longformer", lambda _: {"size": 512}, _few),
    Published("window, dilation 4", "dilated", lambda _: {"reach": 1024, "every": 4}),
    Published("window, dilation 2", "dilated", lambda _: {"reach": 512, "every": 2}),
    Published("BigBird, blocks of 64", "bigbird", lambda _: {}, _drawn),
    Published("every third block, causal", "thirds", lambda _: {"block": 64}),
    Published("13 by 13 on a grid 256 wide", "neighbours", lambda _: {"width": 256, "rows": 6, "cols": 6}),
    Published("LongNet", "longnet", lambda n: {"size": n}),
    Published("fixed(256, 8)", "summaries", lambda _: {"stride": 256, "summary": 8}),
    Published("strided(256)", "columns", lambda _: {"stride": 256}),
    Published("causal window of 1,024, four sinks", "sinks", lambda _: {"size": 1024, "count": 4}),
    Published("packed documents, causal", "packed", lambda _: {}, _packed),
)
