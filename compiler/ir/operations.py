"""The table of the language's functions and operators: one record for each, read by every stage. Nouns only.

The words of the grammar, the checker, folding, the oracle, derivatives, analysis and the dialects of the targets take
what they know of an operation from here. A new function of floats is a record here, and a spelling in each dialect of
:mod:`compiler.codegen`; so is one of integers that is ``opaque``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

Type = Literal["int", "float", "bool", "count"]

Op = Literal[
    "add", "sub", "mul", "neg", "abs", "min", "max",
    "floordiv", "mod", "hash",
    "lt", "le", "eq", "ne",
    "and", "or", "not", "iff",
    "if", "plus", "filter",
    "float", "div", "exp", "log", "tanh", "sqrt", "sigmoid",
]  # fmt: skip


@dataclass(frozen=True)
class Domain:
    """The numbers that a function takes: ``note`` says it to the user."""

    contains: Callable[[float], bool]
    note: str


@dataclass(frozen=True)
class Operation:
    """A function or an operator of the language.

    - ``arity``: the least and the largest number of arguments; None for any.
    - ``takes``: the types that its arguments may have, all of them one. With ``guarded`` a condition stands before
      them. Where they are counts, a condition may stand for 0 or 1.
    - ``gives``: the type of its value; None for that of its arguments.
    - ``python``: its value, by single numbers. ValueError, OverflowError or ZeroDivisionError where there is none.
    - ``library``: its name in torch, and in numpy where numpy has it. Where numpy does not, ``python`` is asked number
      by number, and what is a ValueError is not a number. None: ``python`` takes arrays as it takes numbers.
    - ``joins``: ``python`` and ``library`` take two arguments; more are joined from left to right.
    - ``sign`` and ``binds``: how an operator is written between its arguments, and how tightly it binds: most tightly
      the largest.
    - ``help``: how a function is written, and what it is, for editors; empty for what is no function of a text.
    - ``derivative``: of a function of one float, by its argument and its value, with Python's operators, ``x.sign()``
      (-1, 0 or 1) and ``x.apply("exp")``. Operators have theirs in :mod:`compiler.ir.derivatives`; what gives no float
      has none.
    - ``domain``: of a function of one float; None where it takes every number.
    - ``opaque``: of a function of integers, what its value lies between, both included, where the analysis is to know
      nothing else: it is worked out for single pairs, and no order of tokens is made for it. None for all whose
      arithmetic :mod:`compiler.analysis` follows.
    """

    op: Op
    arity: tuple[int, int | None]
    takes: tuple[Type, ...]
    gives: Type | None
    python: Callable[..., Any]
    library: str | None = None
    joins: bool = False
    guarded: bool = False
    sign: str = ""
    binds: int = 0
    help: str = ""
    derivative: Callable[[Any, Any], Any] | None = None
    domain: Domain | None = None
    opaque: tuple[int, int] | None = None

    @property
    def of_floats(self) -> bool:
        """Whether it is a function of floats alone: integers become floats for it, so it has no place in a mask."""
        return bool(self.help) and self.takes == ("float",)

    def type_of(self, argument: Type) -> Type:
        """The type of its value, from that of its arguments (those behind a guard)."""
        return self.gives or argument


HASH_START = 0x9E3779B9


def hash_more(h: Any, value: Any) -> Any:
    """One more integer hashed: MurmurHash3's ``fmix32(h ^ value)``, of the low 32 bits of the integer.

    Of arrays of int64 too, element by element: products wrap around 64 bits, whose low 32 are those of the exact one.
    """
    low = 0xFFFFFFFF
    h = h ^ (value & low)
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & low
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & low
    return h ^ (h >> 16)


def murmur(values: tuple[Any, ...]) -> Any:
    """The language's ``hash`` of integers, 31 bits."""
    return reduce(hash_more, values, HASH_START) >> 1


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -709 else math.exp(x)  # where exp(-x) is no float


_NUMBERS: tuple[Type, ...] = ("int", "float")

