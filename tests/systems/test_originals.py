"""The originals' code is there, exactly as listed, and importing it changes nothing else."""

from __future__ import annotations

import re
import sys
import tarfile
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.systems import fetch_originals, originals


def test_every_file_of_the_list_has_one_version_and_one_hash() -> None:
    lines = [line for line in fetch_originals.LIST.read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    here = {path.name for path in originals.folder().iterdir()}
    for line in lines:
        name, version = line.split(" ")[0].split("==")
        assert {f"{name.replace('-', '_')}-{version}.dist-info", f"{name}-{version}"} & here


def test_a_module_is_imported_without_leaving_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "local_attention"]:
        monkeypatch.delitem(sys.modules, name)
    before = torch.random.get_rng_state(), torch.get_default_dtype(), list(warnings.filters)
    assert originals.module("local_attention").LocalAttention
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (torch.get_default_dtype(), list(warnings.filters)) == before[1:]
    assert sys.path[-1] == str(originals.folder()), "the environment's own packages come first"


def test_one_file_runs_with_stubs_that_go_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "import random, warnings\nimport numpy, torch\nfrom absent.part import A\nfrom .beside import B\nC = A + B\n"
        "warnings.warn('old')\nrandom.seed(0)\nnumpy.random.seed(0)\ntorch.manual_seed(0)\n"
        "torch.set_default_dtype(torch.float64)\n"
    )
    monkeypatch.setattr(originals, "folder", lambda: tmp_path)
    stubs = {"absent.part": types.SimpleNamespace(A=1), "package.beside": types.SimpleNamespace(B=2)}
    torch.manual_seed(7)
    drawn = np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    assert originals.single("one.py", stubs, "package.one").C == 3
    assert not {"absent.part", "package.beside", "package.one"} & set(sys.modules)
    assert torch.get_default_dtype() == torch.float32
    assert np.random.get_state()[1].tolist() == drawn[0]
    assert torch.equal(torch.random.get_rng_state(), drawn[1])


def test_a_list_that_was_changed_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = tmp_path / "originals.txt"
    changed.write_text(fetch_originals.LIST.read_text() + "more==1.0\n")
    monkeypatch.setattr(fetch_originals, "LIST", changed)
    with pytest.raises(RuntimeError, match="fetch_originals"):
        originals.folder()


def test_nothing_is_unpacked_outside_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("")
    with tarfile.open(tmp_path / "odd.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "code.py", "../odd.py")
    with pytest.raises(ValueError, match=r"holds \.\./odd\.py, which lies outside"):
        fetch_originals.unpack(tmp_path / "odd.tar.gz", tmp_path / "folder")
    assert not (tmp_path / "odd.py").exists()
