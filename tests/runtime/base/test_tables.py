"""What a caller may give for a table, and the one form that it is brought to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import DEFAULT_SCALE, Attention, Dimension, Table
from attnc.compiler.ir.expressions import HEAD, LOGIT, Const, Entry, Expr, K, Member, N, Q
from attnc.compiler.ir.expressions import HEADS as HEADS_POSITION
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.oracle.interpreter import NumpyArrays, environment, interpret
from attnc.runtime.call.python_values import collect
from attnc.runtime.call.tables import Bound, TableSizes, bind, check, integer_bounds

CPU = torch.device("cpu")
TOKEN, QUERY, HEADS = Dimension("token"), Dimension("query"), Dimension("head")
BLOCK = Dimension("free", name="blocks")
EXTENT = CallShape(n=10, m=6, heads=2)
SIZES = TableSizes(batch=3, heads=2, m=6, n=10)


def attention(*tables: Table, mask: Expr | None = None) -> Attention:
    return Attention("p", mask or constructors.less_equal(K, Q), LOGIT, DEFAULT_SCALE, None, tables)


def bound(given: dict[str, object], *tables: Table, mask: Expr | None = None, extent: CallShape = EXTENT) -> Bound:
    made = attention(*tables, mask=mask)
    tensors = collect(made, given, CPU)
    check(made, tensors, TableSizes(3, extent.heads, extent.m, extent.n))
    return bind(made, tensors, extent, CPU, torch.float32)


def members(bits: torch.Tensor) -> object:
    return bits.nonzero().flatten().tolist() if bits.ndim == 1 else [members(part) for part in bits]


@pytest.mark.parametrize(
    "given",
    [
        {7, 0, 3}, frozenset({0, 3, 7}), [7, 3, 0, 3, -1], (0, 3, 7), range(0), torch.tensor([3, -1, 7, 0, 99]),
        torch.tensor([0, 3, 7], dtype=torch.uint8), np.array([7, 3, 0]), (x for x in (0, 3, 7)), [], {}, [np.int64(3)],
        torch.zeros(0, dtype=torch.int64),
    ],
)  # fmt: skip
def test_a_set_of_positions(given: object) -> None:
    expected = [3] if isinstance(given, list) and len(given) == 1 else [0, 3, 7]
    empty = isinstance(given, (range, dict)) or (isinstance(given, (list, torch.Tensor)) and not len(given))
    made = bound({"g": given}, Table("g", "set", ()), mask=Member(K, "g", ()))
    argument, held = made.arguments[0], made.contents[0]
    assert not argument.batched
    assert argument.tensor.dtype == torch.uint8
    assert members(argument.tensor) == ([] if empty else expected)
    assert held.values is not None
    assert held.values.dtype == np.bool_
    assert 1 <= argument.tensor.shape[-1] <= 10, "no wider than the keys that are looked for"


def test_a_set_for_each_entry_of_the_batch() -> None:
    made = bound({"g": [{1}, [], range(4, 6)]}, Table("g", "set", ()), mask=Member(K, "g", ()))
    assert made.arguments[0].batched
    assert members(made.arguments[0].tensor) == [[1], [], [4, 5]]


def test_a_batch_of_one_is_no_batch() -> None:
    made = bound(
        {"g": torch.tensor([[1, 2]]), "w": torch.ones(1, 2)}, Table("g", "set", ()), Table("w", "float", (HEADS,))
    )
    assert [argument.batched for argument in made.arguments] == [False, False]
    assert made.arguments[1].tensor.shape == (2,)


def test_a_set_as_a_condition_over_its_universe() -> None:
    given = torch.tensor([True, False, True])
    made = bound({"g": given}, Table("g", "set", ()))
    assert made.arguments[0].tensor.tolist() == [1, 0, 1]
    assert made.arguments[0].tensor.data_ptr() == given.data_ptr(), "nothing was copied"


def test_sets_in_a_table() -> None:
    table = Table("c", "set", (HEADS, BLOCK))
    given = [[{0}, {1}, set()], [[2, 0], [], [1]]]
    mask = Member(K, "c", (HEAD, constructors.floordiv(Q, 8)))
    for value in (given, torch.tensor([[[0, -1], [1, 1], [-5, -1]], [[0, 2], [-1, -1], [1, 1]]])):
        argument = bound({"c": value}, table, mask=mask).arguments[0]
        assert argument.sizes == (2, 3, 3)
        assert members(argument.tensor) == [[[0], [1], []], [[0, 2], [], [1]]]


def test_a_universe_that_sizes_do_not_tell_is_read_from_the_contents() -> None:
    element = Entry("bucket", (K,), "int")
    tables = Table("g", "set", ()), Table("bucket", "int", (TOKEN,))
    made = bound({"g": {3, 40}, "bucket": range(10) and list(range(10))}, *tables, mask=Member(element, "g", ()))
    assert members(made.arguments[0].tensor) == [3, 40]


def test_a_member_too_large_for_a_bitmap() -> None:
    element = Entry("bucket", (K,), "int")
    tables = Table("g", "set", ()), Table("bucket", "int", (TOKEN,))
    made = bound({"g": {2**62, 4}, "bucket": list(range(10))}, *tables, mask=Member(element, "g", ()))
    assert made.arguments[0].tensor.tolist() == [4, 2**62]
    assert made.wide
    made = bound({"g": {2**62, 1}}, Table("g", "set", ()), mask=Member(K, "g", ()))
    assert members(made.arguments[0].tensor) == [1], "no key is so far away"


def test_members_beyond_the_last_query_row_are_kept_out() -> None:
    mask = Member(Q, "g", ())
    made = bound(
        {"g": {2, 25, 26}}, Table("g", "set", ()), mask=mask, extent=CallShape(n=10, m=6, heads=2, q_start=(20,))
    )
    assert members(made.arguments[0].tensor) == [2, 25]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integers_are_narrow_where_they_fit(dtype: torch.dtype) -> None:
    made = bound({"doc": torch.arange(10).to(dtype)}, Table("doc", "int", (TOKEN,)))
    assert made.arguments[0].tensor.dtype == torch.int32
    assert not made.wide


@pytest.mark.parametrize(
    ("value", "wide"),
    [(2**31 - 1, False), (2**31, True), (2**32 - 1, True), (2**32, True), (1 - 2**31, False), (-(2**31) - 1, True)],
)
def test_integers_are_wide_from_the_first_that_32_bits_do_not_hold(value: int, wide: bool) -> None:
    made = bound({"doc": [0, value] * 5}, Table("doc", "int", (TOKEN,)))
    assert made.wide == wide
    assert made.arguments[0].tensor.tolist() == [0, value] * 5


def test_large_integers_widen_all() -> None:
    tables = Table("doc", "int", (TOKEN,)), Table("length", "int", ())
    made = bound({"doc": torch.arange(10) * 2**40, "length": 5}, *tables)
    assert made.wide
    assert [argument.tensor.dtype for argument in made.arguments] == [torch.int64] * 2
    assert made.arguments[0].tensor[9] == 9 * 2**40


def test_numbers_and_lists() -> None:
    tables = (
        Table("length", "int", ()), Table("w", "float", (HEADS,)), Table("on", "bool", ()), Table("x", "float", ()),
        Table("lengths", "int", ()),
    )  # fmt: skip
    made = bound({"length": 4, "w": [0.5, 2], "on": True, "x": 3, "lengths": [1, 2, 3]}, *tables)
    length, w, on, x, lengths = made.arguments
    assert (length.sizes, length.tensor.item(), length.batched) == ((), 4, False)
    assert (w.tensor.dtype, w.tensor.tolist()) == (torch.float32, [0.5, 2.0])
    assert (on.tensor.dtype, on.tensor.item()) == (torch.uint8, 1)
    assert x.tensor.item() == 3.0
    assert (lengths.batched, lengths.tensor.tolist()) == (True, [1, 2, 3])


def test_defaults_and_the_texts_own_values() -> None:
    tables = (
        Table("g", "set", (), default=frozenset()), Table("length", "int", (), default=7),
        Table("sizes", "int", (HEADS,), value=(3, 4)),
    )  # fmt: skip
    made = bound({}, *tables)
    assert [argument.tensor.tolist() for argument in made.arguments] == [[0], 7, [3, 4]]
    assert bound({"length": 5}, *tables).arguments[1].tensor.item() == 5


def test_a_strided_table_is_made_contiguous() -> None:
    given = torch.arange(40).reshape(10, 4).to(torch.int32)[:, 1]
    argument = bound({"doc": given}, Table("doc", "int", (TOKEN,))).arguments[0]
    assert argument.tensor.is_contiguous()
    assert argument.tensor.tolist() == given.tolist()


FAULTS: dict[str, tuple[Table, object, type[Exception], str]] = {
    "missing": (Table("g", "set", ()), None, TypeError, "g: missing"),
    "float for int": (Table("d", "int", (TOKEN,)), torch.ones(10), TypeError, "d: has dtype float32, expected an int"),
    "int for float": (Table("w", "float", (HEADS,)), torch.ones(2).int(), TypeError, "w: has dtype int32"),
    "int for bool": (Table("b", "bool", (TOKEN,)), torch.ones(10).int(), TypeError, "b: has dtype int32"),
    "bool for int": (Table("d", "int", ()), True, TypeError, "d: holds True of type bool"),
    "float number for int": (Table("d", "int", ()), 1.5, TypeError, "d: holds 1.5 of type float"),
    "text": (Table("g", "set", ()), "abc", TypeError, "g: holds 'abc' of type str"),
    "number for a set": (Table("g", "set", ()), 3, TypeError, "g: is the number 3, expected a set"),
    "floats in a set": (Table("g", "set", ()), [1.5], TypeError, "g: holds 1.5 of type float"),
    "float tensor as a set": (Table("g", "set", ()), torch.ones(3), TypeError, "g: has dtype float32"),
    "number and set": (Table("g", "set", (HEADS,)), [1, {2}], ValueError, "g: mixes numbers and sets"),
    "wrong tokens": (Table("d", "int", (TOKEN,)), torch.ones(9).int(), ValueError, r"expected 10 \(n\)"),
    "wrong rows": (Table("d", "int", (QUERY,)), torch.ones(10).int(), ValueError, r"expected 6 \(m\) in dimension 0"),
    "wrong heads": (Table("w", "float", (HEADS,)), torch.ones(3), ValueError, r"expected 2 \(heads\) in dimension 0"),
    "wrong fixed": (Table("w", "float", (Dimension("fixed", 4),)), torch.ones(3), ValueError, "expected 4 in dim"),
    "wrong batch": (Table("d", "int", (TOKEN,)), torch.ones(2, 10).int(), ValueError, "expected a batch of 3"),
    "wrong rank": (Table("d", "int", (TOKEN,)), torch.ones(1, 1, 10).int(), ValueError, r"d: has shape \[1, 1, 10\]"),
    "scalar for a table": (Table("d", "int", (TOKEN,)), 3, ValueError, r"has shape \[\], expected an int tensor \[n\]"),
    "ragged": (Table("w", "float", (HEADS, BLOCK)), [[1.0], [1.0, 2.0]], ValueError, "w: its lists differ in length"),
    "after the batch": (Table("d", "int", (TOKEN,)), torch.ones(3, 9).int(), ValueError, "0 after the batch"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_named(fault: str) -> None:
    table, value, error, message = FAULTS[fault]
    with pytest.raises(error, match=message):
        bound({table.name: value}, table)


def test_an_unknown_table() -> None:
    with pytest.raises(TypeError, match="golbal_index: p has no such table; did you mean global_index"):
        bound({"golbal_index": {0}}, Table("global_index", "set", ()))
    with pytest.raises(TypeError, match="g: p has no such table; expected no tables"):
        bound({"g": {0}})


def test_free_sizes_must_agree() -> None:
    tables = Table("a", "float", (BLOCK,)), Table("b", "float", (HEADS, BLOCK))
    bound({"a": torch.ones(5), "b": torch.ones(2, 5)}, *tables)
    with pytest.raises(ValueError, match=r"b: has shape \[2, 4\], expected 5 \(blocks, as a has\) in dimension 1"):
        bound({"a": torch.ones(5), "b": torch.ones(2, 4)}, *tables)


def test_a_table_elsewhere_is_refused_but_on_the_host() -> None:
    made = attention(Table("w", "float", (HEADS,)), Table("x", "float", ()))
    elsewhere = torch.device("meta")
    assert collect(made, {"w": torch.ones(2), "x": 1.0}, elsewhere)["w"].device == CPU
    with pytest.raises(ValueError, match="w: is on meta, expected cuda, where q is, or cpu"):
        collect(made, {"w": torch.ones(2, device="meta"), "x": 1.0}, torch.device("cuda"))
    with pytest.raises(ValueError, match="w: is on meta, expected cpu"):
        collect(made, {"w": torch.ones(2, device="meta"), "x": 1.0}, CPU)
    collect(made, {"w": torch.ones(2, device="meta"), "x": torch.tensor(1.0)}, elsewhere)


def test_the_sink_counts_for_the_universe() -> None:
    sink = constructors.choose(Member(Q, "g", ()), Const(1.0), Const(0.0))
    made = Attention("p", constructors.less_equal(K, Q), LOGIT, DEFAULT_SCALE, sink, (Table("g", "set", ()),))
    tensors = collect(made, {"g": {5, 8}}, CPU)
    assert members(bind(made, tensors, EXTENT, CPU, torch.float32).arguments[0].tensor) == [5], "rows are 0 to 5"


ELEMENTS = (
    K,
    Q,
    HEAD,
    constructors.floordiv(K, 3),
    constructors.sub(K, Q),
    constructors.add(constructors.floordiv(Q, 4), Const(2)),
    constructors.mod(constructors.sub(K, Q), 7),
    constructors.mod(K, 50),
    constructors.mul(constructors.sub(Q, Const(9)), constructors.sub(K, Const(4))),
    constructors.neg(K),
    constructors.minimum(K, Const(5)),
    constructors.maximum(constructors.neg(Q), constructors.floordiv(constructors.sub(K, Const(20)), 6)),
    constructors.mul(Const(-3), HEAD),
    constructors.sub(N, K),
    HEADS_POSITION,
)


@pytest.mark.parametrize(
    "extent", [EXTENT, CallShape(n=1, m=1), CallShape(n=30, m=4, heads=3, q_start=(2, 26))], ids=str
)
def test_bounds_of_elements_hold(extent: CallShape) -> None:
    starts = np.asarray(extent.q_start)
    bound = environment(NumpyArrays(), extent.n, extent.m, extent.heads, starts, {})
    for element in ELEMENTS:
        bounds = integer_bounds(element, extent)
        values = interpret(element, bound)
        assert bounds is not None
        assert bounds[0] <= values.min() <= values.max() <= bounds[1], element
        assert bounds[1] - bounds[0] <= 4 * (values.max() - values.min()) + 60, "and are of some use"


def test_what_sizes_do_not_bound() -> None:
    unknown = CallShape(n=10, m=6, q_start=None)
    assert integer_bounds(Q, unknown) is None
    assert integer_bounds(constructors.add(Q, K), unknown) is None
    assert integer_bounds(Entry("bucket", (K,), "int"), EXTENT) is None
    assert integer_bounds(constructors.hashed(K), EXTENT) is None
