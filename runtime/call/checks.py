"""The arguments of one call of an attention, and their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...compiler.diagnostics import LARGEST_POSITION, LARGEST_SIZE
from ...compiler.ir import Attention, CallShape, Expr, part_of_keys
from ...compiler.oracle import NumpyArrays, environment, interpret
from ...compiler.verify import check_scale
from ..base import compute_dtype, device_numbers, dtype_name
from . import errors
from .host_values import LARGEST, copied, integer, real, unfit
from .tables import DTYPES, INTEGERS, TableSizes, check

_FLOATS = "float32, bfloat16, float16 or float64"
_ZERO = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True)
class Call:
    """The arguments of one call. ``tables`` holds the tables that were given, by name. ``q_starts``, a tensor, takes
    precedence over ``q_start`` where it is not None; so do ``k_starts`` over ``k_start``, the position of the first key
    row. ``positions``: the number of positions that the call gives as ``n``; None for ``k_start`` + the rows of k.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    tables: Mapping[str, Tensor]
    scale: Tensor | None
    q_start: int
    q_starts: Tensor | None
    dropout: float
    seed: int
    k_start: int = 0
    k_starts: Tensor | None = None
    positions: int | None = None

    @property
    def n(self) -> int:
        """The number of positions: that of all keys, of which the call may have a part."""
        return self.k_start + self.k.shape[2] if self.positions is None else self.positions

    @property
    def of_all_keys(self) -> bool:
        """Whether the call says nothing of a part of the keys."""
        if self.k_starts is not None or self.positions is not None:
            return False
        traced = isinstance(self.k_start, torch.SymInt)  # asked whether it is 0, it would be taken for a constant
        return not traced and not self.k_start

    @property
    def sizes(self) -> TableSizes:
        batch, heads, m, _ = self.q.shape
        if self.of_all_keys:
            return TableSizes(batch, heads, m, self.k.shape[2])
        origin = "n, which is k_start + the rows of k" if self.positions is None else "n, as given"
        return TableSizes(batch, heads, m, self.n, origin)

    @property
    def compute_dtype(self) -> torch.dtype:
        return compute_dtype(self.q.dtype)


def check_tensors(q: object, k: object, v: object, devices: tuple[str, ...] | None = None) -> None:
    """Checks the types, dtypes, devices and ranks of q, k and v. TypeError, or ValueError for a device or a rank.

    ``devices``: the device types that are allowed; None skips this check.
    """
    if _are_alike(q, k, v, devices):
        return
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: is {type(x).__name__}, expected a tensor")
        odd = unfit(x)
        if odd is not None:
            raise TypeError(f"{name}: {odd}, expected a dense one: pad it, and leave the padding out by the pattern")
        if x.dtype not in DTYPES:
            raise TypeError(f"{name}: has dtype {dtype_name(x.dtype)}, expected {_FLOATS}")
        if devices is not None and x.device.type not in devices:
            raise ValueError(f"{name}: is on {x.device}, expected {' or '.join(devices)}")
        if x.ndim != 4:
            raise ValueError(
                f"{name}: has shape {list(x.shape)}, expected 4 dimensions [batch, heads, tokens, features]"
            )
    assert isinstance(q, Tensor)
    for name, x in (("k", k), ("v", v)):
        assert isinstance(x, Tensor)
        if x.dtype != q.dtype:
            raise TypeError(f"{name}: has dtype {dtype_name(x.dtype)}, expected {dtype_name(q.dtype)}, as q has")
        if x.device != q.device:
            raise ValueError(f"{name}: is on {x.device}, expected {q.device}, where q is")


def _are_alike(q: object, k: object, v: object, devices: tuple[str, ...] | None) -> bool:
    """Whether three plain tensors pass all of the checks at a glance, as those of most calls do."""
    if not (type(q) is type(k) is type(v) is Tensor):
        return False
    dtype, device, dense = q.dtype, q.device, torch.strided
    return (
        dtype == k.dtype == v.dtype
        and dtype in DTYPES
        and device == k.device == v.device
        and (devices is None or device.type in devices)
        and q.ndim == k.ndim == v.ndim == 4
        and q.layout == k.layout == v.layout == dense
        and not (q.is_nested or k.is_nested or v.is_nested)
    )


