"""Random programs as compiled kernels, forward and backward over several shapes each, against the dense reference."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnc.runtime.base.configuration import settings
from tests.fuzz import structures as fuzz_structures
from tests.support.generators.programs import Program, generate

ROOT = Path(__file__).resolve().parents[2]
FIRST = 5_000_000  # other programs than those of test_fuzz_masks
SLICES = 12
COMPILED, INTERPRETED = 24, 5


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    with settings.override(optimisation=0):
        yield


@pytest.mark.parametrize("part", range(SLICES))
def test_random_structures(part: int) -> None:
    for seed in range(FIRST + part, FIRST + COMPILED, SLICES):
        program = generate(seed)
        found = fuzz_structures.fault(program)
        assert found is None, f"seed {seed}: {found}\n{program.text}\n{program.sizes}"


@pytest.mark.parametrize(("name", "program"), list(fuzz_structures.pinned()))
def test_structures_that_failed_once(name: str, program: Program) -> None:
    assert fuzz_structures.fault(program) is None


@pytest.mark.long
def test_random_structures_in_the_interpreter(tmp_path: Path) -> None:
    """In a process of its own, because the interpreter is chosen once for a process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "interpreted", "--count", str(INTERPRETED), "--seed", str(FIRST)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=550,
        env={**os.environ, "ATTNC_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f"{INTERPRETED} programs from seed {FIRST} passed" in done.stdout
