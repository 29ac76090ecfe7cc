"""Mutants of what runs other libraries' models."""

from __future__ import annotations

from .mutant import Mutant

WING = "attnc/integrations/transformers"
MASKS, LAYERS = "test_masks.py::test_a_pattern_keeps_what_the_library_keeps", "test_layers.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "a window of the library is one key too wide",
        WING,
        'return f"{q} - {_group(k)} < {size}"',
        'return f"{q} - {_group(k)} <= {size}"',
        f"{MASKS}[blocks too-none]",
    ),
    Mutant(
        "queries behind a sliding cache are counted from the first key of all",
        WING,
        'key, start = "k", sizes.q_offset - sizes.kv_offset',
        'key, start = "k", sizes.q_offset + 0',
        f"{MASKS}[window-none]",
    ),
    Mutant(
        "chunks count as the same under translation",
        WING,
        "case Everything() | Causal() | Behind() | Near():\n            return True",
        "case Everything() | Causal() | Behind() | Near() | SameChunk():\n            return True",
        f"{MASKS}[chunked-none]",
    ),
    Mutant(
        "positions of packed documents fall away whatever they are",
        WING,
        "return bool((ordered & (~inside | (torch.diff(part.positions, dim=-1) == 1))).all())",
        "return bool(ordered.all())",
        f"{MASKS}[packed otherwise-none]",
    ),
    Mutant(
        "padding that is no run is taken for one",
        WING,
        "return (first.int(), (first + counts).int()) if torch.equal(run, keep) else (None, None)",
        "return (first.int(), (first + counts).int()) if len(run) else (None, None)",
        f"{MASKS}[causal-inner]",
    ),
    Mutant(
        "dropout of a layer in evaluation",
        WING,
        "drop = float(dropout) if module.training else 0.0",
        "drop = float(dropout)",
        f"{LAYERS}::test_dropout_in_training_only",
    ),
    Mutant(
        "keys that a sparse layer has chosen are passed over",
        WING,
        'return "k in chosen[q]"',
        "return None",
        f"{LAYERS}::test_keys_that_a_sparse_layer_has_chosen",
    ),
    Mutant(
        "packed documents are left to the library",
        WING,
        "return bool(begins.any() & (begins | goes_on).all())",
        "return False",
        f"{LAYERS}::test_packed_documents_are_kept_apart_where_the_library_mixes_them",
    ),
    Mutant(
        "a layer's own tables for its first row",
        WING,
        'sink = "sink_logit[head, q]"',
        'sink = "sink_logit[head, 0]"',
        f"{LAYERS}::test_a_sink_for_each_row",
    ),
    Mutant(
        "a weight that a bias made vanish is taken for that of a masked key",
        "attnc/testing",
        "if not plain[..., key].all():",
        "if not plain[..., key].any():",
        "test_applied_mask.py::test_what_a_call_applies_is_its_mask[sloped]",
    ),
)
