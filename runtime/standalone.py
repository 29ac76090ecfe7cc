"""Writes an attention as one file that needs only torch and triton, for `attnc compile --standalone`.

The file serves every length: its kernels are those of a call, its schedules are closed forms, and where a call would
read a table or list its runs anew, it visits every tile that might keep a pair.
"""

from __future__ import annotations

import builtins
import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from textwrap import wrap

import torch

from ..compiler import pipeline
from ..compiler.codegen.triton import NotStandaloneError, PassPlan, StandaloneTable, StandaloneText, render_standalone
from ..compiler.diagnostics import visible_line
from ..compiler.ir import (
    HEAD,
    HEADS,
    Attention,
    CallShape,
    Dimension,
    Entry,
    Expr,
    HostTable,
    Literal_,
    Member,
    Table,
    children,
    expression,
    table_type,
    walk,
)
from ..compiler.oracle import ContentsError, from_literal
from ..compiler.plan import I64, PASSES, DType, Pass, Program, Specialisation, row_alignment, usual
from ..compiler.verify import index_width
from .call import Call, scale_of
from .every_length import EveryLength, every_length, with_few_keys_gathered
from .triton import TRITON

_Contents = tuple[HostTable, ...]
_NARROWEST, _WIDEST = 20, 30  # powers of two: positions that 32-bit integers should bear, else they have 64
_USUAL_HEADS = 1024  # that they bear where the number of heads is not known
_PADDED = -1  # in a list of members
_LINE = 112  # columns of a docstring's paragraph
_LONGEST = 60  # columns of a constant in it
# Names of the file that a function or a table of the same name would hide, and how those of kernels begin.
_OWN = {"q", "k", "v", "scale", "q_start", "dropout", "seed", "return_lse", "attend", "tables", "torch", "triton", "tl"}
_OWN |= {"Tensor", "Any", "dataclass", "lru_cache", "nullcontext", "once_differentiable", "annotations"}
_KERNELS = ("_", "forward", "merge", "delta", "backward", "collect")


__all__ = ["NotStandaloneError", "Origin", "specialisation", "standalone"]


@dataclass(frozen=True)
class Origin:
    """Where an attention comes from: its module's name and text, the constants and the contents of tables that were
    given, the layers that it is of, and attnc's version.
    """

    name: str
    text: str
    constants: Mapping[str, Literal_]
    layers: tuple[int, ...]
    version: str


def standalone(attention: Attention, kind: Specialisation, target: str, heads: int | None, origin: Origin) -> str:
    """The file. ``kind``: dtype and sizes, and whether it has dropout; ``heads``: query heads, None for any number.

    Raises NotStandaloneError, whose message says why an attention cannot be had so and what to do.
    """
    heads = attention.heads if heads is None else heads
    _require_possible(attention, kind, heads)
    contents = tuple(_contents(table, heads or 1) for table in attention.tables)
    plan = _programs(attention, kind, target, heads, natural_rows=False)
    alignment = lcm(*map(row_alignment, plan.values()))
    natural = _programs(attention, kind, target, heads, natural_rows=True) if alignment > 1 else {}
    most = _most_positions([*plan.values(), *natural.values()], heads or _USUAL_HEADS, contents)
    if most is None:
        kind = replace(kind, wide=True, tables=_wide(attention, kind).tables)
    passes = _passes(plan, kind, target, heads, contents)
    anywhere = _passes(natural, kind, target, heads, contents) if natural else None
    served = [served for each in (passes, anywhere or {}) for _, served in each.values()]
    scale = _scale(attention, kind, heads)
    name = _name(attention.name, "_attention")
    return render_standalone(
        StandaloneText(
            name=name,
            plan={direction: made for direction, (made, _) in passes.items()},
            anywhere=None if anywhere is None else {direction: made for direction, (made, _) in anywhere.items()},
            alignment=alignment,
            kind=kind,
            target=target,
            heads=heads,
            scale=scale,
            scale_by_head=len(scale) > 1,
            most=most,
            tables=tuple(map(_table, attention.tables)),
            module=_module(attention, kind, target, origin, served),
            documentation=_documentation(attention, kind, heads),
            origin=_text(origin),
        )
    )


def _require_possible(attention: Attention, kind: Specialisation, heads: int | None) -> None:
    if kind.dtype.name == "fp64":
        raise NotStandaloneError("the kernels of a GPU take no fp64, expected fp32, bf16 or fp16")
    if heads is None and (_differs(attention) or not {HEAD, HEADS}.isdisjoint(walk(attention.scale))):
        raise NotStandaloneError(
            f"{attention.name} differs from head to head: give the number of query heads, as --heads 12"
        )
    floats = [node for node in walk(attention.mask) if isinstance(node, Entry) and node.type == "float"]
    if floats:
        raise NotStandaloneError(
            f"the mask compares the floats of {floats[0].table}, which a call prepares by their dtype; "
            "a file of its own has masks of integers, bools and sets alone"
        )


