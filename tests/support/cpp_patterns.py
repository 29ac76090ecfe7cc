"""Hand-made patterns with the same meaning written twice: in the compiler's expressions and in PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import HEAD, LOGIT, TRUE, Const, Entry, Expr, K, Member, N, Q
from attnc.compiler.ir.operations import murmur
from tests.support.operation_cases import dense_mask_of_all, dense_score_of_all, mask_of_all, score_of_all
from tests.support.oracles.dense_formula import Grid, Pattern, Shape, Tables

TOKEN, QUERY, HEADS = Dimension("token"), Dimension("query"), Dimension("head")
FOUR = Dimension("fixed", 4)


def c(value: float) -> Const:
    return Const(value)


CAUSAL = f.less_equal(K, Q)
WINDOW = f.conjunction(f.less_equal(f.sub(Q, K), c(6)), f.less_equal(f.sub(K, Q), c(6)))


def causal(g: Grid, _: Tables) -> Tensor:
    return g.k <= g.q


def window(g: Grid, _: Tables) -> Tensor:
    return (g.q - g.k).abs() <= 6


def everything(g: Grid, _: Tables) -> Tensor:
    return (g.q + g.k + g.head + g.batch) >= 0


def read(table: Tensor, batch: Tensor, *indices: Tensor) -> Tensor:
    """Entries of ``[batch or 1, dimensions…]``, 0 outside."""
    inside = torch.ones((), dtype=torch.bool)
    clamped = []
    for index, size in zip(indices, table.shape[1:], strict=True):
        inside = inside & (index >= 0) & (index < size)
        clamped.append(index.clamp(0, max(0, size - 1)))
    found = table[(batch.clamp(max=table.shape[0] - 1), *clamped)]
    return torch.where(inside, found, torch.zeros((), dtype=table.dtype))


def member(table: Tensor, batch: Tensor, *indices: Tensor) -> Tensor:
    return read(table, batch, *indices)


def hashes(g: Grid) -> Tensor:
    values = torch.zeros(1, g.heads, 64, 64, dtype=torch.int64)
    for index in np.ndindex(g.heads, 64, 64):
        values[0][index] = murmur((7, *index))
    return values[0, g.head, g.q // 4, g.k // 4]


def float_of(x: Expr) -> Expr:
    return f.to_float(x)


SLOPE = Table("slope", "float", (HEADS,))
BIAS = Table("bias", "float", (HEADS, Dimension("fixed", 25)))
PAIRS = Table("pairs", "float", (QUERY, TOKEN))
KEYS = Table("keys", "float", (TOKEN,))
SINK = Table("sink", "float", (HEADS,))
ROWS = Table("rows", "float", (HEADS, QUERY))
GLOBAL = Table("g", "set", ())
DOCUMENT = Table("doc", "int", (TOKEN,))
LENGTH = Table("length", "int", ())
CHOSEN = Table("chosen", "set", (HEADS, Dimension("free", name="blocks")))
PICKED = Table("picked", "set", (HEADS, TOKEN))
FLAG = Table("flag", "bool", (TOKEN,))
RANK = Table("rank", "order", (FOUR, TOKEN))


def at(table: Table, *indices: Expr) -> Entry:
    kind = {"order": "int", "set": "bool"}.get(table.element, table.element)
    return Entry(table.name, indices, kind)  # type: ignore[arg-type]


def picks(g: Grid, t: Tables) -> Tensor:
    return member(t["picked"], g.batch, g.head, g.q, g.k // 32)


PICKS = Member(f.floordiv(K, 32), "picked", (HEAD, Q))
RELATIVE = f.add(f.sub(K, Q), c(12))
TWICE = f.plus(WINDOW, f.less(K, c(3)), CAUSAL)

PATTERNS: dict[str, Pattern] = {
    "full": Pattern(TRUE, everything),
    "causal": Pattern(CAUSAL, causal),
    "window": Pattern(WINDOW, window),
    "empty": Pattern(f.less(f.add(Q, K), c(-1)), lambda g, _: (g.q + g.k) < -1),
    "dilated": Pattern(
        f.conjunction(f.less_equal(f.absolute(f.sub(Q, K)), c(15)), f.equal(f.mod(f.sub(Q, K), 3), c(0))),
        lambda g, _: ((g.q - g.k).abs() <= 15) & ((g.q - g.k) % 3 == 0),
    ),
    "blocks of the end": Pattern(
        f.conjunction(f.equal(f.floordiv(f.sub(Q, N), 5), f.floordiv(f.sub(K, N), 5)), f.less_equal(f.mod(K, 8), c(5))),
        lambda g, _: ((g.q - g.n) // 5 == (g.k - g.n) // 5) & (g.k % 8 <= 5),
    ),
    "rows that keep nothing": Pattern(
        f.conjunction(f.less(K, f.sub(Q, c(20))), f.not_equal(f.mod(Q, 3), c(0))),
        lambda g, _: (g.k < g.q - 20) & (g.q % 3 != 0),
    ),
    "by head": Pattern(
        f.less(f.sub(Q, K), f.mul(f.add(HEAD, c(1)), c(4))), lambda g, _: g.q - g.k < (g.head + 1) * 4
    ),
    "random": Pattern(
        f.less(f.mod(f.hashed(c(7), HEAD, f.floordiv(Q, 4), f.floordiv(K, 4)), 100), c(30)),
        lambda g, _: hashes(g) % 100 < 30,
    ),
    "opaque functions": Pattern(mask_of_all(), lambda g, _: dense_mask_of_all(g.q, g.k)),
    "min and max": Pattern(
        f.less(f.maximum(f.sub(Q, K), f.neg(f.sub(Q, K)), c(3)), f.minimum(c(9), f.add(Q, c(2)))),
        lambda g, _: torch.maximum((g.q - g.k).abs(), torch.tensor(3)) < torch.minimum(torch.tensor(9), g.q + 2),
    ),
    "same conditions": Pattern(
        f.iff(CAUSAL, f.less(f.mod(K, 4), c(2))), lambda g, t: causal(g, t) == (g.k % 4 < 2)
    ),
    "chosen condition": Pattern(
        f.choose(f.less(HEAD, c(2)), CAUSAL, f.negation(WINDOW)),
        lambda g, t: torch.where(g.head < 2, causal(g, t), ~window(g, t)),
    ),
    "counts": Pattern(TWICE, lambda g, t: window(g, t).long() + (g.k < 3).long() + causal(g, t).long()),
    "filtered counts": Pattern(
        f.filtered(f.less(f.mod(K, 5), c(3)), f.choose(f.less(Q, c(20)), TWICE, WINDOW)),
        lambda g, t: (g.k % 5 < 3).long()
        * torch.where(g.q < 20, window(g, t).long() + (g.k < 3).long() + causal(g, t).long(), window(g, t).long()),
    ),
    "global tokens": Pattern(
        f.disjunction(WINDOW, Member(Q, "g", ()), Member(K, "g", ())),
        lambda g, t: window(g, t) | member(t["g"], g.batch, g.q) | member(t["g"], g.batch, g.k),
        tables=(GLOBAL,),
    ),
    "documents": Pattern(
        f.conjunction(CAUSAL, f.equal(at(DOCUMENT, Q), at(DOCUMENT, K))),
        lambda g, t: causal(g, t) & (read(t["doc"], g.batch, g.q) == read(t["doc"], g.batch, g.k)),
        tables=(DOCUMENT,),
    ),
    "padded": Pattern(
        f.less(K, at(LENGTH)), lambda g, t: g.k < t["length"].view(-1, 1, 1, 1), tables=(LENGTH,)
    ),
    "chosen blocks": Pattern(
        Member(f.floordiv(K, 8), "chosen", (HEAD, f.floordiv(Q, 8))),
        lambda g, t: member(t["chosen"], g.batch, g.head, g.q // 8, g.k // 8),
        tables=(CHOSEN,),
    ),
    "blocks picked by each row": Pattern(PICKS, picks, tables=(PICKED,)),
    "picked blocks, counted, and a score": Pattern(
        f.plus(f.conjunction(CAUSAL, PICKS), f.equal(Q, K), f.conjunction(PICKS, f.less(f.mod(K, 4), c(2)))),
        lambda g, t: (causal(g, t) & picks(g, t)).long() + (g.q == g.k).long() + (picks(g, t) & (g.k % 4 < 2)).long(),
        f.add(LOGIT, f.add(f.mul(at(SLOPE, HEAD), float_of(f.sub(K, Q))), at(PAIRS, Q, K))),
        lambda s, g, t: s + read(t["slope"], g.batch, g.head) * (g.k - g.q)
        + read(t["pairs"], g.batch, g.q - g.start, g.k),
        sink=at(SINK, HEAD), sinks=lambda g, t: read(t["sink"], g.batch, g.head),
        tables=(PICKED, SLOPE, SINK, PAIRS),
    ),
    "flags": Pattern(
        f.disjunction(at(FLAG, K), f.equal(Q, K)),
        lambda g, t: read(t["flag"], g.batch, g.k) | (g.q == g.k),
        tables=(FLAG,),
    ),
    "ranks": Pattern(
        f.equal(f.floordiv(at(RANK, HEAD, Q), 9), f.floordiv(at(RANK, HEAD, K), 9)),
        lambda g, t: read(t["rank"], g.batch, g.head, g.q) // 9 == read(t["rank"], g.batch, g.head, g.k) // 9,
        tables=(RANK,),
    ),
    "alibi": Pattern(
        CAUSAL, causal,
        f.add(LOGIT, f.mul(at(SLOPE, HEAD), float_of(f.sub(K, Q)))),
        lambda s, g, t: s + read(t["slope"], g.batch, g.head) * (g.k - g.q),
        tables=(SLOPE,),
    ),
    "slopes of this head and of the first": Pattern(
        CAUSAL, causal,
        f.add(f.mul(LOGIT, at(SLOPE, c(0))), f.mul(at(SLOPE, HEAD), float_of(f.sub(K, Q)))),
        lambda s, g, t: s * read(t["slope"], g.batch, torch.tensor(0))
        + read(t["slope"], g.batch, g.head) * (g.k - g.q),
        tables=(SLOPE,),
    ),
    "softcap": Pattern(
        WINDOW, window,
        f.mul(c(2.0), f.function("tanh", f.div(LOGIT, c(2.0)))),
        lambda s, g, t: 2 * torch.tanh(s / 2),
    ),
    "relative bias": Pattern(
        WINDOW, window,
        f.add(LOGIT, at(BIAS, HEAD, RELATIVE)),
        lambda s, g, t: s + read(t["bias"], g.batch, g.head, g.k - g.q + 12),
        tables=(BIAS,),
    ),
    "bias of each pair": Pattern(
        CAUSAL, causal,
        f.add(f.mul(LOGIT, at(KEYS, K)), at(PAIRS, Q, K)),
        lambda s, g, t: s * read(t["keys"], g.batch, g.k) + read(t["pairs"], g.batch, g.q - g.start, g.k),
        tables=(PAIRS, KEYS),
    ),
    "sink of each head": Pattern(
        f.less(K, f.sub(Q, c(5))), lambda g, _: g.k < g.q - 5,
        sink=at(SINK, HEAD), sinks=lambda g, t: read(t["sink"], g.batch, g.head), tables=(SINK,),
    ),
    "sink of each row, and a score": Pattern(
        f.plus(CAUSAL, WINDOW), lambda g, t: causal(g, t).long() + window(g, t).long(),
        f.function("sigmoid", f.sub(f.mul(LOGIT, LOGIT), at(SINK, HEAD))),
        lambda s, g, t: torch.sigmoid(s * s - read(t["sink"], g.batch, g.head)),
        sink=f.mul(at(ROWS, HEAD, Q), at(SINK, HEAD)),
        sinks=lambda g, t: read(t["rows"], g.batch, g.head, g.q - g.start) * read(t["sink"], g.batch, g.head),
        tables=(SINK, ROWS),
    ),
    "every function": Pattern(
        WINDOW, window,
        f.add(
            score_of_all(),
            f.minimum(LOGIT, c(0.5)),
            f.maximum(f.neg(LOGIT), at(SLOPE, HEAD)),
            f.choose(f.less(K, Q), LOGIT, c(0.25)),
        ),
        lambda s, g, t: dense_score_of_all(s)
        + torch.minimum(s, torch.tensor(0.5, dtype=s.dtype)) + torch.maximum(-s, read(t["slope"], g.batch, g.head))
        + torch.where(g.k < g.q, s, torch.tensor(0.25, dtype=s.dtype)),
        tables=(SLOPE,),
    ),
    "threshold of a float table": Pattern(
        f.conjunction(CAUSAL, f.less(at(KEYS, K), c(0.5))),
        lambda g, t: causal(g, t) & (read(t["keys"], g.batch, g.k) < 0.5),
        tables=(KEYS,),
    ),
}  # fmt: skip


def _sizes(table: Table, shape: Shape) -> tuple[int, ...]:
    known = {
        "token": shape.n,
        "query": shape.m,
        "head": shape.heads,
        "free": -(-max(shape.m + max(shape.starts), shape.n) // 8),
    }
    sizes = tuple(known.get(d.kind, d.size or 0) for d in table.dimensions)
    if table.element != "set":
        return sizes
    return (*sizes, known["free"] if sizes else shape.n)


def random_tables(pattern: Pattern, shape: Shape, seed: int = 1) -> dict[str, Tensor]:
    """Contents ``[batch, sizes…]``; every other table is shared by the batch, ``[1, sizes…]``."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for number, table in enumerate(pattern.tables):
        size = (shape.batch if (number + len(pattern.tables)) % 2 else 1, *_sizes(table, shape))
        match table.element:
            case "float":
                found[table.name] = torch.randn(size, generator=generator).mul(0.5)
            case "set" | "bool":
                found[table.name] = torch.rand(size, generator=generator) < 0.2
            case "order":
                found[table.name] = torch.rand(size, generator=generator).argsort(-1)
            case "int":
                high = shape.n if table.name == "length" else 4
                found[table.name] = torch.randint(0, high, size, generator=generator).sort(-1)[0]
    return found
