"""What is wrong with the input of a command, where it is not a fault of a text."""

from __future__ import annotations


class InputError(Exception):
    """Something in the input that the user can put right: exit code 1."""


class WrongUseError(InputError):
    """An option that asks for what cannot be: exit code 2. The message is one line."""
