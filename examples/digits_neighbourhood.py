"""Reads handwritten digits with neighbourhood attention in two dimensions, beside dense attention.

    python examples/digits_neighbourhood.py [--data FILE] [-o picture.png] [--small] [--record]

The images are scikit-learn's digits: 1,797 of 8 by 8 pixels, of which the last fifth is held out. Each is made twice as
large, and nine of them are tiled to one image, whose pixels are the tokens: 48 lines of 48. The model says of each
ninth which digit it shows, from the mean of its tokens. As in the neighbourhood's paper a convolution of 3 by 3 makes
the tokens; positions are rotary on two axes, so that what is further apart is put together by attention alone.

Two models with the same weights see the same images in the same order: one attends to the 7 by 7 pixels around each
pixel (the shipped pattern `natten_grid`: at the edges the window is moved inward, not cut), the other to all. Shown are
the accuracy on digits that were held out, at equal steps, and the time of a step. Checked first is that the
neighbourhood's kernels give what its dense definition gives. Exit code 1 says that they do not.

``--data``: scikit-learn's digits.csv.gz, or a wheel that holds it; unless given, that of an installed scikit-learn, or
of a wheel in build/digits, where `make digits` puts one.
"""

from __future__ import annotations

import copy
import gzip
import importlib.util
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import figures
import numpy as np
import torch
from display import DisagreementError, narrow_table, progress_display, step
from rich.console import Console
from small_transformer import Attend, Block, dense, grid_places, rotary
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, interpolate

import attnc
from attnc.pictures import grid_blocks, write_grid
from attnc.pictures.grid import Grid, Panel, Row
from attnc.pictures.picture import Picture

NAME = "digits_neighbourhood"
NEAR, DENSE = "neighbourhood", "dense"
MEMBER = "sklearn/datasets/data/digits.csv.gz"
WHEELS = Path(__file__).parent.parent / "build" / "digits"
SIDE, BRIGHTEST, CLASSES, HELD_OUT = 8, 16.0, 10, 5  # pixels, the greatest value, kinds, one of so many
EXACT = 1e-12  # of the largest, in float64


@dataclass(frozen=True)
class Setup:
    """The model, the images and the training. ``window``: pixels across; ``tiles``: digits to each side of an image;
    ``images``: of each step.
    """

    hidden: int = 64
    heads: int = 2
    layers: int = 2
    window: int = 7
    tiles: int = 3
    enlarged: int = 2
    images: int = 4
    steps: int = 200
    warm_up: int = 20
    rate: float = 3e-3
    evaluations: int = 5
    seed: int = 0

    @property
    def width(self) -> int:
        """Pixels to each side of an image."""
        return self.tiles * self.enlarged * SIDE

    @property
    def pattern(self) -> attnc.Attention:
        return attnc.load("natten").natten_grid(width=self.width, size=self.window)


SMALL = Setup(hidden=16, heads=2, layers=2, window=3, tiles=2, enlarged=1, images=4, steps=4, warm_up=1, evaluations=2)


@dataclass(frozen=True)
class Digits:
    """Images ``[number, 8, 8]`` from 0 to 1, and what each shows ``[number]``."""

    images: Tensor
    labels: Tensor

    def part(self, held_out: bool) -> Digits:
        """The last fifth, or the rest."""
        cut = len(self.labels) - len(self.labels) // HELD_OUT
        return Digits(*((x[cut:] if held_out else x[:cut]) for x in (self.images, self.labels)))


@dataclass
class Side:
    """One of the two models, and what was measured: seconds and loss of each step, accuracy by the steps before."""

    name: str
    model: Reader
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """``difference``: of the kernels from the dense definition, of the largest."""

    difference: float
    near: Side
    dense: Side


