"""The error for an index that is evaluated and lies outside its table."""

from __future__ import annotations

from typing import Any

from ..diagnostics import Label, Span, with_places
from ..ir import Table

_AXES = ("batch", "head", "row", "key")


class OutOfTableError(ValueError):
    """An index that is evaluated lies outside its table. ``message`` leaves out the excerpt from the text."""

    def __init__(
        self, table: Table, axis: int, value: int, size: int, pair: tuple[int, ...], span: Span | None = None
    ) -> None:
        dimension = table.dimensions[axis]
        name = dimension.name or dimension.kind
        place = ", ".join(f"{what} {number}" for what, number in zip(_AXES, pair, strict=False))
        self.message = (
            f"index {value} is outside dimension `{name}` (number {axis}) of table `{table.name}`, "
            f"which has size {size} there; read at {place}"
        )
        super().__init__(with_places(self.message, *read_at(table, span)))
        self.table, self.axis, self.value, self.size, self.pair, self.span = table, axis, value, size, pair, span

    def __reduce__(self) -> tuple[type[OutOfTableError], tuple[Any, ...]]:
        return type(self), (self.table, self.axis, self.value, self.size, self.pair, self.span)

    def at(self, pair: tuple[int, ...]) -> OutOfTableError:
        """The same error at another pair ``(batch, head, row, key)``, for a part of a mask that was evaluated alone."""
        return OutOfTableError(self.table, self.axis, self.value, self.size, pair, self.span)


def read_at(table: Table, span: Span | None) -> tuple[Label, ...]:
    """Labels for the places where a table is read and where it is declared, if they are known."""
    places = ((span, "read here"), (table.span, "declared here"))
    return tuple(Label(place, text) for place, text in places if place is not None)
