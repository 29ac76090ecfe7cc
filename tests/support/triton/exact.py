"""Gradients that many pairs add to, as integers: no order of additions changes a bit. In Triton's interpreter.

Imported once the interpreter is chosen, by :mod:`tests.support.triton.programs`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from attnc.compiler.codegen.triton.tuning import USUAL_TARGET, make_variant
from attnc.compiler.codegen.triton.variant import DIGITS
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import LOGIT, Const, Entry, K, Q
from attnc.compiler.plan.dtypes import FP32
from attnc.compiler.plan.orders import natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.runtime.triton import executor
from tests.support.handmade import CAUSAL

add_exactly: Any = None  # the function under test, of the module that :func:`_module` loads


@triton.jit
def _add(digits, floats, entries, count, digits_each: tl.constexpr, lanes: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    lane = tl.arange(0, lanes)
    x = tl.load(floats + lane, mask=lane < count, other=float("nan"))
    entry = tl.load(entries + lane, mask=lane < count, other=0)
    add_exactly(digits + entry * digits_each, x, lane < count)


def _module() -> Any:
    bias = Table("bias", "float", (Dimension("token"),))
    entry = Entry("0", (constructors.absolute(constructors.sub(Q, K)),), "float")
    kernel = Kernel(natural(16), (Segment(natural(16), CAUSAL),), "store")
    program = Program((kernel,), CAUSAL, constructors.add(LOGIT, constructors.mul(Const(1.0), entry)), None, (bias,))
    return executor._kernels(program, make_variant("backward_queries", FP32, 16, 16, (FP32,)), USUAL_TARGET).module


def _summed(floats: Tensor, entries: Tensor, count: int) -> Tensor:
    global add_exactly
    add_exactly = _module()._add_exactly
    digits = torch.zeros(count, DIGITS, dtype=torch.int64)
    lanes = 1 << (len(floats) - 1).bit_length()
    _add[(1,)](digits, floats, entries, len(floats), DIGITS, lanes)
    return executor.from_digits(digits)


def any_float() -> None:
    """Sums of floats of every size and sign are those of exact arithmetic, rounded once, in any order."""
    generator = torch.Generator().manual_seed(3)
    bits = torch.randint(-(2**31), 2**31 - 1, (4000,), generator=generator).to(torch.int32)
    floats = bits.view(torch.float32)
    floats = torch.where(floats.isfinite() & (floats.abs() < 1e30), floats, torch.zeros(()))
    floats[::3] = torch.randn(len(floats[::3]), generator=generator)
    floats[:40] = 2.0**-149 * torch.arange(-20, 20)
    entries = torch.randint(0, 5, (4000,), generator=generator)
    entries[1::3] += 5  # some entries without the large ones
    found = _summed(floats, entries, 10)
    for entry in range(10):
        exact = math.fsum(floats[entries == entry].double().tolist())
        assert found[entry].item() == torch.tensor(exact, dtype=torch.float64).float().item()
    order = torch.randperm(4000, generator=generator)
    assert torch.equal(_summed(floats[order], entries[order], 10), found)


def not_finite() -> None:
    """An infinity makes its sum infinite; two of different signs, or NaN, make it NaN."""
    floats = torch.tensor([math.inf, 1.0, -math.inf, math.inf, -math.inf, math.nan, 2.5])
    found = _summed(floats, torch.tensor([0, 0, 1, 2, 2, 3, 4]), 5)
    assert found.tolist()[:2] == [math.inf, -math.inf]
    assert found.isnan().tolist() == [False, False, True, True, False]
    assert found[4] == 2.5
