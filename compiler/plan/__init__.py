"""The data that later stages work on: orders of tokens, the Program of an attention, the Schedule of a launch."""

from .dtypes import BF16, DTYPES, FLOATS, FP16, FP32, FP64, I64, U8, DType, Specialisation, float_named, integers, usual
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
from .parts import bounds_of_keys, part_of
from .printer import program
from .programs import Kernel, Program, Segment, row_alignment
from .schedule import UNBOUNDED, Bounds, KernelSchedule, Runs, Schedule, SegmentSchedule

__all__ = [
    "BF16",
    "DTYPES",
    "EMPTY",
    "FLOATS",
    "FP16",
    "FP32",
    "FP64",
    "FULL",
    "I64",
    "PARTIAL",
    "U8",
    "UNBOUNDED",
    "Axis",
    "Bounds",
    "Box",
    "ComputedOrder",
    "DType",
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
    "Specialisation",
    "TileCount",
    "Tiles",
    "View",
    "bounds_of_keys",
    "float_named",
    "integers",
    "is_natural",
    "key_major",
    "natural",
    "part_of",
    "program",
    "row_alignment",
    "usual",
]
