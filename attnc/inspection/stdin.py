"""Reads standard input in the place of a file, for commands that are given `-`."""

from __future__ import annotations

import sys
from pathlib import Path

from ..compiler.diagnostics import limits, visible_line
from ..compiler.modules import Module, load_file, load_text
from .attn_files import STDIN

INPUT_NAME = "<stdin>"


def standard_input() -> bytes:
    """The bytes of standard input, up to one byte more than a text may have, which shows that it is too long."""
    return sys.stdin.buffer.read(limits.BYTES + 1)


def load(path: Path) -> Module:
    """Loads a file, or for `-` standard input, whose imports are looked up in the current folder. Raises AttnError."""
    return load_text(standard_input(), INPUT_NAME, Path()) if path == STDIN else load_file(path)


def shown_name(path: Path) -> str:
    """The name of a file in messages: on one line, without characters that control a terminal."""
    return INPUT_NAME if path == STDIN else visible_line(str(path))
