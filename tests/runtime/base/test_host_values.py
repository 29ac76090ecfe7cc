"""What a caller holds in Python or numpy: copied at the call, of any form, or refused by name.

The property: whatever is written into an argument after the call changes no result and no gradient; or, where torch can
tell, the backward pass refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime.base.configuration import settings

TEXT = """
pattern plain = causal
pattern documents_of(doc: int[token]) = doc[q] == doc[k]
pattern until(length: int[]) = k < length
pattern around(g: tokens) = q in g or k in g
pattern chosen(blocks: set[token]) = k in blocks[q]
pattern opened(open: bool[token]) = open[k]
pattern ranked(rank: order[token]) = rank[k] <= rank[q]
attention sloped(slope: float[head]) { mask = causal  score = s + slope[head] * (k - q) }
attention sunk(level: float[head]) { mask = causal  sink = level[head] }
"""
MODULE = attnc.loads(TEXT)
N, HEADS = 8, 2


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    with settings.override(backend="blocked"):
        yield


def qkv(m: int = N) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, HEADS, size, 4, generator=generator).requires_grad_() for size in (m, N, N))
    return q, k, v


def gradients(out: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    return list(torch.autograd.grad(out.square().sum(), inputs))


# By the argument: the attention, what is given, and what is written into it afterwards. Each is made anew.
Given = Callable[[], Any]
ARRAYS: dict[str, tuple[str, Given, Any]] = {
    "doc": ("documents_of", lambda: np.arange(N) // 4, np.arange(N)),
    "doc of int32": ("documents_of", lambda: np.arange(N, dtype=np.int32) // 4, np.arange(N)),
    "doc of a batch": ("documents_of", lambda: np.arange(N)[None] // 4, np.arange(N)),
    "length": ("until", lambda: np.array([5]), 2),
    "length, a number": ("until", lambda: np.array(5), 2),
    "g": ("around", lambda: np.array([1, 4]), 6),
    "g of conditions": ("around", lambda: np.arange(N) == 2, True),
    "blocks": ("chosen", lambda: np.arange(N)[:, None] // 2 * 2, 7),
    "open": ("opened", lambda: np.arange(N) < 5, True),
    "rank": ("ranked", lambda: np.arange(N)[::-1].copy(), np.arange(N)),
    "slope": ("sloped", lambda: np.array([0.5, 0.25]), 3.0),
    "slope of float32": ("sloped", lambda: np.array([0.5, 0.25], dtype=np.float32), 3.0),
    "level": ("sunk", lambda: np.array([0.5, 0.25]), 3.0),
    "scale": ("plain", lambda: np.array([0.5, 0.25]), 3.0),
    "scale, a number": ("plain", lambda: np.array(0.5), 3.0),
    "q_start": ("plain", lambda: np.array([3]), 0),
}  # fmt: skip


def name_of(case: str) -> str:
    return case.partition(" ")[0].rstrip(",")


def refilled(given: Any, other: Any) -> None:
    """Another content in the place of what a list or an array holds."""
    if isinstance(given, np.ndarray):
        given[...] = other
    else:
        given[:] = np.broadcast_to(other, np.shape(given)).tolist()


# Python's numbers cannot be written into, and of a list of conditions there is no set.
LISTS = [case for case, (_, make, _) in ARRAYS.items() if make().ndim and case != "g of conditions"]


@pytest.mark.parametrize(("case", "kind"), [*((case, "array") for case in ARRAYS), *((case, "list") for case in LISTS)])
@pytest.mark.parametrize("way", ["call", "reference"])
def test_what_is_written_later_changes_no_gradient(case: str, way: str, kind: str) -> None:
    pattern, make, other = ARRAYS[case]
    given = make() if kind == "array" else make().tolist()
    attend = MODULE[pattern]()
    run = attend if way == "call" else attend.reference
    inputs = qkv(2 if case == "q_start" else N)
    expected = gradients(run(*inputs, **{name_of(case): make()}), inputs)
    out = run(*inputs, **{name_of(case): given})
    refilled(given, other)
    for got, wanted in zip(gradients(out, inputs), expected, strict=True):
        assert torch.equal(got, wanted)
    changed = gradients(run(*inputs, **{name_of(case): given}), inputs)
    assert any(not torch.equal(a, b) for a, b in zip(changed, expected, strict=True)), "else it would show nothing"


@pytest.mark.parametrize("case", ["doc", "length", "g of conditions", "blocks", "open", "rank", "scale", "q_start"])
def test_a_tensor_that_is_written_into_is_refused_by_torch(case: str) -> None:
    """By the version of what the operator saved; float tables are among the inputs of the next test."""
    pattern, make, other = ARRAYS[case]
    given = torch.from_numpy(make())
    inputs = qkv(2 if case == "q_start" else N)
    out = MODULE[pattern]()(*inputs, **{name_of(case): given})
    given.copy_(torch.as_tensor(other).expand(given.shape))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(out, inputs)


@pytest.mark.parametrize("pattern", ["sloped", "sunk"])
def test_a_float_table_that_is_written_into_is_refused_by_torch(pattern: str) -> None:
    name = "slope" if pattern == "sloped" else "level"
    given, inputs = torch.tensor([0.5, 0.25]), qkv()
    out = MODULE[pattern]()(*inputs, **{name: given})
    given.fill_(3.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(out, inputs)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_under_compile_too(backend: str) -> None:
    """Where a graph is traced a plain copy may be made again in the backward pass: this one is not."""
    attend = MODULE.documents_of()
    torch._dynamo.reset()
    compiled = torch.compile(lambda q, k, v, doc: attend(q, k, v, doc=doc), fullgraph=True, backend=backend)
    inputs, doc = qkv(), np.arange(N) // 4
    expected = gradients(attend(*inputs, doc=doc.copy()), inputs)
    out = compiled(*inputs, doc)
    doc[:] = np.arange(N)
    for got, wanted in zip(gradients(out, inputs), expected, strict=True):
        assert torch.equal(got, wanted)
    torch._dynamo.reset()


# Arrays of every make


def views(array: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays that hold the same, laid out in other ways."""
    wide = np.repeat(array, 2)
    read_only = array.copy()
    read_only.setflags(write=False)
    return {
        "reversed": array[::-1].copy()[::-1], "every other": wide[::2], "read-only": read_only,
        "foreign": array.astype(array.dtype.newbyteorder()), "unaligned": unaligned(array),
        "a column": np.stack([array, array], 1)[:, 0], "subclass": array.view(Subclass),
    }  # fmt: skip


