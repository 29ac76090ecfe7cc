"""A layer of a cache, which keeps what the mask that its attention applies can still read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from ....attention import Attention
from ....compiler import ir
from ....last_reader import LastReader, last_reader_of
from .slots import FOREVER, Run, Slots

FAR = 2**39  # a row that no text reaches
AHEAD = 256  # tokens whose last readers are computed at once
_CARRIED = "attnc_held_keys"


@dataclass(frozen=True, eq=False)
class HeldKeys:
    """What the key rows of a call are: ``runs`` of the ``total`` positions that there are, in a layer of a cache."""

    layer: PatternCacheLayer
    runs: tuple[Run, ...]
    total: int


class ThinnedKeys(Tensor):
    """Keys of which some are dropped. Only attnc's attention knows which: any other operation is refused."""

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What a tensor is like may be asked. ValueError for everything that computes other tensors with it."""
        with torch._C.DisableTorchFunctionSubclass():
            found = function(*args, **(kwargs or {}))
        if not any(isinstance(part, Tensor) for part in (found if isinstance(found, (tuple, list)) else [found])):
            return found  # a shape, a device
        if getattr(getattr(function, "__self__", None), "__name__", "") in _ASKED:
            return found
        raise ValueError(
            f"past_key_values: has dropped keys, and {getattr(function, '__name__', function)} is to compute with the "
            "others, but only attnc's attention knows which positions they are: expected attn_implementation='attnc' "
            "for the whole text"
        )


_ASKED = ("_base", "grad")  # attributes that are tensors, at which torch.compile looks


def held_keys(key: Tensor) -> HeldKeys | None:
    """What a :class:`PatternCacheLayer` notes on the keys that it returns; None for any other tensor."""
    return getattr(key, _CARRIED, None)


def plain_keys(key: Tensor) -> Tensor:
    """The keys as a tensor like any other."""
    if not isinstance(key, ThinnedKeys):
        return key
    with torch._C.DisableTorchFunctionSubclass():
        return key.as_subclass(Tensor)


class PatternCacheLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values that a later row may still read, under the attention that runs on them.

    A layer begins as one that keeps everything. After each call attnc's attention tells it what it applied
    (:meth:`tell`), and what no later row reads under that is dropped, by ``Attention.facts``' last reader of each key.
    So windows, sinks, chunks and dilations keep what they need, and nothing has to be declared. A layer that another
    attention runs on is told nothing, and keeps everything.

    ``positions``: int64, rising: what is kept. ``moves``: how often keys were copied to make room. ``waits``: whether
    several layers of the model read these keys, so that they are dropped at the next call only, after all have told.
    """

    is_sliding = False

    def __init__(self, waits: bool = False, **_: Any) -> None:
        super().__init__()
        self.waits = waits
        self.record_past = False
        self.moves = 0
        self._clear()

    def _clear(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.is_initialized = False
        self._slots: Slots | None = None
        self._seen = 0
        self._told = 0  # tokens that there were when the attention told last
        self._dropped = False
        self._latest = -1  # the last row that reads any of the keys that are dropped
        self._readers: dict[tuple[Attention, int], LastReader | None] = {}
        self._ahead_from, self._ahead = 0, np.zeros(0, np.int64)  # last readers of keys from a position on

    @property
    def positions(self) -> NDArray[np.int64]:
        """The positions that are kept, rising."""
        slots = self._slots
        if slots is None:
            return np.zeros(0, np.int64)
        found: NDArray[np.int64] = slots.position[slots.in_use][slots.live[slots.in_use]]
        return found

    @property
    def room(self) -> int:
        """How many positions there is memory for."""
        return 0 if self._slots is None else self._slots.keys.shape[2]

    @property
    def reason(self) -> str:
        """Why nothing can be dropped; empty where something can."""
        if self._dropped:
            return ""
        if not self._readers:
            return "no attention of attnc has run on these keys"
        for (attention, heads), reader in self._readers.items():
            if reader is None:
                return f"{attention.name}: its mask depends on the length of the text"
            if not reader.text:
                return f"{attention.name}: {reader.reason}"
            if int(_ahead(reader, 0, self._seen, heads).min()) >= FAR:
                return f"{attention.name}: a later row may read any key"
        return ""

    @torch.compiler.disable  # type: ignore[untyped-decorator] # the positions would be constants of the graph
    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Adds keys and values ``[batch, kv_heads, m, d]``; what is kept with them, a view of the layer's memory.

        The keys returned carry which positions they are; where some are missing, no other attention can read them.
        ValueError for keys of another shape than those that are kept, and after a call that did not end.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self._require_told()
        self._require_shapes(key_states, value_states)
        count = key_states.shape[2]
        last = self._last_readers(self._seen, count)
        if self._slots is None:
            self._slots = Slots.of(key_states, value_states, self._seen, last)
        else:
            buffer = self._slots.keys
            self._slots.append(key_states, value_states, self._seen, last)
            self.moves += self._slots.keys is not buffer
        self._seen += count
        keys, values = self._slots.views
        self.keys, self.values = keys, values
        if self._dropped:
            keys = keys.as_subclass(ThinnedKeys)
        setattr(keys, _CARRIED, HeldKeys(self, self._slots.runs(), self._seen))
        return keys, values

    def tell(self, attention: Attention, heads: int, rows: int) -> None:
        """Notes that an attention with so many query heads has run on the last ``rows`` rows, and drops what none of
        those that have told can read again.

        ValueError where it reads keys that were dropped before it told.
        """
        known = attention, heads
        if known not in self._readers:
            self._learn(attention, heads, self._seen - rows)
        self._told = self._seen
        if not self.waits:
            self._drop()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """All positions, also those that are dropped: the keys carry which they are."""
        return self._seen + query_length, 0

    def get_seq_length(self) -> int:
        """How many tokens there were."""
        return self._seen

    def activate_past_recording(self) -> None:
        """From now on nothing is dropped but by :meth:`crop`, so that tokens can be taken back."""
        self.record_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Takes back the last ``-tokens_to_remove`` tokens. RuntimeError where the rows before them read keys that
        are dropped, which :meth:`activate_past_recording` avoids; ValueError for a positive number.
        """
        if tokens_to_remove > 0:
            raise ValueError(f"tokens_to_remove: is {tokens_to_remove}, expected 0 or less")
        if self._slots is None:
            return
        row = max(0, self._seen + tokens_to_remove)
        if row <= self._latest:
            raise RuntimeError(
                f"tokens_to_remove: is {tokens_to_remove}, but row {row} reads keys that were dropped after it, "
                "expected a call of activate_past_recording before they were"
            )
        self._slots.forget_from(row)
        self._seen = self._told = row
        self._drop(at_crop=True)
        self._refresh()

    def reset(self) -> None:
        """As new; what is known of the attention is forgotten, too."""
        self._clear()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Another order of the batch."""
        self._map(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each entry of the batch so many times."""
        self._map(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Some entries of the batch."""
        self._map(lambda x: x[indices, ...])

    def offload(self) -> None:
        """To the CPU."""
        self._map(lambda x: x.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        """Back to the device of the layer."""
        if self._slots is not None and self._slots.keys.device != self.device:
            self._map(lambda x: x.to(self.device, non_blocking=True))

    def __copy__(self) -> PatternCacheLayer:
        """A layer of its own that begins with the same keys."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._readers = dict(self._readers)
        other._slots = None if self._slots is None else self._slots.copy()
        return other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.positions):,} of {self._seen:,} positions)"

    def _map(self, change: Callable[[Tensor], Tensor]) -> None:
        if self._slots is not None:
            self._slots.map(change)
            self._refresh()

    def _refresh(self) -> None:
        self.keys, self.values = (None, None) if self._slots is None else self._slots.views

    def _drop(self, at_crop: bool = False) -> None:
        if self._slots is None or not self._readers or (self.record_past and not at_crop):
            return
        buffer = self._slots.keys
        latest = self._slots.drop(self._seen)
        if latest is not None:
            self._dropped, self._latest = True, max(self._latest, latest)
        self.moves += self._slots.keys is not buffer
        self._refresh()

    def _require_told(self) -> None:
        """What was told since the last call is done; ValueError where keys were missing and nobody told."""
        if self.waits and self._told == self._seen:
            self._drop()
        if self._dropped and self._told != self._seen:
            raise ValueError(
                f"past_key_values: {self!r} has dropped keys, and the attention of the last call did not end, or was "
                "not attnc's: expected a new cache"
            )

    def _require_shapes(self, keys: Tensor, values: Tensor) -> None:
        """ValueError for keys or values that do not fit those that are kept."""
        if self._slots is None:
            return
        for name, new, old in (("keys", keys, self._slots.keys), ("values", values, self._slots.values)):
            (*mine, _, d), (*wanted, _, depth) = new.shape, old.shape
            if (mine, d) != (wanted, depth):
                raise ValueError(
                    f"past_key_values: gets {name} of [batch, kv_heads, d] = {[*mine, d]}, expected "
                    f"{[*wanted, depth]}, as those that it keeps"
                )

    def _learn(self, attention: Attention, heads: int, row: int) -> None:
        """Notes an attention that has not told before. ValueError where a key is gone that it reads."""
        reads_length = "n" in ir.positions(attention._bound.mask)
        reader = None if reads_length else last_reader_of(attention._bound)
        self._readers[attention, heads] = reader
        self._ahead = self._ahead[:0]
        slots = self._slots
        assert slots is not None
        if self._dropped:
            missing = np.setdiff1d(np.arange(self._seen), self.positions)
            read = missing[_ahead(reader, 0, self._seen, heads)[missing] >= row]
            if len(read):
                del self._readers[attention, heads]
                raise ValueError(
                    f"past_key_values: {attention.name} may read position {read[0]}, which was dropped since no "
                    "attention before it does, expected the same pattern for the whole text, or, where several "
                    "layers read the same keys, PatternCache(model.config, waits=True)"
                )
        for run in slots.runs():
            rows = slice(slots.first + run.row, slots.first + run.row + run.length)
            own = _ahead(reader, run.start, run.length, heads)
            slots.last[rows] = own if len(self._readers) == 1 else np.maximum(slots.last[rows], own)

    def _last_readers(self, first: int, keys: int) -> NDArray[np.int64]:
        """The last row that may read each of some keys; FOREVER where no attention has told yet."""
        if not self._readers:
            return np.full(keys, FOREVER)
        if first < self._ahead_from or first + keys > self._ahead_from + len(self._ahead):
            count = max(keys, AHEAD)  # for the tokens to come as well
            each = (_ahead(reader, first, count, heads) for (_, heads), reader in self._readers.items())
            self._ahead_from, self._ahead = first, reduce(np.maximum, each)
        return self._ahead[first - self._ahead_from :][:keys]


def _ahead(reader: LastReader | None, first: int, keys: int, heads: int) -> NDArray[np.int64]:
    """The last row that reads each key by any head, int64 ``[keys]``; FOREVER where that is not known."""
    found = None if reader is None else reader.ahead(first, keys, heads)
    if found is None:
        return np.full(keys, FOREVER)
    latest: NDArray[np.int64] = found.max(0)
    return latest
