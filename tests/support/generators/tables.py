"""Random run-time tables: their types as text, and contents that make masks interesting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnc.compiler.ir.extent import CallShape, HostTable


@dataclass(frozen=True)
class Sizes:
    """The sizes of the call for which a program is written."""

    n: int
    m: int
    heads: int
    batch: int
    q_start: tuple[int, ...]

    @property
    def end(self) -> int:
        """One more than the largest query position."""
        return max(self.q_start) + self.m

    @property
    def span(self) -> int:
        """One more than the largest position of a query or a key."""
        return max(self.end, self.n)

    @property
    def extent(self) -> CallShape:
        return CallShape(self.n, self.m, self.heads, self.q_start)


@dataclass(frozen=True)
class RuntimeTable:
    """A run-time parameter of a program: its type as the text writes it, what it is for, and what it holds."""

    type: str
    use: str
    contents: HostTable
    limit: int = 0  # what the use needs to know: labels, reach, block size, …
    dimensions: tuple[int, ...] = ()


def draw_sizes(draw: Random, largest: int) -> Sizes:
    """Mostly square calls of one batch entry; also decoding steps, more queries than keys, and batches."""
    n = draw.choice((1, 2, 3, 5, 8, 13, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 80, 96))
    n = max(1, min(n if draw.random() < 0.15 else draw.randint(8, largest), largest))
    heads = draw.choices((1, 2, 3, 4), (6, 3, 1, 1))[0]
    batch = draw.choices((1, 2, 3), (8, 2, 1))[0]
    shape = draw.random()
    if shape < 0.7:
        return Sizes(n, n, heads, batch, (0,))
    if shape < 0.9:  # later rows of the same n
        m = draw.randint(1, n)
        starts = batch if batch > 1 and draw.random() < 0.5 else 1
        return Sizes(n, m, heads, batch, tuple(draw.randint(0, n - m) for _ in range(starts)))
    return Sizes(n, draw.randint(1, largest), heads, batch, (draw.randint(0, 9),))


def _seeded(draw: Random) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(draw.getrandbits(32)))


def _batched(draw: Random, sizes: Sizes, shape: tuple[int, ...]) -> tuple[bool, tuple[int, ...]]:
    """Whether the contents get a batch of their own, and their shape then."""
    batched = sizes.batch > 1 and draw.random() < 0.5
    return batched, ((sizes.batch, *shape) if batched else shape)


def _contents(draw: Random, sizes: Sizes, shape: tuple[int, ...], make: Callable[..., NDArray[Any]]) -> HostTable:
    batched, full = _batched(draw, sizes, shape)
    return HostTable(make(_seeded(draw), full), batched)


def labels(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A label for each token: rising as documents in a packed sequence do, or scattered; sometimes negative."""
    count, rising, low = draw.randint(1, 6), draw.random() < 0.6, draw.choice((0, 0, 0, -2))

    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        values = random.integers(low, low + count, shape, dtype=np.int32)
        return np.sort(values, axis=-1) if rising else values

    return RuntimeTable("int[token]", "labels", _contents(draw, sizes, (sizes.n,), make), count)


def head_labels(draw: Random, sizes: Sizes) -> RuntimeTable:
    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        return random.integers(0, 4, shape, dtype=np.int32)

    return RuntimeTable("int[head, token]", "head_labels", _contents(draw, sizes, (sizes.heads, sizes.n), make), 4)


