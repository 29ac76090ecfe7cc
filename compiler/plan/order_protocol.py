"""The interface of an order of tokens, and the dispatch of other stages on the kind of an order.

An order cuts the tokens of one side of an attention, its query rows or its keys, into numbered tiles. The kinds are in
:mod:`compiler.plan.orders`. Code that depends on the kind is in two places only: in the methods of the order itself
(:class:`Order`), where the plan is enough to answer, and in an :class:`OrderTable` of each stage that needs more, such
as positions as arrays, the text of a target, or the arguments of a launch. Other code does not ask for the kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar

from ..ir import Entry, Expr

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Kind = TypeVar("Kind", bound="Order")


class TileCount(NamedTuple):
    """The number of tiles of an order: ``classes`` times ``per_class``. Tile ``c * per_class + u`` is in class c."""

    classes: int
    per_class: int

    @property
    def total(self) -> int:
        return self.classes * self.per_class


@dataclass(frozen=True)
class Listing:
    """The tokens of a listed order, in sequence: query rows (positions less ``q_start``) or key positions.

    ``batch_slots`` is the batch size if the lists differ between batch entries, else 1. ``head_slots`` is the number of
    the kernel's heads if the lists differ between heads, else 1; heads are numbered by their place in the kernel.
    """

    tokens: NDArray[np.int32]  # [batch_slots * head_slots, length of the longest list], -1 past the end of a list
    batch_slots: int
    head_slots: int

    def tiles(self, tile: int) -> TileCount:
        """The number of tiles of ``tile`` lanes into which the longest list is cut."""
        return TileCount(1, -(-self.tokens.shape[1] // tile))


@dataclass(frozen=True)
class Axis:
    """One coordinate of a token: neighbours are ``stride`` tokens apart, and a tile spans ``tile`` coordinates.

    ``length`` is the number of coordinates; None means as many as the tokens need. The length of a bounded axis need
    not be a multiple of ``tile``: lanes past its end hold no token.
    """

    stride: int
    length: int | None = None
    tile: int = 1

    @property
    def tiles(self) -> int:
        """The number of tiles along a bounded axis."""
        assert self.length is not None
        return -(-self.length // self.tile)


class Order(ABC):
    """The sequence in which the tokens of one side are walked: numbered tiles of ``tile`` lanes of a token or none.

    Tiles come in classes of tokens that share no tile, such as the residues of a dilated window; most orders have one.
    ``total`` is always the number of tokens of the side: n for keys, m for rows; rows are counted from the first row of
    the launch. :meth:`tokens` defines the order; the other answers follow from it, or say what the order was made from.
    Kinds are frozen dataclasses.
    """

    if TYPE_CHECKING:  # a field in some kinds, a property in others; a property here would be the field's default

        @property
        def tile(self) -> int:
            """The number of lanes of a tile."""

    @abstractmethod
    def tokens(self, tile: int, total: int, listed: Sequence[int] = ()) -> list[int]:
        """The token in each lane of one tile, -1 in an empty lane. Slow and plain: this defines the order.

        ``listed``: the list of the batch entry and head, if the launch lists the tokens.
        """

    @abstractmethod
    def tiles(self, total: int, listing: Listing | None = None) -> TileCount:
        """The number of tiles. Raises ValueError if the launch lists the tokens and ``listing`` is None."""

    @abstractmethod
    def most_tiles(self, total: int) -> int:
        """The largest number of tiles that a class can have, whatever a launch lists."""

    @abstractmethod
    def whole_tiles(self, total: int) -> int | None:
        """How many tiles, from the first of each class on, have a token in every lane; None if any tile may have an
        empty lane."""

    @abstractmethod
    def last_position(self, total: int) -> int:
        """The largest position that is computed for a lane of any tile, even if the lane is empty."""

    @property
    @abstractmethod
    def covers(self) -> bool:
        """Whether every token is in a tile, for every number of tokens."""

    @property
    @abstractmethod
    def alignment(self) -> int:
        """The alignment, in tokens, of the first row's position. At a multiple of it, the positions of rows are in the
        same classes, lines and boxes as their numbers, so what the order implies for numbers holds for positions."""

    @property
    @abstractmethod
    def hull(self) -> tuple[tuple[Axis, ...], int]:
        """The axes and the offset of a view that has tiles of the same size and all tokens of this order, or more."""

    @property
    @abstractmethod
    def strided(self) -> bool:
        """Whether the tokens of a tile follow from a few strides, and are not looked up or computed lane by lane."""

    @property
    @abstractmethod
    def listed_by(self) -> Expr | None:
        """The expression by which the host lists the tokens at each launch; None if they follow from the tile's number.

        It reads the position of a token as ``k`` if the order is one of keys, as ``q`` if it is one of rows.
        """

    @property
    def gathered_by(self) -> Expr | None:
        """The condition that just these tokens meet, if one gathers them; positions as in :attr:`listed_by`."""
        return None

    @property
    def sorted_by(self) -> Entry | None:
        """The table entry that sorts the tokens, if they are sorted by a table; positions as in :attr:`listed_by`."""
        return None

    @property
    def sparse(self) -> bool:
        """Whether the order is expected to hold few of the tokens, however many there are."""
        return False

    @property
    def around_rows(self) -> bool:
        """Whether these are keys in boxes around the tiles of one order of rows. Each tile of rows visits the tiles of
        its own box, whatever the condition, and a token may be in several boxes."""
        return False

    def key_major(self, rows: Order) -> tuple[Order, Order]:
        """As the function :func:`key_major`, for keys in this order."""
        return rows, self

    @abstractmethod
    def nameless(self) -> Order:
        """The order without the expression that lists its tokens: only the host reads that, not the kernels' text."""

    @abstractmethod
    def describe(self, names: Mapping[str, str] | None = None) -> str:
        """The order as a phrase, such as ``residue(4)`` or ``gathered k in g``. ``names``: table names by number."""


