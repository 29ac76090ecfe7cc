"""Helps to test one's own patterns: assertions that show what differs, and hypothesis strategies for random input.

    from attnc.testing import assert_mask, assert_matches_reference

    def test_local() -> None:
        attend = attnc.load("local.attn").local(size=4)
        assert_mask(attend, 8, lambda q, k: abs(q - k) <= 2 or 0 in (q, k), g={0})
        assert_matches_reference(attend)

Importing this module is fast: the first assertion imports torch, the first strategy hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .call_shapes import SHAPES, Shape

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

    from ..attention import Attention

__all__ = [
    "SHAPES", "Shape", "assert_mask", "assert_matches_reference", "assert_support", "patterns", "shapes", "tables",
]  # fmt: skip


def assert_mask(
    attention: Attention,
    n: int,
    expected: str | Callable[[int, int], bool | int] | Any,
    m: int | None = None,
    *,
    head: int | None = None,
    heads: int | None = None,
    q_start: int = 0,
    **tables: object,
) -> None:
    """Asserts that the mask of ``n`` keys is the expected one, in every head and batch entry, or in the one ``head``.

    ``expected`` is a picture as in a ``test`` block (``#`` kept, ``.`` not kept, a digit for a count), an array or
    tensor ``[m, n]``, ``[heads, m, n]`` or ``[batch, heads, m, n]`` of bools or counts, or a function of two positions
    ``(q, k)``. ``tables`` are given as in a call. AssertionError with the pictures side by side; ValueError where the
    shapes do not fit.
    """
    from .mask_assertions import compare

    mask = attention.mask(n, m, heads=heads, q_start=q_start, **tables)  # type: ignore[arg-type]
    compare(attention.name, mask.numpy(), expected, q_start, head)


def assert_matches_reference(
    attention: Attention,
    *,
    shapes: Iterable[Shape] = SHAPES,
    dtypes: Iterable[str | torch.dtype] = ("float32",),
    backward: bool = True,
    device: str | torch.device = "cpu",
    seed: int = 0,
    **tables: Any,
) -> None:
    """Asserts that kernels and dense definition agree on random input, in output and gradients, within the dtype's
    rounding.

    Each of ``tables`` is what a call takes, or a function that makes it from a :class:`Shape`; those that are not given
    are made up. The reference is computed in float64. AssertionError names the shape, the dtype and the worst place.
    """
    from .agreement import check_reference

    for shape in shapes:
        for dtype in dtypes:
            check_reference(attention, shape, dtype, backward, device, seed, tables)


def assert_support(
    attention: Attention,
    *,
    shapes: Iterable[Shape] = SHAPES,
    device: str | torch.device = "cpu",
    seed: int = 0,
    **tables: Any,
) -> None:
    """Asserts that the kernels keep exactly the pairs of the mask.

    A tolerance cannot show one wrong key among thousands. So here every logit is 0 and every value is 0 or 1: each kept
    pair has the weight of one over the row's count, and output times count is a whole number that is known in advance;
    the gradient of the values is tested likewise. Score and sink are left out, because only the mask is tested.
    ``tables`` as for :func:`assert_matches_reference`. AssertionError names the first row or key that is wrong.
    """
    from .agreement import check_support

    for shape in shapes:
        check_support(attention, shape, device, seed, tables)


def patterns(*, with_tables: bool = True, with_counts: bool = False) -> SearchStrategy[Attention]:
    """Random patterns, bound and ready to be called: the prelude's, joined by ``and``, ``or``, ``not`` and ``if``.

    ``with_tables``: some take run-time tables (``g``, ``doc``, ``length``). ``with_counts``: some are multisets, joined
    by ``+``. The text of each is its ``.text``, which a failing example shows.
    """
    from .strategies import patterns

    return patterns(with_tables, with_counts)


def shapes(largest: int = 80, *, heads: Sequence[int] = (1, 2, 4), decoding: bool = True) -> SearchStrategy[Shape]:
    """Random sizes of a call, with at most ``largest`` keys; with ``decoding`` some begin at a later query position."""
    from .strategies import shapes

    return shapes(largest, tuple(heads), decoding)


def tables(attention: Attention, shape: Shape) -> SearchStrategy[dict[str, torch.Tensor]]:
    """Random contents for every run-time table of an attention, of sizes that fit the call, some with a batch.

    Integers are positions, ``0 .. n - 1``, so that a pattern may use them as an index. A free dimension has an entry
    for each position. Tables with a default are sometimes left out.
    """
    from .strategies import tables

    return tables(attention, shape)
