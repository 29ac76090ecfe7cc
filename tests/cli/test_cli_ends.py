"""How commands end that cannot do what they were asked: in one line, with the exit code that says whose fault it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnc.cli import main
from tests.support.kept_kernels import forget_kernels

FAULT, WRONG_USE = 1, 2
HEADS = "pattern a = causal and head < 1\nattention b(slope: float[head]) { mask = causal  score = s + slope[head] }\n"
NO_COMPILER = {"ATTNC_BACKEND": "cpp", "ATTNC_CXX": "./nowhere"}
NO_SUCH = {"ATTNC_BACKEND": "cpp", "ATTNC_CXX": "false"}
RUN = ["run", "causal", "--n", "32", "--head-dim", "16"]

# exit code, words of the line, arguments, environment
ENDS: list[tuple[int, str, list[str], dict[str, str]]] = [
    (FAULT, "no C++ compiler: none of c++", RUN, {"ATTNC_BACKEND": "cpp", "PATH": "/nowhere"}),
    (FAULT, "'./nowhere', named by the setting cxx, is not on PATH", RUN, NO_COMPILER),
    (FAULT, "false is no C++ compiler", RUN, NO_SUCH),
    (FAULT, "q: is on the cpu, expected a GPU: set ATTNC_INTERPRET=1", RUN, {"ATTNC_BACKEND": "triton"}),
    (FAULT, "ATTNC_BACKEND is 'gpu'", RUN, {"ATTNC_BACKEND": "gpu"}),
    (FAULT, "--device nonsense", [*RUN, "--device", "nonsense"], {}),
    (FAULT, "--device cuda:9", [*RUN, "--device", "cuda:9"], {}),
    (FAULT, "--device meta: expected one of cpu, cuda", [*RUN, "--device", "meta"], {}),
    (FAULT, "there is no memory for tensors of 1 x 8 x 32 x", [*RUN[:4], "--head-dim", "10000000000000"], {}),
    (FAULT, "there is no file none.attn", ["run", "none.attn"], {}),
    (FAULT, "did you mean causal?", ["run", "casual"], {}),
    (FAULT, "there is no .attn file in empty", ["test", "empty"], {}),
    (FAULT, "there is no error 'nonsense'", ["explain", "nonsense"], {}),
    (FAULT, "--set size:", ["show", "window", "--set", "size=x"], {}),
    (FAULT, "/proc/mask.svg", ["show", "causal", "-o", "/proc/mask.svg"], {}),
    (WRONG_USE, "-o nowhere/mask.png: there is no folder nowhere", ["show", "causal", "-o", "nowhere/mask.png"], {}),
    (WRONG_USE, "-o nowhere/mask.html: there is", ["show", "two.attn:m", "-o", "nowhere/mask.html"], {}),
    (WRONG_USE, "-o two.attn/mask.svg: there is", ["show", "causal", "-o", "two.attn/mask.svg"], {}),
    (WRONG_USE, "causal has heads 0 to 0 here, and 5", ["show", "causal", "--heads", "1", "--head", "5"], {}),
    (WRONG_USE, "b has heads 0 to 0 here", ["show", "two.attn:b", "--set", "slope=[0.5]", "--head", "5"], {}),
    (WRONG_USE, "m has heads 0 to 1 here, and 2", ["show", "two.attn:m", "--head", "2"], {}),
    (WRONG_USE, "m has 2 heads, not 3", ["show", "two.attn:m", "--heads", "3"], {}),
    (WRONG_USE, "m has layers 0 to 1, and 2", ["show", "two.attn:m", "--layer", "2"], {}),
    (WRONG_USE, "causal is no model", ["run", "causal", "--layer", "0"], {}),
    (WRONG_USE, "no query row is left", ["show", "causal", "--n", "8", "--q-start", "8"], {}),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    model = "model m { layers = 2  heads = 2  layer * = causal }\n"
    (tmp_path / "two.attn").write_text(HEADS + model)
    return tmp_path


@pytest.mark.parametrize(("code", "words", "arguments", "environment"), ENDS, ids=lambda value: str(value)[:40])
def test_one_line_and_the_right_code(
    code: int, words: str, arguments: list[str], environment: dict[str, str],
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = main.run(arguments)
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "was not given" not in line and line != "first call"]
    assert (ended, out, len(lines)) == (code, "", 1), err
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert not list(folder.glob("mask*"))


def test_a_compiler_that_refuses_is_no_bug_of_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ATTNC_BACKEND": "cpp", "ATTNC_CXX": "c++ -Dinline=foo", "ATTNC_CACHE": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main.run(RUN) == FAULT
    err = capsys.readouterr().err
    assert "-Dinline=foo" in err
    assert "bug in attnc" not in err
    assert "Traceback" not in err


def test_a_call_that_breaks_inside_is_still_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("nobody thought of this")

    monkeypatch.setattr("attnc.measuring.requests.attend", broken)
    assert main.run(RUN) == 3
    assert "bug in attnc" in capsys.readouterr().err


def test_memory_that_is_not_there_is_no_bug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def large(*_: object) -> None:
        raise MemoryError("Unable to allocate 8.00 TiB")

    monkeypatch.setattr("attnc.pictures.whole_mask.sample_mask", large)
    assert main.run(["show", "causal", "--n", "8"]) == FAULT
    assert capsys.readouterr().err == "error: not enough memory: Unable to allocate 8.00 TiB\n"


def test_a_table_that_does_not_fit_the_call_is_a_fault_of_the_input(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNC_BACKEND", "blocked")
    (folder / "far.attn").write_text("pattern far(t: int[4]) = t[q] <= k\n")
    assert main.run(["run", "far.attn", "--n", "32", "--set", "t=[1, 2, 3, 4]"]) == FAULT
    err = capsys.readouterr().err
    assert "can be 0 to 31, expected 0 to 3" in err
    assert "Traceback" not in err


def test_building_is_spoken_of_only_where_something_was_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> bool:
        forget_kernels()  # as in another process
        assert main.run(["run", "causal", "--n", "16", "--head-dim", "8"]) == 0
        return "building included" in capsys.readouterr().out

    monkeypatch.setenv("ATTNC_CACHE_DIR", str(tmp_path / "kept"))
    assert [told(), told()] == [True, False]  # built; taken from the cache
    monkeypatch.setenv("ATTNC_CACHE", "0")
    assert told()
    monkeypatch.setenv("ATTNC_BACKEND", "blocked")
    assert not told()


def test_triton_counts_what_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")

    from attnc.runtime.base.build_count import built, listen_to_triton

    monkeypatch.setattr(triton.knobs.compilation, "listener", None)
    listen_to_triton()
    before = built()
    for cached in (True, False, False):
        triton.knobs.compilation.listener(src=None, metadata={}, metadata_group={}, times=None, cache_hit=cached)
    assert built() - before == 2


@pytest.mark.parametrize(("files", "summaries"), [(1, 1), (2, 3)])
def test_one_file_has_one_summary(files: int, summaries: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number}.attn" for number in range(files)]
    for name in names:
        (folder / name).write_text("test causal at n = 2 { pairs == 3 }\n")
    assert main.run(["test", *names]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"{files} passed, 0 failed, 0 undecided"
    assert len([line for line in out if "passed" in line]) == summaries
