"""How much memory a block of code takes at its most: by the high-water mark that Linux keeps of a process."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """``bytes``: the most that was held above what was held at the start; None where the system does not tell."""

    bytes: int | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measures its block. What is free but still the allocator's is given back before, so that it counts if used."""
    peak = Peak()
    gc.collect(1)  # what a step leaves is young, and a whole collection takes longer than a small step
    try:
        ctypes.CDLL(None).malloc_trim(0)
        RESET.write_text("5")  # the mark goes down to what is held now
        before = _resident("VmRSS")
    except (AttributeError, OSError):  # not glibc, not Linux, or a sandbox without the mark
        yield peak
        return
    yield peak
    peak.bytes = _resident("VmHWM") - before


def _resident(name: str) -> int:
    """A line of the process's status, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{STATUS} has no {name}")
    return int(found[1]) * 1024
