"""Pages that are generated, or must be complete.

``DYNMM_WRITE_DOCS=1 pytest tests/test_docs_reference.py`` writes the generated ones anew.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
from pathlib import Path
from types import ModuleType

import pytest

import dynmm_framework
from dynmm_framework import hookspecs, protocols, testing
from dynmm_framework.artifacts.records import Registry
from dynmm_framework.catalogue import load_catalogue
from dynmm_framework.config.pipeline import Pipeline

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = DOCS / "reference_pages.py"
    spec = importlib.util.spec_from_file_location("reference_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(script: ModuleType) -> dict[str, str]:
    found = {name: page() for name, page in script.pages().items()}
    if os.environ.get("DYNMM_WRITE_DOCS"):
        for name, text in found.items():
            (DOCS / name).write_text(text, encoding="utf-8")
    return found


@pytest.mark.parametrize("name", ["pipeline.md", "components.md", "plugin-directory.md"])
def test_a_generated_page_is_up_to_date(generated: dict[str, str], name: str):
    assert (DOCS / name).read_text(encoding="utf-8") == generated[name], (
        f"docs/{name} is out of date: python docs/reference_pages.py"
    )


def test_every_block_and_component_has_its_settings(generated: dict[str, str]):
    for name in Pipeline.model_fields:
        assert f"| `{name}` |" in generated["pipeline.md"]
    for component in load_catalogue().components():
        if component.provider.distribution == "dynmm-framework":
            assert f"\n### {component.name}\n" in generated["components.md"]
            assert f"| `{component.name}` |" in generated["plugin-directory.md"]


def test_tables_have_as_many_cells_as_titles(generated: dict[str, str]):
    for text in generated.values():
        for table in re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.MULTILINE):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(counts) == 1, table[:300]


def test_texts_lose_their_markup_and_keep_their_signs(script: ModuleType):
    text = "Gives ``a|b`` of\n  :class:`~some.module.Thing`, a*b [x] < 3"
    assert script._text(text) == "Gives `a|b` of `Thing`, a*b [x] < 3"
    assert script._cell(text) == r"Gives `a\|b` of `Thing`, a\*b \[x] \< 3"


def test_hooks_and_protocols_are_documented():
    hooks = [name for name in vars(hookspecs) if name.startswith("dynmm_")]
    assert len(hooks) > 15
    assert all(inspect.getdoc(getattr(hookspecs, name)) for name in hooks)
    assert ".. automodule:: dynmm_framework.hookspecs" in (DOCS / "hooks.md").read_text()
    assert ".. automodule:: dynmm_framework.protocols" in (DOCS / "protocols.md").read_text()
    assert {"Backbone", "EvidenceExtractor"} <= set(protocols.__all__)


@pytest.mark.parametrize(("package", "name"), [(testing, "testing"), (dynmm_framework, "python")])
def test_everything_public_of_a_package_is_documented(package: ModuleType, name: str):
    page = (DOCS / f"{name}.md").read_text()
    elsewhere = {"ComponentSpec", "MetricSpec", "hookimpl", "__version__"}  # hooks.md
    missing = [n for n in package.__all__ if f":: {n}\n" not in page and n not in elsewhere]
    assert missing == []


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())


def test_papers_of_records_are_in_the_bibliography():
    known = _letters((DOCS / "references.bib").read_text())
    registry = Registry.load(load_catalogue().record_folders())
    papers = {record.paper.title for record in registry.records() if record.paper is not None}
    missing = [title for title in papers if _letters(title) not in known]
    assert missing == [], "add them to docs/references.bib"


def test_every_entry_of_the_bibliography_is_listed_once():
    text = (DOCS / "references.bib").read_text()
    entries = re.findall(r"^@\w+\{(\w+), keywords = \{(\w+)\},$", text, flags=re.MULTILINE)
    assert len(entries) == text.count("\n@")
    assert len({key for key, _ in entries}) == len(entries)
    filters = re.findall(r':filter: keywords % "(\w+)"', (DOCS / "bibliography.md").read_text())
    assert sorted(set(filters)) == sorted(filters)
    assert {group for _, group in entries} == set(filters)
