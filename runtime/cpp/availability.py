"""Decides whether C++ kernels can be built here."""

from __future__ import annotations

import errno
import os
from functools import lru_cache

import torch

from ..base import settings
from .build import NoCompilerError, compiler

# Errors of a system that has run out of a resource: another attempt may succeed.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT}


def require(device: torch.device) -> None:
    """ValueError for tensors that are not on a CPU, NoCompilerError without a C++ compiler."""
    if device.type != "cpu":
        raise ValueError(
            f"q: is on {device}, and the setting backend is {settings.backend}, which runs CPU tensors only"
        )
    missing = _missing_compiler(settings.cxx, settings.optimisation, os.environ.get("PATH"))
    if missing is not None:
        raise NoCompilerError(missing)


@lru_cache(maxsize=64)
def _missing_compiler(*_looked_at: object) -> str | None:
    """Why there is no C++ compiler, or None where there is one; cached by the arguments, on which the answer depends.

    Raises NoCompilerError, which is not cached, where the next attempt may give another answer.
    """
    try:
        compiler()
    except NoCompilerError as error:
        if passing(error):
            raise
        return str(error)
    return None


def passing(error: Exception) -> bool:
    """Whether an error came from a lack of resources (files, memory, disk), so that another attempt may succeed."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _PASSING
