"""Judges conditions that are restricted to a part of all pairs: there they keep what the whole condition keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attnc
from attnc.compiler.analysis import Reach, restricted
from attnc.compiler.ir import expression
from attnc.testing import strategies


@given(st.data(), strategies.patterns(with_tables=False, with_counts=True))
@settings(max_examples=60, deadline=None)
def test_a_restricted_condition_is_the_same_where_it_holds(data: st.DataObject, pattern: attnc.Attention) -> None:
    n = 40
    first, key = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    last = data.draw(st.one_of(st.none(), st.integers(key, n - 1)))
    bound = pattern._bound
    part = attnc.Attention(replace(bound, mask=restricted(bound.mask, Reach(first), Reach(key, last))))
    box = (..., slice(first, None), slice(key, None if last is None else last + 1))
    assert torch.equal(part.mask(n, heads=2)[box], pattern.mask(n, heads=2)[box])


@pytest.mark.parametrize(
    ("condition", "queries", "keys", "left"),
    [
        ("causal and (q - k < 8 or k < 4)", Reach(8), Reach(0, 3), "true"),
        ("causal and (q - k < 8 or k < 4)", Reach(0), Reach(4), "causal and q - k < 8"),
        ("k < 4", Reach(0), Reach(4, 9), "false"),
        ("q != k and q - 2 * k < 3", Reach(3, 5), Reach(6), "true"),
        ("q == k", Reach(3, 3), Reach(3, 3), "true"),
        ("q == k or q < k", Reach(3), Reach(0, 3), "q == k"),
        ("k // 8 == q // 8", Reach(8), Reach(0, 7), "k // 8 == q // 8"),
        ("k < n", Reach(0), Reach(0), "k < n"),
    ],
)
def test_what_is_decided_falls_away(condition: str, queries: Reach, keys: Reach, left: str) -> None:
    mask = attnc.loads(f"pattern p = {condition}\n").p()._bound.mask
    wanted = attnc.loads(f"pattern p = {left.replace('true', 'full').replace('false', 'not full')}\n").p()._bound.mask
    assert expression(restricted(mask, queries, keys)) == expression(wanted)