def find_digits() -> Path:
    """An installed scikit-learn's file, without importing it, or a wheel that was downloaded. FileNotFoundError."""
    spec = importlib.util.find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parents[1] / MEMBER
    wheels = sorted(WHEELS.glob("scikit_learn-*.whl"))
    if not wheels:
        raise FileNotFoundError("scikit-learn's digits were not found: run `make digits`, or give --data FILE")
    return wheels[-1]


def read_digits(path: Path) -> Digits:
    """From scikit-learn's file of comma-separated values, or from a wheel: 64 pixels and a label to a line."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            packed = wheel.read(MEMBER)
    else:
        packed = path.read_bytes()
    rows = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != SIDE * SIDE + 1:
        raise ValueError(f"{path.name}: has lines of another kind than 64 pixels and a label")
    images = torch.from_numpy(rows[:, :-1]).view(-1, SIDE, SIDE) / BRIGHTEST
    return Digits(images, torch.from_numpy(rows[:, -1]).long())


def tiled(digits: Digits, setup: Setup) -> tuple[Tensor, Tensor]:
    """Images of all digits, as many as are full: tokens ``[images, n, 1]``, labels ``[images, tiles * tiles]``."""
    each = setup.tiles**2
    number = len(digits.labels) // each
    large = interpolate(digits.images[: number * each, None], scale_factor=setup.enlarged, mode="bilinear")
    side = setup.enlarged * SIDE
    rows = large.view(number, setup.tiles, setup.tiles, side, side).permute(0, 1, 3, 2, 4)
    return rows.reshape(number, setup.width**2, 1), digits.labels[: number * each].view(number, each)


class Reader(nn.Module):
    """A transformer over pixels that says of each tile which digit it shows."""

    def __init__(self, setup: Setup, attend: Attend) -> None:
        super().__init__()
        self.tiles, self.side = setup.tiles, setup.enlarged * SIDE
        self.embed = nn.Conv2d(1, setup.hidden, 3, padding=1)
        self.blocks = nn.ModuleList(Block(setup.hidden, setup.heads, attend) for _ in range(setup.layers))
        self.norm, self.classify = nn.LayerNorm(setup.hidden), nn.Linear(setup.hidden, CLASSES)
        self.turns = rotary(grid_places(setup.width, setup.width), setup.hidden // setup.heads, longest=10.0)

    def set_attend(self, attend: Attend) -> None:
        for block in self.blocks:
            block.attend = attend

    def forward(self, pixels: Tensor) -> Tensor:
        """``[images, n, 1]`` to logits ``[images, tiles * tiles, 10]``."""
        image = pixels.transpose(1, 2).unflatten(-1, (self.tiles * self.side, -1))
        x = gelu(self.embed(image)).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, self.turns)
        cells = self.norm(x).unflatten(1, (self.tiles, self.side, self.tiles, self.side)).mean((2, 4))
        logits: Tensor = self.classify(cells.flatten(1, 2))
        return logits


def check(setup: Setup, attend: attnc.Attention | None = None) -> float:
    """How far kernels and dense definition are apart on one image of noise, forward and backward, in float64.

    ``attend``: another attention in the place of the setup's: a fault, which must be found.
    """
    shape = (1, setup.heads, setup.width**2, setup.hidden // setup.heads)
    gradient, *inputs = (torch.randn(shape, dtype=torch.float64) for _ in range(4))
    results = []
    for function in (attend or setup.pattern, setup.pattern.reference):
        given = [x.clone().requires_grad_() for x in inputs]
        out = function(*given)
        results.append([out.detach(), *torch.autograd.grad(out, given, gradient)])
    difference = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*results, strict=True))
    if not difference <= EXACT:
        raise DisagreementError(f"kernels and dense definition differ by {difference:.1e} of the largest")
    return difference


def batches(digits: Digits, setup: Setup) -> Iterator[tuple[Tensor, Tensor]]:
    """Images for each step, of digits that are drawn without repetition until all were."""
    draw = torch.Generator().manual_seed(setup.seed)
    needed, order = setup.images * setup.tiles**2, torch.empty(0, dtype=torch.int64)
    for _ in range(setup.steps):
        while len(order) < needed:
            order = torch.cat([order, torch.randperm(len(digits.labels), generator=draw)])
        chosen, order = order[:needed], order[needed:]
        yield tiled(Digits(digits.images[chosen], digits.labels[chosen]), setup)


@torch.no_grad()
def evaluate(side: Side, pixels: Tensor, labels: Tensor) -> None:
    """Adds the share of held-out digits that are told rightly."""
    right = [(side.model(one[None])[0].argmax(-1) == label) for one, label in zip(pixels, labels, strict=True)]
    side.accuracies[len(side.losses)] = float(torch.stack(right).float().mean())


def rate_at(setup: Setup, number: int) -> float:
    """The share of the rate at a step: up over the warm-up, then down along a cosine."""
    if number < setup.warm_up:
        return (number + 1) / setup.warm_up
    return float(0.5 + 0.5 * np.cos(np.pi * (number - setup.warm_up) / max(setup.steps - setup.warm_up, 1)))


def train(setup: Setup, digits: Digits, sides: Sequence[Side], advance: Callable[[], None]) -> None:
    """All steps of both, in turn, with evaluations between."""
    held_out = tiled(digits.part(held_out=True), setup)
    optimisers = [torch.optim.AdamW(side.model.parameters(), setup.rate, weight_decay=0.01) for side in sides]
    often = -(-setup.steps // setup.evaluations)
    for side in sides:
        evaluate(side, *held_out)
    for number, (pixels, labels) in enumerate(batches(digits.part(held_out=False), setup)):
        for side, optimiser in zip(sides, optimisers, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = setup.rate * rate_at(setup, number)
            start = time.perf_counter()
            loss = cross_entropy(side.model(pixels).flatten(0, 1), labels.flatten())
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(side.model.parameters(), 1.0)
            optimiser.step()
            side.seconds.append(time.perf_counter() - start)
            side.losses.append(loss.item())
            advance()
        if (number + 1) % often == 0 or number + 1 == setup.steps:
            for side in sides:
                evaluate(side, *held_out)


def picture_of(setup: Setup, digits: Digits) -> Grid:
    """An image, and in panels beside it the keys of pixels in its midst, at its edge and in its corner."""
    pixels, _ = tiled(digits, setup)
    last, middle = setup.width - 1, setup.width // 2 + 3
    panels = [Panel("the image", Picture("", setup.width, setup.width, pixels[0].view(setup.width, -1).numpy()))]
    for name, line, column in (("midst", middle, middle - 5), ("edge", 9, last), ("corner", last, 0)):
        kept = setup.pattern.mask(setup.width**2, 1, q_start=line * setup.width + column)[0, 0]
        density = 0.4 * pixels[0, :, 0] * ~kept + kept
        density[line * setup.width + column] = 0.0
        panels.append(
            Panel(f"keys: {name}", Picture("", setup.width, setup.width, density.view(setup.width, -1).numpy()))
        )
    title = f"{setup.width} x {setup.width} tokens; the query's own is left white"
    return Grid(title, (Row(f"what a pixel sees: {setup.window} x {setup.window}", tuple(panels)),))


def table(results: Mapping[str, Any]) -> str:
    """The section of docs/examples.md."""
    sides, setup = results["sides"], results["setup"]
    counts = [int(count) for count in sides[NEAR]["accuracies"]]
    lines = [
        [f"{count:,}", *(f"{sides[name]['accuracies'][str(count)]:.1%}" for name in (NEAR, DENSE))] for count in counts
    ]
    seconds = {name: figures.median(sides[name]["seconds"]) for name in (NEAR, DENSE)}
    last = (
        f"A step of {setup['images']} images takes {seconds[NEAR]:.2f} s with the neighbourhood and "
        f"{seconds[DENSE]:.2f} s with torch's dense attention, {seconds[DENSE] / seconds[NEAR]:.1f} times as long. The "
        f"kernels differ from the dense definition by at most {results['difference']:.0e} of the largest, forward and "
        f"backward, in float64."
    )
    header = ["steps", "neighbourhood, held-out accuracy", "dense, held-out accuracy"]
    pictures = [
        ("accuracy on held-out digits against steps", "digits_neighbourhood.png"),
        ("an image, and the keys of three of its pixels", "digits_neighbourhood_mask.png"),
    ]
    return figures.section(pictures, figures.markdown(header, lines), last)


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Accuracy against steps."""
    curves = [
        figures.Curve(name, [(int(count), 100 * value) for count, value in side["accuracies"].items()])
        for name, side in results["sides"].items()
    ]
    across = figures.linear_axis("steps", [0, results["setup"]["steps"]])
    figures.plot("Digits told rightly, held out", across, figures.linear_axis("%", [0, 100]), curves).save(path)


