"""Scales of every kind and logits of any size on the Triton kernels, in Triton's interpreter, against fp64.

Imported once the interpreter is chosen, by :mod:`tests.support.triton.programs`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from attnc.compiler.codegen.triton.tuning import USUAL_TARGET, make_variant
from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import LOGIT, TRUE, Expr
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.plan.dtypes import FP16, FP32
from attnc.compiler.plan.orders import natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.runtime.base.launch import Launch
from attnc.runtime.triton import executor
from tests.support.executors import launch_of
from tests.support.handmade import CAUSAL, Case

tanh: Any = None  # the function under test, of the module that :func:`narrow_tanh` loads


@triton.jit
def _each(xs, ys, lanes: tl.constexpr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    lane = tl.arange(0, lanes)
    tl.store(ys + lane, tanh(tl.load(xs + lane)))


SCALES = (0.5, -0.7, 0.0, -0.0, 1e-42, 30.0, -30.0, float("inf"), -float("inf"), float("nan"))


def _launch(mask: Expr, heads: int, n: int) -> Launch:
    """Plain attention of fp32: the score is the logit itself, which the kernels scale last."""
    kernel = Kernel(natural(16), (Segment(natural(16), mask),), "store")
    case = Case("scales", Program((kernel,), mask, LOGIT, None, ()), CallShape(n, n, heads))
    launch = launch_of(case, dtype=torch.float32, batch=1)
    return replace(
        launch, k=launch.k.repeat_interleave(heads // launch.k.shape[1], 1), v=launch.v[:, :1].repeat(1, heads, 1, 1)
    )


def _dense(launch: Launch, mask: Expr, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    logits = q @ k.mT * launch.scale.double()[:, None, None]
    if mask == CAUSAL:
        logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
    none = (logits == -torch.inf).all(-1, keepdim=True)
    return torch.where(none, 0.0, torch.where(none, 0.0, logits).softmax(-1)) @ v


def any_scale() -> None:
    """Negative scales and 0 weigh as they should; infinities and NaN make NaN where the formula does."""
    for mask in (CAUSAL, TRUE):
        launch = replace(_launch(mask, len(SCALES), 37), scale=torch.tensor(SCALES))
        out, lse = executor.forward(launch)
        given = [x.double().requires_grad_() for x in (launch.q, launch.k, launch.v)]
        expected = _dense(launch, mask, *given)
        torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4, equal_nan=True)
        found = executor.backward(launch, out, lse, torch.ones_like(out), None)
        gradients = torch.autograd.grad(expected[:, :7].sum(), given)
        for name, gradient in zip("qkv", gradients, strict=True):
            got = getattr(found, name).double()[:, :7]
            torch.testing.assert_close(got, gradient[:, :7], rtol=1e-3, atol=1e-3)


def equal_logits() -> None:
    """Equal logits of 1e4 weigh the same, in whichever tile they are and however the largest one grew before."""
    n = 64
    launch = _launch(TRUE, 1, n)
    q, k = torch.zeros(1, 1, n, 8), torch.zeros(1, 1, n, 8)
    q[..., 0] = 100.0
    levels = torch.tensor([99.97, 99.98, 99.99, 100.0])
    level = torch.arange(n) % 4
    level[:16] = level[:16].clamp(max=1)  # the largest logit grows from the first tile to the next
    k[0, 0, :, 0] = levels[level]
    launch = replace(launch, q=q, k=k, v=torch.eye(n)[None, None], scale=torch.tensor([1.0]))
    weights = executor.forward(launch)[0][0, 0]
    logits = q[0, 0].double() @ k[0, 0].double().T
    torch.testing.assert_close(weights.double(), logits.softmax(-1), rtol=2e-3, atol=0.0)
    for number in range(4):
        same = weights[:, level == number]
        torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=1e-6, atol=0.0)


def narrow_tanh() -> None:
    """The hyperbolic tangent of kernels for 16 bits is within 5e-7, at infinities too; that of 32 bits is relative."""
    global tanh
    xs = torch.cat([torch.linspace(-12, 12, 4090), torch.tensor([torch.inf, -torch.inf, 0.0, 200.0, -200.0, 1e-9])])
    kernel = Kernel(natural(16), (Segment(natural(16), CAUSAL),), "store")
    program = Program((kernel,), CAUSAL, constructors.function("tanh", LOGIT), None, ())
    expected = xs.double().tanh()
    for dtype, absolute, relative in ((FP16, 5e-7, 0.0), (FP32, 0.0, 5e-7)):
        variant = make_variant("forward", dtype, 16, 16, ())
        tanh = executor._kernels(program, variant, USUAL_TARGET).module._tanh
        ys = torch.zeros_like(xs)
        _each[(1,)](xs, ys, len(xs))
        torch.testing.assert_close(ys.double(), expected, rtol=relative, atol=absolute)
