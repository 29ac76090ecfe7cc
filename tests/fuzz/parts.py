"""Keys split at random: the results of the parts, merged, against the dense definition over all keys.

Every pattern that is shipped, and some with counts, sinks, learned tables and orders, forward and backward. What is no
key of a part is NaN around it in memory, so that it must not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

import attnc
from attnc.runtime.base.configuration import settings

PAD = 3  # rows of NaN before and behind the keys of a part
TEXT = """
pattern buckets(rank: order[token]) = abs(rank[q] - rank[k]) <= 12
pattern dilated = abs(q - k) <= 24 and (q - k) % 4 == 0
pattern around(g: tokens) = window(6) or q in g or k in g
pattern limited(limit: int[query]) = k <= limit[q]
pattern near_weight(w: float[token]) = k <= q and w[k] <= w[q]
attention everything(
    slope: float[head], bias: float[head, 32], weight: float[token], cap: float[], logit: float[head]
) {
    mask = (0 <= q - k < 30) + (k <= q and k % 7 == 0)
    score = cap * tanh((s + slope[head] * (k - q) + bias[head, (q - k) % 32] + weight[k]) / cap)
    sink = logit[head] + weight[q]
}
attention sunk(logit: float[head]) { mask = causal_window(9)   sink = logit[head] * q / 70 }
"""
MODULE = attnc.loads(TEXT)
Draw = torch.Generator
Tables = dict[str, Tensor]


def _none(_draw: Draw, _case: Case) -> Tables:
    return {}


def _floats(**shapes: str) -> Callable[[Draw, Case], Tables]:
    """Float tables; each shape is written in the letters h (heads), n (positions) and b (batch), or as a number."""

    def tables(draw: Draw, case: Case) -> Tables:
        sizes = {"h": case.heads, "n": case.n, "b": case.batch}
        return {
            name: torch.randn([sizes.get(axis) or int(axis) for axis in shape.split()], generator=draw).double()
            for name, shape in shapes.items()
        }

    return tables


def _ints(name: str, below: Callable[[Case], int], *axes: str) -> Callable[[Draw, Case], Tables]:
    def tables(draw: Draw, case: Case) -> Tables:
        sizes = {"h": case.heads, "n": case.n, "b": case.batch, "m": case.m, "blocks": case.n // 8 - 2}
        shape = [sizes.get(axis) or int(axis) for axis in axes]
        return {name: torch.randint(0, max(1, below(case)), shape, generator=draw)}

    return tables


def _documents(draw: Draw, case: Case) -> Tables:
    return {"doc": torch.randint(0, 2, (case.batch, case.n), generator=draw).cumsum(1) // 5}


def _ranks(draw: Draw, case: Case) -> Tables:
    return {"rank": torch.stack([torch.randperm(case.n, generator=draw) for _ in range(case.batch)])}


def _padded_blocks(draw: Draw, case: Case) -> Tables:
    real = torch.rand(case.n, generator=draw) < 0.8
    return {**_ints("chosen", lambda c: c.n // 8, "h", "blocks", "3")(draw, case), "real": real}


_BLOCKS = _ints("chosen", lambda c: c.n // 8, "h", "blocks", "3")
_GLOBAL = _ints("g", lambda c: c.n, "b", "3")
_LENGTH = _ints("length", lambda c: c.n, "b")


@dataclass(frozen=True)
class Pattern:
    """A declaration, its constants, and how the tables of a call are drawn. ``multiple``: n is one of it."""

    file: str
    name: str
    constants: Mapping[str, object] = field(default_factory=dict)
    tables: Callable[[Draw, Case], Tables] = _none
    multiple: int = 1

    @cached_property
    def attend(self) -> attnc.Attention:
        module = MODULE if self.file == "own" else attnc.load(self.file)
        return module[self.name](**self.constants)  # type: ignore[no-any-return]


PATTERNS: tuple[Pattern, ...] = (
    Pattern("full", "full"),
    Pattern("causal", "causal"),
    Pattern("window", "window", {"size": 20}),
    Pattern("window", "causal_window", {"size": 7, "dilation": 5}),
    Pattern("window", "diagonal_only"),
    Pattern("longformer", "longformer", {"size": 16, "dilation": 2}, _GLOBAL),
    Pattern("bigbird", "bigbird", {"block": 8}, _BLOCKS, 8),
    Pattern("bigbird", "bigbird_padded", {"block": 8}, _padded_blocks, 8),
    Pattern("strided", "strided", {"stride": 12}),
    Pattern("strided", "fixed", {"stride": 12, "summary": 3}),
    Pattern("documents", "documents", {}, _documents),
    Pattern("documents", "causal_documents", {}, _documents),
    Pattern("documents", "window_documents", {"size": 9}, _documents),
    Pattern("prefix_lm", "prefix_lm", {}, _LENGTH),
    Pattern("sink_window", "sink_window", {"size": 10, "sinks": 3}),
    Pattern("alibi", "alibi", {}, _floats(slope="h")),
    Pattern("alibi", "alibi_window", {"size": 30}, _floats(slope="h")),
    Pattern("softcap", "softcap", {"size": 25, "cap": 2.0}),
    Pattern("softcap", "softcap_causal", {"cap": 2.0}),
    Pattern("std", "band", {"left": 5, "right": 17}),
    Pattern("std", "sees_all", {}, _GLOBAL),
    Pattern("std", "seen_by_all", {}, _GLOBAL),
    Pattern("std", "global_tokens", {}, _GLOBAL),
    Pattern("std", "first", {"count": 9}),
    Pattern("std", "blocks", {"size": 13}),
    Pattern("std", "block_band", {"size": 7, "left": 1, "right": 2}),
    Pattern("std", "chunked", {"size": 19}),
    Pattern("std", "padded", {}, _LENGTH),
    Pattern("std", "prefix", {}, _LENGTH),
    Pattern("std", "grid_window", {"width": 8, "rows": 3, "cols": 3}),
    Pattern("std", "random_blocks", {"size": 8, "percent": 40}),
    Pattern("own", "buckets", {}, _ranks),
    Pattern("own", "dilated"),
    Pattern("own", "around", {}, _GLOBAL),
    Pattern("own", "limited", {}, _ints("limit", lambda c: c.n, "m")),
    Pattern("own", "near_weight", {}, _floats(w="b n")),
    Pattern("own", "everything", {}, _floats(slope="h", bias="h 32", weight="b n", cap="1", logit="h")),
    Pattern("own", "sunk", {}, _floats(logit="h")),
)


@dataclass(frozen=True)
class Case:
    """One call and its split. ``lengths``: keys of each part; ``orders``: for each entry of the batch the order in
    which the parts' keys follow one another, so that a part begins elsewhere in each.
    """

    seed: int
    pattern: Pattern
    n: int
    m: int
    q_start: tuple[int, ...]
    heads: int
    kv_heads: int
    lengths: tuple[int, ...]
    orders: tuple[tuple[int, ...], ...]
    dropout: float
    beyond: int  # rows behind the last position, in the part that has it

    @property
    def batch(self) -> int:
        return len(self.orders)

    def starts(self, part: int) -> list[int]:
        """The position of the part's first key in each entry of the batch."""
        return [sum(self.lengths[each] for each in order[: order.index(part)]) for order in self.orders]


