"""`attnc show`: one attention at one stage of the compiler, as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from ..compiler.dump import schedule as described_schedule
from ..compiler.dump import terms as described_terms
from ..compiler.ir import attention as described
from ..compiler.plan import program as described_program
from ..inspection import HEAD_DIM, LaunchView, stage
from ..pictures import (
    mask,
)


def to_text(name: str, view: LaunchView, columns: int, tinted: bool = False) -> str:
    """One of the compiler's stages as text; a picture is at most ``columns`` wide, and coloured if ``tinted``."""
    with stage(name):
        match name:
            case "tree":
                return "\n".join(outline(view.way.tree))
            case "mask":
                return mask(view, columns, tinted)
            case "terms":
                return f"{view.name}: a pair is kept where a term holds of it\n{described_terms(view.way.terms)}"
            case "program":
                return f"{described(view.way.attention)}\n{described_program(view.way.program)}"
            case "schedule":
                return bounds(view)
            case "source":
                from ..source import source_of  # the one stage that asks an executor, and so imports torch

                return source_of(view.way.attention, view.target, HEAD_DIM, "fp32").rstrip("\n")
    raise ValueError(f"{name} is no stage")


def bounds(view: LaunchView) -> str:
    """The kernels, and which key tiles each of their row tiles visits."""
    way = view.way
    sizes = f"{view.name}: {way.extent.m:,} queries × {way.extent.n:,} keys"
    return f"{sizes}\n{described_schedule(way.program, way.schedule, way.extent)}"


def outline(node: object, name: str = "", depth: int = 0) -> Iterator[str]:
    """A syntax tree, a line for each node: the field that it stands in, its kind, its plain values."""
    lead = "  " * depth + (f"{name}: " if name else "")
    if not is_dataclass(node):
        yield f"{lead}{node!r}"
        return
    parts = [(field.name, getattr(node, field.name)) for field in fields(node) if field.name not in ("span", "source")]
    plain = [f"{key}={value!r}" for key, value in parts if isinstance(value, (bool, int, float, str, type(None)))]
    yield f"{lead}{type(node).__name__}{' ' if plain else ''}{' '.join(plain)}"
    for key, value in parts:
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part):
                yield from outline(part, key, depth + 1)
