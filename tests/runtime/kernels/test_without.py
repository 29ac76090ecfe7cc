"""What works without triton, without a compiler, without CUDA, without a home; and what importing costs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import attnc
from attnc.runtime import fallback
from attnc.runtime.base import cache
from attnc.runtime.base.configuration import settings
from attnc.runtime.cpp.build import NoCompilerError, compiler

CALL = """
import sys, warnings
{before}
import torch, attnc
from attnc.runtime.base.counters import launches

attend = attnc.loads("pattern near(g: tokens) = abs(q - k) <= 5 or k in g").near()
q, k, v = (torch.randn(2, 2, 40, 8, requires_grad=True) for _ in range(3))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        out = attend(q, k, v, g={{0}})
        found = torch.autograd.grad(out.sum(), (q, k, v))
reference = attend.reference(q, k, v, g={{0}})
torch.testing.assert_close(out, reference)
torch.testing.assert_close(found, torch.autograd.grad(reference.sum(), (q, k, v)))
messages = [str(warning.message) for warning in caught if "attnc" in str(warning.message)]
kinds = sorted(launches())
{after}
"""


def run(code: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)


def succeeds(code: str, **environment: str | None) -> None:
    ran = run(code, **environment)
    assert ran.returncode == 0, ran.stderr


def test_import_is_light() -> None:
    heavy = ("torch", "triton", "transformers", "islpy", "lark", "jinja2", "click", "rich", "PIL", "pydantic")
    succeeds(f"import sys, attnc; loaded = set({heavy}) & set(sys.modules); assert not loaded, loaded")


def test_binding_needs_no_torch() -> None:
    code = """
import sys, attnc
attend = attnc.loads("pattern near(size: int = 4) = abs(q - k) <= size").near(size=3)
assert "3" in repr(attend._bound.mask)
loaded = {"torch", "triton", "transformers", "islpy"} & set(sys.modules)
assert not loaded, loaded
"""
    succeeds(code)


def _has_compiler() -> bool:
    try:
        compiler()
    except NoCompilerError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not _has_compiler(), reason="the system has no C++ compiler")
AS_USUAL: dict[str, str | None] = {"ATTNC_BACKEND": None, "ATTNC_INTERPRET": None, "ATTNC_OPTIMISATION": "0"}


@needs_compiler
def test_without_triton_and_cuda() -> None:
    after = """
assert kinds == ["cpp.backward", "cpp.forward"], kinds
assert not messages, messages
assert not torch.cuda.is_available()
"""
    code = CALL.format(before="sys.modules['triton'] = None", after=after)
    succeeds(code, **AS_USUAL, CUDA_VISIBLE_DEVICES="")


def test_the_interpreter_without_triton_says_so() -> None:
    code = CALL.format(before="sys.modules['triton'] = None", after="")
    ran = run(code, **{**AS_USUAL, "ATTNC_INTERPRET": "1"})
    assert ran.returncode != 0
    assert "triton is not installed" in ran.stderr.splitlines()[-1]


def test_the_interpreter_runs_cpu_tensors() -> None:
    pytest.importorskip("triton", reason="triton is installed on Linux only")
    run = ["triton.backward", "triton.backward_keys", "triton.backward_queries", "triton.forward"]
    code = CALL.format(before="", after=f"assert kinds == {run}, kinds")
    succeeds(code, **{**AS_USUAL, "ATTNC_INTERPRET": "1"})


def test_with_an_empty_path() -> None:
    after = """
assert kinds == ["blocked.backward", "blocked.forward"], kinds
assert len(messages) == 1, messages
assert "compiler" in messages[0] and "blocked" in messages[0], messages
"""
    succeeds(CALL.format(before="", after=after), **AS_USUAL, PATH="", CXX=None, ATTNC_CXX=None)


def test_with_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "_warned", set())
    q = torch.randn(1, 1, 4, 8)
    attend = attnc.loads("pattern near = abs(q - k) <= 5").near()
    with settings.override(backend="auto", interpret=False, cxx="no-such-compiler"):
        with pytest.warns(RuntimeWarning, match="no-such-compiler.*blocked") as caught:
            out = [attend(q, q, q) for _ in range(2)]
        assert len(caught) == 1
    torch.testing.assert_close(out, [attend.reference(q, q, q)] * 2)


def test_insisting_on_a_compiler_that_is_not_there() -> None:
    q = torch.zeros(1, 1, 4, 8)
    attend = attnc.loads("pattern near = abs(q - k) <= 5").near()
    with (
        settings.override(backend="cpp", cxx="no-such-compiler"),
        pytest.raises(NoCompilerError, match="no-such-compiler"),
    ):
        attend(q, q, q)


@needs_compiler
def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_warned", set())
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    q = torch.randn(1, 1, 4, 8)
    attend = attnc.loads("pattern homeless = k <= q and (q - k) % 5 != 3").homeless()
    with settings.override(backend="cpp", optimisation=0, cache=True, cache_dir=None):
        with pytest.warns(RuntimeWarning, match="cannot be used") as caught:
            out = [attend(q, q, q) for _ in range(2)]
        assert len(caught) == 1
    torch.testing.assert_close(out, [attend.reference(q, q, q)] * 2)
