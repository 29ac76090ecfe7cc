"""What holds for every length, by isl in a process of its own."""

from .client import last_reader, prove
from .posing import ContradictionError, question, reader_question
from .questions import Proved, Suspect, Unknown

__all__ = [
    "ContradictionError",
    "Proved",
    "Suspect",
    "Unknown",
    "last_reader",
    "prove",
    "question",
    "reader_question",
]
