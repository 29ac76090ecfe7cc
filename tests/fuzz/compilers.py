"""Cold starts with a compiler that fails: in one of twelve ways, drawn with its details from a seed.

Each case is a process that has imported attnc and called nothing yet: it runs an attention, forward and backward, with
an empty cache. In a second one the same compiler is sound: what the first one left in the cache must not reach it.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

# What a wrapper of the compiler does instead, or afterwards, while there is a file `fault` beside it. `$step` is
# compile, link or probe, `$out` the file that is to be written, `$at` a drawn number, `real` runs the compiler.
WAYS = {
    "refuses": '[ $step = {step} ] && {{ echo "no room" >&2; exit 1; }}; real "$@"',
    "dies": '[ $step = {step} ] && kill -{signal} $$; real "$@"',
    "writes nothing": '[ $step = {step} ] || real "$@"',
    "truncates": 'real "$@"; [ $step = {written} ] && truncate -s "$at" "$out"',
    "writes zeros": 'real "$@"; [ $step = {written} ] && head -c {zeros} /dev/zero | '
    'dd of="$out" bs=1 seek="$at" conv=notrunc 2>/dev/null',
    "writes another file": 'real "$@"; [ $step = {written} ] && {{ rm -f "$out"; {other}; }}',
    "writes a library without the kernel": 'real "$@"; [ $step = link ] && '
    'echo "int other;" | {cxx} -shared -fPIC -x c - -o "$out"',
    "writes a library that kills": 'real "$@"; [ $step = link ] && '
    'echo "__attribute__((constructor)) void f() {{ *(volatile int*)0 = 0; }}" | {cxx} -shared -fPIC -x c - -o "$out"',
    "hangs": '[ $step = {step} ] && sleep 1000; real "$@"',
    "prints without end": '[ $step = {step} ] && exec yes; real "$@"',
    "goes away": 'real "$@"; [ $step = {gone} ] && mv "$0" "$0.gone"',
    "is named by a relative path": 'real "$@"',
}
OTHERS = (
    "mkdir -p {out}", "mkfifo {out}", "ln -s missing {out}", "ln -s /dev/zero {out}", "echo not a library > {out}",
    "head -c 9000 /dev/urandom > {out}", "cp /bin/sh {out}", ": > {out}",
)  # fmt: skip
WRAPPER = """#!/bin/sh
real() {{ {cxx} "$@"; status=$?; [ $status = 0 ] || exit $status; }}
step=probe out= last=
for word in "$@"; do
    case "$word" in -c) step=compile;; -shared) step=link;; esac
    [ "$last" = -o ] && out=$word
    last=$word
done
here={folder}
[ -e "$here/fault" ] || {{ real "$@"; exit 0; }}
size=0
[ $step = probe ] || size=20000
at=$((size * {permille} / 1000))
{way}
exit 0
"""
# Has imported everything, and called nothing; for each line of its input a child starts from there.
STARTS = """
import json, os, sys, tempfile, traceback, warnings
import torch, torch._dynamo, torch._inductor, attnc
from attnc.runtime.cpp.build import BuildError, NoCompilerError
from attnc.runtime.base.counters import launches

