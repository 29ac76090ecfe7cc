"""The benchmark of GPUs, rehearsed in the interpreter: it goes on where it was broken off, and tells what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from attnc.compiler.arrange.search import arrange
from attnc.compiler.codegen.triton.functions import function_names, kind_of
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.printer import program as described
from attnc.compiler.plan.tile_choices import PASSES

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _rows

    return _rows


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _gpu_kinds

    return _gpu_kinds


class Work:
    """Rows that note that they were made."""

    def __init__(self, rows: ModuleType) -> None:
        self.rows, self.done = rows, list[str]()

    def row(self, name: str, does: Any = None, telling: int = 1, **settings: Any) -> Any:
        def make() -> Any:
            self.done.append(name)
            if isinstance(does, BaseException):
                raise does
            return self.rows.Found({"value": len(self.done)}, tuple(does or ()))

        return self.rows.Row("toy", name, make, settings, telling)

    def ledger(self, path: Path, device: str = "one") -> Any:
        return self.rows.Ledger(path, {"device": device}, {"commit": "c"})


def test_broken_off_after_a_row_it_goes_on_behind_it(rows: ModuleType, tmp_path: Path) -> None:
    work, path = Work(rows), tmp_path / "toy.json"
    broken = [work.row("first"), work.row("second", KeyboardInterrupt()), work.row("third")]
    with pytest.raises(KeyboardInterrupt):
        rows.make_all(broken, work.ledger(path))
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["first"]
    work.done.clear()
    sound = [work.row("first"), work.row("second"), work.row("third")]
    outcome = rows.make_all(sound, work.ledger(path))
    assert work.done == ["second", "third"]
    assert (outcome.sound, outcome.faulty, outcome.left, outcome.code) == (3, 0, 0, 0)
    assert rows.make_all(sound, work.ledger(path)).code == 0
    assert work.done == ["second", "third"]


def test_rows_of_other_settings_or_another_device_are_made_again(rows: ModuleType, tmp_path: Path) -> None:
    work, path = Work(rows), tmp_path / "toy.json"
    rows.make_all([work.row("first", n=1), work.row("second", n=1)], work.ledger(path))
    rows.make_all([work.row("first", n=2), work.row("second", n=1)], work.ledger(path))
    assert work.done == ["first", "second", "first"]
    other = work.ledger(path, "two")
    assert (other.dropped, other.rows) == (2, {})
    rows.make_all([work.row("second", n=1)], other)
    assert work.done[3:] == ["second"]
    assert json.loads(path.read_text())["of"] == {"device": "two"}


def test_an_error_is_its_rows_and_the_exit_code_tells(rows: ModuleType, tmp_path: Path) -> None:
    work, path = Work(rows), tmp_path / "toy.json"
    asked = [work.row("raises", ValueError("no such thing")), work.row("wrong", ["q differs"]), work.row("sound")]
    outcome = rows.make_all(asked, work.ledger(path))
    assert work.done == ["raises", "wrong", "sound"]
    assert (outcome.sound, outcome.faulty, outcome.code) == (1, 2, 1)
    faults = {row["name"]: row["faults"] for row in json.loads(path.read_text())["rows"]}
    assert faults["raises"][0].startswith("ValueError: no such thing (test_benchmarks_gpu.py:")
    assert (faults["wrong"], faults["sound"]) == (["q differs"], [])
    assert rows.make_all(asked, work.ledger(path)).code == 1, "what was wrong stays wrong, though nothing is made"
    ledger = work.ledger(path)
    ledger.forget_faulty()
    rows.make_all([work.row("raises"), work.row("wrong"), work.row("sound")], ledger)
    assert work.done[3:] == ["raises", "wrong"]


def test_a_lost_device_ends_the_process_and_not_the_measurement(rows: ModuleType, tmp_path: Path) -> None:
    work, path = Work(rows), tmp_path / "toy.json"
    asked = [work.row("loses it", RuntimeError("illegal access")), work.row("next")]
    outcome = rows.make_all(asked, work.ledger(path), usable=lambda: False)
    assert (work.done, outcome.left, outcome.code) == (["loses it"], 1, 1)
    rows.make_all(asked, work.ledger(path))
    assert work.done == ["loses it", "next"]


def test_a_row_that_ends_the_process_twice_is_passed_over(rows: ModuleType, tmp_path: Path) -> None:
    work, path = Work(rows), tmp_path / "toy.json"
    for _ in range(rows.ATTEMPTS):
        work.ledger(path).begin(work.row("ends it"))
    assert rows.make_all([work.row("ends it"), work.row("next")], work.ledger(path)).code == 1
    assert work.done == ["next"]
    (fault,) = work.ledger(path).rows["ends it"].faults
    assert "the process ended 2 times" in fault


def test_within_a_budget_the_most_telling_rows_come_first(rows: ModuleType, tmp_path: Path) -> None:
    work, path = Work(rows), tmp_path / "toy.json"
    asked = [work.row("later", telling=2), work.row("first", telling=0), work.row("second", telling=1)]
    assert rows.make_all(asked, work.ledger(path), budget=10.0).left == 3, "none was made yet: it may take longer"
    ledger = work.ledger(path)
    rows.make_all([work.row("some")], ledger)
    outcome = rows.make_all(asked, ledger, budget=10.0)
    assert (work.done, outcome.code) == (["some", "first", "second", "later"], 0)
    longer = rows.Made("toy", "long", {}, {}, (), 1e6)
    ledger.rows["long"] = longer
    outcome = rows.make_all([*asked, work.row("more")], ledger, budget=10.0)
    assert (outcome.left, outcome.code) == (1, 3)
    assert "more may take 1,000,000 s" in outcome.why


def test_the_file_is_whole_when_writing_fails(
    rows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, path = Work(rows), tmp_path / "toy.json"
    rows.make_all([work.row("first")], work.ledger(path))
    before = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError(28, "no space left on device")

    ledger = work.ledger(path)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="no space left"):
        rows.make_all([work.row("second")], ledger)
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ["toy.json"]


def test_the_kinds_are_what_they_are_called(kinds: ModuleType) -> None:
    """Each kind's program has the orders that it stands for; together they have every function there is."""
    functions = set()
    for kind in kinds.KINDS:
        subject = kinds.attention_of(kind)._bound
        heads, known = kind.sizes(False).heads, range(len(subject.tables))
        if any(isinstance(x, torch.Tensor) for x in kind.tables(kind.sizes(False), torch.Generator()).values()):
            known = range(0)  # a tensor is the device's, and the host does not look
        program = arrange(subject, Tiles(64, 64), heads, frozenset(known), False)
        text = described(program)
        assert all(word in text for word in kind.walks), f"{kind.name}\n{text}"
        functions |= {kind_of(name) for direction in PASSES for name in function_names(program, direction)}
    assert functions == {"forward", "merge", "delta", "backward_keys", "backward_queries", "collect"}


