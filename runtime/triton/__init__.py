"""Triton kernels: compiled, run on devices and in the interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = ["TILES", "executor", "make_variant"]

if TYPE_CHECKING:
    from . import executor
    from .executor import TILES, make_variant
else:
    __getattr__ = attributes(
        __name__,
        {
            "executor": ("TILES", "make_variant"),
        },
        modules=("executor",),
    )