class Subclass(np.ndarray):
    pass


def unaligned(array: np.ndarray) -> np.ndarray:
    data = np.frombuffer(b"\0" + array.tobytes(), dtype=np.uint8).copy()
    return data[1:].view(array.dtype)


@pytest.mark.parametrize(
    "way", ["reversed", "every other", "read-only", "foreign", "unaligned", "a column", "subclass"]
)
@pytest.mark.parametrize("case", ["doc", "g", "g of conditions", "open", "rank", "slope", "level", "scale"])
def test_an_array_is_what_it_holds(case: str, way: str) -> None:
    pattern, make, _ = ARRAYS[case]
    attend, inputs = MODULE[pattern](), qkv()
    expected = attend(*inputs, **{name_of(case): make()})
    assert torch.equal(attend(*inputs, **{name_of(case): views(make())[way]}), expected)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">u4"])
@pytest.mark.parametrize("case", ["doc", "g", "blocks", "rank", "q_start"])
def test_integers_of_every_width(case: str, dtype: str) -> None:
    pattern, make, _ = ARRAYS[case]
    attend, inputs = MODULE[pattern](), qkv(2 if case == "q_start" else N)
    expected = attend(*inputs, **{name_of(case): make()})
    assert torch.equal(attend(*inputs, **{name_of(case): make().astype(dtype)}), expected)


def test_the_largest_unsigned_integers() -> None:
    attend = MODULE.documents_of()
    doc = np.array([0, 1, 2**31, 2**32 - 1] * 2, dtype=np.uint32)
    assert attend.mask(N, doc=doc).sum() == 16
    assert attend.mask(N, doc=doc.astype(np.uint64)).sum() == 16
    with pytest.raises(ValueError, match=r"^doc: holds an integer beyond 64 bits, expected an int tensor \[n\]"):
        attend.mask(N, doc=doc.astype(np.uint64) + np.uint64(2**63))


