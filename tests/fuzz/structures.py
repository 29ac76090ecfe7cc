"""One random program as compiled kernels: forward and backward against the dense reference, over many shapes.

The kernels see NaN and infinity in all that the call does not keep, the reference does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from attnc.attention import Attention
from attnc.compiler import ir
from attnc.compiler.ir.extent import HostTable
from attnc.compiler.oracle.out_of_table import OutOfTableError
from attnc.runtime.base.configuration import settings
from attnc.runtime.base.counters import launches
from tests.fuzz.masks import bound, from_json
from tests.support.generators.programs import Program, generate
from tests.support.generators.tables import Sizes
from tests.support.on_device import OnDevice
from tests.support.poison import poisoned, unused

PINNED = Path(__file__).parents[1] / "golden/structures"
SHAPES = 10
SHAPES_INTERPRETED = 3  # where each tile takes its time, another program tells more than another shape
# Largest difference from the reference in float64, relative to its largest value (or 1).
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def small(seed: int) -> Program:
    """The program of a seed, for a call that the interpreter can bear."""
    return generate(seed, largest=40)


def interpreted_fault(program: Program, count: int = SHAPES_INTERPRETED) -> str | None:
    """As :func:`fault`, and that the Triton kernels have run. Raises where the process has no interpreter."""
    if not settings.interpret:
        raise RuntimeError("set ATTNC_INTERPRET=1 before the campaign starts")
    found = fault(program, count)
    if found is None and not any("triton" in kind for kind in launches()):
        return f"no Triton kernel was launched: {launches()}"
    return found


def pinned() -> list[tuple[str, Program]]:
    """The programs that failed once, by name."""
    return [(path.stem, from_json(path.read_text(encoding="utf-8"))) for path in sorted(PINNED.glob("*.json"))]


@dataclass(frozen=True)
class Shape:
    """One call of a structure: its sizes, the tables cut to them, and how q, k and v lie in memory."""

    sizes: Sizes
    kv_heads: int
    layout: str
    contents: Mapping[str, HostTable]


def shapes(program: Program, tables: tuple[ir.Table, ...], draw: Random, count: int = SHAPES) -> Iterator[Shape]:
    """The call for which the program was written, then smaller ones: every index stays as far inside its table."""
    full = program.sizes
    for number in range(count):
        sizes = full if number == 0 else _smaller(full, draw, any(c.batched for c in program.contents.values()))
        divisors = [d for d in range(1, sizes.heads + 1) if sizes.heads % d == 0]
        contents = {table.name: _cut(table, program.contents[table.name], sizes) for table in tables}
        layout = draw.choice(("contiguous", "tokens first", "part of a larger", "shared by the batch"))
        yield Shape(sizes, draw.choice(divisors), layout, contents)


def _smaller(full: Sizes, draw: Random, batched: bool) -> Sizes:
    several = batched or len(full.q_start) > 1
    return replace(
        full,
        n=draw.choice((full.n, 1, draw.randint(1, full.n))),
        m=draw.choice((full.m, 1, draw.randint(1, full.m))),
        batch=full.batch if several else draw.choice((1, 2)),
        q_start=tuple(draw.randint(0, start) for start in full.q_start),
    )


def _cut(table: ir.Table, held: HostTable, sizes: Sizes) -> HostTable:
    values = held.values
    assert values is not None
    lengths = {"token": sizes.n, "query": sizes.m}
    for axis, dimension in enumerate(table.dimensions, start=int(held.batched)):
        if dimension.kind in lengths:
            values = values.take(range(lengths[dimension.kind]), axis)
    if table.element == "float":
        # Exact in every dtype, and equal to no literal of a text: whether a pair is kept is no matter of rounding.
        values = np.asarray((values * 64).round() / 64 + 1 / 256, values.dtype)
    return HostTable(values, held.batched)


def device_fault(program: Program, count: int = SHAPES, *, device: str) -> str | None:
    """As :func:`fault`, of the Triton kernels on a device, whatever the tables' contents are known to."""
    found = fault(program, count, device)
    if found is None and not any("triton" in kind for kind in launches()):
        return f"no Triton kernel was launched: {launches()}"
    return found


def fault(program: Program, count: int = SHAPES, device: str | None = None) -> str | None:
    """What is wrong with the kernels of a program, at one of ``count`` shapes; None when nothing is.

    With a ``device`` the kernels run there, and what they are compared with stays on the host.
    """
    subject = bound(program).attention
    draw = Random(program.seed)
    dtype = draw.choice((torch.float32, torch.float32, torch.float64))
    if settings.interpret or device is not None:  # the Triton kernels take no float64
        dtype = torch.float32
    head_dim, value_dim = draw.choice(((16, 16), (8, 24), (5, 3), (32, 16)))
    attention = Attention(subject) if device is None else OnDevice(subject, device, program.seed % 2 == 0)
    # quicker to build; the widest vectors have tests of their own
    with settings.override(optimisation=min(1, settings.optimisation)):
        for shape in shapes(program, subject.parameters, draw, count):
            found = _differs(attention, subject, shape, draw.getrandbits(31), dtype, (head_dim, value_dim))
            if found is not None:
                return f"{shape.sizes}, {shape.kv_heads} kv heads, {shape.layout}, {dtype}: {found}"
    return None


