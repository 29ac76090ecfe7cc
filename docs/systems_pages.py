"""Makes docs/systems.md and docs/gallery.md: every shipped system's text, picture, proofs and measurements.

`python -m docs.build` writes them. Figures come from benchmarks/results, which `make systems` and
`python benchmarks/systems.py` write; pictures from `python -m docs.pictures`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnc.compiler.modules import Claim, bound_tests, load_shipped
from attnc.compiler.modules.loader import Module
from docs import declared_pictures
from tests.systems.all_systems import BY_MODULE, FIELDS, SYSTEMS, UNHELD, declaration_of, file_of, gallery
from tests.systems.system import System

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
PICTURES = "pictures/systems"
TEST = "tests/systems/test_systems.py::test_a_system_equals_its_original"
ACROSS = 4  # pictures of the gallery in a row
NOTHING = "–"
SINGLE = 1e-9  # a difference above this, of a comparison in float64, is of a side that computed in less
TITLES = {
    "text": "Text", "vision": "Vision", "video": "Video", "packing": "Packing and contexts", "serving": "Serving",
    "dynamic": "Chosen at run time",
}  # fmt: skip
SYSTEMS_HEAD = """\
# Systems

<!-- made by docs/systems_pages.py: `make docs` -->

Published systems that are shipped, each beside its original; a model that but fills a published checkpoint's numbers
into a pattern has no row of its own where the pattern has one. For each: its text, its picture, what is proved of it
for every n, and what it was held against. Where the original's own code runs, that is what computed the other side,
and else a formula restated from its source: the row says which. Masks are compared pair by pair; of outputs and
gradients the largest difference is given, relative to the largest entry of the original's; where it is about 1e-15,
both sides computed in float64, and where it is about 1e-7 although the row says "in float64", the original's own code
computes its softmax or its slopes in float32. Every declaration of every file is moreover held against its dense
definition, and passes the support test, in which one key too many or too few shows. [The
gallery](gallery.md) has all pictures on one page.

| | filled by |
|---|---|
| largest difference, on C++ kernels | `make systems` |
| speed: the original's time over attnc's, in turn in one process; `{nothing}`: not timed | `make bench-systems` |
| all else | `make docs` |

The same comparisons run in `make test` without kernels, by `tests/systems/test_systems.py`.
"""
GALLERY_HEAD = """\
# Gallery

<!-- made by docs/systems_pages.py: `make docs` -->

The shipped systems in small, and the declarations besides that no system's picture shows. A dark cell is a pair of a
query (row) and a key (column) that is kept; an orange one counts more than once. A system's name leads to its text,
proofs and figures, a declaration's to its file. `attnc show` draws them, `make docs` has made these; tables that a call
gives (documents, choices, orders) are made up.
"""


@dataclass(frozen=True)
class Figures:
    """What was measured, by the system's name."""

    differences: Mapping[str, Mapping[str, Any]]
    speeds: Mapping[str, Mapping[str, Any]]


def figures() -> Figures:
    """The rows of both files of results; none of a file that is not there."""
    return Figures(_rows("systems.json", "system"), _rows("systems_speed.json", "speed"))


def _rows(name: str, group: str) -> Mapping[str, Mapping[str, Any]]:
    path = RESULTS / name
    if not path.exists():
        return {}
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {row["name"]: row["figures"] for row in rows if row["group"] == group}


def slug(name: str) -> str:
    """A system's name as that of a file."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def anchor(name: str) -> str:
    """A heading's anchor, as GitHub spells it."""
    return re.sub(r"[^\w\- ]", "", name.lower()).strip().replace(" ", "-")


def drawing_of(system: System) -> tuple[str, ...]:
    """The arguments of `attnc show` that draw a system."""
    named = system.picture[:1] and not system.picture[0].startswith("-")
    return system.picture if named else (system.shipped, *system.picture)


def pictured(systems: Sequence[System] = SYSTEMS) -> Mapping[str, System]:
    """The system whose picture each system has, by name: the first that is drawn alike."""
    first: dict[tuple[str, ...], System] = {}
    return {system.name: first.setdefault(drawing_of(system), system) for system in systems}


def picture_of(system: System) -> str:
    """The file of a system's picture, from docs/."""
    return f"{PICTURES}/{slug(pictured()[system.name].name)}.png"


def command_of(system: System) -> str:
    """What draws a system in a terminal."""
    return shlex.join(["attnc", "show", *drawing_of(system)])


def by_field() -> Mapping[str, Mapping[str, tuple[System, ...]]]:
    """The systems of each folder and file."""
    found: dict[str, dict[str, tuple[System, ...]]] = {field: {} for field in FIELDS}
    for file, field in {"std": FIELDS[0], **gallery()}.items():
        own = tuple(system for system in SYSTEMS if file_of(system) == file)
        if own:
            found[field][file] = own
    return {field: files for field, files in found.items() if files}


