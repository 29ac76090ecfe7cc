"""The kernels do not fall behind what they need today, and every check of the gate fails on a planted regression."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnc.compiler.ir.extent import CallShape
from tests.gate import __main__ as command
from tests.gate import figures, store, table
from tests.gate.account import listing_of
from tests.gate.figures import Figures, Kernel, Loops, measure
from tests.gate.kernels import Choice, compiled, visits
from tests.gate.machine_code.loops import prologue
from tests.gate.patterns import DECODING, DIMS, PASSES, PATTERNS, contents, kinds
from tests.gate.prediction import flex
from tests.gate.prediction.model import flex_blocks
from tests.gate.targets import HELD, PROLOGUES, Result, held_results, results
from tests.support.shipped_files import EVERY_KIND

ROOT = Path(__file__).resolve().parents[2]


def test_every_shipped_file_is_looked_at() -> None:
    assert {pattern.file for pattern in PATTERNS.values()} == EVERY_KIND
    assert set(flex.PROGRAMS) == set(PATTERNS)


@pytest.mark.parametrize(("pattern", "kind"), HELD)
def test_kernels_do_not_fall_behind(pattern: str, kind: str) -> None:
    missed = [result for result in held_results(measure(pattern, 128, "sm_90", kind, alone=True)) if not result.met]
    assert missed == []


@pytest.mark.parametrize(("pattern", "kind"), PROLOGUES)
def test_prologues_divide_nothing_and_do_not_grow(pattern: str, kind: str) -> None:
    for kernel in compiled(PATTERNS[pattern].attention(), 128, "sm_90", kind):
        names = [each.name for each in prologue(listing_of(kernel))]
        assert "I2F" not in names, "a division by a number that only the call knows"
        assert len(names) <= PROLOGUES[pattern, kind]


def test_a_kernel_with_too_few_registers_is_noticed() -> None:
    """A planted one: a tile too large for a single warp."""
    found = held_results(measure("causal", 64, "sm_90", "backward_queries", Choice(64, 16, 1, 1)))
    missed = {result.check.partition(": ")[2] for result in found if not result.met}
    assert {"bytes spilled", "lacks wgmma"} <= missed


def test_what_a_compiler_refuses_is_missed_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> list[object]:
        raise RuntimeError("PassManager::run failed\nat length")

    monkeypatch.setattr(figures, "compiled", refuse)
    its = measure("causal", 128, "sm_90", "forward")
    assert its.fault == "RuntimeError: PassManager::run failed"
    assert [result.met for result in results([its])] == [False]


LOOPS = Loops(64, 64, 450.0, 600.0, False, 2)
KERNEL = Kernel("forward_0", 4, 3, 168, 0, 65536, 3, 3, "wgmma", 512.0, 512.0, (LOOPS,))


def sound() -> list[Figures]:
    """Figures that meet every check there is for them."""
    peer = replace(KERNEL, name="flex")
    forward = Figures("causal", 128, "sm_90", "forward", (KERNEL,), (peer,), 1.0, 1.0, 0.9, 1.0)
    backward = [
        Figures("causal", 128, "sm_90", kind, (replace(KERNEL, name=kind),), (peer,), clocks=1.0, peer_clocks=1.0)
        for kind in PASSES[1:]
    ]
    return [forward, *backward]


def planted(place: int, change: Callable[[Figures], Figures]) -> set[str]:
    """What is missed where one of the sound figures is changed."""
    found = sound()
    found[place] = change(found[place])
    return {result.check for result in results(found) if not result.met}


def in_kernel(**changes: Any) -> Callable[[Figures], Figures]:
    return lambda its: replace(its, kernels=(replace(its.kernels[0], **changes),))


def in_loops(**changes: Any) -> Callable[[Figures], Figures]:
    return in_kernel(loops=(replace(LOOPS, **changes),))


def test_sound_figures_meet_every_check() -> None:
    assert planted(0, lambda its: its) == set()
    assert len(results(sound())) == 3 * 4 + 2 + 2 + 1 + 1  # spills, blocks, products, memory; counts; clocks; times


FORWARD = "causal D 128 sm_90 forward"


@pytest.mark.parametrize(
    ("place", "change", "missed"),
    [
        (0, in_loops(full=601.0, partial=700.0), f"{FORWARD}: instructions on full tiles"),
        (0, in_loops(full=621.0, partial=621.0, single=True), f"{FORWARD}: instructions on full tiles"),
        (0, in_loops(partial=621.0), f"{FORWARD}: instructions of the mask"),
        (0, in_kernel(spilled=4), f"{FORWARD}: bytes spilled"),
        (0, in_kernel(spilled=-1), f"{FORWARD}: bytes spilled"),
        (0, in_kernel(blocks=1), f"{FORWARD} forward_0: share of resident blocks given up"),
        (0, in_kernel(tensor="mma"), f"{FORWARD} forward_0: lacks wgmma"),
        (0, in_kernel(shared=227 * 1024 + 16), f"{FORWARD} forward_0: bytes of shared memory"),
        (0, lambda its: replace(its, clocks=0.96), f"{FORWARD}: predicted time over FlexAttention's"),
        (0, lambda its: replace(its, clocks=None), f"{FORWARD}: predicted time over FlexAttention's"),
        (0, lambda its: replace(its, fault="loops"), f"{FORWARD}: loops"),
        (1, in_kernel(spent=512 * 1.11), "causal D 128 sm_90 backward_keys: tensor clocks spent over needed"),
        (2, in_kernel(spent=None), "causal D 128 sm_90 backward_queries: tensor clocks spent over needed"),
        (1, lambda its: replace(its, clocks=1.01),
         "causal D 128 sm_90 backward, full tiles: predicted time over FlexAttention's"),
        (2, lambda its: replace(its, peer_clocks=None),
         "causal D 128 sm_90 backward, full tiles: predicted time over FlexAttention's"),
    ],
)  # fmt: skip
def test_each_check_fails_on_a_planted_regression(
    place: int, change: Callable[[Figures], Figures], missed: str
) -> None:
    assert planted(place, change) == {missed}


def test_what_is_not_known_is_missed() -> None:
    assert planted(0, in_loops(full=None)) == {
        f"{FORWARD}: instructions on full tiles",
        f"{FORWARD}: instructions of the mask",
    }


def test_one_loop_for_both_may_be_a_little_longer() -> None:
    assert planted(0, in_loops(full=620.0, partial=620.0, single=True)) == set()


def test_each_pass_that_is_held_fails_on_planted_regressions() -> None:
    (its, *_) = sound()
    good = replace(its, kernels=(replace(KERNEL, loops=(replace(LOOPS, full=500.0, partial=630.0),)),))
    assert all(result.met for result in held_results(good))
    for changes in ({"spilled": 8}, {"spent": 513.0}, {"tensor": ""}, {"blocks": 1}, {"shared": 1 << 20}):
        assert not all(result.met for result in held_results(in_kernel(**changes)(good))), changes
    for loops in ({"full": 2000.0}, {"partial": 2000.0}, {"full": None}):
        assert not all(result.met for result in held_results(in_loops(**loops)(good))), loops


def test_verdict_and_table_tell_what_is_missed() -> None:
    said = table.verdict([Result("a", 1.0, 2.0), Result("b", 2.5, 2.0), Result("c", None, 0.0)])
    assert said == [
        "met    a: 1, at most 2", "MISSED b: 2.50, at most 2", "MISSED c: unknown, at most 0",
        "1 checks are met, 2 are missed",
    ]  # fmt: skip
    (line, peer) = table.lines(sound()[0])
    assert line.split()[:5] == ["causal", "128", "sm_90", "forward_0", "64x64"]
    assert line.split()[-2:] == ["1.00", "0.90"]
    assert peer.split()[3] == "flex"
    assert table.lines(replace(sound()[0], kernels=(), peers=(), fault="why"))[0].endswith("failed: why")


def test_the_command_ends_with_1_where_a_target_is_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = [
        "--only",
        "causal",
        "--dim",
        "128",
        "--target",
        "sm_90",
        *(word for kind in PASSES for word in ("--pass", kind)),
        "--workers",
        "1",
    ]
    good = {each.kind: each for each in sound()}
    monkeypatch.setattr(command, "measure", lambda *task: good[task[3]])
    assert command.main([*part, "--json", str(tmp_path / "gate.json")]) == 0
    record = json.loads((tmp_path / "gate.json").read_text())
    assert (record["missed"], record["met"]) == ([], len(results(sound())))
    assert record["passes"][0]["kernels"][0]["registers"] == 168
    good["forward"] = in_kernel(spilled=4)(good["forward"])
    assert command.main([*part, "--json", str(tmp_path / "gate.json")]) == 1
    (missed,) = json.loads((tmp_path / "gate.json").read_text())["missed"]
    assert missed == {"check": "causal D 128 sm_90 forward: bytes spilled", "value": 4, "limit": 0}
    assert "MISSED causal D 128 sm_90 forward: bytes spilled: 4, at most 0" in capsys.readouterr().out


def test_tasks_and_choices_of_the_command() -> None:
    everything = command.tasks(command.parser().parse_args([]))
    assert len(everything) == sum(len(kinds(name, target)) * len(DIMS[target]) for name in PATTERNS for target in DIMS)
    decoded = {task[:3] for task in everything if task[3] == DECODING}
    assert {target for _, _, target in decoded} == {"sm_90", "sm_80"}
    assert {name for name, _, _ in decoded} == PATTERNS.keys() - {"documents"}, "a table that grows with the length"
    few = command.parser().parse_args(["--only", "causal", "--dim", "64", "--pass", "forward", "--choice", "64x32w4s3"])
    assert {task[4] for task in command.tasks(few)} == {Choice(64, 32, 4, 3)}
    with pytest.raises(SystemExit):
        command.parser().parse_args(["--choice", "64x32"])


@pytest.mark.parametrize("name", flex.PROGRAMS)
def test_templates_of_flex_attention_are_rendered_whole(name: str) -> None:
    for forward in (True, False):
        tiles = ("BLOCK_M", "BLOCK_N") if forward else ("BLOCK_M1", "BLOCK_N1", "BLOCK_M2", "BLOCK_N2")
        text, parameters = flex.render(flex.PROGRAMS[name], 64, forward, dict.fromkeys(tiles, 64))
        (function,) = (each for each in ast.parse(text).body if getattr(each, "name", "") == "flex_kernel")
        assert isinstance(function, ast.FunctionDef)
        assert [argument.arg for argument in function.args.args] == list(parameters)
        assert "{" not in text.replace("{}", "")


def test_what_is_visited_is_what_is_kept() -> None:
    """Both sides visit as much of a causal mask: half of all pairs, and the diagonal."""
    attention, n = PATTERNS["causal"].attention(), 1024
    blocks = flex_blocks("causal", attention, n, 1, ())
    assert (blocks.full, blocks.partial) == (28, 8)
    for kind in PASSES:
        ((visit,),) = visits(attention, 64, "sm_90", kind, CallShape(n, n, 1), ()).values()
        kept = n * (n + 1) / 2
        assert visit.full * visit.area <= kept <= (visit.full + visit.partial) * visit.area < 1.2 * kept


def test_tables_are_known_for_every_pattern() -> None:
    for name, pattern in PATTERNS.items():
        attention = pattern.attention()
        assert len(contents(name, attention, 256, 2)) == len(attention.tables)


def test_results_are_kept_by_all_that_they_depend_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    assert store.digest("a", 1) == store.digest("a", 1) != store.digest("a", 2)
    assert store.digest("ab", "c") != store.digest("a", "bc")
    assert store.kept("sums", "key", lambda: [1, 2]) == [1, 2]
    assert store.kept("sums", "key", lambda: [3]) == [1, 2]
    assert store.kept("sums", "other", lambda: [3]) == [3]
    (tmp_path / "sums" / "key.json").write_text("[1,")  # broken off
    assert store.kept("sums", "key", lambda: [4]) == [4]