def _differs(
    attention: Attention,
    subject: ir.Attention,
    shape: Shape,
    seed: int,
    dtype: torch.dtype,
    dims: tuple[int, int],
) -> str | None:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = _inputs(shape, dtype, dims, generator)
    tables = {name: torch.from_numpy(held.values) for name, held in shape.contents.items()}
    start: int | Tensor = shape.sizes.q_start[0]
    if len(shape.sizes.q_start) > 1:
        start = torch.tensor(shape.sizes.q_start)
    floats = {name: x.to(dtype) for name, x in tables.items() if x.is_floating_point()}
    judge = {name: x.detach().double().requires_grad_() for name, x in ({"q": q, "k": k, "v": v} | floats).items()}
    rest = {name: x for name, x in tables.items() if name not in floats}
    try:
        expected, expected_lse = attention.reference(**judge, **rest, q_start=start, return_lse=True)
    except OutOfTableError:
        return _refused(attention, {"q": q, "k": k, "v": v} | floats | rest, start)
    sizes = shape.sizes
    mask = attention.mask(sizes.n, sizes.m, heads=sizes.heads, q_start=start, **tables)
    spare = unused(mask, sizes.batch, shape.kv_heads)
    inputs = (("q", q, spare.rows), ("k", k, spare.keys), ("v", v, spare.keys))
    leaves = {name: poisoned(x, where, generator) for name, x, where in inputs} | floats
    ours = {name: x.detach().requires_grad_() for name, x in leaves.items()}
    out, lse = attention(**ours, **rest, q_start=start, return_lse=True)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    pull = torch.randn(lse.shape, generator=generator, dtype=torch.float64)
    pulls = poisoned(weight, spare.rows, generator), pull if subject.sink else poisoned(pull, spare.rows, generator)
    torch.autograd.backward([out, lse], [x.to(own.dtype) for x, own in zip(pulls, (out, lse), strict=True)])
    torch.autograd.backward([expected, expected_lse], [weight, pull])
    pairs = {"out": (out, expected), "lse": (lse, expected_lse)}
    pairs |= {f"gradient of {name}": (ours[name].grad, judge[name].grad) for name in leaves}
    for name, (got, wanted) in pairs.items():
        # A gradient that neither side has, or that one side has as zeros, is the same gradient.
        if wanted is None or got is None:
            present = got if wanted is None else wanted
            wanted = got = torch.zeros(()) if present is None else present
            if present is not None and bool(present.any()):
                return f"{name} is missing on one side"
        error = _error(got, wanted)
        if not error <= TOLERANCE[dtype]:
            return f"{name} differs by {error:.3g}"
    return _support(attention, subject, shape, rest, start, dtype, dims, generator)


def _refused(attention: Attention, arguments: Mapping[str, Tensor], start: int | Tensor) -> str | None:
    """The reference refused an index. The kernels refuse it too, or read 0 there: both are right, a crash is not."""
    with suppress(ValueError):
        attention(**arguments, q_start=start)
    return None


def _inputs(shape: Shape, dtype: torch.dtype, dims: tuple[int, int], generator: torch.Generator) -> list[Tensor]:
    sizes = shape.sizes
    head_dim, value_dim = dims
    wanted = (
        (sizes.heads, sizes.m, head_dim),
        (shape.kv_heads, sizes.n, head_dim),
        (shape.kv_heads, sizes.n, value_dim),
    )
    return [_laid(shape.layout, (sizes.batch, *size), dtype, generator) for size in wanted]


def _laid(layout: str, size: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    batch, heads, tokens, features = size
    match layout:
        case "tokens first":
            return torch.randn(batch, tokens, heads, features, generator=generator, dtype=dtype).transpose(1, 2)
        case "part of a larger":
            # Everything around what the call may read is NaN: whatever is read there shows.
            larger = torch.full((batch, heads, tokens + 3, features + 5), float("nan"), dtype=dtype)
            inner = larger[:, :, 1 : tokens + 1, 2 : features + 2]
            inner.copy_(torch.randn(size, generator=generator, dtype=dtype))
            return inner
        case "shared by the batch":
            return torch.randn(1, heads, tokens, features, generator=generator, dtype=dtype).expand(size)
        case _:
            return torch.randn(size, generator=generator, dtype=dtype)


def _error(got: Tensor, wanted: Tensor) -> float:
    got, wanted = got.detach().double(), wanted.detach().double()
    same = got == wanted  # infinities included
    if bool(same.all()):
        return 0.0
    if not bool(torch.isfinite(got[~same]).all()):
        return float("inf")
    finite = wanted[torch.isfinite(wanted)]
    largest = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
    return float((got - wanted)[~same].abs().max()) / largest


def _support(
    attention: Attention,
    subject: ir.Attention,
    shape: Shape,
    tables: Mapping[str, Tensor],
    start: int | Tensor,
    dtype: torch.dtype,
    dims: tuple[int, int],
    generator: torch.Generator,
) -> str | None:
    """With q = 0 and v of 0 and 1, out × count is an exact whole number. Only where the score is the logit alone."""
    if subject.score != ir.LOGIT or subject.sink is not None:
        return None
    q, k, v = _inputs(shape, dtype, dims, generator)  # dims of its own would be kernels of its own
    given = {name: torch.from_numpy(held.values) for name, held in shape.contents.items()} | dict(tables)
    mask = attention.mask(shape.sizes.n, shape.sizes.m, heads=shape.sizes.heads, q_start=start, **given).double()
    mask = mask.expand(shape.sizes.batch, *mask.shape[-3:])
    v = torch.randint(0, 2, v.shape, generator=generator).to(dtype)
    group = shape.sizes.heads // shape.kv_heads
    wanted = mask @ v.double().repeat_interleave(group, dim=1)
    out = attention(torch.zeros_like(q), k, v, q_start=start, **given).double() * mask.sum(-1, keepdim=True)
    wrong = (out.round() != wanted).sum()
    return f"support: {int(wrong)} sums of kept values are wrong" if wrong or _error(out, wanted) > 1e-4 else None
