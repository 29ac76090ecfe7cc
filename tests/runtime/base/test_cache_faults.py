"""Each filesystem call of the cache fails in turn, or is the last before the process dies; the answer stays right."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnc.runtime.base import cache
from attnc.runtime.base.configuration import settings

KEY = "0123456789abcdef" * 4
PAYLOAD = b"kernel" * 100
CALLS = ("open", "close", "fstat", "stat", "read", "write", "fsync", "rename", "unlink", "listdir", "mkdir")
ERRNOS = (errno.EACCES, errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENOENT, errno.ESTALE, errno.EDQUOT)


class Faulty:
    """A module whose filesystem calls are numbered; the call of number ``failing`` raises instead."""

    def __init__(self, failing: int | None = None, code: int = 0) -> None:
        self.failing, self.code, self.made = failing, code, list[str]()

    def wrap(self, module: object, names: tuple[str, ...]) -> Any:
        faulty = self

        class Wrapped:
            def __getattr__(self, name: str) -> Any:
                value = getattr(module, name)
                return faulty._counted(name, value) if name in names else value

        return Wrapped()

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.made.append(name)
            if len(self.made) - 1 == self.failing:
                if name == "close":  # the kernel frees the descriptor even where close reports a fault
                    function(*args, **kwargs)
                raise OSError(self.code, os.strerror(self.code))
            return function(*args, **kwargs)

        return call


def _run(folder: Path, faulty: Faulty) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_warned", set())
        patch.setattr(cache, "os", faulty.wrap(os, CALLS))
        patch.setattr(cache, "fcntl", faulty.wrap(fcntl, ("flock",)))
        with settings.override(cache_dir=folder, cache=True, lock_seconds=0.05):
            return cache.get(KEY, lambda: PAYLOAD)


def _prepare(folder: Path, state: str) -> None:
    if state == "absent":
        return
    with settings.override(cache_dir=folder, cache=True):
        cache.get(KEY, lambda: PAYLOAD)
    if state == "broken":
        (folder / KEY).write_bytes((folder / KEY).read_bytes()[:-1])


@pytest.mark.filterwarnings("ignore:attnc:RuntimeWarning")
@pytest.mark.parametrize("state", ["absent", "present", "broken"])
def test_each_call_fails_in_turn(tmp_path: Path, state: str) -> None:
    recorder = Faulty()
    _prepare(tmp_path / "first", state)
    assert _run(tmp_path / "first", recorder) == PAYLOAD
    assert set(recorder.made) >= {"open", "fstat", "close"}
    assert ("mkdir" in recorder.made) == (state == "absent")
    if state != "present":
        assert set(recorder.made) >= {"write", "fsync", "rename", "unlink", "flock", "listdir"}
    for number, name in enumerate(recorder.made):
        for code in ERRNOS:
            folder = tmp_path / f"{number}-{code}"
            _prepare(folder, state)
            assert _run(folder, Faulty(number, code)) == PAYLOAD, (name, errno.errorcode[code])
            assert _run(folder, Faulty()) == PAYLOAD
            assert _run(folder, Faulty()) == PAYLOAD


def test_no_descriptor_is_lost(tmp_path: Path) -> None:
    recorder = Faulty()
    _run(tmp_path / "first", recorder)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        for number in range(len(recorder.made)):
            _run(tmp_path / str(number), Faulty(number, errno.EIO))
    assert len(os.listdir("/proc/self/fd")) == before


KILL = """
import os, sys
from attnc.runtime.base import cache
import fcntl

calls = sys.argv[1].split(",")
key, payload = sys.argv[2], b"kernel" * 100

class Killing:
    def __init__(self, module, names, counter, number, after):
        self.module, self.names, self.counter, self.number, self.after = module, names, counter, number, after

    def __getattr__(self, name):
        value = getattr(self.module, name)
        if name not in self.names:
            return value
        def call(*args, **kwargs):
            self.counter[0] += 1
            if self.counter[0] == self.number and not self.after:
                os._exit(9)
            result = value(*args, **kwargs)
            if self.counter[0] == self.number and self.after:
                os._exit(9)
            return result
        return call

def child(number, after):
    counter = [0]
    cache.os = Killing(os, calls, counter, number, after)
    cache.fcntl = Killing(fcntl, ["flock"], counter, number, after)
    assert cache.get(key, lambda: payload) == payload
    os._exit(0)

number, killed = 1, 0
while True:
    statuses = []
    for after in (False, True):
        os.environ["ATTNC_CACHE_DIR"] = f"{sys.argv[3]}/{number}-{after}"
        process = os.fork()
        if process == 0:
            try:
                child(number, after)
            finally:
                os._exit(1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        assert statuses[-1] in (0, 9), statuses
        for _ in range(2):
            assert cache.get(key, lambda: payload) == payload
        made = []
        assert cache.get(key, lambda: made.append(1) or payload) == payload
        assert not made, "the entry is there after the crash"
        killed += statuses[-1] == 9
    if statuses == [0, 0]:
        break
    number += 1
print(killed)
"""


def test_killed_before_and_after_each_call(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILL, ",".join(CALLS), KEY, str(tmp_path)]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 2 * 15
