"""Which systems are timed beside their originals' own code, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from tests.systems.speeds import flex_masks, library_masks, position_layers, whole_layers
from tests.systems.speeds.beside import Timed
from tests.systems.system import System

MODULES: Mapping[str, ModuleType] = {
    "position_layers": position_layers,
    "library_masks": library_masks,
    "flex_masks": flex_masks,
    "whole_layers": whole_layers,
}
"""By the names of their files."""
RESTATED = "a formula restated: it is no code to time"
LAYOUTS = "layouts alone: the package's kernels need a GPU"
UNTIMED: Mapping[str, str] = {
    "Flamingo, spans": "torch's compiler makes no code of its mask for a CPU that runs",
    "Medusa": "a mask alone: see the row of `Tree of guesses`",
    "Reformer of enwik8": "a model's numbers: see the rows of its layers",
}
"""Systems whose original's code runs and is not timed, each with the reason."""


def place_of(name: str) -> tuple[str, Timed] | None:
    """The module that times a system and what makes its calls; None where none of these modules does."""
    for module, content in MODULES.items():
        if name in content.TIMED:
            return module, content.TIMED[name]
    return None


def reason(system: System) -> str:
    """Why a system has no speed; empty where nothing is known that speaks against one."""
    if not system.runs:
        return RESTATED
    if system.name.endswith(", all layers"):
        return "a model's numbers: see the rows of its layers"
    if system.original.startswith("deepspeed"):
        return LAYOUTS
    return UNTIMED.get(system.name, "")
