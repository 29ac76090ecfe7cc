"""Imports rendered Triton source as a module of kernels that can be launched.

Triton reads the text of its kernels from a file, so each source is written to one, in a folder of this process that no
other user can read, and imported from there. The bytes are hashed as they are read, so that what is imported is what
was rendered.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib.abc import SourceLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...compiler.codegen import KernelSource
from ...compiler.codegen.triton import USUAL_TARGET
from ..base import Unavailable, settings

if TYPE_CHECKING:
    import torch

_lock = threading.RLock()
_modules: dict[str, ModuleType] = {}
_folders: dict[int, Path] = {}  # by process: a forked child makes its own


class TritonUnavailable(Unavailable, ImportError):  # noqa: N818
    """Triton cannot run here; the message says why."""

    @property
    def reason(self) -> str:
        return f"triton cannot be imported ({self})"


def require(device: torch.device) -> None:
    """TritonUnavailable without triton, ValueError for CPU tensors outside Triton's interpreter."""
    require_triton()
    if device.type == "cpu" and not interpreting():
        raise ValueError("q: is on the cpu, expected a GPU: set ATTNC_INTERPRET=1 to run Triton's interpreter")


def require_triton() -> ModuleType:
    """Imports triton and returns it, first choosing its interpreter where ``ATTNC_INTERPRET`` asks for that.

    TritonUnavailable where triton is not installed, or was imported before the setting was made.
    """
    wanted = settings.interpret
    if wanted and "triton" not in sys.modules:
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import triton
    except ImportError as error:
        raise TritonUnavailable(
            f"triton is not installed ({error}): tensors on a GPU need it, and so does ATTNC_INTERPRET=1"
        ) from error
    if wanted and not interpreting():
        raise TritonUnavailable("ATTNC_INTERPRET=1 counts when it is set before triton is imported, and it came later")
    return triton  # type: ignore[no-any-return]


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, which Triton decides once, at its import."""
    triton = sys.modules.get("triton")
    if triton is None:
        return settings.interpret
    return not isinstance(triton.language.zeros, triton.JITFunction)


def target_of(device: torch.device) -> str:
    """The architecture that kernels for a device are written for: ``sm_90``; for the interpreter, the usual one."""
    return USUAL_TARGET if device.type == "cpu" else _architecture(device.index or 0)


@lru_cache(maxsize=64)
def _architecture(index: int) -> str:
    import torch

    found = torch.cuda.get_device_properties(index)
    if torch.version.hip is not None:
        return str(found.gcnArchName).split(":", 1)[0]
    return f"sm_{found.major}{found.minor}"


def load_module(source: KernelSource) -> ModuleType:
    """The module of a Triton source, imported once per process. TritonUnavailable without triton."""
    if source.target != "triton":
        raise ValueError(f"source.target is {source.target!r}, expected 'triton'")
    digest = source.digest
    with _lock:
        found = _modules.get(digest)
        if found is None:
            require_triton()
            found = _modules[digest] = _imported(source, digest)
        return found


def _imported(source: KernelSource, digest: str) -> ModuleType:
    name = f"attnc_kernels_{digest[:32]}"
    content = source.text.encode()
    path = _folder() / f"{name}.py"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    spec = ModuleSpec(name, CheckedLoader(str(path), sha256(content).digest()), origin=str(path))
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # inspect looks a function's file up through it
    try:
        assert spec.loader is not None
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class CheckedLoader(SourceLoader):
    """Loads one file if its bytes have the expected hash, and never keeps bytecode."""

    def __init__(self, path: str, digest: bytes) -> None:
        self.path, self.digest = path, digest

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002
        return self.path

    def get_data(self, path: str | bytes) -> bytes:
        with open(path, "rb") as file:
            content = file.read()
        if sha256(content).digest() != self.digest:
            raise ImportError(f"{path!r} is not the kernel that was written there")
        return content


def _folder() -> Path:
    process = os.getpid()
    folder = _folders.get(process)
    if folder is None:
        folder = _folders[process] = Path(tempfile.mkdtemp(prefix="attnc-"))  # mode 0700
        atexit.register(_remove, process, folder)
    return folder


def _remove(process: int, folder: Path) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


_nothing = nullcontext()


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Where kernels of a device are launched; on the host, where lanes that are masked out may compute inf - inf."""
    if device.type != "cuda":
        import numpy as np

        return np.errstate(all="ignore")
    import torch

    return _nothing if device.index == torch.cuda.current_device() else torch.cuda.device(device)


_INT32 = 2**31


@dataclass(frozen=True)
class CompiledKernels:
    """The compiled kernels of launches of one function that differ only in some arguments: at ``tensors`` and
    ``integers`` those of these types, at ``others`` None or floats.

    Triton compiles a function anew for other dtypes, other alignments, and integers that are 1, divisible by 16, or
    beyond 32 bits. To be told so by all arguments takes it longer than all that a launch needs besides. A tensor has
    the same dtype in all of these launches. Only for NVIDIA's GPUs: elsewhere Triton also asks for the memory's size.
    """

    tensors: tuple[int, ...]
    integers: tuple[int, ...]
    others: tuple[int, ...]
    found: dict[Hashable, Any] = field(default_factory=dict)

    def key(self, values: Sequence[Any]) -> Hashable | None:
        """What decides which kernel the arguments take; None where Triton is to find it."""
        key: list[Hashable] = []
        for place in self.tensors:
            if values[place] is None:
                return None
            key.append(not values[place].data_ptr() & 15)
        for place in self.integers:
            number = values[place]
            if type(number) is not int:
                return None
            key.append(-1 if number == 1 else (not number & 15) + 2 * (not -_INT32 <= number < _INT32))
        for place in self.others:
            if not (values[place] is None or type(values[place]) is float):
                return None
            key.append(values[place] is None)
        return tuple(key)


def compiled_kernels(values: Mapping[int, Any]) -> CompiledKernels:
    """Where the kernels of a function are kept. ``values``: those by place in which launches may differ."""
    tensors = tuple(place for place, value in values.items() if hasattr(value, "data_ptr"))
    integers = tuple(place for place, value in values.items() if type(value) is int)
    return CompiledKernels(tensors, integers, tuple(place for place in values if place not in {*tensors, *integers}))


def start(
    kernel: Any, programs: int, values: Sequence[Any], options: Mapping[str, Any], kept: CompiledKernels | None = None
) -> None:
    """Launches a function of a module, with a one-dimensional grid: the other axes of a grid hold fewer programs.

    ``values``: its arguments, in the order of its parameters. ``options``: Triton's own, for the compiler. ``kept``:
    where its compiled kernels are kept. Without a program nothing is launched.
    """
    if not programs:
        return
    key = None if kept is None else kept.key(values)
    if kept is None or key is None:
        kernel.run(*values, grid=(programs,), warmup=False, **options)
        return
    compiled = kept.found.get(key)
    if compiled is not None:
        compiled[programs, 1, 1](*values)
        return
    compiled = kernel.run(*values, grid=(programs,), warmup=False, **options)
    if compiled is not None:  # which Triton's interpreter has none of
        kept.found[key] = compiled
