"""The list of planted faults stays true: each has one place and one test; and what judges them tells outcomes apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.mutants import __main__ as command

from .judge import Judgement, first_fault, judge
from .listed import MUTANTS, WINGS
from .mutant import Mutant
from .tree import PlantingError, node_id, place_of, plant, product_texts

ROOT = command.ROOT
LIMIT = 120.0  # seconds, for what takes a few


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_one_place_and_one_test(mutant: Mutant) -> None:
    assert place_of(TEXTS, mutant).is_file()
    assert mutant.replace != mutant.find
    assert node_id(ROOT, mutant.caught_by).partition("::")[0].startswith("tests/")


TEXTS = product_texts(ROOT)


def test_every_wing_has_mutants_and_no_two_are_one() -> None:
    assert len(MUTANTS) >= 60
    assert {mutant.wing for mutant in MUTANTS} == set(WINGS)
    assert len({mutant.name for mutant in MUTANTS}) == len({(m.find, m.replace) for m in MUTANTS}) == len(MUTANTS)


# -- a small tree to plant in --------------------------------------------------------------------------------------

HALF = """
def half(n):
    return n // 2
"""
TESTS = """
import subprocess
import sys

import pytest

from attnc import half


def test_half():
    assert half(7) == 3


@pytest.mark.parametrize("n", [0, 1, 8])
def test_even(n):
    assert half(n) == n // 2


def test_elsewhere():
    code = "from attnc import half; sys.exit(half(9) != 4)"
    assert subprocess.run([sys.executable, "-c", "import sys; " + code], capture_output=True).returncode == 0


@pytest.fixture
def four():
    return {8: 4}[half(16)]


def test_of_a_fixture(four):
    assert four == 4


def test_that_fails():
    assert half(7) == 4
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    for folder in ("compiler", "runtime", "templates", "patterns", "attnc", "tests/inside", "tests/mutants"):
        (root / folder).mkdir(parents=True)
    (root / "compiler" / "half.py").write_text(HALF)
    (root / "attnc" / "compiler").symlink_to("../compiler")
    (root / "attnc" / "__init__.py").write_text("from .compiler.half import half\n")
    (root / "attnc" / "testing").mkdir()
    for name in ("__init__", "pytest_plugin"):
        (root / "attnc" / "testing" / f"{name}.py").write_text("")
    (root / "tests" / "inside" / "test_half.py").write_text(TESTS)
    witness = Path("tests", "mutants", "witness.py")
    (root / witness).write_bytes((ROOT / witness).read_bytes())
    return root


def planted(replace: str, test: str, find: str = "n // 2") -> Mutant:
    return Mutant("planted", "ir", find, replace, f"test_half.py::{test}")


