from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import dynmm_framework.testing as kit
from dynmm_framework.testing import ContextFactory, pytest_plugin
from dynmm_framework.testing.contexts import TrainingStopped

HALF_INSTALLED = """
import sys

MISSING = {missing!r}
sys.modules.update(dict.fromkeys(MISSING))
"""


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Runs pytest as in an unrelated project; returns its exit status and output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=kept, check=False
    )
    return done.returncode, done.stdout + done.stderr


def write(folder: Path, name: str, source: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(source))


def test_starting_pytest_imports_nothing_heavy(tmp_path: Path) -> None:
    write(
        tmp_path,
        "test_unrelated.py",
        """
        import sys

        def test_nothing_heavy_is_imported(request):
            assert request.config.pluginmanager.has_plugin("dynmm")
            ours = sorted(name for name in sys.modules if name.startswith("dynmm"))
            plugin = "dynmm_framework.testing.pytest_plugin"
            assert ours == ["dynmm_framework", "dynmm_framework.testing", plugin]
            heavy = {"torch", "numpy", "pyarrow", "pydantic", "scipy", "ruamel", "click"}
            assert heavy & set(sys.modules) == set()
        """,
    )
    status, output = run(tmp_path, "-p", "no:hypothesispytest", "-p", "no:benchmark")
    assert status == 0, output


def test_a_half_installed_package_breaks_no_unrelated_test(tmp_path: Path) -> None:
    missing = ["torch", "numpy", "pyarrow", "pydantic", "safetensors"]
    write(tmp_path, "half_installed.py", HALF_INSTALLED.format(missing=missing))
    write(
        tmp_path,
        "test_unrelated.py",
        """
        def test_that_passes():
            pass

        def test_that_needs_the_kit(dynmm_dataset):
            pass
        """,
    )
    status, output = run(tmp_path, "-p", "half_installed")
    assert "1 passed, 1 error" in output, output
    assert re.search("ModuleNotFoundError: .*numpy", output)
    assert status == 1


def test_without_torch_the_message_says_what_to_install(tmp_path: Path) -> None:
    write(tmp_path, "half_installed.py", HALF_INSTALLED.format(missing=["torch"]))
    write(
        tmp_path,
        "test_mine.py",
        """
        import pytest

        def test_data_need_no_torch(dynmm_dataset, dynmm_split):
            assert dynmm_dataset.n_users == 150

        def test_classes_do():
            with pytest.raises(ImportError) as raised:
                from dynmm_framework.testing import BackboneConformance
            assert str(raised.value) == (
                "BackboneConformance needs torch, which is not installed: "
                "pip install 'dynmm-framework[torch]'"
            )

        def test_contexts_do(dynmm_context):
            pass
        """,
    )
    _, output = run(tmp_path, "-p", "half_installed")
    assert "2 passed, 1 error" in output, output
    assert "ContextFactory needs torch, which is not installed: pip install" in output


def test_an_unknown_name_of_the_kit_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        kit.nonsense  # noqa: B018


def blocks(documentation: str) -> list[str]:
    """Returns the code blocks of a docstring."""
    found = re.findall(r"::\n\n((?:    .*\n|\n)+)", documentation + "\n")
    return [textwrap.dedent(block) for block in found]


