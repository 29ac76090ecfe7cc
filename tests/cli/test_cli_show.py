"""`attnc show` on a terminal and into files: colours by tile, and a whole model as a grid of pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from attnc.cli import main, show
from attnc.pictures.grid import LARGEST, SMALLEST, Grid, Panel, Row, grid_blocks, grid_image, grid_svg, panel_side
from attnc.pictures.model_overview import ranges
from attnc.pictures.picture import (
    FULL_TILE,
    INK,
    PARTIAL_TILE,
    PLAIN,
    TINTS,
    Picture,
    Tile,
    Visits,
    blocks,
    hexadecimal,
    painted,
    tile_counts,
)
from attnc.pictures.plain import SEVERAL, SIDE, write_plain

SVG = "{http://www.w3.org/2000/svg}"
COLOUR = re.compile(r"\x1b\[\d+m")
MODEL = """\
pattern narrow(g: tokens) = window(2) or k in g

# Six layers: three narrow, one wide, two whose first two heads differ from the others.
model six(g: tokens) {
    layers = 6
    heads  = 4
    layer 0..2 = narrow(g)
    layer 3    = window(8)
    layer 4..5 { head 0, 3 = causal   head * = window(8) }
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "six.attn").write_text(MODEL)
    return tmp_path


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    code = main.run(list(arguments))
    return code, *capsys.readouterr()


def picture(rows: list[str], *tiles: Tile) -> Picture:
    cells = np.array([[float(c == "#") for c in row] for row in rows], np.float32)
    return Picture("sample", *cells.shape, cells, tiles=tiles)


def visited(found: Picture, *rows: str) -> Picture:
    """Cells in full tiles (F), in partial ones (P), in none."""
    kinds = np.array([[".PF".index(cell) for cell in row] for row in rows], np.uint8)
    return replace(found, visits=Visits(kinds, 0, 0))


def test_characters_take_the_colour_of_their_tile() -> None:
    found = visited(picture(["##..", "##..", "####", "#.##"]), "FF..", "FF..", "PPPP", "PPPP")
    yellow, green = TINTS[1:]
    assert blocks(found, tinted=True) == f"{green}██{PLAIN}  \n{yellow}█▀██{PLAIN}"
    assert COLOUR.sub("", blocks(found, tinted=True)) == blocks(found)
    assert COLOUR.sub("", tile_counts(Visits(np.zeros((1, 1)), 1, 2))) == "1 full tile, 2 partial tiles"


def test_rows_of_a_multiset_and_an_odd_last_row_are_coloured() -> None:
    counts = np.array([[2, 0], [0, 1], [1, 1]])
    found = visited(Picture("sample", 3, 2, (counts > 0).astype(np.float32), counts), "PP", "PP", "FF")
    yellow, green = TINTS[1:]
    assert blocks(found, tinted=True).splitlines() == [
        f"{yellow}2.{PLAIN}", f"{yellow}.#{PLAIN}", f"{green}##{PLAIN}",
    ]  # fmt: skip
    assert (
        blocks(visited(picture(["##", "##", "##"]), "PP", "PP", "FF"), tinted=True).splitlines()[-1]
        == f"{green}▀▀{PLAIN}"
    )


def test_colours_on_a_terminal_only(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain, _ = ended(capsys, "show", "causal", "--n", "256")
    assert "\x1b" not in plain
    monkeypatch.setattr(show, "coloured", lambda _: True)
    code, tinted, err = ended(capsys, "show", "causal", "--n", "256")
    assert (code, err) == (0, "")
    assert set(TINTS[1:]) <= set(COLOUR.findall(tinted))
    assert COLOUR.sub("", tinted) == plain + "6 full tiles, 4 partial tiles\n"


@pytest.mark.parametrize(
    ("numbers", "words"), [([3], "3"), ([0, 1], "0..1"), ([0, 1, 2, 5, 7, 8], "0..2, 5, 7..8"), ([], "")]
)
def test_numbers_as_a_selector(numbers: list[int], words: str) -> None:
    assert ranges(numbers) == words


def test_a_model_is_shown_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, "show", "six.attn:six", "--n", "8")
    assert code == 0
    assert err == "g: tokens was not given: {0}\n"  # once, not for each layer
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("layer")] == ["layers 0..2", "layer 3", "layers 4..5"]
    assert lines[lines.index("layer 3") + 1] == "  all heads  81.25%"
    first = lines.index("layers 4..5") + 1
    assert re.split(r"  +", lines[first].strip()) == ["heads 0, 3", "56.25%", "heads 1..2", "81.25%"]
    assert lines[first + 1].split() == ["█▄", "█████▄"]  # causal beside the window: half blocks, two rows to a line
    assert lines[-1] == "six: 6 layers, 8 queries × 8 keys"


