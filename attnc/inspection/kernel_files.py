"""Writes the compiled kernels of a declaration into files, for `attnc compile`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..compiler.ir import Attention, Literal_
from ..compiler.plan import Specialisation, float_named, usual
from ..runtime.backends import backend_of_target
from ..runtime.base import Backend, CompiledFunction, Unavailable, identity
from ..runtime.cpp import BuildError
from ..source import settled
from .errors import InputError, WrongUseError
from .launch_view import LaunchSizes, heads_of
from .stage_at_work import stage
from .subject import Applied, Target, apply, apply_all

_COLUMNS = ("function", "registers", "spills", "shared", "binary")


@dataclass(frozen=True)
class KernelWish:
    """What to compile for: a target such as ``sm_90`` or ``cpu``, and the dtype and the sizes of q, k and v.

    ``value_dim``: as ``head_dim`` where None; ``heads``: the number of query heads where it is known; ``layer``: of a
    model, the one layer that is wanted; ``dropout``: whether a file that stands alone takes a dropout.
    """

    target: str
    dtype: str
    head_dim: int
    value_dim: int | None = None
    heads: int | None = None
    layer: int | None = None
    dropout: bool = False


def write_kernels(
    subject: Target, values: Mapping[str, Literal_], wish: KernelWish, folder: Path, at: Callable[[str], object]
) -> list[tuple[str, CompiledFunction]]:
    """Compiles a declaration and writes into ``folder`` the files of each function, its JSON last; returns the
    functions, each with the folder below ``folder`` that it is in.

    A model has a folder for each of its attentions, ``layer_0`` for that of layer 0 and of all layers that equal it.
    ``at`` is told what is being done. AttnError, InputError and WrongUseError for what cannot be compiled here; OSError
    where files cannot be written. What was written before stays.
    """
    backend = _backend(wish)
    written = []
    for layers in _asked(subject, values, wish):
        first = layers[0]
        name = "" if first.layer is None else f"layer_{first.layer}"
        at(f"compiling {name or subject.name} for {wish.target}")
        heads = _heads(first, wish)
        dtype = float_named(wish.dtype)
        attention = settled(first.attention, dtype)
        kind = usual(attention.tables, dtype, wish.head_dim, wish.value_dim)
        numbers = None if first.layer is None else [layer.layer for layer in layers]
        for function in _compiled(backend, attention, heads, kind, wish.target):
            _write(folder / name, function, kind, wish.target, numbers)
            at(f"{name}/{function.name}".lstrip("/"))
            written.append((name, function))
    return written


def write_standalone(
    subject: Target, values: Mapping[str, Literal_], wish: KernelWish, folder: Path, at: Callable[[str], object]
) -> list[Path]:
    """Writes a declaration into ``folder`` as one file that needs only torch and triton, ``NAME.py``; returns its path.

    A model has a file for each of its attentions, ``NAME_layer_0.py``. Nothing is compiled. Errors as of
    :func:`write_kernels`; InputError for an attention that one file cannot hold, too.
    """
    if _backend(wish).name != "triton":
        raise WrongUseError(f"--standalone writes kernels for a GPU, and --target is {wish.target}")
    written = []
    for layers in _asked(subject, values, wish):
        first = layers[0]
        name = subject.name if first.layer is None else f"{subject.name}_layer_{first.layer}"
        at(f"writing {name} for {wish.target}")
        text = _standalone(subject, layers, wish)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _standalone(subject: Target, layers: Sequence[Applied], wish: KernelWish) -> str:
    from .. import __version__
    from ..runtime.standalone import NotStandaloneError, Origin, specialisation, standalone

    attention = _with_contents(layers[0])
    numbers = tuple(layer.layer for layer in layers if layer.layer is not None)
    given = {**layers[0].constants, **layers[0].tables}
    origin = Origin(Path(subject.origin).name, subject.module.source.text, given, numbers, __version__)
    with stage("source"):
        kind = specialisation(attention, float_named(wish.dtype), wish.head_dim, wish.value_dim, wish.dropout)
        try:
            return standalone(attention, kind, wish.target, _heads(layers[0], wish), origin)
        except NotStandaloneError as error:
            raise InputError(f"--standalone: {error}") from None


def _with_contents(applied: Applied) -> Attention:
    """The attention, with the contents of tables that were given as if its text gave them."""
    given = applied.tables
    tables = (replace(table, value=given.get(table.name, table.value)) for table in applied.attention.tables)
    return replace(applied.attention, tables=tuple(tables))


def _backend(wish: KernelWish) -> Backend:
    try:
        return backend_of_target(wish.target)
    except ValueError as error:
        raise WrongUseError(f"--{error}") from None


def _asked(subject: Target, values: Mapping[str, Literal_], wish: KernelWish) -> list[list[Applied]]:
    """The attentions that are wanted, each with all layers that it is of."""
    with stage("check"):
        return _alike([apply(subject, values, wish.layer)] if wish.layer is not None else apply_all(subject, values))


def kernel_list(written: Sequence[tuple[str, CompiledFunction]]) -> str:
    """A table of functions: registers, bytes of spilled registers and of shared memory, where known; bytes of the
    binary.
    """
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for folder, function in written:
        known = [function.facts.get(column) for column in _COLUMNS[1:-1]]
        sizes = [*known, len(function.files[function.binary])]
        words = ("-" if size is None else f"{size:,}" for size in sizes)
        rows.append((f"{folder}/{function.name}".lstrip("/"), *words))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(word.rjust(width) for word, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def _alike(layers: Sequence[Applied]) -> list[list[Applied]]:
    """Layers grouped by attention, in the order in which attentions first occur."""
    found: dict[str, list[Applied]] = {}
    for layer in layers:
        found.setdefault(identity(layer.attention), []).append(layer)
    return list(found.values())


def _heads(applied: Applied, wish: KernelWish) -> int | None:
    """The number of query heads, the model's or the option's; None where kernels are to serve any number."""
    if applied.heads is None and wish.heads is None:
        return None
    return heads_of(applied, LaunchSizes(1, heads=wish.heads))


def _compiled(
    backend: Backend, attention: Attention, heads: int | None, kind: Specialisation, target: str
) -> Iterator[CompiledFunction]:
    """The functions as they are compiled. InputError where this machine cannot."""
    with stage("source"):
        try:
            yield from backend.compile_ahead(attention, heads, kind, target)
        except (Unavailable, BuildError) as error:
            raise InputError(f"--target {target}: {error}") from None


def _write(
    folder: Path, function: CompiledFunction, kind: Specialisation, target: str, layers: list[int | None] | None
) -> None:
    """Writes the files of one function, and last its JSON, which shows that the others are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = dict(function.facts)
    known = {
        "function": function.name,
        "pass": facts.pop("pass"),
        "target": target,
        "dtype": kind.dtype.name,
        "head_dim": kind.head_dim,
        "value_dim": kind.value_dim,
        **facts,
        **({} if layers is None else {"layers": layers}),
    }
    report = folder / f"{function.name}.json"
    report.unlink(missing_ok=True)
    for name, content in function.files.items():
        (folder / name).write_bytes(content)
    report.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
