"""The registry of backends, and the choice of the one that runs a call. Importing this module loads none of them.

A new backend is added to BACKENDS, and its name to the choices of the setting ``backend``
(:mod:`runtime.base.configuration`).
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
    """The backend called ``name``. ValueError, listing the names that exist, for any other."""
    if name not in BACKENDS:
        raise ValueError(f"backend: is {name!r}, expected one of {', '.join(BACKENDS)}")
    return BACKENDS[name]


def devices() -> tuple[str, ...]:
    """The device types (``"cpu"``, ``"cuda"``) whose tensors some backend runs by default."""
    return tuple(device for each in BACKENDS.values() for device in each.devices)


def targets() -> tuple[str, ...]:
    """The targets that commands offer: ``"cpu"``, ``"sm_90"`` and so on."""
    return tuple(target for each in BACKENDS.values() for target in each.targets.examples)


def backend_of_target(target: str) -> Backend:
    """The backend that writes kernels for a target, ``"cpu"`` or ``"sm_90"``. ValueError, describing valid targets,
    for any other string, TypeError for what is no string.
    """
    if not isinstance(target, str):
        raise TypeError(f"target: is {type(target).__name__}, expected a string such as 'cpu' or 'sm_90'")
    for each in BACKENDS.values():
        if target in each.targets:
            return each
    words = ", or ".join(each.targets.words for each in BACKENDS.values() if each.targets.words)
    raise ValueError(f"target: is {target!r}, expected {words}")


def backend_for(device: torch.device, keys: int) -> Backend:
    """Chooses the backend for tensors on a device, with this many keys, by the settings.

    Where ``auto`` applies and something is missing (a compiler, triton), the blocked executor runs instead, with one
    warning. ValueError where the chosen backend does not run tensors on this device. Unavailable (NoCompilerError
    without a compiler, an ImportError without triton) where a setting insists on a backend that cannot be had; C++
    kernels that a setting insists on and that do not build raise BuildError at their launch.
    """
    from . import fallback  # before it is needed: by then the system may have run out of descriptors

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
    """The backend that a setting names; for ``auto`` the one that runs this device type by default, else C++."""
    if name in ("auto", TRITON.name) and settings.interpret:
        return INTERPRETER
    if name != "auto":
        return backend(name)
    return next((each for each in BACKENDS.values() if device.type in each.devices), CPP)
