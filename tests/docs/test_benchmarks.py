"""What the benchmarks compare with computes what they say it does; figures are made from times as they must be."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import attnc
from tests.support.shipped_files import EVERY_KIND

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIZE, LENGTH, HEADS, HEAD_DIM = 64, 256, 2, 8


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    """The script as it is when it is run: its own folder comes first on the path."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
            import cpu_window
        yield cpu_window
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("rival", ["blocked 32", "blocked 64", "dense", "hugging face"])
def test_a_rival_computes_the_window(benchmark: ModuleType, rival: str) -> None:
    rivals = {
        "blocked 32": lambda: benchmark.BlockedSDPA(LENGTH, SIZE // 2, SIZE // 2, 32),
        "blocked 64": lambda: benchmark.BlockedSDPA(LENGTH, SIZE // 2, SIZE // 2, 64),
        "dense": lambda: benchmark.DenseSDPA(LENGTH, SIZE // 2, SIZE // 2),
        "hugging face": lambda: benchmark.HuggingFace(HEADS, HEAD_DIM, SIZE),
    }
    torch.manual_seed(0)
    inputs = [torch.randn(1, HEADS, LENGTH, HEAD_DIM, requires_grad=True) for _ in range(3)]
    gradient = torch.randn(1, HEADS, LENGTH, HEAD_DIM)
    expected = attnc.load("window").window(size=SIZE).reference(*inputs)
    got = rivals[rival]()(*inputs)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    wanted = torch.autograd.grad(expected, inputs, gradient)
    torch.testing.assert_close(torch.autograd.grad(got, inputs, gradient), wanted, atol=1e-5, rtol=0)


def test_times_become_rows_and_a_file(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import _timing

    times = {
        benchmark.LIMIT: _timing.Times([0.1]),
        benchmark.ATTNC: _timing.Times([0.2, 0.4, 0.3], [1.0]),
        "other": _timing.Times([0.6]),
    }
    rows = benchmark.rows(1024, times)
    assert [(row.direction, row.name) for row in rows] == [
        ("forward", benchmark.ATTNC),
        ("forward", "other"),
        ("backward", benchmark.ATTNC),
    ]
    pairs = 12 * (1024 * 513 - 256 * 257)
    assert rows[0].share == pytest.approx(4 * 64 * pairs / 0.3 / (2 * 2048**3 / 0.1))
    assert rows[1].slower == pytest.approx(2)
    monkeypatch.setattr(_timing, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "measure", lambda n, rounds: rows)
    benchmark.main(lengths=(1024,), rounds=1)
    assert "other" in capsys.readouterr().out
    assert json.loads((tmp_path / "cpu_window.json").read_text())["rows"][1]["slower"] == pytest.approx(2)


def test_contestants_take_turns() -> None:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from _timing import Contestant, fastest, interleave
    finally:
        sys.path.remove(str(BENCHMARKS))
    calls: list[str] = []

    def slow() -> Any:
        calls.append("slow")
        torch.randn(1000, 1000).sort()
        return x * 2

    def quick() -> Any:
        calls.append("quick")
        return x * 2

    x = torch.randn(3, requires_grad=True)
    both = [Contestant("slow", slow, (x,)), Contestant("quick", quick)]
    times = interleave(both, torch.ones(3), 2, "turns")
    assert calls == ["slow", "quick"] * 3
    assert [len(times["slow"].forward), len(times["slow"].backward), len(times["quick"].backward)] == [2, 2, 0]
    assert fastest(both, torch.ones(3), "turns").name == "quick"


def test_orders_are_measured_by_their_area() -> None:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import cpu_orders
        from _timing import Times
    finally:
        sys.path.remove(str(BENCHMARKS))
    times = {cpu_orders.MEASURE: Times([0.1, 0.2], [1.0, 1.0]), "other": Times([0.2, 0.2], [3.0, 3.0])}
    made = cpu_orders.rows({cpu_orders.MEASURE: 500.0, "other": 1000.0}, times)
    assert [(row.name, row.slower, row.predicted) for row in made if row.direction == "forward"] == [
        (cpu_orders.MEASURE, 1.0, 1.0),
        ("other", pytest.approx(1.5), pytest.approx(0.75)),
    ]
    assert made[-1].predicted == pytest.approx(1.5)
    named = cpu_orders.attentions(4096)
    counted = [int(attend.mask(4096)[0, 2048].sum()) for attend in named.values()]
    assert counted[0] == counted[1] == 513, "the dilated window keeps as many keys"


def test_the_start_of_commands_is_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import start

    chosen = {name: start.COMMANDS[name] for name in ("python, nothing", "attnc --version")}
    monkeypatch.setattr(start, "COMMANDS", chosen)
    start.main(["--rounds", "2", "--output", str(tmp_path / "start.json")])
    rows = json.loads((tmp_path / "start.json").read_text())["commands"]
    assert [(row["command"], len(row["seconds"])) for row in rows] == [(name, 2) for name in chosen]
    assert all(min(row["seconds"]) <= row["median"] <= max(row["seconds"]) for row in rows)
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == list(chosen)
    with pytest.raises(subprocess.CalledProcessError):
        start.seconds(("-c", start.MAIN, "explain", "nothing-of-the-kind"))


def test_the_figures_of_the_start_are_of_all_its_commands() -> None:
    rows = json.loads((BENCHMARKS / "results" / "start.json").read_text())["commands"]
    source = (BENCHMARKS / "start.py").read_text()
    assert len(rows) == source.count('("-c", ')


def test_first_calls_are_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import first_call

    monkeypatch.setattr(first_call, "PATTERNS", {"longformer": first_call.PATTERNS["longformer"]})
    first_call.main(["--rounds", "1", "--output", str(tmp_path / "first_call.json")])
    rows = json.loads((tmp_path / "first_call.json").read_text())["rows"]
    assert [(row["kind"], tuple(row["seconds"])) for row in rows] == list(first_call.COLUMNS.items())
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["longformer", kind] for kind in first_call.KINDS
    ]


def test_dense_masks_are_measured_in_processes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mask

    named = {(shipped.file, shipped.name) for shipped in mask.SHIPPED}
    assert {file for file, _ in named} == EVERY_KIND | {"std"}
    monkeypatch.setattr(mask, "SHIPPED", mask.SHIPPED[1:2])
    monkeypatch.setattr(mask, "N", 256)
    found = mask.child(0, 2)
    assert found["result"] == 256 * 256
    assert len(found["seconds"]) == 2
    row = mask.Row("causal", 256 * 256, 2**17, 2.0, 0.5, 0.4, tuple(found["seconds"]), found["filling"])
    monkeypatch.setattr(mask, "measured", lambda number, rounds: row)
    mask.main(["--rounds", "2", "--output", str(tmp_path / "mask.json")])
    (kept,) = json.loads((tmp_path / "mask.json").read_text())["rows"]
    assert (kept["share"], kept["all_seconds"]) == (2.0, found["seconds"])
    assert "causal" in capsys.readouterr().out


def test_a_dense_mask_takes_at_most_three_times_its_memory() -> None:
    """The figures that are kept; the peak of one process, measured now."""
    rows = json.loads((BENCHMARKS / "results" / "mask.json").read_text())["rows"]
    assert max(row["share"] for row in rows) <= 3
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "mask.py"), "--child", "3", "--rounds", "1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["result"] == 8192 * 8192
    assert found["peak"] <= 3 * found["result"]
