"""Judges what a system and its original computed from the same inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tests.systems.system import Compared, Pair


@dataclass(frozen=True)
class Differences:
    """The largest differences of one comparison, relative to the largest entry of theirs; None where not compared.

    ``pairs``: how many entries of the mask differ.
    """

    pairs: int | None
    output: float | None
    gradient: float | None

    @property
    def largest(self) -> float:
        """Of output and gradient."""
        return max(self.output or 0.0, self.gradient or 0.0)


def differences(compared: Compared) -> Differences:
    """Measures a comparison. ValueError where the shapes of a pair differ."""
    gradients = [distance(pair) for pair in compared.gradients.values()]
    return Differences(
        None if compared.mask is None else int(_unequal(compared.mask).sum()),
        None if compared.outputs is None else distance(compared.outputs),
        max(gradients) if gradients else None,
    )


def distance(pair: Pair) -> float:
    """The largest difference of two tensors, relative to the largest entry of theirs; infinite where one is not
    finite.
    """
    ours, theirs = (x.detach().double() for x in _alike(pair))
    largest = float(theirs.abs().max())
    found = float((ours - theirs).abs().max()) / largest if largest else float(ours.abs().max())
    return found if found == found else torch.inf


def faults(compared: Compared, tolerance: float) -> tuple[str, ...]:
    """What is wrong with a comparison, in words: what differs, and what says nothing."""
    return tuple(_faults(compared, tolerance))


def _faults(compared: Compared, tolerance: float) -> Iterator[str]:
    if compared.mask is None and compared.outputs is None:
        yield "neither a mask nor outputs were compared"
    if compared.mask is not None:
        wrong = _unequal(compared.mask)
        if not bool(compared.mask[1].any()):
            yield "their mask keeps no pair"
        if bool(wrong.any()):
            place = [int(x) for x in wrong.nonzero()[0]]
            ours, theirs = (int(x[tuple(place)]) for x in compared.mask)
            yield f"the masks differ in {int(wrong.sum())} of {wrong.numel()} pairs: {ours}, not {theirs} at {place}"
    for name, pair in _pairs(compared):
        if not bool(pair[1].any()):
            yield f"their {name} is 0 everywhere"
        found = distance(pair)
        if not found <= tolerance:
            yield f"the {name} differs by {found:.1e} of the largest entry, and {tolerance:.1e} is allowed"


def spoiled(compared: Compared, tolerance: float) -> Iterator[tuple[str, Compared]]:
    """Yields copies in which one number of ours is wrong by little: each must be found faulty."""
    if compared.mask is not None:
        ours, theirs = compared.mask
        place = torch.randint(ours.numel(), (), generator=torch.Generator().manual_seed(0))
        flat = ours.flatten().clone()
        flat[place] = ~flat[place] if flat.dtype == torch.bool else flat[place] + 1
        yield "one pair of the mask", replace(compared, mask=(flat.view(ours.shape), theirs))
    for name, (ours, theirs) in _pairs(compared):
        flat = ours.detach().flatten().clone()
        size = theirs.detach().abs()
        flat[size.argmax()] += 3 * tolerance * size.max()
        wrong = flat.view(ours.shape), theirs
        if name == "output":
            yield "one number of the output", replace(compared, outputs=wrong)
        else:
            input_ = name.removeprefix(OF)
            yield f"one number of the {name}", replace(compared, gradients={**compared.gradients, input_: wrong})


OF = "gradient of "


def _pairs(compared: Compared) -> Iterator[tuple[str, Pair]]:
    if compared.outputs is not None:
        yield "output", compared.outputs
    for name, pair in compared.gradients.items():
        yield f"{OF}{name}", pair


def _alike(pair: Pair) -> Pair:
    if pair[0].shape != pair[1].shape or not pair[0].numel():
        raise ValueError(f"ours is {list(pair[0].shape)}, theirs {list(pair[1].shape)}")
    return pair


def _unequal(pair: Pair) -> Tensor:
    ours, theirs = _alike(pair)
    return ours.long() != theirs.long()
