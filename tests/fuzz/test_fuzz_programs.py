"""Random masks in chosen and in drawn orders: by the judge of schedules, and a few through the kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnc.compiler.plan.orders import Box, Gathered, Sorted, View, natural
from tests.fuzz import programs as fuzz_programs
from tests.fuzz.masks import bound
from tests.support.generators.walked_programs import generate_walked

ROOT = Path(__file__).resolve().parents[2]
FIRST = 7_000_000  # other programs than those of the other campaigns' tests
SLICES = 8
JUDGED, COMPILED, INTERPRETED = 48, 4, 2


@pytest.mark.parametrize("part", range(SLICES))
def test_random_orders(part: int) -> None:
    for seed in range(FIRST + part, FIRST + JUDGED, SLICES):
        program = fuzz_programs.generate_any(seed)
        found = fuzz_programs.fault(program)
        assert found is None, f"seed {seed}: {found}\n{program.text}\n{program.sizes}"


@pytest.mark.parametrize("part", range(COMPILED // 2))
def test_random_orders_through_compiled_kernels(part: int) -> None:
    for seed in (FIRST + part, FIRST + part + COMPILED // 2):
        program = fuzz_programs.generate_any(seed)
        found = fuzz_programs.compiled_fault(program)
        assert found is None, f"seed {seed}: {found}\n{program.text}\n{program.sizes}"


def test_masks_that_divide_by_what_a_call_gives_or_compute_with_floats() -> None:
    for seed in (FIRST, FIRST + 1):
        program = fuzz_programs.newer(seed)
        assert fuzz_programs.fault(program) is None
        found = fuzz_programs.compiled_fault(program)
        assert found is None, f"seed {seed}: {found}\n{program.text}\n{program.sizes}"
    for seed in range(FIRST, FIRST + 40):
        attention = bound(fuzz_programs.newer(seed)).attention
        assert any(table.divides or table.element == "float" for table in attention.tables)


@pytest.mark.long
def test_random_orders_in_the_interpreter(tmp_path: Path) -> None:
    """In a process of its own, because the interpreter is chosen once for a process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "programs-interpreted", "--count", str(INTERPRETED), "--seed", str(FIRST)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=550,
        env={**os.environ, "ATTNC_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f"{INTERPRETED} programs from seed {FIRST} passed" in done.stdout


def test_a_walked_program_keeps_some_pairs_and_not_all() -> None:
    interesting = 0
    for seed in range(60):
        dense = bound(generate_walked(seed)).dense()
        interesting += 0 < int((dense > 0).sum()) < dense.size
    assert interesting > 40


def test_orders_of_every_kind_are_drawn() -> None:
    kinds: set[object] = set()
    several = 0
    for seed in range(FIRST, FIRST + 120):
        subject = bound(fuzz_programs.generate_any(seed))
        known = frozenset(range(len(subject.contents)))
        heads = subject.program.sizes.heads
        draw = fuzz_programs.Random(seed)
        program = fuzz_programs.forced(subject.attention, fuzz_programs.TILES[0], heads, known, False, draw)
        several += len(program.kernels) > 1
        for order in (
            order for kernel in program.kernels for order in (kernel.rows, *(s.keys for s in kernel.segments))
        ):
            kinds.add(order == natural(order.tile) if isinstance(order, View) else type(order))
    assert kinds == {True, False, Box, Gathered, Sorted}
    assert several > 30
