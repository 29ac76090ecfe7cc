"""A Hugging Face Longformer reads a real document, once with its own attention and once with attnc's kernels.

    python examples/longformer_document.py

The document is a reference text that ships with Python, read by bytes, with a global token at its start and padding at
its end. The model has random weights: nothing is downloaded. Shown are the pattern and what the compiler decided about
it; compared are the outputs and the gradients of all parameters; asserted is that the kernels ran, and how often; timed
are the attention modules, side by side. Exit code 1 says that something disagreed.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pydoc_data.topics import topics

import torch
from display import DisagreementError, narrow_table, picture, progress_display, step
from longformer_agreement import Difference, Run, Timing, compare, run_model, time_modules
from rich.console import Console
from torch import Tensor, nn
from transformers import LongformerConfig, LongformerModel

import attnc
from attnc.integrations.transformers import TEXTS, Undo, use
from attnc.pictures.picture import blocks

PATTERNS = TEXTS["longformer"]
PADDING, LOCAL, GLOBAL = 0, 1, 2  # the kinds of tokens that the patterns read
START, PAD, END, FIRST_BYTE = 0, 1, 2, 3
EXPECTED_SPEEDUP = {"forward": 2.0, "backward": 2.5}


@dataclass(frozen=True)
class Setup:
    """The sizes of the model, the document and the measurement. ``tokens`` of ``length`` are no padding."""

    hidden: int = 768
    heads: int = 12
    layers: int = 4
    window: int = 512
    tokens: int = 4402
    length: int = 4608
    rounds: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Document:
    """One text as the model takes it, each int64 ``[1, length]``."""

    input_ids: Tensor
    attention_mask: Tensor
    global_attention_mask: Tensor

    @property
    def arguments(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @property
    def is_padding(self) -> Tensor:
        return self.attention_mask == 0

    @property
    def is_global(self) -> Tensor:
        return self.global_attention_mask == 1


@dataclass(frozen=True)
class Report:
    """What the demonstration found."""

    differences: list[Difference]
    launched: Mapping[str, int]
    forward: Timing
    backward: Timing


def read_document(setup: Setup) -> Document:
    """What Python's reference says of objects and types: a global start token, bytes, an end token, padding."""
    text = (topics["objects"] + topics["types"]).encode()[: setup.tokens - 2]
    if len(text) < setup.tokens - 2:
        raise ValueError(f"tokens is {setup.tokens}, expected at most {len(text) + 2}: the text has {len(text)} bytes")
    ids = [START, *(FIRST_BYTE + byte for byte in text), END]
    input_ids = torch.tensor([ids + [PAD] * (setup.length - len(ids))])
    is_global = torch.zeros_like(input_ids)
    is_global[:, 0] = 1
    return Document(input_ids, (input_ids != PAD).long(), is_global)


def build_model(setup: Setup) -> LongformerModel:
    """Random weights, and random biases too: with zeros for them, half of what a bias can get wrong would not show."""
    config = LongformerConfig(
        vocab_size=FIRST_BYTE + 256,
        hidden_size=setup.hidden,
        num_attention_heads=setup.heads,
        num_hidden_layers=setup.layers,
        intermediate_size=4 * setup.hidden,
        attention_window=setup.window,
        max_position_embeddings=setup.length + PAD + 1,
        type_vocab_size=1,
        bos_token_id=START,
        pad_token_id=PAD,
        eos_token_id=END,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    model = LongformerModel(config, add_pooling_layer=False).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=config.initializer_range)
    return model


def token_kinds(is_padding: Tensor, is_global: Tensor) -> Tensor:
    """What each token is, int32 ``[batch, n]``, as the patterns read it."""
    kinds = torch.where(is_global, GLOBAL, LOCAL)
    return torch.where(is_padding, PADDING, kinds).to(torch.int32)


def use_attnc(model: LongformerModel, window_error: int = 0) -> Undo:
    """Put attnc's kernels into every layer. ``window_error`` widens each side of the window: a fault, to be found."""
    if not window_error:
        return use(model)
    window = attnc.load("window").window
    return use(model, [window(size=size + 2 * window_error) for size in model.config.attention_window])


