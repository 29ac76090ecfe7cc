"""Stops a build of a working tree whose links did not survive: a wheel without its compiler must not come to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LINKED = ("compiler", "runtime", "templates", "patterns")


class LinkedFolders(BuildHookInterface[Any]):
    """Refuses to build where one of the linked folders is not a folder with something in it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        for name in LINKED:
            folder = Path(self.root) / "attnc" / name
            if folder.is_dir() and any(folder.iterdir()):
                continue
            found = "a plain file" if folder.is_file() else "missing or empty"
            raise RuntimeError(
                f"attnc/{name} must be a link to the folder {name}/, but it is {found}. "
                "Clone onto a file system with symbolic links (git config core.symlinks true), and check out again."
            )
