"""Questions and answers as lines of JSON, which go to the worker and come back.

An expression is a list of its distinct parts, each after those it is made of, which it names by their places. JSON can
hold data only: nothing that is read is run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..ir import Apply, Const, Entry, Expr, Member, Position, children, walk
from ..plan import Axis, Box, View
from .questions import Answer, LastReader, Proved, Question, ReaderQuestion, Suspect, Unknown
from .tile_questions import HaloQuestion, Repeating, TileFault, TileQuestion

AnyQuestion = Question | ReaderQuestion | TileQuestion | HaloQuestion
AnyAnswer = Answer | LastReader | TileFault

_LAST_READER = "last reader"


def written_question(question: AnyQuestion) -> str:
    """One line, without its end."""
    if isinstance(question, TileQuestion | HaloQuestion):
        return json.dumps(_written_tiles(question))
    if isinstance(question, ReaderQuestion):
        nodes, places = _listed([question.mask])
        return json.dumps({
            "kind": _LAST_READER, "nodes": nodes, "root": places[question.mask], "heads": question.heads,
            "n": question.n, "orders": question.orders,
        })  # fmt: skip
    roots = [question.mask, *([] if question.other is None else [question.other])]
    nodes, places = _listed(roots)
    return json.dumps({
        "kind": question.kind, "nodes": nodes, "roots": [places[root] for root in roots], "heads": question.heads,
        "n": question.n, "orders": question.orders, "permutations": question.permutations,
    })  # fmt: skip


def read_question(line: str) -> AnyQuestion:
    """The question of a line that :func:`written_question` made."""
    held = json.loads(line)
    nodes = _built(held["nodes"])
    if held["kind"] in ("tiles", "halo"):
        return _read_tiles(held, nodes[-1])
    if held["kind"] == _LAST_READER:
        return ReaderQuestion(nodes[held["root"]], held["heads"], held["n"], tuple(held["orders"]))
    mask, *other = (nodes[place] for place in held["roots"])
    return Question(
        held["kind"], mask, other[0] if other else None, held["heads"], held["n"],
        tuple(held["orders"]), tuple(held["permutations"]),
    )  # fmt: skip


def written_answer(answer: AnyAnswer) -> str:
    """One line, without its end."""
    match answer:
        case Proved():
            return json.dumps({"proved": True})
        case Unknown(reason=reason, final=final):
            return json.dumps({"reason": reason, "final": final})
        case TileFault():
            return json.dumps({"fault": vars(answer)})
        case LastReader(last=last, exact=exact, most=most, tail=tail):
            nodes, places = _listed([last])
            return json.dumps({"last": places[last], "nodes": nodes, "exact": exact, "most": most, "tail": tail})
        case Suspect():
            nodes, places = _listed(list(answer.values))
            values = [(places[node], str(value)) for node, value in answer.values.items()]
            place = (answer.n, answer.q, answer.k, answer.heads, answer.head)
            return json.dumps({"place": place, "nodes": nodes, "values": values})


def read_answer(line: str) -> AnyAnswer:
    """The answer of a line that :func:`written_answer` made. Raises ValueError for any other text."""
    held = json.loads(line)
    if held == {"proved": True}:
        return Proved()
    if isinstance(held, dict) and isinstance(held.get("reason"), str):
        return Unknown(held["reason"], held.get("final") is True)
    if isinstance(held, dict) and isinstance(held.get("fault"), dict):
        return TileFault(**held["fault"])
    if isinstance(held, dict) and held.keys() == {"last", "nodes", "exact", "most", "tail"}:
        most, tail = (None if held[name] is None else int(held[name]) for name in ("most", "tail"))
        return LastReader(_built(held["nodes"])[held["last"]], bool(held["exact"]), most, tail)
    if not isinstance(held, dict) or not {"place", "nodes", "values"} <= held.keys():
        raise ValueError("no answer")
    nodes = _built(held["nodes"])
    n, q, k, heads, head = held["place"]
    return Suspect(n, q, k, heads, head, {nodes[place]: int(value) for place, value in held["values"]})


def _written_tiles(question: TileQuestion | HaloQuestion) -> dict[str, Any]:
    nodes, _ = _listed([question.condition])
    if isinstance(question, HaloQuestion):
        box = question.box
        halo = box.before, box.after, box.tile
        return {"kind": "halo", "nodes": nodes, "view": _written_view(box.view), "halo": halo, "n": question.n}
    return {
        "kind": "tiles", "nodes": nodes, "rows": _written_view(question.rows), "keys": _written_view(question.keys),
        "start": question.start, "n": question.n,
        "by_query": vars(question.by_query), "by_key": vars(question.by_key),
    }  # fmt: skip


def _read_tiles(held: dict[str, Any], condition: Expr) -> TileQuestion | HaloQuestion:
    if held["kind"] == "halo":
        before, after, tile = held["halo"]
        return HaloQuestion(condition, Box(_read_view(held["view"]), tuple(before), tuple(after), tile), held["n"])
    by_query, by_key = (
        Repeating(its["shift"], tuple(tuple(map(tuple, runs)) for runs in its["rows"]), its["reach"])
        for its in (held["by_query"], held["by_key"])
    )
    rows, keys = _read_view(held["rows"]), _read_view(held["keys"])
    return TileQuestion(condition, rows, keys, held["start"], by_query, by_key, held["n"])


def _written_view(view: View) -> list[Any]:
    return [view.offset, [[axis.stride, axis.length, axis.tile] for axis in view.axes]]


def _read_view(held: list[Any]) -> View:
    offset, axes = held
    return View(tuple(Axis(*axis) for axis in axes), offset)


def _listed(roots: Sequence[Expr]) -> tuple[list[list[Any]], dict[Expr, int]]:
    places: dict[Expr, int] = {}
    nodes: list[list[Any]] = []
    for root in roots:
        for node in walk(root):
            if node not in places:
                places[node] = len(nodes)
                nodes.append(_written(node, [places[part] for part in children(node)]))
    return nodes, places


def _written(node: Expr, parts: list[int]) -> list[Any]:
    match node:
        case Const(value=value):
            return ["constant", value]
        case Position(name=name):
            return ["position", name]
        case Entry(table=table, type=kind):
            return ["entry", table, kind, parts]
        case Member(table=table):
            return ["member", table, parts]
        case Apply(op=op, type=kind):
            return ["apply", op, kind, parts]
    raise ValueError(f"{type(node).__name__} stands in no mask")


def _built(nodes: Sequence[Sequence[Any]]) -> list[Expr]:
    found: list[Expr] = []
    for node in nodes:
        match node:
            case ["constant", value]:
                found.append(Const(value))
            case ["position", name]:
                found.append(Position(name))
            case ["entry", table, kind, parts]:
                found.append(Entry(table, tuple(found[part] for part in parts), kind))
            case ["member", table, [*parts, element]]:
                found.append(Member(found[element], table, tuple(found[part] for part in parts)))
            case ["apply", op, kind, parts]:
                found.append(Apply(op, tuple(found[part] for part in parts), kind))
            case _:
                raise ValueError("no expression")
    return found
