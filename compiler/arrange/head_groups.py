"""Groups the query heads that have equal masks once a mask's conditions on the head are decided."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir import HEAD, HEADS, Const, Entry, Expr, Logit, Member, constructors, positions, walk


@dataclass(frozen=True)
class Group:
    """Query heads, in rising order, and the mask that they share."""

    heads: tuple[int, ...]
    mask: Expr


def groups(mask: Expr, heads: int) -> tuple[Group, ...]:
    """The heads grouped by mask, in the order of the groups' first heads.

    Only conditions on the head alone are decided. An index, a hash or a sum that reads ``head`` stays in the mask, and
    heads whose masks do not differ otherwise are in one group.
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
    """The value of a condition for one head; unchanged if a constant has no value (the logarithm of 0, say)."""
    decided = constructors.substitute(condition, {HEAD: Const(head), HEADS: Const(heads)})
    return decided if isinstance(decided, Const) else condition
