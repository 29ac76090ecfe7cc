"""Settings, the cache, counters, and the nouns of a launch."""

from . import cache
from .build_count import built, listen_to_triton, note_built
from .cache import get, renew
from .configuration import SettingError, Settings, settings
from .counters import count, launches
from .dropout import kept
from .identities import identity, register, registered
from .launch import Gradients, Launch, TableArgument

__all__ = [
    "Gradients",
    "Launch",
    "SettingError",
    "Settings",
    "TableArgument",
    "built",
    "cache",
    "count",
    "get",
    "identity",
    "kept",
    "launches",
    "listen_to_triton",
    "note_built",
    "register",
    "registered",
    "renew",
    "settings",
]