def as_function(attention: nn.Module, is_padding: Tensor, is_global: Tensor) -> Callable[[Tensor], Tensor]:
    """One attention module as a function of its hidden states, called as the model calls it."""
    mask = torch.where(is_padding, -1.0, torch.where(is_global, 1.0, 0.0))
    return lambda hidden_states: attention(hidden_states, mask, is_padding, is_global, bool(is_global.any()))[0]


def build_kernels(attention: nn.Module, hidden: int) -> None:
    """Compiles what one layer calls, by a pass over eight tokens: a kernel knows no length, so it is every layer's."""
    is_global = torch.zeros(1, 8, dtype=torch.bool)
    is_global[:, 0] = True
    hidden_states = torch.randn(1, 8, hidden, requires_grad=True)
    as_function(attention, torch.zeros_like(is_global), is_global)(hidden_states).sum().backward()


def run_both(
    model: LongformerModel, document: Document, weight: Tensor, window_error: int
) -> tuple[Run, Run, Mapping[str, int], Undo]:
    """The model's own run, attnc's, the kernels that ran in attnc's, and what takes the model back."""
    layers = model.encoder.layer
    with progress_display() as progress:
        with step(progress, "Hugging Face's attention, forward and backward", 2 * len(layers)) as advance:
            own = run_model(model, document.arguments, weight, advance)
        undo = use_attnc(model, window_error)
        with step(progress, "building the kernels", 1):
            build_kernels(layers[0].attention.self, weight.shape[-1])
        before = attnc.launches()
        with step(progress, "attnc's kernels, forward and backward", 2 * len(layers)) as advance:
            compiled = run_model(model, document.arguments, weight, advance)
        return own, compiled, dict(Counter(attnc.launches()) - Counter(before)), undo


def time_attention(
    model: LongformerModel, document: Document, weight: Tensor, rounds: int, undo: Undo
) -> tuple[Timing, Timing]:
    """Forward and backward of the first layer's attention, projections included, on the document's embeddings. The
    model has its own attention afterwards.
    """
    compiled = copy.deepcopy(model.encoder.layer[0].attention.self)
    undo()
    own = copy.deepcopy(model.encoder.layer[0].attention.self)
    with torch.no_grad():
        hidden_states = model.embeddings(document.input_ids)
    is_padding, is_global = document.is_padding, document.is_global
    modules = as_function(own, is_padding, is_global), as_function(compiled, is_padding, is_global)
    with progress_display() as progress, step(progress, "the attention modules, in turn", 2 * (rounds + 1)) as advance:
        return time_modules(modules, hidden_states, weight, rounds, advance)


def check(differences: list[Difference], launched: Mapping[str, int], layers: int) -> None:
    """Raises DisagreementError unless all differences are within bounds and exactly the expected kernels ran."""
    expected = {"cpp.forward": 2 * layers, "cpp.backward": 2 * layers}  # a layer's local rows, and its global rows
    if dict(launched) != expected:
        raise DisagreementError(f"the kernels that ran were {dict(launched)}, expected were {expected}")
    wrong = [difference for difference in differences if not difference.holds]
    if wrong:
        worst = max(wrong, key=lambda difference: difference.relative / difference.bound)
        raise DisagreementError(
            f"{len(wrong)} of {len(differences)} tensors differ; worst is {worst.name}, "
            f"by {worst.relative:.1e} where at most {worst.bound:.0e} is allowed"
        )


def show_pattern(console: Console, document: Document, setup: Setup) -> None:
    """The text and the picture of the pattern, and the plans of the two calls that each layer makes."""
    kind = token_kinds(document.is_padding, document.is_global)
    padding = setup.length - setup.tokens
    console.rule(f"a document of {setup.tokens:,} tokens and {padding} of padding, window {setup.window}")
    console.print(PATTERNS.read_text().partition("\ntest ")[0].strip(), highlight=False, markup=False)
    patterns = attnc.load(PATTERNS)
    mask = patterns.longformer_layer(size=setup.window).mask(setup.length, kind=kind)
    console.print("\nWhich keys (across) each query (down) attends to:\n")
    console.print(blocks(picture(mask[0, 0], 72)), highlight=False, markup=False)
    console.rule("what the compiler decided about a layer's two calls")
    plans = {
        "local rows": patterns.local_rows(size=setup.window).plan(setup.length, kind=kind),
        "global rows": patterns.global_rows().plan(setup.length, setup.heads, kind=kind),
    }
    table = narrow_table("call", "tile", "full", "partial", "keys a query", "pairs", "kernels", "order")
    for name, plan in plans.items():
        kernel = plan.kernels[0]
        tile = f"{kernel.rows.tile}×{kernel.segments[0].keys.tile}"
        counts = (f"{plan.full:,}", f"{plan.partial:,}", f"{plan.area:.0f}", f"{plan.pairs:,}", str(len(plan.kernels)))
        table.add_row(name, tile, *counts, ", ".join(plan.order))
    console.print(table)


