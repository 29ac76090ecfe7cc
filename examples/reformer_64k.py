"""A Reformer takes a training step on 65,536 characters on a CPU, within a bound on memory that the system enforces.

    python examples/reformer_64k.py [--small] [--record]

The model is a third of reformer-enwik8 in its layers (local, local, LSH, local; four rounds of hashes; Kitaev et al.,
2020), narrow, with random weights: nothing is downloaded. It reads the Python reference by bytes. Its step, forward and
backward, is measured at growing lengths in processes of their own: with attnc's kernels in transformers'
``ReformerModelWithLMHead``, and with the library's own attention. Both are reversible, so that layers keep nothing for
the backward; they differ in attention alone, whose own code copies the sorted tokens of every round.

Shown are the peak memory and the time of a step, and what the scores of one dense layer would take. Checked first is
that both give one loss and the same gradients, in float64; last, that attnc's step at the greatest length ends where
the system allows the process no more than a given number of MiB, and whether the original's does. Exit code 1 says that
something disagreed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import figures
import torch
from display import DisagreementError, narrow_table, progress_display, step
from peak_memory import peak_memory
from rich.console import Console
from torch import Tensor
from transformers import ReformerConfig, ReformerModelWithLMHead
from transformers.utils import logging

from attnc.integrations.transformers import use

NAME = "reformer_64k"
OWN, ATTNC = "transformers", "attnc"
AGREES = 1e-9  # in float64, of the largest: the original adds log(count) to scores beside -1e5, and so loses 1e-11


@dataclass(frozen=True)
class Setup:
    """The sizes of the model and the measurement. ``limit``: MiB that a bounded process may hold beyond its start.

    ``check_length``: the tokens of the comparison; ``steps``: of each measurement, the first of which does not count.
    """

    lengths: tuple[int, ...] = (8192, 16_384, 32_768, 65_536)
    hidden: int = 128
    heads: int = 2
    layers: tuple[str, ...] = ("local", "local", "lsh", "local")
    chunk: int = 64
    hashes: int = 4
    steps: int = 3
    check_length: int = 2048
    limit: int = 1024
    seed: int = 0


SMALL = Setup(lengths=(128, 256), hidden=32, chunk=16, hashes=2, steps=1, check_length=128)


@dataclass(frozen=True)
class Measured:
    """One side at one length, by medians. ``peak``: bytes beyond the weights, None where the system does not tell;
    ``finished``: whether it ended, or asked for more memory than its process may have.
    """

    side: str
    n: int
    finished: bool
    loss: float = float("nan")
    forward: float = float("nan")
    backward: float = float("nan")
    peak: int | None = None
    seconds: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Report:
    """What was found. ``difference``: of loss and gradients, of the largest of each; ``bounded``: under the limit."""

    difference: float
    measured: Sequence[Measured]
    bounded: Sequence[Measured]


def read_text(n: int) -> Tensor:
    """The first bytes of the Python reference, int64 ``[1, n]``."""
    text = "".join(topics.values()).encode()[:n]
    if len(text) < n:
        raise ValueError(f"n is {n}, expected at most {len(text)}: the reference has so many bytes")
    return torch.tensor([list(text)])


def bucket_counts(n: int, chunk: int) -> int | list[int]:
    """Twice as many buckets as chunks, as reformer-enwik8 has them; of two factors where they are many."""
    count = 2 * n // chunk
    return count if count <= 128 else [32, count // 32]


def build_model(setup: Setup, n: int) -> ReformerModelWithLMHead:
    """Random weights, for texts of n tokens, with hashes that are drawn alike in every pass."""
    rows = 2 ** (n.bit_length() // 2)
    config = ReformerConfig(
        vocab_size=256, hidden_size=setup.hidden, num_attention_heads=setup.heads,
        attention_head_size=setup.hidden // setup.heads, attn_layers=list(setup.layers),
        feed_forward_size=2 * setup.hidden, max_position_embeddings=n, num_hashes=setup.hashes, hash_seed=setup.seed,
        num_buckets=bucket_counts(n, setup.chunk), lsh_attn_chunk_length=setup.chunk,
        local_attn_chunk_length=setup.chunk, axial_pos_shape=(rows, n // rows),
        axial_pos_embds_dim=(setup.hidden // 4, setup.hidden * 3 // 4), is_decoder=True, hidden_dropout_prob=0.0,
        lsh_attention_probs_dropout_prob=0.0, local_attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(setup.seed)
    with contextlib.redirect_stderr(io.StringIO()):  # a warning about the loss, which is the default's
        return ReformerModelWithLMHead(config).train()


def training_step(model: ReformerModelWithLMHead, text: Tensor) -> tuple[float, float, float]:
    """The loss of predicting each byte from those before, and the seconds of forward and backward."""
    model.zero_grad(set_to_none=True)
    start = time.perf_counter()
    loss = model(text, labels=text).loss
    middle = time.perf_counter()
    loss.backward()
    return loss.item(), middle - start, time.perf_counter() - middle


def check(setup: Setup, widened: int = 0) -> float:
    """How far loss and gradients of the two sides differ, of the largest of each, in float64.

    ``widened``: chunks that the swapped LSH layers see too many: a fault, which must be found. DisagreementError where
    they differ.
    """
    own = build_model(setup, setup.check_length).double()
    swapped = copy.deepcopy(own)
    use(swapped)
    for layer, kind in zip(swapped.reformer.encoder.layers, setup.layers, strict=True):
        if kind == "lsh":
            layer.attention.self_attention.num_chunks_before += widened
    text = read_text(setup.check_length)
    losses = [training_step(model, text)[0] for model in (own, swapped)]
    differences = {"loss": abs(losses[1] - losses[0]) / abs(losses[0])}
    for (name, mine), theirs in zip(swapped.named_parameters(), own.parameters(), strict=True):
        if (mine.grad is None) != (theirs.grad is None):
            raise DisagreementError(f"{name} has a gradient on one side only")
        if mine.grad is None or theirs.grad is None:
            continue  # a bias that the library does not read
        differences[name] = float((mine.grad - theirs.grad).abs().max() / theirs.grad.abs().max())
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= AGREES:
        raise DisagreementError(f"{worst} differs by {differences[worst]:.1e} of its largest, allowed is {AGREES:.0e}")
    return differences[worst]


def measure(setup: Setup, side: str, n: int, limit: int | None = None) -> Measured:
    """Steps of one side at one length in this process, which may then hold ``limit`` MiB more than now.

    Before that a step of a short text builds the kernels, which know no length, and starts the threads.
    """
    model, warm = build_model(setup, n), build_model(setup, 4 * setup.chunk)
    for each in (model, warm) if side == ATTNC else ():
        use(each)
    training_step(warm, read_text(4 * setup.chunk))
    text = read_text(n)
    if limit is not None:
        bound_memory(limit << 20)
    seconds, peaks, loss = [], [], float("nan")
    try:
        for _ in range(setup.steps):
            with peak_memory() as peak:
                loss, *passes = training_step(model, text)
            seconds.append((passes[0], passes[1]))
            peaks.append(peak.bytes)
    except (MemoryError, RuntimeError) as error:
        if limit is None or (not isinstance(error, MemoryError) and "memory" not in str(error)):
            raise
        return Measured(side, n, finished=False)
    forward, backward = (figures.median(each) for each in zip(*seconds, strict=True))
    known = [peak for peak in (peaks[1:] or peaks) if peak is not None]
    return Measured(side, n, True, loss, forward, backward, max(known, default=None), seconds)


def bound_memory(more: int) -> None:
    """Lets this process hold so many bytes beyond those that it holds now, by the system's own limit."""
    held = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (held + more, held + more))