def _differs(attention: Attention) -> bool:
    """Whether heads may be walked in different orders: the mask reads the head, and not only to choose an entry that no
    file knows.
    """
    known = {table.name for table in attention.tables if table.value is not None}

    def reads(node: Expr) -> bool:
        if isinstance(node, (Entry, Member)) and node.table not in known:
            return isinstance(node, Member) and reads(node.element)
        return node in (HEAD, HEADS) or any(map(reads, children(node)))

    return reads(attention.mask)


def _contents(table: Table, heads: int) -> HostTable:
    """What is known of a table in every call: the contents that the text gives it."""
    if table.value is None:
        return HostTable(None)
    sized = [dimension for dimension in table.dimensions if dimension.kind in ("token", "query")]
    if sized:
        raise NotStandaloneError(f"the text gives {table.name} one entry for each {sized[0].kind}, so only one length")
    try:
        return from_literal(table, table.value, CallShape(1, 1, heads), {})
    except ContentsError as error:
        raise NotStandaloneError(error.message) from None


def _programs(
    attention: Attention, kind: Specialisation, target: str, heads: int | None, natural_rows: bool
) -> dict[Pass, Program]:
    """The program of each pass. Of tables, only what the text gives is known; and that only where orders that it
    decides can be listed by a condition that a file holds.
    """
    tiles = TRITON.tiles(kind.dtype, max(kind.head_dim, kind.value_dim), target)
    known = frozenset(place for place, table in enumerate(attention.tables) if isinstance(table.value, frozenset))
    given = heads if _differs(attention) else None
    return {
        direction: with_few_keys_gathered(
            pipeline.program(attention, tiles.of(direction), given, known, natural_rows),
            tiles.of(direction)[0].tiles.gathered,
        )
        for direction in PASSES
    }


def _passes(
    programs: Mapping[Pass, Program], kind: Specialisation, target: str, heads: int | None, contents: _Contents
) -> dict[Pass, tuple[PassPlan, EveryLength]]:
    """Each pass with its schedule for every length, and what is to be said of that."""
    found = {}
    for direction, variant in TRITON.variants(kind, target):
        served = every_length(programs[direction], heads or 1, contents)
        by_pointers = replace(variant, described=None)
        found[direction] = PassPlan(programs[direction], by_pointers, served.schedule), served
    return found


def _most_positions(programs: Sequence[Program], heads: int, contents: _Contents) -> int | None:
    """The largest power of two up to which 32-bit integers bear all positions; None where that is too small."""
    for bits in range(_WIDEST, _NARROWEST - 1, -1):
        shape = CallShape(1 << bits, 1 << bits, heads)
        if all(index_width(program, shape, contents) == 32 for program in programs):
            return 1 << bits
    return None


def _wide(attention: Attention, kind: Specialisation) -> Specialisation:
    """The specialisation with integer tables of 64 bits."""
    integers = [table.element in ("int", "order") for table in attention.tables]
    return replace(kind, tables=tuple(I64 if wide else held for wide, held in zip(integers, kind.tables, strict=True)))


def _scale(attention: Attention, kind: Specialisation, heads: int | None) -> tuple[float, ...]:
    """The factor of q·k: one for all heads, or one for each."""
    q = torch.empty(1, heads or 1, 0, kind.head_dim)
    found: list[float] = scale_of(attention, Call(q, q, q, {}, None, 0, None, 0.0, 0)).tolist()
    return tuple(found[:1] if len(set(found)) == 1 else found)


def _table(table: Table) -> StandaloneTable:
    elements = "int" if table.element == "order" else table.element
    return StandaloneTable(
        table.name,
        _name(table.name, "_"),
        elements,
        tuple(map(_size, table.dimensions)),
        None if table.default is None else _literal(table.default, elements, len(table.dimensions)),
        None if table.value is None else _literal(table.value, elements, len(table.dimensions)),
        table.divides,
    )


def _size(dimension: Dimension) -> str | int:
    if dimension.kind == "fixed":
        assert dimension.size is not None
        return dimension.size
    if dimension.kind == "free":
        return f"{dimension.name}_" if dimension.name in ("n", "m", "heads") else dimension.name
    return {"token": "n", "query": "m", "head": "heads"}[dimension.kind]


def _literal(value: Literal_, elements: str, depth: int) -> str:
    """Contents of a table as Python text; the sets of a table become lists of members of one length."""
    longest = max((len(leaf) for leaf in _leaves(value, depth) if isinstance(leaf, frozenset)), default=0)

    def written(part: Literal_, left: int) -> object:
        if left:
            assert isinstance(part, tuple)
            return [written(each, left - 1) for each in part]
        if isinstance(part, frozenset):
            return sorted(part) + [_PADDED] * (max(longest, 1) - len(part))
        assert not isinstance(part, tuple)
        return float(part) if elements == "float" else part

    return repr(written(value, depth))


def _leaves(value: Literal_, depth: int) -> list[Literal_]:
    if not depth:
        return [value]
    assert isinstance(value, tuple)
    return [leaf for part in value for leaf in _leaves(part, depth - 1)]


