"""What a command looks at: a bound attention, the contents of its tables, and the sizes of one launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..compiler.ir import CallShape, HostTable, Literal_
from ..compiler.oracle import require_room
from ..compiler.pipeline import Pipeline
from ..compiler.plan import BF16, FP32, DType
from ..compiler.verify import uses
from ..runtime.backends import backend_of_target
from .errors import InputError, WrongUseError
from .example_inputs import inputs
from .stage_at_work import stage
from .subject import Applied, Target, apply

HEAD_DIM = 64  # the head dimension of sources that are shown
WIDTH = 128  # the width of a picture in characters, at most


@dataclass(frozen=True)
class LaunchView:
    """A bound declaration in the compiler's pipeline, with the sizes of a launch, and one head of it to look at.

    ``contents`` are those of every table, by name.
    """

    subject: Target
    pipeline: Pipeline
    extent: CallShape
    contents: Mapping[str, HostTable]
    constants: Mapping[str, Literal_]
    layer: int | None
    head: int
    target: str

    @property
    def name(self) -> str:
        return self.subject.name if self.layer is None else f"{self.subject.name}, layer {self.layer}"

    @property
    def title(self) -> str:
        return f"{self.name}, head {self.head}"


@dataclass(frozen=True)
class LaunchSizes:
    """The sizes that the command line gives; None where it does not. ``usual_heads``: used where nothing else gives
    heads.
    """

    n: int
    m: int | None = None
    q_start: int = 0
    layer: int | None = None
    head: int | None = None
    heads: int | None = None
    usual_heads: int = 1


def shown_dtype(target: str) -> DType:
    """The dtype of the kernels that are shown for a target: the one that is usual there."""
    return FP32 if target == "cpu" else BF16


def prepare(
    subject: Target, values: Mapping[str, Literal_], sizes: LaunchSizes, target: str, say: Callable[[str], None]
) -> LaunchView:
    """Binds a declaration and finds contents for its tables; ``say`` gets what was made up. Raises AttnError,
    InputError.
    """
    with stage("check"):
        applied = apply(subject, values, sizes.layer)
    return make_view(applied, sizes, target, say)


def make_view(applied: Applied, sizes: LaunchSizes, target: str, say: Callable[[str], None]) -> LaunchView:
    """As :func:`prepare`, for a declaration that is bound already."""
    subject, head = applied.subject, sizes.head or 0
    heads = heads_of(applied, sizes)
    if head >= heads:
        raise WrongUseError(f"{subject.name} has heads 0 to {heads - 1} here, and {head} is none of them")
    m = sizes.n - sizes.q_start if sizes.m is None else sizes.m
    if m < 1:
        raise WrongUseError(f"no query row is left: n is {sizes.n} and the first row is at position {sizes.q_start}")
    extent = CallShape(sizes.n, m, heads, (sizes.q_start,))
    try:
        require_room("a picture of rows of the mask", (min(m, WIDTH), sizes.n), 1)
        require_room("a picture of columns of the mask", (m, min(sizes.n, WIDTH)), 1)
        use = uses(applied.attention, extent)
        found = inputs(applied.attention.tables, applied.tables, extent, {}, use)
    except ValueError as error:
        raise InputError(str(error)) from None
    for line in found.made_up:
        say(line)
    held = tuple(found.contents[table.name] for table in applied.attention.tables)
    tiles = backend_of_target(target).tiles(shown_dtype(target), HEAD_DIM, target)
    pipeline = Pipeline(applied.attention, tiles.forward, extent, held)
    return LaunchView(subject, pipeline, extent, found.contents, applied.constants, applied.layer, head, target)


def heads_of(applied: Applied, sizes: LaunchSizes) -> int:
    """The number of heads: the model's, else the option's, else that of a given table, else the usual number."""
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
