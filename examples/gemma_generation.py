"""A decoder like Gemma 3 goes on with a real text, with a cache no larger than its pattern demands.

    python examples/gemma_generation.py [-o cache.png]

Five layers see a window, the sixth sees everything, as Gemma 3 has it; the weights are random: nothing is downloaded.
The prompt is a reference text that ships with Python, read by bytes. The model generates twice: as its configuration
says, and with sinks and a window put into the layer that sees everything (StreamingLLM, Xiao et al., 2023), after which
no layer grows with the text. Each time the same tokens are generated with a cache that keeps everything; shown are the
positions and the memory that each layer's cache holds beside what its pattern demands and what the library's caches
hold, and a picture of what was kept when. Exit code 1 says that something disagreed, or that a cache kept a position
too many.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor
from transformers import Cache, DynamicCache, Gemma3ForCausalLM, Gemma3TextConfig

import attnc
from attnc.integrations.transformers import PatternCache, use
from attnc.pictures.picture import Picture, bins, blocks, write

CLOSE = 2e-5  # of the largest logit: sums in another order


@dataclass(frozen=True)
class Setup:
    """The sizes of the model, of the prompt and of what is generated, in tokens; a token is a byte."""

    hidden: int = 256
    heads: int = 4
    kv_heads: int = 1
    layers: int = 6
    window: int = 128
    sinks: int = 4
    prompt: int = 1500
    tokens: int = 200
    seed: int = 0


@dataclass
class Text:
    """What was generated: ``tokens`` ``[tokens]``, ``logits`` ``[tokens, vocabulary]``, ``seconds`` of each step but
    the first, and after each step the positions that each layer kept.
    """

    tokens: list[int] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    kept: list[list[list[int]]] = field(default_factory=list)


@dataclass(frozen=True)
class Layer:
    """A layer's cache at the end: what its pattern is, ``kept`` and ``demanded`` positions, bytes of it and of others.

    ``library``: in bytes, what transformers' own cache for this configuration holds; ``everything``: a cache that drops
    nothing.
    """

    pattern: str
    kept: int
    demanded: int
    bytes: int
    library: int
    everything: int


@dataclass(frozen=True)
class Report:
    """What one generation found. ``difference``: of the logits, in parts of the largest."""

    name: str
    layers: Sequence[Layer]
    difference: float
    seconds: Mapping[str, float]
    kept: Sequence[Sequence[Sequence[int]]]


class DisagreementError(Exception):
    """The caches do not generate the same, or one kept more than its pattern demands."""


def read_prompt(setup: Setup) -> Tensor:
    """What Python's reference says of objects and types, as bytes, int64 ``[1, prompt]``."""
    text = (topics["objects"] + topics["types"]).encode()[: setup.prompt]
    if len(text) < setup.prompt:
        raise ValueError(f"prompt is {setup.prompt}, expected at most {len(text)}: the text has so many bytes")
    return torch.tensor([list(text)])