def check_call(attention: Attention, call: Call) -> None:
    """Checks all that shapes and dtypes show, so that it also runs on fake tensors. TypeError or ValueError."""
    check_tensors(call.q, call.k, call.v)
    batch, heads, _, head_dim = call.q.shape
    _, kv_heads, n, _ = call.k.shape
    if head_dim < 1 or call.v.shape[3] < 1:
        name = "q" if head_dim < 1 else "v"
        raise ValueError(f"{name}: has shape {list(getattr(call, name).shape)}, expected at least one feature")
    _expect("k", call.k, 0, batch, "the batch of q")
    _expect("v", call.v, 0, batch, "the batch of q")
    _expect("v", call.v, 1, kv_heads, "the heads of k")
    _expect("v", call.v, 2, n, "the tokens of k")
    _expect("k", call.k, 3, head_dim, "the features of q")
    if heads % kv_heads if kv_heads else heads:
        raise ValueError(f"q: has {heads} heads, expected a multiple of the {kv_heads} heads of k")
    if attention.heads not in (None, heads):
        raise ValueError(errors.other_heads(attention, heads))
    if call.scale is not None and list(call.scale.shape) not in ([], [heads]):
        raise ValueError(
            f"scale: has shape {list(call.scale.shape)}, expected a number or [{heads}], one for each head"
        )
    if call.q_starts is not None:
        check_starts(call.q_starts, batch)
    if call.k_starts is not None:
        check_starts(call.k_starts, batch, "k_start")
    check(attention, call.tables, call.sizes)


def _expect(name: str, x: Tensor, axis: int, size: int, what: str) -> None:
    if x.shape[axis] != size:
        raise ValueError(f"{name}: has shape {list(x.shape)}, expected {size} ({what}) in dimension {axis}")


_STARTS = "an int or an int tensor [batch]"
_BELOW = {"q_start": "2**62", "k_start": "2**48"}


def checked_start(given: object, name: str = "q_start") -> tuple[int, Tensor | None]:
    """The position of the first row, which the call gives as ``name``: a number and None, or 0 and a tensor
    ``[batch]``; arrays and lists are copied.

    TypeError for another type, ValueError for a number below 0 or beyond 64 bits.
    """
    if type(given) is int and 0 <= given <= LARGEST:
        return given, None
    if isinstance(given, Tensor):
        odd = unfit(given)
        if odd is not None:
            raise TypeError(f"{name}: {odd}, expected {_STARTS}")
        return 0, given
    if isinstance(given, torch.SymInt):
        return given, None  # type: ignore[return-value]
    if isinstance(given, np.ndarray) and given.ndim:
        return 0, copied(name, given, _STARTS)
    if isinstance(given, (list, tuple)):
        return 0, torch.tensor([_start(name, value, "holds") for value in given], dtype=torch.int64)
    return _start(name, given, "is"), None


def _start(name: str, value: object, verb: str) -> int:
    """One position as an int. TypeError for another type, ValueError for one below 0 or beyond 64 bits."""
    whole = isinstance(value, Tensor) and not value.ndim and value.dtype in INTEGERS
    start = int(value) if whole else integer(value)  # type: ignore[call-overload]
    if start is None:
        raise TypeError(f"{name}: {verb} {type(value).__name__}, expected {_STARTS}")
    if start < 0:
        raise ValueError(f"{name}: {verb} {start}, expected a position, 0 or more")
    if start > LARGEST:
        raise ValueError(f"{name}: {verb} {start}, expected a position below {_BELOW[name]}")
    return start


def checked_positions(n: object, k_starts: Tensor | None) -> int | None:
    """The number of positions that a call gives, None where it follows from one ``k_start`` and the rows of k.

    TypeError for another type; ValueError for a number out of range, and where it is missing beside a tensor.
    """
    if n is None:
        if k_starts is not None:
            raise ValueError("n: is not given, expected the number of positions, since k_start is a tensor")
        return None
    if isinstance(n, torch.SymInt):
        return n  # type: ignore[return-value]
    number = integer(n)
    if number is None:
        raise TypeError(f"n: is {type(n).__name__}, expected an int, the number of positions")
    if not 0 <= number <= LARGEST_SIZE:
        raise ValueError(f"n: is {number}, expected 0 to 2**48")
    return number


