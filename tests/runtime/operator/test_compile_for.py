"""`Attention.compile_for`: after it no call builds a kernel, in another process too; what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import attnc
from attnc.runtime.base import cache, counters
from attnc.runtime.base.build_count import built
from attnc.runtime.base.configuration import settings
from attnc.runtime.cpp.build import NoCompilerError
from tests.runtime.operator.test_op import needs_compiler

TEXT = """
pattern local = k <= q and q - k < 90
pattern around(g: tokens) = abs(q - k) <= 20 or k in g
pattern same(doc: int[token]) = doc[q] == doc[k]
attention sloped(slope: float[head]) {
    mask = k <= q and (q - k) % 3 < 2
    score = s - slope[head] * (q - k)
    sink = slope[head]
}
pattern halves = k <= q and (q - k < 8 * (head + 1))
"""
CALLS = f"""
import sys, torch, attnc
from attnc.runtime.base import built

module = attnc.loads({TEXT!r})
TABLES = {{
    "local": lambda n: {{}},
    "around": lambda n: {{"g": [1, n - 2]}},
    "same": lambda n: {{"doc": torch.arange(n) // 40}},
    "sloped": lambda n: {{"slope": torch.tensor([0.5, 0.25])}}, "halves": lambda n: {{}},
}}
if sys.argv[1] == "build":
    for name, tables in TABLES.items():
        assert module[name]().compile_for(["fp32"], [16], n=500, heads=2, **tables(500)) >= 2
        assert not module[name]().compile_for([torch.float32], [16], n=500, heads=2, **tables(500))
    assert not attnc.launches()
for n in (300, 777):
    for name, tables in TABLES.items():
        q = torch.randn(2, 2, n, 16, requires_grad=True)
        k, v = (torch.randn(2, 1, n, 16, requires_grad=True) for _ in range(2))
        module[name]()(q, k, v, **tables(n)).sum().backward()
        for rows in (1, 9, 40):
            module[name]()(q.detach()[:, :, -rows:], k.detach(), v.detach(), q_start=n - rows, **tables(n))
assert built() == int(sys.argv[2]), built()
"""


@pytest.fixture
def empty_cache(tmp_path: Path) -> Path:
    return tmp_path / "kernels"


def calls(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "ATTNC_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("ATTNC_BACKEND", "ATTNC_INTERPRET"):
        environment.pop(name, None)
    command = [sys.executable, "-c", CALLS, *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return ran.stderr


@pytest.mark.long
@needs_compiler
def test_no_call_builds_anything_afterwards(empty_cache: Path) -> None:
    said = calls(empty_cache, "build", "-1")
    number = int(said.split("AssertionError: ")[1])
    assert number >= 12, said
    assert calls(empty_cache, "call", "0") == ""


@needs_compiler
def test_it_counts_what_it_builds_and_runs_nothing(empty_cache: Path) -> None:
    attend = attnc.loads("pattern counted = k <= q and q - k < 31").counted()
    with settings.override(cache_dir=empty_cache, cache=True, optimisation=0):
        before, launched = built(), counters.launches()
        with torch.no_grad():
            assert attend.compile_for(["fp32", "bf16"], [8, (8, 4)], n=64) == 8, "forward passes and decoding"
        assert attend.compile_for([torch.float32], [8], n=64) == 1, "the backward pass"
        assert attend.compile_for([torch.float32], [8], n=64) == 0
        assert attend.compile_for([torch.float32], [8], n=64, dropout=0.5) == 3, "other kernels"
        assert built() - before == 12
        assert counters.launches() == launched
        assert cache.usage().entries == 12


@needs_compiler
def test_a_model_is_built_layer_by_layer(empty_cache: Path) -> None:
    model = attnc.loads("model two { layers = 2 heads = 4 layer * = window(8 * (head + 1)) }").two()
    with settings.override(cache_dir=empty_cache, optimisation=0), torch.no_grad():
        assert [layer.compile_for(["fp32"], [8], n=128) for layer in model.layers] == [2, 0]


ATTEND = attnc.loads(TEXT).around()
SLOPED = attnc.loads(TEXT).sloped()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ATTEND.compile_for("fp32", [8], g=[0]), TypeError, "dtypes: is str, expected a list of dtypes"),
        (lambda: ATTEND.compile_for(torch.float32, [8], g=[0]), TypeError, "dtypes: is dtype, expected a list"),
        (lambda: ATTEND.compile_for(["fp8"], [8], g=[0]), ValueError, "dtype: is 'fp8', expected one of fp32"),
        (lambda: ATTEND.compile_for([torch.int32], [8], g=[0]), ValueError, "dtypes: holds torch.int32, expected some"),
        (lambda: ATTEND.compile_for(["fp32"], 8, g=[0]), TypeError, "head_dims: is int, expected a list"),
        (lambda: ATTEND.compile_for(["fp32"], ["8"], g=[0]), TypeError, "head_dims: is str, expected an int"),
        (lambda: ATTEND.compile_for(["fp32"], [0], g=[0]), ValueError, "head_dims: is 0, expected 1 or more"),
        (lambda: ATTEND.compile_for(["fp32"], [(8, 8, 8)], g=[0]), ValueError, r"head_dims: holds \(8, 8, 8\), expec"),
        (lambda: ATTEND.compile_for(["fp32"], [8], n=0, g=[0]), ValueError, "n: is 0, expected 1 or more"),
        (lambda: ATTEND.compile_for(["fp32"], [8], heads=0, g=[0]), ValueError, "heads: is 0, expected 1 or more"),
        (lambda: ATTEND.compile_for(["fp32"], [8], g=[0], dropout=2.0), ValueError, "dropout: is 2.0"),
        (lambda: ATTEND.compile_for(["fp32"], [8]), TypeError, "g: missing; around expects"),
        (lambda: ATTEND.compile_for(["fp32"], [8], [0]), TypeError, "g: is given by position"),
        (lambda: SLOPED.compile_for(["fp32"], [8], n=9, heads=3, slope=torch.ones(2)), ValueError, "slope: has"),
    ],
)
def test_what_it_refuses(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_without_a_compiler_it_says_so() -> None:
    with settings.override(cxx="no-such-compiler"), pytest.raises(NoCompilerError, match="no-such-compiler"):
        ATTEND.compile_for(["fp32"], [8], n=64, g=[0])
