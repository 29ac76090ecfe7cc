"""Finds the declaration that NAME on the command line means: of a shipped module, of a file, or of the prelude."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..compiler.checker import shipped_file, shipped_names
from ..compiler.diagnostics import nearest, visible_line
from ..compiler.ir import Attention, Literal_, Model
from ..compiler.modules import Declaration, Module, bind, load_file, load_shipped
from .attn_files import STDIN
from .errors import InputError, WrongUseError
from .stdin import INPUT_NAME, load

APPLICABLE = ("pattern", "attention", "model")


@dataclass(frozen=True)
class Target:
    """One declaration and its module; ``origin`` is the module's name in messages."""

    origin: str
    module: Module
    name: str

    @property
    def declaration(self) -> Declaration:
        return self.module.declarations[self.name]


def find(name: str) -> Target:
    """The declaration that NAME means. AttnError for a faulty text, :class:`InputError` where there is none."""
    origin, declaration = split(name)
    if origin == str(STDIN):
        module, origin = load(STDIN), INPUT_NAME
    elif origin.endswith(".attn"):
        if not Path(origin).is_file():
            raise InputError(f"there is no file {visible_line(origin)}")
        module = load_file(Path(origin))
    elif shipped_file(origin) is not None:
        module = load_shipped(origin)
    elif not declaration and origin in load_shipped("std").declarations:
        return Target("std", load_shipped("std"), origin)
    else:
        file = Path(f"{origin}.attn")
        meant = f": did you mean {visible_line(str(file))}?" if file.is_file() else _meant(origin, shipped_names())
        raise InputError(f"{visible_line(origin)} is no shipped pattern{meant}; a file's name ends in .attn")
    return Target(origin, module, _chosen(module, origin, declaration))


def split(name: str) -> tuple[str, str]:
    """Splits ``file.attn:pattern`` or ``shipped:pattern`` in two; the second part is empty where it is not given."""
    head, colon, tail = name.rpartition(":")
    if not colon or tail.endswith(".attn"):
        return name, ""
    return head, tail


def _chosen(module: Module, origin: str, name: str) -> str:
    shown = visible_line(origin)
    candidates = [key for key, found in module.declarations.items() if found.kind in APPLICABLE]
    if name:
        if name not in candidates:
            raise InputError(
                f"{shown} declares no {visible_line(name)}{_meant(name, candidates)}; it has {', '.join(candidates)}"
            )
        return name
    stem = Path(origin).stem if origin.endswith(".attn") else origin.rpartition(".")[2]
    given = STDIN if origin == INPUT_NAME else shown
    if stem in candidates:
        return stem
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise InputError(f"{shown} declares no pattern, attention or model")
    raise InputError(f"{shown} declares {', '.join(candidates)}: say which, as {given}:{candidates[0]}")


def _meant(name: str, known: list[str] | tuple[str, ...]) -> str:
    found = nearest(name, known)
    return f": did you mean {found}?" if found else ""


@dataclass(frozen=True)
class Applied:
    """A declaration with its constants bound and one layer chosen; ``tables`` holds the contents that were given."""

    subject: Target
    attention: Attention
    constants: Mapping[str, Literal_]
    tables: Mapping[str, Literal_]
    layer: int | None
    heads: int | None


def apply(subject: Target, values: Mapping[str, Literal_], layer: int | None) -> Applied:
    """Binds ``values`` as constants, and keeps the rest as contents of tables. InputError for an unknown parameter."""
    bound, constants, tables = _bound(subject, values)
    if isinstance(bound, Attention):
        if layer is not None:
            raise WrongUseError(f"{subject.name} is no model: it has no layers")
        return Applied(subject, bound, constants, tables, None, None)
    return Applied(subject, _layer(bound, layer or 0), constants, tables, layer or 0, bound.heads)


def apply_all(subject: Target, values: Mapping[str, Literal_]) -> tuple[Applied, ...]:
    """Every layer of a model, or the one attention itself. InputError as in :func:`apply`."""
    bound, constants, tables = _bound(subject, values)
    if isinstance(bound, Attention):
        return (Applied(subject, bound, constants, tables, None, None),)
    return tuple(
        Applied(subject, layer, constants, tables, number, bound.heads) for number, layer in enumerate(bound.layers)
    )


def _bound(
    subject: Target, values: Mapping[str, Literal_]
) -> tuple[Attention | Model, dict[str, Literal_], dict[str, Literal_]]:
    """The bound declaration; of ``values``, the constants and the contents of tables."""
    parameters = {parameter.name: parameter for parameter in subject.declaration.parameters}
    unknown = [name for name in values if name not in parameters]
    if unknown:
        raise InputError(f"{subject.name} has no parameter {unknown[0]}{_meant(unknown[0], list(parameters))}")
    constants = {name: value for name, value in values.items() if parameters[name].compile_time}
    tables = {name: value for name, value in values.items() if name not in constants}
    return bind(subject.module, subject.name, constants), constants, tables


def _layer(model: Model, layer: int) -> Attention:
    if not 0 <= layer < len(model.layers):
        raise WrongUseError(f"{model.name} has layers 0 to {len(model.layers) - 1}, and {layer} is none of them")
    return model.layers[layer]
