"""Generates the Triton kernels that plan on the device: by tables that the host cannot read, or should not wait for."""

from .functions import ListProblem, PlanModule, PlannerVariant, SegmentProblem
from .render import render_list, render_runs, render_segment

__all__ = [
    "ListProblem",
    "PlanModule",
    "PlannerVariant",
    "SegmentProblem",
    "render_list",
    "render_runs",
    "render_segment",
]
