"""Every kind of kernel that a GPU runs, as attentions whose programs have that kind, and what their tables hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import attnc

TEXT = """
pattern natural = causal_window(100)
pattern residues(every: int = 4) = abs(q - k) <= 64 * every and (q - k) % every == 0
pattern every_eighth(block: int = 64) =
    causal and (blocks(block) or (q // 512 == k // 512 and q % 8 == 0 and k % 8 == 0))
pattern last_of_blocks = fixed(64, 4)
pattern thirds(block: int = 64) = (q // block - k // block) % 3 == 0 and causal
pattern gathered(g: tokens) = window(32) or q in g or k in g
pattern gathered_by_head(g: set[head]) = causal and (k in g[head] or q - k < 20)
pattern ranks(rank: order[token]) = abs(rank[q] - rank[k]) <= 20
pattern buckets(bucket: order[head, token]) = bucket[head, q] == bucket[head, k]
pattern boxes(width: int = 64, reach: int = 6) = grid_window(width, reach, reach)
pattern orders_of_heads = window(16) if head % 2 == 0 else residues(8)
pattern labels(doc: int[token]) = causal and documents(doc)
pattern hashes = blocks(20) or hash(head, q // 8, k // 8) % 100 < 30
pattern counts = window(30) + causal_window(20) + (causal and k % 3 == 0)
pattern cached(length: int[]) = causal and k < length
attention sinks(logit: float[head]) {
    mask = causal_window(40)
    sink = logit[head]
}
attention softcap(cap: float = 2.0) {
    mask  = causal_window(60)
    score = cap * tanh(s / cap)
}
attention by_head(slope: float[head]) {
    mask  = causal
    score = s + slope[head] * (k - q)
}
attention by_pair(bias: float[head, 64]) {
    mask  = causal_window(64)
    score = s + bias[head, q - k]
}
attention by_row(of_row: float[head, token], of_key: float[token]) {
    mask  = window(60)
    score = s + of_row[head, q] + of_key[k]
}
"""

Tables = dict[str, object]


@dataclass(frozen=True)
class Sizes:
    """One call: ``n`` keys, ``m`` rows from ``q_start`` on."""

    n: int
    m: int
    batch: int
    heads: int
    kv_heads: int
    q_start: int | tuple[int, ...] = 0


@dataclass(frozen=True)
class Kind:
    """A kernel kind: ``declared`` in :data:`TEXT`; ``walks`` are words of the program that its description must hold.

    ``n`` and ``small``: tokens on a device and in a rehearsal, off the tile. ``tables`` makes what the call is given:
    lists and numpy arrays are known to the host, tensors are the device's. ``countable``: with q and all float tables
    zero, each kept key weighs its count over its row's (plus one for a sink).
    """

    name: str
    declared: str
    walks: tuple[str, ...] = ("natural",)
    n: int = 300
    small: int = 70
    tables: Callable[[Sizes, torch.Generator], Tables] = lambda *_: {}
    kv_heads: int = 2
    late: tuple[int, ...] = ()  # q_start of each batch entry; then m is n minus the largest
    decode: bool = False  # one row, the last
    dropout: float = 0.0
    sink: bool = False

    def sizes(self, small: bool) -> Sizes:
        n, batch, heads = (self.small, max(1, len(self.late)), 2) if small else (self.n, 2, 4)
        kv_heads = min(self.kv_heads, heads)
        if self.decode:
            return Sizes(n, 1, batch, heads, kv_heads, n - 1)
        if self.late:
            return Sizes(n, n - max(self.late), batch, heads, kv_heads, self.late)
        return Sizes(n, n, batch, heads, kv_heads)

    @property
    def countable(self) -> bool:
        return not self.dropout


def _floats(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator) / 4


def _order(sizes: Sizes, generator: torch.Generator) -> Tables:
    return {"rank": torch.randperm(sizes.n, generator=generator).numpy()}


def _buckets(sizes: Sizes, generator: torch.Generator) -> Tables:
    shape = sizes.heads, sizes.n
    return {"bucket": torch.randint(0, max(2, sizes.n // 30), shape, generator=generator).numpy()}


def _documents(sizes: Sizes, _: torch.Generator) -> Tables:
    return {"doc": (torch.arange(sizes.n) // 37).numpy()}


def _some(sizes: Sizes, _: torch.Generator) -> Tables:
    return {"g": [0, 5, sizes.n // 2, sizes.n - 1]}


def _some_of_heads(sizes: Sizes, _: torch.Generator) -> Tables:
    return {"g": [[0, 3 + head, sizes.n // 2 + head] for head in range(sizes.heads)]}


def _on_device(make: Callable[[Sizes, torch.Generator], Tables]) -> Callable[[Sizes, torch.Generator], Tables]:
    """The same as tensors: contents that only the device knows."""
    return lambda sizes, generator: {name: torch.as_tensor(x) for name, x in make(sizes, generator).items()}


def _tables() -> tuple[Kind, ...]:
    """Kinds whose learned tables have gradients, in each way that these are summed."""
    return (
        Kind("sinks", "sinks", sink=True, tables=lambda s, g: {"logit": _floats(g, s.heads)}),
        Kind("softcap", "softcap"),
        Kind("score by head", "by_head", tables=lambda s, g: {"slope": _floats(g, s.heads).abs()}),
        Kind("score by pair, added atomically", "by_pair", tables=lambda s, g: {"bias": _floats(g, s.heads, 64)}),
        Kind(
            "score by row and key", "by_row",
            tables=lambda s, g: {"of_row": _floats(g, s.heads, s.n), "of_key": _floats(g, s.n)},
        ),
    )  # fmt: skip


KINDS: tuple[Kind, ...] = (
    Kind("natural", "natural"),
    Kind("residues", "residues", ("residue(4)",), n=1100),
    Kind("gathered, split, merged", "gathered", ("gathered q in g", "gathered k in g", "merge"), n=1100, tables=_some),
    Kind("sorted", "ranks", ("sorted by rank[q]",), tables=_order),
    Kind("boxes", "boxes", ("box of",), n=1285, small=70),
    Kind("counts", "counts", ("every 3",)),
    *_tables(),
    Kind("dropout", "natural", dropout=0.3),
    Kind("one head of keys for all", "natural", kv_heads=1),
    Kind("as many heads of keys", "natural", kv_heads=4),
    Kind("rows from later on", "natural", late=(13, 40)),
    Kind("decoding", "cached", decode=True, tables=lambda s, _: {"length": s.n - 3}),
    Kind("sorted by head", "buckets", ("sorted by bucket[head, q]",), tables=_buckets),
    Kind("gathered by head", "gathered_by_head", ("gathered k in g[head]",), tables=_some_of_heads),
    Kind("every eighth, merged", "every_eighth", ("every 8", "merge"), n=1100),
    Kind("last of blocks", "last_of_blocks", ("4 of every 64",)),
    Kind("blocks of a class", "thirds", ("residue(3) of blocks",), n=700),
    Kind("orders of heads", "orders_of_heads", ("residue(8)", "heads 1"), n=700),
    Kind("labels", "labels", tables=_documents),
    Kind("labels that only the device knows", "labels", tables=_on_device(_documents)),
    Kind("hashes", "hashes"),
)


def attention_of(kind: Kind) -> attnc.Attention:
    found = attnc.loads(TEXT, "gpu.attn")[kind.declared]()
    assert isinstance(found, attnc.Attention)
    return found
