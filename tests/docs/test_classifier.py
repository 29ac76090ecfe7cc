"""The fine-tuning example at a small size, by the code that its command runs, and what its figures rest on."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    """The script as it is when it is run: its own folder comes first on the path."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
            import longformer_classifier
        yield longformer_classifier
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def corpus(example: ModuleType) -> Any:
    return example.read_corpus(300, 1500, 512)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=120)


def test_the_example_trains_both_from_the_same_weights(example: ModuleType, tmp_path: Path) -> None:
    small, console = example.SMALL, quiet()
    report = example.main(small, tmp_path / "masks.png", console=console)
    assert all(difference.holds for difference in report.differences)
    names = {difference.name for difference in report.differences}
    assert {"logits", "logits, windows over the whole text", "classifier.out_proj.weight"} <= names
    assert report.launched == {"cpp.forward": 2 * 2 * 4, "cpp.backward": 2 * 2 * 4}  # kinds of rows, layers, documents
    for side, steps in ((report.windowed, small.steps), (report.full, small.steps), (report.library, 1)):
        assert [one.tokens for one in side.steps] == [small.step_tokens] * steps
    assert list(report.windowed.scores) == list(report.full.scores) == [0, small.steps]
    assert report.windowed.steps[0].loss == pytest.approx(report.library.steps[0].loss, abs=1e-5)
    assert report.windowed.steps[0].loss != pytest.approx(report.full.steps[0].loss, abs=1e-5)
    assert report.windowed.scores[small.steps].loss < report.windowed.scores[0].loss
    assert report.full.scores[small.steps].loss < report.full.scores[0].loss
    with Image.open(tmp_path / "masks.png") as image:
        assert image.width > 3 * 100
    shown = console.file.getvalue()
    for expected in ("compound statements", "layer 1: 32", "logits", "held-out loss", "a step of 1,024 tokens"):
        assert expected in shown


def test_a_window_off_by_one_is_found(example: ModuleType) -> None:
    with pytest.raises(example.DisagreementError, match="tensors differ"):
        example.main(dataclasses.replace(example.SMALL, windows=(16, 16)), window_error=1, console=quiet())


def test_full_attention_with_other_weights_is_found(example: ModuleType, corpus: Any) -> None:
    torch.manual_seed(0)
    own, full = example.build_models(example.SMALL, corpus.vocabulary)
    documents = [example.Document(corpus.training[0].documents[0].ids[:60], 0)]
    assert example.compare_full(own, full, documents).holds
    with torch.no_grad():
        full.roberta.encoder.layer[0].attention.self.key.weight[3, 5] += 0.01
    assert not example.compare_full(own, full, documents).holds


