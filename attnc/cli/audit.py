"""``attnc audit``: the mask that a model, or one attention function, really applies, beside what it should be."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .app import FAULT, SET, commands, values_of
from .terminal import out, say

if TYPE_CHECKING:
    from ..attention import Attention
    from ..inspection import Target
    from ..integrations.transformers.audit import Finding

_FUNCTION_HEADS = 4


@commands.command("audit")
@click.argument("model", metavar="MODEL")
@click.option("--against", metavar="NAME", help="A text to compare with, in place of what the configuration declares.")
@SET
@click.option(
    "--n", "tokens", type=click.IntRange(min=8, max=4096), default=24, show_default=True, help="How many tokens."
)
@click.option("--heads", type=click.IntRange(min=1), default=_FUNCTION_HEADS, show_default=True, help="Of a function.")
@click.option("--implementation", help="Of the model's attention: eager, sdpa, …; its own unless given.")
def audit_command(
    model: str, against: str | None, settings: tuple[str, ...], tokens: int, heads: int, implementation: str | None
) -> int:
    """Read the mask that each layer of MODEL really applies, and compare it with what is declared.

    MODEL is a folder with a config.json, or module:function: a function without parameters that returns a model, or an
    attention function of q, k and v.
    """
    texts = _texts(against, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the model's, which are about training it
        subject = _subject(model, implementation)
        if callable(subject) and not hasattr(subject, "config"):
            found = _of_function(subject, model, texts, tokens, heads)
        else:
            from ..integrations.transformers.audit import audit

            found = audit(subject, texts, n=tokens)
        return _told(found)


def _told(findings: Iterator[Finding]) -> int:
    """Prints findings, those that agree once for each scenario; the exit code."""
    from ..inspection import InputError

    agreeing = differing = unknown = 0
    try:
        for finding in findings:
            agreeing += finding.agrees
            differing += finding.difference is not None
            unknown += finding.unknown
            out(str(finding))
    except ValueError as error:
        raise InputError(str(error)) from error
    out(f"{agreeing} as declared, {differing} different, {unknown} not known")
    return FAULT if differing or unknown else 0


def _texts(against: str | None, settings: tuple[str, ...]) -> tuple[Attention, ...] | None:
    """The attentions to compare with, one for all layers or one for each; None for the configuration's."""
    from ..attention import Attention
    from ..inspection import WrongUseError, apply_all, find

    if against is None:
        if settings:
            raise WrongUseError("--set gives parameters of the text that --against names, and there is none")
        return None
    target: Target = find(against)
    return tuple(Attention(each.attention) for each in apply_all(target, values_of(settings)))


def _subject(name: str, implementation: str | None) -> Any:
    """The model of a folder, or what ``module:function`` is, or returns where it takes no arguments."""
    from ..inspection import InputError

    module, colon, function = name.partition(":")
    if Path(name).is_dir() or not colon:
        _require_transformers()
        from ..integrations.transformers.audit import model_of

        try:
            return model_of(Path(name), implementation=implementation)
        except (ValueError, FileNotFoundError) as error:
            raise InputError(str(error)) from error
    sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{name}: {error}; expected module:function, or a folder with a config.json") from error
    if not callable(found):
        raise InputError(f"{name}: is {type(found).__name__}, expected a function")
    given = inspect.signature(found).parameters.values()
    if any(
        each.default is each.empty and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in given
    ):
        return found
    _require_transformers()
    made = found()
    if not hasattr(made, "set_attn_implementation"):
        raise InputError(f"{name}: returned {type(made).__name__}, expected a model of transformers")
    if implementation:
        made.set_attn_implementation(implementation)
    return made


def _require_transformers() -> None:
    from ..inspection import InputError

    try:
        import_module("transformers")
    except ImportError as error:
        raise InputError("transformers is not installed: pip install transformers") from error


def _of_function(attend: Any, name: str, texts: Sequence[Attention] | None, n: int, heads: int) -> Iterator[Finding]:
    from ..inspection import InputError, WrongUseError
    from ..integrations.transformers.audit import audit_function

    if texts is None:
        raise WrongUseError(f"{name} is a function: --against NAME says what it should be")
    say(f"{name}: called with q, k and v of {heads} heads and {n} tokens")
    try:
        yield audit_function(attend, name, texts[0], n, heads)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: {error}") from error
