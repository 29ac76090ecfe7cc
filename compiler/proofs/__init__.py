"""What holds for every length, by isl in a process of its own."""

from .client import last_reader, prove, prove_tiles
from .posing import ContradictionError, question, reader_question
from .questions import Proved, Suspect, Unknown
from .tile_questions import HaloQuestion, TileFault, TileQuestion, tile_question

__all__ = [
    "ContradictionError",
    "HaloQuestion",
    "Proved",
    "Suspect",
    "TileFault",
    "TileQuestion",
    "Unknown",
    "last_reader",
    "prove",
    "prove_tiles",
    "question",
    "reader_question",
    "tile_question",
]
