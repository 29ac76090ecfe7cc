"""The order of programs: every block once, the longest first where work varies, and the same results in any order."""

from __future__ import annotations

import heapq
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from random import Random

import pytest
import torch

from attnc.compiler import pipeline
from attnc.compiler.ir import CallShape
from attnc.compiler.plan import Bounds, TileChoice, TileCount, Tiles, key_major
from attnc.runtime.triton.arguments import inverse
from attnc.runtime.triton.turns import trend, turn_arguments, visited
from tests.gate.patterns import PATTERNS

PROCESSORS = 132
Blocks = tuple[Bounds, TileCount, TileCount]


def ratio(x: int, of: int) -> int:
    """What the kernels' _ratio computes."""
    return x * (of & 0xFFFFFFFF) >> (of >> 32)


def test_inverses_divide_all_numbers_of_31_bits() -> None:
    draw = Random(3)
    divisors = [*range(1, 200), *(1 << i for i in range(31)), *((1 << i) - 1 for i in range(2, 32))]
    divisors += [(1 << i) + 1 for i in range(1, 31)] + [draw.randrange(1, 2**31) for _ in range(500)]
    for divisor in divisors:
        of = inverse(divisor)
        assert 2**32 <= of < 2**63, "an integer of 64 bits, whatever the divisor is"
        assert of & 0xFFFFFFFF == of - (of >> 32 << 32)
        largest = (2**31 - 1) // divisor * divisor
        near = {0, 1, divisor - 1, divisor, largest - 1, largest, 2**31 - 1, draw.randrange(2**31)}
        for x in near:
            if 0 <= x < 2**31:
                assert ratio(x, of) == x // divisor, (x, divisor)
    assert inverse(0) == inverse(1)


def places(slots: int, blocks: int, found: dict[str, int]) -> list[tuple[int, int]]:
    """The slot and the block of each program, as the macro ``turn`` finds them."""
    made = []
    for program in range(slots * blocks):
        section = ratio(program, found["section_programs_inverse"])
        rest = program - section * found["section_programs"]
        turn = ratio(rest, found["together_inverse"])
        slot = section * found["together"] + rest - turn * found["together"]
        made.append((slot, found["first_block"] + turn * found["block_step"]))
    return made


def visits(name: str, n: int, by_key: bool = False) -> Blocks:
    """What the tiles of rows, or of keys, of a pattern visit in a call of n tokens, and how many of each side are."""
    program = pipeline.program(PATTERNS[name].attention(), (TileChoice(Tiles(128, 128)),))
    (kernel,), (its,) = program.kernels, pipeline.schedule(program, CallShape(n, n, 1), ()).kernels
    (segment,), (held,) = kernel.segments, its.segments
    if by_key:
        rows, keys = key_major(kernel.rows, segment.keys)
        return held.by_key, keys.tiles(n, held.keys), rows.tiles(n, its.rows)
    return held.by_query, kernel.rows.tiles(n, its.rows), segment.keys.tiles(n, held.keys)


def makespan(lengths: Sequence[float]) -> float:
    """When the last program ends, over the time that all would take on processors that are never idle."""
    free = [0.0] * PROCESSORS
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free) / (sum(lengths) / PROCESSORS)


@pytest.mark.parametrize("slots", [1, 5, 12, 96])
@pytest.mark.parametrize("blocks", [1, 7, 32])
def test_each_program_has_a_block_of_its_own(slots: int, blocks: int) -> None:
    bounds, _, _ = visits("causal", 4096)
    own = TileCount(1, blocks)
    read = [torch.empty(slots, 4096, 64, dtype=torch.bfloat16)] * 2
    for first in (bounds, visits("window512", 4096)[0], visits("causal", 4096, by_key=True)[0]):
        found = turn_arguments([(first, own)], own, slots, blocks, read)
        assert sorted(places(slots, blocks, found)) == [(i, j) for i in range(slots) for j in range(blocks)]


@pytest.mark.parametrize(("by_key", "sign"), [(False, 1), (True, -1)])
def test_the_longest_blocks_of_a_causal_mask_come_first_over_all_heads(by_key: bool, sign: int) -> None:
    n, heads = 4096, 12
    bounds, own, other = visits("causal", n, by_key)
    assert trend([(bounds, other)], own) == sign
    lengths = [visited(bounds, tile, own, other) for tile in range(own.total)]
    read = [torch.empty(1, heads, n, 64, dtype=torch.bfloat16)] * 2
    found = turn_arguments([(bounds, other)], own, heads, own.total, read)
    assert found["together"] == heads
    ordered = [lengths[block] for _, block in places(heads, own.total, found)]
    assert ordered == sorted(ordered, reverse=True)
    head_by_head = makespan(lengths * heads)
    assert head_by_head > 1.3
    assert makespan(ordered) < 1.13


@pytest.mark.parametrize("name", ["window512", "window1024", "full"])
def test_blocks_of_equal_length_keep_their_order(name: str) -> None:
    """The blocks of a window share keys with their neighbours, which a cache still holds."""
    bounds, own, other = visits(name, 16384)
    found = turn_arguments([(bounds, other)], own, 3, own.total, [torch.empty(3, 16384, 64)])
    assert places(3, own.total, found) == [(i, j) for i in range(3) for j in range(own.total)]


def test_heads_take_turns_while_what_they_read_stays_in_the_cache() -> None:
    """12 heads of 32 MiB for 8: one after the other; 12 of 4 MiB: as many as divide them, and fit."""
    bounds, own, other = visits("causal", 16384)
    for length, together in ((65536, 1), (8192, 6), (512, 12)):
        read = [torch.empty(12, length, 64, dtype=torch.bfloat16).expand(12, length, 64)] * 4
        assert turn_arguments([(bounds, other)], own, 12, own.total, read)["together"] == together


INTERPRETED = """
import json, torch, attnc
from attnc.runtime import launch_cache
from attnc.runtime.launch_cache import Kept
from attnc.runtime.triton import turns
attend = attnc.loads("pattern p(w: int) = 0 <= q - k < w").p(w=50)
torch.manual_seed(0)
q, k, v = (torch.randn(2, heads, 150, 16, requires_grad=True) for heads in (4, 2, 2))
found, taken = [], []
for sign in (0, 1, -1):
    turns.trend = lambda *_: taken.append(sign) or sign
    launch_cache._entries = Kept(256)  # else the arguments of the first order would be taken again
    out = attend(q, k, v)
    found.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v))])
exact = [all(torch.equal(a, b) for a, b in zip(found[0], other)) for other in found[1:]]
right = bool(torch.allclose(found[0][0], attend.reference(q, k, v), atol=1e-5))
print(json.dumps([exact, right, sorted(set(taken))]))
"""


def test_results_are_the_same_in_any_order() -> None:
    environment = {**os.environ, "ATTNC_INTERPRET": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(ended.stdout) == [[True, True], True, [-1, 0, 1]]
