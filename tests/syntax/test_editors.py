"""What editors get: a TextMate grammar that knows every word, an extension that fits together, JSON as it is told.

A small reader of TextMate grammars stands in for an editor: line by line, the earliest match wins, the first rule of a
tie. The patterns are read by Python's `re`, of whose syntax they keep to the part that it shares with editors.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import attnc
from attnc.cli import main
from attnc.compiler.modules.loader import load_shipped, load_text
from attnc.compiler.syntax.grammar import vocabulary

ROOT = Path(__file__).parents[2]
EDITORS = ROOT / "docs" / "editors"
FOLDER = EDITORS / "vscode"
GRAMMAR: dict[str, Any] = json.loads((FOLDER / "syntaxes" / "attn.tmLanguage.json").read_text(encoding="utf-8"))
PACKAGE: dict[str, Any] = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))
RESERVED = vocabulary().reserved
SHIPPED = sorted((ROOT / "patterns").rglob("*.attn"))

Piece = tuple[str, str]  # text and its scope, which is empty where no rule has one
Rule = dict[str, Any]

# Words that are names elsewhere, each as it stands where it is none.
CONTEXTUAL = {
    "mask": "mask = causal", "score": "score = s", "scale": "scale = 1.0", "sink": "sink = 0.5",
    "picture": 'picture """', "row": "row 3 == {1}", "column": "column 0 == {1}", "pairs": "pairs == 3",
    "rows": "rows nonempty", "columns": "columns nonempty", "nonempty": "rows nonempty", "causal": "causal",
    "symmetric": "symmetric", "diagonal": "diagonal", "within": "within full", "contains": "contains full",
    "equals": "equals full", "disjoint": "disjoint full",
}  # fmt: skip


def expanded(rules: list[Rule]) -> Iterator[Rule]:
    """Rules with what they include in its place."""
    for rule in rules:
        if "include" in rule:
            yield from expanded([GRAMMAR["repository"][rule["include"].removeprefix("#")]])
        elif "match" in rule or "begin" in rule:
            yield rule
        else:
            yield from expanded(rule["patterns"])


def captured(found: re.Match[str], captures: dict[str, Rule], scope: str) -> Iterator[Piece]:
    """The pieces of one match: those of its groups, and what is between them."""
    place = found.start()
    for number in range(1, (found.re.groups if captures else 0) + 1):
        name = captures.get(str(number), {}).get("name")
        if name is None or found[number] is None:
            continue
        yield found.string[place : found.start(number)], scope
        yield found[number], name
        place = found.end(number)
    yield found.string[place : found.end()], captures.get("0", {}).get("name", scope)


def scopes(text: str) -> list[Piece]:
    """The pieces of a text with their scopes, blanks left out."""
    pieces: list[Piece] = []
    inside: list[Rule] = []
    for line in text.split("\n"):
        place = 0
        while place <= len(line):
            outer = inside[-1] if inside else GRAMMAR
            ways = [(outer["end"], outer, True)] if inside else []
            ways += [(rule.get("match") or rule["begin"], rule, False) for rule in expanded(outer["patterns"])]
            hits = [(found, rule, ends) for p, rule, ends in ways if (found := re.compile(p).search(line, place))]
            best = min(hits, key=lambda hit: hit[0].start(), default=None)
            if best is None:
                pieces.append((line[place:], outer.get("name", "")))
                break
            found, rule, ends = best
            pieces.append((line[place : found.start()], outer.get("name", "")))
            key = "endCaptures" if ends else "beginCaptures" if "begin" in rule else "captures"
            pieces += captured(found, rule.get(key, {}), rule.get("name", ""))
            if ends:
                inside.pop()
            elif "begin" in rule:
                inside.append(rule)
            place = found.end() if found.end() > place or ends or "begin" in rule else place + 1
            if place == len(line):
                break
    assert not inside, "a rule never ends"
    return [(piece.strip(), scope) for piece, scope in pieces if piece.strip()]


def scope_of(word: str, text: str) -> str:
    return next(scope for piece, scope in scopes(text) if word in piece.split())


def test_every_pattern_of_the_grammar_compiles() -> None:
    assert (GRAMMAR["scopeName"], GRAMMAR["fileTypes"]) == ("source.attn", ["attn"])
    rules = list(expanded(GRAMMAR["patterns"]))
    assert len(rules) > 20
    for rule in rules:
        for key in ("match", "begin", "end"):
            if key in rule:
                groups = re.compile(rule[key]).groups
                captures = [int(n) for name in ("captures", key + "Captures") for n in rule.get(name, {})]
                assert max(captures, default=0) <= groups


