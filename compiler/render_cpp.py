"""A Program to C++: one source for the forward pass, one for the backward pass.

The lowered expressions are spread over the stages at which their parts are known (a head, a query, a key, a pair), so
that a pair computes only what changes with it; the templates hold everything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .derive import depends_on, derivative, reads
from .describe import expression
from .emit import Lowered, Statement, lower
from .emit_cpp import CppDialect
from .ir import HEAD, LOGIT, Const, Entry, Expr, children, walk
from .plan import Program
from .render import Code, render
from .source import KernelSource

Pass = Literal["forward", "backward"]
Storage = Literal["float32", "float64", "bfloat16", "float16"]
Element = Literal["float32", "float64", "int32", "int64", "uint8"]
Stage = Literal["head", "row", "key", "pair"]

_STORAGE: Mapping[Storage, str] = {
    "float32": "float", "float64": "double", "bfloat16": "BrainFloat", "float16": "Half",
}  # fmt: skip
_ELEMENTS: Mapping[Element, str] = {
    "float32": "float", "float64": "double", "int32": "int32_t", "int64": "int64_t", "uint8": "uint8_t",
}  # fmt: skip
_SINGLE = {"int": "Int", "float": "Real", "bool": "bool", "count": "Int"}
_VECTOR = {"int": "Ints", "float": "Reals", "bool": "Bools", "count": "Ints"}
_NAME = re.compile(r"\bt\d+\b")
# A mask or a score with more distinct parts than this is not written into the header comment.
_READABLE = 40


@dataclass(frozen=True)
class CppVariant:
    """What a C++ kernel is compiled for, beside its Program.

    ``compute`` is the type of sums, ``wide`` whether positions need 64 bits, ``elements`` what each table holds.
    """

    direction: Pass
    head_dim: int
    value_dim: int
    storage: Storage
    compute: Literal["float32", "float64"]
    wide: bool
    dropout: bool
    elements: tuple[Element, ...]


@dataclass(frozen=True)
class Straight:
    """Statements for one pair, and what they give."""

    statements: tuple[Code, ...]
    result: Code


@dataclass(frozen=True)
class Scatter:
    """A table's gradient at one place in the text: ``number`` of the table, its indices, and the slope there."""

    number: int
    indices: tuple[Code, ...]
    slope: Code
    single: bool  # the same entry for every pair of a head: summed in registers first


class _Stages:
    """Lowered expressions, each statement at its stage, every name spelled as its user sees it."""

    def __init__(self, lowered: Lowered, results: Sequence[str]) -> None:
        self._by_name = {statement.name: statement for statement in lowered.statements}
        self._stage: dict[str, Stage] = {s.name: _stage(s.depends) for s in lowered.statements}
        self._fields = self._shared(lowered, results)
        self._statements = lowered.statements

    def _shared(self, lowered: Lowered, results: Sequence[str]) -> frozenset[str]:
        """Names that another stage than their own wants."""
        shared = {name for text in results for name in _NAME.findall(text)}
        for statement in lowered.statements:
            used = _NAME.findall(statement.text)
            shared |= {name for name in used if self._stage[name] != self._stage[statement.name]}
        return frozenset(name for name in shared if self._stage[name] != "pair")

    def spelled(self, text: str) -> Code:
        def name(match: re.Match[str]) -> str:
            return f"{self._stage[match[0]]}.{match[0]}" if match[0] in self._fields else match[0]

        return Code(_NAME.sub(name, text))

    def fields(self, stage: Stage) -> tuple[Code, ...]:
        here = (s for s in self._statements if s.name in self._fields and self._stage[s.name] == stage)
        return tuple(Code(f"{_declared(s)} {s.name};") for s in here)

    def statements(self, stage: Stage) -> tuple[Code, ...]:
        return tuple(self._line(s) for s in self._statements if self._stage[s.name] == stage)

    def _line(self, statement: Statement) -> Code:
        target = self.spelled(statement.name) if statement.name in self._fields else None
        start = target if target is not None else f"const {_declared(statement)} {statement.name}"
        return Code(f"{start} = {self.spelled(statement.text)};")

    def pair(self, *results: str) -> tuple[Code, ...]:
        """The statements of a pair that some results need, in order."""
        wanted: set[str] = set()
        stack = [name for text in results for name in _NAME.findall(text)]
        while stack:
            name = stack.pop()
            if name not in wanted and self._stage[name] == "pair":
                wanted.add(name)
                stack.extend(_NAME.findall(self._by_name[name].text))
        return tuple(self._line(s) for s in self._statements if s.name in wanted)

    def straight(self, result: str) -> Straight:
        return Straight(self.pair(result), self.spelled(result))

    def is_vector(self, text: str) -> bool:
        return any(self._stage[name] == "pair" or "q" in self._by_name[name].depends for name in _NAME.findall(text))


