"""Reads the line that :mod:`compiler.ir.portable_writer` writes back to an attention, whoever may have written it.

A line may come from a file that somebody else made. Nothing of it is run: words are looked up in the language's own
tables, every node is held against the types of its operands, and no line may be larger, or nest deeper, than what the
language itself would bear. What was read is written again and compared, so one attention has one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from ..diagnostics import FIRST_BEYOND, LARGEST_SIZE, limits
from .attentions import Attention, Dimension, Literal_, Table
from .expressions import LOGIT, Apply, Const, Entry, Expr, Logit, Member, Position, walk
from .operations import OPERATIONS, Op, Type
from .portable_writer import DIGEST, FORM, HEAD, ROOTS, digest, portable_text

MOST_CHARACTERS = 1 << 24
_MOST_NODES = 4 * limits.NODES  # of all roots, shared parts counted each time they occur
_MOST_NESTING = 2 * limits.EXPANDED_NESTING
_TYPES: Mapping[str, Type] = {"i": "int", "f": "float", "b": "bool", "c": "count"}
_POSITIONS = ("q", "k", "n", "head", "heads", "head_dim")
_READ: Mapping[str, tuple[str, ...]] = {  # what a root may read
    "mask": ("q", "k", "n", "head", "heads"),
    "score": ("q", "k", "n", "head", "heads"),
    "scale": ("head", "heads", "head_dim"),
    "sink": ("q", "n", "head", "heads"),
}
_GIVES: Mapping[str, tuple[Type, ...]] = {
    "mask": ("bool", "count"), "score": ("float",), "scale": ("float",), "sink": ("float",),
}  # fmt: skip
_ELEMENTS: Mapping[str, Type] = {"int": "int", "order": "int", "float": "float", "bool": "bool"}
_KINDS = ("token", "query", "head", "fixed", "free")
_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{limits.NAME - 1}}}")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_FLOAT = re.compile(r"f(-?inf|-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4})")
_PIECE = re.compile(r"[\[\],]|\{[^{}]*\}|[^\[\],{}]+")
_LEAVES: Mapping[str, tuple[type, ...]] = {
    "int": (int,), "order": (int,), "bool": (bool,), "float": (float, int), "set": (),
}  # fmt: skip
_SHOWN = 60


class PortableTextError(ValueError):
    """A line does not hold an attention that this version of attnc reads; the message says why."""


def attention_of(text: str, name: str = "attention") -> Attention:
    """The attention of a line, called ``name``. PortableTextError where there is none."""
    head, _, rest = text.partition(":")
    form, _, rest = rest.partition(":")
    if head != HEAD or not form.isascii() or not form.isdecimal():
        _refuse(f"is {_shown(text)}, expected the line of an attention, which begins with {HEAD}:{FORM}:")
    if form != str(FORM):
        _refuse(f"has the form {_shown(form)}, expected {FORM}: another version of attnc wrote it, which can read it")
    if len(text) > MOST_CHARACTERS:
        _refuse(f"has {len(text):,} characters, expected at most {MOST_CHARACTERS:,}")
    written, _, body = rest.partition(":")
    if len(written) != DIGEST or written != digest(body):
        _refuse("is damaged: its digest is not that of what follows it")
    found = _Reader(name).read(body)
    if portable_text(found) != text:
        _refuse("is not as attnc writes it: the same attention has another line")
    return found


def _refuse(fault: str) -> NoReturn:
    raise PortableTextError(f"attention: {fault}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


class _Reader:
    """One line as it is read. ``sizes``: of each node, its number of nodes and the depth of its nesting."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tables: dict[str, Table] = {}
        self.nodes: list[Expr] = []
        self.sizes: list[tuple[int, int]] = []

    def read(self, body: str) -> Attention:
        nodes, *lines = body.split("|")
        if len(lines) < len(ROOTS):
            _refuse(f"has {len(lines)} parts after its nodes, expected {', '.join(ROOTS)} and tables")
        heads = None
        for line in lines[len(ROOTS) :]:
            kind, _, rest = line.partition(" ")
            if kind == "heads" and line is lines[-1]:
                heads = _size(rest, "heads")
            else:
                self._table(line)
        for record in nodes.split(";"):
            self._node(record)
        mask, score, scale, sink = map(self._root, ROOTS, lines)
        if mask is None or score is None or scale is None:
            _refuse("lacks its mask, its score or its scale")
        return Attention(self.name, mask, score, scale, sink, tuple(self.tables.values()), heads)

    def _table(self, line: str) -> None:
        words = line.split(" ")
        if len(words) != 7 or words[0] != "table" or not _NAME.fullmatch(words[1]) or words[1] in self.tables:
            _refuse(f"has {_shown(line)}, expected a table with a name of its own")
        _, name, element, sizes, *contents, divides = words
        if element not in (*_ELEMENTS, "set") or divides not in ("0", "1"):
            _refuse(f"has {_shown(line)}, expected a table of an element that the language has")
        dimensions = () if sizes == "-" else tuple(map(_dimension, sizes.split(",")))
        if divides == "1" and (element != "int" or dimensions):
            _refuse(f"has {_shown(line)}, expected a divisor to be one int")
        default, value = (None if one == "-" else _literal(one, element, len(dimensions)) for one in contents)
        self.tables[name] = Table(name, element, dimensions, default, value, divides == "1")  # type: ignore[arg-type]

    def _node(self, record: str) -> None:
        word, *rest = record.split(" ")
        table = self._named(rest.pop(0) if rest else "") if word.partition(":")[0] in ("entry", "member") else None
        numbers = [self._number(part) for part in rest]
        size = 1 + sum(self.sizes[number][0] for number in numbers)
        depth = 1 + max((self.sizes[number][1] for number in numbers), default=0)
        if size > _MOST_NODES:
            _refuse(f"grows beyond {_MOST_NODES:,} nodes, the most that one may have")
        if depth > _MOST_NESTING:
            _refuse(f"nests deeper than {_MOST_NESTING}, the deepest that one may")
        made = self._made(word, table, [self.nodes[number] for number in numbers])
        if made is None:
            _refuse(f"has the node {_shown(record)}, expected one that the language has, of operands of its types")
        self.nodes.append(made)
        self.sizes.append((size, depth))

    def _number(self, word: str) -> int:
        if not _WHOLE.fullmatch(word) or not 0 <= int(word) < len(self.nodes):
            _refuse(f"has the operand {_shown(word)}, expected the number of an earlier node")
        return int(word)

    def _named(self, name: str) -> Table:
        if name not in self.tables:
            _refuse(f"reads the table {_shown(name)}, expected one of {', '.join(self.tables) or 'none'}")
        return self.tables[name]

    def _made(self, word: str, table: Table | None, parts: list[Expr]) -> Expr | None:
        """The node of a word and its operands; None where there is no such node."""
        if table is not None:
            return _lookup(word, table, parts)
        if word.startswith("=") and not parts:
            return Const(_scalar(word[1:]))
        if word in _POSITIONS and not parts:
            return Position(word)  # type: ignore[arg-type]
        if word == "s" and not parts:
            return LOGIT
        op, _, letter = word.partition(":")
        if op not in OPERATIONS or letter not in _TYPES:
            return None
        kind = _TYPES[letter]
        return Apply(op, tuple(parts), kind) if _is_typed(op, kind, parts) else None  # type: ignore[arg-type]

    def _root(self, name: str, line: str) -> Expr | None:
        word, _, number = line.partition(" ")
        if word != name:
            _refuse(f"has {_shown(line)}, expected its {name}")
        if number == "-" and name == "sink":
            return None
        root = self.nodes[self._number(number)]
        if root.type not in _GIVES[name]:
            _refuse(f"has a {name} of {root.type}, expected {' or '.join(_GIVES[name])}")
        for node in walk(root):
            outside = isinstance(node, Position) and node.name not in _READ[name]
            outside = outside or (isinstance(node, Logit) and name != "score")
            if outside or (isinstance(node, Entry | Member) and name == "scale"):
                _refuse(f"has a {name} that reads what no {name} may: {_shown(str(node))}")
        return root


