"""The object that travels in the mask's place: a pattern with its tables, and a tensor as soon as torch touches it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...attention import Attention
from .conditions import MaskSizes
from .texts import Written, attention_of, attention_text


@dataclass(frozen=True)
class Origin:
    """How a mask came to be.

    ``causal``: no row sees a later key; ``documents``: packed documents are kept apart already; ``padded``: a padding
    mask leaves keys out, or may.
    """

    causal: bool
    documents: bool
    padded: bool


@dataclass(frozen=True, eq=False, repr=False)
class PatternMask:
    """A mask of ``[batch, 1, q_length, kv_length]`` as a pattern.

    ``text`` is the pattern as ``.attn`` text, ``attn`` the attention made of it, and ``tables`` what a call of it takes
    besides q, k and v, with ``q_start``. A model that computes with the mask gets the additive float mask that eager
    attention would have got: any operator, method or attribute of a tensor turns the object into it.

    ``make_dense`` makes that mask; ``made`` holds what was made of the object so far.
    """

    written: Written
    sizes: MaskSizes
    dtype: torch.dtype
    origin: Origin
    make_dense: Callable[[], Tensor]
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The mask as ``.attn`` text."""
        return attention_text(self.written.condition, self.written.types)

    @property
    def attn(self) -> Attention:
        """The mask as an attention, with the plain score."""
        return attention_of(self.text)

    @property
    def tables(self) -> Mapping[str, Tensor]:
        """The tables that a call of ``attn`` takes, by name."""
        return self.written.tables

    @property
    def q_start(self) -> int | Tensor:
        """``q_start`` of a call of ``attn``."""
        return self.written.q_start

    @property
    def shape(self) -> torch.Size:
        """``[batch, 1, q_length, kv_length]``."""
        return torch.Size((self.sizes.batch, 1, self.sizes.q_length, self.sizes.kv_length))

    @property
    def ndim(self) -> int:
        """4."""
        return 4

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.sizes.device

    def dense(self) -> Tensor:
        """The additive mask: 0 for pairs that are kept, else the least number of ``dtype``; made once."""
        if "dense" not in self.made:
            self.made["dense"] = self.make_dense()
        made = self.made["dense"]
        assert isinstance(made, Tensor)
        return made

    def to(self, *given: Any, **named: Any) -> Any:
        """As a tensor's: on another device it stays a pattern, made once for each; in another dtype it is a tensor."""
        device = named.get("device", given[0] if given and isinstance(given[0], (torch.device, str, int)) else None)
        others = named.keys() - {"device", "non_blocking", "copy"} or len(given) > 1
        if device is None or others:
            return self.dense().to(*given, **named)
        device = torch.device(device)
        if device == self.device:
            return self
        known = f"on {device}"
        if known not in self.made:
            tables = {name: table.to(device) for name, table in self.tables.items()}
            start = self.q_start.to(device) if isinstance(self.q_start, Tensor) else self.q_start
            self.made[known] = replace(
                self,
                written=replace(self.written, tables=tables, q_start=start),
                sizes=replace(self.sizes, device=device),
                make_dense=lambda: self.dense().to(device),
                made={},
            )
        return self.made[known]

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls a function of torch with the additive mask in this object's place."""
        return function(*map(_dense, args), **{name: _dense(value) for name, value in (kwargs or {}).items()})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python's own protocols ask for
            raise AttributeError(name)
        return getattr(self.dense(), name)

    def __getitem__(self, index: Any) -> Tensor:
        return self.dense()[_dense(index)]

    def __len__(self) -> int:
        return self.sizes.batch

    def __bool__(self) -> bool:
        """As a tensor has it: an error where there is more than one element."""
        return bool(self.dense())

    def __repr__(self) -> str:
        return f"<PatternMask {list(self.shape)}: {self.written.condition}>"


def _dense(value: Any) -> Any:
    """A value of a call of torch, with each mask in it as a tensor."""
    if isinstance(value, PatternMask):
        return value.dense()
    if isinstance(value, (list, tuple)) and any(isinstance(part, (PatternMask, list, tuple)) for part in value):
        return type(value)(map(_dense, value))
    return value


def _forward(name: str) -> None:
    """Gives the class the operator of this name, on the additive mask."""
    function = getattr(operator, f"__{name.strip('_').removeprefix('r')}__", None) if name.startswith("__r") else None

    def call(self: PatternMask, *others: Any) -> Any:
        dense, rest = self.dense(), tuple(map(_dense, others))
        if function is not None:
            return function(*rest, dense)
        return getattr(dense, name)(*rest)

    call.__name__ = name
    setattr(PatternMask, name, call)


_OPERATORS = "add sub mul truediv and or xor radd rsub rmul rtruediv rand ror rxor invert neg abs lt le gt ge eq ne"
for _name in _OPERATORS.split():
    _forward(f"__{_name}__")
PatternMask.__hash__ = object.__hash__  # type: ignore[method-assign]
