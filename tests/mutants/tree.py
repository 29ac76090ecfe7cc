"""The tree that mutants are planted in: its files, its copies, the one place of a text, the one place of a test."""

from __future__ import annotations

import ast
import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from .mutant import Mutant

PRODUCT = ("compiler", "runtime", "attnc", "templates", "patterns")
TEXTS = {".py", ".jinja", ".h", ".lark", ".attn"}
LEFT_OUT = {
    ".git", ".venv", ".fuzz", ".mutants", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", "__pycache__",
    "build", "dist", "demo-output",
}  # fmt: skip


class PlantingError(Exception):
    """A mutant that cannot be planted or judged, because its text or its test is not found exactly once."""


def product_texts(root: Path) -> dict[Path, str]:
    """The text of every file of the product. Folders that are links are left out: they lead to folders of the list."""
    texts: dict[Path, str] = {}
    for folder in PRODUCT:
        pending = [root / folder]
        while pending:
            for path in sorted(pending.pop().iterdir()):
                if path.is_dir() and not path.is_symlink() and path.name not in LEFT_OUT:
                    pending.append(path)
                elif path.suffix in TEXTS and path.is_file():
                    texts[path] = path.read_text(encoding="utf-8")
    return texts


def place_of(texts: Mapping[Path, str], mutant: Mutant) -> Path:
    """The file that holds the mutant's text. PlantingError where the text does not occur exactly once."""
    found = [path for path, text in texts.items() for _ in range(text.count(mutant.find))]
    if len(found) != 1:
        where = ", ".join(sorted({path.name for path in found})) or "no file"
        raise PlantingError(f"{mutant.name}: its text occurs {len(found)} times, in {where}")
    return found[0]


def plant(root: Path, mutant: Mutant) -> Path:
    """Puts the fault into the tree at ``root``, and returns the file. PlantingError where there is no single place."""
    path = place_of(product_texts(root), mutant)
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.find, mutant.replace), encoding="utf-8")
    # Python takes compiled code for current if its source has the same size and second of its change
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()
    return path


def node_id(root: Path, test: str) -> str:
    """The id that pytest knows a test by, from the name of its file and its own. PlantingError if it is not there."""
    file, _, rest = test.partition("::")
    found = sorted((root / "tests").rglob(file))
    if len(found) != 1:
        raise PlantingError(f"{test}: {len(found)} files of tests are called {file}")
    names = {node.name for node in ast.parse(found[0].read_text(encoding="utf-8")).body if hasattr(node, "name")}
    if rest.partition("[")[0] not in names:
        raise PlantingError(f"{test}: {file} has no such test")
    return f"{found[0].relative_to(root).as_posix()}::{rest}"


def copy_tree(root: Path, target: Path) -> None:
    """Copies what tests need of the tree, links as links, without what tools left behind."""
    shutil.copytree(root, target, symlinks=True, ignore=lambda _, names: LEFT_OUT & set(names))


def digest(root: Path, mutants: Iterable[Mutant]) -> str:
    """A hash of everything that the outcomes depend on: the product, the tests, and the mutants."""
    hashed = hashlib.sha256("\n".join(map(repr, mutants)).encode())
    tests = (path for path in (root / "tests").rglob("*") if path.is_file() and not LEFT_OUT & set(path.parts))
    for path in sorted([*product_texts(root), *tests]):
        hashed.update(f"{path.relative_to(root)}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    return hashed.hexdigest()