def test_every_rule_of_the_repository_is_used() -> None:
    used = set(re.findall(r'"include": "#(\w+)"', json.dumps(GRAMMAR)))
    assert used == set(GRAMMAR["repository"])


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_a_reserved_word_is_never_a_name(word: str) -> None:
    for text in (word, f"({word})", f"q {word} k", f"x, {word}"):
        scope = scope_of(word, text)
        assert re.match(r"keyword|storage|constant\.language|variable\.language|support\.function\.builtin", scope)
    assert "name" in scope_of(f"{word}_1", f"{word}_1(q)"), "longer words are names"


def test_every_word_of_the_grammar_is_known() -> None:
    """Each word of grammar.lark has its colour where the grammar has it."""
    words = {text for text in vocabulary().types if text.isalpha()}
    assert words == RESERVED | set(CONTEXTUAL)
    for word, text in CONTEXTUAL.items():
        assert re.match(r"keyword\.other|support\.function", scope_of(word, f"{text}\n" + '"""' * ('"""' in text))), (
            word
        )


@pytest.mark.parametrize(
    "text",
    ["mask(3)", "row or k", "abs(row - k)", "pairs(3)", "rows = 3", "within and k", "(symmetric: int)", "x[within]"],
)
def test_what_may_be_a_name_is_one_elsewhere(text: str) -> None:
    word = re.findall(r"mask|rows?|pairs|symmetric|within", text)[0]
    assert re.match(r"variable|entity", scope_of(word, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# a pattern", [("# a pattern", "comment.line.number-sign.attn")]),
        ("x in 0..<3", [("x", "variable.other.attn"), ("in", "keyword.operator.word.attn"),
                        ("0", "constant.numeric.integer.attn"), ("..<", "keyword.operator.range.attn"),
                        ("3", "constant.numeric.integer.attn")]),
        ("1.5e-3 ** 2e4", [("1.5e-3", "constant.numeric.float.attn"), ("**", "keyword.operator.arithmetic.attn"),
                           ("2e4", "constant.numeric.float.attn")]),
        ("g: tokens", [("g", "variable.parameter.attn"), (":", "punctuation.separator.type.attn"),
                       ("tokens", "support.type.attn")]),
        ("b: float[head, w]", [("b", "variable.parameter.attn"), (":", "punctuation.separator.type.attn"),
                               ("float", "support.type.attn"), ("[", "punctuation.definition.dimensions.begin.attn"),
                               ("head", "support.type.dimension.attn"), (",", "punctuation.separator.attn"),
                               ("w", "variable.other.dimension.attn"),
                               ("]", "punctuation.definition.dimensions.end.attn")]),
        ("window(size = 3)", [("window", "entity.name.function.call.attn"), ("(", "punctuation.bracket.attn"),
                              ("size", "variable.parameter.attn"), ("=", "keyword.operator.assignment.attn"),
                              ("3", "constant.numeric.integer.attn"), (")", "punctuation.bracket.attn")]),
        ("pattern mine = true", [("pattern", "storage.type.declaration.attn"), ("mine", "entity.name.function.attn"),
                                 ("=", "keyword.operator.assignment.attn"), ("true", "constant.language.attn")]),
    ],
)  # fmt: skip
def test_pieces_have_their_scopes(text: str, expected: list[Piece]) -> None:
    assert scopes(text) == expected


def test_pictures_over_several_lines() -> None:
    pieces = scopes('picture """\n    #.2\n    x # no comment\n""" # comment\ndiagonal')
    assert ("#", "constant.character.kept.attn") in pieces
    assert ("2", "constant.numeric.count.attn") in pieces
    assert ("x", "invalid.illegal.picture.attn") in pieces
    assert pieces[-2:] == [("# comment", "comment.line.number-sign.attn"), ("diagonal", "keyword.other.claim.attn")]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_has_a_scope_everywhere(path: Path) -> None:
    pieces = scopes(path.read_text(encoding="utf-8"))
    assert [piece for piece, scope in pieces if not scope or scope.startswith("invalid")] == []
    text = re.sub(r"\s", "", path.read_text(encoding="utf-8"))
    assert "".join(re.sub(r"\s", "", piece) for piece, _ in pieces) == text


# The extension


def test_the_extension_fits_together() -> None:
    assert PACKAGE["version"] == attnc.__version__
    contributes = PACKAGE["contributes"]
    (language,), (grammar,) = contributes["languages"], contributes["grammars"]
    assert (language["id"], language["extensions"]) == ("attn", [".attn"])
    assert (grammar["language"], grammar["scopeName"]) == (language["id"], GRAMMAR["scopeName"])
    assert PACKAGE["activationEvents"] == [f"onLanguage:{language['id']}"]
    assert f"[{language['id']}]" in contributes["configurationDefaults"]
    for file in (PACKAGE["main"], language["configuration"], grammar["path"]):
        assert (FOLDER / file).is_file(), file


