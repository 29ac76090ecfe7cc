"""Mutants of the attention that is swapped in models of transformers, and of other patterns in them."""

from __future__ import annotations

from .mutant import Mutant

WING = "attnc/integrations/transformers/swaps"
LONGFORMER = "test_longformer_swap.py"
BIGBIRD = "test_bigbird_swap.py::test_outputs_and_gradients_are_the_librarys"
DECODERS = "test_decoder_swaps.py"
REFORMER = "test_reformer_swap.py"
USE = "test_use.py"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "a global token that is padding stays global",
        WING,
        "return torch.where(is_masked, PADDING, kinds).to(torch.int32)",
        "return torch.where(is_masked & ~is_global, PADDING, kinds).to(torch.int32)",
        f"{LONGFORMER}::test_windows_that_the_library_cannot_run[2-23]",
    ),
    Mutant(
        "global rows are scaled twice where they are folded",
        WING,
        "kind=kind, scale=self.head_dim**-0.5)",
        "kind=kind, scale=1.0 / self.head_dim)",
        f"{LONGFORMER}::test_outputs_and_gradients_are_the_librarys[folded-eval]",
    ),
    Mutant(
        "global rows are folded while probabilities are dropped",
        WING,
        "folding_pays = slots * self.num_heads <= hidden_states.shape[-1] and not self._dropping",
        "folding_pays = slots * self.num_heads <= hidden_states.shape[-1]",
        f"{LONGFORMER}::test_probabilities_are_dropped_in_training_alone",
    ),
    Mutant(
        "a global key within the window counts for local keys alone",
        WING,
        "kind[q] == 1 and (kind[k] == 2 or kind[k] == 1 and window(size))",
        "kind[q] == 1 and kind[k] != 0 and window(size)",
        f"{LONGFORMER}::test_outputs_and_gradients_are_the_librarys[projected-train]",
    ),
    Mutant(
        "random blocks of evaluation are those of training",
        WING,
        "key = (n, self.training)",
        "key = (n, True)",
        "test_bigbird_swap.py::test_a_layer_draws_other_blocks_in_training",
    ),
    Mutant(
        "every layer draws the blocks of the first",
        WING,
        "np.random.seed(self.seed)",
        "np.random.seed(0)",
        f"{BIGBIRD}[padded-train]",
    ),
    Mutant(
        "a length of the paper draws as any other",
        WING,
        "_SPECIAL_LENGTHS = (1024, 3072, 4096)",
        "_SPECIAL_LENGTHS = (3072, 4096)",
        f"{BIGBIRD}[a length of the paper-train]",
    ),
    Mutant(
        "full attention after a short text is the library's own",
        WING,
        "if made is not inner and isinstance(inner, Swapped):",
        "if made is inner and isinstance(inner, Swapped):",
        "test_bigbird_swap.py::test_a_short_text_makes_it_full_for_good",
    ),
    Mutant(
        "slopes of ALiBi with the other sign",
        WING,
        "slope = position_bias[:, 0, -1] - position_bias[:, 0, -2]",
        "slope = position_bias[:, 0, -2] - position_bias[:, 0, -1]",
        f"{DECODERS}::test_outputs_and_gradients_are_the_librarys[mpt]",
    ),
    Mutant(
        "queries after a cache are counted from 0",
        WING,
        "start = q_offset - kv_offset",
        "start = kv_offset",
        f"{DECODERS}::test_generation_is_the_whole_pass[mpt-dynamic]",
    ),
    Mutant(
        "key heads of Falcon's groups are those of the values",
        WING,
        "q, k, v = groups[..., :-2, :].flatten(2, 3), groups[..., -2, :], groups[..., -1, :]",
        "q, k, v = groups[..., :-2, :].flatten(2, 3), groups[..., -1, :], groups[..., -1, :]",
        f"{DECODERS}::test_outputs_and_gradients_are_the_librarys[falcon, groups]",
    ),
    Mutant(
        "keys of Reformer are not normalised",
        WING,
        "k = self._len_norm(q)",
        "k = q",
        f"{REFORMER}::test_numbers_of_the_librarys_layer_tests[lsh]",
    ),
    Mutant(
        "the first chunk of a round sees the last of its own round",
        WING,
        "rank[head, (r + rounds - 1) % rounds, k],",
        "rank[head, r, k],",
        f"{REFORMER}::test_outputs_and_gradients_are_the_librarys[encoder-0]",
    ),
    Mutant(
        "a token of Reformer attends to itself as to others",
        WING,
        "mask  = full\n    score = -100000.0 if q == k else s",
        "mask  = full\n    score = s",
        f"{REFORMER}::test_numbers_of_the_librarys_layer_tests[lsh]",
    ),
    Mutant(
        "chunks of Reformer's local layer do not close their circle",
        WING,
        "k // chunk - q // chunk in {d, d - n // chunk, d + n // chunk}",
        "k // chunk - q // chunk in {d}",
        f"{REFORMER}::test_outputs_and_gradients_are_the_librarys[encoder-9]",
    ),
    Mutant(
        "a pattern lets rows of a causal model see later keys",
        WING,
        'order = (text("causal"),) if mask.causal else ()',
        "order = ()",
        f"{USE}::test_a_wider_pattern_stays_causal",
    ),
    Mutant(
        "undo leaves the configuration as it is",
        WING,
        "config._attn_implementation_internal = before",
        "pass",
        f"{USE}::test_undo_leaves_nothing_and_twice_is_refused",
    ),
    Mutant(
        "a class derived from a known one is passed over",
        WING,
        "if known and name not in REFUSED and not issubclass(kind, Swapped):",
        "if known and name in REFUSED and not issubclass(kind, Swapped):",
        f"{USE}::test_code_of_another_is_refused_by_name",
    ),
    Mutant(
        "probabilities that are asked for are left out without a word",
        WING,
        "    if output_attentions:\n        raise ValueError(",
        "    if output_attentions == 2:\n        raise ValueError(",
        f"{USE}::test_probabilities_are_refused_by_name[mpt]",
    ),
    Mutant(
        "a pattern is met with positions behind a cache that has dropped keys",
        WING,
        "    if not from_the_first:\n",
        "    if from_the_first is None:\n",
        f"{USE}::test_a_pattern_is_refused_where_a_cache_has_dropped_keys",
    ),
)