def key_major(rows: Order, keys: Order) -> tuple[Order, Order]:
    """The orders of rows and keys in the key-major direction, where each tile of keys visits tiles of rows.

    They are the given ones unless keys are in boxes: then each tile of keys visits a box of rows around it.
    """
    return keys.key_major(rows)


class UnknownOrderError(TypeError):
    """A bug of the compiler: a table has no entry for a kind of order."""


class OrderTable(Generic[P, R]):
    """A function that dispatches on its first argument, an order; every kind needs an entry, as there is no default.

    It decorates a function that gives the signature and the docstring, and whose body never runs. Entries are decorated
    with ``@table.register(kind)`` and serve the kind and its subclasses.
    """

    def __init__(self, question: Callable[Concatenate[Order, P], R]) -> None:
        update_wrapper(self, question)
        self.name = f"{question.__module__.removeprefix('attnc.')}.{question.__name__}"
        self._entries: dict[type[Order], Callable[..., R]] = {}
        ORDER_TABLES.append(self)

    def register(
        self, *kinds: Callable[..., Kind]
    ) -> Callable[[Callable[Concatenate[Kind, P], R]], Callable[Concatenate[Kind, P], R]]:
        """Register a function for kinds of order, given as classes. ValueError for :class:`Order`, as a default."""

        def enter(entry: Callable[Concatenate[Kind, P], R]) -> Callable[Concatenate[Kind, P], R]:
            for kind in kinds:
                assert isinstance(kind, type)  # not declared as ``type[Kind]``: mypy rejects abstract classes there
                if kind is Order:
                    raise ValueError(f"{self.name}: an entry for every order hides that a kind lacks its own")
                self._entries[kind] = entry
            return entry

        return enter

    def entry(self, kind: type[Order]) -> Callable[..., R]:
        """The function registered for a kind of order. Raises UnknownOrderError if there is none."""
        for parent in kind.__mro__:
            if parent in self._entries:
                return self._entries[parent]
        raise UnknownOrderError(f"bug in attnc: {self.name} has no entry for {kind.__name__}, a kind of order")

    def __call__(self, order: Order, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.entry(type(order))(order, *args, **kwargs)


ORDER_TABLES: list[OrderTable[..., Any]] = []
"""All tables; each adds itself when its module is imported."""
