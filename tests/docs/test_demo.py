"""The demonstration at a small size, by the code that `make demo` runs, and the faults that it must find."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from rich.console import Console

from attnc.runtime.base.configuration import settings

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def demo() -> Iterator[ModuleType]:
    """The script as it is when it is run, with kernels as users build them: its own folder comes first on the path."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
            import longformer_document
        with settings.override(optimisation=3):
            yield longformer_document
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def small(demo: ModuleType) -> Any:
    """Two layers of four heads, 16 keys to each side, in a length of several tiles."""
    return demo.Setup(hidden=64, heads=4, layers=2, window=32, tokens=290, length=320, rounds=1)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


def test_the_demonstration_agrees_and_counts_its_kernels(demo: ModuleType, small: Any) -> None:
    console = quiet()
    report = demo.main(small, console=console)
    assert all(difference.holds for difference in report.differences)
    assert len(report.differences) > 2 * 12
    assert report.differences[0].name == "last hidden state"
    assert report.launched == {"cpp.forward": 4, "cpp.backward": 4}
    assert len(report.forward.own) == len(report.backward.compiled) == small.rounds
    shown = console.file.getvalue()
    for expected in ("pattern local_rows", "global rows ", "last hidden state", "4 cpp.forward", "2.5 times"):
        assert expected in shown


@pytest.mark.parametrize("window_error", [1, -1])
def test_a_window_off_by_one_is_found(demo: ModuleType, small: Any, window_error: int) -> None:
    with pytest.raises(demo.DisagreementError, match="tensors differ"):
        demo.main(small, window_error=window_error, console=quiet())


def test_a_kernel_too_few_is_found(demo: ModuleType, small: Any) -> None:
    with pytest.raises(demo.DisagreementError, match="the kernels that ran were"):
        demo.check([], {"cpp.forward": 4, "cpp.backward": 3}, small.layers)
    with pytest.raises(demo.DisagreementError, match="the kernels that ran were"):
        demo.check([], {"blocked.forward": 4, "blocked.backward": 4}, small.layers)


def test_a_wrong_or_missing_gradient_is_found(demo: ModuleType) -> None:
    from longformer_agreement import Run, compare

    names = ("layer.query.weight", "layer.query.bias", "layer.key.bias")
    own = Run(torch.zeros(2), {name: torch.full((3,), 0.5) for name in names}, 0.0, 0.0)

    def wrong(**changed: Any) -> set[str]:
        gradients = dict(own.gradients) | {f"layer.{name.replace('_', '.')}": value for name, value in changed.items()}
        return {each.name for each in compare(own, Run(own.output, gradients, 0.0, 0.0)) if not each.holds}

    assert wrong() == set()
    assert wrong(query_weight=torch.tensor([0.5, 0.5, 0.5002])) == {"layer.query.weight"}
    assert wrong(query_weight=None) == {"layer.query.weight"}
    assert wrong(query_bias=torch.tensor([0.5, 0.5, float("nan")])) == {"layer.query.bias"}
    assert wrong(key_bias=None) == {"layer.key.bias"}  # zeros: too far from 0.5, by the query's bias


def batch_of_documents(n: int, some: list[int]) -> dict[str, torch.Tensor]:
    """Three rows that differ in padding and in their globals: ``some``, none, one beside one of padding."""
    input_ids = torch.randint(3, 259, (3, n))
    attention_mask = torch.ones(3, n, dtype=torch.long)
    attention_mask[0, -7:] = 0
    attention_mask[2, : n // 2] = 0
    is_global = torch.zeros_like(attention_mask)
    is_global[0, some] = 1
    is_global[2, [3, n - 1]] = 1
    return {
        "input_ids": input_ids.masked_fill(attention_mask == 0, 1),
        "attention_mask": attention_mask,
        "global_attention_mask": is_global,
    }


@pytest.mark.parametrize("some", [[0, 5, 40], list(range(0, 80, 4))], ids=["folded", "projected"])
def test_a_batch_of_unlike_documents_agrees(demo: ModuleType, small: Any, some: list[int]) -> None:
    from longformer_agreement import compare, run_model

    torch.manual_seed(1)
    inputs = batch_of_documents(96, some)
    model = demo.build_model(small)
    weight = torch.randn(3, 96, small.hidden) * inputs["attention_mask"][..., None]
    own = run_model(model, inputs, weight, lambda: None)
    names = list(model.state_dict())
    undo = demo.use_attnc(model)
    assert list(model.state_dict()) == names
    compiled = run_model(model, inputs, weight, lambda: None)
    assert [each.name for each in compare(own, compiled) if not each.holds] == []
    folded = compiled.gradients["encoder.layer.0.attention.self.key_global.bias"] is None
    assert folded == (len(some) * small.heads <= small.hidden)
    undo()
    assert torch.equal(run_model(model, inputs, weight, lambda: None).output, own.output)


def test_padding_rows_are_exactly_zero(demo: ModuleType, small: Any) -> None:
    torch.manual_seed(2)
    model = demo.build_model(small)
    demo.use_attnc(model)
    is_padding = torch.arange(50)[None] >= 41  # no multiple of the window: Hugging Face's own attention refuses it
    attend = demo.as_function(model.encoder.layer[0].attention.self, is_padding, torch.arange(50)[None] == 4)
    out = attend(torch.randn(1, 50, small.hidden))
    assert torch.equal(out[:, 41:], torch.zeros(1, 9, small.hidden))
    assert bool((out[:, :41].abs().amax(-1) > 0).all())
