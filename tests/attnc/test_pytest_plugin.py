"""pytest on `.attn` files, as a user's terminal shows it: what is collected, once, and how it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

from attnc.cli import main
from attnc.compiler.modules.loader import load_text
from attnc.compiler.verify.claims import run_test
from attnc.inspection.attn_files import files, ignored
from attnc.inspection.claims import named_checks, place

ROOT = Path(__file__).parents[2]
LOCAL = """\
pattern local(g: tokens = {}, size: int = 4) = window(size) or q in g or k in g

test local(g = {0}) at n = 5 {
    picture \"\"\"
        #####
        ####.
        ###.#
        #.###
        #.###
    \"\"\"
    row 3 == {0, 1..4}
    row 4 == {0}
    symmetric
    symmetric
}
test documents(doc = [0, 1]) at n = 2 { pairs == 2 }
test local for all n { symmetric  causal }
pattern squares = q * q <= k * k + n * n
test squares for all n { contains full }
"""
INI = "[pytest]\nattnc_ignore = broken on*/*.txt errors\nxfail_strict = true\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text with checks of every outcome, reached by two links too; others that are broken on purpose."""
    folder = tmp_path_factory.mktemp("patterns")
    (folder / "local.attn").write_text(LOCAL)
    (folder / "pytest.ini").write_text(INI)
    (folder / "errors").mkdir()
    (folder / "errors" / "broken.attn").write_text("pattern p = windw(8)\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "again.attn").symlink_to(folder / "local.attn")
    (folder / "linked").symlink_to(folder / "sub", target_is_directory=True)
    (folder / "zlinked.attn").symlink_to(folder / "local.attn")
    (folder / "test_one.py").write_text("def test_one():\n    assert True\n")
    return folder


def run(folder: Path, *arguments: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest with this plugin alone; ``code`` runs instead of its command line."""
    command = ["-c", code] if code else ["-m", "pytest", "-p", "attnc.testing.pytest_plugin", "-p", "no:cacheprovider"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    variables = {name: value for name, value in variables.items() if value and not name.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [sys.executable, *command, *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def report(folder: Path) -> str:
    done = run(folder, "-v", "-rx", "local.attn", "sub", "linked", "zlinked.attn", "local.attn")
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_each_check_is_an_item_by_its_name(report: str) -> None:
    found = re.findall(r"^local\.attn::(.*) (PASSED|FAILED|XFAIL)", report, re.MULTILINE)
    assert found == [
        ("local(g = {0}) at n = 5: picture", "FAILED"),
        ("local(g = {0}) at n = 5: row 3 == {0, 1..4}", "PASSED"),
        ("local(g = {0}) at n = 5: row 4 == {0}", "FAILED"),
        ("local(g = {0}) at n = 5: symmetric", "PASSED"),
        ("local(g = {0}) at n = 5: symmetric (2)", "PASSED"),
        ("documents(doc = [0, 1]) at n = 2: pairs == 2", "PASSED"),
        ("local for all n: symmetric", "PASSED"),
        ("local for all n: causal", "FAILED"),
        ("squares for all n: contains full", "XFAIL"),
    ]


def test_links_lead_to_nothing_twice(report: str) -> None:
    assert {line.split("::")[0] for line in report.splitlines() if ".attn::" in line and "%" in line} == {"local.attn"}
    assert "3 failed, 5 passed, 1 xfailed" in report.splitlines()[-1]


def test_an_undecided_claim_does_not_pass(report: str) -> None:
    assert "XFAIL local.attn::squares for all n: contains full - undecided: checked to n = 32" in report


def test_a_failure_shows_pictures_and_the_line(report: str) -> None:
    assert " --> local.attn:7:9" in report
    assert "    2  ###.#      #####   ...+." in report
    assert " --> local.attn:12:5" in report
    assert "    4  #....      #.###   ..+++" in report
    assert "_ local.attn: local(g = {0}) at n = 5: picture _" in report
    assert "Traceback" not in report


def test_a_fault_is_an_error_of_collection(folder: Path) -> None:
    done = run(folder, "errors/broken.attn")  # named, it is not ignored
    assert done.returncode == 2
    assert "error[unknown-name]" in done.stdout
    assert "broken.attn:1:13" in done.stdout
    assert "Traceback" not in done.stdout


def test_one_check_can_be_named(folder: Path) -> None:
    done = run(folder, "-q", "local.attn::documents(doc = [0, 1]) at n = 2: pairs == 2")
    assert "1 passed" in done.stdout, done.stdout
    done = run(folder, "-q", "--runxfail", "--tb=line", "local.attn::squares for all n: contains full")
    assert "1 failed" in done.stdout, done.stdout  # only what is proved passes


HEAVY = """
import sys, pytest
code = pytest.main(["-q", "-p", "attnc.testing.pytest_plugin", "-p", "no:cacheprovider", *sys.argv[1:]])
print(code, *sorted(name for name in sys.modules if name.startswith(("torch", "triton", "transformers", "islpy"))))
print(*sorted(name for name in sys.modules if name.startswith(("attnc", "numpy.core", "lark"))))
"""


def test_nothing_heavy_is_imported_and_no_compiler_without_a_text(folder: Path) -> None:
    heavy, ours = run(folder, "local.attn", code=HEAVY).stdout.splitlines()[-2:]
    assert (heavy, "attnc.compiler.modules.loader" in ours) == ("1", True)
    heavy, ours = run(folder, "test_one.py", "errors", code=HEAVY).stdout.splitlines()[-2:]
    assert heavy == "0"
    fronts = {"attnc", "attnc.lazy", "attnc.testing", "attnc.inspection"}
    assert set(ours.split()) <= {*fronts, "attnc.testing.pytest_plugin", "attnc.inspection.attn_files"}


def test_an_editable_installation_under_errors_and_xdist(folder: Path, tmp_path: Path) -> None:
    """The entry point as an editable installation offers it, its finder imported first; our own filters."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ((name, plugin),) = project["project"]["entry-points"]["pytest11"].items()
    known = tmp_path / "attnc-0.1.0.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: attnc\nVersion: 0.1.0\n")
    (known / "entry_points.txt").write_text(f"[pytest11]\n{name} = {plugin}\n")
    (known / "RECORD").write_text("_editable_finder.py,,\n")
    (tmp_path / "_editable_finder.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text("import _editable_finder\n")
    filters = project["tool"]["pytest"]["ini_options"]["filterwarnings"]
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings =\n" + "".join(f"    {line}\n" for line in filters))
    arguments = ["-q", "-n", "1", "--tb=no", "-p", "no:cacheprovider", str(folder / "local.attn")]
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""}
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    done = run(tmp_path, "-c", "pytest.ini", *arguments, code=code, **environment)
    assert done.stdout.splitlines()[-1].startswith("3 failed, 5 passed, 1 xfailed"), done.stdout + done.stderr


def test_our_own_patterns_are_collected_once() -> None:
    done = run(ROOT, "--collect-only", "-q", "-o", "addopts=", "patterns", "attnc/patterns", "tests/golden/modules")
    names = [line for line in done.stdout.splitlines() if ".attn::" in line]
    assert {name.split("::")[0] for name in names} == {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "patterns").rglob("*.attn")
        if "\ntest " in path.read_text()
    }
    assert len(names) == len(set(names)) > 100


