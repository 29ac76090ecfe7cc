"""Judges the benchmark of CPUs: what its rows compute, how figures are made, what it says of missing peers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from attnc.measuring import turns

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("cpu", "_cpu_calls", "_cpu_masks", "_cpu_peers", "_questions", "_rows", "_serving", "_timing", "_plot")
TINY = 256


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    """The modules as they are when the script is run: its own folder comes first on the path."""
    import importlib
    import warnings

    sys.path.insert(0, str(BENCHMARKS))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
            yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def tiny(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, ModuleType]:
    """Rows of few tokens, each call once; results go elsewhere."""
    monkeypatch.setenv("ATTNC_BACKEND", "blocked")
    monkeypatch.setattr(scripts["_cpu_calls"], "CACHE", 600)
    monkeypatch.setattr(scripts["_cpu_calls"], "COPIED", 4096)
    for name in ("_questions", "_cpu_peers"):
        monkeypatch.setattr(scripts[name], "BATCH", 0.0)
        monkeypatch.setattr(scripts[name], "SQUARE", 64)
    monkeypatch.setattr(scripts["_cpu_masks"], "N", TINY)
    monkeypatch.setattr(scripts["_cpu_masks"], "SPARSE_HEADS", 2)
    monkeypatch.setattr(scripts["_timing"], "RESULTS", tmp_path)
    return scripts


def test_a_figure_is_a_ratio_of_its_own_round(scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    module = scripts["_questions"]

    def ours() -> None: ...
    def other() -> None: ...

    taken = {ours: iter([9.0, 9.0, 4.0, 4.0, 1.0]), other: iter([9.0, 9.0, 2.0, 1.0, 4.0])}
    monkeypatch.setattr(turns, "mean_seconds", lambda call, *_: next(taken[call]))
    monkeypatch.setattr(module, "BATCH", 1e-9)
    found = module.measure(module.Question("a", "told", ours, other, 2.5), 3).figures
    assert (found["rounds"], found["figure"]) == ([2.0, 4.0, 0.25], 2.0)
    assert (found["ours_us"], found["other_us"], module.met(found)) == (4e6, 2e6, True)


def test_a_share_is_the_inverse_times_its_factor(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = scripts["_questions"]

    def ours() -> None: ...
    def other() -> None: ...

    monkeypatch.setattr(turns, "mean_seconds", lambda call, *_: 4.0 if call is ours else 2.0)
    found = module.measure(module.Question("b", "", ours, other, 0.6, more=True, factor=0.5), 3).figures
    assert (found["figure"], module.met(found)) == (0.25, False)
    assert module.met({**found, "asked": None})


def test_every_question_can_be_answered_and_is_kept(
    tiny: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Small groups, at toy sizes; a second start makes nothing again, and another word finds nothing."""
    cpu = tiny["cpu"]
    chosen = {name: cpu.GROUPS[name] for name in ("tables", "decode", "sparsity")}
    monkeypatch.setattr(cpu, "GROUPS", chosen)
    monkeypatch.setattr(cpu._cpu_peers, "cells", lambda _: iter(()))
    assert cpu.main(["--rounds", "1"]) == 0
    rows = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    assert [row["group"] for row in rows] == ["tables"] * 3 + ["decode"] * 4 + ["sparsity"] * 12
    assert all(row["figures"]["figure"] > 0 and not row["faults"] for row in rows)
    assert "vertical-slash, clustered, backward" in capsys.readouterr().out
    monkeypatch.setattr(cpu, "measure", lambda *_: pytest.fail("made again"))
    assert cpu.main(["--rounds", "1", "--only", "decode"]) == 0
    assert cpu.main(["--rounds", "1", "--only", "nonsense"]) == 1
    assert "no row has nonsense in its name or group" in capsys.readouterr().err


