"""Documentation that a machine can check against the code."""

from __future__ import annotations

import ast
import importlib
import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from documented import PAGES, SITE, Block, blocks, blocks_of

from dynmm_framework.artifacts.records import Registry
from dynmm_framework.catalogue import Catalogue, load_catalogue
from dynmm_framework.config.load import load_pipeline
from dynmm_framework.config.pipeline import Pipeline
from dynmm_framework.config.search import Dimension
from dynmm_framework.config.yaml import parse
from dynmm_framework.engine.metrics import MetricsDocument

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
MARKER = r"<!-- [\w:. /;,-]+ -->"


def test_the_schema_of_metrics_is_the_code_s():
    written = json.loads((ROOT / "docs" / "metrics.schema.json").read_text())
    assert written == MetricsDocument.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(written)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_rooms_of_the_house_are_those_of_the_docs():
    text = (ROOT / "docs" / "README.md").read_text()
    rooms = {
        path.stem
        for path in (ROOT / "dynmm_framework").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    assert {room for room in rooms if f"`{room}`" not in text} == set()


def test_every_page_of_the_site_is_in_its_table_of_contents_once():
    index = (ROOT / "docs" / "index.md").read_text()
    listed = []
    for toctree in re.findall(r"^```\{toctree\}\n(.*?)^```$", index, re.DOTALL | re.MULTILINE):
        listed += [line for line in toctree.splitlines() if line and not line.startswith(":")]
    pages = {page.stem for page in SITE} - {"index"}
    assert sorted(listed) == sorted(pages), "list new pages under a caption of docs/index.md"


def test_no_page_is_called_like_one_that_sphinx_writes_itself():
    taken = {"search", "genindex", "modindex", "py-modindex"}
    found = {page.stem for page in SITE} & taken
    assert found == set(), "the site's own page of this name would be written over it; rename it"


def test_pages_name_no_machine_and_hold_no_unknown_marker():
    for page in PAGES:
        text = page.read_text()
        assert not re.search(r"/(work|home|root)/", text), page
        for comment in re.findall(r"<!--.*?-->", text, re.DOTALL):
            assert re.fullmatch(MARKER, comment), f"{page}: {comment}"


# YAML


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def whole(part: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a pipeline with the blocks that a page shows, and others that they need."""
    if "version" in part:
        return dict(part)
    split = "streaming" if "online" in part else "leave_one_out"
    found: dict[str, Any] = {"version": 1, "data": "movielens_100k", "split": {"strategy": split}}
    found |= part
    if "baseline" not in found:
        found.setdefault("backbone", "bpr_mf")
        found.setdefault("encoders", {"text": "tfidf_text"})
    variants = found.get("ablation", [])
    if {"controls", "robustness"} & found.keys() or any("align" in v for v in variants):
        found.setdefault("align", "joint_alignment")
    if any("prompt" in variant for variant in variants):
        found.setdefault("prompt", "soft_prompt")
    return found


def test_parts_of_pipelines_are_completed():
    assert whole({"version": 1}) == {"version": 1}
    assert whole({"online": "gated_mlp"})["split"] == {"strategy": "streaming"}
    assert "backbone" not in whole({"baseline": "popularity"})
    assert whole({"controls": []})["align"] == "joint_alignment"


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_what_yaml_says_is_valid(block: Block, catalogue: Catalogue, tmp_path: Path):
    if block.page == TUTORIAL:
        pytest.skip("needs the plugin that the page writes: tests/cli/test_cli_tutorial.py")
    data = parse(block.text).data
    if block.title == "a record of the registry":
        (tmp_path / f"{data['name']}.yaml").write_text(block.text)
        assert Registry.load([tmp_path]).records()
    elif block.title.endswith("search.yaml"):
        for name, space in data.items():
            fields = catalogue.config_model(catalogue.find(("backbone", "adapter"), name))
            assert space.keys() <= fields.model_fields.keys()
            assert all(Dimension.model_validate(values) for values in space.values())
    elif "cluster_name" not in data:  # which is Ray's, and read as YAML above
        load_pipeline(whole(data), catalogue=catalogue)


def test_a_misspelt_setting_in_a_page_is_found(catalogue: Catalogue):
    with pytest.raises(Exception, match="did you mean epochs"):
        load_pipeline(whole({"backbone": {"name": "bpr_mf", "config": {"epoch": 3}}}))
    assert "online" in Pipeline.model_fields


# Python


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_what_python_imports_is_there(block: Block):
    tree = ast.parse(textwrap.dedent(block.text))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("dynmm_framework"):
            module = importlib.import_module(str(node.module))
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_a_frame_becomes_data_as_the_page_says(tmp_path, monkeypatch, catalogue):
    monkeypatch.chdir(tmp_path)
    (example,) = blocks_of(ROOT / "docs" / "own-data.md", "python")
    exec(compile(example.text, "own-data.md", "exec"), {})
    assert (tmp_path / "my-data").is_dir()
