"""Runs files of `attnc compile --standalone` against plain formulas, where only torch and triton can be imported.

    python -P standalone_runs.py FOLDER NAME…
    python -P standalone_runs.py FILE

A script, for a process of its own. The first form takes ``TRITON_INTERPRET=1``, prints a line for each case, and ends
with 1 where one is wrong; the formulas are dense, in float64, and written without attnc. The second form compiles the
kernels of a file for sm_90, without a GPU, and prints the name of each and the first letters of its binary.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORBIDDEN = {"attnc", "compiler", "runtime", "templates", "lark", "jinja2", "islpy", "click"}


def allowed() -> set[str]:
    """Top-level modules of the standard library, of torch, triton and what they require; numpy is Triton's
    interpreter's own import.
    """
    wanted, seen = ["torch", "triton", "numpy"], set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        wanted += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in requires if "extra ==" not in each]
    homes = importlib.metadata.packages_distributions()
    found = {top for top, owners in homes.items() for one in owners if re.sub(r"[-_.]+", "-", one).lower() in seen}
    return (found | set(sys.stdlib_module_names)) - FORBIDDEN


class Refusing:
    """An importer that comes first and refuses every module but those of ``allowed``."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in self.names and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"refused: {name}", name=name)
        return None


@dataclass(frozen=True)
class Formula:
    """What a file computes: mask and bias of ``q [m, 1]``, ``k [n]``, head ``[heads, 1, 1]`` and the tables.

    ``sizes``: n, m and q_start of each call; ``tables``: made for n and heads.
    """

    mask: Callable[..., Any]
    bias: Callable[..., Any] | None = None
    tables: Callable[[int, int], dict[str, Any]] = lambda _n, _heads: {}
    sizes: Sequence[tuple[int, int, int]] = field(default=((64, 64, 0), (70, 45, 25)))


def formulas() -> dict[str, Formula]:
    import torch

    def slopes(_n: int, heads: int) -> dict[str, Any]:
        return {"slope": torch.linspace(0.5, 0.25, heads).requires_grad_()}

    return {
        "causal": Formula(lambda q, k, _h, _t: k <= q, sizes=((64, 64, 0), (70, 70, 0), (70, 30, 40), (70, 1, 69))),
        "sink_window": Formula(lambda q, k, _h, _t: (k <= q) & ((k < 4) | (q - k < 16)), sizes=((70, 30, 40),)),
        "alibi": Formula(
            lambda q, k, _h, _t: k <= q, lambda q, k, h, t: t["slope"].double()[h] * (k - q), slopes, ((40, 40, 0),)
        ),
        "dilated": Formula(lambda q, k, _h, _t: (k <= q) & (q - k < 64) & ((q - k) % 4 == 0), sizes=((64, 40, 24),)),
        "dilated_anywhere": Formula(
            lambda q, k, _h, _t: (k <= q) & (q - k < 64) & ((q - k) % 4 == 0), sizes=((45, 20, 25),)
        ),
        "strided": Formula(lambda q, k, _h, _t: (k <= q) & ((q - k < 8) | ((q - k) % 8 == 0)), sizes=((40, 40, 0),)),
        "causal_documents": Formula(
            lambda q, k, _h, t: (k <= q) & (t["doc"][q] == t["doc"][k]),
            tables=lambda n, _: {"doc": torch.arange(n) // 23},
            sizes=((40, 40, 0), (70, 20, 50)),
        ),
        "longformer": Formula(
            lambda q, k, _h, _t: ((q - k).abs() <= 8) | (q == 0) | (q == 5) | (k == 0) | (k == 5), sizes=((40, 40, 0),)
        ),
    }


def worst(attend: Callable[..., Any], formula: Formula, n: int, m: int, q_start: int) -> float:
    """The largest difference of the output, the log-sum-exp and all gradients from the formula's; two heads, one of
    keys.
    """
    import torch

    heads, dim = 2, 16
    generator = torch.Generator().manual_seed(n + m)
    q, k, v = (
        torch.randn(1, each, rows, dim, generator=generator, requires_grad=True)
        for each, rows in ((heads, m), (1, n), (1, n))
    )
    tables = formula.tables(n, heads)
    inputs = [q, k, v, *(table for table in tables.values() if table.requires_grad)]
    found = attend(q, k, v, q_start=q_start, return_lse=True, **tables)

    at_q, at_k, head = torch.arange(q_start, q_start + m)[:, None], torch.arange(n), torch.arange(heads)[:, None, None]
    scores = q.double() @ k.double().transpose(2, 3) / math.sqrt(dim)
    if formula.bias is not None:
        scores = scores + formula.bias(at_q, at_k, head, tables)
    scores = scores.masked_fill(~formula.mask(at_q, at_k, head, tables), -torch.inf)
    wanted = torch.softmax(scores, -1) @ v.double(), torch.logsumexp(scores, -1)

    weights = [torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in wanted]
    grads = [
        torch.autograd.grad(sum((each.double() * by).sum() for each, by in zip(result, weights, strict=True)), inputs)
        for result in (found, wanted)
    ]
    pairs = zip((*found, *grads[0]), (*wanted, *grads[1]), strict=True)
    return max(float((mine - right).detach().abs().max()) for mine, right in pairs)


def refusals(name: str, attend: Callable[..., Any]) -> list[str]:
    """The errors of calls that do not fit: each names the argument, what it was and what was expected."""
    import torch

    if name == "causal_documents":
        x = torch.zeros(1, 1, 2, 16)
        return _errors(attend, [((x, x, x), {"doc": torch.tensor([0, 2**32])}), ((x, x, x), {"doc": ["a", "b"]})])
    if name != "alibi":
        return []

    q, k, slope = torch.zeros(1, 2, 8, 16), torch.zeros(1, 1, 8, 16), torch.ones(2)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((q.double(), k, k), {"slope": slope}),
        ((q, k[..., :8], k), {"slope": slope}),
        ((q[:, :1], *2 * (k.repeat(1, 2, 1, 1),)), {"slope": slope[:1]}),
        ((q, k, k), {"slope": torch.ones(3)}),
        ((q, k, k), {"slope": torch.ones(2, dtype=torch.int32)}),
        ((q, k, k), {"slope": slope, "q_start": -1}),
        ((q, k, k), {"slope": slope, "q_start": 2**31}),
        ((q, k, k), {"slope": slope, "scale": torch.ones(3)}),
        ((q, k, k), {"slope": slope, "scale": float("nan")}),
    ]
    return _errors(attend, calls)


