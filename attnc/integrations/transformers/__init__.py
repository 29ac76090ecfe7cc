"""``attn_implementation="attnc"`` for models of Hugging Face's transformers: importing this package registers it.

    import attnc.integrations.transformers
    model = AutoModelForCausalLM.from_pretrained(..., attn_implementation="attnc")

The mask that a model prepares is read back into a pattern (:class:`PatternMask`), under which each layer runs.
:func:`use` swaps the attention of models that do not go through the library's interface, and puts other patterns into
any model.
"""

from __future__ import annotations

from transformers import AttentionInterface, AttentionMaskInterface

from .attention_interface import attention_forward
from .caches import PatternCache, PatternCacheLayer
from .choices import Options, forget_warnings, options, set_options
from .mask_interface import attention_mask
from .pattern_mask import PatternMask
from .swaps import TEXTS, Undo, use

__all__ = [
    "TEXTS",
    "Options",
    "PatternCache",
    "PatternCacheLayer",
    "PatternMask",
    "Undo",
    "forget_warnings",
    "options",
    "set_options",
    "use",
]

# Without the second, masks would be None without a word, and causality lost.
AttentionInterface.register("attnc", attention_forward)
AttentionMaskInterface.register("attnc", attention_mask)