_TABLE = (
    # Numbers.
    Operation("add", (2, None), _NUMBERS, None, operator.add, joins=True, sign="+", binds=7),
    Operation("sub", (2, 2), _NUMBERS, None, operator.sub, sign="-", binds=7),
    Operation("mul", (2, 2), _NUMBERS, None, operator.mul, sign="*", binds=8),
    Operation("neg", (1, 1), _NUMBERS, None, operator.neg),
    Operation("abs", (1, 1), _NUMBERS, None, abs, help="abs(x)", derivative=lambda x, _: x.sign()),
    Operation("min", (2, None), _NUMBERS, None, min, "minimum", joins=True, help="min(a, b, …)"),
    Operation("max", (2, None), _NUMBERS, None, max, "maximum", joins=True, help="max(a, b, …)"),
    # Integers. Division rounds down; the divisor of both is a positive constant.
    Operation("floordiv", (2, 2), ("int",), "int", operator.floordiv, sign="//", binds=8),
    Operation("mod", (2, 2), ("int",), "int", operator.mod, sign="%", binds=8),
    Operation(
        "hash", (1, None), ("int",), "int", lambda *xs: murmur(xs),
        help="hash(a, b, …): a fixed pseudo-random int", opaque=(0, 2**31 - 1),
    ),
    # Comparisons; `>` and `>=` are written the other way round.
    Operation("lt", (2, 2), _NUMBERS, "bool", operator.lt, sign="<", binds=5),
    Operation("le", (2, 2), _NUMBERS, "bool", operator.le, sign="<=", binds=5),
    Operation("eq", (2, 2), _NUMBERS, "bool", operator.eq, sign="==", binds=5),
    Operation("ne", (2, 2), _NUMBERS, "bool", operator.ne, sign="!=", binds=5),
    # Conditions. Those of `and` and `or` are reached from left to right; iff: both hold or neither.
    Operation("and", (2, None), ("bool",), "bool", operator.and_, joins=True, sign="and", binds=3),
    Operation("or", (2, None), ("bool",), "bool", operator.or_, joins=True, sign="or", binds=2),
    Operation("not", (1, 1), ("bool",), "bool", operator.not_, "bitwise_not"),
    Operation("iff", (2, 2), ("bool",), "bool", operator.eq, sign="==", binds=5),
    # Choices: (condition, then, else), and counts: the sum of conditions and counts; (condition, count).
    Operation(
        "if", (3, 3), ("int", "float", "bool", "count"), None, lambda c, a, b: a if c else b, "where", guarded=True,
    ),
    Operation("plus", (2, None), ("count",), "count", operator.add, joins=True, sign="+", binds=7),
    Operation("filter", (2, 2), ("count",), "count", lambda c, x: int(x) if c else 0, guarded=True),
    # Floats.
    Operation("float", (1, 1), ("int",), "float", float),
    Operation("div", (2, 2), ("float",), "float", operator.truediv, sign="/", binds=8),
    Operation(
        "exp", (1, 1), ("float",), "float", math.exp, "exp", help="exp(x)", derivative=lambda _, y: y,
        domain=Domain(lambda x: not x > 709, "`exp` takes a number of at most 709: beyond it is no float"),
    ),
    Operation(
        "log", (1, 1), ("float",), "float", math.log, "log", help="log(x)", derivative=lambda x, _: 1 / x,
        domain=Domain(lambda x: x > 0, "`log` takes a number above 0"),
    ),
    Operation(
        "tanh", (1, 1), ("float",), "float", math.tanh, "tanh", help="tanh(x)",
        derivative=lambda _, y: 1 - y * y,
    ),
    Operation(
        "sqrt", (1, 1), ("float",), "float", math.sqrt, "sqrt", help="sqrt(x)", derivative=lambda _, y: 0.5 / y,
        domain=Domain(lambda x: x >= 0, "`sqrt` takes a number that is not negative"),
    ),
    Operation(
        "sigmoid", (1, 1), ("float",), "float", _sigmoid, "sigmoid", help="sigmoid(x)",
        derivative=lambda _, y: y * (1 - y),
    ),
)  # fmt: skip

OPERATIONS: Mapping[Op, Operation] = {operation.op: operation for operation in _TABLE}
"""Every operation by its name in expressions."""

FUNCTIONS: Mapping[str, Operation] = {operation.op: operation for operation in _TABLE if operation.help}
"""The functions that a text calls, by the word for each, in the order in which they are listed to people."""
