"""attnc on a CPU beside everything one would use there: PyTorch's attention, FlexAttention, transformers' own sparse
layers and what serves, over lengths, head dimensions and dtypes. A row is a pattern at one size: all its ways in turn.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import _serving
import torch
from _bigbird import BLOCK, DRAWS, HuggingFaceBigBird
from _questions import BATCH, HEADS, OPERATIONS, SQUARE, product, random
from _rows import Found, Row
from _window import BlockedSDPA, DenseSDPA, Flex, HuggingFace, SlicedSDPA
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

import attnc
from attnc.measuring import Contestant, Times, passes_in_turn, ratio

OWN, LIMIT = "attnc", "matrix product"
WINDOW, SIDE, DECODED = 512, 256, 4096
DENSE_UP_TO, FLEX_FROM = 4096, 1024
ROWS = 256  # of a block of queries, by hand
AGREED = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of the largest entry
SOME, FEW, LONG = 5, 3, 8192  # rounds at most, and from this length
TEXT = "pattern earlier(size: int) = causal_window(size)\n"


@dataclass(frozen=True)
class Cell:
    """One row: ``pattern``, of :data:`PATTERNS`, over n tokens. ``heads`` are its queries' and its keys'."""

    pattern: str
    n: int
    dim: int = 64
    dtype: torch.dtype = torch.float32
    heads: int = HEADS

    @property
    def kind(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        return f"{self.pattern}, n = {self.n:,}, d = {self.dim}, {self.kind}"

    @property
    def rows(self) -> int:
        return 1 if self.pattern.startswith("decode") else self.n


@dataclass(frozen=True)
class Way:
    """One way to compute a cell. ``call`` takes q, k and v; ``gradients``: whether it has any; ``refuses``: what it
    does not do here.
    """

    call: Callable[[Tensor, Tensor, Tensor], Tensor]
    gradients: bool = True
    refuses: str = ""


Maker = Callable[[Cell, Tensor, Tensor, Tensor], Way]


@dataclass(frozen=True)
class Pattern:
    """``attend``: attnc's call; ``pairs`` of one head; ``ways``: the others, by name."""

    attend: Callable[[Cell], tuple[attnc.Attention, dict[str, Any]]]
    ways: Mapping[str, Maker]


@dataclass
class Figures:
    """What a way's passes took, in seconds of every round; ``share``: of the matrix product's rate, over kept pairs;
    ``slower``: times attnc's. ``why``: there are none, or none of the backward.
    """

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)
    share: dict[str, float] = field(default_factory=dict)
    slower: dict[str, float] = field(default_factory=dict)
    why: str = ""


def _fixed(make: Callable[[Cell, Tensor, Tensor, Tensor], Callable[[], Tensor]]) -> Maker:
    """A peer that holds its inputs in its own layout, and has no gradients."""

    def made(cell: Cell, q: Tensor, k: Tensor, v: Tensor) -> Way:
        run = make(cell, q.detach(), k.detach(), v.detach())
        return Way(lambda *_: run(), gradients=False)

    return made


def _refused(why: str) -> Way:
    raise _serving.PeerRefusesError(why)


def _flex(before: int | None, after: int) -> Maker:
    """FlexAttention of a window, or of all earlier keys; it refuses what needs gradients."""

    def make(cell: Cell, *_: Tensor) -> Way:
        if cell.n < FLEX_FROM:
            return _refused(f"not asked below {FLEX_FROM} tokens: it compiles for each length")
        refuses = "inputs that need gradients, on a CPU"
        return Way(Flex(cell.n, before or cell.n, after, 128), gradients=False, refuses=refuses)

    return make


def _band(before: int, after: int) -> dict[str, Maker]:
    """PyTorch's ways to a window: a dense mask, slices by hand, FlexAttention."""

    def dense(cell: Cell, *_: Tensor) -> Way:
        return Way(DenseSDPA(cell.n, before, after)) if cell.n <= DENSE_UP_TO else _refused("its mask is too large")

    def sliced(cell: Cell, *_: Tensor) -> Way:
        call = SlicedSDPA(cell.n, before, after, ROWS)
        if cell.n <= DENSE_UP_TO:
            return Way(call)
        return Way(call, gradients=False, refuses="gradients: that of each slice is as long as all keys")

    def views(cell: Cell, *_: Tensor) -> Way:
        return Way(BlockedSDPA(cell.n, before, after, ROWS, cell.dtype))

    return {
        "SDPA, dense mask": dense,
        "SDPA, block by block": sliced,
        "SDPA, blocks over views": views,
        "FlexAttention": _flex(before, after),
    }


