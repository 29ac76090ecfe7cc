"""Plans made by kernels in Triton's interpreter: results against the definition, and again from a recorded call.

`python -m tests.support.triton.device_checks` prints one line of JSON: for each check what is wrong, or nothing.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":
    os.environ["ATTNC_INTERPRET"] = "1"
    os.environ["ATTNC_PLAN_ON_DEVICE"] = "1"

import torch
from torch import Tensor

import attnc
from attnc.attention import Attention
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.tile_choices import always
from attnc.runtime.base import captures
from attnc.runtime.call.checks import Call
from attnc.runtime.planning import launch_of
from attnc.runtime.triton.backend import INTERPRETER
from tests.support.triton.told import tell

TILES = always(Tiles(16, 16, 16))
RANKS = "pattern buckets(rank: order[token]) = abs(rank[q] // 8 - rank[k] // 8) <= 1"


@dataclass(frozen=True)
class Subject:
    """An attention, two contents of its tables, and the sizes of a call."""

    attention: Attention
    tables: Callable[[int], Mapping[str, Tensor]]
    n: int = 56
    m: int = 56
    heads: int = 1
    batch: int = 1
    starts: Callable[[int], Tensor] | None = None


def _documents(turn: int) -> Mapping[str, Tensor]:
    cut = (20, 35)[turn]
    return {"doc": torch.tensor([0] * cut + [5] * (40 - cut) + [2] * 16, dtype=torch.int32)}


def _globals(turn: int) -> Mapping[str, Tensor]:
    chosen = torch.zeros(56, dtype=torch.bool)
    chosen[[[3, 40], [0, 21, 22]][turn]] = True
    return {"g": chosen}


def _globals_of_entries(turn: int) -> Mapping[str, Tensor]:
    """As bitmaps: first few, in one block of rows, then so many in one entry that its blocks have fewer parts."""
    chosen = torch.zeros(2, 136, dtype=torch.bool)
    chosen[0, [3, 40, 130]] = True
    chosen[1, [7] if turn == 0 else list(range(5, 136, 2))] = True
    return {"g": chosen}


def _drawn(turn: int) -> Mapping[str, Tensor]:
    return {"chosen": torch.randint(0, 4, (2, 2, 1), generator=torch.Generator().manual_seed(turn)).int()}


def _ranks(turn: int) -> Mapping[str, Tensor]:
    return {"rank": torch.randperm(56, generator=torch.Generator().manual_seed(turn)).int()}


def _lengths(turn: int) -> Mapping[str, Tensor]:
    return {"length": torch.tensor([(5, 40), (33, 1)][turn], dtype=torch.int32)}


def _nothing(_turn: int) -> Mapping[str, Tensor]:
    return {}


def _starts(turn: int) -> Tensor:
    return torch.tensor([(3, 30), (36, 17)][turn])


def subjects() -> dict[str, Subject]:
    return {
        "documents": Subject(attnc.load("documents").causal_documents(), _documents),
        "longformer": Subject(attnc.load("longformer").longformer(size=8), _globals),
        "longformer, rows in parts": Subject(
            attnc.load("longformer").longformer(size=8), _globals_of_entries, n=136, m=136, heads=2, batch=2
        ),
        "bigbird": Subject(attnc.load("bigbird").bigbird(block=16, draws=1), _drawn, n=64, m=64, heads=2),
        "ranks": Subject(attnc.loads(RANKS, name="ranks").buckets(), _ranks),
        "prefix": Subject(attnc.load("std").prefix(), _lengths, batch=2),
        "starts": Subject(attnc.load("std").causal_window(size=9), _nothing, m=20, batch=2, starts=_starts),
    }


def _inputs(subject: Subject) -> tuple[Tensor, Tensor, Tensor]:
    shape = subject.batch, subject.heads
    return torch.randn(*shape, subject.m, 16), torch.randn(*shape, subject.n, 16), torch.randn(*shape, subject.n, 16)


def _run(subject: Subject, q: Tensor, k: Tensor, v: Tensor, tables: Mapping[str, Tensor], start: Tensor | None) -> Any:
    """out, lse and the gradients of q, k and v, by the executor alone, as the operator calls it."""
    bound = subject.attention._bound
    call = Call(q, k, v, tables, None, 0, start, 0.0, 0)
    launch = launch_of(bound, call, TILES.forward, on_device=True)
    out, lse = INTERPRETER.forward(launch)
    launch = launch_of(bound, call, TILES.backward_queries, TILES.backward_keys, on_device=True)
    gradients = INTERPRETER.backward(launch, out, lse, torch.ones_like(out), None)
    return out, gradients.q, gradients.k, gradients.v


def _expected(
    subject: Subject, q: Tensor, k: Tensor, v: Tensor, tables: Mapping[str, Tensor], start: Tensor | None
) -> list[Tensor]:
    given = [x.clone().requires_grad_() for x in (q, k, v)]
    where = {} if start is None else {"q_start": start}
    out = subject.attention.reference(*given, **tables, **where)
    return [out.detach(), *torch.autograd.grad(out.sum(), given)]


def _compare(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for name, own, right in zip(("out", "dq", "dk", "dv"), found, expected, strict=True):
        torch.testing.assert_close(own, right, rtol=2e-5, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def check(subject: Subject) -> None:
    """A call that plans on the device, then the same one as it was recorded, with other contents of the same tables."""
    from tests.support.triton.recording import captured, forget_plans

    q, k, v = _inputs(subject)
    tables = {name: x.clone() for name, x in subject.tables(0).items()}
    start = None if subject.starts is None else subject.starts(0)
    first = _run(subject, q, k, v, tables, start)
    _compare(first, _expected(subject, q, k, v, tables, start))
    with captured() as recording:
        found = _run(subject, q, k, v, tables, start)
    assert all(torch.equal(a, b) for a, b in zip(first, found, strict=True)), "a captured call differs"
    assert "tile_kinds" in dict(recording.launches), "nothing was planned on the device"
    assert "_local_scalar_dense" not in recording.operators, "the host read a number"
    forget_plans()
    gc.collect()
    for name, x in subject.tables(1).items():
        tables[name].copy_(x)
    if start is not None and subject.starts is not None:
        start.copy_(subject.starts(1))
    q.copy_(torch.randn_like(q))
    recording.replay()
    _compare(found, _expected(subject, q, k, v, tables, start))
    assert not torch.equal(first[0], found[0]), "the replay changed nothing"


def parts() -> None:
    """Blocks of a list's room that have no row leave their programs to those with rows: keys are split among them."""
    from attnc.runtime.triton import executor

    subject = subjects()["longformer, rows in parts"]
    made: list[Tensor] = []
    plain = executor._Call.empty

    def empty(self: Any, *shape: int) -> Tensor:
        made.append(plain(self, *shape).fill_(float("-inf")))
        return made[-1]

    for turn, used in ((0, [2, 2, 2, 2]), (1, [2, 2, 5, 5])):
        made.clear()
        q, k, v = _inputs(subject)
        call = Call(q, k, v, subject.tables(turn), None, 0, None, 0.0, 0)
        with patch.object(executor._Call, "empty", empty):
            INTERPRETER.forward(launch_of(subject.attention._bound, call, TILES.forward, on_device=True))
        (of_parts,) = (x for x in made if x.ndim == 3 and x.shape[:2] == (4, 1))
        blocks = (of_parts.view(4, -1, 16) > float("-inf")).any(-1).sum(-1)
        assert blocks.tolist() == used


def pinned() -> None:
    """What a capture takes from caches stays when they drop it."""
    import weakref

    from attnc.runtime.base.device_copies import device_numbers
    from tests.support.triton.recording import captured, forget_plans

    cpu = torch.device("cpu")
    loose = weakref.ref(device_numbers((1, 2), torch.int32, cpu))
    held = weakref.ref(device_numbers((3, 4), torch.int32, cpu))
    with captured():
        device_numbers((3, 4), torch.int32, cpu)
        try:
            device_numbers((5, 6), torch.int32, cpu)
        except RuntimeError as error:
            assert "expected a call with the same sizes" in str(error)  # noqa: PT017
        else:
            raise AssertionError("a copy was captured")
    forget_plans()
    gc.collect()
    assert loose() is None
    assert held() is not None
    assert any(x is held() for x in captures.pinned())


def checks() -> dict[str, Callable[[], None]]:
    """Every check by its name."""
    found: dict[str, Callable[[], None]] = {name: partial(check, subject) for name, subject in subjects().items()}
    return {**found, "parts": parts, "pinned": pinned}


if __name__ == "__main__":
    tell(checks(), sys.argv[1:])
