"""Compiles the kernels of a Triton source for a GPU that need not be here, and reads what resources they need.

It uses only Triton's compiler and the tools that Triton's wheel brings.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...compiler import pipeline
from ...compiler.codegen import lift_constants
from ...compiler.codegen.triton import (
    Parameter,
    TritonVariant,
    function_names,
    kind_of,
    options,
    parameters,
)
from ...compiler.ir import Attention
from ...compiler.pipeline import Pipeline
from ...compiler.plan import DType, Program, usual
from .backend import TRITON
from .modules import interpreting, load_module, require_triton


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
    (variant,) = TRITON.variants(usual(attention.tables, dtype, head_dim))
    return compile_for(Pipeline(attention, TRITON.tiles).program, variant, target, kinds)


def compile_for(
    program: Program, variant: TritonVariant, target: str, kinds: Sequence[str] | None = None
) -> tuple[CompiledKernel, ...]:
    """Compiles the functions of a Program's Triton source for ``sm_80``, ``sm_90``, ``gfx942`` and so on.

    ``kinds`` chooses among them: ``forward``, ``merge``, ``delta``, ``backward_keys``, ``backward_queries``,
    ``collect``. Pointers and strides are assumed to be multiples of 16, as they usually are. ValueError for a target of
    another form; TritonUnavailable without triton; RuntimeError in a process that runs Triton's interpreter; triton's
    own errors where its compiler does not know the target or fails.
    """
    require_triton()
    gpu = _target(target)
    if interpreting():
        raise RuntimeError("this process runs Triton's interpreter, which compiles nothing: unset ATTNC_INTERPRET")
    module = load_module(pipeline.source(program, TRITON.render, variant))
    program = lift_constants(program).program
    signatures = parameters(program, variant)
    names = (name for name in function_names(program) if kinds is None or kind_of(name) in kinds)
    return tuple(_compiled(getattr(module, name), name, signatures[name], variant, target, gpu) for name in names)


def _target(target: str) -> Any:
    """Triton's object for a target."""
    from triton.backends.compiler import GPUTarget

    if target not in TRITON.targets:
        raise ValueError(f"target is {target!r}, expected {', '.join(TRITON.targets.examples)} or the like")
    if target.startswith("sm_"):
        return GPUTarget("cuda", int(target.removeprefix("sm_")), 32)
    return GPUTarget("hip", target, 64 if target.startswith("gfx9") else 32)


def _compiled(
    function: Any, name: str, signature: Sequence[Parameter], variant: TritonVariant, target: str, gpu: Any
) -> CompiledKernel:
    import triton
    from triton.compiler import ASTSource

    types = {parameter.name: parameter.type for parameter in signature}
    aligned = {(i,): [["tt.divisibility", 16]] for i, parameter in enumerate(signature) if parameter.aligned}
    source = ASTSource(fn=function, signature=types, constexprs={}, attrs=aligned)
    kernel = triton.compile(
        source, target=gpu, options=options(kind_of(name), variant).arguments(nvidia=gpu.backend == "cuda")
    )
    if gpu.backend == "cuda":
        binary = kernel.asm["cubin"]
        return CompiledKernel(name, target, binary, kernel.asm["ptx"], _cubin_resources(binary, kernel.metadata.shared))
    assembly = kernel.asm["amdgcn"]
    return CompiledKernel(name, target, kernel.asm["hsaco"], assembly, _amd_resources(assembly))


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


def _amd_resources(assembly: str) -> Resources | None:
    """The resources that the assembly's metadata states."""
    names = (".vgpr_count", ".vgpr_spill_count", ".group_segment_fixed_size")
    found = [re.search(re.escape(name) + r":\s+(\d+)", assembly) for name in names]
    if any(match is None for match in found):
        return None
    registers, spilled, shared = (int(match[1]) for match in found if match is not None)
    return Resources(registers, 4 * spilled, shared)
