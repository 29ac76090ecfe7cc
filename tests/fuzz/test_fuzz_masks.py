"""Random programs by mask and tiles: no tile called empty holds a pair, none called full lacks one."""

from __future__ import annotations

import pytest

from tests.fuzz import masks as fuzz_masks
from tests.support.generators.programs import generate

COUNT = 2_000
SLICES = 10
"""The programs of one test are those of one slice, so that a failure is told early and by itself."""


@pytest.mark.parametrize("part", range(SLICES))
def test_random_programs(part: int) -> None:
    for seed in range(part, COUNT, SLICES):
        program = generate(seed)
        found = fuzz_masks.fault(program)
        assert found is None, f"seed {seed}: {found}\n{program.text}\n{program.sizes}"


def test_programs_that_failed_once() -> None:
    for name, program in fuzz_masks.pinned():
        assert fuzz_masks.fault(program) is None, name


def test_a_program_survives_being_written_down() -> None:
    for seed in range(40):
        program = generate(seed)
        again = fuzz_masks.from_json(fuzz_masks.to_json(program))
        assert (again.text, again.sizes, again.constants) == (program.text, program.sizes, program.constants)
        assert (fuzz_masks.bound(again).dense() == fuzz_masks.bound(program).dense()).all()
