"""What the host does for one call on a GPU: processor time from Python's call to Triton's launcher, and back.

    python benchmarks/host.py

It runs without a GPU: Triton's own front end compiles the kernels for sm_90, and a stand-in for the driver takes the
launches and does nothing. Tensors are the host's, so what a device adds to an allocation or a launch is not in it. One
thread, processor time; each figure is the smallest mean of several rounds. Of a call's time the row tells apart what
Triton's launcher takes (its cache of compiled kernels included), and what remains: Python's checks, the look-up of the
plan, the arguments, torch's operator and its memory for the results. Decoding: one query row, a new length at each
step. Prints a table, and writes benchmarks/results/host.json.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import triton
from _timing import write
from rich import box
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel

import attnc
from attnc.runtime.base import settings
from attnc.runtime.triton import executor, modules

HEADS, N, DIM, DECODED = 1, 1024, 64, 2048  # one head: what a device would do with memory takes the host no time

TEXT = """
pattern everything = causal
pattern window1024 = causal_window(1024)
pattern global_few(g: tokens) = window(512) or q in g or k in g
pattern packed(doc: int[token]) = causal and documents(doc)
pattern columns = strided(256)
pattern sinks = causal and (q - k < 1024 or k < 4)
attention alibi(slope: float[head]) {
    mask = causal
    score = s + slope[head] * (k - q)
}
"""


@dataclass(frozen=True)
class Row:
    """Microseconds of one call: ``total``, and of it ``launcher``. ``launches`` of kernels in it."""

    name: str
    total: float
    launcher: float
    launches: float

    @property
    def own(self) -> float:
        return self.total - self.launcher


class StubbedDriver:
    """Stands in for Triton's driver of an sm_90 device; its launcher counts and does nothing."""

    def __init__(self) -> None:
        self.launches = 0
        self.utils = self

    def launcher_cls(self, _source: object, _metadata: object) -> Callable[..., None]:
        def launch(*_: object) -> None:
            self.launches += 1

        return launch

    def load_binary(self, *_: object) -> tuple[int, int, int, int, int]:
        return 0, 0, 64, 0, 1024

    def get_device_properties(self, _: int) -> Mapping[str, int]:
        return {"max_shared_mem": 232448, "multiprocessor_count": 132, "max_num_regs": 65536, "warpSize": 32}

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def stub() -> StubbedDriver:
    """Puts the stand-in in the driver's place, and lets tensors of the host pass for a device's."""
    driver = StubbedDriver()
    triton.runtime.driver.set_active(driver)
    for module in (modules, executor):
        module.interpreting = lambda: True
    modules.on_device = lambda _: contextlib.nullcontext()
    return driver


def microseconds(call: Callable[[], object], calls: int = 10) -> float:
    """The mean processor time of a call."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls * 1e6


@contextlib.contextmanager
def without_launches() -> Iterator[None]:
    """Leaves out the calls of Triton's launcher: of a function, and of a kernel that it compiled before."""
    run, launch = triton.JITFunction.run, CompiledKernel.__getitem__
    triton.JITFunction.run = lambda *_, **__: None
    CompiledKernel.__getitem__ = lambda *_: lambda *_: None
    try:
        yield
    finally:
        triton.JITFunction.run, CompiledKernel.__getitem__ = run, launch


def measure(name: str, driver: StubbedDriver, call: Callable[[], object], rounds: int) -> Row:
    for _ in range(80):  # kernels are compiled, and plans made, before anything counts
        call()
    driver.launches = 0
    call()
    launches = driver.launches
    total, own = [], []
    for _ in range(rounds):  # in turn, so that what else the computer does falls on both
        total.append(microseconds(call))
        with without_launches():
            own.append(microseconds(call))
    return Row(name, min(total), max(0.0, min(total) - min(own)), launches)


def _tensor(heads: int, rows: int, gradient: bool = False) -> torch.Tensor:
    return torch.randn(1, heads, rows, DIM, dtype=torch.float16).requires_grad_(gradient)


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yields every kind of call with its name."""
    module = attnc.loads(TEXT)
    tables: Mapping[str, Mapping[str, Any]] = {
        "everything": {},
        "window1024": {},
        "global_few": {"g": torch.tensor([0, 7, 100])},
        "packed": {"doc": torch.arange(N, dtype=torch.int32) // 256},
        "alibi": {"slope": torch.rand(HEADS)},
        "sinks": {},
        "columns": {},
    }
    q, k, v = (_tensor(HEADS, N) for _ in range(3))
    for name, given in tables.items():
        yield f"{name}, forward", partial(module[name](), q, k, v, **given)
    yield "everything, forward, scale=0.1", partial(module["everything"](), q, k, v, scale=0.1)
    inputs = [_tensor(HEADS, N, True) for _ in range(3)]
    gradient = torch.randn_like(q)
    for name in ("everything", "global_few"):
        yield f"{name}, forward and backward", partial(_both, partial(module[name](), **tables[name]), inputs, gradient)
    for name in ("everything", "window1024", "alibi", "sinks", "columns"):
        yield f"{name}, decoding", _Decoding(partial(module[name](), **tables[name]))


def _both(attention: Callable[..., torch.Tensor], inputs: list[torch.Tensor], gradient: torch.Tensor) -> None:
    torch.autograd.grad(attention(*inputs), inputs, gradient)


class _Decoding:
    """One query row at the end of keys that are one more at each call."""

    def __init__(self, attention: Callable[..., torch.Tensor]) -> None:
        self.attention, self.length = attention, DECODED
        self.q, self.keys = _tensor(HEADS, 1), _tensor(HEADS, 2**14)

    def __call__(self) -> None:
        self.length += 1
        keys = self.keys[:, :, : self.length]
        self.attention(self.q, keys, keys, q_start=self.length - 1)


def table(found: list[Row]) -> Table:
    shown = Table("call", "us", "launches", "launcher us", "own us", box=box.SIMPLE)
    for row in found:
        figures = f"{row.total:.0f}", f"{row.launches}", f"{row.launcher:.0f}", f"{row.own:.0f}"
        shown.add_row(row.name, *figures)
    return shown


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60, help="of which the fastest counts (60)")
    parser.add_argument("--only", default="", help="rows whose names hold this; nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    driver = stub()
    with settings.override(interpret=True):  # after triton's import: its interpreter is not used
        found = [measure(name, driver, call, given.rounds) for name, call in cases() if given.only in name]
    Console().print(table(found))
    if not given.only:
        written = [{**asdict(row), "own": row.own} for row in found]
        Console().print(str(write("host", {"triton": triton.__version__, "unit": "us", "rows": written})))


if __name__ == "__main__":
    main()
