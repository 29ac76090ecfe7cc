"""Whether attnc's kernels are right on this GPU, and how fast they are beside FlexAttention: one table, one file.

    python benchmarks/gpu.py                     all rows: checks, 100 random programs, speeds
    python benchmarks/gpu.py --budget 540        what 9 minutes allow, most telling rows first; start again for the rest
    python benchmarks/gpu.py --only 'speed*'     some rows, by their names
    python benchmarks/gpu.py --rehearse          on a CPU, in Triton's interpreter, at toy sizes: proves the logic alone

Checks: each kind of kernel (see _gpu_kinds.py) in three dtypes at head dimensions 64 and 128, outputs and gradients
against the dense definition in fp64, and the support test, which sees a single key; then random programs, each over
several shapes, forward and backward. Speeds: causal, window and Longformer, at 4k, 16k and 64k tokens, in bf16. Device
times are medians of repetitions in turn, measured by the device's events; planning (none kept from before) and the
host's time for a call (which waits for no device, unless the call itself does) stand apart. Useful flops are what the
kept pairs need: 4 a pair and channel forward, 10 backward.

Each row is in the file (benchmarks/results/gpu-<device>.json) as soon as it is made, and a second start goes on behind
it, for the same sources, device and versions. An error is its row's, and the next row is made. The exit code is 0 when
all rows asked for are there and sound, 1 when one is not, 2 where nothing can run, 3 when rows are left to make.

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck python benchmarks/gpu.py --sanitize

--sanitize runs each kernel of each kind once, forward and backward, at a small size, and nothing else: for
compute-sanitizer's memcheck, racecheck, synccheck and initcheck. Without PyTorch's own pool of memory, what lies beside
a tensor is nobody's, and so is seen.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _rows import Ledger, Made, Outcome, Row, make_all

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
SOURCES = ("attnc", "compiler", "runtime", "templates", "patterns", "benchmarks", "tests")
PROGRAMS, FIRST_PROGRAM, FIRST_TOLD = 100, 8_000_000, 20
LENGTHS, HEAD_DIMS, HIDDEN, ROUNDS = (16384, 4096, 65536), (64, 128), 1024, 15
NOTHING = 2  # exit code where nothing can run


def digest() -> str:
    """Of all files that decide the rows' figures, those of the tests' generators among them."""
    found = hashlib.sha256()
    for folder in SOURCES:
        for place, folders, files in os.walk(ROOT / folder):  # follows no links: attnc's lead to the others
            folders[:] = sorted(set(folders) - {"results", "__pycache__"})
            for name in sorted(files):
                path = Path(place) / name
                if path.suffix in (".py", ".jinja", ".h", ".attn"):
                    found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def commit() -> str | None:
    """The commit of the working tree, where git knows one."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def identity(device: torch.device) -> dict[str, Any]:
    """What rows must have in common to stand in one file."""
    import torch
    import triton

    found = {"sources": digest(), "torch": torch.__version__, "triton": triton.__version__}
    if device.type != "cuda":
        return {"device": "rehearsal", **found}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name, "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory, "cuda": torch.version.cuda, **found,
    }  # fmt: skip


def rows_of(device: torch.device, small: bool) -> list[Row]:
    return [*checks(device, small), *programs(device, small), *speeds(device, small)]


def checks(device: torch.device, small: bool) -> Iterator[Row]:
    """Every kind in fp32 at 64 and bf16 at 128 first; then what is left of three dtypes and two head dimensions."""
    import torch
    from _gpu_checks import check
    from _gpu_kinds import KINDS

    first = ((torch.float32, 16),) if small else ((torch.float32, 64), (torch.bfloat16, 128))
    rest = [(dtype, dim) for dtype in (torch.bfloat16, torch.float16, torch.float32) for dim in HEAD_DIMS]
    for dtype, dim in [*first, *(x for x in rest if x not in first and not small)]:
        for kind in KINDS:
            settings = {"dtype": str(dtype).removeprefix("torch."), "head_dim": dim}
            name = f"check {kind.name}, {settings['dtype']}, {dim}"
            make = partial(check, kind, dtype, dim, device, small)
            yield Row("check", name, make, settings, 0 if (dtype, dim) in first else 3)


def programs(device: torch.device, small: bool) -> Iterator[Row]:
    from _gpu_checks import random_program

    for number in range(3 if small else PROGRAMS):
        seed = FIRST_PROGRAM + number
        make = partial(random_program, seed, device)
        yield Row("program", f"program {seed}", make, {"seed": seed}, 2 if number < FIRST_TOLD else 4)


