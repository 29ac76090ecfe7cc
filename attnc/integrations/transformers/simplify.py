"""Conditions brought to a form that says the same with fewer words and fewer tables."""

from __future__ import annotations

import torch

from .conditions import (
    Both,
    Condition,
    Either,
    Everything,
    Remapped,
    SameGroup,
    conjuncts,
    is_translation_invariant,
)


def simplified(*conditions: Condition) -> Condition:
    """All of the conditions as one: conjunctions in conjunctions are opened, and ``Everything`` is left out.

    Where packed documents are kept apart and the positions go on by 1 in each, a condition that reads the positions by
    their distance alone needs no positions: within a document the distance is that of the tokens.
    """
    parts = [part for condition in conditions for part in conjuncts(condition)]
    documents = [part for part in parts if isinstance(part, SameGroup) and not part.signed]
    kept: list[Condition] = []
    for part in parts:
        if isinstance(part, Either):
            kept.append(Either(tuple(simplified(each) for each in part.parts)))
        elif isinstance(part, Remapped) and any(_steps_by_one(part, each) for each in documents):
            kept.extend(conjuncts(part.condition))
        elif not isinstance(part, Everything):
            kept.append(part)
    return kept[0] if len(kept) == 1 else Both(tuple(kept)) if kept else Everything()


def _steps_by_one(part: Remapped, documents: SameGroup) -> bool:
    """Whether, inside each document, positions go on by 1, and the condition reads their distance alone."""
    if not is_translation_invariant(part.condition) or part.positions.shape != documents.ids.shape:
        return False
    inside = torch.diff(documents.ids, dim=-1) == 0
    # Equal numbers are next to each other where the numbers never go down.
    ordered = torch.diff(documents.ids, dim=-1) >= 0
    return bool((ordered & (~inside | (torch.diff(part.positions, dim=-1) == 1))).all())
