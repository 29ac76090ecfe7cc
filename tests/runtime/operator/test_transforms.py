"""Calls under ``torch.func`` and with dual numbers, in eager mode: right, by the reference or alone, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.utils._pytree import tree_leaves

import attnc
from attnc.runtime.base.configuration import settings
from tests.runtime.operator.test_op import BACKENDS

TEXT = """
pattern causal_ = k <= q
pattern around(g: tokens) = abs(q - k) <= 1 or q in g
pattern documents_of(doc: int[token], ok: bool[token]) = doc[q] == doc[k] and ok[k]
pattern shorter(length: int[]) = k < length
attention sloped(slope: float[head]) { mask = k <= q   score = s + slope[head] * (k - q) }
attention weighed(w: float[token], logit: float[head]) { mask = k <= q   score = s * w[k]   sink = logit[head] }
attention near_enough(b: float[token]) { mask = b[q] < b[k]   score = s + b[k] }
"""
MODULE = attnc.loads(TEXT)
NO_TANGENT = "attnc has no forward-mode derivatives"
NO_SECOND = "attnc has no second derivatives"
Call = Callable[..., Any]

# torch scripts some functions of its own when it first meets a tangent.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    with settings.override(backend="blocked"):
        yield


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs() -> dict[str, Tensor]:
    shapes = {"q": (2, 2, 5, 4), "k": (2, 1, 6, 4), "v": (2, 1, 6, 3), "slope": (2,)}
    return {name: draw(*shape, seed=number) for number, (name, shape) in enumerate(shapes.items())}


GIVEN = inputs()
CHOICES = [("q",), ("k",), ("v",), ("slope",), ("q", "slope"), ("q", "k", "v"), ("k", "v", "slope")]


def of(run: Call, names: tuple[str, ...]) -> Call:
    """Output and log-sum-exp as a function of some inputs only."""

    def function(*values: Tensor) -> Tensor:
        out, lse = run(**{**GIVEN, **dict(zip(names, values, strict=True))}, q_start=1, return_lse=True)
        return torch.cat([out.square(), lse[..., None]], -1)  # no row of these keeps nothing

    return function


def stacked(values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.stack([x, 0.5 * x, -x]) for x in values)


def every(values: tuple[Tensor, ...]) -> tuple[int, ...]:
    return tuple(range(len(values)))


def _of_sum(f: Call, values: tuple[Tensor, ...]) -> Call:
    return grad(lambda *x: f(*x).sum(), argnums=every(values))


def _silent(f: Call) -> Call:
    def function(*values: Tensor) -> Tensor:
        with torch.no_grad():
            return f(*values)

    return function


COTANGENT = draw(2, 2, 5, 4, seed=9)
REVERSE: dict[str, Callable[[Call, tuple[Tensor, ...]], Any]] = {
    "grad": lambda f, x: _of_sum(f, x)(*x),
    "vjp": lambda f, x: vjp(f, *x)[1](COTANGENT),
    "vmap": lambda f, x: vmap(f)(*stacked(x)),
    "vmap of grad": lambda f, x: vmap(_of_sum(f, x))(*stacked(x)),
    "grad of vmap": lambda f, x: grad(lambda *y: vmap(f)(*stacked(y)).square().sum(), argnums=every(x))(*x),
    "jacrev": lambda f, x: jacrev(lambda *y: f(*y).sum((2, 3)), argnums=every(x))(*x),
    "vmap of vmap": lambda f, x: vmap(vmap(f))(*stacked(stacked(x))),
    "no gradient inside": lambda f, x: _of_sum(_silent(f), x)(*x),
}


@pytest.mark.parametrize("names", CHOICES, ids="+".join)
@pytest.mark.parametrize("transform", REVERSE)
def test_reverse_mode_and_vmap(transform: str, names: tuple[str, ...]) -> None:
    values = tuple(GIVEN[name] for name in names)
    attend = MODULE.sloped()
    found, expected = (REVERSE[transform](of(run, names), values) for run in (attend, attend.reference))
    torch.testing.assert_close(found, expected)
    assert any(x.any() for x in tree_leaves(expected)) == (transform != "no gradient inside")


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_executor(backend: str) -> None:
    names = ("q", "k", "v", "slope")
    values = tuple(GIVEN[name] for name in names)
    attend = MODULE.sloped()
    transform = REVERSE["vmap of grad"]
    with settings.override(backend=backend, optimisation=0):
        found = transform(of(attend, names), values)
    torch.testing.assert_close(found, transform(of(attend.reference, names), values))


def test_gradients_of_autograd_around_transforms() -> None:
    names = ("q", "slope")
    for run in (MODULE.sloped(), MODULE.sloped().reference):
        values = tuple(GIVEN[name].clone().requires_grad_() for name in names)
        vmap(of(run, names))(*stacked(values)).square().sum().backward()
        torch.testing.assert_close(
            [x.grad for x in values],
            list(REVERSE["grad of vmap"](of(MODULE.sloped().reference, names), tuple(x.detach() for x in values))),
        )


def test_jacobians_of_autograd() -> None:
    names = ("q", "slope")
    values = tuple(GIVEN[name] for name in names)
    attend = MODULE.sloped()
    wanted = jacrev(of(attend.reference, names), argnums=(0, 1))(*values)
    found = torch.autograd.functional.jacobian(of(attend, names), values)
    torch.testing.assert_close(found, wanted)


# What the entries of a vmap differ in: inputs beside q, k and v, each with the dimension that is mapped over.
MAPPED: dict[str, tuple[attnc.Attention, dict[str, tuple[Any, int | None]]]] = {
    "int table": (
        MODULE.documents_of(), {"doc": (torch.arange(18).reshape(3, 6) // 4, 0), "ok": (torch.ones(6).bool(), None)}
    ),
    "bool table with a batch": (
        MODULE.documents_of(), {"doc": (torch.arange(6) // 4, None), "ok": (draw(2, 6, 3, seed=3) > -1, 2)}
    ),
    "table with a batch beside": (
        MODULE.documents_of(), {"doc": (torch.arange(12).reshape(2, 6) // 5, None), "ok": (draw(6, 3) > -1, 1)}
    ),
    "set": (MODULE.around(), {"g": (torch.tensor([[3, 1], [0, -1], [5, -1]]), 0)}),
    "set of flags with a batch of one": (MODULE.around(), {"g": (draw(1, 3, 7) > 0, 1)}),
    "number": (MODULE.shorter(), {"length": (torch.tensor([2, 6, 0]), 0)}),
    "number with a batch": (MODULE.shorter(), {"length": (torch.tensor([[2, 6, 0], [1, 1, 6]]), 1)}),
    "start": (MODULE.causal_(), {"q_start": (torch.tensor([0, 1, 7]), 0)}),
    "starts": (MODULE.causal_(), {"q_start": (torch.tensor([[0, 1, 7], [2, 0, 1]]), -1)}),
    "starts beside": (MODULE.causal_(), {"q_start": (torch.tensor([4, 0]), None)}),
    "scale": (MODULE.causal_(), {"scale": (torch.tensor([0.1, 0.3, 0.0]), 0)}),
    "scale of heads": (MODULE.causal_(), {"scale": (draw(3, 2), 0)}),
    "scale beside": (MODULE.causal_(), {"scale": (draw(2), None)}),
    "same seed": (MODULE.causal_(), {"dropout": (0.5, None), "seed": (7, None)}),
    "float tables": (MODULE.weighed(), {"w": (draw(6, 3), 1), "logit": (draw(2), None)}),
    "float tables with a batch": (MODULE.weighed(), {"w": (draw(2, 6), None), "logit": (draw(3, 1, 2), 0)}),
    "float table that decides": (MODULE.near_enough(), {"b": (draw(3, 6), 0)}),
    "mixed": (
        MODULE.weighed(),
        {"w": (draw(2, 3, 6), 1), "logit": (draw(2, 2), None), "q_start": (torch.tensor([1, 0, 2]), 0)},
    ),
}  # fmt: skip


def _number(x: Any) -> bool:
    return isinstance(x, Tensor)


@pytest.mark.parametrize("of_q", [0, 2, None], ids=["q first", "q inside", "q shared"])
@pytest.mark.parametrize("case", MAPPED)
def test_an_entry_gets_what_it_would_get_alone(case: str, of_q: int | None) -> None:
    attend, call = MAPPED[case]
    tensors = {name: given for name, given in call.items() if _number(given[0])}
    plain = {name: value for name, (value, _) in call.items() if not _number(value)}
    floats = ["q", "k", "v", *(name for name, (x, _) in tensors.items() if x.is_floating_point() and name != "scale")]
    arguments = {"q": (draw(2, 2, 5, 4, 3).movedim(-1, of_q) if of_q is not None else GIVEN["q"], of_q)}
    arguments |= {"k": (GIVEN["k"], None), "v": (draw(2, 1, 6, 3, 3), -1), **tensors}

    def both(given: dict[str, Tensor]) -> Any:
        def total(learned: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            out, lse = attend(**{**given, **learned}, **plain, return_lse=True)
            return out.square().sum() + torch.where(lse == -torch.inf, 0.0, lse).sum(), out

        gradients, out = grad(total, has_aux=True)({name: given[name] for name in floats})
        return {**gradients, "out": out}

    dims = {name: dim for name, (_, dim) in arguments.items()}
    found = vmap(both, in_dims=(dims,))({name: x for name, (x, _) in arguments.items()})
    for number in range(3):
        alone = both({name: x if dim is None else x.select(dim, number) for name, (x, dim) in arguments.items()})
        torch.testing.assert_close({name: x[number] for name, x in found.items()}, alone)


def test_vmap_over_nothing() -> None:
    f = of(MODULE.sloped(), ("q", "slope"))
    assert vmap(f)(draw(0, 2, 2, 5, 4), draw(0, 2)).shape == (0, 2, 2, 5, 4)
    q, slope = vmap(_of_sum(f, (GIVEN["q"], GIVEN["slope"])), (1, None))(draw(2, 0, 2, 5, 4), GIVEN["slope"])
    assert (q.shape, slope.shape) == ((0, 2, 2, 5, 4), (0, 2))


def test_dropout_under_vmap() -> None:
    q = GIVEN["q"].expand(3, -1, -1, -1, -1)
    run = lambda x: MODULE.causal_()(x, GIVEN["k"], GIVEN["v"], q_start=1, dropout=0.5)  # noqa: E731
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(run)(q)
    torch.manual_seed(0)
    different, same = (vmap(run, randomness=kind)(q) for kind in ("different", "same"))
    assert torch.equal(same[0], same[1])
    assert torch.equal(same[0], same[2])
    assert not torch.equal(different[0], different[1])
    gradient = vmap(grad(lambda x: run(x).sum()), randomness="different")(q)
    assert not torch.equal(gradient[0], gradient[1])


def test_a_wrong_shape_is_named_as_its_caller_knows_it() -> None:
    with pytest.raises(ValueError, match=r"k: has shape \[1, 2, 5, 4\], expected 2 \(the batch of q\) in dimension 0"):
        vmap(lambda q: MODULE.causal_()(q, q[:1], q))(draw(3, 2, 2, 5, 4))
    ok, docs = torch.ones(6).bool(), torch.zeros(3, 4, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"doc: has shape \[4\], expected 6 \(n\)"):
        vmap(lambda doc: MODULE.documents_of()(GIVEN["q"], GIVEN["k"], GIVEN["v"], doc=doc, ok=ok))(docs)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_gradient_of_the_scale_is_refused(mapped: bool) -> None:
    def total(scale: Tensor) -> Tensor:
        given = scale.expand(3) if mapped else scale
        run = lambda x, own: MODULE.causal_()(x, GIVEN["k"], GIVEN["v"], scale=own)  # noqa: E731
        return vmap(run, (0, 0 if mapped else None))(draw(3, 2, 2, 5, 4), given).sum()

    with pytest.raises(ValueError, match="scale: requires a gradient, which it does not get"):
        grad(total)(torch.tensor(0.5))


def with_dual(f: Call, x: tuple[Tensor, ...], t: tuple[Tensor, ...]) -> Tensor | None:
    """The tangent that comes out."""
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(*map(forward_ad.make_dual, x, t))).tangent


def _wanted(x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(y.clone().requires_grad_() for y in x)


FORWARD: dict[str, Callable[[Call, tuple[Tensor, ...], tuple[Tensor, ...]], Any]] = {
    "jvp": lambda f, x, t: jvp(f, x, t)[1],
    "jacfwd": lambda f, x, t: jacfwd(f, argnums=every(x))(*x),
    "dual numbers": with_dual,
    "dual numbers that require a gradient": lambda f, x, t: with_dual(f, _wanted(x), t),
    "jvp of vmap": lambda f, x, t: jvp(lambda *y: vmap(f)(*stacked(y)), x, t)[1],
    "vmap of jvp": lambda f, x, t: vmap(lambda *y: jvp(f, y, t)[1])(*stacked(x)),
    "grad of jvp": lambda f, x, t: grad(lambda *y: jvp(f, y, t)[1].sum(), argnums=every(x))(*x),
    "jvp of grad": lambda f, x, t: jvp(_of_sum(f, x), x, t)[1],
    "hessian": lambda f, x, t: hessian(lambda *y: f(*y).sum(), argnums=every(x))(*x),
}
ONLY_OURS = {  # the dense definition is too general for what these trace
    "linearize": lambda f, x, t: linearize(f, *x)[1](*t),
    "tangent of a cotangent": lambda f, x, t: jvp(vjp(f, *x)[1], (COTANGENT,), (COTANGENT,)),
}


@pytest.mark.parametrize("names", CHOICES, ids="+".join)
@pytest.mark.parametrize("transform", [*FORWARD, *ONLY_OURS])
def test_forward_mode_is_refused(transform: str, names: tuple[str, ...]) -> None:
    values = tuple(GIVEN[name] for name in names)
    with pytest.raises(RuntimeError, match=NO_TANGENT):
        {**FORWARD, **ONLY_OURS}[transform](of(MODULE.sloped(), names), values, tuple(map(torch.ones_like, values)))


def test_a_tangent_of_the_scale_is_refused() -> None:
    with pytest.raises(RuntimeError, match=NO_TANGENT):
        jvp(lambda s: MODULE.causal_()(GIVEN["q"], GIVEN["k"], GIVEN["v"], scale=s), (draw(2),), (draw(2),))


def test_tangents_of_other_things_do_no_harm() -> None:
    attend, (q, k, v, slope) = MODULE.sloped(), GIVEN.values()
    out, tangent = jvp(lambda x: x * attend(q, k, v, slope=slope), (torch.tensor(2.0),), (torch.tensor(3.0),))
    expected = attend(q, k, v, slope=slope)
    torch.testing.assert_close((out, tangent), (2 * expected, 3 * expected))


SECOND: dict[str, Callable[[Call, tuple[Tensor, ...]], Any]] = {
    "grad of grad": lambda f, x: grad(lambda y: _of_sum(f, (y,))(y)[0].square().sum())(x[0]),
    "jacrev of grad": lambda f, x: jacrev(lambda y: _of_sum(f, (y,))(y)[0])(x[0]),
    "backward of grad": lambda f, x: torch.autograd.grad(_of_sum(f, x)(y := _wanted(x)[0])[0].sum(), y),
    "jvp by two reverse passes": lambda f, x: torch.autograd.functional.jvp(f, x, x)[1],
}


@pytest.mark.parametrize("transform", SECOND)
def test_second_derivatives_are_refused(transform: str) -> None:
    with pytest.raises(RuntimeError, match=NO_SECOND):
        SECOND[transform](of(MODULE.sloped(), ("q",)), (GIVEN["q"],))


@pytest.mark.parametrize("names", CHOICES, ids="+".join)
def test_what_the_refusals_point_to_works(names: tuple[str, ...]) -> None:
    """The reference has tangents, those that two reverse passes give; and second derivatives, as their differences."""
    values = tuple(GIVEN[name] for name in names)
    tangents = tuple(draw(*x.shape, seed=5) for x in values)
    f = of(MODULE.sloped().reference, names)
    tangent = torch.autograd.functional.jvp(f, values, tangents)[1]
    assert tangent.any()
    for transform in ("jvp", "dual numbers", "dual numbers that require a gradient"):
        torch.testing.assert_close(FORWARD[transform](f, values, tangents).detach(), tangent)
    at, step = _of_sum(f, values), 1e-6
    for number, part in enumerate(FORWARD["jvp of grad"](f, values, tangents)):
        sides = (at(*(x + sign * step * t for x, t in zip(values, tangents, strict=True)))[number] for sign in (1, -1))
        torch.testing.assert_close(part, torch.sub(*sides) / (2 * step), rtol=1e-5, atol=1e-7)
    second = FORWARD["hessian"](f, values, tangents)
    products = [
        sum((own * t).sum(tuple(range(-t.ndim, 0))) for own, t in zip(row, tangents, strict=True)) for row in second
    ]
    torch.testing.assert_close(tuple(products), FORWARD["jvp of grad"](f, values, tangents))


def test_the_reference_says_which_tables_it_cannot_be_mapped_over() -> None:
    doc = torch.zeros(3, 6, dtype=torch.int32)
    ok = torch.ones(6).bool()
    with pytest.raises(ValueError, match=r"doc: is mapped over by vmap, expected one table for all entries"):
        vmap(lambda own: MODULE.documents_of().reference(*list(GIVEN.values())[:3], doc=own, ok=ok))(doc)
    with pytest.raises(ValueError, match=r"b: is mapped over by vmap"):
        vmap(lambda own: MODULE.near_enough().reference(*list(GIVEN.values())[:3], b=own))(draw(3, 6))