def show_differences(console: Console, differences: list[Difference], launched: Mapping[str, int]) -> None:
    """The output, the gradients that differ most, and the kernels that ran."""
    console.rule("how far the two runs differ")
    output, *gradients = differences
    table = narrow_table("tensor", "difference", "of", "relative", "allowed", "")
    for each in (output, *sorted(gradients, key=lambda gradient: gradient.relative, reverse=True)[:6]):
        numbers = (f"{each.largest:.1e}", f"{each.measure:.1e}", f"{each.relative:.1e}", f"{each.bound:.0e}")
        name = each.name.removeprefix("longformer.").removeprefix("encoder.").replace("attention.self.", "")
        table.add_row(name, *numbers, "[green]agrees[/]" if each.holds else "[red]differs[/]")
    console.print(table)
    console.print(f"The gradients of {len(gradients)} parameters were compared; these six differ most.")
    console.print("Kernels that ran: " + ", ".join(f"{count} {kind}" for kind, count in launched.items()))


def show_times(console: Console, own: Run, compiled: Run, forward: Timing, backward: Timing) -> None:
    """The attention modules by medians, the whole models by their one run."""
    console.rule(f"times, {torch.get_num_threads()} threads")
    table = narrow_table("", "pass", "Hugging Face", "attnc", "faster", "expected")
    for name, timing in (("forward", forward), ("backward", backward)):
        seconds, goal = timing.medians, EXPECTED_SPEEDUP[name]
        faster = f"[{'green' if timing.speedup >= goal else 'red'}]{timing.speedup:.1f} times[/]"
        table.add_row("attention", name, *(f"{value:.3f} s" for value in seconds), faster, f"{goal} times")
    for name in ("forward", "backward"):
        before, after = (getattr(each, f"{name}_seconds") for each in (own, compiled))
        table.add_row("whole model", name, f"{before:.2f} s", f"{after:.2f} s", f"{before / after:.1f} times", "")
    console.print(table)
    console.print(f"attention: a layer's module with its projections, median of {len(forward.own)} rounds in turn")
    console.print("whole model: its one run, feed-forward layers included")


def main(setup: Setup | None = None, window_error: int = 0, console: Console | None = None) -> Report:
    """The whole demonstration. ``window_error`` widens the compiled window on each side: a fault, which must be found.

    Raises DisagreementError where outputs or gradients differ, or the kernels did not run as often as they must.
    """
    setup, console, begin = setup or Setup(), console or Console(), time.perf_counter()
    torch.manual_seed(setup.seed)
    document, model = read_document(setup), build_model(setup)
    show_pattern(console, document, setup)
    weight = torch.randn(1, setup.length, setup.hidden).masked_fill(document.is_padding[..., None], 0.0)
    own, compiled, launched, undo = run_both(model, document, weight, window_error)
    differences = compare(own, compiled)
    show_differences(console, differences, launched)
    check(differences, launched, setup.layers)
    forward, backward = time_attention(model, document, weight, setup.rounds, undo)
    show_times(console, own, compiled, forward, backward)
    console.print(f"{time.perf_counter() - begin:.0f} seconds in all")
    return Report(differences, launched, forward, backward)


def run(arguments: list[str]) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--window-error", type=int, default=0, help="plant a fault: a window so much wider on each side"
    )
    options = parser.parse_args(arguments)
    try:
        main(window_error=options.window_error)
    except DisagreementError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