def render_cpp(program: Program, variant: CppVariant) -> KernelSource:
    """The C++ text of one pass. Same program and variant, same text; the headers are in ``templates/cpp``."""
    if len(program.kernels) != 1 or len(program.kernels[0].segments) != 1:
        raise ValueError("C++ kernels are for one segment in natural order")
    holes = _forward(program) if variant.direction == "forward" else _backward(program)
    kernel = program.kernels[0]
    common: dict[str, object] = {
        "note": _note(program, variant),
        "compute": Code("double" if variant.compute == "float64" else "float"),
        "integer": Code("int64_t" if variant.wide else "int32_t"),
        "storage": Code(_STORAGE[variant.storage]),
        "head_dim": variant.head_dim,
        "value_dim": variant.value_dim,
        "query_tile": kernel.rows.tile,
        "key_tile": kernel.segments[0].keys.tile,
        "tables": tuple((number, Code(_ELEMENTS[variant.elements[number]])) for number in _tables_read(program)),
        "counted": program.counted,
        "scored": program.score != LOGIT,
        "forward": variant.direction == "forward",
        "dropout": variant.dropout,
        "sunk": program.sink is not None,
    }
    return KernelSource("cpp", render(f"cpp/{variant.direction}.cpp.jinja", **common, **holes))


def _lowered(program: Program, roots: Mapping[str, Expr]) -> tuple[_Stages, dict[str, str]]:
    lowered = lower(tuple(roots.values()), CppDialect(program.tables))
    results = dict(zip(roots, lowered.results, strict=True))
    return _Stages(lowered, lowered.results), results


def _roots(program: Program) -> dict[str, Expr]:
    roots = {"mask": program.kernels[0].segments[0].condition, "score": program.score}
    return roots if program.sink is None else {**roots, "sink": program.sink}


def _stage_holes(stages: _Stages, results: Mapping[str, str]) -> dict[str, object]:
    named: tuple[Stage, ...] = ("head", "row", "key")
    holes: dict[str, object] = {
        "fields": {stage: stages.fields(stage) for stage in named},
        "stages": {stage: stages.statements(stage) for stage in named},
        "mask": stages.straight(results["mask"]),
        "score": stages.straight(results["score"]),
    }
    if "sink" in results:
        holes["sink"] = stages.straight(results["sink"])
    return holes


def _forward(program: Program) -> dict[str, object]:
    stages, results = _lowered(program, _roots(program))
    return _stage_holes(stages, results)


def _backward(program: Program) -> dict[str, object]:
    roots = _roots(program) | {"slope": derivative(program.score, LOGIT)}
    places: dict[str, Entry] = {}
    for source, expr in (("score", program.score), ("sink", program.sink)):
        for number, place in enumerate(reads(expr) if expr is not None else ()):
            assert expr is not None
            slope = derivative(expr, place)
            if slope == Const(0.0):  # read by a condition, say
                continue
            name = f"{source} {number}"
            places[name] = place
            roots[name] = slope
            roots |= {f"{name} index {i}": index for i, index in enumerate(place.indices)}
    stages, results = _lowered(program, roots)
    scatters = {source: _scatters(program, stages, results, places, source) for source in ("score", "sink")}
    texts = [text for name, text in results.items() if name.startswith(("score", "slope"))]
    return _stage_holes(stages, results) | {
        "pair": stages.pair(*texts),
        "slope": stages.spelled(results["slope"]),
        "sloped": roots["slope"] != Const(1.0),
        "score_scatters": scatters["score"],
        "sink_scatters": scatters["sink"],
        "learned": tuple(
            (number, Code("true" if sliced_by_head(program, number) else "false")) for number in learned(program)
        ),
    }


