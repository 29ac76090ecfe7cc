"""The command line, one module for each command."""

from .show import shown

__all__ = ["shown"]
