"""What commands work on: files, declarations, example inputs and launches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attributes

__all__ = [
    "HEAD_DIM",
    "INPUT_NAME",
    "STDIN",
    "WIDTH",
    "InputError",
    "KernelWish",
    "LaunchSizes",
    "LaunchView",
    "NamedCheck",
    "Target",
    "WrongUseError",
    "apply_all",
    "begin",
    "current_stage",
    "failure_report",
    "files",
    "find",
    "ignored",
    "inputs",
    "judge",
    "kernel_list",
    "load",
    "make_view",
    "named_checks",
    "prepare",
    "read_literal",
    "run_file",
    "shown_dtype",
    "shown_name",
    "stage",
    "standard_input",
    "telling_length",
    "undecided",
    "write_kernels",
    "write_standalone",
]

if TYPE_CHECKING:
    from .attn_files import STDIN, files, ignored
    from .claims import NamedCheck, failure_report, judge, named_checks, run_file, undecided
    from .errors import InputError, WrongUseError
    from .example_inputs import inputs
    from .kernel_files import KernelWish, kernel_list, write_kernels, write_standalone
    from .launch_view import HEAD_DIM, WIDTH, LaunchSizes, LaunchView, make_view, prepare, shown_dtype
    from .literals import read_literal
    from .picture_size import telling_length
    from .stage_at_work import begin, current_stage, stage
    from .stdin import INPUT_NAME, load, shown_name, standard_input
    from .subject import Target, apply_all, find
else:
    __getattr__ = attributes(
        __name__,
        {
            "attn_files": ("STDIN", "files", "ignored"),
            "claims": ("NamedCheck", "failure_report", "judge", "named_checks", "run_file", "undecided"),
            "errors": ("InputError", "WrongUseError"),
            "example_inputs": ("inputs",),
            "kernel_files": ("KernelWish", "kernel_list", "write_kernels", "write_standalone"),
            "launch_view": ("HEAD_DIM", "LaunchSizes", "LaunchView", "WIDTH", "make_view", "prepare", "shown_dtype"),
            "literals": ("read_literal",),
            "picture_size": ("telling_length",),
            "stage_at_work": ("begin", "current_stage", "stage"),
            "stdin": ("INPUT_NAME", "load", "shown_name", "standard_input"),
            "subject": ("Target", "apply_all", "find"),
        },
    )
