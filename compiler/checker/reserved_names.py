"""The names of a call's own arguments, which no table may have.

The compiler cannot import :mod:`attnc`; ``tests/attnc/test_face.py`` checks that these are the arguments of
``Attention.__call__``, ``.reference``, ``.mask`` and ``.plan``.
"""

from __future__ import annotations

CALL = ("self", "q", "k", "v", "scale", "q_start", "k_start", "n", "with_sink", "dropout", "seed", "return_lse")
SIZES = ("n", "m", "heads", "k_rows")  # of `.mask` and `.plan`
KERNELS = ("target", "head_dim", "dtype")  # of `.plan`

_RESERVED = ("q", "k", "n", "heads")  # words of the language, which no name can be anyway
FORBIDDEN = tuple(name for name in (*SIZES, *CALL, *KERNELS) if name not in _RESERVED)
"""Names that no parameter may have, in addition to the words of the language."""

OF_CONSTANTS = frozenset({"seed", *KERNELS})
"""Names in FORBIDDEN that a constant may have, because it is bound before the call: `seed` of `random_blocks`."""
