"""Faults in what writes kernels, and in kernels: of the wings codegen and templates."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = (
    Mutant(
        "a query's entry is read by its position",
        "codegen",
        'f"{index} - head.start" if kind == "query" else index',
        "index",
        "test_emit.py::test_reads_are_bounded_and_count_a_calls_rows_from_its_first",
    ),
    Mutant(
        "a head's gradients go to its own slice always",
        "codegen",
        "return all(entry.indices[0] == HEAD for expr in exprs",
        "return any(entry.indices[0] == HEAD for expr in exprs",
        "test_cpp.py::test_pattern[slopes of this head and of the first]",
    ),
    Mutant(
        "a sink joins the kernels that merge, too",
        "codegen",
        'sink = program.sink if kernel.output == "store" else None',
        "sink = program.sink",
        "test_cpp_orders.py::test_a_sink_counts_once_for_rows_that_are_split_along_the_keys",
    ),
    Mutant(
        "an infinite literal loses its sign",
        "codegen",
        "'float(\"inf\")' if value > 0 else 'float(\"-inf\")'",
        "'float(\"inf\")'",
        "test_emit.py::test_literals",
    ),
    Mutant(
        "an index below 0 is inside its table",
        "codegen",
        "({row} >= 0) & ({row} < {size})",
        "({row} < {size})",
        "test_emit.py::test_reads_are_bounded_and_count_a_calls_rows_from_its_first",
    ),
    Mutant(
        "negative quotients round towards zero",
        "codegen",
        "{x} // {divisor} - tl.where({x} % {divisor} < 0, 1, 0)",
        "{x} // {divisor}",
        "test_emit.py::test_triton_rounds_quotients_down_as_the_language_does",
    ),
    Mutant(
        "a divisor is taken out of its kernel",
        "codegen",
        "return replace(node, args=(self._part(dividend), divisor))",
        "return replace(node, args=(self._part(dividend), self._part(divisor)))",
        "test_lifting.py::test_divisors_strides_and_floats_stay",
    ),
    Mutant(
        "an index of a table keeps its numbers",
        "codegen",
        "case Entry(indices=indices):\n                return replace(node, indices=tuple(map(self._part, indices)))",
        "case Entry():\n                return node",
        "test_lifting.py::test_with_its_numbers_back_a_program_is_what_it_was",
    ),
    Mutant(
        "a sum over rows is one over keys",
        "codegen",
        'return "pair" if by_key else "row"',
        'return "row"',
        "test_triton_interpret.py::test_equals_the_dense_formula[1]",
    ),
    Mutant(
        "a sink counts once for each share of a split kernel",
        "templates/cpp",
        "if (part.share == 0) move_sinks",
        "move_sinks",
        "test_cpp_orders.py::test_a_sink_counts_once_for_rows_that_are_split_along_the_keys",
    ),
    Mutant(
        "the longest rows are taken last in C++",
        "templates/cpp",
        "backwards ? items - 1 - item : item",
        "backwards ? item : items - 1 - item",
        "test_cpp_longest_first.py::test_the_rows_that_read_most_are_taken_first[grows-forward]",
    ),
    Mutant(
        "a count of pairs weighs once",
        "templates/cpp",
        "if constexpr (MASKED) weight *= kept[c][u];",
        "",
        "test_cpp.py::test_pattern[counts]",
    ),
    Mutant(
        "sums are not rescaled as the largest logit grows in C++",
        "templates/cpp",
        "z.sums.total[p][u] = z.sums.total[p][u] * factor[u] + total[u];",
        "z.sums.total[p][u] = z.sums.total[p][u] + total[u];",
        "test_cpp.py::test_pattern[full]",
    ),
    Mutant(
        "keys are added one after the other in C++",
        "templates/cpp",
        "    Reals sum[R][VECTORS] = {};\n    multiply_add<R, VECTORS>(sum, rows, 1, pitch, weights, weights_pitch, count);\n"
        "    UNROLL for (int r = 0; r < R; r++)\n        UNROLL for (int v = 0; v < VECTORS; v++) {\n"
        "            Real *const to = sums + r * PANEL + v * LANES;\n"
        "            store(to, load(to) * factor[v] + sum[r][v]);\n        }",
        "    Reals sum[R][VECTORS];\n    UNROLL for (int r = 0; r < R; r++)\n        UNROLL for (int v = 0; v < VECTORS; v++)"
        " sum[r][v] = load(sums + r * PANEL + v * LANES) * factor[v];\n"
        "    multiply_add<R, VECTORS>(sum, rows, 1, pitch, weights, weights_pitch, count);\n"
        "    UNROLL for (int r = 0; r < R; r++)\n        UNROLL for (int v = 0; v < VECTORS; v++)"
        " store(sums + r * PANEL + v * LANES, sum[r][v]);",
        "test_cpp_rounding.py::test_sums_of_many_keys_round_as_sums_of_tiles[full tiles]",
    ),
    Mutant(
        "a share of the visits joins with another's weight",
        "templates/cpp",
        "z.total[p][u] * mine + other.total[p][u] * its",
        "z.total[p][u] * mine + other.total[p][u] * mine",
        "test_cpp_orders.py::test_few_rows_over_all_keys_are_split_along_the_keys",
    ),
    Mutant(
        "the gradient of queries lacks the scale in C++",
        "templates/cpp",
        "const Real moved = z.sum[x / PANEL][d][x % PANEL] * head.scale;",
        "const Real moved = z.sum[x / PANEL][d][x % PANEL];",
        "test_cpp.py::test_pattern[full]",
    ),
    Mutant(
        "the gradient of the log-sum-exp has the wrong sign in C++",
        "templates/cpp",
        "delta -= launch.grad_lse[at + row]",
        "delta += launch.grad_lse[at + row]",
        "test_cpp.py::test_pattern[full]",
    ),
    Mutant(
        "gradients of keys are those of another head",
        "templates/cpp",
        "part->head / group != kv_head",
        "part->head % launch.kv_heads != kv_head",
        "test_cpp.py::test_grouped_heads[24-3]",
    ),
    Mutant(
        "what dropout keeps is not scaled up",
        "templates/cpp",
        "Reals{} : each_lane(head.keep_scale)",
        "Reals{} : each_lane(Real(1))",
        "test_cpp.py::test_dropout[causal]",
    ),
    Mutant(
        "packed keys of another entry of the batch are taken",
        "templates/cpp",
        "(segment * launch.batch + unit.batch) * (launch.kv_heads + walk.heads)",
        "segment * (launch.kv_heads + walk.heads)",
        "test_cpp.py::test_packed_keys_are_of_their_entry_of_the_batch",
    ),
    Mutant(
        "token 0 ends a list",
        "templates/cpp",
        "found < count && from[found] >= 0",
        "found < count && from[found] > 0",
        "test_cpp_orders.py::test_programs_made_by_hand[dtype0-longformer]",
    ),
    Mutant(
        "an index may be one past its table in C++",
        "templates/cpp",
        "uint64_t(int64_t(index)) < uint64_t(sizes[dimension])",
        "uint64_t(int64_t(index)) <= uint64_t(sizes[dimension])",
        "test_cpp_numbers.py::test_entries_past_the_edges_of_a_table_are_0[0]",
    ),
    Mutant(
        "bfloat16 is cut off",
        "templates/cpp",
        "(bits + 0x7fff + ((bits >> 16) & 1)) >> 16",
        "bits >> 16",
        "test_cpp_numbers.py::test_results_are_rounded_to_the_nearest[dtype0]",
    ),
    Mutant(
        "a power of two ends before the last exponent",
        "templates/cpp",
        "x < (LEAST_EXPONENT + Real(0.5)) * LN2 ? Reals{}",
        "x < LEAST_EXPONENT * LN2 / 2 ? Reals{}",
        "test_cpp_numbers.py::test_functions_are_right_at_any_size[exp-dtype0]",
    ),
    Mutant(
        "a negative quotient rounds towards zero",
        "templates/cpp",
        "return X(quotient + (x - quotient * Int(DIVISOR) < 0));",
        "return quotient;",
        "test_cpp.py::test_pattern[blocks of the end]",
    ),
    Mutant(
        "the gradient of keys lacks the scale",
        "templates/triton",
        "(grad_x * finite_scale).to(",
        "grad_x.to(",
        "test_triton_interpret.py::test_equals_the_dense_formula[1]",
    ),
    Mutant(
        "the gradient of queries lacks the scale in Triton",
        "templates/triton",
        'grads = grads * tl.where(tl.abs(logit_scale) < float("inf"), logit_scale, 1.0)',
        "grads = grads * 1.0",
        "test_triton_interpret.py::test_equals_the_dense_formula[1]",
    ),
    Mutant(
        "the gradient of the log-sum-exp has the wrong sign in Triton",
        "templates/triton",
        "common -= tl.load(grad_lse + slot_row + rows",
        "common += tl.load(grad_lse + slot_row + rows",
        "test_triton_interpret.py::test_equals_the_dense_formula[1]",
    ),
    Mutant(
        "all query heads read the first key head",
        "templates/triton",
        "kv_head_64 = (head // group).to(tl.int64)",
        "kv_head_64 = (head // group * 0).to(tl.int64)",
        "test_triton_interpret.py::test_equals_the_dense_formula[1]",
    ),
    Mutant(
        "what dropout keeps is not scaled up in the gradient",
        "templates/triton",
        "grad_p = tl.where(kept, grad_p * drop_scale, 0.0)",
        "grad_p = tl.where(kept, grad_p, 0.0)",
        "test_triton_interpret.py::test_equals_the_dense_formula[1]",
    ),
    Mutant(
        "two results are joined with exchanged weights",
        "templates/triton",
        "(old * old_weight[:, None] + result * weight[:, None])",
        "(old * weight[:, None] + result * old_weight[:, None])",
        "test_triton_interpret.py::test_executes_any_program[0]",
    ),
    Mutant(
        "sums are not rescaled as the largest logit grows in Triton",
        "templates/triton",
        "total = total * fading + tl.sum(p, 1)",
        "total = total + tl.sum(p, 1)",
        "test_triton_interpret.py::test_equals_the_dense_formula[1]",
    ),
)
