"""Every shipped system equals its original, and every shipped declaration its definition: by the blocked executor.

``python -m tests.systems --backend cpp`` does the same with kernels, and writes the differences down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

import attnc
from attnc.compiler.modules import load_shipped
from attnc.inspection import find
from tests.systems import all_systems, declarations
from tests.systems.all_systems import SYSTEMS, UNHELD
from tests.systems.comparison import Differences, differences, faults, spoiled
from tests.systems.declarations import Declared
from tests.systems.speeds import table
from tests.systems.system import Compared, System

DECLARED = tuple(declarations.declared())


@pytest.fixture(autouse=True)
def _without_kernels() -> Iterator[None]:
    """The blocked executor, which compiles nothing, in one thread: these sizes are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with attnc.settings.override(backend="blocked"):
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_system_equals_its_original(system: System) -> None:
    """Masks pair by pair, outputs and gradients; and the comparison notices one number that is wrong."""
    compared = system.compare()
    assert faults(compared, system.tolerance) == ()
    assert [
        planted for planted, wrong in spoiled(compared, system.tolerance) if not faults(wrong, system.tolerance)
    ] == []


@pytest.mark.parametrize("subject", DECLARED, ids=str)
def test_a_declaration_equals_its_definition(subject: Declared) -> None:
    """Support test, forward and backward, and random input against the reference."""
    found = declarations.bound(subject)
    assert found, "its file has no test of it"
    for one in found:
        declarations.check(subject, one)


def test_systems_are_named_once_and_shipped() -> None:
    names = [system.name for system in SYSTEMS]
    assert sorted(set(names)) == sorted(names)
    for system in SYSTEMS:
        found = find(system.shipped)
        assert found.name == all_systems.declaration_of(system), system.name
        assert system.name.strip() == system.name != ""
        assert system.paper
        assert system.original
        assert system.runs or system.original.startswith("formula"), system.name


def test_every_system_has_a_speed_or_a_reason_for_none() -> None:
    """Speeds that lie apart from their systems are of systems that are there, each in one place."""
    assert [system.name for system in SYSTEMS if (system.timed is None) != bool(system.untimed)] == []
    apart = [name for module in table.MODULES.values() for name in module.TIMED]
    own = {system.name for systems in all_systems.listed().values() for system in systems if system.timed is not None}
    assert len({*apart} | own | {*table.UNTIMED}) == len(apart) + len(own) + len(table.UNTIMED)
    by_name = {system.name: system for system in SYSTEMS}
    assert {*apart, *table.UNTIMED} <= {*by_name}
    assert [name for name in apart if not by_name[name].runs or table.reason(by_name[name])] == []


def test_every_shipped_file_is_held_against_an_original() -> None:
    held = {all_systems.file_of(system) for system in SYSTEMS} - {"std"}
    files = set(all_systems.gallery())
    assert held <= files
    assert {*UNHELD} == files - held, "files without a system are named with their reason, and no others"


def test_the_gallery_s_folders_are_those_of_the_pages() -> None:
    assert {path.parent.name for path in all_systems.PATTERNS.glob("*/*.attn")} <= set(all_systems.FIELDS)
    assert [load_shipped(name).declarations for name in all_systems.gallery()]


def compared_numbers() -> Compared:
    ours = torch.tensor([[True, False], [True, True]])
    out = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    return Compared((ours, ours.int()), (out, out), {"q": (out, out), "k": (out.double(), out.double())})


def test_a_comparison_says_what_differs() -> None:
    good = compared_numbers()
    assert faults(good, 1e-6) == ()
    assert differences(good) == Differences(0, 0.0, 0.0)
    wrong = dict(spoiled(good, 1e-6))
    assert list(wrong) == [
        "one pair of the mask", "one number of the output", "one number of the gradient of q",
        "one number of the gradient of k",
    ]  # fmt: skip
    (said,) = faults(wrong["one pair of the mask"], 1e-6)
    assert said.startswith("the masks differ in 1 of 4 pairs")
    for name in ("output", "gradient of q", "gradient of k"):
        (said,) = faults(wrong[f"one number of the {name}"], 1e-6)
        assert said == f"the {name} differs by 3.0e-06 of the largest entry, and 1.0e-06 is allowed"


def test_a_comparison_that_says_nothing_is_a_fault() -> None:
    good = compared_numbers()
    zero = torch.zeros(2, 2)
    assert faults(Compared(), 1.0) == ("neither a mask nor outputs were compared",)
    assert faults(Compared((zero, zero)), 1.0) == ("their mask keeps no pair",)
    assert faults(Compared(outputs=(zero, zero)), 1.0) == ("their output is 0 everywhere",)
    assert good.outputs is not None
    nan = torch.full((2, 2), torch.nan)
    for pair in ((nan, good.outputs[1]), (good.outputs[0], nan), (nan, nan)):
        assert len(faults(replace(good, outputs=pair), 1.0)) == 1
    with pytest.raises(ValueError, match=r"ours is \[2, 2\], theirs \[1\]"):
        faults(replace(good, mask=(zero, torch.ones(1))), 1.0)
