"""Asks the worker. It is started at the first question, and ends with this process.

Each question has a limit of time, after which the worker is killed, and started anew at the next. Whatever goes wrong
makes an Unknown with its reason. The functions may be called from any thread; a process that was forked has a worker
of its own.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from contextlib import suppress

from .messages import AnyAnswer, read_answer, written_question
from .posing import holds_by_form
from .questions import Answer, LastReader, Proved, Question, ReaderQuestion, Suspect, Unknown
from .tile_questions import HaloQuestion, TileFault, TileQuestion

SECONDS = 20.0
"""The most time that one question takes; isl gives up after a few seconds of its own."""

_START_SECONDS = 60.0
_ANOTHER = Unknown("the prover answers another question")
_RUNS = "import sys; sys.path[:] = sys.argv[1:]; from attnc.compiler.proofs.worker import main; main()"


def prove(question: Question, seconds: float = SECONDS) -> Answer:
    """The answer to a question: from the forms of its masks, or else from the worker."""
    return Proved() if holds_by_form(question) else ask(question, seconds)


def ask(question: Question, seconds: float = SECONDS) -> Answer:
    """The worker's answer; Unknown if there is none within so many seconds, or no worker."""
    answer = _CLIENT.ask(written_question(question), seconds)
    return answer if isinstance(answer, Proved | Suspect | Unknown) else _ANOTHER


def last_reader(question: ReaderQuestion, seconds: float = SECONDS) -> LastReader | Unknown:
    """The last reader of each key, from the worker; Unknown as for :func:`ask`."""
    answer = _CLIENT.ask(written_question(question), seconds)
    return answer if isinstance(answer, LastReader | Unknown) else _ANOTHER


def prove_tiles(question: TileQuestion | HaloQuestion, seconds: float = SECONDS) -> Proved | TileFault | Unknown:
    """Whether tiles are right, from the worker; Unknown as for :func:`ask`."""
    answer = _CLIENT.ask(written_question(question), seconds)
    return answer if isinstance(answer, Proved | TileFault | Unknown) else _ANOTHER


def close() -> None:
    """End the worker. The next question starts another."""
    _CLIENT.close()


class _Client:
    """The worker of this process, where one runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._unable = ""  # why no worker can be started
        self._number = 0  # of the last question, which its answer bears

    def ask(self, line: str, seconds: float) -> AnyAnswer:
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._end()
            if self._process is None and not self._unable:
                self._unable = self._start()
            if self._unable:
                return Unknown(self._unable)
            answer = self._exchange(line, seconds)
            if isinstance(answer, Unknown) and self._process is not None and self._process.poll() is not None:
                self._end()
            return answer

    def _start(self) -> str:
        """Start a worker, and wait until it can be asked. Returns why that failed, or nothing."""
        python = sys.executable or ""
        if getattr(sys, "frozen", False) or not os.path.basename(python).startswith(("python", "pypy")):
            return "there is no Python to run the prover"  # an application embeds it: this would start that again
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-c", _RUNS, *sys.path],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="ascii",
            )  # fmt: skip
        except (OSError, ValueError) as error:
            return f"the prover cannot be started: {error}"
        ready = self._line("", _START_SECONDS)
        if ready != "ready\n":
            self._end()
            return "the prover does not start"
        return ""

    def _exchange(self, line: str, seconds: float) -> AnyAnswer:
        self._number += 1
        said = self._line(f"{self._number} {line}\n", seconds)
        if said is None:
            self._end()
            return Unknown(f"no answer within {seconds:g} seconds")
        try:
            number, _, answer = said.partition(" ")
            if not said.endswith("\n") or int(number) != self._number:
                raise ValueError
            return read_answer(answer)
        except (ValueError, TypeError, KeyError, IndexError):
            self._end()
            return Unknown("the prover ended without an answer")

    def _line(self, text: str, seconds: float) -> str | None:
        """Send a text and read one line; empty if the worker ends, None if it is killed for the time that it took.

        Whatever interrupts this ends the worker too, since its answer would be taken for that to the next question.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(text)
            process.stdin.flush()
            said = process.stdout.readline()
        except OSError:
            said = ""
        except BaseException:
            self._end()
            raise
        finally:
            timer.cancel()
        return None if late.is_set() else said

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        process.wait()

    def close(self) -> None:
        with self._lock:
            self._end()

    def forget(self) -> None:
        """In a forked process: let go of the worker, which is its parent's."""
        process = self._process
        if process is not None:
            process.returncode = 0  # nothing of this process: there is nothing to wait for
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(OSError):
                    stream.buffer.raw.close()  # type: ignore[attr-defined]  # what its buffer holds is not to be sent
        self._lock, self._process = threading.Lock(), None  # another thread of the parent may have held the lock


_CLIENT = _Client()
atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CLIENT.forget)
