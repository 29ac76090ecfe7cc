"""Texts as large as a text may be, right and wrong ones: how long it takes to read and check them, and to lay them out.

    python benchmarks/texts.py

Each text repeats one piece until it has close to 20,000 words, or 1 MiB. Seconds are of the processor, the best of
three, and once for laying out; the memory is the most that a process of its own holds, Python and the compiler
included. Prints a table, and writes benchmarks/results/texts.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from attnc.compiler.diagnostics import limits
from attnc.compiler.diagnostics.diagnostic import AttnError, Source
from attnc.compiler.formatter.formatter import formatted
from attnc.compiler.modules.loader import load_text
from attnc.compiler.syntax.lexer import declaration_tokens

RESULTS = Path(__file__).with_name("results") / "texts.json"
ROUNDS = 3


@dataclass(frozen=True)
class Shape:
    """``piece`` as often as a text holds it, ``{i}`` its number and ``{j}`` the one before, with what stands around."""

    name: str
    start: str
    piece: str
    between: str = " "
    end: str = ""

    def text(self, times: int) -> str:
        pieces = (self.piece.replace("{i}", str(i)).replace("{j}", str(i - 1)) for i in range(times))
        return self.start + self.between.join(pieces) + self.end


RIGHT = (
    Shape("a disjunction", "pattern p = ", "q + {i} < k", " or "),
    Shape("a conjunction", "pattern p = ", "k != {i}", " and "),
    Shape("a sum of numbers", "pattern p = q < ", "k * {i}", " + "),
    Shape("a sum of patterns", "pattern p = ", "(q + {i} == k)", " + "),
    Shape("a product in a score", "attention a { mask = causal score = s * ", "q", " * ", " }"),
    Shape("one maximum", "pattern p = q < max(", "k + {i}", ", ", ")"),
    Shape("one hash", "pattern p = q < hash(", "k * {i}", ", ", ")"),
    Shape("local names", "pattern p = q < k where ", "a{i} = q + {i}", ", "),
    Shape("a set of numbers", "const c = {", "{i}", ", ", "} pattern p = k in c"),
    Shape("a set of ranges", "pattern p = k in {", "{i}..q", ", ", "}"),
    Shape("a list of numbers", "const c = [", "{i}", ", ", "] pattern p = q < c[3]"),
    Shape("a list of lists", "const c = [", "[{i}, 2]", ", ", "]"),
    Shape("a table in a test", "test documents(doc = [", "{i}", ", ", "]) at n = 4096 { symmetric }"),
    Shape("applications", "pattern p = ", "window({i})", " or "),
    Shape("arguments by name", "pattern p = ", "window(size = {i}, dilation = 2)", " or "),
    Shape("choices", "pattern p = q < ", "({i} if k < {i} else q)", " + "),
    Shape("comprehensions", "pattern p = ", "any(q == i for i in 0..{i})", " or "),
    Shape("brackets in brackets", "pattern p = ", "(" * 60 + "q < k" + ")" * 60, " or "),
    Shape("parameters", "pattern p(", "a{i}: int = {i}", ", ", ") = q < a0"),
    Shape("tables", "pattern p(", "a{i}: int[b{i}]", ", ", ") = q < a0[k]"),
    Shape("patterns", "", "pattern p{i} = q < k + {i}"),
    Shape("patterns of patterns", "pattern p = causal pattern a0 = p ", "pattern b{i} = p or a0"),
    Shape("constants with comments", "", "# comment {i}\nconst c{i} = {i} # more", "\n"),
    Shape("imported names", "from std import ", "window as w{i}", ", "),
    Shape("rules for layers", "model m { layers = 50000 heads = 2 ", "layer {i} = first({i})", end=" layer * = full }"),
    Shape("for heads", "model m { layers = 1 heads = 50000 layer * { ", "head {i} = full", end=" head * = q == k }}"),
    Shape("models", "", "model m{i} { layers = 99999 heads = 1 layer * = window(layer + 1) }"),
    Shape("tests", "", "test causal at n = 64 { row {i} == {0..{i}} }"),
    Shape("rows of a test", "test causal at n = 4096 { ", "row {i} == {0..5}", " ", " }"),
    Shape("claims of a test", "test window(4) for all n { ", "within window({i})", " ", " }"),
    Shape("pictures", "", 'test causal at n = 2 { picture """#.\n##""" }'),
    Shape("one picture", 'test causal at n = 4096 { picture """', "#" * 4096, "\n", '""" }'),
    Shape("one comment", "#", "x" * 100, "x", "\npattern p = causal"),
    Shape("lines of comment", "", "# a line of comment, with nothing else in it", "\n", "\npattern p = causal"),
)  # fmt: skip
WRONG = (
    Shape("unknown names", "pattern p = ", "zz{i}", " or "),
    Shape("unknown names, each in a pattern", "", "pattern p{i} = zz{i}"),
    Shape("unknown characters", "", "é"),
    Shape("words that start nothing", "", "patern"),
    Shape("declarations that end too early", "", "pattern"),
    Shape("misspelt declarations", "", "pattern p{i} = q < paternn {i}"),
    Shape("brackets that close nothing", "", ")"),
    Shape("brackets never closed", "", "pattern p{i} = ("),
    Shape("words of Python", "pattern p = ", "lambda", " or "),
    Shape("numbers of too many digits", "const c = {", "9" * 19, ", ", "}"),
    Shape("names twice", "", "pattern p = causal"),
    Shape("a circle", "", "pattern p{i} = p{j} or p{i}"),
    Shape("kinds that do not fit", "pattern p = ", "(q < k) * {i}", " or "),
    Shape("rules that overlap", "model m { layers = 9 heads = 9 ", "layer {i} = window({i})", " ", " layer * = full }"),
    Shape("patterns that grow too large", "pattern p0 = q < k pattern p1 = p0 or p0 ", "pattern p{i}a = p1 or p1"),
    Shape("tests of what is not there", "", "test zz{i} at n = 4 { causal }"),
    Shape("modules that are not there", "", "from zz{i} import a{i}"),
    Shape("one digit", "const c = ", "9" * 100, ""),
    Shape("quotes", "", '"', ""),
    Shape("spaces", "pattern p = causal", " " * 100, ""),
)  # fmt: skip


