"""Building C++ kernels: which compiler, what enters the key, what happens without OpenMP or without a compiler."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import attnc
from attnc.compiler.codegen.cpp.render import CppVariant, Pass, render_cpp
from attnc.compiler.codegen.lifting import lift_constants
from attnc.compiler.codegen.source import KernelSource
from attnc.compiler.ir.constructors import rename_tables
from attnc.compiler.plan.dtypes import BF16, FP32, usual
from attnc.compiler.plan.programs import Program
from attnc.runtime.base import cache
from attnc.runtime.base.configuration import settings
from attnc.runtime.cpp import build, executor
from tests.support.cpp_patterns import PATTERNS
from tests.support.oracles.dense_formula import Shape, launch, natural_program

VARIANT = CppVariant("forward", 8, 8, FP32, False, False, ())
DIRECTIONS: tuple[Pass, ...] = ("forward", "backward")


def program(name: str, tile: int = 16, called: str = "") -> Program:
    """The program of a pattern, its tables called something else in the text if wanted."""
    pattern = PATTERNS[name]
    names = {table.name: f"{called}{table.name}" for table in pattern.tables}
    renamed = replace(
        pattern,
        mask=rename_tables(pattern.mask, names),
        score=rename_tables(pattern.score, names),
        sink=None if pattern.sink is None else rename_tables(pattern.sink, names),
        tables=tuple(replace(table, name=names[table.name]) for table in pattern.tables),
    )
    return lift_constants(natural_program(renamed, (tile, tile))).program


def text(name: str, variant: CppVariant = VARIANT, tile: int = 16, called: str = "") -> str:
    kernel = program(name, tile, called)
    return render_cpp(kernel, replace(variant, elements=usual(kernel.tables, FP32, 8).tables)).text


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with settings.override(cache_dir=tmp_path_factory.mktemp("cache"), optimisation=1, cxx=None):
        yield


def script(folder: Path, name: str, lines: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(0o700)
    return path


def test_same_structure_same_text_and_different_structures_differ() -> None:
    texts = [text(name) for name in PATTERNS]
    assert texts == [text(name) for name in PATTERNS]
    assert len(set(texts)) == len(texts)
    variants = [
        VARIANT, replace(VARIANT, direction="backward"), replace(VARIANT, head_dim=9), replace(VARIANT, value_dim=9),
        replace(VARIANT, storage=BF16), replace(VARIANT, wide=True), replace(VARIANT, dropout=True),
        replace(VARIANT, counting=True),
    ]  # fmt: skip
    assert len({text("window", variant) for variant in variants} | {text("window", tile=32)}) == len(variants) + 1


@pytest.mark.parametrize("called", ["x*/ int main() {", "{{ 7 * 7 }}", "\n#include "])
def test_no_word_of_the_text_reaches_a_kernel(called: str) -> None:
    for name in PATTERNS:
        for direction in DIRECTIONS:
            variant = replace(VARIANT, direction=direction)
            assert text(name, variant, called=called) == text(name, variant)


def test_the_key_holds_all_that_the_bytes_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    source, using = render_cpp(program("window"), VARIANT), build.compiler()
    keys = {
        build.cache_key(source, using),
        build.cache_key(KernelSource("cpp", source.text + "\n"), using),
        build.cache_key(KernelSource("other", source.text), using),
        build.cache_key(source, replace(using, flags=(*using.flags, "-g"))),
        build.cache_key(source, replace(using, command=("other",))),
        build.cache_key(source, replace(using, identity=using.identity + "1")),
    }
    with settings.override(optimisation=2):
        keys.add(build.cache_key(source, build.compiler()))
    headers = build.headers()
    name, text = next(iter(headers.items()))
    rest = {other: held for other, held in headers.items() if other != name}
    for changed in ({**headers, name: f"{text}\n"}, {**rest, f"other_{name}": text}, rest):
        monkeypatch.setattr(build, "headers", lambda changed=changed: changed)
        keys.add(build.cache_key(source, using))
    monkeypatch.undo()
    own = build._process_has_openmp()
    monkeypatch.setattr(build, "_process_has_openmp", lambda: not own)  # decides what it is linked with
    keys.add(build.cache_key(source, using))
    assert len(keys) == 11
    assert all(len(key) == 64 for key in keys)


def test_the_identity_holds_version_and_instruction_sets() -> None:
    using = build.compiler()
    assert "__VERSION__" in using.identity
    assert "-march=native" in using.flags
    assert not any("fast-math" in flag for flag in using.flags)
    assert any(name in using.identity for name in ("__AVX2__", "__SSE2__", "__ARM_NEON"))


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.NoCompilerError, match=r"no C\+\+ compiler.*c\+\+, g\+\+, clang\+\+"):
        build.compiler()


@pytest.mark.parametrize("named", ["no-such-compiler -m64", " ", "'unclosed"])
def test_a_named_compiler_that_is_not_there(named: str) -> None:
    with settings.override(cxx=named), pytest.raises(build.NoCompilerError, match="setting cxx"):
        build.compiler()


def test_a_named_program_that_is_no_compiler(tmp_path: Path) -> None:
    fake = script(tmp_path, "fake", "echo 'no input' >&2; exit 1")
    with (
        settings.override(cxx=str(fake)),
        pytest.raises(build.NoCompilerError, match=r"is no C\+\+ compiler.*no input"),
    ):
        build.compiler()
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0not a program")
    broken.chmod(0o700)
    with settings.override(cxx=str(broken)), pytest.raises(build.NoCompilerError, match="cannot be run"):
        build.compiler()


def test_cxx_is_honoured_with_its_arguments(tmp_path: Path) -> None:
    log = tmp_path / "log"
    logging = script(tmp_path, "logging", f'echo "$@" >> "{log}"\nexec "{shutil.which("c++")}" "$@"')
    with settings.override(cxx=f"'{logging}' -DATTNC_TEST"):
        run_once()
    lines = log.read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("-DATTNC_TEST") for line in lines)
    assert any("kernel.cpp" in line and "-O1" in line for line in lines)


def run_once() -> torch.Tensor:
    shape = Shape(40, 40, heads=2, kv_heads=2)
    qkv = [torch.randn(1, 2, 40, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    return executor.forward(launch(PATTERNS["causal"], shape, qkv, {}, torch.ones(2)))[0]


WITHOUT_OPENMP = """for word in "$@"; do case "$word" in -fopenmp*) echo "unknown option $word" >&2; exit 1;; esac; done
exec "{cxx}" "$@" """
WITHOUT_ITS_LIBRARY = """for word in "$@"; do case "$word" in
-shared) linking=1;; -fopenmp*) openmp=1;; -c) compiling=1;; esac; done
if [ "$openmp" ] && [ "$compiling" ]; then echo "cannot find omp.h" >&2; exit 1; fi
exec "{cxx}" "$@" """


@pytest.mark.parametrize("lines", [WITHOUT_OPENMP, WITHOUT_ITS_LIBRARY])
def test_a_compiler_without_openmp_builds_for_one_thread(
    lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_once()
    monkeypatch.setattr(build, "_warned", False)
    plain = script(tmp_path, "plain", lines.format(cxx=shutil.which("c++")))
    with settings.override(cxx=str(plain)):
        with pytest.warns(UserWarning, match="one thread"):
            assert torch.equal(run_once(), expected)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shape = Shape(40, 40, heads=2, kv_heads=2)
            qkv = [torch.zeros(1, 2, 40, 8)] * 3
            executor.forward(
                launch(PATTERNS["window"], shape, qkv, {}, torch.ones(2))
            )  # another kernel, no other warning


def test_a_kernel_that_does_not_compile() -> None:
    with pytest.raises(build.BuildError, match="expected") as caught:
        build.build(KernelSource("cpp", "int broken("), build.compiler())
    assert len(str(caught.value)) < 10_000


def test_each_library_is_its_own() -> None:
    using = build.compiler()
    libraries = [
        build.load(build.build(KernelSource("cpp", f'extern "C" int answer() {{ return {number}; }}'), using))
        for number in range(5)
    ]
    assert [library.answer() for library in libraries] == list(range(5))


def test_what_is_no_library_is_refused() -> None:
    with pytest.raises(OSError, match=r"file too short|invalid ELF|slice is not valid"):
        build.load(b"not a library")


def test_no_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_entry", lambda *_: lambda _: 1)
    with pytest.raises(MemoryError, match="forward"):
        run_once()


def test_twelve_layers_with_twelve_windows_are_two_entries_on_disk() -> None:
    """Windows, and the tokens that are global, are arguments of one forward and one backward kernel."""
    module = attnc.load("longformer")
    q = torch.randn(1, 2, 80, 8, requires_grad=True)
    executor._entry.cache_clear()
    for layer in range(12):
        attend, g = module.longformer(size=2 * layer + 8), torch.tensor([0, layer])
        out = attend(q, q, q, g=g)
        torch.testing.assert_close(out, attend.reference(q, q, q, g=g), atol=1e-5, rtol=0)
        out.sum().backward()
    assert cache.usage().entries == 2
