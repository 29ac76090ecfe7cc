"""What every shipped pattern is rendered to, byte for byte as it was written down; and what a template refuses.

``tests/golden/rendered`` has the digest of each text and, for one pattern, the whole texts, so that a diff can be read
(``pytest --update-golden`` writes them).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from attnc.compiler.arrange.tile_shapes import choose
from attnc.compiler.codegen.cpp.render import render_cpp
from attnc.compiler.codegen.lifting import lift_constants
from attnc.compiler.codegen.source import Code, KernelSource, indented, read_template, render
from attnc.compiler.codegen.triton.render import render_triton
from attnc.compiler.ir.attentions import Attention
from attnc.compiler.modules.loader import bind, load_shipped
from attnc.compiler.plan.dtypes import BF16, usual
from attnc.compiler.plan.programs import Program
from attnc.compiler.plan.tile_choices import Choices
from attnc.runtime.cpp.backend import CPP
from attnc.runtime.triton.backend import TRITON
from tests.support.shipped_support import SHIPPED

FOLDER = Path(__file__).parents[1] / "golden/rendered"
PATTERNS = {f"{shipped.file}_{shipped.name}": shipped for shipped in SHIPPED}
SHOWN = "longformer_longformer"


def lifted(name: str, choices: Choices) -> Program:
    shipped = PATTERNS[name]
    attention = bind(load_shipped(shipped.file), shipped.name, shipped.constants)
    assert isinstance(attention, Attention)
    return lift_constants(choose(attention, choices)).program


def sources(name: str) -> dict[str, KernelSource]:
    """By target and pass: with dropout, features that fill no power of two, and values of fewer features."""
    on_cpu = lifted(name, CPP.tiles(BF16, 40, "cpu").forward)
    kind = replace(usual(on_cpu.tables, BF16, 40), value_dim=24, dropout=True)
    shapes = TRITON.tiles(BF16, 40, "sm_90")
    texts = {
        f"triton {direction}": render_triton(lifted(name, shapes.of(direction)), variant)
        for direction, variant in TRITON.variants(kind, "sm_90")
    }
    for _, variant in CPP.variants(kind, "cpu"):
        texts[f"cpp {variant.direction}"] = render_cpp(on_cpu, variant)
    return texts


def test_every_shipped_declaration_has_a_text_of_its_own() -> None:
    assert len(PATTERNS) == len(SHIPPED)
    assert {path.stem for path in FOLDER.glob("*.json")} == set(PATTERNS)


@pytest.mark.parametrize("name", PATTERNS)
def test_the_text_is_the_one_written_down(name: str, update_golden: bool) -> None:
    found = sources(name)
    shown = {FOLDER / f"{target.replace(' ', '_')}.txt": source.text for target, source in found.items()}
    texts = shown if name == SHOWN else {}
    digests = {target: source.digest for target, source in found.items()}
    texts[FOLDER / f"{name}.json"] = json.dumps(digests, indent=1, sort_keys=True) + "\n"
    for path, text in texts.items():
        if update_golden:
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Record:
    note: object


@pytest.mark.parametrize(
    "hole", ["a word", ("a word",), {"key": "a word"}, Record("a word"), (Record(("a word",)),), 0.5]
)
def test_a_hole_with_a_word_of_the_users_is_refused(hole: object) -> None:
    with pytest.raises(TypeError, match=r"a template's hole, (note|key), is (str|float): emitters give Code"):
        render("cpp/prelude.cpp.jinja", note=hole)


def test_a_hole_that_nothing_fills_is_an_error() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="'note' is undefined"):
        render("cpp/prelude.cpp.jinja", compute=Code("double"))


def test_lines_are_inserted_with_their_columns_or_not_at_all() -> None:
    assert indented((), 4) == indented("", 4) == ""
    assert indented((Code("a = 1"), Code("b = a")), 4) == "    a = 1\n    b = a\n"
    assert indented("if a:\n    b = 2", 0) == "if a:\n    b = 2\n"
    assert indented("a\n\nb\n", 2) == "  a\n\n  b\n"
    assert "{% insert rows.lanes at 4 %}\n{% insert rows.lines at 4 %}\n" in read_template("triton/macros.py.jinja")
    text = sources("causal_causal")["triton forward"].text  # natural order has no lines for each step
    assert "\n    row_lanes = tl.arange(0, 128)\n    rows = block * 128 + row_lanes\n" in text