# -- the page of systems -------------------------------------------------------------------------------------------


def systems_page() -> str:
    """docs/systems.md."""
    measured = figures()
    parts = [SYSTEMS_HEAD.format(nothing=NOTHING)]
    for field, files in by_field().items():
        several = [system for systems in files.values() for system in systems]
        parts += [f"## {TITLES[field]}\n", _table(several, measured)]
        for file, systems in files.items():
            parts += _file(field, file, systems, measured)
    if UNHELD:
        parts += [
            "## Not here\n",
            "\n".join(f"- `{name}`: {reason}." for name, reason in sorted(UNHELD.items())) + "\n",
        ]
    return "\n".join(parts)


def _table(systems: Sequence[System], measured: Figures) -> str:
    lines = ["| | paper | held against | mask | largest difference | speed |", "|---|---|---|---|---|---|"]
    for system in systems:
        name = f"[{system.name}](#{anchor(system.name)})"
        row = measured.differences.get(system.name)
        cells = (name, system.paper, _original(system), _mask(row), _difference(row), speed(system, measured))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _original(system: System) -> str:
    """What a system is held against; the code that runs as code."""
    return f"`{system.original}`" if system.runs else system.original


def _mask(row: Mapping[str, Any] | None) -> str:
    if row is None or row["pairs_that_differ"] is None:
        return NOTHING
    return "equal" if row["pairs_that_differ"] == 0 else f"{row['pairs_that_differ']} pairs differ"


def _difference(row: Mapping[str, Any] | None) -> str:
    numbers = [row[key] for key in ("output", "gradient") if row[key] is not None] if row else []
    return f"{max(numbers):.0e}".replace("e-0", "e-") if numbers else NOTHING


def speed(system: System, measured: Figures) -> str:
    """How many times as long the original's code takes."""
    row = measured.speeds.get(system.name)
    return f"{row['ratio']:.1f}×" if row and row.get("ratio") else NOTHING


def _file(field: str, file: str, systems: Sequence[System], measured: Figures) -> Iterator[str]:
    """The sections of the systems of one shipped file; each declaration is shown with the first that uses it."""
    module = load_shipped(file)
    shown, proved, drawn = set[str](), set[str](), set[str]()
    for system in systems:
        name = declaration_of(system)
        yield f"### {system.name}\n"
        path = f"{file}.attn" if file == "std" else f"{field}/{file}.attn"
        where = f"[`{name}` of {file}.attn](../patterns/{path})"
        if picture_of(system) in drawn:
            yield f"The picture is that of [{pictured()[system.name].name}](#{anchor(pictured()[system.name].name)}).\n"
        yield f"{system.paper}; {where}.{' ' + _sentence(system.note) if system.note else ''}\n"
        if picture_of(system) not in drawn:
            drawn.add(picture_of(system))
            yield f'<img src="{picture_of(system)}" width="200" alt="{system.name}">\n\n`{command_of(system)}`\n'
        if name not in proved:
            proved.add(name)
            used = parts_of(module, name)
            new = [one for one in used if one not in shown]
            shown.update(new)
            above = [f"`{one}`" for one in used if one not in new]
            yield f"```attn\n{text_of(module, new)}\n```\n" if new else ""
            yield f"With {', '.join(above)} as above.\n" if above else ""
            yield from _proved(module, name)
        yield from _held(system, measured)


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:].rstrip(".") + "."


def parts_of(module: Module, name: str) -> tuple[str, ...]:
    """A declaration and those of its file that it uses, by name, in the file's order."""
    wanted, waiting = set[str](), [name]
    while waiting:
        one = waiting.pop()
        if one not in wanted:
            wanted.add(one)
            waiting += [word for word in re.findall(r"\w+", _declared(module, one)) if word in module.declarations]
    return tuple(sorted(wanted, key=lambda one: module.definitions[one].node.span.start))


def text_of(module: Module, names: Sequence[str]) -> str:
    """The text of some declarations, each with its comment."""
    return "\n\n".join(_comment(module.source.text, module, one) + _declared(module, one) for one in names)


def _declared(module: Module, name: str) -> str:
    span = module.definitions[name].node.span
    return span.source.text[span.start : span.end].rstrip()


def _comment(source: str, module: Module, name: str) -> str:
    """The lines of comment directly above a declaration."""
    lines = source[: module.definitions[name].node.span.start].splitlines()
    kept: list[str] = []
    while lines and lines[-1].startswith("#"):
        kept.insert(0, lines.pop())
    return "".join(f"{line}\n" for line in kept)


