"""Results that take long to make, kept in ``.gate/`` under a digest of all that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / ".gate"


def digest(*parts: object) -> str:
    """A name for what these parts, as JSON or as bytes, decide."""
    made = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        made.update(hashlib.sha256(text).digest())
    return made.hexdigest()[:32]


def kept(kind: str, key: str, make: Callable[[], Any]) -> Any:
    """The result of ``make``, which JSON can hold, or what an earlier call for the same key made."""
    path = FOLDER / kind / f"{key}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(found), encoding="utf-8")
    fresh.replace(path)
    return found
