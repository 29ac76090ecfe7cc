"""The tables kept beside the grammar are those that Lark makes of it. (What is read by them: test_automaton.py.)"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnc.compiler.syntax.lalr import TABLES
from attnc.compiler.syntax.make_tables import GRAMMAR, dumped

TEXT = GRAMMAR.read_text(encoding="utf-8")
ANEW = "python -m attnc.compiler.syntax.make_tables > compiler/syntax/grammar.json"


def test_the_tables_are_those_of_the_grammar() -> None:
    assert dumped(TEXT) == TABLES.read_text(encoding="utf-8"), f"make them anew: {ANEW}"


def test_the_tables_are_the_same_in_every_process() -> None:
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "attnc.compiler.syntax.make_tables"],
            env={**os.environ, "PYTHONHASHSEED": seed}, cwd=Path(__file__).parents[1], capture_output=True, check=True,
        )  # fmt: skip
        assert done.stdout == TABLES.read_bytes()


def test_another_grammar_has_other_tables() -> None:
    other = dumped(TEXT.replace("IF disjunction ELSE", "IF disjunction WHERE"))
    assert other != dumped(TEXT)
    assert json.loads(other)["rules"] != json.loads(dumped(TEXT))["rules"]


def test_a_terminal_of_no_plain_words_has_to_be_named() -> None:
    with pytest.raises(ValueError, match="named in"):
        dumped(TEXT.replace("SINK: /sink\\b/", "SINK: /s[i]nk\\b/"))