def extent_of(call: Call, unread: bool = False) -> CallShape:
    """The sizes and positions of a checked call. ValueError for a position out of range, if the host knows it.

    ``unread``: the host reads no tensor, not even one that lies on it.
    """
    batch, heads, m, _ = call.q.shape
    starts = None if unread and call.q_starts is not None else positions(call.q_start, call.q_starts, batch)
    check_positions(starts, m)
    if call.of_all_keys:
        return CallShape(n=call.k.shape[2], m=m, heads=heads, q_start=starts)
    k_starts = None
    if call.k_starts is None or not unread:
        k_starts = positions(call.k_start, call.k_starts, batch, "k_start")
    check_key_positions(k_starts, call.n)
    return part_of_keys(CallShape(n=call.n, m=m, heads=heads, q_start=starts), k_starts, call.k.shape[2])


def positions(given: int, tensor: Tensor | None, batch: int, name: str = "q_start") -> tuple[int, ...] | None:
    """The first position of rows, once for all or one per batch entry; None where only a device knows it.

    ValueError for a negative one; ``name`` is that of the argument that gave it.
    """
    starts = (given,)
    if tensor is not None:
        if tensor.device.type != "cpu":
            return None
        check_starts(tensor, batch, name)
        values = tensor.reshape(-1).tolist()
        starts = tuple(values) if len(set(values)) > 1 else tuple(values[:1]) or (0,)
    if min(starts) < 0:
        raise ValueError(f"{name}: is {min(starts)}, expected a position, 0 or more")
    return starts


def check_positions(starts: tuple[int, ...] | None, m: int) -> None:
    """ValueError where the last of ``m`` query rows would lie beyond the largest allowed position."""
    if starts is not None and max(starts) + m > LARGEST_POSITION:
        raise ValueError(f"q_start: is {max(starts)}, expected {m} rows from it on to stand below 2**62")


def check_key_positions(starts: tuple[int, ...] | None, n: int) -> None:
    """ValueError where keys begin beyond the largest allowed number of positions, or ``n`` is beyond it."""
    if starts is not None and max(starts) > LARGEST_SIZE:
        raise ValueError(f"k_start: is {max(starts)}, expected at most 2**48")
    if n > LARGEST_SIZE:
        raise ValueError(f"n: is {n}, expected at most 2**48")


def check_starts(starts: Tensor, batch: int, name: str = "q_start") -> None:
    """TypeError for positions that are not integers, ValueError for those of another shape."""
    if starts.dtype not in INTEGERS:
        raise TypeError(f"{name}: has dtype {dtype_name(starts.dtype)}, expected integers")
    if list(starts.shape) not in ([], [1], [batch]):
        raise ValueError(f"{name}: has shape {list(starts.shape)}, expected an int or [{batch}], the batch of q")


def positions_of(call: Call) -> Tensor:
    """The position of the first query row: int64 ``[1]`` or ``[batch]``, on the device of q."""
    return _on_device(call.q_start, call.q_starts, call.q.device)


def key_positions_of(call: Call) -> Tensor:
    """The position of the first key row: int64 ``[1]`` or ``[batch]``, on the device of q."""
    return _on_device(call.k_start, call.k_starts, call.q.device)


def _on_device(start: int, starts: Tensor | None, device: torch.device) -> Tensor:
    if starts is None:  # filled on the device: a copy from the host would synchronise
        return torch.full((1,), start, dtype=torch.int64, device=device)
    if starts.device.type == "cpu" != device.type:
        return device_numbers(tuple(starts.reshape(-1).tolist()), torch.int64, device)
    return starts.to(device, torch.int64).reshape(-1).contiguous()


def scale_of(attention: Attention, call: Call) -> Tensor:
    """The factor of q·k for each head: ``[heads]`` in the compute dtype, on the device of q. ValueError if it is not
    finite.
    """
    heads, head_dim = call.q.shape[1], call.q.shape[3]
    if call.scale is not None:
        scale = call.scale.detach().to(call.compute_dtype).expand(heads)
        if scale.device.type == "cpu" != call.q.device.type:
            return _numbers(tuple(scale.tolist()), call.compute_dtype, call.q.device)
        return scale.to(call.q.device).contiguous()
    values, endless = _scales(attention.scale, heads, head_dim, call.compute_dtype)
    if endless is not None:
        raise ValueError(errors.endless_scale(attention, endless, values[endless]))
    return _numbers(values, call.compute_dtype, call.q.device)


