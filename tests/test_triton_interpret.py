"""The Triton kernels in Triton's interpreter, forward and backward, against the dense formula in fp64."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attnc.compiler.ir import Dimension, Table
from attnc.runtime import gpu

from .shipped_support import SHIPPED
from .triton_cases import FORCED
from .triton_patterns import cases
from .triton_programs import checks

ROOT = Path(__file__).resolve().parent.parent
Report = dict[str, dict[str, tuple[float, float]]]


@pytest.fixture(scope="module")
def report() -> Report:
    """Every case, run in one process, because the interpreter is chosen once for a process."""
    found: Report = run("tests.triton_cases")
    return found


def run(module: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def programs() -> dict[str, str]:
    """What is wrong with each program made by hand."""
    found: dict[str, str] = run("tests.triton_programs")
    return found


@pytest.mark.parametrize("name", checks())
def test_executes_any_program(name: str, programs: dict[str, str]) -> None:
    assert not programs[name]


@pytest.mark.parametrize("name", [*(case.name for case in cases()), *(f"{name} in parts" for name in FORCED)])
def test_equals_the_dense_formula(name: str, report: Report) -> None:
    wrong = {what: pair for what, pair in report[name].items() if not pair[0] <= pair[1]}
    assert not wrong, wrong


@pytest.mark.parametrize("name", [f"{shipped.file}.{shipped.name}" for shipped in SHIPPED])
def test_keeps_exactly_the_keys_of_a_shipped_pattern(name: str, report: Report) -> None:
    wrong = {what: pair for what, pair in report[name].items() if not pair[0] <= pair[1]}
    assert not wrong, wrong


def test_every_shipped_file_is_there() -> None:
    files = {path.stem for path in (ROOT / "patterns").glob("*.attn")} - {"std"}
    assert {shipped.file for shipped in SHIPPED} == files


def test_the_comparison_sees_a_single_pair(report: Report) -> None:
    """A key more in the dense formula than in the kernel is found, by the support test and by the tolerances."""
    text = """
import os
os.environ["ATTNC_INTERPRET"] = "1"
from dataclasses import replace
from tests import triton_cases, triton_patterns
window = next(case for case in triton_patterns.cases() if case.name == "window")
def one_more(p):
    return window.dense_mask(p) | ((p.q == 20) & (p.k == 31))
planted = replace(window, dense_mask=one_more)
found = triton_cases.compare(planted) | triton_cases.support(planted)
print(sorted(name for name, (error, bound) in found.items() if not error <= bound))
"""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "'support wrong'" in done.stdout
    assert "'out'" in done.stdout


def test_what_has_no_fixed_order_is_refused_where_torch_is_asked_for_one() -> None:
    tables = [Table("bias", "float", (Dimension("token"),))]
    gpu._say_unordered(tables)
    torch.use_deterministic_algorithms(True)
    try:
        gpu._say_unordered([])
        with pytest.raises(RuntimeError, match="bias: its gradient in fp64 has no deterministic form on a GPU"):
            gpu._say_unordered(tables)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(RuntimeWarning, match="bias: its gradient in fp64"):
            gpu._say_unordered(tables)
    finally:
        torch.use_deterministic_algorithms(False)
