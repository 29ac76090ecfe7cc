"""A transformer's block over the tokens of a video: sliding tiles in three dimensions beside dense attention.

    python examples/video_block.py [-o picture.png] [--small] [--record]

The pattern is examples/video_block.attn: sliding tile attention, cubes of 4×4×4 tokens that see 3×3×3 cubes. It is
written for tokens frame by frame and line by line, as a video has them; the compiler finds that they are best computed
cube by cube. Positions are rotary, on three axes; the weights are random.

Three blocks with the same weights take turns, forward and backward: with attnc's kernels, with torch's dense attention,
and with torch's attention under a dense mask of the same pairs. On a small video, in float64, outputs and gradients of
the first are compared with those of the pattern's dense definition and with those under the mask of the paper's own
formula; on the large one with those of the third. Exit code 1 says that something disagreed.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import figures
import torch
from display import DisagreementError, narrow_table, picture, progress_display, step
from rich.console import Console
from small_transformer import Attend, Block, Turns, dense, grid_places, rotary
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import attnc
from attnc.pictures import grid_blocks, write_grid
from attnc.pictures.grid import Grid, Panel, Row
from attnc.pictures.picture import Picture

NAME = "video_block"
PATTERN = Path(__file__).with_suffix(".attn")
TILES, DENSE, MASKED = "attnc, sliding tiles", "torch, dense", "torch, dense with a mask"
EXACT, CLOSE = 1e-12, 2e-5  # of the largest: sums in another order, in float64 and in float32


@dataclass(frozen=True)
class Video:
    """The tokens of a video, and the cubes that see each other: ``tile`` to each side, ``span`` of them across."""

    frames: int = 16
    height: int = 32
    width: int = 32
    tile: int = 4
    span: int = 3

    @property
    def n(self) -> int:
        return self.frames * self.height * self.width

    @property
    def pattern(self) -> attnc.Attention:
        shape = {"height": self.height, "width": self.width}
        return attnc.load(PATTERN).video_tiles(**shape, tile=self.tile, span=self.span)


@dataclass(frozen=True)
class Setup:
    """The videos that are timed and compared, the block, and how often each pass is timed."""

    video: Video = Video()
    compared: Video = Video(8, 8, 12, tile=2)
    hidden: int = 256
    heads: int = 4
    rounds: int = 3
    seed: int = 0


SMALL = Setup(Video(8, 8, 16, tile=2), Video(8, 8, 8, tile=2), hidden=32, heads=2, rounds=1)


@dataclass(frozen=True)
class Report:
    """How far the blocks differ, of the largest, by what they are held against; seconds of every round."""

    differences: Mapping[str, float]
    seconds: Mapping[str, Mapping[str, list[float]]]
    share: float


def published_mask(video: Video) -> Tensor:
    """Sliding tile attention as its authors' code has it, bool ``[n, n]``, for tokens line by line.

    Their tokens are sorted by tiles: the number of a tile is its position // the tile's tokens, and its coordinates are
    that number's digits. The window's middle is the query's tile, clamped to where a whole window fits.
    """
    shape, side = (video.frames, video.height, video.width), video.tile
    tiles = [size // side for size in shape]
    place = torch.arange(video.n) // side**3
    digits = (place // (tiles[1] * tiles[2]), place // tiles[2] % tiles[1], place % tiles[2])
    mask = torch.ones(video.n, video.n, dtype=torch.bool)
    for digit, count in zip(digits, tiles, strict=True):
        middle = digit.clamp(video.span // 2, count - 1 - video.span // 2)
        mask &= (middle[:, None] - digit[None, :]).abs() <= video.span // 2
    cubes = torch.arange(video.n).view(tiles[0], side, tiles[1], side, tiles[2], side)
    order = cubes.permute(0, 2, 4, 1, 3, 5).flatten()  # the token at each of their positions
    mine = torch.empty_like(mask)
    mine[order[:, None], order[None, :]] = mask
    return mine


def under(mask: Tensor) -> Attend:
    """Torch's attention under a dense mask."""
    return lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask)


def turns_of(video: Video, head_dim: int, dtype: torch.dtype = torch.float32) -> Turns:
    turns = rotary(grid_places(video.frames, video.height, video.width), head_dim, longest=100.0)
    return Turns(turns.cosine.to(dtype), turns.sine.to(dtype))


def passes(block: Block, x: Tensor, turns: Turns, gradient: Tensor) -> tuple[dict[str, Tensor], list[float]]:
    """The output and the gradients of everything, by name, and the seconds of forward and backward."""
    block.zero_grad(set_to_none=True)
    given = x.detach().requires_grad_()
    start = time.perf_counter()
    out = block(given, turns)
    middle = time.perf_counter()
    out.backward(gradient)
    seconds = [middle - start, time.perf_counter() - middle]
    found = {"output": out.detach(), "gradient of the input": given.grad}
    found |= {f"gradient of {name}": parameter.grad for name, parameter in block.named_parameters()}
    return {name: value for name, value in found.items() if value is not None}, seconds


