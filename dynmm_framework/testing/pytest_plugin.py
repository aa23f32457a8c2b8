"""Fixtures for plugins' tests; loaded by pytest through the entry point ``dynmm``.

====================  =========  =====================================================
Fixture               Scope      What it gives
====================  =========  =====================================================
``dynmm_catalogue``   session    The installed components.
``dynmm_dataset``     session    Generated users, items, texts, images and sounds.
``dynmm_split``       module     Its leave-one-out split.
``dynmm_context``     function   A function that makes training contexts.
====================  =========  =====================================================

Each may be overridden, in a test module or a ``conftest.py``, by a fixture of the same name and
scope; those below it use the override. So other data is tested on by overriding ``dynmm_dataset``
alone, and a plugin that is not installed by overriding ``dynmm_catalogue`` (example in
:mod:`dynmm_framework.testing`).

The conformance classes need no fixture of yours. In tests of your own::

    def test_my_model_learns_without_validation(dynmm_split, dynmm_dataset, dynmm_context):
        model = MyModel(MyConfig())
        data = dynmm_split.training_data(dynmm_dataset.items)
        model.fit(data, dynmm_context(seed=1, validate=False))

``pytest -p no:dynmm`` switches the plugin off.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# pytest imports this module in every project of the environment: everything else is imported when
# a fixture is used, so that start-up costs nothing and a broken installation breaks no other tests.
if TYPE_CHECKING:
    from dynmm_framework.catalogue import Catalogue
    from dynmm_framework.data.splits import Split
    from dynmm_framework.data.tables import Dataset
    from dynmm_framework.testing.contexts import ContextFactory


@pytest.fixture(scope="session")
def dynmm_catalogue() -> Catalogue:
    """Everything that the environment's plugins register; override it to add your own plugin.

    Besides, ``tiny_random``: a language model of random weights, which only tests know.
    """
    from dynmm_framework.catalogue import load_catalogue
    from dynmm_framework.testing import tiny_random

    catalogue = load_catalogue()
    catalogue.register(tiny_random, name="tiny_random")
    return catalogue


@pytest.fixture(scope="session")
def dynmm_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The generated dataset, with images and sounds: 150 users, 90 items, 2,851 interactions."""
    from dynmm_framework.testing import generate_dataset

    return generate_dataset(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def dynmm_split(dynmm_dataset: Dataset) -> Split:
    """The dataset split leave-one-out: the last interaction tests, the one before it validates."""
    from dynmm_framework.config.pipeline import LeaveOneOut
    from dynmm_framework.data.splits import make_split

    return make_split(dynmm_dataset, LeaveOneOut(strategy="leave_one_out"), seed=0)


@pytest.fixture
def dynmm_context(dynmm_catalogue: Catalogue, dynmm_split: Split, tmp_path: Path) -> ContextFactory:
    """Makes contexts: ``dynmm_context(seed=1, device="cpu")``, each with its own workdir."""
    from dynmm_framework.testing import ContextFactory

    return ContextFactory(dynmm_catalogue, dynmm_split, tmp_path)