def measure_apart(setup: Setup, side: str, n: int, limit: int | None = None) -> Measured:
    """The same in a process of its own, whose memory begins anew.

    What is freed there goes back to the system at once, at every length: else glibc keeps tensors of up to 32 MiB, so
    that a short text can look larger than a long one.
    """
    given = json.dumps({"setup": asdict(setup), "side": side, "n": n, "limit": limit})
    command = [sys.executable, __file__, "--child", given]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
    )
    if done.returncode == -9 and limit is None:  # the system has no memory left
        return Measured(side, n, finished=False)
    done.check_returncode()
    return Measured(**json.loads(done.stdout))


def child(given: str) -> None:
    """One measurement, printed as JSON."""
    logging.set_verbosity_error()
    asked: dict[str, Any] = json.loads(given)
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in asked["setup"].items()}
    print(json.dumps(asdict(measure(Setup(**fields), asked["side"], asked["n"], asked["limit"]))))


def dense_scores(setup: Setup, n: int) -> int:
    """Bytes of the scores of one dense layer in fp32, all heads."""
    return 4 * setup.heads * n * n


def table(results: Mapping[str, Any]) -> str:
    """The section of docs/examples.md."""
    rows = results["measured"]
    lines = []
    for n in sorted({row["n"] for row in rows}):
        own, mine = (next(row for row in rows if row["side"] == side and row["n"] == n) for side in (OWN, ATTNC))
        lines.append(
            [f"{n:,}", *(figure(row) for row in (mine, own)), *(seconds_of(row) for row in (mine, own)),
             f"{results['dense_scores'][str(n)] / 2**20:,.0f} MiB"]
        )  # fmt: skip
    header = [
        "tokens",
        "attnc, peak",
        "transformers, peak",
        "attnc, step",
        "transformers, step",
        "one dense layer's scores",
    ]
    ends = {row["side"]: ends_how(row) for row in results["bounded"]}
    last = (
        f"Loss and gradients of the two differ by at most {results['difference']:.0e} of the largest, in float64. "
        f"Where the system allows {results['limit']:,} MiB beyond the start, the step of {rows[-1]['n']:,} tokens "
        f"{ends[ATTNC]} with attnc; the library's {ends[OWN]}."
    )
    pictures = [
        ("peak memory against tokens", "reformer_64k.png"),
    ]
    return figures.section(pictures, figures.markdown(header, lines), last)