PLUGIN = {
    "my_package/__init__.py": "",
    "my_package/plugin.py": """
        from dynmm_framework.hookspecs import hookimpl
        from dynmm_framework.specs import ComponentSpec

        @hookimpl
        def dynmm_register_backbones():
            return [ComponentSpec(
                name="my_model", target="my_package.model:MyModel",
                config="my_package.config:MyConfig", summary="What follows the last item",
            )]
    """,
    "my_package/config.py": """
        from dynmm_framework.config.blocks import Block

        class MyConfig(Block):
            hidden_size: int = 8
            '''Width of the vectors.'''
            epochs: int = 1
            '''Passes over the data.'''
    """,
    "my_package/model.py": """
        import numpy as np

        class MyModel:
            def __init__(self, config):
                self.config, self.state = config, {}

            def fit(self, data, ctx):
                users, items = data.train.users, data.train.items
                follows = np.eye(data.n_items, dtype=np.float32)
                steps = users[1:] == users[:-1]
                np.add.at(follows, (items[:-1][steps], items[1:][steps]), 1)
                left, weights, right = np.linalg.svd(follows)
                size = self.config.hidden_size * 4
                self.state = {"users": left[:, :size] * weights[:size], "items": right[:size].T}

            def item_vectors(self):
                return self.state["items"].copy()

            def user_vectors(self, histories):
                vectors = np.zeros((len(histories), self.state["users"].shape[1]), np.float32)
                known = histories.lengths > 0
                last = histories.items[histories.offsets[1:][known] - 1]
                vectors[known] = self.state["users"][last]
                return vectors

            def get_state(self):
                return dict(self.state)

            def load_state(self, state):
                self.state = dict(state)
    """,
}


def test_the_documented_examples_run_for_a_plugin_that_is_not_installed(tmp_path: Path) -> None:
    for name, source in PLUGIN.items():
        write(tmp_path, name, source)
    test, fixture = blocks(kit.__doc__ or "")
    write(tmp_path, "test_my_model.py", test + fixture)
    header = """
        import pytest
        from dynmm_framework.testing import generate_dataset
        from my_package.config import MyConfig
        from my_package.model import MyModel

        @pytest.fixture(scope="session")
        def dynmm_dataset():
            return generate_dataset(n_users=20, seed=3)

        def test_an_override_reaches_all_fixtures(dynmm_split, dynmm_context):
            assert dynmm_split.n_users == 20
            validator = dynmm_context().validator
            assert len(validator.evaluation) == 20
    """
    (example,) = blocks(pytest_plugin.__doc__ or "")
    write(tmp_path, "test_override.py", textwrap.dedent(header) + "\n" + example)
    elsewhere = "def test_it_ends_there(dynmm_split):\n    assert dynmm_split.n_users == 150\n"
    write(tmp_path, "test_z.py", elsewhere)
    status, output = run(tmp_path)
    assert status == 0, output
    assert re.search(r"3\d passed, 2 skipped", output), output


def test_the_plugin_can_be_switched_off(tmp_path: Path) -> None:
    write(tmp_path, "test_mine.py", "def test_it(dynmm_dataset): ...\n")
    _, output = run(tmp_path, "-p", "no:dynmm")
    assert "fixture 'dynmm_dataset' not found" in output


def test_fixtures_are_documented(tmp_path: Path) -> None:
    _, output = run(tmp_path, "--fixtures")
    for fixture in ("dynmm_catalogue", "dynmm_dataset", "dynmm_split", "dynmm_context"):
        found = re.search(rf"^{fixture}\b.*\n    (.+)", output, re.MULTILINE)
        assert found, output
        assert "no docstring" not in found[1]


def test_contexts_have_workdirs_of_their_own(dynmm_context: ContextFactory) -> None:
    one, other = dynmm_context(), dynmm_context(seed=1, validate=False)
    assert one.workdir != other.workdir
    assert one.workdir.is_dir()
    assert (one.seed, other.seed) == (0, 1)
    assert one.validator is not None
    assert one.validator.metric == "ndcg@10"
    assert other.validator is None
    assert dynmm_context(workdir=one.workdir).workdir == one.workdir
    assert one.rng("x").random() != other.rng("x").random()


def test_a_context_can_end_a_training(dynmm_context: ContextFactory) -> None:
    ctx = dynmm_context(stop_after=2)
    ctx.epoch_finished(1, {"loss": 1.0})
    with pytest.raises(TrainingStopped, match="stopped after epoch 2"):
        ctx.epoch_finished(2, {})
    assert ctx.epochs == [1, 2]
    assert not issubclass(TrainingStopped, Exception)
