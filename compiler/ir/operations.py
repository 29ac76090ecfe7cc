"""The table of the language's functions and operators, one record for each, which every stage reads. Dataclasses only.

The grammar's words, the checker, constant folding, the oracle, derivatives, analysis and the targets' dialects all take
from here what they know of an operation. To add a function of floats, or an ``opaque`` one of integers, takes a record
here and a spelling in each dialect of :mod:`compiler.codegen`.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

Type = Literal["int", "float", "double", "bool", "count"]
"""``double``: a float64 in a mask of kernels whose floats are float32. Operations treat it as they do floats; no
text has it: it is made where a call is planned.
"""

Op = Literal[
    "add", "sub", "mul", "neg", "abs", "min", "max",
    "floordiv", "mod", "hash",
    "lt", "le", "eq", "ne",
    "and", "or", "not", "iff",
    "if", "plus", "filter",
    "float", "div", "exp", "log", "tanh", "sqrt", "sigmoid",
    "fp16", "bf16", "fp32", "fp64",
]  # fmt: skip


@dataclass(frozen=True)
class Domain:
    """The numbers that a function is defined for; ``note`` describes them to the user."""

    contains: Callable[[float], bool]
    note: str


@dataclass(frozen=True)
class Operation:
    """A function or an operator of the language.

    - ``arity``: the least and the largest number of arguments; None for any.
    - ``takes``: the types that its arguments may have; all arguments are of one type. Among counts, a condition counts
      0 or 1.
    - ``guarded``: a condition comes before these arguments.
    - ``gives``: the type of its value; None where that is the type of the arguments.
    - ``python``: computes its value from single numbers. ValueError, OverflowError or ZeroDivisionError if undefined.
    - ``library``: its name in torch, and in numpy if numpy has it. If not, ``python`` is called for each number, and a
      ValueError of its becomes nan. None: ``python`` also takes arrays.
    - ``joins``: ``python`` and ``library`` take two arguments; more are folded from left to right.
    - ``sign`` and ``binds``: how an operator is written between its arguments, and its precedence; the highest binds
      most tightly.
    - ``help``: how a call of a function is written, and what it computes, for editors. Empty for all but functions.
    - ``derivative``: for a function of one float, computes its derivative from its argument and its value, both with
      Python's operators, ``x.sign()`` (-1, 0 or 1) and ``x.apply("exp")``. Those of operators, ``min`` and ``max``
      are in :mod:`compiler.ir.derivatives`. None where the value is not a float.
    - ``domain``: where a function of one float is defined; None where that is everywhere.
    - ``opaque``: for a function of integers of which the analysis knows only the bounds of its value, both included.
      It is evaluated pair by pair, and no order of tokens is made for it. None where :mod:`compiler.analysis` follows
      its arithmetic.
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
        """Whether it is a function of floats only. Integers are converted, so a mask may call it on constants only."""
        return bool(self.help) and self.takes == ("float",)

    def type_of(self, argument: Type) -> Type:
        """The type of its value, given that of its arguments (other than the condition of a guard)."""
        return self.gives or argument


HASH_START = 0x9E3779B9


def hash_more(h: Any, value: Any) -> Any:
    """Mix the low 32 bits of one more integer into a hash: MurmurHash3's ``fmix32(h ^ value)``.

    Takes int64 arrays too, element by element: a product may wrap at 64 bits, but its low 32 bits stay exact.
    """
    low = 0xFFFFFFFF
    h = h ^ (value & low)
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & low
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & low
    return h ^ (h >> 16)


def murmur(values: tuple[Any, ...]) -> Any:
    """The language's ``hash`` of one or more integers: 31 bits."""
    return reduce(hash_more, values, HASH_START) >> 1


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -709 else math.exp(x)  # below that, exp(-x) overflows


def _rounded(code: str) -> Callable[[float], float]:
    """Rounds one number to a format of :mod:`struct`, to float32 first; OverflowError beyond its largest."""

    def rounded(x: float) -> float:
        single = struct.unpack("f", struct.pack("f", x))[0]
        return float(struct.unpack(code, struct.pack(code, single))[0])

    return rounded


def _bfloat16(x: float) -> float:
    bits = struct.unpack("I", struct.pack("f", x))[0]
    if x != x or bits & 0x7F800000 == 0x7F800000:
        return x
    return float(struct.unpack("f", struct.pack("I", (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000))[0])


ROUNDINGS: tuple[Op, ...] = ("fp16", "bf16", "fp32", "fp64")
"""The operations that round a float to the dtype of their name: to float32 first, unless it is float64. What is made of
the result is never contracted with what it was made from.
"""


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
    # Integers. Division rounds down; the divisor of both is positive: a constant or a run-time number.
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
    # Conditions. `and` and `or` look at theirs from left to right; iff: both hold or neither does.
    Operation("and", (2, None), ("bool",), "bool", operator.and_, joins=True, sign="and", binds=3),
    Operation("or", (2, None), ("bool",), "bool", operator.or_, joins=True, sign="or", binds=2),
    Operation("not", (1, 1), ("bool",), "bool", operator.not_, "bitwise_not"),
    Operation("iff", (2, 2), ("bool",), "bool", operator.eq, sign="==", binds=5),
    # A choice: (condition, then, otherwise). Counts: a sum of conditions and counts; (condition, count).
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
    # Roundings, which masks are given when a call is planned. Arrays have their own (Arrays.rounded).
    Operation("fp16", (1, 1), ("float",), None, _rounded("e")),
    Operation("bf16", (1, 1), ("float",), None, _bfloat16),
    Operation("fp32", (1, 1), ("float",), None, _rounded("f")),
    Operation("fp64", (1, 1), ("float",), None, float),
)  # fmt: skip

OPERATIONS: Mapping[Op, Operation] = {operation.op: operation for operation in _TABLE}
"""Every operation by its name in expressions."""

FUNCTIONS: Mapping[str, Operation] = {operation.op: operation for operation in _TABLE if operation.help}
"""The functions that a text may call, by name, in the order in which users see them listed."""
