"""Runs a model forward and backward, says how far two runs differ, and times two modules side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import LongformerModel

OUTPUT_BOUND = 1e-5
GRADIENT_BOUND = 1e-4

# The gradients of these biases are zero by theory: a key's bias adds the same number to all logits of a row, which the
# softmax cancels. What either side computes for them is rounding, so it is measured by the query bias of the same
# layer and kind, whose gradient is a sum of just as many terms of the same size.
ZERO_BY_THEORY = {"key.bias": "query.bias", "key_global.bias": "query_global.bias"}


@dataclass(frozen=True)
class Run:
    """One forward and backward of a whole model. A gradient is None where nothing reached the parameter."""

    output: Tensor
    gradients: Mapping[str, Tensor | None]
    forward_seconds: float
    backward_seconds: float


@dataclass(frozen=True)
class Difference:
    """The largest difference of one tensor between two runs, and the size by which it is measured."""

    name: str
    largest: float
    measure: float
    bound: float

    @property
    def relative(self) -> float:
        return self.largest / self.measure if self.measure else float("nan")

    @property
    def holds(self) -> bool:
        return self.relative <= self.bound  # not for NaN


@dataclass(frozen=True)
class Timing:
    """Seconds of one pass of two modules, each round one of either."""

    own: tuple[float, ...]
    compiled: tuple[float, ...]

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.own), statistics.median(self.compiled)

    @property
    def speedup(self) -> float:
        own, compiled = self.medians
        return own / compiled


@contextmanager
def watched(layers: nn.ModuleList, advance: Callable[[], None]) -> Iterator[None]:
    """``advance`` is called after each layer's forward and again when its backward begins."""

    def after(module: nn.Module, arguments: object, output: tuple[Tensor, ...]) -> None:  # noqa: ARG001
        advance()
        output[0].register_hook(lambda gradient: advance())  # noqa: ARG005

    handles = [layer.register_forward_hook(after) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_model(model: LongformerModel, inputs: Mapping[str, Tensor], weight: Tensor, advance: Callable[[], None]) -> Run:
    """The last hidden state, and the gradients of its inner product with ``weight``."""
    model.zero_grad(set_to_none=True)
    with watched(model.encoder.layer, advance):
        start = time.perf_counter()
        output = model(**inputs).last_hidden_state
        middle = time.perf_counter()
        (output * weight).sum().backward()
        end = time.perf_counter()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return Run(output.detach(), gradients, middle - start, end - middle)


def compare(own: Run, compiled: Run, output: str = "last hidden state") -> list[Difference]:
    """The output absolutely, then each parameter's gradient by that parameter's largest in ``own``."""
    differences = [compare_outputs(own.output, compiled.output, output)]
    for name in own.gradients:
        bias = next((bias for bias in ZERO_BY_THEORY if name.endswith("." + bias)), "")
        measured_by = own.gradients[name.removesuffix(bias) + ZERO_BY_THEORY[bias] if bias else name]
        measure = 0.0 if measured_by is None else float(measured_by.abs().max())
        largest = largest_difference(own.gradients[name], compiled.gradients[name], may_be_missing=bool(bias))
        differences.append(Difference(name, largest, measure, GRADIENT_BOUND))
    return differences


def compare_outputs(own: Tensor, compiled: Tensor, name: str) -> Difference:
    """Outputs of two models, absolutely."""
    return Difference(name, float((own - compiled).abs().max()), 1.0, OUTPUT_BOUND)


def largest_difference(expected: Tensor | None, got: Tensor | None, may_be_missing: bool) -> float:
    """A missing gradient is infinitely wrong, but stands for zeros where theory says that it is zero."""
    if expected is None or (got is None and not may_be_missing):
        return float("inf")
    return float((expected if got is None else expected - got).abs().max())


def time_modules(
    modules: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
    hidden_states: Tensor,
    gradient: Tensor,
    rounds: int,
    advance: Callable[[], None],
) -> tuple[Timing, Timing]:
    """Forward and backward of (own, compiled), in turn, after one round that does not count."""
    seconds: dict[str, list[float]] = {"own forward": [], "own backward": [], "forward": [], "backward": []}
    for _ in range(rounds + 1):
        for prefix, attend in zip(("own ", ""), modules, strict=True):
            x = hidden_states.detach().requires_grad_()
            start = time.perf_counter()
            output = attend(x)
            middle = time.perf_counter()
            output.backward(gradient)
            end = time.perf_counter()
            seconds[prefix + "forward"].append(middle - start)
            seconds[prefix + "backward"].append(end - middle)
            del output
            advance()
    counted = {name: tuple(values[1:]) for name, values in seconds.items()}
    return Timing(counted["own forward"], counted["forward"]), Timing(counted["own backward"], counted["backward"])
