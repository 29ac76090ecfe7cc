"""Runs a command and turns exceptions into messages and exit codes. Results go to stdout, everything else to stderr.

Exit codes: 0, 1 for a fault in the input, 2 for a wrong use of the command, 3 for a bug of attnc.
"""

from __future__ import annotations

import sys
import traceback
import warnings

import click

from .app import FAULT, INTERRUPTED, OURS, USAGE, commands
from .terminal import say, say_diagnostics, say_fault, say_usage, say_warning

REPORT = "please report it, with the input and what `attnc --version` prints"


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    from ..compiler.diagnostics import AttnError
    from ..inspection import InputError, WrongUseError, begin, current_stage
    from ..runtime.base import SettingError

    begin()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = say_warning
            code = commands.main(args=arguments, prog_name="attnc", standalone_mode=False)
    except click.ClickException as error:
        return say_usage(error)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it
        sys.stderr.close()
        return 0
    except AttnError as error:
        say_diagnostics(error.diagnostics)
        return FAULT
    except WrongUseError as error:
        say_fault("error", f": {error}")
        return USAGE
    except (InputError, SettingError, OSError) as error:
        say_fault("error", f": {error}")
        return FAULT
    except MemoryError as error:
        say_fault("error", f": not enough memory{f': {error}' if str(error) else ''}")
        return FAULT
    except Exception:  # noqa: BLE001 - anything else is a bug of ours, and is reported as one
        say(traceback.format_exc().rstrip())
        say_fault("bug in attnc", f", stage {current_stage()}: {REPORT}")
        return OURS
    return int(code or 0)
