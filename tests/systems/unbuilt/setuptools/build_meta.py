"""Answers pip's questions about a source distribution from its PKG-INFO, without running anything of it.

pip asks a distribution for its metadata before it keeps the file, and many run a ``setup.py`` for that, which wants its
own dependencies installed. On PYTHONPATH before the real setuptools, this answers in its place.
"""

from __future__ import annotations

import email
import shutil
from pathlib import Path
from typing import Any


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Nothing, as nothing is built."""
    return []


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:
    """Copies PKG-INFO to METADATA in a new folder ``NAME-VERSION.dist-info``; the name of that folder."""
    told = email.message_from_string(Path("PKG-INFO").read_text(encoding="utf-8"))
    folder = Path(metadata_directory) / f"{told['Name'].lower().replace('-', '_')}-{told['Version']}.dist-info"
    folder.mkdir()
    shutil.copy("PKG-INFO", folder / "METADATA")
    return folder.name


class __legacy__:  # noqa: N801 - the name by which pip asks where there is no pyproject.toml
    get_requires_for_build_wheel = staticmethod(get_requires_for_build_wheel)
    prepare_metadata_for_build_wheel = staticmethod(prepare_metadata_for_build_wheel)