def test_one_layer_or_one_head_of_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_head = ended(capsys, "show", "six.attn:six", "--n", "8", "--head", "1", "--set", "g={}")
    assert [line.split("  ")[1] for line in one_head[1].splitlines() if line.startswith("  head")] == ["head 1"] * 2
    assert "layers 3..5" in one_head[1]  # for this head they are the same
    one_layer = ended(capsys, "show", "six.attn:six", "--n", "8", "--layer", "4", "--head", "1")
    assert "six, layer 4, head 1: 8 queries × 8 keys" in one_layer[1]
    code, out, err = ended(capsys, "show", "six.attn:six", "--head", "4")
    assert (code, out) == (2, "")
    assert "six has heads 0 to 3 here, and 4 is none of them" in err
    assert ended(capsys, "show", "six.attn:six", "--set", "h={1}")[0] == 1


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_a_model_is_drawn_whole(ending: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, "show", "six.attn:six", "--n", "256", "--set", "g={0}", "-o", f"six.{ending}")
    assert (code, out, err) == (0, "", f"six.{ending}: six: 6 layers, 256 queries × 256 keys, 4 pictures\n")
    if ending == "png":
        with Image.open("six.png") as opened:
            colours = {colour for _, colour in opened.convert("RGB").getcolors(1 << 20) or []}
        assert {INK, FULL_TILE, PARTIAL_TILE} <= colours
        return
    text = (folder / f"six.{ending}").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert [word for word in words if word and word.startswith("layer")] == ["layers 0..2", "layer 3", "layers 4..5"]
    assert len(list(root.iter(f"{SVG}g"))) == 4
    assert text.startswith("<svg" if ending == "svg" else "<!doctype html>")


def test_long_work_says_where_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "LONG", 8)
    _, _, err = ended(capsys, "show", "six.attn:six", "--n", "8", "--set", "g={0}")
    assert err.splitlines() == ["layers 0..2", "layer 3", "layers 4..5"]
    assert ended(capsys, "show", "causal", "--n", "8")[2] == "causal, head 0: mask\n"
    assert ended(capsys, "show", "causal", "--n", "7")[2] == ""


def test_panels_go_on_below_where_the_terminal_ends() -> None:
    panels = tuple(Panel(f"head {head}", picture(["####", "####"])) for head in range(5))
    lines = grid_blocks(Grid("m", (Row("layer 0", panels),)), 30).splitlines()
    assert next(line.split("  ")[1] for line in lines if "head" in line).split() == ["head", "0"]
    assert [line.count("head") for line in lines if "head" in line] == [3, 2]
    assert max(map(len, lines)) <= 30


def test_titles_cannot_break_a_grid() -> None:
    grid = Grid("</svg><script>", (Row("<b>", (Panel("&", picture(["#"])),)),))
    root = ElementTree.fromstring(grid_svg(grid))
    assert [element.text for element in root.iter(f"{SVG}text")] == ["<b>", "&", "</svg><script>"]


def test_outlines_that_would_hide_the_mask_are_left_out() -> None:
    small = picture(["#" * 64] * 64, *(Tile(0, left, 64, left + 1, True) for left in range(64)))
    colours = grid_image(Grid("m", (Row("r", (Panel("p", small),)),))).getcolors(1 << 20) or []
    assert FULL_TILE not in {colour for _, colour in colours}
    assert painted(small, 1).size == (66, 66)