def _name(name: str, ending: str) -> str:
    """A name of the text as a Python name that hides no other one of the file."""
    taken = keyword.iskeyword(name) or hasattr(builtins, name) or name in _OWN or name.startswith(_KERNELS)
    return f"{name.lstrip('_')}{ending}" if taken else name


def _shown(value: Literal_) -> str:
    """A constant as the language writes it, shortened."""
    match value:
        case frozenset():
            text = f"{{{', '.join(map(str, sorted(value)))}}}"
        case tuple():
            text = f"[{', '.join(map(_shown, value))}]"
        case _:
            text = str(value).lower()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _paragraph(text: str) -> list[str]:
    return wrap(text, _LINE, break_long_words=False, break_on_hyphens=False)


def _module(
    attention: Attention,
    kind: Specialisation,
    target: str,
    origin: Origin,
    served: list[EveryLength],
) -> tuple[str, ...]:
    """The lines of the module's docstring: what it is, what it needs, what it costs."""
    constants = ", ".join(f"{name} = {_shown(value)}" for name, value in origin.constants.items())
    dims = f"{kind.head_dim} features" + (f", {kind.value_dim} of values" if kind.value_dim != kind.head_dim else "")
    lines = [f"Attention `{attention.name}` for {target}, in {kind.dtype.name}, with heads of {dims}."]
    named = visible_line(origin.name).replace("\\", "/").replace('"', "'")  # it stands in a docstring
    made_from = named + (f" with {constants}" if constants else "")
    made_from += f", for layers {', '.join(map(str, origin.layers))}" if origin.layers else ""
    about = (
        f"Written by attnc {origin.version} from {made_from}; its text is at the end. It needs only torch and triton. "
        "Forward and backward serve every number of queries and keys, and every first position. Tile shapes and warps "
        f"were chosen for {target}; on another GPU the kernels are right as well. Under `torch.compile` a call breaks "
        "the graph."
    )
    lines += ["", *_paragraph(about)]
    undecided = dict.fromkeys(each for one in served for each in one.undecided)
    if undecided or any(one.whole for one in served):
        lines += ["", *_cost(attention, tuple(undecided), any(one.whole for one in served))]
    if not kind.dropout:
        lines += ["", "It has no dropout: `attnc compile --standalone --dropout` writes a file that has."]
    return tuple(lines)


def _cost(attention: Attention, undecided: tuple[Expr, ...], whole: bool) -> list[str]:
    """What the file does not know before its kernels run, and what that costs."""
    names = {str(number): table.name for number, table in enumerate(attention.tables)}
    if whole or not undecided:
        return _paragraph("Which tiles keep pairs has no closed form here, so every tile is visited: n² work.")
    shown = [visible_line(expression(each, names)) for each in undecided[:3]]
    more = "; …" if len(undecided) > 3 else ""
    return _paragraph(
        f"What is not known before the kernels run rules no tile out ({'; '.join(shown)}{more}): every tile that may "
        "keep a pair is visited, whatever tables hold, which may be n² work. attnc itself reads tables that are on the "
        "host and skips tiles; so does a file whose tables are given by --set."
    )


def _documentation(attention: Attention, kind: Specialisation, heads: int | None) -> tuple[str, ...]:
    """The lines of the function's docstring."""
    shown = "heads" if heads is None else str(heads)
    lines = [
        f"Return the output [batch, {shown}, m, {kind.value_dim}], with ``return_lse`` also its log-sum-exp "
        f"[batch, {shown}, m].",
        "",
        f"q: [batch, {shown}, m, {kind.head_dim}]; k: [batch, kv_heads, n, {kind.head_dim}]; v: [batch, kv_heads, n, "
        f"{kind.value_dim}]; {kind.dtype.torch}, any strides.",
        f"{'heads' if heads is None else heads} is a multiple of kv_heads. Differentiable in q, k, v"
        + (" and float tables, once." if any(t.element == "float" for t in attention.tables) else ", once."),
        "",
    ]
    for table in attention.parameters:
        default = " (has a default)" if table.default is not None else ""
        lines.append(
            f"{_name(table.name, '_')}: {table_type(table)}, perhaps with a batch before its dimensions{default}."
        )
    lines += [
        "scale: the factor of q·k, one number or one for each head; that of the text unless given.",
        "q_start: the position of the first query row, or one for each entry; a tensor is read on the host.",
    ]
    if kind.dropout:
        lines.append("dropout, seed: which probabilities are dropped is a hash of the seed and of their place.")
    return tuple(lines)


def _text(origin: Origin) -> tuple[str, ...]:
    """The text as lines of comment."""
    lines = [visible_line(line.rstrip()) for line in origin.text.splitlines()]
    head = f"# The text of {visible_line(origin.name)}, from which this file was made:"
    return (head, "#", *(f"# {line}".rstrip() for line in lines))


def specialisation(
    attention: Attention, dtype: DType, head_dim: int, value_dim: int | None, dropout: bool
) -> Specialisation:
    """What the kernels of a file are compiled for."""
    return replace(usual(attention.tables, dtype, head_dim, value_dim), dropout=dropout)
