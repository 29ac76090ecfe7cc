"""Gradients of every shipped pattern and score, tables included, against finite differences in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime.base.configuration import settings
from tests.support.shipped_files import EVERY_KIND

N = 66  # a whole tile and a bit
HEADS = 2
BLOCK = 11
MIDDLE = N // BLOCK - 2

SLOPE = {"slope": torch.tensor([0.5, -0.0625])}
DOC = {"doc": torch.arange(N) // 9}
CHOSEN = {"chosen": torch.arange(HEADS * MIDDLE * 3).reshape(HEADS, MIDDLE, 3) * 5 % (MIDDLE + 2)}
REAL = {"real": torch.arange(N) < 60}
GLOBAL = {"g": torch.tensor([0, 40, -1])}

# Patterns and attentions of shipped files of every kind: the constants, and what a call gives.
GALLERY: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {
    "alibi.alibi": ({}, SLOPE),
    "alibi.alibi_window": ({"size": 20}, SLOPE),
    "bigbird.bigbird": ({"block": BLOCK}, CHOSEN),
    "bigbird.bigbird_padded": ({"block": BLOCK}, {**CHOSEN, **REAL}),
    "causal.causal": ({}, {}),
    "documents.documents": ({}, DOC),
    "documents.causal_documents": ({}, DOC),
    "documents.window_documents": ({"size": 8}, DOC),
    "full.full": ({}, {}),
    "longformer.longformer": ({"size": 12, "dilation": 2}, GLOBAL),
    "prefix_lm.prefix_lm": ({}, {"length": torch.tensor([3, 50])}),
    "sink_window.sink_window": ({"size": 10, "sinks": 2}, {}),
    "softcap.softcap": ({"size": 20, "cap": 2.0}, {}),
    "softcap.softcap_causal": ({"cap": 2.0}, {}),
    "std.full": ({}, {}),
    "std.causal": ({}, {}),
    "std.window": ({"size": 8, "dilation": 3}, {}),
    "std.causal_window": ({"size": 8, "dilation": 2}, {}),
    "std.band": ({"left": 3, "right": 9}, {}),
    "std.sees_all": ({}, GLOBAL),
    "std.seen_by_all": ({}, GLOBAL),
    "std.global_tokens": ({}, GLOBAL),
    "std.first": ({"count": 5}, {}),
    "std.prefix": ({}, {"length": torch.tensor([3, 50])}),
    "std.blocks": ({"size": 12}, {}),
    "std.block_band": ({"size": 12, "left": 1, "right": 0}, {}),
    "std.chunked": ({"size": 12}, {}),
    "std.strided": ({"stride": 7}, {}),
    "std.fixed": ({"stride": 7, "summary": 2}, {}),
    "std.documents": ({}, DOC),
    "std.padded": ({}, {"length": torch.tensor([0, 50])}),
    "std.grid_window": ({"width": 8, "rows": 1, "cols": 2}, {}),
    "std.random_blocks": ({"size": 8, "percent": 30}, {}),
    "strided.strided": ({"stride": 7}, {}),
    "strided.fixed": ({"stride": 7, "summary": 2}, {}),
    "window.window": ({"size": 8, "dilation": 3}, {}),
    "window.causal_window": ({"size": 8, "dilation": 2}, {}),
    "window.diagonal_only": ({}, {}),
}


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Builds that take little time, and none for the prelude, most of which the other files repeat."""
    prelude = "std." in request.node.name
    with settings.override(backend="blocked" if prelude else "auto", optimisation=0):
        yield


def test_files_of_every_kind_are_among_them() -> None:
    assert {name.partition(".")[0] for name in GALLERY} == EVERY_KIND | {"std"}


@pytest.mark.parametrize("name", GALLERY)
def test_gradients(name: str) -> None:
    module, declaration = name.split(".")
    constants, tables = GALLERY[name]
    attend = attnc.load(module)[declaration](**constants)
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, HEADS, N, 3), (2, 1, N, 3), (2, 1, N, 2))
    learned = [key for key, table in tables.items() if table.is_floating_point()]
    arguments = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    arguments += [tables[key].double() for key in learned]

    def call(q: Tensor, k: Tensor, v: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        named = {**tables, **dict(zip(learned, given, strict=True))}
        out, lse = attend(q, k, v, return_lse=True, **named)
        return out, torch.where(lse == -torch.inf, 0.0, lse)

    for argument in arguments:
        argument.requires_grad_()
    assert torch.autograd.gradcheck(call, arguments, fast_mode=True)
    torch.testing.assert_close(
        torch.autograd.grad(sum(x.sum() for x in call(*arguments)), arguments),
        torch.autograd.grad(sum(x.sum() for x in _reference(attend, tables, learned, arguments)), arguments),
    )


def _reference(
    attend: attnc.Attention, tables: dict[str, Tensor], learned: list[str], arguments: list[Tensor]
) -> tuple[Tensor, Tensor]:
    named = {**tables, **dict(zip(learned, arguments[3:], strict=True))}
    out, lse = attend.reference(*arguments[:3], return_lse=True, **named)
    return out, torch.where(lse == -torch.inf, 0.0, lse)