def test_the_default_is_what_the_page_says(example: ModuleType) -> None:
    setup = example.Setup()
    assert 1e-5 <= setup.rate <= 3e-5
    assert setup.step_tokens == 16_384 == 4 * setup.length
    assert len(set(setup.windows)) == len(setup.windows)
    schedule = example.Schedule(steps=10, warm_up=4, rate=setup.rate, head_rate=setup.head_rate)
    assert [schedule.share(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    falling = [schedule.share(step) for step in range(4, 11)]
    assert falling == [1.0, *(pytest.approx(left / 6) for left in range(5, -1, -1))]


def test_nothing_held_out_is_learned_from(corpus: Any) -> None:
    for training, held_out in zip(corpus.training, corpus.held_out, strict=True):
        assert training.passages == len(training.documents) > 2 * len(held_out.documents) > 0
        learned = {doc.ids[at : at + 40] for doc in training.documents for at in range(1, len(doc.ids) - 40)}
        assert learned
        for document in held_out.documents:
            assert not any(document.ids[at : at + 40] in learned for at in range(1, len(document.ids) - 40))


def test_documents_are_framed_and_cut(corpus: Any) -> None:
    for number, part in enumerate(corpus.training):
        assert {document.chapter for document in part.documents} == {number}
        for document in part.documents:
            assert len(document.ids) == 512
            assert (document.ids[0], document.ids[-1]) == (0, 2)
            assert min(document.ids[1:-1]) >= 5
    assert corpus.vocabulary == 300


def test_a_short_part_is_read_once_around(example: ModuleType) -> None:
    import python_reference

    found = list(python_reference.documents_of([[5, 6], [7], [8, 9]], 1, 6))
    assert [document.ids for document in found] == [(0, 5, 6, 7, 8, 2), (0, 7, 8, 9, 5, 2), (0, 8, 9, 5, 6, 2)]
    assert [document.ids for document in python_reference.documents_of([[5, 6], [7]], 1, 9)][1] == (0, 7, 5, 6, 2)


def test_steps_hold_their_tokens_and_every_chapter(example: ModuleType, corpus: Any) -> None:
    steps = example.draw_steps(corpus.training, 30, 2048, seed=3)
    assert steps == example.draw_steps(corpus.training, 30, 2048, seed=3)
    assert steps != example.draw_steps(corpus.training, 30, 2048, seed=4)
    for documents in steps:
        assert sum(len(document.ids) for document in documents) == 2048
        assert sorted(document.chapter for document in documents) == [0, 1, 2, 3]
    read = Counter(document for documents in steps for document in documents)
    for part in corpus.training:
        times = [read[document] for document in part.documents]
        assert max(times) - min(times) <= 1  # none again before all were read


def test_gradients_add_up_to_those_of_the_mean_loss(example: ModuleType, corpus: Any) -> None:
    import classifier_training

    torch.manual_seed(0)
    _, full = example.build_models(example.SMALL, corpus.vocabulary)
    documents = [dataclasses.replace(part.documents[0], ids=part.documents[0].ids[:40]) for part in corpus.training]
    loss, run = example.accumulate(full, documents, lambda: None)
    gradients = {name: gradient.clone() for name, gradient in run.gradients.items()}
    full.zero_grad()
    batch = classifier_training.make_batch(documents)
    logits = classifier_training.logits_of(full, batch)
    whole = nn.functional.cross_entropy(logits, batch.chapters)
    whole.backward()
    assert loss == pytest.approx(whole.item(), abs=1e-6)
    torch.testing.assert_close(run.output, logits.detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in full.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


class FirstToken(nn.Module):
    """Says the chapter that is written after ``<s>``, and fails where padding is not told."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Linear(1, 1)
        self.lengths: list[tuple[int, int]] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        assert torch.equal(attention_mask, (input_ids != 1).long())
        self.lengths.append(tuple(input_ids.shape))
        return SimpleNamespace(logits=100.0 * nn.functional.one_hot(input_ids[:, 1] - 10, 4))


def test_a_score_is_the_mean_over_the_chapters(example: ModuleType) -> None:
    model = FirstToken()
    side = example.Side("first token", model, example.Schedule(steps=1, warm_up=1, rate=1e-5, head_rate=1e-5))
    right = [example.Document((0, 10, *[7] * length, 2), 0) for length in (1, 9, 4)]
    wrong = [example.Document((0, 13, 2), 2)]
    example.evaluate(side, [*right, *wrong], 2, 4, lambda: None)
    assert model.lengths == [(2, 4), (2, 12)]  # the short ones together, to a multiple of four
    assert side.scores == {0: example_score(0.5, 50.0)}


def example_score(accuracy: float, loss: float) -> Any:
    import classifier_training

    return classifier_training.Score(pytest.approx(loss), pytest.approx(accuracy))


PEAKS = """
from peak_memory import peak_memory

before = bytearray(b"x") * (24 << 20)
with peak_memory() as large:
    del before
    _ = len(bytearray(b"x") * (64 << 20))
with peak_memory() as small:
    _ = len(bytearray(b"x") * (8 << 20))
print(large.bytes, small.bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the mark of the most memory held is Linux's")
def test_the_peak_counts_what_is_freed_and_not_what_was_there() -> None:
    """In a process of its own: pages of libraries that Linux takes back from a large one would hide the eight MiB."""
    ran = subprocess.run([sys.executable, "-c", PEAKS], cwd=EXAMPLES, capture_output=True, text=True, check=True)
    large, small = map(int, ran.stdout.split())
    assert large == pytest.approx(40 << 20, abs=4 << 20)
    assert small == pytest.approx(8 << 20, abs=4 << 20)


@pytest.mark.parametrize(("output", "said"), [("masks.jpg", "is no picture"), ("nowhere/masks.png", "no folder")])
def test_a_picture_that_cannot_be_written_is_told_at_once(
    example: ModuleType, capsys: pytest.CaptureFixture[str], output: str, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        example.run(["-o", output])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