def figure(row: Mapping[str, Any]) -> str:
    """The peak of a row in words."""
    if not row["finished"]:
        return "out of memory"
    return "not measured" if row["peak"] is None else f"{row['peak'] / 2**20:,.0f} MiB"


def seconds_of(row: Mapping[str, Any]) -> str:
    return f"{row['forward'] + row['backward']:.1f} s" if row["finished"] else ""


def ends_how(row: Mapping[str, Any]) -> str:
    return "ends" if row["finished"] else "asks for more"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Peak memory against tokens, both logarithmic; the dense scores as far as they fit."""
    rows = [row for row in results["measured"] if row["peak"]]
    curves = [
        figures.Curve(side, [(row["n"], row["peak"] / 2**20) for row in rows if row["side"] == side])
        for side in (ATTNC, OWN)
    ]
    dense = [(int(n), size / 2**20) for n, size in results["dense_scores"].items()]
    curves.append(figures.Curve("one dense layer's scores, computed", dense, dashed=True))
    lengths = [n for n, _ in dense]
    most = [value for curve in curves for _, value in curve.points]
    across = figures.doubling_axis("tokens, thousands", lengths, unit=1024)
    up = figures.doubling_axis("MiB", most, every=2)
    figures.plot("Peak memory of a training step", across, up, curves).save(path)


def show(console: Console, results: Mapping[str, Any]) -> None:
    """The table in the terminal."""
    console.rule("peak memory and time of a training step")
    shown = narrow_table("", "tokens", "forward", "backward", "peak", "loss")
    for row in results["measured"]:
        passes = [f"{row[name]:.2f} s" if row["finished"] else "" for name in ("forward", "backward")]
        shown.add_row(row["side"], f"{row['n']:,}", *passes, figure(row), f"{row['loss']:.4f}")
    console.print(shown)
    for row in results["bounded"]:
        ends = "ends" if row["finished"] else "asks for more"
        console.print(
            f"Allowed {results['limit']:,} MiB beyond its start, {row['side']} at {row['n']:,} tokens {ends}."
        )


def main(
    setup: Setup | None = None, console: Console | None = None, apart: bool = True, keep: bool = False, widened: int = 0
) -> Report:
    """The whole example. ``apart``: each measurement in a process of its own, the last ones bounded; ``keep``: writes
    the results and the picture. DisagreementError where the two sides differ, or attnc's needs more than the bound.
    """
    setup, console, begin = setup or Setup(), console or Console(), time.perf_counter()
    difference = check(setup, widened)
    console.print(
        f"Loss and gradients at {setup.check_length:,} tokens differ by at most {difference:.1e} of the largest."
    )
    measured, bounded = [], []
    order = [(side, n) for n in setup.lengths for side in (ATTNC, OWN)]
    with progress_display() as progress, step(progress, "steps of both", len(order) + 2 * apart) as advance:
        for side, n in order:
            measured.append((measure_apart if apart else measure)(setup, side, n))
            advance()
        for side in (ATTNC, OWN) if apart else ():
            bounded.append(measure_apart(setup, side, setup.lengths[-1], setup.limit))
            advance()
    dense = {str(n): dense_scores(setup, n) for n in setup.lengths}
    results = {
        "setup": asdict(setup), "limit": setup.limit, "difference": difference, "dense_scores": dense,
        "measured": [asdict(row) for row in measured], "bounded": [asdict(row) for row in bounded],
    }  # fmt: skip
    show(console, results)
    if bounded and not bounded[0].finished:
        raise DisagreementError(f"attnc's step needs more than {setup.limit} MiB beyond its start")
    if keep:
        figures.record(NAME, results, table(results))
        draw(results, figures.PICTURES / f"{NAME}.png")
    console.print(f"{time.perf_counter() - begin:.0f} seconds in all")
    return Report(difference, measured, bounded)


def run(arguments: list[str]) -> int:
    """The command line; the exit code."""
    parser = figures.options_of(__doc__, "short texts, in this process: seconds, not minutes")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(options.child)
        return 0
    logging.set_verbosity_error()
    try:
        main(SMALL if options.small else None, apart=not options.small, keep=options.record)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
