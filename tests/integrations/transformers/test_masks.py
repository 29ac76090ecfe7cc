"""Judges patterns read back from mask functions: each keeps the pairs that the library's own dense mask keeps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
    from transformers import masking_utils

    from attnc.integrations import transformers as integration
    from attnc.integrations.transformers.mask_interface import attention_mask
    from attnc.integrations.transformers.pattern_mask import PatternMask

BATCH, LENGTH = 2, 12
IDS = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]])
POSITIONS = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
BLOCKS = torch.tensor([[-1, -1, 0, 0, 0, -1, 1, 1, 1, 1, -1, -1], [0, 0, 0, -1, -1, -1, -1, -1, -1, -1, 2, 2]])
LEFT = torch.tensor([3, 0])

Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def _every_warning() -> Iterator[None]:
    integration.forget_warnings()
    yield
    integration.forget_warnings()


def kept(mask: PatternMask) -> Tensor:
    """The pairs that a pattern keeps, bool ``[batch, m, n]``, by the oracle."""
    sizes = mask.sizes
    found = mask.attn.mask(sizes.kv_length, sizes.q_length, q_start=mask.q_start, **dict(mask.tables))
    return found[..., 0, :, :].expand(sizes.batch, -1, -1)


def expected(function: Function, sizes: dict[str, Any], padding: Tensor | None, batch: int = BATCH) -> Tensor:
    mask = masking_utils.sdpa_mask(
        batch, **sizes, mask_function=function, attention_mask=padding, allow_is_causal_skip=False
    )
    assert mask is not None
    return mask[:, 0]


def functions() -> dict[str, Function]:
    m = masking_utils
    window = m.sliding_window_causal_mask_function(4)
    return {
        "causal": m.causal_mask_function,
        "bidirectional": m.bidirectional_mask_function,
        "window": window,
        "two-sided": m.sliding_window_bidirectional_mask_function(3),
        "chunked": m.chunked_causal_mask_function(5, LEFT),
        "chunked from 0": m.chunked_causal_mask_function(5, torch.zeros(2, dtype=torch.long)),
        "blocks too": m.or_masks(window, m.blockwise_overlay(BLOCKS)),
        "packed": m.packed_sequence_compatibility_function(m.causal_mask_function, POSITIONS, IDS),
        "packed window": m.packed_sequence_compatibility_function(window, POSITIONS, IDS),
        "packed chunks": m.packed_sequence_compatibility_function(
            m.chunked_causal_mask_function(3, LEFT * 0), POSITIONS, IDS
        ),
        "packed otherwise": m.packed_sequence_compatibility_function(window, POSITIONS * 2, IDS),
        "packed or blocks": m.or_masks(
            m.packed_sequence_compatibility_function(window, POSITIONS, IDS), m.blockwise_overlay(BLOCKS)
        ),
        "nested": m.and_masks(m.or_masks(window, m.blockwise_overlay(BLOCKS)), m.sliding_window_overlay(6)),
    }


PADDINGS = {
    "none": None,
    "left": torch.tensor([[0] * 3 + [1] * 9, [1] * 12]).bool(),
    "right": torch.tensor([[1] * 8 + [0] * 4, [1] * 12]).bool(),
    "inner": torch.tensor([[1] * 4 + [0] * 3 + [1] * 5, [1] * 12]).bool(),
    "short": torch.tensor([[0] * 2 + [1] * 5, [1] * 7]).bool(),
}


@pytest.mark.parametrize("padding", PADDINGS.values(), ids=PADDINGS)
@pytest.mark.parametrize("name", functions())
def test_a_pattern_keeps_what_the_library_keeps(name: str, padding: Tensor | None) -> None:
    function = functions()[name]
    for q_length, kv_length, q_offset, kv_offset in ((12, 12, 0, 0), (3, 12, 9, 0), (1, 5, 8, 4), (2, 9, 10, 3)):
        sizes = {"q_length": q_length, "kv_length": kv_length, "q_offset": q_offset, "kv_offset": kv_offset}
        mask = attention_mask(BATCH, **sizes, mask_function=function, attention_mask=padding)
        assert isinstance(mask, PatternMask)
        assert torch.equal(kept(mask), expected(function, sizes, padding)), (mask.text, sizes)


def test_offsets_may_be_tensors() -> None:
    sizes: dict[str, Any] = {"q_length": 2, "kv_length": 9, "q_offset": torch.tensor(10), "kv_offset": torch.tensor(3)}
    for function in functions().values():
        mask = attention_mask(BATCH, **sizes, mask_function=function)
        assert mask is not None
        assert torch.equal(kept(mask), expected(function, sizes, None)), mask.text


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_tree_of_them_keeps_what_the_library_keeps(data: st.DataObject) -> None:
    leaves = [*functions().values(), masking_utils.sliding_window_overlay(5)]

    def tree(depth: int) -> Function:
        if not depth or data.draw(st.booleans()):
            return data.draw(st.sampled_from(leaves))
        join = data.draw(st.sampled_from([masking_utils.and_masks, masking_utils.or_masks]))
        return join(*(tree(depth - 1) for _ in range(data.draw(st.integers(1, 3)))))

    function = tree(3)
    padding = data.draw(st.sampled_from(list(PADDINGS.values())))
    start = data.draw(st.integers(0, 6))
    rows = data.draw(st.integers(1, 6))
    keys = data.draw(st.integers(1, 12 - start))
    sizes = {"q_length": rows, "kv_length": keys, "q_offset": 12 - rows, "kv_offset": start}
    mask = attention_mask(BATCH, **sizes, mask_function=function, attention_mask=padding)
    assert mask is not None
    assert torch.equal(kept(mask), expected(function, sizes, padding)), mask.text


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("window", "causal_window(4)"),
        ("two-sided", "abs(q - k) <= 3"),
        ("packed window", "document[q] == document[k] and causal_window(4)"),
        ("chunked from 0", "blocks(5) and causal"),
    ],
)
def test_the_text_is_what_one_would_write(name: str, condition: str) -> None:
    mask = attention_mask(BATCH, LENGTH, LENGTH, mask_function=functions()[name])
    assert mask is not None
    assert f"mask = {condition}\n" in mask.text


def test_equal_masks_are_one_attention() -> None:
    first, second = (attention_mask(BATCH, n, n, mask_function=functions()["window"]) for n in (5, 9))
    assert first is not None
    assert second is not None
    assert first.attn is second.attn


def odd(batch: Any, head: Any, q: Any, k: Any) -> Any:
    return (q * 5 + k * 3) % 7 < 4


@pytest.mark.filterwarnings("default")
def test_a_function_that_is_not_known_is_a_table_with_one_warning() -> None:
    function = masking_utils.and_masks(masking_utils.causal_mask_function, odd)
    sizes = {"q_length": 5, "kv_length": 9, "q_offset": 4, "kv_offset": 0}
    with pytest.warns(UserWarning, match=r"mask function .*\.odd is not one of the library's"):
        mask = attention_mask(BATCH, **sizes, mask_function=function, use_vmap=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attention_mask(BATCH, **sizes, mask_function=function, use_vmap=True)
    assert mask is not None
    assert "causal and allowed[q, k]" in mask.text
    assert torch.equal(kept(mask), expected(function, sizes, None))


def test_no_mask_where_eager_attention_gets_none() -> None:
    given = {"mask_function": masking_utils.bidirectional_mask_function, "allow_is_bidirectional_skip": True}
    assert attention_mask(BATCH, LENGTH, LENGTH, **given) is None
    assert attention_mask(BATCH, LENGTH, LENGTH, attention_mask=PADDINGS["left"], **given) is not None
    assert attention_mask(BATCH, LENGTH, LENGTH, mask_function=masking_utils.bidirectional_mask_function) is not None


def test_a_prepared_mask_is_returned_as_it_is() -> None:
    mask = attention_mask(BATCH, LENGTH, LENGTH)
    assert attention_mask(BATCH, 3, 5, attention_mask=mask) is mask


def test_torch_sees_the_additive_mask_of_eager_attention() -> None:
    function, padding = functions()["window"], PADDINGS["inner"]
    mask: Any = attention_mask(
        BATCH, LENGTH, LENGTH, mask_function=function, attention_mask=padding, dtype=torch.float64
    )
    dense = masking_utils.eager_mask(
        BATCH, LENGTH, LENGTH, mask_function=function, attention_mask=padding, dtype=torch.float64
    )
    scores = torch.randn(BATCH, 4, LENGTH, LENGTH, dtype=torch.float64)
    assert (mask.ndim, mask.dtype, mask.shape, mask.device) == (4, dense.dtype, dense.shape, dense.device)
    assert "dense" not in mask.made, "none of these is worth making the tensor for"
    for seen, wanted in (
        (scores + mask, scores + dense),
        (mask + scores, scores + dense),
        (scores - mask, scores - dense),
        (1 - mask, 1 - dense),
        (mask[:, 0], dense[:, 0]),
        (mask[..., :5], dense[..., :5]),
        (mask == 0, dense == 0),
        (torch.cat([mask, mask], -1), torch.cat([dense, dense], -1)),
        (mask.expand(-1, 4, -1, -1), dense.expand(-1, 4, -1, -1)),
        (mask.to(torch.float32), dense.to(torch.float32)),
        (torch.where(mask < 0, 1, 0), torch.where(dense < 0, 1, 0)),
        (scores.masked_fill(mask != 0, 0.0), scores.masked_fill(dense != 0, 0.0)),
    ):
        assert torch.equal(seen, wanted)


def test_on_another_device_a_mask_stays_a_pattern() -> None:
    padding = PADDINGS["inner"]
    mask: Any = attention_mask(BATCH, LENGTH, LENGTH, mask_function=functions()["window"], attention_mask=padding)
    assert mask.to("cpu") is mask
    moved = mask.to(torch.device("meta"), non_blocking=True)
    assert isinstance(moved, PatternMask)
    assert moved is mask.to(device="meta")
    assert {table.device.type for table in moved.tables.values()} == {moved.device.type} == {"meta"}
    assert moved.text == mask.text
    assert isinstance(mask.to(torch.float16), Tensor)
    assert mask.to("cpu", torch.float64).dtype == torch.float64
