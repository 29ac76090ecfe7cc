"""Reads the masks that the layers of a model really apply, and compares them with what is declared."""

from .compare import Difference, Finding, audit, audit_function
from .declarations import DeclaredMask, declared, of_attention
from .models import model_of
from .places import AppliedMask
from .probe import read_masks
from .scenario import Scenario, scenarios

__all__ = [
    "AppliedMask",
    "DeclaredMask",
    "Difference",
    "Finding",
    "Scenario",
    "audit",
    "audit_function",
    "declared",
    "model_of",
    "of_attention",
    "read_masks",
    "scenarios",
]
