"""Random causal masks: the last reader of each key, and what a cache keeps, against the whole mask at several n.

Every second mask is that of a random program of the language, the others are those of :mod:`tests.fuzz.proofs`; each
is joined with ``k <= q``. The lengths are none that the closed form was worked out from: it is for every n.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attnc.attention import Attention
from attnc.cache_plan import CachePlan
from attnc.compiler import ir
from attnc.compiler.analysis.reached_reads import any_count
from attnc.compiler.ir.attentions import DEFAULT_SCALE
from attnc.compiler.ir.constructors import conjunction, less_equal
from attnc.compiler.ir.expressions import LOGIT, Expr, K, Q
from attnc.compiler.ir.printer import expression
from attnc.compiler.ir.queries import positions, tables_read
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.oracle.literal_tables import ContentsError
from attnc.compiler.oracle.out_of_table import OutOfTableError
from attnc.compiler.verify.integer_limits import IntegerRangeError, check_attention
from attnc.compiler.verify.samples import Sample, samples
from tests.fuzz import masks as fuzz_masks
from tests.fuzz import proofs as fuzz_proofs
from tests.support.generators import programs

LENGTHS = (1, 2, 5, 13, 24, 41)
_CALLS = 2  # of one length and number of heads, with other contents of tables


@dataclass(frozen=True)
class Case:
    """A causal attention."""

    seed: int
    attention: ir.Attention


def told(case: Case) -> str:
    return expression(case.attention.mask)


def kept(case: Case) -> bytes:
    """The same, for a file."""
    return told(case).encode()


def generate(seed: int) -> Case:
    """The case of a seed."""
    if seed % 2:
        mask = fuzz_proofs.generate(seed).mask
        tables = tuple(table for table in fuzz_proofs.TABLES if table.name in tables_read(mask))
        return Case(seed, _attention(mask, tables, None))
    drawn = fuzz_masks.bound(programs.generate(seed)).attention
    return Case(seed, _attention(drawn.mask, drawn.tables, drawn.heads))


def _attention(mask: Expr, tables: tuple[ir.Table, ...], heads: int | None) -> ir.Attention:
    causal = conjunction(less_equal(K, Q), any_count(mask))
    held = tuple(replace(table, default=None) for table in tables if table.name in tables_read(causal))
    return ir.Attention("drawn", causal, LOGIT, DEFAULT_SCALE, None, held, heads)


# -- what is wrong -------------------------------------------------------------------------------------------------


class Tally:
    """How many closed forms were exact, upper bounds and not found, and how many of them bound what is held."""

    def __init__(self) -> None:
        self.forms: Counter[str] = Counter()

    def summary(self) -> str:
        kinds = ("exact", "upper bounds", "not found", "bounded for every n", "plans")
        return "closed forms: " + ", ".join(f"{self.forms[kind]:,} {kind}" for kind in kinds)


TALLY = Tally()


def fault(case: Case) -> str | None:
    """What is wrong with a closed form or a plan; None where nothing is."""
    attend = Attention(case.attention)
    form = attend.facts.last_reader
    TALLY.forms["not found" if not form.text else "exact" if form.exact else "upper bounds"] += 1
    TALLY.forms["bounded for every n"] += form.bound is not None
    for sample, mask in _calls(case):
        n, heads = sample.extent.n, sample.extent.heads
        last = brute(mask)
        call = f"n = {n}, {heads} heads"
        if form.text:
            found = form.at(n, heads)
            if not np.array_equal(found, last) if form.exact else (found < last).any():
                return f"{call}: last readers {found.tolist()}, expected {last.tolist()}; {form}"
        given = {table.name: sample.contents[table.name].values for table in case.attention.parameters}
        for tables in [{}, given] if given else [{}]:
            plan = attend.cache(n, heads=heads, **tables)
            TALLY.forms["plans"] += 1
            if plan.exact != (tables == given):
                return f"{call}: a plan with {len(tables)} tables is{'' if plan.exact else ' not'} exact"
            if wrong := wrong_plan(plan, mask, plan.exact, _rows(case.seed, n)):
                return f"{call}: {wrong}"
    return None


def _calls(case: Case) -> Iterator[tuple[Sample, NDArray[np.bool_]]]:
    """Calls with their masks, bool [heads, n, n]; those that a call refuses are left out."""
    attention = case.attention
    reads = positions(attention.mask) & {"head", "heads"}
    own = any(dimension.kind == "head" for table in attention.tables for dimension in table.dimensions)
    some = (attention.heads,) if attention.heads is not None else (1, 2, 3) if reads or own else (1,)
    for number, n in enumerate(LENGTHS):
        try:
            drawn = list(samples(attention.tables, n, [some[(case.seed + number) % len(some)]]))
        except ContentsError:
            continue
        for sample in drawn[(case.seed + number) % len(drawn) :][:_CALLS]:
            try:
                mask = evaluate(attention.mask, attention.tables, sample.extent, sample.contents)[0]
                contents = tuple(sample.contents[table.name] for table in attention.tables)
                check_attention(attention, sample.extent, contents)
            except (OutOfTableError, IntegerRangeError):
                continue
            yield sample, np.asarray(mask, bool)


def _rows(seed: int, n: int) -> list[int]:
    """Some rows: the ends, and three others."""
    return sorted({0, n - 1, *(int(row) for row in np.random.default_rng((seed, n)).integers(0, n, 3))})


def brute(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The last row that reads each key, -1 where none does: [heads, n] of a mask [heads, n, n]."""
    n = mask.shape[-1]
    return np.where(mask.any(1), n - 1 - mask[:, ::-1].argmax(1), -1)


def wrong_plan(plan: CachePlan, mask: NDArray[np.bool_], exact: bool, rows: Iterable[int]) -> str | None:
    """What is wrong with a plan for a mask, bool [heads, n, n]: a key that is read and not kept, or, of an exact plan,
    anything but what is read. None where nothing is.
    """
    heads, n, _ = mask.shape
    last = brute(mask)
    if (plan.last_reader < last).any() or (exact and (plan.last_reader != last).any()):
        return f"last readers {plan.last_reader.tolist()}, expected {last.tolist()}; {plan!r}"
    for p in rows:
        for head in (None, *range(heads)) if heads > 1 else (None,):
            kept = mask.any(0) if head is None else mask[head]
            needed, read = np.flatnonzero(kept[p:, : p + 1].any(0)), np.flatnonzero(kept[p])
            held, reads = plan.positions(p, head=head), plan.reads(p, head=head)
            if missing := sorted({*needed} - {*held}) or sorted({*read} - {*reads}):
                return f"row {p}, head {head}: {missing} are read and not kept; {plan!r}"
            if exact and not (np.array_equal(held, needed) and np.array_equal(reads, read)):
                return f"row {p}, head {head}: {held} are kept for {needed}, {reads} read for {read}; {plan!r}"
            if not {*reads} <= {*held}:
                return f"row {p}, head {head}: {reads} are read, and {held} kept"
    largest = max((int((plan.last_reader[:, : p + 1].max(0) >= p).sum()) for p in range(n)), default=0)
    if plan.largest != largest or (plan.bound is not None and plan.bound < largest):
        return f"{largest} are held, largest {plan.largest}, bound {plan.bound}"
    if plan.shrinks and plan.largest == n:
        return "it shrinks, and holds every key"
    return None
