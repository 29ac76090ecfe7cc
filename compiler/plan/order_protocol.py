"""What an order of tokens must answer, and how a stage says what it does with each kind of order.

An order cuts the tokens of one side of an attention, its rows or its keys, into numbered tiles. The kinds are in
:mod:`compiler.plan.orders`. What depends on the kind is decided in two places only: by the order itself, where a plan
knows enough (:class:`Order`), and by an :class:`OrderTable` of each stage that knows more: positions as arrays, the
text of a target, the arguments of a launch. Nothing else asks which kind an order is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..ir import Entry, Expr

P = ParamSpec("P")
R = TypeVar("R")
Kind = TypeVar("Kind", bound="Order")


class TileCount(NamedTuple):
    """The tiles of an order: so many classes, each of ``per_class`` tiles. Tile ``c * per_class + u`` is in class c."""

    classes: int
    per_class: int

    @property
    def total(self) -> int:
        return self.classes * self.per_class


@dataclass(frozen=True)
class Listing:
    """The tokens of a listed order: rows of the query (less ``q_start``) or key positions, -1 past the end.

    ``batch_slots`` is the batch size where the lists differ from one batch entry to another, else 1; ``head_slots``
    likewise, with the place of a head among the kernel's heads.
    """

    tokens: NDArray[np.int32]  # [batch_slots * head_slots, length], length the longest list's
    batch_slots: int
    head_slots: int

    def tiles(self, tile: int) -> TileCount:
        """The tiles of ``tile`` lanes into which the longest list is cut."""
        return TileCount(1, -(-self.tokens.shape[1] // tile))


@dataclass(frozen=True)
class Axis:
    """One coordinate of a token: neighbours are ``stride`` tokens apart; ``tile`` coordinates lie in one tile.

    ``length`` is the number of coordinates; None is as many as the tokens need. A bounded axis need not be a multiple
    of its tile: the lanes past its end hold no token.
    """

    stride: int
    length: int | None = None
    tile: int = 1

    @property
    def tiles(self) -> int:
        """Tiles along a bounded axis."""
        assert self.length is not None
        return -(-self.length // self.tile)


class Order(ABC):
    """How the tokens of one side are walked: in numbered tiles of ``tile`` lanes, each with a token or without.

    ``total`` is always the number of tokens of the side: n for keys, m for rows, which are counted from the first row
    of the launch. :meth:`tokens` defines the order; the other answers follow from it, or say how it came about. Kinds
    are frozen dataclasses.
    """

    if TYPE_CHECKING:  # a field of some kinds, a property of others; a property here would be the field's default

        @property
        def tile(self) -> int:
            """Lanes of one tile."""

    @abstractmethod
    def tokens(self, tile: int, total: int, listed: Sequence[int] = ()) -> list[int]:
        """The token of each lane of one tile, -1 where a lane has none. Slow and plain: the definition.

        ``listed``: the list of the batch entry and head, where the launch lists the tokens.
        """

    @abstractmethod
    def tiles(self, total: int, listing: Listing | None = None) -> TileCount:
        """The tiles there are. Raises ValueError where the launch lists the tokens and ``listing`` is None."""

    @abstractmethod
    def most_tiles(self, total: int) -> int:
        """The most tiles of one class there can be, whatever a launch lists."""

    @abstractmethod
    def whole_tiles(self, total: int) -> int | None:
        """How many of the first tiles of each class have a token in every lane; None where a lane of any tile may
        have none."""

    @abstractmethod
    def last_position(self, total: int) -> int:
        """The largest position that is computed for a lane of any tile, whether or not there is such a token."""

    @property
    @abstractmethod
    def covers(self) -> bool:
        """Whether every token is in a tile, however many there are."""

    @property
    @abstractmethod
    def alignment(self) -> int:
        """In tokens. Where the first row stands at a multiple of it, what the order says of the rows' numbers holds of
        their positions too: they lie in the same classes, lines and boxes."""

    @property
    @abstractmethod
    def hull(self) -> tuple[tuple[Axis, ...], int]:
        """The axes and the offset of a view in tiles as large that has all of its tokens, and perhaps others."""

    @property
    @abstractmethod
    def strided(self) -> bool:
        """Whether a tile's tokens are a few strides apart, so that none is looked up or computed lane by lane."""

    @property
    @abstractmethod
    def listed_by(self) -> Expr | None:
        """What the host evaluates at each launch to list the tokens; None where their numbers follow from the tile's.

        ``k`` stands for the token where keys are walked, ``q`` where rows are.
        """

    @property
    def gathered_by(self) -> Expr | None:
        """The condition that just these tokens meet, as in :attr:`listed_by`, where the order is made by one."""
        return None

    @property
    def sorted_by(self) -> Entry | None:
        """The number by which the tokens rise, as in :attr:`listed_by`, where they do not rise by position."""
        return None

    @property
    def sparse(self) -> bool:
        """Whether it is expected to have few of the tokens, however many there are."""
        return False

    @property
    def around_rows(self) -> bool:
        """Whether its tiles are around those of one order of rows, and are for these rows alone: each tile of rows
        visits its own whatever a condition says, and a token may be in several."""
        return False

    def key_major(self, rows: Order) -> tuple[Order, Order]:
        """As :func:`key_major`, where keys are walked in this order."""
        return rows, self

    @abstractmethod
    def nameless(self) -> Order:
        """The order less what lists its tokens, which only the host reads: the same for the text of the kernels."""

    @abstractmethod
    def describe(self, names: Mapping[str, str] | None = None) -> str:
        """The order as a phrase: ``natural``, ``residue(4)``, ``gathered k in g``. ``names``: of tables by number."""