def build_model(setup: Setup) -> Gemma3ForCausalLM:
    """Random weights; of every six layers five have a window."""
    config = Gemma3TextConfig(
        vocab_size=256,
        hidden_size=setup.hidden,
        intermediate_size=4 * setup.hidden,
        num_hidden_layers=setup.layers,
        num_attention_heads=setup.heads,
        num_key_value_heads=setup.kv_heads,
        head_dim=setup.hidden // setup.heads,
        sliding_window=setup.window,
        max_position_embeddings=setup.prompt + setup.tokens,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = Gemma3ForCausalLM._from_config(config, attn_implementation="attnc").eval()
    assert isinstance(model, Gemma3ForCausalLM)
    return model


def patterns_of(model: Gemma3ForCausalLM, sinks: attnc.Attention | None) -> list[attnc.Attention]:
    """The pattern of each layer: the configuration's, or sinks in the place of full attention."""
    window = attnc.load("window").causal_window(size=model.config.sliding_window)
    full = attnc.load("causal").causal() if sinks is None else sinks
    return [window if kind == "sliding_attention" else full for kind in model.config.layer_types]


def generate(model: Gemma3ForCausalLM, prompt: Tensor, cache: Cache, tokens: int, advance: Callable[[], None]) -> Text:
    """The most probable tokens, one after the other."""
    text, given = Text(), prompt
    for step in range(tokens):
        begin = time.perf_counter()
        with torch.inference_mode():
            logits = model(given, past_key_values=cache, use_cache=True).logits[0, -1]
        if step:
            text.seconds.append(time.perf_counter() - begin)
        given = logits.argmax()[None, None]
        text.tokens.append(int(given))
        text.logits.append(logits)
        if isinstance(cache, PatternCache):
            text.kept.append([layer.positions.tolist() for layer in cache.layers])
        advance()
    return text


def bytes_of(cache: Cache) -> list[int]:
    """The memory of each layer's keys and values, with the room that they have to grow."""
    return [layer.keys.untyped_storage().nbytes() + layer.values.untyped_storage().nbytes() for layer in cache.layers]


def compare(
    name: str, model: Gemma3ForCausalLM, patterns: Sequence[attnc.Attention], prompt: Tensor, setup: Setup
) -> Report:
    """Generates with attnc's cache, with one that keeps everything, and with the library's for this configuration."""
    caches: dict[str, Cache] = {"attnc": PatternCache(model.config), "everything": DynamicCache()}
    if name == "as configured":  # the library has no cache for sinks
        caches["library"] = DynamicCache(config=model.config)
    texts = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for which, cache in caches.items():
            task = progress.add_task(f"{name}: {which}", total=setup.tokens)
            texts[which] = generate(model, prompt, cache, setup.tokens, lambda task=task: progress.advance(task))  # type: ignore[misc]
    mine, whole = texts["attnc"], texts["everything"]
    ours, theirs = (torch.stack(text.logits) for text in (mine, whole))
    row = setup.prompt + setup.tokens - 1  # the next to be computed
    demanded = [each.cache(row + setup.window + 1).positions(row) for each in patterns]
    held = [bytes_of(cache) for cache in caches.values()]
    library = held[-1] if "library" in caches else held[1]
    layers = [
        Layer(str(pattern.facts.last_reader), len(kept), int((needed < row).sum()), *sizes)
        for pattern, kept, needed, *sizes in zip(
            patterns, mine.kept[-1], demanded, held[0], library, held[1], strict=True
        )
    ]
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    seconds = {which: statistics.median(text.seconds) for which, text in texts.items()}
    report = Report(name, layers, difference, seconds, mine.kept)
    check(report, mine.tokens == whole.tokens)
    return report


def check(report: Report, same_tokens: bool) -> None:
    """Raises DisagreementError for other tokens or logits, and for a cache that keeps too many or too few positions."""
    if not same_tokens or report.difference > CLOSE:
        raise DisagreementError(
            f"{report.name}: the tokens are {'' if same_tokens else 'not '}the same, the logits differ by "
            f"{report.difference:.1e} of the largest, where at most {CLOSE:.0e} is allowed"
        )
    for number, layer in enumerate(report.layers):
        if layer.kept != layer.demanded:
            raise DisagreementError(
                f"{report.name}: layer {number} keeps {layer.kept} positions, its pattern demands {layer.demanded}"
            )


def picture_of(report: Report, layer: int, setup: Setup, cells: int = 72) -> Picture:
    """What a layer's cache held (across, the text's positions) while each token was generated (down)."""
    length = setup.prompt + setup.tokens
    held = np.zeros((len(report.kept), length), np.float32)
    for step, layers in enumerate(report.kept):
        held[step, layers[layer]] = 1.0
    rows, columns = bins(len(held), cells // 3), bins(length, cells)
    sums = np.add.reduceat(np.add.reduceat(held, rows[:-1], 0), columns[:-1], 1)
    density = sums / (np.diff(rows)[:, None] * np.diff(columns))
    return Picture(f"layer {layer}'s cache", len(held), length, density)


def show(console: Console, report: Report, setup: Setup) -> None:
    """The caches layer by layer, and times."""
    console.rule(f"{report.name}: {setup.prompt:,} tokens of a text, and {setup.tokens:,} generated")
    table = Table(
        "layer", "key k is last read by row", "kept", "demanded", "attnc", "library", "all", box=box.SIMPLE_HEAD
    )
    for number, layer in enumerate(report.layers):
        sizes = (f"{size / 2**10:,.0f} KiB" for size in (layer.bytes, layer.library, layer.everything))
        table.add_row(str(number), layer.pattern, f"{layer.kept:,}", f"{layer.demanded:,}", *sizes)
    console.print(table)
    totals = [sum(getattr(layer, name) for layer in report.layers) for name in ("bytes", "library", "everything")]
    console.print(
        f"In all {totals[0] / 2**20:.2f} MiB, with room to grow; {totals[2] / 2**20:.2f} where everything is kept. The "
        f"same tokens; logits differ by {report.difference:.1e} of the largest."
    )
    times = ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in report.seconds.items())
    console.print(f"A token, by the median: {times}.", highlight=False)


def main(setup: Setup | None = None, console: Console | None = None, path: Path | None = None) -> list[Report]:
    """The whole example; draws the picture to ``path`` too. Raises DisagreementError where something is wrong."""
    setup, console = setup or Setup(), console or Console()
    torch.manual_seed(setup.seed)
    prompt, model = read_prompt(setup), build_model(setup)
    reports = [compare("as configured", model, patterns_of(model, None), prompt, setup)]
    show(console, reports[0], setup)
    size = setup.window - setup.sinks
    streaming = patterns_of(model, attnc.load("sink_window").sink_window(size=size, sinks=setup.sinks))
    undo = use(model, streaming)
    reports.append(compare("with sinks", model, streaming, prompt, setup))
    undo()
    show(console, reports[1], setup)
    full = model.config.layer_types.index("full_attention")
    picture = picture_of(reports[1], full, setup)
    console.print(f"\nWhat layer {full} keeps (across) while each token is generated (down), with sinks:\n")
    console.print(blocks(picture), highlight=False, markup=False)
    if path is not None:
        write(picture, path)
    return reports


def run(arguments: list[str]) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", type=Path, metavar="FILE", help="draw the picture as .png, .svg or .html")
    options = parser.parse_args(arguments)
    try:
        main(path=options.o)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
