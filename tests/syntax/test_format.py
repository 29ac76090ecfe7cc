"""`attnc fmt`: what is laid out means the same, has every comment in its place, and stays as it is."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from attnc.cli import main
from attnc.compiler.diagnostics.collector import ErrorCollector
from attnc.compiler.diagnostics.diagnostic import AttnError, Source
from attnc.compiler.formatter.formatter import WIDTH, formatted
from attnc.compiler.modules.loader import Declaration, Module, Parameter, bind, bound_tests, load_text
from attnc.compiler.syntax import tree as t
from attnc.compiler.syntax.grammar import Token
from attnc.compiler.syntax.lexer import declaration_tokens
from attnc.compiler.syntax.parser import parse
from tests.support.generators.programs import generate

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "patterns").rglob("*.attn")) + sorted((ROOT / "examples").rglob("*.attn"))
MODULES = ROOT / "tests" / "golden/modules"
PROGRAMS = 300


def meaning(text: str) -> Any:
    """The tree of a text, of its pictures the rows alone: documentation is a part, places are not."""
    reports = ErrorCollector()
    tree = parse(Source("meant", text.removeprefix("\ufeff")), reports)
    reports.check()
    return plain(tree.declarations)


def plain(node: Any) -> Any:
    if isinstance(node, t.Picture):
        return [line.strip() for line in node.text.splitlines() if line.strip()]
    if isinstance(node, tuple):
        return [plain(part) for part in node]
    if dataclasses.is_dataclass(node):
        fields = [field.name for field in dataclasses.fields(node) if field.compare]
        return [type(node).__name__, *(plain(getattr(node, name)) for name in fields)]
    return node


def words(text: str) -> list[Token]:
    found = declaration_tokens(Source("words", text), ErrorCollector().add)
    return [token for declaration in found for token in declaration.tokens]


def remarks(text: str) -> list[tuple[str, bool]]:
    """The comments, and whether each has a line of its own."""
    blanked = re.sub(r'"""[^"]*"""', lambda found: re.sub(r"[^\n]", "x", found.group()), text)
    lines = (line for line in blanked.split("\n") if "#" in line)
    return [(line[line.index("#") :].rstrip(), not line[: line.index("#")].strip()) for line in lines]


def keeps(text: str) -> str:
    """The text laid out, after looking that it is the same text and well laid out."""
    after = formatted(text)
    assert meaning(after) == meaning(text)
    assert remarks(after) == remarks(text)
    assert formatted(after) == after
    assert not re.search(r"[ \t]$|\n\n\n|\A\n|\n\n\Z|\t|\r", after, re.MULTILINE)
    assert after == "" or after.endswith("\n")
    return after


def too_wide(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(re.sub(r"\s*#.*", "", line)) > WIDTH]


def scattered(text: str, draw: Random, share: float) -> str:
    """The same words, with other blanks and with comments between some of them."""
    pieces: list[str] = []
    blanks = ["\n", "  ", "\n\n", "\n\n\n\n", "\r\n\t", "\n\f "]
    for number, word in enumerate(words(text)):
        remarks = [
            f" # {number}\n",
            f"\n# {number}  \n",
            f"\n\n#own {{ {number}\n\n",
            f" #a\n# b {number}\n",
            "\n#\n",
        ]
        within = draw.choice(blanks) if word.value == "not in" else ""  # one word to the grammar: no comment inside
        pieces += [draw.choice(blanks + remarks) if draw.random() < share else " ", word.value.replace(" ", within)]
    return "".join(pieces) + draw.choice(("", "\n", " # end", "\n\n\n# end\n\n"))


def programs() -> Iterator[tuple[int, str]]:
    yield from ((seed, generate(seed).text) for seed in range(PROGRAMS))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_is_laid_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert keeps(text) == text
    assert too_wide(text) == []


def told(module: Module) -> list[Declaration]:
    """The declarations of a module, with defaults as they are written but for blanks."""

    def plain(parameter: Parameter) -> Parameter:
        default = parameter.default
        return parameter if default is None else replace(parameter, default="".join(default.split()))

    return [
        replace(own, parameters=tuple(plain(parameter) for parameter in own.parameters))
        for own in module.declarations.values()
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_written_another_way_means_the_same(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    messy = scattered(text, Random(7), 0.05)
    given, before, after = (load_text(each, path.name, path.parent) for each in (text, messy, keeps(messy)))
    assert told(before) == told(after)
    assert [test.subject for test in bound_tests(given)] == [test.subject for test in bound_tests(after)]
    assert [test.checks for test in bound_tests(given)] == [test.checks for test in bound_tests(after)]


def test_random_programs_keep_their_meaning() -> None:
    for seed, text in programs():
        assert too_wide(keeps(text)) == [], seed


def test_random_programs_bind_to_the_same() -> None:
    for seed in range(0, PROGRAMS, 8):
        program = generate(seed)
        before, after = (
            bind(load_text(text, folder=MODULES), program.subject, program.constants)
            for text in (program.text, formatted(program.text))
        )
        assert before == after, seed


def test_comments_anywhere_stay_where_they_are() -> None:
    draw = Random(11)
    for seed, text in programs():
        keeps(scattered(text, draw, draw.choice((0.02, 0.1, 0.5, 1.0))))
        assert words(text), seed


def test_words_run_together_come_apart() -> None:
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8")
        pieces: list[str] = []
        before = ""
        for word in words(text):
            glued = not (word.is_word or word.is_number) or not before[-1:].isalnum()
            pieces += ["" if glued and (before[-1:], word.value[:1]) != ("*", "*") else " ", word.value]
            before = word.value
        assert meaning(keeps("".join(pieces))) == meaning(" ".join(word.value for word in words(text)))


MESSY = """\
#!first

# The documentation
# of p.
pattern p ( g:tokens ,size : int=4, ) = # why
  window ( size )or  q in g # near
  # far
  or k in g


# Alone.

attention a(slope:float[head]){mask=causal score=s+slope[ head ]*(k-q) # late
  # before the end
}
test p(g={0 ,1}, size=2) at n=3{picture \"\"\"
 ###
      ###

  #.#\"\"\" # behind
  not  rows
  nonempty row  2=={0 , 2}
  column 0 == { }
}
test p for all n{contains window(4)} # last of a line
model m{layers=2 # two
 heads=4
 layer 0{head 0,1=causal head *=full}

 layer*=causal}
# The end.
"""

NEAT = """\
#!first

# The documentation
# of p.
pattern p(g: tokens, size: int = 4) =  # why
    window(size)
    or q in g  # near
    # far
    or k in g

# Alone.

attention a(slope: float[head]) {
    mask  = causal
    score = s + slope[head] * (k - q)  # late
    # before the end
}

test p(g = {0, 1}, size = 2) at n = 3 {
    picture \"\"\"
        ###
        ###

        #.#
    \"\"\"  # behind
    not rows nonempty
    row 2    == {0, 2}
    column 0 == {}
}

test p for all n { contains window(4) }  # last of a line

model m {
    layers = 2  # two
    heads  = 4
    layer 0 { head 0, 1 = causal   head * = full }

    layer * = causal
}
# The end.
"""


def test_a_messy_text_becomes_neat() -> None:
    assert keeps(MESSY) == NEAT


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("", ""),
        ("\n \t\n", ""),
        ("\n\n# alone", "# alone\n"),
        ("# a\r\n\r\n\r\n# b\r\n", "# a\n\n# b\n"),
        ("\ufeffpattern p=k<=q", "pattern p = k <= q\n"),
        ("pattern p = - - q<= -k", "pattern p = --q <= -k\n"),
        ("pattern p = q in 1 .. 4 or k in q-1..<q+1", "pattern p = q in 1..4 or k in q - 1 ..< q + 1\n"),
        ("pattern p = k   not\n in{0,1,}", "pattern p = k not in {0, 1}\n"),
        ("pattern p = 2**-1<3", "pattern p = 2 ** -1 < 3\n"),
        ("pattern p=q==k pattern r=p", "pattern p = q == k\npattern r = p\n"),
        ("from a . b import c,d as e", "from a.b import c, d as e\n"),
        ("pattern p = h<=q where h=n//2,j=3", "pattern p = h <= q where h = n // 2, j = 3\n"),
        ("model m { }", "model m {}\n"),
        ("const a = [ ]", "const a = []\n"),
        ("pattern p = causal( )", "pattern p = causal()\n"),
        ("attention a {\nmask=causal}", "attention a {\n    mask = causal\n}\n"),
        ('test p at n=1 {picture """#"""}', 'test p at n = 1 {\n    picture """\n        #\n    """\n}\n'),
        ("const a = [1, # one\n 2 # two\n]", "const a = [\n    1,  # one\n    2  # two\n]\n"),
        ("const a = [1\n# none\n,]", "const a = [\n    1\n    # none\n    ,\n]\n"),
        ("pattern p(a: int, # one\n) = causal", "pattern p(\n    a: int,  # one\n) = causal\n"),
        ("pattern p(a: int\n# none\n,) = causal", "pattern p(\n    a: int\n    # none\n    ,\n) = causal\n"),
        (
            "pattern p(a: int, # one\nb: int\n# none\n,) = causal",
            "pattern p(\n    a: int,  # one\n    b: int\n    # none\n    ,\n) = causal\n",
        ),
        ("const a = (\n# in\n1)", "const a =\n    (\n        # in\n        1\n    )\n"),
    ],
)
def test_small_texts(text: str, after: str) -> None:
    assert keeps(text) == after


def test_long_lines_break_where_people_would() -> None:
    condition = " or ".join(f"q in some_set and k < {1000 + i}" for i in range(5))
    text = keeps(f"pattern p(some_set: set) = {condition}")
    assert text.splitlines()[0] == "pattern p(some_set: set) ="
    assert text.splitlines()[2] == "    or q in some_set and k < 1001"
    many = ", ".join(f"parameter_{i}: int[head, token] = 3" for i in range(5))
    lines = keeps(f"pattern p({many}) = causal").splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("pattern p(", "    parameter_0: int[head, token] = 3,", ") = causal")
    lines = keeps(f"const table = [{', '.join(map(str, range(100)))}]").splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("const table = [", "]", 7)
    choice = "".join(f"window({i}000000) if layer == {i} else " for i in range(4)) + "causal"
    assert keeps(f"pattern p = {choice}").splitlines()[1:3] == [
        "    window(0000000) if layer == 0",
        "    else window(1000000) if layer == 1",
    ]


def test_a_list_of_one_list_has_its_brackets_together() -> None:
    members = ", ".join(map(str, range(100, 140)))
    for opened, closed in (("[[", "]]"), ("[{", "}]")):
        lines = keeps(f"const a = {opened}{members}{closed}").splitlines()
        assert (lines[0], lines[-1]) == (f"const a = {opened}", closed)


def test_a_fault_of_the_layout_changes_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word lost, a comment lost, a word too many: whatever the layout does, the meaning is compared."""
    text = "pattern p = q == k  # near\n"
    for wrong in (["pattern p = q"], ["pattern p = q == k"], ["pattern p = q == k or true  # near"]):
        monkeypatch.setattr("attnc.compiler.formatter.formatter.laid_out", lambda *_, wrong=wrong: wrong)
        with pytest.raises(RuntimeError, match="would change it"):
            formatted(text)


def test_what_is_deep_or_long_is_laid_out() -> None:
    keeps("pattern p = " + "".join(f"(a{i} or b{i} and " for i in range(31)) + "q" + ")" * 31)
    keeps("pattern p = " + "abs(" * 60 + "q" + ")" * 60 + " < 3")
    keeps("pattern p = " + " or ".join(f"k < {i}" for i in range(1000)))
    keeps("\n".join(f"pattern p{i} = q == k" for i in range(1000)))


def test_what_would_pass_a_limit_is_refused() -> None:
    deep = "".join(f"(a{i} or b{i} and " for i in range(31)) + "q" + ")" * 31
    with pytest.raises(AttnError, match=r"laid out, .* is longer than 1,048,576 bytes"):
        formatted("\n".join(f"pattern p{i} = {deep}" for i in range(90)))


@pytest.mark.parametrize(
    "text", ["pattern p = (q", "pattern = 3", "x", "pattern p = q == k €", 'test p at n = 1 { picture """']
)
def test_a_broken_text_is_refused(text: str) -> None:
    with pytest.raises(AttnError):
        formatted(text)