def test_useful_flops_are_those_of_the_kept_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """And FlexAttention is given the same mask."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _gpu_patterns
    import _gpu_speeds

    assert len(_gpu_patterns.STANDARD) == 6
    for pattern in _gpu_patterns.PATTERNS:
        n = 640 if pattern.name == "bigbird" else 700
        speed = _gpu_speeds.Speed(pattern, n, 64, 2, 2, torch.float32, 1)
        kept = pattern.attention().mask(n, heads=2, **pattern.tables(n, 2)).expand(2, n, n)
        assert int(kept.max()) == 1
        assert int(kept.sum()) == 2 * speed.pairs
        place, head = torch.arange(n), torch.arange(2)[:, None, None]
        rule = pattern.flex(n, 2, torch.device("cpu"))(torch.zeros(()), head, place[:, None], place[None])
        assert torch.equal(rule.expand(2, n, n), kept.bool()), pattern.name
        last = _gpu_speeds.Speed(pattern, n, 64, 2, 2, torch.float32, 1, decode=True)
        assert int(kept[:, -1].sum()) == 2 * last.pairs


def test_errors_beyond_those_of_torch_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _gpu_checks

    assert _gpu_checks.too_far({"out": (1.4, 1.0), "q": (1.5, 1.1)}) == []
    largest, mean, nothing = _gpu_checks.too_far({"k": (1.6, 1.2), "v": (0.2, float("nan"))})
    assert largest == "k: the largest error is 1.60 times PyTorch's, at most 1.5"
    assert mean == "k: the mean error is 1.20 times PyTorch's, at most 1.1"
    assert nothing.startswith("v: the mean error is nan")


# In processes of their own, because the interpreter is chosen once for a process.
def start(tmp_path: Path, *arguments: str, planted: str = "") -> subprocess.CompletedProcess[str]:
    """The benchmark with some change made to it before it starts."""
    text = (
        f"import sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\nimport gpu\n{planted}\nsys.exit(gpu.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", text, "--rehearse", "--out", str(tmp_path / "gpu.json"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


KILLED = """
import os, signal
gpu.told = lambda made: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_rehearsal_that_is_killed_goes_on(tmp_path: Path) -> None:
    chosen = [f"--only={name}" for name in ("check decoding*", "speed causal*")]
    assert start(tmp_path, *chosen, planted=KILLED).returncode == -9
    (first,) = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert first["name"] == "check decoding, float32, 16"
    done = start(tmp_path, *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rows, 1 made before" in done.stdout
    assert "ok " in done.stdout
    written = json.loads((tmp_path / "gpu.json").read_text())
    again, speed = written["rows"]
    assert again == first, "the row is the old one"
    figures = speed["figures"]
    assert figures["attnc"]["backward"]["median s"] > 0
    assert figures["FlexAttention"]["forward"]["TFLOP/s"] > 0
    assert figures["flash"]["backward"]["TFLOP/s"] > 0
    assert "cuDNN, which this device does not have" in figures["left out"]
    assert figures["planning s"] > 0
    assert "the backward of FlexAttention" in figures["left out"]
    assert written["of"]["device"] == "rehearsal"


# A kernel that loses key 3 of row 20: what the row's others weigh grows accordingly, as if it had never been there.
PLANTED = """
import torch
def plant():
    from attnc.runtime.triton import executor
    forward = executor.forward
    def without_a_key(launch):
        out, lse = forward(launch)
        k, v = (x.repeat_interleave(launch.q.shape[1] // x.shape[1], 1)[:, :, 3] for x in (launch.k, launch.v))
        logit = (launch.q[:, :, 20] * k).sum(-1) * launch.scale
        weight = (logit - lse[:, :, 20]).exp()[..., None]
        out[:, :, 20] = (out[:, :, 20] - weight * v) / (1 - weight)
        lse[:, :, 20] += torch.log1p(-weight[..., 0])
        return out, lse
    executor.forward = without_a_key
make = gpu.rows_of
gpu.rows_of = lambda *given: (plant(), make(*given))[1]
"""


def test_a_kernel_that_loses_a_key_fails_its_row(tmp_path: Path) -> None:
    done = start(tmp_path, "--only=check natural*", planted=PLANTED)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[1].startswith("WRONG")
    (row,) = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    told = {fault.rpartition(":")[0] for fault in row["faults"]}
    assert {"out", "support: wrong sums", "support: gradient of v"} <= told
    assert "0 rows sound, 1 wrong, 0 left" in done.stdout


def test_shapes_in_doubt_have_a_winner(tmp_path: Path) -> None:
    done = start(tmp_path, "--only=doubt backward_keys, causal*", "--only=speed decoding causal*")
    assert done.returncode == 0, done.stdout + done.stderr
    speed, doubt = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert speed["figures"]["pairs of a head"] == 128
    assert speed["figures"]["attnc"].keys() == {"forward"}
    shapes = {"64x128 w8 s2", "32x64 w4 s3"}
    assert doubt["figures"].keys() == {*shapes, "winner"}, "each shape ran, and none in the place of another"
    assert doubt["figures"]["winner"] in shapes
    assert f"winner {doubt['figures']['winner']}; TFLOP/s: " in done.stdout


def test_for_the_sanitizer_each_kernel_runs_once(tmp_path: Path) -> None:
    done = start(tmp_path, "--sanitize", "--only=gathered, split*")
    assert done.returncode == 0, done.stdout + done.stderr
    names = "forward_0 forward_1 merge_1 delta backward_queries_0 backward_queries_1 collect_1 backward_keys_0_0"
    assert f"gathered, split, merged: {names}" in done.stdout
    assert "1 kinds ran" in done.stdout
    assert not (tmp_path / "gpu.json").exists()


def test_without_a_device_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py")], cwd=tmp_path, capture_output=True, text=True, check=False,
        timeout=120, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no CUDA device: nothing was run" in done.stderr
