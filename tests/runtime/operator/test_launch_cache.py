"""Calls of one form share their launch: what is counted of it, and what it must never mistake for another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnc
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.programs import Program
from attnc.compiler.plan.tile_choices import TileChoice
from attnc.runtime import launch_cache, planning
from attnc.runtime.base.configuration import settings

MODULE = attnc.loads("""
pattern causal_ = k <= q
pattern shorter(length: int[]) = k < length
pattern documents_of(doc: int[token]) = doc[q] == doc[k]
pattern around(g: tokens) = abs(q - k) <= 3 or q in g or k in g
pattern above(level: float[token]) = k <= q and level[k] > 0.5
attention sloped(slope: float[head]) { mask = k <= q   score = s + slope[head] * (k - q) }
attention reading(bias: float[5], i: int[token]) { mask = k <= q   score = s + bias[i[k]] }
""")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What calls of the blocked executor make anew: ``launch``, ``scale`` and ``start``, in the order of making."""
    done: list[str] = []
    monkeypatch.setattr(launch_cache, "_entries", planning.Kept(8))
    for name, kind in (("launch_of", "launch"), ("scale_of", "scale"), ("positions_of", "start")):
        usual = getattr(launch_cache, name)
        monkeypatch.setattr(launch_cache, name, lambda *x, usual=usual, kind=kind: done.append(kind) or usual(*x))
    with settings.override(backend="blocked"):
        yield done


def inputs(m: int = 20, n: int = 20, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((1, 2, rows, 8), generator=generator) for rows in (m, n, n)]


def agrees(attention: attnc.Attention, given: dict[str, Any], seed: int = 0) -> None:
    qkv = inputs(seed=seed)
    torch.testing.assert_close(attention(*qkv, **given), attention.reference(*qkv, **given))


@pytest.mark.parametrize("given", [{}, {"scale": 0.3}, {"scale": [0.3, 0.2]}, {"q_start": 4}, {"q_start": [4]}])
def test_a_call_like_an_earlier_one_plans_and_makes_nothing(made: list[str], given: dict[str, Any]) -> None:
    for seed in range(3):
        agrees(MODULE.causal_(), given, seed)
    assert made == ["launch"]


def test_so_does_one_that_gives_tables_anew(made: list[str]) -> None:
    for seed in range(3):
        agrees(MODULE.around(), {"g": {3, 11}}, seed)
        agrees(MODULE.documents_of(), {"doc": np.arange(20) // 8}, seed)
    assert made == ["launch", "launch"]


def test_another_scale_is_another(made: list[str]) -> None:
    for scale in (0.3, 0.2, 0.3):
        agrees(MODULE.causal_(), {"scale": scale})
    scales = torch.tensor([0.3, 0.2])
    for _ in range(2):
        agrees(MODULE.causal_(), {"scale": scales})
        scales *= 2
    assert made == ["launch"] * 4


def test_scales_of_zero_differ_by_their_sign(made: list[str]) -> None:
    for scale in (0.0, -0.0, 0.0):
        agrees(MODULE.causal_(), {"scale": scale})
    assert made == ["launch", "launch"]


@pytest.mark.parametrize("through_numpy", [False, True])
def test_changed_contents_are_seen(made: list[str], through_numpy: bool) -> None:
    """A change through numpy's view leaves the tensor's version as it was."""
    doc = torch.arange(20, dtype=torch.int32) // 8
    agrees(MODULE.documents_of(), {"doc": doc})
    if through_numpy:
        doc.numpy()[3] = 7
    else:
        doc[3] = 7
    agrees(MODULE.documents_of(), {"doc": doc})
    assert made == ["launch", "launch"]


def test_a_launch_does_not_hold_on_to_the_memory_of_a_table(made: list[str]) -> None:
    """The first table is changed after its call; another that holds what it held then must not be read from it."""
    first = torch.arange(20, dtype=torch.int32) // 8
    second = first.clone()
    agrees(MODULE.documents_of(), {"doc": first})
    first.fill_(0)
    agrees(MODULE.documents_of(), {"doc": second})
    starts, scales = torch.tensor([4]), torch.tensor([0.3, 0.2])
    given = {"q_start": starts.clone(), "scale": scales.clone()}
    agrees(MODULE.causal_(), {"q_start": starts, "scale": scales})
    starts.zero_(), scales.zero_()
    agrees(MODULE.causal_(), given)
    assert made == ["launch", "launch"]


def test_floats_are_compared_to_the_bit(made: list[str]) -> None:
    level = torch.linspace(0, 1, 20)
    level[3] = torch.nan
    for _ in range(2):
        agrees(MODULE.above(), {"level": level})
    assert made == ["launch"], "NaN equals itself"


def test_errors_come_as_before_once_a_call_was_kept(made: list[str]) -> None:
    qkv = inputs()
    starts = torch.tensor([3])
    MODULE.causal_()(*qkv, q_start=starts)
    starts[0] = -1
    with pytest.raises(ValueError, match="q_start: is -1, expected a position"):
        MODULE.causal_()(*qkv, q_start=starts)
    inside = torch.zeros(20, dtype=torch.int64)
    MODULE.reading()(*qkv, bias=torch.zeros(5), i=inside)
    for bad in (inside[:19], inside.float()):
        with pytest.raises((ValueError, TypeError), match="i: has"):
            MODULE.reading()(*qkv, bias=torch.zeros(5), i=bad)
    with pytest.raises(ValueError, match="expected 8 \\(the features of q\\)"):
        MODULE.causal_()(qkv[0], qkv[1][..., :7], qkv[2])
    assert "launch" in made


def test_passes_that_chose_the_same_tiles_share_their_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 64 by 64 tiles alone, one that takes them because the mask is narrow."""
    made: list[CallShape] = []
    usual = planning.pipeline.schedule

    def schedule(program: Program, extent: CallShape, *given: Any) -> Any:
        made.append(extent)
        return usual(program, extent, *given)

    monkeypatch.setattr(planning.pipeline, "schedule", schedule)
    bound, extent = attnc.loads("pattern narrow = 0 <= q - k and q - k < 48").narrow()._bound, CallShape(4096, 4096)
    small, large = (TileChoice(Tiles(size, size, 16)) for size in (64, 128))
    first = planning.plan_of(bound, extent, (), (small,))
    assert planning.plan_of(bound, extent, (), (large, small)) is first
    assert planning.plan_of(bound, extent, (), (large,)) is not first
    assert made == [extent, extent]


def test_what_is_kept_is_bounded(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_cache, "_entries", planning.Kept(2))
    for m in (3, 4, 5, 6):
        MODULE.causal_()(*inputs(m=m, n=m))
    assert len(launch_cache._entries._values) == 2
    monkeypatch.setattr(launch_cache, "_MOST_BYTES", 79)
    for _ in range(2):
        agrees(MODULE.documents_of(), {"doc": torch.arange(20, dtype=torch.int32) // 8})
    assert made == ["launch"] * 6, "80 bytes are too many to be copied and compared"


def test_gradients_have_launches_of_their_own(made: list[str]) -> None:
    qkv = [x.requires_grad_() for x in inputs()]
    for _ in range(2):
        grads = [torch.autograd.grad(call(*qkv, slope=torch.ones(2)).sum(), qkv) for call in both(MODULE.sloped())]
        for own, other in zip(*grads, strict=True):
            torch.testing.assert_close(own, other)
    assert made == ["launch", "launch"]


def both(attention: attnc.Attention) -> tuple[Any, Any]:
    return attention, attention.reference
