"""Templates to text. The one importer of jinja2, and the gate that every hole passes.

Holes hold integers, booleans, text that an emitter made (:class:`Code`), and tuples, mappings or frozen dataclasses
of these. Anything else, a plain string above all, is refused: no word of a user's reaches a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import jinja2

from ... import templates


class Code(str):
    """Text made by an emitter, never by a user."""

    __slots__ = ()


def _finalize(value: Any) -> Any:
    if isinstance(value, (bool, int, Code, jinja2.Undefined)):
        return value
    raise TypeError(f"a template's hole got {type(value).__name__}: emitters give Code, bool or int")


class _Templates(jinja2.BaseLoader):
    def get_source(
        self,
        environment: jinja2.Environment,  # noqa: ARG002 - the base class names it
        template: str,
    ) -> tuple[str, str, None]:
        return read_template(template), template, None


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=_Templates(),
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


@lru_cache(maxsize=64)
def read_template(name: str) -> str:
    """The text of one file below ``templates/``, ``cpp/attnc.h`` say."""
    return files(templates).joinpath(*name.split("/")).read_text(encoding="utf-8")


def render(name: str, **holes: Any) -> str:
    """One template with its holes filled. A hole that the template wants and nobody fills is an error."""
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
