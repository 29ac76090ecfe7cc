"""Loads a shared library, and nothing else: a script that :mod:`runtime.cpp.build` runs in a process of its own.

What a bad library does at loading, it does to that process. Prints a line before it loads; exit status 0 where that
worked, 1 where the system refused. The arguments are the library and others that it needs, which are loaded first.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress


def main() -> None:
    """Ends the process itself, so that nothing of the library runs at its end."""
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
