"""The package as others get it: wheel, sdist, `pip install .` and `pip install -e .`, each used from an empty folder.

Nothing is downloaded: a fresh environment sees this one's packages through a path file, which does not carry this one's
own, editable attnc over.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKED = ("compiler", "runtime", "templates", "patterns")
PARTS = (*LINKED, "attnc", "pyproject.toml", "hatch_build.py", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore")
DATA = {".py", ".lark", ".json", ".attn", ".jinja", ".h", ".typed", ".md"}
# A call on CPU tensors, far from the sources; prints where attnc came from.
CALL = """
import attnc, torch
q = torch.randn(1, 2, 40, 16)
out = attnc.load("window").window(size=8)(q, q, q)
torch.testing.assert_close(out, attnc.load("window").window(size=8).reference(q, q, q))
print(attnc.__file__)
"""


def run(*command: str | Path, cwd: Path, fails: bool = False) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + (done.stderr if fails else "")


def copy_sources(folder: Path) -> Path:
    """The tracked kinds of files, links kept as links: what a clone holds."""
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)
    return folder


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist; build makes the wheel from the sdist, so that is shown as well."""
    base = tmp_path_factory.mktemp("dist")
    sources = copy_sources(base / "sources")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", base / "out", sources, cwd=base)
    return base / "out"


def environment(folder: Path) -> Path:
    """A fresh environment that sees this one's packages; the path of its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def install(folder: Path, *what: str | Path) -> Path:
    python = environment(folder)
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", *what, cwd=folder)
    return python


def use(python: Path, folder: Path) -> Path:
    """Command line and a call from an empty folder; where attnc came from."""
    folder.mkdir()
    (folder / "broken.attn").write_text("pattern p = windw(8)\n")
    attnc = python.parent / "attnc"
    assert run(attnc, "--version", cwd=folder).startswith("attnc ")
    assert "unknown-name" in run(attnc, "check", "broken.attn", cwd=folder, fails=True)
    assert "█" in run(attnc, "show", "longformer", "--n", "16", "--set", "size=4", cwd=folder)
    return Path(run(python, "-c", CALL, cwd=folder).strip()).resolve()


def test_a_wheel_works_from_an_empty_folder(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    python = install(tmp_path / "env", wheel)
    assert use(python, tmp_path / "empty").is_relative_to((tmp_path / "env").resolve())


def test_an_editable_installation_works_from_an_empty_folder(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    python = install(tmp_path / "env", "--editable", sources)
    assert use(python, tmp_path / "empty").is_relative_to(sources.resolve())


def test_the_folder_itself_can_be_installed(tmp_path: Path) -> None:
    python = install(tmp_path / "env", copy_sources(tmp_path / "sources"))
    shutil.rmtree(tmp_path / "sources")
    run(python, "-c", "import attnc.compiler.ir, attnc.runtime.base, attnc.templates", cwd=tmp_path)


def test_wheel_and_sdist_hold_every_file_of_the_package(dist: Path) -> None:
    wanted = {
        f"attnc/{path.relative_to(ROOT)}"
        for folder in LINKED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in DATA
    }
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        assert not wanted - set(archive.namelist())
        assert not [name for name in archive.namelist() if "__pycache__" in name or name.startswith("tests")]
    with tarfile.open(sdist) as archive:
        assert not wanted - {name.partition("/")[2] for name in archive.getnames()}


@pytest.mark.parametrize("broken", LINKED)
def test_a_build_stops_where_a_link_became_a_plain_file(broken: str, tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "sources")
    (sources / "attnc" / broken).unlink()
    (sources / "attnc" / broken).write_text(f"../{broken}")
    said = run(sys.executable, "-m", "build", "--no-isolation", "--wheel", sources, cwd=tmp_path, fails=True)
    assert f"attnc/{broken} must be a link to the folder {broken}/, but it is a plain file" in said
