"""Compares what the layers of a model apply with what is declared, scenario by scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from ....attention import Attention
from ....compiler.verify import contrast, picture
from ....testing import applied_mask
from .declarations import DeclaredMask, declared, first_difference, is_row, of_attention
from .probe import AppliedMask, read_masks
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
    """What an audit says of one layer in one scenario. ``difference`` is None where the masks agree."""

    scenario: str
    layer: int
    module: str
    text: str
    difference: Difference | None
    unknown: bool = False

    def __str__(self) -> str:
        """A line; for a difference with both pictures."""
        where = f"{self.scenario}: layer {self.layer} ({self.module})"
        if self.unknown:
            return f"{where}: its kind is not known: compare it with a text"
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
) -> Iterator[Finding]:
    """What each layer of a model applies beside what is declared: by its configuration, or by texts.

    ``against``: one attention for all layers, or one for each. The scenarios have ``n`` tokens: a window that is longer
    hides nothing, so there is nothing to see of it. Of a model without a causal layer, which has no cache and packs
    nothing, only the first two are run. Findings come in the order of scenarios and layers. ValueError for a model
    whose layers cannot be read, and for a layer without a text.
    """
    encodes = False
    for scenario in scenarios(n) if only is None else only:
        if encodes and (scenario.is_packed or scenario.decodes):
            continue
        masks = read_masks(model, scenario)
        encodes = not any(getattr(each.module, "is_causal", True) for each in masks)
        for applied in masks:
            if against is None:
                assert applied.module is not None, "a layer of the model"
                wanted = declared(model.config, applied.layer, applied.module)
            else:
                wanted = _of_layer(against, applied.layer)
            yield _finding(applied, type(applied.module).__name__, wanted)


def audit_function(
    attend: Callable[..., object], name: str, against: Attention, n: int, heads: int, head_dim: int = 16
) -> Finding:
    """What one attention function applies to ``n`` tokens, beside a text. Raises what the function raises."""
    (plain,) = (each for each in scenarios(n) if each.name == "plain")
    mask = applied_mask(attend, n, n, heads, head_dim=head_dim)
    return _finding(AppliedMask(plain, 0, None, 0, mask), name, of_attention(against))


def _of_layer(against: Sequence[Attention], layer: int) -> DeclaredMask:
    if len(against) == 1:
        return of_attention(against[0])
    if layer >= len(against):
        raise ValueError(f"against: has {len(against)} layers, expected one for layer {layer} too")
    return of_attention(against[layer])


def _finding(applied: AppliedMask, name: str, wanted: DeclaredMask | None) -> Finding:
    scenario = applied.scenario
    if wanted is None:
        return Finding(scenario.name, applied.layer, name, "", None, unknown=True)
    heads, m = applied.mask.shape[1:3]
    mask = wanted.mask(scenario, heads, applied.q_start, m)
    counts = is_row(scenario, applied.q_start, m)
    text = _text(wanted.attention)
    place = first_difference(applied.mask, mask, counts)
    if place is None:
        return Finding(scenario.name, applied.layer, name, text, None)
    batch, head, row, key = place
    expected, got = (picture((x[batch, head] & counts[batch, 0]).long().numpy()) for x in (mask, applied.mask))
    pictures = tuple(contrast(expected, got, (applied.q_start, 0)))
    pairs = int(((applied.mask != mask) & counts).sum())
    return Finding(
        scenario.name, applied.layer, name, text, Difference(batch, head, row + applied.q_start, key, pairs, pictures)
    )


def _text(attention: Attention) -> str:
    from ....compiler.ir import expression

    return expression(attention._bound.mask)
