"""Keys computed for each query: attnc's plans beside block masks of 128 by 128 in natural order.

    python benchmarks/area.py

The area of a plan is all lanes of all tiles that its kernels visit, for each query. At n = 65,536: the tiles of the
kernels in the orders chosen, and natural order in tiles of 128 by 128, each counted from its schedule. At a length that
it can hold, since it looks at every pair: the blocks of FlexAttention's `create_block_mask`, which must be those of
natural order. Prints a table, and writes benchmarks/results/area.json. Planning makes no random choice; the tables'
contents are drawn with seed 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass

import torch
from _patterns import PUBLISHED, Published
from _timing import write
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from attnc.compiler.analysis.normal_form import parts
from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir.attentions import Attention
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.plan.orders import Tiles, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.schedule.segments import schedule
from attnc.compiler.schedule.statistics import totals

LENGTH, DENSE, BLOCK = 65536, 8192, 128
TILES = Tiles(64, 64)  # those of the C++ kernels


@dataclass(frozen=True)
class Row:
    """Keys for each query of one pattern; ``orders``: in which its kernels walk their rows."""

    pattern: str
    orders: list[str]
    area: float
    natural: float
    dense_natural: float
    flex: float
    arranged_seconds: float
    planned_seconds: float


def in_natural_order(attention: Attention, tiles: Tiles) -> Program:
    """The program without any choice of orders."""
    plain = arrange(attention, tiles, known=frozenset(), natural_rows=True)
    segments = tuple(Segment(natural(tiles.key), part) for part in parts(plain.mask))
    kernels = (Kernel(natural(tiles.query), segments, "store"),)
    return Program(kernels, plain.mask, plain.score, plain.sink, plain.tables)


def area(program: Program, published: Published, n: int) -> float:
    """Keys for each query of a program at length n."""
    extent = CallShape(n, n)
    return totals(program, schedule(program, extent, published.contents(n)), extent).area


def flex(attention: Attention, published: Published, n: int) -> float:
    """Keys for each query in the blocks that FlexAttention would compute."""
    held = dict(zip((table.name for table in attention.tables), published.contents(n), strict=True))
    kept = torch.from_numpy(evaluate(attention.mask, attention.tables, CallShape(n, n), held)[0, 0])

    def keeps(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return kept[q, k]

    made = create_block_mask(keeps, None, None, n, n, device="cpu", BLOCK_SIZE=BLOCK)
    blocks = int(made.kv_num_blocks.sum()) + int(made.full_kv_num_blocks.sum())
    return blocks * BLOCK * BLOCK / n


def measure(published: Published, n: int, dense: int) -> Row:
    attention = published.attention(n)
    start = time.perf_counter()
    program = arrange(attention, TILES)
    arranged = time.perf_counter()
    computed = area(program, published, n)
    planned = time.perf_counter()
    names = {str(number): table.name for number, table in enumerate(program.tables)}
    plain, short = Tiles(BLOCK, BLOCK), published.attention(dense)
    return Row(
        pattern=published.title,
        orders=[kernel.rows.describe(names) for kernel in program.kernels],
        area=computed,
        natural=area(in_natural_order(attention, plain), published, n),
        dense_natural=area(in_natural_order(short, plain), published, dense),
        flex=flex(short, published, dense),
        arranged_seconds=arranged - start,
        planned_seconds=planned - arranged,
    )


def show(rows: list[Row], n: int, dense: int) -> None:
    table = Table(box=box.MARKDOWN, title=f"Keys computed for each query ({TILES.query} × {TILES.key} tiles)")
    table.add_column("pattern")
    table.add_column("row orders")
    for heading in (
        f"attnc, n = {n:,}",
        f"natural {BLOCK}², n = {n:,}",
        f"n = {dense:,}",
        f"FlexAttention, n = {dense:,}",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = (f"{figure:,.0f}" for figure in (row.area, row.natural, row.dense_natural, row.flex))
        table.add_row(row.pattern, ", ".join(row.orders), *figures)
    Console(width=200).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=LENGTH, help="length of the plans")
    parser.add_argument("--dense", type=int, default=DENSE, help="length of FlexAttention's block masks")
    given = parser.parse_args()
    entered = track(PUBLISHED, console=Console(stderr=True), description="patterns")
    rows = [measure(published, given.n, given.dense) for published in entered]
    show(rows, given.n, given.dense)
    write("area", {"n": given.n, "dense_n": given.dense, "tiles": asdict(TILES), "rows": [asdict(x) for x in rows]})
    sys.stdout.flush()


if __name__ == "__main__":
    main()
