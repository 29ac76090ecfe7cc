"""Transforms and dual numbers inside compiled functions, and compiled functions inside them: right or an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from attnc.runtime.base.configuration import settings
from tests.runtime.operator.test_transforms import (
    FORWARD,
    GIVEN,
    MODULE,
    NO_SECOND,
    NO_TANGENT,
    ONLY_OURS,
    REVERSE,
    SECOND,
    Call,
    of,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    # torch's tracer looks at every attribute of the tensors of a transform.
    pytest.mark.filterwarnings("ignore:.*grad attribute of a Tensor that is not a leaf:UserWarning"),
]

PLACES = ["inside", "of a compiled function"]
# Where, by which tracer, and whether in one graph.
RIGHT = [
    ("inside", "aot_eager", True), ("inside", "eager", False),
    ("of a compiled function", "aot_eager", False), ("of a compiled function", "eager", True),
]  # fmt: skip
LOOSE = "eager", False
# What torch says itself where it compiles no such thing, or looks at no such function.
TORCHS_OWN = "|".join(
    map(
        re.escape,
        (
            "Unsupported functorch tracing attempt",
            "attempted to apply meta conversion to view functorch tensor",
            "FX to symbolically trace a dynamo-optimized function",
            "Attempted to call function marked as skipped",
            "does not currently support double backward",
            "You must implement the jvp function for custom autograd.Function",
            "with `torch._dynamo.config.trace_autograd_ops=False`",
            "Failed to convert args/kwargs to proxy",
        ),
    )
)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with settings.override(backend="blocked"):
        yield
    torch._dynamo.reset()


def run(place: str, make: Call, f: Call, *arguments: Any, backend: str = "aot_eager", fullgraph: bool = True) -> Any:
    """``make(f, *arguments)``, compiled as a whole, or of what f is compiled to; each argument a tuple of tensors."""

    def compiled(function: Call) -> Call:
        return torch.compile(function, backend=backend, fullgraph=fullgraph)  # type: ignore[no-any-return]

    return compiled(lambda *x: make(f, *x))(*arguments) if place == "inside" else make(compiled(f), *arguments)


def both(names: tuple[str, ...] = tuple(GIVEN)) -> tuple[Call, Call, tuple[Tensor, ...]]:
    """A call as a function of some inputs, its reference, and these."""
    attend = MODULE.sloped()
    return of(attend, names), of(attend.reference, names), tuple(GIVEN[name] for name in names)


@pytest.mark.parametrize(("place", "backend", "fullgraph"), RIGHT)
@pytest.mark.parametrize("transform", REVERSE)
def test_reverse_mode_is_right(transform: str, place: str, backend: str, fullgraph: bool) -> None:
    f, reference, values = both()
    found = run(place, REVERSE[transform], f, values, backend=backend, fullgraph=fullgraph)
    torch.testing.assert_close(found, REVERSE[transform](reference, values))


@pytest.mark.parametrize("transform", REVERSE)
def test_reverse_mode_of_one_graph_of_autograds_tracer_is_torchs_error(transform: str) -> None:
    f, _, values = both()
    with pytest.raises(Exception, match=TORCHS_OWN):
        run("of a compiled function", REVERSE[transform], f, values)


@pytest.mark.parametrize(
    ("transform", "place", "backend", "fullgraph"),
    [
        *((transform, *where) for transform in (*FORWARD, *ONLY_OURS) for where in RIGHT if where[1:] != LOOSE),
        *((transform, "inside", *LOOSE) for transform in ("jvp", "dual numbers")),
        *((transform, "of a compiled function", "aot_eager", True) for transform in ("jvp", "dual numbers")),
    ],
)
def test_forward_mode_is_an_error(transform: str, place: str, backend: str, fullgraph: bool) -> None:
    f, _, values = both()
    make = {**FORWARD, **ONLY_OURS}[transform]
    with pytest.raises(Exception, match=f"{NO_TANGENT}|{TORCHS_OWN}"):
        run(place, make, f, values, tuple(map(torch.ones_like, values)), backend=backend, fullgraph=fullgraph)


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("transform", ["jvp", "dual numbers"])
def test_the_tangent_of_each_input_is_an_error(transform: str, place: str, name: str) -> None:
    f, _, values = both((name,))
    with pytest.raises(Exception, match=f"{NO_TANGENT}|{TORCHS_OWN}"):
        run(place, FORWARD[transform], f, values, values)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("transform", SECOND)
@pytest.mark.parametrize("place", PLACES)
def test_second_derivatives_are_an_error(place: str, transform: str, backend: str) -> None:
    f, _, values = both(("q",))
    with pytest.raises(Exception, match=f"{NO_SECOND}|{TORCHS_OWN}"):
        run(place, SECOND[transform], f, values, backend=backend)


def losing(graph: torch.fx.GraphModule, _: list[Tensor]) -> Call:
    """A backend as inductor is: whatever it computes has no tangents, and nothing says so."""

    def run_graph(*inputs: Any) -> Any:
        with torch.autograd.forward_ad._set_fwd_grad_enabled(False):
            plain = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
            return graph.forward(*plain)

    return run_graph


@pytest.mark.parametrize("warm", [False, True], ids=["first call", "compiled before"])
@pytest.mark.parametrize("fullgraph", [True, False], ids=["one graph", "any graphs"])
def test_where_the_backend_loses_tangents(fullgraph: bool, warm: bool) -> None:
    attend, (q, k, v, slope) = MODULE.sloped(), GIVEN.values()
    made = torch.compile(lambda x: attend(2 * x, k, v, slope=slope), backend=losing, fullgraph=fullgraph)
    expected = attend(2 * q, k, v, slope=slope)
    if warm:
        torch.testing.assert_close(made(q), expected)
    with pytest.raises(Exception, match=NO_TANGENT):
        FORWARD["dual numbers"](made, (q,), (q,))
    torch.testing.assert_close(made(q), expected)


@pytest.mark.parametrize("place", PLACES)
def test_a_compiled_call_beside_a_tangent_is_right_or_an_error(place: str) -> None:
    """Its attention has none, which the tracer cannot know."""
    f, _, values = both()
    scaled = FORWARD["jvp"](lambda x: x * f(*values), (torch.tensor(2.0),), (torch.tensor(3.0),))
    torch.testing.assert_close(scaled, 3 * f(*values))
    with pytest.raises(Exception, match=f"{NO_TANGENT}|{TORCHS_OWN}"):
        run(place, lambda g, x: FORWARD["jvp"](lambda y: y * g(*values), x, x), f, (torch.tensor(2.0),))
