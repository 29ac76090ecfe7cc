"""A wrong claim about each shipped pattern is refuted, with a counterexample that is the smallest in n."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest

from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import bound_tests, load_shipped, load_text
from attnc.compiler.modules.test_cases import BoundTest, Claim
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.oracle.out_of_table import OutOfTableError
from attnc.compiler.verify.claims import run_test
from attnc.compiler.verify.samples import samples
from tests.attnc.test_patterns import NAMES, applicable
from tests.fuzz.proofs import Masks, contradicted

# What is applied, a claim that does not hold of it, and the smallest n at which it does not.
WRONG = {
    "alibi": [
        ("alibi", "symmetric", 2),
        ("alibi_window(size = 100)", "equals causal", 101),
        ("mpt_7b", "symmetric", 2),
    ],
    "bigbird": [("bigbird", "causal", 2), ("bigbird_padded", "diagonal", 1), ("bigbird_base", "within window(64)", 34)],
    "causal": [("causal", "contains full", 2)],
    "falcon": [("falcon", "symmetric", 2), ("falcon_rw_1b", "symmetric", 2), ("falcon_7b", "contains full", 2)],
    "gemma3": [
        ("gemma3(size = 60)", "equals causal", 61),
        ("gemma3_wide(size = 60)", "contains causal_window(61)", 61),
        ("gemma3_wide_causal", "symmetric", 2),
        ("gemma3_270m", "symmetric", 2),
        ("gemma3_1b", "symmetric", 2),
        ("gemma3_4b", "symmetric", 2),
        ("gemma3_12b", "symmetric", 2),
        ("gemma3_27b", "symmetric", 2),
        ("embedding_gemma(size = 60)", "equals full", 32),
        ("embedding_gemma_300m", "causal", 2),
    ],
    "gpt_oss": [
        ("gpt_oss(size = 60)", "equals causal", 61),
        ("gpt_oss_causal", "symmetric", 2),
        ("gpt_oss_20b", "symmetric", 2),
        ("gpt_oss_120b", "symmetric", 2),
    ],
    "llama4": [
        ("llama4(chunk = 30)", "diagonal", 1),
        ("llama4_causal", "rows nonempty", 1),
        ("llama4_scout", "rows nonempty", 1),
    ],
    "local": [
        ("local(size = 20)", "contains full", 41),
        ("local_causal(size = 20)", "equals causal", 41),
        ("local_exact(size = 20)", "contains block_band(20, 1, 1)", 22),
        ("local_causal_exact(size = 20)", "equals causal", 22),
        ("local_shared(size = 20)", "within causal_window(39)", 40),
    ],
    "mistral": [("mistral(size = 60)", "equals causal", 61), ("mistral_7b_v0_1", "symmetric", 2)],
    "modernbert": [("modernbert(size = 60)", "equals full", 32), ("modernbert_base", "within window(128)", 66)],
    "mpt": [
        ("mpt", "symmetric", 2),
        ("mpt_window(size = 60)", "equals causal_window(60)", 61),
        ("mpt_window_both(size = 60)", "contains full", 62),
    ],
    "olmo3": [("olmo3(size = 60)", "equals causal", 61), ("olmo3_7b", "symmetric", 2)],
    "t5": [
        ("t5", "causal", 2),
        ("t5_decoder", "contains full", 2),
        ("t5_cross", "causal", 2),
        ("t5_small_encoder", "causal", 2),
        ("t5_small_decoder", "contains full", 2),
    ],
    "deepspeed": [
        ("deepspeed", "diagonal", 1),
        ("deepspeed_fixed(block = 2)", "contains full", 9),
        ("summed_up(0, 2, 4, 1, false, false)", "columns nonempty", 1),
        ("deepspeed_variable(block = 2)", "contains full", 9),
        ("deepspeed_variable_random(block = 2)", "within blocks(8)", 9),
        ("deepspeed_longformer(block = 4)", "contains full", 13),
        ("deepspeed_window(block = 4)", "contains causal", 9),
        ("deepspeed_bigbird(block = 4)", "contains full", 13),
    ],
    "etc": [
        ("etc(radius = 20)", "equals window(40)", 22),
        ("etc(radius = 20)", "equals full", 22),
        ("etc_sentences(radius = 20)", "symmetric", 2),
        ("etc_relative(radius = 20)", "contains window(40)", 2),
        ("etc_base", "contains window(168)", 2),
    ],
    "longnet": [
        ("longnet(segment = 8, branches = 2)", "within chunked(8)", 9),
        ("dilated(segment = 8, ratio = 3, heads_in_all = 6)", "diagonal", 1),
        ("longnet_base", "equals chunked(2048)", 1),
    ],
    "reformer": [
        ("reformer(chunk = 4, rounds = 2)", "symmetric", 5),
        ("reformer_causal(chunk = 4, rounds = 2)", "contains causal", 5),
        ("hashed(chunk = 4, rounds = 2, before = 1, after = 0)", "symmetric", 5),
        ("reformer_local(chunk = 20)", "contains full", 60),
        ("reformer_local_causal(chunk = 20)", "contains causal", 60),
        ("reformer_enwik8", "symmetric", 2),
    ],
    "documents": [
        ("documents", "causal", 2),
        ("causal_documents", "equals causal", 2),
        ("window_documents(size = 30)", "contains documents(doc) and causal", 31),
    ],
    "padding": [
        ("padding", "rows nonempty", 1),
        ("unpadded", "diagonal", 1),
        ("right_padding", "causal", 2),
        ("left_padding", "rows nonempty", 1),
        ("left_padding_window(size = 60)", "diagonal", 1),
    ],
    "image_spans": [
        ("image_spans", "causal", 2),
        ("image_spans_window(size = 60)", "contains causal", 61),
        ("gemma3_4b_images", "symmetric", 2),
        ("image_prefix", "causal", 2),
    ],
    "block_diffusion": [("block_diffusion(block = 4)", "causal", 3), ("block_causal(block = 30)", "contains full", 31)],
    "shared_prefix": [
        ("shared_prefix", "equals causal", 2),
        ("shared_prefix_anywhere", "causal", 2),
        ("one_prefix", "equals causal", 2),
    ],
    "flamingo": [
        ("flamingo", "rows nonempty", 1),
        ("flamingo_all", "diagonal", 1),
        ("flamingo_spans", "columns nonempty", 1),
    ],
    "reader": [
        ("reader", "causal", 2),
        ("reader_window(size = 30)", "contains documents(passage)", 17),
        ("parallel_contexts", "equals causal", 2),
    ],
    "retro": [("retro(chunk = 3)", "rows nonempty", 1)],
    "tree": [("tree", "diagonal", 1), ("tree_table", "causal", 2), ("draft_blocks(block = 30)", "causal", 2)],
    "moba": [("moba(chunk = 30)", "equals causal", 31)],
    "nsa": [
        ("nsa(block = 30)", "equals causal", 31),
        ("nsa_window(size = 30)", "equals causal", 31),
        ("nsa_compressed(stride = 4)", "diagonal", 2),
    ],
    "vertical_slash": [
        ("vertical_slash", "rows nonempty", 1),
        ("vertical_slash_blocks", "diagonal", 1),
        ("block_sparse", "rows nonempty", 1),
        ("a_shape(first_keys = 5, size = 30)", "equals causal", 36),
    ],
    "deepseek_sparse": [("deepseek_sparse", "rows nonempty", 1), ("deepseek_v32", "diagonal", 1)],
    "full": [("full", "within causal", 2)],
    "longformer": [
        ("longformer(size = 128)", "within window(128)", 66),
        ("longformer_base_4096", "equals causal", 2),
        ("longformer_char_small", "contains causal", 33),
        ("longformer_padded(size = 20)", "contains window(20)", 1),
        ("longformer_local(size = 20)", "rows nonempty", 1),
        ("longformer_global", "columns nonempty", 1),
        ("longformer_autoregressive(reach = 30)", "within causal_window(30)", 31),
        ("longformer_dilated_heads(size = 20)", "within window(20)", 13),
        ("led_base_16384", "within window(64)", 34),
        ("longformer_char_large", "contains causal", 33),
    ],
    "prefix_lm": [("prefix_lm", "causal", 2)],
    "sink_window": [("sink_window(size = 20)", "within causal_window(20)", 21)],
    "softcap": [
        ("softcap(size = 60)", "equals causal", 61),
        ("softcap_causal", "symmetric", 2),
        ("gemma2_2b", "symmetric", 2),
    ],
    "strided": [
        ("strided", "equals causal", 130),
        ("fixed", "equals causal", 129),
        ("strided_column(20)", "contains causal", 2),
        ("fixed_column(20, 4)", "rows nonempty", 1),
        ("fixed_heads(20, 4)", "contains causal", 21),
        ("sparse_transformer_enwik8", "equals causal", 129),
    ],
    "window": [
        ("window(100)", "equals full", 52),
        ("causal_window(64)", "within causal_window(63)", 64),
        ("diagonal_only", "contains causal", 2),
    ],
    "std": [
        ("full", "disjoint q == k", 1),
        ("causal", "symmetric", 2),
        ("window(40, dilation = 2)", "contains full", 2),
        ("causal_window(9)", "contains causal", 10),
        ("band(50, 3)", "causal", 2),
        ("sees_all", "rows nonempty", 1),
        ("seen_by_all", "columns nonempty", 1),
        ("global_tokens", "contains causal", 1),
        ("prefix", "causal", 2),
        ("first(20)", "columns nonempty", 21),
        ("blocks(50)", "contains full", 51),
        ("block_band(20, 1, 1)", "contains full", 41),
        ("chunked(30)", "equals causal", 31),
        ("strided(30)", "equals causal", 32),
        ("padded", "rows nonempty", 1),
        ("fixed(30, 4)", "equals causal", 31),
        ("documents", "equals full", 2),
        ("grid_window(20, 1, 3)", "contains full", 5),
        ("random_blocks(8, 10)", "rows nonempty", 1),
    ],
    "axial": [
        ("axial", "causal", 2),
        ("axial_grid", "equals full", 33),
        ("axial_causal", "symmetric", 2),
        ("axial_3d", "causal", 2),
        ("criss_cross(width = 2)", "contains full", 3),
    ],
    "natten": [
        ("natten", "symmetric", 8),
        ("natten(size = 5, dilation = 3, stride = 2)", "within window(4, dilation = 3)", 10),
        ("natten_2d(width = 8)", "symmetric", 5),
        ("natten_grid(width = 4, size = 3)", "within grid_window(4, 1, 1)", 3),
        ("dinat", "causal", 2),
        ("dinat_mini_stage1", "symmetric", 5),
        ("dinat_mini_stage2", "causal", 2),
        ("dinat_mini_stage3", "causal", 2),
        ("dinat_mini_stage4", "equals full", 50),
    ],
    "swin": [
        ("swin", "causal", 2),
        ("swin_grid(width = 6, window = 2, shift = 1)", "equals grid_window(6, 1, 1)", 2),
        ("swin_biased(width = 8)", "contains full", 8),
        ("swin_v2", "causal", 2),
        ("swin_tiny_stage1", "causal", 2),
        ("swin_tiny_stage2", "causal", 2),
        ("swin_tiny_stage3", "causal", 2),
        ("swin_tiny_stage4", "equals full", 50),
        ("swinv2_tiny_stage1", "causal", 2),
        ("swinv2_tiny_stage2", "causal", 2),
        ("swinv2_tiny_stage3", "causal", 2),
        ("swinv2_tiny_stage4", "equals full", 65),
    ],
    "natten_3d": [
        ("natten_3d(height = 1)", "causal", 2),
        ("natten_3d_grid(height = 2, width = 3, size_t = 1, size_y = 1, size_x = 3)", "equals full", 4),
    ],
    "sta": [
        ("sta(down = 1, across = 4, tile = 2)", "symmetric", 5),
        ("sta_2d(across = 2, size_x = 1, tile = 2)", "equals full", 3),
        ("sta_text(frames = 1, down = 1, across = 2, text = 3, tile = 2)", "diagonal", 8),
        ("sta_lines(height = 2, width = 4, tile_t = 1, tile_y = 2, tile_x = 2, size_x = 1)", "equals full", 3),
        ("sta_grid(down = 1, across = 4, tile = 2)", "symmetric", 5),
    ],
    "svg": [
        ("svg_spatial(prompt = 0, frame = 9, rounding = 4, sink = true)", "symmetric", 17),
        ("svg_temporal(frame = 9)", "causal", 2),
        ("svg_temporal_laid_out(prompt = 0, frame = 4, frames = 4, rounding = 2)", "equals full", 3),
        ("svg", "causal", 2),
        ("svg_hunyuan(prompt = 0, frame = 4, frames = 4, rounding = 2)", "contains full", 9),
        ("svg_wan(frame = 9, rounding = 4)", "symmetric", 22),
    ],
    "vsa": [
        ("vsa", "diagonal", 1),
        ("vsa_padded", "rows nonempty", 1),
    ],
}
CASES = [(file, *case) for file, cases in WRONG.items() for case in cases]


def test_each_shipped_pattern_is_among_them() -> None:
    for name in NAMES:
        assert {applied.partition("(")[0] for applied, _, _ in WRONG[name]} == applicable(load_shipped(name))


@pytest.mark.parametrize(("file", "applied", "claim", "n"), CASES, ids=lambda value: str(value))
def test_a_wrong_claim_is_refuted_at_its_smallest_length(file: str, applied: str, claim: str, n: int) -> None:
    imported = "" if file == "std" else f"from {file} import {applied.partition('(')[0]}\n"
    test = bound_tests(load_text(f"{imported}test {applied} for all n {{ {claim} }}"))[0]
    (outcome,) = run_test(test)
    found = outcome.counterexample
    assert outcome.verdict == "failed", outcome
    assert found is not None
    assert found.n == n
    (stated,) = (check for check in test.checks if isinstance(check, Claim))
    call = CallShape(n, n, found.heads)
    assert contradicted(stated, masks_of(test, stated, call, found.contents), found.head, (found.q, found.k))
    for smaller, its in smaller_calls(test, stated, n):
        with suppress(OutOfTableError):  # free sizes are drawn without regard to what indexes them
            assert not any(contradicted(stated, its, head, None) for head in range(smaller.heads)), smaller


def masks_of(test: BoundTest, claim: Claim, call: CallShape, contents: Mapping[str, HostTable]) -> Masks:
    mask, tables = test.subject.mask, [table for table in test.subject.tables if table.name in contents]

    def made(operand: object) -> object:
        expr = mask if operand is None else claim.operand
        return evaluate(expr, tables, call, contents)[0].astype(int)  # type: ignore[arg-type]

    return made  # type: ignore[return-value]


def smaller_calls(test: BoundTest, claim: Claim, n: int) -> Iterator[tuple[CallShape, Masks]]:
    """Calls of every smaller length, with several contents of the tables."""
    for length in range(1, n):
        for sample in samples(test.subject.tables, length, (1, 2) if test.heads is None else (test.heads,)):
            yield sample.extent, masks_of(test, claim, sample.extent, sample.contents)
