"""Longformer's character model in small: windows that grow by phases, a dilated head in the upper layers.

    python examples/character_model.py [-o picture.png] [--small] [--record]

The patterns are examples/character_model.attn, after the paper's: six layers of four heads with causal windows that
double from layer to layer; in three phases of training the windows and the texts double while the rate is halved, up to
windows of 512 in texts of 4,096 characters, where a dilated head reaches 2,048 back. The text is the Python reference,
by bytes; one passage in eight is held out. Positions are rotary, not the paper's; the weights are random: nothing is
downloaded.

Beside it, with the same weights, texts, steps and rates, the model with full causal attention (torch's own kernels).
Shown are bits per character on the passages that were held out, and the time of a step in each phase. Checked first is
that the model's logits and gradients are those under dense masks that are made as the paper says. Exit code 1 says that
they are not.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import figures
import torch
from display import DisagreementError, narrow_table, picture, progress_display, step
from python_reference import CHAPTERS, passages
from rich.console import Console
from small_transformer import Attend, Block, dense_causal, grid_places, rotary
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import attnc
from attnc.pictures import grid_blocks, write_grid
from attnc.pictures.grid import Grid, Panel, Row

NAME = "character_model"
PATTERN = Path(__file__).with_suffix(".attn")
WINDOWS, FULL = "windows", "full attention"
BYTES, PASSAGE, HELD_OUT = 256, 4096, 8  # symbols, characters at least, one passage of so many
LAYERS, HEADS = 6, 4  # of the text's model
EXACT = 1e-10  # of the largest, in float64, after all layers


@dataclass(frozen=True)
class Setup:
    """The model and its training. ``lengths``: characters of a text in each phase; ``steps``: of each phase; ``size``:
    the smallest window of the first phase; ``step_characters``: of each step, in as many texts as that makes;
    ``evaluated``: characters of what is held out, at most, that an evaluation reads.
    """

    hidden: int = 128
    size: int = 16
    lengths: tuple[int, ...] = (1024, 2048, 4096)
    step_characters: int = 4096
    steps: int = 100
    warm_up: int = 20
    rate: float = 3e-3
    evaluations: int = 2
    evaluated: int = 24_576
    check_length: int = 640
    seed: int = 0

    def attentions(self, phase: int) -> Sequence[attnc.Attention]:
        """The layers' attentions of a phase, counted from 0."""
        return list(attnc.load(PATTERN).characters(phase=phase + 1, size=self.size).layers)


SMALL = Setup(16, 1, (64, 128), 128, steps=2, warm_up=1, evaluations=1, evaluated=256, check_length=40)


@dataclass(frozen=True)
class Corpus:
    """Bytes, int64: what is learned from, and what is held out."""

    training: Tensor
    held_out: Tensor


@dataclass
class Side:
    """One of the two models: seconds and bits of each step, and bits on what is held out by the steps before."""

    name: str
    model: Characters
    seconds: list[float] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """``difference``: from the model under dense masks, of the largest."""

    difference: float
    windows: Side
    full: Side


def read_corpus() -> Corpus:
    """The reference's chapters, which no section repeats; every eighth passage is held out."""
    pieces = [piece for sections in CHAPTERS.values() for piece in passages(sections, PASSAGE)]
    kept, left = [], []
    for number, piece in enumerate(pieces, 1):
        (kept if number % HELD_OUT else left).append(piece)
    return Corpus(*(torch.tensor(list("".join(part).encode())) for part in (kept, left)))


class Characters(nn.Module):
    """A language model over bytes."""

    def __init__(self, setup: Setup, attends: Sequence[Attend]) -> None:
        super().__init__()
        self.embed = nn.Embedding(BYTES, setup.hidden)
        self.blocks = nn.ModuleList(Block(setup.hidden, HEADS, attend) for attend in attends)
        self.norm, self.predict = nn.LayerNorm(setup.hidden), nn.Linear(setup.hidden, BYTES)
        longest = max(*setup.lengths, setup.check_length)
        self.turns = rotary(grid_places(longest), setup.hidden // HEADS, longest=10_000.0)
        nn.init.normal_(self.embed.weight, std=0.1)

    def set_attends(self, attends: Sequence[Attend]) -> None:
        for block, attend in zip(self.blocks, attends, strict=True):
            block.attend = attend

    def forward(self, text: Tensor) -> Tensor:
        """``[batch, n]`` to logits of the byte after each, ``[batch, n, 256]``."""
        x = self.embed(text)
        for block in self.blocks:
            x = block(x, self.turns)
        logits: Tensor = self.predict(self.norm(x))
        return logits


def bits_of(model: Characters, texts: Tensor) -> Tensor:
    """Bits for each character of ``[batch, n + 1]`` but the first, by the mean."""
    loss = cross_entropy(model(texts[:, :-1]).flatten(0, 1), texts[:, 1:].flatten())
    return loss / math.log(2)


def published_masks(setup: Setup, phase: int, n: int) -> list[Tensor]:
    """For each layer bool ``[heads, n, n]``: query i sees the keys i - d·c for c from 0 to below the window."""
    masks = []
    for layer in range(LAYERS):
        window = setup.size * 2 ** (phase + min(layer, 3))
        mask = torch.zeros(HEADS, n, n, dtype=torch.bool)
        for head in range(HEADS):
            dilation = layer - 1 if layer >= 3 and head == 0 else 1
            for back in range(0, window * dilation, dilation):
                for query in range(back, n):
                    mask[head, query, query - back] = True
        masks.append(mask)
    return masks


def under(mask: Tensor) -> Attend:
    """Torch's attention under a dense mask."""
    return lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask)


