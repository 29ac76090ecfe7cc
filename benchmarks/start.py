"""How long the commands take that look at texts, as whole processes, from the shell and back.

    python benchmarks/start.py

Every command runs in turn, so that what else the computer does falls on all of them alike; the first round, which may
compile Python's own files, does not count. Beside them stands Python itself, started with nothing to do. Prints a table
of medians, and writes benchmarks/results/start.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).with_name("results") / "start.json"
MAIN = "from attnc.cli.main import main; main()"
FILE = "patterns/text/longformer.attn"
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "python, nothing": ("-c", ""),
    "attnc --version": ("-c", MAIN, "--version"),
    "attnc explain syntax": ("-c", MAIN, "explain", "syntax"),
    f"attnc fmt --check {FILE}": ("-c", MAIN, "fmt", "--check", FILE),
    f"attnc check {FILE}": ("-c", MAIN, "check", FILE),
    f"attnc show {FILE}:longformer": ("-c", MAIN, "show", f"{FILE}:longformer"),
    f"attnc test --undecided pass {FILE}": ("-c", MAIN, "test", "--undecided", "pass", FILE),
}


def seconds(arguments: Sequence[str]) -> float:
    """One process, from its start to its end. CalledProcessError where it fails."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def measured(rounds: int) -> dict[str, list[float]]:
    """The seconds of every counted round, by command."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            taken = seconds(arguments)
            if turn:
                times[name].append(taken)
    return times


def document(times: Mapping[str, Sequence[float]]) -> str:
    """What is written: medians and all that they are of, in seconds."""
    rows = [{"command": name, "median": statistics.median(taken), "seconds": taken} for name, taken in times.items()]
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    return json.dumps({"what": __doc__.partition("\n")[0], **machine, "commands": rows}, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each command runs (15)")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the figures go")
    given = parser.parse_args(arguments)
    times = measured(given.rounds)
    width = max(map(len, times))
    for name, taken in times.items():
        sys.stdout.write(f"{name:<{width}}  {statistics.median(taken) * 1e3:6.0f} ms\n")
    given.output.write_text(document(times), encoding="utf-8")


if __name__ == "__main__":
    main()
