"""The helpers for others' tests: what they let pass, what they find, and how they say it; and the page about them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attnc
from attnc.cli import main
from attnc.compiler.verify.pictures import LARGEST, Panel, contrast, side_by_side
from attnc.testing.assertions import (
    SHAPES,
    Shape,
    assert_mask,
    assert_matches_reference,
    assert_support,
    patterns,
    shapes,
    tables,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
MODULE = attnc.loads(
    """
    pattern local(g: tokens, size: int = 4) = window(size) or q in g or k in g
    pattern twice = causal + (k == 0)
    pattern by_head = k <= q if head == 0 else k == q
    pattern holes = k < q and q % 3 != 0
    pattern everything(a: int[token], b: int[query], c: float[head, 3], d: bool[some, some], e: set[head],
                       f: order[token], h: int[]) =
        a[q] == a[k] or b[q] >= k or c[head, k % 3] > 0.1 and d[q, k] or k in e[head] or f[k] < h
    attention sloped(slope: float[head], bias: float[token]) {
        mask = causal   score = s + slope[head] * (k - q) + bias[k]   sink = bias[q]
    }
    """
)
LOCAL = MODULE.local()


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    """Nothing here is about one executor: take the one that builds nothing."""
    with attnc.settings.override(backend="blocked"):
        yield


class Planted(attnc.Attention):
    """Runs another pattern than it says it is."""

    def __init__(self, says: attnc.Attention, runs: attnc.Attention) -> None:
        super().__init__(says._bound)
        self.runs = runs

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.runs(*arguments, **named)


# -- masks ---------------------------------------------------------------------------------------------------------


def test_a_mask_is_compared_with_whatever_says_it() -> None:
    rule = lambda q, k: abs(q - k) <= 2 or 0 in (q, k)  # noqa: E731
    assert_mask(LOCAL, 8, rule, g={0})
    assert_mask(LOCAL, 8, rule, m=2, q_start=5, g={0})
    assert_mask(LOCAL, 3, "###\n###\n###", g={0})
    dense = np.abs(np.arange(6)[:, None] - np.arange(6)) <= 2
    assert_mask(LOCAL, 6, dense, g=set())
    assert_mask(LOCAL, 6, torch.from_numpy(dense), g=set(), heads=3)
    assert_mask(LOCAL, 6, torch.from_numpy(np.stack([dense, dense])), g=set(), heads=2)
    assert_mask(LOCAL, 6, dense.tolist(), g=torch.full((2, 1), -1))  # a batch
    assert_mask(MODULE.twice(), 3, "2..\n2#.\n2##")
    assert_mask(MODULE.twice(), 3, lambda q, k: int(k <= q) + int(k == 0))
    assert_mask(MODULE.by_head(), 3, "#..\n.#.\n..#", heads=2, head=1)


def test_a_mask_that_differs_is_drawn() -> None:
    with pytest.raises(AssertionError) as caught:
        assert_mask(MODULE.by_head(), 3, "#..\n##.\n###", heads=2)
    assert str(caught.value).splitlines()[:6] == [
        "by_head in head 1: 3 of 9 pairs are not as expected, the first at q = 1, k = 0",
        "",
        "q  expected   got   differs",
        "0  #..        #..   ...",
        "1  ##.        .#.   -..",
        "2  ###        ..#   --.",
    ]
    with pytest.raises(AssertionError, match=r"twice: 1 of 9 pairs .* q = 7, k = 0(.|\n)*7  ###        2##   !\.\."):
        assert_mask(MODULE.twice(), 3, "###\n2##\n2##", m=3, q_start=7)
    with pytest.raises(AssertionError, match="the mask has 4 rows of 4 keys"):
        assert_mask(LOCAL, 4, "###\n###\n###", g={0})


def test_an_expectation_of_no_such_shape_is_refused() -> None:
    for wrong in (np.ones((3, 3), bool), np.ones((2, 4, 4), bool), np.ones(4, bool), np.ones((1, 4), bool)):
        with pytest.raises(ValueError, match=r"expected: has shape .*\[4, 4\]"):
            assert_mask(LOCAL, 4, wrong, g={0})
    with pytest.raises(ValueError, match="expected: is an array of float64"):
        assert_mask(LOCAL, 4, np.ones((4, 4)), g={0})
    with pytest.raises(ValueError, match="head: is 1"):
        assert_mask(LOCAL, 4, np.ones((4, 4), bool), head=1, g={0})


def test_of_a_large_picture_the_part_that_differs_is_shown() -> None:
    got = ["#" * 500] * 400
    lines = contrast([*got[:300], "#" * 410 + "." + "#" * 89, *got[301:]], got, (1000, 0))
    assert len(lines) == 1 + LARGEST + 2
    assert max(map(len, lines[:-2])) < 3 * LARGEST + 20
    assert lines[-2] == "rows 1284..1315 and columns 394..425 of 400 rows, 500 columns"
    assert lines[1 + 16].startswith("1300  ")
    assert lines[1 + 16].endswith("." * 16 + "+" + "." * 15)
    assert side_by_side((Panel("got", ()),)) == ["q  got"]


# -- kernels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["local", "twice", "by_head", "holes", "sloped", "everything"])
def test_what_is_right_passes(name: str) -> None:
    assert_matches_reference(MODULE[name]())
    assert_support(MODULE[name]())


def test_every_dtype_and_tables_by_shape() -> None:
    seen: list[Shape] = []

    def some(shape: Shape) -> set[int]:
        seen.append(shape)
        return {shape.n // 2}

    assert_matches_reference(LOCAL, dtypes=["float64", torch.bfloat16, "float16"], g=some)
    assert seen == [shape for shape in SHAPES for _ in range(3)]
    with pytest.raises(ValueError, match="dtypes: holds int32"):
        assert_matches_reference(LOCAL, dtypes=["int32"])


def test_what_differs_from_the_reference_is_told() -> None:
    planted = Planted(MODULE.local(size=6), MODULE.local(size=4))
    with pytest.raises(
        AssertionError, match=r"local: out for Shape\(n=65.* in float32 differs from the reference in \d+ "
    ):
        assert_matches_reference(planted)
    assert_matches_reference(planted, shapes=[Shape(3)])  # there the two are the same


class Spoiled(attnc.Attention):
    """Its kernels' output, log-sum-exp or gradient of v is no number, in one place; it is so without its score, too."""

    def __init__(self, right: attnc.Attention, what: str, value: float) -> None:
        super().__init__(right._bound)
        self.right, self.what, self.value = right, what, value

    def _spoil(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.zeros_like(x)
        place.view(-1)[-1] = self.value
        return x + place

    def __call__(self, q: Any, k: Any, v: Any, **named: Any) -> Any:
        if self.what == "gradient" and v.requires_grad:
            v.register_hook(self._spoil)
        out, lse = self.right(q, k, v, **named)
        return self._spoil(out) if self.what == "out" else out, self._spoil(lse) if self.what == "lse" else lse


@pytest.mark.parametrize("what", ["out", "lse", "gradient"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_told(what: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = Spoiled(MODULE.twice(), what, value)
    with pytest.raises(AssertionError, match=rf"twice: .*{what}.* differs from the reference in 1 of"):
        assert_matches_reference(spoiled)
    monkeypatch.setattr("attnc.testing.agreement._without_score", lambda _: spoiled)
    words = {"out": "sum of kept values", "lse": "number of kept pairs", "gradient": "gradient of the values"}
    with pytest.raises(AssertionError, match=f"{words[what]}.* is (nan|inf), expected"):
        assert_support(spoiled)


class LostGradient(torch.autograd.Function):
    """The identity, with a gradient that is off by a thousandth."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * 1.001


def test_a_wrong_gradient_is_told() -> None:
    right = MODULE.holes()

    class Wrong(attnc.Attention):
        def __call__(self, q: Any, k: Any, v: Any, **named: Any) -> Any:
            return right(q, LostGradient.apply(k), v, **named)

    with pytest.raises(AssertionError, match="holes: the gradient of k for"):
        assert_matches_reference(Wrong(right._bound))
    assert_matches_reference(Wrong(right._bound), backward=False)


@pytest.mark.parametrize("one", ["k == q - 100", "k == q - 100 and q == 300", "k == 7 and q == 380"])
def test_one_pair_is_seen(one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "pattern less = causal and not ({0})\npattern all_of_it = causal and ({0} or k <= q)"
    module = attnc.loads(text.format(one))
    less, whole = module.less(), module.all_of_it()
    assert_support(less, shapes=[Shape(400)])
    for says, runs in ((whole, less), (less, whole)):
        # The support test makes an attention of its own from the mask that is claimed: give it the other's kernels.
        with monkeypatch.context() as patched:
            patched.setattr(
                "attnc.testing.agreement._without_score", lambda _, says=says, runs=runs: Planted(says, runs)
            )
            with pytest.raises(
                AssertionError, match=r"the number of kept pairs is .* at batch entry 0, head 0, query row"
            ):
                assert_support(says, shapes=[Shape(400)])


# -- strategies ----------------------------------------------------------------------------------------------------


@given(data=st.data(), attend=patterns(with_counts=True), shape=shapes(40))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_random_patterns_at_random_calls(data: st.DataObject, attend: Any, shape: Shape) -> None:
    held = data.draw(tables(attend, shape))
    assert attnc.loads(attend.text).drawn().tables == attend.tables
    assert attend.text in repr(attend)
    mask = attend.mask(shape.n, shape.rows, heads=shape.heads, q_start=shape.q_start, **held)
    assert mask.shape[-3:] == (shape.heads, shape.rows, shape.n)
    assert_matches_reference(attend, shapes=[shape], **held)


@given(data=st.data(), shape=shapes(30, heads=(3,)))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_tables_of_every_type_fit(data: st.DataObject, shape: Shape) -> None:
    assert shape.heads == 3
    assert 1 <= shape.n <= 30
    attend = MODULE.everything()
    held = data.draw(tables(attend, shape))
    assert set(held) == set(attend.tables)
    order = held["f"].long()
    assert torch.equal(order.sort().values, torch.arange(shape.n).expand_as(order))
    assert_matches_reference(attend, shapes=[shape], backward=False, **held)


def test_nothing_heavy_comes_with_the_module() -> None:
    code = "import sys, attnc.testing; print([n for n in ('torch', 'hypothesis', 'lark') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


# -- the page ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the page."""
    fences = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert {language for language, *_ in fences} == {"attn", "console", "python", "toml"}
    assert PAGE.count("```") == 2 * len(fences)
    for _, file, text in fences:
        if file:
            (tmp_path / file).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_page_print_what_it_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"^```console\n\$ attnc (.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
    assert len(shown) == 3
    for command, expected in shown:
        code = main.run(command.split())
        out = capsys.readouterr().out
        assert (out, code) == (expected, int("failed:" in expected))


def test_the_tests_of_the_page_pass(folder: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "PYTHONPATH": str(ROOT), "ATTNC_BACKEND": "blocked", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "attnc.testing.pytest_plugin", "-p", "no:cacheprovider", "-q"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].startswith("10 passed"), done.stdout + done.stderr