def test_a_text_that_means_nothing_yet_is_laid_out() -> None:
    assert keeps("pattern p=unknown( 3 )") == "pattern p = unknown(3)\n"


# The command

Run = tuple[int, str, str]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Run:
    code = main.run(["fmt", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "messy.attn").write_bytes(MESSY.encode())
    (tmp_path / "neat.attn").write_bytes(NEAT.encode())
    (tmp_path / "broken.attn").write_bytes(b"pattern  p = (q\n")
    return tmp_path


def test_files_are_laid_out_in_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "messy.attn").chmod(0o640)
    old = (folder / "neat.attn").stat()
    assert run(capsys, "messy.attn", "neat.attn") == (0, "messy.attn: laid out\n", "")
    assert (folder / "messy.attn").read_bytes() == NEAT.encode()
    assert (folder / "messy.attn").stat().st_mode & 0o777 == 0o640
    new = (folder / "neat.attn").stat()
    assert (new.st_ino, new.st_mtime_ns) == (old.st_ino, old.st_mtime_ns), "written although nothing changed"
    assert run(capsys, "messy.attn", "neat.attn") == (0, "", "")
    assert sorted(path.name for path in folder.iterdir()) == ["broken.attn", "messy.attn", "neat.attn"]


def test_check_names_the_files_and_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--check", "neat.attn") == (0, "", "")
    assert run(capsys, "--check", "neat.attn", "messy.attn") == (1, "messy.attn: would change\n", "")
    assert (folder / "messy.attn").read_bytes() == MESSY.encode()


