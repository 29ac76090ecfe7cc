"""The examples with figures at a small size, by the code that their commands run, and the faults that they find."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

import attnc
from attnc.compiler.modules.loader import bound_tests, load_file
from attnc.compiler.verify.claims import run_test

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
RECORDED = ("character_model", "digits_neighbourhood", "reformer_64k", "video_block")
PICTURES = ROOT / "docs" / "pictures"
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example() -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script as it is when it is run, its own folder first on the path; no kernel is built.

    One thread: at these sizes a second waits longer for the first than it helps.
    """
    sys.path.insert(0, str(EXAMPLES))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
            with attnc.settings.override(backend="blocked"):
                yield importlib.import_module
    finally:
        torch.set_num_threads(threads)
        sys.path.remove(str(EXAMPLES))


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.attn")), ids=lambda path: path.stem)
def test_the_patterns_of_the_examples_pass_their_tests(path: Path) -> None:
    outcomes = [outcome for test in bound_tests(load_file(path)) for outcome in run_test(test)]
    assert len(outcomes) > 3
    assert [outcome.message for outcome in outcomes if outcome.verdict != "passed"] == []


def test_the_character_model_learns_beside_full_attention(example: Any, tmp_path: Path) -> None:
    module, console = example("character_model"), quiet()
    report = module.main(module.SMALL, console, tmp_path / "masks.png")
    steps = module.SMALL.steps
    for side in (report.windows, report.full):
        assert len(side.seconds) == len(side.bits) == 2 * steps
        assert list(side.scores) == [steps, 2 * steps]
        assert side.bits[-1] < side.bits[0]
    assert report.windows.bits[0] != pytest.approx(report.full.bits[0], abs=1e-6)
    with Image.open(tmp_path / "masks.png") as image:
        assert image.width > 500
    for expected in ("model characters", "layer 5, head 0", "bits per character, held out", " 64  ", " 128  "):
        assert expected in shown(console)


def test_another_dilation_of_the_character_model_is_found(example: Any) -> None:
    module = example("character_model")
    corpus, small = module.read_corpus(), module.SMALL
    masks = module.published_masks(small, 0, small.check_length)
    assert masks[5][0, 39].nonzero().flatten().tolist() == [*range(11, 40, 4)]
    masks[5][0] = masks[5][1]
    with pytest.raises(module.DisagreementError, match="of the largest"):
        module.check(small, corpus, masks)


def test_windows_and_texts_double_and_rates_halve(example: Any) -> None:
    module = example("character_model")
    setup = module.Setup()
    corpus = module.read_corpus()
    texts = [module.draw_texts(corpus, setup, phase * setup.steps) for phase in range(3)]
    assert [text.shape for text in texts] == [(4, 1025), (2, 2049), (1, 4097)]
    assert module.rate_at(setup, setup.steps - 1) == 2 * module.rate_at(setup, setup.steps) == setup.rate
    assert [len(setup.attentions(phase)) for phase in range(3)] == [6, 6, 6]
    sizes = [int(setup.attentions(phase)[5].mask(4096, 1, heads=4, q_start=4095)[1].sum()) for phase in range(3)]
    assert sizes == [128, 256, 512]
    assert len(corpus.held_out) > setup.evaluated
    learned = bytes(corpus.training.tolist())
    assert not any(bytes(corpus.held_out[at : at + 200].tolist()) in learned for at in range(0, 20_000, 500))


def stand_in(number: int = 120) -> Any:
    """Images that a wheel would hold: bright bars whose place is the label; the real ones are not in the repository."""
    labels = torch.arange(number) % 8
    images = torch.zeros(number, 8, 8)
    images[torch.arange(number), labels] = 1.0
    return images, labels


def test_the_neighbourhood_and_dense_attention_see_the_same_digits(example: Any, tmp_path: Path) -> None:
    """On a stand-in for the digits, so that no package is needed."""
    module, console = example("digits_neighbourhood"), quiet()
    report = module.main(module.Digits(*stand_in()), module.SMALL, console, tmp_path / "keys.png")
    for side in (report.near, report.dense):
        assert len(side.losses) == module.SMALL.steps
        assert list(side.accuracies) == [0, 2, 4]
    assert report.near.losses[0] != report.dense.losses[0]
    with Image.open(tmp_path / "keys.png") as image:
        assert image.width > 500
    for expected in ("what a pixel sees: 3 x 3", "accuracy on held-out digits", "dense: a step takes"):
        assert expected in shown(console)


def test_another_neighbourhood_is_found(example: Any) -> None:
    module = example("digits_neighbourhood")
    wrong = replace(module.SMALL, window=5).pattern
    with pytest.raises(module.DisagreementError, match="kernels and dense definition differ"):
        module.check(module.SMALL, wrong)