def show(console: Console, results: Mapping[str, Any]) -> None:
    """Accuracies and times in the terminal."""
    console.rule("accuracy on held-out digits, at equal steps")
    shown = narrow_table("steps", NEAR, DENSE)
    sides = results["sides"]
    for count in sides[NEAR]["accuracies"]:
        shown.add_row(count, *(f"{sides[name]['accuracies'][count]:.1%}" for name in (NEAR, DENSE)))
    console.print(shown)
    for name in (NEAR, DENSE):
        seconds = figures.median(sides[name]["seconds"])
        console.print(f"{name}: a step takes {seconds:.3f} s, by the median; {torch.get_num_threads()} threads")


def main(
    digits: Digits,
    setup: Setup | None = None,
    console: Console | None = None,
    path: Path | None = None,
    keep: bool = False,
) -> Report:
    """The whole example; draws the picture to ``path``, and with ``keep`` writes the results into the repository.

    DisagreementError where the kernels are not the dense definition.
    """
    setup, console, begin = setup or Setup(), console or Console(), time.perf_counter()
    torch.manual_seed(setup.seed)
    difference = check(setup)
    console.print(f"Kernels and dense definition differ by at most {difference:.1e} of the largest, in float64.")
    picture = picture_of(setup, digits.part(held_out=True))
    console.print(grid_blocks(picture, console.width), highlight=False, markup=False)
    model = Reader(setup, setup.pattern)
    sides = (Side(NEAR, model), Side(DENSE, copy.deepcopy(model)))
    sides[1].model.set_attend(dense)
    with progress_display() as progress, step(progress, "training both, in turn", 2 * setup.steps) as advance:
        train(setup, digits, sides, advance)
    measured = {
        side.name: {
            "accuracies": {str(count): value for count, value in side.accuracies.items()},
            "losses": [round(loss, 5) for loss in side.losses],
            "seconds": [round(value, 4) for value in side.seconds],
        }
        for side in sides
    }
    results = {"setup": asdict(setup), "difference": difference, "sides": measured}
    show(console, results)
    if path is not None:
        write_grid(picture, path)
    if keep:
        figures.record(NAME, results, table(results))
        write_grid(picture, figures.PICTURES / f"{NAME}_mask.png")
        draw(results, figures.PICTURES / f"{NAME}.png")
    console.print(f"{time.perf_counter() - begin:.0f} seconds in all")
    return Report(difference, *sides)


def run(arguments: list[str]) -> int:
    """The command line; the exit code."""
    parser = figures.options_of(__doc__, "a tiny model and few steps: seconds, not minutes", "the picture")
    parser.add_argument("--data", type=Path, metavar="FILE", help="digits.csv.gz, or a wheel of scikit-learn")
    options = parser.parse_args(arguments)
    try:
        digits = read_digits(options.data or find_digits())
        main(digits, SMALL if options.small else None, path=options.o, keep=options.record)
    except (DisagreementError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
