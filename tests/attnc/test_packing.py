"""Packed sequences: offsets as a table of documents, and nested tensors, beside each sequence for itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nested import nested_tensor_from_jagged

import attnc
from attnc.packing.restarted import restarted
from attnc.runtime.base import settings

TEXT = """
pattern packed(doc: int[token]) = causal and doc[q] == doc[k]
pattern near = causal_window(6)
pattern apart = window(5, 3)
pattern chunks = chunked(4)
pattern first_two = causal and (causal_window(3) or k < 2)
pattern around(g: tokens) = window(4) or q in g or k in g
pattern prefix(length: int[]) = causal or k < length
pattern last = k == n - 1 or causal_window(3)
pattern twice = causal_window(3) + causal_window(5)
pattern twice_from_first = causal_window(3) + (k < 2)
attention sloped(slope: float[head]) { mask = causal   score = s + slope[head] * (k - q) }
attention biased(bias: float[head, 41]) { mask = causal   score = s + bias[head, k - q + 40] }
attention sunk(logit: float[head]) { mask = causal_window(4)   sink = logit[head] + 0.1 * q }
pattern labelled(label: int[token]) = label[q] == label[k]
pattern limited(limit: int[query]) = k <= limit[q]
"""
MODULE = attnc.loads(TEXT, name="packing")
HEADS, KV_HEADS, DIM, VALUE_DIM = 4, 2, 8, 4
LENGTHS = (5, 0, 9, 1, 33, 0, 2)
# Whether positions among all tokens do, as only differences of positions matter.
NATURAL = {
    "near": True, "apart": True, "chunks": False, "first_two": False, "around": False, "prefix": False, "last": False,
    "twice": True, "twice_from_first": False, "sloped": True, "biased": True, "sunk": False,
}  # fmt: skip


@pytest.fixture(params=["cpp", "blocked"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with settings.override(backend=request.param, optimisation=0):
        yield request.param


def tables_of(name: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    made: dict[str, dict[str, Any]] = {
        "around": {"g": {0, 3}},
        "prefix": {"length": 3},
        "sloped": {"slope": torch.randn(HEADS, dtype=torch.float64, generator=generator)},
        "biased": {"bias": torch.randn(HEADS, 41, dtype=torch.float64, generator=generator)},
        "sunk": {"logit": torch.randn(HEADS, dtype=torch.float64, generator=generator)},
    }
    return made.get(name, {})


def offsets_of(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *np.cumsum(lengths, dtype=int).tolist()])


class Batch:
    """Values ``[tokens, heads, features]`` of packed sequences that require gradients, and the tables of a call."""

    def __init__(self, name: str, lengths: tuple[int, ...], key_lengths: tuple[int, ...] | None = None) -> None:
        generator = torch.Generator().manual_seed(4)
        self.offsets = offsets_of(lengths)
        self.keys = self.offsets if key_lengths is None else offsets_of(key_lengths)
        rows, keys = int(self.offsets[-1]), int(self.keys[-1])
        shapes = (rows, HEADS, DIM), (keys, KV_HEADS, DIM), (keys, KV_HEADS, VALUE_DIM)
        self.values = [
            torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes
        ]
        self.tables = {
            its: x.clone().requires_grad_() if isinstance(x, Tensor) else x for its, x in tables_of(name).items()
        }

    def nested(self, transposed: bool = True) -> list[Tensor]:
        """q, k and v ``[batch, heads, tokens, features]``, in either layout of memory."""
        found = []
        for x, offsets in zip(self.values, (self.offsets, self.keys, self.keys), strict=True):
            if transposed:
                found.append(nested_tensor_from_jagged(x, offsets).transpose(1, 2))
            else:
                found.append(nested_tensor_from_jagged(x.transpose(0, 1).contiguous(), offsets, jagged_dim=2))
        return found

    def each(
        self, attend: attnc.Attention, starts: list[int] | None = None, split: bool = False
    ) -> tuple[Tensor, Tensor]:
        """out and lse of each sequence for itself, by the dense definition, one after the other."""
        found = []
        for number in range(len(self.offsets) - 1):
            q, k, v = (
                x[offsets[number] : offsets[number + 1]].transpose(0, 1)[None]
                for x, offsets in zip(self.values, (self.offsets, self.keys, self.keys), strict=True)
            )
            tables = {its: x[number : number + 1] if split else x for its, x in self.tables.items()}
            start = 0 if starts is None else starts[number]
            found.append(attend.reference(q, k, v, q_start=start, return_lse=True, **tables))
        return torch.cat([out for out, _ in found], 2), torch.cat([lse for _, lse in found], 2)

    def gradients(self, out: Tensor, lse: Tensor) -> list[Tensor]:
        generator = torch.Generator().manual_seed(5)
        weights = [torch.randn(x.shape, dtype=torch.float64, generator=generator) for x in (out, lse)]
        lse = torch.where(lse == -torch.inf, 0.0, lse)  # of rows that keep nothing
        inputs = [*self.values, *(x for x in self.tables.values() if isinstance(x, Tensor) and x.requires_grad)]
        return list(torch.autograd.grad([out, lse], inputs, weights, allow_unused=True))


def check_batch(attend: attnc.Attention, batch: Batch, transposed: bool = True, **given: Any) -> None:
    q, k, v = batch.nested(transposed)
    out, lse = attend(q, k, v, return_lse=True, **given, **batch.tables)
    assert out.is_nested
    assert out.shape == (*q.shape[:3], VALUE_DIM)
    assert lse.shape == q.shape[:3]
    assert out.offsets() is q.offsets()
    expected = batch.each(attend, given.get("q_start"))
    found = out.values()[None], lse.values()[None]
    for own, right in zip(found, expected, strict=True):
        torch.testing.assert_close(own, right)
    for own, right in zip(batch.gradients(*found), batch.gradients(*expected), strict=True):
        torch.testing.assert_close(own, right)
    dense = attend.reference(q, k, v, **given, **batch.tables)
    torch.testing.assert_close(dense.values()[None], expected[0])


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("name", NATURAL)
def test_each_sequence_attends_within_itself(backend: str, name: str, transposed: bool) -> None:
    attend = MODULE[name]()
    assert restarted(attend._bound).natural is NATURAL[name]
    before = attnc.launches().get(f"{backend}.forward", 0)
    check_batch(attend, Batch(name, LENGTHS), transposed)
    made = attnc.launches()[f"{backend}.forward"] - before
    assert made == (5 if name == "biased" else 1), "one call for all, unless a table's length counts positions"


@pytest.mark.parametrize("name", ["near", "chunks", "last", "sunk"])
def test_sequences_of_other_lengths_of_keys(backend: str, name: str) -> None:
    check_batch(MODULE[name](), Batch(name, (3, 0, 7), (5, 2, 9)))
    check_batch(MODULE[name](), Batch(name, (3, 1, 7), (5, 2, 9)), q_start=[2, 1, 2])


def test_long_sequences_have_their_own_calls(backend: str) -> None:
    """Where positions begin again, and closed forms would be lost to tables."""
    before = attnc.launches().get(f"{backend}.forward", 0)
    check_batch(MODULE.chunks(), Batch("chunks", (1100, 1000)))
    assert attnc.launches()[f"{backend}.forward"] - before == 2


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0), (7,)])
def test_few_sequences(backend: str, lengths: tuple[int, ...]) -> None:
    attend, batch = MODULE.near(), Batch("near", lengths)
    if sum(lengths):
        check_batch(attend, batch)
        return
    q, k, v = batch.nested()
    out = attend(q, k, v)
    assert out.values().shape == (HEADS, 0, VALUE_DIM)
    assert out.shape[0] == len(lengths)


def test_tables_with_an_entry_for_each_sequence(backend: str) -> None:
    attend, batch = MODULE.prefix(), Batch("prefix", LENGTHS)
    batch.tables = {"length": torch.arange(len(LENGTHS))}
    out = attend(*batch.nested(), **batch.tables)
    torch.testing.assert_close(out.values()[None], batch.each(attend, split=True)[0])
    batch.tables = {"length": torch.tensor([3])}
    out = attend(*batch.nested(), **batch.tables)
    torch.testing.assert_close(out.values()[None], batch.each(attend)[0])


def test_dropout_is_that_of_its_seed(backend: str) -> None:
    for lengths in (LENGTHS, (1100, 1000)):  # in one call, and in one for each
        q, k, v = Batch("chunks", lengths).nested()
        first, again, other = (MODULE.chunks()(q, k, v, dropout=0.5, seed=seed).values() for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        torch.manual_seed(0)
        drawn = [MODULE.chunks()(q, k, v, dropout=0.5).values() for _ in range(2)]
        assert not torch.equal(*drawn)


def test_compiled_code_breaks_off_for_nested_tensors() -> None:
    attend, batch = MODULE.near(), Batch("near", LENGTHS)

    def doubled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found: Tensor = attend(q * 2, k, v)
        return found * 3

    graphs: list[torch.fx.GraphModule] = []

    def noted(graph: torch.fx.GraphModule, _: object) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(doubled, backend=noted)
    nested = [x.detach() for x in batch.nested()]
    with settings.override(backend="blocked"):
        torch.testing.assert_close(compiled(*nested).values(), doubled(*nested).values())
    assert len(graphs) == 2, "what comes before the call, and what comes after"


def test_another_sink_and_scale(backend: str) -> None:
    attend, batch = MODULE.sunk(), Batch("sunk", LENGTHS)
    q, k, v = batch.nested()
    for given in ({"with_sink": False}, {"scale": 0.5}):
        own, right = (call(q, k, v, **given, **batch.tables).values() for call in (attend, attend.reference))
        torch.testing.assert_close(own, right)


def test_offsets_become_a_table_of_documents(backend: str) -> None:
    lengths = (5, 0, 9, 1)
    batch = Batch("near", lengths)
    doc = attnc.documents(batch.offsets.int())
    assert doc.dtype == torch.int32
    assert doc.tolist() == [0] * 5 + [2] * 9 + [3]
    q, k, v = (x.transpose(0, 1)[None] for x in batch.values)
    packed, causal = MODULE.packed(), attnc.load("causal").causal()
    out, lse = packed(q, k, v, doc=doc, return_lse=True)
    expected = batch.each(causal)
    for own, right in zip((out, lse), expected, strict=True):
        torch.testing.assert_close(own, right)
    for own, right in zip(batch.gradients(out, lse), batch.gradients(*expected), strict=True):
        torch.testing.assert_close(own, right)


@pytest.mark.parametrize(
    "given", [[0, 2, 2, 5], (0, 2, 2, 5), np.array([0, 2, 2, 5], dtype=np.uint16), torch.tensor([0, 2, 2, 5])]
)
def test_what_offsets_may_be(given: Any) -> None:
    for n in (None, 5):
        assert attnc.documents(given, n).tolist() == [0, 0, 2, 2, 2]
    strided = torch.tensor([0, 9, 2, 9, 2, 9, 5], dtype=torch.int32)[::2]
    assert attnc.documents(strided).tolist() == [0, 0, 2, 2, 2]
    assert attnc.documents([0]).tolist() == []


def test_offsets_while_a_call_is_traced() -> None:
    compiled = torch.compile(attnc.documents, fullgraph=True, backend="eager")
    for offsets, n in ((torch.tensor([0, 2, 5]), 5), (torch.tensor([0, 3, 3, 9]), 9)):
        assert torch.equal(compiled(offsets, n), attnc.documents(offsets, n))


OFFSETS: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "text": (("0",), TypeError, "^cu_seqlens: is str, expected the offsets of packed sequences"),
    "floats": (([0.0, 2.0],), TypeError, "^cu_seqlens: has dtype float64, expected the offsets"),
    "bools": ((torch.tensor([False, True]),), TypeError, "^cu_seqlens: has dtype bool, expected the offsets"),
    "batch": ((torch.zeros(2, 3).int(),), ValueError, r"^cu_seqlens: has shape \[2, 3\], expected the offsets"),
    "none": (([],), ValueError, r"^cu_seqlens: has shape \[0\], expected the offsets"),
    "ragged": (([[0], [1, 2]],), ValueError, "^cu_seqlens: cannot be read as an array, expected the offsets"),
    "sparse": ((torch.zeros(3).int().to_sparse(),), TypeError, "^cu_seqlens: is a tensor of layout sparse_coo"),
    "begins later": (([1, 2],), ValueError, "^cu_seqlens: begins with 1, expected 0"),
    "falls": (([0, 4, 2, 5],), ValueError, "^cu_seqlens: falls from 4 to 2 at entry 2, expected offsets that never"),
    "ends early": (([0, 4], 5), ValueError, "^cu_seqlens: ends with 4, expected 5, the number of packed tokens"),
    "count of text": (([0, 4], "4"), TypeError, "^n: is str, expected an int, the number of packed tokens"),
    "count below 0": (([0, 4], -4), ValueError, "^n: is -4, expected the number of packed tokens, 0 or more"),
}


@pytest.mark.parametrize("fault", OFFSETS)
def test_offsets_that_do_not_fit(fault: str) -> None:
    given, kind, message = OFFSETS[fault]
    with pytest.raises(kind, match=message):
        attnc.documents(*given)


def test_offsets_given_to_a_call_say_what_takes_their_place() -> None:
    q, k, v = (torch.zeros(1, 1, 4, 8) for _ in range(3))
    with pytest.raises(TypeError, match=r"^cu_seqlens: .*attnc\.documents\(cu_seqlens\)"):
        MODULE.near()(q, k, v, cu_seqlens=torch.tensor([0, 4]))


def refused(name: str, kind: type[Exception], message: str, *tensors: Tensor, **given: Any) -> None:
    attend = MODULE[name]()
    for call in (attend, attend.reference):
        with pytest.raises(kind, match=message):
            call(*tensors, **given)


def test_nested_tensors_that_do_not_fit() -> None:
    q, k, v = (x.detach() for x in Batch("near", (3, 4)).nested())
    other, more = Batch("near", (4, 3)).nested(), Batch("near", (3, 4, 0)).nested()
    refused("near", TypeError, "^k: is dense, expected a nested tensor of layout torch.jagged", q, q.values()[None], v)
    refused("near", TypeError, "^v: is list, expected a nested tensor, as q is", q, k, [])  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against this layout
        strided = torch.nested.nested_tensor([torch.zeros(2, 3, 8), torch.zeros(2, 4, 8)], layout=torch.strided)
    refused("near", TypeError, "^q: is a nested tensor of layout strided, expected .* torch.jagged", strided, k, v)
    message = r"^k: has shape \[2, \*, 2, 8\], expected \[batch, heads, tokens, features\], .*transpose\(1, 2\)\?"
    refused("near", ValueError, message, q, k.transpose(1, 2), v)
    flat = nested_tensor_from_jagged(torch.zeros(7, 8), offsets_of((3, 4)))
    refused("near", ValueError, r"^q: has shape \[2, \*, 8\], expected \[batch, heads, tokens, features\]", flat, k, v)
    refused("near", ValueError, "^v: has sequences of other lengths than those of k", q, k, other[2])
    refused("near", ValueError, "^k: has 3 sequences, expected 2, as q has", q, more[1], more[2])
    gaps = nested_tensor_from_jagged(torch.zeros(7, 4, 8), offsets_of((3, 4)), torch.tensor([2, 4])).transpose(1, 2)
    refused("near", ValueError, "^q: has gaps between its sequences, expected none", gaps, k, v)


def test_arguments_that_mean_nothing_beside_nested_tensors() -> None:
    q, k, v = (x.detach() for x in Batch("near", (3, 4)).nested())
    refused("near", ValueError, "^k_start: is given, expected none beside nested q, k and v", q, k, v, k_start=1)
    refused("near", ValueError, "^n: is given, expected none beside nested q, k and v", q, k, v, n=7)
    refused("near", ValueError, r"^q_start: has shape \[3\], expected an int or \[2\]", q, k, v, q_start=[0, 1, 2])
    message = r"^label: has an entry for each token, expected no such table .*attnc\.documents"
    refused("labelled", ValueError, message, q, k, v, label=torch.zeros(7).int())
    refused("limited", ValueError, "^limit: has an entry for each query", q, k, v, limit=torch.zeros(7).int())
    message = r"^length: has a batch of 3, expected 2, one for each sequence"
    refused("prefix", ValueError, message, q, k, v, length=torch.tensor([1, 2, 3]))