def test_the_kept_figures_are_of_questions_that_are_there(scripts: dict[str, ModuleType]) -> None:
    rows = json.loads((BENCHMARKS / "results" / "cpu.json").read_text())["rows"]
    assert {row["group"] for row in rows} <= set(scripts["cpu"].GROUPS)
    names = {question.name for question in scripts["_cpu_calls"].small_calls()}
    assert {row["name"] for row in rows if row["group"] == "small"} == names
    masked = {mask.name for mask in scripts["_cpu_masks"].masked()}
    assert {row["name"] for row in rows if row["group"] == "masks"} == masked


@pytest.mark.parametrize("clustered", [False, True])
def test_what_is_chosen_at_run_time_is_what_its_name_says(scripts: dict[str, ModuleType], clustered: bool) -> None:
    """Counted pair by pair: NSA's own block and at most 8 of 64, MoBA's own chunk and 3 earlier ones, lines."""
    masks, n = scripts["_cpu_masks"], 1024
    draw, heads = np.random.default_rng(1), masks.SPARSE_HEADS
    module = masks.attnc.loads(masks.SPARSE)
    at = n - 1
    nsa = module.nsa().mask(n, heads=heads, chosen=masks.nsa_chosen(draw, n, clustered))[:, at]
    blocks = nsa.view(heads, n // 64, 64)
    assert bool((blocks.all(-1) == blocks.any(-1)).all())
    assert set(blocks.any(-1).sum(-1).tolist()) <= {8, 9}
    moba = module.moba().mask(n, heads=heads, chosen=masks.moba_chosen(draw, n, clustered))[:, at]
    assert moba.view(heads, n // 256, 256).any(-1).sum(-1).tolist() == [4] * heads
    lines = masks.lines_chosen(draw, n, clustered)
    assert all(len(set(row)) == 64 for row in lines.tolist())
    runs = (lines.sort(-1).values.diff(dim=-1) == 1).sum(-1)
    assert bool((runs >= 56).all()) == clustered
    own = module.lines().mask(n, heads=heads, vertical=lines, slash=lines)[0, at].nonzero().flatten().tolist()
    assert set(own) == {*lines[0].tolist(), *(at - lines[0]).tolist()}


def test_the_window_beside_it_keeps_as_many_pairs(scripts: dict[str, ModuleType]) -> None:
    masks = scripts["_cpu_masks"]
    for pairs in (300, 5000, 100 * 101 // 2):
        size = masks.window_size(100, pairs)
        counted = [sum(min(row + 1, each) for row in range(100)) for each in (size - 1, size, size + 1)]
        assert abs(counted[1] - pairs) == min(abs(each - pairs) for each in counted)


SMALL = [
    ("causal", 64, torch.float32), ("causal", 64, torch.bfloat16), ("causal window of 512", 768, torch.float32),
    ("window of 513", 1024, torch.float32), ("BigBird", 768, torch.float32), ("BigBird", 1024, torch.float32),
    ("decode, causal", 100, torch.float32), ("decode, window of 4,096", 4200, torch.float32),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "n", "dtype"), SMALL, ids=str)
def test_peers_compute_the_same(
    tiny: dict[str, ModuleType], pattern: str, n: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = tiny["_cpu_peers"]
    monkeypatch.setattr(peers, "FLEX_FROM", 2048)  # it compiles
    found = peers.measure(peers.Cell(pattern, n, 16, dtype, heads=2), 1)
    assert found.faults == ()
    ways = found.figures["ways"]
    assert {name for name, way in ways.items() if not way["forward"]} <= {"FlexAttention", "ONNX Runtime", *SERVING}
    assert all(way["forward"] or way["why"] for way in ways.values())
    decodes = pattern.startswith("decode")
    assert bool(ways["attnc"]["backward"]) != decodes
    assert ways["attnc"]["slower"]["forward"] == 1.0


SERVING = {"OpenVINO", "OpenVINO, dense mask", "OpenVINO, slice of the keys"}


def test_a_peer_that_computes_something_else_is_a_fault(
    tiny: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = tiny["_cpu_peers"]

    def wrong(*_: Any) -> Any:
        return peers.Way(lambda q, k, v: peers.sdpa(q, k, v))

    def broken(*_: Any) -> Any:
        raise TypeError("not so\nand more")

    pattern = peers.Pattern(peers.PATTERNS["causal"].attend, {"wrong": wrong, "broken": broken})
    monkeypatch.setattr(peers, "PATTERNS", {"causal": pattern})
    found = peers.measure(peers.Cell("causal", 64, 16, heads=2), 1)
    (fault,) = found.faults
    assert fault.startswith("wrong differs by ")
    assert found.figures["ways"]["broken"]["why"] == "TypeError: not so"


def test_missing_peers_are_named_with_what_installs_them(
    scripts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = scripts["_serving"]
    monkeypatch.setattr(serving, "find_spec", lambda _: None)
    assert serving.missing() == [
        "ONNX Runtime is not installed: `make bench-peers` installs it",
        "OpenVINO is not installed: `make bench-peers` installs it",
    ]
    assert serving.versions() == {"ONNX Runtime": None, "OpenVINO": None}
    with pytest.raises(serving.MissingPeerError, match="make bench-peers"):
        serving.onnx_attention(*(torch.randn(1, 2, 8, 4) for _ in range(3)), None)


def test_what_serving_peers_refuse(scripts: dict[str, ModuleType]) -> None:
    serving = scripts["_serving"]
    q, k, v = (torch.zeros(1, 2, 8, 4, dtype=torch.bfloat16) for _ in range(3))
    with pytest.raises(serving.PeerRefusesError, match="GroupQueryAttention has no bfloat16 on CPUs"):
        serving.onnx_attention(q, k, v, None)
    long = torch.zeros(1, 1, 1, 1).expand(1, 12, 16384, 64)
    with pytest.raises(serving.PeerRefusesError, match="its scores take 12 GiB"):
        serving.onnx_attention(long, long, long, None)
    mask = torch.ones(1, 1, dtype=torch.bool).expand(1, 32768, 32768)
    with pytest.raises(serving.PeerRefusesError, match="its mask takes 4 GiB"):
        serving.openvino_attention(long, long, long, mask)


def test_standard_cells_come_first_and_none_twice(scripts: dict[str, ModuleType]) -> None:
    peers = scripts["_cpu_peers"]
    standard, full = (list(peers.cells(each)) for each in (False, True))
    assert full[: len(standard)] == standard
    names = [cell.name for cell in full]
    assert len(set(names)) == len(names)
    assert {cell.pattern for cell in standard} == set(peers.PATTERNS)
    assert {(cell.n, cell.dim, cell.kind) for cell in full} >= {
        (n, dim, kind) for n in (1024, 4096, 16384, 65536) for dim in (64, 128) for kind in ("float32", "bfloat16")
    }


def test_the_plot_has_a_line_for_each_way(scripts: dict[str, ModuleType], tmp_path: Path) -> None:
    def row(n: int, shares: dict[str, dict[str, float]]) -> dict[str, Any]:
        ways = {name: {"share": share} for name, share in shares.items()}
        return {"pattern": "causal", "n": n, "dim": 64, "dtype": "float32", "ways": ways}

    rows = [
        row(4096, {"attnc": {"forward": 0.9, "backward": 0.8}, "other": {"forward": 0.3}, "refused": {}}),
        row(1024, {"attnc": {"forward": 0.7, "backward": 0.6}}),
        {**row(1024, {"attnc": {"forward": 0.1}}), "pattern": "decode, causal"},
    ]
    series = scripts["_plot"].series
    title = "causal, d = 64, float32"
    assert series(rows, "forward") == {title: {"attnc": [(1024, 0.7), (4096, 0.9)], "other": [(4096, 0.3)]}}
    assert series(rows, "backward") == {title: {"attnc": [(1024, 0.6), (4096, 0.8)]}}
    if not scripts["_serving"].installed("matplotlib"):
        pytest.skip("matplotlib is not installed: what it draws is not looked at")
    scripts["_plot"].plot(rows, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().count("legend_") == 2
    scripts["_plot"].plot([], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
