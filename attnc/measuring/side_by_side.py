"""Times an attention side by side with what one would use instead, for `attnc bench`."""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from .measurement import PRODUCTS, TOLERANCE
from .requests import Request, attend, first_call, random_inputs, settle, square_product, tables_of_rows
from .rivals import DECODING, WHOLE, Attend, Maker, Masks, NotOfferedError, Rival
from .turns import Contestant, in_turn, passes_in_turn, ratio

OWN, LIMIT, DECODE = "attnc", "a matrix product", "one query"
LEAST = 0.02  # seconds for which each way runs in one round, at least once
LONGEST = 160  # characters of an error's message that are shown
WIDE = 240  # columns of a table, which is never folded


@dataclass(frozen=True)
class Way:
    """One way to compute one pass: ``forward``, ``backward`` or ``one query``, decoding's.

    ``seconds``: of each round; ``slower``: the median of the rounds' ratios of them to attnc's; ``share``: operations
    over the kept pairs in a second, of those of a matrix product. ``result``: ``the same``, or what it is instead.
    ``refused``: why there are no figures.
    """

    direction: str
    name: str
    seconds: tuple[float, ...] = ()
    slower: float | None = None
    share: float | None = None
    result: str = ""
    refused: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """All ways to compute an attention. ``pairs``: those kept, of all heads; ``limit``: operations a second of a matrix
    product in the same rounds.
    """

    name: str
    request: Request
    rounds: int
    pairs: int
    limit: float
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class _Entered:
    """The ways to one pass that can be timed, attnc's first, what each one's results are, and those that refuse."""

    rivals: Mapping[str, Rival]
    results: Mapping[str, str]
    refused: Mapping[str, str]


def compare(
    name: str, request: Request, beside: Sequence[str], rounds: int, progress: Callable[[str], object]
) -> Comparison:
    """Times a request's forward, its backward where it asks for it, and the decoding of one query, each beside the ways
    that ``beside`` names (:data:`WHOLE`, :data:`DECODING`); ``name`` is the attention's.

    InputError where the input, the settings or the machine does not allow the call; any other error of the call is
    raised unchanged. What a rival raises is its own, and is told in its row.
    """
    q, k, v, gradient = random_inputs(request)
    progress("first call")
    first_call(request, q, k, v)
    pairs = request.attention.plan(request.n, heads=request.heads, **request.tables).pairs
    masks = Masks(request)
    makers = [WHOLE[each] for each in beside if each in WHOLE]
    entered = _enter(partial(attend, request), makers, masks, (q, k, v), progress)
    product, operations = square_product(request)
    leaves = [x.clone().requires_grad_(request.backward) for x in (q, k, v)]
    without = _without_gradients(entered, leaves, gradient) if request.backward else dict.fromkeys(entered.rivals, "")
    contestants = [
        Contestant(way, partial(rival.attend, *leaves), () if way in without else leaves)
        for way, rival in entered.rivals.items()
    ]
    progress("timing, beside a matrix product")
    entrants = [*contestants, Contestant(LIMIT, product)]
    times = passes_in_turn(entrants, gradient, rounds, least=LEAST, settle=partial(settle, request.device))
    limit = times[LIMIT].forward
    ways: list[Way] = []
    for direction in ("forward", "backward") if request.backward else ("forward",):
        seconds = {way: getattr(found, direction) for way, found in times.items() if way != LIMIT}
        share = PRODUCTS[direction] * 2.0 * pairs * request.head_dim / operations
        ways += _ways(direction, entered, seconds, limit, share, without)
    ways += _decoding(request, masks, beside, (q[:, :, -1:], k, v), rounds, progress)
    return Comparison(name, request, rounds, pairs, operations / statistics.median(limit), tuple(ways))


def _decoding(
    request: Request,
    masks: Masks,
    beside: Sequence[str],
    inputs: tuple[Tensor, Tensor, Tensor],
    rounds: int,
    progress: Callable[[str], object],
) -> list[Way]:
    """The last query alone, against all keys."""
    position = request.n - 1
    tables = tables_of_rows(request, position, request.n)

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = request.attention(q, k, v, q_start=position, **tables)
        return out

    makers = [DECODING[each] for each in beside if each in DECODING]
    entered = _enter(step, makers, masks, inputs, progress)
    calls = {way: partial(rival.attend, *inputs) for way, rival in entered.rivals.items()}
    progress("timing, one query")
    with torch.no_grad():
        seconds = in_turn(calls, rounds, least=LEAST, settle=partial(settle, request.device))
    return _ways(DECODE, entered, seconds, [], 0.0, {})


