"""Compiles C++ source to the bytes of a shared library with the system's compiler, and loads such bytes."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from itertools import count
from pathlib import Path

from ... import templates
from ...compiler.codegen import KernelSource
from ..base import Unavailable, note_built, settings
from .command import CommandError, Finished, run
from .elf import fault_of
from .scratch import scratch

HEADERS = (
    "vectors.h", "storage.h", "tables.h", "products.h", "launch.h", "orders.h", "columns.h", "packed.h", "across.h",
    "numbered.h",
)  # fmt: skip
_CANDIDATES = ("c++", "g++", "clang++")
_NATIVE = "-march=native"
_OPENMP = "-fopenmp"
# Masks rely on inf and NaN, so no -ffast-math; -fno-math-errno and -fno-trapping-math do not change values.
_LANGUAGE = (
    "-std=c++17",
    "-fPIC",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fwrapv",
    "-Wno-psabi",
)
_PROBE_SECONDS = 60.0  # for calls that usually take a fraction of a second
_LARGEST = 2**28  # bytes of a library; a kernel's has some hundred thousand
_LOADS = Path(__file__).with_name("load_library.py")
_SHOWN = 4000  # characters of a compiler's message that an error shows
_ADD_SEALS, _EVERY_SEAL = 1033, 0xF  # F_ADD_SEALS; no more seals, shrinking, growing or writing

_warned = False
_names = count()


class NoCompilerError(Unavailable, RuntimeError):
    """No C++ compiler was found, or the one that was named cannot be run."""


class BuildError(RuntimeError):
    """The C++ compiler failed on a kernel, took too long, or wrote a library that cannot be loaded."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler, and everything about it that a kernel's machine code depends on.

    ``identity`` holds its path, its version and the macros that it predefines under ``flags``; these tell which
    instruction sets ``-march=native`` means on this machine.
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

    NoCompilerError where there is none. A compiler without OpenMP is used without it.
    """
    return _compiler(settings.cxx, settings.optimisation, os.environ.get("PATH"))


@lru_cache(maxsize=64)
def _compiler(named: str | None, optimisation: int, _path: str | None) -> Compiler:
    """The compiler by what decides which one it is: a call like an earlier one does not search PATH again."""
    if named is not None:
        try:
            command = tuple(shlex.split(named))
        except ValueError as error:
            raise NoCompilerError(f"the setting cxx is {named!r}: {error}") from None
        path = _found(command[0]) if command else None
        if path is None:
            raise NoCompilerError(f"the C++ compiler {named!r}, named by the setting cxx, is not on PATH")
        return _identified((path, *command[1:]), optimisation)
    for candidate in _CANDIDATES:
        path = _found(candidate)
        if path is not None:
            return _identified((path,), optimisation)
    raise NoCompilerError(
        f"no C++ compiler: none of {', '.join(_CANDIDATES)} is on PATH, and the setting cxx names none"
    )


def _found(name: str) -> str | None:
    """The absolute path of a program, because it runs in other folders than the one a relative path starts from."""
    try:
        path = shutil.which(name)
        return None if path is None else os.path.abspath(path)
    except (OSError, ValueError):  # the working folder is gone; a NUL in the name
        return None


@lru_cache(maxsize=16)
def _identified(command: tuple[str, ...], optimisation: int) -> Compiler:
    version = _probed([*command, "--version"]).out
    base = (f"-O{optimisation}", *_LANGUAGE)
    for extra in ((_NATIVE, _OPENMP), (_NATIVE,), (_OPENMP,), ()):
        flags = (*base, *extra)
        macros = _probed([*command, *flags, "-E", "-dM", "-x", "c++", os.devnull])
        if macros.status == 0:
            identity = "\n".join((os.path.realpath(command[0]), version, macros.out))
            return Compiler(command, flags, identity)
    raise NoCompilerError(f"{shlex.join(command)} is no C++ compiler: {_shown(macros.err)}")


def _probed(command: Sequence[str]) -> Finished:
    try:
        return run(command, os.sep, min(_PROBE_SECONDS, settings.build_seconds))
    except CommandError as error:
        raise NoCompilerError(f"no C++ compiler: {error}") from None
    except (OSError, ValueError) as error:
        raise NoCompilerError(f"the C++ compiler {shlex.join(command[:-1])} cannot be run: {error}") from error


def cache_key(source: KernelSource, using: Compiler) -> str:
    """The sha256, in hexadecimal, of everything that the library's bytes depend on."""
    parts = [source.target, source.text, *using.command, *using.flags, using.identity, str(_process_has_openmp())]
    for name, text in sorted(headers().items()):
        parts += [name, text]
    digest = sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def build(source: KernelSource, using: Compiler) -> bytes:
    """Compiles a kernel to the bytes of a shared library, and loads it on trial in a process of its own.

    BuildError with the compiler's message where it fails, and for anything else that prevents a loadable library. Where
    the compiler or its linker lacks OpenMP, the kernel runs on one thread, with one warning.
    """
    try:
        with scratch() as folder:
            for name, text in {**headers(), "kernel.cpp": source.text}.items():
                Path(folder, name).write_text(text, encoding="utf-8")
            if not (using.openmp and _compiled(folder, using, using.flags, check=False)):
                _compiled(folder, using, tuple(flag for flag in using.flags if flag != _OPENMP), check=True)
                _warn_single_thread(using)
            return _checked(Path(folder, "kernel.so"), using)
    except CommandError as error:
        raise BuildError(str(error)) from None
    except OSError as error:
        raise BuildError(f"{shlex.join(using.command)} cannot be used to build a kernel: {error}") from error


