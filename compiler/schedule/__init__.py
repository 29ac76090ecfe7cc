"""A Program and sizes to the tiles that are visited, and what these say."""

from .run_rows import Rows, Steps, clipped, of_boxes, packed, spread, turned
from .segments import schedule, schedule_depends
from .statistics import Numbers, Totals, pairs, totals, visited
from .subdivide import descend
from .tile_boxes import Slots, Space, TileBoxes, slots, split
from .tile_positions import Counted, Open, Side, ViewSide
from .tile_visits import Slot, Walked, slot_counts, visits

__all__ = [
    "Counted",
    "Numbers",
    "Open",
    "Rows",
    "Side",
    "Slot",
    "Slots",
    "Space",
    "Steps",
    "TileBoxes",
    "Totals",
    "ViewSide",
    "Walked",
    "clipped",
    "descend",
    "of_boxes",
    "packed",
    "pairs",
    "schedule",
    "schedule_depends",
    "slot_counts",
    "slots",
    "split",
    "spread",
    "totals",
    "turned",
    "visited",
    "visits",
]