@pytest.mark.parametrize(
    ("path", "patterns", "expected"),
    [
        ("a/b.attn", [], False),
        ("a/b.attn", ["b.attn"], True),
        ("a/b.attn", ["a"], True),
        ("a/b.attn", ["a/"], True),
        ("a/c/b.attn", ["a/c"], True),
        ("x/a/c/b.attn", ["a/c"], False),
        ("x/a/c/b.attn", ["*/a/c"], True),
        ("a/b.attn", ["*.txt", "broken*"], False),
        ("a/broken1.attn", ["*.txt", "broken*"], True),
    ],
)
def test_globs(path: str, patterns: list[str], expected: bool) -> None:
    assert ignored(Path(path), patterns) == expected


def test_files_are_taken_once(folder: Path) -> None:
    assert files([folder / "zlinked.attn", folder], ["errors"]) == [folder / "zlinked.attn"]
    assert files([folder], ["zlinked.attn"]) == [folder / "errors/broken.attn", folder / "local.attn"]


def test_the_place_of_a_picture_is_its_first_wrong_line() -> None:
    for text, line in (('"""##\n.#\n.#"""', 1), ('"""\n\n#..\n  .#.\n"""', 4), ('"""\n#..\n##.\n"""', 1)):
        module = load_text(f"test causal at n = 3 {{ picture {text} }}")
        (named,) = named_checks(module)
        (outcome,) = run_test(named.test)
        span = place(outcome)
        assert span is not None
        assert span.position(span.start)[0] == line


def test_the_command_goes_on_after_a_broken_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["test", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "5 passed, 3 failed, 1 undecided, 1 with faults"
    assert "broken.attn:1:13" in err
    assert main.run(["test", str(folder), "--ignore", "errors", "--ignore", "*local*"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "5 passed, 3 failed, 1 undecided"
    assert main.run(["test", str(folder / "errors"), "--ignore", "broken*"]) == 1
    assert "there is no .attn file" in capsys.readouterr().err
