"""All mutants, and the wings of the product that they are in."""

from __future__ import annotations

from . import (
    of_audit,
    of_caches,
    of_device_plans,
    of_integrations,
    of_kernels,
    of_parts,
    of_plans,
    of_proofs,
    of_swaps,
    of_texts,
    of_the_face,
    of_the_runtime,
    of_training,
)
from .mutant import Mutant

WINGS = (
    "diagnostics", "ir", "syntax", "formatter", "checker", "modules", "oracle", "plan", "analysis", "arrange",
    "schedule", "proofs", "verify", "codegen", "codegen/planner", "templates/cpp", "templates/triton",
    "runtime/base", "runtime/call", "runtime/eager",
    "runtime/cpp", "runtime/triton", "runtime", "attnc", "attnc/inspection", "attnc/pictures", "attnc/testing",
    "attnc/cli", "attnc/packing", "attnc/integrations/transformers",
    "attnc/integrations/transformers/audit", "attnc/integrations/transformers/caches",
    "attnc/integrations/transformers/swaps",
)  # fmt: skip
MUTANTS: tuple[Mutant, ...] = (
    *of_texts.MUTANTS,
    *of_plans.MUTANTS,
    *of_device_plans.MUTANTS,
    *of_proofs.MUTANTS,
    *of_kernels.MUTANTS,
    *of_parts.MUTANTS,
    *of_the_runtime.MUTANTS,
    *of_the_face.MUTANTS,
    *of_audit.MUTANTS,
    *of_integrations.MUTANTS,
    *of_swaps.MUTANTS,
    *of_caches.MUTANTS,
    *of_training.MUTANTS,
)
