"""What every backend shares: settings, the cache of built kernels, counters, and the data types of a launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = [
    "ALL_WANTED",
    "Backend",
    "CompiledFunction",
    "Gradients",
    "Launch",
    "Prepared",
    "PreparedBackward",
    "SettingError",
    "Settings",
    "TableArgument",
    "Targets",
    "Unavailable",
    "Wanted",
    "built",
    "cache",
    "compute_dtype",
    "count",
    "device_copy",
    "device_numbers",
    "dtype_name",
    "dtype_of",
    "filled",
    "get",
    "identity",
    "kept",
    "kept_by_graphs",
    "launches",
    "listen_to_triton",
    "note_built",
    "register",
    "registered",
    "renew",
    "require_uncaptured",
    "settings",
    "stride_bits",
    "torch_dtype",
]

if TYPE_CHECKING:
    from . import cache
    from .backend import Backend, Targets, Unavailable
    from .build_count import built, listen_to_triton, note_built
    from .cache import get, renew
    from .captures import kept_by_graphs, require_uncaptured
    from .compiled import CompiledFunction
    from .configuration import SettingError, Settings, settings
    from .counters import count, launches
    from .device_copies import device_copy, device_numbers
    from .dropout import kept
    from .identities import identity, register, registered
    from .launch import (
        ALL_WANTED,
        Gradients,
        Launch,
        Prepared,
        PreparedBackward,
        TableArgument,
        Wanted,
        filled,
        stride_bits,
    )
    from .torch_dtypes import compute_dtype, dtype_name, dtype_of, torch_dtype
else:
    __getattr__ = attributes(
        __name__,
        {
            "backend": ("Backend", "Targets", "Unavailable"),
            "build_count": ("built", "listen_to_triton", "note_built"),
            "cache": ("get", "renew"),
            "captures": ("kept_by_graphs", "require_uncaptured"),
            "compiled": ("CompiledFunction",),
            "configuration": ("SettingError", "Settings", "settings"),
            "counters": ("count", "launches"),
            "device_copies": ("device_copy", "device_numbers"),
            "dropout": ("kept",),
            "identities": ("identity", "register", "registered"),
            "launch": (
                "ALL_WANTED",
                "Gradients",
                "Launch",
                "Prepared",
                "PreparedBackward",
                "TableArgument",
                "Wanted",
                "filled",
                "stride_bits",
            ),
            "torch_dtypes": ("compute_dtype", "dtype_name", "dtype_of", "torch_dtype"),
        },
        modules=("cache",),
    )
