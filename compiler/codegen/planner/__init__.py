"""Generates the Triton kernels that plan on the device: by tables that the host cannot read, or should not wait for."""

from .functions import ListProblem, PlanLayout, PlanModule, PlannerVariant, SegmentProblem
from .render import render_list, render_runs, render_segment, source_of

__all__ = [
    "ListProblem",
    "PlanLayout",
    "PlanModule",
    "PlannerVariant",
    "SegmentProblem",
    "render_list",
    "render_runs",
    "render_segment",
    "source_of",
]
