"""What a backend is: one way to run attention, and all that the rest of the house asks of it. Nouns only.

Each executor's wing has its own record, in a module that loads nothing until a function of it is called; the registry
is :mod:`runtime.backends`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ...compiler.plan import DType, Program, Specialisation, Tiles

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...compiler.codegen import KernelSource
    from .launch import Gradients, Launch


class Unavailable(Exception):  # noqa: N818
    """A backend cannot be had here, and why. ``reason`` says so where another one runs in its place."""

    @property
    def reason(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Targets:
    """What kernels can be written for: all that ``pattern`` matches, or nothing.

    ``examples``: those that commands offer; ``words``: all of them, for people.
    """

    examples: tuple[str, ...] = ()
    pattern: str = r"(?!)"
    words: str = ""

    def __contains__(self, target: str) -> bool:
        return re.fullmatch(self.pattern, target) is not None


def _no_variants(_: Specialisation) -> tuple[Any, ...]:
    return ()


def _no_kernels(*_: object) -> NoReturn:
    raise TypeError("this backend has no kernels of its own")


@dataclass(frozen=True)
class Backend:
    """One way to run attention. Making a record loads neither torch nor what builds kernels; calling it does.

    - ``name``: as the setting ``backend`` has it, and the counters of launches;
    - ``devices``: the types of device whose tensors it runs unless a setting says otherwise;
    - ``dtypes``: what q, k and v may be; ``tiles``: the lanes that its kernels walk at a time;
    - ``require(device)``: ValueError where it does not run tensors there; Unavailable where something is missing for
      it, another attempt at which may succeed;
    - ``forward(launch)``: output ``[batch, heads, m, value_dim]`` in q's dtype, and log-sum-exp ``[batch, heads, m]``;
      ``backward(launch, out, lse, grad_out, grad_lse)``: the gradients. Each says in its own place what else it raises.

    Of a backend that has kernels of its own also:

    - ``targets``: what they can be written for, with the device at hand or not;
    - ``variants(specialisation)``: what decides the text beside the program, one for each text of a forward and a
      backward pass; ``render(program, variant)``: the text, of a program without numbers (the stage ``source`` of
      :mod:`compiler.pipeline` takes them out);
    - ``build(source)``: what a launch calls, built or taken from a cache.
    """

    name: str
    devices: tuple[str, ...]
    dtypes: tuple[DType, ...]
    tiles: Tiles
    require: Callable[[torch.device], None]
    forward: Callable[[Launch], tuple[Tensor, Tensor]]
    backward: Callable[[Launch, Tensor, Tensor, Tensor, Tensor | None], Gradients]
    targets: Targets = Targets()
    variants: Callable[[Specialisation], tuple[Any, ...]] = _no_variants
    render: Callable[[Program, Any], KernelSource] = _no_kernels
    build: Callable[[KernelSource], Any] = _no_kernels
