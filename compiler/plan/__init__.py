"""Nouns: orders of tokens, the Program of an attention, the Schedule of a launch."""

from .order_protocol import Axis, Listing, Order, OrderTable, TileCount, key_major
from .orders import (
    EMPTY,
    FULL,
    PARTIAL,
    Box,
    ComputedOrder,
    Gathered,
    ListedOrder,
    Sorted,
    Tiles,
    View,
    is_natural,
    natural,
)
from .printer import program
from .programs import Kernel, Program, Segment, row_alignment
from .schedule import UNBOUNDED, Bounds, KernelSchedule, Runs, Schedule, SegmentSchedule

__all__ = [
    "EMPTY",
    "FULL",
    "PARTIAL",
    "UNBOUNDED",
    "Axis",
    "Bounds",
    "Box",
    "ComputedOrder",
    "Gathered",
    "Kernel",
    "KernelSchedule",
    "ListedOrder",
    "Listing",
    "Order",
    "OrderTable",
    "Program",
    "Runs",
    "Schedule",
    "Segment",
    "SegmentSchedule",
    "Sorted",
    "TileCount",
    "Tiles",
    "View",
    "is_natural",
    "key_major",
    "natural",
    "program",
    "row_alignment",
]
