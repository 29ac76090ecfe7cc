"""A mutant: one small fault planted in the product, and the test that must notice it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """``find``, which occurs exactly once in all files of the product, is replaced by ``replace``.

    ``wing`` is the part of the product that the fault is in. ``caught_by`` names a test of ``make test`` by the name of
    its file, without folders: ``test_cpp.py::test_grouped_heads``, with ``[…]`` behind it for one case of several.
    """

    name: str
    wing: str
    find: str
    replace: str
    caught_by: str
