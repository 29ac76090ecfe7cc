"""The loops of a kernel that hold matrix products, told apart by what they do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .listing import Instruction, Listing

Kind = Literal["full", "partial", "careful"]

PRODUCTS = ("HGMMA", "HMMA", "IMMA", "DMMA", "QGMMA", "UTCHMMA", "UTCQMMA")
_MANY_NAN_TESTS = 4  # fewer belong to a single value, such as a scale; sums of products are many


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other: ``[first, end)`` of a listing, and the numbers of what may follow."""

    first: int
    end: int
    successors: tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    """An innermost loop with matrix products.

    ``shortest`` and ``longest``: the instructions of one turn on its shortest and longest way; they are the same where
    nothing inside branches. Loops that wait for a barrier are left out. ``outer``: the number of the block that heads
    the loop around it, -1 without one. ``careful``: it is reached only behind a test for NaN of many values.
    """

    header: int
    shortest: tuple[Instruction, ...]
    longest: tuple[Instruction, ...]
    outer: int
    careful: bool

    @cached_property
    def masks(self) -> int:
        """The selects and guarded moves that take the place of a weight or a score that is not kept."""
        return sum(map(is_mask, self.longest))

    @property
    def branches(self) -> bool:
        return len(self.shortest) < len(self.longest)


def is_product(instruction: Instruction) -> bool:
    """Whether it is a matrix product on tensor cores."""
    return instruction.name in PRODUCTS or instruction.opcode.startswith("v_mfma")


_NOTHING = re.compile(r"(-INF|0xff800000|-0x800000|\bRZ)\s*(,|$)")
_AMD_NOTHING = re.compile(r"^v\d+, (?:0xff800000|v\d+, v\d+, |0, v\d+, |v\d+, 0, |v\d+, v\d+$)")


def is_mask(instruction: Instruction) -> bool:
    """Whether it may replace a score by minus infinity, or a weight by 0, where a pair is not kept."""
    if instruction.opcode.startswith("v_cndmask"):
        return True
    if instruction.name in ("FSEL", "SEL"):
        return bool(_NOTHING.search(instruction.operands.partition(",")[2]))
    moves = instruction.opcode.startswith(("MOV", "IMAD.MOV", "CS2R")) or instruction.name in ("FADD", "FMUL")
    guarded = instruction.guard[:2] == "@P" or instruction.guard[:3] == "@!P"
    return moves and guarded and bool(_NOTHING.search(instruction.operands.partition(",")[2]))


def is_nan_test(instruction: Instruction) -> bool:
    """Whether it compares floats so as to find those that are not finite."""
    if instruction.opcode.startswith("v_cmp_u") or instruction.opcode.startswith("v_cmp_o"):
        return True
    if instruction.name not in ("FSETP", "FSET"):
        return False
    if ".NAN" in instruction.opcode:
        return True
    registers = re.findall(r"R\d+", instruction.operands)
    return ".NEU" in instruction.opcode and len(registers) >= 2 and registers[0] == registers[1]


def blocks(listing: Listing) -> tuple[Block, ...]:
    """The basic blocks, in the order of the listing."""
    code = listing.instructions
    starts = {0, *(place for place in listing.labels.values() if place < len(code))}
    starts |= {place + 1 for place, each in enumerate(code) if each.target or each.leaves}
    ordered = sorted(place for place in starts if place < len(code))
    number = {place: index for index, place in enumerate(ordered)}
    found = []
    for index, first in enumerate(ordered):
        end = ordered[index + 1] if index + 1 < len(ordered) else len(code)
        last = code[end - 1]
        after = []
        # ptxas writes far jumps as calls; functions that are really called have names that begin with $
        if not last.target.startswith("$") and not last.never and listing.labels.get(last.target, -1) in number:
            after.append(number[listing.labels[last.target]])
        if not last.leaves and end in number:
            after.append(number[end])
        found.append(Block(first, end, tuple(dict.fromkeys(after))))
    return tuple(found)


def dominators(found: Sequence[Block]) -> list[frozenset[int]]:
    """For each block those that every way from the entry to it passes, itself among them; empty if none leads to it."""
    order = _postorder(found)[::-1]
    before: dict[int, list[int]] = {index: [] for index in order}
    for index in order:
        for after in found[index].successors:
            before[after].append(index)
    reached: dict[int, frozenset[int]] = {order[0]: frozenset({order[0]})}
    changed = True
    while changed:
        changed = False
        for index in order[1:]:
            known = [reached[each] for each in before[index] if each in reached]
            new = frozenset.intersection(*known) | {index}
            if reached.get(index) != new:
                reached[index], changed = new, True
    return [reached.get(index, frozenset()) for index in range(len(found))]


