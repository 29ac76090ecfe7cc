"""What a name means at one place, and which name was likely meant."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from . import tree as t
from .context import Environment
from .reports import at
from .scope import Definition


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
        helps, edits = env.account.reports.meant(name.name, known_names(env), name.span)
        message = f"`{name.name}` is not {wanted}"
        env.fault("unknown-name", message, name.span, "not defined here or in the prelude", helps=helps, edits=edits)
    return definition


def known_names(env: Environment) -> Iterator[str]:
    """Every name that means something here."""
    return chain(env.local, env.scope.names(), sorted(env.place.positions))
