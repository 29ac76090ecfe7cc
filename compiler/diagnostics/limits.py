"""How large a text may be, and what it may grow into. Past each of these is an error that names it."""

from __future__ import annotations

BYTES = 1 << 20  # of one file
TOKENS = 20_000  # of one file
NESTING = 64  # of brackets, of operators inside operators, of files that import files
DIGITS = 18  # of an integer, written or computed
NAME = 64  # characters of a name
NODES = 100_000  # of a declaration with its local names, patterns, comprehensions and layers filled in
FILLED_NESTING = 128  # the same, of operators inside operators
MEMBERS = 500_000  # of all sets of one file that are kept member by member: in tests, tables and defaults
TOGETHER = 200_000  # steps in which all constants and tests of one file are filled in
FAULTS = 100  # shown for one file
PAIRS = 1 << 24  # looked at by one test

LARGEST: int = 10**DIGITS - 1

FIRST_BEYOND: int = 2**63
"""Integers of a call stay below it in magnitude: 63 bits and a sign."""

LARGEST_SIZE: int = 2**48
"""Queries, keys or heads of a call that is asked about: far more than any has, and sums of them stay small."""

LARGEST_POSITION: int = 2**62
"""No row of a call stands at it or beyond it."""


def within_64_bits(value: int) -> int:
    """The same integer, or the nearest that has 63 bits: for what is spelled and computed, and never looked at."""
    return max(-FIRST_BEYOND + 1, min(value, FIRST_BEYOND - 1))
