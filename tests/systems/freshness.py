"""What a row of measurements of a system or a declaration depends on, so that one that is out of date is noticed."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping

from attnc.compiler.modules import load_shipped
from attnc.compiler.syntax import declaration_tokens
from tests.systems import all_systems
from tests.systems.declarations import Declared
from tests.systems.speeds import table
from tests.systems.system import System


def settings_of(subject: System | Declared) -> Mapping[str, str]:
    """Digests of the text, and of a system also of the module that compares it."""
    if isinstance(subject, Declared):
        return {"text": text_digest(subject.file)}
    (module,) = (name for name, systems in all_systems.BY_MODULE.items() if subject in systems)
    return {"text": text_digest(all_systems.file_of(subject)), "comparison": code_digest(module)}


def speed_settings_of(system: System) -> Mapping[str, str]:
    """The same for a speed, and where a module of the folder speeds makes its calls, of that too."""
    place = table.place_of(system.name)
    timing = {"timing": code_digest(f"speeds/{place[0]}")} if place else {}
    return {**settings_of(system), **timing}


def text_digest(file: str) -> str:
    """What a shipped file says: its words, without comments, line breaks and tests."""
    kept = []
    for declaration in declaration_tokens(load_shipped(file).source, lambda fault: None):
        words = [token.value for token in declaration.tokens]
        kept += [] if words[0] == "test" else [*words, ";"]
    return _digest(" ".join(kept))


def code_digest(module: str) -> str:
    """What a module of this folder, or of one in it, does: its code without comments and layout."""
    return _digest(ast.dump(ast.parse((all_systems.HERE / f"{module}.py").read_text(encoding="utf-8"))))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
