"""Judges mutants: runs tests in a copy of the tree, and says of one mutant whether its test noticed it, and how."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .mutant import Mutant
from .tree import PlantingError, node_id, plant

Verdict = Literal["caught", "survived", "broken"]

# What shows that the mutant is no program any more, which any test would notice.
BROKEN = {
    "SyntaxError", "IndentationError", "ImportError", "ModuleNotFoundError", "NameError", "UnboundLocalError",
    "TemplateSyntaxError", "UndefinedError", "BuildError", "NoCompilerError", "CompilationError",
}  # fmt: skip
_BROKEN_IN_TEXT = re.compile(rf"\b({'|'.join(sorted(BROKEN))}): ")
_HIDDEN_VARIABLES = re.compile("ATTNC_|PYTEST_|TRITON_|COV_|PYTHONPYCACHEPREFIX")


@dataclass(frozen=True)
class Judgement:
    """``caught``: the test failed by what it compares or by a fault of the product. ``survived``: it passed.

    ``broken``: the mutant or its test cannot be judged. ``reason`` is a line about it.
    """

    verdict: Verdict
    reason: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """How the tests of one pytest process ended; ``ends`` are those of :mod:`tests.mutants.witness`."""

    status: int
    ends: list[dict[str, Any]]
    output: str
    seconds: float

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [end for end in self.ends if end["outcome"] == "failed"]


def run_tests(copy: Path, tests: Sequence[str], limit: float, options: Sequence[str] = ("-x",)) -> Run:
    """Runs tests of a copy with the copy's own package, an empty cache of kernels and no settings from outside.

    PlantingError where the package came from elsewhere, TimeoutError where they take longer than ``limit`` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        report = Path(folder, "report.json")
        command = [
            sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider",
            "-p", "tests.mutants.witness", "--hypothesis-seed=0", *options, *tests,
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not _HIDDEN_VARIABLES.match(name)}
        environment |= {
            "PYTHONPATH": str(copy), "MUTANTS_REPORT": str(report), "ATTNC_CACHE_DIR": f"{folder}/cache",
            "TRITON_CACHE_DIR": f"{folder}/triton", "HYPOTHESIS_STORAGE_DIRECTORY": f"{folder}/hypothesis",
            "TMPDIR": folder,
        }  # fmt: skip
        begun = time.perf_counter()
        status, output = _run(command, copy, environment, limit)
        seconds = time.perf_counter() - begun
        if not report.is_file():
            return Run(status, [], output, seconds)
        held = json.loads(report.read_text(encoding="utf-8"))
        if held["package"] is not None and Path(held["package"]).resolve() != (copy / "attnc").resolve():
            raise PlantingError(f"the tests ran with the package at {held['package']}, not with that of the copy")
        return Run(status, held["ends"], output, seconds)


def _run(command: Sequence[str], folder: Path, environment: dict[str, str], limit: float) -> tuple[int, str]:
    """Exit status and output of a process, which is ended after ``limit`` seconds with all that it started."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not at an end after {limit:g} seconds") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def judge(pristine: Path, mutant: Mutant, limit: float) -> Judgement:
    """Plants one mutant in a copy of ``pristine``, and runs the test that is to notice it."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder, "tree")
        shutil.copytree(pristine, copy, symlinks=True)
        try:
            plant(copy, mutant)
            found = run_tests(copy, [node_id(copy, mutant.caught_by)], limit)
        except (PlantingError, TimeoutError) as error:
            return Judgement("broken", str(error), time.perf_counter() - begun)
    verdict, reason = _judged(found)
    return Judgement(verdict, reason, time.perf_counter() - begun)


def _judged(found: Run) -> tuple[Verdict, str]:
    if not found.failed:
        if found.status == 0 and any(end["outcome"] == "passed" for end in found.ends):
            return "survived", "its test passes"
        last = found.output.strip().rpartition("\n")[2]
        return "broken", f"pytest ended with {found.status}: {last}"
    (end, *_) = found.failed
    said = end["said"][0] if end["said"] else ""
    if end["when"] != "call":
        return "broken", f"its test cannot be begun, in {end['when']}: {said}"
    unfit = [name for name in end["raised"] if name in BROKEN]
    unfit += [match.group(1) for match in map(_BROKEN_IN_TEXT.search, end["said"]) if match]
    if unfit:
        return "broken", f"it is no program any more: {unfit[0]}: {said}"
    return "caught", said


def first_fault(pristine: Path, tests: Sequence[str], limit: float) -> str | None:
    """Why the named tests cannot judge anything: one of them does not pass without a mutant. None if all pass.

    What Python compiles on the way stays in the copy, for the runs that follow.
    """
    ids = [node_id(pristine, test) for test in tests]
    found = run_tests(pristine, ids, limit, ())
    for end in found.ends:
        if end["outcome"] != "passed":
            return f"{end['test']}: {end['outcome']} without a mutant: {' '.join(end['said'][:1])}"
    seen = {end["test"].partition("[")[0] for end in found.ends} | {end["test"] for end in found.ends}
    for test in ids:
        if test not in seen:
            return f"{test}: did not run without a mutant\n{found.output[-2000:]}"
    return None if found.status == 0 else f"pytest ended with {found.status}\n{found.output[-2000:]}"
