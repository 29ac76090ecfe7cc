"""Faults in what runs kernels: of the wings runtime and below it."""

from __future__ import annotations

from .mutant import Mutant

_CACHED = "test_launch_cache.py::test_"

MUTANTS = (
    Mutant(
        "a launch serves whatever its tables hold",
        "runtime",
        "return all(torch.equal(_bits(tensors[place]), kept) for place, kept in self.contents)",
        "return True",
        f"{_CACHED}changed_contents_are_seen",
    ),
    Mutant(
        "a launch keeps the caller's scales",
        "runtime",
        "else launch.scale.clone(),",
        "else launch.scale,",
        f"{_CACHED}a_launch_does_not_hold_on_to_the_memory_of_a_table",
    ),
    Mutant(
        "NaN is another table",
        "runtime",
        "return x.view(_BITS[x.element_size()]) if x.is_floating_point() else x",
        "return x",
        f"{_CACHED}floats_are_compared_to_the_bit",
    ),
    Mutant(
        "an entry of the cache is believed unseen",
        "runtime/base",
        "and content[len(MAGIC) : HEADER] == _digest(key, payload)",
        "",
        "test_cache.py::test_keys_do_not_share_entries",
    ),
    Mutant(
        "a folder that others may write to is used",
        "runtime/base",
        "_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH",
        "_OTHERS_MAY_WRITE = 0",
        "test_cache.py::test_what_is_no_plain_file_of_ours_is_replaced[_writable]",
    ),
    Mutant(
        "an override ends all that are open",
        "runtime/base",
        "tuple(one for one in self._open if one is not checked)",
        "()",
        "test_settings.py::test_override_restores_whatever_happens",
    ),
    Mutant(
        "the upper half of a seed is dropped",
        "runtime/base",
        "return seed & _LOW, seed >> 32 & _LOW",
        "return seed & _LOW, seed & _LOW",
        "test_reference.py::test_dropout_drops_what_the_hash_says",
    ),
    Mutant(
        "a built kernel's key lacks the headers",
        "runtime/cpp",
        "parts += [name, text]",
        "parts += [name]",
        "test_cpp_build.py::test_the_key_holds_all_that_the_bytes_depend_on",
    ),
    Mutant(
        "a built kernel's key lacks the flags",
        "runtime/cpp",
        "*using.flags, using.identity, str(_process",
        "using.identity, str(_process",
        "test_cpp_build.py::test_the_key_holds_all_that_the_bytes_depend_on",
    ),
    Mutant(
        "a built kernel's key lacks whether OpenMP is there",
        "runtime/cpp",
        "using.identity, str(_process_has_openmp())]",
        "using.identity]",
        "test_cpp_build.py::test_the_key_holds_all_that_the_bytes_depend_on",
    ),
    Mutant(
        "integers of 32 bits without a sign are narrow",
        "runtime/call",
        "and held.values.max() <= _INT32.max)",
        "and held.values.max() <= 2 * _INT32.max + 1)",
        "test_tables.py::test_integers_are_wide_from_the_first_that_32_bits_do_not_hold",
    ),
    Mutant(
        "tables that the score alone reads change no plan",
        "runtime",
        'number in decisive or table.element != "float"',
        "number in decisive",
        "test_op.py::test_contents_that_only_score_or_sink_read_are_looked_at_in_each_call",
    ),
    Mutant(
        "a row of NaN logits keeps nothing",
        "runtime/eager",
        "alive = (logits > -torch.inf).any(-1) | logits.isnan().any(-1)",
        "alive = (logits > -torch.inf).any(-1)",
        "test_reference.py::test_a_row_of_logits_that_are_no_numbers_is_no_number",
    ),
    Mutant(
        "the place of a head is looked up under its place",
        "runtime/triton",
        "places[head] = place",
        "places[place] = place",
        "test_triton_compile.py::test_heads_of_a_kernel_are_listed_with_their_places",
    ),
    Mutant(
        "a kernel for AMD takes no shared memory",
        "runtime/triton",
        "return Resources(registers, 4 * spilled, shared)",
        "return Resources(registers, 4 * spilled, 0)",
        "test_triton_compile.py::test_compiles_for_other_targets[alibi-gfx942]",
    ),
)
