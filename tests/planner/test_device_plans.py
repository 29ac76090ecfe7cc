"""Plans that the device makes: no kept pair is lost, no full tile lacks one, and they visit what the host's visit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnc
from attnc.compiler import pipeline
from attnc.compiler.arrange.search import applies_to
from attnc.compiler.codegen.lifting import lift_constants
from attnc.compiler.codegen.planner.functions import PlanModule
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Attention, Dimension, Table
from attnc.compiler.ir.expressions import LOGIT, Const, Entry, Expr, K, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.dtypes import BF16
from attnc.compiler.plan.orders import PARTIAL, Gathered, Tiles, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.schedule import Schedule
from attnc.compiler.plan.tile_choices import only
from attnc.compiler.schedule.segments import schedule
from attnc.runtime.base.launch import Launch
from attnc.runtime.call.checks import Call
from attnc.runtime.planning import _heads_differ, launch_of
from attnc.runtime.triton import device_plans
from attnc.runtime.triton.backend import TRITON
from tests.fuzz import device_tiles
from tests.support.device_plans import Launched, device_schedule, hidden, room_for
from tests.support.oracles import tile_promises

N, HEADS = 2048, 2
RANDOM = 12


@pytest.mark.parametrize("seed", range(4))
def test_no_pair_is_lost_by_random_conditions_in_random_orders(seed: int) -> None:
    """Masks of tables, sets, hashes and counts; tiles of views, of lists and of sorted tokens."""
    planned = 0
    for number in range(seed * RANDOM, (seed + 1) * RANDOM):
        ordered = device_tiles.generate(number)
        case = ordered.case
        planned += schedule(ordered.program, case.extent, hidden(case.contents), on_device=True).on_device
        found = device_tiles.fault(ordered)
        assert found is None, f"{found}\n{device_tiles.told(ordered)}"
    assert planned > RANDOM // 3


def test_a_plan_whose_kinds_are_wrong_is_found() -> None:
    """The judge sees one tile that is called empty, and one that is called full."""
    program, contents = _documents()
    extent = CallShape(64, 64)
    plan = device_schedule(program, extent, contents)
    assert tile_promises.fault(program, plan, extent, contents) is None
    segment = plan.kernels[0].segments[0]
    runs = segment.by_query.runs
    for wrong in (replace(runs, start=runs.start + 1), replace(runs, kind=3 - runs.kind)):
        both = replace(segment, by_query=replace(segment.by_query, runs=wrong))
        broken = replace(plan, kernels=(replace(plan.kernels[0], segments=(both,)),))
        assert tile_promises.fault(program, broken, extent, contents) is not None


def _documents() -> tuple[Program, tuple[HostTable, ...]]:
    table = Table("doc", "int", (Dimension("token"),))
    same = constructors.equal(Entry("0", (Q,), "int"), Entry("0", (K,), "int"))
    kernel = Kernel(natural(8), (Segment(natural(4), same),), "store")
    contents = HostTable(np.repeat(np.array([4, 0, 900, 2], np.int32), (20, 9, 30, 5)))
    return Program((kernel,), same, LOGIT, None, (table,)), (contents,)


def test_more_runs_than_there_is_room_for_become_one() -> None:
    """It covers the rest, partial: nothing is lost."""
    table = Table("keep", "bool", (Dimension("free", name="rows"), Dimension("free", name="columns")))
    kept = Entry("0", (constructors.floordiv(Q, 8), constructors.floordiv(K, 4)), "bool")
    program = Program((Kernel(natural(8), (Segment(natural(4), kept),), "store"),), kept, LOGIT, None, (table,))
    contents = (HostTable(np.random.default_rng(3).random((8, 16)) < 0.5),)
    extent = CallShape(64, 64)
    exact = device_schedule(program, extent, contents)
    with room_for(2):
        plan = device_schedule(program, extent, contents)
    rows, keys = natural(8).tiles(64), natural(4).tiles(64)
    for way, counts in (("by_query", (rows, keys)), ("by_key", (keys, rows))):
        held, all_of = (getattr(its.kernels[0].segments[0], way) for its in (plan, exact))
        assert np.diff(all_of.runs.pointer).max() > 2 >= np.diff(held.runs.pointer).max()
        called, right = (tile_promises.kinds(its, *counts) for its in (held, all_of))
        assert ((called == right) | (called == PARTIAL)).all()
        assert (called != right).any()


@pytest.mark.parametrize("entry", [2**31, 2**40, 2**62 - 1, -(2**62) + 1])
def test_integers_of_64_bits_do_not_overflow(entry: int) -> None:
    """Of numbers so large that bounds of what is made of them may not fit, no tile is said to be empty or full."""
    table = Table("x", "int", (Dimension("token"),))
    of_row, of_key = (Entry("0", (position,), "int") for position in (Q, K))
    conditions: list[Expr] = [
        constructors.less(constructors.sub(of_row, of_key), Const(5)),
        constructors.equal(constructors.mod(constructors.add(of_row, of_key), 7), Const(3)),
        constructors.less_equal(constructors.floordiv(constructors.sub(of_key, of_row), 3), Const(-1)),
        constructors.equal(of_row, of_key),
        constructors.equal(constructors.mod(constructors.hashed(of_row, of_key), 2), Const(0)),
        constructors.less(constructors.absolute(constructors.sub(of_row, of_key)), Const(entry)),
    ]
    if entry == 2**31:  # products of others are too large for 63 bits
        product = constructors.mul(of_row, of_key)
        conditions.append(constructors.less(constructors.sub(product, Q), Const(2**61 - 2)))
        conditions.append(constructors.less(Const(-(2**61) + 2), constructors.add(constructors.neg(product), K)))
    values = np.repeat(np.array([entry, 1, -1, entry // 2, entry], np.int64), (8, 5, 6, 9, 4))
    for condition in conditions:
        kernel = Kernel(natural(4), (Segment(natural(4), condition),), "store")
        program = Program((kernel,), condition, LOGIT, None, (table,))
        contents, extent = (HostTable(values),), CallShape(32, 32)
        plan = device_schedule(program, extent, contents, wide=True)
        assert tile_promises.fault(program, plan, extent, contents) is None


TILES = Tiles(64, 64, 16)


@dataclass(frozen=True)
class Subject:
    """An attention with the contents of its tables, for a call; ``starts``: positions that only the device knows."""

    attention: Attention
    contents: tuple[HostTable, ...] = ()
    tiles: Tiles = TILES
    starts: tuple[int, ...] | None = None

    @property
    def extent(self) -> CallShape:
        return CallShape(N, N, HEADS) if self.starts is None else CallShape(N, 512, HEADS, self.starts)


def _shipped(file: str, name: str, **constants: int) -> Attention:
    bound = getattr(attnc.load(file), name)(**constants)._bound
    assert isinstance(bound, Attention)
    return bound


def _written(text: str) -> Attention:
    module = attnc.loads(text, name="written")
    (name,) = (line.split("(")[0].removeprefix("pattern ") for line in text.splitlines())
    bound = getattr(module, name)()._bound
    assert isinstance(bound, Attention)
    return bound


def _subjects() -> dict[str, Subject]:
    draw = np.random.default_rng(0)
    doc = np.searchsorted(np.sort(draw.choice(N, 6, replace=False)), np.arange(N)).astype(np.int32)
    other = np.searchsorted(np.sort(draw.choice(N, 6, replace=False)), np.arange(N)).astype(np.int32)
    few = np.isin(np.arange(N), (0, 1, 2, 700, 1500))
    chosen = HostTable(draw.integers(0, N // 64, (HEADS, N // 64 - 2, 3)).astype(np.int32))
    ranks = np.stack([draw.permutation(N) for _ in range(HEADS)]).astype(np.int32)
    blocks = HostTable(draw.random((HEADS, N // 64, N // 64)) < 0.2)
    both = HostTable(np.stack([doc, other]), batched=True)
    longformer = _shipped("longformer", "longformer", size=512)
    return {
        "documents": Subject(_shipped("documents", "documents"), (HostTable(doc),)),
        "documents in any order": Subject(
            _shipped("documents", "documents"), (HostTable(draw.permutation(7).astype(np.int32)[doc] * 1000),)
        ),
        "documents of each entry": Subject(_shipped("documents", "window_documents", size=256), (both,)),
        "longformer": Subject(longformer, (HostTable(few),)),
        "longformer, 128 rows": Subject(longformer, (HostTable(few),), Tiles(128, 64, 16)),
        "dilated longformer": Subject(_shipped("longformer", "longformer", size=128, dilation=4), (HostTable(few),)),
        "bigbird": Subject(_shipped("bigbird", "bigbird"), (chosen,)),
        "bigbird, 128 by 128": Subject(_shipped("bigbird", "bigbird"), (chosen,), Tiles(128, 128, 16)),
        "prefix": Subject(_shipped("std", "prefix"), (HostTable(np.array([100, 1000], np.int32), batched=True),)),
        "ranks of each head": Subject(
            _written("pattern near(rank: order[head, token]) = abs(rank[head, q] // 64 - rank[head, k] // 64) <= 1"),
            (HostTable(ranks),),
        ),
        "labels": Subject(
            _written("pattern same(label: int[token]) = label[q] == label[k]"),
            (HostTable(np.sort(draw.integers(0, 40, N)).astype(np.int32)),),
        ),
        "blocks": Subject(
            _written("pattern drawn(keep: bool[head, rows, columns]) = keep[head, q // 64, k // 64]"), (blocks,)
        ),
        "blocks near drawn ones": Subject(
            _written("pattern near(chosen: int[head, rows]) = abs(k // 64 - chosen[head, q // 64]) <= 1"),
            (HostTable(draw.integers(0, N // 64, (HEADS, N // 64)).astype(np.int32)),),
            Tiles(128, 64, 16),
        ),
        "dilated window of documents": Subject(
            _written("pattern spread(doc: int[token]) = doc[q] == doc[k] and abs(q - k) <= 256 and (q - k) % 8 == 0"),
            (HostTable(doc),),
        ),
        "an image of any width": Subject(
            _written("pattern image(width: int[]) = abs(q // width - k // width) <= 1"),
            (HostTable(np.array([256, 512], np.int32), batched=True),),
        ),
        "rows behind by any width": Subject(
            _written("pattern behind(width: int[]) = (q - k) // width == 1 and (q - k) % width < 200"),
            (HostTable(np.array(600, np.int32)),),
        ),
        "first rows": Subject(_shipped("std", "causal_window", size=256), starts=(300, 1100)),
        "first rows of documents": Subject(_shipped("documents", "causal_documents"), (both,), starts=(300, 1100)),
        "first rows of longformer": Subject(longformer, (HostTable(few),), starts=(300, 1100)),
    }


SUBJECTS = _subjects()


def _program(subject: Subject, seen: CallShape, on_device: bool) -> Program:
    heads = HEADS if _heads_differ(subject.attention) else None
    program = pipeline.program(subject.attention, only(subject.tiles), heads)
    if applies_to(program, seen, on_device):
        return program
    return pipeline.program(subject.attention, only(subject.tiles), heads, natural_rows=True)


def area(program: Program, plan: Schedule, extent: CallShape) -> float:
    """Keys computed per query, over entries and heads."""
    total = 0.0
    for kernel, its in zip(program.kernels, plan.kernels, strict=True):
        rows = kernel.rows.tiles(extent.m, its.rows)
        for segment, bounds in zip(kernel.segments, its.segments, strict=True):
            visited = tile_promises.kinds(bounds.by_query, rows, segment.keys.tiles(extent.n, bounds.keys)) > 0
            share = 1.0 if kernel.heads is None else len(kernel.heads) / extent.heads
            total += visited.mean((0, 1)).sum() * kernel.rows.tile * segment.keys.tile * share
    return total / extent.m


@pytest.mark.parametrize("name", SUBJECTS)
def test_keys_per_query_are_those_of_the_hosts_plan(name: str) -> None:
    subject = SUBJECTS[name]
    extent = subject.extent
    seen = extent if subject.starts is None else replace(extent, q_start=None)
    on_host = _program(subject, extent, False)
    expected = area(on_host, schedule(on_host, extent, subject.contents), extent)
    program = _program(subject, seen, True)
    plan = device_schedule(program, extent, subject.contents, seen=seen)
    assert plan.on_device
    assert area(program, plan, extent) <= 1.02 * expected
    if subject.tiles.query == 64 and not kernels_are_many(program):
        assert tile_promises.fault(program, plan, extent, subject.contents) is None


def test_documents_in_any_order_cost_what_those_in_order_do() -> None:
    """Signatures tell numbers apart that lie between the least and the greatest of a tile."""
    found = []
    for name in ("documents", "documents in any order"):
        subject = SUBJECTS[name]
        program = _program(subject, subject.extent, True)
        found.append(area(program, device_schedule(program, subject.extent, subject.contents), subject.extent))
    assert found[1] <= 1.02 * found[0]


def kernels_are_many(program: Program) -> bool:
    """Whether looking at every pair takes seconds."""
    return sum(len(kernel.segments) for kernel in program.kernels) > 2


def test_a_list_has_room_for_the_members_of_its_set() -> None:
    """A set that is given as members bounds its list; a bitmap does not."""
    longformer = _shipped("longformer", "longformer", size=8)
    program = pipeline.program(longformer, only(Tiles(16, 16, 16)))
    assert any(isinstance(kernel.rows, Gathered) for kernel in program.kernels)
    extent = CallShape(512, 512)
    for most, room in ((7, 7), (None, 512)):
        plan = schedule(program, extent, (HostTable(None, shape=(512,), most=most),), on_device=True)
        rooms = {x for its in plan.kernels for x in (its.rows_room, *(s.keys_room for s in its.segments))}
        assert rooms == {None, room}


def test_who_does_not_plan_on_the_device_visits_every_tile() -> None:
    program, contents = _documents()
    extent = CallShape(64, 64)
    plan = schedule(program, extent, hidden(contents), on_device=True)
    assert plan.on_device
    assert tile_promises.fault(program, plan, extent, contents) is None
    assert not schedule(program, extent, hidden(contents)).on_device
    assert not schedule(program, extent, contents, on_device=True).on_device


def _planned_launches(launch: Launch) -> Iterator[Launched]:
    """What planning launches for tiles of rows, and for tiles of keys; nothing runs."""
    for its, by_query in ((launch, True), (launch.over_keys, False)):
        noted = Launched()

        def note(
            module: PlanModule, function: str, programs: int, given: Mapping[str, Any], to: Launched = noted
        ) -> None:
            to.note(
                function, programs, {parameter.name: given[parameter.name] for parameter in module.parameters[function]}
            )

        device_plans.plan(its, lift_constants(its.program).program.tables, by_query, note)
        yield noted


def test_planning_a_million_tokens_takes_little_memory() -> None:
    """The kinds of all tiles of all heads would be 3 GB."""
    n, heads = 2**20, 12
    q = torch.empty(1, heads, n, 64, dtype=torch.bfloat16, device="meta")
    tables = {"chosen": torch.empty(heads, n // 64 - 2, 3, dtype=torch.int32, device="meta")}
    choices = TRITON.tiles(BF16, 64, "sm_90")
    call = Call(q, q, q, tables, None, 0, None, 0.0, 0)
    bigbird = _shipped("bigbird", "bigbird")
    launch = launch_of(bigbird, call, choices.backward_queries, choices.backward_keys, on_device=True)
    for its, noted in zip((launch, launch.over_keys), _planned_launches(launch), strict=True):
        assert noted.bytes < 450e6, "kinds, and for each segment ranges and runs"
        segments = [(kernel.rows, part.keys) for kernel in its.program.kernels for part in kernel.segments]
        kinds = sum(heads * (n // rows.tile) * (n // keys.tile) for rows, keys in segments)
        assert len(noted.names) < 2 * kinds / 2**26 + 20 * len(segments), "two for each band of 64 MB of kinds"
        assert max(programs for _, programs in noted.names) < 2**31


@pytest.mark.parametrize("name", ["bigbird", "documents of each entry", "first rows of longformer"])
@pytest.mark.parametrize("most", [1, 100, 1100, 2100])
def test_tiles_that_are_judged_a_few_at_a_time_are_the_same(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line at a time, several lines of one slot, or several slots."""
    subject = SUBJECTS[name]
    program = _program(subject, replace(subject.extent, q_start=None), True)
    at_once, in_bands = Launched(), Launched()
    plan = device_schedule(program, subject.extent, subject.contents, launched=at_once)
    monkeypatch.setattr(device_plans, "_MOST_KINDS", most)
    again = device_schedule(program, subject.extent, subject.contents, launched=in_bands)
    for kernel, same in zip(plan.kernels, again.kernels, strict=True):
        for segment, its in zip(kernel.segments, same.segments, strict=True):
            for of, found in ((segment.by_query, its.by_query), (segment.by_key, its.by_key)):
                arrays = ("pointer", "start", "length", "kind")
                assert all(np.array_equal(getattr(of.runs, array), getattr(found.runs, array)) for array in arrays)
    assert most > 1 or len(in_bands.names) > 4 * len(at_once.names)


