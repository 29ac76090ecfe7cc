"""Every system that is held against its original: those of all modules of this folder that have ``SYSTEMS``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import attnc
from tests.systems.speeds import table
from tests.systems.system import System

HERE = Path(__file__).parent
PATTERNS = Path(attnc.__file__).parent / "patterns"
FIELDS = ("text", "vision", "video", "packing", "serving", "dynamic")
"""The folders of the gallery, in the order of the pages."""
LISTS = re.compile(r"^SYSTEMS\b", re.MULTILINE)
UNHELD: Mapping[str, str] = {}
"""Shipped files without a system, each with the reason."""


def module_names() -> tuple[str, ...]:
    """The modules of this folder that have systems, by name."""
    found = (path for path in HERE.glob("*.py") if path.name != Path(__file__).name)
    return tuple(sorted(path.stem for path in found if LISTS.search(path.read_text(encoding="utf-8"))))


def gallery() -> Mapping[str, str]:
    """The shipped files by name, but for the prelude, with their folders, in the order of the pages."""
    found = sorted((FIELDS.index(path.parent.name), path.stem) for path in PATTERNS.glob("*/*.attn"))
    return {name: FIELDS[field] for field, name in found}


def file_of(system: System) -> str:
    """The shipped file that a system is in."""
    return system.shipped.partition(":")[0]


def declaration_of(system: System) -> str:
    """The name that a system has in its file: the file's own unless ``shipped`` says another."""
    return system.shipped.partition(":")[2] or file_of(system).rpartition(".")[2]


def listed() -> dict[str, tuple[System, ...]]:
    """The systems as their modules have them, without the speeds that lie apart."""
    return {name: importlib.import_module(f"tests.systems.{name}").SYSTEMS for name in module_names()}


def _collected() -> dict[str, tuple[System, ...]]:
    return {name: tuple(_with_speed(system) for system in systems) for name, systems in listed().items()}


def _with_speed(system: System) -> System:
    """A system with what times it, where the folder speeds has that, or the reason why nothing does."""
    if system.timed is not None:
        return system
    place = table.place_of(system.name)
    return replace(system, timed=place[1]) if place else replace(system, untimed=table.reason(system))


def _in_order(systems: list[System]) -> tuple[System, ...]:
    """By folder and file; within a file as their modules have them."""
    places = {name: place for place, name in enumerate(["std", *gallery()])}
    return tuple(sorted(systems, key=lambda system: places.get(file_of(system), len(places))))


BY_MODULE = _collected()
SYSTEMS: tuple[System, ...] = _in_order([system for systems in BY_MODULE.values() for system in systems])
