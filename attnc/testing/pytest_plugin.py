"""Lets pytest collect `.attn` files: one item for each check of their `test` blocks.

This plugin is loaded in every pytest run of its environment, so it imports only pytest: the first `.attn` file imports
the compiler, and nothing here imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..inspection import NamedCheck

IGNORE = "attnc_ignore"
# The path by which each file was collected first: links and overlapping arguments lead to some files repeatedly.
_MET = pytest.StashKey[dict[Path, Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option for pytest's configuration file."""
    parser.addini(
        IGNORE,
        "`.attn` files and folders that are not collected unless named: globs, relative to the configuration file's "
        "folder; one without a slash is compared with every part of a path",
        type="args",
        default=[],
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> AttnFile | None:
    """Collects an `.attn` file, unless it is ignored or was collected by another path.

    A file that was named on the command line and collected before gives an empty collector.
    """
    if file_path.suffix != ".attn":
        return None
    session = parent.session
    named = session.isinitpath(file_path)
    if not named and _ignored(file_path, parent.config):
        return None
    met = session.stash.setdefault(_MET, {})
    again = met.setdefault(file_path.resolve(), file_path) != file_path
    if again and not named:
        return None
    plain: AttnFile = AttnFile.from_parent(parent, path=file_path, again=again)
    if plain.nodeid.isprintable():
        return plain
    named_so: AttnFile = AttnFile.from_parent(parent, path=file_path, again=again, nodeid=_visible(plain.nodeid))
    return named_so  # pytest prints it as it is


def _visible(text: str) -> str:
    """The text without characters that control a terminal; imports nothing if there are none."""
    if text.isprintable():
        return text
    from ..compiler.diagnostics import visible_line

    return visible_line(text)


def _ignored(path: Path, config: pytest.Config) -> bool:
    patterns = config.getini(IGNORE)
    if not patterns:
        return False
    from ..inspection import ignored

    base = config.inipath.parent if config.inipath else config.rootpath
    return any(
        ignored(file.relative_to(base), patterns) for file in (path, path.resolve()) if file.is_relative_to(base)
    )


class AttnFile(pytest.File):
    """One text; a fault in it is a collection error. ``again``: it was collected before, by another path."""

    def __init__(self, *, again: bool = False, **others: Any) -> None:
        super().__init__(**others)
        self.again = again

    def collect(self) -> Iterator[pytest.Item]:
        """Yields each check of each `test` block. Raises CollectError with every fault of the text."""
        if self.again:
            return
        from ..compiler.diagnostics import AttnError
        from ..compiler.modules import load_file
        from ..inspection import named_checks

        try:
            module = load_file(_shortest(self.path))
        except AttnError as error:
            raise self.CollectError(str(error)) from None
        for named in named_checks(module):
            yield AttnCheck.from_parent(self, name=named.name, named=named)


def _shortest(path: Path) -> Path:
    """The path as error messages show it: relative to the current folder, if it lies there."""
    here = Path.cwd()
    return Path(os.path.relpath(path, here)) if path.is_relative_to(here) else path


class FailedCheckError(Exception):
    """A check of a `.attn` file failed; the message is the whole report."""


class AttnCheck(pytest.Item):
    """One check of one `test` block."""

    def __init__(self, *, named: NamedCheck, **others: Any) -> None:
        super().__init__(**others)
        self.named = named

    def runtest(self) -> None:
        """Runs the check. A claim for all n that stays undecided is an expected failure, because trying lengths proves
        nothing.
        """
        from ..inspection import failure_report, judge, undecided

        outcome = judge(self.named)
        if outcome.verdict == "undecided":
            pytest.xfail(undecided(outcome))
        if not outcome.passed:
            raise FailedCheckError(failure_report(self.named, outcome))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The report with its pictures instead of a traceback."""
        if isinstance(excinfo.value, FailedCheckError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The place of the check, and a failure's headline: more than the name, in which pytest would replace dots."""
        return Path(_visible(str(self.path))), self.named.line - 1, f"{_visible(self.path.name)}: {self.name}"