def key_major(rows: Order, keys: Order) -> tuple[Order, Order]:
    """The orders of rows and keys where each tile of keys visits tiles of rows: around it, where the keys are a box."""
    return keys.key_major(rows)


class UnknownOrderError(TypeError):
    """A fault of ours: a kind of order that a table has no entry for."""


class OrderTable(Generic[P, R]):
    """A function whose first argument is an order, and which has an entry for each kind: no kind is taken for another.

    Decorates the function that says what is asked; its body is never run. The entries are decorated with
    ``@table.register(kind)`` and serve the kind and those derived from it.
    """

    def __init__(self, question: Callable[Concatenate[Order, P], R]) -> None:
        update_wrapper(self, question)
        self.name = f"{question.__module__.removeprefix('attnc.')}.{question.__name__}"
        self._entries: dict[type[Order], Callable[..., R]] = {}
        ORDER_TABLES.append(self)

    def register(
        self, *kinds: Callable[..., Kind]
    ) -> Callable[[Callable[Concatenate[Kind, P], R]], Callable[Concatenate[Kind, P], R]]:
        """Enter a function for some kinds of order, which are classes. ValueError for :class:`Order`, as a default."""

        def enter(entry: Callable[Concatenate[Kind, P], R]) -> Callable[Concatenate[Kind, P], R]:
            for kind in kinds:
                assert isinstance(kind, type)  # not declared as ``type[Kind]``, for which mypy takes no abstract class
                if kind is Order:
                    raise ValueError(f"{self.name}: an entry for every order hides that a kind lacks its own")
                self._entries[kind] = entry
            return entry

        return enter

    def entry(self, kind: type[Order]) -> Callable[..., R]:
        """The function for a kind of order. Raises UnknownOrderError where there is none."""
        for parent in kind.__mro__:
            if parent in self._entries:
                return self._entries[parent]
        raise UnknownOrderError(f"bug in attnc: {self.name} has no entry for {kind.__name__}, a kind of order")

    def __call__(self, order: Order, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.entry(type(order))(order, *args, **kwargs)


ORDER_TABLES: list[OrderTable[..., Any]] = []
"""All tables there are, entered as their modules are imported."""
