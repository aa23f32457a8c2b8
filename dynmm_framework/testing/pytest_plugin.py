"""Fixtures for plugins' tests; loaded by pytest through the entry point ``dynmm``.

Imports of the framework stay inside the fixtures: pytest loads this module in every project of
the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dynmm_framework.catalogue import Catalogue
    from dynmm_framework.data.splits import Split
    from dynmm_framework.data.tables import Dataset
    from dynmm_framework.testing.contexts import ContextFactory


@pytest.fixture(scope="session")
def dynmm_catalogue() -> Catalogue:
    """Everything that the environment's plugins register."""
    from dynmm_framework.catalogue import load_catalogue

    return load_catalogue()


@pytest.fixture(scope="session")
def dynmm_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The generated dataset, with images and sounds."""
    from dynmm_framework.testing.generated import generate_dataset

    return generate_dataset(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def dynmm_split(dynmm_dataset: Dataset) -> Split:
    """A leave-one-out split of the generated dataset."""
    from dynmm_framework.config.pipeline import LeaveOneOut
    from dynmm_framework.data.splits import make_split

    return make_split(dynmm_dataset, LeaveOneOut(strategy="leave_one_out"), seed=0)


@pytest.fixture
def dynmm_context(dynmm_catalogue: Catalogue, dynmm_split: Split, tmp_path: Path) -> ContextFactory:
    """Makes contexts: ``dynmm_context(seed=1, device="cpu")``, each with its own workdir."""
    from dynmm_framework.testing.contexts import ContextFactory

    return ContextFactory(dynmm_catalogue, dynmm_split, tmp_path)
