"""Gradients of tables from which query and key choose together: summed in blocks first. In Triton's interpreter.

Imported once the interpreter is chosen, by :mod:`tests.support.triton.programs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder

import attnc
from attnc.runtime.base.counters import launches

TEXT = """
pattern near(w: int) = 0 <= q - k and q - k < w
attention relative(bias: float[head, 47]) { mask = abs(q - k) <= 23   score = s + bias[head, q - k + 23] }
attention clamped(bias: float[head, 33]) {
    mask = causal or k < 3
    score = s + bias[head, min(max(q - k, -16), 16) + 16]
}
attention buckets(bias: float[head, 32]) {
    mask = k <= q + 9
    score = s + bias[head, (16 if k > q else 0) + (abs(q - k) if abs(q - k) < 8 else min(15, 8 + abs(q - k) // 16))]
}
attention several(bias: float[300]) { mask = abs(q - k) <= 40   score = 0.5 * s * bias[abs(q - k)] + bias[q - k + 150] }
attention kinds(kind: int[token], bias: float[head, 7, 5]) {
    mask = k <= q + 3
    score = s + bias[head, kind[q], kind[k] // 2]
}
attention dilated(bias: float[head, 70]) { mask = near(60) and (q - k) % 3 == 0   score = s + bias[head, q - k] }
attention sinks(bias: float[head, 32], z: float[head]) {
    mask = causal
    score = s + bias[head, min(q - k, 31)]
    sink = z[head]
}
attention counts(bias: float[head, 20]) { mask = causal + near(5)   score = s + bias[head, min(q - k, 19)] }
"""


@dataclass(frozen=True)
class Question:
    """One attention of the text: the shape of its tables but for heads, and its call. ``most``: additions per program
    and step, where they are not made once per program and entry.
    """

    name: str
    entries: tuple[int, ...]
    per_head: bool = True
    n: int = 75
    m: int = 75
    heads: int = 2
    kv_heads: int = 1
    most: int = 0
    given: dict[str, Any] = field(default_factory=dict)


QUESTIONS = (
    Question("relative", (47,)),
    Question("relative", (47,), n=80, m=37, kv_heads=2, given={"q_start": 43}),
    Question("clamped", (33,)),
    Question("buckets", (32,), n=70, m=33, given={"q_start": 30, "dropout": 0.3, "seed": 7}),
    Question("several", (300,), per_head=False, most=2 * 2 * 3 * 32),
    Question("kinds", (7, 5), n=50, m=50),
    Question("dilated", (70,), n=130, m=130, heads=1),
    Question("sinks", (32,)),
    Question("counts", (20,)),
)
_STEP = 32  # tokens that a step of a kernel takes in fp32


def _count_additions(self: InterpreterBuilder, op: Any, pointer: Any, value: Any, mask: Any, *rest: Any) -> Any:
    _counted[0] += int(mask.data.sum())
    return _plain(self, op, pointer, value, mask, *rest)


_plain = InterpreterBuilder.create_atomic_rmw
_counted = [0]


@contextmanager
def counted() -> Iterator[list[int]]:
    """How many lanes are added atomically, within it."""
    _counted[0] = 0
    with patch.object(InterpreterBuilder, "create_atomic_rmw", _count_additions):
        yield _counted


def _tables(question: Question, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (question.heads, *question.entries) if question.per_head else question.entries
    tables = {"bias": torch.randn(shape, generator=generator)}
    if question.name == "sinks":
        tables["z"] = torch.randn(question.heads, generator=generator)
    return {name: table.to(dtype).requires_grad_() for name, table in tables.items()}


def _gradients(called: Any, question: Question, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    """The value of a sum of the output, and the gradients of all that it depends on, by name."""
    generator = torch.Generator().manual_seed(4)
    sizes = {
        "q": (question.heads, question.m),
        "k": (question.kv_heads, question.n),
        "v": (question.kv_heads, question.n),
    }
    leaves = {name: torch.randn(2, *size, 16, generator=generator) for name, size in sizes.items()}
    leaves = {name: x.to(dtype).requires_grad_() for name, x in leaves.items()}
    tables = _tables(question, dtype)
    rest = {"kind": torch.arange(question.n) * 5 % 7} if question.name == "kinds" else {}
    out = called(**leaves, **tables, **rest, **question.given)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(dtype)
    value = (out * weight).sum()
    value.backward()
    found = {name: x.grad for name, x in (leaves | tables).items() if x.grad is not None}
    return value.detach(), found


def asked(question: Question) -> None:
    """Gradients are those of the definition in fp64, the same from run to run, and few additions are atomic."""
    attention = getattr(attnc.loads(TEXT), question.name)()
    with counted() as lanes:
        _, found = _gradients(attention, question, torch.float32)
        additions = lanes[0]
    assert any("triton" in kind for kind in launches())
    _, again = _gradients(attention, question, torch.float32)
    _, expected = _gradients(attention.reference, question, torch.float64)
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        error = float((found[name].double() - right).abs().max() / right.abs().max())
        assert error < 2e-5, f"{name} differs by {error:.3g}"
        assert torch.equal(found[name], again[name]), f"{name} differs from run to run"
    programs = 2 * question.heads * -(-(question.m + 2 * _STEP) // _STEP)  # a residue may begin another block
    entries = 1
    for size in question.entries:
        entries *= size
    # two digits for each sum
    most = question.most * -(-question.n // _STEP) if question.most else entries
    assert 0 < additions <= 2 * programs * most, f"{additions} additions, at most {2 * programs * most} expected"


def difference_of_values() -> None:
    """An entry's gradient is the slope of the kernels' own results along it."""
    question = Question("buckets", (32,), n=40, m=40)
    attention = getattr(attnc.loads(TEXT), question.name)()
    _, found = _gradients(attention, question, torch.float64)
    step = 1e-5
    for head, entry in ((0, 3), (1, 0), (1, 9), (0, 17)):
        values = []
        for sign in (1, -1):
            moved = _tables(question, torch.float64)
            with torch.no_grad():
                moved["bias"][head, entry] += sign * step
            with patch(f"{__name__}._tables", lambda *_, moved=moved: moved):
                values.append(_gradients(attention, question, torch.float64)[0])
        slope = float(values[0] - values[1]) / (2 * step)
        assert abs(slope - float(found["bias"][head, entry])) < 1e-6 * max(1.0, abs(slope))
