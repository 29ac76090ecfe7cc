"""Host tensors beside queries on a device: copied once for what they hold, dropped with the tensor, found by value."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import attnc
from attnc.compiler.ir.attentions import Attention
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.tile_choices import only
from attnc.runtime.base import captures, device_copies
from attnc.runtime.base.device_copies import device_copy, device_numbers
from attnc.runtime.base.launch import Launch
from attnc.runtime.call.checks import Call
from attnc.runtime.call.python_values import collect
from attnc.runtime.planning import launch_of

META = torch.device("meta")
"""A device that is none: its tensors have no contents, and are other objects than the host's."""


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    device_copies._by_value.clear()
    device_copies._by_tensor.clear()
    device_copies._numbers.cache_clear()


def copied(values: Tensor, form: str = "") -> Tensor:
    return device_copy(values, META, values, form)


def large(fill: int = 0) -> Tensor:
    return torch.full((2**18 + 1,), fill, dtype=torch.int32)


@pytest.mark.parametrize("make", [large, lambda: torch.arange(5)])
def test_a_tensor_is_copied_once_for_what_it_holds(make: Callable[[], Tensor]) -> None:
    values = make()
    first = copied(values)
    assert first.device == META
    assert copied(values) is first
    assert copied(values, "another form") is not first or values.numel() < 2**18
    values.add_(1)
    second = copied(values)
    assert second is not first
    assert copied(values) is second


def test_copies_go_with_their_tensor() -> None:
    values = large()
    gone = weakref.ref(copied(values))
    assert gone() is not None
    del values
    gc.collect()
    assert gone() is None
    assert not device_copies._by_tensor


@pytest.mark.parametrize("make", [large, lambda: torch.arange(5), lambda: torch.zeros(2**18, dtype=torch.float64)])
def test_what_numpy_writes_is_seen(make: Callable[[], Tensor]) -> None:
    """The tensor's version does not tell of it."""
    values = make()
    first, version = copied(values), values._version
    values.numpy()[3] = -0.0 if values.is_floating_point() else 77
    assert values._version == version
    second = copied(values)
    assert second is not first
    assert copied(values) is second


def test_an_inference_tensor_is_copied_once() -> None:
    with torch.inference_mode():
        for values in (torch.zeros(4), large().clone()):
            first = copied(values)
            assert copied(values) is first
            values.add_(1)
            assert copied(values) is not first


def test_values_of_python_are_copied_once() -> None:
    assert copied(torch.tensor([1, 2])) is copied(torch.tensor([1, 2]))
    assert copied(torch.tensor([1, 2])) is not copied(torch.tensor([1, 3]))
    assert copied(torch.tensor([1, 2])).dtype != copied(torch.tensor([1, 2], dtype=torch.int32)).dtype
    assert device_numbers((1, 2), torch.int32, META) is device_numbers((1, 2), torch.int32, META)


def test_a_capture_keeps_what_it_uses_and_refuses_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = torch.arange(3)
    copied(warm)
    monkeypatch.setattr(captures, "capturing", lambda _device: True)
    used = copied(warm)
    assert any(each is used for each in captures.pinned())
    with pytest.raises(RuntimeError, match="would be copied to meta while a CUDA graph is captured, expected a call"):
        copied(large())
    with pytest.raises(RuntimeError, match="a list of numbers would be copied"):
        device_numbers((9, 9), torch.int32, META)


def launched(doc: object) -> Launch:
    attention = attnc.load("documents").documents()._bound
    assert isinstance(attention, Attention)
    q = torch.empty(1, 1, 8, 16, device=META)
    tables = collect(attention, {"doc": doc}, META)
    return launch_of(attention, Call(q, q, q, tables, None, 0, None, 0.0, 0), only(Tiles(4, 4)), on_device=True)


def test_a_host_tensor_beside_queries_on_a_device_is_planned_by_and_copied_once() -> None:
    doc = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    first, again = launched(doc), launched(doc)
    assert not first.schedule.on_device, "the host knows it"
    assert first.tables[0].tensor.device == META
    assert first.tables[0].tensor is again.tables[0].tensor
    doc.numpy()[3] = 1
    changed = launched(doc)
    assert changed.tables[0].tensor is not first.tables[0].tensor
    assert changed.schedule is not first.schedule
    listed = launched(doc.tolist()), launched(doc.tolist())
    assert listed[0].tables[0].tensor is listed[1].tables[0].tensor
