"""Sums that kernels store for gradients of tables, and how they are added to the gradients."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from ...compiler.codegen.triton import DIGIT_BITS, DIGITS, GradientSite
from ...compiler.ir import Table
from ..base import Wanted


def from_digits(sums: Tensor) -> Tensor:
    """Float32 sums ``[...]`` from their integer digits ``[..., DIGITS]``; infinite or NaN where a summand was."""
    weights = 2.0 ** (DIGIT_BITS * torch.arange(DIGITS - 1, dtype=torch.float64, device=sums.device) - 149)
    found = (sums[..., :-1].double() * weights).sum(-1)
    odd = sums[..., -1]
    above, below = (odd & 0xFFFFF) > 0, (odd >> 20 & 0xFFFFF) > 0
    found = torch.where(above, torch.inf, torch.where(below, -torch.inf, found))
    return torch.where((odd >> 40 > 0) | (above & below), torch.nan, found).float()


class SiteSums:
    """The sums that kernels store for one site (a read of a float table by the score or the sink), and the table entry
    that each belongs to.
    """

    def __init__(
        self, site: GradientSite, shape: tuple[int, ...], slots: int | tuple[int, ...], like: Tensor, dtype: torch.dtype
    ) -> None:
        self.site = site
        self.values = torch.zeros(shape, dtype=dtype, device=like.device)
        places = slots if site.level == "block" else shape
        self.places = torch.zeros(places, dtype=torch.int64, device=self.values.device)

    @property
    def arguments(self) -> dict[str, Tensor]:
        return {f"site{self.site.number}": self.values, f"site{self.site.number}_place": self.places}

    def add_to(self, table: Tensor | None) -> None:
        """Adds the sums to their table entries; several to one entry in a fixed order."""
        assert table is not None
        values = self.values.sum(-1) if self.site.level == "block" else self.values
        if table.numel() and values.numel():
            table.view(-1).index_put_((self.places.view(-1),), values.reshape(-1), accumulate=True)


def joined(sums: list[SiteSums]) -> dict[str, Any]:
    """The arguments of all sums."""
    found: dict[str, Any] = {}
    for part in sums:
        found |= part.arguments
    return found


def add(sums: list[SiteSums], tables: tuple[Tensor | None, ...]) -> None:
    """Adds all sums to the gradients of their tables."""
    for part in sums:
        part.add_to(tables[part.site.table])


def needed_passes(sites: tuple[GradientSite, ...], wanted: Wanted) -> tuple[bool, bool]:
    """Whether kernels that walk over the keys of each query are needed, and those over the queries of each key."""
    levels = {site.level for site in sites if not site.sink and wanted.table(site.table)}
    return wanted.q or bool(levels - {"column"}), wanted.k or wanted.v or "column" in levels


def say_unordered(tables: list[Table]) -> None:
    """Raises or warns under torch's deterministic mode, as torch does for operations without a deterministic form."""
    if not tables or not torch.are_deterministic_algorithms_enabled():
        return
    text = (
        f"{tables[0].name}: its gradient in fp64 has no deterministic form on a GPU, as its entries are chosen by "
        "query and key together; cast q, k and v to fp32, or turn off torch.use_deterministic_algorithms"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(text)
    warnings.warn(text, RuntimeWarning, stacklevel=2)