@pytest.mark.parametrize(
    ("mutant", "verdict", "reason"),
    [
        (planted("(n + 1) // 2", "test_half"), "caught", "assert 4 == 3"),
        (planted("-(-n // 2)", "test_even"), "caught", "assert 1 == "),
        (planted("-(-n // 2)", "test_elsewhere"), "caught", ""),
        (planted("n // 3 if n > 99 else n // 2", "test_half"), "survived", "its test passes"),
        (planted("m // 2", "test_even[8]"), "broken", "NameError"),
        (planted("n // 4", "test_of_a_fixture"), "broken", "cannot be begun"),
        (planted("n // 4", "test_even[9]"), "broken", "no match"),
        (planted("n // 4", "test_nowhere"), "broken", "no such test"),
        (planted("n // 4", "test_half", find="n"), "broken", "occurs 3 times"),
        (planted("n // 4", "test_half", find="n // 8"), "broken", "occurs 0 times"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.replace} by {value.caught_by}",
)
def test_outcomes_are_told_apart(mutant: Mutant, verdict: str, reason: str, small: Path) -> None:
    found = judge(small, mutant, LIMIT)
    assert found.verdict == verdict, found.reason
    assert reason in found.reason
    assert (small / "compiler" / "half.py").read_text() == HALF, "the copy alone was changed"


def test_what_takes_too_long_is_no_catch(small: Path) -> None:
    endless = planted("n // 2 + __import__('time').sleep(60)", "test_half")
    found = judge(small, endless, 3.0)
    assert (found.verdict, found.reason) == ("broken", "not at an end after 3 seconds")
    assert found.seconds < 30


def test_tests_that_fail_by_themselves_judge_nothing(small: Path) -> None:
    assert first_fault(small, ["test_half.py::test_half", "test_half.py::test_even"], LIMIT) is None
    fault = first_fault(small, ["test_half.py::test_half", "test_half.py::test_that_fails"], LIMIT)
    assert fault is not None
    assert "test_that_fails: failed without a mutant" in fault


def test_compiled_code_of_the_original_is_not_taken(small: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "compiler").mkdir()
    for name in ("runtime", "attnc", "templates", "patterns"):
        (tmp_path / name).mkdir()
    (folder / "half.py").write_text(HALF)
    (folder / "__pycache__").mkdir()
    compiled = [folder / "__pycache__" / f"{name}.cpython-311.pyc" for name in ("half", "halfway")]
    for path in compiled:
        path.write_bytes(b"")
    plant(tmp_path, planted("n // 3", "test_half"))
    assert [path.exists() for path in compiled] == [False, True]


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of mutants that were judged, none for real: the second survives."""
    seen: list[str] = []

    def pretended(_: Path, mutant: Mutant, __: float) -> Judgement:
        seen.append(mutant.name)
        survives = mutant.name == MUTANTS[1].name
        return Judgement("survived" if survives else "caught", "as pretended", 0.1)

    monkeypatch.setattr(command, "judge", pretended)
    monkeypatch.setattr(command, "first_fault", lambda *_: None)
    monkeypatch.setattr(command, "copy_tree", lambda *_: None)
    monkeypatch.setattr(command, "MUTANTS", MUTANTS[:3])
    monkeypatch.setattr(command, "STATE", tmp_path / "state" / "judged.json")
    return seen


def test_a_survivor_is_named_and_ends_with_1(judged: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "2 of 3 mutants are caught"
    assert out[-2] == f"survived: {MUTANTS[1].name}, by {MUTANTS[1].caught_by}: as pretended"
    assert command.main(["--only", MUTANTS[2].name]) == 0


def test_a_run_goes_on_where_it_was_broken_off(judged: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command.main([])
    assert sorted(judged) == sorted(mutant.name for mutant in MUTANTS[:3])
    held = json.loads(command.STATE.read_text())
    del held["judged"][MUTANTS[2].name]
    command.STATE.write_text(json.dumps(held))
    judged.clear()
    assert command.main([]) == 1
    assert judged == [MUTANTS[2].name]
    held["key"] = "of another tree"
    command.STATE.write_text(json.dumps(held))
    command.main([])
    assert len(judged) == 4, "what was judged of another tree says nothing"


def test_the_list_names_each_and_judges_none(judged: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    for mutant, line in zip(MUTANTS[:3], capsys.readouterr().out.splitlines(), strict=True):
        assert line.startswith(mutant.wing)
        assert line.endswith(mutant.caught_by)
    assert command.main(["--only", "no such"]) == 2
    assert judged == []


def test_a_text_that_is_gone_stops_all(
    judged: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Mutant("gone", "ir", "no such text anywhere", "", MUTANTS[0].caught_by)
    monkeypatch.setattr(command, "MUTANTS", (MUTANTS[0], gone))
    assert command.main([]) == 1
    assert "gone: its text occurs 0 times" in capsys.readouterr().err
    assert judged == []
    with pytest.raises(PlantingError, match=r"0 files of tests are called test_none\.py"):
        node_id(ROOT, "test_none.py::test_x")
