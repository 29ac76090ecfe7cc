"""`attnc settings` and `attnc cache`: print the settings and the state of the cache, as text or as JSON."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from ..compiler.diagnostics import visible_line
from ..inspection import InputError
from ..runtime.base import Settings, cache, settings
from .app import FAULT, FORM, commands
from .terminal import out, say

HEADS = ("setting", "variable", "value")
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@commands.command("settings")
@FORM
def settings_command(form: str) -> int:
    """Every setting: the variable that sets it, its value, what it does. Exit code 1 if one cannot be read."""
    found = lines()
    out(settings_document(found) if form == "json" else settings_table(found, shutil.get_terminal_size().columns))
    return FAULT if any(line.fault for line in found) else 0


@commands.command("cache")
@click.option("--clear", is_flag=True, help="Remove every kernel that is kept.")
@FORM
def cache_command(clear: bool, form: str) -> None:
    """Where built kernels are kept, how many there are, and how large they are."""
    if clear:
        removed = clear_cache()
        say(f"removed {removed:,} entr{'y' if removed == 1 else 'ies'}")
    usage = cache_usage()
    out(cache_document(usage) if form == "json" else cache_text(usage))


@dataclass(frozen=True)
class Line:
    """One setting. ``fault`` says why its variable cannot be read; ``value`` is None then."""

    name: str
    variables: tuple[str, ...]
    value: bool | int | float | str | None
    sentence: str
    fault: str | None


def lines() -> tuple[Line, ...]:
    """Every setting with its present value, in the order of their definition."""
    return tuple(_lines())


def _lines() -> Iterator[Line]:
    for setting in Settings.fields():
        value, fault = None, None
        try:
            value = getattr(settings, setting.name)
        except ValueError as error:
            fault = str(error)
        plain = str(value) if isinstance(value, Path) else value
        yield Line(setting.name, setting.variables, plain, setting.sentence, fault)


def settings_table(found: tuple[Line, ...], columns: int) -> str:
    """A line of setting, variables and value for each, and below it the sentence that says what the setting does."""
    rows = [(line.name, ", ".join(line.variables), _shown(line)) for line in found]
    widths = [max(len(row[column]) for row in (HEADS, *rows)) for column in (0, 1)]
    text = [_row(HEADS, widths)]
    for row, line in zip(rows, found, strict=True):
        text.append(_row(row, widths))
        text += textwrap.wrap(line.sentence, max(columns, 40), initial_indent="    ", subsequent_indent="    ")
    return "\n".join(text)


def _row(row: tuple[str, str, str], widths: list[int]) -> str:
    return f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip()


def _shown(line: Line) -> str:
    if line.fault is not None:
        return f"cannot be read: {visible_line(line.fault)}"
    if isinstance(line.value, bool):
        return "on" if line.value else "off"
    return "not set" if line.value is None else visible_line(str(line.value))


def settings_document(found: tuple[Line, ...]) -> str:
    """The settings as JSON: a list of objects."""
    return json.dumps(
        [
            {
                "setting": line.name,
                "variables": list(line.variables),
                "value": line.value,
                "fault": line.fault,
                "sentence": line.sentence,
            }
            for line in found
        ],
        indent=2,
    )


def cache_usage() -> cache.Usage:
    """How much the cache holds. InputError where it cannot be looked into."""
    try:
        return cache.usage()
    except (cache.UnusableFolderError, OSError) as error:
        raise InputError(f"the cache cannot be looked into: {error}") from None


def clear_cache() -> int:
    """Empties the cache and returns how many entries it had. InputError where that is not possible."""
    try:
        return cache.clear()
    except (cache.UnusableFolderError, OSError) as error:
        raise InputError(f"the cache cannot be cleared: {error}") from None


def cache_text(usage: cache.Usage) -> str:
    """Where the cache is, how many kernels it holds, how large it is, and whether it is in use."""
    used = "" if settings.cache else "\nThe setting cache is off: nothing is read from it or added."
    return (
        f"location  {visible_line(str(usage.folder))}\nentries   {usage.entries:,}\nsize      {size(usage.size)}{used}"
    )


def cache_document(usage: cache.Usage) -> str:
    """The state of the cache as JSON: one object; ``bytes`` is the size."""
    return json.dumps(
        {"location": str(usage.folder), "entries": usage.entries, "bytes": usage.size, "used": settings.cache}, indent=2
    )


def size(count: int) -> str:
    """A number of bytes for people: ``1,536 bytes (1.5 KiB)``."""
    exact = f"{count:,} byte{'s' * (count != 1)}"
    scaled, unit = float(count), 0
    while scaled >= 1024 and unit < len(UNITS) - 1:
        scaled, unit = scaled / 1024, unit + 1
    return exact if unit == 0 else f"{exact} ({scaled:.1f} {UNITS[unit]})"
