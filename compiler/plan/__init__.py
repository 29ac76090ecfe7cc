"""Nouns: orders of tokens, the Program of an attention, the Schedule of a launch."""

from .orders import (
    EMPTY,
    FULL,
    PARTIAL,
    Axis,
    Box,
    Gathered,
    Order,
    Sorted,
    TileCount,
    Tiles,
    View,
    covers,
    cycle,
    key_major,
    natural,
)
from .printer import order, program
from .programs import Kernel, Program, Segment, row_cycle
from .schedule import UNBOUNDED, Bounds, KernelSchedule, Listing, Runs, Schedule, SegmentSchedule, tile_count

__all__ = [
    "EMPTY",
    "FULL",
    "PARTIAL",
    "UNBOUNDED",
    "Axis",
    "Bounds",
    "Box",
    "Gathered",
    "Kernel",
    "KernelSchedule",
    "Listing",
    "Order",
    "Program",
    "Runs",
    "Schedule",
    "Segment",
    "SegmentSchedule",
    "Sorted",
    "TileCount",
    "Tiles",
    "View",
    "covers",
    "cycle",
    "key_major",
    "natural",
    "order",
    "program",
    "row_cycle",
    "tile_count",
]
