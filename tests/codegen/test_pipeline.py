"""One list of stages: a call, `Attention.source`, `attnc show` and ahead-of-time compilation run the same functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import attnc
from attnc.attention import Attention
from attnc.cli import main
from attnc.compiler import pipeline
from attnc.compiler.ir.constructors import mul
from attnc.compiler.ir.expressions import LOGIT, Const
from attnc.compiler.pipeline import STAGES, Pipeline
from attnc.compiler.plan.dtypes import BF16
from attnc.compiler.plan.orders import Tiles, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.tile_choices import only
from attnc.runtime.base.configuration import settings
from tests.runtime.kernels.test_without import needs_compiler

TEXT = "pattern p = k <= q and (q - k) % {stride} != {left}"  # of every stride a structure of its own: nothing is kept


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The stages that run, in their order."""
    seen: list[str] = []

    def recording(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def record(*given: Any, **named: Any) -> Any:
            seen.append(name)
            return run(*given, **named)

        return record

    for name in STAGES:
        monkeypatch.setattr(pipeline, name, recording(name, getattr(pipeline, name)))
    with settings.override(backend="cpp", interpret=False, optimisation=0):
        yield seen


def attention(stride: int) -> Attention:
    bound = attnc.loads(TEXT.format(stride=stride, left=stride // 2)).p()
    assert isinstance(bound, Attention)
    return bound


def inputs() -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(5)
    return [torch.randn(1, 1, 70, 16, generator=random, requires_grad=True) for _ in range(3)]


def test_every_stage_is_a_function_of_the_page_in_its_order() -> None:
    functions = [its for its in vars(pipeline).values() if inspect.isfunction(its)]
    assert [its.__name__ for its in functions if its.__module__ == pipeline.__name__] == list(STAGES)


@needs_compiler
def test_a_call_runs_the_stages(ran: list[str]) -> None:
    attend, qkv = attention(37), inputs()
    torch.autograd.grad(attend(*qkv).sum(), qkv)
    assert ran == ["program", "schedule", "source", "source"]
    attend(*qkv)
    assert len(ran) == 4, "and keeps what they made"
    attend(*(x[:, :, :65] for x in qkv))
    assert ran[4:] == ["schedule"]


def test_source_runs_the_stages(ran: list[str]) -> None:
    attend = attention(41)
    attend.source("cpu")
    assert ran == ["program", "source", "source"]
    attend.source("sm_90")
    passes = ran[3:]
    assert (set(passes), passes.count("source")) == ({"program", "source"}, 3)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "mask"])
def test_show_runs_the_stages(stage: str, ran: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["show", "causal", "--stage", stage]) == 0
    assert stage in ran
    assert not {"schedule": {"program"}, "source": {"program"}}.get(stage, set()) - set(ran)
    assert capsys.readouterr().out


def test_the_dense_mask_is_a_stage(ran: list[str]) -> None:
    assert attention(11).mask(20).sum() > 0
    assert ran == ["mask"]


def test_compiling_ahead_runs_the_stages(ran: list[str]) -> None:
    pytest.importorskip("triton")
    from attnc.runtime.triton.ahead_of_time import compile_attention

    assert compile_attention(attention(43)._bound, "sm_90", BF16, 64, kinds=("merge",)) == ()  # of one kernel
    assert ran == 3 * ["program"] + 3 * ["source"]  # of each pass


@needs_compiler
def test_a_pass_that_is_added_in_one_place_reaches_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here one that halves each score and walks 32 tokens at a time, put behind the stage ``program``."""
    pytest.importorskip("triton")
    from attnc.runtime.triton import ahead_of_time

    plain, made = attention(47).source("cpu"), pipeline.program
    rendered: list[str] = []

    def halved(*given: Any, **named: Any) -> Program:
        program = made(*given, **named)
        assert program.score == LOGIT
        kernel = Kernel(natural(32), (Segment(natural(32), program.mask),), "store")
        return replace(program, kernels=(kernel,), score=mul(LOGIT, Const(0.5)))

    def loaded(source: Any) -> object:
        rendered.append(source.text)
        return object()

    monkeypatch.setattr(pipeline, "program", halved)
    monkeypatch.setattr(ahead_of_time, "load_module", loaded)
    attend, qkv = attention(47), inputs()
    with settings.override(backend="cpp", interpret=False, optimisation=0):
        torch.testing.assert_close(attend(*qkv), attend.reference(*qkv, scale=0.5 / 16**0.5))
    assert "Real(0.5)" in attend.source("cpu")
    assert "Real(0.5)" not in plain
    for stage, words in (("program", "natural   tile 32"), ("schedule", "2 tiles of 32"), ("source", "Real(0.5)")):
        assert main.run(["show", "causal", "--stage", stage]) == 0
        assert words in capsys.readouterr().out
    ahead_of_time.compile_attention(attend._bound, "sm_90", BF16, 64, kinds=("merge",))
    assert "* 0.5" in rendered[0]


def test_one_way_through_is_made_once() -> None:
    found = Pipeline(attention(7)._bound, only(Tiles(64, 64)))
    assert found.program is found.program
    with pytest.raises(AssertionError, match="of one call"):
        _ = found.schedule
