"""Rows of a long measurement: made one after the other, each kept in a file as soon as it is there, none made twice."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ATTEMPTS = 2  # of a row during which the process ends, before that counts as its fault
LONGEST = 400  # characters of an error's message that are kept: compilers say more
UNKNOWN = 60.0  # seconds that a row may take of whose group none was made yet


def digest(folders: Sequence[str]) -> str:
    """Of all files in some folders of the project: those that decide the rows' figures."""
    found = hashlib.sha256()
    for folder in folders:
        for place, inner, files in os.walk(ROOT / folder):  # follows no links: attnc's lead to the others
            inner[:] = sorted(set(inner) - {"results", "__pycache__"})
            for name in sorted(files):
                path = Path(place) / name
                if path.suffix in (".py", ".jinja", ".h", ".attn"):
                    found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class Found:
    """What a row found: its figures, and what is wrong with them, if anything is."""

    figures: Mapping[str, Any]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row before it is made. ``settings`` are what its figures depend on; ``telling``: 0 comes first where time is
    short; rows of one ``group`` take about as long as each other."""

    group: str
    name: str
    make: Callable[[], Found]
    settings: Mapping[str, Any] = field(default_factory=dict)
    telling: int = 1


@dataclass(frozen=True)
class Made:
    """One row as it is kept: what was found, and how long it took in seconds."""

    group: str
    name: str
    settings: Mapping[str, Any]
    figures: Mapping[str, Any]
    faults: tuple[str, ...]
    seconds: float


class Ledger:
    """The file of a measurement. Rows count for what ``of`` says (sources, device, …), and are begun anew for another;
    ``beside`` is only told."""

    def __init__(self, path: Path, of: Mapping[str, Any], beside: Mapping[str, Any]) -> None:
        self.path, self.of, self.beside = path, dict(of), dict(beside)
        self.rows: dict[str, Made] = {}
        self.begun: dict[str, int] = {}  # rows during which a process ended, and how often
        self.dropped = 0  # rows of the file that are of something else
        if path.exists():
            self._read(json.loads(path.read_text(encoding="utf-8")))

    def _read(self, document: Mapping[str, Any]) -> None:
        if document["of"] != self.of:
            self.dropped = len(document["rows"])
            return
        for row in document["rows"]:
            self.rows[row["name"]] = Made(**{**row, "faults": tuple(row["faults"])})
        self.begun = document["begun"]

    def has(self, row: Row) -> bool:
        """Whether the row was made, with the same settings."""
        made = self.rows.get(row.name)
        return made is not None and made.settings == dict(row.settings)

    def begin(self, row: Row) -> int:
        """Notes that a row begins; how often it did."""
        self.begun[row.name] = self.begun.get(row.name, 0) + 1
        self._write()
        return self.begun[row.name]

    def leave(self, row: Row) -> None:
        """Takes :meth:`begin` back: the row was broken off from outside."""
        self.begun.pop(row.name, None)
        self._write()

    def keep(self, row: Row, found: Found, seconds: float) -> Made:
        made = Made(row.group, row.name, dict(row.settings), found.figures, found.faults, seconds)
        self.rows[row.name] = made
        self.begun.pop(row.name, None)
        self._write()
        return made

    def forget_faulty(self) -> None:
        """Lets rows with faults be made again."""
        self.rows = {name: made for name, made in self.rows.items() if not made.faults}
        self.begun = {}

    def longest(self, group: str) -> float:
        """Seconds that a row of the group took at most, so far."""
        return max((made.seconds for made in self.rows.values() if made.group == group), default=UNKNOWN)

    def _write(self) -> None:
        """The old file or the new one, whatever happens meanwhile."""
        rows = [asdict(made) for made in self.rows.values()]
        text = json.dumps({"of": self.of, **self.beside, "rows": rows, "begun": self.begun}, indent=1) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise


@dataclass(frozen=True)
class Outcome:
    """How many of the rows asked for are sound, faulty and not made, and why the last are not."""

    sound: int
    faulty: int
    left: int
    why: str = ""

    @property
    def code(self) -> int:
        """For the shell: 0 all made and sound, 1 something is wrong, 3 nothing wrong but some rows are left."""
        return 1 if self.faulty else 3 if self.left else 0


def make_all(
    rows: Sequence[Row],
    ledger: Ledger,
    budget: float | None = None,
    told: Callable[[Made], None] = lambda _: None,
    usable: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Makes what the ledger has not, in order; within ``budget`` seconds the most telling first.

    ``usable``, asked after each faulty row: whether this process can make another, or has lost its device.
    """
    start, why = time.monotonic(), ""
    asked = rows if budget is None else sorted(rows, key=lambda row: row.telling)
    for row in asked:
        if ledger.has(row):
            continue
        if budget is not None and time.monotonic() - start + ledger.longest(row.group) > budget:
            why = f"{row.name} may take {ledger.longest(row.group):,.0f} s, which is more than the budget has left"
            break
        made = _made(row, ledger)
        told(made)
        if made.faults and not usable():
            why = "the device was lost: start again to go on with the next row"
            break
    done = [ledger.rows[row.name] for row in rows if ledger.has(row)]
    faulty = sum(bool(made.faults) for made in done)
    return Outcome(len(done) - faulty, faulty, len(rows) - len(done), why)


def _made(row: Row, ledger: Ledger) -> Made:
    """One row, whatever it raises."""
    if ledger.begin(row) > ATTEMPTS:
        found = Found({}, (f"the process ended {ATTEMPTS} times while this row was made",))
        return ledger.keep(row, found, 0.0)
    start = time.monotonic()
    try:
        found = row.make()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the row's own, and the others are made
        found = Found({}, (_told(error),))
    except BaseException:
        ledger.leave(row)
        raise
    return ledger.keep(row, found, time.monotonic() - start)


def _told(error: Exception) -> str:
    """An error with the place that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error)
    said = said if len(said) <= LONGEST else said[:LONGEST] + "…"
    return f"{type(error).__name__}: {said} ({Path(last.filename).name}:{last.lineno})"
