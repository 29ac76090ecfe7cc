"""The Python reference that ships with Python, cut into documents of four chapters, and a tokenizer trained on it.

A chapter's text is cut at blank lines into passages; every fourth passage is held out, and the tokenizer sees the
others alone. A document begins at a passage and reads on through its chapter's passages of the same part, from the last
on to the first, until it is as long as a document may be or has been once around.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics

from tokenizers import ByteLevelBPETokenizer

START, PAD, END, UNKNOWN, MASK = range(5)  # as RoBERTa counts them
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
HELD_OUT = 4  # one passage of so many

# The sections of each chapter, in the reference's order, without those that stand within another.
CHAPTERS: Mapping[str, tuple[str, ...]] = {
    "data model": ("objects", "types", "specialnames"),
    "expressions": (
        "conversions", "atom-identifiers", "atom-literals", "lists", "dict", "attribute-references", "subscriptions",
        "slicings", "calls", "await", "power", "unary", "binary", "shifting", "bitwise", "comparisons", "booleans",
        "lambda", "exprlists", "operator-summary",
    ),
    "simple statements": (
        "assert", "assignment", "del", "pass", "return", "yield", "raise", "break", "continue", "import", "global",
        "nonlocal",
    ),
    "compound statements": ("compound",),
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    """Tokens with ``<s>`` and ``</s>`` around them, and the number of the chapter they are of."""

    ids: tuple[int, ...]
    chapter: int


@dataclass(frozen=True)
class Part:
    """The passages of one chapter that are for one purpose: their number, their tokens, the documents they make."""

    passages: int
    tokens: int
    documents: tuple[Document, ...]


@dataclass(frozen=True)
class Corpus:
    """For each chapter what is learned from and what is held out; ``vocabulary`` is the tokenizer's size."""

    training: tuple[Part, ...]
    held_out: tuple[Part, ...]
    vocabulary: int


def passages(sections: Sequence[str], characters: int) -> list[str]:
    """The text of some sections, cut at blank lines into pieces of at least so many characters, but for the last."""
    found, piece = [], ""
    for section in sections:
        for paragraph in topics[section].split("\n\n"):
            piece += paragraph + "\n\n"
            if len(piece) >= characters:
                found.append(piece)
                piece = ""
    return [*found, piece] if piece else found


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> ByteLevelBPETokenizer:
    """RoBERTa's kind: pairs of bytes merged by frequency, up to ``vocabulary`` tokens with the special ones first."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    return tokenizer


def documents_of(encoded: Sequence[Sequence[int]], chapter: int, length: int) -> Iterator[Document]:
    """One document for each passage of a chapter's part, ``length`` tokens at most."""
    for first in range(len(encoded)):
        ids = [token for piece in (*encoded[first:], *encoded[:first]) for token in piece]
        yield Document((START, *ids[: length - 2], END), chapter)


def read_corpus(vocabulary: int, characters: int, length: int) -> Corpus:
    """The documents of all chapters, of at most ``length`` tokens, from passages of at least so many characters."""
    kept: list[list[str]] = []
    left: list[list[str]] = []
    for sections in CHAPTERS.values():
        pieces = passages(sections, characters)
        kept.append([piece for number, piece in enumerate(pieces, 1) if number % HELD_OUT])
        left.append(pieces[HELD_OUT - 1 :: HELD_OUT])
    tokenizer = train_tokenizer([piece for pieces in kept for piece in pieces], vocabulary)

    def part(chapter: int, pieces: list[str]) -> Part:
        encoded = [each.ids for each in tokenizer.encode_batch(pieces)]
        return Part(len(pieces), sum(map(len, encoded)), tuple(documents_of(encoded, chapter, length)))

    training, held_out = (tuple(part(*each) for each in enumerate(pieces)) for pieces in (kept, left))
    return Corpus(training, held_out, tokenizer.get_vocab_size())


def draw_steps(training: Sequence[Part], steps: int, tokens: int, seed: int) -> list[list[Document]]:
    """The documents of each optimiser step: as many as it takes to hold ``tokens``, the chapters in turn.

    The chapters are shuffled for each turn, and so are the documents of a chapter for each time that all were read.
    """
    draw = random.Random(seed)
    turn: list[int] = []
    unread: list[list[Document]] = [[] for _ in training]
    drawn = []
    for _ in range(steps):
        step: list[Document] = []
        while sum(len(document.ids) for document in step) < tokens:
            turn = turn or draw.sample(range(len(training)), len(training))
            chapter = turn.pop()
            unread[chapter] = unread[chapter] or draw.sample(
                training[chapter].documents, len(training[chapter].documents)
            )
            step.append(unread[chapter].pop())
        drawn.append(step)
    return drawn