def start():
    attend = attnc.loads("pattern p = abs(q - k) <= 5").p()
    q, k, v = (torch.randn(1, 2, 40, 8, requires_grad=True) for _ in range(3))
    said = {"error": None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for _ in range(2):
                out = attend(q, k, v)
                found = torch.autograd.grad(out.sum(), (q, k, v))
        except (BuildError, NoCompilerError) as error:
            said["error"] = str(error)
    if said["error"] is None:
        reference = attend.reference(q, k, v)
        torch.testing.assert_close(out, reference)
        torch.testing.assert_close(found, torch.autograd.grad(reference.sum(), (q, k, v)))
    said["warnings"] = [str(warning.message) for warning in caught]
    said["kinds"] = sorted(launches())
    return said

for line in sys.stdin:
    asked = json.loads(line)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.environ.clear()
            os.environ.update(asked["environment"])
            os.chdir(asked["folder"])
            tempfile.tempdir = None
            said = start()
        except BaseException:
            said = traceback.format_exc()
        with open(writing, "w") as pipe:
            json.dump(said, pipe)
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(said if status == 0 else json.dumps(f"ended with {status}"), flush=True)
"""


@dataclass(frozen=True)
class Case:
    """A way to fail, its details, and whether C++ is insisted on."""

    seed: int
    way: str
    insists: bool
    step: str
    permille: int
    written: str
    other: str
    signal: str
    by_path: bool


def generate(seed: int) -> Case:
    """The case of a seed; twelve seeds in a row have the twelve ways."""
    random = Random(seed)
    return Case(
        seed=seed,
        way=list(WAYS)[seed % len(WAYS)],
        insists=random.random() < 0.4,
        step=random.choice(["compile", "link", "link", "probe"]),
        permille=random.choice([0, 1, 10, *[random.randrange(1000)] * 5]),
        written=random.choice(["compile", "link", "link"]),
        other=random.choice(OTHERS),
        signal=random.choice(["KILL", "SEGV", "BUS", "ABRT", "TERM"]),
        by_path=random.random() < 0.5,
    )


def told(case: Case) -> str:
    """The case for people."""
    return f"{case.way}\n{case}"


def kept(case: Case) -> bytes:
    """The case for a file: its seed gives it back."""
    return f"{case.seed}\n".encode()


def wrapper(folder: Path, case: Case) -> Path:
    """The compiler of a case, as a script in ``folder`` that fails while a file ``fault`` is there."""
    cxx = shutil.which("c++")
    assert cxx is not None
    details = {
        "step": case.step, "written": case.written, "signal": case.signal, "cxx": cxx, "zeros": 3000,
        "gone": "probe" if case.step == "probe" else "compile", "other": case.other.format(out='"$out"'),
    }  # fmt: skip
    path = folder / "bin" / "c++"
    path.parent.mkdir(parents=True)
    way = WAYS[case.way].format(**details)
    path.write_text(WRAPPER.format(cxx=cxx, folder=f"'{folder}'", permille=case.permille, way=way), encoding="utf-8")
    path.chmod(0o700)
    (folder / "fault").touch()
    return path


def start(folder: Path, case: Case, insists: bool, **variables: str) -> dict[str, object] | str:
    """What a process of its own says of the attention, or how it ended."""
    unset = ("CXX", "ATTNC_CXX", "ATTNC_INTERPRET", "ATTNC_VERIFY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    (folder / "tmp").mkdir(exist_ok=True)
    environment |= {
        "ATTNC_CACHE_DIR": str(folder / "cache"), "ATTNC_OPTIMISATION": "0", "TMPDIR": str(folder / "tmp"),
        "ATTNC_BACKEND": "cpp" if insists else "auto", "OMP_NUM_THREADS": "1", **variables,
    }  # fmt: skip
    if case.way != "is named by a relative path":
        environment["ATTNC_CXX"] = str(folder / "bin" / "c++")
    elif case.by_path:
        environment["PATH"] = f"bin:{environment['PATH']}"
    else:
        environment["ATTNC_CXX"] = "./bin/c++"
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps({"folder": str(folder), "environment": environment}) + "\n")
    server.stdin.flush()
    said: dict[str, object] | str = json.loads(server.stdout.readline())
    return said


@lru_cache(maxsize=1)
def _server() -> subprocess.Popen[str]:
    """The process whose children are the cold starts; it ends when its input does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTNC_")}
    command = [sys.executable, "-c", STARTS]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@atexit.register
def stop() -> None:
    """Ends the process that starts the cases, if there is one."""
    if _server.cache_info().currsize:
        _server().communicate()
        _server.cache_clear()


def fault(case: Case) -> str | None:
    """What is wrong with the two processes of a case, or None."""
    with tempfile.TemporaryDirectory(prefix="attnc-fuzz-") as name:
        folder = Path(name)
        path = wrapper(folder, case)
        first = start(folder, case, case.insists, ATTNC_BUILD_SECONDS="5" if case.way == "hangs" else "600")
        found = _fault_of_first(case, first)
        if found is None and (left := [name for name in os.listdir(folder / "tmp") if "torch" not in name]):
            found = f"left behind: {left}"
        if found is not None:
            return f"with the fault: {found}"
        (folder / "fault").unlink()
        if not path.exists():
            path.with_name("c++.gone").rename(path)
        second = start(folder, case, insists=False)
        return None if _sound(second) else f"without the fault: {second}"


def _sound(said: dict[str, object] | str) -> bool:
    """Whether a process ran C++ kernels without a word."""
    return said == {"error": None, "warnings": [], "kinds": ["cpp.backward", "cpp.forward"]}


def _fault_of_first(case: Case, said: dict[str, object] | str) -> str | None:
    if isinstance(said, str):
        return said
    if _sound(said):  # nothing failed after all, as where the zeros fall on zeros
        return None
    warned = said["warnings"]
    assert isinstance(warned, list)
    if case.way == "is named by a relative path":
        return f"a sound compiler was not used: {said}"
    if case.insists:
        return None if said["error"] and not warned else f"C++ is insisted on: {said}"
    if said["error"] is not None or len(warned) != 1 or "blocked" not in warned[0]:
        return f"not one warning: {said}"
    kinds = {"blocked.forward", "blocked.backward"}
    return None if set(map(str, said["kinds"])) & kinds else f"not the blocked executor: {said}"  # type: ignore[call-overload]
