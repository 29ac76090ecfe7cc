"""A question of ``cpu.py``: attnc's time beside another's, the figure made of the two, and what is asked of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from _rows import Found
from torch import Tensor

from attnc.measuring import in_turn, ratio

HEADS, DIM, SQUARE = 12, 64, 2048
BATCH = 0.02  # seconds for which a contestant runs in one round, at least once
OPERATIONS = {"forward": 4, "backward": 10}  # for each kept pair and channel: two products, and five
PRODUCT, SDPA_TIME = "of a product's rate", "times SDPA's"


@dataclass(frozen=True)
class Question:
    """One row: ``ours`` beside ``other``. The figure, which ``told`` explains, is ``factor`` times the ratio of their
    times, or the inverse ratio where ``more`` is better; ``asked``: what is wanted of it, if anything is.
    """

    name: str
    told: str
    ours: Callable[[], object]
    other: Callable[[], object]
    asked: float | None = None
    more: bool = False
    factor: float = 1.0


def measure(question: Question, rounds: int) -> Found:
    """The question's figure, as the median of the rounds' own: both in turn, each for about :data:`BATCH` seconds in a
    round.
    """
    calls = {"ours": question.ours, "other": question.other}
    seconds = in_turn(calls, rounds, least=BATCH)
    ours, other = seconds["ours"], seconds["other"]
    above, below = (other, ours) if question.more else (ours, other)
    return Found(
        {
            "told": question.told,
            "figure": question.factor * ratio(above, below),
            "asked": question.asked,
            "more": question.more,
            "ours_us": 1e6 * statistics.median(ours),
            "other_us": 1e6 * statistics.median(other),
            "rounds": [question.factor * a / b for a, b in zip(above, below, strict=True)],
        }
    )


def met(figures: dict[str, float | bool | None]) -> bool:
    """Whether a figure is what was asked of it."""
    figure, asked = figures["figure"], figures["asked"]
    return asked is None or (figure >= asked if figures["more"] else figure <= asked)  # type: ignore[operator]


def random(*shape: int, grad: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, requires_grad=grad, dtype=dtype)


def of_shape(
    m: int, n: int, grad: bool = False, heads: int = HEADS, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries for m rows, keys and values for n."""
    query, *others = (random(1, heads, tokens, DIM, grad=grad, dtype=dtype) for tokens in (m, n, n))
    return query, others[0], others[1]


def both_passes(attend: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor) -> Callable[[], object]:
    """A call that makes the output and all gradients."""
    return lambda: torch.autograd.grad(attend(*inputs), inputs, gradient)


def backward_pass(attend: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Callable[[], object]:
    """A call that makes all gradients of one output, which its first call makes."""
    kept: list[Tensor] = []

    def backward() -> object:
        if not kept:
            out = attend(*inputs)
            kept.extend((out, torch.randn_like(out)))
        return torch.autograd.grad(kept[0], inputs, kept[1], retain_graph=True)

    return backward


def product() -> Callable[[], object]:
    """The product of two square matrices, in fp32."""
    square = torch.randn(SQUARE, SQUARE)
    return lambda: square @ square


def of_product(pairs: float, direction: str, dim: int = DIM) -> float:
    """The operations of a pass over some pairs, of those of :func:`product`."""
    return OPERATIONS[direction] * dim * pairs / (2 * SQUARE**3)
