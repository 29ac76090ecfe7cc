"""attnc: attention patterns written as text, compiled to differentiable kernels.

    module = attnc.load("longformer")
    attend = module.longformer(size=512)
    out = attend(q, k, v, g=global_index)

Importing this package is fast: torch is imported when an attention is first called, everything else when it is first
asked for. Only the operators are registered as soon as torch is imported, so that exported programs find them.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .lazy import once_imported

if TYPE_CHECKING:
    from .attention import Attention, Model, Module
    from .comparison import diff
    from .compiler.diagnostics import AttnError
    from .packing import documents
    from .proving import prove
    from .runtime.base import launches, settings
    from .runtime.merge import merge

__version__ = "0.1.0"
__all__ = [
    "Attention",
    "AttnError",
    "Model",
    "Module",
    "diff",
    "documents",
    "launches",
    "load",
    "loads",
    "merge",
    "prove",
    "settings",
]
_HOMES = {
    "Attention": ".attention",
    "AttnError": ".compiler.diagnostics",
    "Model": ".attention",
    "Module": ".attention",
    "diff": ".comparison",
    "documents": ".packing",
    "launches": ".runtime.base",
    "merge": ".runtime.merge",
    "prove": ".proving",
    "settings": ".runtime.base",
}
once_imported("torch", f"{__name__}.runtime.registration.operators")


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for, because pytest imports this package, for its plugin, in every
    run.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load(name: str | os.PathLike[str]) -> Module:
    """Loads a module of patterns: a file, or by its bare name a shipped module (``"longformer"``, ``"bigbird"``).

    A path object names a file, and so does a string that ends in ``.attn`` or contains a path separator. AttnError with
    every fault of the text, FileNotFoundError for a missing file.
    """
    from .attention import Module
    from .compiler.modules import load_file, load_shipped

    text = os.fspath(name)
    is_path = not isinstance(name, str) or text.endswith(".attn") or os.sep in text or "/" in text
    return Module(load_file(Path(text)) if is_path else load_shipped(text))


def loads(text: str, name: str = "<text>") -> Module:
    """Loads a module of patterns from a text; errors call it ``name``.

    AttnError with every fault of the text, TypeError for anything but a str.
    """
    from .attention import Module
    from .compiler.modules import load_text

    if not isinstance(text, str):
        raise TypeError(f"text: is {type(text).__name__}, expected a str")
    return Module(load_text(text, name))
