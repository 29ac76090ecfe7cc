"""Faults in what plans on a device, and in what stays on it between calls."""

from __future__ import annotations

from .mutant import Mutant

_RANDOM = "test_device_plans.py::test_no_pair_is_lost_by_random_conditions_in_random_orders"
_KEYS = "test_device_plans.py::test_keys_per_query_are_those_of_the_hosts_plan"

MUTANTS = (
    Mutant(
        "a tile is full where the least is less than the least",
        "codegen/planner",
        'f"{a.low} < {b.high}", f"{a.high} < {b.low}"',
        'f"{a.low} < {b.high}", f"{a.low} < {b.low}"',
        f"{_RANDOM}[1]",
    ),
    Mutant(
        "what may not hold for some may hold for none",
        "codegen/planner",
        'self._trit(f"1 - {x.must}", f"1 - {x.may}")',
        'self._trit(f"1 - {x.may}", f"1 - {x.must}")',
        f"{_RANDOM}[0]",
    ),
    Mutant(
        "equal numbers are told by their range alone",
        "codegen/planner",
        "signs = self._signs(node)",
        "signs = None",
        "test_device_plans.py::test_documents_in_any_order_cost_what_those_in_order_do",
    ),
    Mutant(
        "two blocks of a tile have one range",
        "codegen/planner",
        "size = max(min(size, int(divisor.value) & -int(divisor.value)), min(least, size))",
        "pass",
        f"{_KEYS}[blocks near drawn ones]",
    ),
    Mutant(
        "remainders of a dilated window may be any",
        "codegen/planner",
        "gcd(a.step, b.step), known)",
        "1, known)",
        f"{_KEYS}[dilated window of documents]",
    ),
    Mutant(
        "a bound that 64 bits may not hold is taken for one that they hold",
        "codegen/planner",
        "for x in (Ints(raw[0], raw[1]), *of)",
        "for x in (Ints(raw[0], raw[1]),)",
        "test_device_plans.py::test_integers_of_64_bits_do_not_overflow",
    ),
    Mutant(
        "a tile is full if one granule of it is",
        "templates/triton",
        "must_hold = must_hold & ((1 - here)",
        "must_hold = must_hold | ((1 - here)",
        f"{_RANDOM}[0]",
    ),
    Mutant(
        "runs that have no room are left out",
        "templates/triton",
        "tl.store(run_length + first + capacity - 1, last_end - last_start)",
        "tl.store(run_length + first + capacity - 1, 1)",
        "test_device_plans.py::test_more_runs_than_there_is_room_for_become_one",
    ),
    Mutant(
        "a run that stands for several is full",
        "templates/triton",
        "tl.where(found > capacity, 1, last_kind)",
        "tl.where(found > capacity, 2, last_kind)",
        "test_device_plans.py::test_more_runs_than_there_is_room_for_become_one",
    ),
    Mutant(
        "a list on the device has room for every token",
        "schedule",
        "return Room(min(total, _most_listed(order, launch.tables)))",
        "return Room(total)",
        "test_device_plans.py::test_a_list_has_room_for_the_members_of_its_set",
    ),
    Mutant(
        "every band begins with the first line",
        "runtime",
        "yield Band(slot, 1, line, min(together, lines - line))",
        "yield Band(slot, 1, 0, min(together, lines - line))",
        "test_device_plans.py::test_tiles_that_are_judged_a_few_at_a_time_are_the_same[1-bigbird]",
    ),
    Mutant(
        "a table on the host is copied to the device once and for all",
        "runtime",
        "if found is None or not torch.equal(found[0], bits):",
        "if found is None:",
        "test_device_copies.py::test_a_tensor_is_copied_once_for_what_it_holds",
    ),
    Mutant(
        "a graph's tensors may go",
        "runtime/base",
        "_pinned[id(tensor)] = tensor",
        "pass",
        "test_device_copies.py::test_a_capture_keeps_what_it_uses_and_refuses_copies",
    ),
)
