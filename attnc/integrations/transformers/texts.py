"""Conditions written as ``.attn`` text, with the tables that the text reads; texts as attentions, each made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b

import torch
from torch import Tensor

from ... import loads
from ...attention import Attention
from . import traced_attentions
from .conditions import (
    Behind,
    Both,
    Causal,
    Condition,
    Either,
    Everything,
    KeptKey,
    MaskSizes,
    Near,
    Opaque,
    Position,
    Remapped,
    SameChunk,
    SameGroup,
    is_translation_invariant,
)
from .evaluation import evaluate


@dataclass(frozen=True, eq=False)
class Written:
    """A condition as text. ``types``: the type of each table that it reads, by name; ``tables``: these tables.

    ``q_start``: the position of the first query as the text counts, where keys are counted from 0.
    """

    condition: str
    types: Mapping[str, str]
    tables: Mapping[str, Tensor]
    q_start: Position


def write(condition: Condition, sizes: MaskSizes) -> Written:
    """The text of a condition, for a call of these sizes."""
    key, q_start = _of_a_part(condition, sizes)
    writer = _Writer(sizes, key)
    text = writer.written(condition)
    if key != "k":
        writer.table("key_start", "int[]", _scalar(sizes.kv_offset, sizes.device))
    return Written(text, dict(writer.types), dict(writer.tables), q_start)


def _of_a_part(condition: Condition, sizes: MaskSizes) -> tuple[str, Position]:
    """The position of a key as the text has it, and ``q_start`` of the call, where keys are a part of the whole.

    Key 0 of the call is the first that there is. If the condition reads distances alone, queries are counted from it,
    and a sliding cache that is full has the same plan at every step; else the text adds ``key_start`` to ``k``. The
    call's own ``k_start`` would count the columns of every other table from the first key of all: of biases, of keys
    that a layer has chosen, of masks that are tables. These come with a column for each key that there is.
    """
    parts = condition.parts if isinstance(condition, Both) else (condition,)
    by_key = KeptKey | Opaque  # tables with a column for each key
    if isinstance(sizes.kv_offset, int) and sizes.kv_offset == 0:
        key, start = "k", sizes.q_offset
    elif all(isinstance(part, by_key) or is_translation_invariant(part) for part in parts):
        key, start = "k", sizes.q_offset - sizes.kv_offset
    else:
        key, start = "k + key_start", sizes.q_offset
    return key, start.to(sizes.device).reshape(-1).expand(sizes.batch) if isinstance(start, Tensor) else start


def with_table(written: Written, name: str, kind: str, tensor: Tensor, condition: str) -> Written:
    """A text with one more condition, which reads one more table."""
    assert name not in written.types
    both = f"{conjunct(written.condition)} and {condition}" if written.condition != "full" else condition
    types, tables = {**written.types, name: kind}, {**written.tables, name: tensor}
    return Written(both, types, tables, written.q_start)


def conjunct(text: str) -> str:
    """A condition as it may stand beside ``and``."""
    return f"({text})" if " or " in text else text


class _Writer:
    """Collects the tables while a condition is written, pairs at ``q`` and ``key``."""

    def __init__(self, sizes: MaskSizes, key: str) -> None:
        self.sizes, self.key = sizes, key
        self.types: dict[str, str] = {}
        self.tables: dict[str, Tensor] = {}

    def table(self, name: str, kind: str, tensor: Tensor) -> str:
        """Notes a table, and returns the name that the text has for it; a tensor noted before keeps its name."""
        for known, other in self.tables.items():
            if other is tensor and self.types[known] == kind:
                return known
        free = name
        number = 2
        while free in self.tables:
            free, number = f"{name}{number}", number + 1
        self.types[free], self.tables[free] = kind, tensor
        return free

    def written(self, condition: Condition, q: str = "q", k: str | None = None) -> str:
        """The text of a condition about the positions that ``q`` and ``k`` are the texts of."""
        k = self.key if k is None else k
        match condition:
            case Everything():
                return "full"
            case Causal():
                return "causal" if (q, k) == ("q", "k") else f"{k} <= {q}"
            case Behind(size):
                return f"{q} - {_group(k)} < {size}"
            case Near(size):
                return f"abs({q} - {_group(k)}) <= {size}"
            case SameChunk(size, left):
                return self._chunk(size, left, q, k)
            case SameGroup(ids, signed):
                return self._same_group(ids, signed, q, k)
            case KeptKey(keep):
                return self._kept(keep, k)
            case Both(parts):
                return self._joined("and", parts, q, k)
            case Either(parts):
                return self._joined("or", parts, q, k)
            case Remapped(inner, positions, function):
                return self._remapped(inner, positions, function, q, k)
            case Opaque(function):
                allowed = evaluate(function, self.sizes)
                return f"{self.table('allowed', 'bool[query, token]', allowed)}[q, k]"

    def _joined(self, word: str, parts: Sequence[Condition], q: str, k: str) -> str:
        """Parts joined by ``and`` or ``or``; a causal window is written by its name."""
        windows = [part for part in parts if isinstance(part, Behind)]
        named = word == "and" and (q, k) == ("q", "k") and len(windows) == 1 and Causal() in parts
        written = []
        for part in parts:
            if named and part is windows[0]:
                text = f"causal_window({windows[0].size})"
            elif named and isinstance(part, Causal):
                continue
            else:
                text = self.written(part, q, k)
            other = " or " if word == "and" else " and "
            if text != "full" or word == "or":
                written.append(f"({text})" if other in text else text)
        return f" {word} ".join(written) if written else "full"

    def _chunk(self, size: int, left: Tensor, q: str, k: str) -> str:
        left = left.to(torch.int32)
        if left.device.type == "cpu" and not bool(left.any()):
            return f"blocks({size})" if (q, k) == ("q", "k") else f"{_group(q)} // {size} == {_group(k)} // {size}"
        name = self.table("left", "int[]", left)
        return f"({q} - {name}) // {size} == ({k} - {name}) // {size}"

    def _same_group(self, ids: Tensor, signed: bool, q: str, k: str) -> str:
        whole = (q, k) == ("q", "k") and ids.shape[-1] == self.sizes.kv_length
        name = self.table("group" if signed else "document", "int[token]" if whole else "int[length]", ids.int())
        same = f"{name}[{q}] == {name}[{k}]"
        return f"{same} and {name}[{q}] >= 0" if signed else same

    def _kept(self, keep: Tensor, k: str) -> str:
        """A key is kept: by the bounds of the run that is kept where each row keeps one run, else by a table."""
        if k != self.key:
            return f"{self.table('kept', 'bool[length]', keep)}[{k}]"
        offset, length = self.sizes.kv_offset, self.sizes.kv_length
        if isinstance(offset, Tensor):
            keep = keep[:, torch.arange(length, device=keep.device) + offset]
        else:
            keep = keep[:, offset : offset + length]
        if keep.device.type == "cpu":  # where the contents are at hand
            if bool(keep.all()):
                return "full"
            first, last = _runs(keep)
            if first is not None and last is not None:
                return f"{self.table('first', 'int[]', first)} <= k and k < {self.table('last', 'int[]', last)}"
        return f"{self.table('kept', 'bool[token]', keep)}[k]"

    def _remapped(self, inner: Condition, positions: Tensor, function: object, q: str, k: str) -> str:
        if (q, k) != ("q", self.key) or _has_opaque(inner):
            return self.written(Opaque(function))  # type: ignore[arg-type]
        name = self.table("position", "int[length]", positions.int())
        return self.written(inner, f"{name}[{q}]", f"{name}[{k}]")


def _group(text: str) -> str:
    return f"({text})" if " " in text else text


def _has_opaque(condition: Condition) -> bool:
    match condition:
        case Both(parts) | Either(parts):
            return any(map(_has_opaque, parts))
        case Opaque() | KeptKey() | Remapped():
            return True
        case _:
            return False


def _scalar(value: Position, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=torch.int32).reshape(-1)[0]
    return torch.tensor(value, dtype=torch.int32)


def _runs(keep: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The first kept key and one more than the last, int32 ``[batch]``, where what each row keeps is one run."""
    counts = keep.sum(-1)
    first = torch.where(counts > 0, keep.int().argmax(-1), 0)
    inside = torch.arange(keep.shape[-1])
    run = (inside >= first[:, None]) & (inside < (first + counts)[:, None])
    return (first.int(), (first + counts).int()) if torch.equal(run, keep) else (None, None)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def number(value: float) -> str:
    """A float as the language writes it, with digits on both sides of the point; exact."""
    text = format(Decimal(repr(float(value))), "f")
    return text if "." in text else f"{text}.0"


