"""The Triton kernels compiled without a device, and the files that they are loaded from."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from attnc.compiler.arrange import arrange
from attnc.compiler.ir import DEFAULT_SCALE, Attention
from attnc.compiler.module import bind, load_shipped
from attnc.compiler.plan import Program
from attnc.compiler.render_triton import render_triton
from attnc.compiler.triton_variant import Variant
from attnc.compiler.source import KernelSource
from attnc.compiler.triton_steps import TILES, make_variant

from .triton_patterns import cases

ROOT = Path(__file__).resolve().parent.parent
# One declaration of each shipped file, with what its parameters need.
SHIPPED: dict[str, tuple[str, dict[str, object]]] = {
    "full": ("full", {}),
    "causal": ("causal", {}),
    "window": ("window", {"size": 512}),
    "longformer": ("longformer", {"dilation": 2}),
    "bigbird": ("bigbird", {}),
    "strided": ("strided", {}),
    "documents": ("causal_documents", {}),
    "prefix_lm": ("prefix_lm", {}),
    "sink_window": ("sink_window", {}),
    "alibi": ("alibi", {}),
    "softcap": ("softcap", {}),
}
ELEMENTS = {"float": "fp32", "int": "i32", "order": "i32", "bool": "u8", "set": "u8"}
SHARED_MEMORY = {"sm_80": 163 * 1024, "sm_90": 227 * 1024}  # bytes that one block may have
TENSOR_CORES = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "gfx942": "v_mfma"}
WALKS = ("forward", "backward_keys", "backward_queries")


def shipped(file: str, dtype: str = "bf16", dim: int = 64) -> tuple[Program, Variant]:
    name, constants = SHIPPED[file]
    attention = bind(load_shipped(file), name, constants)
    assert isinstance(attention, Attention)
    program = arrange(attention, QUERY_TILE, KEY_TILE)
    tables = tuple(ELEMENTS[table.element] for table in program.tables)
    return program, make_variant(dtype, dim, dim, tables)  # type: ignore[arg-type]


def check(file: str, target: str, kernels: tuple[str, ...]) -> None:
    from attnc.runtime.aot import compile_for

    for kernel in compile_for(*shipped(file), target, kernels):
        label = f"{file} {kernel.name} {target}"
        assert kernel.binary, label
        if kernel.name in WALKS:
            assert TENSOR_CORES[target] in kernel.assembly, label
        if kernel.resources is None:
            pytest.skip("cuobjdump of Triton's wheel does not run here: registers and spills are unknown")
        assert kernel.resources.spilled == 0, label
        assert kernel.resources.shared <= SHARED_MEMORY.get(target, 64 * 1024), label


def test_every_shipped_file_is_compiled() -> None:
    files = {path.stem for path in (ROOT / "patterns").glob("*.attn")} - {"std"}
    assert files == set(SHIPPED)


@pytest.mark.parametrize("file", SHIPPED)
def test_compiles_for_sm_90(file: str) -> None:
    check(file, "sm_90", KERNELS if file == "alibi" else WALKS)


@pytest.mark.parametrize(("file", "target"), [("longformer", "sm_80"), ("alibi", "gfx942")])
def test_compiles_for_other_targets(file: str, target: str) -> None:
    check(file, target, WALKS)


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("bias_batched", ("backward_queries",)),  # atomic additions
        ("rows_and_columns_wide", ("backward_keys", "backward_queries")),  # stored sums, 64 bits
        ("sink_rows", ("forward", "delta")),
        ("alibi_dropout", ("forward", "backward_keys")),
        ("scalars", ("forward",)),  # conditions that no position changes
    ],
)
def test_what_shipped_files_do_not_use_compiles(name: str, kernels: tuple[str, ...]) -> None:
    from attnc.runtime.aot import compile_for

    (case,) = (case for case in cases() if case.name == name)
    attention = Attention(name, case.mask, case.score, DEFAULT_SCALE, case.sink, case.tables)
    program = arrange(attention, QUERY_TILE, KEY_TILE)
    tables = tuple(ELEMENTS[table.element] for table in program.tables)
    variant = make_variant("bf16", 64, 64, tables, wide=case.wide, dropout=case.dropout > 0)
    assert all(kernel.binary for kernel in compile_for(program, variant, "sm_90", kernels))


def test_a_target_of_another_form_is_refused() -> None:
    from attnc.runtime.aot import compile_for

    with pytest.raises(ValueError, match="target is 'h100', expected sm_80"):
        compile_for(*shipped("causal"), "h100")


@lru_cache(maxsize=32)
def text(file: str) -> str:
    return render_triton(*shipped(file)).text


def test_other_structures_give_other_text_and_the_same_give_the_same() -> None:
    assert len({text(file) for file in SHIPPED}) == len(SHIPPED)
    assert render_triton(*shipped("alibi")) == render_triton(*shipped("alibi"))
    assert text("causal") != render_triton(*shipped("causal", "fp16")).text


@pytest.mark.parametrize("file", SHIPPED)
def test_kernels_import_triton_alone_and_full_tiles_have_no_mask(file: str) -> None:
    lines = text(file).splitlines()
    assert [line for line in lines if "import" in line] == ["import triton", "import triton.language as tl"]
    branches = text(file).split("== 2:")[1:]
    assert len(branches) == len(WALKS)
    for branch in branches:
        full, partial = branch.split("else:")[:2]
        assert "keep" not in full
        assert "keep" in partial


def test_a_source_is_loaded_once_and_from_a_private_file() -> None:
    from attnc.runtime.triton_modules import load_module

    source = render_triton(*shipped("causal"))
    module = load_module(source)
    assert load_module(source) is module
    path = Path(str(module.__file__))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_text() == source.text
    with pytest.raises(ValueError, match="target is 'cpp', expected 'triton'"):
        load_module(KernelSource("cpp", source.text))


def test_a_file_that_was_changed_is_not_loaded(tmp_path: Path) -> None:
    from attnc.runtime.triton_modules import CheckedLoader

    path = tmp_path / "kernel.py"
    path.write_bytes(b"planted = True\n")
    loader = CheckedLoader(str(path), b"\0" * 32)
    with pytest.raises(ImportError, match="is not the kernel that was written there"):
        loader.get_data(str(path))


def child(text: str, **variables: str) -> str:
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_triton_the_error_says_so() -> None:
    assert "triton is not installed" in child("""
import sys
sys.modules["triton"] = None
try:
    import attnc.runtime.gpu
except ImportError as error:
    print(error)
""")


def test_the_interpreter_asked_for_too_late_is_an_error() -> None:
    assert "counts when it is set before triton is imported" in child("""
import os, triton
os.environ["ATTNC_INTERPRET"] = "1"
try:
    import attnc.runtime.gpu
except ImportError as error:
    print(error)
""")


def test_nothing_is_compiled_in_the_interpreter_and_cpu_tensors_need_it() -> None:
    told = child("""
import os
os.environ["ATTNC_INTERPRET"] = "1"
from tests.test_triton_compile import shipped
from attnc.runtime.aot import compile_for
try:
    compile_for(*shipped("causal"), "sm_90")
except RuntimeError as error:
    print(error)
""")
    assert "runs Triton's interpreter, which compiles nothing" in told
    told = child("""
from tests.triton_cases import cases, inputs, kept_counts, launch_of
from attnc.runtime import gpu
case = cases()[0]
try:
    gpu.forward(launch_of(case, *inputs(case)[:3], kept_counts(case)))
except ValueError as error:
    print(error)
""")
    assert "q: is on the cpu, expected a GPU" in told
