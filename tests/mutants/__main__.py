"""Small faults planted one at a time, each of which a named test must notice: ``python -m tests.mutants``.

What was judged is remembered in ``.mutants/`` for as long as neither the product nor a test changes, so that a run that
was broken off goes on. Ends with 1 where a mutant survives or cannot be judged.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from .judge import Judgement, first_fault, judge
from .listed import MUTANTS
from .mutant import Mutant
from .tree import PlantingError, copy_tree, digest, place_of, product_texts

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(".mutants", "judged.json")


class State:
    """The judgements of earlier runs that still hold, in a file."""

    def __init__(self, path: Path, key: str) -> None:
        """``key`` stands for everything that a judgement depends on."""
        self._path, self._key = path, key
        self.judged: dict[str, Judgement] = {}
        if path.is_file():
            held = json.loads(path.read_text(encoding="utf-8"))
            if held["key"] == key:
                self.judged = {name: Judgement(**each) for name, each in held["judged"].items()}

    def note(self, name: str, judgement: Judgement) -> None:
        """Keeps one more judgement."""
        self.judged[name] = judgement
        self._path.parent.mkdir(exist_ok=True)
        held = {"key": self._key, "judged": {name: asdict(each) for name, each in self.judged.items()}}
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(held, indent=1), encoding="utf-8")
        fresh.replace(self._path)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 if every mutant that was asked for is caught, 2 where none has such a name, else 1."""
    parser = argparse.ArgumentParser("python -m tests.mutants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--list", action="store_true", help="name each mutant, its wing and its test, and run nothing")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORDS", help="judge those anew whose names hold the words"
    )
    parser.add_argument("--workers", type=int, default=2, help="how many are judged at a time (2)")
    parser.add_argument("--limit", type=float, default=180.0, metavar="S", help="seconds for one test (180)")
    options = parser.parse_args(arguments)
    chosen = [mutant for mutant in MUTANTS if not options.only or any(words in mutant.name for words in options.only)]
    if not chosen:
        print(f"error: no mutant's name holds {' or '.join(map(repr, options.only))}", file=sys.stderr)
        return 2
    if options.list:
        print(table((mutant.wing, mutant.name, mutant.caught_by) for mutant in chosen))
        return 0
    try:
        texts = product_texts(ROOT)
        for mutant in chosen:
            place_of(texts, mutant)
        judged = judge_all(chosen, options.workers, options.limit, bool(options.only))
    except PlantingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return report(chosen, judged)


def judge_all(chosen: Sequence[Mutant], workers: int, limit: float, anew: bool) -> dict[str, Judgement]:
    """The judgement of each mutant, by name. PlantingError where the named tests do not pass without a mutant."""
    state = State(STATE, digest(ROOT, MUTANTS))
    left = [mutant for mutant in chosen if anew or mutant.name not in state.judged]
    if len(left) < len(chosen):
        print(f"{len(chosen) - len(left)} were judged before, {len(left)} are left")
    if not left:
        return state.judged
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(workers) as pool:
        pristine = Path(folder, "tree")
        copy_tree(ROOT, pristine)
        begun = time.perf_counter()
        tests = sorted({mutant.caught_by for mutant in left})
        shares = [tests[number::workers] for number in range(min(workers, len(tests)))]
        for fault in pool.map(lambda its: first_fault(pristine, its, limit * len(its)), shares):
            if fault is not None:
                raise PlantingError(fault)
        print(f"without a mutant the {len(tests)} tests pass, in {time.perf_counter() - begun:.0f} s", flush=True)
        waiting = {pool.submit(judge, pristine, mutant, limit): mutant for mutant in left}
        for number, future in enumerate(as_completed(waiting), 1):
            mutant, judgement = waiting[future], future.result()
            state.note(mutant.name, judgement)
            said = "" if judgement.verdict == "caught" else f": {judgement.reason}"
            print(
                f"{number:3} of {len(left)}  {judgement.verdict} in {judgement.seconds:3.0f} s  {mutant.name}{said}",
                flush=True,
            )
    return state.judged


def report(chosen: Sequence[Mutant], judged: dict[str, Judgement]) -> int:
    """Prints what became of each mutant, and returns the exit code."""
    rows = [(mutant, judged[mutant.name]) for mutant in chosen]
    print(
        table(
            (mutant.wing, mutant.name, each.verdict, f"{each.seconds:.0f} s", mutant.caught_by) for mutant, each in rows
        )
    )
    wrong = [(mutant, each) for mutant, each in rows if each.verdict != "caught"]
    for mutant, each in wrong:
        print(f"{each.verdict}: {mutant.name}, by {mutant.caught_by}: {each.reason}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} mutants are caught")
    return 1 if wrong else 0


def table(rows: Iterable[Sequence[str]]) -> str:
    """Lines whose columns begin below one another."""
    held = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*held, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in held
    )


if __name__ == "__main__":
    sys.exit(main())
