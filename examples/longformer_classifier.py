"""Fine-tunes a Longformer classifier on the Python reference with attnc's kernels, beside full attention.

    python examples/longformer_classifier.py [-o masks.png] [--small]

The text ships with Python, a RoBERTa-style tokenizer is trained on the spot, and the model has random weights: nothing
is downloaded. To be told is which of four chapters a document of up to 4,096 tokens is of. Each layer has a window of
its own, and the token `<s>` is global. A step sees 16,384 tokens, one document after another. The model with full
attention begins with the same weights and sees the same documents in the same order; both take their steps in turn,
with AdamW, at 3e-5 after a warm-up, and 1e-3 for the new head. Shown are loss, accuracy, time and memory of both.

Checked on the first step's documents is that the swapped model computes what the library's own Longformer does, logits
and all gradients, and that with windows over the whole text it is the model with full attention. Exit code 1 says that
something disagreed.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from classifier_training import Schedule, Side, accumulate, evaluate, logits_of, make_batch, train_step
from display import DisagreementError, narrow_table, picture, progress_display, step
from longformer_agreement import Difference, compare, compare_outputs
from longformer_document import GLOBAL, LOCAL, PATTERNS, check, show_differences, use_attnc
from python_reference import CHAPTERS, END, PAD, START, Corpus, Document, draw_steps, read_corpus
from rich.console import Console
from transformers import (
    LongformerConfig,
    LongformerForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import attnc
from attnc.integrations.transformers import use
from attnc.pictures import TERMINAL_PANEL, grid_blocks, panel_side, write_grid
from attnc.pictures.grid import Grid, Panel, Row

ENDINGS = (".png", ".svg", ".html")


@dataclass(frozen=True)
class Setup:
    """The sizes of the model, the text and the training. ``windows``: of each layer, both sides together.

    ``library_steps``: how many steps the library's own Longformer takes beside the two, to be timed.
    """

    hidden: int = 128
    heads: int = 2
    windows: tuple[int, ...] = (64, 128, 256, 512)
    vocabulary: int = 1024
    passage: int = 1500
    length: int = 4096
    step_tokens: int = 16_384
    steps: int = 60
    warm_up: int = 6
    rate: float = 3e-5
    head_rate: float = 1e-3
    evaluations: int = 3
    library_steps: int = 3
    seed: int = 0


SMALL = Setup(
    hidden=32, windows=(16, 32), vocabulary=300, passage=4000, length=256, step_tokens=1024, steps=3, warm_up=1,
    evaluations=1, library_steps=1,
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What was found: how far swapped and own models differ, the kernels of the first step, and the three sides."""

    differences: list[Difference]
    launched: Mapping[str, int]
    windowed: Side
    full: Side
    library: Side


def build_models(
    setup: Setup, vocabulary: int
) -> tuple[LongformerForSequenceClassification, RobertaForSequenceClassification]:
    """A Longformer with random weights, and the model with full attention that has the same.

    As in the published Longformer, which was made of RoBERTa, the projections of global tokens begin as copies of the
    others: so the two differ in nothing but the windows. The weights are drawn as wide as a narrow model needs for its
    layers to pass on what they see; nothing is dropped, so that both see the same.
    """
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": setup.hidden,
        "num_attention_heads": setup.heads,
        "num_hidden_layers": len(setup.windows),
        "intermediate_size": 4 * setup.hidden,
        "max_position_embeddings": setup.length + PAD + 1,
        "type_vocab_size": 1,
        "bos_token_id": START,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "initializer_range": setup.hidden**-0.5,
        "num_labels": len(CHAPTERS),
    }
    longformer = LongformerForSequenceClassification(LongformerConfig(attention_window=list(setup.windows), **sizes))
    for layer in longformer.longformer.encoder.layer:
        attention = layer.attention.self
        for name in ("query", "key", "value"):
            getattr(attention, f"{name}_global").load_state_dict(getattr(attention, name).state_dict())
    full = RobertaForSequenceClassification(RobertaConfig(**sizes, attn_implementation="sdpa"))
    weights = {name.replace("longformer.", "roberta.", 1): value for name, value in longformer.state_dict().items()}
    full.load_state_dict({name: value for name, value in weights.items() if "_global." not in name})
    return longformer, full


def unread_projections(setup: Setup) -> tuple[str, ...]:
    """Parameters whose gradients are exactly zero: what the last layer says is read at ``<s>`` alone, which is global
    and has projections of its own.
    """
    attention = f"longformer.encoder.layer.{len(setup.windows) - 1}.attention.self"
    return tuple(f"{attention}.{name}.{kind}" for name in ("query", "key", "value") for kind in ("weight", "bias"))


