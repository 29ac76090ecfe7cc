"""Faults in what training asks for: some gradients, little memory, packed sequences."""

from __future__ import annotations

from .mutant import Mutant

_WANTED = "test_wanted.py::test_"
_PACKED = "test_packing.py::test_"

MUTANTS = (
    Mutant(
        "what moves logits is computed for values alone",
        "templates/cpp",
        "bool moves() const { return queries || keys || tables; }",
        "bool moves() const { return true; }",
        f"{_WANTED}products_that_nobody_needs_are_left_out[near]",
    ),
    Mutant(
        "a table alone is thought not to move logits",
        "templates/cpp",
        "bool moves() const { return queries || keys || tables; }",
        "bool moves() const { return queries || keys; }",
        f"{_WANTED}every_subset_of_inputs_and_tables[cpp]",
    ),
    Mutant(
        "private sums have all of the room, beside what else is needed",
        "templates/cpp",
        "bytes > (count < launch.threads ? room.few : room.many)",
        "bytes > room.few",
        "test_backward_memory.py::test_a_backward_pass_takes_no_more_than_its_room[near]",
    ),
    Mutant(
        "a ready call keeps memory for its results",
        "runtime/cpp",
        "return torch.empty(1, dtype=dtype).expand(shape)",
        "return torch.empty(shape, dtype=dtype)",
        "test_backward_memory.py::test_ready_calls_keep_no_memory_for_results",
    ),
    Mutant(
        "an offset belongs to the sequence before it",
        "attnc/packing",
        "positions, right=True, out_int32=True)",
        "positions, right=False, out_int32=True)",
        f"{_PACKED}offsets_become_a_table_of_documents[blocked]",
    ),
    Mutant(
        "positions go on from one sequence to the next",
        "attnc/packing",
        "natural = all(map(_of_differences, parts))",
        "natural = True",
        f"{_PACKED}each_sequence_attends_within_itself[blocked-chunks-True]",
    ),
    Mutant(
        "sequences see each other",
        "attnc/packing",
        "else constructors.conjunction(same, mask)",
        "else mask",
        f"{_PACKED}each_sequence_attends_within_itself[blocked-near-True]",
    ),
    Mutant(
        "the length is that of the first sequence",
        "attnc/packing",
        "found[self.length] = offsets.diff()[at].int()",
        "found[self.length] = offsets.diff()[at * 0].int()",
        f"{_PACKED}each_sequence_attends_within_itself[blocked-last-True]",
    ),
)
