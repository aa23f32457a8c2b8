"""The page of a run: complete, self-contained, and deaf to what data says."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from fake_run import write_fake_run

from dynmm_framework.engine.results import Run
from dynmm_framework.errors import ArtifactError
from dynmm_framework.reports.page import render, write_report

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[31m"


class Page(HTMLParser):
    """Collects tags and text, and checks that what is opened is closed."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, name: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def run(tmp_path):
    return Run.load(write_fake_run(tmp_path / "quickstart-1a2b3c4d", seeds=(1, 2)))


def test_the_page_has_every_section(run):
    page = Page(render(run))
    headings = [text for text in page.text if text in {
        "Accuracy", "Learning curves", "Who is served how well", "Cost", "Configuration",
        "Environment",
    }]  # fmt: skip
    assert len(headings) >= 6
    text = " ".join(page.text)
    assert "sasrec reaches NDCG@10" in text
    assert "the strongest of the others, item_knn" in text
    assert "***" in text
    assert "0.0450" in text  # chance
    assert "strategy: temporal_user" in text
    assert "movielens_100k" in text
    assert "612 MB" in text
    assert "deduplicate" in text


def test_the_page_stands_alone(run):
    html = render(run)
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert tags & {"script", "link", "img", "iframe", "object", "base", "form"} == set()
    for tag, attributes in page.tags:
        assert not {"src", "srcset", "style", "data"} & attributes.keys(), tag
        assert not any(name.startswith("on") for name in attributes), tag
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in html
    assert "@import" not in html
    assert len(html.encode()) < 300_000


def test_the_page_is_made_for_phones_and_for_all_eyes(run):
    html = render(run)
    page = Page(html)
    names = {attributes.get("name"): attributes.get("content") for attributes in page.all("meta")}
    assert names["viewport"] == "width=device-width, initial-scale=1"
    assert "prefers-color-scheme: dark" in html
    assert page.all("html")[0]["lang"] == "en"
    for attributes in page.all("svg"):
        assert attributes.get("role") == "img" or attributes.get("aria-hidden") == "true"
        assert "viewbox" in attributes
    assert html.count("<table") == html.count('<div class="scroll"')
    for attributes in page.all("th"):
        assert attributes.get("scope") in ("col", "row")
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for anchor in page.all("a"):
        assert anchor["href"].removeprefix("#") in ids


def test_what_data_says_is_quoted(tmp_path):
    folder = write_fake_run(
        tmp_path / "run", source=EVIL, settings={EVIL: EVIL}, skill={EVIL: 0.3, "b": 0.2}
    )
    for name in ("metrics.json", "training.json"):
        text = (folder / name).read_text(encoding="utf-8")
        assert json.dumps(EVIL)[1:-1] in text
    html = render(Run.load(folder))
    assert "<script" not in html
    assert "<img" not in html
    assert "\x1b" not in html
    assert "&lt;script&gt;" in html
    Page(html)


def test_a_run_without_curves_comparisons_or_chance_has_a_page(tmp_path):
    folder = write_fake_run(tmp_path / "run", skill={"popularity": 0.1}, protocols=("full",))
    page = Page(render(Run.load(folder)))
    text = " ".join(page.text)
    assert "popularity reaches NDCG@10" in text
    assert "Learning curves" not in text
    assert "All comparisons" not in text


def test_the_headline_follows_the_direction_of_the_metric(tmp_path):
    folder = write_fake_run(tmp_path / "run")
    path = folder / "metrics.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["higher_is_better"]["ndcg"] = False
    path.write_text(json.dumps(document), encoding="utf-8")
    assert "the strongest of the others, popularity" in render(Run.load(folder))


def test_writing_is_repeatable_and_replaces(run):
    path = write_report(run)
    assert path == run.folder / "report.html"
    first = path.read_bytes()
    path.write_text("old", encoding="utf-8")
    assert write_report(run).read_bytes() == first


def test_a_damaged_file_of_the_run_is_an_error(run):
    (run.folder / "training.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"training\.json"):
        render(run)
