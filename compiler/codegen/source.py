"""Templates to text. The one importer of jinja2, and the gate that every hole passes.

Holes hold integers, booleans, text that an emitter made (:class:`Code`), None, and tuples, mappings or dataclasses of
these. Anything else, a plain string above all, is refused: no word of a user's reaches a kernel.

Beside Jinja's own tags there is ``{% insert LINES at COLUMNS %}``. It writes statements (a tuple of Code), or the text
of a macro, as whole lines, each indented by ``COLUMNS`` more (0 unless given), and nothing at all where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from types import NoneType
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from ... import templates


class Code(str):
    """Text made by an emitter, never by a user."""

    __slots__ = ()


def _check(value: object, place: str) -> None:
    """Refuse a hole that holds anything else than the module's docstring says. TypeError names the place."""
    kind = type(value)
    if kind in (Code, int, bool, NoneType):
        return
    if kind is tuple:
        for part in cast("tuple[object, ...]", value):
            _check(part, place)
    elif is_dataclass(value):
        for field in fields(value):
            _check(getattr(value, field.name), field.name)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            _check(part, name)
    else:
        raise TypeError(f"a template's hole, {place}, is {kind.__name__}: emitters give Code, bool or int")


def _finalize(value: Any) -> Any:
    """What is written out. A string that no hole holds is the template's own: a literal, or what a macro made."""
    if isinstance(value, (bool, int, str, jinja2.Undefined)):
        return value
    raise TypeError(f"a template writes {type(value).__name__}, expected Code, bool or int")


def indented(lines: str | tuple[str, ...], columns: int) -> str:
    """Return lines of a text, or statements, each moved to the right and ended by a newline; empty lines stay empty."""
    pieces = lines.splitlines() if isinstance(lines, str) else lines
    space = " " * columns
    return "".join([f"{space}{line}\n" if line else "\n" for line in pieces])


class _Insert(Extension):
    """The tag ``{% insert LINES at COLUMNS %}``."""

    tags = {"insert"}  # noqa: RUF012 - the base class has it as an attribute of each

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        lines = parser.parse_expression()
        columns = parser.parse_expression() if parser.stream.skip_if("name:at") else nodes.Const(0)
        return nodes.Output([nodes.Filter(lines, "indented", [columns], [], None, None)]).set_lineno(line)


class _Templates(jinja2.BaseLoader):
    def get_source(
        self,
        environment: jinja2.Environment,  # noqa: ARG002 - the base class names it
        template: str,
    ) -> tuple[str, str, None]:
        return read_template(template), template, None


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=_Templates(),
        extensions=[_Insert],
        optimized=False,  # templates are compiled once in each process, which folding constants only makes longer
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["indented"] = indented
    return environment


@lru_cache(maxsize=64)
def read_template(name: str) -> str:
    """The text of one file below ``templates/``, ``cpp/attnc.h`` say."""
    return files(templates).joinpath(*name.split("/")).read_text(encoding="utf-8")


def render(name: str, **holes: Any) -> str:
    """Return one template with its holes filled. A hole that the template wants and nobody fills is an error."""
    for hole, value in holes.items():
        _check(value, hole)
    return _environment().get_template(name).render(**holes)


@dataclass(frozen=True)
class KernelSource:
    """``target`` is ``"cpp"`` or ``"triton"``; ``text`` is all that a compiler needs beside the shared headers.

    Same program and variant, same text: its digest may stand for both.
    """

    target: str
    text: str

    @property
    def digest(self) -> str:
        return sha256(f"{self.target}\n{self.text}".encode()).hexdigest()
