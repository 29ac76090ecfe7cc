"""`attnc compile --standalone`: the file runs where only torch and triton can be imported, and compiles for sm_90."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from attnc.cli import main
from tests.support import standalone_runs

SCRIPT = Path(standalone_runs.__file__)
TEXT = "pattern dilated = causal_window(16, dilation = 4)\n"
CASES = {
    "causal": ("causal", ()),
    "sink_window": ("sink_window", ("--set", "size=16")),
    "alibi": ("alibi", ()),
    "dilated": ("{folder}/dilated.attn", ()),
    "strided": ("strided", ("--set", "stride=8")),
    "causal_documents": ("documents:causal_documents", ()),
    "longformer": ("longformer", ("--set", "size=16", "--set", "g={0, 5}")),
}


REFUSED = [
    "TypeError q: has dtype torch.float64, expected torch.float32, which these kernels were made for",
    "ValueError k: has shape [1, 1, 8, 8], expected [1, 1, 8, 16]",
    "ValueError q: has 1 heads, expected a multiple of the 2 heads of k",
    "ValueError slope: has shape [3], expected a float tensor [heads] or [batch, …], where heads is 2",
    "TypeError slope: has dtype torch.int32, expected a float tensor [heads] or [batch, …]",
    "ValueError q_start: is -1, expected a position, 0 or more",
    "ValueError q: reaches position 2147483656, expected at most 1073741824: integers have 32 bits",
    "ValueError scale: has shape [3], expected a number or [2], and no gradient",
    "ValueError scale: is nan, expected a finite number",
    "ValueError doc: holds integers beyond 32 bits, which the kernels of this file compute with",
    "TypeError doc: too many dimensions 'str'; expected an integer tensor",
]


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    code = main.run(["compile", *arguments])
    return code, *capsys.readouterr()


def written(folder: Path, capsys: pytest.CaptureFixture[str], name: str, *options: str) -> str:
    """The text of the file for one of the cases, written into a folder."""
    (folder / "dilated.attn").write_text(TEXT)
    subject, settings = CASES[name]
    given = (subject.format(folder=folder), "--target", "sm_90", "--head-dim", "16", *settings, *options)
    code, out, err = ended(capsys, *given, "-o", str(folder), "--standalone")
    assert code == 0, err
    assert Path(out.strip()) == folder / f"{name}.py"
    return (folder / f"{name}.py").read_text()


def in_a_process(*arguments: str, **environment: str) -> str:
    """What the script prints in a fresh process that knows nothing of this one's paths."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ATTNC", "TRITON"))}
    ran = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), *arguments],
        env=kept | environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_files_are_right_where_only_torch_and_triton_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    for name in CASES:
        written(tmp_path, capsys, name)
    names = [*CASES, "dilated_anywhere"]
    said = in_a_process(str(tmp_path), *names, TRITON_INTERPRET="1").splitlines()
    lines = [line for line in said if "Error " not in line]
    assert [line for line in said if line not in lines] == REFUSED
    assert [line.split()[0] for line in lines] == [n for n in names for _ in standalone_runs.formulas()[n].sizes]
    assert all(line.endswith(": right") for line in lines)


def test_the_importer_refuses_attnc(tmp_path: Path) -> None:
    (tmp_path / "causal.py").write_text("import attnc\n")
    with pytest.raises(AssertionError, match="refused: attnc"):
        in_a_process(str(tmp_path), "causal", TRITON_INTERPRET="1")


def test_kernels_of_a_file_compile_for_a_gpu_that_is_not_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton")
    written(tmp_path, capsys, "causal", "--dtype", "bf16", "--dropout")
    lines = in_a_process(str(tmp_path / "causal.py")).splitlines()
    assert lines == ["forward_0 ELF", "backward_keys_0_0 ELF", "delta ELF", "backward_queries_0 ELF"]


def test_a_file_is_written_to_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = written(tmp_path, capsys, "sink_window")
    assert text == written(tmp_path, capsys, "sink_window"), "the same command writes the same bytes"
    assert str(tmp_path) not in text
    tree = ast.parse(text)
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {module.partition(".")[0] for module in modules}
    assert tops - {"__future__", "contextlib", "dataclasses", "functools", "typing"} == {"torch", "triton"}
    said = ast.get_docstring(tree) or ""
    assert "sm_90" in said
    assert "fp32" in said
    assert "size = 16" in said
    assert "16 features" in said
    assert "n² work" not in said, "the window and the sinks are found without a table"
    assert "#     causal and (first(sinks) or causal_window(size))" in text
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(defined) == len(set(defined))
    assert "_tanh" not in defined, "a helper that nobody calls"


def test_a_table_makes_every_tile_count_and_the_file_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "rules no tile out (doc[q] == doc[k])" in written(tmp_path, capsys, "causal_documents")
    given = written(tmp_path, capsys, "longformer")
    assert "k in {0, 5}" in given
    assert "with size = 16, g = {0, 5}" in " ".join(given.split())
    assert "    g: Any" not in given, "contents that are given are no parameter"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("full", "--target", "cpu", "--standalone"), 2, "--standalone writes kernels for a GPU, and --target is cpu"),
        (("full", "--target", "sm_90", "--dropout"), 2, "--dropout is for --standalone"),
        (("full", "--target", "sm_90", "--dtype", "fp64", "--standalone"), 1, "take no fp64"),
        (("{folder}/odd.attn:by_head", "--target", "sm_90", "--standalone"), 1, "as --heads 12"),
        (("{folder}/odd.attn:by_float", "--target", "sm_90", "--standalone"), 1, "compares the floats of age"),
        (
            ("{folder}/odd.attn:listed", "--target", "sm_90", "--standalone"),
            1,
            "the text gives doc one entry for each token",
        ),
    ],
)
def test_what_one_file_cannot_hold(
    options: Sequence[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.attn").write_text(
        "pattern by_head = causal_window(8) if head == 0 else causal\n"
        "pattern by_float(age: float[token]) = age[q] <= age[k]\n"
        "pattern own(doc: int[token]) = doc[q] == doc[k]\n"
        "pattern listed = own([0, 0, 1])\n"
    )
    found, out, err = ended(capsys, *(each.format(folder=tmp_path) for each in options), "-o", str(tmp_path / "made"))
    assert (found, out) == (code, "")
    assert words in err
    assert not (tmp_path / "made").exists()
