"""Backward passes asked for some gradients only: the same to the bit, and nothing runs for the others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

import attnc
from attnc.compiler.plan import Tiles
from attnc.compiler.plan.tile_choices import only
from attnc.runtime.base import Launch, Wanted, settings
from attnc.runtime.call import Call
from attnc.runtime.cpp import executor
from attnc.runtime.planning import launch_of

TEXT = """
attention scored(slope: float[head], bias: float[head, 9], row: float[token], logit: float[head]) {
    mask = causal_window(9)
    score = s + slope[head] * (k - q) + bias[head, q - k] + row[q]
    sink = logit[head]
}
pattern near = causal_window(9)
pattern globals = window(9) or k < 2 or q < 2
"""
MODULE = attnc.loads(TEXT, name="wanted")
N, TABLES = 33, ("slope", "bias", "row", "logit")


@pytest.fixture(params=["cpp", "blocked"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with settings.override(backend=request.param, optimisation=0):
        yield request.param


def inputs(*more: Tensor) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 4, N, 16), torch.randn(2, 2, N, 16), torch.randn(2, 2, N, 8), *more]


def scored() -> list[Tensor]:
    return [*inputs(), torch.randn(4), torch.randn(4, 9), torch.randn(N), torch.randn(4)]


def gradients(attend: attnc.Attention, given: list[Tensor], wanted: tuple[bool, ...]) -> list[Tensor | None]:
    leaves = [x.clone().requires_grad_(its) for x, its in zip(given, wanted, strict=True)]
    q, k, v, *tables = leaves
    out, lse = attend(q, k, v, return_lse=True, **dict(zip(TABLES, tables, strict=False)))
    generator = torch.Generator().manual_seed(1)
    torch.autograd.backward([out, lse], [torch.randn(x.shape, generator=generator) for x in (out, lse)])
    return [x.grad for x in leaves]


def alike(found: list[Tensor | None], whole: list[Tensor | None], wanted: tuple[bool, ...]) -> bool:
    """Whether what is wanted is there, to the bit, and nothing else."""
    return all(
        one is None if not its else one is not None and other is not None and torch.equal(one, other)
        for one, other, its in zip(found, whole, wanted, strict=True)
    )


def subsets(count: int) -> list[tuple[bool, ...]]:
    return [each for each in product((True, False), repeat=count) if any(each)]


def test_every_subset_of_inputs_and_tables(backend: str) -> None:
    given = scored()
    whole = gradients(MODULE.scored(), given, (True,) * 7)
    wrong = [its for its in subsets(7) if not alike(gradients(MODULE.scored(), given, its), whole, its)]
    assert not wrong
    before = attnc.launches()[f"{backend}.backward"]
    assert before >= len(subsets(7))


@pytest.mark.parametrize("name", ["near", "globals"])
def test_every_subset_of_calls_that_go_straight(backend: str, name: str) -> None:
    """By a launch that is kept ready from the second call on, and by several kernels that add to one gradient."""
    attend = MODULE[name]()
    whole = gradients(attend, inputs(), (True,) * 3)
    for wanted in subsets(3) * 2:
        assert alike(gradients(attend, inputs(), wanted), whole, wanted), wanted


def launched(attend: attnc.Attention, given: list[Tensor]) -> Launch:
    q, k, v, *tables = given
    named = dict(zip(TABLES, tables, strict=False))
    return launch_of(attend._bound, Call(q, k, v, named, None, 0, None, 0.0, 0), only(Tiles(64, 64)))


@pytest.mark.parametrize("name", ["near", "globals", "scored"])
def test_products_that_nobody_needs_are_left_out(name: str) -> None:
    """Of five products: logits; what moves them, for q, k and tables alone; and one for each of q, k and v."""
    given = scored() if name == "scored" else inputs()
    tables = len(given) - 3
    launch = launched(MODULE[name](), given)

    def made(q: bool, k: bool, v: bool, table: bool) -> int:
        wanted = Wanted(q, k, v, (table, *[False] * (tables - 1)) if tables else ())
        return executor.products(launch, out, lse, out, None, wanted)

    with settings.override(optimisation=0):
        out, lse = executor.forward(launch)
        by_query = made(True, False, False, False) // 3
        by_key = made(False, False, True, False) - by_query  # in partial tiles pairs are left out in other groups
        assert 0 < 0.9 * by_query < by_key < 1.1 * by_query
        for q, k, v, table in subsets(4):
            moves = q or k or (table and tables > 0)
            expected = by_query * (1 + moves + q) + by_key * (k + v)
            if q or k or v or tables:
                assert made(q, k, v, table) == expected, (q, k, v, table)


def test_transforms_ask_for_what_they_differentiate(backend: str) -> None:
    attend, (q, k, v) = MODULE.near(), inputs()

    def loss(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found: Tensor = attend(q, k, v)
        return found.square().sum()

    whole = grad(loss, argnums=(0, 1, 2))(q, k, v)
    for place in range(3):
        assert torch.equal(grad(loss, argnums=place)(q, k, v), whole[place])
    for place, shared in enumerate(((None, 0, 0), (0, None, 0), (0, 0, None))):
        batched = [x[None].expand(2, *x.shape) if its == 0 else x for x, its in zip((q, k, v), shared, strict=True)]
        found = vmap(grad(loss, argnums=place), in_dims=shared)(*batched)
        torch.testing.assert_close(found, whole[place].expand_as(found))


def test_a_table_of_which_no_gradient_is_asked_is_not_mapped_over(backend: str) -> None:
    q, k, v, *tables = scored()

    def loss(q: Tensor, bias: Tensor) -> Tensor:
        slope, _, row, logit = tables
        found: Tensor = MODULE.scored()(q, k, v, slope=slope, bias=bias, row=row, logit=logit)
        return found.square().sum()

    both = torch.stack([tables[1], tables[1] * 2])
    found = vmap(grad(loss), in_dims=(None, 0))(q, both)
    for entry in range(2):
        torch.testing.assert_close(found[entry], grad(loss)(q, both[entry]))


@pytest.mark.long
def test_triton_kernels_that_nobody_needs_do_not_run() -> None:
    environment = {**os.environ, "ATTNC_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETER], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


INTERPRETER = """
from attnc import launches
from tests.runtime.operator.test_wanted import MODULE, alike, gradients, inputs, scored

def ran(attend, given, wanted, whole):
    before = launches()
    found = gradients(attend, given, wanted)
    assert whole is None or alike(found, whole, wanted), wanted
    kinds = "triton.backward_queries", "triton.backward_keys"
    return found, tuple(launches().get(kind, 0) - before.get(kind, 0) for kind in kinds)

yes, no = True, False
whole, both = ran(MODULE.near(), inputs(), (yes,) * 3, None)
assert both == (1, 1), both
for wanted, expected in (((yes, no, no), (1, 0)), ((no, yes, no), (0, 1)), ((no, no, yes), (0, 1))):
    assert ran(MODULE.near(), inputs(), wanted, whole)[1] == expected, wanted
whole, both = ran(MODULE.scored(), scored(), (yes,) * 7, None)
assert both == (1, 1), both
only = {0: (1, 0), 1: (0, 1), 2: (0, 1), 3: (1, 0), 4: (1, 0), 5: (1, 0), 6: (0, 0)}  # a sink has a kernel of its own
for place, expected in only.items():
    wanted = tuple(place == its for its in range(7))
    assert ran(MODULE.scored(), scored(), wanted, whole)[1] == expected, wanted
"""