def attention_text(condition: str, types: Mapping[str, str], score: str = "s", sink: str | None = None) -> str:
    """A whole text: an attention called ``attend`` with this condition as its mask."""
    parameters = ", ".join(f"{name}: {kind}" for name, kind in types.items())
    lines = [f"    mask = {condition}"]
    if score != "s":
        lines.append(f"    score = {score}")
    if sink is not None:
        lines.append(f"    sink = {sink}")
    head = f"attention attend({parameters})" if parameters else "attention attend"
    return "\n".join([f"{head} {{", *lines, "}", ""])


def attention_of(text: str) -> Attention:
    """The attention ``attend`` of a text, made once for each text; while torch traces, at the time of tracing."""
    if torch.compiler.is_compiling():
        return getattr(traced_attentions, _held_as(text))  # type: ignore[no-any-return]
    return _loaded(text)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _held_as(text: str) -> str:
    """The attribute of :mod:`traced_attentions` that is the attention of a text."""
    name = f"attend_{blake2b(text.encode(), digest_size=16).hexdigest()}"
    setattr(traced_attentions, name, _loaded(text))
    return name


@lru_cache(maxsize=512)
def _loaded(text: str) -> Attention:
    made = loads(text, name="attn_implementation").attend()
    assert isinstance(made, Attention)
    return made
