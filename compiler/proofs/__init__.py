"""What holds for every length, by isl in a process of its own."""

from .client import prove
from .posing import ContradictionError, question
from .questions import Proved, Suspect, Unknown

__all__ = ["ContradictionError", "Proved", "Suspect", "Unknown", "prove", "question"]
