"""The process that asks isl: it answers each line of its input, a number and a question, with a line of
the same number and the answer. First it says that it is ``ready``.

It ends when its input does. islpy is imported here and nowhere else in the product.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TextIO

from .messages import AnyAnswer, AnyQuestion, read_question, written_answer
from .questions import Question, ReaderQuestion, Unknown

_MEMORY = 4 << 30  # bytes of addresses; isl takes no other bound than that of its steps


def _decider() -> Callable[[AnyQuestion], AnyAnswer]:
    try:
        from .decide import decide
        from .last_readers import last_reader
        from .tiles import decide_tiles
    except ImportError as error:
        reason = f"islpy cannot be imported: {error}"
        return lambda _: Unknown(reason)

    def decider(asked: AnyQuestion) -> AnyAnswer:
        if isinstance(asked, Question):
            return decide(asked)
        return last_reader(asked) if isinstance(asked, ReaderQuestion) else decide_tiles(asked)

    return decider


def serve(questions: TextIO, answers: TextIO) -> None:
    """Say that it is ready, and answer each question, in order. What goes wrong with one is an Unknown."""
    decide = _decider()
    answers.write("ready\n")
    answers.flush()
    for line in questions:
        number, _, asked = line.partition(" ")
        try:
            answer: AnyAnswer = decide(read_question(asked))
        except MemoryError:
            answer = Unknown("it takes too much memory")
        except (AssertionError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            answer = Unknown(f"the prover fails: {type(error).__name__}: {str(error)[:200]}")
        answers.write(f"{number} {written_answer(answer)}\n")
        answers.flush()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    except (ImportError, OSError, ValueError):
        pass  # no such limit on this system, or a tighter one is set
    serve(sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
