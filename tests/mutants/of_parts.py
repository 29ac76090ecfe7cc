"""Faults in calls over a part of the keys, in every wing that knows of them."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = (
    Mutant(
        "a part has one key too many",
        "plan",
        "exists = conjunction(less_equal(first, K), less(K, end))",
        "exists = conjunction(less_equal(first, K), less_equal(K, end))",
        "test_parts.py::test_another_part_is_the_same_program",
    ),
    Mutant(
        "a key row beyond the last position is a key",
        "oracle",
        "if extent.is_part:\n        expr",
        "if extent.is_part and False:\n        expr",
        "test_parts.py::test_the_mask_of_a_part",
    ),
    Mutant(
        "C++ kernels read on behind a part",
        "templates/cpp",
        "if (tokens[i] >= first && tokens[i] - first < rows)",
        "if (tokens[i] >= first)",
        "test_parts.py::test_kernels_take_up_no_other_key",
    ),
    Mutant(
        "gradients of a part's keys are stored where those of the whole would be",
        "templates/cpp",
        "keys + {{ place }} * HEAD_DIM;",
        "keys + {{ place }} / 2 * HEAD_DIM;",
        "test_parts.py::test_any_split_is_the_whole_in_kernels[around]",
    ),
    Mutant(
        "Triton kernels take a part's values from the whole's",
        "templates/triton",
        "value_start += -key_first * value_step",
        "value_start += key_first * 0",
        "test_parts.py::test_the_triton_kernels_in_the_interpreter",
    ),
    Mutant(
        "vmap leaves the positions of keys as they are",
        "runtime",
        "q_start, _starts(fold, k_starts, dims[_K_STARTS]), *rest",
        "q_start, k_starts, *rest",
        "test_parts.py::test_vmap_over_parts[one]",
    ),
    Mutant(
        "a part without the sink keeps it",
        "attnc",
        "return self._sinkless",
        "return self._bound, self._name",
        "test_parts.py::test_without_a_sink_nothing_else_changes",
    ),
)