def first_step(
    own: LongformerForSequenceClassification,
    swapped: LongformerForSequenceClassification,
    documents: Sequence[Document],
    unread: Sequence[str],
) -> tuple[list[Difference], Mapping[str, int]]:
    """How far the swapped model and the library's own differ, in logits and accumulated gradients; and the kernels that
    ran. Gradients of ``unread`` parameters must be zero in both.
    """
    runs = []
    with progress_display() as progress, step(progress, "the first step, twice", 2 * len(documents)) as advance:
        for model in (own, swapped):
            before = attnc.launches()
            runs.append(accumulate(model, documents, advance)[1])
            launched = dict(Counter(attnc.launches()) - Counter(before))
            model.zero_grad(set_to_none=True)
    differences = [difference for difference in compare(*runs, output="logits") if difference.name not in unread]
    for name in unread:
        largest = max(float(gradient.abs().max()) for run in runs if (gradient := run.gradients[name]) is not None)
        differences.append(Difference(name, largest, measure=1.0, bound=0.0))
    return differences, launched


def compare_full(
    own: LongformerForSequenceClassification, full: RobertaForSequenceClassification, documents: Sequence[Document]
) -> Difference:
    """How far the logits of a Longformer whose windows cover the whole text are from full attention's."""
    wide = copy.deepcopy(own)
    use(wide, attnc.load("full").full())
    with torch.no_grad():
        logits = [torch.cat([logits_of(model, make_batch([each])) for each in documents]) for model in (full, wide)]
    return compare_outputs(*logits, "logits, windows over the whole text")


