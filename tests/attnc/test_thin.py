"""Pictures keep what is thin: a kept pair leaves a mark wherever a mask is drawn; what is drawn by default tells."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from attnc.cli import main
from attnc.compiler.diagnostics.diagnostic import AttnError
from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import TRUE, K, Q
from attnc.compiler.modules.imports import shipped_names
from attnc.compiler.modules.loader import load_shipped
from attnc.compiler.oracle.interpreter import evaluate
from attnc.inspection.launch_view import LaunchSizes, LaunchView, prepare
from attnc.inspection.picture_size import telling_length
from attnc.inspection.subject import APPLICABLE, find
from attnc.pictures import sample, tiled, whole_mask
from attnc.pictures.grid import GAP, LINE, TERMINAL_PANEL
from attnc.pictures.picture import FRAME, INK, PAPER, Picture, Tile, bins, blocks, ink, painted, rectangles
from attnc.pictures.whole_mask import sampled

SVG = "{http://www.w3.org/2000/svg}"
APART = 150  # of the 765 steps between black and white: a difference that is seen in one row of pixels
MODEL, N = "longformer:longformer_base_4096", 2048
GLOBAL = frozenset({700, 1333})
Cells = NDArray[np.bool_]


def view(name: str, n: int, **tables: object) -> LaunchView:
    return prepare(find(name), tables, LaunchSizes(n), "cpu", lambda _: None)  # type: ignore[arg-type]


def kept_cells(found: LaunchView, limit: int) -> Cells:
    """Which cells of a picture hold a pair, by evaluating every one."""
    attention, extent = found.pipeline.attention, found.extent
    dense = evaluate(attention.mask, attention.tables, extent, found.contents)
    dense = np.broadcast_to(dense, (1, extent.heads, extent.m, extent.n))[0, found.head] > 0
    tops, lefts = bins(extent.m, limit), bins(extent.n, limit)
    return np.add.reduceat(np.add.reduceat(dense, tops[:-1], 0), lefts[:-1], 1) > 0


def distance(pixels: NDArray[np.uint8], others: NDArray[np.uint8] | tuple[int, int, int]) -> NDArray[np.int64]:
    return np.abs(pixels.astype(np.int64) - np.asarray(others)).sum(axis=2)


# One picture

SHARES = st.sampled_from([0.0, 1e-7, 1e-3, 0.5, 1.0])
DENSITIES = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=SHARES)


@given(DENSITIES, st.integers(1, 4), st.integers(1, 8), st.booleans())
def test_every_cell_that_keeps_a_pair_is_marked_under_outlines_too(
    density: NDArray[np.float32], side: int, tile: int, full: bool
) -> None:
    m, n = density.shape
    tiles = tuple(
        Tile(top, left, min(top + tile, m), min(left + tile, n), full)
        for top in range(0, m, tile) for left in range(0, n, tile)
    )  # fmt: skip
    drawn = Picture("sample", m, n, density, tiles=tiles)
    empty = replace(drawn, density=np.zeros_like(density))
    apart = distance(np.asarray(painted(drawn, side)), np.asarray(painted(empty, side)))[1:-1, 1:-1] >= APART
    marked = apart.reshape(m, side, n, side)
    assert (marked.all(axis=(1, 3)) == (density > 0)).all()
    assert (marked.any(axis=(1, 3)) == (density > 0)).all()


@given(DENSITIES, st.integers(1, 4))
def test_every_cell_that_keeps_a_pair_is_marked_in_an_svg(density: NDArray[np.float32], side: int) -> None:
    m, n = density.shape
    drawn = Picture("sample", m, n, density, tiles=(Tile(0, 0, m, n, True),))
    root = ElementTree.fromstring(f'<svg xmlns="{SVG[1:-1]}">{"".join(rectangles(drawn, side, FRAME))}</svg>')
    assert (marks(root, density.shape) == (density > 0)).all()
    outlines = [rect for rect in root.iter(f"{SVG}rect") if rect.get("fill") == "none"]
    assert outlines
    assert all(float(rect.get("stroke-opacity", 1)) < 1 for rect in outlines)


def marks(root: ElementTree.Element, shape: tuple[int, ...]) -> Cells:
    """The cells that rectangles of ink cover, strongly enough to be seen."""
    rects = [rect for rect in root.iter(f"{SVG}rect") if rect.get("fill") == "#1f3a60"]
    found = np.zeros(shape, bool)
    for rect in rects:
        side = int(rect.get("height", ""))
        row, first, count = (int(rect.get(name, "")) // side for name in ("y", "x", "width"))
        shade = float(rect.get("fill-opacity", 1)) * (np.array(PAPER) - INK).sum()
        found[row, first : first + count] = shade >= APART
    return found


def test_ink_grows_with_what_is_kept() -> None:
    shares = ink(np.array([0.0, 1e-7, 0.1, 0.5, 0.999, 1.0]))
    assert (np.diff(shares) > 0).all()
    assert shares[0] == 0
    assert shares[-1] == 1


# A whole model, into files and on a terminal


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_a_global_token_is_seen_in_the_picture_of_a_model(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["show", MODEL, "--n", str(N), "--set", "g={700, 1333}", "-o", f"model.{ending}"]) == 0
    expected = kept_cells(view(MODEL, N, g=GLOBAL), 240)
    for token in GLOBAL:
        at = token * len(expected) // N
        assert expected[at].all()
        assert expected[:, at].all()
    if ending == "png":
        with Image.open("model.png") as opened:
            pixels = np.asarray(opened.convert("RGB"))
        top, left = GAP + 2 * LINE, GAP
        panel = pixels[top : top + len(expected), left : left + len(expected)]
        assert ((distance(panel, PAPER) >= APART) == expected).all()
        return
    text = Path(f"model.{ending}").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    assert (marks(root, expected.shape) == expected).all()


def test_a_global_token_is_seen_on_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name, limit, indent in (("longformer", 80, 0), (MODEL, TERMINAL_PANEL, 2)):
        assert main.run(["show", name, "--n", str(N), "--set", "g={700, 1333}"]) == 0
        lines = capsys.readouterr().out.splitlines()
        expected = kept_cells(view(name, N, g=GLOBAL), limit)
        expected = np.logical_or.reduceat(expected, np.arange(0, len(expected), 2))
        first = next(number for number, line in enumerate(lines) if re.search("[░▒▓█]", line))
        rows = [line[indent:].ljust(expected.shape[1]) for line in lines[first : first + len(expected)]]
        drawn = np.array([[character in "░▒▓█" for character in row] for row in rows])
        assert (drawn == expected).all()


def test_one_pair_of_a_large_mask_is_seen_everywhere(tmp_path: Path) -> None:
    text = tmp_path / "one.attn"
    text.write_text("pattern one = q == 12345 and k == 17\n")
    found = view(str(text), 20_000)
    for limit in (24, 80, 960):
        picture, pairs = sampled(found, limit, None)
        assert pairs == 1
        assert (picture.density > 0).sum() == 1
        assert len(re.findall("[░▒▓█]", blocks(picture))) == 1


# What is too large to be evaluated pair by pair

LARGE = (
    ("longformer", 500), ("longformer:longformer_char_small", 200), ("bigbird", 300), ("strided", 300),
    ("strided:fixed", 300), ("sink_window", 300), ("documents", 200), ("prefix_lm", 200),
)  # fmt: skip


@pytest.mark.parametrize(("name", "n"), LARGE)
def test_counting_by_tiles_is_counting_by_pairs(name: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = view(name, n)
    expected, pairs = sampled(found, 37, None)
    monkeypatch.setattr(whole_mask, "EXACT_PAIRS", 0)
    monkeypatch.setattr(whole_mask, "sample_mask", lambda *_: pytest.fail("pair by pair"))
    picture, counted = sampled(found, 37, None)
    if found.pipeline.attention.mask.type == "count":
        assert ((picture.density > 0) == (expected.density > 0)).all()
    else:
        assert counted == pairs
        assert np.allclose(picture.density, expected.density)


def test_a_large_mask_without_tiles_to_spare_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (whole_mask, tiled, sample):
        monkeypatch.setattr(module, "EXACT_PAIRS", 2**17)
    text = tmp_path / "sparse.attn"
    text.write_text("pattern sparse = hash(q, k) % 100 == 0\n")
    picture, pairs = sampled(view(str(text), 1000), 4, None)
    assert pairs is None
    assert np.allclose(picture.density, 0.01, atol=0.004)


# What is shown where nobody says how much

WHOLE = (TRUE, constructors.less_equal(K, Q))  # nothing but the whole is to be seen
PLAIN_BY_DEFAULT = ("llama4:llama4_causal",)  # unless told otherwise, there is no padding


def shipped() -> list[str]:
    found = []
    for name in shipped_names():
        module = load_shipped(name)
        for key, declaration in module.declarations.items():
            if declaration.kind in APPLICABLE and name != "std":
                found.append(f"{name}:{key}")
    return found


@pytest.mark.parametrize("name", shipped())
def test_what_is_shown_without_arguments_tells(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_mask, "EXACT_PAIRS", 2**18)  # by tiles, which is faster
    subject = find(name)
    try:
        n = telling_length(subject, {}, None)
    except AttnError as error:  # has constants without a default, or takes an index from another pattern
        told = {"missing-argument", "missing-size", "index-parameter"}
        assert {fault.slug for fault in error.diagnostics} <= told  # noqa: PT017
        return
    assert 64 <= n <= 16384
    found = view(name, n)
    density = sampled(found, 64, None)[0].density
    past = np.tril(np.ones(density.shape), -1)
    plain = (density == 1).all() or ((density == past) | np.eye(len(past), dtype=bool)).all()
    assert plain == (found.pipeline.attention.mask in WHOLE or name in PLAIN_BY_DEFAULT)


@pytest.mark.parametrize(
    ("text", "values", "n"),
    [
        ("pattern p = full", {}, 64),
        ("pattern p = window(512)", {}, 1024),
        ("pattern p = causal_window(4096)", {}, 8192),
        ("pattern p = blocks(64)", {}, 1024),
        ("pattern p = hash(q, k) % 1000003 == 0", {}, 64),
        ("pattern p(g: tokens) = k in g", {"g": frozenset({3, 900})}, 4096),
        ("pattern p(length: int[]) = k < length", {"length": 100}, 512),
        ("pattern p(doc: int[token]) = doc[q] == doc[k]", {"doc": (0, 0, 1, 1, 1)}, 5),
    ],
)
def test_the_constants_choose_the_length(text: str, values: dict[str, object], n: int, tmp_path: Path) -> None:
    (tmp_path / "p.attn").write_text(text + "\n")
    assert telling_length(find(f"{tmp_path}/p.attn"), values, None) == n  # type: ignore[arg-type]
