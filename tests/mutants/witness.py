"""A plugin of pytest that writes down how each test of a run ended, and whether the copy of the package was imported.

The file is named by the variable ``MUTANTS_REPORT``; the copy is the folder that pytest was started in.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_ENDS: list[dict[str, Any]] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" or report.outcome != "passed":
        raised = None if call.excinfo is None else call.excinfo.value
        _note(item.nodeid, call.when, report, _names(raised))
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.outcome == "failed":
        _note(report.nodeid, "collect", report, [])


def _note(test: str, when: str, report: pytest.TestReport | pytest.CollectReport, raised: list[str]) -> None:
    lines = report.longreprtext.splitlines() if report.outcome == "failed" else []
    _ENDS.append(
        {
            "test": test,
            "when": when,
            "outcome": report.outcome,
            "raised": raised,
            "said": [line[1:].strip() for line in lines if line.startswith("E ")],
            "seconds": getattr(report, "duration", 0.0),
        }
    )


def _names(error: BaseException | None) -> list[str]:
    """The classes of an exception and of those that it came from."""
    names: list[str] = []
    while error is not None and len(names) < 20:
        names.append(type(error).__name__)
        error = error.__cause__ or error.__context__
    return names


def pytest_sessionfinish() -> None:
    package = sys.modules.get("attnc")
    report = {
        "ends": _ENDS,
        "package": None if package is None or package.__file__ is None else str(Path(package.__file__).parent),
    }
    Path(os.environ["MUTANTS_REPORT"]).write_text(json.dumps(report), encoding="utf-8")
