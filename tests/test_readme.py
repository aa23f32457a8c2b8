"""Everything that README.md shows is executed here, or was just before by ``make quickstart``."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dynmm_framework.api import run
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.engine.results import Run
from dynmm_framework.errors import DynmmError
from dynmm_framework.testing import generate_dataset

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated interactions with the ids that README.md uses."""
    import pyarrow as pa
    from pyarrow import csv

    dataset = generate_dataset(n_users=60, n_items=200)
    path = tmp_path_factory.mktemp("readme") / "events.csv"
    rows = dataset.interactions
    columns = {"user": rows.users, "item": rows.items, "timestamp": rows.timestamps}
    csv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture
def small(events: Path) -> list[str]:
    """Overrides that make README.md's pipeline quick."""
    return [
        "data.name=interaction_file",
        f"data.config.path={events}",
        "data.filters.k_core=0",
        "backbone.config.epochs=1",
        "evaluate.protocols=[full]",
        "seeds=[1]",
    ]


def test_the_pipeline_is_valid_and_short():
    (text,) = blocks("yaml")
    assert len(text.splitlines()) <= 16
    from dynmm_framework.config.yaml import parse

    load_pipeline(parse(text).data)


def test_the_commands_do_what_they_say(tmp_path, small):
    (tmp_path / "pipeline.yaml").write_text(blocks("yaml")[0])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [
        shlex.split(line, comments=True)
        for block in blocks("bash")
        for line in block.splitlines()
        if line.startswith("dynmm ")
    ]
    assert [command[1] for command in commands] == [
        "validate", "plan", "run", "recommend", "compare",
    ]  # fmt: skip
    for command in commands:
        if command[1] in ("plan", "run"):
            command += small
        if "RUN" in command:
            # One run was made above; it is compared with itself.
            folders = [str(path) for path in (tmp_path / "runs").glob("pipeline-*")]
            places = iter(folders * 2)
            command = [next(places) if word == "RUN" else word for word in command]
        done = subprocess.run(
            [Path(sys.executable).parent / "dynmm", *command[1:]],
            capture_output=True, text=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"


def test_the_python_example_runs(tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(blocks("yaml")[0])
    example = next(block for block in blocks("python") if "load_pipeline" in block)
    quick = example.replace('overrides=["seed=1"]', f"overrides={small!r}")
    assert quick != example
    exec(compile(quick, "README.md", "exec"), {})


def test_the_plugin_works_once_registered(tmp_path, events, monkeypatch):
    example = next(block for block in blocks("python") if "recent.py" in block)
    code = [line for line in example.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 30
    (tmp_path / "recent.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    import recent

    model = recent.RecentPopularity(recent.Config())
    assert model.get_state() == {}
    catalogue = load_catalogue()
    status = catalogue.register(recent, name="recent")
    assert status.status == "ok", status.reason
    loaded = load_pipeline(
        {
            "version": 1,
            "data": {"name": "interaction_file", "config": {"path": str(events)}},
            "split": {"strategy": "leave_one_out"},
            "baseline": {"name": "recent_popularity", "config": {"newest": 300}},
            "evaluate": {"compare_with": ["popularity"]},
        },
        catalogue=catalogue,
    )
    finished = run(loaded, runs_dir=tmp_path / "runs")
    assert (finished.folder / "report.html").is_file()
    values = finished.metrics["recommenders"]["recent_popularity"]["full"]
    assert 0 < values["ndcg@10"]["mean"] < 1


def test_the_plugin_passes_the_conformance_test_shown(tmp_path, pytestconfig):
    """README.md's own test class, run by pytest in a process of its own."""
    example, test = (
        next(block for block in blocks("python") if word in block)
        for word in ("recent.py", "BaselineConformance")
    )
    (tmp_path / "recent.py").write_text(example)
    (tmp_path / "test_recent.py").write_text(
        "import pytest\nimport recent\nfrom dynmm_framework.catalogue import load_catalogue\n"
        f"{test}\n"
        "    @pytest.fixture(scope='session')\n"
        "    def dynmm_catalogue(self):\n"
        "        catalogue = load_catalogue()\n"
        "        catalogue.register(recent, name='recent')\n"
        "        return catalogue\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_quickstart_table_is_that_of_the_quickstart():
    """The numbers of the run that ``make quickstart`` just made, to within a tenth.

    Different processors round differently, and training amplifies it; a single user of the
    three hundred is two percent of the smallest figure. Hence the tolerance.
    """
    folder = Path(os.environ.get("RUNS", ROOT / "runs"))
    found = []
    for path in sorted(folder.glob("quickstart-*")):
        try:
            found.append(Run.load(path))
        except DynmmError:
            continue
    if not found:
        pytest.skip(f"no finished quickstart in {folder}; say `make quickstart` first")
    spec = importlib.util.spec_from_file_location("table", ROOT / "docs" / "quickstart_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    newest = max(found, key=lambda run: run.manifest.created)
    theirs = re.findall(r"\d\.\d{4}", module.table(newest))
    ours = re.findall(r"\d\.\d{4}", module.written())
    assert len(ours) == len(theirs) > 0
    assert [float(x) for x in ours] == pytest.approx([float(x) for x in theirs], rel=0.1)
