"""Compiles the kernels of a file of `attnc compile --standalone` for sm_90, without a GPU and without attnc.

    python -P standalone_compile.py FILE

A script, for a process of its own: it prints the name of each kernel and the first letters of its binary.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from standalone_runs import Refusing, allowed, load

_POINTERS = {
    "*bf16": ("query", "key", "value", "output", "grad_output", "grad_query", "grad_key", "grad_value"),
    "*fp32": ("scale", "lse", "grad_lse", "row_delta"),
    "*i64": ("q_start", "run_pointer", "run_pointer0"),
    "*i32": ("run_start", "run_start0", "run_length", "run_length0", "head_list", "head_places"),
    "*u8": ("run_kind", "run_kind0"),
    "fp32": ("drop_scale",),
}
_TYPES = {name: type_ for type_, names in _POINTERS.items() for name in names}


def binary(function: Any, options: dict[str, Any]) -> bytes:
    """The cubin of one kernel."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: _TYPES.get(name, "i32") for name in function.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, (name, type_) in enumerate(signature.items())
        if type_.startswith("*") or name.endswith(("_row", "_head", "_batch"))
    }
    source = ASTSource(fn=function, signature=signature, constexprs={}, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    found: bytes = compiled.asm["cubin"]
    return found


def main(path: Path) -> None:
    sys.meta_path.insert(0, Refusing(allowed()))  # type: ignore[arg-type]
    plan = load(path)._PLAN
    walks = [(walk.function, walk.options) for each in (plan.forward, plan.backward_keys) for walk in each.walks]
    walks += [(plan.delta, plan.delta_options)]
    walks += [(walk.function, walk.options) for walk in plan.backward_queries.walks]
    for function, options in walks:
        print(function.__name__, binary(function, options)[1:4].decode(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
