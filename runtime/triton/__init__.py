"""The Triton backend: compiles kernels, and runs them on GPUs and in Triton's interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = ["INTERPRETER", "TRITON"]

if TYPE_CHECKING:
    from .backend import INTERPRETER, TRITON
else:
    __getattr__ = attributes(
        __name__,
        {
            "backend": ("INTERPRETER", "TRITON"),
        },
    )
