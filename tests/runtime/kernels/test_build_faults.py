"""What goes wrong around a build: compilers that fail, kept libraries that are damaged, a system that has run out."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import attnc
from attnc.compiler.codegen.source import KernelSource
from attnc.runtime import fallback
from attnc.runtime.base import cache
from attnc.runtime.base.configuration import settings
from attnc.runtime.base.counters import launches
from attnc.runtime.cpp import build, elf, executor, scratch
from attnc.runtime.cpp.command import CommandError, run
from tests.fuzz import compilers as fuzz_compilers
from tests.runtime.kernels.test_cpp_build import script
from tests.runtime.kernels.test_without import AS_USUAL, needs_compiler
from tests.support.kept_kernels import forget_kernels

pytestmark = needs_compiler


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("cache")
    forget_kernels()
    with settings.override(cache_dir=folder, cache=True, optimisation=0, cxx=None, backend="cpp", interpret=False):
        yield


@pytest.fixture(scope="module")
def cases() -> Iterator[None]:
    yield
    fuzz_compilers.stop()


@pytest.mark.long
@pytest.mark.usefixtures("cases")
@pytest.mark.parametrize("seed", range(len(fuzz_compilers.WAYS)), ids=list(fuzz_compilers.WAYS))
def test_a_compiler_that_fails_harms_nobody(seed: int) -> None:
    case = fuzz_compilers.generate(seed)
    assert case.way == list(fuzz_compilers.WAYS)[seed]
    assert fuzz_compilers.fault(case) is None


@pytest.fixture(scope="module")
def library() -> bytes:
    with settings.override(optimisation=0):
        return build.build(KernelSource("cpp", 'extern "C" int answer() { return 42; }'), build.compiler())


@pytest.mark.skipif(sys.platform != "linux", reason="libraries are ELF files on Linux")
def test_every_truncated_library_is_refused(library: bytes) -> None:
    assert elf.fault_of(library) is None
    assert build.load(library).answer() == 42
    for length in range(20, len(library)):
        assert elf.fault_of(library[:length]) is not None, length
    for length in range(20, len(library) - 64, 97):
        assert elf.fault_of(library[:length].ljust(len(library), b"\0")) is not None, length
    for length in (0, 3, 4, 19, 20, 5000, len(library) - 1):
        with pytest.raises(OSError, match=r"damaged|file too short|invalid ELF"):
            build.load(library[:length])


def test_any_bytes_have_a_fault_or_none(library: bytes) -> None:
    drawn = random.Random(1)
    for _ in range(3000):
        flipped = bytearray(library)
        for _ in range(drawn.randrange(1, 4)):
            flipped[drawn.randrange(drawn.choice([64, 512, len(library)]))] = drawn.randrange(256)
        assert isinstance(elf.fault_of(bytes(flipped)), str | None)
        elf.fault_of(library[:4] + drawn.randbytes(drawn.randrange(200)))


def _attend(name: str) -> torch.Tensor:
    q = torch.randn(1, 1, 40, 8, generator=torch.Generator().manual_seed(1))
    attend = attnc.loads(f"pattern {name} = k <= q and (q - k) % 7 != 3").__getattr__(name)()
    out: torch.Tensor = attend(q, q, q)
    torch.testing.assert_close(out, attend.reference(q, q, q))
    return out


@pytest.mark.parametrize("length", [0, 19, 5000, -1])
def test_a_kept_library_that_is_damaged_is_built_anew_once(length: int) -> None:
    """Whoever kept it: its hash fits, and every process would have died of it."""
    _attend("p")
    (entry,) = (path for path in cache.location().iterdir() if len(path.name) == 64)
    sound = entry.read_bytes()[cache.HEADER :]
    cache.renew(entry.name, lambda: sound[:length])
    assert cache.get(entry.name, bytes) == sound[:length]
    forget_kernels()
    _attend("p")
    assert cache.get(entry.name, bytes) == sound


def test_a_library_that_cannot_be_loaded_here_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(content: bytes) -> None:
        asked.append(content)
        raise OSError("not here")

    monkeypatch.setattr(executor, "load", refuse)
    forget_kernels()
    with pytest.raises(build.BuildError, match="cannot be loaded: not here"):
        _attend("p")
    assert len(asked) == 1
    assert cache.usage().entries == 0


FAILS_FOR_ONE = """case " $* " in *" -c "*) grep -q "int least()" kernel.cpp ||
{{ echo "too hard" >&2; exit 1; }};; esac
echo >> "{log}"
exec "{cxx}" "$@" """


def test_a_kernel_that_is_refused_runs_blocked_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "_warned", set())
    monkeypatch.setattr(fallback, "cpp_or_blocked", fallback.CppOrBlocked())
    log = tmp_path / "log"
    picky = script(tmp_path, "picky", FAILS_FOR_ONE.format(log=log, cxx=shutil.which("c++")))
    with settings.override(backend="auto", cxx=str(picky)):
        with pytest.warns(RuntimeWarning, match=r"too hard\s+: attnc runs tensors on cpu by its blocked") as caught:
            _attend("p")
        tried = log.read_text()
        before = launches().get("blocked.forward", 0)
        _attend("p")
        assert launches()["blocked.forward"] == before + 1
        assert log.read_text() == tried
        assert len(caught) == 1
    with settings.override(cxx=str(picky)), pytest.raises(build.BuildError, match="too hard"):
        _attend("p")


RUN_OUT = """
import os, resource, sys, warnings
import torch, attnc
from attnc.runtime.cpp.build import BuildError, NoCompilerError
from attnc.runtime.base.counters import launches

