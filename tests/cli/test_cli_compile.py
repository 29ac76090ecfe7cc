"""`attnc compile`: the files of each function, for a GPU that is not here and for this machine's processor."""

from __future__ import annotations

import ast
import ctypes
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import attnc
from attnc.cli import main
from attnc.compiler import pipeline
from attnc.compiler.ir import Attention
from attnc.compiler.plan import BF16, Specialisation, usual
from attnc.runtime.backends import BACKENDS
from attnc.runtime.base import CompiledFunction
from attnc.runtime.base.build_count import built
from attnc.runtime.base.configuration import settings
from attnc.runtime.cpp import CPP
from attnc.runtime.triton import TRITON

MODEL = """\
pattern near = causal_window(8)
model three { layers = 3  heads = 2  layer * = near  layer 1 { head 0 = causal  head 1 = near } }
"""


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    code = main.run(["compile", *arguments])
    return code, *capsys.readouterr()


def definitions(text: str) -> dict[str, str]:
    """The kernels of a Triton module by name, without its helpers."""
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.unparse(node) for node in found if not node.name.startswith("_")}


def test_for_a_gpu_that_is_not_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    options = ("--target", "sm_90", "--dtype", "bf16", "--head-dim", "16", "--value-dim", "32")
    code, out, err = ended(capsys, "full", *options, "-o", str(tmp_path))
    assert code == 0, err
    names = ["forward_0", "backward_keys_0_0", "delta", "backward_queries_0"]
    whole, split = ["decoding_0", "decoding_0_packed"], ["decoding_0_split", "decoding_0_split_packed"]
    merges = ["merge_0_split", "merge_0_split_packed"]
    decoding = [*whole, *(name for both in zip(split, merges, strict=True) for name in both)]
    assert [line.split()[0] for line in out.splitlines()] == ["function", *names, *decoding]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{ending}" for name in (*names, *decoding) for ending in ("py", "ptx", "cubin", "json")
    }
    from attnc.runtime.triton.ahead_of_time import of_passes

    passes = of_passes(attnc.load("full").full()._bound, usual((), BF16, 16, value_dim=32), "sm_90")
    by_pointers = [(program, replace(variant, described=None)) for program, variant in passes]
    texts = [pipeline.source(program, TRITON.render, variant).text for program, variant in by_pointers]
    whole = {name: text for source in texts for name, text in definitions(source).items()}
    assert list(whole) == names
    steps = dict(zip(names, [(128, 128), (32, 64), (128, None), (128, 64)], strict=True))
    for name in names:
        facts = json.loads((tmp_path / f"{name}.json").read_text())
        assert facts["function"] == name
        assert name.startswith(facts["pass"])
        assert (facts["target"], facts["dtype"], facts["head_dim"], facts["value_dim"]) == ("sm_90", "bf16", 16, 32)
        assert (facts["rows"], facts["keys"]) == steps[name]
        assert [part["keys"] for part in facts["segments"]] == ([] if name == "delta" else ["natural"])
        assembly = (tmp_path / f"{name}.ptx").read_text()
        assert f".visible .entry {name}(" in assembly
        assert f".reqntid {32 * facts['num_warps']}" in assembly
        assert assembly.count(".param .u64 .ptr .global") >= sum(p["type"][0] == "*" for p in facts["parameters"])
        binary = (tmp_path / f"{name}.cubin").read_bytes()
        assert binary.startswith(b"\x7fELF")
        assert b"attnc_kernels" not in binary, "it names no file of the process that compiled it"
        assert definitions((tmp_path / f"{name}.py").read_text()) == {name: whole[name]}
        if facts["registers"] is None:
            pytest.skip("cuobjdump of Triton's wheel does not run here: registers and spills are unknown")
        assert 0 < facts["registers"] <= 255
        assert facts["spills"] == 0
        assert facts["shared"] > 0


def test_decoding_is_compiled_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    code, _, err = ended(
        capsys, "causal", "--target", "sm_80", "--dtype", "fp16", "--head-dim", "64", "-o", str(tmp_path)
    )
    assert code == 0, err
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    for name, split, packed in (
        ("decoding_0", False, False), ("decoding_0_split", True, False), ("decoding_0_split_packed", True, True)
    ):  # fmt: skip
        facts = found[name]
        assert (facts["function"], facts["pass"], facts["split"], facts["packed"]) == (
            "forward_0",
            "decoding",
            split,
            packed,
        )
        assert (facts["rows"], facts["keys"], facts["num_warps"], facts["num_stages"]) == (16, 64, 4, 3)
        assert facts["spills"] in (0, None)
        assert ".visible .entry forward_0(" in (tmp_path / f"{name}.ptx").read_text()
        assert "start_step" in {parameter["name"].rstrip("0") for parameter in facts["parameters"]}
    assert found["merge_0_split"]["pass"] == "merge"
    assert "split" not in found["forward_0"]