@pytest.mark.parametrize("name", ["bigbird", "longformer", "documents", "starts"])
def test_nothing_of_a_device_is_read(name: str) -> None:
    """Tensors without contents: to read one is an error. And BigBird at 64k takes a dozen launches."""
    n, heads = 65536, 12

    def empty(*shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    tables = {
        "bigbird": {"chosen": empty(heads, n // 64 - 2, 3, dtype=torch.int32)},
        "longformer": {"g": empty(7, dtype=torch.int64)},
        "documents": {"doc": empty(n, dtype=torch.int32)},
        "starts": {},
    }[name]
    attention = {
        "bigbird": lambda: _shipped("bigbird", "bigbird"),
        "longformer": lambda: _shipped("longformer", "longformer"),
        "documents": lambda: _shipped("documents", "documents"),
        "starts": lambda: _shipped("causal", "causal"),
    }[name]()
    q = empty(1, heads, n, 64, dtype=torch.bfloat16)
    starts = empty(1, dtype=torch.int64) if name == "starts" else None
    choices = TRITON.tiles(BF16, 64, "sm_90")
    launch = launch_of(
        attention,
        Call(q, q, q, tables, None, 0, starts, 0.0, 0),
        choices.backward_queries,
        choices.backward_keys,
        on_device=True,
    )
    for noted in _planned_launches(launch):
        assert 0 < len(noted.names) <= 12
        assert noted.bytes < 200e6
        assert max(programs for _, programs in noted.names) <= heads * n // 16, "a program for each granule at most"
