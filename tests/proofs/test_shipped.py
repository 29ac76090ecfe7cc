"""A wrong claim about each shipped pattern is refuted, with a counterexample that is the smallest in n."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import bound_tests, load_shipped, load_text
from attnc.compiler.modules.test_cases import BoundTest, Claim
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.verify.claims import run_test
from attnc.compiler.verify.samples import samples
from tests.attnc.test_patterns import NAMES
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
    "documents": [
        ("documents", "causal", 2),
        ("causal_documents", "equals causal", 2),
        ("window_documents(size = 30)", "contains documents(doc) and causal", 31),
    ],
    "full": [("full", "within causal", 2)],
    "longformer": [
        ("longformer(size = 128)", "within window(128)", 66),
        ("longformer_base_4096", "equals causal", 2),
        ("longformer_char_small", "contains causal", 33),
    ],
    "prefix_lm": [("prefix_lm", "causal", 2)],
    "sink_window": [("sink_window(size = 20)", "within causal_window(20)", 21)],
    "softcap": [
        ("softcap(size = 60)", "equals causal", 61),
        ("softcap_causal", "symmetric", 2),
        ("gemma2_2b", "symmetric", 2),
    ],
    "strided": [("strided", "equals causal", 130), ("fixed", "equals causal", 129)],
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
}
CASES = [(file, *case) for file, cases in WRONG.items() for case in cases]


def test_each_shipped_pattern_is_among_them() -> None:
    for name in NAMES:
        declared = load_shipped(name).declarations.values()
        named = {own.name for own in declared if own.kind in ("pattern", "attention", "model")}
        assert {applied.partition("(")[0] for applied, _, _ in WRONG[name]} == named


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
