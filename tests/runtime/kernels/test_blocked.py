"""The blocked executor on programs of every kind of order, laid out by hand."""

from __future__ import annotations

import pytest
import torch

from attnc.runtime.eager.backend import BLOCKED
from tests.support import executors, handmade
from tests.support.handmade import Case

CASES = pytest.mark.parametrize("case", handmade.cases(), ids=lambda case: case.name)


@CASES
def test_orders(case: Case) -> None:
    executors.check(BLOCKED, case, executors.launch_of(case), 1e-10)


@CASES
def test_orders_in_half_precision(case: Case) -> None:
    """One result in half precision of several kernels is rounded once."""
    launch = executors.launch_of(case, dtype=torch.bfloat16)
    out, lse = BLOCKED.forward(launch)
    exact = executors.dense(
        case, launch, [x.double() for x in (launch.q, launch.k, launch.v, launch.tables[-1].tensor)]
    )
    torch.testing.assert_close(out.double(), exact[0].bfloat16().double(), rtol=2**-7, atol=2**-9)
    torch.testing.assert_close(lse.double(), exact[1], rtol=1e-5, atol=1e-5)
