"""Registers ``attnc::forward`` and ``attnc::backward`` with torch; what they run is imported when it first runs.

An exported program, or a compiled package, names its operators, and torch looks them up when it loads one. So this is
imported as soon as both attnc and torch are there (:func:`attnc.lazy.once_imported`), and does little more than that
takes: :mod:`runtime.op` with all that it needs comes with the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from .dynamo import without_dynamo

_REST = (
    "Tensor[] tables, str given, Tensor? scale, Tensor? q_starts, SymInt q_start, Tensor? k_starts, SymInt k_start, "
    "SymInt? n, Tensor? seed, float dropout, str attention"
)
_SCHEMAS = (
    f"forward(Tensor q, Tensor k, Tensor v, {_REST}) -> (Tensor, Tensor)",
    "backward(str wanted, Tensor? grad_out, Tensor? grad_lse, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    f"{_REST}) -> (Tensor, Tensor, Tensor, Tensor[])",
)
_ABOVE = __name__.rsplit(".", 2)[0]
DEVICES = ("CPU", "CUDA")  # ROCm's tensors have the latter

LIBRARY = torch.library.Library("attnc", "FRAGMENT")  # type: ignore[no-untyped-call]
"""What is registered lives as long as this."""


def _late(sibling: str, name: str) -> Callable[..., Any]:
    """A function of a module of the runtime, which its first call imports."""
    found: Callable[..., Any] | None = None

    def call(*given: Any) -> Any:
        nonlocal found
        if found is None:
            found = getattr(import_module(f"{_ABOVE}.{sibling}"), name)
        return found(*given)

    return without_dynamo(call)


def _register() -> None:
    for schema in _SCHEMAS:
        name = schema.partition("(")[0]
        LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
        for device in DEVICES:
            LIBRARY.impl(name, _late("op", f"run_{name}"), device)  # type: ignore[no-untyped-call]
            derived = _late("derivatives", f"derivable_{name}")
            LIBRARY.impl(name, derived, f"Autograd{device}", with_keyset=True)  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"attnc::{name}", _late("op", f"fake_{name}"), lib=LIBRARY)


_register()