def fault_of_compiler(using: Compiler) -> BuildError | None:
    """Why a compiler fails to build even a trivial library; None where it succeeds."""
    try:
        build(KernelSource("cpp", 'extern "C" int least() { return 0; }\n'), using)
    except BuildError as error:
        return error
    return None


def _compiled(folder: str, using: Compiler, flags: Sequence[str], check: bool) -> bool:
    """Compiles and links ``kernel.cpp``; returns whether that worked, or raises BuildError instead of False with
    ``check``.
    """
    compiling = [*using.command, *flags, "-c", "kernel.cpp", "-o", "kernel.o"]
    linking = [*using.command, "-shared", *_linked(using, flags), "kernel.o", "-o", "kernel.so"]
    for command in (compiling, linking):
        # with the compiler's own temporary files in the folder, all that it leaves when killed goes with the folder
        result = run(command, folder, settings.build_seconds, {"TMPDIR": folder})
        if result.status != 0:
            if check:
                raise BuildError(f"{shlex.join(command)} failed{_how(result.status)}:\n{_shown(result.err)}")
            return False
        if not os.path.isfile(os.path.join(folder, command[-1])):  # a linker would wait at a pipe
            raise BuildError(f"{shlex.join(command)} reported no fault, but wrote no file {command[-1]}")
    note_built()
    return True


def _how(status: int) -> str:
    return f" by signal {-status}" if status < 0 else ""


def _checked(path: Path, using: Compiler) -> bytes:
    """The bytes of the library that the compiler wrote. BuildError if it is not one that can be loaded without harm."""
    wrote = f"{shlex.join(using.command)} reported no fault, but wrote"
    size = path.stat().st_size
    if not 0 < size <= _LARGEST:
        raise BuildError(f"{wrote} a library of {size:,} bytes")
    library = path.read_bytes()
    fault = fault_of(library) or _crash(path)
    if fault is not None:
        raise BuildError(f"{wrote} a library that cannot be loaded: {fault}")
    return library


def _crash(path: Path) -> str | None:
    """What went wrong in a trial process that loaded the library, in words: it was killed, or did not finish. Else
    None.

    A process that refuses the library counts as unharmed: this process may have what the library asks for, and refuses
    it in the same way if not.
    """
    python = sys.executable or ""
    if getattr(sys, "frozen", False) or not re.match("python|pypy", os.path.basename(python)):
        return None  # an application that embeds Python: running it would start the application again
    command = [python, "-I", "-S", str(_LOADS), str(path), *_openmp_libraries()]
    try:
        ended = run(command, str(path.parent), _PROBE_SECONDS)
    except CommandError:
        return f"after {_PROBE_SECONDS:g} seconds it is not loaded"
    except OSError:  # no room for another process
        return None
    if ended.status < 0 and ended.out.startswith("loading"):
        return f"it ends the process that loads it, by {signal.Signals(-ended.status).name}"
    return None


def _linked(using: Compiler, flags: Sequence[str]) -> tuple[str, ...]:
    """The linker's options for OpenMP."""
    if _OPENMP not in flags:
        return ()
    if "__clang__" not in using.identity and _process_has_openmp():
        return ()  # the process has GNU's, from PyTorch: a second library would bring a second set of threads
    # No symbol may stay undefined, so that a missing OpenMP library is noticed here and not when loading.
    return (_OPENMP, "-Wl,-z,defs") if sys.platform == "linux" else (_OPENMP,)


def _shown(message: str) -> str:
    return message if len(message) <= _SHOWN else f"{message[:_SHOWN]}\n… {len(message) - _SHOWN} characters more"


@lru_cache(maxsize=1)
def _process_has_openmp() -> bool:
    """Whether this process already has GNU's OpenMP loaded, as it does once PyTorch is imported from its wheels."""
    try:
        return hasattr(ctypes.CDLL(None), "GOMP_parallel")
    except (OSError, TypeError):
        return False


class _Place(ctypes.Structure):
    """``Dl_info`` of dlfcn.h: the library that an address belongs to."""

    _fields_ = (
        ("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("symbol", ctypes.c_char_p), ("start", ctypes.c_void_p),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _openmp_libraries() -> tuple[str, ...]:
    """The path of the OpenMP library that this process has loaded, for kernels that are not linked with one of their
    own.
    """
    if not _process_has_openmp():
        return ()
    place = _Place()
    try:
        process = ctypes.CDLL(None)
        known = process.dladdr(ctypes.cast(process.GOMP_parallel, ctypes.c_void_p), ctypes.byref(place))
    except AttributeError:
        return ()
    return (os.fsdecode(place.file),) if known and place.file else ()


def _warn_single_thread(using: Compiler) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"{shlex.join(using.command)} builds without OpenMP: attention kernels run on one thread", stacklevel=2
        )


_loading = threading.Lock()


def load(library: bytes) -> ctypes.CDLL:
    """Loads a library from its bytes: on Linux from sealed memory, so that nothing can change them any more.

    OSError where the system cannot load it, or where it is damaged and the loader must not see it.
    """
    fault = fault_of(library)
    if fault is not None:
        raise OSError(f"the library is damaged: {fault}")
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
    """A path of the descriptor that was not used before: the loader takes an equal path for the same library."""
    bits = f"{next(_names):024b}"
    return f"/proc/self{''.join('/.' if bit == '1' else '/' for bit in bits)}/fd/{descriptor}"


def _load_file(library: bytes) -> ctypes.CDLL:
    with scratch() as folder:
        path = Path(folder, f"kernel{next(_names)}.so")
        path.write_bytes(library)
        return ctypes.CDLL(str(path))
