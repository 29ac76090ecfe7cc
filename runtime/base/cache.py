"""Keeps bytes that were expensive to make in the user's cache folder; callers need only :func:`get`.

What can go wrong on a disk does not reach the caller: an entry is believed only if its hash over key and payload fits,
a folder only if no other user can write to it, and whatever fails (a full disk, no home, no locks) costs time, never
the answer. An entry is one file named by its key: magic, sha256 over key and payload, payload. It appears by rename,
complete.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .configuration import settings

try:
    import fcntl
except ImportError:  # a system without POSIX locks: every process makes its own
    fcntl = None  # type: ignore[assignment]

MAGIC = b"ATTNC\0\0\2"  # 1: before libraries were loaded once on trial
HEADER = len(MAGIC) + 32
_KEY = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".tmp-"
_LOCK = ".lock-"
_STALE_SECONDS = 3600.0
_POLL_SECONDS = 0.005, 0.1
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
# O_NONBLOCK: opening a pipe that stands in an entry's place must not wait for a writer
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)

_warned: set[str] = set()
_warned_lock = threading.Lock()


class UnusableFolderError(Exception):
    """A folder cannot hold the cache; the message says why."""


@dataclass(frozen=True)
class Usage:
    """How much the cache holds."""

    folder: Path
    entries: int
    size: int  # bytes


def get(key: str, make: Callable[[], bytes]) -> bytes:
    """The bytes stored under ``key``; where there are none, they are made and stored first.

    ``key`` is the sha256, in hexadecimal, of everything that ``make`` depends on; ValueError if it has another form.
    Processes and threads that ask for one key at once make it once, unless the maker takes longer than
    ``settings.lock_seconds``. Raises only what ``make`` raises. Warns once where the folder cannot be used.
    """
    _check_key(key)
    with _opened() as folder:
        if folder is None:
            return make()
        payload = _read(folder, key)
        if payload is not None:
            return payload
        with _locked(folder, key) as found:
            payload = found if found is not None else _read(folder, key)
            if payload is None:
                payload = make()
                _store(folder, key, payload)
        return payload


def renew(key: str, make: Callable[[], bytes]) -> bytes:
    """Makes the bytes anew and replaces the stored ones, for a caller that cannot use what :func:`get` returned.

    Where ``make`` raises, the old bytes stay. Otherwise as :func:`get`.
    """
    _check_key(key)
    with _opened() as folder:
        if folder is None:
            return make()
        with _locked(folder, key):
            payload = make()
            _store(folder, key, payload)
        return payload


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(f"key is {key!r}, expected 64 hexadecimal digits")


def location() -> Path:
    """The folder that the cache uses, whether it exists or not. UnusableFolderError where the user has none."""
    chosen = settings.cache_dir
    if chosen is not None:
        return chosen
    try:
        import platformdirs

        return platformdirs.user_cache_path("attnc", appauthor=False)
    except Exception as error:  # no home: platformdirs raises whatever its system's calls raise
        raise UnusableFolderError(f"no cache folder: {error}") from error


def usage() -> Usage:
    """How much the cache holds now. UnusableFolderError or OSError where it cannot be looked into."""
    path = location()
    entries = size = 0
    if path.is_dir():
        with _open_folder(path) as folder:
            for name in os.listdir(folder):
                with suppress(OSError):
                    size += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
                    entries += bool(_KEY.fullmatch(name))
    return Usage(path, entries, size)


def clear() -> int:
    """Removes every entry and leftover temporary file and lock; returns how many entries there were.

    Other files in the folder stay. UnusableFolderError or OSError where the folder cannot be used.
    """
    path = location()
    if not path.is_dir():
        return 0
    entries = 0
    with _open_folder(path) as folder:
        for name in os.listdir(folder):
            if _KEY.fullmatch(name) or name.startswith((_TEMPORARY, _LOCK)):
                _remove(folder, name)
                entries += bool(_KEY.fullmatch(name))
    return entries


def _remove(folder: int, name: str) -> None:
    """Removes a file, or a folder with all that is in it, from the cache's folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
        for _, folders, files, above in os.fwalk(name, topdown=False, follow_symlinks=False, dir_fd=folder):
            for file in files:
                os.unlink(file, dir_fd=above)
            for below in folders:
                _remove(above, below)  # empty by now, or a link
        os.rmdir(name, dir_fd=folder)


@contextmanager
def _opened() -> Iterator[int | None]:
    """A descriptor of the cache's folder, made if need be; None, with one warning, where it cannot be used."""
    if not settings.cache:
        yield None
        return
    where = "the cache folder"
    try:
        path = location()
        where = str(path)
        _make_folder(path)
        manager = _open_folder(path)
        folder = manager.__enter__()
    except (OSError, UnusableFolderError, ValueError) as error:  # ValueError: a NUL in a path
        _warn_once(where, f"attnc keeps no built kernels, because {where} cannot be used: {error}")
        yield None
        return
    try:
        yield folder
    finally:
        manager.__exit__(None, None, None)


