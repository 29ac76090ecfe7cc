"""The patterns that the gate looks at: every shipped file, and the windows that targets are set for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from attnc.compiler.ir import Attention
from attnc.compiler.ir.extent import HostTable
from attnc.compiler.modules import bind, load_shipped
from attnc.compiler.plan import BF16, usual
from attnc.runtime.triton.ahead_of_time import of_decoding


@dataclass(frozen=True)
class Pattern:
    """A declaration of a shipped file, with its constants."""

    file: str
    declaration: str
    constants: Mapping[str, object] = field(default_factory=dict)

    def attention(self) -> Attention:
        found = bind(load_shipped(self.file), self.declaration, dict(self.constants))
        assert isinstance(found, Attention)
        return found


PATTERNS: Mapping[str, Pattern] = {
    "full": Pattern("full", "full"),
    "causal": Pattern("causal", "causal"),
    "window1024": Pattern("window", "causal_window", {"size": 1024}),
    "window512": Pattern("window", "window", {"size": 512}),
    "dilated4": Pattern("window", "window", {"size": 512, "dilation": 4}),
    "documents": Pattern("documents", "causal_documents"),
    "sinks": Pattern("sink_window", "sink_window"),
    "longformer": Pattern("longformer", "longformer"),
    "bigbird": Pattern("bigbird", "bigbird"),
    "strided": Pattern("strided", "strided"),
    "prefix_lm": Pattern("prefix_lm", "prefix_lm"),
    "alibi": Pattern("alibi", "alibi"),
    "softcap": Pattern("softcap", "softcap"),
}
DIMS: Mapping[str, tuple[int, ...]] = {
    "sm_90": (64, 80, 96, 128, 192, 256),
    "sm_80": (64, 128),
    "sm_100": (64, 128),
    "gfx942": (64, 128),
}
"""The head dimensions that are looked at, by target."""
TARGETS = tuple(DIMS)
PASSES = ("forward", "backward_keys", "backward_queries")
DECODING = "decoding"
"""The forward pass of few rows at any position, split and packed: what takes the most of its variants."""
KINDS = (*PASSES, DECODING)


def kinds(name: str, target: str) -> tuple[str, ...]:
    """What is looked at of a pattern for a target."""
    if target not in ("sm_90", "sm_80"):
        return PASSES
    attention = PATTERNS[name].attention()
    return KINDS if of_decoding(attention, usual(attention.tables, BF16, 64), target) else PASSES


def contents(name: str, attention: Attention, n: int, heads: int) -> tuple[HostTable, ...]:
    """What the tables of a pattern hold in the calls that are counted, in their order.

    Documents are of geometric lengths, 2,048 on average; three tokens are global; BigBird draws three blocks.
    """
    draw = np.random.default_rng(7)
    found = []
    for table in attention.tables:
        if table.element == "float":
            found.append(HostTable(np.zeros(heads, np.float32)))
        elif name == "longformer":
            found.append(HostTable(np.arange(n) < 3))
        elif name == "bigbird":
            found.append(HostTable(draw.integers(1, n // 64 - 1, (heads, n // 64 - 2, 3)).astype(np.int32)))
        elif name == "documents":
            lengths = draw.geometric(1 / 2048, 4 * n // 2048 + 64)
            found.append(HostTable(np.repeat(np.arange(len(lengths)), lengths)[:n].astype(np.int32)))
        elif name == "prefix_lm":
            found.append(HostTable(np.asarray(n // 4, np.int32)))
        else:
            raise ValueError(f"name is {name!r}, expected a pattern whose table {table.name} is known here")
    return tuple(found)
