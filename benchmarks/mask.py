"""How long the dense mask of every shipped pattern takes at n = 8,192, and how much memory at most.

    python benchmarks/mask.py

Each mask is made in a process of its own, several times: the first tells the peak, which is that of the process over
what it held before, and what the system takes to hand out memory; the others tell the time. Beside it stands the time
to fill as much memory. Prints a table, and writes benchmarks/results/mask.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULT = Path(__file__).with_name("results") / "mask.json"
N = 8192
DRAWN = [[[(7 * row + 31 * draw) % (N // 64) for draw in range(3)] for row in range(N // 64 - 2)]]
LABELS = [token // 700 for token in range(N)]


@dataclass(frozen=True)
class Shipped:
    """A declaration of a shipped file, with its parameters; one head."""

    file: str
    name: str
    constants: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        given = ", ".join(f"{name} = {value}" for name, value in self.constants.items())
        return f"{self.file}:{self.name}" + (f" ({given})" if given else "")


SHIPPED = (
    Shipped("full", "full"),
    Shipped("causal", "causal"),
    Shipped("window", "window", {"size": 512}),
    Shipped("window", "window", {"size": 512, "dilation": 3}),
    Shipped("window", "causal_window", {"size": 512, "dilation": 2}),
    Shipped("window", "diagonal_only"),
    Shipped("longformer", "longformer", {}, {"g": [0, 5, 700]}),
    Shipped("longformer", "longformer", {"dilation": 3}, {"g": [0, 5, 700]}),
    Shipped("bigbird", "bigbird", {}, {"chosen": DRAWN}),
    Shipped("bigbird", "bigbird_padded", {}, {"chosen": DRAWN, "real": [token < 8000 for token in range(N)]}),
    Shipped("strided", "strided"),
    Shipped("strided", "fixed"),
    Shipped("documents", "documents", {}, {"doc": LABELS}),
    Shipped("documents", "causal_documents", {}, {"doc": LABELS}),
    Shipped("documents", "window_documents", {"size": 512}, {"doc": LABELS}),
    Shipped("prefix_lm", "prefix_lm", {}, {"length": 3000}),
    Shipped("sink_window", "sink_window"),
    Shipped("alibi", "alibi", {}, {"slope": [0.5]}),
    Shipped("alibi", "alibi_window", {"size": 512}, {"slope": [0.5]}),
    Shipped("softcap", "softcap"),
    Shipped("softcap", "softcap_causal"),
    Shipped("std", "band", {"left": 100, "right": 7}),
    Shipped("std", "global_tokens", {}, {"g": [0, 5, 700]}),
    Shipped("std", "first", {"count": 9}),
    Shipped("std", "blocks", {"size": 100}),
    Shipped("std", "block_band", {"size": 64, "left": 3, "right": 1}),
    Shipped("std", "chunked", {"size": 100}),
    Shipped("std", "padded", {}, {"length": 3000}),
    Shipped("std", "grid_window", {"width": 64, "rows": 3, "cols": 3}),
    Shipped("std", "random_blocks", {"size": 64, "percent": 10}),
    Shipped("std", "random_blocks", {"size": 1, "percent": 10}),
)


@dataclass(frozen=True)
class Row:
    """``share``: the peak over the result's bytes. ``seconds`` by the clock, ``processor`` by what this process alone
    had of the processor; ``filling``: seconds to fill as many bytes.
    """

    title: str
    result: int
    peak: int
    share: float
    seconds: float
    processor: float
    all_seconds: tuple[float, ...]
    filling: float


def child(number: int, rounds: int) -> dict[str, Any]:
    """In a process of its own: the result's bytes, the peak's, and the seconds of each counted round."""
    import attnc

    shipped = SHIPPED[number]
    attend = getattr(attnc.load(shipped.file), shipped.name)(**shipped.constants)
    attnc.load("causal").causal().mask(64)  # whatever is loaded at first use
    before, taken, spent, filling, most = _begin(), [], [], [], 0
    for turn in range(rounds + 1):
        start, began = time.perf_counter(), time.process_time()
        mask = attend.mask(N, **shipped.tables)
        middle = time.perf_counter()
        size = mask.numel() * mask.element_size()
        if turn:
            taken.append(middle - start)
            spent.append(time.process_time() - began)
        else:
            most = _peak() - before
        start = time.perf_counter()
        mask.fill_(1)
        filling.append(time.perf_counter() - start)
        del mask
    own = {"processor": statistics.median(spent), "filling": statistics.median(filling)}
    return {"result": size, "peak": most, "seconds": taken, **own}


def _begin() -> int:
    """Bytes that the process holds now, where the system forgets its peak; else the peak so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return _peak()


def _peak() -> int:
    """Bytes that the process has held at most, since :func:`_begin` where the system forgets."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(number: int, rounds: int) -> Row:
    """One pattern. CalledProcessError where it fails."""
    arguments = [sys.executable, __file__, "--child", str(number), "--rounds", str(rounds)]
    found = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    taken = tuple(found["seconds"])
    share = found["peak"] / found["result"]
    return Row(
        title=SHIPPED[number].title,
        result=found["result"],
        peak=found["peak"],
        share=share,
        seconds=statistics.median(taken),
        processor=found["processor"],
        all_seconds=taken,
        filling=found["filling"],
    )


def document(rows: Sequence[Row]) -> str:
    """What is written."""
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    what = {"what": __doc__.partition("\n")[0], "n": N, **machine}
    return json.dumps({**what, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each mask is made and timed (3)")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the figures go")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child is not None:
        sys.stdout.write(json.dumps(child(given.child, given.rounds)))
        return
    rows = []
    width = max(len(shipped.title) for shipped in SHIPPED)
    for number in range(len(SHIPPED)):
        row = measured(number, given.rounds)
        rows.append(row)
        sys.stdout.write(
            f"{row.title:<{width}}  {row.result / 2**20:4.0f} MiB  peak {row.share:5.2f} of it  "
            f"{row.seconds * 1e3:6.0f} ms, of the processor {row.processor * 1e3:5.0f} ms, "
            f"filling {row.filling * 1e3:5.0f} ms\n"
        )
        sys.stdout.flush()
    given.output.write_text(document(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