def _errors(attend: Callable[..., Any], calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> list[str]:
    found = []
    for inputs, named in calls:
        try:
            attend(*inputs, **named)
        except (TypeError, ValueError) as error:
            found.append(f"{type(error).__name__} {error}")
    return found


def load(path: Path) -> Any:
    """A file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


_POINTERS = {
    "*bf16": ("query", "key", "value", "output", "grad_output", "grad_query", "grad_key", "grad_value"),
    "*fp32": ("scale", "lse", "grad_lse", "row_delta"),
    "*i64": ("q_start", "run_pointer", "run_pointer0", "run_end", "run_end0"),
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

    signature = {name: "i64" if "_inverse" in name else _TYPES.get(name, "i32") for name in function.arg_names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, (name, type_) in enumerate(signature.items())
        if type_.startswith("*") or name.endswith(("_row", "_head", "_batch"))
    }
    source = ASTSource(fn=function, signature=signature, constexprs={}, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    found: bytes = compiled.asm["cubin"]
    return found


def compile_all(path: Path) -> None:
    """Compiles the kernels of a file in bf16."""
    plan = load(path)._PLAN
    walks = [(walk.function, walk.options) for each in (plan.forward, plan.backward_keys) for walk in each.walks]
    walks += [(plan.delta, plan.delta_options)]
    walks += [(walk.function, walk.options) for walk in plan.backward_queries.walks]
    for function, options in walks:
        print(function.__name__, binary(function, options)[1:4].decode(), flush=True)


def run_all(folder: Path, names: Sequence[str]) -> int:
    """Runs the cases; returns 1 where one is wrong."""
    wrong = 0
    for name in names:
        path = folder / f"{name.removesuffix('_anywhere')}.py"
        attend = getattr(load(path), path.stem)
        for refusal in refusals(name, attend):
            print(refusal, flush=True)
        for n, m, q_start in formulas()[name].sizes:
            off = worst(attend, formulas()[name], n, m, q_start)
            right = off < 1e-4
            wrong += not right
            print(f"{name} n={n} m={m} q_start={q_start}: {'right' if right else f'WRONG by {off}'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.meta_path.insert(0, Refusing(allowed()))  # type: ignore[arg-type]
    if len(sys.argv) > 2:
        sys.exit(run_all(Path(sys.argv[1]), sys.argv[2:]))
    compile_all(Path(sys.argv[1]))