def _postorder(found: Sequence[Block]) -> list[int]:
    order: list[int] = []
    seen = {0}
    stack = [(0, iter(found[0].successors))]
    while stack:
        index, rest = stack[-1]
        for after in rest:
            if after not in seen:
                seen.add(after)
                stack.append((after, iter(found[after].successors)))
                break
        else:
            order.append(index)
            stack.pop()
    return order


def natural_loops(found: Sequence[Block], above: Sequence[frozenset[int]]) -> dict[int, frozenset[int]]:
    """The blocks of each loop by its header: all that lead back to it without passing it."""
    before: dict[int, set[int]] = {index: set() for index in range(len(found))}
    for index, block in enumerate(found):
        for after in block.successors:
            if above[index]:
                before[after].add(index)
    loops: dict[int, set[int]] = {}
    for index, block in enumerate(found):
        for header in block.successors:
            if header not in above[index]:
                continue
            body = loops.setdefault(header, {header})
            left = [index]
            while left:
                each = left.pop()
                if each not in body:
                    body.add(each)
                    left.extend(before[each])
    return {header: frozenset(body) for header, body in loops.items()}


def product_loops(listing: Listing) -> tuple[Loop, ...]:
    """The innermost loops with products, in the order in which they are first reached."""
    found = blocks(listing)
    above = dominators(found)
    loops = natural_loops(found, above)
    code = listing.instructions

    def has_products(body: frozenset[int]) -> bool:
        return any(is_product(each) for index in body for each in code[found[index].first : found[index].end])

    with_products = {header: body for header, body in loops.items() if has_products(body)}
    in_a_loop = frozenset().union(*loops.values())
    testing = {
        index: sum(map(is_nan_test, code[found[index].first : found[index].end]))
        for index in range(len(found))
        if index not in in_a_loop
    }
    rank = {index: place for place, index in enumerate(_postorder(found)[::-1])}
    made = []
    for header, body in sorted(with_products.items(), key=lambda item: rank[item[0]]):
        if any(other != header and other in body for other in with_products):
            continue
        around = [other for other, its in loops.items() if other != header and header in its]
        waiting = frozenset().union(*(its for other, its in loops.items() if other in body and other != header))
        ways = _ways(found, header, body - waiting, code)
        outer = max(around, key=lambda other: len(above[other]), default=-1)
        careful = sum(testing.get(index, 0) for index in above[header]) >= _MANY_NAN_TESTS
        made.append(Loop(header, *ways, outer, careful))
    return tuple(made)


def prologue(listing: Listing) -> tuple[Instruction, ...]:
    """What stands before the first loop with products, and before the loop around that, if there is one."""
    first = product_loops(listing)[0]
    head = first.header if first.outer < 0 else first.outer
    return listing.instructions[: blocks(listing)[head].first]


def _ways(
    found: Sequence[Block], header: int, body: frozenset[int], code: Sequence[Instruction]
) -> tuple[tuple[Instruction, ...], tuple[Instruction, ...]]:
    """The instructions of the shortest and of the longest way once round a loop, from its header back to it."""
    order = [index for index in _postorder(found)[::-1] if index in body]
    ends = {index for index in body if header in found[index].successors}

    def way(longest: bool) -> tuple[Instruction, ...]:
        best: dict[int, tuple[int, tuple[int, ...]]] = {header: (_size(found[header]), (header,))}
        for index in order:
            if index not in best:
                continue
            size, path = best[index]
            for after in found[index].successors:
                if after not in body or after == header or after in path:
                    continue
                new = size + _size(found[after])
                held = best.get(after)
                if held is None or (new > held[0] if longest else new < held[0]):
                    best[after] = (new, (*path, after))
        whole = [best[index] for index in ends if index in best]
        _, path = max(whole) if longest else min(whole)
        return tuple(each for index in path for each in code[found[index].first : found[index].end])

    return way(False), way(True)


def _size(block: Block) -> int:
    return block.end - block.first


def kinds(loops: Sequence[Loop], scores: Mapping[int, int]) -> tuple[Kind, ...]:
    """What each loop is for. ``scores``: by header, how many scores each thread has in one turn.

    A loop that replaces at least half of them where they are not kept is for partial tiles.
    """
    return tuple(
        "careful" if loop.careful else "partial" if 2 * loop.masks >= scores[loop.header] else "full" for loop in loops
    )


def groups(loops: Sequence[Loop]) -> Iterator[tuple[Loop, ...]]:
    """The loops that lie in the same loop around them, in order: those of one segment of keys."""
    by_outer: dict[int, list[Loop]] = {}
    for loop in loops:
        by_outer.setdefault(loop.outer if loop.outer >= 0 else -1 - loop.header, []).append(loop)
    yield from (tuple(each) for each in by_outer.values())
