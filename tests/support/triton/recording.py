"""A stand-in for CUDA graphs: records what a call launches and what torch computes for it, and runs both again.

Nothing of the call's own Python runs again, so what a replay makes follows from the contents of the tensors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attnc.runtime.base import captures
from attnc.runtime.triton import modules

READS = ("_local_scalar_dense", "_to_copy", "nonzero", "equal", "is_nonzero")  # of which some wait for a device
MAKES_MEMORY = ("empty", "empty_strided", "new_empty", "empty_like")


_start = modules.start


class Recording(TorchDispatchMode):
    """The steps of a call, in order. ``launches``: the functions that were launched; ``operators``: those of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Callable[[], None]] = []
        self.launches: list[tuple[str, int]] = []
        self.operators: list[str] = []

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = function._schema.name.removeprefix("aten::").removesuffix("_")
        self.operators.append(name)
        if name not in MAKES_MEMORY:
            self.steps.append(lambda: _again(function, args, kwargs, result))
        return result

    def started(self, kernel: Any, programs: int, *given: Any) -> None:
        if programs:
            self.launches.append((kernel.__name__, programs))
        _start(kernel, programs, *given)
        self.steps.append(lambda: _start(kernel, programs, *given))

    def replay(self) -> None:
        with np.errstate(all="ignore"):  # inf - inf in lanes that are masked out
            for step in self.steps:
                step()


def _again(function: Any, args: Any, kwargs: Any, result: Any) -> None:
    made = function(*args, **kwargs)
    results, again = ((x,) if isinstance(x, Tensor) else x for x in (result, made))
    for old, new in zip(results, again, strict=True):
        if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
            old.copy_(new)


@contextmanager
def captured() -> Iterator[Recording]:
    """Records what the block does, as if a CUDA graph were captured: a copy from the host is refused."""
    recording = Recording()
    with (
        patch.object(captures, "capturing", lambda _device: True),
        patch.object(modules, "start", recording.started),
        recording,
    ):
        yield recording


def forget_plans() -> None:
    """What caches of plans may do at any time: drop everything."""
    from attnc.runtime import planning
    from attnc.runtime.base import device_copies

    planning._plans._values.clear()
    planning._programs._values.clear()
    device_copies._by_value.clear()
    device_copies._by_tensor.clear()
    device_copies._numbers.cache_clear()