def words(text: str) -> int:
    """Words and signs; of a text past the limit, the limit."""
    try:
        return sum(len(declaration.tokens) for declaration in declaration_tokens(Source("", text), lambda _: None))
    except AttnError:
        return limits.TOKENS


def full(shape: Shape) -> str:
    """The text of a shape, as large as it may be but for a hundredth."""
    few, more = shape.text(10), shape.text(30)
    times = 20 * limits.TOKENS // max(words(more) - words(few), 1)
    times = min(times, 20 * limits.BYTES // (len(more.encode()) - len(few.encode())))
    while True:
        text = shape.text(times)
        if len(text.encode()) <= limits.BYTES and words(text) < limits.TOKENS:
            return text
        times = times * 9 // 10


@dataclass(frozen=True)
class Row:
    """``outcome``: nothing for a right text, else the slug of its first fault. ``laid_out`` is None for a wrong one."""

    shape: str
    words: int
    bytes: int
    seconds: float
    laid_out: float | None
    mebibytes: float
    outcome: str


def best(action: Callable[[], object], rounds: int = ROUNDS) -> tuple[float, str]:
    """The least seconds of the processor, and the slug of the first fault."""
    taken, outcome = [], ""
    for _ in range(rounds):
        start = time.thread_time()
        try:
            action()
        except AttnError as error:
            outcome = error.diagnostics[0].slug
        taken.append(time.thread_time() - start)
    return min(taken), outcome


def measure(shape: Shape) -> Row:
    load_text("pattern p = causal")
    text = full(shape)
    seconds, outcome = best(lambda: load_text(text))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    laid_out = None if outcome else best(lambda: formatted(text), rounds=1)[0]
    return Row(shape.name, words(text), len(text.encode()), seconds, laid_out, peak, outcome)


def measured(shapes: tuple[Shape, ...]) -> Iterator[Row]:
    """Each shape in a process of its own."""
    context = multiprocessing.get_context("fork")
    for shape in shapes:
        with context.Pool(1) as pool:
            yield pool.apply(measure, (shape,))


def shown(rows: list[Row]) -> Table:
    table = Table("text", "words", "KiB", "s", "MiB", "fmt s", "first fault", box=box.SIMPLE)
    for row in rows:
        laid_out = "" if row.laid_out is None else f"{row.laid_out:.2f}"
        figures = (f"{row.words:,}", f"{row.bytes >> 10:,}", f"{row.seconds:.2f}", f"{row.mebibytes:.0f}", laid_out)
        table.add_row(row.shape, *figures, row.outcome)
    for column in table.columns[1:6]:
        column.justify = "right"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="shapes whose name holds this; nothing is written then")
    chosen = parser.parse_args().only
    rows = []
    for row in measured(tuple(s for s in (*RIGHT, *WRONG) if not chosen or chosen in s.name)):
        rows.append(row)
        print(f"{row.seconds:6.2f} s {row.mebibytes:4.0f} MiB  {row.shape}  {row.outcome}", flush=True)
    Console().print(shown(rows))
    if not chosen:
        settings = {"python": platform.python_version(), "rounds": ROUNDS}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"settings": settings, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
