"""``attnc explain``: an error's page, by the slug that the error shows in brackets."""

from __future__ import annotations

from ..compiler.diagnostics import CATALOGUE, nearest, page
from ..inspection import InputError


def explained(slug: str) -> str:
    """The page of a slug, also where it is written as it was shown: ``error[slug]``. InputError for what is none."""
    wanted = slug.strip().removeprefix("error").strip("[]:").lower()
    if wanted in CATALOGUE:
        return page(wanted)
    meant = nearest(wanted, CATALOGUE)
    hint = f"; did you mean {meant}?" if meant else "; `attnc explain` without a name lists them"
    raise InputError(f"there is no error {slug!r}{hint}")


def listed() -> str:
    """Every slug with what it stands for, one a line."""
    width = max(map(len, CATALOGUE))
    return "\n".join(f"{slug:<{width}}  {title}" for slug, title in CATALOGUE.items())
