"""Faults in what users call, see and type: of the wings of attnc."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = (
    Mutant(
        "a key that this row reads last is dropped before it",
        "attnc",
        "initial=-1) >= p)",
        "initial=-1) > p)",
        "test_cache_plan.py::test_a_plan_of_sinks_and_a_window",
    ),
    Mutant(
        "of a choice that tables make one side is kept",
        "analysis",
        "return _either(test, then, otherwise)",
        "return then",
        "test_cache_plan.py::test_what_a_row_may_read_holds_for_all_contents",
    ),
    Mutant(
        "the first row of a block that reads a key is its last",
        "oracle",
        "stop - 1 - kept[:, :, ::-1].argmax(2)",
        "start + kept.argmax(2)",
        "test_cache_plan.py::test_without_a_closed_form_rows_are_looked_at",
    ),
    Mutant(
        "an odd last row is half as dark",
        "attnc/pictures",
        "odd = picture.density.shape[0] % 2\n",
        "odd = 0\n",
        "test_pictures.py::test_an_odd_last_row_is_as_dark_as_it_is",
    ),
    Mutant(
        "an output that is no number agrees",
        "attnc/testing",
        ".nan_to_num(nan=torch.inf)\n    worst",
        ".nan_to_num(nan=0.0)\n    worst",
        "test_testing.py::test_what_is_no_number_is_told",
    ),
    Mutant(
        "the support of NaN is right",
        "attnc/testing",
        "wrong = ~((found - expected).abs() <= WHOLE)",
        "wrong = (found - expected).abs() > WHOLE",
        "test_testing.py::test_what_is_no_number_is_told",
    ),
    Mutant(
        "broken files among tests end with 0",
        "attnc/cli",
        "return FAULT if failed or broken or wanting else 0",
        "return FAULT if failed or wanting else 0",
        "test_cli.py::test_a_broken_file_among_tests_is_a_fault",
    ),
    Mutant(
        "heads that differ by their own number are taken for alike",
        "attnc",
        "heads_differ=HEAD in mask or HEADS in mask,",
        "heads_differ=HEADS in mask,",
        "test_face.py::test_facts",
    ),
    Mutant(
        "blocks are drawn as if they were windows",
        "attnc/inspection",
        "yield int(node.args[1].value), BLOCKS",
        "yield int(node.args[1].value), TIMES",
        "test_thin.py::test_the_constants_choose_the_length",
    ),
    Mutant(
        "layers that differ share the kernels of the first",
        "attnc/inspection",
        "found.setdefault(identity(layer.attention), [])",
        'found.setdefault("", [])',
        "test_cli_compile.py::test_each_attention_of_a_model_that_differs_has_its_folder",
    ),
    Mutant(
        "the source of one function holds all of them",
        "codegen",
        "if only in (None, function.name):",
        "if function.name:",
        "test_cli_compile.py::test_for_a_gpu_that_is_not_here",
    ),
    Mutant(
        "shared memory is told as spills",
        "runtime/triton",
        '"spills": None if needs is None else needs.spilled,',
        '"spills": None if needs is None else needs.shared,',
        "test_cli_compile.py::test_for_a_gpu_that_is_not_here",
    ),
    Mutant(
        "compiled ahead, values are as wide as keys",
        "plan",
        "value_dim or head_dim, tuple(",
        "head_dim, tuple(",
        "test_cli_compile.py::test_for_a_gpu_that_is_not_here",
    ),
    Mutant(
        "a launch walks the tiles of one class of tokens",
        "runtime/triton",
        "tiles_of(order, tokens, listing).total}",
        "tiles_of(order, tokens, listing).per_class}",
        "test_triton_interpret.py::test_executes_any_program[0]",
    ),
)
