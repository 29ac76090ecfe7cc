"""Formats a text in its canonical layout: the same tokens and comments in the same order, only blanks differ."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..diagnostics import AttnError, Diagnostic, ErrorCollector, Source, limits, line_ends
from ..syntax import DeclarationTokens, Token, comments, declaration_tokens, parse, parse_tokens
from .document import Comment, OverlongError, laid_out
from .rules import Layout, Surroundings

WIDTH = 100
_CLOSERS = frozenset(")]}")
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True)
class _Found:
    """The comments of a text: those around its tokens, and those below the last token."""

    around: Surroundings
    below: tuple[Comment, ...]


def formatted(text: str, name: str = "<text>") -> str:
    """The text laid out in lines of at most 100 columns where its words allow it, with no two blank lines in a row.

    Words and comments keep their order and spelling; only a comma before a closing bracket is added or dropped.
    Formatting twice changes nothing more. Raises AttnError with every fault where the text cannot be parsed.
    """
    source = Source(name, text.removeprefix(_BOM))
    reports = ErrorCollector()
    parse(source, reports)
    reports.check()
    declarations = declaration_tokens(source, reports.add)
    try:
        lines = list(_lines(source, declarations))
    except OverlongError:
        message = f"laid out, {name} is longer than {limits.BYTES:,} bytes, the most that a text may have"
        raise AttnError([Diagnostic("too-long", message)]) from None
    while lines and not lines[-1]:
        lines.pop()
    result = "".join(line + "\n" for line in lines)
    try:
        unchanged = _meant(Source(name, result)) == _meant(source)
    except AttnError as error:  # indentation or commas led past a limit
        past = error.diagnostics[0]
        raise AttnError([Diagnostic(past.slug, f"laid out, {past.message}")]) from None
    if not unchanged:
        raise RuntimeError(f"laying {name} out would change it")
    return result


def _lines(source: Source, declarations: tuple[DeclarationTokens, ...]) -> Iterator[str]:
    found = _surroundings(source, [token for declaration in declarations for token in declaration.tokens])
    layout = Layout(found.around)
    tall_before, started = False, False
    for declaration in declarations:
        first = declaration.tokens[0]
        lines = laid_out(layout.declaration(parse_tokens(declaration)), WIDTH)
        tall = len(lines) > 1
        comments = found.around.above.get(first.start_pos, ())
        separate = first.start_pos in found.around.apart
        if started and (tall or tall_before) and not separate and not any(comment.apart for comment in comments):
            comments, separate = _parted(comments)
        yield from _remarks(comments, started)
        if separate and (started or comments):
            yield ""
        yield from lines
        started, tall_before = True, tall
    yield from _remarks(found.below, started)


def _parted(comments: tuple[Comment, ...]) -> tuple[tuple[Comment, ...], bool]:
    """Put a blank line above the comments of a declaration; True where there are none, so that the caller adds it."""
    if not comments:
        return comments, True
    return (replace(comments[0], apart=True), *comments[1:]), False


def _remarks(comments: tuple[Comment, ...], started: bool) -> Iterator[str]:
    for comment in comments:
        if comment.apart and started:
            yield ""
        yield comment.text
        started = True


def _surroundings(source: Source, tokens: list[Token]) -> _Found:
    """The comments of a text, each assigned to the token above which, or behind which on its line, it is written."""
    text = source.text
    starts = [token.start_pos for token in tokens]
    above: dict[int, list[Comment]] = {}
    behind: dict[int, str] = {}
    done = [0] + [token.end_pos for token in tokens]  # of each token: the end of the token or comment before it
    for start, end in comments(text):
        index = bisect_left(starts, start)  # the token that follows
        between = text[done[index] : start]
        shown = text[start:end].rstrip()
        if index and not line_ends(between, 0, len(between)) and done[index] == tokens[index - 1].end_pos:
            behind[done[index]] = shown
        else:
            above.setdefault(index, []).append(Comment(shown, line_ends(between, 0, len(between)) > 1))
        done[index] = end
    apart = frozenset(
        token.start_pos for token, end in zip(tokens, done, strict=False) if line_ends(text, end, token.start_pos) > 1
    )
    lines = zip(tokens, [*starts, len(text)][1:], strict=False)
    last = frozenset(token.end_pos for token, following in lines if line_ends(text, token.end_pos, following))
    below = tuple(above.pop(len(tokens), ()))
    around = Surroundings({starts[i]: tuple(several) for i, several in above.items()}, apart, behind, last)
    return _Found(around, below)


def _meant(source: Source) -> list[str]:
    """What formatting must keep: the tokens and comments of a text in order, but for commas before closing brackets."""
    tokens = [token for declaration in declaration_tokens(source, ErrorCollector().add) for token in declaration.tokens]
    pieces = [(token.start_pos, _rows(token.value) if token.type == "TEXT" else token.value) for token in tokens]
    pieces += [(start, source.text[start:end].rstrip()) for start, end in comments(source.text)]
    kept: list[str] = []
    comma: int | None = None  # the place in `kept` of the last token, if that is a comma
    for _, piece in sorted(pieces):
        if comma is not None and piece in _CLOSERS:
            del kept[comma]
        if not piece.startswith("#"):
            comma = len(kept) if piece == "," else None
        kept.append(piece)
    return kept


def _rows(picture: str) -> str:
    """A picture without the blanks around its rows, and without blank rows."""
    return '"""' + "\n".join(line.strip() for line in picture[3:-3].splitlines() if line.strip())