def check(setup: Setup, corpus: Corpus, masks: Sequence[Tensor] | None = None) -> float:
    """How far the model of the first phase is from the one under dense masks, logits and gradients, in float64.

    ``masks``: others than the paper's: a fault, which must be found. DisagreementError where they differ.
    """
    n = setup.check_length
    model = Characters(setup, setup.attentions(0)).double()
    model.turns = type(model.turns)(model.turns.cosine.double(), model.turns.sine.double())
    runs = []
    for attends in (setup.attentions(0), [under(mask) for mask in masks or published_masks(setup, 0, n)]):
        model.set_attends(attends)
        model.zero_grad(set_to_none=True)
        logits = model(corpus.training[None, :n])
        cross_entropy(logits[0], corpus.training[1 : n + 1]).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        runs.append({"logits": logits.detach(), **gradients})
    mine, theirs = runs
    found = {name: float((mine[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in theirs}
    worst = max(found, key=lambda name: found[name])
    if not found[worst] <= EXACT:
        raise DisagreementError(f"{worst} differs by {found[worst]:.1e} of the largest, allowed is {EXACT:.0e}")
    return found[worst]


def draw_texts(corpus: Corpus, setup: Setup, number: int) -> Tensor:
    """The texts of a step, ``[batch, n + 1]``: each from a random place."""
    n = setup.lengths[number // setup.steps]
    draw = torch.Generator().manual_seed(setup.seed + number)
    starts = torch.randint(len(corpus.training) - n, (setup.step_characters // n,), generator=draw)
    return torch.stack([corpus.training[start : start + n + 1] for start in starts.tolist()])


@torch.no_grad()
def evaluate(side: Side, corpus: Corpus, n: int, characters: int) -> None:
    """Adds the bits on what is held out, read in texts of n characters, and so many in all."""
    number = (min(characters, len(corpus.held_out)) - 1) // n
    texts = [corpus.held_out[n * each : n * each + n + 1] for each in range(number)]
    side.scores[len(side.bits)] = sum(float(bits_of(side.model, text[None])) for text in texts) / number


def rate_at(setup: Setup, number: int) -> float:
    """The rate of a step: up over the warm-up, then halved with each phase."""
    return setup.rate * min(1.0, (number + 1) / setup.warm_up) / 2 ** (number // setup.steps)


def train(setup: Setup, corpus: Corpus, sides: Sequence[Side], advance: Callable[[], None]) -> None:
    """All phases of both models, in turn, with evaluations between."""
    optimisers = [torch.optim.AdamW(side.model.parameters(), setup.rate, weight_decay=0.01) for side in sides]
    often = -(-setup.steps // setup.evaluations)
    for number in range(setup.steps * len(setup.lengths)):
        phase, texts = number // setup.steps, draw_texts(corpus, setup, number)
        if number % setup.steps == 0:
            sides[0].model.set_attends(setup.attentions(phase))
        for side, optimiser in zip(sides, optimisers, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate_at(setup, number)
            start = time.perf_counter()
            bits = bits_of(side.model, texts)
            optimiser.zero_grad()
            bits.backward()
            nn.utils.clip_grad_norm_(side.model.parameters(), 1.0)
            optimiser.step()
            side.seconds.append(time.perf_counter() - start)
            side.bits.append(bits.item())
            advance()
        if (number + 1) % often == 0 or (number + 1) % setup.steps == 0:
            for side in sides:
                evaluate(side, corpus, texts.shape[1] - 1, setup.evaluated)


def masks_grid(setup: Setup, cells: int) -> Grid:
    """The masks of the last phase's layers, the dilated head beside the others."""
    n, rows = setup.lengths[-1], []
    for number, attention in enumerate(setup.attentions(len(setup.lengths) - 1)):
        mask = attention.mask(n, heads=HEADS).bool()
        heads = {"every head": 1} if bool((mask[0] == mask[1]).all()) else {"head 0": 0, "heads 1..3": 1}
        panels = [
            Panel(f"layer {number}, {name}: {mask[head].double().mean():.1%}", picture(mask[head], cells, ""))
            for name, head in heads.items()
        ]
        rows.append(panels)
    lower, upper = ([panel for panels in part for panel in panels] for part in (rows[:3], rows[3:]))
    title = f"which keys (across) each query (down) of {n:,} attends to in the last phase"
    return Grid(title, (Row("lower layers", tuple(lower)), Row("upper layers", tuple(upper))))


def phases(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each phase its length, and for both sides the median seconds of a step and the bits at its end."""
    setup, found = results["setup"], []
    for number, n in enumerate(setup["lengths"]):
        part = slice(number * setup["steps"], (number + 1) * setup["steps"])
        end = str((number + 1) * setup["steps"])
        sides = results["sides"]
        found.append(
            {
                "n": n,
                "seconds": {name: figures.median(side["seconds"][part]) for name, side in sides.items()},
                "bits": {name: side["scores"][end] for name, side in sides.items()},
            }
        )
    return found


def table(results: Mapping[str, Any]) -> str:
    """The section of docs/examples.md."""
    lines = []
    for number, each in enumerate(phases(results), 1):
        seconds = each["seconds"]
        lines.append(
            [f"{number}", f"{each['n']:,}", *(f"{each['bits'][name]:.3f}" for name in (WINDOWS, FULL)),
             *(f"{seconds[name]:.2f} s" for name in (WINDOWS, FULL)), f"{seconds[FULL] / seconds[WINDOWS]:.1f}"]
        )  # fmt: skip
    header = ["phase", "characters", "bits, windows", "bits, full", "step, windows", "step, full", "times windows'"]
    setup = results["setup"]
    last = (
        f"Bits per character on held-out passages, after {setup['steps']} steps of {setup['step_characters']:,} "
        f"characters in each phase. Logits and gradients differ from those under dense masks by at most "
        f"{results['difference']:.0e} of the largest, in float64."
    )
    pictures = [
        ("bits per character on held-out text against steps", "character_model.png"),
        ("the masks of the six layers", "character_model_masks.png"),
    ]
    return figures.section(pictures, figures.markdown(header, lines), last)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Bits against steps."""
    curves = [
        figures.Curve(name, [(int(count), value) for count, value in side["scores"].items()])
        for name, side in results["sides"].items()
    ]
    values = [value for curve in curves for _, value in curve.points]
    setup = results["setup"]
    across = figures.linear_axis("steps", [0, setup["steps"] * len(setup["lengths"])])
    figures.plot("Bits per character, held out", across, figures.linear_axis("bits", values), curves).save(path)


def show(console: Console, results: Mapping[str, Any]) -> None:
    """The phases in the terminal."""
    console.rule(f"bits per character, held out, and the time of a step; {torch.get_num_threads()} threads")
    shown = narrow_table("characters", "bits, windows", "full", "step, windows", "full", "times windows'")
    for each in phases(results):
        bits, seconds = each["bits"], each["seconds"]
        times = (f"{seconds[name]:.3f} s" for name in (WINDOWS, FULL))
        ratio = f"{seconds[FULL] / seconds[WINDOWS]:.1f}"
        shown.add_row(f"{each['n']:,}", *(f"{bits[name]:.3f}" for name in (WINDOWS, FULL)), *times, ratio)
    console.print(shown)


def main(
    setup: Setup | None = None, console: Console | None = None, path: Path | None = None, keep: bool = False
) -> Report:
    """The whole example; draws the masks to ``path``, and with ``keep`` writes the results into the repository.

    DisagreementError where the model is not the one under dense masks.
    """
    setup, console, begin = setup or Setup(), console or Console(), time.perf_counter()
    torch.manual_seed(setup.seed)
    corpus = read_corpus()
    console.print(f"The Python reference: {len(corpus.training):,} characters, and {len(corpus.held_out):,} held out.")
    text = PATTERN.read_text().partition("\ntest ")[0].strip()
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(grid_blocks(masks_grid(setup, 24), console.width), highlight=False, markup=False)
    difference = check(setup, corpus)
    console.print(f"Logits and gradients are {difference:.1e} of the largest from those under dense masks, in float64.")
    windows = Side(WINDOWS, Characters(setup, setup.attentions(0)))
    full = Side(FULL, copy.deepcopy(windows.model))
    full.model.set_attends([dense_causal] * LAYERS)
    total = 2 * setup.steps * len(setup.lengths)
    with progress_display() as progress, step(progress, "training both, in turn", total) as advance:
        train(setup, corpus, (windows, full), advance)
    sides = {
        side.name: {
            "scores": {str(count): round(value, 5) for count, value in side.scores.items()},
            "bits": [round(value, 5) for value in side.bits],
            "seconds": [round(value, 4) for value in side.seconds],
        }
        for side in (windows, full)
    }
    results = {"setup": asdict(setup), "difference": difference, "sides": sides}
    show(console, results)
    if path is not None:
        write_grid(masks_grid(setup, 240), path)
    if keep:
        figures.record(NAME, results, table(results))
        write_grid(masks_grid(setup, 240), figures.PICTURES / f"{NAME}_masks.png")
        draw(results, figures.PICTURES / f"{NAME}.png")
    console.print(f"{time.perf_counter() - begin:.0f} seconds in all")
    return Report(difference, windows, full)


def run(arguments: list[str]) -> int:
    """The command line; the exit code."""
    options = figures.options_of(__doc__, "a tiny model and few steps: seconds, not minutes", "the masks").parse_args(
        arguments
    )
    try:
        main(SMALL if options.small else None, path=options.o, keep=options.record)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
