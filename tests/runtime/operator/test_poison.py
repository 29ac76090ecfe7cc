"""NaN and infinity: what no pair keeps changes nothing, what some rows keep reaches those rows and no others."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import attnc
from attnc.attention import Attention
from tests.support.poison import poisoned, unused

CASES = {
    "cached": ("pattern p(length: int[]) = causal and k < length", {"length": torch.tensor(40)}),
    "padded": ("pattern p(length: int[]) = k < length and q < length", {"length": torch.tensor([40, 31])}),
    "causal": ("pattern p = causal", {}),
    "window": ("pattern p = causal_window(9) and k % 3 != 1", {}),
    "counted": (
        "pattern p(length: int[]) = (window(8) and k < length) + (k < 3 and q > 5)",
        {"length": torch.tensor(37)},
    ),
    "globals": ("pattern p(g: tokens) = (q in g or k in g or window(6)) and k < 50", {"g": torch.tensor([0, 33])}),
    "dilated": ("pattern p = window(4, dilation = 4) and k % 4 == 1", {}),
    "sink": (
        "attention p(b: float[head]) { mask = causal and k % 5 == 0 and q > 7  sink = b[head] }",
        {"b": torch.tensor([0.3, -1.0])},
    ),
    "scored": (
        "attention p(b: float[head], length: int[]) {"
        " mask = causal and k < length  score = 9 * tanh(s / 9) + b[head] * (k - q) }",
        {"b": torch.tensor([0.3, 0.1]), "length": torch.tensor(20)},
    ),
}  # fmt: skip
HEADS, N = 2, 64


def attend(attention: Attention, backend: str) -> Callable[..., tuple[Tensor, Tensor]]:
    def call(*args: Tensor, **tables: Tensor) -> tuple[Tensor, Tensor]:
        function = attention.reference if backend == "reference" else attention
        return function(*args, return_lse=True, **tables)  # type: ignore[no-any-return]

    return call


EXECUTORS = ["triton"] if attnc.settings.interpret else ["cpp", "blocked", "reference"]


@pytest.fixture(params=EXECUTORS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """What runs the calls of a test, forward and backward."""
    chosen = "auto" if request.param == "reference" else request.param
    with attnc.settings.override(backend=chosen, optimisation=0):
        yield request.param


def results(
    call: Callable[..., tuple[Tensor, Tensor]], inputs: list[Tensor], tables: dict[str, Tensor], pulls: list[Tensor]
) -> dict[str, Tensor]:
    """out, lse and every gradient of one call."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    held = {name: x.detach().clone().requires_grad_(x.is_floating_point()) for name, x in tables.items()}
    out, lse = call(*leaves, **held)
    floats = [x for x in held.values() if x.requires_grad]
    grads = torch.autograd.grad([out, lse], [*leaves, *floats], pulls, allow_unused=True, materialize_grads=True)
    names = ["dq", "dk", "dv", *(f"d{name}" for name, x in held.items() if x.requires_grad)]
    return {"out": out.detach(), "lse": lse.detach(), **dict(zip(names, grads, strict=True))}


@pytest.mark.parametrize("name", CASES)
def test_what_no_pair_keeps_changes_nothing(name: str, backend: str) -> None:
    text, tables = CASES[name]
    attention = attnc.loads(text).p()
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn(2, heads, N, 8, generator=generator) for heads in (HEADS, 1, 1)]
    pulls = [torch.randn(2, HEADS, N, 8, generator=generator), torch.randn(2, HEADS, N, generator=generator)]
    spare = unused(attention.mask(N, heads=HEADS, **tables), 2, 1)
    assert name in ("causal",) or bool(spare.rows.any() | spare.keys.any())
    call = attend(attention, backend)
    clean = results(call, inputs, tables, pulls)
    wheres = (spare.rows, spare.keys, spare.keys)
    dirty = [poisoned(x, where, generator) for x, where in zip(inputs, wheres, strict=True)]
    with_sink = attention._bound.sink is not None  # the log-sum-exp of a row without keys is its sink then
    ends = [
        poisoned(pulls[0], spare.rows, generator),
        pulls[1] if with_sink else poisoned(pulls[1], spare.rows, generator),
    ]
    for what, x in results(call, dirty, tables, ends).items():
        torch.testing.assert_close(x, clean[what], rtol=1e-5, atol=1e-5, msg=lambda text, what=what: f"{what}: {text}")


