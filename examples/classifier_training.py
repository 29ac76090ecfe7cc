"""Trains a classifier of documents step by step, as one fine-tunes, and says what each step cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from longformer_agreement import Run
from peak_memory import peak_memory
from python_reference import PAD, Document
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LongformerForSequenceClassification, RobertaForSequenceClassification

Classifier = LongformerForSequenceClassification | RobertaForSequenceClassification


@dataclass(frozen=True)
class Schedule:
    """``rate`` is the encoder's, ``head_rate`` the classification head's, both at the end of the warm-up."""

    steps: int
    warm_up: int
    rate: float
    head_rate: float

    def share(self, step: int) -> float:
        """The share of a rate at a step, counted from 0: up to 1 over the warm-up, then down towards 0, linearly."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        return (self.steps - step) / (self.steps - self.warm_up)


@dataclass(frozen=True)
class Batch:
    """Documents padded to one length, each int64 ``[documents, length]``, and their chapters ``[documents]``."""

    input_ids: Tensor
    attention_mask: Tensor
    global_attention_mask: Tensor
    chapters: Tensor


@dataclass(frozen=True)
class Step:
    """One optimiser step, or one pass without an update; ``peak`` in bytes beyond weights and optimiser, or None."""

    loss: float
    tokens: int
    seconds: float
    peak: int | None


@dataclass(frozen=True)
class Score:
    """Over the held-out documents: means over chapters, each the mean over the chapter's documents."""

    loss: float
    accuracy: float


@dataclass
class Side:
    """One of the models that are compared, and what was measured of it: ``scores`` by the steps taken before."""

    name: str
    model: Classifier
    schedule: Schedule
    steps: list[Step] = field(default_factory=list)
    scores: dict[int, Score] = field(default_factory=dict)

    def __post_init__(self) -> None:
        head = list(self.model.classifier.parameters())
        of_head = set(map(id, head))
        encoder = [parameter for parameter in self.model.parameters() if id(parameter) not in of_head]
        groups = [
            {"params": encoder, "lr": self.schedule.rate},
            {"params": head, "lr": self.schedule.head_rate},
        ]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
        self.rates = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self.schedule.share)

    @property
    def _measured(self) -> list[Step]:
        """All steps but the first, in which the optimiser's state is made, unless it is the only one."""
        return self.steps[1:] or self.steps

    @property
    def seconds(self) -> float:
        """The median of a step."""
        return statistics.median(step.seconds for step in self._measured)

    @property
    def peak(self) -> int | None:
        """The largest of the steps', in bytes."""
        known = [step.peak for step in self._measured if step.peak is not None]
        return max(known) if known else None


def make_batch(documents: Sequence[Document], multiple: int = 1) -> Batch:
    """Padded to the longest, and to a multiple. The first token is global: it stands for the document."""
    length = -(-max(len(document.ids) for document in documents) // multiple) * multiple
    ids = torch.tensor([[*document.ids, *[PAD] * (length - len(document.ids))] for document in documents])
    is_global = torch.zeros_like(ids)
    is_global[:, 0] = 1
    return Batch(ids, (ids != PAD).long(), is_global, torch.tensor([document.chapter for document in documents]))


def logits_of(model: Classifier, batch: Batch) -> Tensor:
    """``[documents, chapters]``. A model with full attention has no global tokens: all of its tokens are."""
    given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if isinstance(model, LongformerForSequenceClassification):
        given["global_attention_mask"] = batch.global_attention_mask
    logits: Tensor = model(**given).logits
    return logits


def accumulate(model: Classifier, documents: Sequence[Document], advance: Callable[[], None]) -> tuple[float, Run]:
    """The mean loss over the documents, one forward and backward for each, and a Run whose output are all logits.

    The gradients stay in the model, too.
    """
    losses, outputs, forward, backward = [], [], 0.0, 0.0
    for document in documents:
        start = time.perf_counter()
        batch = make_batch([document])
        logits = logits_of(model, batch)
        loss = cross_entropy(logits, batch.chapters)
        middle = time.perf_counter()
        (loss / len(documents)).backward()
        forward, backward = forward + middle - start, backward + time.perf_counter() - middle
        losses.append(loss.item())
        outputs.append(logits.detach())
        advance()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return statistics.fmean(losses), Run(torch.cat(outputs), gradients, forward, backward)


def train_step(side: Side, documents: Sequence[Document], advance: Callable[[], None]) -> None:
    """One optimiser step from the accumulated gradients of the documents, measured."""
    side.model.train()
    with peak_memory() as peak:
        start = time.perf_counter()
        loss, _ = accumulate(side.model, documents, advance)
        nn.utils.clip_grad_norm_(side.model.parameters(), 1.0)
        side.optimiser.step()
        side.rates.step()
        side.optimiser.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - start
    tokens = sum(len(document.ids) for document in documents)
    side.steps.append(Step(loss, tokens, seconds, peak.bytes))


def batches(documents: Sequence[Document], at_once: int, multiple: int) -> Iterator[Batch]:
    """All documents, those of like lengths together."""
    ordered = sorted(documents, key=lambda document: len(document.ids))
    for first in range(0, len(ordered), at_once):
        yield make_batch(ordered[first : first + at_once], multiple)


@torch.no_grad()
def evaluate(
    side: Side, documents: Sequence[Document], at_once: int, multiple: int, advance: Callable[[], None]
) -> None:
    """Adds the score over held-out documents to the side's."""
    side.model.eval()
    found: dict[int, list[tuple[float, float]]] = {}
    for batch in batches(documents, at_once, multiple):
        logits = logits_of(side.model, batch)
        losses = cross_entropy(logits, batch.chapters, reduction="none").tolist()
        right = (logits.argmax(-1) == batch.chapters).double().tolist()
        for chapter, *pair in zip(batch.chapters.tolist(), losses, right, strict=True):
            found.setdefault(chapter, []).append((pair[0], pair[1]))
        advance()
    chapters = [tuple(map(statistics.fmean, zip(*pairs, strict=True))) for pairs in found.values()]
    loss, accuracy = map(statistics.fmean, zip(*chapters, strict=True))
    side.scores[len(side.steps)] = Score(loss, accuracy)
