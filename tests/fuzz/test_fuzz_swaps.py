"""A sample of the campaign over swapped models, and whether it would notice an attention that is another."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from attnc import Attention
from attnc.integrations.transformers.swaps import decoders, longformer, reformer
from attnc.integrations.transformers.swaps.compose import text
from tests.fuzz import swaps
from tests.support.hf_models import without_builds  # noqa: F401

SAMPLE = 7_000_000  # seeds that a run begun at random is not likely to draw


def test_random_models_are_the_librarys() -> None:
    seen = set()
    for seed in range(SAMPLE, SAMPLE + 20):
        case = swaps.generate(seed)
        seen.add(case.family)
        assert swaps.fault(case) is None, swaps.told(case)
    assert len(seen) >= 6


def _no_chunk_before(name: str, **constants: int) -> Attention:
    return text(name, **{key: 0 if key == "before" else value for key, value in constants.items()})


def _no_window(name: str, **constants: int) -> Attention:
    return text("between_local") if name == "local_rows" else text(name, **constants)


def _wider(name: str, **constants: int) -> Attention:
    return text(name, **{key: value + 1 if key == "size" else value for key, value in constants.items()})


@pytest.mark.parametrize(
    ("family", "module", "wrong"),
    [("longformer", longformer, _no_window), ("reformer", reformer, _no_chunk_before), ("gpt_neo", decoders, _wider)],
    ids=["longformer", "reformer", "gpt_neo"],
)
def test_another_attention_would_be_noticed(
    family: str, module: ModuleType, wrong: Callable[..., Attention], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "text", wrong)
    cases = [case for case in map(swaps.generate, range(SAMPLE, SAMPLE + 60)) if case.family == family][:5]
    assert sum(swaps.fault(case) is not None for case in cases) >= 2
