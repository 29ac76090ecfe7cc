"""Triton's language in numpy, as far as planning kernels use it: the same text runs a hundred times faster than in
Triton's interpreter, and reads no memory outside of its tensors.

One program runs after the other. A pointer is a tensor and a place in it; an access whose lane is not masked and whose
place is outside is an error, which the interpreter would not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

_DTYPES = {"int32": np.int32, "int64": np.int64, "uint8": np.uint8, "uint32": np.uint32,
           "float32": np.float32, "float64": np.float64}  # fmt: skip


def _plain(x: Any) -> Any:
    return x.values if isinstance(x, Block) else x


def _binary(operate: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    def left(self: Block, other: Any) -> Block:
        return Block(operate(self.values, _plain(other)))

    def right(self: Block, other: Any) -> Block:
        return Block(operate(_plain(other), self.values))

    return left, right


def _quotient(a: Any, b: Any) -> Any:
    """Rounded towards zero, as Triton divides."""
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


class Block:
    """A block of values, or one value."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    __add__, __radd__ = _binary(np.add)
    __sub__, __rsub__ = _binary(np.subtract)
    __mul__, __rmul__ = _binary(np.multiply)
    __and__, __rand__ = _binary(np.bitwise_and)
    __or__, __ror__ = _binary(np.bitwise_or)
    __xor__, __rxor__ = _binary(np.bitwise_xor)
    __lshift__, __rlshift__ = _binary(np.left_shift)
    __rshift__, __rrshift__ = _binary(np.right_shift)
    __mod__, __rmod__ = _binary(np.fmod)
    __floordiv__, __rfloordiv__ = _binary(_quotient)
    __lt__, _ = _binary(np.less)
    __le__, _ = _binary(np.less_equal)
    __gt__, _ = _binary(np.greater)
    __ge__, _ = _binary(np.greater_equal)
    __eq__, _ = _binary(np.equal)  # type: ignore[assignment]
    __ne__, _ = _binary(np.not_equal)  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Block:
        return Block(-self.values)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __index__(self) -> int:
        return int(self.values)

    def __getitem__(self, index: Any) -> Block:
        return Block(self.values[index])

    def to(self, dtype: Any) -> Block:
        return Block(self.values.astype(dtype))


class Pointer:
    """Places in a tensor."""

    def __init__(self, memory: Any, place: Any = 0) -> None:
        self.memory, self.place = memory, place

    def __add__(self, offset: Any) -> Pointer:
        return Pointer(self.memory, self.place + _plain(offset))

    def __sub__(self, offset: Any) -> Pointer:
        return Pointer(self.memory, self.place - _plain(offset))


def _places(pointer: Pointer, mask: Any) -> tuple[Any, Any]:
    place, kept = np.broadcast_arrays(np.asarray(pointer.place), True if mask is None else _plain(mask))
    assert kept.dtype == bool, "a mask is a condition"
    inside = (place >= 0) & (place < len(pointer.memory))
    assert (inside | ~kept).all(), "an access outside of the tensor"
    return np.where(kept, place, 0), kept


def _load(pointer: Pointer, mask: Any = None, other: Any = 0) -> Block:
    place, kept = _places(pointer, mask)
    if not len(pointer.memory):
        return Block(np.full(place.shape, other, pointer.memory.dtype))
    return Block(np.where(kept, pointer.memory[place], np.asarray(other, pointer.memory.dtype)))


def _store(pointer: Pointer, value: Any, mask: Any = None) -> None:
    place, kept = _places(pointer, mask)
    chosen = place[kept]
    assert len(np.unique(chosen)) == chosen.size, "two lanes store to one place"
    pointer.memory[chosen] = np.broadcast_to(_plain(value), place.shape)[kept]


def _where(condition: Any, a: Any, b: Any) -> Block:
    return Block(np.where(_plain(condition), _plain(a), _plain(b)))


def _language(program: int) -> SimpleNamespace:
    return SimpleNamespace(
        **_DTYPES,
        program_id=lambda _axis: Block(np.int32(program)),
        arange=lambda first, end: Block(np.arange(first, end, dtype=np.int32)),
        range=lambda first, end, step=1: (
            Block(np.int32(x)) for x in range(int(_plain(first)), int(_plain(end)), step)
        ),
        zeros=lambda shape, dtype: Block(np.zeros(shape, dtype)),
        full=lambda shape, value, dtype: Block(np.full(shape, value, dtype)),
        cast=lambda x, dtype: Block(np.asarray(_plain(x)).astype(dtype)),
        cdiv=lambda a, b: Block(np.int32(-(-int(_plain(a)) // int(_plain(b))))),
        load=_load,
        store=_store,
        where=_where,
        minimum=lambda a, b: Block(np.minimum(_plain(a), _plain(b))),
        maximum=lambda a, b: Block(np.maximum(_plain(a), _plain(b))),
        abs=lambda x: Block(np.abs(_plain(x))),
        sum=lambda x, axis: Block(np.sum(_plain(x), axis, dtype=_plain(x).dtype)),
        min=lambda x, axis: Block(np.min(_plain(x), axis)),
        max=lambda x, axis: Block(np.max(_plain(x), axis)),
        cumsum=lambda x, axis: Block(np.cumsum(_plain(x), axis, dtype=_plain(x).dtype)),
        associative_scan=lambda x, axis, _combine: Block(np.maximum.accumulate(_plain(x), axis)),
    )


_compiled: dict[str, Any] = {}


def run(text: str, name: str, programs: int, arguments: Mapping[str, Any]) -> None:
    """Runs one function of a planning module, in so many programs; tensors among the arguments lie on the host."""
    code = _compiled.get(text)
    if code is None:
        body = "\n".join(line for line in text.splitlines() if not line.startswith("import triton"))
        code = _compiled[text] = compile(body, "<planning kernels>", "exec")
    given = {key: _argument(value) for key, value in arguments.items()}
    holder: dict[str, Any] = {"triton": SimpleNamespace(jit=_jit)}
    exec(code, holder)  # noqa: S102 - text that the product rendered
    with np.errstate(all="ignore"):
        for program in range(programs):
            holder["tl"] = _language(program)
            holder[name](**given)


def _jit(function: Any = None, **_options: Any) -> Any:
    return function if function is not None else lambda each: each


def _argument(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        assert value.is_contiguous()
        return Pointer(value.view(-1).numpy())
    return Block(np.int32(value)) if isinstance(value, int) and abs(value) < 2**31 else value
