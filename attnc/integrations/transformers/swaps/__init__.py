"""Attention of models that do not go through transformers' attention interface, on attnc's kernels."""

from .compose import TEXTS
from .interface import under_pattern
from .whole_models import Undo, use

__all__ = ["TEXTS", "Undo", "under_pattern", "use"]
