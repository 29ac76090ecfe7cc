"""The sizes of one call, for tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The sizes of one call: ``q`` is ``[batch, heads, m, head_dim]``, ``k`` ``[batch, kv_heads, n, head_dim]``.

    ``m`` is ``n - q_start`` unless given, ``kv_heads`` is ``heads``, ``value_dim`` is ``head_dim``.
    """

    n: int
    m: int | None = None
    batch: int = 1
    heads: int = 1
    kv_heads: int | None = None
    head_dim: int = 16
    value_dim: int | None = None
    q_start: int = 0

    @property
    def rows(self) -> int:
        """The number of query rows."""
        return self.n - self.q_start if self.m is None else self.m


SHAPES = (
    Shape(1),
    Shape(65, batch=2, heads=4, kv_heads=2),
    Shape(130, m=70, heads=2, q_start=60, head_dim=24, value_dim=8),
)
"""The default sizes: one token, grouped heads in a batch, later query rows; lengths are not multiples of a tile."""
