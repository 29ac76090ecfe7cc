"""Options of the test run."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

KERNELS = "ATTNC_CACHE_DIR"
"""Names the folder of kernels that a run builds: one for all its workers, so that each source is compiled once."""
OPTIMISATION = "ATTNC_OPTIMISATION"
"""Kernels of a run are built quickly; the demonstration's, and others that ask for it, as users build them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` writes down what is said now where the tests would compare with what was written down."""
    parser.addoption("--update-golden", action="store_true", help="write the expected texts anew; then read the diff")


def pytest_configure(config: pytest.Config) -> None:
    if KERNELS not in os.environ:
        folder = os.environ[KERNELS] = tempfile.mkdtemp(prefix="attnc-kernels-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ.setdefault(OPTIMISATION, "0")
    config.addinivalue_line("markers", "long: takes half a minute or more, and so is begun before the others")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, in the halves of two workers, so that none is left alone with one at the end."""
    long = [item for item in items if item.get_closest_marker("long")]
    others = [item for item in items if not item.get_closest_marker("long")]
    middle = max(len(items) // 2 - len(long[::2]), 0)
    items[:] = [*long[::2], *others[:middle], *long[1::2], *others[middle:]]


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether expected texts are to be written anew."""
    return bool(request.config.getoption("--update-golden"))
