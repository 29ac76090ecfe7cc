"""A script that compiles one product for a target and a dtype, to show whether Triton's compiler can.

It runs in a process of its own, because LLVM ends the process where it does not know the target.
"""

from __future__ import annotations

import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


def product(left: tl.tensor, out: tl.tensor, compute: tl.constexpr) -> None:
    """One product, and a sum over lanes."""
    places = tl.arange(0, 32)[:, None] * 32 + tl.arange(0, 32)[None, :]
    x = tl.load(left + places)
    found = tl.dot(x, x, out_dtype=compute)
    tl.store(out + places, found + tl.sum(found, 1)[:, None])


def main(backend: str, architecture: str, warp: str, dtype: str, compute: str) -> None:
    """Compiles :func:`product`; an error, or the end of the process, says that it cannot be done."""
    target = GPUTarget(backend, int(architecture) if backend == "cuda" else architecture, int(warp))
    signature = {"left": f"*{dtype}", "out": f"*{compute}", "compute": "constexpr"}
    constants = {"compute": {"fp32": tl.float32, "fp64": tl.float64}[compute]}
    triton.compile(ASTSource(fn=triton.jit(product), signature=signature, constexprs=constants), target=target)


if __name__ == "__main__":
    main(*sys.argv[1:])
