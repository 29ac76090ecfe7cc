"""attnc: attention patterns written as text, compiled to differentiable kernels.

    module = attnc.load("longformer")
    attend = module.longformer(size=512)
    out = attend(q, k, v, g=global_index)

Importing it is light: torch and everything behind it wait until an attention is called.
"""

from __future__ import annotations

import os
from pathlib import Path

from .attention import Attention, Model, Module
from .compiler.diagnostics import AttnError
from .runtime.launches import launches
from .runtime.settings import settings

__version__ = "0.1.0"
__all__ = ["Attention", "AttnError", "Model", "Module", "launches", "load", "loads", "settings"]


def load(name: str | os.PathLike[str]) -> Module:
    """A module of patterns: a file, or by its bare name one that is shipped (``"longformer"``, ``"vision.natten"``).

    A text that ends in ``.attn`` or has a path's separator names a file. AttnError for every fault of the text,
    FileNotFoundError for a file that is not there.
    """
    from .compiler.module import load_file, load_shipped

    text = os.fspath(name)
    is_path = not isinstance(name, str) or text.endswith(".attn") or os.sep in text or "/" in text
    return Module(load_file(Path(text)) if is_path else load_shipped(text))


def loads(text: str, name: str = "<text>") -> Module:
    """A module of patterns from its text; ``name`` is what errors call it. AttnError for every fault."""
    from .compiler.module import load_text

    return Module(load_text(text, name))
