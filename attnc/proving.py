"""``attnc.prove``: whether a claim about an attention's mask holds for every length."""

from __future__ import annotations

import inspect
from typing import Any, get_args

from .attention import Attention, Model
from .compiler.diagnostics import nearest
from .compiler.modules import ClaimKind
from .compiler.verify import Verdict
from .verdicts import verdict

KINDS: tuple[ClaimKind, ...] = get_args(ClaimKind)
OF_TWO = ("within", "contains", "equals", "disjoint")


def prove(attention: Attention, claim: str, other: Attention | None = None) -> Verdict:
    """Decides a claim of the language for every n, with m = n: every head and number of heads, and whatever the
    run-time tables hold.

    ``claim``: ``"causal"``, ``"symmetric"``, ``"diagonal"``, ``"rows nonempty"`` or ``"columns nonempty"``; or
    ``"within"``, ``"contains"``, ``"equals"`` or ``"disjoint"``, which compare with the mask of ``other``. Tables of
    one name are one table.

    The verdict is ``.proved``, ``.refuted`` or ``.undecided``, and is true where it is proved; ``.message`` says why.
    ``.counterexample`` is the smallest in n; ``print(verdict)`` draws it. The first call starts a process that proves,
    and ends with this one. TypeError and ValueError for arguments that do not fit.
    """
    _require_attention("attention", attention)
    if other is not None:
        _require_attention("other", other)
    kind = next((kind for kind in KINDS if kind == claim), None)
    if kind is None:
        close = nearest(str(claim), KINDS)
        hint = f"did you mean {close!r}?" if close else f"expected one of {', '.join(KINDS)}"
        raise ValueError(f"claim: is {claim!r}; {hint}")
    if (other is not None) != (kind in OF_TWO):
        wanted = "another attention to compare with" if kind in OF_TWO else f"nothing with {kind!r}"
        raise ValueError(f"other: is {'None' if other is None else other.name}, expected {wanted}")
    return verdict(attention._bound, kind, None if other is None else other._bound)


def _require_attention(name: str, given: Any) -> None:
    if isinstance(given, Model):
        raise TypeError(f"{name}: is a model, expected one of its layers: {given.name}(…).layers[0]")
    if not isinstance(given, Attention):
        hint = f": {given.__name__}(…)" if inspect.isfunction(given) else ""
        raise TypeError(f"{name}: is {type(given).__name__}, expected an attnc.Attention{hint}")
