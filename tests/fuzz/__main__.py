"""Random programs, for long: ``python -m tests.fuzz [CAMPAIGN] [--count N] [--seed S]``.

A campaign prints its seed, remembers in ``.fuzz/`` how far it came, and goes on from there when started again. At the
first program that fails it stops, and leaves the program in ``.fuzz/``: moved to ``tests/golden/pinned/``, it is a
test for good.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.fuzz import caches as fuzz_caches
from tests.fuzz import compilers as fuzz_compilers
from tests.fuzz import device_tiles as fuzz_device_tiles
from tests.fuzz import integers as fuzz_integers
from tests.fuzz import masks as fuzz_masks
from tests.fuzz import names as fuzz_names
from tests.fuzz import parts as fuzz_parts
from tests.fuzz import programs as fuzz_programs
from tests.fuzz import proofs as fuzz_proofs
from tests.fuzz import structures as fuzz_structures
from tests.fuzz import swaps as fuzz_swaps
from tests.fuzz import texts as fuzz_text
from tests.fuzz import tiles as fuzz_tiles
from tests.support.generators.programs import Program, generate

FOLDER = Path(".fuzz")
SAVED_EVERY = 200


def _program_text(program: Program) -> str:
    return f"{program.text}\n{program.sizes}"


def _program_kept(program: Program) -> bytes:
    return (fuzz_masks.to_json(program) + "\n").encode()


@dataclass(frozen=True)
class Campaign:
    """``fault`` says what is wrong with a program, or None; whatever it raises is a fault too.

    A program has a ``seed``; it is shown as ``told`` says, and ``kept`` in a file that ends in ``suffix``.
    """

    count: int
    generate: Callable[[int], Any]
    fault: Callable[[Any], str | None]
    told: Callable[[Any], str] = _program_text
    kept: Callable[[Any], bytes] = _program_kept
    suffix: str = "json"
    summary: Callable[[], str] | None = None
    saved_every: int = SAVED_EVERY


def _integers(count: int, fault: Callable[[Any], str | None]) -> Campaign:
    own = fuzz_integers
    return Campaign(count, own.generate, fault, own.told, own.kept, "txt", own.TALLY.summary)


CAMPAIGNS = {
    "masks": Campaign(100_000, generate, fuzz_masks.fault),
    "structures": Campaign(2_000, generate, fuzz_structures.fault),
    "tiles": Campaign(1_000, fuzz_tiles.Batch, fuzz_tiles.fault, fuzz_tiles.told, fuzz_tiles.kept, "txt"),
    "programs": Campaign(10_000, fuzz_programs.generate_any, fuzz_programs.fault),
    "programs-cpp": Campaign(500, fuzz_programs.generate_any, fuzz_programs.compiled_fault),
    "programs-interpreted": Campaign(200, fuzz_programs.small, fuzz_programs.interpreted_fault),
    "newer-cpp": Campaign(2_000, fuzz_programs.newer, fuzz_programs.compiled_fault),
    "newer-interpreted": Campaign(100, fuzz_programs.newer_small, fuzz_programs.interpreted_fault),
    "interpreted": Campaign(600, fuzz_structures.small, fuzz_structures.interpreted_fault),
    "text": Campaign(1_000_000, fuzz_text.generate, fuzz_text.fault, fuzz_text.told, fuzz_text.kept, fuzz_text.SUFFIX),
    "integers": _integers(20_000, fuzz_integers.fault),
    "integers-cpp": _integers(100, fuzz_integers.compiled_fault),
    "integers-interpreted": _integers(50, fuzz_integers.interpreted_fault),
    "compilers": Campaign(
        200,
        fuzz_compilers.generate,
        fuzz_compilers.fault,
        fuzz_compilers.told,
        fuzz_compilers.kept,
        "txt",
        saved_every=10,
    ),
    "proofs": Campaign(
        2_000,
        fuzz_proofs.generate,
        fuzz_proofs.fault,
        fuzz_proofs.told,
        fuzz_proofs.kept,
        "txt",
        fuzz_proofs.TALLY.summary,
    ),
    "caches": Campaign(
        5_000,
        fuzz_caches.generate,
        fuzz_caches.fault,
        fuzz_caches.told,
        fuzz_caches.kept,
        "txt",
        fuzz_caches.TALLY.summary,
    ),
    "device-tiles": Campaign(
        20_000,
        fuzz_device_tiles.generate,
        fuzz_device_tiles.fault,
        fuzz_device_tiles.told,
        fuzz_device_tiles.kept,
        "txt",
    ),
    "names": Campaign(10_000, generate, fuzz_names.fault),
    "swaps": Campaign(1_000, fuzz_swaps.generate, fuzz_swaps.fault, fuzz_swaps.told, fuzz_swaps.kept, "txt"),
    "parts": Campaign(3_000, fuzz_parts.generate, fuzz_parts.fault, fuzz_parts.told, fuzz_parts.kept, "txt"),
    "parts-cpp": Campaign(
        1_000, fuzz_parts.generate, fuzz_parts.compiled_fault, fuzz_parts.told, fuzz_parts.kept, "txt"
    ),
}


@dataclass
class Progress:
    """How far a campaign came: programs ``seed .. seed + done - 1`` passed."""

    seed: int
    count: int
    done: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        fresh.replace(path)


def resumed(path: Path, campaign: Campaign, count: int | None, seed: int | None) -> Progress:
    """The unfinished progress of the last run, unless another seed is asked for; else a fresh one."""
    if path.exists():
        progress = Progress(**json.loads(path.read_text(encoding="utf-8")))
        if seed in (None, progress.seed) and progress.done < (count or progress.count):
            progress.count = count or progress.count
            return progress
    return Progress(secrets.randbits(40) if seed is None else seed, count or campaign.count)


def judged(campaign: Campaign, seed: int) -> tuple[Any, str | None]:
    program = campaign.generate(seed)
    try:
        return program, campaign.fault(program)
    except Exception:  # noqa: BLE001 - whatever a random program makes the compiler raise is a finding
        return program, traceback.format_exc()


def run(name: str, campaign: Campaign, count: int | None, seed: int | None) -> bool:
    """Run a campaign to its end or to its first failure; whether all programs passed."""
    path = FOLDER / f"{name}.json"
    progress = resumed(path, campaign, count, seed)
    print(f"{name}: seed {progress.seed}, {progress.count:,} programs, {progress.done:,} done before", flush=True)
    while progress.done < progress.count:
        started = time.perf_counter()
        several = max(min(SAVED_EVERY, campaign.saved_every), progress.count // 1000)
        for number in range(progress.done, min(progress.done + several, progress.count)):
            program, found = judged(campaign, progress.seed + number)
            if found is not None:
                return report(name, campaign, path, progress, program, found)
            progress.done = number + 1
        progress.seconds += time.perf_counter() - started
        progress.save(path)
        _show(name, progress)
    print(f"\n{name}: {progress.count:,} programs from seed {progress.seed} passed in {progress.seconds:,.0f} s")
    if campaign.summary is not None:
        print(f"{name}: {campaign.summary()}")
    return True


def report(name: str, campaign: Campaign, path: Path, progress: Progress, program: Any, found: str) -> bool:
    """Tell a failure, and keep the program: by its seed while the generator stays, by its text for good."""
    progress.save(path)
    kept = FOLDER / f"{name}-{program.seed}.{campaign.suffix}"
    kept.write_bytes(campaign.kept(program))
    print(f"\n{name}: seed {program.seed} fails\n\n{campaign.told(program)}\n\n{found}\n")
    print(f"again: python -m tests.fuzz {name} --seed {program.seed} --count 1")
    print(f"pinned: move {kept} to tests/golden/pinned/, or tests/golden/structures/ for kernels")
    return False


def _show(name: str, progress: Progress) -> None:
    rate = progress.done / max(progress.seconds, 1e-9)
    left = (progress.count - progress.done) / rate
    line = f"{name}: {progress.done:,} of {progress.count:,}, {rate:,.0f} a second, {left:,.0f} s left"
    print(f"\r{line:<78}" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("campaign", nargs="?", choices=sorted(CAMPAIGNS), help="masks, then structures, by default")
    parser.add_argument("--count", type=int, help="how many programs")
    parser.add_argument("--seed", type=int, help="of the first program; by default drawn at random, and printed")
    arguments = parser.parse_args()
    names = [arguments.campaign] if arguments.campaign else ["masks", "structures"]
    passed = [run(name, CAMPAIGNS[name], arguments.count, arguments.seed) for name in names]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