def speeds(device: torch.device, small: bool) -> Iterator[Row]:
    import torch
    from _gpu_speeds import Speed, measure

    for n in (128,) if small else LENGTHS:
        for dim in (16,) if small else HEAD_DIMS:
            for pattern in ("causal", "window", "longformer"):
                dtype = torch.float32 if small else torch.bfloat16
                speed = Speed(pattern, n, dim, 2 if small else HIDDEN // dim, dtype, 1 if small else ROUNDS)
                settings = {"n": n, "head_dim": dim, "heads": speed.heads, "rounds": speed.rounds}
                telling = 1 if n == LENGTHS[0] else 3
                yield Row("speed", f"speed {pattern}, n {n}, {dim}", partial(measure, speed, device), settings, telling)


def told(made: Made) -> None:
    """One line of the table, and one more for each fault."""
    print(f"{'WRONG' if made.faults else 'ok':<6}{made.seconds:7.1f} s  {made.name:<58}{summary(made)}", flush=True)
    for fault in made.faults:
        print("      " + fault.replace("\n", "\n      "), flush=True)


def summary(made: Made) -> str:
    """The figures of a row that a line has room for."""
    figures = made.figures
    if made.group == "check":
        shares = [x["error"] / x["bound"] for x in figures.values() if isinstance(x, dict) and x["bound"]]
        return f"{max(shares):.2f} of the bound" if shares else ""
    if made.group != "speed" or not figures:
        return ""
    parts = []
    for name, passes in figures.items():
        if isinstance(passes, dict):
            own = [f"{1e3 * x['median s']:.2f} ms {x['TFLOP/s']:.1f} TFLOP/s" for x in passes.values()]
            parts.append(f"{name} {' + '.join(own)}, host {' + '.join(_host(x) for x in passes.values())}")
    return f"planning {1e3 * figures['planning s']:.1f} ms; {'; '.join(parts)}"


def _host(figures: dict[str, Any]) -> str:
    return f"{1e6 * figures['host s']:.0f} us"


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def usable(device: torch.device) -> bool:
    """Whether the device still does what it is asked: after a fault of memory it does nothing for this process."""
    import torch

    try:
        return int(torch.ones(3, device=device).sum()) == 3
    except RuntimeError:
        return False


def sanitize(device: torch.device, small: bool, only: Sequence[str]) -> int:
    """Each function of each kind once. The sanitizer, which runs this process, says what is wrong."""
    from _gpu_checks import sanitized
    from _gpu_kinds import KINDS

    kinds = [kind for kind in KINDS if matches(kind.name, only)]
    seen: set[str] = set()
    for kind in kinds:
        names = sanitized(kind, device, small)
        seen |= {name.rstrip("_0123456789") for name in names}
        print(f"{kind.name}: {' '.join(names)}", flush=True)
    print(f"{len(kinds)} kinds ran, functions of the kinds {', '.join(sorted(seen))}")
    return 0 if kinds else NOTHING


def closing(outcome: Outcome, ledger: Ledger) -> None:
    print(f"{outcome.sound} rows sound, {outcome.faulty} wrong, {outcome.left} left; written to {ledger.path}")
    if outcome.why:
        print(f"stopped: {outcome.why}")


def find_sources() -> None:
    """Lets attnc be imported where it is not installed, and the tests' generators, whatever else is called "tests"."""
    sys.path[:0] = [str(ROOT)]
    if "tests" not in sys.modules:
        found = ModuleSpec("tests", None, is_package=True)
        found.submodule_search_locations = [str(ROOT / "tests")]
        sys.modules["tests"] = module_from_spec(found)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", action="append", help="rows (with --sanitize: kinds) whose names match: 'speed*'; several times"
    )
    parser.add_argument("--rehearse", action="store_true", help="in Triton's interpreter on the CPU, at toy sizes")
    parser.add_argument("--out", type=Path, help="the file; by default in benchmarks/results, by the device's name")
    parser.add_argument("--budget", type=float, help="seconds: stops before them, most telling rows first")
    parser.add_argument("--again", action="store_true", help="makes the wrong rows again, too")
    parser.add_argument("--sanitize", action="store_true", help="runs each kernel once, for compute-sanitizer")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    given = parsed(arguments)
    if given.rehearse:
        os.environ["ATTNC_INTERPRET"] = "1"  # before triton is imported, which decides then
    find_sources()
    import torch

    if not given.rehearse and not torch.cuda.is_available():
        print("no CUDA device: nothing was run; --rehearse runs at toy sizes in Triton's interpreter", file=sys.stderr)
        return NOTHING
    device = torch.device("cpu" if given.rehearse else "cuda")
    only = given.only or ["*"]
    if given.sanitize:
        return sanitize(device, given.rehearse, only)
    asked = [row for row in rows_of(device, given.rehearse) if matches(row.name, only)]
    if not asked:
        print(f"--only: no row has a name like {' or '.join(only)}", file=sys.stderr)
        return NOTHING
    of = identity(device)
    safe = re.sub(r"[^A-Za-z0-9.]+", "-", of["device"])
    ledger = Ledger(given.out or RESULTS / f"gpu-{safe}.json", of, {"commit": commit()})
    if ledger.dropped:
        print(f"{ledger.path}: its {ledger.dropped} rows are of other sources, device or versions; begun anew")
    if given.again:
        ledger.forget_faulty()
    print(f"{of['device']}: {len(asked)} rows, {sum(map(ledger.has, asked))} made before", flush=True)
    outcome = make_all(asked, ledger, given.budget, told, partial(usable, device))
    closing(outcome, ledger)
    return outcome.code


if __name__ == "__main__":
    raise SystemExit(main())
