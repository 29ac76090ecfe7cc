"""attnc: attention patterns written as text, compiled to differentiable kernels.

    module = attnc.load("longformer")
    attend = module.longformer(size=512)
    out = attend(q, k, v, g=global_index)

Importing it is light: torch and everything behind it wait until an attention is called, and the rest until it is asked
for.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention import Attention, Model, Module
    from .compiler.diagnostics import AttnError
    from .runtime.base import launches, settings
    from .runtime.merge import merge

__version__ = "0.1.0"
__all__ = ["Attention", "AttnError", "Model", "Module", "launches", "load", "loads", "merge", "settings"]
_HOMES = {
    "Attention": ".attention",
    "AttnError": ".compiler.diagnostics",
    "Model": ".attention",
    "Module": ".attention",
    "launches": ".runtime.base",
    "merge": ".runtime.merge",
    "settings": ".runtime.base",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for: the pytest plugin lives in this package, too."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(name: str | os.PathLike[str]) -> Module:
    """A module of patterns: a file, or by its bare name one that is shipped (``"longformer"``, ``"bigbird"``).

    A text that ends in ``.attn`` or has a path's separator names a file. AttnError for every fault of the text,
    FileNotFoundError for a file that is not there.
    """
    from .attention import Module
    from .compiler.modules import load_file, load_shipped

    text = os.fspath(name)
    is_path = not isinstance(name, str) or text.endswith(".attn") or os.sep in text or "/" in text
    return Module(load_file(Path(text)) if is_path else load_shipped(text))


def loads(text: str, name: str = "<text>") -> Module:
    """A module of patterns from its text; ``name`` is what errors call it.

    AttnError for every fault, TypeError for what is no text.
    """
    from .attention import Module
    from .compiler.modules import load_text

    if not isinstance(text, str):
        raise TypeError(f"text: is {type(text).__name__}, expected a str")
    return Module(load_text(text, name))
