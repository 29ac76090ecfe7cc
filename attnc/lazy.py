"""Imports names of a package when they are first asked for, so that a command loads only what it needs; and a module
as soon as one that it belongs to is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
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


def once_imported(package: str, module: str) -> None:
    """Imports ``module`` once ``package`` is imported: now if it is, else right after whoever imports it first.

    Importing ``package`` never fails for it: a module that cannot be imported says so to whoever needs it.
    """
    found = sys.modules.get(package)
    if found is None:
        sys.meta_path.insert(0, _After(package, module))
    elif not getattr(found.__spec__, "_initializing", False):  # else whoever needs it imports it
        _import_quietly(module)


def _import_quietly(module: str) -> None:
    with suppress(ImportError, AttributeError, RuntimeError, TypeError):
        import_module(module)


class _After(MetaPathFinder):
    """Finds ``package`` as the finders behind it do, and notes when it is executed; then it goes."""

    def __init__(self, package: str, module: str) -> None:
        self._package, self._module = package, module

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._package:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        loader = None if spec is None else spec.loader
        if loader is None:
            return spec
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the loader is as it was
            execute(module)
            with suppress(ValueError):  # another thread was faster
                sys.meta_path.remove(self)
            _import_quietly(self._module)

        with suppress(AttributeError):  # a loader that takes no attributes
            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
