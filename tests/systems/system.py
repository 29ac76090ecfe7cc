"""What a shipped system is held against: its original's own code, or the formula of that code restated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Pair = tuple[Tensor, Tensor]
"""Ours and theirs, of one shape."""


@dataclass(frozen=True)
class Compared:
    """What the original and attnc computed from the same inputs.

    ``mask``: how often each pair is kept, [..., m, n], bool or int; None where the original never forms one.
    ``outputs``: in float32, or float64 where the system says why. ``gradients``: of a random sum of the outputs, by the
    name of the input.
    """

    mask: Pair | None = None
    outputs: Pair | None = None
    gradients: Mapping[str, Pair] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """One row of docs/systems.md.

    ``name``: as its paper calls it, with a variant: ``Longformer, dilated``. ``paper``: authors and year. ``shipped``:
    what ``attnc show`` takes: ``longformer:longformer``. ``original``: what it is held against, a package's name with
    the class or function in it, or ``formula`` with the source that it restates. ``runs``: the original's own code runs
    in the test; False: the formula does. ``compare``: computes both on the executor that ``attnc.settings`` chooses, at
    sizes of a test (below a second without the build of a kernel). ``tolerance``: largest difference of an output or a
    gradient that is allowed, relative to the largest entry of theirs. ``picture``: arguments of ``attnc show``; unless
    they begin with a name, ``shipped`` is drawn. ``timed``: None, or what makes two calls without arguments, ours and
    the original's own code, at a size at which speed matters: a forward pass without gradients; most are in the folder
    speeds, so that measured differences do not depend on them. ``untimed``: why there is none, in a phrase.
    """

    name: str
    paper: str
    shipped: str
    original: str
    runs: bool
    compare: Callable[[], Compared]
    picture: tuple[str, ...]
    tolerance: float = 2e-6
    timed: Callable[[], tuple[Callable[[], Any], Callable[[], Any]]] | None = None
    untimed: str = ""
    note: str = ""
