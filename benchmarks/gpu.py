"""Whether attnc's kernels are right on this GPU, and how fast they are beside FlexAttention: one table, one file.

    python benchmarks/gpu.py                     the standard rows: checks, random programs, speeds at 16k tokens
    python benchmarks/gpu.py --only 'speed*'     some rows, by their names: all standard speeds, in 8 minutes
    python benchmarks/gpu.py --full              all rows: every dtype, pattern, length and head dimension
    python benchmarks/gpu.py --budget 540        what 9 minutes allow, most telling rows first; start again for the rest
    python benchmarks/gpu.py --rehearse          on a CPU, in Triton's interpreter, at toy sizes: proves the logic alone

Checks: each kind of kernel (see _gpu_kinds.py), outputs and gradients against the dense definition in fp64, and the
support test, which sees a single key; in 16 bits also against the error of PyTorch's own operator in that dtype: the
largest may be 1.5 times as much, and the mean 1.1 times. Then random programs, each over several shapes, forward and
backward. Speeds: in bf16, at head dimension 128, six patterns (_gpu_patterns.py) beside FlexAttention, whose block mask
is kept, two of them also beside its max-autotune; causal and full beside PyTorch's flash and cuDNN backends, the
yardstick of what the device reaches; one token decoded against 16k keys; and shapes between which the table of choices
could not decide, with the winner. Device times are medians of repetitions in turn, measured by the device's events;
planning (none kept from before) and the host's time for a call (which waits for no device, unless the call itself does)
stand apart. Useful flops are what the kept pairs need: 4 a pair and channel forward, 10 backward.

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

from _rows import Ledger, Made, Outcome, Row, digest, make_all

if TYPE_CHECKING:
    import torch
    from _gpu_speeds import Speed

    from attnc.compiler.plan import Pass

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
SOURCES = ("attnc", "compiler", "runtime", "templates", "patterns", "benchmarks", "tests")
PROGRAMS, FIRST_PROGRAM, FIRST_TOLD = 100, 8_000_000, 20
LENGTHS, HEAD_DIMS, HIDDEN, ROUNDS = (16384, 4096, 65536, 131072), (64, 128), 1024, 15
GROUPED = (64, 8)  # heads of queries and of keys
NOTHING = 2  # exit code where nothing can run


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

    found = {"sources": digest(SOURCES), "torch": torch.__version__, "triton": triton.__version__}
    if device.type != "cuda":
        return {"device": "rehearsal", **found}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name, "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory, "cuda": torch.version.cuda, **found,
    }  # fmt: skip


def rows_of(device: torch.device, small: bool, full: bool = True) -> list[Row]:
    """All rows, or the standard ones."""
    return [
        *checks(device, small, full),
        *programs(device, small, full),
        *speeds(device, small, full),
        *doubts(device, small),
    ]


def checks(device: torch.device, small: bool, full: bool) -> Iterator[Row]:
    """Every kind in fp32 at 64 and bf16 at 128 first; then what is left of three dtypes and two head dimensions."""
    import torch
    from _gpu_checks import check
    from _gpu_kinds import KINDS

    first = ((torch.float32, 16),) if small else ((torch.float32, 64), (torch.bfloat16, 128))
    rest = [(dtype, dim) for dtype in (torch.bfloat16, torch.float16, torch.float32) for dim in HEAD_DIMS]
    for dtype, dim in [*first, *(x for x in rest if x not in first and not small and full)]:
        for kind in KINDS:
            settings = {"dtype": str(dtype).removeprefix("torch."), "head_dim": dim}
            name = f"check {kind.name}, {settings['dtype']}, {dim}"
            make = partial(check, kind, dtype, dim, device, small)
            yield Row("check", name, make, settings, 0 if (dtype, dim) in first else 3)


def programs(device: torch.device, small: bool, full: bool) -> Iterator[Row]:
    from _gpu_checks import random_program

    for number in range(3 if small else PROGRAMS if full else FIRST_TOLD):
        seed = FIRST_PROGRAM + number
        make = partial(random_program, seed, device)
        yield Row("program", f"program {seed}", make, {"seed": seed}, 2 if number < FIRST_TOLD else 4)


def speeds(device: torch.device, small: bool, full: bool) -> Iterator[Row]:
    """The standard patterns at the standard size first, then decoding; with ``full`` every pattern and size, and groups
    of heads.
    """
    import torch
    from _gpu_patterns import FULL, PATTERNS, STANDARD
    from _gpu_speeds import Speed

    dtype = torch.float32 if small else torch.bfloat16
    n, dim, rounds = (128, 16, 1) if small else (LENGTHS[0], HEAD_DIMS[1], ROUNDS)
    heads = 2 if small else HIDDEN // dim
    for pattern in (*STANDARD, FULL):
        longer = max(n, pattern.at_least)
        speed = Speed(pattern, longer, dim, heads, heads, dtype, rounds, tuned=pattern in STANDARD[:2])
        yield _speed(speed, device, 1)
    for pattern in STANDARD[:2]:
        grouped = (4, 2) if small else (32, 8)
        yield _speed(Speed(pattern, n, dim, *grouped, dtype, rounds, decode=True), device, 1)
    if not full or small:
        return
    for n in LENGTHS:
        for dim in HEAD_DIMS:
            for pattern in PATTERNS:
                for heads, kv_heads in ((HIDDEN // dim, HIDDEN // dim), GROUPED):
                    if (n, dim, heads) != (LENGTHS[0], HEAD_DIMS[1], HIDDEN // HEAD_DIMS[1]) or pattern not in STANDARD:
                        yield _speed(Speed(pattern, n, dim, heads, kv_heads, dtype, rounds), device, 5)


def _speed(speed: Speed, device: torch.device, telling: int) -> Row:
    from _gpu_speeds import measure

    grouped = "" if speed.heads == speed.kv_heads else f", heads {speed.heads}:{speed.kv_heads}"
    name = f"speed {'decoding ' * speed.decode}{speed.pattern.name}, n {speed.n}, {speed.head_dim}{grouped}"
    names = ("n", "head_dim", "heads", "kv_heads", "rounds", "tuned", "decode")
    settings = {name: getattr(speed, name) for name in names}
    return Row("speed", name, partial(measure, speed, device), settings, telling)


# Shapes (queries, keys, warps, stages, whether loaded by descriptors) between which reading compiled kernels could not
# decide; the table's own first.
DOUBTS: dict[Pass, tuple[tuple[int, int, int, int, bool], ...]] = {
    "forward": ((128, 128, 8, 3, True), (128, 64, 8, 3, True), (128, 64, 8, 3, False), (64, 64, 4, 3, False)),
    "backward_keys": ((32, 128, 8, 3, False), (64, 128, 8, 2, False), (32, 64, 4, 3, False)),
    "backward_queries": ((128, 64, 8, 3, False), (128, 64, 8, 3, True), (64, 64, 4, 3, False)),
}


def doubts(device: torch.device, small: bool) -> Iterator[Row]:
    """Each pass of causal and of a window, in every shape that is in doubt."""
    import torch
    from _gpu_patterns import STANDARD
    from _gpu_speeds import Doubt, Speed, decide

    from attnc.compiler.codegen.triton.tuning import TileConfig

    dtype = torch.float32 if small else torch.bfloat16
    n, dim, heads, rounds = (128, 16, 2, 1) if small else (LENGTHS[0], HEAD_DIMS[1], HIDDEN // HEAD_DIMS[1], ROUNDS)
    for pattern in STANDARD[:2]:
        speed = Speed(pattern, n, dim, heads, heads, dtype, rounds)
        for direction, shapes in DOUBTS.items():
            chosen = tuple(
                TileConfig(*shape, pointers=TileConfig(*shape) if described else None)
                for *shape, described in (shapes[-2:] if small else shapes)
            )
            make = partial(decide, Doubt(speed, direction, chosen), device)
            settings = {"n": n, "head_dim": dim, "heads": heads, "rounds": rounds, "shapes": [list(x) for x in shapes]}
            yield Row("doubt", f"doubt {direction}, {pattern.name}, n {n}, {dim}", make, settings, 2)


def told(made: Made) -> None:
    """One line of the table, and one more for each fault."""
    print(f"{'WRONG' if made.faults else 'ok':<6}{made.seconds:7.1f} s  {made.name:<58}{summary(made)}", flush=True)
    for fault in made.faults:
        print("      " + fault.replace("\n", "\n      "), flush=True)


def summary(made: Made) -> str:
    """The figures of a row that a line has room for."""
    figures = made.figures
    if made.group == "check":
        shares = [x["error"] / x["bound"] for x in figures.values() if isinstance(x, dict) and x.get("bound")]
        return f"{max(shares):.2f} of the bound" if shares else ""
    if made.group == "doubt" and figures:
        rates = {name: x for name, passes in figures.items() if isinstance(passes, dict) for x in passes.values()}
        listed = ", ".join(f"{name} {x['TFLOP/s']:.1f}" for name, x in rates.items())
        return f"winner {figures['winner']}; TFLOP/s: {listed}"
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
    parser.add_argument("--full", action="store_true", help="all rows, not only the standard ones")
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
    asked = [row for row in rows_of(device, given.rehearse, given.full) if matches(row.name, only)]
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
