"""Derivatives as expressions, against torch's own of the same expressions: every function, and the kinks of each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.attentions import Table
from attnc.compiler.ir.derivatives import derivative, reads
from attnc.compiler.ir.expressions import LOGIT, Const, Entry, Expr
from attnc.compiler.oracle.interpreter import Environment, TableValues, interpret
from attnc.runtime.eager.torch_arrays import TorchArrays

W, V = Entry("0", (), "float"), Entry("1", (), "float")
TABLES = {"0": Table("w", "float", ()), "1": Table("v", "float", ())}
# Logits with both tables' entries, their opposites and 0 among them: there minima tie, and choices change.
LOGITS = torch.tensor([-3.0, -1.5, -0.75, -0.25, 0.0, 0.25, 0.5, 0.75, 1.5, 2.0], dtype=torch.float64)


def c(value: float) -> Const:
    return Const(value)


SQUARE = f.mul(LOGIT, LOGIT)
POSITIVE = f.add(SQUARE, c(0.5))
EXPRESSIONS: dict[str, Expr] = {
    "the logit": LOGIT,
    "an entry": W,
    "a constant": c(2.0),
    "an integer": f.to_float(c(3)),
    "a sum": f.add(LOGIT, W, c(1.0), LOGIT),
    "a difference": f.sub(f.mul(c(2.0), LOGIT), W),
    "the opposite of a difference": f.neg(f.sub(W, LOGIT)),
    "what is taken from a constant": f.sub(c(1.0), LOGIT),
    "a square": SQUARE,
    "a product": f.mul(f.mul(W, LOGIT), f.add(V, LOGIT)),
    "a quotient by an entry": f.div(LOGIT, W),
    "a quotient by the logit": f.div(W, POSITIVE),
    "a quotient of both": f.div(f.add(LOGIT, W), f.add(POSITIVE, V)),
    "exp": f.function("exp", f.mul(W, LOGIT)),
    "log": f.function("log", f.mul(W, POSITIVE)),
    "tanh": f.function("tanh", f.mul(W, LOGIT)),
    "sqrt": f.function("sqrt", f.mul(W, POSITIVE)),
    "sigmoid": f.function("sigmoid", f.mul(W, LOGIT)),
    "a cap": f.mul(W, f.function("tanh", f.div(LOGIT, W))),
    "abs": f.absolute(LOGIT),
    "abs of a difference": f.mul(V, f.absolute(f.sub(LOGIT, W))),
    "min": f.minimum(LOGIT, W),
    "max": f.maximum(W, LOGIT),
    "min of three": f.minimum(LOGIT, W, V),
    "max of three": f.maximum(f.neg(LOGIT), W, f.mul(V, LOGIT)),
    "min of an expression with itself": f.minimum(SQUARE, f.mul(W, LOGIT), c(0.25)),
    "a choice": f.choose(f.less(LOGIT, W), f.mul(V, SQUARE), f.mul(W, LOGIT)),
    "a choice beside a choice": f.add(f.choose(f.less_equal(W, LOGIT), W, LOGIT), f.choose(f.less(V, LOGIT), V, W)),
}


def value(expr: Expr, logit: Tensor, w: Tensor, v: Tensor) -> Tensor:
    arrays = TorchArrays(torch.float64, torch.device("cpu"))
    tables = {name: TableValues(TABLES[name], held) for name, held in (("0", w), ("1", v))}
    found: Tensor = interpret(expr, Environment(arrays, {}, torch.zeros(1), torch.zeros(1), tables, logit))
    return found.expand(logit.shape)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_derivatives_are_torchs(name: str) -> None:
    expr = EXPRESSIONS[name]
    logit = LOGITS.reshape(1, 1, 1, -1).clone().requires_grad_()
    w, v = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.75, 1.5))
    result = value(expr, logit, w, v)
    pull = torch.linspace(0.5, 2.0, len(LOGITS), dtype=torch.float64).reshape(logit.shape)
    inputs = (logit, w, v)
    if result.requires_grad:
        expected = torch.autograd.grad((result * pull).sum(), inputs, materialize_grads=True, allow_unused=True)
    else:
        expected = tuple(map(torch.zeros_like, inputs))
    with torch.no_grad():
        slopes = [value(derivative(expr, variable), *inputs) * pull for variable in (LOGIT, W, V)]
    for slope, wanted in zip((slopes[0], slopes[1].sum(), slopes[2].sum()), expected, strict=True):
        torch.testing.assert_close(slope, wanted, rtol=1e-12, atol=1e-12)


def test_what_is_not_read_has_no_slope() -> None:
    for expr in EXPRESSIONS.values():
        for variable in {W, V, Entry("2", (), "float")} - set(reads(expr)):
            assert derivative(expr, variable) == Const(0.0)
    assert set(reads(EXPRESSIONS["a choice"])) == {W, V}, "what its condition reads, too"
    assert reads(EXPRESSIONS["a choice"], "1") == (V,)