attend = attnc.loads("pattern near = abs(q - k) <= 5").near()
q = torch.randn(1, 2, 40, 8)
held = []
def exhaust():
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
with attnc.settings.override(backend="blocked"):
    attend(q, q, q)  # what torch and numpy import at a first call needs descriptors of their own
before, expected = launches()["blocked.forward"], attend.reference(q, q, q)
torch.testing.assert_close(expected, expected)  # and its first comparison
if sys.argv[1] == "descriptors":
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
    exhaust()
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with attnc.settings.override(backend="cpp"):
        try:
            attend(q, q, q)
        except (BuildError, NoCompilerError) as error:
            assert str(error)
        else:
            raise AssertionError("nothing had run out")
    for _ in range(2):
        torch.testing.assert_close(attend(q, q, q), expected)
    messages = [str(warning.message) for warning in caught if "blocked" in str(warning.message)]
    assert len(messages) == 1, messages
    assert launches() == {"blocked.forward": before + 2}, launches()
for descriptor in held:
    os.close(descriptor)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
if held:  # and once there are some again, all is as if nothing had been
    torch.testing.assert_close(attend(q, q, q), expected)
    assert "cpp.forward" in launches(), launches()
"""


@pytest.mark.parametrize("what", ["descriptors", "4096", "0"])
def test_a_system_that_has_run_out(what: str, tmp_path: Path) -> None:
    """Of descriptors, or of the size that a file may have, in bytes: told where C++ is insisted on, else survived."""
    variables = {**AS_USUAL, "ATTNC_CACHE_DIR": str(tmp_path / "cache")}
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    command = [sys.executable, "-c", RUN_OUT, what]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


KILLED = """
import sys
from attnc.compiler.codegen.source import KernelSource
from attnc.runtime.cpp.build import build, compiler
build(KernelSource("cpp", 'extern "C" int answer() { return 42; }'), compiler())
"""


def test_what_a_killed_build_leaves_is_swept_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    pid = tmp_path / "pid"
    hanging = script(
        tmp_path, "hanging",
        f'case " $* " in *" -c "*) echo $$ > "{pid}.new"; mv "{pid}.new" "{pid}"; exec sleep 1000;; esac\n'
        f'exec "{shutil.which("c++")}" "$@"',
    )  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(temporary), "ATTNC_CXX": str(hanging)}
    process = subprocess.Popen([sys.executable, "-c", KILLED], env=environment)
    while not pid.exists():
        assert process.poll() is None
        time.sleep(0.01)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (left,) = temporary.iterdir()
    with scratch.scratch() as other:
        assert left.is_dir(), "its owner lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert left.is_dir()
        with scratch.scratch() as another:
            assert not left.exists()
            assert sorted(temporary.iterdir()) == sorted([Path(other), Path(another)])
    assert list(temporary.iterdir()) == []


def test_the_sweep_takes_only_what_builds_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "attnc-other").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "attnc-build-link").symlink_to("elsewhere")
    (tmp_path / "attnc-build-file").touch()
    (tmp_path / "attnc-build-left" / "below").mkdir(parents=True)
    (tmp_path / "attnc-build-left" / "link").symlink_to("../elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
        with scratch.scratch():
            assert (tmp_path / "attnc-build-left").is_dir(), "another user's"
    with scratch.scratch() as folder:
        names = {path.name for path in tmp_path.iterdir()} - {Path(folder).name}
    assert names == {"attnc-other", "elsewhere", "attnc-build-link", "attnc-build-file"}
    assert (tmp_path / "elsewhere" / "file").exists()


def test_many_at_once_sweep_nobody(tmp_path: Path) -> None:
    code = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from attnc.runtime.cpp.scratch import scratch
for number in range(100):
    with scratch() as folder:
        with open(os.path.join(folder, "file"), "w") as file:
            file.write("here")
        with scratch():
            assert open(os.path.join(folder, "file")).read() == "here"
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"took longer than 0\.2 seconds"):
        run(["sh", "-c", f'sh -c "echo \\$\\$ > {tmp_path}/pid; sleep 1000"; true'], "/", 0.2)
    if (tmp_path / "pid").exists():  # a busy machine may not have come so far
        number = (tmp_path / "pid").read_text().strip()
        while number and Path(f"/proc/{number}").exists() and "(zombie)" not in _status(number):
            time.sleep(0.01)
    with pytest.raises(CommandError, match="printed more than"):
        run(["yes"], "/", 600)
    assert run(["sh", "-c", "echo out; echo err >&2; exit 3"], "/", 600).status == 3


def _status(number: str) -> str:
    try:
        return Path(f"/proc/{number}/status").read_text()
    except OSError:
        return ""