def _make_folder(path: Path) -> None:
    """Makes a folder and its missing parents, in a loop: os.makedirs recurses once per parent."""
    missing = []
    while path.parent != path:
        try:
            os.stat(path)
            break
        except FileNotFoundError:  # anything else, as a path too long, keeps all of them from being made
            missing.append(path)
            path = path.parent
    for number, folder in enumerate(reversed(missing), 1):
        with suppress(FileExistsError):  # another process was faster, or it is no folder: opening it tells
            os.mkdir(folder, 0o700 if number == len(missing) else 0o777)


@contextmanager
def _open_folder(path: Path) -> Iterator[int]:
    """A descriptor of a folder that only this user owns and may write to. UnusableFolderError or OSError otherwise."""
    if fcntl is None:
        raise UnusableFolderError("this system has no file locks")
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFE)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid():
            raise UnusableFolderError("it belongs to another user")
        if status.st_mode & _OTHERS_MAY_WRITE:
            raise UnusableFolderError(
                f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o}, expected 0700)"
            )
        yield folder
    finally:
        with suppress(OSError):
            os.close(folder)


def _read(folder: int, key: str) -> bytes | None:
    """The payload of a valid entry; None where it is missing, another user's, damaged or unreadable."""
    try:
        descriptor = os.open(key, os.O_RDONLY | _SAFE, dir_fd=folder)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        ours = status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_WRITE
        if not (stat.S_ISREG(status.st_mode) and ours and status.st_size >= HEADER):
            return None
        content = _read_all(descriptor, status.st_size)
    except OSError:
        return None
    finally:
        with suppress(OSError):
            os.close(descriptor)
    payload = content[HEADER:]
    sound = content[: len(MAGIC)] == MAGIC and content[len(MAGIC) : HEADER] == _digest(key, payload)
    return payload if sound else None


def _read_all(descriptor: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _digest(key: str, payload: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(payload)
    return digest.digest()


def _store(folder: int, key: str, payload: bytes) -> None:
    """Puts an entry in place, whole or not at all; one warning where that fails."""
    temporary = f"{_TEMPORARY}{os.getpid()}-{os.urandom(8).hex()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=folder)
        try:
            try:
                _write_all(descriptor, MAGIC + _digest(key, payload) + payload)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _put(folder, temporary, key)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)  # the rename itself, so that a crash leaves the old entry or the new one
    except OSError as error:
        _warn_once("store", f"attnc could not keep a built kernel in its cache: {error}")
    _sweep(folder)


def _put(folder: int, temporary: str, key: str) -> None:
    """Renames a finished temporary file to its key. A folder that has this name is not an entry, and is removed."""
    try:
        os.rename(temporary, key, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        if not stat.S_ISDIR(os.stat(key, dir_fd=folder, follow_symlinks=False).st_mode):
            raise
        aside = f"{temporary}-folder"
        os.rename(key, aside, src_dir_fd=folder, dst_dir_fd=folder)
        os.rename(temporary, key, src_dir_fd=folder, dst_dir_fd=folder)
        with suppress(OSError, RecursionError):  # what is left goes with the other temporaries
            _remove(folder, aside)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sweep(folder: int) -> None:
    """Removes the old temporary files that killed processes left."""
    with suppress(OSError):
        oldest = time.time() - _STALE_SECONDS
        for name in os.listdir(folder):
            if name.startswith(_TEMPORARY):
                with suppress(OSError, RecursionError):
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < oldest:
                        _remove(folder, name)


@contextmanager
def _locked(folder: int, key: str) -> Iterator[bytes | None]:
    """Holds the lock of one key; continues without it where locks fail or the wait gets too long.

    Yields the entry if another process stored it meanwhile, else None.
    """
    end = time.monotonic() + settings.lock_seconds
    lock, found = None, None
    try:
        pause, longest = _POLL_SECONDS
        while lock is None and found is None and time.monotonic() < end:
            try:
                lock = _try_lock(folder, key)
            except OSError:
                break
            if lock is None:
                time.sleep(pause)
                pause = min(2 * pause, longest)
                found = _read(folder, key)
        yield found
    finally:
        if lock is not None:
            _unlock(folder, key, lock)


def _try_lock(folder: int, key: str) -> int | None:
    """A descriptor that holds the key's lock, None while another process holds it. OSError where locks do not work."""
    lock = os.open(_LOCK + key, os.O_RDWR | os.O_CREAT | _SAFE, 0o600, dir_fd=folder)
    held = False
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise OSError("the lock is not a plain file")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # its last holder removes the file: a lock on a removed one excludes nobody
        held = os.fstat(lock).st_nlink > 0
    except BlockingIOError:
        pass
    finally:
        if not held:
            with suppress(OSError):
                os.close(lock)
    return lock if held else None


def _unlock(folder: int, key: str, lock: int) -> None:
    with suppress(OSError):
        os.unlink(_LOCK + key, dir_fd=folder)
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_UN)  # said outright: a forked child may share this descriptor
    with suppress(OSError):
        os.close(lock)


def _warn_once(subject: str, message: str) -> None:
    with _warned_lock:
        if subject in _warned:
            return
        _warned.add(subject)
    warnings.warn(message, RuntimeWarning, stacklevel=2)
