"""Code of the original systems, from packages that are unpacked beside the environment: ``.venv/originals``.

``fetch_originals.py`` puts them there, ``originals.txt`` lists them. They are not installed: importing one here leaves
warnings, random generators and torch's defaults as they were.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from tests.systems.fetch_originals import FOLDER, STAMP, digest


def folder() -> Path:
    """Where the packages are. RuntimeError where they are missing or those of another list."""
    stamp = FOLDER / STAMP
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != digest():
        raise RuntimeError("the originals are not there: run python -m tests.systems.fetch_originals")
    return FOLDER


def module(name: str) -> ModuleType:
    """Imports a module of one of the packages: ``module("local_attention")``, ``module("attn_gym.masks.natten")``.

    The packages are found after those of the environment, from then on also by what they import later.
    """
    place = str(folder())
    if place not in sys.path:
        sys.path.append(place)
    with _untouched():
        return importlib.import_module(name)


def single(path: str, stubs: Mapping[str, Any] | None = None, name: str | None = None) -> ModuleType:
    """Runs one file of the packages by itself: ``single("natten-0.21.7/src/natten/backends/flex.py", stubs)``.

    ``stubs`` stand, while it runs, for the modules that it imports, by their full names; a stub may be any object that
    has the names that are wanted of it. ``name``: what the file takes for its own full name, so that its relative
    imports lead to the stubs.
    """
    file = folder() / path
    named = name or f"original_{file.stem}"
    spec = importlib.util.spec_from_file_location(named, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    made = importlib.util.module_from_spec(spec)
    standing = {**(stubs or {}), named: made}
    before = {one: sys.modules.get(one) for one in standing}
    sys.modules.update(standing)
    try:
        with _untouched():
            spec.loader.exec_module(made)
    finally:
        for one, old in before.items():
            if old is None:
                sys.modules.pop(one, None)
            else:
                sys.modules[one] = old
    return made


@contextmanager
def _untouched() -> Iterator[None]:
    """Puts back what an import may change: filters of warnings, generators, torch's default dtype and modes."""
    generators = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    dtype, gradients, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        torch.random.set_rng_state(generators[2])
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
