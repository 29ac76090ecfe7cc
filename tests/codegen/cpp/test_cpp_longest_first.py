"""C++ kernels take the rows that read the most keys first, whether these are the last rows or the first."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.attention import Attention
from attnc.compiler.codegen import KernelSource
from attnc.compiler.codegen.cpp import Pass
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.tile_choices import only
from attnc.runtime.base.configuration import settings
from attnc.runtime.base.launch import Launch
from attnc.runtime.call.checks import Call
from attnc.runtime.cpp import build, executor
from attnc.runtime.planning import launch_of

N, DIM = 1024, 4
# Constants are taken out of kernels: both use the same two libraries.
GROWS, FALLS = (attnc.loads(f"pattern p = k <= abs(q - {peak})").p() for peak in (1, N - 1))
TAKES = re.compile(r"\(item = take\(\)\) >= 0;\)(?= work\(\*scratch| \{\s*clear\()")
LIMITED = '#include <cstdint>\nextern "C" { int64_t items_left; }\n'


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with settings.override(optimisation=0):
        monkeypatch.setattr(executor, "_entry", lambda source, _: library(source))
        yield
    torch.set_num_threads(threads)


@lru_cache(maxsize=2)
def library(source: KernelSource) -> Any:
    """A kernel that works through so many items as ``items_left`` says, and leaves the rest out."""
    text, found = TAKES.subn("items_left-- > 0 && (item = take()) >= 0;)", source.text)
    assert found == 1, "an item is taken in one place of each pass"
    loaded = build.load(build.build(replace(source, text=LIMITED + text), build.compiler()))
    passes = [getattr(loaded, name) for name in ("forward", "backward") if hasattr(loaded, name)]
    (function,) = passes
    function.argtypes, function.restype = (ctypes.c_void_p,), ctypes.c_int
    function.items_left = ctypes.c_int64.in_dll(loaded, "items_left")
    return function


def written(direction: Pass, call: Launch, items: int) -> Tensor:
    """Whether each row of the result is written by the first items of work: bool ``[m]``."""
    library(executor.kernel_of(direction, call)[0]).items_left.value = items
    lse, rows = torch.full((1, 1, N), torch.nan), torch.full((1, 1, N, DIM), torch.nan)
    zeros = [torch.zeros_like(rows) for _ in range(4)]
    backward = {"grad_out": zeros[1], "grad_lse": None, "grad_q": rows, "grad_k": zeros[2], "grad_v": zeros[3]}
    if direction == "forward":
        executor._call(direction, call, {"out": zeros[0], "lse": lse})
        return ~lse.isnan()[0, 0]
    executor._call(direction, call, {"out": zeros[0], "lse": torch.zeros_like(lse), **backward})
    return ~rows.isnan().any(-1)[0, 0]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("attend", [GROWS, FALLS], ids=["grows", "falls"])
def test_the_rows_that_read_most_are_taken_first(attend: Attention, direction: Pass) -> None:
    q, k, v = (torch.zeros(1, 1, N, DIM) for _ in range(3))
    call = launch_of(attend._bound, Call(q, k, v, {}, None, 0, None, 0.0, 0), only(Tiles(64, 64)))
    lengths = attend.mask(N)[0].sum(-1)
    before = 0
    for items in (1, 2, 3):
        rows = written(direction, call, items)
        assert before < int(rows.sum()) < N, "each item writes some rows, and these do not write all"
        assert lengths[rows].min() >= lengths[~rows].max()
        before = int(rows.sum())
