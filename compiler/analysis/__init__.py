"""Questions about a condition: for whole boxes of pairs, or for every length."""

from .affine_forms import Bounds
from .classify import Boxes, Classifier, DigitRange, TableContents, Trits, numbered
from .linear_sums import Linear, difference, implied, linear
from .normal_form import Term, guards, negation_normal, normalise, parts
from .reached_reads import Reached, Read, certain, kept, parts_reached, reads
from .shift import shift_divisor

__all__ = [
    "Bounds",
    "Boxes",
    "Classifier",
    "DigitRange",
    "Linear",
    "Reached",
    "Read",
    "TableContents",
    "Term",
    "Trits",
    "certain",
    "difference",
    "guards",
    "implied",
    "kept",
    "linear",
    "negation_normal",
    "normalise",
    "numbered",
    "parts",
    "parts_reached",
    "reads",
    "shift_divisor",
]