def dense(mask: Tensor, q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> dict[str, Tensor]:
    """Attention and its gradients as sums over the kept pairs alone, in Python: which numbers are NaN or infinite."""
    batch, heads, m, n = (*q.shape[:3], k.shape[2])
    group = heads // k.shape[1]
    found = {"out": torch.zeros(*q.shape[:3], v.shape[3]), "dq": torch.zeros_like(q), "dk": torch.zeros_like(k)}
    found["dv"] = torch.zeros_like(v)
    for b, h, i in itertools.product(range(batch), range(heads), range(m)):
        keys = [j for j in range(n) if mask[h, i, j]]
        if not keys:
            continue
        s = torch.stack([(q[b, h, i] * k[b, h // group, j]).sum() for j in keys]) / math.sqrt(q.shape[3])
        p = s.softmax(0)
        found["out"][b, h, i] = sum((p[x] * v[b, h // group, j] for x, j in enumerate(keys)), torch.zeros(v.shape[3]))
        dp = torch.stack([(grad[b, h, i] * v[b, h // group, j]).sum() for j in keys])
        ds = p * (dp - (p * dp).sum()) / math.sqrt(q.shape[3])
        for x, j in enumerate(keys):
            found["dq"][b, h, i] += ds[x] * k[b, h // group, j]
            found["dk"][b, h // group, j] += ds[x] * q[b, h, i]
            found["dv"][b, h // group, j] += p[x] * grad[b, h, i]
    return found


@pytest.mark.parametrize("where", ["q", "k", "v", "grad"])
@pytest.mark.parametrize("text", ["causal_window(5)", "q >= 3 and (k < 2 or abs(q - k) <= 1) and k != 7", "full"])
def test_nan_reaches_the_rows_that_keep_it_and_no_others(text: str, where: str, backend: str) -> None:
    attention = attnc.loads(f"pattern p = {text}").p()
    generator = torch.Generator().manual_seed(2)
    shapes = {"q": (1, 2, 20, 4), "k": (1, 1, 20, 4), "v": (1, 1, 20, 3), "grad": (1, 2, 20, 3)}
    given = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    given[where][0, 0, 11, 1] = math.nan
    given[where].view(torch.int32)[0, 0, 11, 1] |= 0x155  # what a NaN carries is of no account
    mask = attention.mask(20, heads=2)
    wanted = dense(mask, *given.values())
    call = attend(attention, backend)
    pulls = [given["grad"], torch.zeros(1, 2, 20)]
    found = results(call, [given[x] for x in "qkv"], {}, pulls)
    for name, x in wanted.items():
        own = found[name]
        if backend == "triton":  # perhaps all features of a row, as soon as one is NaN
            own, x = (torch.where(y.isnan().any(-1, keepdim=True), math.nan, y) for y in (own, x))
        assert torch.equal(own.isnan(), x.isnan()), name
        torch.testing.assert_close(own, x, rtol=1e-4, atol=1e-4, equal_nan=True)


SINKS = "attention p(b: float[head], g: tokens) { mask = q > 4 and (causal_window(6) or k in g)  sink = b[head] }"


@pytest.mark.parametrize("sink", [math.inf, -math.inf, math.nan])
def test_a_sink_that_is_not_finite_does_what_the_definition_says(sink: float, backend: str) -> None:
    attention = attnc.loads(SINKS).p()
    generator = torch.Generator().manual_seed(9)
    inputs = [torch.randn(1, heads, 40, 8, generator=generator) for heads in (2, 2, 2)]
    tables = {"b": torch.tensor([0.5, sink]), "g": torch.tensor([0, 17])}
    pulls = [torch.randn(1, 2, 40, 8, generator=generator), torch.zeros(1, 2, 40)]
    wanted = results(attend(attention, "reference"), inputs, tables, pulls)
    found = results(attend(attention, backend), inputs, tables, pulls)
    assert not found["out"][:, :, :5].any(), "a row that keeps nothing is 0"
    for name, x in wanted.items():
        torch.testing.assert_close(
            found[name], x, rtol=1e-4, atol=1e-4, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("sink", [math.inf, -math.inf, math.nan])
def test_a_number_of_the_host_that_is_not_finite_is_no_sink(sink: float) -> None:
    attention = attnc.loads(SINKS).p()
    q, k, v = (torch.randn(1, 2, 40, 8) for _ in range(3))
    for given in ([0.5, sink], np.array([0.5, sink], np.float32)):
        with pytest.raises(ValueError, match=f"b: holds {sink}, expected finite numbers: the sink reads it"):
            attention(q, k, v, b=given, g=[0])
        with pytest.raises(ValueError, match="b: holds"):
            attention.reference(q, k, v, b=given, g=[0])


def test_an_infinite_logit_leaves_its_row_without_numbers(backend: str) -> None:
    attention = attnc.load("causal").causal()
    generator = torch.Generator().manual_seed(4)
    inputs = [torch.rand(1, 1, 12, 4, generator=generator) for _ in range(3)]
    inputs[0][0, 0, 8] *= -1
    inputs[1][0, 0, 5, 0] = math.inf
    pulls = [torch.randn(1, 1, 12, 4, generator=generator), torch.zeros(1, 1, 12)]
    wanted = results(attend(attention, "reference"), inputs, {}, pulls)
    found = results(attend(attention, backend), inputs, {}, pulls)
    for name in ("out", "lse", "dv"):
        own, right = found[name], wanted[name]
        assert torch.equal(own.isnan(), right.isnan()), name
    assert found["lse"][0, 0].isnan().tolist() == [row >= 5 and row != 8 for row in range(12)]


@pytest.mark.parametrize("sink", [-math.inf, 0.5])
def test_a_sink_has_the_gradient_of_a_row_that_keeps_nothing(sink: float, backend: str) -> None:
    """Of its log-sum-exp, which is the sink; where that is -inf there is none."""
    attention = attnc.loads(SINKS).p()
    q, k, v = (torch.ones(1, 2, 12, 8) for _ in range(3))
    b = torch.tensor([0.5, sink], requires_grad=True)
    _, lse = attend(attention, backend)(q, k, v, b=b, g=torch.tensor([0]))
    (grad,) = torch.autograd.grad(lse[0, :, 3].sum(), b)
    assert grad.tolist() == [1.0, 0.0 if sink == -math.inf else 1.0]


@pytest.mark.parametrize("scale", [math.inf, -math.inf, math.nan, 0.0])
def test_a_scale_that_is_not_finite_does_what_the_definition_says(scale: float, backend: str) -> None:
    attention = attnc.loads("pattern p = q > 4 and causal_window(6)").p()
    generator = torch.Generator().manual_seed(9)
    q, k, v = (torch.randn(1, 2, 40, 8, generator=generator).requires_grad_() for _ in range(3))
    scales = torch.tensor([0.5, scale])
    call = attend(attention, backend)
    out, lse = call(q, k, v, scale=scales)
    wanted, right = attend(attention, "reference")(q, k, v, scale=scales)
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4, equal_nan=True)
    assert torch.equal(lse == -math.inf, right == -math.inf)
    assert not out[:, :, :5].any()
    (dq,) = torch.autograd.grad(out[:, 0].sum() + out[:, 1, :5].sum(), q)
    assert not dq[:, :, :5].any(), "a row that keeps nothing has no gradient"


@pytest.mark.long
@pytest.mark.skipif(attnc.settings.interpret, reason="this process is the one that runs the Triton kernels")
def test_the_triton_kernels_in_the_interpreter() -> None:
    environment = {**os.environ, "ATTNC_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
