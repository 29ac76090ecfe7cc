"""What a process pays once: its first call on a CPU, from a warm cache on disk, and the build of a cold one.

    python benchmarks/first_call.py

Each figure is of a process of its own, after torch is imported, on one thread; the first round, which fills the cache
and may compile Python's own files, does not count. *text*: attnc is imported, a shipped pattern loaded and bound, and
called. *exported*: an operator is called by the line that an exported program carries. *build*: what the compiler and
its linker take for a forward pass, a backward pass and a step of decoding, processor time of all their processes.
Prints medians, wall and processor time, and writes benchmarks/results/first_call.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).with_name("results") / "first_call.json"
PATTERNS: Mapping[str, str] = {
    "causal": "attnc.load('causal').causal(), {}",
    "longformer": "attnc.load('longformer').longformer(size=512), {'g': torch.tensor([0, 5])}",
}
HEAD = """
import json, resource, sys, time, torch
torch.set_num_threads(1)
q, k, v = (torch.randn(1, 2, 1024, 64, requires_grad=True) for _ in range(3))
def clocks(): return time.perf_counter(), time.process_time()
def built():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
begun = clocks()
import attnc
"""
TAIL = "print(json.dumps([now - then for now, then in zip(clocks(), begun)]))"
KINDS: Mapping[str, str] = {
    "text": f"{HEAD}attend, tables = {{bound}}\nwith torch.no_grad(): attend(q, k, v, **tables)\n{TAIL}",
    "exported": f"""{HEAD}
rest = "1" * {{given}}, None, None, 0, None, 0, None, None, 0.0, {{line!r}}
tables = [torch.tensor([0, 5])] * {{given}}
with torch.no_grad(): torch.ops.attnc.forward.default(q, k, v, tables, *rest)
{TAIL}""",
    "build": f"""{HEAD}attend, tables = {{bound}}
steps = [built()]
out = attend(q, k, v, **tables); steps.append(built())
out.sum().backward(); steps.append(built())
with torch.no_grad(): attend(q[:, :, -1:], k, v, q_start=1023, **tables); steps.append(built())
print(json.dumps([after - before for before, after in zip(steps[:-1], steps[1:])]))""",
}
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "text": ("wall", "processor"), "exported": ("wall", "processor"), "build": ("forward", "backward", "decoding"),
}  # fmt: skip


def measured(code: str, cache: str) -> list[float]:
    """What one process prints. CalledProcessError where it fails."""
    environment = {**os.environ, "ATTNC_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True)
    found: list[float] = json.loads(ran.stdout)
    return found


def codes() -> dict[tuple[str, str], str]:
    """The text of each process."""
    import attnc

    attends = {
        "causal": attnc.load("causal").causal(),
        "longformer": attnc.load("longformer").longformer(size=512),
    }
    return {
        (name, kind): code.format(bound=bound, line=attends[name]._name, given=len(attends[name].tables))
        for name, bound in PATTERNS.items()
        for kind, code in KINDS.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each process runs (7)")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the figures go")
    given = parser.parse_args(arguments)
    wanted, times = codes(), dict[tuple[str, str], list[list[float]]]()
    with tempfile.TemporaryDirectory() as warm:
        for turn in range(given.rounds + 1):
            for key, code in wanted.items():
                with tempfile.TemporaryDirectory() as cold:
                    taken = measured(code, cold if key[1] == "build" else warm)
                if turn:
                    times.setdefault(key, []).append(taken)
    rows = []
    for (name, kind), several in times.items():
        medians = {
            column: statistics.median(one)
            for column, one in zip(COLUMNS[kind], zip(*several, strict=True), strict=True)
        }
        rows.append({"pattern": name, "kind": kind, "seconds": medians})
        shown = "  ".join(f"{column} {value * 1e3:5.0f} ms" for column, value in medians.items())
        sys.stdout.write(f"{name:<12}{kind:<10}{shown}\n")
    given.output.write_text(json.dumps({"what": __doc__.partition("\n")[0], "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
