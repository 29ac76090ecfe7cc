"""A cache for models whose attention is attnc's: each layer keeps what its mask can still read."""

from __future__ import annotations

from typing import Any

from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from .layer import PatternCacheLayer


class PatternCache(Cache):  # type: ignore[misc]
    """``past_key_values`` for a model whose attention is attnc's, of a configuration of transformers.

        model.generate(tokens, past_key_values=PatternCache(model.config))

    Layers of attention become :class:`PatternCacheLayer`; others (recurrences, convolutions, keys of an indexer) stay
    the library's own. ``waits``: whether layers read each other's keys, so that what no layer reads again is dropped a
    call later; unless given, whether the configuration shares keys.
    """

    def __init__(self, config: Any, waits: bool | None = None) -> None:
        layers = DynamicCache(config=config).layers
        text = config.get_text_config(decoder=True)
        waits = (
            waits
            if waits is not None
            else bool(getattr(text, "kv_sharing_modes", None) or getattr(text, "num_kv_shared_layers", 0))
        )
        plain = {DynamicLayer, DynamicSlidingWindowLayer}
        if any(layer.is_sliding for layer in layers if hasattr(layer, "is_sliding") and type(layer) not in plain):
            plain = {DynamicLayer}  # the masks of sliding layers are made for those of the library
        super().__init__(layers=[PatternCacheLayer(waits) if type(each) in plain else each for each in layers])

    @property
    def positions(self) -> list[int]:
        """How many positions each layer keeps, of those that are attnc's."""
        return [len(layer.positions) for layer in self.layers if isinstance(layer, PatternCacheLayer)]
