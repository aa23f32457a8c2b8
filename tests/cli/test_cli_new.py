"""``dynmm new plugin``: what it writes works, and it writes all or nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rendered_plugin import KINDS, call, installed, run_its_tests, words

from dynmm_framework.cli.new import KINDS as TEMPLATE_KINDS
from dynmm_framework.cli.new import SLOTS

pytest.importorskip("copier", reason="the extra `new` is not installed: no copier")


def test_the_template_s_kinds_are_those_that_are_tested():
    assert {*TEMPLATE_KINDS, *SLOTS} - {"adapter"} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_renders_clean_code_and_an_example_that_is_valid(dynmm, tmp_path, kind):
    result = dynmm(*words(f"my_{kind}", kind))
    assert result.exit_code == 0, result.stderr
    project = tmp_path / f"dynmm-my-{kind.replace('_', '-')}"
    assert "pip install -e '.[test]'" in result.stdout
    found = {str(p.relative_to(project)) for p in project.rglob("*") if p.is_file()}
    package = f"src/dynmm_my_{kind}"
    assert found == {
        "pyproject.toml", "README.md", "example.yaml", f"tests/test_my_{kind}.py",
        *(f"{package}/{name}.py" for name in ("__init__", "config", "model", "plugin")),
    }  # fmt: skip
    for path in project.rglob("*"):
        assert not path.is_file() or "{{" not in path.read_text(), path
    rules = "--select=E,F,W,I,B,C4,N,NPY,PERF,PIE,PTH,RUF,SIM,UP"
    for arguments in (["check", rules, "--ignore=RUF012"], ["format", "--diff"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--line-length=100"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=project, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_rendered_plugin_is_found_described_and_passes_its_own_test(dynmm, tmp_path):
    assert dynmm(*words("my_model", "backbone"), "--to", "deep/er").exit_code == 0
    project = tmp_path / "deep" / "er"
    env = installed(project, tmp_path / "site")
    program = "from dynmm_framework.cli.app import main; main()"
    command = [sys.executable, "-c", program, "plugins", "info", "my_model"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert "my_model (backbone): What follows the last item" in done.stdout, done.stderr
    assert "integer ≥ 1" in done.stdout
    status, output = run_its_tests(project, env)
    assert status == 0, output
    assert "passed" in output


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_and_passes_its_own_test(dynmm, tmp_path, kind):
    assert dynmm(*words("my_component", kind), "--to", "project").exit_code == 0
    project = tmp_path / "project"
    env = installed(project, tmp_path / "site")
    status, output = run_its_tests(project, env)
    assert status == 0, output
    program = "from dynmm_framework.cli.app import main; main()"
    command = [sys.executable, "-c", program, "validate", "example.yaml"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=project, check=False
    )
    assert done.stdout == "example.yaml: ok\n", done.stdout + done.stderr


@pytest.mark.slow
def test_a_rendered_plugin_is_installed_by_pip(dynmm, tmp_path):
    assert dynmm(*words("my_model", "baseline"), "--to", "project").exit_code == 0
    env = installed(tmp_path / "project", tmp_path / "unused")
    site = tmp_path / "target"
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--target", str(site)]
    status, output = call(env, tmp_path, "pip", "install", *options, str(tmp_path / "project"))
    assert status == 0, output
    names = {path.name for path in site.iterdir()}
    assert {"dynmm_my_model", "dynmm_my_model-0.1.0.dist-info"} <= names
    entries = site / "dynmm_my_model-0.1.0.dist-info" / "entry_points.txt"
    assert "my_model = dynmm_my_model.plugin" in entries.read_text()


MISTAKES = {
    "my-model --kind backbone": "'my-model' is not an identifier of Python; write my_model",
    "3d --kind backbone": "begin with a letter, as in my_model",
    "class --kind backbone": "'class' is a keyword of Python; choose another, as my_class",
    "MyModel --kind backbone": "is not lower case with single underscores; write mymodel",
    "sasrec --kind baseline": "would shadow the installed backbone sasrec of dynmm-framework",
    "movielens --kind dataset": "would shadow the installed plugin movielens of dynmm-framework",
    "ndcg --kind baseline": "is that of a metric",
    "framework --kind baseline": "a package dynmm_framework is installed already",
    "my_model --kind bakbone": "no such kind: 'bakbone'; did you mean backbone?",
    "my_model --kind x": "there are backbone, baseline, encoder, adapter, evidence, language_model",
    "my_model --kind adapter --slot onlin": "no such slot: 'onlin'; did you mean online?",
    "my_model --kind adapter --slot prompt": "slot 'prompt': there is no template",
    "my_model --kind backbone --slot align": "slot 'align': only adapters have one",
    "my_model --kind backbone --to full": "folder full: exists and is not empty",
    "my_model --kind backbone --to full/file": "Directory 'full/file' is a file",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_are_said_before_anything_is_written(dynmm, tmp_path, line):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    result = dynmm("new", "plugin", *line.split())
    assert result.exit_code == 2, result.stderr
    assert MISTAKES[line] in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_all_mistakes_are_said_at_once(dynmm):
    result = dynmm("new", "plugin", "sasrec", "--kind", "backbon", "--to", ".")
    assert result.exit_code == 2
    assert "Error: 2 problems" in result.stderr
    assert "Nothing was written." in result.stderr


def test_a_failure_while_rendering_leaves_nothing(dynmm, tmp_path, monkeypatch):
    def fail(source: str, folder: Path, **_: object) -> None:
        (Path(folder) / "half").mkdir(parents=True)
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("copier.run_copy", fail)
    result = dynmm("new", "plugin", "my_model", "--kind", "backbone")
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_message_says_what_to_install(dynmm, monkeypatch):
    monkeypatch.setitem(sys.modules, "copier", None)
    result = dynmm("new", "plugin", "my_model", "--kind", "backbone")
    assert result.exit_code == 2
    assert "dynmm new needs copier, which is not installed" in result.stderr
    assert "pip install 'dynmm-framework[new]'" in result.stderr