def test_the_extension_reads_the_settings_that_it_has() -> None:
    script = (FOLDER / PACKAGE["main"]).read_text(encoding="utf-8")
    settings = PACKAGE["contributes"]["configuration"]["properties"]
    read = {f"attn.{name}" for name in re.findall(r"getConfiguration\(LANGUAGE\)\.get\(\"(\w+)\"\)", script)}
    assert read == set(settings)
    assert settings["attn.executable"]["scope"] == "machine", "a folder that is opened must not choose what runs"
    needed = ["path", "child_process", "vscode", "./completion", "./words.json"]
    assert re.findall(r"require\(\"(.+?)\"\)", script) == needed
    assert "require(" not in (FOLDER / "completion.js").read_text(encoding="utf-8")
    assert "shell" not in script


def test_the_extension_runs_commands_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (FOLDER / PACKAGE["main"]).read_text(encoding="utf-8")
    assert '["check", "--format", "json", document.uri.fsPath]' in script
    assert '["fmt", "-"]' in script
    used = set(re.findall(r"\b(?:fault|label|span|edit)\.([a-z_]+)\b", script)) - {"replace"}
    (tmp_path / "x.attn").write_text("pattern p = windw(8)\n")
    assert main.run(["check", "--format", "json", str(tmp_path / "x.attn")]) == 1
    (fault,) = json.loads(capsys.readouterr().out)
    assert used <= {*fault, *fault["labels"][0]}


def test_the_language_configuration_speaks_of_this_language() -> None:
    configuration = json.loads((FOLDER / "language-configuration.json").read_text(encoding="utf-8"))
    assert configuration["comments"] == {"lineComment": "#"}
    assert {tuple(pair) for pair in configuration["brackets"]} == {("{", "}"), ("[", "]"), ("(", ")")}
    rules = configuration["indentationRules"]
    for line in ("test p at n = 8 {", "pattern p(g: tokens) =", "pattern p(", '    picture """', "attention a { # why"):
        assert re.search(rules["increaseIndentPattern"], line), line
    for line in ("    k <= q", "# what if {", "test p at n = 3 { causal }", '    """'):
        assert not re.search(rules["increaseIndentPattern"], line), line
    for line in ("}", ") =", '    """'):
        assert re.search(rules["decreaseIndentPattern"], line), line


# Completion

WORDS: dict[str, Any] = json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))
RUN = """
const { candidates } = require(process.argv[1]);
const words = require(process.argv[2]);
const texts = JSON.parse(require("fs").readFileSync(0, "utf-8"));
const found = texts.map(([before, after]) => candidates(before, before + after, words).map((one) => one.label));
console.log(JSON.stringify(found));
"""
LOCAL = "pattern local(g: tokens, size: int = 4) = window(size) or q in g\n"
# The text before the cursor and behind it; some of what is offered, and some of what is not.
PLACES: dict[str, tuple[str, str, set[str], set[str]]] = {
    "an empty file": ("", "", {"pattern", "test", "from"}, {"q", "window", "int"}),
    "a type": ("pattern near(size: ", "", {"int", "tokens", "float[head]"}, {"q", "window", "pattern"}),
    "a type half written": ("pattern near(size: in", ")", {"int", "index"}, {"q"}),
    "a second type": ("pattern near(size: int, g:", "", {"tokens"}, {"q"}),
    "a dimension": ("pattern near(doc: int[", "", {"token", "query", "head"}, {"q", "int"}),
    "a second dimension": ("pattern near(doc: int[head, ", "", {"token"}, {"q", "int"}),
    "an expression": (LOCAL + "pattern b(w: int) = ", "", {"w", "local", "window", "q", "abs"}, {"int", "picture"}),
    "an argument": (LOCAL + "pattern b = local(", "", {"g = ", "size = ", "q"}, {"dilation = "}),
    "an argument of the prelude": ("pattern b = window(8, ", "", {"dilation = "}, {"g = "}),
    "what is declared below": ("pattern b = ", "\n" + LOCAL, {"local"}, set()),
    "a check": (LOCAL + "test local(g = {0}) at n = 8 {\n    ", "\n}", {"picture", "row", "symmetric"}, {"abs"}),
    "a second check": (LOCAL + "test local at n = 8 { symmetric ", " }", {"rows nonempty"}, {"abs"}),
    "the pattern of a claim": (LOCAL + "test local at n = 8 { within ", " }", {"window"}, {"picture"}),
    "a setting": (LOCAL + "test local at n = 8, ", "", {"head", "q_start"}, {"abs"}),
    "a field": ("attention a(b: float[head]) {\n    ", "", {"mask", "score", "sink"}, {"picture"}),
    "a score": ("attention a(slope: float[head]) {\n    score = ", "", {"slope", "s", "tanh"}, {"sink", "int"}),
    "a size": ("model m {\n    ", "", {"layers", "heads", "layer"}, {"mask", "picture"}),
    "a comment": ("# what ", "", set(), {"q", "window", "pattern"}),
    "a picture": ('test causal at n = 2 { picture """\n', "", set(), {"q", "picture"}),
}  # fmt: skip