def _lookup(word: str, table: Table, parts: list[Expr]) -> Expr | None:
    """An entry or a member of a table."""
    wanted = len(table.dimensions) + (table.element == "set")
    if len(parts) != wanted or any(part.type != "int" for part in parts):
        return None
    if table.element == "set":
        *indices, element = parts
        return Member(element, table.name, tuple(indices)) if word == "member:b" else None
    kind = _ELEMENTS[table.element]
    return Entry(table.name, tuple(parts), kind) if word == f"entry:{kind[0]}" else None


def _is_typed(op: Op, kind: Type, parts: Sequence[Expr]) -> bool:
    """Whether an operation takes these operands, and gives a value of a type."""
    operation = OPERATIONS[op]
    least, most = operation.arity
    if not least <= len(parts) <= (len(parts) if most is None else most):
        return False
    rest = parts[1:] if operation.guarded else parts
    if operation.guarded and parts[0].type != "bool":
        return False
    if op in ("floordiv", "mod") and not _divides(parts[1]):
        return False
    taken = {part.type for part in rest}
    if kind == "count" and "count" in operation.takes:
        return taken <= {"count", "bool"}
    return len(taken) == 1 and taken <= set(operation.takes) and operation.type_of(next(iter(taken))) == kind


def _divides(divisor: Expr) -> bool:
    """Whether something may be divided by it: a positive constant, or one number that a call gives."""
    if isinstance(divisor, Const):
        return divisor.type == "int" and divisor.value > 0
    return isinstance(divisor, Entry) and not divisor.indices


