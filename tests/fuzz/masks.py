"""One random program by mask and tiles: what is checked, and how a program that fails is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnc.compiler import ir, plan
from attnc.compiler.ir.constructors import rename_tables
from attnc.compiler.ir.extent import HostTable
from attnc.compiler.modules.loader import bind, load_text
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.schedule.segments import schedule
from tests.support.generators.programs import Program
from tests.support.generators.tables import Sizes
from tests.support.oracles import tile_promises as tiles

MODULES = Path(__file__).parents[1] / "golden/modules"
PINNED = Path(__file__).parents[1] / "golden/pinned"
TILES = ((4, 8), (8, 4), (16, 16), (5, 12), (32, 16))
SMALLEST = (1, 3)
"""For calls of a few keys, which are one tile of the others."""


@dataclass(frozen=True)
class Bound:
    """A program's attention, with the call for which the program was written."""

    program: Program
    attention: ir.Attention

    @property
    def contents(self) -> Mapping[str, HostTable]:
        return {table.name: self.program.contents[table.name] for table in self.attention.tables}

    def dense(self) -> NDArray[Any]:
        return evaluate(self.attention.mask, self.attention.tables, self.program.sizes.extent, self.contents)


def bound(program: Program) -> Bound:
    """Bind a program's subject; of a model, the layer that the program looks at."""
    module = load_text(program.text, f"<seed {program.seed}>", MODULES)
    subject = bind(module, program.subject, program.constants)
    if isinstance(subject, ir.Model):
        assert program.layer is not None
        subject = subject.layers[program.layer]
    return Bound(program, subject)


def fault(program: Program) -> str | None:
    """What is wrong with the schedules of a program's mask, at one tile size of several; None when nothing is."""
    subject = bound(program)
    sizes = SMALLEST if program.sizes.n <= 16 else TILES[program.seed % len(TILES)]
    contents, extent = tuple(subject.contents.values()), program.sizes.extent
    natural_order = natural_program(subject.attention, *sizes)
    found = tiles.fault(natural_order, schedule(natural_order, extent, contents), extent, contents)
    return None if found is None else f"tiles of {sizes}: {found}"


def natural_program(attention: ir.Attention, query_tile: int, key_tile: int) -> plan.Program:
    """The whole mask, in natural order."""
    names = {table.name: str(number) for number, table in enumerate(attention.tables)}
    mask, score = rename_tables(attention.mask, names), rename_tables(attention.score, names)
    segment = plan.Segment(plan.natural(key_tile), mask)
    return plan.Program(
        (plan.Kernel(plan.natural(query_tile), (segment,), "store"),), mask, score, None, attention.tables
    )


def to_json(program: Program) -> str:
    """A program as text that stands on its own, whatever becomes of the generator."""
    held = {
        "seed": program.seed,
        "text": program.text.splitlines(),
        "subject": program.subject,
        "constants": {name: _plain(value) for name, value in program.constants.items()},
        "layer": program.layer,
        "sizes": vars(program.sizes),
        "contents": {name: _array(contents) for name, contents in program.contents.items()},
    }
    return json.dumps(held, indent=1)


def from_json(text: str) -> Program:
    held = json.loads(text)
    sizes = held["sizes"] | {"q_start": tuple(held["sizes"]["q_start"])}
    return Program(
        seed=held["seed"],
        text="\n".join(held["text"]) + "\n",
        subject=held["subject"],
        constants={
            name: frozenset(value) if isinstance(value, list) else value for name, value in held["constants"].items()
        },
        layer=held["layer"],
        sizes=Sizes(**sizes),
        contents={
            name: HostTable(np.array(array["values"], array["dtype"]).reshape(array["shape"]), array["batched"])
            for name, array in held["contents"].items()
        },
    )


def pinned() -> Iterator[tuple[str, Program]]:
    """The programs that failed once, by name."""
    for path in sorted(PINNED.glob("*.json")):
        yield path.stem, from_json(path.read_text(encoding="utf-8"))


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value


def _array(contents: HostTable) -> dict[str, object]:
    values = contents.values
    assert values is not None
    return {
        "values": values.ravel().tolist(),
        "dtype": str(values.dtype),
        "shape": list(values.shape),
        "batched": contents.batched,
    }
