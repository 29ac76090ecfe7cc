"""Fetches the packages of originals.txt through pip, checks their hashes, and unpacks them: ``.venv/originals``.

Nothing is installed, built or run. A wheel is unpacked as it is, so that the folder can be put on ``sys.path``; of a
source distribution the Python files are kept, in a folder of its own: ``natten-0.21.7/src/natten/…``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
LIST = HERE / "originals.txt"
FOLDER = HERE.parents[1] / ".venv" / "originals"
STAMP = ".list"
SOURCES = ("deepspeed", "natten")
"""Packages that have no wheel."""
KEPT = re.compile(r".*(\.py|/LICENSE[^/]*)")
LEFT_OUT = re.compile(r"(docs|test|tests)/.*|.*\.dist-info/entry_points\.txt")
"""Of a wheel: folders that would hide others of these names, and plugins and commands of what is not installed."""


def digest() -> str:
    """What the unpacked folder depends on."""
    return hashlib.sha256(LIST.read_bytes()).hexdigest()


def download(folder: Path) -> None:
    """The files of the list. CalledProcessError where pip gets one of them not at all, or another file of its name."""
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps")
    metadata = ("--use-pep517", "--no-build-isolation", "--only-binary", ":all:", "--no-binary", ",".join(SOURCES))
    environment = {**os.environ, "PYTHONPATH": str(HERE / "unbuilt")}
    files = ("--require-hashes", "--requirement", LIST, "--dest", folder)
    subprocess.run([*command, *metadata, *map(str, files)], env=environment, check=True)


def unpack(path: Path, folder: Path) -> None:
    """One package into the folder. ValueError where one of its files would lie outside."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if not LEFT_OUT.fullmatch(name)])
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isfile() or not KEPT.fullmatch(member.name):
                continue
            target = (folder / member.name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise ValueError(f"{path.name} holds {member.name}, which lies outside")
            target.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None
            target.write_bytes(content.read())


def fetch() -> Path:
    """The folder with all packages of the list; made anew where the list has changed."""
    stamp = FOLDER / STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest():
        return FOLDER
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as base:
        downloads, unpacked = Path(base, "files"), Path(base, "originals")
        unpacked.mkdir()
        download(downloads)
        for path in sorted(downloads.iterdir()):
            unpack(path, unpacked)
        (unpacked / STAMP).write_text(digest(), encoding="utf-8")
        shutil.rmtree(FOLDER, ignore_errors=True)
        unpacked.rename(FOLDER)
    return FOLDER


if __name__ == "__main__":
    fetch()
