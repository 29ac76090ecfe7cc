"""Parses the values of ``--set`` as the language parses the value of a ``const``."""

from __future__ import annotations

import re

from ..compiler.checker import ConstantSet, ListValue, Value
from ..compiler.diagnostics import AttnError, Diagnostic, shortened, visible_line, words
from ..compiler.ir import Literal_
from ..compiler.modules import literal, load_text

MOST_MEMBERS = 2**20  # of all sets in one value together
_SHOWN = 80  # characters of a value that a message quotes
_NAME = "_"
_BEFORE = f"const {_NAME} = "
_WANTED = "a number, a set or a list was expected, but there is"
_NAMES = ("unknown-name", "misplaced-position", "not-a-pattern")  # faults of names, which only a text may use


def read_literal(text: str) -> Literal_:
    """Parses one value of the language: ``512``, ``2 ** 9``, ``-0.5``, ``true``, ``{0, 3..7}``, ``[[1, 2], [3]]``.

    Raises ValueError that says what is wrong with it.
    """
    shown = f"`{shortened(visible_line(text), _SHOWN)}`"
    try:
        module = load_text(_BEFORE + text, "--set")
    except AttnError as error:
        raise ValueError(f"{shown}: {_told(error.diagnostics[0])}") from None
    definition = module.definitions[_NAME]
    rest = re.sub("#.*", "", module.source.text[definition.node.span.end :]).split()
    if rest:
        raise ValueError(f"{shown}: nothing was expected after the value, but there is `{rest[0]}`")
    value = definition.value
    assert value is not None, "a const without faults has a value"
    if _members(value) > MOST_MEMBERS:
        raise ValueError(f"{shown}: a set may list at most {MOST_MEMBERS:,} members")
    return literal(value)


def _told(fault: Diagnostic) -> str:
    """The message of a fault, worded for the value alone instead of the text around it."""
    label = fault.primary
    if label is None:  # of the text as a whole
        return fault.message
    if label.span.start < len(_BEFORE):  # at the words that are not the user's: the value is missing
        return f"{_WANTED} nothing"
    if fault.slug in _NAMES:
        return f"{_WANTED} {words(label.span)}"
    return f"{fault.message}: {label.text}" if label.text else fault.message


def _members(value: Value) -> int:
    match value:
        case ConstantSet():
            return value.size
        case ListValue(items=items):
            return sum(map(_members, items))
    return 0
