"""Imports names of a package when they are first asked for, so that a command loads only what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def attributes(package: str, names: Mapping[str, Sequence[str]], modules: Sequence[str] = ()) -> Callable[[str], Any]:
    """Makes the ``__getattr__`` of a package (PEP 562).

    ``names``: for each module of the package, the names that the package re-exports. ``modules``: modules that the
    package exposes themselves.
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
    """Makes functions that stand in for those of the module ``sibling`` beside ``module``, which their first call
    imports.
    """
    home = f"{module.rpartition('.')[0]}.{sibling}"

    def function(name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            module = sys.modules.get(home) or import_module(home)
            return getattr(module, name)(*given, **named)

        call.__module__, call.__name__ = home, name
        return call

    return function