def test_the_words_of_the_completion_are_those_of_the_language() -> None:
    words = {word for key in ("positions", "functions", "operators", "declarations") for word in (*WORDS[key],)}
    assert words | {"as", "at", "import"} == RESERVED
    for name in WORDS["types"]:
        load_text(f"pattern p(x: {name}) = full")
    for name in WORDS["dimensions"]:
        load_text(f"pattern p(x: int[{name}]) = full")
    assert set(WORDS["prelude"]) == set(load_shipped("std").declarations)
    fields = {*WORDS["checks"], *WORDS["fields"]["attention"], *WORDS["fields"]["model"]} - RESERVED
    assert fields == set(CONTEXTUAL) - {"rows", "columns", "nonempty"} | {"rows nonempty", "columns nonempty"}


@pytest.mark.skipif(shutil.which("node") is None, reason="node, which runs the completion, is not installed")
def test_what_is_offered_at_each_place() -> None:
    texts = [[before, after] for before, after, _, _ in PLACES.values()]
    command = ["node", "-e", RUN, str(FOLDER / "completion.js"), str(FOLDER / "words.json")]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, timeout=60, check=True)
    for (place, (_, _, some, none)), found in zip(PLACES.items(), json.loads(done.stdout), strict=True):
        assert some <= set(found), place
        assert not none & set(found), place
        assert len(found) == len(set(found)), place
        assert bool(found) == bool(some), place


# JSON


def faults(capsys: pytest.CaptureFixture[str], *files: Path) -> list[dict[str, Any]]:
    code = main.run(["check", "--format", "json", *map(str, files)])
    out, err = capsys.readouterr()
    found: list[dict[str, Any]] = json.loads(out)
    assert (code, err, out.isascii()) == (int(bool(found)), "", True)
    return found


def test_places_and_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "# \N{GRINNING FACE}\nmodel m { layers = 1 heads = 3\n layer * { head 0..1 = causal head 1..2 = full } }\n"
    path = tmp_path / "m.attn"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    (fault,) = faults(capsys, path)
    assert (fault["slug"], fault["file"], fault["message"]) == ("heads-overlap", str(path), "head 1 has two rules")
    assert (fault["line"], fault["column"], fault["end_line"], fault["end_column"]) == (3, 36, 3, 40)
    again, first = fault["labels"]
    assert (again["primary"], again["start"], again["end"]) == (True, fault["start"], fault["end"])
    assert text[fault["start"] : fault["end"]] == "1..2"
    assert (first["primary"], first["text"], text[first["start"] : first["end"]]) == (False, "first here", "0..1")
    assert {again["text"], again["file"]} == {"again here", str(path)}


def test_helps_and_a_fault_over_several_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.attn"
    path.write_text("pattern p = windw(3)\npattern r = q -\n  k\n")
    unknown, number = faults(capsys, path)
    assert unknown["helps"] == ["did you mean `window`?"]
    assert (number["line"], number["end_line"], number["end_column"]) == (2, 3, 4)


def test_a_missing_file_has_no_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fault,) = faults(capsys, tmp_path / "nowhere.attn")
    place = ("file", "line", "column", "end_line", "end_column", "start", "end")
    assert (fault["slug"], fault["labels"], {fault[key] for key in place}) == ("missing-file", [], {None})


def test_good_files_make_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(capsys, *SHIPPED) == []


# The page


def test_the_page_shows_json_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (EDITORS / "README.md").read_text(encoding="utf-8")
    (sample,) = [json.loads(block) for block in re.findall(r"```json\n(\[.*?\n)```", page, re.DOTALL)]
    monkeypatch.chdir(tmp_path)
    Path("longformer.attn").write_text("pattern local(g: tokens, w: int) =\n    windw(w) or q in g\n")
    (fault,) = faults(capsys, Path("longformer.attn"))
    assert list(fault) == list(sample[0])
    assert fault == sample[0]


def test_the_page_shows_patterns_as_they_are_laid_out() -> None:
    from attnc.compiler.formatter.formatter import formatted

    page = (EDITORS / "README.md").read_text(encoding="utf-8")
    samples = re.findall(r"```attn\n(.*?)```", page, re.DOTALL)
    assert [formatted(sample) for sample in samples] == samples != []


def test_the_links_of_the_page_lead_somewhere() -> None:
    page = (EDITORS / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) >= 2
    assert [link for link in links if not (EDITORS / link).exists()] == []
