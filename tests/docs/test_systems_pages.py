"""The pages of systems and pictures: nothing in them is by hand, nothing is missing, nothing is out of date."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attnc.compiler.modules import load_shipped, load_text
from docs import declared_pictures, pictures, systems_pages
from tests.support import pages
from tests.systems import declarations
from tests.systems.all_systems import SYSTEMS
from tests.systems.freshness import settings_of, speed_settings_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
MADE = {"systems": systems_pages.systems_page, "gallery": systems_pages.gallery_page}


def rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / name).read_text(encoding="utf-8"))["rows"]
    return found


@pytest.mark.parametrize("name", MADE)
def test_a_page_is_what_its_command_makes_now(name: str) -> None:
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == MADE[name](), "run `make docs`"


@pytest.mark.parametrize("name", MADE)
def test_links_and_pictures_lead_somewhere(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    shown = re.findall(r'<img src="([^"]+)"', page)
    assert shown
    for target in [*pages.links(page), *shown]:
        file, _, anchor = target.partition("#")
        found = (DOCS / file).resolve() if file else DOCS / f"{name}.md"
        assert found.is_file(), target
        assert found.is_relative_to(ROOT), target
        assert not anchor or anchor in pages.anchors(found.read_text(encoding="utf-8")), target


def test_every_system_is_on_both_pages_with_its_test() -> None:
    page, gallery = (make() for make in MADE.values())
    for system in SYSTEMS:
        assert page.count(f"\n### {system.name}\n") == 1
        section = page.partition(f"\n### {system.name}\n")[2].partition("\n### ")[0]
        assert ("<img " in section) != ("The picture is that of [" in section)
        assert page.count(f"`{systems_pages.TEST}[{system.name}]`") == 1
        assert systems_pages.picture_of(system) in gallery
    assert len(re.findall(r"^### ", page, re.MULTILINE)) == len(SYSTEMS)


def test_a_system_s_section_says_what_was_measured() -> None:
    """With figures made up here, and with none."""
    system = SYSTEMS[0]
    row = {"pairs": 9, "pairs_that_differ": 0, "output": 1.26e-7, "gradient": 3e-8, "tolerance": 2e-6}
    speed = {"ratio": 2.345, "attnc": 0.01, "original": 0.02345}
    measured = systems_pages.Figures({system.name: row}, {system.name: speed})
    told = "\n".join(systems_pages._held(system, measured))
    assert "- Mask: no pair of 9 differs.\n" in told
    assert "- Largest difference: output 1.3e-07, gradient 3.0e-08, and 2e-06 is allowed" in told
    masks = row | {"output": None, "gradient": None, "pairs_that_differ": 2}
    assert list(systems_pages._compared(system, masks)) == ["- Mask: 2 pairs of 9 differ."]
    single = "; the original's own code computes its softmax or its slopes in float32."
    for note, rounds in (("in float64", True), ("", False)):
        assert list(systems_pages._compared(replace(system, note=note), row))[1].endswith(single) == rounds
    exact = row | {"output": 1e-15, "gradient": 1e-15}
    assert not list(systems_pages._compared(replace(system, note="in float64"), exact))[1].endswith(single)
    assert "2.3 times as long" in told
    untimed = next(system for system in SYSTEMS if system.untimed)
    nothing = "\n".join(systems_pages._held(untimed, systems_pages.Figures({}, {})))
    assert f"- Speed: not timed: {untimed.untimed}." in nothing
    assert "not timed" not in told
    assert systems_pages._table([system], measured).endswith("| equal | 1e-7 | 2.3× |\n")
    assert systems_pages._table([system], systems_pages.Figures({}, {})).endswith("| – | – | – |\n")


def test_texts_are_cut_out_of_the_shipped_files() -> None:
    """What a declaration uses of its file is shown with it; each only once."""
    page = systems_pages.systems_page()
    for name in {systems_pages.file_of(system) for system in SYSTEMS}:
        module = load_shipped(name)
        own = [systems_pages.declaration_of(system) for system in SYSTEMS if systems_pages.file_of(system) == name]
        shown = {
            part: systems_pages.text_of(module, [part]) for one in own for part in systems_pages.parts_of(module, one)
        }
        assert set(own) <= set(shown)
        assert all(text in module.source.text for text in shown.values())
        assert [part for part, text in shown.items() if page.count(f"{text}\n") != 1] == []
        order = [part for part in module.declarations if part in shown]
        imports = "".join(re.findall(r"^from .*\n", module.source.text, re.MULTILINE))
        cut = load_text(imports + systems_pages.text_of(module, order), "cut")
        assert set(cut.declarations) >= set(shown), "what is shown is whole"


def test_claims_are_told_as_proved_or_refuted() -> None:
    module = load_shipped("sink_window")
    (told,) = systems_pages._proved(module, "sink_window")
    assert told == (
        "- Proved for every n: `causal`, `diagonal`, `rows nonempty`, `contains causal_window(1020)`, `within causal`; "
        "refuted: `symmetric`."
    )


def test_every_row_of_the_results_is_of_a_system_or_declaration_as_it_is_now() -> None:
    found = {(row["group"], row["name"]): row for row in rows("systems.json")}
    wanted: dict[tuple[str, str], Any] = {("system", system.name): system for system in SYSTEMS}
    wanted |= {("declaration", str(subject)): subject for subject in declarations.declared()}
    assert set(found) == set(wanted), "run `make systems`"
    assert [name for name, row in found.items() if row["faults"]] == []
    stale = [name for name, row in found.items() if row["settings"] != dict(settings_of(wanted[name]))]
    assert stale == [], "run `make systems`"
    for system in SYSTEMS:
        figures = found["system", system.name]["figures"]
        assert figures["pairs_that_differ"] in (0, None)
        assert max(figures["output"] or 0, figures["gradient"] or 0) <= system.tolerance


def test_every_timed_system_has_a_speed_and_no_other() -> None:
    found = {row["name"]: row for row in rows("systems_speed.json")}
    wanted = {system.name: system for system in SYSTEMS if system.timed is not None}
    assert set(found) == set(wanted), "run `make bench-systems`"
    for name, row in found.items():
        assert row["faults"] == []
        assert row["settings"] == dict(speed_settings_of(wanted[name])), "run `make bench-systems`"
        assert row["figures"]["ratio"] > 0


def test_there_is_a_picture_of_every_system_and_no_other() -> None:
    wanted = {name for name, _ in pictures.drawn()}
    assert {path.name for path in pictures.FOLDER.iterdir()} == wanted, "run `make docs`"
    assert max(path.stat().st_size for path in pictures.FOLDER.iterdir()) < 100_000


def test_pictures_are_what_attnc_show_draws_now(tmp_path: Path) -> None:
    """Some of them, and that of six."""
    every = list(pictures.drawn())
    for name, system in every[:: max(1, len(every) // 5)]:
        pictures.draw(systems_pages.drawing_of(system), tmp_path / name)
        assert pictures.same(tmp_path / name, pictures.FOLDER / name), f"{name}: run `make docs`"
    pictures.draw_six(tmp_path / "six.png")
    assert pictures.same(tmp_path / "six.png", pictures.README_PICTURE), "run `make docs`"


def test_every_pattern_and_attention_has_a_picture_in_the_gallery() -> None:
    of_systems = {systems_pages.drawing_of(system)[0] for system in SYSTEMS}
    own = declared_pictures.SETTINGS
    assert {*own} == declared_pictures.drawable() - of_systems
    page = systems_pages.gallery_page()
    assert [name for name in own if f'src="{declared_pictures.picture_of(name)}"' not in page] == []
    files = {Path(declared_pictures.picture_of(name)).name for name in own}
    assert {path.name for path in pictures.DECLARATIONS.iterdir()} == files, "run `make docs`"


def test_another_picture_is_noticed(tmp_path: Path) -> None:
    kept = next(pictures.FOLDER.iterdir())
    pixels = np.array(Image.open(kept).convert("RGB"))
    Image.fromarray(pixels).save(tmp_path / "packed otherwise.png", compress_level=0)
    assert pictures.same(tmp_path / "packed otherwise.png", kept)
    pixels[3, 3] ^= 1
    Image.fromarray(pixels).save(tmp_path / "other.png")
    assert not pictures.same(tmp_path / "other.png", kept)
    assert not pictures.same(tmp_path / "none.png", kept)