def told(case: Case) -> str:
    return repr(case)


def kept(case: Case) -> bytes:
    """The same, for a file."""
    return told(case).encode()


def generate(seed: int) -> Case:
    """The case of a seed: patterns in turn."""
    return drawn(seed, PATTERNS[seed % len(PATTERNS)])


def drawn(seed: int, pattern: Pattern, largest: int = 150) -> Case:
    draw = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=draw))

    n = -(-number(24, largest) // pattern.multiple) * pattern.multiple
    batch = 2
    starts = [number(0, n - 1) for _ in range(batch if number(0, 1) else 1)]
    starts = [0] if number(0, 2) == 0 else starts
    m = min(number(1, n), n - max(starts))
    cuts = sorted(number(0, n) for _ in range(number(1, 4)))
    lengths = tuple(b - a for a, b in zip([0, *cuts], [*cuts, n], strict=True))
    plain = tuple(range(len(lengths)))
    orders = [plain] * batch
    if number(0, 1):
        orders = [tuple(torch.randperm(len(lengths), generator=draw).tolist()) for _ in range(batch)]
    heads, kv_heads = ((2, 1), (2, 2), (4, 2))[number(0, 2)]
    dropout = 0.3 * number(0, 1)
    return Case(
        seed, pattern, n, m, tuple(starts), heads, kv_heads, lengths, tuple(orders), dropout, number(0, 1) * 5
    )  # fmt: skip


# -- what is wrong -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """Leaves of a call, in float64 or as they are cast, and what is pulled back from its results."""

    q: Tensor
    k: Tensor
    v: Tensor
    tables: Tables
    pulls: tuple[Tensor, Tensor]

    @property
    def leaves(self) -> list[Tensor]:
        return [self.q, self.k, self.v, *(x for x in self.tables.values() if x.is_floating_point())]


def inputs_of(case: Case) -> Inputs:
    draw = torch.Generator().manual_seed(case.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    q = normal(case.batch, case.heads, case.m, 6)
    k, v = normal(case.batch, case.kv_heads, case.n, 6), normal(case.batch, case.kv_heads, case.n, 5)
    tables = case.pattern.tables(draw, case)
    if "cap" in tables:
        tables["cap"] = torch.tensor(2.0, dtype=torch.float64)
    pulls = normal(case.batch, case.heads, case.m, 5), normal(case.batch, case.heads, case.m)
    given = Inputs(q, k, v, tables, pulls)
    for leaf in given.leaves:
        leaf.requires_grad_()
    return given


def whole(case: Case, given: Inputs) -> tuple[Tensor, Tensor]:
    """out and lse over all keys, by the dense definition."""
    found = case.pattern.attend.reference(
        given.q, given.k, given.v, q_start=torch.tensor(case.q_start), return_lse=True, dropout=case.dropout,
        seed=case.seed, **given.tables,
    )  # fmt: skip
    return found[0], found[1]


def rows_of(x: Tensor, case: Case, part: int) -> Tensor:
    """The part's rows of k or v, with others that are no keys behind the last position, as a view amid NaN."""
    length = case.lengths[part]
    entries = [x[entry, :, start : start + length] for entry, start in enumerate(case.starts(part))]
    behind = case.beyond if all(start + length == case.n for start in case.starts(part)) else 0
    edges = [torch.full((case.batch, x.shape[1], size, x.shape[3]), torch.nan, dtype=x.dtype) for size in (PAD, behind)]
    padded = torch.cat([edges[0], torch.stack(entries), edges[1], edges[0]], 2)
    return padded[:, :, PAD : PAD + length + behind]


def parts(case: Case, given: Inputs, call: Callable[..., Any] | None = None) -> list[tuple[Tensor, Tensor]]:
    """out and lse of each part of the keys; the text's sink is in one of them."""
    found = []
    for part in range(len(case.lengths)):
        starts = case.starts(part)
        same = len(set(starts)) == 1
        ends = {start + case.lengths[part] for start in starts} == {case.n}
        n = None if same and ends and not case.beyond else case.n
        attend = case.pattern.attend if call is None else call
        result = attend(
            given.q, rows_of(given.k, case, part), rows_of(given.v, case, part),
            q_start=torch.tensor(case.q_start), k_start=starts[0] if same else torch.tensor(starts), n=n,
            with_sink=part == case.seed % len(case.lengths), return_lse=True, dropout=case.dropout, seed=case.seed,
            **given.tables,
        )  # fmt: skip
        found.append(result)
    return found


def gradients(case: Case, given: Inputs, results: tuple[Tensor, Tensor]) -> list[Tensor]:
    out, lse = results
    total = (out * given.pulls[0]).sum() + (torch.where(lse == -torch.inf, 0.0, lse) * given.pulls[1]).sum()
    return list(torch.autograd.grad(total, given.leaves, materialize_grads=True))


def differences(case: Case, call: Callable[..., Any] | None = None, tolerance: float = 1e-9) -> str | None:
    """Where the merged parts differ from the whole: which result, and by how much; None where none does."""
    given = inputs_of(case)
    expected, merged = whole(case, given), attnc.merge(parts(case, given, call))
    names = ["out", "lse", "dq", "dk", "dv", *(f"d{name}" for name, x in given.tables.items() if x.requires_grad)]
    pairs = zip((*merged, *gradients(case, given, merged)), (*expected, *gradients(case, given, expected)), strict=True)
    for name, (own, right) in zip(names, pairs, strict=True):
        try:
            torch.testing.assert_close(own, right, rtol=tolerance, atol=tolerance)
        except AssertionError as error:
            return f"{name}: {error}"
    return None


def fault(case: Case) -> str | None:
    """What is wrong with a case in the blocked executor, whose plans are verified, or in the reference."""
    with settings.override(backend="blocked", verify=True):
        found = differences(case)
    return found or differences(case, case.pattern.attend.reference)


def compiled_fault(case: Case) -> str | None:
    """What is wrong with it in C++ kernels."""
    with settings.override(backend="cpp", optimisation=1):
        return differences(case)
