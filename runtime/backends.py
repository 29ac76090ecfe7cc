"""The backends that there are, and which of them runs a call. Importing it loads none of them.

A backend is added here, and its name to the setting ``backend`` (:mod:`runtime.base.configuration`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Backend, Unavailable, settings
from .cpp import CPP
from .eager import BLOCKED
from .triton import INTERPRETER, TRITON

if TYPE_CHECKING:
    import torch

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (CPP, TRITON, INTERPRETER, BLOCKED)}


def backend(name: str) -> Backend:
    """A backend by its name. ValueError that lists those that there are."""
    if name not in BACKENDS:
        raise ValueError(f"backend: is {name!r}, expected one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def devices() -> tuple[str, ...]:
    """The types of device whose tensors some backend runs by itself."""
    return tuple(device for each in BACKENDS.values() for device in each.devices)


def targets() -> tuple[str, ...]:
    """What kernels can be written for, as far as commands offer it."""
    return tuple(target for each in BACKENDS.values() for target in each.targets.examples)


def backend_of_target(target: str) -> Backend:
    """The backend whose kernels are written for ``"cpu"``, ``"sm_90"`` and so on. ValueError that says what else is."""
    for each in BACKENDS.values():
        if target in each.targets:
            return each
    words = ", or ".join(each.targets.words for each in BACKENDS.values() if each.targets.words)
    raise ValueError(f"target: is {target!r}, expected {words}")


def backend_for(device: torch.device, keys: int) -> Backend:
    """What runs tensors on a device, as the settings say; one warning where something is missing for it.

    ValueError where the backend does not run such tensors; Unavailable (an ImportError without triton, NoCompilerError
    without a compiler) where the one that was insisted on cannot be had. C++ kernels that were insisted on and cannot
    be built are a BuildError at their launch.
    """
    from . import fallback

    chosen = settings.backend
    if not keys or chosen == BLOCKED.name:  # without a key there is nothing to launch
        return BLOCKED
    found = _chosen(chosen, device)
    insisted = chosen != "auto" or found is INTERPRETER
    if found is CPP and not insisted:
        found = fallback.cpp_or_blocked.backend
    try:
        found.require(device)
    except Unavailable as error:
        if insisted:
            raise
        return fallback.instead(error.reason, device.type)
    return found


def _chosen(name: str, device: torch.device) -> Backend:
    """The backend of a name, for ``auto`` the first that runs tensors on such a device, else the CPU's."""
    if name in ("auto", TRITON.name) and settings.interpret:
        return INTERPRETER
    if name != "auto":
        return backend(name)
    return next((each for each in BACKENDS.values() if device.type in each.devices), CPP)
