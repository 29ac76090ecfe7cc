"""Every setting: what it does, the environment variable that sets it, and whether it enters a cache key.

A setting is read from the environment each time it is asked for, so a variable that is set late still counts. While
:meth:`Settings.override` is open, the value given there wins. This module imports neither torch nor triton.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, get_args, overload

T = TypeVar("T")
BackendChoice = Literal["auto", "cpp", "triton", "blocked"]

_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"0", "false", "no", "off"})


def _switch(text: str) -> bool:
    if text.lower() in _ON:
        return True
    if text.lower() in _OFF:
        return False
    raise ValueError("expected 0 or 1")


def _backend(text: str) -> BackendChoice:
    if text not in get_args(BackendChoice):
        raise ValueError(f"expected one of {', '.join(get_args(BackendChoice))}")
    return cast(BackendChoice, text)


def _level(text: str) -> int:
    if text not in {"0", "1", "2", "3"}:
        raise ValueError("expected 0, 1, 2 or 3")
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError("expected a number of seconds, 0 or more")
    return seconds


def _folder(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # a user who does not exist, or has no home
        raise ValueError(f"expected a folder: {str(error).rstrip('.').lower()}") from None


class SettingError(ValueError):
    """A setting has a value that cannot be parsed, from a variable or from Python."""


@lru_cache
def _encoded(name: str) -> object:
    return os.environ.encodekey(name)


def _variable(name: str) -> str:
    """A variable of the environment, "" if it is unset: of most settings, which os.environ tells by an exception that
    takes longer than the other checks of a call.
    """
    held = getattr(os.environ, "_data", None)
    return "" if held is not None and _encoded(name) not in held else os.environ.get(name, "").strip()


class Setting(Generic[T]):
    """One setting, as a descriptor. ``variables`` are tried in order, and an empty variable counts as unset."""

    name: str

    def __init__(
        self, default: T, parse: Callable[[str], T], variables: tuple[str, ...], keyed: bool, sentence: str
    ) -> None:
        self.default, self.parse, self.variables = default, parse, variables
        self.keyed, self.sentence = keyed, sentence

    def __set_name__(self, owner: type[Settings], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type[Settings]) -> Setting[T]: ...
    @overload
    def __get__(self, instance: Settings, owner: type[Settings]) -> T: ...
    def __get__(self, instance: Settings | None, owner: type[Settings]) -> Setting[T] | T:
        if instance is None:
            return self
        overrides = instance._overrides
        if self.name in overrides:
            return cast(T, overrides[self.name])
        return self.read()

    def __set__(self, instance: Settings, value: T) -> None:
        raise AttributeError(f"setting {self.name} is changed by `with settings.override({self.name}=…)`")

    def read(self) -> T:
        """The value from the environment, or the default. SettingError for a variable that cannot be parsed."""
        for variable in self.variables:
            text = _variable(variable)
            if text:
                return self._parsed(variable, text)
        return self.default

    def given(self, value: object) -> T:
        """The parsed value of a Python value or its text. SettingError for a value that the setting does not take."""
        return self.default if value is None and self.default is None else self._parsed(self.name, value)

    def _parsed(self, name: str, value: object) -> T:
        try:
            return self.parse(str(value))
        except ValueError as error:
            raise SettingError(f"{name} is {value!r}: {error}") from None


@dataclass(frozen=True)
class Described:
    """One setting with its present value, for people."""

    name: str
    variables: tuple[str, ...]
    value: object
    keyed: bool
    sentence: str


class Settings:
    """The settings of this process. Overrides hold for all of its threads, because backward passes run on other
    threads.
    """

    cache_dir: Setting[Path | None] = Setting(
        None, _folder, ("ATTNC_CACHE_DIR",), False, "The folder of the cache; the user's cache folder unless given."
    )
    cache: Setting[bool] = Setting(True, _switch, ("ATTNC_CACHE",), False, "Whether built kernels are kept on disk.")
    lock_seconds: Setting[float] = Setting(
        120.0, _seconds, ("ATTNC_LOCK_SECONDS",), False,
        "How long to wait for another process that builds the same kernel, before building it alone.",
    )  # fmt: skip
    build_seconds: Setting[float] = Setting(
        600.0, _seconds, ("ATTNC_BUILD_SECONDS",), False,
        "How long one step of the C++ compiler may take, before it is stopped as one that hangs.",
    )  # fmt: skip
    cxx: Setting[str | None] = Setting(
        None, str, ("ATTNC_CXX", "CXX"), True, "The C++ compiler and leading arguments; found on PATH unless given."
    )
    optimisation: Setting[int] = Setting(
        3, _level, ("ATTNC_OPTIMISATION",), True, "The level of optimisation of C++ kernels, 0 to 3."
    )
    interpret: Setting[bool] = Setting(
        False, _switch, ("ATTNC_INTERPRET",), False,
        "Whether CPU tensors run the Triton kernels in Triton's interpreter; counts if set before triton is imported.",
    )  # fmt: skip
    verify: Setting[bool] = Setting(
        False, _switch, ("ATTNC_VERIFY",), False,
        "Whether the tiles of each plan are proved right for every length, or compared with the mask.",
    )  # fmt: skip
    plan_on_device: Setting[bool] = Setting(
        False, _switch, ("ATTNC_PLAN_ON_DEVICE",), False,
        "Whether Triton kernels plan by all tables themselves, and the host reads not even those that lie on it.",
    )  # fmt: skip
    backend: Setting[BackendChoice] = Setting(
        "auto", _backend, ("ATTNC_BACKEND",), False,
        "The executor: auto chooses by device; cpp, triton or blocked insist on one.",
    )  # fmt: skip

    def __init__(self) -> None:
        self._open: tuple[dict[str, object], ...] = ()  # from the oldest to the newest
        self._overrides: dict[str, object] = {}  # their values in force; replaced, never changed
        self._lock = threading.Lock()

    @classmethod
    def fields(cls) -> tuple[Setting[Any], ...]:
        """Every setting, in the order of their definition here."""
        return tuple(value for value in vars(cls).values() if isinstance(value, Setting))

    def raw(self) -> Hashable:
        """What all settings are parsed from, to tell states apart: read in less time than two settings are."""
        held = getattr(os.environ, "_data", None)
        if held is None:
            return tuple(getattr(self, setting.name) for setting in self.fields())
        return tuple(map(held.get, _encoded_variables())), *self._overrides.items()

    @contextmanager
    def override(self, **values: object) -> Iterator[Settings]:
        """Changes some settings until the block ends.

        Where several overrides are open, in whatever threads, the newest wins; they may close in any order. TypeError
        for an unknown setting, SettingError for a value that the setting does not take.
        """
        known = {setting.name: setting for setting in self.fields()}
        for name in values:
            if name not in known:
                raise TypeError(f"{name} is no setting; the settings are {', '.join(sorted(known))}")
        checked = {name: known[name].given(value) for name, value in values.items()}
        try:
            with self._lock:
                self._hold((*self._open, checked))
            yield self
        finally:
            with self._lock:
                self._hold(tuple(one for one in self._open if one is not checked))

    def _hold(self, overrides: tuple[dict[str, object], ...]) -> None:
        self._open = overrides
        self._overrides = {name: value for one in overrides for name, value in one.items()}

    def describe(self) -> tuple[Described, ...]:
        """Every setting with its present value."""
        return tuple(
            Described(setting.name, setting.variables, getattr(self, setting.name), setting.keyed, setting.sentence)
            for setting in self.fields()
        )

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{row.name}={row.value!r}' for row in self.describe())})"


@lru_cache
def _encoded_variables() -> tuple[Any, ...]:
    """The variables of all settings as the environment keeps them."""
    return tuple(_encoded(variable) for setting in Settings.fields() for variable in setting.variables)


settings = Settings()
