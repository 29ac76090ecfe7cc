"""`attnc bench`: an attention beside what one would use instead; what it says of each way, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from attnc.cli import main
from attnc.cli.run import BESIDE
from attnc.measuring import requests, rivals, side_by_side, turns

SMALL = ["--n", "48", "--heads", "2", "--head-dim", "8", "--rounds", "2"]
SQUARE = 64  # of the matrix product
FAST = ["--beside", "dense", "--beside", "causal", "--beside", "slice"]  # nothing is compiled by torch
TEXTS = """
pattern near(size: int) = causal_window(size)
attention capped { mask = causal  score = 5 * tanh(s / 5) }
attention sunk { mask = causal  sink = 2.0 }
pattern early = k <= q and q < 20
pattern chosen(rows: int[query], g: tokens) = k <= rows[q] or k in g
"""


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main.run(["bench", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def ways(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Every way by its pass and name, from the JSON."""
    code, out, err = ended(capsys, *arguments, *SMALL, "--format", "json")
    assert code == 0, err
    return {(way["direction"], way["name"]): way for way in json.loads(out)["ways"]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNC_BACKEND", "blocked")
    monkeypatch.setitem(requests.LIMIT_SIZE, "cpu", SQUARE)
    monkeypatch.setattr(side_by_side, "LEAST", 0.0)
    (tmp_path / "some.attn").write_text(TEXTS)


def test_the_words_of_the_command_are_those_of_the_ways() -> None:
    assert set(BESIDE) == {*rivals.WHOLE, *rivals.DECODING}


def test_a_table_of_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = ended(capsys, "some.attn:near", "--set", "size=8", *SMALL, *FAST, "--backward")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("near: 48 tokens, 2 heads of 8, float32, cpu, ")
    shown = [(line[:11].strip(), line[11:36].strip()) for line in lines[3:-1]]
    whole = ["attnc", "SDPA, dense mask", "SDPA, causal"]
    assert shown == [
        *(("forward", way) for way in whole), *(("backward", way) for way in whole),
        *(("one query", way) for way in ("attnc", "SDPA, dense mask", "SDPA, slice of the keys")),
    ]  # fmt: skip
    assert lines[-1].endswith("operations are counted over the 712 kept pairs")
    assert "timing, beside a matrix product" in err


def test_what_each_way_computes(capsys: pytest.CaptureFixture[str]) -> None:
    found = ways(capsys, "some.attn:near", "--set", "size=8", *FAST)
    results = {key: way["result"] for key, way in found.items()}
    assert results == {
        ("forward", "attnc"): "",
        ("forward", "SDPA, dense mask"): "the same",
        ("forward", "SDPA, causal"): "all earlier keys",
        ("one query", "attnc"): "",
        ("one query", "SDPA, dense mask"): "the same",
        ("one query", "SDPA, slice of the keys"): "the same",
    }
    for name in ("capped", "sunk"):
        other = ways(capsys, f"some.attn:{name}", *FAST)
        assert other["forward", "SDPA, dense mask"]["result"] == "its mask alone"
        assert other["one query", "SDPA, slice of the keys"]["result"] == "its mask alone"


def test_tables_reach_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of a query table are those of the query that is decoded; the slice has a hole."""
    rows = str([min(47, row // 2) for row in range(47)] + [3]).replace(" ", "")
    found = ways(capsys, "some.attn:chosen", "--set", f"rows={rows}", "--set", "g={9}", *FAST)
    assert found["one query", "SDPA, slice of the keys"]["result"] == "the same"
    assert found["forward", "SDPA, dense mask"]["result"] == "the same"
    assert found["forward", "SDPA, causal"]["refused"] == "the pattern is not causal, or not known to be"
    assert found["forward", "SDPA, causal"]["seconds"] == []


def test_ratios_are_of_rounds_and_shares_of_the_limit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(turns.time, "perf_counter", lambda: float(next(clock)))  # each call takes a second
    code, out, _ = ended(capsys, "causal", *SMALL, "--beside", "dense", "--format", "json", "--backward")
    assert code == 0
    found = json.loads(out)
    assert (found["pairs"], found["rounds"], found["limit"]) == (2 * 48 * 49 // 2, 2, 2 * SQUARE**3)
    shares = {(way["direction"], way["name"]): (way["slower"], way["share"]) for way in found["ways"]}
    products = found["pairs"] * 2 * 8 / (2 * SQUARE**3)
    assert shares["forward", "SDPA, dense mask"] == (1.0, pytest.approx(2 * products))
    assert shares["backward", "attnc"] == (1.0, pytest.approx(5 * products))
    assert shares["one query", "attnc"] == (1.0, None)


def test_what_a_rival_raises_is_told_in_its_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise NotImplementedError("no such kernel\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(rivals, "LARGEST_MASK", 48 * 48 - 1)
    found = ways(capsys, "causal")
    assert found["forward", "SDPA, dense mask"]["refused"].startswith("its mask takes 0.0 GiB")
    monkeypatch.setattr(rivals, "LARGEST_MASK", 48 * 48)
    found = ways(capsys, "causal")
    assert found["forward", "FlexAttention"]["refused"] == "NotImplementedError: no such kernel"
    assert found["forward", "SDPA, dense mask"]["result"] == "the same"


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flexattention_computes_the_mask_and_has_no_gradients_on_a_cpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # its own eager definition
    found = ways(capsys, "some.attn:near", "--set", "size=8", "--beside", "flex", "--backward")
    assert found["forward", "FlexAttention"]["result"] == "the same"
    assert found["backward", "FlexAttention"]["refused"] == "has no gradients on a CPU"


def test_a_rival_that_only_fails_backward_keeps_its_forward(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_way(masks: rivals.Masks) -> rivals.Rival:
        dense = rivals.dense(masks)
        return rivals.Rival(lambda q, k, v: dense.attend(q.detach(), k.detach(), v.detach()))

    monkeypatch.setitem(side_by_side.WHOLE, "dense", ("SDPA, dense mask", one_way))
    found = ways(capsys, "causal", "--beside", "dense", "--backward")
    assert found["forward", "SDPA, dense mask"]["result"] == "the same"
    assert found["backward", "SDPA, dense mask"]["refused"].startswith("RuntimeError: element 0 of tensors does not")
    assert found["backward", "attnc"]["seconds"]


def test_a_query_without_keys_has_no_slice(capsys: pytest.CaptureFixture[str]) -> None:
    found = ways(capsys, "some.attn:early", *FAST)
    assert found["one query", "SDPA, slice of the keys"]["refused"] == "the last query keeps no key"
    assert found["one query", "SDPA, dense mask"]["seconds"]


def test_a_layer_of_a_model_whose_heads_differ(capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.attn").write_text(
        "pattern a = causal and head < 1 or k == q\nmodel m { layers = 2  heads = 2  layer * = a }\n"
    )
    found = ways(capsys, "two.attn:m", "--layer", "1", *FAST)
    assert found["forward", "SDPA, dense mask"]["result"] == "the same"
    assert found["one query", "SDPA, slice of the keys"]["result"] == "the same"


@pytest.mark.parametrize(
    ("code", "words", "arguments"),
    [
        (1, "did you mean causal?", ["casual"]),
        (1, "there is no file none.attn", ["none.attn"]),
        (1, "--device nonsense", ["causal", "--n", "8", "--device", "nonsense"]),
        (2, "causal is no model", ["causal", "--layer", "0"]),
        (2, "'numpy' is not one of 'dense', 'causal', 'flex', 'slice'", ["causal", "--beside", "numpy"]),
        (2, "0 is not in the range x>=1", ["causal", "--rounds", "0"]),
    ],
)
def test_it_ends_as_other_commands_do(
    code: int, words: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = ended(capsys, *arguments)
    assert (found, out) == (code, "")
    assert words in err
