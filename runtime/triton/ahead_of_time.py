"""Compiles the kernels of a Triton source for a GPU that need not be here, and reads what resources they need.

It uses only Triton's compiler and the tools that Triton's wheel brings.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from ...compiler import pipeline
from ...compiler.codegen import KernelSource, lift_constants
from ...compiler.codegen.planner import PlanModule
from ...compiler.codegen.triton import (
    Options,
    Parameter,
    Steps,
    TritonVariant,
    kind_of,
    make_variant,
    options,
    parameters,
    render_triton,
    steps,
)
from ...compiler.ir import Attention, CallShape
from ...compiler.plan import FP64, DType, Program, Specialisation, usual
from ...compiler.schedule import schedule_anywhere, serves_anywhere
from ..base import CompiledFunction, Unavailable
from .backend import TRITON
from .device_plans import PLANNING
from .modules import interpreting, load_module, require_triton

_LENGTH = 2**17  # for which it is asked whether rows at any position have a plan; the answer does not depend on it


@dataclass(frozen=True)
class Resources:
    """What a kernel needs: registers and bytes of spilled registers per thread, bytes of shared memory per block."""

    registers: int
    spilled: int
    shared: int


@dataclass(frozen=True)
class CompiledKernel:
    """One compiled function. ``assembly`` is PTX or AMD assembly, ``binary`` a cubin or a code object.

    ``resources`` is None where the tools that read a cubin do not run here.
    """

    name: str
    target: str
    binary: bytes
    assembly: str
    resources: Resources | None


def compile_attention(
    attention: Attention, target: str, dtype: DType, head_dim: int, kinds: Sequence[str] | None = None
) -> tuple[CompiledKernel, ...]:
    """Compiles the kernels of an attention, for calls of every length; see :func:`compile_for`."""
    made = of_passes(attention, usual(attention.tables, dtype, head_dim), target)
    return tuple(kernel for each in made for kernel in compile_for(*each, target, kinds))


def of_passes(
    attention: Attention, kind: Specialisation, target: str, heads: int | None = None
) -> tuple[tuple[Program, TritonVariant], ...]:
    """The program and the variant of each pass: what :func:`compile_for` takes."""
    shapes = TRITON.tiles(kind.dtype, max(kind.head_dim, kind.value_dim), target)
    return tuple(
        (pipeline.program(attention, shapes.of(direction), heads), variant)
        for direction, variant in TRITON.variants(kind, target)
    )


def of_decoding(
    attention: Attention, kind: Specialisation, target: str, heads: int | None = None
) -> tuple[tuple[Program, TritonVariant], ...]:
    """The program and the variants of the forward pass of few rows at any position, whole and split, packed and not;
    none where no call has such kernels.

    Where that depends on what tables hold, they are compiled, though perhaps no call uses them.
    """
    if not serves_anywhere(attention.tables):
        return ()
    sizes = kind.dtype, kind.head_dim, kind.value_dim, kind.tables
    shapes = TRITON.tiles(kind.dtype, max(kind.head_dim, kind.value_dim), target)
    program = pipeline.program(attention, shapes.forward, heads, natural_rows=True)
    extent = CallShape(_LENGTH, 1, heads or 1, (0,))
    if not attention.tables and schedule_anywhere(program, extent, ()) is None:
        return ()
    whole = all(kernel.heads is None for kernel in program.kernels)
    make = partial(
        make_variant, "forward", *sizes, target=target, wide=kind.wide, dropout=kind.dropout, anywhere=True
    )  # fmt: skip
    packings = (False, True) if whole else (False,)
    return tuple((program, make(split=split, packed=packed)) for split, packed in product((False, True), packings))


def compile_for(
    program: Program, variant: TritonVariant, target: str, kinds: Sequence[str] | None = None
) -> tuple[CompiledKernel, ...]:
    """Compiles the functions of a Program's Triton source for ``sm_80``, ``sm_90``, ``gfx942`` and so on.

    ``kinds`` chooses among them: ``forward``, ``merge``, ``delta``, ``backward_keys``, ``backward_queries``,
    ``collect``. Pointers and strides are assumed to be multiples of 16, as they usually are. ValueError for a target of
    another form; TritonUnavailable without triton; RuntimeError in a process that runs Triton's interpreter; triton's
    own errors where its compiler does not know the target or fails.
    """
    made = _begin(program, variant, target)
    return tuple(_compiled(made, name) for name in made.signatures if kinds is None or kind_of(name) in kinds)


def compile_planning(module: PlanModule, target: str) -> tuple[CompiledKernel, ...]:
    """Compiles the functions that plan on a device; the same errors as :func:`compile_for`."""
    gpu = _startable(target)
    loaded = load_module(KernelSource("triton", module.text))
    made = _Module(loaded, module.parameters, dict.fromkeys(module.parameters, PLANNING), target, gpu)
    return tuple(_compiled(made, name) for name in made.signatures)


def compile_ahead(
    attention: Attention, heads: int | None, kind: Specialisation, target: str
) -> Iterator[CompiledFunction]:
    """Yields each function of each pass with its source, its assembly and its binary, as it is compiled.

    Errors as of :func:`compile_for`, but Unavailable in a process that runs Triton's interpreter, and for a target that
    Triton's compiler cannot compile for.
    """
    require_triton()
    if interpreting():
        raise Unavailable("Triton's interpreter, which ATTNC_INTERPRET or TRITON_INTERPRET asks for, compiles nothing")
    _require_target(target, kind.dtype)
    for program, variant in of_passes(attention, kind, target, heads):
        # whoever launches a binary by hand has pointers; descriptors take the driver's help
        yield from _of_pass(program, replace(variant, described=None), target)
    for program, variant in of_decoding(attention, kind, target, heads):
        yield from _of_pass(program, variant, target)


def _of_pass(program: Program, variant: TritonVariant, target: str) -> Iterator[CompiledFunction]:
    made = _begin(program, variant, target)
    numbers = lift_constants(program).numbers
    taken = steps(program, variant)
    binary, assembly = (".cubin", ".ptx") if target.startswith("sm_") else (".hsaco", ".amdgcn")
    for name, signature in made.signatures.items():
        kernel = _compiled(made, name)
        source = pipeline.source(program, partial(render_triton, only=name), variant)
        file, told = _named(name, variant)
        files = {
            f"{file}.py": source.text.encode(),
            f"{file}{assembly}": kernel.assembly.encode(),
            f"{file}{binary}": kernel.binary,
        }
        facts = {
            **told,
            **_facts(program, taken[name], made.options[name], kernel.resources),
            "parameters": [{"name": parameter.name, "type": parameter.type} for parameter in signature],
            "numbers": numbers,
        }
        yield CompiledFunction(file, f"{file}{binary}", files, facts)


def _named(name: str, variant: TritonVariant) -> tuple[str, dict[str, object]]:
    """What the files of a function are called, and what it is; those of decoding have functions of the same names."""
    if not variant.anywhere:
        return name, {"pass": kind_of(name)}
    file = "_".join((name.replace("forward", "decoding"), *["split"] * variant.split, *["packed"] * variant.packed))
    kind = "decoding" if kind_of(name) == "forward" else kind_of(name)
    return file, {"pass": kind, "function": name, "split": variant.split, "packed": variant.packed}


def _facts(program: Program, taken: Steps, chosen: Options, needs: Resources | None) -> dict[str, object]:
    """What is known of a function, as JSON has it; None for resources that could not be read."""
    names = {str(number): table.name for number, table in enumerate(program.tables)}
    kernel = None if taken.kernel is None else program.kernels[taken.kernel]
    walked = [] if kernel is None else [kernel.segments[number].keys for number in taken.segments]
    return {
        "rows": taken.rows,
        "keys": max(taken.keys, default=None),
        "num_warps": chosen.num_warps,
        "num_stages": chosen.num_stages,
        "registers": None if needs is None else needs.registers,
        "spills": None if needs is None else needs.spilled,
        "shared": None if needs is None else needs.shared,
        "segments": [
            {"keys": order.describe(names), "tile": order.tile, "step": step}
            for order, step in zip(walked, taken.keys, strict=True)
        ],
        "kernel": taken.kernel,
        "heads": None if kernel is None else kernel.heads,
    }


@dataclass(frozen=True)
class _Module:
    """An imported Triton module, and what each of its functions is compiled for."""

    module: ModuleType
    signatures: Mapping[str, tuple[Parameter, ...]]
    options: Mapping[str, Options]
    target: str
    gpu: Any


def _begin(program: Program, variant: TritonVariant, target: str) -> _Module:
    gpu = _startable(target)
    module = load_module(pipeline.source(program, TRITON.render, variant))
    lifted = lift_constants(program).program
    chosen = {name: options(kind_of(name), variant, taken, target) for name, taken in steps(lifted, variant).items()}
    return _Module(module, parameters(lifted, variant), chosen, target, gpu)


def _startable(target: str) -> Any:
    """Triton's object for a target, in a process that can compile. Errors as of :func:`compile_for`."""
    require_triton()
    gpu = _target(target)
    if interpreting():
        raise RuntimeError("this process runs Triton's interpreter, which compiles nothing: unset ATTNC_INTERPRET")
    return gpu