def _all_earlier(*_: object) -> Way:
    return Way(partial(sdpa, is_causal=True))


def _longformer(cell: Cell, *_: Tensor) -> Way:
    return Way(HuggingFace(cell.heads, cell.dim, 2 * SIDE))


def _onnx(window: int | None) -> Maker:
    return _fixed(lambda _, q, k, v: _serving.onnx_attention(q, k, v, window))


def _openvino_window(before: int, after: int) -> Maker:
    def make(cell: Cell, q: Tensor, k: Tensor, v: Tensor) -> Callable[[], Tensor]:
        if cell.n > DENSE_UP_TO:
            raise _serving.PeerRefusesError("its mask is too large")
        return _serving.openvino_attention(q, k, v, DenseSDPA(cell.n, before, after).mask[None])

    return _fixed(make)


_openvino_causal = _fixed(lambda _, q, k, v: _serving.openvino_attention(q, k, v, causal=True))


def _decoding(size: int | None) -> dict[str, Maker]:
    """One query against the last ``size`` keys, or all."""

    def last(x: Tensor) -> Tensor:
        return x if size is None else x[:, :, -size:]

    def slices(*_: object) -> Way:
        return Way(lambda q, k, v: sdpa(q, last(k), last(v)), gradients=False)

    return {
        "SDPA, slice of the keys": slices,
        "ONNX Runtime": _onnx(size),
        "OpenVINO, slice of the keys": _fixed(lambda _, q, k, v: _serving.openvino_attention(q, last(k), last(v))),
    }


def _own_bigbird(cell: Cell) -> tuple[attnc.Attention, dict[str, Any]]:
    layer = HuggingFaceBigBird(cell.n, cell.heads, cell.dim)
    return attnc.load("bigbird").bigbird(block=BLOCK, draws=DRAWS), {"chosen": layer.chosen(cell.n)}


def _own_causal(_: Cell) -> tuple[attnc.Attention, dict[str, Any]]:
    return attnc.load("causal").causal(), {}


def _own_earlier(size: int) -> Callable[[Cell], tuple[attnc.Attention, dict[str, Any]]]:
    return lambda _: (attnc.loads(TEXT).earlier(size), {})


PATTERNS: Mapping[str, Pattern] = {
    "causal": Pattern(
        _own_causal,
        {
            "SDPA, causal": _all_earlier,
            "FlexAttention": _flex(None, 0),
            "ONNX Runtime": _onnx(None),
            "OpenVINO": _openvino_causal,
        },
    ),
    "causal window of 512": Pattern(
        _own_earlier(WINDOW),
        {
            **_band(WINDOW - 1, 0),
            "ONNX Runtime": _onnx(WINDOW),
            "OpenVINO, dense mask": _openvino_window(WINDOW - 1, 0),
        },
    ),
    "window of 513": Pattern(
        lambda _: (attnc.load("window").window(size=2 * SIDE), {}),
        {
            **_band(SIDE, SIDE),
            "transformers' Longformer": _longformer,
            "OpenVINO, dense mask": _openvino_window(SIDE, SIDE),
        },
    ),
    "BigBird": Pattern(
        _own_bigbird, {"transformers' BigBird": lambda cell, *_: Way(HuggingFaceBigBird(cell.n, cell.heads, cell.dim))}
    ),
    "decode, window of 4,096": Pattern(_own_earlier(DECODED), _decoding(DECODED)),
    "decode, causal": Pattern(_own_causal, _decoding(None)),
}  # fmt: skip


def cells(full: bool) -> Iterator[Cell]:
    """The standard cells, and with ``full`` all others behind them."""
    standard = [
        *(Cell("causal", n) for n in (64, 128, 1024, 4096)),
        *(Cell("causal window of 512", n) for n in (1024, 4096, 16384)),
        *(Cell(pattern, n) for pattern in ("window of 513", "BigBird") for n in (1024, 4096)),
        *(Cell("decode, causal", n) for n in (16, 1024, 4096, 65536)),
        *(Cell("decode, window of 4,096", n) for n in (16384, 65536)),
        *(Cell(pattern, 4096, 128) for pattern in ("causal", "causal window of 512", "decode, causal")),
        *(Cell(each, 4096, 64, torch.bfloat16) for each in ("causal", "causal window of 512", "decode, causal")),
    ]
    yield from standard
    if not full:
        return
    for pattern in PATTERNS:
        for dtype in (torch.float32, torch.bfloat16):
            for dim in (64, 128):
                for n in (1024, 4096, 16384, 65536):
                    cell = Cell(pattern, n, dim, dtype)
                    if cell not in standard and not (pattern == "causal" and n > 16384):  # minutes a call
                        yield cell


