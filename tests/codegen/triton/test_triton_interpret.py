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

from attnc.compiler.ir.attentions import Dimension, Table
from attnc.runtime.triton import executor
from tests.support.shipped_files import EVERY_KIND
from tests.support.shipped_support import SHIPPED
from tests.support.triton.cases import FORCED
from tests.support.triton.patterns import cases
from tests.support.triton.programs import checks

ROOT = Path(__file__).resolve().parents[3]
Report = dict[str, dict[str, tuple[float, float]]]


# Each in a process of its own, because the interpreter is chosen once for a process.
PARTS = 2
CASES = [*(case.name for case in cases()), *(f"{shipped.file}.{shipped.name}" for shipped in SHIPPED)]


def run(module: str, *names: str) -> Any:
    """What the module says of some of its comparisons."""
    done = subprocess.run(
        [sys.executable, "-m", module, *names], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_executes_any_program(part: int) -> None:
    names = list(checks())[part::PARTS]
    found: dict[str, str] = run("tests.support.triton.programs", *names)
    assert list(found) == names
    assert not {name: fault for name, fault in found.items() if fault}


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_equals_the_dense_formula(part: int) -> None:
    """And keeps exactly the keys of each shipped pattern."""
    names = CASES[part::PARTS]
    found: Report = run("tests.support.triton.cases", *names)
    assert set(found) == {*names, *(f"{name} in parts" for name in names if name in FORCED)}
    assert not wrong(found)


def wrong(report: Report) -> Report:
    kept = {name: {what: pair for what, pair in its.items() if not pair[0] <= pair[1]} for name, its in report.items()}
    return {name: its for name, its in kept.items() if its}


def test_every_shipped_file_is_there() -> None:
    assert {shipped.file for shipped in SHIPPED} == EVERY_KIND


# Three questions to one process.
ASKED = """
import json, os
os.environ["ATTNC_INTERPRET"] = "1"
from dataclasses import replace
import torch
import attnc
from attnc.runtime.triton.ahead_of_time import compile_for
from tests.codegen.triton.test_triton_compile import shipped
from tests.support.triton import cases as triton_cases
from tests.support.triton import patterns as triton_patterns

window = next(case for case in triton_patterns.cases() if case.name == "window")
planted = replace(window, dense_mask=lambda p: window.dense_mask(p) | ((p.q == 20) & (p.k == 31)))
found = triton_cases.compare(planted) | triton_cases.support(planted)
said = {"one pair more": sorted(name for name, (error, bound) in found.items() if not error <= bound)}
q, k, v = (torch.randn(1, 1, 8, 16, dtype=torch.bfloat16) for _ in range(3))
try:
    attnc.load("causal").causal()(q, k, v)
except TypeError as error:
    said["bfloat16"] = str(error)
try:
    compile_for(*shipped("causal")[0], "sm_90")
except RuntimeError as error:
    said["compiled"] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said() -> Any:
    done = subprocess.run(
        [sys.executable, "-c", ASKED], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_the_comparison_sees_a_single_pair(said: Any) -> None:
    """A key more in the dense formula than in the kernel is found, by the support test and by the tolerances."""
    assert {"support wrong", "out"} <= set(said["one pair more"])


def test_bfloat16_is_refused_by_name_where_the_interpreter_would_compute_it_wrongly(said: Any) -> None:
    assert said["bfloat16"].startswith("q: has dtype bfloat16, expected float32 or float16")


def test_nothing_is_compiled_in_the_interpreter(said: Any) -> None:
    assert "runs Triton's interpreter, which compiles nothing" in said["compiled"]


def test_what_has_no_fixed_order_is_refused_where_torch_is_asked_for_one() -> None:
    tables = [Table("bias", "float", (Dimension("token"),))]
    executor.say_unordered(tables)
    torch.use_deterministic_algorithms(True)
    try:
        executor.say_unordered([])
        with pytest.raises(RuntimeError, match="bias: its gradient in fp64 has no deterministic form on a GPU"):
            executor.say_unordered(tables)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(RuntimeWarning, match="bias: its gradient in fp64"):
            executor.say_unordered(tables)
    finally:
        torch.use_deterministic_algorithms(False)
