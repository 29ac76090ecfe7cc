"""Schedules that serve every length: sound at each of many, whatever tables hold, and no larger than they must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import attnc
from attnc.compiler import pipeline
from attnc.compiler.ir import Attention, CallShape, HostTable
from attnc.compiler.plan import FULL, UNBOUNDED, Bounds, Kernel, Program, Segment, Tiles, natural
from attnc.compiler.plan.tile_choices import only
from attnc.compiler.verify.schedule_interpreter import verify_schedule
from attnc.runtime.every_length import every_length, with_few_keys_gathered

TEXTS = {
    "documents": ("pattern p(t: int[token]) = causal and t[q] == t[k]", 1),
    "prefix": ("pattern p(t: int[]) = k <= q or k < t", 1),
    "choice": ("pattern p(t: int[token]) = causal if t[k] == 0 else causal_window(24)", 1),
    "iff": ("pattern p(t: int[token]) = (t[q] == 0) == (q - k < 16 and k <= q)", 1),
    "never": ("pattern p(t: int[token]) = causal and not t[k] == 0 and not causal_window(20)", 1),
    "window of a table": ("pattern p(t: int[]) = causal and q - k < t", 1),
    "counts": ("pattern p(t: int[token]) = causal_window(24) + (causal and t[k] == 0)", 1),
    "ends": ("pattern p(t: int[token]) = causal_window(20) or q >= n - 3", 1),
    "heads": ("pattern p(t: int[token]) = (causal_window(8) if head == 0 else causal) and t[q] == t[k]", 2),
    "residues": ("pattern p(t: int[token]) = causal_window(6, dilation = 4) and not t[k] == 0", 1),
}


def arranged(text: str, heads: int) -> tuple[Attention, Program]:
    attention = attnc.loads(text).p()._bound
    return attention, pipeline.program(attention, only(Tiles(16, 8)), heads, frozenset())


def contents(attention: Attention, n: int, seed: int) -> tuple[HostTable, ...]:
    random = np.random.default_rng(seed)
    shapes = [(n,) * len(table.dimensions) for table in attention.tables]
    return tuple(HostTable(random.integers(0, 3, shape).astype(np.int32) * (1 if shape else 9)) for shape in shapes)


@pytest.mark.parametrize("name", TEXTS)
def test_tiles_hold_every_pair_whatever_a_table_holds(name: str) -> None:
    text, heads = TEXTS[name]
    attention, program = arranged(text, heads)
    served = every_length(program, heads, tuple(HostTable(None) for _ in attention.tables))
    for n, m in ((1, 1), (16, 16), (50, 50), (70, 33)):
        for seed in range(3):
            schedule = replace(served.schedule, n=n, m=m)
            verify_schedule(program, schedule, CallShape(n, m, heads), contents(attention, n, seed))


def bounds(name: str) -> Bounds:
    text, heads = TEXTS[name]
    attention, program = arranged(text, heads)
    served = every_length(program, heads, tuple(HostTable(None) for _ in attention.tables))
    assert served.undecided
    return served.schedule.kernels[0].segments[0].by_query


def test_what_a_table_cannot_change_is_left_out() -> None:
    documents = bounds("documents").runs
    assert (documents.start + documents.length).max() <= 2, "no tile above the diagonal"
    assert FULL not in documents.kind
    window = bounds("window of a table").runs
    assert (window.start + window.length).max() <= 2, "no tile above the diagonal, however wide the window is"
    prefix = bounds("prefix").runs
    assert prefix.start.min() <= -UNBOUNDED
    assert FULL in prefix.kind, "below the diagonal every pair is kept, prefix or not"


def test_a_condition_without_tables_is_as_in_a_call() -> None:
    attention, program = arranged("pattern p = causal_window(24)", 1)
    served = every_length(program, 1, ())
    own = pipeline.schedule(program, CallShape(1024, 1024), ()).kernels[0].segments[0]
    found = served.schedule.kernels[0].segments[0]
    assert not served.undecided
    assert not attention.tables
    for mine, its in ((found.by_query, own.by_query), (found.by_key, own.by_key)):
        assert (mine.period, mine.shift, mine.reach) == (its.period, its.shift, UNBOUNDED)
        assert (mine.runs.start == its.runs.start).all()
        assert (mine.runs.kind == its.runs.kind).all()


@pytest.mark.parametrize(
    ("condition", "gathered"),
    [
        ("causal and (k < 4 or causal_window(24))", 1),
        ("k == 3 or k == 40 or causal", 2),
        ("k < 4 and q >= 20", 1),
        ("(k < 4 or causal_window(9)) and not (k < 4 and q > 30)", 0),  # where it holds, the condition may not
        ("not (k < 4) and causal", 0),
        ("k >= 4 and causal", 0),
        ("causal_window(9) if k < 4 else causal", 0),
    ],
)
def test_few_keys_are_cut_off_where_that_counts_each_pair_once(condition: str, gathered: int) -> None:
    _, program = arranged(f"pattern p = {condition}", 1)
    whole = Kernel(natural(16), (Segment(natural(8), program.mask),), "store")
    found = with_few_keys_gathered(replace(program, kernels=(whole,)), 4)
    assert sum(part.keys.sparse for part in found.kernels[0].segments) == gathered
    for n, m, start in ((3, 3, 0), (50, 50, 0), (60, 20, 40)):
        extent = CallShape(n, m, 1, (start,))
        verify_schedule(found, pipeline.schedule(found, extent, ()), extent, ())


def test_sinks_leave_a_closed_form() -> None:
    program = attnc.load("sink_window").sink_window()._bound
    arranged_once = pipeline.program(program, only(Tiles(64, 64)), None, frozenset())
    served = every_length(with_few_keys_gathered(arranged_once, 16), 1, ())
    assert not served.undecided
    assert not served.whole
