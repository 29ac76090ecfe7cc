"""Limits on the size of a text, and on what it grows into. Exceeding one is an error that names it."""

from __future__ import annotations

BYTES = 1 << 20  # of one file
TOKENS = 20_000  # of one file
NESTING = 64  # of brackets, of operators inside operators, of files that import files
DIGITS = 18  # of an integer, written or computed
NAME = 64  # characters of a name
NODES = 100_000  # of a declaration once its local names, patterns, comprehensions and layers are expanded
EXPANDED_NESTING = 128  # of operators inside operators, once patterns and local names are expanded
MEMBERS = 500_000  # of all sets of one file that are kept member by member: in tests, tables and defaults
TOGETHER = 200_000  # steps to compute all constants and bind all tests of one file
FAULTS = 100  # shown for one file
PAIRS = 1 << 24  # that one test evaluates

LARGEST: int = 10**DIGITS - 1

FIRST_BEYOND: int = 2**63
"""Every integer of a call stays below this in magnitude: 63 bits and a sign."""

LARGEST_SIZE: int = 2**48
"""Of queries, keys or heads, in a call that a user asks about. Far more than any real call has, and still so small that
sums of such sizes fit 64 bits."""

LARGEST_POSITION: int = 2**62
"""The position of every row of a call is below this."""


def within_64_bits(value: int) -> int:
    """The integer nearest to ``value`` that fits 63 bits and a sign.

    For constants whose exact value cannot matter: where an integer beyond 63 bits is used, the call is refused.
    """
    return max(-FIRST_BEYOND + 1, min(value, FIRST_BEYOND - 1))
