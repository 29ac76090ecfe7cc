"""The oracle: what an expression means, pair by pair. Every later stage is tested against it."""

from .dense import LARGEST, TooLargeError, require_room
from .interpreter import (
    Arrays,
    Environment,
    NumpyArrays,
    TableValues,
    environment,
    evaluate,
    interpret,
    numbered_values,
)
from .literal_tables import ContentsError, from_literal, literal_contents
from .membership import fits_bitmaps, is_listed
from .out_of_table import OutOfTableError, read_at
from .rounding import round_to
from .row_reads import RowReads, TooManyPairsError

__all__ = [
    "LARGEST",
    "Arrays",
    "ContentsError",
    "Environment",
    "NumpyArrays",
    "OutOfTableError",
    "RowReads",
    "TableValues",
    "TooLargeError",
    "TooManyPairsError",
    "environment",
    "evaluate",
    "fits_bitmaps",
    "from_literal",
    "interpret",
    "is_listed",
    "literal_contents",
    "numbered_values",
    "read_at",
    "require_room",
    "round_to",
]