def _scatters(
    program: Program, stages: _Stages, results: Mapping[str, str], places: Mapping[str, Entry], source: str
) -> tuple[Scatter, ...]:
    dialect, found = CppDialect(program.tables), []
    for name, place in places.items():
        if name.startswith(source):
            texts = tuple(results[f"{name} index {i}"] for i in range(len(place.indices)))
            indices = dialect.indices(int(place.table), tuple(stages.spelled(text) for text in texts))
            single = not any(_varies(index) for index in place.indices)
            found.append(
                Scatter(int(place.table), tuple(Code(x) for x in indices), stages.spelled(results[name]), single)
            )
    return tuple(found)


def _varies(expr: Expr) -> bool:
    """Whether an index differs between the pairs of one head."""
    return depends_on(expr, "q") or depends_on(expr, "k")


def learned(program: Program) -> tuple[int, ...]:
    """The numbers of the tables that get gradients: float tables that the score or the sink reads."""
    entries = (*reads(program.score), *(reads(program.sink) if program.sink is not None else ()))
    return tuple(sorted({int(entry.table) for entry in entries}))


def sliced_by_head(program: Program, number: int) -> bool:
    """Whether a head reads only its own slice of a float table whose first dimension is the head."""
    dimensions = program.tables[number].dimensions
    if not dimensions or dimensions[0].kind != "head":
        return False
    exprs = (program.score,) if program.sink is None else (program.score, program.sink)
    return all(entry.indices[0] == HEAD for expr in exprs for entry in reads(expr, str(number)))


def _tables_read(program: Program) -> tuple[int, ...]:
    """The numbers of the tables that anything reads."""
    exprs = (program.mask, program.score) if program.sink is None else (program.mask, program.score, program.sink)
    return tuple(sorted({int(node.table) for expr in exprs for node in walk(expr) if hasattr(node, "table")}))


def _stage(depends: frozenset[str]) -> Stage:
    if not depends:
        return "head"
    if depends == {"q"}:
        return "row"
    return "key" if depends == {"k"} else "pair"


def _declared(statement: Statement) -> str:
    return (_VECTOR if statement.depends & {"q", "s"} else _SINGLE)[statement.type]


def _note(program: Program, variant: CppVariant) -> tuple[Code, ...]:
    """The header comment. Tables go by their numbers, so that nothing of the text's words is in it."""
    kernel = program.kernels[0]
    names = {str(number): f"table{number}" for number in range(len(program.tables))}
    lines = [
        f"Attention, {variant.direction}: tiles of {kernel.rows.tile} queries by {kernel.segments[0].keys.tile} keys, "
        f"head dims {variant.head_dim} and {variant.value_dim}, {variant.storage} in {variant.compute}"
        f"{', dropout' if variant.dropout else ''}",
        f"  mask:  {_readable(program.mask, names)}",
        f"  score: {_readable(program.score, names)}",
    ]
    if program.sink is not None:
        lines.append(f"  sink:  {_readable(program.sink, names)}")
    for number in _tables_read(program):
        kinds = [dimension.kind for dimension in program.tables[number].dimensions]
        lines.append(f"  table{number}: {program.tables[number].element}[{', '.join(kinds)}]")
    return tuple(Code(line) for line in lines)


def _readable(expr: Expr, names: Mapping[str, str]) -> str:
    sizes: dict[Expr, int] = {}
    for node in walk(expr):
        sizes[node] = 1 + sum(sizes[part] for part in children(node))
    return expression(expr, names) if sizes[expr] <= _READABLE else f"{len(sizes)} distinct parts, below"
