"""What does not fit a call is refused by name: the parameter, what it was, and what was expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime.base.configuration import settings

TEXT = """
pattern near = abs(q - k) <= 4
pattern around(g: tokens) = near or k in g
pattern documents_of(doc: int[token]) = doc[q] == doc[k]
pattern pairs_of(a: int[token, span], b: int[span]) = a[q, 0] == b[0]
attention sloped(slope: float[head]) { mask = k <= q   score = s + slope[head] * (k - q) }
attention reading(bias: float[4]) { mask = k <= q   score = s + bias[min(q - k, 3)] }
"""
MODULE = attnc.loads(TEXT)


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    with settings.override(backend="blocked"):
        yield


def qkv(**changed: Any) -> dict[str, Any]:
    return {"q": torch.zeros(2, 4, 6, 8), "k": torch.zeros(2, 2, 7, 8), "v": torch.zeros(2, 2, 7, 5), **changed}


FAULTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "q is no tensor": (qkv(q=[1.0]), TypeError, "^q: is list, expected a tensor"),
    "v is None": (qkv(v=None), TypeError, "^v: is NoneType, expected a tensor"),
    "integers": (qkv(k=torch.zeros(2, 2, 7, 8).int()), TypeError, "^k: has dtype int32, expected float32"),
    "integer queries": (qkv(q=torch.zeros(2, 4, 6, 8).long()), TypeError, "^q: has dtype int64"),
    "complex": (qkv(q=torch.zeros(2, 4, 6, 8, dtype=torch.complex64)), TypeError, "^q: has dtype complex64"),
    "float8": (
        {name: x.to(torch.float8_e4m3fn) for name, x in qkv().items()},
        TypeError,
        "^q: has dtype float8_e4m3fn, expected float32, bfloat16, float16 or float64",
    ),
    "scale of float8": (
        qkv(scale=torch.ones(4).to(torch.float8_e5m2)),
        TypeError,
        "^scale: has dtype float8_e5m2, expected a float tensor: float32, bfloat16, float16 or float64",
    ),
    "least start": (qkv(q_start=-(2**63)), ValueError, "^q_start: is -9223372036854775808, expected a position, 0 or"),
    "mixed dtypes": (
        qkv(v=torch.zeros(2, 2, 7, 5).half()),
        TypeError,
        "^v: has dtype float16, expected float32, as q has",
    ),
    "meta": (qkv(q=torch.zeros(2, 4, 6, 8, device="meta")), ValueError, "^q: is on meta, expected cpu or cuda"),
    "mixed devices": (qkv(k=torch.zeros(2, 2, 7, 8, device="meta")), ValueError, "^k: is on meta, expected cpu"),
    "rank": (qkv(q=torch.zeros(4, 6, 8)), ValueError, r"^q: has shape \[4, 6, 8\], expected 4 dimensions"),
    "batch of k": (
        qkv(k=torch.zeros(1, 2, 7, 8)),
        ValueError,
        r"^k: has shape \[1, 2, 7, 8\], expected 2 \(the batch of q\)",
    ),
    "batch of v": (qkv(v=torch.zeros(3, 2, 7, 5)), ValueError, r"^v: .* expected 2 \(the batch of q\) in dimension 0"),
    "heads of v": (qkv(v=torch.zeros(2, 4, 7, 5)), ValueError, r"^v: .* expected 2 \(the heads of k\) in dimension 1"),
    "tokens of v": (
        qkv(v=torch.zeros(2, 2, 6, 5)),
        ValueError,
        r"^v: .* expected 7 \(the tokens of k\) in dimension 2",
    ),
    "features of k": (
        qkv(k=torch.zeros(2, 2, 7, 5)),
        ValueError,
        r"^k: .* expected 8 \(the features of q\) in dimension 3",
    ),
    "no features": (
        qkv(q=torch.zeros(2, 4, 6, 0), k=torch.zeros(2, 2, 7, 0)),
        ValueError,
        "^q: .* expected at least one feature",
    ),
    "heads": (qkv(q=torch.zeros(2, 3, 6, 8)), ValueError, "^q: has 3 heads, expected a multiple of the 2 heads of k"),
    "no key heads": (qkv(k=torch.zeros(2, 0, 7, 8), v=torch.zeros(2, 0, 7, 5)), ValueError, "multiple of the 0 heads"),
    "scale of text": (qkv(scale="1"), TypeError, "^scale: is str, expected a number or a tensor"),
    "scale for other heads": (
        qkv(scale=torch.ones(3)),
        ValueError,
        r"^scale: has shape \[3\], expected a number or \[4\]",
    ),
    "scale of integers": (qkv(scale=torch.ones(4).int()), TypeError, "^scale: has dtype int32, expected a float"),
    "learned scale": (qkv(scale=torch.ones(4, requires_grad=True)), ValueError, "^scale: requires a gradient"),
    "negative start": (qkv(q_start=-1), ValueError, "^q_start: is -1, expected a position, 0 or more"),
    "negative starts": (qkv(q_start=torch.tensor([3, -2])), ValueError, "^q_start: is -2, expected a position"),
    "fractional start": (qkv(q_start=1.5), TypeError, "^q_start: is float, expected an int"),
    "bool start": (qkv(q_start=True), TypeError, "^q_start: is bool, expected an int"),
    "float starts": (qkv(q_start=torch.ones(2)), TypeError, "^q_start: has dtype float32, expected integers"),
    "starts of another batch": (
        qkv(q_start=torch.ones(3).int()),
        ValueError,
        r"^q_start: has shape \[3\], expected .*\[2\]",
    ),
    "certain dropout": (qkv(dropout=1.0), ValueError, "^dropout: is 1.0, expected a probability"),
    "negative dropout": (qkv(dropout=-0.1), ValueError, "^dropout: is -0.1"),
    "undefined dropout": (qkv(dropout=float("nan")), ValueError, "^dropout: is nan"),
    "dropout of text": (qkv(dropout="0.1"), TypeError, "^dropout: is str, expected a number"),
    "seed": (qkv(dropout=0.5, seed=1.5), TypeError, "^seed: is float, expected an int"),
    "endless scale": (qkv(scale=float("nan")), ValueError, "^scale: is nan, expected a finite number"),
    "far start": (
        qkv(q_start=2**63),
        ValueError,
        r"^q_start: is 9223372036854775808, expected a position below 2\*\*62",
    ),
    "nested": (
        qkv(k=torch.nested.nested_tensor([torch.zeros(4, 6, 8)] * 2, layout=torch.jagged)),
        TypeError,
        "^k: is a nested tensor, expected a dense one: pad it, and leave the padding out by the pattern",
    ),
    "unknown table": (qkv(g={0}), TypeError, "^g: near has no such table; expected no tables"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["call", "reference"])
def test_faults_of_a_call(fault: str, way: str) -> None:
    arguments, error, message = FAULTS[fault]
    attend = MODULE.near()
    run: Callable[..., Tensor] = attend if way == "call" else attend.reference
    with pytest.raises(error, match=message):
        run(**arguments)


def test_a_call_after_a_fault_is_sound() -> None:
    attend = MODULE.documents_of()
    with pytest.raises(ValueError, match="doc"):
        attend(**qkv(), doc=torch.zeros(3).int())
    assert attend(**qkv(), doc=torch.zeros(7).int()).shape == (2, 4, 6, 5)


def test_faults_of_a_mask() -> None:
    with pytest.raises(TypeError, match=r"^n: is float, expected an int"):
        MODULE.near().mask(3.0)
    with pytest.raises(ValueError, match=r"^n: is -1, expected 0 or more"):
        MODULE.near().mask(-1)
    with pytest.raises(ValueError, match=r"^q_start: is 9, expected at most n = 8"):
        MODULE.near().mask(8, q_start=9)
    with pytest.raises(ValueError, match=r"^m: is not given, and q_start differs"):
        MODULE.near().mask(8, q_start=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"^doc: has shape \[7\], expected 8 \(n\)"):
        MODULE.documents_of().mask(8, doc=torch.zeros(7).int())


def test_tables_are_given_by_name() -> None:
    doc = torch.zeros(7).int()
    q, k, v = qkv().values()
    attend = MODULE.documents_of()
    for run in (attend, attend.reference):
        with pytest.raises(
            TypeError, match=r"(?s)^doc: is given by position, expected by name: .*doc=….* --> <text>:4"
        ):
            run(q, k, v, doc)
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'v'"):
            run(q, k)
    for ask in (attend.mask, attend.plan):
        with pytest.raises(TypeError, match=r"(?s)^doc: is given by position, expected by name: "):
            ask(7, 7, doc)
        with pytest.raises(TypeError, match=r"^m: is Tensor, expected an int; tables are given by name: doc="):
            ask(7, doc)
    with pytest.raises(TypeError, match=r"^near: got 1 more by position than q, k, v, expected nothing more"):
        MODULE.near()(q, k, v, None)
    pairs = MODULE.pairs_of()
    with pytest.raises(TypeError, match=r"^a: is given by position, .*a=…, b=…\)"):
        pairs(q, k, v, doc, doc)


@pytest.mark.parametrize("given", ["position", "name", "constants too"])
def test_a_declaration_that_is_called_before_it_is_bound(given: str) -> None:
    module = attnc.loads(
        "pattern cw(size: int, far: int = 3) = causal_window(size * far)\n"
        "pattern d(doc: int[token]) = doc[q] == doc[k]\n"
        "model m(g: tokens) { layers = 1 heads = 4 layer * = sees_all(g) }"
    )
    tensors = qkv()
    expected = {
        "cw": "cw: got q, k, v, expected its constants before them: cw(size=…, far=3)(q, k, v)",
        "d": "d: got q, k, v, expected empty brackets before them: d()(q, k, v, doc=…)",
        "m": "m: got q, k, v, expected empty brackets before them: m().layers[0](q, k, v, g=…)",
    }
    for name, message in expected.items():
        positional = {"name": [], "position": [*tensors.values()], "constants too": [3, *tensors.values()]}[given]
        with pytest.raises(TypeError) as caught:
            module[name](*positional, **(tensors if given == "name" else {}))
        assert str(caught.value) == message


def test_a_model_is_not_called() -> None:
    model = attnc.loads("model m { layers = 1 heads = 4 layer * = causal }").m()
    with pytest.raises(
        TypeError, match=r"^m: is a model, expected one of its layers: m\(…\)\.layers\[0\]\(q, k, v, …\)"
    ):
        model(**qkv())
