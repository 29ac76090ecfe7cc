"""Errors in the input of a command that are not faults of a text."""

from __future__ import annotations


class InputError(Exception):
    """An error in the input that the user can correct: exit code 1."""


class WrongUseError(InputError):
    """An option asks for something impossible: exit code 2. The message is one line."""
