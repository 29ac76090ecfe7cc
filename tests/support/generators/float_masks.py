"""Seeded random comparisons of what a mask computes with floats: as text, and as torch computes it, operation by
operation, in the tables' dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_LITERALS = (0.1, 0.3, 1.5, 2.0, -0.7, 3.0000001, 1e-3, 1e30, 1e-40, 65504.0, 0.0)
_SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, 6e-8, 3e38, 65504.0, 1.0)

Computed = tuple[str, Tensor]  # a text, and its value for every pair, broadcast to [n, n]


@dataclass
class FloatMask:
    """A condition over tables ``t``, ``u`` (``float[token]``) and ``span`` (``float[]``), with its tables and value."""

    text: str
    tables: dict[str, Tensor]
    kept: Tensor  # bool [n, n]


def generate(seed: int, dtype: torch.dtype, n: int) -> FloatMask:
    """The comparison of a seed, the same text for each dtype."""
    tables = _tables(Random(f"{seed} {dtype} {n}"), dtype, n)
    made = _Maker(Random(seed), dtype, tables)
    left, right = made.number(3), made.number(2)
    signs: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "<": torch.lt, "<=": torch.le, ">": torch.gt, ">=": torch.ge, "==": torch.eq, "!=": torch.ne,
    }  # fmt: skip
    sign = made.draw.choice(list(signs))
    kept = signs[sign](left[1], right[1]).expand(n, n)
    return FloatMask(f"t[k] == t[k] and {left[0]} {sign} {right[0]}", tables, kept & (tables["t"] == tables["t"])[None])


def _tables(draw: Random, dtype: torch.dtype, n: int) -> dict[str, Tensor]:
    def entry() -> float:
        if draw.random() < 0.2:
            return draw.choice(_SPECIAL)
        near = draw.choice((1.0, 1.0, 1e3, 1e-3, 1e18))
        return draw.gauss(0, 1) * near if draw.random() < 0.7 else draw.choice((0.1, 0.3, 0.4, 1.5, 2.1))

    columns = [torch.tensor([entry() for _ in range(n)], dtype=torch.float64).to(dtype) for _ in range(2)]
    if draw.random() < 0.4:
        columns[0] = columns[0].nan_to_num().sort().values
    scalar = torch.tensor(draw.choice((0.1, 0.7, 1.0, 2.5)), dtype=draw.choice((torch.float64, torch.float32)))
    return {"t": columns[0], "u": columns[1], "span": scalar}


@dataclass
class _Maker:
    draw: Random
    dtype: torch.dtype
    tables: dict[str, Tensor]

    def leaf(self) -> Computed:
        match self.draw.randrange(8):
            case 0:
                literal = self.draw.choice(_LITERALS)
                text = f"{literal!r}" if literal >= 0 else f"({literal!r})"
                return text.replace("e+", "e"), torch.tensor(literal, dtype=torch.float64).to(self.dtype).reshape(1, 1)
            case 1:
                return "span", self.tables["span"].to(self.dtype).reshape(1, 1)
        name, side = self.draw.choice("tu"), self.draw.choice("qk")
        held = self.tables[name]
        return f"{name}[{side}]", held[:, None] if side == "q" else held[None]

    def number(self, depth: int) -> Computed:
        if depth <= 0 or self.draw.random() < 0.1:
            return self.leaf()
        a, b = self.number(depth - 1), self.number(depth - 1)
        if not any(name in a[0] + b[0] for name in ("t[", "u[")):  # constants would be folded in double precision
            b = "t[q]", self.tables["t"][:, None]
        match self.draw.randrange(9):
            case 0 | 1:
                return f"({a[0]} + {b[0]})", a[1] + b[1]
            case 2 | 3:
                return f"({a[0]} - {b[0]})", a[1] - b[1]
            case 4 | 5:
                return f"({a[0]} * {b[0]})", a[1] * b[1]
            case 6:
                return f"abs({a[0]} - {b[0]})", (a[1] - b[1]).abs()
            case 7:
                word = self.draw.choice(("min", "max"))
                x, y = torch.broadcast_tensors(a[1], b[1])
                return f"{word}({a[0]}, {b[0]})", (torch.minimum if word == "min" else torch.maximum)(x, y)
            case _:
                return f"(-{a[0]} + {b[0]})", -a[1] + b[1]
