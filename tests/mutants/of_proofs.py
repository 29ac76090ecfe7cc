"""Faults in what proves: a step left out, so that what is false would follow."""

from __future__ import annotations

from .mutant import Mutant

_FALSE = "test_decide.py::test_nothing_false_is_proved"
_PAPERS = "test_decide.py::test_claims_about_tables_floats_and_counts"
_TILES = "test_affine_tiles.py::test_wrong_bounds_are_found"

MUTANTS = (
    Mutant(
        "a part that depends on the key is one value for a whole row",
        "proofs",
        "self.varying = [node for node in free(mask) if other.name in positions(node)]",
        "self.varying = []",
        f"{_FALSE}[a part that depends on the key has many values in a row]",
    ),
    Mutant(
        "a witness beyond the last key counts",
        "proofs",
        "self.pairs.where(condition).intersect(inside)",
        "self.pairs.where(condition)",
        f"{_FALSE}[a witness must be a position]",
    ),
    Mutant("rows go on beyond the keys", "proofs", '["q < n"]', "[]", f"{_FALSE}[no row beyond the last]"),
    Mutant(
        "what may be kept is kept for certain",
        "proofs",
        "return kept.subtract(lost)",
        "return kept",
        f"{_FALSE}[a part that depends on the row has many values in a column]",
    ),
    Mutant(
        "the answer to the question before is taken",
        "proofs",
        "or int(number) != self._number",
        "",
        "test_client.py::test_a_worker_that_fails_leaves_a_claim_undecided",
    ),
    Mutant(
        "a prover that cannot be imported proves",
        "proofs",
        "return lambda _: Unknown(reason)",
        "return lambda _: Proved()",
        "test_client.py::test_a_worker_that_fails_leaves_a_claim_undecided",
    ),
    Mutant(
        "a question that takes too many steps is proved",
        "proofs",
        'return Unknown(f"it takes isl too many steps ({str(error)[:80]})")',
        "from .questions import Proved\n\n        return Proved()",
        "test_decide.py::test_fewer_steps_make_no_other_answers",
    ),
    Mutant(
        "a negative number may be in a set",
        "proofs",
        "held.intersect(self.value(node.element).ge_set(self._constant(0)))",
        "held",
        f"{_PAPERS}[near for all n]",
    ),
    Mutant(
        "an order may hold a number twice",
        "proofs",
        "apart.subtract(equal_values).union(equal_values.intersect(same)) if permuted else apart.union(equal_values)",
        "apart.union(equal_values)",
        f"{_PAPERS}[ranks for all n]",
    ),
    Mutant(
        "sides of a comparison are exchanged with the pair, and not put in order",
        "proofs",
        '_EITHER_WAY = {"and", "or", "iff", "plus", "add", "mul", "min", "max", "eq"}',
        '_EITHER_WAY = {"and", "or", "plus", "add", "mul", "min", "max"}',
        f"{_PAPERS}[of_floats for all n]",
    ),
    Mutant(
        "operands that may not change places do",
        "proofs",
        '"min", "max", "eq"}',
        '"min", "max", "eq", "le"}',
        "test_decide.py::test_a_canonical_form_keeps_its_pairs",
    ),
    Mutant(
        "tiles before the first run are not looked at",
        "proofs",
        "if start is not None and not (begun and start == low):",
        "if start is not None and begun and start != low:",
        f"{_TILES}[window]",
    ),
    Mutant(
        "a full tile may lack a pair, whatever the length",
        "proofs",
        '("full lacks a pair", lacks, True)',
        '("full lacks a pair", lacks, False)',
        f"{_TILES}[window]",
    ),
    Mutant(
        "keys after their query are in every box",
        "proofs",
        "or b{i} - a{i} > {box.after[i]}",
        "",
        "test_closed_forms.py::test_a_halo_that_is_too_small_is_found",
    ),
    Mutant(
        "what a key's last reader depends on is forgotten",
        "proofs",
        "exact = not pairs.free or kept.is_disjoint(lost)",
        "exact = True",
        "test_last_readers.py::test_closed_forms[causal and hash(q, k) % 2 == 0]",
    ),
    Mutant(
        "the bound of a cache is that of one head",
        "proofs",
        "readers.rows.project_out(_PARAMETER, head, 1).lexmax_pw_multi_aff()",
        "readers.rows.lexmax_pw_multi_aff()",
        "test_last_readers.py::test_closed_forms[causal and k == head]",
    ),
    Mutant(
        "a last reader that is read back wrongly is an answer",
        "proofs",
        'is_equal(found), "another last reader is read back"',
        'is_equal(found) or True, "another last reader is read back"',
        "test_last_readers.py::test_a_form_that_is_read_back_wrongly_is_no_answer",
    ),
)
