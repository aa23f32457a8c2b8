"""The readers as the catalogue offers them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.protocols import DatasetReader

READERS = {
    "movielens_100k": {},
    "movielens_1m": {"timed_only": True},
    "amazon_reviews": {"path": "reviews.json"},
    "kuairec": {"path": "KuaiRec", "matrix": "small"},
    "interaction_file": {"path": "clicks.csv", "columns": {"user": "uid"}},
    "sequence_file": {"path": "Beauty.txt"},
    "sparse_matrix": {"path": "train.npz", "more": ["test.npz"]},
}


@pytest.mark.parametrize("name", READERS)
def test_the_catalogue_creates_it(name: str) -> None:
    catalogue = load_catalogue()
    component = catalogue.find("dataset", name)
    model = catalogue.config_model(component)
    config = model.model_validate(READERS[name])
    assert model.model_validate(config.model_dump()) == config
    assert isinstance(catalogue.create(component, config), DatasetReader)
    for field in model.model_fields.values():
        assert field.description, "every setting is documented"


def test_the_door_and_the_settings_import_nothing_heavy() -> None:
    readers = "movielens amazon_reviews kuairec interaction_file sequence_file sparse_matrix"
    plugins = readers.split()
    imports = "; ".join(
        f"import dynmm_plugins.{name}.{module}"
        for name in plugins
        for module in ("plugin", "config")
    )
    heavy = "{'torch', 'pyarrow', 'numpy', 'pandas', 'scipy'}"
    code = f"import sys; {imports}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
