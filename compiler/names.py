"""What a name means at one place, and which name was likely meant."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from . import tree as t
from .context import Environment
from .diagnostics import Edit, Span
from .reports import Advice, at
from .scope import Definition
from .shipped import shipped_declarations

_ENDLESS = frozenset({"inf", "infinity", "nan"})


def definition_of(name: t.Identifier, env: Environment, wanted: str) -> Definition | None:
    """The declaration that a name means; None after reporting, unless its fault was reported where it stands."""
    definition = env.scope.find(name.name)
    if definition is None and not env.scope.excused(name.name):
        later = env.account.later.get(name.name)
        if later is not None:
            notes = ("names of a `where`, and defaults, see only what stands before them",)
            message = f"`{name.name}` is not known yet"
            env.fault("unknown-name", message, name.span, related=(at(later, "given here"),), notes=notes)
            return None
        helps, edits = _elsewhere(name, env) or env.account.reports.meant(name.name, known_names(env), name.span)
        message = f"`{name.name}` is not {wanted}"
        env.fault("unknown-name", message, name.span, "not defined here or in the prelude", helps=helps, edits=edits)
    return definition


def _elsewhere(name: t.Identifier, env: Environment) -> Advice | None:
    """What to do about a name that means something in Python, or among the shipped patterns."""
    if name.name.lower() in _ENDLESS:
        if env.place.floats:
            return Advice(("a pair that is to be left out is left out by the mask: `mask = causal and …`",))
        return Advice(("integers have no infinity: leave the bound out",))
    module = None if env.account.reports.full else shipped_declarations().get(name.name)
    if module is None:
        return None
    text = f"from {module} import {name.name}"
    return Advice((f"import it: `{text}`",), (Edit(_top(name.span), f"{text}\n"),))


def _top(span: Span) -> Span:
    return Span(span.source, 0, 0)


def known_names(env: Environment) -> Iterator[str]:
    """Every name that means something here."""
    return chain(env.local, env.scope.names(), sorted(env.place.positions))