@pytest.mark.parametrize(
    ("case", "value", "message"),
    [
        ("doc", np.zeros(N).astype(object), "^doc: has dtype object, expected an int tensor"),
        ("doc", np.zeros(N).astype("U3"), "^doc: has dtype <U3"),
        ("doc", np.zeros(N).astype("M8[s]"), r"^doc: has dtype datetime64\[s\]"),
        ("doc", np.zeros(N, dtype=[("a", "i4")]), "^doc: has dtype"),
        ("doc", np.zeros(N), "^doc: has dtype float64, expected an int"),
        ("doc", np.zeros(N, dtype=bool), "^doc: has dtype bool, expected an int"),
        ("doc", np.ma.masked_array(np.zeros(N, dtype=int), mask=True), "^doc: is a masked array, expected an int"),
        (
            "slope",
            np.zeros(HEADS, dtype=np.longdouble),
            "^slope: has dtype (float128|longdouble|float96), expected a f",
        ),
        ("slope", np.zeros(HEADS, dtype=complex), "^slope: has dtype complex128"),
        ("slope", np.zeros(HEADS, dtype=int), "^slope: has dtype int64, expected a float tensor"),
        ("open", np.zeros(N, dtype=int), "^open: has dtype int64, expected a bool tensor"),
        ("g", np.array([0.5]), "^g: holds 0.5 of type float"),
        ("g", np.array(["a"]), "^g: holds 'a' of type str"),
        ("doc", torch.zeros(N, dtype=torch.uint32), "^doc: has dtype uint32, expected an int tensor"),
        ("scale", np.array(["a", "b"]), "^scale: has dtype <U1, expected a number or a tensor"),
        ("scale", np.array([True, True]), "^scale: has dtype bool, expected a number or a tensor"),
        ("scale", [0.5, "a"], "^scale: holds str, expected a number or a tensor"),
        ("q_start", np.array([3.0]), "^q_start: has dtype float64, expected integers"),
        ("q_start", np.array([3], dtype=object), "^q_start: has dtype object, expected an int or an int tensor"),
        ("q_start", [3.0], "^q_start: holds float, expected an int or an int tensor"),
        ("q_start", [[3]], "^q_start: holds list, expected an int or an int tensor"),
    ],
)
def test_other_arrays_are_refused_by_name(case: str, value: object, message: str) -> None:
    attend = MODULE[ARRAYS[case][0]]()
    for run in (attend, attend.reference):
        with pytest.raises(TypeError, match=message):
            run(*qkv(), **{case: value})


def test_numbers_of_numpy_in_lists() -> None:
    inputs = qkv()
    for case, kind in (("doc", np.int32), ("open", np.bool_), ("slope", np.float32), ("slope", np.longdouble)):
        pattern, make, _ = ARRAYS[case]
        attend, values = MODULE[pattern](), make().tolist()
        expected = attend(*inputs, **{case: values})
        assert torch.equal(attend(*inputs, **{case: [kind(value) for value in values]}), expected)
    with pytest.raises(TypeError, match=r"^doc: holds np\.True_ of type bool, expected an int tensor"):
        MODULE.documents_of()(*inputs, doc=[np.bool_(True)] * N)


@pytest.mark.parametrize("number", [np.int8(3), np.uint64(3), np.int64(3), np.array(3)])
def test_integers_of_numpy_for_numbers(number: Any) -> None:
    attend, (q, k, v) = MODULE.plain(), qkv(4)
    assert torch.equal(attend(q, k, v, q_start=number), attend(q, k, v, q_start=3))
    for run in (attend, attend.reference):
        assert torch.equal(run(q, k, v, dropout=0.5, seed=number), run(q, k, v, dropout=0.5, seed=3))
        assert torch.equal(run(q, k, v, scale=number), run(q, k, v, scale=3))
    assert torch.equal(attend.mask(number), attend.mask(3))
    assert attend.plan(number, number, heads=number).pairs == attend.plan(3, 3, heads=3).pairs
    assert MODULE.plain()(q, k, v, dropout=number * 0).isfinite().all()


@pytest.mark.parametrize("number", [np.float16(0.5), np.float32(0.5), np.float64(0.5), np.array(0.5)])
def test_floats_of_numpy_for_numbers(number: Any) -> None:
    attend, inputs = MODULE.plain(), qkv()
    assert torch.equal(attend(*inputs, scale=number), attend(*inputs, scale=0.5))
    assert torch.equal(attend(*inputs, dropout=number, seed=1), attend(*inputs, dropout=0.5, seed=1))


def test_conditions_are_no_numbers() -> None:
    for name in ("scale", "dropout", "seed", "q_start"):
        for value in (True, np.bool_(True), np.array(True)):
            with pytest.raises(TypeError, match=f"^{name}: is "):
                MODULE.plain()(*qkv(), **{name: value})


