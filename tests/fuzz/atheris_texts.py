"""Texts found by coverage, where atheris is installed: ``python -m tests.fuzz.atheris_texts [--seconds S]``.

Starts from the texts of tests/fuzz/texts.py and asks of every text what that asks. A text that fails is kept in .fuzz/:
moved to tests/golden/texts/, it is a test for good.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    raise SystemExit("atheris is not installed: pip install atheris") from None

with atheris.instrument_imports(include=["attnc"]):
    from tests.fuzz import texts as fuzz_text

FOLDER = Path(".fuzz")
STARTS = 500  # texts that it starts from
LONGEST = 4096  # bytes of a text


def read(data: bytes) -> None:
    found = fuzz_text.fault(fuzz_text.HostileText(len(data), data))
    if found is not None:
        raise RuntimeError(found)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.atheris_texts", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="how long")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(STARTS):
            text = fuzz_text.mutated(random.Random(given.seed + number)).encode("utf-8", "surrogatepass")
            Path(folder, f"{number}.attn").write_bytes(text[:LONGEST])
        limits = (f"-max_total_time={given.seconds}", f"-max_len={LONGEST}", "-timeout=5", "-rss_limit_mb=1024")
        atheris.Setup(
            [
                sys.argv[0],
                *limits,
                f"-seed={given.seed}",
                f"-artifact_prefix={FOLDER}/",
                "-print_final_stats=1",
                folder,
            ],
            read,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
