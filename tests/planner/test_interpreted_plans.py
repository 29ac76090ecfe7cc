"""Plans made by kernels in Triton's interpreter, and compiled for GPUs that need not be here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import attnc
from attnc.compiler import pipeline
from attnc.compiler.codegen.lifting import lift_constants
from attnc.compiler.codegen.planner.functions import PlannerVariant
from attnc.compiler.codegen.planner.render import render_list, render_runs, render_segment
from attnc.compiler.ir.attentions import Attention
from attnc.compiler.plan.dtypes import FP32, I32, I64, U8, DType
from attnc.compiler.plan.orders import ListedOrder, Tiles
from attnc.compiler.plan.programs import Program
from attnc.compiler.plan.tile_choices import only
from attnc.runtime.triton.device_plans import list_problem, segment_problem
from tests.support.triton.device_checks import checks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_results_are_right_and_a_recorded_call_runs_again_with_other_tables() -> None:
    """Outputs and gradients, then those of the recorded launches after the tables' contents were changed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.triton.device_checks"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, str] = json.loads(done.stdout)
    assert list(found) == list(checks())
    assert not {name: fault for name, fault in found.items() if fault}


def _program(file: str, name: str) -> Program:
    bound = getattr(attnc.load(file), name)()._bound
    assert isinstance(bound, Attention)
    return pipeline.program(bound, only(Tiles(128, 64, 16)), 4)


@pytest.mark.parametrize(
    ("file", "name", "dtype", "target"),
    [
        ("longformer", "longformer", U8, "sm_90"),
        ("longformer", "longformer", I32, "sm_80"),
        ("documents", "causal_documents", I64, "sm_90"),
        ("documents", "causal_documents", I32, "gfx942"),
    ],
)
def test_kernels_that_plan_compile_for_gpus(file: str, name: str, dtype: DType, target: str) -> None:
    """The interpreter takes more than the compiler does. None of them spills."""
    from attnc.runtime.triton.ahead_of_time import compile_planning

    program = _program(file, name)
    variant = PlannerVariant(lift_constants(program).program.tables, (dtype,), FP32, dtype == I64)
    modules = [render_runs()]
    for kernel in program.kernels:
        for order, by_query in ((kernel.rows, True), *((segment.keys, False) for segment in kernel.segments)):
            if isinstance(order, ListedOrder):
                modules.append(render_list(list_problem(order, by_query)[0], variant))
    kernel = program.kernels[-1]
    for segment in kernel.segments:
        modules.append(render_segment(segment_problem(kernel.rows, segment.keys, segment.condition)[0], variant))
    for module in modules:
        for compiled in compile_planning(module, target):
            assert compiled.binary
            assert compiled.resources is None or compiled.resources.spilled == 0