@pytest.mark.parametrize(
    "seed", [2**63 - 1, 2**63, 2**64 + 5, 2**200, -1, -(2**63), -(2**70) - 3, np.uint64(2**64 - 1)]
)
def test_a_seed_counts_by_its_remainder(seed: int) -> None:
    attend, inputs = MODULE.plain(), qkv()
    for run in (attend, attend.reference):
        out = run(*inputs, dropout=0.5, seed=seed)
        assert torch.equal(out, run(*inputs, dropout=0.5, seed=int(seed) % 2**63))
        assert not torch.equal(out, run(*inputs, dropout=0.5, seed=int(seed) % 2**63 ^ 1))


# Scales that are no finite number

ENDLESS = (math.nan, math.inf, -math.inf, np.float32("inf"), np.array(math.nan), 10**400, -(10**400), 1e39)


@pytest.mark.parametrize("scale", ENDLESS, ids=lambda scale: f"{type(scale).__name__} {scale!s:.8}")
def test_an_endless_scale_is_refused(scale: Any) -> None:
    attend = MODULE.plain()
    for run in (attend, attend.reference):
        with pytest.raises(ValueError, match=r"^scale: is (nan|-?inf|1e\+39), expected a finite number"):
            run(*qkv(), scale=scale)
        with pytest.raises(ValueError, match=r"^scale: holds (nan|-?inf|1e\+39), expected a finite number"):
            run(*qkv(), scale=[0.5, scale])
    with pytest.raises(ValueError, match=r"^scale: holds nan,"):
        attend(*qkv(), scale=np.array([0.5, math.nan], dtype=np.float32))


def test_what_float64_can_hold_it_may() -> None:
    q, k, v = (x.detach().double() * 1e-39 for x in qkv())
    assert MODULE.plain()(q, k, v, scale=1e39).isfinite().all()


def test_an_endless_scale_of_the_text_is_refused_with_its_place() -> None:
    attend = attnc.loads("attention a { mask = causal  scale = 1 / head }", "text.attn").a()
    for run in (attend, attend.reference):
        with pytest.raises(
            ValueError, match=r"(?s)^scale: is inf for head 0, expected a finite number\n --> text\.attn:1"
        ):
            run(*qkv())
    huge = attnc.loads("attention a { mask = causal  scale = 1e39 }").a()
    with pytest.raises(ValueError, match=r"^scale: is 1e\+39 for head 0"):
        huge(*qkv())
    q, k, v = (x.detach().double() for x in qkv())
    assert huge(q, k, v).isfinite().all()


# Tensors that cannot be read by their strides


def unreadable() -> dict[str, tuple[Callable[[Tensor], Tensor], str]]:
    return {
        "nested": (lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged), "is a nested tensor"),
        "sparse": (lambda x: x.to_sparse(), "is a tensor of layout sparse_coo"),
        "compressed": (lambda x: x.to_sparse_csr(), "is a tensor of layout sparse_csr"),
    }


@pytest.mark.parametrize("kind", unreadable())
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_nested_and_sparse_tensors_are_refused_by_name(kind: str) -> None:
    make, what = unreadable()[kind]
    q, k, v = (x.detach() for x in qkv())
    attend = MODULE.plain()
    for run in (attend, attend.reference):
        for place, name in enumerate("qkv"):
            if (kind, name) == ("nested", "q"):  # such a call is of sequences: tests/attnc/test_packing.py
                continue
            given = [q, k, v]
            given[place] = make(given[place] if kind != "compressed" else given[place].reshape(-1, 4))
            with pytest.raises(TypeError, match=f"^{name}: {what}, expected a dense one: pad it"):
                run(*given)
        for pattern, name, table in (
            ("documents_of", "doc", torch.ones(1, N).int()), ("sloped", "slope", torch.ones(1, HEADS)),
        ):  # fmt: skip
            odd = MODULE[pattern]()
            with pytest.raises(TypeError, match=f"(?s)^{name}: {what}, expected a dense one: an? .* --> "):
                (odd if run is attend else odd.reference)(q, k, v, **{name: make(table)})
        with pytest.raises(TypeError, match=f"^scale: {what}, expected a number or a tensor"):
            run(q, k, v, scale=make(torch.ones(1, HEADS)))
        with pytest.raises(TypeError, match=f"^q_start: {what}, expected an int or an int tensor"):
            run(q, k, v, q_start=make(torch.ones(1, 1).int()))
