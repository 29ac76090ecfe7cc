"""Loads a shared library and does nothing else: a script that :mod:`runtime.cpp.build` runs in a process of its own.

If loading a bad library crashes, it crashes that process only. The arguments are the library and others that it needs,
which are loaded first. Prints a line before it loads the library; the exit status is 0 if that worked, 1 if the system
refused.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress


def main() -> None:
    """Loads the library, then ends the process without running the library's exit handlers."""
    library, *others = sys.argv[1:]
    for other in others:
        with suppress(OSError):
            ctypes.CDLL(other, ctypes.RTLD_GLOBAL)
    os.write(1, b"loading\n")
    try:
        ctypes.CDLL(library)
    except OSError as error:
        os.write(2, str(error).encode("utf-8", "replace"))
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