def test_a_broken_file_is_reported_and_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "broken.attn", "messy.attn", "nowhere.attn")
    assert (code, out) == (1, "messy.attn: laid out\n")
    assert "error[bracket]: `(` is never closed" in err
    assert "broken.attn:1:14" in err
    assert "nowhere.attn" in err
    assert (folder / "broken.attn").read_bytes() == b"pattern  p = (q\n"


def test_a_folder_means_its_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.attn").unlink()
    assert run(capsys, "--check", ".") == (1, "messy.attn: would change\n", "")
    (folder / "empty").mkdir()
    code, out, err = run(capsys, "empty")
    assert (code, out) == (1, "")
    assert "there is no .attn file in empty" in err


def test_a_byte_order_mark_and_carriage_returns_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "neat.attn").write_bytes(b"\xef\xbb\xbf" + NEAT.replace("\n", "\r\n").encode())
    assert run(capsys, "neat.attn") == (0, "neat.attn: laid out\n", "")
    assert (folder / "neat.attn").read_bytes() == NEAT.encode()


def test_a_link_stays_a_link(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "link.attn").symlink_to("messy.attn")
    assert run(capsys, "link.attn")[0] == 0
    assert (folder / "link.attn").is_symlink()
    assert (folder / "messy.attn").read_bytes() == NEAT.encode()


def test_a_file_that_cannot_be_replaced_stays_whole(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, out, err = run(capsys, "messy.attn")
    assert (code, out) == (1, "")
    assert "No space left" in err
    assert (folder / "messy.attn").read_bytes() == MESSY.encode()
    assert sorted(path.name for path in folder.iterdir()) == ["broken.attn", "messy.attn", "neat.attn"]


@pytest.mark.parametrize(
    ("arguments", "text", "ended"),
    [
        (["-"], "pattern p=q==k # ü", (0, "pattern p = q == k  # ü\n", "")),
        (["--check", "-"], "pattern p=q==k", (1, "-: would change\n", "")),
        (["--check", "-"], "pattern p = q == k\n", (0, "", "")),
    ],
)
def test_standard_input(
    arguments: list[str],
    text: str,
    ended: Run,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
    assert run(capsys, *arguments) == ended


def test_a_broken_standard_input_writes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"pattern p = \xff"), encoding="utf-8"))
    code, out, err = run(capsys, "-")
    assert (code, out) == (1, "")
    assert "error[not-utf8]" in err
    assert "<stdin>:1:13" in err
