"""A sample of the campaigns ``text`` and ``names``, and that their judges see what they are there to see."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from attnc.compiler.checker.reserved_names import FORBIDDEN
from attnc.compiler.diagnostics import limits
from attnc.compiler.diagnostics.diagnostic import AttnError
from attnc.compiler.modules.loader import load_text
from attnc.compiler.syntax.grammar import vocabulary
from attnc.compiler.syntax.lexer import python_words
from tests.fuzz import __main__ as fuzz
from tests.fuzz import names as fuzz_names
from tests.fuzz import texts as fuzz_text
from tests.fuzz.texts import HostileText
from tests.support.generators.programs import generate

TEXTS, EXTREMES, PROGRAMS = 1500, 4, 60


@pytest.mark.parametrize("part", range(6))
def test_hostile_texts(part: int) -> None:
    for seed in range(part, TEXTS, 6):
        text = fuzz_text.generate(seed)
        found = fuzz_text.fault(text)
        assert found is None, f"seed {seed}: {found}\n{fuzz_text.told(text)}"


LARGE = "{0..99999}"
MANY = ", ".join([LARGE] * 20)
GREEDY = [
    "pattern p(g: tokens = {0..10**17}) = k in g",
    f"pattern p(t: set[x] = [{MANY}]) = k in t[0]",
    f"const c = {LARGE} pattern p(t: set[x] = [{', '.join('c' * 20)}]) = k in t[0]",
    " ".join(f"pattern p{i}(g: tokens = {LARGE}) = k in g" for i in range(20)),
    f"test causal at n = 64 {{ {f'row 1 == {LARGE} ' * 20} }}",
    " ".join([f"test causal at n = 64 {{ row 1 == {LARGE} }}"] * 20),
    f"pattern p(t: set[x]) = k in t[0] test p(t = [{MANY}]) at n = 4 {{ causal }}",
]


@pytest.mark.parametrize("text", GREEDY, ids=lambda text: text[:30])
def test_sets_that_would_take_more_memory_than_a_text_may(text: str) -> None:
    with pytest.raises(AttnError) as caught:
        load_text(text)
    assert [fault.slug for fault in caught.value.diagnostics] == ["too-large"]


def test_texts_at_the_limits() -> None:
    draws = [Random(seed) for seed in range(EXTREMES)]
    for text in [*map(fuzz_text.extreme, draws), *map(fuzz_text.wide, draws)]:
        short = text[:20_000]
        assert fuzz_text.fault(HostileText(0, short)) is None, repr(short[:200])


def test_texts_that_failed_once() -> None:
    for text in fuzz_text.pinned():
        assert fuzz_text.fault(text) is None, fuzz_text.told(text)


def test_the_texts_are_of_every_kind() -> None:
    texts = [fuzz_text.generate(seed).data for seed in range(150)]
    sound = [text for text in texts if _sound(text)]
    assert 5 < len(sound) < 120
    assert {type(text) for text in texts} == {str, bytes}
    assert sum("syntax" not in _slugs(fuzz_text.grown(Random(seed))) for seed in range(40)) > 20
    assert len(set(texts)) > 140


def _slugs(data: str | bytes) -> set[str]:
    try:
        load_text(data)
    except AttnError as error:
        return {fault.slug for fault in error.diagnostics}
    return set()


def _sound(data: str | bytes) -> bool:
    return not _slugs(data)


# The judge of texts


def test_a_text_that_raises_something_else_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: object, **options: object) -> None:
        raise RecursionError

    fuzz_text.warm()
    monkeypatch.setattr(fuzz_text, "load_text", broken)
    _, found = fuzz.judged(fuzz.CAMPAIGNS["text"], 1)
    assert found is not None
    assert "RecursionError" in found


def test_a_text_that_takes_long_is_a_failure() -> None:
    assert fuzz_text.watched(lambda: sum(range(20_000_000)), most=1e-4) is not None, "long on a fast processor, too"
    assert fuzz_text.watched(lambda: None) is None


def test_a_text_that_takes_memory_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy() -> None:
        # Far more than a system may take back from the process in the meantime.
        assert len(bytearray(fuzz_text.MEMORY + (128 << 20))) > fuzz_text.MEMORY

    monkeypatch.setattr(fuzz_text, "BRIEF", 0)
    assert fuzz_text.watched(greedy) == "384 MiB"
    assert fuzz_text.watched(lambda: None) is None  # the peak of the one before is no fault of this one
    monkeypatch.setattr(fuzz_text, "_peak", fuzz_text.warm)
    assert fuzz_text.watched(greedy) is None  # nothing to suspect: not measured again


def test_memory_is_measured_as_it_is() -> None:
    before = fuzz_text._resident()
    held = b"x" * (64 << 20)
    assert fuzz_text._resident() - before > 48 << 20
    assert fuzz_text._peak() >= fuzz_text._resident() - (1 << 20)
    assert len(held) == 64 << 20


@pytest.mark.parametrize("data", [b"\xff\xfe", "pattern p = \ud800", "pattern p = q < k", b"pattern p = q < k"])
def test_a_text_survives_being_kept(data: str | bytes) -> None:
    held = fuzz_text.kept(HostileText(1, data))
    assert held == data or held.decode("utf-8", "surrogatepass") == data


# Names


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_names_never_reach_generated_code(part: int) -> None:
    for seed in range(part, PROGRAMS, 4):
        found = fuzz_names.fault(generate(seed))
        assert found is None, f"seed {seed}: {found}"


def test_every_name_of_a_program_is_replaced() -> None:
    for seed in range(60):
        program = generate(seed)
        other, fresh = fuzz_names.renamed(program)
        module, renamed = (
            load_text(program.text, folder=fuzz_text.MODULES),
            load_text(other.text, folder=fuzz_text.MODULES),
        )
        assert list(renamed.declarations) == [fresh[name] for name in module.declarations]
        assert not set(renamed.declarations) & set(module.declarations)
        for name, declaration in module.declarations.items():
            names = [fresh[parameter.name] for parameter in declaration.parameters]
            assert [parameter.name for parameter in renamed.declarations[fresh[name]].parameters] == names
        assert set(fresh.values()) - set(fuzz_names.HOSTILE) == set()


def test_hostile_names_are_names() -> None:
    assert len(set(fuzz_names.HOSTILE)) == len(fuzz_names.HOSTILE) > 150
    for name in fuzz_names.HOSTILE:
        assert name.isidentifier()
        assert name.isascii()
        assert len(name) <= limits.NAME
        assert name not in vocabulary().reserved | python_words() | {*FORBIDDEN, "token", "query"}
        load_text(f"pattern {name} = causal")
        load_text(f"pattern p_1({name}: int[free_1]) = any({name}[q] == 1 for i in 0..1)")
        load_text(f"pattern p_1(i_1: int[{name}]) = any(i_1[q] == {name} for {name} in 0..1)")


@pytest.mark.parametrize(
    "name",
    ["a" * 65, 'x");system("', "*/", "a\\\nb", "ﬁ", "{{7*7}}", "{%if%}", "a b", "a-b", "1a", "é", "lambda", "q",
     "\u202ea"],
)  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(AttnError):
        load_text(f"pattern {name} = causal")
    with pytest.raises(AttnError):
        load_text(f"pattern p({name}: int[token]) = {name}[q] == 1")


def test_a_name_in_generated_code_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    render = fuzz_names.source_of

    def leaking(attention: object, *options: object) -> str:
        return render(attention, *options) + f"// {attention.name}"  # type: ignore[arg-type, attr-defined]

    monkeypatch.setattr(fuzz_names, "source_of", leaking)
    assert "other names give another source" in str(fuzz_names.fault(generate(1)))


def test_a_program_changed_in_more_than_its_names_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rename = fuzz_names.renamed
    program = replace(generate(1), text="pattern p = q < k", subject="p", constants={}, contents={}, layer=None)
    monkeypatch.setattr(
        fuzz_names, "renamed", lambda program: (replace(rename(program)[0], text="pattern p = q <= k", subject="p"), {})
    )
    assert fuzz_names.fault(program) is not None
