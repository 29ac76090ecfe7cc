"""Renders templates. The only module that imports jinja2, and the check of everything that is put into a hole.

Holes hold integers, booleans, text that an emitter made (:class:`Code`), None, and tuples, mappings or dataclasses of
these. Anything else is refused, above all a plain string: so a user's words cannot reach a kernel.

Besides Jinja's own tags there is ``{% insert LINES at COLUMNS %}``. It writes statements (a tuple of Code), or the text
of a macro, as whole lines, each indented by ``COLUMNS`` more (0 unless given); without lines, it writes nothing.
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
    """Raise TypeError, which names the place, if a hole holds a value that the module's docstring does not allow."""
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
    """The value that a template writes. A plain string here is the template's own: a literal or a macro's text."""
    if isinstance(value, (bool, int, str, jinja2.Undefined)):
        return value
    raise TypeError(f"a template writes {type(value).__name__}, expected Code, bool or int")


def indented(lines: str | tuple[str, ...], columns: int) -> str:
    """Return a text's lines, or statements, each indented and ended by a newline; empty lines stay empty."""
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
        optimized=False,  # each process compiles a template once: folding its constants would only take time
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
    """The text of one file below ``templates/``, such as ``cpp/attnc.h``."""
    return files(templates).joinpath(*name.split("/")).read_text(encoding="utf-8")


def render(name: str, **holes: Any) -> str:
    """Return a template with its holes filled. It is an error to leave a hole of the template empty."""
    for hole, value in holes.items():
        _check(value, hole)
    return _environment().get_template(name).render(**holes)


@dataclass(frozen=True)
class KernelSource:
    """The source of kernels for a ``target``, ``"cpp"`` or ``"triton"``: all of it, except for the shared headers.

    The same program and variant have the same text, so its digest identifies both.
    """

    target: str
    text: str

    @property
    def digest(self) -> str:
        return sha256(f"{self.target}\n{self.text}".encode()).hexdigest()