def _numbers(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    if len(set(values)) == 1:  # filled on the device: a copy from the host would synchronise
        return torch.full((len(values),), values[0], dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype) if device.type == "cpu" else device_numbers(values, dtype, device)


@lru_cache(maxsize=512)
def _scales(scale: Expr, heads: int, head_dim: int, dtype: torch.dtype) -> tuple[tuple[float, ...], int | None]:
    """The scale that the text gives each head, and the first head whose scale is not finite, None if all are.

    IntegerRangeError where an integer in it leaves 63 bits.
    """
    check_scale(scale, heads, head_dim)
    bound = environment(NumpyArrays(), 0, 0, heads, _ZERO, {}, head_dim=head_dim)
    with np.errstate(all="ignore"):  # the caller refuses what is not finite
        values = np.broadcast_to(interpret(scale, bound).reshape(-1), (heads,))
    endless = (head for head, value in enumerate(values.tolist()) if not is_finite(value, dtype))
    return tuple(values.tolist()), next(endless, None)


def check_dropout(dropout: object) -> float:
    """The dropout probability as a float. TypeError for another type, ValueError outside ``[0, 1)``."""
    number = real(dropout)
    if number is None:
        raise TypeError(f"dropout: is {type(dropout).__name__}, expected a number")
    if not 0 <= number < 1:
        raise ValueError(f"dropout: is {dropout}, expected a probability of at least 0 and below 1")
    return number


_SCALES = "a number or a tensor, one for each head"


def checked_scale(scale: object, dtype: torch.dtype) -> Tensor | None:
    """The factor of q·k as a tensor, or None; arrays and lists are copied. ``dtype`` is that of q.

    TypeError for another type. ValueError for a number that is not finite in the compute dtype of q, and for a tensor
    that requires a gradient, which would be lost. A tensor's contents are not read.
    """
    if scale is None:
        return None
    if isinstance(scale, Tensor):
        odd = unfit(scale)
        if odd is not None:
            raise TypeError(f"scale: {odd}, expected {_SCALES}")
        if scale.dtype not in DTYPES:
            raise TypeError(f"scale: has dtype {dtype_name(scale.dtype)}, expected a float tensor: {_FLOATS}")
        if scale.requires_grad:
            raise ValueError("scale: requires a gradient, which it does not get; expected q to be multiplied by it")
        return scale
    if isinstance(scale, np.ndarray) and scale.ndim:
        array = copied("scale", scale, _SCALES)
        if array.dtype == torch.bool or array.is_complex():
            raise TypeError(f"scale: has dtype {dtype_name(array.dtype)}, expected {_SCALES}")
        if not torch.compiler.is_compiling():  # where it is traced, what it holds is not known
            for number in array.reshape(-1).tolist():
                _check_finite(float(number), dtype, "holds")
        return array.to(torch.float64)
    if isinstance(scale, (list, tuple)):
        numbers = [real(number) for number in scale]
        for given, number in zip(scale, numbers, strict=True):
            if number is None:
                raise TypeError(f"scale: holds {type(given).__name__}, expected {_SCALES}")
            _check_finite(number, dtype, "holds")
        return torch.tensor(numbers, dtype=torch.float64)
    number = real(scale)
    if number is None:
        raise TypeError(f"scale: is {type(scale).__name__}, expected {_SCALES}")
    _check_finite(number, dtype, "is")
    return _number(number)


def _number(number: float) -> Tensor:
    """A number as float64 ``[]`` on the host; the same tensor for the same number where it can be shared."""
    special = (
        torch.compiler.is_compiling()
        or torch.is_inference_mode_enabled()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )
    if special:
        return torch.tensor(number, dtype=torch.float64, device="cpu")
    return _kept_number(number, math.copysign(1, number))


@lru_cache(maxsize=256)
def _kept_number(number: float, _sign: float) -> Tensor:  # since 0.0 equals -0.0
    return torch.tensor(number, dtype=torch.float64, device="cpu")


def _check_finite(number: float, dtype: torch.dtype, verb: str) -> None:
    if not is_finite(number, dtype):
        raise ValueError(f"scale: {verb} {number}, expected a finite number")


_MOST = {dtype: torch.finfo(dtype).max for dtype in (torch.float32, torch.float64)}


def is_finite(number: float, dtype: torch.dtype) -> bool:
    """Whether a number is finite in the compute dtype: not NaN, not infinite, and not beyond float32 unless that is
    float64.
    """
    most = _MOST[compute_dtype(dtype)]
    return -most <= number <= most
