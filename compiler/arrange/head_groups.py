"""Heads with equal masks: what a mask is for each of them, where it branches on the head."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir import HEAD, HEADS, Const, Entry, Expr, Logit, Member, constructors, positions, walk


@dataclass(frozen=True)
class Group:
    """Query heads, in rising order, and the mask that all of them have."""

    heads: tuple[int, ...]
    mask: Expr


def groups(mask: Expr, heads: int) -> tuple[Group, ...]:
    """The heads by their masks, groups in the order of their first heads.

    Only conditions over the head alone are decided: an index, a hash or a sum over ``head`` stays, and the heads that
    differ in nothing else share a mask.
    """
    branches = [node for node in walk(mask) if _is_branch(node)]
    found: dict[Expr, list[int]] = {}
    for head in range(heads):
        own = (
            constructors.substitute(mask, {node: _decided(node, head, heads) for node in branches})
            if branches
            else mask
        )
        found.setdefault(own, []).append(head)
    return tuple(Group(tuple(members), own) for own, members in found.items())


def _is_branch(node: Expr) -> bool:
    return (
        node.type == "bool"
        and "head" in positions(node) <= {"head", "heads"}
        and not any(isinstance(part, Entry | Member | Logit) for part in walk(node))
    )


def _decided(condition: Expr, head: int, heads: int) -> Expr:
    """As it is for one head; as it stands, where a constant has no value (the logarithm of 0, say)."""
    decided = constructors.substitute(condition, {HEAD: Const(head), HEADS: Const(heads)})
    return decided if isinstance(decided, Const) else condition
