"""Draws docs/pictures/systems, a picture for each shipped system, and docs/pictures/six.png, of six for the README:
``python -m docs.pictures``.

Each is what ``attnc show … --plain -o FILE`` draws. A file whose picture is the same already is not written again.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attnc.cli import main as command_line
from docs import declared_pictures
from docs.systems_pages import DOCS, PICTURES, drawing_of, pictured, slug
from tests.systems.all_systems import SYSTEMS
from tests.systems.system import System

FOLDER = DOCS / PICTURES
DECLARATIONS = DOCS / declared_pictures.FOLDER
README_PICTURE = DOCS / "pictures" / "six.png"
SIX: Mapping[str, tuple[str, ...]] = {
    "Longformer": ("longformer", "--n", "64", "--set", "size=12", "--set", "g={0, 40}"),
    "BigBird": ("bigbird", "--n", "64", "--set", "block=4"),
    "Sparse Transformer": ("strided", "--n", "64", "--set", "stride=8"),
    "LongNet": ("longnet", "--n", "64", "--set", "segment=8"),
    "NATTEN, 8 by 8 tokens": ("natten:natten_grid", "--n", "64", "--set", "width=8", "--set", "size=3"),
    "Packed documents": ("documents:causal_documents", "--n", "64"),
}
"""What the picture on top of the README shows: arguments of ``attnc show``."""
ACROSS = 3
ONE, GAP, LINE = 192, 16, 22  # pixels: a picture's side, between them, of a line of words
INK = (31, 58, 96)


def draw(arguments: Sequence[str], path: Path) -> None:
    """Draws what ``attnc show`` does with these arguments. RuntimeError with what the command said where it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = command_line.run(["show", *arguments, "--plain", "-o", str(path)])
    if code:
        raise RuntimeError(f"attnc show {' '.join(arguments)} ended with {code}: {said.getvalue()}")


def draw_six(path: Path) -> None:
    """Draws six pictures into one file, three beside each other, each above its name."""
    size = ACROSS * (ONE + GAP) + GAP, len(SIX) // ACROSS * (ONE + LINE + GAP) + GAP
    canvas = Image.new("RGB", size, (255, 255, 255))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for place, (name, arguments) in enumerate(SIX.items()):
        left, top = GAP + place % ACROSS * (ONE + GAP), GAP + place // ACROSS * (ONE + LINE + GAP)
        draw(arguments, path)
        with Image.open(path) as found:
            canvas.paste(found.convert("RGB").resize((ONE, ONE), Image.Resampling.BOX), (left, top))
        pen.text((left, top + ONE + 4), name, fill=INK, font=font)
    canvas.quantize(256).save(path, optimize=True)


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
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = set()
    with tempfile.TemporaryDirectory() as base:
        for name, system in drawn():
            names.add(name)
            draw(drawing_of(system), Path(base, name))
            _keep(Path(base, name), FOLDER / name)
        draw_six(Path(base, "six.png"))
        _keep(Path(base, "six.png"), README_PICTURE)
        DECLARATIONS.mkdir(parents=True, exist_ok=True)
        for declaration in declared_pictures.SETTINGS:
            path = DOCS / declared_pictures.picture_of(declaration)
            draw(declared_pictures.arguments_of(declaration), Path(base, path.name))
            _keep(Path(base, path.name), path)
    for path in FOLDER.iterdir():
        if path.name not in names:
            path.unlink()
            sys.stderr.write(f"{path.name}: removed\n")
    return 0


def _keep(path: Path, kept: Path) -> None:
    """Takes a new picture over where it is another."""
    if not same(path, kept):
        kept.write_bytes(path.read_bytes())
        sys.stderr.write(f"{path.name}: drawn\n")


if __name__ == "__main__":
    sys.exit(main())