def test_digits_are_read_from_a_wheel_and_tiled_in_order(example: Any, tmp_path: Path) -> None:
    module = example("digits_neighbourhood")
    lines = "\n".join(",".join(str((number + at) % 17) for at in range(64)) + f",{number % 10}" for number in range(30))
    packed = gzip.compress(lines.encode())
    (tmp_path / "digits.csv.gz").write_bytes(packed)
    with zipfile.ZipFile(tmp_path / "scikit_learn-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(module.MEMBER, packed)
    for path in tmp_path.iterdir():
        digits = module.read_digits(path)
        assert digits.images.shape == (30, 8, 8)
        assert digits.images[2, 0, :3].tolist() == [2 / 16, 3 / 16, 4 / 16]
        assert digits.labels.tolist() == [number % 10 for number in range(30)]
    assert [len(digits.part(held_out).labels) for held_out in (False, True)] == [24, 6]
    pixels, labels = module.tiled(digits, module.SMALL)  # 2 by 2, as large as they are
    image = pixels[1].view(16, 16)
    assert labels[1].tolist() == [4, 5, 6, 7]
    assert torch.equal(image[:8, 8:], digits.images[5])
    assert torch.equal(image[8:, :8], digits.images[6])
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(b"1,2,3\n4,5,6"))
    with pytest.raises(ValueError, match="64 pixels and a label"):
        module.read_digits(tmp_path / "digits.csv.gz")


def test_digits_that_are_not_there_are_told(example: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = example("digits_neighbourhood")
    monkeypatch.setattr(module, "WHEELS", tmp_path)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="make digits"):
        module.find_digits()
    assert module.run([]) == 1


def test_both_reformers_give_the_same_gradients(example: Any) -> None:
    module, console = example("reformer_64k"), quiet()
    report = module.main(module.SMALL, console, apart=False)
    assert [(row.side, row.n) for row in report.measured] == [
        (side, n) for n in module.SMALL.lengths for side in (module.ATTNC, module.OWN)
    ]
    for mine, own in zip(report.measured[::2], report.measured[1::2], strict=True):
        assert mine.finished
        assert mine.loss == pytest.approx(own.loss, rel=1e-5)
    assert "peak memory and time of a training step" in shown(console)


def test_a_chunk_too_many_is_found(example: Any) -> None:
    module = example("reformer_64k")
    with pytest.raises(module.DisagreementError, match="of its largest"):
        module.check(module.SMALL, widened=1)


@pytest.mark.skipif(sys.platform != "linux", reason="the bound on a process's memory is Linux's")
def test_a_process_that_may_hold_too_little_says_so(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 256 tokens does not fit in what is allowed; in a process of its own, which is bounded for good."""
    module = example("reformer_64k")
    monkeypatch.setenv("ATTNC_BACKEND", "blocked")
    found = module.measure_apart(replace(module.SMALL, hidden=64), module.OWN, 2048, limit=2)
    assert not found.finished
    assert module.figure(asdict(found)) == "out of memory"


def test_a_video_block_equals_the_published_mask(example: Any, tmp_path: Path) -> None:
    module, console = example("video_block"), quiet()
    report = module.main(module.SMALL, console, tmp_path / "frames.png")
    assert set(report.differences) == {"the dense definition", "the published mask", module.MASKED}
    assert report.share == pytest.approx(27 / (4 * 4 * 8))
    for times in report.seconds.values():
        assert len(times["forward"]) == len(times["backward"]) == 2
    with Image.open(tmp_path / "frames.png") as image:
        assert image.width > 500
    assert "keys of the token in frame 0, line 0, column 0: 216 of 512" in shown(console)


def test_a_cube_too_many_is_found(example: Any) -> None:
    module = example("video_block")
    setup = replace(module.SMALL, compared=module.Video(10, 10, 10, tile=2))
    with pytest.raises(module.DisagreementError, match="the mask is not the published one"):
        module.main(setup, quiet(), wrong_span=1)


@pytest.mark.parametrize("name", RECORDED)
def test_the_page_holds_what_was_measured(example: Any, name: str) -> None:
    """The page's section is made from the results."""
    figures, module = example("figures"), example(name)
    section = module.table(figures.recorded(name))
    assert figures.renewed(PAGE, name, section) == PAGE
    assert all((PICTURES / file).is_file() for file in re.findall(r"\(pictures/(.*?)\)", section))


def test_a_section_takes_the_place_of_the_one_before(example: Any) -> None:
    figures = example("figures")
    page = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n"
    assert figures.renewed(page, "x", "new") == "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n"
    with pytest.raises(ValueError, match="no section y"):
        figures.renewed(page, "y", "new")


def test_curves_are_drawn_where_their_points_are(example: Any) -> None:
    figures = example("figures")
    across, up = figures.linear_axis("steps", [0, 10]), figures.doubling_axis("MiB", [1, 4])
    assert [across.place(value) for value in (0, 5, 10)] == [0, 0.5, 1]
    assert [up.place(value) for value in (1, 2, 4)] == [0, 0.5, 1]
    flat = figures.Curve("flat", [(0, 2), (10, 2)])
    image = figures.plot("a title", across, up, [flat])
    inner = (figures.WIDTH - figures.LEFT - figures.RIGHT, figures.HEIGHT - figures.TOP - figures.BOTTOM)
    middle = (figures.LEFT + inner[0] // 2, figures.TOP + inner[1] // 2)
    red, _, blue = image.getpixel(middle)
    assert blue > red + 60
    red, _, blue = image.getpixel((middle[0] + 9, middle[1] + 20))
    assert red == blue == 255


def test_results_say_what_they_depend_on(example: Any, tmp_path: Path) -> None:
    figures = example("figures")
    figures.record("x", {"rows": [1]}, "", tmp_path)
    kept = json.loads((tmp_path / "x.json").read_text())
    assert kept["rows"] == [1]
    assert set(kept["settings"]) == {"torch", "python", "threads", "vectors"}
