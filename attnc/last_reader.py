"""The last row that reads each key, for every length at once, remembered while the process lives."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING

from .compiler.analysis import any_count
from .compiler.ir import Attention, Expr, Table, expression
from .compiler.proofs import ContradictionError, Unknown, last_reader, reader_question

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_ENDLESS = 2**40  # tokens of a text that is still being written
_LONG = 5.0  # seconds of a search without an answer, after which it is not begun again


@dataclass(frozen=True)
class LastReader:
    """The last row that may read a key, of every length n with m = n.

    ``text``: that row as a function of ``k``, ``n``, ``head`` and ``heads``, -1 where no row reads the key; empty where
    there is no such function, for the ``reason`` given. ``exact``: that row does read the key; otherwise this depends
    on the contents of tables (or on a hash, or a product of positions), and no later row does. ``bound``: how many keys
    up to a row, at most, that row or a later one reads, at any length; None where it grows with n, or is not known.
    """

    text: str
    exact: bool
    bound: int | None
    reason: str
    _last: Expr | None = field(repr=False, compare=False)
    _tail: int | None = field(repr=False, compare=False)

    def at(self, n: int, heads: int = 1) -> NDArray[np.int64]:
        """The last readers of one length: int64 ``[heads, n]``, to be read only. ValueError where there is no text, and
        with TypeError for what is no length.
        """
        import numpy as np

        from .compiler.oracle import NumpyArrays, environment, interpret, require_room

        for name, size, least in (("n", n, 0), ("heads", heads, 1)):
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
                raise TypeError(f"{name}: is {type(size).__name__}, expected an int")
            if size < least:
                raise ValueError(f"{name}: is {size}, expected {least} or more")
        if self._last is None:
            raise ValueError(f"the last readers have no closed form: {self.reason}")
        require_room("the last reader of each key", (heads, n), 8)
        if not n:
            return np.zeros((heads, 0), np.int64)
        call = environment(NumpyArrays(), n, 1, heads, np.zeros(1, np.int64), {})
        found = np.asarray(interpret(self._last, call), np.int64)
        return np.broadcast_to(found[0, :, 0], (heads, n))

    def ahead(self, first: int, keys: int, heads: int) -> NDArray[np.int64] | None:
        """The last readers of the keys ``first`` and on, of a text whose end is not known yet: int64 ``[heads, keys]``;
        None where there is no such function of the key alone.
        """
        import numpy as np

        from .compiler.oracle import NumpyArrays, environment, interpret

        if self._last is None:
            return None
        start, zero = np.full(1, first, np.int64), np.zeros(1, np.int64)
        call = environment(NumpyArrays(), _ENDLESS, 1, heads, zero, {}, k_start=start, k_rows=keys)
        found = np.asarray(interpret(self._last, call), np.int64)
        return np.broadcast_to(found[0, :, 0], (heads, keys))

    def __str__(self) -> str:
        if not self.text:
            return f"no closed form: {self.reason}"
        return self.text if self.exact else f"at most {self.text}"


def last_reader_of(attention: Attention) -> LastReader:
    """The last readers of an attention's mask, whatever its run-time tables hold."""
    try:
        return _found(attention.mask, attention.tables, attention.heads)
    except _UnknownError as unknown:
        return LastReader("", False, None, str(unknown), None, None)


class _UnknownError(Exception):
    """There is no closed form, for a reason; it is not remembered: the next time there may be a prover."""


@lru_cache(maxsize=256)
def _found(mask: Expr, tables: tuple[Table, ...], heads: int | None) -> LastReader:
    started = monotonic()
    try:
        answer = last_reader(reader_question(any_count(mask), tables, heads))
    except ContradictionError as error:
        raise _UnknownError(str(error)) from None
    if isinstance(answer, Unknown):
        if answer.final or monotonic() - started > _LONG:  # nobody waits so long twice
            return LastReader("", False, None, answer.reason, None, None)
        raise _UnknownError(answer.reason)
    bound = None if answer.most is None else max(0, answer.most)  # keys that no earlier row has yet are none to keep
    return LastReader(expression(answer.last), answer.exact, bound, "", answer.last, answer.tail)
