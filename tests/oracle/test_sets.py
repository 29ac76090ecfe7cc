"""A set's memory follows its members: listed ones mean on every executor what bitmaps do, however large a member is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnc
from attnc.compiler.analysis.range_sets import MemberTable
from attnc.compiler.ir.attentions import DEFAULT_SCALE, Attention, Dimension, Table
from attnc.compiler.ir.expressions import LOGIT, K, Member
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import bound_tests, load_text
from attnc.compiler.oracle import literal_tables as literals
from attnc.compiler.oracle.membership import fits_bitmaps
from attnc.compiler.verify.claims import run_test
from attnc.runtime.base import counters
from attnc.runtime.call import tables
from attnc.runtime.call.python_values import collect
from attnc.runtime.call.tables import bind
from tests.fuzz import masks as fuzz_masks
from tests.fuzz import programs as fuzz_programs
from tests.fuzz import structures as fuzz_structures
from tests.support.generators.listed_sets import listed, with_listed_sets
from tests.support.generators.programs import Program

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 2**62
FIRST = 9_000_000
MASKS, ORDERS, COMPILED = 24, 12, 3


@pytest.fixture
def all_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No set becomes a bitmap."""
    for module in (literals, tables):
        monkeypatch.setattr(module, "fits_bitmaps", lambda *_: False)


def programs_with_sets(generate: Callable[[int], Program], wanted: int) -> list[Program]:
    found: list[Program] = []
    for seed in count(FIRST):
        program = with_listed_sets(generate(seed))
        if program is not None:
            found.append(program)
        if len(found) == wanted:
            return found
    raise AssertionError


# -- memory --------------------------------------------------------------------------------------------------------

CHILD = """
import json, resource, sys
import torch, attnc

def calls(text, given):
    tables = {name: torch.tensor(value) if name == "id" else value for name, value in given.items()}
    attend = attnc.loads(text).p()
    kept = int(attend.mask(40, **tables).sum())
    attend.plan(40, **tables)
    attend(q, k, v, **tables), attend.reference(q, k, v, **tables)
    return kept

q, k, v = (torch.randn(1, 1, 40, 8) for _ in range(3))
given_calls = json.loads(sys.stdin.read())
with attnc.settings.override(backend="blocked"):
    for text, given in given_calls:
        few = {name: list(range(40)) if name == "id" else [[3]] * 40 if "g[q]" in text else [3] for name in given}
        calls(text, {**few, "g": few.get("g", [3])})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kept = [calls(text, given) for text, given in given_calls]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([kept, (after - before) // 1024]))
"""
FAR = [0] * 40
FAR[3] = 200_000_000
MOST = LARGEST - 1
CALLS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("pattern p(id: int[token], g: tokens) = id[k] in g", {"id": FAR, "g": [200_000_000]}, 40),
    ("pattern p(id: int[token], g: tokens) = id[k] in g", {"id": [*FAR[:39], MOST], "g": [7, MOST, -1]}, 40),
    ("pattern p(g: tokens) = k * 50000000 in g", {"g": [1_950_000_000]}, 40),
    ("pattern p(g: set[token]) = k * 50000000 in g[q]", {"g": [[0, 50_000_000 * i] for i in range(40)]}, 79),
    ("pattern p(g: tokens = {0, 1949999961}) = k * 49999999 in g", {}, 80),
)