def _enter(
    own: Attend,
    makers: Sequence[tuple[str, Maker]],
    masks: Masks,
    inputs: tuple[Tensor, Tensor, Tensor],
    progress: Callable[[str], object],
) -> _Entered:
    """Makes the rivals and calls each once, for its result."""
    rivals, results, refused = {OWN: Rival(own)}, {OWN: ""}, {}
    with torch.no_grad():
        expected = own(*inputs)
        for way, make in makers:
            progress(f"first call of {way}")
            try:
                rival = make(masks)
                alike = _alike(rival.attend, inputs, expected, TOLERANCE[masks.request.dtype])
            except NotOfferedError as reason:
                refused[way] = str(reason)
            except Exception as error:  # noqa: BLE001 - whatever a rival raises is its own, and the others are timed
                refused[way] = _told(error)
            else:
                rivals[way] = rival
                results[way] = "the same" if alike else rival.otherwise
    return _Entered(rivals, results, refused)


def _without_gradients(entered: _Entered, leaves: Sequence[Tensor], gradient: Tensor) -> dict[str, str]:
    """Why a way has no backward, for each that has none. Attnc's has one."""
    found = {}
    for way, rival in entered.rivals.items():
        if not rival.backward:
            found[way] = "has no gradients on a CPU"
        elif way != OWN:
            try:
                torch.autograd.grad(rival.attend(*leaves), leaves, gradient)
            except Exception as error:  # noqa: BLE001 - as of its forward
                found[way] = _told(error)
    return found


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:LONGEST]}"


def _alike(rival: Attend, inputs: tuple[Tensor, Tensor, Tensor], expected: Tensor, tolerance: float) -> bool:
    """Whether results differ by no more than twice what one of them may be wrong by, relative to the largest."""
    difference = (rival(*inputs).double() - expected.double()).abs().max()
    return bool(difference <= 2 * tolerance * expected.double().abs().max())


def _ways(
    direction: str,
    entered: _Entered,
    seconds: Mapping[str, Sequence[float]],
    limit: Sequence[float],
    share: float,
    without: Mapping[str, str],
) -> list[Way]:
    """``share``: the operations over the kept pairs, of the matrix product's that took ``limit``; 0: not told.
    ``without``: the ways that have no backward, and why.
    """
    made = []
    for way, result in entered.results.items():
        own = seconds[way]
        if own:
            slower = ratio(own, seconds[OWN])
            rate = share * ratio(limit, own) if share else None
            made.append(Way(direction, way, tuple(own), slower, rate, result))
        else:
            made.append(Way(direction, way, refused=without[way]))
    if direction != "backward":  # why a way has no forward is told there
        made += [Way(direction, way, refused=why) for way, why in entered.refused.items()]
    return made


def comparison_table(comparison: Comparison) -> str:
    """The comparison as a table to read."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("pass", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("median", "times attnc's", "of the limit"):
        table.add_column(title, justify="right")
    table.add_column("result")
    for way in comparison.ways:
        if way.refused:
            table.add_row(way.direction, way.name, "–", "–", "–", way.refused)
            continue
        share = "" if way.share is None else f"{way.share:.1%}"
        table.add_row(way.direction, way.name, f"{way.median * 1e3:,.3f} ms", f"{way.slower:.2f}", share, way.result)
    text = io.StringIO()
    Console(file=text, width=WIDE, color_system=None, force_terminal=False).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]
    return "\n".join(
        [
            f"{comparison.name}: {comparison.request.words}, {comparison.rounds} rounds",
            *lines,
            f"limit: {comparison.limit / 1e9:,.1f} GFLOP/s of a square matrix product in the same rounds; operations "
            f"are counted over the {comparison.pairs:,} kept pairs",
        ]
    )


def comparison_document(comparison: Comparison) -> str:
    """The comparison as JSON."""
    request = comparison.request
    ways = [{**asdict(way), "median": way.median if way.seconds else None} for way in comparison.ways]
    return json.dumps(
        {
            "name": comparison.name,
            "n": request.n,
            "heads": request.heads,
            "head_dim": request.head_dim,
            "dtype": request.dtype.name,
            "device": str(request.device),
            "threads": torch.get_num_threads(),
            "rounds": comparison.rounds,
            "pairs": comparison.pairs,
            "limit": comparison.limit,
            "ways": ways,
        },
        indent=2,
    )