def _require_target(target: str, dtype: DType) -> None:
    """Unavailable where Triton's compiler fails on a small product. Not tried for what tests compile, which takes time;
    for fp64 always, which Triton lacks for some targets.
    """
    if target in TRITON.targets.examples and dtype != FP64:
        return
    gpu = _target(target)
    words = [gpu.backend, str(gpu.arch), str(gpu.warp_size), dtype.name, dtype.compute.name]
    script = str(Path(__file__).with_name("target_trial.py"))
    try:
        ended = subprocess.run([sys.executable, "-P", script, *words], capture_output=True, check=False, timeout=120)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"triton takes more than two minutes to compile for {target}") from None
    if ended.returncode:
        raise Unavailable(f"triton {require_triton().__version__} cannot compile for {target} in {dtype.name}")


def _target(target: str) -> Any:
    """Triton's object for a target."""
    from triton.backends.compiler import GPUTarget

    if target not in TRITON.targets:
        raise ValueError(f"target is {target!r}, expected {', '.join(TRITON.targets.examples)} or the like")
    if target.startswith("sm_"):
        return GPUTarget("cuda", int(target.removeprefix("sm_")), 32)
    return GPUTarget("hip", target, 64 if target.startswith("gfx9") else 32)


def _compiled(made: _Module, name: str) -> CompiledKernel:
    import triton
    from triton.compiler import ASTSource

    target, gpu, signature = made.target, made.gpu, made.signatures[name]
    types = {parameter.name: parameter.type for parameter in signature}
    aligned = {(i,): [["tt.divisibility", 16]] for i, parameter in enumerate(signature) if parameter.aligned}
    source = ASTSource(fn=getattr(made.module, name), signature=types, constexprs={}, attrs=aligned)
    chosen = made.options[name].arguments(nvidia=gpu.backend == "cuda")
    with triton.knobs.compilation.scope():
        # else the result names the file that this process loaded the module from, and differs from run to run
        triton.knobs.compilation.disable_line_info = True
        kernel = triton.compile(source, target=gpu, options=chosen)
    if gpu.backend == "cuda":
        binary = kernel.asm["cubin"]
        return CompiledKernel(name, target, binary, kernel.asm["ptx"], _cubin_resources(binary, kernel.metadata.shared))
    assembly = kernel.asm["amdgcn"]
    return CompiledKernel(name, target, kernel.asm["hsaco"], assembly, _amd_resources(assembly, kernel.metadata.shared))


def _cubin_resources(binary: bytes, shared: int) -> Resources | None:
    """The resources that ``cuobjdump`` of Triton's wheel reports; stack and local memory count as spilled."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory(prefix="attnc-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        try:
            report = subprocess.run(
                [str(tool), "--dump-resource-usage", str(path)], capture_output=True, text=True, check=True, timeout=60
            )
        except (OSError, subprocess.SubprocessError):
            return None
    match = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", report.stdout)
    return None if match is None else Resources(int(match[1]), int(match[2]) + int(match[3]), shared)


def _amd_resources(assembly: str, shared: int) -> Resources | None:
    """The resources that the assembly's metadata states. Not its shared memory: the size of a group segment that is
    fixed is always 0, as Triton has its blocks given their shared memory when a kernel is launched.
    """
    found = [re.search(re.escape(name) + r":\s+(\d+)", assembly) for name in (".vgpr_count", ".vgpr_spill_count")]
    if any(match is None for match in found):
        return None
    registers, spilled = (int(match[1]) for match in found if match is not None)
    return Resources(registers, 4 * spilled, shared)
