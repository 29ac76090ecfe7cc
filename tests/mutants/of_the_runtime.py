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
        "full tiles of every length stand still",
        "runtime",
        "shift = visited.shift * (period // visited.period) or full.shift * (period // full.period)",
        "shift = visited.shift * (period // visited.period)",
        "test_every_length.py::test_tiles_hold_every_pair_whatever_a_table_holds[prefix]",
    ),
    Mutant(
        "a part that reads a table is decided for every length",
        "runtime",
        "if N not in walk(node) and tables_read(node) <= known and shift_divisor(node) is not None:",
        "if N not in walk(node) and shift_divisor(node) is not None:",
        "test_every_length.py::test_what_a_table_cannot_change_is_left_out",
    ),
    Mutant(
        "a file stands alone with heads that differ, of any number",
        "runtime",
        "if heads is None and (_differs(attention) or",
        "if heads is None and (False or",
        "test_cli_standalone.py::test_what_one_file_cannot_hold[options3-1-as --heads 12]",
    ),
    Mutant(
        "rows that begin inside a tile visit what its rows visit",
        "templates/triton",
        "in _either(found, other) if inside else found:",
        "in found:",
        "test_cli_standalone.py::test_files_are_right_where_only_torch_and_triton_are",
    ),
    Mutant(
        "a file holds helpers that nobody calls",
        "codegen",
        'if not name.startswith("_") or name in called]',
        "if True]",
        "test_cli_standalone.py::test_a_file_is_written_to_be_read",
    ),
    Mutant(
        "contents that are given do not reach a file that stands alone",
        "attnc/inspection",
        "replace(table, value=given.get(table.name, table.value))",
        "replace(table, value=table.value)",
        "test_cli_standalone.py::test_a_table_makes_every_tile_count_and_the_file_says_so",
    ),
    Mutant(
        "a kernel for AMD takes no shared memory",
        "runtime/triton",
        "return Resources(registers, 4 * spilled, shared)",
        "return Resources(registers, 4 * spilled, 0)",
        "test_triton_compile.py::test_compiles_for_other_targets[alibi-gfx942]",
    ),
    Mutant(
        "few keys are cut off where they also take pairs away",
        "runtime",
        "if few is None or any(few in walk(part) for part in parts - {few}):",
        "if few is None:",
        "test_every_length.py::test_few_keys_are_cut_off_where_that_counts_each_pair_once",
    ),
)
