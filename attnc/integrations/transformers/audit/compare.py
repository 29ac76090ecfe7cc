"""Compares what the layers of a model apply with what is declared, scenario by scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from ....attention import Attention
from ....compiler.verify import contrast, picture
from ....testing import applied_mask
from .declarations import DeclaredMask, declared, first_difference, is_causal, is_row, of_attention
from .inputs import reason_not_to_run
from .layouts import WITHOUT_MASK
from .places import AppliedMask
from .probe import read_model
from .scenario import Scenario, scenarios


@dataclass(frozen=True)
class Difference:
    """The first pair of a layer that is kept and should not be, or the other way round; ``pairs``: how many differ."""

    batch: int
    head: int
    q: int
    k: int
    pairs: int
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """What an audit says of one layer in one scenario, or of a whole scenario (``layer`` is None).

    ``difference`` is None where the masks agree, and where nothing is compared: ``reason`` then says why.
    ``unknown``: the layer has a mask, and whether it is as declared cannot be told.
    """

    scenario: str
    layer: int | None
    module: str
    text: str
    difference: Difference | None
    unknown: bool = False
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether masks were compared and are the same."""
        return self.difference is None and not self.reason

    def __str__(self) -> str:
        """A line; for a difference with both pictures."""
        if self.layer is None:
            did = "read" if self.unknown or self.module else "run"
            return f"{self.scenario}: not {did}: {self.module}{self.reason}"
        where = f"{self.scenario}: layer {self.layer} ({self.module})"
        if self.unknown:
            return f"{where}: cannot be told: {self.reason}: compare it with a text"
        if self.reason:
            return f"{where}: not compared: {self.reason}"
        if self.difference is None:
            return f"{where}: as declared: {self.text}"
        its = self.difference
        first = (
            f"{its.pairs:,} pairs are not as declared by `{self.text}`, the first at batch {its.batch}, head {its.head}"
        )
        return "\n".join([f"{where}: {first}, q = {its.q}, k = {its.k}", "", *its.pictures])


def audit(
    model: PreTrainedModel,
    against: Sequence[Attention] | None = None,
    *,
    n: int = 24,
    only: Sequence[Scenario] | None = None,
    inputs: Mapping[str, Tensor] | None = None,
) -> Iterator[Finding]:
    """What each layer of a model applies beside what is declared: by its configuration, or by texts.

    ``against``: one attention for all layers, or one for each. The scenarios have ``n`` tokens: a window that is longer
    hides nothing, so there is nothing to see of it. Of a model without a causal layer, which has no cache and packs
    nothing, only the first two are run. ``inputs``: what the model is called with in place of tokens, in one plain
    scenario, as pictures and sounds are. Findings come in the order of scenarios and layers; attention modules that
    cannot be read are named after the layers. ValueError for a model of which no layer can be read, and for a layer
    without a text.
    """
    encodes, has_run = False, False
    for scenario in scenarios(n) if only is None else only:
        if encodes and (scenario.is_packed or scenario.decodes):
            continue
        reason = reason_not_to_run(model, scenario, inputs)
        if reason is not None:
            if inputs is None:
                yield Finding(scenario.name, None, "", "", None, reason=reason)
            continue
        try:
            reading = read_model(model, scenario, inputs)
        except ValueError as error:
            if not has_run:
                raise
            yield Finding(scenario.name, None, "", "", None, unknown=True, reason=str(error))
            continue
        has_run = True
        encodes = not model.config.is_encoder_decoder and not any(
            is_causal(model, each) for each in reading.masks if each.is_text
        )
        for applied in reading.masks:
            yield _of_model(model, applied, against, scenario.name)
        for name, why in sorted({type(module).__name__: why for module, why in reading.unread.items()}.items()):
            yield Finding(scenario.name, None, f"{name}: ", "", None, unknown=why not in WITHOUT_MASK, reason=why)


def _of_model(
    model: PreTrainedModel, applied: AppliedMask, against: Sequence[Attention] | None, scenario: str
) -> Finding:
    name, wanted = type(applied.module).__name__, None
    reason, unknown = applied.unknown, bool(applied.unknown)
    if not reason and against is None:
        found = declared(model, applied)
        reason, wanted = (found, None) if isinstance(found, str) else ("", found)
        unknown = bool(reason)
    elif not reason and applied.keys is not None:
        reason = "its keys are another text's"
    elif not reason and against is not None:
        wanted = _of_layer(against, applied.layer)
    if wanted is None:
        return Finding(scenario, applied.layer, name, "", None, unknown=unknown, reason=reason)
    return _finding(applied, name, wanted, scenario)


def audit_function(
    attend: Callable[..., object], name: str, against: Attention, n: int, heads: int, head_dim: int = 16
) -> Finding:
    """What one attention function applies to ``n`` tokens, beside a text. Raises what the function raises."""
    (plain,) = (each for each in scenarios(n) if each.name == "plain")
    mask = applied_mask(attend, n, n, heads, head_dim=head_dim)
    return _finding(AppliedMask(plain, 0, None, 0, mask), name, of_attention(against), plain.name)


def _of_layer(against: Sequence[Attention], layer: int) -> DeclaredMask:
    if len(against) == 1:
        return of_attention(against[0])
    if layer >= len(against):
        raise ValueError(f"against: has {len(against)} layers, expected one for layer {layer} too")
    return of_attention(against[layer])


def _finding(applied: AppliedMask, name: str, wanted: DeclaredMask, scenario: str) -> Finding:
    mask, counts = wanted.mask(applied), is_row(applied)
    text = _text(wanted.attention)
    place = first_difference(applied.mask, mask, counts)
    if place is None:
        return Finding(scenario, applied.layer, name, text, None)
    batch, head, row, key = place
    expected, got = (picture((x[batch, head] & counts[batch, 0]).long().numpy()) for x in (mask, applied.mask))
    pictures = tuple(contrast(expected, got, (applied.q_start, 0)))
    pairs = int(((applied.mask != mask) & counts).sum())
    difference = Difference(batch, head, row + applied.q_start, key, pairs, pictures)
    return Finding(scenario, applied.layer, name, text, difference)


def _text(attention: Attention) -> str:
    from ....compiler.ir import expression

    return expression(attention._bound.mask)
