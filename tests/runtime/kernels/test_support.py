"""The support test on every shipped pattern, on the C++ kernels: not one key more or less, forward and in dV."""

from __future__ import annotations

import pytest

from attnc.runtime.base.configuration import settings
from tests.support.shipped_support import SHIPPED, Shipped, support


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda shipped: f"{shipped.file}.{shipped.name}")
def test_keeps_exactly_the_keys_of_a_shipped_pattern(shipped: Shipped) -> None:
    with settings.override(backend="cpp", optimisation=0):
        found = support(shipped, "cpp")
    assert not {what: pair for what, pair in found.items() if not pair[0] <= pair[1]}
