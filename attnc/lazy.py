"""Names of a package that are imported when they are first asked for, so that a command loads what it needs alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attributes(package: str, names: Mapping[str, Sequence[str]], modules: Sequence[str] = ()) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package (PEP 562).

    ``names``: for each module of the package, what the package shows of it. ``modules``: those that it shows whole.
    """
    homes = {name: module for module, several in names.items() for name in several}

    def get(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get


def late(module: str, sibling: str) -> Callable[[str], Callable[..., Any]]:
    """Functions of the module ``sibling`` beside ``module``, by name; it is imported when one of them is called."""
    home = f"{module.rpartition('.')[0]}.{sibling}"

    def function(name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            module = sys.modules.get(home) or import_module(home)
            return getattr(module, name)(*given, **named)

        call.__module__, call.__name__ = home, name
        return call

    return function
