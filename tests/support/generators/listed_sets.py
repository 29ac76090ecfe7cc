"""Sets of a small universe as members in rising order, so that random programs meet both forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attnc.compiler.ir.extent import HostTable
from tests.fuzz.masks import bound
from tests.support.generators.programs import Program


def listed(bitmaps: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Rising members ``[…, slots]`` of bitmaps ``[…, universe]``; in the slots that are left -1, and members again."""
    universe = bitmaps.shape[-1]
    slots = max(1, int(bitmaps.sum(-1).max(initial=0))) + 1
    members = np.where(bitmaps, np.arange(universe, dtype=np.int32), -1)
    members = np.sort(members, axis=-1)[..., -slots:]
    if members.shape[-1] < slots:
        members = np.concatenate([np.full((*members.shape[:-1], 1), -1, np.int32), members], axis=-1)
    members[..., 0] = np.where(members[..., 1] >= 0, members[..., 1], -1)  # the least member twice
    return members


def with_listed_sets(program: Program) -> Program | None:
    """The same program and call, its sets listed; None where it reads none."""
    sets = {table.name for table in bound(program).attention.tables if table.element == "set"} & set(program.contents)
    contents = dict(program.contents)
    for name in sets:
        values = contents[name].values
        assert values is not None
        contents[name] = HostTable(listed(values), contents[name].batched)
    return replace(program, contents=contents) if sets else None
