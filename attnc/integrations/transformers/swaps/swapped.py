"""What all swapped attentions share: how a module gets another forward, and its own back, and how a pattern runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ....attention import Attention
from ..caches import attend as attend_kept
from ..caches import held_keys
from .compose import filtered, text, with_pattern
from .key_mask import KeyMask


@dataclass(frozen=True)
class Settings:
    """What ``use`` was given for one layer: a pattern, or None for the layer's own, and tables that it reads."""

    pattern: Attention | None
    tables: Mapping[str, Any]


class Swapped:
    """Mixed into a class of transformers, before it: instances become the mixed class, and nothing else changes.

    Parameters, buffers, hooks and names stay, since the module stays. ``provides``: the tables that a pattern gets from
    the layer itself.
    """

    provides: ClassVar[tuple[str, ...]] = ("real",)
    takes_pattern: ClassVar[bool] = True
    attnc_settings: Settings

    @classmethod
    def refusal(cls, module: nn.Module) -> str | None:
        """Why this instance cannot be swapped, or None."""
        del module
        return None


def swap(module: nn.Module, made: type[Swapped], settings: Settings) -> None:
    """Makes the module an instance of ``made``."""
    module.__dict__["attnc_settings"] = settings
    module.__class__ = made  # type: ignore[assignment]


def restore(module: nn.Module) -> None:
    """Makes the module an instance of its own class again."""
    if isinstance(module, Swapped):
        original = type(module).__bases__[-1]
        del module.__dict__["attnc_settings"]
        module.__class__ = original


def refuse_probabilities(output_attentions: object) -> None:
    """ValueError where a caller wants the probabilities, which are never held."""
    if output_attentions:
        raise ValueError(
            "output_attentions: is True, expected False: attnc's kernels never hold the probabilities; undo() gives "
            "the model its own attention back"
        )


def split_heads(projected: Tensor, head_dim: int) -> Tensor:
    """``[batch, tokens, heads * head_dim]`` to ``[batch, heads, tokens, head_dim]``, without a copy."""
    return projected.reshape(*projected.shape[:-1], -1, head_dim).transpose(1, 2)


def merge_heads(out: Tensor) -> Tensor:
    """``[batch, heads, tokens, head_dim]`` to ``[batch, tokens, heads * head_dim]``."""
    return out.transpose(1, 2).flatten(2)


def call(
    attention: Attention, q: Tensor, k: Tensor, v: Tensor, tables: Mapping[str, Any], settings: Settings, **given: Any
) -> Tensor:
    """Calls the attention with those of the tables that it reads; what ``use`` was given comes first."""
    known = {**tables, **settings.tables}
    read = {name: known[name] for name in attention.tables if name in known}
    return attend_kept(attention, q, k, v, read, **{"q_start": 0, **given})


def attend(
    base: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: KeyMask,
    settings: Settings,
    tables: Mapping[str, Any] | None = None,
    **given: Any,
) -> Tensor:
    """Attention of a layer whose mask says where padding is: ``[batch, heads, m, value_dim]``.

    A pattern takes the place of the base's mask; in a causal model no row sees a later key all the same.
    """
    held = held_keys(k)
    keys = k.shape[2] if held is None else held.total
    kept = None if mask.kept is None else mask.kept[:, :keys]
    padded = () if kept is None else (text("real_keys"),)
    if settings.pattern is None:
        attention = filtered(base, *padded)
    else:
        order = (text("causal"),) if mask.causal else ()
        attention = with_pattern(base, settings.pattern, *order, *padded)
    known = dict(tables or {})
    if "real" in attention.tables:
        known["real"] = q.new_ones(len(q), keys).bool() if kept is None else kept
    return call(attention, q, k, v, known, settings, q_start=mask.q_start, **given)
