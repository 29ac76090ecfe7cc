"""What is read of a layer, and which tokens its rows and keys are: told by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .inputs import Texts
from .layouts import layout_of
from .scenario import Scenario, plain


@dataclass(frozen=True, eq=False)
class AppliedMask:
    """The mask of one layer in one scenario, bool ``[batch, heads, m, n]``, over the positions of all tokens.

    ``layer``: the number that the module says it has, else its place among the modules in the order of their calls.
    ``module``: None for a function. ``scenario`` has the tokens of the rows; ``keys`` those of the keys, where these
    are another text's. ``is_text``: whether the rows are tokens, or what a model makes of pictures or sounds.
    ``said_causal``: what the call said. ``unknown``: why it cannot be told what the mask should be; then it is over the
    keys of the call.
    """

    scenario: Scenario
    layer: int
    module: nn.Module | None
    q_start: int
    mask: Tensor
    keys: Scenario | None = None
    is_text: bool = True
    said_causal: bool = False
    unknown: str = ""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an attention: its mask over its own keys, and whether it was said to be causal."""

    module: nn.Module
    mask: Tensor
    said_causal: bool = False


def placed(calls: Sequence[Call], texts: Texts, batch: int) -> list[AppliedMask]:
    """The masks of calls over the tokens that their rows and keys are. ``batch``: the entries of the model's call."""
    order = {module: place for place, module in enumerate(dict.fromkeys(call.module for call in calls))}
    found = []
    for call in calls:
        found.extend(_placed(call, _number(call.module, order[call.module]), texts, batch))
    return found


def _number(module: nn.Module, place: int) -> int:
    for name in ("layer_idx", "layer_id"):
        number = getattr(module, name, None)
        if isinstance(number, int):
            return number
    return place


def _placed(call: Call, layer: int, texts: Texts, batch: int) -> list[AppliedMask]:
    """The mask of a call; two of a decoder whose keys are its own tokens and after them its encoder's."""
    entries, _, m, keys = call.mask.shape
    for text, other in ((texts.decoder, texts.main), (texts.main, texts.decoder)):
        if text is None or entries != len(text.documents):
            continue
        layout = layout_of(call.module)
        if text is texts.main and layout is not None and layout.pads and m == keys > text.n:
            text = text.extended(m)
        q_start = _first_row(text, m)
        if q_start is None:
            continue
        found = AppliedMask(text, layer, call.module, q_start, call.mask, said_causal=call.said_causal)
        if other is not None and keys == other.n:
            return [replace(found, keys=other)]
        if other is not None and text is texts.decoder and keys > other.n and keys > text.n:
            own, encoded = call.mask[..., : keys - other.n], call.mask[..., keys - other.n :]
            mine = replace(found, mask=_over_all(own, text, q_start), said_causal=True)
            return [mine, replace(found, mask=encoded, keys=other)]
        if other is None and text is texts.decoder and keys != m:  # what a model makes of sounds or pictures
            return [replace(found, keys=plain(entries, keys))]
        return [replace(found, mask=_over_all(call.mask, text, q_start))]
    rows = plain(entries, m)
    found = AppliedMask(rows, layer, call.module, 0, call.mask, is_text=False, said_causal=call.said_causal)
    if any(text is not None and text.name != rows.name for text in (texts.main, texts.decoder)):
        return [replace(found, unknown="its rows are not the text's tokens")]
    if entries % batch:
        return [replace(found, unknown="its rows are those of several entries of the batch, one after the other")]
    return [found if keys == m else replace(found, keys=plain(entries, keys))]


def _first_row(text: Scenario, m: int) -> int | None:
    """The position of the first of ``m`` rows of a text, or None where a text has no such part."""
    if m == text.n or (text.decodes and m == text.n - 1):
        return 0
    return text.n - 1 if text.decodes and m == 1 else None


def _over_all(mask: Tensor, scenario: Scenario, q_start: int) -> Tensor:
    """A mask whose keys are the last, or more, of those that there are, over all positions."""
    seen = q_start + mask.shape[2]
    keys = mask.shape[3]
    whole = torch.zeros(*mask.shape[:3], scenario.n, dtype=torch.bool)
    first = max(0, seen - keys)
    count = min(keys, seen)
    whole[..., first : first + count] = mask[..., :count]
    return whole
