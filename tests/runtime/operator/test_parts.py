"""Keys that are a part of the whole: split anyhow and merged they give what all of them give, on every executor."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnc
from attnc.attention import Attention
from attnc.compiler.modules.loader import load_shipped
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.tile_choices import only
from attnc.runtime import planning
from attnc.runtime.base.configuration import settings
from attnc.runtime.call import checks
from attnc.runtime.cpp.executor import columns
from attnc.runtime.op import call_of
from tests.fuzz import parts as fuzz_parts
from tests.fuzz.parts import MODULE, PATTERNS, Pattern, drawn
from tests.runtime.operator.test_op import needs_compiler
from tests.support.shipped_files import EVERY_KIND

VERIFIED = ("around", "bigbird", "buckets", "everything")
IDS = [f"{pattern.file}.{pattern.name}" for pattern in PATTERNS]
COMPILED = ("around", "everything", "buckets")  # all of them: python -m tests.fuzz parts-cpp


def test_patterns_of_every_kind_are_split() -> None:
    """Of the prelude all, some of them those of other files; of the gallery those of every kind."""
    assert {pattern.file for pattern in PATTERNS} >= EVERY_KIND
    names = {pattern.name for pattern in PATTERNS}
    prelude = load_shipped("std").declarations.values()
    assert {own.name for own in prelude if own.kind in ("pattern", "attention")} <= names


@pytest.mark.parametrize("pattern", PATTERNS, ids=IDS)
def test_any_split_is_the_whole(pattern: Pattern) -> None:
    """Of some the plans are verified, and the dense definition is split: of all by ``python -m tests.fuzz parts``."""
    case = drawn(3 * PATTERNS.index(pattern), pattern, 50)
    with settings.override(backend="blocked"):
        found = fuzz_parts.fault(case) if pattern.name in VERIFIED else fuzz_parts.differences(case)
    assert found is None


@needs_compiler
@pytest.mark.parametrize("name", COMPILED)
def test_any_split_is_the_whole_in_kernels(name: str) -> None:
    pattern = next(pattern for pattern in PATTERNS if pattern.name == name)
    with settings.override(backend="cpp", optimisation=0):
        for seed in range(5):
            case = drawn(seed, pattern)
            assert fuzz_parts.differences(dataclasses.replace(case, dropout=0.3)) is None, seed


@needs_compiler
def test_kernels_take_up_no_other_key() -> None:
    """Whatever stands around a part in memory weighs nothing, so that only a count can tell."""
    q, k, v = (torch.randn(1, 1, rows, 8) for rows in (10, 20, 20))
    attention = attnc.load("full").full()._bound
    with settings.override(optimisation=0):
        call = call_of(attention, q, k, v, scale=None, q_start=0, k_start=57, n=100, dropout=0.0, seed=None, tables={})
        assert columns(planning.launch_of(attention, call, only(Tiles(64, 64)))).visited == 10 * 20


@pytest.fixture(params=["blocked", pytest.param("cpp", marks=needs_compiler)])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with settings.override(backend=request.param, optimisation=0):
        yield request.param


def test_positions_that_the_host_does_not_know(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where k_start and q_start are on a GPU: any tile may then hold keys that exist, and others."""
    seen: list[object] = []

    def unknown(given: int, tensor: Tensor | None, batch: int, name: str = "q_start") -> tuple[int, ...] | None:
        seen.append(tensor)
        return positions(given, tensor, batch, name) if tensor is None else None

    positions = checks.positions
    pattern = next(pattern for pattern in PATTERNS if pattern.name == "everything")
    cases = [drawn(seed, pattern) for seed in range(3)]
    wholes = [(case, fuzz_parts.inputs_of(case)) for case in cases]
    expected = [fuzz_parts.whole(*one)[0] for one in wholes]
    monkeypatch.setattr(checks, "positions", unknown)
    for one, right in zip(wholes, expected, strict=True):
        torch.testing.assert_close(attnc.merge(fuzz_parts.parts(*one))[0], right, rtol=1e-9, atol=1e-9)
    assert any(tensor is not None for tensor in seen)


def inputs(n: int = 40, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, heads, n, 8, generator=generator, dtype=torch.float64).to(dtype) for heads in (4, 2, 2)]


