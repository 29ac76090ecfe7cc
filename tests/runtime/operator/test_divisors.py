"""Divisors that a call gives: floors as in Python, on every executor; and what is refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc

TEXT = """
pattern image(width: int[], r: int = 2) = abs(q // width - k // width) <= r and abs(q % width - k % width) <= r
pattern ring(width: int[]) = min((q - k) % width, (k - q) % width) <= 3
pattern behind(width: int[]) = (k - q) // width == -1 or (k - q - 5) % width == width - 1
pattern rows(width: int[]) = causal and blocks_of(width)
pattern blocks_of(size: int[]) = q // size == k // size
pattern guarded(width: int[], doc: int[token]) = doc[q % width] == doc[k % width] and width < n
"""
MODULE = attnc.loads(TEXT)
Meaning = Callable[[int, int, int], bool]
MEANINGS: dict[str, Meaning] = {
    "image": lambda q, k, w: abs(q // w - k // w) <= 2 and abs(q % w - k % w) <= 2,
    "ring": lambda q, k, w: min((q - k) % w, (k - q) % w) <= 3,
    "behind": lambda q, k, w: (k - q) // w == -1 or (k - q - 5) % w == w - 1,
    "rows": lambda q, k, w: k <= q and q // w == k // w,
}
N, M, START = 70, 50, 20
WIDTHS = (1, 7, 16, 69, 70, 1000, 2**31 - 1, 2**40)


def expected(name: str, width: int) -> Tensor:
    return torch.tensor([[MEANINGS[name](q, k, width) for k in range(N)] for q in range(START, START + M)])


@pytest.fixture(params=("cpp", "blocked"))
def executor(request: pytest.FixtureRequest) -> Iterator[str]:
    with attnc.settings.override(backend=request.param, optimisation=0):
        yield request.param


def weights(width: Any, attention: attnc.Attention, batch: int, reference: bool = False) -> Tensor:
    """What each row gives each key, where all kept keys weigh the same; ``[batch, m, n]``."""
    q, k = torch.zeros(batch, 1, M, 4), torch.zeros(batch, 1, N, 4)
    values = torch.eye(N).expand(batch, 1, N, N)
    call = attention.reference if reference else attention
    out: Tensor = call(q, k, values, q_start=START, width=width)
    return out[:, 0]


@pytest.mark.parametrize("name", MEANINGS)
def test_a_width_may_change_from_call_to_call(executor: str, name: str) -> None:
    attention = getattr(MODULE, name)()
    for width in WIDTHS:
        right = expected(name, width)
        assert torch.equal(attention.mask(N, m=M, q_start=START, width=width)[0], right)
        with attnc.settings.override(verify=width <= 1000):
            outputs = [weights(torch.tensor(width), attention, 1, reference)[0] for reference in (False, True)]
        for given in outputs:
            assert torch.equal((given * right.sum(-1, keepdim=True)).round(), right.float())


@pytest.mark.parametrize("name", MEANINGS)
def test_entries_of_a_batch_have_widths_of_their_own(executor: str, name: str) -> None:
    attention, widths = getattr(MODULE, name)(), [5, 9, 2**33]
    right = torch.stack([expected(name, width) for width in widths])
    assert torch.equal(attention.mask(N, m=M, q_start=START, width=torch.tensor(widths))[:, 0], right)
    given = weights(torch.tensor(widths), attention, 3)
    assert torch.equal((given * right.sum(-1, keepdim=True)).round(), right.float())


def test_what_is_divided_by_a_known_width_is_planned_as_by_a_constant() -> None:
    """The kernels serve every width; the tiles are those that the text with a constant has in natural order."""
    constant = attnc.loads("pattern p(w: int) = abs(q // w - k // w) <= 1").p(w=64)
    given = attnc.loads("pattern p(w: int[]) = abs(q // w - k // w) <= 1").p()
    assert given.plan(4096, w=64).area == constant.plan(4096).area
    assert given.plan(4096, w=torch.tensor([64, 64])).area == constant.plan(4096).area
    assert given.plan(4096, w=torch.tensor([64, 32])).area <= constant.plan(4096).area


def test_gradients_are_those_of_the_reference() -> None:
    attention = MODULE.image()
    torch.manual_seed(0)
    inputs = [torch.randn(2, 2, N, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    weight = torch.randn(2, 2, N, 8, dtype=torch.float64)
    for width in (torch.tensor([6, 11]), 8):
        both = [call(*inputs, width=width) for call in (attention, attention.reference)]
        torch.testing.assert_close(*both)
        for own, right in zip(*(torch.autograd.grad((out * weight).sum(), inputs) for out in both), strict=True):
            torch.testing.assert_close(own, right)


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (0, "width: is 0, expected 1 or more"),
        (-3, "width: is -3, expected 1 or more"),
        (torch.tensor([4, 0]), "width: holds 0, expected 1 or more"),
        (-(2**62), f"width: is {-(2**62)}, expected 1 or more"),
    ],
)
def test_a_width_that_is_not_positive_is_refused(executor: str, width: Any, said: str) -> None:
    """By the call, at its first time and after a right one, by the reference, the mask and the plan."""
    attention, batch = MODULE.image(), 2
    for again in range(2):
        for reference in (False, True):
            with pytest.raises(ValueError, match=said):
                weights(width, attention, batch, reference)
        weights(4 + again if not isinstance(width, Tensor) else width.clamp(min=1), attention, batch)
    for look in (attention.mask, attention.plan):
        with pytest.raises(ValueError, match=said):
            look(N, width=width)


def test_the_error_shows_where_the_width_is_declared() -> None:
    with pytest.raises(ValueError, match="something is divided by it") as raised:
        MODULE.image().mask(8, width=0)
    assert "pattern image(width: int[], r: int = 2)" in str(raised.value)
    assert "declared here" in str(raised.value)


def test_a_default_is_checked_as_a_given_number_is() -> None:
    module = attnc.loads("pattern p(w: int[] = 0) = q // w == k // w")
    for look in (lambda: module.p().mask(8), lambda: module.p()(*(torch.zeros(1, 1, 8, 4) for _ in range(3)))):
        with pytest.raises(ValueError, match="divided by it"):
            look()
    assert module.p().mask(8, w=4)[0, 0].tolist() == [True] * 4 + [False] * 4


def test_a_constant_may_be_given_where_the_text_takes_a_run_time_width() -> None:
    text = "pattern of(w: int[]) = q // w == k // w\npattern p = of(4)\npattern one = of(1)\n"
    module = attnc.loads(text)
    assert module.p().mask(8)[0, 7].tolist() == [False] * 4 + [True] * 4
    assert module.one().mask(8)[0, 7].tolist() == [False] * 7 + [True]
    with pytest.raises(attnc.AttnError) as raised:
        attnc.loads(text + "pattern none = of(0)")
    assert "the divisor of `//` is positive, but `w` is 0" in str(raised.value)


def test_an_index_is_bounded_by_a_run_time_remainder() -> None:
    """`doc[q % width]` never leaves a table of more than ``width`` entries."""
    attention, doc = MODULE.guarded(), torch.arange(N) % 3
    mask = attention.mask(N, width=9, doc=doc)[0]
    assert mask[11, 20] == (doc[2] == doc[2])
    assert torch.equal(mask, doc[torch.arange(N) % 9][:, None] == doc[torch.arange(N) % 9][None])


def test_a_width_that_only_a_device_knows_is_asserted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is read: the device is told to assert that all of its entries are positive."""
    from attnc.runtime.call import check_divisors

    asserted: list[tuple[torch.device, str]] = []
    monkeypatch.setattr(torch, "_assert_async", lambda holds, said: asserted.append((holds.device, said)))
    check_divisors(MODULE.image()._bound, {"width": torch.empty(2, dtype=torch.int32, device="meta")})
    assert asserted == [
        (torch.device("meta"), "width: holds 0 or a negative number, expected 1 or more: something is divided by it")
    ]
    check_divisors(MODULE.image()._bound, {"width": torch.empty(0, dtype=torch.int32, device="meta")})
    assert len(asserted) == 1


CLAIMS = (
    ("rows", "causal"), ("rows", "diagonal"), ("same", "diagonal"), ("same", "symmetric"), ("same", "rows nonempty"),
    ("positive", "diagonal"), ("remainder", "diagonal"), ("remainder", "rows nonempty"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "claim"), CLAIMS)
def test_proofs_hold_for_every_positive_width(name: str, claim: str) -> None:
    """What a remainder or a quotient by it may be is not known, but that the width and the remainder are positive."""
    assert attnc.prove(getattr(PROVED, name)(), claim).proved


def test_no_counterexample_divides_by_what_is_not_positive() -> None:
    for name in ("strict", "small"):
        refuted = attnc.prove(getattr(PROVED, name)(), "diagonal")
        assert refuted.refuted
        assert int(str(refuted).split("w = ")[1].split(")")[0]) >= 1


PROVED = attnc.loads(
    "pattern rows(w: int[]) = k <= q and q // w == k // w\n"
    "pattern same(w: int[]) = q // w == k // w\n"
    "pattern positive(w: int[]) = k <= q and w > 0 and w + q % w > 0\n"
    "pattern remainder(w: int[]) = (q - k) % w >= 0\n"
    "pattern strict(w: int[]) = (q - k) % w > 0\n"
    "pattern small(w: int[]) = w < 1 or k // w < 2\n"
)
