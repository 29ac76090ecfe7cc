"""Draws docs/pictures: a picture for each shipped system, and one of six for the README: ``python -m docs.pictures``.

Each is what ``attnc show … --plain -o FILE`` draws. A file whose picture is the same already is not written again.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attnc.cli import main as command_line
from docs.systems_pages import DOCS, PICTURES, drawing_of, pictured, slug
from tests.systems.all_systems import SYSTEMS
from tests.systems.system import System

FOLDER = DOCS / PICTURES
SIX = ("Causal attention", "Sliding window", "Prefix language model")
"""The systems on top of the README."""
ONE, GAP, LINE = 192, 16, 22  # pixels: a picture's side, between them, of a line of words
INK = (31, 58, 96)


def draw(system: System, path: Path) -> None:
    """Draws one system into a file. RuntimeError with what the command said where it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = command_line.run(["show", *drawing_of(system), "--plain", "-o", str(path)])
    if code:
        raise RuntimeError(f"{system.name}: attnc show ended with {code}: {said.getvalue()}")


def six(folder: Path) -> Image.Image:
    """Six pictures of the folder in a row of three above another, each above its system's name."""
    across = 3
    rows = -(-len(SIX) // across)
    size = across * (ONE + GAP) + GAP, rows * (ONE + LINE + GAP) + GAP
    canvas = Image.new("RGB", size, (255, 255, 255))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for place, name in enumerate(SIX):
        left, top = GAP + place % across * (ONE + GAP), GAP + place // across * (ONE + LINE + GAP)
        with Image.open(folder / f"{slug(pictured()[name].name)}.png") as found:
            canvas.paste(found.convert("RGB").resize((ONE, ONE), Image.Resampling.BOX), (left, top))
        pen.text((left, top + ONE + 4), name, fill=INK, font=font)
    return canvas.quantize(256)


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same picture, however it is packed."""
    if not (one.exists() and other.exists()):
        return False
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path in (one, other)]
    return np.array_equal(*pixels)


def drawn() -> Iterator[tuple[str, System]]:
    """The file of each picture, and the system that it shows."""
    for system in dict.fromkeys(pictured(SYSTEMS).values()):
        yield f"{slug(system.name)}.png", system


def main() -> int:
    """Draws all pictures; removes those of systems that there are no more."""
    FOLDER.mkdir(exist_ok=True)
    names = {"six.png"}
    with tempfile.TemporaryDirectory() as base:
        for name, system in drawn():
            names.add(name)
            draw(system, Path(base, name))
            _keep(Path(base, name))
        six(FOLDER).save(Path(base, "six.png"), optimize=True)
        _keep(Path(base, "six.png"))
    for path in FOLDER.iterdir():
        if path.name not in names:
            path.unlink()
            sys.stderr.write(f"{path.name}: removed\n")
    return 0


def _keep(path: Path) -> None:
    """Takes a new picture over where it is another."""
    kept = FOLDER / path.name
    if not same(path, kept):
        kept.write_bytes(path.read_bytes())
        sys.stderr.write(f"{path.name}: drawn\n")


if __name__ == "__main__":
    sys.exit(main())
