"""Makes temporary folders for one build each, and removes those that killed processes left behind.

The process that uses a folder holds its lock, and a lock ends with its process, however that ends. So the next build
can tell an abandoned folder from one in use, even across containers, and removes it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

try:
    import fcntl
except ImportError:  # a system without POSIX locks: age alone tells
    fcntl = None  # type: ignore[assignment]

PREFIX = "attnc-build-"
_STALE_SECONDS = 6 * 3600.0  # where there are no locks: longer than any build takes
_OPEN = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@contextmanager
def scratch() -> Iterator[str]:
    """The path of a new folder that only its owner may enter, removed at the end. OSError where none can be made."""
    above = tempfile.gettempdir()
    _sweep(above)
    folder, lock = _made(above)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            with suppress(OSError):
                os.close(lock)


def _made(above: str) -> tuple[str, int | None]:
    """A new folder, and the descriptor that holds its lock, or None where folders cannot be locked."""
    while True:
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=above)
        try:
            lock = os.open(folder, _OPEN)
        except FileNotFoundError:  # another process swept it before it was locked
            continue
        except OSError:
            with suppress(OSError):
                os.rmdir(folder)
            raise
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)  # waits for one that sweeps it at this moment
        except OSError:
            os.close(lock)
            return folder, None
        with suppress(OSError):
            if os.path.samestat(os.fstat(lock), os.stat(folder, follow_symlinks=False)):
                return folder, lock
        os.close(lock)


def _sweep(above: str) -> None:
    """Removes this user's build folders that no process has locked."""
    with suppress(OSError):
        for name in os.listdir(above):
            if name.startswith(PREFIX):
                with suppress(OSError):
                    _remove_unless_held(os.path.join(above, name))


def _remove_unless_held(folder: str) -> None:
    lock = os.open(folder, _OPEN)  # follows no link
    try:
        status = os.fstat(lock)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return
        try:
            if fcntl is None:
                raise OSError("no locks")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            if status.st_mtime > time.time() - _STALE_SECONDS:
                return
        shutil.rmtree(folder, ignore_errors=True)  # follows no link either
    finally:
        os.close(lock)
