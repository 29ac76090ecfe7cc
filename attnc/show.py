"""`attnc show`: one attention at one stage of the compiler, as text for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

from .compiler.dense import TooLargeError, require_room
from .compiler.describe import attention as described
from .compiler.describe import program as described_program
from .compiler.describe_stages import schedule as described_schedule
from .compiler.describe_stages import terms as described_terms
from .compiler.driver import Way
from .compiler.extent import Extent
from .compiler.integers import IntegerRangeError
from .compiler.ir import Literal_
from .compiler.outside import OutOfTableError
from .compiler.plan import Schedule, Tiles
from .compiler.uses import uses
from .draw import Picture, bins, blocks, tile_counts
from .faults import InputError, WrongUseError
from .inputs import inputs
from .stage import stage
from .subject import Applied, Subject, apply
from .tiled import look_by_tiles
from .view import EXACT_PAIRS, look
from .walks import as_they_stand, visits_of_cells, walks

# As the executors have them: asking them would import torch.
TILES = {"cpu": Tiles(64, 64), "gpu": Tiles(64, 64)}
HEAD_DIM = 64  # of the source that is shown
WIDTH = 128  # characters of a line that are used at most


@dataclass(frozen=True)
class Sight:
    """What there is to see: an attention on its way, and one head of it."""

    way: Way
    constants: Mapping[str, Literal_]
    layer: int | None
    head: int
    target: str

    @property
    def name(self) -> str:
        return self.way.name if self.layer is None else f"{self.way.name}, layer {self.layer}"

    @property
    def title(self) -> str:
        return f"{self.name}, head {self.head}"


@dataclass(frozen=True)
class Sizes:
    """What the command line says of the launch; None where it does not."""

    n: int
    m: int | None = None
    q_start: int = 0
    layer: int | None = None
    head: int | None = None
    heads: int | None = None
    usual_heads: int = 1


def prepare(
    subject: Subject, values: Mapping[str, Literal_], sizes: Sizes, target: str, say: Callable[[str], None]
) -> Sight:
    """Bind, and find contents for every table; ``say`` hears what was made up. Raises AttnError, InputError."""
    with stage("check"):
        applied = apply(subject, values, sizes.layer)
    return see(applied, sizes, target, say)


def see(applied: Applied, sizes: Sizes, target: str, say: Callable[[str], None]) -> Sight:
    """As :func:`prepare`, for what is bound already."""
    subject, head = applied.subject, sizes.head or 0
    heads = heads_of(applied, sizes)
    if head >= heads:
        raise WrongUseError(f"{subject.name} has heads 0 to {heads - 1} here, and {head} is none of them")
    m = sizes.n - sizes.q_start if sizes.m is None else sizes.m
    if m < 1:
        raise WrongUseError(f"no query row is left: n is {sizes.n} and the first row is at position {sizes.q_start}")
    extent = Extent(sizes.n, m, heads, (sizes.q_start,))
    try:
        require_room("a picture of rows of the mask", (min(m, WIDTH), sizes.n), 1)
        require_room("a picture of columns of the mask", (m, min(sizes.n, WIDTH)), 1)
        use = uses(applied.attention, extent)
        found = inputs(applied.attention.tables, applied.tables, extent, {}, use)
    except ValueError as error:
        raise InputError(str(error)) from None
    for line in found.made_up:
        say(line)
    tiles = TILES["cpu" if target == "cpu" else "gpu"]
    way = Way(subject.module, subject.name, applied.attention, extent, found.contents, tiles)
    return Sight(way, applied.constants, applied.layer, head, target)


def heads_of(applied: Applied, sizes: Sizes) -> int:
    """The model's heads, else as many as asked for, else as many as a table was given for, else the usual."""
    if applied.heads is not None:
        if sizes.heads not in (None, applied.heads):
            raise WrongUseError(f"{applied.subject.name} has {applied.heads} heads, not {sizes.heads}")
        return applied.heads
    if sizes.heads is not None:
        return sizes.heads
    for table in applied.attention.tables:
        given = applied.tables.get(table.name)
        for dimension in table.dimensions:
            if isinstance(given, tuple):
                if dimension.kind == "head":
                    return len(given)
                given = given[0] if given else None
    return max((sizes.head or 0) + 1, sizes.usual_heads)


