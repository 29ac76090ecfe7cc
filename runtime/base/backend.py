"""The record that describes a backend: all that the rest of the runtime asks of one way to run attention. Data only.

Each executor's package makes its own record, in a module that imports nothing heavy until one of its functions is
called; :mod:`runtime.backends` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ...compiler.plan import DType, Pass, PassTiles, Program, Specialisation

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...compiler.codegen import KernelSource
    from ...compiler.ir import Attention
    from .compiled import CompiledFunction
    from .launch import Gradients, Launch, Prepared, PreparedBackward, Wanted


class Unavailable(Exception):  # noqa: N818
    """A backend cannot be had here; the message says why. ``reason`` is what the warning says when another one runs
    instead.
    """

    @property
    def reason(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Targets:
    """What a backend writes kernels for: every target that ``pattern`` matches, by default none.

    ``examples``: the targets that commands offer; ``words``: describes all targets in error messages.
    """

    examples: tuple[str, ...] = ()
    pattern: str = r"(?!)"
    words: str = ""

    def __contains__(self, target: str) -> bool:
        return re.fullmatch(self.pattern, target) is not None


def _no_target(_: torch.device) -> str:
    return ""


def _no_variants(_kind: Specialisation, _target: str) -> tuple[tuple[Pass, Any], ...]:
    return ()


def _unprepared(_: Launch) -> None:
    return None


def _no_kernels(*_: object) -> NoReturn:
    raise TypeError("this backend has no kernels of its own")


class BackwardFunction(Protocol):
    """The backward pass of a backend: :attr:`Backend.backward`."""

    def __call__(
        self,
        launch: Launch,
        out: Tensor,
        lse: Tensor,
        grad_out: Tensor,
        grad_lse: Tensor | None,
        wanted: Wanted = ...,
        /,
    ) -> Gradients: ...


@dataclass(frozen=True)
class Backend:
    """One way to run attention. Making a record imports neither torch nor the code that builds kernels; calling it
    does.

    - ``name``: as in the setting ``backend`` and in the launch counters;
    - ``devices``: the device types whose tensors it runs unless a setting says otherwise;
    - ``dtypes``: the dtypes of q, k and v that it takes;
    - ``tiles(dtype, dim, target)``: how many query rows and keys its kernels may take together, for each pass; ``dim``:
      the larger head dimension;
    - ``target(device)``: what kernels for a device are written for, such as ``sm_90``;
    - ``require(device)``: ValueError where it does not run tensors on the device; Unavailable where something that it
      needs is missing, though a later attempt may succeed;
    - ``forward(launch)``: output ``[batch, heads, m, value_dim]`` in q's dtype, and log-sum-exp ``[batch, heads, m]``;
      ``backward(launch, out, lse, grad_out, grad_lse, wanted)``: the gradients that are wanted, by default all. Each
      executor documents what else it raises.

    - ``prepare(launch)``, ``prepare_backward(launch)``: the launch with all but its tensors settled, None where that
      would be no faster;
    - ``plans_on_device``: its executor finds the tiles that depend on tables which the host does not know.

    A backend that has kernels of its own also has:

    - ``most_rows_anywhere``: up to so many rows, the forward pass takes schedules for rows at any position;
    - ``targets``: what they can be written for, whether or not such a device is here;
    - ``variants(specialisation, target)``: all that each source text depends on beside the program, and the pass whose
      tiles the program has: C++ has a text for each direction, Triton one for each pass;
    - ``render(program, variant)``: the text, of a program whose numbers were taken out (by the stage ``source`` of
      :mod:`compiler.pipeline`);
    - ``build(source)``: what a launch calls, built or taken from a cache;
    - ``build_for(launch, backward)``: builds what a pass over a launch calls, where that pass looks for it;
    - ``compile_ahead(attention, heads, specialisation, target)``: yields each function of the kernels as it is
      compiled, for a target that need not be here, and for any number of heads where ``heads`` is None. Unavailable
      where this machine cannot compile for it.
    """

    name: str
    devices: tuple[str, ...]
    dtypes: tuple[DType, ...]
    tiles: Callable[[DType, int, str], PassTiles]
    require: Callable[[torch.device], None]
    forward: Callable[[Launch], tuple[Tensor, Tensor]]
    backward: BackwardFunction
    target: Callable[[torch.device], str] = _no_target
    prepare: Callable[[Launch], Prepared | None] = _unprepared
    prepare_backward: Callable[[Launch], PreparedBackward | None] = _unprepared
    plans_on_device: bool = False
    targets: Targets = Targets()
    most_rows_anywhere: int = 0
    variants: Callable[[Specialisation, str], tuple[tuple[Pass, Any], ...]] = _no_variants
    render: Callable[[Program, Any], KernelSource] = _no_kernels
    build: Callable[[KernelSource], Any] = _no_kernels
    build_for: Callable[[Launch, bool], None] = _no_kernels
    compile_ahead: Callable[[Attention, int | None, Specialisation, str], Iterator[CompiledFunction]] = _no_kernels
