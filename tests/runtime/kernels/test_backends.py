"""The registry of backends: what each record says and can do, which one runs a call, and what adding one takes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import attnc
from attnc.compiler.plan.dtypes import FLOATS, FP32, DType, usual
from attnc.inspection.errors import InputError
from attnc.inspection.launch_view import LaunchSizes, prepare
from attnc.inspection.subject import find
from attnc.measuring.requests import request
from attnc.runtime import backends, fallback
from attnc.runtime.backends import BACKENDS, backend, backend_for, backend_of_target, devices, targets
from attnc.runtime.base.backend import Backend, Targets, Unavailable
from attnc.runtime.base.configuration import BackendChoice, settings
from attnc.runtime.base.torch_dtypes import torch_dtype
from attnc.runtime.cpp.backend import CPP
from attnc.runtime.eager.backend import BLOCKED
from attnc.runtime.triton.backend import INTERPRETER, TRITON
from attnc.source import sources
from tests.runtime.kernels.test_without import needs_compiler

ROOT = Path(__file__).parents[3]
NEAR = attnc.loads("pattern near(g: tokens) = abs(q - k) <= 5 or k in g").near()
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_there_are_four() -> None:
    assert list(BACKENDS) == ["cpp", "triton", "interpreter", "blocked"]
    assert [backend(name) for name in BACKENDS] == [CPP, TRITON, INTERPRETER, BLOCKED]
    with pytest.raises(FrozenInstanceError):
        CPP.name = "other"  # type: ignore[misc]


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="backend: is 'metal', expected one of cpp, triton, interpreter, blocked"):
        backend("metal")


def test_the_setting_takes_every_backend_but_the_one_that_another_setting_chooses() -> None:
    assert set(get_args(BackendChoice)) == {"auto", *BACKENDS} - {INTERPRETER.name}


def test_records_load_nothing() -> None:
    code = (
        "import sys; from attnc.runtime import backends; assert len(backends.BACKENDS) == 4;"
        "loaded = {'torch', 'triton', 'numpy', 'jinja2'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("each", BACKENDS.values(), ids=lambda each: each.name)
def test_every_function_of_a_record_is_there(each: Backend) -> None:
    """They are named, and imported when they are called: here is seen that the names are right."""
    if each in (TRITON, INTERPRETER):
        pytest.importorskip("triton")
    functions = [its for field in fields(each) if callable(its := getattr(each, field.name))]
    assert len(functions) == 12
    for function in functions:
        assert callable(getattr(import_module(function.__module__), function.__name__))


@pytest.mark.parametrize("each", [CPP, BLOCKED], ids=lambda each: each.name)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_a_backend_runs_the_dtypes_that_it_names(each: Backend, dtype: DType) -> None:
    if each is CPP:
        _skip_without_compiler()
    assert dtype in each.dtypes
    q = torch.randn(1, 1, 20, 8).to(torch_dtype(dtype))
    with settings.override(backend=each.name, interpret=False, optimisation=0):
        out = NEAR(q, q, q, g={0})
    assert out.dtype == q.dtype
    torch.testing.assert_close(out, NEAR.reference(q, q, q, g={0}))


def _skip_without_compiler() -> None:
    try:
        CPP.require(CPU)
    except Unavailable as error:
        pytest.skip(str(error))


@needs_compiler
@pytest.mark.parametrize("each", [each for each in BACKENDS.values() if each.targets.examples], ids=lambda x: x.name)
def test_what_is_rendered_for_the_variants_is_built(each: Backend) -> None:
    if each is TRITON:
        pytest.importorskip("triton")
    made = sources(NEAR._bound, usual(NEAR._bound.tables, FP32, 8), each.targets.examples[0])
    assert len({source.text for source in made}) == len(made) > 0
    with settings.override(optimisation=0):
        assert all(each.build(source) is not None for source in made)


def test_a_backend_without_kernels_renders_none() -> None:
    assert BLOCKED.variants(usual((), FP32, 8), "") == ()
    with pytest.raises(TypeError, match="no kernels of its own"):
        BLOCKED.render(None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", targets())
def test_every_target_on_offer_has_its_backend(target: str) -> None:
    assert backend_of_target(target) is (CPP if target == "cpu" else TRITON)


@pytest.mark.parametrize("target", ["", "sm_9", "sm_090", "sm_90a", "gfx9", "gfx94z", "cuda", "CPU", "cpu "])
def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="expected cpu, or a GPU's architecture such as sm_90 or gfx942"):
        backend_of_target(target)


@pytest.mark.parametrize("target", [90, None, b"sm_90", ("sm_90",), ["sm_90"], torch.device("cpu")])
def test_a_target_that_is_no_string_is_refused(target: Any) -> None:
    said = f"target: is {type(target).__name__}, expected a string such as 'cpu' or 'sm_90'"
    with pytest.raises(TypeError, match=re.escape(said)):
        backend_of_target(target)
    with pytest.raises(TypeError, match=re.escape(said)):
        attnc.load("causal").causal().plan(64, target=target)
    with pytest.raises(TypeError, match=re.escape(said)):
        attnc.load("causal").causal().source(target)


# Which one runs a call


def test_the_device_chooses_unless_a_setting_does() -> None:
    with settings.override(backend="auto", interpret=False):
        assert backend_for(CPU, 0) is BLOCKED
        assert backend_for(CPU, 8).name == "cpp"
        if (found := backend_for(GPU, 8)) is not BLOCKED:  # triton is installed
            assert found is TRITON
    with settings.override(backend="blocked", interpret=True):
        assert backend_for(GPU, 8) is BLOCKED
    with (
        settings.override(backend="cpp", interpret=False),
        pytest.raises(ValueError, match="q: is on cuda, and the setting backend is cpp, which runs CPU tensors only"),
    ):
        backend_for(GPU, 8)


@needs_compiler
def test_who_insists_gets_the_record_itself() -> None:
    with settings.override(backend="cpp", interpret=False):
        assert backend_for(CPU, 8) is CPP
    with settings.override(backend="auto", interpret=False):
        assert backend_for(CPU, 8) is fallback.cpp_or_blocked.backend


def test_what_is_missing_is_told_once_and_the_blocked_executor_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def require(_: torch.device) -> None:
        raise Unavailable("there is none")

    monkeypatch.setattr(fallback, "_warned", set())
    monkeypatch.setitem(BACKENDS, "metal", replace(BLOCKED, name="metal", devices=("mps",), require=require))
    with settings.override(backend="auto", interpret=False):
        with pytest.warns(RuntimeWarning, match="there is none: attnc runs tensors on mps by its blocked") as caught:
            assert [backend_for(torch.device("mps"), 8) for _ in range(2)] == [BLOCKED] * 2
        assert len(caught) == 1


# What adding one takes


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A backend for another device: one entry of the registry, which is all that there is of it."""
    told = Targets(("apple9",), r"apple\d", "an Apple GPU such as apple9")
    made = replace(CPP, name="metal", devices=("mps",), targets=told, require=BLOCKED.require)
    monkeypatch.setitem(backends.BACKENDS, "metal", made)
    return made


def test_a_backend_that_is_added_is_known_everywhere(metal: Backend) -> None:
    with settings.override(backend="auto", interpret=False):
        assert backend_for(torch.device("mps"), 8) is metal
    assert (devices(), targets()[-1]) == (("cpu", "cuda", "mps"), "apple9")
    assert NEAR.source("apple9") == NEAR.source("cpu")
    with pytest.raises(ValueError, match="such as sm_90 or gfx942, or an Apple GPU such as apple9"):
        NEAR.source("apple")
    view = prepare(find("causal"), {}, LaunchSizes(64), "apple9", lambda _: None)
    assert view.pipeline.choices == metal.tiles(FP32, 64, "apple9").forward
    with pytest.raises(InputError, match="--device meta: expected one of cpu, cuda, mps"):
        request(view, "meta", "fp32", 64, False)
    with pytest.raises(ValueError, match="interpreter, blocked, metal"):
        backend("tpu")
