"""``attnc explain``: the page of an error, and what was likely meant."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attnc.cli import main
from attnc.cli.help import explained, listed
from attnc.compiler.diagnostics.catalogue import CATALOGUE, page
from attnc.inspection.errors import InputError


@pytest.mark.parametrize("written", ["unknown-name", "error[unknown-name]", "error[unknown-name]:", "Unknown-Name"])
def test_a_slug_as_it_is_shown_or_typed(written: str) -> None:
    assert explained(written) == page("unknown-name")


def test_a_wrong_slug_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean unknown-name"):
        explained("unknown-nmae")
    with pytest.raises(InputError, match="lists them"):
        explained("../secrets")


def test_the_list_names_every_slug() -> None:
    assert [line.split()[0] for line in listed().splitlines()] == list(CATALOGUE)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["explain", "heads-gap"]) == 0
    assert capsys.readouterr().out == page("heads-gap")
    assert main.run(["explain"]) == 0
    assert "heads-overlap  " in capsys.readouterr().out
    assert main.run(["explain", "heads-gpa"]) == 1
    assert "did you mean heads-gap?" in capsys.readouterr().err


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from attnc.cli import main as cli; cli.run(['explain', 'syntax']);"
        "assert not {'torch', 'triton', 'transformers', 'islpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
