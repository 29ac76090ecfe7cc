"""Makes text from outside (file names, words of a text, variables, system messages) safe to print on a terminal.

A control character can move the cursor or set a title; an override of direction shows words in another order; half of a
surrogate pair, which is how Python holds a file name that is not UTF-8, cannot be printed at all. Each such character
is escaped as Python does it: ``\\x1b``, ``\\u202e``, ``\\udcff``.
"""

from __future__ import annotations

import unicodedata

# Unicode categories: control characters; format characters, which are invisible (overrides of direction, joiners,
# marks); surrogates; separators of lines and of paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """The text with every invisible character escaped; line feeds and tabs stay as they are."""
    return text if text.isprintable() else "".join(_shown(character, "\n\t") for character in text)


def visible_line(text: str) -> str:
    """As :func:`visible`, but on one line: line feeds and tabs are escaped too."""
    return text if text.isprintable() else "".join(_shown(character) for character in text)


def _shown(character: str, kept: str = "") -> str:
    if character in kept or unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