def test_bfloat16_and_autocast(backend: str) -> None:
    dtype, tolerance = torch.bfloat16, 3e-2
    q, k, v = inputs(dtype=dtype)
    attend = attnc.load("window").causal_window(9)
    right = attend.reference(q.float(), k.float(), v.float())
    cut = [slice(0, 13), slice(13, 40)]
    found = [attend(q, k[:, :, x], v[:, :, x], k_start=x.start, n=40, return_lse=True) for x in cut]
    assert found[0][0].dtype == dtype
    torch.testing.assert_close(attnc.merge(found)[0].float(), right, rtol=tolerance, atol=tolerance)
    with torch.autocast("cpu", dtype=dtype):
        again = attend(q.float(), k[:, :, cut[1]].float(), v[:, :, cut[1]].float(), k_start=13)
    assert torch.equal(again, found[1][0])


def test_a_part_that_holds_everything_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel and no plan of its own."""
    q, k, v = inputs()
    attend = attnc.load("causal").causal()
    with settings.override(backend="blocked"):
        right, plan = attend(q, k, v), attend.plan(40)
        monkeypatch.setattr(planning, "_plan", lambda *_: pytest.fail("planned anew"))
        for given in ({"k_start": 0}, {"n": 40}, {"k_start": torch.zeros(2, dtype=torch.int64), "n": 40}):
            assert torch.equal(attend(q, k, v, **given), right)
    assert attend.plan(40, k_start=0, k_rows=40).program is plan.program


def test_another_part_is_the_same_program() -> None:
    attend = MODULE.around()
    plans = [attend.plan(400, k_start=start, k_rows=100, g=[3, 350]) for start in (0, 100, 300)]
    assert len({plan.program for plan in plans}) == 1
    assert [plan.order for plan in plans] == [attend.plan(400, g=[3, 350]).order] * 3
    assert sum(plan.pairs for plan in plans) + attend.plan(400, k_start=200, k_rows=100, g=[3, 350]).pairs == (
        attend.plan(400, g=[3, 350]).pairs
    )
    assert "400 queries × 100 of 400 keys" in repr(plans[0])
    far = attnc.load("full").full().plan(1_000_000, 1, k_start=70_000, k_rows=6_400)
    assert 99 <= far.full + far.partial <= 102, "tiles without a key are not visited"


def test_the_mask_of_a_part() -> None:
    attend = MODULE.limited()
    given = {"limit": torch.randint(0, 60, (2, 12))}
    right = attend.mask(30, 12, q_start=[3, 9], **given)
    assert torch.equal(attend.mask(30, 12, q_start=[3, 9], k_start=7, k_rows=11, **given), right[..., 7:18])
    assert torch.equal(attend.mask(30, 12, q_start=[3, 9], k_start=7, **given), right[..., 7:])
    beyond = attend.mask(30, 12, q_start=[3, 9], k_start=25, k_rows=9, **given)
    assert torch.equal(beyond[..., :5], right[..., 25:])
    assert not beyond[..., 5:].any(), "no key stands beyond the last position"
    each = attend.mask(30, 12, q_start=[3, 9], k_start=torch.tensor([4, 20]), k_rows=10, with_sink=False, **given)
    assert torch.equal(each, torch.stack([right[0, ..., 4:14], right[1, ..., 20:30]]))
    twice = attnc.loads("pattern p = (k <= q) + (q - k < 3 and k % 2 == 0)").p()
    assert torch.equal(twice.mask(30, k_start=8, k_rows=4), twice.mask(30)[..., 8:12])


def test_an_index_that_is_read_for_no_key_is_no_fault() -> None:
    """Errors name the position of the key, not its row."""
    attend = attnc.loads("attention p(t: float[reach]) { mask = true  score = s + t[k] }").p()
    q, k, v = inputs(6)
    table = torch.zeros(9, dtype=torch.float64)
    with settings.override(backend="blocked"):
        for call in (attend, attend.reference):
            assert call(q, k, v, k_start=5, n=9, t=table).isfinite().all()
            with pytest.raises(ValueError, match=r"index|expected 0 to 8"):
                call(q, k, v, k_start=5, n=11, t=table)
    with pytest.raises(ValueError, match=r"index 9 is outside .* key 9"):
        attend.reference(q, k, v, k_start=5, n=11, t=table)
    text = "pattern p(t: int[reach]) = t[k] == 0"
    with pytest.raises(ValueError, match=r"index 9 is outside .* key 9"):
        attnc.loads(text).p().mask(11, k_start=5, k_rows=6, t=torch.zeros(9, dtype=torch.int64))


def test_a_row_without_a_key_has_no_weight_in_the_whole(backend: str) -> None:
    """Nothing but a sink, where the part has that; no NaN comes out of it, nor back through it."""
    q, k, v = (x.requires_grad_() for x in inputs())
    logit = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    attend = MODULE.sunk()
    dead = attend(q, k[:, :, 30:], v[:, :, 30:], k_start=200, n=240, with_sink=False, return_lse=True, logit=logit)
    assert not dead[0].any()
    assert (dead[1] == -torch.inf).all()
    only = attend(q, k[:, :, :0], v[:, :, :0], k_start=17, n=40, return_lse=True, dropout=0.5, seed=3, logit=logit)
    rows = torch.arange(40, dtype=torch.float64)
    torch.testing.assert_close(only[1], (logit[:, None] * rows / 70).expand(2, -1, -1))
    found = attnc.merge([dead, only, attend(q, k, v, with_sink=False, return_lse=True, logit=logit)])
    right = attend.reference(q, k, v, return_lse=True, logit=logit)
    for own, other in zip(found, right, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)
    for own, other in zip(
        *(torch.autograd.grad(out.sum() + lse.sum(), [q, k, v, logit]) for out, lse in (found, right)), strict=True
    ):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)


def test_without_a_sink_nothing_else_changes() -> None:
    q, k, v = inputs()
    text = "attention p(logit: float[head], w: float[token]) {{ mask = causal  score = s + w[k] {} }}"
    with_one, without = (attnc.loads(text.format(sink)).p() for sink in ("sink = logit[head]", ""))
    given = {"logit": torch.zeros(4), "w": torch.randn(40)}
    with settings.override(backend="blocked"):
        assert torch.equal(with_one(q, k, v, with_sink=False, **given), without(q, k, v, **given))
        assert not torch.equal(with_one(q, k, v, **given), without(q, k, v, **given))
        assert torch.equal(without(q, k, v, with_sink=False, **given), without(q, k, v, **given))
    with pytest.raises(TypeError, match=r"logit: missing"):
        with_one(q, k, v, with_sink=False, w=given["w"])
    with pytest.raises(TypeError, match="with_sink: is int, expected True or False"):
        with_one(q, k, v, with_sink=0, **given)  # type: ignore[arg-type]


def test_compiled_without_a_break() -> None:
    q, k, v = inputs()
    attend = MODULE.sunk()
    logit = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)

    def split(q: Tensor, k: Tensor, v: Tensor, cut: int) -> Tensor:
        parts = [
            attend(q, k[:, :, :cut], v[:, :, :cut], n=k.shape[2], return_lse=True, logit=logit),
            attend(q, k[:, :, cut:], v[:, :, cut:], k_start=cut, with_sink=False, return_lse=True, logit=logit),
        ]
        return attnc.merge(parts)[0]  # type: ignore[no-any-return]

    with settings.override(backend="blocked"):
        compiled = torch.compile(split, backend="aot_eager", fullgraph=True, dynamic=True)
        for cut in (11, 12, 29):
            torch.testing.assert_close(compiled(q, k, v, cut), attend.reference(q, k, v, logit=logit))


@pytest.mark.parametrize(
    ("dropout", "starts"),
    [(0.4, [0, 5, 9]), (0.0, [0, 5, 9]), (0.0, [[0, 11], [3, 3], [8, 2]])],
    ids=["dropout", "one", "batch"],
)
def test_vmap_over_parts(dropout: float, starts: Any) -> None:
    """Positions of keys may be mapped over; they may have a batch besides."""
    generator = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(3, 2, 2, 10, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    attend, starts = attnc.load("window").causal_window(12), torch.tensor(starts)

    def one(q: Tensor, k: Tensor, v: Tensor, start: Tensor) -> Any:
        return attend(q, k, v, q_start=12, k_start=start, n=20, dropout=dropout, seed=5, return_lse=True)

    def of_keys(k: Tensor) -> Tensor:
        return torch.vmap(one, (None, 0, None, 0))(q[0], k, v[0], starts)[0].sum()  # type: ignore[no-any-return]

    with settings.override(backend="blocked"):
        found = torch.vmap(one)(q, k, v, starts)
        right = [one(*entry) for entry in zip(q, k, v, starts, strict=True)]
        grads = torch.func.grad(of_keys)(k)
        leaf = k.clone().requires_grad_()
        total = torch.stack([one(q[0], *each)[0].sum() for each in zip(leaf, [v[0]] * 3, starts, strict=True)]).sum()
    for own, each in zip(found, zip(*right, strict=True), strict=True):
        torch.testing.assert_close(own, torch.stack(each))
    torch.testing.assert_close(grads, torch.autograd.grad(total, leaf)[0])


SHARED: dict[str, Any] = {"w": torch.zeros(40)}


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"k_start": -1}, ValueError, "k_start: is -1, expected a position, 0 or more"),
        ({"k_start": [3, -2], "n": 40}, ValueError, "k_start: holds -2, expected a position, 0 or more"),
        ({"k_start": torch.tensor([3, -2]), "n": 40}, ValueError, "k_start: is -2, expected a position, 0 or more"),
        ({"k_start": 1.0}, TypeError, r"k_start: is float, expected an int or an int tensor \[batch\]"),
        ({"k_start": True}, TypeError, r"k_start: is bool, expected an int or an int tensor \[batch\]"),
        ({"k_start": 2**63}, ValueError, r"k_start: is \d+, expected a position below 2\*\*48"),
        ({"k_start": 2**48 + 1, "n": 40}, ValueError, r"k_start: is \d+, expected at most 2\*\*48"),
        ({"k_start": torch.tensor([1, 2])}, ValueError, "n: is not given, expected the number of positions, since"),
        ({"k_start": [1, 2]}, ValueError, "n: is not given, expected the number of positions, since k_start is a"),
        ({"k_start": torch.tensor([1, 2, 3]), "n": 50}, ValueError, r"k_start: has shape \[3\], expected an int or"),
        ({"k_start": torch.tensor([1.0]), "n": 50}, TypeError, "k_start: has dtype float32, expected integers"),
        ({"n": -1}, ValueError, r"n: is -1, expected 0 to 2\*\*48"),
        ({"n": 2**48 + 1}, ValueError, r"n: is \d+, expected 0 to 2\*\*48"),
        ({"n": 40.0}, TypeError, "n: is float, expected an int, the number of positions"),
        ({"k_start": 7}, ValueError, r"w: has shape \[40\], expected 47 \(n, which is k_start \+ the rows of k\)"),
        ({"k_start": 7, "n": 60}, ValueError, r"w: has shape \[40\], expected 60 \(n, as given\) in dimension 0"),
        ({"kstart": 7}, TypeError, "kstart: p has no such table; did you mean k_start?"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    q, k, v = inputs()
    attend = attnc.loads("attention p(w: float[token]) { mask = causal  score = s + w[k] }").p()
    for call in (attend, attend.reference):
        with settings.override(backend="blocked"), pytest.raises(kind, match=message):
            call(q, k, v, **SHARED, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k_start": 50}, "k_start: is 50, expected at most n = 40, since k_rows is not given"),
        ({"k_start": [3, 4]}, "k_rows: is not given, and k_start differs from one entry of the batch to another"),
        ({"k_rows": -1}, "k_rows: is -1, expected 0 or more"),
    ],
)
def test_errors_of_the_mask_and_of_the_plan(given: dict[str, Any], message: str) -> None:
    attend = attnc.load("causal").causal()
    for call in (attend.mask, attend.plan):
        with pytest.raises(ValueError, match=message):
            call(40, **given)


def test_positions_are_copied_at_the_call() -> None:
    q, k, v = (x.requires_grad_() for x in inputs())
    attend = attnc.load("causal").causal()
    starts = np.array([3, 0])
    with settings.override(backend="blocked"):
        out = attend(q, k, v, k_start=starts, n=43)
        starts[:] = 0
        right = attend.reference(q, k, v, k_start=[3, 0], n=43)
        grads = [torch.autograd.grad(x.sum(), [q, k, v]) for x in (out, right)]
    for own, other in zip(*grads, strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.long
def test_the_triton_kernels_in_the_interpreter() -> None:
    environment = {**os.environ, "ATTNC_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETER], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


INTERPRETER = """
from attnc import launches
from tests.fuzz import parts
pattern = next(pattern for pattern in parts.PATTERNS if pattern.name == "everything")
case = parts.Case(5, pattern, 50, 9, (30, 4), 2, 1, (31, 19), ((0, 1), (1, 0)), 0.3, 0)
wrong = parts.differences(case)
assert wrong is None, wrong
assert launches()["triton.forward"] == launches()["triton.backward"] == 2
"""


def test_a_copy_keeps_both() -> None:
    """An attention that was pickled has its variant without the sink, too."""
    attend: Attention = pickle.loads(pickle.dumps(MODULE.sunk()))  # noqa: S301
    q, k, v = inputs()
    with settings.override(backend="blocked"):
        own, other = (x(q, k, v, with_sink=False, logit=torch.ones(4)) for x in (attend, MODULE.sunk()))
    assert torch.equal(own, other)
