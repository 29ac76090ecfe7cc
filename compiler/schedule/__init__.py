"""Computes the Schedule of a launch, the tiles that each tile visits, and statistics of it."""

from .segments import in_ranks, schedule, schedule_anywhere, schedule_depends, serves_anywhere
from .statistics import Totals, pairs, totals, visited
from .tile_boxes import Slots, Space, slots, split
from .tile_ranges import ViewRanges
from .tile_visits import Slot, Walked, slot_counts, visits

__all__ = [
    "Slot",
    "Slots",
    "Space",
    "Totals",
    "ViewRanges",
    "Walked",
    "in_ranks",
    "pairs",
    "schedule",
    "schedule_anywhere",
    "schedule_depends",
    "serves_anywhere",
    "slot_counts",
    "slots",
    "split",
    "totals",
    "visited",
    "visits",
]