def test_for_this_processor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(
        capsys, "window", "--set", "size=8", "--target", "cpu", "--head-dim", "16", "-o", str(tmp_path / "made")
    )
    if code and "no C++ compiler" in err:
        pytest.skip("no C++ compiler is here")
    assert code == 0, err
    folder = tmp_path / "made"
    for name in ("forward", "backward", "decoding"):
        facts = json.loads((folder / f"{name}.json").read_text())
        assert (facts["function"], facts["pass"], facts["target"], facts["value_dim"]) == (name, name, "cpu", 16)
        assert facts["segments"] == [{"kernel": 0, "keys": "natural", "tile": 64}]
        assert facts["numbers"] == [4]
        assert (facts["rows"], facts["keys"]) == (16 if name == "decoding" else 64, 64)
        assert "registers" not in facts
        passed = name.replace("decoding", "forward")
        assert hasattr(ctypes.CDLL(str(folder / f"{name}.so")), passed)
        text = (folder / f"{name}.cpp").read_text()
        assert name == "decoding" or text in attnc.load("window").window(size=8).source("cpu", head_dim=16)
        for header in re.findall('#include "(.+)"', text):
            assert (folder / header).is_file()
        assert re.search(rf"^{name} +- +- +- +[\d,]{{5,}}$", out, re.MULTILINE)


def test_calls_find_what_was_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Forward, backward and decoding, of patterns with and without tables: none builds anything."""
    with settings.override(cache_dir=tmp_path / "cache", cache=True, backend="auto"):
        for name, tables, functions in (
            ("window", {}, ["forward", "backward", "decoding"]),
            ("longformer", {"g": [3]}, ["forward", "backward", "decoding"]),
            ("documents", {"doc": torch.arange(200) // 30}, ["forward", "backward"]),
        ):
            size = () if name == "documents" else ("--set", "size=12")
            code, out, err = ended(
                capsys, name, *size, "--target", "cpu", "--head-dim", "8", "-o", str(tmp_path / name)
            )
            if code and "no C++ compiler" in err:
                pytest.skip("no C++ compiler is here")
            assert code == 0, err
            assert [line.split()[0] for line in out.splitlines()] == ["function", *functions]
            before = built()
            attend = attnc.load(name)[name](**({"size": 12} if size else {}))
            q, k, v = (torch.randn(1, 2, 200, 8, requires_grad=True) for _ in range(3))
            attend(q, k, v, **tables).sum().backward()
            attend(q.detach()[:, :, -1:], k.detach(), v.detach(), q_start=199, **tables)
            assert built() == before, name


def test_each_attention_of_a_model_that_differs_has_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attentions: list[Attention] = []

    def compiled(
        attention: Attention, _heads: int | None, _kind: Specialisation, _target: str
    ) -> Iterator[CompiledFunction]:
        attentions.append(attention)
        yield CompiledFunction("forward", "forward.so", {"forward.so": b"x"}, {"pass": "forward"})

    monkeypatch.setitem(BACKENDS, "cpp", replace(CPP, compile_ahead=compiled))
    (tmp_path / "three.attn").write_text(MODEL)
    given = (str(tmp_path / "three.attn:three"), "--target", "cpu", "-o", str(tmp_path / "made"))
    code, out, err = ended(capsys, *given)
    assert code == 0, err
    layers = {path.parent.name: json.loads(path.read_text())["layers"] for path in tmp_path.rglob("forward.json")}
    assert layers == {"layer_0": [0, 2], "layer_1": [1]}
    assert "layer_1/forward" in out
    assert attentions[0].mask != attentions[1].mask
    assert ended(capsys, *given, "--layer", "2")[0] == 0
    assert json.loads((tmp_path / "made" / "layer_2" / "forward.json").read_text())["layers"] == [2]
    assert ended(capsys, *given, "--layer", "3")[0] == 2
    assert "three has 2 heads, not 4" in ended(capsys, *given, "--heads", "4")[2]


@pytest.mark.parametrize(
    ("target", "dtype", "code", "words"),
    [
        ("h100", "bf16", 2, "--target: is 'h100', expected cpu, or a GPU's architecture such as sm_90 or gfx942"),
        ("sm_42", "fp32", 1, "cannot compile for sm_42 in fp32"),
        ("gfx942", "fp64", 1, "cannot compile for gfx942 in fp64"),
    ],
)
def test_a_target_that_cannot_be_compiled_for(
    target: str, dtype: str, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton")
    given, out, err = ended(capsys, "full", "--target", target, "--dtype", dtype, "-o", str(tmp_path / "made"))
    assert (given, out) == (code, "")
    assert words in err
    assert not (tmp_path / "made").exists()


def test_a_target_that_is_tried_first() -> None:
    pytest.importorskip("triton")
    from attnc.runtime.triton.ahead_of_time import _require_target

    _require_target("sm_89", BF16)  # no error: the trial itself works


def test_a_failing_compiler_leaves_no_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNC_CXX", "./nowhere")
    code, out, err = ended(capsys, "full", "--target", "cpu", "-o", str(tmp_path))
    assert (code, out) == (1, "")
    assert "--target cpu: the C++ compiler './nowhere', named by the setting cxx, is not on PATH" in err
    assert list(tmp_path.iterdir()) == []
