"""What does not fit a table of a call is refused with the place in the text that asks for it.

``tests/golden/call_errors/<case>.txt`` is what is said (``pytest --update-golden`` writes it), by the call and by the
reference alike; the patterns stand beside it.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnc
from attnc.runtime.base.configuration import settings
from attnc.runtime.call.errors import ELSEWHERE

ROOT = Path(__file__).parents[3]
FOLDER = Path(__file__).parents[2] / "golden/call_errors"
Q, K, V = torch.zeros(2, 4, 6, 8), torch.zeros(2, 2, 7, 8), torch.zeros(2, 2, 7, 5)
WHERE = ("reference", "call")


def ints(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.int32)


# By the name of its golden: the declaration, and the tables that it is called with.
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "missing": ("around", {}),
    "missing-read-elsewhere": ("packed", {}),
    "missing-in-a-model": ("base", {}),
    "none": ("documents_of", {"doc": None}),
    "unknown": ("around", {"g": {0}, "mask": {1}}),
    "unknown-of-none": ("plain", {"g": {0}}),
    "unknown-of-several": ("pairs_of", {"other": 1}),
    "attn-mask": ("plain", {"attn_mask": None}),
    "attn-mask-beside-a-table": ("documents_of", {"doc": ints(7), "attn_mask": torch.ones(6, 7).bool()}),
    "is-causal": ("plain", {"is_causal": True}),
    "dropout-p": ("plain", {"dropout_p": 0.1}),
    "enable-gqa": ("plain", {"enable_gqa": True}),
    "softmax-scale": ("plain", {"softmax_scale": 0.1}),
    "score-mod": ("sloped", {"slope": torch.zeros(4), "score_mod": None}),
    "block-mask": ("plain", {"block_mask": None}),
    "misspelt-argument": ("documents_of", {"doc": ints(7), "qstart": 3}),
    "nested": ("documents_of", {"doc": torch.nested.nested_tensor([torch.arange(7)], layout=torch.jagged)}),
    "sparse": ("documents_of", {"doc": ints(7).to_sparse()}),
    "masked-array": ("documents_of", {"doc": np.ma.masked_array(np.zeros(7, dtype=int), mask=True)}),
    "array-of-objects": ("documents_of", {"doc": np.array([0] * 7, dtype=object)}),
    "array-beyond-64-bits": ("documents_of", {"doc": np.full(7, 2**63, dtype=np.uint64)}),
    "misspelt": ("documents_of", {"docs": ints(7)}),
    "device": ("documents_of", {"doc": torch.zeros(7, device="meta").int()}),
    "dtype-int": ("documents_of", {"doc": torch.zeros(7)}),
    "dtype-float": ("sloped", {"slope": ints(4)}),
    "dtype-float8": ("near_events", {"time": torch.zeros(7).to(torch.float8_e4m3fn)}),
    "dtype-bool": ("switched", {"open": ints(4)}),
    "dtype-set": ("around", {"g": torch.zeros(3)}),
    "dtype-order": ("routed", {"rank": torch.zeros(7)}),
    "rank": ("documents_of", {"doc": ints(1, 2, 7)}),
    "rank-set": ("chosen_blocks", {"chosen": ints(4, 2)}),
    "batch": ("documents_of", {"doc": ints(3, 7)}),
    "tokens": ("documents_of", {"doc": ints(6)}),
    "tokens-of-a-batch": ("documents_of", {"doc": ints(2, 6)}),
    "queries": ("limited", {"limit": ints(7)}),
    "heads": ("sloped", {"slope": torch.zeros(2)}),
    "heads-of-a-model": ("base", {"g": {0}}),
    "fixed-size": ("four", {"bias": torch.zeros(3)}),
    "free-size": ("pairs_of", {"a": ints(7, 3), "b": ints(2)}),
    "literal-of-another-length": ("two_documents", {}),
    "entry-of-another-kind": ("documents_of", {"doc": [0, 0, 0, 1, 1, 1, 1.5]}),
    "entry-of-text": ("sloped", {"slope": [0.5, 0.25, 0.125, "much"]}),
    "bool-for-an-int": ("until", {"length": True}),
    "ragged-list": ("documents_of", {"doc": [[0, 0, 0, 0, 0, 0, 0], [0]]}),
    "below-64-bits": ("until", {"length": -(2**63) - 1}),
    "beyond-64-bits": ("until", {"length": 10**30}),
    "number-for-a-set": ("around", {"g": 3}),
    "float-in-a-set": ("around", {"g": {0.5}}),
    "text-for-a-set": ("around", {"g": "0"}),
    "dict-for-a-set": ("around", {"g": {0: 1}}),
    "member-beyond-64-bits": ("around", {"g": {10**30}}),
    "mixed-set": ("chosen_blocks", {"chosen": [[{0}, 1], [{0}, {1}]]}),
    "ragged-sets": ("chosen_blocks", {"chosen": [[{0}, {1}], [{0}]]}),
    "beyond-floats": ("sloped", {"slope": [10**400, 0, 0, 0]}),
    "endless-sink": ("sunk", {"logit": [0.5, float("inf"), 0.0, 0.0]}),
    "divisor": ("rows_of", {"width": 0}),
    "divisor-of-64-bits": ("rows_of", {"width": -(2**63)}),
    "divisors": ("rows_of", {"width": torch.tensor([3, -4])}),
    "index-of-sizes": ("biased", {"bias": torch.zeros(3), "place": ints(7)}),
}
# The tables that are given by position.
BY_POSITION: dict[str, tuple[str, tuple[object, ...]]] = {
    "by-position": ("pairs_of", (ints(7, 3), ints(3))),
    "by-position-of-none": ("plain", (None,)),
}
# What only a reader of every entry finds: the kernels read 0 there.
OF_THE_REFERENCE = {
    "index-of-contents": ("biased", {"bias": torch.zeros(7), "place": torch.arange(2, 9)}),
}


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    with settings.override(backend="blocked"):
        yield


@pytest.fixture(scope="module")
def module() -> attnc.Module:
    return attnc.loads((FOLDER / "patterns.attn").read_text(encoding="utf-8"), "patterns.attn")


def bound(module: attnc.Module, name: str) -> Any:
    found = module[name]()
    return found.layers[0] if name == "base" else found


def refusal(run: Callable[..., object], tables: dict[str, object]) -> str:
    """What a call is refused with, and as which of the two kinds that the interface promises."""
    with pytest.raises((TypeError, ValueError)) as caught:
        run(Q, K, V, **tables)
    kind = "TypeError" if isinstance(caught.value, TypeError) else "ValueError"
    return f"{kind}: {caught.value}\n"


def compared(case: str, got: str, update_golden: bool) -> None:
    golden = FOLDER / f"{case}.txt"
    if update_golden:
        golden.write_text(got, encoding="utf-8")
    assert got == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WHERE)
def test_a_table_that_does_not_fit(module: attnc.Module, case: str, way: str, update_golden: bool) -> None:
    name, tables = CASES[case]
    attend = bound(module, name)
    if case == "index-of-sizes" and way == "reference":  # it reads every entry, and names the first that is outside
        case = "index-of-sizes-read"
    compared(case, refusal(attend if way == "call" else attend.reference, tables), update_golden)


@pytest.mark.parametrize("case", OF_THE_REFERENCE)
def test_an_index_that_contents_decide(module: attnc.Module, case: str, update_golden: bool) -> None:
    name, tables = OF_THE_REFERENCE[case]
    attend = bound(module, name)
    compared(case, refusal(attend.reference, tables), update_golden)
    assert attend(Q, K, V, **tables).shape == (2, 4, 6, 5)


@pytest.mark.parametrize("case", BY_POSITION)
@pytest.mark.parametrize("way", WHERE)
def test_a_table_given_by_position(module: attnc.Module, case: str, way: str, update_golden: bool) -> None:
    name, more = BY_POSITION[case]
    attend = bound(module, name)
    run = attend if way == "call" else attend.reference
    compared(case, refusal(lambda q, k, v: run(q, k, v, *more), {}), update_golden)


def test_the_snippets_of_hints_can_be_read() -> None:
    snippets = {snippet for hint in ELSEWHERE.values() for snippet in hint.split("`")[1::2]}
    assert snippets == {"bool[query, token]", "causal and …", "attention", "doc[q] == doc[k]"}
    attnc.loads("pattern p(open: bool[query, token]) = causal and open[q, k]\nattention a { mask = causal }")


def test_nothing_else_lies_there() -> None:
    expected = {*CASES, *OF_THE_REFERENCE, *BY_POSITION, "index-of-sizes-read"}
    assert {path.stem for path in FOLDER.glob("*.txt")} == expected


def test_each_refusal_of_a_table_but_one_names_its_place() -> None:
    placeless = {path.stem for path in FOLDER.glob("*.txt") if "--> patterns.attn:" not in path.read_text("utf-8")}
    # No table that could be shown: the pattern has none, or an argument of the call itself is meant.
    without = {"unknown-of-none", "attn-mask", "is-causal", "dropout-p", "enable-gqa", "softmax-scale", "block-mask",
               "by-position-of-none"}  # fmt: skip
    assert placeless == {*without, "misspelt-argument"}


# Refusals that need more than a CPU or more than its memory, by the words that they start with.
OUT_OF_REACH = {": holds the member"}


def messages() -> Iterator[tuple[str, str]]:
    """Every message about a table in the sources: its fixed words, and a pattern that it matches."""
    for name in ("python_values", "errors", "host_values", "tables"):
        tree = ast.parse((ROOT / "runtime" / "call" / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.JoinedStr) or not isinstance(node.values[0], ast.FormattedValue):
                continue
            words = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            if len(words) > 1 and str(words[1]).startswith(": "):
                yield str(words[1]), "".join(".*" if word is None else re.escape(str(word)) for word in words)


def test_every_message_about_a_table_is_among_them() -> None:
    said = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.txt"))
    found = list(messages())
    assert len(found) > 10
    unsaid = {start for start, pattern in found if not re.search(pattern, said)}
    assert {start for start in unsaid if not start.startswith(tuple(OUT_OF_REACH))} == set()


def test_of_two_equal_texts_the_last_bound_is_shown() -> None:
    line = "pattern documents_of(doc: int[token]) = doc[q] == doc[k]"
    first, last = (attnc.loads(text, "text.attn").documents_of() for text in (line, f"\n\n{line}"))
    assert first._name == last._name
    with pytest.raises(ValueError, match=r"text\.attn:3:22"):
        last(Q, K, V, doc=ints(6))


def test_the_mask_and_the_plan_of_such_a_call_say_the_same(module: attnc.Module) -> None:
    attend = module.documents_of()
    for ask in (attend.mask, attend.plan):
        with pytest.raises(ValueError, match=r"(?s)^doc: has shape \[6\].*--> patterns\.attn:4:22"):
            ask(7, doc=ints(6))


def test_a_mask_and_a_plan_are_of_a_batch_of_one_or_more(module: attnc.Module) -> None:
    """An empty tensor for a number is one for each entry of an empty batch, which no call of q with a batch takes."""
    for name, table, empty in (
        ("until", "length", ints(0)),
        ("rows_of", "width", []),
        ("documents_of", "doc", ints(0, 7)),
    ):
        attend = module[name]()
        for ask in (attend.mask, attend.plan):
            with pytest.raises(ValueError, match=rf"(?s)^{table}: has shape \[0.*expected a batch of 1 or more.*--> "):
                ask(7, **{table: empty})


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_a_float_that_no_kernel_reads_is_refused_as_a_table_everywhere(
    module: attnc.Module, dtype: torch.dtype
) -> None:
    for name, table, size in (("near_events", "time", 7), ("sloped", "slope", 4), ("sunk", "logit", 4)):
        attend, given = module[name](), {table: torch.zeros(size).to(dtype)}
        for run, sizes in ((attend, (Q, K, V)), (attend.mask, (7,)), (attend.plan, (7,))):
            with pytest.raises(TypeError, match=rf"(?s)^{table}: has dtype float8_.*, expected a float tensor.*--> "):
                run(*sizes, **given)


@pytest.mark.parametrize("given", [-(2**63), torch.tensor(-(2**63))], ids=["a number", "a tensor"])
def test_the_least_number_of_64_bits_is_held_but_not_computed_with(module: attnc.Module, given: object) -> None:
    attend = module.until()
    for run in (lambda: attend(Q, K, V, length=given), lambda: attend.mask(7, length=given)):
        with pytest.raises(
            ValueError, match=r"^`length` can be -9223372036854775808 .*, expected integers below 2\*\*63"
        ):
            run()


def test_an_error_can_be_copied_to_another_process(module: attnc.Module) -> None:
    name, tables = OF_THE_REFERENCE["index-of-contents"]
    with pytest.raises(ValueError, match="outside") as caught:
        bound(module, name).reference(Q, K, V, **tables)
    assert str(copy.copy(caught.value)) == str(caught.value)
