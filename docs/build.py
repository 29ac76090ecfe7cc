"""Writes what the pages do not say by hand: the grammar, the prelude, Python's names, systems, what commands print.

`make docs` runs it; with `--check` it writes nothing, names what is not up to date, and exits with 1.
Between `<!-- NAME -->` and `<!-- end of NAME -->` of a page stands what it makes of NAME; docs/api.md, docs/systems.md
and docs/gallery.md are made whole; after every `$ attnc …` of a page stands what that prints.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attnc
from attnc.attention import Attention, Model, Module
from attnc.cache_plan import CachePlan
from attnc.call_plan import CallPlan
from attnc.comparison import Diff, ModelDiff
from attnc.compiler.diagnostics.diagnostic import AttnError, Diagnostic, Edit, Label, Source, Span
from attnc.compiler.ir.operations import FUNCTIONS
from attnc.compiler.modules.loader import Declaration, Parameter, load_shipped
from attnc.compiler.syntax.grammar import GRAMMAR, build_parser, grammar_text
from attnc.compiler.syntax.lexer import tokens
from attnc.compiler.verify import Verdict
from attnc.compiler.verify.counterexamples import Counterexample
from attnc.facts import Facts
from attnc.last_reader import LastReader
from attnc.prepared_attention import PreparedAttention
from attnc.runtime.base.configuration import Settings
from attnc.testing import assertions
from docs import ratios, systems_pages
from tests.support import pages

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
EXAMPLES = DOCS / "grammar.txt"
WRITTEN = (
    "README.md",
    "compiler.md",
    "flex_attention.md",
    "language.md",
    "tutorial.md",
    "what-attnc-knows.md",
)  # no other page is touched
RULE = re.compile(r"^[?]*([a-z_]+): .*(?:\n +\|.*)*", re.MULTILINE)
SEVERAL = re.compile(r'^([A-Z_]+)(?:\.\d)?: ("[^"]+"(?: \| "[^"]+")+)$', re.MULTILINE)
RETURNED = (
    CallPlan,
    CachePlan,
    PreparedAttention,
    Facts,
    LastReader,
    Verdict,
    Counterexample,
    Diff,
    ModelDiff,
    Declaration,
    Parameter,
    Diagnostic,
    Label,
    Edit,
    Span,
    Source,
)
WORDS = DOCS / "editors" / "vscode" / "words.json"
COLOURS = DOCS / "editors" / "vscode" / "syntaxes" / "attn.tmLanguage.json"
FOLDS = ("any", "all", "sum")


def rules() -> Mapping[str, str]:
    """The rules of the grammar by name, without the marks and names of trees that only the parser reads."""
    text = GRAMMAR.read_text(encoding="utf-8")
    return {found[1]: re.sub(r" -> \w+", "", found[0]).lstrip("?") for found in RULE.finditer(text)}


def terminals() -> str:
    """The terminals that stand for one of several words or signs, as the grammar has them but for their priorities."""
    text = grammar_text()
    return "\n".join(f"{name}: {texts}" for name, texts in SEVERAL.findall(text))


def examples() -> Mapping[str, tuple[str, ...]]:
    """What docs/grammar.txt has for each rule."""
    found: dict[str, list[str]] = {}
    rule = ""
    for line in EXAMPLES.read_text(encoding="utf-8").splitlines():
        if line.startswith("        "):
            found[rule][-1] += "\n" + line[4:]
        elif line.startswith("    "):
            found[rule].append(line.strip())
        elif line and not line.startswith("#"):
            rule = line
            found[rule] = []
    return {name: tuple(lines) for name, lines in found.items()}


def parse_examples() -> None:
    """Parses every example by its rule. ValueError where rules and examples do not match."""
    given = examples()
    unmatched = {name for name in {*given, *rules()} if not given.get(name) or name not in rules()}
    if unmatched:
        raise ValueError(f"docs/grammar.txt and the grammar differ in {', '.join(sorted(unmatched))}")
    parser = build_parser(list(given))
    for name, texts in given.items():
        for example in texts:
            parser.parse(tuple(tokens(example)), start=name)


def grammar() -> str:
    """Each rule, and what it reads; then the terminals of several words or signs."""
    parse_examples()
    known = examples()
    parts = (f"```lark\n{rule}\n```\n```text\n{chr(10).join(known[name])}\n```" for name, rule in rules().items())
    return "\n\n".join((*parts, f"```lark\n{terminals()}\n```"))


def prelude() -> str:
    """The patterns of std.attn as a table."""
    module = load_shipped("std")
    lines = ["| name | condition | |", "|---|---|---|"]
    for declaration in module.declarations.values():
        node: Any = module.definitions[declaration.name].node
        taken = ", ".join(_parameter(parameter) for parameter in declaration.parameters)
        span = node.body.span
        body = " ".join(span.source.text[span.start : span.end].split())
        name = f"{declaration.name}({taken})" if taken else declaration.name
        lines.append(f"| `{name}` | `{body}` | {' '.join(declaration.documentation.split())} |")
    return "\n".join(lines)


def _parameter(parameter: Parameter) -> str:
    default = "" if parameter.default is None else f" = {parameter.default}"
    return f"{parameter.name}: {parameter.type}{default}"


def api() -> str:
    """docs/api.md."""
    kinds: list[tuple[str, Any]] = [(name, getattr(attnc, name)) for name in attnc.__all__]
    functions = [value for _, value in kinds if inspect.isfunction(value)]
    parts = [
        "# Python",
        "<!-- made by docs/build.py from the docstrings: `make docs` -->",
        f"`import attnc` gives {len(attnc.__all__)} names: {', '.join(f'`{name}`' for name, _ in kinds)}. "
        "All else is private. The [tutorial](tutorial.md) shows them at work.",
        "## Functions",
        *(_function(function, f"attnc.{function.__name__}", "###") for function in functions),
        *(part for kind in (Module, Attention, Model, AttnError) for part in _class(kind, "##", "attnc.")),
        *_settings(),
        "## What they return",
        *(part for kind in RETURNED for part in _class(kind, "###", "")),
        *_testing(),
    ]
    return "\n\n".join(parts) + "\n"


def _testing() -> Iterator[str]:
    yield "## attnc.testing"
    yield "For tests of patterns of one's own; [testing](testing.md) shows it at work."
    functions = [getattr(assertions, name) for name in assertions.__all__]
    yield from (_function(one, f"testing.{one.__name__}", "###") for one in functions if inspect.isfunction(one))
    yield from _class(assertions.Shape, "###", "testing.")
    shapes = ", ".join(f"`{shape}`" for shape in assertions.SHAPES)
    yield f"### testing.SHAPES\n\nWhat the assertions try unless told otherwise: {shapes}."


def _function(function: Callable[..., Any], name: str, level: str) -> str:
    return f"{level} {name}\n\n```text\n{name}{_signature(function)}\n```\n\n{_prose(function)}".rstrip()


def _signature(function: Callable[..., Any]) -> str:
    """As Python writes it, over several lines where it is long; annotations as the source has them."""
    found = inspect.signature(function)
    taken = [parameter for name, parameter in found.parameters.items() if name != "self"]
    plain = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(found.replace(parameters=taken)))
    if len(plain) < 90:
        return plain
    inside, result = plain[1:].rsplit(")", 1)
    pieces = re.split(r", (?![^\[(]*[\])])", inside)
    return "(\n" + "".join(f"    {piece},\n" for piece in pieces) + ")" + result


def _class(kind: type, level: str, home: str) -> Iterator[str]:
    """A class: what it is, its fields, properties and methods."""
    yield f"{level} {home}{kind.__name__}"
    if dataclasses.is_dataclass(kind):
        fields = [field for field in dataclasses.fields(kind) if not field.name.startswith("_")]
        yield "Fields: " + ", ".join(f"`{field.name}: {field.type}`" for field in fields) + "."
    documented = inspect.cleandoc(kind.__doc__ or "")
    if not documented.startswith(f"{kind.__name__}("):  # what a dataclass writes for itself
        yield _marked(documented)
    for name, member in vars(kind).items():
        if name.startswith("_") and name != "__call__":
            continue
        getter = getattr(member, "fget", None) or getattr(member, "func", None)
        if getter is not None:
            yield f"`.{name}`: {_result(getter)}. {_prose(getter)}".rstrip()
        elif inspect.isfunction(member):
            yield _function(member, f"{kind.__name__}.{name}", level + "#")


def _result(getter: Callable[..., Any]) -> str:
    annotation = getter.__annotations__["return"]
    return f"`{annotation}`"


def _settings() -> Iterator[str]:
    yield "## attnc.settings"
    yield _prose(Settings)
    yield "A setting is an attribute: `attnc.settings.cxx`. It is read from the environment whenever it is asked for."
    rows = (
        f"| `{field.name}` | {', '.join(f'`{v}`' for v in field.variables)} | `{field.default}` | {field.sentence} |"
        for field in Settings.fields()
    )
    yield "\n".join(["| | set by | unless set | |", "|---|---|---|---|", *rows])
    yield _function(Settings.override, "settings.override", "###")
    yield _function(Settings.describe, "settings.describe", "###")


def _prose(documented: object) -> str:
    return _marked(inspect.getdoc(documented) or "")


def _marked(text: str) -> str:
    """A docstring as Markdown."""
    return re.sub(r"``([^`]+)``", r"`\1`", re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text))


def printed(page: str, folder: Path) -> str:
    """A page with what its commands print now. What differs only from run to run stays as it stands."""
    found = pages.samples(page)
    pages.save(found, folder)
    for sample in found:
        if sample.language != "console":
            continue
        parts = []
        with pages.within(folder):
            for command, shown in pages.commands(sample.text):
                now, _ = pages.run(command)
                same = pages.comparable(command, now) == pages.comparable(command, shown)
                parts.append(f"$ {command}\n{shown if same else now}".rstrip("\n") + "\n")
        page = page.replace(f"```console\n{sample.text}```", f"```console\n{''.join(parts)}```")
    return page


def words() -> str:
    """What the editor's completion knows: the words of the language, each with a few words about it."""
    module = load_shipped("std")
    prelude_ = {
        declaration.name: f"{declaration.name}({', '.join(map(_parameter, declaration.parameters))})"
        if declaration.parameters
        else " ".join(declaration.documentation.split())
        for declaration in module.declarations.values()
    }
    functions = {name: f"{one.help}{', in a score' if one.of_floats else ''}" for name, one in FUNCTIONS.items()}
    folds = {name: f"{name}(e for x in S)" for name in FOLDS}
    known = json.loads(WORDS.read_text(encoding="utf-8"))
    known |= {"prelude": prelude_, "functions": {**functions, **folds}}
    return json.dumps(known, indent=2, ensure_ascii=False) + "\n"


