"""Static analysis of conditions: over whole boxes of query-key pairs, or for every length."""

from .affine_forms import IntBounds
from .classify import BoundTable, Boxes, Classifier, DigitRange, numbered
from .divisors import with_known_divisors
from .float_ranges import TileKinds
from .linear_sums import Linear, difference, implied, linear
from .normal_form import Term, guards, negation_normal, normalise, parts
from .reached_reads import Reached, Read, any_count, overapproximate, parts_reached, reads, underapproximate
from .restrict import Reach, restricted
from .shift import shift_divisor

__all__ = [
    "BoundTable",
    "Boxes",
    "Classifier",
    "DigitRange",
    "IntBounds",
    "Linear",
    "Reach",
    "Reached",
    "Read",
    "Term",
    "TileKinds",
    "any_count",
    "difference",
    "guards",
    "implied",
    "linear",
    "negation_normal",
    "normalise",
    "numbered",
    "overapproximate",
    "parts",
    "parts_reached",
    "reads",
    "restricted",
    "shift_divisor",
    "underapproximate",
    "with_known_divisors",
]