def _size(word: str, what: str) -> int:
    if not _WHOLE.fullmatch(word) or not 0 < int(word) <= LARGEST_SIZE:
        _refuse(f"has {_shown(word)} {what}, expected 1 to {LARGEST_SIZE}")
    return int(word)


def _dimension(word: str) -> Dimension:
    kind, *rest = word.split(":")
    size, name = (*rest, "", "")[:2]
    is_fixed, is_free = kind == "fixed", kind == "free"
    fits = kind in _KINDS and len(rest) <= 2 and bool(size) == is_fixed and (not name or _NAME.fullmatch(name))
    if not fits or (is_free and not name) or (name and not (is_fixed or is_free)):
        _refuse(f"has the dimension {_shown(word)}, expected one of {', '.join(_KINDS)}")
    return Dimension(kind, _length(size) if is_fixed else None, name)  # type: ignore[arg-type]


def _length(word: str) -> int:
    """The size of a fixed dimension, which may be none."""
    if not _WHOLE.fullmatch(word) or not 0 <= int(word) <= LARGEST_SIZE:
        _refuse(f"has a dimension of {_shown(word)}, expected 0 to {LARGEST_SIZE}")
    return int(word)


def _scalar(word: str) -> bool | int | float:
    if word in ("true", "false"):
        return word == "true"
    if _FLOAT.fullmatch(word):
        try:
            return float.fromhex(word[1:])
        except OverflowError:
            pass
    elif _WHOLE.fullmatch(word) and abs(int(word)) < FIRST_BEYOND:
        return int(word)
    _refuse(f"has the constant {_shown(word)}, expected a condition, an integer below 2**63 or a float")


def _literal(text: str, element: str, depth: int) -> Literal_:
    """The contents of a table with so many dimensions, at most."""
    words = _PIECE.findall(text)
    if "".join(words) != text or depth > limits.NESTING:
        _refuse(f"has the contents {_shown(text)}, expected numbers, sets and lists of them")
    found, end = _part(words, 0, element, depth)
    if end < len(words):
        _refuse(f"has the contents {_shown(text)}, expected nothing after {_shown(''.join(words[:end]))}")
    return found


def _part(words: Sequence[str], at: int, element: str, depth: int) -> tuple[Literal_, int]:
    """The contents that begin at a word, and the place after them."""
    word = words[at] if at < len(words) else ""
    if word != "[":
        return _leaf(word, element), at + 1
    parts: list[Literal_] = []
    at += 1
    while depth and at < len(words):
        if words[at] == "]" and not parts:
            return (), at + 1
        part, at = _part(words, at, element, depth - 1)
        parts.append(part)
        if at < len(words) and words[at] == "]":
            return tuple(parts), at + 1
        if at == len(words) or words[at] != ",":
            break
        at += 1
    _refuse(f"has a list of {len(parts)} without an end, or deeper than its table's dimensions")


def _leaf(word: str, element: str) -> Literal_:
    if word.startswith("{"):
        members = [_scalar(one) for one in word[1:-1].split(",")] if word != "{}" else []
        found: Literal_ = frozenset(members)  # type: ignore[arg-type]
        fits = element == "set" and all(type(member) is int for member in members)
    else:
        found = _scalar(word)
        fits = type(found) in _LEAVES[element]
    if not fits:
        _refuse(f"has {_shown(word)} in a table of {element}, expected contents of that type")
    return found
