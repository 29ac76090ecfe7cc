"""The noun of compilation ahead of time: one compiled function, with its files and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class CompiledFunction:
    """One function of an attention's kernels, compiled for a target.

    ``files``: the contents of its files by name, source and binary among them; ``binary``: the name of the one that a
    driver or a loader takes. ``facts``: what is known of it, as JSON has it, such as ``pass``, ``rows`` and
    ``registers``.
    """

    name: str
    binary: str
    files: Mapping[str, bytes]
    facts: Mapping[str, object]
