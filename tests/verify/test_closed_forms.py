"""ATTNC_VERIFY proves the closed forms of schedules for every length, and says where it only checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
import torch

import attnc
from attnc.compiler.plan.orders import Box, Tiles
from attnc.compiler.proofs import client
from attnc.compiler.proofs.messages import read_answer, read_question, written_answer, written_question
from attnc.compiler.proofs.questions import Unknown
from attnc.compiler.proofs.tile_questions import HaloQuestion, TileFault, TileQuestion
from attnc.compiler.proofs.tiles import decide_tiles
from attnc.compiler.schedule import periodic
from attnc.compiler.schedule.segments import schedule
from attnc.compiler.verify import closed_forms
from attnc.compiler.verify.schedule_interpreter import ScheduleFaultError
from attnc.runtime import planning
from attnc.runtime.base.configuration import settings
from tests.support.generators.random_expressions import Generator
from tests.support.generators.walked_masks import drawn_case, forced

MODULE = attnc.loads("""
pattern near = abs(q - k) <= 5000
pattern apart = k <= q and (q - k) % 12 == 0
pattern boxed = abs(q // 64 - k // 64) <= 3 and abs(q % 64 - k % 64) <= 3
pattern growing = q - k <= head * 8 + 9 and k <= q
pattern by_head(reach: int[head]) = 0 <= q - k and q - k <= reach[head]
pattern within_documents(doc: int[token]) = doc[q] == doc[k] and abs(q - k) <= 100
pattern twice = (k <= q) + (abs(q - k) <= 70)
pattern half = q - k <= n // 2 and k <= q
pattern ranked(rank: order[token]) = rank[k] <= rank[q]
pattern some = hash(q // 64, k // 64) % 10 < 2 and k <= q
""")
PROVED = "kernel 0, segment 0: proved for every length"
LISTED = "kernel 0, segment 0: checked for this call (its runs are listed anew for each)"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(planning, "_plans", planning.Kept(8))
    periodic.forget()
    closed_forms._answer.cache_clear()
    yield
    periodic.forget()
    closed_forms._answer.cache_clear()


KNOWN: dict[str, tuple[str, dict[str, object], tuple[str, ...]]] = {
    "a window wider than the call": ("near", {}, (PROVED,)),
    "from a later query on": ("near", {"q_start": 700}, (PROVED,)),
    "up to a length": ("apart", {"q_start": 700}, ("kernel 0, segment 0: proved for lengths up to 1,024",)),
    "boxes": ("boxed", {}, (PROVED,)),
    "heads": ("growing", {"heads": 4}, (PROVED,)),
    "heads by a table": ("by_head", {"reach": torch.tensor([3, 200])}, (PROVED,)),
    "a table of tokens": ("within_documents", {"doc": torch.arange(1000) // 40}, (LISTED,)),
    "ranks": ("ranked", {"rank": torch.randperm(1000, generator=torch.manual_seed(0))}, (PROVED,)),
    "counts": ("twice", {}, (PROVED, PROVED.replace("segment 0", "segment 1"))),
    "the length": ("half", {}, ("kernel 0, segment 0: proved for n = 1,000",)),
    "a hash": ("some", {}, (LISTED,)),
}


@pytest.mark.parametrize("what", KNOWN)
def test_what_is_known_of_each_segment(what: str) -> None:
    name, given, expected = KNOWN[what]
    assert MODULE[name]().plan(1000, **given).validation == expected  # type: ignore[arg-type]


def test_right_schedules_of_any_masks_pass() -> None:
    found = Counter[str]()
    for seed in range(24):
        drawn, random = drawn_case(seed), Generator(seed).case()
        walked = forced(drawn.mask, drawn.tables, Random(seed), Tiles(8, 4, 2))
        for case, made in ((drawn, walked), (random, random.program(4, 8))):
            bounds = schedule(made, case.extent, case.contents)
            found.update(known.verdict for known in closed_forms.validate(made, bounds, case.extent, case.contents))
    assert min(found["proved"], found["checked"]) >= 20


def test_a_long_list_is_not_checked() -> None:
    (found,) = MODULE.some().plan(2**13).validation
    assert found == "kernel 0, segment 0: unchecked for this call (more than 16,777,216 pairs)"


# Each takes a run that the sample's horizon cut for an endless one: right at every length that is sampled.
FULL = "a tile called full lacks a pair: by query, tile 0 of queries and tile 78 of keys, q = 0, k = 5,001, n = 5,002$"
EMPTY = "a tile called empty holds a pair: by (query|key), .*, q = .*, k = .*, n = .*"
HORIZONS = {
    "of all templates": ("near", 0, rf"kernel 0, segment 0, of the pairs abs\(q - k\) <= 5000: {FULL}"),
    "of those up to a length": ("apart", 700, rf"kernel 0, segment 0, of the pairs .*: {EMPTY}"),
}


@pytest.mark.parametrize("what", HORIZONS)
def test_a_run_cut_by_the_samples_horizon_is_not_endless(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, start, message = HORIZONS[what]
    if what == "of all templates":
        monkeypatch.setattr(periodic, "_FAR", 2**12)
    else:
        made = periodic._make_template

        def endless(*x: object) -> periodic.Template | None:
            found = made(*x)  # type: ignore[arg-type]
            return None if found is None else replace(found, endless=True)

        monkeypatch.setattr(periodic, "_make_template", endless)
    attend = MODULE[name]()
    with settings.override(verify=False):
        attend.plan(1000, q_start=start)
    monkeypatch.setattr(planning, "_plans", planning.Kept(8))
    with settings.override(verify=True), pytest.raises(ScheduleFaultError, match=message):
        attend.plan(1000, q_start=start)


def test_a_halo_that_is_too_small_is_found() -> None:
    planned = MODULE.boxed().plan(500)
    (kernel,) = planned.kernels
    (segment,) = kernel.segments
    assert isinstance(segment.keys, Box)
    for short, q, k in ((replace(segment.keys, before=(3, 2)), 3, 0), (replace(segment.keys, after=(2, 3)), 0, 192)):
        found = decide_tiles(HaloQuestion(segment.condition, short))
        assert isinstance(found, TileFault)
        assert (found.q, found.k, found.n) == (q, k, k + 1)


def test_what_is_not_proved_is_checked_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_forms, "prove_tiles", lambda _: Unknown("no prover"))
    assert MODULE.near().plan(100).validation == ("kernel 0, segment 0: checked for lengths up to 512 (no prover)",)
    assert MODULE.near().plan(1000).validation == ("kernel 0, segment 0: checked for lengths up to 1,000 (no prover)",)
    monkeypatch.setattr(periodic, "_FAR", 2**7)
    periodic.forget()
    narrow = attnc.loads("pattern narrow = abs(q - k) <= 200").narrow()
    with pytest.raises(ScheduleFaultError, match="a tile called full lacks a pair"):
        _ = narrow.plan(150).validation


def test_it_is_proved_once_and_only_under_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def prove(question: TileQuestion | HaloQuestion) -> object:
        asked.append(question)
        return client.prove_tiles(question)

    monkeypatch.setattr(closed_forms, "prove_tiles", prove)
    near = MODULE.near()
    near.plan(64)
    assert not asked
    with settings.override(verify=True):
        for n, start in ((65, 0), (900, 0), (900, 128), (10**6, 64)):
            near.plan(n, q_start=start)
    assert len(asked) == 1


def test_questions_and_answers_survive_their_way() -> None:
    questions: list[TileQuestion | HaloQuestion] = []
    for name, given in (("near", {}), ("apart", {"q_start": 700}), ("boxed", {})):
        plan = MODULE[name]().plan(1000, **given)
        kernel, its = plan.kernels[0], plan.schedule.kernels[0]
        launch = closed_forms._Launch(plan.program, kernel, kernel.segments[0], its.segments[0], plan.extent, ())
        questions += [found for found in closed_forms._questions(launch) if not isinstance(found, TileFault)]  # type: ignore[misc]
    assert len(questions) == 3
    for question in questions:
        assert read_question(written_question(question)) == question
    fault = TileFault("a tile called full lacks a pair", "by key", 1, 2, 3, 4, 5, 6, 7)
    assert read_answer(written_answer(fault)) == fault
    assert str(fault).endswith("by key, tile 1 of keys and tile 2 of queries, q = 3, k = 4, n = 5, m = 6, q_start = 7")
