"""The arguments that a call keeps for itself, so that no table may have their names. A noun.

The compiler cannot import the face: ``tests/attnc/test_face.py`` holds that this is what ``Attention.__call__``,
``.reference``, ``.mask`` and ``.plan`` take.
"""

from __future__ import annotations

CALL = ("self", "q", "k", "v", "scale", "q_start", "dropout", "seed", "return_lse")
SIZES = ("n", "m", "heads")  # of `.mask` and `.plan`
TO_COME = ("k_start", "with_sink")  # kept free, so that a text of today can be called then

_RESERVED = ("q", "k", "n", "heads")  # words of the language, which no name can be anyway
FORBIDDEN = tuple(name for name in (*SIZES, *CALL, *TO_COME) if name not in _RESERVED)
"""What no parameter may be called, beside the reserved words."""

OF_CONSTANTS = frozenset({"seed"})
"""Of those, what a constant may be called: it is bound before the call, as in the prelude's `random_blocks`."""