def rows(full: bool, rounds: int) -> Iterator[Row]:
    """A row for each cell."""
    for cell in cells(full):
        yield Row("peers", cell.name, partial(measure, cell, min(rounds, FEW if cell.n >= LONG else SOME)))


def measure(cell: Cell, rounds: int) -> Found:
    """Every way to a cell in turn; a fault for each whose results differ."""
    torch.manual_seed(cell.n)
    query = random(1, cell.heads, cell.rows, cell.dim, dtype=cell.dtype)
    keys, values = (random(1, cell.heads, cell.n, cell.dim, dtype=cell.dtype) for _ in range(2))
    inputs = [query, keys, values]
    pattern = PATTERNS[cell.pattern]
    attention, tables = pattern.attend(cell)
    start = cell.n - cell.rows
    own = partial(attention, q_start=start, **tables)
    figures, ways, faults = {OWN: Figures()}, {OWN: Way(own, gradients=start == 0)}, []
    with torch.no_grad():
        expected = own(*inputs)
        for name, make in pattern.ways.items():
            figures[name] = Figures()
            try:
                way = make(cell, *inputs)
                found = way.call(*inputs)
            except (_serving.MissingPeerError, _serving.PeerRefusesError) as reason:
                figures[name].why = str(reason)
            except Exception as error:  # noqa: BLE001 - what a peer raises is its own, and the others are timed
                figures[name].why = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
            else:
                ways[name] = way
                figures[name].why = f"refuses {way.refuses}" if way.refuses else ""
                faults += _differences(name, found, expected, AGREED[cell.dtype])
    pairs = attention.plan(cell.n, cell.rows, heads=cell.heads, q_start=start, **tables).pairs
    _time(cell, inputs, ways, figures, pairs, rounds)
    return Found({"ways": {name: asdict(each) for name, each in figures.items()}, **_said(cell)}, tuple(faults))


def _said(cell: Cell) -> dict[str, Any]:
    return {"pattern": cell.pattern, "n": cell.n, "dim": cell.dim, "dtype": cell.kind}


def _differences(name: str, found: Tensor, expected: Tensor, allowed: float) -> Iterator[str]:
    found, expected = found.double(), expected.double()
    difference = float((found - expected).abs().max() / expected.abs().max())
    if not difference <= allowed:
        yield f"{name} differs by {difference:.1e} of the largest entry, expected {allowed:.0e}"


def _time(
    cell: Cell, inputs: list[Tensor], ways: Mapping[str, Way], figures: Mapping[str, Figures], pairs: int, rounds: int
) -> None:
    """Fills in the figures."""
    leaves = [x.clone().requires_grad_(cell.rows == cell.n) for x in inputs]
    gradient = torch.randn_like(inputs[0])
    entered = [
        Contestant(name, partial(way.call, *(leaves if way.gradients else inputs)), leaves if way.gradients else ())
        for name, way in ways.items()
    ]
    entered.append(Contestant(LIMIT, product()))  # type: ignore[arg-type]
    times = passes_in_turn(entered, gradient, rounds, least=BATCH)
    limit = times.pop(LIMIT).forward
    for direction, operations in OPERATIONS.items():
        own = getattr(times[OWN], direction)
        for name, found in times.items():
            seconds = getattr(found, direction)
            if seconds:
                setattr(figures[name], direction, seconds)
                done = operations * pairs * cell.dim / (2 * SQUARE**3)
                figures[name].share[direction] = done * ratio(limit, seconds)
                figures[name].slower[direction] = ratio(seconds, own)


def median(times: Times | Mapping[str, Any], direction: str) -> float | None:
    """In seconds; None where that pass was not timed."""
    seconds = times[direction] if isinstance(times, Mapping) else getattr(times, direction)
    return statistics.median(seconds) if seconds else None
