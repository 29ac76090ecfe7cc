"""What every backend shares: settings, the cache of built kernels, counters, and the data types of a launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = [
    "Backend",
    "CompiledFunction",
    "Gradients",
    "Launch",
    "SettingError",
    "Settings",
    "TableArgument",
    "Targets",
    "Unavailable",
    "built",
    "cache",
    "compute_dtype",
    "count",
    "dtype_name",
    "dtype_of",
    "get",
    "identity",
    "kept",
    "launches",
    "listen_to_triton",
    "note_built",
    "one_shape",
    "register",
    "registered",
    "renew",
    "settings",
    "stride_bits",
    "torch_dtype",
]

if TYPE_CHECKING:
    from . import cache
    from .backend import Backend, Targets, Unavailable, one_shape
    from .build_count import built, listen_to_triton, note_built
    from .cache import get, renew
    from .compiled import CompiledFunction
    from .configuration import SettingError, Settings, settings
    from .counters import count, launches
    from .dropout import kept
    from .identities import identity, register, registered
    from .launch import Gradients, Launch, TableArgument, stride_bits
    from .torch_dtypes import compute_dtype, dtype_name, dtype_of, torch_dtype
else:
    __getattr__ = attributes(
        __name__,
        {
            "backend": ("Backend", "Targets", "Unavailable", "one_shape"),
            "build_count": ("built", "listen_to_triton", "note_built"),
            "cache": ("get", "renew"),
            "compiled": ("CompiledFunction",),
            "configuration": ("SettingError", "Settings", "settings"),
            "counters": ("count", "launches"),
            "dropout": ("kept",),
            "identities": ("identity", "register", "registered"),
            "launch": ("Gradients", "Launch", "TableArgument", "stride_bits"),
            "torch_dtypes": ("compute_dtype", "dtype_name", "dtype_of", "torch_dtype"),
        },
        modules=("cache",),
    )