@pytest.mark.parametrize(("across", "side"), [(0, LARGEST), (1, LARGEST), (12, 120), (1000, SMALLEST)])
def test_panels_shrink_where_many_stand_side_by_side(across: int, side: int) -> None:
    assert panel_side(across) == side


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_orders_are_drawn_beside_the_natural_one(ending: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dilated.attn").write_text("pattern dilated = abs(q - k) <= 512 and (q - k) % 4 == 0\n")
    code, out, err = ended(capsys, "show", "dilated.attn", "--n", "1024", "-o", f"mask.{ending}")
    title = "dilated, head 0: 1,024 queries × 1,024 keys, "
    assert (code, out) == (0, "")
    assert err.startswith(f"mask.{ending}: {title}")
    if ending == "png":
        with Image.open("mask.png") as opened:
            colours = {colour for _, colour in opened.convert("RGB").getcolors(1 << 20) or []}
        assert {INK, FULL_TILE, PARTIAL_TILE} <= colours
        return
    text = (folder / f"mask.{ending}").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert words[0] == "natural order"
    assert words[1].startswith("0 full and ")
    assert words[2] == "kernel 0: rows residue(4)"
    assert words[3].startswith("keys residue(4), ")
    assert words[4].startswith(title)
    keys = [int(word.split(", ")[-1].split()[0].replace(",", "")) for word in (words[1], words[4])]
    assert keys[1] < keys[0] / 2, "fewer keys a query in the order chosen"


def test_an_order_of_its_own_is_coloured_in_the_mask_as_it_stands(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "dilated.attn").write_text("pattern dilated = abs(q - k) <= 512 and (q - k) % 4 == 0\n")
    _, plain, _ = ended(capsys, "show", "dilated.attn", "--n", "1024")
    monkeypatch.setattr(show, "coloured", lambda _: True)
    _, tinted, _ = ended(capsys, "show", "dilated.attn", "--n", "1024")
    assert set(TINTS[1:]) <= set(COLOUR.findall(tinted))
    *rows, counts = COLOUR.sub("", tinted).splitlines()
    assert rows == plain.splitlines()
    assert re.fullmatch(r"[1-9]\d* full tiles, [1-9]\d* partial tiles", counts)


def test_a_plain_drawing_is_the_mask_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells in a frame: no tiles, no orders, no words; in another colour what counts more than once."""
    (folder / "two.attn").write_text("pattern two = (q == k) + (k < 1) + (k < 2)\n")
    arguments = ("show", "two.attn", "--n", "4", "--plain", "-o")
    assert ended(capsys, *arguments, "two.png") == (0, "", "two.png: 4 × 4, 16 pairs\n")
    pixels = np.array(Image.open("two.png").convert("RGB"))
    assert pixels.shape == (SIDE + 2, SIDE + 2, 3)
    kept, several, none = INK, SEVERAL, (255, 255, 255)
    expected = [
        [several, kept, none, none],
        [several, several, none, none],
        [several, kept, kept, none],
        [several, kept, none, kept],
    ]
    found = pixels[1:-1:96, 1:-1:96]
    assert found.tolist() == [[list(colour) for colour in row] for row in expected]
    assert np.array_equal(pixels[1:-1, 1:-1], found.repeat(96, axis=0).repeat(96, axis=1))
    assert ended(capsys, *arguments, "two.svg")[0] == 0
    drawn = ElementTree.parse("two.svg").getroot()
    fills = [rectangle.get("fill") for rectangle in drawn.iter(f"{SVG}rect")]
    assert fills.count(hexadecimal(SEVERAL)) == 5
    assert not list(drawn.iter(f"{SVG}text"))
    assert ended(capsys, *arguments, "two.html")[0] == 0
    assert "<svg" in Path("two.html").read_text()
    assert ended(capsys, "show", "six.attn", "--n", "600", "--set", "g={0}", "--plain", "-o", "six.png")[0] == 0
    colours = {colour for _, colour in Image.open("six.png").convert("RGB").getcolors(10_000) or ()}
    assert not colours & {FULL_TILE, PARTIAL_TILE}, "a model's pictures have no tiles either"
    with pytest.raises(ValueError, match="a picture is written as"):
        write_plain(picture(["#"]), Path("mask.gif"))


def test_plain_is_of_drawings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = ended(capsys, "show", "six.attn", "--plain")
    assert code == 2
    assert "--plain goes with -o" in said
