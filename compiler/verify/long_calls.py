"""Confirms a counterexample at a length for which the whole mask would be too large: by the row, column or pair named.

Masks are still the oracle's: those of an expression in which the sizes, the head and the first key of a window of pairs
are constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..analysis import BoundTable
from ..ir import HEAD, HEADS, CallShape, Const, Expr, HostTable, K, N, Table, constructors
from ..modules import Claim
from ..oracle import ContentsError, OutOfTableError, evaluate
from ..proofs import Suspect
from .counterexamples import Counterexample, contents_told, corner_around
from .integer_limits import IntegerRangeError, check_integers
from .pictures import LARGEST, Counts
from .samples import Sample, samples
from .witnesses import witnesses

_LONGEST = 2**22  # rows or keys of one line
_LONGEST_READ = 2**12  # where tables are read, which is looked at for every pair
_ROWS = 2**18  # pairs that are looked at together, then


def confirmed(mask: Expr, tables: Sequence[Table], claim: Claim, suspect: Suspect) -> Counterexample | None:
    """The counterexample at the place that the prover names; None where the oracle finds none there, or it is too far.

    Calls that read outside a table, or compute an integer beyond 63 bits, are skipped.
    """
    if suspect.n > (_LONGEST_READ if tables else _LONGEST):
        return None
    try:
        calls = [*witnesses(suspect, tables), *samples(tables, suspect.n, (suspect.heads,))]
    except ContentsError:
        return None  # a table that the test gives has another length
    for sample in calls:
        call = _Call(tables, sample, suspect.head)
        try:
            call.check(mask)
            if claim.operand is not None:
                call.check(claim.operand)
            if _contradicts(call, mask, claim, suspect):
                return _drawn(call, mask, claim, suspect)
        except (OutOfTableError, IntegerRangeError):
            continue
    return None


@dataclass(frozen=True)
class _Call:
    """One head of a call."""

    tables: Sequence[Table]
    sample: Sample
    head: int

    @property
    def n(self) -> int:
        return self.sample.extent.n

    def check(self, expr: Expr) -> None:
        """Raise IntegerRangeError or OutOfTableError where the call does not allow the mask."""
        bound = {table.name: BoundTable(table, self.sample.contents[table.name]) for table in self.tables}
        check_integers(expr, None, None, bound, self.sample.extent)
        rows = max(1, _ROWS // self.n)
        for first in range(0, self.n, rows) if self.tables else ():
            self.counts(expr, first, 0, min(rows, self.n - first), self.n)

    def counts(self, expr: Expr, q: int, k: int, rows: int, keys: int) -> Counts:
        """The part of a mask from row ``q`` and key ``k`` on, [rows, keys]."""
        extent = self.sample.extent
        known: dict[Expr, Expr] = {N: Const(extent.n), HEADS: Const(extent.heads), HEAD: Const(self.head)}
        moved = constructors.substitute(expr, {**known, K: constructors.add(K, Const(k))})
        part = evaluate(moved, self.tables, CallShape(keys, rows, 1, (q,)), self._contents(q, rows))
        return np.asarray(part[0, 0], dtype=np.int64)

    def _contents(self, q: int, rows: int) -> Mapping[str, HostTable]:
        """The tables of the call, of those by query the rows of the part."""
        found = dict(self.sample.contents)
        for table in self.tables:
            values = found[table.name].values
            for axis, dimension in enumerate(table.dimensions):
                if dimension.kind == "query" and values is not None:
                    values = values.take(range(q, q + rows), axis)
            found[table.name] = HostTable(values)
        return found


def _contradicts(call: _Call, mask: Expr, claim: Claim, suspect: Suspect) -> bool:
    """Whether the place that the prover names contradicts the claim."""
    q, k, n = suspect.q, suspect.k, suspect.n
    if q is None:
        assert k is not None
        return not call.counts(mask, 0, k, n, 1).any()
    if k is None:
        return not call.counts(mask, q, 0, 1, n).any()
    count = int(call.counts(mask, q, k, 1, 1)[0, 0])
    if claim.operand is not None:
        other = int(call.counts(claim.operand, q, k, 1, 1)[0, 0])
        return {
            "within": count > 0 and not other, "contains": not count and other > 0, "equals": count != other,
            "disjoint": count > 0 and other > 0,
        }[claim.kind]  # fmt: skip
    match claim.kind:
        case "causal":
            return count > 0 and k > q
        case "symmetric":
            return count > 0 and not call.counts(mask, k, q, 1, 1)[0, 0]
    return q == k and not count  # diagonal


def _drawn(call: _Call, mask: Expr, claim: Claim, suspect: Suspect) -> Counterexample:
    """The counterexample with the part of the mask around it."""
    n, size = suspect.n, min(LARGEST, suspect.n)
    row, key = corner_around(n, suspect.q, suspect.k)
    wrong = np.zeros((size, size), bool)
    wrong[
        slice(None) if suspect.q is None else suspect.q - row, slice(None) if suspect.k is None else suspect.k - key
    ] = True
    return Counterexample(
        claim.kind, n, suspect.q, suspect.k, suspect.heads, suspect.head, (row, key), True, call.sample.contents,
        contents_told(call.tables, call.sample.contents), call.counts(mask, row, key, size, size),
        None if claim.operand is None else call.counts(claim.operand, row, key, size, size), wrong,
    )  # fmt: skip
