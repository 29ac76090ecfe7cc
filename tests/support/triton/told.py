"""Runs checks by their names and prints one line of JSON: for each what is wrong, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import torch


def tell(checks: Mapping[str, Callable[[], None]], names: Sequence[str]) -> None:
    """Runs the checks called ``names``, all if there are none."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    report = {}
    for name, its in checks.items():
        if not names or name in names:
            try:
                its()
                report[name] = ""
            except Exception as error:  # noqa: BLE001 - whatever goes wrong is told
                report[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(report))