def _proved(module: Module, name: str) -> Iterator[str]:
    """What is proved and refuted of a declaration for every n: a line for each test of it."""
    stated: dict[str, dict[str, None]] = {}
    for test in bound_tests(module):
        title = re.sub(r" for all n.*", "", test.title)
        if test.extent is None and re.split(r"\W", title)[0] == name:
            claims = stated.setdefault(title, {})
            for check in test.checks:
                if isinstance(check, Claim) and check.span is not None:
                    claims[" ".join(check.span.source.text[check.span.start : check.span.end].split())] = None
    for title, claims in stated.items():
        of = "" if len(stated) == 1 else f", of `{title}`"
        holds = ", ".join(f"`{claim}`" for claim in claims if not claim.startswith("not "))
        fails = ", ".join(f"`{claim.removeprefix('not ')}`" for claim in claims if claim.startswith("not "))
        parts = [f"proved for every n: {holds}"] if holds else []
        parts += [f"refuted: {fails}"] if fails else []
        yield f"- {_sentence('; '.join(parts))[:-1]}{of}."


def _held(system: System, measured: Figures) -> Iterator[str]:
    """What a system was held against, by which test, and how far the two sides differ."""
    (module,) = (module for module, systems in BY_MODULE.items() if system in systems)
    how = "its own code runs" if system.runs else "restated from its source"
    yield f"- Held against {_original(system)}: {how}, in [{module}.py](../tests/systems/{module}.py)."
    yield f"- Test: `{TEST}[{system.name}]`."
    row = measured.differences.get(system.name)
    if row is not None:
        yield from _compared(system, row)
    fast = measured.speeds.get(system.name)
    if fast is not None and fast.get("ratio"):
        yield (
            f"- Speed: {1e3 * fast['attnc']:,.0f} ms, the original's code {1e3 * fast['original']:,.0f} ms: "
            f"{fast['ratio']:.1f} times as long."
        )
    elif system.untimed:
        yield f"- Speed: not timed: {system.untimed}."
    yield ""


def _compared(system: System, row: Mapping[str, Any]) -> Iterator[str]:
    """The differences of one comparison; the tolerance where there is an output or a gradient."""
    if row["pairs"] is not None:
        wrong = row["pairs_that_differ"]
        many = f"{wrong} pairs" if wrong > 1 else f"{wrong or 'no'} pair"
        yield f"- Mask: {many} of {row['pairs']:,} {'differ' if wrong > 1 else 'differs'}."
    numbers = {key: row[key] for key in ("output", "gradient") if row[key] is not None}
    if numbers:
        said = ", ".join(f"{key} {number:.1e}" for key, number in numbers.items())
        rounds = "float64" in system.note and max(numbers.values()) > SINGLE
        why = "; the original's own code computes its softmax or its slopes in float32" if rounds else ""
        yield f"- Largest difference: {said}, and {row['tolerance']:.0e} is allowed{why}."


# -- the gallery ---------------------------------------------------------------------------------------------------


def gallery_page() -> str:
    """docs/gallery.md."""
    parts = [GALLERY_HEAD]
    for field, files in by_field().items():
        systems = [system for each in files.values() for system in each]
        own = [system for system in systems if pictured()[system.name] is system]
        others = [one for one in declared_pictures.SETTINGS if _field_of(one) == field]
        parts += [f"## {TITLES[field]}\n", _rows_of([_system_cell(one) for one in own])]
        parts += ["Declarations besides:\n", _rows_of([_declared_cell(one) for one in others])] if others else []
    return "\n".join(parts)


def _field_of(name: str) -> str:
    return gallery().get(name.partition(":")[0], FIELDS[0])


def _system_cell(one: System) -> str:
    """A picture above its system's name and what draws it."""
    return (
        f'<img src="{picture_of(one)}" width="180" alt="{one.name}"><br>'
        f"[{one.name}](systems.md#{anchor(one.name)})<br>`{one.shipped}`"
    )


def _declared_cell(name: str) -> str:
    """A picture above its declaration's name, which leads to the file."""
    file, field = name.partition(":")[0], _field_of(name)
    path = f"{file}.attn" if file == "std" else f"{field}/{file}.attn"
    picture = declared_pictures.picture_of(name)
    return f'<img src="{picture}" width="180" alt="{name}"><br>[`{name}`](../patterns/{path})'


def _rows_of(cells: Sequence[str]) -> str:
    """Cells as a table, some in a row."""
    width = min(ACROSS, len(cells))
    lines = ["|" + " |" * width, "|" + "---|" * width]
    for first in range(0, len(cells), width):
        row = cells[first : first + width]
        lines.append(f"| {' | '.join([*row, *[''] * (width - len(row))])} |")
    return "\n".join(lines) + "\n"