def train(setup: Setup, corpus: Corpus, steps: Sequence[Sequence[Document]], sides: tuple[Side, Side, Side]) -> None:
    """All steps of the first two sides and a few of the third, in turn, with evaluations between."""
    held_out = [document for part in corpus.held_out for document in part.documents]
    windowed, full, _ = sides
    at_once, multiple = 2, max(setup.windows)
    often = -(-setup.steps // setup.evaluations)

    with progress_display() as progress:
        total = 2 * setup.steps + setup.library_steps
        with step(progress, "training, the models in turn", total * len(steps[0])) as advance:

            def score() -> None:
                for side in (windowed, full):
                    with step(progress, f"held-out documents, {side.name}", -(-len(held_out) // at_once)) as on:
                        evaluate(side, held_out, at_once, multiple, on)

            score()
            for number, documents in enumerate(steps):
                for side in sides if number < setup.library_steps else (windowed, full):
                    train_step(side, documents, advance)
                if (number + 1) % often == 0 or number + 1 == len(steps):
                    score()


def masks(setup: Setup, cells: int) -> Grid:
    """The mask of each layer for a document without padding whose first token is global, and that of full attention."""
    kind = torch.full((1, setup.length), LOCAL, dtype=torch.int32)
    kind[:, 0] = GLOBAL
    layer = attnc.load(PATTERNS).longformer_layer
    panels = []
    for number, window in enumerate(setup.windows):
        mask = layer(size=window).mask(setup.length, kind=kind)[0, 0]
        label = f"layer {number}: {window}, {mask.double().mean():.1%}"
        panels.append(Panel(label, picture(mask, cells, label)))
    everything = torch.ones(setup.length, setup.length, dtype=torch.bool)
    panels.append(Panel("full attention", picture(everything, cells, "full attention")))
    title = f"which keys (across) each query (down) of {setup.length:,} attends to: the window, and <s>"
    return Grid(title, (Row("windows of the layers, and the share of pairs that are kept", tuple(panels)),))


def show_corpus(console: Console, corpus: Corpus, setup: Setup) -> None:
    """What is learned from and what is held out."""
    console.rule(f"the Python reference, {corpus.vocabulary:,} kinds of tokens")
    table = narrow_table("chapter", "passages", "tokens", "held out", "tokens", "documents", "of tokens")
    for name, training, held_out in zip(CHAPTERS, corpus.training, corpus.held_out, strict=True):
        lengths = [len(document.ids) for document in held_out.documents]
        numbers = (training.passages, training.tokens, held_out.passages, held_out.tokens, len(lengths), max(lengths))
        table.add_row(name, *(f"{number:,}" for number in numbers))
    console.print(table)
    console.print(f"A document is a passage and those after it, cut at {setup.length:,} tokens; held-out ones overlap.")


def show_progress(console: Console, windowed: Side, full: Side) -> None:
    """Loss and accuracy of both after the same steps."""
    console.rule("loss and accuracy at equal steps")
    table = narrow_table("steps", "training loss", "full", "held-out loss", "full", "accuracy", "full")
    seen = 0
    for taken in windowed.scores:
        losses = ["", ""]
        if taken:
            losses = [
                f"{statistics.fmean(one.loss for one in side.steps[seen:taken]):.3f}" for side in (windowed, full)
            ]
        scores = [side.scores[taken] for side in (windowed, full)]
        row = [str(taken), *losses, *(f"{one.loss:.3f}" for one in scores), *(f"{one.accuracy:.1%}" for one in scores)]
        table.add_row(*row)
        seen = taken
    console.print(table)
    console.print("training loss: the mean over the steps since the line above; held-out: means over the chapters")
    console.print(f"guessing gives {1 / len(CHAPTERS):.0%}; the unnamed column is the Longformer with attnc's kernels")


def show_costs(console: Console, sides: tuple[Side, Side, Side]) -> None:
    """Time and memory of one optimiser step, medians and peaks."""
    tokens = max(one.tokens for one in sides[0].steps)
    console.rule(f"a step of {tokens:,} tokens, {torch.get_num_threads()} threads")
    table = narrow_table("", "steps", "median time", "of full", "peak memory", "of full")
    full = sides[1]
    for side in sides:
        memory, less = "not measured", ""
        if side.peak is not None and full.peak:
            memory, less = f"{side.peak / 2**20:,.0f} MiB", f"{side.peak / full.peak:.0%}"
        table.add_row(
            side.name, str(len(side.steps)), f"{side.seconds:.2f} s", f"{side.seconds / full.seconds:.0%}", memory, less
        )
    console.print(table)
    console.print("peak memory: beyond weights, the optimiser's state and what else was held before the step")


def main(
    setup: Setup | None = None, output: Path | None = None, window_error: int = 0, console: Console | None = None
) -> Report:
    """The whole example; ``output``: a file for the picture. ``window_error`` widens the compiled windows on each side:
    a fault, which must be found.

    Raises DisagreementError where the swapped model is not the library's, or the kernels did not run as often as they
    must; ValueError for an ending of ``output`` that is no picture's.
    """
    setup, console, begin = setup or Setup(), console or Console(), time.perf_counter()
    torch.manual_seed(setup.seed)
    corpus = read_corpus(setup.vocabulary, setup.passage, setup.length)
    show_corpus(console, corpus, setup)
    console.rule("what each layer attends to")
    columns = shutil.get_terminal_size().columns
    console.print(grid_blocks(masks(setup, TERMINAL_PANEL), columns), highlight=False, markup=False)
    if output is not None:
        write_grid(masks(setup, panel_side(len(setup.windows) + 1)), output)
    steps = draw_steps(corpus.training, setup.steps, setup.step_tokens, setup.seed)
    own, full = build_models(setup, corpus.vocabulary)
    swapped = copy.deepcopy(own)
    use_attnc(swapped, window_error)
    differences, launched = first_step(own, swapped, steps[0], unread_projections(setup))
    show_differences(console, differences, launched)
    widened = compare_full(own, full, steps[0])
    console.print(f"With windows over the whole text its logits are {widened.largest:.1e} from full attention's.")
    differences.append(widened)
    check(differences, launched, len(setup.windows) * len(steps[0]))
    schedule = Schedule(setup.steps, setup.warm_up, setup.rate, setup.head_rate)
    names = ("Longformer, attnc", "full attention", "Longformer, library")
    sides = tuple(Side(name, model, schedule) for name, model in zip(names, (swapped, full, own), strict=True))
    windowed, dense, library = sides
    train(setup, corpus, steps, (windowed, dense, library))
    show_progress(console, windowed, dense)
    show_costs(console, (windowed, dense, library))
    console.print(f"{time.perf_counter() - begin:.0f} seconds in all")
    return Report(differences, launched, windowed, dense, library)


def run(arguments: list[str]) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(".\n")[0])
    parser.add_argument(
        "-o", "--output", type=Path, help=f"draw the layers' masks into this file: {', '.join(ENDINGS)}"
    )
    parser.add_argument("--small", action="store_true", help="a tiny model and short documents: seconds, not minutes")
    parser.add_argument("--window-error", type=int, default=0, help="plant a fault: windows so much wider on each side")
    options = parser.parse_args(arguments)
    if options.output is not None and options.output.suffix.lower() not in ENDINGS:
        parser.error(f"-o: {options.output} is no picture, expected one of {', '.join(ENDINGS)}")
    if options.output is not None and not options.output.parent.is_dir():
        parser.error(f"-o: there is no folder {options.output.parent}")
    try:
        main(SMALL if options.small else None, options.output, options.window_error)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
