"""Attention of models that do not go through transformers' attention interface, on attnc's kernels."""

from .compose import TEXTS
from .interface import under_pattern
from .systems import full_name, is_attention, through_the_interface
from .whole_models import Undo, use

__all__ = ["TEXTS", "Undo", "full_name", "is_attention", "through_the_interface", "under_pattern", "use"]