def apart(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], most: float, against: str) -> float:
    """The largest difference, of the largest of theirs; DisagreementError where it is more than allowed."""
    if mine.keys() != theirs.keys():
        raise DisagreementError(f"against {against}: not the same tensors have gradients")
    found = {name: float((mine[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in theirs}
    worst = max(found, key=lambda name: found[name])
    if not found[worst] <= most:
        raise DisagreementError(f"against {against}: the {worst} differs by {found[worst]:.1e}, allowed is {most:.0e}")
    return found[worst]


def compare(setup: Setup, attend: attnc.Attention) -> dict[str, float]:
    """The block on the small video in float64, held against the dense definition and the published mask."""
    video, turns = setup.compared, turns_of(setup.compared, setup.hidden // setup.heads, torch.float64)
    mask = published_mask(video)
    wrong = int((attend.mask(video.n)[0].bool() != mask).sum())
    if wrong:
        raise DisagreementError(f"the mask is not the published one: {wrong:,} pairs differ")
    block = Block(setup.hidden, setup.heads, attend).double()
    x, gradient = (torch.randn(1, video.n, setup.hidden, dtype=torch.float64) for _ in range(2))
    mine, _ = passes(block, x, turns, gradient)
    found = {}
    for against, other in (("the dense definition", attend.reference), ("the published mask", under(mask))):
        block.attend = other
        found[against] = apart(mine, passes(block, x, turns, gradient)[0], EXACT, against)
    return found


def measure(
    setup: Setup, attends: Mapping[str, Attend], advance: Callable[[], None]
) -> tuple[dict[str, dict[str, list[float]]], float]:
    """Seconds of the blocks, in turn; and how far the first is from the one under the mask."""
    video, turns = setup.video, turns_of(setup.video, setup.hidden // setup.heads)
    block = Block(setup.hidden, setup.heads, dense)
    blocks = {name: copy.deepcopy(block) for name in attends}
    x, gradient = (torch.randn(1, video.n, setup.hidden) for _ in range(2))
    seconds: dict[str, dict[str, list[float]]] = {name: {"forward": [], "backward": []} for name in attends}
    results = {}
    for turn in range(setup.rounds + 1):  # the first does not count: kernels are built in it
        for name, each in blocks.items():
            each.attend = attends[name]
            found, times = passes(each, x, turns, gradient)
            for direction, value in zip(("forward", "backward"), times, strict=True):
                seconds[name][direction].append(value)
            if turn == 0 and name != DENSE:
                results[name] = found
            advance()
    difference = apart(results[TILES], results[MASKED], CLOSE, MASKED)
    return seconds, difference


def frames_of(video: Video, places: tuple[tuple[int, int, int], ...]) -> Grid:
    """The keys of some queries, a panel for each frame; the query's own token is left white."""
    rows = []
    for place in places:
        frame, line, column = place
        query = (frame * video.height + line) * video.width + column
        kept = video.pattern.mask(video.n, 1, q_start=query)[0, 0].view(video.frames, video.height, video.width)
        density = kept.float()
        density[place] = 0.0
        panels = [
            Panel(f"frame {number}", Picture("", video.height, video.width, one.numpy()))
            for number, one in enumerate(density)
        ]
        label = f"keys of the token in frame {frame}, line {line}, column {column}: {int(kept.sum()):,} of {video.n:,}"
        rows.append(Row(label, tuple(panels)))
    title = f"a video of {video.frames} x {video.height} x {video.width} tokens, cubes of {video.tile} to each side"
    return Grid(title, tuple(rows))


def picture_of(video: Video) -> Grid:
    """What two queries see, frame by frame: one in the midst of the video and one in its corner."""
    return frames_of(video, ((video.frames // 2 - 1, video.height // 3, video.width * 2 // 3), (0, 0, 0)))


def mask_grid(video: Video) -> Grid:
    """The mask of a video line by line, and of the same tokens cube by cube, as the compiler computes them."""
    mask = video.pattern.mask(video.n)[0].bool()
    side = video.tile
    cubes = torch.arange(video.n).view(
        video.frames // side, side, video.height // side, side, video.width // side, side
    )
    order = cubes.permute(0, 2, 4, 1, 3, 5).flatten()
    panels = (
        Panel("frame by frame, line by line", picture(mask, 256, "")),
        Panel("cube by cube", picture(mask[order][:, order], 256, "")),
    )
    size = f"{video.frames} x {video.height} x {video.width}"
    return Grid("queries down, keys across", (Row(f"the mask of a video of {size} tokens", panels),), largest=512)


def table(results: Mapping[str, Any]) -> str:
    """The section of docs/examples.md."""
    seconds, lines = results["seconds"], []
    medians = {
        name: {direction: figures.median(times) for direction, times in each.items()} for name, each in seconds.items()
    }
    for name, each in medians.items():
        ratios = (f"{each[direction] / medians[TILES][direction]:.1f}" for direction in each)
        lines.append([name, *(f"{each[direction]:.2f} s" for direction in each), *ratios])
    header = ["attention", "block, forward", "backward", "times attnc's", "times attnc's"]
    video, differences = results["setup"]["video"], results["differences"]
    small = max(value for name, value in differences.items() if name != MASKED)
    last = (
        f"{video['frames']} × {video['height']} × {video['width']} tokens, of which each sees {results['share']:.1%}. "
        f"Outputs and gradients differ from the dense definition's and the published mask's by at most {small:.0e} of "
        f"the largest, in float64 on a small video; at this size, in float32, by {differences[MASKED]:.0e} from those "
        f"of torch under a dense mask."
    )
    pictures = [
        ("the keys of two tokens, frame by frame", "video_block.png"),
        ("the mask line by line, and cube by cube", "video_block_mask.png"),
    ]
    return figures.section(pictures, figures.markdown(header, lines), last)


def show(console: Console, results: Mapping[str, Any]) -> None:
    """Differences and times in the terminal."""
    for against, value in results["differences"].items():
        console.print(f"Held against {against}: outputs and gradients differ by at most {value:.1e} of the largest.")
    video = Video(**results["setup"]["video"])
    console.rule(f"the block over {video.n:,} tokens, {torch.get_num_threads()} threads")
    shown = narrow_table("", "forward", "backward", "both, times attnc's")
    totals = {}
    for name, each in results["seconds"].items():
        forward, backward = (figures.median(each[direction]) for direction in ("forward", "backward"))
        totals[name] = forward + backward
        shown.add_row(name, f"{forward:.3f} s", f"{backward:.3f} s", f"{totals[name] / totals[TILES]:.1f}")
    console.print(shown)


def main(
    setup: Setup | None = None,
    console: Console | None = None,
    path: Path | None = None,
    keep: bool = False,
    wrong_span: int = 0,
) -> Report:
    """The whole example; draws the picture to ``path``, and with ``keep`` writes the results into the repository.

    ``wrong_span``: cubes that the compiled pattern sees too many: a fault, which must be found. DisagreementError where
    something differs.
    """
    setup, console, begin = setup or Setup(), console or Console(), time.perf_counter()
    torch.manual_seed(setup.seed)
    video = setup.video
    text = PATTERN.read_text().partition("\n# One axis")[0].strip()
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    plan = video.pattern.plan(video.n)
    share = plan.pairs / video.n**2
    order = ", ".join(plan.order)
    console.print(
        f"\n{video.n:,} tokens, {share:.1%} of the pairs; computed in the order {order}: {plan.full:,} full tiles and "
        f"{plan.partial:,} partial ones, {plan.area:,.0f} keys for each query."
    )
    console.print(grid_blocks(picture_of(setup.compared), console.width), highlight=False, markup=False)
    compared = replace(setup.compared, span=setup.compared.span + 2 * wrong_span)
    differences = compare(setup, compared.pattern)
    mask = video.pattern.mask(video.n)[0].bool()
    attends: dict[str, Attend] = {TILES: video.pattern, DENSE: dense, MASKED: under(mask)}
    with progress_display() as progress, step(progress, "blocks in turn", 3 * (setup.rounds + 1)) as advance:
        seconds, differences[MASKED] = measure(setup, attends, advance)
    results = {"setup": asdict(setup), "share": share, "order": order, "differences": differences, "seconds": seconds}
    show(console, results)
    if path is not None:
        write_grid(picture_of(video), path)
    if keep:
        figures.record(NAME, results, table(results))
        write_grid(picture_of(video), figures.PICTURES / f"{NAME}.png")
        write_grid(mask_grid(Video(8, 16, 16, tile=2)), figures.PICTURES / f"{NAME}_mask.png")
    console.print(f"{time.perf_counter() - begin:.0f} seconds in all")
    return Report(differences, seconds, share)


def run(arguments: list[str]) -> int:
    """The command line; the exit code."""
    options = figures.options_of(__doc__, "a tiny video: seconds, not minutes", "the picture").parse_args(arguments)
    try:
        main(SMALL if options.small else None, path=options.o, keep=options.record)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