def colours() -> str:
    """The editor's TextMate grammar with the functions of the language as they are now."""
    folds, functions = "|".join(FOLDS), "|".join(FUNCTIONS)
    return re.sub(rf"{re.escape(folds)}[a-z|]*", f"{folds}|{functions}", COLOURS.read_text(encoding="utf-8"))


def renewed(page: str) -> str:
    """A page with its generated sections as they are now."""
    for name, make in (("grammar", grammar), ("prelude", prelude), ("ratios", ratios.ratios)):
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if start in page:
            before, rest = page.split(start)
            page = f"{before}{start}\n{make()}\n{end}{rest.split(end)[1]}"
    return page


def built() -> Iterator[tuple[Path, str]]:
    """Every page, and what it should hold."""
    yield DOCS / "api.md", api()
    yield DOCS / "systems.md", systems_pages.systems_page()
    yield DOCS / "gallery.md", systems_pages.gallery_page()
    yield README, renewed(README.read_text(encoding="utf-8"))
    yield WORDS, words()
    yield COLOURS, colours()
    for name in WRITTEN:
        with tempfile.TemporaryDirectory() as folder:
            yield DOCS / name, printed(renewed((DOCS / name).read_text(encoding="utf-8")), Path(folder))


def main(check: bool) -> int:
    """Writes the pages, or names those that it would change."""
    stale = 0
    for path, text in built():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        sys.stderr.write(
            f"{path.relative_to(DOCS.parent)}: {'is not up to date: run `make docs`' if check else 'written'}\n"
        )
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
