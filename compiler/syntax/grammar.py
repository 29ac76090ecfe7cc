"""The grammar of `.attn` as Lark reads it: the parser of every text, and the words and signs that a text may have.

All of it comes from ``grammar.lark``, but for the words of the functions, which are those of the table of operations.
It is built once for each process, when the first text is read.
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
    """A word or sign of a text. ``type`` is its terminal, ``value`` its text, and it stands in the text from
    ``start_pos`` to ``end_pos``.
    """

    __slots__ = ()
    value: str
    start_pos: int
    end_pos: int

    @property
    def is_word(self) -> bool:
        """Whether it is made of letters: a name, a reserved word, or ``not in``."""
        return self.value[0].isascii() and self.value[0].isidentifier()

    @property
    def is_number(self) -> bool:
        return self.type in ("INT", "FLOAT")


class ContextLexer(Lexer):
    """Hands the tokens of one declaration to Lark's parser.

    A word that is not reserved is a name wherever its own terminal does not fit: ``causal`` in ``mask = causal``.
    """

    __future_interface__ = 2  # `lex` takes the parser's state

    def __init__(self, conf: LexerConf) -> None:
        self.may_be_names = frozenset(
            str(terminal.name) for terminal in conf.terminals if _is_word(terminal) and not _is_reserved(terminal)
        )

    def lex(self, lexer_state: LexerState, parser_state: Any) -> Iterator[lark.Token]:
        states = parser_state.parse_conf.states
        tokens: Sequence[Token] = lexer_state.text  # type: ignore[assignment]
        for token in tokens:
            if token.type in self.may_be_names:
                fitting = states[parser_state.position]
                if token.type not in fitting and "NAME" in fitting:
                    yield Token("NAME", token.value, token.start_pos, end_pos=token.end_pos)
                    continue
            yield token


def grammar_text() -> str:
    """The grammar in Lark's notation."""
    words = " | ".join(f'"{name}"' for name in FUNCTIONS)
    return f"{GRAMMAR.read_text(encoding='utf-8')}\nFUNCTION.1: {words}\n"


def build_parser(start: Sequence[str] = (START,)) -> lark.Lark:
    """Lark's LALR parser of the grammar, for the rules in ``start``. It parses sequences of tokens."""
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
    """The terminals that would fit next, as Lark finds them by trying each."""
    return frozenset(session.accepts())  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Vocabulary:
    """The words and signs of the language.

    ``types``: the terminal of every word and sign. ``spellings``: the same by terminal, empty for names and numbers.
    ``reserved``: words that cannot be names. ``starters``: of these, the words that start a declaration. ``pattern``
    matches one piece of a text, which its last group names: a terminal, or ``SIGN`` for one of the signs of ``types``.
    """

    types: Mapping[str, str]
    spellings: Mapping[str, tuple[str, ...]]
    reserved: frozenset[str]
    starters: frozenset[str]
    pattern: str


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """The words and signs of the grammar."""
    found = parser()
    spellings = {str(terminal.name): _spellings(terminal) for terminal in found.terminals}
    reserved = {word for terminal in found.terminals if _is_reserved(terminal) for word in _spellings(terminal)}
    starters = accepted(found.parse_interactive(()))
    signs = [text for terminal in found.terminals if not _is_word(terminal) for text in _spellings(terminal)]
    # What is ignored comes first, for there may be most of it; the others in the order of Lark's own lexers.
    others = sorted(
        (terminal for terminal in found.terminals if not spellings[terminal.name]),
        key=lambda t: (t.name not in found.ignore_tokens, -t.priority, -t.pattern.max_width, t.name),
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
    """The words or signs that a terminal consists of; empty for one that has no end of them, such as NAME."""
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
    return _is_word(terminal) and terminal.priority > 0
