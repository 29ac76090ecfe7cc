"""Asks attnc for the kernels of an attention, compiled. Nothing else of the gate knows how attnc plans and renders."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from unittest.mock import patch

import triton

from attnc.compiler import pipeline
from attnc.compiler.codegen import lift_constants
from attnc.compiler.codegen.triton import Options, TritonVariant, kind_of, options, parameters, steps
from attnc.compiler.codegen.triton.signature import column_loops, loops_by_key
from attnc.compiler.codegen.triton.variant import TileStep
from attnc.compiler.ir import Attention
from attnc.compiler.pipeline import Pipeline
from attnc.compiler.plan import BF16, Program, Tiles, usual
from attnc.runtime.triton import TRITON, ahead_of_time

from .store import digest, kept


@dataclass(frozen=True)
class Choice:
    """Other tiles, warps and stages for one pass than attnc would take: a question, not what is shipped."""

    rows: int
    keys: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Walk:
    """What one turn of a segment's loops takes, and whether the kernel has a loop for full tiles of it."""

    rows: int
    keys: int
    has_full: bool


@dataclass(frozen=True)
class Compiled:
    """A compiled function with its options, and what the compiler says that it needs.

    ``registers`` and ``spilled`` (bytes) are for each thread, -1 where the tool that tells them does not run;
    ``shared``: bytes for each block. ``code``: a cubin, or AMD's code object.
    """

    name: str
    kind: str
    target: str
    dim: int
    warps: int
    stages: int
    walks: tuple[Walk, ...]
    registers: int
    spilled: int
    shared: int
    code: bytes
    assembly: str


def compiled(
    attention: Attention, dim: int, target: str, kind: str, choice: Choice | None = None
) -> Iterator[Compiled]:
    """The functions of one pass (``forward``, ``backward_keys`` or ``backward_queries``), in bf16.

    ``choice``: tiles, warps and stages to take in place of attnc's own. Errors are those of attnc's compile_for.
    """
    program, variant, chosen = _planned(attention, dim, kind, choice)
    arguments = chosen.arguments(nvidia=target.startswith("sm_"))
    text = pipeline.source(program, TRITON.render, variant).text
    signatures = parameters(lift_constants(program).program, variant)
    names = [name for name in signatures if kind_of(name) == kind]
    described = [[name, *(asdict(each) for each in signatures[name])] for name in names]
    key = digest(text, described, arguments, target, triton.__version__)
    for held in kept("kernels", key, lambda: _compile(program, variant, chosen, target, kind)):
        code, walks = base64.b64decode(held.pop("code")), _walks(program, variant, held["name"])
        yield Compiled(
            kind=kind, target=target, dim=dim, warps=chosen.num_warps, stages=chosen.num_stages, walks=walks, code=code,
            **held,
        )  # fmt: skip


def _planned(
    attention: Attention, dim: int, kind: str, choice: Choice | None
) -> tuple[Program, TritonVariant, Options]:
    (variant,) = TRITON.variants(usual(attention.tables, BF16, dim))
    if choice is None:
        return Pipeline(attention, TRITON.tiles).program, variant, options(kind, variant)  # type: ignore[arg-type]
    variant = replace(variant, **{kind: TileStep(choice.rows, choice.keys)})
    tiles = Tiles(max(choice.rows, 16), max(choice.keys, 16), gathered=TRITON.tiles.gathered)
    return Pipeline(attention, tiles).program, variant, Options(choice.warps, choice.stages)


def _compile(
    program: Program, variant: TritonVariant, chosen: Options, target: str, kind: str
) -> list[dict[str, object]]:
    with patch.object(ahead_of_time, "options", lambda *_: chosen):
        found = ahead_of_time.compile_for(program, variant, target, (kind,))
    return [
        {
            "name": kernel.name,
            "registers": -1 if kernel.resources is None else kernel.resources.registers,
            "spilled": -1 if kernel.resources is None else kernel.resources.spilled,
            "shared": -1 if kernel.resources is None else kernel.resources.shared,
            "code": base64.b64encode(kernel.binary).decode(),
            "assembly": kernel.assembly,
        }
        for kernel in found
    ]


def _walks(program: Program, variant: TritonVariant, name: str) -> tuple[Walk, ...]:
    taken = steps(program, variant)[name]
    assert taken.kernel is not None
    kernel = program.kernels[taken.kernel]
    if kind_of(name) == "backward_keys":
        loops: Sequence[bool] = [
            loops_by_key(kernel, kernel.segments[number], variant.backward_keys)[0].never_full
            for number in taken.segments
        ]
    else:
        loops = [loop.never_full for loop in column_loops(kernel, max(taken.keys, default=16))]
    return tuple(Walk(taken.rows, keys, not never) for keys, never in zip(taken.keys, loops, strict=True))
