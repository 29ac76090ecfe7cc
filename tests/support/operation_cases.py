"""Functions of the table of operations as random programs and kernels are given them: a new one is tried at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import reduce
from typing import TypeVar

import torch
from torch import Tensor

from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import LOGIT, Const, Expr, K, Q
from attnc.compiler.ir.operations import FUNCTIONS, Op, Operation
from attnc.runtime.eager.torch_arrays import TorchArrays

OPAQUE: tuple[Operation, ...] = tuple(function for function in FUNCTIONS.values() if function.opaque is not None)
OF_FLOATS: tuple[Operation, ...] = tuple(function for function in FUNCTIONS.values() if function.of_floats)
ARRAYS = TorchArrays(torch.float64, torch.device("cpu"))

Argument = TypeVar("Argument")


def an_opaque(draw: random.Random) -> Operation:
    """One of them; of one alone nothing is drawn."""
    return OPAQUE[0] if len(OPAQUE) == 1 else draw.choice(OPAQUE)


def taken(function: Operation, arguments: Sequence[Argument]) -> Sequence[Argument]:
    """As many of some arguments as a function takes, the last ones."""
    most = function.arity[1]
    return arguments if most is None else arguments[-most:]


def _narrow(function: Operation) -> bool:
    """Whether a function of floats takes numbers above 1 only, of those that are tried here."""
    return function.domain is not None and not all(map(function.domain.contains, (-8.0, 0.0, 8.0)))


def score_of_all() -> Expr:
    """The sum of every function of floats, of the logit."""
    wide = constructors.mul(LOGIT, Const(0.25))
    above = constructors.add(constructors.absolute(LOGIT), Const(1.5))
    return constructors.add(*(constructors.function(f.op, above if _narrow(f) else wide) for f in OF_FLOATS))


def dense_score_of_all(s: Tensor) -> Tensor:
    values = (ARRAYS.operate(f, s.abs() + 1.5 if _narrow(f) else s * 0.25) for f in OF_FLOATS)
    return reduce(torch.add, values)


def mask_of_all() -> Expr:
    """Where no opaque function of blocks is a multiple of 3."""
    blocks = constructors.floordiv(Q, 4), constructors.floordiv(K, 4)
    remainders = (constructors.mod(constructors.function(f.op, *taken(f, blocks)), 3) for f in OPAQUE)
    return constructors.conjunction(*(constructors.not_equal(x, Const(0)) for x in remainders))


def dense_mask_of_all(q: Tensor, k: Tensor) -> Tensor:
    blocks = q // 4, k // 4
    return reduce(torch.logical_and, (ARRAYS.operate(f, *taken(f, blocks)) % 3 != 0 for f in OPAQUE))


def called(op: Op, *arguments: str) -> str:
    """A call as a text has it."""
    return f"{op}({', '.join(arguments)})"
