"""Standard input in the place of a file, for commands that are given `-`."""

from __future__ import annotations

import sys
from pathlib import Path

from ..compiler.diagnostics import limits, visible_line
from ..compiler.modules import Module, load_file, load_text
from .attn_files import STDIN

INPUT_NAME = "<stdin>"


def standard_input() -> bytes:
    """What stands there, as far as a text may be long and one byte more, by which a longer one is known."""
    return sys.stdin.buffer.read(limits.BYTES + 1)


def load(path: Path) -> Module:
    """A file, or standard input for `-`, which imports from the folder it is read in. Raises AttnError."""
    return load_text(standard_input(), INPUT_NAME, Path()) if path == STDIN else load_file(path)


def shown_name(path: Path) -> str:
    """What messages call a file, on one line and without what a terminal would act on."""
    return INPUT_NAME if path == STDIN else visible_line(str(path))
