"""Text from outside (names of files, words of a text, variables, a system's messages) as it may reach a terminal.

A control character moves the cursor or sets a title, an override of direction shows words in an order in which they do
not stand, and half a surrogate pair, as Python has it for a file name that is no UTF-8, cannot be printed at all. Each
is shown as Python escapes it: ``\\x1b``, ``\\u202e``, ``\\udcff``.
"""

from __future__ import annotations

import unicodedata

# Control characters, formats (which do not show: overrides of direction, joiners, marks), surrogates, and what breaks
# lines or paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """The text with every character that does not show escaped; line breaks and tabs stay as they are."""
    return text if text.isprintable() else "".join(_shown(character, "\n\t") for character in text)


def visible_line(text: str) -> str:
    """As :func:`visible`, on one line: line breaks and tabs are escaped, too."""
    return text if text.isprintable() else "".join(_shown(character) for character in text)


def _shown(character: str, kept: str = "") -> str:
    if character in kept or unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
