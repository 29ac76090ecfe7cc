"""What a model is run on to see its masks: a plain text, padding, packed documents, and a step of decoding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

PADDING = -1  # the document of a token that is padding


@dataclass(frozen=True, eq=False)
class Scenario:
    """One way to call a model with ``n`` tokens in each row of a batch.

    ``documents``, int64 ``[batch, n]``: the document of each token, PADDING for one of padding. ``is_padded``: the
    model is given an ``attention_mask``. ``is_packed``: it is given ``position_ids`` that begin again with each
    document. ``decodes``: the last token comes by itself, after the others, with a cache.
    """

    name: str
    documents: Tensor
    is_padded: bool = False
    is_packed: bool = False
    decodes: bool = False

    @property
    def n(self) -> int:
        return self.documents.shape[1]

    @property
    def real(self) -> Tensor:
        """Which tokens are no padding, bool ``[batch, n]``."""
        return self.documents != PADDING

    def extended(self, n: int) -> Scenario:
        """The same with padding after the last token, ``n`` tokens in all: some models add it themselves."""
        more = torch.full((len(self.documents), n - self.n), PADDING, dtype=self.documents.dtype)
        return replace(self, documents=torch.cat([self.documents, more], 1))

    @property
    def begins(self) -> Tensor:
        """The position at which each token's document begins, int64 ``[batch, n]``."""
        place = torch.arange(self.n).expand_as(self.documents)
        new = torch.ones_like(self.real)
        new[:, 1:] = self.documents[:, 1:] != self.documents[:, :-1]
        return torch.where(new, place, 0).cummax(1).values

    @property
    def position_ids(self) -> Tensor:
        """The position of each token in its document, int64 ``[batch, n]``."""
        return torch.where(self.real, torch.arange(self.n) - self.begins, 0)


def plain(batch: int, n: int) -> Scenario:
    """Texts of one document each, without padding."""
    return Scenario("plain", torch.zeros(batch, n, dtype=torch.int64))


def scenarios(n: int) -> tuple[Scenario, ...]:
    """The four that an audit runs, of ``n`` tokens each; ``n`` is 8 or more."""
    one = torch.zeros(1, n, dtype=torch.int64)
    padded = torch.zeros(2, n, dtype=torch.int64)
    padded[0, : n // 5] = PADDING
    packed = torch.zeros(1, n, dtype=torch.int64)
    packed[:, n // 3 : n - n // 4], packed[:, n - n // 4 :] = 1, 2
    return (
        Scenario("plain", one),
        Scenario("left padding", padded, is_padded=True),
        Scenario("packed", packed, is_packed=True),
        Scenario("prefill and one token", one, decodes=True),
    )
