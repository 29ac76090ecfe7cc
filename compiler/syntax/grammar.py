"""Builds Lark's parser from the grammar of `.attn`, and the table of the words and signs that the grammar knows.

Both come from ``grammar.lark`` and, for the names of functions, from the table of operations. They are built once for
each process, when the first text is read. A terminal is the grammar's name for a kind of token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import lark
from lark.common import LexerConf
from lark.lexer import Lexer, LexerState, TerminalDef
from lark.parsers.lalr_interactive_parser import InteractiveParser

from ..ir import FUNCTIONS

GRAMMAR = Path(__file__).parent / "grammar.lark"
START = "declaration"
_NOT_IN = {"NOT_IN": ("not in",)}  # the one word with white space in it
END = "$END"  # Lark's terminal after the last token


class Token(lark.Token):
    """A word, number or sign of a text. ``type`` names its terminal, ``value`` is its text.

    ``start_pos`` and ``end_pos`` are where it begins and ends, in characters from the start of the text.
    """

    __slots__ = ()
    value: str
    start_pos: int
    end_pos: int

    @property
    def is_word(self) -> bool:
        """Whether it is a word: a name, a reserved word, or ``not in``."""
        return self.value[0].isascii() and self.value[0].isidentifier()

    @property
    def is_number(self) -> bool:
        return self.type in ("INT", "FLOAT")


class ContextLexer(Lexer):
    """Hands the tokens of one declaration, which are made already, to Lark's parser.

    A word that is not reserved becomes a name wherever the grammar does not allow its own terminal: ``causal`` in
    ``mask = causal``.
    """

    __future_interface__ = 2  # `lex` takes the parser's state

    def __init__(self, conf: LexerConf) -> None:
        self.may_be_names = frozenset(
            str(terminal.name) for terminal in conf.terminals if _is_word(terminal) and not _is_reserved(terminal)
        )

    def lex(self, lexer_state: LexerState, parser_state: Any) -> Iterator[lark.Token]:
        """Yield the tokens in ``lexer_state.text``, with words changed to names by the parser's current state."""
        states = parser_state.parse_conf.states
        tokens: Sequence[Token] = lexer_state.text  # type: ignore[assignment]
        for token in tokens:
            if token.type in self.may_be_names:
                allowed = states[parser_state.position]
                if token.type not in allowed and "NAME" in allowed:
                    yield Token("NAME", token.value, token.start_pos, end_pos=token.end_pos)
                    continue
            yield token


def grammar_text() -> str:
    """The whole grammar in Lark's notation: the file, and the terminal FUNCTION."""
    words = " | ".join(f'"{name}"' for name in FUNCTIONS)
    return f"{GRAMMAR.read_text(encoding='utf-8')}\nFUNCTION.1: {words}\n"


def build_parser(start: Sequence[str] = (START,)) -> lark.Lark:
    """Build Lark's LALR parser of the grammar, for the rules in ``start``. It parses sequences of :class:`Token`."""
    return lark.Lark(
        grammar_text(),
        parser="lalr",
        lexer=ContextLexer,
        start=list(start),
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


@lru_cache(maxsize=1)
def parser() -> lark.Lark:
    """The parser of one declaration."""
    return build_parser()


def accepted(session: InteractiveParser) -> frozenset[str]:
    """The terminals that the parser would accept next: Lark tries each on a copy of the session."""
    return frozenset(session.accepts())  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Vocabulary:
    """The words and signs of the language.

    - ``types``: the terminal of every word and sign;
    - ``spellings``: the words and signs of every terminal, none for NAME, INT and others without end;
    - ``reserved``: words that cannot be names;
    - ``starters``: of these, the words that start a declaration;
    - ``pattern``: a regular expression that matches one piece of a text. The group that matches has the name of the
      piece's terminal, or is ``SIGN`` for the signs in ``types``.
    """

    types: Mapping[str, str]
    spellings: Mapping[str, tuple[str, ...]]
    reserved: frozenset[str]
    starters: frozenset[str]
    pattern: str


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """Collect the words and signs of the grammar from the terminals of its parser."""
    grammar = parser()
    spellings = {str(terminal.name): _spellings(terminal) for terminal in grammar.terminals}
    reserved = {word for terminal in grammar.terminals if _is_reserved(terminal) for word in _spellings(terminal)}
    starters = accepted(grammar.parse_interactive(()))
    signs = [text for terminal in grammar.terminals if not _is_word(terminal) for text in _spellings(terminal)]
    # White space and comments come first, because most pieces of a text are blanks; then Lark's own order.
    others = sorted(
        (terminal for terminal in grammar.terminals if not spellings[terminal.name]),
        key=lambda t: (t.name not in grammar.ignore_tokens, -t.priority, -t.pattern.max_width, t.name),
    )
    groups = [(str(terminal.name), str(terminal.pattern.to_regexp())) for terminal in others]
    groups.append(("SIGN", "|".join(re.escape(sign) for sign in sorted(signs, key=len, reverse=True))))
    spellings |= _NOT_IN
    return Vocabulary(
        {text: name for name, texts in spellings.items() for text in texts},
        spellings,
        frozenset(reserved),
        frozenset(text for name in starters for text in spellings[name]),
        "|".join(f"(?P<{name}>{pattern})" for name, pattern in groups),
    )


def _spellings(terminal: TerminalDef) -> tuple[str, ...]:
    """The words or signs that a terminal matches; empty for one that matches any number of texts, such as NAME."""
    pattern = terminal.pattern
    if pattern.type == "str":
        return (str(pattern.value),)
    escaped = pattern.value.removeprefix("(?:").removesuffix(")").split("|")
    texts = tuple(re.sub(r"\\(.)", r"\1", piece) for piece in escaped)
    return texts if [re.escape(text) for text in texts] == escaped else ()


def _is_word(terminal: TerminalDef) -> bool:
    texts = _spellings(terminal)
    return bool(texts) and texts[0][0].isalpha()


def _is_reserved(terminal: TerminalDef) -> bool:
    """Whether a terminal is of reserved words, which ``grammar.lark`` marks by a priority."""
    return _is_word(terminal) and terminal.priority > 0
