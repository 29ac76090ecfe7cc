"""Settings read the environment, refuse what they cannot read, and are overridden for a while only."""

from __future__ import annotations

import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnc.runtime.base import counters
from attnc.runtime.base.configuration import SettingError, Settings, settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in Settings.fields():
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)


def test_every_setting_says_what_it_is() -> None:
    names = [row.name for row in settings.describe()]
    assert {"cache_dir", "cxx", "interpret", "verify", "optimisation", "backend"} <= set(names)
    for row in settings.describe():
        assert row.variables[0] == f"ATTNC_{row.name.upper()}"
        assert row.sentence.endswith(".")
        assert row.sentence.count(". ") == 0, "one sentence each"
        assert isinstance(row.keyed, bool)
    variables = [variable for row in settings.describe() for variable in row.variables]
    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("ATTNC_CACHE_DIR", "/somewhere", "cache_dir", Path("/somewhere")),
        ("ATTNC_CACHE_DIR", "~/x", "cache_dir", Path.home() / "x"),
        ("ATTNC_CXX", "clang++ -g", "cxx", "clang++ -g"),
        ("CXX", "g++", "cxx", "g++"),
        ("ATTNC_INTERPRET", "1", "interpret", True),
        ("ATTNC_INTERPRET", "off", "interpret", False),
        ("ATTNC_INTERPRET", "", "interpret", False),
        ("ATTNC_VERIFY", "True", "verify", True),
        ("ATTNC_OPTIMISATION", "2", "optimisation", 2),
        ("ATTNC_BACKEND", "blocked", "backend", "blocked"),
        ("ATTNC_LOCK_SECONDS", "0.5", "lock_seconds", 0.5),
        ("ATTNC_BUILD_SECONDS", "60", "build_seconds", 60.0),
    ],
)
def test_variables(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, value: object) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(settings, name) == value


def test_our_own_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++")
    monkeypatch.setenv("ATTNC_CXX", "clang++")
    assert settings.cxx == "clang++"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ATTNC_INTERPRET", "maybe"),
        ("ATTNC_OPTIMISATION", "fast"),
        ("ATTNC_BACKEND", "cuda"),
        ("ATTNC_LOCK_SECONDS", "-1"),
        ("ATTNC_LOCK_SECONDS", "nan"),
        ("ATTNC_CACHE_DIR", "~no-such-user/x"),
    ],
)
def test_what_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValueError, match=f"{variable} is '{text}'"):
        settings.describe()


def test_override_restores_whatever_happens() -> None:
    with settings.override(interpret=True, optimisation=0):
        with settings.override(optimisation=1):
            assert (settings.interpret, settings.optimisation) == (True, 1)
        assert settings.optimisation == 0
    assert (settings.interpret, settings.optimisation) == (False, 3)
    with pytest.raises(KeyError), settings.override(verify=True):
        raise KeyError
    assert not settings.verify


STEPS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["optimisation", "lock_seconds"]), st.integers(0, 3)), max_size=12
)


@given(STEPS, st.randoms())
def test_the_newest_override_still_open_wins_in_whatever_order_they_close(steps: list[Any], order: Random) -> None:
    opened: list[tuple[Any, str, int]] = []

    def close(number: int) -> None:
        opened.pop(number)[0].__exit__(None, None, None)

    def agree() -> None:
        expected: dict[str, float] = {"optimisation": 3, "lock_seconds": 120.0}
        expected.update((name, value) for _, name, value in opened)
        assert {name: getattr(settings, name) for name in expected} == expected

    for closes, name, value in steps:
        if closes and opened:
            close(order.randrange(len(opened)))
        else:
            manager = settings.override(**{name: value})
            manager.__enter__()
            opened.append((manager, name, value))
        agree()
    while opened:
        close(order.randrange(len(opened)))
        agree()


def test_overrides_of_two_threads_leave_nothing_behind() -> None:
    """Each thread opens before the other closes: the first to close is the first that was opened."""
    first, second = threading.Event(), threading.Event()
    seen = []

    def other() -> None:
        first.wait()
        with settings.override(verify=True):
            second.set()
            closed.wait()
            seen.append((settings.backend, settings.verify))

    closed = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    with settings.override(backend="blocked"):
        first.set()
        second.wait()
        assert (settings.backend, settings.verify) == ("blocked", True), "overrides hold for every thread"
    closed.set()
    thread.join()
    assert seen == [("auto", True)]
    assert (settings.backend, settings.verify) == ("auto", False)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("backend", "reference", "backend is 'reference': expected one of auto, cpp, triton, blocked"),
        ("optimisation", 7, "optimisation is 7: expected 0, 1, 2 or 3"),
        ("verify", "perhaps", "verify is 'perhaps': expected 0 or 1"),
        ("verify", None, "verify is None: expected 0 or 1"),
    ],
)
def test_an_override_is_read_like_a_variable(name: str, value: object, message: str) -> None:
    with pytest.raises(SettingError) as caught, settings.override(**{name: value}):
        pass
    assert str(caught.value) == message
    with settings.override(cache_dir="here", lock_seconds=3, cxx=None, verify=True):
        assert (settings.cache_dir, settings.lock_seconds, settings.cxx, settings.verify) == (
            Path("here"),
            3.0,
            None,
            True,
        )


def test_only_overrides_change_a_setting() -> None:
    with pytest.raises(AttributeError, match="override"):
        settings.interpret = True
    with pytest.raises(TypeError, match="interpet is no setting"), settings.override(interpet=True):
        pass


def test_launches_are_counted() -> None:
    before = counters.launches().get("test.forward", 0)
    counters.count("test.forward")
    counters.count("test.forward")
    assert counters.launches()["test.forward"] == before + 2