def shown(name: str, sight: Sight, columns: int, tinted: bool = False) -> str:
    """One of the compiler's stages as text; a picture is at most ``columns`` wide, and coloured if ``tinted``."""
    with stage(name):
        match name:
            case "tree":
                return "\n".join(outline(sight.way.tree))
            case "mask":
                return mask(sight, columns, tinted)
            case "terms":
                return f"{sight.name}: a pair is kept where a term holds of it\n{described_terms(sight.way.terms)}"
            case "program":
                return f"{described(sight.way.attention)}\n{described_program(sight.way.program)}"
            case "schedule":
                return bounds(sight)
            case "source":
                from .rendered import source_of  # the one stage that asks an executor, and so imports torch

                return source_of(sight.way.attention, sight.target, HEAD_DIM, "fp32").rstrip("\n")
    raise ValueError(f"{name} is no stage")


def mask(sight: Sight, columns: int, tinted: bool = False) -> str:
    """The picture in characters, and a line that counts; if ``tinted``, in the colours of its tiles."""
    limit = max(2, min(columns, WIDTH))
    picture, pairs = sampled(sight, limit, sight.way.schedule if tinted else None)
    m, n = sight.way.extent.m, sight.way.extent.n
    number = f"about {float(picture.density.mean()):.2%} of all pairs"
    if pairs is not None:
        counted = sight.way.attention.mask.type == "count"
        number = (
            f"{pairs:,} pairs, counted as often as they count" if counted else f"{pairs:,} pairs, {pairs / (m * n):.2%}"
        )
    scale = "" if picture.density.shape == (m, n) else f", {-(-n // picture.density.shape[1])} keys to a column"
    tiles = "" if picture.visits is None else f"\n{tile_counts(picture.visits)}"
    return f"{blocks(picture, tinted)}\n{sight.title}: {m:,} queries × {n:,} keys, {number}{scale}{tiles}"


def sampled(sight: Sight, limit: int, planned: Schedule | None) -> tuple[Picture, int | None]:
    """The chosen head's mask in at most ``limit`` cells each way, and its pairs; InputError for an index outside
    or an integer beyond 63 bits.

    With a schedule also which tiles visit the cells, and the tiles themselves where they are walked as they stand.
    """
    way = sight.way
    large = way.extent.m * way.extent.n > EXACT_PAIRS
    found = walks(way.program, planned or way.schedule, sight.head) if planned is not None or large else []
    cells = (limit, limit)
    by_tiles = None
    if large:
        name = way.attention.name
        by_tiles = look_by_tiles(name, found, way.program, way.extent, way.contents, sight.head, cells)
    try:
        picture, pairs = by_tiles or look(way.attention, way.extent, way.contents, sight.head, cells)
    except (OutOfTableError, TooLargeError, IntegerRangeError) as error:
        raise InputError(str(error)) from None
    if planned is not None:
        visits = visits_of_cells(found, bins(picture.queries, limit), bins(picture.keys, limit))
        tiles = tuple(tile for walk in found for tile in walk.tiles()) if as_they_stand(found) else ()
        picture = replace(picture, visits=visits, tiles=tiles)
    return picture, pairs


def bounds(sight: Sight) -> str:
    """The kernels, and which key tiles each of their row tiles visits."""
    way = sight.way
    sizes = f"{sight.name}: {way.extent.m:,} queries × {way.extent.n:,} keys"
    return f"{sizes}\n{described_schedule(way.program, way.schedule, way.extent)}"


def outline(node: object, name: str = "", depth: int = 0) -> Iterator[str]:
    """A syntax tree, a line for each node: the field that it stands in, its kind, its plain values."""
    lead = "  " * depth + (f"{name}: " if name else "")
    if not is_dataclass(node):
        yield f"{lead}{node!r}"
        return
    parts = [(field.name, getattr(node, field.name)) for field in fields(node) if field.name not in ("span", "source")]
    plain = [f"{key}={value!r}" for key, value in parts if isinstance(value, (bool, int, float, str, type(None)))]
    yield f"{lead}{type(node).__name__}{' ' if plain else ''}{' '.join(plain)}"
    for key, value in parts:
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part):
                yield from outline(part, key, depth + 1)
