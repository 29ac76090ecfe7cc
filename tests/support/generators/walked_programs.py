"""A seeded generator of programs for whose masks orders are found: remainders, blocks, grids, lists, sets and ranks."""

from __future__ import annotations

from random import Random

import numpy as np

from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import HEAD, Const, Expr
from attnc.compiler.ir.extent import HostTable
from attnc.compiler.ir.printer import expression, table_type
from tests.support.generators.programs import Program
from tests.support.generators.tables import Sizes
from tests.support.generators.walked_masks import TABLES, drawn_case

WEIGHT, LOGIT = Table("weight", "float", (Dimension("token"),)), Table("logit", "float", (Dimension("head"),))


def generate_walked(seed: int, *, largest: int = 64) -> Program:
    """The program of a seed: a pattern, or an attention with a learned score and sink; some tell heads apart."""
    draw = Random(f"walked {seed}")
    sizes = _sizes(draw, largest)
    mask = drawn_case(draw.getrandbits(30)).mask
    if sizes.heads > 1 and draw.random() < 0.6:
        mask = _by_head(draw, mask, sizes.heads)
    names = {str(number): table.name for number, table in enumerate(TABLES)}
    tables = [*TABLES, *([WEIGHT, LOGIT] if draw.random() < 0.4 else [])]
    header = f"subject({', '.join(f'{table.name}: {table_type(table)}' for table in tables)})"
    text = f"pattern {header} = {expression(mask, names)}\n"
    if WEIGHT in tables:
        sink = draw.choice(("", "sink = logit[head]", "sink = weight[q] + logit[head]"))
        score = "s - 0.1 * abs(q - k) + weight[k]"
        text = f"attention {header} {{\n    mask = {expression(mask, names)}\n    score = {score}\n    {sink}\n}}\n"
    contents = {table.name: _contents(draw, table, sizes) for table in tables}
    return Program(seed, text, "subject", {}, None, sizes, contents)


def _sizes(draw: Random, largest: int) -> Sizes:
    n, heads = draw.randint(1, largest), draw.choices((1, 2, 3, 4), (5, 3, 1, 1))[0]
    batch = draw.choices((1, 2, 3), (6, 3, 1))[0]
    if draw.random() < 0.6:
        return Sizes(n, n, heads, batch, (0,))
    m = draw.randint(1, n)
    starts = batch if batch > 1 and draw.random() < 0.5 else 1
    return Sizes(n, m, heads, batch, tuple(draw.randint(0, n - m) for _ in range(starts)))


def _by_head(draw: Random, mask: Expr, heads: int) -> Expr:
    """One head, or those from one on, keep something else."""
    other = drawn_case(draw.getrandbits(30)).mask
    first = Const(draw.randrange(1, heads))
    chosen = draw.choice((constructors.equal(HEAD, first), constructors.less(HEAD, first)))
    if mask.type == "bool" and other.type == "bool":
        return constructors.choose(chosen, mask, other)
    return constructors.plus(
        constructors.filtered(chosen, mask), constructors.filtered(constructors.negation(chosen), other)
    )


def _contents(draw: Random, table: Table, sizes: Sizes) -> HostTable:
    random = np.random.default_rng(draw.getrandbits(32))
    batched = sizes.batch > 1 and draw.random() < 0.4
    entries = sizes.batch if batched else 1
    match table.name:
        case "globals":
            values = random.random((entries, draw.randint(1, sizes.n))) < draw.choice((0.0, 0.05, 0.1, 0.5))
        case "rank":
            values = np.stack([random.permutation(sizes.n).astype(np.int32) for _ in range(entries)])
        case "label":
            values = np.sort(random.integers(0, 4, (entries, sizes.n)), axis=-1).astype(np.int32)
        case _:
            length = sizes.heads if table is LOGIT else sizes.n
            values = np.round(random.normal(size=(entries, length)) * 64).astype(np.float32) / 64
    return HostTable(values if batched else values[0], batched)
