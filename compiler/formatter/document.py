"""A pretty printer: documents of words and of gaps where lines may break, laid out within a width.

A group goes on one line if it fits. Otherwise it breaks at its own gaps, and each group inside it is decided in turn.
Comments stay with their words: one on a line of its own keeps a line of its own, one behind a word ends the line there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..diagnostics import limits

INDENT = 4
_OPENERS = ("{", "(", "[")


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment: ``#`` and the rest of the line. ``apart``: there is a blank line above it."""

    text: str
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """One word or sign, with its comments: ``before`` holds those on the lines above it, ``after`` the one behind it.

    ``apart``: there is a blank line between the comments above and the word.
    """

    text: str
    before: tuple[Comment, ...] = ()
    apart: bool = False
    after: str = ""


@dataclass(frozen=True, slots=True)
class Remarks:
    """Comments on lines of their own that belong to no word of the group: those above a closing bracket."""

    comments: tuple[Comment, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """A place between words: ``flat`` if the line goes on, else a line end, which ``apart`` follows by a blank line."""

    flat: str
    breaks: Literal["never", "with its group", "always"] = "with its group"
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Either:
    """A text that depends on its group: ``broken`` if that is broken over lines, ``flat`` if it is on one line."""

    broken: str = ""
    flat: str = ""


@dataclass(frozen=True, slots=True)
class Several:
    """Parts one after the other. ``opens``: comments above its first word; ``ends``: a comment behind its last word;
    ``tall``: a line has to end inside, whatever the width.
    """

    parts: tuple[Document, ...]
    opens: bool
    ends: bool
    tall: bool


@dataclass(frozen=True, slots=True)
class Nest:
    """A document whose lines, when it breaks, are indented by ``by`` more columns."""

    body: Document
    by: int = INDENT


@dataclass(frozen=True, slots=True)
class Group:
    """A document that goes on one line if it fits there, and otherwise breaks at its own gaps."""

    body: Document


Document: TypeAlias = Word | Remarks | Gap | Either | Several | Nest | Group

SPACE = Gap(" ", "never")
LINE = Gap(" ")
SOFT = Gap("")
HARD = Gap("", "always")
NOTHING = Either()


def row(*parts: Document | str) -> Several:
    """A row of documents. A string is a word; the string of one space is a gap that never breaks."""
    made = tuple((SPACE if part == " " else Word(part)) if isinstance(part, str) else part for part in parts)
    solid = [part for part in made if not isinstance(part, Gap | Either)]
    inside = any(map(opens, solid[1:])) or any(map(ends, solid[:-1])) or any(map(tall, made))
    above, behind = bool(solid) and opens(solid[0]), bool(solid) and ends(solid[-1])
    if above and isinstance(made[0], Gap):
        above, inside = False, True  # the gap before the comment has to break
    if behind and isinstance(made[-1], Gap):
        behind, inside = False, True
    return Several(made, above, behind, inside)


def opens(document: Document) -> bool:
    """Whether there are comments above the first word of a document."""
    match document:
        case Word(before=before):
            return bool(before)
        case Several(opens=above):
            return above
        case Nest(body=body) | Group(body=body):
            return opens(body)
        case _:
            return False


def ends(document: Document) -> bool:
    """Whether there is a comment behind the last word of a document."""
    match document:
        case Word(after=after):
            return bool(after)
        case Several(ends=behind):
            return behind
        case Nest(body=body) | Group(body=body):
            return ends(body)
        case _:
            return False


def tall(document: Document) -> bool:
    """Whether a line has to end inside a document, whatever the width."""
    match document:
        case Several(tall=inside):
            return inside
        case Nest(body=body) | Group(body=body):
            return tall(body)
        case Gap(breaks=breaks):
            return breaks == "always"
        case Remarks(comments=comments):
            return bool(comments)
        case _:
            return False


def flat_width(document: Document) -> int | None:
    """The width of a document on one line, in columns; None where a comment or a forced break makes it take several."""
    total = 0
    stack = [document]
    while stack:
        part = stack.pop()
        if tall(part) or opens(part) or ends(part):
            return None
        match part:
            case Word(text=text) | Gap(flat=text) | Either(flat=text):
                total += len(text)
            case Several(parts=parts):
                stack.extend(parts)
            case Nest(body=body) | Group(body=body):
                stack.append(body)
    return total


_Task: TypeAlias = tuple[int, bool, Document]  # the indentation, whether its group is broken, what to write


class OverlongError(Exception):
    """The layout has more characters than a text may have bytes, as indenting deeply nested brackets can cause."""


class _Page:
    """Writes lines. ``fresh``: nothing is written on the current line yet, whose indentation is ``column``."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.written = 0  # characters
        self.lines: list[str] = []
        self.line: list[str] = []
        self.column = 0
        self.fresh = True
        self.last = ""  # the last word, or nothing after a comment

    def end_line(self, indent: int) -> None:
        if not self.fresh:
            self.lines.append("".join(self.line).rstrip())
            self.line = []
            self.written += len(self.lines[-1]) + 1
            if self.written > limits.BYTES:
                raise OverlongError
        self.column, self.fresh = indent, True

    def leave_blank(self) -> None:
        """Write a blank line, except at the start, after another one, and after an opening bracket."""
        if self.lines and self.lines[-1] and self.last not in _OPENERS:
            self.lines.append("")

    def write(self, text: str) -> None:
        if self.fresh and text:
            self.line.append(" " * self.column)
            self.fresh = False
        self.line.append(text)
        self.column += len(text)

    def remark(self, comment: Comment, indent: int) -> None:
        self.end_line(indent)
        if comment.apart:
            self.leave_blank()
        self.write(comment.text)
        self.end_line(indent)
        self.last = ""

    def word(self, word: Word, indent: int) -> None:
        for comment in word.before:
            self.remark(comment, indent)
        if word.before and word.apart:
            self.leave_blank()
        self.write(word.text)
        self.last = word.text
        if word.after:
            self.write("  " + word.after)
            self.end_line(indent)

    def gap(self, gap: Gap, indent: int, broken: bool) -> None:
        if gap.breaks == "always" or (broken and gap.breaks != "never"):
            self.end_line(indent)
            if gap.apart:
                self.leave_blank()
        elif not self.fresh:
            self.write(gap.flat)

    def fits(self, body: Document, later: list[_Task]) -> bool:
        """Whether a group fits on the rest of the line, with what follows it (the stack ``later``) up to a line end."""
        left = self.width - self.column
        pending: list[tuple[bool, Document]] = [(False, body)]
        below = len(later)
        started = False
        while left >= 0:
            if not pending:
                if not below:
                    return True
                below -= 1
                pending.append(later[below][1:])
            broken, document = pending.pop()
            match document:
                case Word(text=text, before=before, after=after):
                    if before and started:
                        return True
                    started = True
                    left -= len(text)
                    if after:
                        return left >= 0
                case Gap(flat=text, breaks=breaks):
                    if breaks == "always" or (broken and breaks != "never"):
                        return True
                    left -= len(text)
                case Either(broken=long, flat=short):
                    left -= len(long if broken else short)
                case Several(parts=parts):
                    pending.extend((broken, part) for part in reversed(parts))
                case Nest(body=inner) | Group(body=inner):
                    pending.append((broken, inner))
                case Remarks(comments=comments):
                    if comments:
                        return True
        return False


def laid_out(document: Document, width: int) -> list[str]:
    """The lines of a document, at most ``width`` columns each where gaps allow it. Comments are never broken.

    Raises OverlongError where they come to more characters than a text may have bytes.
    """
    page = _Page(width)
    tasks: list[_Task] = [(0, True, document)]
    while tasks:
        indent, broken, task = tasks.pop()
        match task:
            case Word():
                page.word(task, indent)
            case Gap():
                page.gap(task, indent, broken)
            case Either(broken=long, flat=short):
                page.write(long if broken else short)
            case Remarks(comments=comments):
                for comment in comments:
                    page.remark(comment, indent)
            case Several(parts=parts):
                tasks.extend((indent, broken, part) for part in reversed(parts))
            case Nest(body=body, by=by):
                tasks.append((indent + by, broken, body))
            case Group(body=body):
                tasks.append((indent, tall(body) or not page.fits(body, tasks), body))
    page.end_line(0)
    return page.lines