def test_memory_does_not_follow_the_largest_member() -> None:
    """The peak of a process of its own, beyond that of the same calls with small sets."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps([[text, given] for text, given, _ in CALLS]),
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found, megabytes = json.loads(done.stdout)
    assert found == [kept for *_, kept in CALLS]
    assert megabytes < 64


def test_the_form_is_bounded_by_members_and_keys() -> None:
    draw = random.Random(1)
    element = Table("g", "set", (Dimension("free", name="sets"),))
    attention = Attention("p", Member(K, "g", (K,)), LOGIT, DEFAULT_SCALE, None, (element,))
    for _ in range(60):
        n, sets, slots = draw.randint(1, 5000), draw.randint(1, 40), draw.randint(0, 12)
        top = draw.choice((n, 10**6, 2**31 - 1, 2**31, 2**40, 2**63 - 1))
        members = [[draw.choice((draw.randint(-3, top), top)) for _ in range(slots)] for _ in range(sets)]
        extent = CallShape(n, 4)
        given = collect(attention, {"g": torch.tensor(members).reshape(sets, slots)}, torch.device("cpu"))
        made = bind(attention, given, extent, torch.device("cpu"), torch.float32)
        argument = made.arguments[0].tensor
        assert argument.numel() * argument.element_size() <= 2**16 + 16 * n + 64 * sets * slots
        assert not made.wide, "what no key can equal is left out"
        for row, its in zip(argument, members, strict=True):
            kept = {x for x in its if 0 <= x < n}
            found = row.nonzero().flatten().tolist() if row.dtype == torch.uint8 else row[row >= 0].tolist()
            assert set(found) == kept
            assert found == sorted(found)


def test_the_form_of_sets_on_a_device_is_told_by_sizes() -> None:
    """Tensors without contents stand for a device: reading one would raise."""
    table = Table("g", "set", (Dimension("free", name="sets"),))
    attention = Attention("p", Member(K, "g", (K,)), LOGIT, DEFAULT_SCALE, None, (table,))
    device = torch.device("meta")
    for sets, n, dtype, last in ((4, 1000, torch.uint8, 1000), (3000, 3000, torch.int32, 2)):
        given = {"g": torch.empty(sets, 2, dtype=torch.int64, device=device)}
        made = bind(attention, given, CallShape(n, 4), device, torch.float32)
        assert (made.arguments[0].tensor.dtype, tuple(made.arguments[0].tensor.shape)) == (dtype, (sets, last))
        assert made.contents[0].values is None
        assert not made.wide


def test_a_bitmap_of_the_callers_stays_one() -> None:
    attend = attnc.loads("pattern p(g: tokens) = k in g").p()
    flags = torch.zeros(10**6, dtype=torch.bool)
    flags[[3, 10**6 - 1]] = True
    assert attend.mask(6, g=flags).sum() == 6


def test_sets_of_the_text_may_have_any_member() -> None:
    text = "pattern p(id: int[token], g: tokens) = id[k] in g\n"
    text += "test p(id = [5, 888888888888888888, 0], g = {888888888888888888, 5, -4}) at n = 3 { row 1 == {0, 1} }\n"
    (test,) = bound_tests(load_text(text, "p.attn", Path()))
    assert [outcome.passed for outcome in run_test(test)] == [True]


# -- meaning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpp", "blocked"])
def test_members_and_elements_anywhere(backend: str) -> None:
    """Beside Python's ``in``: sets by head and query, elements from a table, at both ends of what an integer may be."""
    text = "pattern p(id: int[token], g: set[head, token]) = id[k] in g[head, q] or id[q] in g[head, k] and k < q"
    attend = attnc.loads(text).p()
    for seed in range(6):
        draw = random.Random(seed)
        n, slots, heads = draw.randint(40, 90), draw.randint(1, 9), 2
        base = draw.choice((LARGEST - 100, 2**31 - 50, 2**40, 70_000))
        ids = [draw.choice((base + draw.randint(0, 30), -base, -1, 0, draw.randint(0, 5))) for _ in range(n)]
        sets = [
            [[draw.choice((base + draw.randint(0, 30), -base, -1, 0, 2**63 - 1)) for _ in range(slots)] for _ in ids]
            for _ in range(heads)
        ]
        given = {"id": torch.tensor(ids), "g": torch.tensor(sets)}
        held = [[{x for x in its if x >= 0} for its in of_head] for of_head in sets]
        wanted = torch.tensor(
            [
                [[ids[k] in of[q] or (ids[q] in of[k] and k < q) for k in range(n)] for q in range(n)] for of in held
            ]
        )  # fmt: skip
        assert torch.equal(attend.mask(n, **given), wanted)
        v = torch.randint(0, 2, (1, 1, n, 16)).float().requires_grad_()
        q, k = torch.zeros(1, heads, n, 16), torch.randn(1, 1, n, 16)
        before = counters.launches().get(f"{backend}.forward", 0)
        with attnc.settings.override(backend=backend, optimisation=0, verify=True):
            out = attend(q, k, v, **given)
            (grad,) = torch.autograd.grad(out.sum(), v)
        assert counters.launches()[f"{backend}.forward"] > before
        total = wanted.sum(-1, keepdim=True)
        assert torch.equal((out[0] * total).round(), wanted.float() @ v[0].detach())
        columns = (wanted / total.clamp(min=1)).sum((0, 1))
        torch.testing.assert_close(grad[0, 0], columns[:, None].expand(n, 16), atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("all_listed")
def test_random_masks_with_listed_sets() -> None:
    for program in programs_with_sets(fuzz_programs.generate_any, MASKS):
        bits = fuzz_masks.bound(fuzz_programs.generate_any(program.seed)).dense()
        assert np.array_equal(fuzz_masks.bound(program).dense(), bits), f"seed {program.seed}\n{program.text}"
        found = fuzz_masks.fault(program)
        assert found is None, f"seed {program.seed}: {found}\n{program.text}\n{program.sizes}"


@pytest.mark.usefixtures("all_listed")
def test_random_orders_with_listed_sets() -> None:
    for program in programs_with_sets(fuzz_programs.small, ORDERS):
        found = fuzz_programs.fault(program)
        assert found is None, f"seed {program.seed}: {found}\n{program.text}\n{program.sizes}"


@pytest.mark.usefixtures("all_listed")
def test_listed_sets_through_compiled_kernels() -> None:
    for program in programs_with_sets(fuzz_programs.small, COMPILED):
        found = fuzz_structures.fault(program)
        assert found is None, f"seed {program.seed}: {found}\n{program.text}\n{program.sizes}"


# -- the analysis --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (7,), (40,), (5, 9), (3, 4, 6)])
@pytest.mark.parametrize("batch", [None, 3])
def test_boxes_of_listed_sets(shape: tuple[int, ...], batch: int | None) -> None:
    """Nothing is lost beside every set of a box looked at; of a box of one set nothing is gained either."""
    draw = np.random.default_rng(len(shape))
    universe, boxes = 30, 150
    bits = draw.random((*(() if batch is None else (batch,)), *shape, universe)) < 0.3
    bits[..., 10:14] |= draw.random((*bits.shape[:-1], 1)) < 0.8
    sizes = (*shape, universe)
    low = [draw.integers(-size - 2, size + 2, boxes) for size in sizes]
    high = [first + draw.integers(0, 1 + size // 2, boxes) for first, size in zip(low, sizes, strict=True)]
    row = draw.integers(0, batch or 1, boxes)
    every, some = MemberTable(listed(bits), batch is not None).extrema(row, low, high)
    decided = 0
    for box in range(boxes):
        table = bits if batch is None else bits[row[box]]
        inside = [(max(int(a[box]), 0), min(int(b[box]) + 1, s)) for a, b, s in zip(low, high, sizes, strict=True)]
        entries = table[tuple(slice(first, max(last, first)) for first, last in inside)].ravel()
        whole = all(a[box] >= 0 and b[box] < size for a, b, size in zip(low, high, sizes, strict=True))
        all_held = whole and bool(entries.all())
        assert every[box] <= all_held
        assert some[box] >= bool(entries.any())
        decided += bool(every[box]) or not some[box]
        if all(a[box] == b[box] for a, b in zip(low[:-1], high[:-1], strict=True)):
            assert (bool(every[box]), bool(some[box])) == (all_held, bool(entries.any()))
    assert decided > 20


def test_a_large_universe_is_no_bitmap() -> None:
    assert fits_bitmaps(2**16, 1, 0, 1)
    assert not fits_bitmaps(2**20, 1, 8, 40)
    assert fits_bitmaps(10**6, 1, 1, 10**6), "a set of positions is one"
    held = literals.from_literal(Table("g", "set", ()), frozenset({3, LARGEST}), CallShape(4, 4), {})
    assert isinstance(held, HostTable)
    assert held.values is not None
    assert held.values.tolist() == [3, LARGEST]