def limits(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A position for each query row."""

    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        return random.integers(0, sizes.n + 1, shape, dtype=np.int32)

    return RuntimeTable("int[query]", "limits", _contents(draw, sizes, (sizes.m,), make))


def length(draw: Random, sizes: Sizes) -> RuntimeTable:
    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        return random.integers(0, sizes.n + 2, shape, dtype=np.int64 if sizes.n % 2 else np.int32)

    return RuntimeTable("int[]", "length", _contents(draw, sizes, (), make))


def divisor(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A width that a call gives: at least 1."""

    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        return random.choice(np.array([1, 2, 3, 4, 5, 7, 8, 16, 40, 1000], np.int32), shape)

    return RuntimeTable("int[]", "divisor", _contents(draw, sizes, (), make))


def head_sizes(draw: Random, sizes: Sizes) -> RuntimeTable:
    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        return random.integers(1, max(2, sizes.n // 2), shape, dtype=np.int32)

    return RuntimeTable("int[head]", "head_sizes", _contents(draw, sizes, (sizes.heads,), make))


def level(draw: Random, sizes: Sizes) -> RuntimeTable:
    return RuntimeTable("float[]", "level", _contents(draw, sizes, (), _floats))


def slopes(draw: Random, sizes: Sizes) -> RuntimeTable:
    return RuntimeTable("float[head]", "slopes", _contents(draw, sizes, (sizes.heads,), _floats))


def weights(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A float for each token."""
    return RuntimeTable("float[token]", "weights", _contents(draw, sizes, (sizes.n,), _floats))


def times(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A time for each token: quarters, of which sums, differences and products are exact in every dtype of sums."""
    rising = draw.random() < 0.6

    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        values = random.integers(-20, 60, shape) / 4
        return np.asarray(np.sort(values, axis=-1) if rising else values, dtype=np.float32)

    return RuntimeTable("float[token]", "times", _contents(draw, sizes, (sizes.n,), make))


def biases(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A float for each head and relative position of at most so much."""
    reach = draw.randint(1, 6)
    size = 2 * reach + 1
    dimension = draw.choice((str(size), f"relative{size}"))
    contents = _contents(draw, sizes, (sizes.heads, size), _floats)
    return RuntimeTable(f"float[head, {dimension}]", "biases", contents, reach)


def _floats(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.asarray(np.round(random.normal(size=shape), 2), dtype=np.float32)


def flags(draw: Random, sizes: Sizes) -> RuntimeTable:
    density = draw.uniform(0.3, 0.9)

    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.asarray(random.random(shape) < density)

    return RuntimeTable("bool[token]", "flags", _contents(draw, sizes, (sizes.n,), make))


def block_flags(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A condition for each pair of blocks, by free dimensions that carry their size in their name."""
    block = draw.choice((2, 3, 4, 8))
    rows, columns = -(-sizes.end // block), -(-sizes.n // block)
    density = draw.uniform(0.2, 0.8)

    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        return np.asarray(random.random(shape) < density)

    contents = _contents(draw, sizes, (rows, columns), make)
    return RuntimeTable(f"bool[block{rows}, block{columns}]", "block_flags", contents, block)


def choices(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A random block for each head and block of queries, as BigBird's: one of several draws."""
    block, draws = draw.choice((2, 4, 8)), draw.randint(1, 3)
    rows = -(-sizes.end // block)

    def make(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        return random.integers(0, -(-sizes.n // block), shape, dtype=np.int32)

    contents = _contents(draw, sizes, (sizes.heads, rows, draws), make)
    return RuntimeTable(f"int[head, block{rows}, {draws}]", "choices", contents, block, (draws,))


def tokens(draw: Random, sizes: Sizes) -> RuntimeTable:
    """A few positions seen by all; the universe may be smaller or larger than n."""
    return RuntimeTable(draw.choice(("tokens", "tokens", "set[]")), "tokens", _sets(draw, sizes, (), 0.12))


def head_sets(draw: Random, sizes: Sizes) -> RuntimeTable:
    return RuntimeTable("set[head]", "head_sets", _sets(draw, sizes, (sizes.heads,), 0.25))


def block_sets(draw: Random, sizes: Sizes) -> RuntimeTable:
    """For each head and block of queries, the chosen blocks of keys."""
    block = draw.choice((2, 4, 8))
    rows = -(-sizes.end // block)
    contents = _sets(draw, sizes, (sizes.heads, rows), 0.4)
    return RuntimeTable(f"set[head, block{rows}]", "block_sets", contents, block)


def query_sets(draw: Random, sizes: Sizes) -> RuntimeTable:
    return RuntimeTable("set[query]", "query_sets", _sets(draw, sizes, (sizes.m,), 0.3))


def _sets(draw: Random, sizes: Sizes, shape: tuple[int, ...], density: float) -> HostTable:
    universe = max(1, sizes.n + draw.choice((0, 0, 0, 5, -3)))

    def make(random: np.random.Generator, full: tuple[int, ...]) -> NDArray[Any]:
        return np.asarray(random.random(full) < density)

    return _contents(draw, sizes, (*shape, universe), make)


def order(draw: Random, sizes: Sizes) -> RuntimeTable:
    contents = _contents(draw, sizes, (sizes.n,), _permutations)
    return RuntimeTable("order[token]", "order", contents, draw.choice((2, 4, 8)))


def head_order(draw: Random, sizes: Sizes) -> RuntimeTable:
    contents = _contents(draw, sizes, (sizes.heads, sizes.n), _permutations)
    return RuntimeTable("order[head, token]", "head_order", contents, draw.choice((2, 4, 8)))


def _permutations(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.argsort(random.random(shape), axis=-1).astype(np.int32)


def literal(contents: HostTable, table_type: str) -> str:
    """The contents as a literal of the language; of a batch, the first entry."""
    assert contents.values is not None
    values = contents.values[0] if contents.batched else contents.values
    is_set = table_type.startswith(("set", "tokens"))
    return _literal(values, values.ndim - 1 if is_set else values.ndim, is_set)


def _literal(values: Any, depth: int, is_set: bool) -> str:
    if depth:
        return "[" + ", ".join(_literal(part, depth - 1, is_set) for part in values) + "]"
    if is_set:
        return "{" + ", ".join(str(int(member)) for member in np.flatnonzero(values)) + "}"
    value = values.item()
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else f"{value:.2f}"
