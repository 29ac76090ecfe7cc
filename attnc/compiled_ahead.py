"""Builds the C++ kernels that calls will need before the first of them, for `Attention.compile_for`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import torch

from .call_plan import Sizes, checked_size, sized_call
from .compiler.ir import Attention
from .compiler.plan import FLOATS, float_named
from .runtime.backends import backend_of_target
from .runtime.base import built, torch_dtype
from .runtime.launch_cache import launch_for
from .runtime.op import call_of

_ROW = 1  # of a step of decoding; up to 16 have the same kernel


@dataclass(frozen=True)
class AheadOf:
    """The calls that kernels are built for, as `Attention.compile_for` takes them."""

    dtypes: object
    head_dims: object
    n: int
    heads: int | None
    dropout: float


def build_ahead(attention: Attention, name: str, wish: AheadOf, tables: Mapping[str, object]) -> int:
    """Builds what calls of such dtypes and head dimensions run on a CPU, and returns how many kernels that were.

    TypeError and ValueError for an argument that does not fit; the errors of a build.
    """
    backend = backend_of_target("cpu")
    n, heads = _size(attention, "n", wish.n), wish.heads
    if heads is None:
        heads = attention.heads or sized_call(attention, Sizes(n, n, None, 0, 0, None), tables).extent.heads
    heads = _size(attention, "heads", heads)
    dtypes, dims = tuple(_dtypes(wish.dtypes)), tuple(_dims(attention, wish.head_dims))
    backend.require(torch.device("cpu"))
    before = built()
    for dtype, (head_dim, value_dim), m in product(dtypes, dims, dict.fromkeys((n, _ROW))):
        sizes = (m, head_dim), (n, head_dim), (n, value_dim)
        q, k, v = (torch.empty(1, heads, rows, dim, dtype=dtype) for rows, dim in sizes)
        call = call_of(attention, q, k, v, scale=None, q_start=n - m, dropout=wish.dropout, seed=0, tables=tables)
        for backward in (False, True) if torch.is_grad_enabled() and m == n else (False,):
            backend.build_for(launch_for(attention, name, call, backend, backward), backward)
    return built() - before


def _size(attention: Attention, name: str, given: object) -> int:
    """A size of 1 or more."""
    size = checked_size(attention, name, given)
    if not size:
        raise ValueError(f"{name}: is 0, expected 1 or more")
    return size


def _dtypes(given: object) -> Iterator[torch.dtype]:
    """The dtypes of q, k and v, by torch's names or ours."""
    known = {torch_dtype(dtype): dtype.name for dtype in FLOATS}
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"dtypes: is {type(given).__name__}, expected a list of dtypes")
    for each in given:
        if isinstance(each, str):
            yield torch_dtype(float_named(each))
        elif each in known:
            yield each
        else:
            raise ValueError(f"dtypes: holds {each!r}, expected some of {', '.join(map(str, known))}")


def _dims(attention: Attention, given: object) -> Iterator[tuple[int, int]]:
    """The head dimension of queries and keys, and that of values."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"head_dims: is {type(given).__name__}, expected a list of head dimensions")
    for each in given:
        pair = each if isinstance(each, tuple) else (each, each)
        if len(pair) != 2:
            raise ValueError(f"head_dims: holds {each!r}, expected a head dimension, or a pair of it and the values'")
        head_dim, value_dim = (_size(attention, "head_dims", one) for one in pair)
        yield head_dim, value_dim
