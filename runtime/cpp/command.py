"""Runs another program with limits on its time and its output, and ends everything that it started."""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

_MOST = 2**24  # bytes of output; a program that prints more is stopped
_AT_ONCE = 2**16


class CommandError(Exception):
    """A program was stopped because it took too long or printed too much."""


@dataclass(frozen=True)
class Finished:
    """How a program ended. ``status`` is its exit status, or minus the number of the signal that ended it."""

    status: int
    out: str
    err: str


def run(command: Sequence[str], folder: str, seconds: float, environment: Mapping[str, str] | None = None) -> Finished:
    """Runs a program to its end in ``folder``, with empty standard input; ``environment`` is added to this process's
    own.

    OSError or ValueError where it cannot be started; CommandError where it ran longer than ``seconds`` or printed too
    much.
    """
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})}, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            out, err = _read(process.stdout, process.stderr, time.monotonic() + seconds)
            status = process.wait(seconds)
        except (TimeoutError, subprocess.TimeoutExpired):
            _end(process)
            raise CommandError(f"{shlex.join(command)} took longer than {seconds:g} seconds") from None
        except OverflowError:
            _end(process)
            raise CommandError(f"{shlex.join(command)} printed more than {_MOST:,} bytes") from None
        except BaseException:
            _end(process)
            raise
    return Finished(status, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _read(out: IO[bytes], err: IO[bytes], end: float) -> tuple[bytes, bytes]:
    """All that the program prints to both streams. TimeoutError at time ``end``, OverflowError for more than _MOST
    bytes.
    """
    contents = {out: bytearray(), err: bytearray()}
    with selectors.SelectSelector() if not hasattr(selectors, "PollSelector") else selectors.PollSelector() as ready:
        for stream in contents:
            ready.register(stream, selectors.EVENT_READ, contents[stream])
        while ready.get_map():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in ready.select(left):
                part = os.read(key.fd, _AT_ONCE)
                if not part:
                    ready.unregister(key.fileobj)
                key.data.extend(part)
                if len(key.data) > _MOST:
                    raise OverflowError
    return bytes(contents[out]), bytes(contents[err])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills a program and all that it started: a compiler's driver starts the programs that do the work."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
