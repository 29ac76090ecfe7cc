"""C++ source to a shared library's bytes, by the system's compiler, and from those bytes to a loaded library."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from itertools import count
from pathlib import Path

from .. import templates
from ..compiler.source import KernelSource
from .built import note_built
from .settings import settings

HEADERS = ("vectors.h", "storage.h", "tables.h", "products.h", "launch.h", "orders.h", "packed.h")
_CANDIDATES = ("c++", "g++", "clang++")
_NATIVE = "-march=native"
_OPENMP = "-fopenmp"
# Masks rely on inf and NaN, so no -ffast-math; neither of these changes a value.
_LANGUAGE = (
    "-std=c++17",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fwrapv",
    "-Wno-psabi",
)
_SECONDS = 600  # a compiler that takes longer hangs
_SHOWN = 4000  # characters of a compiler's own message
_ADD_SEALS, _EVERY_SEAL = 1033, 0xF  # F_ADD_SEALS; no more seals, shrinking, growing or writing

_warned = False
_names = count()


class NoCompilerError(RuntimeError):
    """There is no C++ compiler to be found, or the one that was named cannot be run."""


class BuildError(RuntimeError):
    """The C++ compiler refused a kernel."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler, and all about it that a kernel's machine code depends on.

    ``identity`` holds its path, its version and the macros that it predefines under ``flags``, among them the
    instruction sets that ``-march=native`` stands for here.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]
    identity: str

    @property
    def openmp(self) -> bool:
        return _OPENMP in self.flags


def headers() -> dict[str, str]:
    """The headers that every kernel includes, by file name."""
    return {name: files(templates).joinpath("cpp", name).read_text(encoding="utf-8") for name in HEADERS}


def compiler() -> Compiler:
    """The compiler that ``settings.cxx`` names, or the first of c++, g++ and clang++ on PATH.

    NoCompilerError where there is none. One that knows no OpenMP is taken without it.
    """
    named = settings.cxx
    if named is not None:
        try:
            command = tuple(shlex.split(named))
        except ValueError as error:
            raise NoCompilerError(f"the setting cxx is {named!r}: {error}") from None
        path = shutil.which(command[0]) if command else None
        if path is None:
            raise NoCompilerError(f"the C++ compiler {named!r}, named by the setting cxx, is not on PATH")
        return _identified((path, *command[1:]), settings.optimisation)
    for candidate in _CANDIDATES:
        path = shutil.which(candidate)
        if path is not None:
            return _identified((path,), settings.optimisation)
    raise NoCompilerError(
        f"no C++ compiler: none of {', '.join(_CANDIDATES)} is on PATH, and the setting cxx names none"
    )


@lru_cache(maxsize=16)
def _identified(command: tuple[str, ...], optimisation: int) -> Compiler:
    try:
        version = _run([*command, "--version"]).stdout
    except OSError as error:
        raise NoCompilerError(f"the C++ compiler {shlex.join(command)} cannot be run: {error}") from error
    base = (f"-O{optimisation}", *_LANGUAGE)
    for extra in ((_NATIVE, _OPENMP), (_NATIVE,), (_OPENMP,), ()):
        flags = (*base, *extra)
        macros = _run([*command, *flags, "-E", "-dM", "-x", "c++", os.devnull])
        if macros.returncode == 0:
            identity = "\n".join((os.path.realpath(command[0]), version, macros.stdout))
            return Compiler(command, flags, identity)
    raise NoCompilerError(f"{shlex.join(command)} is no C++ compiler: {_shown(macros.stderr)}")


def cache_key(source: KernelSource, using: Compiler) -> str:
    """The sha256, in hexadecimal, of all that the library's bytes depend on."""
    parts = [source.target, source.text, *using.command, *using.flags, using.identity, str(_process_has_openmp())]
    for name, text in sorted(headers().items()):
        parts += [name, text]
    digest = sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def build(source: KernelSource, using: Compiler) -> bytes:
    """A shared library's bytes. BuildError with the compiler's message where it refuses.

    Without OpenMP, in the compiler or where it links, the kernel runs on one thread, which is warned of once.
    """
    with tempfile.TemporaryDirectory(prefix="attnc-") as folder:
        for name, text in {**headers(), "kernel.cpp": source.text}.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        if using.openmp and _compiled(folder, using, using.flags, check=False):
            return Path(folder, "kernel.so").read_bytes()
        _compiled(folder, using, tuple(flag for flag in using.flags if flag != _OPENMP), check=True)
        _warn_single_thread(using)
        return Path(folder, "kernel.so").read_bytes()


def _compiled(folder: str, using: Compiler, flags: Sequence[str], check: bool) -> bool:
    """Compiles and links ``kernel.cpp``; whether that worked. BuildError instead of False with ``check``."""
    compiling = [*using.command, *flags, "-c", "kernel.cpp", "-o", "kernel.o"]
    linking = [*using.command, "-shared", *_linked(using, flags), "kernel.o", "-o", "kernel.so"]
    for command in (compiling, linking):
        result = _run(command, folder)
        if result.returncode != 0:
            if check:
                raise BuildError(f"{shlex.join(command)} failed:\n{_shown(result.stderr)}")
            return False
    note_built()
    return True


def _linked(using: Compiler, flags: Sequence[str]) -> tuple[str, ...]:
    """What a library is linked with for OpenMP."""
    if _OPENMP not in flags:
        return ()
    if "__clang__" not in using.identity and _process_has_openmp():
        return ()  # GNU's is in the process, from PyTorch: another beside it would bring a second set of threads
    # Nothing may stay open, so that a compiler without its OpenMP library is seen here and not when loading.
    return (_OPENMP, "-Wl,-z,defs") if sys.platform == "linux" else (_OPENMP,)


def _run(command: Sequence[str], folder: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace",
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BuildError(f"{shlex.join(command)} took longer than {_SECONDS} seconds") from None


def _shown(message: str) -> str:
    return message if len(message) <= _SHOWN else f"{message[:_SHOWN]}\n… {len(message) - _SHOWN} characters more"


@lru_cache(maxsize=1)
def _process_has_openmp() -> bool:
    """Whether the process offers GNU's OpenMP already, as it does once PyTorch is imported from its wheels."""
    try:
        return hasattr(ctypes.CDLL(None), "GOMP_parallel")
    except (OSError, TypeError):
        return False


def _warn_single_thread(using: Compiler) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"{shlex.join(using.command)} builds without OpenMP: attention kernels run on one thread", stacklevel=2
        )


_loading = threading.Lock()


def load(library: bytes) -> ctypes.CDLL:
    """The library from its bytes: from sealed memory where the system has it, so that nothing can change it any more.

    OSError where the system cannot load it.
    """
    if sys.platform != "linux":
        return _load_file(library)
    import fcntl

    descriptor = os.memfd_create("attnc", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(descriptor, "wb", closefd=True) as memory:
        memory.write(library)
        memory.flush()
        fcntl.fcntl(descriptor, _ADD_SEALS, _EVERY_SEAL)
        with _loading:
            return ctypes.CDLL(_unique_path(descriptor))


def _unique_path(descriptor: int) -> str:
    """A path of the descriptor that no library had before: the loader takes an equal path for the same library."""
    bits = f"{next(_names):024b}"
    return f"/proc/self{''.join('/.' if bit == '1' else '/' for bit in bits)}/fd/{descriptor}"


def _load_file(library: bytes) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="attnc-") as folder:
        path = Path(folder, f"kernel{next(_names)}.so")
        path.write_bytes(library)
        return ctypes.CDLL(str(path))
